"""What became of predictions, from Spark: held against scikit-learn on the same rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F
from sklearn import metrics as sk

from aml_spark.errors import ArgumentError, SchemaError, TableError
from aml_spark.monitoring.metric import Thresholds
from aml_spark.monitoring.performance import estimation, performance
from aml_spark.monitoring.performance.outcome import Outcome
from aml_spark.monitoring.performance.outcomes import joined, outcomes
from aml_spark.monitoring.performance.reading import lacks, names_in, reading

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

NAN, INF = math.nan, math.inf
NONE_EXPECTED = Thresholds(None, dict.fromkeys(estimation.METRICS))


def _values(outcome: Outcome) -> dict[str, float]:
    found = performance.measured(outcome, Thresholds(None, performance.THRESHOLDS))
    assert all(metric.note for metric in found if math.isnan(metric.value))
    return {metric.metric: metric.value for metric in found}


def _bounds(outcome: Outcome) -> dict[str, float]:
    return {one.metric: one.bound for one in performance.measured(outcome, Thresholds(None, performance.THRESHOLDS))}


def _one(df: DataFrame, **options: Any) -> Outcome:
    (found,) = outcomes(df, **{"label": "label", "prediction": "prediction", **options})
    return found


def _frame(spark: SparkSession, rows: list[tuple[Any, Any]], label: str, prediction: str) -> DataFrame:
    return spark.createDataFrame(rows, f"label {label}, prediction {prediction}")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Labels, probabilities and times; the column `where` has a dot in its name, nulls, and 23 values."""
    drawn = np.random.default_rng(0)
    probability = drawn.beta(0.8, 2.0, 900)
    delay = np.where(drawn.random(900) < probability, 30.0, -3.0) + drawn.normal(0, 3, 900)
    where = [f"w{place}" if place < 23 else None for place in drawn.choice(24, 900, p=[0.27, *[0.73 / 23] * 23])]
    day = pd.Timestamp("2013-01-01") + pd.to_timedelta(drawn.integers(0, 90 * 24, 900), unit="h")
    probability[5], delay[6], delay[7] = NAN, NAN, NAN
    frame = pd.DataFrame({"delay": delay, "p": probability, "guessed": delay + drawn.normal(0, 2, 900), "day": day})
    frame["guessed"] = frame["guessed"].fillna(0)
    return frame.assign(**{"the.place": where})


@pytest.fixture(scope="module")
def df(spark: SparkSession, rows: pd.DataFrame) -> DataFrame:
    schema = "delay double, p double, guessed double, day timestamp, `the.place` string"
    places = [None if pd.isna(place) else place for place in rows["the.place"]]
    columns = (rows["delay"], rows["p"], rows["guessed"], [day.to_pydatetime() for day in rows["day"]], places)
    listed = list(zip(*map(list, columns), strict=True))
    made = spark.createDataFrame(listed, schema)
    return made.withColumn("delay", F.when(~F.isnan("delay"), F.col("delay"))).repartition(2).cache()


# Two classes


@pytest.mark.every_kind
@pytest.mark.oldest
def test_probabilities_by_slice_and_month_agree_with_scikit_learn(df: DataFrame, rows: pd.DataFrame) -> None:
    found = outcomes(
        df, label="delay > 15", prediction="p", by="the.place", time_column="day", window="month", decision=0.4
    )
    assert [one.window for one in found] == [None] * 22 + [f"2013-0{month}-01" for month in (1, 2, 3)]
    assert [one.slice for one in found[20:]] == ["(other)", "(missing)", None, None, None]
    assert found[0].slice == "w0"  # the most frequent one
    whole, months = found[0], found[22]
    for one in found[1:22]:
        whole = whole.merge(one)
    for one in found[23:]:
        months = months.merge(one)
    assert months.rows == whole.rows
    assert (whole.rows, whole.unlabelled, whole.unpredicted, whole.counted) == (900, 2, 1, 897)
    assert (whole.slice, whole.window, whole.classes) == (None, None, ("false", "true"))
    first, january = rows[rows["the.place"] == "w0"], rows[rows["day"].dt.month == 1]
    for outcome, part in ((whole, rows), (found[0], first), (found[22], january)):
        frame = part.dropna(subset=["delay", "p"])
        late, said = frame["delay"] > 15, frame["p"]
        values, bounds = _values(outcome), _bounds(outcome)
        assert values["accuracy"] == pytest.approx(sk.accuracy_score(late, said >= 0.4), abs=1e-12)
        assert values["f1"] == pytest.approx(sk.f1_score(late, said >= 0.4), abs=1e-12)
        assert values["log_loss"] == pytest.approx(sk.log_loss(late, said), abs=1e-9)
        assert values["brier"] == pytest.approx(sk.brier_score_loss(late, said), abs=1e-9)
        assert abs(values["roc_auc"] - sk.roc_auc_score(late, said)) <= bounds["roc_auc"] + 1e-9
        assert abs(values["pr_auc"] - sk.average_precision_score(late, said)) <= bounds["pr_auc"] + 1e-9
        assert bounds["roc_auc"] < 0.02


