"""Finished runs, copied from one MLflow store to another."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aml_spark.tags import COPY_OF, REQUEST_ID

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_ENDED = ("FINISHED", "FAILED", "KILLED")
_PARENT = "mlflow.parentRunId"
_BATCH = 100  # the most that every store takes in one request
_PAGE = 1000
_logger = logging.getLogger(__name__)


class RunCopier:
    """Copies runs from one store into one experiment of another, each once.

    A copy carries its origin's id as a tag and ends as its origin did, as the last thing that is done: what was
    interrupted is found by the one and gone on with because of the other.

    Args:
        source: the store with the runs.
        target: the store that gets them.
        experiment_id: the experiment there.
        only: the one origin whose copy is looked for; None for all.
    """

    def __init__(
        self, source: MlflowClient, target: MlflowClient, experiment_id: str, *, only: str | None = None
    ) -> None:
        self.source, self.target, self.experiment_id = source, target, experiment_id
        condition = f"tags.`{COPY_OF}` = '{only}'" if only else f"tags.`{COPY_OF}` != ''"
        known = _all_runs(target, experiment_id, condition)
        self._copies = {run.data.tags[COPY_OF]: run for run in known}
        self._origins: dict[str, Run] = {}  # what is mirrored now: below copies of these go those of their children

    def copy_all(self, experiment_id: str) -> tuple[dict[str, str], dict[str, Exception]]:
        """Copy what has ended in an experiment and isn't copied yet.

        Returns:
            New ids by old ones, and what kept a run from being copied by its name and id: such a run holds up no other.
        """
        made: dict[str, str] = {}
        failed: dict[str, Exception] = {}
        self._origins = {run.info.run_id: run for run in _all_runs(self.source, experiment_id, "")}
        for run_id, run in self._origins.items():
            if run.info.status not in _ENDED or self._is_done(run_id):
                continue
            try:
                made[run_id] = self._copy(self.source.get_run(run_id))  # a search may leave out its models
            except Exception as error:  # the stores' and the file system's
                for client, experiment in ((self.source, experiment_id), (self.target, self.experiment_id)):
                    client.get_experiment(experiment)  # raises where it is the store that fails, not this run
                failed[f"{run.info.run_name!r} ({run_id})"] = error
            else:
                _logger.info("copied run %s", run.info.run_name)
        return made, failed

    def begin(self, run: Run) -> str:
        """A copy with all but the artifacts, that isn't ended yet unless it was before; gives its id."""
        if self._is_done(run.info.run_id):
            return str(self._copies[run.info.run_id].info.run_id)
        copy = self._shell(run)
        copy_id, there = str(copy.info.run_id), copy.data
        self._log(copy_id, "params", [param for param in _params(run) if param.key not in there.params])
        wanted = self._tags(run)
        self._log(copy_id, "tags", [tag for tag in wanted if there.tags.get(tag.key) != tag.value])
        if copy.info.run_name != run.info.run_name:
            self.target.update_run(copy_id, name=run.info.run_name)
        for key in run.data.metrics:
            before = self.target.get_metric_history(copy_id, key) if key in there.metrics else []
            known = {_identity(metric) for metric in before}
            history = {_identity(metric): metric for metric in self.source.get_metric_history(run.info.run_id, key)}
            missing = [_plain(metric) for identity, metric in history.items() if identity not in known]
            self._log(copy_id, "metrics", missing)
        return copy_id

    def begin_without(self, origin: str, name: str) -> str:
        """The same for something that has no run: an empty one; gives its id."""
        if origin not in self._copies:
            self._copies[origin] = self.target.create_run(self.experiment_id, tags={COPY_OF: origin}, run_name=name)
        return str(self._copies[origin].info.run_id)

    def end(self, copy_id: str, run: Run | None) -> None:
        """End the copy as its origin ended."""
        self.target.set_terminated(copy_id, run.info.status if run else None, run.info.end_time if run else None)
        if run:
            self._copies[run.info.run_id] = self.target.get_run(copy_id)

    def _copy(self, run: Run) -> str:
        copy_id = self.begin(run)
        self._artifacts(run, copy_id)
        self.end(copy_id, run)
        return copy_id

    def _is_done(self, run_id: str) -> bool:
        return run_id in self._copies and self._copies[run_id].info.status in _ENDED

    def _shell(self, run: Run) -> Run:
        """The copy as it was begun, or a new one."""
        run_id = run.info.run_id
        if run_id not in self._copies:
            tags = {tag.key: tag.value for tag in self._tags(run)}
            self._copies[run_id] = self.target.create_run(
                self.experiment_id, run.info.start_time, tags, run_name=run.info.run_name
            )
        return self._copies[run_id]

    def _tags(self, run: Run) -> list[Any]:
        """What the copy gets; its parent is the copy of the origin's, where that is mirrored, too."""
        from mlflow.entities import RunTag

        tags = {key: value for key, value in run.data.tags.items() if key != REQUEST_ID}
        parent = self._origins.get(tags.pop(_PARENT, ""))
        if parent is not None:
            tags[_PARENT] = self._shell(parent).info.run_id
        return [RunTag(key, value) for key, value in {**tags, COPY_OF: run.info.run_id}.items()]

    def _log(self, copy_id: str, kind: str, entities: list[Any]) -> None:
        for start in range(0, len(entities), _BATCH):
            some: dict[str, Any] = {kind: entities[start : start + _BATCH]}
            self.target.log_batch(copy_id, **some)

    def _artifacts(self, run: Run, copy_id: str) -> None:
        from mlflow.artifacts import download_artifacts

        there = set(_files(self.target._tracking_client._get_artifact_repo(copy_id)))
        # The run's own files: MLflow's client shows those of models of the same name among them.
        source = self.source._tracking_client._get_artifact_repo(run.info.run_id)
        own = source.list_artifacts()
        for entry in own:
            files = list(_files(source, entry.path)) if entry.is_dir else [entry.path]
            if set(files) <= there:
                continue
            with tempfile.TemporaryDirectory() as folder:
                found = source.download_artifacts(entry.path, folder)
                if entry.is_dir:
                    self.target.log_artifacts(copy_id, found, entry.path)
                else:
                    self.target.log_artifact(copy_id, found)
        for place, address in _models(self.source, run, {entry.path for entry in own}).items():
            with tempfile.TemporaryDirectory() as folder:
                found = download_artifacts(artifact_uri=address, dst_path=folder, tracking_uri=self.source.tracking_uri)
                self.target.log_artifacts(copy_id, found, place)


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


