"""Rows that a model couldn't score: a table beside the target, with their keys and the reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aml_spark import table
from aml_spark.datalake import reach
from aml_spark.errors import ArgumentError, TableNotFoundError, TargetError, listed
from aml_spark.ledger import Entry
from aml_spark.table import Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_OWN = ("reason", "model_version", "source_version", "attempt")


def place(target: Table) -> Table:
    """The rejects table of a target: its name or path with `_rejects` at the end."""
    name = target.text[:-1] + "_rejects`" if target.text.endswith("`") else f"{target.text}_rejects"
    return Table(text=name, is_path=target.is_path)


def check(spark: SparkSession, target: Table, key: Sequence[str]) -> None:
    """Refuse what couldn't be written later.

    Raises:
        ArgumentError: a column of the key has the name of one that is written.
        TargetError: something else is where the rejects go.
    """
    if taken := [name for name in key if name.lower() in _OWN]:  # as Delta compares names
        raise ArgumentError(f"key names {taken[0]!r}, and the rejects have a column of that name: {listed(_OWN)}")
    found = place(target)
    if table.history(spark, found, 1):
        columns = spark.sql(f"SELECT * FROM {found.sql} LIMIT 0").columns
        if not set(columns) >= set(_OWN):
            raise TargetError(
                f"the rejects of {target.text!r} go to {found.text!r}, but that is another table",
                hint="name another target, or rename that table",
            )


def add(rows: DataFrame, target: Table, entry: Entry) -> None:
    """Append to a target's rejects, before the commit that leaves them out; none is shown until that is there."""
    from pyspark.sql import functions as F

    stamped = rows.select(
        "*",
        F.lit(entry.source_version).cast("bigint").alias("source_version"),
        F.lit(entry.attempt).alias("attempt"),
    )
    write = stamped.write.format("delta").mode("append").option("mergeSchema", "true")
    rejects = place(target)
    if rejects.is_path:
        write.save(rejects.text)
    else:
        write.saveAsTable(rejects.sql)


def read_rejects(spark: SparkSession, target: str) -> DataFrame:
    """The rows that `score(on_error="quarantine")` left without a prediction.

    Args:
        spark: the session.
        target: the table that `score` wrote.

    Returns:
        The key's columns, `reason`, `model_version`, `source_version`, `attempt`, and `target_version`: the version of
        the target whose commit left them out. Rows of attempts that never committed aren't shown, nor those of commits
        that the target's history has forgotten.

    Raises:
        TableNotFoundError: the target doesn't exist, or nothing of it was ever rejected.
    """
    from pyspark.sql import functions as F

    of = Table.of(reach(spark, target))
    history = table.history(spark, of)
    if not history or not table.history(spark, place(of), 1):
        what = "no row of it was ever rejected" if history else "it doesn't exist"
        raise TableNotFoundError(f"{target!r} has no rejects: {what}")
    commits = [(commit.version, Entry.of(commit)) for commit in history]
    known = [(entry.attempt, version) for version, entry in commits if entry is not None]
    committed = spark.createDataFrame(known or [("", 0)], "attempt string, target_version bigint")
    return spark.sql(f"SELECT * FROM {place(of).sql}").join(F.broadcast(committed), "attempt")
