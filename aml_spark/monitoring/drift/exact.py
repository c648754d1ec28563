"""Distances of columns of numbers from all rows: a second pass over both tables, after their profiles.

Spark puts the numbers of one bucket in order and adds up how many of either table lie up to each; the driver knows
from the profiles how many lie in the buckets before. So no task has more than a bucket's numbers to sort, and the
driver gets a row a bin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_spark.monitoring.drift import distances as measures
from aml_spark.monitoring.profiles import fields
from aml_spark.monitoring.profiles.profile import Column, Profile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pyspark.sql import DataFrame, Row

_KNOWN = (
    "c int, b bigint, n0 bigint, m0 bigint, n_all bigint, m_all bigint, n_low bigint, m_low bigint, "
    "n_rows bigint, m_rows bigint, bins int"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExactDistances:
    """How far the numbers of two tables lie apart.

    Args:
        kolmogorov_smirnov: greatest distance of the cumulative shares, infinities among them.
        reached: how many numbers of baseline and target lie up to where it is.
        wasserstein: of the finite numbers, in their unit; NaN where they are too great.
        baseline_bins: numbers of the baseline in bins of about equal frequency in it; the first and last are for what
            lies below and above its range, and empty here. int64.
        target_bins: the target's in the same.
    """

    kolmogorov_smirnov: float
    reached: tuple[int, int]
    wasserstein: float
    baseline_bins: NDArray[np.int64]
    target_bins: NDArray[np.int64]

    @property
    def out_of_bounds(self) -> int:
        """Finite numbers of the target that lie outside of the baseline's range."""
        return int(self.target_bins[0] + self.target_bins[-1])


def distances(
    baseline_df: DataFrame, target_df: DataFrame, baseline: Profile, target: Profile
) -> dict[str, ExactDistances]:
    """Measure the columns of numbers that both tables have.

    Args:
        baseline_df: rows.
        target_df: rows; of the same window and slice as its profile.
        baseline: profile of just these rows.
        target: likewise.

    Returns:
        By column. One without a finite number in one of the tables isn't in it, and nor is one whose rows aren't those
        of the profile any more.
    """
    names = [
        name
        for name, column in baseline.columns.items()
        if _is_measured(column) and name in target.columns and _is_measured(target.columns[name])
    ]
    if not names:
        return {}
    pairs = [(baseline.columns[name], target.columns[name]) for name in names]
    found = _found(baseline_df, target_df, names, pairs)
    measured = {}
    for index, name in enumerate(names):
        rows = [row for row in found if row["c"] == index]
        one, two = pairs[index]
        if (sum(row["n"] for row in rows), sum(row["m"] for row in rows)) == (
            one.histogram.total,
            two.histogram.total,
        ):
            measured[name] = _measured(one, two, rows)
    return measured


def _is_measured(column: Column) -> bool:
    return column.kind == "numeric" and column.histogram.total > 0


def _found(
    baseline_df: DataFrame,
    target_df: DataFrame,
    names: Sequence[str],
    pairs: Sequence[tuple[Column, Column]],
) -> list[Row]:
    """By column and bin how many numbers of either there are, and what the cumulative shares do in buckets.

    That is the area between them, and their greatest distance with how many numbers lie up to there.
    """
    from pyspark.sql import Window, functions as F

    levels = [max(one.histogram.level, two.histogram.level) for one, two in pairs]
    rows = _numbers(baseline_df, names, levels, 1, 0).union(_numbers(target_df, names, levels, 0, 1))
    counted = rows.groupBy("c", "b", "v").agg(F.sum("n").alias("n"), F.sum("m").alias("m"))
    known = baseline_df.sparkSession.createDataFrame(_known(pairs), _KNOWN)
    bucket = Window.partitionBy("c", "b").orderBy("v")
    so_far = bucket.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    n, m = (F.col(f"{side}0") + F.sum(side).over(so_far) for side in ("n", "m"))
    ordered = counted.join(F.broadcast(known), ["c", "b"]).select(
        "*", n.alias("n_to"), m.alias("m_to"), F.lead("v").over(bucket).alias("next")
    )
    apart = F.abs(F.col("n_to") / F.col("n_all") - F.col("m_to") / F.col("m_all"))
    n_reached, m_reached = (F.col(f"{side}_to") + F.col(f"{side}_low") for side in ("n", "m"))
    n_rows, m_rows = (F.col(f"{side}_rows") for side in ("n", "m"))
    middle = (F.col("n_to") - F.col("n") / 2) / F.col("n_all")
    is_above = (F.col("n") == 0) & (F.col("n_to") == F.col("n_all"))
    inside = F.least(F.floor(middle * F.col("bins")).cast("int"), F.col("bins") - 1)
    of = F.when(F.col("n_to") == 0, F.lit(-1)).when(is_above, F.col("bins")).otherwise(inside)
    greatest = F.max(F.struct(F.abs(n_reached / n_rows - m_reached / m_rows), n_reached, m_reached))
    return (
        ordered.groupBy("c", of.alias("bin"))
        .agg(
            F.sum("n").alias("n"),
            F.sum("m").alias("m"),
            F.sum(apart * (F.col("next") - F.col("v"))).alias("area"),
            greatest.alias("greatest"),
        )
        .collect()
    )


