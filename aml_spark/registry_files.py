"""The files of models in a registry of Azure ML.

Each version has a container of its own in the registry's storage, and its control plane gives out signatures for it:
the calls are those of `azureml-mlflow`, whose address patterns these follow.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from mlflow.exceptions import MlflowException, RestException

from aml_spark.artifacts import ContainerArtifactRepository
from aml_spark.service import Service

# The storage of each cloud, by what its regions' hosts end in.
_STORAGE = {".ml.azure.cn": "core.chinacloudapi.cn", ".ml.azure.us": "core.usgovcloudapi.net"}
_API = "?api-version=2021-10-01-dataplanepreview"
_FILES = re.compile(
    r"azureml://(?P<host>[^/]+)/mlflow/v[\d.]+/registries/(?P<registry>[^/]+)/models/(?P<model>[^/]+)"
    r"/versions/(?P<version>[^/]+)/storage/(?P<account>[^/]+)/paths/(?P<container>[^/]+)/(?P<path>.*)"
)


def is_in_registry(artifact_uri: str) -> bool:
    """Whether these are files of a model in a registry."""
    return _FILES.fullmatch(artifact_uri) is not None


def upload(service: Service, model: str, folder: Path) -> str:
    """Upload a model's files for its next version; gives their address, which a new version takes as its source.

    Args:
        service: the registry's MLflow endpoints.
        model: name of the registered model.
        folder: the files, and by its name where they come to lie.
    """
    control = _control(service.host, service.arm_id.rpartition("/")[2])
    version = control.next_version(model)
    path = f"tempdatarefs/{quote(model, safe='')}/versions/{version}"
    asked = {"assetId": control.asset(model, version), "temporaryDataReferenceType": "TemporaryBlobReference"}

    def reference() -> Mapping[str, Any]:
        answer: Mapping[str, Any] = control.call("PUT", path, asked)["blobReferenceForConsumption"]
        return answer

    address = str(reference()["blobUri"]).rstrip("/")
    # Until there is a version, the next one's container is everybody's who uploads one.
    place = f"{uuid.uuid4().hex}/{folder.name}"
    container = ContainerArtifactRepository(address, "", lambda: str(reference()["credential"]["sasUri"]))
    container.log_artifacts(str(folder), place)
    return f"{address}/{place}/"


class _Control(NamedTuple):
    """The control plane of a registry.

    Args:
        service: its host in the registry's primary region, and the registry's ARM id.
        base: path of the control plane there.
        registry: its name.
    """

    service: Service
    base: str
    registry: str

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self.service.call(method, f"{self.base}{self.service.arm_id}/{path}{_API}", body)

    def asset(self, model: str, version: str) -> str:
        return f"azureml://registries/{self.registry}/models/{model}/versions/{version}"

    def next_version(self, model: str) -> str:
        try:
            return str(self.call("GET", f"models/{quote(model, safe='')}")["properties"]["nextVersion"])
        except RestException as error:
            if error.get_http_status_code() != 404:
                raise
            return "1"


@cache
def _control(host: str, registry: str) -> _Control:
    """Where a registry is, as any region tells."""
    found = Service(host, "").call("GET", f"/registrymanagement/v1.0/registries/{quote(registry)}/discovery")
    home = urlsplit(found["primaryRegionResourceProviderUri"])
    arm_id = (
        f"/subscriptions/{found['subscriptionId']}/resourceGroups/{found['resourceGroup']}"
        f"/providers/Microsoft.MachineLearningServices/registries/{registry}"
    )
    service = Service.of(f"azureml://{home.netloc}/mlflow/v1.0{arm_id}")  # looks whether the host may get tokens
    return _Control(service, f"{home.path.rstrip('/')}/mferp/managementfrontend", registry)


class AzureMLRegistryArtifactRepository(ContainerArtifactRepository):
    """Files of a version of a model in a registry; they are read only.

    Args:
        artifact_uri: `azureml://<host>/mlflow/…/registries/<registry>/models/<name>/versions/<version>/storage/…`.
    """

    def __init__(self, artifact_uri: str) -> None:
        found = _FILES.fullmatch(artifact_uri)
        if found is None:
            raise MlflowException.invalid_parameter_value(f"{artifact_uri!r} isn't an address of a registry's files")
        Service.of_host(found["host"])
        control = _control(found["host"], found["registry"])
        storage = next((end for cloud, end in _STORAGE.items() if found["host"].endswith(cloud)), "core.windows.net")
        blob = f"https://{found['account']}.blob.{storage}/{found['container']}/{found['path']}"
        asked = {"assetId": control.asset(found["model"], found["version"]), "blobUri": blob}
        path = f"datarefs/{quote(found['model'], safe='')}/versions/{found['version']}"

        def sign() -> str:
            credential = control.call("POST", path, asked)["blobReferenceForConsumption"]["credential"]
            return str(credential["sasUri"])

        super().__init__(artifact_uri, found["path"], sign)
