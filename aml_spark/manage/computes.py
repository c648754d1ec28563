"""The workspace's computes: made, started, stopped and deleted, each waited for, and listed with what is attached."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aml_spark import control
from aml_spark.errors import ServiceError
from aml_spark.manage.words import CONFLICT, apart, goes_on, told
from aml_spark.progress import waiting
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Compute
    from azure.core.exceptions import HttpResponseError
    from azure.core.polling import LROPoller

_EVERY_SECONDS = 2.0  # that a compute which somebody else makes is asked after
_UNDER_WAY = ("Creating", "Updating")
_BEGUN = ("Succeeded", *_UNDER_WAY)
_NEW: dict[str, Any] = {  # where nothing else is said
    "size": "STANDARD_DS3_V2",
    "min_instances": 0,
    "max_instances": 4,
    "idle_time_before_scale_down": 120,
    "tier": "dedicated",
}
_OWN = ("amlcompute", "computeinstance")  # the rest is attached: it is there without the workspace


def listed(workspace: Workspace | None = None) -> list[Compute]:
    """All of them, those that are attached, such as Databricks and Synapse, among them.

    Args:
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: Azure refuses.
    """
    client = control.client(workspace)
    with control.own_words("list the computes"):
        return list(client.compute.list())


def get(name: str, workspace: Workspace | None = None) -> Compute:
    """One of them.

    Args:
        name: its name.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: there is no such compute; says which there are.
    """
    client = control.client(workspace)
    with _told("show", client, name):
        found: Compute = client.compute.get(name)
        return found


def kind(of: Compute) -> str:
    """What it is: `amlcompute`, `computeinstance`, `databricks`, `synapsespark`, `kubernetes` or another of Azure's.

    azure-ai-ml has no class for some that are attached; what those are says the resource behind them.
    """
    if "unsupported" not in str(of.type).lower():
        return str(of.type).lower()
    provider = str(of.resource_id or "").lower().rpartition("/providers/microsoft.")[2].partition("/")[0]
    return provider or "other"


def facts(of: Compute) -> dict[str, Any]:
    """What a table or a script tells of one: the same names for each kind, and None for what it doesn't have."""
    plain = vars(of)
    state = _state(of)
    idle = plain.get("idle_time_before_scale_down")
    nodes = plain.get("node_count")  # of Synapse
    if "min_instances" in plain:
        nodes = f"{plain['min_instances']}-{plain['max_instances']}"
    elif (scales := plain.get("scale_settings")) is not None and scales.enabled:
        nodes = f"{scales.min_node_count}-{scales.max_node_count}"
    return {
        "name": of.name,
        "kind": kind(of),
        "size": plain.get("size") or plain.get("node_size"),
        "nodes": None if nodes is None else str(nodes),
        "state": getattr(of, "state", None) or state if state == "Succeeded" else state,
        "tier": plain.get("tier"),
        "idle_seconds": None if idle is None else int(idle),
        "errors": of.provisioning_errors,
        "resource_id": of.resource_id,
    }


def create(
    name: str,
    *,
    size: str | None = None,
    min_instances: int | None = None,
    max_instances: int | None = None,
    idle_seconds: int | None = None,
    tier: str | None = None,
    wait: bool = True,
    workspace: Workspace | None = None,
) -> Compute:
    """Make a cluster that grows and shrinks with its jobs (AmlCompute), and wait until it is there.

    To call it again with the same arguments is safe: it gives the cluster that is there, waits for one that is being
    made, and makes one anew whose making failed. Ctrl-C, too, leaves Azure making it.

    What is None isn't asked of a cluster that is there; a new one gets the default.

    Args:
        name: letters, digits and `-`, starting with a letter.
        size: of each machine, in Azure's name; by default `STANDARD_DS3_V2`.
        min_instances: machines that always run, and cost; by default 0.
        max_instances: the most; by default 4.
        idle_seconds: without a job after which a machine is given back; by default 120.
        tier: `dedicated`, the default, or `low_priority`: cheaper, and may be taken away in the middle of a job.
        wait: False gives the cluster as it is while Azure makes it.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: there is one of that name which is another, and says in what; or Azure refuses or fails, such as
            where the quota is used up, in its own words.
    """
    from azure.ai.ml.entities import AmlCompute
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

    options = {
        "size": size,
        "min_instances": min_instances,
        "max_instances": max_instances,
        "idle_time_before_scale_down": idle_seconds,
        "tier": tier,
    }
    given: dict[str, Any] = {field: value for field, value in options.items() if value is not None}
    asked = AmlCompute(name=name, **{**_NEW, **given})
    client = control.client(workspace)
    with told(f"create the compute {name!r}", "compute", name):
        try:
            found: Compute | None = client.compute.get(name)
        except ResourceNotFoundError:
            found = None
        if found is not None and found.provisioning_state not in _BEGUN:
            found = None  # making it failed, and what is left of it may be made again
        elif found is not None and (differing := _differing(found, given)):
            raise ServiceError(
                f"there is a compute {name!r} already, and it is another: {differing}",
                hint=f"give it another name, or aml-spark compute delete {name}",
                status=CONFLICT,
            )
        with goes_on(f"create compute {name}", "compute", name):
            if found is None:
                try:
                    _ended(lambda: client.compute.begin_create_or_update(asked), f"create compute {name}", wait=wait)
                except HttpResponseError as error:
                    if error.status_code != CONFLICT:
                        raise
                    # Where the answer was lost, Azure's client has sent it again, and met what it began itself.
                    found = apart(lambda: client.compute.get(name))
                    if found.provisioning_state not in _BEGUN or _differing(found, given):
                        raise
                else:
                    found = get(name, workspace)
            return _settled(client, found) if wait else found


