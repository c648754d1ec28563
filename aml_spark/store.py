"""An Azure ML workspace as MLflow's tracking store, where MLflow is given `azureml://`.

It stands on MLflow's own REST store. What the service lacks is done in the nearest older way, and said once.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Sequence
from functools import cache
from typing import Any

from mlflow.entities import ExperimentTag, LoggedModel, LoggedModelStatus, Metric, RunTag
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.service_pb2 import CreateExperiment, CreateRun
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking import rest_store
from mlflow.store.tracking.rest_store import RestStore as TrackingRestStore
from mlflow.utils.proto_json_utils import parse_dict
from mlflow.utils.validation import _validate_batch_log_data

from aml_spark.addresses import is_registry
from aml_spark.errors import WorkspaceError
from aml_spark.service import Service, once, only_of_azure
from aml_spark.tags import EXPERIMENT_PATH, REQUEST_ID

METRICS_PER_BATCH = 200
PARAMS_PER_BATCH = 100
_MODEL_ID = "m-"
_logger = logging.getLogger(__name__)
# Paths by request: the class' in newer versions of MLflow 3, the module's in older ones.
_METHODS: Any = getattr(TrackingRestStore, "_METHOD_TO_INFO", None) or vars(rest_store).get("_METHOD_TO_INFO")
_CREATIONS = (CreateRun, CreateExperiment)
_OF_WORKSPACES = ("experiments", "runs", "metrics", "artifacts")
"""The kinds of MLflow's paths that a workspace has, besides those of models."""


class _LastRead(threading.local):
    """The run that a thread read the metrics of last, and those."""

    def __init__(self) -> None:
        self.run_id, self.metrics = "", set[tuple[Any, ...]]()


_last_read = _LastRead()


@cache
def _say_once(text: str) -> None:
    _logger.info(text)


