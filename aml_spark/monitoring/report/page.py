"""A report as one HTML page: style, script and numbers stand in it, and it loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from datetime import timezone
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from aml_spark.monitoring.metric import Metric, Thresholds, in_time
from aml_spark.monitoring.performance import performance
from aml_spark.monitoring.report import findings, pictures

if TYPE_CHECKING:
    from aml_spark.monitoring.profiles.profile import Column, Profile
    from aml_spark.monitoring.report.report import Report

MOST_METRICS = 60_000
"""Values that a page holds; where there are more, those that breached and those of all rows come first."""
_SERIES = 40_000  # numbers of columns' quantiles by window
_OUTCOMES = 60


def html(report: Report) -> str:
    """The page. Names and values of the data stand in it as JSON in which no character means anything to HTML, and its
    script, whose digest the page's policy names, writes them as text.
    """
    parts = {name: files(__package__).joinpath(f"page.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    policy = "; ".join(
        [
            "default-src 'none'",
            *(f"{kind}-src '{_digest(parts[name])}'" for kind, name in (("style", "css"), ("script", "js"))),
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    told = json.dumps(content(report), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        told = told.replace(character, f"\\u{ord(character):04x}")
    filled = {
        "policy": escape(policy),
        "title": escape(f"{findings.verdict(report)} – {report.names[1]}"),
        "summary": escape(report.summary()),
        "style": parts["css"],
        "script": parts["js"],
        "content": told,
    }
    pieces = files(__package__).joinpath("page.html").read_text(encoding="utf-8").split("%%")
    page = "".join(filled[piece] if place % 2 else piece for place, piece in enumerate(pieces))
    return page.encode("utf-8", "replace").decode()  # half a surrogate pair is no text


def content(report: Report) -> dict[str, Any]:
    """All that the page shows, as JSON takes it: None for NaN, texts for infinities."""
    columns = report.columns
    windows = sorted({*(one.window for one in report.windows if one.window), *_places(report, "window")}, key=in_time)
    slices = list(
        dict.fromkeys([*(one.slice for one in report.slices if one.slice is not None), *_places(report, "slice")])
    )
    found = findings.findings(report)
    severity = {one.column: one.severity for one in found}
    return {
        "passed": report.passed,
        "verdict": findings.verdict(report),
        "findings": [{"column": one.column, "line": one.line()} for one in found],
        "remarks": findings.remarks(report),
        "names": report.names,
        "facts": _facts(report),
        "quantiles": pictures.QUANTILES,
        "windows": windows,
        "by": report.by,
        "slices": [[name, _rows(report.slices, name)] for name in slices],
        "weighted": report.importance is not None,
        "columns": [
            _column(report, name, windows, severity.get(name, 0.0), series=len(columns) * len(windows) * 4 <= _SERIES)
            for name in columns
        ],
        "metrics": _metrics(report, columns, windows, slices),
        "left_out": max(0, len(report.metrics_found) - MOST_METRICS),
        "performance": _performance(report),
    }


def _facts(report: Report) -> list[list[str]]:
    def told(name: str, profile: Profile) -> str:
        version = "" if profile.version is None else f", version {profile.version}"
        return f"{name}{version}, {profile.rows:,} row{'' if profile.rows == 1 else 's'}"

    made = report.made_at.astimezone(timezone.utc)
    facts = [
        ["Baseline", told(report.names[0], report.baseline)],
        ["Target", told(report.names[1], report.target)],
        ["Made", f"{made:%Y-%m-%d %H:%M} UTC"],
        ["Report", report.id],
    ]
    return facts if report.model is None else [*facts[:2], ["Model", report.model], *facts[2:]]


def _places(report: Report, name: str) -> list[str]:
    return [place for metric in report.metrics_found if (place := getattr(metric, name)) is not None]


def _rows(profiles: Sequence[Profile], name: str) -> int | None:
    found = [one.rows for one in profiles if one.slice == name and one.window is None]
    return sum(found) if found else None


def _column(report: Report, name: str, windows: Sequence[str], severity: float, *, series: bool) -> dict[str, Any]:
    both = [profile.columns.get(name) for profile in (report.baseline, report.target)]
    there = [column for column in both if column is not None]
    notes = list(dict.fromkeys(column.note for column in there if column.note))
    told: dict[str, Any] = {
        "name": name,
        "types": [None if column is None else column.type for column in both],
        "kind": there[-1].kind if there else "measured",
        "bars": _plain(pictures.bars(both[0], both[1])),
        "stats": [None if column is None else _stats(column) for column in both],
        "severity": _plain(severity),
        "notes": notes,
    }
    if report.importance is not None:
        told["importance"] = _plain(report.importance.get(name))
    if series and windows:
        told["series"] = [_window(report.windows, name, window) for window in windows]
    return told


def _stats(column: Column) -> dict[str, Any]:
    numeric = column.histogram.total > 0
    frequencies = column.frequencies
    told: dict[str, Any] = _plain(
        {
            "rows": column.rows,
            "nulls": column.nulls,
            "nans": column.nans,
            "infinities": column.positive_infinities + column.negative_infinities,
            "missing": column.missing / column.rows if column.rows else None,
            "mean": column.mean if numeric else None,
            "deviation": column.deviation if numeric else None,
            "min": column.min if numeric else None,
            "quantiles": pictures.quantiles(column.histogram) if numeric else None,
            "max": column.max if numeric else None,
            "distinct": None if frequencies is None else frequencies.distinct or len(frequencies.counts),
        }
    )
    return told


def _window(profiles: Sequence[Profile], name: str, window: str) -> Any:
    """5 %, median, 95 % and the share that is missing, of a column in a window."""
    for profile in profiles:
        if profile.window == window and profile.slice is None and (column := profile.columns.get(name)) is not None:
            numbers = [column.histogram.quantile(share) for share in (0.05, 0.5, 0.95)]
            return _plain([*numbers, column.missing / column.rows if column.rows else None])
    return None


def _metrics(report: Report, columns: list[str], windows: list[str], slices: list[str]) -> dict[str, Any]:
    """By field a list; fields that repeat are places in a list of names."""
    kept = list(report.metrics_found)
    if len(kept) > MOST_METRICS:
        kept = sorted(kept, key=lambda it: (not it.breached, it.slice is not None, it.window is not None))[
            :MOST_METRICS
        ]
    names: dict[str, dict[str, int]] = {"metric": {}, "note": {}, "signal": {}}
    known = {"column": columns, "window": windows, "slice": slices}
    places: dict[str, dict[str, int]] = {field: {one: at for at, one in enumerate(of)} for field, of in known.items()}

    def coded(field: str) -> Callable[[Metric], int | None]:
        of = places.get(field) or names.get(field, {})
        return lambda metric: None if (value := getattr(metric, field)) is None else of.setdefault(value, len(of))

    told: dict[str, Any] = {field: [*map(coded(field), kept)] for field in (*known, *names)}
    told |= {field: [_plain(getattr(metric, field)) for metric in kept] for field in ("value", "threshold", "bound")}
    told["breached"] = [int(metric.breached) for metric in kept]
    told["excess"] = [_plain(findings.excess(metric)) for metric in kept]
    return {**told, "names": {field: list(of) for field, of in names.items()}}


def _performance(report: Report) -> dict[str, Any] | None:
    if not report.outcomes:
        return None
    before = report.baseline_outcome
    outcomes = report.outcomes[:_OUTCOMES]
    found: dict[str, Any] = {
        "task": outcomes[0].task,
        "outcomes": [_plain({"slice": it.slice, "window": it.window, **pictures.of_outcome(it)}) for it in outcomes],
        "left_out": len(report.outcomes) - len(outcomes),
    }
    if before is not None:
        values = {one.metric: one.value for one in performance.measured(before, Thresholds(None, {}))}
        found["baseline"] = _plain({**pictures.of_outcome(before), "values": values})
    if outcomes[0].task == "regression":
        found["residuals"] = _plain(pictures.of_numbers([before.residuals if before else None, outcomes[0].residuals]))
    return found


def _plain(value: Any) -> Any:
    """As JSON takes it, with numbers to nine digits that count."""
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        short = float(f"{value:.9g}")
        return int(short) if short.is_integer() and abs(short) < 1e15 else short
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
