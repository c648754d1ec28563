"""A project's files on Databricks: one archive for each content, and beside it the script that unpacks it."""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aml_spark.project.databricks_api import ask
from aml_spark.project.source import Project

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

_ENTRY = Path(__file__).with_name("databricks_entry.py")
_OLDEST = (1980, 1, 1, 0, 0, 0)  # for every file, so that equal files make equal archives


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What has to be there before a run can start, under names made of its content.

    Args:
        archive: the project's files.
        entry: the script that unpacks them.
    """

    archive: bytes = field(repr=False)
    entry: bytes = field(repr=False)

    @property
    def names(self) -> tuple[str, str]:
        """Of the archive and of the script."""
        archive, entry = (hashlib.sha256(content).hexdigest()[:32] for content in (self.archive, self.entry))
        return f"{archive}.zip", f"{entry}.py"


def pack(project: Project) -> Code:
    """Put a project's files together."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in project.files():
            about = zipfile.ZipInfo(file.as_posix(), _OLDEST)
            archive.writestr(about, (project.folder / file).read_bytes(), zipfile.ZIP_DEFLATED)
    return Code(archive=packed.getvalue(), entry=_ENTRY.read_bytes())


def upload(client: WorkspaceClient, code: Code, folder: str) -> None:
    """Send what isn't there yet.

    Args:
        client: for the workspace.
        code: what to send.
        folder: where to, below `/Workspace` or `/Volumes`.

    Raises:
        ServiceError: Databricks doesn't take it.
    """
    in_volume = folder.startswith("/Volumes/")
    make = client.files.create_directory if in_volume else client.workspace.mkdirs
    hint = None if in_volume else "`code_folder` may name a folder in a volume: /Volumes/<catalog>/<schema>/<volume>/…"
    ask(f"make the folder {folder!r}", lambda: make(folder), hint=hint)
    for name, content in zip(code.names, (code.archive, code.entry), strict=True):
        path = f"{folder}/{name}"
        if _size(client, path) != len(content):
            ask(f"upload {path!r}", functools.partial(_write, client, path, content), hint=hint)


def _size(client: WorkspaceClient, path: str) -> int | None:
    from databricks.sdk.errors import NotFound

    def look() -> int | None:
        try:
            if path.startswith("/Volumes/"):
                return client.files.get_metadata(path).content_length
            return client.workspace.get_status(path).size
        except NotFound:
            return None

    return ask(f"look for {path!r}", look)


def _write(client: WorkspaceClient, path: str, content: bytes) -> None:
    from databricks.sdk.service.workspace import ImportFormat

    if path.startswith("/Volumes/"):
        client.files.upload(path, io.BytesIO(content), overwrite=True)
    else:
        client.workspace.upload(path, content, format=ImportFormat.RAW, overwrite=True)
