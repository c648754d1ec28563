"""Rows → `Profile`: Spark's aggregates over a DataFrame. Only buckets and frequent values reach the driver.

Each task counts its numbers by bucket and its texts by value, see `counting`; Spark's aggregates put that together, and
join buckets until they are few. So the plan has a few steps, however many columns there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aml_spark.monitoring.profiles import counting
from aml_spark.monitoring.profiles.counting import MINUS, NAN, NULL, PLUS
from aml_spark.monitoring.profiles.fields import (
    MISSING,
    OTHER,
    chosen,
    leaves_of,
    named,
    slice_of,
    slices_of,
    window_of,
)
from aml_spark.monitoring.profiles.frequencies import MOST_VALUES, Frequencies
from aml_spark.monitoring.profiles.histogram import MOST_BUCKETS, Histogram
from aml_spark.monitoring.profiles.profile import Centroid, Column, Kind, Profile

if TYPE_CHECKING:
    from pyspark.sql import Column as Expression, DataFrame

_MAX = "1.7976931348623157E308D"
# Joining once halves the number of buckets at most, so this many times are never too many: ceil(log2(buckets / most)).
_TIMES = f"IF(buckets <= {MOST_BUCKETS}, 0, length(bin(CAST(buckets - 1 AS BIGINT) DIV {MOST_BUCKETS})))"
_JOINED = f"""CASE
    WHEN code >= {NULL}L THEN code
    WHEN code < 0 THEN -shiftright(-code, times)
    ELSE shiftright(code, times) END"""

Group = tuple[str | None, str | None]
Told = dict[tuple[Group, int], dict[str, Any]]
"""What is known, by group and place of the field, as arguments of `Column`."""


def profiles(
    df: DataFrame,
    *,
    columns: Sequence[str] | None = None,
    by: str | None = None,
    slices: Sequence[str] | None = None,
    time_column: str | None = None,
    window: str | None = None,
    source: str | None = None,
    version: int | None = None,
) -> list[Profile]:
    """Profile a DataFrame, or each group of its rows.

    It is computed once for its numbers, once for its texts and booleans, and twice for its vectors; of a table in
    columns each pass reads its own ones only. With `by` there is one more for its most frequent values.

    Args:
        df: any rows, also none. Structs are taken apart: `b` in the struct `a` is the column `a.b`. A text of more than
            `MOST_CHARACTERS` characters is counted by its beginning.
        columns: the columns to profile, nested ones as `a.b`, a struct's name for all in it; all of them by default.
        by: a column whose values, as texts, have a profile each; the rest is in the slice `(other)`, nulls are in
            `(missing)`.
        slices: those values; None takes the `MOST_SLICES` most frequent.
        time_column: date or timestamp that tells a row's window; it isn't read without `window`.
        window: "hour", "day", "week", "month", "quarter" or "year". Windows begin as the session's time zone has it,
            weeks on Mondays. A profile's `window` is that begin in ISO 8601: a date, of hours with the zone's distance
            from UTC (so that the hour that comes twice is two). Rows without a time are in the window `(missing)`.
        source: the table's name or path, to be told.
        version: the version of it that the DataFrame is.

    Returns:
        One profile for each group of slice and window that has rows, in the order of slices (most frequent first) and
        windows. One where there is nothing to group by, or no row.

    Raises:
        ArgumentError: `window` is none of these, or comes without `time_column`.
        SchemaError: there is no such column, two with the same name, or one that can't be grouped by.
    """
    from pyspark.sql import functions as F

    base = df.toDF(*(f"c{at}" for at in range(len(df.columns))))
    leaves = list(leaves_of(df, base.columns))
    fields = chosen(leaves, columns)
    keys: dict[str, Expression] = {}
    if by is not None:
        field = named(leaves, by, "by")
        slices = slices_of(base, field) if slices is None else slices
        keys["slice"] = slice_of(field, slices)
    if window is not None:
        keys["window"] = window_of(leaves, time_column, window)
    known: Told = {}
    for part in (
        _numbers(base, keys, {at: field.number for at, field in enumerate(fields) if field.number is not None}),
        _texts(base, keys, {at: field.text for at, field in enumerate(fields) if field.text is not None}),
        _centroids(base, keys, {at: field.value for at, field in enumerate(fields) if field.kind == "embedding"}),
    ):
        for place, told in part.items():
            known.setdefault(place, {}).update(told)
    rows = {group: told["rows"] for (group, _), told in known.items()}
    if not fields:
        each = base.select(*_aliased(keys)).groupBy(*keys).agg(F.count("*").alias("rows")).collect()
        rows = {_group(row): row["rows"] for row in each if row["rows"]}
    order = {name: place for place, name in enumerate([*(slices or ()), OTHER, MISSING])}
    return [
        Profile(
            rows=rows.get(group, 0),
            columns={
                field.name: Column(
                    name=field.name,
                    type=field.type,
                    kind=field.kind,
                    note=field.note,
                    **_of_kind(field.kind, {"rows": 0, **known.get((group, at), {})}),
                )
                for at, field in enumerate(fields)
            },
            source=source,
            version=version,
            slice=group[0],
            window=group[1],
        )
        for group in sorted(
            rows or {(None, None): 0},
            key=lambda group: (order.get(group[0] or "", 0), group[1] == MISSING, group[1] or ""),
        )
    ]


def _of_kind(kind: Kind, told: Mapping[str, Any]) -> dict[str, Any]:
    """Of what isn't supported rows and nulls only."""
    return {name: value for name, value in told.items() if kind != "unsupported" or name in ("rows", "nulls")}


