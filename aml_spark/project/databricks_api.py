"""Databricks' own client, calls that are repeated where it fails, and what it refuses in its own words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from aml_spark.errors import ArgumentError, AuthenticationError, ProjectError, ServiceError, did_you_mean

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


def check(given: Mapping[str, Any], kind: Any, where: str) -> None:
    """See that Databricks' client sends all of what is given: it leaves out what it doesn't know, without a word.

    Args:
        given: as JSON has it.
        kind: the client's class for it.
        where: what it is called in the configuration.

    Raises:
        ArgumentError: a key, or the value of one, is unknown.
    """
    try:
        sent = kind.from_dict(given).as_dict()
    except (AttributeError, TypeError, ValueError) as error:
        raise ArgumentError(f"the backend's configuration, `{where}`, isn't what Databricks takes: {error}") from None
    _compare(given, sent, kind, where)


def _compare(given: Any, sent: Any, kind: Any, where: str) -> None:
    if isinstance(given, list) and isinstance(sent, list) and len(given) == len(sent):
        for number, (one, its) in enumerate(zip(given, sent, strict=True)):
            _compare(one, its, kind, f"{where}.{number}")
    elif isinstance(given, Mapping) and isinstance(sent, Mapping):
        known = [field.name for field in fields(kind)] if kind else []
        for name, value in given.items():
            if name in sent:
                _compare(value, sent[name], _kind_of(kind, name), f"{where}.{name}")
            elif name not in known:
                close = did_you_mean(name, known)
                raise ArgumentError(f"the backend's configuration, `{where}`: the key {name!r} is unknown", hint=close)
            elif value not in (None, {}, []):
                raise ArgumentError(f"the backend's configuration, `{where}.{name}`: Databricks takes no such value")


def _kind_of(kind: Any, name: str) -> Any:
    """The client's class for what a field holds; None where it is none of them."""

    def within(hint: Any) -> Iterator[Any]:
        yield hint
        for one in get_args(hint):
            yield from within(one)

    return next((one for one in within(get_type_hints(kind)[name]) if is_dataclass(one)), None) if kind else None


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
