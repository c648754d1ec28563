"""A project as a one-time run on Databricks: on a cluster that is there, on a new one, or serverless."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aml_spark.addresses import masked
from aml_spark.errors import ArgumentError, ProjectError, ServiceError, listed
from aml_spark.project.databricks_api import ask, check, client
from aml_spark.project.databricks_code import Code, pack, upload
from aml_spark.project.masking import masked_line, masked_settings
from aml_spark.project.requirements import BROUGHT
from aml_spark.project.run import Link
from aml_spark.project.source import Project

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from mlflow.projects import SubmittedRun

    from aml_spark.project.databricks_run import DatabricksRun

_logger = logging.getLogger("mlflow.projects.aml_spark")  # MLflow shows what it says
_TASK = "project"
_ENVIRONMENT = "project"
_VERSION = "4"  # of the serverless environment
_MOST_PARAMETERS = 10_000  # bytes as JSON
_TAG = "mlflow_run_id"  # of a new cluster
_WITH_SPARK = {"spark", "local", "demo", "testing", "all"}  # extras of this library
# Options of spark-submit that a cluster decides for itself.
_OF_CLUSTER = r"--(master|deploy-mode|driver-memory|driver-cores|executor-memory|executor-cores|num-executors|name)"


def plan(project: Project, config: Mapping[str, Any], link: Link) -> dict[str, Any]:
    """What `submit` would ask of Databricks; nothing is sent, so where the user's home goes stands `<user>`.

    Args:
        project: what to run.
        config: see `schema/databricks.json`.
        link: the MLflow run.

    Raises:
        ArgumentError: the configuration contradicts itself.
        ProjectError: the project can't run on Databricks.
    """
    planned = _placed(_request(project, config, link, pack(project)), _folder(config, "<user>"))
    for part in (*planned["tasks"], *planned.get("environments", [])):
        given = {name: part[name] for name in ("new_cluster", "libraries", "spec") if name in part}
        part.update(masked_settings(given))
    return planned


def submit(project: Project, config: Mapping[str, Any], link: Link) -> SubmittedRun:
    """Start it. Asked again with the same MLflow run, Databricks starts no second one.

    Args:
        project: what to run.
        config: see `schema/databricks.json`.
        link: the MLflow run.

    Raises:
        ArgumentError: the configuration contradicts itself.
        ProjectError: the project can't run on Databricks, or there is no such cluster.
        AuthenticationError: no credential for Databricks.
        ServiceError: Databricks refuses, in its own words.
    """
    from aml_spark.project.databricks_run import DatabricksRun

    code = pack(project)
    request = _request(project, config, link, code)  # what is wrong is told before anything is sent
    workspace, run_id = client(config), str(link.run_id)
    earlier = _earlier(workspace, run_id)
    if earlier:
        known = DatabricksRun(workspace, int(earlier), run_id)
        if known.get_status() in ("SCHEDULED", "RUNNING"):
            return known
        request["idempotency_token"] = _token(f"{run_id} {earlier}")
    if cluster_id := config.get("existing_cluster_id"):
        _check_cluster(workspace, cluster_id)
    user = "" if "code_folder" in config else ask("ask who I am", workspace.current_user.me).user_name
    folder = _folder(config, str(user))
    upload(workspace, code, folder)
    request = _placed(request, folder)
    try:
        started = DatabricksRun(workspace, _start(workspace, request), run_id)
    except (KeyboardInterrupt, SystemExit):
        _cancel(workspace, request, run_id)
        raise
    try:
        _link(started, workspace)
    except (KeyboardInterrupt, SystemExit):
        started.cancel()
        raise
    return started


def _folder(config: Mapping[str, Any], user: str) -> str:
    return str(config.get("code_folder", f"/Workspace/Users/{user}/.aml-spark/projects")).rstrip("/")


def _placed(request: dict[str, Any], folder: str) -> dict[str, Any]:
    """The request with the folder before the names of its files."""
    script = request["tasks"][0]["spark_python_task"]
    script["python_file"] = f"{folder}/{script['python_file']}"
    script["parameters"][0] = f"{folder}/{script['parameters'][0]}"
    return request


def _token(text: str) -> str:
    return hashlib.sha256(f"aml-spark {text}".encode()).hexdigest()  # Databricks takes 64 characters


def _request(project: Project, config: Mapping[str, Any], link: Link, code: Code) -> dict[str, Any]:
    """The body of `jobs/runs/submit`, with names in place of the paths of what is uploaded."""
    script, arguments = project.script()
    archive, entry = code.names
    parameters = [json.dumps(_variables(link)), script, *arguments]
    encoded = [archive, *(text.replace("%", "%25").replace("{{", "%7B%7B") for text in parameters)]
    if len(json.dumps(encoded)) > _MOST_PARAMETERS:
        raise ProjectError(
            f"the project's arguments are {len(json.dumps(arguments))} bytes; Databricks takes less than "
            f"{_MOST_PARAMETERS} for a task",
            hint="give the path of a file in their place",
        )
    task: dict[str, Any] = {
        "task_key": _TASK,
        "spark_python_task": {"python_file": entry, "parameters": encoded},
    }
    name = project.name or project.uri.rstrip("/").rpartition("/")[2]
    request = {
        "run_name": f"{name} {project.entry_point} (MLflow run {link.run_id or '<run>'})",
        "idempotency_token": _token(str(link.run_id)),
        "tasks": [{**task, **_compute(project, config, link)}],
    }
    if "timeout_seconds" in config:
        request["timeout_seconds"] = config["timeout_seconds"]
    if "environment_key" in request["tasks"][0]:
        spec = {
            "environment_version": config.get("environment_version", _VERSION),
            "dependencies": _dependencies(project, config),
        }
        request["environments"] = [{"environment_key": _ENVIRONMENT, "spec": spec}]
    return request


def _variables(link: Link) -> dict[str, str]:
    """MLflow's variables for the script."""
    uri = link.tracking_uri
    if re.match(r"(file:|sqlite:|[^:]*$)", uri) and uri != "databricks":
        raise ProjectError(
            f"the run is tracked in {masked(uri)!r}, which Databricks doesn't reach",
            hint="aml_spark.configure(workspace='azureml://…'), or MLFLOW_TRACKING_URI=databricks",
        )
    if "MLFLOW_TRACKING_URI" not in link.environment:
        _logger.warning("the tracking store's address holds a password: set MLFLOW_TRACKING_URI on the cluster itself")
    # A profile is known on this machine only.
    return {name: re.sub(r"^(databricks(-uc)?)://.*", r"\1", value) for name, value in link.environment.items()}


