"""Runs on executors: Arrow in, the model, Arrow out.

This file travels beside the model's files and is imported there under a name with their digest, so it imports nothing
of the library, which executors need not have installed, and its globals live as long as the Python process does.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc


class PredictionError(Exception):
    """What went wrong with a batch, in a text without rows of it."""


# MLflow's column types as Arrow's. Types that aren't here (arrays, structs, maps) are handed on as they come.
ARROW_TYPES: Mapping[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "datetime": pa.timestamp("ns"),
}
# Integers beside nulls stay integers: numpy would turn them into doubles, which lose digits beyond 2^53.
_NULLABLE = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype()}

_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)

_models: dict[str, Any] = {}


def predict(batches: Iterator[Any], folder: str, spec: Mapping[str, Any]) -> Iterator[pa.Array]:
    """Score batches.

    Args:
        batches: each a struct array (or its DataFrame), or a tuple of arrays (or series), one per column.
        folder: where the model's files are.
        spec: what the driver decided: `label`, `inputs`, `tensors`, `output`, `time_zone`, `params`, `model_config`,
            `extra_env`.
    """
    run = _runner(folder, spec)
    for batch in batches:
        columns, rows = _columns(batch, spec)
        data = _tensors(columns, rows, spec) if spec["tensors"] else pd.DataFrame(columns, index=pd.RangeIndex(rows))
        try:
            prediction = run(data)
        except Exception as error:
            raise PredictionError(_model_failure(error, spec)) from None
        try:
            yield to_arrow(prediction, spec["output"], rows, spec["time_zone"])
        except PredictionError as error:
            raise PredictionError(f"the model {spec['label']!r} {error}") from None


def _runner(folder: str, spec: Mapping[str, Any]) -> Callable[[Any], Any]:
    key = json.dumps([spec["model_config"], spec["extra_env"]], sort_keys=True, default=str)
    os.environ.update(spec["extra_env"] or {})
    if key not in _models:
        import mlflow.pyfunc

        try:
            model = mlflow.pyfunc.load_model(folder, suppress_warnings=True, model_config=spec["model_config"])
        except Exception as error:
            raise PredictionError(_model_failure(error, spec, doing="be loaded")) from None
        if spec["enforced"]:
            # The types are right already, and MLflow's own check refuses integers beside nulls.
            model.metadata.signature = None
        _models[key] = model
    model, params = _models[key], spec["params"]
    return (lambda data: model.predict(data, params=params)) if params else model.predict


def _columns(batch: Any, spec: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The model's columns by name, converted, and the number of rows."""
    given, rows = _given(batch, spec)
    inputs = spec["inputs"]
    if inputs is None or (spec["tensors"] and inputs[0]["name"] is None):
        wanted = dict.fromkeys(given, "")
    elif inputs[0]["name"] is None:
        if len(given) != len(inputs):
            raise PredictionError(
                f"the model {spec['label']!r} takes {len(inputs)} columns without names, but {len(given)} were given"
            )
        wanted = {name: column["type"] for name, column in zip(given, inputs, strict=True)}
    else:
        missing = [column["name"] for column in inputs if column["required"] and column["name"] not in given]
        if missing:
            raise PredictionError(
                f"the model {spec['label']!r} needs the columns {missing}, which are missing; given: {list(given)}"
            )
        wanted = {column["name"]: column["type"] for column in inputs if column["name"] in given}
    columns = {}
    for name, kind in wanted.items():
        array = given[name]
        try:
            if spec["tensors"]:
                refuse_tensor(array.type, kind or inputs[0]["type"], name)
                _refuse_nulls(array, kind or inputs[0]["type"], name)
            columns[name] = _to_pandas(array, None if spec["tensors"] else ARROW_TYPES.get(kind), name)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise PredictionError(
                f"column {name!r} of type {array.type} has a value that can't be handed to the model "
                f"{spec['label']!r} as {kind} ({type(error).__name__})"
            ) from None
    return columns, rows


def _given(batch: Any, spec: Mapping[str, Any]) -> tuple[dict[str, pa.Array], int]:
    """What the query gave, by name, or by number where names aren't known; and the number of rows."""
    parts = batch if isinstance(batch, tuple) else (batch,)
    inputs = spec["inputs"]
    if len(parts) == 1 and isinstance(parts[0], pd.DataFrame):  # a struct until Spark 4.0
        given = {str(name): _from_pandas(parts[0][name]) for name in parts[0].columns}
        return given, len(parts[0])
    arrays = [part if isinstance(part, pa.Array) else _from_pandas(part) for part in parts]
    rows = len(arrays[0]) if arrays else 0
    if len(arrays) == 1 and pa.types.is_struct(arrays[0].type):
        names = [field.name for field in arrays[0].type]
        takes_struct = inputs is not None and len(inputs) == 1 and inputs[0]["type"] == "object"
        if not takes_struct or names == [inputs[0]["name"]]:
            return dict(zip(names, arrays[0].flatten(), strict=True)), rows
    if inputs is None or inputs[0]["name"] is None:
        return {str(number): array for number, array in enumerate(arrays)}, rows
    if len(arrays) > len(inputs):
        raise PredictionError(f"the model {spec['label']!r} takes {len(inputs)} columns, but {len(arrays)} were given")
    return {column["name"]: array for column, array in zip(inputs, arrays, strict=False)}, rows