class AzureMLTrackingStore(TrackingRestStore):
    """Experiments, runs, params, metrics and tags of a workspace.

    Args:
        store_uri: `azureml://<host>/mlflow/v1.0/subscriptions/…`.
        artifact_uri: unused; the workspace says where artifacts go.
    """

    def __init__(self, store_uri: str, artifact_uri: str | None = None) -> None:
        if is_registry(store_uri):
            raise WorkspaceError(
                f"{store_uri!r} is a registry, which holds models and no runs",
                hint="mlflow.set_registry_uri(…), or configure(registry=…)",
            )
        self.service = Service.of(store_uri)
        super().__init__(self.service.credentials)

    def _call_endpoint(
        self,
        api: Any,
        json_body: Any = None,
        endpoint: Any = None,
        retry_timeout_seconds: Any = None,
        response_proto: Any = None,
    ) -> Any:
        known, method = _METHODS[api]
        path, proto = endpoint or known, response_proto or api.Response()
        try:
            parse_dict(self.service.call_mlflow(method, path, json_body, retry=api not in _CREATIONS), proto)
        except RestException as error:
            kind = path.partition("/mlflow/")[2].partition("/")[0]
            if error.get_http_status_code() != 404 or kind in _OF_WORKSPACES:
                raise
            lacking = f"the workspace has no {kind.replace('-', ' ')} ({api.DESCRIPTOR.name})"
            raise RestException({"error_code": error.error_code, "message": lacking}) from None
        for run in [proto.run] if hasattr(proto, "run") else getattr(proto, "runs", []):
            only_of_azure(run.info.artifact_uri)
        return proto

    # Creations: sent again only after a look whether the first one was done

    def create_experiment(self, name: str, artifact_location: Any = None, tags: Any = None) -> Any:
        """As MLflow's. Of a path, as Databricks has them, the last part is the name; the path is kept as a tag."""
        request, leaf = uuid.uuid4().hex, _leaf(name)
        tagged = [*(tags or []), ExperimentTag(REQUEST_ID, request)]
        if leaf != name:
            tagged.append(ExperimentTag(EXPERIMENT_PATH, name))

        def find() -> Any:
            found = self.get_experiment_by_name(name)
            return found.experiment_id if found and found.tags.get(REQUEST_ID) == request else None

        create = super().create_experiment
        return once(lambda: create(leaf, artifact_location, tagged), find)

    def get_experiment_by_name(self, experiment_name: str) -> Any:
        """As MLflow's; a path means its last part."""
        found = super().get_experiment_by_name(_leaf(experiment_name))
        path = found.tags.get(EXPERIMENT_PATH, experiment_name) if found else experiment_name
        if "/" in experiment_name and path.rstrip("/") != experiment_name.rstrip("/"):
            _say_once(f"the experiment {found.name!r} was made as {path!r}, and is that of {experiment_name!r}, too")
        return found

    def create_run(self, experiment_id: Any, user_id: Any, start_time: Any, tags: Any, run_name: Any) -> Any:
        """As MLflow's, with a tag that tells the run from every other one."""
        request = uuid.uuid4().hex
        tagged = [*tags, RunTag(REQUEST_ID, request)]

        def find() -> Any:
            runs = self.search_runs([experiment_id], f"tags.`{REQUEST_ID}` = '{request}'", 1, 1)
            return runs[0] if runs else None

        create = super().create_run
        return once(lambda: create(experiment_id, user_id, start_time, tagged, run_name), find)

    def update_run_info(self, run_id: str, run_status: Any, end_time: Any, run_name: Any) -> Any:
        """As MLflow's; tells where the run is to be seen when it ends."""
        info = super().update_run_info(run_id, run_status, end_time, run_name)
        if end_time:
            _logger.info("run %s: https://ml.azure.com/runs/%s?wsid=%s", info.run_name, run_id, self.service.arm_id)
        return info

    # Limits

    def log_batch(self, run_id: str, metrics: Sequence[Any], params: Sequence[Any], tags: Sequence[Any]) -> None:
        """As MLflow's, in as many requests as the service's limits ask for."""
        log = super().log_batch
        # One that is refused in the second request would leave those of the first behind.
        _validate_batch_log_data(metrics, [], [])
        rest = self._new(run_id, metrics), list(params), list(tags)
        while any(rest):
            now = rest[0][:METRICS_PER_BATCH], rest[1][:PARAMS_PER_BATCH], rest[2][:PARAMS_PER_BATCH]
            rest = rest[0][METRICS_PER_BATCH:], rest[1][PARAMS_PER_BATCH:], rest[2][PARAMS_PER_BATCH:]
            log(run_id, *now)

    # LoggedModel: the model's files go below its run's artifacts, as before MLflow 3

    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: Any = None,
        params: Any = None,
        model_type: str | None = None,
    ) -> LoggedModel:
        """A model in its run's artifacts; in a run of its own where there is none."""
        _say_once("the workspace has no LoggedModel: models go to the artifacts of their runs")
        name = name or "model"
        if source_run_id is None:
            now = int(time.time() * 1000)
            run = self.create_run(experiment_id, "", now, [], f"model {name}")
            source_run_id = run.info.run_id
            self.update_run_info(source_run_id, "FINISHED", now, None)
        return self._model(source_run_id, name, tags=tags, params=params, model_type=model_type)

    def log_metric(self, run_id: str, metric: Any) -> None:
        """As MLflow's; a model's metric is its run's."""
        super().log_metric(run_id, _without_model(metric))

    def get_metric_history(self, run_id: str, metric_key: str, *page: Any, **options: Any) -> PagedList[Any]:
        """As MLflow's."""
        found: PagedList[Any] = super().get_metric_history(run_id, metric_key, *page, **options)
        if _last_read.run_id != run_id:
            _last_read.run_id, _last_read.metrics = run_id, set()
        _last_read.metrics.update(map(_identity, found))
        return found

    def _new(self, run_id: str, metrics: Sequence[Any]) -> list[Any]:
        """Without those that the run has: `log_model` reads a run's metrics and logs them again as the model's."""
        there = _last_read.metrics if _last_read.run_id == run_id else set()
        kept = [metric for metric in metrics if metric.model_id is None or _identity(metric) not in there]
        return [_without_model(metric) for metric in kept]

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> LoggedModel:
        """The model that this id was made for; its run has to be there."""
        run_id, name = _decoded(model_id)
        return self._model(run_id, name)

    def finalize_logged_model(self, model_id: str, status: LoggedModelStatus) -> LoggedModel:
        """The same model: its run tells how it ended."""
        return self.get_logged_model(model_id)

    def search_logged_models(self, *_: Any, **__: Any) -> PagedList[LoggedModel]:
        """None: a search finds runs."""
        return PagedList([], None)

    def log_outputs(self, run_id: str, models: Any) -> None:
        """Nothing: the model is below its run."""

    def set_logged_model_tags(self, model_id: str, tags: Any) -> None:
        """Nothing."""

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        """Nothing."""

    def log_logged_model_params(self, model_id: str, params: Any) -> None:
        """Nothing: the run has its params."""

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        """Nothing: MLflow 3 doesn't read it, and the service doesn't show it."""

    def log_inputs(self, run_id: str, datasets: Any = None, models: Any = None) -> None:
        """The datasets, where the service takes them."""
        if not datasets:
            return
        try:
            super().log_inputs(run_id, datasets)
        except RestException as refused:
            _say_once(f"the workspace doesn't take a run's datasets: {refused.message}")

    # Traces

    def start_trace(self, trace_info: Any) -> Any:
        """Nothing is kept."""
        _say_once("the workspace has no traces: they are dropped")
        return trace_info

    def log_spans(self, location: str, spans: Any, *_: Any, **__: Any) -> Any:
        """Nothing is kept."""
        return spans

    def search_traces(self, *_: Any, **__: Any) -> Any:
        """None."""
        return [], None

    def _model(
        self, run_id: str, name: str, *, tags: Any = None, params: Any = None, model_type: str | None = None
    ) -> LoggedModel:
        run = self.get_run(run_id).info
        return LoggedModel(
            experiment_id=run.experiment_id,
            model_id=_encoded(run_id, name),
            name=name,
            artifact_location=f"{run.artifact_uri}/{name}",
            creation_timestamp=run.start_time,
            last_updated_timestamp=run.start_time,
            model_type=model_type,
            source_run_id=run_id,
            status=LoggedModelStatus.READY,
            tags=tags,
            params=params,
        )


def _leaf(name: str) -> str:
    """The name of an experiment in the workspace; what is no path stays as it is."""
    return (name or "").rstrip("/").rpartition("/")[2] or name


def _without_model(metric: Any) -> Any:
    return Metric(metric.key, metric.value, metric.timestamp, metric.step) if metric.model_id else metric


def _identity(metric: Any) -> tuple[Any, ...]:
    return metric.key, metric.timestamp, metric.step, repr(metric.value)


def _encoded(run_id: str, name: str) -> str:
    return f"{_MODEL_ID}{run_id}.{name.encode().hex()}"


def _decoded(model_id: str) -> tuple[str, str]:
    run_id, found, name = model_id.removeprefix(_MODEL_ID).rpartition(".")
    try:
        if not found:
            raise ValueError(model_id)
        return run_id, bytes.fromhex(name).decode()
    except ValueError:
        raise MlflowException.invalid_parameter_value(
            f"{model_id!r} isn't the id of a model that was logged to this workspace; "
            "address it as runs:/<run>/<path> or models:/<name>/<version>"
        ) from None
