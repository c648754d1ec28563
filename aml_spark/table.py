"""Delta tables: what a name or path means, its history, reading a version, and writing in one commit."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_spark.analysis import analysed, condition, tried
from aml_spark.errors import (
    AmlSparkError,
    ArgumentError,
    ConflictError,
    SessionError,
    TableError,
    TableNotFoundError,
)
from aml_spark.refusals import refusal

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row, SparkSession

_logger = logging.getLogger(__name__)

_ALL = 1_000_000_000


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What a commit of ours carries.

    Args:
        metadata: its `userMetadata`.
        app_id: application of Delta's idempotent writes.
        sequence: their version. Delta drops a write whose version isn't above the last one of the same application,
            without an error.
    """

    metadata: str
    app_id: str
    sequence: int

    def options(self) -> dict[str, str]:
        """As options of a DataFrame's writer."""
        return {"userMetadata": self.metadata, "txnAppId": self.app_id, "txnVersion": str(self.sequence)}

    def settings(self) -> dict[str, str]:
        """As settings of a session, the only way to tell them a MERGE."""
        return {
            "spark.databricks.delta.commitInfo.userMetadata": self.metadata,
            "spark.databricks.delta.write.txnAppId": self.app_id,
            "spark.databricks.delta.write.txnVersion": str(self.sequence),
        }


def quoted(name: str) -> str:
    """An identifier as SQL takes it, whatever characters it has."""
    return "`" + name.replace("`", "``") + "`"


def identifier(spark: SparkSession, table: Table) -> str:
    """The GUID that Delta made with a table that is there; one that is made anew in its place has another.

    To tell it Delta counts the table's files, which costs more than anything else here, and much where they are many.
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
        None of them where nothing is there yet.

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
            if table.is_path and _is_empty(spark, table.text):
                return []
            raise TableNotFoundError(
                f"{table.text!r} isn't a Delta table",
                hint=f"CONVERT TO DELTA parquet.{quoted(table.text)}; or remove the folder, where a first write to it "
                "failed and left files",
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
        where = spark.sql(f"DESCRIBE DETAIL {table.sql}").collect()[0]["location"]
        known = spark.read.format("parquet").load(f"{where}/_delta_log/*.checkpoint*.parquet")
        return bool(known.where(F.col("txn.appId") == app_id).head(1))
    except Exception as error:  # Java's own, too: of a storage that refuses
        _logger.debug("the log of %s can't be read (%s)", table, condition(error))
        return False


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


def replace(df: DataFrame, table: Table, stamp: Stamp, *, exists: bool, schema: str) -> None:
    """Make the DataFrame the table's whole content in one commit; until then readers see what was there.

    Args:
        df: the new content.
        table: where to.
        stamp: what the commit carries.
        exists: whether the table is there already.
        schema: `"kept"`: the table's; `"grown"`: the table's with the DataFrame's new columns; `"replaced"`: the
            DataFrame's.

    Raises:
        TableError: the table can't be written; it is left as it was.
    """
    from pyspark.sql import functions as F

    # The session's partitionOverwriteMode may be dynamic, which keeps other partitions.
    options: dict[str, Any] = {**stamp.options(), "partitionOverwriteMode": "static"}
    if schema != "kept":
        options["overwriteSchema" if schema == "replaced" else "mergeSchema"] = "true"
    if table.is_path:
        df.write.format("delta").mode("overwrite").options(**options).save(table.text)
    elif exists and schema != "replaced":
        df.writeTo(table.sql).options(**options).overwrite(F.lit(True))
    else:
        df.write.format("delta").mode("overwrite").options(**options).saveAsTable(table.sql)


def create(spark: SparkSession, table: Table, columns: str) -> None:
    """Make a table where there is none, also where another job makes the same one at the same time.

    Args:
        spark: the session.
        table: the table.
        columns: as SQL's CREATE TABLE has them.
    """
    for wait in (0.1, 0.4, 1.6, 0):
        if history(spark, table, 1):
            return
        try:
            # A table that is being made has its folder before its first commit: to find that may be an error or none.
            spark.sql(f"CREATE TABLE IF NOT EXISTS {table.sql} ({columns}) USING DELTA")
        except Exception as error:  # Spark's, and Java's own of the storage
            failed, what = write_error(table, error), condition(error).upper().replace("_", "")
            made = ("ALREADYEXISTS", "NONEMPTYLOCATION", "TABLENOTFOUND")
            if not wait or not (isinstance(failed, ConflictError) or any(one in what for one in made)):
                raise failed from None
        time.sleep(wait)


def append(df: DataFrame, table: Table, stamp: Stamp) -> None:
    """Add the DataFrame's rows in one commit; the table gets its new columns."""
    options: dict[str, Any] = {**stamp.options(), "mergeSchema": "true"}
    if table.is_path:
        df.write.format("delta").mode("append").options(**options).save(table.text)
    else:
        df.writeTo(table.sql).options(**options).append()


