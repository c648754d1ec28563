"""What breached, in words: one line a column, the worst first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_spark.monitoring.figures import moment, number, percent
from aml_spark.monitoring.metric import Metric, is_rate
from aml_spark.monitoring.performance.performance import HIGHER_IS_BETTER, foreign
from aml_spark.monitoring.profiles.frequencies import Frequencies

if TYPE_CHECKING:
    from aml_spark.monitoring.profiles.profile import Column
    from aml_spark.monitoring.report.report import Report

P_VALUES = ("two_sample_kolmogorov_smirnov_test", "pearsons_chi_squared_test")
_WORST = 100.0
_NAMED = 3  # metrics, windows or slices that a line names


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What breached of one column, of the predictions, or of one check of the whole table.

    Args:
        column: its name; None for predictions and the whole table.
        what: how it begins, where it has no column: `performance`, or nothing.
        metrics: those that breached, the worst first: of each that of all rows, or where it isn't the worst of a slice
            or window.
        slices: values of the `by=` column in whose rows something breached.
        by: that column; None where it isn't known.
        windows: in how many something breached, and how many there are.
        changed: what one sees in the data, such as `mean 61.2 → 78.4`.
        told: the same without any value of a row, for messages that leave the report.
        severity: what findings are ordered by.
    """

    column: str | None
    what: str | None
    metrics: tuple[Metric, ...]
    slices: tuple[str, ...] = ()
    by: str | None = None
    windows: tuple[int, int] = (0, 0)
    changed: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    severity: float = 0.0

    @property
    def is_partial(self) -> bool:
        """Whether nothing breached in all rows, but in slices or windows."""
        return all(metric.slice is not None or metric.window is not None for metric in self.metrics)

    def line(self, *, values: bool = True) -> str:
        """One line of text; without `values` no category, no slice, no least and no greatest number stands in it."""
        compared = [comparison(metric) + _place(metric, self.by, values=values) for metric in self.metrics[:_NAMED]]
        if len(self.metrics) > _NAMED:
            compared.append(f"{len(self.metrics) - _NAMED} more")
        text, changed = ", ".join(compared), ", ".join(self.changed if values else self.told)
        if self.is_partial:
            changed = changed and f"in all rows {changed}"
        text = f"{changed} ({text})" if changed else text
        if name := self.column if self.column is not None else self.what:
            text = f"{name}: {text}"
        breached, known = self.windows
        where = [f"{breached} of {_counted(known, 'window')}"] if breached else []
        if self.slices:
            where.append(_slices(self.slices, self.by, values=values))
        return f"{text}; in {' and in '.join(where)}" if where else text


def findings(report: Report) -> list[Finding]:
    """What breached, worst first.

    The whole table's metrics come before the columns', as they tell of what a model's users get. A metric weighs as
    many times as its value passes its threshold, a hundred at most; a p-value weighs one, as it says that a column
    changed and not how much. Where importance is known, it is multiplied with the column's share of the greatest; what
    isn't among the model's inputs, such as its prediction, keeps its weight.
    """
    groups: dict[tuple[str | None, str | None], list[Metric]] = {}
    for metric in report.metrics_found:
        if metric.breached:
            whole = "performance" if metric.signal == "performance" else metric.metric
            groups.setdefault((metric.column, whole if metric.column is None else None), []).append(metric)
    windows = len({metric.window for metric in report.metrics_found if metric.window is not None})
    found = [_finding(report, column, what, metrics, windows) for (column, what), metrics in groups.items()]
    return sorted(found, key=lambda one: (one.column is not None, one.what is None, -one.severity))


