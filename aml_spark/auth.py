"""Tokens for Azure: where they come from, and one that is always good for a while."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aml_spark.errors import AuthenticationError

SCOPE = "https://management.azure.com/.default"
READY_TOKEN = "MLFLOW_TRACKING_TOKEN"  # noqa: S105 - a variable's name; Azure ML sets it in its jobs
SECRET_SCOPE = "AML_SPARK_SECRET_SCOPE"  # noqa: S105 - names a scope with tenant-id, client-id and client-secret
_MARGIN = 300  # seconds before its end that a token is replaced, as azure-identity does
_PUBLIC_AUTHORITIES = ("login.microsoftonline.com", "login.chinacloudapi.cn", "login.microsoftonline.us")
_INTERACTIVE = "interactive sign-in"
_INSTALL = "pip install 'aml-spark[azure]'"

hosts: set[str] = set()
"""Hosts, `host[:port]`, of workspaces that a person chose in this process: tokens go to these besides Azure's own."""


class Token(NamedTuple):
    """A bearer token and when it ends, in seconds since 1970 UTC, as azure-identity names them."""

    token: str
    expires_on: float

    def __repr__(self) -> str:
        return f"Token(***, expires_on={self.expires_on})"


class Tokens:
    """The tokens for one scope: good ones, replaced before their end, across threads and forks.

    Tried in this order: a token that was lent to this process; a ready one in `MLFLOW_TRACKING_TOKEN`; on Databricks
    the default service credential; the service principal in the Databricks secret scope that `AML_SPARK_SECRET_SCOPE`
    names (its secrets `tenant-id`, `client-id`, `client-secret`); what `azure-identity` finds (service principal in
    `AZURE_*` variables, workload identity, managed identity, Azure CLI and others). Never a browser or a device code,
    unless `interactive` is set and a terminal is attached.

    Args:
        scope: what the tokens are for.
        interactive: whether a person may be asked to sign in.
    """

    _token: Token | None
    _replace_at: float

    def __init__(self, scope: str = SCOPE, *, interactive: bool = False) -> None:
        self.scope = scope
        self.interactive = interactive
        self.lent: Token | None = None
        self._start()

    def get(self) -> str:
        """A token that is good for some minutes at least.

        Raises:
            AuthenticationError: nothing gives one; says what was tried and why each failed.
        """
        return self.current().token

    def get_token(self, *_scopes: str, **_options: Any) -> Token:
        """The same, as Azure's clients for Python ask for it."""
        return self.current()

    def current(self) -> Token:
        """The same with its end."""
        if os.getpid() != self._pid:
            self._start()  # connections and locks of the process that this one was forked from are not ours
        with self._lock:
            if self._token is None or time.time() >= self._replace_at:
                self._token = self._fetch()
                left = self._token.expires_on - time.time()
                self._replace_at = self._token.expires_on - min(_MARGIN, left / 10)
            return self._token

    def lend(self, token: Token | None) -> None:
        """Have another process' token tried first, as long as it is good; None takes it away."""
        with self._lock:
            if token != self.lent:
                self.lent, self._token = token, None

    def forget(self, value: str) -> None:
        """Don't give this token again: the service refused it."""
        with self._lock:
            if self._token is not None and self._token.token == value:
                self._token = None

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._token = None
        self._replace_at = 0
        self._credentials: dict[str, Any] = {}

    def _fetch(self) -> Token:
        failed = {}
        if self.lent is not None:
            if self.lent.expires_on > time.time():
                return self.lent
            failed["the token that was lent to this process"] = f"ended at {utc(self.lent.expires_on)}"
        for name, make in _SOURCES.items():
            if name == _INTERACTIVE and not (self.interactive and sys.stdin.isatty()):
                continue
            if name == READY_TOKEN and self.scope != SCOPE:  # it is for the workspace
                continue
            try:
                if name not in self._credentials:
                    self._credentials[name] = make()
                with _unheard():
                    found = self._credentials[name].get_token(self.scope)
                return Token(found.token, found.expires_on)
            except Exception as error:  # each source has errors of its own, and the next one is tried
                self._credentials.pop(name, None)  # it was made from an environment that may be mended by then
                failed[name] = _brief(str(error)) or type(error).__name__
        tried = "\n".join(f"- {name}: {why}" for name, why in failed.items())
        hint = "az login; or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET to a service principal's"
        if _INSTALL in tried:
            hint = f"{_INSTALL}; then {hint}"
        raise AuthenticationError(f"no credential gives a token for {self.scope}\nTried:\n{tried}", hint=hint)


