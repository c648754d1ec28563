"""What only the rows of a table can tell: keys that come twice, conditions that don't hold, values of another type."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aml_spark import frame, table
from aml_spark.analysis import analysed, condition, on_columns
from aml_spark.errors import ArgumentError, SchemaError, did_you_mean, listed, no_list
from aml_spark.monitoring.profiles.fields import places_of
from aml_spark.monitoring.quality.casts import misfit
from aml_spark.session import cast_type

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame
    from pyspark.sql.types import DataType, StructType

_logger = logging.getLogger(__name__)
_TROUBLE = (
    "DELTA_",
    "FAILED_READ_FILE",
    "PATH_NOT_FOUND",
    "UNABLE_TO_ACQUIRE_MEMORY",
    "SPARK_JOB_CANCELLED",
    "OPERATION_",
)
"""Conditions of Spark that say nothing of what is computed from rows."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checks:
    """What was counted in the rows of a table, or of a slice of it.

    Args:
        rows: how many.
        failed: by expectation, the rows for which its condition is false.
        undecided: by expectation, the rows for which it is null.
        broken: by expectation, the name of the error with which Spark failed at it.
        wrong: by column, the values that can't be taken for its wanted type; none where that isn't a type in SQL.
        wanted: by column, that type.
        lacking: columns that have a wanted type and aren't there.
        outside: by column, the finite numbers outside the baseline's, where each row was held against them: `exact`.
        key: columns that identify a row.
        duplicates: rows beyond the first of each key; None where no key was given, and of a slice.
        time_column: column that says when a row is of.
        newest: the latest of these times, in seconds since 1970; of a date its beginning. None where there is none.
        slice: value of the column that `by=` names, where it is of such rows only.
    """

    rows: int
    failed: Mapping[str, int] = field(default_factory=dict)
    undecided: Mapping[str, int] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, int] = field(default_factory=dict)
    wanted: Mapping[str, str] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()
    outside: Mapping[str, int] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    duplicates: int | None = None
    time_column: str | None = None
    newest: float | None = None
    slice: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Asked:
    """What is asked of each row: for counts conditions, by what they tell and of whom."""

    conditions: Mapping[tuple[str, str], Column]
    time: Column | None
    slices: Column | None


def checked(
    df: DataFrame,
    *,
    key: Sequence[str] | None = None,
    time_column: str | None = None,
    expectations: Mapping[str, str] | None = None,
    types: Mapping[str, DataType | str] | None = None,
    slices: Column | None = None,
) -> list[Checks]:
    """Count in one pass over the rows, and in one over their keys.

    Args:
        df: the rows.
        key: columns that identify a row; nulls are equal.
        time_column: date or timestamp that says when a row is of.
        expectations: by a name, an SQL condition on the columns. As with SQL's CHECK constraints a row fails where it
            is false; where it is null, it is counted by itself. A condition at which Spark fails on the rows, such as a
            cast in ANSI mode, is told in `Checks.broken`.
        types: the types that columns should have: `casts.types_of` a model, or those of a baseline. Columns with a type
            that keeps all values cost nothing.
        slices: text column with the name of a row's slice.

    Returns:
        Of all rows, then of each slice, the greatest first.

    Raises:
        ArgumentError: what is given as expectations are no names with conditions, or key is a text.
        SchemaError: a condition isn't one on these columns; a column of the key, or the time's, isn't there or can't be
            one.
    """
    for name in key or ():
        _check_key(df, name, key)
    if time_column is not None:
        check_time_column(df, time_column)
    conditions = {("failed", name): _condition(df, name, text) for name, text in _expected(expectations).items()}
    wanted, lacking, wrong = _types(df, types or {})
    conditions |= {("wrong", name): one for name, one in wrong.items() if one is not None}
    time = None if time_column is None else _of(time_column).cast("timestamp")
    asked = _Asked(conditions=conditions, time=time, slices=slices)
    parts, broken = _counted(df, asked)

    def made(of: Sequence[Mapping[str, Any]], **more: Any) -> Checks:
        def told(what: str) -> dict[str, int]:
            names = [name for kind, name in conditions if kind == what and (what != "failed" or name not in broken)]
            return {name: sum(part["counts"][what, name] for part in of) for name in names}

        times = [part["newest"] for part in of if part["newest"] is not None]
        return Checks(
            rows=sum(part["rows"] for part in of),
            failed=told("failed"),
            undecided={name: sum(part["counts"]["undecided", name] for part in of) for name in told("failed")},
            broken=broken,
            wrong=dict.fromkeys(wrong, 0) | told("wrong"),
            wanted=wanted,
            lacking=lacking,
            key=tuple(key or ()),
            time_column=time_column,
            newest=max(times) / 1e6 if times else None,
            **more,
        )

    whole = made(parts, duplicates=_duplicates(df, key) if key else None)
    if slices is None:
        return [whole]
    ordered = sorted(parts, key=lambda part: (-part["rows"], part["slice"]))
    return [whole, *(made([part], slice=part["slice"]) for part in ordered)]


