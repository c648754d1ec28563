"""A change data feed reduced to the last word for each key, and the same found by comparing two tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import tables

import aml_spark
from aml_spark import feed
from aml_spark.table import Table

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

INSERT, BEFORE, AFTER, DELETE = "insert", "update_preimage", "update_postimage", "delete"
COLUMNS = "`the id` long, x double, _change_type string, _commit_version long, _commit_timestamp timestamp"
# What happened to a key, as (kind, version, x), and what is to be said of it: x, NEW, DELETED.
HISTORIES: list[tuple[list[tuple[str, int, float]], tuple[float | None, bool, bool]]] = [
    ([(INSERT, 1, 1.0)], (1.0, True, False)),
    ([(DELETE, 1, 1.0)], (None, False, True)),
    ([(BEFORE, 1, 1.0), (AFTER, 1, 2.0)], (2.0, False, False)),
    ([(AFTER, 1, 2.0), (BEFORE, 1, 1.0)], (2.0, False, False)),  # a feed has no order within a version
    ([(BEFORE, 1, 1.0), (AFTER, 1, 2.0), (BEFORE, 3, 2.0), (AFTER, 3, 3.0)], (3.0, False, False)),
    ([(INSERT, 1, 1.0), (BEFORE, 2, 1.0), (AFTER, 2, 2.0)], (2.0, True, False)),
    ([(INSERT, 1, 1.0), (DELETE, 2, 1.0)], (None, True, True)),
    ([(DELETE, 1, 1.0), (INSERT, 2, 2.0)], (2.0, False, False)),
    ([(DELETE, 1, 1.0), (INSERT, 1, 1.0)], (1.0, False, False)),  # as an overwrite or RESTORE says it
    ([(DELETE, 1, 1.0), (INSERT, 2, 2.0), (DELETE, 3, 2.0)], (None, False, True)),
    ([(BEFORE, 4, 1.0)], (None, False, True)),  # it became another key, or left the condition
    ([(AFTER, 4, 1.0)], (1.0, True, False)),
    ([(INSERT, 1, 1.0), (DELETE, 2, 1.0), (INSERT, 10, 5.0)], (5.0, True, False)),
]
TWICE: list[list[tuple[str, int, float]]] = [
    [(INSERT, 1, 1.0), (INSERT, 1, 2.0)],
    [(INSERT, 1, 1.0), (INSERT, 2, 2.0)],
    [(DELETE, 1, 1.0), (DELETE, 1, 2.0)],
    [(BEFORE, 1, 1.0), (AFTER, 1, 2.0), (INSERT, 2, 2.0)],
    [(INSERT, 1, 1.0), (INSERT, 2, 1.0), (DELETE, 3, 1.0), (DELETE, 4, 1.0)],
]


def test_a_table_without_a_feed_is_told_from_one_whose_properties_are_hidden(
    spark: SparkSession, tmp_path: Path
) -> None:
    for name, properties in (("with", tables.FEED), ("without", {})):
        tables.write(str(tmp_path / name), {"id": [1]}, properties=properties)
    with pytest.raises(aml_spark.FeedError, match="records no changes, which a reader reads"):
        feed.check_recorded(spark, Table.of(str(tmp_path / "without")), "a reader")
    spark.conf.set("spark.sql.redaction.options.regex", "(?i)data")
    try:
        feed.check_recorded(spark, Table.of(str(tmp_path / "with")), "a reader")
    finally:
        spark.conf.unset("spark.sql.redaction.options.regex")


def _feed(spark: SparkSession, histories: list[list[tuple[str, int, float]]]) -> DataFrame:
    keys: list[int | None] = [None, *range(1, len(histories))]
    rows = [(key, x, kind, at, None) for key, told in zip(keys, histories, strict=True) for kind, at, x in told]
    return spark.createDataFrame(rows, COLUMNS)


def _words(df: DataFrame) -> dict[Any, tuple[Any, ...]]:
    rows = df.collect()
    assert len({row[0] for row in rows}) == len(rows)
    return {row["the id"]: (row["x"], row[feed.NEW], row[feed.DELETED]) for row in rows}


def test_each_key_has_one_last_word(spark: SparkSession) -> None:
    said = _words(feed.last_words(_feed(spark, [told for told, _ in HISTORIES]), ["the id"]))
    keys: list[int | None] = [None, *range(1, len(HISTORIES))]
    assert said == {key: word for key, (_, word) in zip(keys, HISTORIES, strict=True)}


@pytest.mark.parametrize("told", TWICE)
def test_a_key_that_stood_in_two_rows_fails_the_query(spark: SparkSession, told: list[tuple[str, int, float]]) -> None:
    with pytest.raises(Exception, match=feed.DUPLICATE):
        feed.last_words(_feed(spark, [told]), ["the id"]).collect()


def test_a_key_of_several_columns_is_all_of_them(spark: SparkSession) -> None:
    rows = [(1, 1.0, INSERT, 1, None), (1, 2.0, INSERT, 1, None), (1, 2.0, DELETE, 2, None)]
    found = feed.last_words(spark.createDataFrame(rows, COLUMNS), ["x", "the id"]).collect()
    assert sorted(tuple(row) for row in found) == [(1, 1.0, True, False), (1, 2.0, True, True)]


def test_a_key_of_minus_zero_stays_what_it_is(spark: SparkSession) -> None:
    rows = [(1, 0.0, BEFORE, 1, None), (1, -0.0, AFTER, 1, None), (1, 5.0, DELETE, 1, None)]
    found = feed.last_words(spark.createDataFrame(rows, COLUMNS), ["x"]).collect()
    assert sorted((str(row["x"]), row[feed.DELETED]) for row in found) == [("-0.0", False), ("5.0", True)]


def test_what_was_only_appended_is_told_from_what_was_not(spark: SparkSession) -> None:
    grown = _feed(spark, [[(INSERT, 1, 1.0)], [(INSERT, 2, 2.0)]])
    assert feed.appended(grown).columns == ["the id", "x"]
    assert sorted(row["x"] for row in feed.appended(grown).collect()) == [1.0, 2.0]
    with pytest.raises(Exception, match=feed.NOT_APPENDED):
        feed.appended(_feed(spark, [[(INSERT, 1, 1.0)], [(DELETE, 2, 2.0)]])).collect()


def test_comparing_says_the_same(spark: SparkSession) -> None:
    columns = "`the id` long, x double"
    old = spark.createDataFrame([(1, 1.0), (2, 2.0), (3, None), (None, 4.0), (5, 5.0), (6, None)], columns)
    new = spark.createDataFrame([(1, 1.0), (2, 2.5), (3, 3.0), (None, 4.5), (6, None), (7, 7.0)], columns)
    held = old.selectExpr("*", "x * 2 AS prediction")
    assert _words(feed.difference(new, held, ["the id"], ["the id", "x"])) == {
        2: (2.5, False, False),
        3: (3.0, False, False),
        None: (4.5, False, False),
        5: (None, False, True),
        7: (7.0, True, False),
    }
