"""A registered model as a Spark UDF."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from aml_spark import worker
from aml_spark.errors import ArgumentError, SchemaError, did_you_mean, listed
from aml_spark.model import PinnedModel, pack, pin
from aml_spark.session import cast_type, setting, ship, spark_version

if TYPE_CHECKING:
    from mlflow.models import Model
    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.types import DataType

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


class ModelUDF(Protocol):
    """What `spark_udf` returns: a function of columns that `spark.udf.register` takes, too."""

    metadata: Model
    """MLflow's description of the model."""
    model: PinnedModel
    """The version that this UDF goes on using, whatever happens to the alias."""

    def __call__(self, *columns: Column | str) -> Column:
        """The prediction for a struct of columns, for columns in the signature's order, or for those it names."""

    def check(self, df: DataFrame) -> None:
        """Raise `SchemaError` where the DataFrame lacks a column or has a type that would lose something."""


def spark_udf(
    spark: SparkSession,
    model_uri: str,
    result_type: DataType | str | None = None,
    env_manager: str | None = None,
    params: Mapping[str, Any] | None = None,
    extra_env: Mapping[str, str] | None = None,
    prebuilt_env_uri: str | None = None,
    model_config: Mapping[str, Any] | None = None,
) -> ModelUDF:
    """Make a Spark UDF of a model, as `mlflow.pyfunc.spark_udf` does.

    The version is resolved and its files are fetched here, once, and sent to the executors, which need no access to
    the registry and no install of this library.

    Args:
        spark: the session to use it in.
        model_uri: any model address of MLflow's; an alias is resolved now.
        result_type: Spark type of a prediction. None takes the signature's outputs: one column or a tensor of shape
            (-1,) is one value (MLflow makes an array of one of the latter), a tensor of shape (-1, n) an array,
            several columns a struct. Without those it is double, with a warning.
        env_manager: only `"local"` (default): the model runs in the executors' Python.
        params: parameters of `predict`.
        extra_env: environment variables for the model on the executors.
        prebuilt_env_uri: not supported.
        model_config: configuration of a `PythonModel`.

    Returns:
        A function of columns: of a struct, of columns in the signature's order, or of nothing, which takes the
        signature's column names. It has `check(df)`, `metadata` and `model`.

    Raises:
        ModelNotFoundError: no such model, version or alias.
        ArgumentError: an option that isn't supported.
    """
    if env_manager not in (None, "local"):
        raise ArgumentError(
            f"env_manager is {env_manager!r}; expected 'local': the model runs in the executors' Python",
            hint="install the model's requirements there; mlflow.pyfunc.get_model_dependencies(uri) lists them",
        )
    if prebuilt_env_uri is not None:
        raise ArgumentError("prebuilt_env_uri isn't supported; the model runs in the executors' Python")
    return make_udf(spark, pin(model_uri), result_type, params=params, extra_env=extra_env, model_config=model_config)


def make_udf(
    spark: SparkSession,
    model: PinnedModel,
    result_type: DataType | str | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    extra_env: Mapping[str, str] | None = None,
    model_config: Mapping[str, Any] | None = None,
) -> ModelUDF:
    """`spark_udf` for a model that is pinned already."""
    from pyspark.sql import functions as F
    from pyspark.sql.pandas.types import to_arrow_type

    returns = _result_type(spark, model, result_type)
    inputs, tensors = _inputs(model.metadata)
    spec = {
        "label": model.label,
        "inputs": inputs,
        "tensors": tensors,
        "enforced": not getattr(model.metadata.signature, "_is_signature_from_type_hint", False),
        "output": to_arrow_type(returns),
        "time_zone": setting(spark, "spark.sql.session.timeZone") or "UTC",
        "params": _checked_params(model, params),
        "model_config": dict(model_config) if model_config else None,
        "extra_env": dict(extra_env) if extra_env else None,
    }
    archive, name = pack(model, Path(worker.__file__))
    ship(spark, archive, name)
    inner = _as_udf(_bridge(name, spec), returns, spark_version(spark))

    @functools.wraps(inner)
    def udf(*columns: Column | str) -> Column:
        if columns:
            return inner(*columns)
        if inputs is None or inputs[0]["name"] is None:
            raise ArgumentError(
                f"the model {model.label!r} names no columns in its signature, so they have to be given",
                hint="udf(F.struct('a', 'b'))",
            )
        names = [column["name"] for column in inputs]
        return inner(F.struct(*[F.col("`" + name.replace("`", "``") + "`").alias(name) for name in names]))

    def check(df: DataFrame) -> None:
        check_columns(model, df)

    made = cast(ModelUDF, udf)
    made.metadata, made.model = model.metadata, model
    made.check = check  # type: ignore[method-assign]
    return made


