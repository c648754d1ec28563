"""Hold a table against a baseline: what `aml_spark.monitor` does, from its arguments to the report."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from aml_spark import progress, table
from aml_spark.analysis import condition
from aml_spark.errors import AmlSparkError, ArgumentError, SchemaError, TableError, did_you_mean, listed, no_list
from aml_spark.model import PinnedModel, pin
from aml_spark.monitoring.comparison import Comparison, Predictions, compared
from aml_spark.monitoring.limits import limits_of
from aml_spark.monitoring.performance import outcomes, reading
from aml_spark.monitoring.performance.outcome import Task
from aml_spark.monitoring.profiles import fields
from aml_spark.monitoring.report import alerts
from aml_spark.monitoring.report.alerts import OnBreach
from aml_spark.monitoring.report.report import Report
from aml_spark.monitoring.selection import Opened, Selection, opened
from aml_spark.session import watched

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Compat = Literal["azureml"]


def monitor(
    spark: SparkSession,
    *,
    baseline: str | DataFrame | Selection,
    target: str | DataFrame | Selection,
    model: str | None = None,
    label: str | None = None,
    prediction: str | None = None,
    exact: bool = False,
    columns: Sequence[str] | None = None,
    by: str | None = None,
    time_column: str | None = None,
    window: str | None = None,
    key: Sequence[str] | None = None,
    labels: str | DataFrame | None = None,
    expectations: Mapping[str, str] | None = None,
    thresholds: Mapping[str, float | Mapping[str, float | None] | None] | None = None,
    compat: Compat | None = None,
    task: Task | None = None,
    classes: Sequence[Any] | None = None,
    decision: float = 0.5,
    importance: Any = None,
    profiles: str | None = None,
    on_breach: OnBreach | None = None,
) -> Report:
    """Hold a table against a baseline: whether its data drifted, whether it is sound, whether the model is as good.

    Spark's tasks count their own rows, and its aggregates put that together. No row comes to the driver, but values of
    columns do that stand in the report: the most frequent texts, the least and greatest numbers.

    Args:
        spark: the session.
        baseline: what is as it should be: a table's name or path, a DataFrame, or a `Selection` of rows of either. The
            rows that the model was trained on show what it knows; for its performance take such as it wasn't trained
            on, since on the others it is better than it will ever be.
        target: what is looked at, such as the rows that were scored since, named in the same ways.
        model: address of the model, as in `score`: its signature says which columns matter and of which type they are,
            and of what it is made how much each matters.
        label: column with what came true, or an SQL expression on the columns; null where that isn't known yet.
        prediction: column with what was predicted, or an expression; None takes `"prediction"` where it is there. See
            `aml_spark.monitoring.performance.outcomes.outcomes` for the forms that it may have.
        exact: also compute Kolmogorov-Smirnov, Wasserstein and shares out of bounds from all values of all rows instead
            of from histograms, which takes a second pass over both tables. Slices and windows stay with histograms.
        columns: those to compare; None takes those of the model, or else all but the key's and the time's.
        by: column whose values are slices that are compared one by one: the 20 most frequent, and the rest together.
        time_column: date or timestamp that says when a row is of.
        window: `"hour"`, `"day"`, `"week"`, `"month"`, `"quarter"` or `"year"`: each of the target's is compared with
            the whole baseline, for a history of drift. Needs `time_column`.
        key: columns that identify a row: rows that have it twice are counted, and `labels` are joined by it.
        labels: a table with the key and the label, for labels that come later. A baseline that has the key, and no
            labels, gets them, too.
        expectations: SQL conditions that rows should fulfil, by a name of yours.
        thresholds: by metric a number for all columns, by column such a mapping; None shows a value only. Defaults are
            `THRESHOLDS` in `drift.drift`, `quality.quality` and `performance.performance` of `aml_spark.monitoring`.
        compat: `"azureml"` computes drift and the columns' quality by Azure Machine Learning's own definitions, see
            `azureml`.
        task: `"classification"` or `"regression"`; None tells them apart by the columns' types.
        classes: in the order of the prediction's probabilities.
        decision: least probability with which the second of two classes counts as predicted.
        importance: how much each column matters to the model: a mapping, SHAP values of a sample, or a fitted model.
            None asks `model`.
        profiles: Delta table in which a baseline's profile is kept, and found again by the next call.
        on_breach: a function that is called with a report that breached, `"raise"`, or a webhook's address.

    Raises:
        ArgumentError: arguments that can't be meant, or don't go together.
        SchemaError: columns that aren't there, or that don't go together.
        TableNotFoundError: a table isn't there.
        TableError: a table can't be read.
        ModelNotFoundError: no such model; ModelError: it can't be opened.
        BreachError: something breached, with `on_breach="raise"`.
    """
    alerts.check(on_breach)
    if window is not None and window not in fields.WINDOWS:
        raise ArgumentError(f"window is {window!r}; expected one of {listed(fields.WINDOWS)}")
    if compat not in (None, "azureml"):
        raise ArgumentError(f"compat is {compat!r}; expected 'azureml', or None for this library's own definitions")
    if compat and (by or window or exact):
        raise ArgumentError(
            "compat='azureml' has no slices and no windows, and is exact", hint="leave out by=, window= and exact="
        )
    limits = limits_of(thresholds, expectations)
    pinned = pin(model) if model else None
    before = opened(spark, baseline, time_column=time_column, is_timed=False)
    after = opened(spark, target, time_column=time_column)
    if window and after.time_column is None:
        raise ArgumentError(f"window={window!r} needs a column that says when a row is of", hint="time_column='…'")
    there = [*before.df.columns, *after.df.columns]
    if time_column is not None and time_column not in there:
        raise SchemaError(
            f"time_column names {time_column!r}, which neither table has; they have {listed(dict.fromkeys(there))}",
            hint=did_you_mean(time_column, there),
        )
    later: list[str] = []
    if labels is not None:
        doing = "monitor: labels"
        with _translated(), progress.shown(doing) as show:
            before, after, later = watched(
                spark, doing, show, lambda: _labelled(spark, before, after, labels, label, key)
            )
    guess = prediction or "prediction"
    scored_before = scored = None
    if prediction is not None or label is not None or guess in after.df.columns:
        if guess not in after.df.columns and (re.fullmatch(r"\w+", guess) or reading.lacks(after.df, before.df, guess)):
            raise _missing(after.df, guess)
        told = {"task": task, "classes": classes, "decision": decision}
        scored_before = _predictions(before.df, after.df, guess, label, **told)
        scored = _predictions(after.df, before.df, guess, label, **told)
    named = reading.names_in(label, [*before.df.columns, *after.df.columns]) if label is not None else []
    others = [name for name in named if name in later or name not in before.df.columns or name not in after.df.columns]
    others += [*(key or ()), *filter(None, (after.time_column, before.time_column))]
    names = _columns(before.df, after.df, columns, pinned, others, scored)
    leaves = [name for of in (before, after) for name in fields.names_of(of.df)]
    known = [name for name in dict.fromkeys(leaves) if name in names or name.partition(".")[0] in names]
    for name in limits.columns - set(known):
        raise ArgumentError(
            f"thresholds names the column {name!r}, which isn't compared; expected one of {listed(known)}",
            hint=did_you_mean(name, known),
        )
    asked = Comparison(
        baseline=before,
        target=after,
        columns=names,
        limits=limits,
        scored_before=scored_before,
        scored=scored,
        model=pinned,
        importance=importance,
        by=by,
        window=window,
        key=key,
        expectations=expectations,
        exact=exact,
        compat=compat,
        profiles=profiles,
    )
    title = f"monitor {after.name or 'a DataFrame'}"
    with _translated(), progress.shown(title) as show:
        report = watched(spark, title, show, lambda: compared(asked))
    alerts.alert(report, on_breach)
    return report


def _labelled(
    spark: SparkSession,
    before: Opened,
    after: Opened,
    labels: str | DataFrame,
    label: str | None,
    key: Sequence[str] | None,
) -> tuple[Opened, Opened, list[str]]:
    """Both tables' rows with the labels that came later, and nothing else of that table; and the labels' columns.

    The baseline gets them where it has the key, and no labels of its own.
    """
    if not key:
        raise ArgumentError("labels= needs key=: by it they are joined", hint="key=['id']")
    if label is None:
        raise ArgumentError("labels= needs label=: the column of it, or an expression", hint="label='late'")
    found = opened(spark, labels).df
    named = [name for name in reading.names_in(label, found.columns) if name not in key]
    if not named:
        raise SchemaError(
            f"label={label!r} names no column of the labels; they have {listed(found.columns)}",
            hint=did_you_mean(label, found.columns),
        )
    come = found.select([table.quoted(name) for name in found.columns if name in key or name in named])
    after = replace(after, df=outcomes.joined(after.df, come, key))
    if {*key} <= {*before.df.columns} and not {*named} & {*before.df.columns}:
        before = replace(before, df=outcomes.joined(before.df, come, key))
    return before, after, named


def _predictions(
    df: DataFrame, other: DataFrame, prediction: str, label: str | None, **more: Any
) -> Predictions | None:
    """Where a table's predictions are, and its labels where it has them; None where it has no predictions."""
    if reading.lacks(df, other, prediction):
        return None
    known = None if label is None or reading.lacks(df, other, label) else label
    return Predictions(prediction=prediction, label=known, **more)


