"""The README's examples, the notebook and the demo run as they stand."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import processes
import pytest

import aml_spark
from aml_spark import auth, demo as demonstration
from aml_spark.testing import EmulatorProcess

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).parent.parent
AIRPORTS = ["EWR", "JFK", "LGA"]


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def compiled(spark: SparkSession) -> None:
    """Unlike few rows, the 336,776 flights are worth more tasks, and the time to compile code for them."""
    compiled = {
        "spark.sql.adaptive.enabled": "true",
        "spark.sql.codegen.factoryMode": "FALLBACK",
        "spark.sql.shuffle.partitions": "2",
    }
    for name, value in {**compiled, **processes.FOR_ALL_ROWS}.items():
        spark.conf.set(name, value)


@pytest.fixture(scope="module")
def readme(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The Python examples, run in their order: their folder, and their names."""
    folder, names = tmp_path_factory.mktemp("readme"), dict[str, Any]()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("conf").symlink_to(ROOT / "conf")
        for block in _blocks("python"):
            exec(block, names)
    return folder, names


def test_the_examples_of_the_readme_run_in_their_order(
    spark: SparkSession, readme: tuple[Path, dict[str, Any]]
) -> None:
    folder, names = readme
    assert names["spark"] is spark
    assert names["result"].rows == spark.read.format("delta").load(str(folder / "predictions")).count() == 1000


