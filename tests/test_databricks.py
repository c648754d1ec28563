"""The emulated Databricks workspace by Databricks' own client, and projects that run there."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    DatabricksError,
    InvalidParameterValue,
    NotFound,
    PermissionDenied,
    ResourceAlreadyExists,
)
from databricks.sdk.service.compute import ClusterSpec, Environment, Library, PythonPyPiLibrary
from databricks.sdk.service.jobs import (
    JobEnvironment,
    NotebookTask,
    Run,
    RunLifeCycleState,
    RunResultState,
    SparkPythonTask,
    SubmitTask,
)
from databricks.sdk.service.workspace import ImportFormat, ObjectType
from mlflow.exceptions import ExecutionException
from mlflow.projects import SubmittedRun

from aml_spark.errors import ArgumentError, ProjectError, ServiceError
from aml_spark.project import databricks, databricks_api, run as runs
from aml_spark.project.databricks_run import DatabricksRun
from aml_spark.project.source import fetch
from aml_spark.testing import EmulatorProcess

ENDED = (RunLifeCycleState.TERMINATED, RunLifeCycleState.INTERNAL_ERROR)
NEW_CLUSTER = {"spark_version": "17.3.x-scala2.13", "node_type_id": "Standard_D4ds_v5", "num_workers": 1}
# Tells its process and one that it started, and goes on until it is ended.
ENDLESS = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
whole = sys.argv[1] + ".new"
with open(whole, "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename(whole, sys.argv[1])
time.sleep(600)
"""


@pytest.fixture
def client(azureml_workspace: EmulatorProcess) -> WorkspaceClient:
    return WorkspaceClient()


@pytest.fixture
def cluster_id(azureml_workspace: EmulatorProcess) -> str:
    return str(azureml_workspace.facts["databricks_cluster_id"])


@pytest.fixture
def volume(azureml_workspace: EmulatorProcess, request: pytest.FixtureRequest) -> str:
    """A folder in a volume for this test alone."""
    return f"{azureml_workspace.facts['databricks_volume']}/{request.node.name}"


def put(client: WorkspaceClient, source: str, name: str = "script.py") -> str:
    path = f"/Workspace/Shared/{name}"
    client.workspace.upload(path, source.encode(), format=ImportFormat.RAW, overwrite=True)
    return path


def task(file: str, *parameters: str, **compute: Any) -> SubmitTask:
    return SubmitTask(
        task_key="task", spark_python_task=SparkPythonTask(python_file=file, parameters=[*parameters]), **compute
    )


def ended(client: WorkspaceClient, run_id: int) -> Run:
    while (run := client.jobs.get_run(run_id)).state.life_cycle_state not in ENDED:
        time.sleep(0.1)
    return run


def told(client: WorkspaceClient, path: str) -> str:
    """What a run writes to a file in a volume, once it is there."""
    while True:
        with contextlib.suppress(NotFound):
            return client.files.download(path).contents.read().decode()
        time.sleep(0.1)


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# The emulator


def test_a_run_runs_its_file_with_its_parameters(client: WorkspaceClient, cluster_id: str, volume: str) -> None:
    client.files.upload(f"{volume}/name", io.BytesIO(b"sparrow"))
    file = put(client, "import sys; print(open(sys.argv[1]).read(), *sys.argv[2:])")
    given = [f"{volume}/name", "{{job.run_id}}", "{{unknown}}", "it's; $HOME"]
    run_id = client.jobs.submit(run_name="birds", tasks=[task(file, *given, existing_cluster_id=cluster_id)]).run_id
    run = ended(client, run_id)
    assert run.state.result_state is RunResultState.SUCCESS
    assert run.status.termination_details.code.value == "SUCCESS"
    assert (run.run_name, run.tasks[0].cluster_instance.cluster_id) == ("birds", cluster_id)
    assert f"/run/{run_id}" in run.run_page_url
    output = client.jobs.get_run_output(run.tasks[0].run_id)
    assert output.logs == f"sparrow {run_id} {{{{unknown}}}} it's; $HOME\n"
    assert not output.error
    with pytest.raises(InvalidParameterValue, match="each individual task run"):
        client.jobs.get_run_output(run_id)