def check_time_column(df: DataFrame, name: str) -> None:
    """Hold the column that says when a row is of against what it has to be.

    Raises:
        SchemaError: it isn't there, or holds neither dates nor timestamps.
    """
    if name not in df.columns:
        raise SchemaError(
            f"time_column names {name!r}, which isn't there; there are {listed(df.columns)}",
            hint=did_you_mean(name, df.columns),
        )
    kind = df.schema[name].dataType.simpleString()
    if kind not in ("date", "timestamp", "timestamp_ntz"):
        how = "timestamp_seconds" if kind in ("int", "bigint", "double") else "to_timestamp"
        raise SchemaError(
            f"time_column names {name!r}, which has type {kind}; expected a date or a timestamp",
            hint=f"give a DataFrame: df.withColumn({name!r}, F.{how}({name!r}))",
        )


def _check_key(df: DataFrame, name: str, key: Sequence[str] | None) -> None:
    if isinstance(key, str):
        raise no_list("key", key)
    if name not in df.columns:
        raise SchemaError(
            f"key names {name!r}, which isn't there; there are {listed(df.columns)}",
            hint=did_you_mean(name, df.columns, argument="key"),
        )
    if not frame.comparable(df, name):
        raise SchemaError(f"key names {name!r}, whose type holds a map or a variant, of which none equals another")


def _expected(expectations: Mapping[str, str] | None) -> Mapping[str, str]:
    if expectations is None:
        return {}
    if not isinstance(expectations, Mapping) or not all(isinstance(one, str) for one in expectations.values()):
        raise ArgumentError(
            f"expectations is of type {type(expectations).__name__!r}; expected names with SQL conditions as texts",
            hint="expectations={'in the air': 'air_time > 0'}",
        )
    return expectations


def _condition(df: DataFrame, name: str, text: str) -> Column:
    from pyspark.sql import functions as F

    with on_columns(df, f"the expectation {name!r} is {text!r}, which isn't a condition on a row's columns"):
        holds = F.expr(text)
        analysed(df.where(text).select(holds))
    return holds


def _types(
    df: DataFrame, types: Mapping[str, DataType | str]
) -> tuple[dict[str, str], tuple[str, ...], dict[str, Column | None]]:
    """The wanted types of columns that are there, the columns that aren't, and the conditions under which values fail.

    No condition where none can fail. A type that can't be read as SQL has no entry.
    """
    from pyspark.errors import AnalysisException, ParseException
    from pyspark.sql import functions as F

    found: dict[str, str] = {}
    lacking: list[str] = []
    wrong: dict[str, Column | None] = {}
    schema = df.schema
    for name, kind in types.items():
        place = _located(schema, name)
        if place is None:
            lacking.append(name)
            continue
        value, has = place
        found[name] = kind if isinstance(kind, str) else kind.simpleString()
        condition = None
        if has.simpleString() != found[name]:
            try:
                wanted = cast_type(df.sparkSession, kind) if isinstance(kind, str) else kind
            except (AnalysisException, ParseException):  # a struct's text leaves out the quotes around odd names
                continue
            condition = misfit(value, has, wanted)
        wrong[name] = None if condition is None else F.expr(condition)
    return found, tuple(lacking), wrong