def unheld(report: Report, *, values: bool = True) -> list[str]:
    """What was to be held against something and couldn't be, a line for each reason; rows that are left out, too.

    Args:
        report: what was found.
        values: whether slices may stand in it, which are values of rows.
    """
    reasons: dict[str, list[str]] = {}
    for name, (reason, _) in _unheld(report).items():
        reasons.setdefault(reason, []).append(name[1])
    told = [f"not compared: {_some(names)} ({reason})" for reason, names in reasons.items()]
    parts: dict[tuple[str | None, str | None], list[Metric]] = {}
    for metric in report.metrics_found:
        if metric.signal == "performance" and not metric.metric.startswith("expected_"):
            parts.setdefault((metric.slice, metric.window), []).append(metric)
    lost = {place: found[0].unheld for place, found in parts.items() if all(metric.unheld for metric in found)}
    if lost and (None, None) not in lost:
        slices = [name for name, _ in lost if name is not None]
        windows = _counted(len(lost) - len(slices), "window") if len(lost) > len(slices) else None
        places = [windows] if windows else []
        places += [_slices(slices, report.by, values=values)] if slices else []
        told.append(f"not compared: performance in {' and in '.join(places)} ({next(iter(lost.values()))})")
    for side, outcome in zip(("baseline", "target"), (report.baseline_outcome, *report.outcomes[:1]), strict=False):
        if outcome is not None and outcome.counted and outcome.foreign:
            told.append(f"not compared: of the {side}, {foreign(outcome)}")
    return told


def remarks(report: Report, *, values: bool = True) -> list[str]:
    """What `unheld` says, and what was taken for granted."""
    outcome = report.baseline_outcome or next(iter(report.outcomes), None)
    told = unheld(report, values=values)
    if outcome is not None and outcome.is_guessed and values:
        other, positive = outcome.classes
        told.append(
            f"{positive!r} is taken for the positive class, as the second of two texts in their order: "
            f"classes=[{positive!r}, {other!r}] takes {other!r}"
        )
    return told


def _unheld(report: Report) -> dict[tuple[str, str], tuple[str, str]]:
    """Of all rows, by kind and name the reason and what the verdict calls it: columns, checks, or performance."""
    whole = [metric for metric in report.metrics_found if metric.slice is None and metric.window is None]
    breached = {metric.column for metric in whole if metric.breached}
    compared = {metric.column for metric in whole if metric.signal == "drift" and not math.isnan(metric.value)}
    found: dict[tuple[str, str], tuple[str, str]] = {}
    scored = [metric for metric in whole if metric.signal == "performance" and metric.column is None]
    lost = [metric for metric in scored if metric.unheld]
    held = any(metric.threshold is not None and not metric.unheld for metric in scored)
    for metric in lost if held else lost[:1]:
        name = metric.metric if held else "performance"
        found["performance", name] = (metric.unheld or "", "some of performance" if held else "performance")
    for metric in whole:
        if (
            metric.unheld
            and metric.signal != "performance"
            and (metric.column is None or metric.column not in breached)
        ):
            if metric.column is None or metric.column in compared:
                name = metric.metric if metric.column is None else f"{metric.metric} of {metric.column}"
                found["check", name] = (metric.unheld, name)
            else:
                found.setdefault(("column", metric.column), (metric.unheld, ""))
    return found


def verdict(report: Report) -> str:
    """The report in one sentence. What breaches in slices or windows alone is told apart: of many, some do."""
    found = findings(report)
    known = _counted(len(report.columns), "column")
    metrics = report.metrics_found
    if not any(metric.threshold is not None or metric.breached for metric in metrics):
        return f"Nothing was held against a threshold, of {known}"
    others = _unheld(report)
    columns = sum(kind == "column" for kind, _ in others)
    held = (metric for metric in metrics if metric.threshold is not None and metric.signal != "quality")
    if not found and others and all(math.isnan(metric.value) for metric in held):
        return f"Nothing could be compared, of {known}"
    of_all = _told([one for one in found if not one.is_partial], known, " of the whole table")
    of_some = _told([one for one in found if one.is_partial], known)
    if not found:
        text = f"passed: nothing breached in {_counted(len(report.columns) - columns, 'column')}"
    elif of_all and of_some:
        text = f"{of_all} breached, {of_some} in slices or windows"
    else:
        text = f"{of_all} breached" if of_all else f"{of_some} breached in slices or windows"
    if others:
        parts = [_counted(columns, "column")] if columns else []
        parts += dict.fromkeys(what for _, what in others.values() if what)
        text += f"; not compared: {_some(parts)}"
    return text[0].upper() + text[1:]


