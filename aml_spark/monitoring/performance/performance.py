"""How good predictions are, from outcomes, and whether they got worse.

Values agree with scikit-learn's on the same rows. Areas under curves come from scores in buckets: a metric's `bound`
says how far it may lie from that of the rows, which is 0 where each bucket holds one score only.

Which value is worse depends on the metric: accuracy, precision, recall, F1, the areas and R² breach below a threshold,
losses and errors above it, and a quantile of the residuals where its absolute value is above.

A metric without a threshold of the user's is held against the baseline's, where there is one. It breaches when it is
worse by more than `MOST_ERRORS` standard errors of the difference, so that few rows don't raise alarms, and by more
than what is worth one, so that many rows don't: `LEAST` of a metric whose best value is 1 and of the calibration's
error, `LEAST_SHARE` of the baseline's value for losses and errors, which have no scale of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from aml_spark.monitoring.figures import number
from aml_spark.monitoring.metric import Metric, Thresholds
from aml_spark.monitoring.performance.curves import average_precision, roc_auc
from aml_spark.monitoring.performance.measure import Measure, share, share_error
from aml_spark.monitoring.performance.outcome import Calibration, Moments, Outcome, Scores

HIGHER_IS_BETTER = ("accuracy", "precision", "recall", "f1", "roc_auc", "pr_auc", "r2")
LOWER_IS_BETTER = ("log_loss", "brier", "expected_calibration_error", "mae", "rmse", "mape")
QUANTILES = {"residual_p05": 0.05, "residual_p50": 0.5, "residual_p95": 0.95}
BY_BASELINE = math.nan
"""Instead of a threshold: hold it against the baseline's value, where there is a baseline."""
THRESHOLDS: dict[str, float | None] = {
    **dict.fromkeys((*HIGHER_IS_BETTER, *LOWER_IS_BETTER), BY_BASELINE),
    **dict.fromkeys(QUANTILES, None),
}
MOST_ERRORS = 3.0
LEAST = 0.02
LEAST_SHARE = 0.05


def measured(outcome: Outcome, thresholds: Thresholds, baseline: Outcome | None = None) -> list[Metric]:
    """All metrics of an outcome.

    Args:
        outcome: what became of the predictions.
        thresholds: what the metrics are held against, with `THRESHOLDS` as defaults.
        baseline: an earlier outcome; one of another task is none, and with one of other classes nothing is compared.

    Returns:
        Accuracy, precision, recall, F1, areas under the ROC and precision-recall curves, log loss, Brier score and
        calibration error; or mean absolute, root mean squared and mean percentage errors, R² and quantiles of the
        residuals. NaN with a note where a value can't be told. Rows whose label or prediction is of no use, as it is
        null or not finite, are left out, which a note says.
    """
    now = measures(outcome)
    like = baseline if baseline is not None and baseline.task == outcome.task else None
    before = measures(like) if like else {}
    if like and like.counted and like.classes != outcome.classes:
        before = dict.fromkeys(now, Measure(value=math.nan, note="its classes are others"))
    is_told = any(not math.isnan(one.value) for one in now.values())
    found = []
    for name, one in now.items():
        given = thresholds.of(name)
        threshold, note = _threshold(name, one, before.get(name), given)
        value = abs(one.value) if name in QUANTILES else one.value
        breached = threshold is not None and (value < threshold if name in HIGHER_IS_BETTER else value > threshold)
        left_out = None if math.isnan(one.value) else _left_out(outcome)
        unheld = None
        if name == "mape" and given is not None and math.isnan(given) and (told := one.note or _note_of(before, name)):
            threshold, unheld = None, told
        elif (
            given is not None
            and (threshold is None or math.isnan(one.value))
            and not (is_told and _is_alike(one, before.get(name)))
        ):
            unheld = (one.note if math.isnan(one.value) else note) or _NO_BASELINE
        notes = [text for text in (one.note, note, left_out, foreign(outcome) if outcome.counted else None) if text]
        found.append(
            Metric(
                signal="performance",
                metric=name,
                value=one.value,
                threshold=threshold,
                breached=breached,
                slice=outcome.slice,
                window=outcome.window,
                bound=one.bound,
                note="; ".join(notes) or None,
                unheld=unheld,
            )
        )
    return found


def _note_of(before: Mapping[str, Measure], name: str) -> str | None:
    return before[name].note if name in before else None


def _is_alike(now: Measure, before: Measure | None) -> bool:
    """Whether predictions of this kind have no such metric, before as now: areas where there are no scores."""
    return before is not None and math.isnan(before.value) and now.note == before.note


def measures(outcome: Outcome) -> dict[str, Measure]:
    """Each metric by its name."""
    makers = _CLASSIFIED if outcome.task == "classification" else _REGRESSED
    why = why_none(outcome) if not outcome.counted else _why_strange(outcome)
    if why is not None:
        return dict.fromkeys(makers, Measure(value=math.nan, note=why))
    return {name: make(outcome) for name, make in makers.items()}


