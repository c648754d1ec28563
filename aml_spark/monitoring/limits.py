"""What metrics are held against by default or as the user says, and what of that couldn't be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from aml_spark.monitoring.drift import drift
from aml_spark.monitoring.metric import Metric, Signal, Thresholds
from aml_spark.monitoring.performance import estimation, performance
from aml_spark.monitoring.quality import quality

WHOLE: tuple[str, ...] = ("weighted_drift", "duplicate_rate", "freshness_hours", "row_count_change")
WHOLE += (*performance.THRESHOLDS, *estimation.METRICS)
"""Metrics that no column has."""
_STANDS_ON = {
    "duplicate_rate": "key",
    "freshness_hours": "time_column",
    "weighted_drift": "model",
    **dict.fromkeys(performance.THRESHOLDS, "label"),
}


def limits_of(
    given: Mapping[str, float | Mapping[str, float | None] | None] | None, expectations: Mapping[str, str] | None
) -> Thresholds:
    """All thresholds, of `monitor`'s arguments `thresholds` and `expectations`.

    Raises:
        ArgumentError: they can't be meant.
    """
    expected = [f"expectation:{name}" for name in expectations or ()]
    defaults = {
        **drift.THRESHOLDS,
        **quality.defaults(expectations or ()),
        **performance.THRESHOLDS,
        **dict.fromkeys(estimation.METRICS, None),
    }
    return Thresholds(given, defaults, [*WHOLE, *expected])


def with_unheld(metrics: Sequence[Metric], limits: Thresholds, given: Mapping[str, bool]) -> Iterator[Metric]:
    """Metrics, and what the user gave a threshold for of which no value could be told.

    Args:
        metrics: all that was measured.
        limits: all thresholds.
        given: whether `monitor`'s arguments `key`, `time_column`, `model` and `label` are there.
    """
    reasons: dict[tuple[str, str | None], str] = {}
    for name, column in limits.given:
        found = [one for one in metrics if one.metric == name and column in (None, one.column)]
        told = any(one.unheld or one.breached or not math.isnan(one.value) for one in found)
        if limits.of(name, column) is not None and not told:
            noted = next((one.note for one in found if one.note), None)
            reasons[name, column] = noted or _why_not(name, column, given)
    for one in metrics:
        is_whole = one.slice is None and one.window is None
        why = reasons.pop((one.metric, one.column), None) if is_whole else None
        yield replace(one, unheld=why) if why else one
    for (name, column), why in reasons.items():
        yield Metric(
            signal=_signal(name),
            metric=name,
            value=math.nan,
            column=column,
            threshold=limits.of(name, column),
            note=why,
            unheld=why,
        )


def _why_not(metric: str, column: str | None, given: Mapping[str, bool]) -> str:
    needed = _STANDS_ON.get(metric)
    if needed is not None and not given[needed]:
        return f"{needed}= isn't given"
    return "it isn't measured of such a column" if column is not None else "it isn't measured of such a table"


def _signal(metric: str) -> Signal:
    if metric in performance.THRESHOLDS or metric in estimation.METRICS:
        return "performance"
    return "drift" if metric in drift.THRESHOLDS or metric == "weighted_drift" else "quality"
