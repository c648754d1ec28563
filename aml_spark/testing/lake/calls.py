"""One request to a data lake, and the answers that both of its protocols share."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import json
import re
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote

from werkzeug.wrappers import Request, Response

from aml_spark.testing.lake import acls
from aml_spark.testing.lake.nodes import Conditions, LakeError, Node

_VERSION = "2023-11-03"
_CONTENT = ("cache-control", "content-type", "content-encoding", "content-language", "content-disposition")


class Caller(Protocol):
    """Who asks."""

    def require(self, letters: str, kind: str, filesystem: str, path: str, right: str) -> None:
        """Look whether they may.

        Args:
            letters: permissions of a shared access signature, any of which is enough.
            kind: what it is done to: `s` the account, `c` a filesystem, `o` a path.
            filesystem: where.
            path: in it.
            right: what the lists of the path have to give, as for `Lake.allows`; none where it is empty.

        Raises:
            LakeError: they may not.
        """


@dataclass
class Call:
    """A request, taken apart.

    Args:
        request: as it came.
        method: what it means, which is not always how it was sent.
        filesystem: empty for the account.
        path: in the filesystem.
        args: of the query.
        authenticate: tells who asks, for a path and with a query's arguments.
        caller: who asks; None before that is known.
    """

    request: Request
    method: str
    filesystem: str
    path: str
    args: dict[str, str]
    authenticate: Callable[[str, str, dict[str, str]], Caller] = field(repr=False)
    caller: Caller | None = None
    received: bytes = field(default=b"", repr=False)

    def require(self, letters: str, right: str, kind: str = "o", path: str | None = None) -> None:
        """Look whether the caller may; see `Caller.require`."""
        assert self.caller is not None
        about = self.path if path is None else path
        if kind == "o" and "w" in letters and not about:  # it would write the filesystem itself
            kind = "c"
        self.caller.require(letters, kind, self.filesystem, about, right)

    def header(self, name: str) -> str | None:
        """A header, or None."""
        return self.request.headers.get(name)

    def number(self, name: str, default: int | None = None) -> int:
        """A number in the query.

        Raises:
            LakeError: there is none.
        """
        text = self.args.get(name) or ("" if default is None else str(default))
        if not text.isdigit() or (name.lower() == "maxresults" and not int(text)):
            raise LakeError(400, "InvalidQueryParameterValue", f"The query parameter {name} is missing or no number.")
        return int(text)

    def flag(self, name: str) -> bool:
        """Whether it says true in the query."""
        return self.args.get(name, "").lower() == "true"

    def conditions(self, prefix: str = "", lease: str = "x-ms-lease-id") -> Conditions:
        """What the request's headers ask for."""
        return Conditions(
            match=self.header(f"{prefix}if-match"),
            none_match=self.header(f"{prefix}if-none-match"),
            modified_since=_seconds(self.header(f"{prefix}if-modified-since")),
            unmodified_since=_seconds(self.header(f"{prefix}if-unmodified-since")),
            lease=self.header(lease) or None,  # it is sent empty, too
        )

    def receive(self) -> None:
        """Wait for all that is sent."""
        self.received = self.request.get_data(cache=False)

    def body(self) -> bytes:
        """What was received.

        Raises:
            LakeError: it isn't what its checksum says.
        """
        data = self.received
        told = self.header("Content-MD5")
        if told and base64.b64decode(told) != hashlib.md5(data, usedforsecurity=False).digest():
            raise LakeError(
                400, "Md5Mismatch", "The MD5 value specified in the request did not match with the server's."
            )
        return data

    def content_headers(self, prefix: str, *names: str) -> dict[str, str]:
        """What shall be given back with the content, of the headers `x-ms-…`."""
        found = {name: self.header(f"{prefix}{name}") for name in (*_CONTENT, "content-md5", *names)}
        return {name: value for name, value in found.items() if value is not None}

    def properties(self) -> dict[str, str] | None:
        """What `x-ms-properties` holds: names with values in base64."""
        told = self.header("x-ms-properties")
        if told is None:
            return None
        pairs = (pair.strip().partition("=") for pair in told.split(",") if pair.strip())
        return {name: base64.b64decode(value).decode("latin-1") for name, _, value in pairs}

    def range(self) -> tuple[int, int | None]:
        """The bytes that are asked for: from, and up to but not including; None for all."""
        told = self.header("x-ms-range") or self.header("Range")
        if not told:
            return 0, None
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", told.strip())
        if match is None:
            raise LakeError(400, "InvalidHeaderValue", "The value for the range is not in the correct format.")
        start, end = int(match[1]), int(match[2]) + 1 if match[2] else sys.maxsize
        if end <= start:
            raise LakeError(400, "InvalidHeaderValue", "The range ends before it begins.")
        return start, end

    def lease(self) -> dict[str, Any]:
        """What its headers say of a lease."""
        return {
            "proposed": self.header("x-ms-proposed-lease-id"),
            "seconds": _whole(self.header("x-ms-lease-duration")),
            "period": _whole(self.header("x-ms-lease-break-period")),
        }

    def answer(
        self, status: int | str = 200, body: bytes | str = b"", headers: Mapping[str, str] | None = None, kind: str = ""
    ) -> Response:
        """An answer with the headers that every one has; the status may have its reason beside it."""
        response = Response(body, status)
        if kind:
            response.headers["Content-Type"] = kind
        else:
            del response.headers["Content-Type"]
        if response.status_code not in (204, 304):
            response.headers["Content-Length"] = str(len(body.encode() if isinstance(body, str) else body))
        response.headers.update(
            {
                "x-ms-request-id": str(uuid.uuid4()),
                "x-ms-version": self.header("x-ms-version") or _VERSION,
                **({"x-ms-client-request-id": given} if (given := self.header("x-ms-client-request-id")) else {}),
                **(headers or {}),
            }
        )
        return response

    def read(self, node: Node, data: bytes, start: int, *, ranged: bool, headers: dict[str, str]) -> Response:
        """The answer to a GET or HEAD of a path."""
        told = {**shown(node), **headers}
        if self.request.method == "HEAD":
            response = self.answer(
                200, b"", told, json.loads(node.headers).get("content-type", "application/octet-stream")
            )
            response.headers["Content-Length"] = str(node.length)
            return response
        if ranged:
            told["Content-Range"] = f"bytes {start}-{start + len(data) - 1}/{node.length}"
            if md5 := told.pop("Content-MD5", None):
                told["x-ms-blob-content-md5"] = told["x-ms-content-md5"] = md5
            if (self.header("x-ms-range-get-content-md5") or "").lower() == "true":
                digest = hashlib.md5(data, usedforsecurity=False).digest()
                told["Content-MD5"] = base64.b64encode(digest).decode()
        kind = json.loads(node.headers).get("content-type", "application/octet-stream")
        return self.answer(206 if ranged else 200, data, told, kind)


