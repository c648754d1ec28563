"""The protocol of Azure Blob Storage (`*.blob.core.windows.net`) over a lake, as far as its clients use it there."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from typing import Any

from werkzeug.wrappers import Response

from aml_spark.testing.lake.calls import Call, changed, date, leased
from aml_spark.testing.lake.dfs import remaining
from aml_spark.testing.lake.nodes import LakeError, Node
from aml_spark.testing.lake.signatures import Signatures
from aml_spark.testing.lake.storage import Lake
from aml_spark.testing.server import HEADERS

_XML = "application/xml"
_CODES = {
    "PathNotFound": "BlobNotFound",
    "PathAlreadyExists": "BlobAlreadyExists",
    "FilesystemNotFound": "ContainerNotFound",
    "FilesystemAlreadyExists": "ContainerAlreadyExists",
}
_PAGE = 5000
_WRITTEN = {"x-ms-request-server-encrypted": "true"}


class LakeBlobs:
    """Containers and blobs.

    Args:
        lake: where they lie.
        signatures: gives out keys for user delegation.
    """

    def __init__(self, lake: Lake, signatures: Signatures) -> None:
        self._lake, self._signatures = lake, signatures

    def answer(self, call: Call) -> Response:
        """Do what a request asks for.

        Raises:
            LakeError: that can't be, or may not be.
        """
        if not call.filesystem:
            return self._account(call)
        if call.args.get("restype") == "container":
            return self._container(call)
        if call.args.get("restype") == "account" and call.method in ("GET", "HEAD"):
            return self._information(call)
        if call.method in ("GET", "HEAD") and not call.args.get("comp"):
            return self._read(call)
        if call.method == "GET" and call.args.get("comp") == "blocklist":
            return self._waiting(call)
        if call.method == "DELETE":
            call.require("d", "wx")
            self._lake.delete(call.filesystem, call.path, call.conditions())
            return call.answer(202, headers={"x-ms-delete-type-permanent": "true"})
        ways = {
            "": self._upload,
            "block": self._stage,
            "blocklist": self._commit,
            "metadata": self._set_metadata,
            "properties": self._set_properties,
            "lease": self._lease,
        }
        if call.method != "PUT" or call.args.get("comp", "") not in ways:
            raise LakeError(400, "InvalidQueryParameterValue", "The operation is not known here.")
        return ways[call.args.get("comp", "")](call)

    def place(self, call: Call) -> str:
        """The path that a request is about; for a list it is the directory's."""
        listing = call.args.get("comp") == "list" and not call.path
        return call.args.get("prefix", "").rpartition("/")[0] if listing else call.path

    def failure(self, call: Call, error: LakeError) -> Response:
        """What is answered instead."""
        root = ET.Element("Error")
        code = _CODES.get(error.code, error.code)
        ET.SubElement(root, "Code").text = code
        ET.SubElement(root, "Message").text = str(error)
        body = b"" if call.method == "HEAD" or error.status == 304 else _text(root)
        return call.answer(error.reason, body, {"x-ms-error-code": code, **error.headers}, _XML)

    def _account(self, call: Call) -> Response:
        what = (call.method, call.args.get("restype", ""), call.args.get("comp", ""))
        if what == ("POST", "service", "userdelegationkey"):
            asked = ET.fromstring(call.body())  # noqa: S314 - a test's
            key = self._signatures.delegation_key(call.caller, asked.findtext("Start"), asked.findtext("Expiry") or "")
            root = ET.Element("UserDelegationKey")
            for name, value in key.items():
                ET.SubElement(root, name).text = value
            return call.answer(200, _text(root), {}, _XML)
        if what[1:] == ("account", "properties"):
            return self._information(call)
        if what == ("GET", "service", "properties"):
            call.require("r", "", "s")
            return call.answer(200, _text(ET.Element("StorageServiceProperties")), {}, _XML)
        if what != ("GET", "", "list"):
            raise LakeError(400, "InvalidQueryParameterValue", "The operation is not known here.")
        call.require("l", "", "s")
        found = self._lake.filesystems(call.args.get("prefix", ""))
        root, listed = _listing("Containers", call)
        left = [node for node in found if node.name > call.args.get("marker", "")]
        page = left[: call.number("maxresults", _PAGE)]
        for node in page:
            _container_entry(listed, node, call)
        ET.SubElement(root, "NextMarker").text = page[-1].name if len(page) < len(left) else ""
        return call.answer(200, _text(root), {}, _XML)

    def _information(self, call: Call) -> Response:
        told = {"x-ms-sku-name": "Standard_LRS", "x-ms-account-kind": "StorageV2", "x-ms-is-hns-enabled": "true"}
        return call.answer(200, headers=told)

    def _container(self, call: Call) -> Response:
        name, comp = call.filesystem, call.args.get("comp", "")
        if call.method == "PUT" and comp == "":
            call.require("cw", "", "c")
            node = self._lake.create_filesystem(name, _metadata(call))
            return call.answer(201, headers=changed(node))
        if call.method == "PUT" and comp == "metadata":
            call.require("w", "", "c")
            return call.answer(
                200, headers=changed(self._lake.set(name, "", call.conditions(), properties=_metadata(call)))
            )
        if call.method == "PUT" and comp == "lease":
            return self._lease(call, "c")
        if call.method == "DELETE":
            call.require("d", "", "c")
            self._lake.delete_filesystem(name, call.conditions())
            return call.answer(202)
        if call.method == "GET" and comp == "list":
            return self._list(call)
        if call.method not in ("GET", "HEAD") or comp not in ("", "metadata"):
            raise LakeError(400, "InvalidQueryParameterValue", "The operation is not known here.")
        call.require("r", "", "c")
        node = self._lake.filesystem(name)
        told = {
            **changed(node),
            **leased(node),
            **_meta(node),
            "x-ms-has-immutability-policy": "false",
            "x-ms-has-legal-hold": "false",
            "x-ms-default-encryption-scope": "$account-encryption-key",
            "x-ms-deny-encryption-scope-override": "false",
        }
        return call.answer(200, headers=told)

    def _list(self, call: Call) -> Response:
        prefix, delimiter = call.args.get("prefix", ""), call.args.get("delimiter", "")
        directory = self.place(call)
        call.require("l", "l", "c", directory)
        try:
            found, _ = self._lake.list(call.filesystem, directory, recursive=not delimiter, size=2**31)
        except LakeError as error:
            if error.code != "PathNotFound":
                raise
            found = []
        left = [(path, node) for path, node in found if path.startswith(prefix)]
        if marker := call.args.get("marker"):
            left = [each for each in left if each[0].split("/") > marker.split("/")]
        page = left[: call.number("maxresults", _PAGE)]
        root, listed = _listing("Blobs", call)
        root.set("ContainerName", call.filesystem)
        if delimiter:
            ET.SubElement(root, "Delimiter").text = delimiter
        for path, node in page:
            if delimiter and node.directory:
                folder = ET.SubElement(listed, "BlobPrefix")
                ET.SubElement(folder, "Name").text = f"{path}/"
            else:
                _blob_entry(listed, path, node, call)
        ET.SubElement(root, "NextMarker").text = page[-1][0] if len(page) < len(left) else ""
        return call.answer(200, _text(root), {}, _XML)

    def _read(self, call: Call) -> Response:
        if call.method == "HEAD":
            call.require("r", "x")
            node, data, start, end = self._lake.get(call.filesystem, call.path), b"", 0, None
            call.conditions().check(node, reading=True)
        else:
            call.require("r", "r")
            start, end = call.range()
            node, data = self._lake.read(call.filesystem, call.path, start, end, call.conditions())
        told = {"x-ms-blob-type": "BlockBlob", **_meta(node)}
        if node.directory:
            told["x-ms-meta-hdi_isfolder"] = "true"
        return call.read(node, data, start, ranged=end is not None, headers=told)

    def _upload(self, call: Call) -> Response:
        if call.header("x-ms-blob-type") != "BlockBlob":
            raise LakeError(400, "MissingRequiredHeader", "x-ms-blob-type is missing, or isn't BlockBlob.")
        call.require("cw", "w")
        if not call.conditions().absent and self._lake.has(call.filesystem, call.path):
            call.require("w", "w")
        node = self._lake.put(call.filesystem, call.path, call.body(), **self._made(call))
        return call.answer(201, headers=changed(node) | _WRITTEN)

    def _stage(self, call: Call) -> Response:
        call.require("w", "w")
        self._lake.stage(call.filesystem, call.path, call.args.get("blockid", ""), call.body())
        return call.answer(201, headers=_WRITTEN)

    def _waiting(self, call: Call) -> Response:
        call.require("r", "r")
        found = self._lake.waiting(call.filesystem, call.path)
        if not found:  # committed ones aren't told: a committed blob has forgotten its blocks here
            self._lake.get(call.filesystem, call.path)
        root = ET.Element("BlockList")
        listed = ET.SubElement(root, "UncommittedBlocks")
        for block, size in found.items():
            entry = ET.SubElement(listed, "Block")
            ET.SubElement(entry, "Name").text = block
            ET.SubElement(entry, "Size").text = str(size)
        return call.answer(200, _text(root), {}, _XML)

    def _commit(self, call: Call) -> Response:
        call.require("w", "w")
        blocks = [entry.text or "" for entry in ET.fromstring(call.body())]  # noqa: S314 - a test's
        node = self._lake.commit(call.filesystem, call.path, blocks, **self._made(call))
        return call.answer(201, headers=changed(node) | _WRITTEN)

    def _made(self, call: Call) -> dict[str, Any]:
        """What a new blob is made with."""
        headers = call.content_headers("x-ms-blob-")
        if "content-type" not in headers and (kind := call.header("Content-Type")) and not call.args.get("comp"):
            headers["content-type"] = kind
        folder = (call.header("x-ms-meta-hdi_isfolder") or "").lower() == "true"
        if folder:
            raise LakeError(400, "InvalidHeaderValue", "Directories are made by the other protocol.")
        return {"conditions": call.conditions(), "headers": headers, "properties": _metadata(call)}

    def _set_metadata(self, call: Call) -> Response:
        call.require("w", "w")
        node = self._lake.set(call.filesystem, call.path, call.conditions(), properties=_metadata(call))
        return call.answer(200, headers=changed(node) | _WRITTEN)

    def _set_properties(self, call: Call) -> Response:
        call.require("w", "w")
        headers = call.content_headers("x-ms-blob-")
        node = self._lake.set(call.filesystem, call.path, call.conditions(), headers=headers)
        return call.answer(200, headers=changed(node))

    def _lease(self, call: Call, kind: str = "o") -> Response:
        call.require("w", "w" if kind == "o" else "", kind)
        action = (call.header("x-ms-lease-action") or "").lower()
        node = self._lake.lease(call.filesystem, call.path, action, call.conditions(), **call.lease())
        headers = changed(node)
        if node.lease and action in ("acquire", "renew", "change"):
            headers["x-ms-lease-id"] = node.lease
        if action == "break":
            headers["x-ms-lease-time"] = remaining(node)
        return call.answer({"acquire": 201, "break": 202}.get(action, 200), headers=headers)


