"""Runs on executors: Arrow in, the model, Arrow out.

This folder travels beside the model's files and is imported there under a name with its own digest, so it imports
nothing of the library, which executors need not have installed, and its globals live as long as the Python process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

from . import failures, models, upkeep
from .columns import ColumnError, Input, fits, plan
from .failures import PredictionError
from .predictions import to_arrow

__all__ = ["ColumnError", "Input", "PredictionError", "fits", "plan", "predict", "to_arrow"]


def predict(batches: Iterator[Any], folder: str, spec: Mapping[str, Any]) -> Iterator[pa.Array]:
    """Score batches.

    Args:
        batches: each a struct array (or its DataFrame), or a tuple of arrays (or series), one per column.
        folder: where the model's files are.
        spec: what the driver decided: `label`, `digest`, `inputs`, `output`, `enforced`, `time_zone`, `params`,
            `model_config`, `extra_env`, `show_message`.
    """
    try:
        yield from _predict(batches, folder, spec)
    except PredictionError as error:
        raise PredictionError(f"the model {spec['label']!r} {error}") from None
    finally:
        upkeep.forget_archives()


def _predict(batches: Iterator[Any], folder: str, spec: Mapping[str, Any]) -> Iterator[pa.Array]:
    inputs = None if spec["inputs"] is None else [Input(*one) for one in spec["inputs"]]
    model = models.get(folder, spec)
    known, call = None, None
    for batch in batches:
        given, rows = _given(batch, inputs)
        if not rows:
            yield pa.nulls(0, spec["output"])
            continue
        types = [(name, array.type) for name, array in given]
        if call is None or types != known:
            known, call = types, models.caller(model, plan(inputs, types), spec)
        try:
            prediction = call([array for _, array in given], rows)
        except PredictionError:
            raise
        except Exception as error:
            raise failures.of_model(error, spec, "score a batch") from None
        answer = to_arrow(prediction, spec["output"], rows, spec["time_zone"])
        models.settled(model)
        yield answer


def _given(batch: Any, inputs: list[Input] | None) -> tuple[list[tuple[str, pa.Array]], int]:
    """What the query gave, by name, or by number where names aren't known; and the number of rows."""
    parts = batch if isinstance(batch, tuple) else (batch,)
    wanted = {one.name: one.type for one in inputs or ()}
    if len(parts) == 1 and isinstance(parts[0], pd.DataFrame):  # a struct until Spark 4.0
        frame = parts[0]
        return [(str(name), _from_pandas(frame[name], wanted.get(str(name)))) for name in frame.columns], len(frame)
    if inputs is not None and inputs[0].name is not None and len(parts) > len(inputs):
        raise PredictionError(f"takes {len(inputs)} columns, but {len(parts)} were given")
    of_place = [one.type for one in inputs or ()] + [None] * len(parts)
    arrays = [
        part if isinstance(part, pa.Array) else _from_pandas(part, of_place[number])
        for number, part in enumerate(parts)
    ]
    rows = len(arrays[0]) if arrays else 0
    if len(arrays) == 1 and pa.types.is_struct(arrays[0].type):
        names = [field.name for field in arrays[0].type]
        takes_struct = inputs is not None and len(inputs) == 1 and isinstance(inputs[0].type, pa.StructType)
        if not takes_struct or names == [inputs[0].name]:  # type: ignore[index]
            return list(zip(names, arrays[0].flatten(), strict=True)), rows
    if inputs is None or inputs[0].name is None:
        return [(str(number), array) for number, array in enumerate(arrays)], rows
    return [(str(one.name), array) for one, array in zip(inputs, arrays, strict=False)], rows


def _from_pandas(series: pd.Series[Any], wanted: Any) -> pa.Array:
    """A column that Spark handed over in pandas' types, as it does until 4.0."""
    array = pa.array(series, from_pandas=True)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(wanted, pa.DataType) and pa.types.is_integer(wanted) and pa.types.is_float64(array.type):
        # Integers beside nulls came as doubles: exact up to 2^53.
        values = array.drop_null().to_numpy()
        if array.null_count and (abs(values) < 2**53).all() and (values == values.round()).all():
            return array.cast(wanted)
    return array
