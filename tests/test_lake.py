"""The emulator's data lake, asked by Microsoft's own clients: paths, contents, leases, conditions, rights, faults."""

from __future__ import annotations

import base64
import datetime as dt
import email.utils
import hmac
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.identity import ClientSecretCredential
from azure.storage.blob import BlobServiceClient
from azure.storage.filedatalake import (
    ContentSettings,
    DataLakeLeaseClient,
    DataLakeServiceClient,
    FileSystemClient,
    LinearRetry,
    generate_account_sas,
    generate_directory_sas,
    generate_file_sas,
    generate_file_system_sas,
)
from mlflow.store.artifact.azure_data_lake_artifact_repo import AzureDataLakeArtifactRepository

from aml_spark.testing import Emulator, EmulatorProcess
from aml_spark.testing.lake.nodes import Conditions, LakeError
from aml_spark.testing.lake.storage import Lake

ACCOUNT = "amlsparklake"
AT_ONCE = {"retry_policy": LinearRetry(backoff=0, random_jitter_range=0)}
NEVER = {"retry_policy": None, "retry_total": 0}
NAMES = (
    "plain",
    "with space",
    "per%20cent %",
    "hash#mark",
    "plus+plus",
    "ünïcode-日本",
    "a&b=c;d",
    "q?mark",
    "it's,(so)!~",
)


@pytest.fixture
def emulator(azureml_emulator: EmulatorProcess) -> Iterator[EmulatorProcess]:
    azureml_emulator.forget(seed=1)
    yield azureml_emulator
    azureml_emulator.forget()


@pytest.fixture
def service(emulator: EmulatorProcess) -> DataLakeServiceClient:
    return _service(emulator.facts["lake_url"], emulator.facts["lake_key"])


@pytest.fixture
def files(service: DataLakeServiceClient) -> FileSystemClient:
    return service.create_file_system(f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def secured(emulator: EmulatorProcess) -> Callable[..., DataLakeServiceClient]:
    """A client over TLS with what it is given, or else with a token."""

    def made(credential: Any = None, **options: Any) -> DataLakeServiceClient:
        facts = emulator.facts
        url = f"{facts['arm_url']}/{ACCOUNT}"
        return _service(url, credential or _identity(facts), connection_verify=facts["authority_file"], **options)

    return made


def _service(url: str, credential: Any, **options: Any) -> DataLakeServiceClient:
    return DataLakeServiceClient(url, credential=credential, **{**AT_ONCE, **options})


def _identity(facts: dict[str, Any]) -> ClientSecretCredential:
    return ClientSecretCredential(
        facts["tenant_id"],
        facts["client_id"],
        facts["client_secret"],
        authority=facts["arm_url"],
        disable_instance_discovery=True,
        connection_verify=facts["authority_file"],
    )


def _in(hours: float) -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=hours)


def _upload(files: FileSystemClient, path: str, data: bytes = b"words") -> Any:
    client = files.get_file_client(path)
    client.upload_data(data, overwrite=True)
    return client


def _content(files: FileSystemClient, path: str) -> bytes:
    return bytes(files.get_file_client(path).download_file().readall())


def _code(raised: pytest.ExceptionInfo[HttpResponseError]) -> str:
    return str(getattr(raised.value.error_code, "value", raised.value.error_code))


# Filesystems and paths


def test_filesystems_are_made_listed_described_and_deleted(service: DataLakeServiceClient) -> None:
    name = f"fs-{uuid.uuid4().hex[:8]}"
    made = service.create_file_system(name, metadata={"Team": "delays"})
    with pytest.raises(ResourceExistsError):
        service.create_file_system(name)
    assert made.get_file_system_properties().metadata == {"Team": "delays"}
    made.set_file_system_metadata({"team": "other"})
    listed = list(service.list_file_systems(name, include_metadata=True))
    assert [(each.name, each.metadata) for each in listed] == [(name, {"team": "other"})]
    assert made.exists()
    service.delete_file_system(name)
    assert not made.exists()
    with pytest.raises(ResourceNotFoundError) as raised:
        list(made.get_paths())
    assert _code(raised) == "FilesystemNotFound"
    with pytest.raises(HttpResponseError, match="InvalidResourceName"):
        service.create_file_system("Not-A-Name")


def test_filesystems_are_listed_page_by_page(service: DataLakeServiceClient) -> None:
    prefix = f"many-{uuid.uuid4().hex[:8]}"
    names = [f"{prefix}-{number}" for number in range(5)]
    for name in names:
        service.create_file_system(name)
    pages = list(service.list_file_systems(prefix, results_per_page=2).by_page())
    assert [name.name for page in pages for name in page] == names


@pytest.mark.parametrize("name", NAMES)
def test_names_of_any_letters_are_kept(files: FileSystemClient, name: str) -> None:
    _upload(files, f"{name}/{name}", name.encode())
    assert _content(files, f"{name}/{name}") == name.encode()
    assert [path.name for path in files.get_paths()] == [name, f"{name}/{name}"]
    assert [path.name for path in files.get_paths(name)] == [f"{name}/{name}"]
    if "%" not in name:  # the client decodes the old name once more
        files.get_directory_client(name).rename_directory(f"{files.file_system_name}/other")
        assert _content(files, f"other/{name}") == name.encode()
        files.get_directory_client("other").rename_directory(f"{files.file_system_name}/{name}")
    files.get_file_client(f"{name}/{name}").delete_file()
    assert [path.name for path in files.get_paths()] == [name]


def test_a_list_goes_on_where_its_page_ended(files: FileSystemClient) -> None:
    expected = sorted(["d", *(f"d/{number:02}" for number in range(11)), "d.x", "e"], key=lambda path: path.split("/"))
    for path in expected:
        if path != "d":
            files.create_file(path)
    for size in (1, 5, 100):
        pages = [[path.name for path in page] for page in files.get_paths(max_results=size).by_page()]
        assert [name for page in pages for name in page] == expected
        assert max(len(page) for page in pages) <= size
    assert [path.name for path in files.get_paths(recursive=False)] == ["d", "d.x", "e"]
    found = {path.name: path for path in files.get_paths()}
    assert (found["d"].is_directory, found["e"].is_directory) == (True, False)
    with pytest.raises(ResourceNotFoundError):
        list(files.get_paths("absent"))


