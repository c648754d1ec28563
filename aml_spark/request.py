"""What somebody asks `score` for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aml_spark.errors import ArgumentError, did_you_mean, listed

if TYPE_CHECKING:
    from pyspark.sql.types import DataType

_CHOICES = {
    "mode": ("all", "changes"),
    "on_error": ("raise", "null", "quarantine"),
    "on_model_change": ("rescore", "keep"),
    "on_missing_feed": ("raise", "diff", "rescore"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The arguments of `score`, whose documentation explains them.

    Args:
        query_id: of the streaming query that asks, or None.
        batch_id: its micro-batch.

    Raises:
        ArgumentError: they can't be meant.
    """

    model: str
    source: str
    target: str
    mode: str = "all"
    key: Sequence[str] | None = None
    columns: Sequence[str] | None = None
    where: str | None = None
    prediction: str = "prediction"
    result_type: DataType | str | None = None
    params: Mapping[str, Any] | None = None
    on_error: str = "raise"
    on_model_change: str = "rescore"
    on_missing_feed: str = "raise"
    source_version: int | None = None
    overwrite: bool = False
    force: bool = False
    query_id: str | None = None
    batch_id: int | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise ArgumentError(
                    f"{name} is {value!r}; expected one of {listed(choices)}", hint=did_you_mean(str(value), choices)
                )
        for name, value, kind in (
            ("where", self.where, str),
            ("prediction", self.prediction, str),
            ("source_version", self.source_version, int),
        ):
            check_kind(name, value, kind)
        if self.on_error == "quarantine" and not self.key:
            raise ArgumentError(
                "on_error='quarantine' needs key=: by it the rejected rows are told",
                hint="key=['id'], or on_error='null'",
            )
        if self.on_missing_feed == "diff" and self.by_changes and not self.key:
            raise ArgumentError("on_missing_feed='diff' needs key=: by it rows are compared", hint="key=['id']")

    @property
    def by_changes(self) -> bool:
        """Whether later requests are to find rows of this one again."""
        return self.mode == "changes"

    @property
    def keeps_model(self) -> bool:
        """Whether rows that didn't change keep the prediction of another model."""
        return self.by_changes and self.on_model_change == "keep"

    def spec(self, source: str) -> dict[str, Any]:
        """What decides the rows beside source version and model, as plain values: a later request has to be equal.

        Args:
            source: the source's name, or its path in full.
        """
        kind = self.result_type
        return {
            "columns": None if self.columns is None else list(self.columns),
            "key": list(self.key or ()),
            "mode": self.mode,
            "on_error": self.on_error,
            "params": _digest(self.params) if self.params else None,
            "prediction": self.prediction,
            "result_type": kind if kind is None or isinstance(kind, str) else kind.simpleString(),
            "source": source,
            "where": self.where,
        }


def check_kind(name: str, value: Any, kind: type) -> None:
    """Whether an argument is of a type, or None.

    Raises:
        ArgumentError: it is of another.
    """
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise ArgumentError(f"{name} is {value!r}, of type {type(value).__name__}; expected {kind.__name__}")


def from_spec(spec: Mapping[str, Any], model: str, target: str, params: Mapping[str, Any] | None) -> Request:
    """The request that a target was written for, with a model and parameters of one's own."""
    given = {name: spec[name] for name in ("source", "mode", "key", "columns", "where", "prediction", "result_type")}
    return Request(model=model, target=target, params=params, on_error=spec["on_error"], **given)


def _digest(params: Mapping[str, Any]) -> str:
    """SHA-256, because what a model is told may be a secret, and a table's history is read by many."""

    def plain(value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else repr(value)

    return hashlib.sha256(json.dumps(params, sort_keys=True, default=plain).encode()).hexdigest()
