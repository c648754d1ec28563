"""MLflow endpoints of a workspace or a registry: MLflow's own server and SQLite store under Azure's paths and with
Azure's gaps.

What the real service lacks is known for LoggedModel only; traces and the APIs under /api/3.0 are taken to be missing in
the same way, with 404 and an empty body. Limits and the shape of errors are those that users of the service reported
(Azure/azure-sdk-for-python issue 35685, mlflow/mlflow issue 11462).
"""

from __future__ import annotations

import datetime as dt
import json
import re
import secrets
import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import flask
from mlflow.entities import RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.server import app as mlflow_app, handlers
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
from mlflow.store.tracking.dbmodels.models import SqlRun, SqlTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore
from sqlalchemy.orm import Session
from werkzeug.local import LocalProxy
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

PARAMS_PER_RUN = 200
METRICS_PER_BATCH = 250
EXPERIMENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,254}")
# Kept in the store instead of the host that a client named, so that each client sees the host that it talks to.
_HOST = "workspace.invalid"
_STORAGE = f"azureml://{_HOST}/storage/".encode()

# All else is 404: what the workspace lacks, and what else MLflow's server answers for.
_MODELS = re.compile(r"/api/2\.0/mlflow/(registered-models|model-versions)/")
_RUNS = re.compile(r"/api/2\.0/mlflow/(experiments|runs|metrics)/")


class _Store(TrackingStore):
    def _get_artifact_location(self, experiment_id: Any) -> str:
        return f"{super()._get_artifact_location(experiment_id)}/runs"


# The store of the request that is handled: MLflow's server knows one only.
_models: ContextVar[RegistryStore] = ContextVar("models")
handlers._model_registry_store = LocalProxy(_models)  # type: ignore[assignment]


