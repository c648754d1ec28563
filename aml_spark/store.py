"""An Azure ML workspace as MLflow's tracking store and model registry, where MLflow is given `azureml://`.

Both stand on MLflow's own REST stores. What the service lacks is done in the nearest older way, and said once.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from functools import cache
from typing import Any

from mlflow.entities import ExperimentTag, LoggedModel, LoggedModelStatus, Metric, RunTag
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.model_registry_pb2 import CreateModelVersion, CreateRegisteredModel
from mlflow.protos.service_pb2 import CreateExperiment, CreateRun
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.model_registry.rest_store import RestStore as RegistryRestStore
from mlflow.store.tracking.rest_store import RestStore as TrackingRestStore
from mlflow.utils.proto_json_utils import parse_dict

from aml_spark.plugin import REQUEST_ID
from aml_spark.service import Service, once

METRICS_PER_BATCH = 200
PARAMS_PER_BATCH = 100
_MODEL_ID = "m-"
_logger = logging.getLogger(__name__)
_CREATIONS = (CreateRun, CreateExperiment, CreateRegisteredModel, CreateModelVersion)


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
        self.service = Service.of(store_uri)
        self._history: tuple[str, set[tuple[Any, ...]]] = ("", set())  # of the run that was read last
        super().__init__(self.service.credentials)

    def _call_endpoint(
        self,
        api: Any,
        json_body: Any = None,
        endpoint: Any = None,
        retry_timeout_seconds: Any = None,
        response_proto: Any = None,
    ) -> Any:
        known, method = self._METHOD_TO_INFO[api]
        proto = response_proto or api.Response()
        retry = api not in _CREATIONS
        parse_dict(self.service.call_mlflow(method, endpoint or known, json_body, retry=retry), proto)
        return proto

    # Creations: sent again only after a look whether the first one was done

    def create_experiment(self, name: str, artifact_location: Any = None, tags: Any = None) -> Any:
        """As MLflow's."""
        request = uuid.uuid4().hex
        tagged = [*(tags or []), ExperimentTag(REQUEST_ID, request)]

        def find() -> Any:
            found = self.get_experiment_by_name(name)
            return found.experiment_id if found and found.tags.get(REQUEST_ID) == request else None

        create = super().create_experiment
        return once(lambda: create(name, artifact_location, tagged), find)

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
        if self._history[0] != run_id:
            self._history = run_id, set()
        self._history[1].update(_identity(metric) for metric in found)
        return found

    def _new(self, run_id: str, metrics: Sequence[Any]) -> list[Any]:
        """Without those that the run has: `log_model` reads a run's metrics and logs them again as the model's."""
        there = self._history[1] if self._history[0] == run_id else set()
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


class AzureMLRegistryStore(RegistryRestStore):
    """Registered models of a workspace.

    Args:
        store_uri: `azureml://<host>/mlflow/v1.0/subscriptions/…`.
        tracking_uri: of the runs that models come from.
    """

    def __init__(self, store_uri: str, tracking_uri: str | None = None) -> None:
        self.service = Service.of(store_uri)
        self.tracking_uri = tracking_uri or store_uri
        super().__init__(self.service.credentials)

    def _call_endpoint(
        self, api: Any, json_body: Any, call_all_endpoints: bool = False, extra_headers: Any = None
    ) -> Any:
        path, method = self._get_endpoint_from_method(api)
        proto = self._get_response_from_method(api)
        parse_dict(self.service.call_mlflow(method, path, json_body, retry=api not in _CREATIONS), proto)
        return proto

    def create_registered_model(self, name: str, tags: Any = None, description: Any = None, *options: Any) -> Any:
        """As MLflow's."""
        request = uuid.uuid4().hex
        tagged = [*(tags or []), RegisteredModelTag(REQUEST_ID, request)]

        def find() -> Any:
            try:
                found = self.get_registered_model(name)
            except RestException:
                return None
            return found if found.tags.get(REQUEST_ID) == request else None

        create = super().create_registered_model
        return once(lambda: create(name, tagged, description, *options), find)

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Any = None,
        run_link: str | None = None,
        description: str | None = None,
        local_model_path: str | None = None,
        model_id: str | None = None,
    ) -> Any:
        """As MLflow's; the source of a logged model is its run's artifact."""
        if source.startswith(f"models:/{_MODEL_ID}"):
            model = AzureMLTrackingStore(self.tracking_uri).get_logged_model(source.removeprefix("models:/"))
            source, run_id = model.artifact_location, model.source_run_id
        elif source.startswith("models:/"):  # a copy of another version
            source = self.get_model_version_download_uri(*source.removeprefix("models:/").rsplit("/", 1))
        request = uuid.uuid4().hex
        tagged = [*(tags or []), ModelVersionTag(REQUEST_ID, request)]

        def find() -> Any:
            versions = self.search_model_versions(f"name = '{name}'")  # the service knows no search by tag
            return next((found for found in versions if found.tags.get(REQUEST_ID) == request), None)

        create = super().create_model_version
        return once(lambda: create(name, source, run_id, tagged, run_link, description, local_model_path), find)


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
