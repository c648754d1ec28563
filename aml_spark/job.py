"""One job of scoring: the rows that are due, scored and written to the target in one commit."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aml_spark import feed, frame, progress, rejects, table, writer
from aml_spark.analysis import condition
from aml_spark.errors import AmlSparkError, ConflictError, FeedError, SchemaError, ScoringError, listed
from aml_spark.ledger import Due, Entry
from aml_spark.model import PinnedModel
from aml_spark.request import Request
from aml_spark.session import forgets_names, isolated, watched
from aml_spark.spark_ml import is_spark_ml
from aml_spark.table import Commit, Table
from aml_spark.writer import Stamp

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession


APP_ID = "aml_spark"  # the same for all that we write to a table: ids are kept per table


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be done for a request, once everything is looked up.

    Args:
        spark: the user's session.
        request: what was asked for.
        source: where the rows come from.
        target: where they go.
        old: the target's commits, newest first, or the first of them; none where it is new.
        pinned: the model.
        entry: what the commit says.
        kept: columns of the source that the target gets.
        others: columns of the target that aren't ours, which it keeps.
    """

    spark: SparkSession
    request: Request
    source: Table
    target: Table
    old: Sequence[Commit]
    pinned: PinnedModel
    entry: Entry
    kept: Sequence[str]
    others: Sequence[str]

    @property
    def key(self) -> list[str]:
        """Columns that identify a row."""
        return list(self.request.key or ())

    @property
    def title(self) -> str:
        """How progress calls it."""
        return f"score {self.source.text} → {self.target.text}"

    @property
    def stamp(self) -> Stamp:
        """What its commit carries: of one application for all that we write to a table, whatever the source."""
        return Stamp(metadata=self.entry.to_json(), app_id=APP_ID, sequence=self.entry.sequence)


def write_all(job: Job, df: DataFrame) -> int:
    """Replace all that the target holds; gives the number of rejected rows."""
    if job.request.by_changes and job.key:
        _watch(job, lambda: _check_key(job, df))
    scored = _predicted(job, job.spark, df)
    schema = "replaced" if job.request.overwrite else "kept"
    if job.old and not job.request.overwrite:
        existing = job.spark.sql(f"SELECT * FROM {job.target.sql}")
        _check_fit(job, scored, existing)
        if set(scored.drop(frame.REASON).columns) - set(existing.columns):
            schema = "grown"
    with _quarantined(job, scored) as (rows, rejected):
        content = _beside_others(job, rows, existing) if job.others else rows
        _watch(job, lambda: writer.replace(content, job.target, job.stamp, exists=bool(job.old), schema=schema))
    return rejected


def write_changes(job: Job, due: Due, has: Entry) -> tuple[Job, Due, int]:
    """Merge what changed since a commit into the target; gives also what was done instead where that can't be read."""
    job = replace(job, entry=replace(job.entry, scope="changes", mixed=has.mixed or not has.same_model(job.entry)))
    try:
        with _session(job) as own:
            return job, due, _merge(job, own, _changed(job, own, has.source_version + 1))
    except FeedError as error:
        if job.request.on_missing_feed == "raise":
            raise
        reason = f"{due.reason}, but {error.message}"
    # Nothing of the attempt that failed may count, such as its rejects.
    job = replace(job, entry=replace(job.entry, attempt=str(uuid.uuid4())))
    if job.request.on_missing_feed == "diff":
        with _session(job) as own:
            return job, Due(scope="changes", reason=reason), _merge(job, own, _different(job, own))
    job = replace(job, entry=replace(job.entry, scope="all", mixed=False))
    return job, Due(scope="all", reason=reason), write_all(job, _rows(job, job.spark))


def write_again(job: Job, where: str | None, from_version: int | None) -> int:
    """Score rows that the target holds once more, and merge them; gives the number of rejected rows.

    Args:
        job: its entry says which version of the source they are taken from.
        where: SQL condition on the source's columns that tells which; None for all.
        from_version: only those that changed in this version of the source or later; None for all.
    """
    from pyspark.sql import functions as F

    with _session(job) as own:
        rows = _rows(job, own)
        _watch(job, lambda: _check_key(job, rows), own)
        df = frame.selected(rows, where, job.source.text)
        if from_version is not None:
            with _translated(job):
                keys, on = _to_join(job, feed.changes(own, job.source, from_version, job.entry.source_version), job.key)
                df = df.join(keys, on, "left_semi")
        return _merge(job, own, df.withColumns({feed.NEW: F.lit(False), feed.DELETED: F.lit(False)}))


def _rows(job: Job, spark: SparkSession) -> DataFrame:
    """What is scored where the whole is."""
    df = table.read(spark, job.source, job.entry.source_version)
    return frame.selected(df, job.request.where, job.source.text)


def _session(job: Job) -> contextlib.AbstractContextManager[SparkSession]:
    """Where rows are merged by key: it takes what a MERGE can be told in settings only."""
    return isolated(job.spark) if job.key else contextlib.nullcontext(job.spark)


