"""Workspace files, as the Workspace API has them."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any

import flask

from aml_spark.testing.databricks.refusals import RefusalError, invalid, missing
from aml_spark.testing.databricks.tree import Tree

_MOST = 10 * 2**20  # bytes of what is sent inside JSON
_NOTEBOOK = b"# Databricks notebook source\n"


def routes(tree: Tree) -> flask.Blueprint:
    """`mkdirs`, `import`, `export`, `get-status`, `list` and `delete` below `/api/2.0/workspace`."""
    routes = flask.Blueprint("databricks-workspace-files", __name__, url_prefix="/api/2.0/workspace")

    @routes.post("/mkdirs")
    def mkdirs() -> Any:
        path = _body()["path"]
        local = tree.local(path)
        if local.is_file():
            raise _exists(path)
        local.mkdir(parents=True, exist_ok=True)
        return {}

    @routes.post("/import")
    def import_file() -> Any:
        form = flask.request.form if flask.request.files else _body()
        path, style = form["path"], form.get("format", "SOURCE")
        if "content" in flask.request.files:
            content = flask.request.files["content"].read()
        else:
            content = base64.b64decode(form.get("content", ""))
            if len(content) > _MOST:
                raise RefusalError(400, "MAX_NOTEBOOK_SIZE_EXCEEDED", f"File size imported is over {_MOST} bytes.")
        if style not in ("AUTO", "RAW", "SOURCE"):
            raise invalid(f"The emulated workspace imports AUTO, RAW and SOURCE, not {style}.")
        if style == "SOURCE":
            if form.get("language") != "PYTHON":
                raise invalid("The zip archive contains no items.")  # what it takes a file without language for
            content = content if content.startswith(_NOTEBOOK) else _NOTEBOOK + content
        local = tree.local(path)
        if not local.parent.is_dir():
            raise RefusalError(
                404, "RESOURCE_DOES_NOT_EXIST", f"The parent folder ({path.rpartition('/')[0]}) does not exist."
            )
        if local.is_dir() or (local.exists() and str(form.get("overwrite", "")).lower() != "true"):
            raise _exists(path)
        tree.write(local, [content])
        return {}

    @routes.get("/export")
    def export() -> Any:
        path = flask.request.args["path"]
        local = tree.local(path)
        if not local.is_file():
            raise missing(path)
        if flask.request.args.get("direct_download") == "true":
            return flask.send_file(local, mimetype="application/octet-stream")
        return {"content": base64.b64encode(local.read_bytes()).decode(), "file_type": local.suffix.lstrip(".")}

    @routes.get("/get-status")
    def get_status() -> Any:
        path = flask.request.args["path"]
        return _shown(path, tree.local(path))

    @routes.get("/list")
    def listed() -> Any:
        path = flask.request.args["path"]
        local = tree.local(path)
        if not local.is_dir():
            return {"objects": [_shown(path, local)]}
        return {"objects": [_shown(f"{path.rstrip('/')}/{one.name}", one) for one in sorted(local.iterdir())]}

    @routes.post("/delete")
    def delete() -> Any:
        body = _body()
        local = tree.local(body["path"])
        tree.check_removal(body["path"])
        if local.is_dir():
            if any(local.iterdir()) and not body.get("recursive"):
                raise RefusalError(400, "DIRECTORY_NOT_EMPTY", f"Folder ({body['path']}) is not empty")
            shutil.rmtree(local)
        elif local.exists():
            local.unlink()
        else:
            raise missing(body["path"])
        return {}

    return routes


def _body() -> dict[str, Any]:
    body = flask.request.get_json(silent=True)
    if not isinstance(body, dict) or not isinstance(body.get("path"), str):
        raise invalid("Missing required field: path")
    return body


def _exists(path: str) -> RefusalError:
    return RefusalError(400, "RESOURCE_ALREADY_EXISTS", f"Path ({path}) already exists.")


def _shown(path: str, local: Path) -> dict[str, Any]:
    if not local.exists():
        raise missing(path)
    known = local.stat()
    shown = {
        "path": path,
        "object_id": known.st_ino,
        "resource_id": str(known.st_ino),
        "created_at": int(known.st_ctime * 1000),
        "modified_at": int(known.st_mtime * 1000),
    }
    if local.is_dir():
        return {**shown, "object_type": "DIRECTORY"}
    with local.open("rb") as file:
        if local.suffix == ".py" and file.read(len(_NOTEBOOK)) == _NOTEBOOK:
            return {**shown, "object_type": "NOTEBOOK", "language": "PYTHON"}
    return {**shown, "object_type": "FILE", "size": known.st_size}
