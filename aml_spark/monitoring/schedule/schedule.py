"""Monitors of an Azure Machine Learning workspace, which Azure runs on a schedule: made of `conf/monitor.toml`.

Azure's own components count in them, by the definitions that `monitor(compat="azureml")` has, too. What Azure would
refuse, or would take and fail at in each run, is refused before anything is sent.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aml_spark import control
from aml_spark.errors import ArgumentError, ServiceError, did_you_mean, listed as named
from aml_spark.monitoring.schedule import config as files, signals
from aml_spark.monitoring.schedule.config import MonitorConfig
from aml_spark.monitoring.schedule.production import Production
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import MonitorSchedule

_logger = logging.getLogger(__name__)
_NOT_FOUND, _CONFLICT = 404, 409
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# Name, least and greatest number, and words of each field of a cron expression.
_CRON: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)


def create_monitor(
    config: MonitorConfig | str | os.PathLike[str], *, workspace: Workspace | None = None, wait: bool = True
) -> MonitorSchedule:
    """Make a monitor in the workspace, or change the one of that name, and wait until it is there.

    Args:
        config: what it looks at, when, and who is told: a file such as `conf/monitor.toml`, or one that was read.
            Of `[thresholds]` it takes what Azure has; a warning says what it leaves out. Where there is none, Azure's
            own stand: 0.1 for the distances, 0 for the rates.
        workspace: None takes the one that MLflow is configured for.
        wait: False gives it as it is while Azure makes it.

    Raises:
        ArgumentError: something is missing in the file, or Azure can't have it like that; says what to type.
        DataLakeError: data that it names isn't there.
        ServiceError: a deployment or data asset that it names isn't there, or Azure refuses, in its own words.
    """
    asked = config if isinstance(config, MonitorConfig) else files.read(config)
    schedule = _part(asked, "schedule", '[schedule] with name = "flights" and frequency = "day"')
    alert = _part(asked, "alert", '[alert] with emails = ["models@example.com"]')
    _part(
        asked, "azure", '[azure] with deployment = "<endpoint>/<deployment>", or [azure.inputs] with data = "azureml:…"'
    )
    _check_trigger(asked.file, schedule)
    wanted = signals.wanted(asked)
    client, name = control.client(workspace), str(schedule["name"])
    production = Production.of(asked, wanted.kinds, client, workspace)
    if wanted.left_out:
        told = "The monitor %r of the workspace goes without %s: Azure has nothing like it, or not in these signals"
        _logger.warning(told, name, named(wanted.left_out))
    doing, found = f"create the monitor {name!r}", _find(client, name)
    if found is not None and not hasattr(found, "create_monitor"):
        raise ServiceError(
            f"there is a schedule {name!r} already, which is no monitor",
            hint=f"another name in [schedule] of {asked.file}",
        )
    with _told(doing, client, name), control.goes_on(doing, _shown(name), deleted=_deleted(name)), _without_dots():
        poller = client.schedules.begin_create_or_update(_definition(schedule, alert, wanted, production))
        if wait:
            control.finished(poller, f"create monitor {name}")
    return show(name, workspace)


def show(name: str, workspace: Workspace | None = None) -> MonitorSchedule:
    """One monitor.

    Args:
        name: its name.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: there is no such monitor; says which there are.
    """
    client = control.client(workspace)
    with _told(f"show the monitor {name!r}", client, name):
        found: Any = client.schedules.get(name)
    if not hasattr(found, "create_monitor"):
        raise _missing(client, name)
    monitor: MonitorSchedule = found
    return monitor


def listed(workspace: Workspace | None = None) -> list[MonitorSchedule]:
    """The workspace's monitors, also those that are disabled.

    Args:
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: Azure refuses.
    """
    client = control.client(workspace)
    with control.own_words("list the monitors"):
        return _monitors(client)


def delete(name: str, *, workspace: Workspace | None = None, wait: bool = True) -> None:
    """Delete a monitor, and wait until it is gone; what it found stays.

    Args:
        name: its name.
        workspace: None takes the one that MLflow is configured for.
        wait: False comes back while Azure deletes it.

    Raises:
        ServiceError: there is no such monitor; says which there are. Or Azure refuses.
    """
    show(name, workspace)  # Azure takes the deletion of what isn't there, and that of a job's schedule
    client, doing = control.client(workspace), f"delete the monitor {name!r}"
    with _told(doing, client, name), control.goes_on(doing, _shown(name)), _without_dots():
        poller = client.schedules.begin_delete(name)
        if wait:
            control.finished(poller, f"delete monitor {name}")


def facts(of: MonitorSchedule) -> dict[str, Any]:
    """What is shown of a monitor; None for what it doesn't have.

    Azure's client doesn't read every threshold that Azure keeps, so they aren't told.
    """
    monitor, trigger, created = of.create_monitor, of.trigger, of.creation_context
    target, alert = monitor.monitoring_target, monitor.alert_notification
    deployment = target and target.endpoint_deployment_id
    parts = str(deployment).split("/")
    when = None
    if trigger is not None:
        plain = vars(trigger)
        when = plain.get("expression") or f"every {plain.get('interval')} {plain.get('frequency')}".lower()
    return {
        "name": of.name,
        "description": of.description,
        "enabled": bool(of.is_enabled),
        "state": str(getattr(of.provisioning_state, "value", of.provisioning_state)),
        "when": when,
        "signals": sorted(monitor.monitoring_signals or {}),
        "deployment": f"{parts[-3]}/{parts[-1]}" if deployment and len(parts) > 2 else deployment,
        "emails": list(getattr(alert, "emails", None) or []),
        "instance_type": monitor.compute.instance_type,
        "runtime_version": monitor.compute.runtime_version,
        "created": f"{created.created_at:%Y-%m-%d %H:%M:%S}" if created and created.created_at else None,
        "id": of.id,
    }


def _part(config: MonitorConfig, name: str, form: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] | None = getattr(config, name)
    if found is None:
        raise ArgumentError(f"{config.file!r} has no [{name}], which a workspace's monitor needs", hint=form)
    return found


def _definition(
    schedule: Mapping[str, Any], alert: Mapping[str, Any], wanted: signals.Wanted, production: Production
) -> MonitorSchedule:
    from azure.ai.ml.entities import (
        AlertNotification,
        CronTrigger,
        MonitorDefinition,
        MonitoringTarget,
        MonitorSchedule,
        RecurrenceTrigger,
        ServerlessSparkCompute,
    )

    when: dict[str, Any] = {
        key: schedule[of] for key, of in (("start_time", "start"), ("time_zone", "time_zone")) if of in schedule
    }
    trigger: Any = (
        CronTrigger(expression=schedule["cron"], **when)
        if "cron" in schedule
        else RecurrenceTrigger(frequency=schedule["frequency"], interval=schedule.get("interval", 1), **when)
    )
    compute = ServerlessSparkCompute(
        instance_type=schedule.get("instance_type", "standard_e4s_v3").lower(),
        runtime_version=schedule.get("runtime_version") or _runtime(),
    )
    target = MonitoringTarget(
        ml_task=wanted.task.capitalize(),
        endpoint_deployment_id=production.deployment and f"azureml:{production.deployment.replace('/', ':')}",
    )
    definition = MonitorDefinition(
        compute=compute,
        monitoring_target=target,
        monitoring_signals=signals.made(wanted, production),
        alert_notification=AlertNotification(emails=list(alert["emails"])),
    )
    return MonitorSchedule(
        name=schedule["name"],
        trigger=trigger,
        create_monitor=definition,
        description=schedule.get("description"),
        tags={},
    )


def _runtime() -> str:
    """The oldest version of Spark that azure-ai-ml takes; it has no public name for them."""
    from azure.ai.ml.entities._monitoring import compute

    return str(compute._SUPPORTED_RUNTIME_VERSIONS[0])


def _check_trigger(file: str, schedule: Mapping[str, Any]) -> None:
    """Raise where it isn't one of both: every so many days, or a cron expression."""
    where = f"[schedule] of {file!r}"
    if ("cron" in schedule) == ("frequency" in schedule):
        said = "both `frequency` and `cron`" if "cron" in schedule else "neither `frequency` nor `cron`"
        raise ArgumentError(f"{where} has {said}; expected one of them", hint='frequency = "day"')
    if "cron" in schedule and "interval" in schedule:
        raise ArgumentError(
            f"{where} has `interval`, which goes with `frequency`, not with `cron`", hint="leave it out"
        )
    if "cron" in schedule and (wrong := _unclear(schedule["cron"])):
        raise ArgumentError(
            f"{where}: `cron` is {schedule['cron']!r}; {wrong}",
            hint='cron = "15 6 * * mon": minute hour day month weekday',
        )
    try:
        dt.datetime.fromisoformat(re.sub("[zZ]$", "+00:00", schedule.get("start", "2000-01-01")))
    except ValueError:
        raise ArgumentError(
            f"{where}: `start` is {schedule['start']!r}, which is no time", hint="start = 2026-12-01T06:00:00"
        ) from None
    if zone := schedule.get("time_zone"):
        from azure.ai.ml.constants import TimeZone

        zones = [one.value for one in TimeZone]
        if zone not in zones:
            raise ArgumentError(
                f"{where}: `time_zone` is {zone!r}, which Azure doesn't know; it has {named(zones, most=3)}",
                hint=did_you_mean(zone, zones) or 'time_zone = "UTC"',
            )


