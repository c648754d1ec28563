"""Files in volumes, as the Files API has them."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import flask

from aml_spark.testing.databricks.refusals import RefusalError, invalid
from aml_spark.testing.databricks.tree import Tree

_STEP = 2**20


def routes(tree: Tree) -> flask.Blueprint:
    """Files and folders below `/api/2.0/fs`.

    There are no addresses signed for single parts, as where an administrator switched them off: clients then send and
    read a file in one go.
    """
    routes = flask.Blueprint("databricks-volumes", __name__, url_prefix="/api/2.0/fs")

    @routes.put("/files/<path:path>")
    def upload(path: str) -> Any:
        local = _found(tree, path)
        if local.is_dir() or (local.exists() and flask.request.args.get("overwrite", "true") == "false"):
            raise RefusalError(409, "ALREADY_EXISTS", "The file being created already exists.")
        local.parent.mkdir(parents=True, exist_ok=True)
        tree.write(local, iter(lambda: flask.request.stream.read(_STEP), b""))
        return "", 204

    @routes.post("/files/<path:path>")
    def begin(path: str) -> Any:
        _found(tree, path)
        if flask.request.args.get("action") != "initiate-upload":
            raise invalid("The emulated workspace takes a file in one go.")
        return {"multipart_upload": {"session_token": secrets.token_hex(8)}}

    @routes.get("/files/<path:path>")  # and HEAD
    def download(path: str) -> Any:
        return flask.send_file(_file(tree, path), mimetype="application/octet-stream", conditional=True, etag=False)

    @routes.delete("/files/<path:path>")
    def delete(path: str) -> Any:
        _file(tree, path).unlink()
        return "", 204

    @routes.put("/directories/<path:path>")
    def make_folder(path: str) -> Any:
        local = _found(tree, path)
        if local.is_file():
            raise RefusalError(409, "ALREADY_EXISTS", "A file is there already.")
        local.mkdir(parents=True, exist_ok=True)
        return "", 204

    @routes.get("/directories/<path:path>")  # and HEAD
    def list_folder(path: str) -> Any:
        local = _folder(tree, path)
        return {"contents": [_shown(f"/{path.strip('/')}/{one.name}", one) for one in sorted(local.iterdir())]}

    @routes.delete("/directories/<path:path>")
    def delete_folder(path: str) -> Any:
        local = _folder(tree, path)
        tree.check_removal(f"/{path.strip('/')}")
        if any(local.iterdir()):
            raise RefusalError(400, "FAILED_PRECONDITION", "The directory being deleted is not empty.")
        local.rmdir()
        return "", 204

    return routes


def _found(tree: Tree, path: str) -> Path:
    """Where it would lie, in a volume that is there."""
    parts = path.strip("/").split("/")
    if parts[0] != "Volumes" or len(parts) < 4:
        raise invalid(f"Invalid path: /{path}; expected /Volumes/<catalog>/<schema>/<volume>/…")
    if not tree.local("/" + "/".join(parts[:4])).is_dir():
        raise RefusalError(404, "NOT_FOUND", f"Volume '{'.'.join(parts[1:4])}' does not exist.")
    return tree.local("/" + "/".join(parts))


def _file(tree: Tree, path: str) -> Path:
    local = _found(tree, path)
    if not local.is_file():
        raise RefusalError(404, "NOT_FOUND", "The file being accessed is not found.")
    return local


def _folder(tree: Tree, path: str) -> Path:
    local = _found(tree, path)
    if not local.is_dir():
        raise RefusalError(404, "NOT_FOUND", "The directory being accessed is not found.")
    return local


def _shown(path: str, local: Path) -> dict[str, Any]:
    shown = {"path": path, "name": local.name, "is_directory": local.is_dir()}
    if not local.is_dir():
        known = local.stat()
        shown |= {"file_size": known.st_size, "last_modified": int(known.st_mtime * 1000)}
    return shown
