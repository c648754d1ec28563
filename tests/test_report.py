"""What a report says, where it goes, and who is told of a breach."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from reports import MADE_AT, column, metric, outcome, profile, report

import aml_spark
from aml_spark.errors import AmlSparkError, ArgumentError, BreachError, TargetError
from aml_spark.monitoring import figures
from aml_spark.monitoring.metric import Metric, in_time
from aml_spark.monitoring.profiles.histogram import Histogram
from aml_spark.monitoring.profiles.profile import Profile
from aml_spark.monitoring.report import alerts, findings, pictures, publishing
from aml_spark.monitoring.report.report import Report

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from aml_spark.testing import EmulatorProcess

BREACHED = [
    metric("population_stability_index", 0.41, column="delay", threshold=0.2, breached=True),
    metric("jensen_shannon_distance", 0.15, column="carrier", threshold=0.1, breached=True, bound=0.001),
    metric("jensen_shannon_distance", 0.05, column="delay", threshold=0.1, note="ten rows"),
    metric("jensen_shannon_distance", 0.4, column="delay", threshold=0.1, breached=True, slice="JFK"),
    metric("jensen_shannon_distance", 0.2, column="delay", threshold=0.1, window="2026-02-01T00:00:00", breached=True),
    metric("jensen_shannon_distance", 0.01, column="delay", threshold=0.1, window="2026-01-01T00:00:00"),
    Metric(signal="quality", metric="freshness_hours", value=float("nan"), note="no time"),
]
UNKNOWN = Metric(
    signal="performance", metric="accuracy", value=float("nan"), threshold=0.7, unheld="no row has a usable label"
)
FLIGHTS = {
    "delay": (np.full(50, 61.2), np.full(50, 78.4)),
    "carrier": (np.array(["UA", "DL"] * 25), np.array(["UA", "HA"] * 25)),
}


@pytest.fixture
def flights() -> Report:
    return report(FLIGHTS, BREACHED, importance={"delay": 0.9, "carrier": 0.3}, model="models:/delay/1")


# What it says


def test_metrics_are_a_frame_with_a_row_each(flights: Report) -> None:
    frame = flights.metrics
    assert list(frame.columns[:7]) == ["column", "metric", "value", "threshold", "breached", "slice", "note"]
    assert list(frame.columns[7:]) == ["signal", "window", "bound"]
    assert frame["value"].to_list()[:6] == [one.value for one in BREACHED[:6]]
    assert frame["breached"].dtype == bool
    assert frame["threshold"].isna().to_list() == [False] * 6 + [True]
    assert frame["slice"].to_list() == [None, None, None, "JFK", None, None, None]
    assert report(FLIGHTS).metrics.dtypes.to_list() == frame.dtypes.to_list()


def test_the_summary_says_what_changed_worst_first(flights: Report) -> None:
    assert not flights.passed
    assert flights.summary().split("\n") == [
        "2 of 2 columns breached",
        "- delay: mean 61.2 → 78.4, greatest 61.2 → 78.4 "
        "(population_stability_index 0.41 > 0.2, jensen_shannon_distance 0.4 > 0.1 in slice JFK); "
        "in 1 of 2 windows and in slice JFK",
        "- carrier: new category 'HA', no longer 'DL' (jensen_shannon_distance 0.15 > 0.1)",
    ]
    without = flights.summary(values=False)
    assert not [value for value in ("HA", "DL", "JFK", "greatest") if value in without]
    assert "mean 61.2 → 78.4" in without


def test_the_summary_says_what_was_not_compared_and_why(flights: Report) -> None:
    lost = [metric("psi", float("nan"), column=name, unheld="all its values are null") for name in FLIGHTS]
    both = (UNKNOWN, replace(UNKNOWN, metric="f1"))
    assert report(FLIGHTS, [BREACHED[3], *lost, *both]).summary().split("\n")[0::2] == [
        "1 of 2 columns breached in slices or windows; not compared: 2 columns, performance",
        "- not compared: performance (no row has a usable label)",
    ]
    told = report(FLIGHTS, [*lost, *both, replace(UNKNOWN, metric="r2", value=0.9, unheld=None)]).summary()
    assert told.split("\n")[1:] == [
        "- not compared: accuracy, f1 (no row has a usable label)",
        "- not compared: delay, carrier (all its values are null)",
    ]
    parts = [
        replace(UNKNOWN, slice="JFK"),
        replace(UNKNOWN, window="2024-01-01"),
        replace(UNKNOWN, value=1, unheld=None),
    ]
    some = report(FLIGHTS, [BREACHED[2], *parts], by="origin")
    assert "- not compared: performance in 1 window and in slice JFK of origin (no row has" in some.summary()
    assert "JFK" not in some.summary(values=False)
    assert "not compared" not in flights.summary()


def test_what_breached_in_parts_says_in_which_and_how_at_worst() -> None:
    one = report(FLIGHTS, [BREACHED[3], BREACHED[4]], by="origin").summary().split("\n")[1]
    assert one == (
        "- delay: in all rows mean 61.2 → 78.4, greatest 61.2 → 78.4 (jensen_shannon_distance 0.4 > 0.1 in slice JFK "
        "of origin); in 1 of 1 window and in slice JFK of origin"
    )
    p_values = [
        metric(findings.P_VALUES[0], value, column="delay", threshold=0.05, breached=True, window=f"2026-0{month}-01")
        for month, value in ((1, 1e-9), (2, 1e-100), (3, 1e-7))
    ]
    accuracy = replace(UNKNOWN, value=0.6, breached=True, unheld=None, window="2026-02-01")
    told = report(FLIGHTS, [*p_values, accuracy, replace(accuracy, metric="f1", window=None)]).summary().split("\n")
    assert told[1].startswith("- performance: f1 0.6 < 0.7, accuracy 0.6 < 0.7 from 2026-02-01; in 1 of 3")
    assert "_test 1e−100 < 0.05 from 2026-02-01" in told[2]


def test_importance_and_how_far_a_threshold_is_passed_decide_what_is_worst() -> None:
    small, large = (
        metric("psi", value, column=name, threshold=0.1, breached=True)
        for name, value in zip("ab", (0.2, 0.9), strict=True)
    )
    p_value = metric(findings.P_VALUES[0], 1e-300, column="c", threshold=0.05, breached=True)
    whole = Metric(signal="quality", metric="duplicate_rate", value=0.01, threshold=0.0, breached=True)
    model = Metric(signal="performance", metric="accuracy", value=0.6, threshold=0.8, breached=True)
    columns = {name: (np.arange(3), np.arange(3)) for name in "abc"}

    def order(**named: Any) -> list[str | None]:
        found = findings.findings(report(columns, [p_value, small, large, whole, model], **named))
        return [one.column or one.metrics[0].metric for one in found]

    assert order() == ["accuracy", "duplicate_rate", "b", "a", "c"]
    known = {"a": 10.0, "b": 0.5}
    assert order(importance={**known, "c": 0.0}) == ["accuracy", "duplicate_rate", "a", "b", "c"]
    assert order(importance=known) == ["accuracy", "duplicate_rate", "a", "c", "b"]  # c is no input of the model


def test_the_summary_tells_of_types_missing_values_and_columns_that_are_gone() -> None:
    baseline = profile([column("a", [1, 2]), column("b", [1.0, 2.0]), column("gone", [1, 2])])
    target = profile([column("a", ["x", "y"]), column("b", [1.0], missing=1)])
    breached = [metric("psi", 1.0, column=name, threshold=0.1, breached=True) for name in ("a", "b", "gone")]
    told = Report(metrics_found=tuple(breached), baseline=baseline, target=target).summary()
    assert "- a: type bigint → string (" in told
    assert "missing 0 % → 50 %" in told
    assert "- gone: only in the baseline (" in told


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ([], "Nothing was held against a threshold, of 2 columns"),
        ([BREACHED[2]], "Passed: nothing breached in 2 columns"),
        ([replace(BREACHED[2], value=float("nan"), unheld="no rows")], "Nothing could be compared, of 2 columns"),
        (
            [BREACHED[2], metric("psi", float("nan"), column="carrier", unheld="all are null"), UNKNOWN],
            "Passed: nothing breached in 1 column; not compared: 1 column, performance",
        ),
        (
            [BREACHED[2], replace(UNKNOWN, metric="r2"), replace(UNKNOWN, value=0.9, unheld=None)],
            "Passed: nothing breached in 2 columns; not compared: some of performance",
        ),
        (
            [BREACHED[2], replace(UNKNOWN, signal="quality", metric="freshness_hours")],
            "Passed: nothing breached in 2 columns; not compared: freshness_hours",
        ),
        ([BREACHED[0]], "1 of 2 columns breached"),
        ([replace(BREACHED[0], column=None, signal="performance")], "Performance breached"),
        ([BREACHED[0], replace(BREACHED[0], column=None)], "1 of 2 columns and 1 check of the whole table breached"),
        ([replace(BREACHED[0], slice="JFK")], "1 of 2 columns breached in slices or windows"),
        (
            [replace(BREACHED[0], window="2013-06-01"), replace(BREACHED[0], column="carrier")],
            "1 of 2 columns breached, 1 of 2 columns in slices or windows",
        ),
        (
            [replace(BREACHED[0], slice="JFK"), replace(BREACHED[0], column=None, signal="performance")],
            "Performance breached, 1 of 2 columns in slices or windows",
        ),
        (
            [replace(BREACHED[0], column=None, metric="weighted_drift", slice="JFK")],
            "1 check breached in slices or windows",
        ),
        (
            [
                BREACHED[0],
                replace(BREACHED[0], column="carrier", slice="JFK"),
                replace(BREACHED[0], column=None, signal="performance", window="2013-06-01"),
            ],
            "1 of 2 columns breached, 1 of 2 columns and performance in slices or windows",
        ),
    ],
)
def test_the_verdict_is_one_sentence(metrics: list[Metric], words: str) -> None:
    assert findings.verdict(report(FLIGHTS, metrics)) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (61.234, "61.2"),
        (1234567.8, "1,234,568"),
        (-0.00012349, "−0.000123"),
        (2.5e-9, "2.5e−9"),
        (float("inf"), "∞"),
        (float("nan"), "–"),
        (0.03125, "0.0313"),
        (999.96, "1,000"),
        (1e7, "1e7"),
    ],
)
def test_numbers_have_three_digits_that_count(value: float, text: str) -> None:
    assert figures.number(value) == text


def test_a_value_is_told_from_its_threshold() -> None:
    near = Metric(signal="performance", metric="brier", value=0.2161, threshold=0.21598, breached=True)
    assert findings.comparison(near) == "brier 0.2161 > 0.216"
    gone = Metric(signal="quality", metric="row_count_change", value=-1.0, threshold=0.0, breached=True)
    assert findings.comparison(gone) == "row_count_change −100 %"
    rate = Metric(signal="quality", metric="null_value_rate", value=0.50004, threshold=0.5, breached=True)
    assert findings.comparison(rate) == "null_value_rate 50.004 % > 50 %"


def test_windows_of_any_form_have_an_order() -> None:
    windows = ["(missing)", "2020-10-26T02:00:00+01:00", "2020-10-25T02:00:00Z", "2020-10-25"]
    assert sorted(windows, key=in_time) == windows[::-1]


def test_a_terminal_gets_a_table_that_moves_no_cursor() -> None:
    text = str(
        report(
            {"a\x1b[2J\nb": ([1.0], [2.0])}, [metric("psi", 1.0, column="a\x1b[2J\nb", threshold=0.1, breached=True)]
        )
    )
    assert text.split("\n")[1] == "✗  a�[2J�b  psi 1 > 0.1"
    assert "psi" in str(report(FLIGHTS, [metric("psi", 0.01, column="delay", threshold=0.1)]))


def test_a_notebook_gets_a_small_table(flights: Report) -> None:
    shown = flights._repr_html_()
    assert "<strong>2 of 2 columns breached</strong>" in shown
    assert "population_stability_index 0.41 &gt; 0.2" in shown
    many = report(FLIGHTS, BREACHED * 500)
    assert len(many._repr_html_()) < 10_000


def test_a_page_is_written_where_the_path_says(flights: Report, tmp_path: Path) -> None:
    assert flights.to_html(tmp_path / "new" / "report.html") is None
    assert (tmp_path / "new" / "report.html").read_text(encoding="utf-8") == flights.to_html()
    with pytest.raises(ArgumentError, match="expected one of this machine"):
        flights.to_html("abfss://a@b.dfs.core.windows.net/report.html")
    with pytest.raises(ArgumentError, match=r"can't be written to .*: Is a directory"):
        flights.to_html(tmp_path)


# What is drawn


@pytest.mark.parametrize("whole", [False, True])
def test_bars_are_shares_of_all_values(whole: bool) -> None:
    drawn = np.random.default_rng(5)
    values = [drawn.integers(0, 300, 900).astype(float), drawn.integers(-50, 200, 500).astype(float)]
    found = pictures.of_numbers([Histogram.of(one) for one in values], whole=whole)
    assert found is not None
    edges = np.array(found["edges"])
    for shares, one in zip(found["shares"], values, strict=True):
        inside = np.clip(one, edges[0], np.nextafter(edges[-1], -np.inf))
        wanted = np.histogram(inside, edges)[0] / len(one)
        assert np.allclose(shares, wanted, atol=0.01 if whole else 0.02)


def test_a_curve_ends_in_its_corners_and_never_falls() -> None:
    curve = np.array(pictures.of_outcome(outcome(1))["roc"][0][1])
    assert curve[0].tolist() == [0, 0]
    assert curve[-1].tolist() == [1, 1]
    assert (np.diff(curve, axis=0) >= 0).all()


# Where it goes


@pytest.mark.every_kind
@pytest.mark.oldest
def test_metrics_are_appended_to_a_table(spark: SparkSession, tmp_path: Path, flights: Report) -> None:
    place = str(tmp_path / "drift")
    flights.to_delta(place, spark=spark)
    later = report(FLIGHTS, BREACHED[:1])
    later.to_delta(place)
    table = spark.read.format("delta").load(place)
    assert [(field.name, field.metadata["comment"]) for field in table.schema] == [
        (name, comment) for name, (_, comment) in publishing.SCHEMA.items()
    ]
    rows = table.where(table.report_id == flights.id).orderBy("value").toPandas()
    assert len(rows) == len(BREACHED)
    assert table.count() == len(BREACHED) + 1
    last = rows[rows["value"] == 0.41].iloc[0]
    assert last[["baseline", "baseline_version", "target_version", "model"]].to_list() == [
        "main.flights",
        3,
        7,
        "models:/delay/1",
    ]
    assert bool(last["breached"]) is True
    assert table.selectExpr("unix_micros(made_at)").head()[0] == MADE_AT.timestamp() * 1e6
    assert table.where("value IS NULL").head()["note"] == "no time"


def test_two_jobs_append_at_once_to_a_table_that_neither_found(spark: SparkSession, tmp_path: Path) -> None:
    both = [report(FLIGHTS, BREACHED[:1]) for _ in range(2)]
    failed: list[BaseException] = []

    def write(one: Report) -> None:
        try:
            one.to_delta(str(tmp_path / "drift"), spark=spark)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(one,)) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert spark.read.format("delta").load(str(tmp_path / "drift")).count() == 2


def test_another_table_is_left_as_it_is(spark: SparkSession, tmp_path: Path, flights: Report) -> None:
    place = str(tmp_path / "other")
    spark.range(3).write.format("delta").save(place)
    with pytest.raises(TargetError, match="is another table: it lacks 'report_id'"):
        flights.to_delta(place)
    assert spark.read.format("delta").load(place).count() == 3


def test_a_run_gets_metrics_page_profiles_and_tags(tracking: aml_spark.Tracking, flights: Report) -> None:
    import mlflow

    client = mlflow.MlflowClient()
    client.create_registered_model("delay")
    client.create_model_version("delay", "file:///nowhere")
    with mlflow.start_run() as run:
        assert flights.log() == run.info.run_id
        assert mlflow.active_run() is not None
    found = client.get_run(run.info.run_id).data
    assert found.metrics == {
        "drift.delay.population_stability_index": 0.41,
        "drift.carrier.jensen_shannon_distance": 0.15,
        "drift.delay.jensen_shannon_distance": 0.05,
        "JFK/drift.delay.jensen_shannon_distance": 0.4,
        "drift.delay.jensen_shannon_distance.windows": 0.2,
    }
    history = client.get_metric_history(run.info.run_id, "drift.delay.jensen_shannon_distance.windows")
    assert sorted((one.step, one.value, one.timestamp) for one in history) == [
        (0, 0.01, 1767225600000),
        (1, 0.2, 1769904000000),
    ]
    assert found.tags["aml_spark.monitoring.passed"] == "false"
    page = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/monitoring/report.html")
    assert page == flights.to_html()
    names = {Path(one.path).name for one in client.list_artifacts(run.info.run_id, "monitoring")}
    assert names == {"report.html", "metrics.csv", "baseline.json", "target.json"}
    tags = client.get_model_version("delay", "1").tags
    assert tags["aml_spark.monitoring.verdict"] == "2 of 2 columns breached"
    assert tags["aml_spark.monitoring.run_id"] == run.info.run_id


def test_windows_before_1970_are_logged_in_order_at_the_first_time_that_mlflow_has(
    tracking: aml_spark.Tracking, flights: Report
) -> None:
    import mlflow

    begins = ["1970-01-02", "1969-12-31", "0001-01-01", "1969-10-26T01:00:00-04:00", "(missing)"]
    metrics = [metric("psi", float(at), column="delay", window=begin) for at, begin in enumerate(begins)]
    run_id = replace(flights, metrics_found=tuple(metrics)).log()
    assert mlflow.get_run(run_id).info.status == "FINISHED"
    history = mlflow.MlflowClient().get_metric_history(run_id, "drift.delay.psi.windows")
    now = int(MADE_AT.timestamp() * 1000)
    assert sorted((one.step, one.value, one.timestamp) for one in history) == [
        (0, 2, 0),
        (1, 3, 0),
        (2, 1, 0),
        (3, 0, 86_400_000),
        (4, 4, now),
    ]


def test_without_a_run_or_a_version_a_report_is_logged_nevertheless(
    tracking: aml_spark.Tracking, flights: Report, caplog: pytest.LogCaptureFixture
) -> None:
    import mlflow

    names = ["a?", "a!", "a/../b", "ü" * 300, "a_"]
    metrics = [metric("psi", float(at), column=name, slice="x/y") for at, name in enumerate(names)]
    of = replace(flights, model="models:/nobody/7", metrics_found=tuple(metrics))
    with caplog.at_level(logging.WARNING, "aml_spark"):
        run_id = of.log()
    assert mlflow.active_run() is None
    logged = mlflow.get_run(run_id).data.metrics
    assert sorted(logged.values()) == [0, 1, 2, 3, 4]
    assert "the registry took no tags for models:/nobody/7" in caplog.text


def test_a_workspace_gets_a_report_within_its_limit_of_names(
    azureml_workspace: EmulatorProcess, flights: Report
) -> None:
    import mlflow

    address = azureml_workspace.facts["tracking_uri"]
    rest = [metric("psi", 0.0, column=f"c{at}", threshold=0.1) for at in range(60)]
    of = replace(flights, metrics_found=(*rest, *BREACHED))
    with aml_spark.configure(workspace=address, experiment="monitoring", autolog=False):
        client = mlflow.MlflowClient()
        with mlflow.start_run() as run:
            mlflow.log_text("flavors: {}", "model/MLmodel")
        mlflow.register_model(f"runs:/{run.info.run_id}/model", "delay")
        found = client.get_run(of.log())
        names = {Path(one.path).name for one in client.list_artifacts(found.info.run_id, "monitoring")}
        page = mlflow.artifacts.load_text(f"runs:/{found.info.run_id}/monitoring/report.html")
        tags = client.get_model_version("delay", "1").tags
    assert len(found.data.metrics) == 50
    assert {"drift.delay.population_stability_index", "JFK/drift.delay.jensen_shannon_distance"} < {*found.data.metrics}
    assert names == {"report.html", "metrics.csv", "baseline.json", "target.json"}
    assert page == of.to_html()
    assert tags["aml_spark.monitoring.run_id"] == found.info.run_id


def test_a_second_report_on_a_run_of_a_workspace_takes_the_place_of_the_first(
    azureml_workspace: EmulatorProcess, flights: Report, caplog: pytest.LogCaptureFixture
) -> None:
    import mlflow

    def of(value: float, prefix: str = "c", *, hour: int = 0) -> Report:
        found = [metric("psi", value, column=f"{prefix}{at}") for at in range(40)]
        return replace(flights, model=None, metrics_found=tuple(found), made_at=MADE_AT + timedelta(hours=hour))

    address = azureml_workspace.facts["tracking_uri"]
    with (
        aml_spark.configure(workspace=address, experiment="monitoring", autolog=False),
        caplog.at_level(logging.WARNING, "aml_spark"),
        mlflow.start_run() as run,
    ):
        of(0.1).log()
        of(0.2, hour=1).log()
        both = mlflow.get_run(run.info.run_id).data.metrics
        assert caplog.text == ""
        of(0.3, "d", hour=2).log()  # for ten of which there is room
        mixed = mlflow.get_run(run.info.run_id).data.metrics
    assert both == {f"drift.c{at}.psi": 0.2 for at in range(40)}
    assert mixed == both | {f"drift.d{at}.psi": 0.3 for at in range(10)}
    assert "30 of 40 values aren't on the run" in caplog.text


def test_a_run_of_a_workspace_with_50_metrics_of_its_own_gets_none(
    azureml_workspace: EmulatorProcess, flights: Report, caplog: pytest.LogCaptureFixture
) -> None:
    import mlflow

    own = {f"loss{at}": 1.0 for at in range(50)}
    address = azureml_workspace.facts["tracking_uri"]
    with (
        aml_spark.configure(workspace=address, experiment="monitoring", autolog=False),
        caplog.at_level(logging.WARNING, "aml_spark"),
        mlflow.start_run() as run,
    ):
        mlflow.log_metrics(own)
        replace(flights, model=None).log()
        found = mlflow.get_run(run.info.run_id).data.metrics
    assert found == own
    assert "6 of 6 values aren't on the run" in caplog.text


def test_where_names_are_few_those_that_matter_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    many = [metric("hellinger_distance", 0.1, column=f"c{at}") for at in range(90)]
    with caplog.at_level(logging.WARNING, "aml_spark"):
        logged = publishing._logged(report({}, [*many, *BREACHED]), (), 50)
    assert len({one.key for one in logged}) == 50
    assert logged[0].key == "drift.delay.population_stability_index"
    assert {one.key for one in logged} > {
        "JFK/drift.delay.jensen_shannon_distance",
        "drift.delay.jensen_shannon_distance",
    }
    assert "of 96 values aren't on the run" in caplog.text


# Who is told


class Webhook(BaseHTTPRequestHandler):
    answers: list[int]
    bodies: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.answers.pop(0))
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    Webhook.answers, Webhook.bodies = [], []
    server = HTTPServer(("127.0.0.1", 0), Webhook)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/services/T0/s3cret?sig=s3cret"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_gets_names_and_numbers_and_is_asked_again(webhook: str, flights: Report) -> None:
    Webhook.answers = [503, 429, 200]
    alerts.alert(flights, webhook)
    assert len(Webhook.bodies) == 3
    body = Webhook.bodies[-1]
    assert body["passed"] is False
    assert body["columns_breached"] == ["delay", "carrier"]
    assert body["values_breached"] == 4
    assert body["text"].startswith(
        "main.flights against main.flights: 2 of 2 columns breached\ndelay: mean 61.2 → 78.4"
    )
    assert not [value for value in ("HA", "DL", "JFK") if value in json.dumps(body)]


@pytest.mark.parametrize(("answers", "asked"), [([404], 1), ([302], 1), ([500] * 4, 4)])
def test_a_webhook_that_refuses_is_a_warning_without_its_address(
    webhook: str, flights: Report, caplog: pytest.LogCaptureFixture, answers: list[int], asked: int
) -> None:
    Webhook.answers = list(answers)
    with caplog.at_level(logging.WARNING, "aml_spark"):
        alerts.alert(flights, webhook)
    assert len(Webhook.bodies) == asked
    assert f"the webhook at 127.0.0.1 wasn't told of the breach (HTTP {answers[0]})" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("address", "why"),
    [("http://127.0.0.1:9/s3cret", "ConnectionError"), ("https://hooks..slack.invalid/s3cret", "LocationParseError")],
)
def test_a_webhook_that_isnt_there_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, flights: Report, caplog: pytest.LogCaptureFixture, address: str, why: str
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    with caplog.at_level(logging.WARNING, "aml_spark"):
        alerts.alert(flights, address)
    assert f"({why})" in caplog.text
    assert "s3cret" not in caplog.text


def test_raise_says_what_breached_without_values_of_rows(flights: Report) -> None:
    with pytest.raises(BreachError) as raised:
        alerts.alert(flights, "raise")
    assert isinstance(raised.value, AmlSparkError)
    text = str(raised.value)
    assert "2 of 2 columns breached" in text
    assert "mean 61.2 → 78.4" in text
    assert not [value for value in ("'HA'", "'DL'", "JFK", "greatest") if value in text]


def test_a_function_gets_the_report_only_where_it_breached(flights: Report) -> None:
    told: list[Report] = []
    alerts.alert(flights, told.append)
    alerts.alert(report(FLIGHTS, [BREACHED[2]]), told.append)
    alerts.alert(flights, None)
    assert told == [flights]


@pytest.mark.parametrize(
    "wrong",
    [
        "http://example.com/s3cret",
        "s3cret",
        "ftp://example.com/s3cret",
        "https:///s3cret",
        "https://[s3cret",
        3,
        "http://127.0.0.1.example.com/s3cret",
    ],
)
def test_what_cant_be_told_to_is_refused_beforehand_and_not_shown(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match="expected a function that takes the report") as refused:
        alerts.check(wrong)
    assert "s3cret" not in str(refused.value)


def test_an_empty_profile_makes_a_report() -> None:
    empty = Report(metrics_found=(), baseline=Profile(rows=0, columns={}), target=Profile(rows=0, columns={}))
    assert empty.passed
    assert empty.summary() == "Nothing was held against a threshold, of 0 columns"
    assert empty.to_html() is not None
