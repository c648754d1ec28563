"""Progress of long work: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator

_logger = logging.getLogger(__name__)
_WIDTH = 30
_EVERY_SECONDS = 30.0


@contextlib.contextmanager
def shown(title: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function that takes tasks done and tasks known, and shows them on standard error while the block runs."""
    start = last = time.monotonic()
    terminal = sys.stderr.isatty()

    def show(done: int, known: int) -> None:
        nonlocal last
        now = time.monotonic()
        if terminal:
            filled = _WIDTH * done // known if known else 0
            bar = "█" * filled + "░" * (_WIDTH - filled)
            sys.stderr.write(f"\r{title} {bar} {done}/{known} tasks, {now - start:.0f} s\x1b[K")
            sys.stderr.flush()
        elif now - last >= _EVERY_SECONDS:
            last = now
            _logger.info("%s: %d of %d tasks done after %.0f s", title, done, known, now - start)

    with _cleared(terminal=terminal):
        yield show


@contextlib.contextmanager
def waiting(title: str) -> Iterator[Callable[[str], None]]:
    """Give a function that takes what is known of something far away, and shows it while the block runs."""
    terminal, told, last = sys.stderr.isatty(), "", 0.0

    def show(state: str) -> None:
        nonlocal told, last
        if terminal:
            sys.stderr.write(f"\r{title}: {state}\x1b[K")
            sys.stderr.flush()
        elif state.partition(",")[0] != told or time.monotonic() - last >= _EVERY_SECONDS:
            told, last = state.partition(",")[0], time.monotonic()
            _logger.info("%s: %s", title, state)

    with _cleared(terminal=terminal):
        yield show


@contextlib.contextmanager
def _cleared(*, terminal: bool) -> Iterator[None]:
    """Leave nothing of the last line that was shown on a terminal."""
    try:
        yield
    finally:
        if terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
