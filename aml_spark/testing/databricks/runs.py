"""One-time runs: each a process of its own that runs the task's file."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aml_spark.testing.control.processes import Processes
from aml_spark.testing.control.records import Records
from aml_spark.testing.databricks.refusals import RefusalError, invalid
from aml_spark.testing.databricks.submission import check, filled, unmet
from aml_spark.testing.databricks.tree import Tree

WORKSPACE_ID = "4711"
_STEP = 0.05  # seconds between looks at whether a run is to end
_MOST_LOGS = 5 * 2**20  # bytes that are given out, the last ones
_BEGIN = "Traceback (most recent call last):"
ENDED = ("TERMINATED", "INTERNAL_ERROR")


class Runs:
    """The runs of one workspace, from before, too.

    A run has the environment of the emulator, the variables that lead to it, and those of its new cluster.
    `DATABRICKS_RUNTIME_VERSION` is not set: it tells libraries that they run in a session and with modules of
    Databricks, which are not there.

    Args:
        folder: where they are kept, with what each wrote.
        tree: the workspace's files.
    """

    def __init__(self, folder: Path, tree: Tree) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._tree = folder, tree
        self._records, self._tokens = Records(folder / "runs.json"), Records(folder / "tokens.json")
        self._processes = Processes()
        self._lock = threading.Lock()
        self._working: dict[int, threading.Thread] = {}
        self._cancelled: dict[int, threading.Event] = {}
        self.environment: Mapping[str, str] = {}
        """The variables that lead a process to this emulator; known once it serves."""
        with self._records.changed() as runs:
            for run in runs.values():
                if run["state"] not in ENDED:
                    run.update(_end("INTERNAL_ERROR", "FAILED", "INTERNAL_ERROR", "The emulator ended meanwhile."))

    def submit(self, asked: dict[str, Any]) -> int:
        """Start one; with a token that was used before nothing is started, and that run's id is given.

        Returns:
            Its id.
        """
        check(asked, self._tree)
        token = asked.get("idempotency_token")
        with self._lock:
            if token and (known := self._tokens.get(token)):
                if self._records.get(str(known)) is None:
                    raise invalid(f"Run {known} with the idempotency token {token} was deleted.")
                return int(known)
            run_id = max([time.time_ns() // 1000, *(int(one) + 2 for one in self._records.all())])
            if token:
                self._tokens.put(token, run_id)
            run = {
                "run_id": run_id,
                "task_run_id": run_id + 1,
                "job_id": run_id - 1,
                "asked": asked,
                "state": "PENDING",
                "start": _now(),
            }
            self._records.put(str(run_id), run)
            self._cancelled[run_id] = threading.Event()
            thread = threading.Thread(target=self._work, args=(run,), daemon=True)
            self._working[run_id] = thread
        thread.start()
        return run_id

    def get(self, run_id: int) -> dict[str, Any]:
        """What is known of one, by its own id or its task's."""
        for one in (run_id, run_id - 1):
            found: dict[str, Any] | None = self._records.get(str(one))
            if found is not None and run_id in (found["run_id"], found["task_run_id"]):
                return found
        raise invalid(f"Run {run_id} does not exist.")

    def all(self) -> list[dict[str, Any]]:
        """All, the newest first."""
        return sorted(self._records.all().values(), key=lambda run: -run["run_id"])

    def cancel(self, run_id: int) -> None:
        """Have one end; nothing where it has ended."""
        run = self.get(run_id)
        if run["state"] not in ENDED:
            self._cancelled[run["run_id"]].set()

    def delete(self, run_id: int) -> None:
        """Forget one that has ended."""
        run = self.get(run_id)
        if run["state"] not in ENDED:
            raise RefusalError(400, "INVALID_STATE", f"Run {run_id} is active and cannot be deleted.")
        self._records.pop(str(run["run_id"]))

    def logs(self, run: dict[str, Any]) -> tuple[str, bool]:
        """What one wrote, and whether there was more before that."""
        file = self._log(run)
        if not file.exists():
            return "", False
        with file.open("rb") as words:
            size = words.seek(0, os.SEEK_END)
            words.seek(max(0, size - _MOST_LOGS))
            return words.read().decode(errors="replace"), size > _MOST_LOGS

    def close(self) -> None:
        """End all."""
        for event in list(self._cancelled.values()):
            event.set()
        for thread in list(self._working.values()):
            thread.join()
        self._processes.close()

    def _log(self, run: dict[str, Any]) -> Path:
        return self._folder / str(run["run_id"]) / "output.log"

    def _change(self, run: dict[str, Any], **known: Any) -> None:
        run.update(known)
        self._records.put(str(run["run_id"]), run)

    def _work(self, run: dict[str, Any]) -> None:
        try:
            end = self._end_of(run)
        except Exception as error:
            end = _end("INTERNAL_ERROR", "FAILED", "INTERNAL_ERROR", f"The emulator failed: {error!r}")
        self._change(run, **end)
        self._working.pop(run["run_id"], None)

    def _end_of(self, run: dict[str, Any]) -> dict[str, Any]:
        package = unmet(run["asked"])
        if package is not None:
            told = f"Library installation failed: no matching distribution of {package!r} is in the emulator's Python."
            return _end("INTERNAL_ERROR", "FAILED", "LIBRARY_INSTALLATION_ERROR", told)
        process, name = self._start(run), str(run["run_id"])
        self._change(run, state="RUNNING", begun=_now())
        end, cancelled = _deadline(run["asked"]), self._cancelled[run["run_id"]]
        while not (cancelled.is_set() or (end is not None and time.monotonic() > end)):
            try:
                code = process.wait(_STEP)
            except subprocess.TimeoutExpired:
                continue
            self._processes.stop(name)  # what it left behind in its group
            if code == 0:
                return _end("TERMINATED", "SUCCESS", "SUCCESS", "")
            error, trace = _failure(self.logs(run)[0], code)
            told = "Workload failed, see run output for details"
            return {**_end("TERMINATED", "FAILED", "RUN_EXECUTION_ERROR", told), "error": error, "trace": trace}
        told, result, why = ("Run cancelled.", "CANCELED", "USER_CANCELED")
        if not cancelled.is_set():
            told, result, why = ("Run timed out.", "TIMEDOUT", "CANCELED")
        self._change(run, state="TERMINATING", code=why, message=told)
        self._processes.stop(name)
        return _end("TERMINATED", result, why, told)

    def _start(self, run: dict[str, Any]) -> subprocess.Popen[bytes]:
        task = run["asked"]["tasks"][0]
        values = {
            "job.id": str(run["job_id"]),
            "job.run_id": str(run["run_id"]),
            "task.run_id": str(run["task_run_id"]),
            "task.name": task["task_key"],
            "workspace.id": WORKSPACE_ID,
        }
        given = [filled(one, values) for one in task["spark_python_task"].get("parameters", [])]
        command = [self._tree.local(task["spark_python_task"]["python_file"]), *map(self._tree.mapped, given)]
        folder = self._log(run).parent
        folder.mkdir(parents=True, exist_ok=True)
        new = task.get("new_cluster") or {}
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **self.environment, **(new.get("spark_env_vars") or {})}
        if new.get("spark_conf"):
            lines = [f"{name} {value}\n" for name, value in new["spark_conf"].items()]
            (folder / "spark-defaults.conf").write_text("".join(lines), encoding="utf-8")
            environment["SPARK_CONF_DIR"] = str(folder)
        return self._processes.start(
            str(run["run_id"]),
            [sys.executable, *map(str, command)],
            folder=folder,
            environment=environment,
            log=self._log(run),
        )


def _now() -> int:
    return int(time.time() * 1000)


def _end(state: str, result: str, code: str, message: str) -> dict[str, Any]:
    return {"state": state, "result": result, "code": code, "message": message, "end": _now()}


def _deadline(asked: dict[str, Any]) -> float | None:
    limits = [one for one in (asked.get("timeout_seconds"), asked["tasks"][0].get("timeout_seconds")) if one]
    return time.monotonic() + min(limits) if limits else None


def _failure(log: str, code: int) -> tuple[str, str | None]:
    """What a failed process died of, and its trace where it told one."""
    begin = log.rfind(_BEGIN)
    if code < 0:
        return f"The Python process was ended by signal {-code}.", None
    if code != 1 or begin < 0:
        return f"SystemExit: {code}", None
    trace = log[begin:].strip()
    words = [line for line in trace.splitlines()[1:] if line and not line.startswith(" ")]
    return (words[0] if words else "The Python process failed."), trace
