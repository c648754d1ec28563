"""The backend `aml-spark` of `mlflow run`: here and in a workspace, with real processes and jobs."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.projects import ExecutionException, SubmittedRun

from aml_spark import control
from aml_spark.errors import ArgumentError, AuthenticationError, ProjectError
from aml_spark.project import config as configuration, local, run as runs
from aml_spark.project.azureml_run import AzureRun
from aml_spark.project.source import Project, fetch
from aml_spark.state import State
from aml_spark.testing import EmulatorProcess

EXAMPLE = Path(__file__).parent / "project"
CONF = Path(__file__).parents[1] / "conf"
HOSTILE = "'; rm -rf $HOME; echo \" `id` \\ ünï\ncode  日本"
ENVIRONMENT = "name: toy\npython_env: python_env.yaml\n"
MLPROJECT = """
entry_points:
  main:
    parameters: {text: {type: string, default: plain}, code: {type: int, default: 0}}
    command: "python say.py {text} {code}"
  linger: {command: "python linger.py"}
  write:
    parameters: {text: string, result: string}
    command: "echo {text} > {result}/said.txt"
  copy:
    parameters: {data: string, result: string}
    command: "cp {data}/said.txt {result}/said.txt"
"""
SAY = """
import json, os, pathlib, sys
mlflow = {name: os.environ.get(name) for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID")}
said = {"words": sys.argv[1:], "python": sys.executable, **mlflow}
pathlib.Path(os.environ.get("SAID", "said.json")).write_text(json.dumps(said))
print("said", json.dumps(sys.argv[1]), flush=True)
sys.exit(int(sys.argv[2]))
"""
# A child that doesn't listen to SIGTERM, and a process that waits for it.
LINGER = """
import os, pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); "
    "print('up', flush=True); time.sleep(600)"], stdout=subprocess.PIPE)
child.stdout.readline()
place = pathlib.Path(os.environ["SAID"])
place.with_suffix(".new").write_text(f"{os.getpid()} {child.pid}")
place.with_suffix(".new").rename(place)
child.wait()
"""

# In place of spark-submit: says what it was given, and the file of settings among it.
SUBMIT = """
import json, os, pathlib, sys
file = pathlib.Path(sys.argv[len(sys.argv) - 1 - sys.argv[::-1].index("--properties-file") + 1])
said = {"words": sys.argv[1:], "mode": file.stat().st_mode & 0o777, "file": file.read_text()}
pathlib.Path(os.environ["SAID"]).write_text(json.dumps(said))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project without Spark, that says what it was given."""
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "MLproject").write_text(ENVIRONMENT + MLPROJECT)
    (folder / "python_env.yaml").write_text('python: "3.11"\ndependencies: ["-r requirements.txt"]\n')
    (folder / "requirements.txt").write_text(
        "--extra-index-url https://example.invalid\nmlflow-skinny # why\n-c pins.txt\n"
    )
    (folder / "pins.txt").write_text("numpy<3\n")
    (folder / "say.py").write_text(SAY)
    (folder / "linger.py").write_text(LINGER)
    return folder


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "said.json"
    monkeypatch.setenv("SAID", str(place))
    return place


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs: MLflow takes seconds to make one."""
    file = tmp_path_factory.mktemp("store") / "runs.db"
    mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def store(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[mlflow.MlflowClient]:
    """MLflow set to a store of the test's own, here and in what it starts."""
    shutil.copy(empty, tmp_path)
    uri = f"sqlite:///{tmp_path / 'runs.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(tmp_path / "artifacts"))
    monkeypatch.chdir(tmp_path)
    before = State.now()
    mlflow.set_tracking_uri(uri)
    yield mlflow.MlflowClient()
    before.restore()


@pytest.fixture
def workspace(azureml_workspace: EmulatorProcess) -> EmulatorProcess:
    mlflow.set_tracking_uri(azureml_workspace.facts["tracking_uri"])
    return azureml_workspace


def start(uri: str | Path, config: dict[str, Any], **options: Any) -> SubmittedRun:
    options = {"env_manager": "local", "experiment_name": "toys", **options}
    return mlflow.projects.run(str(uri), backend="aml-spark", backend_config=config, **options)


def command_line(*words: str | Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mlflow", "run", *map(str, words), "-b", "aml-spark", "--env-manager", "local"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True}
    return subprocess.Popen(command, start_new_session=True, **{**pipes, **options})


def until(there: Callable[[], Any]) -> Any:
    """What is there at last."""
    for _ in range(1200):
        if found := there():
            return found
        time.sleep(0.1)
    raise AssertionError("it never came")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# What the configuration says


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "`place` is missing; expected one of 'local', 'azureml', 'databricks'"),
        ({"place": "azuremll"}, "did you mean 'azureml'?"),
        ({"place": "local", "lancher": "shell"}, "the key 'lancher' is unknown; expected .*did you mean 'launcher'?"),
        ({"place": "local", "launcher": "spark_submit"}, "`launcher` is 'spark_submit'.*did you mean 'spark-submit'?"),
        ({"place": "local", "master": "local"}, 'the key \'launcher\' is missing.*"launcher": "spark-submit"'),
        (
            {"place": "local", "launcher": "spark-submit", "packages": "a:b:c"},
            "`packages`: 'a:b:c' is not of type 'array'",
        ),
        (
            {"place": "azureml", "resources": {"runtime_version": "3.5"}},
            "`resources`: the key 'instance_type' is missing",
        ),
        ({"place": "azureml", "inputs": {"data": {"pth": "x"}}}, "`inputs.data`: the key 'pth' is unknown.*'path'"),
        ({"place": "azureml", "driver": {"cores": "two"}}, "`driver.cores`: 'two' is not of type 'integer'"),
    ],
)
def test_a_configuration_that_cant_be_meant_says_so(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=f"(?s){said}"):
        configuration.check({**config, "ENV_MANAGER": "local", "SYNCHRONOUS": True})


