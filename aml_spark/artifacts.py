"""The artifacts of an Azure ML workspace, where MLflow is given an `azureml://` address of one.

The workspace hands out signed addresses in Azure Blob Storage; MLflow's own code for such addresses does the rest,
many files and the blocks of large ones side by side.
"""

from __future__ import annotations

import base64
import contextlib
import posixpath
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

import mlflow
from mlflow.azure.client import put_block, put_block_list
from mlflow.entities import FileInfo
from mlflow.environment_variables import MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_artifacts_pb2 import ArtifactCredentialInfo, ArtifactCredentialType
from mlflow.store.artifact.cloud_artifact_repo import CloudArtifactRepository
from mlflow.utils.file_utils import ArtifactProgressBar, download_file_using_http_uri

from aml_spark.service import Service

PATHS_PER_CALL = 50
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
        path, query = self._place, None
        while True:
            page = self.service.call("GET", path, query)
            yield from (entry["path"] for entry in page.get("value") or [])
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
        count = max(1, -(-size // chunk))

        def send(number: int) -> str:
            block = base64.b64encode(f"{number:08d}".encode()).decode()
            with Path(src_file_path).open("rb") as file:
                file.seek(number * chunk)
                put_block(address, block, file.read(chunk), headers={})
            return block

        futures = {self.chunk_thread_pool.submit(send, number): number for number in range(count)}
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
        with _named(f"{artifact_file_path!r} couldn't be stored"):
            put_block_list(address, [blocks[number] for number in range(count)], headers={})

    # Reading

    def _get_read_credential_infos(self, remote_file_paths: Sequence[str]) -> list[ArtifactCredentialInfo]:
        return [_credential(path, self._address(path)) for path in remote_file_paths]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        # Without MLflow's look at the folder for the file's size: the workspace tells none.
        self._download_from_cloud(remote_file_path, local_path)

    def _download_from_cloud(self, remote_file_path: str, local_path: str) -> None:
        address = self._address(remote_file_path)
        with _named(f"{remote_file_path!r} couldn't be downloaded"):
            download_file_using_http_uri(address, local_path)

    def _address(self, path: str) -> str:
        answer = self.service.call("GET", f"{self._place}/contentinfo", {"path": self._inside(path)})
        return str(answer["contentUri"])

    def _inside(self, path: str) -> str:
        parts = posixpath.join(self._folder, path).split("/")
        if {"", ".", ".."} & set(parts):
            raise MlflowException.invalid_parameter_value(f"Invalid artifact path: {path!r}")
        return "/".join(parts)


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
