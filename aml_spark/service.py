"""Requests to an Azure ML workspace: addresses, tokens, retries, and Azure's errors in its own words."""

from __future__ import annotations

import datetime as dt
import email.utils
import json
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import mlflow
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR, MLFLOW_HTTP_REQUEST_MAX_RETRIES
from mlflow.exceptions import MlflowException, RestException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from aml_spark import auth
from aml_spark.errors import WorkspaceError
from aml_spark.workspace import Workspace

T = TypeVar("T")
_TRANSIENT = (408, 429, 500, 502, 503, 504)
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
    """The MLflow endpoints of one workspace.

    Args:
        host: `host[:port]`.
        arm_id: the workspace's path, `/subscriptions/…/workspaces/…`.
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
        chosen = (mlflow.get_tracking_uri(), mlflow.get_registry_uri())
        if slash and any(uri.startswith(f"azureml://{host}/") for uri in chosen):
            arm_id = Workspace.from_uri(f"/{rest.partition('/')[2]}").arm_id
            return cls(host, str(arm_id))
        workspace = Workspace.from_uri(tracking_uri)
        if workspace.host is None or workspace.arm_id is None:
            raise WorkspaceError(f"{tracking_uri!r} isn't the tracking URI of an Azure ML workspace")
        return cls(workspace.host, workspace.arm_id)

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
                if last or not retry or "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise NoAnswerError(_unreached(self.host, str(error))) from None
                wait(attempt)
                continue
            if answer.status_code == 401 and not renewed:
                auth.tokens().forget(token)
                token, renewed = auth.tokens().get(), True
                continue
            if answer.status_code in _TRANSIENT and not last and (retry or answer.status_code == 429):
                wait(attempt, answer.headers.get("Retry-After"))
                continue
            if answer.status_code >= 500 and not retry:
                raise NoAnswerError(str(failure(answer)))
            if not answer.ok:
                raise failure(answer)
            return answer
        raise failure(answer)


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
    elif "NameResolutionError" in told or "getaddrinfo" in told or "Name or service not known" in told:
        why = "its name doesn't resolve here; with a private endpoint, from inside its network only. Check the region"
    else:
        why = told.rpartition("Caused by ")[2] or told
    return f"the workspace at {host} didn't answer: {why}"