def query(text: str) -> dict[str, str]:
    """A query's arguments; a plus is a plus."""
    pairs = (pair.partition("=") for pair in text.split("&") if pair)
    return {unquote(name): unquote(value) for name, _, value in pairs}


def date(seconds: float) -> str:
    """As headers write it."""
    return email.utils.formatdate(seconds, usegmt=True)


def changed(node: Node) -> dict[str, str]:
    """What every answer says of a node."""
    return {"ETag": f'"{node.etag}"', "Last-Modified": date(node.modified)}


def leased(node: Node) -> dict[str, str]:
    """What is said of its lease."""
    told = {"x-ms-lease-state": node.lease_state, "x-ms-lease-status": "locked" if node.locked else "unlocked"}
    if node.lease_state == "leased":
        told["x-ms-lease-duration"] = "infinite" if node.lease_seconds == -1 else "fixed"
    return told


def shown(node: Node) -> dict[str, str]:
    """All that is said of a path in both protocols."""
    told = {
        **changed(node),
        **leased(node),
        "Accept-Ranges": "bytes",
        "x-ms-resource-type": "directory" if node.directory else "file",
        "x-ms-owner": node.owner,
        "x-ms-group": node.group,
        "x-ms-permissions": acls.permissions(node),
        "x-ms-acl": node.acl,
        "x-ms-server-encrypted": "true",
        "x-ms-creation-time": date(node.created),
    }
    kept = json.loads(node.headers)
    told |= {name.title().replace("Md5", "MD5"): value for name, value in kept.items() if name != "content-type"}
    if node.properties != "{}":
        pairs = json.loads(node.properties).items()
        told["x-ms-properties"] = ",".join(
            f"{name}={base64.b64encode(value.encode('latin-1')).decode()}" for name, value in pairs
        )
    return told


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except ValueError:
        raise LakeError(400, "InvalidHeaderValue", "A date isn't in the correct format.") from None


def _whole(text: str | None) -> int | None:
    if text is None or re.fullmatch(r"-?\d+", text):
        return None if text is None else int(text)
    raise LakeError(400, "InvalidHeaderValue", "A number isn't in the correct format.")
