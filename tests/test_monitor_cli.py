"""`aml-spark monitor`: from options and a file to the call, and from the report to table, JSON and exit code."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from click.testing import CliRunner, Result

from aml_spark import Workspace, session
from aml_spark.cli import main as cli
from aml_spark.monitoring import monitor as monitoring
from aml_spark.monitoring.metric import Metric
from aml_spark.monitoring.profiles.profile import Profile
from aml_spark.monitoring.report.report import Report
from aml_spark.monitoring.selection import Selection

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TABLES = ("--baseline", "flights", "--target", "predictions")
DRIFTED = Metric(
    signal="drift", metric="population_stability_index", value=0.31234, column="distance", threshold=0.2, breached=True
)
UNKNOWN = Metric(signal="quality", metric="freshness_hours", value=math.nan, note="no time column")
PASSED = Metric(signal="quality", metric="null_value_rate", value=0.0, column="distance", threshold=0.05)
FILE = """
label = "late"
key = ["id"]
exact = true
thresholds = {null_value_rate = 0.05, distance = {population_stability_index = 0.3}}
expectations = {far = "distance > 0"}

[baseline]
source = "flights"
until = 2013-02-01
version = 3

[target]
source = "flights"
where = "month > 1"

[report]
html = "from_file.html"
"""


class Calls:
    """Stands for `monitor`: keeps what it is called with."""

    def __init__(self) -> None:
        self.last: dict[str, Any] = {}
        self.uris: list[str] = []
        self.workspaces: list[str] = []
        self.found: tuple[Metric, ...] = (PASSED, UNKNOWN)

    def __call__(self, spark: Any, **arguments: Any) -> Report:
        self.last = arguments
        self.workspaces.append(mlflow.get_tracking_uri())
        rows = Profile(rows=0, columns={})
        return Report(metrics_found=self.found, baseline=rows, target=rows)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "_MLFLOW_", "AZUREML_", "DATABRICKS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    made = Calls()

    def get_spark(*_: Any, uris: list[str], **__: Any) -> Any:
        made.uris = uris
        return None

    monkeypatch.setattr(session, "get_spark", get_spark)
    monkeypatch.setattr(monitoring, "monitor", made)
    return made


@pytest.fixture
def made(tmp_path: Path) -> Workspace:
    """A workspace that is there, as far as anybody looks who asks nothing of it."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "mlflow.db").touch()
    return Workspace.local(folder)


def _invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["monitor", *arguments])


def _called(calls: Calls, *arguments: str) -> dict[str, Any]:
    result = _invoke(*arguments)
    assert result.exit_code == 0, result.stderr
    return calls.last


# What is called


def test_two_tables_are_enough_and_make_no_workspace(calls: Calls, tmp_path: Path) -> None:
    assert _called(calls, *TABLES) == {"baseline": Selection("flights"), "target": Selection("predictions")}
    assert calls.uris == ["flights", "predictions"]
    assert not list(tmp_path.iterdir())


def test_options_become_arguments(calls: Calls) -> None:
    found = _called(
        calls,
        *("--baseline", "flights", "--baseline-version", "3", "--baseline-where", "a = 1"),
        *("--target", "flights", "--target-since", "2013-02-01", "--target-until", "2013-03-01"),
        *("--label", "late", "--prediction", "said", "--labels", "truth", "--task", "classification"),
        *("--decision", "0.3", "--exact", "--column", "distance", "--column", "air time", "--by", "origin"),
        *("--time-column", "time_hour", "--window", "month", "--key", "id", "--key", "leg", "--profiles", "kept"),
        *("--on-breach", "https://example.com/hook", "--expect", "far=distance >= 10"),
        *("--threshold", "null_value_rate=0.1", "--threshold", "air: time:cramers_v=0.2", "--threshold", "f1=none"),
        *("--threshold", "expectation:far=0.01", "--threshold", "air: time:null_value_rate=0"),
    )
    assert found.pop("baseline") == Selection("flights", version=3, where="a = 1")
    assert found.pop("target") == Selection("flights", since="2013-02-01", until="2013-03-01")
    assert found == {
        "label": "late",
        "prediction": "said",
        "labels": "truth",
        "task": "classification",
        "decision": 0.3,
        "exact": True,
        "columns": ["distance", "air time"],
        "by": "origin",
        "time_column": "time_hour",
        "window": "month",
        "key": ["id", "leg"],
        "profiles": "kept",
        "on_breach": "https://example.com/hook",
        "expectations": {"far": "distance >= 10"},
        "thresholds": {
            "null_value_rate": 0.1,
            "air: time": {"cramers_v": 0.2, "null_value_rate": 0.0},
            "f1": None,
            "expectation:far": 0.01,
        },
    }
    assert calls.uris == ["flights", "flights", "truth", "kept"]
    assert _called(calls, *TABLES, "--compat", "azureml")["compat"] == "azureml"


def test_a_file_says_what_options_dont(calls: Calls, tmp_path: Path) -> None:
    (tmp_path / "monitor.toml").write_text(FILE)
    found = _called(calls, "--config", "monitor.toml")
    assert found.pop("baseline") == Selection("flights", until="2013-02-01", version=3)
    assert found.pop("target") == Selection("flights", where="month > 1")
    assert found == {
        "label": "late",
        "key": ["id"],
        "exact": True,
        "thresholds": {"null_value_rate": 0.05, "distance": {"population_stability_index": 0.3}},
        "expectations": {"far": "distance > 0"},
    }
    assert "<html" in (tmp_path / "from_file.html").read_text()


