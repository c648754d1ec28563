"""The command line: arguments in, exit codes and tables out."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

import aml_spark
from aml_spark.cli import main as cli
from aml_spark.cli.terminal import in_options
from aml_spark.errors import (
    AmlSparkError,
    ArgumentError,
    ModelNotFoundError,
    ScoringError,
    SessionError,
    TableError,
    WorkspaceError,
)
from aml_spark.testing import certificates

if TYPE_CHECKING:
    from aml_spark.testing import EmulatorProcess

COMMANDS = [
    "app",
    "compute",
    "datastore",
    "demo",
    "doctor",
    "emulator",
    "endpoint",
    "env",
    "job",
    "lineage",
    "model",
    "monitor",
    "monitor-schedule",
    "score",
    "workspace",
]
SCORE = ["score", "--model", "models:/delay/1", "--source", "./source", "--target", "./target"]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "_MLFLOW_", "AZUREML_", "DATABRICKS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("aml_spark")
    level = logger.level
    yield
    logger.setLevel(level)


def _invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


def _run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, cwd=cwd)


# Help


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_the_commands(option: str) -> None:
    result = _invoke(option)
    assert result.exit_code == 0
    assert sorted(cli.main.commands) == COMMANDS
    for name in COMMANDS:
        assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str, option: str) -> None:
    result = _invoke(command, option)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main {command}")


def test_every_option_of_score_says_what_it_is_for() -> None:
    for parameter in cli.main.commands["score"].params:
        assert getattr(parameter, "help", None), parameter.name


def test_the_version_is_the_packages() -> None:
    result = _invoke("--version")
    assert result.exit_code == 0
    assert aml_spark.__version__ in result.stdout


def test_help_needs_neither_spark_nor_mlflow(tmp_path: Path) -> None:
    code = """
import sys
from aml_spark.cli.main import main
try:
    main(["score", "--help"])
except SystemExit as ended:
    assert not ended.code