def test_a_table_as_a_whole_has_the_finest_buckets(df: DataFrame, rows: pd.DataFrame) -> None:
    outcome = _one(df, label="delay > 15", prediction="p")
    frame = rows.dropna(subset=["delay", "p"])
    late, said = frame["delay"] > 15, frame["p"]
    bound = _bounds(outcome)["roc_auc"]
    assert abs(_values(outcome)["roc_auc"] - sk.roc_auc_score(late, said)) <= bound + 1e-9
    assert bound < 5e-4
    bins = np.floor(said * 20).astype(int)
    assert outcome.calibration is not None
    assert outcome.calibration.counts.tolist() == np.bincount(bins, minlength=20).tolist()
    assert outcome.calibration.positives.tolist() == np.bincount(bins, weights=late, minlength=20).tolist()
    means = said.groupby(bins).mean()
    assert outcome.calibration.means[means.index].tolist() == pytest.approx(means.tolist())
    assert outcome.scores[0].unlabelled.total == 2
    assert outcome.scores[0].whole.total == 899


@pytest.mark.parametrize(
    ("label", "prediction", "rows", "classes", "confusion", "counted"),
    [
        ("string", "string", [("a", "a"), ("b", "a"), ("b", "b"), (None, "a"), ("a", None)], "a b", "1 0 1 1", 3),
        ("boolean", "int", [(True, 1), (False, 1), (True, 0)], "0 1", "0 1 1 1", 3),
        ("double", "double", [(9.0, 10.0), (10.0, 10.0), (NAN, 9.0)], "9 10", "0 1 0 1", 2),
        ("int", "float", [(0, 0.25), (1, 0.5), (1, NAN), (1, INF), (None, 0.7)], "0 1", "1 0 0 1", 2),
        ("boolean", "array<float>", [(True, [0.4, 0.6]), (True, [1.0]), (None, [])], "false true", "0 0 0 1", 1),
    ],
)  # fmt: skip
def test_forms_of_predictions(
    spark: SparkSession, label: str, prediction: str, rows: list[Any], classes: str, confusion: str, counted: int
) -> None:
    found = _one(_frame(spark, rows, label, prediction), task="classification")
    assert found.classes == tuple(classes.split())
    assert found.confusion.ravel().tolist() == [int(count) for count in confusion.split()]
    assert (found.rows, found.counted) == (len(rows), counted)


@pytest.mark.parametrize(
    ("label", "prediction", "task", "expected"),
    [
        ("1 = 1", "0.5D", None, "classification score false true"),
        ("1 = 1", "array(0.5, 0.5)", None, "classification scores false true"),
        ("1 = 1", "'yes'", None, "classification class true yes"),
        ("1", "0.5D", None, "classification score 0 1"),
        ("CAST(null AS int)", "0.5D", None, "classification score 0 1"),
        ("1", "1.5D", None, "regression number"),
        ("2", "0.5D", None, "regression number"),
        ("1", "2", None, "classification class 1 2"),
        ("1", "2", "regression", "regression number"),
        ("1D", "2", None, "regression number"),
        ("1.0", "2", "classification", "classification class 1 2"),
        ("1D", "0.5D", None, "regression number"),
        ("1D", "0.5D", "classification", "classification score 0 1"),
        ("null", "0.5D", None, "regression number"),
        ("null", "array(0.1, 0.2, 0.7)", None, "classification scores 0 1 2"),
        ("2", "array(0.1, 0.2, 0.7)", None, "classification scores 0 1 2"),
    ],
)
def test_what_is_meant_is_told_by_types_and_where_they_leave_it_open_by_values(
    spark: SparkSession, label: str, prediction: str, task: Any, expected: str
) -> None:
    found = reading(spark.sql(f"SELECT {label} AS label, {prediction} AS prediction"), task, None, finest=True)
    assert " ".join([found.task, found.form, *found.classes]) == expected


