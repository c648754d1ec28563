"""Azure Machine Learning's own figures of data drift and data quality, from Spark aggregates.

The definitions are those of the components `data_drift_compute_metrics`, `data_quality_statistics`,
`data_quality_compute_metrics` and `data_quality_metrics_joiner` of Azure/azureml-assets:

* Drift is of the rows without a null or NaN in any of the columns. Integers of which less than 5 % are different are
  categories, as are texts, booleans, dates, timestamps and binaries; types must be the same, or both integers, or both
  floats.
* Bins are ⌈log₂(rows of the shorter table) + 1⌉ of equal width over both tables' range. Jensen-Shannon is to base 2.
  For the population stability index each bin has a row more. Wasserstein is divided by the baseline's sample standard
  deviation, 0.001 at least. Kolmogorov-Smirnov is SciPy's `ks_2samp`; from 10,000 rows on, where Azure's component
  refuses, its asymptotic p-value is given. Pearson's test is `chisquare`, with the baseline's shares as expected.
* Rates of quality are rounded to five digits. Nulls are filled with the median or the most frequent value after they
  are counted, so they lie out of bounds where that does. Dates, timestamps, booleans and binaries aren't filled: there
  a null is a type error, too, and there are no bounds, as there are none of smallint. A rate is held against the
  baseline's own plus the threshold.
* A p-value breaches below its threshold and all else above, whatever the number of rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from aml_spark.monitoring.drift import distances, exact
from aml_spark.monitoring.metric import Metric, Signal, Thresholds
from aml_spark.monitoring.profiles import passes
from aml_spark.monitoring.profiles.profile import Column
from aml_spark.table import quoted

if TYPE_CHECKING:
    from pyspark.sql import Column as Expression, DataFrame

_INTEGERS = {"bigint", "int", "smallint", "tinyint"}
_FLOATS = {"double", "float"}
_CATEGORIES = {"string", "boolean", "timestamp", "date", "binary"}
_FILLED = _INTEGERS | _FLOATS | {"string"}
_BOUNDED = (_INTEGERS | _FLOATS) - {"smallint"}
_TESTS = {"two_sample_kolmogorov_smirnov_test", "pearsons_chi_squared_test"}
_MOST_ROWS = 10_000  # of a table, for SciPy's exact p-value


def compared(
    baseline_df: DataFrame, target_df: DataFrame, thresholds: Thresholds, *, columns: Sequence[str]
) -> list[Metric]:
    """Drift and quality as Azure Machine Learning has them.

    Args:
        baseline_df: rows that are as they should be.
        target_df: rows that may have drifted.
        thresholds: for Azure's names; of a rate what it may be above the baseline's, 0 where it is NaN.
        columns: those to look at, of either table.

    Returns:
        By column, drift first. What Azure leaves out or fails at is NaN, with the reason.
    """
    baseline_df, target_df = (
        df.select(*[quoted(name) for name in columns if name in df.columns]) for df in (baseline_df, target_df)
    )
    kinds, reasons = _kinds(baseline_df, target_df)
    found: dict[str, dict[str, tuple[float, str | None]]] = {
        name: {"jensen_shannon_distance": (math.nan, reason)} for name, reason in reasons.items()
    }
    nested = "Azure Machine Learning doesn't compare what is nested; a column of its own, df.select('a.b'), it does"
    found |= {name: {"jensen_shannon_distance": (math.nan, nested)} for name in columns if name not in {*kinds, *found}}
    clean = (_without_nulls(baseline_df), _without_nulls(target_df))
    numbers = [name for name, kind in kinds.items() if kind == "numbers"]
    found |= _numbers(*clean, numbers) if numbers else {}
    categories = [name for name, kind in kinds.items() if kind == "categories"]
    found |= _categories(*clean, categories) if categories else {}
    metrics = [
        _held("drift", name, metric, *told, thresholds.of(metric, name))
        for name in columns
        for metric, told in found.get(name, {}).items()
    ]
    return metrics + _quality(baseline_df, target_df, [name for name in columns if name in kinds], thresholds)


def _without_nulls(df: DataFrame) -> DataFrame:
    """What `dropna` leaves, which fails at names with dots."""
    from pyspark.sql import functions as F

    for name, kind in df.dtypes:
        column = F.col(quoted(name))
        df = df.where(column.isNotNull() & ~F.isnan(column) if kind in _FLOATS else column.isNotNull())
    return df


def _kinds(baseline_df: DataFrame, target_df: DataFrame) -> tuple[dict[str, str], dict[str, str]]:
    """What each column is compared as, and why one isn't."""
    from pyspark.sql import functions as F

    has, gets = dict(baseline_df.dtypes), dict(target_df.dtypes)
    kinds, reasons, integers = {}, {}, []
    for name in dict.fromkeys([*has, *gets]):
        pair = {has.get(name, ""), gets.get(name, "")}
        if "" in pair:
            reasons[name] = f"the {'target' if name in has else 'baseline'} has no such column"
        elif pair <= _INTEGERS:
            integers.append(name)
            kinds[name] = "numbers"
        elif pair <= _FLOATS:
            kinds[name] = "numbers"
        elif len(pair) > 1:
            reasons[name] = f"its type changed from {has[name]} to {gets[name]}"
        elif pair <= _CATEGORIES:
            kinds[name] = "categories"
        else:
            reasons[name] = f"Azure Machine Learning doesn't compare the type {has[name]}"
    if integers:
        asked = [F.count("*")]
        for name in integers:
            column = F.col(quoted(name))
            asked.append(F.count_distinct(column) + F.max(F.when(column.isNull(), 1).otherwise(0)))
        rows, *distinct = baseline_df.agg(*asked).collect()[0]
        for name, different in zip(integers, distinct, strict=True):
            if rows and different / rows < 0.05:
                kinds[name] = "categories"
    return kinds, reasons


