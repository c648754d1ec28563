"""Delta tables: what a name or path means, what Delta says of it, and reading a version."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aml_spark.analysis import analysed, condition, tried
from aml_spark.errors import (
    AmlSparkError,
    ArgumentError,
    SessionError,
    TableError,
    TableNotFoundError,
)
from aml_spark.refusals import refusal

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row, SparkSession

_logger = logging.getLogger(__name__)

_ALL = 1_000_000_000  # Delta takes no limit near the largest integer


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A Delta table by name or by path.

    Args:
        text: as the person wrote it.
        is_path: whether it is a path or URI.
    """

    text: str
    is_path: bool

    @classmethod
    def of(cls, text: str) -> Table:
        """Read `catalog.schema.name`, a path, or a URI such as `abfss://…`. What has a slash is a path.

        Raises:
            ArgumentError: empty, or neither a name nor a path.
        """
        wrapped = re.fullmatch(r"(?i)delta\.`([^`]+)`", text)
        path = wrapped[1] if wrapped else text
        if wrapped or "/" in path or "\\" in path:
            # Spark's SQL takes absolute paths only.
            absolute = path if re.match(r"\w+:/", path) else str(Path(path).expanduser().absolute())
            return cls(text=absolute.rstrip("/") or "/", is_path=True)
        if not re.fullmatch(r"(`[^`]+`|\w+)(\.(`[^`]+`|[\w-]+)){0,2}", text):
            raise ArgumentError(
                f"{text!r} is neither a table name nor a path",
                hint="write a path with a slash ('./table'), a name as catalog.schema.table",
            )
        return cls(text=text, is_path=False)

    @property
    def sql(self) -> str:
        """How SQL names it."""
        if self.is_path:
            return "delta." + quoted(self.text)
        return ".".join(quoted(part.strip("`")) for part in re.findall(r"`[^`]+`|[^.`]+", self.text))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit of a table's history.

    Args:
        version: the version that it made.
        operation: Delta's name of what it did.
        metadata: its `userMetadata`, or None.
        rows, deleted: how many rows it wrote and deleted, or None where Delta doesn't tell.
        mark: twelve digits of all that the history says of it, by which it is known again; None where that could be
            said of another table's commit, too.
    """

    version: int
    operation: str
    metadata: str | None
    rows: int | None
    deleted: int | None = None
    mark: str | None = None


def quoted(name: str) -> str:
    """An identifier as SQL takes it, whatever characters it has."""
    return "`" + name.replace("`", "``") + "`"


def identifier(spark: SparkSession, table: Table) -> str:
    """The GUID that Delta made with a table that is there; one that is made anew in its place has another.

    To tell it Delta counts the table's files, which costs more than anything else here, and much where they are many.

    Raises:
        TableNotFoundError: it is a partition of a table, or nothing any more.
    """
    found: list[Row] = []
    try:
        found = _described(spark, table, "DETAIL")
    except AmlSparkError:
        raise
    except Exception as error:  # Java's own, of a partition that isn't there
        if not condition(error).startswith("DELTA_FILE_NOT_FOUND"):
            raise
    if not found or found[0]["id"] is None:
        raise TableNotFoundError(
            f"{table.text!r} isn't a Delta table, as a partition of one isn't",
            hint="name the whole table; where= chooses a part",
        )
    return str(found[0]["id"])


def properties(spark: SparkSession, table: Table) -> dict[str, str]:
    """The properties of a table that is there."""
    with tried():
        return {row["key"]: row["value"] for row in spark.sql(f"SHOW TBLPROPERTIES {table.sql}").collect()}


def history(spark: SparkSession, table: Table, newest: int | None = None) -> list[Commit]:
    """The commits that a table still knows, newest first.

    Args:
        spark: the session.
        table: the table.
        newest: how many of them to read; None reads all.

    Returns:
        An empty list where nothing is there yet.

    Raises:
        TableNotFoundError: something is there which isn't a Delta table.
        SessionError: the session has no Delta.
        DataLakeError: the table lies in a data lake that the session isn't let into.
        TableError: it can't be looked up.
    """
    # Always with a limit: Spark without Delta takes HISTORY for a table's name where none follows.
    rows = _described(spark, table, "HISTORY", f" LIMIT {newest or _ALL}")
    if rows and table.is_path and "=" in table.text.rsplit("/", 1)[-1]:
        identifier(spark, table)  # of a partition Delta tells the history of the whole
    return [_commit(row) for row in sorted(rows, key=lambda row: row["version"], reverse=True)]


def _described(spark: SparkSession, table: Table, what: str, limit: str = "") -> list[Row]:
    """What Delta says of a table; nothing where nothing is there."""
    from pyspark.errors import AnalysisException, ParseException

    try:
        # Without a selection, which would take a job.
        with tried():
            return spark.sql(f"DESCRIBE {what} {table.sql}{limit}").collect()
    except ParseException:
        raise _no_delta() from None
    except AnalysisException as error:
        if refused := refusal(table.text, error):
            raise refused from None
        why = condition(error)
        if why.startswith(("TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND", "DELTA_TABLE_NOT_FOUND")):
            return []
        if why.startswith("DELTA_ONLY_OPERATION"):
            form = _described(spark, table, "DETAIL")[0]["format"]
            raise TableNotFoundError(f"{table.text!r} is a table in format {form!r}; expected 'delta'") from None
        if why.startswith("DELTA_MISSING_DELTA_TABLE") or "is not a Delta table" in str(error):
            if table.is_path and (not _has(spark, table.text, "*") or _is_begun(spark, table)):
                return []
            parquet = table.is_path and _has(spark, table.text, "*.parquet")
            raise TableNotFoundError(
                f"{table.text!r} isn't a Delta table",
                hint=f"CONVERT TO DELTA parquet.{quoted(table.text)}; or remove the folder, where a first write to it "
                "failed and left files"
                if parquet
                else "expected a folder with a Delta table in it; a target may also be empty, or not there",
            ) from None
        if why.startswith("EXPECT_TABLE_NOT_VIEW"):
            raise TableNotFoundError(
                f"{table.text!r} is a view; expected a Delta table, whose versions can be told apart",
                hint="name the table behind it, and use columns= and where= for what the view does",
            ) from None
        raise TableError(f"{table.text!r} can't be looked up: {why}") from None
    except Exception as error:  # Java's own, of the storage
        if refused := refusal(table.text, error):
            raise refused from None
        raise


def has_transaction(spark: SparkSession, table: Table, app_id: str) -> bool:
    """Whether the table's log holds a transaction of an application, which it remembers longer than its commits.

    Only checkpoints are looked at: a commit that lies in none is in the history. False where the log can't be read, as
    with tables that Unity Catalog hands out.
    """
    from pyspark.sql import functions as F

    try:
        where = _described(spark, table, "DETAIL")[0]["location"]
        known = spark.read.format("parquet").load(f"{literal(where)}/_delta_log/*.checkpoint*.parquet")
        return bool(known.where(F.col("txn.appId") == app_id).head(1))
    except Exception as error:  # Java's own, too: of a storage that refuses
        _logger.debug("the log of %s can't be read (%s)", table, condition(error))
        return False


def perhaps(path: str) -> list[str]:
    """What Spark is to read where a path may not be there: the path twice, and so each row.

    One alone is asked for a stream's metadata first, and where it isn't there, Java's stack stands in the log.
    """
    return [literal(path), literal(path)]


def literal(path: str) -> str:
    """A path for Spark's readers of files, which take it for a pattern."""
    return re.sub(r"([\\*?\[\]{}])", r"\\\1", path)


