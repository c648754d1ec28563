"""Registered models, copied from one workspace to another."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any

from aml_spark.errors import ArgumentError
from aml_spark.model import PinnedModel, pin
from aml_spark.plugin import REQUEST_ID
from aml_spark.runs import RunCopier
from aml_spark.tracking import configure
from aml_spark.workspace import Workspace, masked

COPIED_FROM = "aml_spark.copied_from"
DIGEST = "aml_spark.model_digest"
_EXPERIMENT = "copied-models"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCopy:
    """What `copy_model` did.

    Args:
        name: of the registered model in the target.
        version: its version there.
        run_id: the run there that holds the files, a copy of the run that trained the model.
        copied: False where the target had this copy already.
    """

    name: str
    version: str
    run_id: str
    copied: bool


def copy_model(
    model_uri: str,
    to: Workspace | str | os.PathLike[str],
    *,
    source: Workspace | str | os.PathLike[str] | None = None,
    name: str | None = None,
) -> ModelCopy:
    """Copy one version of a registered model to another workspace: its files with their signature, tags, description
    and the run that trained it (params, metrics, tags).

    The copy says where it comes from in the tags `aml_spark.copied_from` and `aml_spark.model_digest` (SHA-256 of the
    files). Copying the same version again finds the copy; one that was interrupted is gone on with. Aliases stay
    where they are.

    Args:
        model_uri: `models:/name/3`, `models:/name@alias`, `models:/name/latest`.
        to: the workspace that gets it: a `Workspace`, or what `Workspace.find` takes. Its registry may be another one.
        source: the workspace that has it; None for what MLflow is set to.
        name: name in the target; None for the same. Unity Catalog wants `catalog.schema.model`.

    Raises:
        ArgumentError: not a registered model, or source and target are the same.
        ModelNotFoundError: no such model, version or alias.
        WorkspaceError: a workspace that doesn't answer or refuses.
    """
    import mlflow

    target = Workspace.find(to)
    with configure(workspace=source, autolog=False) if source is not None else contextlib.nullcontext():
        model = pin(model_uri)
        if model.name is None:
            raise ArgumentError(f"{model_uri!r} isn't a registered model; expected models:/<name>/<version or @alias>")
        if target.registry_uri == mlflow.get_registry_uri() and name in (None, model.name):
            raise ArgumentError(f"{model_uri!r} is to be copied onto itself", hint="give name=, or another workspace")
        there = mlflow.MlflowClient(mlflow.get_tracking_uri(), mlflow.get_registry_uri())
        origin = f"{masked(mlflow.get_registry_uri())}#{model.pinned_uri}"
    with configure(workspace=target, experiment=_EXPERIMENT, autolog=False):
        here = mlflow.MlflowClient()
        return _copy(model, there, here, name or model.name, origin)


def _copy(model: PinnedModel, there: Any, here: Any, name: str, origin: str) -> ModelCopy:
    from mlflow.exceptions import MlflowException

    version = there.get_model_version(model.name, model.version)
    tags = {key: value for key, value in version.tags.items() if key != REQUEST_ID}
    marks = {COPIED_FROM: origin, DIGEST: model.digest}
    _ensure(here, name, there.get_registered_model(model.name))
    for found in here.search_model_versions(f"name = '{name}'"):
        if marks.items() <= found.tags.items():
            return ModelCopy(name=name, version=str(found.version), run_id=found.run_id, copied=False)
    copier = RunCopier(there, here, here.get_experiment_by_name(_EXPERIMENT).experiment_id)
    try:
        run = there.get_run(version.run_id) if version.run_id else None
    except MlflowException:  # the run was deleted, or lies in a store that isn't this one
        run = None
    run_id = copier.begin(run) if run else here.create_run(copier.experiment_id, run_name=name).info.run_id
    path = f"model-{model.digest[:12]}"  # a run may have trained several
    here.log_artifacts(run_id, str(model.folder), path)
    if run:
        copier.end(run, run_id)
    else:
        here.set_terminated(run_id)
    made = here.create_model_version(
        name,
        f"{here.get_run(run_id).info.artifact_uri}/{path}",
        run_id,
        tags={**tags, **marks},
        description=version.description or None,
    )
    return ModelCopy(name=name, version=str(made.version), run_id=run_id, copied=True)


def _ensure(client: Any, name: str, like: Any) -> None:
    from mlflow.exceptions import MlflowException

    try:
        tags = {key: value for key, value in like.tags.items() if key != REQUEST_ID}
        client.create_registered_model(name, tags, like.description or None)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
