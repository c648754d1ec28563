"""Finished runs, copied from one MLflow store to another."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aml_spark.plugin import REQUEST_ID

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

COPY_OF = "aml_spark.copy_of_run"
_ENDED = ("FINISHED", "FAILED", "KILLED")
_PARENT = "mlflow.parentRunId"
_BATCH = 100  # the most that every store takes in one request
_PAGE = 1000
_logger = logging.getLogger(__name__)


class RunCopier:
    """Copies runs of experiments in one store into one experiment of another, each once.

    A copy carries its origin's id as a tag and ends as its origin did, as the last thing that is done: what was
    interrupted is found by the one and gone on with because of the other.

    Args:
        source: the store with the runs.
        target: the store that gets them.
        experiment_id: the experiment there.
    """

    def __init__(self, source: MlflowClient, target: MlflowClient, experiment_id: str) -> None:
        self.source, self.target, self.experiment_id = source, target, experiment_id
        known = _all_runs(target, experiment_id, f"tags.`{COPY_OF}` != ''")
        self._copies = {run.data.tags[COPY_OF]: run for run in known}

    def copy_all(self, experiment_id: str) -> dict[str, str]:
        """Copy what has ended in an experiment and isn't copied yet; gives new ids by old ones."""
        made = {}
        for run in _all_runs(self.source, experiment_id, ""):
            if run.info.status in _ENDED and not self._is_done(run.info.run_id):
                made[run.info.run_id] = self.copy(run)
                _logger.info("copied run %s", run.info.run_name)
        return made

    def copy(self, run: Run, *, artifacts: bool = True) -> str:
        """Copy one run; gives the copy's id."""
        copy_id = self.begin(run)
        if not self._is_done(run.info.run_id):
            if artifacts:
                self._artifacts(run, copy_id)
            self.end(run, copy_id)
        return copy_id

    def begin(self, run: Run) -> str:
        """A copy with all but the artifacts, that isn't ended yet unless it was before."""
        if self._is_done(run.info.run_id):
            return str(self._copies[run.info.run_id].info.run_id)
        copy = self._shell(run)
        copy_id, there = copy.info.run_id, copy.data
        params = [param for param in _params(run) if param.key not in there.params]
        for start in range(0, len(params), _BATCH):
            self.target.log_batch(copy_id, params=params[start : start + _BATCH])
        for key in run.data.metrics:
            before = self.target.get_metric_history(copy_id, key) if key in there.metrics else []
            known = {_identity(metric) for metric in before}
            history = {_identity(metric): metric for metric in self.source.get_metric_history(run.info.run_id, key)}
            missing = [_plain(metric) for identity, metric in history.items() if identity not in known]
            for start in range(0, len(missing), _BATCH):
                self.target.log_batch(copy_id, metrics=missing[start : start + _BATCH])
        return str(copy_id)

    def end(self, run: Run, copy_id: str) -> None:
        """End the copy as its origin ended."""
        self.target.set_terminated(copy_id, run.info.status, run.info.end_time)
        self._copies[run.info.run_id] = self.target.get_run(copy_id)

    def _is_done(self, run_id: str) -> bool:
        return run_id in self._copies and self._copies[run_id].info.status in _ENDED

    def _shell(self, run: Run) -> Run:
        """The copy as it was begun, or a new one; below a copy of its parent."""
        run_id = run.info.run_id
        if run_id not in self._copies:
            tags = {key: value for key, value in run.data.tags.items() if key != REQUEST_ID} | {COPY_OF: run_id}
            if parent := tags.pop(_PARENT, None):
                tags[_PARENT] = self._shell(self.source.get_run(parent)).info.run_id
            self._copies[run_id] = self.target.create_run(
                self.experiment_id, run.info.start_time, tags, run_name=run.info.run_name
            )
        return self._copies[run_id]

    def _artifacts(self, run: Run, copy_id: str) -> None:
        there = set(_files(self.target, copy_id))
        for entry in self.source.list_artifacts(run.info.run_id):
            files = list(_files(self.source, run.info.run_id, entry.path)) if entry.is_dir else [entry.path]
            if set(files) <= there:
                continue
            with tempfile.TemporaryDirectory() as folder:
                found = self.source.download_artifacts(run.info.run_id, entry.path, folder)
                if entry.is_dir:
                    self.target.log_artifacts(copy_id, found, entry.path)
                else:
                    self.target.log_artifact(copy_id, found)
        for name, address in _models(self.source, run):
            self.model_files(copy_id, address, name)

    def model_files(self, copy_id: str, address: str, name: str) -> None:
        """Copy a model's files below a run."""
        from mlflow.artifacts import download_artifacts

        with tempfile.TemporaryDirectory() as folder:
            found = download_artifacts(artifact_uri=address, dst_path=folder, tracking_uri=self.source.tracking_uri)
            self.target.log_artifacts(copy_id, found, name)


def _all_runs(client: MlflowClient, experiment_id: str, condition: str) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], condition, max_results=_PAGE, order_by=["attributes.start_time ASC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _files(client: MlflowClient, run_id: str, path: str | None = None) -> Iterator[str]:
    for entry in client.list_artifacts(run_id, path):
        if entry.is_dir:
            yield from _files(client, run_id, entry.path)
        else:
            yield entry.path


def _models(client: MlflowClient, run: Run) -> Iterator[tuple[str, str]]:
    """Names and addresses of the models that MLflow 3 keeps outside of the run's own artifacts."""
    outputs = getattr(run, "outputs", None)
    for output in (outputs.model_outputs if outputs else None) or []:
        model = client.get_logged_model(output.model_id)
        yield model.name, model.artifact_location


def _params(run: Run) -> list[Any]:
    from mlflow.entities import Param

    values: Mapping[str, str] = run.data.params
    return [Param(key, value) for key, value in values.items()]


def _identity(metric: Any) -> tuple[Any, ...]:
    return metric.timestamp, metric.step, repr(metric.value)


def _plain(metric: Any) -> Any:
    from mlflow.entities import Metric

    return Metric(metric.key, metric.value, metric.timestamp, metric.step)
