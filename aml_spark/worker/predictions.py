"""What a model gives, as Arrow: one value a row, of the type that the query was promised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .failures import PredictionError

_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)


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
        first = next((value for value in prediction.iloc[:, 0] if value is not None), None) if rows else None
        if pa.types.is_list(wanted) and not (prediction.shape[1] == 1 and isinstance(first, (list, np.ndarray))):
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
    return kind


def _struct(columns: Mapping[str, Any], wanted: pa.DataType) -> pa.Array:
    missing = [field.name for field in wanted if field.name not in columns]
    if missing:
        raise PredictionError(f"gave no columns {missing}, which the result type names; it gave {list(columns)}")
    arrays = [_array(columns[field.name], field.type) for field in wanted]
    return pa.StructArray.from_arrays(arrays, fields=list(wanted))


def _leftmost(frame: pd.DataFrame, wanted: pa.DataType) -> Any:
    """The column that MLflow takes for a single value: the first of the kind."""
    numeric = pa.types.is_integer(wanted) or pa.types.is_floating(wanted)
    columns = frame.select_dtypes("number") if numeric else frame
    if columns.shape[1] == 0:
        raise PredictionError(f"gave no numeric column, but the result type is {wanted}")
    return columns.iloc[:, 0]


def _array(values: Any, wanted: pa.DataType) -> pa.Array:
    if isinstance(values, pd.Series) and isinstance(values.dtype, np.dtype):
        values = values.to_numpy()
    if isinstance(values, np.ndarray) and values.ndim > 1 and values.dtype.kind in "biuf" and values.size:
        flat = pa.array(values.reshape(-1))
        for length in reversed(values.shape[1:]):
            flat = pa.FixedSizeListArray.from_arrays(flat, length)
        values = flat.cast(_lists(flat.type))
    if isinstance(values, np.ndarray) and (values.dtype == object or values.ndim > 1):
        values = list(values)
    try:
        if pa.types.is_map(wanted):
            return pa.array([None if value is None else list(value.items()) for value in values], wanted)
        # A NaN of numpy's stays NaN; None and pandas' NA become null.
        if isinstance(values, (list, tuple)):
            values = [_plain(value) for value in values]
            if pa.types.is_string(wanted):  # pandas marks a missing text as NaN
                values = [None if isinstance(value, float) and np.isnan(value) else value for value in values]
        if isinstance(values, pd.Series) and isinstance(values.dtype, pd.DatetimeTZDtype):
            array = pc.assume_timezone(pa.array(values.dt.tz_convert(None).to_numpy()), "UTC")
        else:
            array = pa.array(values)
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        if pa.types.is_list(wanted) and not pa.types.is_list(array.type) and not pa.types.is_null(array.type):
            array = pa.array([None if value is None else [value] for value in array.to_pylist()])
        if array.type == wanted:
            return array
        if pa.types.is_timestamp(wanted) and wanted.tz and not getattr(array.type, "tz", None):
            naive = array.cast(pa.timestamp(wanted.unit))
            return pc.assume_timezone(naive, wanted.tz, ambiguous="earliest", nonexistent="earliest")
        if pa.types.is_string(wanted) and not any(is_it(array.type) for is_it in _TEXT):
            return pa.array([None if value is None else str(value) for value in array.to_pylist()], wanted)
        if pa.types.is_boolean(wanted) and not pa.types.is_boolean(array.type) and not pa.types.is_null(array.type):
            raise pa.ArrowInvalid("not boolean")
        # Between doubles and floats the nearest value counts; everything else has to fit exactly.
        return array.cast(wanted, safe=not _floats(array.type, wanted))
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        kind = values.dtype if hasattr(values, "dtype") else sorted({type(value).__name__ for value in values})
        raise PredictionError(
            f"gave values of type {kind}, which the result type {wanted} can't hold; give another result_type"
        ) from None


def _lists(kind: pa.DataType) -> pa.DataType:
    return pa.list_(_lists(kind.value_type)) if pa.types.is_fixed_size_list(kind) else kind


def _floats(has: pa.DataType, wanted: pa.DataType) -> bool:
    while pa.types.is_list(has) and pa.types.is_list(wanted):
        has, wanted = has.value_type, wanted.value_type
    return bool(pa.types.is_floating(has) and pa.types.is_floating(wanted))


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.ndarray):
        return [_plain(part) for part in value] if value.dtype == object or value.ndim > 1 else value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value