def start(name: str, *, wait: bool = True, workspace: Workspace | None = None) -> Compute:
    """Start a compute instance, and wait until it runs.

    Args:
        name: of an instance; a cluster starts and stops by itself.
        wait: False gives it as it is while it starts.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: there is no such compute, or Azure refuses.
    """
    return _changed("start", name, lambda client: client.compute.begin_start(name), workspace, wait=wait)


def stop(name: str, *, wait: bool = True, workspace: Workspace | None = None) -> Compute:
    """Stop a compute instance, and wait until it stands. See `start`."""
    return _changed("stop", name, lambda client: client.compute.begin_stop(name), workspace, wait=wait)


def delete(name: str, *, wait: bool = True, workspace: Workspace | None = None) -> None:
    """Delete a cluster or instance, and wait until it is gone; what is attached is detached and goes on living.

    Args:
        name: its name.
        wait: False comes back while Azure deletes it.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: there is no such compute, or Azure refuses.
    """
    from azure.core.exceptions import HttpResponseError

    client = control.client(workspace)
    with _told("delete", client, name):
        action = "Delete" if kind(client.compute.get(name)) in _OWN else "Detach"
        title = f"{action.lower()} compute {name}"
        with goes_on(title, "compute", name):
            try:
                _ended(lambda: client.compute.begin_delete(name, action=action), title, wait=wait)
            except HttpResponseError as error:
                if error.status_code != CONFLICT:
                    raise
                _gone(client, name, title, error, wait=wait)


def _changed(
    what: str,
    name: str,
    begin: Callable[[MLClient], LROPoller[None]],
    workspace: Workspace | None,
    *,
    wait: bool,
) -> Compute:
    client = control.client(workspace)
    with _told(what, client, name), goes_on(f"{what} compute {name}", "compute", name):
        _ended(lambda: begin(client), f"{what} compute {name}", wait=wait)
    return get(name, workspace)


def _told(what: str, client: MLClient, name: str) -> contextlib.AbstractContextManager[None]:
    def names() -> list[str | None]:
        return [one.name for one in client.compute.list()]

    return told(f"{what} the compute {name!r}", "compute", name, known=names)


def _ended(begin: Callable[[], LROPoller[Any]], title: str, *, wait: bool) -> None:
    poller = apart(begin)
    if wait:
        control.finished(poller, title)


def _settled(client: MLClient, found: Compute) -> Compute:
    """Wait for a compute that was begun before."""
    start, name = time.monotonic(), str(found.name)
    with waiting(f"create compute {name}") as show:
        while found.provisioning_state in _UNDER_WAY:
            show(f"{_state(found)}, {time.monotonic() - start:.0f} s")
            time.sleep(_EVERY_SECONDS)
            found = apart(lambda: client.compute.get(name))
    if found.provisioning_state != "Succeeded":
        raise ServiceError(
            f"can't create the compute {found.name!r}: {found.provisioning_errors or _state(found)}",
            hint="create it again",
        )
    return found


def _gone(client: MLClient, name: str, title: str, conflict: HttpResponseError, *, wait: bool) -> None:
    """Wait until a compute is gone whose deletion was begun before; where it wasn't, raise what Azure said."""
    from azure.core.exceptions import ResourceNotFoundError

    start = time.monotonic()
    with waiting(title) as show, contextlib.suppress(ResourceNotFoundError):
        while True:
            found = apart(lambda: client.compute.get(name))
            if found.provisioning_state != "Deleting":
                raise conflict
            if not wait:
                return
            show(f"{_state(found)}, {time.monotonic() - start:.0f} s")
            time.sleep(_EVERY_SECONDS)


def _differing(found: Compute, given: Mapping[str, Any]) -> str:
    """In what it isn't as given, as text; empty where it is."""
    if kind(found) != "amlcompute":
        return f"its kind is {kind(found)}; asked for is amlcompute"
    pairs = [(field, getattr(found, field), wanted) for field, wanted in given.items()]
    return ", ".join(
        f"its {field} is {has}; asked for is {wanted}" for field, has, wanted in pairs if _plain(has) != _plain(wanted)
    )


def _state(of: Compute) -> str:
    """How far its making is: also where that is one of Azure's constants, as text."""
    return str(getattr(of.provisioning_state, "value", of.provisioning_state))


def _plain(value: Any) -> Any:
    return value.lower().replace("_", "") if isinstance(value, str) else value
