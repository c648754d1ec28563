"""Scoring as a Structured Streaming query: micro-batches, restarts, lost checkpoints, and what goes wrong."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from jobs import Flow, Jobs
from models import register_sum

import aml_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

pytestmark = pytest.mark.usefixtures("tracking")


class Stream(Flow):
    """A flow whose target a query writes."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        super().__init__(spark, folder)
        self.checkpoint = str(folder / "checkpoint")

    def start(self, model: str, **more: Any) -> StreamingQuery:
        given: dict[str, Any] = {"source": self.source, "target": self.target, "checkpoint": self.checkpoint}
        return aml_spark.score_stream(self.spark, model=model, **{**given, "key": ["id"], **more})

    def follow(self, model: str, **more: Any) -> StreamingQuery:
        """Until nothing is left."""
        query = self.start(model, trigger={"availableNow": True}, **more)
        query.awaitTermination()
        return query

    def lineage(self, commits: int) -> list[aml_spark.ScoredCommit]:
        return aml_spark.lineage(self.spark, self.target)[:commits]


@pytest.fixture
def stream(spark: SparkSession, tmp_path: Path) -> Iterator[Stream]:
    yield Stream(spark, tmp_path)
    for query in spark.streams.active:
        query.stop()


def _in_a_micro_batch(jobs: Jobs) -> StreamingQuery:
    """A query that has looked at the target, and waits in the model, before it writes, until the gate is there."""
    query = jobs.stream()
    jobs.entered.unlink()
    jobs.gate.unlink()
    jobs.change()
    end = time.monotonic() + 120
    while not jobs.entered.exists():
        assert query.isActive, str(query.exception())
        assert time.monotonic() < end
        time.sleep(0.1)
    return query


@pytest.mark.connect
@pytest.mark.oldest
def test_a_query_follows_the_source_and_the_alias_and_lineage_tells_the_micro_batches(stream: Stream) -> None:
    stream.make()
    register_sum("stream", alias="champion")
    query = stream.start("models:/stream@champion", follow_alias=True)
    assert stream.rows() == stream.expected()  # before any micro-batch
    stream.sql("UPDATE SOURCE SET x = x + 1 WHERE id < 3")
    query.processAllAvailable()
    assert stream.rows() == stream.expected()
    register_sum("stream", 0.5, alias="champion")
    stream.sql(
        "MERGE INTO SOURCE s USING (SELECT explode(array(3, 4, 100)) id) c ON s.id = c.id "
        "WHEN MATCHED AND s.id = 3 THEN DELETE WHEN MATCHED THEN UPDATE SET x = x + 1 "
        "WHEN NOT MATCHED THEN INSERT (id, x, y) VALUES (c.id, 1, 1)"
    )
    query.processAllAvailable()
    query.stop()
    told = stream.rows("id, model_version, prediction")
    assert [(row[0], row[2]) for row in told if row[1] == "2"] == [(100, 2.5), (4, 9.5)]
    assert {row[0] for row in told} == {*range(20), 100} - {3}
    newest, second, first = stream.lineage(3)
    assert (first.scope, first.query_id, first.batch_id) == ("all", None, None)
    assert {second.query_id, newest.query_id} == {str(query.id)}
    assert (second.model_version, newest.model_version) == ("1", "2")
    assert int(second.batch_id or 0) < int(newest.batch_id or 0)
    assert sum(part["numInputRows"] for progress in query.recentProgress for part in progress["sources"]) > 0
    assert stream.commits() == 3


def test_a_query_starts_again_from_its_checkpoint_without_it_and_takes_turns_with_jobs(stream: Stream) -> None:
    stream.make()
    model = f"models:/restarted/{register_sum('restarted')}"
    stream.follow(model)
    assert stream.follow(model).exception() is None  # nothing changed, and there was one micro-batch only
    stream.update("id < 3", x="x + 1")
    stream.delete("id = 4")
    stream.follow(model)
    assert stream.rows() == stream.expected()
    assert stream.commits() == 2
    stream.insert((100, 1, 1))
    assert stream.score(model).scope == "changes"
    stream.delete("id = 5")
    stream.insert((101, 1, 1))
    shutil.rmtree(stream.checkpoint)
    query = stream.follow(model)
    assert query.exception() is None
    assert stream.rows() == stream.expected()
    assert stream.commits() == 4
    assert stream.score(model).skipped


