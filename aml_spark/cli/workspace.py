"""The commands `aml-spark workspace …`."""

from __future__ import annotations

import json
from typing import Any

import click

from aml_spark.cli.terminal import IN_WORKSPACE, chosen, print_facts


@click.group()
def workspace() -> None:
    """The workspace itself."""


@workspace.command("show")
@IN_WORKSPACE
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
def workspace_show(workspace: str | None, as_json: bool) -> None:
    """Where the workspace is, and what it stands on."""
    from aml_spark.manage import workspaces

    with chosen(workspace) as of:
        shown = workspaces.show(of)
    facts: dict[str, Any] = {
        "name": shown.name,
        "resource_group": of.resource_group,
        "subscription_id": of.subscription_id,
        "region": shown.location,
        "description": shown.description or None,
        "tracking_uri": shown.mlflow_tracking_uri,
        "storage_account": shown.storage_account,
        "key_vault": shown.key_vault,
        "container_registry": shown.container_registry,
        "application_insights": shown.application_insights,
    }
    if as_json:
        click.echo(json.dumps(facts))
        return
    print_facts(facts)
