"""The commands `aml-spark job …`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aml_spark.cli.terminal import IN_WORKSPACE, chosen, print_facts, print_table

if TYPE_CHECKING:
    from azure.ai.ml.entities import Job

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the job as one JSON object.")


@click.group()
def job() -> None:
    """The workspace's jobs."""


@job.command("list")
@click.option("--max", "most", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most.")
@IN_WORKSPACE
@click.option("--json", "as_json", is_flag=True, help="Print the jobs as one JSON object.")
def job_list(most: int, workspace: str | None, as_json: bool) -> None:
    """The newest jobs."""
    from aml_spark.manage import jobs

    with chosen(workspace) as of:
        rows = [_plain(one) for one in jobs.listed(most=most, workspace=of)]
    if as_json:
        click.echo(json.dumps({"jobs": rows}))
        return
    names = ("name", "type", "status", "experiment", "compute", "created", "display_name")
    print_table(names, ([row[name] for name in names] for row in rows))


@job.command("submit")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@IN_WORKSPACE
@_AS_JSON
def job_submit(file: Path, workspace: str | None, as_json: bool) -> None:
    """Submit the job that a file describes.

    FILE is Azure's YAML for a command, Spark or pipeline job.
    """
    from aml_spark.manage import jobs

    with chosen(workspace) as of:
        submitted = jobs.submit(file, of)
    _print(submitted, as_json)
    click.echo(f"To see what it says: aml-spark job logs {submitted.name} --follow", err=True)


@job.command("show")
@click.argument("name")
@IN_WORKSPACE
@_AS_JSON
def job_show(name: str, workspace: str | None, as_json: bool) -> None:
    """One job."""
    from aml_spark.manage import jobs

    with chosen(workspace) as of:
        _print(jobs.get(name, of), as_json)


@job.command("logs")
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Go on until it ends. Ctrl-C stops this, not the job.")
@IN_WORKSPACE
def job_logs(name: str, follow: bool, workspace: str | None) -> None:
    """What a job says.

    With --follow the exit code is 0 where the job completes, and 1 where it doesn't.
    """
    from aml_spark.manage import jobs

    with chosen(workspace) as of:
        jobs.logs(name, follow=follow, workspace=of)


@job.command("cancel")
@click.argument("name")
@click.option("--no-wait", is_flag=True, help="Come back while Azure ends it.")
@IN_WORKSPACE
@_AS_JSON
def job_cancel(name: str, no_wait: bool, workspace: str | None, as_json: bool) -> None:
    """End a job."""
    from aml_spark.manage import jobs

    with chosen(workspace) as of:
        cancelled = jobs.cancel(name, wait=not no_wait, workspace=of)
    _print(cancelled, as_json)
    if (status := _plain(cancelled)["status"]) in ("Completed", "Failed"):
        click.echo(f"{name}: had ended as {status} before", err=True)


@job.command("download")
@click.argument("name")
@click.argument("target", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option("--output", help="Only this one of its outputs. Default: all, and its logs and artifacts.")
@IN_WORKSPACE
def job_download(name: str, target: Path, output: str | None, workspace: str | None) -> None:
    """Copy what a job left, once it has ended.

    Logs and artifacts come into TARGET/artifacts, its outputs into TARGET/named-outputs.
    """
    from aml_spark.manage import jobs

    with chosen(workspace) as of:
        click.echo(jobs.download(name, target, output=output, workspace=of))


def _print(of: Job, as_json: bool) -> None:
    facts = _plain(of)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        print_facts(facts)


def _plain(of: Job) -> dict[str, Any]:
    created = of.creation_context.created_at if of.creation_context else None
    return {
        "name": of.name,
        "display_name": of.display_name,
        "type": of.type,
        "status": getattr(of.status, "value", of.status),
        "experiment": of.experiment_name,
        "compute": str(of.compute).rpartition("/")[2] if getattr(of, "compute", None) else None,
        "created": f"{created:%Y-%m-%d %H:%M:%S}" if created else None,
        "url": of.studio_url,
    }
