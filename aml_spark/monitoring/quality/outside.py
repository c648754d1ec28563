"""Values of a target that its baseline doesn't have: how many there are, and how many there may be by chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from aml_spark.monitoring.profiles.histogram import Histogram
from aml_spark.monitoring.profiles.profile import Column


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """How many values the baseline doesn't have.

    Args:
        least: at least so many.
        most: at most.
        chance: of how many of the baseline's own values the same could be said, by which chance is told.
        note: what one should know to read it.
    """

    least: int
    most: int
    chance: int
    note: str = ""


def known(column: Column) -> Mapping[str, int] | None:
    """All values of a text or boolean column with their counts; None where there are too many."""
    found = column.frequencies
    return None if found is None or found.rest or found.most_missed else found.counts


def counted(baseline: Column, target: Column, exact: int | None = None) -> Outside:
    """How many values of a column the baseline doesn't have; of two columns of one kind, both with values.

    Numbers, and norms of vectors, lie below the baseline's least or above its greatest. Infinities are outside where
    the baseline has none of their sign. Texts and booleans aren't among the baseline's; where it has too many to know
    them all, the lengths are told instead.

    Args:
        baseline: the column as it should be.
        target: what is looked at.
        exact: the finite numbers outside, where they were counted one by one.
    """
    values = known(baseline)
    if values is not None and target.frequencies is not None:
        return _of_values(values, target)
    return _of_range(baseline, target, exact)


def _of_values(values: Mapping[str, int], target: Column) -> Outside:
    """Of N values with k that came once the next is a new one with a chance of k/N (Good, Biometrika 40, 1953)."""
    found = target.frequencies
    assert found is not None
    certain = sum(count for value, count in found.counts.items() if value not in values)
    once = sum(count == 1 for count in values.values())
    note = (
        f"{once:,} of the baseline's {len(values):,} values came once, so new ones are to be expected" if once else ""
    )
    # Values of the baseline that may be in the rest: each of them at most so often.
    hidden = sum(value not in found.counts for value in values) * found.most_missed
    least = certain + max(found.rest - hidden, 0)
    return Outside(least=least, most=certain + found.rest, chance=once, note=note if certain or found.rest else "")


def _of_range(baseline: Column, target: Column, exact: int | None) -> Outside:
    """Of N numbers the next one lies outside of their range with a chance of 2/(N + 1), whatever their distribution."""
    low, high = baseline.min, baseline.max
    infinite = 0 if baseline.positive_infinities else target.positive_infinities
    infinite += 0 if baseline.negative_infinities else target.negative_infinities
    if math.isnan(low):  # the baseline has infinities only
        least = most = target.histogram.total
    else:
        least, most = (exact, exact) if exact is not None else _beyond(target.histogram, low, high)
    notes = [f"{infinite:,} infinite"] if infinite else []
    if target.kind == "text":
        notes.append("lengths of the texts: the baseline has too many to know them all")
    elif target.kind == "embedding":
        notes.append("norms of the vectors")
    chance = min(2, baseline.count)
    return Outside(least=least + infinite, most=most + infinite, chance=chance, note="; ".join(notes))


def _beyond(histogram: Histogram, low: float, high: float) -> tuple[int, int]:
    """How many numbers lie outside of a range: at least, and at most."""
    lows, highs, counts = histogram.lows, histogram.highs, histogram.counts
    outside = (highs < low) | (lows > high)
    # Of a bucket that lies across an end both its least and its greatest number are known, and on which side they are.
    ends = (1 * (lows < low) + (highs > high)) * ~outside
    certain = int(counts[outside].sum())
    return certain + int(ends.sum()), certain + int((counts - (2 - ends))[ends > 0].sum())
