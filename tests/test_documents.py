"""The README's examples, the notebook and the demo run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).parent.parent


def test_the_examples_of_the_readme_run_in_their_order(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 5
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert names["spark"] is spark
    assert names["result"].rows == 1000


def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("AML_SPARK_NOTEBOOK_DIR", str(tmp_path / "work"))
    notebook = nbformat.read(ROOT / "notebooks" / "01_track_and_score.ipynb", as_version=4)
    NotebookClient(notebook, timeout=400, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)


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
