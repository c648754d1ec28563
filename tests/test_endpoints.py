"""Models and endpoints of the emulated workspace with Microsoft's unmodified client; what is deployed really serves."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
import pytest
import requests
from mlflow.models import infer_signature

import aml_spark
from aml_spark import auth
from aml_spark.state import State
from aml_spark.testing import EmulatorProcess

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

pytest.importorskip("azure.ai.ml")

ROWS = pd.DataFrame({"x": [1.0, 3.0], "y": [2.0, 4.0]})
SUMS = [3.0, 7.0]
FAILS, SLEEPS, DIES = -1.0, -2.0, -3.0  # what an x makes the model do
SIZE = "Standard_DS3_v2"
QUOTA = ("OutOfQuota", "Not enough quota available for Standard_DS3_v2 in SubscriptionId. Current usage/limit: 8/8.")


def make_model() -> Any:
    """A model that adds its columns, and does worse for some."""

    # In a function, so that it is pickled by value.
    class Odd(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def load_context(self, context: Any) -> None:
            if "BROKEN" in os.environ:
                raise RuntimeError("no weights here")

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            first = float(model_input["x"].iloc[0])
            if first == -1.0:
                raise ValueError("this row is no good")
            if first == -2.0:
                time.sleep(60)
            if first == -3.0:
                os._exit(3)
            plus = float(os.environ.get("PLUS", "0")) + float((params or {}).get("plus", 0))
            return pd.DataFrame({"sum": model_input["x"] + model_input["y"] + plus})

    return Odd()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("endpoints")) as emulator:
        yield emulator


@pytest.fixture
def emulator(started: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatorProcess]:
    for name, value in started.environment.items():
        monkeypatch.setenv(name, value)
    before = State.now()
    auth.tokens.cache_clear()
    yield started
    started.forget()
    before.restore()
    auth.tokens.cache_clear()


def _client(emulator: EmulatorProcess) -> MLClient:
    from azure.ai.ml import MLClient
    from azure.identity import ClientSecretCredential

    facts = emulator.facts
    names = (facts["tenant_id"], facts["client_id"], facts["client_secret"])
    authority = emulator.environment["AZURE_AUTHORITY_HOST"]
    credential = ClientSecretCredential(*names, authority=authority, disable_instance_discovery=True)
    place = (facts["subscription_id"], facts["resource_group"], facts["workspace"])
    return MLClient(credential, *place, enable_telemetry=False)


@pytest.fixture
def client(emulator: EmulatorProcess) -> MLClient:
    return _client(emulator)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in a folder."""
    folder = tmp_path_factory.mktemp("saved") / "odd"
    signature = infer_signature(ROWS, pd.DataFrame({"sum": SUMS}), {"plus": 0.0})
    mlflow.pyfunc.save_model(str(folder), python_model=make_model(), signature=signature, pip_requirements=["mlflow"])
    return folder


@pytest.fixture
def model(emulator: EmulatorProcess, client: MLClient, saved: Path) -> str:
    """Its id, as a deployment takes it; uploaded once."""
    from azure.ai.ml.entities import Model

    if "odd" not in [found.name for found in client.models.list()]:
        client.models.create_or_update(Model(name="odd", version="7", path=saved, type="mlflow_model"))
    return "azureml:odd:7"


def _endpoint(client: MLClient, name: str, **options: Any) -> Any:
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    endpoint = ManagedOnlineEndpoint(name=name, **{"auth_mode": "key", **options})
    return client.online_endpoints.begin_create_or_update(endpoint).result()


def _deployment(endpoint: str, name: str, model: str, **options: Any) -> Any:
    from azure.ai.ml.entities import ManagedOnlineDeployment

    given = {"instance_type": SIZE, "instance_count": 1, **options}
    return ManagedOnlineDeployment(name=name, endpoint_name=endpoint, model=model, **given)


def _deployed(client: MLClient, endpoint: str, name: str, model: str, **options: Any) -> Any:
    return client.online_deployments.begin_create_or_update(_deployment(endpoint, name, model, **options)).result()


