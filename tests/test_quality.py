"""Whether a table is as it should be."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import Array

import aml_spark
from aml_spark.monitoring.metric import Metric, Thresholds
from aml_spark.monitoring.profiles.frequencies import Frequencies
from aml_spark.monitoring.profiles.histogram import Histogram
from aml_spark.monitoring.profiles.profile import Column, Profile
from aml_spark.monitoring.quality import outside, quality, rows
from aml_spark.monitoring.quality.casts import types_of
from aml_spark.monitoring.quality.rows import Checks, checked

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

NOW = dt.datetime(2013, 7, 1, tzinfo=dt.timezone.utc)


def _numbers(name: str, values: Any, *, type: str = "double", **more: Any) -> Column:  # noqa: A002
    missing = more.get("nulls", 0) + more.get("nans", 0)
    infinite = more.get("positive_infinities", 0) + more.get("negative_infinities", 0)
    found = Histogram.of(values)
    return Column(name=name, type=type, kind="numeric", rows=found.total + missing + infinite, histogram=found, **more)


def _texts(name: str, counts: Mapping[str, int], *, rest: int = 0, most_missed: int = 0, **more: Any) -> Column:
    found = Frequencies(
        counts=counts, rest=rest, distinct=len(counts) + (rest // max(most_missed, 1)), most_missed=most_missed
    )
    lengths = Histogram.of([len(value) for value, count in counts.items() for _ in range(count)])
    nulls = more.get("nulls", 0)
    return Column(
        name=name,
        type="string",
        kind="text",
        rows=found.total + nulls,
        histogram=lengths,
        frequencies=found,
        **more,
    )


def _profile(*columns: Column, rows: int | None = None, **more: Any) -> Profile:
    return Profile(rows=columns[0].rows if rows is None else rows, columns={one.name: one for one in columns}, **more)


def _compared(
    baseline: Profile | Column, target: Profile | Column, checks: Checks | None = None, **thresholds: Any
) -> dict[tuple[str, str | None], Metric]:
    one, two = (of if isinstance(of, Profile) else _profile(of) for of in (baseline, target))
    names = [*checks.failed, *checks.broken] if checks else []
    found = quality.compared(one, two, checks, Thresholds(thresholds, quality.defaults(names)), now=NOW)
    told = {(metric.metric, metric.column): metric for metric in found}
    assert len(told) == len(found)
    assert all(metric.signal == "quality" for metric in found)
    return told


def test_metrics_of_the_whole_table_have_no_thresholds_by_column() -> None:
    whole = ["duplicate_rate", "expectation:late"]
    told = r"names 'duplicate_rate' for 'x', but it is a metric of the whole table"
    with pytest.raises(aml_spark.ArgumentError, match=told) as raised:
        Thresholds({"x": {"null_value_rate": 0.1, "duplicate_rate": 0.1}}, quality.defaults(["late"]), whole)
    assert raised.value.hint == "thresholds={'duplicate_rate': 0.1, …}"
    assert Thresholds({"duplicate_rate": 0.1}, quality.defaults(), whole).of("duplicate_rate") == 0.1
    with pytest.raises(aml_spark.ArgumentError, match="expected a number, or None"):
        Thresholds({"duplicate_rate": True}, quality.defaults())


# Missing values


@pytest.mark.parametrize(("found", "of", "rows"), [(0, 50, 50), (3, 200, 5000), (400, 1000, 1000), (990, 1000, 300)])
def test_chance_alone_seldom_lies_above_the_limit(found: int, of: int, rows: int) -> None:
    """At any true rate, where both counts are drawn with it."""
    from scipy.stats import binom

    rate, counts = max(found, 0.5) / of, np.arange(of + 1)
    limits = np.array([quality.limit(int(count), of, rows) for count in counts])
    alarms = binom.pmf(counts, of, rate) * binom.sf(np.floor(limits * rows + 1e-9), rows, rate)
    assert alarms.sum() < 0.02


def test_the_limit_nears_the_rate_with_more_rows_but_for_what_does_not_matter() -> None:
    limits = [quality.limit(rows // 5, rows, rows) for rows in (10, 100, 1000, 10_000_000)]
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] == pytest.approx(0.22)  # a tenth of the rate
    assert quality.limit(0, 10**7, 10**7) == pytest.approx(0.001)
    assert quality.limit(0, 0, 5) == quality.limit(5, 5, 5) == quality.limit(0, 5, 0) == 1.0


def test_more_nulls_than_in_the_baseline_breach() -> None:
    baseline = _numbers("x", np.arange(950.0), nulls=40, nans=10)
    for missing, breached in ((50, False), (70, False), (150, True)):
        found = _compared(baseline, _numbers("x", np.arange(1000.0 - missing), nulls=missing))
        metric = found["null_value_rate", "x"]
        assert (metric.value, metric.breached) == (missing / 1000, breached)
        assert metric.threshold == quality.limit(50, 1000, 1000, 2)  # beside out_of_bounds_rate
        assert metric.note == "5 % in the baseline"
    nan = _compared(baseline, _numbers("x", [1.0], nans=3))["null_value_rate", "x"]
    assert (nan.value, nan.note) == (0.75, "3 of them NaN; 5 % in the baseline")


def test_a_threshold_that_is_given_is_the_one() -> None:
    baseline, target = _numbers("x", [1.0, 2.0], nulls=8), _numbers("x", [1.0, 2.0], nulls=8)
    assert not _compared(baseline, target)["null_value_rate", "x"].breached
    given = _compared(baseline, target, null_value_rate=0.5)["null_value_rate", "x"]
    assert (given.threshold, given.breached) == (0.5, True)
    numpys = _compared(baseline, target, x={"null_value_rate": np.float32(0.5)})["null_value_rate", "x"]
    assert (numpys.threshold, numpys.breached) == (0.5, True)
    shown = _compared(baseline, target, x={"null_value_rate": None})["null_value_rate", "x"]
    assert (shown.threshold, shown.breached) == (None, False)


def test_chance_is_shared_by_all_columns() -> None:
    draw = np.random.default_rng(7)
    rates = draw.uniform(0.02, 0.05, 500)

    def drawn(rates: Any) -> Profile:
        nulls = draw.binomial(10_000, rates)
        values = [draw.integers(0, 5, 10_000 - count) for count in nulls]
        return _profile(*(_numbers(f"x{at}", values[at], nulls=int(count)) for at, count in enumerate(nulls)))

    before = drawn(rates)
    assert not [name for name, one in _compared(before, drawn(rates)).items() if one.breached]
    rates[3] = 2 * rates[3]
    assert [name for name, one in _compared(before, drawn(rates)).items() if one.breached] == [
        ("null_value_rate", "x3")
    ]


@pytest.mark.parametrize("comparisons", [1, 20, 1000])
@pytest.mark.parametrize("rows", [1000, 10_000])
def test_false_alarms_are_as_seldom_as_is_said_however_many_comparisons_there_are(rows: int, comparisons: int) -> None:
    from scipy.stats import binom

    counts = np.arange(1001)
    limits = np.array([quality.limit(int(count), 1000, rows, comparisons) for count in counts])
    for rate in (0.0005, 0.005, 0.05, 0.3, 0.9):
        alarms = binom.pmf(counts, 1000, rate) * binom.sf(np.floor(limits * rows + 1e-9), rows, rate)
        assert alarms.sum() * comparisons < 0.003


# Bounds


def test_numbers_outside_of_the_range_are_counted_to_within_a_bucket() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.normal(0, 1, 500), rng.normal(0, 1.7, 8000)
    true = ((after < before.min()) | (after > before.max())).mean()
    metric = _compared(_numbers("x", before), _numbers("x", after))["out_of_bounds_rate", "x"]
    assert metric.bound > 0
    assert abs(metric.value - true) <= metric.bound < 0.01
    assert metric.breached
    exact = Checks(rows=8000, outside={"x": round(true * 8000)})
    counted = _compared(_numbers("x", before), _numbers("x", after), exact)["out_of_bounds_rate", "x"]
    assert (counted.value, counted.bound) == (pytest.approx(true), 0)


@pytest.mark.parametrize("level", [0, 4, 8, 11])
def test_the_true_count_lies_between_the_least_and_the_most_in_buckets_of_any_width(level: int) -> None:
    for seed in range(15):
        rng = np.random.default_rng(seed)
        before, after = rng.normal(0.5, 1, rng.integers(1, 9)), rng.normal(0, 2, rng.integers(1, 60))
        target = Column(
            name="x", type="double", kind="numeric", rows=len(after), histogram=Histogram.of(after).at(level)
        )
        found = outside.counted(_numbers("x", before), target)
        true = int(((after < before.min()) | (after > before.max())).sum())
        assert found.least <= true <= found.most
        assert level or found.least == found.most


def test_a_bucket_across_both_ends_is_at_least_two_outside() -> None:
    wide = Histogram.of([10.0, 10.001, 10.002, 10.003]).at(10)
    assert len(wide.counts) == 1
    target = Column(name="x", type="double", kind="numeric", rows=4, histogram=wide)
    found = outside.counted(_numbers("x", [10.0015]), target)
    assert (found.least, found.most) == (2, 4)
    found = outside.counted(_numbers("x", [10.0015, 20.0]), target)
    assert (found.least, found.most) == (1, 3)


def test_a_new_draw_of_the_same_numbers_is_within_its_limit() -> None:
    rng = np.random.default_rng(1)
    for before, after in ((50, 50), (50, 5000), (5000, 50)):
        found = _compared(_numbers("x", rng.normal(size=before)), _numbers("x", rng.normal(size=after)))
        assert not found["out_of_bounds_rate", "x"].breached


def test_an_infinity_is_outside_where_the_baseline_has_none_of_its_sign() -> None:
    target = _numbers("x", [1.0, 2.0], positive_infinities=1, negative_infinities=1)
    metric = _compared(_numbers("x", [1.0, 2.0]), target)["out_of_bounds_rate", "x"]
    assert (metric.value, metric.note) == (0.5, "2 infinite")
    metric = _compared(_numbers("x", [1.0, 2.0], positive_infinities=5), target)["out_of_bounds_rate", "x"]
    assert metric.value == 0.25
    metric = _compared(_numbers("x", [], positive_infinities=5), target)["out_of_bounds_rate", "x"]
    assert metric.value == 0.75


def test_texts_are_outside_where_the_baseline_has_not_got_them() -> None:
    baseline = _texts("c", {"a": 600, "b": 400})
    found = _compared(baseline, _texts("c", {"a": 90, "z": 7, "y": 3}, nulls=5))
    assert found["out_of_bounds_rate", "c"].value == 0.1
    assert found["out_of_bounds_rate", "c"].breached
    new = found["new_categories", "c"]
    assert (new.value, new.breached, new.note) == (2.0, False, "'z', 'y'")
    assert _compared(baseline, baseline)["new_categories", "c"].value == 0
    assert _compared(baseline, _texts("c", {"z": 1}), new_categories=0)["new_categories", "c"].breached


def test_a_target_with_a_rest_is_told_with_a_bound() -> None:
    baseline = _texts("c", {"a": 500, "b": 500})
    found = _compared(baseline, _texts("c", {"a": 50, "x": 10}, rest=40, most_missed=4))
    metric = found["out_of_bounds_rate", "c"]  # b may be there at most 4 times
    assert (metric.value, metric.bound) == (pytest.approx((10 + 38) / 100), pytest.approx(0.02))
    assert found["new_categories", "c"].value == 10  # of 12 different ones
    assert "at least" in str(found["new_categories", "c"].note)


def test_names_that_come_once_are_expected_to_be_new() -> None:
    before, after = {f"id-{number}": 1 for number in range(500)}, {f"id-{number}": 1 for number in range(500, 900)}
    metric = _compared(_texts("c", before), _texts("c", after))["out_of_bounds_rate", "c"]
    assert (metric.value, metric.breached) == (1.0, False)
    assert "500 of the baseline's 500 values came once" in str(metric.note)


def test_of_too_many_texts_the_lengths_are_told() -> None:
    baseline = _texts("c", {"aa": 50, "bbbb": 50}, rest=900, most_missed=1)
    found = _compared(baseline, _texts("c", {"a": 20, "xyz": 80}))
    metric = found["out_of_bounds_rate", "c"]
    assert (metric.value, metric.bound) == (0.2, 0)
    assert "lengths of the texts" in str(metric.note)
    assert math.isnan(found["new_categories", "c"].value)
    assert "too many values" in str(found["new_categories", "c"].note)


def test_booleans_of_a_constant_column_and_times_that_go_on() -> None:
    def flags(**counts: int) -> Column:
        values = Frequencies(counts=counts, distinct=len(counts))
        return Column(name="b", type="boolean", kind="boolean", rows=values.total, frequencies=values)

    metric = _compared(flags(true=1000), flags(true=900, false=100))["out_of_bounds_rate", "b"]
    assert (metric.value, metric.breached) == (0.1, True)

    def days(start: int) -> Column:
        found = Histogram.of(np.arange(start, start + 100) * 86400.0)
        return Column(name="t", type="date", kind="time", rows=100, histogram=found)

    metric = _compared(days(10000), days(11000))["out_of_bounds_rate", "t"]
    assert (metric.value, metric.threshold, metric.breached) == (1.0, None, False)
    assert _compared(days(10000), days(11000), t={"out_of_bounds_rate": 0.1})["out_of_bounds_rate", "t"].breached


EMPTY = _numbers("x", [])
NOTHING = Column(name="x", type="map<string,int>", kind="unsupported", rows=2, note="maps aren't compared")


@pytest.mark.parametrize(
    ("baseline", "target", "note"),
    [
        (_numbers("x", [1.0]), EMPTY, "it has no values"),
        (EMPTY, _numbers("x", [1.0]), "the baseline has no values"),
        (_numbers("x", [], nulls=3), _numbers("x", [1.0]), "the baseline has no values"),
        (_numbers("x", [1.0]), _numbers("x", [], nulls=2, nans=1), "it has no values"),
        (_numbers("x", [1.0]), _texts("x", {"a": 1}), "it is double in the baseline and string now"),
        (NOTHING, NOTHING, "maps aren't compared"),
    ],
)
def test_what_cannot_be_told_is_nan_with_the_reason(baseline: Column, target: Column, note: str) -> None:
    found = _compared(baseline, target)
    metric = found["out_of_bounds_rate", "x"]
    assert math.isnan(metric.value)
    assert (metric.note, metric.breached) == (note, False)
    null = found["null_value_rate", "x"]
    assert not null.breached
    assert math.isnan(null.value) is (target.rows == 0)
    if not baseline.rows:
        assert (null.threshold, null.note) == (None, "the baseline has no rows")


def test_a_row_alone_breaches_nothing() -> None:
    for baseline, target in (([1.0], [2.0]), ([1.0] * 100, [2.0])):
        found = _compared(_numbers("x", baseline), _numbers("x", target))
        assert not [metric for metric in found.values() if metric.breached]


# Columns and rows of the table


def test_columns_of_one_table_only_and_types_that_changed_are_told() -> None:
    baseline = _profile(_numbers("a", [1.0]), _numbers("b", [1.0]), _numbers("c", [1.0], type="int"), rows=1)
    target = _profile(_numbers("c", [1.0], type="bigint"), _texts("b", {"x": 1}), _numbers("d", [1.0]), rows=1)
    found = _compared(baseline, target)
    told = {name: (metric.value, metric.breached, metric.note) for name, metric in found.items()}
    assert told["missing_column", "a"] == (1.0, True, "double in the baseline")
    assert told["added_column", "d"] == (1.0, False, "double; the baseline hasn't got it")
    assert told["type_changed", "b"] == (1.0, True, "double in the baseline, string now")
    assert told["type_changed", "c"] == (0.0, False, "int in the baseline, bigint now")
    assert ("null_value_rate", "a") not in found
    assert found["null_value_rate", "d"].threshold is None
    checks = Checks(rows=1, wanted={"e": "double"}, wrong={"e": 0}, lacking=("a", "f"))
    found = _compared(baseline, target, checks)
    assert found["missing_column", "f"].note == "it is asked for, but isn't there"
    assert ("missing_column", "e") not in found
    assert _compared(baseline, target, missing_column=None)["missing_column", "a"].breached is False


def test_a_slice_tells_nothing_of_the_whole_table() -> None:
    baseline = _profile(_numbers("a", [1.0]), _numbers("b", [1.0]))
    found = _compared(baseline, _profile(_numbers("a", [1.0]), slice="JFK", window="2013-01-01T00:00:00"))
    assert {name for name, _ in found} == {"null_value_rate", "out_of_bounds_rate"}
    assert {(metric.slice, metric.window) for metric in found.values()} == {("JFK", "2013-01-01T00:00:00")}


def test_what_was_counted_in_the_rows_is_held_against_thresholds() -> None:
    checks = Checks(
        rows=200,
        failed={"late": 3, "early": 0},
        undecided={"late": 4, "early": 0},
        broken={"cast": "CAST_INVALID_INPUT"},
        wrong={"x": 30, "y": 0},
        wanted={"x": "double", "y": "int", "z": "struct<a b:int>"},
        key=("id",),
        duplicates=5,
        time_column="t",
        newest=NOW.timestamp() - 36 * 3600,
    )
    found = _compared(_numbers("x", np.arange(90.0), nulls=10), _numbers("x", np.arange(150.0), nulls=50), checks)
    told = {name: (metric.value, metric.breached, metric.note) for (name, _), metric in found.items()}
    assert told["duplicate_rate"] == (0.025, True, "5 rows beyond the first of their key 'id'")
    assert told["freshness_hours"] == (36.0, False, "by 't'")
    assert told["expectation:late"] == (0.015, True, "null for 4 rows, which count as held")
    assert told["expectation:early"] == (0.0, False, None)
    assert told["row_count_change"] == (1.0, False, "200 rows, 100 in the baseline")
    wrong = found["data_type_error_rate", "x"]
    assert (wrong.value, wrong.breached, wrong.note) == (0.2, True, "30 values are no double")
    assert found["data_type_error_rate", "y"].value == 0
    assert math.isnan(found["data_type_error_rate", "z"].value)
    assert found["data_type_error_rate", "z"].note == "struct<a b:int> can't be read as a type"
    broken = found["expectation:cast", None]
    assert math.isnan(broken.value)
    assert broken.breached
    assert "CAST_INVALID_INPUT" in str(broken.note)
    fewer = _numbers("x", [1.0, 2.0, 3.0]), _numbers("x", [1.0])
    given = _compared(*fewer, checks, freshness_hours=24, row_count_change=0.5)
    assert given["freshness_hours", None].breached
    assert (given["row_count_change", None].value, given["row_count_change", None].breached) == (
        pytest.approx(-2 / 3),
        True,
    )


def test_an_empty_table_has_no_rates() -> None:
    checks = Checks(rows=0, failed={"late": 0}, undecided={"late": 0}, key=("id",), duplicates=0, time_column="t")
    found = _compared(_numbers("x", []), _numbers("x", []), checks)
    told = {name: metric for (name, _), metric in found.items()}
    for name in ("duplicate_rate", "freshness_hours", "expectation:late", "row_count_change"):
        assert math.isnan(told[name].value)
        assert told[name].note
        assert told[name].breached is (name == "row_count_change"), "a baseline without rows is no baseline"


def test_a_table_that_has_no_rows_any_more_breaches() -> None:
    checks, sides = Checks(rows=0), (_numbers("x", [1.0, 2.0]), _numbers("x", []))
    assert _compared(*sides, checks)["row_count_change", None].breached
    assert not _compared(*sides, checks, row_count_change=2.0)["row_count_change", None].breached
    half = _compared(_numbers("x", [1.0, 2.0]), _numbers("x", [1.0]), Checks(rows=1))["row_count_change", None]
    assert (half.value, half.threshold, half.breached) == (-0.5, None, False)


def test_windows_are_held_against_the_median_of_the_others_and_gaps_are_told() -> None:
    def windows(*of: tuple[str, int]) -> list[Profile]:
        return [Profile(rows=rows, columns={}, window=window) for window, rows in of]

    limits = Thresholds({"row_count_change": 0.5}, quality.defaults())
    days = windows(("2013-02-28T00:00:00", 100), ("2013-03-01T00:00:00", 90), ("2013-03-04T00:00:00", 10))
    found = quality.row_counts([*days, *windows(("(missing)", 7))][::-1], limits, unit="day")
    assert [(metric.window, metric.value, metric.breached) for metric in found[:4]] == [
        ("2013-02-28T00:00:00", 100 / 50 - 1, True),
        ("2013-03-01T00:00:00", 90 / 55 - 1, True),
        ("2013-03-02T00:00:00", -1.0, True),
        ("2013-03-04T00:00:00", 10 / 95 - 1, True),
    ]
    assert found[2].note == "no rows until 2013-03-04T00:00:00"
    assert (found[4].window, found[4].note) == ("(missing)", "7 rows without a time")
    for unit, second, count in (("month", "2013-03-01", 2), ("quarter", "2013-05-01", 2), ("year", "2015-02-01", 3)):
        pair = windows(("2013-02-01T00:00:00", 1), (f"{second}T00:00:00", 1))
        assert len(quality.row_counts(pair, limits, unit=unit)) == count
    hours = windows(*((f"2020-10-25T0{hour}:00:00+0{ahead}:00", 1) for hour, ahead in ((2, 1), (1, 2), (2, 2))))
    put_back = quality.row_counts(hours, limits, unit="hour")  # two o'clock comes twice, first in summer's time
    assert [metric.window[11:] for metric in put_back if metric.window] == [
        "01:00:00+02:00",
        "02:00:00+02:00",
        "02:00:00+01:00",
    ]
    assert [bool(metric.note) for metric in put_back] == [True, False, True]
    (alone,) = quality.row_counts(days[:1], limits, unit="week")
    assert math.isnan(alone.value)
    assert alone.note == "there is no other window"


# What is counted in rows


@pytest.fixture(params=["true", "false"], ids=["ansi", "not ansi"])
def ansi(request: pytest.FixtureRequest, spark: SparkSession) -> Iterator[str]:
    before = spark.conf.get("spark.sql.ansi.enabled")
    spark.conf.set("spark.sql.ansi.enabled", request.param)
    yield request.param
    spark.conf.set("spark.sql.ansi.enabled", str(before))


TYPES = {
    "s": "double",
    "whole": "int",
    "wide": "float",
    "n": "double",
    "a": "array<int>",
    "st": "struct<i:int,v:date>",
    "st.v": "date",
    "m": "double",
    "r": "string",
    "flag": "boolean",
    "gone": "int",
    "x": "struct<a b:int>",
}
WRONG = {"s": 1, "whole": 2, "wide": 1, "n": 0, "a": 1, "st": 1, "st.v": 1, "m": 3, "r": 0, "flag": 1}


def _rows(spark: SparkSession) -> DataFrame:
    return spark.sql(
        """SELECT * FROM VALUES
        (1, 'a', '1.5', 1.5D, 1e300D, 1L, array('1', null), named_struct('v', '2013-01-01', 'i', 1L),
         map('x', 1), true, 1, timestamp'2013-06-01 00:00:00', 5.0D),
        (1, 'a', '1,5', 2.0D, double('NaN'), null, array('x', '2'), named_struct('v', null, 'i', 1L),
         map('x', 1), false, 0, timestamp'2013-06-02 12:00:00', double('Infinity')),
        (null, 'b', null, 3e10D, double('Infinity'), 9007199254740992L, null, named_struct('v', 'June', 'i', null),
         map('x', 1), null, 7, null, 9.0D),
        (null, 'b', ' 2 ', double('NaN'), 1.0D, 2L, array(), null, null, true, null, timestamp'2013-05-01', null)
        AS t(`i.d`, k, s, whole, wide, n, a, st, m, r, flag, t, x)"""
    )


@pytest.mark.every_kind
@pytest.mark.oldest
def test_keys_conditions_types_and_the_latest_time_are_counted_by_slice(spark: SparkSession, ansi: str) -> None:
    from pyspark.sql import functions as F

    whole, *slices = checked(
        _rows(spark),
        key=["i.d", "k"],
        time_column="t",
        expectations={"many": "`i.d` > 1", "st": "length(k) = 1 AND rand() < 2", "text": "cast(s AS int) > 0"},
        types=TYPES,
        slices=F.concat(F.lit("slice "), F.col("k")),
    )
    assert (whole.rows, whole.slice, whole.duplicates, whole.key) == (4, None, 2, ("i.d", "k"))
    assert whole.failed == {"many": 2, "st": 0} | ({} if ansi == "true" else {"text": 0})
    assert whole.undecided == {"many": 2, "st": 0} | ({} if ansi == "true" else {"text": 2})
    assert whole.broken == ({"text": "CAST_INVALID_INPUT"} if ansi == "true" else {})
    assert whole.wrong == WRONG
    assert whole.wanted == {name: kind for name, kind in TYPES.items() if name != "gone"}
    assert whole.lacking == ("gone",)
    (newest,) = spark.sql("SELECT unix_seconds(timestamp'2013-06-02 12:00:00')").collect()[0]
    assert whole.newest == newest
    assert [(one.slice, one.rows, one.duplicates) for one in slices] == [("slice a", 2, None), ("slice b", 2, None)]
    assert [one.failed["many"] for one in slices] == [2, 0]
    assert {name: sum(one.wrong[name] for one in slices) for name in WRONG} == WRONG


def test_only_what_is_computed_from_rows_breaks_an_expectation(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: Any) -> Any:
        raise RuntimeError("Job aborted due to stage failure: ExecutorLostFailure (executor 1 exited)")

    monkeypatch.setattr(rows, "_collected", lost)
    with pytest.raises(RuntimeError, match="ExecutorLostFailure"):
        checked(_rows(spark), expectations={"e": "x > 1"})


def test_a_slice_that_comes_and_goes_has_no_failures_when_it_is_gone(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = rows._collected

    def other(df: Any, asked: Any) -> Any:
        if len(asked.conditions) > 1:
            raise ValueError("[CAST_INVALID_INPUT] a value")
        return counted(df, asked) if not asked.conditions else []

    from pyspark.sql import functions as F

    monkeypatch.setattr(rows, "_collected", other)
    whole, *_ = checked(_rows(spark), expectations={"e": "x > 1", "f": "x > 2"}, slices=F.col("k"))
    assert (whole.rows, whole.failed, whole.broken) == (4, {"e": 0, "f": 0}, {})


def test_a_condition_that_fails_in_python_is_told_without_its_words(spark: SparkSession) -> None:
    def never(value: Any) -> bool:
        raise ValueError(f"[SECRET12] {value}")

    never.__module__ = "__main__"  # executors can't import this file
    spark.udf.register("never", never, "boolean")
    (whole,) = checked(_rows(spark), expectations={"e": "never(x)"})
    assert whole.broken["e"] in ("PythonException", "PYTHON_EXCEPTION")  # the second since Spark 4.2


def test_a_table_without_rows_has_none_of_anything(spark: SparkSession) -> None:
    from pyspark.sql import functions as F

    empty = _rows(spark).where("false")
    for slices in (None, F.col("k")):
        found = checked(
            empty, key=["k"], time_column="t", expectations={"e": "x > 1"}, types={"s": "int"}, slices=slices
        )
        (one,) = found
        assert (one.rows, one.failed, one.undecided, one.wrong) == (0, {"e": 0}, {"e": 0}, {"s": 0})
        assert (one.duplicates, one.newest) == (0, None)


CASTS = {
    ("bigint", "int"): ["2147483648"],
    ("bigint", "double"): ["9007199254740993", "-9223372036854775807"],
    ("int", "float"): ["16777217"],
    ("int", "double"): [],
    ("int", "bigint"): [],
    ("double", "bigint"): ["0.5", "1e300", "'Infinity'"],
    ("double", "decimal(5,2)"): ["1e10"],
    ("decimal(20,0)", "double"): [],
    ("decimal(20,1)", "int"): ["1.5", "3000000000"],
    ("decimal(20,1)", "decimal(3,1)"): ["100"],
    ("boolean", "double"): [],
    ("double", "boolean"): ["0.5"],
    ("string", "boolean"): ["'maybe'", "''"],
    ("string", "timestamp"): ["'yesterday'"],
    ("string", "binary"): [],
    ("date", "timestamp"): [],
    ("timestamp", "date"): [],
    ("date", "string"): [],
    ("date", "double"): ["'2013-01-01'"],
    ("binary", "double"): ["'1'"],
    ("array<int>", "double"): ["array(1)"],
    ("array<array<string>>", "array<array<int>>"): ["array(array('1', 'x'))"],
    ("map<string,string>", "map<string,int>"): ["map('a', 'x')"],
    ("map<string,string>", "map<int,string>"): ["map('1', 'x')"],
    ("struct<a:int>", "struct<a:int,b:int>"): [],
    ("void", "double"): [],
}
RIGHT = {
    "bigint": "1",
    "int": "-5",
    "double": "1.0",
    "decimal(20,0)": "12345678901234567891",
    "decimal(20,1)": "2.0",
    "boolean": "true",
    "string": "'2013-01-01'",
    "date": "'2013-01-01'",
    "timestamp": "'2013-01-01 01:00:00'",
}


def test_values_count_as_wrong_where_the_type_would_not_keep_them(spark: SparkSession) -> None:
    """All pairs in one table, each in a column with its wrong values, a right one where there is one, NaN and null."""
    rows = max(len(values) for values in CASTS.values()) + 3
    columns, types = [], {}
    for number, ((has, wanted), values) in enumerate(CASTS.items()):
        filled = list(values)
        if has in RIGHT and (has, wanted) not in {("string", "boolean"), ("date", "double")}:
            filled.append(RIGHT[has])
        if has == "double":
            filled.append("'NaN'")
        filled += ["NULL"] * (rows - len(filled))
        cases = " ".join(f"WHEN {place} THEN {_typed(value, has)}" for place, value in enumerate(filled))
        columns.append(f"CASE id {cases} END AS c{number}" if has != "void" else f"NULL AS c{number}")
        types[f"c{number}"] = wanted
    (found,) = checked(spark.range(rows).selectExpr(*columns), types=types)
    told = dict(zip(CASTS, found.wrong.values(), strict=True))
    assert told == {pair: len(values) for pair, values in CASTS.items()}


def _typed(value: str, has: str) -> str:
    return value if "(" in value and "<" in has else f"CAST({value} AS {has})"


def test_what_cannot_be_checked_is_refused_before_any_job(spark: SparkSession) -> None:
    rows = _rows(spark)
    refusals: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (
            aml_spark.SchemaError,
            "expectation 'e' is 'no > 1', which isn't a condition",
            {"expectations": {"e": "no > 1"}},
        ),
        (aml_spark.SchemaError, "expectation 'e'", {"expectations": {"ok": "x > 1", "e": "x >"}}),
        (aml_spark.SchemaError, "expectation 'e'", {"expectations": {"e": "n"}}),
        (aml_spark.SchemaError, "expectation 'e'", {"expectations": {"e": "avg(n) > 1"}}),
        (aml_spark.ArgumentError, r"(?s)type 'list'.*expectations=\{", {"expectations": ["x > 1"]}),
        (aml_spark.ArgumentError, r"(?s)key is the text 'k'.*key=\['k'\]", {"key": "k"}),
        (aml_spark.SchemaError, "key names 'kk'", {"key": ["kk"]}),
        (aml_spark.SchemaError, "key names 'm', whose type holds a map", {"key": ["m"]}),
        (aml_spark.SchemaError, "type string; expected a date or a timestamp", {"time_column": "s"}),
    ]
    for error, text, arguments in refusals:
        with pytest.raises(error, match=text):
            checked(rows, **arguments)


@pytest.mark.oldest
def test_the_types_of_a_model_are_those_of_its_signature() -> None:
    optional = ColSpec(DataType.integer, "maybe", required=False)
    columns = [ColSpec(DataType.double, "x"), ColSpec(DataType.datetime, "t"), ColSpec(Array(DataType.string), "a")]
    model = Model(signature=ModelSignature(inputs=Schema([*columns, optional])))
    found = {name: kind.simpleString() for name, kind in types_of(model, ["x"]).items()}
    assert found == {"x": "double", "t": "timestamp", "a": "array<string>"}
    assert types_of(model, ["maybe"])["maybe"].simpleString() == "int"
    tensors = [
        TensorSpec(np.dtype("float32"), (-1, 3), "v"),
        TensorSpec(np.dtype("uint8"), (-1,), "u"),
        TensorSpec(np.dtype("O"), (-1,), "o"),
    ]
    model = Model(signature=ModelSignature(inputs=Schema(tensors)))
    found = {name: kind.simpleString() for name, kind in types_of(model, []).items()}
    assert found == {"v": "array<float>", "u": "smallint"}
    unnamed = Model(signature=ModelSignature(inputs=Schema([TensorSpec(np.dtype("float32"), (-1, 3))])))
    assert types_of(unnamed, []) == types_of(Model(), []) == {}
