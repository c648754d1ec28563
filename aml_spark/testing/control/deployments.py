"""Deployments of models on managed online endpoints, as Azure Resource Manager answers for them.

What is deployed is an MLflow model without code or environment of its own: its server is MLflow's, in the emulator's
Python.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import flask

from aml_spark.testing.control import serving
from aml_spark.testing.control.endpoints import BUSY, Resources, blueprint, busy, check_name, invalid, missing
from aml_spark.testing.control.models import MLFLOW_MODEL, Models
from aml_spark.testing.control.online import KIND, OnlineEndpoints
from aml_spark.testing.control.operations import Operations
from aml_spark.testing.control.records import shown
from aml_spark.testing.control.serving import Servers
from aml_spark.testing.control.storage import Storage, UnknownPlaceError
from aml_spark.testing.control.workspaces import LOCATION

_TYPE = f"Microsoft.MachineLearningServices/workspaces/{KIND}/deployments"
_KEEPS = ("location", "tags", "identity", "sku")
_DURATION = re.compile(r"PT(?:([\d.]+)H)?(?:([\d.]+)M)?(?:([\d.]+)S)?")  # of ISO 8601
_LONGEST = 180  # seconds that an answer may be waited for
_SIZE = re.compile(r"Standard_\w+", re.IGNORECASE)


class Deployments:
    """The deployments of one workspace's online endpoints.

    Args:
        folder: gets `onlineDeployments.json`.
        workspace: the workspace's ARM path.
        operations: the long ones.
        models: what is deployed.
        storage: has the models' files.
        servers: serve them.
    """

    endpoints: OnlineEndpoints  # known once both are made: each asks the other

    def __init__(
        self, folder: Path, workspace: str, operations: Operations, models: Models, storage: Storage, servers: Servers
    ) -> None:
        self._workspace, self._root = workspace, f"{workspace}/{KIND}"
        self._models, self._storage, self._servers = models, storage, servers
        self._resources = Resources(folder / "onlineDeployments.json", self._root, operations)

    def states(self, endpoint: str) -> dict[str, str]:
        """The provisioning states of an endpoint's deployments, by their names."""
        return {name: known["state"] for name, known in self.of(endpoint).items()}

    def of(self, endpoint: str) -> dict[str, Any]:
        """What is known of an endpoint's deployments, by their names."""
        everything = self._resources.records.all().items()
        return {key.partition("/")[2]: known for key, known in everything if key.startswith(f"{endpoint}/")}

    def remove(self, endpoint: str) -> None:
        """End and forget all of an endpoint."""
        for name in self.of(endpoint):
            self._servers.remove(f"{endpoint}/{name}")
            self._resources.records.pop(f"{endpoint}/{name}")

    def routes(self) -> flask.Blueprint:
        """List, get, create, change, delete, and what their containers said."""
        routes = blueprint("deployments")
        of_endpoint = f"{self._root}/<endpoint>/deployments"
        one = f"{of_endpoint}/<name>"

        @routes.get(of_endpoint)
        def listed(endpoint: str) -> Any:
            self.endpoints.get(endpoint)
            return {"value": [self._shown(endpoint, name) for name in self.of(endpoint)]}

        @routes.get(one)
        def get(endpoint: str, name: str) -> Any:
            return self._shown(endpoint, name)

        @routes.put(one)
        def put(endpoint: str, name: str) -> Any:
            return self._put(endpoint, name, flask.request.get_json())

        @routes.delete(one)
        def delete(endpoint: str, name: str) -> Any:
            known, key = self.endpoints.get(endpoint), f"{endpoint}/{name}"
            if self._resources.records.get(key) is None:
                return "", 204
            if known["properties"]["traffic"].get(name.lower()):
                raise invalid(f"The deployment '{name}' still receives traffic; set its traffic to 0 first.", "Traffic")

            def work() -> None:
                self._servers.remove(key)
                self.endpoints.lacks(endpoint, name)
                self._resources.records.pop(key)

            return self._resources.begin(key, work, doing="Deleting")

        @routes.post(f"{one}/getLogs")
        def logs(endpoint: str, name: str) -> Any:
            self._shown(endpoint, name)
            asked = flask.request.get_json(silent=True) or {}
            kind, tail = asked.get("containerType") or serving.INFERENCE_SERVER, asked.get("tail")
            return {"content": self._servers.logs(f"{endpoint}/{name}", kind, tail or 1000)}

        return routes

    def _put(self, endpoint: str, name: str, asked: dict[str, Any]) -> Any:
        check_name(name, "a deployment")
        if self.endpoints.get(endpoint)["state"] in BUSY:
            raise busy(endpoint)
        key = f"{endpoint}/{name}"
        given = {field: value for field, value in asked["properties"].items() if value is not None}
        for rules in ((given.get("dataCollector") or {}).get("collections") or {}).values():
            rules["dataCollectionMode"] = str(rules.get("dataCollectionMode")).capitalize()  # as Azure tells it
        model = self._check(given, asked)
        known = {
            **{field: asked[field] for field in _KEEPS if asked.get(field) is not None},
            "properties": given,
            "timeout": _timeout(given),
        }

        def work() -> None:
            uri, variables = model["properties"]["modelUri"], given.get("environmentVariables") or {}
            self._servers.deploy(key, lambda folder: self._storage.download(uri, folder), variables)

        return self._resources.begin(key, work, known=known, show=lambda: self._shown(endpoint, name))

    def _check(self, given: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        """The model that is asked for.

        Raises:
            Refused: it isn't there, or something else isn't as Azure, or the emulator, wants it.
        """
        if given.get("codeConfiguration"):
            raise invalid("The emulator serves MLflow models, without a scoring script.", "CodeConfiguration")
        if not _SIZE.fullmatch(given.get("instanceType") or ""):
            raise invalid(f"The instance type '{given.get('instanceType')}' is not supported.", "InstanceType")
        if (count := (asked.get("sku") or {}).get("capacity") or 0) < 1:
            raise invalid(f"The instance count must be at least 1, not {count}.", "InstanceCount")
        model = self._models.find(given.get("model") or "")
        if model is None:
            raise invalid(f"The model '{given.get('model')}' does not exist.", "Model")
        if model["properties"]["modelType"] != MLFLOW_MODEL:
            raise invalid("A model that isn't MLflow's needs a scoring script and an environment.", "Model")
        for rules in ((given.get("dataCollector") or {}).get("collections") or {}).values():
            try:
                if rules.get("dataId"):
                    self._storage.place(rules["dataId"])
            except UnknownPlaceError as error:
                raise invalid(str(error), "DataCollector") from error
        if _timeout(given) > _LONGEST:
            raise invalid(f"The request timeout must be at most {_LONGEST} seconds.", "RequestSettings")
        return model

    def _shown(self, endpoint: str, name: str) -> dict[str, Any]:
        self.endpoints.get(endpoint)
        known = self._resources.records.get(f"{endpoint}/{name}")
        if known is None:
            raise missing(KIND, self._workspace, f"{endpoint}/deployments/{name}")
        properties = {
            "endpointComputeType": "Managed",
            "scaleSettings": {"scaleType": "Default"},
            "properties": {},
            "environmentVariables": {},
            "appInsightsEnabled": False,
            "egressPublicNetworkAccess": "Enabled",
            **known["properties"],
            "provisioningState": known["state"],
        }
        beside = {"location": LOCATION, "kind": "Managed", **{key: known[key] for key in _KEEPS if key in known}}
        return shown(f"{self._root}/{endpoint}/deployments/{name}", _TYPE, properties) | beside


def _timeout(given: dict[str, Any]) -> float:
    """Seconds that an answer may take."""
    duration = (given.get("requestSettings") or {}).get("requestTimeout") or "PT5S"
    found = _DURATION.fullmatch(duration)
    if found is None:
        raise invalid(f"'{duration}' is not a duration.", "RequestSettings")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds
