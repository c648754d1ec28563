"""A workspace's control plane: Microsoft's client for it, what it refuses in Azure's own words, and long operations."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from aml_spark import auth
from aml_spark.addresses import masked
from aml_spark.errors import ServiceError, WorkspaceError
from aml_spark.progress import waiting
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.polling import LROPoller

T = TypeVar("T")
_EVERY_SECONDS = 1.0  # that what is waited for is shown anew


class _Credential:
    """Tokens for whatever Microsoft's client asks for: each audience has its own."""

    def get_token(self, *scopes: str, **_: Any) -> auth.Token:
        return auth.tokens(*scopes[:1]).current()


def client(workspace: Workspace | None = None) -> MLClient:
    """Microsoft's client for the control plane of a workspace.

    Args:
        workspace: None takes the one that MLflow is configured for.

    Raises:
        WorkspaceError: that isn't an Azure Machine Learning workspace, or azure-ai-ml isn't installed.
    """
    try:
        from azure.ai.ml import MLClient
    except ImportError:
        raise WorkspaceError("azure-ai-ml isn't installed", hint="pip install 'aml-spark[aml]'") from None
    of = configured() if workspace is None else workspace
    if of.arm_id is None:
        raise WorkspaceError(
            f"{of.label!r} isn't an Azure Machine Learning workspace",
            hint="aml_spark.configure(workspace='azureml://…') or --workspace azureml://…",
        )
    credential: Any = _Credential()
    return MLClient(credential, of.subscription_id, of.resource_group, of.name, enable_telemetry=False)


def configured() -> Workspace:
    """The workspace that MLflow is configured for.

    Raises:
        WorkspaceError: it is configured for another kind of store.
    """
    import mlflow

    uri = mlflow.get_tracking_uri()
    if not uri.startswith("azureml://"):
        raise WorkspaceError(
            f"MLflow isn't configured for an Azure Machine Learning workspace, but for {masked(uri)!r}",
            hint="aml_spark.configure(workspace='azureml://…'), --workspace azureml://…, or MLFLOW_TRACKING_URI",
        )
    return Workspace.from_uri(uri)


@contextlib.contextmanager
def own_words(doing: str, *, hint: str | None = None) -> Iterator[None]:
    """Raise what Azure refuses as a `ServiceError` that says what was done and what Azure says to it.

    Args:
        doing: such as `create the compute 'cpu'`.
        hint: what to type next.
    """
    from azure.core.exceptions import AzureError, HttpResponseError

    try:
        yield
    except HttpResponseError as error:
        answer: Any = error.response
        request_id = None if answer is None else answer.headers.get("x-ms-request-id")
        said = (error.error.message if error.error else None) or error.message
        code = getattr(error.error, "code", None)
        named = " ".join(str(part) for part in (f"HTTP {error.status_code}" if error.status_code else "", code) if part)
        told = ", ".join(part for part in (named, f"request {request_id}" if request_id else "") if part)
        raise ServiceError(
            f"can't {doing}: {said}" + (f" ({told})" if told else ""), hint=hint, status=error.status_code
        ) from None
    except AzureError as error:
        raise ServiceError(f"can't {doing}: {error.message}", hint=hint) from None


def finished(poller: LROPoller[T], title: str) -> T:
    """Wait for a long operation, with what it does and for how long on standard error.

    Ctrl-C leaves the operation running, as it does in Azure, and says so.

    Args:
        poller: what a `begin_…` of Microsoft's client gave.
        title: such as `create compute cpu`.
    """
    start = time.monotonic()
    with waiting(title) as show:
        while not poller.done():
            show(f"{poller.status()}, {time.monotonic() - start:.0f} s")
            poller.wait(_EVERY_SECONDS)
    return poller.result()
