"""The models that the workspace has registered. What copies one elsewhere is `aml_spark.copy_model`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from aml_spark import control
from aml_spark.errors import ArgumentError, ServiceError, listed as named
from aml_spark.manage.words import missing, told
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Model


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
        name: of the model.
        version: its version; None for the newest.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: there is no such model or version; says which there are.
    """
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
        name: of the model.
        version: its version; None for the newest.
        target: folder that gets a folder with the model's name.
        workspace: None takes the one that MLflow is configured for.

    Returns:
        The folder with the model's name.

    Raises:
        ArgumentError: that folder is there and holds something.
        ServiceError: there is no such model or version, or Azure refuses.
    """
    found = get(name, version, workspace)
    folder = Path(target) / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArgumentError(f"{str(folder)!r} holds something already", hint="name another folder")
    client = control.client(workspace)
    with told(f"download the model {name!r}, version {found.version}", "model", name):
        client.models.download(name, str(found.version), target)
    return folder


def _names(client: MLClient) -> list[str | None]:
    return [one.name for one in client.models.list()]


def _number(version: str) -> tuple[int, str]:
    return (int(version) if version.isdigit() else -1, version)
