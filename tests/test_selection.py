"""Which rows `monitor` looks at."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import aml_spark
from aml_spark.monitoring import selection
from aml_spark.monitoring.selection import Opened, Selection, opened

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DAYS = "timestamp'2013-01-01 00:00:00' + make_dt_interval(id) AS `t.1`"


@pytest.fixture(scope="module")
def path(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Ten days, a row each; in its second version the first of them are there twice."""
    path = str(tmp_path_factory.mktemp("days") / "table")
    days = spark.range(0, 10, numPartitions=1).selectExpr(
        "id", DAYS, "date'2013-01-01' + int(id) AS d", "timestamp_ntz'2013-01-01' + make_dt_interval(id) AS n"
    )
    days.write.format("delta").save(path)
    days.where("id < 3").write.format("delta").mode("append").save(path)
    return path


@pytest.fixture(scope="module")
def view(spark: SparkSession) -> Iterator[str]:
    spark.range(3).createOrReplaceTempView("days_view")
    yield "days_view"
    spark.catalog.dropTempView("days_view")


def _ids(found: Opened) -> list[int]:
    return sorted(row["id"] for row in found.df.select("id").collect())


@pytest.mark.every_kind
@pytest.mark.oldest
def test_a_version_a_condition_and_a_time_are_read_of_a_table(spark: SparkSession, path: str) -> None:
    newest = opened(spark, path)
    assert (newest.name, newest.version, newest.time_column) == (path, 1, None)
    assert newest.df.count() == 13
    since = dt.date(2013, 1, 3)
    found = opened(
        spark, Selection(path, version=0, where="id <> 4", since=since, until="2013-01-07"), time_column="t.1"
    )
    assert (found.name, found.version, found.time_column) == (path, 0, "t.1")
    assert _ids(found) == [2, 3, 5]
    assert found.table_id() == newest.table_id() is not None


def test_a_baseline_need_not_have_the_time_of_the_target(spark: SparkSession, path: str) -> None:
    days = spark.read.format("delta").load(path).drop("d")
    assert opened(spark, days, time_column="d", is_timed=False).time_column is None
    assert opened(spark, path, time_column="d", is_timed=False).time_column == "d"
    with pytest.raises(aml_spark.SchemaError, match="time_column names 'd'"):
        opened(spark, Selection(days, since="2013-01-01"), time_column="d", is_timed=False)
    with pytest.raises(aml_spark.SchemaError, match="time_column names 'd'"):
        opened(spark, Selection(days, time_column="d"), is_timed=False)


def test_what_is_written_meanwhile_is_not_read(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "grows")
    spark.range(3).write.format("delta").save(path)
    found = opened(spark, path)
    spark.range(4).write.format("delta").mode("append").save(path)
    assert _ids(found) == [0, 1, 2]


@pytest.mark.parametrize(
    ("column", "since", "until", "ids"),
    [
        ("d", "2013-01-08T06:00:00", None, [8, 9]),
        ("n", dt.datetime(2013, 1, 9), None, [8, 9]),
        ("t.1", dt.datetime(2013, 1, 8, 23, 59, 59, 999999), None, [8, 9]),
        ("t.1", None, "2013-01-09 00:00:00.000001", [3, 4, 5, 6, 7, 8]),
    ],
)
def test_the_first_moment_is_taken_and_the_last_is_not(
    spark: SparkSession, path: str, column: str, since: Any, until: Any, ids: list[int]
) -> None:
    found = opened(spark, Selection(path, where="id > 2", since=since, until=until, time_column=column))
    assert _ids(found) == ids


@pytest.mark.parametrize(("column", "give"), [("t.1", str), ("n", dt.datetime.fromisoformat)])
def test_a_moment_with_a_zone_is_that_moment_in_any_session(
    spark: SparkSession, path: str, column: str, give: Any
) -> None:
    zone = spark.conf.get("spark.sql.session.timeZone")
    (midnight,) = spark.sql("SELECT unix_seconds(timestamp'2013-01-09')").collect()[0]
    at = dt.datetime.fromtimestamp(midnight, dt.timezone(dt.timedelta(hours=5))).isoformat()
    assert _ids(opened(spark, Selection(path, since=give(at), time_column=column))) == [8, 9]
    assert spark.conf.get("spark.sql.session.timeZone") == zone


def test_utc_may_be_written_with_a_z() -> None:
    with pytest.raises(aml_spark.ArgumentError, match="between which there is no time"):
        Selection("t", since="2013-01-02T00:00:00Z", until="2013-01-02T01:00:00+01:00")


