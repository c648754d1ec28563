"""The workspace itself, as Azure Resource Manager shows it, and where its other services are."""

from __future__ import annotations

import uuid
from typing import Any

import flask

from aml_spark.testing.artifacts import failure
from aml_spark.testing.control.records import shown
from aml_spark.testing.lake import account

LOCATION = "westeurope"
_KIND = "Microsoft.MachineLearningServices/workspaces"


def workspaces(arm_id: str) -> flask.Blueprint:
    """Get and list it, its keys, and `/discovery`, which needs no token.

    Args:
        arm_id: the workspace's id.
    """
    routes = flask.Blueprint("workspaces", __name__)
    group, _, rest = arm_id.partition("/providers/")
    subscription, name = group.partition("/resourceGroups/")[0], arm_id.rpartition("/")[2]
    provider = f"/providers/{rest.partition('/')[0]}"

    @routes.get(f"{group}{provider}/workspaces")
    @routes.get(f"{subscription}{provider}/workspaces")
    def listed() -> Any:
        return {"value": [_shown(arm_id)]}

    @routes.get(f"{group}{provider}/workspaces/<asked>")
    def get(asked: str) -> Any:
        if asked.lower() == name.lower():
            return _shown(arm_id)
        told = (
            f"The Resource 'Microsoft.MachineLearningServices/workspaces/{asked}' under resource group "
            f"'{group.rpartition('/')[2]}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"
        )
        return failure(404, "ResourceNotFound", told)

    @routes.post(f"{arm_id}/listKeys")
    def keys() -> Any:
        return {
            "userStorageKey": None,
            "userStorageResourceId": _storage(arm_id),
            "appInsightsInstrumentationKey": None,
            "containerRegistryCredentials": None,
            "notebookAccessKeys": None,
        }

    @routes.get("/discovery")
    def discovery() -> Any:
        base = services()
        return dict.fromkeys(("api", "history", "artifact", "catalog", "experimentation", "modelmanagement"), base)

    return routes


def services() -> str:
    """The address of the workspace's services for whoever asks: Azure's host for those that came by the proxy."""
    host = flask.request.host
    return f"https://{host}" if host.startswith("127.") else f"https://{LOCATION}.api.azureml.ms"


def studio(arm_id: str, path: str) -> str:
    """The address of a page in Azure Machine Learning studio, which isn't there."""
    return f"https://ml.azure.com/{path}?wsid={arm_id}"


def _shown(arm_id: str) -> dict[str, Any]:
    base, name = services(), arm_id.rpartition("/")[2]
    properties = {
        "friendlyName": name,
        "description": "A workspace on this machine",
        "workspaceId": str(uuid.uuid5(uuid.NAMESPACE_URL, arm_id)),
        "provisioningState": "Succeeded",
        "discoveryUrl": f"{base}/discovery",
        "mlFlowTrackingUri": f"azureml://{base.removeprefix('https://')}/mlflow/v1.0{arm_id}",
        "storageAccount": _storage(arm_id),
        "hbiWorkspace": False,
        "publicNetworkAccess": "Enabled",
        "v1LegacyMode": False,
    }
    resource = shown(arm_id, _KIND, properties, location=LOCATION, tags={}, sku={"name": "Basic", "tier": "Basic"})
    return {**resource, "kind": "Default"}


def _storage(arm_id: str) -> str:
    return f"{arm_id.partition('/providers/')[0]}/providers/Microsoft.Storage/storageAccounts/{account.ACCOUNT}"
