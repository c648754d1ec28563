"""Files of a workspace's runs: any size and name, both ways, through breaks, ended addresses and changes."""

from __future__ import annotations

import multiprocessing
import os
import re
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from urllib3.util import connection

import aml_spark
from aml_spark import auth, blobs
from aml_spark.service import Service

if TYPE_CHECKING:
    from aml_spark.testing import EmulatorProcess

MEGABYTE = 2**20
STORAGE = "^/amlsparkemulator/"


@pytest.fixture
def run(azureml_workspace: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", str(5 * MEGABYTE))
    uri = azureml_workspace.facts["tracking_uri"]
    with aml_spark.configure(workspace=uri, experiment="artifacts", autolog=False), mlflow.start_run() as active:
        yield active


def _written(file: Path, size: int) -> bytes:
    content = os.urandom(size)
    file.write_bytes(content)
    return content


def _downloaded(run: Any, name: str, **arguments: Any) -> Path:
    return Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=name, **arguments))


@pytest.mark.parametrize("size", [0, 5 * MEGABYTE, 33 * MEGABYTE + 1])
def test_an_artifact_of_any_size_comes_back_whole(run: Any, tmp_path: Path, size: int) -> None:
    content = _written(tmp_path / "file.bin", size)
    for _ in range(2):  # the second time it replaces what is there
        mlflow.log_artifact(str(tmp_path / "file.bin"))
    assert _downloaded(run, "file.bin").read_bytes() == content


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 and newer warn of each fork
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_forked_process_uploads_to_the_run_of_its_parent(run: Any, tmp_path: Path, kind: str) -> None:
    for number in range(2):
        _written(tmp_path / f"{number}.bin", 11 * MEGABYTE)

    def log(place: str) -> None:
        if kind == "file":
            mlflow.MlflowClient().log_artifact(run.info.run_id, str(tmp_path / "0.bin"), place)
        else:
            mlflow.MlflowClient().log_artifacts(run.info.run_id, str(tmp_path), place)

    log("parent")
    child = multiprocessing.get_context("fork").Process(target=log, args=("child",))
    child.start()
    child.join(60)
    ended = child.exitcode
    child.kill()
    assert ended == 0
    assert _downloaded(run, "child/0.bin").read_bytes() == (tmp_path / "0.bin").read_bytes()


@pytest.mark.parametrize("size", [1000, 33 * MEGABYTE])
@pytest.mark.parametrize("fault", ["cut", "drop", "unavailable", "forbidden", "whole"])
def test_a_file_arrives_whole_whatever_happens_to_one_request(
    azureml_workspace: EmulatorProcess, run: Any, tmp_path: Path, fault: str, size: int
) -> None:
    content = _written(tmp_path / "file.bin", size)
    if fault != "cut":  # an answer to an upload has no body
        azureml_workspace.plan(kind=fault, path=STORAGE, method="PUT")
    mlflow.log_artifact(str(tmp_path / "file.bin"))
    azureml_workspace.plan(kind=fault, path=STORAGE, method="GET")
    assert _downloaded(run, "file.bin").read_bytes() == content


def test_parts_of_a_file_are_asked_for_again_by_themselves(
    azureml_workspace: EmulatorProcess, run: Any, tmp_path: Path
) -> None:
    content = _written(tmp_path / "file.bin", 80 * MEGABYTE)
    mlflow.log_artifact(str(tmp_path / "file.bin"))
    azureml_workspace.forget()
    azureml_workspace.plan(kind="cut", path=STORAGE, method="GET", rate=0.5, times=3)
    assert _downloaded(run, "file.bin").read_bytes() == content
    asked = [path for _, path in azureml_workspace.requests]
    assert 5 < sum(path.startswith("/amlsparkemulator/") for path in asked) <= 8


