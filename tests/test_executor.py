"""Runs that are logged from executors."""

from __future__ import annotations

import dataclasses
import http.server
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
import pytest

import aml_spark
from aml_spark import auth, session as sessions
from aml_spark.errors import ArgumentError, AuthenticationError, WorkspaceError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from aml_spark.executor import ExecutorTracking
    from aml_spark.testing import EmulatorProcess


@pytest.fixture
def azureml(spark: SparkSession, azureml_workspace: EmulatorProcess) -> Iterator[aml_spark.Tracking]:
    uri = azureml_workspace.facts["tracking_uri"]
    with aml_spark.configure(spark, uri, experiment="executors", autolog=False, tags={"team": "delays"}) as configured:
        yield configured


def _on_partitions(spark: SparkSession, function: Any, partitions: int = 4) -> DataFrame:
    # Functions of a test module are pickled by name, and executors don't have it: wrapped ones go by value.
    def work(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        yield from function(frames)

    return spark.range(8, numPartitions=partitions).mapInPandas(work, "id long, told string")


def _logging(tracking: ExecutorTracking) -> Any:
    def log(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        import os

        import mlflow

        before = mlflow.get_tracking_uri()
        for frame in frames:
            with tracking.start_run(f"part {frame['id'].min()}", tags={"own": "yes"}) as run:
                mlflow.log_param("first", int(frame["id"].min()))
                mlflow.log_metric("total", float(frame["id"].sum()))
                mlflow.log_text("words", "notes/note.txt")
            assert mlflow.get_tracking_uri() == before
            assert mlflow.active_run() is None
            assert "MLFLOW_RUN_CONTEXT" not in os.environ
            yield frame.assign(told=f"{run.info.run_id} {os.getppid()}")

    return log


@pytest.mark.every_kind
def test_each_task_logs_a_child_of_the_drivers_run_to_the_workspace(
    spark: SparkSession, kind: str, azureml: aml_spark.Tracking
) -> None:
    client = mlflow.MlflowClient()
    with mlflow.start_run(run_name="driver") as run:
        told = _on_partitions(spark, _logging(azureml.on_executor())).toPandas()["told"].str.split()
    if kind == "cluster":
        assert told.str[1].nunique() == 2, "both executors' Python daemons"
    children = client.search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'", order_by=["tags.`mlflow.runName`"]
    )
    assert {child.info.run_id for child in children} == set(told.str[0])
    assert [child.data.tags["mlflow.runName"] for child in children] == [f"part {first}" for first in (0, 2, 4, 6)]
    assert [child.data.metrics["total"] for child in children] == [1, 5, 9, 13]
    assert [child.data.tags["spark.partition_id"] for child in children] == ["0", "1", "2", "3"]
    for child in children:
        assert (child.info.status, child.info.user_id) == ("FINISHED", run.info.user_id)
        assert (child.data.tags["team"], child.data.tags["own"]) == ("delays", "yes")
        assert child.data.tags["mlflow.source.name"] == run.data.tags["mlflow.source.name"]
        assert mlflow.artifacts.load_text(f"runs:/{child.info.run_id}/notes/note.txt") == "words"


@pytest.mark.every_kind
def test_no_trace_of_spark_holds_the_token(
    spark: SparkSession, kind: str, azureml: aml_spark.Tracking, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tracking = azureml.on_executor()
    token = auth.tokens().get()
    assert token.encode() in pickle.dumps(tracking)  # what has to be hidden is there

    def fail(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            with tracking.start_run("failing"):
                raise ValueError(f"broken with {tracking!r}")
            yield frame

    frame = _on_partitions(spark, fail, 1)
    with pytest.raises(Exception, match="broken with") as raised:
        frame.collect()
    _on_partitions(spark, _logging(tracking)).collect()
    told = [str(raised.value), repr(raised.value), repr(tracking), str(frame), repr(azureml)]
    if kind == "local":
        told += [f"{key}={value}" for key, value in spark.sparkContext.getConf().getAll()]
    else:
        folder = Path(sessions.setting(spark, "spark.eventLog.dir") or "")
        logs = [file for file in folder.rglob("*") if file.is_file()]
        texts = [file.read_text(errors="replace") for file in logs]
        assert any("mapInPandas" in text or "MapInPandas" in text for text in texts)
        told += texts
    if kind == "connect":
        told += [
            file.read_text(errors="replace") for file in tmp_path_factory.getbasetemp().glob("connect*/server.log")
        ]
    secret = token.rpartition(".")[2]  # the signature, without which the rest is worth nothing
    assert [text[:200] for text in told if secret in text] == []
    failed = mlflow.search_runs(
        experiment_names=["executors"], filter_string="run_name = 'failing'", output_format="list"
    )
    assert {run.info.status for run in failed} == {"FAILED"}
    assert {run.data.tags["spark.task_attempt"] for run in failed} == {str(number) for number in range(len(failed))}


@pytest.mark.every_kind
def test_a_token_that_ends_before_the_task_is_refused_before_any_work(
    spark: SparkSession, azureml: aml_spark.Tracking
) -> None:
    with pytest.raises(AuthenticationError, match=r"ends in 3\d\d\d s, and a task may take 86400 s") as raised:
        azureml.on_executor(task_seconds=86_400)
    assert "on_executor() again" in str(raised.value)
    tracking = azureml.on_executor()
    short = dataclasses.replace(tracking, _token=auth.Token(auth.tokens().get(), time.time() + 60))

    def work(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        import os

        os.environ["AZURE_TOKEN_CREDENTIALS"] = "EnvironmentCredential"  # no look for Azure from a test
        for frame in frames:
            try:
                with short.start_run("too late"):
                    yield frame.assign(told="worked")
            except Exception as error:
                yield frame.assign(told=f"{type(error).__name__}: {error}")
            finally:
                del os.environ["AZURE_TOKEN_CREDENTIALS"]

    (told,) = _on_partitions(spark, work, 1).toPandas()["told"].unique()
    assert "AuthenticationError: the driver's token ends in" in told
    assert "a task may take 600 s: what it logs later would be lost" in told
    runs = mlflow.search_runs(experiment_names=["executors"], output_format="list")
    assert "too late" not in {run.data.tags["mlflow.runName"] for run in runs}


def test_a_token_that_ends_in_the_middle_of_a_task_is_named_or_replaced(
    azureml: aml_spark.Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = azureml.on_executor(task_seconds=1)
    ending = dataclasses.replace(context, _token=auth.Token(auth.tokens().get(), time.time() + 3))
    with ending.start_run("replaced"):  # this process has a credential of its own
        time.sleep(3)
        mlflow.log_metric("auc", 0.7)
    for name in ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")  # no look for Azure from a test
    ending = dataclasses.replace(context, _token=auth.Token(auth.tokens().get(), time.time() + 3))
    auth.tokens.cache_clear()
    with ending.start_run("named"):
        time.sleep(3)
        with pytest.raises(AuthenticationError, match=r"lent to this process: ended at 2\d\d\d-"):
            mlflow.log_metric("auc", 0.7)
        auth.tokens().lend(context._token)  # so that the run can be ended


def test_executors_log_to_a_store_without_tokens_too(spark: SparkSession, tracking: aml_spark.Tracking) -> None:
    with mlflow.start_run() as run:
        context = tracking.on_executor()
        told = _on_partitions(spark, _logging(context), 2).toPandas()["told"].str.split()
    children = mlflow.search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'", output_format="list"
    )
    assert {child.info.run_id for child in children} == set(told.str[0])
    assert sum(child.data.metrics["total"] for child in children) == 28
    gone = dataclasses.replace(context, workspace=aml_spark.Workspace.local("/nowhere/at/all"))
    with pytest.raises(WorkspaceError, match="isn't on the machine of this executor"), gone.start_run():
        pass


def test_what_gives_access_is_not_shown(monkeypatch: pytest.MonkeyPatch, tracking: aml_spark.Tracking) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    assert b"hunter2" not in pickle.dumps(tracking.on_executor())  # neither store is a server
    context = dataclasses.replace(tracking, registry_uri="https://models.example.com").on_executor()
    assert "hunter2" not in repr(context)
    os.environ.pop("MLFLOW_TRACKING_PASSWORD")
    with pickle.loads(pickle.dumps(context)).start_run():
        assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "hunter2"
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ


@pytest.fixture
def silent_server() -> Iterator[int]:
    """The port of a server that knows nothing: Databricks' own client asks the host what it is."""
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_executors_of_databricks_get_its_host_and_token(
    monkeypatch: pytest.MonkeyPatch, tracking: aml_spark.Tracking, silent_server: int
) -> None:
    address = f"http://127.0.0.1:{silent_server}"
    monkeypatch.setenv("DATABRICKS_HOST", address)
    monkeypatch.setenv("DATABRICKS_TOKEN", "dapi-secret")
    mlflow.set_tracking_uri("databricks")
    there = dataclasses.replace(
        tracking, workspace=aml_spark.Workspace.from_uri("databricks"), registry_uri="databricks-uc://profile"
    )
    context = there.on_executor()
    assert (context.workspace.tracking_uri, context.registry_uri) == ("databricks", "databricks-uc")
    apart = dataclasses.replace(there, registry_uri="https://models.example.com").on_executor()
    assert apart.registry_uri == "https://models.example.com"
    assert "dapi-secret" not in repr(context)
    assert context._token is None
    assert context._environ["DATABRICKS_HOST"] == address


def test_executors_of_databricks_reach_models_in_azure(
    monkeypatch: pytest.MonkeyPatch,
    tracking: aml_spark.Tracking,
    azureml_workspace: EmulatorProcess,
    silent_server: int,
) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", f"http://127.0.0.1:{silent_server}")
    monkeypatch.setenv("DATABRICKS_TOKEN", "dapi-secret")
    mlflow.set_tracking_uri("databricks")
    registry = azureml_workspace.facts["tracking_uri"]
    databricks = aml_spark.Workspace.from_uri("databricks")
    context = dataclasses.replace(tracking, workspace=databricks, registry_uri=registry).on_executor()
    for name in ("DATABRICKS_TOKEN", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):  # which executors don't have
        monkeypatch.delenv(name)
    auth.tokens.cache_clear()
    context._set_up()
    assert os.environ["DATABRICKS_TOKEN"] == "dapi-secret"
    mlflow.MlflowClient().create_registered_model("from an executor")


def test_on_executor_wants_the_runs_of_its_own_workspace(tracking: aml_spark.Tracking, tmp_path: Path) -> None:
    with (
        aml_spark.configure(workspace=tmp_path / "inner", autolog=False) as inner,
        pytest.raises(ArgumentError, match=r"MLflow is set to 'sqlite:.*inner.*' now, not to Workspace\(folder="),
    ):
        tracking.on_executor()
    assert tracking.on_executor().workspace == tracking.workspace
    with pytest.raises(ArgumentError, match="before its restore"):
        inner.on_executor()


@pytest.mark.every_kind
@pytest.mark.filterwarnings("default")  # joblib-spark's own, of what Spark and joblib deprecate
def test_jobs_of_joblib_log_children_of_the_drivers_run(
    spark: SparkSession, kind: str, azureml: aml_spark.Tracking
) -> None:
    if kind == "connect":
        pytest.skip("joblib-spark asks for resource profiles, which a Connect server on local[2] doesn't have")
    import joblib
    from joblibspark import register_spark

    register_spark()
    client = mlflow.MlflowClient()
    with mlflow.start_run(run_name="search") as run:
        context = azureml.on_executor()

        def train(depth: int) -> int:
            with context.start_run(f"depth {depth}"):
                mlflow.log_param("depth", depth)
            return depth

        with joblib.parallel_config(backend="spark", n_jobs=2):
            assert joblib.Parallel()(joblib.delayed(train)(depth) for depth in range(4)) == [0, 1, 2, 3]
    children = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
    assert {(child.data.params["depth"], child.info.status) for child in children} == {
        (str(depth), "FINISHED") for depth in range(4)
    }


def test_a_process_that_a_task_starts_logs_a_child_too(azureml: aml_spark.Tracking, tmp_path: Path) -> None:
    # As TorchDistributor does: the function goes through a file to a process that Spark doesn't know.
    from pyspark import cloudpickle

    with mlflow.start_run() as run:
        context = azureml.on_executor()

        def train(rank: int) -> None:
            import mlflow

            with context.start_run(f"rank {rank}"):
                mlflow.log_metric("loss", 0.5)

        (tmp_path / "function").write_bytes(cloudpickle.dumps(train))
        code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))(int(sys.argv[2]))"
        for rank in range(2):
            command = [sys.executable, "-c", code, str(tmp_path / "function"), str(rank)]
            subprocess.run(command, env={"PATH": os.environ["PATH"]}, check=True)
    found = mlflow.MlflowClient().search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    )
    assert {(child.info.run_name, child.info.status) for child in found} == {
        ("rank 0", "FINISHED"),
        ("rank 1", "FINISHED"),
    }
