"""Which model scored which table: what a target's history says, and what is told to MLflow."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_spark import table
from aml_spark.datalake import reach
from aml_spark.ledger import Entry
from aml_spark.model import PinnedModel
from aml_spark.table import Table
from aml_spark.tags import SCORED_TABLE

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredCommit:
    """One commit with which `score`, `score_stream` or `backfill` wrote a table.

    Args:
        version: the version of the target that it made.
        model_uri: the model, without alias.
        model_version: its version in the registry, or None.
        run_id: the run that logged the model, or None.
        source: name or path of the source.
        source_version: the version of it that was scored.
        scope: `"all"` where it replaced all rows, `"changes"` where it changed some, `"backfill"` where it scored some
            again.
        rows: how many rows it wrote, or None where Delta doesn't tell.
        deleted: how many it deleted, in the same way.
        library: the version of this library that wrote it.
        query_id: the streaming query that asked for it, or None.
        batch_id: the query's micro-batch, or None.
        backfill: the name of the backfill, or None.
    """

    version: int
    model_uri: str
    model_version: str | None
    run_id: str | None
    source: str
    source_version: int
    scope: str
    rows: int | None
    deleted: int | None
    library: str
    query_id: str | None = None
    batch_id: int | None = None
    backfill: str | None = None


def lineage(spark: SparkSession, target: str) -> list[ScoredCommit]:
    """The commits of `score` in a table's history, newest first.

    Args:
        spark: the session.
        target: Delta table: a name, a path or a URI.

    Raises:
        TableNotFoundError: it isn't there, or isn't a Delta table.
    """
    of = Table.of(reach(spark, target))
    known = table.history(spark, of)
    if not known:
        raise table.missing(of, f"{target!r} doesn't exist; expected a Delta table that score() wrote")
    commits = [(commit, Entry.of(commit)) for commit in known]
    return [
        ScoredCommit(
            version=commit.version,
            model_uri=entry.model_uri,
            model_version=entry.model_version,
            run_id=entry.run_id,
            source=entry.source,
            source_version=entry.source_version,
            scope=entry.scope,
            rows=commit.rows,
            deleted=commit.deleted,
            library=entry.library,
            query_id=entry.query_id,
            batch_id=entry.batch_id,
            backfill=entry.backfill["name"] if entry.backfill else None,
        )
        for commit, entry in commits
        if entry is not None
    ]


def tag_version(pinned: PinnedModel, target: Table, entry: Entry) -> None:
    """Tell the registry which table a model version scores, where it doesn't know yet; a warning where it can't."""
    import mlflow

    if pinned.name is None or pinned.version is None:
        return
    tag = f"{SCORED_TABLE}.{hashlib.sha256(target.text.encode()).hexdigest()[:12]}"
    value = f"{target.text} (from {entry.source})"
    try:
        client = mlflow.MlflowClient()
        if client.get_model_version(pinned.name, pinned.version).tags.get(tag) != value:
            client.set_model_version_tag(pinned.name, pinned.version, tag, value)
    except Exception as error:  # the rows are committed: no registry may turn that into a failure
        _logger.warning(
            "the registry couldn't be told that %s scores %s (%s); the next run tries again",
            pinned.label,
            target,
            type(error).__name__,
        )


def log_source(source: Table, entry: Entry) -> None:
    """Log the source with its Delta version as an input of the active MLflow run, where there is one."""
    import mlflow

    if mlflow.active_run() is None:
        return
    from mlflow.data.delta_dataset_source import DeltaDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    try:
        place = {"path": source.text} if source.is_path else {"delta_table_name": source.text}
        found = DeltaDatasetSource(**place, delta_table_version=entry.source_version)
        dataset = MetaDataset(found, name=source.text.rsplit("/", 1)[-1])  # type: ignore[abstract]  # nowhere in MLflow
        mlflow.log_input(dataset, context="scoring")
    except Exception as error:  # as above
        _logger.warning("the source couldn't be logged as an input of the run (%s)", type(error).__name__)
