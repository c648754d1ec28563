"""The emulated Databricks workspace as a whole."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flask
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from aml_spark.testing.databricks import clusters, files, jobs, volumes
from aml_spark.testing.databricks.refusals import RefusalError, invalid
from aml_spark.testing.databricks.runs import WORKSPACE_ID, Runs
from aml_spark.testing.databricks.tree import USER, Tree

# What reading a request raises that isn't as it should be, or that wants a folder where a file is.
_MALFORMED = (
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    BadRequest,
    UnsupportedMediaType,
    NotADirectoryError,
    FileExistsError,
)


class DatabricksWorkspace:
    """What answers below `/api/`, for whoever has its token.

    Args:
        folder: where its files and runs are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.token = f"dapi{secrets.token_hex(16)}"
        tree = Tree(folder / "files")
        self._runs = Runs(folder / "runs", tree)
        self._parts = [
            *(jobs.routes(self._runs, version) for version in ("2.1", "2.2")),
            clusters.routes(),
            files.routes(tree),
            volumes.routes(tree),
        ]

    def routes(self) -> flask.Blueprint:
        """All that it answers."""
        routes = flask.Blueprint("databricks", __name__)

        @routes.before_request
        def guard() -> Any:
            if not flask.request.path.startswith("/api/"):
                return
            kind, _, given = flask.request.headers.get("Authorization", "").partition(" ")
            if kind != "Bearer":
                told = "Credential was not sent or was of an unsupported type for this API."
                raise RefusalError(401, "UNAUTHENTICATED", told)
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                raise RefusalError(403, "PERMISSION_DENIED", "Invalid access token.")

        @routes.errorhandler(RefusalError)
        def refuse(refusal: RefusalError) -> Any:
            return refusal.answer()

        def malformed(error: Exception) -> Any:
            if isinstance(error, KeyError):
                return invalid(f"Missing required field: {error.args[0]}").answer()
            return invalid(f"The request can't be understood: {error}").answer()

        for kind in _MALFORMED:
            routes.register_error_handler(kind, malformed)

        @routes.get("/.well-known/databricks-config")
        def about() -> Any:
            return {"oidc_endpoint": f"{flask.request.host_url}oidc", "workspace_id": WORKSPACE_ID}

        @routes.get("/api/2.0/preview/scim/v2/Me")
        def me() -> Any:
            emails = [{"type": "work", "value": USER, "primary": True}]
            named = {"id": "1", "userName": USER, "displayName": "Emulator", "active": True, "emails": emails}
            return named, 200, {"X-Databricks-Org-Id": WORKSPACE_ID}

        @routes.route("/api/<path:path>", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
        def other(path: str) -> Any:
            asked = f"'{flask.request.method} /{path}'"
            raise RefusalError(404, "ENDPOINT_NOT_FOUND", f"No API found for {asked}; the emulated workspace has few.")

        for part in self._parts:
            routes.register_blueprint(part)
        return routes

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that lead a run to this emulator; known once it serves."""
        return self._runs.environment

    @environment.setter
    def environment(self, known: Mapping[str, str]) -> None:
        self._runs.environment = known

    def close(self) -> None:
        """End its runs."""
        self._runs.close()
