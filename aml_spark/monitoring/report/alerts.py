"""Who is told of a breach: a function, a webhook, or whoever catches the error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aml_spark.errors import ArgumentError, BreachError
from aml_spark.monitoring.report import findings

if TYPE_CHECKING:
    from aml_spark.monitoring.report.report import Report

OnBreach = Callable[["Report"], Any] | str
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_TRIES = 4
_SECONDS = 10
_LINES = 20
_EXPECTED = "a function that takes the report, 'raise', or the https:// address of a webhook"
_logger = logging.getLogger(__name__)


def check(on_breach: OnBreach | None) -> None:
    """Refuse what can't be told to, before there is anything to tell.

    Args:
        on_breach: None tells nobody.

    Raises:
        ArgumentError: it is none of what `alert` takes; http:// goes to this machine only.
    """
    if on_breach is None or callable(on_breach) or on_breach == "raise":
        return
    if not isinstance(on_breach, str):
        raise ArgumentError(f"on_breach is of type {type(on_breach).__name__}; expected {_EXPECTED}")
    try:
        parts = urlsplit(on_breach)
        host = parts.hostname
    except ValueError:  # brackets that aren't closed
        raise ArgumentError(f"on_breach isn't an address; expected {_EXPECTED}") from None
    if host and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)):
        return
    # Not the text: a webhook's address is its password.
    what = f"an address with {parts.scheme}://" if host else "neither 'raise' nor an address"
    raise ArgumentError(f"on_breach is {what}; expected {_EXPECTED}")


def alert(report: Report, on_breach: OnBreach | None) -> None:
    """Tell of a report that breached; nothing happens where it passed.

    A function is called with the report, and what it raises is raised. A webhook gets `message` as JSON; where it can't
    be told after a few tries, that is a warning in the log, so that the report isn't lost. Call it when all else is
    done: an error leaves nothing unwritten then.

    Args:
        report: what was found.
        on_breach: a function, `"raise"`, or an address: https://, or http:// on this machine. Of an address only the
            host is ever shown, and redirects aren't followed.

    Raises:
        ArgumentError: see `check`.
        BreachError: `"raise"` was asked for; its message holds the summary without any value of a row.
    """
    check(on_breach)
    if on_breach is None or report.passed:
        return
    if not isinstance(on_breach, str):
        on_breach(report)
    elif on_breach == "raise":
        verdict, *lines = report.summary(values=False).split("\n")
        rest = [f"and {len(lines) - _LINES} more"] if len(lines) > _LINES else []
        raise BreachError(
            "\n".join([f"{report.names[1]} against {report.names[0]}: {verdict}", *lines[:_LINES], *rest]),
            hint="error.report.to_html('report.html') shows what changed",
            report=report,
        )
    else:
        _post(on_breach, message(report))


def message(report: Report) -> dict[str, Any]:
    """What a webhook gets: names and numbers, no value of a row. Slack and Teams show its `text`.

    `summary` is what breached, `not_compared` what was to be held against something and couldn't be.
    """
    found = findings.findings(report)
    lines = [one.line(values=False) for one in found]
    verdict = findings.verdict(report)
    rest = [f"and {len(lines) - _LINES} more"] if len(lines) > _LINES else []
    return {
        "text": "\n".join([f"{report.names[1]} against {report.names[0]}: {verdict}", *lines[:_LINES], *rest]),
        "passed": report.passed,
        "verdict": verdict,
        "summary": lines[:_LINES],
        "not_compared": findings.unheld(report, values=False)[:_LINES],
        "columns": len(report.columns),
        "columns_breached": [one.column for one in found if one.column is not None],
        "values_breached": sum(metric.breached for metric in report.metrics_found),
        "baseline": report.names[0],
        "baseline_version": report.baseline.version,
        "target": report.names[1],
        "target_version": report.target.version,
        "model": report.model,
        "report_id": report.id,
        "made_at": report.made_at.isoformat(),
    }


def _post(address: str, body: dict[str, Any]) -> None:
    import requests

    from aml_spark.service import TRANSIENT, wait

    host = urlsplit(address).hostname
    for attempt in range(_TRIES):
        answer = None
        try:
            answer = requests.post(address, json=body, timeout=_SECONDS, allow_redirects=False)
            why = f"HTTP {answer.status_code}"
        except (requests.RequestException, ValueError) as error:  # their texts quote the address
            why = type(error).__name__
        if answer is not None and 200 <= answer.status_code < 300:
            return
        if answer is not None and answer.status_code not in TRANSIENT:
            break
        if attempt + 1 < _TRIES:
            wait(attempt, answer.headers.get("Retry-After") if answer is not None else None)
    _logger.warning("the webhook at %s wasn't told of the breach (%s)", host, why)
