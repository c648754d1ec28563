"""Which types go in and come out: the tables of README.md, and what they say, tried on Spark.

`python tests/test_types.py` writes the tables anew.
"""

from __future__ import annotations

import datetime as dt
import re
import shutil
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import mlflow
import numpy as np
import pandas as pd
import pytest

import aml_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

README = Path(__file__).parent.parent / "README.md"
SCALARS = ("boolean", "integer", "long", "float", "double", "string", "binary", "datetime")


class In(NamedTuple):
    """A Spark type, a value, and as what a model gets it by the type that its signature names."""

    spark: str
    value: Any
    seen: dict[str, str]


class Out(NamedTuple):
    """A result type, what a model may give for it, and what the query gets."""

    spark: str
    told: str
    given: Any
    got: list[Any]


NOON = dt.datetime(2013, 1, 2, 12)
INPUTS = [
    In("boolean", True, {"boolean": "bool"}),
    In("tinyint", 5, {"integer": "int32", "long": "int64", "float": "float32", "double": "float64"}),
    In("smallint", 5, {"integer": "int32", "long": "int64", "float": "float32", "double": "float64"}),
    In("int", 5, {"integer": "int32", "long": "int64", "double": "float64"}),
    In("bigint", 5, {"long": "int64"}),
    In("float", 0.5, {"float": "float32", "double": "float64"}),
    In("double", 0.5, {"double": "float64"}),
    In("decimal(10,2)", Decimal("1.25"), {"double": "float64"}),
    In("string", "a", {"string": str(pd.Series(["a"]).dtype)}),
    In("binary", bytearray(b"a"), {"binary": "object"}),
    In("date", NOON.date(), {"datetime": "datetime64[ns]"}),
    In("timestamp", NOON, {"datetime": "datetime64[ns]"}),
    In("timestamp_ntz", NOON, {"datetime": "datetime64[ns]"}),
]
OUTPUTS = [
    Out("boolean", "booleans", [True, None], [True, None]),
    Out("int", "whole numbers that fit, booleans", np.array([1.0, 2.0]), [1, 2]),
    Out("bigint", "whole numbers that fit, booleans", pd.Series([2**53 + 1, pd.NA], dtype="Int64"), [2**53 + 1, None]),
    Out("float", "numbers, rounded to the nearest", np.array([0.5, 1.0]), [0.5, 1.0]),
    Out("double", "numbers", [np.float32(0.5), None], [0.5, None]),
    Out("string", "texts; anything else as its text", np.array(["a", None], object), ["a", None]),
    Out("binary", "bytes", [b"a", None], [bytearray(b"a"), None]),
    Out("date", "dates", [NOON.date(), None], [NOON.date(), None]),
    Out("timestamp", "times, without zone in the session's", pd.Series([NOON, pd.NaT]), [NOON, None]),
    Out("timestamp_ntz", "times without zone", np.array([NOON, None], "datetime64[us]"), [NOON, None]),
    Out("array<double>", "a row of an array or a DataFrame", np.array([[1.0, 2.0], [3.0, 4.0]]), [[1, 2], [3, 4]]),
    Out("array<array<double>>", "a tensor's values of a row, of any rank", np.ones((2, 1, 2)), [[[1, 1]], [[1, 1]]]),
    Out("array<string>", "lists of texts", [["a"], None], [["a"], None]),
    Out("map<string,double>", "dicts", [{"a": 1.0, "b": None}, None], [{"a": 1.0, "b": None}, None]),
    Out(
        "struct<a: double, b: string>",
        "columns of a DataFrame, or of a dict, by name",
        {"b": ["x", None], "a": [1.0, 2.0]},
        [(1.0, "x"), (2.0, None)],
    ),
]


def make_constant(given: Any) -> Any:
    class Constant(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return given

    return Constant()


def make_types() -> Any:
    class Types(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return [", ".join(str(model_input[name].dtype) for name in model_input)] * len(model_input)

    return Types()


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("types") / "model"
    mlflow.pyfunc.save_model(str(folder), python_model=make_types(), pip_requirements=["mlflow"])
    return folder


@pytest.mark.every_kind
@pytest.mark.parametrize("wanted", SCALARS)
def test_a_column_reaches_the_model_in_the_type_that_the_table_names_or_not_at_all(
    spark: SparkSession, types: Path, tmp_path: Path, wanted: str
) -> None:
    from mlflow.models.signature import ModelSignature
    from mlflow.types import ColSpec, Schema

    folder = Path(shutil.copytree(types, tmp_path / "model"))
    schema = ", ".join(f"`{one.spark}` {one.spark}" for one in INPUTS)
    df = spark.createDataFrame([tuple(one.value for one in INPUTS)], schema)

    def logged(names: list[str]) -> Any:
        metadata = mlflow.models.Model.load(str(folder / "MLmodel"))
        inputs = Schema([ColSpec(wanted, name) for name in names])
        metadata.signature = ModelSignature(inputs=inputs, outputs=Schema([ColSpec("string")]))
        metadata.save(str(folder / "MLmodel"))
        return aml_spark.spark_udf(spark, str(folder))

    fitting = [one for one in INPUTS if wanted in one.seen]
    udf = logged([one.spark for one in fitting])
    udf.check(df)
    assert df.select(udf()).collect()[0][0].split(", ") == [one.seen[wanted] for one in fitting]
    for one in INPUTS:
        if wanted not in one.seen:
            with pytest.raises(aml_spark.SchemaError, match=f"wants {wanted_in_arrow(wanted)}"):
                logged([one.spark]).check(df)


def wanted_in_arrow(wanted: str) -> str:
    names = {"boolean": "bool", "integer": "int32", "long": "int64", "datetime": r"timestamp\[ns\]"}
    return names.get(wanted, wanted)


@pytest.mark.every_kind
@pytest.mark.parametrize("out", OUTPUTS, ids=lambda out: out.spark)
def test_what_a_model_gives_comes_back_in_the_result_type(spark: SparkSession, tmp_path: Path, out: Out) -> None:
    folder = str(tmp_path / "model")
    mlflow.pyfunc.save_model(folder, python_model=make_constant(out.given), pip_requirements=["mlflow"])
    udf = aml_spark.spark_udf(spark, folder, out.spark)
    scored = spark.range(2).coalesce(1).select(udf("id").alias("p"))
    assert scored.schema[0].dataType.simpleString() == out.spark.replace(": ", ":").replace(", ", ",")
    assert [row.p for row in scored.collect()] == out.got


def tables() -> str:
    """Both tables as Markdown."""
    lines = [f"| Spark | {' | '.join(SCALARS)} |", "|---" * (len(SCALARS) + 1) + "|"]
    for one in INPUTS:
        cells = [one.seen.get(name, "") for name in SCALARS]
        if one.spark == "string":
            cells[SCALARS.index("string")] = "str; object before pandas 3"
        lines.append(f"| {one.spark} | {' | '.join(cells)} |")
    lines += ["", "| result type | what the model may give |", "|---|---|"]
    lines += [f"| `{out.spark}` | {out.told} |" for out in OUTPUTS]
    return "\n".join(lines)


_PLACE = re.compile(r"(?<=<!-- types -->\n\n).*?(?=\n\n<!-- /types -->)", re.DOTALL)


def test_the_tables_of_the_readme_are_these() -> None:
    found = _PLACE.search(README.read_text(encoding="utf-8"))
    assert found is not None
    assert found[0] == tables()


if __name__ == "__main__":
    README.write_text(_PLACE.sub(lambda _: tables(), README.read_text(encoding="utf-8")), encoding="utf-8")