def _changed(job: Job, own: SparkSession, first: int) -> DataFrame:
    """What the source's feed says, with `feed.NEW` and `feed.DELETED` where there is a key."""
    with _translated(job):
        # The feed has the columns of the source's newest version.
        columns = table.read(own, job.source, job.entry.source_version).columns
        found = feed.changes(own, job.source, first, job.entry.source_version)
        if missing := [name for name in columns if name not in found.columns]:
            raise FeedError(
                f"the changes of {job.source.text!r} up to version {job.entry.source_version} can't be read: its "
                f"columns {listed(missing)} are gone in the newest version",
                hint="on_missing_feed='diff' compares the rows, on_missing_feed='rescore' scores them all",
            )
        found = feed.narrowed(found, columns)
        if not job.key:
            return frame.selected(feed.appended(found), job.request.where, job.source.text)
        return feed.last_words(frame.selected(found, job.request.where, job.source.text), job.key)


def _different(job: Job, own: SparkSession) -> DataFrame:
    """What comparing the source with the target says."""
    from pyspark.sql import functions as F

    df = _rows(job, own)
    schema = job.pinned.metadata.get_input_schema()
    needed = schema.input_names() if schema is not None and schema.has_input_names() else df.columns
    hidden = [name for name in needed if name in df.columns and name not in job.kept]
    unequal = [name for name in job.kept if not frame.comparable(df, name)]
    for names, why in ((hidden, "the target doesn't keep them"), (unequal, "no map or variant equals another")):
        if names:
            raise FeedError(
                f"rows of {job.source.text!r} and {job.target.text!r} can't be compared by {listed(names)}: {why}",
                hint="on_missing_feed='rescore'",
            )
    _watch(job, lambda: _check_key(job, df), own)
    existing = own.sql(f"SELECT * FROM {job.target.sql} VERSION AS OF {job.entry.based_on}")
    for name in job.kept:
        if name not in existing.columns:  # new in the source
            existing = existing.withColumn(name, F.lit(None).cast(df.schema[name].dataType))
    return feed.difference(df, existing, job.key, job.kept)


def _merge(job: Job, own: SparkSession, changed: DataFrame) -> int:
    """Score what changed and merge or append it; gives the number of rejected rows."""
    from pyspark.sql import functions as F

    if not job.key:
        with _quarantined(job, _scored(job, own, changed)) as (rows, rejected):
            _watch(job, lambda: writer.append(rows, job.target, job.stamp), own)
            return rejected
    flags = [feed.NEW, feed.DELETED]
    there = changed.where(~F.col(feed.DELETED))
    scored = _scored(job, own, there, flags)
    with _translated(job):  # read for its keys' bounds, for what is scored and what is gone; Spark knows its size then
        changed.persist()
    try:
        bounds = _watch(job, lambda: frame.key_bounds(changed, job.key), own)
        with _quarantined(job, scored) as (rows, rejected):
            gone = changed.where(feed.DELETED)
            if is_spark_ml(job.pinned):  # whose stages may leave rows out
                gone = gone.unionByName(_without(job, there, rows).withColumn(feed.DELETED, F.lit(True)))
            gone = gone.select(*[F.col(table.quoted(name)) for name in [*job.key, *flags]])
            _watch(
                job,
                lambda: writer.merge(
                    rows.unionByName(gone, allowMissingColumns=True),
                    job.target,
                    job.stamp,
                    key=job.key,
                    bounds=bounds,
                    new=feed.NEW,
                    deleted=feed.DELETED,
                    failing={frame.MODEL_VERSION: feed.DUPLICATE},
                    insert=job.entry.scope == "changes",
                ),
                own,
            )
            return rejected
    finally:
        changed.unpersist()


def _scored(job: Job, own: SparkSession, changed: DataFrame, flags: Sequence[str] = ()) -> DataFrame:
    """Rows that changed with what the target gets of them."""
    with _translated(job):
        scored = _predicted(job, own, changed, flags)
        _check_fit(job, scored.drop(*flags), own.sql(f"SELECT * FROM {job.target.sql} LIMIT 0"))
        return scored


def _predicted(job: Job, spark: SparkSession, df: DataFrame, beside: Sequence[str] = ()) -> DataFrame:
    asked = job.request
    return frame.predicted(
        spark, df, job.pinned, job.kept, asked.prediction, asked.result_type, asked.params, asked.on_error, beside
    )


def _check_fit(job: Job, scored: DataFrame, existing: DataFrame) -> None:
    scored = scored.drop(frame.REASON)
    added = scored.columns if job.request.by_changes else []
    frame.check_fit(scored, existing, job.target.text, added=added, own=job.others)


def _without(job: Job, rows: DataFrame, others: DataFrame) -> DataFrame:
    """The rows whose key none of the others has."""
    keys, on = _to_join(job, others, job.key)
    return rows.join(keys, on, "left_anti")


def _to_join(job: Job, df: DataFrame, names: Sequence[str]) -> tuple[DataFrame, list[Column]]:
    """Columns of a DataFrame under names of their own, and the condition by which its keys are another's."""
    from pyspark.sql import functions as F

    renamed = df.select(*[F.col(table.quoted(name)).alias(f"_aml_spark_{name}") for name in names])
    on = [F.col(table.quoted(name)).eqNullSafe(F.col(table.quoted(f"_aml_spark_{name}"))) for name in job.key]
    return renamed, on


def _check_key(job: Job, df: DataFrame) -> None:
    from pyspark.sql import functions as F

    each = df.groupBy(*[table.quoted(name) for name in job.key]).agg(F.count("*").alias("_aml_spark_count"))
    if each.where("_aml_spark_count > 1").head(1):
        raise _no_key(job)


def _beside_others(job: Job, scored: DataFrame, existing: DataFrame) -> DataFrame:
    """The rows with what columns of others hold for them now."""
    from pyspark.sql import functions as F

    held, on = _to_join(job, existing, [*job.key, *job.others])
    held = held.dropDuplicates([f"_aml_spark_{name}" for name in job.key])
    others = [F.col(table.quoted(f"_aml_spark_{name}")).alias(name) for name in job.others]
    return scored.join(held, on, "left").select(*[F.col(table.quoted(name)) for name in scored.columns], *others)


@contextlib.contextmanager
def _quarantined(job: Job, scored: DataFrame) -> Iterator[tuple[DataFrame, int]]:
    """The rows without their reasons, once those are written, and how many have one."""
    from pyspark.sql import functions as F

    if job.request.on_error != "quarantine":
        yield scored, 0
        return
    scored.persist()
    try:
        failed = scored.where(F.col(frame.REASON).isNotNull())
        key = [F.col(table.quoted(name)) for name in job.key]
        told = failed.select(*key, F.col(frame.REASON).alias("reason"), frame.MODEL_VERSION)
        rejected = _watch(job, failed.count, scored.sparkSession)
        if rejected:
            place = rejects.place(job.target)
            _watch(job, lambda: rejects.add(told, job.target, job.entry), scored.sparkSession, place)
        yield scored.drop(frame.REASON), rejected
    finally:
        scored.unpersist()


def _watch(job: Job, do: Callable[[], Any], spark: SparkSession | None = None, place: Table | None = None) -> Any:
    """Do what Spark does for us, with progress; its errors become ours."""
    with _translated(job, place), progress.shown(job.title) as show:
        return watched(spark or job.spark, job.title, show, do)


@contextlib.contextmanager
def _translated(job: Job, place: Table | None = None) -> Iterator[None]:
    try:
        yield
    except AmlSparkError:
        raise
    except Exception as error:
        raise _told(job, error, place) from None


def _told(job: Job, error: Exception, place: Table | None = None) -> AmlSparkError:
    text = str(error)
    if told := re.search(r"PredictionError: (.+)", text):
        return ScoringError(
            f"{told[1].strip()}. {job.target.text!r} is left as it was",
            hint="spark_udf(…, show_message=True) shows the model's own message, which may quote a row; "
            "on_error='quarantine' with a key tells which rows they are",
        )
    if feed.DUPLICATE in text:
        return _no_key(job)
    if feed.NOT_APPENDED in text:
        return FeedError(
            f"rows of {job.source.text!r} were updated or deleted, which can't be followed without a key",
            hint="key=[…] with the columns that identify a row, and overwrite=True once; or on_missing_feed='rescore'",
        )
    if job.entry.scope != "all" and feed.is_gone(error):
        backfills = job.entry.scope == "backfill"
        return FeedError(
            f"the changes of {job.source.text!r} up to version {job.entry.source_version} can't be read "
            f"({condition(error)})",
            hint="score(force=True) scores the newest version"
            if backfills
            else "on_missing_feed='diff' compares the rows, on_missing_feed='rescore' scores them all",
        )
    return writer.write_error(place or job.target, error)


def _no_key(job: Job) -> SchemaError:
    names = ", ".join(table.quoted(name) for name in job.key)
    return SchemaError(
        f"key={list(job.key)} doesn't identify a row of {job.source.text!r}: rows share a key, or did in one of the "
        "versions since",
        hint=f"SELECT {names}, count(*) FROM {job.source.sql} GROUP BY {names} HAVING count(*) > 1 shows them; where "
        "it shows none any more: force=True",
    )


def committed(job: Job, commits: Sequence[Commit]) -> Commit:
    """The job's own commit in its target's history.

    Raises:
        ConflictError: there is none: Delta drops a write of a sequence that was taken meanwhile without an error.
    """
    for commit in commits:
        written = Entry.of(commit)
        if written is not None and written.attempt == job.entry.attempt:
            return commit
    forgets = not job.target.is_path and forgets_names(job.spark)
    raise ConflictError(
        f"another run of score() wrote {job.target.text!r} at the same time"
        + (", or a session before this one, whose catalog was forgotten" if forgets else "")
        + "; this run wrote nothing",
        hint="run it again" + ("; without a metastore give the path of a target, not a name" if forgets else ""),
    )
