"""What a model's signature says, in the terms of Spark and Arrow."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from aml_spark import worker
from aml_spark.analysis import condition, tried
from aml_spark.errors import ArgumentError, SchemaError, SessionError, did_you_mean, listed
from aml_spark.model import PinnedModel
from aml_spark.session import cast_type, time_zone

if TYPE_CHECKING:
    from mlflow.models import Model
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import DataType

_logger = logging.getLogger(__name__)

_SPARK_TYPES = {
    "boolean": "boolean",
    "integer": "int",
    "long": "bigint",
    "float": "float",
    "double": "double",
    "string": "string",
    "binary": "binary",
    "datetime": "timestamp",
}
_ARROW_TYPES = {
    "boolean": pa.bool_(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "datetime": pa.timestamp("ns"),
}


def inputs(metadata: Model) -> list[worker.Input] | None:
    """The signature's inputs as plain values; None where there is no signature."""
    schema = metadata.get_input_schema()
    if schema is None or not schema.inputs:
        return None
    if schema.is_tensor_spec():
        return [worker.Input(one.name, str(one.type), True, tuple(one.shape)) for one in schema.inputs]
    return [worker.Input(one.name, _arrow(one.type), getattr(one, "required", True)) for one in schema.inputs]


def _arrow(kind: Any) -> pa.DataType | None:
    """MLflow's type as Arrow's, nested types included; None for one that takes anything."""
    if getattr(kind, "name", None) in _ARROW_TYPES:
        return _ARROW_TYPES[kind.name]
    if hasattr(kind, "properties"):
        fields = [(field.name, _arrow(field.dtype), not field.required) for field in kind.properties]
        parts = [pa.field(name, of, nullable) for name, of, nullable in fields if of is not None]
        return pa.struct(parts) if len(parts) == len(fields) else None
    value = _arrow(kind.value_type) if hasattr(kind, "value_type") else None
    if value is not None:
        return pa.map_(pa.string(), value)
    leaf = _arrow(kind.dtype) if hasattr(kind, "dtype") else None
    return None if leaf is None else pa.list_(leaf)


def arrow_type(kind: DataType) -> pa.DataType:
    """What Arrow calls a type of Spark's; moments are in UTC."""
    from pyspark.sql.pandas.types import to_arrow_type

    asks = "timezone" in inspect.signature(to_arrow_type).parameters  # since Spark 4.2; before it was UTC by itself
    named: dict[str, Any] = {"timezone": "UTC"} if asks else {}
    return to_arrow_type(kind, **named)


def spark_type(kind: pa.DataType) -> DataType:
    """What Spark calls a type of Arrow's; a time without zone is a moment in the session's."""
    from pyspark.sql.pandas.types import from_arrow_type

    return from_arrow_type(kind, prefer_timestamp_ntz=False)  # which is Spark's own default until 4.1


def check_columns(model: PinnedModel, df: DataFrame) -> None:
    """Hold a DataFrame's columns against the model's signature; starts no job.

    Raises:
        SchemaError: a column is missing, of a type that Arrow lacks, or casting it to what the model wants could lose
            something.
    """
    wanted = inputs(model.metadata)
    if wanted is None or wanted[0].name is None:
        return
    has = {field.name: field.dataType for field in df.schema.fields}
    missing = [str(one.name) for one in wanted if one.required and one.name not in has]
    if missing:
        raise SchemaError(
            f"the model {model.label!r} needs the columns {listed(missing)}, which are missing; "
            f"there are {listed(has)}",
            hint=did_you_mean(missing[0], has),
        )
    given = [(one.name, _column_type(model, one.name, has[one.name])) for one in wanted if one.name in has]
    try:
        worker.plan(wanted, given)
    except worker.ColumnError as error:
        to = spark_type(error.wanted).simpleString()
        raise SchemaError(
            f"column {error.column!r} has type {has[error.column].simpleString()}, but the model {model.label!r} wants "
            f"{error.wanted}, and a cast could lose something",
            hint=f"where that is meant: df.withColumn({error.column!r}, F.col({error.column!r}).cast({to!r})) before a "
            f"UDF; before score(), which takes tables, write the column as {to}, or log the model with a signature of "
            f"{has[error.column].simpleString()}",
        ) from None
    rounded = [one.name for one in wanted if one.name in has and one.type == pa.float64()]
    rounded = [name for name in rounded if has[name].simpleString().startswith("decimal")]
    if rounded:
        _logger.info("%s takes doubles: the decimals of %s are rounded to the nearest", model.label, listed(rounded))


def _column_type(model: PinnedModel, name: str, kind: DataType) -> pa.DataType:
    from pyspark.errors import PySparkTypeError

    try:
        return arrow_type(kind)
    except PySparkTypeError:
        raise SchemaError(
            f"column {name!r} has type {kind.simpleString()}, in which the model {model.label!r} can't be given it",
            hint=f"give it in another type: df.withColumn({name!r}, F.col({name!r}).cast(…))",
        ) from None


