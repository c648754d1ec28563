"""Requests to an Azure ML workspace: addresses, tokens, retries, and Azure's errors in its own words."""

from __future__ import annotations

import datetime as dt
import email.utils
import json
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import mlflow
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR, MLFLOW_HTTP_REQUEST_MAX_RETRIES
from mlflow.exceptions import MlflowException, RestException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from aml_spark import auth
from aml_spark.addresses import check_host, is_registry, masked
from aml_spark.errors import WorkspaceError
from aml_spark.workspace import Workspace

T = TypeVar("T")
TRANSIENT = (408, 429, 500, 502, 503, 504)
_UNKNOWN = ("NameResolutionError", "getaddrinfo", "Name or service not known")  # what a name that isn't known gives
_LONGEST_WAIT = 60.0  # seconds
_CODES = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "RESOURCE_ALREADY_EXISTS",
    429: "REQUEST_LIMIT_EXCEEDED",
    503: "TEMPORARILY_UNAVAILABLE",
}


class NoAnswerError(MlflowException):
    """The request may have been done or not."""


class Service(NamedTuple):
    """The MLflow endpoints of one workspace or registry.

    Args:
        host: `host[:port]`.
        arm_id: its path, `/subscriptions/…/workspaces/…` or `/subscriptions/…/registries/…`.
    """

    host: str
    arm_id: str

    @classmethod
    def of(cls, tracking_uri: str) -> Service:
        """The service behind `azureml://<host>/mlflow/…`.

        The host gets tokens, so it is one of Azure's, loopback, or one that MLflow was pointed to as a whole.

        Raises:
            WorkspaceError: the address is another one.
        """
        host, slash, rest = tracking_uri.removeprefix("azureml://").partition("/mlflow/")
        if not slash or not tracking_uri.startswith("azureml://"):
            raise WorkspaceError(f"{masked(tracking_uri)!r} isn't the tracking URI of an Azure ML workspace")
        arm_id = f"/{rest.partition('/')[2].rstrip('/')}"
        if not is_registry(tracking_uri):
            arm_id = str(Workspace.from_uri(arm_id).arm_id)
        return cls.of_host(host, arm_id)

    @classmethod
    def of_host(cls, host: str, arm_id: str = "") -> Service:
        """The same of a host by itself."""
        pointed_to = {urlsplit(uri).netloc for uri in (mlflow.get_tracking_uri(), mlflow.get_registry_uri())}
        check_host(host, auth.hosts | pointed_to)
        return cls(host, arm_id)

    @property
    def mlflow_path(self) -> str:
        """What MLflow's paths, `/api/2.0/mlflow/…`, come after."""
        return f"/mlflow/v2.0{self.arm_id}"

    def credentials(self) -> MlflowHostCreds:
        """Address and token, as MLflow's stores ask for before each request."""
        return MlflowHostCreds(f"https://{self.host}{self.mlflow_path}", token=auth.tokens().get())

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, retry: bool = True) -> Any:
        """One request below the workspace, such as `/history/v1.0{arm_id}/…`; its answer's JSON.

        Args:
            method: GET sends the body as query parameters, others as JSON.
            path: from the host's root.
            body: what is sent.
            retry: whether it may be sent again where nobody knows if it was done.

        Raises:
            NoAnswerError: no answer came, and `retry` is false or didn't help.
            RestException: the service refused; its text and request id are in it.
        """
        answer = self._answer(method, path, body, retry=retry)
        return answer.json() if answer.text.strip() else {}

    def call_mlflow(self, method: str, path: str, body: str | None, *, retry: bool = True) -> Any:
        """The same for one of MLflow's paths, with JSON as text."""
        return self.call(method, self.mlflow_path + path, None if body is None else json.loads(body), retry=retry)

    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None, *, retry: bool) -> Any:
        token, renewed = auth.tokens().get(), False
        for attempt in range(MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() + 1):
            last = attempt == MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()
            try:
                answer = http_request(
                    MlflowHostCreds(f"https://{self.host}", token=token),
                    path,
                    method,
                    max_retries=0,
                    raise_on_status=False,
                    **({"params": body} if method == "GET" else {"json": body}),
                )
            except MlflowException as error:
                told = str(error)
                hopeless = "CERTIFICATE_VERIFY_FAILED" in told or (
                    attempt > 1 and any(sign in told for sign in _UNKNOWN)
                )
                if last or not retry or hopeless:
                    raise NoAnswerError(_unreached(self.host, str(error).replace(token, "***"))) from None
                wait(attempt)
                continue
            if answer.status_code == 401 and not renewed:
                auth.tokens().forget(token)
                token, renewed = auth.tokens().get(), True
                continue
            if answer.status_code in TRANSIENT and not last and (retry or answer.status_code == 429):
                wait(attempt, answer.headers.get("Retry-After"))
                continue
            if answer.status_code >= 500 and not retry:
                raise NoAnswerError(str(failure(answer)))
            if not answer.ok:
                raise failure(answer)
            return answer
        raise failure(answer)


