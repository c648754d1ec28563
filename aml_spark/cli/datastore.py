"""The commands `aml-spark datastore …`: files in a data lake."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aml_spark.cli.terminal import WORKSPACE_HELP, configured, print_table

if TYPE_CHECKING:
    from aml_spark.datastore import Datastore


@click.group()
def datastore() -> None:
    """Files in a data lake: datastores of the workspace, azureml://datastores/NAME/paths/…, and abfss://… URIs."""


_IN_WORKSPACE = click.option("--workspace", help=f"{WORKSPACE_HELP} Default: the environment, config.json.")


@datastore.command("list")
@_IN_WORKSPACE
@click.option("--json", "as_json", is_flag=True, help="Print the datastores as one JSON object.")
def datastore_list(workspace: str | None, as_json: bool) -> None:
    """The workspace's datastores."""
    from aml_spark import datastore as datastores

    with configured(workspace):
        found = [_plain(one) for one in datastores.listed()]
    if as_json:
        click.echo(json.dumps({"datastores": found}))
        return
    names = ("name", "kind", "uri")
    print_table(names, ([one[name] for name in names] for one in found))


@datastore.command("show")
@click.argument("name")
@_IN_WORKSPACE
@click.option("--json", "as_json", is_flag=True, help="Print the datastore as one JSON object.")
def datastore_show(name: str, workspace: str | None, as_json: bool) -> None:
    """One datastore: where it is, and by what kind of credential it is opened."""
    from aml_spark import datastore as datastores

    with configured(workspace):
        found = _plain(datastores.get(name))
    if as_json:
        click.echo(json.dumps(found))
        return
    for key, value in {**found, "credential": found["credential"] or "none kept: yours is used"}.items():
        click.echo(f"{key:<12}{'' if value is None else value}")


@datastore.command("ls")
@click.argument("uri")
@click.option("--recursive", is_flag=True, help="What is in the folders below, too.")
@_IN_WORKSPACE
@click.option("--json", "as_json", is_flag=True, help="Print the files as one JSON object.")
def datastore_ls(uri: str, recursive: bool, workspace: str | None, as_json: bool) -> None:
    """What is in a folder."""
    from aml_spark import datalake, files

    with _for(uri, workspace):
        found = [asdict(one) for one in files.listed(datalake.find(uri), recursive=recursive)]
    if as_json:
        click.echo(json.dumps({"files": found}, default=str))
        return
    print_table(
        ("modified", "size", "path"),
        ((f"{one['modified']:%Y-%m-%d %H:%M:%S}", one["size"], one["path"] + "/" * one["is_folder"]) for one in found),
    )


@datastore.command("get")
@click.argument("uri")
@click.argument("target", type=click.Path(path_type=Path))
@_IN_WORKSPACE
def datastore_get(uri: str, target: Path, workspace: str | None) -> None:
    """Copy a file or folder out of the lake."""
    from aml_spark import datalake, files

    with _for(uri, workspace):
        click.echo(f"{uri} → {files.download(datalake.find(uri), target)}")


@datastore.command("put")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("uri")
@_IN_WORKSPACE
def datastore_put(source: Path, uri: str, workspace: str | None) -> None:
    """Copy a file or folder into the lake; a file broken off goes on where it was."""
    from aml_spark import datalake, files

    with _for(uri, workspace):
        click.echo(f"{source} → {files.upload(source, datalake.find(uri)).uri}")


def _for(uri: str, workspace: str | None) -> contextlib.AbstractContextManager[None]:
    """With MLflow on the workspace where a datastore is named."""
    return configured(workspace) if uri.lower().startswith("azureml:") else contextlib.nullcontext()


def _plain(found: Datastore) -> dict[str, Any]:
    """A datastore without its secret."""
    return {
        "name": found.name,
        "kind": found.kind,
        "uri": None if found.location is None else found.location.uri,
        "credential": None if found.credential is None else type(found.credential).__name__,
    }