def _collector(rate: float) -> Any:
    from azure.ai.ml.entities import DataCollector, DeploymentCollection

    collections = {name: DeploymentCollection(enabled="true") for name in ("model_inputs", "model_outputs")}
    return DataCollector(collections=collections, sampling_rate=rate)


def _collected(emulator: EmulatorProcess, deployment: str, collection: str) -> list[dict[str, Any]]:
    """Its events, from files where Azure puts them."""
    from azure.storage.filedatalake import DataLakeServiceClient

    service = DataLakeServiceClient(emulator.facts["lake_url"], credential=emulator.facts["lake_key"])
    lake = service.get_file_system_client("workspaceblobs")
    home, events = f"modelDataCollector/delay/{deployment}/{collection}", []
    for found in lake.get_paths(home):
        if not found.is_directory:
            assert re.fullmatch(r"\d{4}/\d\d/\d\d/\d\d/\w+\.jsonl", found.name.removeprefix(f"{home}/"))
            lines = lake.get_file_client(found.name).download_file().readall().splitlines()
            events += [json.loads(line) for line in lines]
    return events


@pytest.fixture
def endpoint(client: MLClient, model: str) -> str:
    """An endpoint with a deployment that has all its traffic, once."""
    from azure.ai.ml.entities import OnlineRequestSettings

    if "delay" not in [found.name for found in client.online_endpoints.list()]:
        made = _endpoint(client, "delay", tags={"team": "air"})
        settings = OnlineRequestSettings(request_timeout_ms=3000)
        _deployed(client, "delay", "blue", model, data_collector=_collector(1.0), request_settings=settings)
        made.traffic = {"blue": 100}
        client.online_endpoints.begin_create_or_update(made).result()
    return "delay"


Ask = Callable[..., requests.Response]


@pytest.fixture
def ask(client: MLClient, endpoint: str) -> Ask:
    """Ask the endpoint as any HTTP client would."""
    uri, key = client.online_endpoints.get(endpoint).scoring_uri, client.online_endpoints.get_keys(endpoint).primary_key

    def ask(body: Any, key: str | None = key, **headers: str) -> requests.Response:
        auth = {} if key is None else {"Authorization": f"Bearer {key}"}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return requests.post(uri, data, headers={"Content-Type": "application/json", **auth, **headers}, timeout=60)

    return ask


def _split(rows: pd.DataFrame = ROWS) -> dict[str, Any]:
    return {"input_data": rows.to_dict("split")}


def _pid(client: MLClient, endpoint: str, deployment: str) -> int:
    said = client.online_deployments.get_logs(deployment, endpoint, 500)
    return int(said.rpartition("Started server process [")[2].partition("]")[0])


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


# Models


def test_what_mlflow_registers_is_a_model_of_the_workspace(
    emulator: EmulatorProcess, client: MLClient, tmp_path: Path
) -> None:
    from models import register_sum

    with aml_spark.configure(workspace=emulator.facts["tracking_uri"], experiment="endpoints", autolog=False):
        version = register_sum("total")
    found = client.models.get("total", version)
    assert (found.type, sorted(found.flavors)) == ("mlflow_model", ["python_function"])
    assert "/datastores/workspaceartifactstore/paths/ExperimentRun/dcid." in str(found.path)
    assert found.job_name in str(found.path)
    assert "total" in [each.name for each in client.models.list()]
    assert [each.version for each in client.models.list("total")] == [version]
    assert client.models.get("total", label="latest").version == version
    client.models.download("total", version, tmp_path)
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "total" / "model"))
    assert list(loaded.predict(ROWS)) == SUMS


def test_what_is_uploaded_is_a_model_of_mlflows_registry(
    emulator: EmulatorProcess, client: MLClient, model: str, tmp_path: Path
) -> None:
    made = client.models.get("odd", "7")
    assert "/datastores/workspaceblobstore/paths/LocalUpload/" in str(made.path)
    assert list(made.flavors) == ["python_function"]
    with aml_spark.configure(workspace=emulator.facts["tracking_uri"], autolog=False):
        assert [str(found.version) for found in mlflow.MlflowClient().search_model_versions("name = 'odd'")] == ["7"]
        assert mlflow.pyfunc.load_model("models:/odd/7").predict(ROWS)["sum"].tolist() == SUMS
    client.models.download("odd", "7", tmp_path)
    assert (tmp_path / "odd" / "odd" / "MLmodel").is_file()