def test_a_new_cluster_has_its_variables_and_serverless_its_environment(client: WorkspaceClient) -> None:
    file = put(client, "import os; print(os.environ.get('BIRD'))")
    new = ClusterSpec.from_dict({**NEW_CLUSTER, "spark_env_vars": {"BIRD": "robin"}})
    serverless = JobEnvironment(environment_key="all", spec=Environment(dependencies=["pandas>=1"]))
    first = client.jobs.submit(tasks=[task(file, new_cluster=new)])
    second = client.jobs.submit(tasks=[task(file, environment_key="all")], environments=[serverless])
    logs = [
        client.jobs.get_run_output(ended(client, one.run_id).tasks[0].run_id).logs.strip() for one in (first, second)
    ]
    assert logs == ["robin", "None"]


def test_the_same_token_starts_one_run_only(client: WorkspaceClient, cluster_id: str) -> None:
    one = task(put(client, "print('once')"), existing_cluster_id=cluster_id)
    before = len(list(client.jobs.list_runs()))
    with ThreadPoolExecutor(4) as pool:
        submitted = [pool.submit(client.jobs.submit, tasks=[one], idempotency_token="only-one") for _ in range(4)]
        (run_id,) = {each.result().run_id for each in submitted}
    assert len(list(client.jobs.list_runs())) == before + 1
    ended(client, run_id)
    client.jobs.delete_run(run_id)
    assert run_id not in [run.run_id for run in client.jobs.list_runs()]
    with pytest.raises(DatabricksError, match="deleted"):
        client.jobs.submit(tasks=[one], idempotency_token="only-one")


def test_cancel_ends_the_process_and_what_it_started(client: WorkspaceClient, cluster_id: str, volume: str) -> None:
    client.files.create_directory(volume)
    file = put(client, ENDLESS)
    run_id = client.jobs.submit(tasks=[task(file, f"{volume}/pids", existing_cluster_id=cluster_id)]).run_id
    pids = [int(pid) for pid in told(client, f"{volume}/pids").split()]
    assert client.jobs.get_run(run_id).state.life_cycle_state is RunLifeCycleState.RUNNING
    assert [run.run_id for run in client.jobs.list_runs(active_only=True)] == [run_id]
    with pytest.raises(DatabricksError, match="active"):
        client.jobs.delete_run(run_id)
    client.jobs.cancel_run(run_id)
    run = ended(client, run_id)
    assert run.state.result_state is RunResultState.CANCELED
    assert run.state.user_cancelled_or_timedout
    assert not [pid for pid in pids if alive(pid)]
    client.jobs.cancel_run(run_id)  # which does nothing any more


def test_a_run_that_takes_too_long_is_ended(client: WorkspaceClient, cluster_id: str) -> None:
    file = put(client, "import time; time.sleep(600)")
    run_id = client.jobs.submit(tasks=[task(file, existing_cluster_id=cluster_id)], timeout_seconds=1).run_id
    run = ended(client, run_id)
    assert run.state.result_state is RunResultState.TIMEDOUT
    assert run.state.user_cancelled_or_timedout


@pytest.mark.parametrize(
    ("source", "error", "trace"),
    [
        ("print('begun')\nraise ValueError('no bird')", "ValueError: no bird", "line 2, in <module>"),
        ("print('begun')\nimport sys; sys.exit(3)", "SystemExit: 3", None),
        ("print('begun')\nimport os; os.kill(os.getpid(), 9)", "The Python process was ended by signal 9.", None),
    ],
)
def test_a_failure_is_told_with_its_trace(
    client: WorkspaceClient, cluster_id: str, source: str, error: str, trace: str | None
) -> None:
    run_id = client.jobs.submit(tasks=[task(put(client, source), existing_cluster_id=cluster_id)]).run_id
    run = ended(client, run_id)
    assert run.state.result_state is RunResultState.FAILED
    assert run.status.termination_details.code.value == "RUN_EXECUTION_ERROR"
    output = client.jobs.get_run_output(run.tasks[0].run_id)
    assert output.error == error
    assert output.logs.startswith("begun\n")
    assert output.error_trace is None if trace is None else trace in output.error_trace


def test_what_cannot_run_is_refused(client: WorkspaceClient, cluster_id: str) -> None:
    def refused(match: str, **one: Any) -> None:
        with pytest.raises(DatabricksError, match=match):
            client.jobs.submit(tasks=[SubmitTask(task_key="task", **one)])

    script = {"spark_python_task": SparkPythonTask(python_file="/Workspace/Shared/x.py")}
    refused(
        "runs spark_python_task only", notebook_task=NotebookTask(notebook_path="/x"), existing_cluster_id=cluster_id
    )
    refused("Cluster nest does not exist", **script, existing_cluster_id="nest")
    refused("Invalid spark version 1", **script, new_cluster=ClusterSpec(spark_version="1"))
    refused("An environment is required", **script)
    refused("is not defined in environments", **script, environment_key="none")
    with pytest.raises(NotFound):
        client.clusters.get("nest")
    with pytest.raises(NotFound):
        client.jobs.get_run(1)
    with pytest.raises(NotFound, match="No API found"):
        list(client.jobs.list())


