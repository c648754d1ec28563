"""Models for the tests, trained and registered for real."""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature

TRAINING = pd.DataFrame({"x": np.arange(20.0), "y": np.arange(20.0) % 7})


def make_sum(constant: float = 0.0) -> Any:
    """A model that adds its columns and a constant, and raises on a negative x with a message that quotes it."""

    # In a function, so that it is pickled by value: executors can't import this file.
    class Sum(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            if (model_input["x"] < 0).any():
                raise ValueError(f"negative: {model_input['x'].tolist()}")
            return (model_input["x"] + model_input["y"]).to_numpy() + constant

    return Sum()


def register(name: str, model: Any, *, signature: Any = None, alias: str | None = None) -> str:
    """Log and register a Python model; gives its version."""
    place = {"name": "model"} if int(mlflow.__version__.split(".")[0]) >= 3 else {"artifact_path": "model"}
    with mlflow.start_run():
        info = mlflow.pyfunc.log_model(python_model=model, signature=signature, pip_requirements=["mlflow"], **place)
    version = str(mlflow.register_model(info.model_uri, name).version)
    if alias:
        mlflow.MlflowClient().set_registered_model_alias(name, alias, version)
    return version


def register_sum(name: str, constant: float = 0.0, *, alias: str | None = None) -> str:
    model = make_sum(constant)
    return register(name, model, signature=infer_signature(TRAINING, model.predict(None, TRAINING)), alias=alias)


def make_total() -> Any:
    """A model that adds the numbers of each row of a tensor."""

    class Total(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input.sum(axis=1)

    return Total()