def test_a_model_changes_but_for_its_files(client: MLClient, model: str, saved: Path, tmp_path: Path) -> None:
    from azure.ai.ml.entities import Model
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

    made = client.models.get("odd", "7")
    made.tags, made.description = {"stage": "try"}, "adds"
    changed = client.models.create_or_update(made)
    assert (changed.tags, changed.description, changed.path) == ({"stage": "try"}, "adds", made.path)
    client.models.archive("odd", "7")
    assert list(client.models.list("odd")) == []
    client.models.restore("odd", "7")
    assert [found.version for found in client.models.list("odd")] == ["7"]
    (tmp_path / "other").write_text("other")
    with pytest.raises(HttpResponseError, match="Asset paths cannot be updated"):
        client.models.create_or_update(Model(name="odd", version="7", path=tmp_path / "other", type="custom_model"))
    with pytest.raises(HttpResponseError, match="whole number"):
        client.models.create_or_update(Model(name="odd", version="v8", path=saved, type="mlflow_model"))
    with pytest.raises(ResourceNotFoundError, match="'odd', version '99'"):
        client.models.get("odd", "99")


# Online endpoints


def test_an_endpoint_serves_the_model(client: MLClient, endpoint: str, tmp_path: Path) -> None:
    found = client.online_endpoints.get(endpoint)
    assert found.scoring_uri == "https://delay.westeurope.inference.ml.azure.com/score"
    assert (found.traffic, found.tags, found.provisioning_state) == ({"blue": 100}, {"team": "air"}, "Succeeded")
    deployment = client.online_deployments.get("blue", endpoint)
    assert (deployment.instance_type, deployment.instance_count) == (SIZE, 1)
    assert [each.name for each in client.online_deployments.list(endpoint)] == ["blue"]
    (tmp_path / "asked.json").write_text(json.dumps(_split()))
    answer = client.online_endpoints.invoke(endpoint, request_file=str(tmp_path / "asked.json"))
    assert json.loads(answer) == [{"sum": each} for each in SUMS]


@pytest.mark.parametrize(
    "body",
    [
        _split(),
        {"input_data": {"columns": ["x", "y"], "data": ROWS.to_numpy().tolist()}},
        {"input_data": ROWS.to_dict("records")},
        {"input_data": ROWS.to_dict("list")},
        {"inputs": ROWS.to_dict("list")},
        {"instances": ROWS.to_dict("records")},
    ],
    ids=["split", "no index", "records", "columns", "inputs", "instances"],
)
def test_it_takes_what_azure_takes(ask: Ask, body: dict[str, Any]) -> None:
    answer = ask(body)
    assert (answer.status_code, answer.json()) == (200, [{"sum": each} for each in SUMS])
    assert answer.headers["azureml-model-deployment"] == "blue"
    assert ask({**body, "params": {"plus": 10.0}}).json() == [{"sum": each + 10} for each in SUMS]


@pytest.mark.parametrize("body", [{"dataframe_split": {}}, [1], b"{", _split(ROWS.assign(x=FAILS))])
def test_what_the_model_refuses_is_its_error_and_not_the_endpoints(ask: Ask, body: Any) -> None:
    answer = ask(body)
    assert answer.status_code == 424
    assert answer.headers["ms-azureml-model-error-statuscode"] == "400"


def test_only_who_has_a_key_is_let_in(client: MLClient, endpoint: str, ask: Ask) -> None:
    assert ask(_split(), key=None).status_code == 401
    assert ask(_split(), key="wrong").status_code == 403
    keys = client.online_endpoints.get_keys(endpoint)
    assert ask(_split(), key=keys.secondary_key).ok
    client.online_endpoints.begin_regenerate_keys(endpoint, key_type="secondary").result()
    assert ask(_split(), key=keys.secondary_key).status_code == 403
    assert ask(_split(), key=keys.primary_key).ok
    assert ask(_split(), key=client.online_endpoints.get_keys(endpoint).secondary_key).ok


