"""What MLflow calls for `azureml://`, named by this package's entry points. Imports the rest when it is called."""

from __future__ import annotations

from typing import Any


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """The workspace's runs."""
    _need_mlflow_3()
    from aml_spark.store import AzureMLTrackingStore

    return AzureMLTrackingStore(store_uri, artifact_uri)


def registry_store(store_uri: str, tracking_uri: str | None = None) -> Any:
    """The workspace's models."""
    _need_mlflow_3()
    from aml_spark.store import AzureMLRegistryStore

    return AzureMLRegistryStore(store_uri, tracking_uri)


def artifact_repository(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
    """The files of a run or model."""
    _need_mlflow_3()
    from aml_spark.artifacts import AzureMLArtifactRepository

    return AzureMLArtifactRepository(artifact_uri, tracking_uri, registry_uri)


def _need_mlflow_3() -> None:
    import mlflow

    from aml_spark.errors import WorkspaceError

    if int(mlflow.__version__.partition(".")[0]) < 3:
        raise WorkspaceError(
            f"azureml:// needs MLflow 3 or newer; here is {mlflow.__version__}", hint="pip install 'mlflow-skinny>=3'"
        )
