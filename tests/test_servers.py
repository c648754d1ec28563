"""Against an MLflow server and on a standalone Spark cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import processes
import pytest
from models import register_sum

import aml_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with processes.mlflow_server(tmp_path_factory.mktemp("server")) as url:
        yield url


def _source(spark: SparkSession, folder: Path) -> str:
    path = str(folder / "source")
    spark.range(0, 100, numPartitions=1).selectExpr("id", "double(id) x", "double(1) y").write.format("delta").save(
        path
    )
    return path


def test_a_run_and_its_files_go_to_the_server_and_its_model_scores_a_table(
    spark: SparkSession, server: str, tmp_path: Path
) -> None:
    with aml_spark.configure(spark, server, experiment="flights", autolog=False, tags={"team": "delays"}) as tracking:
        with mlflow.start_run() as run:
            mlflow.log_metric("auc", 0.7)
            mlflow.log_text("words", "notes/note.txt")
        register_sum("served", 0.5, alias="champion")
        target = str(tmp_path / "target")
        result = aml_spark.score(spark, model="models:/served@champion", source=_source(spark, tmp_path), target=target)
        with pytest.raises(aml_spark.ModelNotFoundError, match=r"no registered model 'srved'.*'served'"):
            aml_spark.spark_udf(spark, "models:/srved/1")
        with pytest.raises(aml_spark.ModelNotFoundError, match="no alias 'chalenger'"):
            aml_spark.spark_udf(spark, "models:/served@chalenger")
    client = mlflow.MlflowClient(server)
    seen = client.get_run(run.info.run_id)
    assert seen.data.metrics == {"auc": 0.7}
    assert seen.data.tags.items() >= {"team": "delays", "spark.version": spark.version}.items()
    assert client.get_experiment(seen.info.experiment_id).name == "flights"
    assert tracking.workspace.tracking_uri == server
    note = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="notes/note.txt", dst_path=str(tmp_path), tracking_uri=server
    )
    assert Path(note).read_text() == "words"
    assert (result.rows, result.model_version) == (100, "1")
    assert spark.read.format("delta").load(target).where("prediction = x + 1.5").count() == 100


def test_a_standalone_cluster_scores_with_a_model_of_the_server(
    spark: SparkSession, server: str, tmp_path: Path
) -> None:
    with aml_spark.configure(spark, server, experiment="flights", autolog=False):
        register_sum("standalone", 2.0)
    work = [
        "--model",
        "models:/standalone/1",
        "--source",
        _source(spark, tmp_path),
        "--target",
        str(tmp_path / "target"),
    ]
    confs = ["spark.executor.memory=1g", "spark.driver.host=127.0.0.1"]
    options = [word for conf in confs for word in ("--conf", conf)]
    (tmp_path / "cluster").mkdir()
    with processes.standalone_cluster(tmp_path / "cluster") as master:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "aml_spark",
                "score",
                *work,
                "--workspace",
                server,
                "--master",
                master,
                *options,
                "--json",
            ],
            env={name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["rows"] == 100
    assert spark.read.format("delta").load(str(tmp_path / "target")).where("prediction = x + 3").count() == 100
    (executor,) = (tmp_path / "cluster" / "work").glob("app-*/*/stderr")
    assert "Running task" in executor.read_text()