def _missing(df: DataFrame, name: str) -> SchemaError:
    return SchemaError(
        f"the target has no column of predictions {name!r}; it has {listed(df.columns)}",
        hint=did_you_mean(name, df.columns) or "prediction='…' names it",
    )


def _columns(
    before: DataFrame,
    after: DataFrame,
    asked: Sequence[str] | None,
    model: PinnedModel | None,
    others: Sequence[str | None],
    scored: Predictions | None,
) -> list[str]:
    """The columns to compare.

    Raises:
        ArgumentError: a text is given instead of a list.
        SchemaError: one is in neither table.
    """
    there = list(dict.fromkeys([*after.columns, *before.columns]))
    nested = [name for df in (after, before) for name in fields.names_of(df)]
    asked = asked if asked is None or isinstance(asked, str) else list(asked)
    if isinstance(asked, str):
        raise no_list("columns", asked)
    if asked is not None and not asked:
        raise ArgumentError("columns names none; expected those to compare", hint="leave columns= out for all of them")
    for name in asked or ():
        if name not in there and name not in nested:
            raise SchemaError(
                f"columns names {name!r}, which neither table has; they have {listed(there)}",
                hint=did_you_mean(name, there, argument="columns"),
            )
    inputs = model.metadata.get_input_schema() if model else None
    if asked is None and inputs is not None and inputs.has_input_names():
        asked = [name for name in inputs.input_names() if name in there]
    if asked is None:
        return [name for name in there if name not in others]
    seen = [scored.prediction] if scored and scored.prediction in there else []
    return list(dict.fromkeys([*asked, *seen]))


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Spark's errors without its text, which may quote a row."""
    try:
        yield
    except (AmlSparkError, KeyboardInterrupt):
        raise
    except Exception as error:
        if not type(error).__module__.startswith(("pyspark", "py4j")):
            raise
        raise TableError(
            f"the tables can't be compared: {condition(error)}",
            hint="see Spark's own error: df.agg(…) over the same tables, or the driver's log",
        ) from None
