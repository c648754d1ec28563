"""The commands `aml-spark model …`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aml_spark.cli.terminal import IN_WORKSPACE, chosen, configured, print_facts, print_table

if TYPE_CHECKING:
    from azure.ai.ml.entities import Model

_VERSION = click.option("--version", help="Its version. Default: the newest.")


@click.group()
def model() -> None:
    """The models that the workspace has registered."""


@model.command("list")
@click.option("--name", help="List the versions of this model.")
@IN_WORKSPACE
@click.option("--json", "as_json", is_flag=True, help="Print the models as one JSON object.")
def model_list(name: str | None, workspace: str | None, as_json: bool) -> None:
    """The registered models, or the versions of one."""
    from aml_spark.manage import models

    with chosen(workspace) as of:
        rows = [_plain(one) for one in models.listed(name, of)]
    if as_json:
        click.echo(json.dumps({"models": rows}))
        return
    names = ("name", "version", "type", "created", "description") if name else ("name", "latest_version", "description")
    print_table(names, ([row[name] for name in names] for row in rows))


@model.command("show")
@click.argument("name")
@_VERSION
@IN_WORKSPACE
@click.option("--json", "as_json", is_flag=True, help="Print the version as one JSON object.")
def model_show(name: str, version: str | None, workspace: str | None, as_json: bool) -> None:
    """One version of a model.

    NAME is the model's, or an address: models:/name/3 or models:/name@alias.
    """
    from aml_spark.manage import models

    with chosen(workspace) as of:
        facts = _plain(models.get(name, version, of))
        facts["aliases"] = None
        if of.host is not None:  # config.json may not say where the registry is, which knows them
            known = models.aliases(facts["name"], of)
            facts["aliases"] = sorted(alias for alias, means in known.items() if means == facts["version"])
    if as_json:
        click.echo(json.dumps(facts))
        return
    tags = ", ".join(f"{key}={value}" for key, value in facts["tags"].items())
    print_facts({**facts, "tags": tags or None, "aliases": ", ".join(facts["aliases"] or ()) or None})


@model.command("download")
@click.argument("name")
@click.argument("target", type=click.Path(file_okay=False, path_type=Path), default=".")
@_VERSION
@IN_WORKSPACE
def model_download(name: str, target: Path, version: str | None, workspace: str | None) -> None:
    """Copy the files of one version here.

    NAME is the model's, or an address: models:/name/3 or models:/name@alias. They come into a folder with the model's
    name in TARGET.
    """
    from aml_spark.manage import models

    with chosen(workspace) as of:
        click.echo(models.download(name, version, target, of))


@model.command("copy")
@click.argument("uri")
@click.option("--to", required=True, help="The workspace or registry that gets it: folder, URI or config.json.")
@click.option("--name", help="Its name there. Default: the same.")
@IN_WORKSPACE
@click.option("--json", "as_json", is_flag=True, help="Print the copy as one JSON object.")
def model_copy(uri: str, to: str, name: str | None, workspace: str | None, as_json: bool) -> None:
    """Copy a version to another workspace or registry.

    URI is models:/name/3 or models:/name@alias. Its files, signature, tags and the run that trained it go along. A
    copy that is there already is found.
    """
    from aml_spark.copying import copy_model

    with configured(workspace, model=uri):
        copy = copy_model(uri, to, name=name)
    if as_json:
        click.echo(json.dumps(asdict(copy)))
        return
    click.echo(f"{uri} → {copy.name} version {copy.version}" + ("" if copy.copied else ", which was there already"))


def _plain(of: Model) -> dict[str, Any]:
    # A model as a whole has a newest version; of what kind and how old it is, Azure's client only seems to say.
    is_version = of.version is not None
    created = of.creation_context.created_at if of.creation_context and is_version else None
    return {
        "name": of.name,
        "version": of.version,
        "latest_version": of.latest_version,
        "type": of.type if is_version else None,
        "path": of.path,
        "description": of.description or None,
        "tags": dict(of.tags or {}),
        "job": of.job_name,
        "created": f"{created:%Y-%m-%d %H:%M:%S}" if created else None,
    }
