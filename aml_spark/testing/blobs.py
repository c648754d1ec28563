"""A blob container in a folder, spoken to like Azure Blob Storage as far as uploads and downloads of files go."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import flask

ACCOUNT = "amlsparkemulator"
CONTAINER = "azureml"
_UNFINISHED = ".unfinished%"  # a quoted name never ends like this
_LIFETIME = 3600  # seconds that a signed address is good for


class FolderBlobs:
    """Files in a folder, under their names with the parts quoted.

    Args:
        folder: where they lie; blocks that aren't committed yet lie in memory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = secrets.token_bytes(32)
        self._blocks: dict[str, dict[str, bytes]] = {}
        self._lock = threading.Lock()

    def address(self, name: str, *, write: bool) -> str:
        """An address with a signature that lets its bearer write or read the blob for an hour."""
        ends, right = int(time.time()) + _LIFETIME, "cw" if write else "r"
        signature = quote(self._signature(name, right, ends), safe="")
        host = flask.request.host
        place = f"https://{host}/{ACCOUNT}" if host.startswith("127.") else f"https://{ACCOUNT}.blob.core.windows.net"
        return f"{place}/{CONTAINER}/{quote(name)}?sv=2024-08-04&sr=b&sp={right}&se={ends}&sig={signature}"

    def names(self, prefix: str) -> list[str]:
        """All blobs whose names start like this, in their order."""
        files = (file.relative_to(self.folder) for file in self.folder.rglob("*") if file.is_file())
        stored = (unquote(file.as_posix()) for file in files if file.suffix != _UNFINISHED)
        return sorted(name for name in stored if name.startswith(prefix))

    def routes(self) -> flask.Blueprint:
        """`PUT` (whole, or by blocks), `GET` (whole, or a range) and `HEAD` of a blob."""
        routes = flask.Blueprint("blobs", __name__)

        @routes.put(f"/{ACCOUNT}/{CONTAINER}/<path:name>")
        @routes.put(f"/{CONTAINER}/<path:name>", endpoint="put_by_host")
        def put(name: str) -> Any:
            if not self._allowed(name, "w"):
                return _denied()
            part, body = flask.request.args.get("comp"), flask.request.get_data()
            if part == "block":
                with self._lock:
                    self._blocks.setdefault(name, {})[flask.request.args["blockid"]] = body
            elif part == "blocklist":
                with self._lock:
                    given = self._blocks.pop(name, {})
                wanted = [entry.text or "" for entry in ET.fromstring(body)]  # noqa: S314 - from the test itself
                if not set(wanted) <= set(given):
                    return _error(400, "InvalidBlockList")
                self._store(name, b"".join(given[block] for block in wanted))
            elif flask.request.headers.get("x-ms-blob-type") != "BlockBlob":
                return _error(400, "MissingRequiredHeader")
            else:
                self._store(name, body)
            return flask.Response(status=201, headers=_headers(body))

        @routes.get(f"/{ACCOUNT}/{CONTAINER}/<path:name>")
        @routes.get(f"/{CONTAINER}/<path:name>", endpoint="get_by_host")
        def get(name: str) -> Any:
            if not self._allowed(name, "r"):
                return _denied()
            file = self._file(name)
            if not file.exists():
                return _error(404, "BlobNotFound")
            if wanted := flask.request.headers.get("x-ms-range"):
                flask.request.environ["HTTP_RANGE"] = wanted
            answer = flask.send_file(file, mimetype="application/octet-stream", conditional=True, etag=True)
            answer.headers.update({"x-ms-blob-type": "BlockBlob", "x-ms-version": "2024-08-04"})
            return answer

        return routes

    def _file(self, name: str) -> Path:
        return self.folder.joinpath(*(quote(part, safe=" ") for part in name.split("/")))

    def _store(self, name: str, body: bytes) -> None:
        place = self._file(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=_UNFINISHED, delete=False) as file:
            file.write(body)
        Path(file.name).replace(place)

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


def _headers(body: bytes) -> dict[str, str]:
    md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    return {"ETag": f'"{hashlib.sha256(body).hexdigest()[:16]}"', "Content-MD5": md5, "x-ms-version": "2024-08-04"}


def _denied() -> Any:
    return _error(403, "AuthenticationFailed")


def _error(status: int, code: str) -> Any:
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    return flask.Response(body, status, {"x-ms-error-code": code}, content_type="application/xml")
