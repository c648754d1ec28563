"""The command line: arguments in, exit codes and tables out.

Exit codes: 0 done, 1 the work failed, 2 the arguments are wrong, 3 monitoring found a breach, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from aml_spark import __version__
from aml_spark.cli.compute import compute
from aml_spark.cli.datastore import datastore
from aml_spark.cli.endpoint import endpoint
from aml_spark.cli.job import job
from aml_spark.cli.model import model
from aml_spark.cli.monitor import monitor, monitor_schedule
from aml_spark.cli.terminal import (
    EMULATOR,
    EMULATOR_FOLDER,
    WORKSPACE_HELP,
    configured,
    in_options,
    not_installed,
    opened,
    pairs,
    print_table,
    start_spark,
)
from aml_spark.cli.workspace import workspace
from aml_spark.errors import AmlSparkError, ArgumentError, WorkspaceError


class _Group(click.Group):
    """Turns our errors into a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(130)
        except AmlSparkError as error:
            click.secho(f"aml-spark: {error.message}", err=True, fg="red")
            if error.hint:
                ran = self.commands[str(ctx.invoked_subcommand)]
                click.echo(f"Hint: {in_options(error.hint, ran)}", err=True)
            sys.exit(2 if isinstance(error, (ArgumentError, WorkspaceError)) else 1)


def _is_no_interrupt(record: logging.LogRecord) -> bool:
    """Whether a line is worth a person's time who typed Ctrl-C: py4j logs where it was, with its stack."""
    return not (record.exc_info and isinstance(record.exc_info[1], KeyboardInterrupt))


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("-v", "--verbose", is_flag=True, help="Log what happens.")
def main(verbose: bool) -> None:
    """Train and score with Spark; keep the models in MLflow and Azure Machine Learning."""
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas")  # of which the README tells
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level="WARNING", stream=sys.stderr)
    logging.getLogger().addFilter(_is_no_interrupt)
    logging.getLogger("aml_spark").setLevel("INFO" if verbose or not sys.stderr.isatty() else "WARNING")


main.add_command(workspace)
main.add_command(datastore)
main.add_command(compute)
main.add_command(endpoint)
main.add_command(model)
main.add_command(job)
main.add_command(monitor)
main.add_command(monitor_schedule)


@main.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("aml-spark-demo"),
    show_default=True,
    help="Folder for all that the demo makes.",
)
@click.option("--workspace", help=f"{WORKSPACE_HELP} Default: mlworkspace in the folder.")
@click.option("--lake", is_flag=True, help="With tables and artifacts in a data lake on 127.0.0.1, abfss://….")
def demo(out: Path, workspace: str | None, lake: bool) -> None:
    """The whole way on real flights: train, register, score.

    With `--workspace emulator` as on a cluster: two executors, and the scoring by spark-submit.
    """
    from aml_spark.demo import run

    again = f"aml-spark emulator --dir {shlex.quote(str(out / EMULATOR_FOLDER))}"
    if lake:
        if workspace is not None:
            raise click.UsageError("--lake has a local workspace with its artifacts in the lake; leave out --workspace")
        with opened(EMULATOR, out):
            run(out, lake="azureml://datastores/lake/paths/demo", start=start_spark)
        click.echo(f"Serve the lake again with:  {again}")
        return
    with opened(workspace, out) as address:
        run(out, address, cluster=workspace == EMULATOR, start=start_spark)
    if workspace == EMULATOR:
        click.echo(f"Serve it again with:  {again} --env")


@main.command()
@click.option("--model", required=True, help="Address of the model: models:/name@alias, models:/name/3, runs:/…")
@click.option("--source", required=True, help="Delta table to score: a name, a path or a URI.")
@click.option("--target", required=True, help="Delta table to write: a name, a path or a URI.")
@click.option(
    "--mode",
    type=click.Choice(["all", "changes"]),
    default="all",
    show_default=True,
    help="Score the whole source, or what changed in it since the last time.",
)
@click.option("--key", multiple=True, help="Column that identifies a row; may be repeated.")
@click.option("--column", "columns", multiple=True, help="Column that the target keeps; may be repeated. Default: all.")
@click.option("--where", help="SQL condition; other rows are left out.")
@click.option("--prediction", default="prediction", show_default=True, help="Name of the prediction's column.")
@click.option("--result-type", help="Spark type of a prediction. Default: the model's signature.")
@click.option(
    "--on-error",
    type=click.Choice(["raise", "null", "quarantine"]),
    default="raise",
    show_default=True,
    help="What becomes of rows on which the model fails.",
)
@click.option(
    "--on-model-change",
    type=click.Choice(["rescore", "keep"]),
    default="rescore",
    show_default=True,
    help="What another model than before does, with --mode changes: score all rows, or the changed ones only.",
)
@click.option(
    "--on-missing-feed",
    type=click.Choice(["raise", "diff", "rescore"]),
    default="raise",
    show_default=True,
    help="What is done where the source's changes can't be read: compare its rows with the target, or score them all.",
)
@click.option("--source-version", type=click.IntRange(min=0), help="Version of the source. Default: the newest.")
@click.option("--overwrite", is_flag=True, help="Replace a target that holds something else.")
@click.option("--force", is_flag=True, help="Score again even where nothing changed.")
@click.option("--workspace", help=f"{WORKSPACE_HELP} Default: the environment, config.json, ./mlworkspace.")
@click.option("--master", help="Where Spark runs. Default: local[*], or what spark-submit says.")
@click.option("--conf", multiple=True, metavar="KEY=VALUE", help="Spark setting; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def score(
    key: Sequence[str],
    columns: Sequence[str],
    workspace: str | None,
    master: str | None,
    conf: Sequence[str],
    as_json: bool,
    **arguments: Any,
) -> None:
    """Score a Delta table into a Delta table."""
    from aml_spark.scoring import score as run
    from aml_spark.session import forgets_names
    from aml_spark.table import Table

    settings, places = dict(pairs("--conf", conf)), (arguments["source"], arguments["target"])
    with configured(workspace, model=arguments["model"]):
        spark = start_spark("aml-spark score", master, settings, uris=places)
        result = run(spark, key=list(key) or None, columns=list(columns) or None, **arguments)
        if not Table.of(arguments["target"]).is_path and forgets_names(spark):
            click.echo(
                f"The name {arguments['target']!r} is forgotten when this command ends, as no metastore keeps it: "
                "give a path as --target to score the changes later.",
                err=True,
            )
    if as_json:
        click.echo(json.dumps(asdict(result)))
    else:
        what = "was scored already" if result.skipped else f"{result.rows:,} rows scored"
        what += f", {result.deleted:,} deleted" if result.deleted else ""
        what += f" ({result.rejected:,} rejected)" if result.rejected else ""
        click.echo(
            f"{arguments['source']} version {result.source_version}: {what} with model version "
            f"{result.model_version} → {arguments['target']} version {result.target_version}"
        )
        if sys.stderr.isatty():  # else the log has it
            click.echo(f"  {result.scope}: {result.reason}", err=True)


