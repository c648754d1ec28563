"""Score a Delta table into a Delta table."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aml_spark import __version__, progress, rejects, table
from aml_spark.errors import (
    AmlSparkError,
    ArgumentError,
    SchemaError,
    ScoringError,
    TableNotFoundError,
    TargetError,
    did_you_mean,
    listed,
)
from aml_spark.ledger import Entry, Ledger, digest
from aml_spark.model import PinnedModel, pin
from aml_spark.session import watched
from aml_spark.signature import check_columns
from aml_spark.spark_ml import is_spark_ml, transformed
from aml_spark.table import Detail, Table
from aml_spark.udf import make_udf

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import DataType

_logger = logging.getLogger(__name__)

_ON_ERROR = ("raise", "null", "quarantine")
_REASON = "_aml_spark_reason"

MODEL_VERSION = "model_version"
"""Name of the column that says which model version scored a row."""


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
    """

    rows: int
    model_version: str
    source_version: int
    target_version: int
    skipped: bool
    rejected: int = 0


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
    overwrite: bool = False,
    force: bool = False,
) -> ScoreResult:
    """Score one version of a Delta table and make the predictions a Delta table's whole content, in one commit.

    The commit carries its lineage as `userMetadata`. Scoring the same version of the source with the same model and
    the same arguments again does nothing, unless somebody changed the target's rows since.

    Args:
        spark: the session.
        model: address of the model; an alias is resolved once.
        source: Delta table to score: a name, a path, or a URI such as `abfss://…`. Its newest version is read.
        target: Delta table to write, named in the same ways; made where it doesn't exist.
        mode: `"all"`: the target becomes the predictions for the whole source.
        key: columns that identify a row; they are always kept.
        columns: columns of the source that the target keeps; None keeps all.
        where: SQL condition on the source's columns; other rows are left out. What it says is compared, not what it
            means today: with `current_date()` in it, give `force` each day.
        prediction: name of the prediction's column.
        result_type: Spark type of a prediction, as for `spark_udf`.
        params: parameters of the model's `predict`.
        on_error: what becomes of rows on which the model fails: `"raise"` writes nothing at all; `"null"` gives them
            null; `"quarantine"` gives them null and writes their `key` and the reason to a table beside the target,
            which `read_rejects` reads. Its predictions are kept in Spark's cache while they are written.
        overwrite: replace a target that wasn't written by `score` with the same arguments, its schema included.
        force: score again even where the target holds these predictions.

    Raises:
        ModelNotFoundError: no such model, version or alias.
        TableNotFoundError: the source isn't a Delta table.
        SchemaError: the source's columns don't fit the model, or the result doesn't fit the target.
        TargetError: the target is the source, or holds something that would be lost.
        TableError: the target can't be written.
        ScoringError: the model failed, or another job wrote the target meanwhile.

        Nothing is written in any of these cases.
    """
    if mode != "all":
        raise ArgumentError(f"mode is {mode!r}; expected 'all'")
    if on_error not in _ON_ERROR:
        raise ArgumentError(f"on_error is {on_error!r}; expected one of {listed(_ON_ERROR)}")
    if on_error == "quarantine" and not key:
        raise ArgumentError(
            "on_error='quarantine' needs key=: by it the rejected rows are told", hint="key=['id'], or on_error='null'"
        )
    source_table, target_table = Table.of(source), Table.of(target)
    found = table.detail(spark, source_table)
    if found is None:
        raise TableNotFoundError(f"the source {source!r} doesn't exist; expected a Delta table")
    old = table.detail(spark, target_table)
    if old is not None and old.id == found.id:
        raise TargetError(f"the target {target!r} is the source itself", hint="name another table as target")
    pinned = pin(model)
    df = _selected(table.read(spark, source_table, found.version), where, source)
    check_columns(pinned, df)
    kept = _kept(df, key, columns, prediction)
    ledger = Ledger() if old is None else Ledger.of(table.history(spark, target_table))
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
    )
    _refuse_loss(target, old, ledger, wanted, overwrite)
    if ledger.version is not None and ledger.holds(wanted) and not force:
        _logger.info("%s holds %s of version %d already", target, pinned.label, found.version)
        return ScoreResult(
            rows=0,
            model_version=_version_text(pinned),
            source_version=found.version,
            target_version=ledger.version,
            skipped=True,
        )
    if on_error == "quarantine":
        rejects.check(spark, target_table, key or ())
    scored = _scored(spark, df, pinned, kept, prediction, result_type, params, on_error)
    rejected = 0
    if old is not None and not overwrite:
        _refuse_schema(scored.drop(_REASON), spark.sql(f"SELECT * FROM {target_table.sql} LIMIT 0"), target)
    title = f"score {source} → {target}"
    with contextlib.ExitStack() as stack:
        if on_error == "quarantine":
            scored.persist()
            stack.callback(scored.unpersist)
            rejected = _quarantine(spark, scored, target_table, wanted, list(key or ()), title)
            scored = scored.drop(_REASON)
        _write(spark, scored, target_table, old, wanted, replace_schema=overwrite, title=title)
    return replace(_read_back(spark, target_table, wanted, pinned), rejected=rejected)