def test_what_is_wrong_is_told_as_mlflow_wants_it_and_makes_no_run(project: Path, store: mlflow.MlflowClient) -> None:
    with pytest.raises(ExecutionException, match=r"`place` is missing(?s:.*)Hint: ") as caught:
        start(project, {})
    assert isinstance(caught.value.__cause__, ArgumentError)
    assert store.search_runs([store.get_experiment_by_name("toys").experiment_id]) == []


@pytest.mark.parametrize("place", ["local", "azureml"])
def test_the_files_in_conf_fit_their_schema(place: str) -> None:
    given = configuration.check(json.loads((CONF / f"project-{place}.json").read_text()))
    assert given.config["place"] == place


def test_a_dry_run_prints_what_would_be_run_and_starts_nothing(
    project: Path, store: mlflow.MlflowClient, said: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"place": "local", "launcher": "spark-submit", "conf": {"spark.ui.enabled": False}, "dry_run": True}
    submitted = start(project, config, parameters={"text": HOSTILE})
    planned = json.loads(capsys.readouterr().out)
    assert planned["command"].startswith("spark-submit --conf spark.ui.enabled=false say.py ''\"'\"'; rm -rf $HOME;")
    assert planned["requirements"] == ["--extra-index-url https://example.invalid", "mlflow-skinny", "numpy<3"]
    run = store.get_run(submitted.run_id)
    assert run.data.tags["aml_spark.dry_run"] == "true"
    assert run.info.status == "FINISHED"
    assert not said.exists()


# What a project is


def read(project: Path, mlproject: str, **parameters: str) -> Project:
    (project / "MLproject").write_text(mlproject)
    return fetch(str(project), "main", parameters, None)


@pytest.mark.parametrize(
    ("command", "file", "arguments", "options"),
    [
        ("python say.py {text} 0", "say.py", [HOSTILE, "0"], []),
        ("python3 -u ./say.py --text={text}", "say.py", [f"--text={HOSTILE}"], []),
        (
            "spark-submit --master local --conf=a=b -v say.py {text}",
            "say.py",
            [HOSTILE],
            ["--master", "local", "--conf=a=b", "-v"],
        ),
    ],
)
def test_a_script_is_found_in_the_command(
    project: Path, command: str, file: str, arguments: list[str], options: list[str]
) -> None:
    entry = f"entry_points: {{main: {{parameters: {{text: string}}, command: {json.dumps(command)}}}}}"
    found = read(project, entry, text=HOSTILE)
    assert found.script() == (file, arguments)
    assert found.spark_options() == options


@pytest.mark.parametrize(
    "command",
    [
        "echo say.py",
        "python -m say",
        "python say.py && rm say.py",
        "python say.py > out",
        "python say.py $HOME",
        'python say.py "$HOME"',
        "python say.py *.txt",
        "python say.py\npython say.py",
        "python ../say.py",
        "python absent.py",
        "python",
    ],
)
def test_a_command_that_isnt_a_script_says_so(project: Path, command: str) -> None:
    found = read(project, f"entry_points: {{main: {{command: {json.dumps(command)}}}}}")
    with pytest.raises(ProjectError, match="runs"):
        found.script()


def test_a_local_master_needs_no_quotes(project: Path) -> None:
    for master in ("local[2]", "local[*]", "local[*,4]"):
        found = read(project, f"entry_points: {{main: {{command: 'spark-submit --master {master} say.py'}}}}")
        assert (found.script(), found.spark_options()) == (("say.py", []), ["--master", master])
    (project / "local4").touch()  # by which a shell would fill in [*,4]
    found = read(project, "entry_points: {main: {command: 'spark-submit --master local[*,4] say.py'}}")
    with pytest.raises(ProjectError, match="without what only a shell does"):
        found.script()


