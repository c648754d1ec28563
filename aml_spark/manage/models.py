"""The models that the workspace has registered. What copies one elsewhere is `aml_spark.copy_model`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from aml_spark import control
from aml_spark.errors import ArgumentError, ServiceError, did_you_mean, listed as named
from aml_spark.manage.words import missing, told
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Model

_ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+|latest))")


def listed(name: str | None = None, workspace: Workspace | None = None) -> list[Model]:
    """The registered models, or the versions of one.

    Args:
        name: of a model, for its versions, the newest first; None for all models, each with its `latest_version`.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: there is no such model; says which there are.
    """
    client = control.client(workspace)
    if name is None:
        with control.own_words("list the models"):
            return list(client.models.list())
    with told(f"list the versions of the model {name!r}", "model", name, known=lambda: _names(client)):
        found = list(client.models.list(name))
        if not found:
            raise missing("model", name, _names(client))
        return sorted(found, key=lambda one: _number(str(one.version)), reverse=True)


def get(name: str, version: str | int | None = None, workspace: Workspace | None = None) -> Model:
    """One version of a model.

    Args:
        name: of the model; or an address, `models:/name/3`, `models:/name@alias` or `models:/name/latest`.
        version: its version; None for the newest, or for what an address says.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ArgumentError: it is no such address, or says a version and another is given.
        ServiceError: there is no such model, version or alias; says which there are.
    """
    name, version = _meant(name, version, workspace)
    versions = listed(name, workspace)
    for one in versions:
        if version is None or str(one.version) == str(version):
            return one
    raise ServiceError(
        f"the model {name!r} has no version {str(version)!r}; it has {named(str(one.version) for one in versions)}",
        hint=f"aml-spark model list --name {name}",
        status=404,
    )


def download(
    name: str,
    version: str | int | None = None,
    target: str | os.PathLike[str] = ".",
    workspace: Workspace | None = None,
) -> Path:
    """Copy the files of one version here.

    Args:
        name: of the model, or an address, as for `get`.
        version: its version; None for the newest, or for what an address says.
        target: folder that gets a folder with the model's name.
        workspace: None takes the one that MLflow is configured for.

    Returns:
        The folder with the model's name.

    Raises:
        ArgumentError: that folder is there and holds something; or the address is wrong.
        ServiceError: there is no such model, version or alias, or Azure refuses.
    """
    found = get(name, version, workspace)
    name = str(found.name)
    folder = Path(target) / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArgumentError(f"{str(folder)!r} holds something already", hint="name another folder")
    client = control.client(workspace)
    with told(f"download the model {name!r}, version {found.version}", "model", name):
        client.models.download(name, str(found.version), target)
    return folder


def aliases(name: str, workspace: Workspace | None = None) -> dict[str, str]:
    """A model's aliases, with the versions that they mean. MLflow's registry knows them, not the control plane.

    Args:
        name: of the model.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: there is no such model, and says which there are; or the registry refuses.
        WorkspaceError: its region isn't known, where the registry is.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    where = (workspace or control.configured()).tracking_uri
    try:
        found = mlflow.MlflowClient(where, where).get_registered_model(name)
    except MlflowException as error:
        status = error.get_http_status_code()
        if status == 404:
            raise missing("model", name, _names(control.client(workspace))) from None
        raise ServiceError(f"can't show the aliases of the model {name!r}: {error.message}", status=status) from None
    return {alias: str(version) for alias, version in found.aliases.items()}


def _meant(name: str, version: str | int | None, workspace: Workspace | None) -> tuple[str, str | int | None]:
    """The name and version that an address means; a name as it is."""
    if not name.startswith("models:"):
        return name, version
    found = _ADDRESS.fullmatch(name)
    if found is None:
        raise ArgumentError(f"{name!r} isn't a registered model; expected models:/<name>/<version or @alias>")
    if version is not None:
        raise ArgumentError(f"{name!r} says which version already; asked for is {str(version)!r}, too")
    model, alias = found["name"], found["alias"]
    if alias is None:
        return model, None if found["version"] == "latest" else found["version"]
    known = aliases(model, workspace)
    if alias not in known:
        raise ServiceError(
            f"the model {model!r} has no alias {alias!r}; it has {named(sorted(known))}",
            hint=did_you_mean(alias, known) or f"aml-spark model list --name {model}",
            status=404,
        )
    return model, known[alias]


def _names(client: MLClient) -> list[str | None]:
    return [one.name for one in client.models.list()]


def _number(version: str) -> tuple[int, str]:
    return (int(version) if version.isdigit() else -1, version)
