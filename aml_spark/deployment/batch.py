"""Batch endpoints: models that a workspace's compute applies to the files of a folder in a lake."""

from __future__ import annotations

import contextlib
import posixpath
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aml_spark import control
from aml_spark.deployment import config as configs, registered, waiting
from aml_spark.deployment.batch_run import BatchRun
from aml_spark.errors import ArgumentError, DeploymentError, ServiceError, did_you_mean, listed as named
from aml_spark.location import Location
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import BatchDeployment, BatchEndpoint

_FILE = "predictions.csv"
_SETTINGS = (
    "max_concurrency_per_instance",
    "mini_batch_size",
    "error_threshold",
    "retry_settings",
    "logging_level",
    "environment_variables",
    "output_action",
    "output_file_name",
)


def create(
    endpoint: str,
    name: str | None = None,
    model_uri: str | None = None,
    config: Mapping[str, Any] | None = None,
    *,
    workspace: Workspace | None = None,
) -> BatchEndpoint:
    """Create a batch endpoint where there is none, and a deployment of a model on it.

    The first deployment is the one that is asked where none is named. Where a call before was broken off, the same call
    goes on with what is left to do.

    Args:
        endpoint: its name; 3 to 32 letters, digits and dashes.
        name: the deployment's name; None for an endpoint without one.
        model_uri: the model, as for an online endpoint.
        config: `compute`, which has to be given, `instance_count`, `mini_batch_size`, and others as Azure names them;
            or `config_file`, a YAML or JSON file with these.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ArgumentError: a name or the config can't be meant.
        ModelError: the model isn't registered, or has no signature.
        DeploymentError: the deployment is there already, or fails.
        ServiceError: Azure refuses it.
    """
    settings = configs.read(config, configs.BATCH)
    configs.check_name(endpoint, "endpoint")
    where, client = workspace or control.configured(), control.client(workspace)
    model = None
    if name is not None:
        configs.check_name(name, "deployment")
        if model_uri is None:
            raise ArgumentError(f"the deployment {name!r} has no model", hint="--model models:/<name>/<version>")
        _check_compute(client, settings.get("compute"))
        model = registered.find(model_uri, where)
    shown, deleted = _shown(endpoint), f"aml-spark endpoint delete {endpoint} --batch"
    with control.goes_on(f"create the batch endpoint {endpoint!r}", shown, deleted=deleted):
        found = _ensure(client, endpoint, alone=name is None)
        if name is not None and model is not None:
            _deploy(client, endpoint, name, model, settings, left=default(found) is None)
            if not default(found):
                _make_default(client, endpoint, name)
    return get(endpoint, workspace=workspace)


def _shown(endpoint: str) -> str:
    return f"aml-spark endpoint show {endpoint} --batch"


def _ensure(client: MLClient, endpoint: str, *, alone: bool) -> BatchEndpoint:
    """The endpoint, made where there is none.

    Args:
        client: of the workspace.
        endpoint: its name.
        alone: whether nothing else is asked for, so that one that is there is an error.
    """
    from azure.ai.ml.entities import BatchEndpoint

    def look() -> BatchEndpoint | None:
        return _find(client, endpoint)

    found, doing = look(), f"create the batch endpoint {endpoint!r}"
    if found is None:
        begin, wanted = client.batch_endpoints.begin_create_or_update, BatchEndpoint(name=endpoint)
        return waiting.done(begin, wanted, look, doing=doing, shown=_shown(endpoint))  # type: ignore[no-any-return]
    if waiting.state(found) in waiting.UNDER_WAY:
        return waiting.followed(look, doing=doing, shown=_shown(endpoint))  # type: ignore[no-any-return]
    if alone:
        raise DeploymentError(f"the batch endpoint {endpoint!r} is there already", hint=_shown(endpoint))
    return found


def _make_default(client: MLClient, endpoint: str, name: str) -> None:
    found = _find(client, endpoint)
    assert found is not None
    found.defaults = {"deployment_name": name}
    waiting.done(
        client.batch_endpoints.begin_create_or_update,
        found,
        lambda: _find(client, endpoint),
        doing=f"make {name!r} the default of {endpoint!r}",
        shown=_shown(endpoint),
    )


