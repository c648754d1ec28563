"""Distances from all rows, Azure's own figures, and vectors, with Spark."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from aml_spark.monitoring.drift import azureml, drift, embeddings, exact
from aml_spark.monitoring.metric import Metric, Thresholds
from aml_spark.monitoring.profiles import passes
from aml_spark.monitoring.profiles.profile import Profile
from aml_spark.monitoring.quality import quality, rows

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

LIMITS = Thresholds(None, {**drift.THRESHOLDS, **quality.THRESHOLDS})


def _table(spark: SparkSession, rows: Sequence[tuple[Any, ...]], schema: str) -> DataFrame:
    return spark.createDataFrame(rows, schema)


def _columns(rows: int, shift: float, seed: int) -> list[list[float | None]]:
    """Numbers spread, in a narrow range, tied, over many magnitudes, and with all that isn't finite."""
    draw = np.random.default_rng(seed)
    odd = draw.normal(shift, 1, rows).tolist()
    odd[:8] = [None, math.nan, math.inf, -math.inf, 0.0, -0.0, 5e-324, 1e300]
    return [
        draw.normal(shift, 1, rows).tolist(),
        (1e9 + draw.normal(shift, 1, rows)).tolist(),
        draw.integers(-3, 4 + int(2 * shift), rows).astype(float).tolist(),
        (draw.lognormal(shift, 5, rows) * draw.choice([-1, 1], rows)).tolist(),
        odd,
    ]


@pytest.mark.every_kind
@pytest.mark.oldest
def test_distances_of_all_rows_are_scipys(spark: SparkSession) -> None:
    names = ["a", "b.c", "größe `1`", "d", "e"]
    schema = ", ".join(f"`{name.replace('`', '``')}` double" for name in names)
    sides = [_columns(700, 0.0, 1), _columns(450, 0.4, 2)]
    tables = [_table(spark, list(zip(*side, strict=True)), schema) for side in sides]
    profiles = [passes.profiles(df)[0] for df in tables]
    found = exact.distances(*tables, *profiles)
    assert list(found) == names
    for at, name in enumerate(names):
        pair = [np.array([v for v in side[at] if v is not None and not math.isnan(v)]) for side in sides]
        finite = [side[np.isfinite(side)] for side in pair]
        true = stats.ks_2samp(*pair, method="asymp")
        assert found[name].kolmogorov_smirnov == pytest.approx(true.statistic, abs=1e-12)
        assert found[name].wasserstein == pytest.approx(stats.wasserstein_distance(*finite), rel=1e-9)
        outside = ((finite[1] < finite[0].min()) | (finite[1] > finite[0].max())).sum()
        assert found[name].out_of_bounds == outside
        below = [(finite[0] < value).mean() + (finite[0] == value).mean() / 2 for value in finite[0]]
        bins = np.bincount(np.floor(np.array(below) * 10 + 1e-12).astype(int), minlength=10)
        assert found[name].baseline_bins.tolist() == [0, *bins.tolist(), 0]
        assert found[name].target_bins.sum() == len(finite[1])
    metrics = drift.compared(*profiles, LIMITS, exact=found)
    told = {(metric.column, metric.metric): metric for metric in metrics}
    assert all(metric.bound == 0 for metric in metrics)
    true = stats.ks_2samp(sides[0][1], sides[1][1], method="asymp")
    assert told["b.c", "two_sample_kolmogorov_smirnov_test"].value == pytest.approx(true.pvalue, abs=1e-9)
    assert 0.1 < told["b.c", "jensen_shannon_distance"].value < 0.2