def test_what_a_service_fills_in_stands_in_the_command(project: Path) -> None:
    command = """python say.py {data} {data}/x --in={data} "{data} of {text}" '{out}'"""
    parameters = "{data: uri, out: {type: uri, default: 'https://example.invalid'}, text: string}"
    (project / "MLproject").write_text(
        f"entry_points: {{main: {{parameters: {parameters}, command: {json.dumps(command)}}}}}"
    )
    replaced = {"data": "${{inputs.data}}", "out": "${{outputs.out}}", "more": "${{inputs.more}}"}
    paths = {"data": "azureml://datastores/a/paths/b", "out": "somewhere", "more": "x"}
    found = fetch(str(project), "main", {**paths, "text": "it"}, None, replaced=replaced)
    data = "'${{inputs.data}}'"
    expected = f"""python say.py {data} {data}/x --in={data} "{data[1:-1]} of it" '${{{{outputs.out}}}}'"""
    assert found.command == f"{expected} --more '${{{{inputs.more}}}}'"
    assert found.parameters == {**paths, "text": "it"}
    assert found.data == {"data", "out", "more"}
    file, arguments = found.script()
    assert (file, arguments[0], arguments[3]) == ("say.py", data[1:-1], "${{inputs.data}} of it")


def test_files_that_are_ignored_are_not_the_projects(project: Path) -> None:
    for name in (
        ".git/HEAD",
        ".venv/x",
        "mlruns/0/y",
        "data/big.csv",
        "data/keep.csv",
        "say.log",
        "sub/__pycache__/z.pyc",
    ):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("")
    (project / ".gitignore").write_text("*.log\ndata/*\n!data/keep.csv\n")
    names = {path.as_posix() for path in fetch(str(project), "main", {}, None).files()}
    code = {"MLproject", "python_env.yaml", "requirements.txt", "pins.txt", "say.py", "linger.py"}
    assert names == {*code, ".gitignore", "data/keep.csv"}
    (project / ".amlignore").write_text("*.csv\n")
    names = {path.as_posix() for path in fetch(str(project), "main", {}, None).files()}
    assert names == {*code, ".gitignore", ".amlignore", "say.log"}


def test_a_project_of_a_kind_that_only_mlflow_runs_is_refused(project: Path) -> None:
    with pytest.raises(ProjectError, match="docker_env"):
        read(project, "docker_env: {image: python}\nentry_points: {main: {command: 'python say.py'}}")


def test_a_python_version_that_yaml_takes_for_a_number_is_refused(project: Path) -> None:
    (project / "python_env.yaml").write_text("python: 3.10\n")
    with pytest.raises(ProjectError, match="write it in quotes"):
        fetch(str(project), "main", {}, None)


# On this machine


def test_the_command_line_runs_it_with_parameters_as_they_are(
    project: Path, store: mlflow.MlflowClient, said: Path
) -> None:
    config = json.dumps({"place": "local"})
    words = ["-P", f"text={HOSTILE}", "--backend-config", config, "--experiment-name", "toys", "--run-name", "blue"]
    out, err = (process := command_line(project, *words)).communicate(timeout=300)
    assert process.returncode == 0, err
    assert f"said {json.dumps(HOSTILE)}" in out
    told = json.loads(said.read_text())
    assert told["words"] == [HOSTILE, "0"]
    assert told["python"] == sys.executable
    run = store.get_run(told["MLFLOW_RUN_ID"])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "blue"
    assert run.data.params == {"text": HOSTILE, "code": "0"}
    assert run.data.tags["mlflow.source.type"] == "PROJECT"
    assert run.data.tags["mlflow.project.backend"] == "aml-spark"
    assert told["MLFLOW_EXPERIMENT_ID"] == run.info.experiment_id


def test_a_run_that_fails_says_its_exit_code(
    project: Path, store: mlflow.MlflowClient, said: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExecutionException, match="failed"):
        start(project, {"place": "local"}, parameters={"code": 7})
    assert "the project's command ended with exit code 7" in capfd.readouterr().err
    assert store.get_run(json.loads(said.read_text())["MLFLOW_RUN_ID"]).info.status == "FAILED"


