"""Runs that are mirrored and models that are copied from one store to another."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pytest
from mlflow.entities import Metric
from models import TRAINING, make_sum, register_sum

import aml_spark
from aml_spark.errors import ArgumentError, ModelNotFoundError
from aml_spark.runs import COPY_OF

if TYPE_CHECKING:
    from aml_spark.testing import EmulatorProcess


@pytest.fixture
def azureml(azureml_workspace: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    return azureml_workspace.facts["tracking_uri"]


def _log_some(steps: int = 250) -> mlflow.ActiveRun:
    with mlflow.start_run(run_name="parent", tags={"team": "delays"}) as run:
        mlflow.log_params({"depth": 3, "rate": 0.1})
        metrics = [Metric("loss", 1 / (step + 1), 1_700_000_000_000 + step, step) for step in range(steps)]
        mlflow.MlflowClient().log_batch(run.info.run_id, metrics)
        mlflow.log_metric("gap", float("nan"))
        mlflow.log_text("words", "notes/deep/note.txt")
        mlflow.log_text("more words", "top.txt")
        with mlflow.start_run(nested=True, run_name="child"):
            mlflow.log_metric("auc", 0.7)
    return run


def _copies(client: mlflow.MlflowClient, experiment: str) -> dict[str, Any]:
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    assert len({run.data.tags[COPY_OF] for run in found}) == len(found), "each once"
    return {run.info.run_name: run for run in found}


def test_ended_runs_are_mirrored_once_with_all_that_they_logged(
    tracking: aml_spark.Tracking, azureml: str, tmp_path: Path
) -> None:
    target = mlflow.MlflowClient(azureml, azureml)
    with aml_spark.configure(
        workspace=azureml, experiment="/Users/me/mirrored", autolog=False, mirror=True
    ) as mirrored:
        assert mlflow.get_tracking_uri() == tracking.workspace.tracking_uri
        run = _log_some()
        with mlflow.start_run(run_name="with a model"):
            mlflow.pyfunc.log_model(
                name="summing",
                python_model=make_sum(2.0),
                signature=mlflow.models.infer_signature(TRAINING, np.ones(3)),
                pip_requirements=["mlflow"],
            )
        with pytest.raises(ValueError, match="broken"), mlflow.start_run(run_name="broken"):
            raise ValueError("broken")
        source = mlflow.MlflowClient()
        going = source.create_run(run.info.experiment_id, run_name="still going").info.run_id
        assert len(mirrored.mirror_runs()) == 4
        assert mirrored.mirror_runs() == {}
        assert set(_copies(target, "mirrored")) == {"parent", "child", "with a model", "broken"}
        source.set_terminated(going)
    copies = _copies(target, "mirrored")  # the block's end copied the last one
    assert {name: copy.info.status for name, copy in copies.items()} == {
        "parent": "FINISHED",
        "child": "FINISHED",
        "with a model": "FINISHED",
        "broken": "FAILED",
        "still going": "FINISHED",
    }
    parent, origin = copies["parent"], source.get_run(run.info.run_id)
    assert (parent.info.start_time, parent.info.end_time) == (origin.info.start_time, origin.info.end_time)
    assert (parent.data.params, parent.data.tags["team"]) == ({"depth": "3", "rate": "0.1"}, "delays")
    history = target.get_metric_history(parent.info.run_id, "loss")
    assert sorted((metric.step, metric.value) for metric in history) == [(step, 1 / (step + 1)) for step in range(250)]
    assert np.isnan(parent.data.metrics["gap"])
    assert copies["child"].data.tags["mlflow.parentRunId"] == parent.info.run_id
    down = Path(target.download_artifacts(parent.info.run_id, "", str(tmp_path)))
    assert (down / "notes/deep/note.txt").read_text() == "words"
    assert (down / "top.txt").read_text() == "more words"
    files = {file.path for file in target.list_artifacts(copies["with a model"].info.run_id, "summing")}
    assert "summing/MLmodel" in files


_MIRROR = """
import sys
import aml_spark
with aml_spark.configure(workspace=sys.argv[1], experiment="killed", autolog=False):
    with aml_spark.configure(workspace=sys.argv[2], experiment="killed", autolog=False, mirror=True) as tracking:
        print(len(tracking.mirror_runs()), flush=True)
