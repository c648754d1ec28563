"""What went wrong, in words without rows."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BATCH = "couldn't score a batch"
_HERE = str(Path(__file__).parent)


class PredictionError(Exception):
    """What went wrong with a batch, in a text without rows of it."""


class RowsError(PredictionError):
    """The same where some of the rows are to blame, and others may be scored without them."""


def where() -> str:
    """The partition that this task works on, in words; nothing where that isn't known."""
    try:
        from pyspark import TaskContext
    except ImportError:  # in a model's own environment
        return ""
    context = TaskContext.get()
    return f" in partition {context.partitionId()}" if context else ""


def told(error: BaseException, spec: Mapping[str, Any], what: str) -> str:
    """Name what failed and where, but not the model's own message, which may quote a row, unless that is wished for."""
    frames = [
        f"{frame.filename}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_HERE)
    ]
    kind = type(error).__name__
    if isinstance(error, ImportError) and error.name:
        kind += f" ({error.name})"
    if spec["show_message"]:
        kind += f" ({' '.join(str(error).split())})"
    return f"{what}{where()}: {kind} at " + " < ".join(reversed(frames[-6:]))