class MlflowApi:
    """The models of a workspace or a registry, and a workspace's runs.

    Args:
        database: SQLite file; made where there is none.
        arm_id: its ARM path, `/subscriptions/…/workspaces/…` or `/subscriptions/…/registries/…`.
        storage: what the addresses of files start with where they aren't `azureml://`; MLflow's server takes no https.
    """

    def __init__(self, database: Path, arm_id: str, storage: str | None = None) -> None:
        self.arm_id, self._storage = arm_id, storage
        self._database = f"sqlite:///{database}"
        self._models: RegistryStore | None = None
        self._lock = threading.Lock()
        self.store: _Store | None = None
        if "/workspaces/" in arm_id:
            self.store = _Store(self._database, f"azureml://{_HOST}/mlflow/v2.0{arm_id}/experiments")
            handlers._tracking_store = self.store  # type: ignore[assignment]

    def routes(self) -> flask.Blueprint:
        """All below its /mlflow/v1.0 and /mlflow/v2.0."""
        routes = flask.Blueprint(f"mlflow_api {self.arm_id.rpartition('/')[2]}", __name__)

        @routes.route(
            f"/mlflow/<any('v1.0','v2.0'):version>{self.arm_id}/<path:rest>",
            methods=["GET", "POST", "PATCH", "PUT", "DELETE"],
        )
        def call(version: str, rest: str) -> Any:
            path = f"/{rest}"
            if path == "/api/2.0/preview/mlflow/runs/log-batch-async":
                answered = self._call("/api/2.0/mlflow/runs/log-batch")
                return {"batch_tracking_id": secrets.token_hex(8)} if answered.status_code == 200 else answered
            if path == "/api/2.0/preview/mlflow/runs/get-run-data-status":
                return {"is_complete": True}
            if not _MODELS.match(path) and (self.store is None or not _RUNS.match(path)):
                return Response(status=404)
            return self._refused(path) or self._call(path)

        return routes

    def has_run(self, run_id: str) -> bool:
        """Whether there is such a run."""
        try:
            self._runs.get_run(run_id)
        except MlflowException:
            return False
        return True

    def create_run(self, run_id: str, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """Make a run with an id that is given, as a job's is; MLflow's store makes ids of its own.

        Args:
            run_id: its id.
            experiment: the name of its experiment, which is made where there is none.
            name: its name.
            tags: its tags beside the name.

        Returns:
            The experiment's id.
        """
        with self._lock:
            found = self._runs.get_experiment_by_name(experiment)
            experiment_id = str(self._runs.create_experiment(experiment) if found is None else found.experiment_id)
            place = self._runs.get_experiment(experiment_id).artifact_location
            run = SqlRun(
                run_uuid=run_id,
                name=name,
                experiment_id=int(experiment_id),
                artifact_uri=f"{place}/{run_id}/artifacts",
                user_id=tags.get("mlflow.user", ""),
                source_type="JOB",
                status="SCHEDULED",
                start_time=_now(),
                lifecycle_stage="active",
            )
            run.tags = [SqlTag(key=key, value=value) for key, value in {**tags, "mlflow.runName": name}.items()]
            with Session(self._runs.engine) as session, session.begin():
                session.add(run)
        return experiment_id

    def set_run(self, run_id: str, status: str | None = None, *, name: str | None = None) -> None:
        """Change a run's status, which may end it, or its name.

        Args:
            run_id: its id.
            status: one of MLflow's, such as `RUNNING`.
            name: its new name.
        """
        code = None if status is None else RunStatus.from_string(status)
        ended = _now() if code is not None and RunStatus.is_terminated(code) else None
        self._runs.update_run_info(run_id, code, ended, name)

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        """Give a run a tag."""
        self._runs.set_tag(run_id, RunTag(key, value))

    @property
    def models(self) -> RegistryStore:
        """The store of the models; made when it is first used, which takes a second or two."""
        with self._lock:
            if self._models is None:
                self._models = RegistryStore(self._database)
            return self._models

    def source(self, model: str, version: str) -> str:
        """Where the files of a version lie, as it was told when it was made."""
        kept = str(self.models.get_model_version(model, version).source).encode()
        return self._outside(kept, flask.request.host).decode()

    @property
    def _runs(self) -> _Store:
        assert self.store is not None, "a registry has no runs"
        return self.store

    def _call(self, path: str) -> Response:
        _models.set(self.models)
        asked, host = flask.request, flask.request.host
        builder = EnvironBuilder(
            path=path,
            method=asked.method,
            query_string=asked.query_string.decode(),
            data=self._inside(asked.get_data(), host),
            content_type=asked.content_type,
            base_url="http://127.0.0.1",
        )
        answered = Response.from_app(mlflow_app, builder.get_environ())
        builder.close()
        answered.set_data(self._outside(answered.get_data(), host))
        return answered

    def _inside(self, body: bytes, host: str) -> bytes:
        """What a client sends, with addresses as they are kept."""
        kept = body.replace(f"azureml://{host}/".encode(), f"azureml://{_HOST}/".encode())
        return kept.replace(self._storage.encode(), _STORAGE) if self._storage else kept

    def _outside(self, body: bytes, host: str) -> bytes:
        """The other way round."""
        told = body.replace(_STORAGE, self._storage.encode()) if self._storage else body
        return told.replace(f"azureml://{_HOST}/".encode(), f"azureml://{host}/".encode())

    def _refused(self, path: str) -> Response | None:
        """What goes beyond the service's limits."""
        body = flask.request.get_json(silent=True) or {}
        if path.endswith("/runs/log-batch"):
            if len(body.get("metrics") or []) > METRICS_PER_BATCH:
                return _too_much("MetricV2Dto.Value/Count", METRICS_PER_BATCH, len(body["metrics"]))
            if body.get("params"):
                return self._too_many_params(body, [param["key"] for param in body["params"]])
        if path.endswith("/runs/log-parameter"):
            return self._too_many_params(body, [body.get("key")])
        if path.endswith("/experiments/create") and not EXPERIMENT_NAME.fullmatch(body.get("name", "")):
            return error(400, "ValidationError", f"Experiment name '{body.get('name')}' is not valid.")
        if not body.get("artifact_location", "azureml://").startswith("azureml://"):
            return error(400, "UserError", "Artifacts lie in the workspace.")
        if path.endswith("/experiments/update"):
            return error(400, "UserError", "Experiments can't be renamed.")
        if path.endswith("/model-versions/search") and "tags." in flask.request.args.get("filter", ""):
            return error(400, "UserError", "A filter on tags is not supported for model versions.")
        return None

    def _too_many_params(self, body: dict[str, Any], keys: list[Any]) -> Response | None:
        run = self._runs.get_run(body.get("run_id") or body.get("run_uuid"))
        size = len({*run.data.params, *keys})
        return _too_much("Parameters", PARAMS_PER_RUN, size) if size > PARAMS_PER_RUN else None


def error(status: int, code: str, message: str) -> Response:
    """An answer in the shape of the MLflow endpoints' errors."""
    body = {
        "Error": {"Code": code, "Message": message, "Details": [], "InnerError": None},
        "Correlation": {"operation": secrets.token_hex(16), "request": secrets.token_hex(8)},
        "Time": dt.datetime.now(dt.timezone.utc).isoformat(),
        "ComponentName": "mlflow",
        "statusCode": status,
        "error_code": "INVALID_PARAMETER_VALUE",
    }
    return Response(json.dumps(body), status, content_type="application/json")


def _now() -> int:
    return int(time.time() * 1000)


def _too_much(field: str, limit: int, size: int) -> Response:
    told = f"A field of the entity is over the size limit. FieldName={field}, Limit={limit}, Size={size}."
    return error(400, "ValidationError", told)
