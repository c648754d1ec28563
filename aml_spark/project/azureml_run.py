"""A job of Azure Machine Learning while it runs: followed, told of, cancelled."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.projects import SubmittedRun

from aml_spark import addresses, control
from aml_spark.errors import ServiceError
from aml_spark.project import run as runs
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Job

_logger = logging.getLogger("mlflow.projects.aml_spark")  # MLflow shows what it says
_ENDED = {**dict.fromkeys(control.JOB_ENDED, "FAILED"), "Completed": "FINISHED", "Canceled": "KILLED"}
_BEFORE = ("NotStarted", "Starting", "Provisioning", "Preparing", "Queued")
_PERMANENT = range(400, 500)  # HTTP statuses that asking again doesn't change, but for these:
_PASSING = (408, 429)
_LONGEST = 60.0  # seconds between two questions
_CANCELLING = 300.0  # seconds that a cancelled job has to end


class AzureRun(SubmittedRun):
    """A job of a workspace.

    Args:
        client: of the workspace.
        workspace: where it runs.
        job: as it was sent.
        linked: id of its MLflow run in another store; None where the job is its run.
    """

    def __init__(self, client: MLClient, workspace: Workspace, job: Job, linked: str | None) -> None:
        self._client, self._workspace, self._linked = client, workspace, linked
        self.job_name = str(job.name)
        studio: Any = (job.services or {}).get("Studio")
        self.url: str | None = getattr(studio, "endpoint", None)

    @property
    def run_id(self) -> str:
        """Id of its MLflow run."""
        return self._linked or self.job_name

    def tag_run(self) -> None:
        """Have the MLflow run in another store name the job."""
        store = mlflow.MlflowClient()
        told = {"job": self.job_name, "job_workspace": self._workspace.arm_id, "job_url": self.url}
        for name, value in told.items():
            if value:
                store.set_tag(self.run_id, f"aml_spark.{name}", value)

    def wait(self) -> bool:
        """Show what the job says until it ends; whether it succeeded. Why it didn't is logged.

        A connection that breaks is waited out.

        Raises:
            AuthenticationError: nobody is signed in any more. The job goes on, as with the others.
            BrokenPipeError: nobody reads what is shown.
            ServiceError: Azure refuses to tell of it.
        """
        failure = self._stream()
        state, pause = self._patient_state(), 1.0
        while state not in _ENDED:  # its run may end before it does
            time.sleep(pause)
            state, pause = self._patient_state(), min(2 * pause, _LONGEST)
        if state != "Completed":
            _logger.error("the job %s ended as %s%s", self.job_name, state, f": {failure}" if failure else "")
        if self._linked:
            runs.end(self._linked, _ENDED[state])
        return state == "Completed"

    def get_status(self) -> str:
        """MLflow's word for it: SCHEDULED, RUNNING, FINISHED, FAILED or KILLED.

        Raises:
            ServiceError: Azure doesn't tell.
        """
        with control.own_words(f"ask for the job {self.job_name!r}"):
            state = self._state()
        return _ENDED.get(state) or ("SCHEDULED" if state in _BEFORE else "RUNNING")

    def cancel(self) -> None:
        """Cancel the job and wait for its end. Where that fails, it is logged what goes on running."""
        try:
            with control.own_words(f"cancel the job {self.job_name!r}"):
                control.finished(self._client.jobs.begin_cancel(self.job_name), f"cancel {self.job_name}")
            pause, last = 1.0, time.monotonic() + _CANCELLING
            while (state := self._patient_state()) not in _ENDED and time.monotonic() < last:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST)
            _logger.info("the job %s is %s", self.job_name, state)
        except BaseException as error:
            _logger.error(
                "the job %s of the workspace %s may still be running: %s\nHint: aml-spark job cancel %s",
                *(self.job_name, self._workspace.label, str(error) or type(error).__name__, self.job_name),
            )
            if isinstance(error, Exception):
                return
            raise
        if self._linked:
            try:
                runs.end(self._linked, _ENDED.get(state, "KILLED"))
            except Exception as error:  # the job ended, and that is what was asked for
                why = addresses.told(error, mlflow.get_tracking_uri())
                _logger.warning("the run %s isn't marked as ended: %s", self._linked, why)

    def _stream(self) -> str | None:
        """Show what the job says; gives why it failed. After a broken connection it is shown from its begin again."""
        from azure.ai.ml.exceptions import JobException

        pause = 1.0
        while True:
            try:
                self._client.jobs.stream(self.job_name)
                return None
            except JobException as error:
                if isinstance(error.__cause__, KeyboardInterrupt):
                    raise KeyboardInterrupt from None
                return _said(str(error.message))
            except Exception as error:  # told apart below
                pause = self._wait_out(error, pause)

    def _patient_state(self) -> str:
        pause = 1.0
        while True:
            try:
                return self._state()
            except Exception as error:  # told apart below
                pause = self._wait_out(error, pause)

    def _state(self) -> str:
        status: Any = self._client.jobs.get(self.job_name).status
        return str(getattr(status, "value", status))

    def _wait_out(self, error: Exception, pause: float) -> float:
        """Wait before the next question; gives how long to wait before the one after it."""
        status = getattr(error, "status_code", None)
        if not _passes(error):
            hint = f"aml-spark job show {self.job_name}"
            if status is not None:
                told = f"can't follow the job {self.job_name!r}, which goes on: {error}"
                raise ServiceError(told, hint=hint, status=status) from None
            _logger.error("the job %s goes on, but isn't followed any more\nHint: %s", self.job_name, hint)
            raise error
        _logger.warning("no word of the job %s (%s); asking again", self.job_name, type(error).__name__)
        time.sleep(pause)
        return min(2 * pause, _LONGEST)


def _passes(error: Exception) -> bool:
    """Whether the same question may be answered later."""
    from azure.ai.ml.exceptions import MlException
    from azure.core.exceptions import AzureError
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    if isinstance(error, AzureError):
        status = getattr(error, "status_code", None)
        return not isinstance(error, MlException) and (status not in _PERMANENT or status in _PASSING)
    if isinstance(error, BrokenPipeError):  # standard output's; of a connection it comes as one of the others
        return False
    return isinstance(error, (RequestException, HTTPError, ConnectionError, TimeoutError))


def _said(message: str) -> str:
    """What Azure says of a job that failed, out of azure-ai-ml's `Exception : {…}`."""
    try:
        return str(json.loads(message[message.index("{") :])["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return message.strip()
