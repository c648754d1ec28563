"""Files in Azure Blob Storage behind signed addresses: large ones in parts, side by side, both ways."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import ArtifactProgressBar, remove_on_error
from mlflow.utils.request_utils import augmented_raise_for_status, cloud_storage_http_request
from mlflow.utils.uri import is_fuse_or_uc_volumes_uri
from requests.exceptions import RequestException

from aml_spark.addresses import unsigned
from aml_spark.service import TRANSIENT, wait

T = TypeVar("T")
_PART = 16 * 2**20  # bytes of a large file that are downloaded in one request
_STEP = 2**20


class Signed:
    """A signed address of a file or a container. It is good for an hour or so, and asked for anew when it has ended.

    Args:
        address: the first one.
        renew: asks for another one.
    """

    def __init__(self, address: str, renew: Callable[[], str]) -> None:
        self._address, self._renew = address, renew
        self._lock = threading.Lock()

    def use(self, work: Callable[[str], T]) -> T:
        """Do something with it that may be done twice: again where a connection breaks or the storage is busy."""
        tries, renewed = 0, False
        while True:
            address = self._address
            try:
                return work(address)
            except RequestException as error:
                failed = error
            # Out here, so that what goes wrong now doesn't carry the address along as its context.
            status = failed.response.status_code if failed.response is not None else None
            if status in (401, 403) and not renewed:
                renewed = True
                with self._lock:  # all parts of a file find it at the same time
                    if self._address == address:
                        self._address = self._renew()
            elif (
                tries < MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()
                and (status is None or status in TRANSIENT)
                and "CERTIFICATE_VERIFY_FAILED" not in str(failed)
            ):
                wait(tries, None if failed.response is None else failed.response.headers.get("Retry-After"))
                tries += 1
            else:
                raise failed


class Blob:
    """One file in the storage.

    Args:
        name: for messages.
        place: its address.
        pool: threads for the parts.
    """

    def __init__(self, name: str, place: Signed, pool: futures.ThreadPoolExecutor) -> None:
        self.name, self._place, self._pool = name, place, pool

    def upload(self, file: str, *, resume: bool = False) -> None:
        """Store a file under this name, all of it or nothing.

        Args:
            file: its path on this machine.
            resume: leave out the parts of a large file that an earlier call sent before it broke, by their content. The
                address has to let its bearer read, too.

        Raises:
            MlflowException: the storage doesn't take it, or the file changed meanwhile.
        """
        chunk = int(MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE.get())
        before = _state(file)
        size, _ = before
        with named(f"{self.name!r} couldn't be uploaded"):
            if size <= chunk:
                data = Path(file).read_bytes()
                self._place.use(lambda address: _put(address, data, {"x-ms-blob-type": "BlockBlob"}))
                return
            blocks = self._upload_blocks(file, size, chunk, self._sent_blocks() if resume else None)
            if _state(file) != before:
                raise MlflowException(f"{file!r} changed while it was uploaded; nothing was stored under its name")
            wanted = "".join(f"<Uncommitted>{block}</Uncommitted>" for block in blocks)
            listed = f"<BlockList>{wanted}</BlockList>".encode()
            self._place.use(lambda address: _put(f"{address}&comp=blocklist", listed))

    def download(self, file: str) -> None:
        """Write it to a file on this machine, all of it or nothing.

        Raises:
            MlflowException: the storage doesn't give it, or it changed meanwhile.
        """
        if is_fuse_or_uc_volumes_uri(file):  # /dbfs and /Volumes take no writes but at a file's end
            with tempfile.TemporaryDirectory() as folder:
                whole = os.path.join(folder, "whole")  # noqa: PTH118 - a text, as MLflow's
                self.download(whole)
                shutil.copyfile(whole, file)
            return
        part = str(Path(file).with_name(f".download-{uuid.uuid4().hex}"))
        with named(f"{self.name!r} couldn't be downloaded"), remove_on_error(Path(part)):
            size, etag = self._place.use(lambda address: _first_part(address, part))
            starts = range(_PART, size, _PART) if etag is not None else ()

            def receive(start: int) -> None:
                self._place.use(lambda address: _part(address, part, start, etag or ""))

            self._finish([self._pool.submit(receive, start) for start in starts], "Downloading", size, _PART)
            Path(part).replace(file)

    def _sent_blocks(self) -> frozenset[str]:
        """Ids of the parts that were sent for this name and not put together."""

        def ask(address: str) -> frozenset[str]:
            with _sent("get", f"{address}&comp=blocklist&blocklisttype=uncommitted") as answer:
                found = ET.fromstring(answer.content)  # noqa: S314 - as below
                return frozenset(entry.text or "" for entry in found.iterfind("UncommittedBlocks/Block/Name"))

        try:
            return self._place.use(ask)
        except RequestException as error:
            if error.response is None or error.response.status_code != 404:
                raise
            return frozenset()

    def _upload_blocks(self, file: str, size: int, chunk: int, there: Collection[str] | None) -> list[str]:
        """Upload the parts of a file; gives their ids in its order.

        Args:
            there: ids of parts that need not be sent; None where that isn't asked.
        """

        def send(number: int) -> str:
            with Path(file).open("rb") as content:
                content.seek(number * chunk)
                data = content.read(chunk)
            told = "" if there is None else hashlib.blake2b(data, digest_size=20).hexdigest()
            block = base64.b64encode(f"{number:08d}{told}".encode()).decode()
            if block not in (there or ()):
                self._place.use(lambda address: _put(f"{address}&comp=block&blockid={quote(block, safe='')}", data))
            return block

        parts = [self._pool.submit(send, number) for number in range(-(-size // chunk))]
        self._finish(parts, "Uploading", size, chunk)
        return [part.result() for part in parts]

    def _finish(self, parts: Sequence[futures.Future[Any]], what: str, size: int, step: int) -> None:
        """Wait for the parts of a file; the first that fails ends the others."""
        with ArtifactProgressBar.chunks(size, f"{what} {self.name}", step) as bar:
            try:
                for part in futures.as_completed(parts):
                    part.result()
                    bar.update()
            finally:
                for part in parts:
                    part.cancel()
                futures.wait(parts)  # none may write to a file that is taken away


def names(place: Signed, prefix: str) -> Iterator[str]:
    """The names of a container's files that start like this."""
    marker = ""
    while True:
        asked = {"restype": "container", "comp": "list", "prefix": prefix, "marker": marker}
        query = urlencode(asked, quote_via=quote)  # a plus is a plus

        def page(address: str, query: str = query) -> ET.Element:
            with _sent("get", f"{address}&{query}") as answer:
                return ET.fromstring(answer.content)  # noqa: S314 - Azure's; Python's parser expands no entities

        with named("the storage couldn't be listed"):
            found = place.use(page)
        for entry in found.iterfind("Blobs/Blob"):
            if entry.findtext("Properties/ResourceType") != "directory":  # a data lake lists them, too
                yield entry.findtext("Name") or ""
        marker = found.findtext("NextMarker") or ""
        if not marker:
            return


