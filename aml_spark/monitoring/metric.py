"""A value of one metric, and the threshold that it is held against."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from numbers import Real
from typing import Literal

from aml_spark.errors import ArgumentError, did_you_mean, listed

Signal = Literal["drift", "quality", "performance"]
_SHARES = frozenset(
    (
        *("jensen_shannon_distance", "two_sample_kolmogorov_smirnov_test", "kolmogorov_smirnov_distance", "cramers_v"),
        *("pearsons_chi_squared_test", "hellinger_distance", "infinity_norm", "domain_classifier_roc_auc"),
        *("accuracy", "precision", "recall", "f1", "roc_auc", "pr_auc"),
    )
)
"""Metrics that lie from 0 to 1, beside rates."""
_LONGEST = 100  # of a wrong value, to be shown
_ALIASES = {
    "psi": "population_stability_index",
    "js": "jensen_shannon_distance",
    "ks": "kolmogorov_smirnov_distance",
    "wasserstein": "normalized_wasserstein_distance",
    "auc": "roc_auc",
}
"""Shorter names that metrics go by elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A value of one metric.

    Args:
        signal: what it tells of.
        metric: its name, as Azure Machine Learning spells it where it has it.
        value: NaN where it can't be told; `note` says why.
        column: of which column; None for a whole table's.
        threshold: what the value is held against; None where it is only shown.
        breached: whether it fails.
        slice: value of the column that `by=` names; None for all rows.
        window: start of the time window, ISO 8601; None for all time.
        bound: how far the value may lie from that of all rows one by one; 0 where it is exact.
        note: what one should know to read it.
        unheld: why it is held against nothing, where it was to be.
    """

    signal: Signal
    metric: str
    value: float
    column: str | None = None
    threshold: float | None = None
    breached: bool = False
    slice: str | None = None
    window: str | None = None
    bound: float = 0.0
    note: str | None = None
    unheld: str | None = None


def is_rate(metric: str) -> bool:
    """Whether a metric is a share of rows, which is read in percent."""
    return metric.endswith("_rate") or metric.startswith("expectation:")


def in_time(window: str) -> tuple[bool, str, timedelta]:
    """The order of windows; that of rows without a time comes last."""
    try:
        ahead = datetime.fromisoformat(window).utcoffset() or timedelta()
    except ValueError:
        ahead = timedelta()
    # Of two hours that clocks show the same, the one farther ahead of UTC is the first.
    return not window[:1].isdigit(), window[:19], -ahead


class Thresholds:
    """What values are held against.

    Args:
        given: by metric a number for all columns, by column a mapping of metric to number; None shows a value without
            holding it against anything.
        defaults: by metric; what is not given.
        whole: metrics that only a whole table has, so no column has a threshold of its own for them.

    Attributes:
        given: metrics that the user gave thresholds for, and of which column; None for all of them.

    Raises:
        ArgumentError: a metric that there isn't, or that no column has; or what isn't a number.
    """

    def __init__(
        self,
        given: Mapping[str, float | Mapping[str, float | None] | None] | None,
        defaults: Mapping[str, float | None],
        whole: Collection[str] = (),
    ) -> None:
        self._defaults = dict(defaults)
        self._columns: dict[str, dict[str, float | None]] = {}
        inner = [one for one in given.values() if isinstance(one, Mapping)] if isinstance(given, Mapping) else []
        if given is not None and not (
            isinstance(given, Mapping) and all(isinstance(name, str) for of in (given, *inner) for name in of)
        ):
            raise ArgumentError(
                f"thresholds is {given!r}; expected numbers by the names of metrics and columns",
                hint="thresholds={'jensen_shannon_distance': 0.1, 'age': {'null_value_rate': 0.05}}",
            )
        for name, value in (given or {}).items():
            if isinstance(value, Mapping):
                if metric := next((one for one in value if one in whole), None):
                    raise ArgumentError(
                        f"thresholds names {metric!r} for {name!r}, but it is a metric of the whole table, not of a "
                        "column; expected it beside the columns",
                        hint=f"thresholds={{{metric!r}: {value[metric]!r}, …}}",
                    )
                self._columns[name] = {
                    metric: self._checked(metric, one, of_column=True) for metric, one in value.items()
                }
            else:
                self._defaults[name] = self._checked(name, value)
        given = given or {}
        self.given: list[tuple[str, str | None]] = [(name, None) for name in given if name not in self._columns]
        self.given += [(metric, name) for name, of in self._columns.items() for metric in of]

    def _checked(self, metric: str, value: float | None, *, of_column: bool = False) -> float | None:
        if metric not in self._defaults:
            raise ArgumentError(
                f"thresholds names {metric!r}, which is no metric; expected one of {listed(self._defaults, most=60)}"
                + ("" if of_column else f"; a column's are a mapping: {{{metric!r}: {{'null_value_rate': 0.1}}}}"),
                hint=f"did you mean {_ALIASES[metric.lower()]!r}?"
                if metric.lower() in _ALIASES
                else did_you_mean(metric, self._defaults),
            )
        if value is None:
            return None
        try:
            number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
        except OverflowError:  # an integer beyond all floating numbers
            number = math.nan
        if math.isnan(number):
            told = repr(value) if len(repr(value)) < _LONGEST else f"of {len(repr(value))} characters"
            raise ArgumentError(f"the threshold of {metric!r} is {told}; expected a number, or None for none")
        expected = metric.removeprefix("expected_")
        if (is_rate(metric) or metric in _SHARES or expected in _SHARES) and not 0 <= number <= 1:
            raise ArgumentError(
                f"the threshold of {metric!r} is {value!r}; expected a number from 0 to 1, or None for none",
                hint=f"{number:g} % is {number / 100:g}" if 1 < number <= 100 else None,
            )
        return number

    @property
    def columns(self) -> set[str]:
        """The columns that have thresholds of their own."""
        return set(self._columns)

    def of(self, metric: str, column: str | None = None) -> float | None:
        """The threshold of a metric, for a column; None where there is none."""
        own = self._columns.get(column or "", {})
        return own[metric] if metric in own else self._defaults.get(metric)