def invoke(
    endpoint: str,
    data: str,
    *,
    deployment: str | None = None,
    output: str | None = None,
    workspace: Workspace | None = None,
) -> BatchRun:
    """Have a batch endpoint score files.

    Args:
        endpoint: its name.
        data: a file, known by the ending of its name, or a folder: `azureml://datastores/<name>/paths/<path>`,
            `abfss://<filesystem>@<account>.dfs.core.windows.net/<path>`, or the `https` address of the same.
        deployment: its deployment; None for the endpoint's default.
        output: URI of the file that the predictions go to, on a datastore; None makes one up below `aml-spark/batch/`
            of the workspace's default datastore. Azure takes no file that is there already.
        workspace: None takes the one that MLflow is configured for.

    Returns:
        The run, which `wait()` follows to its end. Ctrl-C before says the job's name.

    Raises:
        ArgumentError: the data or the output isn't such a place.
        ServiceError: there is no such endpoint or deployment, or Azure refuses it.
    """
    from azure.ai.ml import Input, Output

    client, source = control.client(workspace), _source(data)
    asked = deployment or default(get(endpoint, workspace=workspace))
    if asked is None:
        raise ServiceError(
            f"the batch endpoint {endpoint!r} has no deployment", hint=f"aml-spark endpoint create {endpoint} --batch …"
        )
    job = f"{endpoint}-{uuid.uuid4().hex[:12]}"
    if output is None:
        with control.own_words("find the default datastore"):
            store = client.datastores.get_default().name
        output = f"azureml://datastores/{store}/paths/aml-spark/batch/{endpoint}/{job}/{_FILE}"
    elif not output.startswith("azureml://datastores/") or not posixpath.splitext(output)[1]:
        raise ArgumentError(
            f"output is {output!r}; expected a file on a datastore, azureml://datastores/<name>/paths/…/{_FILE}"
        )
    is_file = bool(posixpath.splitext(source)[1])
    doing = f"invoke the batch endpoint {endpoint!r}"
    with control.own_words(doing, hint=_shown(endpoint)), control.job_goes_on(job), _named_once():
        started: Any = control.submitted(
            client,
            job,
            lambda: client.batch_endpoints.invoke(
                endpoint,
                deployment_name=asked,
                inputs={"data": Input(type="uri_file" if is_file else "uri_folder", path=source)},
                outputs={"score": Output(type="uri_file", path=output)},
                job_name=job,
            ),
        )
    return BatchRun(client, started.name or job, control.naming(output, workspace))


@contextlib.contextmanager
def _named_once() -> Iterator[None]:
    """Have a deployment named for this call alone: azure-ai-ml keeps the name for all later calls of the process."""
    from azure.ai.ml.constants._endpoint import EndpointInvokeFields

    headers, name = EndpointInvokeFields.DEFAULT_HEADER, EndpointInvokeFields.MODEL_DEPLOYMENT
    before = headers.get(name)
    try:
        yield
    finally:
        headers.pop(name, None)
        if before is not None:
            headers[name] = before


def listed(*, workspace: Workspace | None = None) -> list[BatchEndpoint]:
    """The workspace's batch endpoints.

    Args:
        workspace: None takes the one that MLflow is configured for.
    """
    with control.own_words("list the batch endpoints"):
        return list(control.client(workspace).batch_endpoints.list())


def get(endpoint: str, *, workspace: Workspace | None = None) -> BatchEndpoint:
    """A batch endpoint.

    Args:
        endpoint: its name.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: there is none; says which there are.
    """
    client = control.client(workspace)
    found = _find(client, endpoint)
    if found is None:
        names, hint = [str(one.name) for one in listed(workspace=workspace)], "aml-spark endpoint list --batch"
        if waiting.exists(lambda: client.online_endpoints.get(endpoint), f"the endpoint {endpoint!r}"):
            hint = f"there is an online endpoint {endpoint!r}: aml-spark endpoint show {endpoint}"
        raise ServiceError(
            f"the workspace {client.workspace_name!r} has no batch endpoint {endpoint!r}; it has {named(names)}",
            hint=did_you_mean(endpoint, names) or hint,
            status=404,
        )
    return found


def deployments(endpoint: str, *, workspace: Workspace | None = None) -> list[BatchDeployment]:
    """A batch endpoint's deployments.

    Args:
        endpoint: its name.
        workspace: None takes the one that MLflow is configured for.
    """
    with control.own_words(f"list the deployments of {endpoint!r}"):
        return list(control.client(workspace).batch_deployments.list(endpoint))