def test_options_go_before_the_file(calls: Calls, tmp_path: Path) -> None:
    (tmp_path / "monitor.toml").write_text(FILE)
    found = _called(
        calls,
        *("--config", "monitor.toml", "--target", "predictions", "--baseline-version", "5", "--not-exact"),
        *("--key", "leg", "--threshold", "distance:null_value_rate=0.2", "--expect", "near=distance < 9"),
        *("--html", "from_option.html"),
    )
    assert found["baseline"] == Selection("flights", until="2013-02-01", version=5)
    assert found["target"] == Selection("predictions")  # another table: the file's condition is of its own
    assert (found["label"], found["key"], found["exact"]) == ("late", ["leg"], False)
    assert found["thresholds"] == {
        "null_value_rate": 0.05,
        "distance": {"population_stability_index": 0.3, "null_value_rate": 0.2},
    }
    assert found["expectations"] == {"far": "distance > 0", "near": "distance < 9"}
    assert [file.name for file in tmp_path.glob("*.html")] == ["from_option.html"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--target", "predictions"], "--baseline is missing"),
        (["--baseline", "flights"], "--target is missing"),
        ([*TABLES, "--threshold", "null_value_rate"], "expected [COLUMN:]METRIC=NUMBER"),
        ([*TABLES, "--threshold", "null_value_rate=low"], "expected a number, or none"),
        ([*TABLES, "--threshold", "psi=0.1"], "'psi', which is no metric"),
        ([*TABLES, "--expect", "distance > 0"], "expected NAME=SQL"),
        ([*TABLES, "--expect", "distance >= 0"], "such as 'it is positive=distance >= 0'"),
        ([*TABLES, "--conf", "spark.x"], "expected KEY=VALUE"),
        ([*TABLES, "--target-since", "soon"], "'soon'"),
        ([*TABLES, "--on-breach", "raise"], "exit code is 3"),
        ([*TABLES, "--config", "none.toml"], "can't be read"),
        ([*TABLES, "--workspace", "nowhere"], "there is no workspace"),
    ],
)
def test_wrong_arguments_end_with_2_and_say_what_is_wrong(arguments: list[str], told: str, calls: Calls) -> None:
    result = _invoke(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not calls.last


def test_a_model_is_looked_for_in_the_workspace(calls: Calls, made: Workspace) -> None:
    before = mlflow.get_tracking_uri()
    _called(calls, *TABLES, "--model", "models:/delay@champion", "--workspace", str(made.folder))
    assert calls.last["model"] == "models:/delay@champion"
    assert calls.workspaces[-1] == made.tracking_uri
    assert mlflow.get_tracking_uri() == before


# What is told of the report


def test_a_breach_ends_with_3_and_is_listed(calls: Calls) -> None:
    calls.found = (PASSED, DRIFTED, UNKNOWN)
    result = _invoke(*TABLES)
    assert result.exit_code == 3
    head, row, *rest = result.stdout.splitlines()
    assert head.split() == ["column", "metric", "value", "threshold", "slice", "window", "note"]
    assert row.split() == ["distance", "population_stability_index", "0.3123", "0.2"]
    assert "distance" in "".join(rest)
    assert "freshness_hours" not in row


def test_json_is_one_object_that_any_reader_takes(calls: Calls) -> None:
    calls.found = (DRIFTED, UNKNOWN)
    result = _invoke(*TABLES, "--json", "--html", "page/report.html")
    assert result.exit_code == 3
    (line,) = result.stdout.splitlines()
    assert "NaN" not in line
    told = json.loads(line)
    assert (told["passed"], told["breaches"], told["html"], told["run_id"]) == (False, 1, "page/report.html", None)
    drifted, unknown = told["metrics"]
    assert (drifted["column"], drifted["value"], drifted["breached"]) == ("distance", 0.31234, True)
    assert (unknown["column"], unknown["value"], unknown["note"]) == (None, None, "no time column")
    assert Path("page/report.html").exists()


def test_the_report_goes_to_a_table_and_a_run(calls: Calls, made: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(Report, "to_delta", lambda self, table, *, spark: kept.append(table))
    monkeypatch.setattr(Report, "log", lambda self: f"run in {mlflow.get_tracking_uri()}")
    result = _invoke(*TABLES, "--to-delta", "drift", "--log", "--json", "--workspace", str(made.folder))
    told = json.loads(result.stdout)
    assert (kept, told["delta"]) == (["drift"], "drift")
    assert told["run_id"] == f"run in {made.tracking_uri}"
    assert calls.uris == ["flights", "predictions", "drift"]


# The whole way


def test_tables_are_compared_and_a_breach_is_found(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = spark.range(400).selectExpr("id", "cast(id % 50 as double) as `distance.km`", "'a' || id % 3 as carrier")
    rows.write.format("delta").save(str(tmp_path / "before"))
    moved = rows.selectExpr("id", "`distance.km` + 40 as `distance.km`", "carrier")
    moved.write.format("delta").save(str(tmp_path / "now"))
    tables = ("--baseline", "./before", "--key", "id", "--expect", "near=`distance.km` < 1000")
    same = _invoke(*tables, "--target", "./before")
    assert same.exit_code == 0, same.stderr
    result = _invoke(*tables, "--target", "./now", "--json", "--html", "report.html", "--to-delta", "./drift")
    assert result.exit_code == 3, result.stderr
    told = json.loads(result.stdout)
    breached = {one["column"] for one in told["metrics"] if one["breached"]}
    assert breached == {"distance.km"}
    assert "distance.km" in (tmp_path / "report.html").read_text()
    assert spark.read.format("delta").load(str(tmp_path / "drift")).count() == len(told["metrics"])
    lost = _invoke(*tables, "--target", "./now", "--html", "report.html/in a file.html")
    assert (lost.exit_code, "can't be written" in lost.stderr) == (2, True)
    assert "jensen_shannon_distance" in lost.stdout
