"""The jobs of the workspace: command jobs and Spark jobs, which really run, each the run of the same id in MLflow."""

from __future__ import annotations

import datetime as dt
import re
import threading
from typing import Any

import flask

from aml_spark.testing.artifacts import failure
from aml_spark.testing.control.bindings import output_uri
from aml_spark.testing.control.execution import Execution, log_file, publish
from aml_spark.testing.control.ground import Ground
from aml_spark.testing.control.records import Records, shown
from aml_spark.testing.control.workspaces import services, studio
from aml_spark.testing.mlflow_api import EXPERIMENT_NAME

ENDED = {"Completed": "FINISHED", "Failed": "FAILED", "Canceled": "KILLED"}  # and what MLflow says of the run
_KIND = "Microsoft.MachineLearningServices/workspaces/jobs"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}")
_BOUND = re.compile(r"[A-Za-z_]\w{0,254}", re.ASCII)  # the name of an input or an output
_NEEDED = {"Command": ("command", "environmentId"), "Spark": ("codeId", "entry")}
_PAGE = 50
_STOPPED = {"code": "ServiceError", "message": "The emulator was stopped while the job was running."}
_VISIBLE = {"ActiveOnly": (False,), "ArchivedOnly": (True,)}


class Jobs:
    """The jobs of one workspace. Those that were running when the emulator was stopped have failed.

    Args:
        ground: the other resources that a job is made of.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground, self._root = ground, f"{ground.arm_id}/jobs"
        self.records = Records(ground.folder / "jobs.json")
        self._executions: dict[str, Execution] = {}
        self._lock, self._closed = threading.Lock(), False
        for name, job in self.records.all().items():
            if job["properties"]["status"] not in ENDED:
                if log_file(ground.folder, name).exists():
                    publish(ground, name)
                self._report(name, "Failed", _STOPPED)

    def close(self) -> None:
        """End what is running; the next start finds it failed."""
        self._closed = True
        ends = [threading.Thread(target=execution.cancel) for execution in list(self._executions.values())]
        for end in ends:
            end.start()
        for end in ends:
            end.join()

    def log(self, name: str) -> bool:
        """Make what a job has said so far its run's log; whether there is one."""
        execution = self._executions.get(name)
        return execution.publish() if execution else log_file(self._ground.folder, name).exists()

    def routes(self) -> flask.Blueprint:
        """List, get, submit, cancel and delete."""
        routes = flask.Blueprint("jobs", __name__)
        root = self._root

        @routes.get(root)
        def listed() -> Any:
            return self._page()

        @routes.get(f"{root}/<name>")
        def get(name: str) -> Any:
            return self.shown(name) if self.records.get(name) else self.missing(name)

        @routes.put(f"{root}/<name>")
        def put(name: str) -> Any:
            return self.submit(name, flask.request.get_json()["properties"])

        @routes.post(f"{root}/<name>/cancel")
        def cancel(name: str) -> Any:
            job = self.records.get(name)
            if job is None:
                return self.missing(name)
            execution = self._executions.get(name)
            if execution is None or job["properties"]["status"] in (*ENDED, "CancelRequested"):
                return "", 200
            self._report(name, "CancelRequested", None)
            return self._ground.operations.begin(f"{root}/{name}", execution.cancel)

        @routes.delete(f"{root}/<name>")
        def delete(name: str) -> Any:
            job = self.records.get(name)
            if job is None:
                return "", 204
            if job["properties"]["status"] not in ENDED:
                return failure(409, "UserError", f"The job {name} is not in a terminal state. Cancel it first.")
            return self._ground.operations.begin(f"{root}/{name}", lambda: self.records.pop(name) and None)

        return routes

    def shown(self, name: str) -> dict[str, Any]:
        """A job in Azure's form."""
        job = self.records.get(name)
        tracking = f"azureml://{services().removeprefix('https://')}/mlflow/v1.0{self._ground.arm_id}"
        ends = {
            "Tracking": {"jobServiceType": "Tracking", "endpoint": tracking},
            "Studio": {"jobServiceType": "Studio", "endpoint": studio(self._ground.arm_id, f"runs/{name}")},
        }
        outputs = {
            key: {**(asked or {}), "uri": output_uri(name, key, asked or {})}
            for key, asked in (job["asked"].get("outputs") or {}).items()
        }
        system = {"createdAt": job["created"], "createdBy": "emulator", "createdByType": "Application"}
        properties = {**job["properties"], "services": ends, "outputs": outputs}
        return shown(f"{self._root}/{name}", _KIND, properties, systemData=system)

    def missing(self, name: str) -> Any:
        """The answer for a job that isn't there."""
        return failure(404, "UserError", f"Job with id {name} was not found.")

    def _page(self) -> Any:
        asked = flask.request.args
        visible = _VISIBLE.get(asked.get("listViewType", "ActiveOnly"), (False, True))
        kind, tag = asked.get("jobType"), asked.get("tag")
        names = [
            name
            for name, job in reversed(self.records.all().items())
            if job["properties"]["isArchived"] in visible
            and kind in (None, job["properties"]["jobType"])
            and (tag is None or tag.partition("=")[0] in job["properties"]["tags"])
        ]
        start = int(asked.get("$skip", 0))
        more = f"{flask.request.base_url}?$skip={start + _PAGE}&listViewType={asked.get('listViewType', 'ActiveOnly')}"
        return {
            "value": [self.shown(name) for name in names[start : start + _PAGE]],
            "nextLink": more if start + _PAGE < len(names) else None,
        }

    def submit(self, name: str, asked: dict[str, Any]) -> Any:
        """Begin a job, and answer for it.

        Args:
            name: its name.
            asked: its properties, as Azure Resource Manager takes them.
        """
        with self._lock:
            old = self.records.get(name)
            if old is not None and old["asked"] != asked:
                told = (
                    "A job with this name already exists. If you are trying to submit a new job, use a different name. "
                    "If you are trying to update an existing job, the existing job's properties cannot be changed."
                )
                return failure(409, "UserError", told)
            if old is not None:
                return self.shown(name), 200
            if (refused := self._refused(name, asked)) is not None:
                return refused
            self._create(name, asked)
            answer = self.shown(name)
            self._executions[name].start()
        return answer, 201

    def _refused(self, name: str, asked: dict[str, Any]) -> Any:
        kind, compute, environment = asked.get("jobType"), asked.get("computeId"), asked.get("environmentId")
        if not _NAME.fullmatch(name):
            told = "letters, digits, '-' and '_', the first a letter or a digit, and at most 255 of them"
            return failure(400, "UserError", f"The job name '{name}' is invalid. It can have {told}.")
        if self._ground.runs.has_run(name):
            return failure(409, "UserError", f"There is a run with the id {name} already. Use a different name.")
        if asked.get("experimentName") and not EXPERIMENT_NAME.fullmatch(asked["experimentName"]):
            return failure(400, "ValidationError", f"Experiment name '{asked['experimentName']}' is not valid.")
        if kind not in _NEEDED:
            return failure(400, "UserError", f"The job type '{kind}' is not supported here.")
        if lacking := [field for field in _NEEDED[kind] if not asked.get(field)]:
            return failure(400, "UserError", f"The {lacking[0]} field is required.")
        for bound in ("inputs", "outputs"):
            if wrong := [each for each in asked.get(bound) or {} if not _BOUND.fullmatch(each)]:
                told = "It can have letters, digits and '_', the first no digit."
                return failure(400, "UserError", f"The name '{wrong[0]}' in the job's {bound} is invalid. {told}")
        if compute and compute.lower() != "serverless" and not self._ground.computes.has(compute.rpartition("/")[2]):
            told = f"Compute Target with name {compute.rpartition('/')[2]} not found in provided workspace"
            return failure(400, "UserError", f"ComputeTargetNotFound: {told}")
        if environment and environment.startswith("/") and self._ground.environments.find(environment) is None:
            named, _, version = environment.partition("/environments/")[2].partition("/versions/")
            return failure(400, "UserError", f"No environment exists for name: {named}, version: {version}")
        return None

    def _create(self, name: str, asked: dict[str, Any]) -> None:
        experiment, title = asked.get("experimentName") or "Default", asked.get("displayName") or name
        tags, properties = dict(asked.get("tags") or {}), dict(asked.get("properties") or {})
        compute = (asked.get("computeId") or "").rpartition("/")[2]
        properties |= {"_azureml.ComputeTargetType": "amlcompute" if compute else "serverless"}
        own = {
            "mlflow.rootRunId": name,
            "mlflow.user": "emulator",
            "mlflow.source.type": "JOB",
            "mlflow.source.name": str((asked.get("entry") or {}).get("file") or asked.get("command")),
            "azureml.jobType": asked["jobType"],
        }
        git = {key: value for key, value in properties.items() if key.startswith("mlflow.")}
        experiment_id = self._ground.runs.create_run(name, experiment, title, {**own, **git, **tags})
        shown = {
            **asked,
            "status": "NotStarted",
            "experimentName": experiment,
            "displayName": title,
            "tags": tags,
            "properties": properties,
            "isArchived": False,
        }
        job = {
            "asked": asked,
            "properties": shown,
            "created": now(),
            "started": None,
            "ended": None,
            "error": None,
            "experiment": experiment_id,
        }
        self.records.put(name, job)
        given = {**asked, "experimentId": experiment_id, "experimentName": experiment}
        self._executions[name] = Execution(
            self._ground, name, given, lambda state, error: self._report(name, state, error)
        )

    def _report(self, name: str, state: str, error: dict[str, Any] | None) -> None:
        if self._closed:
            return
        run = ENDED.get(state) or ("RUNNING" if state == "Running" else None)
        if run is not None:
            self._ground.runs.set_run(name, run)
        with self.records.changed() as everything:
            job = everything[name]
            if job["properties"]["status"] == "CancelRequested" and state not in ENDED:
                return
            job["properties"]["status"] = state
            if state == "Running":
                job["started"] = now()
            if state in ENDED:
                job["ended"], job["error"] = now(), error
        if state in ENDED:
            self._executions.pop(name, None)


def now() -> str:
    """The time, as Azure writes it."""
    return dt.datetime.now(dt.timezone.utc).isoformat()
