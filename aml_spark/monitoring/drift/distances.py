"""How far two distributions lie apart, from counts or histograms, and what chance alone makes of it.

Counts are of the same bins, in any order, and needn't have the same sum. What is negative counts as 0; of counts
without a row every distance is NaN.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aml_spark.monitoring.profiles.histogram import Histogram

MOST_BINS = 10
"""Bins of about equal frequency that a column of numbers is held in."""
MOST_STEPS = 100_000
"""Half as many values as both tables have, up to which a p-value is computed in steps."""


def bins_for(rows: int) -> int:
    """How many bins a baseline of so many values gets: ten rows in each or more, between 2 and `MOST_BINS` bins."""
    return min(max(rows // 10, 2), MOST_BINS)


def shares(counts: Any) -> NDArray[np.float64]:
    """Counts as shares of their sum."""
    import numpy as np

    rows = np.maximum(np.asarray(counts, dtype=np.float64), 0.0)
    total = rows.sum()
    return rows / total if total > 0 else np.full(max(rows.size, 1), np.nan)


def jensen_shannon(baseline: Any, target: Any) -> float:
    """Jensen-Shannon distance, with logarithms to base 2: the square root of the divergence, between 0 and 1."""
    import numpy as np
    from scipy.special import rel_entr

    p, q = shares(baseline), shares(target)
    middle = (p + q) / 2
    divergence = (rel_entr(p, middle).sum() + rel_entr(q, middle).sum()) / (2 * math.log(2))
    return float(np.sqrt(np.clip(divergence, 0.0, 1.0)))


def population_stability(baseline: Any, target: Any) -> float:
    """Population stability index: Σ (q − p) ln(q / p).

    A bin that is empty in one table only counts as half a row there, as if the first row had been about to come; one
    that is empty in both doesn't count.
    """
    import numpy as np

    pair = [np.maximum(np.asarray(counts, dtype=np.float64), 0.0) for counts in (baseline, target)]
    if not all(counts.sum() > 0 for counts in pair):
        return math.nan
    filled = (pair[0] > 0) | (pair[1] > 0)
    p, q = (np.where(counts > 0, counts, 0.5)[filled] / counts.sum() for counts in pair)
    return float(((q - p) * np.log(q / p)).sum())


def hellinger(baseline: Any, target: Any) -> float:
    """Hellinger distance: √(½ Σ (√p − √q)²), between 0 and 1."""
    import numpy as np

    return float(min(np.sqrt(((np.sqrt(shares(baseline)) - np.sqrt(shares(target))) ** 2).sum() / 2), 1.0))


def infinity_norm(baseline: Any, target: Any) -> float:
    """The greatest difference of a bin's shares, between 0 and 1."""
    import numpy as np

    return float(np.abs(shares(baseline) - shares(target)).max())


def cramers_v(baseline: Any, target: Any) -> float:
    """Cramér's V of table and bin, between 0 and 1, as if both tables had as many rows.

    So it doesn't grow small because one table is much longer: V² = ½ Σ (p − q)² / (p + q). For tables of one length it
    is SciPy's `contingency.association`.
    """
    import numpy as np

    p, q = shares(baseline), shares(target)
    both = p + q
    parts = np.divide((p - q) ** 2, both, out=np.zeros_like(both), where=both != 0)
    return float(np.sqrt(parts.sum() / 2))


def chi_squared_p(baseline: Any, target: Any) -> float:
    """p-value of Pearson's chi-square test that both tables' rows fall in the bins alike: `chi2_contingency`."""
    import numpy as np
    from scipy.special import chdtrc

    rows = np.maximum(np.asarray([baseline, target], dtype=np.float64), 0.0)
    rows = rows[:, rows.sum(axis=0) > 0]
    if not (rows.sum(axis=1) > 0).all():
        return math.nan
    if rows.shape[1] < 2:
        return 1.0
    expected = rows.sum(axis=1, keepdims=True) * rows.sum(axis=0, keepdims=True) / rows.sum()
    return float(chdtrc(rows.shape[1] - 1, ((rows - expected) ** 2 / expected).sum()))


def kolmogorov_smirnov(
    baseline: Histogram,
    target: Histogram,
    *,
    negative_infinities: tuple[int, int] = (0, 0),
    positive_infinities: tuple[int, int] = (0, 0),
) -> tuple[float, float]:
    """Greatest distance of the cumulative shares, and by how much the true one may be greater.

    It is taken at the bounds of the buckets, where it is known. In a bucket both tables may be anything between, unless
    they hold one and the same number there, or the numbers of one lie below the other's.
    """
    import numpy as np

    first, second = together(baseline, target)
    totals = [
        histogram.total + negative_infinities[side] + positive_infinities[side]
        for side, histogram in enumerate((first, second))
    ]
    if not all(totals):
        return math.nan, 0.0
    codes = np.union1d(first.codes, second.codes)
    ends, starts, lows, highs = [], [], [], []
    for side, histogram in enumerate((first, second)):
        counts, least, most = np.zeros(len(codes)), np.full(len(codes), np.inf), np.full(len(codes), -np.inf)
        at = np.searchsorted(codes, histogram.codes)
        counts[at], least[at], most[at] = histogram.counts, histogram.lows, histogram.highs
        end = negative_infinities[side] + np.cumsum(counts)
        ends.append(end / totals[side])
        starts.append((end - counts) / totals[side])
        lows.append(least)
        highs.append(most)
    infinite = abs(negative_infinities[0] / totals[0] - negative_infinities[1] / totals[1])
    ahead, behind = ends[0] - starts[1], ends[1] - starts[0]  # all of one table's numbers come before the other's
    baseline_first, target_first = highs[0] < lows[1], highs[1] < lows[0]
    same = (lows[0] == highs[0]) & (lows[1] == highs[1]) & (lows[0] == lows[1])
    known = np.abs(ends[0] - ends[1])
    known = np.maximum(known, np.where(baseline_first, np.abs(ahead), np.where(target_first, np.abs(behind), 0.0)))
    possible = np.maximum(np.abs(ahead), np.abs(behind))
    most = np.where(baseline_first | target_first | same, known, np.maximum(known, possible))
    value = float(known.max(initial=infinite))
    return value, max(float(most.max(initial=infinite)) - value, 0.0)


