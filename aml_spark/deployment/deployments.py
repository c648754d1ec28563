"""Deployments of online endpoints, through azure-ai-ml."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aml_spark.control import goes_on, own_words
from aml_spark.deployment import endpoints, waiting
from aml_spark.deployment.config import check_name
from aml_spark.deployment.registered import Registered
from aml_spark.errors import AmlSparkError, ArgumentError, DeploymentError, ServiceError, did_you_mean, listed

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import ManagedOnlineDeployment, OnlineEndpoint

CONTAINERS = ("inference-server", "storage-initializer")
_DEFAULTS = {"instance_type": "Standard_DS3_v2", "instance_count": 1}
_OF_ENDPOINT = ("traffic", "mirror_traffic", "endpoint_name", "auth_mode")
_LINES = 30


def find(client: MLClient, endpoint: str, name: str) -> ManagedOnlineDeployment | None:
    """A deployment; None where there is none."""
    with own_words(f"look at the deployment {name!r} of {endpoint!r}"):
        return waiting.found(lambda: client.online_deployments.get(name, endpoint))  # type: ignore[no-any-return]


def get(client: MLClient, endpoint: str, name: str) -> ManagedOnlineDeployment:
    """A deployment.

    Raises:
        ServiceError: there is none; says which there are.
    """
    found = find(client, endpoint, name)
    if found is None:
        endpoints.get(client, endpoint)
        names = [str(one.name) for one in all_of(client, endpoint)]
        raise ServiceError(
            f"the endpoint {endpoint!r} has no deployment {name!r}; it has {listed(names)}",
            hint=did_you_mean(name, names) or _shown(endpoint),
            status=404,
        )
    return found


def all_of(client: MLClient, endpoint: str) -> list[ManagedOnlineDeployment]:
    """An endpoint's deployments."""
    with own_words(f"list the deployments of {endpoint!r}"):
        return list(client.online_deployments.list(endpoint))


def create(
    client: MLClient,
    endpoint: str,
    name: str,
    model: Registered,
    settings: Mapping[str, Any],
    *,
    with_endpoint: bool = False,
) -> ManagedOnlineDeployment:
    """Deploy a model; a deployment of it under that name which is being created is waited for.

    The first deployment of an endpoint gets all of its traffic, later ones none, unless the settings say so. One that
    failed is made anew; where one is there, but not yet its traffic, it gets that. Ctrl-C says what Azure goes on with.

    Args:
        client: of the workspace.
        endpoint: its endpoint.
        name: the deployment's name.
        model: what is deployed.
        settings: see `config.DEPLOYMENT`.
        with_endpoint: create the endpoint where it isn't there.

    Raises:
        ArgumentError: Azure takes no such name.
        DeploymentError: it is there already, or fails; with the last lines of its container.
        ServiceError: there is no such endpoint, or Azure refuses it.
    """
    check_name(name, "deployment")
    there = endpoints.find(client, endpoint) if with_endpoint else endpoints.get(client, endpoint)
    doing, deleted = f"create the deployment {name!r} of {endpoint!r}", f"aml-spark endpoint delete {endpoint}"
    if there is not None:  # with others on it, perhaps
        deleted += f" --deployment {name}"
    with goes_on(doing, _shown(endpoint), deleted=deleted):
        if with_endpoint:
            endpoints.ensure(client, endpoint, auth_mode=settings.get("auth_mode"))
        _deploy(client, endpoint, name, model, settings, doing)
        if routes := _missing(client, endpoint, name, settings):
            endpoints.update(client, endpoint, routes)
        return get(client, endpoint, name)


