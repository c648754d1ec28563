"""What Azure says where a resource isn't there, or isn't free: with what is, and with what to type."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from aml_spark import control
from aml_spark.errors import ServiceError, did_you_mean, listed

T = TypeVar("T")
_NOT_FOUND = 404
CONFLICT = 409
"""Azure's status for what meets another operation on the same resource."""


@contextlib.contextmanager
def told(
    doing: str, kind: str, name: str, *, known: Callable[[], Iterable[str | None]] | None = None
) -> Iterator[None]:
    """Raise what Azure refuses of one resource as a `ServiceError`, in Azure's words.

    Args:
        doing: such as `start the compute 'cpu'`.
        kind: `compute`, `datastore`, `model` or `job`, as the commands call it.
        name: of the resource.
        known: gives the names that there are, for an error that says which; None where they are too many.
    """
    try:
        with control.own_words(doing):
            yield
    except ServiceError as error:
        if error.status == _NOT_FOUND and known is not None:
            with control.own_words(f"list each {kind} of the workspace"):
                names = list(known())
            raise missing(kind, name, names) from None
        hints = {
            _NOT_FOUND: f"aml-spark {kind} list",
            CONFLICT: f"try again when it has ended; aml-spark {kind} show {name}",
        }
        hint = error.hint or hints.get(error.status or 0)
        raise ServiceError(error.message, hint=hint, status=error.status) from None


def apart(work: Callable[[], T]) -> T:
    """Do it in a thread of its own, and wait for that.

    Ctrl-C in the middle of a request may be lost where a client cleans up; in the middle of waiting it isn't.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # it is the caller's
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def goes_on(doing: str, kind: str, name: str) -> contextlib.AbstractContextManager[None]:
    """Say on Ctrl-C that Azure goes on with what was begun; the kind is as for `told`."""
    return control.goes_on(doing, f"aml-spark {kind} show {name}")


def missing(kind: str, name: str, known: Iterable[str | None]) -> ServiceError:
    """The error for a resource that isn't there, with the names of those that are."""
    names = sorted(one for one in known if one)
    return ServiceError(
        f"the workspace has no {kind} {name!r}; it has {listed(names)}",
        hint=did_you_mean(name, names) or f"aml-spark {kind} list",
        status=_NOT_FOUND,
    )
