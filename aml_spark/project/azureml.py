"""A project in a workspace of Azure Machine Learning: a command job or a Spark job."""

from __future__ import annotations

import contextlib
import logging
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow

from aml_spark import control
from aml_spark.addresses import masked, told
from aml_spark.errors import ArgumentError, ProjectError, ServiceError, did_you_mean, listed
from aml_spark.project.azureml_run import AzureRun
from aml_spark.project.masking import masked_settings
from aml_spark.project.requirements import BROUGHT, package
from aml_spark.project.run import Link
from aml_spark.project.source import Project, described
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

_logger = logging.getLogger("mlflow.projects.aml_spark")  # MLflow shows what it says
_TRIES = 4  # to send a job, over connections that break
_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"
_PLACEHOLDER = re.compile(r"\$\{\{(?:inputs|outputs)\.\w+\}\}")
_LOOKS = (0, 0.5, 1, 2, 4)  # seconds before each look for a job whose sending was interrupted
_SIZES = {"driver": ("cores", "memory"), "executor": ("cores", "memory", "instances")}


def makes_run(config: Mapping[str, Any]) -> bool:
    """Whether MLflow tracks in the job's own workspace: then the job makes the run, and its id is the job's name."""
    tracked = mlflow.get_tracking_uri()
    if not tracked.startswith("azureml://"):
        return False
    return str(Workspace.from_uri(tracked).arm_id).lower() == str(_workspace(config).arm_id).lower()


def plan(project: Project, config: Mapping[str, Any], link: Link) -> dict[str, Any]:
    """What would be sent, without secrets: the job, and the files that are its code."""
    workspace = _workspace(config)
    return {
        "place": "azureml",
        "workspace": workspace.arm_id or workspace.label,
        "job": masked_settings(_job(project, config, link)),
        "code": [path.as_posix() for path in project.files()],
    }


