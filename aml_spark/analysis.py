"""What Spark makes of SQL that a user wrote, without its own words where it refuses."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def tried() -> Iterator[None]:
    """Try what Spark may refuse, where the refusal is told in our words.

    pyspark 4 writes each to standard error, with Java's stack, before anyone can catch it. What this thread tries is
    kept out of that.
    """
    try:
        from pyspark.logger import PySparkLogger
    except ImportError:  # before Spark 4
        yield
        return
    thread = threading.get_ident()

    def of_others(record: logging.LogRecord) -> bool:
        return bool(record.thread != thread)

    loggers = [PySparkLogger.getLogger(f"{kind}QueryContextLogger") for kind in ("SQL", "DataFrame")]
    for logger in loggers:
        logger.addFilter(of_others)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(of_others)