def kolmogorov_smirnov_p(distance: float, baseline: int, target: int) -> float:
    """p-value of a two-sample Kolmogorov-Smirnov distance of so many values: `ks_2samp(method="asymp")`.

    SciPy takes as many steps as there are values. Beyond `MOST_STEPS` it is the distribution's limit, corrected by
    Vrbik (Communications in Statistics 47, 2018), which is within 3e-7 of SciPy's.
    """
    from scipy.special import kolmogorov

    if math.isnan(distance) or not baseline or not target:
        return math.nan
    rows = max(round(float(baseline) * target / (float(baseline) + target)), 1)
    if rows > MOST_STEPS:
        scaled = math.sqrt(rows) * distance
        return float(kolmogorov(scaled + 1 / (6 * math.sqrt(rows)) + (scaled - 1) / (4 * rows)))
    from scipy.stats import kstwo

    return float(min(max(kstwo.sf(distance, rows), 0.0), 1.0))


def wasserstein(baseline: Histogram, target: Histogram) -> tuple[float, float]:
    """Wasserstein distance (earth mover's, of order 1) in the column's unit, and by how much the true one may differ.

    Each bucket's numbers are taken for their mean. Moving numbers between l and h with the mean μ there takes
    2 (μ − l) (h − μ) / (h − l) each at the most, which is where they all lie at the two ends.
    """
    import numpy as np

    if not baseline.total or not target.total:
        return math.nan, 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        # What SciPy has is in scipy.stats, whose import takes longer than all distances of a table.
        means = np.sort(np.concatenate([baseline.means, target.means]))
        first, second = (
            np.append(0, np.cumsum(histogram.counts))[np.searchsorted(histogram.means, means[:-1], side="right")]
            / histogram.total
            for histogram in (baseline, target)
        )
        value = float((np.abs(first - second) * np.diff(means)).sum())
        bound = 0.0
        for histogram in (baseline, target):
            width = histogram.highs - histogram.lows
            share = np.divide(histogram.means - histogram.lows, width, out=np.zeros_like(width), where=width > 0)
            bound += float((2 * share * (1 - share) * width * (histogram.counts / histogram.total)).sum())
    return (value, bound) if math.isfinite(value) and math.isfinite(bound) else (math.nan, 0.0)


def spread(histogram: Histogram) -> float:
    """∫ √(F (1 − F)): what a sample's Wasserstein distance to where it comes from is in proportion to."""
    import numpy as np

    below = np.cumsum(histogram.counts)[:-1] / max(histogram.total, 1)
    with np.errstate(over="ignore"):
        return float((np.sqrt(below * (1 - below)) * np.diff(histogram.means)).sum())


def by_chance(metric: str, *, baseline: int, target: int, bins: int, level: float, spread: float = math.nan) -> float:
    """What a distance doesn't exceed where nothing has drifted, but with the probability `level`.

    Of two samples of n and m rows Σ (p − q)² / p is distributed as (1/n + 1/m) χ² with one degree of freedom less than
    bins (Pearson 1900; for the population stability index Yurdakul and Naranjo, J. Risk Model Validation 2020), and for
    small distances the other metrics are a share of that. For Kolmogorov-Smirnov it is Smirnov's limit,
    2 exp(−2 D² n m / (n + m)). The Wasserstein distance is the integral of |F − G|, at each place a normal variable
    with the variance F (1 − F) (1/n + 1/m); the expected shortfall of their sum is at the most the sum of theirs. That
    of the area under a classifier's curve is Mann and Whitney's.

    Args:
        metric: its name.
        baseline: rows of the baseline.
        target: rows of the target.
        bins: in which there is a row.
        level: probability of exceeding it.
        spread: of the baseline, by the unit of the metric, for the Wasserstein distance.
    """
    from scipy.special import chdtri, ndtri

    if not baseline or not target:
        return math.inf
    both = 1 / baseline + 1 / target
    if metric == "kolmogorov_smirnov_distance":
        return math.sqrt(math.log(2 / level) / 2 * both)
    if metric == "domain_classifier_roc_auc":
        return 0.5 - float(ndtri(level)) * math.sqrt((baseline + target + 1) / (12.0 * baseline * target))
    if metric == "normalized_wasserstein_distance":
        z = -float(ndtri(level / 2))
        shortfall = 2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / level
        return shortfall * spread * math.sqrt(both)
    if metric == "centroid_distance":  # had all of the spread one direction only
        return math.sqrt(both * float(chdtri(1, level)))
    if bins < 2:
        return 0.0
    if metric == "infinity_norm":
        return -float(ndtri(level / (2 * bins))) * math.sqrt(both) / 2
    scale = {
        "jensen_shannon_distance": 8 * math.log(2),
        "population_stability_index": 1.0,
        "hellinger_distance": 8.0,
        "cramers_v": 4.0,
    }[metric]
    squared = both * float(chdtri(bins - 1, level)) / scale
    return squared if metric == "population_stability_index" else math.sqrt(squared)


def together(one: Histogram, two: Histogram) -> tuple[Histogram, Histogram]:
    """Both with buckets of one width."""
    level = max(one.level, two.level)
    return one.at(level), two.at(level)