@contextlib.contextmanager
def named(what: str) -> Iterator[None]:
    """Say what failed, without the signature that the address carries."""
    try:
        yield
    except MlflowException:  # it says so itself
        raise
    except Exception as error:  # requests', urllib3's and the file system's
        raise MlflowException(f"{what}: {unsigned(str(error))}") from None


@contextlib.contextmanager
def _sent(method: str, address: str, **options: Any) -> Iterator[Any]:
    """One request, tried once: where urllib3 repeats one, it logs the whole address."""
    if not address.startswith("https://"):
        raise ValueError("the address that was given for it isn't https")
    # Nobody but the signature says who asks: no redirects, and nothing from a .netrc file.
    alone = {"max_retries": 0, "retry_codes": (), "allow_redirects": False, "auth": lambda request: request}
    with cloud_storage_http_request(method, address, **alone, **options) as answer:
        if answer.status_code != 416:  # an empty file has no first byte
            augmented_raise_for_status(answer)
            if answer.status_code >= 300:
                raise ValueError(f"the storage answered with HTTP {answer.status_code}")
        yield answer


def _put(address: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
    with _sent("put", address, data=data, headers=dict(headers or {})):
        pass


def _first_part(address: str, file: str) -> tuple[int, str | None]:
    """Download the beginning, or all of a small one.

    Returns:
        The whole's size in bytes, and its ETag, or None where nothing is left to download.
    """
    with _sent("get", address, stream=True, headers={"Range": f"bytes=0-{_PART - 1}"}) as answer:
        with Path(file).open("wb") as content:
            if answer.status_code == 416:
                return 0, None
            for data in answer.iter_content(_STEP):
                content.write(data)
        whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
        if answer.status_code != 206 or not whole.isdigit():  # it doesn't know ranges
            return Path(file).stat().st_size, None
        return int(whole), answer.headers.get("ETag", "")


def _part(address: str, file: str, start: int, etag: str) -> None:
    headers = {"Range": f"bytes={start}-{start + _PART - 1}", "If-Match": etag}
    with _sent("get", address, stream=True, headers=headers) as answer:
        if answer.status_code != 206:
            raise ValueError(f"a part was asked for, and the answer is HTTP {answer.status_code}")
        with Path(file).open("r+b") as content:
            content.seek(start)
            for data in answer.iter_content(_STEP):
                content.write(data)


def _state(file: str) -> tuple[int, int]:
    found = Path(file).stat()
    return found.st_size, found.st_mtime_ns
