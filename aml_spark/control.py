"""A workspace's control plane: Microsoft's client for it, what it refuses in Azure's own words, and long operations."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from aml_spark import auth
from aml_spark.addresses import masked, unsigned
from aml_spark.errors import ServiceError, WorkspaceError
from aml_spark.progress import waiting
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Job
    from azure.core.exceptions import HttpResponseError
    from azure.core.polling import LROPoller

_logger = logging.getLogger(__name__)
T = TypeVar("T")
JOB_ENDED = ("Completed", "Failed", "Canceled", "NotResponding", "Paused")
"""Azure's words for a job that nothing comes of any more: after all but the first it has failed."""
_LOUD = {"_telemetry": "CRITICAL", "_utils._experimental": "CRITICAL", "operations": "WARNING"}
_EVERY_SECONDS = 1.0  # that what is waited for is shown anew
_within: ContextVar[bool] = ContextVar("_within", default=False)  # a `goes_on`


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
def goes_on(doing: str, shown: str, *, deleted: str | None = None) -> Iterator[None]:
    """Say on Ctrl-C that Azure goes on with what was begun, and how to look at it; once, of the whole, where nested.

    Args:
        doing: such as `create the compute 'cpu'`.
        shown: the command that shows how far it is.
        deleted: the command that deletes what comes of it.
    """
    outer = _within.get()
    before = _within.set(True)
    try:
        yield
    except KeyboardInterrupt:
        if not outer:
            told = f"To look at it: {shown}." + (f" To delete it: {deleted}." if deleted else "")
            _logger.warning("Interrupted, but Azure may go on to %s. %s The same call again waits for it.", doing, told)
        raise
    finally:
        _within.reset(before)


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


def job_name(title: str) -> str:
    """A name for a job that no other has.

    Args:
        title: what it starts with, as far as Azure takes it.
    """
    return f"{re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')[:40] or 'job'}-{uuid.uuid4().hex[:12]}"


def submitted(client: MLClient, name: str, send: Callable[[], T], *, tries: int = 1) -> T | Job:
    """Send a job of a name that is ours alone. Where the answer is lost, the job is looked up by that name.

    Args:
        client: of the workspace.
        name: see `job_name`.
        send: sends the job under this name.
        tries: how often it is sent where a connection breaks and there is no such job; more than once only where
            Azure takes the same job twice for one.

    Returns:
        What `send` gives, or the job.

    Raises:
        AzureError: it wasn't sent; Azure's own, for `own_words`.
    """
    from azure.core.exceptions import AzureError, ResourceNotFoundError

    try:
        return send()
    except AzureError as error:
        try:
            found: Job = client.jobs.get(name)
        except ResourceNotFoundError:
            if tries == 1 or not _may_pass(error):
                raise error from None
        except AzureError:
            _logger.warning("The job %s may have been sent. To look at it: aml-spark job show %s", name, name)
            raise error from None
        else:
            return found
    time.sleep(_EVERY_SECONDS)
    return submitted(client, name, send, tries=tries - 1)


def _may_pass(error: Any) -> bool:
    """Whether it went wrong on the way, as where a POST broke, which azure-core doesn't repeat."""
    status, category = getattr(error, "status_code", None), getattr(error, "error_category", None)
    return (status is None or status >= 500) and category != "UserError"


@contextlib.contextmanager
def job_goes_on(name: str) -> Iterator[None]:
    """Say on Ctrl-C that a job goes on, and how to look at it and to end it.

    Args:
        name: the job's name.
    """
    try:
        yield
    except KeyboardInterrupt:
        _logger.warning(
            "Interrupted, but the job %s may go on. To look at it: aml-spark job show %s. "
            "To end it: aml-spark job cancel %s",
            *[name] * 3,
        )
        raise


def naming(uri: str, workspace: Workspace | None) -> str:
    """A datastore's `azureml://datastores/…` in Azure's long form, which names the workspace, too.

    Args:
        uri: one without a workspace; others are given back as they are.
        workspace: None for the one that MLflow is configured for, which isn't named.
    """
    scheme, short = "azureml://", "azureml://datastores/"
    if workspace is None or not uri.lower().startswith(short):
        return uri
    group = f"subscriptions/{workspace.subscription_id}/resourcegroups/{workspace.resource_group}"
    return f"{scheme}{group}/workspaces/{workspace.name}/{uri[len(scheme) :]}"