def test_an_append_only_source_needs_no_key_and_proof_of_what_is_scored(stream: Stream) -> None:
    stream.make()
    model = f"models:/grown/{register_sum('grown')}"
    query = stream.start(model, key=None, where="x < 1000")
    stream.insert((100, 1, 1), (101, 5000, 1))
    query.processAllAvailable()
    query.stop()
    shutil.rmtree(stream.checkpoint)
    stream.insert((102, 1, 1))
    query = stream.start(model, key=None, where="x < 1000")
    assert stream.rows() == stream.expected(where="x < 1000")
    stream.update("id = 0", x="x + 1")
    with pytest.raises(Exception, match="were updated or deleted, which can't be followed without a key"):
        query.processAllAvailable()
    assert not query.isActive
    shutil.rmtree(Path(stream.target, "_delta_log"))  # nothing is left that says who wrote the rows
    stream.sql(f"CONVERT TO DELTA parquet.`{stream.target}`")
    shutil.rmtree(stream.checkpoint)
    with pytest.raises(aml_spark.TargetError, match="nothing in its history says that score"):
        stream.start(model, key=None, where="x < 1000")


@pytest.mark.connect
def test_a_checkpoint_may_have_any_name(stream: Stream) -> None:
    stream.checkpoint += "[1]{2,3}?*"
    stream.make(3)
    model = f"models:/bracketed/{register_sum('bracketed')}"
    for x in (1, 2):
        stream.update("id = 1", x=str(x))
        stream.follow(model)
        assert stream.rows() == stream.expected()


@pytest.mark.parametrize(("meanwhile", "scope"), [("job", "changes"), ("delete", "all")])
def test_a_micro_batch_that_another_writer_comes_before_begins_again(
    spark: SparkSession, tmp_path: Path, workspace: aml_spark.Workspace, kind: str, meanwhile: str, scope: str
) -> None:
    jobs = Jobs(spark, tmp_path, workspace, kind)
    jobs.begin()
    query = _in_a_micro_batch(jobs)
    if meanwhile == "job":
        assert jobs.run().scope == "changes"
    else:
        jobs.flow.sql("DELETE FROM TARGET WHERE id < 10")
    jobs.gate.touch()
    query.processAllAvailable()
    query.stop()
    jobs.check()
    newest = aml_spark.lineage(spark, jobs.flow.target)[0]
    assert (newest.scope, newest.query_id) == (scope, None if meanwhile == "job" else str(query.id))


def test_a_failing_micro_batch_ends_the_query_and_the_next_start_goes_on(
    spark: SparkSession, tmp_path: Path, workspace: aml_spark.Workspace
) -> None:
    jobs = Jobs(spark, tmp_path, workspace, "local")
    jobs.begin()
    query = jobs.stream()
    jobs.fault.write_text("raise")
    jobs.change()
    with pytest.raises(Exception, match="is left as it was"):
        query.processAllAvailable()
    assert jobs.flow.commits() == 1
    again = jobs.run_stream()
    assert again.exception() is None
    assert again.id == query.id
    jobs.check()
    assert jobs.flow.commits() == 2


def test_stop_waits_for_the_micro_batch(
    spark: SparkSession, tmp_path: Path, workspace: aml_spark.Workspace, kind: str
) -> None:
    jobs = Jobs(spark, tmp_path, workspace, kind)
    jobs.begin()
    query = _in_a_micro_batch(jobs)
    stopping = threading.Thread(target=query.stop)
    stopping.start()
    time.sleep(1)
    assert stopping.is_alive()
    jobs.gate.touch()
    stopping.join()
    jobs.check()


def test_what_can_not_be_meant_is_refused_before_anything_is_written(stream: Stream) -> None:
    stream.make()
    version = register_sum("unmeant")
    with pytest.raises(aml_spark.ArgumentError, match="follow_alias=True, and 'models:/unmeant/1' names no alias"):
        stream.start(f"models:/unmeant/{version}", follow_alias=True)
    with pytest.raises(aml_spark.ArgumentError, match=r"trigger is \{'never': True\}, which Spark doesn't know"):
        stream.start(f"models:/unmeant/{version}", trigger={"never": True})
    with pytest.raises(aml_spark.ArgumentError, match="in which Spark has no micro-batches"):
        stream.start(f"models:/unmeant/{version}", trigger={"continuous": "1 second"})
    with pytest.raises(aml_spark.ModelNotFoundError):
        stream.start("models:/unmeant/7")
    offset = Path(stream.checkpoint, "offsets", "0")
    offset.parent.mkdir(parents=True)
    offset.write_text('v1\n{}\n{"reservoirId": "another", "reservoirVersion": 1}')
    with pytest.raises(aml_spark.ArgumentError, match="is of another source"):
        stream.start(f"models:/unmeant/{version}")
    stream.sql("ALTER TABLE SOURCE UNSET TBLPROPERTIES (delta.enableChangeDataFeed)")
    with pytest.raises(aml_spark.FeedError, match="records no changes, which a stream reads"):
        stream.start(f"models:/unmeant/{version}", on_missing_feed="rescore")
    assert not Path(stream.target).exists()
    assert mlflow.MlflowClient().get_model_version("unmeant", version).tags == {}