def test_a_package_that_is_not_there_fails_before_the_run(client: WorkspaceClient, cluster_id: str) -> None:
    wanted = [Library(pypi=PythonPyPiLibrary(package=name)) for name in ("pandas>=1", "no-such-bird==1")]
    one = task(put(client, "print('never')"), existing_cluster_id=cluster_id, libraries=wanted)
    run = ended(client, client.jobs.submit(tasks=[one]).run_id)
    assert run.state.life_cycle_state is RunLifeCycleState.INTERNAL_ERROR
    assert run.status.termination_details.code.value == "LIBRARY_INSTALLATION_ERROR"
    assert "no-such-bird" in run.state.state_message


def test_a_wrong_token_is_refused(client: WorkspaceClient) -> None:
    with pytest.raises(PermissionDenied, match="Invalid access token"):
        WorkspaceClient(host=client.config.host, token="dapi0").current_user.me()


def test_clusters_are_described(client: WorkspaceClient, cluster_id: str) -> None:
    assert [one.cluster_id for one in client.clusters.list()] == [cluster_id]
    assert client.clusters.get(cluster_id).state.value == "RUNNING"
    assert client.clusters.select_spark_version(latest=True, long_term_support=True).endswith("-scala2.12")
    assert client.clusters.select_node_type(min_cores=2).startswith("Standard_")


def test_workspace_files(client: WorkspaceClient) -> None:
    home = f"/Users/{client.current_user.me().user_name}"
    client.workspace.mkdirs(f"{home}/nest/deep")
    client.workspace.upload(f"{home}/nest/egg.bin", b"\x00\xff", format=ImportFormat.RAW)
    with pytest.raises(ResourceAlreadyExists):
        client.workspace.upload(f"{home}/nest/egg.bin", b"", format=ImportFormat.RAW)
    client.workspace.upload(f"{home}/nest/note.py", b"1 + 1")
    kinds = {one.path: one.object_type for one in client.workspace.list(f"/Workspace{home}/nest")}
    assert kinds == {
        f"/Workspace{home}/nest/deep": ObjectType.DIRECTORY,
        f"/Workspace{home}/nest/egg.bin": ObjectType.FILE,
        f"/Workspace{home}/nest/note.py": ObjectType.NOTEBOOK,
    }
    assert client.workspace.get_status(f"{home}/nest/egg.bin").size == 2
    assert client.workspace.download(f"{home}/nest/egg.bin").read() == b"\x00\xff"
    assert client.workspace.export(f"{home}/nest/egg.bin").content == "AP8="
    with pytest.raises(DatabricksError, match="not empty"):
        client.workspace.delete(f"{home}/nest")
    client.workspace.delete(f"{home}/nest", recursive=True)
    with pytest.raises(NotFound):
        client.workspace.get_status(f"{home}/nest")
    with pytest.raises(NotFound, match="parent folder"):
        client.workspace.upload(f"{home}/nest/egg.bin", b"", format=ImportFormat.RAW)
    with pytest.raises(InvalidParameterValue):
        client.workspace.get_status("/Workspace/../../etc/passwd")


def test_volumes(client: WorkspaceClient, volume: str) -> None:
    large = os.urandom(2**20) * 51  # more than the client sends in one part
    client.files.upload(f"{volume}/large", io.BytesIO(large))
    client.files.upload(f"{volume}/a name", io.BytesIO(b"small"))
    with pytest.raises(DatabricksError, match="already exists"):
        client.files.upload(f"{volume}/a name", io.BytesIO(b""), overwrite=False)
    assert client.files.get_metadata(f"{volume}/large").content_length == len(large)
    assert client.files.download(f"{volume}/large").contents.read() == large
    assert [one.name for one in client.files.list_directory_contents(volume)] == ["a name", "large"]
    client.files.delete(f"{volume}/large")
    with pytest.raises(NotFound):
        client.files.get_metadata(f"{volume}/large")
    with pytest.raises(NotFound, match="does not exist"):
        client.files.upload("/Volumes/main/default/none/x", io.BytesIO(b""))


