"""A project on this machine: its command in a process group of its own, in its environment."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import RunStatus
from mlflow.projects import SubmittedRun

from aml_spark import java
from aml_spark.addresses import masked
from aml_spark.errors import ProjectError
from aml_spark.project import run as runs, spark_submit
from aml_spark.project.environments import activation, manager
from aml_spark.project.masking import masked_line
from aml_spark.project.run import Link
from aml_spark.project.source import Project

_logger = logging.getLogger("mlflow.projects.aml_spark")  # MLflow shows what it says
_GRACE = 10.0  # seconds that a command has after it was asked to end
# A process of the command's group that reads from a pipe. A line says that the command has ended; the pipe's end, that
# the process at its other end has, be it by SIGKILL. It is no child of the shell, because `wait` waits for those.
_LEASH = """(
  {{ trap '' HUP INT TERM
    read -r -u {pipe} || {{ {remove}; kill -TERM 0; sleep {grace}; kill -KILL 0; }}
  }} >/dev/null 2>&1 &
)
exec {pipe}<&-
"""


def plan(project: Project, config: Mapping[str, Any], link: Link) -> dict[str, Any]:
    """What would be run: the command, its folder, its environment and MLflow's variables."""
    return {
        "place": "local",
        "folder": str(project.folder),
        "command": spark_submit.command(project, config),
        "env_manager": manager(project, config.get("env_manager")),
        "python": project.python,
        "requirements": [masked_line(line) for line in project.requirements],
        "environment": {**link.environment, "MLFLOW_TRACKING_URI": masked(link.tracking_uri)},
    }


def submit(project: Project, config: Mapping[str, Any], link: Link) -> LocalRun:
    """Start the command. Before, its environment is made where there is none yet, which is waited for.

    What it says goes where this process says it. It has this process' environment with MLflow's variables, and its
    Python is the first on the PATH, for Spark's executors, too.

    Raises:
        ProjectError: spark-submit, Java or the environment's manager is missing, or the environment can't be made.
    """
    assert link.run_id is not None
    if config.get("launcher") == "spark-submit" and java.find_java() is None:
        raise ProjectError("spark-submit needs Java, and neither JAVA_HOME nor the PATH has one")
    steps = [
        *activation(project, config.get("env_manager")),
        'export PYSPARK_PYTHON="$(command -v python)"',
        'export PYSPARK_DRIVER_PYTHON="$PYSPARK_PYTHON"',
    ]
    environment = {**os.environ, **link.environment, "MLFLOW_TRACKING_URI": link.tracking_uri, "PATH": _path()}
    environment.pop("MLFLOW_EXPERIMENT_NAME", None)  # MLflow refuses one that isn't its id's
    shown = spark_submit.command(project, config)
    _logger.info("=== Running command '%s' in run with ID '%s' ===", shown, link.run_id)
    settings, (pipe, leash) = spark_submit.secret_settings(project, config), os.pipe()
    steps.append(f"{{ {spark_submit.command(project, config, settings)}\n}}")
    remove = f"rm -f {shlex.quote(str(settings))}" if settings else "true"
    script = _LEASH.format(pipe=pipe, remove=remove, grace=_GRACE) + " && ".join(steps)
    try:
        process = subprocess.Popen(
            ["bash", "-c", script], cwd=project.folder, env=environment, start_new_session=True, pass_fds=[pipe]
        )
    except BaseException:
        _let_go(leash, settings)
        raise
    finally:
        os.close(pipe)
    return LocalRun(link.run_id, process, leash, settings)


def _let_go(leash: int, settings: Path | None) -> None:
    os.close(leash)
    if settings is not None:
        settings.unlink(missing_ok=True)


def _path() -> str:
    """Folders of programs: this Python's first, and the spark-submit that it has last."""
    own = [str(home / "bin")] if (home := java.spark_home()) else []
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), *own])


class LocalRun(SubmittedRun):
    """A project's command while it runs. When this process ends, it waits for the command's end.

    Args:
        run_id: of its MLflow run, which is FINISHED, FAILED or, after a signal, KILLED at the end.
        process: the leader of a process group, which ends when this process does.
        leash: the writing end of the pipe by which it knows of that.
        settings: a file to remove at the end.
    """

    def __init__(self, run_id: str, process: subprocess.Popen[bytes], leash: int, settings: Path | None) -> None:
        self._run_id, self._process, self._cancelled = run_id, process, False
        self._leash, self._settings = leash, settings
        self._ended = threading.Event()  # a thread's own join() takes it for ended once Ctrl-C interrupts it
        atexit.register(self._leave)
        threading.Thread(target=self._follow, name=f"project-{process.pid}", daemon=True).start()

    @property
    def run_id(self) -> str:
        """Id of its MLflow run."""
        return self._run_id

    def wait(self) -> bool:
        """Wait for the end; whether the exit code was 0. What else it was is logged."""
        self._ended.wait()
        return self._process.returncode == 0

    def get_status(self) -> str:
        """RUNNING, FINISHED, FAILED or KILLED."""
        return RunStatus.to_string(self._status())

    def cancel(self) -> None:
        """End the command and all that it started, and leave the run KILLED; nothing where it has ended."""
        if self._process.poll() is not None:
            self._ended.wait()
            return
        self._cancelled = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        self._ended.wait(_GRACE)
        with contextlib.suppress(ProcessLookupError):  # who didn't listen, or was left behind
            os.killpg(self._process.pid, signal.SIGKILL)
        self._ended.wait()

    def _status(self) -> int:
        code = self._process.poll()
        if code is None:
            return int(RunStatus.RUNNING)
        if self._cancelled or _signal(code):
            return int(RunStatus.KILLED)
        return int(RunStatus.FINISHED if code == 0 else RunStatus.FAILED)

    def _follow(self) -> None:
        code = self._process.wait()
        with contextlib.suppress(OSError):
            os.write(self._leash, b"\n")
        _let_go(self._leash, self._settings)
        if code and not self._cancelled:
            how = f"was ended by {_signal(code)}" if _signal(code) else f"ended with exit code {code}"
            _logger.error("the project's command %s", how)
        try:
            runs.end(self._run_id, self.get_status())
        except Exception as error:  # whatever the store's driver raises; the command's own end is known
            _logger.error("the run %s couldn't be marked %s: %s", self._run_id, self.get_status(), error)
        finally:
            self._ended.set()
            atexit.unregister(self._leave)  # not before: this thread ends with the process

    def _leave(self) -> None:
        if getattr(sys, "last_type", None) is KeyboardInterrupt:
            self.cancel()
        try:
            self._ended.wait()
        except BaseException:
            self.cancel()
            raise


def _signal(code: int) -> str | None:
    """The signal that ended a process, as Python or as a shell tells of it."""
    number = -code if code < 0 else code - 128
    try:
        return signal.Signals(number).name
    except ValueError:
        return None
