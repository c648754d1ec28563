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
"""The column of the fields' numbers: an array of doubles."""
COUNTED = "field int, text string, part binary, count long"
"""Columns of what `counted` gives, behind those of the group: a text and its count, or a part of a column's numbers."""
TOGETHER = (
    "field int, nulls long, nans long, plus long, minus long, mean double, squares double, level int, "
    "codes array<long>, counts array<long>, lows array<double>, highs array<double>, means array<double>, "
    "texts array<string>, often array<long>, rest long, distinct long, most_missed long, "
    "lengths array<int>, rows array<long>"
)
"""Columns of what `together` gives, behind those of the group. Of a column of numbers how many are no finite number,
the mean of the others and the sum of their squared distances to it, and their `Histogram`; of one of texts the nulls,
its `Frequencies`, and how many texts have which length."""
_BYTES = 1 << 26

Counter = Callable[["Iterable[pa.RecordBatch]"], "Iterable[pa.RecordBatch]"]
"""What `DataFrame.mapInArrow` runs on an executor, which needn't have this library."""
_Part = tuple[Any, ...]
"""Of a column's numbers: the values from `nulls` to `means` in `TOGETHER`."""


def counted(keys: Sequence[str], numbers: Sequence[int], texts: Sequence[int]) -> Counter:
    """Count doubles in the buckets of `Histogram.of`, at the level of the rows that are at hand, and texts one by one.

    All rows together never have a lower level than some of them.

    Args:
        keys: columns of texts; rows are grouped by each of them, and the others are null then. Behind them are
            `NUMBERS`, where there are any, and the texts.
        numbers: what the places of the array are called in the result.
        texts: what the columns of texts are called there.
    """
    from aml_spark.worker.upkeep import acknowledging, forgetting

    keys, numbers, texts, most = list(keys), list(numbers), list(texts), _BYTES
    first = len(keys) + bool(numbers)
    part_of, join = _of_numbers()
    in_columns, in_chunks = _in_columns(NUMBERS, len(numbers)), _in_chunks()
    at_once, forget = acknowledging(), forgetting()
    groupings = [_in_groups(keys[place : place + 1]) for place in range(max(len(keys), 1))]

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pickle

        import pyarrow as pa

        def told(group: Sequence[str | None], field: int, **columns: Any) -> pa.RecordBatch:
            rows = max(map(len, columns.values()))
            columns = {name: columns.get(name, pa.nulls(rows)) for name in ("text", "part", "count")}
            kinds = {"text": pa.string(), "part": pa.binary(), "count": pa.int64()}
            of = {key: pa.repeat(pa.scalar(value, pa.string()), rows) for key, value in zip(keys, group, strict=True)}
            of["field"] = pa.repeat(pa.scalar(field, pa.int32()), rows)
            of |= {name: columns[name].cast(kind) for name, kind in kinds.items()}
            return pa.RecordBatch.from_arrays(list(of.values()), names=list(of))

        def of_numbers() -> list[pa.RecordBatch]:
            return [
                told(group, field, part=pa.array([pickle.dumps(join(some))]), count=pa.array([1]))
                for (*group, field), some in parts.items()
            ]

        def in_each_group(chunk: pa.Table) -> Iterator[tuple[list[str | None], pa.Table]]:
            for place, in_groups in enumerate(groupings):
                for group, table in in_groups(chunk):
                    yield [*[None] * place, *group, *[None] * (len(keys) - place - 1)], table

        def as_one(some: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
            whole: list[pa.RecordBatch] = pa.Table.from_batches(some).combine_chunks().to_batches() if some else []
            return whole

        parts: dict[tuple[Any, ...], list[_Part]] = {}
        size = 0
        for chunk in in_chunks(at_once(batches)):
            found = []
            for group, table in in_each_group(chunk):
                for field, (column, nulls) in zip(numbers, in_columns(table), strict=True):
                    part = part_of(column, nulls)
                    parts.setdefault((*group, field), []).append(part)
                    size += sum(array.nbytes for array in part[-5:])
                for place, field in enumerate(texts, first):
                    values, counts = table.column(place).value_counts().flatten()
                    try:
                        values.validate(full=True)
                    except pa.ArrowInvalid:  # a text of Spark's may hold any bytes
                        texts_of = values.cast(pa.binary()).to_pylist()
                        values = pa.array([one and one.decode(errors="replace") for one in texts_of])
                    found.append(told(group, field, text=values, count=counts))
            if size > most:
                found += of_numbers()
                parts, size = {}, 0
            yield from as_one(found)
        yield from as_one(of_numbers())
        forget()

    return run


def together(keys: Sequence[str]) -> Counter:
    """Put together what `counted` gave; all of a group and field has to be in one partition, and no row twice.

    Of the texts the most frequent ones are kept, of equally frequent ones the first in the order of their bytes.
    """
    from aml_spark.worker.upkeep import acknowledging, forgetting

    keys = list(keys)
    names = [one.split()[0] for one in TOGETHER.split(", ")]
    kinds = [one.split()[1] for one in TOGETHER.split(", ")]
    few, in_groups = 16, _in_groups([*keys, "field"])
    (_, join), (add, cut) = _of_numbers(), _of_texts()
    at_once, forget = acknowledging(), forgetting()

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pickle

        import pyarrow as pa
        import pyarrow.compute as pc

        parts: dict[tuple[Any, ...], list[_Part]] = {}
        texts: dict[tuple[Any, ...], dict[str, Any]] = {}
        for batch in at_once(batches):
            for group, table in in_groups(pa.Table.from_batches([batch])):
                is_part = table.column("part").is_valid()
                of_numbers, of_texts = table.filter(is_part), table.filter(pc.invert(is_part))
                for part, count in zip(
                    *(of_numbers.column(name).to_pylist() for name in ("part", "count")), strict=True
                ):
                    held = parts.setdefault(group, [])
                    held += [pickle.loads(part)] * count  # noqa: S301  # `counted` made it
                    if len(held) >= few:
                        held[:] = [join(held)]
                if len(of_texts):
                    add(texts.setdefault(group, {}), of_texts.select(["text", "count"]))
        rows = [{**dict(zip(names[1:13], join(some), strict=True)), "of": group} for group, some in parts.items()]
        rows += [{**cut(told), "of": group} for group, told in texts.items()]
        types = {"int": pa.int32(), "long": pa.int64(), "double": pa.float64(), "string": pa.string()}
        types |= {f"array<{name}>": pa.list_(kind) for name, kind in types.items()}
        told = {key: pa.array([row["of"][place] for row in rows], pa.string()) for place, key in enumerate(keys)}
        told["field"] = pa.array([row["of"][-1] for row in rows], pa.int32())
        told |= {
            name: pa.array([row.get(name) for row in rows], types[kind])
            for name, kind in zip(names[1:], kinds[1:], strict=True)
        }
        yield pa.RecordBatch.from_arrays(list(told.values()), names=list(told))
        forget()

    return run


# What runs on executors stands in functions of functions: those travel as they are, and not as names in this library.


def _of_numbers() -> tuple[Callable[[Any, int], _Part], Callable[[list[_Part]], _Part]]:
    """The arithmetic: a column of numbers → a part; parts → one."""
    most, per_log, at_one = MOST_BUCKETS, CODE_PER_LOG, CODE_AT_ONE

    def part_of(column: Any, nulls: int) -> _Part:
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
        return join([(*others, mean, squares, 0, codes, counts, lows, highs, means)])

    def join(parts: list[_Part]) -> _Part:
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

    return part_of, join


def _of_texts() -> tuple[Callable[[dict[str, Any], Any], None], Callable[[dict[str, Any]], dict[str, Any]]]:
    """What adds counted texts to what is known of a column, and what gives it as values of `TOGETHER`."""
    most, longest = MOST_VALUES, MOST_CHARACTERS

    def kept(told: dict[str, Any]) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        held = pa.concat_tables(told["held"])
        order = pc.sort_indices(held, [("count", "descending"), ("text", "ascending")])
        others = held.take(order.slice(most)).column("count").to_numpy()
        told["held"] = [held.take(order.slice(0, most))]
        told["rest"] += int(others.sum())
        told["most_missed"] = max(told["most_missed"], int(others.max(initial=0)))
        return told["held"][0]

    def add(told: dict[str, Any], table: pa.Table) -> None:
        import numpy as np
        import pyarrow.compute as pc

        if not told:
            told |= {**dict.fromkeys(("nulls", "rest", "distinct", "most_missed"), 0), "by_length": {}, "held": []}
        is_text = table.column("text").is_valid()
        told["nulls"] += sum(table.filter(pc.invert(is_text)).column("count").to_pylist())
        texts = table.filter(is_text)
        told["distinct"] += len(texts)
        lengths = pc.utf8_length(texts.column("text")).to_numpy().copy()
        for place in (lengths > longest).nonzero()[0].tolist():  # those end in "… (300 characters)"
            lengths[place] = int(texts.column("text")[place].as_py().split()[-2][1:])
        different, places = np.unique(lengths, return_inverse=True)
        sums = np.zeros(len(different), dtype=np.int64)
        np.add.at(sums, places, texts.column("count").to_numpy())
        for length, rows in zip(different.tolist(), sums.tolist(), strict=True):
            told["by_length"][length] = told["by_length"].get(length, 0) + rows
        told["held"].append(texts)
        if sum(map(len, told["held"])) > 32 * most:
            kept(told)

    def cut(told: dict[str, Any]) -> dict[str, Any]:
        best = kept(told)
        texts, often = (best.column(name).to_pylist() for name in ("text", "count"))
        lengths, rows = list(told["by_length"]), list(told["by_length"].values())
        return {**told, "texts": texts, "often": often, "lengths": lengths, "rows": rows}

    return add, cut


def _in_columns(name: str, size: int) -> Callable[[pa.Table], Iterator[tuple[Any, int]]]:
    """A table → each column of numbers, nulls as NaN, and how many nulls it has."""
    few = 1024

    def in_columns(table: pa.Table) -> Iterator[tuple[Any, int]]:
        import numpy as np

        if not size:
            return
        values = table.column(name).combine_chunks().flatten()
        rows = values.to_numpy(zero_copy_only=False).reshape(-1, size)
        columns = np.empty(rows.shape[::-1])
        for start in range(0, len(rows), few):  # a processor's cache holds so many
            columns[:, start : start + few] = rows[start : start + few].T
        nulls = np.zeros(size, dtype=np.int64)
        if values.null_count:
            nulls = values.is_null().to_numpy(zero_copy_only=False).reshape(-1, size).sum(axis=0)
        yield from zip(columns, nulls.tolist(), strict=True)

    return in_columns


def _in_groups(keys: Sequence[str]) -> Callable[[pa.Table], Iterator[tuple[tuple[Any, ...], pa.Table]]]:
    """A table → the rows of each group; nulls are one."""
    keys = list(keys)

    def in_groups(table: pa.Table) -> Iterator[tuple[tuple[Any, ...], pa.Table]]:
        import numpy as np
        import pyarrow as pa

        if not keys:
            yield (), table
            return
        places = np.zeros(len(table), dtype=np.int64)
        for key in keys:
            encoded = table.column(key).combine_chunks().dictionary_encode("encode")
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
