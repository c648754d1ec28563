"""Score a Delta table into a Delta table."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aml_spark import __version__, feed, frame, history, rejects, table
from aml_spark.errors import ArgumentError, FeedError, TableNotFoundError, TargetError, listed
from aml_spark.job import Job, committed, write_all, write_changes
from aml_spark.ledger import Due, Entry, Ledger, digest
from aml_spark.model import pin
from aml_spark.session import check_isolation
from aml_spark.signature import check_columns
from aml_spark.table import Detail, Table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.types import DataType

_logger = logging.getLogger(__name__)

_CHOICES = {
    "mode": ("all", "changes"),
    "on_error": ("raise", "null", "quarantine"),
    "on_model_change": ("rescore", "keep"),
    "on_missing_feed": ("raise", "diff", "rescore"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreResult:
    """What `score` did.

    Args:
        rows: how many rows were written; 0 where nothing was due.
        model_version: version in the registry; of a model that isn't registered the first 12 digits of its digest.
        source_version: the version of the source that the target holds predictions of.
        target_version: the version of the target that this call made, or found to be right.
        skipped: whether the target held these predictions already, so that nothing was written.
        rejected: on how many rows the model failed, with `on_error="quarantine"`.
        deleted: how many rows were deleted, with `mode="changes"`.
        scope: what was scored: `"all"`, `"changes"` or `"nothing"`.
        reason: why that.
    """

    rows: int
    model_version: str
    source_version: int
    target_version: int
    skipped: bool
    rejected: int = 0
    deleted: int = 0
    scope: str = "all"
    reason: str = ""


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
        source: Delta table to score: a name, a path, or a URI such as `abfss://…`.
        target: Delta table to write, named in the same ways; made where it doesn't exist.
        mode: `"all"`: the predictions for the whole source replace all that the target holds. `"changes"`: the first
            call does the same; later ones read the source's change data feed, score what was inserted or updated,
            delete what was deleted, and leave the other rows alone.
        key: columns that identify a row, nulls being equal; they are always kept. With `"changes"` rows are merged by
            it; None is for sources that only grow.
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
        TableError: the target can't be written.
        ScoringError: the model failed, or another job wrote the target meanwhile.

        Nothing is written in any of these cases.
    """
    given = {"mode": mode, "on_error": on_error, "on_model_change": on_model_change, "on_missing_feed": on_missing_feed}
    for name, value in given.items():
        if value not in _CHOICES[name]:
            raise ArgumentError(f"{name} is {value!r}; expected one of {listed(_CHOICES[name])}")
    by_changes = mode == "changes"
    if on_error == "quarantine" and not key:
        raise ArgumentError(
            "on_error='quarantine' needs key=: by it the rejected rows are told", hint="key=['id'], or on_error='null'"
        )
    if on_missing_feed == "diff" and by_changes and not key:
        raise ArgumentError("on_missing_feed='diff' needs key=: by it rows are compared", hint="key=['id']")
    if by_changes and key:
        check_isolation(spark)
    source_table, target_table = Table.of(source), Table.of(target)
    found = _source(spark, source_table, source_version, needs_feed=by_changes and on_missing_feed == "raise")
    old = table.detail(spark, target_table, commits=None)
    if old is not None and old.id == found.id:
        raise TargetError(f"the target {target!r} is the source itself", hint="name another table as target")
    pinned = pin(model)
    df = frame.selected(table.read(spark, source_table, found.version), where, source)
    check_columns(pinned, df)
    kept = frame.kept_columns(df, key, columns, prediction)
    ledger = Ledger() if old is None else Ledger.of(old.commits)
    wanted = Entry(
        attempt=str(uuid.uuid4()),
        sequence=ledger.next_sequence(old.version if old else None),
        source=source_table.text,
        source_id=found.id,
        source_version=found.version,
        model=pinned.name,
        model_version=pinned.version,
        model_uri=pinned.pinned_uri,
        model_digest=pinned.digest,
        run_id=pinned.run_id,
        spec=digest(
            {
                "columns": None if columns is None else list(columns),
                "key": list(key or ()),
                "mode": mode,
                "on_error": on_error,
                "model": pinned.name,
                "params": params and {name: repr(value) for name, value in params.items()},
                "prediction": prediction,
                "result_type": None if result_type is None else str(result_type),
                "source": source_table.text,
                "where": where,
            }
        ),
        library=__version__,
        columns=[*kept, prediction, frame.MODEL_VERSION],
        based_on=old.version if old else None,
    )
    _refuse_loss(target, old, ledger, wanted, overwrite)
    due = ledger.due(wanted, changes=by_changes, keeps_model=by_changes and on_model_change == "keep")
    if old is None:
        due = Due(scope="all", reason="the target is new")
    elif force or (overwrite and due.scope == "changes"):
        due = Due(scope="all", reason="force=True" if force else "overwrite=True")
    if due.scope == "nothing" and ledger.entry is not None and ledger.version is not None:
        _logger.info("%s holds %s of version %d already", target, pinned.label, found.version)
        if ledger.entry.same_model(wanted):  # a crash may have come between the commit and this
            history.tag_version(pinned, target_table, wanted)
        return ScoreResult(
            rows=0,
            model_version=frame.version_text(pinned),
            source_version=found.version,
            target_version=ledger.version,
            skipped=True,
            scope=due.scope,
            reason=due.reason,
        )
    if on_error == "quarantine":
        rejects.check(spark, target_table, key or ())
    ours = ledger.entry.columns if ledger.entry and not overwrite else []
    existing = [] if old is None else spark.sql(f"SELECT * FROM {target_table.sql} LIMIT 0").columns
    _refuse_others(target, wanted.columns, ours, existing)
    job = Job(
        spark=spark,
        source=source_table,
        target=target_table,
        old=old,
        pinned=pinned,
        entry=wanted,
        others=[name for name in existing if ours and key and name not in ours],
        where=where,
        key=list(key or ()),
        kept=kept,
        prediction=prediction,
        result_type=result_type,
        params=params,
        on_error=on_error,
        overwrite=overwrite,
        by_changes=by_changes,
    )
    _logger.info("scoring %s: %s", due.scope, due.reason)
    if due.scope == "changes" and ledger.entry is not None:
        job, due, rejected = write_changes(job, due, ledger.entry, on_missing_feed)
    else:
        rejected = write_all(job, df)
    commit = committed(job)
    history.tag_version(pinned, target_table, job.entry)
    history.log_source(source_table, job.entry)
    return ScoreResult(
        rows=commit.rows or 0,
        model_version=frame.version_text(pinned),
        source_version=found.version,
        target_version=commit.version,
        skipped=False,
        rejected=rejected,
        deleted=commit.deleted or 0,
        scope=due.scope,
        reason=due.reason,
    )