def test_malformed_requests_are_refused_in_databricks_form(client: WorkspaceClient, volume: str) -> None:
    def refused(match: str, method: str, path: str, **options: Any) -> None:
        with pytest.raises(InvalidParameterValue, match=match):
            client.api_client.do(method, path, **options)

    for name in ("a\0b", "x" * 256, "\u00e4" * 128, "x/" * 2000):
        path = f"/Workspace/Shared/{name}"
        refused("255 bytes", "POST", "/api/2.0/workspace/mkdirs", body={"path": path})
        refused("255 bytes", "POST", "/api/2.0/workspace/import", body={"path": path, "format": "AUTO"})
        with pytest.raises(InvalidParameterValue, match="255 bytes"):
            client.files.upload(f"{volume}/{name}", io.BytesIO(b""))
    put(client, "", "file")
    refused("file", "POST", "/api/2.0/workspace/mkdirs", body={"path": "/Workspace/Shared/file/below"})
    refused("field: path", "GET", "/api/2.0/workspace/get-status")
    refused("abc", "GET", "/api/2.2/jobs/runs/list", query={"limit": "abc"})
    refused("understood", "POST", "/api/2.2/jobs/runs/submit", body={"tasks": "x"})
    refused("understood", "POST", "/api/2.2/jobs/runs/submit", data="{")


@pytest.mark.parametrize("path", ["/", "/Workspace", "/Volumes", "/Users", "/Shared", "/Volumes/main/default/files"])
def test_what_was_there_from_the_start_stays(client: WorkspaceClient, path: str) -> None:
    with pytest.raises(DatabricksError, match="protected"):
        client.workspace.delete(path, recursive=True)
    assert client.workspace.get_status("/Shared").object_type is ObjectType.DIRECTORY


def test_nothing_survives_the_emulators_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connected(emulator: EmulatorProcess) -> WorkspaceClient:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", emulator.facts["authority_file"])
        return WorkspaceClient(host=emulator.facts["databricks_url"], token=emulator.facts["databricks_token"])

    with EmulatorProcess(tmp_path) as emulator:
        client, volume = connected(emulator), emulator.facts["databricks_volume"]
        one = task(put(client, ENDLESS), f"{volume}/pids", existing_cluster_id=emulator.facts["databricks_cluster_id"])
        run_id = client.jobs.submit(tasks=[one]).run_id
        pids = [int(pid) for pid in told(client, f"{volume}/pids").split()]
    assert not [pid for pid in pids if alive(pid)]
    with EmulatorProcess(tmp_path) as emulator:
        assert connected(emulator).jobs.get_run(run_id).state.result_state is RunResultState.CANCELED


# Projects


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], str]:
    """Make a project of a script that takes one argument."""

    def made(source: str) -> str:
        folder = tmp_path / "birds"
        folder.mkdir(exist_ok=True)
        (folder / "lib").mkdir(exist_ok=True)
        (folder / "lib" / "script.py").write_text(source)
        (folder / "lib" / "helper.py").write_text("WORD = 'helped'\n")
        (folder / "MLproject").write_text(
            "name: birds\npython_env: python_env.yaml\nentry_points:\n  main:\n    parameters:\n"
            "      word: {type: string, default: none}\n    command: 'python lib/script.py {word}'\n"
        )
        (folder / "python_env.yaml").write_text(
            "python: '3.11'\nbuild_dependencies: [pip]\ndependencies: ['pandas>=1', 'pyspark>=3']\n"
        )
        return str(folder)

    return made


@pytest.fixture
def start(azureml_workspace: EmulatorProcess, cluster_id: str) -> Iterator[Callable[..., SubmittedRun]]:
    """Start a project on the running cluster, through MLflow; what still runs is cancelled at the end."""
    started: list[SubmittedRun] = []

    def run(uri: str, word: str = "none", **config: Any) -> SubmittedRun:
        where = config or {"existing_cluster_id": cluster_id}
        started.append(
            mlflow.projects.run(
                uri,
                parameters={"word": word},
                experiment_name="birds",
                backend="aml-spark",
                backend_config={"place": "databricks", **where},
                synchronous=False,
            )
        )
        return started[-1]

    yield run
    azureml_workspace.forget()
    for one in started:
        one.cancel()


def kept(run_id: str) -> mlflow.entities.Run:
    return mlflow.MlflowClient().get_run(run_id)


def linked() -> runs.Link:
    experiment = mlflow.set_experiment("birds")
    run_id = mlflow.MlflowClient().create_run(experiment.experiment_id).info.run_id
    return runs.link(experiment.experiment_id, run_id)


