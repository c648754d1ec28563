"""Score a Delta table into a Delta table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aml_spark import attempt
from aml_spark.attempt import ScoreResult
from aml_spark.datalake import reach
from aml_spark.errors import ArgumentError
from aml_spark.request import Request

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.types import DataType


def score(
    spark: SparkSession,
    *,
    model: str,
    source: str,
    target: str,
    mode: str = "all",
    key: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    where: str | None = None,
    prediction: str = "prediction",
    result_type: DataType | str | None = None,
    params: Mapping[str, Any] | None = None,
    on_error: str = "raise",
    on_model_change: str = "rescore",
    on_missing_feed: str = "raise",
    source_version: int | None = None,
    overwrite: bool = False,
    force: bool = False,
) -> ScoreResult:
    """Score a Delta table into a Delta table, in one commit: the whole, or what changed since the last time.

    The commit carries its lineage as `userMetadata`, by which the next call finds out what is due. Scoring the same
    version of the source with the same model and the same arguments again does nothing, unless somebody changed the
    target's rows since.

    Args:
        spark: the session.
        model: address of the model; an alias is resolved once.
        source: Delta table to score: a name, a path, or a URI such as `abfss://…` or
            `azureml://datastores/<name>/paths/<path>`. The session is let into a data lake by what `datalake.find`
            finds, where it has no settings for the account.
        target: Delta table to write, named in the same ways; made where it doesn't exist.
        mode: `"all"`: the predictions for the whole source replace all that the target holds. `"changes"`: the first
            call does the same; later ones read the source's change data feed, score what was inserted or updated,
            delete what was deleted, and leave the other rows alone.
        key: columns that identify a row, nulls being equal; they are always kept. With `"changes"` rows are merged by
            it, and the target's history shows the least and the greatest of the numbers and times that are merged; None
            is for sources that only grow.
        columns: columns of the source that the target keeps; None keeps all.
        where: SQL condition on the source's columns; other rows are left out, and deleted where a change makes them
            so. What it says is compared, not what it means today: with `current_date()` in it, give `force` each day.
        prediction: name of the prediction's column.
        result_type: Spark type of a prediction, as for `spark_udf`.
        params: parameters of the model's `predict`.
        on_error: what becomes of rows on which the model fails: `"raise"` writes nothing at all; `"null"` gives them
            null; `"quarantine"` gives them null and writes their `key` and the reason to a table beside the target,
            which `read_rejects` reads. Its predictions are kept in Spark's cache while they are written.
        on_model_change: what another model than before does, with `"changes"`: `"rescore"` scores the whole source
            with it; `"keep"` scores the changes only, and `model_version` says of each row who scored it.
        on_missing_feed: what is done, with `"changes"`, where the source's changes since then can't be read, because
            they weren't recorded, were vacuumed, or its columns changed too much: `"raise"`; `"rescore"` scores the
            whole source; `"diff"` finds the rows that changed by comparing the source with what the target keeps.
        source_version: version of the source to score; None takes the newest.
        overwrite: replace a target that wasn't written by `score` with the same arguments, its schema included.
        force: score the whole again even where the target holds these predictions.

    Raises:
        ModelNotFoundError: no such model, version or alias.
        TableNotFoundError: the source isn't a Delta table.
        FeedError: the source's changes can't be read.
        SchemaError: the source's columns don't fit the model, the result doesn't fit the target, or the key isn't one.
        TargetError: the target is the source, or holds something that would be lost.
        ConflictError: another job wrote the target meanwhile.
        TableError: the target can't be written.
        DataLakeError: a place in a data lake can't be reached; AuthenticationError: nobody is signed in to Azure.
        ScoringError: the model failed.
        SessionError: the model has times, and Arrow doesn't know the session's time zone.

        Nothing is written in any of these cases, but where others changed rows of the target while its changes were
        scored: then the whole is scored after them, and what fails then leaves the changes.
    """
    return attempt.carried_out(
        spark,
        Request(
            model=model,
            source=reach(spark, source),
            target=reach(spark, target),
            mode=mode,
            key=key,
            columns=columns,
            where=where,
            prediction=prediction,
            result_type=result_type,
            params=params,
            on_error=on_error,
            on_model_change=on_model_change,
            on_missing_feed=on_missing_feed,
            source_version=source_version,
            overwrite=overwrite,
            force=force,
        ),
    )


def backfill(
    spark: SparkSession,
    *,
    target: str,
    model: str | None = None,
    params: Mapping[str, Any] | None = None,
    where: str | None = None,
    from_version: int | None = None,
    name: str | None = None,
) -> ScoreResult:
    """Score rows once more that a target holds already, in one commit: such as those that an older model scored.

    All that isn't said here is as it was for the `score` or `score_stream` that wrote the target last: source, key,
    columns and so on. The rows are taken from the version of the source that the target holds predictions of, so what
    changed in the source since then is left to the next `score`. That one scores all again where the backfill's model
    isn't its own, unless it says `on_model_change="keep"`.

    Args:
        spark: the session.
        target: Delta table that `score` wrote with a `key`.
        model: address of the model, another version of the same; None takes the one that scored the target last.
        params: the parameters that the target was scored with, which its history doesn't tell.
        where: SQL condition on the source's columns that says which rows; None takes all.
        from_version: only rows that changed in this version of the source or later, by its change data feed; None
            takes all. At least one of the two is needed.
        name: a name for the backfill: one that the target's history knows isn't done again. None makes one up.

    Raises:
        ArgumentError: neither `where` nor `from_version` says which rows; there is no such version; the model is one of
            another name, or the parameters are others; the name is that of a backfill of other rows.
        ModelNotFoundError: no such model, version or alias.
        TableNotFoundError: the target or its source isn't a Delta table.
        TargetError: the target wasn't written by `score` last, or without a key, or its model's files are others now.
        FeedError: the source's changes since `from_version` can't be read.
        SchemaError: the source's columns don't fit the model, or the result doesn't fit the target.
        ConflictError: another job wrote the target meanwhile.
        ScoringError: the model failed.

        Nothing is written in any of these cases.
    """
    if where is None and from_version is None:
        raise ArgumentError(
            "which rows to score again isn't said", hint="where='…', from_version=…; or score(force=True) for all"
        )
    return attempt.scored_again(spark, reach(spark, target), model, params, where, from_version, name)