def _from_pandas(series: pd.Series[Any]) -> pa.Array:
    array = pa.array(series, from_pandas=True)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _to_pandas(array: pa.Array, wanted: pa.DataType | None, name: str) -> Any:
    if wanted is not None and not fits(array.type, wanted):
        if not _was_integer(array, wanted):
            raise PredictionError(f"column {name!r} has type {array.type}; the model wants {wanted}; cast it first")
        array = array.cast(wanted)
    if pa.types.is_timestamp(array.type) and array.type.tz:
        # What a person sees in this session's time zone, without the zone, as toPandas() gives it.
        return array.to_pandas().dt.tz_localize(None).astype("datetime64[ns]")
    if wanted is not None and array.type != wanted:
        array = array.cast(wanted, safe=not pa.types.is_decimal(array.type))
    if array.null_count and array.type in _NULLABLE:
        return array.to_pandas(types_mapper=_NULLABLE.get)
    return array.to_pandas()


def _was_integer(array: pa.Array, wanted: pa.DataType) -> bool:
    """Whether these are integers that Spark handed over as doubles, as it does beside nulls until 4.0, all exact."""
    if not (array.null_count and pa.types.is_float64(array.type) and pa.types.is_integer(wanted)):
        return False
    values = array.drop_null().to_numpy()
    return bool(np.all(np.abs(values) < 2**53) and np.all(values == np.trunc(values)))


def _leaf(kind: pa.DataType) -> pa.DataType:
    while pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return kind


def refuse_tensor(has: pa.DataType, dtype: str, name: str) -> None:
    """Raise where a column can't become a tensor of the dtype without loss; between floats the nearest value counts.

    Raises:
        PredictionError: names the column and both types.
    """
    leaf = _leaf(has)
    kind = np.dtype(dtype)
    if kind.kind not in "iuf":
        return
    wanted = pa.from_numpy_dtype(kind)
    both_floats = pa.types.is_floating(leaf) and kind.kind == "f"
    if not (both_floats or fits(leaf, wanted)):
        raise PredictionError(f"column {name!r} has type {has}; the model wants {dtype}; cast it first")


def _refuse_nulls(array: pa.Array, dtype: str, name: str) -> None:
    while True:
        if array.null_count and np.dtype(dtype).kind in "iub":
            raise PredictionError(f"column {name!r} has nulls, which a tensor of {dtype} can't hold")
        if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
            return
        array = array.flatten()


def fits(has: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether every value of one type is kept when it is cast to the other. Decimal to double rounds as doubles do."""
    if has == wanted or pa.types.is_null(has):
        return True
    if pa.types.is_integer(wanted):
        return bool(pa.types.is_signed_integer(has) and has.bit_width <= wanted.bit_width)
    if pa.types.is_floating(wanted):
        if pa.types.is_signed_integer(has):
            return bool(has.bit_width < wanted.bit_width)
        if pa.types.is_floating(has):
            return bool(has.bit_width <= wanted.bit_width)
        return bool(pa.types.is_decimal(has) and wanted == pa.float64())
    if pa.types.is_timestamp(wanted):
        return bool(pa.types.is_timestamp(has) or pa.types.is_date(has))
    if pa.types.is_string(wanted):
        return bool(pa.types.is_string(has) or pa.types.is_large_string(has))
    return bool(pa.types.is_binary(wanted) and (pa.types.is_binary(has) or pa.types.is_large_binary(has)))


def _tensors(columns: Mapping[str, Any], rows: int, spec: Mapping[str, Any]) -> Any:
    """The columns as numpy arrays: one by name for named tensors, else all in one, a row a sample."""

    def shaped(array: Any, dtype: str, shape: Sequence[int]) -> Any:
        typed = array.astype(dtype, copy=False).reshape([rows, *(shape[1:] if rows else map(abs, shape[1:]))])
        if typed.dtype.kind in "iu" and not np.array_equal(typed.ravel(), array.ravel()):
            raise OverflowError
        return typed

    def stacked(values: Any) -> Any:
        return np.array([np.array(value.tolist() if hasattr(value, "tolist") else value) for value in values])

    inputs = spec["inputs"]
    dtype, shape = inputs[0]["type"], inputs[0]["shape"]
    try:
        if inputs[0]["name"] is not None:
            return {one["name"]: shaped(stacked(columns[one["name"]]), one["type"], one["shape"]) for one in inputs}
        if len(columns) == 1:
            return shaped(stacked(next(iter(columns.values()))), dtype, shape)
        return shaped(np.column_stack([np.asarray(column) for column in columns.values()]), dtype, shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise PredictionError(
            f"the columns {list(columns)} make no tensors of the shape {tuple(shape)} and type {dtype} that the model "
            f"{spec['label']!r} wants ({type(error).__name__})"
        ) from None


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
        if pa.types.is_list(wanted) and not (
            prediction.shape[1] == 1 and rows and isinstance(prediction.iloc[0, 0], (list, np.ndarray))
        ):
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
    if isinstance(values, np.ndarray) and (values.dtype == object or values.ndim > 1):
        values = list(values)
    try:
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


def _model_failure(error: BaseException, spec: Mapping[str, Any], doing: str = "score a batch") -> str:
    """Name what failed and where, but not the model's own message, which may quote a row."""
    from pyspark import TaskContext

    context = TaskContext.get()
    where = f" in partition {context.partitionId()}" if context else ""
    frames = [
        f"{frame.filename}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__
    ]
    what = type(error).__name__
    if isinstance(error, ImportError) and error.name:
        what += f" ({error.name})"
    return f"the model {spec['label']!r} couldn't {doing}{where}: {what} at " + " < ".join(reversed(frames[-6:]))