def test_a_token_for_the_endpoint_or_for_azure_machine_learning(
    emulator: EmulatorProcess, client: MLClient, ask: Ask
) -> None:
    for mode, good in (("aml_token", None), ("aad_token", "https://ml.azure.com"), ("aad_token", None)):
        name = f"of-{mode.replace('_', '-')}"
        uri = _endpoint(client, name, auth_mode=mode).scoring_uri
        token = client.online_endpoints.get_keys(name).access_token
        if good is None and mode == "aad_token":
            token = client._credential.get_token("https://management.azure.com/.default").token
        answer = requests.post(uri, json=_split(), headers={"Authorization": f"Bearer {token}"}, timeout=60)
        let_in = mode == "aml_token" or good is not None
        assert answer.status_code == (404 if let_in else 401)  # it has no deployment yet
    assert requests.post(uri, json=_split(), headers={"Authorization": "Bearer x.y.z"}, timeout=60).status_code == 401


def test_a_large_request_and_a_slow_answer(ask: Ask) -> None:
    assert ask(b" " * (3 * 2**19 + 1)).status_code == 413
    padded = json.dumps(_split()).encode().ljust(3 * 2**19)
    assert ask(padded).ok
    assert ask(_split(ROWS.assign(x=SLEEPS))).status_code == 408


def test_a_server_that_dies_is_started_again(client: MLClient, endpoint: str, ask: Ask) -> None:
    before = _pid(client, endpoint, "blue")
    assert ask(_split(ROWS.assign(x=DIES))).status_code == 503
    assert ask(_split()).ok
    assert _pid(client, endpoint, "blue") != before
    assert not _runs(before)


def test_traffic_is_split_and_mirrored(
    emulator: EmulatorProcess, client: MLClient, endpoint: str, model: str, ask: Ask
) -> None:
    options = {"environment_variables": {"PLUS": "100"}, "data_collector": _collector(0.5)}
    _deployed(client, endpoint, "green", model, **options)
    pid = _pid(client, endpoint, "green")
    assert ask(_split()).headers["azureml-model-deployment"] == "blue"  # no traffic yet
    chosen = ask(_split(), **{"azureml-model-deployment": "green"})
    assert chosen.headers["azureml-model-deployment"] == "green"
    assert chosen.json() == [{"sum": each + 100} for each in SUMS]
    assert ask(_split(), **{"azureml-model-deployment": "red"}).status_code == 404
    found = client.online_endpoints.get(endpoint)
    found.traffic = {"blue": 100}
    found.mirror_traffic = {"green": 50}
    client.online_endpoints.begin_create_or_update(found).result()
    asked = client.online_deployments.get_logs("green", endpoint, 500).count("POST /invocations")
    assert {ask(_split()).headers["azureml-model-deployment"] for _ in range(20)} == {"blue"}
    for _ in range(100):
        copies = client.online_deployments.get_logs("green", endpoint, 500).count("POST /invocations") - asked
        if copies:
            break
        time.sleep(0.1)
    assert 0 < copies < 20
    found.traffic, found.mirror_traffic = {"blue": 60, "green": 40}, {}
    client.online_endpoints.begin_create_or_update(found).result()
    answers = [ask(_split()) for _ in range(20)]
    assert {answer.headers["azureml-model-deployment"] for answer in answers} == {"blue", "green"}
    asked = client.online_deployments.get_logs("green", endpoint, 500).count("POST /invocations")
    assert 0 < len(_collected(emulator, "green", "model_inputs")) < asked
    found.traffic = {"blue": 100}
    client.online_endpoints.begin_create_or_update(found).result()
    client.online_deployments.begin_delete("green", endpoint).result()
    assert not _runs(pid)
    assert [each.name for each in client.online_deployments.list(endpoint)] == ["blue"]