@main.command()
@click.argument("target")
@click.option("--master", help="Where Spark runs. Default: local[*], or what spark-submit says.")
@click.option("--json", "as_json", is_flag=True, help="Print the commits as one JSON object.")
def lineage(target: str, master: str | None, as_json: bool) -> None:
    """Which models scored a table, from which versions of which source."""
    from aml_spark.history import lineage as run

    commits = run(start_spark("aml-spark lineage", master, uris=[target]), target)
    if as_json:
        click.echo(json.dumps({"target": target, "commits": [asdict(commit) for commit in commits]}))
        return
    if not commits:
        click.echo(f"no commit in the history of {target} was written by score", err=True)
        return
    names = ("version", "model_uri", "source_version", "scope", "rows", "deleted", "run_id", "source")
    print_table(names, ([getattr(one, name) for name in names] for one in commits))


@main.group()
def env() -> None:
    """Python environments of models."""


@env.command("pack")
@click.option("--model", required=True, help="Address of the model: models:/name@alias, models:/name/3, runs:/…")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The archive to write: a .zip file.")
@click.option("--env-manager", type=click.Choice(["uv", "virtualenv"]), default="uv", show_default=True)
@click.option("--workspace", help=f"{WORKSPACE_HELP} Default: the environment, config.json, ./mlworkspace.")
def env_pack(model: str, output: Path, env_manager: str, workspace: str | None) -> None:
    """Build a model's environment and pack it for executors: spark_udf(…, prebuilt_env_uri=…)."""
    from aml_spark.environment import pack_environment

    with configured(workspace, model=model):
        made = pack_environment(model, output, manager=env_manager)
    click.echo(f"{made}: {made.stat().st_size / 1e6:,.0f} MB")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as one JSON object.")
def doctor(as_json: bool) -> None:
    """What is found, what is missing, and the command that mends it."""
    from aml_spark.doctor import examine

    findings = examine()
    well = all(finding.ok for finding in findings if finding.needed)
    if as_json:
        click.echo(json.dumps({"ok": well, "findings": [asdict(finding) for finding in findings]}))
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            mark, color = ("✓", "green") if finding.ok else ("✗", "red") if finding.needed else ("–", "yellow")
            click.secho(mark, fg=color, nl=False)
            click.echo(f" {finding.what:<{width}}  {finding.found}")
            if not finding.ok and finding.mend:
                click.echo(f"  {'':<{width}}  → {finding.mend}")
    sys.exit(0 if well else 1)


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of its HTTPS server. Default: a free one.")
@click.option("--dir", "folder", type=click.Path(file_okay=False, path_type=Path), help="Where it keeps what it gets.")
@click.option("--env", is_flag=True, help="Print export lines for a shell instead of JSON.")
def emulator(port: int, folder: Path | None, env: bool) -> None:
    """An Azure ML workspace on this machine, until it is interrupted; prints what a client needs."""
    import signal
    import tempfile

    try:
        from aml_spark.testing import Emulator, environment
    except ImportError as error:
        raise not_installed(error) from None
    logging.getLogger("mlflow.store.db").setLevel("WARNING")
    ended = (signal.SIGINT, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, ended)  # before there are threads: they inherit it
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(tempfile.TemporaryDirectory(prefix="aml-spark-emulator-"))
        try:
            facts = stack.enter_context(Emulator(folder or own, port=port))
        except BlockingIOError:
            raise ArgumentError(
                f"--dir {folder}: an emulator serves what is in it already", hint="end that one, or name another folder"
            ) from None
        except OSError as error:
            raise ArgumentError(f"--port {port}: {error.strerror}", hint="without --port it takes a free one") from None
        if env:
            for name, value in environment(facts).items():
                click.echo(f"export {name}={shlex.quote(value)}")
        else:
            click.echo(json.dumps(facts))
        sys.stdout.flush()
        signal.sigwait(ended)


@main.command()
def app() -> None:
    """Print the file for spark-submit: spark-submit $(aml-spark app) score …"""
    click.echo(Path(__file__).parents[1] / "__main__.py")
