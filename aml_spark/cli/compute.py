"""The commands `aml-spark compute …`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from aml_spark.cli.terminal import IN_WORKSPACE, chosen, print_facts, print_table

if TYPE_CHECKING:
    from azure.ai.ml.entities import Compute

_NO_WAIT = click.option("--no-wait", is_flag=True, help="Come back while Azure works on it.")
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the compute as one JSON object.")


@click.group()
def compute() -> None:
    """Clusters and machines that the workspace's jobs run on."""


@compute.command("list")
@IN_WORKSPACE
@click.option("--json", "as_json", is_flag=True, help="Print the computes as one JSON object.")
def compute_list(workspace: str | None, as_json: bool) -> None:
    """The workspace's own, and attached Databricks and Synapse."""
    from aml_spark.manage import computes

    with chosen(workspace) as of:
        rows = [computes.facts(one) for one in computes.listed(of)]
    if as_json:
        click.echo(json.dumps({"computes": rows}))
        return
    names = ("name", "kind", "size", "nodes", "state")
    print_table(names, ([row[name] for name in names] for row in rows))


@compute.command("show")
@click.argument("name")
@IN_WORKSPACE
@_AS_JSON
def compute_show(name: str, workspace: str | None, as_json: bool) -> None:
    """One compute."""
    from aml_spark.manage import computes

    with chosen(workspace) as of:
        _print(computes.get(name, of), as_json)


@compute.command("create")
@click.argument("name")
@click.option("--size", help="Azure's name of a machine's size. Default: STANDARD_DS3_V2.")
@click.option("--min-instances", type=click.IntRange(min=0), help="Always running. Default: 0.")
@click.option("--max-instances", type=click.IntRange(min=1), help="The most. Default: 4.")
@click.option(
    "--idle-seconds",
    type=click.IntRange(min=0),
    help="Without a job after which a machine is given back. Default: 120.",
)
@click.option(
    "--tier",
    type=click.Choice(["dedicated", "low_priority"]),
    help="Machines that stay, or cheaper ones that may be taken away. Default: dedicated.",
)
@_NO_WAIT
@IN_WORKSPACE
@_AS_JSON
def compute_create(name: str, no_wait: bool, workspace: str | None, as_json: bool, **arguments: Any) -> None:
    """Make a cluster that grows and shrinks with its jobs.

    The same command again waits for a creation that is under way, and gives the cluster that is there. Defaults are
    for a new one: of a cluster that is there only what is given is looked at.
    """
    from aml_spark.manage import computes

    with chosen(workspace) as of:
        _print(computes.create(name, wait=not no_wait, workspace=of, **arguments), as_json)


@compute.command("start")
@click.argument("name")
@_NO_WAIT
@IN_WORKSPACE
@_AS_JSON
def compute_start(name: str, no_wait: bool, workspace: str | None, as_json: bool) -> None:
    """Start a compute instance."""
    from aml_spark.manage import computes

    with chosen(workspace) as of:
        _print(computes.start(name, wait=not no_wait, workspace=of), as_json)


@compute.command("stop")
@click.argument("name")
@_NO_WAIT
@IN_WORKSPACE
@_AS_JSON
def compute_stop(name: str, no_wait: bool, workspace: str | None, as_json: bool) -> None:
    """Stop a compute instance."""
    from aml_spark.manage import computes

    with chosen(workspace) as of:
        _print(computes.stop(name, wait=not no_wait, workspace=of), as_json)


@compute.command("delete")
@click.argument("name")
@_NO_WAIT
@IN_WORKSPACE
def compute_delete(name: str, no_wait: bool, workspace: str | None) -> None:
    """Delete a cluster or instance.

    What is attached, such as Databricks, is only detached and goes on living.
    """
    from aml_spark.manage import computes

    with chosen(workspace) as of:
        computes.delete(name, wait=not no_wait, workspace=of)
    click.echo(f"{name}: {'is being deleted' if no_wait else 'deleted'}", err=True)


def _print(of: Compute, as_json: bool) -> None:
    from aml_spark.manage import computes

    facts = computes.facts(of)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        print_facts(facts)