def test_directories_are_made_with_what_is_above_and_deleted_with_what_is_below(files: FileSystemClient) -> None:
    _upload(files, "a/b/c/file")
    files.create_directory("a/b")  # what is in it stays
    assert _content(files, "a/b/c/file") == b"words"
    assert files.get_directory_client("a/b").get_directory_properties().metadata == {"hdi_isfolder": "true"}
    with pytest.raises(ResourceExistsError):
        files.create_directory("a/b/c/file")
    with pytest.raises(ResourceExistsError):
        files.create_file("a/b/c/file/below")
    with pytest.raises(ResourceExistsError):
        files.create_file("a/b")
    files.delete_directory("a")
    assert list(files.get_paths()) == []


def test_a_directory_that_holds_something_isnt_deleted_by_itself(
    emulator: EmulatorProcess, files: FileSystemClient
) -> None:
    _upload(files, "a/file")
    url, sas = f"{emulator.facts['lake_url']}/{files.file_system_name}/a", _account_sas(emulator, "rwdl")
    refused = requests.delete(f"{url}?recursive=false&{sas}", timeout=9)
    assert (refused.status_code, refused.headers["x-ms-error-code"]) == (409, "DirectoryNotEmpty")
    assert refused.json()["error"]["code"] == "DirectoryNotEmpty"
    assert requests.delete(f"{url}?recursive=true&{sas}", timeout=9).status_code == 200


# Contents