def test_scores_that_are_no_probabilities_are_counted(spark: SparkSession) -> None:
    found = _one(_frame(spark, [(True, 7.5), (False, -2.0), (None, 0.5)], "boolean", "double"), decision=0.0)
    assert found.improbable == 2
    assert (_values(found)["roc_auc"], _values(found)["accuracy"]) == (1, 1)
    assert math.isnan(_values(found)["log_loss"])


# More classes


def test_arrays_of_probabilities_agree_with_scikit_learn(spark: SparkSession) -> None:
    drawn = np.random.default_rng(1)
    probabilities = drawn.dirichlet([1.0, 0.7, 0.4], 400)
    truth = [str(drawn.choice(["ape", "bee", "cat"], p=one)) for one in probabilities]
    made = [(label, one.tolist()) for label, one in zip(truth, probabilities, strict=True)]
    more = [(None, [0.2, 0.3, 0.5]), ("ape", None), ("ape", [0.2, None, 0.8]), ("ape", [NAN, 0.2, 0.8])]
    df = _frame(spark, [*made, *more], "string", "array<double>")
    found = _one(df)
    values, bounds = _values(found), _bounds(found)
    names = np.array(["ape", "bee", "cat"])
    guess = names[probabilities.argmax(axis=1)]
    assert (found.classes, found.unlabelled, found.unpredicted) == (("ape", "bee", "cat"), 1, 3)
    assert found.confusion.tolist() == sk.confusion_matrix(truth, guess).tolist()
    assert values["log_loss"] == pytest.approx(sk.log_loss(truth, probabilities), abs=1e-9)
    squared = ((probabilities - (np.array(truth)[:, None] == names)) ** 2).sum(axis=1)
    assert values["brier"] == pytest.approx(squared.mean(), abs=1e-9)
    area = sk.roc_auc_score(truth, probabilities, multi_class="ovr")
    assert abs(values["roc_auc"] - area) <= bounds["roc_auc"] < 0.01
    assert found.confidence is not None
    assert found.confidence.positives.total == np.trace(found.confusion)
    assert found.confidence.unlabelled.total == 1


# Regressions


def test_numbers_agree_with_scikit_learn(df: DataFrame, rows: pd.DataFrame) -> None:
    found = _one(df, label="delay", prediction="guessed")
    frame = rows.dropna(subset=["delay"])
    label, prediction, values = frame["delay"], frame["guessed"], _values(found)
    assert values["mae"] == pytest.approx(sk.mean_absolute_error(label, prediction), rel=1e-9)
    assert values["rmse"] == pytest.approx(math.sqrt(sk.mean_squared_error(label, prediction)), rel=1e-9)
    assert values["r2"] == pytest.approx(sk.r2_score(label, prediction), rel=1e-9)
    assert values["mape"] == pytest.approx(sk.mean_absolute_percentage_error(label, prediction), rel=1e-9)
    for name, share in performance.QUANTILES.items():
        exact = np.quantile(label - prediction, share, method="inverted_cdf")
        assert abs(values[name] - exact) <= _bounds(found)[name] + 1e-12
    assert (found.rows, found.unlabelled, found.unpredicted) == (900, 2, 0)


@pytest.mark.parametrize("label", [3.0, 7.0, 0.1, 1 / 3, 1e15 + 0.1, -123.456])
def test_equal_labels_leave_r2_out_however_spark_sums_them(spark: SparkSession, label: float) -> None:
    rows = spark.range(0, 500, 1, 7).select(F.lit(label).alias("label"), (label + F.col("id") % 7).alias("prediction"))
    found = {
        one.metric: one for one in performance.measured(_one(rows), Thresholds({"r2": 0.5}, performance.THRESHOLDS))
    }
    assert math.isnan(found["r2"].value)
    assert (found["r2"].note, found["r2"].breached) == ("all labels are equal", False)
    assert found["mae"].value == pytest.approx(3, abs=0.1)