def test_the_run_that_mlflow_gives_is_taken(
    project: Path, store: mlflow.MlflowClient, said: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = store.create_run(store.create_experiment("given")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    assert start(project, {"place": "local"}).run_id == given
    told = json.loads(said.read_text())
    assert (told["MLFLOW_RUN_ID"], told["MLFLOW_EXPERIMENT_NAME"]) == (given, None)
    assert store.get_run(given).data.params["text"] == "plain"
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(ExecutionException, match=r"MLFLOW_RUN_ID names the run '0+'(?s:.*)unset MLFLOW_RUN_ID"):
        start(project, {"place": "local"})


def test_a_step_of_a_run_is_its_child(project: Path, store: mlflow.MlflowClient, said: Path) -> None:
    mlflow.set_experiment("toys")
    with mlflow.start_run() as parent:
        step = start(project, {"place": "local"})
    assert store.get_run(step.run_id).data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_cancelling_ends_all_that_it_started(project: Path, store: mlflow.MlflowClient, said: Path) -> None:
    submitted = start(project, {"place": "local"}, entry_point="linger", synchronous=False)
    pids = [int(pid) for pid in until(lambda: said.exists() and said.read_text()).split()]
    assert submitted.get_status() == "RUNNING"
    assert all(map(alive, pids))
    submitted.cancel()
    until(lambda: not any(map(alive, pids)))
    assert not submitted.wait()
    assert submitted.get_status() == "KILLED"
    assert store.get_run(submitted.run_id).info.status == "KILLED"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_all_that_it_started(
    project: Path, store: mlflow.MlflowClient, said: Path, number: signal.Signals, code: int
) -> None:
    config = json.dumps({"place": "local"})
    with command_line(project, "-e", "linger", "--backend-config", config, "--experiment-name", "toys") as process:
        until(lambda: said.exists() or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        pids = [int(pid) for pid in said.read_text().split()]
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    until(lambda: not any(map(alive, pids)))
    (run,) = store.search_runs([store.get_experiment_by_name("toys").experiment_id])
    assert run.info.status == "KILLED", err


def test_a_command_that_a_signal_ended_is_killed(
    project: Path, store: mlflow.MlflowClient, said: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    submitted = start(project, {"place": "local"}, entry_point="linger", synchronous=False)
    leader, child = (int(pid) for pid in until(lambda: said.exists() and said.read_text()).split())
    os.kill(leader, signal.SIGKILL)
    assert not submitted.wait()
    os.kill(child, signal.SIGKILL)
    assert "was ended by SIGKILL" in capfd.readouterr().err
    assert store.get_run(submitted.run_id).info.status == "KILLED"


def test_a_process_that_doesnt_wait_stays_for_the_end(project: Path, store: mlflow.MlflowClient, said: Path) -> None:
    call = (
        "import mlflow; mlflow.projects.run('toy', backend='aml-spark', synchronous=False, env_manager='local', "
        "experiment_name='toys', backend_config={'place': 'local'})"
    )
    subprocess.run([sys.executable, "-c", call], check=True, timeout=300, capture_output=True)
    assert store.get_run(json.loads(said.read_text())["MLFLOW_RUN_ID"]).info.status == "FINISHED"


def test_a_process_stays_until_its_run_is_ended_where_the_store_is_slow(
    project: Path, store: mlflow.MlflowClient, said: Path
) -> None:
    call = (
        "import mlflow, time; from aml_spark.project import local; end = local.runs.end; "
        "local.runs.end = lambda *run: (time.sleep(1), end(*run)); "
        "run = mlflow.projects.run('toy', backend='aml-spark', synchronous=False, env_manager='local', "
        "experiment_name='toys', backend_config={'place': 'local'})\n"
        "while run.get_status() == 'RUNNING': time.sleep(0.01)\n"
        "time.sleep(0.1)"
    )
    subprocess.run([sys.executable, "-c", call], check=True, timeout=300, capture_output=True)
    assert store.get_run(json.loads(said.read_text())["MLFLOW_RUN_ID"]).info.status == "FINISHED"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_a_command_ends_with_the_process_that_started_it(
    project: Path, store: mlflow.MlflowClient, said: Path, number: signal.Signals
) -> None:
    call = (
        "import mlflow; from aml_spark.project import local; local._GRACE = 0.5; "
        "mlflow.projects.run('toy', entry_point='linger', backend='aml-spark', env_manager='local', "
        "experiment_name='toys', synchronous=False, backend_config={'place': 'local'})"
    )
    with subprocess.Popen([sys.executable, "-c", call], stderr=subprocess.PIPE, text=True) as process:
        until(lambda: said.exists() or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        group = os.getpgid(int(said.read_text().split()[0]))
        assert len(members(group)) == 4  # the shell, the command and its child, and what watches over them
        process.send_signal(number)
    until(lambda: not members(group))


def members(group: int) -> list[int]:
    """Processes of a group that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            found += [int(stat.parent.name)] if state != "Z" and int(its_group) == group else []
    return found


def test_a_command_may_wait_for_what_it_started(project: Path, store: mlflow.MlflowClient, said: Path) -> None:
    (project / "MLproject").write_text("entry_points: {main: {command: 'python say.py it 0 & wait'}}")
    submitted = start(project, {"place": "local"})
    assert store.get_run(submitted.run_id).info.status == "FINISHED"
    assert said.exists()


def test_secret_settings_are_shown_nowhere(
    project: Path, store: mlflow.MlflowClient, said: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (home := tmp_path / "spark" / "bin").mkdir(parents=True)
    (home.parent / "conf").mkdir()
    (home.parent / "conf" / "spark-defaults.conf").write_text("spark.nest deep")  # which has no end of line
    (home / "spark-submit").write_text(f"#!{sys.executable}\n{SUBMIT}")
    (home / "spark-submit").chmod(0o755)
    monkeypatch.setenv("SPARK_HOME", str(home.parent))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (project / "python_env.yaml").write_text("dependencies: ['--index-url https://me:s3cret@x.invalid']\n")
    conf = {"spark.a": True, "spark.hadoop.fs.azure.account.key.a": "s3cret=\\ :#\nü", "spark.b": "x://me:s3cret@y"}
    config = {"place": "local", "launcher": "spark-submit", "conf": conf}
    link = runs.link(store.create_experiment("hush"), None)
    planned = json.dumps(local.plan(fetch(str(project), "main", {}, None), config, link))
    assert "s3cret" not in planned
    assert "spark.hadoop.fs.azure.account.key.a=***" in planned
    with read_log() as log:
        start(project, config)
    assert "Running command" in log.getvalue()
    assert "s3cret" not in log.getvalue()
    seen = json.loads(said.read_text())
    assert "s3cret" not in json.dumps(seen["words"])
    assert seen["words"][:2] == ["--conf", "spark.a=true"]
    assert seen["mode"] == 0o600
    assert seen["file"].splitlines() == [
        "spark.nest deep",
        "",
        r"spark.hadoop.fs.azure.account.key.a=s3cret\=\\\ \:\#\nü",
        r"spark.b=x\://me\:s3cret@y",
    ]
    (project / "own.conf").write_text("spark.of project\n")
    (project / "MLproject").write_text(
        "entry_points: {main: {command: 'spark-submit --properties-file own.conf say.py'}}"
    )
    start(project, config)
    assert json.loads(said.read_text())["file"].startswith("spark.of project\n")
    assert not list(tmp_path.glob("spark-*.conf"))


@contextlib.contextmanager
def read_log() -> Iterator[io.StringIO]:
    handler, log = logging.StreamHandler(io.StringIO()), logging.getLogger("mlflow.projects.aml_spark")
    log.addHandler(handler)
    try:
        yield handler.stream
    finally:
        log.removeHandler(handler)


def test_a_store_beside_this_process_is_beside_the_command_too(
    project: Path, store: mlflow.MlflowClient, said: Path, tmp_path: Path
) -> None:
    mlflow.set_tracking_uri("sqlite:///runs.db")
    submitted = start(project, {"place": "local"})
    absolute = f"sqlite:///{tmp_path}/runs.db"
    experiment = store.get_run(submitted.run_id).info.experiment_id
    assert runs.link(experiment, None).tracking_uri == absolute
    assert runs.link(experiment, None).environment["MLFLOW_TRACKING_URI"] == absolute
    assert mlflow.MlflowClient(absolute).get_run(submitted.run_id).info.status == "FINISHED"
    for uri, expected in {
        "./folder": f"{tmp_path}/folder",
        "sqlite+pysqlite:///a.db": f"sqlite+pysqlite:///{tmp_path}/a.db",
        **{same: same for same in (absolute, "sqlite:///:memory:", "databricks", "databricks-uc", "http://x/y")},
    }.items():
        assert runs._absolute(uri) == expected


def test_a_git_repository_is_run_at_its_commit(
    project: Path, store: mlflow.MlflowClient, said: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "init.defaultBranch=main"]
        return subprocess.run(
            ["git", *who, *words], cwd=project, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    first = git("rev-parse", "HEAD")
    (project / "say.py").write_text("raise SystemExit(5)")
    git("commit", "-am", "second")
    for name, value in {
        "COUNT": "1",
        "KEY_0": f"url.{project}.insteadOf",
        "VALUE_0": "https://example.invalid/toy",
    }.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    submitted = start("https://example.invalid/toy", {"place": "local"}, version=first)
    assert store.get_run(submitted.run_id).data.tags["mlflow.source.git.commit"] == first
    with pytest.raises(ExecutionException, match="failed"):
        start("https://example.invalid/toy", {"place": "local"})


def test_an_environment_is_made_by_mlflows_manager(
    project: Path, store: mlflow.MlflowClient, said: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_ENV_ROOT", str(tmp_path / "environments of MLflow"))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    (project / "python_env.yaml").write_text(f'python: "{sys.version_info[0]}.{sys.version_info[1]}"\n')
    start(project, {"place": "local"}, env_manager="uv")
    assert json.loads(said.read_text())["python"].startswith(str(tmp_path / "environments of MLflow"))


def test_a_manager_that_isnt_there_says_so(
    project: Path, store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ExecutionException, match=r"there is no uv on the PATH(?s:.*)--env-manager local"):
        start(project, {"place": "local"}, env_manager="uv")
    (run,) = store.search_runs([store.get_experiment_by_name("toys").experiment_id])
    assert run.info.status == "FAILED"


def test_the_example_trains_under_spark_submit(store: mlflow.MlflowClient) -> None:
    conf = {"spark.ui.enabled": False, "spark.log.level": "WARN"}
    config = {"place": "local", "launcher": "spark-submit", "master": "local[1]", "conf": conf}
    submitted = start(EXAMPLE, config, parameters={"rows": 500})
    trained(store, submitted.run_id)


def trained(store: mlflow.MlflowClient, run_id: str) -> None:
    run = store.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["rows"] == "500"
    assert 400 < int(run.data.params["landed"]) <= 500
    assert run.data.metrics["training_auc"] > 0.5
    assert (
        store.get_model_version("delay", mlflow.register_model(f"runs:/{run_id}/model", "delay").version).run_id
        == run_id
    )


# In a workspace of Azure Machine Learning


def job(name: str) -> Any:
    return control.client().jobs.get(name)


def test_a_command_job_is_the_run(workspace: EmulatorProcess, project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    submitted = start(project, {"place": "azureml"}, parameters={"text": HOSTILE})
    sent = job(submitted.run_id)
    assert sent.status == "Completed"
    run = mlflow.get_run(submitted.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"text": HOSTILE, "code": "0"}
    assert run.data.tags["mlflow.project.entryPoint"] == "main"
    assert sent.experiment_name == "toys"


def test_a_job_that_fails_is_told_of_in_azures_words(
    workspace: EmulatorProcess, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExecutionException, match="failed"):
        start(project, {"place": "azureml"}, parameters={"code": 7})
    assert (
        "ended as Failed: Execution failed. User process 'python' exited with status code 7" in capfd.readouterr().err
    )


def test_a_job_reads_and_writes_datastores(workspace: EmulatorProcess, project: Path) -> None:
    first, second = (f"azureml://datastores/workspaceblobstore/paths/said/{number}" for number in (1, 2))
    config = {"place": "azureml", "outputs": {"result": {"path": first}}}
    start(project, config, entry_point="write", parameters={"text": HOSTILE})
    config = {"place": "azureml", "inputs": {"data": {"path": first}}, "outputs": {"result": {"path": "elsewhere"}}}
    submitted = start(project, config, entry_point="copy", parameters={"result": second})
    run = mlflow.get_run(submitted.run_id)
    told = {name: value for name, value in run.data.tags.items() if name.startswith("aml_spark.data.")}
    assert (run.data.params, told) == ({}, {"aml_spark.data.data": first, "aml_spark.data.result": second})
    assert job(submitted.run_id).outputs["result"].path == second


def test_a_compute_that_isnt_there_names_those_that_are(workspace: EmulatorProcess, project: Path) -> None:
    from azure.ai.ml.entities import AmlCompute

    control.client().compute.begin_create_or_update(AmlCompute(name="cpu-small", size="Standard_DS3_v2")).result()
    with pytest.raises(ExecutionException, match=r"has no compute 'cpu-smal'; it has .*'cpu-small'(?s:.*)did you mean"):
        start(project, {"place": "azureml", "compute": "cpu-smal"})


def test_a_parameter_that_azure_would_take_for_a_placeholder_is_refused(
    workspace: EmulatorProcess, project: Path
) -> None:
    with pytest.raises(ExecutionException, match=r"the parameter 'text' holds '\$\{\{'"):
        start(project, {"place": "azureml", "compute": "cpu"}, parameters={"text": "${{inputs.data}}"})


def test_a_connection_that_breaks_is_waited_out_and_doubles_nothing(workspace: EmulatorProcess, project: Path) -> None:
    workspace.plan(kind="drop", method="POST", path="startPendingUpload")
    workspace.plan(kind="drop-after", method="PUT", path="/jobs/")
    workspace.plan(kind="unavailable", path="/history/v1.0.*/details", times=5)
    workspace.plan(kind="drop", path="/jobs/[^/?]+[?]", method="GET", times=2)
    before = len(list(control.client().jobs.list()))
    submitted = start(project, {"place": "azureml"})
    assert mlflow.get_run(submitted.run_id).info.status == "FINISHED"
    assert len(list(control.client().jobs.list())) == before + 1


def test_cancelling_cancels_the_job(workspace: EmulatorProcess, project: Path) -> None:
    (project / "linger.py").write_text("import time\ntime.sleep(600)\n")
    submitted = start(project, {"place": "azureml"}, entry_point="linger", synchronous=False)
    until(lambda: submitted.get_status() == "RUNNING")
    done: list[bool] = []
    waiting = threading.Thread(target=lambda: done.append(submitted.wait()))
    waiting.start()
    submitted.cancel()
    waiting.join()
    assert done == [False]
    assert job(submitted.run_id).status == "Canceled"
    assert mlflow.get_run(submitted.run_id).info.status == "KILLED"


def test_a_job_that_cant_be_cancelled_is_named(
    workspace: EmulatorProcess, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (project / "linger.py").write_text("import time\ntime.sleep(600)\n")
    submitted = start(project, {"place": "azureml"}, entry_point="linger", synchronous=False)
    workspace.plan(kind="forbidden", path="/cancel", times=1)
    submitted.cancel()
    name = submitted.run_id
    assert f"the job {name} of the workspace emulated may still be running" in (err := capfd.readouterr().err)
    assert f"aml-spark job cancel {name}" in err
    submitted.cancel()
    assert job(name).status == "Canceled"


def test_ctrl_c_cancels_the_job(workspace: EmulatorProcess, project: Path) -> None:
    (project / "linger.py").write_text("import time\ntime.sleep(600)\n")
    config = json.dumps({"place": "azureml"})
    with command_line(project, "-e", "linger", "--backend-config", config, "--experiment-name", "lingering") as process:
        name = until(lambda: [one.name for one in control.client().jobs.list() if one.experiment_name == "lingering"])[
            0
        ]
        until(lambda: job(name).status == "Running")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert job(name).status == "Canceled"
    assert mlflow.get_run(name).info.status == "KILLED"


def test_a_command_line_that_doesnt_wait_leaves_the_job_running(workspace: EmulatorProcess, project: Path) -> None:
    (project / "linger.py").write_text("import time\ntime.sleep(600)\n")
    config = json.dumps({"place": "azureml", "wait": False})
    process = command_line(project, "-e", "linger", "--backend-config", config, "--experiment-name", "left")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    (left,) = (one for one in control.client().jobs.list() if one.experiment_name == "left")
    assert f"=== Job {left.name} of the workspace emulated" in err
    until(lambda: job(left.name).status == "Running")
    control.client().jobs.begin_cancel(left.name).result()


def test_a_job_and_a_run_elsewhere_name_each_other(
    azureml_workspace: EmulatorProcess, store: mlflow.MlflowClient, project: Path
) -> None:
    uri = azureml_workspace.facts["tracking_uri"]
    submitted = start(project, {"place": "azureml", "workspace": uri})
    run = store.get_run(submitted.run_id)
    assert run.info.status == "FINISHED"
    sent = control.client(control.Workspace.from_uri(uri)).jobs.get(run.data.tags["aml_spark.job"])
    assert sent.tags["aml_spark.run_id"] == submitted.run_id
    assert sent.name != submitted.run_id


def test_the_example_trains_as_a_spark_job(workspace: EmulatorProcess) -> None:
    config = json.loads((CONF / "project-azureml.json").read_text())
    config |= {"conf": {"spark.ui.enabled": False, "spark.log.level": "WARN"}}
    submitted = start(EXAMPLE, config, parameters={"rows": 500})
    assert job(submitted.run_id).type == "spark"
    trained(mlflow.MlflowClient(), submitted.run_id)


# What may go wrong with a job

CONDA = """
name: toy
channels: [conda-forge]
dependencies: [python=3.11, pip, "conda-forge::pyspark=4.1", wheel, numpy, {pip: ["-r wanted.txt"]}]
"""
WANTED = "pyspark[sql]==4.1.4\ndelta_spark\nmlflow-skinny\nown @ https://me:hush@example.invalid/own.whl\n"
SPARK = {
    "place": "azureml",
    "launcher": "spark-submit",
    "resources": {"instance_type": "Standard_E4s_v3", "runtime_version": "3.5"},
    "driver": {"cores": 1, "memory": "2g"},
    "executor": {"cores": 1, "memory": "2g", "instances": 1},
}


@pytest.mark.parametrize("kind", ["python_env", "conda_env"])
def test_a_spark_jobs_environment_leaves_out_what_its_runtime_brings(
    workspace: EmulatorProcess, project: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    (project / "MLproject").write_text(f"{kind}: env.yaml\n{MLPROJECT}")
    pip_only = 'python: "3.11"\ndependencies: ["-r wanted.txt"]\n'
    (project / "env.yaml").write_text(CONDA if kind == "conda_env" else pip_only)
    (project / "wanted.txt").write_text(WANTED)

    def dependencies(config: dict[str, Any]) -> list[Any]:
        start(project, {**config, "dry_run": True})
        planned: list[Any] = json.loads(capsys.readouterr().out)["job"]["environment"]["conda_file"]["dependencies"]
        return planned

    by_conda, brought = ["python=3.11", "pip"], ["pyspark[sql]==4.1.4", "delta_spark"]
    by_pip = ["mlflow-skinny", "own @ https://***@example.invalid/own.whl"]
    more = [["conda-forge::pyspark=4.1", "wheel", "numpy"], ["numpy"]] if kind == "conda_env" else [[], []]
    assert dependencies({"place": "azureml"}) == [*by_conda, *more[0], {"pip": [*brought, *by_pip]}]
    assert dependencies(SPARK) == [*by_conda, *more[1], {"pip": by_pip}]


def test_a_dry_run_of_a_job_shows_no_secret(
    workspace: EmulatorProcess, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = {"spark.hadoop.fs.azure.account.key.lake": "hush", "spark.ui.enabled": False}
    start(project, {**SPARK, "conf": conf, "dry_run": True})
    planned = json.loads(capsys.readouterr().out)["job"]["conf"]
    assert planned == {"spark.hadoop.fs.azure.account.key.lake": "***", "spark.ui.enabled": "false"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"driver": ...}, "the key 'driver' is missing: A Spark job needs its size"),
        ({"executor": {"cores": 1, "memory": "2g"}}, "`executor`: the key 'instances' is missing"),
        (
            {"resources": {"instance_type": "Standard_E4_v3"}},
            "`resources.instance_type` is 'Standard_E4_v3'; expected one of .*did you mean 'Standard_E4s_v3'?",
        ),
        ({"inputs": {"data": {"path": "x", "mode": "ro_mount"}}}, "`inputs.data.mode`.*'direct'"),
    ],
)
def test_what_a_spark_job_needs_is_checked_before_it_is_sent(change: dict[str, Any], said: str) -> None:
    config = {name: value for name, value in {**SPARK, **change}.items() if value is not ...}
    with pytest.raises(ArgumentError, match=f"(?s){said}"):
        configuration.check(config)


def test_the_sizes_of_a_spark_jobs_machines_are_azures() -> None:
    from azure.ai.ml.entities import SparkResourceConfiguration

    resources = configuration.schema("azureml")["then"]["properties"]["resources"]["properties"]
    sizes = {name.lower() for name in resources["instance_type"]["enum"]}
    assert sizes == set(SparkResourceConfiguration.instance_type_list)


class Jobs:
    """Microsoft's client for a job of which it is told one thing after the other."""

    def __init__(self, *told: str | Exception) -> None:
        self.jobs, self._told = self, list(told)

    def stream(self, name: str) -> None:
        """It says nothing."""

    def get(self, name: str) -> Any:
        if isinstance(one := self._told.pop(0), Exception):
            raise one
        return SimpleNamespace(status=one)


def followed(*told: str | Exception) -> AzureRun:
    client: Any = Jobs(*told)
    sent: Any = SimpleNamespace(name="job-1", services=None)
    subscription_id = str(uuid.UUID(int=1))
    names = {"subscription_id": subscription_id, "resource_group": "toys", "name": "toys", "region": "westeurope"}
    return AzureRun(client, control.Workspace(**names), sent, None)


@pytest.mark.parametrize("state", ["NotResponding", "Paused"])
def test_a_job_that_nothing_comes_of_any_more_has_failed(state: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert not followed("Running", state).wait()
    assert f"the job job-1 ended as {state}" in capfd.readouterr().err
    assert followed(state).get_status() == "FAILED"


def test_what_may_pass_is_waited_out_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from azure.core.exceptions import HttpResponseError, ServiceRequestError

    monkeypatch.setattr(time, "sleep", lambda _: None)
    busy = HttpResponseError("busy")
    busy.status_code = 503
    passing = [ServiceRequestError("gone"), busy, ConnectionResetError(), TimeoutError()]
    assert followed(*passing, "Completed").wait()
    for other in (BrokenPipeError(), AuthenticationError("nobody is signed in"), AttributeError("a bug")):
        with pytest.raises(type(other)):
            followed(other, "Completed").wait()
        assert "aml-spark job show job-1" in capfd.readouterr().err


def linger(project: Path) -> None:
    (project / "linger.py").write_text("import time\ntime.sleep(600)\n")


def named(experiment: str) -> Any:
    (found,) = (one for one in control.client().jobs.list() if one.experiment_name == experiment)
    return found


def test_a_closed_output_ends_the_following(workspace: EmulatorProcess, project: Path) -> None:
    linger(project)
    config, (read_end, write_end) = json.dumps({"place": "azureml"}), os.pipe()
    os.close(read_end)
    words = ["-e", "linger", "--backend-config", config, "--experiment-name", "piped"]
    process = command_line(project, *words, stdout=write_end)
    os.close(write_end)
    try:
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 1, err
    name = named("piped").name
    assert f"the job {name} goes on" in err
    control.client().jobs.begin_cancel(name).result()


def test_a_store_that_is_away_when_the_job_is_sent_is_told_of(
    azureml_workspace: EmulatorProcess,
    store: mlflow.MlflowClient,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(AzureRun, "tag_run", fails(MlflowException("no store")))
    submitted = start(project, {"place": "azureml", "workspace": azureml_workspace.facts["tracking_uri"]})
    assert store.get_run(submitted.run_id).info.status == "FINISHED"
    err = capfd.readouterr().err
    assert 0 <= err.find("=== Job ") < err.find("isn't tagged with its job")


def fails(error: BaseException) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)])
def test_an_interruption_when_the_job_was_sent_cancels_it(
    azureml_workspace: EmulatorProcess,
    store: mlflow.MlflowClient,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    linger(project)
    experiment, uri = f"interrupted-{type(error).__name__}", azureml_workspace.facts["tracking_uri"]
    monkeypatch.setattr(AzureRun, "tag_run", fails(error))
    with pytest.raises(type(error)):
        start(project, {"place": "azureml", "workspace": uri}, entry_point="linger", experiment_name=experiment)
    (run,) = store.search_runs([store.get_experiment_by_name(experiment).experiment_id])
    assert run.info.status == "KILLED"
    mlflow.set_tracking_uri(uri)
    until(lambda: named(experiment).status == "Canceled")


def test_an_interruption_when_the_run_is_described_cancels_the_job(
    workspace: EmulatorProcess, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linger(project)
    monkeypatch.setattr("aml_spark.project.run.describe", fails(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        start(project, {"place": "azureml"}, entry_point="linger", experiment_name="described")
    assert named("described").status == "Canceled"


@pytest.mark.parametrize("arrives", [True, False])
def test_a_job_that_is_on_its_way_is_cancelled_when_it_appears(
    workspace: EmulatorProcess,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arrives: bool,
) -> None:
    from azure.ai.ml.operations import JobOperations

    send, senders = JobOperations.create_or_update, []

    def interrupted(self: JobOperations, job: Any, **options: Any) -> None:
        if arrives:
            senders.append(threading.Thread(target=send, args=(self, job)))
            senders[0].start()
            until(lambda: any(method == "PUT" and "/jobs/" in path for method, path in workspace.requests))
        raise KeyboardInterrupt

    linger(project)
    workspace.forget()
    workspace.plan(kind="slow", method="PUT", path="/jobs/", seconds=1)
    monkeypatch.setattr(JobOperations, "create_or_update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start(project, {"place": "azureml"}, entry_point="linger", experiment_name="on-its-way")
    workspace.forget()
    assert ("it may still appear: aml-spark job show " in capfd.readouterr().err) is not arrives
    for sender in senders:
        sender.join()
        until(lambda: named("on-its-way").status == "Canceled")
