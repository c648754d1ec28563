"""What a model gives, as Arrow: one value a row, of the type that the query was promised."""

from __future__ import annotations

import decimal
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .columns import cast
from .failures import PredictionError

_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal")  # as pandas calls kinds of values
_UNTOLD = ("empty", "mixed", "mixed-integer")
_LISTS = (list, tuple, np.ndarray, pd.Series)


def to_arrow(prediction: Any, wanted: pa.DataType, rows: int, time_zone: str = "UTC") -> pa.Array:
    """One value a row, of the type that the UDF returns.

    Args:
        prediction: what `predict` gave: DataFrame, Series, array of any rank, list, dict of columns.
        wanted: the type. A struct takes columns by name, an array takes a row's values, anything else one value.
        rows: how many are due.
        time_zone: the session's, in which times without zone are meant.

    Raises:
        PredictionError: another number of predictions, or values that the type can't hold.
    """
    try:
        array = _to_arrow(prediction, _in_zone(wanted, time_zone), rows)
        return array if array.type == wanted else array.cast(wanted)  # the same moments in another zone
    except (TypeError, ValueError, KeyError, AttributeError):
        raise PredictionError(f"gave a {type(prediction).__name__} that makes no {wanted} for {rows} rows") from None


def _to_arrow(prediction: Any, wanted: pa.DataType, rows: int) -> pa.Array:
    if hasattr(prediction, "toarray"):  # scipy's sparse matrices
        prediction = prediction.toarray()
    if isinstance(prediction, Mapping):
        if not pa.types.is_struct(wanted) and len(prediction) == 1:
            prediction = next(iter(prediction.values()))
        elif pa.types.is_struct(wanted):
            prediction = {str(name): column for name, column in prediction.items()}
            lengths = {len(column) for column in prediction.values()}
            if lengths != {rows}:
                raise PredictionError(f"gave columns of {sorted(lengths)} predictions for {rows} rows")
            return _struct(prediction, wanted)
        else:
            prediction = pd.DataFrame(dict(prediction))
    if (
        isinstance(prediction, (str, bytes))
        or not hasattr(prediction, "__len__")
        or getattr(prediction, "ndim", 1) == 0
    ):
        prediction = [prediction]
    count = len(prediction)
    if count != rows:
        raise PredictionError(f"gave {count} predictions for {rows} rows")
    if isinstance(prediction, pd.DataFrame):
        prediction = prediction.set_axis([str(name) for name in prediction.columns], axis=1)
        if pa.types.is_struct(wanted):
            return _struct({name: prediction[name] for name in prediction.columns}, wanted)
        if pa.types.is_list(wanted) and prediction.shape[1] != 1:
            return _array(list(prediction.to_numpy()), wanted)
        return _array(_leftmost(prediction, wanted), wanted)
    if pa.types.is_struct(wanted) and isinstance(prediction, np.ndarray) and prediction.ndim == 2:
        return _struct(dict(zip([field.name for field in wanted], prediction.T, strict=False)), wanted)
    if isinstance(prediction, np.ndarray) and prediction.ndim > 1 and not pa.types.is_list(wanted):
        if prediction.size != rows:
            raise PredictionError(f"gave {prediction.shape[1:]} values a row, but the result type is {wanted}")
        prediction = prediction.reshape(rows)
    return _array(prediction, wanted)


def _in_zone(kind: pa.DataType, time_zone: str) -> pa.DataType:
    if pa.types.is_timestamp(kind) and kind.tz:
        return pa.timestamp(kind.unit, time_zone)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_in_zone(field.type, time_zone)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_in_zone(kind.value_type, time_zone)))
    if pa.types.is_map(kind):
        return pa.map_(_in_zone(kind.key_type, time_zone), _in_zone(kind.item_type, time_zone))
    return kind


def _struct(columns: Mapping[str, Any], wanted: pa.DataType) -> pa.Array:
    missing = [field.name for field in wanted if field.name not in columns]
    if missing:
        raise PredictionError(f"gave no columns {missing}, which the result type names; it gave {list(columns)}")
    arrays = [_array(columns[field.name], field.type) for field in wanted]
    return pa.StructArray.from_arrays(arrays, fields=list(wanted))


