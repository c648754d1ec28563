"""The artifacts of an Azure ML workspace, where MLflow is given an `azureml://` address of one.

The workspace hands out signed addresses in Azure Blob Storage. MLflow's own code for such addresses walks folders and
uploads many files side by side.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

import mlflow
from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_artifacts_pb2 import ArtifactCredentialInfo, ArtifactCredentialType
from mlflow.protos.databricks_pb2 import NOT_IMPLEMENTED
from mlflow.store.artifact.cloud_artifact_repo import CloudArtifactRepository

from aml_spark.blobs import Blob, Signed, names
from aml_spark.service import Service

PATHS_PER_CALL = 50
_logger = logging.getLogger(__name__)
_THREADS = 10  # for files and for parts of files, each: as many as MLflow keeps connections
_RUN = re.compile(
    r"(?:.*/)?experiments/(?P<experiment>[^/]+)/runs/(?P<run>[^/]+)(?P<files>/artifacts(?:/(?P<path>.*))?)?"
)
_ORIGIN = re.compile(r"artifacts/(?P<origin>[^/]+)/(?P<container>[^/]+)(?:/(?P<path>.*))?")


class _Threads:
    """A repository's pool of threads, another one in each process: a fork takes the pool along, and no thread."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    def __get__(self, repository: Any, owner: type | None = None) -> Any:
        if repository is None:
            return self
        if self._name not in vars(repository):
            raise AttributeError(self._name)
        process, pool = vars(repository)[self._name]
        if process != os.getpid():
            pool = repository._create_thread_pool()
            self.__set__(repository, pool)
        return pool

    def __set__(self, repository: Any, pool: ThreadPoolExecutor) -> None:
        vars(repository)[self._name] = os.getpid(), pool


class BlobArtifactRepository(CloudArtifactRepository):
    """Files below a folder that some service hands out signed addresses for.

    Args:
        artifact_uri: of the folder.
        folder: the same folder as the service names it, from the root of its files.
    """

    # MLflow keeps a run's repository, also for the processes that are forked from this one.
    thread_pool = _Threads()
    chunk_thread_pool = _Threads()
    _resumes = False  # whether an upload asks what was sent before a break, for which addresses have to be readable

    def __init__(self, artifact_uri: str, folder: str) -> None:
        super().__init__(artifact_uri)
        self._folder = folder.strip("/")

    # What each service does in its way; paths are from the root of its files

    def _names(self, prefix: str) -> Iterator[str]:
        """All files; those whose paths don't start like this may be left out."""
        raise NotImplementedError

    def _read_address(self, path: str) -> str:
        """An address to read a file from, asked for now."""
        raise NotImplementedError

    def _write_addresses(self, paths: Sequence[str]) -> Mapping[str, str]:
        """Addresses to write files to, asked for now, by their paths."""
        raise NotImplementedError

    # What MLflow asks for

    @property
    def max_workers(self) -> int:
        """Threads for files, and as many for parts of files."""
        return _THREADS

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """Files and folders directly below the path; none where the path is a file."""
        folder = posixpath.join(self._folder, path or "").strip("/")
        start = f"{folder}/" if folder else ""
        files: list[str] = []
        folders: set[str] = set()
        for name in self._names(start):
            if name.startswith(start) and _is_path(name):
                below, slash, _ = name.removeprefix(start).partition("/")
                here = posixpath.join(path or "", below)
                if slash:
                    folders.add(here)
                else:
                    files.append(here)
        found = [FileInfo(name, False, None) for name in files] + [FileInfo(name, True, None) for name in folders]
        return sorted(found, key=lambda info: info.path)

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Upload one file."""
        target = posixpath.join(artifact_path or "", Path(local_file).name)
        (credential,) = self._get_write_credential_infos([target])
        self._upload_to_cloud(credential, local_file, target)

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Refused: the service hands out no addresses to delete files with."""
        raise MlflowException(
            f"{artifact_path or self.artifact_uri!r} can't be deleted: Azure Machine Learning has no call for that; "
            "delete the files in the workspace's storage account",
            error_code=NOT_IMPLEMENTED,
        )

    def _get_write_credential_infos(self, remote_file_paths: Sequence[str]) -> list[ArtifactCredentialInfo]:
        paths = [self._inside(path) for path in remote_file_paths]
        addresses = self._write_addresses(paths)
        return [_credential(path, addresses[path]) for path in paths]

    def _upload_to_cloud(
        self, cloud_credential_info: ArtifactCredentialInfo, src_file_path: str, artifact_file_path: str
    ) -> None:
        path = cloud_credential_info.path
        place = Signed(cloud_credential_info.signed_uri, lambda: self._write_addresses([path])[path])
        Blob(artifact_file_path, place, self.chunk_thread_pool).upload(src_file_path, resume=self._resumes)

    def _get_read_credential_infos(self, remote_file_paths: Sequence[str]) -> list[ArtifactCredentialInfo]:
        return [_credential(path, self._read_address(self._inside(path))) for path in remote_file_paths]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        # Without MLflow's look at the folder for the file's size: the service tells none.
        self._download_from_cloud(remote_file_path, local_path)

    def _download_from_cloud(self, remote_file_path: str, local_path: str) -> None:
        path = self._inside(remote_file_path)
        place = Signed(self._known_address(path), lambda: self._read_address(path))
        Blob(remote_file_path, place, self.chunk_thread_pool).download(local_path)

    def _known_address(self, path: str) -> str:
        return self._read_address(path)

    def _inside(self, path: str) -> str:
        whole = posixpath.join(self._folder, path)
        if not _is_path(whole):
            raise MlflowException.invalid_parameter_value(f"Invalid artifact path: {path!r}")
        return whole


