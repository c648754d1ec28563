"""Databricks' own client, calls that are repeated where it fails, and what it refuses in its own words."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from aml_spark.errors import AuthenticationError, ProjectError, ServiceError

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

T = TypeVar("T")
_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before a call is repeated


def client(config: Mapping[str, Any]) -> WorkspaceClient:
    """Databricks' client for the workspace that its profile or the environment names.

    Raises:
        ProjectError: databricks-sdk isn't installed.
        AuthenticationError: nothing names a workspace and lets in.
    """
    try:
        from databricks.sdk import WorkspaceClient
    except ImportError:
        raise ProjectError("databricks-sdk isn't installed", hint="pip install databricks-sdk") from None
    try:
        return WorkspaceClient(profile=config.get("profile"), product="aml-spark")
    except ValueError as error:
        raise AuthenticationError(
            f"no credential for Databricks: {error}",
            hint="set DATABRICKS_HOST and DATABRICKS_TOKEN, or `profile` in the backend's configuration",
        ) from None


def ask(doing: str, call: Callable[[], T], *, hint: str | None = None) -> T:
    """Ask Databricks, again while it fails at that, and raise what it refuses as a `ServiceError` with its own words.

    Args:
        doing: such as `submit the run 'train'`.
        call: does no harm when it is made twice.
        hint: what to type next.
    """
    from databricks.sdk.core import DatabricksError
    from requests import RequestException

    try:
        return _steadily(call)
    except DatabricksError as error:
        code = f" ({error.error_code})" if error.error_code else ""
        raise ServiceError(f"can't {doing}: Databricks says: {error}{code}", hint=hint) from None
    except (TimeoutError, RequestException) as error:
        why = error.__cause__ or error
        raise ServiceError(f"can't {doing}: Databricks doesn't answer: {why}", hint=hint) from None


def _steadily(call: Callable[[], T]) -> T:
    # The client itself repeats what is throttled or unavailable (429, 503) and what lost its connection, but neither
    # 500 nor an answer that breaks off.
    from databricks.sdk.errors import DeadlineExceeded, InternalError, TemporarilyUnavailable
    from requests import RequestException

    for pause in _PAUSES:
        try:
            return call()
        except (InternalError, DeadlineExceeded, TemporarilyUnavailable, RequestException):
            time.sleep(pause)
    return call()
