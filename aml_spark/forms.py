"""The forms in which a model's columns travel from Spark to Python.

A form other than the columns as they are keeps their values only for some types, and those are known when Spark plans
a query, not when a UDF is called. So a call is an expression with both, of which Spark folds one away.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from aml_spark.worker import Input

if TYPE_CHECKING:
    from pyspark.sql import Column

Call = Callable[[Mapping[str, Callable[..., "Column"]], Sequence["Column"]], "Column"]
"""Puts a call together, of the UDF for each of the worker's forms and of a column for each input."""


class _Way(NamedTuple):
    """The Spark type as which numbers of an input travel, and the types of columns whose every value that keeps."""

    type: str
    keeps: Sequence[str]


_WAYS = {
    pa.int64(): _Way("string", ("bigint", "int", "smallint", "tinyint", "void")),
    pa.int32(): _Way("string", ("int", "smallint", "tinyint", "void")),
    pa.float64(): _Way("double", ("double", "float", "int", "smallint", "tinyint", "void")),
    pa.float32(): _Way("float", ("float", "smallint", "tinyint", "void")),
}


def call_for(inputs: Sequence[Input] | None, version: tuple[int, int]) -> Call | None:
    """How a UDF is called on a version of Spark; None where columns always travel as they are."""
    if inputs is None or inputs[0].shape is not None:
        return None
    ways = [_WAYS.get(one.type) for one in inputs]
    is_text = [way is not None and way.type == "string" for way in ways]
    if version >= (4, 1):
        way = ways[0] if len(ways) > 1 and len(set(ways)) == 1 else None
        return None if way is None or any(is_text) else functools.partial(_as_array, way)
    # One column may be a struct of that name, of which a text can be made, but no number.
    return functools.partial(_as_texts, ways) if any(ways) and (len(ways) > 1 or is_text[0]) else None


def _as_array(way: _Way, udfs: Mapping[str, Callable[..., Column]], given: Sequence[Column]) -> Column:
    """Spark writes one array to Arrow in less time than many columns."""
    from pyspark.sql import functions as F

    array = F.array(*[column.cast(way.type) for column in given])
    return F.when(_are(given, way), udfs["array"](array)).otherwise(udfs["columns"](*given))


def _as_texts(
    ways: Sequence[_Way | None], udfs: Mapping[str, Callable[..., Column]], given: Sequence[Column]
) -> Column:
    """Before Spark 4.1 integers beside nulls come as doubles, which lose digits; as texts they keep them.

    Columns that don't all fit go with the names of their types, by which the worker refuses those.
    """
    from pyspark.sql import functions as F

    pairs = list(zip(ways, given, strict=True))
    kept = functools.reduce(lambda one, other: one & other, [_are([column], way) for way, column in pairs if way])
    columns = [column.cast(way.type) if way else column for way, column in pairs]
    types = F.concat_ws("\n", *[F.typeof(column) for column in given])
    return F.when(kept, udfs["texts"](*columns)).otherwise(udfs["typed"](*given, types))


def _are(columns: Sequence[Column], way: _Way) -> Column:
    """Whether all columns have types that a way keeps: a constant, once Spark knows them."""
    from pyspark.sql import functions as F

    has = F.array(*[F.typeof(column) for column in columns])
    return F.size(F.array_except(has, F.array(*[F.lit(name) for name in way.keeps]))) == 0
