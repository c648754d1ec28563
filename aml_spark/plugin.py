"""What MLflow calls for `azureml://`, named by this package's entry points. Imports the rest when it is called."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

_SILENT = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"
Builders = tuple[Callable[..., Any] | None, ...]
"""What makes the tracking store, the registry store and the artifact repository for `azureml://`, and the artifact
repository for `abfss://`; None where nothing does."""


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """The workspace's runs."""
    _need_mlflow_3()
    from aml_spark.store import AzureMLTrackingStore

    return AzureMLTrackingStore(store_uri, artifact_uri)


def registry_store(store_uri: str, tracking_uri: str | None = None) -> Any:
    """The workspace's models."""
    _need_mlflow_3()
    from aml_spark.registry import AzureMLRegistryStore

    return AzureMLRegistryStore(store_uri, tracking_uri)


def artifact_repository(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
    """The files of a run or model."""
    _need_mlflow_3()
    import mlflow

    from aml_spark.addresses import is_registry
    from aml_spark.artifacts import AzureMLArtifactRepository
    from aml_spark.registry_files import AzureMLRegistryArtifactRepository, is_in_registry

    if is_in_registry(artifact_uri):
        return AzureMLRegistryArtifactRepository(artifact_uri)
    # A model that was uploaded without a run has an address without its workspace's.
    known = (tracking_uri, registry_uri, mlflow.get_tracking_uri(), mlflow.get_registry_uri())
    workspace = next((uri for uri in known if uri and "azureml://" in uri and not is_registry(uri)), None)
    return AzureMLArtifactRepository(artifact_uri, workspace)


def lake_repository(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:  # noqa: ARG001
    """Files in a data lake, `abfss://…`."""
    _need_mlflow_3()
    from aml_spark.datalake import find
    from aml_spark.files import LakeArtifactRepository

    return LakeArtifactRepository(find(artifact_uri), write=True)


def builders() -> Builders:
    """What MLflow calls now in this process."""
    return tuple(registry._registry.get(scheme) for registry, scheme in _places())


def prefer(host: str | None = None) -> None:
    """Have this library answer, and MLflow print no links to pages that a workspace doesn't have.

    Args:
        host: `host[:port]` of the workspace that a person chose.
    """
    from aml_spark import auth

    if host:
        auth.hosts.add(host)
    answer()
    os.environ[_SILENT] = "true"


@contextlib.contextmanager
def preferred(host: str | None) -> Iterator[None]:
    """The same for a block, where nothing else of MLflow's changes."""
    from aml_spark import auth

    before, silent, hosts = builders(), os.environ.get(_SILENT), frozenset(auth.hosts)
    prefer(host)
    try:
        yield
    finally:
        answer(before)
        auth.hosts.intersection_update(hosts)
        os.environ.pop(_SILENT, None)
        if silent is not None:
            os.environ[_SILENT] = silent


def answer(wanted: Builders = (tracking_store, registry_store, artifact_repository)) -> None:
    """Have these called from now on, whatever is installed beside this library: azureml-mlflow has the same scheme.

    Args:
        wanted: the first of them or all.
    """
    for (registry, scheme), builder in zip(_places(), wanted, strict=False):
        if registry._registry.get(scheme) is builder:
            continue
        if builder is None:
            del registry._registry[scheme]
        else:
            registry.register(scheme, builder)
        if hasattr(registry, "_get_store_with_resolved_uri"):  # stores that the other one made
            registry._get_store_with_resolved_uri.cache_clear()


def keep_in_lake() -> None:
    """Have this library keep artifacts in data lakes: MLflow's own is let in by fewer kinds of credential."""
    answer((*builders()[:-1], lake_repository))


def _places() -> tuple[tuple[Any, str], ...]:
    from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry as artifacts
    from mlflow.tracking._model_registry.utils import _get_store_registry
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry as runs

    return (runs, "azureml"), (_get_store_registry(), "azureml"), (artifacts, "azureml"), (artifacts, "abfss")


def _need_mlflow_3() -> None:
    import mlflow

    from aml_spark.errors import WorkspaceError

    if int(mlflow.__version__.partition(".")[0]) < 3:
        raise WorkspaceError(
            f"azureml:// and abfss:// need MLflow 3 or newer; here is {mlflow.__version__}",
            hint="pip install 'mlflow-skinny>=3'",
        )
