"""How fast registered models score as UDFs, beside `mlflow.pyfunc.spark_udf`; the answers are compared first.

    python tests/benchmarks/spark_udf.py [--only linear …] [--master local[2] …] [--pairs 3] [--scale 1] [--packages]
        [--json FILE]

Both run in turn in one process, each query into Spark's noop sink. Machines drift, ratios of a pair less. Beside them
stand reading the table alone, a UDF that takes its columns and gives zeros, and `predict` in one process for each core.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import numpy as np
import pandas as pd
from delta import configure_spark_with_delta_pip
from mlflow.models import infer_signature
from pyspark.sql import DataFrame, SparkSession, functions as F
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import aml_spark
from aml_spark import session

MASTERS = ("local[2]", "local-cluster[2,1,2048]")
RATES = ("scan", "zeros", "predict", "mlflow", "ours")
WARM_SECONDS = 8
CITIES = ["Aachen", "Bremen", "Celle", "Dresden", "Erfurt", "Fulda", "Gera", "Hagen"]


class Workload(NamedTuple):
    """A table, a model and the queries over them."""

    name: str
    told: str
    aim: float
    rows: int
    partitions: int
    numbers: int
    train: Callable[[pd.DataFrame], Any]
    texts: int = 0
    queries: int = 1

    @property
    def columns(self) -> list[str]:
        return [f"x{n}" for n in range(self.numbers)] + [f"s{n}" for n in range(self.texts)]


def linear(data: pd.DataFrame) -> Any:
    return make_pipeline(StandardScaler(), LinearRegression()).fit(data, data.sum(axis=1))


def boosted(data: pd.DataFrame) -> Any:
    import lightgbm

    return lightgbm.LGBMRegressor(n_estimators=100, verbose=-1, n_jobs=1).fit(data, data.sum(axis=1))


def wide(data: pd.DataFrame) -> Any:
    return LogisticRegression().fit(data, (data.sum(axis=1) > 0).astype(float))


def forest(data: pd.DataFrame) -> Any:
    # Grown to its leaves on as many rows as make it 250 MB.
    more = pd.DataFrame(np.random.default_rng(1).normal(size=(60_000, data.shape[1])), columns=data.columns)
    model = RandomForestRegressor(n_estimators=50, random_state=0, n_jobs=-1).fit(more, more.sum(axis=1))
    return model.set_params(n_jobs=1)  # threads add up the trees in any order


def mixed(data: pd.DataFrame) -> Any:
    numbers = [name for name in data if name.startswith("x")]
    texts = [name for name in data if name.startswith("s")]
    prepared = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers), (OneHotEncoder(handle_unknown="ignore"), texts)
    )
    return make_pipeline(prepared, LinearRegression()).fit(data, data[numbers].sum(axis=1))


WORKLOADS = (
    Workload("linear", "2 million rows, 20 doubles, scaler and linear regression", 1.5, 2_000_000, 8, 20, linear),
    Workload("lightgbm", "2 million rows, 20 doubles, LightGBM of 100 trees", 1.25, 2_000_000, 8, 20, boosted),
    Workload("wide", "200,000 rows, 300 doubles, logistic regression", 2, 200_000, 8, 300, wide),
    Workload("forest", "100,000 rows in 128 partitions, a forest of 250 MB", 4, 100_000, 128, 10, forest),
    Workload("mixed", "1 million rows, 10 numbers and 10 texts, ColumnTransformer", 1.3, 1_000_000, 8, 10, mixed, 10),
    Workload("small", "50 queries of 1,000 rows, 20 doubles, linear", 1.5, 1_000, 2, 20, linear, 0, 50),
)


def main() -> None:
    """Compare the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=[one.name for one in WORKLOADS])
    parser.add_argument("--master", nargs="*", default=MASTERS)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1, help="of the rows and queries")
    parser.add_argument(
        "--packages", action="store_true", help="sessions with Delta as a package, as its documentation has"
    )
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    chosen = [one for one in WORKLOADS if not asked.only or one.name in asked.only]
    versions = {name: version(name) for name in ("pyspark", "mlflow", "delta-spark", "pyarrow", "scikit-learn")}
    told = {"date": str(datetime.date.today()), "cores": os.cpu_count(), "machine": platform.platform(), **versions}
    print(", ".join(f"{name} {value}" for name, value in told.items()), flush=True)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for master in asked.master:
            spark = _with_packages(master) if asked.packages else aml_spark.get_spark("benchmark", master=master)
            workspace = Path(folder, "mlworkspace")
            with aml_spark.configure(spark, workspace=workspace, experiment="benchmark", autolog=False):
                print(f"\n{master}, {asked.pairs} pairs; rows a second, in thousands\n")
                head = "".join(f"{name:>9}" for name in RATES)
                print(f"{'':>10}{head}   times faster  (from to)   aim", flush=True)
                for one in chosen:
                    result = measured(spark, one, Path(folder), asked.pairs, asked.scale)
                    results.append({"master": master, **result})
                    rates = "".join(f"{result[name] / 1e3:>9,.0f}" for name in RATES)
                    low, middle, high = result["ratio"]
                    print(f"{one.name:>10}{rates}{middle:>14.2f}   ({low:.2f} {high:.2f}){one.aim:>8}", flush=True)
            spark.stop()
    if asked.json:
        asked.json.write_text(json.dumps({**told, "results": results}, indent=1))