@pytest.mark.parametrize("size", [0, 1, 2**20, 5 * 2**20 + 1])
def test_bytes_come_back_as_they_went(files: FileSystemClient, size: int) -> None:
    content = os.urandom(size)
    client = files.get_file_client("file")
    client.create_file()
    client.upload_data(content, overwrite=True, chunk_size=2**20, max_concurrency=3)
    assert client.get_file_properties().size == size
    assert client.download_file(max_concurrency=3).readall() == content
    for start, length in ((0, 1), (size // 2, 100), (max(0, size - 1), 10), (2**20 - 3, 7)):
        if start < size:
            assert client.download_file(start, length).readall() == content[start : start + length]
    if size:
        with pytest.raises(HttpResponseError) as raised:
            client.download_file(size, 1)
        assert (raised.value.status_code, _code(raised)) == (416, "InvalidRange")


def test_what_isnt_flushed_isnt_seen(files: FileSystemClient) -> None:
    client = _upload(files, "file", b"before")
    client.append_data(b" and", 6)
    client.append_data(b" after", 10)
    assert client.download_file().readall() == b"before"
    for position in (5, 9, 17):
        with pytest.raises(HttpResponseError) as raised:
            client.flush_data(position)
        assert _code(raised) == "InvalidFlushPosition"
    client.append_data(b" and", 6)  # again, as after a lost answer
    client.flush_data(16)
    assert client.download_file().readall() == b"before and after"
    client.append_data(b"!", 16, flush=True)
    assert client.download_file().readall() == b"before and after!"
    client.append_data(b"gap", 30)
    with pytest.raises(HttpResponseError, match="InvalidFlushPosition"):
        client.flush_data(33)
    with pytest.raises(ResourceNotFoundError):
        files.get_file_client("absent").append_data(b"x", 0)


def test_what_was_broken_on_the_way_is_refused(emulator: EmulatorProcess, files: FileSystemClient) -> None:
    client = _upload(files, "file")
    client.append_data(b"more", 5, validate_content=True)
    sas = _account_sas(emulator, "rwdl")
    url = f"{emulator.facts['lake_url']}/{files.file_system_name}/file?action=append&position=9&{sas}"
    refused = requests.patch(url, data=b"x", headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}, timeout=9)
    assert (refused.status_code, refused.headers["x-ms-error-code"]) == (400, "Md5Mismatch")
    client.flush_data(9)
    assert client.download_file(validate_content=True).readall() == b"wordsmore"


def test_properties_metadata_and_kinds_of_content_are_kept(files: FileSystemClient) -> None:
    settings = ContentSettings(content_type="text/csv", content_language="de", cache_control="no-cache")
    client = files.create_file("file", content_settings=settings, metadata={"a": "1", "b": "zwei"})
    seen = client.get_file_properties()
    assert seen.metadata == {"a": "1", "b": "zwei"}
    assert (seen.content_settings.content_type, seen.content_settings.content_language) == ("text/csv", "de")
    client.set_metadata({"c": "3"})
    client.set_http_headers(ContentSettings(content_type="text/plain"))
    seen = client.get_file_properties()
    assert (seen.metadata, seen.content_settings.content_type) == ({"c": "3"}, "text/plain")
    assert seen.content_settings.content_language is None
    assert client.download_file().properties.content_settings.content_type == "text/plain"


def test_a_file_that_is_written_over_is_another_one(files: FileSystemClient) -> None:
    client = _upload(files, "file", b"old")
    old = client.get_file_properties().etag
    _upload(files, "file", b"new")
    assert client.get_file_properties().etag != old
    for work in (
        lambda: client.download_file(etag=old, match_condition=MatchConditions.IfNotModified),
        lambda: client.create_file(etag=old, match_condition=MatchConditions.IfNotModified),
        lambda: client.delete_file(etag=old, match_condition=MatchConditions.IfNotModified),
        lambda: client.set_metadata({"a": "1"}, if_unmodified_since=_in(-1)),
        lambda: client.flush_data(3, etag=old, match_condition=MatchConditions.IfNotModified),
    ):
        with pytest.raises(ResourceModifiedError):
            work()
    with pytest.raises(ResourceExistsError) as raised:
        client.create_file(match_condition=MatchConditions.IfMissing)
    assert _code(raised) == "PathAlreadyExists"
    assert client.download_file(if_modified_since=_in(-1)).readall() == b"new"
    with pytest.raises(HttpResponseError) as unchanged:
        client.download_file(if_modified_since=_in(1))
    assert unchanged.value.status_code == 304


# Renames


def test_a_directory_is_renamed_with_all_that_is_in_it(service: DataLakeServiceClient, files: FileSystemClient) -> None:
    name = files.file_system_name
    for path in ("a/b/1", "a/b/c/2", "ab/3"):
        _upload(files, path, path.encode())
    etag = files.get_file_client("a/b/1").get_file_properties().etag
    files.create_directory("x")
    files.get_directory_client("a/b").rename_directory(f"{name}/x/y")
    assert [path.name for path in files.get_paths()] == [
        "a", "ab", "ab/3", "x", "x/y", "x/y/1", "x/y/c", "x/y/c/2"
    ]  # fmt: skip
    assert _content(files, "x/y/c/2") == b"a/b/c/2"
    assert files.get_file_client("x/y/1").get_file_properties().etag == etag
    other = service.create_file_system(f"{name}-2")
    files.get_directory_client("x").rename_directory(f"{name}-2/moved")
    assert _content(other, "moved/y/1") == b"a/b/1"
    with pytest.raises(ResourceNotFoundError) as raised:
        files.get_directory_client("x").rename_directory(f"{name}/again")
    assert _code(raised) == "SourcePathNotFound"


def test_a_rename_that_cant_be_is_refused(files: FileSystemClient) -> None:
    name = files.file_system_name
    for path in ("a/b/1", "full/2", "file"):
        _upload(files, path, path.encode())
    files.create_directory("empty")
    directory, file = files.get_directory_client("a"), files.get_file_client("file")
    for work, code in (
        (lambda: directory.rename_directory(f"{name}/a/b/c"), "InvalidRenameSourcePath"),
        (lambda: directory.rename_directory(f"{name}/a"), "InvalidRenameSourcePath"),
        (lambda: directory.rename_directory(f"{name}/full"), "DirectoryNotEmpty"),
        (lambda: directory.rename_directory(f"{name}/file"), "InvalidSourceOrDestinationResourceType"),
        (lambda: file.rename_file(f"{name}/absent/file"), "RenameDestinationParentPathNotFound"),
        (lambda: file.rename_file(f"{name}/full/2", match_condition=MatchConditions.IfMissing), "PathAlreadyExists"),
        (
            lambda: file.rename_file(
                f"{name}/new", source_etag="0x1", source_match_condition=MatchConditions.IfNotModified
            ),
            "SourceConditionNotMet",
        ),
    ):
        with pytest.raises(HttpResponseError) as raised:
            work()
        assert _code(raised) == code
    directory.rename_directory(f"{name}/empty")
    file.rename_file(f"{name}/full/2")
    assert (_content(files, "empty/b/1"), _content(files, "full/2")) == (b"a/b/1", b"file")


def test_of_many_renames_to_one_name_one_wins(emulator: EmulatorProcess, files: FileSystemClient) -> None:
    for round_ in range(5):
        for number in range(8):
            _upload(files, f"{round_}-{number}", str(number).encode())
        start = threading.Barrier(8)

        def commit(number: int, round_: int = round_, start: threading.Barrier = start) -> int | None:
            own = _service(emulator.facts["lake_url"], emulator.facts["lake_key"])
            client = own.get_file_client(files.file_system_name, f"{round_}-{number}")
            client.get_file_properties()
            start.wait()
            try:
                client.rename_file(f"{files.file_system_name}/{round_}", match_condition=MatchConditions.IfMissing)
            except ResourceExistsError:
                return None
            return number

        with ThreadPoolExecutor(8) as threads:
            winners = [number for number in threads.map(commit, range(8)) if number is not None]
        assert len(winners) == 1
        assert _content(files, str(round_)) == str(winners[0]).encode()
        assert len([path for path in files.get_paths() if path.name.startswith(f"{round_}-")]) == 7


# Leases


def test_a_leased_file_takes_writes_from_its_holder_only(files: FileSystemClient) -> None:
    client = _upload(files, "file")
    lease = client.acquire_lease(15)
    for work in (
        lambda **given: client.append_data(b"x", 5, **given),
        lambda **given: client.set_metadata({"a": "1"}, **given),
        client.delete_file,
        client.create_file,
        lambda **given: client.rename_file(f"{files.file_system_name}/other", source_lease=given.get("lease")),
    ):
        with pytest.raises(HttpResponseError) as raised:
            work()
        assert (raised.value.status_code, _code(raised)) == (412, "LeaseIdMissing")
        with pytest.raises(HttpResponseError) as raised:
            work(lease=str(uuid.uuid4()))
        assert _code(raised) == "LeaseIdMismatchWithBlobOperation"
    assert client.download_file().readall() == b"words"
    with pytest.raises(HttpResponseError) as raised:
        client.acquire_lease(15)
    assert _code(raised) == "LeaseAlreadyPresent"
    seen = client.get_file_properties().lease
    assert (seen.state, seen.status, seen.duration) == ("leased", "locked", "fixed")
    lease.renew()
    lease.change(str(uuid.uuid4()))
    client.append_data(b"x", 5, flush=True, lease=lease)
    lease.release()
    client.set_metadata({"a": "1"})
    with pytest.raises(HttpResponseError) as raised:
        client.set_metadata({"a": "1"}, lease=str(uuid.uuid4()))
    assert _code(raised) == "LeaseNotPresentWithBlobOperation"


def test_a_lease_is_broken_and_one_of_a_filesystem_guards_it(
    service: DataLakeServiceClient, files: FileSystemClient
) -> None:
    client = _upload(files, "file")
    lease = client.acquire_lease()
    assert lease.break_lease() == 0
    client.set_metadata({"a": "1"})
    with pytest.raises(HttpResponseError) as raised:
        lease.renew()
    assert _code(raised) == "LeaseIsBrokenAndCannotBeRenewed"
    held = DataLakeLeaseClient(files)
    held.acquire()
    with pytest.raises(HttpResponseError) as raised:
        files.delete_file_system()
    assert _code(raised) == "LeaseIdMissing"
    files.delete_file_system(lease=held)


def test_a_write_brings_its_lease_along(files: FileSystemClient) -> None:
    client = files.create_file("file")
    lease = str(uuid.uuid4())
    client.append_data(b"one", 0, lease_action="acquire", lease_duration=15, lease=lease)
    with pytest.raises(HttpResponseError, match="LeaseIdMissing"):
        client.flush_data(3)
    client.flush_data(3, lease_action="release", lease=lease)
    client.append_data(b"two", 3, flush=True)
    assert client.download_file().readall() == b"onetwo"


# Who may


def test_permissions_and_lists_are_kept_and_inherited(files: FileSystemClient) -> None:
    client = files.create_file("file", permissions="0640", umask="0000")
    assert client.get_access_control()["permissions"] == "rw-r-----"
    client.set_access_control(permissions="rwxr-x--x")
    assert client.get_access_control()["acl"] == "user::rwx,group::r-x,other::--x"
    client.set_access_control(owner="me", group="us", acl="user::rw-,user:them:r--,group::r--,other::---")
    seen = client.get_access_control()
    assert (seen["owner"], seen["group"], seen["permissions"]) == ("me", "us", "rw-r-----+")
    assert seen["acl"] == "user::rw-,user:them:r--,group::r--,mask::r--,other::---"
    directory = files.create_directory("d", permissions="1777", umask="0000")
    assert directory.get_access_control()["permissions"] == "rwxrwxrwt"
    directory.set_access_control(
        acl="user::rwx,group::r-x,other::---,default:user::rwx,default:group::---,default:other::--x"
    )
    assert directory.create_file("inherits").get_access_control()["acl"] == "user::rwx,group::---,other::--x"
    _upload(files, "d/e/f")
    changed = directory.update_access_control_recursive("user:them:r-x")
    assert (changed.counters.directories_successful, changed.counters.files_successful) == (2, 2)
    assert "user:them:r-x" in files.get_file_client("d/e/f").get_access_control()["acl"]
    directory.remove_access_control_recursive("user:them")
    assert "them" not in files.get_file_client("d/e/f").get_access_control()["acl"]
    with pytest.raises(HttpResponseError, match="InvalidAccessControlList"):
        client.set_access_control(acl="user::wrong")


def _account_sas(emulator: EmulatorProcess, permission: str, **options: Any) -> str:
    key = emulator.facts["lake_key"]
    return str(
        generate_account_sas(
            ACCOUNT, key, **{"resource_types": "sco", "permission": permission, "expiry": _in(1), **options}
        )
    )


def test_who_shows_no_good_proof_is_refused(emulator: EmulatorProcess, files: FileSystemClient) -> None:
    url, key = emulator.facts["lake_url"], emulator.facts["lake_key"]
    _upload(files, "file")
    place = f"{url}/{files.file_system_name}/file"
    nobody = requests.get(place, timeout=9)
    assert (nobody.status_code, nobody.headers["x-ms-error-code"]) == (401, "NoAuthenticationInformation")
    assert nobody.headers["WWW-Authenticate"].startswith("Bearer authorization_uri=")
    wrong = "A" * 86 + "=="
    for credential in (
        wrong,
        _account_sas(emulator, "rl", expiry=_in(-1)),
        _account_sas(emulator, "rl").replace("sp=rl", "sp=rwl"),
    ):
        with pytest.raises(ClientAuthenticationError) as raised:
            _service(url, credential).get_file_client(files.file_system_name, "file").get_file_properties()
        assert raised.value.status_code == 403
        assert key not in str(raised.value)
        with pytest.raises(HttpResponseError, match="AuthenticationFailed"):
            list(_service(url, credential).get_file_system_client(files.file_system_name).get_paths())
    bad = requests.get(place, headers={"Authorization": "Bearer nonsense"}, timeout=9)
    assert (bad.status_code, bad.headers["x-ms-error-code"]) == (401, "InvalidAuthenticationInfo")


def test_an_accounts_signature_names_kind_and_permission(emulator: EmulatorProcess, files: FileSystemClient) -> None:
    _upload(files, "file")
    url, name = emulator.facts["lake_url"], files.file_system_name
    reader = _service(url, _account_sas(emulator, "rl", resource_types="co"))
    assert _content(reader.get_file_system_client(name), "file") == b"words"
    assert [path.name for path in reader.get_file_system_client(name).get_paths()] == ["file"]
    for work, code in (
        (lambda: reader.get_file_client(name, "new").create_file(), "AuthorizationPermissionMismatch"),
        (lambda: reader.get_file_client(name, "file").delete_file(), "AuthorizationPermissionMismatch"),
        (lambda: list(reader.list_file_systems()), "AuthorizationResourceTypeMismatch"),
    ):
        with pytest.raises(HttpResponseError) as raised:
            work()
        assert (raised.value.status_code, _code(raised)) == (403, code)
    only_secured = _service(url, _account_sas(emulator, "rl", protocol="https"))
    with pytest.raises(HttpResponseError, match="AuthorizationProtocolMismatch"):
        _content(only_secured.get_file_system_client(name), "file")


@pytest.mark.parametrize("signer", ["key", "user"])
def test_a_signature_is_good_for_its_place(
    emulator: EmulatorProcess,
    files: FileSystemClient,
    secured: Callable[..., DataLakeServiceClient],
    signer: str,
) -> None:
    name, ca_file = files.file_system_name, emulator.facts["authority_file"]
    for path in ("in/deep/file", "in/file", "out/file", "inner"):
        _upload(files, path, path.encode())
    key = emulator.facts["lake_key"] if signer == "key" else secured().get_user_delegation_key(_in(-1), _in(1))
    until = _in(1)
    everywhere = secured(generate_file_system_sas(ACCOUNT, name, key, "racwdlmeop", until)).get_file_system_client(name)
    below = secured(generate_directory_sas(ACCOUNT, name, "in", key, "racwdlmeop", until)).get_file_system_client(name)
    one = secured(generate_file_sas(ACCOUNT, name, "in", "file", key, "r", until)).get_file_system_client(name)
    assert _content(everywhere, "out/file") == b"out/file"
    assert _content(below, "in/deep/file") == b"in/deep/file"
    assert _content(one, "in/file") == b"in/file"
    assert [path.name for path in below.get_paths("in")] == ["in/deep", "in/deep/file", "in/file"]
    _upload(below, "in/new", b"new")
    below.get_file_client("in/new").rename_file(f"{name}/in/newer")
    assert _content(files, "in/newer") == b"new"
    made_only = secured(generate_file_system_sas(ACCOUNT, name, key, "c", until)).get_file_system_client(name)
    made_only.get_file_client("out/made").create_file()
    for work in (
        lambda: _content(below, "out/file"),
        lambda: _content(below, "inner"),
        lambda: list(below.get_paths()),
        lambda: list(below.get_paths("out")),
        lambda: below.get_file_client("in/file").rename_file(f"{name}/out/stolen"),
        lambda: _content(one, "in/deep/file"),
        lambda: one.get_file_client("in/file").delete_file(),
        everywhere.delete_file_system,
        lambda: one.get_file_client("in/file").set_access_control(permissions="0777"),
        lambda: made_only.get_file_client("out/file").create_file(),
        lambda: _content(made_only, "out/file"),
    ):
        with pytest.raises(HttpResponseError) as raised:
            work()
        assert raised.value.status_code == 403
    place = f"{secured().url}{name}?{generate_directory_sas(ACCOUNT, name, 'in', key, 'racwdlmeop', until)}"
    for listed in ("comp=list&restype=container&prefix=in", "resource=filesystem&recursive=true&prefix=in&directory="):
        assert requests.get(f"{place}&{listed}", verify=ca_file, timeout=9).status_code == 403
    changing = requests.patch(
        place.replace("?", "/?") + "&action=setAccessControl&directory=in",
        headers={"x-ms-permissions": "0777"},
        verify=ca_file,
        timeout=9,
    )
    assert changing.status_code == 403
    late = secured(generate_directory_sas(ACCOUNT, name, "in", key, "r", _in(-0.5))).get_file_system_client(name)
    with pytest.raises(ClientAuthenticationError):
        _content(late, "in/file")


USER = "skoid sktid skt ske sks skv"


@pytest.mark.parametrize(
    ("version", "signed"),
    [
        ("2018-11-09", "si sip spr sv sr snapshot"),
        ("2020-12-06", "si sip spr sv sr snapshot ses"),
        ("2018-11-09", f"{USER} sip spr sv sr snapshot"),
        ("2020-02-10", f"{USER} saoid suoid scid sip spr sv sr snapshot"),
        ("2020-12-06", f"{USER} saoid suoid scid sip spr sv sr snapshot ses"),
        ("2025-07-05", f"{USER} saoid suoid scid skdutid sduoid sip spr sv sr snapshot ses"),
    ],
)
def test_older_versions_of_signatures_sign_less(
    emulator: EmulatorProcess,
    files: FileSystemClient,
    secured: Callable[..., DataLakeServiceClient],
    version: str,
    signed: str,
) -> None:
    _upload(files, "in/file")
    args = {"sp": "r", "se": _in(1).strftime("%Y-%m-%dT%H:%M:%SZ"), "sv": version, "sr": "d", "sdd": "1", "rsct": "a/b"}
    key = emulator.facts["lake_key"]
    if signed.startswith(USER):
        given = secured().get_user_delegation_key(_in(-1), _in(1))
        key = given.value
        names = ("oid", "tid", "start", "expiry", "service", "version")
        args |= dict(zip(USER.split(), (getattr(given, f"signed_{name}") for name in names), strict=True))
    lines = [args["sp"], "", args["se"], f"/blob/{ACCOUNT}/{files.file_system_name}/in"]
    lines += [args.get(name, "") for name in f"{signed} rscc rscd rsce rscl rsct".split()]
    digest = hmac.digest(base64.b64decode(key), "\n".join(lines).encode(), "sha256")
    place = f"{emulator.facts['lake_url']}/{files.file_system_name}/in/file"
    for signature, status in ((digest, 200), (digest[::-1], 403)):
        args["sig"] = base64.b64encode(signature).decode()
        assert requests.get(place, params=args, timeout=9).status_code == status


def test_a_rename_needs_both_of_its_signatures(emulator: EmulatorProcess, files: FileSystemClient) -> None:
    url, name, key = emulator.facts["lake_url"], files.file_system_name, emulator.facts["lake_key"]
    files.create_directory("to")
    _upload(files, "from/file")
    source, target = (generate_directory_sas(ACCOUNT, name, place, key, "m", _in(1)) for place in ("from", "to"))
    place = f"{url}/{name}/to/file?{target}"
    for header, status in ((f"/{name}/from/file?{target}", 403), (f"/{name}/from/file?{source}", 201)):
        assert requests.put(place, headers={"x-ms-rename-source": header}, timeout=9).status_code == status
    assert _content(files, "to/file") == b"words"


def test_lists_refuse_the_bearer_of_a_token(
    files: FileSystemClient, secured: Callable[..., DataLakeServiceClient]
) -> None:
    mine = secured().get_file_system_client(files.file_system_name)
    for path in ("open/file", "closed/file", "open/secret"):
        _upload(mine, path)
    files.get_directory_client("closed").set_access_control(permissions="---------")
    files.get_file_client("open/secret").set_access_control(owner="somebody", acl="user::rwx,group::---,other::---")
    assert _content(mine, "open/file") == b"words"
    for work in (
        lambda: _content(mine, "closed/file"),
        lambda: _content(mine, "open/secret"),
        lambda: _upload(mine, "closed/new"),
        lambda: mine.get_file_client("closed/file").delete_file(),
        lambda: list(mine.get_paths("closed")),
        lambda: mine.get_file_client("open/secret").set_access_control(permissions="0777"),
        lambda: mine.get_file_client("open/secret").append_data(b"x", 5),
    ):
        with pytest.raises(HttpResponseError) as raised:
            work()
        assert (raised.value.status_code, _code(raised)) == (403, "AuthorizationPermissionMismatch")
    assert _content(files, "closed/file") == b"words"  # who has the key isn't asked


def test_a_users_signature_can_be_for_somebody_whom_the_lists_name(
    files: FileSystemClient, secured: Callable[..., DataLakeServiceClient]
) -> None:
    name = files.file_system_name
    for path in ("given/file", "kept/file"):
        _upload(files, path)
    for path in ("/", "given"):
        files.get_directory_client(path).set_access_control(acl="user::rwx,user:them:r-x,group::r-x,other::---")
    files.get_file_client("given/file").set_access_control(permissions="0644")
    key = secured().get_user_delegation_key(_in(-1), _in(1))
    for agent, refused in (("them", ["kept"]), ("others", ["given", "kept"])):
        sas = generate_file_system_sas(ACCOUNT, name, key, "rl", _in(1), agent_object_id=agent)
        theirs = secured(sas).get_file_system_client(name)
        for folder in ("given", "kept"):
            if folder not in refused:
                assert _content(theirs, f"{folder}/file") == b"words"
                continue
            with pytest.raises(HttpResponseError) as raised:
                _content(theirs, f"{folder}/file")
            assert _code(raised) == "AuthorizationPermissionMismatch"


def test_tokens_for_others_arent_taken_and_ways_to_them(emulator: EmulatorProcess, files: FileSystemClient) -> None:
    facts = emulator.facts
    plain = facts["lake_url"].removesuffix(f"/{ACCOUNT}")
    asked = {"resource": "https://storage.azure.com/"}
    form = {
        "grant_type": "client_credentials",
        "client_id": facts["client_id"],
        "client_secret": facts["client_secret"],
    }
    ways = (
        requests.get(f"{plain}/metadata/identity/oauth2/token", params=asked, headers={"Metadata": "true"}, timeout=9),
        requests.post(f"{plain}/{facts['tenant_id']}/oauth2/token", data=form | asked, timeout=9),
    )
    for way in ways:
        assert type(way.json()["expires_in"]) is int
        assert _asked(emulator, files, way.json()["access_token"]).status_code == 200
    for_others = requests.post(
        f"{plain}/{facts['tenant_id']}/oauth2/token", data=form | {"resource": "https://vault.azure.net"}, timeout=9
    ).json()["access_token"]
    refused = _asked(emulator, files, for_others)
    assert (refused.status_code, refused.headers["x-ms-error-code"]) == (401, "InvalidAuthenticationInfo")
    assert requests.get(f"{plain}/metadata/identity/oauth2/token", params=asked, timeout=9).status_code == 400


def _asked(emulator: EmulatorProcess, files: FileSystemClient, token: str) -> requests.Response:
    url = f"{emulator.facts['lake_url']}/{files.file_system_name}?resource=filesystem&recursive=true"
    return requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=9)


