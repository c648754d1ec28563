"""Scoring a Delta table into a Delta table."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pytest
import tables
from deltalake import DeltaTable, write_deltalake
from models import TRAINING, make_total, register, register_sum

import aml_spark
from aml_spark import frame, table, writer
from aml_spark.table import Table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.usefixtures("tracking")


def numbered(*numbers: int) -> dict[str, list[Any]]:
    """The columns of so many rows."""
    x, y = [float(n) for n in numbers], [float(n % 7) for n in numbers]
    return {"id": list(numbers), "x": x, "y": y, "even": [n % 2 == 0 for n in numbers]}


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = str(tmp_path / "source")
    tables.write(path, numbered(*range(50)))
    return path


@pytest.fixture
def target(tmp_path: Path) -> str:
    return str(tmp_path / "target")


def rows(table: str) -> list[Any]:
    return sorted(tables.rows(table))


def append(table: str, number: int) -> None:
    tables.write(table, numbered(number), mode="append")


@pytest.mark.every_kind
@pytest.mark.oldest
def test_every_row_is_scored_once_in_one_commit_with_its_lineage(spark: SparkSession, source: str, target: str) -> None:
    version = register_sum("once", 10.0, alias="champion")
    result = aml_spark.score(
        spark, model="models:/once@champion", source=source, target=target, key=["id"], columns=["x"], where="even"
    )
    assert (result.rows, result.model_version, result.source_version) == (25, version, 0)
    assert (result.target_version, result.skipped) == (0, False)
    assert rows(target) == [(i, float(i), i + i % 7 + 10.0, version) for i in range(0, 50, 2)]
    assert tables.columns(target) == ["id", "x", "prediction", "model_version"]
    told = spark.sql(f"DESCRIBE HISTORY delta.`{target}`").collect()
    lineage = json.loads(told[0]["userMetadata"])["aml_spark"]
    assert len(told) == 1
    assert (lineage["source"], lineage["source_version"]) == (source, 0)
    assert (lineage["model"], lineage["model_version"]) == ("once", version)
    assert lineage["library"] == aml_spark.__version__
    assert len(lineage["model_digest"]) == 64
    assert len(lineage["run_id"]) == 32


def test_the_same_work_is_skipped_until_source_model_or_target_change(
    spark: SparkSession, source: str, target: str
) -> None:
    def run(model: str = "models:/again@champion", **more: Any) -> aml_spark.ScoreResult:
        return aml_spark.score(spark, model=model, source=source, target=target, **more)

    register_sum("again", 1.0, alias="champion")
    assert not run().skipped
    skipped = run()
    assert (skipped.skipped, skipped.rows, skipped.target_version) == (True, 0, 0)
    assert tables.versions(target) == 1
    assert not run(force=True).skipped
    spark.sql(f"OPTIMIZE delta.`{target}`").collect()
    assert run().skipped
    append(source, 50)
    grown = run()
    assert (grown.skipped, grown.rows, grown.source_version) == (False, 51, 1)
    register_sum("again", 2.0, alias="champion")
    assert run().model_version == "2"
    back = run("models:/again/1")
    assert (back.skipped, back.model_version) == (False, "1")
    assert {row[-1] for row in rows(target)} == {"1"}
    tables.delete(target, "id < 10")
    assert run("models:/again/1").rows == 51
    spark.sql(f"RESTORE TABLE delta.`{target}` TO VERSION AS OF 0").collect()
    assert run("models:/again/1").rows == 51
    assert len(rows(target)) == 51


@pytest.mark.every_kind
def test_tables_by_name_keep_their_properties(spark: SparkSession, tracking: Any) -> None:
    register_sum("named")
    spark.range(5).selectExpr("id", "double(id) x", "double(1) y").write.format("delta").saveAsTable("named_source")
    try:
        arguments: dict[str, Any] = {"model": "models:/named/1", "source": "named_source", "target": "named_target"}
        assert aml_spark.score(spark, **arguments).rows == 5
        spark.sql("ALTER TABLE named_target SET TBLPROPERTIES ('color' = 'blue')")
        assert aml_spark.score(spark, **arguments).skipped
        assert aml_spark.score(spark, force=True, **arguments).rows == 5
        assert spark.table("named_target").count() == 5
        properties = {row[0]: row[1] for row in spark.sql("SHOW TBLPROPERTIES named_target").collect()}
        assert properties["color"] == "blue"
        with pytest.raises(aml_spark.TargetError, match="other arguments"):
            aml_spark.score(spark, where="id > 2", **arguments)
        assert aml_spark.score(spark, where="id > 2", overwrite=True, **arguments).rows == 2
    finally:
        spark.sql("DROP TABLE IF EXISTS named_target")
        spark.sql("DROP TABLE IF EXISTS named_source")


def test_an_empty_source_gives_an_empty_target(spark: SparkSession, target: str, tmp_path: Path) -> None:
    register_sum("empty")
    path = str(tmp_path / "empty")
    types = {"id": pa.int64(), "x": pa.float64(), "y": pa.float64()}
    tables.write(path, pa.schema(types).empty_table())
    assert aml_spark.score(spark, model="models:/empty/1", source=path, target=target).rows == 0
    assert rows(target) == []


def test_a_table_that_score_did_not_write_is_refused_unless_overwritten(
    spark: SparkSession, source: str, target: str
) -> None:
    register_sum("refused")
    tables.write(target, {"id": range(3)})
    with pytest.raises(aml_spark.TargetError, match="nothing in its history"):
        aml_spark.score(spark, model="models:/refused/1", source=source, target=target)
    assert rows(target) == [(0,), (1,), (2,)]
    assert aml_spark.score(spark, model="models:/refused/1", source=source, target=target, overwrite=True).rows == 50


def test_a_grown_schema_is_refused_with_the_columns_that_differ(spark: SparkSession, source: str, target: str) -> None:
    register_sum("grown")
    arguments: dict[str, Any] = {"model": "models:/grown/1", "source": source, "target": target}
    aml_spark.score(spark, columns=None, **arguments)
    spark.sql(f"ALTER TABLE delta.`{target}` ADD COLUMNS (note STRING)")
    append(source, 50)
    with pytest.raises(aml_spark.SchemaError, match="'note': has string, gets none"):
        aml_spark.score(spark, **arguments)
    assert len(rows(target)) == 50


def test_a_grown_source_is_refused_with_the_column_that_is_new(spark: SparkSession, source: str, target: str) -> None:
    register_sum("wider")
    arguments: dict[str, Any] = {"model": "models:/wider/1", "source": source, "target": target}
    aml_spark.score(spark, **arguments)
    spark.sql(f"ALTER TABLE delta.`{source}` ADD COLUMNS (note STRING)")
    with pytest.raises(aml_spark.SchemaError, match="'note': has none, gets string"):
        aml_spark.score(spark, **arguments)


def test_a_source_that_was_made_anew_is_scored_again(spark: SparkSession, target: str) -> None:
    register_sum("rebuilt")
    arguments: dict[str, Any] = {"model": "models:/rebuilt/1", "source": "rebuilt_source", "target": target}
    try:
        for rows_due in (5, 3):
            spark.range(rows_due).selectExpr("id", "double(id) x", "double(1) y").createOrReplaceTempView("now")
            spark.sql("CREATE OR REPLACE TABLE rebuilt_source USING delta AS SELECT * FROM now")
            assert aml_spark.score(spark, **arguments).rows == rows_due
        assert len(rows(target)) == 3
    finally:
        spark.sql("DROP TABLE IF EXISTS rebuilt_source")


def test_all_of_a_partitioned_target_is_replaced_whatever_the_session_says(
    spark: SparkSession, source: str, target: str
) -> None:
    register_sum("partitions")
    arguments: dict[str, Any] = {"model": "models:/partitions/1", "source": source, "target": target}
    aml_spark.score(spark, **arguments)
    everything = DeltaTable(target).to_pyarrow_table()
    write_deltalake(target, everything, mode="overwrite", schema_mode="overwrite", partition_by=["even"])
    tables.delete(source, "even")
    spark.conf.set("spark.sql.sources.partitionOverwriteMode", "dynamic")
    try:
        assert aml_spark.score(spark, **arguments).rows == 25
    finally:
        spark.conf.unset("spark.sql.sources.partitionOverwriteMode")
    assert {row[3] for row in rows(target)} == {False}


def test_a_model_whose_signature_names_no_columns_is_refused_where_they_cant_be_told(
    spark: SparkSession, source: str, target: str, tmp_path: Path
) -> None:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    pair = Schema([TensorSpec(np.dtype("float64"), (-1, 2))])
    one = Schema([TensorSpec(np.dtype("float64"), (-1,))])
    register("unnamed", make_total(), signature=ModelSignature(inputs=pair, outputs=one))
    arguments: dict[str, Any] = {"model": "models:/unnamed/1", "target": target}
    with pytest.raises(aml_spark.SchemaError, match="which of 'id', 'x', 'y', 'even' it takes"):
        aml_spark.score(spark, source=source, **arguments)
    narrow = str(tmp_path / "narrow")
    tables.write(narrow, {"x": [0.0, 1.0, 2.0], "y": [10.0] * 3})
    assert aml_spark.score(spark, source=narrow, **arguments).rows == 3
    assert [row[2] for row in rows(target)] == [10.0, 11.0, 12.0]


def test_wrong_tables_and_columns_are_refused_before_any_task(
    spark: SparkSession, source: str, target: str, tmp_path: Path
) -> None:
    register_sum("wrong")
    arguments: dict[str, Any] = {"model": "models:/wrong/1", "source": source, "target": target}
    parquet = str(tmp_path / "parquet")
    spark.range(3).write.parquet(parquet)
    spark.range(3).createOrReplaceTempView("a_view")
    spark.sql("CREATE TABLE csv_table USING csv AS SELECT 1 id")
    parted = str(tmp_path / "parted")
    write_deltalake(parted, pa.table({"x": [0.0], "y": [1.0], "p": [1]}), partition_by=["p"])
    refusals: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (aml_spark.TableNotFoundError, "isn't a Delta table", {"source": parquet}),
        (aml_spark.TableNotFoundError, "isn't a Delta table", {"target": parquet}),
        (aml_spark.TableNotFoundError, "is a view", {"source": "a_view"}),
        (aml_spark.TableNotFoundError, "doesn't exist", {"source": str(tmp_path / "nothing")}),
        (aml_spark.TableNotFoundError, "doesn't exist", {"source": "no_such_table"}),
        (aml_spark.TableNotFoundError, "doesn't exist", {"source": "HISTORY"}),
        (aml_spark.TableNotFoundError, "in format 'csv'", {"source": "csv_table"}),
        (aml_spark.TableNotFoundError, "as a partition of one isn't", {"source": f"{parted}/p=1"}),
        (aml_spark.TableNotFoundError, "as a partition of one isn't", {"source": f"{parted}/p=2"}),
        (aml_spark.TableNotFoundError, "as a partition of one isn't", {"source": parted, "target": f"{parted}/p=1"}),
        (aml_spark.TargetError, "is the source itself", {"target": source + "/"}),
        (aml_spark.SchemaError, "names 'evn', which the source lacks", {"columns": ["evn"]}),
        (aml_spark.SchemaError, "isn't a condition", {"where": "no_column > 1"}),
        (aml_spark.SchemaError, "two columns 'x'", {"prediction": "x"}),
        (aml_spark.ArgumentError, "key is the text 'id'", {"key": "id"}),
        (aml_spark.ArgumentError, "expected one of 'all', 'changes'", {"mode": "some"}),
        (aml_spark.ArgumentError, "neither a table name nor a path", {"target": "a table"}),
        (aml_spark.ModelNotFoundError, "no version", {"model": "models:/wrong/9"}),
    ]
    for error, text, change in refusals:
        with pytest.raises(error, match=text):
            aml_spark.score(spark, **{**arguments, **change})
    texts = tmp_path / "texts[1]"
    texts.mkdir()
    (texts / "a.txt").write_text("not a table's")
    hints: list[tuple[str, dict[str, Any]]] = [
        ("key=['id', 'x']", {"key": ["id, x"]}),
        ("key=['id', 'x']", {"key": "id, x"}),
        ("did you mean 'changes'?", {"mode": "change"}),
        ("str(path); rows of a DataFrame", {"source": Path(source)}),
        ("str(path); rows of a DataFrame", {"source": spark.range(3)}),
        ("CONVERT TO DELTA", {"target": parquet}),
        ("expected a folder with a Delta table", {"target": str(texts)}),
        ("CREATE SCHEMA", {"target": "no_schema.there"}),
        ("models:/wrong@champion names", {"model": "wrong@champion"}),
    ]
    for hint, change in hints:
        with pytest.raises(aml_spark.errors.AmlSparkError) as said:
            aml_spark.score(spark, **{**arguments, **change})
        assert str(said.value.hint).startswith(hint)
    tables.write(str(tmp_path / "narrow"), {"x": [0.0, 1.0, 2.0]})
    with pytest.raises(aml_spark.SchemaError, match="needs the columns 'y'"):
        aml_spark.score(spark, **{**arguments, "source": str(tmp_path / "narrow")})
    assert not Path(target).exists()


@pytest.mark.parametrize(
    ("error", "text", "more"),
    [
        (aml_spark.SchemaError, "'prediction': the source has 'Prediction'", {"columns": ["Prediction"]}),
        (aml_spark.SchemaError, "'model_version': the source has 'MODEL_VERSION'", {"columns": ["MODEL_VERSION"]}),
        (aml_spark.ArgumentError, "prediction is 'Model_Version', and", {"columns": [], "prediction": "Model_Version"}),
        (aml_spark.ArgumentError, "key names 'Reason'", {"columns": [], "key": ["Reason"], "on_error": "quarantine"}),
    ],
)
def test_a_column_that_only_its_case_tells_from_one_that_is_written_is_refused(
    spark: SparkSession, tmp_path: Path, target: str, error: type[Exception], text: str, more: dict[str, Any]
) -> None:
    uri, source = f"models:/cased/{register_sum('cased')}", str(tmp_path / "cased")
    tables.write(source, {"x": [1.0], "y": [1.0], "Prediction": ["a"], "MODEL_VERSION": ["a"], "Reason": ["a"]})
    with pytest.raises(error, match=text):
        aml_spark.score(spark, model=uri, source=source, target=target, **more)


def test_a_name_that_the_catalog_forgot_is_told_from_another_run(
    spark: SparkSession, source: str, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"model": f"models:/forgotten/{register_sum('forgotten')}", "source": source}
    aml_spark.score(spark, target="forgotten", **arguments)
    place = Path(str(spark.conf.get("spark.sql.warehouse.dir")).removeprefix("file:"), "forgotten")
    shutil.copytree(place, tmp_path / "kept")
    spark.sql("DROP TABLE forgotten")
    shutil.copytree(tmp_path / "kept", place)  # as it is for the next session without a metastore
    with pytest.raises(aml_spark.ConflictError, match="whose catalog was forgotten; this run wrote nothing") as said:
        aml_spark.score(spark, target="forgotten", **arguments)
    assert "give the path of a target" in str(said.value.hint)
    assert aml_spark.score(spark, target=str(place), **arguments).skipped


@pytest.mark.every_kind
@pytest.mark.oldest
def test_a_wrong_condition_is_refused_before_a_job(spark: SparkSession) -> None:
    df = spark.range(3)
    df.schema  # noqa: B018  # on Connect what is known already is handed on
    with pytest.raises(aml_spark.SchemaError, match=r"of 'source' \(UNRESOLVED.*\); they are 'id'") as said:
        frame.selected(df, "ids > 1", "source")
    assert said.value.hint == "did you mean 'id'?"
    for other in ("no_column > 1", "id >", "id"):
        with pytest.raises(aml_spark.SchemaError, match="isn't a condition on the columns") as said:
            frame.selected(df, other, "source")
        assert said.value.hint is None


def test_what_can_be_compared_is_told_by_its_type_and_not_by_names(spark: SparkSession) -> None:
    columns = "a struct<variant_id: bigint>, b array<struct<`map<`: int>>, c array<struct<m: map<string, int>>>"
    df = spark.createDataFrame([], columns)
    if int(spark.version.split(".")[0]) >= 4:
        df = df.selectExpr("*", "array(parse_json('1')) AS d")
    assert [name for name in df.columns if frame.comparable(df, name)] == ["a", "b"]


def test_a_table_that_is_not_there_and_a_model_that_was_sent_are_no_news(
    spark: SparkSession, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spark.sparkContext.setLogLevel("WARN")  # as under spark-submit
    try:
        spark.sql("SELECT 1").collect()
        capfd.readouterr()
        absent = ("no_such_table", str(tmp_path / "nothing"))
        assert [table.history(spark, Table.of(name)) for name in absent] == [[]] * 2
        assert capfd.readouterr().err == ""
        uri = f"models:/quiet/{register_sum('quiet')}"
        for _ in range(2):
            aml_spark.spark_udf(spark, uri)
        assert " WARN " not in capfd.readouterr().err
    finally:
        spark.sparkContext.setLogLevel("ERROR")


@pytest.mark.every_kind
def test_a_failing_model_leaves_the_target_as_it_was(spark: SparkSession, source: str, target: str) -> None:
    register_sum("broken")
    arguments: dict[str, Any] = {"model": "models:/broken/1", "source": source, "target": target}
    aml_spark.score(spark, **arguments)
    before = rows(target)
    append(source, -77123)
    with pytest.raises(aml_spark.ScoringError, match=r"'broken/1' couldn't score a batch.*ValueError") as caught:
        aml_spark.score(spark, **arguments)
    assert "77123" not in str(caught.value)
    assert rows(target) == before
    assert tables.versions(target) == 1


def test_a_target_whose_first_write_failed_is_written_by_the_next(
    spark: SparkSession, tmp_path: Path, target: str
) -> None:
    register_sum("begun")
    source = str(tmp_path / "bad")
    tables.write(source, numbered(1))
    tables.write(source, numbered(-2), mode="append")
    arguments: dict[str, Any] = {"model": "models:/begun/1", "source": source, "target": target}
    spark.conf.set("spark.sql.files.maxPartitionBytes", "1000")  # a task for each file, of which one leaves a file
    try:
        with pytest.raises(aml_spark.ScoringError):
            aml_spark.score(spark, **arguments)
    finally:
        spark.conf.unset("spark.sql.files.maxPartitionBytes")
    assert list(Path(target).glob("*.parquet"))
    assert not list(Path(target, "_delta_log").glob("*.json"))
    result = aml_spark.score(spark, on_error="null", **arguments)
    assert (result.rows, result.target_version) == (2, 0)
    assert [row[4] for row in rows(target)] == [None, 2.0]


def test_a_place_that_may_not_be_written_is_named(spark: SparkSession, source: str, tmp_path: Path) -> None:
    register_sum("locked")
    if os.geteuid() == 0:  # permissions don't bind root, but nobody makes folders in /sys
        place = "/sys/aml-spark-target"
    else:
        (tmp_path / "locked").mkdir(mode=0o555)
        place = str(tmp_path / "locked" / "target")
    with pytest.raises(aml_spark.TableError, match=r"couldn't be written \(DELTA_CANNOT_CREATE_LOG_PATH\)"):
        aml_spark.score(spark, model="models:/locked/1", source=source, target=place)


@pytest.mark.every_kind
def test_rows_that_cant_be_computed_are_told_from_a_place_that_cant_be_written(
    spark: SparkSession, source: str, target: str
) -> None:
    uri = f"models:/uncomputed/{register_sum('uncomputed')}"
    with pytest.raises(aml_spark.TableError, match=r"\(CAST_INVALID_INPUT\); it is left as it was") as said:
        aml_spark.score(spark, model=uri, source=source, target=target, where="CAST('Ada' || id AS int) > 1")
    assert "Ada" not in str(said.value)
    assert "couldn't be read or computed" in str(said.value.hint)
    for file in Path(source).glob("*.parquet"):  # as VACUUM does
        file.unlink()
    with pytest.raises(aml_spark.TableError, match=r"\(FAILED_READ_FILE.FILE_NOT_EXIST\)") as said:
        aml_spark.score(spark, model=uri, source=source, target=target)
    assert "VACUUM" in str(said.value.hint)


def test_the_hint_for_columns_whose_names_delta_refuses_helps(spark: SparkSession, source: str, target: str) -> None:
    arguments: dict[str, Any] = {"model": f"models:/spaced/{register_sum('spaced')}", "source": source}
    arguments |= {"target": target, "prediction": "the prediction"}
    with pytest.raises(aml_spark.TableError, match="DELTA_INVALID_CHARACTERS_IN_COLUMN_NAMES") as said:
        aml_spark.score(spark, **arguments)
    name = "spark.databricks.delta.properties.defaults.columnMapping.mode"
    assert said.value.hint == f'spark.conf.set("{name}", "name")'
    spark.conf.set(name, "name")
    try:
        assert aml_spark.score(spark, **arguments).rows == 50
    finally:
        spark.conf.unset(name)


def test_a_write_that_delta_drops_silently_is_an_error(
    spark: SparkSession, source: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aml_spark.ledger import Ledger

    register_sum("fenced")
    arguments: dict[str, Any] = {"model": "models:/fenced/1", "source": source, "target": target}
    aml_spark.score(spark, **arguments)
    aml_spark.score(spark, force=True, **arguments)
    # As a run does that read the history before another one wrote.
    monkeypatch.setattr(Ledger, "next_sequence", lambda *_: 2)
    with pytest.raises(aml_spark.ConflictError, match="at the same time; this run wrote nothing"):
        aml_spark.score(spark, force=True, **arguments)


class WaitingJob(NamedTuple):
    """`aml-spark score` in a process of its own, whose model's version 2 stays in a batch until `gate` exists.

    Version 1 of it, `ready`, waits for nothing.
    """

    process: subprocess.Popen[str]
    entered: Path
    gate: Path
    ready: str

    def until_it_scores(self) -> None:
        while not self.entered.exists():
            assert self.process.poll() is None
            time.sleep(0.2)


@pytest.fixture
def waiting_job(source: str, target: str, workspace: aml_spark.Workspace, tmp_path: Path) -> Iterator[WaitingJob]:
    import mlflow

    entered, gate = tmp_path / "entered", tmp_path / "gate"

    class Waiting(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            import time

            entered.touch()
            while not gate.exists():
                time.sleep(0.1)
            return model_input["x"].to_numpy()

    name = f"waiting-{tmp_path.name}"
    register_sum(name)
    register(name, Waiting(), signature=mlflow.models.infer_signature(TRAINING, TRAINING["x"].to_numpy()))
    work = ["--model", f"models:/{name}/2", "--source", source, "--target", target]
    place = ["--workspace", str(workspace.folder), "--master", "local[1]"]
    process = subprocess.Popen(
        [sys.executable, "-m", "aml_spark", "score", *work, *place], stderr=subprocess.PIPE, text=True
    )
    yield WaitingJob(process, entered, gate, f"models:/{name}/1")
    gate.touch()
    process.kill()
    process.communicate()


def test_of_two_processes_that_score_the_same_target_one_writes_and_the_other_says_so(
    spark: SparkSession, source: str, target: str, waiting_job: WaitingJob
) -> None:
    waiting_job.until_it_scores()
    ours = aml_spark.score(spark, model=waiting_job.ready, source=source, target=target)
    waiting_job.gate.touch()
    _, told = waiting_job.process.communicate(timeout=120)
    assert waiting_job.process.returncode == 1
    assert "this run wrote nothing" in told
    assert (ours.target_version, tables.versions(target)) == (0, 1)
    assert {row[-1] for row in rows(target)} == {"1"}


def test_ctrl_c_leaves_the_target_as_it_was(
    spark: SparkSession, source: str, target: str, waiting_job: WaitingJob
) -> None:
    aml_spark.score(spark, model=waiting_job.ready, source=source, target=target)
    waiting_job.until_it_scores()
    waiting_job.process.send_signal(signal.SIGINT)
    _, told = waiting_job.process.communicate(timeout=60)
    assert waiting_job.process.returncode == 130
    assert "interrupted" in told.splitlines()
    assert tables.versions(target) == 1
    assert {row[-1] for row in rows(target)} == {"1"}


# Rows on which the model fails


@pytest.fixture
def partly_bad(spark: SparkSession, tmp_path: Path) -> str:
    """Fifty rows, on three of which the model raises."""
    path = str(tmp_path / "bad")
    bad = "CASE WHEN id IN (3, 4, 41) THEN -1 ELSE double(id) END x"
    rows = spark.range(0, 50, numPartitions=2).selectExpr("id", bad, "double(id % 7) y")
    rows.write.format("delta").save(path)
    return path


def test_a_failing_row_is_null_where_that_is_wished_and_no_other_is(
    spark: SparkSession, partly_bad: str, target: str
) -> None:
    uri = f"models:/null/{register_sum('null')}"
    with pytest.raises(aml_spark.ScoringError, match="ValueError at"):
        aml_spark.score(spark, model=uri, source=partly_bad, target=f"{target}_raised")
    result = aml_spark.score(spark, model=uri, source=partly_bad, target=target, on_error="null")
    assert (result.rows, result.rejected) == (50, 0)
    assert set(tables.rows(target, "id", "prediction IS NULL")) == {(3,), (4,), (41,)}
    assert tables.rows(target, "id", "prediction <> x + y") == []
    udf = aml_spark.spark_udf(spark, uri, on_error="null")
    assert spark.read.format("delta").load(partly_bad).where(udf().isNull()).count() == 3


@pytest.mark.every_kind
def test_quarantined_rows_stand_in_a_table_beside_the_target(spark: SparkSession, partly_bad: str, target: str) -> None:
    arguments = {"model": f"models:/bad/{register_sum('bad')}", "source": partly_bad, "target": target, "key": ["id"]}
    result = aml_spark.score(spark, on_error="quarantine", **arguments)
    assert (result.rows, result.rejected) == (50, 3)
    assert tables.columns(target) == ["id", "x", "y", "prediction", "model_version"]
    rejects = aml_spark.read_rejects(spark, target)
    assert {row.id for row in rejects.collect()} == {3, 4, 41}
    assert {row.reason.partition(" in partition")[0] for row in rejects.collect()} == {"couldn't score a batch"}
    assert {(row.source_version, row.target_version, row.model_version) for row in rejects.collect()} == {(0, 0, "1")}
    assert aml_spark.score(spark, on_error="quarantine", **arguments).skipped
    aml_spark.score(spark, on_error="quarantine", force=True, **arguments)
    assert sorted((row.id, row.target_version) for row in aml_spark.read_rejects(spark, target).collect()) == [
        (number, version) for number in (3, 4, 41) for version in (0, 1)
    ]


def test_rejects_of_a_run_that_never_committed_are_not_shown(
    spark: SparkSession, partly_bad: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"model": f"models:/cut/{register_sum('cut')}", "source": partly_bad, "target": target, "key": ["id"]}
    aml_spark.score(spark, on_error="quarantine", **arguments)

    def cut(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writer, "replace", cut)
        with pytest.raises(KeyboardInterrupt):
            aml_spark.score(spark, on_error="quarantine", force=True, **arguments)
    assert len(tables.rows(target + "_rejects")) == 6
    assert aml_spark.read_rejects(spark, target).count() == 3


def test_quarantine_needs_a_key_and_rejects_need_a_table(spark: SparkSession, source: str, target: str) -> None:
    uri = f"models:/well/{register_sum('well')}"
    with pytest.raises(aml_spark.ArgumentError, match="needs key="):
        aml_spark.score(spark, model=uri, source=source, target=target, on_error="quarantine")
    with pytest.raises(aml_spark.ArgumentError, match="on_error is 'drop'"):
        aml_spark.score(spark, model=uri, source=source, target=target, on_error="drop")
    with pytest.raises(aml_spark.TableNotFoundError, match="doesn't exist"):
        aml_spark.read_rejects(spark, target)
    aml_spark.score(spark, model=uri, source=source, target=target, key=["id"], on_error="quarantine")
    with pytest.raises(aml_spark.TableNotFoundError, match="no row of it was ever rejected"):
        aml_spark.read_rejects(spark, target)
