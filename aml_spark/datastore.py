"""Datastores: what an Azure Machine Learning workspace knows of storage accounts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aml_spark import control
from aml_spark.credential import AccountKey, Credential, SasToken, ServicePrincipal
from aml_spark.errors import DataLakeError
from aml_spark.location import DatastorePath, Location
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Datastore:
    """One datastore of a workspace.

    Args:
        name: its name.
        kind: Azure's name of its kind: `AzureBlob`, `AzureDataLakeGen2`, `AzureFile` and others.
        location: its root; None where it isn't in a storage account that Spark reads.
        credential: what opens it; None where it keeps none, or it wasn't asked for.
    """

    name: str
    kind: str
    location: Location | None
    credential: Credential | None = None


def find(path: DatastorePath) -> tuple[Location, Credential | None]:
    """The place in a storage account that a path in a datastore means, and what the datastore keeps to open it.

    Raises:
        DataLakeError: the workspace has no such datastore, or it isn't one of a storage account that Spark reads.
        WorkspaceError: there is no workspace to ask.
    """
    found = get(path.name, path)
    if found.location is None:
        raise DataLakeError(
            f"the datastore {path.name!r} is of the kind {found.kind}; expected AzureBlob or AzureDataLakeGen2"
        )
    return found.location / path.path, found.credential


def get(name: str, of: DatastorePath | None = None) -> Datastore:
    """One datastore, with what opens it.

    Args:
        name: its name.
        of: a path that may name the workspace; None takes the one that MLflow is configured for.

    Raises:
        DataLakeError: the workspace has no such datastore, or doesn't say what opens it.
        WorkspaceError: there is no workspace to ask.
    """
    client = _client(of)
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

    try:
        found = client.datastores.get(name)
        # The public way asks for signatures that end within the hour, in place of a key; jobs take longer.
        keeps_one = getattr(found.credentials, "type", "None") != "None"
        return _read(found, client.datastores._list_secrets(name) if keeps_one else None)
    except ResourceNotFoundError:
        raise DataLakeError(
            f"the workspace {client.workspace_name!r} has no datastore {name!r}", hint="aml-spark datastore list"
        ) from None
    except HttpResponseError as error:
        raise DataLakeError(
            f"the workspace {client.workspace_name!r} doesn't show the datastore {name!r}: HTTP {error.status_code}",
            hint="it takes the right Microsoft.MachineLearningServices/workspaces/datastores/listSecrets/action",
        ) from None


def listed() -> Iterator[Datastore]:
    """The datastores of the workspace that MLflow is configured for, without what opens them.

    Raises:
        WorkspaceError: there is no workspace to ask.
    """
    for found in _client(None).datastores.list():
        yield _read(found)


def _client(of: DatastorePath | None) -> MLClient:
    if of is not None and of.workspace:
        return control.client(
            Workspace(subscription_id=of.subscription_id, resource_group=of.resource_group, name=of.workspace)
        )
    return control.client()


def _read(found: Any, secrets: Any = None) -> Datastore:
    filesystem = getattr(found, "filesystem", None) or getattr(found, "container_name", None)
    location = None
    if filesystem:
        endpoint = getattr(found, "endpoint", None) or "core.windows.net"
        location = Location(account=found.account_name, filesystem=filesystem, suffix=f"dfs.{endpoint}")
    return Datastore(
        name=found.name,
        kind=getattr(found.type, "value", found.type),
        location=location,
        credential=_credential(found.credentials, secrets),
    )


def _credential(of: Any, secrets: Any) -> Credential | None:
    if key := getattr(secrets, "key", None):
        return AccountKey(key=key)
    if token := getattr(secrets, "sas_token", None):
        return SasToken(token=token)
    if secret := getattr(secrets, "client_secret", None):
        where = {"authority": of.authority_url} if of.authority_url else {}
        return ServicePrincipal(tenant_id=of.tenant_id, client_id=of.client_id, client_secret=secret, **where)
    return None
