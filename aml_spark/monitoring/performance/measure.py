"""A value that was computed of a sample, and how far it may be off."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A value with its bound, its standard error (NaN where there is none) and what one should know."""

    value: float
    error: float = math.nan
    bound: float = 0.0
    note: str | None = None


def share(part: float, whole: float, why: str = "") -> Measure:
    """A share of rows; NaN with the reason where there are none."""
    if whole <= 0:
        return Measure(value=math.nan, note=why)
    return Measure(value=float(part / whole), error=share_error(part, whole))


def share_error(part: float, whole: float) -> float:
    """Standard error of a share, with two rows of each kind more (Agresti and Coull 1998): 1 of 1 is no certainty."""
    value = (part + 2) / (whole + 4)
    return math.sqrt(value * (1 - value) / (whole + 4))
