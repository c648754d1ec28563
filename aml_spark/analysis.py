"""What Spark makes of SQL that a user wrote, without its own words where it refuses."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aml_spark.errors import SchemaError, did_you_mean, listed

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def analysed(df: DataFrame) -> DataFrame:
    """Have Spark look at a plan now: on Connect it does so when the schema is asked for."""
    df.schema  # noqa: B018
    return df


@contextlib.contextmanager
def on_columns(df: DataFrame, refused: str, *, name: str = "") -> Iterator[None]:
    """Try SQL on the columns of a DataFrame.

    Args:
        df: the DataFrame.
        refused: what to say where Spark refuses it.
        name: the SQL, where it may as well have been meant as a column's name.

    Raises:
        SchemaError: it does; with the columns that there are, and the one that may be meant.
    """
    from pyspark.errors import AnalysisException, ParseException

    try:
        with tried():
            yield
    except (AnalysisException, ParseException) as error:
        raise SchemaError(
            f"{refused} ({condition(error)}); they are {listed(df.columns)}",
            hint=_meant(error, df.columns) or did_you_mean(name, df.columns),
        ) from None


def _meant(error: Any, columns: Sequence[str]) -> str | None:
    """The column that is near to the one that Spark didn't find, if that is why it refused."""
    unknown = (error.getMessageParameters() or {}).get("objectName") or ""
    return did_you_mean(".".join(re.findall(r"`([^`]+)`", unknown)), columns)


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


def condition(error: BaseException) -> str:
    """The name of a Spark or Delta error, such as `DELTA_CANNOT_CREATE_LOG_PATH`, without its text.

    The texts may quote rows of the data, so none of ours repeats them. Of a task that failed while it wrote rows, it is
    the name of why it didn't get them, where that has one.
    """
    name = _named(error)
    if not name.startswith("TASK_WRITE_FAILED"):
        return name
    told = error.getStackTrace() if hasattr(error, "getStackTrace") else None  # where Connect tells the causes
    below = re.search(r"^Caused by: [\w.$]+: \[(?!TASK_WRITE_FAILED)([A-Z][A-Z0-9_.]+)\]", told or str(error), re.M)
    return below[1] if below else name


def _named(error: BaseException) -> str:
    for getter in ("getCondition", "getErrorClass"):  # the second until Spark 3.5
        if hasattr(error, getter):
            if name := getattr(error, getter)():
                return str(name)
            break
    if "Traceback (most recent call last)" in str(error):  # of Python on an executor, with a text of the user's
        return "PythonException"
    if found := re.search(r"\[([A-Z][A-Z0-9_.]+)\]", str(error)):
        return found[1]
    java = re.search(r"\b(?:\w+\.)+(\w+(?:Exception|Error))\b", str(error))
    return java[1] if java else type(error).__name__
