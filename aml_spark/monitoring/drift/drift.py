"""Which columns drifted, from two profiles.

| kind | decides | only shown, unless a threshold is given |
|---|---|---|
| numbers | Jensen-Shannon distance, Kolmogorov-Smirnov distance and test | PSI, Hellinger, Wasserstein |
| texts, booleans | Jensen-Shannon distance, Cramér's V and chi-square test | PSI, Hellinger, infinity norm |
| free text, by its lengths | as numbers | as numbers |
| vectors | centroids, norms as numbers, domain classifier where it is given | |
| dates and timestamps | nothing: time moves on by itself; quality holds their range | |

Numbers stand in bins of about equal frequency in the baseline, with bins of their own for missing values, infinities,
and what lies below or above. Their edges lie between the histogram's buckets, so the counts are exact.

A distance breaches above its threshold if it is above what chance makes of so many rows, too. A test breaches where its
p-value is below its threshold and the distance that it tests is at least at its own: with millions of rows a test says
no more than that two tables differ at all. Both are asked of all columns together. The p-values are corrected by Holm's
method (Scandinavian Journal of Statistics 1979), since it holds however columns hang together, and the same share of
`FALSE_ALARMS` goes to each column for the distances (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aml_spark.monitoring.drift import bins, distances
from aml_spark.monitoring.figures import number
from aml_spark.monitoring.metric import Metric, Thresholds
from aml_spark.monitoring.profiles.frequencies import Frequencies
from aml_spark.monitoring.profiles.profile import Column, Profile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aml_spark.monitoring.drift.embeddings import Separability
    from aml_spark.monitoring.drift.exact import ExactDistances

THRESHOLDS: Mapping[str, float | None] = {
    "jensen_shannon_distance": 0.1,
    "population_stability_index": None,
    "normalized_wasserstein_distance": None,
    "two_sample_kolmogorov_smirnov_test": 0.05,
    "kolmogorov_smirnov_distance": 0.1,
    "pearsons_chi_squared_test": 0.05,
    "cramers_v": 0.1,
    "hellinger_distance": None,
    "infinity_norm": None,
    "centroid_distance": 0.1,
    "domain_classifier_roc_auc": 0.55,
    "weighted_drift": 0.1,
}
"""What values are held against by default; None only shows them. 0.1 is Azure Machine Learning's, too, and for a normal
column about a shift of a quarter of its standard deviation."""
FALSE_ALARMS = 0.001
"""Probability that, with nothing drifted, chance takes a distance of any column of a comparison above its level."""
_EFFECT = {
    "two_sample_kolmogorov_smirnov_test": "kolmogorov_smirnov_distance",
    "pearsons_chi_squared_test": "cramers_v",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A value before it is held against anything.

    Args:
        metric: its name.
        value: NaN where it can't be told.
        chance: what chance alone makes of it; of a p-value one that isn't too small where rows are few, either.
        bound: how far it may lie from the true one.
        note: what one should know to read it.
    """

    metric: str
    value: float
    chance: float = 0.0
    bound: float = 0.0
    note: str | None = None


