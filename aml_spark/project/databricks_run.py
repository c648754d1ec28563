"""A one-time run on Databricks, as MLflow follows and ends it."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from mlflow.projects import SubmittedRun

from aml_spark.errors import AmlSparkError, ServiceError
from aml_spark.progress import waiting
from aml_spark.project import run as runs
from aml_spark.project.databricks_api import ask

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.jobs import Run

_logger = logging.getLogger("mlflow.projects.aml_spark")  # MLflow shows what it says
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0  # seconds between two looks
_ENDED = ("TERMINATED", "SKIPPED", "INTERNAL_ERROR")
_NOT_BEGUN = ("PENDING", "QUEUED", "BLOCKED", "WAITING_FOR_RETRY")
_SHOWN_LINES = 100  # of what a failed run wrote


class DatabricksRun(SubmittedRun):
    """A run that was submitted.

    Args:
        client: for the workspace that runs it.
        job_run_id: its id there.
        run_id: of the MLflow run.
    """

    def __init__(self, client: WorkspaceClient, job_run_id: int, run_id: str) -> None:
        super().__init__()
        self._client, self.job_run_id, self._run_id = client, job_run_id, run_id
        self._last: Run | None = None

    @property
    def run_id(self) -> str:
        """Of the MLflow run."""
        return self._run_id

    def look(self) -> Run:
        """How it is now.

        Raises:
            ServiceError: Databricks doesn't say.
        """
        if self._last is None or _state(self._last) not in _ENDED:
            self._last = ask(
                f"ask after the run {self.job_run_id}, which goes on",
                lambda: self._client.jobs.get_run(self.job_run_id),
                hint=f"its page is {self._last.run_page_url}" if self._last else None,
            )
        return self._last

    def get_status(self) -> str:
        """MLflow's name for how it is: SCHEDULED, RUNNING, FINISHED, FAILED or KILLED."""
        run = self.look()
        if _state(run) in _ENDED:
            return {"SUCCESS": "FINISHED", "SUCCESS_WITH_FAILURES": "FINISHED", "CANCELED": "KILLED"}.get(
                _result(run), "FAILED"
            )
        return "SCHEDULED" if _state(run) in _NOT_BEGUN else "RUNNING"

    def wait(self) -> bool:
        """Wait for its end, and log why it failed.

        Returns:
            Whether it succeeded.

        Raises:
            ServiceError: Databricks doesn't tell of it. The run goes on.
        """
        self._end()
        status = self.get_status()
        if status != "FINISHED":
            _logger.error("%s", self._failure())
        runs.end(self.run_id, status)
        return status == "FINISHED"

    def cancel(self) -> None:
        """End it, wait for that, and leave the MLflow run KILLED.

        Raises:
            ServiceError: it can't be cancelled, and may go on; with its id and page.
        """
        hint = f"cancel it on its page {self._last.run_page_url}" if self._last else None
        try:
            if self._last is None or _state(self._last) not in _ENDED:
                ask(
                    f"cancel the run {self.job_run_id}, which may go on",
                    lambda: self._client.jobs.cancel_run(self.job_run_id),
                    hint=hint,
                )
                self._end()
        except (KeyboardInterrupt, SystemExit):
            raise ServiceError(f"the run {self.job_run_id} may go on: its end wasn't waited for", hint=hint) from None
        runs.end(self.run_id, self.get_status())

    def _end(self) -> None:
        pause, start = _FIRST_PAUSE, time.monotonic()
        with waiting(f"Databricks run {self.job_run_id}") as show:
            while _state(run := self.look()) not in _ENDED:
                show(f"{_state(run)}, {time.monotonic() - start:.0f} s, {run.run_page_url}")
                time.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _failure(self) -> str:
        """Why it failed, in Databricks' words and in its own."""
        run = self.look()
        message = run.state.state_message if run.state else None
        told = [f"the Databricks run {self.job_run_id} ended as {_result(run)}: {message} ({run.run_page_url})"]
        try:
            for task_id in [task.run_id for task in run.tasks or [] if task.run_id is not None]:
                output = ask("get what it wrote", partial(self._client.jobs.get_run_output, task_id))
                lines = (output.logs or "").splitlines()
                if len(lines) > _SHOWN_LINES:
                    lines = [f"… {len(lines) - _SHOWN_LINES} lines before", *lines[-_SHOWN_LINES:]]
                trace = output.error_trace or ""
                shown_already = bool(trace) and trace.rstrip().splitlines()[-1] in lines
                told += lines + [part for part in (output.error, "" if shown_already else trace) if part]
        except AmlSparkError as error:
            told.append(str(error))
        return "\n".join(told)


def _state(run: Run) -> str:
    state = run.state.life_cycle_state if run.state else None
    return state.value if state else "PENDING"


def _result(run: Run) -> str:
    result = run.state.result_state if run.state else None
    return result.value if result else _state(run)