class ContainerArtifactRepository(BlobArtifactRepository):
    """Files in a container that one signature opens.

    Args:
        address: of the container.
        folder: the folder in it.
        sign: asks for the container's address with a signature.
    """

    def __init__(self, address: str, folder: str, sign: Callable[[], str]) -> None:
        super().__init__(address, folder)
        self._sign = sign
        self._signed: str | None = None

    def _names(self, prefix: str) -> Iterator[str]:
        yield from names(Signed(self._known(), self._renewed), prefix)

    def _read_address(self, path: str) -> str:
        return _below(self._renewed(), path)

    def _known_address(self, path: str) -> str:
        return _below(self._known(), path)

    def _write_addresses(self, paths: Sequence[str]) -> Mapping[str, str]:
        signed = self._renewed()
        return {path: _below(signed, path) for path in paths}

    def _known(self) -> str:
        return self._signed or self._renewed()

    def _renewed(self) -> str:
        self._signed = self._sign()
        return self._signed


class AzureMLArtifactRepository(BlobArtifactRepository):
    """Files of a run, or of a model that was uploaded without one.

    Args:
        artifact_uri: `azureml://<host>/mlflow/…/experiments/<id>/runs/<id>/artifacts[/path]`,
            `azureml://experiments/<name>/runs/<id>/artifacts[/path]`, or `azureml://artifacts/<origin>/<container>/path`.
        tracking_uri: the workspace's, where the address names none; else MLflow's own.
    """

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None) -> None:
        rest = artifact_uri.removeprefix("azureml://")
        run, origin = _RUN.fullmatch(rest), _ORIGIN.fullmatch(rest)
        host, _, path = rest.partition("/mlflow/")
        address = f"azureml://{host}/mlflow/{path.partition('/experiments/')[0]}" if path else None
        if run is not None:
            place = f"experiments/{_part(run['experiment'])}/runs/{_part(run['run'])}/artifacts"
            surface, folder = "/history/v1.0", run["path"]
        elif origin is not None:
            place = f"artifacts/{_part(origin['origin'])}/{_part(origin['container'])}"
            surface, folder = "/artifact/v2.0", origin["path"]
        else:
            raise MlflowException.invalid_parameter_value(
                f"{artifact_uri!r} isn't an address of a workspace's artifacts"
            )
        super().__init__(artifact_uri, folder or "")
        # MLflow takes the last part off an address: where that was `artifacts`, it comes back with each path.
        self._above = "artifacts/" if run is not None and run["files"] is None else ""
        self._tracking = address or tracking_uri or mlflow.get_tracking_uri()
        self.service = Service.of(self._tracking)
        self._place = f"{surface}{self.service.arm_id}/{place}"

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
        """As MLflow's; the addresses of all files of a folder are asked for together."""
        try:
            return str(_Snapshot(self, artifact_path or "").download(artifact_path, dst_path))
        except Exception as error:
            if not isinstance(error, RestException) or error.get_http_status_code() != 404:
                _logger.warning("%s", error)  # where a run's address is used, MLflow drops the error
            raise

    def _names(self, prefix: str) -> Iterator[str]:  # noqa: ARG002 - the workspace lists all of a run
        yield from (self._above + entry["path"] for entry in self._pages(self._place, None))

    def _pages(self, path: str, query: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
        while True:
            page = self.service.call("GET", path, query)
            yield from page.get("value") or []
            _, _, more = (page.get("nextLink") or "").partition("?")
            if not more:
                return
            query = dict(parse_qsl(more))

    def _read_address(self, path: str) -> str:
        asked = {"path": path.removeprefix(self._above)}
        return str(self.service.call("GET", f"{self._place}/contentinfo", asked)["contentUri"])

    def _write_addresses(self, paths: Sequence[str]) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for start in range(0, len(paths), PATHS_PER_CALL):
            some = paths[start : start + PATHS_PER_CALL]
            asked = {"paths": [{"path": path.removeprefix(self._above)} for path in some]}
            told = self.service.call("POST", f"{self._place}/batch/metadata", asked)
            for path, refused in (told.get("errors") or {}).items():
                why = refused.get("error") or refused
                raise MlflowException(f"{path!r} can't be uploaded: {why.get('code')}: {why.get('message')}")
            known = told["artifactContentInformation"]
            found.update((path, known[path.removeprefix(self._above)]["contentUri"]) for path in some)
        return found


class _Snapshot(AzureMLArtifactRepository):
    """The files below a path at one moment, with an address for each."""

    def __init__(self, whole: AzureMLArtifactRepository, path: str) -> None:
        super().__init__(whole.artifact_uri, whole._tracking)
        query = {"path": f"{posixpath.join(self._folder, path).strip('/')}/".removeprefix(self._above).strip("/")}
        try:
            pages = self._pages(f"{self._place}/prefix/contentinfo", query)
            self._known = {self._above + entry["path"]: str(entry["contentUri"]) for entry in pages}
        except RestException:  # whatever it is, it is told for the file that can't be read
            self._known = {}

    def download(self, path: str, folder: str | None) -> str:
        return str(CloudArtifactRepository.download_artifacts(self, path, folder))

    def _names(self, prefix: str) -> Iterator[str]:
        yield from self._known or super()._names(prefix)

    def _known_address(self, path: str) -> str:
        return self._known.get(path) or super()._known_address(path)


def _below(container: str, path: str) -> str:
    address, _, signature = container.partition("?")
    return f"{address.rstrip('/')}/{quote(path)}?{signature}"


def _part(name: str) -> str:
    """A part of an address that stays one when it is sent."""
    if name in (".", ".."):
        raise MlflowException.invalid_parameter_value(f"{name!r} in the address of a workspace's artifacts")
    return quote(name, safe="")


def _is_path(name: str) -> bool:
    """Whether a name leads to a file below a folder, here and there."""
    if {"", ".", ".."} & set(name.split("/")) or "\\" in name or "\0" in name:
        _logger.warning("%r is left out: no file below a folder has this name", name)
        return False
    return True


def _credential(path: str, address: str) -> ArtifactCredentialInfo:
    return ArtifactCredentialInfo(path=path, signed_uri=address, type=ArtifactCredentialType.AZURE_SAS_URI)