def test_a_project_runs_there_and_both_runs_know_each_other(
    client: WorkspaceClient, start: Callable[..., SubmittedRun], make: Callable[[str], str], volume: str
) -> None:
    uri = make(
        "import json, os, sys, mlflow, helper\n"
        "with mlflow.start_run() as run:\n"
        "    mlflow.set_tag('seen', json.dumps([run.info.run_id, sys.argv[1:], helper.WORD, os.listdir()]))\n"
    )
    hostile = 'it\'s {{job.run_id}} %7B "$HOME" `id` \\ ü; \n-- '
    submitted = start(uri, hostile)
    assert submitted.wait()
    assert submitted.get_status() == "FINISHED"
    run = kept(submitted.run_id)
    assert run.info.status == "FINISHED"
    seen_id, argv, word, files = json.loads(run.data.tags["seen"])
    assert (seen_id, argv, word) == (submitted.run_id, [hostile], "helped")
    assert "MLproject" in files
    job = client.jobs.get_run(int(run.data.tags["mlflow.databricks.shellJobRunID"]))
    assert submitted.run_id in job.run_name
    assert run.data.tags["mlflow.databricks.runURL"] == job.run_page_url
    assert run.data.tags["mlflow.databricks.webappURL"] == client.config.host
    packages = [library.pypi.package for library in job.tasks[0].libraries]
    assert packages == ["pandas>=1"]  # pip and pyspark are Databricks' own


def test_code_is_sent_once(
    azureml_workspace: EmulatorProcess, start: Callable[..., SubmittedRun], make: Callable[[str], str], volume: str
) -> None:
    uri = make("print('sung')")
    assert start(uri, "a").wait()
    assert start(uri, "b").wait()
    sent = azureml_workspace.requests.count(("POST", "/api/2.0/workspace/import"))
    assert sent <= 2  # the archive, and the script that unpacks it
    azureml_workspace.forget()
    assert start(make("print('sung again')"), code_folder=f"{volume}/code").wait()  # serverless
    assert len([path for method, path in azureml_workspace.requests if method == "PUT" and "/fs/files/" in path]) == 2


def test_a_project_has_spark_on_a_new_cluster(
    client: WorkspaceClient, start: Callable[..., SubmittedRun], make: Callable[[str], str]
) -> None:
    uri = make(
        "import os, sys\nfrom pyspark.sql import SparkSession\n"
        "spark = SparkSession.builder.master('local[1]').config('spark.ui.enabled', 'false').getOrCreate()\n"
        "print('counted', spark.range(int(sys.argv[1])).count(), spark.conf.get('spark.bird'), os.environ['BIRD'])\n"
        "sys.exit(0)\n"
    )
    new = {**NEW_CLUSTER, "spark_conf": {"spark.bird": "robin"}, "spark_env_vars": {"BIRD": "wren"}}
    submitted = start(uri, "7", new_cluster=new)
    assert submitted.wait()
    job = client.jobs.get_run(int(kept(submitted.run_id).data.tags["mlflow.databricks.shellJobRunID"]))
    assert "counted 7 robin wren" in client.jobs.get_run_output(job.tasks[0].run_id).logs
    assert job.tasks[0].new_cluster.custom_tags == {"mlflow_run_id": submitted.run_id}


def test_a_failure_is_shown(
    start: Callable[..., SubmittedRun], make: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    submitted = start(make("print('egg laid')\nraise ValueError('no bird')"))
    assert not submitted.wait()
    assert kept(submitted.run_id).info.status == "FAILED"
    assert submitted.get_status() == "FAILED"
    for part in ("egg laid", "ValueError: no bird", "raise ValueError", "script.py", "/run/", "FAILED"):
        assert part in caplog.text


def test_the_example_trains_there_by_its_configuration_file(azureml_workspace: EmulatorProcess) -> None:
    root = Path(__file__).parents[1]
    done = mlflow.projects.run(
        str(root / "tests" / "project"),
        parameters={"rows": 400},
        experiment_name="flights",
        backend="aml-spark",
        backend_config=str(root / "conf" / "project-databricks.json"),
    )
    run = mlflow.get_run(done.run_id)
    assert run.info.status == "FINISHED"
    assert 0.5 < run.data.metrics["training_auc"] <= 1
    version = mlflow.register_model(f"runs:/{done.run_id}/model", "late-flights-of-databricks")
    model = mlflow.pyfunc.load_model(f"models:/{version.name}/{version.version}")
    assert model.predict(pd.DataFrame({"month": [1.0], "hour": [23.0], "distance": [800.0]})).shape == (1, 2)


def test_faults_start_no_second_run(
    azureml_workspace: EmulatorProcess,
    client: WorkspaceClient,
    start: Callable[..., SubmittedRun],
    make: Callable[[str], str],
) -> None:
    uri, before = make("print('sung')"), len(list(client.jobs.list_runs()))
    azureml_workspace.plan(kind="drop-after", path="runs/submit")
    azureml_workspace.plan(kind="throttle", path="runs/submit", seconds=1)
    azureml_workspace.plan(kind="unavailable", path="workspace/mkdirs")
    azureml_workspace.plan(kind="cut", path="runs/get")
    azureml_workspace.plan(kind="drop", path="runs/get")
    submitted = start(uri)
    assert submitted.wait()
    assert len(list(client.jobs.list_runs())) == before + 1


def test_a_call_is_repeated_while_databricks_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(500, {"error_code": "INTERNAL_ERROR", "message": "no luck"})] * 2 + [(200, {"userName": "wren"})]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, answer = (404, {}) if "well-known" in self.path else answers.pop(0)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    monkeypatch.setattr(databricks_api, "_PAUSES", (0.0, 0.0))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = WorkspaceClient(host=f"http://127.0.0.1:{server.server_port}", token="dapi0")
        assert databricks_api.ask("ask who I am", client.current_user.me).user_name == "wren"
        answers += [(500, {"error_code": "INTERNAL_ERROR", "message": "no luck"})] * 3
        with pytest.raises(ServiceError, match=r"can't ask who I am: Databricks says: no luck \(INTERNAL_ERROR\)"):
            databricks_api.ask("ask who I am", client.current_user.me)
        server.shutdown()


