"""Registered models, copied from one workspace or registry to another."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_spark.addresses import is_registry, masked, told
from aml_spark.errors import AmlSparkError, ArgumentError, WorkspaceError
from aml_spark.model import PinnedModel, pin, versions
from aml_spark.runs import RunCopier
from aml_spark.state import State
from aml_spark.tags import COPIED_FROM, COPIED_RUN, MODEL_DIGEST, REQUEST_ID
from aml_spark.tracking import configure, experiment_name, present
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

_EXPERIMENT = "copied-models"
_UNITY_CATALOG = ("databricks-uc", "uc:")
_UNFINISHED = ("PENDING_REGISTRATION", "FAILED_REGISTRATION")
_EXISTS = ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS")  # Unity Catalog's is the second


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCopy:
    """What `copy_model` did.

    Args:
        name: of the registered model in the target.
        version: its version there.
        run_id: the run there that holds the files, a copy of the run that trained the model; None in a registry of
            Azure ML, which has no runs.
        copied: False where the target had this copy already.
    """

    name: str
    version: str
    run_id: str | None
    copied: bool


def copy_model(
    model_uri: str,
    to: Workspace | str | os.PathLike[str],
    *,
    source: Workspace | str | os.PathLike[str] | None = None,
    name: str | None = None,
) -> ModelCopy:
    """Copy one version of a registered model to another workspace or registry: its files with their signature, tags,
    description and the run that trained it (params, metrics, tags).

    The copy says where it comes from in the tags `aml_spark.copied_from`, `aml_spark.copied_run` and
    `aml_spark.model_digest` (SHA-256 of the files), where the registry keeps tags. Copying the same version again
    finds the copy; one that was interrupted is gone on with. Aliases stay where they are.

    Args:
        model_uri: `models:/name/3`, `models:/name@alias`, `models:/name/latest`.
        to: what gets it: a `Workspace`, or what `Workspace.find` takes; its registry may be another one. Or the
            address of what holds models only: a registry of Azure ML,
            `azureml://<region>.api.azureml.ms/mlflow/…/registries/<name>`, or Unity Catalog's open server, `uc:http://…`.
        source: what has it, given in the same way; None for what MLflow is set to.
        name: name in the target; None for the same. Unity Catalog wants `catalog.schema.model`.

    Raises:
        ArgumentError: not a registered model, or source and target are the same.
        ModelNotFoundError: no such model, version or alias.
        WorkspaceError: a store that doesn't answer or refuses.
    """
    import mlflow

    if not re.fullmatch(r"models:/(?!m-[^/]*$)[^/@]+[/@][^/@]+", model_uri):
        raise ArgumentError(f"{model_uri!r} isn't a registered model; expected models:/<name>/<version or @alias>")
    if source is not None and not (isinstance(source, str) and _holds_models_only(source)):
        source = Workspace.find(source)
        if not source.is_made:
            raise WorkspaceError(f"there is no workspace in {source.folder!r}")
    with _set_to(source), _named(model_uri):
        model = pin(model_uri)
        assert model.name is not None
        store = mlflow.MlflowClient(mlflow.get_tracking_uri(), mlflow.get_registry_uri())
        origin = _Origin(
            model=model,
            address=f"{_identity(mlflow.get_registry_uri())}#{model.pinned_uri}",
            version=store.get_model_version(model.name, str(model.version)),
            container=store.get_registered_model(model.name),
            store=store,
            uris=(mlflow.get_tracking_uri(), mlflow.get_registry_uri()),
        )
    name = name or model.name
    with _set_to(to), _named(model_uri, *origin.uris):
        registry = mlflow.get_registry_uri()
        if origin.address == f"{_identity(registry)}#models:/{name}/{model.version}":
            raise ArgumentError(f"{model_uri!r} is to be copied onto itself", hint="give name=, or another workspace")
        if registry.startswith(_UNITY_CATALOG) and name.count(".") != 2:
            raise ArgumentError(
                f"{name!r} isn't a name for Unity Catalog; expected catalog.schema.model",
                hint=f'name="main.default.{name}"',
            )
        return _copy(origin, mlflow.MlflowClient(), name, with_run=not is_registry(registry))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """What is copied, where it is."""

    model: PinnedModel
    address: str
    version: Any
    container: Any
    store: MlflowClient
    uris: tuple[str, str]


@contextlib.contextmanager
def _set_to(place: Workspace | str | os.PathLike[str] | None) -> Iterator[None]:
    """MLflow, set to a workspace; or to a registry, and to the runs of where it is now. Afterwards as it was."""
    before = State.now()
    try:
        if isinstance(place, str) and _holds_models_only(place):
            with configure(workspace=present(), registry=place, autolog=False):
                yield
        elif place is not None:
            with configure(workspace=place, autolog=False):
                yield
        else:
            yield
    finally:
        before.restore()  # also where it had been moved away from an outer configure of the same arguments


@contextlib.contextmanager
def _named(model_uri: str, *uris: str) -> Iterator[None]:
    """Errors of MLflow's stores as one of ours, without the passwords in these addresses and in those in force."""
    import mlflow

    uris = (*uris, mlflow.get_tracking_uri(), mlflow.get_registry_uri())
    try:
        yield
    except AmlSparkError:
        raise
    except Exception as error:  # whatever the stores' drivers raise
        place = masked(uris[-1])
        raise WorkspaceError(f"{model_uri!r} couldn't be copied; {place!r} said: {told(error, *uris)}") from None


