"""Whatever the columns, values, nulls, partitions and batches: each row is answered as by predict in one process.

A few examples in `make test`, five hundred with `make fuzz`.
"""

from __future__ import annotations

import datetime as dt
import functools
import shutil
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import mlflow
import numpy as np
import pandas as pd
import pytest

import aml_spark

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis isn't installed with the oldest versions")
st = hypothesis.strategies

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class Kind(NamedTuple):
    """How a column is drawn: its type in Spark and in the signature, its values, and one as a model should see it."""

    spark: str
    wanted: Any
    values: Any
    seen: Any


def _whole(bits: int) -> Any:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


WHOLE = {"tinyint": _whole(8), "smallint": _whole(16), "int": _whole(32), "bigint": _whole(64)}
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
DAYS = st.dates(dt.date(1700, 1, 1), dt.date(2250, 1, 1))
MOMENTS = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2250, 1, 1))
DECIMALS = st.decimals(Decimal(-(10**12)), Decimal(10**12), places=6, allow_nan=False)
DOUBLES = st.floats(width=64)
FLOATS = st.floats(width=32)
KINDS = [
    *[Kind(name, "integer", WHOLE[name], int) for name in ("tinyint", "smallint", "int")],
    *[Kind(name, "long", WHOLE[name], int) for name in WHOLE],
    *[Kind(name, "double", WHOLE[name], float) for name in ("tinyint", "smallint", "int")],
    *[Kind(name, "float", WHOLE[name], float) for name in ("tinyint", "smallint")],
    Kind("float", "float", FLOATS, float),
    Kind("float", "double", FLOATS, float),
    Kind("double", "double", DOUBLES, float),
    Kind("decimal(20,6)", "double", DECIMALS, float),
    Kind("boolean", "boolean", st.booleans(), bool),
    Kind("string", "string", TEXT, str),
    Kind("binary", "binary", st.binary(max_size=8), bytes),
    Kind("date", "datetime", DAYS, pd.Timestamp),
    Kind("timestamp", "datetime", MOMENTS, pd.Timestamp),
    Kind("timestamp_ntz", "datetime", MOMENTS, pd.Timestamp),
    Kind("array<double>", ["double"], st.lists(DOUBLES, max_size=3), list),
    Kind("array<int>", ["long"], st.lists(st.none() | WHOLE["int"], max_size=3), list),
    Kind("array<bigint>", ["long"], st.lists(st.none() | WHOLE["bigint"], max_size=3), list),
    Kind("array<array<bigint>>", [["long"]], st.lists(st.lists(WHOLE["bigint"], max_size=2), max_size=2), list),
    Kind("array<string>", ["string"], st.lists(TEXT, max_size=3), list),
    Kind(
        "struct<a: bigint, b: string>",
        {"a": "long", "b": "string"},
        st.fixed_dictionaries({"a": _whole(64), "b": TEXT}),
        dict,
    ),
    Kind("map<string, int>", ("long",), st.dictionaries(TEXT, st.none() | WHOLE["int"], max_size=2), dict),
    Kind("map<string, bigint>", ("long",), st.dictionaries(TEXT, _whole(64), max_size=2), dict),
]
DTYPES = {
    "integer": ("int32", "Int32"),
    "long": ("int64", "Int64"),
    "float": ("float32", "float32"),
    "double": ("float64", "float64"),
    "boolean": ("bool", "boolean"),
    "datetime": ("datetime64[ns]", "datetime64[ns]"),
}
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)


def _mlflow_type(wanted: Any) -> Any:
    from mlflow.types import DataType
    from mlflow.types.schema import Array, Map, Object, Property

    if isinstance(wanted, list):
        return Array(_mlflow_type(wanted[0]))
    if isinstance(wanted, tuple):
        return Map(_mlflow_type(wanted[0]))
    if isinstance(wanted, dict):
        return Object([Property(name, _mlflow_type(kind)) for name, kind in wanted.items()])
    return DataType[wanted]


