"""Whether a table is as it should be: its columns by a baseline's profile, its rows by what was counted in them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from statistics import median

from aml_spark.errors import listed
from aml_spark.monitoring.drift.drift import FALSE_ALARMS
from aml_spark.monitoring.figures import percent
from aml_spark.monitoring.metric import Metric, Thresholds, in_time
from aml_spark.monitoring.profiles.profile import Column, Profile
from aml_spark.monitoring.quality.outside import counted, known
from aml_spark.monitoring.quality.rows import Checks

FROM_BASELINE = math.nan
"""Stands in `THRESHOLDS` for a threshold that follows from the baseline, as `limit` says."""
THRESHOLDS: Mapping[str, float | None] = {
    "null_value_rate": FROM_BASELINE,
    "data_type_error_rate": 0.0,
    "out_of_bounds_rate": FROM_BASELINE,
    "new_categories": None,
    "missing_column": 0.0,
    "added_column": None,
    "type_changed": 0.0,
    "duplicate_rate": 0.0,
    "freshness_hours": None,
    "row_count_change": FROM_BASELINE,
}
"""Above them a value breaches; a change of the number of rows does in both directions."""
_LEAST = 0.001
"""Rates that differ by less don't matter."""
_RELATIVE = 0.1
"""Nor do those that differ by a smaller share of the baseline's."""
_NAMED = 5  # values that a note names


def defaults(expectations: Iterable[str] = ()) -> dict[str, float | None]:
    """`THRESHOLDS`, and 0 for the share of rows that fail each expectation."""
    return {**THRESHOLDS, **{f"expectation:{name}": 0.0 for name in expectations}}


def limit(found: int, of: int, rows: int, comparisons: int = 1) -> float:
    """The greatest rate that says nothing new, after one that was found before.

    That is the earlier rate, and what chance may add to it by Newcombe's hybrid score interval (Statistics in Medicine
    17, 1998, 873-890, method 10), and for what is rare a few rows more, as Cornish and Fisher's expansion says. The
    interval is as wide as it takes for one of all comparisons to lie above with a probability of `FALSE_ALARMS`
    (Bonferroni): 3.1 standard errors of one, 4.8 of a thousand. Differences of less than 0.001, or than a tenth of the
    earlier rate, are allowed besides, however many rows there are.

    Args:
        found: how many there were.
        of: among how many.
        rows: how many the new rate is of.
        comparisons: of how many this is one.

    Returns:
        From 0 to 1; 1 where nothing is known.
    """
    if not of or not rows:
        return 1.0
    from scipy.special import ndtri

    errors = -float(ndtri(FALSE_ALARMS / max(comparisons, 1)))
    rate, square = found / of, errors**2
    spread = errors * math.sqrt(rate * (1 - rate) / of + square / (4 * of * of))
    upper = min((rate + square / (2 * of) + spread) / (1 + square / of), 1.0)
    chance = math.sqrt((upper - rate) ** 2 + square * upper * (1 - upper) / rows) + (square - 1) / 6 / rows
    return min(rate + max(chance, _LEAST, _RELATIVE * min(rate, 1 - rate)), 1.0)


def compared(
    baseline: Profile, target: Profile, checks: Checks | None, thresholds: Thresholds, *, now: datetime
) -> list[Metric]:
    """Hold a target's columns and rows against a baseline.

    * `null_value_rate`: rows without a value, null or NaN, as a share of all. Its threshold follows from the
      baseline's.
    * `data_type_error_rate`: values that can't be taken for the type that is wanted, as a share of all values.
    * `out_of_bounds_rate`: values that the baseline doesn't have, see `outside.counted`, as a share of all values. Its
      threshold follows from how many new ones the baseline lets expect. Times go on, so theirs has none unless one is
      given.
    * `new_categories`: how many values there are that the baseline hasn't.
    * `missing_column`, `added_column`: 1 for a column that only one has. `type_changed`: 1 where its type is of another
      kind, or vectors have another number of dimensions, 0 where only the width or precision differs.
    * `duplicate_rate`: rows beyond the first of each key, as a share of all rows.
    * `freshness_hours`: from the latest time in the table to now.
    * `row_count_change`: by what share the table has more rows than the baseline. Without a threshold of yours it
      breaches only where one of both has none at all.
    * `expectation:<name>`: rows for which the condition is false, as a share of all. One that Spark fails at is NaN,
      and breaches.

    Args:
        baseline: what is as it should be.
        target: what is looked at.
        checks: what was counted in the target's rows, or the slice's; None where nothing was.
        thresholds: made with `defaults` among its own.
        now: with a zone.

    Returns:
        The table's, then by column in the baseline's order. What can't be told is NaN with the reason. What concerns
        the table as a whole is left out for a slice and a window.
    """
    is_whole = target.slice is None and target.window is None
    metrics = [*_table(baseline, target, thresholds)] if is_whole else []
    metrics += _rows(checks, thresholds, now) if checks else []
    names = [*baseline.columns, *(name for name in target.columns if name not in baseline.columns)]
    wanted = checks.wanted if checks else {}
    lacking = checks.lacking if checks else ()
    # Two rates of each column that both have.
    comparisons = 2 * sum(name in target.columns for name in baseline.columns)
    names += [name for name in (*wanted, *lacking) if name not in names]
    for name in names:
        before, after = baseline.columns.get(name), target.columns.get(name)
        if after is not None:
            metrics += [_null_rate(before, after, thresholds, comparisons)]
        if checks is not None and name in wanted:
            metrics += [_type_errors(name, after, checks, thresholds)]
        if before is not None and after is not None:
            metrics += _values(before, after, checks, thresholds, comparisons)
        if is_whole:
            metrics += _schema(name, before, after, name in lacking, name in wanted, thresholds)
    return [replace(metric, slice=target.slice, window=target.window) for metric in metrics]


