"""Which columns a DataFrame has, nested ones too, how each is read, and what its rows are grouped by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from aml_spark.errors import ArgumentError, SchemaError, did_you_mean, listed
from aml_spark.monitoring.metric import in_time
from aml_spark.monitoring.profiles.histogram import CODE_AT_ONE, CODE_PER_LOG
from aml_spark.monitoring.profiles.profile import Kind
from aml_spark.table import quoted

if TYPE_CHECKING:
    from pyspark.sql import Column as Expression, DataFrame
    from pyspark.sql.types import DataType, StructType

MOST_SLICES = 20
"""Values of the slice column that have a profile of their own."""
OTHER, MISSING = "(other)", "(missing)"
"""Names of the slice of all other values, and of rows without a value."""
MOST_CHARACTERS = 256
"""Longer texts are counted by their beginning and their length."""
WINDOWS = ("hour", "day", "week", "month", "quarter", "year")
"""What a time window may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A column, or what is nested in one, and how it is read: SQL of its value, and of what is counted of it."""

    name: str
    type: str
    kind: Kind
    value: str
    number: str | None = None
    text: str | None = None
    note: str | None = None


def places_of(schema: StructType) -> Iterator[tuple[str, tuple[str, ...], DataType]]:
    """All columns and the fields in their structs: the name, the path to it, and the type; structs come first.

    Dots stand between the parts of a nested one's name. Beside a column that has this very name the parts are in
    backticks.
    """
    tops = set(schema.names)

    def nested(path: tuple[str, ...], kind: Any) -> Iterator[tuple[str, tuple[str, ...], DataType]]:
        name = ".".join(path)
        yield ".".join(map(quoted, path)) if len(path) > 1 and name in tops else name, path, kind
        if kind.typeName() == "struct":
            for field in kind.fields:
                yield from nested((*path, field.name), field.dataType)

    for top in schema.fields:
        yield from nested((top.name,), top.dataType)


def leaves_of(df: DataFrame, names: Sequence[str] | None = None) -> Iterator[Field]:
    """All columns, structs taken apart.

    Args:
        df: which columns there are.
        names: how they are called where they are read, such as a DataFrame whose columns were renamed; None for `df`.

    Raises:
        SchemaError: two columns of the same name.
    """
    if twice := sorted({name for name in df.columns if df.columns.count(name) > 1}):
        raise SchemaError(f"there is more than one column of the name {twice[0]!r}; rename all but one")

    own = dict(zip(df.columns, names or map(quoted, df.columns), strict=True))
    for name, (top, *inner), kind in places_of(df.schema):
        if kind.typeName() != "struct":
            yield _field(name, kind, ".".join([own[top], *map(quoted, inner)]))


def names_of(df: DataFrame) -> list[str]:
    """The names of all columns, structs taken apart."""
    return [name for name, _, kind in places_of(df.schema) if kind.typeName() != "struct"]


def _field(name: str, kind: Any, value: str) -> Field:
    make = partial(Field, name=name, type=kind.simpleString(), value=value)
    match kind.typeName():
        case "byte" | "short" | "integer" | "long" | "float" | "double" | "decimal":
            return make(kind="numeric", number=f"CAST({value} AS DOUBLE)")
        case "boolean":
            return make(kind="boolean", text=f"CAST({value} AS STRING)")
        case "string" | "char" | "varchar":
            return make(kind="text", text=_text(value))
        case "date":
            return make(kind="time", number=f"unix_date({value}) * 86400D")
        case "timestamp":
            return make(kind="time", number=f"unix_micros({value}) / 1000000D")
        case "timestamp_ntz":
            second = f"CAST(date_format({value}, 's.SSSSSS') AS DOUBLE)"
            day = f"unix_date(CAST({value} AS DATE)) * 86400D"
            return make(kind="time", number=f"{day} + hour({value}) * 3600 + minute({value}) * 60 + {second}")
        case "array" if _is_number(kind.elementType):
            value = f"CAST({value} AS ARRAY<DOUBLE>)"
            square = "coalesce(one * one, CAST('NaN' AS DOUBLE))"
            return make(
                value=value, kind="embedding", number=f"sqrt(aggregate({value}, 0D, (sum, one) -> sum + {square}))"
            )
        case other:
            note = f"columns of type {other} aren't supported"
            return make(kind="unsupported", number=f"IF({value} IS NULL, NULL, 0D)", note=note)


def _is_number(kind: Any) -> bool:
    return kind.typeName() in ("byte", "short", "integer", "long", "float", "double", "decimal")


def _text(value: str) -> str:
    text = f"CAST({value} AS STRING)"
    cut = f"concat(substring({text}, 1, {MOST_CHARACTERS}), '… (', length({text}), ' characters)')"
    # No text has more characters than bytes, and Spark knows the number of these without counting.
    is_long = f"octet_length({text}) > {MOST_CHARACTERS} AND length({text}) > {MOST_CHARACTERS}"
    return f"CASE WHEN {is_long} THEN {cut} ELSE {text} END"


def chosen(leaves: Sequence[Field], columns: Sequence[str] | None) -> list[Field]:
    """Those that are named, for a struct's name all in it; all of them where none are.

    Raises:
        SchemaError: there is no such column.
    """
    if columns is None:
        return list(leaves)
    chosen: dict[str, Field] = {}
    for name in columns:
        found = [leaf for leaf in leaves if leaf.name == name] or [
            leaf for leaf in leaves if leaf.name.startswith((f"{name}.", f"{quoted(name)}."))
        ]
        chosen |= {leaf.name: leaf for leaf in found or [named(leaves, name, "columns")]}
    return list(chosen.values())


def named(leaves: Sequence[Field], name: str, argument: str) -> Field:
    """The one of a name, which an argument gave.

    Raises:
        SchemaError: there is no such column.
    """
    names = [leaf.name for leaf in leaves]
    if name not in names:
        raise SchemaError(
            f"{argument} names {name!r}, which isn't there; expected one of {listed(names)}",
            hint=did_you_mean(name, names),
        )
    return leaves[names.index(name)]


# Groups


def slices_of(base: DataFrame, field: Field) -> list[str]:
    """The values of a column that have a slice of their own, the most frequent first: `MOST_SLICES` of them."""
    text = _slice_text(field)
    counted = base.select(text.alias("value")).where("value IS NOT NULL").groupBy("value").count()
    return [row["value"] for row in counted.orderBy(counted["count"].desc(), "value").limit(MOST_SLICES).collect()]


def slice_of(field: Field, slices: Sequence[str]) -> Expression:
    """The slice of a row, where these values have one of their own."""
    from pyspark.sql import functions as F

    text = _slice_text(field)
    own = text.isin(list(slices)) if slices else F.lit(False)
    return F.when(text.isNull(), MISSING).when(own, text).otherwise(OTHER)


def _slice_text(field: Field) -> Expression:
    """The value that a row's slice goes by; in quotation marks where it is the name of another slice.

    Raises:
        SchemaError: the column is of a type that can't be grouped by.
    """
    if field.kind in ("embedding", "unsupported"):
        raise SchemaError(f"by names {field.name!r} of type {field.type}; expected texts, numbers, booleans or dates")
    from pyspark.sql import functions as F

    text = F.expr(_text(field.value))
    return F.when(text.isin(OTHER, MISSING), F.concat(F.lit('"'), text, F.lit('"'))).otherwise(text)


def window_of(leaves: Sequence[Field], time_column: str | None, unit: str) -> Expression:
    """The window of a row.

    Args:
        leaves: all columns.
        time_column: date or timestamp that says when a row is of.
        unit: one of `WINDOWS`.

    Raises:
        ArgumentError: it is no unit, or no column is named.
        SchemaError: the column isn't there, or holds no times.
    """
    from pyspark.sql import functions as F

    if unit not in WINDOWS:
        raise ArgumentError(f"window is {unit!r}; expected one of {listed(WINDOWS)}")
    if time_column is None:
        raise ArgumentError("window needs time_column", hint='time_column="…", a date or timestamp')
    field = named(leaves, time_column, "time_column")
    if field.kind != "time":
        raise SchemaError(
            f"time_column names {field.name!r} of type {field.type}; expected a date or timestamp",
            hint="to_timestamp() makes one of a text",
        )
    form = "yyyy-MM-dd" if unit != "hour" else "yyyy-MM-dd'T'HH:mm:ss"
    if unit == "hour" and field.type != "timestamp_ntz":
        form += "xxx"
    return F.coalesce(F.date_format(F.date_trunc(unit, F.expr(field.value)), form), F.lit(MISSING))


def in_groups(df: DataFrame, keys: Mapping[str, Expression], *columns: Expression) -> DataFrame:
    """Columns of each row with the slice and the window that it is in.

    Where rows have both, each stands there twice: once with either, the other one being null. Slices times windows may
    be more than fits in a driver.
    """
    from pyspark.sql import functions as F

    if len(keys) < 2:
        return df.select(*columns, *(key.alias(name) for name, key in keys.items()))
    nothing = F.lit(None).cast("string")
    groups = [F.struct(*((key if name == one else nothing).alias(name) for name, key in keys.items())) for one in keys]
    exploded = df.select(*columns, F.explode(F.array(*groups)).alias("group"))
    return exploded.select(*exploded.columns[:-1], "group.*")


def in_order(slices: Sequence[str] | None) -> Callable[[str | None, str | None], tuple[Any, ...]]:
    """What slice and window are sorted by: slices as they are named, then windows by time."""
    order = {name: place for place, name in enumerate([*(slices or ()), OTHER, MISSING])}

    def place(value: str | None, window: str | None) -> tuple[Any, ...]:
        return value is None, order.get(value or "", 0), in_time(window or "")

    return place


# Buckets


def bucket_of(number: Expression, level: int) -> Expression:
    """The code of a finite number's bucket, as `histogram.joined(code_of(number), level)`; null of null."""
    from pyspark.sql import functions as F

    code = F.floor(F.log(F.abs(number)) * F.lit(CODE_PER_LOG) + F.lit(CODE_AT_ONE)).cast("bigint")
    joined = F.shiftright(code, level)
    return F.when(number > 0, joined).when(number < 0, -joined).when(number == 0, F.lit(0).cast("bigint"))
