"""MLflow's deployments on the emulator's endpoints, and on this machine: the same predictions as in process."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.server
import json
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from click.testing import CliRunner
from mlflow.deployments import get_deploy_client
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from models import TRAINING, make_sum, register, register_sum

from aml_spark import auth, control, datalake, files
from aml_spark.cli.main import main
from aml_spark.deployment import batch, config as configs, deployments, endpoints, local, payload, run_local, waiting
from aml_spark.errors import ArgumentError, DataLakeError, DeploymentError, ServiceError
from aml_spark.state import State
from aml_spark.testing import EmulatorProcess

DEPLOYMENTS = "/onlineEndpoints/[^/]+/deployments/[^/?]+"
POLLS = "mfeOperationsStatus"
LOCAL = {"env_manager": "local"}
ROWS = pd.DataFrame(
    {
        "whole": np.array([2**53 + 1, -5, 0], dtype="int64"),
        "small": np.array([1, 2, 3], dtype="int32"),
        "number": [1.5, np.nan, -0.1],
        "single": np.array([0.1, 0.2, 0.3], dtype="float32"),
        "text": ["a", "é\n", ""],
        "moment": pd.to_datetime(
            ["2013-01-01T05:00:00", "2013-07-01T05:00:00.123456789", None], format="ISO8601"
        ).astype("datetime64[ns]"),
        "binary": [bytes(range(256)), b"", b"x"],
        "flag": [True, False, True],
        "list": [[1.0, 2.0], [3.0], [0.5]],
    }
)


def make_echo() -> Any:
    """A model that tells what it got: types and values."""

    class Echo(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            times = (params or {}).get("times", 1)
            if not hasattr(model_input, "dtypes"):
                return [repr(model_input)]
            types = [str(dtype) for dtype in model_input.dtypes]
            return [str([types, [repr(value) for value in row]]) * times for row in model_input.itertuples(index=False)]

    return Echo()


def make_broken() -> Any:
    """A model that can't be loaded."""

    class Broken(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def load_context(self, context: Any) -> None:
            raise RuntimeError("the weights are torn")

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input

    return Broken()


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """A workspace of this module's own, with MLflow on it and models in it."""
    before = State.now()
    with EmulatorProcess(tmp_path_factory.mktemp("emulator")) as started, pytest.MonkeyPatch.context() as patch:
        for name, value in started.environment.items():
            patch.setenv(name, value)
        patch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
        auth.tokens.cache_clear()
        uri = started.facts["tracking_uri"]
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        register_sum("total", alias="champion")
        register_sum("total", 100.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of integers, which would be doubles beside nulls
            signature = infer_signature(ROWS, params={"times": 1})
        register("echo", make_echo(), signature=signature)
        register("bare", make_sum())
        register("broken", make_broken(), signature=infer_signature(TRAINING))
        yield started
    before.restore()
    auth.tokens.cache_clear()


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "emulator" in request.fixturenames:
        request.getfixturevalue("emulator").forget()


@pytest.fixture(scope="module")
def client(emulator: EmulatorProcess) -> Any:
    return get_deploy_client("aml-spark")


@pytest.fixture(scope="module")
def flights(client: Any) -> str:
    """An endpoint with `blue`, which adds, and `green`, which adds a hundred more and collects what it is asked."""
    client.create_deployment("blue", "models:/total@champion", config={"endpoint_name": "flights"})
    client.create_deployment("green", "models:/total/2", endpoint="flights", config={"data_collector": True})
    return "flights"


def _in_process(uri: str, inputs: Any, **more: Any) -> Any:
    return list(mlflow.pyfunc.load_model(uri).predict(inputs, **more))


def _fail_next(emulator: EmulatorProcess, code: str, message: str) -> None:
    emulator._call("POST", "operations/failures", json={"code": code, "message": message})


def _children(pattern: str) -> list[str]:
    """Command lines of processes that hold a text."""
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = one.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if pattern in line:
                found.append(line)
    return found


def _until(true: Callable[[], Any], what: str) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError(what)


# Config


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"instance_typ": "x"}, "unknown key 'instance_typ'; the keys are .*\nHint: did you mean 'instance_type'"),
        ({"instance_count": "two"}, "instance_count is 'two'; expected a whole number"),
        ({"instance_count": True}, "instance_count is True; expected a whole number"),
        ({"instance_type": 3}, "instance_type is 3; expected a text"),
        ({"request_settings": {"timeout": 1}}, "unknown key 'timeout' of 'request_settings'"),
        ({"liveness_probe": {"period": "often"}}, r"liveness_probe\.period is 'often'; expected a whole number"),
        ({"traffic": {"blue": 50, "green": 40}}, "traffic is 90; expected percentages that make 100, or 0, together"),
        ({"traffic": {"blue": 101}}, r"traffic\.blue is 101; expected a whole number of percent from 0 to 100"),
        ({"mirror_traffic": {"blue": 60}}, r"mirror_traffic\.blue is 60; .* from 0 to 50"),
        ({"auth_mode": "none"}, "auth_mode is 'none'; expected one of 'key', 'aml_token', 'aad_token'"),
        ({"environment_variables": "SECRET"}, r"environment_variables is \*\*\*; expected keys with values"),
        ({"data_collector": {"sampling_rate": "some"}}, r"data_collector\.sampling_rate is 'some'; expected a number"),
        ({"config_file": "missing.yaml"}, "config_file: 'missing.yaml' can't be read"),
    ],
)
def test_a_config_that_cant_be_meant_is_told_with_its_key(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ArgumentError, match=f"(?s){told}"):
        configs.read(given, configs.DEPLOYMENT)


