"""The commands `aml-spark datastore …`: what the workspace knows of storage accounts, and files in a data lake."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aml_spark.cli.terminal import IN_WORKSPACE, chosen, configured, print_facts, print_table

if TYPE_CHECKING:
    from aml_spark.credential import Credential
    from aml_spark.datastore import Datastore


@click.group()
def datastore() -> None:
    """Files in a data lake: datastores of the workspace, azureml://datastores/NAME/paths/…, and abfss://… URIs."""


@datastore.command("list")
@IN_WORKSPACE
@click.option("--json", "as_json", is_flag=True, help="Print the datastores as one JSON object.")
def datastore_list(workspace: str | None, as_json: bool) -> None:
    """The workspace's datastores."""
    from aml_spark import datastore as datastores
    from aml_spark.manage import datastores as manage

    with configured(workspace, in_azure=True):
        default = manage.default().name
        found = [{**_plain(one), "default": one.name == default} for one in datastores.listed()]
    if as_json:
        click.echo(json.dumps({"datastores": found}))
        return
    names = ("name", "kind", "uri")
    rows = ([*(one[name] for name in names), "default" if one["default"] else None] for one in found)
    print_table((*names, ""), rows)


@datastore.command("show")
@click.argument("name")
@IN_WORKSPACE
@click.option("--json", "as_json", is_flag=True, help="Print the datastore as one JSON object.")
def datastore_show(name: str, workspace: str | None, as_json: bool) -> None:
    """One datastore: where it is, and by what kind of credential it is opened."""
    from aml_spark import datastore as datastores

    with configured(workspace, in_azure=True):
        _print(_plain(datastores.get(name)), as_json)


@datastore.command("create")
@click.argument("name")
@click.option("--account", required=True, help="Name of the storage account.")
@click.option("--container", required=True, help="Its container, or of a data lake its file system.")
@click.option(
    "--kind",
    type=click.Choice(["AzureDataLakeGen2", "AzureBlob"]),
    default="AzureDataLakeGen2",
    show_default=True,
    help="Whether the account has a hierarchical namespace.",
)
@click.option(
    "--credential",
    type=click.Choice(["none", "key", "sas", "service-principal"]),
    default="none",
    show_default=True,
    help="What the workspace keeps to open it.",
)
@click.option("--tenant-id", help="Of the service principal.")
@click.option("--client-id", help="Of the service principal.")
@click.option(
    "--secret-from",
    metavar="VARIABLE",
    help="Environment variable with the key, signature or client secret. Default: asked for, or a line of standard "
    "input.",
)
@IN_WORKSPACE
@click.option("--json", "as_json", is_flag=True, help="Print the datastore as one JSON object.")
def datastore_create(
    name: str,
    credential: str,
    tenant_id: str | None,
    client_id: str | None,
    secret_from: str | None,
    workspace: str | None,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Tell the workspace of a place in a storage account.

    Again with the same name and place it renews what opens it.
    """
    from aml_spark import datastore as shown
    from aml_spark.manage import datastores

    opens = _credential(credential, tenant_id, client_id, secret_from)
    with configured(workspace, in_azure=True):
        datastores.create(name, credential=opens, **arguments)
        _print(_plain(shown.get(name)), as_json)


@datastore.command("set-default")
@click.argument("name")
@IN_WORKSPACE
def datastore_set_default(name: str, workspace: str | None) -> None:
    """Where jobs write that name no datastore."""
    from aml_spark.manage import datastores

    with chosen(workspace) as of:
        click.echo(f"{datastores.set_default(name, of).name} is the default", err=True)


@datastore.command("ls")
@click.argument("uri")
@click.option("--recursive", is_flag=True, help="What is in the folders below, too.")
@IN_WORKSPACE
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
@IN_WORKSPACE
def datastore_get(uri: str, target: Path, workspace: str | None) -> None:
    """Copy a file or folder out of the lake."""
    from aml_spark import datalake, files

    with _for(uri, workspace):
        click.echo(f"{uri} → {files.download(datalake.find(uri), target)}")


@datastore.command("put")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("uri")
@IN_WORKSPACE
def datastore_put(source: Path, uri: str, workspace: str | None) -> None:
    """Copy a file or folder into the lake; a file broken off goes on where it was."""
    from aml_spark import datalake, files

    with _for(uri, workspace):
        click.echo(f"{source} → {files.upload(source, datalake.find(uri)).uri}")


def _for(uri: str, workspace: str | None) -> contextlib.AbstractContextManager[None]:
    """With MLflow on the workspace where a datastore is named."""
    return configured(workspace, in_azure=True) if uri.lower().startswith("azureml:") else contextlib.nullcontext()


def _plain(found: Datastore) -> dict[str, Any]:
    """A datastore without its secret."""
    return {
        "name": found.name,
        "kind": found.kind,
        "uri": None if found.location is None else found.location.uri,
        "credential": None if found.credential is None else type(found.credential).__name__,
    }


def _print(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts))
    else:
        print_facts({**facts, "credential": facts["credential"] or "none kept: yours is used"})


def _credential(kind: str, tenant_id: str | None, client_id: str | None, secret_from: str | None) -> Credential | None:
    """What the options of `create` mean; the secret comes by another way, as arguments are seen by everybody."""
    from aml_spark.credential import AccountKey, SasToken, ServicePrincipal

    if kind == "none":
        if secret_from:
            raise click.UsageError("--secret-from goes with --credential key, sas or service-principal")
        return None
    if kind == "service-principal" and not (tenant_id and client_id):
        raise click.UsageError("--credential service-principal needs --tenant-id and --client-id")
    secret = _secret(secret_from)
    if kind == "key":
        return AccountKey(key=secret)
    if kind == "sas":
        return SasToken(token=secret)
    return ServicePrincipal(tenant_id=str(tenant_id), client_id=str(client_id), client_secret=secret)


def _secret(variable: str | None) -> str:
    if variable is not None:
        secret = os.environ.get(variable, "")
    elif sys.stdin.isatty():
        secret = click.prompt("Secret", hide_input=True, err=True)
    else:
        secret = sys.stdin.readline()
    if not secret.strip():
        place = f"the variable {variable}" if variable else "standard input"
        raise click.UsageError(f"{place} holds no secret")
    return secret.strip()
