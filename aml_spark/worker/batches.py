"""What a query hands over, in any of Spark's forms, as columns with names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from .columns import Input, Numbers
from .failures import PredictionError

_MERGED_BYTES = 8 << 20
"""Batches are put together until they have as many bytes: each call of a model costs something, whatever its rows."""
_MERGED_NUMBERS = 1 << 20
"""The same of numbers alone, for which a call costs less than memory that is too large for a core's cache."""

Columns = tuple[list[tuple[str, pa.DataType]], Sequence[pa.Array], int]
"""Names and types, the columns themselves, and the number of rows."""


def merged(batches: Iterator[Any], inputs: list[Input] | None, form: str = "columns") -> Iterator[Columns]:
    """The batches of a query, small ones put together.

    Args:
        batches: each a struct array (or its DataFrame), or a tuple of arrays (or series), one per column.
        inputs: the signature's, by which columns without names are called; None where there is none.
        form: one of `FORMS`.
    """
    waiting: list[Columns] = []
    size, enough = 0, _MERGED_NUMBERS if form == "array" else _MERGED_BYTES
    for batch in batches:
        types, arrays, rows = FORMS[form](batch, inputs)
        if not rows:
            continue
        if waiting and types != waiting[0][0]:  # as pandas' types may, until Spark 4.0
            yield _joined(waiting)
            waiting, size = [], 0
        waiting.append((types, arrays, rows))
        size += arrays.nbytes if isinstance(arrays, Numbers) else sum(array.nbytes for array in arrays)
        if size >= enough:
            yield _joined(waiting)
            waiting, size = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(waiting: Sequence[Columns]) -> Columns:
    if len(waiting) == 1:
        return waiting[0]
    types, rows, every = waiting[0][0], sum(rows for _, _, rows in waiting), [arrays for _, arrays, _ in waiting]
    numbers = [arrays.values for arrays in every if isinstance(arrays, Numbers)]
    if numbers:
        return types, Numbers(np.concatenate(numbers)), rows
    return types, [pa.concat_arrays(parts) for parts in zip(*every, strict=True)], rows


def _numbers(batch: Any, inputs: list[Input]) -> Columns:
    """Inputs that came as one array; where a number is missing, NaN, which is what models get for it."""
    array = batch[0] if isinstance(batch, tuple) else batch
    values = array.flatten().to_numpy(zero_copy_only=False)
    kind = pa.from_numpy_dtype(values.dtype)
    types = [(str(place) if one.name is None else one.name, kind) for place, one in enumerate(inputs)]
    return types, Numbers(values.reshape(len(array), len(inputs))), len(array)


def _texts(batch: Any, inputs: list[Input]) -> Columns:
    """Columns of which the integers came as texts, which keep every digit."""
    columns = list(batch) if isinstance(batch, tuple) else [batch]
    for place, one in enumerate(inputs):
        if isinstance(one.type, pa.DataType) and pa.types.is_integer(one.type):
            columns[place] = pa.array(columns[place], pa.string(), from_pandas=True).cast(one.type)
    return _given(tuple(columns), inputs)


def _typed(batch: Any, inputs: list[Input]) -> Columns:
    """Columns as they are, and one with the names of their types, which pandas may have changed beside nulls."""
    *columns, told = batch
    for place, kind in enumerate(told.iloc[0].split("\n")):
        if isinstance(columns[place], pd.Series) and columns[place].dtype.kind == "f":
            array = _from_pandas(columns[place], None)
            is_whole = kind in ("bigint", "int", "smallint", "tinyint")
            columns[place] = array.cast(pa.int64(), safe=False) if is_whole else array
    return _given(tuple(columns), inputs)


def _given(batch: Any, inputs: list[Input] | None) -> Columns:
    """What the query gave, by name, or by number where names aren't known; and the number of rows."""
    parts = batch if isinstance(batch, tuple) else (batch,)
    if inputs is not None and inputs[0].name is not None and len(parts) > len(inputs):
        names = [one.name for one in inputs]
        raise PredictionError(f"takes the {len(inputs)} columns {names[:20]}, but {len(parts)} were given")
    named = _fields(parts[0], inputs) if len(parts) == 1 else None
    if named is not None:
        one = inputs[0] if inputs is not None and len(inputs) == 1 else None
        is_its_value = one is not None and (one.type is None or isinstance(one.type, pa.StructType))
        if one is not None and is_its_value and one.name not in dict(named):
            value = parts[0]
            if isinstance(value, pd.DataFrame):
                value = _struct(named)
            named = [(str(one.name), value)]
        return _told(named, len(parts[0]))
    of_place = [one.type for one in inputs or ()] + [None] * len(parts)
    arrays = [
        part if isinstance(part, pa.Array) else _from_pandas(part, of_place[number])
        for number, part in enumerate(parts)
    ]
    rows = len(arrays[0]) if arrays else 0
    if inputs is None or inputs[0].name is None:
        return _told([(str(number), array) for number, array in enumerate(arrays)], rows)
    return _told([(str(one.name), array) for one, array in zip(inputs, arrays, strict=False)], rows)


def _told(named: Sequence[tuple[str, pa.Array]], rows: int) -> Columns:
    return [(name, array.type) for name, array in named], [array for _, array in named], rows


def _fields(part: Any, inputs: list[Input] | None) -> list[tuple[str, pa.Array]] | None:
    """The columns of a struct, which is a DataFrame until Spark 4.0; None for what is no struct."""
    if isinstance(part, pd.DataFrame):
        wanted = {one.name: one.type for one in inputs or ()}
        return [(str(name), _from_pandas(part[name], wanted.get(str(name)))) for name in part.columns]
    if isinstance(part, pa.StructArray):
        return list(zip([field.name for field in part.type], part.flatten(), strict=True))
    return None


def _struct(fields: Sequence[tuple[str, pa.Array]]) -> pa.StructArray:
    return pa.StructArray.from_arrays([array for _, array in fields], [name for name, _ in fields])


def _from_pandas(series: pd.Series[Any] | pd.DataFrame, wanted: Any) -> pa.Array:
    """A column that Spark handed over in pandas' types, as it does until 4.0."""
    if isinstance(series, pd.DataFrame):
        return _struct(_fields(series, None) or [])
    array = pa.array(series, from_pandas=True)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(wanted, pa.DataType) and pa.types.is_integer(wanted) and pa.types.is_float64(array.type):
        # Integers beside nulls came as doubles: exact up to 2^53.
        values = array.drop_null().to_numpy()
        if array.null_count and (abs(values) < 2**53).all() and (values == values.round()).all():
            small = (abs(values) < 2 ** (wanted.bit_width - 1)).all()
            return array.cast(wanted if small else pa.int64())
    return array


FORMS: Mapping[str, Callable[[Any, Any], Columns]] = {
    "columns": _given,
    "array": _numbers,
    "texts": _texts,
    "typed": _typed,
}
"""How columns travel, chosen on the driver by their types."""
