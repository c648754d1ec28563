"""How often values stand in a column: the most frequent ones each, the rest together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MOST_VALUES = 1000
"""Values of a column that a pass over a table counts one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frequencies:
    """Values that aren't null, counted.

    Args:
        counts: by value.
        rest: values beside them, together.
        distinct: different values; where parts with a rest were put together, at least so many.
        most_missed: how often a value may stand in the rest; 0 where there is none.
    """

    counts: Mapping[str, int]
    rest: int = 0
    distinct: int = 0
    most_missed: int = 0

    @property
    def total(self) -> int:
        """How many values."""
        return sum(self.counts.values()) + self.rest

    def merge(self, other: Frequencies) -> Frequencies:
        """Both together; in any order and grouping the same. A count is right to within `most_missed` then."""
        counts = dict(self.counts)
        for value, count in other.counts.items():
            counts[value] = counts.get(value, 0) + count
        at_least = max(len(counts), self.distinct, other.distinct)
        return Frequencies(
            counts=counts,
            rest=self.rest + other.rest,
            distinct=at_least,
            most_missed=self.most_missed + other.most_missed,
        )