def compared(
    baseline: Profile,
    target: Profile,
    thresholds: Thresholds,
    *,
    exact: Mapping[str, ExactDistances] | None = None,
    separability: Mapping[str, Separability] | None = None,
    parts: int = 1,
) -> list[Metric]:
    """Hold each column of a target against the baseline's.

    Args:
        baseline: what is as it should be.
        target: what may have drifted.
        thresholds: made with `THRESHOLDS` among its defaults. A test whose distance has no threshold is decided by its
            p-value alone.
        exact: distances of columns of numbers from all rows, by name; see `exact.distances`.
        separability: how well a classifier tells the vectors of both tables apart, by name.
        parts: of how many such comparisons this is one: windows and slices, for which p-values are corrected, too.

    Returns:
        By column in the baseline's order. One that can't be compared has one metric, which is NaN, with the reason.
    """
    names = [*baseline.columns, *(name for name in target.columns if name not in baseline.columns)]
    pairs = {name: (baseline.columns.get(name), target.columns.get(name)) for name in names}
    reasons = {name: _reason(*pair) for name, pair in pairs.items()}
    level = FALSE_ALARMS / max(sum(reason is None for reason in reasons.values()), 1)
    found: dict[str, list[_Found]] = {}
    for name, (one, two) in pairs.items():
        if one is None or two is None or reasons[name] is not None:
            found[name] = [_Found(metric="jensen_shannon_distance", value=math.nan, note=reasons[name])]
        elif one.kind == "embedding":
            found[name] = _vectors(one, two, level, (separability or {}).get(name))
        elif one.kind == "numeric":
            found[name] = _numbers(one, two, level, (exact or {}).get(name))
        else:
            found[name] = _values(one, two, level)
    p_values = {name: one.chance for name, all_of in found.items() for one in all_of if one.metric in _EFFECT}
    corrected = _holm({name: min(parts * p, 1.0) for name, p in p_values.items()})
    return [
        replace(
            _held(name, one, thresholds, found[name], corrected.get(name, math.nan)),
            slice=target.slice,
            window=target.window,
            unheld=reasons[name] if _is_meant(*pairs[name]) else None,
        )
        for name in names
        for one in found[name]
    ]


def _is_meant(baseline: Column | None, target: Column | None) -> bool:
    """Whether one would take two columns to be compared: not times, and a type that changed is told of itself."""
    return baseline is not None and target is not None and baseline.kind == target.kind and baseline.kind != "time"


def weighted(metrics: Sequence[Metric], importance: Mapping[str, float], threshold: float | None = None) -> Metric:
    """The mean of the columns' Jensen-Shannon distances, weighted by how much the model makes of each.

    Args:
        metrics: those of one comparison.
        importance: of columns; what is negative or NaN counts as 0.
        threshold: above which it breaches, if a column of some importance breaches itself.

    Returns:
        `weighted_drift` of the table; NaN with the reason where no column has both.
    """
    weights = {name: weight for name, weight in importance.items() if weight > 0 and math.isfinite(weight)}
    told = {
        metric.column: metric
        for metric in metrics
        if metric.metric == "jensen_shannon_distance"
        and metric.column is not None
        and metric.column in weights
        and not math.isnan(metric.value)
    }
    left_out = [name for name in weights if name not in told]
    note = f"without {len(left_out)} columns of importance that can't be compared" if left_out else None
    first = next(iter(metrics), None)
    part, window = (first.slice, first.window) if first else (None, None)
    value, breached = math.nan, False
    if told:
        total = sum(weights[name] for name in told)
        value = sum(metric.value * weights[name] for name, metric in told.items()) / total
        any_of = any(metric.breached for metric in metrics if metric.column in told)
        breached = threshold is not None and value > threshold and any_of
    else:
        note = "no column has both a distance and an importance"
    return Metric(
        signal="drift",
        metric="weighted_drift",
        value=value,
        threshold=threshold,
        breached=breached,
        slice=part,
        window=window,
        note=note,
    )


def _reason(baseline: Column | None, target: Column | None) -> str | None:
    """Why two columns can't be compared; None where they can."""
    if baseline is None or target is None:
        return f"the {'baseline' if baseline is None else 'target'} has no such column"
    for column in (baseline, target):
        if column.kind == "unsupported":
            return column.note or f"the type {column.type} isn't compared"
    if baseline.kind != target.kind:
        return f"its type changed from {baseline.type} to {target.type}"
    if baseline.kind == "time":
        return "times move on by themselves"
    if baseline.dimension and target.dimension and baseline.dimension != target.dimension:
        return f"its vectors have {baseline.dimension} numbers in the baseline and {target.dimension} in the target"
    for table, column in (("baseline", baseline), ("target", target)):
        if not column.rows:
            return f"the {table} has no rows"
        if not column.count:
            return f"it has no value in the {table}"
        if baseline.kind == "numeric" and not column.histogram.total:
            return f"it has no finite number in the {table}"
    return None


