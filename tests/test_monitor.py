"""`monitor`: a table held against a baseline, whatever is in the two."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aml_spark
from aml_spark import BreachError, Selection
from aml_spark.errors import AmlSparkError
from aml_spark.monitoring.profiles import passes

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ROWS = 600
FIRST = ["column", "metric", "value", "threshold", "breached", "slice", "note"]


def _table(spark: SparkSession, seed: int, shift: float = 0.0, rows: int = ROWS) -> DataFrame:
    """Flights of 60 days: a distance, a carrier, an airport, and whether they were late."""
    draw = np.random.default_rng(seed)
    start = datetime(2024, 1, 1, tzinfo=timezone.utc)
    made = []
    for number in range(rows):
        score = float(draw.uniform())
        made.append(
            (
                number,
                start + timedelta(hours=2.4 * number),
                float(draw.normal(1000 + 200 * shift, 200)),
                "ABCD"[int(draw.integers(4))],
                "JFK" if draw.uniform() < 0.7 else "LGA",
                bool(draw.uniform() < score),
                score,
            )
        )
    columns = "id long, time timestamp, distance double, carrier string, origin string, late boolean, prediction double"
    return spark.createDataFrame(made, columns)


@pytest.fixture(scope="module")
def flights(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("flights")
    places = str(folder / "before"), str(folder / "after")
    for place, seed, shift in zip(places, (1, 2), (0.0, 2.0), strict=True):
        _table(spark, seed, shift).write.format("delta").save(place)
    return places


def _value(report: aml_spark.Report, metric: str, column: str | None = None, **place: Any) -> Any:
    found = [
        one
        for one in report.metrics_found
        if (one.metric, one.column, one.slice, one.window) == (metric, column, place.get("slice"), place.get("window"))
    ]
    assert len(found) == 1, (metric, column, place)
    return found[0]


@pytest.mark.every_kind
@pytest.mark.oldest
def test_what_drifted_breaches_and_what_did_not_does_not(spark: SparkSession) -> None:
    report = aml_spark.monitor(
        spark,
        baseline=_table(spark, 1),
        target=_table(spark, 2, shift=2.0),
        label="late",
        key=["id"],
        time_column="time",
        window="month",
        by="origin",
    )
    assert list(report.metrics.columns[:7]) == FIRST
    assert not report.passed
    whole = report.metrics.query("slice.isna() and window.isna()")
    assert set(whole.query("breached and signal == 'drift'")["column"]) == {"distance"}
    assert {one.window for one in report.windows} == {"2024-01-01", "2024-02-01"}
    assert {one.slice for one in report.slices} == {"JFK", "LGA"}
    assert _value(report, "jensen_shannon_distance", "distance", window="2024-02-01").breached
    assert _value(report, "jensen_shannon_distance", "distance", slice="LGA").breached
    assert _value(report, "accuracy").value == pytest.approx(0.75, abs=0.06)
    assert _value(report, "expected_accuracy").value == pytest.approx(_value(report, "accuracy").value, abs=0.08)
    assert _value(report, "duplicate_rate").value == 0
    assert "distance" in report.summary()


def test_a_table_against_itself_passes(spark: SparkSession, flights: tuple[str, str]) -> None:
    report = aml_spark.monitor(spark, baseline=flights[0], target=flights[0])
    assert report.passed
    assert report.summary().startswith("Passed")
    assert _value(report, "jensen_shannon_distance", "distance").value == 0
    assert (report.baseline.version, report.target.version) == (0, 0)


def test_exact_distances_are_those_of_all_rows(spark: SparkSession, flights: tuple[str, str]) -> None:
    from scipy.stats import ks_2samp, wasserstein_distance

    report = aml_spark.monitor(spark, baseline=flights[0], target=flights[1], columns=["distance"], exact=True)
    one, two = (
        spark.read.format("delta").load(place).select("distance").toPandas()["distance"].to_numpy() for place in flights
    )
    assert _value(report, "kolmogorov_smirnov_distance", "distance").value == pytest.approx(
        ks_2samp(one, two).statistic, abs=1e-9
    )
    assert _value(report, "normalized_wasserstein_distance", "distance").value == pytest.approx(
        wasserstein_distance(one, two) / one.std(), rel=1e-9
    )
    outside = ((two < one.min()) | (two > one.max())).mean()
    assert _value(report, "out_of_bounds_rate", "distance").value == pytest.approx(outside, abs=1e-12)


def test_a_kept_profile_of_the_baseline_is_not_read_again(
    spark: SparkSession, flights: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []
    profiles = passes.profiles

    def counted(df: DataFrame, **more: Any) -> Any:
        read.append(more["source"])
        return profiles(df, **more)

    monkeypatch.setattr(passes, "profiles", counted)
    kept, asked = str(tmp_path / "kept"), {"columns": ["distance", "carrier"]}
    reports = [
        aml_spark.monitor(spark, baseline=flights[0], target=flights[1], profiles=kept, **asked) for _ in range(2)
    ]
    assert read == [flights[0], flights[1], flights[1]]
    first, second = (report.metrics.to_json() for report in reports)
    assert first == second
    aml_spark.monitor(
        spark, baseline=Selection(flights[0], where="id < 300"), target=flights[1], profiles=kept, **asked
    )
    assert read[3:] == [flights[0], flights[1]]


def test_a_kept_profile_has_its_slices_whatever_their_order_in_the_target(
    spark: SparkSession, flights: tuple[str, str], tmp_path: Path
) -> None:
    kept, asked = str(tmp_path / "kept"), {"columns": ["distance"], "by": "origin"}
    for target in (flights[1], Selection(flights[1], where="origin = 'LGA' OR id < 20")):
        report = aml_spark.monitor(spark, baseline=flights[0], target=target, profiles=kept, **asked)
        assert _value(report, "jensen_shannon_distance", "distance", slice="LGA").breached
    assert spark.read.format("delta").load(kept).select("saved").distinct().count() == 1


def test_a_baseline_without_the_slices_or_the_label_is_held_as_a_whole(
    spark: SparkSession, flights: tuple[str, str]
) -> None:
    before = spark.read.format("delta").load(flights[0]).drop("origin", "late")
    report = aml_spark.monitor(spark, baseline=before, target=flights[0], by="origin", label="late", key=["id"])
    distance = _value(report, "jensen_shannon_distance", "distance", slice="JFK")
    assert "no such slice" in distance.note
    assert report.metrics.query("breached and column != 'origin'")["column"].tolist() == []
    assert _value(report, "accuracy").value > 0.6
    assert "late" not in report.target.columns


def test_probabilities_of_two_classes_are_compared_by_the_second(spark: SparkSession) -> None:
    both = "IF(id = 7, array(0.5D), array(1 - id / 100D, id / 100D)) AS prediction"
    before, after = spark.range(100).selectExpr(both, "id"), spark.range(60, 100).selectExpr(both, "id")
    same = aml_spark.monitor(spark, baseline=before, target=before, columns=["prediction"])
    assert same.passed
    other = aml_spark.monitor(spark, baseline=before, target=after, columns=["prediction"])
    assert _value(other, "jensen_shannon_distance", "prediction").breached
    assert other.target.columns["prediction"].min == pytest.approx(0.6)
    assert same.target.columns["prediction"].nulls == 1


def test_nested_columns_are_named_with_a_dot(spark: SparkSession) -> None:
    frame = spark.range(200).selectExpr("named_struct('inner', double(id), 'other', 1) AS outer", "id")
    after = spark.range(200).selectExpr("named_struct('inner', id + 100D, 'other', 1) AS outer", "id")
    asked: dict[str, Any] = {"baseline": frame, "target": after, "columns": ["outer.inner"]}
    assert _value(aml_spark.monitor(spark, **asked), "jensen_shannon_distance", "outer.inner").breached
    lax = dict.fromkeys(("jensen_shannon_distance", "kolmogorov_smirnov_distance", "out_of_bounds_rate"), None)
    lax["two_sample_kolmogorov_smirnov_test"] = None
    assert aml_spark.monitor(spark, thresholds={"outer.inner": lax}, **asked).passed


def test_labels_that_come_later_are_joined(spark: SparkSession, flights: tuple[str, str]) -> None:
    after = spark.read.format("delta").load(flights[1])
    report = aml_spark.monitor(
        spark,
        baseline=flights[0],
        target=after.drop("late"),
        labels=after.where("id < 200").select("id", "late"),
        label="late",
        key=["id"],
    )
    accuracy = _value(report, "accuracy")
    rows = after.where("id < 200").toPandas()
    assert accuracy.value == pytest.approx(((rows["prediction"] >= 0.5) == rows["late"]).mean(), abs=1e-12)
    assert "400" in accuracy.note  # labels that haven't come yet
    with pytest.raises(AmlSparkError, match=r"'lte' names no column of the labels; they have 'id', 'late'\n.*'late'"):
        aml_spark.monitor(
            spark, baseline=flights[0], target=flights[1], labels=after.select("id", "late"), label="lte", key=["id"]
        )
    both = aml_spark.monitor(
        spark,
        baseline=spark.read.format("delta").load(flights[0]).drop("late"),
        target=after.drop("late"),
        labels=after.select("id", "late"),
        label="late",
        key=["id"],
        columns=["distance"],
    )
    assert _value(both, "accuracy").threshold < 0.6  # the baseline's predictions are of other rows
    assert "late" not in both.baseline.columns
    assert not math.isnan(_value(report, "expected_accuracy").value)


STRANGE = """
    1.0D AS constant, CAST(NULL AS double) AS empty, IF(id = 3, double('infinity'), double(id)) AS infinite,
    IF(id = 4, double('nan'), double(id)) AS broken, named_struct('inner', id, 'text', string(id % 3)) AS nested,
    id AS `with.dots`, array(double(id), 1.0D) AS vector, map('a', id) AS mapped, string(uuid()) AS unique,
    date_add(DATE '2024-01-01', int(id)) AS day, CAST(id AS decimal(20, 2)) AS price, id % 2 = 0 AS flag,
    binary('x') AS bytes, CAST(NULL AS void) AS nothing, '' AS blank
