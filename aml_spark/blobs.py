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
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import urllib3
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import ArtifactProgressBar, remove_on_error
from mlflow.utils.uri import is_fuse_or_uc_volumes_uri
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, prepend_scheme_if_needed, select_proxy
from urllib3.connection import HTTPConnection

from aml_spark.addresses import unsigned
from aml_spark.service import TRANSIENT, wait

T = TypeVar("T")
_PART = 16 * 2**20  # bytes of a large file that are downloaded in one request
_STEP = 2**20
_CONNECTIONS = 32  # to one host, which are kept
_TOLD = 2000  # bytes of what the storage says to an error


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
            except (RefusedError, urllib3.exceptions.HTTPError) as error:
                failed = error
            # Out here, so that what goes wrong now doesn't carry the address along as its context.
            status = failed.status if isinstance(failed, RefusedError) else None
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
                wait(tries, failed.retry_after if isinstance(failed, RefusedError) else None)
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
            with _sent("GET", f"{address}&comp=blocklist&blocklisttype=uncommitted") as answer:
                found = ET.fromstring(answer.read())  # noqa: S314 - as below
                return frozenset(entry.text or "" for entry in found.iterfind("UncommittedBlocks/Block/Name"))

        try:
            return self._place.use(ask)
        except RefusedError as error:
            if error.status != 404:
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
            with _sent("GET", f"{address}&{query}") as answer:
                return ET.fromstring(answer.read())  # noqa: S314 - Azure's; Python's parser expands no entities

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
    except Exception as error:  # the storage's, urllib3's and the file system's
        raise MlflowException(f"{what}: {unsigned(str(error))}") from None


class RefusedError(Exception):
    """The storage answered, with an error.

    Args:
        answer: its answer.
    """

    def __init__(self, answer: urllib3.BaseHTTPResponse) -> None:
        self.status, self.retry_after = answer.status, answer.headers.get("Retry-After")
        text = answer.read(_TOLD).decode(errors="replace")
        super().__init__(f"HTTP {answer.status} {answer.reason or ''}".strip() + (f": {text}" if text else ""))


@contextlib.contextmanager
def _sent(method: str, address: str, body: bytes | None = None, **headers: str) -> Iterator[urllib3.BaseHTTPResponse]:
    """One request, tried once. Nobody but the signature says who asks: no redirects, nothing from a .netrc file."""
    parts = urlsplit(address)
    if parts.scheme != "https" or parts.hostname is None:
        raise ValueError("the address that was given for it isn't https")
    pool = _pool(os.getpid(), parts.hostname, parts.port or 443, tuple(os.environ.get(name) for name in _WAY))
    target = f"{parts.path}?{parts.query}"
    alone: dict[str, Any] = {"retries": False, "redirect": False, "assert_same_host": False, "preload_content": False}
    answer = pool.urlopen(method, target, body, {name.replace("_", "-"): headers[name] for name in headers}, **alone)
    try:
        if answer.status >= 300 and answer.status != 416:  # an empty file has no first byte
            raise RefusedError(answer)
        yield answer
        answer.drain_conn()  # what is left, so that the next request can use the connection
        answer.release_conn()
    except RefusedError:
        answer.drain_conn()
        answer.release_conn()
        raise
    except BaseException:
        answer.close()
        raise


_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy")
_WAY = (*_PROXIES, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@lru_cache
def _pool(_process: int, host: str, port: int, _environment: tuple[str | None, ...]) -> urllib3.HTTPConnectionPool:
    """Connections to a host that are kept, by the way that requests would take.

    Requests itself would look that up for each file, and spend on a small one as much as its bytes take.
    """
    address, adapter = f"https://{host}:{port}", HTTPAdapter(pool_maxsize=_CONNECTIONS)
    proxy = select_proxy(address, get_environ_proxies(address))
    manager = adapter.poolmanager
    if proxy:
        # Where urllib3 leaves Nagle's algorithm on: a small file waits then until its headers are acknowledged, 40 ms.
        at_once = HTTPConnection.default_socket_options
        manager = adapter.proxy_manager_for(prepend_scheme_if_needed(proxy, "http"), socket_options=at_once)
    pool: urllib3.HTTPConnectionPool = manager.connection_from_host(host, port, "https")
    trusted = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    adapter.cert_verify(pool, address, trusted, None)
    return pool


def _put(address: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
    with _sent("PUT", address, data, **(headers or {})):
        pass


def _first_part(address: str, file: str) -> tuple[int, str | None]:
    """Download the beginning, or all of a small one.

    Returns:
        The whole's size in bytes, and its ETag, or None where nothing is left to download.
    """
    with _sent("GET", address, Range=f"bytes=0-{_PART - 1}") as answer:
        with Path(file).open("wb") as content:
            if answer.status == 416:
                return 0, None
            for data in answer.stream(_STEP, decode_content=False):
                content.write(data)
        whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
        if answer.status != 206 or not whole.isdigit():  # it doesn't know ranges
            return Path(file).stat().st_size, None
        return int(whole), answer.headers.get("ETag", "")


def _part(address: str, file: str, start: int, etag: str) -> None:
    with _sent("GET", address, Range=f"bytes={start}-{start + _PART - 1}", If_Match=etag) as answer:
        if answer.status != 206:
            raise ValueError(f"a part was asked for, and the answer is HTTP {answer.status}")
        with Path(file).open("r+b") as content:
            content.seek(start)
            for data in answer.stream(_STEP, decode_content=False):
                content.write(data)


def _state(file: str) -> tuple[int, int]:
    found = Path(file).stat()
    return found.st_size, found.st_mtime_ns