# Other clients


def test_blob_clients_see_the_same_files(emulator: EmulatorProcess, files: FileSystemClient) -> None:
    blobs = BlobServiceClient(emulator.facts["lake_url"], emulator.facts["lake_key"], **AT_ONCE)
    assert blobs.get_account_information()["is_hns_enabled"] is True
    container = blobs.get_container_client(files.file_system_name)
    container.upload_blob("a/whole", b"whole", metadata={"k": "v"})
    container.get_blob_client("a/blocks").upload_blob(os.urandom(5000), max_concurrency=2)
    small = BlobServiceClient(
        emulator.facts["lake_url"], emulator.facts["lake_key"], max_block_size=1000, max_single_put_size=1000
    ).get_container_client(files.file_system_name)
    content = os.urandom(4500)
    small.upload_blob("a/blocks", content, overwrite=True)
    assert _content(files, "a/blocks") == content
    assert container.download_blob("a/blocks", 999, 2).readall() == content[999:1001]
    with pytest.raises(ResourceExistsError) as raised:
        container.upload_blob("a/whole", b"again")
    assert _code(raised) == "BlobAlreadyExists"
    _upload(files, "b", b"by the other")
    found = {blob.name: blob.metadata or {} for blob in container.list_blobs(include=["metadata"])}
    assert found == {"a": {"hdi_isfolder": "true"}, "a/blocks": {}, "a/whole": {"k": "v"}, "b": {}}
    assert [blob.name for blob in container.walk_blobs()] == ["a/", "b"]
    pages = container.list_blobs("a/", results_per_page=1).by_page()
    assert [[blob.name for blob in page] for page in pages] == [["a/blocks"], ["a/whole"]]
    container.delete_blob("b")
    with pytest.raises(ResourceNotFoundError) as absent:
        container.download_blob("b")
    assert _code(absent) == "BlobNotFound"


