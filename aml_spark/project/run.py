"""The MLflow run of a project: taken over or made, and what its job is told of it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aml_spark.addresses import masked
from aml_spark.errors import ArgumentError
from aml_spark.project.source import Project
from aml_spark.tags import PROJECT_RUN

DRY_RUN = "aml_spark.dry_run"  # tag of a run for which nothing was started
_DATA = "aml_spark.data."  # begins the tags that say where a run's data is
_ENDS = ("FINISHED", "FAILED", "KILLED")
_MOST_PARAMS = 100  # of one request of MLflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Where a project's run is tracked.

    Args:
        run_id: of the run; None where the job makes it, so that both are the same.
        experiment_id: of its experiment.
        experiment_name: the experiment's name.
        tracking_uri: the store. It may hold a password.
        environment: MLflow's variables for the job. Without the store where its address holds a password.
    """

    run_id: str | None
    experiment_id: str
    experiment_name: str
    tracking_uri: str = field(repr=False)
    environment: Mapping[str, str]


def link(experiment_id: str, run_id: str | None) -> Link:
    """What ties a job to the run.

    Args:
        experiment_id: of the experiment that MLflow chose.
        run_id: the run, or None where the job makes it.
    """
    import mlflow

    client = mlflow.MlflowClient()
    uri, registry = _absolute(mlflow.get_tracking_uri()), _absolute(mlflow.get_registry_uri())
    stores = {"MLFLOW_TRACKING_URI": uri, **({"MLFLOW_REGISTRY_URI": registry} if registry != uri else {})}
    environment = {
        **{name: value for name, value in stores.items() if masked(value) == value},
        **({"MLFLOW_RUN_ID": run_id, PROJECT_RUN: run_id} if run_id else {}),
        "MLFLOW_EXPERIMENT_ID": experiment_id,
    }
    return Link(
        run_id=run_id,
        experiment_id=experiment_id,
        experiment_name=client.get_experiment(experiment_id).name,
        tracking_uri=uri,
        environment=environment,
    )


def _absolute(uri: str) -> str:
    """A store's address that doesn't depend on the working directory."""
    from mlflow.utils.uri import resolve_uri_if_local

    if found := re.match(r"(sqlite(?:\+\w+)?:///)(?!/|:memory:|file:)(.+)", uri):
        return f"{found[1]}{Path.cwd()}/{found[2]}"
    return uri if re.fullmatch(r"databricks(-uc)?", uri) else str(resolve_uri_if_local(uri))


def given_run() -> str | None:
    """The run that this process was started for, by `MLFLOW_RUN_ID`; None while it has another one active."""
    import mlflow

    return None if mlflow.active_run() is not None else os.environ.get("MLFLOW_RUN_ID") or None


def make(
    project: Project,
    experiment_id: str,
    *,
    name: str | None = None,
    reuse: str | None = None,
    more: Mapping[str, str] | None = None,
) -> str:
    """Have a run for the project, with its tags and parameters.

    Args:
        project: what is run.
        experiment_id: where a new run goes.
        name: of a new run; None leaves it to MLflow.
        reuse: id of a run to take.
        more: tags of a new run.

    Returns:
        Its id.

    Raises:
        ArgumentError: the run to take isn't in the store.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    client = mlflow.MlflowClient()
    if reuse is None:
        run_id = client.create_run(experiment_id, tags={**tags(project), **(more or {})}, run_name=name).info.run_id
    else:
        run_id = reuse
        try:
            client.update_run(run_id, status="RUNNING")
        except MlflowException as error:
            raise ArgumentError(
                f"MLFLOW_RUN_ID names the run {run_id!r}, which {masked(mlflow.get_tracking_uri())!r} doesn't take: "
                f"{error.message}",
                hint="unset MLFLOW_RUN_ID, so that a new run is made",
            ) from None
    describe(project, str(run_id))
    return str(run_id)


def describe(project: Project, run_id: str, *, name: str | None = None) -> None:
    """Log the project's tags and parameters to a run that exists, and name it where a name is given.

    A parameter that the run has stays as it is, because MLflow doesn't change one. So those that are data are tags: the
    script may log by their names what it was given, which is where the service has put the data.
    """
    import mlflow
    from mlflow.entities import Param, RunTag
    from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

    client = mlflow.MlflowClient()
    known = client.get_run(run_id).data
    own = known.params.keys() | project.data
    new = [Param(key, value) for key, value in project.parameters.items() if key not in own]
    wanted = {**tags(project), **({MLFLOW_RUN_NAME: name} if name else {})}
    told = [RunTag(key, value) for key, value in wanted.items() if known.tags.get(key) != value]
    for start in range(0, max(len(new), 1), _MOST_PARAMS):
        client.log_batch(run_id, params=new[start : start + _MOST_PARAMS], tags=told if start == 0 else [])


def tags(project: Project) -> dict[str, str]:
    """What a project's run is tagged with, by MLflow's names."""
    import mlflow
    from mlflow.tracking.context.default_context import _get_user
    from mlflow.utils import mlflow_tags as names

    active = mlflow.active_run()
    return {
        names.MLFLOW_USER: _get_user(),
        names.MLFLOW_SOURCE_NAME: masked(project.uri),
        names.MLFLOW_SOURCE_TYPE: "PROJECT",
        names.MLFLOW_PROJECT_ENTRY_POINT: project.entry_point,
        names.MLFLOW_PROJECT_BACKEND: "aml-spark",
        **{f"{_DATA}{name}": masked(project.parameters[name]) for name in sorted(project.data)},
        **({names.MLFLOW_GIT_COMMIT: project.version} if project.version else {}),
        **({names.MLFLOW_PARENT_RUN_ID: active.info.run_id} if active is not None else {}),
    }


def end(run_id: str, status: str) -> None:
    """Say how a run ended, unless it says something worse itself.

    Args:
        run_id: of the run.
        status: FINISHED, FAILED or KILLED, of which each goes over those before it.
    """
    import mlflow

    client = mlflow.MlflowClient()
    said = client.get_run(run_id).info.status
    if said not in _ENDS or _ENDS.index(said) < _ENDS.index(status):
        client.set_terminated(run_id, status)
