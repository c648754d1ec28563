"""The forms in which a model's columns travel from Spark to Python.

A form other than the columns as they are keeps their values only for some types, and those are known when Spark plans
a query, not when a UDF is called. So a call is an expression with both, of which Spark folds one away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from aml_spark.worker import Input, integer_places

if TYPE_CHECKING:
    from pyspark.sql import Column

_KEPT_IN_DOUBLES = ("double", "float", "int", "smallint", "tinyint")
_KEPT_IN_FLOATS = ("float", "smallint", "tinyint")
_INTEGERS = ("bigint", "int", "smallint", "tinyint")


class Form(NamedTuple):
    """A way for columns to travel.

    Args:
        name: for the worker: `"array"`, one array of numbers, or `"nulls"`, integers that have another column each
            that says where they are null.
        keeps: whether it keeps the values of columns, as a constant expression of their types.
        columns: what travels in the columns' place.
    """

    name: str
    keeps: Callable[[Sequence[Column]], Column]
    columns: Callable[[Sequence[Column]], list[Column]]


def choose(inputs: Sequence[Input] | None, version: tuple[int, int]) -> Form | None:
    """The form for a model's inputs on a version of Spark; None where columns always travel as they are."""
    from pyspark.sql import functions as F

    if inputs is None or inputs[0].shape is not None:
        return None
    if version < (4, 1):
        # Integers beside nulls would come as doubles, which lose digits.
        places = integer_places(inputs)
        form = Form(
            "nulls",
            lambda given: _are_all([given[place] for place in places], _INTEGERS),
            lambda given: [
                *(F.coalesce(one, F.lit(0)) if place in places else one for place, one in enumerate(given)),
                *(given[place].isNull() for place in places),
            ],
        )
        return form if places else None
    # Spark writes one array to Arrow in less time than many columns.
    kinds = {one.type for one in inputs}
    kind, kept = {
        pa.float64(): ("double", _KEPT_IN_DOUBLES),
        pa.float32(): ("float", _KEPT_IN_FLOATS),
    }.get(kinds.pop() if len(kinds) == 1 else None, ("", ()))
    if not kind or len(inputs) == 1:
        return None
    return Form(
        "array",
        lambda given: _are_all(given, kept),
        lambda given: [F.array(*[one.cast(kind) for one in given])],
    )


def _are_all(columns: Sequence[Column], types: Sequence[str]) -> Column:
    from pyspark.sql import functions as F

    has = F.array(*[F.typeof(column) for column in columns])
    return F.size(F.array_except(has, F.array(*[F.lit(name) for name in types]))) == 0
