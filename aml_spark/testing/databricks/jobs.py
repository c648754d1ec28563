"""One-time runs, as the Jobs API has them."""

from __future__ import annotations

from typing import Any

import flask

from aml_spark.testing.databricks.refusals import invalid
from aml_spark.testing.databricks.runs import ENDED, WORKSPACE_ID, Runs
from aml_spark.testing.databricks.tree import USER

_TYPES = {"SUCCESS": "SUCCESS", "INTERNAL_ERROR": "INTERNAL_ERROR"}  # of a code, else the client is to blame
_MOST = 25  # runs on a page


def routes(runs: Runs, version: str) -> flask.Blueprint:
    """`submit`, `get`, `get-output`, `list`, `cancel` and `delete` below `/api/<version>/jobs/runs`."""
    name = f"databricks-jobs-{version}".replace(".", "-")
    routes = flask.Blueprint(name, __name__, url_prefix=f"/api/{version}/jobs/runs")

    @routes.post("/submit")
    def submit() -> Any:
        return {"run_id": runs.submit(flask.request.get_json())}

    @routes.get("/get")
    def get() -> Any:
        return _shown(runs.get(_run_id(flask.request.args)))

    @routes.get("/get-output")
    def get_output() -> Any:
        run_id = _run_id(flask.request.args)
        run = runs.get(run_id)
        if run_id != run["task_run_id"]:
            raise invalid(
                "Retrieving the output of runs with multiple tasks is not supported. Please retrieve the output of "
                "each individual task run instead."
            )
        logs, truncated = runs.logs(run)
        told = {name: run[key] for name, key in (("error", "error"), ("error_trace", "trace")) if run.get(key)}
        return {"metadata": _shown_task(run), "logs": logs, "logs_truncated": truncated, **told}

    @routes.get("/list")
    def listed() -> Any:
        asked = flask.request.args
        chosen = [
            run
            for run in runs.all()
            if not (asked.get("active_only") == "true" and run["state"] in ENDED)
            and not (asked.get("completed_only") == "true" and run["state"] not in ENDED)
            and asked.get("job_id") in (None, str(run["job_id"]))
        ]
        most, first = min(int(asked.get("limit") or 20), _MOST), int(asked.get("page_token") or 0)
        page: dict[str, Any] = {"has_more": len(chosen) > first + most}
        if page["has_more"]:
            page["next_page_token"] = str(first + most)
        shown = [_shown(run) for run in chosen[first : first + most]]
        if asked.get("expand_tasks") != "true":
            for one in shown:
                del one["tasks"]
        return {**page, "runs": shown} if shown else page

    @routes.post("/cancel")
    def cancel() -> Any:
        runs.cancel(_run_id(flask.request.get_json()))
        return {}

    @routes.post("/delete")
    def delete() -> Any:
        runs.delete(_run_id(flask.request.get_json()))
        return {}

    return routes


def _run_id(given: Any) -> int:
    try:
        return int(given["run_id"])
    except (KeyError, ValueError):
        raise invalid("Missing required field: run_id") from None


def _shown(run: dict[str, Any]) -> dict[str, Any]:
    message = run.get("message")
    if run.get("result") == "FAILED":
        message = f"Task {run['asked']['tasks'][0]['task_key']} failed with message: {message}."
    return {
        **_common(run, run["run_id"], message),
        "number_in_job": run["run_id"],
        "original_attempt_run_id": run["run_id"],
        "creator_user_name": USER,
        "trigger": "ONE_TIME",
        "run_type": "SUBMIT_RUN",
        "run_name": run["asked"].get("run_name", "Untitled"),
        "format": "MULTI_TASK",
        "tasks": [_shown_task(run)],
    }


def _shown_task(run: dict[str, Any]) -> dict[str, Any]:
    task = run["asked"]["tasks"][0]
    shown = {**_common(run, run["task_run_id"], run.get("message")), **task, "attempt_number": 0}
    if not task.get("environment_key") and "begun" in run:
        new = f"1126-{run['run_id'] % 10**6:06}-onetime"
        shown["cluster_instance"] = {"cluster_id": task.get("existing_cluster_id") or new}
    return shown


def _common(run: dict[str, Any], run_id: int, message: str | None) -> dict[str, Any]:
    ended = run["state"] in ENDED
    state: dict[str, Any] = {"life_cycle_state": run["state"], "user_cancelled_or_timedout": False}
    status: dict[str, Any] = {"state": "TERMINATED" if ended else run["state"]}
    if message is not None:
        state["state_message"] = message
    if ended:
        state |= {
            "result_state": run["result"],
            "user_cancelled_or_timedout": run["result"] in ("CANCELED", "TIMEDOUT"),
        }
    if "code" in run:
        kind = _TYPES.get(run["code"], "CLIENT_ERROR")
        status["termination_details"] = {"code": run["code"], "type": kind, "message": message}
    begun = run.get("begun", run.get("end", run["start"]))
    return {
        "job_id": run["job_id"],
        "run_id": run_id,
        "job_run_id": run["run_id"],
        "state": state,
        "status": status,
        "start_time": run["start"],
        "setup_duration": begun - run["start"],
        "execution_duration": run.get("end", begun) - begun,
        "cleanup_duration": 0,
        "end_time": run.get("end", 0),
        "run_page_url": f"{flask.request.host_url}?o={WORKSPACE_ID}#job/{run['job_id']}/run/{run['run_id']}",
    }
