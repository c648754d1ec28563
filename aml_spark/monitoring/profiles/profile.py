"""What is known of a table's columns without its rows: a value that can be kept, put together and compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from aml_spark.monitoring.profiles.frequencies import Frequencies
from aml_spark.monitoring.profiles.histogram import Histogram

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["numeric", "boolean", "text", "time", "embedding", "unsupported"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Centroid:
    """Where a column of vectors lies.

    Args:
        dimension: numbers in a vector: that of most of them.
        others: vectors with another dimension, or with a number that is null or not finite, which aren't in the mean.
        count: vectors in the mean.
        mean: of each dimension; float64, shape (dimension,).
    """

    dimension: int
    others: int
    count: int
    mean: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column:
    """What is known of one column.

    Args:
        name: with dots between the parts of a nested one.
        type: Spark's `simpleString` of it.
        kind: what it is treated as, by its type: numbers (decimals as doubles), booleans, strings, dates and
            timestamps, arrays of numbers; all else isn't supported.
        rows: of the table.
        nulls: rows in which it is null.
        nans: not a number; of vectors those that have a number that is null or not a number.
        positive_infinities: rows with +∞.
        negative_infinities: rows with −∞.
        mean: of what the histogram counts; NaN where there is nothing.
        m2: sum of the squares of their distances to the mean.
        histogram: of the finite numbers; of dates and timestamps in seconds since 1970 (those without zone as if they
            were UTC's), of strings their lengths in characters, of vectors their norms.
        frequencies: of strings and booleans ("true", "false").
        centroid: of vectors.
        note: why nothing is known, of what isn't supported.
    """

    name: str
    type: str
    kind: Kind
    rows: int
    nulls: int = 0
    nans: int = 0
    positive_infinities: int = 0
    negative_infinities: int = 0
    mean: float = math.nan
    m2: float = 0.0
    histogram: Histogram = field(default_factory=Histogram.empty)
    frequencies: Frequencies | None = None
    centroid: Centroid | None = None
    note: str | None = None

    @property
    def count(self) -> int:
        """Rows with a value: not null, and a number where it is numeric."""
        return self.rows - self.nulls - self.nans

    @property
    def dimension(self) -> int | None:
        """Numbers in one of the vectors whose mean is known; None where there are none."""
        return self.centroid.dimension if self.centroid is not None and self.centroid.count else None

    @property
    def missing(self) -> int:
        """Rows without: null or not a number."""
        return self.nulls + self.nans

    @property
    def min(self) -> float:
        """Least finite number; NaN where there is none."""
        return float(self.histogram.lows[0]) if len(self.histogram.lows) else math.nan

    @property
    def max(self) -> float:
        """Greatest finite number."""
        return float(self.histogram.highs[-1]) if len(self.histogram.highs) else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation of the finite numbers, divided by their count; NaN where there are none."""
        total = self.histogram.total
        return math.sqrt(max(self.m2, 0.0) / total) if total else math.nan

    def merge(self, other: Column) -> Column:
        """Both together.

        Where their types differ, the column isn't supported, with a note that says so.
        """
        if self.kind != other.kind:
            note = self.note or other.note or f"it is {self.type} in one part and {other.type} in another"
            return Column(
                name=self.name,
                type=self.type,
                kind="unsupported",
                rows=self.rows + other.rows,
                note=note,
                nulls=self.nulls + other.nulls,
            )
        mean, m2 = _moments(self, other)
        summed = ("rows", "nulls", "nans", "positive_infinities", "negative_infinities")
        frequencies = self.frequencies and other.frequencies and self.frequencies.merge(other.frequencies)
        return replace(
            self,
            **{name: getattr(self, name) + getattr(other, name) for name in summed},
            mean=mean,
            m2=m2,
            histogram=self.histogram.merge(other.histogram),
            frequencies=frequencies,
            centroid=_centroid(self.centroid, other.centroid),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Profile:
    """What is known of a table, or of a part of it.

    Args:
        rows: how many.
        columns: by name, in the table's order.
        source: the table's name or path; None of a DataFrame.
        version: the Delta version that was read, where it is one.
        slice: value of the column that `by=` names, where it is of such rows only.
        window: start of the time window, where it is of such rows only.
    """

    rows: int
    columns: Mapping[str, Column]
    source: str | None = None
    version: int | None = None
    slice: str | None = None
    window: str | None = None

    def merge(self, other: Profile) -> Profile:
        """Both together; a column that one lacks is null in its rows."""
        columns = {}
        for name in [*self.columns, *(name for name in other.columns if name not in self.columns)]:
            one, two = self.columns.get(name), other.columns.get(name)
            if one and two:
                columns[name] = one.merge(two)
            elif one:
                columns[name] = replace(one, rows=one.rows + other.rows, nulls=one.nulls + other.rows)
            elif two:
                columns[name] = replace(two, rows=two.rows + self.rows, nulls=two.nulls + self.rows)
        same = {
            name: getattr(self, name) if getattr(self, name) == getattr(other, name) else None
            for name in ("source", "version", "slice", "window")
        }
        return Profile(rows=self.rows + other.rows, columns=columns, **same)


def _moments(one: Column, two: Column) -> tuple[float, float]:
    """Mean and sum of squares of two parts together (Chan, Golub and LeVeque 1983)."""
    first, second = one.histogram.total, two.histogram.total
    if not first or not second:
        return (two.mean, two.m2) if second else (one.mean, one.m2)
    apart, share = two.mean - one.mean, second / (first + second)
    if math.isinf(apart):  # further apart than the greatest number
        return one.mean * (1 - share) + two.mean * share, math.inf
    return one.mean + apart * share, one.m2 + two.m2 + apart * apart * first * share


def _centroid(one: Centroid | None, two: Centroid | None) -> Centroid | None:
    """Of two parts together; where their dimensions differ that of the part with more vectors."""
    if one is None or two is None:
        return one or two
    if one.dimension != two.dimension:
        most, fewer = sorted((one, two), key=lambda it: (it.count, it.dimension), reverse=True)
        return replace(most, others=most.others + fewer.others + fewer.count)
    count = one.count + two.count
    mean = one.mean + (two.mean - one.mean) * (two.count / count) if count else one.mean
    return Centroid(dimension=one.dimension, others=one.others + two.others, count=count, mean=mean)