def test_the_same_rows_are_asked_for_with_the_same_text(spark: SparkSession, path: str) -> None:
    def asked(*, time_column: str | None = "d", **more: Any) -> str | None:
        return opened(spark, Selection(path, **more), time_column=time_column).asked

    assert asked() == asked(version=1, time_column=None) != asked(version=0)
    assert asked(since="2013-01-02") == asked(since=dt.datetime(2013, 1, 2)) != asked(until="2013-01-02")
    assert json.loads(asked(where="id > 2", until="2013-01-02") or "") == {
        "version": 1,
        "where": "id > 2",
        "since": None,
        "until": "2013-01-02T00:00:00",
        "time_column": "d",
        "time_zone": spark.conf.get("spark.sql.session.timeZone"),
    }
    assert asked(where="d > current_date() - 7") is None


@pytest.mark.parametrize(
    "where",
    [
        "now() > d",
        "rand() < 0.5",
        "id IN (SELECT id FROM t)",
        "exists (SELECT 1)",
        "id > (select max(id) FROM t)",
        "id IN (TABLE t)",
        "id IN (FROM t SELECT id)",
        "d >= DATE'yesterday'",
        "d < timestamp 'today'",
        "d < timestamp'tomorrow'",
    ],
)
def test_conditions_of_the_moment_are_told_by_their_words(where: str) -> None:
    assert selection._OF_THE_MOMENT.search(where)
    same = "known > 2 AND brand = 'IN' AND id IN (1, 2) AND exists(l, x -> x > 1) AND extract(year FROM d) > 1"
    assert not selection._OF_THE_MOMENT.search(same)


def test_what_is_no_delta_table_has_no_version(spark: SparkSession, view: str, path: str) -> None:
    days = spark.read.format("delta").load(path)
    spark.range(2).write.format("parquet").saveAsTable("parquet_days")
    try:
        for source, name, count in ((view, view, 3), (days, None, 13), ("parquet_days", "parquet_days", 2)):
            found = opened(spark, source)
            assert (found.name, found.version, found.table_id(), found.asked) == (name, None, None, None)
            assert found.df.count() == count
        assert _ids(opened(spark, Selection(days, where="id = 9"))) == [9]
    finally:
        spark.sql("DROP TABLE parquet_days")


@pytest.mark.every_kind
def test_what_cannot_be_read_is_refused_with_what_to_type(
    spark: SparkSession, path: str, view: str, tmp_path: Path
) -> None:
    spark.range(3).write.parquet(str(tmp_path / "parquet"))
    days = spark.read.format("delta").load(path)
    refusals: list[tuple[type[Exception], str, Any, dict[str, Any]]] = [
        (aml_spark.ArgumentError, "has the versions 0 to 1", path, {"version": 2}),
        (aml_spark.ArgumentError, "expected a whole number", path, {"version": True}),
        (aml_spark.ArgumentError, r"(?s)is a DataFrame.*Hint: name the table instead", days, {"version": 1}),
        (aml_spark.ArgumentError, "'days_view' is a view", view, {"version": 1}),
        (aml_spark.ArgumentError, r"(?s)no column says when.*time_column=", path, {"since": "2013-01-01"}),
        (aml_spark.ArgumentError, "since is 'June'; expected a date", path, {"since": "June"}),
        (aml_spark.ArgumentError, "until is 2013; expected a date", path, {"until": 2013}),
        (aml_spark.ArgumentError, "between which", path, {"since": "2013-01-02", "until": "2013-01-02"}),
        (aml_spark.ArgumentError, "neither a table name nor a path", "a table", {}),
        (aml_spark.ArgumentError, r"(?s)type 'DataFrame'; expected.*createDataFrame", pd.DataFrame(), {}),
        (aml_spark.SchemaError, r"(?s)names 't1', which isn't there.*did you mean 't.1'", path, {"time_column": "t1"}),
        (aml_spark.SchemaError, r"(?s)type bigint; expected.*timestamp_seconds\('id'\)", path, {"time_column": "id"}),
        (aml_spark.SchemaError, "isn't a condition on the columns", path, {"where": "no_column > 1"}),
        (aml_spark.TableNotFoundError, "doesn't exist", "no_such_days", {}),
        (aml_spark.TableNotFoundError, "doesn't exist", "no_schema.no_such_days", {}),
        (aml_spark.TableNotFoundError, "doesn't exist", str(tmp_path / "nothing"), {}),
        (aml_spark.TableNotFoundError, "isn't a Delta table", str(tmp_path / "parquet"), {}),
    ]
    for error, text, source, more in refusals:
        with pytest.raises(error, match=text):
            opened(spark, Selection(source, **more))