def test_numbers_that_are_not_finite_are_left_out(spark: SparkSession) -> None:
    made = [(1.0, 1.5), (NAN, 1.0), (1.0, NAN), (None, None), (INF, 1.0), (1.0, -INF), (1.7e308, -1.7e308)]
    found = _one(_frame(spark, made, "double", "double"))
    assert (found.rows, found.counted, found.unlabelled, found.unpredicted) == (7, 1, 3, 4)
    assert _values(found)["mae"] == 0.5
    notes = {str(one.note) for one in performance.measured(found, Thresholds(None, performance.THRESHOLDS))}
    assert "of 7 rows, 3 without a usable label and 4 without a usable prediction are left out" in notes


@pytest.mark.parametrize(
    ("made", "classes", "reason"),
    [
        ([(INF, 1.0), (NAN, 0.5)], None, "no row has a usable label"),
        ([(INF, 1.0), (NAN, 0.5)], [0, 1], "no row has a usable label"),
        ([(1.0, INF), (0.5, NAN)], None, "no row has a prediction that is a finite number or a class"),
        ([(1.0, INF), (INF, 0.5)], None, "no row has a usable label and prediction"),
    ],
)
def test_where_no_number_is_finite_it_is_not_said_that_there_is_none(
    spark: SparkSession, made: list[Any], classes: list[int] | None, reason: str
) -> None:
    found = _one(_frame(spark, made, "double", "double"), classes=classes)
    notes = {one.note for one in performance.measured(found, Thresholds(None, performance.THRESHOLDS))}
    assert notes == {reason}


# Faults


@pytest.mark.parametrize(("label", "prediction"), [("boolean", "double"), ("double", "double")])
def test_a_table_of_no_rows_has_one_outcome(spark: SparkSession, label: str, prediction: str) -> None:
    found = _one(_frame(spark, [], label, prediction))
    assert (found.rows, found.counted) == (0, 0)
    assert all(map(math.isnan, _values(found).values()))


def test_columns_of_one_name_do_not_matter_beside_the_two(spark: SparkSession) -> None:
    twice = spark.createDataFrame([(1.0, 1.5, 7, 8)], "label double, prediction double, id int, id int")
    assert _one(twice).counted == 1


def test_rows_without_any_label_are_scored_all_the_same(df: DataFrame) -> None:
    known = _one(df, label="delay > 15", prediction="p")
    scored = _one(df, label=None, prediction="p", classes=[False, True])
    assert scored.unlabelled == scored.rows == 900
    found = {metric.metric: metric.value for metric in estimation.expected(known, scored, NONE_EXPECTED)}
    # On its own rows the mean of the calibrated shares is the share that came true.
    assert found["expected_accuracy"] == pytest.approx(_values(known)["accuracy"], abs=0.02)


@pytest.mark.parametrize(
    ("label", "prediction", "rows", "classes", "counts"),
    [
        ("string", "double", [("no", 0.2), ("yes", 0.7), ("?", 0.9), (None, 0.1)], "no yes", "4 1 0 1 2"),
        ("int", "double", [(0, 0.2), (1, 0.7), (7, 0.9), (7, None)], "0 1", "4 0 1 2 2"),
        ("string", "array<double>", [("b", [0.1, 0.7, 0.2]), ("?", [0.1, 0.7, 0.2])], "a b c", "2 0 0 1 1"),
        ("string", "string", [("no", "no"), ("no", "?"), ("?", "no"), ("?", None)], "no yes", "4 0 1 3 1"),
    ],
)
def test_rows_of_none_of_the_classes_are_counted_and_left_out(
    spark: SparkSession, label: str, prediction: str, rows: list[Any], classes: str, counts: str
) -> None:
    found = _one(_frame(spark, rows, label, prediction), classes=classes.split())
    counted = (found.rows, found.unlabelled, found.unpredicted, found.foreign, found.counted)
    assert " ".join(map(str, counted)) == counts
    assert found.merge(found).foreign == 2 * found.foreign
    assert _values(found)["accuracy"] == 1
    whose = "a label" if found.scores else "a label or a prediction"
    rows_have = "1 row has" if found.foreign == 1 else f"{found.foreign} rows have"
    for metric in performance.measured(found, Thresholds(None, performance.THRESHOLDS)):
        assert f"{rows_have} {whose} that isn't among the classes" in str(metric.note)
    for scores in found.scores:
        assert scores.positives.total + scores.negatives.total == found.counted
    if found.calibration is not None:
        assert found.calibration.counts.sum() == found.losses["brier"].count == found.counted


