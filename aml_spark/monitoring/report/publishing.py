"""Where a report goes: a Delta table of metrics, and an MLflow run with its model's version."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from aml_spark import table, writer
from aml_spark.datalake import reach
from aml_spark.errors import ArgumentError, ConflictError, TargetError, listed
from aml_spark.monitoring.metric import in_time
from aml_spark.monitoring.profiles import kept
from aml_spark.monitoring.report import findings
from aml_spark.session import active_session
from aml_spark.table import Table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from aml_spark.monitoring.metric import Metric
    from aml_spark.monitoring.report.report import Report

SCHEMA: Mapping[str, tuple[str, str]] = {
    "report_id": ("STRING", "the report that the row is of"),
    "made_at": ("TIMESTAMP", "when it was made"),
    "baseline": ("STRING", "name of the baseline"),
    "baseline_version": ("BIGINT", "its Delta version"),
    "target": ("STRING", "name of the target"),
    "target_version": ("BIGINT", "its Delta version"),
    "model": ("STRING", "the model that the target is of"),
    "column": ("STRING", "of which column; null: of the whole table"),
    "metric": ("STRING", "name of the metric"),
    "value": ("DOUBLE", "null where none can be told; note says why"),
    "threshold": ("DOUBLE", "what the value is held against"),
    "breached": ("BOOLEAN", "whether it fails"),
    "slice": ("STRING", "value of the column that by= names; null: of all rows"),
    "note": ("STRING", "what one should know to read the value"),
    "signal": ("STRING", "drift, quality or performance"),
    "window": ("STRING", "start of the time window, ISO 8601; null: of all time"),
    "bound": ("DOUBLE", "how far the value may lie from that of all rows one by one"),
}
"""Columns of the table of metrics: type and comment."""

PASSED = "aml_spark.monitoring.passed"
VERDICT = "aml_spark.monitoring.verdict"
BASELINE = "aml_spark.monitoring.baseline"
TARGET = "aml_spark.monitoring.target"
REPORT_ID = "aml_spark.monitoring.report_id"
MADE_AT = "aml_spark.monitoring.made_at"
RUN_ID = "aml_spark.monitoring.run_id"

_TRIES = 5
_BATCH = 250  # Azure's limit of rows in a request; MLflow's own is 1000
_NAMES_OF_AZURE = 50  # metrics of a run, https://learn.microsoft.com/azure/machine-learning/resource-limits-capacity
_MOST = 10_000  # values on a run
_LONGEST_NAME = 250
_LONGEST_TAG = 1000  # Azure's; MLflow's own is 8000
_VERSION = re.compile(r"models:/(?P<name>[^/@]+)/(?P<version>\d+)")
_logger = logging.getLogger(__name__)


def append(report: Report, text: str, spark: SparkSession | None) -> None:
    """Add a report's metrics to a Delta table; see `Report.to_delta`."""
    session = spark or active_session()
    if session is None:
        raise ArgumentError("there is no Spark session in this process", hint="report.to_delta(table, spark=spark)")
    place = Table.of(reach(session, text))
    columns = ", ".join(f"{table.quoted(name)} {kind} COMMENT '{comment}'" for name, (kind, comment) in SCHEMA.items())
    writer.create(session, place, columns)
    try:
        has = session.sql(f"SELECT * FROM {place.sql} LIMIT 0").columns
    except Exception as error:  # Spark's, and Java's own of the storage
        raise writer.write_error(place, error) from None
    if lacking := [name for name in SCHEMA if name not in has]:
        raise TargetError(
            f"{text!r} is another table: it lacks {listed(lacking)}", hint="name a table for metrics alone"
        )
    schema = ", ".join(f"{table.quoted(name)} {kind}" for name, (kind, _) in SCHEMA.items())
    df = session.createDataFrame(list(_rows(report)), schema)
    for attempt in range(_TRIES):
        try:
            if place.is_path:
                df.write.format("delta").mode("append").save(place.text)
            else:
                df.writeTo(place.sql).append()
            return
        except Exception as error:  # Spark's, and Java's own of the storage
            failed = writer.write_error(place, error)
            # Rows that are only added are in nobody's way.
            if not isinstance(failed, ConflictError) or attempt == _TRIES - 1:
                raise failed from None


def _rows(report: Report) -> Iterator[tuple[Any, ...]]:
    names = report.names
    of_all = (report.id, report.made_at, names[0], report.baseline.version, names[1], report.target.version)
    for metric in report.metrics_found:
        yield (
            *of_all,
            report.model,
            metric.column,
            metric.metric,
            metric.value if metric.value == metric.value else None,  # Spark takes NaN for the greatest of numbers
            metric.threshold,
            metric.breached,
            metric.slice,
            metric.note,
            metric.signal,
            metric.window,
            metric.bound,
        )


