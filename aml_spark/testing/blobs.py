"""Blob containers in a folder, spoken to like Azure Blob Storage as far as uploads, downloads and listings go."""

from __future__ import annotations

import base64
import bisect
import hashlib
import hmac
import itertools
import secrets
import shutil
import tempfile
import threading
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import flask
from werkzeug.wsgi import wrap_file

ACCOUNT = "amlsparkemulator"
HOST = f"{ACCOUNT}.blob.core.windows.net"
_BLOCKS = "%blocks"  # a quoted name never ends like this
_LONGEST = 255 - len(_BLOCKS)  # bytes of a quoted part: it is the name of a file
_DEEPEST = 3000  # bytes of a whole quoted name, which is a path
_VERSION = "2024-08-04"
_STEP = 2**16
_LIFETIME = 3600  # seconds that a signed address is good for


def fits(name: str) -> bool:
    """Whether a blob can have this name: it leads nowhere else, and files can be named like its parts."""
    parts = [_quoted(part) for part in name.split("/")]
    short = all(len(part) <= _LONGEST for part in parts) and len("/".join(parts)) <= _DEEPEST
    return short and {".", ".."}.isdisjoint(parts)


class FolderBlobs:
    """Files in a folder, under their names with the parts quoted; a blob of several blocks is a folder of them.

    Args:
        folder: where they lie, in `stored`; blocks that aren't committed yet lie in `staged`.
    """

    account = ACCOUNT

    def __init__(self, folder: Path) -> None:
        self.folder, self._staging = folder / "stored", folder / "staged"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._staging.mkdir(exist_ok=True)
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()

    def address(self, container: str, name: str, *, write: bool) -> str:
        """An address with a signature that lets its bearer write or read the blob for an hour."""
        return self._signed(f"{container}/{name}", "b", "cw" if write else "r")

    def container_address(self, container: str, *, write: bool) -> str:
        """The same for all blobs of a container, which are also listed by it."""
        return self._signed(container, "c", "cwrl" if write else "rl")

    def create(self, container: str) -> None:
        """Make a container where there is none."""
        (self.folder / container).mkdir(exist_ok=True)

    def names(self, container: str, prefix: str) -> list[str]:
        """All blobs of a container whose names start like this, in their order."""
        place = self.folder / container
        files = (file.relative_to(place) for file in place.rglob("*") if file.is_file())
        places = {file.parent if file.parent.name.endswith(_BLOCKS) else file for file in files}
        stored = (unquote(found.as_posix().removesuffix(_BLOCKS)) for found in places)
        return sorted(name for name in stored if name.startswith(prefix))

    def put(self, container: str, name: str, file: Path) -> None:
        """Store a file of the emulator's own."""
        with file.open("rb") as content:
            self._store(self._kept(content), self._file(f"{container}/{name}"))

    def fetch(self, container: str, name: str, file: Path) -> None:
        """Write a blob to a file of the emulator's own."""
        content = self._content(f"{container}/{name}")
        if content is None:
            raise FileNotFoundError(f"{container}/{name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as target:
            while data := content.read(_STEP):
                target.write(data)

    def by_host(self, app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """The application with the storage's own host name before its account's path."""

        def rewritten(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            if environ.get("HTTP_HOST", "") == HOST:
                environ["PATH_INFO"] = f"/{ACCOUNT}{environ['PATH_INFO']}"
            return app(environ, start)

        return rewritten

    def routes(self) -> flask.Blueprint:
        """`PUT` (whole, by blocks, metadata), `GET` (whole, or a range) and `HEAD` of a blob; a container's list."""
        routes = flask.Blueprint("blobs", __name__)

        @routes.get(f"/{ACCOUNT}/<container>")
        def listed(container: str) -> Any:
            if flask.request.args.get("comp") != "list" or not self._allowed(container, None, "l"):
                return _denied()
            return flask.Response(self._list(container), content_type="application/xml")

        @routes.put(f"/{ACCOUNT}/<container>/<path:name>")
        def put(container: str, name: str) -> Any:
            if not self._allowed(container, name, "w"):
                return _denied()
            place, part = f"{container}/{name}", flask.request.args.get("comp")
            if not fits(place):
                return _error(400, "InvalidResourceName")
            if part == "metadata":  # none is kept
                return flask.Response(status=200, headers={"x-ms-version": _VERSION})
            if part == "block":
                self._store(self._received(), self._block(place, flask.request.args["blockid"]))
            elif part == "blocklist":
                wanted = [entry.text or "" for entry in ET.fromstring(flask.request.get_data())]  # noqa: S314 - a test's
                blocks = [self._block(place, block) for block in wanted]
                if not all(block.exists() for block in blocks):
                    return _error(400, "InvalidBlockList")
                self._store(self._joined(blocks), self._file(place, _BLOCKS))
            elif flask.request.headers.get("x-ms-blob-type") != "BlockBlob":
                return _error(400, "MissingRequiredHeader")
            else:
                self._store(self._received(), self._file(place))
            return flask.Response(status=201, headers={"ETag": f'"{uuid.uuid4().hex}"', "x-ms-version": _VERSION})

        @routes.get(f"/{ACCOUNT}/<container>/<path:name>")
        def get(container: str, name: str) -> Any:
            if not self._allowed(container, name, "r"):
                return _denied()
            content = self._content(f"{container}/{name}")
            if content is None:
                return _error(404, "BlobNotFound")
            if flask.request.if_match and content.etag not in flask.request.if_match:
                return _error(412, "ConditionNotMet")
            if wanted := flask.request.headers.get("x-ms-range"):
                if not content.size:  # nothing of an empty blob is in any range
                    return _error(416, "InvalidRange")
                flask.request.environ["HTTP_RANGE"] = wanted
            answer = flask.Response(wrap_file(flask.request.environ, content, _STEP), direct_passthrough=True)  # type: ignore[arg-type]
            answer.headers.update({"x-ms-blob-type": "BlockBlob", "x-ms-version": _VERSION})
            answer.set_etag(content.etag)
            return answer.make_conditional(flask.request.environ, accept_ranges=True, complete_length=content.size)

        return routes

    def _list(self, container: str) -> bytes:
        root = ET.Element("EnumerationResults", ContainerName=container)
        blobs = ET.SubElement(root, "Blobs")
        for name in self.names(container, flask.request.args.get("prefix", "")):
            content = self._content(f"{container}/{name}")
            if content is not None:
                blob = ET.SubElement(blobs, "Blob")
                ET.SubElement(blob, "Name").text = name
                facts = ET.SubElement(blob, "Properties")
                ET.SubElement(facts, "Etag").text = content.etag
                ET.SubElement(facts, "Content-Length").text = str(content.size)
                ET.SubElement(facts, "BlobType").text = "BlockBlob"
        ET.SubElement(root, "NextMarker")
        return bytes(ET.tostring(root, "utf-8", xml_declaration=True))

    def _content(self, place: str) -> _Parts | None:
        if not fits(place):
            return None
        blocks = self._file(place, _BLOCKS)
        parts = sorted(blocks.iterdir()) if blocks.exists() else [self._file(place)]
        return _Parts(parts) if parts[0].is_file() else None

    def _file(self, name: str, ending: str = "") -> Path:
        if not fits(name):
            raise ValueError(f"no blob can have the name {name!r}")
        place = self.folder.joinpath(*map(_quoted, name.split("/")))
        return place.with_name(place.name + ending)

    def _block(self, name: str, block: str) -> Path:
        folder = hashlib.sha256(name.encode()).hexdigest()
        return self._staging / folder / hashlib.sha256(block.encode()).hexdigest()

    def _received(self) -> Path:
        return self._kept(flask.request.stream)

    def _kept(self, content: Any) -> Path:
        """What is sent, written in pieces: it may be large."""
        with tempfile.NamedTemporaryFile(dir=self._staging, delete=False) as file:
            shutil.copyfileobj(content, file, _STEP)
        return Path(file.name)

    def _joined(self, blocks: list[Path]) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self._staging))
        for number, block in enumerate(blocks):
            (folder / f"{number:08d}").hardlink_to(block)
        for parent in {block.parent for block in blocks}:
            shutil.rmtree(parent, ignore_errors=True)
        return folder

    def _store(self, content: Path, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            for old in (
                place.with_name(place.name.removesuffix(_BLOCKS)),
                place.with_name(place.name + _BLOCKS),
                place,
            ):
                if old.is_dir():
                    shutil.rmtree(old)
                else:
                    old.unlink(missing_ok=True)
            content.replace(place)

    def _signed(self, place: str, kind: str, rights: str) -> str:
        ends = int(time.time()) + _LIFETIME
        signature = quote(self._signature(place, rights, ends), safe="")
        host = flask.request.host
        root = f"https://{host}/{ACCOUNT}" if host.startswith("127.") else f"https://{HOST}"
        return f"{root}/{quote(place)}?sv={_VERSION}&sr={kind}&sp={rights}&se={ends}&sig={signature}"

    def _signature(self, place: str, rights: str, ends: int) -> str:
        told = f"{place}\n{rights}\n{ends}".encode()
        return base64.b64encode(hmac.digest(self._key, told, hashlib.sha256)).decode()

    def _allowed(self, container: str, name: str | None, wanted: str) -> bool:
        args = flask.request.args
        rights, ends = args.get("sp", ""), args.get("se", "0")
        named = (name or "name").removesuffix("/" if wanted == "r" else "")  # who asks for a folder finds no blob
        if (
            {"", ".", ".."} & {container, *named.split("/")}
            or wanted not in rights
            or not ends.isdigit()
            or int(ends) < time.time()
        ):
            return False
        place = container if args.get("sr") == "c" else f"{container}/{name}"
        return hmac.compare_digest(self._signature(place, rights, int(ends)), args.get("sig", ""))


class _Parts:
    """Files one after the other, to be read as one."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files
        self._ends = list(itertools.accumulate(file.stat().st_size for file in files))
        self._place = 0
        self.size = self._ends[-1]
        self.etag = f"{files[0].stat().st_mtime_ns:x}-{self.size:x}"

    def seekable(self) -> bool:
        return True

    def seek(self, place: int) -> None:
        self._place = place

    def tell(self) -> int:
        return self._place

    def read(self, size: int) -> bytes:
        number = bisect.bisect_right(self._ends, self._place)
        if number == len(self._files):
            return b""
        with self._files[number].open("rb") as file:
            file.seek(self._place - (self._ends[number - 1] if number else 0))
            data = file.read(min(size, self._ends[number] - self._place))  # it may be replaced by a longer one
        self._place += len(data)
        return data


def _quoted(part: str) -> str:
    return quote(part, safe=" ")


def _denied() -> Any:
    return _error(403, "AuthenticationFailed")


def _error(status: int, code: str) -> Any:
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    return flask.Response(body, status, {"x-ms-error-code": code}, content_type="application/xml")