def _compute(project: Project, config: Mapping[str, Any], link: Link) -> dict[str, Any]:
    """Where the task runs, and what is installed there."""
    from databricks.sdk.service.compute import ClusterSpec, Library

    for number, library in enumerate(config.get("libraries", [])):
        check(library, Library, f"libraries.{number}")
    given = [name for name in ("existing_cluster_id", "new_cluster", "environment_version") if name in config]
    if len(given) > 1:
        raise ArgumentError(f"the backend's configuration has {listed(given)}; expected one, or for serverless none")
    conf = _spark_conf(project)
    if "new_cluster" not in config and conf:
        _logger.warning("%s of spark-submit are left out: only a new cluster takes them", listed(conf))
    if "existing_cluster_id" in config:
        return {"existing_cluster_id": config["existing_cluster_id"], **_libraries(project, config)}
    if "new_cluster" not in config:
        return {"environment_key": _ENVIRONMENT}
    new = dict(config["new_cluster"])
    check(new, ClusterSpec, "new_cluster")
    new["custom_tags"] = {**new.get("custom_tags", {}), _TAG: str(link.run_id)}
    if conf:
        new["spark_conf"] = {**conf, **new.get("spark_conf", {})}
    return {"new_cluster": new, **_libraries(project, config)}


def _libraries(project: Project, config: Mapping[str, Any]) -> dict[str, Any]:
    """What is installed on a cluster."""
    found = [*config.get("libraries", []), *({"pypi": {"package": line}} for line in _wanted(project, ("-",)))]
    return {"libraries": found} if found else {}


def _dependencies(project: Project, config: Mapping[str, Any]) -> list[str]:
    """The same for serverless compute, which takes lines of pip's."""
    found = []
    for library in config.get("libraries", []):
        kind, value = next(iter(library.items()))
        if kind not in ("pypi", "whl") or (kind == "pypi" and "repo" in value):
            raise ArgumentError(
                f"`libraries` has {masked_settings(library)!r}; serverless compute takes pypi without repo, and whl"
            )
        found.append(value["package"] if kind == "pypi" else value)
    return [*found, *_wanted(project, ("-e", "--editable"))]


def _wanted(project: Project, refused: tuple[str, ...]) -> list[str]:
    """What of the project's requirements is to be installed; lines that begin with what is refused are an error."""
    found = []
    for line in project.requirements:
        name, extras = re.findall(r"^([\w.-]*)\s*(?:\[([^]]*)\])?", line.strip())[0]
        name = re.sub(r"[-_.]+", "-", name).lower()
        if line.startswith((".", "/", *refused)):
            raise ProjectError(
                f"the project's environment has {masked_line(line)!r}, which isn't installed on Databricks",
                hint='name the package in `libraries`: {"pypi": {"package": …, "repo": …}} or {"whl": "/Volumes/…"}',
            )
        if name == "aml-spark" and (bringing := _WITH_SPARK & {extra.strip() for extra in extras.split(",")}):
            _logger.warning("aml-spark[%s] installs PyPI's pyspark over Databricks' own", ",".join(sorted(bringing)))
        if name not in BROUGHT:
            found.append(line)
    return found


