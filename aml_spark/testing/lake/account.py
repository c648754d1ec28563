"""A storage account with a hierarchical namespace: a data lake behind both of its protocols."""

from __future__ import annotations

import base64
import secrets
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from werkzeug.wrappers import Request, Response

from aml_spark.testing.identity import Identity
from aml_spark.testing.lake.blobs import LakeBlobs
from aml_spark.testing.lake.calls import Call, query
from aml_spark.testing.lake.dfs import Dfs
from aml_spark.testing.lake.nodes import LakeError
from aml_spark.testing.lake.signatures import Signatures
from aml_spark.testing.lake.storage import Lake

ACCOUNT = "amlsparklake"
DFS_HOST, BLOB_HOST = (f"{ACCOUNT}.{kind}.core.windows.net" for kind in ("dfs", "blob"))
_BLOB_QUERY = {"restype", "comp"}
_DFS_QUERY = {"resource", "action", "recursive", "directory", "position"}

App = Callable[..., Iterable[bytes]]


class LakeAccount:
    """The account.

    Args:
        folder: keeps `lake.key` and `lake.db`; None keeps all in memory.
        identity: whose tokens are good.
    """

    def __init__(self, folder: Path | None, identity: Identity) -> None:
        self.key = _key(folder)
        self.storage = Lake(None if folder is None else folder / "lake.db")
        self._signatures = Signatures(ACCOUNT, self.key, identity, self.storage.allows)
        self._dfs, self._blobs = Dfs(self.storage), LakeBlobs(self.storage, self._signatures)

    def close(self) -> None:
        """Let its files go."""
        self.storage.close()

    def create(self, filesystem: str) -> None:
        """Make a file system where there is none."""
        if filesystem not in {found.name for found in self.storage.filesystems()}:
            self.storage.create_filesystem(filesystem, {})

    def before(self, app: App) -> App:
        """The application with the account before it, which takes its path, `/amlsparklake/…`, and its two hosts."""

        def divided(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            if mine(environ):
                return self._answer(Request(environ))(environ, start)
            return app(environ, start)

        return divided

    def _answer(self, request: Request) -> Response:
        # As it was sent: a decoded path doesn't tell what was a slash of its own.
        raw, _, asked = str(request.environ["REQUEST_URI"]).partition("?")
        if request.host not in (DFS_HOST, BLOB_HOST):
            raw = raw.removeprefix(f"/{ACCOUNT}")
        filesystem, _, path = unquote(raw).lstrip("/").partition("/")
        args = query(asked)
        method = request.headers.get("X-HTTP-Method-Override", request.method)
        call = Call(request, method.upper(), filesystem, path.strip("/"), args, self._caller(request))
        protocol: Dfs | LakeBlobs = self._blobs if _is_blob(call) else self._dfs
        try:
            call.caller = call.authenticate(filesystem, protocol.place(call), args)
            call.receive()  # before the lake is locked: a client may take its time
            with self.storage.transaction():
                return protocol.answer(call)
        except LakeError as error:
            return protocol.failure(call, error)
        except (ValueError, ET.ParseError):  # of a number, a date, base64 or XML
            return protocol.failure(call, LakeError(400, "InvalidInput", "One of the request inputs is not valid."))

    def _caller(self, request: Request) -> Callable[..., Any]:
        return lambda filesystem, path, args: self._signatures.caller(request, filesystem, path, args)


def mine(environ: dict[str, Any]) -> bool:
    """Whether a request is the account's."""
    path = environ["PATH_INFO"]
    return environ.get("HTTP_HOST") in (DFS_HOST, BLOB_HOST) or path == f"/{ACCOUNT}" or path.startswith(f"/{ACCOUNT}/")


def _is_blob(call: Call) -> bool:
    """Which of the protocols it is: told by the host, else by what only one of them has, else by what is accepted."""
    if call.request.host in (DFS_HOST, BLOB_HOST):
        return call.request.host == BLOB_HOST
    if _DFS_QUERY & set(call.args) or call.header("x-ms-rename-source") or call.method == "PATCH":
        return False
    if _BLOB_QUERY & set(call.args) or call.header("x-ms-blob-type"):
        return True
    if call.method == "POST":
        return False
    return "xml" in (call.header("Accept") or "")


def _key(folder: Path | None) -> str:
    file = folder and folder / "lake.key"
    if file and file.exists():
        return file.read_text()
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    if file:
        whole = file.with_suffix(".new")
        whole.touch(mode=0o600)
        whole.write_text(key)
        whole.replace(file)
    return key
