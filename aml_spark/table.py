"""Delta tables: what a name or path means, its history, reading a version, replacing the content in one commit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_spark.errors import ArgumentError, SessionError, TableError, TableNotFoundError, TargetError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


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
class Detail:
    """What Delta says of a table: its `id` (a GUID made with the table) and its newest version."""

    id: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit of a table's history. `rows` is how many it wrote, where Delta tells."""

    version: int
    operation: str
    metadata: str | None
    rows: int | None


def quoted(name: str) -> str:
    """An identifier as SQL takes it, whatever characters it has."""
    return "`" + name.replace("`", "``") + "`"


def detail(spark: SparkSession, table: Table) -> Detail | None:
    """Look a table up.

    Returns:
        None where nothing is there yet.

    Raises:
        TableNotFoundError: something is there which isn't a Delta table.
        SessionError: the session has no Delta.
    """
    from pyspark.errors import AnalysisException, ParseException

    try:
        found = spark.sql(f"DESCRIBE DETAIL {table.sql}").select("format", "id").collect()[0]
    except ParseException:
        raise _no_delta() from None
    except AnalysisException as error:
        what = condition(error)
        if "`DETAIL`" in str(error):  # without Delta this is Spark's DESCRIBE of a table DETAIL
            raise _no_delta() from None
        if what.startswith(("TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND", "DELTA_TABLE_NOT_FOUND")):
            return None
        if what.startswith("DELTA_MISSING_DELTA_TABLE") or "is not a Delta table" in str(error):
            if table.is_path and _is_empty(spark, table.text):
                return None
            raise TableNotFoundError(
                f"{table.text!r} isn't a Delta table",
                hint=f"CONVERT TO DELTA parquet.{quoted(table.text)}; or remove the folder, where a first write to it "
                "failed and left files",
            ) from None
        if what.startswith("EXPECT_TABLE_NOT_VIEW"):
            raise TableNotFoundError(
                f"{table.text!r} is a view; expected a Delta table, whose versions can be told apart",
                hint="name the table behind it, and use columns= and where= for what the view does",
            ) from None
        raise TableError(f"{table.text!r} can't be looked up: {what}") from None
    if found["format"] != "delta":
        raise TableNotFoundError(f"{table.text!r} is a table in format {found['format']!r}; expected 'delta'")
    newest = spark.sql(f"DESCRIBE HISTORY {table.sql} LIMIT 1").select("version").collect()[0]
    return Detail(id=found["id"], version=newest["version"])


def history(spark: SparkSession, table: Table) -> list[Commit]:
    """All commits that the table still knows, newest first."""
    rows = (
        spark.sql(f"DESCRIBE HISTORY {table.sql}")
        .select("version", "operation", "userMetadata", "operationMetrics.numOutputRows")
        .collect()
    )
    return [
        Commit(
            version=row["version"],
            operation=row["operation"],
            metadata=row["userMetadata"],
            rows=None if row["numOutputRows"] is None else int(row["numOutputRows"]),
        )
        for row in sorted(rows, key=lambda row: row["version"], reverse=True)
    ]


def read(spark: SparkSession, table: Table, version: int) -> DataFrame:
    """One version of the table, whatever is written to it meanwhile."""
    return spark.sql(f"SELECT * FROM {table.sql} VERSION AS OF {int(version)}")


def replace(
    df: DataFrame, table: Table, *, exists: bool, metadata: str, transaction: tuple[str, int], new_schema: bool
) -> None:
    """Make the DataFrame the table's whole content in one commit; until then readers see what was there.

    Args:
        df: the new content.
        table: where to.
        exists: whether the table is there already.
        metadata: what the commit carries as `userMetadata`.
        transaction: application id and version of Delta's idempotent writes. Delta drops a write whose version isn't
            above the last one of the same id, without an error.
        new_schema: whether the table takes the DataFrame's schema instead of its own.

    Raises:
        TableError: the table can't be written; it is left as it was.
    """
    from pyspark.sql import functions as F

    options: dict[str, Any] = {"userMetadata": metadata, "txnAppId": transaction[0], "txnVersion": transaction[1]}
    options["partitionOverwriteMode"] = "static"  # the session's may be dynamic, which keeps other partitions
    if new_schema:
        options["overwriteSchema"] = "true"
    if table.is_path:
        df.write.format("delta").mode("overwrite").options(**options).save(table.text)
    elif exists and not new_schema:
        df.writeTo(table.sql).options(**options).overwrite(F.lit(True))
    else:
        df.write.format("delta").mode("overwrite").options(**options).saveAsTable(table.sql)


def condition(error: BaseException) -> str:
    """The name of a Spark or Delta error, such as `DELTA_CANNOT_CREATE_LOG_PATH`, without its text.

    The texts may quote rows of the data, so none of ours repeats them.
    """
    for getter in ("getCondition", "getErrorClass"):  # the second until Spark 3.5
        if hasattr(error, getter):
            if name := getattr(error, getter)():
                return str(name)
            break
    found = re.search(r"\[([A-Z][A-Z0-9_.]+)\]", str(error))
    if found:
        return found[1]
    java = re.search(r"\b(?:\w+\.)+(\w+(?:Exception|Error))\b", str(error))
    return java[1] if java else type(error).__name__


def write_error(table: Table, error: BaseException) -> TableError:
    """The error to raise for one that Spark raised while a table was written."""
    what = condition(error)
    if any(sign in what.upper() for sign in ("CONCURRENT", "METADATA_CHANGED", "PROTOCOL_CHANGED")):
        return TargetError(
            f"another job changed {table.text!r} while it was being written ({what}); this run wrote nothing",
            hint="run it again",
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
