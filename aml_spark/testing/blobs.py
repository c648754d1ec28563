"""A blob container in a folder, spoken to like Azure Blob Storage as far as uploads and downloads of files go."""

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
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import flask
from werkzeug.wsgi import wrap_file

ACCOUNT = "amlsparkemulator"
CONTAINER = "azureml"
_BLOCKS = "%blocks"  # a quoted name never ends like this
_VERSION = "2024-08-04"
_STEP = 2**16
_LIFETIME = 3600  # seconds that a signed address is good for


class FolderBlobs:
    """Files in a folder, under their names with the parts quoted; a blob of several blocks is a folder of them.

    Args:
        folder: where they lie, in `stored`; blocks that aren't committed yet lie in `staged`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._staging = folder / "stored", folder / "staged"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._staging.mkdir(exist_ok=True)
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()

    def address(self, name: str, *, write: bool) -> str:
        """An address with a signature that lets its bearer write or read the blob for an hour."""
        ends, right = int(time.time()) + _LIFETIME, "cw" if write else "r"
        signature = quote(self._signature(name, right, ends), safe="")
        host = flask.request.host
        place = f"https://{host}/{ACCOUNT}" if host.startswith("127.") else f"https://{ACCOUNT}.blob.core.windows.net"
        return f"{place}/{CONTAINER}/{quote(name)}?sv={_VERSION}&sr=b&sp={right}&se={ends}&sig={signature}"

    def names(self, prefix: str) -> list[str]:
        """All blobs whose names start like this, in their order."""
        files = (file.relative_to(self.folder) for file in self.folder.rglob("*") if file.is_file())
        places = {file.parent if file.parent.name.endswith(_BLOCKS) else file for file in files}
        stored = (unquote(place.as_posix().removesuffix(_BLOCKS)) for place in places)
        return sorted(name for name in stored if name.startswith(prefix))

    def routes(self) -> flask.Blueprint:
        """`PUT` (whole, or by blocks), `GET` (whole, or a range) and `HEAD` of a blob."""
        routes = flask.Blueprint("blobs", __name__)

        @routes.put(f"/{ACCOUNT}/{CONTAINER}/<path:name>")
        @routes.put(f"/{CONTAINER}/<path:name>", endpoint="put_by_host")
        def put(name: str) -> Any:
            if not self._allowed(name, "w"):
                return _denied()
            part = flask.request.args.get("comp")
            if part == "block":
                self._store(self._received(), self._block(name, flask.request.args["blockid"]))
            elif part == "blocklist":
                wanted = [entry.text or "" for entry in ET.fromstring(flask.request.get_data())]  # noqa: S314 - a test's
                blocks = [self._block(name, block) for block in wanted]
                if not all(block.exists() for block in blocks):
                    return _error(400, "InvalidBlockList")
                self._store(self._joined(blocks), self._file(name, _BLOCKS))
            elif flask.request.headers.get("x-ms-blob-type") != "BlockBlob":
                return _error(400, "MissingRequiredHeader")
            else:
                self._store(self._received(), self._file(name))
            return flask.Response(status=201, headers={"ETag": f'"{uuid.uuid4().hex}"', "x-ms-version": _VERSION})

        @routes.get(f"/{ACCOUNT}/{CONTAINER}/<path:name>")
        @routes.get(f"/{CONTAINER}/<path:name>", endpoint="get_by_host")
        def get(name: str) -> Any:
            if not self._allowed(name, "r"):
                return _denied()
            blocks = self._file(name, _BLOCKS)
            parts = sorted(blocks.iterdir()) if blocks.exists() else [self._file(name)]
            if not parts[0].exists():
                return _error(404, "BlobNotFound")
            if wanted := flask.request.headers.get("x-ms-range"):
                flask.request.environ["HTTP_RANGE"] = wanted
            content = _Parts(parts)
            answer = flask.Response(wrap_file(flask.request.environ, content, _STEP), direct_passthrough=True)  # type: ignore[arg-type]
            answer.headers.update({"x-ms-blob-type": "BlockBlob", "x-ms-version": _VERSION})
            answer.set_etag(f"{parts[0].stat().st_mtime_ns:x}-{content.size:x}")
            return answer.make_conditional(flask.request.environ, accept_ranges=True, complete_length=content.size)

        return routes

    def _file(self, name: str, ending: str = "") -> Path:
        place = self.folder.joinpath(*(quote(part, safe=" ") for part in name.split("/")))
        return place.with_name(place.name + ending)

    def _block(self, name: str, block: str) -> Path:
        folder = hashlib.sha256(name.encode()).hexdigest()
        return self._staging / folder / hashlib.sha256(block.encode()).hexdigest()

    def _received(self) -> Path:
        """What the request sends, written in pieces: it may be large."""
        with tempfile.NamedTemporaryFile(dir=self._staging, delete=False) as file:
            shutil.copyfileobj(flask.request.stream, file, _STEP)
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

    def _signature(self, name: str, right: str, ends: int) -> str:
        told = f"{name}\n{right}\n{ends}".encode()
        return base64.b64encode(hmac.digest(self._key, told, hashlib.sha256)).decode()

    def _allowed(self, name: str, wanted: str) -> bool:
        args = flask.request.args
        right, ends = args.get("sp", ""), args.get("se", "0")
        if (
            {"", ".", ".."} & set(name.split("/"))
            or wanted not in right
            or not ends.isdigit()
            or int(ends) < time.time()
        ):
            return False
        return hmac.compare_digest(self._signature(name, right, int(ends)), args.get("sig", ""))


class _Parts:
    """Files one after the other, to be read as one."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files
        self._ends = list(itertools.accumulate(file.stat().st_size for file in files))
        self._place = 0
        self.size = self._ends[-1]

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
            data = file.read(size)
        self._place += len(data)
        return data


def _denied() -> Any:
    return _error(403, "AuthenticationFailed")


def _error(status: int, code: str) -> Any:
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    return flask.Response(body, status, {"x-ms-error-code": code}, content_type="application/xml")