def update(
    client: MLClient, endpoint: str, name: str, model: Registered | None, settings: Mapping[str, Any]
) -> ManagedOnlineDeployment:
    """Change a deployment: what is named becomes as it is said, all else stays. What is under way is waited for.

    Args:
        client: of the workspace.
        endpoint: its endpoint.
        name: its name.
        model: what is deployed from now on; None leaves that.
        settings: see `config.DEPLOYMENT`.

    Raises:
        ArgumentError: the settings have an `auth_mode`.
        ServiceError: there is none, or Azure refuses it.
        DeploymentError: it fails; with the last lines of its container.
    """
    if "auth_mode" in settings:
        raise ArgumentError("auth_mode is the endpoint's and is chosen when that is created")
    found = get(client, endpoint, name)
    if waiting.state(found) in waiting.UNDER_WAY:
        waiting.rested(lambda: find(client, endpoint, name), f"wait for the deployment {name!r} of {endpoint!r}")
        found = get(client, endpoint, name)
    if model is not None or set(settings) - set(_OF_ENDPOINT):
        endpoints.rested(client, endpoint)
        _name_collected_data(found)
        if model is not None:
            found.model = model.azure_id
        _set(found, settings)
        _put(client, found, f"update the deployment {name!r} of {endpoint!r}")
    if routes := _routes(settings):
        endpoints.update(client, endpoint, routes)
    return get(client, endpoint, name)


def delete(client: MLClient, endpoint: str, name: str) -> None:
    """Delete a deployment; nothing where there is none.

    Raises:
        ServiceError: Azure refuses it, as it does for one that has traffic; says how that goes to the others.
    """
    try:
        waiting.deleted(
            lambda: client.online_deployments.begin_delete(name, endpoint),
            lambda: find(client, endpoint, name),
            doing=f"delete the deployment {name!r} of {endpoint!r}",
            shown=_shown(endpoint),
        )
    except ServiceError as error:
        hint = error.hint
        with contextlib.suppress(AmlSparkError):
            hint = _without_traffic(client, endpoint, name) or hint
        raise ServiceError(error.message, hint=hint, status=error.status) from None


def facts(found: ManagedOnlineDeployment, endpoint: OnlineEndpoint) -> dict[str, Any]:
    """What is shown of a deployment: of its environment variables the names, as there may be secrets in them."""
    collections = found.data_collector.collections if found.data_collector else {}
    return {
        "name": found.name,
        "endpoint": endpoint.name,
        "flavor": "python_function",
        "model": found.model,
        "provisioning_state": waiting.state(found),
        "instance_type": found.instance_type,
        "instance_count": found.instance_count,
        "traffic": (endpoint.traffic or {}).get(found.name, 0),
        "mirror_traffic": (endpoint.mirror_traffic or {}).get(found.name, 0),
        "scoring_uri": endpoint.scoring_uri,
        "environment_variables": sorted(found.environment_variables or {}),
        "data_collector": sorted(name for name, one in collections.items() if str(one.enabled).lower() == "true"),
        "tags": dict(found.tags or {}),
    }


def logs(client: MLClient, endpoint: str, name: str, *, lines: int = 100, container: str = CONTAINERS[0]) -> str:
    """The last lines that a deployment's container said.

    Args:
        client: of the workspace.
        endpoint: its endpoint.
        name: its name.
        lines: how many.
        container: `inference-server`, or `storage-initializer`, which fetches the model before that starts.

    Raises:
        ServiceError: there is no such deployment, or it has no container.
    """
    get(client, endpoint, name)
    with own_words(f"show the logs of {name!r}"):
        return str(client.online_deployments.get_logs(name, endpoint, lines, container_type=container))


def _deploy(
    client: MLClient, endpoint: str, name: str, model: Registered, settings: Mapping[str, Any], doing: str
) -> None:
    """Create a deployment, or wait for it; one that is there will do where its traffic is left to do."""
    from azure.ai.ml.entities import ManagedOnlineDeployment

    found = find(client, endpoint, name)
    if waiting.state(found) in waiting.UNDER_WAY:
        if not model.is_in(found and found.model):
            raise DeploymentError(
                f"the deployment {name!r} of {endpoint!r} is {waiting.state(found).lower()}, with another model",
                hint=f"wait for its end: {_shown(endpoint)}",
            )
        with _with_logs(client, endpoint, name):
            waiting.followed(lambda: find(client, endpoint, name), doing=doing, shown=_shown(endpoint))
    elif waiting.state(found) == "Succeeded":
        # Its traffic may be what a call before left out, or is about.
        begun = waiting.state(endpoints.get(client, endpoint)) in waiting.UNDER_WAY
        if not model.is_in(found and found.model) or not (_missing(client, endpoint, name, settings) or begun):
            raise DeploymentError(
                f"the endpoint {endpoint!r} has a deployment {name!r} already",
                hint=f"mlflow deployments update -t aml-spark --endpoint {endpoint} --name {name} -m {model.uri}",
            )
    else:
        wanted = ManagedOnlineDeployment(name=name, endpoint_name=endpoint, model=model.azure_id)
        _set(wanted, {**_DEFAULTS, **settings})
        _put(client, wanted, doing)


