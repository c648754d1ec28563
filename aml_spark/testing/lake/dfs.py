"""The protocol of Azure Data Lake Storage Gen2 (`*.dfs.core.windows.net`) over a lake."""

from __future__ import annotations

import base64
import binascii
import json
import time
from dataclasses import replace
from urllib.parse import unquote

from werkzeug.wrappers import Response

from aml_spark.testing.lake import acls
from aml_spark.testing.lake.calls import Call, changed, date, leased, query, shown
from aml_spark.testing.lake.nodes import Conditions, LakeError, Node
from aml_spark.testing.lake.storage import Lake

_JSON = "application/json;charset=utf-8"
_ENCRYPTED = {"x-ms-request-server-encrypted": "true"}
_PAGE = 5000


class Dfs:
    """Filesystems and paths.

    Args:
        lake: where they lie.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def answer(self, call: Call) -> Response:
        """Do what a request asks for.

        Raises:
            LakeError: that can't be, or may not be.
        """
        if not call.filesystem:
            return self._filesystems(call)
        if call.args.get("resource") == "filesystem" and not call.path:
            return self._filesystem(call)
        ways = {
            "PUT": self._create,
            "PATCH": self._update,
            "HEAD": self._read,
            "GET": self._read,
            "DELETE": self._delete,
            "POST": self._lease,
        }
        if call.method not in ways:
            raise LakeError(405, "UnsupportedHttpVerb", "The resource doesn't support the specified HTTP verb.")
        return ways[call.method](call)

    def place(self, call: Call) -> str:
        """The path that a request is about; for a list it is the directory's."""
        listing = call.method == "GET" and call.args.get("resource") == "filesystem" and not call.path
        return call.args.get("directory", "").strip("/") if listing else call.path

    def failure(self, call: Call, error: LakeError) -> Response:
        """What is answered instead."""
        body = json.dumps({"error": {"code": error.code, "message": str(error)}}) if error.status != 304 else ""
        headers = {"x-ms-error-code": error.code, **error.headers}
        return call.answer(error.reason, "" if call.method == "HEAD" else body, headers, _JSON)

    def _filesystems(self, call: Call) -> Response:
        call.require("l", "", "s")
        found = self._lake.filesystems(call.args.get("prefix", ""))
        start = _after(call)
        left = [node for node in found if node.name > start]
        page = left[: call.number("maxResults", _PAGE)]
        listed = [{"name": node.name, "etag": node.etag, "lastModified": date(node.modified)} for node in page]
        headers = _continued(page[-1].name) if len(page) < len(left) else {}
        return call.answer(200, json.dumps({"filesystems": listed}), headers, _JSON)

    def _filesystem(self, call: Call) -> Response:
        name = call.filesystem
        if call.method == "PUT":
            call.require("cw", "", "c")
            node = self._lake.create_filesystem(name, call.properties() or {})
            return call.answer(201, headers={**changed(node), "x-ms-namespace-enabled": "true"})
        if call.method == "PATCH":
            call.require("w", "", "c")
            node = self._lake.set(name, "", call.conditions(), properties=call.properties() or {})
            return call.answer(200, headers=changed(node))
        if call.method == "HEAD":
            call.require("r", "", "c")
            told = shown(self._lake.filesystem(name))
            kept = ("ETag", "Last-Modified", "x-ms-properties", "x-ms-lease-state", "x-ms-lease-status")
            headers = {key: value for key, value in told.items() if key in kept}
            return call.answer(200, headers={**headers, "x-ms-namespace-enabled": "true"})
        if call.method == "DELETE":
            call.require("d", "", "c")
            self._lake.delete_filesystem(name, call.conditions())
            return call.answer(202)
        return self._list(call)

    def _list(self, call: Call) -> Response:
        directory = self.place(call)
        call.require("l", "l", "c", directory)
        found, following = self._lake.list(
            call.filesystem,
            directory,
            recursive=call.flag("recursive"),
            after=_after(call),
            size=min(call.number("maxResults", _PAGE), _PAGE),
        )
        body = json.dumps({"paths": [_entry(path, node) for path, node in found]})
        return call.answer(200, body, _continued(following) if following else {}, _JSON)

    def _create(self, call: Call) -> Response:
        if source := call.header("x-ms-rename-source"):
            return self._rename(call, source)
        kind = call.args.get("resource")
        if kind not in ("file", "directory"):
            raise LakeError(400, "InvalidQueryParameterValue", "The query parameter resource is missing or not valid.")
        call.require("cw", "w")
        if kind == "file" and not call.conditions().absent and self._lake.has(call.filesystem, call.path):
            call.require("w", "w")
        node = self._lake.create(
            call.filesystem,
            call.path,
            directory=kind == "directory",
            conditions=call.conditions(),
            headers=call.content_headers("x-ms-"),
            properties=call.properties(),
            permissions=call.header("x-ms-permissions"),
            umask=call.header("x-ms-umask"),
        )
        access = {key: call.header(f"x-ms-{key}") for key in ("owner", "group", "acl")}
        if any(access.values()):
            node = self._lake.set_access(call.filesystem, call.path, Conditions(), **access)
        if call.header("x-ms-proposed-lease-id") and call.header("x-ms-lease-duration"):
            self._lake.lease(call.filesystem, call.path, "acquire", Conditions(), **call.lease())
        return call.answer(201, headers={**changed(node), **_ENCRYPTED})

    def _rename(self, call: Call, source: str) -> Response:
        place, _, signature = source.partition("?")
        filesystem, _, path = unquote(place).strip("/").partition("/")
        call.require("mcw", "wx")
        args = query(signature) if signature else call.args
        call.authenticate(filesystem, path, args).require("md", "o", filesystem, path, "wx")
        node = self._lake.rename(
            (filesystem, path),
            (call.filesystem, call.path),
            call.conditions("x-ms-source-", "x-ms-source-lease-id"),
            call.conditions(),
        )
        return call.answer(201, headers=changed(node))

    def _update(self, call: Call) -> Response:
        ways = {
            "append": self._append,
            "flush": self._flush,
            "setProperties": self._set_properties,
            "setAccessControl": self._set_access,
            "setAccessControlRecursive": self._set_access_below,
        }
        action = call.args.get("action", "")
        if action not in ways:
            raise LakeError(400, "InvalidQueryParameterValue", "The query parameter action is missing or not valid.")
        return ways[action](call)

    def _append(self, call: Call) -> Response:
        call.require("wa", "w")
        place, position = (call.filesystem, call.path), call.number("position")
        data = call.body()
        conditions = self._leasing(call)
        self._lake.append(*place, position, data, conditions.lease)
        headers = dict(_ENCRYPTED)
        if call.flag("flush"):
            headers |= changed(self._lake.flush(*place, position + len(data), conditions))
        return call.answer(202, headers={**headers, **self._released(call, conditions.lease)})

    def _flush(self, call: Call) -> Response:
        call.require("w", "w")
        conditions = self._leasing(call)
        node = self._lake.flush(
            call.filesystem,
            call.path,
            call.number("position"),
            conditions,
            headers=call.content_headers("x-ms-"),
            retain=call.flag("retainUncommittedData"),
        )
        return call.answer(200, headers={**changed(node), **_ENCRYPTED, **self._released(call, conditions.lease)})

    def _leasing(self, call: Call) -> Conditions:
        """The conditions of a write, after the lease that it acquires or renews by the way."""
        conditions, action = call.conditions(), call.header("x-ms-lease-action") or ""
        if action not in ("acquire", "acquire-release", "auto-renew"):
            return conditions
        way = "renew" if action == "auto-renew" else "acquire"
        held = Conditions(lease=conditions.lease)
        node = self._lake.lease(call.filesystem, call.path, way, held, **call.lease())
        return replace(conditions, lease=node.lease)

    def _released(self, call: Call, lease: str | None) -> dict[str, str]:
        action = call.header("x-ms-lease-action") or ""
        if action.endswith("release"):
            self._lake.lease(call.filesystem, call.path, "release", Conditions(lease=lease), **call.lease())
        return {"x-ms-lease-renewed": "true"} if action == "auto-renew" else {}

    def _set_properties(self, call: Call) -> Response:
        call.require("w", "w")
        old = json.loads(self._lake.get(call.filesystem, call.path).headers)
        node = self._lake.set(
            call.filesystem,
            call.path,
            call.conditions(),
            headers=old | call.content_headers("x-ms-"),
            properties=call.properties(),
        )
        return call.answer(200, headers=changed(node))

    def _set_access(self, call: Call) -> Response:
        given = {key: call.header(f"x-ms-{key}") for key in ("owner", "group", "permissions", "acl")}
        call.require("o" if given["owner"] or given["group"] else "p", "o")
        if given["permissions"] and given["acl"]:
            raise LakeError(400, "InvalidHeaderValue", "Permissions and an access control list can't be set together.")
        node = self._lake.set_access(call.filesystem, call.path, call.conditions(), **given)
        return call.answer(200, headers=changed(node))

    def _set_access_below(self, call: Call) -> Response:
        call.require("p", "o")
        mode, acl = call.args.get("mode", ""), call.header("x-ms-acl") or ""
        if mode not in ("set", "modify", "remove"):
            raise LakeError(400, "InvalidQueryParameterValue", "The query parameter mode is missing or not valid.")
        directories, files = self._lake.set_access_below(call.filesystem, call.path, acl, mode)
        told = {"directoriesSuccessful": directories, "filesSuccessful": files, "failureCount": 0, "failedEntries": []}
        return call.answer(200, json.dumps(told), {}, _JSON)

    def _read(self, call: Call) -> Response:
        place = (call.filesystem, call.path)
        if call.method == "HEAD":
            action = call.args.get("action", "")
            call.require("re" if action else "r", "x")
            node = self._lake.get(*place)
            call.conditions().check(node, reading=True)
            told = call.read(node, b"", 0, ranged=False, headers={})
            if action == "getStatus":  # without what users keep with it
                told.headers.remove("x-ms-properties")
            return told
        call.require("r", "r")
        start, end = call.range()
        node, data = self._lake.read(*place, start, end, call.conditions())
        if node.directory:
            raise LakeError(409, "InvalidResourceType", "The operation isn't allowed on a directory.")
        return call.read(node, data, start, ranged=end is not None, headers={})

    def _delete(self, call: Call) -> Response:
        call.require("d", "wx")
        self._lake.delete(call.filesystem, call.path, call.conditions(), recursive=call.flag("recursive"))
        return call.answer(200)

    def _lease(self, call: Call) -> Response:
        call.require("w", "w")
        action = call.header("x-ms-lease-action") or ""
        node = self._lake.lease(call.filesystem, call.path, action, call.conditions(), **call.lease())
        headers = changed(node) | leased(node)
        if node.lease and action in ("acquire", "renew", "change"):
            headers["x-ms-lease-id"] = node.lease
        if action == "break":
            headers["x-ms-lease-time"] = remaining(node)
        return call.answer({"acquire": 201, "break": 202}.get(action, 200), headers=headers)


def remaining(node: Node) -> str:
    """Seconds until a broken lease ends."""
    return str(max(0, round((node.lease_until or 0) - time.time())))


def _entry(path: str, node: Node) -> dict[str, str]:
    """A path in a list; numbers and truths are texts, and a file doesn't say that it is no directory."""
    filetime = int((node.created + 11_644_473_600) * 10**7)
    return {
        "name": path,
        **({"isDirectory": "true"} if node.directory else {}),
        "contentLength": str(node.length),
        "etag": node.etag,
        "lastModified": date(node.modified),
        "creationTime": str(filetime),
        "owner": node.owner,
        "group": node.group,
        "permissions": acls.permissions(node),
    }


def _continued(last: str) -> dict[str, str]:
    return {"x-ms-continuation": base64.b64encode(last.encode()).decode()}


def _after(call: Call) -> str:
    try:
        return base64.b64decode(call.args.get("continuation", ""), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise LakeError(400, "InvalidQueryParameterValue", "The continuation is not valid.") from None