"""


def test_a_mirror_that_is_killed_goes_on_where_it_stopped(
    azureml: str, azureml_workspace: EmulatorProcess, tmp_path: Path
) -> None:
    with aml_spark.configure(workspace=tmp_path / "mlworkspace", experiment="killed", autolog=False):
        _log_some()
        _log_some(10)
    azureml_workspace.plan(kind="slow", path="dcid|log-batch|/artifacts", times=99, seconds=0.5)
    command = [sys.executable, "-c", _MIRROR, str(tmp_path / "mlworkspace"), azureml]
    started = subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE)
    while not any(path.endswith("/artifacts/batch/metadata") for _, path in azureml_workspace.requests):
        assert started.poll() is None
        time.sleep(0.05)
    started.kill()
    assert started.communicate()[0] == b""
    azureml_workspace.forget()
    client = mlflow.MlflowClient(azureml, azureml)
    (begun,) = client.search_runs([client.get_experiment_by_name("killed").experiment_id])
    assert begun.info.status == "RUNNING"
    again = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=True)
    assert again.stdout == "4\n"
    found = client.search_runs([client.get_experiment_by_name("killed").experiment_id])
    assert len({run.data.tags[COPY_OF] for run in found}) == len(found) == 4
    assert {run.info.status for run in found} == {"FINISHED"}
    assert begun.info.run_id in {run.info.run_id for run in found}
    assert len(client.get_metric_history(begun.info.run_id, "loss")) == 250


def test_a_mirror_that_is_down_loses_nothing_and_says_how_to_go_on(
    tracking: aml_spark.Tracking,
    azureml: str,
    azureml_workspace: EmulatorProcess,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    before = mlflow.get_tracking_uri()
    with aml_spark.configure(workspace=azureml, experiment="down", autolog=False, mirror=True):
        mlflow.start_run()
        mlflow.end_run()
        azureml_workspace.plan(kind="unavailable", path="/mlflow/", times=99)
    assert mlflow.get_tracking_uri() == before
    assert "mirror_runs() goes on with it" in caplog.text


def test_a_workspace_is_no_mirror_of_itself(azureml: str) -> None:
    with aml_spark.configure(workspace=azureml, autolog=False) as tracking:
        with pytest.raises(ArgumentError, match="the workspace itself"):
            aml_spark.configure(workspace=azureml, autolog=False, mirror=True)
        with pytest.raises(ArgumentError, match="no mirror"):
            tracking.mirror_runs()


@pytest.mark.parametrize("way", ["to azureml", "from azureml"])
def test_a_model_is_copied_with_its_files_tags_and_run(azureml: str, tmp_path: Path, way: str) -> None:
    places: list[Any] = [tmp_path / "mlworkspace", azureml]
    source, target = places if way == "to azureml" else reversed(places)
    name = f"copied-{way.replace(' ', '-')}"
    with aml_spark.configure(workspace=source, experiment="training", autolog=False):
        register_sum(name, 3.0, alias="champion")
        client = mlflow.MlflowClient()
        client.set_model_version_tag(name, "1", "checked", "yes")
        client.update_model_version(name, "1", "the first")
        client.log_metric(client.get_model_version(name, "1").run_id, "auc", 0.7)
    copy = aml_spark.copy_model(f"models:/{name}@champion", target, source=source)
    assert (copy.name, copy.version, copy.copied) == (name, "1", True)
    again = aml_spark.copy_model(f"models:/{name}/1", target, source=source)
    assert (again.version, again.run_id, again.copied) == ("1", copy.run_id, False)
    with aml_spark.configure(workspace=target, autolog=False):
        client = mlflow.MlflowClient()
        loaded = mlflow.pyfunc.load_model(f"models:/{name}/1")
        assert np.array_equal(loaded.predict(TRAINING), make_sum(3.0).predict(None, TRAINING))
        assert loaded.metadata.signature is not None
        version = client.get_model_version(name, "1")
        assert (version.description, version.tags["checked"]) == ("the first", "yes")
        assert version.tags["aml_spark.copied_from"].endswith(f"#models:/{name}/1")
        run = client.get_run(copy.run_id)
        assert (run.data.metrics["auc"], run.info.status) == (0.7, "FINISHED")
        with pytest.raises(ModelNotFoundError):
            aml_spark.copy_model(f"models:/{name}/7", source)
    with pytest.raises(ArgumentError, match="onto itself"):
        aml_spark.copy_model(f"models:/{name}/1", source, source=source)
    with pytest.raises(ArgumentError, match="isn't a registered model"):
        aml_spark.copy_model(f"runs:/{copy.run_id}/{version.source.rpartition('/')[2]}", source, source=target)
