"""How fast a registered model scores as a UDF, beside MLflow's own; the answers are compared first.

Run by `make bench`. Prints seconds, rows per second, and the ratio of each pair of runs; machines drift, ratios less.
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from pyspark.sql import DataFrame, SparkSession, functions as F
from sklearn.linear_model import LogisticRegression

import aml_spark

ROWS, COLUMNS, PAIRS = 1_000_000, 8, 5
NAMES = [f"x{number}" for number in range(COLUMNS)]


def main() -> None:
    """Compare the two."""
    with tempfile.TemporaryDirectory() as folder:
        spark = aml_spark.get_spark("benchmark")
        with aml_spark.configure(spark, workspace=Path(folder, "mlworkspace"), experiment="benchmark", autolog=False):
            uri, data = _model(), _table(spark, str(Path(folder, "rows")))
            makers: dict[str, Callable[..., Any]] = {
                "aml_spark": aml_spark.spark_udf,
                "mlflow": mlflow.pyfunc.spark_udf,
            }
            udfs, made = {}, {}
            for name, make in makers.items():
                start = time.perf_counter()
                udfs[name] = make(spark, uri, result_type="double")
                made[name] = time.perf_counter() - start
            scored = {name: data.select(udf(F.struct(*NAMES)).alias("p")) for name, udf in udfs.items()}
            both = data.select(
                udfs["aml_spark"](F.struct(*NAMES)).alias("a"), udfs["mlflow"](F.struct(*NAMES)).alias("b")
            )
            assert both.where("a <> b OR a IS NULL OR b IS NULL").count() == 0
            first = {name: _seconds(df.limit(1)) for name, df in scored.items()}
            runs: dict[str, list[float]] = {name: [] for name in scored}
            for _ in range(PAIRS):
                for name, df in scored.items():
                    runs[name].append(_seconds(df))
        _report(spark, made, first, runs)
        spark.stop()


def _model() -> str:
    values = np.random.default_rng(0).normal(size=(1000, COLUMNS))
    data = pd.DataFrame(values, columns=NAMES)
    model = LogisticRegression().fit(data, (values.sum(axis=1) > 0).astype(float))
    with mlflow.start_run():
        return str(
            mlflow.sklearn.log_model(
                model,
                name="model",
                signature=infer_signature(data, model.predict(data)),
                skops_trusted_types=["numpy.dtype"],
                pip_requirements=["scikit-learn"],
            ).model_uri
        )


def _table(spark: SparkSession, path: str) -> DataFrame:
    numbers = spark.range(0, ROWS, numPartitions=8).select(
        *[F.randn(seed).alias(name) for seed, name in enumerate(NAMES)]
    )
    numbers.write.format("delta").save(path)
    return spark.read.format("delta").load(path)


def _seconds(df: DataFrame) -> float:
    start = time.perf_counter()
    df.write.format("noop").mode("overwrite").save()
    return time.perf_counter() - start


def _report(spark: SparkSession, made: dict[str, float], first: dict[str, float], runs: dict[str, list[float]]) -> None:
    versions = ", ".join(f"{name} {version(name)}" for name in ("pyspark", "mlflow", "delta-spark", "pyarrow"))
    print(f"\n{datetime.date.today()}, {os.cpu_count()} cores, {platform.platform()}, {versions}")
    print(f"{ROWS:,} rows of {COLUMNS} doubles, logistic regression, {spark.sparkContext.master}, {PAIRS} pairs\n")
    print(f"{'':>10}  {'made in':>9}  {'one row':>9}  {'median':>9}  {'rows/s':>10}")
    for name, seconds in runs.items():
        middle = statistics.median(seconds)
        print(f"{name:>10}  {made[name]:>7.2f} s  {first[name]:>7.2f} s  {middle:>7.2f} s  {ROWS / middle:>10,.0f}")
    ratios = sorted(theirs / ours for ours, theirs in zip(runs["aml_spark"], runs["mlflow"], strict=True))
    print(f"\nmlflow / aml_spark: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
