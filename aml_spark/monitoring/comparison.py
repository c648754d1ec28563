"""One comparison: the tables are profiled, and what is to be said of the target follows from the profiles."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

from aml_spark.errors import ArgumentError, TableError
from aml_spark.model import PinnedModel
from aml_spark.monitoring.drift import azureml, drift, embeddings, exact as exactly
from aml_spark.monitoring.drift.exact import ExactDistances
from aml_spark.monitoring.importance import importance
from aml_spark.monitoring.limits import with_unheld
from aml_spark.monitoring.metric import Metric, Thresholds
from aml_spark.monitoring.performance import estimation, outcomes, performance
from aml_spark.monitoring.performance.outcome import Outcome, Task, ordered
from aml_spark.monitoring.profiles import fields, kept, passes
from aml_spark.monitoring.profiles.profile import Profile
from aml_spark.monitoring.quality import casts, quality, rows
from aml_spark.monitoring.quality.rows import Checks
from aml_spark.monitoring.report.report import Report
from aml_spark.monitoring.selection import Opened
from aml_spark.session import time_zone
from aml_spark.table import quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MOST_WINDOWS = 100
"""Time windows of a comparison."""
LONE = "the baseline has no such slice, so it is held against all of the baseline"
Part = TypeVar("Part", Profile, Outcome)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Where predictions and labels are, as `monitor` says; a label is None where the table has none."""

    prediction: str
    label: str | None
    task: Task | None
    classes: Sequence[Any] | None
    decision: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """What is compared with what, looked up and checked; `monitor` documents the parts.

    Args:
        baseline: the rows that are as they should be.
        target: the rows that are looked at.
        columns: those to compare, of either table.
        limits: all thresholds.
        scored_before: predictions in the baseline; None where it has none.
        scored: predictions in the target; None where it has none.
        model: None where none is given.
        importance: what the user says of it.
        slices: the values of the column `by`, in either table, that are compared one by one.
    """

    baseline: Opened
    target: Opened
    columns: Sequence[str]
    limits: Thresholds
    scored_before: Predictions | None = None
    scored: Predictions | None = None
    model: PinnedModel | None = None
    importance: Any = None
    by: str | None = None
    slices: Sequence[str] | None = None
    window: str | None = None
    key: Sequence[str] | None = None
    expectations: Mapping[str, str] | None = None
    exact: bool = False
    compat: str | None = None
    profiles: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Parts:
    """A table as a whole, and by slice and window."""

    whole: Any
    slices: Mapping[str, Any]
    windows: Mapping[str, Any]

    def __iter__(self) -> Iterator[Any]:
        return iter([self.whole, *self.slices.values(), *self.windows.values()])

    def each(self, change: Callable[[Any], Any]) -> _Parts:
        slices, windows = ({name: change(one) for name, one in parts.items()} for parts in (self.slices, self.windows))
        return _Parts(whole=change(self.whole), slices=slices, windows=windows)


