"""MLflow set up and put back, on real stores."""

from __future__ import annotations

import copy
import logging
import os
import shutil
import socket
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.tracking import fluent
from mlflow.tracking._model_registry import utils as registry_utils
from mlflow.tracking._tracking_service import utils as tracking_utils
from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS

import aml_spark
from aml_spark import Tracking, Workspace, WorkspaceError, configure, tracking as module

FOREIGN = ("MLFLOW_", "_MLFLOW_", "AZUREML_", "DATABRICKS_")


def _state() -> dict[str, Any]:
    """What a process shows of MLflow's settings."""
    return {
        "tracking": mlflow.get_tracking_uri(),
        "registry": mlflow.get_registry_uri(),
        "experiment": fluent._active_experiment_id,
        # an integration without settings is off, as one that is switched off
        "autologging": {
            name: dict(config)
            for name, config in AUTOLOGGING_INTEGRATIONS.items()
            if config and not config.get("disable")
        },
        "environment": {name: value for name, value in os.environ.items() if name.startswith(FOREIGN)},
    }


@pytest.fixture(autouse=True)
def own_mlflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """MLflow as in a new process, and afterwards as it was."""
    environment = dict(os.environ)
    autologging = copy.deepcopy(dict(AUTOLOGGING_INTEGRATIONS))
    for name in environment:
        if name.startswith(FOREIGN):
            del os.environ[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking_utils, "_tracking_uri", None)
    monkeypatch.setattr(registry_utils, "_registry_uri", None)
    monkeypatch.setattr(fluent, "_active_experiment_id", None)
    monkeypatch.setattr(module, "_in_force", [])
    yield
    while mlflow.active_run():
        mlflow.end_run()
    if dict(AUTOLOGGING_INTEGRATIONS) != autologging:
        mlflow.autolog(disable=True, silent=True)
        AUTOLOGGING_INTEGRATIONS.update(autologging)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables made, which takes MLflow some seconds."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(folder / "artifacts"))  # else ./mlruns
        mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def here(tmp_path: Path, empty_store: Path) -> Workspace:
    return _workspace(tmp_path / "here", empty_store)


@pytest.fixture
def there(tmp_path: Path, empty_store: Path) -> Workspace:
    return _workspace(tmp_path / "there", empty_store)


def _workspace(folder: Path, store: Path) -> Workspace:
    folder.mkdir()
    shutil.copy(store, folder / "mlflow.db")
    return Workspace.local(folder)


def _log(**arguments: Any) -> mlflow.entities.Run:
    with mlflow.start_run(**arguments) as run:
        mlflow.log_metric("auc", 0.5)
        mlflow.log_text("words", "note.txt")
    return run


