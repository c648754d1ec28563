"""Numbers and texts are counted where they are: each task counts its own rows, and hands on what it counted.

Of 40 million numbers Spark's hash tables took about 250 ns each, beyond reading them; sorting in NumPy and counting
runs takes about 30. What tasks hand on is small: a row for each column of numbers, one for each different text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aml_spark.monitoring.profiles.fields import MOST_CHARACTERS
from aml_spark.monitoring.profiles.frequencies import MOST_VALUES
from aml_spark.monitoring.profiles.histogram import CODE_AT_ONE, CODE_PER_LOG, MOST_BUCKETS

if TYPE_CHECKING:
    import pyarrow as pa

NUMBERS = "numbers"
"""The column of what is counted: an array of the fields' doubles."""
COUNTED = (
    "field int, nulls long, nans long, plus long, minus long, mean double, squares double, level int, "
    "codes array<long>, counts array<long>, lows array<double>, highs array<double>, means array<double>"
)
"""Columns of what `numbers` counted, behind those of the group: how many are no finite number, the mean of the others
and the sum of their squared distances to it, and their `Histogram`."""
TEXTS = "field int, text string, count long"
"""Columns of what `texts` counted, behind those of the group."""
FREQUENT = (
    "field int, nulls long, distinct long, rest long, most_missed long, texts array<string>, counts array<long>, "
    "lengths array<int>, rows array<long>"
)
"""Columns of what `frequent` keeps, behind those of the group: `Frequencies`, and how many texts have which length."""
_BYTES = 1 << 26

Counter = Callable[["Iterable[pa.RecordBatch]"], "Iterable[pa.RecordBatch]"]
"""What `DataFrame.mapInArrow` runs on an executor, which needn't have this library."""
_Part = tuple[Any, ...]
"""The values of `COUNTED` behind the field; the buckets as arrays."""


def numbers(keys: Sequence[str], fields: Sequence[int]) -> Counter:
    """Count doubles in the buckets of `Histogram.of`, at the level of the rows that are at hand.

    All rows together never have a lower level than some of them.

    Args:
        keys: columns of texts by which rows are grouped.
        fields: what the places of the array `NUMBERS` are called in the result.
    """
    keys, fields, name, most, few = list(keys), list(fields), NUMBERS, _BYTES, 1024
    counted, together = _of_numbers()
    told, in_groups, in_chunks = _told(keys), _in_groups(keys), _in_chunks()

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import numpy as np

        parts: dict[tuple[Any, ...], list[_Part]] = {}
        size = 0
        for chunk in in_chunks(batches):
            for group, table in in_groups(chunk):
                values = table.column(name).combine_chunks().flatten()
                rows = values.to_numpy(zero_copy_only=False).reshape(-1, len(fields))
                columns = np.empty(rows.shape[::-1])
                for start in range(0, len(rows), few):  # a processor's cache holds so many
                    columns[:, start : start + few] = rows[start : start + few].T
                nulls = np.zeros(len(fields), dtype=np.int64)
                if values.null_count:
                    nulls = values.is_null().to_numpy(zero_copy_only=False).reshape(-1, len(fields)).sum(axis=0)
                for field, column, missing in zip(fields, columns, nulls.tolist(), strict=True):
                    part = counted(column, missing)
                    parts.setdefault((*group, field), []).append(part)
                    size += sum(array.nbytes for array in part[-5:])
            if size > most:
                yield told({of: together(some) for of, some in parts.items()})
                parts, size = {}, 0
        if parts:
            yield told({of: together(some) for of, some in parts.items()})

    return run


def numbers_together(keys: Sequence[str]) -> Counter:
    """Put together what `numbers` counted; all of a group and field has to be in one partition."""
    keys, few = list(keys), 16
    _, together = _of_numbers()
    told = _told(keys)

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parts: dict[tuple[Any, ...], list[_Part]] = {}
        for batch in batches:
            columns = [column.to_pylist() for column in batch.columns[:-5]]
            arrays = [
                [array.values.to_numpy(zero_copy_only=False) for array in column] for column in batch.columns[-5:]
            ]
            for row in zip(*columns, *arrays, strict=True):
                held = parts.setdefault(row[: len(keys) + 1], [])
                held.append(row[len(keys) + 1 :])
                if len(held) == few:
                    held[:] = [together(held)]
        if parts:
            yield told({of: together(held) for of, held in parts.items()})

    return run


