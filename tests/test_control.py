"""The emulator's control plane, asked by Microsoft's own client: computes, environments, and jobs that really run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
from azure.ai.ml import Input, MLClient, Output, command, spark
from azure.ai.ml.entities import AmlCompute, ComputeInstance, Data, Environment, JobResourceConfiguration
from azure.ai.ml.exceptions import JobException
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import ClientSecretCredential

from aml_spark import auth
from aml_spark.state import State
from aml_spark.testing import EmulatorProcess

ENVIRONMENT = "azureml://registries/azureml/environments/sklearn-1.5/labels/latest"
ENDED = ("Completed", "Failed", "Canceled")
SERVERLESS = JobResourceConfiguration(instance_type="Standard_DS3_v2", instance_count=1)


@contextlib.contextmanager
def _led_to(emulator: EmulatorProcess) -> Iterator[MLClient]:
    before = State.now()
    with pytest.MonkeyPatch.context() as patched:
        for name, value in emulator.environment.items():
            patched.setenv(name, value)
        auth.tokens.cache_clear()
        yield _client(emulator)
        before.restore()
        auth.tokens.cache_clear()


def _client(emulator: EmulatorProcess) -> MLClient:
    facts = emulator.facts
    credential = ClientSecretCredential(
        facts["tenant_id"],
        facts["client_id"],
        facts["client_secret"],
        authority=os.environ["AZURE_AUTHORITY_HOST"],
        disable_instance_discovery=True,
    )
    return MLClient(
        credential, facts["subscription_id"], facts["resource_group"], facts["workspace"], enable_telemetry=False
    )


@pytest.fixture(scope="module")
def client(azureml_emulator: EmulatorProcess) -> Iterator[MLClient]:
    with _led_to(azureml_emulator) as found:
        yield found


@pytest.fixture
def emulator(azureml_emulator: EmulatorProcess) -> Iterator[EmulatorProcess]:
    azureml_emulator.forget(seed=1)
    yield azureml_emulator
    azureml_emulator.forget()


@pytest.fixture(scope="module")
def cluster(client: MLClient) -> str:
    client.compute.begin_create_or_update(AmlCompute(name="cluster", size="Standard_DS3_v2", max_instances=2)).result()
    return "cluster"


def _job(text: str, **options: Any) -> Any:
    named = {"compute": None, "resources": SERVERLESS} if "compute" not in options else {}
    return command(command=text, **{"environment": ENVIRONMENT, **named, **options})


def _ended(client: MLClient, name: str) -> Any:
    while (job := client.jobs.get(name)).status not in ENDED:
        time.sleep(0.2)
    return job


def _wait_for_end(pid: int) -> None:
    """Of a process that was killed: it is gone when init has heard of it."""
    with contextlib.suppress(ProcessLookupError):
        for _ in range(300):
            os.kill(pid, 0)
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        pytest.fail(f"the process {pid} lives on")


def _call(emulator: EmulatorProcess, client: MLClient, method: str, path: str, **options: Any) -> Any:
    facts = emulator.facts
    workspace = (
        f"/subscriptions/{facts['subscription_id']}/resourceGroups/{facts['resource_group']}"
        f"/providers/Microsoft.MachineLearningServices/workspaces/{facts['workspace']}"
    )
    token = client._credential.get_token("https://management.azure.com/.default").token
    url = f"{facts['arm_url']}{workspace}/{path}?api-version=2023-04-01"
    headers = {"Authorization": f"Bearer {token}"}
    return requests.request(method, url, headers=headers, verify=facts["authority_file"], timeout=60, **options)


def _plan_failure(emulator: EmulatorProcess, code: str, message: str) -> None:
    url = f"{emulator.facts['arm_url']}/emulator/operations/failures"
    told = {"code": code, "message": message}
    requests.post(url, json=told, verify=emulator.facts["authority_file"], timeout=60).raise_for_status()


# The workspace, its computes and its assets


def test_the_workspace_is_shown_and_listed(client: MLClient, emulator: EmulatorProcess) -> None:
    found = client.workspaces.get()
    assert (found.name, found.location, found.resource_group) == ("emulated", "westeurope", "emulator")
    assert found.mlflow_tracking_uri.startswith("azureml://westeurope.api.azureml.ms/mlflow/v1.0/subscriptions/")
    assert [each.name for each in client.workspaces.list()] == ["emulated"]
    with pytest.raises(ResourceNotFoundError, match="workspaces/other' under resource group 'emulator' was not found"):
        client.workspaces.get("other")
    assert _call(emulator, client, "POST", "listKeys").json()["userStorageResourceId"].endswith("/amlsparklake")


def test_a_cluster_is_made_changed_and_deleted(client: MLClient, emulator: EmulatorProcess) -> None:
    asked = AmlCompute(name="lives", size="Standard_DS3_v2", max_instances=3, tags={"team": "a"})
    polls = client.compute.begin_create_or_update(asked)
    assert polls.status() == "InProgress"
    with pytest.raises(HttpResponseError, match="in progress"):
        client.compute.begin_delete("lives").result()
    made = polls.result()
    assert (made.name, made.size, made.max_instances, made.tags) == ("lives", "Standard_DS3_v2", 3, {"team": "a"})
    assert made.provisioning_state == "Succeeded"
    states = [path for method, path in emulator.requests if method == "GET" and "mfeOperationsStatus" in path]
    assert len(states) > 2
    made.max_instances = 5
    client.compute.begin_update(made).result()
    assert client.compute.get("lives").max_instances == 5
    assert "lives" in [each.name for each in client.compute.list(compute_type="amlcompute")]
    assert list(client.compute.list_nodes("lives")) == []
    client.compute.begin_delete("lives").result()
    with pytest.raises(ResourceNotFoundError, match="lives"):
        client.compute.get("lives")


def test_an_instance_is_stopped_and_started(client: MLClient, cluster: str) -> None:
    client.compute.begin_create_or_update(ComputeInstance(name="desk-1", size="Standard_DS3_v2")).result()
    assert client.compute.get("desk-1").state == "Running"
    client.compute.begin_stop("desk-1").result()
    assert client.compute.get("desk-1").state == "Stopped"
    client.compute.begin_start("desk-1").result()
    assert client.compute.get("desk-1").state == "Running"
    with pytest.raises(HttpResponseError, match="Only a compute instance"):
        client.compute.begin_start(cluster).result()
    client.compute.begin_delete("desk-1").result()


def test_a_quota_error_is_told_in_the_services_words(client: MLClient, emulator: EmulatorProcess) -> None:
    words = "The specified subscription has a total vCPU quota of 0 and cannot accomodate for 1 requested node."
    _plan_failure(emulator, "ClusterCoreQuotaReached", words)
    with pytest.raises(HttpResponseError) as caught:
        client.compute.begin_create_or_update(AmlCompute(name="toomuch", size="Standard_NC24")).result()
    assert words in str(caught.value)
    assert "ClusterCoreQuotaReached" in str(caught.value)
    found = client.compute.get("toomuch")
    assert (found.provisioning_state, found.provisioning_errors) == ("Failed", "ClusterCoreQuotaReached")
    client.compute.begin_delete("toomuch").result()


def test_what_is_attached_stands_in_the_list(client: MLClient, emulator: EmulatorProcess) -> None:
    site = "/subscriptions/s/resourceGroups/g/providers"
    spark_pool = {
        "computeType": "SynapseSpark",
        "resourceId": f"{site}/Microsoft.Synapse/workspaces/w/bigDataPools/p",
        "properties": {"nodeCount": 3, "nodeSize": "Small", "nodeSizeFamily": "MemoryOptimized", "sparkVersion": "3.4"},
    }
    databricks = {
        "computeType": "Databricks",
        "resourceId": f"{site}/Microsoft.Databricks/workspaces/d",
        "properties": {"workspaceUrl": "https://adb-1.azuredatabricks.net"},
    }
    for name, properties in (("pool", spark_pool), ("bricks", databricks)):
        answer = _call(emulator, client, "PUT", f"computes/{name}", json={"properties": properties})
        assert answer.status_code == 201
        while client.compute.get(name).provisioning_state != "Succeeded":
            time.sleep(0.05)
    found = {each.name: each for each in client.compute.list()}
    assert (found["pool"].type, found["pool"].node_count) == ("synapsespark", 3)
    assert found["bricks"].resource_id == databricks["resourceId"]
    for name in ("pool", "bricks"):
        client.compute.begin_delete(name, action="Detach").result()


def test_an_environment_has_versions_that_dont_change(client: MLClient) -> None:
    conda = {"name": "x", "dependencies": ["python=3.11"]}
    first = client.environments.create_or_update(Environment(name="env", image="mcr/one", conda_file=conda))
    assert (first.version, first.conda_file) == ("1", conda)
    second = client.environments.create_or_update(Environment(name="env", image="mcr/two"))
    assert second.version == "2"
    assert client.environments.get("env", label="latest").image == "mcr/two"
    assert client.environments.get("env", version="1").image == "mcr/one"
    assert [each.version for each in client.environments.list("env")] == ["2", "1"]
    assert "env" in [each.name for each in client.environments.list()]
    with pytest.raises(HttpResponseError, match="already exists"):
        client.environments.create_or_update(Environment(name="env", version="1", image="mcr/other"))
    with pytest.raises(ResourceNotFoundError, match="No environments exists for name: none"):
        client.environments.get("none", version="1")


# Jobs

TRAIN = """
import os, pathlib, sys
import mlflow
rate, rows, result = sys.argv[1:]
print("words of the job", os.environ["TEAM"])
with mlflow.start_run() as run:
    mlflow.log_param("rate", rate)
    mlflow.log_metric("rows", len(pathlib.Path(rows).read_text().splitlines()))
    mlflow.log_dict({"a": 1}, "told.json")