def test_an_address_that_is_refused_twice_is_an_error_and_leaves_no_file(
    azureml_workspace: EmulatorProcess, run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _written(tmp_path / "file.bin", 33 * MEGABYTE)
    mlflow.log_artifact(str(tmp_path / "file.bin"))
    azureml_workspace.plan(kind="forbidden", path=STORAGE, method="GET", times=99)
    (tmp_path / "down").mkdir()
    address = f"{run.info.artifact_uri}/file.bin"
    with pytest.raises(MlflowException, match=r"'file.bin' couldn't be downloaded: HTTP 403"):
        mlflow.artifacts.download_artifacts(address, dst_path=str(tmp_path / "down"))
    assert list((tmp_path / "down").iterdir()) == []
    with pytest.raises(MlflowException, match="ensure that the path is correct"):  # all that MLflow says of it
        _downloaded(run, "file.bin")
    assert "'file.bin' couldn't be downloaded: HTTP 403" in caplog.text
    caplog.clear()
    with pytest.raises(MlflowException, match="ensure that the path is correct"):
        _downloaded(run, "no such file.bin")
    assert "couldn't be downloaded" not in caplog.text


def test_a_file_that_changes_while_it_is_downloaded_is_refused(
    azureml_workspace: EmulatorProcess, run: Any, tmp_path: Path
) -> None:
    _written(tmp_path / "file.bin", 33 * MEGABYTE)
    mlflow.log_artifact(str(tmp_path / "file.bin"))
    parts, first = [], blobs._first_part

    def then_replaced(*arguments: Any) -> Any:
        parts.append(first(*arguments))
        # Not mlflow.log_artifact: this thread has no active run.
        mlflow.MlflowClient().log_artifact(run.info.run_id, str(tmp_path / "file.bin"))
        return parts[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blobs, "_first_part", then_replaced)
        with pytest.raises(MlflowException, match=r"'file.bin' couldn't be downloaded: HTTP 412"):
            mlflow.artifacts.download_artifacts(f"{run.info.artifact_uri}/file.bin")


def test_a_mount_that_takes_no_writes_in_the_middle_gets_the_file(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = _written(tmp_path / "file.bin", 33 * MEGABYTE)
    mlflow.log_artifact(str(tmp_path / "file.bin"))
    mount, opened = str(tmp_path / "Volumes"), Path.open

    def only_from_the_start(self: Path, mode: str = "r", *arguments: Any) -> Any:
        assert mode != "r+b" or not str(self).startswith(mount), "a FUSE mount refuses this"
        return opened(self, mode, *arguments)

    monkeypatch.setattr(Path, "open", only_from_the_start)
    monkeypatch.setattr(blobs, "is_fuse_or_uc_volumes_uri", lambda path: path.startswith(mount))
    assert _downloaded(run, "file.bin", dst_path=mount).read_bytes() == content


def test_behind_a_proxy_no_file_waits_for_the_acknowledgement_of_its_headers(
    azureml_workspace: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = azureml_workspace.facts["tracking_uri"].partition("/mlflow/")[2]
    monkeypatch.setenv("HTTPS_PROXY", azureml_workspace.facts["proxy_url"])
    monkeypatch.delenv("AZURE_AUTHORITY_HOST")
    auth.tokens.cache_clear()
    connect, at_once = connection.create_connection, []

    def watched(*arguments: Any, **options: Any) -> socket.socket:
        connected = connect(*arguments, **options)
        at_once.append(bool(connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
        return connected

    (tmp_path / "small.txt").write_text("small")
    uri = f"azureml://westeurope.api.azureml.ms/mlflow/{path}"
    with aml_spark.configure(workspace=uri, experiment="artifacts", autolog=False), mlflow.start_run():
        mlflow.log_param("x", 1)  # connects to the workspace
        monkeypatch.setattr(connection, "create_connection", watched)
        mlflow.log_artifact(str(tmp_path / "small.txt"))
    assert at_once == [True]


def test_an_empty_file_replaces_what_was_there(run: Any, tmp_path: Path) -> None:
    (tmp_path / "file.bin").touch()
    mlflow.log_artifact(str(tmp_path / "file.bin"))
    (tmp_path / "down").mkdir()
    (tmp_path / "down" / "file.bin").write_text("from before")
    assert _downloaded(run, "file.bin", dst_path=str(tmp_path / "down")).read_bytes() == b""


def test_a_file_that_the_workspace_refuses_is_told_in_its_words(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file.bin").touch()
    told = {"error": {"code": "UserError", "message": "Resource Conflict: the artifact exists."}}
    answer = {"artifactContentInformation": {}, "errors": {"file.bin": told}}
    call = Service.call

    def answered(self: Service, method: str, path: str, *arguments: Any, **options: Any) -> Any:
        return answer if path.endswith("/batch/metadata") else call(self, method, path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Service, "call", answered)
        with pytest.raises(MlflowException, match=r"'file.bin' can't be uploaded: UserError: Resource Conflict"):
            mlflow.log_artifact(str(tmp_path / "file.bin"))


def test_a_file_that_changes_while_it_is_uploaded_is_refused(
    azureml_workspace: EmulatorProcess, run: Any, tmp_path: Path
) -> None:
    file = tmp_path / "growing.log"
    file.write_bytes(bytes(12 * MEGABYTE))
    azureml_workspace.plan(kind="slow", path="growing.log", seconds=3)

    def grow() -> None:  # once the first block is on its way
        while not any(method == "PUT" and "growing.log" in path for method, path in azureml_workspace.requests):
            time.sleep(0.05)
        file.open("ab").write(b"more")

    more = threading.Thread(target=grow)
    more.start()
    with pytest.raises(MlflowException, match=r"growing.log' changed while it was uploaded; nothing was stored"):
        mlflow.log_artifact(str(file))
    more.join()
    assert mlflow.MlflowClient().list_artifacts(run.info.run_id) == []


def test_the_addresses_of_a_folders_files_come_together(
    azureml_workspace: EmulatorProcess, run: Any, tmp_path: Path
) -> None:
    for number in range(120):
        (tmp_path / str(number)).write_text(str(number))
    mlflow.log_artifacts(str(tmp_path), "many/files")
    mlflow.log_text("no part of it", "many/files and more")
    for fault, most in ((None, 3), ("missing", 130)):  # pages of a hundred; where the service doesn't have that way
        azureml_workspace.forget()
        if fault:
            azureml_workspace.plan(kind=fault, path="prefix/contentinfo")
        found = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="many/files"))
        assert {file.name: file.read_text() for file in found.iterdir()} == {str(n): str(n) for n in range(120)}
        asked = [path for _, path in azureml_workspace.requests if path.startswith("/history/")]
        assert len(asked) <= most


def test_all_of_a_run_is_downloaded_by_its_address(run: Any, tmp_path: Path) -> None:
    mlflow.log_text("words", "note.txt")
    mlflow.log_text("more", "deep/er/note.txt")
    found = Path(mlflow.artifacts.download_artifacts(run.info.artifact_uri))
    files = {file.relative_to(found).as_posix(): file.read_text() for file in found.rglob("*") if file.is_file()}
    assert files == {"note.txt": "words", "deep/er/note.txt": "more"}
    assert [file.path for file in mlflow.artifacts.list_artifacts(run.info.artifact_uri)] == [
        "artifacts/deep",
        "artifacts/note.txt",
    ]


@pytest.mark.parametrize("path", ["../out.txt", "a/../../out.txt"])
def test_no_artifact_leaves_its_folder(run: Any, tmp_path: Path, path: str) -> None:
    with pytest.raises(MlflowException, match=r"[Ii]nvalid"):
        mlflow.log_text("words", path)


def test_no_error_shows_the_signature_of_an_address(
    azureml_workspace: EmulatorProcess, run: Any, tmp_path: Path
) -> None:
    mlflow.log_text("words", "note.txt")
    (tmp_path / "file.txt").write_text("words")
    for work in (
        lambda: mlflow.log_artifact(str(tmp_path / "file.txt")),
        lambda: mlflow.log_artifacts(str(tmp_path), "folder"),
        lambda: mlflow.artifacts.load_text(f"{run.info.artifact_uri}/note.txt"),
    ):
        azureml_workspace.plan(kind="unauthorized", path=STORAGE, times=99)
        with pytest.raises(MlflowException) as raised:
            work()
        told = "".join(traceback.format_exception(raised.value))
        assert "note.txt" in told or "file.txt" in told
        assert set(re.findall(r"sig=([^&\s'\")]*)", told)) <= {"***"}