def texts(keys: Sequence[str], fields: Sequence[int]) -> Counter:
    """Count texts, and nulls among them.

    Args:
        keys: columns of texts by which rows are grouped.
        fields: what the columns behind them are called in the result.
    """
    keys, fields = list(keys), list(fields)
    in_groups, in_chunks = _in_groups(keys), _in_chunks()

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for chunk in in_chunks(batches):
            parts = []
            for group, table in in_groups(chunk):
                for place, field in enumerate(fields, len(keys)):
                    values, counts = table.column(place).value_counts().flatten()
                    told = {key: pa.repeat(value, len(values)) for key, value in zip(keys, group, strict=True)}
                    told["field"] = pa.repeat(pa.scalar(field, pa.int32()), len(values))
                    parts.append(pa.table({**told, "text": values.cast(pa.string()), "count": counts}))
            yield from pa.concat_tables(parts).combine_chunks().to_batches()

    return run


def frequent(keys: Sequence[str]) -> Counter:
    """Keep the most frequent texts, of equally frequent ones the first in the order of their bytes; and all lengths.

    Each text comes once; all of a group and field have to be in one partition.
    """
    keys, most, longest = list(keys), MOST_VALUES, MOST_CHARACTERS
    names = [one.split()[0] for one in FREQUENT.split(", ")]
    in_groups = _in_groups([*keys, "field"])

    def cut(told: dict[str, Any]) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        held = pa.concat_tables(told["held"])
        order = pc.sort_indices(held, [("count", "descending"), ("text", "ascending")])
        others = held.take(order.slice(most)).column("count").to_numpy()
        told["held"] = [held.take(order.slice(0, most))]
        told["rest"] += int(others.sum())
        told["most_missed"] = max(told["most_missed"], int(others.max(initial=0)))

    def lengths_of(texts: pa.ChunkedArray) -> Any:
        import pyarrow.compute as pc

        lengths = pc.utf8_length(texts).to_numpy().copy()
        for place in (lengths > longest).nonzero()[0].tolist():  # those end in "… (300 characters)"
            lengths[place] = int(texts[place].as_py().split()[-2][1:])
        return lengths

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        for batch in batches:
            for group, table in in_groups(pa.Table.from_batches([batch])):
                told = found.setdefault(group, {**dict.fromkeys(names[1:5], 0), "lengths": {}, "held": []})
                is_text = table.column("text").is_valid()
                told["nulls"] += sum(table.filter(pc.invert(is_text)).column("count").to_pylist())
                texts = table.filter(is_text).select(["text", "count"])
                told["distinct"] += len(texts)
                lengths, places = np.unique(lengths_of(texts.column("text")), return_inverse=True)
                sums = np.zeros(len(lengths), dtype=np.int64)
                np.add.at(sums, places, texts.column("count").to_numpy())
                for length, amount in zip(lengths.tolist(), sums.tolist(), strict=True):
                    told["lengths"][length] = told["lengths"].get(length, 0) + amount
                told["held"].append(texts)
                if sum(map(len, told["held"])) > 32 * most:
                    cut(told)
        rows: list[dict[str, Any]] = []
        for group, told in found.items():
            cut(told)
            (kept,) = told.pop("held")
            by_length = told.pop("lengths")
            lists = {"texts": kept.column("text").to_pylist(), "counts": kept.column("count").to_pylist()}
            lists |= {"lengths": list(by_length), "rows": list(by_length.values())}
            rows.append({**dict(zip([*keys, "field"], group, strict=True)), **told, **lists})
        if rows:
            longs = [(name, pa.int64()) for name in names[1:5]]
            arrays = zip(names[5:], (pa.string(), pa.int64(), pa.int32(), pa.int64()), strict=True)
            schema = [*((key, pa.string()) for key in keys), ("field", pa.int32()), *longs]
            schema += [(name, pa.list_(kind)) for name, kind in arrays]
            yield pa.RecordBatch.from_pylist(rows, schema=pa.schema(schema))

    return run


# What runs on executors stands in functions of functions: those travel as they are, and not as names in this library.