def test_the_hosts_of_azure_lead_here(
    emulator: EmulatorProcess, files: FileSystemClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    facts, name = emulator.facts, files.file_system_name
    for variable, value in {
        "HTTPS_PROXY": facts["proxy_url"],
        "NO_PROXY": "127.0.0.1",
        "REQUESTS_CA_BUNDLE": facts["authority_file"],
        "MLFLOW_ENABLE_MULTIPART_UPLOAD": "true",
        "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": str(2**20),
    }.items():
        monkeypatch.setenv(variable, value)
    hosted = _service(f"https://{ACCOUNT}.dfs.core.windows.net", _identity(facts)).get_file_system_client(name)
    _upload(hosted, "a b/ü+%", b"by name")
    assert _content(hosted, "a b/ü+%") == b"by name"
    hosted.get_file_client("a b/ü+%").set_metadata({"a": "1"})
    keyed = BlobServiceClient(f"https://{ACCOUNT}.blob.core.windows.net", facts["lake_key"], **AT_ONCE)
    assert keyed.get_blob_client(name, "a b/ü+%").download_blob().readall() == b"by name"
    folder = tmp_path / "up"
    folder.mkdir()
    content = {"empty": b"", "small": b"words", "large file": os.urandom(3 * 2**20 + 1)}
    for file, data in content.items():
        (folder / file).write_bytes(data)
    sas = generate_file_system_sas(ACCOUNT, name, facts["lake_key"], "racwdl", _in(1))
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", sas)
    repository = AzureDataLakeArtifactRepository(f"abfss://{name}@{ACCOUNT}.dfs.core.windows.net/runs/1")
    repository.log_artifacts(str(folder), "model")
    assert [file.path for file in repository.list_artifacts("model")] == [f"model/{file}" for file in sorted(content)]
    down = Path(repository.download_artifacts("model", str(tmp_path)))
    assert {file.name: file.read_bytes() for file in down.iterdir()} == content


def test_a_method_that_java_cant_send_is_named_in_a_header_and_large_bodies_wait(
    emulator: EmulatorProcess, files: FileSystemClient
) -> None:
    files.create_file("file")
    sas = _account_sas(emulator, "rw")
    address = emulator.facts["lake_url"].removeprefix("http://")
    host, port = address.split("/")[0].split(":")
    path = f"/{ACCOUNT}/{files.file_system_name}/file?action=append&position=0&flush=true&close=true&{sas}"
    with socket.create_connection((host, int(port)), timeout=9) as raw:
        reader = raw.makefile("rb")

        def answered() -> tuple[str, dict[str, str]]:
            status, headers = reader.readline().decode().strip(), {}
            while line := reader.readline().decode().strip():
                headers[line.partition(":")[0].lower()] = line.partition(":")[2].strip()
            reader.read(int(headers.get("content-length", 0)))
            return status, headers

        start = f"PUT {path} HTTP/1.1\r\nHost: {host}:{port}\r\nX-HTTP-Method-Override: PATCH\r\n"
        for sent in ("first", "again"):  # on one connection; the second time it is an error
            raw.sendall(f"{start}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n".encode())
            assert answered()[0].startswith("HTTP/1.1 100")
            raw.sendall(sent.encode())
            status, headers = answered()
            expected = ("202", None) if sent == "first" else ("400", "InvalidFlushPosition")
            assert (status.split()[1], headers.get("x-ms-error-code")) == expected
    assert _content(files, "file") == b"first"


def test_requests_that_are_signed_as_hadoop_signs_them(emulator: EmulatorProcess, files: FileSystemClient) -> None:
    """In plain order, with the range, without arguments that are empty, and without the content type that Java adds."""
    session = requests.Session()

    def asked(method: str, path: str, data: bytes = b"", **headers: str) -> requests.Response:
        headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2023-11-03", **headers}
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        place, _, query = f"/{ACCOUNT}/{files.file_system_name}{path}".partition("?")
        lines = [method, "", "", str(len(data)) if data else "", "", "", "", "", headers.get("If-Match", "")]
        lines += [headers.get("If-None-Match", ""), "", headers.get("Range", "")]
        lines += sorted(f"{name}:{value}" for name, value in headers.items() if name.startswith("x-ms-"))
        pairs = (pair.partition("=") for pair in query.split("&"))
        lines += [f"/{ACCOUNT}{place}", *sorted(f"{name.lower()}:{value}" for name, _, value in pairs if value)]
        key = base64.b64decode(emulator.facts["lake_key"])
        signature = base64.b64encode(hmac.digest(key, "\n".join(lines).encode(), "sha256")).decode()
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{signature}"
        headers["Accept"] = "application/json, application/octet-stream"
        if method == "POST":
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        return session.request(method, f"{emulator.facts['lake_url']}{place.removeprefix(f'/{ACCOUNT}')}?{query}",
                               data=data, headers=headers, timeout=9)  # fmt: skip

    root = asked("HEAD", "/?action=getAccessControl&upn=false")
    assert (root.status_code, root.headers["x-ms-resource-type"]) == (200, "directory")
    assert root.headers["x-ms-acl"] == "user::rwx,group::r-x,other::---"
    assert asked("HEAD", "?resource=filesystem").headers["x-ms-namespace-enabled"] == "true"
    made = asked("PUT", "/a%20b?resource=file", If_None_Match="*", x_ms_permissions="0640", x_ms_umask="0022")
    assert (made.status_code, asked("PUT", "/a%20b?resource=file", If_None_Match="*").status_code) == (201, 409)
    etag = asked("HEAD", "/a%20b?action=getStatus").headers["ETag"].strip('"')
    changed = {"X_HTTP_Method_Override": "PATCH"}
    assert asked("PUT", "/a%20b?action=append&position=0", b"0123456789", **changed).status_code == 202
    flushed = asked("PUT", "/a%20b?action=flush&close=true&position=10&retainUncommittedData=false", **changed)
    assert flushed.status_code == 200
    told = asked("HEAD", "/a%20b?upn=false&continuation=")
    assert (told.headers["Content-Length"], told.headers["x-ms-permissions"]) == ("10", "rw-r-----")
    assert asked("GET", "/a%20b", Range="bytes=2-5", If_Match=etag).status_code == 412
    etag = told.headers["ETag"].strip('"')
    part = asked("GET", "/a%20b", Range="bytes=2-50", If_Match=etag)
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"23456789", "bytes 2-9/10")
    leased = asked("POST", "/a%20b", x_ms_lease_action="acquire", x_ms_lease_duration="-1")
    assert leased.status_code == 201
    lease = leased.headers["x-ms-lease-id"]
    assert asked("DELETE", "/a%20b?recursive=false").headers["x-ms-error-code"] == "LeaseIdMissing"
    assert asked("POST", "/a%20b", x_ms_lease_action="release", x_ms_lease_id=lease).status_code == 200
    source = {"x_ms_rename_source": f"/{files.file_system_name}/a%20b", "If_None_Match": "*"}
    assert asked("PUT", "/c", **source).status_code == 201
    listed = asked("GET", "?directory=&maxResults=500&recursive=false&resource=filesystem&upn=false").json()["paths"]
    assert [(path["name"], path["contentLength"], "isDirectory" in path) for path in listed] == [("c", "10", False)]
    assert listed[0]["etag"] == etag
    assert asked("PUT", "/c?resource=directory").headers["x-ms-existing-resource-type"] == "file"


