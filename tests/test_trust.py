"""What a workspace, or an address that somebody else wrote, can't make this library do."""

from __future__ import annotations

import logging
import sqlite3
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

import aml_spark
from aml_spark import auth, model as models
from aml_spark.errors import AmlSparkError, WorkspaceError
from aml_spark.service import Service

if TYPE_CHECKING:
    from aml_spark.testing import EmulatorProcess

ARM = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/g/providers/Microsoft.MachineLearningServices"
AZURE = "westeurope.api.azureml.ms"
HOSTS = [
    "evil.example.com",
    rf"evil.example.com\@{AZURE}",
    f"user:word@{AZURE}",
    f"{AZURE}.evil.example.com",
    f"evil.example.com#@{AZURE}",
    f"evil.example.com?@{AZURE}",
    "evil-api.azureml.ms",
    "cert-evil.experiments.azureml.net",
    "evil.example.com[::1]",
    "127.0.0.1.evil.example.com",
]


@pytest.fixture
def azureml(azureml_workspace: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[aml_spark.Tracking]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    uri = azureml_workspace.facts["tracking_uri"]
    with aml_spark.configure(workspace=uri, experiment="trust", autolog=False) as configured:
        yield configured


@pytest.mark.parametrize("host", HOSTS)
def test_no_token_goes_to_a_host_that_nobody_chose(
    azureml: aml_spark.Tracking, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    def asked(*_: Any) -> Any:
        raise AssertionError("a token was asked for")

    monkeypatch.setattr(auth.Tokens, "current", asked)
    files = f"azureml://{host}/mlflow/v2.0/registries/r/models/m/versions/1/storage/s/paths/c/p"
    for work in (
        lambda: get_artifact_repository(
            f"azureml://{host}/mlflow/v2.0{ARM}/workspaces/w/experiments/0/runs/r/artifacts"
        ),
        lambda: get_artifact_repository(files),
        lambda: Service.of(f"azureml://{host}/mlflow/v2.0{ARM}/registries/r"),
        lambda: aml_spark.Workspace.from_uri(f"azureml://{host}/mlflow/v2.0{ARM}/workspaces/w"),
    ):
        with pytest.raises(AmlSparkError) as raised:
            work()
        assert "word" not in str(raised.value)


def test_a_registry_cant_send_its_clients_elsewhere(
    azureml: aml_spark.Tracking, azureml_workspace: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}")
    elsewhere = {
        "primaryRegionResourceProviderUri": rf"https://evil\\@{AZURE}/",
        "subscriptionId": "s",
        "resourceGroup": "g",
    }
    call = Service.call

    def answered(self: Service, method: str, path: str, *arguments: Any, **options: Any) -> Any:
        return elsewhere if path.endswith("/discovery") else call(self, method, path, *arguments, **options)

    monkeypatch.setattr(Service, "call", answered)
    client = mlflow.MlflowClient(registry_uri=f"{azureml_workspace.facts['registry_uri']}")
    client.create_registered_model("elsewhere")
    from aml_spark import registry_files

    registry_files._control.cache_clear()
    with pytest.raises(WorkspaceError, match="isn't one; expected <name>"):
        client.create_model_version("elsewhere", tmp_path.as_uri())
    registry_files._control.cache_clear()


def test_a_workspace_cant_name_files_of_this_machine_as_its_own(
    azureml: aml_spark.Tracking, azureml_workspace: EmulatorProcess, tmp_path: Path
) -> None:
    (tmp_path / "id_rsa").write_text("secret")
    with mlflow.start_run() as run:
        pass
    client = mlflow.MlflowClient()
    client.create_registered_model("theirs")
    client.create_model_version("theirs", f"{run.info.artifact_uri}/model", run.info.run_id)
    with sqlite3.connect(azureml_workspace.folder / "mlflow.db") as database:
        for address in (
            tmp_path.as_uri(),
            str(tmp_path),
            "https://evil.example.com/api/2.0/mlflow-artifacts/artifacts",
        ):
            database.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (address, run.info.run_id))
            database.execute("UPDATE model_versions SET storage_location = ? WHERE name = 'theirs'", (address,))
            database.commit()
            for work in (
                lambda: client.get_run(run.info.run_id),
                lambda: client.search_runs([run.info.experiment_id]),
                lambda: mlflow.artifacts.download_artifacts("models:/theirs/1"),
            ):
                with pytest.raises(MlflowException, match="expected an azureml:// address"):
                    work()
        database.execute("DELETE FROM runs WHERE run_uuid = ?", (run.info.run_id,))


def test_addresses_of_files_are_https_only(azureml: aml_spark.Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    with mlflow.start_run() as run:
        mlflow.log_text("words", "note.txt")
        call = Service.call

        def answered(self: Service, method: str, path: str, *arguments: Any, **options: Any) -> Any:
            found = call(self, method, path, *arguments, **options)
            for entry in found.get("value", []) if path.endswith("/prefix/contentinfo") else []:
                entry["contentUri"] = "http://169.254.169.254/latest/meta-data"
            return found

        monkeypatch.setattr(Service, "call", answered)
        with pytest.raises(MlflowException, match=r"'note.txt' couldn't be downloaded: .* isn't https"):
            mlflow.artifacts.load_text(f"{run.info.artifact_uri}/note.txt")


def test_names_that_are_no_paths_are_left_out_and_told(
    azureml: aml_spark.Tracking,
    azureml_workspace: EmulatorProcess,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    odd = ["a//b", "/etc/passwd", "../up", "a/../../up", "..\\..\\up", "nul\0.txt"]
    with mlflow.start_run() as run:
        mlflow.log_text("words", "note.txt")
    call = Service.call

    def answered(self: Service, method: str, path: str, *arguments: Any, **options: Any) -> Any:
        found = call(self, method, path, *arguments, **options)
        if "value" in found:
            found["value"] += [{"path": name, "contentUri": found["value"][0].get("contentUri")} for name in odd]
        return found

    monkeypatch.setattr(Service, "call", answered)
    with caplog.at_level(logging.WARNING):
        assert [file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)] == ["note.txt"]
    told = "\n".join(caplog.messages)
    assert all(f"{name!r} is left out" in told for name in odd)
    found = Path(mlflow.artifacts.download_artifacts(run.info.artifact_uri))
    assert [file.name for file in found.rglob("*")] == ["note.txt"]


@pytest.mark.parametrize("address", ["azureml://artifacts/../../x", "azureml://experiments/e/runs/../artifacts/x"])
def test_an_address_cant_climb_to_other_parts_of_the_workspace(azureml: aml_spark.Tracking, address: str) -> None:
    with pytest.raises(MlflowException, match=r"'\.\.' in the address"):
        mlflow.artifacts.download_artifacts(address)


def test_a_signature_isnt_in_a_traceback_where_it_cant_be_renewed(
    azureml: aml_spark.Tracking, azureml_workspace: EmulatorProcess
) -> None:
    with mlflow.start_run() as run:
        mlflow.log_text("words", "note.txt")
    azureml_workspace.plan(kind="forbidden", path="^/amlsparkemulator/", times=9)
    azureml_workspace.plan(kind="forbidden", path="/artifacts/contentinfo", times=9)
    with pytest.raises(MlflowException) as raised:
        mlflow.artifacts.load_text(f"{run.info.artifact_uri}/note.txt")
    told = "".join(traceback.format_exception(raised.value))
    assert "a planned failure (HTTP 403" in told
    assert "sig=" not in told.replace("sig=***", "")


def test_a_ready_token_with_a_line_break_works_and_one_with_spaces_is_named_unseen(
    azureml: aml_spark.Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = auth.tokens().get()
    for name in ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")  # no look for Azure from a test
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", f"{ready}\n")  # as a mounted secret's file has it
    auth.tokens.cache_clear()
    assert mlflow.search_experiments(max_results=1)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", f"Bearer {ready}")
    auth.tokens.cache_clear()
    with pytest.raises(AmlSparkError, match="MLFLOW_TRACKING_TOKEN: isn't a token") as raised:
        mlflow.search_experiments(max_results=1)
    assert ready not in "".join(traceback.format_exception(raised.value))


def test_a_registry_doesnt_choose_the_name_of_a_copy(
    azureml: aml_spark.Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}")
    client = mlflow.MlflowClient()
    client.create_registered_model("wages")
    client.create_model_version("wages", tmp_path.as_uri())
    get = mlflow.MlflowClient.get_model_version

    def renamed(self: Any, name: str, version: str) -> Any:
        found = get(self, name, version)
        found._name = "payroll"
        return found

    monkeypatch.setattr(mlflow.MlflowClient, "get_model_version", renamed)
    assert models.pin("models:/wages/1").name == "wages"


def test_the_emulator_answers_for_a_workspace_only(
    azureml: aml_spark.Tracking, azureml_workspace: EmulatorProcess, tmp_path: Path
) -> None:
    facts = azureml_workspace.facts
    headers = {"Authorization": f"Bearer {auth.tokens().get()}"}
    for path in (
        "/version",
        "/graphql",
        "/ajax-api/2.0/mlflow/upload-artifact",
        "/get-artifact",
        "/api/3.0/mlflow/traces",
    ):
        answer = requests.post(
            f"{facts['mlflow_url']}{path}", headers=headers, verify=facts["authority_file"], timeout=60
        )
        assert answer.status_code == 404, path
    with pytest.raises(MlflowException, match="Artifacts lie in the workspace"):
        mlflow.MlflowClient().create_experiment("outside", tmp_path.as_uri())