@pytest.mark.parametrize(
    ("traffic", "mirrored", "said"),
    [
        ({"blue": 50}, {}, "must be 0 or 100, not 50"),
        ({"blue": 40, "red": 60}, {}, "'red' in the traffic rules does not exist"),
        ({"blue": 100}, {"blue": 10}, "both live and mirrored"),
        ({}, {"blue": 60}, "At most 50 percent"),
    ],
)
def test_traffic_rules_that_azure_does_not_take(
    client: MLClient, endpoint: str, traffic: dict[str, int], mirrored: dict[str, int], said: str
) -> None:
    from azure.core.exceptions import HttpResponseError

    found = client.online_endpoints.get(endpoint)
    found.traffic, found.mirror_traffic = traffic, mirrored
    with pytest.raises(HttpResponseError, match=said) as refused:
        client.online_endpoints.begin_create_or_update(found)
    assert refused.value.status_code == 400
    assert client.online_endpoints.get(endpoint).traffic == {"blue": 100}


def test_names_that_azure_does_not_take(emulator: EmulatorProcess, client: MLClient) -> None:
    from azure.core.exceptions import HttpResponseError

    url, verify = emulator.facts["arm_url"], emulator.facts["authority_file"]
    told = {"name": "theirs"}
    requests.post(f"{url}/emulator/endpoints/taken", json=told, verify=verify, timeout=60).raise_for_status()
    with pytest.raises(HttpResponseError, match="There is already an endpoint with this name"):
        _endpoint(client, "theirs")
    token = client._credential.get_token("https://management.azure.com/.default").token
    root = f"{url}{client.workspaces.get(emulator.facts['workspace']).id}/onlineEndpoints"
    for name in ("ab", "a" * 33, "1st", "a_b", "ends-"):  # the client itself refuses most
        body = {"location": "westeurope", "properties": {"authMode": "Key"}}
        authorization = {"Authorization": f"Bearer {token}"}
        answer = requests.put(f"{root}/{name}", json=body, headers=authorization, verify=verify, timeout=60)
        assert answer.status_code == 400, name


def test_an_endpoint_that_is_not_there(client: MLClient, model: str) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    with pytest.raises(ResourceNotFoundError, match="onlineEndpoints/nowhere' under resource group"):
        client.online_endpoints.get("nowhere")
    with pytest.raises(ResourceNotFoundError, match="nowhere"):
        _deployed(client, "nowhere", "blue", model)


# What goes wrong in long operations


def test_another_operation_on_it_is_a_conflict(client: MLClient, endpoint: str, model: str) -> None:
    from azure.core.exceptions import ResourceExistsError

    poller = client.online_deployments.begin_create_or_update(_deployment(endpoint, "second", model))
    with pytest.raises(ResourceExistsError, match="Another operation on 'delay/second' is in progress"):
        client.online_deployments.begin_create_or_update(_deployment(endpoint, "second", model))
    with pytest.raises(ResourceExistsError, match="in progress"):
        client.online_endpoints.begin_delete(endpoint)
    assert client.online_deployments.get("second", endpoint).provisioning_state == "Creating"
    assert poller.result().provisioning_state == "Succeeded"
    client.online_deployments.begin_delete("second", endpoint).result()


def test_a_quota_that_is_exhausted(emulator: EmulatorProcess, client: MLClient, endpoint: str, model: str) -> None:
    from azure.core.exceptions import HttpResponseError

    code, message = QUOTA
    failures = f"{emulator.facts['arm_url']}/emulator/operations/failures"
    verify = emulator.facts["authority_file"]
    requests.post(failures, json={"code": code, "message": message}, verify=verify, timeout=60).raise_for_status()
    with pytest.raises(HttpResponseError) as refused:
        _deployed(client, endpoint, "large", model)
    assert code in str(refused.value)
    assert message in str(refused.value)
    assert client.online_deployments.get("large", endpoint).provisioning_state == "Failed"
    client.online_deployments.begin_delete("large", endpoint).result()