@pytest.mark.parametrize(("command", "target"), [("aml-spark score", "scored"), ("spark-submit", "submitted")])
def test_the_command_lines_of_the_readme_score(
    spark: SparkSession, readme: tuple[Path, dict[str, Any]], command: str, target: str
) -> None:
    folder, _ = readme
    lines = "\n".join(_blocks("console")).replace("\\\n", " ").splitlines()
    (line,) = [line for line in lines if line.startswith(command)]
    path = os.pathsep.join([os.fspath(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "readings version 3: 999 rows scored with model version 1" in done.stdout
    assert spark.read.format("delta").load(str(folder / target)).count() == 999


def _run_notebook(folder: Path, until: str | None = None, name: str = "01_track_and_score.ipynb") -> dict[str, Any]:
    """The names of the notebook's cells, run up to the one that defines `until`, or all."""
    notebook = json.loads((ROOT / "notebooks" / name).read_text())
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AML_SPARK_NOTEBOOK_DIR", str(folder / "work"))
        patch.chdir(folder)
        try:
            for cell in notebook["cells"]:
                if cell["cell_type"] == "code":
                    exec("".join(cell["source"]), names)
                if until in names:
                    break
        finally:
            if "tracking" in names:
                names["tracking"].restore()
    return names


@pytest.mark.usefixtures("compiled")
def test_the_notebook_runs_from_its_first_cell_to_its_last(spark: SparkSession, tmp_path: Path) -> None:
    names = _run_notebook(tmp_path)
    assert names["spark"] is spark
    assert spark.table(names["target"]).count() == names["result"].rows == 309_772
    assert names["again"].skipped


@pytest.mark.usefixtures("compiled")
def test_the_notebook_of_changes_runs_from_its_first_cell_to_its_last(spark: SparkSession, tmp_path: Path) -> None:
    names = _run_notebook(tmp_path, name="02_incremental_scoring.ipynb")
    assert [names[one].scope for one in ("first", "second", "third")] == ["all", "changes", "all"]
    assert names["second"].rows < names["first"].rows / 10
    assert names["told"]["scope"].tolist() == ["changes", "all", "changes", "all"]


@pytest.mark.usefixtures("compiled")
def test_the_notebook_of_projects_and_endpoints_runs_from_its_first_cell_to_its_last(
    tmp_path: Path, azureml_workspace: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AML_SPARK_WORKSPACE", azureml_workspace.facts["tracking_uri"])
    monkeypatch.setenv("AML_SPARK_REPOSITORY", str(ROOT))
    names = _run_notebook(tmp_path, name="03_projects_and_endpoints.ipynb")
    assert names["runs"]["status"].tolist() == ["FINISHED", "FINISHED"]
    assert names["there"].run_id in names["runs"]["run_id"].tolist()
    assert names["local"] == names["answered"] == names["expected"]
    assert len(set(names["expected"])) > 10
    assert names["left"] == []


@pytest.mark.usefixtures("compiled")
def test_the_notebook_of_monitoring_runs_from_its_first_cell_to_its_last(spark: SparkSession, tmp_path: Path) -> None:
    names = _run_notebook(tmp_path, name="04_monitoring.ipynb")
    assert not names["report"].passed
    assert (tmp_path / "work" / "monitoring.html").exists()
    # What the text says of the summer.
    performance = names["performance"].loc["2013-07-01"]
    assert (
        performance["expected_accuracy"]
        > names["report"]
        .metrics.query("metric == 'accuracy' and window == '2013-07-01' and slice.isna()")["value"]
        .item()
        + 0.1
    )


@pytest.mark.usefixtures("compiled")
def test_the_notebook_goes_to_another_workspace_by_three_lines(
    spark: SparkSession, tmp_path: Path, azureml_workspace: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = azureml_workspace.facts["tracking_uri"]
    monkeypatch.setenv("AML_SPARK_WORKSPACE", address)
    names = _run_notebook(tmp_path, until="version")
    found = mlflow.MlflowClient(address, address).get_model_version_by_alias("aml_spark_flight_delay", "champion")
    assert (str(found.version), str(names["version"])) == ("1", "1")


@pytest.fixture(scope="module")
def demo(spark: SparkSession, compiled: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The demo, twice in one folder: in this process, then on an emulator as on a cluster; and what each told."""
    folder = tmp_path_factory.mktemp("demo")
    with contextlib.redirect_stdout(io.StringIO()) as words:
        demonstration.run(folder)
    (folder / "report.html").unlink()
    command = [sys.executable, "-m", "aml_spark", "demo", "--workspace", "emulator", "--out", str(folder)]
    env = {**os.environ, "SPARK_SUBMIT_OPTS": processes.submit_options(processes.FOR_ALL_ROWS)}
    again = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr[-3000:]
    return folder, [words.getvalue(), again.stdout]


def _by_airport(told: str) -> dict[str, str]:
    return dict(re.findall(r"^ +(EWR|JFK|LGA) +[\d,]+ +0\.[5-9]\d\d  (\w{32})$", told, re.MULTILINE))


def test_the_demo_runs_again_and_leaves_what_it_promises(spark: SparkSession, demo: tuple[Path, list[str]]) -> None:
    folder, texts = demo
    for told in texts:
        assert re.findall(r"^ +(\d+) +[\d,]+ +[\d.]+% +[\d.]+% +0\.[5-9]\d\d$", told, re.MULTILINE) == [
            str(month) for month in range(4, 13)
        ]
        assert list(_by_airport(told)) == AIRPORTS
        assert "255,987 flights scored with flight-delay/1" in told
        assert "performance" in told  # the model hasn't seen a summer
        assert re.search(r"^- temp: mean 37\.\d → 63\.\d", told, re.MULTILINE)
    assert spark.read.format("delta").load(str(folder / "flights")).count() == 336_776
    predictions = spark.read.format("delta").load(str(folder / "predictions"))
    assert predictions.count() == predictions.select("time_hour", "carrier", "flight").distinct().count() == 255_987
    assert [commit.scope for commit in aml_spark.lineage(spark, str(folder / "predictions"))] == ["all", "all"]
    assert "models:/flight-delay/1" in (folder / "report.html").read_text()
    drift = spark.read.format("delta").load(str(folder / "drift"))
    assert drift.select("report_id").distinct().count() == 2
    with aml_spark.configure(spark, workspace=folder / "mlworkspace", experiment="flights", autolog=False):
        demonstration.train(spark.read.format("delta").load(str(folder / "flights")))
        assert str(mlflow.MlflowClient().get_model_version_by_alias(demonstration.MODEL, "champion").version) == "2"


def test_the_demo_goes_to_an_emulator_as_on_a_cluster(demo: tuple[Path, list[str]]) -> None:
    folder, (_, told) = demo
    with EmulatorProcess(folder / "aml-spark-emulator") as kept, pytest.MonkeyPatch.context() as patch:
        for name, value in kept.environment.items():
            patch.setenv(name, value)
        auth.tokens.cache_clear()
        client = mlflow.MlflowClient(kept.facts["tracking_uri"])
        children = {airport: client.get_run(run_id) for airport, run_id in _by_airport(told).items()}
        parents = {client.get_run(child.data.tags["mlflow.parentRunId"]).info.run_name for child in children.values()}
        every = client.search_runs([child.info.experiment_id for child in children.values()][:1])
    auth.tokens.cache_clear()
    assert sorted(children) == AIRPORTS
    assert len(every) == 4, "one that trained, and each airport's once"
    assert parents == {"logistic regression"}
    for airport, child in children.items():
        assert (child.data.params["origin"], child.info.status) == (airport, "FINISHED")
        assert child.data.tags["spark.master"].startswith("local-cluster")


def test_no_file_names_this_machine_or_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    texts = {name: (ROOT / name).read_text(errors="replace") for name in listed.split("\0") if name}
    hosts = re.compile(
        "|".join(("py" + r"pi\.org", "pythonhosted" + r"\.org", "repo1" + r"\.maven", "registry" + r"\.npmjs"))
    )
    assert [name for name, text in texts.items() if hosts.search(text) or os.fspath(ROOT) + "/" in text] == []