def test_the_same_run_is_started_once(
    azureml_workspace: EmulatorProcess,
    cluster_id: str,
    make: Callable[[str], str],
    volume: str,
    client: WorkspaceClient,
) -> None:
    link, config = linked(), {"place": "databricks", "existing_cluster_id": cluster_id}
    client.files.create_directory(volume)
    project = fetch(make(ENDLESS), "main", {"word": f"{volume}/pids"}, None)
    first, second = (databricks.submit(project, config, link) for _ in range(2))
    assert first.job_run_id == second.job_run_id
    told(client, f"{volume}/pids")
    second.cancel()
    third = databricks.submit(project, config, link)  # the earlier one has ended, so this is meant
    assert third.job_run_id != first.job_run_id
    third.cancel()
    assert kept(str(link.run_id)).info.status == "KILLED"


def test_cancel_ends_it_and_says_where_it_cannot(
    azureml_workspace: EmulatorProcess,
    client: WorkspaceClient,
    start: Callable[..., SubmittedRun],
    make: Callable[[str], str],
    volume: str,
) -> None:
    client.files.create_directory(volume)
    submitted = start(make(ENDLESS), f"{volume}/pids")
    pids = [int(pid) for pid in told(client, f"{volume}/pids").split()]
    assert submitted.get_status() == "RUNNING"
    azureml_workspace.plan(kind="forbidden", path="runs/cancel")
    job_run_id = kept(submitted.run_id).data.tags["mlflow.databricks.shellJobRunID"]
    with pytest.raises(ServiceError, match=f"the run {job_run_id}, which may go on") as refused:
        submitted.cancel()
    assert f"/run/{job_run_id}" in str(refused.value)
    submitted.cancel()
    assert submitted.get_status() == "KILLED"
    assert kept(submitted.run_id).info.status == "KILLED"
    assert not [pid for pid in pids if alive(pid)]


def test_a_run_that_is_cancelled_elsewhere_is_killed(
    client: WorkspaceClient, start: Callable[..., SubmittedRun], make: Callable[[str], str]
) -> None:
    submitted = start(make("import time; time.sleep(600)"))
    client.jobs.cancel_run(int(kept(submitted.run_id).data.tags["mlflow.databricks.shellJobRunID"]))
    assert not submitted.wait()
    assert kept(submitted.run_id).info.status == "KILLED"