def test_labels_of_none_of_the_classes_leave_nothing_to_measure(spark: SparkSession) -> None:
    found = _one(_frame(spark, [("a", 0.2), ("b", 0.7), (None, 0.1)], "string", "double"), classes=["no", "yes"])
    notes = {one.note for one in performance.measured(found, Thresholds(None, performance.THRESHOLDS))}
    assert all(map(math.isnan, _values(found).values()))
    assert notes == {"2 rows have a label that isn't among the classes, and no other has a usable label and prediction"}
    assert found.scores[0].whole.total == 3  # of which it can still be told what is to be expected


@pytest.mark.parametrize(
    ("prediction", "rows", "reason"),
    [
        ("double", [("yes", 0.7), ("yes", 0.2), (None, 0.1)], "the labels are of too few classes to tell them all"),
        ("array<double>", [("yes", [0.3, 0.7])], "the labels are of too few classes to tell them all"),
        ("array<double>", [("yes", None)], "no row has a prediction that is a finite number or a class"),
        ("double", [], "there are no rows"),
        ("array<double>", [], "there are no rows"),
    ],
)
def test_texts_of_too_few_classes_are_a_reason(
    spark: SparkSession, prediction: str, rows: list[Any], reason: str
) -> None:
    df = _frame(spark, rows, "string", prediction)
    found = _one(df)
    assert (found.rows, found.counted, found.classes) == (len(rows), 0, ())
    told = performance.measured(found, Thresholds(None, performance.THRESHOLDS))
    assert all(math.isnan(one.value) and str(one.note).startswith(reason) for one in told)
    assert all(math.isnan(one.value) and one.note for one in estimation.expected(found, found, NONE_EXPECTED))
    known = _one(df, classes=["no", "yes"])  # as of a baseline
    assert (known.classes, known.foreign) == (("no", "yes"), 0)
    if known.counted:
        assert _values(known)["recall"] == (0.5 if prediction == "double" else 1)
        assert math.isnan(_values(known)["roc_auc"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"label": "delai"}, "label='delai' is neither a column nor an SQL expression"),
        ({"label": "the place"}, "did you mean 'the.place'?"),
        ({"label": "1 + delai"}, "did you mean 'delay'?"),
        ({"prediction": "p >"}, "prediction='p >' is neither a column"),
        ({"by": "nowhere"}, "by names 'nowhere', which isn't there"),
        ({"prediction": "struct(p)"}, "the prediction has the type struct<p:double>; expected a boolean, a text"),
        ({"label": "array(delay)"}, "the label has the type array<double>; expected a boolean"),
        ({"label": "delay > 15", "task": "regression"}, "a regression has labels and predictions that are numbers"),
        ({"label": "day", "prediction": "p"}, "the label has the type timestamp"),
        ({"time_column": "p", "window": "day"}, "time_column names 'p' of type double; expected a date"),
        ({"label": "`the.place`"}, "goes with two classes, but there are 23"),
        ({"label": "`the.place`", "prediction": "array(p, 1 - p)"}, "has 2 probabilities, but the label has 23"),
        ({"label": "`the.place`", "prediction": "array(p)", "classes": ["w0"]}, "an array for one class"),
        ({"label": "cast(day as string)", "prediction": "'x'"}, "there are more than 100 classes"),
    ],
)  # fmt: skip
def test_columns_that_can_not_be_read_are_refused(df: DataFrame, options: dict[str, Any], told: str) -> None:
    with pytest.raises(SchemaError) as caught:
        _one(df, **{"label": "delay", "prediction": "p", **options})
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"task": "ranking"}, "task is 'ranking'"),
        ({"window": "fortnight", "time_column": "day"}, "window is 'fortnight'; expected one of 'hour'"),
        ({"window": "day"}, "window needs time_column"),
        ({"decision": NAN}, "decision is nan"),
        ({"classes": "no,yes"}, "classes is 'no,yes'; expected a list"),
        ({"classes": [1, 1.0]}, "expected a list of names that differ"),
        ({"classes": 3}, "classes is 3; expected a list"),
        ({"classes": {0, 1}}, "expected a list of names that differ"),
        ({"classes": [None, 1]}, "expected a list of names that differ"),
    ],
)
def test_arguments_that_can_not_be_meant_are_refused(df: DataFrame, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        _one(df, label="delay", prediction="p", **options)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("late", ["late"]),
        ("the place", ["the place"]),
        ("Late IS NOT NULL", ["late"]),
        ("status = 'late'", ["status"]),
        ("status = 'it\\'s late' OR status = \"late\"", ["status"]),
        ("late(status)", ["status"]),
        ("cast(status AS date) > date '2024-01-01'", ["status"]),
        ("status > 15 -- late\n + 1 /* date */", ["status"]),
        ("status.late", ["status"]),
        ("CASE WHEN status = 1 THEN 0 END", ["status"]),
        ("`end` > `the place`", ["the place", "end"]),
        ("days > 3 AND status > 15", ["status", "days"]),
        ("status > now() - INTERVAL '15' DAYS - INTERVAL 1 days", ["status"]),
        ("extract(days FROM status) > 1e5", ["status"]),
        ("status::date = 1 AS `late`", ["status"]),
        ("late RLIKE r'\\' OR status", ["late", "status"]),
    ],
)
def test_columns_are_told_from_the_rest_of_an_expression(text: str, named: list[str]) -> None:
    assert names_in(text, ["late", "status", "the place", "date", "end", "days", "15", "1e5"]) == named