def test_columns_without_numbers_and_rows_that_changed_have_no_exact_distances(spark: SparkSession) -> None:
    schema = "s struct<x: int>, nothing int, text string"
    one = _table(spark, [((1,), None, "a"), ((2,), None, "b")], schema)
    two = _table(spark, [((2,), 3, "a"), ((4,), 4, "b")], schema)
    profiles = passes.profiles(one)[0], passes.profiles(two)[0]
    found = exact.distances(one, two, *profiles)
    assert {name: told.kolmogorov_smirnov for name, told in found.items()} == {"s.x": 0.5}
    assert exact.distances(one, two.limit(1), *profiles) == {}
    assert exact.distances(one, two, Profile(rows=0, columns={}), profiles[1]) == {}


def test_a_field_beside_a_column_of_its_name_has_distances_and_types_of_its_own(spark: SparkSession) -> None:
    schema = "a struct<b: double>, `a.b` double, c double"
    one = _table(spark, [((float(row),), float(-row), 0.0) for row in range(40)], schema)
    two = _table(spark, [((float(row + 20),), float(-row), 0.0) for row in range(40)], schema)
    profiles = passes.profiles(one)[0], passes.profiles(two)[0]
    found = exact.distances(one, two, *profiles)
    assert {name: told.wasserstein for name, told in found.items()} == {"`a`.`b`": 20.0, "a.b": 0.0, "c": 0.0}
    wanted = {name: "tinyint" if name == "a.b" else "date" for name in ("`a`.`b`", "a.b")}
    (checks,) = rows.checked(two, types=wanted)
    assert (checks.wrong, checks.lacking) == ({"`a`.`b`": 40, "a.b": 0}, ())
    vectors = _table(spark, [(([1.0, 2.0],), [3.0])], "a struct<b: array<double>>, `a.b` array<double>")
    sampled = embeddings._sampled(vectors, ["`a`.`b`", "a.b"], 0).collect()
    assert sorted((row["c"], row["v"]) for row in sampled) == [(0, [1.0, 2.0]), (1, [3.0])]


# Azure's own figures, stated once more


def _histogram(values: np.ndarray[Any, Any], low: float, high: float, bins: int) -> list[int]:
    """What `RDD.histogram` counts in Azure's edges."""
    import bisect

    edges = [low, *(low + number * ((high - low) / bins) for number in range(1, bins + 1))]
    steps = np.diff(edges)
    counts = [0] * (bins + 1)
    for value in values:
        if value <= edges[-1]:
            even = steps.max() - steps.min() < 1e-10
            at = int((value - low) / ((edges[-1] - low) / bins)) if even else bisect.bisect_right(edges, value) - 1
            counts[at] += 1
    return [*counts[:-2], counts[-2] + counts[-1]]


def _smoothed(counts: Sequence[int]) -> np.ndarray[Any, Any]:
    return (np.array(counts) + 1) / (sum(counts) + len(counts))


def _stability(one: Sequence[int], two: Sequence[int]) -> float:
    p, q = _smoothed(one), _smoothed(two)
    return float(((q - p) * np.log(q / p)).sum())


def _azures_numbers(one: np.ndarray[Any, Any], two: np.ndarray[Any, Any]) -> dict[str, float]:
    low, high = min(one.min(), two.min()), max(one.max(), two.max())
    bins = math.ceil(math.log2(min(len(one), len(two))) + 1)
    counts = [_histogram(side, low, high, bins) for side in (one, two)]
    return {
        "jensen_shannon_distance": distance.jensenshannon(*counts, base=2),
        "population_stability_index": _stability(*counts),
        "normalized_wasserstein_distance": stats.wasserstein_distance(one, two) / max(one.std(ddof=1), 0.001),
        "two_sample_kolmogorov_smirnov_test": stats.ks_2samp(one, two).pvalue,
    }


def _azures_categories(one: Sequence[str], two: Sequence[str]) -> dict[str, float]:
    names = sorted({*one, *two})
    counts = [[side.count(name) for name in names] for side in (list(one), list(two))]
    expected = np.array(counts[0]) / len(one) * len(two)
    p_value = 0.0 if not expected.all() else stats.chisquare(counts[1], expected).pvalue
    return {
        "jensen_shannon_distance": distance.jensenshannon(*counts, base=2),
        "population_stability_index": _stability(*counts),
        "pearsons_chi_squared_test": p_value,
    }


