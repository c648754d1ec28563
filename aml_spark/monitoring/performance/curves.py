"""Areas under curves, of scores that were counted in buckets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_spark.monitoring.performance.measure import Measure, share_error
from aml_spark.monitoring.performance.outcome import Scores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ONE_CLASS = "all labels are of one class, or none is of this one"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Buckets:
    """Positives and negatives in the same buckets, from the greatest scores down.

    Where the greatest score of one kind is below the least of the other, their order is known; and where all are the
    same number. Else the bucket is mixed.
    """

    positives: NDArray[np.float64]
    negatives: NDArray[np.float64]
    first: NDArray[np.bool_]
    """Positives stand before negatives."""
    last: NDArray[np.bool_]
    tied: NDArray[np.bool_]
    """All scores of both kinds are one number."""
    same: NDArray[np.bool_]
    """All scores of positives are one number."""

    @classmethod
    def of(cls, scores: Scores) -> Buckets:
        """Of scores with labels."""
        import numpy as np

        level = max(scores.positives.level, scores.negatives.level)
        parts = [scores.positives.at(level), scores.negatives.at(level)]
        codes = np.union1d(parts[0].codes, parts[1].codes)[::-1]
        counts: list[NDArray[np.float64]] = []
        lows: list[NDArray[np.float64]] = []
        highs: list[NDArray[np.float64]] = []
        for part in parts:
            places = len(codes) - 1 - np.searchsorted(codes[::-1], part.codes)
            for lists, start, values in (
                (counts, 0.0, part.counts),
                (lows, np.inf, part.lows),
                (highs, -np.inf, part.highs),
            ):
                lists.append(np.full(len(codes), start))
                lists[-1][places] = values
        return cls(
            positives=counts[0],
            negatives=counts[1],
            first=lows[0] > highs[1],
            last=highs[0] < lows[1],
            tied=(lows[0] == highs[0]) & (lows[1] == highs[1]) & (lows[0] == lows[1]),
            same=lows[0] == highs[0],
        )


def roc_auc(scores: Scores) -> Measure:
    """Area under the ROC curve: the share of pairs of a positive and a negative in which its score is greater.

    Of pairs in one mixed bucket half are counted, and the bound is all of these halves. Standard error by Hanley and
    McNeil 1982.
    """
    import numpy as np

    positives, negatives = scores.positives.total, scores.negatives.total
    if not positives or not negatives:
        return Measure(value=math.nan, note=_ONE_CLASS)
    found = Buckets.of(scores)
    below = negatives - np.cumsum(found.negatives)
    pairs = found.positives * found.negatives
    inside = np.where(found.first, pairs, np.where(found.last, 0.0, pairs / 2))
    unknown = float((pairs / 2)[~(found.first | found.last | found.tied)].sum())
    area = float((found.positives * below + inside).sum()) / positives / negatives
    fewer = min(positives, negatives)
    drawn = (area * fewer + 1) / (fewer + 2)  # as in `share_error`
    one, two = drawn / (2 - drawn), 2 * drawn * drawn / (1 + drawn)
    spread = drawn * (1 - drawn) + (positives - 1) * (one - drawn**2) + (negatives - 1) * (two - drawn**2)
    error = math.sqrt(max(spread, 0.0) / positives / negatives)
    return Measure(value=area, error=error, bound=unknown / positives / negatives)


def average_precision(scores: Scores) -> Measure:
    """Average precision: the mean, over the positives, of the precision at their score.

    In a mixed bucket the i-th positive has at worst all negatives and i positives at its score or above, and at best
    all positives and no negative; half-way is taken, and the bound is the half. Standard error as of a binomial share
    (Boyd, Eng and Page 2013).
    """
    import numpy as np
    from scipy.special import digamma

    positives = scores.positives.total
    if not positives or not scores.negatives.total:
        return Measure(value=math.nan, note=_ONE_CLASS)
    found = Buckets.of(scores)
    above, wrong = (np.cumsum(kind) - kind for kind in (found.positives, found.negatives))
    least = wrong + np.where(found.last | found.tied, found.negatives, 0.0)
    most = wrong + np.where(found.first, 0.0, found.negatives)
    everything = above + found.positives

    def at_once(negatives: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(found.positives * everything / np.maximum(everything + negatives, 1.0))

    # The sum over i of (above + i) / (above + i + most).
    one_by_one = found.positives - most * (digamma(everything + most + 1) - digamma(above + most + 1))
    highest = at_once(least)
    lowest = np.where(found.same, at_once(most), np.minimum(one_by_one, highest))
    value = float((highest + lowest).sum()) / 2 / positives
    bound = float((highest - lowest).sum()) / 2 / positives
    return Measure(value=value, error=share_error(value * positives, positives), bound=bound)
