"""Scoring what changed in a Delta table: after each call the target is what scoring the whole would make it."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pytest
from deltalake import DeltaTable
from jobs import FEED, Flow
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from models import make_total, register, register_sum

import aml_spark
from aml_spark import attempt, table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.usefixtures("tracking")


@pytest.fixture
def flow(spark: SparkSession, tmp_path: Path) -> Flow:
    return Flow(spark, tmp_path)


@pytest.mark.every_kind
@pytest.mark.oldest
def test_inserts_updates_deletes_and_keys_that_change_are_followed_in_one_commit(flow: Flow) -> None:
    model = f"models:/follow/{register_sum('follow', 0.5)}"
    flow.make()
    first = flow.score(model, where="x < 1000")
    assert (first.scope, first.rows, first.reason) == ("all", 20, "the target is new")
    flow.sql(
        "UPDATE SOURCE SET x = x + 0.5 WHERE id < 3",
        "DELETE FROM SOURCE WHERE id IN (2, 4)",
        "INSERT INTO SOURCE VALUES (100, 1, 1), (101, 2, 2), (null, 3, 3), (102, 5000, 1)",
        "DELETE FROM SOURCE WHERE id = 101",
        "UPDATE SOURCE SET id = CASE id WHEN 5 THEN 6 WHEN 6 THEN 5 ELSE 200 END WHERE id IN (5, 6, 7)",
        "UPDATE SOURCE SET x = 5000 WHERE id = 8",
        "UPDATE SOURCE SET x = x + 1 WHERE id IS NULL",
    )
    second = flow.score(model, where="x < 1000")
    assert (second.scope, second.rows, second.deleted) == ("changes", 7, 4)
    assert second.reason == "the source changed since version 0"
    assert flow.rows() == flow.expected(0.5, "x < 1000")
    third = flow.score(model, where="x < 1000")
    assert (third.skipped, third.scope, third.target_version, flow.commits()) == (True, "nothing", 1, 2)
    told = aml_spark.lineage(flow.spark, flow.target)
    assert [(one.scope, one.source_version, one.rows, one.deleted) for one in told] == [
        ("changes", 7, 7, 4),
        ("all", 0, 20, None),
    ]
    assert {(one.model_uri, one.source) for one in told} == {(model, flow.source)}


@pytest.mark.connect
def test_others_of_the_session_write_while_a_merge_is_on(
    spark: SparkSession, flow: Flow, tmp_path: Path, kind: str
) -> None:
    model = f"models:/beside/{register_sum('beside')}"
    flow.make()
    flow.score(model)
    flow.update("id < 5", x="x + 1")
    other, ended, written = str(tmp_path / "other"), threading.Event(), [0]

    def write() -> None:
        while not ended.is_set():
            spark.range(1).write.format("delta").mode("append").save(other)
            written[0] += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert flow.score(model).scope == "changes"
    finally:
        ended.set()
        thread.join()
    history = spark.sql(f"DESCRIBE HISTORY delta.`{other}`").collect()
    assert written[0] > 0
    assert len(history) == spark.read.format("delta").load(other).count() == written[0]
    assert {row["userMetadata"] for row in history} == {None}
    assert spark.conf.get("spark.databricks.delta.write.txnAppId", None) is None
    if kind == "local":
        assert spark.sparkContext.parallelize([(1,)]).toDF(["n"]).sparkSession is spark
    assert flow.rows() == flow.expected()


def test_a_source_that_only_grows_needs_no_key(flow: Flow) -> None:
    model = f"models:/grows/{register_sum('grows')}"
    flow.make()
    flow.score(model, key=None)
    flow.insert((60, 1, 1), (60, 2, 2))
    flow.sql("OPTIMIZE SOURCE")
    assert (flow.score(model, key=None).rows, flow.rows()) == (2, flow.expected())
    flow.delete("x = 1")
    before = flow.rows()
    with pytest.raises(aml_spark.FeedError, match="updated or deleted, which can't be followed without a key"):
        flow.score(model, key=None)
    assert flow.rows() == before
    whole = flow.score(model, key=None, on_missing_feed="rescore")
    assert (whole.scope, flow.rows()) == ("all", flow.expected())


@pytest.mark.connect
def test_a_key_that_stands_twice_is_an_error_and_nothing_is_written(flow: Flow) -> None:
    model = f"models:/twice/{register_sum('twice')}"
    flow.make()
    flow.insert((3, 1, 1))
    with pytest.raises(aml_spark.SchemaError, match=r"key=\['id'\] doesn't identify a row"):
        flow.score(model)
    assert not Path(flow.target).exists()
    flow.delete("id = 3 AND x = 1")
    flow.score(model)
    # One more beside a row of before, of which one goes: which of the two did can't be told.
    flow.insert((5, 90, 1))
    flow.delete("id = 5 AND x < 90")
    with pytest.raises(aml_spark.SchemaError, match="or did in one of the versions") as caught:
        flow.score(model)
    assert "force=True" in str(caught.value.hint)
    assert flow.score(model, force=True).scope == "all"
    assert flow.rows() == flow.expected()


def test_another_model_rescores_all_or_the_changes_only(flow: Flow) -> None:
    for constant in (1.0, 2.0):
        register_sum("models", constant)
    flow.make()
    flow.score("models:/models/1")
    whole = flow.score("models:/models/2")
    assert (whole.scope, whole.reason) == ("all", "the model was models:/models/1 before")
    assert flow.score("models:/models/1").rows == 20
    assert flow.rows() == flow.expected(1.0)
    told = mlflow.MlflowClient().get_model_version("models", "2").tags
    mlflow.MlflowClient().delete_model_version_tag("models", "2", next(iter(told)))
    assert flow.score("models:/models/2", on_model_change="keep").skipped
    assert mlflow.MlflowClient().get_model_version("models", "2").tags == {}, "it has scored no row that is there"
    flow.update("id < 3", x="x + 1")
    kept = flow.score("models:/models/2", on_model_change="keep")
    assert (kept.scope, kept.rows, kept.model_version) == ("changes", 3, "2")
    assert flow.rows("id, model_version") == sorted(((i, "2" if i < 3 else "1") for i in range(20)), key=str)
    again = flow.score("models:/models/2")
    assert (again.scope, again.reason) == ("all", "rows of other models are left")
    assert flow.rows() == flow.expected(2.0)


def test_what_others_do_to_the_target_is_put_right(flow: Flow) -> None:
    model = f"models:/others/{register_sum('others')}"
    flow.make()
    flow.score(model)
    flow.update("id = 19", x="x + 1")
    flow.score(model)
    files = set(Path(flow.target).glob("*.parquet"))
    flow.spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    flow.sql("OPTIMIZE TARGET", "VACUUM TARGET RETAIN 0 HOURS", "ALTER TABLE TARGET ADD COLUMNS (note STRING)")
    flow.spark.conf.unset("spark.databricks.delta.retentionDurationCheck.enabled")
    assert not files <= set(Path(flow.target).glob("*.parquet"))
    for number in range(attempt._RECENT):  # so that our commit isn't among those that are read first
        DeltaTable(flow.target).alter.set_table_properties({"others": str(number)}, raise_if_not_exists=False)
    assert flow.score(model).skipped
    flow.update("id < 3", x="x + 1")
    second = flow.score(model)
    assert second.scope == "changes"
    flow.sql("UPDATE TARGET SET note = 'mine' WHERE id = 1", "DELETE FROM TARGET WHERE id = 9")
    flow.update("id = 4", x="x + 1")
    again = flow.score(model)
    assert (again.scope, again.reason) == ("all", "'DELETE', 'UPDATE' changed the target's rows")
    assert flow.rows() == flow.expected()
    assert flow.rows("id, note")[1] == (1, "mine")
    flow.sql(f"RESTORE TABLE TARGET TO VERSION AS OF {second.target_version}")
    assert flow.score(model).scope == "all"
    assert flow.rows() == flow.expected()


def test_a_source_that_was_restored_overwritten_or_made_anew_is_followed(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, identifier = list[str](), table.identifier
    monkeypatch.setattr(table, "identifier", lambda spark, of: asked.append(of.text) or identifier(spark, of))
    model = f"models:/restored/{register_sum('restored')}"
    flow.make()
    flow.insert((20, 1, 1))  # the first commit of a table has a mark in 999 of 1,000 milliseconds only
    flow.score(model)
    assert asked == [flow.source]
    flow.sql("INSERT OVERWRITE SOURCE SELECT id, x + 2, y FROM SOURCE WHERE id < 8")
    assert flow.score(model).scope == "changes"
    assert flow.rows() == flow.expected()
    assert asked == [flow.source], "its history shows that it is the same table"
    flow.sql("RESTORE TABLE SOURCE TO VERSION AS OF 0")
    assert flow.score(model).scope == "changes"
    assert flow.rows() == flow.expected()
    assert asked == [flow.source] * 2
    older = flow.score(model, source_version=2)
    assert (older.scope, older.source_version, len(flow.rows())) == ("all", 2, 8)
    with pytest.raises(aml_spark.ArgumentError, match="source_version is 99"):
        flow.score(model, source_version=99)
    shutil.rmtree(flow.source)
    flow.make(5)
    anew = flow.score(model)
    assert (anew.scope, anew.reason) == ("all", "the source is another table than before")
    assert flow.rows() == flow.expected()


def test_a_feed_that_is_gone_is_made_up_for_as_wished(flow: Flow) -> None:
    model = f"models:/gone/{register_sum('gone')}"
    flow.make(properties={})
    with pytest.raises(aml_spark.FeedError, match="records no changes") as caught:
        flow.score(model)
    assert "ALTER TABLE" in str(caught.value.hint)
    flow.score(model, on_missing_feed="diff")
    flow.sql(str(caught.value.hint).split(";")[0])
    for choice, scope in (("diff", "changes"), ("rescore", "all")):
        flow.update("id < 3", x="x + 1")
        flow.insert((None, 2, 2))
        flow.delete("id = 10" if choice == "diff" else "id IS NULL")
        shutil.rmtree(Path(flow.source, "_change_data"))  # as VACUUM does after its seven days
        before = flow.rows()
        with pytest.raises(aml_spark.FeedError, match=r"up to version \d+ can't be read"):
            flow.score(model)
        assert flow.rows() == before
        made_up = flow.score(model, on_missing_feed=choice)
        assert (made_up.scope, flow.rows()) == (scope, flow.expected())
        assert "can't be read" in made_up.reason


@pytest.mark.parametrize(
    ("properties", "layout"),
    [
        ({"delta.enableDeletionVectors": "true"}, "PARTITIONED BY (y)"),
        ({"delta.columnMapping.mode": "name", "delta.enableRowTracking": "true"}, "CLUSTER BY (id)"),
    ],
    ids=["deletion vectors and partitions", "column mapping, row tracking and clusters"],
)
def test_each_kind_of_table_is_followed(flow: Flow, properties: dict[str, str], layout: str) -> None:
    model = f"models:/kinds/{register_sum('kinds')}"
    flow.make(properties=FEED | properties, layout=layout)
    flow.sql("CREATE TABLE TARGET SHALLOW CLONE SOURCE")  # with the same properties and layout
    flow.score(model, overwrite=True)
    flow.sql("UPDATE SOURCE SET x = x + 1, y = y + 1 WHERE id < 3", "DELETE FROM SOURCE WHERE id = 4")
    result = flow.score(model)
    assert (result.scope, result.rows, result.deleted) == ("changes", 3, 1)
    assert flow.rows() == flow.expected()


@pytest.mark.oldest
def test_columns_may_come_but_not_go_or_change(flow: Flow) -> None:
    model = f"models:/evolved/{register_sum('evolved')}"
    flow.make(properties=FEED | {"delta.columnMapping.mode": "name"})
    flow.score(model)
    flow.sql("ALTER TABLE SOURCE ADD COLUMNS (z STRING)", "INSERT INTO SOURCE VALUES (70, 1, 1, 'new')")
    assert flow.score(model).scope == "changes"
    assert [row for row in flow.rows("id, z") if row[1]] == [(70, "new")]
    flow.sql("ALTER TABLE TARGET ADD COLUMNS (Note STRING)", "ALTER TABLE SOURCE ADD COLUMNS (note STRING)")
    with pytest.raises(aml_spark.TargetError, match="the source has a column 'note' now, and so has the target"):
        flow.score(model)
    flow.sql("ALTER TABLE SOURCE DROP COLUMN note")
    flow.sql("ALTER TABLE SOURCE ADD COLUMNS (w STRING)", "ALTER TABLE SOURCE RENAME COLUMN w TO v")
    with pytest.raises(aml_spark.FeedError, match="INCOMPATIBLE_SCHEMA_CHANGE"):
        flow.score(model)
    assert flow.score(model, on_missing_feed="rescore").scope == "all"
    assert "v" in flow.spark.read.format("delta").load(flow.target).columns
    flow.sql("ALTER TABLE SOURCE DROP COLUMN z")
    with pytest.raises(aml_spark.SchemaError, match="'z': has string, gets none"):
        flow.score(model, on_missing_feed="rescore")
    flow.sql("ALTER TABLE SOURCE DROP COLUMN y")
    with pytest.raises(aml_spark.SchemaError, match="needs the columns 'y'"):
        flow.score(model)


def test_rejected_rows_of_changes_are_read_beside_earlier_ones(flow: Flow) -> None:
    model = f"models:/rejected/{register_sum('rejected')}"
    flow.make()
    flow.score(model, on_error="quarantine")
    flow.insert((70, -1, 1), (71, 1, 1))
    flow.update("id = 1", x="-2")
    result = flow.score(model, on_error="quarantine")
    assert (result.scope, result.rows, result.rejected) == ("changes", 3, 2)
    rejected = aml_spark.read_rejects(flow.spark, flow.target).select("id", "target_version").collect()
    assert sorted(map(tuple, rejected)) == [(1, 1), (70, 1)]
    assert [row for row in flow.rows("id, prediction") if row[1] is None] == [(1, None), (70, None)]


def test_a_model_that_names_no_columns_gets_the_sources_own(flow: Flow) -> None:
    tensor = [Schema([TensorSpec(np.dtype("float64"), shape)]) for shape in ((-1, 2), (-1,))]
    version = register("plain", make_total(), signature=ModelSignature(*tensor))
    flow.sql(
        "CREATE TABLE SOURCE USING delta TBLPROPERTIES (delta.enableChangeDataFeed = true) "
        "AS SELECT double(id) id, double(id % 3) x FROM range(5)"
    )
    flow.score(f"models:/plain/{version}")
    flow.sql("UPDATE SOURCE SET x = 10 WHERE id = 1")
    assert flow.score(f"models:/plain/{version}").scope == "changes"
    assert flow.rows("id, prediction") == [(0.0, 0.0), (1.0, 11.0), (2.0, 4.0), (3.0, 3.0), (4.0, 5.0)]


def test_the_registry_and_the_active_run_are_told(flow: Flow, caplog: pytest.LogCaptureFixture) -> None:
    version = register_sum("told")
    flow.make()
    flow.insert((70, 1, 1))  # MLflow leaves out version 0
    with mlflow.start_run() as run:
        flow.score(f"models:/told/{version}")
    (given,) = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    assert '"delta_table_version": 1' in given.dataset.source
    assert flow.source in given.dataset.source

    def tags() -> dict[str, str]:
        found = mlflow.MlflowClient().get_model_version("told", version).tags
        return {name: value for name, value in found.items() if name.startswith("aml_spark.scored_table.")}

    ((name, value),) = tags().items()
    assert value == f"{flow.target} (from {flow.source})"
    mlflow.MlflowClient().delete_model_version_tag("told", version, name)  # as a crash leaves it
    assert flow.score(f"models:/told/{version}").skipped
    assert tags() == {name: value}


def test_spark_ml_may_leave_rows_out_that_it_scored_before(flow: Flow) -> None:
    from pyspark.ml import Pipeline
    from pyspark.ml.feature import VectorAssembler
    from pyspark.ml.regression import LinearRegression

    flow.make()
    stages = [VectorAssembler(inputCols=["x", "y"], outputCol="features", handleInvalid="skip")]
    pipeline = Pipeline(stages=[*stages, LinearRegression(labelCol="x")])
    fitted = pipeline.fit(flow.spark.read.format("delta").load(flow.source))
    with mlflow.start_run():
        info = mlflow.spark.log_model(fitted, "model", registered_model_name="skipping")
    flow.score(f"models:/skipping/{info.registered_model_version}")
    flow.update("id < 5", x="CASE WHEN id <> 3 THEN x + 1 END")
    result = flow.score(f"models:/skipping/{info.registered_model_version}")
    assert (result.scope, result.rows, result.deleted) == ("changes", 4, 1)
    assert [row[0] for row in flow.rows("id") if row[0] in (2, 3, 4)] == [2, 4]


def test_tables_are_followed_by_name(flow: Flow) -> None:
    model, spark = f"models:/names/{register_sum('names')}", flow.spark
    flow.make()
    try:
        spark.sql(f"CREATE TABLE named_bookings USING delta LOCATION '{flow.source}'")
        for number, key in ((20, ["id"]), (21, None)):
            names: dict[str, Any] = {"source": "named_bookings", "target": f"named_delays_{len(key or ())}", "key": key}
            flow.score(model, **names)
            flow.insert((number, 1, 1))
            result = flow.score(model, **names)
            assert (result.scope, result.rows) == ("changes", 1)
            assert spark.table(str(names["target"])).count() == spark.table("named_bookings").count()
    finally:
        for name in ("named_bookings", "named_delays_1", "named_delays_0"):
            spark.sql(f"DROP TABLE IF EXISTS {name}")


def test_a_registry_that_cant_be_told_fails_no_run(
    flow: Flow, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = f"models:/deaf/{register_sum('deaf')}"
    flow.make()

    def fail(*_: Any, **__: Any) -> None:
        raise mlflow.exceptions.MlflowException("the service has a fault")

    monkeypatch.setattr(mlflow.MlflowClient, "set_model_version_tag", fail)
    assert flow.score(model).rows == 20
    assert "couldn't be told that deaf/1 scores" in caplog.text


def test_choices_that_cant_be_meant_are_refused(flow: Flow) -> None:
    model = f"models:/meant/{register_sum('meant')}"
    flow.make()
    refusals: list[tuple[str, dict[str, Any]]] = [
        ("on_model_change is 'no'", {"on_model_change": "no"}),
        ("on_missing_feed is 'no'", {"on_missing_feed": "no"}),
        ("'diff' needs key=", {"on_missing_feed": "diff", "key": None}),
    ]
    for text, more in refusals:
        with pytest.raises(aml_spark.ArgumentError, match=text):
            flow.score(model, **more)
    with pytest.raises(aml_spark.TableNotFoundError, match="doesn't exist"):
        aml_spark.lineage(flow.spark, flow.target)


def test_keys_of_any_kind_are_found_and_texts_stay_out_of_the_history(flow: Flow) -> None:
    flow.spark.conf.set("spark.sql.session.timeZone", "Europe/Berlin")  # where an hour of that night comes twice
    try:
        flow.sql(
            "CREATE TABLE SOURCE USING delta TBLPROPERTIES (delta.enableChangeDataFeed = true) AS SELECT int(-id) n, "
            "CAST(id / 3 AS decimal(30, 7)) d, timestamp'2026-10-25 00:00:00Z' + make_dt_interval(0, 0, 30 * id) t, "
            "timestamp_ntz'9998-12-31 00:00:00' + make_dt_interval(id) z, date_add('9998-12-30', int(id)) day, "
            "concat('somebody', id) person, double(id) x, double(0) y FROM range(0, 12, 1, 1)"
        )
        model, key = f"models:/keyed/{register_sum('keyed')}", ["n", "d", "t", "z", "day", "person"]
        flow.score(model, key=key)
        flow.sql("UPDATE SOURCE SET y = 1 WHERE x IN (1, 2, 3)", "DELETE FROM SOURCE WHERE x = 4")
        followed = flow.score(model, key=key)
        assert (followed.scope, followed.rows, followed.deleted) == ("changes", 3, 1)
        rights = flow.spark.sql(f"SELECT n, t, x + y FROM delta.`{flow.source}`").collect()
        assert flow.rows("n, t, prediction") == sorted((tuple(row) for row in rights), key=str)
        told = flow.spark.sql(f"DESCRIBE HISTORY delta.`{flow.target}` LIMIT 1").collect()[0]["operationParameters"]
        assert "BETWEEN" in told["predicate"] or ">=" in told["predicate"]
        assert "somebody" not in str(told)
    finally:
        flow.spark.conf.unset("spark.sql.session.timeZone")


def test_a_row_that_fails_later_can_be_left_out_without_scoring_all_again(flow: Flow) -> None:
    model = f"models:/later/{register_sum('later')}"
    flow.make()
    flow.score(model)
    flow.update("id = 3", x="-1")
    with pytest.raises(aml_spark.ScoringError, match="on_error='quarantine'"):
        flow.score(model)
    second = flow.score(model, on_error="null")
    assert (second.scope, second.rows) == ("changes", 1)
    assert [row for row in flow.rows("id, prediction") if row[1] is None] == [(3, None)]
    with pytest.raises(aml_spark.TargetError, match="on_error='null' then, 'raise' now"):
        flow.score(model)


def test_a_target_whose_history_forgot_us_is_known_by_its_logs_transactions(flow: Flow) -> None:
    model = f"models:/forgotten/{register_sum('forgotten')}"
    flow.make()
    flow.score(model)
    # A checkpoint keeps the transaction; then the commits before it are cleaned away, as after thirty days.
    flow.sql(
        "ALTER TABLE TARGET SET TBLPROPERTIES ('delta.checkpointInterval' = '1')", "DELETE FROM TARGET WHERE id = 3"
    )
    log = Path(flow.target, "_delta_log")
    assert list(log.glob("*2.checkpoint.parquet"))
    for version in range(2):
        (log / f"{version:020d}.json").unlink()
    again = flow.score(model)
    assert (again.scope, again.rows, again.reason) == ("all", 20, "the target's history has forgotten what it holds")
    assert flow.rows() == flow.expected()
    assert flow.score(model).skipped


def test_a_target_that_somebody_else_made_is_not_replaced(flow: Flow) -> None:
    flow.make()
    flow.sql("CREATE TABLE TARGET USING delta TBLPROPERTIES ('delta.checkpointInterval' = '1') AS SELECT 1 id")
    with pytest.raises(aml_spark.TargetError, match="nothing in its history says that"):
        flow.score(f"models:/others/{register_sum('others')}")
