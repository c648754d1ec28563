"""A registered model as a Spark UDF: the same answers on each kind of session."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow.models import infer_signature
from mlflow.models.signature import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array
from models import make_sum, register, register_sum

import aml_spark
from aml_spark import udf as udf_module
from aml_spark.session import spark_version
from aml_spark.worker import Input

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.usefixtures("tracking")


@pytest.fixture(scope="module")
def numbers(spark: SparkSession) -> Any:
    return spark.range(0, 100, numPartitions=4).selectExpr("double(id) x", "double(id % 7) y", "string(id) more")


@pytest.mark.every_kind
@pytest.mark.oldest
def test_each_way_to_name_the_columns_gives_what_predict_gives(spark: SparkSession, numbers: Any) -> None:
    from pyspark.sql import functions as F

    version = register_sum("ways", 0.5)
    numbers = numbers.coalesce(1)  # each of the four has workers of its own
    udf = aml_spark.spark_udf(spark, f"models:/ways/{version}")
    spark.udf.register("ways", udf)
    numbers.createOrReplaceTempView("numbers")
    frame = numbers.toPandas()
    expected = mlflow.pyfunc.load_model(f"models:/ways/{version}").predict(frame[["x", "y"]])
    got = numbers.select(
        "x",
        udf().alias("none"),
        udf(F.struct("more", "y", "x")).alias("struct"),
        udf("x", "y").alias("separate"),
        F.expr("ways(x, y)").alias("sql"),
    ).toPandas()
    assert got["x"].tolist() == frame["x"].tolist()
    for way in ("none", "struct", "separate", "sql"):
        assert got[way].tolist() == expected.tolist()
    with pytest.raises(aml_spark.ArgumentError, match="takes 'x', 'y', and 3 columns were given"):
        udf("x", "y", "more")


NAMED = [Input("x", pa.float64()), Input("y", pa.float64()), Input("z", pa.float64(), required=False)]
UNNAMED = [Input(None, pa.float64())] * 2


@pytest.mark.parametrize(("inputs", "fine"), [(NAMED, {1, 2, 3}), (UNNAMED, {1, 2}), (None, {1, 2, 3, 4})])
def test_as_many_columns_as_the_model_takes_are_fine(inputs: list[Input] | None, fine: set[int]) -> None:
    refused = set()
    for number in (1, 2, 3, 4):
        try:
            udf_module._check_number(["c"] * number, inputs, "m/1")
        except aml_spark.ArgumentError as error:
            assert f"and {number} columns were given" in error.message  # noqa: PT017 - some are fine
            refused.add(number)
    assert refused == {1, 2, 3, 4} - fine


@pytest.mark.every_kind
@pytest.mark.oldest
def test_numbers_of_several_types_are_each_widened_without_loss(spark: SparkSession) -> None:
    from pyspark.sql import functions as F

    udf = aml_spark.spark_udf(spark, f"models:/widened/{register_sum('widened')}")
    types = {"double": 0.1, "float": 0.1, "int": 2**31 - 1, "smallint": 5, "tinyint": 7}
    for kind, value in types.items():
        df = spark.createDataFrame([(value, 0.5), (None, 0.5)], f"x {kind}, y double").coalesce(1)
        expected = (float(np.float32(value)) if kind == "float" else value) + 0.5
        called = df.select(udf().alias("none"), udf("x", F.col("y")), udf(F.struct("x", "y")).alias("struct"))
        for first, missing in zip(*called.collect(), strict=True):
            assert first == expected
            assert spark_version(spark) < (4, 1) or np.isnan(missing)  # pandas gives Spark a null for it
    assert df.select(udf()).columns == ["predict(x, y)"]


@pytest.mark.every_kind
@pytest.mark.oldest
def test_a_long_among_doubles_is_refused_in_each_way(spark: SparkSession) -> None:
    from pyspark.errors import PySparkException
    from pyspark.sql import functions as F

    udf = aml_spark.spark_udf(spark, f"models:/long/{register_sum('long')}")
    df = spark.createDataFrame([(2**53 + 1, 0.5), (None, 0.5)], "x bigint, y double").coalesce(1)
    in_pandas = spark_version(spark) < (4, 1)  # where a struct's integers beside nulls are doubles
    for called in (udf(), udf("x", "y"), *([] if in_pandas else [udf(F.struct("x", "y"))])):
        with pytest.raises(PySparkException, match="wants double for column 'x', which has type int64"):
            df.select(called).collect()


@pytest.mark.every_kind
def test_the_alias_is_pinned_when_the_udf_is_made(spark: SparkSession, numbers: Any) -> None:
    register_sum("moving", 1.0, alias="champion")
    udf = aml_spark.spark_udf(spark, "models:/moving@champion")
    register_sum("moving", 1000.0, alias="champion")
    assert udf.model.pinned_uri == "models:/moving/1"
    assert numbers.select(udf().alias("p")).toPandas()["p"].max() < 1000
    moved = aml_spark.spark_udf(spark, "models:/moving@champion")
    assert numbers.select(moved().alias("p")).toPandas()["p"].min() >= 1000


@pytest.mark.every_kind
def test_executors_need_neither_the_store_nor_the_library(spark: SparkSession, numbers: Any) -> None:
    # Pickled by value, as all that is nested: executors can't import this file.
    def _loaded() -> tuple[int, str | None, list[str]]:
        """This process, the store that it was told of, and which modules of ours it has."""
        import os
        import sys

        ours = {name for name in sys.modules if name.split(".")[0] == "aml_spark"}
        # MLflow loads the plugin wherever the library is installed, as it is here.
        return os.getpid(), os.environ.get("MLFLOW_TRACKING_URI"), sorted(ours - {"aml_spark", "aml_spark.plugin"})

    class Where(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return np.array([json.dumps(_loaded())] * len(model_input), dtype=object)

    def frames(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            yield pd.DataFrame({"told": [json.dumps(_loaded())] * len(batch)})

    # Spark's workers are used again, and an earlier test may have logged from them, which does need the library.
    found = spark.range(64, numPartitions=16).mapInPandas(frames, "told string").distinct().collect()
    before = {pid: names for pid, _, names in (json.loads(row[0]) for row in found)}
    schema = ModelSignature(inputs=Schema([ColSpec("double", "x")]), outputs=Schema([ColSpec("string")]))
    version = register("where", Where(), signature=schema)
    udf = aml_spark.spark_udf(spark, f"models:/where/{version}")
    for row in numbers.select(udf()).distinct().collect():
        pid, uri, names = json.loads(row[0])
        assert uri is None
        assert names == before.get(pid, [])


@pytest.mark.every_kind
@pytest.mark.oldest
def test_integers_beside_nulls_keep_every_digit(spark: SparkSession) -> None:
    from pyspark.errors import PySparkException
    from pyspark.sql import functions as F

    class Digits(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input["n"].astype("object").map(str)

    schema = ModelSignature(
        inputs=Schema([ColSpec("long", "n", required=False)]), outputs=Schema([ColSpec("string", "digits")])
    )
    version = register("digits", Digits(), signature=schema)
    df = spark.createDataFrame([(2**53 + 1,), (None,), (7,)], "n bigint").coalesce(1)
    udf = aml_spark.spark_udf(spark, f"models:/digits/{version}")
    in_pandas = spark_version(spark) < (4, 1)  # which is where a struct's integers lose digits
    for called in (udf(), udf("n"), *([] if in_pandas else [udf(F.struct("n"))])):
        got = df.select(called).collect()
        assert [row[0] for row in got] == ["9007199254740993", "<NA>", "7"]
    few = df.where("n < 9 OR n IS NULL")
    assert sorted(row[0] for row in few.select(udf(F.struct("n"))).collect()) == ["7", "<NA>"]
    with pytest.raises(PySparkException, match="wants int64 for column 'n', which has type double"):
        few.selectExpr("double(n) n").select(udf()).collect()


@pytest.mark.oldest
def test_integers_are_taken_beside_columns_of_other_types(spark: SparkSession) -> None:
    from pyspark.sql import functions as F

    class Told(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return [" ".join(str(value) for value in row) for row in model_input.astype("object").to_numpy()]

    columns = [("integer", "a"), ("string", "b"), ("long", "c"), ("double", "d")]
    inputs = Schema([ColSpec(kind, name, required=False) for kind, name in columns])
    version = register(
        "told", Told(), signature=ModelSignature(inputs=inputs, outputs=Schema([ColSpec("string", "t")]))
    )
    udf = aml_spark.spark_udf(spark, f"models:/told/{version}")
    rows = [(1, "x", 2**53 + 1, 0.5), (None, "z", None, None), (-3, "y", -(2**63), 1e300)]
    df = spark.createDataFrame(rows, "a smallint, b string, c bigint, d double").coalesce(1)
    expected = ["1 x 9007199254740993 0.5", "<NA> z <NA> nan", "-3 y -9223372036854775808 1e+300"]
    assert [row[0] for row in df.select(udf()).collect()] == expected
    none = df.select(udf("a", "b", F.lit(None), "d")).collect()
    assert [row[0] for row in none] == ["1 x <NA> 0.5", "<NA> z <NA> nan", "-3 y <NA> 1e+300"]


@pytest.mark.every_kind
def test_outputs_come_back_in_the_type_of_the_signature(spark: SparkSession, numbers: Any) -> None:
    class Several(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            x = model_input["x"]
            return pd.DataFrame({"double": x * 2, "label": ["high" if v > 50 else None for v in x], "is": x > 50})

    data = pd.DataFrame({"x": [1.0, 99.0]})
    schema = ModelSignature(
        inputs=infer_signature(data).inputs,
        outputs=Schema([ColSpec("double", "double"), ColSpec("string", "label"), ColSpec("boolean", "is")]),
    )
    version = register("several", Several(), signature=schema)
    udf = aml_spark.spark_udf(spark, f"models:/several/{version}")
    rows = numbers.select("x", udf().alias("p")).collect()
    assert all(row.p.double == row.x * 2 and getattr(row.p, "is") == (row.x > 50) for row in rows)
    assert {row.p.label for row in rows if row.x <= 50} == {None}


def test_probabilities_are_arrays_and_labels_strings(spark: SparkSession, numbers: Any) -> None:
    from sklearn.linear_model import LogisticRegression

    numbers = numbers.coalesce(1)
    frame = numbers.toPandas()[["x", "y"]]
    model = LogisticRegression().fit(frame, np.where(frame["x"] > 50, "high", "low"))
    for method, wanted in (("predict_proba", "array<double>"), ("predict", "string")):
        with mlflow.start_run():
            uri = mlflow.sklearn.log_model(
                model,
                name="model",
                signature=infer_signature(frame, getattr(model, method)(frame)),
                pyfunc_predict_fn=method,
                pip_requirements=["scikit-learn"],
                skops_trusted_types=["numpy.dtype"],
            ).model_uri
        scored = numbers.select(aml_spark.spark_udf(spark, uri)().alias("p"))
        assert scored.schema[0].dataType.simpleString() == wanted
        assert np.array_equal(np.array(scored.toPandas()["p"].tolist()), getattr(model, method)(frame))


def test_a_cast_that_could_lose_something_is_refused_before_any_task(spark: SparkSession, numbers: Any) -> None:
    udf = aml_spark.spark_udf(spark, f"models:/lossy/{register_sum('lossy')}")
    with pytest.raises(aml_spark.SchemaError, match=r"column 'x' has type bigint.*wants double") as caught:
        udf.check(numbers.selectExpr("bigint(x) x", "y"))
    assert caught.value.hint is not None
    assert "cast('double')" in caught.value.hint
    with pytest.raises(aml_spark.SchemaError, match=r"needs the columns 'y', which are missing"):
        udf.check(numbers.select("x"))
    with pytest.raises(aml_spark.SchemaError, match=r"column 'x' has type interval year, in which"):
        udf.check(numbers.selectExpr("INTERVAL '1' YEAR AS x", "y"))


@pytest.mark.parametrize("asked", ["dubble", "array<", float])
def test_a_result_type_that_spark_lacks_is_refused(spark: SparkSession, asked: Any) -> None:
    uri = f"models:/typeless/{register_sum('typeless')}"
    with pytest.raises(aml_spark.ArgumentError, match=rf"^result_type is {asked!r}, which is no type of Spark's"):
        aml_spark.spark_udf(spark, uri, asked)


@pytest.mark.every_kind
@pytest.mark.oldest
def test_a_prediction_that_is_nan_stays_so_and_none_is_null(spark: SparkSession) -> None:
    class Root(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            x = model_input["x"]
            given = [None if value > 8 else float("nan") if value < 0 else value**0.5 for value in x]
            return pd.DataFrame({"root": pd.Series(given, dtype=object), "x": x})

    outputs = Schema([ColSpec("double", "root"), ColSpec("double", "x")])
    version = register("root", Root(), signature=ModelSignature(Schema([ColSpec("double", "x")]), outputs))
    df = spark.createDataFrame([(4.0,), (-1.0,), (9.0,)], "x double").coalesce(1)
    got = df.select(aml_spark.spark_udf(spark, f"models:/root/{version}")().alias("both"))
    sums = aml_spark.spark_udf(spark, f"models:/sums/{register_sum('sums')}")
    assert str(df.limit(1).selectExpr("double('NaN') x", "x y").select(sums()).collect()[0][0]) == "nan"
    told = "string(both.root) root", "both.root IS NULL missing", "both.x x"
    assert [tuple(row) for row in got.selectExpr(*told).collect()] == [
        ("2.0", False, 4.0),
        ("NaN", False, -1.0),
        (None, True, 9.0),
    ]


@pytest.mark.every_kind
@pytest.mark.oldest
def test_a_failing_model_is_named_with_its_frames_but_without_the_row(spark: SparkSession) -> None:
    from pyspark.errors import PySparkException

    udf = aml_spark.spark_udf(spark, f"models:/failing/{register_sum('failing')}")
    df = spark.createDataFrame([(-77123.0, 1.0)], "x double, y double")
    with pytest.raises(PySparkException) as caught:
        df.select(udf()).collect()
    text = str(caught.value)
    assert "PredictionError: the model 'failing/1' couldn't score a batch in partition" in text
    assert "ValueError at" in text
    assert "77123" not in text


def test_the_struct_may_have_names_with_dots_spaces_and_backticks(spark: SparkSession) -> None:
    names = ["a.b", "c d", "e`f", "größe"]

    class First(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input[names].sum(axis=1)

    schema = ModelSignature(
        inputs=Schema([ColSpec("double", name) for name in names]), outputs=Schema([ColSpec("double")])
    )
    version = register("names", First(), signature=schema)
    df = spark.createDataFrame([(1.0, 2.0, 3.0, 4.0)], names)
    assert df.select(aml_spark.spark_udf(spark, f"models:/names/{version}")()).collect()[0][0] == 10.0


def test_without_outputs_in_the_signature_it_is_double_with_a_warning(spark: SparkSession, numbers: Any) -> None:
    version = register("bare", make_sum(), signature=infer_signature(pd.DataFrame({"x": [1.0], "y": [2.0]})))
    with pytest.warns(UserWarning, match="taken as double"):
        udf = aml_spark.spark_udf(spark, f"models:/bare/{version}")
    assert numbers.select(udf().alias("p")).schema[0].dataType.simpleString() == "double"
    given = aml_spark.spark_udf(spark, f"models:/bare/{version}", "string")
    assert numbers.select(given()).first()[0] == "0.0"


def test_without_outputs_in_the_signature_the_input_example_tells_the_type(spark: SparkSession, tmp_path: Path) -> None:
    class Label(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return [f"more than {value:.0f}" for value in model_input["x"]]

    example = pd.DataFrame({"x": [1.0, 2.0]})
    folder = str(tmp_path / "model")
    mlflow.pyfunc.save_model(folder, python_model=Label(), input_example=example, pip_requirements=["mlflow"])
    metadata = mlflow.models.Model.load(f"{folder}/MLmodel")
    metadata.signature = ModelSignature(inputs=infer_signature(example).inputs)
    metadata.save(f"{folder}/MLmodel")
    scored = spark.range(2).selectExpr("double(id) x").select(aml_spark.spark_udf(spark, folder)().alias("p"))
    assert scored.schema[0].dataType.simpleString() == "string"
    assert [row.p for row in scored.collect()] == ["more than 0", "more than 1"]


def test_unknown_models_versions_and_aliases_are_answered_with_what_exists(spark: SparkSession) -> None:
    register_sum("known", alias="champion")
    with pytest.raises(aml_spark.ModelNotFoundError, match=r"no registered model 'knwon' .* in '.+'; it has") as caught:
        aml_spark.spark_udf(spark, "models:/knwon/1")
    assert caught.value.hint == "did you mean 'known'?"
    with pytest.raises(aml_spark.ModelNotFoundError, match=r"versions '1' and the aliases 'champion'"):
        aml_spark.spark_udf(spark, "models:/known/9")
    with pytest.raises(aml_spark.ModelNotFoundError, match=r"no alias 'chalenger'"):
        aml_spark.spark_udf(spark, "models:/known@chalenger")


def test_condas_environments_are_refused_before_anything_is_fetched(spark: SparkSession) -> None:
    with pytest.raises(aml_spark.ArgumentError, match="env_manager is 'conda'") as caught:
        aml_spark.spark_udf(spark, "models:/none/1", env_manager="conda")
    assert "env_manager='uv'" in str(caught.value)


def test_times_are_meant_in_the_sessions_zone_on_the_way_in_and_out(spark: SparkSession) -> None:
    class Same(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input["t"]

    schema = ModelSignature(
        inputs=Schema([ColSpec("datetime", "t", required=False)]), outputs=Schema([ColSpec("datetime")])
    )
    version = register("same", Same(), signature=schema)
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    try:
        times = "timestamp_seconds(id * 86400 * 30) AS t"
        df = spark.range(12).selectExpr(times).union(spark.range(1).selectExpr("timestamp(NULL)"))
        scored = df.select("t", aml_spark.spark_udf(spark, f"models:/same/{version}")().alias("p"))
        assert scored.where("NOT (t <=> p)").count() == 0
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)


def test_only_a_model_with_times_is_refused_in_a_zone_that_arrow_lacks(spark: SparkSession, tmp_path: Path) -> None:
    times = {
        "taken": ModelSignature(Schema([ColSpec("datetime", "x")]), Schema([ColSpec("double")])),
        "given": ModelSignature(Schema([ColSpec("double", "x")]), Schema([ColSpec(Array(DataType.datetime))])),
        "neither": ModelSignature(Schema([ColSpec("double", "x")]), Schema([ColSpec("double")])),
    }
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "PST")
    try:
        for name, schema in times.items():
            folder = str(tmp_path / name)
            mlflow.pyfunc.save_model(folder, python_model=make_sum(), signature=schema, pip_requirements=["mlflow"])
        for name in ("taken", "given"):
            with pytest.raises(aml_spark.SessionError, match="time zone is 'PST', which Spark knows and Arrow doesn't"):
                aml_spark.spark_udf(spark, str(tmp_path / name))
        aml_spark.spark_udf(spark, str(tmp_path / "neither"))
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)


def test_tensors_are_made_of_columns_and_of_arrays(spark: SparkSession, numbers: Any) -> None:
    from mlflow.types import TensorSpec
    from pyspark.sql import functions as F

    class Total(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            if isinstance(model_input, dict):
                return model_input["x"] + model_input["pair"].sum(axis=1)
            assert model_input.dtype == np.float64
            return model_input.sum(axis=1)

    out = Schema([TensorSpec(np.dtype("float64"), (-1,))])
    one = ModelSignature(inputs=Schema([TensorSpec(np.dtype("float64"), (-1, 2))]), outputs=out)
    two = Schema([TensorSpec(np.dtype("float64"), (-1,), "x"), TensorSpec(np.dtype("float32"), (-1, 2), "pair")])
    unnamed = aml_spark.spark_udf(spark, f"models:/one/{register('one', Total(), signature=one)}")
    version = register("two", Total(), signature=ModelSignature(inputs=two, outputs=out))
    named = aml_spark.spark_udf(spark, f"models:/two/{version}")
    paired = numbers.withColumn("pair", F.array("x", "y"))
    got = paired.select("x", "y", unnamed("x", "y").alias("a"), unnamed("pair").alias("b"), named().alias("c"))
    assert got.where("a <> x + y OR b <> x + y OR c <> x + x + y").count() == 0
    assert got.where("a IS NULL OR b IS NULL OR c IS NULL").count() == 0
    with pytest.raises(aml_spark.SchemaError, match=r"column 'pair' has type array<string>.*wants list<item: float>"):
        named.check(paired.withColumn("pair", F.array("more")))


def test_a_struct_for_a_model_of_one_object_is_not_nested_twice(spark: SparkSession) -> None:
    from mlflow.types.schema import Object, Property
    from pyspark.sql import functions as F

    class Field(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return [value["a"] for value in model_input["payload"]]

    payload = ColSpec(Object([Property("a", mlflow.types.DataType.double)]), "payload")
    schema = ModelSignature(inputs=Schema([payload]), outputs=Schema([ColSpec("double")]))
    udf = aml_spark.spark_udf(spark, f"models:/field/{register('field', Field(), signature=schema)}")
    df = spark.range(3).select(F.struct(F.col("id").cast("double").alias("a")).alias("payload"))
    rows = df.select(udf().alias("none"), udf("payload").alias("own"), udf(F.struct("payload")).alias("struct"))
    assert [tuple(row) for row in rows.collect()] == [(0.0,) * 3, (1.0,) * 3, (2.0,) * 3]


@pytest.mark.parametrize(("given", "factor"), [(None, 2.0), ({"factor": 5.0}, 5.0)])
def test_params_reach_the_model_with_the_signatures_defaults(
    spark: SparkSession, tmp_path: Path, given: dict[str, float] | None, factor: float
) -> None:
    class Times(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input["x"] * (params or {}).get("factor", 0.0)

    data = pd.DataFrame({"x": [1.0]})
    signature = infer_signature(data, data["x"], {"factor": 2.0})
    folder = str(tmp_path / "model")
    mlflow.pyfunc.save_model(folder, python_model=Times(), signature=signature, pip_requirements=["mlflow"])
    udf = aml_spark.spark_udf(spark, folder, params=given)
    assert [row[0] for row in spark.range(3).selectExpr("double(id) x").select(udf()).collect()] == [
        number * factor for number in range(3)
    ]


@pytest.mark.parametrize(
    ("wanted", "given", "takes"), [(1, "hush", "long"), (1, ["hush"], "long"), ([1], ["hush"], "a list of long")]
)
def test_a_parameter_of_another_type_is_refused_without_its_value(
    spark: SparkSession, tmp_path: Path, wanted: Any, given: Any, takes: str
) -> None:
    data, folder = pd.DataFrame({"x": [1.0]}), str(tmp_path / "model")
    signature = infer_signature(data, data["x"], {"token": wanted})
    mlflow.pyfunc.save_model(folder, python_model=make_sum(), signature=signature, pip_requirements=["mlflow"])
    with pytest.raises(aml_spark.ArgumentError, match=f"^params has 'token' as .* wants {takes}$") as said:
        aml_spark.spark_udf(spark, folder, params={"token": given})
    assert "hush" not in str(said.value)


def test_a_model_that_cannot_be_loaded_ends_the_query_whatever_is_done_on_errors(
    spark: SparkSession, tmp_path: Path
) -> None:
    from pyspark.errors import PySparkException

    class Broken(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def load_context(self, context: Any) -> None:
            if os.environ.get("ON_AN_EXECUTOR"):
                raise ModuleNotFoundError("not here", name="absent_package")

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input["x"]

    folder = str(tmp_path / "model")
    mlflow.pyfunc.save_model(folder, python_model=Broken(), pip_requirements=["mlflow"])
    udf = aml_spark.spark_udf(spark, folder, "double", on_error="null", extra_env={"ON_AN_EXECUTOR": "1"})
    with pytest.raises(PySparkException, match=r"couldn't be loaded.*ModuleNotFoundError \(absent_package\)"):
        spark.range(3).selectExpr("double(id) x").select(udf("x")).collect()


def test_a_model_that_needs_names_gets_a_data_frame_of_its_numbers(spark: SparkSession, tmp_path: Path) -> None:
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    data = pd.DataFrame({"a": [1.0, 2.0, 1.0, 2.0], "b": [5.0, 5.0, 6.0, 6.0]})
    coded = ColumnTransformer([("coded", OneHotEncoder(), ["a", "b"])])  # knows no other value than these
    model = make_pipeline(coded, LinearRegression()).fit(data, [1.0, 2.0, 3.0, 4.0])
    folder, signature = str(tmp_path / "model"), infer_signature(data, model.predict(data))
    mlflow.sklearn.save_model(model, folder, signature=signature, serialization_format="cloudpickle")
    scored = spark.createDataFrame(data).coalesce(1).select(aml_spark.spark_udf(spark, folder)()).collect()
    assert [row[0] for row in scored] == model.predict(data).tolist()


OF_HINTS = {
    "list[dict[str, str]]": ("lambda one: one['a']", "map('a', a)"),
    "list[Row]": ("lambda one: one.a", "named_struct('a', a)"),
    "list[str]": ("lambda one: one", "a"),
}


@pytest.mark.parametrize("hint", OF_HINTS)
def test_a_model_with_type_hints_gets_what_they_say(spark: SparkSession, tmp_path: Path, hint: str) -> None:
    read, given = OF_HINTS[hint]
    code = tmp_path / "model.py"
    code.write_text(
        "import mlflow, pydantic\n"
        "class Row(pydantic.BaseModel):\n    a: str\n"
        "class Hinted(mlflow.pyfunc.PythonModel):\n"
        f"    def predict(self, model_input: {hint}) -> list[str]:\n        return list(map({read}, model_input))\n"
        "mlflow.models.set_model(Hinted())\n"
    )
    folder = str(tmp_path / "model")
    mlflow.pyfunc.save_model(folder, python_model=str(code), pip_requirements=["mlflow"])
    rows = spark.createDataFrame([("x",), ("y",)], "a string").coalesce(1).selectExpr(f"{given} AS given")
    udf = aml_spark.spark_udf(spark, folder)
    assert [row[0] for row in rows.select(udf("given")).collect()] == ["x", "y"]
