"""The commands `aml-spark monitor` and `aml-spark monitor-schedule …`."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aml_spark.cli.terminal import (
    IN_WORKSPACE,
    WORKSPACE_HELP,
    chosen,
    configured,
    pairs,
    print_facts,
    print_table,
    start_spark,
)
from aml_spark.errors import ArgumentError

if TYPE_CHECKING:
    from azure.ai.ml.entities import MonitorSchedule

    from aml_spark.monitoring.report.report import Report
    from aml_spark.monitoring.schedule.config import MonitorConfig

BREACH = 3
"""Exit code where monitoring found a breach."""
_CONFIG = click.Path(dir_okay=False, path_type=Path)
_ROWS = ("source", "version", "where", "since", "until")
_MOST_ROWS = 30  # that a terminal shows
_SIDES = ("baseline", "target")
_LISTS = ("columns", "key")
# Options that aren't arguments of `monitor`, or become others.
_OTHERS = {
    *("expect", "threshold", "html", "to_delta", "log"),
    *(f"{side}_{name}" for side in _SIDES for name in _ROWS),
    *_SIDES,
}


@click.command()
@click.option("--baseline", help="What the target is compared with: a Delta table's name, path or URI.")
@click.option("--baseline-version", type=click.IntRange(min=0), help="Version of that table. Default: the newest.")
@click.option("--baseline-where", help="SQL condition; the baseline's other rows are left out.")
@click.option("--baseline-since", help="First moment of the baseline by its time column, such as 2013-01-01.")
@click.option("--baseline-until", help="Moment before which the baseline's time is.")
@click.option("--target", help="What is looked at: a Delta table's name, path or URI.")
@click.option("--target-version", type=click.IntRange(min=0), help="Version of that table. Default: the newest.")
@click.option("--target-where", help="SQL condition; the target's other rows are left out.")
@click.option("--target-since", help="First moment of the target by its time column.")
@click.option("--target-until", help="Moment before which the target's time is.")
@click.option("--model", help="Address of the model: models:/name@alias, models:/name/3, runs:/…")
@click.option("--label", help="Column with what was true.")
@click.option("--prediction", help="Column with what the model said.")
@click.option("--labels", help="Table with the key and the label, where labels come later.")
@click.option("--task", type=click.Choice(["classification", "regression"]), help="Default: as labels look.")
@click.option("--decision", type=float, help="Score from which on a row is taken for the second class.")
@click.option("--exact/--not-exact", default=None, help="A second pass makes the distances exact.")
@click.option("--compat", type=click.Choice(["azureml"]), help="Count as Azure Machine Learning does.")
@click.option("--column", "columns", multiple=True, help="Column to look at; may be repeated. Default: all.")
@click.option("--by", help="Column whose values are looked at one by one, too.")
@click.option("--time-column", help="Column that says when a row was made.")
@click.option(
    "--window",
    type=click.Choice(["hour", "day", "week", "month", "quarter", "year"]),
    help="Length of the windows of time that are looked at one by one, too.",
)
@click.option("--key", multiple=True, help="Column that identifies a row; may be repeated.")
@click.option(
    "--expect", multiple=True, metavar="NAME=SQL", help="Condition that each row is to meet; may be repeated."
)
@click.option(
    "--threshold",
    multiple=True,
    metavar="[COLUMN:]METRIC=NUMBER",
    help="What a metric is held against; `none` only shows it. May be repeated.",
)
@click.option("--profiles", help="Delta table in which the profiles of baselines are kept.")
@click.option("--on-breach", metavar="URL", help="Is told of a breach by a POST.")
@click.option("--html", type=click.Path(dir_okay=False), help="File for the report's page.")
@click.option("--to-delta", metavar="TABLE", help="Delta table to which the metrics are appended.")
@click.option("--log/--no-log", default=None, help="Log the report to MLflow.")
@click.option("--config", type=_CONFIG, help="A file such as conf/monitor.toml. Options go before what it says.")
@click.option("--workspace", help=f"{WORKSPACE_HELP} Default: the environment, config.json, ./mlworkspace.")
@click.option("--master", help="Where Spark runs. Default: local[*], or what spark-submit says.")
@click.option("--conf", multiple=True, metavar="KEY=VALUE", help="Spark setting; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.pass_context
def monitor(
    ctx: click.Context,
    /,
    config: Path | None,
    workspace: str | None,
    master: str | None,
    conf: Sequence[str],
    as_json: bool,
    **options: Any,
) -> None:
    """Compare a Delta table with a baseline: drift, quality and performance.

    The exit code is 3 where something breached its threshold.
    """
    from aml_spark.monitoring.limits import limits_of
    from aml_spark.monitoring.monitor import monitor as run
    from aml_spark.monitoring.schedule.config import MonitorConfig, read

    given = MonitorConfig(file="") if config is None else read(config)
    settings = dict(pairs("--conf", conf))
    where = _where(given, options)
    rows = {side: _rows(side, given, options) for side in _SIDES}
    arguments = _arguments(given, options)
    limits_of(arguments.get("thresholds"), arguments.get("expectations"))  # before Spark starts for nothing
    places = [place for place in (*(each.source for each in rows.values()), arguments.get("labels")) if place]
    places += [place for place in (arguments.get("profiles"), where.get("delta")) if place]
    in_workspace = workspace is not None or bool(arguments.get("model") or where.get("log"))
    in_workspace |= any(place.lower().startswith("azureml:") for place in places)
    # To look at tables alone makes no workspace.
    with configured(workspace, model=arguments.get("model")) if in_workspace else contextlib.nullcontext():
        spark = start_spark("aml-spark monitor", master, settings, uris=places)
        report = run(spark, **rows, **arguments)
        kept: dict[str, Any] = {}
        try:
            if where.get("html"):
                report.to_html(where["html"])
                kept["html"] = where["html"]
            if where.get("delta"):
                report.to_delta(where["delta"], spark=spark)
                kept["delta"] = where["delta"]
            if where.get("log"):
                kept["log"] = report.log()
        finally:  # what was found is told, also where it can't be kept
            _print(report, kept, as_json)
    ctx.exit(0 if report.passed else BREACH)


def _rows(side: str, given: MonitorConfig, options: Mapping[str, Any]) -> Any:
    """A table, and what is taken of it; an option that names another table leaves the file's conditions behind."""
    from aml_spark.monitoring.selection import Selection

    asked = {name: options[side if name == "source" else f"{side}_{name}"] for name in _ROWS}
    asked = {name: value for name, value in asked.items() if value is not None}
    of_file = {} if "source" in asked else dict(getattr(given, side) or {})
    rows = {**of_file, **asked}
    if "source" not in rows:
        raise ArgumentError(
            f"--{side} is missing" + (f", and {given.file!r} has no [{side}]" if given.file else ""),
            hint=f'--{side} <table>, or --config with [{side}] and source = "<table>"',
        )
    return Selection(rows.pop("source"), **rows)


