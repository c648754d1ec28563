"""What is found, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aml_spark import Workspace, java
from aml_spark.doctor import Finding, examine

ID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "_MLFLOW_", "AZURE_", "AZUREML_", "DATABRICKS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def _found() -> dict[str, Finding]:
    findings = examine()
    assert len({finding.what for finding in findings}) == len(findings)
    return {finding.what: finding for finding in findings}


def _java(folder: Path, version: str) -> Path:
    """A Java that only tells its version."""
    folder.mkdir(parents=True)
    file = folder / "java"
    file.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2021-01-19' >&2\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def _without_java() -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if name != "JAVA_HOME"}, "PATH": ""}


def _doctor(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aml_spark", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


def test_every_finding_that_is_not_well_says_what_to_type() -> None:
    for finding in examine():
        assert finding.found
        assert finding.ok or finding.mend


def test_what_is_installed_is_found_with_its_version() -> None:
    found = _found()
    assert found["python"].ok
    assert found["python"].found == ".".join(map(str, sys.version_info[:3]))
    for name in ("pyspark", "delta-spark", "mlflow-skinny"):
        assert found[name].ok
        assert found[name].found == importlib.metadata.version(name)


def test_what_scoring_does_not_need_is_marked_so(monkeypatch: pytest.MonkeyPatch) -> None:
    always = {"python", "java", "pyspark", "delta-spark", "mlflow-skinny", "workspace"}
    needed = {name for name, finding in _found().items() if finding.needed}
    assert needed == {*always, "mlflow"}  # for the store of a local workspace
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert {name for name, finding in _found().items() if finding.needed} == always


def test_what_opens_data_lakes_is_told_without_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _found()["abfss://"].found == "whoever azure-identity finds, for every account"
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.setenv(name, "planted")
    assert _found()["abfss://"].found == "ServicePrincipal of AZURE_CLIENT_ID, for every account"
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "contoso")
    monkeypatch.setenv("AZURE_STORAGE_KEY", "planted")
    assert _found()["abfss://"].found == "AccountKey for the account 'contoso'"


def test_a_data_lake_isnt_reached_without_azures_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "azure-identity":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr("aml_spark.doctor.importlib.metadata.version", version)
    lakes = _found()["abfss://"]
    assert not lakes.ok
    assert not lakes.needed
    assert lakes.found.endswith("; but azure-identity isn't installed")
    assert lakes.mend == "pip install 'aml-spark[azure]'"


def test_the_jar_of_data_lakes_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(java, "jar_file", lambda package: tmp_path / package.rpartition(":")[2])
    missing = _found()["lake jar"]
    assert not missing.ok
    assert missing.mend == f"spark-shell --packages {java.lake_package()}"
    (tmp_path / java.lake_package().rpartition(":")[2]).touch()
    assert _found()["lake jar"].ok


@pytest.mark.parametrize("name", ["azure-identity", "azure-ai-ml"])
def test_a_missing_package_is_mended_by_the_extra_that_brings_it(name: str) -> None:
    finding = _found()[name]
    extra = {"azure-identity": "azure", "azure-ai-ml": "aml"}[name]
    assert (finding.mend is None) if finding.ok else (finding.mend == f"pip install 'aml-spark[{extra}]'")
    assert any(f'extra == "{extra}"' in text.replace("'", '"') and name in text for text in _requirements())


def test_a_package_is_too_old_or_too_new_where_the_extra_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"azure-ai-ml": "1.30.0", "delta-spark": "4.4.1", "mlflow-skinny": "2.1-vendor", "mlflow": "3.99.0rc1"}
    versions["pyspark"] = "3.5.1.oss-7"
    monkeypatch.setattr("aml_spark.doctor.importlib.metadata.version", lambda name: versions.get(name, "4.0.0"))
    found = _found()
    old, wrong = found["azure-ai-ml"], found["delta-spark"]
    assert (old.ok, old.mend) == (False, "pip install 'aml-spark[aml]'")
    assert old.found.startswith("1.30.0; expected >=1.")
    assert (wrong.ok, wrong.mend) == (False, "pip install 'aml-spark[spark]'")
    skinny = found["mlflow-skinny"]
    assert (skinny.ok, skinny.mend) == (False, f"pip install 'mlflow-skinny{skinny.found.rpartition(' ')[2]}'")
    assert found["pyspark"].ok
    assert found["mlflow"].ok


def _requirements() -> list[str]:
    return importlib.metadata.requires("aml-spark") or []


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    examine()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("version", "ok", "number"),
    [("17.0.9", True, 17), ("21", True, 21), ("11.0.2", False, 11), ("1.8.0_292", False, 8)],
)
def test_a_java_that_is_too_old_is_not_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, ok: bool, number: int
) -> None:
    java = _java(tmp_path / "jdk" / "bin", version)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    finding = _found()["java"]
    assert (finding.ok, finding.found) == (ok, f"{number} ({java})")
    assert ok or "openjdk-17" in (finding.mend or "")


def test_java_home_goes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _java(tmp_path / "new" / "bin", "21")
    _java(tmp_path / "old", "1.8.0_292")
    monkeypatch.setenv("PATH", str(tmp_path / "old"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert java.java_version() == 8
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "new"))
    assert java.java_version() == 21


def test_a_java_home_without_java_is_not_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    finding = _found()["java"]
    assert (finding.ok, finding.found) == (False, "none on JAVA_HOME or the PATH")


def test_a_java_that_says_nothing_is_not_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _java(tmp_path / "bin", "17")
    file.write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert not _found()["java"].ok


def test_a_java_that_cannot_be_started_is_not_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _java(tmp_path / "bin", "17")
    file.write_bytes(b"\x7fELF of another machine")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert not _found()["java"].ok


@pytest.mark.parametrize("fetched", [True, False])
def test_the_delta_jar_is_looked_for_and_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetched: bool
) -> None:
    if java.find_java() is None:
        pytest.skip("no Java here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    package = java.delta_package()
    assert package.startswith("io.delta:delta-spark")
    jar = java.jar_file(package)
    assert jar.is_relative_to(tmp_path)
    if fetched:
        jar.parent.mkdir(parents=True)
        jar.touch()
    finding = _found()["delta jar"]
    assert (finding.ok, finding.needed) == (fetched, False)
    assert package in finding.found
    assert package in (finding.mend or "")


def test_on_databricks_neither_java_nor_pyspark_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "15.4")
    monkeypatch.setenv("PATH", "")
    found = _found()
    assert (found["databricks"].ok, found["databricks"].found) == (True, "15.4")
    assert found["workspace"].found == "databricks"
    assert not {"java", "pyspark", "delta-spark", "delta jar"} & set(found)


def test_the_workspace_is_named_by_its_address(tmp_path: Path) -> None:
    finding = _found()["workspace"]
    address = Workspace.local(tmp_path / "mlworkspace").tracking_uri
    assert (finding.ok, finding.found) == (True, f"{address} (made when it is first used)")
    (tmp_path / "mlworkspace").mkdir()
    (tmp_path / "mlworkspace" / "mlflow.db").touch()
    assert _found()["workspace"].found == address


def test_a_workspace_without_region_is_not_well(tmp_path: Path) -> None:
    config = {"subscription_id": ID, "resource_group": "rg", "workspace_name": "ws"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    finding = _found()["workspace"]
    assert not finding.ok
    assert "region is missing" in finding.found
    assert "region" in (finding.mend or "")


@pytest.mark.parametrize(
    "env",
    [
        {"AZUREML_ARM_SUBSCRIPTION": ID},
        {"MLFLOW_TRACKING_URI": "gopher://x"},
        {"MLFLOW_TRACKING_URI": "azureml://westeurope.api.azureml.ms/mlflow/v1.0/subscriptions/x"},
    ],
)
def test_a_workspace_that_is_not_one_is_not_well_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str]
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    finding = _found()["workspace"]
    assert not finding.ok
    assert finding.mend


def test_the_workspaces_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://user:pa55word@host/db")
    assert _found()["workspace"].found == "postgresql://***@host/db"


# The command


def test_without_java_it_fails_and_names_the_command_to_type() -> None:
    done = _doctor(env=_without_java())
    assert done.returncode == 1
    assert "✗ java" in done.stdout
    assert "apt-get install openjdk-17-jre-headless" in done.stdout
    assert "Traceback" not in done.stderr


def test_without_java_the_json_says_so() -> None:
    done = _doctor("--json", env=_without_java())
    assert done.returncode == 1
    told = json.loads(done.stdout)
    java = next(finding for finding in told["findings"] if finding["what"] == "java")
    assert (told["ok"], java["ok"], java["needed"]) == (False, False, True)
    assert "openjdk-17" in java["mend"]


def test_with_java_it_is_content_and_its_json_is_one_object(tmp_path: Path) -> None:
    if shutil.which("java") is None:
        pytest.skip("no Java here")
    done = _doctor("--json", env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["ok"] is True
    assert [set(finding) for finding in told["findings"]] == [
        {"what", "ok", "found", "mend", "needed"} for _ in told["findings"]
    ]
    assert list(tmp_path.iterdir()) == []


def test_in_a_plain_c_locale_it_still_prints() -> None:
    env = {**_without_java(), "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = _doctor(env=env)
    assert done.returncode == 1
    assert "java" in done.stdout
    assert "Traceback" not in done.stderr