def log(report: Report) -> str:
    """Put a report on a run and its verdict on the model's version; see `Report.log`."""
    import mlflow

    active = mlflow.active_run()
    with contextlib.nullcontext(active) if active else mlflow.start_run(run_name="monitoring") as run:
        run_id = str(run.info.run_id)
        of_azure = mlflow.get_tracking_uri().startswith("azureml")
        there = mlflow.get_run(run_id).data.metrics if of_azure else ()
        metrics = _logged(report, there, _NAMES_OF_AZURE if of_azure else None)
        client = mlflow.MlflowClient()
        for start in range(0, len(metrics), _BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
        tags = _tags(report)
        mlflow.set_tags(tags)
        mlflow.log_text(report.to_html() or "", "monitoring/report.html")
        profiles = {"baseline": [report.baseline], "target": [report.target, *report.slices, *report.windows]}
        for name, told in profiles.items():
            mlflow.log_text(kept.to_json(told), f"monitoring/{name}.json")
        mlflow.log_text(report.metrics.to_csv(index=False), "monitoring/metrics.csv")
    if found := _VERSION.fullmatch(report.model or ""):
        try:
            for name, value in {**tags, RUN_ID: run_id}.items():
                client.set_model_version_tag(found["name"], found["version"], name, value)
        except Exception as error:  # the run has the report: no registry may turn that into a failure
            _logger.warning("the registry took no tags for %s (%s)", report.model, type(error).__name__)
    return run_id


def _tags(report: Report) -> dict[str, str]:
    tags = {
        PASSED: str(report.passed).lower(),
        VERDICT: findings.verdict(report),
        BASELINE: _versioned(report.names[0], report.baseline.version),
        TARGET: _versioned(report.names[1], report.target.version),
        REPORT_ID: report.id,
        MADE_AT: report.made_at.astimezone(timezone.utc).isoformat(timespec="seconds"),
    }
    return {name: value[:_LONGEST_TAG] for name, value in tags.items()}


def _versioned(name: str, version: int | None) -> str:
    return name if version is None else f"{name} (version {version})"


def _logged(report: Report, there: Iterable[str], most_names: int | None) -> list[Any]:
    """The values that go on the run, what matters first. Names that are there already take no room."""
    from mlflow.entities import Metric as Logged

    known_windows = {metric.window for metric in report.metrics_found if metric.window is not None}
    windows = sorted(known_windows, key=in_time)
    steps = {window: step for step, window in enumerate(windows)}
    now = int(report.made_at.timestamp() * 1000)
    names: dict[tuple[str | None, ...], str] = {}
    used: set[str] = set()
    on_run = set(there)
    found: list[Any] = []
    known = [metric for metric in report.metrics_found if abs(metric.value) < float("inf")]
    left_out = 0
    for metric in sorted(known, key=_urgency):
        # A series of windows is a metric of its own: beside the value of all time, a step would stand for both.
        key = (metric.signal, metric.column, metric.metric, metric.slice, None if metric.window is None else "windows")
        if key not in names:
            names[key] = _name(metric, used)
        is_full = most_names is not None and names[key] not in on_run and len(on_run) >= most_names
        if len(found) >= _MOST or is_full:
            left_out += 1
            continue
        on_run.add(names[key])
        time = now if metric.window is None else _milliseconds(metric.window, now)
        found.append(Logged(names[key], metric.value, time, steps.get(metric.window or "", 0)))
    if left_out:
        _logger.warning("%d of %d values aren't on the run, but in its monitoring/metrics.csv", left_out, len(known))
    return found


def _urgency(metric: Metric) -> tuple[bool, bool, bool, bool]:
    return (
        not metric.breached,
        metric.threshold is None,
        metric.column is not None,
        metric.slice is not None or metric.window is not None,
    )


def _name(metric: Metric, used: set[str]) -> str:
    """A metric's name that MLflow takes, and that no other one has."""
    parts = [metric.signal, metric.column, metric.metric]
    whole = ".".join(re.sub(r"[^\w.\- ]", "_", part) for part in parts if part is not None)
    if metric.window is not None:
        whole += ".windows"
    if metric.slice is not None:
        whole = (re.sub(r"[^\w\- ]", "_", metric.slice) or "_") + "/" + whole
    if whole in used or len(whole) > _LONGEST_NAME:
        digest = hashlib.sha256(repr((*parts, metric.slice)).encode()).hexdigest()[:8]
        whole = f"{whole[: _LONGEST_NAME - 9]}_{digest}"
    used.add(whole)
    return whole


def _milliseconds(window: str, default: int) -> int:
    try:
        start = datetime.fromisoformat(window)
    except ValueError:
        return default
    found = int((start if start.tzinfo else start.replace(tzinfo=timezone.utc)).timestamp() * 1000)
    return max(found, 0)  # MLflow knows no time before 1970
