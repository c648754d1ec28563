"""How well a classifier tells the vectors of two tables apart: 0.5 where it can only guess.

A logistic regression learns on one half of a sample which table a vector is from, and is asked of the other half. It
runs on an executor; the driver gets a row a column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aml_spark.monitoring.profiles import fields

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame

SAMPLE = 5000
"""Vectors of each table at the most."""
LEAST = 20
"""Vectors of each table that are needed to learn from, and as many to ask of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Separability:
    """How well a classifier tells two tables' vectors apart.

    Args:
        roc_auc: probability that it takes a vector of the target rather for one of the target's than one of the
            baseline's; NaN where it can't be told.
        standard_error: of it (Hanley and McNeil, Radiology 143, 1982).
        baseline: vectors of the baseline that it was asked of.
        target: vectors of the target that it was asked of.
        note: why it can't be told.
    """

    roc_auc: float
    standard_error: float = math.nan
    baseline: int = 0
    target: int = 0
    note: str | None = None


def separability(baseline_df: DataFrame, target_df: DataFrame, columns: Sequence[str]) -> dict[str, Separability]:
    """Learn for each column of vectors which table one is from.

    The sample is by a hash of the vector: it is the same each time. Equal vectors, such as one that stands for nothing,
    count once in a table, and are in the same half in both. Vectors of
    another length than most, and those with a number that is null or not finite, are left out.

    Args:
        baseline_df: rows.
        target_df: rows.
        columns: of arrays of numbers that both have, by the names of their profiles.

    Returns:
        By column.
    """
    if not columns:
        return {}
    sides = [_sampled(df, columns, is_target) for is_target, df in enumerate((baseline_df, target_df))]
    schema = "c int, roc_auc double, baseline int, target int"
    found = {row["c"]: row for row in sides[0].union(sides[1]).groupBy("c").applyInPandas(_learner(), schema).collect()}
    told = {}
    for index, name in enumerate(columns):
        row = found.get(index)
        if row is None or row["roc_auc"] is None or math.isnan(row["roc_auc"]):
            note = f"fewer than {LEAST} vectors of a table are there to learn from, or to ask of"
            told[name] = Separability(roc_auc=math.nan, note=note)
        else:
            error = _standard_error(row["roc_auc"], row["baseline"], row["target"])
            told[name] = Separability(
                roc_auc=row["roc_auc"], standard_error=error, baseline=row["baseline"], target=row["target"]
            )
    return told


def _sampled(df: DataFrame, columns: Sequence[str], is_target: int) -> DataFrame:
    """At most `SAMPLE` vectors of each column, no two of them equal."""
    from pyspark.sql import Window, functions as F

    rows, leaves = df.count(), list(fields.leaves_of(df))
    entries = [
        F.struct(F.lit(index).alias("c"), F.expr(fields.named(leaves, name, "columns").value).alias("v"))
        for index, name in enumerate(columns)
    ]
    vectors = df.select(F.explode(F.array(*entries)).alias("e")).select("e.c", "e.v").where("v IS NOT NULL")
    hashed = vectors.withColumn("h", F.xxhash64("v"))
    if rows > 2 * SAMPLE:  # so that Spark needn't put all in order; the window cuts off what is too much
        hashed = hashed.where(F.pmod(F.col("h"), F.lit(1 << 30)) < F.lit(int((1 << 30) * 2 * SAMPLE / rows)))
    ordered = Window.partitionBy("c").orderBy("h")
    first = (
        hashed.dropDuplicates(["c", "h"])
        .withColumn("number", F.row_number().over(ordered))
        .where(F.col("number") <= SAMPLE)
    )
    return first.select("c", "v", (F.shiftright("h", 40) % 2 == 0).alias("learns"), F.lit(is_target).alias("y"))


def _learner() -> Callable[[pd.DataFrame], pd.DataFrame]:
    """What runs on an executor, which needn't have this library."""
    from aml_spark.worker.upkeep import forgetting

    least, forget = LEAST, forgetting()

    def learned(group: pd.DataFrame) -> pd.DataFrame:
        import numpy as np
        import pandas as pd

        def roc_auc(scores: Any, targets: Any) -> float:
            _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
            ranks = (np.cumsum(counts) - (counts - 1) / 2)[place.reshape(-1)]
            ones = int(targets.sum())
            return float((ranks[targets].sum() - ones * (ones + 1) / 2) / (ones * (len(targets) - ones)))

        lengths = group["v"].map(len)
        group = group[(lengths == lengths.mode()[0]) & (lengths > 0)]
        vectors = np.array([np.asarray(vector, dtype=float) for vector in group["v"]], dtype=float)
        is_target, learns = group["y"].to_numpy() == 1, group["learns"].to_numpy(dtype=bool)
        index, told = int(group["c"].iloc[0]) if len(group) else -1, np.nan
        if len(group):
            finite = np.isfinite(vectors).all(axis=1)
            vectors, is_target, learns = vectors[finite], is_target[finite], learns[finite]
        asked, known = ~learns, learns
        sizes = [int((half & side).sum()) for half in (known, asked) for side in (~is_target, is_target)]
        if min(sizes) >= least:
            center, scale = vectors[known].mean(axis=0), vectors[known].std(axis=0)
            inputs = (vectors - center) / np.where(scale > 0, scale, 1.0)
            inputs = np.column_stack([inputs, np.ones(len(inputs))])
            x, y = inputs[known], is_target[known].astype(float)
            weights = np.zeros(x.shape[1])
            for _ in range(20):  # Newton's method, with a ridge, so that it has an end where both are apart
                p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
                slope = x.T @ (p - y) + weights
                step = np.linalg.solve((x.T * (p * (1 - p))) @ x + np.eye(len(weights)), slope)
                weights -= step
                if np.abs(step).max() < 1e-6:
                    break
            told = roc_auc(inputs[asked] @ weights, is_target[asked])
        forget()
        return pd.DataFrame({"c": [index], "roc_auc": [told], "baseline": [sizes[2]], "target": [sizes[3]]})

    return learned


def _standard_error(roc_auc: float, baseline: int, target: int) -> float:
    both_higher, both_lower = roc_auc / (2 - roc_auc), 2 * roc_auc**2 / (1 + roc_auc)
    spread = (
        roc_auc * (1 - roc_auc) + (target - 1) * (both_higher - roc_auc**2) + (baseline - 1) * (both_lower - roc_auc**2)
    )
    return math.sqrt(max(spread, 0.0) / (baseline * target))