def _by_column(metrics: Sequence[Metric], signal: str) -> dict[str, dict[str, Metric]]:
    found: dict[str, dict[str, Metric]] = {}
    for metric in metrics:
        if metric.signal == signal:
            found.setdefault(metric.column or "", {})[metric.metric] = metric
    return found


SCHEMA = "x double, wide double, few int, many bigint, day date, `te.xt` string, flag boolean"


def _rows(rows: int, shift: float, seed: int, values: str) -> list[tuple[Any, ...]]:
    draw = np.random.default_rng(seed)
    return [
        (
            None if at % 29 == 3 else math.nan if at % 31 == 4 else float(draw.normal(shift)),
            float(draw.lognormal(shift, 4)),
            int(draw.integers(0, 5)),
            int(draw.integers(0, 10**6)),
            datetime.date(2020, 1, 1 + int(draw.integers(0, 3))),
            None if at % 17 == 5 else str(draw.choice(list(values))),
            None if at % 13 == 6 else bool(draw.random() < 0.3 + shift),
        )
        for at in range(rows)
    ]


@pytest.mark.every_kind
@pytest.mark.oldest
def test_azures_figures_are_its_definitions(spark: SparkSession) -> None:
    sides = [_rows(400, 0.0, 1, "abcd"), _rows(300, 0.3, 2, "abde")]
    names = ["x", "wide", "few", "many", "day", "te.xt", "flag"]
    tables = [_table(spark, side, SCHEMA) for side in sides]
    metrics = azureml.compared(*tables, LIMITS, columns=names)
    found = _by_column(metrics, "drift")
    clean = [
        [row for row in side if not any(v is None or (isinstance(v, float) and math.isnan(v)) for v in row)]
        for side in sides
    ]
    for at, name in enumerate(names):
        one, two = ([row[at] for row in side] for side in clean)
        if name in ("x", "wide", "many"):
            expected = _azures_numbers(np.array(one, dtype=float), np.array(two, dtype=float))
        else:
            expected = _azures_categories([str(v) for v in one], [str(v) for v in two])
        assert {metric: told.value for metric, told in found[name].items()} == pytest.approx(expected, abs=1e-9), name
        for told in found[name].values():
            limit = told.threshold
            below = told.metric in ("two_sample_kolmogorov_smirnov_test", "pearsons_chi_squared_test")
            assert told.breached is (limit is not None and (told.value < limit if below else told.value > limit))
    rates = _by_column(metrics, "quality")
    for at, name in enumerate(names):
        one, two = (
            [None if isinstance(v, float) and math.isnan(v) else v for v in (row[at] for row in side)] for side in sides
        )
        nulls = [side.count(None) for side in (one, two)]
        told = rates[name]["null_value_rate"]
        assert told.value == round(nulls[1] / 300, 5)
        assert told.threshold == round(nulls[0] / 400, 5)
        errors = nulls[1] if name == "flag" else 0
        assert rates[name]["data_type_error_rate"].value == round(errors / 300, 5)
        if name in ("flag", "day"):
            assert "out_of_bounds_rate" not in rates[name]
        else:
            known = [v for v in one if v is not None]
            new = [v for v in two if v is not None]
            outside = (
                sum(v not in known for v in new)
                if name == "te.xt"
                else sum(not min(known) <= v <= max(known) for v in new)
            )
            if name == "te.xt" and max(set(new), key=new.count) not in known:
                outside += nulls[1]
            assert rates[name]["out_of_bounds_rate"].value == round(outside / 300, 5)