def _numbers(df: DataFrame, names: Sequence[str], levels: Sequence[int], n: int, m: int) -> DataFrame:
    """The finite numbers of columns, below each other, each with its bucket."""
    from pyspark.sql import functions as F

    leaves, entries = list(fields.leaves_of(df)), []
    for index, (name, level) in enumerate(zip(names, levels, strict=True)):
        value = F.expr(fields.named(leaves, name, "the profile").value).cast("double")
        is_number = value.isNotNull() & (F.abs(value) < F.lit(math.inf))  # NaN is greater than infinity
        entry = F.struct(F.lit(index).alias("c"), fields.bucket_of(value, level).alias("b"), value.alias("v"))
        entries.append(F.when(is_number, entry))
    rows = df.select(F.explode(F.array(*entries)).alias("e")).where("e IS NOT NULL")
    return rows.select("e.c", "e.b", "e.v", F.lit(n).cast("bigint").alias("n"), F.lit(m).cast("bigint").alias("m"))


def _known(pairs: Sequence[tuple[Column, Column]]) -> list[tuple[int, ...]]:
    """For each bucket that has a number: how many of either table lie below it, and how many there are."""
    import numpy as np

    known: list[tuple[int, ...]] = []
    for index, (one, two) in enumerate(pairs):
        first, second = measures.together(one.histogram, two.histogram)
        codes = np.union1d(first.codes, second.codes)
        before = [
            np.concatenate([[0], np.cumsum(histogram.counts)])[np.searchsorted(histogram.codes, codes)]
            for histogram in (first, second)
        ]
        of_column = (
            first.total,
            second.total,
            one.negative_infinities,
            two.negative_infinities,
            _ordered(one),
            _ordered(two),
            measures.bins_for(first.total),
        )
        known += [(index, int(code), int(n), int(m), *of_column) for code, n, m in zip(codes, *before, strict=True)]
    return known


def _ordered(column: Column) -> int:
    """How many numbers there are, infinities among them."""
    return column.histogram.total + column.negative_infinities + column.positive_infinities


def _measured(baseline: Column, target: Column, rows: Sequence[Row]) -> ExactDistances:
    """Put the bins of a column together."""
    import numpy as np

    n_rows, m_rows = _ordered(baseline), _ordered(target)
    low = (baseline.negative_infinities, target.negative_infinities)
    apart, *reached = max((abs(low[0] / n_rows - low[1] / m_rows), *low), *(tuple(row["greatest"]) for row in rows))
    first, second = measures.together(baseline.histogram, target.histogram)
    codes = np.union1d(first.codes, second.codes)
    lows, highs = np.full((2, len(codes)), np.inf), np.full((2, len(codes)), -np.inf)
    ends = np.zeros((2, len(codes)))
    for side, histogram in enumerate((first, second)):
        at = np.searchsorted(codes, histogram.codes)
        lows[side, at], highs[side, at], ends[side, at] = histogram.lows, histogram.highs, histogram.counts
    gaps = np.abs(np.diff(np.cumsum(ends, axis=1) / ends.sum(axis=1, keepdims=True), axis=0))[0, :-1]
    with np.errstate(over="ignore", invalid="ignore"):
        between = float((gaps * (lows.min(axis=0)[1:] - highs.max(axis=0)[:-1])).sum())
    moved = math.fsum(row["area"] or 0.0 for row in rows) + between
    bins = measures.bins_for(first.total)
    counts = np.zeros((2, bins + 2), dtype=np.int64)
    for row in rows:
        counts[:, row["bin"] + 1] = row["n"], row["m"]
    return ExactDistances(
        kolmogorov_smirnov=float(apart),
        reached=(int(reached[0]), int(reached[1])),
        wasserstein=moved if math.isfinite(moved) else math.nan,
        baseline_bins=counts[0],
        target_bins=counts[1],
    )
