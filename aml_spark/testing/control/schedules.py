"""The schedules of the workspace: monitors and others, kept as they were sent.

Nothing is started by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask

from aml_spark.testing.artifacts import failure
from aml_spark.testing.control.endpoints import Refused, Resources, blueprint, missing
from aml_spark.testing.control.operations import Operations
from aml_spark.testing.control.records import shown
from aml_spark.testing.control.storage import Storage, UnknownPlaceError

KIND = "schedules"
_TYPE = f"Microsoft.MachineLearningServices/workspaces/{KIND}"
_NAME = re.compile(r"[A-Za-z0-9][\w-]{0,254}")
_FREQUENCIES = ("minute", "hour", "day", "week", "month")
_SIZES = tuple(f"standard_e{cores}s_v3" for cores in (4, 8, 16, 32, 64))
_CRON_FIELDS = 5
_HIDDEN = {"DisabledOnly": True, "EnabledOnly": False}


class Schedules:
    """The schedules of one workspace.

    Args:
        folder: gets `schedules.json`.
        workspace: the workspace's ARM path.
        operations: makes and deletes them.
        storage: knows the data that a monitor looks at.
    """

    def __init__(self, folder: Path, workspace: str, operations: Operations, storage: Storage) -> None:
        self._workspace, self._root, self._storage = workspace, f"{workspace}/{KIND}", storage
        self._resources = Resources(folder / f"{KIND}.json", self._root, operations)

    def routes(self) -> flask.Blueprint:
        """List, get, create or change, and delete."""
        routes = blueprint(KIND)
        one = f"{self._root}/<name>"

        @routes.get(self._root)
        def listed() -> Any:
            hidden = _HIDDEN.get(flask.request.args.get("listViewType", "EnabledOnly"))
            everything = self._resources.records.all().items()
            return {"value": [self._shown(name) for name, known in everything if _enabled(known) is not hidden]}

        @routes.get(one)
        def get(name: str) -> Any:
            return self._shown(name)

        @routes.put(one)
        def put(name: str) -> Any:
            given = flask.request.get_json()["properties"]
            if not _NAME.fullmatch(name):
                raise _invalid(
                    f"The name '{name}' of the schedule is invalid. It may have letters, digits, '-' and '_', starts "
                    "with a letter or digit, and has at most 255 characters."
                )
            self._check(given)
            show = lambda: self._shown(name)  # noqa: E731
            return self._resources.begin(name, lambda: None, known={"properties": given}, show=show)

        @routes.delete(one)
        def delete(name: str) -> Any:
            if self._resources.records.get(name) is None:
                return "", 204
            return self._resources.begin(name, lambda: self._resources.records.pop(name), doing="Deleting")

        return routes

    def _check(self, given: dict[str, Any]) -> None:
        """Raise for what Azure doesn't take."""
        _check_trigger(given.get("trigger") or {})
        if given["action"]["actionType"] != "CreateMonitor":
            return
        asked = given["action"]["monitorDefinition"]
        size = str((asked.get("computeConfiguration") or {}).get("instanceType"))
        if size.lower() not in _SIZES:
            raise _invalid(f"The instance type '{size}' is not supported. Supported are {', '.join(_SIZES)}.")
        alert = asked.get("alertNotificationSetting") or {}
        if alert.get("alertNotificationType") == "Email" and not alert["emailNotificationSetting"].get("emails"):
            raise _invalid("$\"The value for '.emails' is missing.\"")
        if not asked.get("signals"):
            raise _invalid("$\"The value for '.signals' is missing.\"")
        for name, signal in asked["signals"].items():
            for uri in _uris(signal):
                try:
                    self._storage.place(uri)
                except UnknownPlaceError as error:
                    raise _invalid(f"The data of the signal '{name}' can't be resolved. {error}") from None

    def _shown(self, name: str) -> dict[str, Any]:
        known = self._resources.records.get(name)
        if known is None:
            raise missing(KIND, self._workspace, name)
        properties = {**known["properties"], "isEnabled": _enabled(known), "provisioningState": known["state"]}
        return shown(f"{self._root}/{name}", _TYPE, properties)


def _enabled(known: dict[str, Any]) -> bool:
    return known["properties"].get("isEnabled") is not False


def _check_trigger(trigger: dict[str, Any]) -> None:
    if trigger.get("triggerType") == "Cron":
        if len(str(trigger.get("expression")).split()) != _CRON_FIELDS:
            raise _invalid(f"The cron expression '{trigger.get('expression')}' is invalid.")
        return
    if str(trigger.get("frequency")).lower() not in _FREQUENCIES:
        raise _invalid(f"The frequency '{trigger.get('frequency')}' of the trigger is not supported.")
    if not isinstance(trigger.get("interval"), int) or trigger["interval"] < 1:
        raise _invalid(f"The interval '{trigger.get('interval')}' of the trigger must be at least 1.")


def _uris(signal: dict[str, Any]) -> Iterator[str]:
    """Of the data of a signal: performance has a list of it."""
    for key in ("productionData", "referenceData"):
        data = signal.get(key) or []
        yield from (one["uri"] for one in (data if isinstance(data, list) else [data]))


def _invalid(told: str) -> Refused:
    return Refused(failure(400, "UserError", told))
