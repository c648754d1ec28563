"""The commands `aml-spark endpoint …`: models as web services, online and in batches."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from aml_spark.cli.terminal import WORKSPACE_HELP, configured, pairs, print_table
from aml_spark.errors import ArgumentError


@click.group()
def endpoint() -> None:
    """Online and batch endpoints of the workspace, and the models that are deployed on them."""


_WORKSPACE = click.option("--workspace", help=f"{WORKSPACE_HELP} Default: the environment, config.json.")
_BATCH = click.option("--batch", is_flag=True, help="A batch endpoint instead of an online one.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_SHORT = re.compile(r".*/models/([^/]+)/versions/([^/]+)")  # Azure's id of a model


@endpoint.command("list")
@_BATCH
@_WORKSPACE
@_JSON
def endpoint_list(batch: bool, workspace: str | None, as_json: bool) -> None:
    """The workspace's endpoints."""
    from aml_spark import control
    from aml_spark.deployment import batch as batches, endpoints

    with _within(workspace):
        if batch:
            found = [_batch(one) for one in batches.listed()]
        else:
            found = [endpoints.facts(one) for one in endpoints.all_of(control.client())]
    if as_json:
        click.echo(json.dumps({"endpoints": found}))
        return
    names = ("name", "provisioning_state", "default" if batch else "traffic", "scoring_uri")
    print_table(names, ([_cell(one[name]) for name in names] for one in found))


@endpoint.command("show")
@click.argument("name")
@_BATCH
@_WORKSPACE
@_JSON
def endpoint_show(name: str, batch: bool, workspace: str | None, as_json: bool) -> None:
    """An endpoint and its deployments."""
    from aml_spark import control
    from aml_spark.deployment import batch as batches, deployments, endpoints

    with _within(workspace):
        if batch:
            found = _batch(batches.get(name))
            several = [_batch_deployment(one) for one in batches.deployments(name)]
        else:
            one = endpoints.get(control.client(), name)
            found = endpoints.facts(one)
            several = [deployments.facts(each, one) for each in deployments.all_of(control.client(), name)]
    if as_json:
        click.echo(json.dumps({**found, "deployments": several}))
        return
    for key, value in found.items():
        click.echo(f"{key:<24}{_cell(value)}".rstrip())
    if several:
        click.echo()
        names = [name for name in ("name", "provisioning_state", "model", "compute", "traffic") if name in several[0]]
        short = [{**one, "model": _SHORT.sub(r"\1/\2", str(one["model"]))} for one in several]
        print_table(names, ([_cell(one[name]) for name in names] for one in short))


@endpoint.command("create")
@click.argument("name")
@click.option("--deployment", help="Name of a deployment on it; an endpoint that is there is used.")
@click.option("--model", help="Its model: models:/name/3, models:/name@alias, runs:/… of a registered model.")
@click.option("--config", "-C", multiple=True, metavar="KEY=VALUE", help="Setting, as mlflow deployments has it.")
@_BATCH
@_WORKSPACE
@_JSON
def endpoint_create(
    name: str,
    deployment: str | None,
    model: str | None,
    config: Sequence[str],
    batch: bool,
    workspace: str | None,
    as_json: bool,
) -> None:
    """Create an endpoint, and with --deployment and --model what answers there."""
    from aml_spark import control
    from aml_spark.deployment import batch as batches, config as configs, deployments, endpoints, registered

    if (deployment is None) != (model is None):
        raise ArgumentError("--deployment and --model go together")
    given = dict(pairs("-C", config))
    with _within(workspace):
        if batch:
            found = _batch(batches.create(name, deployment, model, given))
        elif deployment is None or model is None:
            settings = configs.read(given, configs.ENDPOINT)
            found = endpoints.facts(endpoints.create(control.client(), name, settings))
        else:
            settings = configs.read(given, configs.DEPLOYMENT)
            version = registered.find(model, control.configured())
            made = deployments.create(control.client(), name, deployment, version, settings, with_endpoint=True)
            found = deployments.facts(made, endpoints.get(control.client(), name))
    if as_json:
        click.echo(json.dumps(found))
    else:
        of = f"{name}/{deployment}" if deployment else name
        click.echo(f"{of} is created: {found['scoring_uri']}")


@endpoint.command("update")
@click.argument("name")
@click.option("--deployment", help="Change this deployment of it.")
@click.option("--config", "-C", multiple=True, required=True, metavar="KEY=VALUE", help="Setting, such as traffic.")
@_WORKSPACE
@_JSON
def endpoint_update(
    name: str, deployment: str | None, config: Sequence[str], workspace: str | None, as_json: bool
) -> None:
    """Change an online endpoint or a deployment: -C traffic='{"blue": 90, "green": 10}'. What isn't named stays."""
    from aml_spark import control
    from aml_spark.deployment import config as configs, deployments, endpoints

    settings = configs.read(dict(pairs("-C", config)), configs.DEPLOYMENT if deployment else configs.ENDPOINT)
    with _within(workspace):
        if deployment:
            made = deployments.update(control.client(), name, deployment, None, settings)
            found = deployments.facts(made, endpoints.get(control.client(), name))
        else:
            found = endpoints.facts(endpoints.update(control.client(), name, settings))
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo(f"{name}/{deployment} is updated" if deployment else f"{name} is updated")