def _located(schema: StructType, name: str) -> tuple[str, DataType] | None:
    """SQL and type of a column, or of a field in a struct, by its name in a profile."""
    found = ((".".join(map(table.quoted, path)), kind) for named, path, kind in places_of(schema) if named == name)
    return next(found, None)


def _of(name: str) -> Column:
    from pyspark.sql import functions as F

    return F.col(table.quoted(name))


def _counted(df: DataFrame, asked: _Asked) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The counts of each slice, and the expectations at which Spark failed."""
    try:
        return _collected(df, asked), {}
    except Exception as error:  # Java's own, too, of an executor
        expectations = [one for one in asked.conditions if one[0] == "failed"]
        if not expectations or not _is_of_rows(error):
            raise
        _logger.info("an expectation can't be told (%s); each is tried by itself", condition(error))
    rest = {one: condition for one, condition in asked.conditions.items() if one not in expectations}
    parts = _collected(df, _Asked(conditions=rest, time=asked.time, slices=asked.slices))
    broken = {}
    for one in expectations:
        alone = _Asked(conditions={one: asked.conditions[one]}, time=None, slices=asked.slices)
        try:
            told = {part["slice"]: part["counts"] for part in _collected(df, alone)}
        except Exception as error:  # as above
            if not _is_of_rows(error):
                raise
            broken[one[1]] = condition(error)
        else:
            for part in parts:
                # Rows that aren't the same each time may have been of other slices then.
                part["counts"] |= told.get(part["slice"], {one: 0, ("undecided", one[1]): 0})
    return parts, broken


def _is_of_rows(error: Exception) -> bool:
    """Whether an error comes of what is computed from rows, not of a lost executor, or a file that can't be read."""
    name = condition(error)
    return name == "PythonException" or (name.isupper() and not name.startswith(_TROUBLE))


def _collected(df: DataFrame, asked: _Asked) -> list[dict[str, Any]]:
    from pyspark.sql import functions as F

    if not asked.conditions and asked.time is None and asked.slices is None:
        return [{"slice": None, "rows": df.count(), "newest": None, "counts": {}}]  # which Delta knows without reading
    names = [f"c{number}" for number in range(len(asked.conditions))]
    # Conditions stand in a projection, because an aggregate takes none with rand() or a Python function in it.
    columns = [condition.alias(name) for name, condition in zip(names, asked.conditions.values(), strict=True)]
    time = F.lit(None).cast("timestamp") if asked.time is None else asked.time
    slice_name = F.lit(None).cast("string") if asked.slices is None else asked.slices
    projected = df.select(slice_name.alias("slice"), time.alias("time"), *columns)
    told = {("rows", ""): F.count(F.lit(1)), ("newest", ""): F.unix_micros(F.max("time"))}
    for name, (what, of) in zip(names, asked.conditions, strict=True):
        told[what, of] = F.count_if(~F.col(name) if what == "failed" else F.col(name))
        if what == "failed":
            told["undecided", of] = F.count_if(F.col(name).isNull())
    grouped = projected.groupBy("slice") if asked.slices is not None else projected.groupBy()
    found = grouped.agg(*(column.alias(f"a{number}") for number, column in enumerate(told.values())))
    parts = []
    for row in found.collect():
        rows, newest, *counts = tuple(row)[-len(told) :]
        part = {"slice": row["slice"] if asked.slices is not None else None, "rows": rows, "newest": newest}
        parts.append(part | {"counts": dict(zip(list(told)[2:], counts, strict=True))})
    return parts


def _duplicates(df: DataFrame, key: Sequence[str]) -> int:
    from pyspark.sql import functions as F

    names = [f"k{number}" for number in range(len(key))]
    keys = df.select(*(_of(name).alias(short) for name, short in zip(key, names, strict=True)))
    counts = keys.groupBy(*names).agg(F.count(F.lit(1)).alias("rows"))
    return int(counts.agg(F.sum(F.col("rows") - 1)).collect()[0][0] or 0)