def _selected(df: DataFrame, where: str | None, source: str) -> DataFrame:
    from pyspark.errors import AnalysisException, ParseException

    if where is None:
        return df
    try:
        selected = df.where(where)
        selected.schema  # noqa: B018  # on Connect a plan is analysed when its schema is asked for
        return selected
    except (AnalysisException, ParseException) as error:
        raise SchemaError(
            f"where={where!r} isn't a condition on the columns of {source!r} ({table.condition(error)}); "
            f"they are {listed(df.columns)}"
        ) from None


def _kept(df: DataFrame, key: Sequence[str] | None, columns: Sequence[str] | None, prediction: str) -> list[str]:
    for name, value in (("key", key), ("columns", columns)):
        if isinstance(value, str):
            raise ArgumentError(f"{name} is the text {value!r}; expected a list of names", hint=f"{name}=[{value!r}]")
        for column in value or ():
            if column not in df.columns:
                raise SchemaError(
                    f"{name} names {column!r}, which the source lacks; it has {listed(df.columns)}",
                    hint=did_you_mean(column, df.columns),
                )
    kept = list(dict.fromkeys([*(key or ()), *(df.columns if columns is None else columns)]))
    for name in (prediction, MODEL_VERSION):
        if name in kept:
            raise SchemaError(
                f"the target can't have two columns {name!r}: the source has one, and one is written",
                hint=f"leave it out with columns={[column for column in kept if column != name]}"
                if name == MODEL_VERSION
                else "name the prediction otherwise with prediction=",
            )
    return kept


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


def _scored(
    spark: SparkSession,
    df: DataFrame,
    pinned: PinnedModel,
    kept: Sequence[str],
    prediction: str,
    result_type: DataType | str | None,
    params: Mapping[str, Any] | None,
    on_error: str,
) -> DataFrame:
    from pyspark.sql import functions as F

    keep = [F.col(table.quoted(name)) for name in kept]
    version = F.lit(_version_text(pinned)).alias(MODEL_VERSION)
    if is_spark_ml(pinned):
        if params or on_error != "raise":
            raise ArgumentError(f"{pinned.label!r} is a model of Spark ML, which takes no params and no on_error")
        scored, name = transformed(spark, pinned, df)
        column = F.col(table.quoted(name))
        return scored.select(*keep, (column.cast(result_type) if result_type else column).alias(prediction), version)
    udf = make_udf(spark, pinned, result_type, params=params, on_error=on_error)
    schema = pinned.metadata.get_input_schema()
    inputs = schema.input_names() if schema is not None and schema.has_input_names() else list(df.columns)
    names = [name for name in inputs if name in df.columns]
    if schema is not None and not schema.has_input_names():
        takes = schema.inputs[0].shape[1:] if schema.is_tensor_spec() else (len(schema.inputs),)
        if takes != (len(names),):
            raise SchemaError(
                f"the signature of the model {pinned.label!r} names no columns, so which of {listed(names)} it takes "
                "can't be told",
                hint="log it with a signature that names them: infer_signature(DataFrame, …)",
            )
    columns = [F.struct(*[F.col(table.quoted(name)).alias(name) for name in names])]
    if schema is not None and schema.has_input_names() and inputs == names:
        columns = []  # all that the signature names is there, and the UDF takes it by itself
    if on_error != "quarantine":
        return df.select(*keep, udf(*columns).alias(prediction), version)
    both = df.select(*keep, udf(*columns).alias(_REASON))
    predicted, reason = F.col(f"{_REASON}.prediction"), F.col(f"{_REASON}.reason")
    return both.select(*keep, predicted.alias(prediction), version, reason.alias(_REASON))


