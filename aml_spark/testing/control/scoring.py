"""What a client of an online endpoint meets: `/score` on the endpoint's own host.

A deployment of an MLflow model on Azure takes and answers other JSON than MLflow's own server, which does the work.
It takes `{"input_data": …, "params": {…}}`, with

* a DataFrame as `{"columns": […], "index": […], "data": [[…], …]}`, which becomes MLflow's `dataframe_split`,
* rows as a list of objects, `[{"column": value, …}, …]`, which becomes `dataframe_records`,
* a tensor as a list, or named tensors as an object of lists, which become `inputs`,

and what TensorFlow Serving takes, `{"instances": …}` or `{"inputs": …}`, as it is. It answers the predictions alone,
where MLflow's server answers `{"predictions": …}`.
"""

from __future__ import annotations

import json
import random
import threading
import uuid
from typing import Any

import flask

from aml_spark.testing.control.collected import Collector
from aml_spark.testing.control.deployments import Deployments
from aml_spark.testing.control.endpoints import blueprint
from aml_spark.testing.control.online import OnlineEndpoints
from aml_spark.testing.control.serving import Answer, Servers

LARGEST = 3 * 2**19  # bytes of a request: 1.5 MB
HEADER = "azureml-model-deployment"
_ERROR = "ms-azureml-model-error-{}"
_NO_INPUT = "Request must contain a top level dictionary key named 'input_data'"


class Scoring:
    """Sends requests to the servers of deployments.

    Args:
        endpoints: who may ask, and where to.
        deployments: what they have.
        servers: answer.
        collector: keeps what was asked and answered, where that is wanted.
        seed: of what is drawn: a deployment by the traffic's rules, and the requests that are mirrored.
    """

    def __init__(
        self,
        endpoints: OnlineEndpoints,
        deployments: Deployments,
        servers: Servers,
        collector: Collector,
        *,
        seed: int = 0,
    ) -> None:
        self._endpoints, self._deployments = endpoints, deployments
        self._servers, self._collector = servers, collector
        self._random = random.Random(seed)  # noqa: S311 - not for secrets

    def routes(self) -> flask.Blueprint:
        """`POST /score`."""
        routes = blueprint("scoring")

        @routes.post("/score")
        def score() -> Any:
            endpoint = self._endpoints.by_host(flask.request.host)
            if endpoint is None:
                return _failure(404, "NotFound", f"There is no endpoint at {flask.request.host}.")
            refused = self._endpoints.allows(endpoint, flask.request.headers.get("Authorization"))
            return self._score(endpoint) if refused is None else _failure(refused[0], "Unauthorized", refused[1])

        return routes

    def _score(self, endpoint: str) -> Any:
        body = flask.request.stream.read(LARGEST + 1)
        if max(len(body), flask.request.content_length or 0) > LARGEST:
            return _failure(413, "RequestEntityTooLarge", f"The request is larger than {LARGEST} bytes.")
        properties, deployments = self._endpoints.get(endpoint)["properties"], self._deployments.of(endpoint)
        names = {name.lower(): name for name in deployments}
        wanted = flask.request.headers.get(HEADER)
        if wanted is None:
            wanted = self._drawn({name: share for name, share in properties["traffic"].items() if name in names})
            if wanted is None:
                return _failure(404, "NotFound", "The endpoint doesn't have any valid deployment with positive weight.")
        if wanted.lower() not in names:
            return _failure(404, "NotFound", f"The deployment {wanted!r} of the endpoint {endpoint!r} is not found.")
        name = names[wanted.lower()]
        request_id = flask.request.headers.get("x-ms-client-request-id") or str(uuid.uuid4())
        for mirror, share in properties["mirrorTraffic"].items():
            if mirror in names and HEADER not in flask.request.headers and self._random.random() * 100 < share:
                copy = (endpoint, names[mirror], deployments[names[mirror]], body, request_id)
                threading.Thread(target=self._ask, args=copy, daemon=True).start()
        answer = self._ask(endpoint, name, deployments[name], body, request_id)
        answer.headers.update({HEADER: name, "x-ms-request-id": request_id})
        return answer

    def _drawn(self, traffic: dict[str, int]) -> str | None:
        if not any(traffic.values()):
            return None
        return self._random.choices(list(traffic), list(traffic.values()))[0]

    def _ask(self, endpoint: str, name: str, known: dict[str, Any], body: bytes, request_id: str) -> flask.Response:
        key = f"{endpoint}/{name}"
        try:
            asked = translated(body)
            answer = self._servers.ask(key, json.dumps(asked).encode(), known["timeout"])
        except ValueError as error:
            answer = Answer(status=400, body=json.dumps({"message": str(error)}).encode())
        except TimeoutError:
            return _failure(408, "RequestTimeout", f"The deployment didn't answer within {known['timeout']:g} s.")
        except ConnectionError as error:
            return _failure(503, "ServiceUnavailable", f"The deployment {name!r} doesn't answer: {error}")
        if answer.status != 200:
            headers = {_ERROR.format("reason"): "model_error", _ERROR.format("statuscode"): str(answer.status)}
            return flask.Response(answer.body, 424, headers, content_type="application/json")
        predictions = json.loads(answer.body)["predictions"]
        self._collector.keep(endpoint, name, known["properties"].get("dataCollector"), asked, predictions, request_id)
        return flask.Response(json.dumps(predictions), content_type="application/json")


def translated(body: bytes) -> dict[str, Any]:
    """A request in MLflow's protocol.

    Raises:
        ValueError: it isn't one.
    """
    given = json.loads(body)
    if not isinstance(given, dict):
        raise ValueError(_NO_INPUT)
    params = {"params": given["params"]} if given.get("params") is not None else {}
    if "input_data" not in given:
        tensors = {key: given[key] for key in ("instances", "inputs") if key in given}
        if not tensors:
            raise ValueError(_NO_INPUT)
        return {**tensors, **params}
    data = given["input_data"]
    if isinstance(data, dict) and {"columns", "data"} <= set(data):
        return {"dataframe_split": {key: data[key] for key in ("columns", "index", "data") if key in data}, **params}
    if isinstance(data, list) and data and all(isinstance(row, dict) for row in data):
        return {"dataframe_records": data, **params}
    return {"inputs": data, **params}


def _failure(status: int, code: str, told: str) -> flask.Response:
    body = json.dumps({"error": {"code": code, "message": told}})
    return flask.Response(body, status, {"x-ms-request-id": str(uuid.uuid4())}, content_type="application/json")
