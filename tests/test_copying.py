"""Runs that are mirrored and models that are copied from one store to another."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pytest
from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.entities.paged_list import PagedList
from models import TRAINING, make_sum, register_sum
from processes import free_port
from unity_catalog import unity_catalog

import aml_spark
from aml_spark import auth, model as models
from aml_spark.errors import ArgumentError, ModelError, ModelNotFoundError
from aml_spark.runs import RunCopier
from aml_spark.tags import COPY_OF
from aml_spark.tracking import experiment_name

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
            _log_sum(2.0, "summing")
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


_COPY = """
import sys
import aml_spark
copy = aml_spark.copy_model("models:/raced/1", sys.argv[2], source=sys.argv[1])
print(copy.version, copy.run_id, copy.copied)
"""


def test_two_processes_that_copy_a_version_at_once_make_one(
    azureml: str, azureml_workspace: EmulatorProcess, tmp_path: Path
) -> None:
    place = str(tmp_path / "mlworkspace")
    with aml_spark.configure(workspace=place, experiment="raced", autolog=False):
        register_sum("raced")
    azureml_workspace.plan(kind="slow", path="model-versions/create", times=2, seconds=5)  # after both have looked
    command = [sys.executable, "-c", _COPY, place, azureml]
    both = [subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=120)[0].split() for process in both]
    client = mlflow.MlflowClient(azureml, azureml)
    (version,) = client.search_model_versions("name = 'raced'")
    assert {(number, run_id) for number, run_id, _ in told} == {(str(version.version), version.run_id)}
    assert sorted(copied for *_, copied in told) == ["False", "True"]
    assert client.get_run(version.run_id).info.lifecycle_stage == "active"


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


def test_a_mirror_copies_its_own_runs_whatever_mlflow_is_set_to_now(azureml: str, tmp_path: Path) -> None:
    target = mlflow.MlflowClient(azureml, azureml)
    places = [tmp_path / "outer", tmp_path / "inner"]
    with aml_spark.configure(workspace=places[0], autolog=False):
        outer = aml_spark.configure(workspace=azureml, experiment="outer", autolog=False, mirror=True)
        with mlflow.start_run(run_name="of the outer"):
            pass
        aml_spark.configure(workspace=places[1], autolog=False)
        aml_spark.configure(workspace=azureml, experiment="inner", autolog=False, mirror=True)
        with mlflow.start_run(run_name="of the inner"):
            pass
        mlflow.set_experiment("another")
        with mlflow.start_run(run_name="of another"):
            pass
        aml_spark.configure(workspace=azureml, experiment="direct", autolog=False)
        with mlflow.start_run(run_name="direct"):
            pass
        assert set(outer.mirror_runs().values()) == {_copies(target, "outer")["of the outer"].info.run_id}
        assert mlflow.get_tracking_uri() == azureml
        outer.restore()  # and with it the inner ones
        assert mlflow.get_tracking_uri() == aml_spark.Workspace.local(places[0]).tracking_uri
    assert set(_copies(target, "outer")) == {"of the outer"}
    assert set(_copies(target, "inner")) == {"of the inner"}
    assert target.get_experiment_by_name("another") is None
    assert outer.mirror_runs() == {}


def test_a_run_that_cant_be_copied_holds_up_no_other(
    tracking: aml_spark.Tracking, azureml: str, caplog: pytest.LogCaptureFixture
) -> None:
    target = mlflow.MlflowClient(azureml, azureml)
    with aml_spark.configure(workspace=azureml, experiment="held", autolog=False, mirror=True) as mirrored:
        with mlflow.start_run(run_name="too much") as bad:
            for start in (0, 100, 200):
                mlflow.log_params({f"p{number}": 1 for number in range(start, start + 100)})
        with mlflow.start_run(run_name="good", tags={"mlflow.parentRunId": "0" * 32}):  # a parent that is gone
            pass
        with mlflow.start_run(run_name="without its files") as lost:
            mlflow.log_text("words", "note.txt")
        folder = Path(lost.info.artifact_uri or "")
        (folder / "note.txt").unlink()
        (folder / "note.txt").symlink_to("/nowhere")
        with pytest.raises(aml_spark.WorkspaceError) as raised:
            mirrored.mirror_runs()
    told = str(raised.value)
    assert "not copied to 'emulated': 2 of 3 runs: 'too much'" in told
    assert f"({bad.info.run_id}): INVALID_PARAMETER_VALUE: A field of the entity is over the size limit" in told
    good = _copies(target, "held")["good"]
    assert good.info.status == "FINISHED"
    assert "mlflow.parentRunId" not in good.data.tags
    assert "not copied to 'emulated': 2 of 2 runs" in caplog.text  # at the block's end, the good one being copied


def test_a_copy_that_was_begun_gets_what_was_set_since(tracking: aml_spark.Tracking, azureml: str) -> None:
    target = mlflow.MlflowClient(azureml, azureml)
    with (
        aml_spark.configure(workspace=azureml, experiment="begun", autolog=False, mirror=True) as mirrored,
        mlflow.start_run(run_name="first name", tags={"state": "early"}) as parent,
    ):
        with mlflow.start_run(nested=True, run_name="child"):
            pass
        mirrored.mirror_runs()
        assert _copies(target, "begun")["first name"].info.status == "RUNNING"
        mlflow.set_tags({"state": "late", "more": "yes"})
        mlflow.MlflowClient().update_run(parent.info.run_id, name="last name")
    copy = _copies(target, "begun")["last name"]
    assert (copy.info.status, copy.data.tags["state"], copy.data.tags["more"]) == ("FINISHED", "late", "yes")
    assert len(_copies(target, "begun")) == 2


def test_models_of_one_name_stay_apart_and_the_newest_has_it(
    tracking: aml_spark.Tracking, azureml: str, tmp_path: Path
) -> None:
    with aml_spark.configure(workspace=azureml, experiment="twice", autolog=False, mirror=True) as mirrored:
        with mlflow.start_run() as run:
            first, _ = _log_sum(1.0), _log_sum(2.0)
        copy_id = mirrored.mirror_runs()[run.info.run_id]
    for place, constant in (("model", 2.0), (f"model-{first.model_id}", 1.0)):
        with aml_spark.configure(workspace=azureml, autolog=False):
            loaded = mlflow.pyfunc.load_model(f"runs:/{copy_id}/{place}")
        assert np.array_equal(loaded.predict(TRAINING), make_sum(constant).predict(None, TRAINING))


def _log_sum(constant: float, name: str = "model") -> Any:
    return mlflow.pyfunc.log_model(
        name=name,
        python_model=make_sum(constant),
        signature=mlflow.models.infer_signature(TRAINING, np.ones(3)),
        pip_requirements=["mlflow"],
    )


def test_models_that_failed_or_were_deleted_hold_up_no_mirror(
    tracking: aml_spark.Tracking, azureml: str, tmp_path: Path
) -> None:
    from mlflow.entities import LoggedModelOutput

    with aml_spark.configure(workspace=azureml, experiment="no models", autolog=False, mirror=True) as mirrored:
        with mlflow.start_run(run_name="failed") as failed:
            model = mlflow.initialize_logged_model(name="broken", source_run_id=failed.info.run_id)
            mlflow.finalize_logged_model(model.model_id, "FAILED")
            mlflow.MlflowClient().log_outputs(failed.info.run_id, [LoggedModelOutput(model.model_id, 0)])
        with mlflow.start_run(run_name="deleted"):
            mlflow.MlflowClient().delete_logged_model(_log_sum(1.0).model_id)
        with mlflow.start_run(run_name="own folder") as own:
            mlflow.log_text("the run's own", "model/MLmodel")
            kept = _log_sum(2.0)
        copies = mirrored.mirror_runs()
        assert len(copies) == 3
    client = mlflow.MlflowClient(azureml, azureml)
    copy_id = copies[own.info.run_id]
    assert Path(client.download_artifacts(copy_id, "model/MLmodel", str(tmp_path))).read_text() == "the run's own"
    assert {file.path for file in client.list_artifacts(copy_id)} == {"model", f"model-{kept.model_id}"}


def test_a_second_mirror_is_of_the_experiment_that_mlflow_is_set_to_by_then(
    tracking: aml_spark.Tracking, azureml: str
) -> None:
    for name in ("by then 1", "by then 2"):
        mlflow.set_experiment(name)
        mirrored = aml_spark.configure(workspace=azureml, autolog=False, mirror=True)
        with mlflow.start_run(run_name=name):
            pass
        assert len(mirrored.mirror_runs()) == 1
    assert set(_copies(mlflow.MlflowClient(azureml, azureml), "by then 2")) == {"by then 2"}


def test_a_mirror_leaves_what_others_set_meanwhile(
    tracking: aml_spark.Tracking, azureml: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_all = RunCopier.copy_all

    def meanwhile(*arguments: Any) -> Any:
        mlflow.set_experiment("set meanwhile")
        return copy_all(*arguments)

    monkeypatch.setattr(RunCopier, "copy_all", meanwhile)
    with aml_spark.configure(workspace=azureml, experiment="busy", autolog=False, mirror=True) as mirrored:
        mirrored.mirror_runs()
        with mlflow.start_run() as run:
            pass
        assert mlflow.get_experiment(run.info.experiment_id).name == "set meanwhile"


def test_a_sign_in_that_ended_doesnt_hide_what_the_block_raised(
    tracking: aml_spark.Tracking, azureml: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")  # no look for Azure from a test
    before = mlflow.get_tracking_uri()
    arguments: dict[str, Any] = {"workspace": azureml, "experiment": "ended", "autolog": False, "mirror": True}

    def train() -> None:
        with aml_spark.configure(**arguments), mlflow.start_run():
            monkeypatch.delenv("AZURE_CLIENT_SECRET")
            auth.tokens.cache_clear()
            raise KeyError("their own")

    with aml_spark.configure(**arguments):
        with pytest.raises(KeyError, match="their own"):
            train()
        assert mlflow.get_tracking_uri() == before
    assert "no credential gives a token" in caplog.text
    assert mlflow.get_tracking_uri() == before


def test_experiments_on_databricks_are_paths() -> None:
    databricks = aml_spark.Workspace.from_uri("databricks")
    assert experiment_name(databricks, "copied-models") == "/Shared/copied-models"
    assert experiment_name(databricks, "/Users/me/flights") == "/Users/me/flights"
    assert experiment_name(aml_spark.Workspace.local("w"), "copied-models") == "copied-models"


def test_a_copy_is_known_by_any_address_of_its_source_and_leaves_mlflow_alone(
    azureml: str, azureml_workspace: EmulatorProcess, trained: Path, tmp_path: Path
) -> None:
    aml_spark.copy_model("models:/trained/1", azureml, source=trained, name="addressed")
    first = aml_spark.copy_model("models:/addressed/1", tmp_path / "w", source=azureml)
    other = azureml.replace("/mlflow/v1.0/", "/mlflow/v2.0/")
    again = aml_spark.copy_model("models:/addressed/1", tmp_path / "w", source=other)
    assert (first.copied, again.copied, again.version) == (True, False, "1")
    with pytest.raises(ArgumentError, match="onto itself"):
        aml_spark.copy_model("models:/addressed/1", other, source=azureml)
    with aml_spark.configure(workspace=trained, autolog=False):
        moved = aml_spark.Workspace.local(tmp_path / "w").tracking_uri
        mlflow.set_tracking_uri(moved)
        aml_spark.copy_model("models:/trained/1", azureml, source=trained, name="addressed")
        assert mlflow.get_tracking_uri() == moved


def test_a_copy_to_unity_catalog_that_was_interrupted_is_made_again(
    places: dict[str, Any], trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, upload = "main.default.interrupted", LocalArtifactRepository.log_artifacts
    arguments: dict[str, Any] = {"source": trained, "name": name}

    def interrupted(self: Any, local_dir: str, artifact_path: str | None = None) -> None:
        if not artifact_path:  # to Unity Catalog; the run's have a path
            raise KeyboardInterrupt
        upload(self, local_dir, artifact_path)

    with monkeypatch.context() as patch:
        patch.setattr(LocalArtifactRepository, "log_artifacts", interrupted)
        with pytest.raises(KeyboardInterrupt):
            aml_spark.copy_model("models:/trained/1", places["unity catalog"], **arguments)
    copy = aml_spark.copy_model("models:/trained/1", places["unity catalog"], **arguments)
    assert (copy.version, copy.copied) == ("2", True)
    assert not aml_spark.copy_model("models:/trained/1", places["unity catalog"], **arguments).copied


def test_all_pages_of_versions_are_looked_at() -> None:
    class Pages:
        def search_model_versions(self, condition: str, max_results: int, page_token: str | None) -> Any:
            assert condition == """name = "it's" """.strip()
            number = int(page_token or 1)
            version = ModelVersion("it's", str(4 - number), 0)
            return PagedList([version], str(number + 1) if number < 3 else None)

    assert [found.version for found in models.versions(Pages(), "it's")] == ["1", "2", "3"]  # type: ignore[arg-type]


def test_no_error_of_a_copy_shows_a_password(
    tracking: aml_spark.Tracking, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    secret = "pa55word"
    there = f"http://user:{secret}@127.0.0.1:{free_port()}"
    with aml_spark.configure(workspace=there, autolog=False, mirror=True) as mirrored:
        with pytest.raises(aml_spark.WorkspaceError) as mirroring:
            mirrored.mirror_runs()
        register_sum("not copied")
        with pytest.raises(aml_spark.WorkspaceError) as copying:
            aml_spark.copy_model("models:/not copied/1", there)
        with pytest.raises(ModelError) as reading:
            aml_spark.copy_model("models:/not copied/1", tracking.workspace, source=there)
    for raised in (mirroring, copying, reading):
        assert secret not in "".join(traceback.format_exception(raised.value))
    assert "***@127.0.0.1" in str(mirroring.value)
    assert "***@127.0.0.1" in str(copying.value)
    assert secret not in caplog.text


def test_an_experiments_path_is_found_again(azureml: str, tmp_path: Path) -> None:
    path = "/Users/me@example.com/delays of flights"
    with aml_spark.configure(workspace=azureml, autolog=False):
        made = mlflow.set_experiment(path)
        assert mlflow.set_experiment(path).experiment_id == made.experiment_id
        assert mlflow.get_experiment(made.experiment_id).name == "delays of flights"
        with aml_spark.configure(workspace=tmp_path / "back", autolog=False, mirror=True), mlflow.start_run():
            pass
    back = mlflow.MlflowClient(aml_spark.Workspace.local(tmp_path / "back").tracking_uri)
    assert [experiment.name for experiment in back.search_experiments()] == [path, "Default"]


@pytest.fixture(scope="module")
def own_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("places")
    with unity_catalog(folder / "uc") as registry:
        yield {
            "local": folder / "mlworkspace",
            "unity catalog": aml_spark.Workspace.local(folder / "beside").with_registry(registry),
        }


@pytest.fixture
def places(azureml: str, azureml_workspace: EmulatorProcess, own_places: dict[str, Any]) -> dict[str, Any]:
    """Where models are copied from and to, by the kind of place."""
    return {**own_places, "azureml": azureml, "registry": azureml_workspace.facts["registry_uri"]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with version 1 of the model `trained`."""
    folder = tmp_path_factory.mktemp("trained")
    with aml_spark.configure(workspace=folder, experiment="training", autolog=False):
        register_sum("trained", 3.0)
        mlflow.MlflowClient().update_model_version("trained", "1", "the first")
    return folder