# What stays


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # of an authority that everybody trusts
def test_a_restart_on_the_same_folder_keeps_all(tmp_path: Path) -> None:
    with Emulator(tmp_path) as facts:
        files = _service(facts["lake_url"], facts["lake_key"]).create_file_system("kept")
        client = _upload(files, "a/file", bytes(range(256)) * 9000)
        client.append_data(b"more", 256 * 9000)
        before = client.get_file_properties()
        key = facts["lake_key"]
        assert key not in str(facts["environment"])
    assert (tmp_path / "lake.key").stat().st_mode & 0o777 == 0o600
    with Emulator(tmp_path) as facts:
        assert facts["lake_key"] == key
        client = _service(facts["lake_url"], key).get_file_client("kept", "a/file")
        assert client.get_file_properties().etag == before.etag
        assert client.download_file().readall() == bytes(range(256)) * 9000
        client.flush_data(256 * 9000 + 4)
        assert client.get_file_properties().size == 256 * 9000 + 4


def test_a_lake_in_memory_holds_paths_to_the_same_rules() -> None:
    lake = Lake(None)
    lake.create_filesystem("data", {})
    lake.put("data", "a//b/c", b"0123456789" * 300_000)
    for start, end in ((0, 10), (2**20 - 2, 2**20 + 2), (2_999_995, None)):
        assert lake.read("data", "a/b/c", start, end)[1] == (b"0123456789" * 300_000)[start:end]
    for path in ("a/../b", "."):
        with pytest.raises(LakeError, match="URI"):
            lake.create("data", path, directory=False)
    with pytest.raises(LakeError) as raised:
        lake.create("data", "a/b/c", directory=False, conditions=Conditions(none_match="*"))
    assert (raised.value.code, raised.value.headers) == ("PathAlreadyExists", {"x-ms-existing-resource-type": "file"})
    lake.stage("data", "a/d", "one", b"1")
    with pytest.raises(LakeError, match="block list"):
        lake.commit("data", "a/d", ["one", "two"])
    with pytest.raises(LakeError, match="does not exist"):  # all or nothing
        lake.get("data", "a/d")
    lake.delete("data", "a", recursive=True)
    assert lake.list("data", "", recursive=True) == ([], "")
    lake.close()


