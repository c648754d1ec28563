"""A job on its way through its states, in a thread: prepared, run in a process, and what it leaves put away.

The job's environment isn't built: the process runs in the emulator's own, whose `python` comes first on the PATH. It is
one process on this machine, whatever compute and however many instances the job asks for.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aml_spark.testing.artifacts import CONTAINER, OF_RUNS
from aml_spark.testing.control.bindings import Bindings, UnknownBindingError, bind
from aml_spark.testing.control.commands import PYTHONS, command
from aml_spark.testing.control.ground import Ground
from aml_spark.testing.control.storage import UnknownPlaceError

LOG = "user_logs/std_log.txt"
_ARTIFACTS = ("outputs", "logs")  # folders that become the run's artifacts
_TOLD = 1000  # characters of the log's end that an error holds
_LIMIT = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.\d+)?S)?")

Report = Callable[[str, "dict[str, Any] | None"], None]


class Execution:
    """One job.

    Args:
        ground: whose job it is.
        name: its name, which is its run's id.
        properties: as they were asked for, with `experimentId` and `experimentName` beside them.
        report: is told each state, and for the last one the error, `code` and `message`.
    """

    def __init__(self, ground: Ground, name: str, properties: Mapping[str, Any], report: Report) -> None:
        self._ground, self._name, self._properties, self._report = ground, name, properties, report
        self._log, self._published = log_file(ground.folder, name), -1
        self._folder, self._process = self._log.parent, f"job {name}"
        self._cancelled, self._lock = False, threading.Lock()
        self._thread = threading.Thread(target=self._run, name=self._process, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def cancel(self) -> None:
        """End it with all that it started; returns when its last state is reported."""
        with self._lock:
            self._cancelled = True
        self._ground.processes.stop(self._process)
        self._thread.join()

    def publish(self) -> bool:
        """Make what the process has said so far the run's log; whether there is one."""
        with self._lock:
            if not self._log.exists():
                return False
            if (size := self._log.stat().st_size) != self._published:
                publish(self._ground, self._name)
                self._published = size
            return True

    def _run(self) -> None:
        state, error = "Failed", None
        try:
            state, error = self._done()
        except (UnknownPlaceError, UnknownBindingError) as refused:
            error = {"code": "UserError", "message": str(refused)}
        except Exception:
            error = {"code": "ServiceError", "message": traceback.format_exc(limit=-3)}
        if self._cancelled:
            state, error = "Canceled", None
        self._report(state, error)

    def _done(self) -> tuple[str, dict[str, Any] | None]:
        self._report("Preparing", None)
        work = self._folder / "wd"
        work.mkdir(parents=True, exist_ok=True)
        if code := self._properties.get("codeId"):
            uri = self._ground.codes.find(code)
            if uri is None:
                raise UnknownPlaceError(f"The code asset '{code}' was not found.")
            self._ground.storage.download(uri, work)
        bindings = bind(self._name, self._properties, self._folder / "data", self._ground.storage)
        told = command(self._name, self._properties, bindings)
        self._report("Queued", None)
        with self._lock:
            if self._cancelled:
                return "Canceled", None
            process = self._ground.processes.start(
                self._process, told, folder=work, environment=self._environment(), log=self._log
            )
        self._report("Running", None)
        ended = self._wait(process)
        self._ground.processes.stop(self._process)  # what it left running
        self._report("Finalizing", None)
        self._put_away(work, bindings)
        if not ended:
            limit = self._properties["limits"]["timeout"]
            return "Canceled", {"code": "UserError", "message": f"The job ran for longer than its limit, {limit}."}
        return ("Completed", None) if process.returncode == 0 else ("Failed", self._error(process.returncode))

    def _wait(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether it ended by itself, in time."""
        try:
            process.wait(_seconds((self._properties.get("limits") or {}).get("timeout")))
        except subprocess.TimeoutExpired:
            return False
        return True

    def _put_away(self, work: Path, bindings: Bindings) -> None:
        self.publish()
        storage = self._ground.storage
        for name in _ARTIFACTS:
            if (work / name).is_dir():
                storage.upload(work / name, f"azureml://jobs/{self._name}/outputs/artifacts/paths/{name}")
        for place, uri in bindings.uploads.items():
            if place.exists():
                storage.upload(place, uri)

    def _error(self, code: int) -> dict[str, Any]:
        """What Azure says of a process that failed."""
        said = self._log.read_text(encoding="utf-8", errors="replace")[-_TOLD:].strip()
        spark = self._properties["jobType"] == "Spark"
        program = "spark-submit" if spark else self._properties["command"].split(maxsplit=1)[0]
        ended = f"was terminated by signal {-code}" if code < 0 else f"exited with status code {code}"
        told = (
            f"Execution failed. User process '{program}' {ended}. Please check log file '{LOG}' for error details. "
            f"Error: {said}"
        )
        return {"code": "UserError", "message": told}

    def _environment(self) -> dict[str, str]:
        """What Azure gives a job, and what leads it to this emulator."""
        token = self._ground.identity.token()
        _, _, subscription, _, group, *_, workspace = self._ground.arm_id.split("/")
        experiment = {"ID": str(self._properties["experimentId"]), "NAME": self._properties["experimentName"]}
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AZUREML_"))}
        return {
            **outside,
            **self._ground.environment,
            "PATH": f"{PYTHONS}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYSPARK_PYTHON": sys.executable,
            "PYSPARK_DRIVER_PYTHON": sys.executable,
            "PYTHONUNBUFFERED": "1",  # its log is read while it grows
            "MLFLOW_RUN_ID": self._name,
            "MLFLOW_TRACKING_TOKEN": token,
            **{f"MLFLOW_EXPERIMENT_{key}": value for key, value in experiment.items()},
            "AZUREML_RUN_ID": self._name,
            "AZUREML_RUN_TOKEN": token,
            "AZUREML_EXPERIMENT_ID": experiment["ID"],
            "AZUREML_ARM_PROJECT_NAME": experiment["NAME"],
            "AZUREML_ARM_SUBSCRIPTION": subscription,
            "AZUREML_ARM_RESOURCEGROUP": group,
            "AZUREML_ARM_WORKSPACE_NAME": workspace,
            "AZUREML_CURRENT_CLOUD": "AzureCloud",
            **{name: str(value) for name, value in (self._properties.get("environmentVariables") or {}).items()},
        }


def publish(ground: Ground, name: str) -> None:
    """Make the output of a job's process the log of its run."""
    ground.blobs.put(CONTAINER, f"{OF_RUNS}{name}/{LOG}", log_file(ground.folder, name))


def log_file(folder: Path, name: str) -> Path:
    """Where a job's output is kept, in the control plane's folder."""
    return folder / "jobs" / name / "std_log.txt"


def _seconds(limit: str | None) -> float | None:
    found = _LIMIT.fullmatch(limit or "")
    if not found or not any(found.groups()):
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds
