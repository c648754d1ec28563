"""One attempt to make a target hold what was asked for: look everything up, decide what is due, do that."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aml_spark import __version__, feed, frame, history, rejects, table
from aml_spark.datalake import reach
from aml_spark.errors import ArgumentError, TargetError
from aml_spark.job import APP_ID, Job, committed, write_again, write_all, write_changes
from aml_spark.ledger import Due, Entry, Ledger, differing
from aml_spark.model import PinnedModel, pin
from aml_spark.request import Request, check_kind, from_spec
from aml_spark.session import check_isolation
from aml_spark.signature import check_columns
from aml_spark.table import Commit, Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_logger = logging.getLogger(__name__)

# How many of a table's newest commits are read first: each is a file, and most tell enough.
_RECENT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreResult:
    """What `score` or `backfill` did.

    Args:
        rows: how many rows were written; 0 where nothing was due.
        model_version: version in the registry; of a model that isn't registered the first 12 digits of its digest.
        source_version: the version of the source that the target holds predictions of.
        target_version: the version of the target that this call made, or found to be right.
        skipped: whether the target held these predictions already, so that nothing was written.
        rejected: on how many rows the model failed, with `on_error="quarantine"`.
        deleted: how many rows were deleted, with `mode="changes"`.
        scope: what was scored: `"all"`, `"changes"`, `"backfill"` or `"nothing"`.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A version of the source.

    Args:
        id: the table's, see `table.identifier`.
        version: its number.
        mark: that of the commit which made it, or None where its history doesn't tell any more.
    """

    id: str
    version: int
    mark: str | None


def carried_out(spark: SparkSession, request: Request, pinned: PinnedModel | None = None) -> ScoreResult:
    """Do what is due for a request, with the model that it names or with one that is pinned already."""
    if request.by_changes and request.key:
        check_isolation(spark)
    target = Table.of(request.target)
    old = _target(spark, target)  # before the source: what another job scores meanwhile can't be newer then
    ledger = Ledger.of(old)
    found = _source(spark, request, ledger.entry)
    was_looked_up = ledger.entry is not None and ledger.entry.source_id == found.id
    if old and not was_looked_up and table.identifier(spark, target) == found.id:
        raise TargetError(f"the target {request.target!r} is the source itself", hint="name another table as target")
    pinned = pinned or pin(request.model)
    job, df = _job(spark, request, found, old, pinned, ledger)
    due = _due(spark, job, ledger)
    if due.scope == "nothing" and ledger.entry is not None and ledger.version is not None:
        _logger.info("%s holds %s of version %d already", job.target, pinned.label, found.version)
        if ledger.entry.same_model(job.entry):  # a crash may have come between the commit and this
            history.tag_version(pinned, target, job.entry)
        return _nothing(job, ledger.version, due.reason)
    if request.on_error == "quarantine":
        rejects.check(spark, target, job.key)
    _logger.info("scoring %s: %s", due.scope, due.reason)
    if due.scope == "changes" and ledger.entry is not None:
        job, due, rejected = write_changes(job, due, ledger.entry)
    else:
        rejected = write_all(job, df)
    commits = _sufficing(spark, target, table.history(spark, target, _RECENT))
    result = _done(job, due, rejected, commits)
    if due.scope == "changes" and Ledger.of(commits).changed_since:
        _logger.info("others changed rows of %s while its changes were scored", target)
        return carried_out(spark, request, pinned)
    return result


def scored_again(
    spark: SparkSession,
    target: str,
    model: str | None,
    params: Mapping[str, Any] | None,
    where: str | None,
    from_version: int | None,
    name: str | None,
) -> ScoreResult:
    """Score rows once more that a target holds already, as it was asked for the last time."""
    check_kind("where", where, str)
    check_kind("from_version", from_version, int)
    old = table.history(spark, Table.of(target))
    if not old:
        raise table.missing(Table.of(target), f"{target!r} doesn't exist; expected a Delta table that score() wrote")
    ledger = Ledger.of(old)
    has, version = ledger.entry, ledger.version
    if has is None or version is None or ledger.changed_since:
        what = "nothing in its history says that" if has is None else "others changed rows of it since"
        raise TargetError(f"what {target!r} holds isn't known: {what} score() wrote it", hint="call score() first")
    request = from_spec(has.spec, has.model_uri if model is None else model, target, params)
    reach(spark, request.source)
    if not request.key:
        raise TargetError(f"{target!r} was scored without a key, by which rows are found again")
    if from_version is not None and not 0 <= from_version <= has.source_version:
        raise ArgumentError(
            f"from_version is {from_version}; {target!r} holds version {has.source_version} of its source"
        )
    check_isolation(spark)
    # Only a backfill from a version reads the feed.
    request = replace(request, on_missing_feed="rescore" if from_version is None else "raise")
    found = replace(_source(spark, request, has), version=has.source_version, mark=has.source_mark)
    if found.id != has.source_id:
        raise TargetError(f"the source {request.source!r} is another table than before", hint="call score() first")
    pinned = pin(request.model)
    job, _ = _job(spark, request, found, old, pinned, ledger)
    if differing := list(_differences(has.spec, job.entry.spec)):
        raise ArgumentError(f"{target!r} was scored otherwise: {'; '.join(differing)}")
    if model is None and not has.same_model(job.entry):
        raise TargetError(
            f"{has.model_uri!r} isn't any more what scored {target!r}: its files are others", hint="say which: model=…"
        )
    chosen = {"name": name or job.entry.attempt, "where": where, "from_version": from_version}
    for commit in old:
        if commit.operation == "RESTORE":
            break
        earlier = Entry.of(commit)
        if earlier is not None and earlier.backfill is not None and earlier.backfill["name"] == name:
            if earlier.backfill != chosen:
                raise ArgumentError(f"name is {name!r}; the backfill of that name had {dict(earlier.backfill)}")
            return _nothing(job, commit.version, f"the backfill {name!r} was done")
    mixed = has.mixed or not has.same_model(job.entry)
    job = replace(job, entry=replace(job.entry, scope="backfill", backfill=chosen, mixed=mixed))
    if request.on_error == "quarantine":
        rejects.check(spark, job.target, job.key)
    rejected = write_again(job, where, from_version)
    due = Due(scope="backfill", reason=f"the backfill {chosen['name']!r}")
    return _done(job, due, rejected, table.history(spark, job.target, _RECENT))


def _target(spark: SparkSession, target: Table) -> Sequence[Commit]:
    return _sufficing(spark, target, table.history(spark, target, _RECENT))


def _sufficing(spark: SparkSession, target: Table, newest: Sequence[Commit]) -> Sequence[Commit]:
    """These newest commits where they tell what is due, else all: a stream writes thousands."""
    return newest if len(newest) < _RECENT or Ledger.suffices(newest) else table.history(spark, target)


def _source(spark: SparkSession, request: Request, has: Entry | None) -> _Source:
    source, version = Table.of(request.source), request.source_version
    commits = table.history(spark, source, _RECENT)
    if not commits:
        raise table.missing(source, f"the source {source.text!r} doesn't exist; expected a Delta table")
    newest = commits[0].version
    if version is None:
        version = newest
    elif not 0 <= version <= newest:
        raise ArgumentError(f"source_version is {version}; {source.text!r} has the versions 0 to {newest}")
    if request.by_changes and request.on_missing_feed == "raise":
        feed.check_recorded(spark, source, "mode='changes'", "; or on_missing_feed='diff'")
    return _Source(
        id=has.source_id if has is not None and has.knows(commits) else table.identifier(spark, source),
        version=version,
        mark=next((commit.mark for commit in commits if commit.version == version), None),
    )


def _job(
    spark: SparkSession, request: Request, found: _Source, old: Sequence[Commit], pinned: PinnedModel, ledger: Ledger
) -> tuple[Job, DataFrame]:
    """The job that would do it, if it is due, and the source's rows."""
    source, target = Table.of(request.source), Table.of(request.target)
    df = frame.selected(table.read(spark, source, found.version), request.where, request.source)
    check_columns(pinned, df)
    kept = frame.kept_columns(df, request.key, request.columns, request.prediction)
    entry = Entry(
        attempt=str(uuid.uuid4()),
        sequence=ledger.next_sequence(old[0].version if old else None),
        source=source.text,
        source_id=found.id,
        source_version=found.version,
        source_mark=found.mark,
        model=pinned.name,
        model_version=pinned.version,
        model_uri=pinned.pinned_uri,
        model_digest=pinned.digest,
        run_id=pinned.run_id,
        spec={**request.spec(source.text), "model": pinned.name},
        library=__version__,
        columns=[*kept, request.prediction, frame.MODEL_VERSION],
        based_on=old[0].version if old else None,
        query_id=request.query_id,
        batch_id=request.batch_id,
    )
    ours = ledger.entry.columns if ledger.entry and not request.overwrite else []
    existing = spark.sql(f"SELECT * FROM {target.sql} LIMIT 0").columns if old else []
    foreign = {name.lower() for name in existing} - {name.lower() for name in ours} if ours else set[str]()
    if taken := [name for name in entry.columns if name.lower() in foreign]:
        raise TargetError(
            f"the source has a column {taken[0]!r} now, and so has the target {request.target!r}, of somebody else's",
            hint="rename the target's; columns=[…] leaves the source's out; overwrite=True gives up the target's",
        )
    job = Job(
        spark=spark,
        request=request,
        source=source,
        target=target,
        old=old,
        pinned=pinned,
        entry=entry,
        kept=kept,
        others=[name for name in existing if ours and request.key and name not in ours],
    )
    return job, df