def test_values_of_the_command_line_are_read_by_their_types(tmp_path: Path) -> None:
    file = tmp_path / "blue.yaml"
    file.write_text(
        "instance_type: Standard_F4s_v2\ninstance_count: 2\nenvironment_variables: {WORKERS: 2, FAST: true}"
    )
    given = {"config_file": str(file), "instance_count": "3", "traffic": '{"blue": 100}', "data_collector": "true"}
    assert configs.read(given, configs.DEPLOYMENT) == {
        "instance_type": "Standard_F4s_v2",
        "instance_count": 3,
        "environment_variables": {"WORKERS": "2", "FAST": "true"},
        "traffic": {"blue": 100},
        "data_collector": {"collections": {"model_inputs": {"enabled": "true"}, "model_outputs": {"enabled": "true"}}},
    }


@pytest.mark.parametrize("name", ["ab", "a" * 33, "1abc", "abc-", "a_b_c"])
def test_a_name_that_azure_doesnt_take_isnt_sent(client: Any, emulator: EmulatorProcess, name: str) -> None:
    emulator.forget()
    with pytest.raises(MlflowException, match="expected 3 to 32 letters") as raised:
        client.create_deployment(name, "models:/total/1", endpoint="flights")
    assert raised.value.error_code == "INVALID_PARAMETER_VALUE"
    assert isinstance(raised.value.__cause__, ArgumentError)
    assert not [path for method, path in emulator.requests if method == "PUT"]


# Payloads


def test_a_payload_over_the_limit_isnt_made() -> None:
    with pytest.raises(ArgumentError, match=r"(?s)200000 rows make \d+ bytes; .* takes 1572864 .*batch.*score"):
        payload.of(pd.concat([TRAINING] * 10000)).for_azure()


@pytest.mark.parametrize("inputs", ["a text", 3, None, {"dataframe_split": {}, "other": 1}])
def test_inputs_that_have_no_form_are_told(inputs: Any) -> None:
    with pytest.raises(ArgumentError, match="expected"):
        payload.of(inputs)


def test_a_value_that_json_has_no_form_for_is_told_with_its_column() -> None:
    with pytest.raises(ArgumentError, match="'when' holds a complex, which JSON has no form for"):
        payload.of(pd.DataFrame({"when": [1j]}).astype(object))


def test_whole_numbers_beside_nulls_keep_their_digits() -> None:
    rows = [{"whole": 2**53 + 1}, {"whole": None}, {}]
    for inputs in (rows, {"dataframe_records": rows}):
        assert payload.of(inputs).content["data"] == [[2**53 + 1], [None], [None]]


def test_an_answer_is_read_as_its_server_means_it() -> None:
    assert payload.from_mlflow(b'{"predictions": [1]}')["predictions"] == [1]
    assert payload.from_azure(b"[1]")["predictions"] == [1]
    assert payload.from_azure(b'{"predictions": [1], "sure": [0.5]}')["predictions"] == {
        "predictions": [1],
        "sure": [0.5],
    }


def test_the_own_endpoint_of_a_long_name_is_one_that_azure_takes() -> None:
    for name in ("a" * 25, "a" * 26, "a" * 24 + "-" + "b" * 7):
        found = endpoints.default(name, "/subscriptions/x")
        assert configs.check_name(found, "endpoint")
        assert found.startswith("a" * 24)


# On this machine


@pytest.fixture(scope="module")
def echo(emulator: EmulatorProcess) -> Iterator[Any]:
    with run_local("echo", "models:/echo/1", config=LOCAL) as server:
        yield server


def _forms(rows: pd.DataFrame) -> list[Any]:
    split = {"columns": list(rows.columns), "data": rows.to_numpy().tolist()}
    return [
        rows.to_dict("records"),
        rows.to_dict("list"),
        split,
        {"dataframe_split": split},
        {"input_data": split},
        {"dataframe_records": rows.to_dict("records")},
        {"inputs": rows.to_dict("list")},
    ]


