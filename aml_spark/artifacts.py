"""The artifacts of an Azure ML workspace, where MLflow is given an `azureml://` address of one.

The workspace hands out signed addresses in Azure Blob Storage; MLflow's own code for such addresses does the rest,
many files and the blocks of large ones side by side.
"""

from __future__ import annotations

import base64
import contextlib
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

import mlflow
from mlflow.entities import FileInfo
from mlflow.environment_variables import MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_artifacts_pb2 import ArtifactCredentialInfo, ArtifactCredentialType
from mlflow.store.artifact.cloud_artifact_repo import CloudArtifactRepository
from mlflow.utils.file_utils import ArtifactProgressBar, remove_on_error
from mlflow.utils.request_utils import augmented_raise_for_status, cloud_storage_http_request

from aml_spark.service import Service

PATHS_PER_CALL = 50
_THREADS = 16  # for files and for parts of files, each: what they wait for is the network
_PART = 16 * 2**20  # bytes of a large file that are downloaded in one request
_STEP = 2**20
_RUN = re.compile(r"(?:.*/)?experiments/(?P<experiment>[^/]+)/runs/(?P<run>[^/]+)/artifacts(?:/(?P<path>.*))?")
_ORIGIN = re.compile(r"artifacts/(?P<origin>[^/]+)/(?P<container>[^/]+)(?:/(?P<path>.*))?")


