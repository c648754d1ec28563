"""MLflow's user-level calls: what each gives on a workspace and on MLflow's own store, held against each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

import aml_spark
from aml_spark.errors import AmlSparkError

if TYPE_CHECKING:
    from aml_spark.testing import EmulatorProcess

Client = mlflow.MlflowClient


def _names(entities: Any) -> list[str]:
    return sorted(entity.name for entity in entities)


def _data(client: Client) -> dict[str, Any]:
    run = client.get_run(_run().info.run_id)
    tags = {key: value for key, value in run.data.tags.items() if not key.startswith(("mlflow.", "aml_spark."))}
    return {"params": run.data.params, "metrics": run.data.metrics, "tags": tags, "name": run.info.run_name}


def _run() -> Any:
    found = mlflow.active_run()
    assert found is not None
    return found


def _files(client: Client, path: str | None = None) -> list[tuple[str, bool]]:
    return [(file.path, file.is_dir) for file in client.list_artifacts(_run().info.run_id, path)]


def _dataset() -> Any:
    return mlflow.data.from_pandas(pd.DataFrame({"x": [1.0, 2.0]}), name="two")  # type: ignore[attr-defined]


def _png() -> Any:
    return np.zeros((2, 2, 3), dtype=np.uint8)


def _version(client: Client, name: str = "calls") -> Any:
    return client.get_model_version(name, "1")


def _child(client: Client) -> str | None:
    with mlflow.start_run(nested=True, run_name="child") as child:
        pass
    parent = mlflow.get_parent_run(child.info.run_id)
    return parent and parent.info.run_name


def _registered(client: Client) -> tuple[str, str]:
    source = f"{_run().info.artifact_uri}/notes"
    made = client.create_model_version("calls", source, _run().info.run_id, tags={"a": "1"}, description="first")
    return made.name, str(made.version)


def _again(client: Client) -> str:
    run = client.create_run(_run().info.experiment_id, tags={"x": "1"}, run_name="by the client")
    client.set_terminated(run.info.run_id, "KILLED")
    return str(client.get_run(run.info.run_id).info.status)


# In their order: each stands on those before it. What a call gives is compared, ids and times aside.
CALLS: dict[str, Callable[[Client], Any]] = {
    "log_param": lambda client: [mlflow.log_param("p", 1), _data(client)][1:],
    "log_params": lambda client: [mlflow.log_params({"q": "two", "r": 0.5}), _data(client)][1:],
    "log_param, another value": lambda client: mlflow.log_param("p", 2),
    "log_metric": lambda client: [mlflow.log_metric("m", 1.5, step=3), _data(client)][1:],
    "log_metrics": lambda client: [mlflow.log_metrics({"n": 2.5, "o": -1}, step=4), _data(client)][1:],
    "log_metric, infinite": lambda client: [
        mlflow.log_metric("i", float("inf")),
        _data(client)["metrics"]["i"] > 1e300,
    ],
    "log_batch": lambda client: client.log_batch(
        _run().info.run_id, [Metric("b", 1, 2, 3)], [Param("bp", "x")], [RunTag("bt", "y")]
    ),
    "get_metric_history": lambda client: [
        (metric.value, metric.step) for metric in client.get_metric_history(_run().info.run_id, "m")
    ],
    "set_tag": lambda client: [mlflow.set_tag("t", "1"), _data(client)][1:],
    "set_tags": lambda client: [mlflow.set_tags({"u": "2", "v": "3"}), _data(client)][1:],
    "delete_tag": lambda client: [mlflow.delete_tag("u"), _data(client)][1:],
    "update_run": lambda client: [client.update_run(_run().info.run_id, name="renamed"), _data(client)][1:],
    "get_parent_run": _child,
    "create_run": _again,
    "log_text": lambda client: [mlflow.log_text("words", "notes/a.txt"), _files(client)][1:],
    "log_dict": lambda client: [mlflow.log_dict({"a": [1, 2]}, "notes/b.json"), _files(client, "notes")][1:],
    "log_image": lambda client: [mlflow.log_image(_png(), "picture.png"), _files(client)][1:],
    "log_table": lambda client: [
        mlflow.log_table({"x": [1, 2]}, "table.json"),
        mlflow.load_table("table.json", [_run().info.run_id]).to_dict(),
    ][1:],
    "log_figure": lambda client: [mlflow.log_figure(_figure(), "figure.png"), _files(client)][1:],
    "load_text": lambda client: mlflow.artifacts.load_text(f"runs:/{_run().info.run_id}/notes/a.txt"),
    "load_dict": lambda client: mlflow.artifacts.load_dict(f"runs:/{_run().info.run_id}/notes/b.json"),
    "download_artifacts": lambda client: sorted(
        file.name for file in Path(mlflow.artifacts.download_artifacts(run_id=_run().info.run_id)).iterdir()
    ),
    "download_artifacts, missing": lambda client: client.download_artifacts(_run().info.run_id, "nothing"),
    "log_input": lambda client: [
        mlflow.log_input(_dataset(), "training"),
        [given.dataset.name for given in client.get_run(_run().info.run_id).inputs.dataset_inputs],
    ][1:],
    "search_runs": lambda client: mlflow.search_runs(
        [_run().info.experiment_id], "params.p = '1' and metrics.m > 1 and tags.t = '1'", order_by=["metrics.m DESC"]
    )["params.q"].tolist(),
    "search_runs, like": lambda client: len(
        client.search_runs([_run().info.experiment_id], "attributes.run_name LIKE 'ren%'")
    ),
    "search_runs, nonsense": lambda client: client.search_runs([_run().info.experiment_id], "nonsense = 1"),
    "get_run, missing": lambda client: client.get_run("0" * 32),
    "create_experiment": lambda client: client.get_experiment(client.create_experiment("second")).name,
    "create_experiment, taken": lambda client: client.create_experiment("second"),
    "set_experiment_tag": lambda client: [
        client.set_experiment_tag(client.get_experiment_by_name("second").experiment_id, "k", "v"),
        client.get_experiment_by_name("second").tags["k"],
    ],
    "search_experiments": lambda client: _names(client.search_experiments(filter_string="name = 'second'")),
    "rename_experiment": lambda client: client.rename_experiment(
        client.get_experiment_by_name("second").experiment_id, "third"
    ),
    "delete_experiment": lambda client: [
        client.delete_experiment(client.create_experiment("fourth")),
        _names(client.search_experiments(ViewType.DELETED_ONLY, filter_string="name = 'fourth'")),
    ],
    "create_registered_model": lambda client: client.create_registered_model("calls", {"a": "1"}, "words").description,
    "create_registered_model, taken": lambda client: client.create_registered_model("calls"),
    "create_model_version": _registered,
    "get_model_version": lambda client: (_version(client).description, _version(client).status),
    "get_model_version, missing": lambda client: client.get_model_version("calls", "99"),
    "update_model_version": lambda client: client.update_model_version("calls", "1", "other").description,
    "set_model_version_tag": lambda client: [
        client.set_model_version_tag("calls", "1", "k", "v"),
        _version(client).tags["k"],
    ],
    "delete_model_version_tag": lambda client: [
        client.delete_model_version_tag("calls", "1", "k"),
        "k" in _version(client).tags,
    ],
    "set_registered_model_alias": lambda client: [
        client.set_registered_model_alias("calls", "champion", "1"),
        str(client.get_model_version_by_alias("calls", "champion").version),
    ],
    "delete_registered_model_alias": lambda client: [
        client.delete_registered_model_alias("calls", "champion"),
        client.get_registered_model("calls").aliases,
    ],
    "set_registered_model_tag": lambda client: [
        client.set_registered_model_tag("calls", "k", "v"),
        client.get_registered_model("calls").tags["k"],
    ],
    "update_registered_model": lambda client: client.update_registered_model("calls", "new words").description,
    "search_registered_models": lambda client: _names(client.search_registered_models("name = 'calls'")),
    "search_model_versions": lambda client: [str(v.version) for v in client.search_model_versions("name = 'calls'")],
    "search_model_versions, by run": lambda client: [
        str(version.version) for version in client.search_model_versions(f"run_id = '{_run().info.run_id}'")
    ],
    "search_model_versions, by tag": lambda client: len(client.search_model_versions("tags.a = '1'")),
    "get_model_version_download_uri": lambda client: client.get_model_version_download_uri("calls", "1").rpartition(
        "/"
    )[2],
    "delete_model_version": lambda client: client.delete_model_version("calls", "1"),
    "delete_registered_model": lambda client: client.delete_registered_model("calls"),
    "search_logged_models": lambda client: len(client.search_logged_models([_run().info.experiment_id])),
    "trace": lambda client: mlflow.trace(lambda x: x + 1)(1),
    "delete_run": lambda client: [client.delete_run(_child_id(client)), "deleted"],
    "end_run": lambda client: mlflow.end_run(),
}
# What a workspace doesn't do as MLflow's own store does; README's table says how each goes.
REFUSED = {"rename_experiment", "search_model_versions, by tag"}


def _figure() -> Any:
    from matplotlib.figure import Figure

    return Figure()


def _child_id(client: Client) -> str:
    return str(client.search_runs([_run().info.experiment_id], "attributes.run_name = 'child'")[0].info.run_id)


def _told(client: Client, call: Callable[[Client], Any]) -> Any:
    try:
        return call(client)
    except (MlflowException, AmlSparkError) as error:
        return f"refused: {getattr(error, 'error_code', type(error).__name__)}"


@pytest.fixture
def answers(azureml_workspace: EmulatorProcess, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """What each call gave, by store and call."""
    given: dict[str, dict[str, Any]] = {}
    for name, place in (("azureml", azureml_workspace.facts["tracking_uri"]), ("mlflow", tmp_path / "mlworkspace")):
        with aml_spark.configure(workspace=place, experiment="calls", autolog=False):
            client = Client()
            mlflow.start_run(run_name="calls")
            try:
                given[name] = {call: _told(client, function) for call, function in CALLS.items()}
            finally:
                mlflow.end_run()
    return given


def test_each_call_gives_the_same_on_a_workspace_as_on_mlflows_own_store(answers: dict[str, dict[str, Any]]) -> None:
    ours, theirs = answers["azureml"], answers["mlflow"]
    different = {call: (ours[call], theirs[call]) for call in CALLS if ours[call] != theirs[call]}
    assert set(different) == REFUSED, different
    for call in REFUSED:
        assert ours[call].startswith("refused: INVALID_PARAMETER_VALUE"), call
        assert not str(theirs[call]).startswith("refused"), call