print(sorted({"mlflow", "pyspark", "pandas", "numpy", "pyarrow"} & set(sys.modules)), file=sys.stderr)
"""
    assert _run("-c", code, cwd=tmp_path).stderr.strip() == "[]"


def test_the_installed_command_is_this_one() -> None:
    (found,) = entry_points(group="console_scripts", name="aml-spark")
    assert found.load() is cli.main


# Wrong arguments


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--unknown"], "--unknown"),
        (["unknown"], "unknown"),
        (["score"], "--model"),
        (SCORE[:-2], "--target"),
        ([*SCORE, "--unknown"], "--unknown"),
        ([*SCORE, "more"], "more"),
        ([*SCORE, "--mode", "some"], "some"),
        ([*SCORE, "--conf", "spark.master"], "'spark.master'; expected KEY=VALUE"),
        ([*SCORE, "--conf", "a=b", "--conf", "c"], "'c'; expected KEY=VALUE"),
        ([*SCORE, "--conf", "=b"], "'=b'; expected KEY=VALUE"),
        ([*SCORE, "--conf"], "--conf"),
        ([*SCORE, "--workspace", "sqllite:///m.db"], "did you mean 'sqlite'?"),
        ([*SCORE, "--workspace", "azureml://example.com/mlflow"], "tracking URI"),
        ([*SCORE, "--workspace", "missing.json"], "missing.json"),
        ([*SCORE, "--workspace", "http://[::1"], "http://[::1"),
        (["doctor", "--unknown"], "--unknown"),
        (["app", "more"], "more"),
    ],
)
def test_wrong_arguments_exit_with_2_and_are_named_on_standard_error(
    arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")  # without Java no Spark starts here, whatever is let through
    result = _invoke(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_nothing_is_made_when_the_arguments_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")
    _invoke(*SCORE, "--conf", "nonsense")
    _invoke(*SCORE, "--workspace", "sqllite:///m.db")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder_for_the_demo(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = _invoke("demo", "--out", "file")
    assert result.exit_code == 2
    assert "is a file" in result.stderr


# Errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (AmlSparkError, 1),
        (ModelNotFoundError, 1),
        (TableError, 1),
        (SessionError, 1),
        (ScoringError, 1),
        (ArgumentError, 2),
        (WorkspaceError, 2),
    ],
)
def test_an_error_of_ours_becomes_a_message_and_an_exit_code(kind: type[AmlSparkError], code: int) -> None:
    @cli.main.command("fail")
    def fail() -> None:
        raise kind("it broke", hint="mend it")

    try:
        result = _invoke("fail")
    finally:
        del cli.main.commands["fail"]
    assert result.exit_code == code
    assert result.stderr == "aml-spark: it broke\nHint: mend it\n"
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("command", "hint", "told"),
    [
        ("score", "overwrite=True replaces the target", "--overwrite replaces the target"),
        ("score", "key=['shop', 'a day']", "--key shop --key 'a day'"),
        ("score", "key=['id'], or on_error='null'", "--key id, or --on-error null"),
        ("score", "columns=[…] leaves it out", "--column leaves it out"),
        ("score", "classes=[…, …] names them; conf={'spark.jars': …}", None),
        ("score", "configure(workspace='…'), or leave key= out", "configure(workspace='…'), or leave --key out"),
        ("monitor", "leave out by=, window= and exact=", "leave out --by, --window and --exact"),
        ("monitor", "where= chooses a part", None),
    ],
)
def test_hints_name_the_options_of_the_command(command: str, hint: str, told: str | None) -> None:
    assert in_options(hint, cli.main.commands[command]) == (told or hint)


def test_an_error_without_hint_is_one_line() -> None:
    @cli.main.command("fail")
    def fail() -> None:
        raise AmlSparkError("it broke")

    try:
        assert _invoke("fail").stderr == "aml-spark: it broke\n"
    finally:
        del cli.main.commands["fail"]


def test_ctrl_c_has_an_exit_code_of_its_own() -> None:
    @cli.main.command("fail")
    def fail() -> None:
        raise KeyboardInterrupt

    try:
        result = _invoke("fail")
    finally:
        del cli.main.commands["fail"]
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


def test_an_error_of_nobodys_is_not_hidden() -> None:
    @cli.main.command("fail")
    def fail() -> None:
        raise ZeroDivisionError

    try:
        assert isinstance(_invoke("fail").exception, ZeroDivisionError)
    finally:
        del cli.main.commands["fail"]


# doctor


def test_doctors_json_is_one_object_on_standard_output() -> None:
    result = _invoke("doctor", "--json")
    assert len(result.stdout.splitlines()) == 1
    told = json.loads(result.stdout)
    assert isinstance(told, dict)
    assert set(told) == {"ok", "findings"}
    assert result.exit_code == (0 if told["ok"] else 1)


def test_doctors_json_is_alone_also_with_verbose(tmp_path: Path) -> None:
    done = _run("-m", "aml_spark", "--verbose", "doctor", "--json", cwd=tmp_path)
    assert isinstance(json.loads(done.stdout), dict)


def test_doctors_table_has_a_line_for_each_finding() -> None:
    told = json.loads(_invoke("doctor", "--json").stdout)
    lines = _invoke("doctor").stdout.splitlines()
    for finding in told["findings"]:
        (line,) = [line for line in lines if line[2:].startswith(f"{finding['what']} ")]
        assert line[0] == ("✓" if finding["ok"] else "✗" if finding["needed"] else "–")
        assert finding["found"] in line


def test_doctor_fails_where_the_workspace_is_not_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqllite:///m.db")
    result = _invoke("doctor")
    assert result.exit_code == 1
    assert "did you mean 'sqlite'?" in result.stdout


# app


def test_app_prints_a_file_that_is_there(tmp_path: Path) -> None:
    done = _run("-m", "aml_spark", "app", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert Path(line).is_absolute()
    assert Path(line).is_file()
    assert _invoke("app").stdout == done.stdout


def test_the_file_that_app_prints_runs_as_a_script_from_anywhere(tmp_path: Path) -> None:
    file = _invoke("app").stdout.strip()
    done = _run(file, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: aml-spark ")
    again = _run(file, "app", cwd=tmp_path)
    assert again.stdout.strip() == file


def test_the_script_and_the_module_take_the_same_arguments(tmp_path: Path) -> None:
    file = _invoke("app").stdout.strip()
    for arguments in (["score", "--help"], ["score", "--unknown"]):
        script, ran = _run(file, *arguments, cwd=tmp_path), _run("-m", "aml_spark", *arguments, cwd=tmp_path)
        assert (script.returncode, script.stdout, script.stderr) == (ran.returncode, ran.stdout, ran.stderr)


def test_the_script_keeps_its_folder_out_of_the_way_of_other_modules(tmp_path: Path) -> None:
    # Run as a file, Python puts the file's folder first: `import table` must not find ours.
    code = f"""
import runpy, sys
sys.path.insert(0, {str(Path(cli.__file__).parent)!r})
sys.argv = ["app", "--version"]
try:
    runpy.run_path({_invoke("app").stdout.strip()!r}, run_name="__main__")
except SystemExit:
    pass