# Faults


@pytest.mark.parametrize("kind", ["throttle", "unavailable", "drop", "drop-after", "cut-request"])
def test_what_fails_once_is_done_again(emulator: EmulatorProcess, files: FileSystemClient, kind: str) -> None:
    content = os.urandom(300_000)
    client = files.create_file("file")
    for number in range(3):
        emulator.plan(kind=kind, path="action=append")
        client.append_data(content[number * 100_000 : (number + 1) * 100_000], number * 100_000)
    emulator.plan(kind=kind, path="action=flush" if kind != "cut-request" else "action=append")
    client.flush_data(300_000)
    emulator.plan(kind=kind if kind != "cut-request" else "unavailable", path="/file", method="GET")
    assert client.download_file().readall() == content


def test_an_answer_that_was_cut_is_gone_on_with(emulator: EmulatorProcess, files: FileSystemClient) -> None:
    content = os.urandom(3 * 2**20)
    client = _upload(files, "file", content)
    emulator.plan(kind="cut", path="/file", method="GET", times=2)
    assert client.download_file().readall() == content


def test_a_planned_failure_has_the_shape_of_the_services(emulator: EmulatorProcess, files: FileSystemClient) -> None:
    never = _service(emulator.facts["lake_url"], emulator.facts["lake_key"], **NEVER)
    client = never.get_file_client(files.file_system_name, "file")
    _upload(files, "file")
    emulator.forget()
    emulator.plan(kind="condition", path="resource=file", method="PUT")
    with pytest.raises(ResourceModifiedError):
        client.create_file()
    emulator.plan(kind="unavailable", path="/file")
    with pytest.raises(HttpResponseError) as raised:
        client.get_file_properties()
    assert (raised.value.status_code, _code(raised)) == (503, "ServerBusy")
    assert {path for _, path in emulator.requests} == {f"/{ACCOUNT}/{files.file_system_name}/file"}


