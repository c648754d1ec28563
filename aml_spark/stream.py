"""Score a Delta table as a stream."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aml_spark import attempt, feed, tracking
from aml_spark.addresses import masked
from aml_spark.analysis import condition
from aml_spark.datalake import reach
from aml_spark.errors import ArgumentError, ConflictError
from aml_spark.model import PinnedModel, pin
from aml_spark.request import Request
from aml_spark.session import copied, is_connect
from aml_spark.table import Table, history, identifier, literal, perhaps

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery
    from pyspark.sql.types import DataType

_logger = logging.getLogger(__name__)

_TRIGGERS = "trigger={'availableNow': True} or trigger={'processingTime': '1 minute'}"
# How often a micro-batch that lost against another job, such as an OPTIMIZE, is tried.
_ATTEMPTS = 5


def score_stream(
    spark: SparkSession,
    *,
    model: str,
    source: str,
    target: str,
    checkpoint: str,
    key: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    where: str | None = None,
    prediction: str = "prediction",
    result_type: DataType | str | None = None,
    params: Mapping[str, Any] | None = None,
    on_error: str = "raise",
    on_model_change: str = "keep",
    on_missing_feed: str = "raise",
    trigger: Mapping[str, Any] | None = None,
    follow_alias: bool = False,
    overwrite: bool = False,
) -> StreamingQuery:
    """Score a Delta table into a Delta table as a Structured Streaming query, one commit for each change that it sees.

    First, before this returns, the target is brought up to the source's newest version, as `score(mode="changes")`
    does it. From then on rows that change in the source start a micro-batch that does the same. What is due says the
    target's own history, not the checkpoint: a micro-batch that Spark repeats after a crash finds that nothing is due,
    and a query without its checkpoint goes on after the version that the target holds. So where Delta's reader can't
    go on, because the source's columns were renamed or its log was cleaned, delete the checkpoint and start again.
    `score` with the same arguments and a stream can take turns on one target.

    A query goes on with the session's settings and current schema of the moment when it started. On Spark Connect
    micro-batches are run by the server, in the session as it is then, with this library and credentials of its own.

    Args:
        spark: the session.
        model: address of the model. An alias is resolved once, when the query starts.
        source: Delta table to score, with a change data feed.
        target: Delta table to write; made where it doesn't exist.
        checkpoint: folder in which Spark keeps how far the query is; its own for each query.
        key, columns, where, prediction, result_type, params, on_error, on_missing_feed: as for `score`.
        on_model_change: what another model than before does, at the start or with `follow_alias`: `"keep"` scores what
            changed from then on, and `model_version` says of each row who scored it; `"rescore"` the whole.
        trigger: arguments of Spark's `DataStreamWriter.trigger`: `{"availableNow": True}` ends the query when nothing
            is left, `{"processingTime": "1 minute"}` looks so often. None starts a micro-batch whenever there is
            something.
        follow_alias: resolve the alias again for each micro-batch: one that moved counts from the next on, and
            `lineage` says from which.
        overwrite: replace a target that wasn't written with the same arguments, before the query starts. Leave it out
            where the query is started again: it scores the whole each time.

    Returns:
        The running query. `stop()` waits for the end of a micro-batch. One that failed leaves the target as it was and
        ends the query; the same call starts it again.

    Raises:
        ArgumentError: `follow_alias` of a model that isn't named by an alias; a trigger that Spark doesn't know; a
            checkpoint of another source.
        FeedError: the source records no changes.

        And all that `score` raises.
    """
    if follow_alias and not ("@" in model or model.endswith("/latest")):
        raise ArgumentError(f"follow_alias=True, and {model!r} names no alias", hint="model='models:/name@alias'")
    _check_trigger(spark, trigger)
    source, target, checkpoint = (reach(spark, place) for place in (source, target, checkpoint))
    pinned = None if follow_alias else pin(model)
    request = Request(
        model=pinned.pinned_uri if pinned else model,
        source=source,
        target=target,
        mode="changes",
        key=key,
        columns=columns,
        where=where,
        prediction=prediction,
        result_type=result_type,
        params=params,
        on_error=on_error,
        on_model_change=on_model_change,
        on_missing_feed=on_missing_feed,
        overwrite=overwrite,
    )
    place, first = Table.of(source), None
    if history(spark, place, 1):
        feed.check_recorded(spark, place, "a stream")
        first = _first_version(spark, place, checkpoint)
    begun = attempt.carried_out(spark, request, pinned)
    # What the log has lost is no loss: the target's history says what is due.
    reader = spark.readStream.format("delta").options(readChangeFeed="true", failOnDataLoss="false")
    # Not after the newest version, where Delta starts no query.
    newest = begun.source_version
    reader = reader.option("startingVersion", newest if first is None else min(first, newest))
    versions = (reader.load(place.text) if place.is_path else reader.table(place.sql)).select("_commit_version")
    batch = _Batch(request=replace(request, overwrite=False), checkpoint=checkpoint)
    do = _on_server(batch, follow_alias) if is_connect(spark) else _on_driver(batch, copied(spark), pinned)
    writer = versions.writeStream.option("checkpointLocation", checkpoint).foreachBatch(do)
    return (writer.trigger(**trigger) if trigger else writer).start()


def _check_trigger(spark: SparkSession, trigger: Mapping[str, Any] | None) -> None:
    """Before anything is written."""
    if trigger is None:
        return
    if not isinstance(trigger, Mapping):
        raise ArgumentError(f"trigger is {trigger!r}; expected a dictionary", hint=_TRIGGERS)
    try:
        spark.readStream.format("rate").load().writeStream.trigger(**trigger)
    except Exception as error:  # of Python, of Spark, or of Java
        raise ArgumentError(
            f"trigger is {dict(trigger)}, which Spark doesn't know ({type(error).__name__})", hint=_TRIGGERS
        ) from None
    if "continuous" in trigger:
        raise ArgumentError("trigger is 'continuous', in which Spark has no micro-batches", hint=_TRIGGERS)


def _first_version(spark: SparkSession, source: Table, checkpoint: str) -> int | None:
    """The version that the query's first micro-batch ended with, or None where there was none.

    A query has to begin no later when it is started again: Spark plans its last micro-batch once more, which may be the
    first.
    """
    from pyspark.errors import AnalysisException

    try:
        lines = spark.read.text(perhaps(f"{checkpoint}/offsets/0"), wholetext=True).collect()
    except AnalysisException as error:
        if condition(error).startswith("PATH_NOT_FOUND"):
            return None
        raise
    offset = json.loads(lines[0][0].splitlines()[-1])
    if offset["reservoirId"] != identifier(spark, source):
        raise ArgumentError(
            f"the checkpoint {checkpoint!r} is of another source than {source.text!r}",
            hint="delete it, nothing is lost by that; or give the query a checkpoint of its own",
        )
    return int(offset["reservoirVersion"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """What each micro-batch of a query does.

    Args:
        request: what is asked for, but for query and micro-batch.
        checkpoint: the query's.
    """

    request: Request
    checkpoint: str

    def score(self, spark: SparkSession, df: DataFrame, batch_id: int, pinned: PinnedModel | None) -> None:
        """Bring the target up to the source's newest version, whichever the micro-batch ends with."""
        (metadata,) = spark.read.text(literal(f"{self.checkpoint}/metadata")).collect()
        request = replace(self.request, query_id=json.loads(metadata[0])["id"], batch_id=batch_id)
        for left in reversed(range(_ATTEMPTS)):
            try:
                result = attempt.carried_out(spark, request, pinned)
                break
            except ConflictError as error:
                if not left:
                    raise
                _logger.info("micro-batch %d of %s begins again: %s", batch_id, request.target, error.message)
        if not result.skipped:
            df.count()  # else the query's progress would say that it took no rows


def _on_driver(batch: _Batch, spark: SparkSession, pinned: PinnedModel | None) -> Callable[[DataFrame, int], None]:
    """In this process, whose MLflow may be set to another registry meanwhile."""
    import mlflow

    registry = mlflow.get_registry_uri()

    def do(df: DataFrame, batch_id: int) -> None:
        if pinned is None and mlflow.get_registry_uri() != registry:
            raise ArgumentError(
                f"MLflow is set to another registry than {masked(registry)!r}, in which the query follows an alias",
                hint="stop() the query before configure() or restore(); or follow_alias=False",
            )
        batch.score(spark, df, batch_id, pinned)

    return do


def _on_server(batch: _Batch, follow_alias: bool) -> Callable[[DataFrame, int], None]:
    """In a Python process of a Spark Connect server, which knows nothing of this one's MLflow."""
    workspace, held = tracking.present(), dict[str, PinnedModel]()

    def do(df: DataFrame, batch_id: int) -> None:
        with tracking.configure(df.sparkSession, workspace, autolog=False):
            if not follow_alias and not held:
                held["model"] = pin(batch.request.model)
            batch.score(df.sparkSession, df, batch_id, held.get("model"))

    return do
