"""Batch endpoints and their deployments of MLflow models, as Azure Resource Manager answers for them.

What an invocation starts is a job like others: a command job of the workspace, with the output `score`. On Azure it is
a pipeline job with one step.
"""

from __future__ import annotations

import shlex
import uuid
from pathlib import Path
from typing import Any

import flask

from aml_spark.testing.artifacts import failure
from aml_spark.testing.control import batch_run
from aml_spark.testing.control.endpoints import BUSY, Resources, blueprint, busy, check_name, invalid, missing
from aml_spark.testing.control.ground import Ground
from aml_spark.testing.control.jobs import Jobs
from aml_spark.testing.control.models import MLFLOW_MODEL, Models
from aml_spark.testing.control.online import DOMAIN
from aml_spark.testing.control.records import shown
from aml_spark.testing.control.workspaces import LOCATION
from aml_spark.testing.identity import RefusedToken

KIND = "batchEndpoints"
AUDIENCES = ("https://ml.azure.com",)
_TYPE = f"Microsoft.MachineLearningServices/workspaces/{KIND}"
_KEEPS = ("location", "tags", "identity")
_ENDPOINT, _DEPLOYMENT = "azureml.endpointname", "azureml.deploymentname"  # properties of a job
_LONGEST = 255  # bytes of a file's name
_DEFAULTS = {
    "errorThreshold": batch_run.ALL,
    "miniBatchSize": 10,
    "maxConcurrencyPerInstance": 1,
    "loggingLevel": "Info",
    "outputAction": "AppendRow",
    "outputFileName": "predictions.csv",
    "retrySettings": {"maxRetries": 3, "timeout": "PT30S"},
}


