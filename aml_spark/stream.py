"""Score a Delta table as a stream."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aml_spark import attempt, tracking
from aml_spark.errors import ArgumentError, ConflictError
from aml_spark.model import pin
from aml_spark.request import Request
from aml_spark.session import is_connect
from aml_spark.table import Table, condition

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery
    from pyspark.sql.types import DataType

_logger = logging.getLogger(__name__)

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
    """Score a Delta table into a Delta table as a Structured Streaming query, one commit for each micro-batch.

    First, before this returns, the target is brought up to the source's newest version, as `score(mode="changes")`
    does it. From then on each new version of the source starts a micro-batch that does the same. What is due says the
    target's own history, not the checkpoint: a micro-batch that Spark repeats after a crash finds that nothing is due,
    and a query whose checkpoint was lost goes on after the version that the target holds. `score` with the same
    arguments and a stream can take turns on one target.

    On Spark Connect micro-batches are run by the server, which needs this library and credentials of its own.

    Args:
        spark: the session.
        model: address of the model. An alias is resolved once, when the query starts.
        source: Delta table to score, with a change data feed.
        target: Delta table to write; made where it doesn't exist.
        checkpoint: folder in which Spark keeps how far the query is; its own for each query.
        key, columns, where, prediction, result_type, params, on_error, on_missing_feed, overwrite: as for `score`.
        on_model_change: what another model than before does, at the start or with `follow_alias`: `"keep"` scores what
            changed from then on, and `model_version` says of each row who scored it; `"rescore"` the whole.
        trigger: arguments of Spark's `DataStreamWriter.trigger`: `{"availableNow": True}` ends the query when nothing
            is left, `{"processingTime": "1 minute"}` looks so often. None starts a micro-batch whenever there is
            something.
        follow_alias: resolve the alias again for each micro-batch: one that moved counts from the next on, and
            `lineage` says from which.

    Returns:
        The running query. `stop()` waits for the end of a micro-batch. One that failed leaves the target as it was and
        ends the query; the same call starts it again.

    Raises:
        ArgumentError: `follow_alias` of a model that isn't named by an alias, or a trigger that Spark doesn't know.

        And all that `score` raises.
    """
    if follow_alias and not ("@" in model or model.endswith("/latest")):
        raise ArgumentError(f"follow_alias=True, and {model!r} names no alias", hint="model='models:/name@alias'")
    try:  # before anything is written
        spark.readStream.format("rate").load().writeStream.trigger(**(trigger or {"availableNow": True}))
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"trigger is {trigger!r}, which Spark doesn't know ({type(error).__name__})",
            hint="trigger={'availableNow': True} or trigger={'processingTime': '1 minute'}",
        ) from None
    request = Request(
        model=model if follow_alias else pin(model).pinned_uri,
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
    begun = attempt.carried_out(spark, request)
    place = Table.of(source)
    reader = spark.readStream.format("delta").option("readChangeFeed", "true")
    reader = reader.option("startingVersion", _first_version(spark, checkpoint, begun.source_version))
    versions = (reader.load(place.text) if place.is_path else reader.table(place.sql)).select("_commit_version")
    batch = _Batch(request=replace(request, overwrite=False), checkpoint=checkpoint)
    do = _on_server(batch) if is_connect(spark) else lambda df, batch_id: batch.score(spark, df, batch_id)
    writer = versions.writeStream.option("checkpointLocation", checkpoint).foreachBatch(do)
    return (writer.trigger(**trigger) if trigger else writer).start()


def _first_version(spark: SparkSession, checkpoint: str, newest: int) -> int:
    """Where the query's first micro-batch begins or, as the checkpoint says, once ended.

    It begins with the newest version, which is scored already, because Delta starts no query after it. It has to stay
    there: where a query begins again, Spark plans its last micro-batch once more, which may be the first.
    """
    from pyspark.errors import AnalysisException

    try:
        lines = spark.read.text(f"{checkpoint}/offsets/0", wholetext=True).collect()
    except AnalysisException as error:
        if condition(error).startswith("PATH_NOT_FOUND"):
            return newest
        raise
    return int(json.loads(lines[0][0].splitlines()[-1])["reservoirVersion"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """What each micro-batch of a query does.

    Args:
        request: what is asked for, but for query and micro-batch.
        checkpoint: the query's.
    """

    request: Request
    checkpoint: str

    def score(self, spark: SparkSession, df: DataFrame, batch_id: int) -> None:
        """Bring the target up to the source's newest version, whichever the micro-batch ends with."""
        (metadata,) = spark.read.text(f"{self.checkpoint}/metadata").collect()
        request = replace(self.request, query_id=json.loads(metadata[0])["id"], batch_id=batch_id)
        for left in reversed(range(_ATTEMPTS)):
            try:
                result = attempt.carried_out(spark, request)
                break
            except ConflictError as error:
                if not left:
                    raise
                _logger.info("micro-batch %d of %s begins again: %s", batch_id, request.target, error.message)
        if not result.skipped:
            df.count()  # else the query's progress would say that it took no rows


def _on_server(batch: _Batch) -> Callable[[DataFrame, int], None]:
    """The same in a Python process of a Spark Connect server, which knows nothing of this one's MLflow."""
    workspace = tracking.present()

    def do(df: DataFrame, batch_id: int) -> None:
        with tracking.configure(df.sparkSession, workspace, autolog=False):
            batch.score(df.sparkSession, df, batch_id)

    return do