def _group(row: Any) -> Group:
    known = row.asDict()
    return known.get("slice"), known.get("window")


def _aliased(keys: Mapping[str, Expression]) -> list[Expression]:
    return [expression.alias(name) for name, expression in keys.items()]


def _by_task(
    base: DataFrame, keys: Mapping[str, Expression], values: Mapping[int, Expression], count: Any, schema: str
) -> DataFrame:
    """What each task counted in its rows."""
    columns = base.select(*_aliased(keys), *(value.alias(f"n{field}") for field, value in values.items()))
    return columns.mapInArrow(count(list(keys), list(values)), "".join(f"{key} string, " for key in keys) + schema)


# Numbers


def _numbers(base: DataFrame, keys: Mapping[str, Expression], numbers: Mapping[int, Expression]) -> Told:
    """What the fields' numbers give."""
    from pyspark.sql import functions as F
    from pyspark.sql.window import Window

    if not numbers:
        return {}
    each = [*keys, "field"]
    whole = Window.partitionBy(*each)

    def joined(buckets: DataFrame) -> DataFrame:
        """With the neighbours joined, so many `times`, that are one bucket at the `level`."""
        return (
            buckets.withColumn("code", F.expr(_JOINED))
            .groupBy(*each, "code")
            .agg(
                *(F.sum(name).alias(name) for name in ("count", "share", "weighted", "squares")),
                F.min("low").alias("low"),
                F.max("high").alias("high"),
                F.max("level").alias("level"),
            )
        )

    counted = (
        _by_task(base, keys, numbers, counting.numbers, counting.COUNTED)
        .withColumn("total", F.sum(F.expr("IF(low IS NULL, 0L, count)")).over(whole))
        .withColumn("share", F.expr("count / nullif(total, 0L)"))
        .withColumn("weighted", F.expr("mean * share"))
        .withColumn("middle", F.sum("weighted").over(whole))
        .withColumn("squares", F.expr("squares + count * (mean - middle) * (mean - middle)"))
        .withColumn("times", F.max("level").over(whole) - F.col("level"))
        .withColumn("level", F.expr("level + times"))
    )
    buckets = (
        joined(counted)
        .withColumn("buckets", F.count("low").over(whole))
        .withColumn("times", F.expr(_TIMES))
        .withColumn("level", F.expr("level + times"))
    )
    parts = ("code", "count", "low", "high", "mean")
    rows = (
        joined(buckets)
        .withColumn("mean", F.expr("weighted / share"))
        .groupBy(*each)
        .agg(
            F.collect_list(F.struct(*parts)).alias("buckets"),
            F.sum("squares").alias("squares"),
            F.max("level").alias("level"),
        )
        .select(*each, "squares", "level", *(F.col("buckets").getField(part).alias(part) for part in parts))
        .collect()
    )
    return {(_group(row), row["field"]): _counted(row) for row in rows}


def _counted(row: Any) -> dict[str, Any]:
    import numpy as np

    codes, counts = (np.array(row[name], dtype=np.int64) for name in ("code", "count"))
    special = {code: int(counts[codes == code].sum()) for code in (NULL, NAN, PLUS, MINUS)}
    order = np.argsort(codes)[: int((codes < NULL).sum())]
    lows, highs, means = (np.array(row[name], dtype=np.float64)[order] for name in ("low", "high", "mean"))
    found = Histogram(
        level=row["level"],
        codes=codes[order],
        counts=counts[order],
        lows=lows,
        highs=highs,
        means=np.clip(means, lows, highs),
    )
    told: dict[str, Any] = {
        "rows": int(counts.sum()),
        "nulls": special[NULL],
        "nans": special[NAN],
        "positive_infinities": special[PLUS],
        "negative_infinities": special[MINUS],
        "histogram": found.fitted(),
    }
    if len(order):
        told["mean"] = float(np.clip((found.means * (found.counts / found.total)).sum(), lows[0], highs[-1]))
        told["m2"] = float(row["squares"]) if lows[0] < highs[-1] else 0.0
    return told


