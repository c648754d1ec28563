"""A model served on this machine, as a deployment would serve it: to try it before it goes to the cloud."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_spark.deployment import config as configs, invocation, payload
from aml_spark.errors import ArgumentError, DeploymentError

if TYPE_CHECKING:
    from mlflow.deployments import PredictionsResponse

_FLAVOR = "python_function"
_ENV_MANAGER, _STARTUP = "virtualenv", 600  # MLflow's own choice; seconds, in which packages are installed
_EVERY = 0.2  # seconds between two looks whether it is up
_GRACE = 15.0  # seconds that it has to end
_LINES = 30


class LocalServer:
    """A scoring server on 127.0.0.1, until `stop`; a context manager, too. It ends with this process.

    Args:
        name: how it is called in messages.
        process: its process, which ends when its standard input is closed.
        port: its port.
        log: what it says.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self._process, self._log = process, log

    def __repr__(self) -> str:
        return f"LocalServer({self.name!r}, url={self.url!r})"

    def predict(self, inputs: Any) -> PredictionsResponse:
        """Ask for predictions.

        Args:
            inputs: as for an endpoint: a pandas DataFrame, a numpy array, a list of rows, a dict.

        Raises:
            ArgumentError: the inputs have no form that can be sent.
            DeploymentError: it doesn't answer, or the model failed.
        """
        body = payload.of(inputs).for_mlflow()
        answer = invocation.post(f"{self.url}/invocations", body, {}, what=self.name, local=True)
        return payload.from_mlflow(
            invocation.checked(answer, f"the model {self.name!r}", "server.logs() may tell more")
        )

    def logs(self, lines: int = 100) -> str:
        """The last lines that the server said."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        return ""

    def wait(self) -> None:
        """Stay until it ends; Ctrl-C ends it.

        Raises:
            DeploymentError: it ended by itself; with its last lines.
        """
        with self:
            code = self._process.wait()
            raise DeploymentError(f"the server of {self.name!r} ended with {code}:\n{self.logs(_LINES)}")

    def stop(self) -> None:
        """End it with all that it started."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._log.unlink(missing_ok=True)

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def run_local(
    name: str, model_uri: str, flavor: str | None = None, config: Mapping[str, Any] | None = None
) -> LocalServer:
    """Serve a model on this machine by MLflow's own scoring server, in the model's environment.

    Args:
        name: how it is called in messages.
        model_uri: any that MLflow opens: `models:/name/3`, `models:/name@alias`, `runs:/…`, a folder.
        flavor: None or `python_function`, which is what MLflow's server serves.
        config: `env_manager` (`virtualenv`, as MLflow has it where nothing is said; `uv`, `conda`, or `local` for the
            packages of this process), `port` (a free one), `startup_timeout` (600 seconds, as packages are
            installed), `environment_variables` of the server; or `config_file`, a YAML or JSON file with these.

    Returns:
        The server, which answers: `url`, `predict`, `stop`.

    Raises:
        ArgumentError: the config or the flavor can't be meant, or the port is taken.
        ModelError: the model can't be opened.
        DeploymentError: the server doesn't come up; with its last lines.
    """
    from aml_spark import model
    from aml_spark.progress import waiting

    check_flavor(flavor)
    settings = configs.read(config, configs.LOCAL)
    folder = model.pin(model_uri).folder
    port = _port(settings.get("port"))
    server = _start(name, folder, port, settings)
    until, begun = time.monotonic() + settings.get("startup_timeout", _STARTUP), time.monotonic()
    try:
        with waiting(f"serve {name}") as show:
            while not _is_up(server):
                if server._process.poll() is not None or time.monotonic() > until:
                    ended = server._process.returncode
                    why = "didn't answer in time" if ended is None else f"ended with {ended}"
                    raise DeploymentError(
                        f"the server of {name!r} {why}; its last lines:\n{server.logs(_LINES)}",
                        hint=f"env_manager is {settings.get('env_manager', _ENV_MANAGER)!r}; it may be "
                        f"{', '.join(configs.LOCAL['env_manager'])}",
                    )
                show(f"starting, {time.monotonic() - begun:.0f} s")
                time.sleep(_EVERY)
    except BaseException:
        server.stop()
        raise
    return server


def check_flavor(flavor: str | None) -> None:
    """See that MLflow's scoring server serves a flavor.

    Raises:
        ArgumentError: it doesn't.
    """
    if flavor not in (None, _FLAVOR):
        raise ArgumentError(f"flavor is {flavor!r}; expected {_FLAVOR!r}, as which every MLflow model is served")


def _start(name: str, folder: Path, port: int, settings: Mapping[str, Any]) -> LocalServer:
    handle, log = tempfile.mkstemp(prefix="aml-spark-serve-", suffix=".log")
    own = str(Path(sys.executable).parent)  # where MLflow finds uvicorn
    environment = {**os.environ, "PATH": f"{own}{os.pathsep}{os.environ.get('PATH', '')}"}
    manager = settings.get("env_manager", _ENV_MANAGER)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "aml_spark.deployment.serve", str(folder), str(port), manager],
            env={**environment, **settings.get("environment_variables", {})},
            stdin=subprocess.PIPE,
            stdout=handle,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    finally:
        os.close(handle)
    return LocalServer(name, process, port, Path(log))


def _is_up(server: LocalServer) -> bool:
    """Whether it answers, and not another one that took its port in the meantime.

    Uvicorn, and gunicorn before it, says the address once the port is its own, and else ends.
    """
    import requests

    if server.url not in server._log.read_text(encoding="utf-8", errors="replace"):
        return False
    with requests.Session() as session:
        session.trust_env = False
        try:
            answers = session.get(f"{server.url}/ping", timeout=5).ok
        except requests.RequestException:
            return False
    return answers and server._process.poll() is None


def _port(asked: int | None) -> int:
    """The port that is asked for, or a free one."""
    try:
        with socket.create_server(("127.0.0.1", asked or 0)) as free:
            port: int = free.getsockname()[1]
    except (OSError, OverflowError) as error:
        raise ArgumentError(
            f"port is {asked}, which can't be used: {error}", hint="leave it out, and a free one is taken"
        ) from None
    return port
