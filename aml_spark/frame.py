"""The rows that a target gets: those of the source that are selected, their columns, and their predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aml_spark import table
from aml_spark.analysis import analysed, on_columns
from aml_spark.errors import ArgumentError, SchemaError, did_you_mean, listed, no_list
from aml_spark.model import PinnedModel
from aml_spark.signature import asked_type
from aml_spark.spark_ml import is_spark_ml, transformed
from aml_spark.udf import make_udf

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import DataType

MODEL_VERSION = "model_version"
"""Name of the column that says which model version scored a row."""
REASON = "_aml_spark_reason"
"""Name of the column that says why a row has no prediction, with `on_error="quarantine"`."""
_ORDERED = {"tinyint", "smallint", "int", "bigint", "decimal", "date", "timestamp", "timestamp_ntz"}


def selected(df: DataFrame, where: str | None, source: str) -> DataFrame:
    """The rows for which the SQL condition holds.

    Raises:
        SchemaError: it isn't one on these columns.
    """
    if where is None:
        return df
    with on_columns(df, f"where={where!r} isn't a condition on the columns of {source!r}"):
        selected = df.where(where)
        analysed(selected.select("*"))  # itself it has the DataFrame's schema, which may be known
    return selected


def kept_columns(df: DataFrame, key: Sequence[str] | None, columns: Sequence[str] | None, prediction: str) -> list[str]:
    """The source's columns that the target gets: the key first.

    Raises:
        ArgumentError: a text is given instead of a list; the prediction is named like the model's version.
        SchemaError: a column isn't there, or has the name of one that is written.
    """
    for name, value in (("key", key), ("columns", columns)):
        if isinstance(value, str):
            raise no_list(name, value)
        for column in value or ():
            if column not in df.columns:
                raise SchemaError(
                    f"{name} names {column!r}, which the source lacks; it has {listed(df.columns)}",
                    hint=did_you_mean(column, df.columns, argument=name),
                )
    for name in key or ():
        if not comparable(df, name):
            raise SchemaError(f"key names {name!r}, whose type holds a map or a variant, of which none equals another")
    kept = list(dict.fromkeys([*(key or ()), *(df.columns if columns is None else columns)]))
    if prediction.lower() == MODEL_VERSION:
        raise ArgumentError(
            f"prediction is {prediction!r}, and the target has a column {MODEL_VERSION!r} beside it",
            hint="prediction='prediction'",
        )
    for name in (prediction, MODEL_VERSION):
        # Delta compares names without case, whatever spark.sql.caseSensitive says.
        if taken := [column for column in kept if column.lower() == name.lower()]:
            raise SchemaError(
                f"the target can't have two columns {name!r}: the source has {taken[0]!r}, and one is written",
                hint=f"leave it out with columns={[column for column in kept if column not in taken]}"
                if name == MODEL_VERSION
                else "name the prediction otherwise with prediction=",
            )
    return kept


def comparable(df: DataFrame, name: str) -> bool:
    """Whether values of a column can be held against each other."""
    return _is_comparable(df.schema[name].dataType)


def _is_comparable(kind: DataType) -> bool:
    parts = [field.dataType for field in getattr(kind, "fields", ())]  # of a struct
    if hasattr(kind, "elementType"):  # of an array
        parts.append(kind.elementType)
    # By name, as Spark has a class of variants only since 4.
    return kind.typeName() not in ("map", "variant") and all(map(_is_comparable, parts))


def predicted(
    spark: SparkSession,
    df: DataFrame,
    pinned: PinnedModel,
    kept: Sequence[str],
    prediction: str,
    result_type: DataType | str | None,
    params: Mapping[str, Any] | None,
    on_error: str,
    beside: Sequence[str] = (),
) -> DataFrame:
    """The columns that are kept, the prediction and the model's version; with quarantine `REASON` as well.

    What is `beside` them is kept, too, and not shown to the model.

    Raises:
        ArgumentError: the model takes no such arguments.
        SchemaError: the columns don't fit the model.
    """
    from pyspark.sql import functions as F

    keep = [F.col(table.quoted(name)) for name in [*kept, *beside]]
    version = F.lit(version_text(pinned)).alias(MODEL_VERSION)
    if is_spark_ml(pinned):
        if params or on_error != "raise":
            raise ArgumentError(f"{pinned.label!r} is a model of Spark ML, which takes no params and no on_error")
        scored, name = transformed(spark, pinned, df)
        column = F.col(table.quoted(name))
        if result_type is not None:
            column = column.cast(asked_type(spark, result_type))
        return scored.select(*keep, column.alias(prediction), version)
    udf = make_udf(spark, pinned, result_type, params=params, on_error=on_error)
    schema = pinned.metadata.get_input_schema()
    named = schema is not None and schema.has_input_names()
    inputs = schema.input_names() if named else [name for name in df.columns if name not in beside]
    names = [name for name in inputs if name in df.columns]
    if schema is not None and not named:
        takes = schema.inputs[0].shape[1:] if schema.is_tensor_spec() else (len(schema.inputs),)
        if takes != (len(names),):
            raise SchemaError(
                f"the signature of the model {pinned.label!r} names no columns, so which of {listed(names)} it takes "
                "can't be told",
                hint="log it with a signature that names them: infer_signature(DataFrame, …)",
            )
    columns = [F.struct(*[F.col(table.quoted(name)).alias(name) for name in names])]
    if named and inputs == names:
        columns = []  # all that the signature names is there, and the UDF takes it by itself
    if on_error != "quarantine":
        return df.select(*keep, udf(*columns).alias(prediction), version)
    both = df.select(*keep, udf(*columns).alias(REASON))
    predicted, reason = F.col(f"{REASON}.prediction"), F.col(f"{REASON}.reason")
    return both.select(*keep, predicted.alias(prediction), version, reason.alias(REASON))


def check_fit(scored: DataFrame, existing: DataFrame, target: str, *, added: Sequence[str], own: Sequence[str]) -> None:
    """Hold the columns that a target gets against those that it has.

    Args:
        scored: what it gets.
        existing: what it has.
        target: its name, for the error.
        added: columns that it may get anew.
        own: columns of others that it may keep.

    Raises:
        SchemaError: names and types that differ.
    """
    has = {field.name: field.dataType.simpleString() for field in existing.schema.fields if field.name not in own}
    gets = {field.name: field.dataType.simpleString() for field in scored.schema.fields}
    differing = [name for name in sorted({*has, *gets}) if has.get(name) != gets.get(name)]
    differing = [name for name in differing if name in has or name not in added]
    if differing:
        told = "; ".join(f"{name!r}: has {has.get(name, 'none')}, gets {gets.get(name, 'none')}" for name in differing)
        raise SchemaError(
            f"the result doesn't fit the columns of the target {target!r}: {told}",
            hint="overwrite=True replaces the target with its schema",
        )


def version_text(pinned: PinnedModel) -> str:
    """What stands in the column `MODEL_VERSION`."""
    return pinned.version or pinned.digest[:12]


def key_bounds(df: DataFrame, key: Sequence[str]) -> list[str]:
    """Conditions on a target's key that hold for all rows that these match, by which Delta leaves out whole files.

    Not of texts: the target's history shows the conditions, and texts may be people's names.

    Args:
        df: rows that were persisted: they are all computed for this.
        key: columns that identify a row.

    Returns:
        SQL on the table `target`.
    """
    from pyspark.sql import functions as F

    kinds = {name: df.schema[name].dataType.simpleString() for name in key}
    ordered = [name for name in key if kinds[name].partition("(")[0] in _ORDERED]
    asked = [F.count("*")]  # also where nothing is asked: it fills the cache
    for name in ordered:
        column = F.col(table.quoted(name))
        for end in (F.min(column), F.max(column)):
            # Python's time ends with the year 9999, and a text of it is in doubt where clocks are put back.
            asked.append((F.unix_micros(end) if kinds[name] == "timestamp" else end).cast("string"))
        asked.append(F.count_if(column.isNull()))
    _, *told = df.agg(*asked).collect()[0]
    conditions = []
    for name, least, most, nulls in zip(ordered, told[::3], told[1::3], told[2::3], strict=True):
        if least is not None and not nulls:
            text = "timestamp_micros({})" if kinds[name] == "timestamp" else f"CAST('{{}}' AS {kinds[name]})"
            conditions.append(f"target.{table.quoted(name)} BETWEEN {text.format(least)} AND {text.format(most)}")
    return conditions
