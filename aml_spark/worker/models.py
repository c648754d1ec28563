"""Loaded models: once for a worker process and content, bounded in size, called in the fastest way that is equal."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from . import encoders, failures, trees, upkeep
from .columns import Plan
from .predictions import to_arrow

MOST_BYTES = "AML_SPARK_MODEL_CACHE_BYTES"
"""Environment variable: how many bytes of models' files stay loaded in a worker process, at least one model."""
_DEFAULT_MOST_BYTES = 2 << 30
# Flavors that take a matrix where the columns are numbers, and are spared the DataFrame where the answers are equal.
_MATRIX_FLAVORS = frozenset({"mlflow.sklearn", "mlflow.lightgbm", "mlflow.xgboost", "mlflow.onnx"})
_QUICKENED_FLAVORS = frozenset({"mlflow.sklearn", "mlflow.lightgbm"})
_SAMPLE = 64  # rows

_loaded: OrderedDict[str, LoadedModel] = OrderedDict()


@dataclass
class LoadedModel:
    """A model in this process.

    Args:
        predict: takes what a `Plan` makes.
        flavor: MLflow's module that loaded it.
        size: bytes of its files.
        takes_matrix: by columns, whether it answers the same where they are handed over as one matrix.
        new: whether it has scored nothing yet.
    """

    predict: Callable[[Any], Any]
    flavor: str
    size: int
    takes_matrix: dict[tuple[Any, ...], bool] = field(default_factory=dict)
    new: bool = True


def get(folder: str, spec: Mapping[str, Any]) -> LoadedModel:
    """The model in a folder, loaded now or before.

    Raises:
        PredictionError: it can't be loaded.
    """
    key = json.dumps([spec[part] for part in ("digest", "model_config", "extra_env", "params")], default=str)
    if key in _loaded:
        _loaded.move_to_end(key)
        return _loaded[key]
    # joblib would start a thread for each core of the machine; what stands on OpenMP is told by Spark.
    os.environ.setdefault("LOKY_MAX_CPU_COUNT", os.environ.get("OMP_NUM_THREADS", "1"))
    size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    most = int(os.environ.get(MOST_BYTES, _DEFAULT_MOST_BYTES))
    while _loaded and size + sum(model.size for model in _loaded.values()) > most:
        _loaded.popitem(last=False)
        upkeep.stir()
    import mlflow.pyfunc
    from mlflow.models.signature import ModelSignature

    try:
        model = mlflow.pyfunc.load_model(folder, suppress_warnings=True, model_config=spec["model_config"])
    except (Exception, SystemExit) as error:
        raise failures.PredictionError(failures.told(error, spec, "couldn't be loaded")) from None
    if spec["enforced"]:
        # The types are right already, and MLflow's own check refuses integers beside nulls. It drops unknown params.
        known = model.metadata.get_params_schema()
        model.metadata.signature = ModelSignature(params=known) if known else None
    if model.loader_module in _QUICKENED_FLAVORS:
        _quicken(model)
    params = spec["params"]
    predict = (lambda data: model.predict(data, params=params)) if params else model.predict
    _loaded[key] = LoadedModel(predict, model.loader_module, size)
    return _loaded[key]


def _quicken(model: Any) -> None:
    """Replace what is slow in a model by what answers the same."""
    for part in _parts(model.get_raw_model()) if hasattr(model, "get_raw_model") else ():
        for quicken in (encoders.quicken, trees.quicken):
            with contextlib.suppress(Exception):  # what other versions of the packages made otherwise stays as it is
                quicken(part)


def _parts(model: Any) -> Iterator[Any]:
    """A model of scikit-learn's, and all that it is composed of."""
    yield model
    for name in ("steps", "transformers_", "transformer_list"):
        entries = getattr(model, name, ())
        for _, part, *_ in entries if isinstance(entries, list) else ():
            yield from _parts(part)


def settled(model: LoadedModel) -> None:
    """Note that a batch was scored, with which all that a model imports has come."""
    if model.new:
        model.new = False
        upkeep.settle()


def caller(model: LoadedModel, plan: Plan, spec: Mapping[str, Any]) -> Callable[[Sequence[pa.Array], int], Any]:
    """The function that scores a batch of a plan's columns."""
    if plan.dtype is not None and model.flavor in _MATRIX_FLAVORS:
        key = (*(name for name, _, _ in plan.steps), str(plan.dtype), str(spec["output"]))
        if key not in model.takes_matrix:
            model.takes_matrix[key] = _equal(model, plan, spec)
        if model.takes_matrix[key]:
            return functools.partial(_of_matrix, model, plan)
    return lambda arrays, rows: model.predict(plan.data(arrays, rows))


def _of_matrix(model: LoadedModel, plan: Plan, arrays: Sequence[pa.Array], rows: int) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        return model.predict(plan.matrix(arrays, rows))


def _made_up(plan: Plan) -> list[list[pa.Array]]:
    """Rows of numbers of many sizes, without and with some that are missing."""
    places = max(place for _, place, _ in plan.steps) + 1
    random = np.random.default_rng(0)
    numbers = random.normal(size=(places, _SAMPLE)) * 10.0 ** random.integers(-3, 6, size=(places, _SAMPLE))
    missing = numbers.copy()
    missing[:, ::7] = np.nan
    return [[pa.array(column.astype(plan.dtype)) for column in values] for values in (numbers, missing)]


def _equal(model: LoadedModel, plan: Plan, spec: Mapping[str, Any]) -> bool:
    """Whether the model answers the same to a DataFrame and to a matrix.

    Only a real answer counts; for what is missing an equal error does, too, after that.
    """
    for number, sample in enumerate(_made_up(plan)):
        answers: list[Any] = []
        for data in (plan.data, plan.matrix):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    answers.append(to_arrow(model.predict(data(sample, _SAMPLE)), spec["output"], _SAMPLE))
            except Exception as error:
                answers.append(error)
        frame, matrix = answers
        if isinstance(frame, Exception) or isinstance(matrix, Exception):
            if number == 0 or repr(frame) != repr(matrix):
                return False
        elif not _identical(frame, matrix):
            return False
    return True


def _identical(one: pa.Array, other: pa.Array) -> bool:
    return bool(one.equals(other)) or repr(one.to_pylist()) == repr(other.to_pylist())  # NaN equals none