import importlib.util
print(importlib.util.find_spec("ledger"))
"""
    assert _run("-c", code, cwd=tmp_path).stdout.splitlines()[-1] == "None"


def test_the_emulators_port_is_one_that_is_free(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = _run("-m", "aml_spark", "emulator", "--port", port, "--dir", "emulator", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--port {port}: Address already in use" in done.stderr
    assert "without --port it takes a free one" in done.stderr
    assert not (tmp_path / "emulator").exists()
    assert _invoke("emulator", "--port", "80000").exit_code == 2


def test_the_emulator_prints_all_that_a_client_needs(azureml_emulator: EmulatorProcess, tmp_path: Path) -> None:
    facts = azureml_emulator.facts
    assert facts["environment"] == azureml_emulator.environment
    code = "import mlflow; print(mlflow.search_experiments(max_results=1)[0].experiment_id)"
    environ = {"PATH": os.environ["PATH"], **facts["environment"]}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert done.stdout.strip().isdigit(), done.stderr
    bundle = ssl.create_default_context(cafile=facts["ca_file"])
    assert bundle.cert_store_stats()["x509_ca"] > 10, "with the authorities that everybody trusts"


def test_a_folder_is_served_by_one_emulator(azureml_emulator: EmulatorProcess, tmp_path: Path) -> None:
    before = Path(azureml_emulator.facts["authority_file"]).read_bytes()
    done = _run("-m", "aml_spark", "emulator", "--dir", str(azureml_emulator.folder), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--dir {azureml_emulator.folder}: an emulator serves what is in it already" in done.stderr
    assert Path(azureml_emulator.facts["authority_file"]).read_bytes() == before


def test_an_interrupt_while_spark_starts_leaves_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aml_spark", "lineage", str(tmp_path / "table")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (java := _spark_below(process.pid)) and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert (process.returncode, told.splitlines()) == (
        130,
        ["ends when Spark has started; Ctrl-C again ends at once", "interrupted"],
    )
    deadline = time.monotonic() + 60
    while Path(f"/proc/{java}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{java}").exists()


def _spark_below(parent: int) -> str | None:
    """The process of Spark's Java that another one started, as Linux tells."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended
            name, _, fields = stat.read_text().partition("(")[2].rpartition(")")
            started = stat.with_name("cmdline").read_bytes()
            if fields.split()[1] == str(parent) and name == "java" and b"SparkSubmit" in started:
                return stat.parent.name
    return None


def test_the_emulators_clients_trust_whom_python_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / name for name in ("company", "emulator")]
    for folder in folders:
        folder.mkdir()
        with certificates.made(folder, ()) as (ca_file, _):
            monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority_file(ca_file)))
    company = certificates.authority_file(folders[0] / "ca.pem").read_text()
    assert company in (folders[1] / "ca.pem").read_text()
    assert company not in certificates.authority_file(folders[1] / "ca.pem").read_text()


def test_the_demo_says_that_its_flights_arent_installed_before_spark_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aml_spark.demo.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("aml_spark.get_spark", lambda *arguments, **more: pytest.fail("Spark is started"))
    result = _invoke("demo")
    assert result.exit_code == 1
    assert result.stderr == "aml-spark: the flights aren't installed\nHint: pip install 'aml-spark[demo]'\n"


def test_scoring_with_a_workspace_that_isnt_there_makes_none(tmp_path: Path) -> None:
    result = _invoke(*SCORE, "--workspace", "./typo")
    assert result.exit_code == 2
    assert f"there is no workspace in '{tmp_path / 'typo'}'" in result.stderr
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("model", ["models:/delay/1", "runs:/0123/model"])
@pytest.mark.parametrize(
    "command",
    [
        ["score", "--source", "./source", "--target", "./target", "--model"],
        ["monitor", "--baseline", "./source", "--target", "./target", "--model"],
        ["env", "pack", "--output", "packed.zip", "--model"],
    ],
)
def test_a_model_is_not_looked_for_in_a_workspace_that_nobody_made(
    command: list[str], model: str, tmp_path: Path
) -> None:
    result = _invoke(*command, model)
    assert result.exit_code == 2
    assert f"there is no workspace in '{tmp_path / 'mlworkspace'}', and none is named" in result.stderr
    assert "Hint: --workspace <folder or address>, MLFLOW_TRACKING_URI" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_lineage_of_a_table_that_was_never_scored_is_said_to_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aml_spark.session.get_spark", lambda *arguments, **more: None)
    monkeypatch.setattr("aml_spark.history.lineage", lambda spark, target: [])
    result = _invoke("lineage", "./table")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "no commit in the history of ./table was written by score\n"


def test_files_go_to_a_datastore_and_come_back(azureml_workspace: EmulatorProcess, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a b.txt").write_text("content")
    place = "azureml://datastores/lake/paths/from cli"
    assert _invoke("datastore", "put", "here", place).exit_code == 0
    listed = _invoke("datastore", "ls", place)
    assert (listed.exit_code, listed.stdout.splitlines()[1].split(maxsplit=3)[2:]) == (0, ["7", "from cli/a b.txt"])
    assert _invoke("datastore", "get", place, "back").exit_code == 0
    assert (tmp_path / "back" / "a b.txt").read_text() == "content"
    shown = json.loads(_invoke("datastore", "show", "workspaceblobstore", "--json").stdout)
    assert shown == {
        "name": "workspaceblobstore",
        "kind": "AzureBlob",
        "uri": "abfss://workspaceblobs@amlsparklake.dfs.core.windows.net",
        "credential": "AccountKey",
    }
    told = _invoke("datastore", "list").stdout
    assert "abfss://lake@amlsparklake.dfs.core.windows.net" in told
    assert azureml_workspace.facts["lake_key"] not in told
    failed = _invoke("datastore", "ls", "azureml://datastores/lake/paths/nowhere")
    assert failed.exit_code == 1
    assert "has no 'nowhere' in 'lake'" in failed.stderr