def _source(spark: SparkSession, source: Table, version: int | None, *, needs_feed: bool) -> Detail:
    found = table.detail(spark, source)
    if found is None:
        raise TableNotFoundError(f"the source {source.text!r} doesn't exist; expected a Delta table")
    if version is not None:
        if not 0 <= version <= found.version:
            raise ArgumentError(f"source_version is {version}; {source.text!r} has the versions 0 to {found.version}")
        found = replace(found, version=version)
    if needs_feed and found.properties.get(feed.ENABLED, "").lower() != "true":
        raise FeedError(
            f"the source {source.text!r} records no changes, which mode='changes' reads",
            hint=f"ALTER TABLE {source.sql} SET TBLPROPERTIES ({feed.ENABLED} = true); or on_missing_feed='diff'",
        )
    return found


def _refuse_others(target: str, wanted: Sequence[str], ours: Sequence[str], existing: Sequence[str]) -> None:
    foreign = {name.lower() for name in existing} - {name.lower() for name in ours} if ours else set[str]()
    if taken := [name for name in wanted if name.lower() in foreign]:
        raise TargetError(
            f"the source has a column {taken[0]!r} now, and so has the target {target!r}, of somebody else's",
            hint="rename the target's; columns=[…] leaves the source's out; overwrite=True gives up the target's",
        )


def _refuse_loss(target: str, old: Detail | None, ledger: Ledger, wanted: Entry, overwrite: bool) -> None:
    if old is None or overwrite:
        return
    if ledger.entry is None:
        raise TargetError(
            f"the target {target!r} exists, and nothing in its history says that score() wrote it",
            hint="overwrite=True replaces all that it holds",
        )
    if ledger.entry.spec != wanted.spec:
        raise TargetError(
            f"the target {target!r} was written by score() with other arguments (source {ledger.entry.source!r}, "
            f"model {ledger.entry.model_uri!r})",
            hint="overwrite=True replaces all that it holds; or name another target",
        )
