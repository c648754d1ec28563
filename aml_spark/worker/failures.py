"""What went wrong, in words without rows."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_HERE = str(Path(__file__).parent)


class PredictionError(Exception):
    """What went wrong with a batch, in a text without rows of it."""


def of_model(error: BaseException, spec: Mapping[str, Any], doing: str) -> PredictionError:
    """Name what failed and where, but not the model's own message, which may quote a row, unless that is wished for."""
    from pyspark import TaskContext

    context = TaskContext.get()
    where = f" in partition {context.partitionId()}" if context else ""
    frames = [
        f"{frame.filename}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_HERE)
    ]
    what = type(error).__name__
    if isinstance(error, ImportError) and error.name:
        what += f" ({error.name})"
    if spec["show_message"]:
        what += f" ({' '.join(str(error).split())})"
    return PredictionError(f"couldn't {doing}{where}: {what} at " + " < ".join(reversed(frames[-6:])))