def _numbers(
    baseline_df: DataFrame, target_df: DataFrame, names: Sequence[str]
) -> dict[str, dict[str, tuple[float, str | None]]]:
    """Drift of columns of numbers, of rows without a null."""
    (baseline,), (target,) = (passes.profiles(df, columns=names) for df in (baseline_df, target_df))
    reasons = {}
    for name in names:
        pair = {"baseline": baseline.columns[name], "target": target.columns[name]}
        for table, column in pair.items():
            if not column.rows:
                reasons[name] = f"no row of the {table} is without a null"
            elif column.positive_infinities or column.negative_infinities:
                reasons[name] = f"it has infinities in the {table}, for which there are no bins of equal width"
    told = [name for name in names if name not in reasons]
    measured = exact.distances(baseline_df, target_df, baseline, target) if told else {}
    bins = math.ceil(math.log2(min(baseline.rows, target.rows)) + 1) if told else 0
    counts = _equal_width(
        baseline_df,
        target_df,
        {name: _range(baseline.columns[name], target.columns[name]) for name in told},
        bins,
    )
    found: dict[str, dict[str, tuple[float, str | None]]] = {}
    for name in names:
        if name in reasons:
            found[name] = {"jensen_shannon_distance": (math.nan, reasons[name])}
            continue
        one, two = counts[name]
        more = [[count + 1 for count in side] for side in (one, two)]
        found[name] = {
            "jensen_shannon_distance": (distances.jensen_shannon(one, two), None),
            "population_stability_index": (distances.population_stability(*more), None),
        }
        if name not in measured:
            found[name]["normalized_wasserstein_distance"] = (math.nan, "the rows changed while they were read")
            continue
        column = baseline.columns[name]
        deviation = math.sqrt(column.m2 / (column.rows - 1)) if column.rows > 1 else math.nan
        note = "one row has no sample standard deviation" if column.rows == 1 else None
        wasserstein = measured[name].wasserstein / max(deviation, 0.001) if note is None else math.nan
        found[name]["normalized_wasserstein_distance"] = (wasserstein, note)
        found[name]["two_sample_kolmogorov_smirnov_test"] = _ks_2samp(measured[name], baseline.rows, target.rows)
    return found


def _range(one: Column, two: Column) -> tuple[float, float]:
    return min(one.min, two.min), max(one.max, two.max)


def _ks_2samp(measured: exact.ExactDistances, baseline: int, target: int) -> tuple[float, str | None]:
    """SciPy's p-value, which depends on the distance and the numbers of rows only."""
    if max(baseline, target) >= _MOST_ROWS:
        note = f"asymptotic: Azure Machine Learning refuses {_MOST_ROWS} rows and more"
        return distances.kolmogorov_smirnov_p(measured.kolmogorov_smirnov, baseline, target), note
    import numpy as np
    from scipy.stats import ks_2samp

    # Two columns of zeros and ones that lie as far apart.
    pair = [np.arange(rows) >= up_to for rows, up_to in zip((baseline, target), measured.reached, strict=True)]
    return float(ks_2samp(*(side.astype(float) for side in pair)).pvalue), None


