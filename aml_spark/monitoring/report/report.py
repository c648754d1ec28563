"""What monitoring found: a value that is read, kept in a table, shown as a page and logged on a run."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from aml_spark.addresses import masked
from aml_spark.errors import ArgumentError
from aml_spark.monitoring.metric import Metric
from aml_spark.monitoring.profiles.profile import Profile
from aml_spark.monitoring.report import findings, page, publishing

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import SparkSession

    from aml_spark.monitoring.performance.outcome import Outcome

_FRAME = ("column", "metric", "value", "threshold", "breached", "slice", "note", "signal", "window", "bound")
_ROWS = 30  # of a table in a terminal
_NOTEBOOK_ROWS = 15


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """A target held against a baseline.

    Args:
        metrics_found: all that was measured.
        baseline: the baseline's profile.
        target: the target's profile, of all its rows.
        slices: the target's, one for each value of the column that `by=` names.
        by: that column.
        windows: the target's, one for each time window.
        outcomes: predictions held against labels: of all rows, by slice and by window.
        baseline_outcome: the same of the baseline's rows.
        importance: of columns, where the model tells it.
        model: `models:/name/version`, or another address of the model.
        baseline_name: how the page calls it; its table where None.
        target_name: in the same way.
        made_at: when, with a time zone.
        id: of this report, by which its rows in a table are found.
    """

    metrics_found: tuple[Metric, ...]
    baseline: Profile
    target: Profile
    slices: tuple[Profile, ...] = ()
    by: str | None = None
    windows: tuple[Profile, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    baseline_outcome: Outcome | None = None
    importance: Mapping[str, float] | None = None
    model: str | None = None
    baseline_name: str | None = None
    target_name: str | None = None
    made_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def passed(self) -> bool:
        """Whether nothing breached, in all rows and in each slice and window."""
        return not any(metric.breached for metric in self.metrics_found)

    @property
    def columns(self) -> list[str]:
        """The names of all columns that something is known of: the baseline's, the target's and others."""
        measured = (metric.column for metric in self.metrics_found if metric.column is not None)
        return list(dict.fromkeys([*self.baseline.columns, *self.target.columns, *measured]))

    @property
    def names(self) -> tuple[str, str]:
        """What baseline and target are called."""
        return (
            self.baseline_name or self.baseline.source or "baseline",
            self.target_name or self.target.source or "target",
        )

    @property
    def metrics(self) -> pd.DataFrame:
        """All that was measured, a row each.

        Its columns are column, metric, value, threshold, breached, slice, note, signal, window and bound. Column,
        slice, window and note are None where there is none, and threshold is NaN. A value is NaN where it can't be
        told, and its note says why. `aml_spark.monitoring.metric.Metric` says what each means.
        """
        import pandas as pd

        kinds = {"value": "float64", "threshold": "float64", "bound": "float64", "breached": "bool"}
        return pd.DataFrame(
            {
                name: pd.Series(
                    [getattr(metric, name) for metric in self.metrics_found], dtype=kinds.get(name, "object")
                )
                for name in _FRAME
            }
        )

    def summary(self, *, values: bool = True) -> str:
        """What breached, in plain words: the verdict and a line for each column, the worst first.

        What couldn't be compared follows, with the reason.

        Args:
            values: whether categories, slices, least and greatest numbers may stand in it, which are values of rows.
        """
        lines = [one.line(values=values) for one in findings.findings(self)] + findings.remarks(self, values=values)
        return "\n".join([findings.verdict(self), *(f"- {text}" for text in lines)])

    def __str__(self) -> str:
        """The verdict and a table for a terminal: what breached, or what came closest to its threshold."""
        chosen = self._worst()
        rows = [
            (
                "✗" if metric.breached else "",
                metric.column or "",
                findings.comparison(metric),
                " ".join(filter(None, (metric.slice, metric.window))),
            )
            for metric in chosen[:_ROWS]
        ]
        printable = [[_printable(cell) for cell in row] for row in rows]
        widths = [max((len(row[place]) for row in printable), default=0) for place in range(3)]
        lines = [f"{self.names[1]} against {self.names[0]}. {findings.verdict(self)}"]
        for row in printable:
            lines.append("  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]]))
        if len(chosen) > _ROWS:
            lines.append(f"and {len(chosen) - _ROWS} more, in report.metrics")
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        """The verdict and a small table for a notebook."""
        found = findings.findings(self)
        rows = "".join(
            f"<tr><td style='text-align:left'>{'✗' if metric.breached else '✓'} {escape(metric.column or '')}</td>"
            f"<td style='text-align:left'>{escape(findings.comparison(metric))}</td>"
            f"<td style='text-align:left'>{escape(' '.join(filter(None, (metric.slice, metric.window))))}</td></tr>"
            for metric in self._worst()[:_NOTEBOOK_ROWS]
        )
        told = "".join(f"<li>{escape(one.line())}</li>" for one in found[:5])
        names = escape(f"{self.names[1]} against {self.names[0]}")
        return (
            f"<div><p><strong>{escape(findings.verdict(self))}</strong><br>{names}</p><ul>{told}</ul><table><thead><tr>"
            f"<th style='text-align:left'>Column</th><th style='text-align:left'>Metric</th><th></th></tr></thead>"
            f"<tbody>{rows}</tbody></table><p>report.to_html('report.html') writes the whole page.</p></div>"
        )

    def _worst(self) -> list[Metric]:
        """What breached, worst first; where nothing did, what came closest to its threshold in all rows."""
        breached = [metric for metric in self.metrics_found if metric.breached]
        held = [metric for metric in self.metrics_found if findings.excess(metric) >= 0]
        held = [metric for metric in held if metric.slice is None and metric.window is None]
        return sorted(breached or held, key=findings.excess, reverse=True)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str | None:
        """One page that needs nothing beside it, and no network.

        Args:
            path: the file to write, on this machine or a mounted one; its folder is made where it isn't there.

        Returns:
            The page's HTML where no path is given.

        Raises:
            ArgumentError: the path is an address, or can't be written.
        """
        if path is None:
            return page.html(self)
        if "://" in os.fspath(path):
            raise ArgumentError(
                f"path is {masked(os.fspath(path))!r}; expected one of this machine",
                hint="report.log() puts the page on the active MLflow run",
            )
        file, text = Path(path).expanduser(), page.html(self)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ArgumentError(
                f"the page can't be written to {os.fspath(path)!r}: {error.strerror}",
                hint="give a file in a folder that this user may write in, such as 'report.html'",
            ) from error
        return None

    def to_delta(self, table: str, *, spark: SparkSession | None = None) -> None:
        """Append all that was measured to a Delta table, which is made where it isn't there; see `publishing.SCHEMA`.

        Each row carries the report's id, its time, the names and versions of baseline and target, and the model. Jobs
        that append at the same time don't disturb each other.

        Args:
            table: its name, path or URI.
            spark: the session; the active one where None.

        Raises:
            ArgumentError: there is no session, or the text is neither a name nor a path.
            TargetError: a table with other columns is there.
            TableError: it can't be written.
        """
        publishing.append(self, table, spark)

    def log(self) -> str:
        """Put the report on the active MLflow run, or on a new one where none is active.

        Metrics are `drift.<column>.<metric>` and so on, those of a slice below its value: `JFK/drift.…`; windows are
        their steps, those that begin before 1970 at the time 0, which is MLflow's first. What MLflow takes in no name
        becomes `_`. A workspace of Azure takes 50 names a run, its own ones and an earlier report's among them; those
        that are on it already get a new value. Other places get 10,000 values. What breached comes first, then what has
        a threshold. All of it stands in `monitoring/metrics.csv`, beside `report.html` and the profiles in
        `baseline.json` and `target.json`, which `kept.from_json` reads.

        The run is tagged with the verdict, and so is the model's version where the report's model is `models:/name/3`;
        a registry that refuses is a warning in the log.

        Returns:
            The run's id.
        """
        return publishing.log(self)


def _printable(text: str) -> str:
    """A name from the data, which mustn't move a terminal's cursor."""
    return "".join(one if one.isprintable() else "�" for one in text)