def row_counts(windows: Sequence[Profile], thresholds: Thresholds, *, unit: str) -> list[Metric]:
    """By what share each time window has more rows than the others have, at the median.

    Args:
        windows: the profiles of a table's windows. A window without rows has none.
        thresholds: made with `defaults` among its own.
        unit: "hour", "day", "week", "month", "quarter" or "year". Hours without rows aren't told, because clocks are
            put forward.

    Returns:
        `row_count_change` of each window, in their order, and −1 for the first of each row of windows without rows. NaN
        with the reason where there is no other window, and of rows without a time.
    """
    timed = sorted(
        (one for one in windows if (one.window or "")[:1].isdigit()), key=lambda one: in_time(one.window or "")
    )
    found = []
    for place, one in enumerate(timed):
        others = [other.rows for other in (*timed[:place], *timed[place + 1 :])]
        usual = median(others) if others else 0
        note = "the first and the last window may not be whole" if place in (0, len(timed) - 1) else ""
        note = note if others else "there is no other window"
        found.append((one, one.window, one.rows / usual - 1 if usual else math.nan, note))
        if place + 1 < len(timed) and unit != "hour":
            missed = _between(str(one.window), str(timed[place + 1].window), unit)
            if missed:
                found.append((one, missed[0], -1.0, f"no rows until {missed[1]}"))
    untimed = [one for one in windows if one not in timed]
    found += [(one, one.window, math.nan, f"{one.rows:,} rows without a time") for one in untimed]
    return [
        replace(
            _metric("row_count_change", value, thresholds, note=note, both_ways=True), slice=one.slice, window=window
        )
        for one, window, value, note in found
    ]


def _between(before: str, after: str, unit: str) -> tuple[str, str] | None:
    """The first window between two, and the one after the last; None where they follow each other."""
    import numpy as np

    number, code = {"day": (1, "D"), "week": (7, "D"), "month": (1, "M"), "quarter": (3, "M"), "year": (1, "Y")}[unit]
    start = np.datetime64(before[:10]).astype(f"datetime64[{code}]") + number
    text = f"{start.astype('datetime64[D]')}{before[10:]}"
    return (text, after) if text < after else None


def _metric(
    metric: str,
    value: float,
    thresholds: Thresholds,
    *,
    column: str | None = None,
    derived: float | None = None,
    bound: float = 0.0,
    note: str | None = None,
    both_ways: bool = False,
    fails: bool = False,
) -> Metric:
    """One metric, held against its threshold: the given, else the derived one.

    Args:
        both_ways: whether values below minus the threshold breach as well.
        fails: whether it breaches although its value can't be told.
    """
    threshold = thresholds.of(metric, column)
    if threshold is not None and math.isnan(threshold):
        threshold = derived
    size = abs(value) if both_ways else value
    return Metric(
        signal="quality",
        metric=metric,
        value=value,
        column=column,
        threshold=threshold,
        breached=threshold is not None and (fails or size > threshold),
        bound=bound,
        note=note or None,
    )


def _table(baseline: Profile, target: Profile, thresholds: Thresholds) -> Iterator[Metric]:
    note = f"{target.rows:,} rows, {baseline.rows:,} in the baseline"
    change = target.rows / baseline.rows - 1 if baseline.rows else math.nan
    # Nothing else can breach of a table without rows, which is what a wrong date or a job that failed leaves.
    gone = 0.0 if not (target.rows and baseline.rows) else None
    nothing = not baseline.rows  # nor can anything of one
    yield _metric("row_count_change", change, thresholds, derived=gone, note=note, both_ways=True, fails=nothing)