@pytest.mark.parametrize(
    ("text", "is_lacking"),
    [("x > id", True), ("x", True), ("exists(ids, x -> x > 0)", False), ("id > 1 x", False), ("id > 1", False)],
)
def test_a_table_lacks_what_spark_cant_resolve_and_says_so_nowhere(
    spark: SparkSession, text: str, is_lacking: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    df = spark.range(2).selectExpr("id", "array(id) AS ids")
    capfd.readouterr()
    assert lacks(df, df.selectExpr("*", "id AS x"), text) is is_lacking
    assert capfd.readouterr().err == ""


def test_a_vector_of_spark_ml_is_refused_with_what_makes_an_array_of_it(spark: SparkSession) -> None:
    from pyspark.ml.linalg import Vectors

    df = spark.createDataFrame([(True, Vectors.dense(0.1, 0.9))], ["label", "prediction"])
    with pytest.raises(SchemaError, match="vector_to_array"):
        _one(df)


# Late labels


def test_late_labels_are_joined_by_key_and_the_missing_ones_counted(spark: SparkSession) -> None:
    rows = [(1, "a", 0.9), (2, "a", 0.2), (None, "a", 0.3), (4, "b", 0.4)]
    known = [("a", 1, True), ("b", 4, False), ("c", 9, True), (None, None, True), (None, None, False)]
    scored = spark.createDataFrame(rows, "`i.d` int, k string, p double")
    labels = spark.createDataFrame(known, "k string, `i.d` int, late boolean")
    found = _one(joined(scored, labels, ["i.d", "k"]), label="late", prediction="p")
    assert (found.rows, found.unlabelled, found.counted) == (4, 2, 2)
    assert _values(found)["accuracy"] == 1


def test_labels_that_do_not_fit_the_rows_are_refused(spark: SparkSession) -> None:
    scored = spark.createDataFrame([(1, 0.9, None)], "id int, p double, late boolean")
    labels = spark.createDataFrame([(1, True), (1, False), (2, True), (2, True), (3, True)], "id int, late boolean")
    with pytest.raises(TableError, match=r"more than one row for 2 keys \('id'\)"):
        joined(scored.drop("late"), labels, "id")
    with pytest.raises(SchemaError, match="both have 'late'"):
        joined(scored, labels, "id")
    with pytest.raises(SchemaError, match="key names 'ID', which the rows lack"):
        joined(scored, labels, "ID")
