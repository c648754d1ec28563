"""What Azure's run history tells of a job's run: its details with its logs, where its outputs are, and its changes."""

from __future__ import annotations

import re
from typing import Any

import flask

from aml_spark.testing.artifacts import CONTAINER, OF_RUNS, failure
from aml_spark.testing.control.bindings import output_uri
from aml_spark.testing.control.execution import LOG
from aml_spark.testing.control.ground import Ground
from aml_spark.testing.control.jobs import Jobs
from aml_spark.testing.control.workspaces import LOCATION

_OUTPUT = re.compile(r"azureml://locations/[^/]+/workspaces/[^/]+/data/azureml_(.+)_output_data_(.+)/versions/1")


def history(ground: Ground, jobs: Jobs) -> flask.Blueprint:
    """`/history/v1.0/…/runs` of jobs, and `/data/v1.0/…/dataversion` of their outputs."""
    routes = flask.Blueprint("history", __name__)
    root, workspace = f"/history/v1.0{ground.arm_id}", ground.arm_id.rpartition("/")[2]

    @routes.get(f"{root}/runs/<run>")
    @routes.get(f"{root}/experiments/<experiment>/runs/<run>")
    def get(run: str, experiment: str = "") -> Any:  # noqa: ARG001 - named by the address
        return _shown(jobs.records.get(run), run) if jobs.records.get(run) else _missing(run)

    @routes.patch(f"{root}/experiments/<experiment>/runs/<run>")
    def change(run: str, experiment: str) -> Any:  # noqa: ARG001 - named by the address
        if jobs.records.get(run) is None:
            return _missing(run)
        asked = flask.request.get_json()
        with jobs.records.changed() as everything:
            properties = everything[run]["properties"]
            for name in ("displayName", "description"):
                if asked.get(name) is not None:
                    properties[name] = asked[name]
            for name in ("tags", "properties"):
                properties[name] |= asked.get(name) or {}
            if asked.get("hidden") is not None:
                properties["isArchived"] = asked["hidden"]
        if asked.get("displayName"):
            ground.runs.set_run(run, name=asked["displayName"])
        for key, value in (asked.get("tags") or {}).items():
            ground.runs.set_tag(run, key, value)
        return _shown(jobs.records.get(run), run)

    @routes.get(f"{root}/runs/<run>/details")
    @routes.get(f"{root}/experiments/<experiment>/runs/<run>/details")
    def details(run: str, experiment: str = "") -> Any:  # noqa: ARG001 - named by the address
        if jobs.records.get(run) is None:
            return _missing(run)
        shown = _shown(jobs.records.get(run), run)  # before the log, which then has all that a finished job said
        name = f"{OF_RUNS}{run}/{LOG}"
        logs = {LOG: ground.blobs.address(CONTAINER, name, write=False)} if jobs.log(run) else {}
        return {**shown, "logFiles": logs, "warnings": [], "outputDatasets": [], "inputDatasets": []}

    @routes.get(f"{root}/runs/<run>/children")
    def children(run: str) -> Any:
        return {"value": []} if jobs.records.get(run) else _missing(run)

    @routes.post(f"{root}/rundata")
    def data() -> Any:
        run = flask.request.get_json()["runId"]
        job = jobs.records.get(run)
        if job is None:
            return _missing(run)
        place = f"azureml://locations/{LOCATION}/workspaces/{workspace}/data/azureml_{run}_output_data"
        outputs = {
            name: {"assetId": f"{place}_{name}/versions/1", "type": (asked or {}).get("jobOutputType", "uri_folder")}
            for name, asked in (job["asked"].get("outputs") or {}).items()
        }
        return {"runMetadata": {**_shown(job, run), "outputs": outputs}}

    @routes.post(f"/data/v1.0{ground.arm_id}/dataversion/batchGetResolvedUris")
    def resolved() -> Any:
        found = {}
        for asset in flask.request.get_json()["values"]:
            named = _OUTPUT.fullmatch(asset)
            job = jobs.records.get(named[1]) if named else None
            if named and job is not None:
                asked = (job["asked"].get("outputs") or {})[named[2]] or {}
                uri = output_uri(named[1], named[2], asked)
                found[asset] = {"uri": uri, "type": asked.get("jobOutputType", "uri_folder")}
        return {"values": found}

    return routes


def _shown(job: dict[str, Any], run: str) -> dict[str, Any]:
    properties = job["properties"]
    error = job["error"] and {"error": {**job["error"], "severity": None, "details": []}, "time": job["ended"]}
    return {
        "runId": run,
        "rootRunId": run,
        "runType": "azureml.scriptrun",
        "experimentId": job["experiment"],
        "status": properties["status"],
        "displayName": properties["displayName"],
        "description": properties.get("description"),
        "tags": properties["tags"],
        "properties": properties["properties"],
        "hidden": properties["isArchived"],
        "target": (properties.get("computeId") or "serverless").rpartition("/")[2],
        "createdUtc": job["created"],
        "startTimeUtc": job["started"],
        "endTimeUtc": job["ended"],
        "error": error,
    }


def _missing(run: str) -> Any:
    return failure(404, "UserError", f"Run {run} was not found.")