def _equal_width(
    baseline_df: DataFrame, target_df: DataFrame, ranges: Mapping[str, tuple[float, float]], bins: int
) -> dict[str, tuple[list[int], list[int]]]:
    """Rows of either in bins as `RDD.histogram` makes them of edges, to the last bit of the arithmetic."""
    from pyspark.sql import functions as F

    names = list(ranges)
    entries = []
    for index, (name, (low, high)) in enumerate(ranges.items()):
        value = F.col(quoted(name)).cast("double")
        entries.append(F.struct(F.lit(index).alias("c"), _bin(value, low, high, bins).cast("int").alias("b")))
    sizes = {name: 1 if low == high else bins for name, (low, high) in ranges.items()}
    counts = {name: ([0] * size, [0] * size) for name, size in sizes.items()}
    if not names:
        return counts
    for row in _counted(baseline_df, target_df, entries, "b").where("b IS NOT NULL").collect():
        one, two = counts[names[row["c"]]]
        one[row["b"]], two[row["b"]] = row["n"], row["m"]
    return counts


def _bin(value: Expression, low: float, high: float, bins: int) -> Expression:
    from pyspark.sql import functions as F

    if low == high:
        return F.lit(0)
    width = (high - low) / bins
    edges = [low, *(low + number * width for number in range(1, bins + 1))]
    steps = [after - before for before, after in pairwise(edges)]
    if max(steps) - min(steps) < 1e-10:
        number = F.floor((value - F.lit(low)) / F.lit((edges[-1] - low) / bins))
    else:
        guess = F.floor((value - F.lit(low)) / F.lit(width)).cast("double")
        too_low = value >= F.lit(low) + (guess + 1) * F.lit(width)
        too_high = value < F.lit(low) + guess * F.lit(width)
        number = guess + too_low.cast("int") - too_high.cast("int")
    return F.when(value <= F.lit(edges[-1]), F.least(number, F.lit(bins - 1)))


def _counted(baseline_df: DataFrame, target_df: DataFrame, entries: Sequence[Any], by: str) -> DataFrame:
    """How many rows of either table have a value: `c` is the column's number, `n` the baseline's, `m` the target's."""
    from pyspark.sql import functions as F

    sides = []
    for df, n in ((baseline_df, 1), (target_df, 0)):
        rows = df.select(F.explode(F.array(*entries)).alias("e"))
        sides.append(rows.select("e.c", f"e.{by}", F.lit(n).alias("n"), F.lit(1 - n).alias("m")))
    return sides[0].union(sides[1]).groupBy("c", by).agg(F.sum("n").alias("n"), F.sum("m").alias("m"))


def _categories(
    baseline_df: DataFrame, target_df: DataFrame, names: Sequence[str]
) -> dict[str, dict[str, tuple[float, str | None]]]:
    """Drift of columns of categories, of rows without a null; added up on the executors, however many there are."""
    from pyspark.sql import functions as F
    from scipy.special import chdtrc

    entries = [
        F.struct(F.lit(index).alias("c"), F.col(quoted(name)).cast("string").alias("v"))
        for index, name in enumerate(names)
    ]
    counted = _counted(baseline_df, target_df, entries, "v")
    totals = counted.groupBy("c").agg(F.sum("n").alias("n_all"), F.sum("m").alias("m_all"))
    p, q = F.col("n") / F.col("n_all"), F.col("m") / F.col("m_all")
    middle = (p + q) / 2
    parts = [F.when(share > 0, share * F.log(share / middle)).otherwise(0.0) for share in (p, q)]
    more = F.log((F.col("m") + 1) / (F.col("n") + 1))
    expected = p * F.col("m_all")
    told = (
        counted.join(F.broadcast(totals.where("n_all > 0 AND m_all > 0")), "c")
        .groupBy("c", "n_all", "m_all")
        .agg(
            F.count("*").alias("k"),
            F.sum(parts[0] + parts[1]).alias("divergence"),
            F.sum((F.col("n") + 1) * more).alias("n_more"),
            F.sum((F.col("m") + 1) * more).alias("m_more"),
            F.sum(F.when(F.col("n") > 0, (F.col("m") - expected) ** 2 / expected)).alias("chi"),
            F.max(F.col("n") == 0).alias("new"),
        )
        .collect()
    )
    found: dict[str, dict[str, tuple[float, str | None]]] = {
        name: {"jensen_shannon_distance": (math.nan, "a table has no row without a null")} for name in names
    }
    for row in told:
        k = row["k"]
        divergence = min(max(row["divergence"] / (2 * math.log(2)), 0.0), 1.0)
        stability = row["m_more"] / (row["m_all"] + k) - row["n_more"] / (row["n_all"] + k)
        p_value = 0.0 if row["new"] else float(chdtrc(k - 1, row["chi"])) if k > 1 else math.nan
        found[names[row["c"]]] = {
            "jensen_shannon_distance": (math.sqrt(divergence), None),
            "population_stability_index": (max(stability, 0.0), None),
            "pearsons_chi_squared_test": (p_value, "it has one value only" if k == 1 else None),
        }
    return found


