"""What changed in a Delta table between two of its versions: its change data feed, reduced to the last word per key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aml_spark.analysis import condition
from aml_spark.errors import FeedError
from aml_spark.table import Table, properties, quoted

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

ENABLED = "delta.enableChangeDataFeed"
"""The property of a table that records a feed."""
NEW = "_aml_spark_new"
"""Name of the boolean column of `last_words` that says whether the key wasn't there before."""
DELETED = "_aml_spark_deleted"
"""Name of the boolean column of `last_words` that says whether the key is gone."""
DUPLICATE = "aml_spark: a key stands in two rows"
"""What a query fails with where a key isn't one."""
NOT_APPENDED = "aml_spark: rows were changed or deleted"
"""What a query of `appended` fails with where they were."""

_KIND, _VERSION = "_change_type", "_commit_version"
_OWN = (_KIND, _VERSION, "_commit_timestamp")
# The feed wasn't recorded, or versions or files of it were vacuumed, or the columns changed in a way that the feed
# can't be read across.
_GONE = (
    "CHANGE_DATA",
    "CHANGE_TABLE_FEED",
    "DELTA_CDC",
    "FILE_NOT_EXIST",
    "FILE_NOT_FOUND",
    "FileNotFound",
    "NOT_CONTIGUOUS",
    "TIME_TRAVEL",
    "TRUNCATED",
    "VersionNotFound",
)


def changes(spark: SparkSession, table: Table, first: int, last: int) -> DataFrame:
    """The rows that the versions `first` to `last` inserted, updated and deleted, with the feed's own columns."""
    reader = spark.read.format("delta").option("readChangeFeed", "true")
    reader = reader.option("startingVersion", first).option("endingVersion", last)
    return reader.load(table.text) if table.is_path else reader.table(table.sql)


def check_recorded(spark: SparkSession, table: Table, reader: str, instead: str = "") -> None:
    """Whether a table records a feed.

    Args:
        spark: the session.
        table: the table.
        reader: who reads the feed, for the error.
        instead: what else may be done, for its hint.

    Raises:
        FeedError: it doesn't.
    """
    # A session may hide what a property holds; then reading the feed will tell.
    if properties(spark, table).get(ENABLED, "false").lower() == "false":
        raise FeedError(
            f"the source {table.text!r} records no changes, which {reader} reads",
            hint=f"ALTER TABLE {table.sql} SET TBLPROPERTIES ({ENABLED} = true){instead}",
        )


def narrowed(feed: DataFrame, columns: Sequence[str]) -> DataFrame:
    """The feed with these columns of its table only."""
    from pyspark.sql import functions as F

    return feed.select(*[F.col(quoted(name)) for name in [*columns, *_OWN]])


def is_gone(error: BaseException) -> bool:
    """Whether Spark raised this because a feed can't be read any more."""
    return any(sign in condition(error) or sign in str(error)[:2000] for sign in _GONE)


def appended(feed: DataFrame) -> DataFrame:
    """The rows of a feed that holds inserts only; the query fails with `NOT_APPENDED` where it holds others."""
    from pyspark.sql import functions as F

    return feed.where(_or_fail(F.col(_KIND) == "insert", NOT_APPENDED)).drop(*_OWN)


def last_words(feed: DataFrame, key: Sequence[str]) -> DataFrame:
    """One row for each key that a feed names: its last state, or, where it is gone, only the key.

    A key whose rows go 1, 0, 1, 0 … through the versions tells by that whether it was there before. Whatever else
    they do, it stood in two rows at once: the query fails with `DUPLICATE`. So do those that are `NEW`, gone again or
    not, and were there before all the same; that is for the caller to find.

    Args:
        feed: of `changes`.
        key: columns that identify a row; nulls are equal.

    Returns:
        The table's columns with `NEW` and `DELETED`.
    """
    from pyspark.sql import Window, functions as F

    columns = [name for name in feed.columns if name not in _OWN]
    by = [F.col(quoted(name)) for name in key]
    step = F.when(F.col(_KIND).isin("insert", "update_postimage"), 1).otherwise(-1)
    # Of old rows only the key travels on, and half of a feed of updates are those.
    state = F.struct(*[F.col(quoted(name)).alias(name) for name in columns])
    # In one version the old rows go before the new ones come.
    order = Window.partitionBy(*by).orderBy(_VERSION, "_aml_spark_step")
    counted = feed.withColumn("_aml_spark_step", step).select(
        F.when(F.col("_aml_spark_step") == 1, state).alias("_aml_spark_row"),
        *by,
        F.struct(_VERSION, "_aml_spark_step").alias("_aml_spark_when"),
        F.sum("_aml_spark_step")
        .over(order.rowsBetween(Window.unboundedPreceding, Window.currentRow))
        .alias("_aml_spark_count"),
    )
    ends = counted.groupBy(*by).agg(
        F.max_by("_aml_spark_row", "_aml_spark_when").alias("_aml_spark_row"),
        F.max_by("_aml_spark_count", "_aml_spark_when").alias("_aml_spark_last"),
        F.least(F.lit(0), F.min("_aml_spark_count")).alias("_aml_spark_least"),
        F.greatest(F.lit(0), F.max("_aml_spark_count")).alias("_aml_spark_most"),
    )
    is_key = _or_fail(F.col("_aml_spark_most") - F.col("_aml_spark_least") <= 1, DUPLICATE)
    new, deleted = F.col("_aml_spark_least") == 0, F.col("_aml_spark_last") == F.col("_aml_spark_least")
    row = {name: F.col(f"_aml_spark_row.{quoted(name)}") for name in columns}
    # A row has its own key: what Spark groups by is 0.0 where that is -0.0.
    row |= {name: F.coalesce(row[name], F.col(quoted(name))) for name in key}
    words = [column.alias(name) for name, column in row.items()]
    return ends.where(is_key).select(*words, new.alias(NEW), deleted.alias(DELETED))


def difference(source: DataFrame, target: DataFrame, key: Sequence[str], compared: Sequence[str]) -> DataFrame:
    """What `last_words` would say, found by comparing the source with what the target holds of it.

    Args:
        source: rows to be scored.
        target: the table that holds predictions of an older version.
        key: columns that identify a row; nulls are equal.
        compared: columns of both in which a row that didn't change is equal.
    """
    from pyspark.sql import functions as F

    old = target.select(
        *[F.col(quoted(name)).alias(f"_aml_spark_{name}") for name in compared], F.lit(True).alias("_aml_spark_was")
    )
    new = source.withColumn("_aml_spark_is", F.lit(True))
    same = [F.col(quoted(name)).eqNullSafe(F.col(quoted(f"_aml_spark_{name}"))) for name in compared]
    on = [one for name, one in zip(compared, same, strict=True) if name in key]
    both = new.join(old, on, "full_outer")
    changed = F.lit(False)
    for one in same:
        changed = changed | ~one
    columns = [
        F.coalesce(F.col(quoted(name)), F.col(quoted(f"_aml_spark_{name}"))).alias(name) if name in key
        else F.col(quoted(name))
        for name in source.columns
    ]  # fmt: skip
    found = both.where(F.col("_aml_spark_is").isNull() | F.col("_aml_spark_was").isNull() | changed)
    return found.select(
        *columns, F.col("_aml_spark_was").isNull().alias(NEW), F.col("_aml_spark_is").isNull().alias(DELETED)
    )


def _or_fail(condition: Column, text: str) -> Column:
    from pyspark.sql import functions as F

    return F.when(condition, True).otherwise(F.raise_error(F.lit(text)).cast("boolean"))
