"""Rows → `Profile`: one query over a DataFrame, whatever the number of columns, and two more for its vectors.

Each task counts its numbers by bucket and its texts by value, see `counting`; that is put together by column, also in
tasks. Only buckets, frequent values and the texts' lengths reach the driver.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aml_spark.monitoring.profiles import counting
from aml_spark.monitoring.profiles.fields import (
    Field,
    chosen,
    in_groups,
    in_order,
    leaves_of,
    named,
    slice_of,
    slices_of,
    window_of,
)
from aml_spark.monitoring.profiles.frequencies import Frequencies
from aml_spark.monitoring.profiles.histogram import Histogram
from aml_spark.monitoring.profiles.profile import Centroid, Column, Kind, Profile

if TYPE_CHECKING:
    from pyspark.sql import Column as Expression, DataFrame

_MAX = "1.7976931348623157E308D"

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

    It is computed once, and where it has vectors twice more, for these alone. With `by` it is once more, for the most
    frequent values of that column.

    Args:
        df: any rows, also none. Structs are taken apart: `b` in the struct `a` is the column `a.b`. A text of more than
            `MOST_CHARACTERS` characters is counted by its beginning and its length.
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
        One profile for each slice that has rows, the most frequent first, and then one for each window. One where there
        is nothing to group by, or no row.

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
        _counted(base, keys, fields),
        _centroids(base, keys, {at: field.value for at, field in enumerate(fields) if field.kind == "embedding"}),
    ):
        for place, told in part.items():
            known.setdefault(place, {}).update(told)
    rows = {group: told["rows"] for (group, _), told in known.items()}
    if not fields:
        each = in_groups(base, keys).groupBy(*keys).agg(F.count("*").alias("rows")).collect()
        rows = {_group(row): row["rows"] for row in each if row["rows"]}
    place_of = in_order(slices)
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
        for group in sorted(rows or {(None, None): 0}, key=lambda group: place_of(*group))
    ]


def _of_kind(kind: Kind, told: Mapping[str, Any]) -> dict[str, Any]:
    """Of what isn't supported rows and nulls only; of booleans not how long their names are."""
    known = {"unsupported": ("rows", "nulls"), "boolean": ("rows", "nulls", "frequencies")}
    return {name: value for name, value in told.items() if name in known.get(kind, told)}


def _group(row: Any) -> Group:
    known = row.asDict()
    return known.get("slice"), known.get("window")


# Numbers and texts


def _counted(base: DataFrame, keys: Mapping[str, Expression], fields: Sequence[Field]) -> Told:
    """What the fields' numbers and texts give."""
    from pyspark.sql import functions as F

    numbers = {at: field.number for at, field in enumerate(fields) if field.number is not None}
    texts = {at: field.text for at, field in enumerate(fields) if field.text is not None}
    if not fields:
        return {}
    # As one array Spark hands numbers on faster than as columns.
    read = [F.expr(f"array({', '.join(numbers.values())})").alias(counting.NUMBERS)] if numbers else []
    read += [F.expr(text).alias(f"text{at}") for at, text in texts.items()]
    of = "".join(f"{key} string, " for key in keys)
    each = [*keys, "field"]
    rows = (
        base.select(*(key.alias(name) for name, key in keys.items()), *read)
        .mapInArrow(counting.counted(list(keys), list(numbers), list(texts)), of + counting.COUNTED)
        # A table may have more texts than fit in a process. Parts of numbers go along; equal ones count as often.
        .groupBy(*each, "text", "part")
        .agg(F.sum("count").alias("count"))
        .repartition(*each)
        .mapInArrow(counting.together(list(keys)), of + counting.TOGETHER)
        .collect()
    )
    return {(_group(row), row["field"]): _of_texts(row) if row["level"] is None else _of_numbers(row) for row in rows}


def _of_numbers(row: Any) -> dict[str, Any]:
    import numpy as np

    codes, counts = (np.array(row[name], dtype=np.int64) for name in ("codes", "counts"))
    lows, highs, means = (np.array(row[name], dtype=np.float64) for name in ("lows", "highs", "means"))
    histogram = Histogram(level=row["level"], codes=codes, counts=counts, lows=lows, highs=highs, means=means)
    told: dict[str, Any] = {
        "rows": histogram.total + sum(row[name] for name in ("nulls", "nans", "plus", "minus")),
        "nulls": row["nulls"],
        "nans": row["nans"],
        "positive_infinities": row["plus"],
        "negative_infinities": row["minus"],
        "histogram": histogram,
    }
    if histogram.total:
        told["mean"] = float(np.clip(row["mean"], lows[0], highs[-1]))
        told["m2"] = float(row["squares"]) if lows[0] < highs[-1] else 0.0
    return told


def _of_texts(row: Any) -> dict[str, Any]:
    lengths, rows = row["lengths"], row["rows"]
    frequencies = Frequencies(
        counts=dict(zip(row["texts"], row["often"], strict=True)),
        rest=row["rest"],
        distinct=row["distinct"],
        most_missed=row["most_missed"],
    )
    told: dict[str, Any] = {"rows": row["nulls"] + sum(rows), "nulls": row["nulls"], "frequencies": frequencies}
    if lengths:
        told["histogram"] = Histogram.of(lengths, counts=rows)
        told["mean"] = mean = sum(length * count for length, count in zip(lengths, rows, strict=True)) / sum(rows)
        told["m2"] = sum(count * (length - mean) ** 2 for length, count in zip(lengths, rows, strict=True))
    return told


# Vectors


def _centroids(base: DataFrame, keys: Mapping[str, Expression], vectors: Mapping[int, str]) -> Told:
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


def _cells(base: DataFrame, keys: Mapping[str, Expression], vectors: Mapping[int, str]) -> DataFrame:
    """One row for each row and `vector`: its group, and which `field` it is of."""
    from pyspark.sql import functions as F

    grouped = in_groups(base, keys, F.array(*map(F.expr, vectors.values())).alias("vectors"))
    cells = grouped.select(*keys, F.posexplode("vectors").alias("place", "vector"))
    fields = list(vectors)
    if fields == list(range(len(fields))):
        return cells.withColumnRenamed("place", "field")
    field = F.element_at(F.array(*map(F.lit, fields)), F.col("place") + 1)
    return cells.select(*keys, field.alias("field"), "vector")