"""


@pytest.mark.parametrize("rows", [0, 1, 40])
def test_whatever_is_in_a_table_gets_a_number_or_a_reason(spark: SparkSession, rows: int) -> None:
    before = spark.range(40).selectExpr(*_columns(STRANGE), "id AS typed", "id AS only_before")
    after = spark.range(rows).selectExpr(*_columns(STRANGE), "string(id) AS typed", "id AS only_after")
    report = aml_spark.monitor(spark, baseline=before, target=after, exact=rows == 40)
    names = {*before.columns, *after.columns, "nested.inner", "nested.text"} - {"nested"}
    assert set(report.metrics.dropna(subset="column")["column"]) == names
    silent = report.metrics.query("value.isna() and note.isna()")
    assert silent.empty, silent
    assert _value(report, "missing_column", "only_before").breached
    assert _value(report, "type_changed", "typed").breached
    assert _value(report, "row_count_change").breached is (rows == 0)
    page = report.to_html()
    assert page is not None
    assert "only_before" in page
    if rows == 40:
        assert not report.metrics.query("signal == 'drift' and breached and column != 'unique'")["column"].tolist()


def _columns(text: str) -> list[str]:
    """The select list as its parts: commas in brackets and quotes are of the parts."""
    parts, depth = [""], 0
    for one in text.replace("\n", " "):
        depth += {"(": 1, ")": -1}.get(one, 0)
        if one == "," and not depth:
            parts.append("")
        else:
            parts[-1] += one
    return [part.strip() for part in parts]


def test_labels_of_one_class_give_reasons(spark: SparkSession) -> None:
    before, after = _table(spark, 1, rows=80), _table(spark, 2, rows=80).selectExpr("* EXCEPT (late)", "true AS late")
    report = aml_spark.monitor(spark, baseline=before, target=after, label="late", columns=["distance"])
    area = _value(report, "roc_auc")
    assert math.isnan(area.value)
    assert area.note
    assert not math.isnan(_value(report, "recall").value)


def _answers(spark: SparkSession, rows: int, classes: int, right: int, stray: int = -1) -> DataFrame:
    """Labels a, b and so on, of which `right` of 10 are predicted, and one that nobody knows."""
    answers = spark.range(rows).selectExpr("id", f"elt(1 + id % {classes}, 'a', 'b', 'c') AS known")
    return answers.selectExpr(
        f"IF(id = {stray}, 'stray', known) AS label",
        f"IF(id DIV {classes} % 10 < {right}, known, IF(known = 'b', 'a', 'b')) AS prediction",
    )


@pytest.mark.parametrize(
    ("before", "after", "breached"),
    [
        ((3000, 3, 9), (1000, 2, 5), {"accuracy", "precision", "recall", "f1"}),
        ((3000, 2, 9), (3000, 2, 9, 4), set()),
        ((3000, 2, 9, 4), (3000, 2, 7), {"accuracy", "precision", "recall", "f1"}),
    ],
    ids=["gone", "new", "gone that nobody predicts"],
)
def test_classes_that_one_table_has_leave_the_others_to_compare(
    spark: SparkSession, before: tuple[int, ...], after: tuple[int, ...], breached: set[str]
) -> None:
    report = aml_spark.monitor(
        spark, baseline=_answers(spark, *before), target=_answers(spark, *after), label="label", columns=["prediction"]
    )
    assert {one.metric for one in report.metrics_found if one.breached and one.signal == "performance"} == breached


def test_a_baseline_of_one_class_is_read_among_the_targets(spark: SparkSession) -> None:
    before = spark.range(300).selectExpr("'no' AS label", "id % 2 * 0.8D AS prediction")
    after = spark.range(300).selectExpr("elt(1 + id % 2, 'no', 'yes') AS label", "id % 2 * 0.8D AS prediction")
    report = aml_spark.monitor(spark, baseline=before, target=after, label="label", columns=["prediction"])
    assert _value(report, "accuracy").threshold == pytest.approx(0.5, abs=0.2)


def test_what_has_a_threshold_and_no_value_is_told(spark: SparkSession, flights: tuple[str, str]) -> None:
    before = spark.read.format("delta").load(flights[0])
    thresholds = {"accuracy": 0.8, "freshness_hours": 3, "weighted_drift": 0.2}
    report = aml_spark.monitor(
        spark,
        baseline=before,
        target=before,
        columns=["carrier", "time"],
        thresholds={**thresholds, "carrier": {"kolmogorov_smirnov_distance": 0.1}},
    )
    assert report.passed
    assert report.summary().split("\n") == [
        "Passed: nothing breached in 3 columns; not compared: performance, freshness_hours, weighted_drift and 1 more",
        "- not compared: performance (label= isn't given)",
        "- not compared: freshness_hours (time_column= isn't given)",
        "- not compared: weighted_drift (model= isn't given)",
        "- not compared: kolmogorov_smirnov_distance of carrier (it isn't measured of such a column)",
    ]


def test_labels_that_no_prediction_is_written_like_are_not_compared(spark: SparkSession) -> None:
    rows = spark.range(60).selectExpr(
        "elt(1 + id % 2, 'LATE', 'OK') AS label", "elt(1 + id % 2, 'late', 'ok') AS prediction"
    )
    report = aml_spark.monitor(spark, baseline=rows, target=rows, label="label")
    assert "not compared: performance (no prediction is one of the labels' values" in report.summary()


def test_which_of_two_texts_is_the_positive_class_is_told(spark: SparkSession) -> None:
    rows = spark.range(60).selectExpr("elt(1 + id % 2, 'churned', 'stays') AS label", "id % 10 / 10D AS prediction")
    asked: dict[str, Any] = {"baseline": rows, "target": rows, "label": "label", "columns": ["prediction"]}
    told = aml_spark.monitor(spark, **asked).summary()
    assert "'stays' is taken for the positive class" in told
    assert "classes=['stays', 'churned'] takes 'churned'" in told
    assert "positive" not in aml_spark.monitor(spark, classes=["stays", "churned"], **asked).summary()


def test_a_baseline_without_rows_breaches(spark: SparkSession, flights: tuple[str, str]) -> None:
    report = aml_spark.monitor(
        spark, baseline=Selection(flights[0], where="id < 0"), target=flights[0], columns=["distance"]
    )
    assert not report.passed
    assert "the baseline has no rows" in report.summary()


def test_vectors_of_another_size_breach(spark: SparkSession) -> None:
    before, after = (spark.range(40).selectExpr(f"array({numbers}) AS v") for numbers in ("id, 1D", "id, 1D, 2D"))
    report = aml_spark.monitor(spark, baseline=before, target=after)
    assert _value(report, "type_changed", "v").breached
    assert "2 numbers in the baseline and 3 in the target" in _value(report, "jensen_shannon_distance", "v").note


def test_a_text_of_an_expression_that_is_a_columns_name_hides_nothing(spark: SparkSession) -> None:
    before = spark.range(400).selectExpr(
        "elt(1 + id % 2, 'late', 'in time') AS status", "id % 2 = 0 AS prediction", "id"
    )
    after = before.selectExpr("status", "NOT prediction AS prediction", "id")
    report = aml_spark.monitor(
        spark,
        baseline=before.selectExpr("*", "id AS late"),
        target=after,
        label="status = 'late'",
        columns=["prediction", "late"],
    )
    assert _value(report, "accuracy").breached
    assert _value(report, "missing_column", "late").breached


def test_texts_of_any_bytes_are_counted(spark: SparkSession) -> None:
    text = "CAST(IF(id % 4 = 0, unhex('ff41'), CAST(concat('b', id % 3) AS binary)) AS string) AS text"
    before = spark.range(40).selectExpr(text, "IF(id % 2 = 0, '(other)', string(id % 50)) AS place")
    report = aml_spark.monitor(spark, baseline=before, target=before, by="place")
    assert report.passed
    counts = report.baseline.columns["text"].frequencies
    assert counts is not None
    assert counts.counts["\ufffdA"] == 10
    rows = {one.slice: one.rows for one in report.slices}
    assert (rows['"(other)"'], rows["(other)"]) == (20, 1)


def test_expectations_types_and_keys_are_counted(spark: SparkSession, flights: tuple[str, str]) -> None:
    after = spark.read.format("delta").load(flights[1])
    report = aml_spark.monitor(
        spark,
        baseline=flights[0],
        target=after.union(after.where("id < 6")),
        key=["id"],
        columns=["distance"],
        expectations={"far": "distance > 1000"},
        thresholds={"expectation:far": 0.9, "distance": {"jensen_shannon_distance": 0.99}},
    )
    assert _value(report, "duplicate_rate").value == pytest.approx(6 / 606)
    assert _value(report, "duplicate_rate").breached
    far = _value(report, "expectation:far")
    assert 0 < far.value < 0.2
    assert not far.breached
    assert not _value(report, "jensen_shannon_distance", "distance").breached


def test_the_models_own_columns_are_compared_and_weighted(
    spark: SparkSession, flights: tuple[str, str], tracking: aml_spark.Tracking
) -> None:
    import mlflow
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.linear_model import LinearRegression

    data = pd.DataFrame({"distance": [1.0, 2.0, 4.0], "prediction": [1.0, 0.0, 0.0]})
    fitted = LinearRegression().fit(data, [1.0, 2.0, 4.0])
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            fitted,
            name="model",
            signature=infer_signature(data, fitted.predict(data)),
            registered_model_name="monitored",
            pip_requirements=["scikit-learn"],
        )
    report = aml_spark.monitor(spark, baseline=flights[0], target=flights[1], model="models:/monitored/1")
    assert report.model == "models:/monitored/1"
    assert set(report.baseline.columns) == {"distance", "prediction"}
    distance = _value(report, "jensen_shannon_distance", "distance").value
    assert _value(report, "weighted_drift").value == pytest.approx(
        distance, rel=0.05
    )  # it stands on the distance alone
    assert _value(report, "weighted_drift").breached
    with mlflow.start_run():
        report.log()
    tags = mlflow.MlflowClient().get_model_version("monitored", "1").tags
    assert tags["aml_spark.monitoring.passed"] == "false"


def test_azures_definitions_are_there(spark: SparkSession, flights: tuple[str, str]) -> None:
    report = aml_spark.monitor(
        spark,
        baseline=flights[0],
        target=flights[1],
        columns=["distance", "carrier"],
        compat="azureml",
        expectations={"far": "distance > 1000"},
    )
    assert _value(report, "expectation:far").breached
    assert _value(report, "two_sample_kolmogorov_smirnov_test", "distance").breached
    assert not _value(report, "pearsons_chi_squared_test", "carrier").breached
    assert _value(report, "null_value_rate", "carrier").value == 0
    nested = spark.range(9).selectExpr("named_struct('inner', id) AS outer", "id")
    report = aml_spark.monitor(spark, baseline=nested, target=nested, columns=["outer.inner", "id"], compat="azureml")
    assert "doesn't compare what is nested" in _value(report, "jensen_shannon_distance", "outer.inner").note
    assert "not compared: 1 column" in report.summary()


def test_a_breach_is_told(spark: SparkSession, flights: tuple[str, str]) -> None:
    told: list[aml_spark.Report] = []
    arguments: dict[str, Any] = {"baseline": flights[0], "target": flights[1], "columns": ["distance"]}
    report = aml_spark.monitor(spark, on_breach=told.append, **arguments)
    assert told == [report]
    with pytest.raises(BreachError, match="distance") as raised:
        aml_spark.monitor(spark, on_breach="raise", **arguments)
    assert not raised.value.report.passed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": ["distnce"]}, r"'distnce', which neither table has.*\n.*'distance'"),
        ({"columns": "distance"}, r"is the text 'distance'"),
        ({"thresholds": {"psi": 0.1}}, r"'psi', which is no metric.*\n.*'population_stability_index'"),
        ({"thresholds": {"carrier": 0.1}}, r"a column's are a mapping: \{'carrier': \{'null_value_rate': 0.1\}\}"),
        ({"thresholds": {"carier": {"null_value_rate": 0.1}}}, r"the column 'carier', which isn't compared"),
        (
            {"target": Selection("after", time_column="time"), "time_column": "tim", "window": "month"},
            r"time_column names 'tim', which neither table has.*\n.*'time'",
        ),
        ({"window": "month"}, r"needs a column that says when"),
        ({"window": "fortnight", "time_column": "time"}, r"window is 'fortnight'"),
        ({"compat": "azureml", "by": "origin"}, r"no slices"),
        ({"compat": "azure"}, r"compat is 'azure'"),
        ({"by": "orign"}, r"'orign'"),
        ({"prediction": "predicted"}, r"no column of predictions 'predicted'"),
        ({"columns": []}, r"columns names none"),
        ({"thresholds": {"distance": {1: 0.1}}}, r"expected numbers by the names"),
        ({"thresholds": {"mae": 10**400}}, r"the threshold of 'mae' is of 401 characters; expected a number"),
        ({"thresholds": [0.1]}, r"thresholds is \[0.1\]; expected numbers by the names"),
        ({"labels": "somewhere/else", "label": "late"}, r"labels= needs key="),
        ({"labels": "somewhere/else", "key": ["id"]}, r"labels= needs label="),
        ({"key": "id"}, r"key is the text 'id'"),
        ({"thresholds": {"distance": {"accuracy": 0.9}}}, r"accuracy"),
        ({"expectations": {"far": "distnce > 1"}}, r"the expectation 'far'"),
        ({"thresholds": {"null_value_rate": 5}}, r"is 5; expected a number from 0 to 1.*\n.*5 % is 0.05"),
        ({"on_breach": "mail"}, r"on_breach"),
    ],
)
def test_what_cant_be_meant_is_refused(
    spark: SparkSession,
    flights: tuple[str, str],
    arguments: dict[str, Any],
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    capfd.readouterr()
    told: dict[str, Any] = {"baseline": flights[0], "target": flights[1], **arguments}
    if isinstance(told["target"], Selection):
        told["target"] = replace(told["target"], source=flights[1])
    with pytest.raises(AmlSparkError, match=message):
        aml_spark.monitor(spark, **told)
    assert "Exception" not in capfd.readouterr().err, "Spark's own report of it"