pathlib.Path(result, "deep").mkdir()
pathlib.Path(result, "deep", "result.txt").write_text(run.info.run_id)
pathlib.Path("outputs").mkdir()
pathlib.Path("outputs", "model.txt").write_text(pathlib.Path("package/part.py").read_text())
"""


def test_a_command_job_runs_and_is_its_mlflow_run(
    client: MLClient, cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tmp_path / "code"
    (code / "package").mkdir(parents=True)
    (code / "train.py").write_text(TRAIN)
    (code / "package" / "part.py").write_text("part = 1")
    (code / ".amlignore").write_text("secret.txt\n")
    (code / "secret.txt").write_text("not for the job")
    (tmp_path / "rows.csv").write_text("1\n2\n3\n")
    environment = client.environments.create_or_update(Environment(name="own", image="mcr/one"))
    job = _job(
        "test ! -e secret.txt && python train.py ${{inputs.rate}} ${{inputs.rows}} ${{outputs.result}}",
        code=str(code),
        compute=cluster,
        environment=environment,
        inputs={"rate": 0.5, "rows": Input(type="uri_file", path=str(tmp_path / "rows.csv"))},
        outputs={"result": Output(type="uri_folder")},
        environment_variables={"TEAM": "blue"},
        experiment_name="trained",
        display_name="first try",
        tags={"who": "me"},
    )
    submitted = client.jobs.create_or_update(job)
    assert submitted.status == "NotStarted"
    assert submitted.studio_url.startswith(f"https://ml.azure.com/runs/{submitted.name}?wsid=/subscriptions/")
    client.jobs.stream(submitted.name)
    assert "words of the job blue" in capsys.readouterr().out
    done = client.jobs.get(submitted.name)
    assert (done.status, done.compute, done.experiment_name) == ("Completed", cluster, "trained")

    run = mlflow.get_run(submitted.name)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "first try")
    assert mlflow.get_experiment(run.info.experiment_id).name == "trained"
    assert (run.data.params, run.data.metrics) == ({"rate": "0.5"}, {"rows": 3})
    assert run.data.tags["who"] == "me"
    assert run.data.tags["mlflow.source.type"] == "JOB"
    files = {each.path for each in mlflow.MlflowClient().list_artifacts(submitted.name)}
    assert files == {"outputs", "user_logs", "told.json"}

    client.jobs.download(submitted.name, download_path=tmp_path / "got", all=True)
    assert (tmp_path / "got/artifacts/outputs/model.txt").read_text() == "part = 1"
    assert "words of the job blue" in (tmp_path / "got/artifacts/user_logs/std_log.txt").read_text()
    assert (tmp_path / "got/named-outputs/result/deep/result.txt").read_text() == submitted.name


def test_the_log_grows_while_the_job_runs(client: MLClient, emulator: EmulatorProcess, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    name = client.jobs.create_or_update(_job(f"echo begun; while [ ! -e {gate} ]; do sleep 0.1; done; echo done")).name
    while "begun" not in (before := _log(client, name)):
        time.sleep(0.1)
    assert client.jobs.get(name).status == "Running"
    assert mlflow.get_run(name).info.status == "RUNNING"
    assert "done" not in before
    gate.touch()
    assert _ended(client, name).status == "Completed"
    assert _log(client, name) == "begun\ndone\n"


def _log(client: MLClient, name: str) -> str:
    logs = client.jobs._runs_operations.get_run_details(name).log_files
    return requests.get(logs["user_logs/std_log.txt"], timeout=60).text if logs else ""


def test_a_failing_job_says_why(client: MLClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = client.jobs.create_or_update(_job("echo 'all is lost' >&2; exit 7")).name
    with pytest.raises(JobException) as caught:
        client.jobs.stream(name)
    assert "User process 'echo' exited with status code 7" in str(caught.value)
    assert "all is lost" in str(caught.value)
    assert client.jobs.get(name).status == "Failed"
    assert mlflow.get_run(name).info.status == "FAILED"
    client.jobs.download(name, download_path=tmp_path)
    assert (tmp_path / "artifacts/user_logs/std_log.txt").read_text() == "all is lost\n"


def test_a_hanging_job_is_cancelled_with_all_that_it_started(client: MLClient, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    stubborn = f"trap '' TERM; echo $$ > {pids}; sleep 1000 & echo $! >> {pids}; while true; do sleep 0.2; done"
    name = client.jobs.create_or_update(_job(stubborn)).name
    while not (pids.exists() and len(pids.read_text().split()) == 2):
        time.sleep(0.1)
    with pytest.raises(JobException, match="Download is allowed only in states"):
        client.jobs.download(name, download_path=tmp_path)
    cancelled = client.jobs.begin_cancel(name)
    assert client.jobs.get(name).status in ("CancelRequested", "Canceled")
    cancelled.result()
    assert client.jobs.get(name).status == "Canceled"
    assert mlflow.get_run(name).info.status == "KILLED"
    for pid in pids.read_text().split():
        _wait_for_end(int(pid))
    client.jobs.begin_cancel(name).result()  # nothing happens to a job that has ended
    assert client.jobs.get(name).status == "Canceled"


def test_a_job_that_takes_longer_than_its_limit_is_cancelled(client: MLClient) -> None:
    job = _job("sleep 1000")
    job.set_limits(timeout=1)
    assert _ended(client, client.jobs.create_or_update(job).name).status == "Canceled"


def test_refused_jobs_are_told_in_azures_words(client: MLClient, emulator: EmulatorProcess) -> None:
    with pytest.raises(HttpResponseError, match="Compute Target with name nowhere not found in provided workspace"):
        client.jobs.create_or_update(_job("true", compute="nowhere"))
    body = {"properties": {"jobType": "Sweep", "computeId": "serverless"}}
    answer = _call(emulator, client, "PUT", "jobs/refused", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "UserError")
    assert "The job type 'Sweep' is not supported here" in answer.json()["error"]["message"]
    with pytest.raises(HttpResponseError, match="No environment exists for name: none, version: 9"):
        client.jobs.create_or_update(_job("true", environment="none:9"))
    lost = Input(type="uri_folder", path="azureml://datastores/lake/paths/not/there")
    name = client.jobs.create_or_update(_job("ls ${{inputs.x}}", inputs={"x": lost})).name
    with pytest.raises(JobException, match=r"nothing is at 'azureml://.*datastores/lake/paths/not/there'"):
        client.jobs.stream(name)


@pytest.mark.parametrize(
    ("kind", "name"), [("inputs", "../../x"), ("outputs", "/x"), ("inputs", "1st"), ("outputs", "")]
)
def test_names_of_inputs_and_outputs_lead_nowhere(
    client: MLClient, emulator: EmulatorProcess, kind: str, name: str
) -> None:
    bound = {name: {f"job{kind.capitalize()[:-1]}Type": "literal" if kind == "inputs" else "uri_folder", "value": "1"}}
    properties = {"jobType": "Command", "command": "true", "environmentId": ENVIRONMENT, kind: bound}
    answer = _call(emulator, client, "PUT", "jobs/leads-out", json={"properties": properties})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "UserError")
    assert f"The name '{name}' in the job's {kind} is invalid" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "place",
    [
        "azureml://jobs/zz/outputs/artifacts/paths/../../../../{}",
        "azureml://datastores/lake/paths/a/../../{}",
        "azureml://datastores/lake/paths/%2e%2e/{}",
        "https://amlsparkemulator.blob.core.windows.net/%2e%2e/{}",
    ],
)
def test_no_output_leaves_the_storage(client: MLClient, emulator: EmulatorProcess, place: str) -> None:
    name, out = f"out-{uuid.uuid4().hex[:8]}", f"escaped-{uuid.uuid4().hex}"
    outputs = {"x": {"jobOutputType": "uri_file", "uri": place.format(out)}}
    properties = {
        "jobType": "Command",
        "command": "echo lost > ${{outputs.x}}",
        "environmentId": ENVIRONMENT,
        "outputs": outputs,
    }
    _call(emulator, client, "PUT", f"jobs/{name}", json={"properties": properties}).raise_for_status()
    assert _ended(client, name).status == "Failed"
    error = client.jobs._runs_operations.get_run_details(name).error.error
    assert (error.code, "it leads out of its container" in error.message) == ("UserError", True)
    assert not list(emulator.folder.parent.rglob(out))


@pytest.mark.parametrize(("name", "good"), [("x" * 240, True), ("x" * 300, False), ("ä" * 60, False)])
def test_an_artifact_has_a_name_that_a_file_can_have(
    client: MLClient, emulator: EmulatorProcess, name: str, good: bool
) -> None:
    facts = emulator.facts
    with mlflow.start_run() as run:
        pass
    root = client.workspaces.get().mlflow_tracking_uri.partition("/mlflow/v1.0")[2]
    url = f"{facts['arm_url']}/history/v1.0{root}/experiments/e/runs/{run.info.run_id}/artifacts/batch/metadata"
    token = client._credential.get_token("https://management.azure.com/.default").token
    options: dict[str, Any] = {"verify": facts["authority_file"], "timeout": 60}
    headers = {"Authorization": f"Bearer {token}"}
    answer = requests.post(url, json={"paths": [{"path": f"deep/{name}"}]}, headers=headers, **options)
    assert answer.status_code == (200 if good else 400)
    if good:
        address = answer.json()["artifactContentInformation"][f"deep/{name}"]["contentUri"]
        sent = requests.put(address, data=b"1", headers={"x-ms-blob-type": "BlockBlob"}, **options)
        assert sent.status_code == 201


def test_a_file_with_any_name_is_an_input(client: MLClient, tmp_path: Path) -> None:
    (tmp_path / "it's; $HOME.csv").write_text("good")
    given = Input(type="uri_file", path=str(tmp_path / "it's; $HOME.csv"))
    name = client.jobs.create_or_update(_job("cat ${{inputs.x}}", inputs={"x": given})).name
    assert _ended(client, name).status == "Completed"
    assert _log(client, name) == "good"


def test_a_name_is_taken_unless_the_job_is_the_same(client: MLClient) -> None:
    name = f"named-{uuid.uuid4().hex[:8]}"
    first = client.jobs.create_or_update(_job("echo one", name=name))
    again = client.jobs.create_or_update(_job("echo one", name=name))
    assert again.creation_context.created_at == first.creation_context.created_at
    with pytest.raises(HttpResponseError, match="A job with this name already exists"):
        client.jobs.create_or_update(_job("echo two", name=name))
    assert _ended(client, name).status == "Completed"


def test_jobs_are_listed_changed_and_archived(client: MLClient) -> None:
    names = [client.jobs.create_or_update(_job(f"echo {number}")).name for number in range(2)]
    for name in names:
        _ended(client, name)
    listed = [each.name for each in client.jobs.list()]
    assert listed[:2] == names[::-1]
    changed = client.jobs.update(names[0], display_name="renamed", tags={"late": "yes"})
    assert (changed.display_name, changed.tags["late"]) == ("renamed", "yes")
    run = mlflow.get_run(names[0])
    assert (run.info.run_name, run.data.tags["late"]) == ("renamed", "yes")
    client.jobs.archive(names[0])
    assert names[0] not in [each.name for each in client.jobs.list()]
    assert names[0] in [each.name for each in client.jobs.list(list_view_type="ArchivedOnly")]
    client.jobs.restore(names[0])
    assert names[0] in [each.name for each in client.jobs.list()]
    client.jobs.begin_delete(names[0]).result()
    with pytest.raises(ResourceNotFoundError, match="was not found"):
        client.jobs.get(names[0])


def test_a_job_gets_through_faults(client: MLClient, emulator: EmulatorProcess, tmp_path: Path) -> None:
    (tmp_path / "say.py").write_text("print('said')")
    emulator.plan(kind="throttle", path="/codes/", method="GET")
    emulator.plan(kind="unavailable", path="/codes/", method="PUT")
    emulator.plan(kind="drop", path="/jobs/", method="PUT")
    emulator.plan(kind="drop-after", path="/jobs/", method="PUT")
    emulator.plan(kind="throttle", path="/details", times=2)
    emulator.plan(kind="drop", path="/jobs/", method="GET")
    name = client.jobs.create_or_update(_job("python say.py", code=str(tmp_path))).name
    client.jobs.stream(name)
    assert client.jobs.get(name).status == "Completed"
    assert [method for method, path in emulator.requests if path.endswith(f"/jobs/{name}")].count("PUT") == 3
    assert _log(client, name) == "said\n"


def test_data_of_a_datastore_and_of_an_asset_reaches_a_job_and_its_output_a_place(
    client: MLClient, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("asset")
    asset = client.data.create_or_update(Data(name="words", path=str(tmp_path / "in"), type="uri_folder"))
    place = "azureml://datastores/lake/paths/results/x.txt"
    job = _job(
        "cat ${{inputs.words}}/a.txt > ${{outputs.x}} && echo ${{inputs.there}}",
        inputs={
            "words": Input(type="uri_folder", path=f"{asset.name}:{asset.version}", mode="download"),
            "there": Input(type="uri_folder", path="azureml://datastores/lake/paths/far", mode="direct"),
        },
        outputs={"x": Output(type="uri_file", path=place)},
    )
    first = client.jobs.create_or_update(job).name
    assert _ended(client, first).status == "Completed"
    assert _log(client, first).strip().endswith("datastores/lake/paths/far")
    read = _job("cat ${{inputs.x}}", inputs={"x": Input(type="uri_file", path=place)})
    second = client.jobs.create_or_update(read).name
    assert _ended(client, second).status == "Completed"
    assert _log(client, second) == "asset"


SPARK = """
import os, sys
import mlflow
from pyspark.sql import SparkSession
from helper import doubled
spark = SparkSession.builder.config("spark.ui.enabled", "false").getOrCreate()
here = os.getcwd()
rows = spark.read.csv(f"file://{here}/rows.csv", header=True, inferSchema=True)
doubled(rows, int(sys.argv[2])).coalesce(1).write.parquet(f"file://{here}/outputs/doubled")
total = spark.read.parquet(f"file://{here}/outputs/doubled").agg({"a": "sum"}).first()[0]
mlflow.log_metric("total", total)
mlflow.log_param("master", spark.sparkContext.master)
mlflow.log_param("conf", spark.conf.get("spark.sql.shuffle.partitions"))
spark.stop()
"""


def test_a_spark_job_runs_under_spark_submit(client: MLClient, tmp_path: Path) -> None:
    (tmp_path / "entry.py").write_text(SPARK)
    (tmp_path / "helper.py").write_text("def doubled(rows, by):\n    return rows.selectExpr(f'a * {by} as a')\n")
    (tmp_path / "rows.csv").write_text("a\n1\n2\n3\n")
    job = spark(
        code=str(tmp_path),
        entry={"file": "entry.py"},
        py_files=["helper.py"],
        driver_cores=1,
        driver_memory="1g",
        executor_cores=2,
        executor_memory="1g",
        executor_instances=1,
        conf={"spark.sql.shuffle.partitions": "3"},
        inputs={"by": 2},
        args="--by ${{inputs.by}}",
        resources={"instance_type": "standard_e4s_v3", "runtime_version": "3.4"},
        experiment_name="trained",
    )
    name = client.jobs.create_or_update(job).name
    done = _ended(client, name)
    assert done.status == "Completed", _log(client, name)
    run = mlflow.get_run(name)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"total": 12}
    assert run.data.params == {"master": f"local[{min(2, os.cpu_count() or 1)}]", "conf": "3"}
    assert done.entry.entry == "entry.py"
    client.jobs.download(name, download_path=tmp_path / "got")
    assert list((tmp_path / "got/artifacts/outputs/doubled").glob("*.parquet"))


def test_jobs_end_with_the_emulator(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with EmulatorProcess(tmp_path / "emulator") as emulator, _led_to(emulator) as client:
        name = client.jobs.create_or_update(_job(f"echo $$ > {pid}; exec sleep 1000")).name
        while not (pid.exists() and pid.read_text()):
            time.sleep(0.1)
    _wait_for_end(int(pid.read_text()))
    with EmulatorProcess(tmp_path / "emulator") as emulator, _led_to(emulator) as client:
        assert client.jobs.get(name).status == "Failed"
        error = client.jobs._runs_operations.get_run_details(name).error.error
        assert "The emulator was stopped" in error.message
        assert mlflow.get_run(name).info.status == "FAILED"


def test_a_killed_emulator_takes_its_jobs_along_and_what_it_began_has_failed(tmp_path: Path) -> None:
    pids, folder = tmp_path / "pids", tmp_path / "emulator"
    stubborn = f"trap '' TERM; sleep 1000 & echo $$ $! > {pids}; wait"
    with EmulatorProcess(folder) as emulator, _led_to(emulator) as client:
        client.compute.begin_create_or_update(AmlCompute(name="begun", size="Standard_DS3_v2")).result()
        ended = client.jobs.create_or_update(_job(f"echo $$ > {pids}.ended")).name
        _ended(client, ended)
        name = client.jobs.create_or_update(_job(stubborn)).name
        while not (pids.exists() and len(pids.read_text().split()) == 2):
            time.sleep(0.1)
        assert emulator._process is not None
        emulator._process.send_signal(signal.SIGKILL)
    for pid in pids.read_text().split():
        _wait_for_end(int(pid))
    file = folder / "control" / "computes.json"
    known = json.loads(file.read_text())
    known["begun"]["properties"]["provisioningState"] = "Creating"  # as if it had been killed a little earlier
    file.write_text(json.dumps(known))
    with EmulatorProcess(folder) as emulator, _led_to(emulator) as client:
        assert client.jobs.get(name).status == "Failed"
        found = client.compute.get("begun")
        assert (found.provisioning_state, found.provisioning_errors) == ("Failed", "InternalServerError")
        client.compute.begin_delete("begun").result()