def _with_packages(master: str) -> SparkSession:
    """A session as Delta's documentation makes it, whose jars Spark puts on Python's path."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master(master).appName("benchmark")
    for name, value in {**session.DELTA_CONF, **session.LOCAL_CONF}.items():
        builder = builder.config(name, value)
    return configure_spark_with_delta_pip(builder).getOrCreate()


def measured(spark: SparkSession, one: Workload, folder: Path, pairs: int, scale: float) -> dict[str, Any]:
    """Rows a second of each way, the lowest, middle and highest ratio of a pair, and how long the first rows took."""
    rows = max(1000, int(one.rows * scale)) if one.queries == 1 else one.rows
    queries = max(1, int(one.queries * scale))
    path = folder / f"{one.name}-{rows}"
    sample = _rows(spark, one, 20_000).toPandas()
    uri = _model(one, sample)
    if not path.exists():
        _rows(spark, one, rows).write.format("delta").save(str(path))
    data = spark.read.format("delta").load(str(path))
    if one.partitions > 8:
        data = data.repartition(one.partitions).localCheckpoint()
    makers = {"ours": aml_spark.spark_udf, "mlflow": mlflow.pyfunc.spark_udf}
    udfs = {name: make(spark, uri, result_type="double") for name, make in makers.items()}
    few = data.limit(2000)
    both = few.select(udfs["ours"]().alias("a"), udfs["mlflow"]().alias("b"))
    assert both.where("NOT (a <=> b)").count() == 0, f"{one.name}: the answers differ"
    ways = {name: data.select(udf().alias("p")) for name, udf in udfs.items()}
    ways["scan"] = data.select(*one.columns)
    ways["zeros"] = data.select(_zeros()(*one.columns).alias("p"))
    first = {name: _seconds(few.select(udf().alias("p"))) for name, udf in udfs.items()}
    for df in ways.values():  # Java compiles for many seconds what each way needs, on the cores that are measured
        warm = 0.0
        while warm < WARM_SECONDS:
            warm += _seconds(df)
    runs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(pairs):
        for name, df in ways.items():
            runs[name].append(sum(_seconds(df) for _ in range(queries)))
    loaded = mlflow.pyfunc.load_model(uri)
    start = time.perf_counter()
    loaded.predict(sample)
    cores = spark.sparkContext.defaultParallelism
    rates = {name: rows * queries / statistics.median(seconds) for name, seconds in runs.items()}
    ratios = [theirs / ours for ours, theirs in zip(runs["ours"], runs["mlflow"], strict=True)]
    return {
        "workload": one.name,
        "told": one.told,
        "rows": rows * queries,
        **rates,
        "predict": len(sample) / (time.perf_counter() - start) * cores,
        "ratio": [min(ratios), statistics.median(ratios), max(ratios)],
        "aim": one.aim,
        "first_rows_seconds": first,
        "seconds": runs,
    }


def _zeros() -> Any:
    """A UDF that has Spark send the columns and take a column back, and does nothing else."""
    from pyspark.sql.pandas.functions import ArrowUDFType, arrow_udf

    def zeros(batches: Iterator[Any]) -> Iterator[Any]:
        import numpy
        import pyarrow

        for columns in batches:
            yield pyarrow.array(numpy.zeros(len(columns[0])))

    return arrow_udf(zeros, "double", ArrowUDFType.SCALAR_ITER)


def _rows(spark: SparkSession, one: Workload, rows: int) -> DataFrame:
    cities = F.array(*[F.lit(city) for city in CITIES])
    numbers = [F.randn(seed).alias(f"x{seed}") for seed in range(one.numbers)]
    texts = [F.element_at(cities, (1 + F.rand(seed) * 8).cast("int")).alias(f"s{seed}") for seed in range(one.texts)]
    return spark.range(0, rows, numPartitions=min(one.partitions, 8)).select(*numbers, *texts)


def _model(one: Workload, sample: pd.DataFrame) -> str:
    model = one.train(sample)
    flavor, saved = (
        (mlflow.lightgbm, {}) if one.name == "lightgbm" else (mlflow.sklearn, {"serialization_format": "cloudpickle"})
    )
    with mlflow.start_run():
        return str(
            flavor.log_model(
                model,
                name="model",
                signature=infer_signature(sample, model.predict(sample)),
                pip_requirements=["scikit-learn"],
                **saved,
            ).model_uri
        )


def _seconds(df: DataFrame) -> float:
    start = time.perf_counter()
    df.write.format("noop").mode("overwrite").save()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
