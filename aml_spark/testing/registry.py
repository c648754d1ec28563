"""A registry that workspaces share: where it is, its models, and signatures for its storage.

The calls are those that `azureml-mlflow` makes. That a version's files have to lie in the registry's own storage is
taken from what that client does; the real service's words are not known.
"""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import flask

from aml_spark.testing.artifacts import Blobs, failure
from aml_spark.testing.mlflow_api import MlflowApi, error

_REGION = "westeurope"
_CONTROL = "/mferp/managementfrontend"
_ASSET = re.compile(r"azureml://registries/(?P<registry>[^/]+)/models/(?P<model>[^/]+)/versions/(?P<version>[^/]+)")


class Registry:
    """One registry.

    Args:
        folder: gets `registry.db`.
        arm_id: its ARM path, `/subscriptions/…/registries/…`.
        blobs: its storage.
    """

    def __init__(self, folder: Path, arm_id: str, blobs: Blobs) -> None:
        self.arm_id, self.name, self._blobs = arm_id, arm_id.rpartition("/")[2], blobs
        self._storage = f"https://{blobs.account}.blob.core.windows.net/"
        self._api = MlflowApi(folder / "registry.db", arm_id, self._storage)

    def routes(self) -> flask.Blueprint:
        """Its discovery, its MLflow endpoints and its control plane."""
        routes = flask.Blueprint("registry", __name__)
        control = f"{_CONTROL}{self.arm_id}"

        @routes.get("/registrymanagement/v1.0/registries/<registry>/discovery")
        def discovery(registry: str) -> Any:
            if registry != self.name:
                return failure(404, "UserError", f"Registry '{registry}' was not found.")
            host = flask.request.host
            home = host if host.startswith("127.") else f"cert-{_REGION}.experiments.azureml.net"
            _, _, subscription, _, group, *_ = self.arm_id.split("/")
            return {
                "registryName": self.name,
                "primaryRegion": _REGION,
                "regions": [_REGION],
                "subscriptionId": subscription,
                "resourceGroup": group,
                "primaryRegionResourceProviderUri": f"https://{home}/",
            }

        @routes.get(f"{control}/models/<model>")
        def model(model: str) -> Any:
            versions = [int(found.version) for found in self._api.models.search_model_versions(f"name = '{model}'")]
            if not versions:
                return failure(404, "UserError", f"Model container '{model}' was not found.")
            return {"name": model, "properties": {"nextVersion": str(max(versions) + 1)}}

        @routes.put(f"{control}/tempdatarefs/<model>/versions/<version>")
        def to_write(model: str, version: str) -> Any:
            if (refused := self._refused(model, version)) is not None:
                return refused
            # The same for each call, as for a version that is uploaded again after a break.
            container = f"{self.name}-{uuid.uuid5(uuid.NAMESPACE_URL, f'{model}/{version}')}"
            self._blobs.create(container)
            return self._reference(f"{self._storage}{container}", self._blobs.container_address(container, write=True))

        @routes.post(f"{control}/datarefs/<model>/versions/<version>")
        def to_read(model: str, version: str) -> Any:
            if (refused := self._refused(model, version)) is not None:
                return refused
            address = flask.request.get_json()["blobUri"]
            container = urlsplit(address).path.split("/")[1]
            if not address.startswith(f"{self._storage}{container}") or not container.startswith(f"{self.name}-"):
                return failure(400, "UserError", "The blob is not in the registry's storage.")
            return self._reference(address, self._blobs.container_address(container, write=False))

        @routes.before_app_request
        def special() -> Any:
            path = flask.request.path
            if not path.startswith(("/mlflow/v1.0" + self.arm_id, "/mlflow/v2.0" + self.arm_id)):
                return None
            if path.endswith("/model-versions/create"):
                source = (flask.request.get_json(silent=True) or {}).get("source", "")
                if not source.startswith(f"{self._storage}{self.name}-"):
                    return error(400, "UserError", "The source of the model is not in the registry's storage.")
            if path.endswith("/model-versions/get-download-uri"):
                return self._download_uri(flask.request.args["name"], flask.request.args["version"])
            return None

        routes.register_blueprint(self._api.routes())
        return routes

    def _refused(self, model: str, version: str) -> Any:
        asset = _ASSET.fullmatch(flask.request.get_json().get("assetId", ""))
        if asset and (asset["registry"], asset["model"], asset["version"]) == (self.name, model, version):
            return None
        return failure(400, "UserError", "The asset id doesn't fit the address.")

    def _reference(self, address: str, signed: str) -> Any:
        credential = {"credentialType": "SAS", "sasUri": signed}
        return {"blobReferenceForConsumption": {"blobUri": address, "credential": credential}}

    def _download_uri(self, model: str, version: str) -> Any:
        source = self._api.source(model, version)
        _, container, path = urlsplit(source).path.split("/", 2)
        return {
            "artifact_uri": f"azureml://{flask.request.host}/mlflow/v2.0/registries/{self.name}/models/{model}"
            f"/versions/{version}/storage/{self._blobs.account}/paths/{container}/{path}"
        }