def only_of_azure(address: str) -> str:
    """See that the service names files of its own, and none of this machine's or of a host that tokens then go to.

    Raises:
        MlflowException: it names others.
    """
    if not address.startswith("azureml://"):
        scheme = address.partition(":")[0] if ":" in address else "a path"
        raise MlflowException(f"the workspace says that files lie at {scheme!r}; expected an azureml:// address")
    return address


def once(send: Callable[[], T], find: Callable[[], T | None]) -> T:
    """Create something, once, over a connection that may break.

    Args:
        send: asks for it, and raises `NoAnswerError` where nobody knows if it was done.
        find: looks whether it was done.
    """
    retries = MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()
    for attempt in range(retries):
        try:
            return send()
        except NoAnswerError:
            wait(attempt)
            if (found := find()) is not None:
                return found
    return send()


def wait(attempt: int, retry_after: str | None = None) -> None:
    """Sleep before the next attempt: what the service asks for, else longer each time, with jitter."""
    if retry_after and retry_after.isdigit():
        seconds = float(retry_after)
    else:
        seconds = MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR.get() * 2**attempt * random.uniform(0.25, 0.75)  # noqa: S311
    time.sleep(min(seconds, _LONGEST_WAIT))


def failure(answer: Any) -> RestException:
    """Azure's error as MLflow's, with its text and request id, from either of its shapes."""
    try:
        body = answer.json()
    except ValueError:
        body = {}
    body = body if isinstance(body, dict) else {}
    told = body.get("error") or body.get("Error") or {}
    told = told if isinstance(told, dict) else {"message": str(told)}
    text = told.get("message") or told.get("Message") or body.get("message") or answer.reason or "no text"
    if answer.status_code == 404 and not body:
        text += "; is there such a workspace or registry? Look at its name, resource group and subscription"
    known = body.get("correlation") or body.get("Correlation") or {}
    request = known.get("request") or answer.headers.get("x-ms-request-id")
    code = body.get("error_code") or _CODES.get(answer.status_code, "INTERNAL_ERROR")
    notes = [f"HTTP {answer.status_code}"] + ([f"request {request}"] if request else [])
    if answer.status_code == 401 and (skew := _skew(answer.headers.get("Date"))):
        notes.append(f"this machine's clock is {skew} the service's")
    return RestException({"error_code": code, "message": f"{text} ({', '.join(notes)})"})


def _skew(date: str | None) -> str | None:
    """How far this clock is from the one that wrote the Date header, where that matters to tokens."""
    try:
        there = email.utils.parsedate_to_datetime(date or "").replace(tzinfo=dt.timezone.utc)  # HTTP's dates are UTC
    except ValueError:  # none, or not a date
        return None
    minutes = (dt.datetime.now(dt.timezone.utc) - there).total_seconds() / 60
    if abs(minutes) < 4:
        return None
    return f"{abs(minutes):.0f} minutes {'ahead of' if minutes > 0 else 'behind'}"


def _unreached(host: str, told: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in told:
        why = "its certificate isn't trusted here; set REQUESTS_CA_BUNDLE to a file with its authority"
    elif any(sign in told for sign in _UNKNOWN):
        why = "its name doesn't resolve here; with a private endpoint, from inside its network only. Check the region"
    else:
        why = told.rpartition("Caused by ")[2] or told
    return f"{host} didn't answer: {why}"
