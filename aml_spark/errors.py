"""What can go wrong, as classes to catch.

AmlSparkError
├── ArgumentError            also a ValueError: a call that can't be meant
├── WorkspaceError           also a ValueError: an address, id or config file that doesn't name a workspace
├── AuthenticationError      also a PermissionError: no credential gives a token for Azure
├── ServiceError             also a RuntimeError: Azure or Databricks refuse what was asked of them, or fail at it
├── ProjectError             also a RuntimeError: a project that can't be run here, or whose run failed
├── DeploymentError          also a RuntimeError: a deployment that failed or doesn't answer
├── DataLakeError            a place in a data lake, or a datastore, that can't be reached, read or written
├── SessionError             also a RuntimeError: Java, jars or a Spark session are missing or don't fit
├── ModelError               a model that can't be opened or can't be used here
│   └── ModelNotFoundError   also a LookupError: no such model, version or alias
├── SchemaError              also a ValueError: columns that don't fit the model or the target
├── TableError               a table that can't be read or written
│   ├── FeedError            the changes of a source can't be read
│   ├── TableNotFoundError   also a LookupError: no such table, or not a Delta table
│   └── TargetError          the target is left as it was, because writing it would lose something
│       └── ConflictError    … because another job wrote it at the same time: run it again
├── ScoringError             also a RuntimeError: the model failed on the executors
└── BreachError              also a RuntimeError: monitoring found a breach, and was asked to raise

No message holds a row of data or a secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class AmlSparkError(Exception):
    """The parent of every error that this library raises.

    Args:
        message: what happened, with which value, and what was expected.
        hint: what to type next, or None; shown below the message's first line.
    """

    hint: str | None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def message(self) -> str:
        """What happened, without the hint."""
        return str(self.args[0])

    def __str__(self) -> str:
        first, *more = self.message.split("\n")
        return "\n".join([first, f"Hint: {self.hint}", *more]) if self.hint else self.message


class ArgumentError(AmlSparkError, ValueError):
    """A call that can't be meant."""


class WorkspaceError(AmlSparkError, ValueError):
    """An address, id or config file that doesn't name a workspace."""


class AuthenticationError(AmlSparkError, PermissionError):
    """No credential gives a token for Azure."""


class DataLakeError(AmlSparkError):
    """A place in a data lake, or a datastore, that can't be reached, read or written."""


class ServiceError(AmlSparkError, RuntimeError):
    """Azure or Databricks refuse what was asked of them, or fail at it; with their own words.

    Args:
        message: what was asked for and what they say.
        hint: what to type next.
        status: the answer's HTTP status, or None where there was no answer.
    """

    status: int | None

    def __init__(self, message: str, *, hint: str | None = None, status: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class ProjectError(AmlSparkError, RuntimeError):
    """A project that can't be run here, or whose run failed."""


class DeploymentError(AmlSparkError, RuntimeError):
    """A deployment that failed or doesn't answer."""


class SessionError(AmlSparkError, RuntimeError):
    """Java, jars or a Spark session are missing or don't fit."""


class ModelError(AmlSparkError):
    """A model that can't be opened or can't be used here."""


class ModelNotFoundError(ModelError, LookupError):
    """No such model, version or alias."""


class SchemaError(AmlSparkError, ValueError):
    """Columns that don't fit the model or the target."""


class TableError(AmlSparkError):
    """A table that can't be read or written."""


class FeedError(TableError):
    """The changes of a source can't be read."""


class TableNotFoundError(TableError, LookupError):
    """No such table, or not a Delta table."""


class TargetError(TableError):
    """The target is left as it was, because writing it would lose something."""


class ConflictError(TargetError):
    """The target is left as another job made it, which wrote it at the same time: run it again."""


class ScoringError(AmlSparkError, RuntimeError):
    """The model failed on the executors."""


class BreachError(AmlSparkError, RuntimeError):
    """Monitoring found a breach, and was asked to raise.

    Args:
        message: what breached.
        hint: what to type next.
        report: the `Report`, which can still be kept and shown.
    """

    report: Any

    def __init__(self, message: str, *, hint: str | None = None, report: Any = None) -> None:
        super().__init__(message, hint=hint)
        self.report = report


def listed(names: Iterable[str], *, most: int = 20) -> str:
    """Names as a sentence part: `'a', 'b' and 3 more`, or `none`."""
    all_names = list(names)
    text = ", ".join(repr(name) for name in all_names[:most])
    rest = len(all_names) - most
    return (f"{text} and {rest} more" if rest > 0 else text) or "none"


def no_list(argument: str, text: str) -> ArgumentError:
    """The error for an argument that takes a list of names, where it is given a text such as `a, b`."""
    return ArgumentError(f"{argument} is the text {text!r}; expected a list of names", hint=_in_list(argument, text))


def _in_list(argument: str, text: str) -> str:
    return f"{argument}={[part.strip() for part in text.split(',')]}"


def did_you_mean(name: str, names: Iterable[str], *, argument: str | None = None) -> str | None:
    """A hint with the closest of the names, or None where nothing is close.

    Args:
        name: what was given.
        names: what there is.
        argument: one that takes a list; the hint is that list where several names were given as one text.
    """
    known = list(names)
    if argument is not None and "," in name and {part.strip() for part in name.split(",")} <= set(known):
        return _in_list(argument, name)
    close = get_close_matches(name, known, n=1, cutoff=0.7)  # below it two letters of four would do
    return f"did you mean {close[0]!r}?" if close else None
