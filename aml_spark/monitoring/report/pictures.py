"""Numbers that a page draws: bars of two histograms or of categories, and what outcomes look like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aml_spark.monitoring.profiles.frequencies import Frequencies
from aml_spark.monitoring.profiles.histogram import Histogram

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aml_spark.monitoring.performance.outcome import Outcome, Scores
    from aml_spark.monitoring.profiles.profile import Column

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BARS = 24
_VALUES = 12  # categories, or numbers, that have a bar each
_TAIL = 0.005  # beyond this quantile numbers are in the outermost bar
_CURVE = 120  # points of a curve
_CLASSES = 20  # of a confusion matrix


def bars(baseline: Column | None, target: Column | None) -> dict[str, Any] | None:
    """Both columns' values as shares on the same bars; None where neither has any.

    Returns:
        `shares`, one list for each of both (None where it isn't there), and either `labels` of the bars, the last of
        which stands for the rest where `rest` is true, or `edges`; `of` says what is counted.
    """
    there = [column for column in (baseline, target) if column is not None]
    frequencies = [column.frequencies if column is not None else None for column in (baseline, target)]
    if any(one is not None and one.total for one in frequencies):
        found = _categories(frequencies)
        if max(sum(one[:-1]) if found["rest"] else 1.0 for one in found["shares"] if one) >= 0.5:
            return found
    of = {"text": "length", "embedding": "norm", "time": "time"}.get(there[0].kind if there else "", "value")
    whole = all(column.type in ("tinyint", "smallint", "int", "bigint") or of == "length" for column in there)
    histograms = [column.histogram if column is not None else None for column in (baseline, target)]
    found_numbers = of_numbers(histograms, whole=whole)
    return None if found_numbers is None else {**found_numbers, "of": of}


def of_numbers(histograms: Sequence[Histogram | None], *, whole: bool = False) -> dict[str, Any] | None:
    """Histograms as shares on the same bars: one for each number where there are few, else of equal width between
    quantiles; the outermost hold what lies beyond.

    Args:
        histograms: None where there is no column.
        whole: whether all are integers.
    """
    import numpy as np

    known = [one for one in histograms if one is not None and one.total]
    if not known:
        return None
    numbers = np.unique(np.concatenate([one.lows for one in known]))
    if len(numbers) <= _VALUES and all(one.is_exact for one in known):
        shares = [None if one is None else _at(one, numbers) for one in histograms]
        return {"labels": [float(one) for one in numbers], "shares": shares, "rest": False}
    low, high = min(one.quantile(_TAIL) for one in known), max(one.quantile(1 - _TAIL) for one in known)
    if low == high:
        low, high = min(float(one.lows[0]) for one in known), max(float(one.highs[-1]) for one in known)
    if whole and high - low < 2.0**52:
        width = max(1.0, math.ceil((high - low + 1) / BARS))
        edges = low - 0.5 + width * np.arange(math.ceil((high - low + 1) / width) + 1)
    else:
        steps = np.linspace(0, 1, BARS + 1)
        edges = low * (1 - steps) + high * steps  # no difference: it may overflow
    shares = [None if one is None else _between(one, edges) for one in histograms]
    return {"edges": [float(one) for one in edges], "shares": shares}


def quantiles(histogram: Histogram) -> list[float]:
    """At `QUANTILES`."""
    return [histogram.quantile(share) for share in QUANTILES]


def of_outcome(outcome: Outcome) -> dict[str, Any]:
    """Confusion, curves and calibration of one outcome, as far as it has them."""
    found: dict[str, Any] = {
        "rows": outcome.rows,
        "counted": outcome.counted,
        "unlabelled": outcome.unlabelled,
        "unpredicted": outcome.unpredicted,
    }
    if outcome.task == "regression":
        return {**found, "residuals": quantiles(outcome.residuals)}
    if 0 < len(outcome.classes) <= _CLASSES:
        found |= {"classes": list(outcome.classes), "confusion": outcome.confusion.tolist()}
    named = outcome.classes[1:] if len(outcome.classes) == 2 else outcome.classes
    curves = [(name, _roc(scores)) for name, scores in zip(named, outcome.scores, strict=False)]
    found["roc"] = [[name, curve] for name, curve in curves[:_CLASSES] if curve]
    if outcome.calibration is not None and not outcome.improbable:
        of = outcome.calibration
        told = zip(of.means.tolist(), of.positives.tolist(), of.counts.tolist(), strict=True)
        found["calibration"] = [[mean, true / count, count] for mean, true, count in told if count]
    return found


def _categories(both: Sequence[Frequencies | None]) -> dict[str, Any]:
    totals = [max(one.total, 1) if one is not None else 1 for one in both]
    most: dict[str, float] = {}
    for one, total in zip(both, totals, strict=True):
        for value, count in one.counts.items() if one is not None else ():
            most[value] = max(most.get(value, 0.0), count / total)
    shown = sorted(most, key=lambda value: (-most[value], value))[:_VALUES]
    shares = [
        None if one is None or not one.total else [one.counts.get(value, 0) / total for value in shown]
        for one, total in zip(both, totals, strict=True)
    ]
    rest = len(most) > len(shown) or any(one is not None and one.rest for one in both)
    if rest:
        shares = [None if one is None else [*one, max(0.0, 1 - sum(one))] for one in shares]
    return {"labels": shown, "shares": shares, "rest": rest, "of": "category"}


def _at(histogram: Histogram, numbers: NDArray[Any]) -> list[float]:
    import numpy as np

    found = np.zeros(len(numbers))
    np.add.at(found, np.searchsorted(numbers, histogram.lows), histogram.counts)
    return [float(one) for one in found / max(histogram.total, 1)]


def _between(histogram: Histogram, edges: NDArray[Any]) -> list[float]:
    """Shares between edges; within a bucket the numbers are taken to lie evenly."""
    import numpy as np

    if not histogram.total:
        return [0.0] * (len(edges) - 1)
    inner = edges[1:-1, None]
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        below = (inner - histogram.lows) / (histogram.highs - histogram.lows)
    below = np.where(histogram.lows == histogram.highs, histogram.lows < inner, np.clip(below, 0, 1))
    below = np.where(np.isnan(below), histogram.highs < inner, below)  # a bucket whose width overflows
    ends = [0.0, *(below @ (histogram.counts / histogram.total)), 1.0]
    return [float(one) for one in np.diff(ends)]


def _roc(scores: Scores) -> list[list[float]] | None:
    """Points of the curve, false against true positives, from the highest score down; None of one class alone."""
    import numpy as np

    level = max(scores.positives.level, scores.negatives.level)
    both = [one.at(level) for one in (scores.positives, scores.negatives)]
    if not all(one.total for one in both):
        return None
    codes = np.unique(np.concatenate([one.codes for one in both]))
    rates = []
    for one in both:
        counts = np.zeros(len(codes))
        counts[np.searchsorted(codes, one.codes)] = one.counts
        rates.append(np.concatenate([[0.0], np.cumsum(counts[::-1]) / one.total]))
    true, false = rates
    # Evenly along the curve, whose length is at most 2.
    wanted = np.linspace(0, 2, _CURVE)
    chosen = np.unique(np.clip(np.searchsorted(true + false, wanted), 0, len(true) - 1))
    return [[float(false[place]), float(true[place])] for place in chosen]
