"""Runs on executors: Arrow in, the model, Arrow out.

This folder travels beside the model's files and is imported there under a name with its own digest, so it imports
nothing of the library, which executors need not have installed, and its globals live as long as the Python process.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from . import local, scorer, upkeep
from .batches import FORMS, merged
from .columns import ColumnError, Input, fits, plan
from .failures import PredictionError, RowsError
from .predictions import to_arrow

__all__ = ["FORMS", "ColumnError", "Input", "PredictionError", "fits", "plan", "predict", "to_arrow"]


def predict(batches: Iterator[Any], folder: str, spec: Mapping[str, Any]) -> Iterator[pa.Array]:
    """Score batches.

    Args:
        batches: each a struct array (or its DataFrame), or a tuple of arrays (or series), one per column.
        folder: where the model's files are.
        spec: what the driver decided: `label`, `digest`, `inputs`, `output`, `enforced`, `time_zone`, `params`,
            `model_config`, `extra_env`, `show_message`, `on_error`, `environment`, `form`.
    """
    try:
        yield from _predict(upkeep.at_once(batches), folder, spec)
    except PredictionError as error:
        raise PredictionError(f"the model {spec['label']!r} {error}") from None
    finally:
        upkeep.forget_archives()


def _predict(batches: Iterator[Any], folder: str, spec: Mapping[str, Any]) -> Iterator[pa.Array]:
    os.environ.update(spec["extra_env"] or {})
    inputs = None if spec["inputs"] is None else [Input(*one) for one in spec["inputs"]]
    place: Any = scorer.get(folder, spec) if spec["environment"] else local.Scorer(folder, spec)
    for types, columns, rows in merged(batches, inputs, spec["form"]):
        if spec["on_error"] == "raise":
            yield place.score(types, columns, rows)
        else:
            yield _spared(functools.partial(place.score, types), columns, rows, spec)


def _spared(
    score: Callable[..., pa.Array], columns: Sequence[pa.Array], rows: int, spec: Mapping[str, Any]
) -> pa.Array:
    """The predictions with null for each row on which the model fails, found by halving; as asked, with the reasons."""

    def halves(columns: Sequence[pa.Array], rows: int) -> tuple[list[pa.Array], list[str | None]]:
        try:
            return [score(columns, rows)], [None] * rows
        except RowsError as error:
            if rows == 1:
                return [pa.nulls(1, spec["output"])], [str(error)]
        first = rows // 2
        predictions, reasons = halves([column.slice(0, first) for column in columns], first)
        more, others = halves([column.slice(first) for column in columns], rows - first)
        return predictions + more, reasons + others

    predictions, reasons = halves(columns, rows)
    whole = pa.concat_arrays(predictions)
    if spec["on_error"] == "null":
        return whole
    return pa.StructArray.from_arrays([whole, pa.array(reasons, pa.string())], ["prediction", "reason"])
