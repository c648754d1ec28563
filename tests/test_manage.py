"""A workspace's resources from Python and by command, on the emulator, through Microsoft's client."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import mlflow
import models as trained
import pytest
import requests
from click.testing import CliRunner, Result

from aml_spark import Workspace, auth, datastore
from aml_spark.cli import main as cli
from aml_spark.credential import AccountKey, Credential, ManagedIdentity, SasToken, ServicePrincipal
from aml_spark.errors import ArgumentError, ServiceError, WorkspaceError
from aml_spark.manage import computes, datastores, jobs, models, workspaces
from aml_spark.testing import EmulatorProcess
from aml_spark.tracking import configure

pytest.importorskip("azure.ai.ml")
SECRET = "c2VjcmV0IG9mIHRoZSB0ZXN0cw=="
POLLS = "OperationsStatus"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("managed")) as started:
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


def _invoke(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli.main, arguments, input=stdin)


def _json(*arguments: str) -> Any:
    result = _invoke(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.splitlines()) == 1
    return json.loads(result.stdout)


def _call(emulator: EmulatorProcess, method: str, path: str, body: Any = None) -> Any:
    """A request to the emulator, as Microsoft's client has no call for it."""
    answer = requests.request(
        method,
        emulator.facts["arm_url"] + path,
        json=body,
        headers={"Authorization": f"Bearer {auth.tokens().get()}"},
        verify=emulator.facts["authority_file"],
        timeout=60,
    )
    assert answer.ok, answer.text
    return answer.json() if answer.text else None


def _put_compute(emulator: EmulatorProcess, name: str, **properties: Any) -> None:
    of = Workspace.from_uri(emulator.facts["tracking_uri"]).arm_id
    body = {"location": "westeurope", "properties": properties}
    _call(emulator, "PUT", f"{of}/computes/{name}?api-version=2023-08-01-preview", body)
    for _ in range(100):
        if computes.get(name).provisioning_state == "Succeeded":
            return
        time.sleep(0.05)


