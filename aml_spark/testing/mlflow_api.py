"""The workspace's MLflow endpoints: MLflow's own server and SQLite store under Azure's paths, with Azure's gaps.

What the real service lacks is known for LoggedModel only; traces and the APIs under /api/3.0 are taken to be missing in
the same way, with 404 and an empty body. Limits and the shape of errors are those that users of the service reported
(Azure/azure-sdk-for-python issue 35685, mlflow/mlflow issue 11462).
"""

from __future__ import annotations

import datetime as dt
import json
import re
import secrets
from pathlib import Path
from typing import Any

import flask
from mlflow.exceptions import MlflowException
from mlflow.server import app as mlflow_app, handlers
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

PARAMS_PER_RUN = 200
METRICS_PER_BATCH = 250
EXPERIMENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,254}")
# Kept in the store instead of the host that a client named, so that each client sees the host that it talks to.
_HOST = "workspace.invalid"
_MISSING = re.compile(r"/api/3\.0/|/api/2\.0/mlflow/(logged-models|traces|assessments|scorers|datasets|prompts)\b")


class _Store(TrackingStore):
    def _get_artifact_location(self, experiment_id: Any) -> str:
        return f"{super()._get_artifact_location(experiment_id)}/runs"


class MlflowApi:
    """One workspace's runs and models.

    Args:
        folder: gets `mlflow.db`.
        workspace: the workspace's ARM path, `/subscriptions/…/workspaces/…`.
    """

    def __init__(self, folder: Path, workspace: str) -> None:
        database = f"sqlite:///{folder / 'mlflow.db'}"
        self.workspace = workspace
        self.store = _Store(database, f"azureml://{_HOST}/mlflow/v2.0{workspace}/experiments")
        handlers._tracking_store = self.store  # type: ignore[assignment]
        handlers._model_registry_store = RegistryStore(database)  # type: ignore[assignment]

    def routes(self) -> flask.Blueprint:
        """All below /mlflow/v1.0 and /mlflow/v2.0 of the workspace."""
        routes = flask.Blueprint("mlflow_api", __name__)

        @routes.route(
            f"/mlflow/<any('v1.0','v2.0'):version>{self.workspace}/<path:rest>",
            methods=["GET", "POST", "PATCH", "PUT", "DELETE"],
        )
        def call(version: str, rest: str) -> Any:
            path = f"/{rest}"
            if path == "/api/2.0/preview/mlflow/runs/log-batch-async":
                answered = self._call("/api/2.0/mlflow/runs/log-batch")
                return {"batch_tracking_id": secrets.token_hex(8)} if answered.status_code == 200 else answered
            if path == "/api/2.0/preview/mlflow/runs/get-run-data-status":
                return {"is_complete": True}
            if _MISSING.match(path):
                return Response(status=404)
            return self._refused(path) or self._call(path)

        return routes

    def has_run(self, run_id: str) -> bool:
        """Whether there is such a run."""
        try:
            self.store.get_run(run_id)
        except MlflowException:
            return False
        return True

    def _call(self, path: str) -> Response:
        asked, host = flask.request, flask.request.host
        builder = EnvironBuilder(
            path=path,
            method=asked.method,
            query_string=asked.query_string.decode(),
            data=_moved(asked.get_data(), host, _HOST),
            content_type=asked.content_type,
            base_url="http://127.0.0.1",
        )
        answered = Response.from_app(mlflow_app, builder.get_environ())
        builder.close()
        answered.set_data(_moved(answered.get_data(), _HOST, host))
        return answered

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
        if path.endswith("/experiments/update"):
            return error(400, "UserError", "Experiments can't be renamed.")
        if path.endswith("/model-versions/search") and "tags." in flask.request.args.get("filter", ""):
            return error(400, "UserError", "A filter on tags is not supported for model versions.")
        return None

    def _too_many_params(self, body: dict[str, Any], keys: list[Any]) -> Response | None:
        run = self.store.get_run(body.get("run_id") or body.get("run_uuid"))
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


def _too_much(field: str, limit: int, size: int) -> Response:
    told = f"A field of the entity is over the size limit. FieldName={field}, Limit={limit}, Size={size}."
    return error(400, "ValidationError", told)


def _moved(body: bytes, host: str, other: str) -> bytes:
    return body.replace(f"azureml://{host}/".encode(), f"azureml://{other}/".encode())