def _threshold(name: str, now: Measure, before: Measure | None, given: float | None) -> tuple[float | None, str | None]:
    if given is None or not math.isnan(given):
        return given, None
    if before is None:
        return None, None
    if not math.isfinite(before.value):
        return None, f"not held against the baseline's: {before.note or 'it is beyond all numbers'}"
    # What can't be told now, or is beyond all numbers such as a square of 1e160, has no error of its own.
    alone = math.isnan(now.value) or math.isinf(now.error)
    error = before.error if alone else math.hypot(now.error, before.error)
    if not math.isfinite(error):
        return None, "not held against the baseline's: its standard error can't be told"
    relative = name in LOWER_IS_BETTER and name != "expected_calibration_error"
    margin = max(MOST_ERRORS * error, LEAST_SHARE * abs(before.value) if relative else LEAST)
    threshold = before.value - margin if name in HIGHER_IS_BETTER else before.value + margin
    if math.isnan(now.value):
        return threshold, None
    allowed = f"{number(margin)} are allowed for chance and small changes"
    return threshold, f"the baseline's is {number(before.value, 6)}, and {allowed}"


def why_none(outcome: Outcome) -> str:
    """Why no row of an outcome counts."""
    if not outcome.rows:
        return "there are no rows"
    if outcome.unlabelled == outcome.rows:
        return "no row has a usable label"
    if outcome.unpredicted == outcome.rows:
        return "no row has a prediction that is a finite number or a class"
    if outcome.foreign and not outcome.classes:
        return "the labels are of too few classes to tell them all; classes=[…] names them, the positive one last"
    if told := foreign(outcome):
        return f"{told}, and no other has a usable label and prediction"
    return "no row has a usable label and prediction"


def _why_strange(outcome: Outcome) -> str | None:
    """Why labels and predictions of classes can't mean the same ones; None where they may."""
    if outcome.task == "regression" or outcome.scores:
        return None
    seen, predicted = (
        {name for name, rows in zip(outcome.classes, outcome.confusion.sum(axis=axis), strict=True) if rows}
        for axis in (1, 0)
    )
    if min(len(seen), len(predicted)) < 2 or seen & predicted:
        return None
    return "no prediction is one of the labels' values: are they written in another way?"


def foreign(outcome: Outcome) -> str | None:
    """How many rows are of none of the classes; None where all are."""
    if not outcome.foreign:
        return None
    count = f"{outcome.foreign:,} rows have" if outcome.foreign > 1 else "1 row has"
    return f"{count} a label {'' if outcome.scores else 'or a prediction '}that isn't among the classes"


def _left_out(outcome: Outcome) -> str | None:
    """How many rows count for nothing; the counts don't tell what is null from what is not finite."""
    counts = {"label": outcome.unlabelled, "prediction": outcome.unpredicted}
    told = [f"{count:,} without a usable {what}" for what, count in counts.items() if count]
    return f"of {outcome.rows:,} rows, {' and '.join(told)} are left out" if told else None


# Classes that were predicted


def _accuracy(outcome: Outcome) -> Measure:
    return share(float(outcome.confusion.trace()), outcome.counted)


def _by_class(outcome: Outcome, name: str) -> Measure:
    """Of two classes that of the positive one; of more the mean of those that are seen or predicted."""
    seen, predicted = (outcome.confusion.sum(axis=axis) for axis in (1, 0))
    right = outcome.confusion.diagonal()
    of = {"precision": precision, "recall": recall, "f1": f1}[name]
    each = [of(*map(float, counts)) for counts in zip(right, predicted - right, seen - right, strict=True)]
    averaged = [outcome.classes.index(name) for name in outcome.averaged or outcome.classes]
    if len(outcome.classes) <= 2 or len(averaged) == 1:
        return each[averaged[-1]]
    there = [each[place] for place in averaged if seen[place] + predicted[place]]
    if not there:
        return Measure(value=math.nan, note="no row is of a class that the baseline has, or predicted to be")
    none = sum(math.isnan(one.value) for one in there)
    values = [0.0 if math.isnan(one.value) else one.value for one in there]
    errors = [0.0 if math.isnan(one.error) else one.error for one in there]
    note = f"mean of {len(there)} classes"
    if none:
        note += f", of which {none} {'are never predicted' if name == 'precision' else 'are never seen'} and count as 0"
    # A wrong row counts against two classes' F1, so that these go together; precisions and recalls don't.
    error = math.hypot(*errors) / len(there) * (math.sqrt(2) if name == "f1" else 1)
    return Measure(value=sum(values) / len(there), error=error, note=note)


def precision(right: float, wrong: float, _missed: float) -> Measure:
    """Share of rows that are of the class, of those that were predicted to be."""
    return share(right, right + wrong, "no row is predicted to be of the positive class")


def recall(right: float, _wrong: float, missed: float) -> Measure:
    """Share of rows that were predicted to be of the class, of those that are."""
    return share(right, right + missed, "no label is of the positive class")


def f1(right: float, wrong: float, missed: float) -> Measure:
    """Harmonic mean of precision and recall; its error by the delta method."""
    whole, off = 2 * right + wrong + missed, wrong + missed
    if whole <= 0:
        return Measure(value=math.nan, note="no row is of the positive class, and none is predicted to be")
    more, less = right + 1, off + 1  # as in `share_error`
    error = 2 * math.sqrt(more * less * (more + less)) / (2 * more + less) ** 2
    return Measure(value=2 * right / whole, error=error)