def _rows(checks: Checks, thresholds: Thresholds, now: datetime) -> Iterator[Metric]:
    rows = checks.rows
    if checks.duplicates is not None:
        note = f"{checks.duplicates:,} rows beyond the first of their key {listed(checks.key)}"
        yield _metric("duplicate_rate", _rate(checks.duplicates, rows), thresholds, note=note if rows else "no rows")
    if checks.time_column is not None:
        hours = math.nan if checks.newest is None else (now.timestamp() - checks.newest) / 3600
        note = f"by {checks.time_column!r}"
        if checks.newest is None:
            note += ", which has no time"
        elif hours < 0:
            note += ", whose latest time lies ahead"
        yield _metric("freshness_hours", hours, thresholds, note=note)
    for name, failed in checks.failed.items():
        unknown = checks.undecided.get(name, 0)
        note = f"null for {unknown:,} rows, which count as held" if unknown else ""
        value = _rate(failed, rows)
        yield _metric(f"expectation:{name}", value, thresholds, note=note if rows else "no rows")
    for name, error in checks.broken.items():
        note = f"Spark fails at it ({error}); try_cast, try_divide and the like give null instead"
        yield _metric(f"expectation:{name}", math.nan, thresholds, note=note, fails=True)


def _null_rate(before: Column | None, after: Column, thresholds: Thresholds, comparisons: int) -> Metric:
    notes = [] if after.rows else ["no rows"]
    if after.nans:
        notes.append(f"{after.nans:,} of them NaN")
    derived = None
    if before is not None and before.rows:
        derived = limit(before.missing, before.rows, after.rows, comparisons)
        notes.append(f"{percent(before.missing / before.rows)} in the baseline")
    elif before is not None:
        notes.append("the baseline has no rows")
    value = _rate(after.missing, after.rows)
    return _metric("null_value_rate", value, thresholds, column=after.name, derived=derived, note="; ".join(notes))


def _type_errors(name: str, after: Column | None, checks: Checks, thresholds: Thresholds) -> Metric:
    # A column that wasn't profiled, such as a struct, may have nulls, which aren't known.
    values = checks.rows if after is None else after.rows - after.nulls
    wrong = checks.wrong.get(name)
    value, note = math.nan, "it has no values"
    if wrong is None:
        note = f"{checks.wanted[name]} can't be read as a type"
    elif values:
        value, note = wrong / values, f"{wrong:,} values are no {checks.wanted[name]}" if wrong else ""
    return _metric("data_type_error_rate", value, thresholds, column=name, note=note)


def _schema(
    name: str, before: Column | None, after: Column | None, is_lacking: bool, is_wanted: bool, thresholds: Thresholds
) -> Iterator[Metric]:
    if after is None and (is_lacking or not is_wanted):
        note = f"{before.type} in the baseline" if before is not None else "it is asked for, but isn't there"
        yield _metric("missing_column", 1.0, thresholds, column=name, note=note)
    elif before is None and after is not None:
        yield _metric("added_column", 1.0, thresholds, column=name, note=f"{after.type}; the baseline hasn't got it")
    elif before is not None and after is not None:
        if before.type != after.type:
            value = float(before.kind != after.kind or before.kind == "unsupported")
            note = f"{before.type} in the baseline, {after.type} now"
            yield _metric("type_changed", value, thresholds, column=name, note=note)
        elif before.dimension and after.dimension and before.dimension != after.dimension:
            note = f"vectors of {before.dimension} numbers in the baseline, of {after.dimension} now"
            yield _metric("type_changed", 1.0, thresholds, column=name, note=note)


def _values(
    before: Column, after: Column, checks: Checks | None, thresholds: Thresholds, comparisons: int
) -> Iterator[Metric]:
    """What is out of bounds, and of texts and booleans which values are new."""
    name, count = after.name, after.count
    if reason := _reason(before, after):
        yield _metric("out_of_bounds_rate", math.nan, thresholds, column=name, note=reason)
        return
    found = counted(before, after, (checks.outside if checks else {}).get(name))
    yield _metric(
        "out_of_bounds_rate",
        (found.least + found.most) / 2 / count,
        thresholds,
        column=name,
        derived=None if after.kind == "time" else limit(found.chance, before.count, count, comparisons),
        bound=(found.most - found.least) / 2 / count,
        note=found.note,
    )
    if after.frequencies is not None:
        yield _new_categories(known(before), after, thresholds)


def _reason(before: Column, after: Column) -> str | None:
    """Why values can't be held against a baseline's."""
    if before.kind != after.kind:
        return f"it is {before.type} in the baseline and {after.type} now"
    if after.kind == "unsupported":
        return after.note or before.note or f"values of type {after.type} aren't compared"
    if not after.count:
        return "it has no values"
    return None if before.count else "the baseline has no values"


def _new_categories(values: Mapping[str, int] | None, after: Column, thresholds: Thresholds) -> Metric:
    found = after.frequencies
    value, notes = math.nan, ["the baseline has too many values to know them all"]
    if found is not None and values is not None:
        new = sorted((one for one in found.counts if one not in values), key=lambda one: (-found.counts[one], one))
        value, notes = float(len(new)), [listed(new, most=_NAMED)] if new else []
        if found.rest:
            value = max(value, found.distinct - len(values))
            notes.append("at least: there are too many values to know them all")
    return _metric("new_categories", value, thresholds, column=after.name, note="; ".join(notes))


def _rate(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