def _told(found: Sequence[Finding], known: str, checks: str = "") -> str:
    """What findings are of: columns, performance, checks."""
    columns = sum(one.column is not None for one in found)
    others = sum(one.column is None and one.what is None for one in found)
    parts = [f"{columns} of {known}"] if columns else []
    parts += ["performance"] if any(one.what for one in found) else []
    parts += [_counted(others, "check") + checks] if others else []
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)


def comparison(metric: Metric) -> str:
    """A metric's value beside its threshold: `population_stability_index 0.41 > 0.2`."""
    if metric.metric in ("missing_column", "added_column", "type_changed"):
        return metric.metric
    if metric.metric == "row_count_change" and math.isnan(metric.value):
        return "the baseline has no rows"
    value = shown(metric, metric.value)
    if metric.threshold is None or math.isnan(metric.value):
        return metric.metric if math.isnan(metric.value) else f"{metric.metric} {value}"
    sign = ">" if metric.value > metric.threshold else "<" if metric.value < metric.threshold else "="
    if metric.metric == "row_count_change" and metric.breached and metric.value < 0:
        return f"{metric.metric} {value}" + (f" < −{shown(metric, metric.threshold)}" if metric.threshold else "")
    digits = 3
    while sign != "=" and digits < 17 and value == shown(metric, metric.threshold, digits):
        digits += 1
        value = shown(metric, metric.value, digits)
    return f"{metric.metric} {value} {sign} {shown(metric, metric.threshold, digits)}"


def shown(metric: Metric, value: float, digits: int = 3) -> str:
    """A number of a metric as a person reads it; rates and changes in percent."""
    in_percent = is_rate(metric.metric) or metric.metric == "row_count_change"
    return percent(value, digits) if in_percent else number(value, digits)


def excess(metric: Metric) -> float:
    """How many times a value passes its threshold; 1 is at the threshold, NaN where there is none."""
    value, threshold = metric.value, metric.threshold
    if threshold is None or math.isnan(value):
        return _WORST if metric.breached else math.nan
    if metric.metric in P_VALUES:
        return 1.0 if metric.breached else min(threshold / value, 1.0) if value > 0 else 0.0
    if metric.metric.removeprefix("expected_") in HIGHER_IS_BETTER and threshold > 0:
        return min(threshold / value, _WORST) if value > 0 else _WORST
    if threshold == 0:
        return 1 + min(abs(value) * 10, _WORST - 1) if metric.breached else 0.0
    return min(abs(value / threshold), _WORST)


def _order(metric: Metric) -> tuple[float, float]:
    """The worst first; of p-values, which all weigh the same, the least."""
    return -excess(metric), metric.value if metric.metric in P_VALUES else 0.0


def _place(metric: Metric, by: str | None, *, values: bool) -> str:
    """Where a metric breached, if not in all rows."""
    if metric.window is not None:
        return f" from {metric.window[:10] if metric.window.endswith('T00:00:00') else metric.window}"
    if metric.slice is None:
        return ""
    return f" in {_slices([metric.slice], by, values=True)}" if values else " in a slice"


