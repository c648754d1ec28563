"""What is said of two profiles' columns, without Spark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from aml_spark.monitoring.drift import bins, distances, drift
from aml_spark.monitoring.drift.embeddings import Separability
from aml_spark.monitoring.metric import Metric, Thresholds
from aml_spark.monitoring.profiles.frequencies import Frequencies
from aml_spark.monitoring.profiles.histogram import Histogram, code_of, joined
from aml_spark.monitoring.profiles.profile import Centroid, Column, Profile

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis isn't installed with the oldest versions")
given, st = hypothesis.given, hypothesis.strategies

DEFAULTS = Thresholds(None, drift.THRESHOLDS)


def _numeric(values: Any, name: str = "x", **more: Any) -> Column:
    numbers = np.asarray(values, dtype=float)
    finite = numbers[np.isfinite(numbers)]
    about = {
        "name": name,
        "type": "double",
        "kind": "numeric",
        "rows": len(numbers),
        "nans": int(np.isnan(numbers).sum()),
        "positive_infinities": int((numbers == np.inf).sum()),
        "negative_infinities": int((numbers == -np.inf).sum()),
        "mean": float(finite.mean()) if len(finite) else math.nan,
        "m2": float(finite.var() * len(finite)) if len(finite) else 0.0,
        "histogram": Histogram.of(finite),
    }
    return Column(**{**about, **more})


def _text(values: Any, name: str = "x") -> Column:
    texts = np.asarray(values).astype(str)
    different, counts = np.unique(texts, return_counts=True)
    lengths = np.char.str_len(texts)
    order = np.argsort(-counts, kind="stable")[:1000]
    kept = {str(different[at]): int(counts[at]) for at in order}
    return Column(
        name=name,
        type="string",
        kind="text",
        rows=len(texts),
        mean=float(lengths.mean()),
        m2=float(lengths.var() * len(texts)),
        histogram=Histogram.of(lengths),
        frequencies=Frequencies(
            counts=kept, rest=len(texts) - sum(kept.values()), distinct=len(different), most_missed=0
        ),
    )


def _profile(*columns: Column, **more: Any) -> Profile:
    return Profile(rows=columns[0].rows if columns else 0, columns={one.name: one for one in columns}, **more)


def _told(one: Column, two: Column, thresholds: Thresholds = DEFAULTS, **more: Any) -> dict[str, Metric]:
    return {metric.metric: metric for metric in drift.compared(_profile(one), _profile(two), thresholds, **more)}


# Distances of counts

counts = st.lists(st.integers(0, 1000), min_size=1, max_size=30)
pairs = counts.flatmap(
    lambda one: st.tuples(st.just(one), st.lists(st.integers(0, 1000), min_size=len(one), max_size=len(one)))
)
DISTANCES: Sequence[Callable[[Any, Any], float]] = (
    distances.jensen_shannon,
    distances.population_stability,
    distances.hellinger,
    distances.infinity_norm,
    distances.cramers_v,
)


@given(pairs)
def test_distances_of_counts_are_symmetric_and_bounded(pair: tuple[list[int], list[int]]) -> None:
    one, two = pair
    for measure in DISTANCES:
        value = measure(one, two)
        if sum(one) and sum(two):
            assert value == pytest.approx(measure(two, one), abs=1e-12)
            assert 0 <= value <= (math.inf if measure is distances.population_stability else 1 + 1e-12)
            assert measure(one, one) == 0
        else:
            assert math.isnan(value)


@given(pairs)
def test_distances_of_counts_are_scipys(pair: tuple[list[int], list[int]]) -> None:
    one, two = pair
    if not sum(one) or not sum(two):
        return
    assert distances.jensen_shannon(one, two) == pytest.approx(distance.jensenshannon(one, two, base=2), abs=1e-7)
    table = np.array([one, two])[:, (np.array(one) + two) > 0]
    if table.shape[1] > 1:
        assert distances.chi_squared_p(one, two) == pytest.approx(
            stats.chi2_contingency(table, correction=False).pvalue, abs=1e-9
        )
        alike = np.array([table[0] * table[1].sum(), table[1] * table[0].sum()])
        assert distances.cramers_v(one, two) == pytest.approx(stats.contingency.association(alike), abs=1e-9)


def test_far_distributions_are_as_far_as_can_be() -> None:
    one, two = [5, 0], [0, 7]
    assert [measure(one, two) for measure in DISTANCES if measure is not distances.population_stability] == [1.0] * 4


@pytest.mark.parametrize("baseline", [[-3, 5, 5], [0, 0, 0], [0, 5, 0], []])
def test_negative_and_zero_counts_are_no_rows_and_raise_no_warning(baseline: list[int]) -> None:
    target = [1, 2, 3][: len(baseline)]
    told = [measure(baseline, target) for measure in (*DISTANCES, distances.chi_squared_p)]
    assert all(math.isnan(value) for value in told) is (sum(max(count, 0) for count in baseline) == 0)
    assert told == pytest.approx(
        [measure([max(count, 0) for count in baseline], target) for measure in (*DISTANCES, distances.chi_squared_p)],
        nan_ok=True,
    )


# Distances of histograms


def _greatest(one: Any, two: Any) -> float:
    """The Kolmogorov-Smirnov distance; `ks_2samp` gives no p-value of a single number, and warns of it."""
    both = np.concatenate([one, two])
    ends = [np.searchsorted(np.sort(side), both, side="right") / len(side) for side in (one, two)]
    return float(np.abs(ends[0] - ends[1]).max())


numbers = st.lists(
    st.one_of(st.integers(-5, 5).map(float), st.floats(-1e6, 1e6, allow_nan=False)), min_size=1, max_size=60
)


@given(numbers, numbers, st.integers(0, 12))
def test_distances_of_histograms_are_scipys_within_their_bound(one: list[float], two: list[float], level: int) -> None:
    first, second = Histogram.of(one, level=level), Histogram.of(two)
    value, bound = distances.kolmogorov_smirnov(first, second)
    assert value - 1e-12 <= _greatest(one, two) <= value + bound + 1e-12
    moved, moved_bound = distances.wasserstein(first, second)
    true = stats.wasserstein_distance(one, two)
    assert abs(moved - true) <= moved_bound + 1e-9 * max(1.0, true)
    assert distances.kolmogorov_smirnov(first, first)[0] == 0
    assert distances.wasserstein(first, first)[0] == 0
    assert distances.kolmogorov_smirnov(second, first) == pytest.approx((value, bound))


@given(numbers, numbers)
def test_of_buckets_with_one_number_each_all_is_exact(one: list[float], two: list[float]) -> None:
    one, two = [round(number) % 50 for number in one], [round(number) % 50 for number in two]
    value, bound = distances.kolmogorov_smirnov(Histogram.of(one), Histogram.of(two))
    assert (value, bound) == (pytest.approx(_greatest(one, two), abs=1e-12), 0)
    assert distances.wasserstein(Histogram.of(one), Histogram.of(two))[1] == 0


def test_infinities_are_at_the_ends() -> None:
    one, two = [1.0, 2.0, math.inf, -math.inf], [1.0, 2.0, 3.0, -math.inf, -math.inf]
    value, bound = distances.kolmogorov_smirnov(
        Histogram.of(one[:2]), Histogram.of(two[:3]), negative_infinities=(1, 2), positive_infinities=(1, 0)
    )
    assert (value, bound) == (pytest.approx(_greatest(one, two)), 0)


def test_numbers_too_great_to_be_added_up_have_no_wasserstein_distance() -> None:
    far = Histogram.of([-1.7e308, 1.7e308])
    assert math.isnan(distances.wasserstein(far, Histogram.of([1.7e308]))[0])


@pytest.mark.parametrize(("n", "m"), [(5, 7), (30, 30), (300, 10_000), (30_000, 20_000)])
def test_the_p_value_is_scipys_asymptotic_one(n: int, m: int) -> None:
    draw = np.random.default_rng(n)
    one, two = draw.normal(size=n), draw.normal(0.1, 1.1, size=m)
    true = stats.ks_2samp(one, two, method="asymp")
    assert distances.kolmogorov_smirnov_p(true.statistic, n, m) == pytest.approx(true.pvalue, abs=1e-9)


# Bins


def test_bins_of_a_baseline_are_of_about_equal_frequency() -> None:
    column = _numeric(np.random.default_rng(0).lognormal(size=20_000))
    counts, _ = bins.of_numbers(column, column)
    assert len(counts[5:-1]) == distances.MOST_BINS
    assert counts.sum() == 20_000
    assert counts[5:-1] == pytest.approx([2000] * 10, rel=0.02)


def test_bins_hold_what_is_missing_infinite_and_out_of_range_apart() -> None:
    baseline = _numeric([*np.linspace(1, 2, 2000), math.nan, math.inf])
    target = _numeric([0.5, 0.6, 3.0, *[math.nan] * 4, *[-math.inf] * 5, *[math.inf] * 6, 1.5])
    counts = bins.of_numbers(baseline, target)
    assert counts[0][:5].tolist() == [1, 0, 1, 0, 0]
    assert counts[1][:5].tolist() == [4, 5, 6, 0, 2]
    assert (counts[1][-1], counts[1].sum()) == (1, 19)


def test_few_numbers_have_a_bin_each_and_one_for_what_is_between() -> None:
    counts = bins.of_numbers(_numeric([0, 1, 5] * 400), _numeric([0, 0.5, 2, 5, 5, 7, -1]))
    assert [side.tolist() for side in counts] == [[0, 0, 0, 0, 0, 400, 400, 400, 0], [0, 0, 0, 2, 1, 1, 0, 2, 1]]


@given(st.lists(st.floats(-1e3, 1e3, allow_nan=False), min_size=30, max_size=90), numbers)
def test_every_row_is_in_one_bin(one: list[float], two: list[float]) -> None:
    counts = bins.of_numbers(_numeric(one), _numeric([*two, math.nan]))
    assert (counts[0].sum(), counts[1].sum()) == (len(one), len(two) + 1)
    assert len(counts[0]) == len(counts[1])


def test_jensen_shannon_of_a_column_is_scipys_on_the_same_bins() -> None:
    draw = np.random.default_rng(1)
    one, two = draw.normal(size=5000), draw.normal(0.3, 1.2, size=4000)
    found = _told(_numeric(one), _numeric(two))["jensen_shannon_distance"]
    codes = np.sort(code_of(one))
    level = max(Histogram.of(side).level for side in (one, two))
    buckets = np.unique(joined(codes, level), return_counts=True)
    middles = (np.cumsum(buckets[1]) - buckets[1] / 2) / len(one)
    starts = [buckets[0][np.argmax(np.floor(middles * 10) >= number)] for number in range(10)]
    edges = [-np.inf, *starts, buckets[0][-1] + 1, np.inf]
    sides = [np.histogram(joined(code_of(side), level), edges)[0] for side in (one, two)]
    assert found.value == pytest.approx(distance.jensenshannon(*sides, base=2), abs=1e-12)
    assert found.breached


# What breaches

DRAWN: Sequence[Callable[[np.random.Generator, int], Any]] = (
    lambda draw, rows: draw.normal(size=rows),
    lambda draw, rows: draw.exponential(size=rows),
    lambda draw, rows: draw.integers(0, 5, rows),
    lambda draw, rows: draw.random(rows) < 0.03,
    lambda draw, rows: draw.lognormal(sigma=3, size=rows),
    lambda draw, rows: np.where(draw.random(rows) < 0.2, np.nan, draw.uniform(size=rows)),
    lambda draw, rows: draw.integers(0, 1000, rows),
    lambda draw, rows: draw.poisson(30, rows),
)
TEXTS: Sequence[Callable[[np.random.Generator, int], Any]] = (
    lambda draw, rows: draw.choice(list("abcdefghij"), rows),
    lambda draw, rows: draw.zipf(1.5, rows) % 3000,
)


@pytest.mark.parametrize(("n", "m"), [(30, 30), (300, 300), (30_000, 300), (30_000, 30_000)])
def test_of_five_hundred_columns_without_drift_none_breaches(n: int, m: int) -> None:
    draw = np.random.default_rng(0)
    sides: tuple[list[Column], list[Column]] = ([], [])
    for number in range(500 if n < 30_000 else 100):
        kind = number % 10
        make, of = (_numeric, DRAWN[kind]) if kind < 8 else (_text, TEXTS[kind - 8])
        for side, rows in zip(sides, (n, m), strict=True):
            side.append(make(of(draw, rows), str(number)))
    above_chance = Thresholds({name: 0.0 for name in drift.THRESHOLDS if not name.endswith("test")}, drift.THRESHOLDS)
    found = drift.compared(_profile(*sides[0]), _profile(*sides[1]), above_chance)
    assert sum(metric.breached for metric in found) <= 1
    assert all(metric.value <= 0.11 for metric in found if metric.breached)  # not by default


@pytest.mark.parametrize("rows", [300, 30_000])
def test_a_shift_breaches(rows: int) -> None:
    draw = np.random.default_rng(3)
    told = _told(_numeric(draw.normal(size=rows)), _numeric(draw.normal(1, size=rows)))
    assert {name for name, metric in told.items() if metric.breached} == {
        "jensen_shannon_distance",
        "kolmogorov_smirnov_distance",
        "two_sample_kolmogorov_smirnov_test",
    }
    told = _told(_text(draw.choice(list("abc"), rows)), _text(draw.choice(list("abc"), rows, p=[0.8, 0.1, 0.1])))
    assert {name for name, metric in told.items() if metric.breached} == {
        "jensen_shannon_distance",
        "cramers_v",
        "pearsons_chi_squared_test",
    }


def test_a_new_value_breaches() -> None:
    told = _told(_text(["a", "b"] * 500), _text(["a", "b"] * 400 + ["new"] * 200))
    assert told["jensen_shannon_distance"].breached


def test_missing_rows_breach() -> None:
    numbers = np.random.default_rng(0).normal(size=3000)
    told = _told(_numeric(numbers), _numeric(np.where(np.arange(3000) % 3 == 0, np.nan, numbers)))
    assert told["jensen_shannon_distance"].breached


def test_with_ten_million_rows_a_shift_that_is_nothing_breaches_by_no_p_value() -> None:
    values = np.arange(1.0, 101.0)

    def column(counts: Any) -> Column:
        counts = np.asarray(counts, dtype=np.int64)
        mean = float((values * counts).sum() / counts.sum())
        histogram = Histogram(level=0, codes=code_of(values), counts=counts, lows=values, highs=values, means=values)
        m2 = float((counts * (values - mean) ** 2).sum())
        return _numeric([], rows=int(counts.sum()), mean=mean, m2=m2, histogram=histogram)

    told = _told(column([100_000] * 100), column([101_000] * 50 + [99_000] * 50))
    test = told["two_sample_kolmogorov_smirnov_test"]
    assert test.value < 1e-9
    assert test.note is not None
    assert "the effect is small: kolmogorov_smirnov_distance is 0.005" in test.note
    assert not any(metric.breached for metric in told.values())
    alone = _told(
        column([100_000] * 100),
        column([101_000] * 50 + [99_000] * 50),
        Thresholds({"kolmogorov_smirnov_distance": None}, drift.THRESHOLDS),
    )
    assert alone["two_sample_kolmogorov_smirnov_test"].breached  # nobody asks for an effect


def test_where_rows_are_too_few_to_tell_a_note_says_so() -> None:
    assert not any(metric.breached for metric in _told(_numeric([1.0]), _numeric([2.0])).values())
    told = _told(_numeric([1.0] * 5), _numeric([1.0] * 4 + [2.0]))
    found = told["jensen_shannon_distance"]
    assert not any(metric.breached for metric in told.values())
    assert found.note is not None
    assert found.note.startswith("so few rows make up to")


def test_p_values_are_corrected_by_holms_method() -> None:
    draw = np.random.default_rng(5)
    one = [_numeric(draw.normal(size=60), str(number)) for number in range(40)]
    two = [_numeric(draw.normal(size=60), str(number)) for number in range(40)]
    metrics = drift.compared(_profile(*one), _profile(*two), DEFAULTS)
    p_values = {m.column: m for m in metrics if m.metric == "two_sample_kolmogorov_smirnov_test"}
    least = min(p_values.values(), key=lambda metric: metric.value)
    assert least.value < 0.05
    assert not any(metric.breached for metric in p_values.values())
    assert least.note is not None
    assert float(least.note.split()[0]) >= min(40 * least.value, 1)


# What can't be compared


def test_what_cannot_be_compared_is_nan_with_the_reason() -> None:
    unsupported = {"type": "map<string,int>", "kind": "unsupported", "histogram": Histogram.empty()}
    baseline = _profile(
        _numeric([1, 2], "gone"),
        _numeric([1, 2], "changed"),
        _numeric([1, 2], "when", kind="time", type="date"),
        _numeric([1, 2], "null"),
        _numeric([1, 2], "infinite"),
        _numeric([], "map", rows=2, note="maps aren't compared", **unsupported),
    )
    target = _profile(
        _text(["a", "b"], "changed"),
        _numeric([1, 2], "when", kind="time", type="date"),
        _numeric([math.nan, math.nan], "null"),
        _numeric([math.inf, math.inf], "infinite"),
        _numeric([], "map", rows=2, **unsupported),
        _numeric([1, 2], "new"),
        slice="s",
        window="2013-01-01",
    )
    metrics = drift.compared(baseline, target, DEFAULTS)
    assert {metric.column: metric.note for metric in metrics} == {
        "gone": "the target has no such column",
        "changed": "its type changed from double to string",
        "when": "times move on by themselves",
        "null": "it has no value in the target",
        "infinite": "it has no finite number in the target",
        "map": "maps aren't compared",
        "new": "the baseline has no such column",
    }
    assert all(math.isnan(metric.value) and not metric.breached for metric in metrics)
    assert {(metric.slice, metric.window) for metric in metrics} == {("s", "2013-01-01")}


def test_a_table_without_rows_is_nan_with_the_reason() -> None:
    (found,) = drift.compared(_profile(_numeric([])), _profile(_numeric([1.0])), DEFAULTS)
    assert (math.isnan(found.value), found.note) == (True, "the baseline has no rows")


def test_a_constant_column_is_told_by_its_bins() -> None:
    same = _told(_numeric([7.0] * 50), _numeric([7.0] * 80))
    assert same["jensen_shannon_distance"].value == 0
    assert same["normalized_wasserstein_distance"].note == "the baseline is constant"
    other = _told(_numeric([7.0] * 5000), _numeric([8.0] * 5000))
    assert other["jensen_shannon_distance"].value == pytest.approx(1)
    assert other["jensen_shannon_distance"].breached


def test_where_the_buckets_are_too_wide_a_note_says_so() -> None:
    draw = np.random.default_rng(0)
    told = _told(_numeric(1e9 + draw.normal(size=500)), _numeric(1e9 + draw.normal(3, size=500)))
    found = told["jensen_shannon_distance"]
    assert found.note is not None
    assert "exact=True tells them apart" in found.note
    assert told["kolmogorov_smirnov_distance"].bound > 0.5


def test_free_text_is_compared_by_its_lengths() -> None:
    one, two = (_text([f"{number:0{width}d}" for number in range(2000)]) for width in (6, 9))
    told = _told(one, two)
    found = told["jensen_shannon_distance"]
    assert found.note is not None
    assert found.note.startswith("by its lengths: it has 2000 different values")
    assert found.breached
    assert "pearsons_chi_squared_test" not in told
    assert not any(metric.breached for metric in _told(one, one).values())


# Vectors


def _vectors(values: Any) -> Column:
    array = np.asarray(values, dtype=float)
    norms = np.linalg.norm(array, axis=1)
    centroid = Centroid(dimension=array.shape[1], others=0, count=len(array), mean=array.mean(axis=0))
    return _numeric(norms, kind="embedding", type="array<float>", centroid=centroid)


def test_vectors_are_compared_by_centroid_norms_and_classifier() -> None:
    draw = np.random.default_rng(0)
    one, two = draw.normal(size=(1000, 8)), draw.normal(0.3, size=(800, 8))
    separable = {"x": Separability(roc_auc=0.8, standard_error=0.01, baseline=500, target=400)}
    told = _told(_vectors(one), _vectors(two), separability=separable)
    apart = np.linalg.norm(one.mean(axis=0) - two.mean(axis=0))
    spread = np.sqrt(((one - one.mean(axis=0)) ** 2).sum(axis=1).mean())
    assert told["centroid_distance"].value == pytest.approx(apart / spread)
    assert told["centroid_distance"].breached
    assert told["domain_classifier_roc_auc"].breached
    assert told["jensen_shannon_distance"].note == "of the vectors' norms; so few rows make up to 0.11 by chance"
    same = _told(_vectors(one), _vectors(draw.normal(size=(800, 8))))
    assert not any(metric.breached for metric in same.values())
    guess = {"x": Separability(roc_auc=1.0, standard_error=0.0, baseline=2, target=2)}
    assert not _told(_vectors(one), _vectors(one), separability=guess)["domain_classifier_roc_auc"].breached


def test_vectors_of_another_dimension_are_not_compared() -> None:
    draw = np.random.default_rng(0)
    told = _told(_vectors(draw.normal(size=(50, 3))), _vectors(draw.normal(size=(50, 4))))
    assert told["jensen_shannon_distance"].note == "its vectors have 3 numbers in the baseline and 4 in the target"
    assert set(told) == {"jensen_shannon_distance"}


# Weights


def _distance(column: str, value: float, breached: bool = False) -> Metric:
    return Metric(signal="drift", metric="jensen_shannon_distance", value=value, column=column, breached=breached)


def test_weighted_drift_is_the_weighted_mean_of_what_can_be_told() -> None:
    metrics = [_distance("a", 0.4, True), _distance("b", 0.1), _distance("c", math.nan), _distance("d", 0.9)]
    found = drift.weighted(metrics, {"a": 3, "b": 1, "c": 5, "d": 0, "e": -1, "f": math.nan}, 0.1)
    assert found.value == pytest.approx((3 * 0.4 + 0.1) / 4)
    assert found.breached
    assert found.note == "without 1 columns of importance that can't be compared"


def test_weighted_drift_breaches_only_where_a_column_that_matters_does() -> None:
    metrics = [_distance("a", 0.4), _distance("d", 0.9, True)]
    assert not drift.weighted(metrics, {"a": 1.0}, 0.1).breached
    assert not drift.weighted(metrics, {"a": 1.0, "d": 1.0}).breached  # nothing to hold it against
    nothing = drift.weighted(metrics, {"z": 1.0}, 0.1)
    assert (math.isnan(nothing.value), nothing.breached) == (True, False)
    assert nothing.note == "no column has both a distance and an importance"


@pytest.mark.parametrize("scaled", [0.4, 0.9, 1.4, 3.0, 4.5])
def test_beyond_many_values_a_p_value_is_still_scipys_to_six_digits(scaled: float) -> None:
    each = 2 * distances.MOST_STEPS + 2  # of two such tables half as many count
    apart = scaled / math.sqrt(each / 2)
    wanted = stats.kstwo.sf(apart, each // 2)
    assert distances.kolmogorov_smirnov_p(apart, each, each) == pytest.approx(wanted, abs=3e-7)