def test_an_upload_that_is_torn_leaves_what_was_there(emulator: EmulatorProcess, files: FileSystemClient) -> None:
    never = _service(emulator.facts["lake_url"], emulator.facts["lake_key"], **NEVER)
    client = never.get_file_client(files.file_system_name, "file")
    _upload(files, "file", b"before")
    emulator.plan(kind="cut-request", path="action=append")
    with pytest.raises(AzureError):
        client.append_data(os.urandom(2**20), 6)
    with pytest.raises(HttpResponseError, match="InvalidFlushPosition"):
        client.flush_data(6 + 2**20)
    assert client.download_file().readall() == b"before"


def test_a_seed_makes_what_fails_at_random_the_same(emulator: EmulatorProcess, files: FileSystemClient) -> None:
    never = _service(emulator.facts["lake_url"], emulator.facts["lake_key"], **NEVER)
    client = never.get_file_client(files.file_system_name, "file")
    _upload(files, "file")
    runs = []
    for _ in range(2):
        emulator.forget(seed=7)
        emulator.plan(kind="unavailable", path="/file", rate=0.5, times=99)
        begun, failed = time.monotonic(), []
        for number in range(20):
            try:
                client.get_file_properties()
            except HttpResponseError:
                failed.append(number)
        assert time.monotonic() - begun < 10
        runs.append(failed)
    assert runs[0] == runs[1]
    assert 3 < len(runs[0]) < 17