@endpoint.command("invoke")
@click.argument("name")
@click.option("--deployment", help="Who is asked. Default: as the endpoint's traffic, or its default, says.")
@click.option("--data", required=True, help="File of rows, .json, .csv or .parquet; with --batch a URI in a lake.")
@click.option("--output", help="With --batch: URI of the file for the predictions. Default: one on the own datastore.")
@click.option("--download", type=click.Path(path_type=Path), help="With --batch: file or folder to fetch them to.")
@_BATCH
@_WORKSPACE
@_JSON
def endpoint_invoke(
    name: str,
    deployment: str | None,
    data: str,
    output: str | None,
    download: Path | None,
    batch: bool,
    workspace: str | None,
    as_json: bool,
) -> None:
    """Ask an endpoint for predictions; of a batch endpoint wait for its end."""
    from aml_spark import control
    from aml_spark.deployment import batch as batches
    from aml_spark.deployment.invocation import Endpoint

    if not batch:
        if output or download:
            raise ArgumentError("--output and --download go with --batch")
        rows = _rows(Path(data))
        with _within(workspace):
            answer = Endpoint(control.client(), name).predict(rows, deployment)
        click.echo(answer.to_json() if as_json else json.dumps(answer["predictions"]))
        return
    with _within(workspace):
        run = batches.invoke(name, data, deployment=deployment, output=output).wait()
        fetched = None if download is None else run.download(download)
    if as_json:
        click.echo(json.dumps({"job": run.job, "output": run.output, "download": fetched and str(fetched)}))
    else:
        click.echo(f"{run.job}: {run.output}" + (f" → {fetched}" if fetched else ""))


@endpoint.command("logs")
@click.argument("name")
@click.option("--deployment", required=True, help="Whose container.")
@click.option("--lines", type=click.IntRange(min=1), default=100, show_default=True, help="How many of the last lines.")
@click.option(
    "--container",
    type=click.Choice(["inference-server", "storage-initializer"]),
    default="inference-server",
    show_default=True,
    help="What serves the model, or what fetches it before.",
)
@_WORKSPACE
def endpoint_logs(name: str, deployment: str, lines: int, container: str, workspace: str | None) -> None:
    """What a deployment's container said."""
    from aml_spark import control
    from aml_spark.deployment import deployments

    with _within(workspace):
        said = deployments.logs(control.client(), name, deployment, lines=lines, container=container)
    click.echo(said, nl=not said.endswith("\n"))


@endpoint.command("delete")
@click.argument("name")
@click.option("--deployment", help="Delete this deployment only.")
@_BATCH
@_WORKSPACE
def endpoint_delete(name: str, deployment: str | None, batch: bool, workspace: str | None) -> None:
    """Delete an endpoint with its deployments, or one deployment; nothing where there is none."""
    from aml_spark import control
    from aml_spark.deployment import batch as batches, deployments, endpoints

    with _within(workspace):
        if batch:
            batches.delete(name, deployment)
        elif deployment:
            deployments.delete(control.client(), name, deployment)
        else:
            endpoints.delete(control.client(), name)
    click.echo(f"{name}/{deployment} is deleted" if deployment else f"{name} is deleted")


@contextlib.contextmanager
def _within(workspace: str | None) -> Iterator[None]:
    """In a workspace, with the dots that azure-ai-ml prints for its polls kept out of what the command prints."""
    with configured(workspace, in_azure=True), contextlib.redirect_stdout(sys.stderr):
        yield


def _rows(file: Path) -> Any:
    """What a file asks for: a table, or JSON as a server takes it."""
    if not file.is_file():
        raise ArgumentError(f"--data: there is no file {str(file)!r}")
    import pandas as pd

    if file.suffix == ".csv":
        return pd.read_csv(file)
    if file.suffix in (".parquet", ".pqt"):
        return pd.read_parquet(file)
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError):
        raise ArgumentError(f"--data: {str(file)!r} is no JSON; expected .json, .csv or .parquet") from None


def _batch(found: Any) -> dict[str, Any]:
    from aml_spark.deployment import batch as batches, waiting

    return {
        "name": found.name,
        "provisioning_state": waiting.state(found),
        "default": batches.default(found),
        "scoring_uri": found.scoring_uri,
        "description": found.description,
        "tags": dict(found.tags or {}),
    }


def _batch_deployment(found: Any) -> dict[str, Any]:
    from aml_spark.deployment import waiting

    return {
        "name": found.name,
        "provisioning_state": waiting.state(found),
        "model": str(getattr(found.model, "asset_id", found.model)),
        "compute": str(found.compute or "").rpartition("/")[2],
    }


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        return " ".join(f"{key}={one}" for key, one in value.items())
    return "" if value is None else value
