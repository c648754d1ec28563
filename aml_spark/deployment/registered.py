"""The version of a registered model that an address means in a workspace, and whether Azure can serve it as it is."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aml_spark.errors import ArgumentError, ModelError, ModelNotFoundError, did_you_mean, listed
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

_REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+|latest))")
_OF_A_RUN = re.compile(r"runs:/(?P<run>[^/]+)/(?P<path>.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """One version of a workspace's model.

    Args:
        name: the model's name.
        version: its version.
    """

    name: str
    version: str

    @property
    def azure_id(self) -> str:
        """How Azure's client names it: `azureml:delay:3`."""
        return f"azureml:{self.name}:{self.version}"

    @property
    def uri(self) -> str:
        """How MLflow names it: `models:/delay/3`."""
        return f"models:/{self.name}/{self.version}"

    def is_in(self, arm_id: object) -> bool:
        """Whether Azure's id of a model means it."""
        text = str(arm_id)
        return text.endswith(f"/models/{self.name}/versions/{self.version}") or text == self.azure_id


def find(uri: str, workspace: Workspace) -> Registered:
    """The registered version that an address means.

    Args:
        uri: `models:/name/3`, `models:/name@alias`, `models:/name/latest`, or `runs:/<run>/<path>` of a run whose model
            is registered in the workspace; its newest version then.
        workspace: whose registry is asked.

    Raises:
        ArgumentError: it is no such address.
        ModelNotFoundError: the workspace has no such version; says which it has, or how to register.
        ModelError: the model has no signature, without which Azure can't serve it.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    where = workspace.tracking_uri
    client = mlflow.MlflowClient(where, where)
    try:
        if found := _REGISTERED.fullmatch(uri):
            version = _version(client, found["name"], found["alias"], found["version"])
        elif found := _OF_A_RUN.fullmatch(uri):
            version = _of_run(client, uri, found["run"], found["path"].strip("/"))
        elif uri.startswith("models:/m-"):
            raise _unregistered(uri)
        else:
            raise ArgumentError(
                f"model_uri is {uri!r}; expected models:/<name>/<version>, models:/<name>@<alias> or runs:/<run>/<path>"
            )
        model = Registered(name=version.name, version=str(version.version))
        _check_signature(client, model)
    except MlflowException as error:
        raise ModelError(f"the workspace doesn't tell of the model {uri!r}: {error.message}") from None
    return model


def _version(client: MlflowClient, name: str, alias: str | None, version: str | None) -> Any:
    from mlflow.exceptions import MlflowException

    from aml_spark.model import versions

    try:
        if alias is not None:
            return client.get_model_version_by_alias(name, alias)
        if version != "latest":
            return client.get_model_version(name, str(version))
    except MlflowException as error:
        missing = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
        if error.error_code not in missing and error.get_http_status_code() != 404:
            raise
    known: Sequence[Any] = versions(client, name)
    if version == "latest" and known:
        return known[-1]
    if not known:
        names = [model.name for model in client.search_registered_models(max_results=100)]
        raise ModelNotFoundError(
            f"the workspace has no registered model {name!r}; it has {listed(names)}", hint=did_you_mean(name, names)
        )
    what = f"alias {alias!r}" if alias is not None else f"version {version}"
    raise ModelNotFoundError(
        f"the model {name!r} has no {what}; it has the versions {listed(str(one.version) for one in known)}"
    )


def _of_run(client: MlflowClient, uri: str, run: str, path: str) -> Any:
    # Azure's versions name the run's folder in more than one form; its path stands at the end of each.
    found = [
        one
        for one in client.search_model_versions(f"run_id = '{run}'")
        if str(one.source).rstrip("/").endswith(f"/{path}")
    ]
    if not found:
        raise _unregistered(uri)
    return max(found, key=lambda one: int(one.creation_timestamp or 0))


def _unregistered(uri: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"the model {uri!r} isn't registered in the workspace, and Azure deploys registered models only",
        hint=f"mlflow.register_model({uri!r}, '<name>'), then deploy models:/<name>/<version>",
    )


def _check_signature(client: MlflowClient, model: Registered) -> None:
    from mlflow.artifacts import download_artifacts
    from mlflow.models import Model

    folder = client.get_model_version_download_uri(model.name, model.version).rstrip("/")
    with tempfile.TemporaryDirectory(prefix="aml-spark-") as own:
        file = download_artifacts(artifact_uri=f"{folder}/MLmodel", dst_path=own)
        signature = Model.load(file).signature
    if signature is None or signature.inputs is None:
        raise ModelError(
            f"the model {model.uri!r} has no signature, and Azure serves no MLflow model without one",
            hint="log it with signature=mlflow.models.infer_signature(inputs, predictions) and register it again",
        )