def _numbers(baseline: Column, target: Column, level: float, exact: ExactDistances | None) -> list[_Found]:
    """Of columns of numbers; also of the lengths of texts and the norms of vectors."""
    counts = bins.of_numbers(baseline, target, exact)
    note = None
    if exact is None and bins.are_coarse(baseline.histogram):
        note = "its numbers differ too little from each other for the histogram's buckets; exact=True tells them apart"
    found = _of_bins(*counts, level, note)
    rows = {"baseline": baseline.count, "target": target.count}
    if exact is not None:
        (distance, bound), (moved, moved_bound) = (exact.kolmogorov_smirnov, 0.0), (exact.wasserstein, 0.0)
    else:
        distance, bound = distances.kolmogorov_smirnov(
            baseline.histogram,
            target.histogram,
            negative_infinities=(baseline.negative_infinities, target.negative_infinities),
            positive_infinities=(baseline.positive_infinities, target.positive_infinities),
        )
        moved, moved_bound = distances.wasserstein(baseline.histogram, target.histogram)
    chance = distances.by_chance("kolmogorov_smirnov_distance", **rows, bins=0, level=level)
    p = distances.kolmogorov_smirnov_p(distance, **rows)
    least = distances.kolmogorov_smirnov_p(min(distance + bound, 1.0), **rows) if bound else p
    cautious = max(p, min(2 * math.exp(-2 * distance**2 / (1 / baseline.count + 1 / target.count)), 1.0))
    found += [
        _Found(metric="kolmogorov_smirnov_distance", value=distance, chance=chance, bound=bound, note=note),
        _Found(metric="two_sample_kolmogorov_smirnov_test", value=p, chance=cautious, bound=max(p - least, 0.0)),
    ]
    deviation = baseline.histogram.total and baseline.deviation
    if not deviation > 0 or not math.isfinite(deviation) or math.isnan(moved):
        why = "the baseline is constant" if deviation == 0 else "its numbers are too great to be added up"
        found.append(_Found(metric="normalized_wasserstein_distance", value=math.nan, note=why))
    else:
        chance = distances.by_chance(
            "normalized_wasserstein_distance",
            baseline=baseline.histogram.total,
            target=target.histogram.total,
            bins=0,
            level=level,
            spread=max(distances.spread(column.histogram) for column in (baseline, target)) / deviation,
        )
        found.append(
            _Found(
                metric="normalized_wasserstein_distance",
                value=moved / deviation,
                chance=chance,
                bound=moved_bound / deviation,
            )
        )
    return found


def _values(baseline: Column, target: Column, level: float) -> list[_Found]:
    """Of columns of texts and booleans."""
    counts = bins.of_values(baseline, target)
    if baseline.kind == "text" and 2 * counts[0][1] > baseline.count:
        frequencies = baseline.frequencies or Frequencies(counts={})
        note = (
            f"by its lengths: it has {frequencies.distinct} different values, and most rows none of the frequent ones"
        )
        return [replace(one, note=_joined(note, one.note)) for one in _numbers(baseline, target, level, None)]
    missed = max((column.frequencies.most_missed for column in (baseline, target) if column.frequencies), default=0)
    missed_note = f"a value's count is right to within {missed} rows" if missed else None
    rows = {"baseline": int(counts[0].sum()), "target": int(counts[1].sum())}
    pooled = bins.pooled(*counts)
    p = distances.chi_squared_p(*pooled)
    chances = {
        metric: distances.by_chance(metric, **rows, bins=bins.filled(of), level=level)
        for metric, of in (("infinity_norm", counts), ("cramers_v", pooled))
    }
    pooled_note = missed_note
    if len(pooled[0]) < len(counts[0]):
        pooled_note = _joined(
            missed_note, f"values expected in fewer than {bins.FEW_ROWS} rows of one table count as one"
        )
    return [
        *_of_bins(*counts, level, missed_note),
        _Found(metric="infinity_norm", value=distances.infinity_norm(*counts), chance=chances["infinity_norm"]),
        _Found(metric="cramers_v", value=distances.cramers_v(*pooled), chance=chances["cramers_v"], note=pooled_note),
        _Found(
            metric="pearsons_chi_squared_test",
            value=p,
            chance=p,
            note=pooled_note,
        ),
    ]


