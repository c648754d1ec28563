"""Writing a Delta table, each time in one commit."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aml_spark.analysis import condition
from aml_spark.errors import ConflictError, TableError
from aml_spark.refusals import refusal
from aml_spark.table import Table, history, quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


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
    hint = next((hint for start, hint in _HINTS.items() if what.startswith(start)), None)
    # Spark's own names are of what it reads and computes, but for that of the task that writes.
    if hint is None and (what.startswith(("DELTA_", "TASK_WRITE_FAILED")) or not what.isupper()):
        hint = "check that the place exists and that this user may write there; Spark's log has the details"
    return TableError(
        f"{table.text!r} couldn't be written ({what}); it is left as it was",
        hint=hint or "what it was to get couldn't be read or computed; Spark's log has the details",
    )


_HINTS = {
    "SCHEMA_NOT_FOUND": "CREATE SCHEMA makes one; or give the target's path",
    "DELTA_INVALID_CHARACTERS_IN_COLUMN_NAMES": (
        'spark.conf.set("spark.databricks.delta.properties.defaults.columnMapping.mode", "name")'
    ),
    "FAILED_READ_FILE.FILE_NOT_EXIST": "VACUUM removed files of that version: score the newest, without source_version",
}