def _holds_models_only(place: str) -> bool:
    return is_registry(place) or place.startswith("uc:")


def _identity(registry_uri: str) -> str:
    """The same for each address of one registry."""
    arm_id = re.fullmatch(r"azureml://[^/]+/mlflow/v[\d.]+(/subscriptions/.*?)/?", registry_uri)
    return f"azureml:/{arm_id[1].lower()}" if arm_id else masked(registry_uri)


def _copy(origin: _Origin, here: MlflowClient, name: str, *, with_run: bool) -> ModelCopy:
    from mlflow.utils.file_utils import local_file_uri_to_path

    model, version = origin.model, origin.version
    # In the address of the files, which every registry keeps, as not every one keeps tags.
    place = f"model-{hashlib.sha256(f'{origin.address} {model.digest}'.encode()).hexdigest()[:16]}"
    _ensure(here, name, origin.container)
    if found := _found(here, name, place):
        return found
    tags = {key: value for key, value in version.tags.items() if key != REQUEST_ID}
    tags |= {COPIED_FROM: origin.address, MODEL_DIGEST: model.digest}
    if version.run_id:
        tags[COPIED_RUN] = version.run_id
    description = version.description or None
    if not with_run:
        with tempfile.TemporaryDirectory() as folder:
            named = Path(folder, place)
            named.symlink_to(model.folder, target_is_directory=True)
            made = here.create_model_version(name, named.as_uri(), tags=tags, description=description)
        return _first(here, place, ModelCopy(name=name, version=str(made.version), run_id=None, copied=True))
    run_id = _run_with_files(origin, here, place)
    address = f"{here.get_run(run_id).info.artifact_uri}/{place}"
    if address.startswith("file:"):  # MLflow's client of Unity Catalog deletes what a file:// source names
        address = local_file_uri_to_path(address)
    made = here.create_model_version(name, address, run_id, tags=tags, description=description)
    return _first(here, place, ModelCopy(name=name, version=str(made.version), run_id=run_id, copied=True))


def _found(here: MlflowClient, name: str, place: str) -> ModelCopy | None:
    """The first version whose files are those that are copied."""
    for found in versions(here, name):
        # Unity Catalog's clients make a version before they upload its files.
        if place in str(found.source).split("/") and found.status not in _UNFINISHED:
            return ModelCopy(name=name, version=str(found.version), run_id=found.run_id or None, copied=False)
    return None


def _first(here: MlflowClient, place: str, made: ModelCopy) -> ModelCopy:
    """The copy that was made, or where another process made one meanwhile, the first, and then this one is deleted."""
    first = _found(here, made.name, place)
    if first is None or first.version == made.version:
        return made
    here.delete_model_version(made.name, made.version)
    if made.run_id is not None and made.run_id != first.run_id:
        here.delete_run(made.run_id)
    return first


def _run_with_files(origin: _Origin, here: MlflowClient, place: str) -> str:
    """A copy of the run that trained the model, or an empty run where that is gone, with the files in its artifacts."""
    from mlflow.exceptions import MlflowException

    run, run_id = None, origin.version.run_id
    if run_id:
        with contextlib.suppress(MlflowException):  # deleted, or in a store that isn't this one
            run = origin.store.get_run(run_id)
    experiment = experiment_name(present(), _EXPERIMENT)
    found = here.get_experiment_by_name(experiment)
    experiment_id = found.experiment_id if found else here.create_experiment(experiment)
    copier = RunCopier(origin.store, here, experiment_id, only=run_id if run else place)
    copy_id = copier.begin(run) if run else copier.begin_without(place, str(origin.model.name))
    here.log_artifacts(copy_id, str(origin.model.folder), place)
    copier.end(copy_id, run)
    return copy_id


def _ensure(client: MlflowClient, name: str, like: Any) -> None:
    from mlflow.exceptions import MlflowException

    try:
        tags = {key: value for key, value in like.tags.items() if key != REQUEST_ID}
        client.create_registered_model(name, tags, like.description or None)
    except MlflowException as error:
        if error.error_code not in _EXISTS:
            raise