def test_a_model_that_does_not_load(client: MLClient, endpoint: str, model: str, ask: Ask) -> None:
    from azure.core.exceptions import HttpResponseError

    with pytest.raises(HttpResponseError, match="User container has crashed or terminated"):
        _deployed(client, endpoint, "broken", model, environment_variables={"BROKEN": "1"})
    assert client.online_deployments.get("broken", endpoint).provisioning_state == "Failed"
    assert "RuntimeError: no weights here" in client.online_deployments.get_logs("broken", endpoint, 200)
    initializer = client.online_deployments.get_logs("broken", endpoint, 200, container_type="storage-initializer")
    assert "files of the model" in initializer
    assert len(client.online_deployments.get_logs("broken", endpoint, 2).splitlines()) == 2
    assert ask(_split(), **{"azureml-model-deployment": "broken"}).status_code == 503
    client.online_deployments.begin_delete("broken", endpoint).result()


def test_polls_that_fail_on_their_way(emulator: EmulatorProcess, client: MLClient, endpoint: str) -> None:
    emulator.forget()
    for kind in ("throttle", "error", "drop"):
        emulator.plan(kind=kind, path="mfeOperationsStatus", method="GET")
    found = client.online_endpoints.get(endpoint)
    found.description = "polled"
    assert client.online_endpoints.begin_create_or_update(found).result().provisioning_state == "Succeeded"
    assert client.online_endpoints.get(endpoint).description == "polled"
    polls = [path for method, path in emulator.requests if "mfeOperationsStatus" in path]
    assert len(polls) >= 6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"instance_type": "Large"}, "The instance type 'Large' is not supported"),
        ({"instance_count": 0}, "The instance count must be at least 1"),
        ({"model": "azureml:odd:99"}, "does not exist"),
    ],
)
def test_deployments_that_azure_does_not_take(
    client: MLClient, endpoint: str, model: str, change: dict[str, Any], said: str
) -> None:
    from azure.core.exceptions import HttpResponseError

    with pytest.raises(HttpResponseError, match=said):
        _deployed(client, endpoint, "wrong", **{"model": model, **change})
    assert "wrong" not in [each.name for each in client.online_deployments.list(endpoint)]


def test_a_deployment_with_traffic_is_not_deleted(client: MLClient, endpoint: str, ask: Ask) -> None:
    from azure.core.exceptions import HttpResponseError

    with pytest.raises(HttpResponseError, match="still receives traffic"):
        client.online_deployments.begin_delete("blue", endpoint)
    assert ask(_split()).ok


# Data collection


def test_what_was_asked_and_answered_lies_in_the_datastore(
    emulator: EmulatorProcess, client: MLClient, endpoint: str, ask: Ask
) -> None:
    assert ask(_split(), **{"x-ms-client-request-id": "first-of-them"}).ok
    expected = {"model_inputs": ROWS.to_dict("records"), "model_outputs": [{"sum": each} for each in SUMS]}
    for collection, rows in expected.items():
        events = _collected(emulator, "blue", collection)
        (event,) = [each for each in events if each["correlationid"] == "first-of-them"]
        assert event["data"] == rows
        assert (event["specversion"], event["type"]) == ("1.0", f"azureml.inference.{collection}")
        assert event["source"].endswith(f"/onlineEndpoints/{endpoint}/deployments/blue")
        path = f"/datastores/workspaceblobstore/paths/modelDataCollector/{endpoint}/blue/{collection}"
        assert str(client.data.get(f"{endpoint}-blue-{collection}", "1").path).endswith(path)


def test_nothing_is_collected_outside_a_datastore(client: MLClient, endpoint: str, model: str) -> None:
    from azure.ai.ml.entities import DataAsset, DataCollector, DeploymentCollection
    from azure.core.exceptions import HttpResponseError

    data = DataAsset(name="lost", version="1", path="azureml://datastores/workspaceblobstore/paths/../../lost")
    collector = DataCollector(collections={"model_inputs": DeploymentCollection(enabled="true", data=data)})
    with pytest.raises(HttpResponseError, match="leads out of its container"):
        _deployed(client, endpoint, "lost", model, data_collector=collector)


# Batch endpoints


