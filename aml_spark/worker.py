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

_models: dict[str, Any] = {}


def predict(batches: Iterator[Any], folder: str, spec: Mapping[str, Any]) -> Iterator[pa.Array]:
    """Score batches.

    Args:
        batches: each a struct array (or its DataFrame), or a tuple of arrays (or series), one per column.
        folder: where the model's files are.
        spec: what the driver decided: `label`, `inputs`, `tensors`, `output`, `params`, `model_config`, `extra_env`.
    """
    run = _runner(folder, spec)
    for batch in batches:
        columns, rows = _columns(batch, spec)
        data = _tensors(columns, spec) if spec["tensors"] else pd.DataFrame(columns, index=pd.RangeIndex(rows))
        try:
            prediction = run(data)
        except Exception as error:
            raise PredictionError(_model_failure(error, spec)) from None
        try:
            yield to_arrow(prediction, spec["output"], rows)
        except PredictionError as error:
            raise PredictionError(f"the model {spec['label']!r} {error}") from None


def _runner(folder: str, spec: Mapping[str, Any]) -> Callable[[Any], Any]:
    key = json.dumps([spec["model_config"], spec["extra_env"]], sort_keys=True, default=str)
    if key not in _models:
        os.environ.update(spec["extra_env"] or {})
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
    parts = batch if isinstance(batch, tuple) else (batch,)
    inputs = spec["inputs"]
    if len(parts) == 1 and isinstance(parts[0], pd.DataFrame):
        given = {str(name): _from_pandas(parts[0][name]) for name in parts[0].columns}
        rows = len(parts[0])
    else:
        arrays = [part if isinstance(part, pa.Array) else _from_pandas(part) for part in parts]
        rows = len(arrays[0]) if arrays else 0
        if len(arrays) == 1 and pa.types.is_struct(arrays[0].type) and not _takes_struct(inputs):
            given = dict(zip([field.name for field in arrays[0].type], arrays[0].flatten(), strict=True))
        elif inputs is None or any(column["name"] is None for column in inputs):
            given = {str(number): array for number, array in enumerate(arrays)}
        else:
            given = {column["name"]: array for column, array in zip(inputs, arrays, strict=False)}
            if len(arrays) > len(inputs):
                raise PredictionError(
                    f"the model {spec['label']!r} takes {len(inputs)} columns, but {len(arrays)} were given"
                )
    if inputs is None or spec["tensors"]:
        return {name: _to_pandas(array, None, name) for name, array in given.items()}, rows
    missing = [column["name"] for column in inputs if column["required"] and column["name"] not in given]
    if missing and inputs[0]["name"] is None:
        given = dict(zip((column["name"] for column in inputs), given.values(), strict=False))
        missing = []
    if missing:
        raise PredictionError(
            f"the model {spec['label']!r} needs the columns {missing}, which are missing; given: {list(given)}"
        )
    wanted = [column for column in inputs if column["name"] in given]
    return {
        column["name"]: _to_pandas(given[column["name"]], ARROW_TYPES.get(column["type"]), column["name"])
        for column in wanted
    }, rows


def _from_pandas(series: pd.Series[Any]) -> pa.Array:
    array = pa.array(series, from_pandas=True)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _takes_struct(inputs: Sequence[Mapping[str, Any]] | None) -> bool:
    return inputs is not None and len(inputs) == 1 and inputs[0]["type"] == "object"


def _to_pandas(array: pa.Array, wanted: pa.DataType | None, name: str) -> Any:
    if pa.types.is_timestamp(array.type) and array.type.tz:
        # What a person sees in this session's time zone, without the zone, as toPandas() gives it.
        return array.to_pandas().dt.tz_localize(None).astype("datetime64[ns]")
    if wanted is not None and array.type != wanted:
        if not fits(array.type, wanted):
            raise PredictionError(f"column {name!r} has type {array.type}; the model wants {wanted}; cast it first")
        array = array.cast(wanted, safe=not pa.types.is_decimal(array.type))
    if array.null_count and array.type in _NULLABLE:
        return array.to_pandas(types_mapper=_NULLABLE.get)
    return array.to_pandas()


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


def _tensors(columns: Mapping[str, Any], spec: Mapping[str, Any]) -> Any:
    """The columns as numpy arrays: one by name for named tensors, else all in one, a row a sample."""

    def stacked(values: Any, dtype: str, shape: Sequence[int]) -> Any:
        array = np.array([np.array(value.tolist() if hasattr(value, "tolist") else value) for value in values])
        return array.astype(dtype, copy=False).reshape([-1, *shape[1:]] if len(array) else [0, *map(abs, shape[1:])])

    inputs = spec["inputs"]
    if inputs[0]["name"] is not None:
        missing = [column["name"] for column in inputs if column["name"] not in columns]
        if missing:
            raise PredictionError(
                f"the model {spec['label']!r} needs the columns {missing}, which are missing; given: {list(columns)}"
            )
        return {column["name"]: stacked(columns[column["name"]], column["type"], column["shape"]) for column in inputs}
    dtype, shape = inputs[0]["type"], inputs[0]["shape"]
    if len(columns) == 1:
        return stacked(next(iter(columns.values())), dtype, shape)
    return np.column_stack([np.asarray(column) for column in columns.values()]).astype(dtype, copy=False)


def to_arrow(prediction: Any, wanted: pa.DataType, rows: int) -> pa.Array:
    """One value a row, of the type that the UDF returns.

    Args:
        prediction: what `predict` gave: DataFrame, Series, array of any rank, list, dict of columns.
        wanted: the type. A struct takes columns by name, an array takes a row's values, anything else one value.
        rows: how many are due.

    Raises:
        PredictionError: another number of predictions, or values that the type can't hold.
    """
    try:
        return _to_arrow(prediction, wanted, rows)
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
        return _struct(dict(zip(_names(wanted), prediction.T, strict=False)), wanted)
    if isinstance(prediction, np.ndarray) and prediction.ndim > 1 and not pa.types.is_list(wanted):
        if prediction.size != rows:
            raise PredictionError(f"gave {prediction.shape[1:]} values a row, but the result type is {wanted}")
        prediction = prediction.reshape(rows)
    return _array(prediction, wanted)


def _names(struct: pa.DataType) -> list[str]:
    return [struct.field(number).name for number in range(struct.num_fields)]


def _struct(columns: Mapping[str, Any], wanted: pa.DataType) -> pa.Array:
    missing = [name for name in _names(wanted) if name not in columns]
    if missing:
        raise PredictionError(f"gave no columns {missing}, which the result type names; it gave {list(columns)}")
    arrays = [_array(columns[name], wanted.field(name).type) for name in _names(wanted)]
    return pa.StructArray.from_arrays(arrays, fields=[wanted.field(name) for name in _names(wanted)])


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
        array = pa.array(values)
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        if pa.types.is_list(wanted) and not pa.types.is_list(array.type) and not pa.types.is_null(array.type):
            array = pa.array([None if value is None else [value] for value in array.to_pylist()])
        if array.type == wanted:
            return array
        if pa.types.is_string(wanted) and not pa.types.is_string(array.type) and not _is_text(array.type):
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


def _is_text(has: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(has) or pa.types.is_null(has))


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
