"""Long-running operations: answered at once, done in a thread, asked after by polls."""

from __future__ import annotations

import threading
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import flask

from aml_spark.testing.artifacts import failure

_POLLS = 2  # that find an operation unfinished, however fast it is
_LASTS = 0.5  # seconds that one takes at least, so that another one meets it
_WAIT = "200"  # milliseconds that a client is asked to wait between polls


class FailedOperationError(Exception):
    """What an operation ends with.

    Args:
        code: Azure's code, such as `QuotaExceeded`.
        message: what it tells.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class _Operation:
    subject: str
    name: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: str = "InProgress"
    error: dict[str, Any] | None = None
    polls: int = 0
    result: Any = None


class Operations:
    """The operations of one subscription.

    Args:
        subscription: `/subscriptions/<id>`.
        location: Azure's name of the region.
    """

    def __init__(self, subscription: str, location: str) -> None:
        provider = f"{subscription}/providers/Microsoft.MachineLearningServices/locations/{location}"
        self._states, self._results = f"{provider}/mfeOperationsStatus", f"{provider}/mfeOperationResults"
        self._known: dict[str, _Operation] = {}
        self._lock = threading.Lock()
        self._planned: list[FailedOperationError] = []

    def fail_next(self, error: FailedOperationError) -> None:
        """Have the next operation that begins end with this."""
        with self._lock:
            self._planned.append(error)

    def begin(
        self,
        subject: str,
        work: Callable[[], Any],
        answer: Any = "",
        *,
        status: int = 202,
        failed: Callable[[dict[str, Any]], object] | None = None,
    ) -> Any:
        """Start one and answer for it; 409 where another one on the same resource is under way.

        Args:
            subject: the resource's id.
            work: what is done in a thread; what it returns is answered by `Location` when it is done. It raises
                `FailedOperationError` for what Azure would tell.
            answer: the body of the answer now.
            status: its status: 202, or 201 with the resource as it is being made.
            failed: what is done with the error where it fails, also where that was planned.
        """
        with self._lock:
            if any(one.subject == subject and one.state == "InProgress" for one in self._known.values()):
                name = subject.rpartition("/")[2]
                return failure(409, "Conflict", f"Another operation on {name!r} is in progress. Retry after it ends.")
            operation = _Operation(subject)
            self._known[operation.name] = operation
            planned = self._planned.pop(0) if self._planned else None

        def run() -> None:
            time.sleep(_LASTS)
            try:
                if planned is not None:
                    raise planned
                operation.result = work()
                operation.state = "Succeeded"
            except Exception as error:
                operation.error = {"code": "InternalServerError", "message": traceback.format_exc(limit=-3)}
                if isinstance(error, FailedOperationError):
                    operation.error = {"code": error.code, "message": str(error)}
                if failed is not None:
                    failed(operation.error)
                operation.state = "Failed"

        threading.Thread(target=run, daemon=True).start()
        host = flask.request.host_url.rstrip("/")
        return (
            answer,
            status,
            {
                "Azure-AsyncOperation": f"{host}{self._states}/{operation.name}?api-version=2023-04-01",
                "Location": f"{host}{self._results}/{operation.name}?api-version=2023-04-01",
                "x-ms-retry-after-ms": _WAIT,
            },
        )

    def routes(self) -> flask.Blueprint:
        """What is polled."""
        routes = flask.Blueprint("operations", __name__)

        @routes.get(f"{self._states}/<name>")
        def state(name: str) -> Any:
            found = self._known.get(name)
            if found is None:
                return failure(404, "NotFound", f"Operation {name} is not found.")
            found.polls += 1
            told = "InProgress" if found.polls <= _POLLS else found.state
            body = {"name": name, "status": told, **({"error": found.error} if told == "Failed" else {})}
            return body, 200, {"x-ms-retry-after-ms": _WAIT}

        @routes.get(f"{self._results}/<name>")
        def result(name: str) -> Any:
            found = self._known.get(name)
            if found is None:
                return failure(404, "NotFound", f"Operation {name} is not found.")
            if found.state == "InProgress":
                return "", 202, {"x-ms-retry-after-ms": _WAIT}
            return ("", 204) if found.result is None else found.result

        @routes.post("/emulator/operations/failures")
        def plan() -> Any:
            asked = flask.request.get_json()
            self.fail_next(FailedOperationError(asked["code"], asked["message"]))
            return {}

        return routes
