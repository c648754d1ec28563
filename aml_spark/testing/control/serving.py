"""MLflow's scoring server in a process for each deployment: started, waited for, asked and ended."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aml_spark.testing.control.operations import FailedOperationError
from aml_spark.testing.control.processes import Processes
from aml_spark.testing.control.storage import UnknownPlaceError

INFERENCE_SERVER, STORAGE_INITIALIZER = "InferenceServer", "StorageInitializer"
_STARTS_WITHIN = 180.0  # seconds
_EVERY = 0.1  # seconds, that a server that starts is asked
_CRASHED = (
    "User container has crashed or terminated. Please see troubleshooting guide, available here: "
    "https://aka.ms/oe-tsg#error-resourcenotready"
)
_NOT_READY = (
    "User container did not become ready in time. Please see troubleshooting guide, available here: "
    "https://aka.ms/oe-tsg#error-resourcenotready"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server said to a request.

    Args:
        status: HTTP's.
        body: as it came.
    """

    status: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    name: str
    port: int
    process: subprocess.Popen[bytes]


class Servers:
    """The servers of deployments, by the deployments' names.

    One process serves a deployment, however many instances it is to have. A server that died is started again when it
    is next asked, also after the emulator was started again.

    Args:
        processes: which start them.
        folder: keeps the model and the logs of each.
        environment: gives what leads a process to the emulator.
    """

    def __init__(self, processes: Processes, folder: Path, environment: Callable[[], Mapping[str, str]]) -> None:
        self._processes, self._folder, self._environment = processes, folder, environment
        self._running: dict[str, _Server] = {}
        self._starting: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def deploy(self, name: str, fetch: Callable[[Path], object], variables: Mapping[str, str]) -> None:
        """Start a server for a new model or with new variables; the old one serves until it is ready.

        Args:
            name: `<endpoint>/<deployment>`.
            fetch: writes the model to a folder.
            variables: of the environment, of the deployment's own.

        Raises:
            FailedOperationError: the model's files can't be read, or the server doesn't start; the logs say why.
        """
        with self._one_at_a_time(name):
            home = self._folder / name / uuid.uuid4().hex[:8]
            (home / "model").mkdir(parents=True)
            try:
                self._fetch(name, home / "model", fetch)
                (home / "variables.json").write_text(json.dumps(dict(variables)), encoding="utf-8")
                server = self._start(name, home)
            except BaseException:
                shutil.rmtree(home)
                raise
            (self._folder / name / "home").write_text(home.name, encoding="utf-8")
            self._replace(name, server)
            for old in (self._folder / name).iterdir():
                if old.is_dir() and old != home:
                    shutil.rmtree(old)

    def ask(self, name: str, body: bytes, timeout: float) -> Answer:
        """Send a request in MLflow's protocol.

        Args:
            name: whom.
            body: JSON.
            timeout: seconds.

        Raises:
            TimeoutError: it takes longer.
            ConnectionError: the server died over it.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self._alive(name).port, timeout=timeout)
        try:
            connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return Answer(status=answer.status, body=answer.read())
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def signature(self, name: str) -> dict[str, Any]:
        """What the model says of its `inputs` and `outputs`, as it stands in its MLmodel file."""
        from mlflow.models import Model

        home = self._folder / name / (self._folder / name / "home").read_text(encoding="utf-8")
        signature = Model.load(str(home / "model")).signature
        return {} if signature is None else dict(signature.to_dict())

    def logs(self, name: str, kind: str, lines: int) -> str:
        """The last lines of what one of its containers said."""
        log = self._log(name, kind)
        said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        return "".join(said.splitlines(keepends=True)[-lines:])

    def remove(self, name: str) -> None:
        """End a server and forget its model and its logs."""
        with self._one_at_a_time(name):
            self._replace(name, None)
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def _fetch(self, name: str, folder: Path, fetch: Callable[[Path], object]) -> None:
        for kind in (INFERENCE_SERVER, STORAGE_INITIALIZER):
            self._log(name, kind).write_bytes(b"")
        log = self._log(name, STORAGE_INITIALIZER)
        try:
            fetch(folder)
        except UnknownPlaceError as error:
            log.write_text(f"The model can't be downloaded: {error}\n", encoding="utf-8")
            raise FailedOperationError("BadArgument", f"The model can't be downloaded: {error}") from error
        count = sum(file.is_file() for file in folder.rglob("*"))
        log.write_text(f"Downloaded {count} files of the model.\n", encoding="utf-8")

    def _start(self, name: str, home: Path) -> _Server:
        from mlflow.pyfunc import scoring_server

        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        place: dict[str, Any] = {"port": port, "host": "127.0.0.1", "nworkers": 1}
        command, serving = scoring_server.get_cmd(str(home / "model"), **place)
        model = {key: value for key, value in serving.items() if key not in os.environ}
        environment = {
            **os.environ,
            **self._environment(),
            "PYTHONUNBUFFERED": "1",
            "AZUREML_MODEL_DIR": str(home),
            **json.loads((home / "variables.json").read_text(encoding="utf-8")),
            **model,
        }
        process = self._processes.start(
            f"{name}/{home.name}",
            [sys.executable, "-m", *shlex.split(command)],
            folder=home,
            environment=environment,
            log=self._log(name, INFERENCE_SERVER),
        )
        server = _Server(name=f"{name}/{home.name}", port=port, process=process)
        ends = time.monotonic() + _STARTS_WITHIN
        while not _is_healthy(port):
            crashed = process.poll() is not None
            if crashed or time.monotonic() > ends:
                self._processes.stop(server.name)
                raise FailedOperationError("ResourceNotReady", _CRASHED if crashed else _NOT_READY)
            time.sleep(_EVERY)
        return server

    def _alive(self, name: str) -> _Server:
        """The server, started anew where it died."""
        server = self._running.get(name)
        if server is not None and server.process.poll() is None:
            return server
        with self._one_at_a_time(name):
            server = self._running.get(name)
            if server is not None and server.process.poll() is None:
                return server
            known = self._folder / name / "home"
            if not known.exists():
                raise ConnectionError(f"{name} doesn't serve")
            self._replace(name, None)
            try:
                server = self._start(name, self._folder / name / known.read_text(encoding="utf-8"))
            except FailedOperationError as error:
                raise ConnectionError(str(error)) from error
            self._replace(name, server)
            return server

    def _replace(self, name: str, server: _Server | None) -> None:
        with self._lock:
            old = self._running.pop(name, None)
            if server is not None:
                self._running[name] = server
        if old is not None:
            self._processes.stop(old.name)

    def _one_at_a_time(self, name: str) -> threading.Lock:
        with self._lock:
            return self._starting.setdefault(name, threading.Lock())

    def _log(self, name: str, kind: str) -> Path:
        return self._folder / name / f"{kind}.log"


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
