"""How good predictions are likely to be where labels haven't come: from what their scores meant before.

On an outcome with labels it is learned how often each score comes true, by isotonic regression, so that a greater score
never means less. Each row without a label then counts as right and wrong by these shares. That holds as long as a score
goes on meaning what it meant: it sees that the rows changed, and not that the world did (a concept drift).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aml_spark.monitoring.metric import Metric, Thresholds
from aml_spark.monitoring.performance.measure import Measure, share
from aml_spark.monitoring.performance.outcome import Outcome, Scores
from aml_spark.monitoring.performance.performance import f1, precision, recall, why_none

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

METRICS = ("expected_accuracy", "expected_precision", "expected_recall", "expected_f1", "expected_roc_auc")


def expected(calibrated_on: Outcome, scored: Outcome, thresholds: Thresholds) -> list[Metric]:
    """The performance that is to be expected of predictions, with labels or without.

    Args:
        calibrated_on: rows with labels, which the model wasn't trained on: those of its training came true too often.
        scored: rows with scores of the same model. Their labels aren't looked at.
        thresholds: what the metrics are held against; they breach below.

    Returns:
        Expected accuracy, and of two classes precision, recall, F1 and area under the ROC curve; none of regressions.
        NaN with a note where it can't be told. `bound` is how far buckets of scores may have moved it; how far the
        truth may lie from it, nothing bounds.
    """
    if scored.task != "classification":
        return []
    reason = _why_not(calibrated_on, scored)
    found = dict.fromkeys(METRICS, Measure(value=math.nan, note=reason))
    if reason is None and len(scored.classes) == 2:
        found = _of_two(calibrated_on.scores[0], scored.scores[0], float(scored.decision or 0.0))
    elif reason is None and calibrated_on.confidence and scored.confidence:
        why = "only the accuracy can be expected of more than two classes"
        found = dict.fromkeys(METRICS, Measure(value=math.nan, note=why))
        right = calibrated(calibrated_on.confidence, scored.confidence)
        found["expected_accuracy"] = share(float(right.shares @ right.counts), float(right.counts.sum()))
    from_rows = (
        f"from scores of {calibrated_on.counted:,} rows with labels, if they mean what they meant "
        "and the model wasn't trained on them"
    )
    metrics = []
    for name, one in found.items():
        threshold = thresholds.of(name)
        metrics.append(
            Metric(
                signal="performance",
                metric=name,
                value=one.value,
                threshold=threshold,
                breached=threshold is not None and one.value < threshold,
                slice=scored.slice,
                window=scored.window,
                bound=one.bound,
                note=one.note or from_rows,
            )
        )
    return metrics


def _why_not(calibrated_on: Outcome, scored: Outcome) -> str | None:
    if not scored.rows:
        return "there are no rows"
    if not calibrated_on.counted:
        return f"scores can't be calibrated on the baseline: {why_none(calibrated_on)}"
    if calibrated_on.task != scored.task or calibrated_on.classes != scored.classes:
        return "the baseline's outcome is of other classes"
    if not calibrated_on.scores or not scored.scores:
        return "classes are predicted, without probabilities"
    return "no row has a usable prediction" if scored.rows == scored.unpredicted else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibrated:
    """Buckets of scores, and how often they are likely to come true.

    Args:
        counts: rows in each bucket, ascending by score; float64.
        shares: how often they come true, 0 to 1; float64.
        lows: least score in each.
        highs: greatest score in each.
    """

    counts: NDArray[np.float64]
    shares: NDArray[np.float64]
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]


def calibrated(before: Scores, now: Scores) -> Calibrated:
    """How often scores are likely to come true, by isotonic regression on those whose labels are known."""
    import numpy as np

    whole = now.whole
    known = before.positives.merge(before.negatives)
    positives = before.positives.at(known.level)
    right = np.zeros(len(known.codes))
    right[np.searchsorted(known.codes, positives.codes)] = positives.counts
    shares = isotonic(right / known.counts, known.counts.astype(np.float64))
    return Calibrated(
        counts=whole.counts.astype(np.float64),
        shares=np.interp(whole.means, known.means, shares),
        lows=whole.lows,
        highs=whole.highs,
    )


def isotonic(values: Any, weights: Any) -> NDArray[np.float64]:
    """The values that never fall and are nearest to the given ones, by weighted squares.

    Neighbours that fall are pooled (Ayer et al. 1955). SciPy has it from 1.12 on; older ones are supported here.
    """
    import numpy as np

    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(np.asarray(values, float), np.asarray(weights, float), strict=True):
        pool = (float(value), float(weight), 1)
        while pools and pools[-1][0] >= pool[0]:
            mean, heavy, many = pools.pop()
            total = heavy + pool[1]
            pool = ((mean * heavy + pool[0] * pool[1]) / total, total, many + pool[2])
        pools.append(pool)
    return np.repeat([mean for mean, _, _ in pools], [many for _, _, many in pools]).astype(np.float64)


def _of_two(before: Scores, now: Scores, decision: float) -> dict[str, Measure]:
    """Expected counts of right and wrong, and what follows from them."""
    import numpy as np

    found = calibrated(before, now)
    true, false = found.counts * found.shares, found.counts * (1 - found.shares)

    def at(chosen: NDArray[np.bool_]) -> dict[str, Measure]:
        right, wrong, missed = (float(part) for part in (true[chosen].sum(), false[chosen].sum(), true[~chosen].sum()))
        correct = right + float(false[~chosen].sum())
        return {
            "expected_accuracy": share(correct, float(found.counts.sum())),
            "expected_precision": precision(right, wrong, missed),
            "expected_recall": recall(right, wrong, missed),
            "expected_f1": f1(right, wrong, missed),
        }

    # The bucket in which the decision lies counts to one side as a whole; to the other, it would be this much.
    middle = (found.lows + found.highs) / 2 >= decision
    values, others = at(middle), [at(found.lows >= decision), at(found.highs >= decision)]
    measures = {}
    for name, one in values.items():
        apart = [abs(other[name].value - one.value) for other in others]
        measures[name] = Measure(
            value=one.value, bound=max((off for off in apart if not math.isnan(off)), default=0.0), note=one.note
        )
    pairs = true * false
    whole = float(true.sum() * false.sum())
    if whole <= 0:
        nothing = Measure(value=math.nan, note="all rows are expected to be of one class")
        return {**measures, "expected_roc_auc": nothing}
    above = np.cumsum(true[::-1])[::-1] - true
    area = float((above * false + pairs / 2).sum()) / whole
    unknown = float((pairs / 2)[found.lows < found.highs].sum()) / whole
    return {**measures, "expected_roc_auc": Measure(value=area, bound=unknown)}