class Batch:
    """The batch endpoints of one workspace.

    Args:
        ground: the other resources.
        models: what is deployed.
    """

    def __init__(self, ground: Ground, jobs: Jobs, models: Models) -> None:
        self._ground, self._jobs, self._models = ground, jobs, models
        self._workspace, self._root = ground.arm_id, f"{ground.arm_id}/{KIND}"
        self._endpoints = Resources(ground.folder / f"{KIND}.json", self._root, ground.operations)
        self._deployments = Resources(ground.folder / "batchDeployments.json", self._root, ground.operations)

    def routes(self) -> flask.Blueprint:
        """Endpoints and deployments: list, get, create, change and delete; `/jobs` on an endpoint's host; its jobs."""
        routes = blueprint("batch")
        one = f"{self._root}/<name>"
        deployment = f"{self._root}/<endpoint>/deployments/<name>"
        jobs = f"/mferp/managementfrontend{self._root}/<endpoint>"

        @routes.get(self._root)
        def endpoints() -> Any:
            return {"value": [self._endpoint(name) for name in self._endpoints.records.all()]}

        @routes.get(one)
        def endpoint(name: str) -> Any:
            return self._endpoint(name)

        @routes.put(one)
        def put_endpoint(name: str) -> Any:
            return self._put_endpoint(name, flask.request.get_json())

        @routes.delete(one)
        def delete_endpoint(name: str) -> Any:
            if self._endpoints.records.get(name) is None:
                return "", 204
            if any(self._deployments.records.get(f"{name}/{each}")["state"] in BUSY for each in self._of(name)):
                raise busy(name)

            def work() -> None:
                for each in self._of(name):
                    self._deployments.records.pop(f"{name}/{each}")
                self._endpoints.records.pop(name)

            return self._endpoints.begin(name, work, doing="Deleting")

        @routes.get(f"{self._root}/<endpoint>/deployments")
        def deployments(endpoint: str) -> Any:
            self._endpoint(endpoint)
            return {"value": [self._deployment(endpoint, name) for name in self._of(endpoint)]}

        @routes.get(deployment)
        def get_deployment(endpoint: str, name: str) -> Any:
            return self._deployment(endpoint, name)

        @routes.put(deployment)
        def put_deployment(endpoint: str, name: str) -> Any:
            return self._put_deployment(endpoint, name, flask.request.get_json())

        @routes.delete(deployment)
        def delete_deployment(endpoint: str, name: str) -> Any:
            self._endpoint(endpoint)
            key = f"{endpoint}/{name}"
            if self._deployments.records.get(key) is None:
                return "", 204

            def work() -> None:
                self._deployments.records.pop(key)
                with self._endpoints.records.changed() as everything:
                    defaults = everything[endpoint]["properties"].get("defaults") or {}
                    if defaults.get("deploymentName") == name:
                        everything[endpoint]["properties"]["defaults"] = None

            return self._deployments.begin(key, work, doing="Deleting")

        @routes.post("/jobs")
        def invoke() -> Any:
            try:
                self._ground.identity.check(flask.request.headers.get("Authorization"), AUDIENCES)
            except RefusedToken as error:
                return failure(401, "Unauthorized", str(error))
            hosts = {f"{name}{DOMAIN}".lower(): name for name in self._endpoints.records.all()}
            host = flask.request.host.partition(":")[0].lower()
            return self._invoke(hosts.get(host, host), flask.request.get_json()["properties"])

        @routes.get(f"{jobs}/jobs")
        @routes.get(f"{jobs}/deployments/<name>/jobs")
        def started(endpoint: str, name: str | None = None) -> Any:
            self._endpoint(endpoint)
            found = []
            for job, known in reversed(self._jobs.records.all().items()):
                of = known["properties"]["properties"]
                if of.get(_ENDPOINT) == endpoint and name in (None, of.get(_DEPLOYMENT)):
                    found.append(self._jobs.shown(job))
            return {"value": found}

        return routes

    def _put_endpoint(self, name: str, asked: dict[str, Any]) -> Any:
        check_name(name, "an endpoint")
        old = self._endpoints.records.get(name)
        given = {key: value for key, value in asked["properties"].items() if value is not None}
        default = (given.get("defaults") or {}).get("deploymentName")
        if default and default not in self._of(name):
            raise invalid(f"The default deployment '{default}' does not exist.", "Defaults")
        properties = {"authMode": "AADToken", "properties": {}, **(old["properties"] if old else {}), **given}
        known = {**{key: asked[key] for key in _KEEPS if asked.get(key) is not None}, "properties": properties}
        return self._endpoints.begin(name, lambda: None, known=known, show=lambda: self._endpoint(name))

    def _put_deployment(self, endpoint: str, name: str, asked: dict[str, Any]) -> Any:
        check_name(name, "a deployment")
        if self._endpoint(endpoint)["properties"]["provisioningState"] in BUSY:
            raise busy(endpoint)
        given = {key: value for key, value in asked["properties"].items() if value is not None}
        if given.get("codeConfiguration"):
            raise invalid("The emulator scores with MLflow models, without a scoring script.", "CodeConfiguration")
        asset = (given.get("model") or {}).get("assetId") or ""
        model = self._models.find(asset)
        if model is None:
            raise invalid(f"The model '{asset}' does not exist.", "Model")
        if model["properties"]["modelType"] != MLFLOW_MODEL:
            raise invalid("A model that isn't MLflow's needs a scoring script and an environment.", "Model")
        compute = (given.get("compute") or "").rpartition("/")[2]
        if not self._ground.computes.has(compute):
            raise invalid(f"The compute '{compute}' does not exist in the workspace.", "Compute")
        if not _is_file_name(file := given.get("outputFileName", _DEFAULTS["outputFileName"])):
            raise invalid(f"The output file name '{file}' is not valid.", "OutputFileName")
        key = f"{endpoint}/{name}"
        kept = {field: asked[field] for field in _KEEPS if asked.get(field) is not None}
        known = {**kept, "properties": {**_DEFAULTS, **given}}
        show = lambda: self._deployment(endpoint, name)  # noqa: E731
        return self._deployments.begin(key, lambda: None, known=known, show=show)

    def _invoke(self, endpoint: str, asked: dict[str, Any]) -> Any:
        known = self._endpoint(endpoint)["properties"]
        wanted = flask.request.headers.get("azureml-model-deployment")
        name = wanted or (known.get("defaults") or {}).get("deploymentName")
        if not name:
            return failure(400, "UserError", f"The batch endpoint '{endpoint}' has no default deployment.")
        deployed = self._deployment(endpoint, name)["properties"]
        inputs = list((asked.get("inputData") or {}).values())
        if len(inputs) != 1 or "uri" not in inputs[0]:
            return failure(400, "UserError", "A model deployment takes one input: a file or a folder.")
        # A request that is sent again, because its answer was lost, gets the job that it started.
        repeated = flask.request.headers.get("repeatability-request-id") or str(uuid.uuid4())
        job = asked.get("name") or f"batchjob-{uuid.uuid5(uuid.NAMESPACE_OID, repeated)}"
        settings = {**deployed, **{key: asked[key] for key in _DEFAULTS if asked.get(key) is not None}}
        output: dict[str, Any] = next(iter((asked.get("outputData") or {}).values()), {})
        told = {"file": settings["outputFileName"], "uri": output.get("uri")}
        if output.get("jobOutputType") == "UriFile":  # the name of the file stands at the end
            told["uri"], _, told["file"] = output["uri"].rpartition("/")
        if not _is_file_name(told["file"]):
            return failure(400, "UserError", f"The output file name '{told['file']}' is not valid.")
        properties = (asked.get("properties") or {}) | {_ENDPOINT: endpoint, _DEPLOYMENT: name}
        return self._jobs.submit(
            job,
            {
                "jobType": "Command",
                "command": _command(settings, told["file"]),
                "environmentId": "azureml://registries/azureml/environments/mlflow-py/labels/latest",
                "environmentVariables": deployed.get("environmentVariables") or {},
                "computeId": deployed["compute"],
                "experimentName": properties.pop("experimentName", endpoint),
                "properties": properties,
                "inputs": {
                    "model": {"jobInputType": "mlflow_model", "uri": deployed["model"]["assetId"]},
                    "data": {"jobInputType": "uri_folder", "uri": inputs[0]["uri"]},
                },
                "outputs": {"score": {"jobOutputType": "uri_folder", **({"uri": told["uri"]} if told["uri"] else {})}},
            },
        )

    def _of(self, endpoint: str) -> list[str]:
        """The names of an endpoint's deployments."""
        return [key.partition("/")[2] for key in self._deployments.records.all() if key.startswith(f"{endpoint}/")]

    def _endpoint(self, name: str) -> dict[str, Any]:
        """An endpoint in Azure's form."""
        known = self._endpoints.records.get(name)
        if known is None:
            raise missing(KIND, self._workspace, name)
        properties = {
            **known["properties"],
            "scoringUri": f"https://{name}{DOMAIN}/jobs",
            "swaggerUri": None,
            "provisioningState": known["state"],
        }
        beside = {"location": LOCATION, **{key: known[key] for key in _KEEPS if key in known}}
        return shown(f"{self._root}/{name}", _TYPE, properties) | beside

    def _deployment(self, endpoint: str, name: str) -> dict[str, Any]:
        """A deployment in Azure's form."""
        self._endpoint(endpoint)
        known = self._deployments.records.get(f"{endpoint}/{name}")
        if known is None:
            raise missing(KIND, self._workspace, f"{endpoint}/deployments/{name}")
        properties = {"properties": {}, **known["properties"], "provisioningState": known["state"]}
        beside = {"location": LOCATION, **{key: known[key] for key in _KEEPS if key in known}}
        return shown(f"{self._root}/{endpoint}/deployments/{name}", f"{_TYPE}/deployments", properties) | beside


def _is_file_name(name: str) -> bool:
    return name not in ("", ".", "..") and not {"/", "\0"} & set(name) and len(name.encode()) <= _LONGEST


def _command(settings: dict[str, Any], file: str) -> str:
    """What the job's process runs."""
    options = {
        "--output-file-name": file,
        "--output-action": settings["outputAction"],
        "--mini-batch-size": settings["miniBatchSize"],
        "--error-threshold": settings["errorThreshold"],
        "--max-retries": (settings.get("retrySettings") or {}).get("maxRetries") or 0,
    }
    places = "--model '${{inputs.model}}' --data '${{inputs.data}}' --output '${{outputs.score}}'"
    told = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in options.items())
    return f"python -Iu {shlex.quote(str(Path(batch_run.__file__)))} {places} {told}"
