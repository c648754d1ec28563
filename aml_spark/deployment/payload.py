"""What goes to a scoring server and comes back: one content, in Azure's words or in those of MLflow's own server."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aml_spark.errors import ArgumentError, listed

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.deployments import PredictionsResponse

MOST_BYTES = 3 * 2**19
"""That Azure takes in one request to an online endpoint: 1.5 MB."""
_SPLIT, _RECORDS, _TENSORS, _AZURE = "dataframe_split", "dataframe_records", ("inputs", "instances"), "input_data"
_FORMS = (_SPLIT, _RECORDS, *_TENSORS, _AZURE)
_EXPECTED = (
    "a pandas DataFrame, a numpy array, a list of rows, a dict of columns, {'columns': …, 'data': …}, "
    f"or a dict with one of {listed(_FORMS)}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What is asked of a model.

    Args:
        content: JSON: rows by `columns`, `index` and `data`, or tensors.
        is_frame: whether it is rows.
        params: the model's parameters.
        rows: how many; None where that isn't plain.
    """

    content: Any
    is_frame: bool
    params: Mapping[str, Any] | None
    rows: int | None

    def for_mlflow(self) -> bytes:
        """The body for MLflow's own server."""
        return self._body(_SPLIT if self.is_frame else "inputs")

    def for_azure(self) -> bytes:
        """The body for an Azure deployment.

        Raises:
            ArgumentError: it is larger than Azure takes.
        """
        body = self._body(_AZURE)
        if len(body) > MOST_BYTES:
            counted = "" if self.rows is None else f"{self.rows} rows make "
            raise ArgumentError(
                f"{counted}{len(body)} bytes; an online endpoint takes {MOST_BYTES} in a request, nothing was sent",
                hint="send fewer rows, or score them all by a batch endpoint (aml-spark endpoint invoke --batch) "
                "or with aml_spark.score",
            )
        return body

    def _body(self, name: str) -> bytes:
        whole = {name: self.content, **({"params": _plain(dict(self.params), "params")} if self.params else {})}
        return json.dumps(whole, separators=(",", ":")).encode()


def of(inputs: Any) -> Payload:
    """What a model's inputs mean.

    Times go as ISO 8601 with nanoseconds, bytes as base64, NaN and missing values as null, integers with all digits:
    what the server makes of them by the model's signature is what `predict` in this process gets.

    Args:
        inputs: a pandas DataFrame; a numpy array; a list of rows, dicts or values; a dict of columns or named tensors;
            `{"columns": …, "data": …}`; or a dict that says its form as MLflow's server or Azure name it, with
            `params` beside it where the model has parameters.

    Raises:
        ArgumentError: it is none of these, or holds values that JSON has no form for.
    """
    import numpy as np
    import pandas as pd

    params = None
    if isinstance(inputs, Mapping) and (form := [key for key in inputs if key in _FORMS]):
        beside = set(inputs) - {form[0], "params"}
        if beside:
            raise ArgumentError(f"{form[0]!r} has {listed(sorted(map(str, beside)))} beside it; expected 'params' only")
        params, inputs = inputs.get("params"), inputs[form[0]]
        if form[0] == _RECORDS:
            inputs = pd.DataFrame(inputs, dtype=object)  # whole numbers beside nulls would become floats
        elif form[0] in _TENSORS:
            return _tensors(inputs, params)
    if isinstance(inputs, Mapping) and {"columns", "data"} <= set(inputs) <= {"columns", "data", "index"}:
        return _split(inputs, params)
    if isinstance(inputs, list) and inputs and all(isinstance(row, Mapping) for row in inputs):
        inputs = pd.DataFrame(inputs, dtype=object)
    if isinstance(inputs, pd.DataFrame):
        return _frame(inputs, params)
    if isinstance(inputs, (np.ndarray, list, Mapping)):
        return _tensors(inputs, params)
    raise ArgumentError(f"the inputs are a {type(inputs).__name__}; expected {_EXPECTED}")


def from_mlflow(answer: bytes) -> PredictionsResponse:
    """What MLflow's own server said: an object with the predictions."""
    from mlflow.deployments import PredictionsResponse

    return PredictionsResponse(json.loads(answer))


def from_azure(answer: bytes) -> PredictionsResponse:
    """What an Azure deployment said: the predictions alone."""
    from mlflow.deployments import PredictionsResponse

    return PredictionsResponse({"predictions": json.loads(answer)})


def _frame(frame: pd.DataFrame, params: Mapping[str, Any] | None) -> Payload:
    columns = [_label(name) for name in frame.columns]
    values = [_column(frame.iloc[:, number], str(name)) for number, name in enumerate(columns)]
    # A server makes a frame of it again: labels that JSON has a form for stay, others would only mislead.
    plain = frame.index.nlevels == 1 and all(isinstance(_label(name), (int, str)) for name in frame.index)
    index = [_label(name) for name in frame.index] if plain else list(range(len(frame)))
    data = [list(row) for row in zip(*values, strict=True)] if values else [[] for _ in index]
    content = {"columns": columns, "index": index, "data": data}
    return Payload(content=content, is_frame=True, params=params, rows=len(frame))


def _split(given: Mapping[str, Any], params: Mapping[str, Any] | None) -> Payload:
    rows = _plain(given["data"], "data")
    index = _plain(given.get("index", list(range(len(rows)))), "index")
    content = {"columns": _plain(given["columns"], "columns"), "index": index, "data": rows}
    return Payload(content=content, is_frame=True, params=params, rows=len(rows))


def _tensors(given: Any, params: Mapping[str, Any] | None) -> Payload:
    rows = len(given) if hasattr(given, "__len__") and not isinstance(given, (str, Mapping)) else None
    return Payload(content=_plain(given, "inputs"), is_frame=False, params=params, rows=rows)


def _label(name: Any) -> Any:
    if hasattr(name, "item"):
        name = name.item()
    return name if isinstance(name, (int, str)) else str(name)


def _column(column: pd.Series[Any], name: str) -> list[Any]:
    import numpy as np

    if column.dtype.kind == "M":
        return _times(column)
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biu":
        return list(column.tolist())
    if isinstance(column.dtype, np.dtype) and column.dtype.kind == "f":
        return [_number(value) for value in column.tolist()]
    return [_plain(value, name) for value in column.astype(object).tolist()]


def _times(column: pd.Series[Any]) -> list[str | None]:
    """All in one form, as pandas reads the rest of a column in the form of its first value."""
    return [_time(one) for one in column]


def _time(value: Any) -> str | None:
    import numpy as np
    import pandas as pd

    if pd.isna(value):
        return None
    stamp = pd.Timestamp(value)
    zone = f"{stamp:%z}"
    naive = stamp.tz_localize(None)
    return np.datetime_as_string(naive.to_datetime64(), unit="ns") + (f"{zone[:3]}:{zone[3:]}" if zone else "")


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _plain(value: Any, where: str) -> Any:
    """A value in JSON's own types."""
    import numpy as np
    import pandas as pd

    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return _number(float(value))
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, (dt.datetime, np.datetime64)):
        return _time(value)
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, np.generic):
        return _plain(value.item(), where)
    if isinstance(value, np.ndarray):
        return _plain(value.tolist(), where) if value.dtype.kind != "M" else [_plain(one, where) for one in value]
    if isinstance(value, pd.Series):
        return _column(value, where)
    if isinstance(value, Mapping):
        return {str(name): _plain(one, f"{where}.{name}") for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one, where) for one in value]
    if value is pd.NA or value is pd.NaT:
        return None
    raise ArgumentError(f"{where!r} holds a {type(value).__name__}, which JSON has no form for")
