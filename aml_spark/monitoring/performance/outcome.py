"""What became of predictions, without the rows: counts and sums that add up, from which performance is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from aml_spark.errors import ArgumentError
from aml_spark.monitoring.profiles.histogram import Histogram

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Task = Literal["classification", "regression"]
BINS = 20
"""Bins of a calibration, of equal width over 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """A number of each row, summed up.

    Args:
        count: rows.
        mean: NaN of none.
        m2: sum of the squares of the distances to the mean.
    """

    count: int = 0
    mean: float = math.nan
    m2: float = 0.0

    @classmethod
    def of(cls, counts: Any, means: Any, variances: Any) -> Moments:
        """Of groups of rows: how many, their mean, and their variance (divided by the count)."""
        import numpy as np

        counts, means = np.asarray(counts, dtype=np.float64), np.asarray(means, dtype=np.float64)
        if not (total := counts.sum()):
            return cls()
        with np.errstate(all="ignore"):  # sums of squares may be too great
            # Of equal means it is exactly theirs, whatever the shares are rounded to.
            mean = float(np.clip((counts / total * means).sum(), means.min(), means.max()))
            m2 = (counts * np.asarray(variances, dtype=np.float64)).sum() + (counts * (means - mean) ** 2).sum()
        return cls(count=int(total), mean=mean, m2=float(m2))

    @property
    def error(self) -> float:
        """Standard error of the mean; NaN of fewer than two rows, infinite where the squares are beyond a double."""
        if self.count < 2:
            return math.nan
        return math.sqrt(self.m2 / (self.count - 1) / self.count) if math.isfinite(self.m2) else math.inf

    def merge(self, other: Moments) -> Moments:
        """Both together (Chan, Golub and LeVeque 1983)."""
        parts = [part for part in (self, other) if part.count]
        if not parts:
            return self
        of = [part.count for part in parts], [part.mean for part in parts], [part.m2 / part.count for part in parts]
        return Moments.of(*of)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Scores of one class: its probabilities, or other numbers that are greater where it is more likely.

    Args:
        positives: of rows whose label is the class.
        negatives: of rows whose label is another one.
        unlabelled: of rows whose label isn't there, or isn't among the classes.
    """

    positives: Histogram
    negatives: Histogram
    unlabelled: Histogram

    @property
    def whole(self) -> Histogram:
        """Of all rows."""
        return self.positives.merge(self.negatives).merge(self.unlabelled)

    def merge(self, other: Scores) -> Scores:
        """Both together."""
        return Scores(
            positives=self.positives.merge(other.positives),
            negatives=self.negatives.merge(other.negatives),
            unlabelled=self.unlabelled.merge(other.unlabelled),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """How often what was predicted with some probability came true: of two classes the probability of the second, of
    more classes that of the one that was predicted.

    Args:
        counts: rows with a label in each of the `BINS`; int64. A bin holds its lower end, the last one both.
        means: mean probability in each; NaN where there is no row.
        positives: rows in each in which it came true; int64.
    """

    counts: NDArray[np.int64]
    means: NDArray[np.float64]
    positives: NDArray[np.int64]

    def merge(self, other: Calibration) -> Calibration:
        """Both together."""
        import numpy as np

        counts = self.counts + other.counts
        sums = [np.where(one.counts > 0, one.means * one.counts, 0.0) for one in (self, other)]
        means = np.where(counts > 0, (sums[0] + sums[1]) / np.maximum(counts, 1), np.nan)
        return Calibration(counts=counts, means=means, positives=self.positives + other.positives)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What became of the predictions of a table, or of a part of it.

    Args:
        task: what is predicted.
        rows: how many.
        unlabelled: rows whose label is null or not finite.
        unpredicted: rows whose prediction is null, not finite, or an array of another length than there are classes;
            of regressions also those with a label from which it is farther than any double.
        foreign: rows whose label, or whose predicted class, isn't among the classes. They count as rows, and their
            scores as ones without a label.
        classes: as texts, in the order of their values or of the probabilities; of two the second is the positive one.
            None where there are scores and the labels are of too few classes to tell which ones the scores are of.
        is_guessed: whether nobody said which of two texts is the positive class.
        averaged: those over which precision, recall and F1 are a mean, or the positive one alone; none for all that
            are seen or predicted, and of two classes for the positive one.
        confusion: rows with both, by label (first) and by the class that was predicted; int64, shape (K, K).
        decision: of two classes with scores, the least score of the second with which it counts as predicted.
        scores: of each class, but of two classes the second one's only; none where classes are predicted without.
        confidence: of more than two classes, the greatest score of each row; its class counts as the positive one.
        calibration: where there are scores.
        improbable: rows with a score below 0 or above 1: one such row, and the scores are no probabilities.
        losses: of rows with both. With scores `log_loss` and `brier`; of regressions `label`, and `absolute`, `squared`
            and `percentage` errors.
        residuals: label minus prediction.
        slice: value of the column that `by=` names, where it is of such rows only.
        window: start of the time window, where it is of such rows only.
    """

    task: Task
    rows: int = 0
    unlabelled: int = 0
    unpredicted: int = 0
    foreign: int = 0
    classes: tuple[str, ...] = ()
    is_guessed: bool = False
    averaged: tuple[str, ...] = ()
    confusion: NDArray[np.int64] = field(default_factory=lambda: square(0))
    decision: float | None = None
    scores: tuple[Scores, ...] = ()
    confidence: Scores | None = None
    calibration: Calibration | None = None
    improbable: int = 0
    losses: Mapping[str, Moments] = field(default_factory=dict)
    residuals: Histogram = field(default_factory=Histogram.empty)
    slice: str | None = None
    window: str | None = None

    @property
    def counted(self) -> int:
        """Rows with a label and a prediction, of a regression or among the classes."""
        return int(self.confusion.sum()) if self.task == "classification" else self.residuals.total

    def merge(self, other: Outcome) -> Outcome:
        """Both together; in any order and grouping the same.

        Raises:
            ArgumentError: they are of different kinds: a task, a decision or, with scores, classes that differ.
        """
        if not self.rows or not other.rows:
            return replace(self if self.rows else other, **_places(self, other))
        for name in ("task", "decision", *(["classes"] if self.scores or other.scores else [])):
            one, two = getattr(self, name), getattr(other, name)
            if one != two:
                told = f" ({one!r}, {two!r})" if name != "classes" else ""
                raise ArgumentError(f"outcomes whose {name} differ{told} can't be put together")
        classes = self.classes if self.classes == other.classes else ordered({*self.classes, *other.classes})
        return Outcome(
            task=self.task,
            rows=self.rows + other.rows,
            unlabelled=self.unlabelled + other.unlabelled,
            unpredicted=self.unpredicted + other.unpredicted,
            foreign=self.foreign + other.foreign,
            classes=classes,
            is_guessed=self.is_guessed and other.is_guessed,
            confusion=self.among(classes).confusion + other.among(classes).confusion,
            decision=self.decision,
            scores=tuple(one.merge(two) for one, two in zip(self.scores, other.scores, strict=True)),
            confidence=self.confidence and other.confidence and self.confidence.merge(other.confidence),
            calibration=self.calibration and other.calibration and self.calibration.merge(other.calibration),
            improbable=self.improbable + other.improbable,
            losses={name: one.merge(other.losses[name]) for name, one in self.losses.items()},
            residuals=self.residuals.merge(other.residuals),
            **_places(self, other),
        )

    def among(self, classes: Sequence[str]) -> Outcome:
        """The same rows among more classes; of predictions without scores."""
        import numpy as np

        if self.classes == tuple(classes):
            return self
        places = [classes.index(name) for name in self.classes]
        confusion = square(len(classes))
        confusion[np.ix_(places, places)] = self.confusion
        return replace(self, classes=tuple(classes), confusion=confusion)


def square(size: int) -> NDArray[np.int64]:
    """A confusion of no rows."""
    import numpy as np

    return np.zeros((size, size), dtype=np.int64)


def ordered(classes: Sequence[str] | set[str]) -> tuple[str, ...]:
    """Classes in the order of their values: as numbers where all are, else as texts."""
    try:
        return tuple(sorted(classes, key=lambda name: (float(name), name)))
    except ValueError:
        return tuple(sorted(classes))


def _places(one: Outcome, two: Outcome) -> dict[str, Any]:
    """The slice and window of both together: what they have in common."""
    names = ("slice", "window")
    return {name: getattr(one, name) if getattr(one, name) == getattr(two, name) else None for name in names}
