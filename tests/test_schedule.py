"""A monitor of the workspace made of `conf/monitor.toml`: what it is checked for, and what reaches the workspace."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result

from aml_spark import Workspace, auth, control
from aml_spark.cli import main as cli
from aml_spark.errors import AmlSparkError, ArgumentError, DataLakeError, ServiceError, WorkspaceError
from aml_spark.monitoring.schedule import config, schedule
from aml_spark.testing import EmulatorProcess

pytest.importorskip("azure.ai.ml")
from azure.ai.ml import MLClient
from azure.ai.ml.entities import (
    AlertNotification,
    CronTrigger,
    JobSchedule,
    MonitorSchedule,
    RecurrenceTrigger,
)
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

CONF = Path(__file__).parents[1] / "conf" / "monitor.toml"
SKU = {"sku": {"name": "Default", "capacity": 1}}
WHOLE = {
    "label": "late",
    "prediction": "prediction",
    "schedule": {"name": "flights", "frequency": "day"},
    "alert": {"emails": ["models@example.com"]},
    "azure": {
        "inputs": {"data": "azureml:asked:1"},
        "outputs": {"data": "azureml:answered@latest", "join": "id"},
    },
}


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("monitored")) as started, pytest.MonkeyPatch.context() as patched:
        for name, value in started.environment.items():
            patched.setenv(name, value)
        auth.tokens.cache_clear()
        client = control.client(Workspace.from_uri(started.facts["tracking_uri"]))
        home = "azureml://datastores/workspaceblobstore/paths"
        for name, kind, path in (
            ("asked", "mltable", f"{home}/asked"),
            ("answered", "mltable", f"{home}/answered"),
            ("truth", "mltable", f"{home}/truth"),
            ("flights-training", "mltable", f"{home}/training"),
            ("folder", "uri_folder", f"{home}/folder"),
            ("flights-blue-model_inputs", "uri_folder", f"{home}/modelDataCollector/flights/blue/model_inputs"),
            ("flights-blue-model_outputs", "uri_folder", f"{home}/elsewhere"),
        ):
            client.data._operation.create_or_update(
                resource_group_name=client.resource_group_name,
                workspace_name=str(client.workspace_name),
                name=name,
                version="1",
                body={"properties": {"dataType": kind, "dataUri": path}},
            )
        _deployed(started, "blue", ["model_inputs", "model_outputs"])
        _deployed(started, "green", ["model_inputs"])
        _deployed(started, "plain", [])
        auth.tokens.cache_clear()
        yield started


@pytest.fixture
def emulator(process: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatorProcess]:
    for name, value in process.environment.items():
        monkeypatch.setenv(name, value)
    auth.tokens.cache_clear()
    process.forget()
    yield process
    process.forget()
    auth.tokens.cache_clear()


@pytest.fixture
def workspace(emulator: EmulatorProcess) -> Workspace:
    return Workspace.from_uri(emulator.facts["tracking_uri"])


@pytest.fixture
def client(workspace: Workspace) -> MLClient:
    return control.client(workspace)


def _deployed(emulator: EmulatorProcess, name: str, collected: list[str]) -> None:
    """A deployment of the endpoint `flights`, as the workspace knows it, without a server."""
    of = Workspace.from_uri(emulator.facts["tracking_uri"]).arm_id
    collections = {
        one: {"dataCollectionMode": "Enabled", "dataId": f"{of}/data/flights-{name}-{one}/versions/1"}
        for one in collected
    }
    properties = {
        "endpointComputeType": "Managed",
        "instanceType": "Standard_DS3_v2",
        "dataCollector": {"collections": collections} if collections else None,
    }
    _know(emulator, "onlineEndpoints", "flights", {"properties": {"authMode": "key", "traffic": {}}, "keys": {}})
    _know(emulator, "onlineDeployments", f"flights/{name}", {**SKU, "properties": properties, "timeout": 5})


def _know(emulator: EmulatorProcess, kind: str, name: str, known: dict[str, Any]) -> None:
    file = emulator.folder / "control" / f"{kind}.json"
    everything = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**everything, name: {**known, "state": "Succeeded"}}))


def _config(**parts: Any) -> config.MonitorConfig:
    """A file that is right, but for some of its parts; None leaves one out."""
    given = {**WHOLE, **parts}
    return config.checked({name: part for name, part in given.items() if part is not None})


def _azure(**keys: Any) -> dict[str, Any]:
    given: dict[str, Any] = {**WHOLE["azure"], **keys}  # type: ignore[dict-item]
    return {name: value for name, value in given.items() if value is not None}


def _sent(emulator: EmulatorProcess, name: str) -> Any:
    """What the workspace was sent for a schedule."""
    return json.loads((emulator.folder / "control" / "schedules.json").read_text())[name]["properties"]


def _signals(emulator: EmulatorProcess, name: str) -> Any:
    return _sent(emulator, name)["action"]["monitorDefinition"]["signals"]


def _thresholds(signal: Any) -> dict[tuple[str, str], float]:
    found = signal["metricThresholds"]
    return {(one["dataType"], one["metric"].lower()): one["threshold"]["value"] for one in found}


def _invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


def _json(*arguments: str) -> Any:
    result = _invoke(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.splitlines()) == 1
    return json.loads(result.stdout)


# What is sent


def test_the_file_in_conf_becomes_a_monitor_of_the_deployment(
    emulator: EmulatorProcess, workspace: Workspace, client: MLClient, caplog: pytest.LogCaptureFixture
) -> None:
    made = schedule.create_monitor(CONF, workspace=workspace)
    assert (made.name, made.provisioning_state, made.is_enabled) == ("flights", "Succeeded", True)
    sent = _sent(emulator, "flights")
    assert (sent["trigger"]["frequency"].lower(), sent["trigger"]["interval"]) == ("day", 1)
    definition = sent["action"]["monitorDefinition"]
    assert definition["computeConfiguration"]["instanceType"] == "standard_e4s_v3"
    assert definition["alertNotificationSetting"]["emailNotificationSetting"]["emails"] == ["models@example.com"]
    assert (
        definition["monitoringTarget"]["deploymentId"] == f"{workspace.arm_id}/onlineEndpoints/flights/deployments/blue"
    )
    assert definition["monitoringTarget"]["taskType"] == "Classification"
    signals = definition["signals"]
    assert {name: signal["mode"] for name, signal in signals.items()} == dict.fromkeys(
        ("data_drift", "data_quality", "prediction_drift"), "Enabled"
    )
    inputs = f"{workspace.arm_id}/data/flights-blue-model_inputs/versions/1"
    outputs = f"{workspace.arm_id}/data/flights-blue-model_outputs/versions/1"
    assert signals["data_drift"]["productionData"]["uri"] == signals["data_quality"]["productionData"]["uri"] == inputs
    assert signals["prediction_drift"]["productionData"]["uri"] == outputs
    assert signals["data_drift"]["productionData"]["windowSize"] == "P1D"
    reference = signals["data_drift"]["referenceData"]
    assert reference["uri"] == f"{workspace.arm_id}/data/flights-training/versions/1"
    assert (reference["dataContext"], reference["inputDataType"]) == ("training", "Fixed")
    assert reference["columns"] == {"target_column": "late"}
    drift = {("Numerical", "populationstabilityindex"): 0.2, ("Categorical", "populationstabilityindex"): 0.2}
    assert _thresholds(signals["data_drift"]) == _thresholds(signals["prediction_drift"]) == drift
    rates = {
        (kind, metric): 0.05 if metric == "nullvaluerate" else 0.0
        for kind in ("Numerical", "Categorical")
        for metric in ("nullvaluerate", "datatypeerrorrate", "outofboundsrate")
    }
    assert _thresholds(signals["data_quality"]) == rates
    left_out = "goes without 'accuracy', 'thresholds.dep_delay', 'expectations.the distance is above 0'"
    assert left_out in caplog.text


def test_a_monitor_of_data_that_isnt_collected_compares_it_with_what_it_was(
    emulator: EmulatorProcess, workspace: Workspace
) -> None:
    given = _config(
        schedule={"name": "apart", "frequency": "week", "interval": 2, "instance_type": "Standard_E8s_v3"},
        azure=_azure(inputs={"data": "azureml:asked:1", "days": 3}, features=["distance"], deployment="flights/plain"),
    )
    schedule.create_monitor(given, workspace=workspace)
    signals = _signals(emulator, "apart")
    before, now = signals["data_drift"]["referenceData"], signals["data_drift"]["productionData"]
    assert before["uri"] == now["uri"]
    assert (now["windowSize"], now["windowOffset"]) == ("P3D", "P0D")
    assert (before["windowSize"], before["windowOffset"], before["inputDataType"]) == ("P6D", "P3D", "Trailing")
    assert signals["data_drift"]["features"]["features"] == ["distance"]
    now, before = (signals["prediction_drift"][f"{which}Data"] for which in ("production", "reference"))
    assert now["uri"].endswith("/data/answered/versions/1")
    assert (now["windowSize"], before["windowSize"], before["windowOffset"]) == ("P14D", "P28D", "P14D")
    usual = {("Numerical", "normalizedwassersteindistance"): 0.1, ("Categorical", "jensenshannondistance"): 0.1}
    assert _thresholds(signals["data_drift"]) == usual
    compute = _sent(emulator, "apart")["action"]["monitorDefinition"]["computeConfiguration"]
    assert (compute["computeType"], compute["instanceType"]) == ("ServerlessSpark", "standard_e8s_v3")
    assert compute["runtimeVersion"] in ("3.3", "3.4")  # of azure-ai-ml for Python 3.10, and newer


@pytest.mark.parametrize(
    ("task", "thresholds", "sent"),
    [
        ("classification", {"accuracy": 0.8, "recall": 0.6}, [("Accuracy", 0.8), ("Recall", 0.6)]),
        ("regression", {"mae": 12.0, "rmse": 20.0}, [("MeanAbsoluteError", 12.0), ("RootMeanSquaredError", 20.0)]),
    ],
)
def test_performance_joins_outputs_with_what_was_true(
    task: str, thresholds: Any, sent: list[Any], emulator: EmulatorProcess, workspace: Workspace
) -> None:
    given = _config(
        task=task,
        thresholds=thresholds,
        schedule={"name": f"performance-{task}", "cron": "15 6 * * mon-fri", "time_zone": "W. Europe Standard Time"},
        azure=_azure(signals=["model_performance"], labels={"data": "azureml:truth:1", "join": "flight"}),
    )
    schedule.create_monitor(given, workspace=workspace)
    found = _sent(emulator, f"performance-{task}")
    assert found["trigger"]["expression"] == "15 6 * * mon-fri"
    assert found["trigger"]["timeZone"] == "W. Europe Standard Time"
    signal = found["action"]["monitorDefinition"]["signals"]["model_performance"]
    (production,) = signal["productionData"]
    assert production["columns"] == {"target_column": "prediction", "join_column": "id"}
    assert signal["referenceData"]["columns"] == {"target_column": "late", "join_column": "flight"}
    assert signal["referenceData"]["dataContext"] == "ground_truth"
    kept = json.loads(signal["properties"]["azureml.modelmonitor.model_performance_thresholds"])
    assert [(one["metric"], one["threshold"]["value"]) for one in kept] == sent
    assert {one["modelType"] for one in kept} == {task}


def test_the_same_file_again_changes_the_monitor(emulator: EmulatorProcess, workspace: Workspace) -> None:
    for rate in (0.1, 0.3):
        given = _config(schedule={"name": "again", "frequency": "day"}, thresholds={"null_value_rate": rate})
        schedule.create_monitor(given, workspace=workspace)
        assert _thresholds(_signals(emulator, "again")["data_quality"])["Numerical", "nullvaluerate"] == rate


# What is refused before it is sent


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"schedule": None}, r"has no \[schedule\].*\n.*frequency = \"day\""),
        ({"alert": None}, r"has no \[alert\].*\n.*emails = "),
        ({"azure": None}, r"has no \[azure\].*\n.*deployment = "),
        ({"schedule": {"name": "a"}}, "neither `frequency` nor `cron`"),
        ({"schedule": {"name": "a", "frequency": "day", "cron": "0 6 * * *"}}, "both `frequency` and `cron`"),
        ({"schedule": {"name": "a", "interval": 2, "cron": "0 6 * * *"}}, "`interval`, which goes with `frequency`"),
        ({"schedule": {"name": "a", "cron": "0 6 * *"}}, "expected 5 fields, not 4"),
        ({"schedule": {"name": "a", "cron": "0 24 * * *"}}, "its hour is '24', expected numbers from 0 to 23"),
        ({"schedule": {"name": "a", "cron": "0 6 * * x"}}, "its day of the week is 'x'"),
        ({"schedule": {"name": "a", "cron": "0 6 */0 * *"}}, r"its day of the month is '\*/0'"),
        ({"schedule": {"name": "a", "cron": "0 9-8 * * *"}}, "its hour is '9-8'"),
        ({"schedule": {"name": "a", "frequency": "day", "start": "soon"}}, "`start` is 'soon', which is no time"),
        ({"schedule": {"name": "a", "frequency": "day", "time_zone": "Europe/Berlin"}}, "which Azure doesn't know"),
        ({"thresholds": {"population_stability_index": 0.0}}, "`population_stability_index` is 0.0; .* above 0\n"),
        ({"thresholds": {"jensen_shannon_distance": 1.5}}, "above 0 and not above 1"),
        ({"thresholds": {"null_value_rate": -0.1}}, "from 0 on and not above 1"),
        (
            {"thresholds": {"population_stability_index": 0.2, "two_sample_kolmogorov_smirnov_test": 0.05}},
            r"one metric for numerical columns\n.*numerical = \"population_stability_index\"",
        ),
        (
            {"azure": _azure(numerical="population_stability_index")},
            r"no threshold\n.*population_stability_index = 0.1",
        ),
        ({"azure": _azure(features=5)}, "Azure learns from training data"),
        ({"azure": _azure(signals=["model_performance"])}, "none of the performance of a classification: 'accuracy'"),
        (
            {"azure": _azure(signals=["model_performance"]), "thresholds": {"accuracy": 0.8}, "label": None},
            "has no `label`, which model_performance needs",
        ),
        (
            {
                "azure": _azure(signals=["model_performance"], labels={"data": "azureml:truth:1"}),
                "thresholds": {"accuracy": 0.8},
            },
            r"\[azure.labels\] .* has no `join`",
        ),
        (
            {"azure": {"signals": ["data_quality"]}},
            r"'data_quality' has no data; \[azure.inputs\] is missing\n.*deployment = ",
        ),
    ],
)
def test_what_azure_cant_have_is_refused_with_what_to_type(parts: Any, told: str, workspace: Workspace) -> None:
    with pytest.raises(ArgumentError, match=rf"(?s){told}") as refused:
        schedule.create_monitor(_config(**parts), workspace=workspace)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("azure", "error", "told"),
    [
        (
            {"inputs": {"data": "azureml:aksed:1"}},
            ServiceError,
            "no data asset 'azureml:aksed:1'; .*did you mean 'asked'",
        ),
        ({"inputs": {"data": "azureml:asked:7"}}, ServiceError, "'asked' has the versions '1'.*azureml:asked@latest"),
        ({"inputs": {"data": "azureml:folder:1"}}, ArgumentError, "of the type 'uri_folder'.*preprocessing = "),
        (
            {"inputs": {"data": "azureml:asked:1", "type": "uri_folder"}},
            ArgumentError,
            "but .* is of the type 'mltable'",
        ),
        (
            {"inputs": {"data": "azureml://datastores/lake/paths/nowhere"}},
            DataLakeError,
            r"\[azure.inputs\].*nothing is at 'azureml://datastores/lake/paths/nowhere'.*aml-spark datastore ls",
        ),
        ({"inputs": {"data": "azureml://datastores/pond/paths/x"}}, DataLakeError, "no datastore 'pond'"),
        (
            {"deployment": "flights/red"},
            ServiceError,
            "can't find the deployment 'red'.*aml-spark endpoint show flights",
        ),
        (
            {"inputs": None, "outputs": None, "deployment": "flights/plain"},
            ServiceError,
            "doesn't collect 'model_inputs'",
        ),
        ({"deployment": "flights/green"}, ServiceError, "doesn't collect 'model_outputs'.*-C data_collector=true"),
    ],
)
def test_data_that_isnt_there_is_refused_before_anything_is_sent(
    azure: Any, error: type[AmlSparkError], told: str, emulator: EmulatorProcess, workspace: Workspace
) -> None:
    given = _config(azure=_azure(**azure), schedule={"name": "lost", "frequency": "day"})
    with pytest.raises(error, match=rf"(?s){told}"):
        schedule.create_monitor(given, workspace=workspace)
    assert not [path for method, path in emulator.requests if method == "PUT"]


def test_data_in_a_datastore_is_looked_for_where_it_lies(emulator: EmulatorProcess, workspace: Workspace) -> None:
    from aml_spark import datalake, files

    uri = "azureml://datastores/lake/paths/rows"
    files.upload(CONF, datalake.find(control.naming(f"{uri}/MLTable", workspace)))
    inputs = {"data": uri, "type": "uri_folder", "preprocessing": "azureml:read_lake:1"}
    given = _config(
        azure=_azure(inputs=inputs, signals=["data_quality"]), schedule={"name": "lake", "frequency": "day"}
    )
    schedule.create_monitor(given, workspace=workspace)
    sent = _signals(emulator, "lake")["data_quality"]["productionData"]
    assert (sent["uri"], sent["jobInputType"]) == (uri, "uri_folder")
    assert sent["preprocessingComponentId"] == f"{workspace.arm_id}/components/read_lake/versions/1"


def test_another_kind_of_workspace_is_refused() -> None:
    with pytest.raises(WorkspaceError, match="isn't an Azure Machine Learning workspace"):
        schedule.create_monitor(_config(), workspace=Workspace.local("somewhere"))


# Shown, listed, deleted; by command


def test_commands_make_show_list_and_delete_monitors(emulator: EmulatorProcess, tmp_path: Path) -> None:
    file = tmp_path / "monitor.toml"
    file.write_text(CONF.read_text().replace('name = "flights"', 'name = "by-command"'))
    made = _json("monitor-schedule", "create", "--config", str(file))
    assert made["name"] == "by-command"
    assert (made["when"], made["deployment"], made["enabled"]) == ("every 1 day", "flights/blue", True)
    assert made["signals"] == ["data_drift", "data_quality", "prediction_drift"]
    assert made["emails"] == ["models@example.com"]
    del made["created"]
    shown = _json("monitor-schedule", "show", "by-command")
    assert shown.items() > made.items()
    (listed,) = (one for one in _json("monitor-schedule", "list")["monitors"] if one["name"] == "by-command")
    assert listed.items() > made.items()
    assert "by-command" in _invoke("monitor-schedule", "list").stdout
    missed = _invoke("monitor-schedule", "show", "by-commnad")
    assert missed.exit_code == 1
    assert "did you mean 'by-command'?" in missed.stderr
    assert "deleted" in _invoke("monitor-schedule", "delete", "by-command").stderr
    gone = _invoke("monitor-schedule", "delete", "by-command")
    assert (gone.exit_code, "has no monitor 'by-command'" in gone.stderr) == (1, True)
    wrong = _invoke("monitor-schedule", "create", "--config", str(tmp_path / "none.toml"))
    assert (wrong.exit_code, "can't be read" in wrong.stderr) == (2, True)


def test_another_schedule_of_the_name_is_left_as_it_is(emulator: EmulatorProcess, workspace: Workspace) -> None:
    of = workspace.arm_id
    job: dict[str, Any] = {
        "displayName": "nightly",
        "trigger": {
            "triggerType": "Recurrence",
            "frequency": "Day",
            "interval": 1,
            "schedule": {"hours": [], "minutes": []},
        },
        "action": {
            "actionType": "CreateJob",
            "jobDefinition": {
                "jobType": "Command",
                "command": "true",
                "environmentId": f"{of}/environments/any/versions/1",
                "computeId": f"{of}/computes/cpu",
            },
        },
    }
    answer = requests.put(
        f"{emulator.facts['arm_url']}{of}/schedules/nightly?api-version=2023-06-01-preview",
        json={"properties": job},
        headers={"Authorization": f"Bearer {auth.tokens().get()}"},
        verify=emulator.facts["authority_file"],
        timeout=60,
    )
    assert answer.status_code == 201
    assert isinstance(control.client(workspace).schedules.get("nightly"), JobSchedule)
    with pytest.raises(ServiceError, match="there is a schedule 'nightly' already, which is no monitor"):
        schedule.create_monitor(_config(schedule={"name": "nightly", "frequency": "day"}), workspace=workspace)
    with pytest.raises(ServiceError, match="no monitor 'nightly'"):
        schedule.delete("nightly", workspace=workspace)
    assert "nightly" not in [one.name for one in schedule.listed(workspace)]


def test_what_azure_fails_at_is_told_in_its_own_words(emulator: EmulatorProcess, workspace: Workspace) -> None:
    given = _config(schedule={"name": "failing", "frequency": "day"})
    requests.post(
        f"{emulator.facts['arm_url']}/emulator/operations/failures",
        json={"code": "QuotaExceeded", "message": "No schedule is left."},
        headers={"Authorization": f"Bearer {auth.tokens().get()}"},
        verify=emulator.facts["authority_file"],
        timeout=60,
    ).raise_for_status()
    with pytest.raises(
        ServiceError, match=r"can't create the monitor 'failing': .*No schedule is left\..*QuotaExceeded"
    ):
        schedule.create_monitor(given, workspace=workspace)
    assert schedule.create_monitor(given, workspace=workspace).provisioning_state == "Succeeded"


# The emulator, asked by Microsoft's client as it is


def test_microsofts_client_makes_disables_enables_and_deletes_a_monitor(
    workspace: Workspace, client: MLClient, emulator: EmulatorProcess
) -> None:
    schedule.create_monitor(_config(schedule={"name": "own", "frequency": "day"}), workspace=workspace)
    found = client.schedules.get("own")
    assert isinstance(found, MonitorSchedule)
    found.description = "changed"
    found.trigger = CronTrigger(expression="0 6 * * *")
    assert client.schedules.begin_create_or_update(found).result().description == "changed"
    assert client.schedules.begin_disable("own").result().is_enabled is False
    assert "own" not in [one.name for one in client.schedules.list()]
    assert client.schedules.begin_enable("own").result().is_enabled is True
    (again,) = [one for one in client.schedules.list() if one.name == "own"]
    assert isinstance(again.trigger, CronTrigger)
    assert isinstance(again, MonitorSchedule)
    assert again.create_monitor.monitoring_signals.keys() == {"data_drift", "data_quality", "prediction_drift"}
    emulator.forget()
    client.schedules.begin_delete("own").result()
    polls = [path for _, path in emulator.requests if "OperationsStatus" in path]
    assert len(polls) > 1
    with pytest.raises(ResourceNotFoundError, match=r"schedules/own' under resource group .* was not found"):
        client.schedules.get("own")


def test_the_emulator_refuses_what_azure_refuses(workspace: Workspace, client: MLClient) -> None:
    schedule.create_monitor(_config(schedule={"name": "refused", "frequency": "day"}), workspace=workspace)

    def refused(told: str, change: Callable[[Any], object]) -> None:
        found: Any = client.schedules.get("refused")
        change(found)
        with pytest.raises(HttpResponseError, match=told):
            client.schedules.begin_create_or_update(found)

    def lost(found: Any) -> None:
        signal = found.create_monitor.monitoring_signals["data_drift"]
        signal.production_data.input_data.path = f"{workspace.arm_id}/data/lost/versions/1"

    nobody, never = AlertNotification(emails=[]), RecurrenceTrigger(frequency="day", interval=0)
    refused("emails' is missing", lambda found: setattr(found.create_monitor, "alert_notification", nobody))
    refused("'Standard_X' is not", lambda found: setattr(found.create_monitor.compute, "instance_type", "Standard_X"))
    refused("must be at least 1", lambda found: setattr(found, "trigger", never))
    refused("cron expression '6' is invalid", lambda found: setattr(found, "trigger", CronTrigger(expression="6")))
    refused("data of the signal 'data_drift' can't be resolved", lost)
    assert client.schedules.get("refused").provisioning_state == "Succeeded"


# The file


def test_the_file_in_conf_says_what_is_compared() -> None:
    found = config.read(CONF)
    assert found.baseline == {"source": "flights", "until": "2013-02-01"}
    assert found.arguments["thresholds"]["dep_delay"] == {"null_value_rate": 0.1}
    assert found.arguments["expectations"] == {"the distance is above 0": "distance > 0"}
    assert found.report == {"html": "report.html"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"lable": "late"}, r"'monitor.toml': the key 'lable' is unknown; expected .*did you mean 'label'"),
        ({"target": {"source": "a", "window": "day"}}, r"`target`: .*'window' is unknown.*before the first table"),
        ({"azure": {"html": "x"}}, r"'html' stands in \[report\]"),
        ({"html": "x", "emails": []}, r"'html' stands in \[report\]"),
        ({"baseline": {"where": "true"}}, r"`baseline`: the key 'source' is missing.*Delta table"),
        ({"window": "days"}, r"`window` is 'days'; expected one of 'hour', 'day'.*did you mean 'day'"),
        ({"thresholds": {"null_value_rate": "low"}}, r"`thresholds.null_value_rate` is 'low'.*A number, or \"none\""),
        ({"alert": {"emails": ["ops"]}}, r"`alert.emails.0` is 'ops', which can't be meant.*models@example.com"),
        ({"alert": {"emails": []}}, r"`alert.emails`: .*Who is told"),
        ({"schedule": {"name": "a b", "frequency": "day"}}, r"`schedule.name` is 'a b'.*letters, digits"),
        ({"schedule": {"name": "a", "frequency": "daily"}}, r"`schedule.frequency` is 'daily'; expected one of"),
        ({"schedule": {"name": "a", "frequency": "day", "interval": 0}}, r"`schedule.interval`: 0 is less than"),
        ({"schedule": {"name": "a", "instance_type": "standard_e4s_v5"}}, "did you mean 'standard_e4s_v3'"),
        ({"azure": {"signals": ["drift"]}}, r"`azure.signals.0` is 'drift'; expected one of 'data_drift'"),
        ({"azure": {"numerical": "hellinger_distance"}}, r"`azure.numerical` is 'hellinger_distance'"),
        ({"azure": {"inputs": {"data": "asked"}}}, r"`azure.inputs.data` is 'asked'.*azureml:<name>:<version>"),
        ({"azure": {"deployment": "blue"}}, r"`azure.deployment` is 'blue'.*\"flights/blue\""),
    ],
)
def test_a_key_that_is_wrong_is_named(given: Any, told: str) -> None:
    with pytest.raises(ArgumentError, match=rf"(?s){told}"):
        config.checked(given)


def test_none_takes_a_threshold_away() -> None:
    given = {"thresholds": {"row_count_change": "none", "distance": {"null_value_rate": "none"}}}
    assert config.checked(given).arguments["thresholds"] == {
        "row_count_change": None,
        "distance": {"null_value_rate": None},
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [(None, "can't be read: No such file"), (b"a = ", "isn't TOML"), (b"a = '\xff'", "isn't TOML")],
)
def test_a_file_that_cant_be_read_is_named(text: bytes | None, told: str, tmp_path: Path) -> None:
    file = tmp_path / "monitor.toml"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(ArgumentError, match=told):
        config.read(file)