def _put(client: MLClient, wanted: ManagedOnlineDeployment, doing: str) -> None:
    endpoint, name = str(wanted.endpoint_name), str(wanted.name)
    with _with_logs(client, endpoint, name):
        waiting.done(
            client.online_deployments.begin_create_or_update,
            wanted,
            lambda: find(client, endpoint, name),
            doing=doing,
            shown=_shown(endpoint),
        )


def _set(deployment: ManagedOnlineDeployment, settings: Mapping[str, Any]) -> None:
    from azure.ai.ml.entities import (
        DataCollector,
        DeploymentCollection,
        OnlineRequestSettings,
        ProbeSettings,
        RequestLogging,
    )

    make = {
        "request_settings": OnlineRequestSettings,
        "liveness_probe": ProbeSettings,
        "readiness_probe": ProbeSettings,
    }
    for key, value in settings.items():
        if key in _OF_ENDPOINT:
            continue
        if key == "data_collector":
            collector = dict(value)
            logging = collector.pop("request_logging", None)
            collections = {name: DeploymentCollection(**one) for name, one in collector.pop("collections").items()}
            collector["request_logging"] = RequestLogging(**logging) if logging else None
            deployment.data_collector = DataCollector(collections, **collector)
        else:
            setattr(deployment, key, make[key](**value) if key in make else value)


def _name_collected_data(found: ManagedOnlineDeployment) -> None:
    """Have a deployment's collected data named as Azure's client wants them in what it sends: it gets them as ids."""
    from azure.ai.ml.entities import DataAsset

    for one in found.data_collector.collections.values() if found.data_collector else ():
        if isinstance(one.data, str) and (named := re.search(r"/data/([^/]+)/versions/([^/]+)$", one.data)):
            data: Any = {"name": named[1], "version": named[2]}
            one.data = DataAsset(**data)


def _routes(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: settings[key] for key in ("traffic", "mirror_traffic") if key in settings}


def _missing(client: MLClient, endpoint: str, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What an endpoint's traffic isn't yet for a deployment: as the settings say, else all for its first."""
    found = endpoints.rested(client, endpoint)
    routes = {key: value for key, value in _routes(settings).items() if _shares(value) != _shares(getattr(found, key))}
    if "traffic" not in settings and not _shares(found.traffic):
        routes["traffic"] = {name: 100}
    return routes


def _without_traffic(client: MLClient, endpoint: str, name: str) -> str | None:
    """How a deployment gives up its traffic: to the one of the others that has the most."""
    traffic = endpoints.get(client, endpoint).traffic or {}
    if not traffic.get(name):
        return None
    others = {str(one.name): traffic.get(str(one.name), 0) for one in all_of(client, endpoint) if one.name != name}
    if not others:
        return f"it is the endpoint's only deployment; to delete both: aml-spark endpoint delete {endpoint}"
    most = max(others, key=others.__getitem__)
    shares = _shares({**others, most: 100 - sum(others.values()) + others[most]})
    return f"give up its traffic first: aml-spark endpoint update {endpoint} -C traffic='{json.dumps(shares)}'"


def _shares(traffic: Mapping[str, int] | None) -> dict[str, int]:
    return {name: percent for name, percent in (traffic or {}).items() if percent}


@contextlib.contextmanager
def _with_logs(client: MLClient, endpoint: str, name: str) -> Iterator[None]:
    """Have a failed deployment tell the last lines of its containers."""
    try:
        yield
    except DeploymentError as error:
        said = ""
        for container in CONTAINERS:
            with contextlib.suppress(AmlSparkError):
                text = logs(client, endpoint, name, lines=_LINES, container=container).strip()
                said += f"\nThe last lines of {container}:\n" + "\n".join(text.splitlines()[-_LINES:]) if text else ""
        raise DeploymentError(
            f"{error.message}{said}", hint=f"aml-spark endpoint logs {endpoint} --deployment {name}"
        ) from None


def _shown(endpoint: str) -> str:
    return f"aml-spark endpoint show {endpoint}"