def make_echo() -> Any:
    """A model that tells what it was given: for each row the values and types, in words."""

    class Echo(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            import numpy
            import pandas

            def told(value: Any) -> str:
                if isinstance(value, (list, tuple, numpy.ndarray)):
                    return "[" + ", ".join(told(part) for part in value) + "]"
                if isinstance(value, dict):
                    return "{" + ", ".join(f"{told(key)}: {told(value[key])}" for key in sorted(value)) + "}"
                if isinstance(value, (float, numpy.floating)):
                    return float(value).hex()
                if value is None or value is pandas.NA or value is pandas.NaT:
                    return "null"
                if isinstance(value, (bool, numpy.bool_)):
                    return f"bool {bool(value)}"
                if isinstance(value, (int, numpy.integer)):
                    return f"int {int(value)}"
                if isinstance(value, pandas.Timestamp):
                    return value.isoformat()
                return f"{type(value).__name__} {value!r}"

            def column(series: Any) -> list[str]:
                dtype = str(series.dtype).lower().replace("boolean", "bool")
                missing = pandas.isna(series) & (dtype != "float64") & (dtype != "float32")
                words = ["null" if gone is True else told(v) for v, gone in zip(series, missing.tolist(), strict=True)]
                return [f"{dtype} {word}" for word in words]

            columns = [[f"{name!r} {word}" for word in column(model_input[name])] for name in model_input]
            return numpy.array([" | ".join(row) for row in zip(*columns, strict=True)], dtype=object)

    return Echo()


@functools.cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp()) / "model"
    mlflow.pyfunc.save_model(str(folder), python_model=make_echo(), pip_requirements=["mlflow"])
    return folder


@st.composite
def _examples(draw: Any) -> Any:
    names = draw(st.lists(NAMES, min_size=2, max_size=6, unique_by=lambda name: name.lower()))
    numbers = draw(st.sampled_from([None, None, "double", "float"]))  # which travel in another way
    kinds = [draw(st.sampled_from([kind for kind in KINDS if numbers in (None, kind.wanted)])) for _ in names]
    required = [draw(st.booleans()) for _ in names]
    rows = draw(st.integers(1, 12))
    columns = []
    for kind, needed in zip(kinds, required, strict=True):
        # Nulls also where the signature declares none: a table doesn't ask it.
        values = kind.values if draw(st.booleans()) and needed else st.none() | kind.values
        columns.append(draw(st.lists(values, min_size=rows, max_size=rows)))
    order = draw(st.permutations(range(len(names))))
    return names, kinds, required, columns, order


def _typed(kind: Kind, values: list[Any], required: bool) -> pd.Series[Any]:
    """A column as a person would type it in one process."""
    seen = [None if value is None else kind.seen(value) for value in values]
    if not isinstance(kind.wanted, str) or kind.wanted not in DTYPES:
        return pd.Series(seen, dtype=pd.Series(["text"]).dtype if kind.wanted == "string" else object)
    plain, nullable = DTYPES[kind.wanted]
    if kind.wanted in ("float", "double"):
        return pd.Series(np.array([np.nan if value is None else value for value in seen], dtype=plain))
    return pd.Series(seen, dtype=nullable if None in seen or not required else plain)


@pytest.mark.every_kind
@hypothesis.settings(suppress_health_check=list(hypothesis.HealthCheck), deadline=None)
@hypothesis.given(
    example=_examples(),
    parts=st.integers(1, 4),
    batch=st.integers(1, 5),
    way=st.sampled_from(["none", "struct", "columns"]),
)
def test_each_row_is_answered_as_in_one_process(
    spark: SparkSession, example: Any, parts: int, batch: int, way: str
) -> None:
    from mlflow.models.signature import ModelSignature
    from mlflow.types import ColSpec, Schema
    from pyspark.sql import functions as F

    names, kinds, required, columns, order = example
    inputs = [
        ColSpec(_mlflow_type(kind.wanted), name, required=needed)
        for name, kind, needed in zip(names, kinds, required, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copytree(_template(), Path(folder, "model")))
        metadata = mlflow.models.Model.load(str(path / "MLmodel"))
        metadata.signature = ModelSignature(inputs=Schema(inputs), outputs=Schema([ColSpec("string")]))
        metadata.save(str(path / "MLmodel"))
        quoted = ["`" + name.replace("`", "``") + "`" for name in names]
        schema = ", ".join(["_n int", *[f"{quoted[at]} {kinds[at].spark}" for at in order], "_more string"])
        rows = [(n, *[columns[at][n] for at in order], "more") for n in range(len(columns[0]))]
        df = spark.createDataFrame(rows, schema).repartition(parts)
        udf = aml_spark.spark_udf(spark, str(path))
        udf.check(df)
        before = spark.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch")
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(batch))
        try:
            given = [F.col(name) for name in quoted]
            called = udf() if way == "none" else udf(*given) if way == "columns" else udf(F.struct("*"))
            got = {row[0]: row[1] for row in df.select("_n", called).collect()}
        finally:
            spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", before)
        loaded = mlflow.pyfunc.load_model(str(path))
    frame = pd.DataFrame(
        {name: _typed(*of) for name, of in zip(names, zip(kinds, columns, required, strict=True), strict=True)}
    )
    try:
        expected = loaded.predict(frame)
    except mlflow.exceptions.MlflowException:  # its own check takes no integers or booleans beside nulls
        expected = loaded.unwrap_python_model().predict(None, frame)
    assert [got[n] for n in range(len(rows))] == expected.tolist()