def test_what_azure_cannot_compare_is_nan_with_the_reason(spark: SparkSession) -> None:
    one = _table(spark, [(1, 1.0, 1.0, 7.0, "a")] * 3, "gone int, changed double, far double, same double, t string")
    two = _table(spark, [("1", math.inf, 7.0, "a", 2)], "changed string, far double, same double, t string, new int")
    columns = ["gone", "changed", "far", "same", "t", "new"]
    told = _by_column(azureml.compared(one, two, LIMITS, columns=columns), "drift")
    assert told["gone"]["jensen_shannon_distance"].note == "the target has no such column"
    assert told["new"]["jensen_shannon_distance"].note == "the baseline has no such column"
    assert told["changed"]["jensen_shannon_distance"].note == "its type changed from double to string"
    assert told["far"]["jensen_shannon_distance"].note is not None
    assert "infinities in the target" in told["far"]["jensen_shannon_distance"].note
    assert told["same"]["jensen_shannon_distance"].value == 0
    assert told["same"]["normalized_wasserstein_distance"].value == 0
    assert told["t"]["pearsons_chi_squared_test"].note == "it has one value only"
    empty = azureml.compared(one.select("far", "t").limit(0), two, LIMITS, columns=["far", "t"])
    for metric in empty:
        assert metric.signal == "quality" or (math.isnan(metric.value) and metric.note)
        assert not metric.breached


def test_from_ten_thousand_rows_on_the_p_value_is_asymptotic(spark: SparkSession) -> None:
    one = spark.range(10_000).selectExpr("CAST(id * id % 10007 AS double) x")
    two = spark.range(500).selectExpr("CAST(id * 19 AS double) x")
    told = _by_column(azureml.compared(one, two, LIMITS, columns=["x"]), "drift")["x"]
    values = [np.arange(10_000) ** 2 % 10007, np.arange(500) * 19]
    found = told["two_sample_kolmogorov_smirnov_test"]
    assert found.value == pytest.approx(stats.ks_2samp(*values, method="asymp").pvalue, abs=1e-9)
    assert found.note == "asymptotic: Azure Machine Learning refuses 10000 rows and more"


# Vectors


@pytest.mark.every_kind
@pytest.mark.oldest
def test_a_classifier_tells_vectors_apart_that_have_moved(spark: SparkSession) -> None:
    draw = np.random.default_rng(0)

    def table(rows: int, shift: float) -> DataFrame:
        moved, same = draw.normal(shift, 1, (rows, 5)), draw.normal(size=(rows, 5))
        odd = [([1.0], [1.0]), (None, [None, *[0.0] * 4]), ([math.nan] * 5, None)]
        return _table(
            spark, [*odd, *zip(moved.tolist(), same.tolist(), strict=True)], "`mo.ved` array<double>, same array<float>"
        )

    told = embeddings.separability(table(900, 0.0), table(700, 0.6), ["mo.ved", "same"])
    assert 0.75 < told["mo.ved"].roc_auc < 0.9  # Φ(0.6 √5 / √2) is 0.83
    assert abs(told["same"].roc_auc - 0.5) < 4 * told["same"].standard_error
    assert (told["same"].baseline > 400, told["same"].target > 300) == (True, True)


def test_a_vector_that_most_rows_have_does_not_fill_the_sample(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "SAMPLE", 50)
    vectors = [([0.0, 0.0],)] * 300 + [([float(row), 1.0],) for row in range(60)]
    sampled = embeddings._sampled(_table(spark, vectors, "v array<double>"), ["v"], 0).collect()
    found = [tuple(row["v"]) for row in sampled]
    assert len(set(found)) == len(found) > 5


def test_of_too_few_vectors_nothing_is_told(spark: SparkSession) -> None:
    few = _table(spark, [([1.0, 2.0], None)] * 3, "v array<double>, nothing array<double>")
    told = embeddings.separability(few, few, ["v", "nothing"])
    assert all(math.isnan(one.roc_auc) and one.note for one in told.values())
    assert embeddings.separability(few, few, []) == {}