def _arguments(given: MonitorConfig, options: Mapping[str, Any]) -> dict[str, Any]:
    """All others of `monitor`: what the file says, and the options that go before it."""
    found = dict(given.arguments)
    for name, value in options.items():
        if name not in _OTHERS and value not in (None, ()):
            found[name] = list(value) if name in _LISTS else value
    if found.get("on_breach") == "raise":
        raise ArgumentError("on_breach is 'raise', which is for Python", hint="leave it out: the exit code is 3 then")
    if expected := dict(pairs("--expect", options["expect"], "NAME=SQL")):
        for name, condition in expected.items():
            if name.endswith(("<", ">", "!", "=")) or condition.startswith("="):
                raise click.BadParameter(
                    f"{name}={condition}: expected NAME=SQL, such as 'it is positive=distance >= 0'",
                    param_hint="--expect",
                )
        found["expectations"] = {**found.get("expectations", {}), **expected}
    for name, value in _thresholds(options["threshold"]):
        of_file = found.get("thresholds", {})
        merged = (
            {**of_file[name], **value} if isinstance(value, dict) and isinstance(of_file.get(name), dict) else value
        )
        found["thresholds"] = {**of_file, name: merged}
    return found


def _thresholds(entries: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for name, text in pairs("--threshold", entries, "[COLUMN:]METRIC=NUMBER", last=True):
        try:
            value = None if text.strip() == "none" else float(text)
        except ValueError:
            raise click.BadParameter(f"{name}={text}: expected a number, or none", param_hint="--threshold") from None
        column, _, metric = ("", "", name) if name.startswith("expectation:") else name.rpartition(":")
        yield (column, {metric: value}) if column else (metric, value)


def _where(given: MonitorConfig, options: Mapping[str, Any]) -> dict[str, Any]:
    asked = {"html": options["html"], "delta": options["to_delta"], "log": options["log"]}
    return {**(given.report or {}), **{name: value for name, value in asked.items() if value is not None}}


def _print(report: Report, where: Mapping[str, Any], as_json: bool) -> None:
    metrics = report.metrics
    if as_json:
        # As pandas writes it, NaN is null and infinity, too, which JSON hasn't.
        found = json.loads(metrics.to_json(orient="records", double_precision=15))
        told = {"passed": report.passed, "breaches": int(metrics["breached"].sum()), "summary": report.summary()}
        left = {"html": where.get("html"), "delta": where.get("delta"), "run_id": where.get("log")}
        click.echo(json.dumps({**told, **left, "metrics": found}))
        return
    breached = metrics[metrics["breached"].astype(bool)]
    if len(breached):
        names = ("column", "metric", "value", "threshold", "slice", "window", "note")
        is_part = breached[["slice", "window"]].notna().any(axis=1)
        chosen = breached.loc[is_part.sort_values(kind="stable").index[:_MOST_ROWS], list(names)]
        print_table(names, ([_cell(value) for value in row] for row in chosen.itertuples(index=False)))
        if len(breached) > _MOST_ROWS:
            click.echo(f"and {len(breached) - _MOST_ROWS} more: --html and --json have them")
        click.echo()
    click.echo(report.summary())
    for name in ("html", "delta"):
        if where.get(name):
            click.echo(f"report: {where[name]}", err=True)
    if where.get("log"):
        click.echo(f"report: MLflow's run {where['log']}", err=True)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return value


@click.group("monitor-schedule")
def monitor_schedule() -> None:
    """Monitors that Azure Machine Learning runs on a schedule, of the same file."""


_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the monitor as one JSON object.")
_NO_WAIT = click.option("--no-wait", is_flag=True, help="Come back while Azure works on it.")


@monitor_schedule.command("create")
@click.option("--config", type=_CONFIG, required=True, help="A file such as conf/monitor.toml.")
@_NO_WAIT
@IN_WORKSPACE
@_AS_JSON
def schedule_create(config: Path, no_wait: bool, workspace: str | None, as_json: bool) -> None:
    """Make a monitor of a file's [schedule], [alert] and [azure], or change the one of that name."""
    from aml_spark.monitoring.schedule import schedule

    with chosen(workspace) as of:
        made = schedule.create_monitor(config, workspace=of, wait=not no_wait)
    _print_monitor(made, as_json)


@monitor_schedule.command("list")
@IN_WORKSPACE
@click.option("--json", "as_json", is_flag=True, help="Print the monitors as one JSON object.")
def schedule_list(workspace: str | None, as_json: bool) -> None:
    """The workspace's monitors."""
    from aml_spark.monitoring.schedule import schedule

    with chosen(workspace) as of:
        rows = [schedule.facts(one) for one in schedule.listed(of)]
    if as_json:
        click.echo(json.dumps({"monitors": rows}))
        return
    names = ("name", "state", "enabled", "when", "deployment")
    print_table(names, ([row[name] for name in names] for row in rows))


@monitor_schedule.command("show")
@click.argument("name")
@IN_WORKSPACE
@_AS_JSON
def schedule_show(name: str, workspace: str | None, as_json: bool) -> None:
    """One monitor."""
    from aml_spark.monitoring.schedule import schedule

    with chosen(workspace) as of:
        _print_monitor(schedule.show(name, of), as_json)


@monitor_schedule.command("delete")
@click.argument("name")
@_NO_WAIT
@IN_WORKSPACE
def schedule_delete(name: str, no_wait: bool, workspace: str | None) -> None:
    """Delete a monitor; what it found stays."""
    from aml_spark.monitoring.schedule import schedule

    with chosen(workspace) as of:
        schedule.delete(name, workspace=of, wait=not no_wait)
    click.echo(f"{name}: {'is being deleted' if no_wait else 'deleted'}", err=True)


def _print_monitor(of: MonitorSchedule, as_json: bool) -> None:
    from aml_spark.monitoring.schedule import schedule

    facts = schedule.facts(of)
    if as_json:
        click.echo(json.dumps(facts))
        return
    print_facts({name: ", ".join(value) or None if isinstance(value, list) else value for name, value in facts.items()})