def _leftmost(frame: pd.DataFrame, wanted: pa.DataType) -> Any:
    """The column that MLflow takes for a single value: the first of the kind."""
    if frame.shape[1] > 1 and len(frame) and _is_number(wanted):
        for place in range(frame.shape[1]):
            kind = pd.api.types.infer_dtype(frame.iloc[:, place], skipna=True)
            if kind in _NUMBERS:
                return frame.iloc[:, place]
            if kind in _UNTOLD:
                raise PredictionError(
                    f"gave the column {frame.columns[place]!r} of type {frame.dtypes.iloc[place]} before any of "
                    "numbers, and its values don't tell whether it is one; give it a type of numbers, or name the "
                    "column that is meant: result_type='struct<name: double>'"
                )
        raise PredictionError(f"gave no numeric column, but the result type is {wanted}")
    return frame.iloc[:, 0]


def _array(values: Any, wanted: pa.DataType) -> pa.Array:
    if isinstance(values, pd.Series) and isinstance(values.dtype, np.dtype):
        values = values.to_numpy()
    if isinstance(values, np.ndarray) and values.ndim > 1 and values.dtype.kind in "biufMU" and values.size:
        flat = pa.array(values.reshape(-1))
        for length in reversed(values.shape[1:]):
            flat = pa.FixedSizeListArray.from_arrays(flat, length)
        values = flat
    if isinstance(values, np.ndarray) and (values.dtype == object or values.ndim > 1):
        values = list(values)
    try:
        if isinstance(values, (list, tuple)):
            return _objects(values, wanted)
        if isinstance(values, pd.Series) and isinstance(values.dtype, pd.DatetimeTZDtype):
            return _cast(pc.assume_timezone(pa.array(values.dt.tz_convert(None).to_numpy()), "UTC"), wanted)
        array = pa.array(values)  # a NaN of numpy's stays NaN
        return _cast(array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array, wanted)
    except (pa.ArrowException, ValueError, TypeError, OverflowError, AttributeError):
        kind = values.dtype if hasattr(values, "dtype") else sorted({type(value).__name__ for value in values})
        raise PredictionError(
            f"gave values of type {kind}, which the result type {wanted} can't hold; give another result_type"
        ) from None


def _objects(values: Sequence[Any], wanted: pa.DataType) -> pa.Array:
    """Values of Python's, each as it would be alone: Arrow gives those that it gets together one type.

    None, pandas' NA and what numpy masks become null, and where a list, struct or map is wanted NaN, too.
    """
    kinds = {*map(type, values)} - {type(None)}
    if int in kinds and pa.types.is_floating(wanted):
        values, kinds = [float(value) if type(value) is int else value for value in values], kinds - {int} | {float}
    if _is_plain(kinds, wanted):
        return _cast(pa.array(values), wanted)
    values = [_plain(value) for value in values]
    if pa.types.is_nested(wanted) or pa.types.is_string(wanted):  # pandas marks what is missing as NaN
        values = [None if isinstance(value, float) and np.isnan(value) else value for value in values]
    gone = pa.array([value is None for value in values], pa.bool_())
    if pa.types.is_list(wanted):
        parts = [[] if value is None else value if isinstance(value, _LISTS) else [value] for value in values]
        flat = _chained(parts, wanted.value_type)
        below = (
            _cast(pa.array(flat), wanted.value_type) if hasattr(flat, "dtype") else _objects(flat, wanted.value_type)
        )
        return pa.ListArray.from_arrays(_offsets(parts), below, mask=gone).cast(wanted)
    if pa.types.is_struct(wanted):
        dicts = [{} if value is None else value for value in values]
        fields = [_objects([one.get(field.name) for one in dicts], field.type) for field in wanted]
        return pa.StructArray.from_arrays(fields, fields=list(wanted), mask=gone)
    if pa.types.is_map(wanted):
        pairs = [[] if value is None else list(value.items() if hasattr(value, "items") else value) for value in values]
        keys, items = ([pair[place] for part in pairs for pair in part] for place in (0, 1))
        offsets = pa.array(_offsets(pairs).to_numpy(), mask=np.array([*gone.to_pylist(), False]))
        both = _objects(keys, wanted.key_type), _objects(items, wanted.item_type)
        return pa.MapArray.from_arrays(offsets, *both).cast(wanted)
    if pa.types.is_string(wanted):
        return pa.array([None if value is None else str(value) for value in values], wanted)
    if pa.types.is_floating(wanted):
        values = [float(value) if isinstance(value, (int, decimal.Decimal)) else value for value in values]
    if pa.types.is_decimal(wanted):
        values = [decimal.Decimal(value) if isinstance(value, int) else value for value in values]
    told = [None if value is None else (type(value), getattr(value, "tzinfo", None) is None) for value in values]
    each = [kind for kind in dict.fromkeys(told) if kind is not None]
    places = [[place for place, kind in enumerate(told) if kind == one] for one in each]
    known = [_cast(_inferred([values[place] for place in some], wanted), wanted) for some in places]
    order: list[int | None] = [None] * len(values)
    for number, place in enumerate(place for some in places for place in some):
        order[place] = number
    return pa.concat_arrays([*known, pa.nulls(0, wanted)]).take(pa.array(order, pa.int64()))


