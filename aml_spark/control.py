"""A workspace's control plane: Microsoft's client for it, what it refuses in Azure's own words, and long operations."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from aml_spark import auth
from aml_spark.addresses import masked, unsigned
from aml_spark.errors import ServiceError, WorkspaceError
from aml_spark.progress import waiting
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.exceptions import HttpResponseError
    from azure.core.polling import LROPoller

_logger = logging.getLogger(__name__)
T = TypeVar("T")
_LOUD = {"_telemetry": "CRITICAL", "_utils._experimental": "CRITICAL", "operations": "WARNING"}
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
    names = of.subscription_id, of.resource_group, of.name
    return MLClient(credential, *names, enable_telemetry=False, show_progress=False)


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

    Meanwhile azure-ai-ml logs nothing of it. Signatures of addresses are masked.

    Args:
        doing: such as `create the compute 'cpu'`.
        hint: what to type next.
    """
    from azure.core.exceptions import AzureError, HttpResponseError

    try:
        with _unheard():
            yield
    except HttpResponseError as error:
        raise ServiceError(f"can't {doing}: {unsigned(_told(error))}", hint=hint, status=error.status_code) from None
    except AzureError as error:  # where there is no answer, it quotes the address, which may be a signed one
        raise ServiceError(f"can't {doing}: {unsigned(str(error.message))}", hint=hint) from None


def _told(error: HttpResponseError) -> str:
    """What Azure says, with its status, its code and the request's id."""
    answer: Any = error.response
    told = error.error
    # A refused request says only that it is invalid; what is wrong with it stands in the details.
    words = [word for one in getattr(told, "details", None) or [] for word in _words(one.message)]
    said = " ".join(dict.fromkeys([str((told.message if told else None) or error.message), *words]))
    status = f"HTTP {error.status_code}" if (error.status_code or 0) >= 400 else ""  # else an operation failed later
    request_id = None if answer is None else answer.headers.get("x-ms-request-id")
    named = [" ".join(part for part in (status, getattr(told, "code", None)) if part)]
    known = [*filter(None, named), *([f"request {request_id}"] if request_id else [])]
    return f"{said} ({', '.join(known)})" if known else said


def _words(text: Any) -> list[str]:
    """What a detail says: the inferencing service puts JSON into texts of JSON."""
    if isinstance(text, str):
        try:
            found = json.loads(text)
        except ValueError:
            return [text]
        return _words(found) if isinstance(found, (dict, list)) else [text]
    if isinstance(text, list):
        return [word for one in text for word in _words(one)]
    if isinstance(text, dict):
        for key in ("errors", "error", "message"):
            if text.get(key):
                inner = text[key]
                return _words(list(inner.values()) if key == "errors" and isinstance(inner, dict) else inner)
    return []


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Without azure-ai-ml's log of each call that isn't answered well, of each class that may change, of each step."""
    with contextlib.ExitStack() as stack:
        for name, level in _LOUD.items():
            log = logging.getLogger(f"azure.ai.ml.{name}")
            stack.callback(log.setLevel, log.level)
            log.setLevel(level)
        yield


@contextlib.contextmanager
def goes_on(doing: str, shown: str) -> Iterator[None]:
    """Say on Ctrl-C that Azure goes on with what was begun, and how to look at it.

    Args:
        doing: such as `create the compute 'cpu'`.
        shown: the command that shows how far it is.
    """
    try:
        yield
    except KeyboardInterrupt:
        _logger.warning(
            "Interrupted, but Azure may go on to %s. To look at it: %s. The same call again waits for it.", doing, shown
        )
        raise


def finished(poller: LROPoller[T], title: str) -> T:
    """Wait for a long operation, with what it does and for how long on standard error.

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