@pytest.fixture
def nightly(client: MLClient, model: str) -> str:
    """A batch endpoint with a default deployment, once."""
    from azure.ai.ml.entities import AmlCompute, BatchEndpoint, ModelBatchDeployment, ModelBatchDeploymentSettings

    if "nightly" not in [found.name for found in client.batch_endpoints.list()]:
        client.compute.begin_create_or_update(AmlCompute(name="cpu-cluster", size=SIZE)).result()
        client.batch_endpoints.begin_create_or_update(BatchEndpoint(name="nightly")).result()
        settings = ModelBatchDeploymentSettings(mini_batch_size=2, output_action="append_row", error_threshold=0)
        deployment = ModelBatchDeployment(
            name="first", endpoint_name="nightly", model=model, compute="cpu-cluster", settings=settings
        )
        client.batch_deployments.begin_create_or_update(deployment).result()
        found = client.batch_endpoints.get("nightly")
        found.defaults = {"deployment_name": "first"}
        client.batch_endpoints.begin_create_or_update(found).result()
    return "nightly"


def _ended(client: MLClient, name: str) -> Any:
    for _ in range(600):
        job = client.jobs.get(name)
        if job.status in ("Completed", "Failed", "Canceled"):
            return job
        time.sleep(0.2)
    raise AssertionError(f"{name} is {job.status}")


def test_a_batch_endpoint_scores_the_files_of_a_folder(client: MLClient, nightly: str, tmp_path: Path) -> None:
    from azure.ai.ml import Input

    (tmp_path / "in").mkdir()
    ROWS.to_csv(tmp_path / "in" / "a.csv", index=False)
    ROWS.iloc[:1].to_parquet(tmp_path / "in" / "b.parquet")
    ROWS.iloc[1:].to_json(tmp_path / "in" / "with space.json", orient="records")
    given = Input(type="uri_folder", path=str(tmp_path / "in"))
    job = client.batch_endpoints.invoke(nightly, input=given, experiment_name="nights")
    assert _ended(client, job.name).status == "Completed"
    assert client.jobs.get(job.name).experiment_name == "nights"
    assert job.name in [each.name for each in client.batch_endpoints.list_jobs(nightly)]
    assert job.name in [each.name for each in client.batch_deployments.list_jobs(nightly, name="first")]
    client.jobs.download(job.name, download_path=tmp_path / "out", output_name="score")
    scored = pd.read_csv(tmp_path / "out" / "named-outputs" / "score" / "predictions.csv", names=["row", "sum", "file"])
    assert scored.to_numpy().tolist() == [
        [0, 3.0, "a.csv"], [1, 7.0, "a.csv"], [0, 3.0, "b.parquet"], [0, 7.0, "with space.json"]
    ]  # fmt: skip


def test_a_batch_job_fails_on_more_bad_files_than_it_may(
    emulator: EmulatorProcess, client: MLClient, nightly: str, tmp_path: Path
) -> None:
    from azure.storage.filedatalake import DataLakeServiceClient

    facts = emulator.facts
    lake = DataLakeServiceClient(facts["lake_url"], credential=facts["lake_key"]).get_file_system_client("lake")
    lake.get_file_client("bad.csv").upload_data(ROWS.assign(x=FAILS).to_csv(index=False).encode(), overwrite=True)
    uri = client.batch_endpoints.get(nightly).scoring_uri
    given = {"data": {"jobInputType": "UriFile", "uri": "azureml://datastores/lake/paths/bad.csv"}}
    token = client._credential.get_token("https://ml.azure.com/.default").token
    headers = {"Authorization": f"Bearer {token}", "Repeatability-Request-ID": "once"}
    answers = [
        requests.post(uri, json={"properties": {"inputData": given}}, headers=headers, timeout=60) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 200]  # the second one only repeats the first
    (name,) = {answer.json()["name"] for answer in answers}
    assert _ended(client, name).status == "Failed"


def test_a_batch_job_scores_a_file_with_any_name(client: MLClient, nightly: str, tmp_path: Path) -> None:
    from azure.ai.ml import Input

    ROWS.to_csv(tmp_path / "it's; mine.csv", index=False)
    given = Input(type="uri_file", path=str(tmp_path / "it's; mine.csv"))
    job = client.batch_endpoints.invoke(nightly, input=given)
    assert _ended(client, job.name).status == "Completed"
    client.jobs.download(job.name, download_path=tmp_path / "out", output_name="score")
    told = (tmp_path / "out" / "named-outputs" / "score" / "predictions.csv").read_text()
    assert told == "0,3.0,it's; mine.csv\n1,7.0,it's; mine.csv\n"