# Texts


def _texts(base: DataFrame, keys: Mapping[str, Expression], texts: Mapping[int, Expression]) -> Told:
    """The most frequent texts; of equally frequent ones the first in the order of their bytes."""
    from pyspark.sql import functions as F
    from pyspark.sql.window import Window

    if not texts:
        return {}
    each = [*keys, "field"]
    ordered = Window.partitionBy(*each).orderBy(F.expr("text IS NULL"), F.desc("count"), "text")
    frequent = F.expr(f"text IS NOT NULL AND rank <= {MOST_VALUES}")
    rest = F.expr(f"IF(text IS NOT NULL AND rank > {MOST_VALUES}, count, NULL)")
    rows = (
        _by_task(base, keys, texts, counting.texts, counting.TEXTS)
        .groupBy(*each, "text")
        .agg(F.sum("count").alias("count"))
        .withColumn("rank", F.row_number().over(ordered))
        .groupBy(*each)
        .agg(
            F.sum("count").alias("rows"),
            F.sum(F.expr("IF(text IS NULL, count, 0L)")).alias("nulls"),
            F.collect_list(F.when(frequent, F.struct("text", "count"))).alias("frequent"),
            F.sum(rest).alias("rest"),
            F.max(rest).alias("most_missed"),
            F.count("text").alias("distinct"),
        )
        .select("*", F.expr("frequent.text AS texts"), F.expr("frequent.count AS counts"))
        .drop("frequent")
        .collect()
    )
    return {
        (_group(row), row["field"]): {
            "rows": row["rows"],
            "nulls": row["nulls"],
            "frequencies": Frequencies(
                counts=dict(zip(row["texts"], row["counts"], strict=True)),
                rest=row["rest"] or 0,
                distinct=row["distinct"],
                most_missed=row["most_missed"] or 0,
            ),
        }
        for row in rows
    }


# Vectors


def _centroids(base: DataFrame, keys: Mapping[str, Expression], vectors: Mapping[int, Expression]) -> Told:
    """The means of vectors, of the dimension that most clean ones have; of several the greatest."""
    import numpy as np
    from pyspark.sql import functions as F

    if not vectors:
        return {}
    each = [*keys, "field"]
    clean = F.forall("vector", lambda one: one.isNotNull() & (F.abs(one) <= F.expr(_MAX)))
    sized = (
        _cells(base, keys, vectors)
        .where("vector IS NOT NULL")
        .select(*each, F.size("vector").alias("size"), clean.alias("clean"), "vector")
    )
    sizes: dict[tuple[Group, int], list[tuple[int, int, int]]] = {}
    counts = [F.count("*").alias("vectors"), F.count(F.when(F.col("clean"), 1)).alias("good")]
    for row in sized.groupBy(*each, "size").agg(*counts).collect():
        sizes.setdefault((_group(row), row["field"]), []).append((row["good"], row["size"], row["vectors"]))
    wanted = F.lit(False)
    for field, size in sorted({(field, max(found)[1]) for (_, field), found in sizes.items()}):
        wanted |= (F.col("field") == field) & (F.col("size") == size)
    means = (
        sized.where(wanted & F.col("clean"))
        .select(*each, "size", F.posexplode("vector").alias("at", "number"))
        .groupBy(*each, "size", "at")
        .agg(F.avg("number").alias("mean"))
        .groupBy(*each, "size")
        .agg(F.sort_array(F.collect_list(F.struct("at", "mean"))).alias("means"))
        .select(*each, "size", F.col("means").getField("mean").alias("means"))
    )
    lying = {(_group(row), row["field"], row["size"]): row["means"] for row in (means.collect() if sizes else ())}
    told = {}
    for (group, field), found in sizes.items():
        good, size, _ = max(found)
        mean = np.array(lying.get((group, field, size), [math.nan] * size), dtype=np.float64)
        others = sum(vectors for _, _, vectors in found) - good
        told[group, field] = {"centroid": Centroid(dimension=size, others=others, count=good, mean=mean)}
    return told


def _cells(base: DataFrame, keys: Mapping[str, Expression], vectors: Mapping[int, Expression]) -> DataFrame:
    """One row for each row and `vector`: its group, and which `field` it is of."""
    from pyspark.sql import functions as F

    cells = base.select(*_aliased(keys), F.posexplode(F.array(*vectors.values())).alias("place", "vector"))
    fields = list(vectors)
    if fields == list(range(len(fields))):
        return cells.withColumnRenamed("place", "field")
    field = F.element_at(F.array(*map(F.lit, fields)), F.col("place") + 1)
    return cells.select(*keys, field.alias("field"), "vector")
