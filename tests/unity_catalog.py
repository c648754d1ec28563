"""What stands in for a Unity Catalog server: catalogs' models as far as MLflow's own client (`uc:http://…`) asks.

The open-source server isn't on Maven Central. Addresses, fields and error codes follow its published sources: models
and versions keep comments, sources and run ids, but neither tags nor aliases; files lie in a folder.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
from werkzeug.serving import make_server


@contextlib.contextmanager
def unity_catalog(folder: Path) -> Iterator[str]:
    """A server with the schema `main.default`; gives its registry URI."""
    server = make_server("127.0.0.1", 0, _app(folder), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"uc:http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _app(folder: Path) -> flask.Flask:
    app = flask.Flask("unity_catalog")
    models: dict[str, dict[str, Any]] = {}
    versions: dict[str, list[dict[str, Any]]] = {}
    base = "/api/2.1/unity-catalog/models"

    @app.post(base)
    def create_model() -> Any:
        asked = flask.request.get_json()
        full_name = f"{asked['catalog_name']}.{asked['schema_name']}.{asked['name']}"
        if not full_name.startswith("main.default."):
            return _error(404, "NOT_FOUND", f"Schema not found: {full_name}")
        if full_name in models:
            return _error(409, "ALREADY_EXISTS", f"Registered model already exists: {full_name}")
        models[full_name] = {**asked, "full_name": full_name, "created_at": 1, "updated_at": 1}
        versions[full_name] = []
        return models[full_name]

    @app.get(f"{base}/<name>")
    def get_model(name: str) -> Any:
        return models.get(name) or _error(404, "NOT_FOUND", f"Registered model not found: {name}")

    @app.post(f"{base}/versions")
    def create_version() -> Any:
        asked = flask.request.get_json()
        known = versions[f"{asked['catalog_name']}.{asked['schema_name']}.{asked['model_name']}"]
        place = (folder / uuid.uuid4().hex).as_uri()
        made = {**asked, "version": len(known) + 1, "status": "PENDING_REGISTRATION", "storage_location": place}
        known.append(made)
        return made

    @app.get(f"{base}/<name>/versions")
    def list_versions(name: str) -> Any:
        if name not in versions:
            return _error(404, "NOT_FOUND", f"Registered model not found: {name}")
        return {"model_versions": versions[name]}

    @app.get(f"{base}/<name>/versions/<int:version>")
    def get_version(name: str, version: int) -> Any:
        return versions[name][version - 1]

    @app.patch(f"{base}/<name>/versions/<int:version>/finalize")
    def finalize(name: str, version: int) -> Any:
        versions[name][version - 1]["status"] = "READY"
        return versions[name][version - 1]

    return app


def _error(status: int, code: str, message: str) -> Any:
    return {"error_code": code, "message": message}, status