def _commit(row: Row) -> Commit:
    operation, metrics = row["operation"], row["operationMetrics"] or {}

    def total(*names: str) -> int | None:
        found = [int(metrics[name]) for name in names if name in metrics]
        return sum(found) if found else None

    # What a MERGE puts out are also the rows that share a file with those that it changes.
    written = ("numTargetRowsInserted", "numTargetRowsUpdated") if operation == "MERGE" else ("numOutputRows",)
    milliseconds = round(row["timestamp"].timestamp() * 1000)
    said = json.dumps({**row.asDict(recursive=True), "timestamp": milliseconds}, sort_keys=True)
    # Some storage tells times in seconds, in which two tables may be made.
    is_of_one = row["version"] > 0 or milliseconds % 1000
    return Commit(
        version=row["version"],
        operation=operation,
        metadata=row["userMetadata"],
        rows=total(*written),
        deleted=total("numTargetRowsDeleted", "numDeletedRows"),
        mark=hashlib.sha256(said.encode()).hexdigest()[:12] if is_of_one else None,
    )


def read(spark: SparkSession, table: Table, version: int) -> DataFrame:
    """One version of the table, whatever is written to it meanwhile.

    Raises:
        TableError: its log doesn't reach back so far.
    """
    from pyspark.errors import AnalysisException

    try:
        return analysed(spark.sql(f"SELECT * FROM {table.sql} VERSION AS OF {int(version)}"))
    except AnalysisException as error:
        raise TableError(f"version {version} of {table.text!r} can't be read ({condition(error)})") from None


def missing(table: Table, message: str) -> TableNotFoundError:
    """The error for a table that isn't there, with the folder where one has its name."""
    is_folder = not table.is_path and Path(table.text).is_dir()
    folder = str(Path(table.text).absolute())
    return TableNotFoundError(message, hint=f"that is a table's name; the folder is {folder!r}" if is_folder else None)


def _no_delta() -> SessionError:
    return SessionError(
        "this Spark session doesn't know Delta's SQL",
        hint="use aml_spark.get_spark(), or start spark-submit with --properties-file conf/spark-defaults.conf",
    )


def _is_begun(spark: SparkSession, table: Table) -> bool:
    """Whether a log is there that holds no commit: a first write failed, or is going on."""
    # What is read is named by itself, as Spark lists no folder whose name begins with an underscore.
    return _has(spark, f"{table.text}/_delta_log", "{*.json,*.checkpoint*}") is False


def _has(spark: SparkSession, path: str, files: str) -> bool | None:
    """Whether a file of a pattern lies below a path: None where the path isn't there, True where that can't be told."""
    try:
        found = spark.read.format("binaryFile").options(recursiveFileLookup="true", pathGlobFilter=files)
        return bool(found.load(perhaps(path)).select("path").head(1))
    except Exception as error:
        return None if condition(error).startswith("PATH_NOT_FOUND") else True