def _unclear(expression: str) -> str | None:
    """What is wrong with a cron expression, or None."""
    parts = expression.lower().split()
    if len(parts) != len(_CRON):
        return f"expected {len(_CRON)} fields, not {len(parts)}"
    for text, (name, least, most, words) in zip(parts, _CRON, strict=True):
        for item in text.split(","):
            found = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?", item)
            ends = [end for end in found.groups()[:2] if end] if found else []
            numbers = [words.index(end) + least if end in words else int(end) for end in ends if _is_one(end, words)]
            fits = all(least <= number <= most for number in numbers) and numbers == sorted(numbers)
            if found is None or len(numbers) < len(ends) or not fits or found[3] == "0":
                return f"its {name} is {text!r}, expected numbers from {least} to {most}"
    return None


def _is_one(end: str, words: tuple[str, ...]) -> bool:
    return end in words or (end.isascii() and end.isdecimal())


def _find(client: MLClient, name: str) -> Any:
    from azure.core.exceptions import ResourceNotFoundError

    with control.own_words(f"look for the monitor {name!r}"):
        try:
            return client.schedules.get(name)
        except ResourceNotFoundError:
            return None


def _monitors(client: MLClient) -> list[MonitorSchedule]:
    view: Any = "All"
    # What azure-ai-ml can't read it prints, where a command's own output goes.
    with contextlib.redirect_stdout(sys.stderr):
        everything: list[Any] = list(client.schedules.list(list_view_type=view))
    return [one for one in everything if hasattr(one, "create_monitor")]


def _without_dots() -> contextlib.AbstractContextManager[Any]:
    """Without what azure-ai-ml prints for each poll, where a command's own output goes."""
    return contextlib.redirect_stdout(io.StringIO())


@contextlib.contextmanager
def _told(doing: str, client: MLClient, name: str) -> Iterator[None]:
    try:
        with control.own_words(doing):
            yield
    except ServiceError as error:
        if error.status == _NOT_FOUND:
            raise _missing(client, name) from None
        hint = error.hint or (f"try again when it has ended; {_shown(name)}" if error.status == _CONFLICT else None)
        raise ServiceError(error.message, hint=hint, status=error.status) from None


def _missing(client: MLClient, name: str) -> ServiceError:
    with control.own_words("list the monitors"):
        names = sorted(str(one.name) for one in _monitors(client))
    return ServiceError(
        f"the workspace has no monitor {name!r}; it has {named(names)}",
        hint=did_you_mean(name, names) or "aml-spark monitor-schedule list",
        status=_NOT_FOUND,
    )


def _shown(name: str) -> str:
    return f"aml-spark monitor-schedule show {name}"


def _deleted(name: str) -> str:
    return f"aml-spark monitor-schedule delete {name}"
