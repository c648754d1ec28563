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
from aml_spark.project import run as runs
from aml_spark.project.environments import activation, manager
from aml_spark.project.run import Link
from aml_spark.project.source import Project

_logger = logging.getLogger("mlflow.projects.aml_spark")  # MLflow shows what it says
_GRACE = 10.0  # seconds that a command has after it was asked to end


def plan(project: Project, config: Mapping[str, Any], link: Link) -> dict[str, Any]:
    """What would be run: the command, its folder, its environment and MLflow's variables."""
    return {
        "place": "local",
        "folder": str(project.folder),
        "command": command(project, config),
        "env_manager": manager(project, config.get("env_manager")),
        "python": project.python,
        "requirements": list(project.requirements),
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
    line = command(project, config)
    if config.get("launcher") == "spark-submit" and java.find_java() is None:
        raise ProjectError("spark-submit needs Java, and neither JAVA_HOME nor the PATH has one")
    steps = [
        *activation(project, config.get("env_manager")),
        'export PYSPARK_PYTHON="$(command -v python)"',
        'export PYSPARK_DRIVER_PYTHON="$PYSPARK_PYTHON"',
        f"{{ {line}\n}}",
    ]
    environment = {**os.environ, **link.environment, "MLFLOW_TRACKING_URI": link.tracking_uri, "PATH": _path()}
    environment.pop("MLFLOW_EXPERIMENT_NAME", None)  # MLflow refuses one that isn't its id's
    _logger.info("=== Running command '%s' in run with ID '%s' ===", line, link.run_id)
    process = subprocess.Popen(
        ["bash", "-c", " && ".join(steps)], cwd=project.folder, env=environment, start_new_session=True
    )
    return LocalRun(link.run_id, process)


def command(project: Project, config: Mapping[str, Any]) -> str:
    """The command for a shell: MLproject's own, or with `"launcher": "spark-submit"` its Python file's."""
    if config.get("launcher") != "spark-submit":
        return project.command
    file, arguments = project.script()
    options = [word for name in ("master",) if name in config for word in (f"--{name}", config[name])]
    if packages := config.get("packages"):
        options += ["--packages", ",".join(packages)]
    for name, value in config.get("conf", {}).items():
        options += ["--conf", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
    # What the project itself says comes last, because spark-submit takes the last word.
    return shlex.join([_spark_submit(), *options, *project.spark_options(), file, *arguments])


def _spark_submit() -> str:
    home = os.environ.get("SPARK_HOME")
    return str(Path(home, "bin", "spark-submit")) if home else "spark-submit"


def _path() -> str:
    """Folders of programs: this Python's first, and the spark-submit that it has last."""
    import importlib.util

    pyspark = importlib.util.find_spec("pyspark")
    own = [str(Path(pyspark.origin).with_name("bin"))] if pyspark is not None and pyspark.origin else []
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), *own])


class LocalRun(SubmittedRun):
    """A project's command while it runs. When this process ends, it waits for the command's end.

    Args:
        run_id: of its MLflow run, which is FINISHED, FAILED or, after a signal, KILLED at the end.
        process: the leader of a process group.
    """

    def __init__(self, run_id: str, process: subprocess.Popen[bytes]) -> None:
        self._run_id, self._process, self._cancelled = run_id, process, False
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
        atexit.unregister(self._leave)
        if code and not self._cancelled:
            how = f"was ended by {_signal(code)}" if _signal(code) else f"ended with exit code {code}"
            _logger.error("the project's command %s", how)
        try:
            runs.end(self._run_id, self.get_status())
        except Exception as error:  # whatever the store's driver raises; the command's own end is known
            _logger.error("the run %s couldn't be marked %s: %s", self._run_id, self.get_status(), error)
        finally:
            self._ended.set()

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