def delete(endpoint: str, name: str | None = None, *, workspace: Workspace | None = None) -> None:
    """Delete a batch endpoint with its deployments, or one of these; nothing where there is none.

    Args:
        endpoint: its name.
        name: the deployment; None for the endpoint as a whole.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: Azure refuses it.
    """
    client, shown = control.client(workspace), f"aml-spark endpoint show {endpoint} --batch"
    if name is None:
        waiting.deleted(
            lambda: client.batch_endpoints.begin_delete(endpoint),
            lambda: _find(client, endpoint),
            doing=f"delete the batch endpoint {endpoint!r}",
            shown=shown,
        )
        return
    waiting.deleted(
        lambda: client.batch_deployments.begin_delete(name, endpoint),
        lambda: _deployment(client, endpoint, name),
        doing=f"delete the batch deployment {name!r} of {endpoint!r}",
        shown=shown,
    )


def _deploy(
    client: MLClient, endpoint: str, name: str, model: registered.Registered, settings: Mapping[str, Any], *, left: bool
) -> None:
    """Create a deployment; one that is there will do where something is left to do after it."""
    from azure.ai.ml.entities import (
        BatchRetrySettings,
        ModelBatchDeployment,
        ModelBatchDeploymentSettings,
        ResourceConfiguration,
    )

    doing = f"create the batch deployment {name!r} of {endpoint!r}"
    shown = f"aml-spark endpoint show {endpoint} --batch"

    def look() -> Any:
        return _deployment(client, endpoint, name)

    found = look()
    if waiting.state(found) in waiting.UNDER_WAY and model.is_in(found.model):
        waiting.followed(look, doing=doing, shown=shown)
        return
    if waiting.state(found) == "Succeeded" and model.is_in(found.model) and left:
        return
    if waiting.state(found) == "Succeeded" or waiting.state(found) in waiting.UNDER_WAY:
        raise DeploymentError(f"the batch endpoint {endpoint!r} has a deployment {name!r} already", hint=shown)
    own = {"mini_batch_size": 10, "output_file_name": _FILE, "output_action": "append_row"}
    own |= {key: settings[key] for key in _SETTINGS if key in settings}
    if retry := own.pop("retry_settings", None):
        own["retry_settings"] = BatchRetrySettings(**retry)  # type: ignore[arg-type]
    wanted = ModelBatchDeployment(
        name=name,
        endpoint_name=endpoint,
        model=model.azure_id,
        compute=settings["compute"],
        settings=ModelBatchDeploymentSettings(**own),  # type: ignore[arg-type]
        resources=ResourceConfiguration(instance_count=settings.get("instance_count", 1)),
        description=settings.get("description"),
        tags=settings.get("tags"),
    )
    waiting.done(client.batch_deployments.begin_create_or_update, wanted, look, doing=doing, shown=shown)


def _find(client: MLClient, endpoint: str) -> BatchEndpoint | None:
    with control.own_words(f"look at the batch endpoint {endpoint!r}"):
        return waiting.found(lambda: client.batch_endpoints.get(endpoint))  # type: ignore[no-any-return]


def _deployment(client: MLClient, endpoint: str, name: str) -> BatchDeployment | None:
    with control.own_words(f"look at the batch deployment {name!r} of {endpoint!r}"):
        return waiting.found(lambda: client.batch_deployments.get(name, endpoint))  # type: ignore[no-any-return]


def default(found: BatchEndpoint) -> str | None:
    """The deployment that is asked where none is named."""
    defaults: Any = found.defaults
    if isinstance(defaults, Mapping):
        return defaults.get("deployment_name") or defaults.get("deploymentName")
    return getattr(defaults, "deployment_name", None)


def _check_compute(client: MLClient, name: str | None) -> None:
    with control.own_words("list the computes"):
        names = [str(one.name) for one in client.compute.list()]
    if name not in names:
        told = "no compute is given" if name is None else f"the workspace has no compute {name!r}"
        raise ArgumentError(
            f"{told}; the workspace has {named(names)}",
            hint=did_you_mean(name or "", names) or "aml-spark compute create <name>, then -C compute=<name>",
        )


def _source(data: str) -> str:
    """A place in the form that Azure's client takes: it knows no `abfss`, and the same files are behind `https`."""
    if re.match(r"(?i)azureml:", data):
        return data
    if "://" not in data:
        name = posixpath.basename(data.rstrip("/")) or "<path>"
        raise ArgumentError(
            f"data is {data!r}; expected azureml://datastores/<name>/paths/<path> or abfss://… with the files",
            hint=f"aml-spark datastore put {data} azureml://datastores/workspaceblobstore/paths/{name}",
        )
    location = Location.of(data)
    host = location.host.replace(".dfs.", ".blob.", 1)
    return f"https://{host}/{location.filesystem}/{quote(location.path)}"