class AzureMLArtifactRepository(CloudArtifactRepository):
    """Files of a run, or of a model that was uploaded without one.

    Args:
        artifact_uri: `azureml://<host>/mlflow/…/experiments/<id>/runs/<id>/artifacts[/path]`,
            `azureml://experiments/<name>/runs/<id>/artifacts[/path]`, or `azureml://artifacts/<origin>/<container>/path`.
        tracking_uri: the workspace's, where the address names none; else MLflow's own.
        registry_uri: unused.
    """

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        rest = artifact_uri.removeprefix("azureml://")
        run, origin = _RUN.fullmatch(rest), _ORIGIN.fullmatch(rest)
        if run is None and origin is None:
            raise MlflowException.invalid_parameter_value(
                f"{artifact_uri!r} isn't an address of a workspace's artifacts"
            )
        host, _, path = rest.partition("/mlflow/")
        address = f"azureml://{host}/mlflow/{path.partition('/experiments/')[0]}" if path else None
        self.service = Service.of(address or tracking_uri or mlflow.get_tracking_uri())
        if run is not None:
            self._place = (
                f"/history/v1.0{self.service.arm_id}/experiments/{quote(run['experiment'], safe='')}/runs/{run['run']}"
                "/artifacts"
            )
            self._folder = run["path"] or ""
        elif origin is not None:
            self._place = f"/artifact/v2.0{self.service.arm_id}/artifacts/{origin['origin']}/{origin['container']}"
            self._folder = origin["path"] or ""

    @property
    def max_workers(self) -> int:
        """Threads for files, and as many for parts of files."""
        return _THREADS

    # Listing

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """Files and folders directly below the path; none where the path is a file."""
        folder = posixpath.join(self._folder, path or "").strip("/")
        start = f"{folder}/" if folder else ""
        files: list[str] = []
        folders: set[str] = set()
        for name in self._names():
            if name.startswith(start):
                below, slash, _ = name.removeprefix(start).partition("/")
                here = posixpath.join(path or "", below)
                if slash:
                    folders.add(here)
                else:
                    files.append(here)
        found = [FileInfo(name, False, None) for name in files] + [FileInfo(name, True, None) for name in folders]
        return sorted(found, key=lambda info: info.path)

    def _names(self) -> Iterator[str]:
        yield from (entry["path"] for entry in self._pages(self._place, None))

    def _pages(self, path: str, query: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
        while True:
            page = self.service.call("GET", path, query)
            yield from page.get("value") or []
            _, _, more = (page.get("nextLink") or "").partition("?")
            if not more:
                return
            query = dict(parse_qsl(more))

    # Writing

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Upload one file."""
        target = posixpath.join(artifact_path or "", Path(local_file).name)
        (credential,) = self._get_write_credential_infos([target])
        self._upload_to_cloud(credential, local_file, target)

    def _get_write_credential_infos(self, remote_file_paths: Sequence[str]) -> list[ArtifactCredentialInfo]:
        paths = [self._inside(path) for path in remote_file_paths]
        found: dict[str, Any] = {}
        for start in range(0, len(paths), PATHS_PER_CALL):
            some = paths[start : start + PATHS_PER_CALL]
            answer = self.service.call(
                "POST", f"{self._place}/batch/metadata", {"paths": [{"path": path} for path in some]}
            )
            found.update(answer["artifactContentInformation"])
        return [_credential(path, found[path]["contentUri"]) for path in paths]

    def _upload_to_cloud(
        self, cloud_credential_info: ArtifactCredentialInfo, src_file_path: str, artifact_file_path: str
    ) -> None:
        address, chunk = cloud_credential_info.signed_uri, int(MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE.get())
        before = size, _ = _state(src_file_path)
        if size <= chunk:
            with _named(f"{artifact_file_path!r} couldn't be uploaded"):
                _put(address, Path(src_file_path).read_bytes(), {"x-ms-blob-type": "BlockBlob"})
            return

        def send(number: int) -> str:
            block = base64.b64encode(f"{number:08d}".encode()).decode()
            with Path(src_file_path).open("rb") as file:
                file.seek(number * chunk)
                _put(f"{address}&comp=block&blockid={quote(block, safe='')}", file.read(chunk))
            return block

        futures = {self.chunk_thread_pool.submit(send, number): number for number in range(-(-size // chunk))}
        blocks = {}
        with (
            _named(f"{artifact_file_path!r} couldn't be uploaded"),
            ArtifactProgressBar.chunks(size, f"Uploading {artifact_file_path}", chunk) as bar,
        ):
            for future in as_completed(futures):
                blocks[futures[future]] = future.result()
                bar.update()
        if _state(src_file_path) != before:
            raise MlflowException(f"{src_file_path!r} changed while it was uploaded; nothing was stored under its name")
        wanted = "".join(f"<Uncommitted>{blocks[number]}</Uncommitted>" for number in sorted(blocks))
        with _named(f"{artifact_file_path!r} couldn't be stored"):
            _put(f"{address}&comp=blocklist", f"<BlockList>{wanted}</BlockList>".encode())

    # Reading

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
        """As MLflow's; the addresses of all files of a folder are asked for together."""
        return str(_Snapshot(self, artifact_path or "").download(artifact_path, dst_path))

    def _get_read_credential_infos(self, remote_file_paths: Sequence[str]) -> list[ArtifactCredentialInfo]:
        return [_credential(path, self._address(path)) for path in remote_file_paths]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        # Without MLflow's look at the folder for the file's size: the workspace tells none.
        self._download_from_cloud(remote_file_path, local_path)

    def _download_from_cloud(self, remote_file_path: str, local_path: str) -> None:
        address = self._address(remote_file_path)
        with _named(f"{remote_file_path!r} couldn't be downloaded"), remove_on_error(Path(local_path)):
            size, etag = _first_part(address, local_path)
            starts = range(_PART, size, _PART)
            parts = [self.chunk_thread_pool.submit(_part, address, local_path, start, etag) for start in starts]
            with ArtifactProgressBar.chunks(size, f"Downloading {remote_file_path}", _PART) as bar:
                for part in as_completed(parts):
                    part.result()
                    bar.update()

    def _address(self, path: str) -> str:
        answer = self.service.call("GET", f"{self._place}/contentinfo", {"path": self._inside(path)})
        return str(answer["contentUri"])

    def _inside(self, path: str) -> str:
        parts = posixpath.join(self._folder, path).split("/")
        if {"", ".", ".."} & set(parts):
            raise MlflowException.invalid_parameter_value(f"Invalid artifact path: {path!r}")
        return "/".join(parts)


class _Snapshot(AzureMLArtifactRepository):
    """The files below a path at one moment, with an address for each."""

    def __init__(self, whole: AzureMLArtifactRepository, path: str) -> None:
        super().__init__(whole.artifact_uri, whole.tracking_uri)
        query = {"path": posixpath.join(self._folder, path).strip("/")}
        try:
            pages = self._pages(f"{self._place}/prefix/contentinfo", query)
            self._known = {entry["path"]: str(entry["contentUri"]) for entry in pages}
        except RestException:  # whatever it is, it is told for the file that can't be read
            self._known = {}

    def download(self, path: str, folder: str | None) -> str:
        return str(CloudArtifactRepository.download_artifacts(self, path, folder))

    def _names(self) -> Iterator[str]:
        yield from self._known or super()._names()

    def _address(self, path: str) -> str:
        return self._known.get(self._inside(path)) or super()._address(path)


def _put(address: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
    with cloud_storage_http_request("put", address, data=data, headers=dict(headers or {})) as answer:
        augmented_raise_for_status(answer)


def _first_part(address: str, local_path: str) -> tuple[int, str]:
    """Download the beginning of a file, or all of a small one; gives the whole's size in bytes and its ETag."""
    # An empty file has no first byte: the service answers 416.
    ranged = {"Range": f"bytes=0-{_PART - 1}"}
    with cloud_storage_http_request("get", address, stream=True, headers=ranged) as answer:
        if answer.status_code == 416:
            Path(local_path).touch()
            return 0, ""
        augmented_raise_for_status(answer)
        with Path(local_path).open("wb") as file:
            for data in answer.iter_content(_STEP):
                file.write(data)
        whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
        return int(whole) if whole.isdigit() else Path(local_path).stat().st_size, answer.headers.get("ETag", "")


def _part(address: str, local_path: str, start: int, etag: str) -> None:
    headers = {"Range": f"bytes={start}-{start + _PART - 1}", "If-Match": etag}
    with cloud_storage_http_request("get", address, stream=True, headers=headers) as answer:
        augmented_raise_for_status(answer)
        with Path(local_path).open("r+b") as file:
            file.seek(start)
            for data in answer.iter_content(_STEP):
                file.write(data)


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    """Say what failed, without the signature that the address carries."""
    try:
        yield
    except Exception as error:  # requests', urllib3's and the file system's
        told = re.sub(r"\bsig=[^&\s'\")]+", "sig=***", str(error))
        raise MlflowException(f"{what}: {told}") from None


def _credential(path: str, address: str) -> ArtifactCredentialInfo:
    return ArtifactCredentialInfo(path=path, signed_uri=address, type=ArtifactCredentialType.AZURE_SAS_URI)


def _state(path: str) -> tuple[int, int]:
    found = Path(path).stat()
    return found.st_size, found.st_mtime_ns