def _interrupted(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process says after Ctrl-C; of one that doesn't end, where it stands."""
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        pytest.fail(process.communicate()[1])


def _fail_next(emulator: EmulatorProcess, code: str, message: str) -> None:
    _call(emulator, "POST", "/emulator/operations/failures", {"code": code, "message": message})


def _set_state(emulator: EmulatorProcess, name: str, state: str) -> None:
    """Have a compute be in the middle of something that somebody else began."""
    file = emulator.folder / "control" / "computes.json"
    known = json.loads(file.read_text())
    known[name]["properties"]["provisioningState"] = state
    whole = file.with_suffix(".test")
    whole.write_text(json.dumps(known))
    whole.replace(file)


# The workspace


def test_the_workspace_is_shown(emulator: EmulatorProcess, workspace: Workspace) -> None:
    shown = workspaces.show(workspace)
    assert (shown.name, shown.location) == (emulator.facts["workspace"], "westeurope")
    told = _json("workspace", "show")
    assert told["name"] == shown.name
    assert told["subscription_id"] == emulator.facts["subscription_id"]
    assert told["tracking_uri"].startswith("azureml://")
    assert "westeurope" in _invoke("workspace", "show").stdout


def test_a_workspace_that_isnt_there_is_named_in_azures_words(emulator: EmulatorProcess, workspace: Workspace) -> None:
    other = Workspace(
        subscription_id=workspace.subscription_id, resource_group=workspace.resource_group, name="elsewhere"
    )
    with pytest.raises(ServiceError, match=r"can't show the workspace 'elsewhere': .*was not found") as told:
        workspaces.show(other)
    assert told.value.status == 404


@pytest.mark.parametrize(
    "command",
    [
        ["workspace", "show"],
        ["compute", "list"],
        ["model", "list"],
        ["job", "list"],
        ["datastore", "list"],
        ["endpoint", "list"],
    ],
    ids=lambda command: str(command[0]),
)
def test_a_local_workspace_has_none_of_this(
    command: list[str], emulator: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = _invoke(*command, "--workspace", str(tmp_path / "local"))
    assert result.exit_code == 2
    assert "isn't an Azure Machine Learning workspace" in result.stderr
    with pytest.raises(WorkspaceError, match="isn't an Azure Machine Learning workspace"):
        workspaces.show(Workspace.local(tmp_path / "local"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    result = _invoke(*command)
    assert (result.exit_code, result.stderr.splitlines()) == (
        2,
        [
            "aml-spark: no workspace is named",
            "Hint: --workspace azureml://…, MLFLOW_TRACKING_URI, or a config.json here",
        ],
    )
    assert list(tmp_path.iterdir()) == []


# Datastores


@pytest.mark.parametrize("kind", datastores.KINDS)
@pytest.mark.parametrize(
    "credential",
    [
        None,
        AccountKey(key=SECRET),
        SasToken(token=f"sv=2024&sig={SECRET}"),
        ServicePrincipal(tenant_id="tenant", client_id="client", client_secret=SECRET),
    ],
    ids=["none", "key", "sas", "principal"],
)
def test_a_datastore_is_made_with_what_opens_it(
    kind: str, credential: Credential | None, emulator: EmulatorProcess, workspace: Workspace
) -> None:
    name = f"made_{kind}_{type(credential).__name__}".lower()
    made = datastores.create(
        name, account="somewhere", container="place", kind=kind, credential=credential, workspace=workspace
    )
    assert (made.name, made.type) == (name, kind)
    assert name in [one.name for one in datastores.listed(workspace)]
    assert SECRET not in repr(datastores.get(name, workspace))
    found = datastore.get(name)  # as Spark is told
    assert found.credential == credential
    assert found.location is not None
    assert found.location.uri == "abfss://place@somewhere.dfs.core.windows.net"


def test_a_datastore_gets_another_key_but_no_other_place(emulator: EmulatorProcess, workspace: Workspace) -> None:
    for key in ("b25l", SECRET):
        datastores.create(
            "renewed", account="one", container="con", credential=AccountKey(key=key), workspace=workspace
        )
    assert datastore.get("renewed").credential == AccountKey(key=SECRET)
    with pytest.raises(ArgumentError, match="for another place already: AzureDataLakeGen2 con@one; asked for is"):
        datastores.create("renewed", account="two", container="con", workspace=workspace)
    assert datastore.get("renewed").credential == AccountKey(key=SECRET)


def test_what_a_datastore_cant_keep_is_refused_before_azure_is_asked(emulator: EmulatorProcess) -> None:
    with pytest.raises(ArgumentError, match="the kind is 'AzureFile'; expected one of"):
        datastores.create("x", account="acc", container="con", kind="AzureFile")
    with pytest.raises(ArgumentError, match="keeps no ManagedIdentity; expected AccountKey"):
        datastores.create("x", account="acc", container="con", credential=ManagedIdentity())
    assert not [path for method, path in emulator.requests if method == "PUT"]


def test_the_default_datastore_is_another_one_and_keeps_its_key(
    emulator: EmulatorProcess, workspace: Workspace
) -> None:
    before = datastores.default(workspace)
    key = AccountKey(key=SECRET)
    datastores.create("chosen", account="one", container="con", kind="AzureBlob", credential=key, workspace=workspace)
    try:
        assert datastores.set_default("chosen", workspace).name == "chosen"
        assert datastores.default(workspace).name == "chosen"
        assert datastore.get("chosen").credential == key
        told = _json("datastore", "list")["datastores"]
        assert [one["name"] for one in told if one["default"]] == ["chosen"]
    finally:
        assert _invoke("datastore", "set-default", str(before.name)).exit_code == 0
    assert datastores.default(workspace).name == before.name
    assert datastores.get("chosen", workspace).name == "chosen"


def test_a_datastore_that_isnt_there_is_told_with_those_that_are(
    emulator: EmulatorProcess, workspace: Workspace
) -> None:
    for ask in (datastores.get, datastores.set_default):
        with pytest.raises(ServiceError, match=r"the workspace has no datastore 'lak'; it has .*'lake'") as told:
            ask("lak", workspace)
        assert told.value.hint == "did you mean 'lake'?"


@pytest.mark.parametrize("way", ["variable", "standard input"])
def test_a_command_takes_a_secret_without_showing_it(
    way: str, emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", SECRET)
    arguments = ["datastore", "create", "by_command", "--account", "acc", "--container", "con", "--credential", "key"]
    given = ["--secret-from", "THE_KEY"] if way == "variable" else []
    result = _invoke("--verbose", *arguments, *given, "--json", stdin=None if given else f"{SECRET}\n")
    assert result.exit_code == 0, result.stderr
    assert SECRET not in result.output
    assert json.loads(result.stdout) == {
        "name": "by_command",
        "kind": "AzureDataLakeGen2",
        "uri": "abfss://con@acc.dfs.core.windows.net",
        "credential": "AccountKey",
    }
    assert datastore.get("by_command").credential == AccountKey(key=SECRET)
    shown = _invoke("datastore", "show", "by_command").output + _invoke("datastore", "list").output
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--credential", "key", "--secret-from", "NOT_SET"], "the variable NOT_SET holds no secret"),
        (["--credential", "sas"], "standard input holds no secret"),
        (["--credential", "service-principal", "--tenant-id", "t"], "needs --tenant-id and --client-id"),
        (["--secret-from", "NOT_SET"], "--secret-from goes with --credential"),
        (["--credential", "password"], "'password'"),
    ],
)
def test_a_datastores_wrong_options_exit_with_2(options: list[str], told: str) -> None:
    result = _invoke("datastore", "create", "x", "--account", "acc", "--container", "con", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr


# Computes


def test_a_cluster_is_made_waited_for_and_found_again(emulator: EmulatorProcess, workspace: Workspace) -> None:
    made = computes.create("cpu", size="Standard_E4s_v3", max_instances=2, workspace=workspace)
    assert computes.facts(made) == {
        "name": "cpu",
        "kind": "amlcompute",
        "size": "Standard_E4s_v3",
        "nodes": "0-2",
        "state": "Succeeded",
        "tier": "dedicated",
        "idle_seconds": 120,
        "errors": None,
        "resource_id": None,
    }
    assert len([path for _, path in emulator.requests if POLLS in path]) > 1
    emulator.forget()
    again = computes.create("cpu", size="STANDARD_E4S_V3", max_instances=2, workspace=workspace)
    assert again.id == made.id
    assert {method for method, _ in emulator.requests} == {"GET"}
    with pytest.raises(ServiceError, match="its max_instances is 2; asked for is 8, its tier is dedicated; asked for"):
        computes.create("cpu", max_instances=8, tier="low_priority", workspace=workspace)
    result = _invoke("compute", "create", "cpu", "--max-instances", "4")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "it is another: its max_instances is 2; asked for is 4\n" in result.stderr
    assert "Hint: give it another name, or aml-spark compute delete cpu" in result.stderr
    assert _json("compute", "create", "cpu")["nodes"] == "0-2"
    assert not [path for method, path in emulator.requests if method == "PUT"]


@pytest.mark.parametrize("kind", ["throttle", "unavailable", "error", "drop"])
def test_polls_that_fail_dont_fail_the_creation(kind: str, emulator: EmulatorProcess, workspace: Workspace) -> None:
    emulator.plan(kind=kind, path=POLLS, times=2)
    made = computes.create(f"polled-{kind}", workspace=workspace)
    assert made.provisioning_state == "Succeeded"
    puts = [path for method, path in emulator.requests if method == "PUT"]
    assert len(puts) == 1


def test_one_lost_answer_fails_neither_creation_nor_deletion(emulator: EmulatorProcess, workspace: Workspace) -> None:
    for method in ("PUT", "DELETE"):
        emulator.plan(kind="drop-after", path="/computes/", method=method)
    made = computes.create("unheard", max_instances=2, workspace=workspace)
    assert (made.provisioning_state, computes.facts(made)["nodes"]) == ("Succeeded", "0-2")
    computes.delete("unheard", workspace=workspace)
    assert "unheard" not in [one.name for one in computes.listed(workspace)]
    changes = [method for method, path in emulator.requests if path.endswith("/computes/unheard")]
    assert [method for method in changes if method != "GET"] == ["PUT", "PUT", "DELETE", "DELETE"]


def test_another_operation_is_neither_creation_nor_deletion(emulator: EmulatorProcess, workspace: Workspace) -> None:
    computes.create("resized", workspace=workspace)
    _set_state(emulator, "resized", "Updating")
    with pytest.raises(ServiceError, match="can't delete the compute 'resized': Another operation on 'resized'"):
        computes.delete("resized", workspace=workspace)
    _set_state(emulator, "resized", "Deleting")
    with pytest.raises(ServiceError, match="can't create the compute 'resized': Another operation on 'resized'"):
        computes.create("resized", workspace=workspace)


def test_what_azure_fails_at_is_told_in_its_words_and_can_be_tried_again(
    emulator: EmulatorProcess, workspace: Workspace
) -> None:
    words = "The specified subscription has a total vCPU quota of 0 and is less than the requested 4"
    _fail_next(emulator, "QuotaExceeded", words)
    result = _invoke("compute", "create", "scarce", "--size", "Standard_NC6")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"can't create the compute 'scarce': {words}" in " ".join(result.stderr.split())
    assert computes.get("scarce", workspace).provisioning_state == "Failed"
    assert computes.create("scarce", size="Standard_D2", workspace=workspace).provisioning_state == "Succeeded"


def test_a_name_that_azure_doesnt_take_is_told_in_its_words(emulator: EmulatorProcess, workspace: Workspace) -> None:
    with pytest.raises(ServiceError, match="Compute name is invalid") as told:
        computes.create("a" * 60, workspace=workspace)
    assert told.value.status == 400


def test_a_creation_that_is_under_way_is_waited_for_and_not_begun_again(
    emulator: EmulatorProcess, workspace: Workspace
) -> None:
    computes.create("begun", workspace=workspace)
    _set_state(emulator, "begun", "Creating")
    emulator.forget()
    assert computes.create("begun", wait=False, workspace=workspace).provisioning_state == "Creating"
    ends = threading.Thread(target=_end_when_asked, args=(emulator, "begun", "Succeeded"))
    ends.start()
    assert computes.create("begun", workspace=workspace).provisioning_state == "Succeeded"
    ends.join()
    assert {method for method, _ in emulator.requests} == {"GET"}


def test_a_creation_of_somebody_else_that_fails_is_an_error(emulator: EmulatorProcess, workspace: Workspace) -> None:
    computes.create("lost", workspace=workspace)
    _set_state(emulator, "lost", "Creating")
    emulator.forget()
    ends = threading.Thread(target=_end_when_asked, args=(emulator, "lost", "Failed"))
    ends.start()
    with pytest.raises(ServiceError, match="can't create the compute 'lost': Failed"):
        computes.create("lost", workspace=workspace)
    ends.join()


def _end_when_asked(emulator: EmulatorProcess, name: str, state: str) -> None:
    """End what is under way once somebody asked for it."""
    for _ in range(600):
        if any(path.endswith(f"/computes/{name}") for _, path in emulator.requests):
            break
        time.sleep(0.05)
    _set_state(emulator, name, state)


def test_a_conflict_is_told_in_azures_words_with_what_to_do(emulator: EmulatorProcess, workspace: Workspace) -> None:
    _put_compute(emulator, "desk", computeType="ComputeInstance", properties={"vmSize": "STANDARD_DS3_V2"})
    _set_state(emulator, "desk", "Updating")
    try:
        result = _invoke("compute", "stop", "desk")
        assert result.exit_code == 1
        assert "can't stop the compute 'desk': Another operation on 'desk' is in progress." in result.stderr
        assert "HTTP 409" in result.stderr
        assert "Hint: try again when it has ended; aml-spark compute show desk" in result.stderr
    finally:
        _set_state(emulator, "desk", "Succeeded")


def test_an_instance_is_stopped_started_and_deleted(emulator: EmulatorProcess, workspace: Workspace) -> None:
    _put_compute(emulator, "mine", computeType="ComputeInstance", properties={"vmSize": "STANDARD_DS3_V2"})
    assert _json("compute", "stop", "mine")["state"] == "Stopped"
    assert _json("compute", "start", "mine")["state"] == "Running"
    deleted = _invoke("compute", "delete", "mine")
    assert (deleted.exit_code, deleted.stdout, deleted.stderr.splitlines()[-1]) == (0, "", "mine: deleted")
    assert "mine" not in [one.name for one in computes.listed(workspace)]
    with pytest.raises(ServiceError, match="Only a compute instance can stop"):
        computes.stop(str(computes.create("cluster", workspace=workspace).name), workspace=workspace)


def test_what_is_attached_is_listed_by_its_kind_and_only_detached(
    emulator: EmulatorProcess, workspace: Workspace
) -> None:
    group = f"/subscriptions/{workspace.subscription_id}/resourceGroups/others/providers"
    bricks, synapse = f"{group}/Microsoft.Databricks/workspaces/dbx", f"{group}/Microsoft.Synapse/workspaces/syn"
    _put_compute(emulator, "bricks", computeType="Databricks", resourceId=bricks)
    pool = {"nodeCount": 5, "nodeSize": "Medium", "nodeSizeFamily": "MemoryOptimized", "sparkVersion": "3.4"}
    _put_compute(emulator, "pool", computeType="SynapseSpark", resourceId=f"{synapse}/bigDataPools/p", properties=pool)
    told = {one["name"]: one for one in _json("compute", "list")["computes"]}
    assert (told["bricks"]["kind"], told["bricks"]["resource_id"]) == ("databricks", bricks)
    assert [told["pool"][name] for name in ("kind", "size", "nodes")] == ["synapsespark", "Medium", "5"]
    table = _invoke("compute", "list").stdout.splitlines()
    assert table[0].split() == ["name", "kind", "size", "nodes", "state"]
    assert ["pool", "synapsespark", "Medium", "5", "Succeeded"] in [line.split() for line in table]
    emulator.plan(kind="forbidden", path="underlyingResourceAction=Detach", method="DELETE")
    with pytest.raises(ServiceError, match="can't delete the compute 'bricks'") as refused:
        computes.delete("bricks", workspace=workspace)
    assert refused.value.status == 403
    for name in ("bricks", "pool"):
        computes.delete(name, workspace=workspace)
    assert not {"bricks", "pool"} & {one.name for one in computes.listed(workspace)}


@pytest.mark.parametrize("command", ["show", "start", "stop", "delete"])
def test_a_compute_that_isnt_there_is_told_with_those_that_are(
    command: str, emulator: EmulatorProcess, workspace: Workspace
) -> None:
    computes.create("present", workspace=workspace)
    result = _invoke("compute", command, "presnt")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the workspace has no compute 'presnt'; it has " in result.stderr
    assert "'present'" in result.stderr
    assert "Hint: did you mean 'present'?" in result.stderr


@pytest.mark.parametrize("again", [False, True], ids=["begun here", "begun elsewhere"])
def test_ctrl_c_ends_the_waiting_and_says_what_goes_on(
    again: bool, emulator: EmulatorProcess, workspace: Workspace
) -> None:
    name = f"slow-{again}".lower()
    if again:
        computes.create(name, workspace=workspace)
        _set_state(emulator, name, "Creating")
        emulator.forget()
    else:
        emulator.plan(kind="slow", path=POLLS, seconds=2, times=1000)
    command = [sys.executable, "-X", "faulthandler", "-m", "aml_spark", "--verbose", "compute", "create", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        try:
            told = ""
            assert waiting.stderr is not None
            for line in waiting.stderr:  # the wait has begun once it says so
                told += line
                if f"create compute {name}: " in line:
                    break
            said, rest = _interrupted(waiting)
        finally:
            waiting.kill()
    told += rest
    assert (waiting.returncode, said) == (130, "")
    assert f"To look at it: aml-spark compute show {name}." in told
    assert "Traceback" not in told
    if again:
        _set_state(emulator, name, "Succeeded")
    emulator.forget()
    assert computes.create(name, workspace=workspace).provisioning_state == "Succeeded"


# Models


@pytest.fixture
def registered(emulator: EmulatorProcess, workspace: Workspace) -> Iterator[str]:
    with configure(workspace=workspace, experiment="managed", autolog=False):
        if not mlflow.search_registered_models(filter_string="name = 'sums'"):
            for constant in (0.0, 1.0):
                trained.register_sum("sums", constant)
        yield "sums"


def test_models_and_their_versions_are_listed(registered: str, workspace: Workspace) -> None:
    assert {one.name: one.latest_version for one in models.listed(workspace=workspace)}[registered] == "2"
    assert [one.version for one in models.listed(registered, workspace)] == ["2", "1"]
    assert models.get(registered, workspace=workspace).version == "2"
    assert models.get(registered, 1, workspace).version == "1"
    told = _json("model", "list", "--name", registered)["models"]
    assert [(one["name"], one["version"], one["type"]) for one in told] == [
        (registered, v, "mlflow_model") for v in "21"
    ]
    assert _json("model", "show", registered, "--version", "1")["version"] == "1"
    (whole,) = _json("model", "list")["models"]
    assert [whole[name] for name in ("name", "version", "type", "created")] == [registered, None, None, None]
    table = [line.split()[:2] for line in _invoke("model", "list").stdout.splitlines()]
    assert table == [["name", "latest_version"], ["sums", "2"]]


def test_a_model_or_version_that_isnt_there_is_told_with_those_that_are(registered: str, workspace: Workspace) -> None:
    with pytest.raises(ServiceError, match="the workspace has no model 'sum'; it has 'sums'") as told:
        models.get("sum", workspace=workspace)
    assert told.value.hint == "did you mean 'sums'?"
    result = _invoke("model", "download", registered, "--version", "7")
    assert result.exit_code == 1
    assert "the model 'sums' has no version '7'; it has '2', '1'" in result.stderr


def test_a_version_is_found_by_its_address(registered: str, workspace: Workspace, tmp_path: Path) -> None:
    mlflow.MlflowClient(workspace.tracking_uri).set_registered_model_alias(registered, "champion", "1")
    told = _json("model", "show", "models:/sums@champion")
    assert (told["version"], told["aliases"]) == ("1", ["champion"])
    assert _json("model", "show", "models:/sums/latest")["version"] == "2"
    assert "champion" in _invoke("model", "show", "models:/sums/1").stdout
    assert _json("model", "show", "models:/sums/2")["aliases"] == []
    assert models.download("models:/sums@champion", target=tmp_path, workspace=workspace) == tmp_path / "sums"
    with pytest.raises(ServiceError, match="the model 'sums' has no alias 'champ'; it has 'champion'") as none:
        models.get("models:/sums@champ", workspace=workspace)
    assert none.value.hint == "did you mean 'champion'?"
    with pytest.raises(ServiceError, match="the workspace has no model 'sum'; it has 'sums'"):
        models.get("models:/sum@champion", workspace=workspace)
    for arguments, words in (
        (["models:/sums"], "isn't a registered model; expected models:/<name>/<version or @alias>"),
        (["models:/sums/1", "--version", "2"], "'models:/sums/1' says which version already; asked for is '2', too"),
    ):
        result = _invoke("model", "show", *arguments)
        assert result.exit_code == 2
        assert words in result.stderr


def test_a_models_files_are_downloaded_and_load(registered: str, workspace: Workspace, tmp_path: Path) -> None:
    result = _invoke("model", "download", registered, str(tmp_path), "--version", "1")
    assert result.exit_code == 0, result.stderr
    folder = Path(result.stdout.strip())
    assert folder == tmp_path / registered
    (description,) = folder.rglob("MLmodel")
    assert mlflow.pyfunc.load_model(str(description.parent)).predict(trained.TRAINING).tolist()[:2] == [0.0, 2.0]
    with pytest.raises(ArgumentError, match="holds something already"):
        models.download(registered, 1, tmp_path, workspace)


def test_a_model_is_copied_to_another_workspace(registered: str, workspace: Workspace, tmp_path: Path) -> None:
    there = tmp_path / "there"
    arguments = ("model", "copy", f"models:/{registered}/1", "--to", str(there))
    assert _json(*arguments) | {"run_id": None} == {"name": "sums", "version": "1", "run_id": None, "copied": True}
    again = _invoke(*arguments)
    assert again.stdout == "models:/sums/1 → sums version 1, which was there already\n"


# Jobs


def _job(folder: Path, code: str, *, compute: str = "runner", **more: Any) -> Path:
    (folder / "src").mkdir(exist_ok=True)
    (folder / "src" / "main.py").write_text(code)
    file = folder / "job.yml"
    described = {
        "$schema": "https://azuremlschemas.azureedge.net/latest/commandJob.schema.json",
        "command": "python main.py",
        "code": "./src",
        "environment": {"image": "mcr.microsoft.com/azureml/minimal"},
        "compute": f"azureml:{compute}",
        "experiment_name": "managed",
        **more,
    }
    file.write_text(json.dumps(described))  # which is YAML, too
    return file


@pytest.fixture
def runner(emulator: EmulatorProcess, workspace: Workspace) -> str:
    return str(computes.create("runner", workspace=workspace).name)


def test_a_job_is_submitted_followed_listed_and_fetched(runner: str, workspace: Workspace, tmp_path: Path) -> None:
    code = "import time\nfor i in range(3): print('line ü', i, flush=True); time.sleep(0.5)\n"
    submitted = _json("job", "submit", str(_job(tmp_path, code)))
    name = submitted["name"]
    assert (submitted["type"], submitted["experiment"], submitted["compute"]) == ("command", "managed", runner)
    followed = _invoke("job", "logs", name, "--follow")
    assert followed.exit_code == 0, followed.stderr
    lines = [line for line in followed.stdout.splitlines() if line.startswith("line ")]
    assert lines == ["line ü 0", "line ü 1", "line ü 2"]
    assert _json("job", "show", name)["status"] == "Completed"
    assert [one["status"] for one in _json("job", "list", "--max", "1")["jobs"]] == ["Completed"]
    said: list[str] = []
    assert jobs.logs(name, write=said.append, workspace=workspace).name == name
    assert "".join(said) == followed.stdout
    ended = _invoke("job", "cancel", name)
    assert ended.exit_code == 0
    assert f"{name}: had ended as Completed before" in ended.stderr.splitlines()
    place = jobs.download(name, tmp_path / "left", workspace=workspace)
    assert "line ü 2" in "".join(file.read_text() for file in place.rglob("*.txt"))
    with pytest.raises(ArgumentError, match=f"the job '{name}' has no output 'trained'; it has "):
        jobs.download(name, tmp_path, output="trained", workspace=workspace)


def test_following_a_job_that_fails_is_an_error_with_its_words(
    runner: str, workspace: Workspace, tmp_path: Path
) -> None:
    name = jobs.submit(_job(tmp_path, "print('to the end'); raise SystemExit(3)"), workspace).name
    result = _invoke("job", "logs", str(name), "--follow")
    assert result.exit_code == 1
    assert "to the end" in result.stdout
    assert f"the job {name!r} ended as Failed: " in result.stderr
    assert _invoke("job", "logs", str(name)).exit_code == 0


def test_polls_of_a_job_may_fail(runner: str, emulator: EmulatorProcess, workspace: Workspace, tmp_path: Path) -> None:
    name = jobs.submit(_job(tmp_path, "print('once')"), workspace).name
    for kind in ("throttle", "error", "drop"):
        emulator.plan(kind=kind, path="/details", times=1)
    said: list[str] = []
    assert jobs.logs(str(name), follow=True, write=said.append, workspace=workspace).status == "Completed"
    assert "".join(said).count("once") == 1


def test_no_signature_of_a_logs_address_is_in_an_error(
    runner: str, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azure.core.exceptions import ServiceRequestError
    from azure.storage.blob import BlobClient

    def fail(blob: BlobClient, **_: Any) -> Any:
        raise ServiceRequestError(f"Max retries exceeded with url: {blob.url}")  # as its transport says it

    name = str(jobs.submit(_job(tmp_path, "print('once')"), workspace).name)
    jobs.logs(name, follow=True, write=str, workspace=workspace)
    monkeypatch.setattr(BlobClient, "download_blob", fail)
    with pytest.raises(ServiceError, match=r"can't show the logs of the job ") as told:
        jobs.logs(name, workspace=workspace)
    assert re.findall(r"sig=([^&\s]+)", str(told.value)) == ["***"]


def test_ctrl_c_stops_following_and_not_the_job(runner: str, workspace: Workspace, tmp_path: Path) -> None:
    code = "import time\nprint('begun', flush=True)\ntime.sleep(600)\n"
    name = str(jobs.submit(_job(tmp_path, code), workspace).name)
    command = [sys.executable, "-X", "faulthandler", "-m", "aml_spark", "job", "logs", name, "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        try:
            assert following.stdout is not None
            for line in following.stdout:
                if "begun" in line:
                    break
            _, told = _interrupted(following)
        finally:
            following.kill()
    assert following.returncode == 130
    assert f"the job {name} may go on. To look at it: aml-spark job show {name}. To end it: aml-spark job" in told
    assert "Traceback" not in told
    assert jobs.get(name, workspace).status == "Running"
    assert _json("job", "cancel", name)["status"] in ("CancelRequested", "Canceled")
    with pytest.raises(ServiceError, match=f"the job '{name}' ended as Canceled"):
        jobs.logs(name, follow=True, write=str, workspace=workspace)


def test_a_job_whose_answer_is_lost_is_found_by_its_name(
    runner: str,
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from azure.ai.ml.operations import JobOperations
    from azure.core.exceptions import ServiceResponseError

    send, broken = JobOperations.create_or_update, [ServiceResponseError("the connection broke"), KeyboardInterrupt()]

    def lost(*arguments: Any, **more: Any) -> None:
        send(*arguments, **more)
        raise broken.pop(0)

    monkeypatch.setattr(JobOperations, "create_or_update", lost)
    file, before = _job(tmp_path, "print('once')"), len(jobs.listed(workspace=workspace))
    submitted = jobs.submit(file, workspace)
    assert re.fullmatch(r"job-[0-9a-f]{12}", str(submitted.name))
    assert len(jobs.listed(workspace=workspace)) == before + 1
    with pytest.raises(KeyboardInterrupt):
        jobs.submit(file, workspace)
    newest = jobs.listed(most=1, workspace=workspace)[0].name
    assert newest != submitted.name
    assert f"To end it: aml-spark job cancel {newest}" in caplog.text


@pytest.mark.parametrize("status", ["NotResponding", "Paused"])
def test_a_job_that_nothing_comes_of_isnt_followed_for_ever(
    status: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azure.ai.ml.operations._run_operations import RunOperations

    details = iter([SimpleNamespace(status=status, log_files={}, error=None)])
    monkeypatch.setattr(RunOperations, "get_run_details", lambda *_: next(details))
    with pytest.raises(ServiceError, match=f"the job 'night' ended as {status}"):
        jobs.logs("night", follow=True, workspace=workspace)


def test_a_job_that_cant_be_submitted_is_told_in_azures_words(
    runner: str, workspace: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(ServiceError, match=r"can't submit .*nowhere") as told:
        jobs.submit(_job(tmp_path, "", compute="nowhere"), workspace)
    assert told.value.hint == "aml-spark compute list shows where jobs can run"


OF_A_JOB = "environment: azureml:any:1\ncompute: azureml:cpu\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, ["there is no file"]),
        ("command: [", ["while parsing a flow node", "line 1"]),
        ("type: comand", ["Unsupported job type: comand."]),
        ('a: "\xff"', ["invalid start byte"]),
        (
            f"{OF_A_JOB}comand: x",
            ["the field 'command' is missing; there is no field 'comand'", "Hint: did you mean 'command'?"],
        ),
        (f"{OF_A_JOB}command: x\nlimits: {{timeout: soon}}", ["limits.timeout: Not a valid integer."]),
        (f"{OF_A_JOB}command: x ${{{{inputs.y}}}}", ["does not contain 'y' referenced in command"]),
        (f"{OF_A_JOB}command: x\ncode: ./none", ["none"]),
        ("type: pipeline\njobs: {a: {type: command}}", ["the field 'jobs.a.component' is missing"]),
    ],
)
def test_a_file_that_describes_no_job_exits_with_2(
    text: str | None, told: list[str], emulator: EmulatorProcess, tmp_path: Path
) -> None:
    file = tmp_path / "job.yml"
    if text is not None:
        file.write_bytes(text.encode("latin-1"))
    result = _invoke("job", "submit", str(file))
    assert (result.exit_code, result.stdout) == (2, "")
    first, *more = result.stderr.splitlines()
    assert f"'{file}'" in first
    assert len(more) <= 1
    assert all(words in result.stderr for words in told), result.stderr


@pytest.mark.parametrize("command", ["show", "logs", "cancel", "download"])
def test_a_job_that_isnt_there_is_told_in_azures_words(command: str, emulator: EmulatorProcess) -> None:
    result = _invoke("job", command, "nobody")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nobody was not found" in result.stderr
    assert "Hint: aml-spark job list" in result.stderr


# The package


def test_importing_all_of_it_imports_none_of_the_large_packages() -> None:
    code = """
import sys
from aml_spark.manage import computes, datastores, jobs, models, workspaces
print(sorted({"mlflow", "pyspark", "pandas", "numpy", "azure", "click"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("group", ["workspace", "datastore", "compute", "model", "job"])
def test_each_command_and_option_says_what_it_is_for(group: str) -> None:
    commands = cli.main.commands[group].commands  # type: ignore[attr-defined]
    assert commands
    for name, command in commands.items():
        assert command.help, name
        for parameter in command.params:
            if not isinstance(parameter, click.Argument):
                assert parameter.help, f"{name} {parameter.name}"