def _files(repository: Any, path: str | None = None) -> Iterator[str]:
    for entry in repository.list_artifacts(path):
        if entry.is_dir:
            yield from _files(repository, entry.path)
        else:
            yield entry.path


def _models(client: MlflowClient, run: Run, taken: set[str]) -> dict[str, str]:
    """Places and addresses of the models that MLflow 3 keeps outside of the run's own artifacts.

    Of several with one name the newest has it as its place, where it isn't taken; the others their ids behind it.
    """
    from mlflow.entities import LoggedModelStatus
    from mlflow.exceptions import MlflowException

    models = []
    outputs = getattr(run, "outputs", None)
    for output in (outputs.model_outputs if outputs else None) or []:
        try:
            model = client.get_logged_model(output.model_id)
        except MlflowException as error:
            if error.get_http_status_code() != 404:
                raise
            continue  # it was deleted
        if model.status == LoggedModelStatus.READY:  # else logging it failed, and there are no files
            models.append(model)
    places: dict[str, str] = {}
    for model in sorted(models, key=lambda model: model.creation_timestamp, reverse=True):
        free = model.name not in places and model.name not in taken
        places[model.name if free else f"{model.name}-{model.model_id}"] = model.artifact_location
    return places


def _params(run: Run) -> list[Any]:
    from mlflow.entities import Param

    return [Param(key, value) for key, value in run.data.params.items()]


def _identity(metric: Any) -> tuple[Any, ...]:
    return metric.timestamp, metric.step, repr(metric.value)


def _plain(metric: Any) -> Any:
    from mlflow.entities import Metric

    return Metric(metric.key, metric.value, metric.timestamp, metric.step)
