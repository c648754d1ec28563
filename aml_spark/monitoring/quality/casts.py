"""Which values of a column aren't of the type that a model, or a baseline, has for it: as SQL conditions."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from aml_spark import signature
from aml_spark.table import quoted

if TYPE_CHECKING:
    from mlflow.models import Model
    from pyspark.sql.types import DataType, StructType

_WIDTHS = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64, "float": 24, "double": 53}
"""Bits of an integer, or of a floating number's digits: so many a number may have and keep its value."""


def types_of(model: Model, columns: Collection[str]) -> dict[str, DataType]:
    """The Spark types of what a model takes, by its signature.

    Args:
        model: MLflow's description of the model.
        columns: those of the table; inputs that the signature calls optional are left out where they aren't among them.

    Returns:
        By the column's name. Nothing of a signature without names; no input that takes anything.
    """
    found = {}
    for one in signature.inputs(model) or ():
        kind = one.type if one.shape is None else _of_tensor(one.type, len(one.shape))
        if one.name is not None and kind is not None and (one.required or one.name in columns):
            found[one.name] = signature.spark_type(kind)
    return found


def misfit(value: str, has: DataType, wanted: DataType, depth: int = 0) -> str | None:
    """The condition under which a value can't be taken for one of another type.

    A text can where Spark's `try_cast` reads it; a number where the other type holds it (nearest doubles and floats
    will do for fractions, not for integers); a boolean as 0 or 1; a date as a time. Null and NaN are no values. An
    array, a struct or a map can where all in it can.

    Args:
        value: SQL of the value.
        has: its type.
        wanted: the other type.
        depth: how many arrays it stands in.

    Returns:
        SQL, which may be null where the value is; None where no value of the type can fail.
    """
    from pyspark.sql import types as T

    never = f"{value} IS NOT NULL"
    if has == wanted or isinstance(has, T.NullType):
        return None
    if isinstance(wanted, T.ArrayType):
        if not isinstance(has, T.ArrayType):
            return never
        return _of_elements(value, has.elementType, wanted.elementType, depth)
    if isinstance(wanted, T.MapType):
        if not isinstance(has, T.MapType) or has.keyType != wanted.keyType:
            return never
        return _of_elements(f"map_values({value})", has.valueType, wanted.valueType, depth)
    if isinstance(wanted, T.StructType):
        return _of_fields(value, has, wanted, depth) if isinstance(has, T.StructType) else never
    times = (T.DateType, T.TimestampType, T.TimestampNTZType)
    if isinstance(wanted, T.StringType):
        return None if isinstance(has, T.AtomicType) else never
    if isinstance(has, T.StringType):
        if isinstance(wanted, T.BinaryType):
            return None
        read = isinstance(wanted, (T.NumericType, T.BooleanType, *times))
        return f"{never} AND {_cast(value, wanted)} IS NULL" if read else never
    if isinstance(wanted, T.NumericType) and isinstance(has, T.NumericType):
        return _of_number(value, has, wanted)
    if isinstance(wanted, T.BooleanType) and isinstance(has, T.NumericType):
        return f"{_is_number(value, has)} AND {value} NOT IN (0, 1)"
    holds = isinstance(wanted, T.NumericType) and isinstance(has, T.BooleanType)
    return None if holds or (isinstance(wanted, times) and isinstance(has, times)) else never


def _of_number(value: str, has: DataType, wanted: DataType) -> str | None:
    from pyspark.sql import types as T

    kinds = has.simpleString(), wanted.simpleString()
    bits, room = (_WIDTHS.get(kind, 0) for kind in kinds)
    integral = isinstance(has, T.IntegralType)
    if isinstance(wanted, T.FractionalType) and not isinstance(wanted, T.DecimalType) and not integral:
        if kinds != ("double", "float"):
            return None
        infinite = "CAST('Infinity' AS DOUBLE)"
        return f"abs({value}) < {infinite} AND CAST(abs({_cast(value, wanted)}) AS DOUBLE) = {infinite}"
    if integral and room and (bits <= room if isinstance(wanted, T.IntegralType) else bits < room):
        return None
    cast, number = _cast(value, wanted), _is_number(value, has)
    if isinstance(wanted, T.DecimalType):
        return f"{number} AND {cast} IS NULL"
    return f"{number} AND coalesce({_cast(cast, has)} <> {value}, true)"


def _of_elements(values: str, has: DataType, wanted: DataType, depth: int) -> str | None:
    element = f"element{depth}"
    inner = misfit(element, has, wanted, depth + 1)
    return inner and f"exists({values}, {element} -> coalesce({inner}, false))"


def _of_fields(value: str, has: StructType, wanted: StructType, depth: int) -> str | None:
    there = {field.name: field.dataType for field in has.fields}
    if any(field.name not in there and not field.nullable for field in wanted.fields):
        return f"{value} IS NOT NULL"
    inner = [
        misfit(f"{value}.{quoted(field.name)}", there[field.name], field.dataType, depth)
        for field in wanted.fields
        if field.name in there
    ]
    return " OR ".join(f"coalesce({one}, false)" for one in inner if one) or None


def _of_tensor(dtype: str, dimensions: int) -> Any:
    """Arrow's type of a column of tensors, an array for each dimension after the rows'; None of texts and objects."""
    import numpy as np
    import pyarrow as pa

    kind = np.dtype(dtype)
    if kind.kind not in "biuf" or kind.itemsize > 8:
        return None
    if kind.kind == "u":  # Spark has none: the next wider one holds them
        kind = np.dtype(f"i{min(2 * kind.itemsize, 8)}")
    found = pa.float32() if kind == np.float16 else pa.from_numpy_dtype(kind)
    for _ in range(dimensions - 1):
        found = pa.list_(found)
    return found


def _cast(value: str, wanted: DataType) -> str:
    return f"try_cast({value} AS {wanted.simpleString()})"


def _is_number(value: str, has: DataType) -> str:
    told = f"{value} IS NOT NULL"
    return f"{told} AND NOT isnan({value})" if has.simpleString() in ("float", "double") else told