def compared(asked: Comparison) -> Report:
    """Read both tables, and say of the target what there is to say."""
    now = datetime.now(timezone.utc)
    asked = replace(asked, slices=_slices(asked.target.df, asked.by))
    _check_windows(asked)
    checks = {one.slice: one for one in _checks(asked)}  # first: what can't be meant is refused before long work
    before, after = _outcomes(asked.baseline, asked.scored_before, asked), None
    if asked.scored:
        after = _outcomes(asked.target, _like(asked.scored, before), asked)
    if before and after:
        before, after = _of_the_same_classes(before, after, asked)
    asked = _with_plain_predictions(asked, before or after)
    baseline, target = _baseline(asked), _parted(passes.profiles(**_rows(asked.target, asked), window=asked.window))
    exact = exactly.distances(asked.baseline.df, asked.target.df, baseline.whole, target.whole) if asked.exact else {}
    outside = {name: one.out_of_bounds for name, one in exact.items()}
    checks[None] = replace(checks[None], outside=outside)
    if asked.compat:
        metrics = azureml.compared(asked.baseline.df, asked.target.df, asked.limits, columns=asked.columns)
        said = {one.metric for one in metrics}
        others = quality.compared(baseline.whole, target.whole, checks[None], asked.limits, now=now)
        metrics += [one for one in others if one.metric not in said and (not one.column or "column" in one.metric)]
    else:
        metrics = [*_drift(asked, baseline, target, exact), *_quality(asked, baseline, target, checks, now)]
    shares = _importance(asked, baseline.whole)
    if shares is not None:
        metrics += _weighted(metrics, shares, asked.limits)
    if after and (before or (asked.scored and asked.scored.label)):
        metrics += _performance(before, after, asked)
    return Report(
        metrics_found=tuple(with_unheld(metrics, asked.limits, _given(asked))),
        baseline=baseline.whole,
        target=target.whole,
        slices=tuple(target.slices.values()),
        by=asked.by,
        windows=tuple(target.windows.values()),
        outcomes=tuple(after or ()),
        baseline_outcome=before.whole if before else None,
        importance=shares.shares if shares else None,
        model=asked.model.pinned_uri if asked.model else None,
        baseline_name=asked.baseline.name,
        target_name=asked.target.name,
        made_at=now,
    )


def _like(scored: Predictions, before: _Parts | None) -> Predictions:
    """The target's predictions, read as the baseline's were."""
    if before is None:
        return scored
    known = before.whole.classes if before.whole.scores and scored.classes is None else scored.classes
    return replace(scored, task=scored.task or before.whole.task, classes=known)


def _of_the_same_classes(before: _Parts, after: _Parts, asked: Comparison) -> tuple[_Parts, _Parts]:
    """Outcomes among the classes of both: one that is gone from a table mustn't leave nothing to be held against."""
    has, gets = before.whole, after.whole
    if has.classes == gets.classes or has.task != gets.task:
        return before, after
    if not has.scores and not gets.scores:
        classes = ordered({*has.classes, *gets.classes})
        averaged = has.classes[-1:] if len(has.classes) == 2 < len(classes) else _in_both(has, gets)

        def alike(one: Outcome) -> Outcome:
            return replace(one.among(classes), averaged=averaged)

        return before.each(alike), after.each(alike)
    if not has.classes and asked.scored_before:  # its labels are of too few to tell what its scores are of
        before = _outcomes(asked.baseline, replace(asked.scored_before, classes=gets.classes), asked) or before
    return before, after


def _in_both(one: Outcome, two: Outcome) -> tuple[str, ...]:
    """Classes that are seen or predicted in both."""

    def there(of: Outcome) -> set[str]:
        rows = of.confusion.sum(axis=0) + of.confusion.sum(axis=1)
        return {name for name, count in zip(of.classes, rows, strict=True) if count}

    return ordered(there(one) & there(two))


def _check_windows(asked: Comparison) -> None:
    """Refuse more windows than anyone looks at, which would all have to be kept in mind at once."""
    of = asked.target
    if asked.window is None or of.time_column is None:
        return
    start = fields.window_of(list(fields.leaves_of(of.df)), of.time_column, asked.window)
    if (found := of.df.select(start.alias("window")).distinct().limit(MOST_WINDOWS + 1).count()) > MOST_WINDOWS:
        raise ArgumentError(
            f"window={asked.window!r} makes {found} windows or more of the target; expected {MOST_WINDOWS} at most",
            hint="a longer window, or less time: Selection(target, since='2024-01-01')",
        )


def _slices(df: DataFrame, by: str | None) -> list[str] | None:
    return None if by is None else fields.slices_of(df, fields.named(list(fields.leaves_of(df)), by, "by"))


def _by(of: Opened, asked: Comparison) -> str | None:
    """The column of the slices, which a baseline need not have."""
    is_there = of is asked.target or asked.by in fields.names_of(of.df)
    return asked.by if is_there else None