def check_columns(model: PinnedModel, df: DataFrame) -> None:
    """Hold a DataFrame's columns against the model's signature; starts no job.

    Raises:
        SchemaError: a column is missing, or casting it to what the model wants could lose something.
    """
    from pyspark.sql.pandas.types import to_arrow_type

    inputs, tensors = _inputs(model.metadata)
    if inputs is None or inputs[0]["name"] is None:
        return
    has = {field.name: field.dataType for field in df.schema.fields}
    missing = [column["name"] for column in inputs if column["required"] and column["name"] not in has]
    if missing:
        raise SchemaError(
            f"the model {model.label!r} needs the columns {listed(missing)}, which are missing; "
            f"there are {listed(has)}",
            hint=did_you_mean(missing[0], has),
        )
    for column in inputs:
        name, wanted = column["name"], None if tensors else worker.ARROW_TYPES.get(column["type"])
        if tensors:
            try:
                worker.refuse_tensor(to_arrow_type(has[name]), column["type"], name)
            except worker.PredictionError as error:
                raise SchemaError(f"{error}; the model is {model.label!r}") from None
        if wanted is None or name not in has:
            continue
        kind = has[name].simpleString()
        if kind.startswith(("array", "struct", "map")) or not worker.fits(to_arrow_type(has[name]), wanted):
            spark_type = _SPARK_TYPES[column["type"]]
            raise SchemaError(
                f"column {name!r} has type {kind}, but the model {model.label!r} wants {column['type']}, "
                "and a cast could lose something",
                hint=f"where that is meant: df.withColumn({name!r}, F.col({name!r}).cast({spark_type!r}))",
            )


def _bridge(name: str, spec: Mapping[str, Any]) -> Callable[[Iterator[Any]], Iterator[Any]]:
    # A nested function is pickled by value: executors need nothing of ours but the archive.
    def predict(batches: Iterator[Any]) -> Iterator[Any]:
        import importlib.util
        import pathlib
        import sys

        from pyspark import SparkFiles

        folder = pathlib.Path(SparkFiles.getRootDirectory(), name)
        module_name = name.replace("-", "_")
        module = sys.modules.get(module_name)
        if module is None:
            found = importlib.util.spec_from_file_location(module_name, folder / "worker.py")
            assert found is not None
            assert found.loader is not None
            module = importlib.util.module_from_spec(found)
            found.loader.exec_module(module)
            sys.modules[module_name] = module
        yield from module.predict(batches, str(folder / "model"), spec)

    return predict


def _as_udf(function: Callable[..., Any], returns: DataType, version: tuple[int, int]) -> Callable[..., Column]:
    with warnings.catch_warnings():
        # Spark would rather infer the kind from type hints, which can't say "a struct or any number of columns".
        warnings.filterwarnings("ignore", message=".*type hints.*", category=UserWarning)
        if version >= (4, 1):
            from pyspark.sql.pandas.functions import ArrowUDFType, arrow_udf

            make: Any = arrow_udf
            return cast("Callable[..., Column]", make(function, returns, ArrowUDFType.SCALAR_ITER))
        from pyspark.sql.pandas.functions import PandasUDFType, pandas_udf

        def in_pandas(batches: Iterator[Any]) -> Iterator[Any]:
            import pandas

            for array in function(batches):
                if str(array.type).startswith("struct"):
                    fields = dict(zip([field.name for field in array.type], array.flatten(), strict=True))
                    exact = {name: part.to_pandas(integer_object_nulls=True) for name, part in fields.items()}
                    yield pandas.DataFrame(exact)
                else:
                    yield array.to_pandas(integer_object_nulls=True)

        make = pandas_udf
        return cast("Callable[..., Column]", make(in_pandas, returns, PandasUDFType.SCALAR_ITER))


def _inputs(metadata: Model) -> tuple[list[dict[str, Any]] | None, bool]:
    """The signature's inputs as plain values, and whether they are tensors. None where there is no signature."""
    schema = metadata.get_input_schema()
    if schema is None or not schema.inputs:
        return None, False
    if schema.is_tensor_spec():
        return [
            {"name": column.name, "type": str(column.type), "shape": tuple(column.shape), "required": True}
            for column in schema.inputs
        ], True
    return [
        {
            "name": column.name,
            "type": getattr(column.type, "name", type(column.type).__name__).lower(),
            "required": getattr(column, "required", True),
        }
        for column in schema.inputs
    ], False


def _checked_params(model: PinnedModel, params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    # What MLflow's predict() does with them in every call; the workers leave its checks out.
    schema = model.metadata.get_params_schema()
    if schema is None:
        return dict(params) if params else None
    from mlflow.models.utils import _enforce_params_schema

    given = _enforce_params_schema(dict(params) if params else None, schema)
    return dict(given) if given else None


def _result_type(spark: SparkSession, model: PinnedModel, asked: DataType | str | None) -> DataType:
    if asked is not None:
        return cast(
            "DataType",
            cast_type(spark, "boolean" if asked == "bool" else asked) if isinstance(asked, str) else asked,
        )
    schema = model.metadata.get_output_schema()
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