def checked_zone(spark: SparkSession, model: PinnedModel, output: pa.DataType) -> str:
    """The session's time zone, in which a model's times are meant.

    Raises:
        SessionError: the model takes or gives times, and Arrow doesn't know the zone.
    """
    zone, kinds = time_zone(spark), [output, *(one.type for one in inputs(model.metadata) or ())]
    if any(isinstance(kind, pa.DataType) and _has_times(kind) for kind in kinds):
        try:
            pc.local_timestamp(pa.array([0], pa.timestamp("ns", zone)))
        except pa.ArrowInvalid:
            raise SessionError(
                f"the session's time zone is {zone!r}, which Spark knows and Arrow doesn't; the model {model.label!r} "
                "has times, which are meant in it",
                hint='spark.conf.set("spark.sql.session.timeZone", "America/Los_Angeles"), or another region\'s name',
            ) from None
    return zone


def _has_times(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(_has_times(field.type) for field in kind)
    if pa.types.is_list(kind):
        return _has_times(kind.value_type)
    if pa.types.is_map(kind):
        return _has_times(kind.item_type)
    return bool(pa.types.is_timestamp(kind))


def checked_params(model: PinnedModel, params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What MLflow's predict() does with params in every call; the workers leave its checks out.

    Raises:
        ArgumentError: one has another type than the signature says.
    """
    schema = model.metadata.get_params_schema()
    if schema is None:
        return dict(params) if params else None
    from mlflow.exceptions import MlflowException
    from mlflow.models.utils import _enforce_params_schema
    from mlflow.types import ParamSpec

    for spec in schema.params:
        if params and spec.name in params:
            try:
                ParamSpec.validate_param_spec(params[spec.name], spec)
            except MlflowException:  # which quotes the value, and that may be a secret
                kind = f"a list of {spec.dtype!r}" if spec.shape else repr(spec.dtype)
                raise ArgumentError(
                    f"params has {spec.name!r} as {type(params[spec.name]).__name__}; the model {model.label!r} wants "
                    f"{kind}"
                ) from None
    given = _enforce_params_schema(dict(params) if params else None, schema)
    return dict(given) if given else None


def result_type(spark: SparkSession, model: PinnedModel, asked: DataType | str | None) -> DataType:
    """The Spark type of a prediction: as asked, of the signature, of the example, else double with a warning."""
    if asked is not None:
        return asked_type(spark, asked)
    schema = model.metadata.get_output_schema() or _example_schema(model)
    if schema is None or not schema.inputs:
        warnings.warn(
            f"the model {model.label!r} has no outputs in its signature; its predictions are taken as double. "
            "Give result_type= where they are something else",
            stacklevel=4,
        )
        return cast("DataType", cast_type(spark, "double"))
    types = [_output_type(column) for column in schema.inputs]
    if len(types) == 1:
        return cast("DataType", cast_type(spark, types[0]))
    names = [column.name or str(number) for number, column in enumerate(schema.inputs)]
    fields = ", ".join(f"`{name.replace('`', '``')}`: {kind}" for name, kind in zip(names, types, strict=True))
    return cast("DataType", cast_type(spark, f"struct<{fields}>"))


def asked_type(spark: SparkSession, asked: DataType | str) -> DataType:
    """The Spark type that `result_type=` names.

    Raises:
        ArgumentError: it names none.
    """
    from pyspark.errors import ParseException
    from pyspark.sql.types import DataType as SparkType

    if isinstance(asked, SparkType):
        return asked
    why = type(asked).__name__
    if isinstance(asked, str):
        try:
            with tried():
                return cast("DataType", cast_type(spark, "boolean" if asked == "bool" else asked))
        except ParseException as error:
            why = condition(error)
    raise ArgumentError(
        f"result_type is {asked!r}, which is no type of Spark's ({why})",
        hint="result_type='double', 'array<double>' or 'struct<a: double, b: string>'",
    )


def _example_schema(model: PinnedModel) -> Any:
    """The outputs that the model gives for its input example, predicted here; None where that can't be done."""
    if not model.metadata.saved_input_example_info:
        return None
    import mlflow.pyfunc
    from mlflow.models import infer_signature

    try:
        example = model.metadata.load_input_example(str(model.folder))
        prediction = mlflow.pyfunc.load_model(str(model.folder), suppress_warnings=True).predict(example)
        return infer_signature(example, prediction).outputs
    except Exception as error:  # what the model needs may be missing on the driver
        _logger.info("%s can't predict its input example here (%s)", model.label, type(error).__name__)
        return None


def _output_type(column: Any) -> str:
    """The Spark type of an output of the signature, as DDL."""
    if hasattr(column, "shape"):
        kinds = {"f4": "float", "f8": "double", "i8": "bigint", "i4": "int", "i2": "smallint", "i1": "tinyint"}
        dtype = column.type
        scalar = {"b": "boolean", "U": "string", "S": "binary", "O": "string", "M": "timestamp"}.get(dtype.kind)
        scalar = scalar or kinds.get(dtype.str[1:], "bigint" if dtype.kind in "iu" else "double")
        for _ in column.shape[1:]:
            scalar = f"array<{scalar}>"
        return scalar
    return _ddl(column.type)


def _ddl(kind: Any) -> str:
    """MLflow's type as Spark DDL, nested types included."""
    if getattr(kind, "name", None) in _SPARK_TYPES:
        return _SPARK_TYPES[kind.name]
    if hasattr(kind, "properties"):
        fields = ", ".join(f"`{field.name.replace('`', '``')}`: {_ddl(field.dtype)}" for field in kind.properties)
        return f"struct<{fields}>"
    if hasattr(kind, "value_type"):
        return f"map<string, {_ddl(kind.value_type)}>"
    if hasattr(kind, "dtype"):
        return f"array<{_ddl(kind.dtype)}>"
    return "variant"
