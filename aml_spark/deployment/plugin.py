"""What MLflow calls for the target `aml-spark`: deployments on a workspace's online endpoints, and on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click
from mlflow.deployments import BaseDeploymentClient, PredictionsResponse
from mlflow.exceptions import MlflowException

from aml_spark.deployment import config as configs, deployments, endpoints, local
from aml_spark.deployment.invocation import Endpoint
from aml_spark.deployment.registered import find
from aml_spark.errors import AmlSparkError, ArgumentError, ModelNotFoundError, ServiceError, WorkspaceError

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

    from aml_spark.workspace import Workspace

_SCHEME = "aml-spark"
_CODES = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "RESOURCE_CONFLICT",
    429: "REQUEST_LIMIT_EXCEEDED",
}


class CommandError(MlflowException, click.ClickException):  # type: ignore[misc]
    """What MLflow's command line shows as a message, without a traceback."""


class AmlSparkDeploymentClient(BaseDeploymentClient):
    """MLflow models on the managed online endpoints of an Azure Machine Learning workspace.

    A config is a dict, or from the command line `-C key=value`; `config_file` names a YAML or JSON file with more. Keys
    and their meaning are Azure's. Everything raises `MlflowException`, with a hint where there is one.

    Args:
        target_uri: `aml-spark` for the workspace that MLflow is configured for, or `aml-spark:/<workspace>` with a
            tracking URI or the path of a `config.json`.
    """

    def __init__(self, target_uri: str) -> None:
        super().__init__(target_uri)  # type: ignore[no-untyped-call]
        self._asked: dict[str, Endpoint] = {}

    def create_deployment(
        self,
        name: str,
        model_uri: str,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Deploy a model, and wait until it answers. One that another call is creating is waited for.

        Args:
            name: the deployment's name; 3 to 32 letters, digits and dashes.
            model_uri: `models:/<name>/<version>`, `models:/<name>@<alias>`, or `runs:/…` of a registered model.
            flavor: None or `python_function`.
            config: see `mlflow deployments help -t aml-spark`.
            endpoint: an endpoint that is there. None takes the config's `endpoint_name`, else
                `<name>-<six hex digits of a hash of the workspace>`, and creates it where it isn't there.

        Returns:
            The deployment: `name`, `endpoint`, `flavor`, `model`, `provisioning_state`, `traffic` and more.
        """
        with _as_mlflow():
            local.check_flavor(flavor)
            settings = configs.read(config, configs.DEPLOYMENT)
            where = endpoint or settings.get("endpoint_name") or self._default(name)
            configs.check_name(name, "deployment")
            model, new = find(model_uri, self._workspace), endpoint is None
            made = self._shown(deployments.create(self._client, where, name, model, settings, with_endpoint=new))
            if _in_mlflows_command():  # which tells only of the deployment
                click.echo(f"deployment {name} of the endpoint {where}: {made['scoring_uri']}", err=True)
            return made

    def update_deployment(
        self,
        name: str,
        model_uri: str | None = None,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Change a deployment's model, settings or traffic, and wait until it answers. What isn't named stays.

        Args:
            name: the deployment's name.
            model_uri: another model, as in `create_deployment`.
            flavor: None or `python_function`.
            config: what changes; see `mlflow deployments help -t aml-spark`.
            endpoint: its endpoint, as in `create_deployment`.
        """
        with _as_mlflow():
            local.check_flavor(flavor)
            settings = configs.read(config, configs.DEPLOYMENT)
            where = endpoint or settings.get("endpoint_name") or self._default(name)
            model = find(model_uri, self._workspace) if model_uri else None
            return self._shown(deployments.update(self._client, where, name, model, settings))

    def delete_deployment(
        self, name: str, config: Mapping[str, Any] | None = None, endpoint: str | None = None
    ) -> None:
        """Delete a deployment; nothing where there is none.

        Args:
            name: the deployment's name.
            config: `endpoint_name`, as in `create_deployment`.
            endpoint: its endpoint. None takes the same as `create_deployment`, and deletes the endpoint with it where
                that has no other deployments.
        """
        with _as_mlflow():
            settings = configs.read(config, {"endpoint_name": str})
            where = endpoint or settings.get("endpoint_name") or self._default(name)
            if endpoint is None:
                if endpoints.find(self._client, where) is None:
                    return
                if {one.name for one in deployments.all_of(self._client, where)} <= {name}:
                    endpoints.delete(self._client, where)
                    return
            deployments.delete(self._client, where, name)

    def list_deployments(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """The deployments of an endpoint; None for those of all online endpoints of the workspace."""
        with _as_mlflow():
            names = [endpoint] if endpoint else [str(one.name) for one in endpoints.all_of(self._client)]
            found = [(endpoints.get(self._client, one), deployments.all_of(self._client, one)) for one in names]
            return [deployments.facts(one, of) for of, several in found for one in several]

    def get_deployment(self, name: str, endpoint: str | None = None) -> dict[str, Any]:
        """A deployment; its endpoint is as in `create_deployment`."""
        with _as_mlflow():
            return self._shown(deployments.get(self._client, endpoint or self._default(name), name))

    def predict(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: str | None = None
    ) -> PredictionsResponse:
        """Ask for predictions.

        Args:
            deployment_name: who is asked. None leaves that to the endpoint's traffic.
            inputs: a pandas DataFrame, a numpy array, a list of rows, a dict of columns, or what MLflow's server takes:
                `{"dataframe_split": …, "params": …}` and others.
            endpoint: its endpoint; None takes the deployment's, as in `create_deployment`.
        """
        with _as_mlflow():
            if endpoint is None:
                if deployment_name is None:
                    raise ArgumentError("neither deployment_name nor endpoint is given; expected one of them or both")
                endpoint = self._default(deployment_name)
            if endpoint not in self._asked:
                self._asked[endpoint] = Endpoint(self._client, endpoint)
            return self._asked[endpoint].predict(inputs, deployment_name)

    def logs(
        self, name: str, endpoint: str | None = None, lines: int = 100, container: str = deployments.CONTAINERS[0]
    ) -> str:
        """The last lines of a deployment's container.

        Args:
            name: the deployment's name.
            endpoint: its endpoint, as in `create_deployment`.
            lines: how many.
            container: `inference-server`, or `storage-initializer`, which fetches the model before that starts.
        """
        with _as_mlflow():
            where = endpoint or self._default(name)
            return deployments.logs(self._client, where, name, lines=lines, container=container)

    def create_endpoint(self, name: str, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Create an endpoint without deployments; one that another call is creating is waited for.

        Args:
            name: 3 to 32 letters, digits and dashes; one that no endpoint in the region has.
            config: `auth_mode` (`key`, `aml_token`, `aad_token`), `tags`, `description`, `public_network_access`.
        """
        with _as_mlflow():
            return endpoints.facts(endpoints.create(self._client, name, configs.read(config, configs.ENDPOINT)))

    def update_endpoint(self, endpoint: str, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Change an endpoint: `traffic`, `mirror_traffic` and what `create_endpoint` takes. What isn't named stays."""
        with _as_mlflow():
            return endpoints.facts(endpoints.update(self._client, endpoint, configs.read(config, configs.ENDPOINT)))

    def delete_endpoint(self, endpoint: str) -> None:
        """Delete an endpoint with its deployments; nothing where there is none."""
        with _as_mlflow():
            endpoints.delete(self._client, endpoint)

    def list_endpoints(self) -> list[dict[str, Any]]:
        """The workspace's online endpoints."""
        with _as_mlflow():
            return [endpoints.facts(one) for one in endpoints.all_of(self._client)]

    def get_endpoint(self, endpoint: str) -> dict[str, Any]:
        """An endpoint: `name`, `auth_mode`, `scoring_uri`, `traffic`, `provisioning_state` and more."""
        with _as_mlflow():
            return endpoints.facts(endpoints.get(self._client, endpoint))

    @cached_property
    def _workspace(self) -> Workspace:
        from aml_spark import control
        from aml_spark.workspace import Workspace

        named = self.target_uri.removeprefix(_SCHEME).removeprefix(":").removeprefix("/")
        return Workspace.find(named) if named else control.configured()

    @cached_property
    def _client(self) -> MLClient:
        from aml_spark import control

        return control.client(self._workspace)

    def _default(self, deployment: str) -> str:
        return endpoints.default(deployment, str(self._workspace.arm_id))

    def _shown(self, deployment: Any) -> dict[str, Any]:
        return deployments.facts(deployment, endpoints.get(self._client, deployment.endpoint_name))


def run_local(
    name: str, model_uri: str, flavor: str | None = None, config: Mapping[str, Any] | None = None
) -> local.LocalServer:
    """Serve a model on this machine; see `aml_spark.deployment.run_local`.

    Called by MLflow's command line it stays until Ctrl-C.
    """
    with _as_mlflow():
        server = local.run_local(name, model_uri, flavor, config)
        if _in_mlflows_command():
            click.echo(f"{name} is served at {server.url}/invocations until Ctrl-C", err=True)
            with contextlib.suppress(KeyboardInterrupt):
                server.wait()
        return server


def target_help() -> str:
    """What `mlflow deployments help -t aml-spark` shows."""
    return f"""\
Targets
  aml-spark                     the workspace that MLflow is configured for (MLFLOW_TRACKING_URI)
  aml-spark:/azureml://…        the workspace with this tracking URI
  aml-spark:/config.json        the workspace of Azure's own config.json; //<path> for an absolute path

Endpoints
  Without --endpoint a deployment's endpoint is the config's endpoint_name, else <name>-<six hex digits of a hash of the
  workspace>, with at most 25 letters of the name; aml-spark endpoint list shows the name. It is created where it isn't
  there, and deleted with its last deployment. An endpoint's first deployment gets all of its traffic; later ones get
  what traffic says.

Config: -C key=value, values in YAML or JSON, or -C {configs.FILE}=<YAML or JSON file>
  create, update      {_keys(configs.DEPLOYMENT)}
  create-endpoint, update-endpoint
                      {_keys(configs.ENDPOINT)}
  run-local           {_keys(configs.LOCAL)}

  traffic             percentages by deployment that make 100: -C traffic='{{"blue": 90, "green": 10}}'
  mirror_traffic      at most 50 percent, copied to one deployment: -C mirror_traffic='{{"green": 20}}'
  data_collector      true, a list such as [model_inputs], or Azure's collections, sampling_rate, rolling_rate
  instance_type       Standard_DS3_v2 where nothing is said; instance_count 1
  auth_mode           of the endpoint: key, aml_token or aad_token

MLflow 3.17 fails on its own create-endpoint command: aml-spark endpoint create does the same.
"""


def _keys(allowed: Mapping[str, Any]) -> str:
    return ", ".join(sorted(allowed))


@contextlib.contextmanager
def _as_mlflow() -> Iterator[None]:
    """What goes wrong as MLflow's callers expect it."""
    try:
        yield
    except AmlSparkError as error:
        code = "INTERNAL_ERROR"
        if isinstance(error, (ArgumentError, WorkspaceError)):
            code = "INVALID_PARAMETER_VALUE"
        elif isinstance(error, ModelNotFoundError):
            code = "RESOURCE_DOES_NOT_EXIST"
        elif isinstance(error, ServiceError):
            code = _CODES.get(error.status or 0, code)
        from mlflow.protos.databricks_pb2 import ErrorCode

        kind = CommandError if _in_mlflows_command() else MlflowException
        raise kind(str(error), error_code=ErrorCode.Value(code)) from error


def _in_mlflows_command() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and str(getattr(context.command.callback, "__module__", "")).startswith("mlflow.")
