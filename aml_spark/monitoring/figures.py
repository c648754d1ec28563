"""Numbers, shares and times as people read them."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal


def number(value: float, digits: int = 3) -> str:
    """So many digits of a number that count, or all before its point."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e7 or size < 1e-4:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        text = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    else:
        decimals = max(0, digits - 1 - math.floor(math.log10(size)))
        # Halves go away from zero, as on the page: JavaScript rounds so.
        text = f"{Decimal(value).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP):,f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "−")


def percent(value: float, digits: int = 3) -> str:
    """A share in percent."""
    text = number(value * 100, digits)
    return text if text == "–" else f"{text} %"


def moment(seconds: float, type_name: str) -> str:
    """Seconds since 1970 as a date, or as a time in UTC."""
    try:
        then = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)
    except (OverflowError, ValueError):  # beyond the year 9999, or not a number
        return number(seconds)
    return f"{then:%Y-%m-%d}" if type_name == "date" else f"{then:%Y-%m-%d %H:%M}"
