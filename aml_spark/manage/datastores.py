"""The workspace's datastores: what it knows of storage accounts. What is in them: `aml_spark.files`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aml_spark import control
from aml_spark.credential import AccountKey, Credential, SasToken, ServicePrincipal
from aml_spark.errors import ArgumentError, ServiceError, listed as named
from aml_spark.location import Location
from aml_spark.manage.words import told
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Datastore

KINDS = BLOB, LAKE = "AzureBlob", "AzureDataLakeGen2"


def listed(workspace: Workspace | None = None) -> list[Datastore]:
    """All of them, without what opens them.

    Args:
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: Azure refuses.
    """
    client = control.client(workspace)
    with control.own_words("list the datastores"):
        return list(client.datastores.list())


def get(name: str, workspace: Workspace | None = None) -> Datastore:
    """One of them, without what opens it.

    Args:
        name: its name.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: there is no such datastore; says which there are.
    """
    client = control.client(workspace)
    with told(f"show the datastore {name!r}", "datastore", name, known=lambda: _names(client)):
        found: Datastore = client.datastores.get(name)
        return found


def default(workspace: Workspace | None = None) -> Datastore:
    """The one that jobs write to where they don't name one.

    Args:
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: Azure refuses.
    """
    client = control.client(workspace)
    with control.own_words("show the default datastore"):
        found: Datastore = client.datastores.get_default()
        return found


def create(
    name: str,
    *,
    account: str,
    container: str,
    kind: str = LAKE,
    credential: Credential | None = None,
    endpoint: str = "core.windows.net",
    description: str | None = None,
    workspace: Workspace | None = None,
) -> Datastore:
    """Tell the workspace of a container or file system in a storage account, or renew what opens it.

    Args:
        name: letters, digits and `_`.
        account: name of the storage account.
        container: its container, or of a data lake its file system.
        kind: `AzureDataLakeGen2` or `AzureBlob`.
        credential: `AccountKey`, `SasToken` or `ServicePrincipal` of `aml_spark.credential`; None keeps none there,
            so that each job comes with an identity of its own.
        endpoint: another one in national clouds.
        description: for people.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ArgumentError: a kind, account or container that can't be; or the name means another place already, which is
            left as it is.
        ServiceError: Azure refuses.
    """
    from azure.ai.ml.entities import AzureBlobDatastore, AzureDataLakeGen2Datastore
    from azure.core.exceptions import ResourceNotFoundError

    if kind not in KINDS:
        raise ArgumentError(f"the kind is {kind!r}; expected one of {named(KINDS)}")
    Location(account=account, filesystem=container, suffix=f"dfs.{endpoint}")  # which knows their form
    client = control.client(workspace)
    common: dict[str, Any] = {
        "name": name,
        "account_name": account,
        "endpoint": endpoint,
        "description": description,
        "credentials": _configuration(credential),
    }
    asked: Any = (
        AzureBlobDatastore(**common, container_name=container)
        if kind == BLOB
        else AzureDataLakeGen2Datastore(**common, filesystem=container)
    )
    with told(f"create the datastore {name!r}", "datastore", name):
        try:
            found = client.datastores.get(name)
        except ResourceNotFoundError:
            found = None
        if found is not None and _place(found) != _place(asked):
            raise ArgumentError(
                f"there is a datastore {name!r} for another place already: {_place(found)}; "
                f"asked for is {_place(asked)}",
                hint="give it another name",
            )
        made: Datastore = client.datastores.create_or_update(asked)
        return made


def set_default(name: str, workspace: Workspace | None = None) -> Datastore:
    """Have jobs write to it where they don't name a datastore.

    Neither azure-ai-ml nor Azure's second command line has this. It is a PUT of the datastore as it is, with
    `isDefault`, through azure-ai-ml's own operations; the credential goes with it, or it would be lost.

    Args:
        name: of a datastore that is there.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: there is no such datastore, Azure refuses, or it was left as it is.
    """
    client = control.client(workspace)
    operations = client.datastores._operation
    place = {
        "resource_group_name": client.resource_group_name,
        "workspace_name": str(client.workspace_name),
        "name": name,
    }
    with told(f"make the datastore {name!r} the default", "datastore", name, known=lambda: _names(client)):
        held = operations.get(**place)
        properties = held.properties.as_dict()
        if properties["credentials"].get("credentialsType", "None") != "None":
            properties["credentials"]["secrets"] = client.datastores._list_secrets(name).as_dict()
        # As a dict: the client's own class takes `isDefault` for one that is only read, and leaves it out.
        body = {"properties": {**properties, "isDefault": True}}
        operations.create_or_update(**place, body=body, skip_validation=True)
        found: Datastore = client.datastores.get_default()
    if found.name != name:
        raise ServiceError(
            f"the datastore {name!r} isn't the default: Azure took the request and left {found.name!r}",
            hint="Azure Machine Learning studio: Data, Datastores, Set as default datastore",
        )
    return found


def _names(client: MLClient) -> list[str | None]:
    return [one.name for one in client.datastores.list()]


def _configuration(credential: Credential | None) -> Any:
    from azure.ai.ml.entities import AccountKeyConfiguration, SasTokenConfiguration, ServicePrincipalConfiguration

    if credential is None:
        return None
    if isinstance(credential, AccountKey):
        return AccountKeyConfiguration(account_key=credential.key)
    if isinstance(credential, SasToken):
        return SasTokenConfiguration(sas_token=credential.token.removeprefix("?"))
    if isinstance(credential, ServicePrincipal):
        return ServicePrincipalConfiguration(
            tenant_id=credential.tenant_id,
            client_id=credential.client_id,
            client_secret=credential.client_secret,
            authority_url=credential.authority,
        )
    raise ArgumentError(
        f"a datastore keeps no {type(credential).__name__}; expected AccountKey, SasToken, ServicePrincipal or None"
    )


def _place(of: Any) -> str:
    kind = BLOB if hasattr(of, "container_name") else LAKE if hasattr(of, "filesystem") else str(of.type)
    return f"{kind} {getattr(of, 'container_name', None) or getattr(of, 'filesystem', '')}@{of.account_name}"