def _of_numbers() -> tuple[Callable[[Any, int], _Part], Callable[[list[_Part]], _Part]]:
    """The arithmetic: a column of numbers → a part; parts → one."""
    most, per_log, at_one = MOST_BUCKETS, CODE_PER_LOG, CODE_AT_ONE

    def counted(column: Any, nulls: int) -> _Part:
        import numpy as np

        column.sort()  # NaN is last, as which nulls came, too
        first = int(np.searchsorted(column, -np.inf, side="right"))
        last, end = np.searchsorted(column, [np.inf, np.nan]).tolist()
        others = (nulls, len(column) - end - nulls, end - last, first)
        finite = column[first:last]
        codes = np.abs(finite)
        below, above = codes[: np.searchsorted(finite, 0.0)], codes[np.searchsorted(finite, 0.0, side="right") :]
        for some in (below, above):
            np.log(some, out=some)
            np.multiply(some, per_log, out=some)
            np.add(some, at_one, out=some)
            np.floor(some, out=some)
        np.negative(below, out=below)
        starts = np.concatenate([np.arange(min(len(codes), 1)), np.flatnonzero(codes[1:] != codes[:-1]) + 1])
        counts = np.diff(starts, append=len(codes))
        lows, highs = finite[starts], finite[starts + counts - 1]
        with np.errstate(over="ignore", invalid="ignore"):
            means = np.add.reduceat(finite, starts) / counts if len(starts) else np.empty(0)
            means = np.clip(np.where(np.isfinite(means), means, lows / 2 + highs / 2), lows, highs)
            mean = float((means * (counts / max(len(finite), 1))).sum())
            squares = float(np.square(finite - mean).sum())
        codes = np.maximum.accumulate(codes[starts].astype(np.int64))  # a logarithm may step back by its last digit
        return together([(*others, mean, squares, 0, codes, counts, lows, highs, means)])

    def together(parts: list[_Part]) -> _Part:
        import numpy as np

        nulls, nans, plus, minus = (sum(part[place] for part in parts) for place in range(4))
        sizes = np.array([part[-4].sum() for part in parts], dtype=np.float64)
        total = max(float(sizes.sum()), 1.0)
        mean = float(sum(part[4] * (size / total) for part, size in zip(parts, sizes, strict=True)))
        with np.errstate(over="ignore"):
            apart = (np.square(part[4] - mean) * size for part, size in zip(parts, sizes, strict=True) if size)
            squares = float(sum(part[5] for part in parts) + sum(apart))
        level = max(part[6] for part in parts)
        codes = np.concatenate([np.sign(part[-5]) * (np.abs(part[-5]) >> (level - part[6])) for part in parts])
        counts, lows, highs, means = (np.concatenate([part[place] for part in parts]) for place in range(-4, 0))
        if len(parts) > 1:
            order = np.argsort(codes, kind="stable")
            codes, counts, lows, highs, means = (array[order] for array in (codes, counts, lows, highs, means))
        starts = np.flatnonzero(np.diff(codes, prepend=-(2**62)))
        while len(starts) > most:
            level += 1
            codes = np.sign(codes) * (np.abs(codes) >> 1)
            starts = np.flatnonzero(np.diff(codes, prepend=-(2**62)))
        if len(starts):
            joined = np.add.reduceat(counts, starts)
            shares = counts / np.repeat(joined, np.diff(starts, append=len(counts)))
            lows, highs = np.minimum.reduceat(lows, starts), np.maximum.reduceat(highs, starts)
            means = np.clip(np.add.reduceat(means * shares, starts), lows, highs)
            codes, counts = codes[starts], joined
        return (nulls, nans, plus, minus, mean, squares, level, codes, counts, lows, highs, means)

    return counted, together


def _told(keys: Sequence[str]) -> Callable[[dict[tuple[Any, ...], _Part]], pa.RecordBatch]:
    """Parts, by group and field, as rows of `COUNTED`."""
    keys = list(keys)
    names = [one.split()[0] for one in COUNTED.split(", ")]

    def told(parts: dict[tuple[Any, ...], _Part]) -> pa.RecordBatch:
        import pyarrow as pa

        columns = list(zip(*((*of, *part) for of, part in parts.items()), strict=True))
        types = [*(pa.string() for _ in keys), pa.int32(), *[pa.int64()] * 4, *[pa.float64()] * 2, pa.int32()]
        types += [*[pa.list_(pa.int64())] * 2, *[pa.list_(pa.float64())] * 3]
        arrays = [pa.array(list(column), kind) for column, kind in zip(columns, types, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, names=[*keys, *names])

    return told


def _in_groups(keys: Sequence[str]) -> Callable[[pa.Table], Iterator[tuple[tuple[Any, ...], pa.Table]]]:
    """A table → the rows of each group."""
    keys = list(keys)

    def in_groups(table: pa.Table) -> Iterator[tuple[tuple[Any, ...], pa.Table]]:
        import numpy as np
        import pyarrow as pa

        if not keys:
            yield (), table
            return
        places = np.zeros(len(table), dtype=np.int64)
        for key in keys:
            encoded = table.column(key).combine_chunks().dictionary_encode()
            encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
            places = places * len(encoded.dictionary) + encoded.indices.to_numpy()
        table = table.take(pa.array(np.argsort(places, kind="stable")))
        start = 0
        for size in np.unique(places, return_counts=True)[1].tolist():
            yield tuple(table.column(key)[start].as_py() for key in keys), table.slice(start, size)
            start += size

    return in_groups


def _in_chunks() -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.Table]]:
    """Batches → tables of `_BYTES` or a little more."""
    most = _BYTES

    def in_chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
        import pyarrow as pa

        held: list[pa.RecordBatch] = []
        size = 0
        for batch in batches:
            if batch.num_rows:
                held.append(batch)
                size += batch.nbytes
            if size >= most:
                yield pa.Table.from_batches(held)
                held, size = [], 0
        if held:
            yield pa.Table.from_batches(held)

    return in_chunks
