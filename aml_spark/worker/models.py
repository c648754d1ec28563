"""Loaded models: once for a worker process and content, bounded in size, called in the fastest way that is equal."""

from __future__ import annotations

import json
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from . import failures, upkeep
from .columns import Plan
from .predictions import to_arrow

MOST_BYTES = "AML_SPARK_MODEL_CACHE_BYTES"
"""Environment variable: how many bytes of models' files stay loaded in a worker process, at least one model."""
_DEFAULT_MOST_BYTES = 2 << 30
# Flavors that take a matrix where the columns are numbers, and are spared the DataFrame where the answers are equal.
_MATRIX_FLAVORS = frozenset({"mlflow.sklearn", "mlflow.lightgbm", "mlflow.xgboost", "mlflow.onnx"})

_loaded: OrderedDict[str, LoadedModel] = OrderedDict()


@dataclass
class LoadedModel:
    """A model in this process.

    Args:
        predict: takes what a `Plan` makes.
        matrix_flavor: whether its flavor may take a matrix for a DataFrame.
        takes_matrix: by the plan's columns, whether the answers are equal.
        size: bytes of its files.
        new: whether it has scored nothing yet.
    """

    predict: Callable[[Any], Any]
    matrix_flavor: bool
    size: int
    takes_matrix: dict[tuple[str, ...], bool] = field(default_factory=dict)
    new: bool = True


def get(folder: str, spec: Mapping[str, Any]) -> LoadedModel:
    """The model in a folder, loaded now or before.

    Raises:
        PredictionError: it can't be loaded.
    """
    os.environ.update(spec["extra_env"] or {})
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

    try:
        model = mlflow.pyfunc.load_model(folder, suppress_warnings=True, model_config=spec["model_config"])
    except Exception as error:
        raise failures.of_model(error, spec, "be loaded") from None
    if spec["enforced"]:
        # The types are right already, and MLflow's own check refuses integers beside nulls.
        model.metadata.signature = None
    params = spec["params"]
    predict = (lambda data: model.predict(data, params=params)) if params else model.predict
    flavor = model.loader_module in _MATRIX_FLAVORS
    _loaded[key] = LoadedModel(predict, flavor, size)
    return _loaded[key]


def settled(model: LoadedModel) -> None:
    """Note that a batch was scored, with which all that a model imports has come."""
    if model.new:
        model.new = False
        upkeep.settle()


def caller(model: LoadedModel, plan: Plan, spec: Mapping[str, Any]) -> Callable[[Sequence[pa.Array], int], Any]:
    """The function that scores a batch of a plan's columns."""
    if not (model.matrix_flavor and plan.dtype is not None):
        return lambda arrays, rows: model.predict(plan.data(arrays, rows))
    names = tuple(name for name, _, _ in plan.steps)
    if names not in model.takes_matrix:
        model.takes_matrix[names] = _equal(model, plan, spec)
    if not model.takes_matrix[names]:
        return lambda arrays, rows: model.predict(plan.data(arrays, rows))

    def native(arrays: Sequence[pa.Array], rows: int) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            return model.predict(plan.matrix(arrays, rows))

    return native


def _equal(model: LoadedModel, plan: Plan, spec: Mapping[str, Any]) -> bool:
    """Whether the model answers the same to a matrix, on rows that are made up: not on the user's."""
    places = max(place for _, place, _ in plan.steps) + 1
    random = np.random.default_rng(0)
    rows = 64
    numbers = random.normal(size=(places, rows)) * 10.0 ** random.integers(-3, 6, size=(places, rows))
    missing = numbers.copy()
    missing[:, ::7] = np.nan
    for values in (numbers, missing):
        arrays = [pa.array(column.astype(plan.dtype)) for column in values]
        answers = []
        for data in (plan.data, plan.matrix):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    answers.append(to_arrow(model.predict(data(arrays, rows)), spec["output"], rows))
            except Exception as error:
                answers.append(type(error))
        frame, matrix = answers
        if isinstance(frame, type) or isinstance(matrix, type):
            if values is numbers or frame is not matrix:
                return False
        elif not _identical(frame, matrix):
            return False
    return True


def _identical(one: pa.Array, other: pa.Array) -> bool:
    return bool(one.equals(other)) or repr(one.to_pylist()) == repr(other.to_pylist())  # NaN equals none
