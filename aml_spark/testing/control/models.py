"""The models of the workspace, as Azure Resource Manager answers for them: the same as in its MLflow registry.

The registry numbers versions, so a version that isn't a whole number is refused, which Azure doesn't do.
"""

from __future__ import annotations

import datetime as dt
import re
import tempfile
import uuid
from pathlib import Path
from typing import Any

import flask
from mlflow.exceptions import MlflowException

from aml_spark.testing.artifacts import failure
from aml_spark.testing.control.datastores import ARTIFACT_STORE
from aml_spark.testing.control.records import Records, shown
from aml_spark.testing.control.storage import Storage, UnknownPlaceError
from aml_spark.testing.mlflow_api import MlflowApi

MLFLOW_MODEL = "mlflow_model"
_RUN = re.compile("^runs:/([^/]+)/")
_TYPE = "Microsoft.MachineLearningServices/workspaces/models"


class Models:
    """The models of one workspace.

    Args:
        folder: gets `models.json`: what the registry doesn't keep.
        workspace: the workspace's ARM path.
        runs: has the registry.
        storage: has their files.
    """

    def __init__(self, folder: Path, workspace: str, runs: MlflowApi, storage: Storage) -> None:
        self._workspace, self._root, self._runs, self._storage = workspace, f"{workspace}/models", runs, storage
        self._records = Records(folder / "models.json")
        self._described: dict[str, dict[str, Any]] = {}

    def find(self, arm_id: str) -> dict[str, Any] | None:
        """A version in Azure's form, by its id; None: there is none."""
        root, name, version = arm_id[: len(self._root) + 1], *arm_id[len(self._root) + 1 :].partition("/versions/")[::2]
        found = self._version(name, version) if root.lower() == f"{self._root}/".lower() else None
        return None if found is None else self._shown(found)

    def routes(self) -> flask.Blueprint:
        """Models and their versions: list and get; a version is also created, changed and archived."""
        routes = flask.Blueprint("models", __name__)
        root = self._root

        @routes.get(root)
        def listed() -> Any:
            names = [model.name for model in self._runs.models.search_registered_models()]
            found = [self._container(name) for name in names if not self._is_anonymous(name)]
            return {"value": _viewed([each for each in found if each is not None])}

        @routes.get(f"{root}/<name>")
        def get(name: str) -> Any:
            return self._container(name) or _missing(name)

        @routes.put(f"{root}/<name>")
        def archive(name: str) -> Any:
            if self._container(name) is None:
                return _missing(name)
            self._keep(name, flask.request.get_json()["properties"])
            return self._container(name)

        @routes.get(f"{root}/<name>/versions")
        def versions(name: str) -> Any:
            asked = flask.request.args
            found = sorted(self._versions(name), key=lambda each: int(each.version), reverse=True)
            if asked.get("$orderBy", "").endswith("asc"):
                found.reverse()
            value = _viewed([self._shown(each) for each in found])
            return {"value": value[: int(asked["$top"]) if "$top" in asked else None]}

        @routes.get(f"{root}/<name>/versions/<version>")
        def version(name: str, version: str) -> Any:
            found = self._version(name, version)
            return _missing(name, version) if found is None else self._shown(found)

        @routes.put(f"{root}/<name>/versions/<version>")
        def put(name: str, version: str) -> Any:
            given = flask.request.get_json()["properties"]
            found = self._version(name, version)
            try:
                given["modelUri"] = self._in_datastore(given["modelUri"])
                if found is None:
                    self._create(name, version, given)
            except (UnknownPlaceError, ValueError) as error:
                return failure(400, "UserError", str(error))
            if found is not None and self._uri(found) != given["modelUri"]:
                return failure(400, "UserError", "Asset paths cannot be updated.")
            self._change(name, version, given)
            return self._shown(self._version(name, version)), 200 if found else 201

        return routes

    def _create(self, name: str, version: str, given: dict[str, Any]) -> None:
        """Put a version into the registry, with its files where MLflow's clients get at them."""
        from mlflow.store.model_registry.dbmodels.models import SqlModelVersion

        if not version.isdigit():
            raise ValueError(f"The version of a model must be a whole number here, not '{version}'.")
        uri, registry = given["modelUri"], self._runs.models
        with tempfile.TemporaryDirectory() as below:
            files = self._storage.download(uri, Path(below))
            if given.get("modelType") == MLFLOW_MODEL and not (files / "MLmodel").is_file():
                raise ValueError(f"There is no MLmodel file at '{uri}', which a model of type {MLFLOW_MODEL} has.")
            source = f"azureml://artifacts/LocalUpload/{uuid.uuid4().hex}/{uri.rstrip('/').rpartition('/')[2]}"
            self._storage.upload(files, source)
        if not self._versions(name):
            try:
                registry.create_registered_model(name)
            except MlflowException as error:
                if "already exists" not in str(error):
                    raise ValueError(str(error)) from error
        made = int(dt.datetime.now(dt.timezone.utc).timestamp() * 1000)
        row = SqlModelVersion(
            name=name,
            version=int(version),
            creation_time=made,
            last_updated_time=made,
            source=source,
            storage_location=source,
            run_id=given.get("jobName"),
        )
        with registry.ManagedSessionMaker(read_only=False) as session:  # its own call chooses the number
            session.add(registry._with_workspace_field(row))

    def _change(self, name: str, version: str, given: dict[str, Any]) -> None:
        from mlflow.entities.model_registry import ModelVersionTag

        registry = self._runs.models
        if given.get("description") is not None:
            registry.update_model_version(name, version, given["description"])
        wanted = given.get("tags") or {}
        for key in set(self._version(name, version).tags) - set(wanted):
            registry.delete_model_version_tag(name, version, key)
        for key, value in wanted.items():
            registry.set_model_version_tag(name, version, ModelVersionTag(key, value))
        self._keep(f"{name}/{version}", given)

    def _keep(self, name: str, given: dict[str, Any]) -> None:
        kept = ("modelUri", "modelType", "isArchived", "isAnonymous", "properties", "stage")
        with self._records.changed() as everything:
            everything[name] = {**everything.get(name, {}), **{key: given[key] for key in kept if key in given}}

    def _versions(self, name: str) -> list[Any]:
        quoted = name.replace("'", "''")
        return list(self._runs.models.search_model_versions(f"name = '{quoted}'"))

    def _version(self, name: str, version: str) -> Any:
        try:
            return self._runs.models.get_model_version(name, version)
        except MlflowException:
            return None

    def _is_anonymous(self, name: str) -> bool:
        kept = self._records.all()
        return all(kept.get(f"{name}/{each.version}", {}).get("isAnonymous") for each in self._versions(name))

    def _container(self, name: str) -> dict[str, Any] | None:
        found = self._versions(name)
        if not found:
            return None
        latest = max(int(each.version) for each in found)
        model = self._runs.models.get_registered_model(name)
        properties = {
            "latestVersion": str(latest),
            "nextVersion": str(latest + 1),
            "description": model.description,
            "tags": dict(model.tags),
            "properties": {},
            "isArchived": bool((self._records.get(name) or {}).get("isArchived")),
        }
        return shown(f"{self._root}/{name}", _TYPE, properties)

    def _shown(self, found: Any) -> dict[str, Any]:
        name = f"{found.name}/{found.version}"
        kept = self._records.get(name) or {}
        flavors = self._flavors(str(found.source))
        properties = {
            "description": found.description,
            "tags": dict(found.tags),
            "properties": {},
            "isArchived": False,
            "isAnonymous": False,
            "jobName": found.run_id,
            "stage": None,
            **kept,
            "flavors": flavors,
            "modelType": kept.get("modelType") or (MLFLOW_MODEL if flavors else "custom_model"),
            "modelUri": self._uri(found),
        }
        made, changed = (
            dt.datetime.fromtimestamp(stamp / 1000, dt.timezone.utc).isoformat()
            for stamp in (found.creation_timestamp, found.last_updated_timestamp)
        )
        when = {"createdAt": made, "lastModifiedAt": changed, "createdBy": "emulator", "lastModifiedBy": "emulator"}
        arm_id = f"{self._root}/{found.name}/versions/{found.version}"
        return shown(arm_id, f"{_TYPE}/versions", properties) | {"systemData": when}

    def _uri(self, found: Any) -> str:
        """Where the files of a version lie, as a datastore's path."""
        kept = (self._records.get(f"{found.name}/{found.version}") or {}).get("modelUri")
        try:
            return str(kept or self._in_datastore(str(found.source)))
        except UnknownPlaceError:  # whoever registered it knows what it means
            return str(found.source)

    def _in_datastore(self, uri: str) -> str:
        """The files of a run, too, lie behind a datastore."""
        if "/datastores/" in uri:
            return uri
        path = self._storage.place(_RUN.sub(r"azureml://jobs/\1/outputs/artifacts/paths/", uri)).path
        _, _, subscription, _, group, _, _, _, workspace = self._workspace.split("/")
        home = f"azureml://subscriptions/{subscription}/resourcegroups/{group}/workspaces/{workspace}"
        return f"{home}/datastores/{ARTIFACT_STORE}/paths/{path}"

    def _flavors(self, source: str) -> dict[str, Any]:
        """What the MLmodel file says of the ways to load it; none where there is no such file."""
        from mlflow.models import Model

        if source not in self._described:
            with tempfile.TemporaryDirectory() as below:
                try:
                    file = self._storage.download(f"{source.rstrip('/')}/MLmodel", Path(below))
                    flavors = Model.load(str(file)).flavors
                except UnknownPlaceError:
                    flavors = {}
            self._described[source] = {
                flavor: {"data": {key: str(value) for key, value in facts.items()}} for flavor, facts in flavors.items()
            }
        return self._described[source]


def _viewed(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that a list is asked for: archived or not."""
    wanted = {"ActiveOnly": (False,), "ArchivedOnly": (True,)}
    archived = wanted.get(flask.request.args.get("listViewType", "ActiveOnly"), (False, True))
    return [each for each in found if bool(each["properties"].get("isArchived")) in archived]


def _missing(name: str, version: str | None = None) -> Any:
    which = "" if version is None else f", version '{version}',"
    return failure(404, "ModelNotFound", f"Model '{name}'{which} was not found.")