def test_ctrl_c_cancels(
    client: WorkspaceClient, cluster_id: str, make: Callable[[str], str], volume: str, tmp_path: Path
) -> None:
    client.files.create_directory(volume)
    uri, config = make(ENDLESS), tmp_path / "where.json"
    config.write_text(json.dumps({"place": "databricks", "existing_cluster_id": cluster_id}))
    command = [sys.executable, "-m", "mlflow", "run", uri, "-b", "aml-spark", "--backend-config", str(config)]
    process = subprocess.Popen(
        [*command, "-P", f"word={volume}/pids", "--experiment-name", "birds"], stderr=subprocess.PIPE, text=True
    )
    try:
        pids = [int(pid) for pid in told(client, f"{volume}/pids").split()]
        process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode != 0, words
    assert not [pid for pid in pids if alive(pid)]
    assert not list(client.jobs.list_runs(active_only=True))
    (run,) = mlflow.search_runs(experiment_names=["birds"], max_results=1, output_format="list")
    assert run.info.status == "KILLED"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_while_it_is_submitted_leaves_nothing_running(
    azureml_workspace: EmulatorProcess,
    client: WorkspaceClient,
    cluster_id: str,
    make: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    interrupt: type[BaseException],
) -> None:
    whole = databricks._start

    def interrupted(*given: Any) -> int:
        whole(*given)  # it arrives, and its answer doesn't
        monkeypatch.setattr(databricks, "_start", whole)
        raise interrupt

    monkeypatch.setattr(databricks, "_start", interrupted)
    project = fetch(make("import time; time.sleep(600)"), "main", {}, None)
    link = linked()
    with pytest.raises(interrupt):
        databricks.submit(project, {"place": "databricks", "existing_cluster_id": cluster_id}, link)
    newest = next(iter(client.jobs.list_runs()))
    assert str(link.run_id) in str(newest.run_name)
    assert newest.state.result_state is RunResultState.CANCELED


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_after_it_was_submitted_cancels(
    client: WorkspaceClient,
    cluster_id: str,
    make: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    interrupt: type[BaseException],
) -> None:
    def interrupted(*_: Any) -> None:
        raise interrupt

    project, link = fetch(make("import time; time.sleep(600)"), "main", {}, None), linked()
    whole = databricks._link
    monkeypatch.setattr(databricks, "_link", interrupted)
    with pytest.raises(interrupt):
        databricks.submit(project, {"place": "databricks", "existing_cluster_id": cluster_id}, link)
    monkeypatch.setattr(databricks, "_link", whole)
    assert next(iter(client.jobs.list_runs())).state.result_state is RunResultState.CANCELED
    started = databricks.submit(project, {"place": "databricks", "existing_cluster_id": cluster_id}, linked())
    assert isinstance(started, DatabricksRun)
    monkeypatch.setattr(started, "_end", interrupted)
    with pytest.raises(ServiceError, match="may go on: its end wasn't waited for"):
        started.cancel()


def test_what_cannot_be_meant_is_told_before_anything_is_sent(
    azureml_workspace: EmulatorProcess, cluster_id: str, make: Callable[[str], str], tmp_path: Path
) -> None:
    project, link = fetch(make("print()"), "main", {}, None), linked()

    def refused(match: str, kind: type[Exception] = ArgumentError, **config: Any) -> None:
        with pytest.raises(kind, match=match):
            databricks.submit(project, {"place": "databricks", **config}, link)

    azureml_workspace.forget()
    refused("expected one", existing_cluster_id=cluster_id, new_cluster=NEW_CLUSTER)
    refused("'sparkversion' is unknown\nHint: did you mean 'spark_version'", new_cluster={"sparkversion": "1"})
    scale, disks = {"autoscale": {"min_worker": 1}}, {"init_scripts": [{"volumes": {"destinaton": "/x"}}]}
    refused("`new_cluster.autoscale`: the key 'min_worker' .*\n.*'min_workers'", new_cluster={**NEW_CLUSTER, **scale})
    refused("`new_cluster.init_scripts.0.volumes`: the key 'destinaton'", new_cluster={**NEW_CLUSTER, **disks})
    spot = {"azure_attributes": {"availability": "SPOTTED"}}
    refused(
        "`new_cluster.azure_attributes.availability`: Databricks takes no such", new_cluster={**NEW_CLUSTER, **spot}
    )
    refused("`new_cluster`, isn't what Databricks takes", new_cluster={**NEW_CLUSTER, "autoscale": 5})
    jar = {"maven": {"coordinates": "a:b:1", "exclusion": ["c:d"]}}
    refused("`libraries.0.maven`: the key 'exclusion'", existing_cluster_id=cluster_id, libraries=[jar])
    refused("serverless compute takes", libraries=[{"jar": "/Volumes/x.jar"}])
    mirror = {"package": "x", "repo": "https://me:s3cret@pypi.invalid"}
    refused(r"https://\*\*\*@pypi.invalid", libraries=[{"pypi": mirror}])
    assert not [path for _, path in azureml_workspace.requests if path.startswith("/api/")]
    refused(f"no such cluster; there are {cluster_id} \\(emulated\\)", ProjectError, existing_cluster_id="nest")
    refused("Invalid spark version 1", ServiceError, new_cluster={"spark_version": "1"})
    with pytest.raises(ExecutionException, match="`new_cluster`: the key 'spark_version' is missing"):
        mlflow.projects.run(
            make("print()"), backend="aml-spark", backend_config={"place": "databricks", "new_cluster": {}}
        )
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    local = runs.link(mlflow.set_experiment("birds").experiment_id, None)
    with pytest.raises(ProjectError, match="which Databricks doesn't reach"):
        databricks.plan(project, {"place": "databricks"}, local)


