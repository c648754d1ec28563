"""Online endpoints of a workspace, through azure-ai-ml."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aml_spark.control import own_words
from aml_spark.deployment import waiting
from aml_spark.deployment.config import check_name
from aml_spark.errors import DeploymentError, ServiceError, did_you_mean, listed

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import OnlineEndpoint


def default(deployment: str, arm_id: str) -> str:
    """The endpoint of a deployment for which none is named: `<deployment>-<six hex digits>`.

    Of the deployment's name it has the first 25 letters, as Azure takes 32 in all.

    The digits are the first of the SHA-256 of the workspace's id in lower case, as the names of endpoints have to
    differ in a whole region of Azure.
    """
    return f"{deployment[:25].rstrip('-')}-{hashlib.sha256(arm_id.lower().encode()).hexdigest()[:6]}"


def find(client: MLClient, name: str) -> OnlineEndpoint | None:
    """An endpoint with its traffic; None where there is none."""
    with own_words(f"look at the endpoint {name!r}"):
        return waiting.found(lambda: client.online_endpoints.get(name))  # type: ignore[no-any-return]


def get(client: MLClient, name: str) -> OnlineEndpoint:
    """An endpoint with its traffic.

    Raises:
        ServiceError: there is none; says which there are.
    """
    found = find(client, name)
    if found is None:
        names, hint = [str(one.name) for one in all_of(client)], f"aml-spark endpoint create {name}"
        if waiting.exists(lambda: client.batch_endpoints.get(name), f"the batch endpoint {name!r}"):
            hint = f"there is a batch endpoint {name!r}: {_shown(name)} --batch"
        raise ServiceError(
            f"the workspace {client.workspace_name!r} has no online endpoint {name!r}; it has {listed(names)}",
            hint=did_you_mean(name, names) or hint,
            status=404,
        )
    return found


def all_of(client: MLClient) -> list[OnlineEndpoint]:
    """The workspace's online endpoints."""
    with own_words("list the online endpoints"):
        return list(client.online_endpoints.list())


def create(client: MLClient, name: str, settings: Mapping[str, Any]) -> OnlineEndpoint:
    """Create an endpoint; one that is being created is waited for.

    Args:
        client: of the workspace.
        name: its name, which no other endpoint in the region has.
        settings: see `config.ENDPOINT`.

    Raises:
        ArgumentError: Azure takes no such name.
        DeploymentError: it is there already, or fails.
        ServiceError: Azure refuses it.
    """
    found = find(client, name)
    if waiting.state(found) == "Succeeded":
        raise DeploymentError(f"the endpoint {name!r} is there already", hint=_shown(name))
    return _made(client, name, found, settings)


def ensure(client: MLClient, name: str, *, auth_mode: str | None = None) -> None:
    """Create an endpoint where there is none, and wait for one that is being created.

    Args:
        client: of the workspace.
        name: its name.
        auth_mode: of one that is created; None is `key`.

    Raises:
        ArgumentError, DeploymentError, ServiceError: see `create`; or the endpoint has another `auth_mode`.
    """
    found = find(client, name)
    if found is None or waiting.state(found) != "Succeeded":
        found = _made(client, name, found, {"auth_mode": auth_mode or "key"})
    if auth_mode is not None and _plain(found.auth_mode) != _plain(auth_mode):
        raise DeploymentError(
            f"the endpoint {name!r} lets callers in by {found.auth_mode}, not by {auth_mode}; that can't be changed",
            hint=f"leave out auth_mode, or delete the endpoint: aml-spark endpoint delete {name}",
        )


def facts(found: OnlineEndpoint) -> dict[str, Any]:
    """What is shown of an endpoint."""
    access = getattr(found, "public_network_access", None)
    return {
        "name": found.name,
        "provisioning_state": waiting.state(found),
        "auth_mode": found.auth_mode,
        "scoring_uri": found.scoring_uri,
        "traffic": dict(found.traffic or {}),
        "mirror_traffic": dict(found.mirror_traffic or {}),
        "public_network_access": waiting.text(access) or None,
        "description": found.description,
        "tags": dict(found.tags or {}),
    }


def update(client: MLClient, name: str, settings: Mapping[str, Any]) -> OnlineEndpoint:
    """Change an endpoint: what is named becomes as it is said, all else stays. What is under way is waited for.

    Raises:
        ServiceError: there is none, or Azure refuses it.
        DeploymentError: it fails.
    """
    found = rested(client, name)
    for key, value in settings.items():
        setattr(found, key, value)
    return _put(client, found, f"update the endpoint {name!r}")


def rested(client: MLClient, name: str) -> OnlineEndpoint:
    """An endpoint as it is when what is under way on it has ended.

    Raises:
        ServiceError: there is none; says which there are.
    """
    found = get(client, name)
    if waiting.state(found) in waiting.UNDER_WAY:
        waiting.rested(lambda: find(client, name), f"wait for the endpoint {name!r}")
        found = get(client, name)
    return found


def delete(client: MLClient, name: str) -> None:
    """Delete an endpoint with its deployments; nothing where there is none.

    Raises:
        ServiceError: Azure refuses it.
    """
    waiting.deleted(
        lambda: client.online_endpoints.begin_delete(name),
        lambda: find(client, name),
        doing=f"delete the endpoint {name!r}",
        shown=_shown(name),
    )


def _made(client: MLClient, name: str, found: OnlineEndpoint | None, settings: Mapping[str, Any]) -> OnlineEndpoint:
    """Create an endpoint that isn't there or failed; wait for one that is under way."""
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    check_name(name, "endpoint")
    doing = f"create the endpoint {name!r}"
    if waiting.state(found) in waiting.UNDER_WAY:
        return waiting.followed(lambda: find(client, name), doing=doing, shown=_shown(name))  # type: ignore[no-any-return]
    return _put(client, ManagedOnlineEndpoint(name=name, **{"auth_mode": "key", **settings}), doing)


def _put(client: MLClient, wanted: OnlineEndpoint, doing: str) -> OnlineEndpoint:
    name = str(wanted.name)
    return waiting.done(  # type: ignore[no-any-return]
        client.online_endpoints.begin_create_or_update,
        wanted,
        lambda: find(client, name),
        doing=doing,
        shown=_shown(name),
    )


def _plain(mode: object) -> str:
    return str(mode).replace("_", "").lower()


def _shown(name: str) -> str:
    return f"aml-spark endpoint show {name}"
