"""The README's examples, the notebook and the demo run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).parent.parent


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module", autouse=True)
def compiled(spark: SparkSession) -> None:
    """Unlike the other tests' few rows, 336,776 are worth the time that it takes to compile code for them."""
    spark.conf.set("spark.sql.codegen.factoryMode", "FALLBACK")


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
    assert "readings version 0: 1,000 rows scored with model version 1" in done.stdout
    assert spark.read.format("delta").load(str(folder / target)).count() == 1000


def test_the_notebook_runs_from_its_first_cell_to_its_last(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AML_SPARK_NOTEBOOK_DIR", str(tmp_path / "work"))
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "notebooks" / "01_track_and_score.ipynb").read_text())
    names: dict[str, Any] = {}
    try:
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)
    finally:
        if "tracking" in names:
            names["tracking"].restore()
    assert names["spark"] is spark
    assert spark.table(names["target"]).count() == names["result"].rows == 309_772
    assert names["again"].skipped


def test_the_demo_runs_again_and_leaves_what_it_promises(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from aml_spark.demo import run

    for version in ("1", "2"):
        run(tmp_path)
        told = capsys.readouterr().out
        assert re.findall(r"^ +(\d+) +[\d,]+ +[\d.]+% +[\d.]+% +0\.[5-9]\d\d$", told, re.MULTILINE) == [
            str(month) for month in range(4, 13)
        ]
        assert f"scored with flight-delay/{version}" in told
    assert spark.read.format("delta").load(str(tmp_path / "flights")).count() == 336_776
    predictions = spark.read.format("delta").load(str(tmp_path / "predictions"))
    assert predictions.count() == predictions.select("time_hour", "carrier", "flight").distinct().count() == 255_987
    assert "data:image/png;base64," in (tmp_path / "report.html").read_text()
    assert (tmp_path / "by_month.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "mlworkspace" / "mlflow.db").exists()


def test_no_file_names_this_machine_or_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    texts = {name: (ROOT / name).read_text(errors="replace") for name in listed.split("\0") if name}
    hosts = re.compile(
        "|".join(("py" + r"pi\.org", "pythonhosted" + r"\.org", "repo1" + r"\.maven", "registry" + r"\.npmjs"))
    )
    assert [name for name, text in texts.items() if hosts.search(text) or os.fspath(ROOT) + "/" in text] == []
