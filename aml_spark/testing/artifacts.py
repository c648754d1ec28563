"""The workspace's artifacts: who asks for a file gets an address to write it to or to read it from.

The addresses lead to a blob store: the emulator's own in a folder, or an Azurite.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

import flask

from aml_spark.testing.blobs import fits
from aml_spark.testing.mlflow_api import MlflowApi

CONTAINER = "azureml"
OF_RUNS = "ExperimentRun/dcid."  # what the names of a run's files start with, before its id
PATHS_PER_CALL = 50
PAGE = 100


class Blobs(Protocol):
    """Containers of files in a storage account."""

    account: str

    def address(self, container: str, name: str, *, write: bool) -> str:
        """An address with a signature that lets its bearer write or read the blob for a while."""

    def container_address(self, container: str, *, write: bool) -> str:
        """The same for all blobs of a container, which are also listed by it."""

    def create(self, container: str) -> None:
        """Make a container where there is none."""

    def names(self, container: str, prefix: str) -> list[str]:
        """All blobs of a container whose names start like this, in their order."""

    def put(self, container: str, name: str, file: Path) -> None:
        """Store a file of the emulator's own."""

    def fetch(self, container: str, name: str, file: Path) -> None:
        """Write a blob to a file of the emulator's own."""


def routes(workspace: str, runs: MlflowApi, blobs: Blobs) -> flask.Blueprint:
    """`/history/v1.0/…/artifacts` of runs, and `/artifact/v2.0/…` of models that were uploaded without a run."""
    routes = flask.Blueprint("artifacts", __name__)
    of_run = f"/history/v1.0{workspace}/experiments/<experiment>/runs/<run>/artifacts"
    of_origin = f"/artifact/v2.0{workspace}/artifacts/<origin>/<path:container>"

    @routes.post(f"{of_run}/batch/metadata")
    def write_to_run(experiment: str, run: str) -> Any:
        return _no_run(runs, run) or _to_write(blobs, f"{OF_RUNS}{run}")

    @routes.get(f"{of_run}/contentinfo")
    def read_from_run(experiment: str, run: str) -> Any:
        return _no_run(runs, run) or _to_read(blobs, f"{OF_RUNS}{run}")

    @routes.get(f"{of_run}/prefix/contentinfo")
    def read_many_from_run(experiment: str, run: str) -> Any:
        return _no_run(runs, run) or _all_to_read(blobs, f"{OF_RUNS}{run}")

    @routes.get(of_run)
    def list_run(experiment: str, run: str) -> Any:
        return _no_run(runs, run) or _listed(blobs, f"{OF_RUNS}{run}")

    @routes.post(f"{of_origin}/batch/metadata")
    def write(origin: str, container: str) -> Any:
        return _to_write(blobs, f"{origin}/{container}")

    @routes.get(f"{of_origin}/contentinfo")
    def read(origin: str, container: str) -> Any:
        return _to_read(blobs, f"{origin}/{container}")

    @routes.get(f"{of_origin}/prefix/contentinfo")
    def read_many(origin: str, container: str) -> Any:
        return _all_to_read(blobs, f"{origin}/{container}")

    @routes.get(of_origin)
    def list_origin(origin: str, container: str) -> Any:
        return _listed(blobs, f"{origin}/{container}")

    return routes


def _to_write(blobs: Blobs, folder: str) -> Any:
    paths = [entry["path"] for entry in (flask.request.get_json() or {}).get("paths", [])]
    if len(paths) > PATHS_PER_CALL:
        return failure(400, "UserError", f"{len(paths)} paths in one call; the limit is {PATHS_PER_CALL}.")
    bad = [path for path in paths if not (_inside(path) and fits(f"{folder}/{path}"))]
    if bad:
        return failure(400, "UserError", f"The artifact path '{bad[0]}' is not valid.")
    found = {
        path: {
            "origin": "ExperimentRun",
            "path": path,
            "contentUri": blobs.address(CONTAINER, f"{folder}/{path}", write=True),
        }
        for path in paths
    }
    return {"artifacts": {}, "artifactContentInformation": found, "errors": {}}


def _to_read(blobs: Blobs, folder: str) -> Any:
    path = flask.request.args.get("path", "")
    name = f"{folder}/{path}"
    if not _inside(path) or name not in blobs.names(CONTAINER, name):
        return failure(404, "UserError", f"Artifact '{path}' was not found.")
    return {"path": path, "contentUri": blobs.address(CONTAINER, name, write=False)}


def _listed(blobs: Blobs, folder: str) -> Any:
    return _page(folder, blobs.names(CONTAINER, f"{folder}/"), lambda _: {})


def _all_to_read(blobs: Blobs, folder: str) -> Any:
    names = blobs.names(CONTAINER, f"{folder}/{flask.request.args.get('path', '')}")
    return _page(folder, names, lambda name: {"contentUri": blobs.address(CONTAINER, name, write=False)})


def _page(folder: str, names: list[str], more: Callable[[str], dict[str, str]]) -> Any:
    start = int(flask.request.args.get("continuationToken", "0"))
    value = [{"path": name.removeprefix(f"{folder}/"), **more(name)} for name in names[start : start + PAGE]]
    query = {**flask.request.args, "continuationToken": str(start + PAGE)}
    link = f"{flask.request.base_url}?{urlencode(query)}" if start + PAGE < len(names) else None
    return {"value": value, "nextLink": link}


def _no_run(runs: MlflowApi, run: str) -> Any:
    return None if runs.has_run(run) else failure(404, "UserError", f"Run {run} was not found.")


def _inside(path: str) -> bool:
    return bool(path) and not path.startswith("/") and not {"", ".", ".."} & set(path.split("/"))


def failure(status: int, code: str, message: str) -> Any:
    """An answer in the shape of all errors but those of the MLflow endpoints."""
    request = uuid.uuid4().hex
    body = {
        "error": {"code": code, "message": message, "details": [], "innerError": None},
        "correlation": {"operation": request, "request": request[:16]},
        "statusCode": status,
    }
    return body, status, {"x-ms-request-id": request}
