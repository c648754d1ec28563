"""The computes of the workspace: clusters and instances that are made by long operations, and what is attached.

No machine stands behind one. Jobs run as processes of this machine, whichever compute they name.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask

from aml_spark.testing.artifacts import failure
from aml_spark.testing.control.operations import Operations
from aml_spark.testing.control.records import Records, shown

_KIND = "Microsoft.MachineLearningServices/workspaces/computes"
_OF_WORKSPACE = ("AmlCompute", "ComputeInstance")  # deleted with their machines; others are only detached
_TYPES = (*_OF_WORKSPACE, "VirtualMachine", "Kubernetes", "Databricks", "SynapseSpark", "HDInsight", "DataFactory")
_BUSY = ("Creating", "Updating", "Deleting")
_STOPPED = {"code": "InternalServerError", "message": "The emulator was stopped during the operation."}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]")


class Computes:
    """The computes of one workspace.

    Args:
        folder: gets `computes.json`.
        workspace: the workspace's ARM path.
        operations: makes, starts, stops and deletes them.
    """

    def __init__(self, folder: Path, workspace: str, operations: Operations) -> None:
        self._records, self._operations = Records(folder / "computes.json"), operations
        self._root = f"{workspace}/computes"
        with self._records.changed() as everything:  # what an earlier emulator began has failed
            for known in everything.values():
                if known["properties"]["provisioningState"] in _BUSY:
                    known["properties"].update(provisioningState="Failed", provisioningErrors=[{"error": _STOPPED}])

    def has(self, name: str) -> bool:
        """Whether there is such a compute, ready for jobs."""
        known = self._records.get(name)
        return known is not None and known["properties"]["provisioningState"] == "Succeeded"

    def routes(self) -> flask.Blueprint:
        """List, get, create or attach, change, delete or detach, start, stop, restart, and the nodes of a cluster."""
        routes = flask.Blueprint("computes", __name__)
        root = self._root

        @routes.get(root)
        def listed() -> Any:
            return {"value": [self._shown(name) for name in self._records.all()]}

        @routes.get(f"{root}/<name>")
        def get(name: str) -> Any:
            return self._shown(name) if self._records.get(name) else self._missing(name)

        @routes.route(f"{root}/<name>", methods=["PUT", "PATCH"])
        def put(name: str) -> Any:
            asked = flask.request.get_json()
            old = self._records.get(name)
            if old is None and (flask.request.method == "PATCH" or not _NAME.fullmatch(name)):
                if flask.request.method == "PATCH":
                    return self._missing(name)
                told = (
                    "Compute name is invalid. It can include letters, digits and dashes. It must start with a letter, "
                    f"end with a letter or digit, and be between 3 and 32 characters in length. Name: {name}"
                )
                return failure(400, "BadArgument", told)
            return self._put(name, asked, old)

        @routes.delete(f"{root}/<name>")
        def delete(name: str) -> Any:
            if self._records.get(name) is None:
                return "", 204
            return self._changed(name, "Deleting", lambda: self._records.pop(name) and None)

        @routes.post(f"{root}/<name>/<any(start,stop,restart):action>")
        def turn(name: str, action: str) -> Any:
            known = self._records.get(name)
            if known is None:
                return self._missing(name)
            if known["properties"]["computeType"] != "ComputeInstance":
                return failure(400, "BadRequest", f"Only a compute instance can {action}. '{name}' is another compute.")
            state = "Stopped" if action == "stop" else "Running"
            return self._changed(name, "Updating", lambda: self._turn(name, state))

        @routes.post(f"{root}/<name>/listNodes")
        def nodes(name: str) -> Any:
            return {"nodes": []} if self._records.get(name) else self._missing(name)

        return routes

    def _put(self, name: str, asked: dict[str, Any], old: dict[str, Any] | None) -> Any:
        given = asked["properties"]
        kind = given.get("computeType") or (old or {}).get("properties", {}).get("computeType")
        if kind not in _TYPES:
            return failure(400, "BadRequest", f"The compute type '{kind}' is not supported.")
        if old is not None and old["properties"]["computeType"] != kind:
            return failure(400, "BadRequest", f"The type of the compute '{name}' can't be changed.")
        if old is not None and old["properties"]["provisioningState"] in _BUSY:
            return self._busy(name)
        now = dt.datetime.now(dt.timezone.utc).isoformat()
        before = (old or {}).get("properties", {})
        properties: dict[str, Any] = {
            "computeLocation": asked.get("location"),
            "createdOn": before.get("createdOn", now),
            "isAttachedCompute": kind not in _OF_WORKSPACE,
            "disableLocalAuth": False,
            **before,
            **given,
            "computeType": kind,
            "properties": {**(before.get("properties") or {}), **(given.get("properties") or {})},
            "modifiedOn": now,
            "provisioningErrors": None,
            "provisioningState": "Creating" if old is None else "Updating",
        }
        if kind == "AmlCompute":
            nodes = {"allocationState": "Steady", "currentNodeCount": 0, "targetNodeCount": 0}
            scale = {"scaleSettings": {"minNodeCount": 0, "maxNodeCount": 4}}
            properties["properties"] = {**scale, **properties["properties"], **nodes}
        known: dict[str, Any] = {
            **(old or {}),
            **{key: asked[key] for key in ("location", "tags", "identity") if key in asked},
        }
        self._records.put(name, {**known, "properties": properties})
        answer = self._shown(name)
        return self._begun(name, old, lambda: self._ready(name, kind), answer, 201 if old is None else 200)

    def _ready(self, name: str, kind: str) -> dict[str, Any]:
        with self._records.changed() as everything:
            properties = everything[name]["properties"]
            properties["provisioningState"] = "Succeeded"
            if kind == "ComputeInstance":
                properties["properties"].setdefault("state", "Running")
        return self._shown(name)

    def _turn(self, name: str, state: str) -> None:
        with self._records.changed() as everything:
            properties = everything[name]["properties"]
            properties["provisioningState"], properties["properties"]["state"] = "Succeeded", state

    def _changed(self, name: str, meanwhile: str, work: Callable[[], Any]) -> Any:
        old = self._records.get(name)
        if old["properties"]["provisioningState"] in _BUSY:
            return self._busy(name)
        self._records.put(name, {**old, "properties": {**old["properties"], "provisioningState": meanwhile}})
        return self._begun(name, old, work)

    def _begun(self, name: str, old: Any, work: Callable[[], Any], answer: Any = "", status: int = 202) -> Any:
        def failed(error: dict[str, Any]) -> None:
            with self._records.changed() as everything:
                properties = everything[name]["properties"]
                properties["provisioningState"], properties["provisioningErrors"] = "Failed", [{"error": error}]

        begun = self._operations.begin(f"{self._root}/{name}", work, answer, status=status, failed=failed)
        if begun[1] == 409:  # the last operation is at its very end
            self._records.put(name, old)
        return begun

    def _busy(self, name: str) -> Any:
        return failure(409, "Conflict", f"Another operation on {name!r} is in progress. Retry after it ends.")

    def _shown(self, name: str) -> dict[str, Any]:
        known = self._records.get(name)
        return shown(f"{self._root}/{name}", _KIND, **known)

    def _missing(self, name: str) -> Any:
        told = f"Requested compute with name '{name}' was not found in the workspace."
        return failure(404, "ComputeNotFound", told)