def _rows(of: Opened, asked: Comparison) -> dict[str, Any]:
    """What a pass over a table is told of it."""
    there = {*of.df.columns, *fields.names_of(of.df)}
    names = [name for name in asked.columns if name in there]
    time_column = of.time_column if asked.window else None
    return {
        "df": of.df,
        "columns": names,
        "by": _by(of, asked),
        "slices": asked.slices,
        "time_column": time_column,
        "source": of.name,
        "version": of.version,
    }


def _baseline(asked: Comparison) -> _Parts:
    """The baseline's profile, as it was kept where it was."""
    of, told = asked.baseline, {**_rows(asked.baseline, asked), "time_column": None}
    if asked.profiles is None or of.asked is None or of.version is None:
        return _parted(passes.profiles(**told))
    spark = of.df.sparkSession
    same: dict[str, Any] = {
        "source_id": of.table_id(),
        "source_version": of.version,
        "asked": kept.asked(
            columns=told["columns"],
            where=f"{of.asked} {sorted(asked.slices or ())}",
            by=asked.by,
            zone=time_zone(spark) if asked.by else None,
        ),
    }
    found = kept.load(spark, asked.profiles, **same)
    if found is None:
        found = passes.profiles(**told)
        try:
            kept.save(spark, found, asked.profiles, **same)
        except TableError as error:  # what was found mustn't be lost for it
            _logger.warning("the baseline's profile isn't kept, so that it is read again next time: %s", error)
    return _parted(found)


def _parted(parts: Sequence[Part]) -> _Parts:
    """A table's slices and windows, and all of it, which either make together."""
    slices: dict[str, Part] = {one.slice: one for one in parts if one.slice is not None}
    windows: dict[str, Part] = {one.window: one for one in parts if one.window is not None}
    every: list[Part] = list(slices.values()) or list(windows.values()) or list(parts)
    whole: Part = reduce(lambda one, two: one.merge(two), every)
    return _Parts(whole=replace(whole, slice=None, window=None), slices=slices, windows=windows)


def _outcomes(of: Opened, predictions: Predictions | None, asked: Comparison) -> _Parts | None:
    """What became of a table's predictions; by window of the target only."""
    if predictions is None or (of is asked.baseline and predictions.label is None):
        return None
    window = asked.window if of is asked.target else None
    return _parted(
        outcomes.outcomes(
            of.df,
            label=predictions.label,
            prediction=predictions.prediction,
            task=predictions.task,
            classes=predictions.classes,
            decision=predictions.decision,
            by=_by(of, asked),
            slices=asked.slices,
            time_column=of.time_column if window else None,
            window=window,
        )
    )


def _with_plain_predictions(asked: Comparison, outcome: _Parts | None) -> Comparison:
    """Of two classes, the probability of the second one in place of an array of both: numbers are easier to compare."""
    from pyspark.sql import functions as F

    if outcome is None or len(outcome.whole.classes) != 2:
        return asked

    def plain(of: Opened, predictions: Predictions | None) -> Opened:
        name = predictions.prediction if predictions else None
        if name not in of.df.columns or not of.df.schema[name].dataType.simpleString().startswith("array<"):
            return of
        both = F.col(quoted(name))
        second = F.when(F.size(both) == 2, F.get(both, F.lit(1)))
        return replace(of, df=of.df.withColumn(name, second), asked=of.asked and f"{of.asked} {name}[1]")

    return replace(
        asked,
        baseline=plain(asked.baseline, asked.scored_before),
        target=plain(asked.target, asked.scored),
    )


def _sides(baseline: _Parts, target: _Parts) -> Iterator[tuple[Profile, Profile, str | None]]:
    """What is held against what beside the whole, and a note where it isn't like against like."""
    for name, profile in target.slices.items():
        like = baseline.slices.get(name)
        yield (like, profile, None) if like else (baseline.whole, profile, LONE)
    for profile in target.windows.values():
        yield baseline.whole, profile, None


def _noted(metrics: Iterable[Metric], note: str | None) -> list[Metric]:
    return [replace(one, note="; ".join(filter(None, (one.note, note)))) if note else one for one in metrics]