def _is_plain(kinds: set[type], wanted: pa.DataType) -> bool:
    """Whether Arrow makes of each value what it would be alone, as of most that models give, in a tenth of the time."""
    if pa.types.is_nested(wanted) or len(kinds) != 1:
        return False
    if pa.types.is_string(wanted):
        return kinds == {str}
    if pa.types.is_floating(wanted) or pa.types.is_decimal(wanted):
        return kinds <= {float, str, bool}
    return kinds <= {float, int, str, bool}


def _inferred(values: Sequence[Any], wanted: pa.DataType) -> pa.Array:
    """Values of one type of Python's in Arrow's type for it; of decimals it depends on their digits."""
    return pa.array(values, wanted if pa.types.is_decimal(wanted) and isinstance(values[0], decimal.Decimal) else None)


def _offsets(parts: Sequence[Any]) -> pa.Array:
    return pa.array(np.cumsum([0, *map(len, parts)]), pa.int32())


def _chained(parts: Sequence[Any], wanted: pa.DataType) -> Any:
    """What lists hold, one after the other: an array where all are arrays of one type, and numbers are wanted."""
    kinds = {part.dtype if type(part) is np.ndarray and part.ndim == 1 else None for part in parts if len(part)}
    if _is_number(wanted) and len(kinds) == 1 and getattr(kinds.pop(), "kind", "O") in "biuf":
        return np.concatenate([part for part in parts if len(part)])
    return [one for part in parts for one in part]


def _cast(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Values of one type of Arrow's in another one, each as it would be alone."""
    has = array.type
    if has == wanted or pa.types.is_null(has):
        return array.cast(wanted)
    if pa.types.is_dictionary(has):
        return _cast(array.dictionary_decode(), wanted)
    if pa.types.is_nested(wanted) and (pa.types.is_struct(has) or pa.types.is_map(has)):
        return _objects(array.to_pylist(), wanted)
    if pa.types.is_list(wanted):
        if pa.types.is_large_list(has) or pa.types.is_fixed_size_list(has):
            return _cast(array.cast(pa.list_(has.value_type)), wanted)
        if array.offset:
            array = array.take(pa.array(np.arange(len(array))))  # offsets of a slice don't begin at its values
        if not pa.types.is_list(has):
            offsets, below = pa.array(np.arange(len(array) + 1), pa.int32()), array
        else:
            offsets, below = array.offsets, array.values
        parts = _cast(below, wanted.value_type)
        return pa.ListArray.from_arrays(offsets, parts, mask=array.is_null()).cast(wanted)
    if pa.types.is_timestamp(wanted) and wanted.tz and not getattr(has, "tz", None):
        return _moments(array.cast(pa.timestamp(wanted.unit)), wanted.tz)
    if pa.types.is_string(wanted) and not (pa.types.is_string(has) or pa.types.is_large_string(has)):
        return pa.array([None if value is None else str(value) for value in array.to_pylist()], wanted)
    if pa.types.is_boolean(wanted) and not pa.types.is_boolean(has):
        raise pa.ArrowInvalid("not boolean")
    if pa.types.is_decimal(has) and pa.types.is_floating(wanted):
        return cast(array, wanted)  # to the nearest, as what a model gets
    # Among doubles and floats the nearest value counts; everything else has to fit exactly.
    return array.cast(wanted, safe=not (_is_number(has) and pa.types.is_floating(wanted)))


def _moments(times: pa.Array, zone: str) -> pa.Array:
    """Times without zone as moments. One that a clock leaves out counts on from before, as Spark has it."""
    found = pc.assume_timezone(times, zone, ambiguous="earliest", nonexistent="earliest")
    before = pc.local_timestamp(found)
    if not pc.any(pc.not_equal(before, times)).as_py():
        return found
    moved = pc.add(found.cast(pa.int64()), pc.subtract(times.cast(pa.int64()), before.cast(pa.int64())))
    return moved.cast(found.type)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if value is None or value is pd.NA or value is pd.NaT or value is np.ma.masked:
        return None
    if isinstance(value, np.datetime64) and np.datetime_data(value)[0] in ("ns", "ps", "fs", "as"):
        value = value.astype("datetime64[us]")  # of which Python makes times, and of smaller units integers
    return value.item() if isinstance(value, np.generic) else value