def _spark_conf(project: Project) -> dict[str, str]:
    """What the command sets for Spark by `--conf`."""
    options, conf = iter(project.spark_options()), {}
    for option in options:
        name, equals, value = option.partition("=")
        value = value if equals else next(options, "")
        if name in ("--conf", "-c"):
            key, _, conf[key] = value.partition("=")
        elif not re.fullmatch(_OF_CLUSTER, name):
            raise ProjectError(
                f"the command has {name} of spark-submit, which a task of Databricks doesn't take",
                hint="leave it out, or name what it brings in `libraries` or `new_cluster`",
            )
    return conf


def _check_cluster(workspace: WorkspaceClient, cluster_id: str) -> None:
    from databricks.sdk.errors import NotFound

    def look() -> bool:
        try:
            return workspace.clusters.get(cluster_id) is not None
        except NotFound:
            return False

    if not ask(f"look for the cluster {cluster_id!r}", look):
        known = ask("list the clusters", lambda: list(workspace.clusters.list()))
        raise ProjectError(
            f"`existing_cluster_id` is {cluster_id!r}, and there is no such cluster; there are "
            + (", ".join(f"{one.cluster_id} ({one.cluster_name})" for one in known) or "none")
        )


def _start(workspace: WorkspaceClient, request: Mapping[str, Any]) -> int:
    from databricks.sdk.service.jobs import JobEnvironment, SubmitTask

    environments = [JobEnvironment.from_dict(one) for one in request.get("environments", [])]
    answer = ask(
        f"submit the run {request['run_name']!r}",
        lambda: workspace.jobs.submit(
            run_name=request["run_name"],
            idempotency_token=request["idempotency_token"],
            tasks=[SubmitTask.from_dict(one) for one in request["tasks"]],
            environments=environments or None,
            timeout_seconds=request.get("timeout_seconds"),
        ),
    )
    return int(answer.run_id)


def _cancel(workspace: WorkspaceClient, request: Mapping[str, Any], run_id: str) -> None:
    """End a run that may have been started, or not.

    Its token makes the same request give its id, or start one that is ended before it did anything.
    """
    from aml_spark.project.databricks_run import DatabricksRun

    try:
        started = DatabricksRun(workspace, _start(workspace, request), run_id)
        started.look()
        started.cancel()
    except (ServiceError, KeyboardInterrupt, SystemExit) as error:
        why = str(error) if isinstance(error, ServiceError) else "interrupted"
        raise ServiceError(f"a run named {request['run_name']!r} may have started and go on: {why}") from None


def _earlier(workspace: WorkspaceClient, run_id: str) -> str:
    """Id of the Databricks run that an MLflow run had before; empty where it had none in this workspace."""
    import mlflow
    from mlflow.utils import mlflow_tags as names

    tags = mlflow.MlflowClient().get_run(run_id).data.tags
    if tags.get(names.MLFLOW_DATABRICKS_WEBAPP_URL) != workspace.config.host:
        return ""
    return str(tags.get(names.MLFLOW_DATABRICKS_SHELL_JOB_RUN_ID, ""))


def _link(started: DatabricksRun, workspace: WorkspaceClient) -> None:
    """Tag the MLflow run with its Databricks run, by the names of MLflow's own backend."""
    import mlflow
    from mlflow.entities import RunTag
    from mlflow.utils import mlflow_tags as names

    try:
        run = started.look()
        tags = {
            names.MLFLOW_DATABRICKS_RUN_URL: run.run_page_url,
            names.MLFLOW_DATABRICKS_SHELL_JOB_ID: run.job_id,
            names.MLFLOW_DATABRICKS_SHELL_JOB_RUN_ID: run.run_id,
            names.MLFLOW_DATABRICKS_WEBAPP_URL: workspace.config.host,
        }
        given = [RunTag(name, str(value)) for name, value in tags.items() if value]
        mlflow.MlflowClient().log_batch(started.run_id, tags=given)
        _logger.info("the run is on Databricks: %s", run.run_page_url)
    except (mlflow.MlflowException, ServiceError) as error:
        # It runs, and that is what was asked for.
        _logger.warning("the MLflow run isn't tagged with its Databricks run %s: %s", started.job_run_id, error)