def _vectors(baseline: Column, target: Column, level: float, separable: Separability | None) -> list[_Found]:
    """Of columns of vectors.

    The distance of the centroids is that of points, divided by the root of the vectors' mean squared distance to the
    baseline's centroid: a standardised difference of means, which also tells where the centroid is at 0, and a cosine
    wouldn't.
    """
    import numpy as np

    one, two = baseline.centroid, target.centroid
    value, note, chance = math.nan, None, 0.0
    if one is None or two is None or not one.count or not two.count:
        note = "no vector has finite numbers only"
    else:
        spread = _spread(baseline, one.mean)
        apart = float(np.linalg.norm(one.mean - two.mean))
        value = 0.0 if apart == 0 else apart / spread if spread > 0 else math.nan
        note = "the baseline's vectors are all the same" if math.isnan(value) else None
        chance = distances.by_chance("centroid_distance", baseline=one.count, target=two.count, bins=0, level=level)
    found = [_Found(metric="centroid_distance", value=value, chance=chance, note=note)]
    if baseline.histogram.total and target.histogram.total:
        found += [
            replace(of_norms, note=_joined("of the vectors' norms", of_norms.note))
            for of_norms in _numbers(baseline, target, level, None)
        ]
    if separable is not None:
        rows = {"baseline": separable.baseline, "target": separable.target}
        metric = "domain_classifier_roc_auc"
        chance = distances.by_chance(metric, **rows, bins=0, level=level)
        note = f"standard error {separable.standard_error:.2g}" if separable.note is None else separable.note
        found.append(_Found(metric=metric, value=separable.roc_auc, chance=chance, note=note))
    return found


def _spread(column: Column, centroid: NDArray[np.float64]) -> float:
    """Root of the vectors' mean squared distance to their centroid."""
    squares = column.m2 / column.histogram.total + column.mean**2 if column.histogram.total else math.nan
    inside = squares - float((centroid**2).sum())
    return math.sqrt(inside) if inside > 1e-12 * squares else 0.0


def _of_bins(
    baseline: NDArray[np.int64], target: NDArray[np.int64], level: float, note: str | None = None
) -> list[_Found]:
    rows = {"baseline": int(baseline.sum()), "target": int(target.sum())}
    filled = bins.filled((baseline, target))
    return [
        _Found(
            metric=metric,
            value=distance(baseline, target),
            chance=distances.by_chance(metric, **rows, bins=filled, level=level),
            note=note,
        )
        for metric, distance in (
            ("jensen_shannon_distance", distances.jensen_shannon),
            ("population_stability_index", distances.population_stability),
            ("hellinger_distance", distances.hellinger),
        )
    ]


def _held(column: str, one: _Found, thresholds: Thresholds, beside: Sequence[_Found], corrected: float) -> Metric:
    """Hold a value against its threshold."""
    threshold = thresholds.of(one.metric, column)
    note, breached = one.note, False
    if threshold is not None and not math.isnan(one.value):
        if one.metric in _EFFECT:
            effect = next(found for found in beside if found.metric == _EFFECT[one.metric])
            least = thresholds.of(effect.metric, column)
            breached = corrected < threshold and (least is None or effect.value >= least)
            note = _joined(note, f"{number(corrected)} when corrected for all comparisons")
            if corrected < threshold and not breached:
                note = _joined(note, f"but the effect is small: {effect.metric} is {number(effect.value)}")
        else:
            breached = one.value > max(threshold, one.chance)
            if one.chance > threshold:
                note = _joined(note, f"so few rows make up to {number(one.chance)} by chance")
    return Metric(
        signal="drift",
        metric=one.metric,
        value=one.value,
        column=column,
        threshold=threshold,
        breached=breached,
        bound=one.bound,
        note=note,
    )


def _holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values corrected for their number by Holm's method."""
    told = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    corrected, greatest = {}, 0.0
    for rank, (p, name) in enumerate(told):
        greatest = max(greatest, min(p * (len(told) - rank), 1.0))
        corrected[name] = greatest
    return corrected


def _joined(*notes: str | None) -> str | None:
    return "; ".join(note for note in notes if note) or None
