"""Bins in which the rows of two tables are counted to be compared: the baseline decides on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_spark.monitoring.drift import distances
from aml_spark.monitoring.profiles.frequencies import Frequencies
from aml_spark.monitoring.profiles.profile import Column

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aml_spark.monitoring.drift.exact import ExactDistances
    from aml_spark.monitoring.profiles.histogram import Histogram

MOST_VALUES = 100
"""Values of a text column that have bins of their own."""
_FEW = 20
"""So few different numbers have a bin each."""
FEW_ROWS = 5
"""Rows of a baseline that a value with a bin of its own has (Cochran, Biometrics 1954)."""
_SHORT = 1000
"""Of a baseline of so many numbers 0.1 % of a target's lie below its least by chance, and as many above."""


def of_numbers(
    baseline: Column, target: Column, exact: ExactDistances | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many rows of either lie in each bin of a column of numbers, or of its lengths or norms.

    The bins: missing, −∞, +∞, between, below, the baseline's, above. A baseline of few numbers has a bin for each of
    them; what lies between two of those is in the bin "between", which is empty else. Of a short baseline of many
    numbers some of the target's lie outside of its range by chance: so there they are in the outermost bins.
    """
    import numpy as np

    if exact is None or _is_few(baseline.histogram):
        one, two, between = _bucketed(*distances.together(baseline.histogram, target.histogram))
    else:
        one, two, between = exact.baseline_bins, exact.target_bins, 0
    found = []
    for column, counts, apart in ((baseline, one, 0), (target, two, between)):
        inside = counts[1:-1].copy()
        outside = np.asarray([counts[0], counts[-1]])
        if baseline.histogram.total < _SHORT and not _is_few(baseline.histogram):
            inside[0] += counts[0]
            inside[-1] += counts[-1]
            outside[:] = 0
        infinities = [column.negative_infinities, column.positive_infinities]
        found.append([column.missing, *infinities, apart, outside[0], *inside, outside[1]])
    first, second = (np.asarray(counts, dtype=np.int64) for counts in found)
    return first, second


def _bucketed(first: Histogram, second: Histogram) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Counts of both below, in each of the baseline's bins and above; and the target's between its numbers."""
    import numpy as np

    at = np.searchsorted(first.codes, second.codes, side="right") - 1
    few = _is_few(first)
    if few:
        of = np.arange(len(first.codes))
    else:
        middles = (np.cumsum(first.counts) - first.counts / 2) / first.total
        of = np.unique((middles * distances.bins_for(first.total)).astype(int), return_inverse=True)[1].reshape(-1)
    above = second.codes > first.codes[-1]
    between = few & (at >= 0) & ~above & (first.codes[at] != second.codes)
    bins = int(of[-1]) + 1
    bin_of = np.where(above, bins + 1, np.where(at < 0, 0, of[at] + 1))[~between]
    counts = [
        np.bincount(of + 1, first.counts, minlength=bins + 2),
        np.bincount(bin_of, second.counts[~between], minlength=bins + 2),
    ]
    return counts[0], counts[1], int(second.counts[between].sum())


def _is_few(histogram: Histogram) -> bool:
    """Whether there are few different numbers, each often enough for a bin of its own."""
    return len(histogram.codes) <= _FEW and histogram.is_exact and histogram.counts.min(initial=FEW_ROWS) >= FEW_ROWS


def of_values(baseline: Column, target: Column) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many rows of either lie in each bin of a column of values.

    The bins: missing, the rest, and the baseline's `MOST_VALUES` most frequent values, each with a few rows. What is
    new is in the rest: where many values are rare, others of them are found each time.
    """
    import numpy as np

    first, second = baseline.frequencies or Frequencies(counts={}), target.frequencies or Frequencies(counts={})
    often = [value for value, count in first.counts.items() if count >= FEW_ROWS]
    kept = sorted(often, key=lambda value: (-first.counts[value], value))[:MOST_VALUES]
    sides = []
    for column, frequencies in ((baseline, first), (target, second)):
        counts = [frequencies.counts.get(value, 0) for value in kept]
        sides.append(np.asarray([column.missing, frequencies.total - sum(counts), *counts], dtype=np.int64))
    return sides[0], sides[1]


def are_coarse(histogram: Histogram) -> bool:
    """Whether a bucket with different numbers holds far more than a bin should, so that a shift in it isn't seen."""
    wide = histogram.counts[histogram.lows < histogram.highs]
    return bool(wide.max(initial=0) > 2 * histogram.total / distances.bins_for(histogram.total))


def pooled(baseline: NDArray[np.int64], target: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts with those bins as one of which a table is expected to have too few rows for a chi-square test."""
    import numpy as np

    both = baseline + target
    few = both * min(baseline.sum(), target.sum()) < FEW_ROWS * both.sum()
    if few.sum() < 2:
        return baseline, target
    one, two = (np.asarray([*counts[~few], counts[few].sum()]) for counts in (baseline, target))
    return one, two


def filled(counts: tuple[NDArray[np.int64], NDArray[np.int64]]) -> int:
    """Bins in which there is a row."""
    return int(((counts[0] > 0) | (counts[1] > 0)).sum())
