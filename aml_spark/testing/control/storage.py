"""What URIs of the workspace's storage mean, and copies from there and to there: what a mount does for a job."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from aml_spark.testing.artifacts import CONTAINER, OF_RUNS, Blobs
from aml_spark.testing.blobs import fits
from aml_spark.testing.control.assets import Assets
from aml_spark.testing.control.datastores import Datastores
from aml_spark.testing.lake import account
from aml_spark.testing.lake.nodes import LakeError
from aml_spark.testing.mlflow_api import MlflowApi

_DATASTORE = re.compile(r"azureml://(?:.*/)?datastores/(?P<name>[^/]+)(?:/paths)?/?(?P<path>.*)")
_OF_RUN = re.compile(r"azureml://.*/experiments/[^/]+/runs/(?P<run>[^/]+)/artifacts/?(?P<path>.*)")
_OF_JOB = re.compile(r"azureml://jobs/(?P<run>[^/]+)/outputs/artifacts(?:/paths)?/?(?P<path>.*)")
_LOCAL = re.compile(r"azureml://(?:.*/)?artifacts/(?P<path>LocalUpload/.*)")
_MODEL = re.compile(r".*/models/(?P<name>[^/]+)/versions/(?P<version>[^/]+)")


class UnknownPlaceError(Exception):
    """There is nothing at a URI, or it isn't in the workspace's storage; the text says which."""


class Place(NamedTuple):
    """Files in a storage account: `path` is a file's, or a folder's without the slash at its end."""

    account: str
    container: str
    path: str


class Storage:
    """The workspace's storage: its lake, and where its runs' files are.

    Args:
        workspace: the workspace's ARM path.
        datastores: names of places.
        lake: the account of the datastores.
        blobs: the account of the runs' files.
        runs: the workspace's models.
        data: its data assets.
    """

    def __init__(
        self,
        workspace: str,
        datastores: Datastores,
        lake: account.LakeAccount,
        blobs: Blobs,
        runs: MlflowApi,
        data: Assets,
    ) -> None:
        self._workspace, self._datastores, self._lake = workspace, datastores, lake
        self._blobs, self._runs, self._data = blobs, runs, data

    def place(self, uri: str) -> Place:
        """What a URI means: of a datastore, of a run's files, of a model or data asset, or of the storage itself.

        Raises:
            UnknownPlaceError: it isn't one of those, or it leads out of its container.
        """
        place = self._meant(uri)
        if {".", ".."} & set(f"{place.container}/{place.path}".split("/")) or "\0" in place.path:
            raise UnknownPlaceError(f"The path '{uri}' is invalid: it leads out of its container.")
        return place

    def _meant(self, uri: str) -> Place:
        if asked := _OF_JOB.fullmatch(uri) or _OF_RUN.fullmatch(uri):
            return Place(self._blobs.account, CONTAINER, f"{OF_RUNS}{asked['run']}/{asked['path']}".rstrip("/"))
        if asked := _LOCAL.fullmatch(uri):
            return Place(self._blobs.account, CONTAINER, asked["path"].rstrip("/"))
        if asked := _DATASTORE.fullmatch(uri):
            known = self._datastores.known().get(asked["name"])
            if known is None:
                raise UnknownPlaceError(f"Could not find datastore with name {asked['name']}.")
            container = known.get("containerName") or known["filesystem"]
            return Place(known["accountName"], container, unquote(asked["path"]).strip("/"))
        if uri.startswith(f"{self._workspace}/data/"):
            found = self._data.find(uri)
            if found is None:
                raise UnknownPlaceError(f"Data asset not found: {uri}")
            return self.place(found["dataUri"])
        if (asked := _MODEL.fullmatch(uri)) and uri.startswith(self._workspace):
            source = self._runs.models.get_model_version(asked["name"], asked["version"]).source
            return self.place(str(source))
        parts = urlsplit(uri)
        if parts.scheme == "https" and ".blob." in parts.netloc:
            container, _, path = unquote(parts.path).strip("/").partition("/")
            return Place(parts.netloc.partition(".")[0], container, path)
        if parts.scheme in ("abfss", "wasbs") and parts.username:
            host = (parts.hostname or "").partition(".")[0]
            return Place(host, parts.username, unquote(parts.path).strip("/"))
        raise UnknownPlaceError(f"The path '{uri}' isn't in the storage of the workspace.")

    def files(self, place: Place) -> list[str]:
        """The paths of the files there, from its own: empty for a file itself."""
        if place.account == self._blobs.account:
            names = self._blobs.names(place.container, place.path)
        elif place.account == account.ACCOUNT:
            names = self._in_lake(place)
        else:
            raise UnknownPlaceError(f"The storage account '{place.account}' isn't the workspace's.")
        cut = len(place.path)
        return [name[cut:].lstrip("/") for name in names if not place.path or name[cut : cut + 1] in ("", "/")]

    def download(self, uri: str, target: Path) -> Path:
        """Copy what is at a URI into a folder; returns the copied file, or the folder.

        Raises:
            UnknownPlaceError: nothing is there.
        """
        place = self.place(uri)
        try:
            found = self.files(place)
        except LakeError:
            found = []
        if not found:
            raise UnknownPlaceError(f"Unable to access data: nothing is at '{uri}'.")
        target.mkdir(parents=True, exist_ok=True)
        top = target.resolve()
        for path in found:
            file = top / (path or place.path.rpartition("/")[2])
            if not file.resolve().is_relative_to(top):
                raise UnknownPlaceError(f"The name '{path}' leads out of its folder.")
            file.parent.mkdir(parents=True, exist_ok=True)
            name = f"{place.path}/{path}".strip("/") if path else place.path
            if place.account == self._blobs.account:
                self._blobs.fetch(place.container, name, file)
            else:
                file.write_bytes(self._lake.storage.read(place.container, name)[1])
        return target / place.path.rpartition("/")[2] if found == [""] else target

    def upload(self, source: Path, uri: str) -> None:
        """Copy a file to a URI, or all files of a folder to below it.

        Raises:
            UnknownPlaceError: the URI isn't in the workspace's storage.
        """
        place = self.place(uri)
        for file in [source] if source.is_file() else list(_below(source)):
            rest = "" if source.is_file() else file.relative_to(source).as_posix()
            name = f"{place.path}/{rest}".strip("/")
            if place.account == self._blobs.account:
                if not fits(name):
                    raise UnknownPlaceError(f"The name '{name}' is too long.")
                self._blobs.put(place.container, name, file)
            elif place.account == account.ACCOUNT:
                self._lake.storage.put(place.container, name, file.read_bytes())
            else:
                raise UnknownPlaceError(f"The storage account '{place.account}' isn't the workspace's.")

    def _in_lake(self, place: Place) -> list[str]:
        found, after = [], ""
        while True:
            page, after = self._lake.storage.list(place.container, place.path, recursive=True, after=after)
            found += [name for name, node in page if not node.directory]
            if not after:
                return found


def _below(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.is_file())
