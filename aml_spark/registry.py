"""The models of an Azure ML workspace, or of a registry that workspaces share, as MLflow's model registry.

It stands on MLflow's own REST store. A version's files have to lie where the service reads them: what doesn't is
uploaded first.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.model_registry_pb2 import CreateModelVersion, CreateRegisteredModel
from mlflow.store.artifact.utils.models import get_model_name_and_version
from mlflow.store.model_registry.rest_store import RestStore
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.proto_json_utils import parse_dict

from aml_spark.addresses import is_registry, masked, unsigned
from aml_spark.artifacts import AzureMLArtifactRepository
from aml_spark.model import versions
from aml_spark.registry_files import upload
from aml_spark.service import Service, once, only_of_azure
from aml_spark.tags import REQUEST_ID, RUN_ID

_CREATIONS = (CreateRegisteredModel, CreateModelVersion)
_RUN = re.compile(r"runs:/(?P<run>[^/]+)/(?P<path>.+)")
_LOGGED_MODEL = re.compile(r"models:/(m-[^/@]+)")
_IS_PROMPT = "mlflow.prompt.is_prompt"  # MLflow's tag of a version that has a text and no files


class AzureMLRegistryStore(RestStore):
    """Registered models of a workspace or a registry.

    Args:
        store_uri: `azureml://<host>/mlflow/v1.0/subscriptions/…`, ending in `workspaces/<name>` or `registries/<name>`.
        tracking_uri: of the runs that models come from.
    """

    def __init__(self, store_uri: str, tracking_uri: str | None = None) -> None:
        self.service = Service.of(store_uri)
        self._store_uri = store_uri
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
        """As MLflow's. Files that lie elsewhere are uploaded, and the run that they came from is then a tag."""
        if logged := _LOGGED_MODEL.fullmatch(source):
            model = mlflow.MlflowClient(self.tracking_uri).get_logged_model(logged[1])
            source, run_id = model.artifact_location, model.source_run_id
        elif in_run := _RUN.fullmatch(source):
            run = mlflow.MlflowClient(self.tracking_uri).get_run(in_run["run"])
            source, run_id = f"{run.info.artifact_uri}/{in_run['path']}", in_run["run"]
        elif source.startswith("models:/"):  # a copy of another version
            copied = self.get_model_version(*get_model_name_and_version(self, source))
            source, run_id = self.get_model_version_download_uri(copied.name, copied.version), run_id or copied.run_id
        tags = list(tags or [])
        if any(tag.key == _IS_PROMPT for tag in tags):
            raise MlflowException.invalid_parameter_value(
                f"the prompt {name!r} can't be registered: Azure Machine Learning's registered models are files"
            )
        if not self._is_here(source):
            with _local(source, local_model_path, self.tracking_uri) as folder:
                source = self._uploaded(name, folder)
            if run_id:
                tags.append(ModelVersionTag(RUN_ID, run_id))
            run_id = None
        request = uuid.uuid4().hex
        tags.append(ModelVersionTag(REQUEST_ID, request))

        def find() -> Any:  # the service knows no search by tag
            return next((found for found in versions(self, name) if found.tags.get(REQUEST_ID) == request), None)

        create = super().create_model_version
        return once(lambda: create(name, source, run_id, tags, run_link, description, local_model_path), find)

    def get_model_version_download_uri(self, name: str, version: str) -> str:
        """As MLflow's."""
        return only_of_azure(str(super().get_model_version_download_uri(name, version)))

    def _is_here(self, source: str) -> bool:
        """Whether the service reads these files where they are."""
        if is_registry(self._store_uri) or not source.startswith("azureml://"):
            return False
        if source.startswith("azureml://experiments/"):  # of the workspace of the runs
            source = f"{self.tracking_uri}/"
        return source.startswith("azureml://artifacts/") or f"{self.service.arm_id}/".lower() in source.lower()

    def _uploaded(self, name: str, folder: Path) -> str:
        if is_registry(self._store_uri):
            return upload(self.service, name, folder)
        stamp = f"{dt.datetime.now(dt.timezone.utc):%y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
        address = f"azureml://artifacts/LocalUpload/{stamp}"
        AzureMLArtifactRepository(address, self._store_uri).log_artifacts(str(folder), folder.name)
        return f"{address}/{folder.name}"


@contextlib.contextmanager
def _local(source: str, known: str | None, tracking_uri: str) -> Iterator[Path]:
    """The files of a model in a folder on this machine."""
    with tempfile.TemporaryDirectory() as below:
        if known is not None:
            folder = known
        elif urlsplit(source).scheme in ("", "file"):
            folder = local_file_uri_to_path(source)
        else:
            folder = mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=below, tracking_uri=tracking_uri)
        if not Path(folder, "MLmodel").is_file():
            raise MlflowException.invalid_parameter_value(
                f"{unsigned(masked(source))!r} isn't a model: expected a folder with an MLmodel file in it"
            )
        yield Path(folder)
