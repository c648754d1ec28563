"""Models of MLflow's flavors, trained for real: the same answers as by predict in one process."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature

import aml_spark
from aml_spark import udf as udfs
from aml_spark.worker import models, predict

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.usefixtures("tracking")
NAMES = ["x0", "x1", "x2", "x3"]


def _data(rows: int = 400, *, missing: bool = True) -> pd.DataFrame:
    data = pd.DataFrame(np.random.default_rng(0).normal(size=(rows, 4)), columns=NAMES)
    if missing:
        data.iloc[::9, 1] = np.nan
    return data


def _target(data: pd.DataFrame) -> Any:
    return (data["x0"] + data["x2"] > 0).astype(int)


def _sklearn(folder: str, data: pd.DataFrame) -> None:
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(n_estimators=20, random_state=0, n_jobs=-1).fit(data, _target(data))
    signature = infer_signature(data, model.predict(data))
    mlflow.sklearn.save_model(model, folder, signature=signature, serialization_format="cloudpickle")


def _lightgbm(folder: str, data: pd.DataFrame) -> None:
    import lightgbm

    model = lightgbm.LGBMClassifier(n_estimators=20, verbose=-1).fit(data, _target(data))
    mlflow.lightgbm.save_model(model, folder, signature=infer_signature(data, model.predict(data)))


def _lightgbm_booster(folder: str, data: pd.DataFrame) -> None:
    import lightgbm

    booster = lightgbm.train({"verbose": -1, "objective": "regression"}, lightgbm.Dataset(data, data["x2"]), 20)
    mlflow.lightgbm.save_model(booster, folder, signature=infer_signature(data, booster.predict(data)))


def _xgboost(folder: str, data: pd.DataFrame) -> None:
    import xgboost

    model = xgboost.XGBRegressor(n_estimators=20).fit(data, data["x2"])
    mlflow.xgboost.save_model(model, folder, signature=infer_signature(data, model.predict(data)))


def _xgboost_booster(folder: str, data: pd.DataFrame) -> None:
    import xgboost

    booster = xgboost.train({}, xgboost.DMatrix(data, data["x2"]), 20)
    signature = infer_signature(data, booster.predict(xgboost.DMatrix(data)))
    mlflow.xgboost.save_model(booster, folder, signature=signature)


def _onnx(folder: str, data: pd.DataFrame) -> None:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LinearRegression

    floats = data.fillna(0).astype("float32")
    model = LinearRegression().fit(floats, floats["x2"] - floats["x0"])
    signature = infer_signature(floats, pd.DataFrame({"variable": model.predict(floats).astype("float32")}))
    mlflow.onnx.save_model(to_onnx(model, floats.to_numpy()[:1]), folder, signature=signature)


def _torch(folder: str, data: pd.DataFrame) -> None:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    floats = data.fillna(0).to_numpy("float32")
    loss, steps = torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(20):
        steps.zero_grad()
        loss(model(torch.tensor(floats))[:, 0], torch.tensor(floats[:, 2])).backward()
        steps.step()
    answers = model(torch.tensor(floats)).detach().numpy()
    signature = infer_signature(floats, answers)
    mlflow.pytorch.save_model(model, folder, signature=signature, serialization_format="pickle")


@pytest.mark.parametrize(
    ("save", "as_matrix"),
    [
        (_sklearn, True),
        (_lightgbm, True),
        (_lightgbm_booster, True),
        (_xgboost, True),
        (_xgboost_booster, False),  # refuses what has no names
        (_onnx, True),
        pytest.param(
            _torch,
            False,
            marks=pytest.mark.skipif(
                importlib.util.find_spec("torch") is None,
                reason="PyTorch isn't installed, which `make pytorch` does: from PyPI it is three gigabytes of CUDA",
            ),
        ),
    ],
)
def test_a_flavor_answers_as_in_one_process(
    spark: SparkSession,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    save: Callable[[str, pd.DataFrame], None],
    as_matrix: bool,
) -> None:
    folder, specs = str(tmp_path / "model"), []
    save(folder, _data())
    with monkeypatch.context() as patch:
        bridge = udfs._bridge
        patch.setattr(udfs, "_bridge", lambda *of: specs.append(of[-1]) or bridge(*of))
        udf = aml_spark.spark_udf(spark, folder)
    kind = "float32" if save is _onnx else "float64"
    given = _data(missing=save not in (_onnx, _torch)).astype(kind)
    df = spark.createDataFrame(given.reset_index()).repartition(3)
    for name in NAMES:
        df = df.withColumn(name, df[name].cast("float" if kind == "float32" else "double"))
    scored = df.select("index", udf(*NAMES).alias("p")).toPandas().sort_values("index")
    expected = mlflow.pyfunc.load_model(folder).predict(np.array(given, "float32") if save is _torch else given)
    expected = np.asarray(expected).reshape(len(given), -1)
    got = np.array([np.atleast_1d(value) for value in scored["p"]])
    # Sums over a vector depend in their last digit on how many rows are multiplied at once.
    assert np.array_equal(got, expected) or (
        save in (_onnx, _torch) and np.allclose(got, expected, rtol=1e-6, atol=1e-6)
    )
    arrays = tuple(df.limit(50).select(*NAMES).toArrow().combine_chunks().to_batches()[0].columns)
    list(predict(iter([arrays]), folder, specs[0]))
    assert any(models._loaded[next(reversed(models._loaded))].takes_matrix.values()) is as_matrix


def test_a_spark_ml_model_is_scored_by_transform(spark: SparkSession, tmp_path: Path) -> None:
    from pyspark.ml import Pipeline
    from pyspark.ml.feature import VectorAssembler
    from pyspark.ml.regression import LinearRegression

    data = _data(missing=False)
    df = spark.createDataFrame(data.reset_index()).withColumnRenamed("index", "id")
    stages = [VectorAssembler(inputCols=NAMES, outputCol="features"), LinearRegression(labelCol="x2")]
    model = Pipeline(stages=stages).fit(df)
    uri = str(tmp_path / "model")
    mlflow.spark.save_model(model, uri, signature=infer_signature(data, data["x2"]))
    with pytest.raises(aml_spark.ArgumentError, match="is a model of Spark ML"):
        aml_spark.spark_udf(spark, uri)
    source, target = str(tmp_path / "source"), str(tmp_path / "target")
    df.write.format("delta").save(source)
    result = aml_spark.score(spark, model=uri, source=source, target=target, columns=["id"])
    assert result.rows == len(data)
    got = spark.read.format("delta").load(target)
    assert got.columns == ["id", "prediction", "model_version"]
    expected = {row.id: row.prediction for row in model.transform(df).select("id", "prediction").collect()}
    assert {row.id: row.prediction for row in got.collect()} == expected
    assert aml_spark.score(spark, model=uri, source=source, target=target, columns=["id"]).skipped
    with pytest.raises(aml_spark.ArgumentError, match="takes no params and no on_error"):
        aml_spark.score(spark, model=uri, source=source, target=target, columns=["id"], on_error="null", force=True)