def merge(
    df: DataFrame,
    table: Table,
    stamp: Stamp,
    *,
    key: Sequence[str],
    bounds: Sequence[str],
    new: str,
    deleted: str,
    failing: Mapping[str, str],
    insert: bool,
) -> None:
    """Insert, update and delete rows by key in one commit; the table gets the DataFrame's new columns.

    Args:
        df: rows with the table's columns, or some of them: others keep what they hold. Its session is one of its own,
            see `session.isolated`: more is set in it.
        table: where to.
        stamp: what the commit carries.
        key: columns that identify a row; nulls are equal.
        bounds: `frame.key_bounds` of rows with the same keys.
        new: boolean column that says that the key isn't in the table; where it is, the query fails.
        deleted: boolean column that says that the key's row goes.
        failing: a column of texts, and the text that the query fails with.
        insert: whether keys that the table lacks are inserted.
    """
    spark, view = df.sparkSession, "aml_spark_changes"
    columns = [quoted(name) for name in df.columns if name not in (new, deleted)]
    ((text_column, text),) = failing.items()
    # Not as a condition: those are asked of rows that match nothing, too.
    raised = f"{quoted(text_column)} = CAST(raise_error('{text}') AS STRING)"
    inserted = (
        f"WHEN NOT MATCHED AND NOT changed.{deleted} "
        f"THEN INSERT ({', '.join(columns)}) VALUES ({', '.join(f'changed.{name}' for name in columns)})"
    )
    settings = {
        **stamp.settings(),
        "spark.databricks.delta.merge.materializeSource": "all",
        "spark.databricks.delta.schema.autoMerge.enabled": "true",
    }
    try:
        on = [*(f"target.{name} <=> changed.{name}" for name in map(quoted, key)), *bounds]
        df.createOrReplaceTempView(view)
        for name, value in settings.items():
            spark.conf.set(name, value)
        spark.sql(
            f"MERGE INTO {table.sql} AS target USING {view} AS changed ON {' AND '.join(on)} "
            f"WHEN MATCHED AND changed.{new} THEN UPDATE SET {raised} "
            f"WHEN MATCHED AND changed.{deleted} THEN DELETE "
            f"WHEN MATCHED THEN UPDATE SET {', '.join(f'{name} = changed.{name}' for name in columns)} "
            + (inserted if insert else "")
        )
    finally:
        for name in settings:
            spark.conf.unset(name)


def write_error(table: Table, error: BaseException) -> TableError:
    """The error to raise for one that Spark raised while a table was written."""
    what = condition(error)
    if any(sign in what.upper() for sign in ("CONCURRENT", "METADATA_CHANGED", "PROTOCOL_CHANGED")):
        return ConflictError(
            f"another job changed {table.text!r} while it was being written ({what}); this run wrote nothing",
            hint="run it again",
        )
    if refused := refusal(table.text, error):
        return TableError(
            f"{table.text!r} couldn't be written; it is left as it was: {refused.message}", hint=refused.hint
        )
    return TableError(
        f"{table.text!r} couldn't be written ({what}); it is left as it was",
        hint="check that the place exists and that this user may write there; Spark's log has the details",
    )


def _no_delta() -> SessionError:
    return SessionError(
        "this Spark session doesn't know Delta's SQL",
        hint="use aml_spark.get_spark(), or start spark-submit with --properties-file conf/spark-defaults.conf",
    )


def _is_empty(spark: SparkSession, path: str) -> bool:
    try:
        return not spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(path).head(1)
    except Exception as error:
        return condition(error).startswith("PATH_NOT_FOUND")
