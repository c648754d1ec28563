"""Reports made up from arrays, without Spark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

from aml_spark.monitoring.metric import Metric
from aml_spark.monitoring.performance.outcome import BINS, Calibration, Moments, Outcome, Scores
from aml_spark.monitoring.profiles.frequencies import Frequencies
from aml_spark.monitoring.profiles.histogram import Histogram
from aml_spark.monitoring.profiles.profile import Column, Profile
from aml_spark.monitoring.report.report import Report

MADE_AT = datetime(2026, 11, 26, 12, 30, tzinfo=timezone.utc)


def column(name: str, values: Any, *, missing: int = 0, type_name: str | None = None) -> Column:
    """A column of these values, beside so many nulls."""
    values = np.asarray(values)
    rows = len(values) + missing
    if values.dtype.kind in "UO":
        counts = dict(Counter(str(value) for value in values))
        lengths = Histogram.of([len(str(value)) for value in values])
        told = Frequencies(counts=counts, distinct=len(counts))
        return Column(
            name=name, type="string", kind="text", rows=rows, nulls=missing, histogram=lengths, frequencies=told
        )
    numbers = values.astype(float)
    with np.errstate(over="ignore"):
        m2 = float(((numbers - numbers.mean()) ** 2).sum()) if len(numbers) else 0.0
    return Column(
        name=name,
        type=type_name or ("bigint" if values.dtype.kind == "i" else "double"),
        kind="time" if type_name in ("date", "timestamp") else "numeric",
        rows=rows,
        nulls=missing,
        mean=float(numbers.mean()) if len(numbers) else float("nan"),
        m2=m2,
        histogram=Histogram.of(numbers),
    )


def profile(columns: Sequence[Column], **named: Any) -> Profile:
    """A profile of columns that have the same number of rows."""
    return Profile(rows=columns[0].rows if columns else 0, columns={one.name: one for one in columns}, **named)


def metric(name: str, value: float, **named: Any) -> Metric:
    """A metric, of drift where nothing else is said."""
    return Metric(**{"signal": "drift", "metric": name, "value": value, **named})


def report(columns: Mapping[str, tuple[Any, Any]], metrics: Sequence[Metric] = (), **named: Any) -> Report:
    """A report of columns with the baseline's and the target's values."""
    baseline = profile(
        [column(name, values) for name, (values, _) in columns.items()], source="main.flights", version=3
    )
    target = profile([column(name, values) for name, (_, values) in columns.items()], source="main.flights", version=7)
    known = {"baseline": baseline, "target": target, "made_at": MADE_AT, **named}
    return Report(metrics_found=tuple(metrics), **known)


def outcome(seed: int, *, shift: float = 0.0, rows: int = 4000, **named: Any) -> Outcome:
    """Of two classes, with probabilities that are right where there is no shift."""
    drawn = np.random.default_rng(seed)
    scores = drawn.beta(1.3, 2.2, rows)
    labels = drawn.random(rows) < np.clip(scores + shift * (0.5 - scores), 0, 1)
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        means = np.bincount(bins, weights=scores, minlength=BINS) / counts
    predicted = scores >= 0.5
    confusion = np.array([[int((~labels & ~predicted).sum()), int((~labels & predicted).sum())],
                          [int((labels & ~predicted).sum()), int((labels & predicted).sum())]])  # fmt: skip
    losses = {
        "log_loss": -np.log(np.where(labels, scores, 1 - scores)),
        "brier": (scores - labels) ** 2,
    }
    return Outcome(
        task="classification",
        rows=rows + 12,
        unlabelled=12,
        classes=("false", "true"),
        confusion=confusion,
        decision=0.5,
        scores=(
            Scores(
                positives=Histogram.of(scores[labels]),
                negatives=Histogram.of(scores[~labels]),
                unlabelled=Histogram.of(drawn.random(12)),
            ),
        ),
        calibration=Calibration(
            counts=counts, means=means, positives=np.bincount(bins, weights=labels, minlength=BINS).astype(np.int64)
        ),
        losses={
            name: Moments(count=rows, mean=float(one.mean()), m2=float(one.var() * rows))
            for name, one in losses.items()
        },
        **named,
    )


def regression(seed: int, *, shift: float = 0.0, rows: int = 3000, **named: Any) -> Outcome:
    """Of numbers, with errors around the shift."""
    drawn = np.random.default_rng(seed)
    labels, errors = drawn.gamma(2.0, 20.0, rows), drawn.normal(shift, 12.0, rows)
    values = {"label": labels, "absolute": abs(errors), "squared": errors**2, "percentage": abs(errors) / labels}
    return Outcome(
        task="regression",
        rows=rows,
        losses={
            name: Moments(count=rows, mean=float(one.mean()), m2=float(one.var() * rows))
            for name, one in values.items()
        },
        residuals=Histogram.of(errors),
        **named,
    )
