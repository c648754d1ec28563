"""Predictions over HTTP: a request that is sent again where that may help, and the server's words without its rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aml_spark.control import own_words
from aml_spark.deployment import endpoints
from aml_spark.errors import DeploymentError, ServiceError

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from mlflow.deployments import PredictionsResponse
    from requests import Response

DEPLOYMENT_HEADER = "azureml-model-deployment"
_ATTEMPTS = 5
_TRANSIENT = (408, 429, 502, 503, 504)
_OF_THE_MODEL = (400, 424, 500)  # what a model answers may quote the rows that it got
_SECONDS = 300.0  # Azure gives up after 180 at the latest
# The parts of what MLflow's server says that name columns and types only.
_HARMLESS = re.compile(
    r"Model is missing inputs \[[^\]]*\]|Incompatible input types for column [\w. -]+\. [\w ]+[<>\w. ',\[\]]{0,80}"
    r"|Failed to convert column [\w. -]+ to type '[^']*'|Model does not have the \"python_function\" flavor"
)


class Endpoint:
    """An online endpoint as it is asked for predictions.

    Where it is and what lets callers in is asked for once, and anew where it refuses.

    Args:
        client: of the workspace.
        name: its name.
    """

    def __init__(self, client: MLClient, name: str) -> None:
        self._client, self._name = client, name
        self._known: tuple[str, str] | None = None

    def predict(self, inputs: Any, deployment: str | None = None) -> PredictionsResponse:
        """Ask for predictions.

        Args:
            inputs: see `payload.of`.
            deployment: who is asked; None leaves that to the endpoint's traffic.

        Raises:
            ArgumentError: the inputs have no form that can be sent, or are too many for one request.
            DeploymentError: it doesn't answer, or the model failed.
            ServiceError: there is no such endpoint, or it lets nobody in.
        """
        from aml_spark.deployment import payload

        body = payload.of(inputs).for_azure()
        named = {DEPLOYMENT_HEADER: deployment} if deployment else {}
        for first in (True, False):
            address, secret = self._known = self._known or self._find()
            answer = post(address, body, {"Authorization": f"Bearer {secret}", **named}, what=self._name)
            if answer.status_code in (401, 403, 404) and first:  # keys are renewed, tokens end, endpoints move
                self._known = None
                continue
            break
        of = f"the deployment {deployment!r} of {self._name!r}" if deployment else f"the endpoint {self._name!r}"
        shown = f"aml-spark endpoint logs {self._name} --deployment {deployment or '<name>'}"
        return payload.from_azure(checked(answer, of, shown))

    def _find(self) -> tuple[str, str]:
        found, keys = endpoints.get(self._client, self._name), self._keys()
        if not found.scoring_uri:
            raise ServiceError(
                f"the endpoint {self._name!r} has no address for predictions; it is {found.provisioning_state}"
            )
        return found.scoring_uri, getattr(keys, "primary_key", None) or keys.access_token

    def _keys(self) -> Any:
        """What lets callers in. Asked for by POST, which azure-core doesn't repeat where the connection breaks."""
        from azure.core.exceptions import ServiceRequestError, ServiceResponseError

        from aml_spark.service import wait

        with own_words(f"ask for the keys of the endpoint {self._name!r}"):
            for attempt in range(_ATTEMPTS - 1):
                try:
                    return self._client.online_endpoints.get_keys(self._name)
                except (ServiceRequestError, ServiceResponseError):
                    wait(attempt)
            return self._client.online_endpoints.get_keys(self._name)


def post(url: str, body: bytes, headers: Mapping[str, str], *, what: str, local: bool = False) -> Response:
    """Send a request for predictions; again where the server is busy or the connection broke.

    Args:
        url: where to.
        body: JSON.
        headers: beside the content's type.
        what: who is asked, for messages.
        local: whether it is on this machine, where no proxy is asked.

    Raises:
        DeploymentError: no answer came.
    """
    import requests

    from aml_spark.service import wait

    told = ""
    with requests.Session() as session:
        session.trust_env = not local
        for attempt in range(_ATTEMPTS):
            try:
                answer = session.post(
                    url, data=body, headers={"Content-Type": "application/json", **headers}, timeout=_SECONDS
                )
            except requests.RequestException as error:
                told = type(error).__name__
                if isinstance(error, requests.exceptions.SSLError):
                    break
            else:
                if answer.status_code not in _TRANSIENT or attempt == _ATTEMPTS - 1:
                    return answer
                wait(attempt, answer.headers.get("Retry-After"))
                continue
            if attempt < _ATTEMPTS - 1:
                wait(attempt)
    raise DeploymentError(f"{what!r} doesn't answer at {url} ({told})", hint="is it running, and its name known here?")


def checked(answer: Response, who: str, hint: str) -> bytes:
    """The content of an answer.

    Raises:
        DeploymentError: the server or the model refused; in its words where these hold no rows.
    """
    if answer.ok:
        return answer.content
    try:
        found = answer.json()
    except ValueError:
        found = {}
    found = found if isinstance(found, dict) else {}
    inner = found["error"] if isinstance(found.get("error"), dict) else found
    code = inner.get("error_code") or inner.get("code") or answer.headers.get("ms-azureml-model-error-reason")
    text = str(inner.get("message") or answer.text)
    if answer.status_code in _OF_THE_MODEL:
        text = "; ".join(dict.fromkeys(part.strip() for part in _HARMLESS.findall(text)))
    told = ", ".join(str(part) for part in (f"HTTP {answer.status_code}", code) if part)
    raise DeploymentError(f"{who} gave no predictions ({told})" + (f": {text[:500]}" if text else ""), hint=hint)
