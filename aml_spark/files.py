"""Files in a data lake that aren't tables: listed, copied both ways, moved, deleted, and told apart by checksums.

MLflow finds the artifact repository for `abfss://` here, too, so that runs may keep their artifacts in a lake.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlflow.exceptions import MlflowException

from aml_spark.artifacts import ContainerArtifactRepository
from aml_spark.blobs import Blob, Signed
from aml_spark.credential import signature
from aml_spark.datalake import LakePath, client
from aml_spark.errors import ArgumentError, DataLakeError
from aml_spark.location import Location
from aml_spark.refusals import refused

_SIGNED_FOR = dt.timedelta(hours=1)  # for one call; asked for anew where that takes longer


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file or folder in a lake.

    Args:
        path: from the file system's root.
        is_folder: whether it is a folder.
        size: in bytes; 0 for a folder.
        modified: when it was written last, in UTC.
    """

    path: str
    is_folder: bool
    size: int
    modified: dt.datetime


def listed(place: LakePath, *, recursive: bool = False) -> Iterator[File]:
    """What is in a folder.

    Args:
        place: the folder.
        recursive: whether what is in the folders below is listed, too.

    Raises:
        DataLakeError: there is no such folder, or it may not be listed.
    """
    with _asked(place), client(place) as lake:
        for found in lake.get_paths(place.location.path or None, recursive=recursive):
            yield File(
                path=found.name,
                is_folder=bool(found.is_directory),
                size=found.content_length or 0,
                modified=found.last_modified.replace(tzinfo=dt.timezone.utc),
            )


def upload(source: str | os.PathLike[str], place: LakePath) -> LakePath:
    """Copy a file or folder into the lake, many files and parts of files side by side.

    A file is there as a whole or not at all. What an earlier call sent of a large file before it broke off isn't sent
    again, as long as the file didn't change.

    Args:
        source: a file, which gets the name of the place, or comes into it where that is a folder; or a folder, whose
            content comes into it. What has the same name there is replaced.
        place: where to.

    Returns:
        Where it is.

    Raises:
        ArgumentError: there is no such file or folder on this machine.
        DataLakeError: the lake doesn't take it, or a file changed meanwhile.
    """
    local, repository = Path(source), LakeArtifactRepository(place, write=True)
    if not local.exists():
        raise ArgumentError(f"there is no file or folder {str(local)!r} on this machine")
    with _asked(place):
        if local.is_dir():
            repository.log_artifacts(str(local))
        elif repository.is_folder(missing=False):
            return upload(local, LakePath(location=place.location / local.name, credential=place.credential))
        else:
            repository.upload_file(local)
    return place


def download(place: LakePath, target: str | os.PathLike[str]) -> Path:
    """Copy a file or folder out of the lake, many files and parts of files side by side.

    A file is there as a whole or not at all, and of one moment: one that changes while it is read is an error.

    Args:
        place: the file or folder.
        target: the file or folder to write on this machine; a file comes into a folder that is there. What has the same
            name is replaced.

    Returns:
        Where it is.

    Raises:
        DataLakeError: there is no such file or folder, it may not be read, or it changed meanwhile.
    """
    local, repository = Path(target), LakeArtifactRepository(place, write=False)
    with _asked(place):
        if repository.is_folder():
            local.mkdir(parents=True, exist_ok=True)
            repository.download_artifacts("", str(local))
        else:
            if local.is_dir():
                local /= place.location.path.rpartition("/")[2]
            local.parent.mkdir(parents=True, exist_ok=True)
            repository.download_file(local)
    return local


def move(place: LakePath, path: str) -> LakePath:
    """Give a file or folder another path in its file system, which needs a hierarchical namespace.

    A file that is there already is replaced.

    Args:
        place: the file or folder.
        path: the new path, from the file system's root.

    Returns:
        The new place.

    Raises:
        DataLakeError: there is no such file or folder, or it may not be moved.
    """
    to = Location(
        account=place.location.account,
        filesystem=place.location.filesystem,
        path=path,
        suffix=place.location.suffix,
    )
    with _asked(place), client(place) as lake:
        lake.get_directory_client(place.location.path).rename_directory(f"{to.filesystem}/{to.path}")
    return LakePath(location=to, credential=place.credential)


def delete(place: LakePath) -> None:
    """Delete a file, or a folder with all that is in it.

    Raises:
        ArgumentError: it is the whole file system.
        DataLakeError: there is no such file or folder, or it may not be deleted.
    """
    if not place.location.path:
        raise ArgumentError(f"{place.uri!r} is a whole file system; expected a file or folder in it")
    with _asked(place), client(place) as lake:
        lake.get_directory_client(place.location.path).delete_directory()


def checksum(place: LakePath) -> str:
    """The MD5 of a file's content in base64, as Azure and Hadoop tell it: the one that the lake keeps, else read anew.

    Raises:
        DataLakeError: there is no such file, or it may not be read.
    """
    with _asked(place), client(place) as lake:
        file = lake.get_file_client(place.location.path)
        if kept := file.get_file_properties().content_settings.content_md5:
            return base64.b64encode(kept).decode()
        digest = hashlib.md5(usedforsecurity=False)
        for piece in file.download_file().chunks():
            digest.update(piece)
        return base64.b64encode(digest.digest()).decode()


class LakeArtifactRepository(ContainerArtifactRepository):
    """Files below a folder of a lake, for MLflow.

    Args:
        place: the folder.
        write: whether they are written, too.
    """

    _resumes = True

    def __init__(self, place: LakePath, *, write: bool) -> None:
        self._lake, location = place, place.location
        address = f"https://{location.account}.{location.suffix.replace('dfs.', 'blob.', 1)}/{location.filesystem}"

        def sign() -> str:
            return f"{address}?{signature(place.credential, location, write=write, lifetime=_SIGNED_FOR)}"

        super().__init__(address, location.path, sign)

    @property
    def max_workers(self) -> int:
        """Threads for files, and as many for their parts: few, as Python reads through TLS on one core at a time."""
        return min(super().max_workers, max(4, 2 * (os.cpu_count() or 1)))

    def is_folder(self, *, missing: bool | None = None) -> bool:
        """Whether it is a folder; where the account has none, whether names begin like one.

        Args:
            missing: the answer where nothing is there; None raises.
        """
        from azure.core.exceptions import ResourceNotFoundError

        if not self._folder:
            return True
        try:
            with client(self._lake) as lake:
                metadata = lake.get_file_client(self._folder).get_file_properties().metadata
                return bool(metadata.get("hdi_isfolder"))
        except ResourceNotFoundError:
            if any(True for _ in self._names(f"{self._folder}/")):
                return True
            if missing is None:
                raise
            return missing

    def upload_file(self, local: Path) -> None:
        """Store a file under the folder's own name."""
        self._blob().upload(str(local), resume=self._resumes)

    def download_file(self, local: Path) -> None:
        """The file that has the folder's name."""
        self._blob().download(str(local))

    def _blob(self) -> Blob:
        place = Signed(self._known_address(self._folder), lambda: self._read_address(self._folder))
        return Blob(self._folder, place, self.chunk_thread_pool)


@contextlib.contextmanager
def _asked(place: LakePath) -> Iterator[None]:
    """Say what the lake refuses, in our words."""
    from azure.core.exceptions import AzureError

    try:
        yield
    except AzureError as error:
        raise refused(place.location, error) from None
    except MlflowException as error:
        raise DataLakeError(f"{place.uri}: {error.message}") from None