def _finding(report: Report, column: str | None, what: str | None, metrics: Sequence[Metric], windows: int) -> Finding:
    overall = [metric for metric in metrics if metric.slice is None and metric.window is None]
    worst: dict[str, Metric] = {}
    for metric in [*sorted(overall, key=_order), *sorted(metrics, key=_order)]:
        worst.setdefault(metric.metric, metric)
    severity = max(excess(metric) for metric in metrics)
    if column is not None and report.importance:
        most = max(map(abs, report.importance.values())) or 1.0
        severity *= abs(report.importance.get(column, most)) / most
    changed = list(_changes(report, column)) if column is not None else []
    return Finding(
        column=column,
        what=what if what == "performance" else None,
        metrics=tuple(worst.values()),
        slices=tuple(dict.fromkeys(metric.slice for metric in metrics if metric.slice is not None)),
        by=report.by,
        windows=(len({metric.window for metric in metrics if metric.window is not None}), windows),
        changed=tuple(text for text, _ in changed),
        told=tuple(text for text, harmless in changed if harmless),
        severity=severity,
    )


def _changes(report: Report, name: str) -> Iterator[tuple[str, bool]]:
    """What changed in a column, and whether that shows no value of a row."""
    baseline, target = report.baseline.columns.get(name), report.target.columns.get(name)
    if baseline is None or target is None:
        if baseline or target:
            yield f"only in the {'baseline' if baseline else 'target'}", True
        return
    if baseline.type != target.type:
        yield f"type {baseline.type} → {target.type}", True
    if baseline.kind == target.kind:
        if baseline.frequencies is not None and target.frequencies is not None:
            yield from _categories(baseline.frequencies, target.frequencies)
        elif baseline.kind in ("numeric", "time"):
            yield from _numbers(baseline, target)
    before, after = (column.missing / column.rows if column.rows else math.nan for column in (baseline, target))
    if abs(after - before) >= 0.005 or (before == 0) != (after == 0):
        yield f"missing {percent(before)} → {percent(after)}", True


def _numbers(baseline: Column, target: Column) -> Iterator[tuple[str, bool]]:
    def told(value: float) -> str:
        return moment(value, baseline.type) if baseline.kind == "time" else number(value)

    if not (baseline.histogram.total and target.histogram.total):
        return
    deviation, before = target.deviation, baseline.deviation
    if told(baseline.mean) != told(target.mean) and abs(target.mean - baseline.mean) >= 0.05 * before:
        yield f"mean {told(baseline.mean)} → {told(target.mean)}", True
    least = max(1.2 * min(deviation, before), 1e-9 * abs(baseline.mean))  # less is what sums are rounded by
    if baseline.kind == "numeric" and max(deviation, before) > least:
        yield f"standard deviation {number(before)} → {number(deviation)}", True
    for end, one, two in (("least", baseline.min, target.min), ("greatest", baseline.max, target.max)):
        if (two < one) if end == "least" else (two > one):
            yield f"{end} {told(one)} → {told(two)}", False


def _categories(baseline: Frequencies, target: Frequencies) -> Iterator[tuple[str, bool]]:
    first, second = baseline.total, target.total
    if not first or not second:
        return
    if not baseline.rest:
        new = [
            value
            for value in sorted(target.counts, key=lambda one: -target.counts[one])
            if value not in baseline.counts
        ]
        if new:
            what = "new category" if len(new) == 1 else "new categories"
            yield f"{what} {_some([repr(value) for value in new])}", False
    if not target.rest:
        gone = [
            value
            for value in sorted(baseline.counts, key=lambda one: -baseline.counts[one])
            if value not in target.counts
        ]
        if gone:
            yield f"no longer {_some([repr(value) for value in gone])}", False
    shares: Mapping[str, tuple[float, float]] = {
        value: (baseline.counts[value] / first, target.counts[value] / second)
        for value in baseline.counts
        if value in target.counts
    }
    if shares:
        value, (before, after) = max(shares.items(), key=lambda one: abs(one[1][0] - one[1][1]))
        if abs(before - after) >= 0.02:
            yield f"{value!r} {percent(before)} → {percent(after)}", False


def _slices(names: Sequence[str], by: str | None, *, values: bool) -> str:
    """Slices as a line calls them: by their names, or by their number."""
    what = "slice" if len(names) == 1 else "slices"
    text = f"{what} {_some(names)}" if values else _counted(len(names), "slice")
    return text if by is None else f"{text} of {by}"


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
