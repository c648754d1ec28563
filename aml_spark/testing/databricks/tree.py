"""What lies below `/Workspace` and `/Volumes`, in a folder of this machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from aml_spark.testing.databricks.refusals import RefusalError, invalid

USER = "emulator@example.com"
VOLUME = "/Volumes/main/default/files"
ROOTS = ("Workspace", "Volumes")
_LONGEST, _DEEPEST = 255, 3000  # bytes of a name, and of a path


class Tree:
    """The files of one workspace. The user's home and one volume are there from the start.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._coming = folder, folder / "coming"
        self._coming.mkdir(parents=True, exist_ok=True)
        self._lasting = [self.local(path) for path in (f"/Workspace/Users/{USER}", "/Workspace/Shared", VOLUME)]
        for local in self._lasting:
            local.mkdir(parents=True, exist_ok=True)

    def local(self, path: str) -> Path:
        """Where a path of the workspace lies here; `/Users/…` is the same as `/Workspace/Users/…`."""
        parts = [part for part in path.split("/") if part]
        if not path.startswith("/") or not {"..", "."}.isdisjoint(parts):
            raise invalid(f"Path ({path}) is invalid; expected an absolute one.")
        if "\0" in path or len(path.encode()) > _DEEPEST or any(len(part.encode()) > _LONGEST for part in parts):
            raise invalid(f"Path ({path}) is invalid; expected names of at most {_LONGEST} bytes, without NUL.")
        return self._folder.joinpath(*(parts if parts[:1] and parts[0] in ROOTS else [ROOTS[0], *parts]))

    def mapped(self, text: str) -> str:
        """A path below `/Workspace/` or `/Volumes/` as a process on this machine finds it; any other text as it is."""
        return str(self.local(text)) if text.startswith(tuple(f"/{root}/" for root in ROOTS)) else text

    def check_removal(self, path: str) -> None:
        """Refuse to take away what is there from the start, or what that lies in."""
        if any(each.is_relative_to(self.local(path)) for each in self._lasting):
            raise RefusalError(400, "DIRECTORY_PROTECTED", f"Folder {path} is protected")

    def write(self, path: Path, pieces: Iterable[bytes]) -> None:
        """Make or replace a file; it is there as a whole or not at all."""
        handle, coming = tempfile.mkstemp(dir=self._coming)
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(pieces)
            Path(coming).replace(path)
        finally:
            Path(coming).unlink(missing_ok=True)
