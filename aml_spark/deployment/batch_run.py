"""One invocation of a batch endpoint, which is a job of the workspace."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from aml_spark import control, datalake, files
from aml_spark.deployment import waiting
from aml_spark.errors import DeploymentError

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Job


class BatchRun:
    """One invocation of a batch endpoint: a job of the workspace.

    Args:
        client: of the workspace.
        job: the job's name.
        output: URI of the file that the predictions go to.
    """

    def __init__(self, client: MLClient, job: str, output: str) -> None:
        self._client, self.job, self.output = client, job, output

    def __repr__(self) -> str:
        return f"BatchRun(job={self.job!r}, output={self.output!r})"

    @property
    def status(self) -> str:
        """Azure's word for how far it is: `Queued`, `Running`, `Completed` and others."""
        return waiting.text(self._look().status)

    def wait(self) -> BatchRun:
        """Follow it to its end. Ctrl-C leaves it running, and says so.

        Raises:
            DeploymentError: it failed, was cancelled, is paused or doesn't respond.
            ServiceError: Azure doesn't tell of it.
        """
        with control.job_goes_on(self.job):
            job = waiting.rested(
                self._look, f"job {self.job}", told=lambda one: waiting.text(one.status), ended=control.JOB_ENDED
            )
        if (ended := waiting.text(job.status)) != "Completed":
            raise DeploymentError(f"the job {self.job!r} is {ended}", hint=f"aml-spark job logs {self.job}")
        return self

    def download(self, target: str | os.PathLike[str]) -> Path:
        """Fetch the predictions: as Azure writes them, without a header, the name of each row's file at the end.

        Args:
            target: the file to write, or a folder that is there.

        Raises:
            DataLakeError: they can't be read.
        """
        return files.download(datalake.find(self.output), target)

    def cancel(self) -> None:
        """End the job before its time.

        Raises:
            ServiceError: Azure refuses it.
        """
        with control.own_words(f"cancel the job {self.job!r}"):
            self._client.jobs.begin_cancel(self.job)

    def _look(self) -> Job:
        with control.own_words(f"look at the job {self.job!r}"):
            found: Job = self._client.jobs.get(self.job)
            return found
