"""Counts of numbers in buckets whose bounds are powers of a base, fixed beforehand: such histograms add up.

A bucket's width is a constant share of its values. A histogram that has too many buckets joins each two neighbours, as
often as it takes. How often depends on the values alone, and not on the order in which parts were put together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PER_OCTAVE = 1024
"""Buckets between a number and its double, before any are joined."""
MOST_BUCKETS = 1024
"""Buckets that a histogram keeps."""
OFFSET = 1 << 21
"""The code of a positive number's bucket is this plus floor(PER_OCTAVE · log2(number)); a negative number's is minus
that of its absolute value; zero's is 0. So codes stand in the order of the numbers, and joining is a shift."""
CODE_PER_LOG = PER_OCTAVE / math.log(2)
"""Codes between a number and e times that number."""
CODE_AT_ONE = OFFSET + 2.0**-20
"""The code of 1 before it is rounded down. The share beyond `OFFSET` is far above what a logarithm may be off by, so
powers of two open their bucket whoever computes the logarithm."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Histogram:
    """Finite numbers, counted by bucket.

    Args:
        level: how often neighbours were joined: 2**level of the first buckets are one.
        codes: which buckets there are, ascending; int64.
        counts: numbers in each; int64, above 0.
        lows: least number in each; float64.
        highs: greatest number in each.
        means: mean of each.
    """

    level: int
    codes: NDArray[np.int64]
    counts: NDArray[np.int64]
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]
    means: NDArray[np.float64]

    @classmethod
    def of(cls, values: Any, *, counts: Any = None, level: int = 0) -> Histogram:
        """Count an array of finite numbers, each of which is there so often; once by default."""
        import numpy as np

        numbers = np.asarray(values, dtype=np.float64)
        if not len(numbers):
            return cls.empty(level=level)
        order = np.argsort(numbers)
        numbers = numbers[order]
        often = np.ones(len(order), dtype=np.int64) if counts is None else np.asarray(counts, dtype=np.int64)[order]
        ordered = np.maximum.accumulate(code_of(numbers))  # a logarithm may step back by its last digit
        codes, starts = np.unique(joined(ordered, level), return_index=True)
        lows, highs = numbers[starts], numbers[np.append(starts[1:], len(numbers)) - 1]
        totals = np.add.reduceat(often, starts)
        shares = often / np.repeat(totals, np.diff([*starts, len(numbers)]))
        means = np.add.reduceat(numbers * shares, starts)  # no sum of the numbers: it may overflow
        found = cls(level=level, codes=codes, counts=totals, lows=lows, highs=highs, means=np.clip(means, lows, highs))
        return found.fitted()

    @classmethod
    def empty(cls, *, level: int = 0) -> Histogram:
        """Of no number."""
        import numpy as np

        none, nothing = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float64)
        return cls(level=level, codes=none, counts=none, lows=nothing, highs=nothing, means=nothing)

    @property
    def total(self) -> int:
        """How many numbers."""
        return int(self.counts.sum())

    @property
    def is_exact(self) -> bool:
        """Whether each bucket holds one number only, so that the histogram leaves nothing out."""
        return bool((self.lows == self.highs).all())

    @property
    def width(self) -> float:
        """Greatest width of a bucket, as a share of the numbers in it."""
        return float(2.0 ** (2.0**self.level / PER_OCTAVE) - 1)

    def at(self, level: int) -> Histogram:
        """The same numbers in coarser buckets."""
        import numpy as np

        if level <= self.level or not len(self.codes):
            return self if level <= self.level else Histogram.empty(level=level)
        codes, starts = np.unique(joined(self.codes, level - self.level), return_index=True)
        counts = np.add.reduceat(self.counts, starts)
        lows, highs = np.minimum.reduceat(self.lows, starts), np.maximum.reduceat(self.highs, starts)
        shares = self.counts / np.repeat(counts, np.diff([*starts, len(self.codes)]))
        means = np.clip(np.add.reduceat(self.means * shares, starts), lows, highs)
        return Histogram(level=level, codes=codes, counts=counts, lows=lows, highs=highs, means=means)

    def fitted(self) -> Histogram:
        """With no more than `MOST_BUCKETS`."""
        found = self
        while len(found.codes) > MOST_BUCKETS:
            found = found.at(found.level + 1)
        return found

    def merge(self, other: Histogram) -> Histogram:
        """Both together; in any order and grouping the same counts in the same buckets."""
        import numpy as np

        level = max(self.level, other.level)
        parts = [self.at(level), other.at(level)]
        order = np.argsort(np.concatenate([part.codes for part in parts]), kind="stable")
        fields = ("codes", "counts", "lows", "highs", "means")
        codes, counts, lows, highs, means = (
            np.concatenate([getattr(part, field) for part in parts])[order] for field in fields
        )
        codes, starts = np.unique(codes, return_index=True)
        if not len(codes):
            return Histogram.empty(level=level)
        totals = np.add.reduceat(counts, starts)
        lows, highs = np.minimum.reduceat(lows, starts), np.maximum.reduceat(highs, starts)
        shares = counts / np.repeat(totals, np.diff([*starts, len(counts)]))
        means = np.clip(np.add.reduceat(means * shares, starts), lows, highs)
        return Histogram(level=level, codes=codes, counts=totals, lows=lows, highs=highs, means=means).fitted()

    def quantile(self, share: float) -> float:
        """The number below which a share of the numbers lies, by NumPy's `inverted_cdf`; NaN of none.

        It is right to within the width of its bucket: `width` times the number.
        """
        import numpy as np

        if not len(self.counts):
            return float("nan")
        rank = max(int(np.ceil(share * self.total)), 1)
        ends = np.cumsum(self.counts)
        bucket = min(int(np.searchsorted(ends, rank)), len(ends) - 1)
        count, low, high = self.counts[bucket], self.lows[bucket], self.highs[bucket]
        if count == 1 or low == high:
            return float(low)
        position = (rank - (ends[bucket] - count) - 1) / (count - 1)
        return float(low * (1 - position) + high * position)


def code_of(numbers: Any) -> NDArray[np.int64]:
    """The codes of the finest buckets of finite numbers."""
    import numpy as np

    numbers = np.asarray(numbers, dtype=np.float64)
    sizes = np.abs(numbers)
    codes = np.floor(np.log(np.where(sizes > 0, sizes, 1.0)) * CODE_PER_LOG + CODE_AT_ONE)
    return np.asarray(np.sign(numbers) * codes, dtype=np.int64)


def joined(codes: NDArray[np.int64], times: int) -> NDArray[np.int64]:
    """The codes of the buckets that come of joining each two neighbours so many times."""
    import numpy as np

    return np.asarray(np.sign(codes) * (np.abs(codes) >> times), dtype=np.int64)
