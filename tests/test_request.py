"""What is asked for, as plain values that a later request has to equal."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pyspark.sql.types import ArrayType, DoubleType

from aml_spark.errors import ArgumentError
from aml_spark.request import Request, from_spec

GIVEN: dict[str, Any] = {"model": "models:/m/1", "source": "s", "target": "t", "mode": "changes", "key": ("id",)}


def _spec(**more: Any) -> dict[str, Any]:
    return Request(**{**GIVEN, **more}).spec("s")


def test_a_spec_survives_json_and_gives_the_request_back() -> None:
    spec = _spec(columns=("a",), where="a > 1", result_type=ArrayType(DoubleType()), on_error="null")
    assert json.loads(json.dumps(spec)) == spec
    again = from_spec(spec, "models:/m/2", "t", None)
    assert again.model == "models:/m/2"
    assert again.result_type == "array<double>"
    assert again.spec("s") == spec


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"where": 5}, "where is 5, of type int; expected str"),
        ({"prediction": 5}, "prediction is 5, of type int; expected str"),
        ({"source_version": "0"}, "source_version is '0', of type str; expected int"),
        ({"source_version": True}, "source_version is True, of type bool; expected int"),
    ],
)
def test_an_argument_of_another_type_is_refused(more: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{text}$"):
        Request(**{**GIVEN, **more})


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"a": 1, "b": "x"}, {"b": "x", "a": 1}, True),
        ({}, None, True),
        ({"a": 0.5}, {"a": np.float64(0.5)}, True),
        ({"a": np.arange(5000)}, {"a": np.arange(5000)}, True),
        ({"a": np.arange(5000)}, {"a": np.r_[np.arange(2500), 7, np.arange(2501, 5000)]}, False),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, None, False),
    ],
)
def test_parameters_are_compared_by_value_and_not_told(one: Any, other: Any, equal: bool) -> None:
    assert (_spec(params=one) == _spec(params=other)) is equal
    assert "secret" not in json.dumps(_spec(params={"token": "secret"}))
