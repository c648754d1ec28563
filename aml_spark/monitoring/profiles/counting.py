"""Numbers and texts are counted where they are: each task counts its own rows, and hands on what it counted.

Of 40 million numbers Spark's hash tables took about 250 ns each, beyond reading them; sorting in NumPy and counting
runs took about 80. What tasks hand on is small, and Spark's aggregates put it together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aml_spark.monitoring.profiles.histogram import CODE_AT_ONE, CODE_PER_LOG, MOST_BUCKETS

if TYPE_CHECKING:
    import pyarrow as pa

NULL, NAN, PLUS, MINUS = (2**40 + kind for kind in range(4))
"""In place of a bucket's code: no number, no finite number."""
COUNTED = "field int, level int, code long, count long, low double, high double, mean double, squares double"
"""Columns of what `numbers` counted, behind those of the group: `squares` is the sum of squared distances to `mean`."""
TEXTS = "field int, text string, count long"
"""Columns of what `texts` counted, behind those of the group."""
_BYTES = 1 << 26

Counter = Callable[["Iterator[pa.RecordBatch]"], "Iterator[pa.RecordBatch]"]
"""What `DataFrame.mapInArrow` runs on an executor, which needn't have this library."""


def numbers(keys: Sequence[str], fields: Sequence[int]) -> Counter:
    """Count doubles in the buckets of `Histogram.of`, at the level of the rows that are at hand.

    All rows together never have a lower level than some of them.

    Args:
        keys: the first columns, texts by which rows are grouped.
        fields: what the other columns are called in the result.
    """
    most, per_log, at_one = MOST_BUCKETS, CODE_PER_LOG, CODE_AT_ONE
    null, nan, plus, minus = NULL, NAN, PLUS, MINUS

    def in_buckets(column: Any) -> dict[str, Any]:
        import numpy as np
        import pyarrow as pa

        numbers = np.sort(column.to_numpy())  # nulls are NaN, which is last
        first = np.searchsorted(numbers, -np.inf, side="right")
        last, end = np.searchsorted(numbers, [np.inf, np.nan])
        other = {
            null: column.null_count,
            nan: len(numbers) - end - column.null_count,
            plus: end - last,
            minus: first,
        }
        other = {code: count for code, count in other.items() if count}
        numbers = numbers[first:last]
        sizes = np.abs(numbers)
        codes = np.floor(np.log(np.where(sizes > 0, sizes, 1.0)) * per_log + at_one)
        codes = np.maximum.accumulate((np.sign(numbers) * codes).astype(np.int64))
        starts = np.flatnonzero(np.diff(codes, prepend=-(2**62)))
        codes, level = codes[starts], 0
        while len(starts) > most:
            level += 1
            codes = np.sign(codes) * (np.abs(codes) >> 1)
            new = np.flatnonzero(np.diff(codes, prepend=-(2**62)))
            codes, starts = codes[new], starts[new]
        counts = np.diff(starts, append=len(numbers))
        lows, highs, means, squares = (np.empty(0),) * 4
        if len(starts):
            lows, highs = numbers[starts], numbers[starts + counts - 1]
            with np.errstate(over="ignore"):
                means = np.add.reduceat(numbers, starts) / counts
                means = np.clip(np.where(np.isfinite(means), means, lows / 2 + highs / 2), lows, highs)
                squares = np.add.reduceat((numbers - np.repeat(means, counts)) ** 2, starts)
        none = np.full(len(other), np.nan)
        found = {
            "level": np.full(len(starts) + len(other), level, dtype=np.int32),
            "code": np.concatenate([codes, np.array(list(other), dtype=np.int64)]),
            "count": np.concatenate([counts, np.array(list(other.values()), dtype=np.int64)]),
        }
        parts = {"low": lows, "high": highs, "mean": means, "squares": squares}
        found |= {name: np.concatenate([part, none]) for name, part in parts.items()}
        return {name: pa.array(array, from_pandas=array.dtype == np.float64) for name, array in found.items()}

    return _in_chunks(keys, fields, in_buckets)


def texts(keys: Sequence[str], fields: Sequence[int]) -> Counter:
    """Count texts, and nulls among them, as `numbers` does."""

    def by_value(column: Any) -> dict[str, Any]:
        import pyarrow as pa

        values, counts = column.value_counts().flatten()
        return {"text": values.cast(pa.string()), "count": counts}

    return _in_chunks(keys, fields, by_value)


def _in_chunks(keys: Sequence[str], fields: Sequence[int], count: Callable[[Any], dict[str, Any]]) -> Counter:
    """Count the columns of as many rows at once as are `_BYTES`, by group."""
    keys, fields, most = list(keys), list(fields), _BYTES

    def counted(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import numpy as np
        import pyarrow as pa

        def groups(table: Any) -> Iterator[Any]:
            places = np.zeros(len(table), dtype=np.int64)
            for key in keys:
                encoded = table.column(key).combine_chunks().dictionary_encode()
                encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
                places = places * len(encoded.dictionary) + encoded.indices.to_numpy()
            table = table.take(pa.array(np.argsort(places, kind="stable")))
            start = 0
            for size in np.unique(places, return_counts=True)[1].tolist():
                yield table.slice(start, size)
                start += size

        def rows(held: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
            table, parts = pa.Table.from_batches(held), []
            for group in groups(table) if keys else [table]:
                for place, field in enumerate(fields, len(keys)):
                    found = count(group.column(place))
                    size = len(found["count"])
                    told = {key: pa.repeat(group.column(key)[0], size) for key in keys}
                    parts.append(pa.table({**told, "field": pa.repeat(pa.scalar(field, pa.int32()), size), **found}))
            whole: list[pa.RecordBatch] = pa.concat_tables(parts).combine_chunks().to_batches()
            return whole

        held: list[pa.RecordBatch] = []
        size = 0
        for batch in batches:
            if batch.num_rows:
                held.append(batch)
                size += batch.nbytes
            if size >= most:
                yield from rows(held)
                held, size = [], 0
        if held:
            yield from rows(held)

    return counted