def _quarantine(
    spark: SparkSession, scored: DataFrame, target: Table, entry: Entry, key: Sequence[str], title: str
) -> int:
    from pyspark.sql import functions as F

    failed = scored.where(F.col(_REASON).isNotNull())
    told = failed.select(*[F.col(table.quoted(name)) for name in key], F.col(_REASON).alias("reason"), MODEL_VERSION)
    found: list[int] = []
    _watch(spark, target, title, lambda: found.append(failed.count()))
    if found[0]:
        _watch(spark, rejects.place(target), title, lambda: rejects.add(told, target, entry))
    return found[0]


def _refuse_schema(scored: DataFrame, existing: DataFrame, target: str) -> None:
    has = {field.name: field.dataType.simpleString() for field in existing.schema.fields}
    gets = {field.name: field.dataType.simpleString() for field in scored.schema.fields}
    if has != gets:
        differing = sorted(name for name in {*has, *gets} if has.get(name) != gets.get(name))
        told = "; ".join(f"{name!r}: has {has.get(name, 'none')}, gets {gets.get(name, 'none')}" for name in differing)
        raise SchemaError(
            f"the result doesn't fit the columns of the target {target!r}: {told}",
            hint="overwrite=True replaces the target with its schema",
        )


def _write(
    spark: SparkSession,
    scored: DataFrame,
    target: Table,
    old: Detail | None,
    entry: Entry,
    *,
    replace_schema: bool,
    title: str,
) -> None:
    write = functools.partial(
        table.replace,
        scored,
        target,
        exists=old is not None,
        metadata=entry.to_json(),
        transaction=("aml_spark", entry.sequence),  # one for all that we write to a table, whatever the source
        new_schema=replace_schema,
    )
    _watch(spark, target, title, write)


def _watch(spark: SparkSession, target: Table, title: str, work: Callable[[], object]) -> None:
    """Do what Spark does for us, with progress; its errors become ours."""
    try:
        with progress.shown(title) as show:
            watched(spark, title, show, work)
    except AmlSparkError:
        raise
    except Exception as error:
        if told := re.search(r"PredictionError: (.+)", str(error)):
            raise ScoringError(f"{told[1].strip()}. {target.text!r} is left as it was") from None
        raise table.write_error(target, error) from None


def _read_back(spark: SparkSession, target: Table, entry: Entry, pinned: PinnedModel) -> ScoreResult:
    # Delta drops a write of a transaction version that was taken meanwhile without an error; the history tells.
    for commit in table.history(spark, target):
        written = Entry.from_json(commit.metadata)
        if written is not None and written.attempt == entry.attempt:
            return ScoreResult(
                rows=commit.rows or 0,
                model_version=_version_text(pinned),
                source_version=entry.source_version,
                target_version=commit.version,
                skipped=False,
            )
    raise ScoringError(
        f"another run of score() wrote {target.text!r} at the same time; this run wrote nothing", hint="run it again"
    )


def _version_text(pinned: PinnedModel) -> str:
    return pinned.version or pinned.digest[:12]