def submit(project: Project, config: Mapping[str, Any], link: Link) -> AzureRun:
    """Send the job.

    Its name is chosen here, so that a request that is sent again doesn't make a second job. Where the job isn't the
    run itself, each has tags that name the other. Ctrl-C and SIGTERM take it back.

    Raises:
        ArgumentError: the configuration doesn't fit the project.
        ProjectError: the project can't be a Spark job.
        ServiceError: no such compute, or Azure refuses.
        WorkspaceError: it isn't an Azure Machine Learning workspace, or azure-ai-ml isn't installed.
    """
    workspace = _workspace(config)
    client = control.client(workspace)
    described = _job(project, config, link)
    _check_compute(client, config.get("compute"))
    name = control.job_name(project.name or project.folder.name)
    with tempfile.TemporaryDirectory(prefix="project-") as folder:
        for path in project.files():
            target = Path(folder, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(project.folder / path, target)
        job = _sdk_job(described, name, folder)
        try:
            with control.own_words(f"submit the job {name!r}"), _unheard():
                made = control.submitted(client, name, lambda: client.jobs.create_or_update(job), tries=_TRIES)
            submitted = AzureRun(client, workspace, made, link.run_id)
            _logger.info("=== Job %s of the workspace %s: %s", name, workspace.label, submitted.url or "sent")
            _tag(submitted, link)
        except (KeyboardInterrupt, SystemExit):
            _take_back(client, name)
            raise
    return submitted


def _tag(submitted: AzureRun, link: Link) -> None:
    if link.run_id is None:
        return
    try:
        submitted.tag_run()
    except Exception as error:  # the job runs, and that is what was asked for
        why = told(error, link.tracking_uri)
        _logger.warning("the run %s isn't tagged with its job %s: %s", link.run_id, submitted.job_name, why)


def _workspace(config: Mapping[str, Any]) -> Workspace:
    return Workspace.find(config["workspace"]) if "workspace" in config else control.configured()


def _job(project: Project, config: Mapping[str, Any], link: Link) -> dict[str, Any]:
    """The job by the names of azure-ai-ml's `command` and `spark`, without its name and its code."""
    of_spark = config.get("launcher") == "spark-submit"
    only_spark = {"driver", "executor", "conf"} & config.keys()
    if not of_spark and only_spark:
        raise ArgumentError(f"{listed(sorted(only_spark))} is for Spark jobs", hint='"launcher": "spark-submit"')
    if "compute" in config and "resources" in config:
        raise ArgumentError("the configuration has both 'compute' and 'resources'; a compute has sizes of its own")
    for parameter, value in project.parameters.items():
        if parameter not in project.data and "${{" in value:
            raise ArgumentError(
                f"the parameter {parameter!r} holds '${{{{', with which Azure's placeholders begin",
                hint="write the value into a file of the project, and give that file's name",
            )
    if config.get("env_manager") is not None:
        _logger.warning("--env-manager has no effect in a workspace; the configuration may name an `environment`")
    origin = {"aml_spark.run_id": link.run_id, "aml_spark.tracking_uri": masked(link.tracking_uri)}
    job = {
        "type": "spark" if of_spark else "command",
        "experiment_name": re.sub(r"[^\w-]", "_", link.experiment_name),
        "display_name": project.name or project.folder.name,
        "tags": {} if link.run_id is None else origin,
        "inputs": _data(project, config, "inputs", of_spark),
        "outputs": _data(project, config, "outputs", of_spark),
        "environment": _environment(project, config, of_spark),
        **({"compute": config["compute"]} if "compute" in config else {}),
    }
    return {**job, **(_spark(project, config) if of_spark else _command(project, config))}


def _command(project: Project, config: Mapping[str, Any]) -> dict[str, Any]:
    resources = config.get("resources", {})
    if "runtime_version" in resources:
        raise ArgumentError("resources.runtime_version is for Spark jobs", hint='"launcher": "spark-submit"')
    return {"command": project.command, "instance_count": 1, **resources}


def _spark(project: Project, config: Mapping[str, Any]) -> dict[str, Any]:
    if "compute" not in config and "runtime_version" not in config.get("resources", {}):
        raise ArgumentError(
            "a Spark job needs a compute, or resources for a serverless one",
            hint='"resources": {"instance_type": "Standard_E4s_v3", "runtime_version": "3.5"}',
        )
    file, arguments = project.script()
    conf = {**_conf_of_command(project), **config.get("conf", {})}
    sizes = {
        f"{part}_{size}": config[part][size]
        for part, names in _SIZES.items()
        for size in names
        if size in config.get(part, {})
    }
    return {
        "entry": {"file": file},
        "args": " ".join(word if _PLACEHOLDER.fullmatch(word) else shlex.quote(word) for word in arguments),
        "conf": {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in conf.items()},
        **sizes,
        **({"resources": dict(config["resources"])} if "resources" in config else {}),
    }


def _conf_of_command(project: Project) -> dict[str, str]:
    """Spark's settings in MLproject's own `spark-submit --conf …`."""
    words, found = project.spark_options(), {}
    while words:
        option, _, value = words.pop(0).partition("=")
        value = value or (words.pop(0) if words else "")
        if option not in ("--conf", "-c"):
            raise ProjectError(
                f"MLproject gives spark-submit the option {option!r}, which a Spark job doesn't take",
                hint="write it into the configuration, for a place that takes it",
            )
        name, _, setting = value.partition("=")
        found[name] = setting
    return found


def _data(project: Project, config: Mapping[str, Any], kind: str, of_spark: bool) -> dict[str, dict[str, str]]:
    modes = {"inputs": "ro_mount", "outputs": "rw_mount"}
    return {
        name: {
            "type": one.get("type", "uri_folder"),
            "path": project.parameters[name],
            "mode": one.get("mode", "direct" if of_spark else modes[kind]),
        }
        for name, one in config.get(kind, {}).items()
    }


def _environment(project: Project, config: Mapping[str, Any], of_spark: bool) -> str | dict[str, Any] | None:
    if "environment" in config:
        return str(config["environment"])
    if of_spark and "image" in config:
        raise ArgumentError("'image' is for command jobs; a Spark job gets the packages of the project's files alone")
    image = config.get("image", _IMAGE)  # a Spark job leaves it aside, but azure-ai-ml names environments by it
    if project.conda_file is not None:
        return {"image": image, "conda_file": _conda(project, described(project.conda_file), of_spark)}
    if project.python_env_file is not None:
        python = f"python={project.python}" if project.python else "python"
        file = {"name": "project", "channels": ["conda-forge"], "dependencies": [python, "pip"]}
        return {"image": image, "conda_file": _conda(project, file, of_spark)}
    if of_spark:
        return None
    raise ArgumentError(
        "a command job needs an environment; the project has neither python_env.yaml nor conda.yaml",
        hint='add one of them, or name one of the workspace: "environment": "azureml:<name>@latest"',
    )


def _conda(project: Project, file: Mapping[str, Any], of_spark: bool) -> dict[str, Any]:
    """The environment's file. What pip installs stands in it as lines, because other files aren't sent with it."""
    by_conda = [one for one in file.get("dependencies") or [] if isinstance(one, str)]
    by_pip = list(project.requirements)
    if of_spark:  # its runtime brings Spark; conda's pip installs the others
        by_conda = [one for one in by_conda if package(one) == "pip" or package(one) not in BROUGHT]
        by_pip = [line for line in by_pip if package(line) not in BROUGHT]
    return {**file, "dependencies": [*by_conda, *([{"pip": by_pip}] if by_pip else [])]}


def _check_compute(client: MLClient, name: str | None) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    if name is None:
        return
    with control.own_words(f"look for the compute {name!r}"):
        try:
            client.compute.get(name)
        except ResourceNotFoundError:
            there = [str(one.name) for one in client.compute.list()]
            raise ServiceError(
                f"the workspace {client.workspace_name!r} has no compute {name!r}; it has {listed(there)}",
                hint=did_you_mean(name, there)
                or f"aml-spark compute create {name}, or leave it out for a serverless job",
                status=404,
            ) from None


def _sdk_job(described: Mapping[str, Any], name: str, folder: str) -> Any:
    from azure.ai.ml import Input, Output, command, spark
    from azure.ai.ml.entities import Environment

    given = dict(described)
    make: Any = {"command": command, "spark": spark}[given.pop("type")]
    environment = given.pop("environment")
    if isinstance(environment, dict):
        environment = Environment(**environment)
    given["inputs"] = {key: Input(**one) for key, one in given["inputs"].items()}
    given["outputs"] = {key: Output(**one) for key, one in given["outputs"].items()}
    return make(name=name, code=folder, environment=environment, **given)


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Without azure-ai-ml's warning of an image that it wants itself."""

    def worth(record: logging.LogRecord) -> bool:
        return "Spark job will only install" not in record.getMessage()

    log = logging.getLogger("azure.ai.ml.entities._validation.core")
    log.addFilter(worth)
    try:
        yield
    finally:
        log.removeFilter(worth)


def _take_back(client: MLClient, name: str) -> None:
    """Cancel a job that was sent, or is on its way, or wasn't sent yet."""
    from azure.core.exceptions import ResourceNotFoundError

    _logger.warning("interrupted: cancelling the job %s", name)
    try:
        for pause in _LOOKS:
            time.sleep(pause)
            with control.own_words(f"cancel the job {name!r}"), contextlib.suppress(ResourceNotFoundError):
                client.jobs.begin_cancel(name)
                return
        _logger.warning("the job %s wasn't found; it may still appear: aml-spark job show %s", name, name)
    except BaseException as error:
        _logger.error(
            "the job %s may have been sent to the workspace %s: %s\nHint: aml-spark job cancel %s",
            *(name, client.workspace_name, str(error) or type(error).__name__, name),
        )