def _drift(
    asked: Comparison, baseline: _Parts, target: _Parts, exact: Mapping[str, ExactDistances]
) -> Iterator[Metric]:
    columns = [of.whole.columns for of in (baseline, target)]
    both = columns[0].keys() & columns[1].keys()
    separability = None
    if vectors := sorted(name for name in both if all(one[name].kind == "embedding" for one in columns)):
        separability = embeddings.separability(asked.baseline.df, asked.target.df, vectors)
    yield from drift.compared(baseline.whole, target.whole, asked.limits, exact=exact, separability=separability)
    sides = list(_sides(baseline, target))
    for before, after, note in sides:
        yield from _noted(drift.compared(before, after, asked.limits, parts=len(sides)), note)


def _quality(
    asked: Comparison, baseline: _Parts, target: _Parts, checks: Mapping[str | None, Checks], now: datetime
) -> Iterator[Metric]:
    yield from quality.compared(baseline.whole, target.whole, checks[None], asked.limits, now=now)
    for before, after, note in _sides(baseline, target):
        counted = checks.get(after.slice) if after.window is None else None
        yield from _noted(quality.compared(before, after, counted, asked.limits, now=now), note)
    if asked.window:
        yield from quality.row_counts(list(target.windows.values()), asked.limits, unit=asked.window)


def _checks(asked: Comparison) -> list[Checks]:
    """What has to be counted in the target's rows."""
    df = asked.target.df
    known = {*asked.columns}
    types: dict[str, Any] = {
        leaf.name: leaf.type
        for leaf in fields.leaves_of(asked.baseline.df)
        if leaf.name in known or leaf.name.partition(".")[0] in known
    }
    if asked.model:
        types |= casts.types_of(asked.model.metadata, df.columns)
    by = fields.named(list(fields.leaves_of(df)), asked.by, "by") if asked.by else None
    return rows.checked(
        df,
        key=asked.key,
        time_column=asked.target.time_column,
        expectations=asked.expectations,
        types=types,
        slices=None if by is None else fields.slice_of(by, asked.slices or ()),
    )


def _importance(asked: Comparison, baseline: Profile) -> Any:
    """How much each column matters; None where nobody was asked."""
    source = asked.importance if asked.importance is not None else asked.model
    if source is None:
        return None
    inputs = asked.model.metadata.get_input_schema() if asked.model else None
    names = inputs.input_names() if inputs is not None and inputs.has_input_names() else list(baseline.columns)
    return importance(source, names, deviations={name: one.deviation for name, one in baseline.columns.items()})


def _weighted(metrics: Sequence[Metric], shares: Any, limits: Thresholds) -> Iterator[Metric]:
    """Drift of what matters to the model, as a whole, and of each slice and window."""
    limit = limits.of("weighted_drift")
    if shares is None or shares.shares is None:
        note = shares.note if shares else None
        why = note if limit is not None else None
        yield Metric(signal="drift", metric="weighted_drift", value=math.nan, threshold=limit, note=note, unheld=why)
        return
    of = [one for one in metrics if one.signal == "drift"]
    for place in dict.fromkeys((one.slice, one.window) for one in of):
        yield drift.weighted([one for one in of if (one.slice, one.window) == place], shares.shares, limit)


def _given(asked: Comparison) -> dict[str, bool]:
    """Which of the arguments are there that metrics stand on."""
    return {
        "key": bool(asked.key),
        "time_column": asked.target.time_column is not None,
        "model": asked.model is not None or asked.importance is not None,
        "label": asked.scored is not None and asked.scored.label is not None,
    }


def _performance(before: _Parts | None, after: _Parts, asked: Comparison) -> Iterator[Metric]:
    for one in after:
        like = before.slices.get(one.slice) if before else None
        note = LONE if before and one.slice is not None and like is None else None
        same = like or (before.whole if before else None)
        yield from _noted(performance.measured(one, asked.limits, same), note)
        if same is not None:
            yield from _noted(estimation.expected(same, one, asked.limits), note)
