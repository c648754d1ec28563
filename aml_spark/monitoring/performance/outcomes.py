"""Outcomes from rows: Spark groups and sums them, and no row leaves it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aml_spark import table
from aml_spark.errors import ArgumentError, SchemaError, TableError, did_you_mean, listed
from aml_spark.monitoring.performance.outcome import BINS, Calibration, Moments, Outcome, Scores, Task, square
from aml_spark.monitoring.performance.reading import Reading, column, finite, reading, text
from aml_spark.monitoring.profiles.fields import (
    bucket_of,
    in_groups,
    in_order,
    leaves_of,
    named,
    slice_of,
    slices_of,
    window_of,
)
from aml_spark.monitoring.profiles.histogram import Histogram

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import Column, DataFrame

_EPSILON = 2.0**-52
"""NumPy's of float64: scikit-learn keeps probabilities so far from 0 and 1 for the log loss, and labels from 0 for the
percentage error."""
_NONE, _FOREIGN = -2, -1
"""Instead of a class' place: there is none, or it isn't among the classes."""


def outcomes(
    df: DataFrame,
    *,
    label: str | None,
    prediction: str,
    task: Task | None = None,
    classes: Sequence[Any] | None = None,
    decision: float = 0.5,
    by: str | None = None,
    slices: Sequence[str] | None = None,
    time_column: str | None = None,
    window: str | None = None,
) -> list[Outcome]:
    """What became of the predictions of a table.

    A prediction is a class itself (text, integer, boolean), the probability of the positive class (a floating number,
    beside labels of two classes), the probabilities of all classes (an array), or a number that is to be near the
    label. Scores that are no probabilities do as well, where areas under curves are asked for only.

    Args:
        df: the rows.
        label: column with what came true, or an SQL expression such as `"arr_delay > 15"`; null where that isn't known
            yet. None where no row has one.
        prediction: column, or an SQL expression.
        task: None takes "classification" for labels that are boolean or texts, predictions that are classes or arrays,
            and integers that are 0 and 1 only beside floating predictions from 0 to 1; else "regression".
        classes: in the order of the probabilities, the second of two being the positive one. None takes false and
            true, 0 and 1, or the distinct labels in the order of their values; beside an array of K probabilities, 0 to
            K−1 where labels are such integers, or where there are none. Rows with others are only counted: `foreign`.
        decision: least score of the positive class with which it counts as predicted, of two classes. Of more it is the
            class with the greatest score, the first of equal ones.
        by: column: slices of the rows, as `passes.profiles` has them.
        slices: values of it that have one; None takes the most frequent.
        time_column: date or timestamp of a row.
        window: time windows of the rows, as `passes.profiles` has them.

    Returns:
        One for each slice and each window that has rows, in the order of `passes.profiles`; one where there is nothing
        to group by, or no row.

    Raises:
        ArgumentError: arguments that don't go together.
        SchemaError: columns that aren't there, or whose types don't go together; more than 100 classes.
    """
    if not math.isfinite(decision):
        raise ArgumentError(f"decision is {decision!r}; expected a finite number")
    read = [column(df, label, "label").alias("label"), column(df, prediction, "prediction").alias("prediction")]
    rows, slices = _rows(df, read, by, slices, time_column, window)
    plan = reading(df.select(*read), task, classes, finest=by is None and window is None)
    found = list(_regressions(rows, plan) if plan.task == "regression" else _classifications(rows, plan, decision))
    if not found:
        return [Outcome(task=plan.task, classes=plan.classes, confusion=square(len(plan.classes)))]
    place_of = in_order(slices)
    return sorted(found, key=lambda one: place_of(one.slice, one.window))


def joined(df: DataFrame, labels: DataFrame, key: str | Sequence[str]) -> DataFrame:
    """Rows with the labels that came later: null where none came yet.

    Args:
        df: the rows, scored.
        labels: the key and what became known.
        key: columns of both that identify a row.

    Raises:
        SchemaError: the key isn't in both, or another column is.
        TableError: `labels` has more than one row for a key.
    """
    from pyspark.sql import functions as F

    names = [key] if isinstance(key, str) else list(key)
    for what, columns in (("the rows", df.columns), ("the labels", labels.columns)):
        for name in names:
            if name not in columns:
                told = f"key names {name!r}, which {what} lack; they have {listed(columns)}"
                raise SchemaError(told, hint=did_you_mean(name, columns))
    if both := [name for name in labels.columns if name in df.columns and name not in names]:
        raise SchemaError(
            f"the rows and the labels both have {listed(both)}; expected only the key {listed(names)} in both",
            hint=f"leave them out of the rows: df.drop({', '.join(map(repr, both))})",
        )
    of = [F.col(table.quoted(name)) for name in names]
    counted = labels.dropna(subset=[table.quoted(name) for name in names]).groupBy(*of).agg(F.count("*").alias("rows"))
    if twice := counted.where("rows > 1").count():
        raise TableError(
            f"the labels have more than one row for {twice:,} {'keys' if twice > 1 else 'key'} ({listed(names)})",
            hint=f"keep one of each: labels.dropDuplicates({names!r})",
        )
    return df.join(labels, on=names, how="left")


# Parts of a table


def _rows(
    df: DataFrame,
    read: Sequence[Column],
    by: str | None,
    slices: Sequence[str] | None,
    time_column: str | None,
    window: str | None,
) -> tuple[DataFrame, Sequence[str] | None]:
    """What is read of rows, with their slice or window, and the slices that there may be, in order."""
    from pyspark.sql import functions as F

    nothing = F.lit(None).cast("string")
    if by is None and window is None:
        return df.select(*read, nothing.alias("slice"), nothing.alias("window")), None
    names = [f"c{place}" for place in range(len(df.columns))]
    own = [F.col(table.quoted(of)).alias(name) for of, name in zip(df.columns, names, strict=True)]
    base = df.select(*read, *own)
    keys: dict[str, Column] = {}
    leaves = list(leaves_of(df, names))
    if by is not None:
        field = named(leaves, by, "by")
        slices = slices_of(base, field) if slices is None else slices
        keys["slice"] = slice_of(field, slices)
    if window is not None:
        keys["window"] = window_of(leaves, time_column, window)
    rows = in_groups(base, keys, F.col("label"), F.col("prediction"))
    return rows.select("*", *(nothing.alias(name) for name in ("slice", "window") if name not in keys)), slices


def _groups(df: DataFrame) -> Iterator[tuple[str | None, str | None, pd.DataFrame]]:
    """What was grouped: slice, window, and the groups."""
    import pandas as pd

    parts: dict[tuple[str | None, str | None], list[Any]] = {}
    for row in df.collect():
        parts.setdefault((row["slice"], row["window"]), []).append(tuple(row))
    for (value, window), rows in parts.items():
        yield value, window, pd.DataFrame(rows, columns=df.columns)


def _bucketed(number: Column) -> list[Column]:
    from pyspark.sql import functions as F

    return [
        F.count("*").alias("count"),
        F.min(number).alias("low"),
        F.max(number).alias("high"),
        F.avg(number).alias("mean"),
    ]


def _moments(**columns: Column) -> list[Column]:
    from pyspark.sql import functions as F

    each = {}
    for name, one in columns.items():
        # Of equal numbers Spark's mean may lie beside them, and its variance above 0.
        are_equal = F.min(one) == F.max(one)
        each[name] = F.when(are_equal, F.min(one)).otherwise(F.avg(one))
        each[f"{name}_variance"] = F.when(are_equal, 0.0).otherwise(F.var_pop(one))
    return [one.alias(name) for name, one in each.items()]


def _histogram(part: pd.DataFrame, level: int) -> Histogram:
    """Of groups that have a code, some of them the same."""
    import numpy as np

    if not len(part):
        return Histogram.empty()
    part = part.sort_values("code", kind="stable")
    codes, starts = np.unique(part["code"].to_numpy(np.int64), return_index=True)
    each, lows, highs, means = (part[name].to_numpy() for name in ("count", "low", "high", "mean"))
    counts = np.add.reduceat(each.astype(np.int64), starts)
    lows, highs = (
        ufunc.reduceat(values.astype(np.float64), starts) for ufunc, values in ((np.minimum, lows), (np.maximum, highs))
    )
    shares = each / np.repeat(counts, np.diff([*starts, len(each)]))
    means = np.clip(np.add.reduceat(means.astype(np.float64) * shares, starts), lows, highs)
    return Histogram(level=level, codes=codes, counts=counts, lows=lows, highs=highs, means=means).fitted()


def _losses(part: pd.DataFrame, *names: str) -> dict[str, Moments]:
    return {name: Moments.of(part["count"], part[name], part[f"{name}_variance"]) for name in names}


# Regressions


def _regressions(rows: DataFrame, plan: Reading) -> Iterator[Outcome]:
    from pyspark.sql import functions as F

    numbers = rows.select("slice", "window", finite("label").alias("y"), finite("prediction").alias("p"))
    residual = F.col("y") - F.col("p")
    numbers = numbers.withColumn("residual", F.when(F.abs(residual) < math.inf, residual))
    off = F.abs("residual")
    sums = {"label": F.col("y"), "absolute": off, "squared": off * off}
    sums["percentage"] = off / F.greatest(F.abs("y"), F.lit(_EPSILON))
    counted = F.col("residual").isNotNull()
    keys = [F.col("y").isNull().alias("unlabelled"), F.col("p").isNull().alias("unpredicted")]
    code = F.when(counted, bucket_of(F.col("residual"), plan.level)).alias("code")
    grouped = numbers.groupBy("slice", "window", *keys, code)
    aggregates = [*_bucketed(F.col("residual")), *_moments(**sums)]
    for value, window, part in _groups(grouped.agg(*aggregates)):
        both = part[part["code"].notna()]
        yield Outcome(
            task="regression",
            rows=int(part["count"].sum()),
            unlabelled=int(part.loc[part["unlabelled"], "count"].sum()),
            unpredicted=int(part.loc[~part["unlabelled"] & part["code"].isna() | part["unpredicted"], "count"].sum()),
            losses=_losses(both, *sums),
            residuals=_histogram(both, plan.level),
            slice=value,
            window=window,
        )


# Classifications


def _classifications(rows: DataFrame, plan: Reading, decision: float) -> Iterator[Outcome]:
    """Rows are grouped by label, predicted class, and bin and bucket of a score.

    It is of two classes the second's score, of more the greatest.
    """
    from pyspark.sql import functions as F

    read = _read(rows.withColumn("truth", _place(text(rows, "label"), plan)), plan, decision)
    score, truth = F.col("score"), F.col("truth")
    found = F.when(score.isNotNull(), F.least(F.greatest(F.floor(score * BINS), F.lit(0)), F.lit(BINS - 1)))
    keys = [
        *map(F.col, ("slice", "window", "truth", "guess")),
        found.alias("bin"),
        bucket_of(score, plan.level).alias("code"),
    ]
    kept = F.least(F.greatest(F.col("own"), F.lit(_EPSILON)), F.lit(1 - _EPSILON))
    sums = {"log_loss": F.when(truth >= 0, -F.log(kept)), "brier": F.when(truth >= 0, F.col("squared"))}
    aggregates = [*_bucketed(score), *_moments(**sums), F.count_if("improbable").alias("improbable")]
    grouped = read.groupBy(*keys).agg(*aggregates)
    each = {}
    if plan.form == "scores" and len(plan.classes) > 2:
        long = read.select("slice", "window", "truth", F.posexplode("scores").alias("class", "score"))
        positive = F.when(truth >= 0, (truth == F.col("class")).cast("int")).otherwise(_NONE).alias("positive")
        keys = [*map(F.col, ("slice", "window", "class")), positive, bucket_of(score, plan.level).alias("code")]
        counted = long.groupBy(*keys).agg(*_bucketed(score))
        each = {(value, window): part for value, window, part in _groups(counted)}
    for value, window, part in _groups(grouped):
        yield _classification(part, each.get((value, window)), plan, decision, value, window)


def _read(rows: DataFrame, plan: Reading, decision: float) -> DataFrame:
    """Of each row, beside its slice, window and `truth`, its `guess`, `score` and all `scores`.

    As well `own`, the score of what came true, the `squared` distance to it, and whether a score is `improbable`.
    """
    from pyspark.sql import functions as F

    truth, score, nothing = F.col("truth"), F.col("score"), F.lit(None).cast("double")
    if plan.form == "class":
        guess = _place(text(rows, "prediction"), plan).alias("guess")
        more = {"score": nothing, "own": nothing, "squared": nothing, "improbable": F.lit(False)}
        return rows.select("slice", "window", "truth", guess, *(one.alias(name) for name, one in more.items()))
    two = len(plan.classes) == 2
    if plan.form == "score":
        one = finite("prediction")
        scores = F.when(one.isNotNull(), F.array(1 - one, one))
    else:
        scores = F.col("prediction").cast("array<double>")
        is_finite = F.forall(scores, lambda one: F.coalesce(F.abs(one) < math.inf, F.lit(False)))
        fits = F.size(scores) == len(plan.classes) if plan.classes else F.lit(True)
        scores = F.when(fits & is_finite, scores)
    rows = rows.select("slice", "window", "truth", scores.alias("scores"))
    all_scores = F.col("scores")
    rows = rows.withColumn("score", F.get(all_scores, F.lit(1)) if two else F.array_max(all_scores))
    own = F.get(all_scores, truth)
    if two:
        guess, squared = (score >= decision).cast("int"), (score - truth) * (score - truth)
    else:
        guess = F.call_function("array_position", all_scores, score).cast("int") - 1
        squared = F.aggregate(all_scores, F.lit(0.0), lambda total, one: total + one * one) - 2 * own + 1
    more = {"guess": F.coalesce(guess, F.lit(_NONE)), "own": own, "squared": squared}
    more["improbable"] = F.exists(all_scores, lambda one: ~one.between(0.0, 1.0))
    return rows.select("*", *(one.alias(name) for name, one in more.items()))


def _place(name: Column, plan: Reading) -> Column:
    """Where a class stands among the classes."""
    from pyspark.sql import functions as F

    names = F.array(*map(F.lit, plan.classes)) if plan.classes else F.array().cast("array<string>")
    place = F.call_function("array_position", names, name).cast("int")
    return F.when(name.isNull(), _NONE).when(place == 0, _FOREIGN).otherwise(place - 1)


def _classification(
    part: pd.DataFrame,
    long: pd.DataFrame | None,
    plan: Reading,
    decision: float,
    value: str | None,
    window: str | None,
) -> Outcome:
    import numpy as np

    truth, guess, counts = (part[name].to_numpy(np.int64) for name in ("truth", "guess", "count"))
    both = (truth >= 0) & (guess >= 0)
    confusion = square(len(plan.classes))
    np.add.at(confusion, (truth[both], guess[both]), counts[both])
    found = Outcome(
        task="classification",
        rows=int(counts.sum()),
        unlabelled=int(counts[truth == _NONE].sum()),
        unpredicted=int(counts[guess == _NONE].sum()),
        foreign=int(counts[(truth == _FOREIGN) | (guess == _FOREIGN)].sum()),
        classes=plan.classes,
        is_guessed=plan.is_guessed,
        confusion=confusion,
        slice=value,
        window=window,
    )
    if plan.form == "class" or not plan.classes:
        return found
    two = len(plan.classes) == 2
    scored = part[guess >= 0]
    came = truth == 1 if two else truth == guess
    positive = np.where(truth >= 0, came, _NONE)[guess >= 0]
    main = _scores(scored, positive, plan.level)
    bins = part["bin"].to_numpy()[both].astype(np.int64)
    number, true, total = (
        np.bincount(bins, weights=weights, minlength=BINS)
        for weights in (counts[both], counts[both] * came[both], counts[both] * part["mean"].to_numpy(float)[both])
    )
    means = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    each = [main] if two else []
    if long is not None:
        each = [
            _scores(one, one["positive"], plan.level)
            for one in (long[long["class"] == k] for k in range(len(plan.classes)))
        ]
    return replace(
        found,
        decision=decision if two else None,
        scores=tuple(each),
        confidence=None if two else main,
        calibration=Calibration(counts=number.astype(np.int64), means=means, positives=true.astype(np.int64)),
        improbable=int(part["improbable"].sum()),
        losses=_losses(part[both], "log_loss", "brier"),
    )


def _scores(part: pd.DataFrame, positive: Any, level: int) -> Scores:
    """Scores of a class, of groups that are of it (1), of another one (0) or of none (`_NONE`)."""
    kinds = {"positives": 1, "negatives": 0, "unlabelled": _NONE}
    return Scores(**{name: _histogram(part[positive == kind], level) for name, kind in kinds.items()})