def test_a_plan_holds_what_would_be_sent_and_no_secret(
    azureml_workspace: EmulatorProcess, make: Callable[[str], str]
) -> None:
    uri, link = make("print()"), linked()
    project = fetch(uri, "main", {"word": "wren"}, None)
    azureml_workspace.forget()
    planned = databricks.plan(project, {"place": "databricks", "timeout_seconds": 60}, link)
    assert not [path for _, path in azureml_workspace.requests if path.startswith("/api/")]
    (one,) = planned["tasks"]
    assert one["spark_python_task"]["parameters"][2:] == ["lib/script.py", "wren"]
    assert planned["environments"][0]["spec"]["dependencies"] == ["pandas>=1"]
    assert (planned["timeout_seconds"], len(planned["idempotency_token"])) == (60, 64)
    secrets = [azureml_workspace.facts[name] for name in ("databricks_token", "client_secret", "lake_key")]
    assert not [secret for secret in secrets if secret in json.dumps(planned)]
    Path(uri, "python_env.yaml").write_text("dependencies: ['--extra-index-url https://me:s3cret@x.invalid', pandas]\n")
    project = fetch(uri, "main", {}, None)
    assert "https://***@x.invalid" in (whole := json.dumps(databricks.plan(project, {"place": "databricks"}, link)))
    assert "s3cret" not in whole
    with pytest.raises(ProjectError, match=r"has '--extra-index-url https://\*\*\*@x.invalid', which") as refused:
        databricks.plan(project, {"place": "databricks", "existing_cluster_id": "any"}, link)
    assert "s3cret" not in str(refused.value)
    Path(uri, "python_env.yaml").write_text("dependencies: ['bird @ git+https://me:s3cret@x.invalid/bird@v1']\n")
    conf = {"spark.hadoop.fs.azure.account.key.a": "s3cret", "spark.a": "b"}
    new = {**NEW_CLUSTER, "spark_conf": conf, "spark_env_vars": {"BIRD_TOKEN": "s3cret"}}
    planned = databricks.plan(fetch(uri, "main", {}, None), {"place": "databricks", "new_cluster": new}, link)
    assert planned["tasks"][0]["new_cluster"]["spark_conf"] == {
        "spark.hadoop.fs.azure.account.key.a": "***",
        "spark.a": "b",
    }
    assert "s3cret" not in json.dumps(planned)


def test_spark_submits_options_go_to_a_new_cluster(
    azureml_workspace: EmulatorProcess, make: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    uri, link = make("print()"), linked()
    file = Path(uri, "MLproject")

    def planned(options: str, **config: Any) -> dict[str, Any]:
        file.write_text(f"entry_points:\n  main:\n    command: 'spark-submit {options} lib/script.py'\n")
        return databricks.plan(fetch(uri, "main", {}, None), {"place": "databricks", **config}, link)

    options = "--master yarn --conf spark.bird=robin --conf=spark.nest=deep"
    new = {**NEW_CLUSTER, "spark_conf": {"spark.nest": "high"}}
    (one,) = planned(options, new_cluster=new)["tasks"]
    assert one["new_cluster"]["spark_conf"] == {"spark.bird": "robin", "spark.nest": "high"}
    planned(options)
    assert "'spark.bird', 'spark.nest' of spark-submit are left out" in caplog.text
    with pytest.raises(ProjectError, match="has --jars of spark-submit"):
        planned("--jars x.jar")


def test_requirements_that_are_not_installed_there_are_refused(
    azureml_workspace: EmulatorProcess, make: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    uri, link = make("print()"), linked()

    def planned(requirement: str, **config: Any) -> dict[str, Any]:
        Path(uri, "python_env.yaml").write_text(json.dumps({"dependencies": [requirement]}))
        return databricks.plan(fetch(uri, "main", {}, None), {"place": "databricks", **config}, link)

    index = "--extra-index-url https://example.com"
    assert planned(index)["environments"][0]["spec"]["dependencies"] == [index]
    with pytest.raises(ProjectError, match="which isn't installed on Databricks"):
        planned(index, existing_cluster_id="any")
    planned("aml-spark[demo, azure]")
    assert "aml-spark[demo] installs PyPI's pyspark" in caplog.text