def test_a_local_server_gets_what_a_model_in_process_gets(echo: Any) -> None:
    assert echo.predict(ROWS)["predictions"] == _in_process("models:/echo/1", ROWS)
    several = {"dataframe_split": {"columns": list(ROWS.columns), "data": []}, "params": {"times": 2}}
    several["dataframe_split"]["data"] = payload.of(ROWS).content["data"]
    assert echo.predict(several)["predictions"] == _in_process("models:/echo/1", ROWS, params={"times": 2})
    assert isinstance(echo.predict(ROWS).get_predictions(), pd.DataFrame)
    records = ROWS.to_dict("records")
    for inputs in (records, {"dataframe_records": records}):
        assert echo.predict(inputs)["predictions"] == _in_process("models:/echo/1", ROWS)


def test_what_a_local_server_refuses_is_told_without_rows(echo: Any) -> None:
    with pytest.raises(DeploymentError, match=r"Model is missing inputs \['whole'\]") as raised:
        echo.predict(ROWS.drop(columns="whole").assign(text="a secret"))
    assert "secret" not in str(raised.value)
    assert "POST /invocations" in echo.logs()


def test_a_local_server_that_doesnt_come_up_tells_its_last_lines(emulator: EmulatorProcess) -> None:
    before = _children("aml_spark.deployment.serve")
    with pytest.raises(DeploymentError, match=r"(?s)the server of 'broken' .*the weights are torn"):
        run_local("broken", "models:/broken/1", config=LOCAL)
    assert _children("aml_spark.deployment.serve") == before
    with pytest.raises(ArgumentError, match="flavor is 'spark'"):
        run_local("total", "models:/total/1", flavor="spark")


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def test_another_server_on_the_port_isnt_taken_for_the_own(
    emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        port = other.server_port
        try:
            with pytest.raises(ArgumentError, match=f"port is {port}, which can't be used: .*in use"):
                run_local("total", "models:/total/1", config={**LOCAL, "port": port})
            monkeypatch.setattr(local, "_port", lambda _: port)  # it was free, and is taken in the meantime
            with pytest.raises(DeploymentError, match=r"(?s)the server of 'total' ended with .*in use"):
                run_local("total", "models:/total/1", config=LOCAL)
        finally:
            other.shutdown()


def test_mlflows_command_serves_until_ctrl_c(emulator: EmulatorProcess, tmp_path: Path) -> None:
    command = ["deployments", "run-local", "-t", "aml-spark", "--name", "total", "-m", "models:/total/1"]
    with (tmp_path / "said").open("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command, "-C", "env_manager=local"], stdout=said, stderr=said
        )
        try:
            _until(lambda: "until Ctrl-C" in (tmp_path / "said").read_text(), "it isn't served")
            address = re.findall(r"http://127\.0\.0\.1:(\d+)/invocations", (tmp_path / "said").read_text())[0]
            answer = requests.post(
                f"http://127.0.0.1:{address}/invocations",
                data=payload.of(TRAINING).for_mlflow(),
                headers={"Content-Type": "application/json"},
                timeout=60,
            )
            assert answer.json()["predictions"] == _in_process("models:/total/1", TRAINING)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
    assert not _children(f"--port {address}")


def test_a_local_server_ends_with_its_parent(emulator: EmulatorProcess) -> None:
    code = f"""
import sys
from aml_spark.deployment import run_local
print(run_local("total", "models:/total/1", config={LOCAL!r}).url, flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = process.stdout.readline().strip().rpartition(":")[2]
    assert _children(f"--port {port}")
    process.kill()
    process.communicate()
    _until(lambda: not _children(f"--port {port}"), "the server outlives its parent")


# On endpoints


def test_predictions_in_all_forms_equal_those_in_process(client: Any, flights: str) -> None:
    wanted = _in_process("models:/total/1", TRAINING)
    for inputs in (TRAINING, *_forms(TRAINING)):
        assert client.predict("blue", inputs, endpoint=flights)["predictions"] == wanted
    assert client.predict("green", TRAINING, endpoint=flights)["predictions"] == [value + 100 for value in wanted]
    assert client.predict("blue", TRAINING, endpoint=flights).get_predictions()[0].tolist() == wanted


def test_an_endpoint_gets_what_a_model_in_process_gets(client: Any, emulator: EmulatorProcess) -> None:
    made = client.create_deployment("echo", "models:/echo/1")
    assert made["endpoint"] == endpoints.default("echo", str(control.configured().arm_id))
    assert made["endpoint"].startswith("echo-")
    assert client.predict("echo", ROWS)["predictions"] == _in_process("models:/echo/1", ROWS)
    client.delete_deployment("echo")
    client.delete_deployment("echo")
    assert made["endpoint"] not in [one["name"] for one in client.list_endpoints()]


def test_traffic_is_split_and_mirrored(client: Any, flights: str) -> None:
    def answers(times: int) -> list[float]:
        return [client.predict(inputs=TRAINING.head(1), endpoint=flights)["predictions"][0] for _ in range(times)]

    assert client.get_endpoint(flights)["traffic"] == {"blue": 100, "green": 0}
    assert client.predict("green", TRAINING.head(1), endpoint=flights)["predictions"] == [100.0]
    assert set(answers(5)) == {0.0}  # the header of the call before isn't kept
    client.update_endpoint(flights, {"traffic": {"blue": 50, "green": 50}})
    assert set(answers(20)) == {0.0, 100.0}
    client.update_deployment("green", config={"traffic": {"blue": 100}}, endpoint=flights)
    client.update_endpoint(flights, {"mirror_traffic": '{"green": 50}'})
    asked = client.logs("green", flights).count("POST /invocations")
    assert set(answers(10)) == {0.0}
    _until(lambda: client.logs("green", flights).count("POST /invocations") > asked, "nothing is mirrored")
    assert client.get_deployment("green", flights)["mirror_traffic"] == 50
    client.update_endpoint(flights, {"mirror_traffic": {}, "traffic": {"blue": 100}})


def test_a_deployment_with_traffic_isnt_deleted(client: Any, flights: str) -> None:
    wanted = """aml-spark endpoint update flights -C traffic='{"green": 100}'"""
    with pytest.raises(MlflowException, match=f"(?s)still receives traffic.*Hint: give up its traffic .*{wanted}"):
        client.delete_deployment("blue", endpoint=flights)
    assert {one["name"] for one in client.list_deployments(flights)} == {"blue", "green"}


def test_a_name_that_is_there_is_an_error(client: Any, flights: str) -> None:
    with pytest.raises(MlflowException, match=r"(?s)has a deployment 'blue' already.*mlflow deployments update"):
        client.create_deployment("blue", "models:/total/1", endpoint=flights)
    with pytest.raises(MlflowException, match="the endpoint 'flights' is there already"):
        client.create_endpoint(flights)


def test_a_name_that_another_has_in_the_region_is_told_in_azures_words(client: Any, emulator: EmulatorProcess) -> None:
    emulator._call("POST", "endpoints/taken", json={"name": "popular"})
    with pytest.raises(MlflowException, match="Endpoint name needs to be unique within a region"):
        client.create_endpoint("popular")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda client: client.get_endpoint("flihgts"),
            "no online endpoint 'flihgts'; it has .*did you mean 'flights'",
        ),
        (lambda client: client.get_deployment("gren", "flights"), "it has .*did you mean 'green'"),
        (lambda client: client.predict("blue", TRAINING, endpoint="nowhere"), "no online endpoint 'nowhere'"),
        (lambda client: client.predict("red", TRAINING, endpoint="flights"), "'red'.*not found"),
        (lambda client: client.create_deployment("red", "models:/totl/1", endpoint="flights"), "did you mean 'total'"),
        (lambda client: client.create_deployment("red", "models:/total/9", endpoint="flights"), "versions '1', '2'"),
        (lambda client: client.create_deployment("red", "models:/total@no", endpoint="flights"), "no alias 'no'"),
        (lambda client: client.create_deployment("red", "runs:/0/model", endpoint="flights"), "register_model"),
        (lambda client: client.create_deployment("red", "./model", endpoint="flights"), "expected models:/<name>"),
        (lambda client: client.create_deployment("red", "models:/bare/1", endpoint="flights"), "has no signature"),
        (lambda client: client.create_deployment("red", "models:/total/1", endpoint="nowhere"), "no online endpoint"),
        (lambda client: client.predict(inputs=TRAINING), "neither deployment_name nor endpoint"),
        (lambda client: client.explain("blue", TRAINING), "not yet supported"),
    ],
)
def test_what_cant_be_done_is_an_error_of_mlflows(client: Any, flights: str, call: Any, told: str) -> None:
    with pytest.raises(MlflowException, match=f"(?s){told}"):
        call(client)


def test_a_runs_model_is_deployed_as_the_version_that_it_was_registered_as(client: Any, flights: str) -> None:
    from aml_spark.deployment import registered

    version = mlflow.MlflowClient().get_model_version("total", "2")
    found = registered.find(f"runs:/{version.run_id}/model", control.configured())
    assert found.uri == "models:/total/2"
    assert registered.find("models:/total/latest", control.configured()) == found


def test_what_a_model_fails_at_is_told_without_rows(client: Any, flights: str) -> None:
    with pytest.raises(MlflowException, match=r"(?s)HTTP 424.*Hint: aml-spark endpoint logs flights --dep") as raised:
        client.predict("blue", TRAINING - 777.25, endpoint=flights)
    assert "777" not in str(raised.value)


def test_callers_come_in_by_token_too(client: Any, emulator: EmulatorProcess) -> None:
    client.create_endpoint("tokened", {"auth_mode": "aml_token"})
    try:
        with pytest.raises(MlflowException, match="any valid deployment"):  # so the token was taken
            client.predict(inputs=TRAINING, endpoint="tokened")
        with pytest.raises(MlflowException, match="by aml_token, not by key"):
            client.create_deployment("red", "models:/total/1", config={"endpoint_name": "tokened", "auth_mode": "key"})
    finally:
        client.delete_endpoint("tokened")


def test_a_key_that_was_renewed_is_asked_for_anew(client: Any, flights: str) -> None:
    client.predict("blue", TRAINING, endpoint=flights)
    control.client().online_endpoints.begin_regenerate_keys(flights, key_type="primary").result()
    assert client.predict("blue", TRAINING, endpoint=flights)["predictions"]


# Failures


def test_an_update_that_breaks_shows_the_containers_lines(client: Any, flights: str) -> None:
    with pytest.raises(MlflowException, match=r"(?s)create the deployment 'torn'.*crashed.*the weights are torn"):
        client.create_deployment("torn", "models:/broken/1", endpoint=flights)
    assert client.get_deployment("torn", flights)["provisioning_state"] == "Failed"
    client.delete_deployment("torn", endpoint=flights)


def test_quota_is_told_in_azures_words(client: Any, emulator: EmulatorProcess, flights: str) -> None:
    _fail_next(emulator, "OutOfQuota", "Not enough quota available for Standard_DS3_v2 in SubscriptionId x.")
    with pytest.raises(MlflowException, match=r"Not enough quota available for Standard_DS3_v2 .*OutOfQuota") as raised:
        client.create_deployment("red", "models:/total/1", endpoint=flights)
    assert isinstance(raised.value.__cause__, DeploymentError)
    client.delete_deployment("red", endpoint=flights)


@pytest.mark.parametrize("kind", ["throttle", "unavailable", "error", "drop"])
def test_polls_that_fail_dont_double_an_update(client: Any, emulator: EmulatorProcess, flights: str, kind: str) -> None:
    emulator.forget()
    emulator.plan(kind=kind, path=POLLS, times=2)
    client.update_endpoint(flights, {"tags": {"tried": kind}})
    assert [path for method, path in emulator.requests if method == "PUT"] == [
        path for method, path in emulator.requests if method == "PUT" and "/onlineEndpoints/flights" in path
    ]
    assert len([1 for method, _ in emulator.requests if method == "PUT"]) == 1
    assert client.get_endpoint(flights)["tags"]["tried"] == kind


def test_an_answer_that_is_lost_doesnt_double_a_creation(client: Any, emulator: EmulatorProcess) -> None:
    emulator.forget()
    emulator.plan(kind="drop-after", path="/onlineEndpoints/lost", method="PUT")
    assert client.create_endpoint("lost")["provisioning_state"] == "Succeeded"
    assert [one["name"] for one in client.list_endpoints()].count("lost") == 1
    client.delete_endpoint("lost")


def test_an_endpoint_that_comes_up_meanwhile_will_do(
    client: Any, flights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([SimpleNamespace(provisioning_state="Creating")])
    find = endpoints.find
    monkeypatch.setattr(endpoints, "find", lambda *which: next(looks, None) or find(*which))
    endpoints.ensure(control.client(), flights)


def test_keys_are_asked_for_again_where_the_connection_breaks(
    client: Any, emulator: EmulatorProcess, flights: str
) -> None:
    emulator.plan(kind="drop", path="/onlineEndpoints/flights/listKeys", method="POST", times=2)
    assert get_deploy_client("aml-spark").predict("blue", TRAINING, endpoint=flights)["predictions"]


def test_a_conflict_is_told_in_azures_words(client: Any, flights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "UNDER_WAY", ())  # as where the other one began after the look
    other = control.client()
    said = ""
    for _ in range(20):  # on a slow machine the other one may have ended before ours is sent
        poller = other.online_endpoints.begin_create_or_update(other.online_endpoints.get(flights))
        try:
            client.update_endpoint(flights, {"description": "mine"})
        except MlflowException as error:
            said = str(error)
        poller.result()
        if said:
            break
    assert re.search(r"(?s)Another operation on 'flights' is in progress.*Hint.*try again", said)


def test_an_update_waits_for_what_is_under_way(client: Any, flights: str) -> None:
    other = control.client()
    poller = other.online_endpoints.begin_create_or_update(other.online_endpoints.get(flights))
    assert client.update_endpoint(flights, {"description": "mine"})["description"] == "mine"
    poller.result()
    found = other.online_deployments.get("blue", flights)
    found.tags = {"first": "1"}
    poller = other.online_deployments.begin_create_or_update(found)
    assert client.update_deployment("blue", config={"tags": {"second": "2"}}, endpoint=flights)["tags"]["second"] == "2"
    poller.result()


def test_a_creation_that_was_broken_off_before_the_traffic_goes_on_with_it(client: Any, flights: str) -> None:
    client.update_endpoint(flights, {"traffic": {"blue": 0, "green": 0}})
    with pytest.raises(MlflowException, match="has a deployment 'blue' already"):
        client.create_deployment("blue", "models:/total/2", endpoint=flights)
    assert client.create_deployment("blue", "models:/total/1", endpoint=flights)["traffic"] == 100
    with pytest.raises(MlflowException, match="has a deployment 'blue' already"):
        client.create_deployment("blue", "models:/total/1", endpoint=flights)
    shared = {"traffic": {"blue": 75, "green": 25}}
    assert client.create_deployment("green", "models:/total/2", endpoint=flights, config=shared)["traffic"] == 25
    with pytest.raises(MlflowException, match="has a deployment 'green' already"):
        client.create_deployment("green", "models:/total/2", endpoint=flights, config=shared)
    client.update_endpoint(flights, {"traffic": {"blue": 100, "green": 0}})


def test_what_ctrl_c_leaves_is_named_and_taken_up_again(client: Any, emulator: EmulatorProcess, tmp_path: Path) -> None:
    command = ["deployments", "create", "-t", "aml-spark", "--name", "late", "-m", "models:/total/1"]
    endpoint = endpoints.default("late", str(control.configured().arm_id))
    with (tmp_path / "said").open("w+") as said:
        process = subprocess.Popen([sys.executable, "-m", "mlflow", *command], stdout=said, stderr=said)
        try:
            _until(lambda: _state(client, "late", endpoint) == "Creating", "it isn't being created")
            process.send_signal(signal.SIGINT)
            assert process.wait(60) != 0
        finally:
            process.kill()
            process.wait()
    told = (tmp_path / "said").read_text()
    assert f"create the deployment 'late' of '{endpoint}'. To look at it: aml-spark endpoint show {endpoint}." in told
    assert f"To delete it: aml-spark endpoint delete {endpoint}. The same call again waits" in told
    assert told.count("Interrupted") == 1
    emulator.forget()
    # Whether it is still at work or has been done by now.
    with pytest.raises(MlflowException, match=r"is creating, with another model|has a deployment 'late' already"):
        client.create_deployment("late", "models:/total/2")
    assert client.create_deployment("late", "models:/total/1")["provisioning_state"] == "Succeeded"
    assert not [path for method, path in emulator.requests if method == "PUT" and re.search(DEPLOYMENTS, path)]
    assert client.predict(inputs=TRAINING, endpoint=endpoint)["predictions"]
    client.delete_deployment("late")


def test_ctrl_c_between_two_waits_is_told_as_well(
    client: Any, flights: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(deployments, "_missing", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.create_deployment("blue", "models:/total/1", endpoint=flights)
    assert "To delete it: aml-spark endpoint delete flights --deployment blue. The same call" in caplog.text


def _state(client: Any, name: str, endpoint: str) -> str | None:
    with contextlib.suppress(MlflowException):
        return str(client.get_deployment(name, endpoint)["provisioning_state"])
    return None


def test_a_workspace_may_be_named_by_the_target(client: Any, emulator: EmulatorProcess, flights: str) -> None:
    with _elsewhere():
        named = get_deploy_client(f"aml-spark:/{emulator.facts['tracking_uri']}")
        assert flights in [one["name"] for one in named.list_endpoints()]
        with pytest.raises(MlflowException, match="isn't configured for an Azure Machine Learning workspace"):
            get_deploy_client("aml-spark").list_endpoints()


# The command line


def test_mlflows_command_line_tells_names_and_errors_without_tracebacks(client: Any, emulator: EmulatorProcess) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mlflow", "deployments", *arguments, "-t", "aml-spark", "--name", "told"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    made = run("create", "-m", "models:/total/1")
    endpoint = client.get_endpoint(endpoints.default("told", str(control.configured().arm_id)))
    assert f"deployment told of the endpoint {endpoint['name']}: {endpoint['scoring_uri']}\n" in made.stderr
    refused = run("delete", "--endpoint", endpoint["name"])
    client.delete_endpoint(endpoint["name"])
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert refused.stderr.count("still receives traffic") == 1
    assert refused.stderr.count("Hint: it is the endpoint's only deployment; to delete both: aml-spark endpoint") == 1


def test_the_command_line_shows_and_asks(emulator: EmulatorProcess, flights: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["endpoint", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "flights" in [one["name"] for one in json.loads(run("list", "--json"))["endpoints"]]
    assert re.search(r"flights +Succeeded +blue=100", run("list"))
    shown = json.loads(run("show", flights, "--json"))
    assert {one["name"] for one in shown["deployments"]} == {"blue", "green"}
    assert shown["deployments"][0]["model"].startswith("/subscriptions/")
    assert re.search(r"blue +Succeeded +total/1 +100", run("show", flights))
    file = tmp_path / "rows.csv"
    TRAINING.to_csv(file, index=False)
    wanted = _in_process("models:/total/1", TRAINING)
    assert json.loads(run("invoke", flights, "--data", str(file))) == wanted
    (tmp_path / "rows.json").write_text(payload.of(TRAINING).for_azure().decode())
    asked = run("invoke", flights, "--data", str(tmp_path / "rows.json"), "--deployment", "green", "--json")
    assert json.loads(asked)["predictions"] == [value + 100 for value in wanted]
    assert "POST /invocations" in run("logs", flights, "--deployment", "blue", "--lines", "5")
    assert json.loads(run("create", "plain", "-C", "auth_mode=aad_token", "--json"))["auth_mode"] == "aad_token"
    assert run("update", "plain", "-C", "tags={a: b}") == "plain is updated\n"
    changed = json.loads(run("update", flights, "--deployment", "green", "-C", "tags={a: b}", "--json"))
    assert (changed["name"], changed["tags"]["a"]) == ("green", "b")
    assert run("delete", "plain") == "plain is deleted\n"
    assert CliRunner().invoke(main, ["endpoint", "show", "nowhere"]).exit_code == 1
    assert CliRunner().invoke(main, ["endpoint", "create", "x", "-C", "y"]).exit_code == 2


# Batch endpoints


def test_a_batch_endpoint_scores_files_of_a_datastore(emulator: EmulatorProcess, tmp_path: Path) -> None:
    source = tmp_path / "rows"
    source.mkdir()
    TRAINING.head(10).to_csv(source / "a.csv", index=False)
    TRAINING.tail(10).to_csv(source / "b.csv", index=False)
    place = datalake.find("azureml://datastores/lake/paths/rows")
    files.upload(source, place)
    with pytest.raises(ArgumentError, match=r"no compute 'cpuu'; the workspace has .*"):
        batch.create("nightly", "blue", "models:/total/1", {"compute": "cpuu"})
    compute = _compute()
    batch.create("nightly")
    emulator.plan(kind="forbidden", path="/batchEndpoints/nightly[?]", method="PUT")
    with pytest.raises(ServiceError, match="make 'blue' the default"):
        batch.create("nightly", "blue", "models:/total/1", {"compute": compute, "mini_batch_size": "5"})
    made = batch.create("nightly", "blue", "models:/total/1", {"compute": compute, "mini_batch_size": "5"})
    assert batch.default(made) == "blue"
    with pytest.raises(DeploymentError, match="has a deployment 'blue' already"):
        batch.create("nightly", "blue", "models:/total/1", {"compute": compute})
    wanted = sorted(_in_process("models:/total/1", TRAINING))
    run = batch.invoke("nightly", "azureml://datastores/lake/paths/rows").wait()
    assert run.status == "Completed"
    assert sorted(pd.read_csv(run.download(tmp_path / "all.csv"), header=None)[1]) == wanted
    assert run.output.startswith("azureml://datastores/workspaceblobstore/paths/aml-spark/batch/nightly/")
    wanted, own = sorted(_in_process("models:/total/1", TRAINING.head(10))), control.configured()
    with _elsewhere():
        run = batch.invoke("nightly", f"{place.uri}/a.csv", workspace=own).wait()
        assert sorted(pd.read_csv(run.download(tmp_path / "a.csv"), header=None)[1]) == wanted
    with pytest.raises(ServiceError, match=r"no batch endpoint 'nihgtly'; it has 'nightly'"):
        batch.invoke("nihgtly", place.uri)
    with pytest.raises(ArgumentError, match=r"(?s)azureml://datastores/.*Hint: aml-spark datastore put rows.csv azur"):
        batch.invoke("nightly", "rows.csv")
    with pytest.raises(ServiceError, match=r"Hint: there is a batch endpoint 'nightly': .*show nightly --batch"):
        endpoints.get(control.client(), "nightly")
    result = CliRunner().invoke(main, ["endpoint", "show", "nightly", "--batch", "--json"])
    assert json.loads(result.stdout)["default"] == "blue"
    batch.delete("nightly")
    batch.delete("nightly")
    assert batch.listed() == []


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    """With MLflow on another store."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri("sqlite:///nowhere.db")
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def test_ctrl_c_names_the_job_of_an_invocation(
    emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from azure.ai.ml.operations import BatchEndpointOperations

    names: list[str] = []

    def interrupted(*_: Any, job_name: str, **__: Any) -> None:
        names.append(job_name)
        raise KeyboardInterrupt

    monkeypatch.setattr(BatchEndpointOperations, "invoke", interrupted)
    with pytest.raises(KeyboardInterrupt):
        batch.invoke("nightly", "azureml://datastores/lake/paths/rows", deployment="blue")
    assert f"To end it: aml-spark job cancel {names[0]}" in caplog.text


@pytest.mark.parametrize("status", ["NotResponding", "Paused"])
def test_a_batch_that_nothing_comes_of_isnt_waited_for(emulator: EmulatorProcess, status: str) -> None:
    answers = iter([SimpleNamespace(status=status)])
    workspace: Any = SimpleNamespace(jobs=SimpleNamespace(get=lambda _: next(answers)))
    with pytest.raises(DeploymentError, match=f"the job 'night' is {status}"):
        batch.BatchRun(workspace, "night", "azureml://datastores/lake/paths/x.csv").wait()


def _compute() -> str:
    from azure.ai.ml.entities import AmlCompute

    client = control.client()
    client.compute.begin_create_or_update(AmlCompute(name="cpu", size="Standard_DS3_v2", max_instances=1)).result()
    return "cpu"


# What is collected


# In a process of its own: Java has to trust the emulator from its start.
READ = """
import datetime as dt, json, sys
from processes import FOR_FEW_ROWS
import aml_spark, mlflow
from aml_spark import control
from aml_spark.deployment import collected
from aml_spark.errors import AmlSparkError

lake = "abfss://any@account.dfs.core.windows.net/t"
spark = aml_spark.get_spark("collected", master="local[2]", conf=FOR_FEW_ROWS, uris=[lake])
since = dt.datetime.fromisoformat(sys.argv[1])

def tried(*what, **when):
    try:
        return collected(spark, "flights", *what, **when).count()
    except AmlSparkError as error:
        return f"{type(error).__name__}: {error}"

inputs = collected(spark, "flights", "green", since=since)
both = collected(spark, "flights", "green", ("model_inputs", "model_outputs"), since=since)
own = control.configured()
mlflow.set_tracking_uri("sqlite:///nowhere.db")
print(json.dumps({
    "elsewhere": tried("green", since=since, workspace=own),
    "inputs": inputs.columns,
    "both": both.columns,
    "types": dict(inputs.dtypes),
    "rows": [list(row) for row in both.orderBy("x").select("x", "y", both.columns[2]).collect()],
    "ids": [row[0] for row in both.orderBy("x").select("correlationid").collect()],
    "before": tried("green", until=since - dt.timedelta(days=2), workspace=own),
    "blue": tried("blue", workspace=own),
    "twice": tried("green", ["model_inputs", "model_inputs"], workspace=own),
}))
spark.stop()
"""


def test_what_is_collected_becomes_a_table(client: Any, flights: str) -> None:
    since = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
    client.predict("green", TRAINING, endpoint=flights)
    _until(lambda: _collected_files(flights), "nothing is collected")
    found = subprocess.run(
        [sys.executable, "-c", READ, since.isoformat()],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told = json.loads(found.stdout.splitlines()[-1])
    assert told["elsewhere"] == len(TRAINING)
    assert told["inputs"] == ["x", "y", "correlationid", "collected_at"]
    assert told["both"][:2] + told["both"][3:] == told["inputs"]
    assert told["types"] == {"x": "double", "y": "double", "correlationid": "string", "collected_at": "timestamp"}
    assert [row[:2] for row in told["rows"]] == TRAINING.to_numpy().tolist()
    assert [row[2] for row in told["rows"]] == [value + 100 for value in _in_process("models:/total/1", TRAINING)]
    assert [one.rpartition("_")[2] for one in told["ids"]] == [str(number) for number in range(len(TRAINING))]
    assert told["before"].startswith("DataLakeError: there is nothing collected as 'model_inputs'")
    assert told["blue"].startswith(
        "DataLakeError: there is nothing collected as 'model_inputs' of the deployment 'blue'"
    )
    assert told["twice"].startswith("SchemaError: 'model_inputs' has the columns 'x', 'y' that others have, too")


def _collected_files(endpoint: str) -> list[files.File]:
    home = "azureml://datastores/workspaceblobstore/paths/modelDataCollector"
    with contextlib.suppress(DataLakeError):
        return list(files.listed(datalake.find(f"{home}/{endpoint}/green/model_outputs"), recursive=True))
    return []