@pytest.mark.parametrize(
    ("source", "target"), list(itertools.permutations(["local", "azureml", "registry", "unity catalog"], 2))
)
def test_a_model_goes_from_each_place_to_each_other(
    places: dict[str, Any], trained: Path, source: str, target: str
) -> None:
    plain = f"{source}-to-{target}".replace(" ", "-")
    names = {place: f"main.default.{plain}" if place == "unity catalog" else plain for place in places}
    there = aml_spark.copy_model("models:/trained/1", places[source], source=trained, name=names[source])
    arguments: dict[str, Any] = {"source": places[source], "name": names[target]}
    here = aml_spark.copy_model(f"models:/{names[source]}/{there.version}", places[target], **arguments)
    assert (here.version, here.copied) == ("1", True)
    again = aml_spark.copy_model(f"models:/{names[source]}/latest", places[target], **arguments)
    assert again == dataclasses.replace(here, copied=False)
    workspace, registry = (places["azureml"], places[target]) if target == "registry" else (places[target], None)
    with aml_spark.configure(workspace=workspace, registry=registry, autolog=False):
        loaded = mlflow.pyfunc.load_model(f"models:/{names[target]}/1")
        assert np.array_equal(loaded.predict(TRAINING), make_sum(3.0).predict(None, TRAINING))
        version = mlflow.MlflowClient().get_model_version(names[target], "1")
        assert version.description == "the first"
        if target != "unity catalog":  # which keeps no tags
            assert version.tags["aml_spark.copied_from"].endswith(f"#models:/{names[source]}/1")
        if here.run_id:
            files = {file.path for file in mlflow.MlflowClient().list_artifacts(here.run_id)}
            assert len(files) == 1, "the files are still there"


def test_what_unity_catalog_cant_do_is_said(places: dict[str, Any], trained: Path) -> None:
    with pytest.raises(ArgumentError, match=r"'trained' isn't a name for Unity Catalog; expected catalog.schema.model"):
        aml_spark.copy_model("models:/trained/1", places["unity catalog"], source=trained)
    with pytest.raises(ModelError, match="has no aliases and no stages"):
        aml_spark.copy_model("models:/main.default.x@champion", trained, source=places["unity catalog"])


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
    for address in (
        f"runs:/{copy.run_id}/{version.source.rpartition('/')[2]}",
        "models:/m-0123",
        "summed",
        "models:/x",
    ):
        with pytest.raises(ArgumentError, match="isn't a registered model"):
            aml_spark.copy_model(address, source, source=target)
    with pytest.raises(aml_spark.WorkspaceError, match=r"there is no workspace in '.*typo'"):
        aml_spark.copy_model(f"models:/{name}/1", target, source=tmp_path / "typo")
    assert not (tmp_path / "typo").exists()