def _due(spark: SparkSession, job: Job, ledger: Ledger) -> Due:
    request, has = job.request, ledger.entry
    if not job.old:
        return Due(scope="all", reason="the target is new")
    if not request.overwrite and has is None:
        if not table.has_transaction(spark, job.target, APP_ID):
            raise TargetError(
                f"the target {request.target!r} exists, and nothing in its history says that score() wrote it",
                hint="overwrite=True replaces all that it holds",
            )
        return Due(scope="all", reason="the target's history has forgotten what it holds")
    if not request.overwrite and has is not None and differing(has.spec, job.entry.spec):
        raise TargetError(
            f"the target {request.target!r} was written by score() with other arguments: "
            + "; ".join(_differences(has.spec, job.entry.spec)),
            hint="overwrite=True replaces all that it holds; or name another target",
        )
    due = ledger.due(job.entry, changes=request.by_changes, keeps_model=request.keeps_model)
    if request.force or (request.overwrite and due.scope == "changes"):
        return Due(scope="all", reason="force=True" if request.force else "overwrite=True")
    return due


def _differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in differing(was, now):
        yield "params" if name == "params" else f"{name}={was.get(name)!r} then, {now[name]!r} now"


def _nothing(job: Job, version: int, reason: str) -> ScoreResult:
    return ScoreResult(
        rows=0,
        model_version=frame.version_text(job.pinned),
        source_version=job.entry.source_version,
        target_version=version,
        skipped=True,
        scope="nothing",
        reason=reason,
    )


def _done(job: Job, due: Due, rejected: int, commits: Sequence[Commit]) -> ScoreResult:
    commit = committed(job, commits)
    history.tag_version(job.pinned, job.target, job.entry)
    history.log_source(job.source, job.entry)
    return ScoreResult(
        rows=commit.rows or 0,
        model_version=frame.version_text(job.pinned),
        source_version=job.entry.source_version,
        target_version=commit.version,
        skipped=False,
        rejected=rejected,
        deleted=commit.deleted or 0,
        scope=due.scope,
        reason=due.reason,
    )
