"""The workspace itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_spark import control
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from azure.ai.ml.entities import Workspace as AzureWorkspace


def show(workspace: Workspace | None = None) -> AzureWorkspace:
    """What Azure knows of the workspace: region, storage account, key vault, address for MLflow.

    Args:
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: Azure refuses, such as where there is no such workspace.
        WorkspaceError: it isn't an Azure Machine Learning workspace.
    """
    client = control.client(workspace)
    with control.own_words(
        f"show the workspace {client.workspace_name!r}", hint="is it the right subscription and resource group?"
    ):
        found: AzureWorkspace = client.workspaces.get(client.workspace_name)
        return found
