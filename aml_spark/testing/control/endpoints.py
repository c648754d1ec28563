"""What online and batch endpoints have in common: rules for names, long operations, and the words of refusals."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flask

from aml_spark.testing.artifacts import failure
from aml_spark.testing.control.operations import Operations
from aml_spark.testing.control.records import Records

BUSY = ("Creating", "Updating", "Deleting")
_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9-]{1,30}[A-Za-z0-9])")


class Refused(Exception):  # noqa: N818 - as Azure calls it
    """A request that Azure doesn't take.

    Args:
        answer: what it answers.
    """

    def __init__(self, answer: Any) -> None:
        super().__init__(answer)
        self.answer = answer


def invalid(told: str, field: str = "") -> Refused:
    """A request that the inferencing service finds invalid: it says why in the details, in a text that is JSON.

    Args:
        told: why.
        field: what of the request it is about.
    """
    inner = {
        "errors": {field: [told]},
        "type": "https://tools.ietf.org/html/rfc7231#section-6.5.1",
        "title": "One or more validation errors occurred.",
        "status": 400,
        "traceId": uuid.uuid4().hex,
    }
    said = json.dumps({"error": {"code": "Validation", "message": json.dumps(inner)}})
    body, status, headers = failure(400, "BadRequest", "The request is invalid.")
    body["error"]["details"] = [{"code": "InferencingClientCallFailed", "message": said}]
    return Refused((body, status, headers))


def missing(kind: str, workspace: str, name: str) -> Refused:
    """A resource that isn't there.

    Args:
        kind: such as `onlineEndpoints`.
        workspace: the workspace's ARM path.
        name: of the resource, with its parent's before it.
    """
    group, of = workspace.split("/")[4], workspace.rpartition("/")[2]
    told = (
        f"The Resource 'Microsoft.MachineLearningServices/workspaces/{of}/{kind}/{name}' under resource group "
        f"'{group}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"
    )
    return Refused(failure(404, "ResourceNotFound", told))


def busy(name: str) -> Refused:
    """Another operation on the resource, or on one below it, is under way."""
    return Refused(failure(409, "Conflict", f"Another operation on {name!r} is in progress. Retry after it ends."))


def check_name(name: str, kind: str) -> None:
    """Refuse a name that Azure doesn't take.

    Args:
        name: of an endpoint or a deployment.
        kind: which of both.
    """
    if not 3 <= len(name) <= 32:
        raise invalid(f"The name for {kind} must be at least 3 and at most 32 characters long.", "Name")
    if not _NAME.fullmatch(name):
        raise invalid(
            f"The name for {kind} must start with a letter, consist of letters, digits and '-', and end with a letter "
            "or a digit.",
            "Name",
        )


def blueprint(name: str) -> flask.Blueprint:
    """Routes that may raise what they refuse."""
    routes = flask.Blueprint(name, __name__)

    @routes.errorhandler(Refused)
    def refused(error: Refused) -> Any:
        return error.answer

    return routes


class Resources:
    """Resources of one kind, on each of which one long operation at a time is done.

    Args:
        file: where they are kept.
        root: what their ids start with; names of deployments have their endpoint's before a slash.
        operations: the long ones.
    """

    def __init__(self, file: Path, root: str, operations: Operations) -> None:
        self.records, self._root, self._operations = Records(file), root, operations
        with self.records.changed() as everything:  # what an earlier emulator began has failed
            for known in everything.values():
                if known["state"] in BUSY:
                    known["state"] = "Failed"

    def begin(
        self,
        name: str,
        work: Callable[[], object],
        *,
        doing: str = "Updating",
        known: Mapping[str, Any] | None = None,
        show: Callable[[], Any] | None = None,
    ) -> Any:
        """Begin an operation and answer for it. A change that fails leaves what was known before.

        Args:
            name: of the resource.
            work: what is done, in a thread. It deletes the resource, or this is `Succeeded` afterwards.
            doing: the provisioning state meanwhile; of a new resource it is `Creating`.
            known: what is known of it from now on; None leaves it as it is.
            show: makes the answer; None answers nothing.

        Raises:
            Refused: another operation on it is under way.
        """
        with self.records.changed() as everything:
            old = everything.get(name)
            if old is not None and old["state"] in BUSY:
                raise busy(name)
            everything[name] = {**(old or {}), **(known or {}), "state": doing if old else "Creating"}

        def run() -> None:
            work()
            self._turn(name, "Succeeded", {})

        status = 202 if show is None else 200 if old else 201
        answer = self._operations.begin(
            f"{self._root}/{name.replace('/', '/deployments/')}",
            run,
            "" if show is None else show(),
            status=status,
            failed=lambda _: self._turn(name, "Failed", old or {}),
        )
        if answer[1] == 409:  # the one before has done its work, and is about to end
            with self.records.changed() as everything:
                everything.pop(name)
                everything.update({} if old is None else {name: old})
        return answer

    def _turn(self, name: str, state: str, known: Mapping[str, Any]) -> None:
        with self.records.changed() as everything:
            if name in everything:
                everything[name].update(known, state=state)