def _runs(workspace: Workspace) -> set[str]:
    client = mlflow.MlflowClient(workspace.tracking_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return {run.info.run_id for run in client.search_runs(experiments)}


def _tags(workspace: Workspace, run: mlflow.entities.Run) -> dict[str, str]:
    return dict(mlflow.MlflowClient(workspace.tracking_uri).get_run(run.info.run_id).data.tags)


def _note(workspace: Workspace, run: mlflow.entities.Run) -> Path:
    """Where the run's file lies; it has to be there once, under the workspace's artifacts."""
    assert workspace.artifact_root is not None
    (found,) = Path(workspace.artifact_root).rglob(f"{run.info.run_id}/artifacts/note.txt")
    return found


# Logging


def test_plain_start_run_logs_to_the_workspace(here: Workspace, tmp_path: Path) -> None:
    tracking = configure(workspace=here, experiment="flights", autolog=False)
    run = _log()
    assert isinstance(tracking, Tracking)
    assert (tracking.workspace, tracking.experiment) == (here, "flights")
    assert mlflow.get_tracking_uri() == here.tracking_uri
    assert mlflow.get_registry_uri() == tracking.registry_uri == here.registry_uri
    assert _runs(here) == {run.info.run_id}
    assert mlflow.get_experiment(run.info.experiment_id).name == "flights"
    assert _note(here, run).read_text() == "words"
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_new_folder_becomes_a_workspace(tmp_path: Path) -> None:
    with configure(workspace=tmp_path / "new", autolog=False) as tracking:
        run = _log()
    assert tracking.workspace == Workspace.local(tmp_path / "new")
    assert _runs(tracking.workspace) == {run.info.run_id}
    assert _note(tracking.workspace, run).read_text() == "words"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_artifacts_of_an_experiment_that_mlflow_makes_later_lie_in_the_workspace(
    here: Workspace, tmp_path: Path
) -> None:
    configure(workspace=here, experiment="first", autolog=False)
    mlflow.set_experiment("second")
    run = _log()
    assert mlflow.get_experiment(run.info.experiment_id).name == "second"
    assert _note(here, run).read_text() == "words"
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_no_experiment_leaves_the_choice_to_mlflow(here: Workspace) -> None:
    tracking = configure(workspace=here, autolog=False)
    assert tracking.experiment is None
    assert mlflow.get_experiment(_log().info.experiment_id).name == "Default"


def test_no_experiment_leaves_the_one_that_the_environment_names(
    here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    configure(workspace=here, autolog=False)
    assert mlflow.get_experiment(_log().info.experiment_id).name == "theirs"


def test_an_experiment_goes_before_the_one_that_the_environment_names(
    here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    configure(workspace=here, experiment="ours", autolog=False)
    assert mlflow.get_experiment(_log().info.experiment_id).name == "ours"


def test_the_experiment_of_another_store_means_nothing_in_this_one(here: Workspace, there: Workspace) -> None:
    mlflow.set_tracking_uri(there.tracking_uri)
    for number in range(3):
        mlflow.set_experiment(f"number {number}")
    configure(workspace=here, autolog=False)
    assert _log().info.experiment_id == "0"


@pytest.mark.parametrize("experiment", ["a/b", "delay #2", "50%", "what?", "ü", "..", "../../up"])
def test_an_experiments_artifacts_stay_inside_whatever_its_name(
    here: Workspace, experiment: str, tmp_path: Path
) -> None:
    configure(workspace=here, experiment=experiment, autolog=False)
    run = _log()
    assert mlflow.get_experiment(run.info.experiment_id).name == experiment
    assert _note(here, run).read_text() == "words"
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"mlflow.db", "artifacts"}


def test_an_experiment_that_is_there_keeps_its_place(here: Workspace) -> None:
    mlflow.MlflowClient(here.tracking_uri).create_experiment("flights", str(here.folder) + "/elsewhere")
    configure(workspace=here, experiment="flights", autolog=False)
    (found,) = mlflow.search_experiments(filter_string="name = 'flights'")
    assert found.artifact_location == str(here.folder) + "/elsewhere"


def test_a_workspace_may_be_named_as_a_folder_or_an_address(here: Workspace, there: Workspace) -> None:
    assert configure(workspace=str(here.folder), autolog=False).workspace == here
    assert configure(workspace=there.tracking_uri, autolog=False).workspace == Workspace(uri=there.tracking_uri)


def test_without_a_workspace_the_environment_names_it(here: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", here.tracking_uri)
    assert configure(autolog=False).workspace.tracking_uri == here.tracking_uri


def test_models_may_be_registered_elsewhere(here: Workspace, there: Workspace) -> None:
    tracking = configure(workspace=here, registry=there.tracking_uri, autolog=False)
    assert tracking.registry_uri == mlflow.get_registry_uri() == there.tracking_uri
    mlflow.MlflowClient().create_registered_model("delay")
    assert [
        model.name for model in mlflow.MlflowClient(registry_uri=there.tracking_uri).search_registered_models()
    ] == ["delay"]
    assert mlflow.MlflowClient(registry_uri=here.tracking_uri).search_registered_models() == []


def test_a_child_process_inherits_the_workspace(here: Workspace) -> None:
    configure(workspace=here, experiment="flights", autolog=False)
    assert os.environ["MLFLOW_TRACKING_URI"] == here.tracking_uri
    assert os.environ["MLFLOW_REGISTRY_URI"] == here.registry_uri


# Tags


def test_runs_get_the_tags(here: Workspace) -> None:
    tracking = configure(workspace=here, autolog=False, tags={"team": "flights", "ümlaut": 'a "b"'})
    assert tracking.tags.items() >= {"team": "flights", "ümlaut": 'a "b"'}.items()
    for _ in range(2):
        assert _tags(here, _log()).items() >= tracking.tags.items()


def test_runs_keep_the_tags_of_mlflow_and_of_the_environment(here: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT", '{"pipeline": "nightly"}')
    configure(workspace=here, autolog=False, tags={"team": "flights"})
    tags = _tags(here, _log())
    assert (tags["pipeline"], tags["team"]) == ("nightly", "flights")
    assert {"mlflow.user", "mlflow.source.name"} <= set(tags)


def test_a_runs_own_tags_go_first(here: Workspace) -> None:
    configure(workspace=here, autolog=False, tags={"team": "flights"})
    assert _tags(here, _log(tags={"team": "trains"}))["team"] == "trains"


def test_the_tags_of_an_earlier_configure_do_not_stay(here: Workspace) -> None:
    configure(workspace=here, autolog=False, tags={"draft": "yes"})
    tracking = configure(workspace=here, autolog=False, tags={"team": "flights"})
    assert "draft" not in tracking.tags
    tags = _tags(here, _log())
    assert tags["team"] == "flights"
    assert "draft" not in tags


def test_runs_after_restore_have_no_tags_of_ours(here: Workspace) -> None:
    configure(workspace=here, autolog=False, tags={"team": "flights"}).restore()
    mlflow.set_tracking_uri(here.tracking_uri)
    assert "team" not in _tags(here, _log())


# An inherited run


def _foreign_run(workspace: Workspace) -> str:
    client = mlflow.MlflowClient(workspace.tracking_uri)
    return str(client.create_run("0").info.run_id)


def test_an_inherited_run_is_not_gone_on_with(
    here: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inherited = _foreign_run(here)
    monkeypatch.setenv("MLFLOW_RUN_ID", inherited)
    with caplog.at_level(logging.WARNING, "aml_spark"), configure(workspace=here, autolog=False):
        run = _log()
    assert run.info.run_id != inherited
    assert mlflow.MlflowClient(here.tracking_uri).get_run(inherited).data.metrics == {}
    assert [record.levelname for record in caplog.records if inherited in record.getMessage()] == ["WARNING"]
    assert os.environ["MLFLOW_RUN_ID"] == inherited


@pytest.mark.parametrize("owner", ["AZUREML_RUN_ID", "AML_SPARK_RUN_ID"])
def test_the_run_of_an_azure_job_or_a_project_is_gone_on_with(
    here: Workspace, monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    inherited = _foreign_run(here)
    monkeypatch.setenv("MLFLOW_RUN_ID", inherited)
    monkeypatch.setenv(owner, inherited)
    with configure(workspace=here, autolog=False):
        assert _log().info.run_id == inherited
    assert _runs(here) == {inherited}


def test_another_run_than_the_azure_jobs_is_set_aside(here: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    inherited = _foreign_run(here)
    monkeypatch.setenv("MLFLOW_RUN_ID", inherited)
    monkeypatch.setenv("AZUREML_RUN_ID", "another")
    with configure(workspace=here, autolog=False):
        assert _log().info.run_id != inherited


# Calling it twice


def test_the_same_call_again_changes_nothing(here: Workspace) -> None:
    arguments: dict[str, Any] = {"workspace": here, "experiment": "a", "autolog": False, "tags": {"x": "1", "y": "2"}}
    first = configure(**arguments)
    state = _state()
    assert configure(**{**arguments, "tags": {"y": "2", "x": "1"}}) is first
    assert _state() == state


@pytest.mark.parametrize(
    "change", [{"experiment": "b"}, {"tags": {"x": "2"}}, {"registry": "sqlite:///other.db"}, {"tags": None}]
)
def test_another_call_is_another_tracking(here: Workspace, change: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"workspace": here, "experiment": "a", "autolog": False, "tags": {"x": "1"}}
    assert configure(**arguments) is not configure(**{**arguments, **change})


def test_the_same_call_sets_up_again_after_the_user_moved_mlflow(here: Workspace, there: Workspace) -> None:
    configure(workspace=here, autolog=False)
    mlflow.set_tracking_uri(there.tracking_uri)
    configure(workspace=here, autolog=False)
    assert mlflow.get_tracking_uri() == here.tracking_uri


def test_the_same_call_sets_up_again_after_the_user_moved_to_another_experiment(here: Workspace) -> None:
    configure(workspace=here, experiment="a", autolog=False)
    mlflow.set_experiment("b")
    configure(workspace=here, experiment="a", autolog=False)
    assert mlflow.get_experiment(_log().info.experiment_id).name == "a"


def test_the_same_call_works_after_restore(here: Workspace) -> None:
    first = configure(workspace=here, autolog=False)
    first.restore()
    second = configure(workspace=here, autolog=False)
    assert second is not first
    assert mlflow.get_tracking_uri() == here.tracking_uri


# Putting it back


def test_restore_puts_back_a_new_process(here: Workspace) -> None:
    before = _state()
    tracking = configure(workspace=here, experiment="flights", registry="sqlite:///other.db", tags={"a": "b"})
    assert _state() != before
    tracking.restore()
    assert _state() == before
    assert tracking_utils._tracking_uri is None
    assert registry_utils._registry_uri is None


def test_restore_puts_back_what_the_user_had_set(
    here: Workspace, there: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.set_tracking_uri(there.tracking_uri)
    mlflow.set_registry_uri("sqlite:///theirs.db")
    mine = mlflow.set_experiment("mine").experiment_id
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT", '{"pipeline": "nightly"}')
    monkeypatch.setenv("MLFLOW_RUN_ID", "inherited")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "/theirs")
    mlflow.autolog(silent=True, log_models=False)
    before = _state()
    with configure(workspace=here, experiment="flights", tags={"a": "b"}):
        assert _state() != before
    assert _state() == before
    assert fluent._get_experiment_id() == mine
    del os.environ["MLFLOW_RUN_ID"]
    run = _log()
    assert run.info.experiment_id == mine
    assert _runs(there) == {run.info.run_id}
    assert _runs(here) == set()


def test_restore_puts_back_what_only_the_environment_said(
    here: Workspace, there: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", there.tracking_uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "sqlite:///theirs.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    before = _state()
    with configure(workspace=here, experiment="flights", autolog=False):
        pass
    assert _state() == before
    assert tracking_utils._tracking_uri is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", here.tracking_uri)
    assert mlflow.get_tracking_uri() == here.tracking_uri


def test_an_error_inside_puts_back_too(here: Workspace) -> None:
    before = _state()
    with pytest.raises(ZeroDivisionError), configure(workspace=here, experiment="flights", tags={"a": "b"}):
        _ = 1 / 0
    assert _state() == before


def test_restore_twice_does_nothing_the_second_time(here: Workspace, there: Workspace) -> None:
    tracking = configure(workspace=here, autolog=False)
    tracking.restore()
    mlflow.set_tracking_uri(there.tracking_uri)
    tracking.restore()
    assert mlflow.get_tracking_uri() == there.tracking_uri


def test_an_inner_configure_is_put_back_to_the_outer(here: Workspace, there: Workspace) -> None:
    before = _state()
    with configure(workspace=here, experiment="outer", autolog=False, tags={"level": "outer"}):
        outside = _state()
        with configure(workspace=there, experiment="inner", autolog=False, tags={"level": "inner"}):
            inner = _log()
        assert _state() == outside
        outer = _log()
    assert _state() == before
    assert (_runs(here), _runs(there)) == ({outer.info.run_id}, {inner.info.run_id})
    assert (_tags(here, outer)["level"], _tags(there, inner)["level"]) == ("outer", "inner")
    assert _note(there, inner).read_text() == _note(here, outer).read_text() == "words"


def test_an_inner_configure_of_the_same_arguments_leaves_the_outer_in_force(here: Workspace) -> None:
    before = _state()
    with configure(workspace=here, experiment="same", autolog=False):
        with configure(workspace=here, experiment="same", autolog=False):
            _log()
        assert mlflow.get_tracking_uri() == here.tracking_uri
        _log()
    assert _state() == before
    assert len(_runs(here)) == 2


def test_restoring_the_outer_undoes_the_inner(here: Workspace, there: Workspace) -> None:
    before = _state()
    outer = configure(workspace=here, autolog=False)
    inner = configure(workspace=there, autolog=False)
    outer.restore()
    assert _state() == before
    inner.restore()
    assert _state() == before


def test_artifacts_of_an_inner_store_without_folder_do_not_go_to_the_outers(
    here: Workspace, there: Workspace, tmp_path: Path
) -> None:
    with (
        configure(workspace=here, experiment="outer", autolog=False),
        configure(workspace=there.tracking_uri, experiment="inner", autolog=False),
    ):
        run = _log()
    assert here.artifact_root is not None
    assert list(Path(here.artifact_root).rglob("note.txt")) == []
    assert len(list(tmp_path.rglob(f"{run.info.run_id}/artifacts/note.txt"))) == 1


# A workspace that can't be used


def test_a_folder_that_cannot_be_made_is_an_error_and_leaves_mlflow_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    before = _state()
    with pytest.raises(WorkspaceError, match="doesn't answer") as caught:
        configure(workspace=tmp_path / "file" / "w", experiment="flights")
    assert caught.value.hint
    assert _state() == before
    assert module._in_force == []


def test_a_server_that_does_not_answer_is_an_error_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    before, password = _state(), "pa55word"  # a traceback quotes the call
    with pytest.raises(WorkspaceError, match="doesn't answer") as caught:
        configure(workspace=f"http://user:{password}@127.0.0.1:{port}", experiment="flights", autolog=False)
    assert password not in "".join(traceback.format_exception(caught.value))
    assert _state() == before


def test_a_tracking_shows_no_password(here: Workspace) -> None:
    tracking = configure(workspace=here, registry="http://user:pa55word@127.0.0.1:1", autolog=False)
    assert "pa55word" not in repr(tracking)


def test_an_inner_configure_that_fails_leaves_the_outer_in_force(here: Workspace) -> None:
    with configure(workspace=here, experiment="outer", autolog=False):
        (Path(here.folder or "") / "mlflow.db").write_text("this is no SQLite file any more, " * 100)
        outside = _state()
        with pytest.raises(WorkspaceError, match="doesn't answer"):
            configure(workspace=here, experiment="outer", autolog=False)
        assert _state() == outside


def test_a_file_that_is_no_store_is_an_error_and_leaves_mlflow_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "mlflow.db").write_text("this is no SQLite file, " * 100)
    before = _state()
    with pytest.raises(WorkspaceError, match="doesn't answer"):
        configure(workspace=tmp_path / "w", experiment="flights", autolog=False)
    assert _state() == before


def test_a_malformed_address_is_an_error_and_leaves_mlflow_as_it_was() -> None:
    before = _state()
    with pytest.raises(WorkspaceError, match="sqllite"):
        configure(workspace="sqllite:///m.db")
    assert _state() == before


def test_a_malformed_run_context_is_an_error_of_ours(here: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT", "nightly")
    before = _state()
    with pytest.raises(aml_spark.AmlSparkError, match="MLFLOW_RUN_CONTEXT"):
        configure(workspace=here, autolog=False)
    assert _state() == before


# Autologging


def _fit() -> None:
    from sklearn.linear_model import LinearRegression

    LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])


@pytest.mark.filterwarnings("default")  # sklearn's and MLflow's own, of saving a model
def test_autologging_is_on_inside_and_off_after(here: Workspace) -> None:
    pytest.importorskip("sklearn")
    with configure(workspace=here, experiment="flights"):
        _fit()
        assert len(_runs(here)) == 1
    mlflow.set_tracking_uri(here.tracking_uri)
    _fit()
    assert len(_runs(here)) == 1


def test_autologging_that_was_not_asked_for_stays_off(here: Workspace) -> None:
    pytest.importorskip("sklearn")
    with configure(workspace=here, experiment="flights", autolog=False):
        _fit()
    assert _runs(here) == set()


@pytest.mark.filterwarnings("default")
def test_autologging_that_the_user_switched_on_stays_on(here: Workspace) -> None:
    pytest.importorskip("sklearn")
    mlflow.sklearn.autolog(silent=True, log_models=False)
    config = copy.deepcopy(AUTOLOGGING_INTEGRATIONS["sklearn"])
    with configure(workspace=here, autolog=False):
        assert AUTOLOGGING_INTEGRATIONS["sklearn"] == config
        _fit()
    assert len(_runs(here)) == 1
    with configure(workspace=here):
        pass
    assert AUTOLOGGING_INTEGRATIONS["sklearn"] == config
    mlflow.set_tracking_uri(here.tracking_uri)
    _fit()
    assert len(_runs(here)) == 2