@cache
def tokens(scope: str = SCOPE) -> Tokens:
    """This process' tokens for the scope."""
    return Tokens(scope)


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Without azure-identity's warnings while the block runs: what it says is in the error."""
    log = logging.getLogger("azure.identity")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def _brief(text: str) -> str:
    """What azure-identity says of each of its ways, without its advice on other pages."""
    lines = [line.strip() for line in text.splitlines()]
    return "\n  ".join(line for line in lines if line and not line.startswith(("Visit ", "To mitigate ", "Attempted ")))


class _ReadyToken:
    def get_token(self, _scope: str) -> Token:
        value = os.environ.get(READY_TOKEN, "").strip()
        if not value:
            raise ValueError("not set")
        if value.split() != [value]:
            raise ValueError("isn't a token: there are spaces or line breaks in it")
        ends = expiry(value)
        if ends is None:
            return Token(value, time.time() + _MARGIN)  # not a JWT: the service will say when it has ended
        if ends <= time.time():
            raise ValueError(f"ended at {utc(ends)}")
        return Token(value, ends)


def utc(seconds: float) -> str:
    """A moment as text, from seconds since 1970."""
    return f"{dt.datetime.fromtimestamp(seconds, dt.timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def expiry(token: str) -> float | None:
    """When a JWT ends, in seconds since 1970 UTC; None where it doesn't say. Its signature isn't looked at."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"])
    except (ValueError, KeyError, TypeError):
        return None


def _databricks() -> Any:
    if "DATABRICKS_RUNTIME_VERSION" not in os.environ:
        raise ValueError("not on Databricks")
    from databricks.service_credentials import getServiceCredentialsProvider

    return getServiceCredentialsProvider(os.environ.get("DATABRICKS_DEFAULT_SERVICE_CREDENTIAL_NAME"))


def _secret_scope() -> Any:
    get = _scope_getter()
    from azure.identity import ClientSecretCredential

    return ClientSecretCredential(
        *[get(key) for key in ("tenant-id", "client-id", "client-secret")],
        disable_instance_discovery=is_private_cloud(os.environ.get("AZURE_AUTHORITY_HOST", "")),
    )


def scope_secret(key: str) -> str | None:
    """A secret of the Databricks secret scope that `AML_SPARK_SECRET_SCOPE` names; None where either isn't there."""
    try:
        return str(_scope_getter()(key))
    except Exception:  # Java's, where the scope lacks the key
        return None


def _scope_getter() -> Callable[[str], Any]:
    scope = os.environ.get(SECRET_SCOPE)
    if not scope:
        raise ValueError(f"{SECRET_SCOPE} isn't set")
    from databricks.sdk.runtime import dbutils

    return lambda key: dbutils.secrets.get(scope, key)


def is_private_cloud(authority: str) -> bool:
    """Whether Microsoft's own authorities wouldn't vouch for this one, an address or nothing."""
    return urlsplit(authority).hostname not in (None, *_PUBLIC_AUTHORITIES)


def _azure_identity() -> Any:
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError:
        raise ValueError(f"not installed; {_INSTALL}") from None
    return DefaultAzureCredential(
        exclude_interactive_browser_credential=True,
        disable_instance_discovery=is_private_cloud(os.environ.get("AZURE_AUTHORITY_HOST", "")),
    )


def _interactive() -> Any:
    from azure.identity import DeviceCodeCredential

    return DeviceCodeCredential()


_SOURCES: dict[str, Callable[[], Any]] = {
    READY_TOKEN: _ReadyToken,
    "Databricks service credential": _databricks,
    "Databricks secret scope": _secret_scope,
    "azure-identity": _azure_identity,
    _INTERACTIVE: _interactive,
}
