"""What Azure is asked to make, change or delete: sent once, waited for, and taken up again by name."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Collection
from typing import Any

from aml_spark.control import finished, goes_on, own_words
from aml_spark.errors import DeploymentError, ServiceError
from aml_spark.progress import waiting
from aml_spark.tags import REQUEST_ID

UNDER_WAY = ("Creating", "Updating", "Scaling", "Deleting")
_LEAST, _MOST = 0.5, 15.0  # seconds between two looks
_FAILURES = 10  # looks in a row

Look = Callable[[], Any]
"""Gives a resource as it is now, or None where there is none."""


def state(found: Any) -> str:
    """Azure's word for how far a resource is, in one case; empty where there is none."""
    return "" if found is None else text(found.provisioning_state).capitalize()


def text(value: Any) -> str:
    """What Azure's client gives as a text or as an enum; empty for None."""
    return str(getattr(value, "value", value) or "")


def found(look: Look) -> Any:
    """What there is, or None."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        return look()
    except ResourceNotFoundError:
        return None


def exists(look: Look, what: str) -> bool:
    """Whether there is a resource, as far as Azure tells; for hints, which no other error should stand in for."""
    with contextlib.suppress(ServiceError), own_words(f"look at {what}"):
        return found(look) is not None
    return False


def done(put: Callable[[Any], Any], wanted: Any, look: Look, *, doing: str, shown: str) -> Any:
    """Have a resource made or changed and wait for it, once, over connections and answers that may break.

    Args:
        put: asks for it, and gives Microsoft's poller.
        wanted: the resource.
        look: gives it as it is.
        doing: such as `create the deployment 'blue' of 'flights'`.
        shown: the command that shows how it goes.

    Returns:
        The resource as it is.

    Raises:
        ServiceError: Azure refuses it.
        DeploymentError: it failed on the way.
    """
    request = uuid.uuid4().hex
    wanted.tags = {**(wanted.tags or {}), REQUEST_ID: request}
    with goes_on(doing, shown):
        try:
            with own_words(doing):
                poller = put(wanted)
        except ServiceError as error:
            # What was sent first may have lost its answer, and what was sent again met it at work.
            there = look()
            if there is not None and (there.tags or {}).get(REQUEST_ID) == request:
                return followed(look, doing=doing, shown=shown)
            if error.status == 409:
                raise ServiceError(error.message, hint=f"{shown} tells when it ends; try again", status=409) from None
            raise
        try:
            with own_words(doing):
                finished(poller, doing)
        except ServiceError as error:
            there = look()
            if state(there) in UNDER_WAY:  # the asking failed, not what was asked for
                return followed(look, doing=doing, shown=shown)
            if state(there) != "Succeeded":
                raise DeploymentError(error.message, hint=shown) from None
    return look()


def followed(look: Look, *, doing: str, shown: str) -> Any:
    """Wait for what another call began.

    Raises:
        DeploymentError: it failed, or is gone.
    """
    with goes_on(doing, shown):
        there = rested(look, doing)
    if there is None:
        raise DeploymentError(f"can't {doing}: another call deleted it", hint=shown)
    if state(there) != "Succeeded":
        raise DeploymentError(f"can't {doing}: it is {state(there)}", hint=shown)
    return there


def deleted(delete: Callable[[], Any], look: Look, *, doing: str, shown: str) -> None:
    """Delete a resource and wait until it is gone; nothing where there is none.

    Args:
        delete: asks for it, and gives Microsoft's poller.
        look: gives it as it is.
        doing: such as `delete the endpoint 'flights'`.
        shown: the command that shows how it goes.

    Raises:
        ServiceError: Azure refuses it.
    """
    if (there := look()) is None:
        return
    with goes_on(doing, shown):
        if state(there) != "Deleting":
            try:
                with own_words(doing):
                    finished(delete(), doing)
            except ServiceError:
                if state(look()) not in ("Deleting", ""):
                    raise
        if (left := rested(look, doing)) is not None:
            raise ServiceError(f"can't {doing}: it is {state(left)}", hint=shown)


def rested(look: Look, doing: str, *, told: Callable[[Any], str] = state, ended: Collection[str] | None = None) -> Any:
    """Wait until a resource is in none of the states of work.

    Args:
        look: gives it as it is.
        doing: what is waited for, to be shown.
        told: gives its state.
        ended: the states that end the waiting; None takes all but those in which an operation is under way.
    """
    begun, pause, failures = time.monotonic(), _LEAST, 0
    with waiting(doing) as show:
        while True:
            try:
                there, failures = look(), 0
                now = told(there)
                if now in ended if ended is not None else now not in UNDER_WAY:
                    return there
                show(f"{now}, {time.monotonic() - begun:.0f} s")
            except ServiceError:
                failures += 1
                if failures == _FAILURES:
                    raise
            time.sleep(pause)
            pause = min(pause * 1.3, _MOST)