# Scores


def _area(outcome: Outcome, of: Callable[[Scores], Measure]) -> Measure:
    """Of two classes that of the positive one; of more the mean, each against the rest."""
    if not outcome.scores:
        return Measure(value=math.nan, note=_NO_SCORES)
    each = [of(scores) for scores in outcome.scores]
    known = [one for one in each if not math.isnan(one.value)]
    if len(each) == 1 or not known:
        return each[0]
    note = f"mean of {len(known)} classes, each against the rest"
    if len(known) < len(each):
        note += f"; no label is of the {len(each) - len(known)} others"
    return Measure(
        value=sum(one.value for one in known) / len(known),
        error=math.hypot(*(one.error for one in known)) / len(known),
        bound=sum(one.bound for one in known) / len(known),
        note=note,
    )


def _loss(outcome: Outcome, name: str) -> Measure:
    if reason := _improbable(outcome):
        return reason
    return _mean(outcome.losses[name])


def _mean(moments: Moments, note: str | None = None) -> Measure:
    return Measure(value=moments.mean, error=moments.error, note=note)


def _improbable(outcome: Outcome) -> Measure | None:
    if not outcome.scores:
        return Measure(value=math.nan, note=_NO_SCORES)
    if outcome.improbable:
        count = f"{outcome.improbable:,} predictions lie" if outcome.improbable > 1 else "1 prediction lies"
        return Measure(value=math.nan, note=f"{count} outside of 0 to 1: these are no probabilities")
    return None


def _calibration_error(outcome: Outcome) -> Measure:
    if reason := _improbable(outcome):
        return reason
    found: Calibration | None = outcome.calibration
    if found is None:
        return Measure(value=math.nan, note=_NO_SCORES)
    filled = found.counts > 0
    counts = found.counts[filled]
    weights, seen = counts / counts.sum(), found.positives[filled] / counts
    apart = abs(found.means[filled] - seen)
    errors = [share_error(part, whole) for part, whole in zip(found.positives[filled], counts, strict=True)]
    error = math.hypot(*(weights * errors))
    note = "of the class that was predicted" if len(outcome.classes) > 2 else None
    return Measure(value=float((weights * apart).sum()), error=error, note=note)


# Regression


def _rmse(outcome: Outcome) -> Measure:
    squared = outcome.losses["squared"]
    value = math.sqrt(squared.mean)
    return Measure(value=value, error=squared.error / (2 * value) if 0 < value < math.inf else squared.error)


def _r2(outcome: Outcome) -> Measure:
    label, squared = outcome.losses["label"], outcome.losses["squared"]
    if not math.isfinite(label.m2):
        return Measure(value=math.nan, note="the squares of the labels are beyond all numbers")
    if label.count < 2 or label.m2 <= 0:
        why = "one row has no spread" if label.count < 2 else "all labels are equal"
        return Measure(value=math.nan, note=why)
    error = squared.error / (label.m2 / label.count)  # that of the labels' variance is small beside it
    return Measure(value=1 - squared.mean * squared.count / label.m2, error=error)


def _mape(outcome: Outcome) -> Measure:
    found = outcome.losses["percentage"]
    return _mean(found, "a share, and huge because of labels that are 0 or nearly so" if found.mean > 1e6 else None)


def _quantile(outcome: Outcome, of: float) -> Measure:
    value = outcome.residuals.quantile(of)
    bound = 0.0 if outcome.residuals.is_exact else outcome.residuals.width * abs(value)
    return Measure(value=value, bound=bound)


_NO_BASELINE = "the baseline lacks labels, predictions or both, without which nothing is held against it"
_NO_SCORES = "classes are predicted, without probabilities"
_CLASSIFIED: dict[str, Callable[[Outcome], Measure]] = {
    "accuracy": _accuracy,
    "precision": lambda outcome: _by_class(outcome, "precision"),
    "recall": lambda outcome: _by_class(outcome, "recall"),
    "f1": lambda outcome: _by_class(outcome, "f1"),
    "roc_auc": lambda outcome: _area(outcome, roc_auc),
    "pr_auc": lambda outcome: _area(outcome, average_precision),
    "log_loss": lambda outcome: _loss(outcome, "log_loss"),
    "brier": lambda outcome: _loss(outcome, "brier"),
    "expected_calibration_error": _calibration_error,
}
_REGRESSED: dict[str, Callable[[Outcome], Measure]] = {
    "mae": lambda outcome: _mean(outcome.losses["absolute"]),
    "rmse": _rmse,
    "r2": _r2,
    "mape": _mape,
    "residual_p05": lambda outcome: _quantile(outcome, QUANTILES["residual_p05"]),
    "residual_p50": lambda outcome: _quantile(outcome, QUANTILES["residual_p50"]),
    "residual_p95": lambda outcome: _quantile(outcome, QUANTILES["residual_p95"]),
}
