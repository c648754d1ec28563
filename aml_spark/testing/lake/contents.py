"""The bytes of a data lake's files, in pieces as they came: each a file of a folder, or in memory."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from pathlib import Path


class Contents:
    """Pieces of bytes under keys.

    Args:
        folder: where they lie; None keeps them in memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._kept: dict[str, bytes] = {}
        if folder is not None:
            folder.mkdir(mode=0o700, exist_ok=True)

    def add(self, data: bytes) -> str:
        """Keep a piece; gives its key."""
        key = uuid.uuid4().hex
        if self._folder is None:
            self._kept[key] = data
        else:
            (self._folder / key).write_bytes(data)
        return key

    def read(self, key: str, start: int, end: int) -> bytes:
        """The bytes of a piece from start up to, not including, end."""
        if self._folder is None:
            return self._kept[key][start:end]
        with (self._folder / key).open("rb") as piece:
            piece.seek(start)
            return piece.read(end - start)

    def drop(self, key: str) -> None:
        """Forget a piece."""
        if self._folder is None:
            self._kept.pop(key, None)
        else:
            (self._folder / key).unlink(missing_ok=True)

    def keep_only(self, keys: Collection[str]) -> None:
        """Forget all other pieces, such as those of a process that was killed."""
        if self._folder is not None:
            for piece in self._folder.iterdir():
                if piece.name not in keys:
                    piece.unlink()
