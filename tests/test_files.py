"""Files in a data lake: both ways, as a whole or not at all, through breaks, and by MLflow as a run's artifacts."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from azure.storage.filedatalake import DataLakeServiceClient, FileSystemClient

import aml_spark
from aml_spark import blobs, files
from aml_spark.datalake import AccountKey, LakePath, Location, SasToken
from aml_spark.errors import ArgumentError, DataLakeError

if TYPE_CHECKING:
    from aml_spark.testing import EmulatorProcess

MEGABYTE = 2**20
NAMES = ["a.txt", "with space/ü #1 100%+.bin", "deep/er/x=1/b.parquet", "empty"]


@pytest.fixture
def emulator(azureml_workspace: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> EmulatorProcess:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", str(2 * MEGABYTE))
    return azureml_workspace


@pytest.fixture
def sdk(emulator: EmulatorProcess) -> FileSystemClient:
    """Microsoft's client for a new file system."""
    service = DataLakeServiceClient(emulator.facts["lake_url"], credential=emulator.facts["lake_key"])
    return service.create_file_system(f"fs-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def place(emulator: EmulatorProcess, sdk: FileSystemClient) -> LakePath:
    location = Location(account=emulator.facts["lake_account"], filesystem=sdk.file_system_name, path="top")
    return LakePath(location=location, credential=AccountKey(key=emulator.facts["lake_key"]))


def _below(place: LakePath, name: str) -> LakePath:
    return LakePath(location=place.location / name, credential=place.credential)


def _folder(folder: Path) -> dict[str, bytes]:
    contents = {name: os.urandom(1000) for name in NAMES} | {"empty": b"", "large.bin": os.urandom(5 * MEGABYTE + 7)}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return contents


def _read(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_folder_goes_there_and_comes_back_and_microsofts_client_sees_the_same(
    place: LakePath, sdk: FileSystemClient, tmp_path: Path
) -> None:
    contents = _folder(tmp_path / "here")
    files.upload(tmp_path / "here", place)
    seen = {
        found.name.removeprefix("top/"): sdk.get_file_client(found.name).download_file().readall()
        for found in sdk.get_paths("top")
        if not found.is_directory
    }
    assert seen == contents
    files.download(place, tmp_path / "back")
    assert _read(tmp_path / "back") == contents
    assert {found.path.removeprefix("top/") for found in files.listed(place)} == {
        "a.txt", "deep", "empty", "large.bin", "with space"
    }  # fmt: skip
    sizes = {found.path: found.size for found in files.listed(place, recursive=True) if not found.is_folder}
    assert sizes == {f"top/{name}": len(content) for name, content in contents.items()}


def test_a_file_is_copied_under_the_name_of_the_place(place: LakePath, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    files.upload(tmp_path / "a", _below(place, "other name"))
    files.download(_below(place, "other name"), tmp_path / "new" / "b")
    assert (tmp_path / "new" / "b").read_bytes() == b"one"
    (tmp_path / "a").write_bytes(b"two")
    files.upload(tmp_path / "a", _below(place, "other name"))
    assert files.checksum(_below(place, "other name")) == base64.b64encode(hashlib.md5(b"two").digest()).decode()


def test_a_large_files_checksum_is_read_where_the_lake_keeps_none(place: LakePath, tmp_path: Path) -> None:
    content = os.urandom(5 * MEGABYTE)
    (tmp_path / "a").write_bytes(content)
    files.upload(tmp_path / "a", place)
    assert files.checksum(place) == base64.b64encode(hashlib.md5(content).digest()).decode()


def test_an_upload_that_broke_off_goes_on_where_it_was(
    emulator: EmulatorProcess, place: LakePath, sdk: FileSystemClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    content = os.urandom(9 * MEGABYTE)  # five parts
    (tmp_path / "a").write_bytes(content)
    emulator.plan(kind="cut-request", path=r"top.*comp=block&.*", times=1)
    emulator.plan(kind="forbidden", path="comp=blocklist", method="PUT", times=9)
    with pytest.raises(DataLakeError):
        files.upload(tmp_path / "a", place)
    assert not list(sdk.get_paths())  # nothing of it is seen
    emulator.forget()
    files.upload(tmp_path / "a", place)
    assert len([1 for method, _ in emulator.requests if method == "PUT"]) < 6  # the list, and what was missing
    assert sdk.get_file_client("top").download_file().readall() == content


def test_a_file_that_changes_while_it_is_read_is_refused_and_leaves_what_was_there(
    place: LakePath, sdk: FileSystemClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk.get_file_client("top").upload_data(os.urandom(40 * MEGABYTE), overwrite=True)
    (tmp_path / "a").write_bytes(b"old")
    read_part, one_at_a_time, changes = blobs._part, threading.Lock(), [b"new" * 20 * MEGABYTE]

    def changed_before(address: str, file: str, start: int, etag: str) -> None:
        with one_at_a_time:  # parts are read side by side
            while changes:
                sdk.get_file_client("top").upload_data(changes.pop(), overwrite=True)
        read_part(address, file, start, etag)

    monkeypatch.setattr(blobs, "_part", changed_before)
    with pytest.raises(DataLakeError, match=r"(?s)couldn't be downloaded: HTTP 412 .*ConditionNotMet"):
        files.download(place, tmp_path / "a")
    assert _read(tmp_path) == {"a": b"old"}


def test_moving_and_deleting(place: LakePath, sdk: FileSystemClient, tmp_path: Path) -> None:
    _folder(tmp_path / "here")
    files.upload(tmp_path / "here", place)
    moved = files.move(place, "elsewhere")
    assert moved.uri.endswith("/elsewhere")
    assert {found.name.split("/")[0] for found in sdk.get_paths()} == {"elsewhere"}
    files.delete(moved)
    assert not list(sdk.get_paths())
    with pytest.raises(DataLakeError, match=r"has no 'elsewhere' in .*NotFound"):
        files.delete(moved)
    root = LakePath(location=Location(account="abc", filesystem="def"), credential=moved.credential)
    with pytest.raises(ArgumentError, match="a whole file system"):
        files.delete(root)


@pytest.mark.parametrize(
    ("credential", "told"),
    [
        (AccountKey(key="bm90IHRoZSBrZXk="), "doesn't accept the key or the signature"),
        (SasToken(token="sv=2024-11-04&sr=c&sp=r&se=2020-01-01T00%3A00%3A00Z&sig=AAAA"), "doesn't accept the key"),
    ],
)
def test_what_the_account_refuses_says_which_and_shows_no_secret(
    place: LakePath, credential: Any, told: str, tmp_path: Path
) -> None:
    closed = LakePath(location=place.location, credential=credential)
    (tmp_path / "a").write_bytes(b"a")
    for work in (
        lambda: list(files.listed(closed)),
        lambda: files.upload(tmp_path / "a", closed),
        lambda: files.download(closed, tmp_path / "b"),
    ):
        with pytest.raises(DataLakeError) as failed:
            work()
        assert place.location.account in str(failed.value)
        assert "sig=A" not in str(failed.value)
        assert "bm90" not in str(failed.value)
    with pytest.raises(DataLakeError, match=told):
        list(files.listed(closed))
    with pytest.raises(ArgumentError, match="there is no file or folder"):
        files.upload(tmp_path / "nowhere", place)


def test_runs_keep_their_artifacts_in_the_lake(place: LakePath, sdk: FileSystemClient, tmp_path: Path) -> None:
    workspace = aml_spark.Workspace.local(tmp_path / "workspace")
    with aml_spark.configure(workspace=workspace, experiment="in lake", artifacts=place.uri, autolog=False):
        with mlflow.start_run() as run:
            mlflow.log_text("content", "a/b.txt")
            mlflow.log_dict({"x": 1}, "c.json")
        assert run.info.artifact_uri.startswith(f"{place.uri}/in_lake/")
        client = mlflow.MlflowClient()
        assert [found.path for found in client.list_artifacts(run.info.run_id)] == ["a", "c.json"]
        assert [found.path for found in client.list_artifacts(run.info.run_id, "a")] == ["a/b.txt"]
        got = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, dst_path=str(tmp_path))
        assert _read(Path(got))["a/b.txt"] == b"content"
    assert [found.name for found in sdk.get_paths() if found.name.endswith("b.txt")]
    assert not (tmp_path / "workspace" / "artifacts").exists()