@pytest.mark.parametrize("file", ["../lost.csv", "/lost.csv", "..", "x" * 300])
def test_a_batch_job_writes_to_no_other_folder(client: MLClient, nightly: str, model: str, file: str) -> None:
    from azure.ai.ml.entities import ModelBatchDeployment, ModelBatchDeploymentSettings
    from azure.core.exceptions import HttpResponseError

    settings = ModelBatchDeploymentSettings(mini_batch_size=1, output_file_name=file)
    options = {"name": "second", "endpoint_name": nightly, "model": model, "compute": "cpu-cluster"}
    with pytest.raises(HttpResponseError, match=r"output file name .* is not valid"):
        client.batch_deployments.begin_create_or_update(ModelBatchDeployment(settings=settings, **options))
    given = {"data": {"jobInputType": "UriFile", "uri": "azureml://datastores/lake/paths/any.csv"}}
    token = client._credential.get_token("https://ml.azure.com/.default").token
    answer = requests.post(
        client.batch_endpoints.get(nightly).scoring_uri,
        json={"properties": {"inputData": given, "outputFileName": file}},
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    )
    assert (answer.status_code, "is not valid" in answer.json()["error"]["message"]) == (400, True)


def test_batch_invocations_want_a_token_for_azure_machine_learning(client: MLClient, nightly: str) -> None:
    uri = client.batch_endpoints.get(nightly).scoring_uri
    token = client._credential.get_token("https://management.azure.com/.default").token
    for headers in ({}, {"Authorization": f"Bearer {token}"}):
        assert requests.post(uri, json={"properties": {}}, headers=headers, timeout=60).status_code == 401


def test_batch_deployments_that_azure_does_not_take(client: MLClient, nightly: str, model: str) -> None:
    from azure.ai.ml.entities import ModelBatchDeployment
    from azure.core.exceptions import HttpResponseError

    options = {"name": "second", "endpoint_name": nightly, "model": model}
    with pytest.raises(HttpResponseError, match="The compute 'gpu' does not exist"):
        client.batch_deployments.begin_create_or_update(ModelBatchDeployment(compute="gpu", **options))
    found = client.batch_endpoints.get(nightly)
    found.defaults = {"deployment_name": "third"}
    with pytest.raises(HttpResponseError, match="The default deployment 'third' does not exist"):
        client.batch_endpoints.begin_create_or_update(found)
    assert [each.name for each in client.batch_deployments.list(nightly)] == ["first"]


def test_a_batch_endpoint_is_deleted_with_its_deployments(client: MLClient, nightly: str) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    client.batch_endpoints.begin_delete(nightly).result()
    with pytest.raises(ResourceNotFoundError, match="batchEndpoints/nightly"):
        client.batch_deployments.get("first", nightly)


# What is left behind: nothing. Last, because the emulator ends here.


def test_no_server_outlives_the_emulator_and_each_is_started_again(
    emulator: EmulatorProcess, client: MLClient, endpoint: str, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(_split()).ok
    pid = _pid(client, endpoint, "blue")
    emulator.stop()
    assert not _runs(pid)
    emulator.start()
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    client = _client(emulator)
    uri, keys = client.online_endpoints.get(endpoint).scoring_uri, client.online_endpoints.get_keys(endpoint)
    headers = {"Authorization": f"Bearer {keys.primary_key}"}
    assert requests.post(uri, json=_split(), headers=headers, timeout=60).json() == [{"sum": each} for each in SUMS]
    pid = _pid(client, endpoint, "blue")
    client.online_endpoints.begin_delete(endpoint).result()
    assert not _runs(pid)
    assert requests.post(uri, json=_split(), headers=headers, timeout=60).status_code == 404
    assert endpoint not in [each.name for each in client.online_endpoints.list()]
