"""MLflow's calls against a workspace, with MLflow's own store beside it: the same calls, the same answers."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pytest
import requests
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException, RestException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.tracking.rest_store import RestStore
from models import TRAINING, make_sum, register_sum

import aml_spark
from aml_spark import auth
from aml_spark.testing import EmulatorProcess

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def client(azureml_workspace: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    return _pointed_to(azureml_workspace.facts["tracking_uri"])


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("local")
    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = str(folder / "artifacts")
    mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").create_experiment("first")
    del os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"]
    return f"sqlite:///{folder / 'mlflow.db'}"


@pytest.fixture(params=["azureml", "sqlite"])
def either(
    request: pytest.FixtureRequest,
    local: str,
    azureml_workspace: EmulatorProcess,
    monkeypatch: pytest.MonkeyPatch,
) -> mlflow.MlflowClient:
    if request.param == "azureml":
        return _pointed_to(azureml_workspace.facts["tracking_uri"])
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(Path(local.removeprefix("sqlite:///")).parent / "a"))
    return _pointed_to(local)


def _pointed_to(uri: str) -> mlflow.MlflowClient:
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient()


@pytest.fixture
def run(client: mlflow.MlflowClient) -> Iterator[Any]:
    mlflow.set_experiment("faults")
    with mlflow.start_run() as active:
        yield active


# The same as MLflow's own store


def test_a_run_keeps_params_metrics_tags_and_its_end(either: mlflow.MlflowClient) -> None:
    mlflow.set_experiment("flights")
    with mlflow.start_run(run_name="one", tags={"team": "delays"}) as run:
        mlflow.log_params({"depth": 3, "rate": 0.1})
        for step in range(3):
            mlflow.log_metric("loss", 1.0 / (step + 1), step=step)
        mlflow.log_metrics({"auc": 0.7, "gini": 0.4})
        with mlflow.start_run(nested=True) as child:
            mlflow.log_param("fold", 1)
    seen = either.get_run(run.info.run_id)
    assert (seen.info.status, seen.info.run_name) == ("FINISHED", "one")
    assert seen.data.params == {"depth": "3", "rate": "0.1"}
    assert seen.data.metrics == {"loss": pytest.approx(1 / 3), "auc": 0.7, "gini": 0.4}
    assert seen.data.tags["team"] == "delays"
    assert [metric.step for metric in either.get_metric_history(run.info.run_id, "loss")] == [0, 1, 2]
    assert either.get_run(child.info.run_id).data.tags["mlflow.parentRunId"] == run.info.run_id
    with pytest.raises(ValueError, match="broken"), mlflow.start_run() as failing:
        raise ValueError("broken")
    assert either.get_run(failing.info.run_id).info.status == "FAILED"


def test_runs_and_experiments_are_searched_renamed_tagged_deleted_and_restored(either: mlflow.MlflowClient) -> None:
    experiment = mlflow.set_experiment("searched").experiment_id
    for depth in range(4):
        with mlflow.start_run():
            mlflow.log_param("depth", depth)
            mlflow.log_metric("auc", depth / 10)
    found = mlflow.search_runs([experiment], "metrics.auc > 0.15", output_format="list")
    assert sorted(run.data.params["depth"] for run in found) == ["2", "3"]
    run_id = found[0].info.run_id
    either.set_tag(run_id, "kept", "yes")
    either.delete_tag(run_id, "kept")
    assert "kept" not in either.get_run(run_id).data.tags
    either.delete_run(run_id)
    assert len(either.search_runs([experiment])) == 3
    either.restore_run(run_id)
    assert len(either.search_runs([experiment])) == 4
    page = either.search_runs([experiment], max_results=3)
    assert len(either.search_runs([experiment], page_token=page.token)) == 1
    either.set_experiment_tag(experiment, "team", "delays")
    assert either.get_experiment(experiment).tags["team"] == "delays"
    assert either.get_experiment_by_name("no such") is None


def test_artifacts_come_back_as_they_went(either: mlflow.MlflowClient, tmp_path: Path) -> None:
    names = ["plain.txt", "with space.txt", "ünïcode-日本.txt", "nested/deep/file.bin"]
    if either.tracking_uri.startswith("azureml"):
        names = ["hash#.txt", "percent%41.txt", *names]  # MLflow's own folder store loses these
    folder = tmp_path / "up"
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes([number]) * (number * 1000))
    mlflow.set_experiment("files")
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(folder), "all")
        mlflow.log_text("words", "note.txt")
        mlflow.log_text("other words", "note.txt")
        mlflow.log_dict({"a": 1}, "all/nested/d.json")
    run_id = run.info.run_id
    assert [(file.path, file.is_dir) for file in either.list_artifacts(run_id)] == [("all", True), ("note.txt", False)]
    below = {file.path.removeprefix("all/"): file.is_dir for file in either.list_artifacts(run_id, "all")}
    assert below == dict.fromkeys(names[:-1], False) | {"nested": True}
    assert either.list_artifacts(run_id, "note.txt") == []
    down = Path(either.download_artifacts(run_id, "all", str(tmp_path)))
    for name in names:
        assert (down / name).read_bytes() == (folder / name).read_bytes()
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/note.txt") == "other words"
    assert mlflow.artifacts.load_dict(f"runs:/{run_id}/all/nested/d.json") == {"a": 1}
    with pytest.raises(MlflowException):
        mlflow.artifacts.load_text(f"runs:/{run_id}/no such file.txt")


def test_a_model_is_logged_registered_aliased_and_loaded_by_each_address(either: mlflow.MlflowClient) -> None:
    mlflow.set_experiment("models")
    expected = make_sum(2.0).predict(None, TRAINING)
    with mlflow.start_run() as run:
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=make_sum(2.0),
            signature=mlflow.models.infer_signature(TRAINING, expected),
            input_example=TRAINING.head(2),
            registered_model_name="summed",
            pip_requirements=["mlflow"],
        )
    second = mlflow.register_model(info.model_uri, "summed", tags={"stage": "trial"})
    assert (second.name, str(second.version), second.run_id) == ("summed", "2", run.info.run_id)
    third = mlflow.register_model(f"runs:/{run.info.run_id}/model", "summed")
    assert str(third.version) == "3"
    either.set_registered_model_alias("summed", "champion", "2")
    assert str(either.get_model_version_by_alias("summed", "champion").version) == "2"
    for address in (
        info.model_uri,
        f"runs:/{run.info.run_id}/model",
        "models:/summed/1",
        "models:/summed/3",
        "models:/summed@champion",
        "models:/summed/latest",
    ):
        assert np.array_equal(mlflow.pyfunc.load_model(address).predict(TRAINING), expected), address
    either.update_model_version("summed", "2", "the second")
    either.set_model_version_tag("summed", "2", "checked", "yes")
    seen = either.get_model_version("summed", "2")
    assert (seen.description, seen.tags["checked"], seen.tags["stage"]) == ("the second", "yes", "trial")
    assert {str(found.version) for found in either.search_model_versions("name = 'summed'")} == {"1", "2", "3"}
    either.delete_model_version("summed", "3")
    with pytest.raises(RestException if either.tracking_uri.startswith("azureml") else MlflowException):
        either.get_model_version("summed", "3")


@pytest.mark.parametrize("name", ["again", "m-again"])
def test_a_version_is_registered_again_by_each_address_with_its_run(client: mlflow.MlflowClient, name: str) -> None:
    mlflow.set_experiment("models")
    with mlflow.start_run() as run:
        mlflow.log_text("flavors: {}", "model/MLmodel")
    client.create_registered_model(name)
    client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
    client.set_registered_model_alias(name, "champion", "1")
    for number, address in enumerate((f"models:/{name}/1", f"models:/{name}@champion", f"models:/{name}/latest"), 1):
        version = mlflow.register_model(address, f"{name} copied")
        assert (str(version.version), version.run_id) == (str(number), run.info.run_id), address
        assert mlflow.artifacts.load_text(f"models:/{name} copied/{number}/MLmodel") == "flavors: {}"
    assert len(client.search_model_versions(f"run_id = '{run.info.run_id}'")) == 4


def test_a_batch_with_a_value_that_is_refused_leaves_nothing(either: mlflow.MlflowClient) -> None:
    run_id = either.create_run(mlflow.set_experiment("batches").experiment_id).info.run_id
    metrics = [Metric("fine", float(step), step, step) for step in range(499)]
    with pytest.raises(MlflowException, match=r"metrics\[499\]"):
        either.log_batch(run_id, [*metrics, Metric("bad\nname", 1.0, 1, 1)])
    assert either.get_metric_history(run_id, "fine") == []


@pytest.mark.parametrize("name", [None, ""])
def test_an_experiment_has_a_name(either: mlflow.MlflowClient, name: Any) -> None:
    with pytest.raises(MlflowException, match=r"(?i)name"):
        either.create_experiment(name)
    assert either.get_experiment_by_name("/") is None


def test_a_model_that_is_logged_outside_of_a_run_is_loaded_by_its_address(either: mlflow.MlflowClient) -> None:
    mlflow.set_experiment("runless")
    expected = make_sum(4.0).predict(None, TRAINING)
    signature = mlflow.models.infer_signature(TRAINING, expected)
    info = mlflow.pyfunc.log_model(
        name="alone", python_model=make_sum(4.0), signature=signature, pip_requirements=["mlflow"]
    )
    assert mlflow.active_run() is None
    assert np.array_equal(mlflow.pyfunc.load_model(info.model_uri).predict(TRAINING), expected)


def test_metrics_before_and_after_a_model_are_the_runs_and_there_once(either: mlflow.MlflowClient) -> None:
    mlflow.set_experiment("models")
    with mlflow.start_run() as run:
        mlflow.log_metric("before", 0.5, step=0)
        mlflow.log_metrics({"nan": float("nan")}, step=0)
        mlflow.pyfunc.log_model(
            name="model",
            python_model=make_sum(2.0),
            signature=mlflow.models.infer_signature(TRAINING, np.ones(3)),
            pip_requirements=["mlflow"],
        )
        mlflow.log_metric("after", 0.7, step=0)
        mlflow.log_metrics({"later": 0.8}, step=0)
    for key, value in (("before", 0.5), ("after", 0.7), ("later", 0.8)):
        history = either.get_metric_history(run.info.run_id, key)
        assert {metric.value for metric in history} == {value}
        if either.tracking_uri.startswith("azureml"):  # MLflow's own store keeps one more for the model
            assert len(history) == 1


def test_batches_of_any_size_arrive_whole(either: mlflow.MlflowClient) -> None:
    experiment = mlflow.set_experiment("batches").experiment_id
    run_id = either.create_run(experiment).info.run_id
    metrics = [Metric("loss", float(step), 1_700_000_000_000 + step, step) for step in range(900)]
    params = [Param(f"p{number}", str(number)) for number in range(90)]
    either.log_batch(run_id, metrics, params, [RunTag("t", "1")])
    history = either.get_metric_history(run_id, "loss")
    assert sorted((metric.step, metric.value) for metric in history) == [(step, float(step)) for step in range(900)]
    assert len(either.get_run(run_id).data.params) == 90


# The workspace's own ways


def test_threads_that_log_models_send_no_metric_twice(
    client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.set_experiment("models")
    sent, log, met = Counter[str](), RestStore.log_batch, threading.Barrier(3)

    def counted(store: RestStore, run_id: str, metrics: Any, *others: Any) -> None:
        sent.update([run_id] * len(metrics))
        log(store, run_id, metrics, *others)

    def work() -> None:
        run = client.create_run(mlflow.set_experiment("models").experiment_id).info.run_id
        client.log_batch(run, [Metric("loss", 0.5, 1, 0)])
        client.get_metric_history(run, "loss")  # as log_model reads them, to log them as the model's
        met.wait(60)
        client.log_batch(run, [Metric("loss", 0.5, 1, 0, model_id="m-1")])

    monkeypatch.setattr(RestStore, "log_batch", counted)
    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(work) for _ in range(3)]:
            done.result()
    assert list(sent.values()) == [1, 1, 1]


@pytest.mark.parametrize(
    ("call", "lacking"),
    [
        (lambda client: client.set_trace_tag("tr-1", "a", "b"), "no traces"),
        (lambda client: client.delete_traces("1", max_timestamp_millis=1), "no traces"),
        (lambda client: mlflow.log_feedback(trace_id="tr-1", name="good", value=True), "no traces"),
        (lambda client: client.delete_logged_model("m-1"), "no logged models"),
        (lambda client: mlflow.genai.create_dataset("rows"), "no datasets"),
    ],
)
def test_what_a_workspace_lacks_is_named(client: mlflow.MlflowClient, call: Any, lacking: str) -> None:
    with pytest.raises(MlflowException, match=f"the workspace has {lacking}") as told:
        call(client)
    assert "resource group" not in str(told.value)


def test_a_prompt_is_refused_and_leaves_nothing(client: mlflow.MlflowClient) -> None:
    with pytest.raises(MlflowException, match="the prompt 'greeting' can't be registered"):
        mlflow.genai.register_prompt(name="greeting", template="hi {{name}}")
    assert client.search_registered_models("name = 'greeting'") == []


def test_a_path_that_means_somebody_elses_experiment_is_told(
    client: mlflow.MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    first = mlflow.set_experiment("/Users/anna/churn")
    with caplog.at_level("INFO", "aml_spark"):
        assert mlflow.set_experiment("/Users/anna/churn/").experiment_id == first.experiment_id
        assert "was made as" not in caplog.text
        assert mlflow.set_experiment("/Users/bert/churn").experiment_id == first.experiment_id
    assert "'churn' was made as '/Users/anna/churn', and is that of '/Users/bert/churn', too" in caplog.text


def test_files_that_cant_be_deleted_are_not_said_to_be(run: Any) -> None:
    mlflow.log_text("kept", "a/b.txt")
    with pytest.raises(
        MlflowException, match=r"'a/b.txt' can't be deleted: Azure Machine Learning has no call for that"
    ):
        get_artifact_repository(run.info.artifact_uri).delete_artifacts("a/b.txt")
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/a/b.txt") == "kept"


def test_more_params_than_the_workspace_takes_are_refused_in_its_own_words(client: mlflow.MlflowClient) -> None:
    run_id = client.create_run(mlflow.set_experiment("limits").experiment_id).info.run_id
    client.log_batch(run_id, params=[Param(f"p{number}", "1") for number in range(100)])
    client.log_batch(run_id, params=[Param(f"q{number}", "1") for number in range(100)])
    with pytest.raises(MlflowException, match=r"FieldName=Parameters, Limit=200, Size=201.*HTTP 400, request \w+"):
        client.log_param(run_id, "one too many", 1)


def test_autologging_logs_the_metrics_and_the_model(
    azureml_workspace: EmulatorProcess, client: mlflow.MlflowClient
) -> None:
    from sklearn.linear_model import LinearRegression

    with (
        aml_spark.configure(workspace=azureml_workspace.facts["tracking_uri"], experiment="autologged"),
        mlflow.start_run() as run,
    ):
        LinearRegression().fit(TRAINING, TRAINING["x"])
        seen = client.get_run(run.info.run_id)
        assert seen.data.metrics["training_r2_score"] == pytest.approx(1.0)
        assert seen.data.params["fit_intercept"] == "True"
        loaded = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
        assert np.allclose(loaded.predict(TRAINING), TRAINING["x"])


def test_configuring_costs_two_requests_at_most(
    azureml_workspace: EmulatorProcess, client: mlflow.MlflowClient
) -> None:
    client.create_experiment("known")
    for experiment in ("known", "brand new"):
        azureml_workspace.forget()
        with aml_spark.configure(workspace=client.tracking_uri, experiment=experiment):
            asked = [path for _, path in azureml_workspace.requests if path.startswith("/mlflow/")]
            assert len(asked) <= 2, asked
            assert client.get_experiment(mlflow.start_run().info.experiment_id).name == experiment
            mlflow.end_run()


@pytest.mark.parametrize("way", ["a folder", "a local run", "a local model", "another workspace"])
@pytest.mark.parametrize("registry", ["workspace", "registry"])
def test_files_that_lie_elsewhere_are_uploaded_when_they_are_registered(
    azureml_workspace: EmulatorProcess, client: mlflow.MlflowClient, tmp_path: Path, way: str, registry: str
) -> None:
    facts = azureml_workspace.facts
    address = facts["tracking_uri"] if registry == "workspace" else facts["registry_uri"]
    name = f"{way} to a {registry}".replace(" ", "-")
    expected = make_sum(5.0).predict(None, TRAINING)
    signature = mlflow.models.infer_signature(TRAINING, expected)
    model = {"python_model": make_sum(5.0), "signature": signature, "pip_requirements": ["mlflow"]}
    runs = facts["tracking_uri"] if way == "another workspace" and registry == "registry" else tmp_path / "runs"
    with aml_spark.configure(workspace=runs, registry=address, experiment="elsewhere", autolog=False):
        with mlflow.start_run() as run:
            info = mlflow.pyfunc.log_model(name="model", **model)
        if way == "a folder":
            mlflow.pyfunc.save_model(str(tmp_path / "saved"), **model)
            source = (tmp_path / "saved").as_uri()
        else:
            source = info.model_uri if way == "a local model" else f"runs:/{run.info.run_id}/model"
        mlflow.register_model(source, name)
        loaded = mlflow.pyfunc.load_model(f"models:/{name}/1")
        assert np.array_equal(loaded.predict(TRAINING), expected)
        version = mlflow.MlflowClient().get_model_version(name, "1")
        assert version.source.startswith("azureml://artifacts/LocalUpload/" if registry == "workspace" else "https://")
        if way != "a folder":
            assert version.tags["aml_spark.run_id"] == run.info.run_id
        again = mlflow.MlflowClient().copy_model_version(f"models:/{name}/1", f"{name}-copy")
        assert np.array_equal(
            mlflow.pyfunc.load_model(f"models:/{name}-copy/{again.version}").predict(TRAINING), expected
        )


def test_a_workspaces_files_are_read_where_a_registry_is_set_beside_it(
    azureml_workspace: EmulatorProcess, client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    mlflow.pyfunc.save_model(str(tmp_path / "saved"), python_model=make_sum(5.0), pip_requirements=["mlflow"])
    source = mlflow.register_model((tmp_path / "saved").as_uri(), "beside-a-registry").source
    repository = get_artifact_repository(source, registry_uri=azureml_workspace.facts["registry_uri"])
    assert "MLmodel" in {file.path for file in repository.list_artifacts()}


@pytest.mark.parametrize("registry", ["tracking_uri", "registry_uri"])
def test_what_is_no_model_isnt_registered(
    azureml_workspace: EmulatorProcess, client: mlflow.MlflowClient, tmp_path: Path, registry: str
) -> None:
    mlflow.set_registry_uri(azureml_workspace.facts[registry])
    client = mlflow.MlflowClient()
    client.create_registered_model("nothing")
    for source in (str(tmp_path / "typo"), tmp_path.as_uri()):
        with pytest.raises(MlflowException, match="isn't a model: expected a folder with an MLmodel file in it"):
            client.create_model_version("nothing", source)
    assert client.search_model_versions("name = 'nothing'") == []


def test_uploads_for_the_same_next_version_stay_apart(
    azureml_workspace: EmulatorProcess, client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    mlflow.set_registry_uri(azureml_workspace.facts["registry_uri"])
    client = mlflow.MlflowClient()
    client.create_registered_model("apart")
    for name in ("first", "second"):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model" / "MLmodel").write_text("flavors: {}")
        (tmp_path / name / "model" / name).write_text(name)
    azureml_workspace.plan(kind="forbidden", path="model-versions/create")
    with pytest.raises(MlflowException, match="HTTP 403"):
        client.create_model_version("apart", (tmp_path / "first" / "model").as_uri())
    client.create_model_version("apart", (tmp_path / "second" / "model").as_uri())
    found = Path(mlflow.artifacts.download_artifacts("models:/apart/1"))
    assert {file.name for file in found.iterdir()} >= {"MLmodel", "second"}
    assert not (found / "first").exists()


def test_a_run_address_as_source_keeps_its_run(client: mlflow.MlflowClient) -> None:
    run = client.create_run(mlflow.set_experiment("sources").experiment_id)
    client.create_registered_model("of a run")
    version = client.create_model_version("of a run", f"runs:/{run.info.run_id}/model")
    assert (version.run_id, version.source) == (run.info.run_id, f"{run.info.artifact_uri}/model")


def test_a_registry_that_isnt_there_and_a_break_while_it_is_used(
    azureml_workspace: EmulatorProcess, client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    registry = azureml_workspace.facts["registry_uri"]
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "MLmodel").write_text("flavors: {}")
    source = (tmp_path / "saved").as_uri()
    mlflow.set_registry_uri(registry)
    shared = mlflow.MlflowClient()
    for kind in ("throttle", "unavailable", "drop", "drop-after", "unauthorized"):
        name = f"broken-{kind}"
        for path in ("registered-models/create", "tempdatarefs", "MLmodel", "model-versions/create"):
            azureml_workspace.plan(kind="drop" if path == "MLmodel" else kind, path=path)
        shared.create_registered_model(name)
        shared.create_model_version(name, source)
        azureml_workspace.plan(kind=kind, path="datarefs")
        found = mlflow.artifacts.download_artifacts(f"models:/{name}/1")
        assert Path(found, "MLmodel").read_text() == "flavors: {}"
        assert len(shared.search_model_versions(f"name = '{name}'")) == 1
    absent = mlflow.MlflowClient(client.tracking_uri, f"{registry}-absent")
    with pytest.raises(MlflowException, match="HTTP 404"):
        absent.create_registered_model("nowhere")
    with pytest.raises(MlflowException, match=r"Registry 'shared-absent' was not found.*request \w+"):
        absent.create_model_version("nowhere", source)


def test_a_deleted_experiment_is_named_before_any_work(client: mlflow.MlflowClient) -> None:
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(aml_spark.WorkspaceError, match=r"deleted experiment 'gone'.*restore"):
        aml_spark.configure(workspace=client.tracking_uri, experiment="gone", autolog=False)


# Faults


@pytest.mark.parametrize("failure", ["throttle", "unavailable", "drop", "drop-after", "unauthorized"])
def test_what_fails_once_is_neither_lost_nor_doubled(
    azureml_workspace: EmulatorProcess, client: mlflow.MlflowClient, tmp_path: Path, failure: str
) -> None:
    name = f"faulty-{failure}"

    def faulty(path: str) -> None:
        azureml_workspace.plan(kind=failure, path=path)

    faulty("experiments/create")
    experiment = client.create_experiment(name)
    faulty("runs/create")
    run_id = client.create_run(experiment).info.run_id
    assert [run.info.run_id for run in client.search_runs([experiment])] == [run_id]
    faulty("runs/log-metric")
    client.log_metric(run_id, "loss", 0.5, timestamp=1, step=1)
    faulty("runs/log-parameter")
    client.log_param(run_id, "depth", 3)
    faulty("runs/log-batch")
    client.log_batch(run_id, [Metric("loss", 0.4, 2, 2)])
    assert [metric.value for metric in client.get_metric_history(run_id, "loss")] == [0.5, 0.4]
    (tmp_path / "file.txt").write_text("words")
    faulty("/artifacts/batch/metadata")
    client.log_artifact(run_id, str(tmp_path / "file.txt"))
    faulty("/contentinfo")
    assert Path(client.download_artifacts(run_id, "file.txt")).read_text() == "words"
    faulty("registered-models/create")
    client.create_registered_model(name)
    faulty("model-versions/create")
    client.create_model_version(name, f"{client.get_run(run_id).info.artifact_uri}/model", run_id)
    assert len(client.search_model_versions(f"name = '{name}'")) == 1
    faulty("runs/update")
    client.set_terminated(run_id)
    assert client.get_run(run_id).info.status == "FINISHED"


def test_a_creation_that_is_somebody_elses_is_not_taken_for_ours(
    azureml_workspace: EmulatorProcess, client: mlflow.MlflowClient
) -> None:
    client.create_registered_model("taken")
    azureml_workspace.plan(kind="drop", path="registered-models/create")
    with pytest.raises(MlflowException, match="already exists"):
        client.create_registered_model("taken")


def test_a_workspace_that_never_answers_is_named(
    azureml_workspace: EmulatorProcess, client: mlflow.MlflowClient
) -> None:
    azureml_workspace.plan(kind="unavailable", path="experiments/get-by-name", times=99)
    with pytest.raises(RestException, match=r"a planned failure \(HTTP 503, request planned\)"):
        client.get_experiment_by_name("flights")


# From Spark


def test_a_configured_session_tracks_registers_and_scores_with_the_workspace(
    spark: SparkSession, azureml_workspace: EmulatorProcess, client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    source, target = str(tmp_path / "source"), str(tmp_path / "target")
    spark.range(50).selectExpr("id", "double(id) x", "double(id % 7) y").coalesce(1).write.format("delta").save(source)
    with aml_spark.configure(
        spark, azureml_workspace.facts["tracking_uri"], "/Users/somebody@example.com/delays", autolog=False
    ):
        register_sum("scored", 3.0, alias="champion")
        result = aml_spark.score(spark, model="models:/scored@champion", source=source, target=target)
        with pytest.raises(aml_spark.ModelNotFoundError, match=r"(?s)no registered model 'scorde'.*'scored'"):
            aml_spark.spark_udf(spark, "models:/scorde/1")
    assert (result.rows, result.model_version) == (50, "1")
    assert spark.read.format("delta").load(target).where("prediction = x + y + 3").count() == 50
    experiment = client.get_experiment_by_name("delays")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags["spark.version"] == spark.version


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("AZURE_CLIENT_SECRET", "wrong", "AADSTS7000215: Invalid client secret"),
        ("AZURE_TENANT_ID", "11111111-2222-3333-4444-555555555555", "double check your tenant"),
        ("MLFLOW_TRACKING_TOKEN", "nonsense", "The token's signature is not valid"),
        ("REQUESTS_CA_BUNDLE", "", "certificate"),
    ],
)
def test_who_is_refused_reads_why(
    azureml_workspace: EmulatorProcess,
    client: mlflow.MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    told: str,
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")  # the others would look for Azure in vain
    with pytest.raises(aml_spark.AmlSparkError) as raised:
        aml_spark.configure(workspace=azureml_workspace.facts["tracking_uri"], experiment="flights", autolog=False)
    assert told in str(raised.value)
    assert azureml_workspace.facts["client_secret"] not in str(raised.value)


def _with_azureml_mlflow(emulator: EmulatorProcess, script: str, **environ: str) -> Any:
    """Run a script in the environment of Microsoft's own plugin, under Azure's host names; what it prints last."""
    root = Path(__file__).parent.parent
    python = root / ".venv-official" / "bin" / "python"
    assert python.exists(), "make .venv-official/ready"
    paths = {name: emulator.facts[name].partition("/mlflow/")[2] for name in ("tracking_uri", "registry_uri")}
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AZURE_AUTHORITY"))}
    env |= {
        "MLFLOW_TRACKING_URI": f"azureml://westeurope.api.azureml.ms/mlflow/{paths['tracking_uri']}",
        "REGISTRY_URI": f"azureml://westeurope.api.azureml.ms/mlflow/{paths['registry_uri']}",
        "HTTPS_PROXY": emulator.facts["proxy_url"],
        "AZUREML_CURRENT_CLOUD": "AzureCloud",
        **environ,
    }
    command = [python, root / "tests" / "workers" / script]
    # Where an upload fails, that client waits for it for ever.
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("proof", ["secret", "certificate", "workload", "managed", "secret scope"])
def test_a_token_comes_by_each_way_that_azure_knows(
    azureml_workspace: EmulatorProcess, client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, proof: str
) -> None:
    facts = azureml_workspace.facts
    ways = {
        "secret": {"AZURE_CLIENT_SECRET": facts["client_secret"]},
        "certificate": {"AZURE_CLIENT_CERTIFICATE_PATH": facts["client_certificate"]},
        "workload": {"AZURE_FEDERATED_TOKEN_FILE": facts["federated_token_file"]},
        "managed": {"IDENTITY_ENDPOINT": facts["identity_endpoint"], "IDENTITY_HEADER": facts["identity_header"]},
        "secret scope": {"AML_SPARK_SECRET_SCOPE": "azure"},
    }
    monkeypatch.delenv("AZURE_CLIENT_SECRET")
    if proof in ("managed", "secret scope"):
        monkeypatch.delenv("AZURE_CLIENT_ID")
    for name, value in ways[proof].items():
        monkeypatch.setenv(name, value)
    # What Databricks gives notebooks and jobs, with the secrets of one scope.
    secrets = {f"azure/{name.replace('_', '-')}": facts[name] for name in ("tenant_id", "client_id", "client_secret")}
    given = SimpleNamespace(secrets=SimpleNamespace(get=lambda scope, key: secrets[f"{scope}/{key}"]))
    monkeypatch.setitem(sys.modules, "databricks.sdk.runtime", SimpleNamespace(dbutils=given))
    auth.tokens.cache_clear()
    assert client.search_experiments(max_results=1)
    asked = {path for _, path in azureml_workspace.requests}
    assert ("/msi/token" in asked) == (proof == "managed")


def test_who_has_no_right_reads_the_workspaces_words(
    azureml_workspace: EmulatorProcess, client: mlflow.MlflowClient
) -> None:
    azureml_workspace.plan(kind="forbidden", path="experiments/get-by-name")
    with pytest.raises(aml_spark.WorkspaceError, match=r"a planned failure \(HTTP 403, request planned\)"):
        aml_spark.configure(workspace=client.tracking_uri, experiment="flights", autolog=False)


def test_a_clock_that_is_off_is_named_where_tokens_are_refused(
    azureml_workspace: EmulatorProcess, client: mlflow.MlflowClient
) -> None:
    azureml_workspace.plan(kind="unauthorized", path="experiments/get-by-name", times=2, seconds=-600)
    with pytest.raises(RestException, match=r"HTTP 401, .*this machine's clock is 10 minutes ahead of the service's"):
        client.get_experiment_by_name("flights")


def test_a_token_for_another_audience_is_named(
    azureml_workspace: EmulatorProcess, client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = azureml_workspace.facts
    asked = {"grant_type": "client_credentials", "scope": "https://storage.azure.com/.default"}
    asked |= {"client_id": facts["client_id"], "client_secret": facts["client_secret"]}
    token = requests.post(facts["token_url"], asked, verify=facts["authority_file"], timeout=60).json()["access_token"]
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
    with pytest.raises(aml_spark.WorkspaceError, match=r"audience 'https://storage.azure.com'.*HTTP 401") as raised:
        aml_spark.configure(workspace=client.tracking_uri, experiment="flights", autolog=False)
    assert token not in "".join(traceback.format_exception(raised.value))


def test_a_workspace_that_is_not_there_or_not_reached_is_named(
    azureml_workspace: EmulatorProcess, client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    here = aml_spark.Workspace.from_uri(client.tracking_uri)
    ids = {"subscription_id": here.subscription_id, "resource_group": here.resource_group}
    absent = aml_spark.Workspace(**ids, name="absent", host=here.host)
    with pytest.raises(aml_spark.WorkspaceError, match=r"'absent' can't be used: .*HTTP 404"):
        aml_spark.configure(workspace=absent, experiment="flights", autolog=False)
    for name in ("HTTPS_PROXY", "https_proxy"):  # the emulator's, which knows no host but Azure's
        monkeypatch.delenv(name)
    private = aml_spark.Workspace(**ids, name="private", host="private.invalid")
    with pytest.raises(aml_spark.WorkspaceError, match=r"doesn't resolve here; with a private endpoint, from inside"):
        aml_spark.configure(workspace=private, experiment="flights", autolog=False)


def test_a_host_that_nobody_chose_gets_no_token(client: mlflow.MlflowClient) -> None:
    elsewhere = client.tracking_uri.replace("127.0.0.1", "elsewhere.invalid")
    with pytest.raises(aml_spark.WorkspaceError, match="isn't one of Azure ML's"):
        mlflow.artifacts.load_text(f"{elsewhere}/experiments/1/runs/2/artifacts/note.txt")


def test_microsofts_own_client_finds_what_it_needs_under_azures_host_names(
    azureml_workspace: EmulatorProcess, client: mlflow.MlflowClient
) -> None:
    told = _with_azureml_mlflow(azureml_workspace, "official_client.py")
    assert told["status"] == "FINISHED"
    assert told["params"] == {"depth": "3"}
    assert told["metrics"] == {"auc": 0.7, "loss": 0.4}
    assert told["host"] == "westeurope.api.azureml.ms"
    assert (told["version"], told["same"]) == ("1", True)
    assert "logged-models/search failed with error code 404" in told["listing"]  # as on the real workspace
    assert [file.path for file in client.list_artifacts(told["run_id"], "model")] == ["model/MLmodel", "model/data"]
    assert told["same_from_registry"]
    assert told["source"].startswith("https://amlsparkemulator.blob.core.windows.net/shared-")
    ours = mlflow.artifacts.download_artifacts(
        "models:/official/1", registry_uri=azureml_workspace.facts["registry_uri"]
    )
    assert Path(ours, "MLmodel").read_text() == "flavors: {}\n"


@pytest.fixture(scope="module")
def on_azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    folder = Path(__file__).parent.parent / ".azurite" / "node_modules" / ".bin"
    if not (folder / "azurite-blob").exists():
        pytest.skip("Azurite isn't here: it takes npm and make .azurite/ready")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.pathsep.join([str(folder), os.environ["PATH"]]))
        with EmulatorProcess(tmp_path_factory.mktemp("azurite")) as emulator:
            yield emulator


def test_artifacts_lie_on_azurite_where_it_is_there(
    on_azurite: EmulatorProcess, client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in on_azurite.environment.items():
        monkeypatch.setenv(name, value)
    auth.tokens.cache_clear()
    contents = {"with space.txt": b"1", "hash#.txt": b"2", "percent%41.txt": b"3", "ünï.txt": b"4", "nested/d": b"5"}
    contents |= {"empty": b"", "large": os.urandom(33 * 2**20 + 1)}
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with aml_spark.configure(workspace=on_azurite.facts["tracking_uri"], experiment="azurite", autolog=False):
        with mlflow.start_run() as run:
            mlflow.log_artifacts(str(tmp_path), "all")
        address = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="all")
        assert {name: Path(address, name).read_bytes() for name in contents} == contents
    assert not (on_azurite.folder / "blobs").exists()
    told = _with_azureml_mlflow(on_azurite, "official_client.py")  # by Azure's host names, through the proxy
    assert (told["status"], told["same"], told["same_from_registry"]) == ("FINISHED", True, True)


def test_beside_azureml_mlflow_this_library_answers_once_configured(
    azureml_workspace: EmulatorProcess, client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    metadata = importlib.metadata.distribution("aml-spark")._path  # type: ignore[attr-defined]
    (tmp_path / metadata.name).symlink_to(metadata.absolute())
    (tmp_path / "aml_spark").symlink_to(Path(aml_spark.__file__).parent)
    told = _with_azureml_mlflow(azureml_workspace, "both_plugins.py", PYTHONPATH=str(tmp_path))
    assert set(told["before"]) == {"azureml"}
    assert told["doctor"][0] is False
    assert told["doctor"][1].endswith("are installed; azureml-mlflow answers, and aml-spark after configure()")
    assert set(told["configured"]) == {"aml_spark"}
    assert (told["files"], told["version"], told["loaded"]) == (["model/MLmodel"], "1", "flavors: {}")
    assert told["restored"] == told["before"]


def test_the_proxy_lets_nothing_out(azureml_workspace: EmulatorProcess) -> None:
    with pytest.raises(requests.exceptions.ProxyError, match="403 Forbidden"):
        requests.get("https://example.com", proxies={"https": azureml_workspace.facts["proxy_url"]}, timeout=10)