def _held(signal: Signal, column: str, metric: str, value: float, note: str | None, threshold: float | None) -> Metric:
    breached = threshold is not None and (value < threshold if metric in _TESTS else value > threshold)
    return Metric(
        signal=signal,
        metric=metric,
        value=value,
        column=column,
        threshold=threshold,
        breached=breached,
        note=note,
        unheld=note if metric == "jensen_shannon_distance" and threshold is not None and math.isnan(value) else None,
    )


def _quality(
    baseline_df: DataFrame, target_df: DataFrame, names: Sequence[str], thresholds: Thresholds
) -> list[Metric]:
    """Rates of nulls, type errors and values out of bounds."""
    types = dict(baseline_df.dtypes)
    bounded = [name for name in names if types[name] in _BOUNDED]
    before = _counts(baseline_df, names, dict.fromkeys(bounded, (math.inf, -math.inf)))
    bounds = {
        name: (before[name]["least"], before[name]["greatest"]) for name in bounded if before[name]["least"] is not None
    }
    after = _counts(target_df, names, bounds)
    texts = [name for name in names if types[name] == "string"]
    new = _new(baseline_df, target_df, texts) if texts else {}
    metrics = []
    for name in names:
        earlier, now = before[name], after[name]
        unfilled = types[name] not in _FILLED
        outside = None
        if name in bounds:
            median, (low, high) = now["median"], bounds[name]
            filled_outside = median is not None and not low <= median <= high
            outside = now["outside"] + filled_outside * now["nulls"]
        elif name in texts:
            rows, mode_is_new = new.get(name, (0, False))
            outside = rows + mode_is_new * now["nulls"]
        rates = {
            "null_value_rate": (earlier["nulls"], now["nulls"]),
            "data_type_error_rate": (unfilled * earlier["nulls"], unfilled * now["nulls"]),
        }
        if outside is not None:
            rates["out_of_bounds_rate"] = (0, outside)
        for metric, counts in rates.items():
            earlier_rate, rate = (_rate(count, of["rows"]) for count, of in zip(counts, (earlier, now), strict=True))
            more = thresholds.of(metric, name)
            threshold = None if more is None else earlier_rate + (0.0 if math.isnan(more) else more)
            note = "a table has no rows" if math.isnan(rate) or math.isnan(earlier_rate) else None
            metrics.append(_held("quality", name, metric, rate, note, threshold))
    return metrics


def _counts(
    df: DataFrame, names: Sequence[str], bounds: Mapping[str, tuple[float, float]]
) -> dict[str, dict[str, Any]]:
    """What is counted in a table by column, in one pass."""
    from pyspark.sql import functions as F

    types = dict(df.dtypes)
    asked = [F.count("*").alias("rows")]
    for index, name in enumerate(names):
        column = F.col(quoted(name))
        if types[name] in _FLOATS:
            column = F.nanvl(column, F.lit(None).cast(types[name]))
        asked.append(F.count(column).alias(f"values_{index}"))
        if name in bounds:
            low, high = bounds[name]
            outside = F.when((column < F.lit(low)) | (column > F.lit(high)), 1)
            asked += [
                F.min(column).alias(f"least_{index}"),
                F.max(column).alias(f"greatest_{index}"),
                F.percentile_approx(column, 0.5, 1000).alias(f"median_{index}"),
                F.count(outside).alias(f"outside_{index}"),
            ]
    row = df.agg(*asked).collect()[0].asDict()
    return {
        name: {
            "rows": row["rows"],
            "nulls": row["rows"] - row[f"values_{index}"],
            **{key: row.get(f"{key}_{index}") for key in ("least", "greatest", "median", "outside")},
        }
        for index, name in enumerate(names)
    }


def _new(baseline_df: DataFrame, target_df: DataFrame, names: Sequence[str]) -> dict[str, tuple[int, bool]]:
    """How many of a target's texts the baseline hasn't, and whether its most frequent one is such."""
    from pyspark.sql import functions as F

    entries = [F.struct(F.lit(index).alias("c"), F.col(quoted(name)).alias("v")) for index, name in enumerate(names)]
    told = (
        _counted(baseline_df, target_df, entries, "v")
        .where("v IS NOT NULL AND m > 0")
        .groupBy("c")
        .agg(
            F.coalesce(F.sum(F.when(F.col("n") == 0, F.col("m"))), F.lit(0)).alias("rows"),
            F.max(F.struct("m", (F.col("n") == 0).alias("is_new")))["is_new"].alias("mode_is_new"),
        )
        .collect()
    )
    return {names[row["c"]]: (row["rows"], row["mode_is_new"]) for row in told}


def _rate(count: int, rows: int) -> float:
    """A share, rounded as Spark does."""
    if not rows:
        return math.nan
    return float(Decimal(repr(count / rows)).quantize(Decimal("0.00001"), ROUND_HALF_UP))
