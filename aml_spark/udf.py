"""A registered model as a Spark UDF."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from aml_spark import forms, signature, worker
from aml_spark.environment import MANAGERS, START_SECONDS, prebuilt, wanted
from aml_spark.errors import ArgumentError, listed
from aml_spark.model import PinnedModel, digest, pack, pin
from aml_spark.session import ship, spark_version
from aml_spark.spark_ml import is_spark_ml

if TYPE_CHECKING:
    from mlflow.models import Model
    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.types import DataType

    from aml_spark.worker import Input


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
    *,
    start_seconds: float = START_SECONDS,
    on_error: str = "raise",
    show_message: bool = False,
) -> ModelUDF:
    """Make a Spark UDF of a model, as `mlflow.pyfunc.spark_udf` does.

    The version is resolved and its files are fetched here, once, and sent to the executors, which need no access to
    the registry and no install of this library.

    Args:
        spark: the session to use it in, with the time zone that it has now.
        model_uri: any model address of MLflow's; an alias is resolved now.
        result_type: Spark type of a prediction. None takes the signature's outputs: one column or a tensor of shape
            (-1,) is one value (MLflow makes an array of one of the latter), a tensor of shape (-1, n) an array,
            several columns a struct. Without those, what the model gives for its input example, predicted here;
            without that double, with a warning.
        env_manager: `"local"` (default): the model runs in the executors' Python. `"uv"` and `"virtualenv"` (which is
            pip): in a process beside it, with the packages and the Python version it was logged with, which each
            executor installs once; `AML_SPARK_ENVIRONMENTS` names the folder.
        params: parameters of `predict`.
        extra_env: environment variables for the model on the executors.
        prebuilt_env_uri: such an environment that is there already: an archive that `aml-spark env pack` made, or
            the absolute path of a folder with its content on the executors.
        model_config: configuration of a `PythonModel`.
        start_seconds: how long the model may take to be loaded in an environment of its own, once that is built.
        on_error: `"raise"` ends the query where the model fails; `"null"` finds the rows on which it fails, by halving
            the batch, and gives null for them.
        show_message: whether errors quote the message of an exception in the model, which may hold values of a row.

    Returns:
        A function of columns: of a struct, of columns in the signature's order, or of nothing, which takes the
        signature's column names. It has `check(df)`, `metadata` and `model`.

    Raises:
        ModelNotFoundError: no such model, version or alias.
        ModelError: its environment isn't known.
        ArgumentError: an option that isn't supported.
        SessionError: the model has times, and Arrow doesn't know the session's time zone.
    """
    if env_manager not in (None, *MANAGERS):
        raise ArgumentError(
            f"env_manager is {env_manager!r}; expected one of {listed(MANAGERS)}",
            hint="env_manager='uv' takes what conda's pip section names, but no package of conda's",
        )
    if on_error not in ("raise", "null"):
        raise ArgumentError(f"on_error is {on_error!r}; expected 'raise' or 'null' (score() also takes 'quarantine')")
    return make_udf(
        spark,
        pin(model_uri),
        result_type,
        env_manager=env_manager,
        prebuilt_env_uri=prebuilt_env_uri,
        start_seconds=start_seconds,
        params=params,
        extra_env=extra_env,
        model_config=model_config,
        on_error=on_error,
        show_message=show_message,
    )


def make_udf(
    spark: SparkSession,
    model: PinnedModel,
    result_type: DataType | str | None = None,
    *,
    env_manager: str | None = None,
    prebuilt_env_uri: str | None = None,
    start_seconds: float = START_SECONDS,
    params: Mapping[str, Any] | None = None,
    extra_env: Mapping[str, str] | None = None,
    model_config: Mapping[str, Any] | None = None,
    on_error: str = "raise",
    show_message: bool = False,
) -> ModelUDF:
    """`spark_udf` for a model that is pinned already.

    Args: as there; with `on_error="quarantine"` it gives a struct of the prediction and the reason why it is null.
    """
    from pyspark.sql import functions as F
    from pyspark.sql.types import StructType

    if is_spark_ml(model):
        raise ArgumentError(
            f"{model.label!r} is a model of Spark ML, which can't run in Python on executors",
            hint="aml_spark.score(…) scores it; in a query: mlflow.spark.load_model(uri).transform(df)",
        )
    environment, packed, packed_name = None, None, ""
    if prebuilt_env_uri is not None:
        environment, packed, packed_name = prebuilt(prebuilt_env_uri, start_seconds)
    elif env_manager not in (None, "local"):
        environment = wanted(model, str(env_manager), start_seconds)
    returns = signature.result_type(spark, model, result_type)
    inputs, output = signature.inputs(model.metadata), signature.arrow_type(returns)
    spec = {
        "label": model.label,
        "digest": model.digest,
        "inputs": None if inputs is None else [tuple(one) for one in inputs],
        "enforced": not getattr(model.metadata.signature, "_is_signature_from_type_hint", False),
        "output": output,
        "time_zone": signature.checked_zone(spark, model, output),
        "params": signature.checked_params(model, params),
        "model_config": dict(model_config) if model_config else None,
        "extra_env": dict(extra_env) if extra_env else None,
        "on_error": on_error,
        "environment": environment,
        "show_message": show_message,
    }
    code = Path(worker.__file__).parent
    archive, name = pack(model, code)
    ship(spark, archive, name)
    if packed is not None:
        ship(spark, packed, packed_name)
    # One module for all models of a Python process, so that the models it has loaded share one limit.
    if on_error == "quarantine":
        returns = StructType().add("prediction", returns).add("reason", "string")
    module, version = f"aml_spark_worker_{digest(code)[:32]}", spark_version(spark)
    udfs = {form: _as_udf(_bridge(name, module, {**spec, "form": form}), returns, version) for form in worker.FORMS}
    inner, call = udfs["columns"], forms.call_for(inputs, version)

    def of_columns(*columns: Column | str) -> Column:
        _check_number(columns, inputs, model.label)
        if call is None or inputs is None or len(columns) != len(inputs):
            return inner(*columns)
        given = [F.col(column) if isinstance(column, str) else column for column in columns]
        names = ", ".join(str(column).removeprefix("Column<'").removesuffix("'>") for column in given).replace("`", "")
        called = call(udfs, given)
        return called.alias(f"predict({names})")

    @functools.wraps(inner)
    def udf(*columns: Column | str) -> Column:
        if columns:
            return of_columns(*columns)
        if inputs is None or inputs[0].name is None:
            raise ArgumentError(
                f"the model {model.label!r} names no columns in its signature, so they have to be given",
                hint="udf(F.struct('a', 'b'))",
            )
        given = [F.col("`" + str(one.name).replace("`", "``") + "`") for one in inputs]
        if len(given) == 1 and call is None:  # a column that is a struct has to be told from a struct of columns
            return inner(F.struct(given[0].alias(str(inputs[0].name))))
        return of_columns(*given)  # which reach Python faster than a struct of them

    def check(df: DataFrame) -> None:
        signature.check_columns(model, df)

    made = cast(ModelUDF, udf)
    made.metadata, made.model = model.metadata, model
    made.check = check  # type: ignore[method-assign]
    return made


def _check_number(columns: Sequence[Column | str], inputs: Sequence[Input] | None, label: str) -> None:
    """Of several columns; one may be a struct of all, and a tensor without a name be made of any number."""
    if inputs is None or len(columns) == 1 or (inputs[0].name is None and inputs[0].shape is not None):
        return
    names = [one.name for one in inputs if one.name is not None]
    if len(columns) > len(inputs) or any(one.required or not names for one in inputs[len(columns) :]):
        takes = listed(names) if names else f"{len(inputs)} columns without names"
        raise ArgumentError(
            f"the model {label!r} takes {takes}, and {len(columns)} columns were given",
            hint="without arguments the UDF takes them by their names" if names else None,
        )


def _bridge(name: str, module_name: str, spec: Mapping[str, Any]) -> Callable[[Iterator[Any]], Iterator[Any]]:
    # A nested function is pickled by value: executors need nothing of ours but the archive.
    def predict(batches: Iterator[Any]) -> Iterator[Any]:
        import importlib.util
        import pathlib
        import sys

        from pyspark import SparkFiles

        folder = pathlib.Path(SparkFiles.getRootDirectory(), name)
        module = sys.modules.get(module_name)
        if module is None:
            found = importlib.util.spec_from_file_location(module_name, folder / "worker" / "__init__.py")
            assert found is not None
            assert found.loader is not None
            module = importlib.util.module_from_spec(found)
            sys.modules[module_name] = module
            try:
                found.loader.exec_module(module)
            except BaseException:
                del sys.modules[module_name]
                raise
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

        @functools.wraps(function)  # its name is the column's
        def in_pandas(batches: Iterator[Any]) -> Iterator[Any]:
            import pandas
            import pyarrow

            def series(array: Any) -> Any:
                if pyarrow.types.is_floating(array.type):  # as numpy's, Spark would take each NaN for a null
                    return pandas.Series(pandas.arrays.ArrowExtensionArray(pyarrow.chunked_array([array])))
                return array.to_pandas(integer_object_nulls=True)

            for array in function(batches):
                if pyarrow.types.is_struct(array.type):
                    fields = zip([field.name for field in array.type], array.flatten(), strict=True)
                    yield pandas.DataFrame({name: series(part) for name, part in fields})
                else:
                    yield series(array)

        make = pandas_udf
        return cast("Callable[..., Column]", make(in_pandas, returns, PandasUDFType.SCALAR_ITER))