def _metadata(call: Call) -> dict[str, str]:
    start = "x-ms-meta-"
    sent = call.request.environ[HEADERS]
    return {name[len(start) :]: value for name, value in sent if name.lower().startswith(start)}


def _meta(node: Node) -> dict[str, str]:
    return {f"x-ms-meta-{name}": value for name, value in json.loads(node.properties).items()}


def _listing(kind: str, call: Call) -> tuple[ET.Element, ET.Element]:
    root = ET.Element("EnumerationResults", ServiceEndpoint=call.request.host_url)
    for name, argument in (("Prefix", "prefix"), ("Marker", "marker"), ("MaxResults", "maxresults")):
        if value := call.args.get(argument):
            ET.SubElement(root, name).text = value
    return root, ET.SubElement(root, kind)


def _container_entry(listed: ET.Element, node: Node, call: Call) -> None:
    entry = ET.SubElement(listed, "Container")
    ET.SubElement(entry, "Name").text = node.name
    facts = ET.SubElement(entry, "Properties")
    _facts(facts, node)
    ET.SubElement(facts, "HasImmutabilityPolicy").text = ET.SubElement(facts, "HasLegalHold").text = "false"
    _told_metadata(entry, node, call)


def _blob_entry(listed: ET.Element, path: str, node: Node, call: Call) -> None:
    entry = ET.SubElement(listed, "Blob")
    ET.SubElement(entry, "Name").text = path
    facts = ET.SubElement(entry, "Properties")
    _facts(facts, node)
    ET.SubElement(facts, "Creation-Time").text = date(node.created)
    ET.SubElement(facts, "Content-Length").text = str(node.length)
    for name, value in json.loads(node.headers).items():
        ET.SubElement(facts, name.title().replace("Md5", "MD5")).text = value
    ET.SubElement(facts, "BlobType").text = "BlockBlob"
    ET.SubElement(facts, "ResourceType").text = "directory" if node.directory else "file"
    ET.SubElement(facts, "ServerEncrypted").text = "true"
    _told_metadata(entry, node, call)


def _facts(facts: ET.Element, node: Node) -> None:
    ET.SubElement(facts, "Last-Modified").text = date(node.modified)
    ET.SubElement(facts, "Etag").text = node.etag
    ET.SubElement(facts, "LeaseStatus").text = "locked" if node.locked else "unlocked"
    ET.SubElement(facts, "LeaseState").text = node.lease_state


def _told_metadata(entry: ET.Element, node: Node, call: Call) -> None:
    if "metadata" not in call.args.get("include", ""):
        return
    told = ET.SubElement(entry, "Metadata")
    pairs = json.loads(node.properties) | ({"hdi_isfolder": "true"} if node.directory and node.parent else {})
    for name, value in pairs.items():
        if re.fullmatch(r"[A-Za-z_]\w*", name):
            ET.SubElement(told, name).text = value


def _text(root: ET.Element) -> bytes:
    return bytes(ET.tostring(root, "utf-8", xml_declaration=True))
