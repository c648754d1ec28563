"""Failures on demand: a plan of what happens to the next requests, and a list of the requests that came."""

from __future__ import annotations

import json
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import flask

KINDS = (
    "throttle",
    "unavailable",
    "error",
    "drop",
    "drop-after",
    "cut",
    "cut-request",
    "slow",
    "whole",
    "unauthorized",
    "forbidden",
    "missing",
    "condition",
)
PLAN = "/emulator/faults"
CLOCK = "aml_spark.clock"  # in a request's environment: seconds that the answer's Date header is ahead
_STATUS = {
    "throttle": "429 Too Many Requests",
    "unavailable": "503 Service Unavailable",
    "error": "500 Internal Server Error",
    "unauthorized": "401 Unauthorized",
    "forbidden": "403 Forbidden",
    "missing": "404 Not Found",
    "condition": "412 Precondition Failed",
}
_STORAGE_CODES = {
    "throttle": "ServerBusy",
    "unavailable": "ServerBusy",
    "error": "InternalError",
    "unauthorized": "InvalidAuthenticationInfo",
    "forbidden": "AuthorizationPermissionMismatch",
    "missing": "PathNotFound",
    "condition": "ConditionNotMet",
}


@dataclass(kw_only=True)
class Fault:
    """One thing that goes wrong.

    Args:
        kind: `throttle` (429 with Retry-After, 503 from storage), `unavailable` (503), `error` (500), `drop` (the
            connection ends before the request is handled), `drop-after` (it is handled, then the connection ends
            without an answer), `cut` (the connection ends in the middle of the answer's body), `cut-request` (in the
            middle of the request's), `slow`, `whole` (a request for a part of a file is answered with all of it),
            `unauthorized` (401, as for a token that ended), `forbidden` (403), `missing` (404), or `condition` (412, as
            for what somebody else has written in between).
        path: regular expression that is looked for in the request's path with `?` and the query behind it.
        method: only requests with this method; None for all.
        times: how often it happens.
        rate: how likely it happens to a request that fits, 0 to 1.
        seconds: what `throttle` asks to wait, how long `slow` waits, and how far the clock of `unauthorized` is ahead.
    """

    kind: str
    path: str = ""
    method: str | None = None
    times: int = 1
    rate: float = 1.0
    seconds: float = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; expected one of {', '.join(KINDS)}")


class Faults:
    """The plan and the record.

    Args:
        seed: of what `rate` draws.
        is_storage: whether a request is for a storage service, whose failures have its shape.
    """

    def __init__(self, seed: int = 0, is_storage: Callable[[dict[str, Any]], bool] = lambda _: False) -> None:
        self._is_storage = is_storage
        self.requests: list[tuple[str, str]] = []
        self._plan: list[Fault] = []
        self._random = random.Random(seed)  # noqa: S311 - not for secrets
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Have it happen from now on."""
        with self._lock:
            self._plan.append(fault)

    def clear(self, seed: int | None = None) -> None:
        """Forget the plan and the record; with a seed, draw as from the start."""
        with self._lock:
            self._plan.clear()
            self.requests.clear()
            if seed is not None:
                self._random.seed(seed)

    def routes(self) -> flask.Blueprint:
        """`POST /emulator/faults` plans one, `DELETE` clears (`?seed=`), `GET /emulator/requests` lists."""
        routes = flask.Blueprint("faults", __name__)

        @routes.post(PLAN)
        def plan() -> Any:
            try:
                self.add(Fault(**flask.request.get_json()))
            except (TypeError, ValueError) as error:
                return {"error": {"code": "UserError", "message": str(error)}}, 400
            return {}

        @routes.delete(PLAN)
        def forget() -> Any:
            self.clear(flask.request.args.get("seed", type=int))
            return {}

        @routes.get("/emulator/requests")
        def requests() -> Any:
            return {"requests": self.requests}

        return routes

    def around(self, app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """The application with the plan before it."""

        def with_faults(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            if path.startswith("/emulator/"):
                return app(environ, start)
            fault = self._next(method, path, environ.get("QUERY_STRING", ""))
            kind = fault.kind if fault else None
            if fault and kind == "slow":
                time.sleep(fault.seconds)
            if kind == "whole":
                for name in ("HTTP_RANGE", "HTTP_X_MS_RANGE"):
                    environ.pop(name, None)
            if fault is None or kind in ("slow", "whole"):
                return app(environ, start)
            if kind == "cut":
                body = b"".join(app(environ, start))
                return _cut(environ["werkzeug.socket"], body[: len(body) // 2])
            if kind == "drop-after":
                # The answer is made, so what was asked for is done, but nobody gets it.
                b"".join(app(environ, lambda *_: lambda _: None))
            if kind == "cut-request":
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0) // 2)
            if kind in ("drop", "drop-after", "cut-request"):
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                start("500 Dropped", [("Content-Length", "0"), ("Connection", "close")])
                return [b""]
            storage = self._is_storage(environ)
            body, headers = _planned(fault.kind, storage=storage)
            if kind == "throttle":
                headers.append(("Retry-After", str(int(fault.seconds))))
            if kind == "unauthorized":
                environ[CLOCK] = fault.seconds
            # What was sent has to be read, or the connection can't be kept.
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            # A storage service that has too much to do doesn't say 429, and its clients don't repeat that.
            start(_STATUS["unavailable" if storage and kind == "throttle" else fault.kind], headers)
            return [body]

        return with_faults

    def _next(self, method: str, path: str, query: str) -> Fault | None:
        with self._lock:
            self.requests.append((method, path))
            for fault in self._plan:
                fits = fault.method in (None, method) and re.search(fault.path, f"{path}?{query}")
                if fault.times > 0 and fits and self._random.random() < fault.rate:
                    fault.times -= 1
                    return fault
        return None


def _planned(kind: str, *, storage: bool) -> tuple[bytes, list[tuple[str, str]]]:
    code = _STORAGE_CODES[kind] if storage else "Injected"
    told = {"error": {"code": code, "message": "a planned failure"}, "correlation": {"request": "planned"}}
    body = json.dumps(told).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if storage:
        headers += [("x-ms-error-code", code), ("x-ms-request-id", "planned")]
    return body, headers


def _cut(connection: socket.socket, begun: bytes) -> Iterator[bytes]:
    yield begun
    connection.shutdown(socket.SHUT_RDWR)
