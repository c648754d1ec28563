"""A model in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from . import failures, models
from .columns import Input, plan
from .failures import PredictionError, RowsError
from .predictions import to_arrow


class Scorer:
    """Scores columns of a query, and plans what becomes of them when their types are new.

    Args:
        folder: where the model's files are.
        spec: what the driver decided.
    """

    def __init__(self, folder: str, spec: Mapping[str, Any]) -> None:
        self._folder, self._spec = folder, spec
        self._inputs = None if spec["inputs"] is None else [Input(*one) for one in spec["inputs"]]
        self._types: Sequence[tuple[str, pa.DataType]] | None = None
        self._call: Callable[[Sequence[pa.Array], int], Any]

    def load(self) -> models.LoadedModel:
        """The model; loaded once a process."""
        return models.get(self._folder, self._spec)

    def score(self, types: Sequence[tuple[str, pa.DataType]], columns: Sequence[pa.Array], rows: int) -> pa.Array:
        """The predictions for some rows.

        Raises:
            RowsError: the model fails on these rows, or gives what doesn't fit the query.
            PredictionError: the model can't be loaded, or the columns don't fit it.
        """
        model = self.load()
        if types != self._types:
            self._call = models.caller(model, plan(self._inputs, types), self._spec)
            self._types = types
        try:
            prediction = self._call(columns, rows)
            answer = to_arrow(prediction, self._spec["output"], rows, self._spec["time_zone"])
        except PredictionError as error:
            raise RowsError(str(error)) from None
        except (Exception, SystemExit) as error:
            raise RowsError(failures.told(error, self._spec, failures.BATCH)) from None
        models.settled(model)
        return answer
