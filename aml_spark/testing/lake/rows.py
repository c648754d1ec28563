"""The rows of a data lake in SQLite: nodes in their tree, the pieces of files, and blocks that wait for a commit."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aml_spark.testing.lake import acls
from aml_spark.testing.lake.contents import Contents
from aml_spark.testing.lake.nodes import LakeError, Node, parts

_SCHEMA = """
CREATE TABLE IF NOT EXISTS node (
    id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name TEXT NOT NULL, directory INTEGER NOT NULL, etag TEXT NOT NULL,
    modified REAL NOT NULL, created REAL NOT NULL, length INTEGER NOT NULL, headers TEXT NOT NULL,
    properties TEXT NOT NULL, owner TEXT NOT NULL, "group" TEXT NOT NULL, acl TEXT NOT NULL, sticky INTEGER NOT NULL,
    lease TEXT, lease_until REAL, lease_seconds INTEGER NOT NULL, lease_broken INTEGER NOT NULL, UNIQUE (parent, name));
CREATE TABLE IF NOT EXISTS chunk (
    node INTEGER NOT NULL, position INTEGER NOT NULL, size INTEGER NOT NULL, content TEXT NOT NULL,
    PRIMARY KEY (node, position));
CREATE TABLE IF NOT EXISTS block (
    place TEXT NOT NULL, id TEXT NOT NULL, size INTEGER NOT NULL, content TEXT NOT NULL, PRIMARY KEY (place, id));
CREATE INDEX IF NOT EXISTS chunk_content ON chunk (content);
CREATE INDEX IF NOT EXISTS block_content ON block (content);
CREATE TABLE IF NOT EXISTS counter (last INTEGER NOT NULL);
"""
_BELOW = (
    "WITH RECURSIVE below(id) AS (VALUES (?) UNION ALL SELECT node.id FROM node JOIN below ON node.parent = below.id)"
)
_USED = "SELECT content FROM chunk WHERE content = ?1 UNION SELECT content FROM block WHERE content = ?1"
ROOT = 0  # the parent of all filesystems


class Rows:
    """The tables of one account.

    Args:
        database: its file; None keeps it in memory.
    """

    def __init__(self, database: Path | None) -> None:
        self._lock = threading.RLock()
        name = ":memory:" if database is None else os.fspath(database)
        self._db = sqlite3.connect(name, check_same_thread=False, isolation_level=None)
        self._db.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; {_SCHEMA}")
        self._contents = Contents(database and database.with_suffix(".contents"))
        self._added: list[str] = []
        self._dropped: list[str] = []
        with self.transaction():
            used = self._db.execute("SELECT content FROM chunk UNION SELECT content FROM block")
            self._contents.keep_only({content for (content,) in used.fetchall()})

    def close(self) -> None:
        """Let the file go."""
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and nobody else in between; one in another is part of it."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._added, self._dropped = [], []
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk ends it by itself
                    self._db.execute("ROLLBACK")
                self._dropped = self._added
                raise
            finally:
                for content in self._dropped:
                    if self._db.execute(_USED, (content,)).fetchone() is None:
                        self._contents.drop(content)

    def filesystem(self, name: str) -> Node:
        """The row of one."""
        node = self.child(ROOT, name)
        if node is None:
            raise LakeError(404, "FilesystemNotFound")
        return node

    def get(self, filesystem: str, path: str) -> Node:
        """The node of a path."""
        node = self.find(self.filesystem(filesystem), parts(path))
        if node is None:
            raise LakeError(404, "PathNotFound")
        return node

    def file(self, filesystem: str, path: str) -> Node:
        """The node of a path that is a file."""
        node = self.get(filesystem, path)
        if node.directory:
            raise LakeError(409, "PathConflict")
        return node

    def find(self, top: Node, names: list[str]) -> Node | None:
        """The node along names, or None."""
        node: Node | None = top
        for name in names:
            node = None if node is None else self.child(node.id, name)
        return node

    def made(self, filesystem: str, names: list[str]) -> Node:
        """The directory along names, made where it isn't there."""
        node = self.filesystem(filesystem)
        for name in names:
            child = self.child(node.id, name)
            if child is None:
                acl, sticky = acls.inherited(node, directory=True, wanted=None, umask=None)
                child = self.insert(node.id, name, True, acl, sticky, {}, {})
            if not child.directory:
                raise LakeError(409, "PathConflict")
            node = child
        return node

    def below(self, top: Node, names: list[str], recursive: bool) -> Iterator[tuple[list[str], Node]]:
        """The nodes in a directory, and those below them, each with its names."""
        for node in self.children(top.id):
            yield [*names, node.name], node
            if recursive and node.directory:
                yield from self.below(node, [*names, node.name], True)

    def inside(self, node: Node, top: Node) -> bool:
        """Whether a node is another one or below it."""
        found = self._db.execute(f"{_BELOW} SELECT 1 FROM below WHERE id = ?", (top.id, node.id))
        return found.fetchone() is not None

    def child(self, parent: int, name: str) -> Node | None:
        """The node of a name in a directory, or None."""
        row = self._db.execute("SELECT * FROM node WHERE parent = ? AND name = ?", (parent, name)).fetchone()
        return row and Node(*row)

    def children(self, parent: int) -> list[Node]:
        """All nodes in a directory, by name."""
        found = self._db.execute("SELECT * FROM node WHERE parent = ? ORDER BY name", (parent,))
        return [Node(*row) for row in found.fetchall()]

    def row(self, number: int) -> Node:
        """The node of an id."""
        return Node(*self._db.execute("SELECT * FROM node WHERE id = ?", (number,)).fetchone())

    def insert(
        self,
        parent: int,
        name: str,
        directory: bool,
        acl: str,
        sticky: bool,
        headers: dict[str, str],
        properties: dict[str, str],
    ) -> Node:
        """A new node."""
        now = time.time()
        told = (json.dumps(headers), json.dumps(properties))
        made = self._db.execute(
            "INSERT INTO node VALUES (NULL, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, NULL, NULL, 0, 0)",
            (parent, name, directory, self._etag(), now, now, *told, acls.SUPERUSER, acls.SUPERUSER, acl, sticky),
        )
        return self.row(made.lastrowid or 0)

    def update(self, node: Node, *, touch: bool = True, **values: Any) -> Node:
        """Other values for a node; it has a new ETag then, but for what isn't its content or properties."""
        if touch:
            values |= {"etag": self._etag(), "modified": time.time()}
        if values:
            columns = ", ".join(f'"{column}" = ?' for column in values)
            self._db.execute(f"UPDATE node SET {columns} WHERE id = ?", (*values.values(), node.id))
        return self.row(node.id)

    def remove(self, node: Node) -> None:
        """Delete a node with all below, and of a filesystem the blocks that wait there."""
        if node.parent == ROOT:
            self._forget("DELETE FROM block WHERE place LIKE ?", f"{node.id}/%")
        self._forget(f"{_BELOW} DELETE FROM chunk WHERE node IN (SELECT id FROM below)", node.id)
        self._db.execute(f"{_BELOW} DELETE FROM node WHERE id IN (SELECT id FROM below)", (node.id,))

    def put(self, node: Node, position: int, data: bytes) -> None:
        """Keep a file's bytes from a position on."""
        if data:
            row = (node.id, position, len(data), self._kept(data))
            self._db.execute("INSERT INTO chunk VALUES (?, ?, ?, ?)", row)

    def end(self, node: Node, position: int) -> int:
        """How far the bytes of a file reach without a gap, up to a position."""
        end = node.length
        found = self._db.execute(
            "SELECT position, size FROM chunk WHERE node = ? AND position >= ? AND position < ? ORDER BY position",
            (node.id, node.length, position),
        )
        for start, size in found.fetchall():
            if start != end:
                break
            end += size
        return end

    def drop(self, node: Node, start: int = 0, end: int = sys.maxsize) -> None:
        """Forget a file's bytes that begin in a range."""
        self._forget("DELETE FROM chunk WHERE node = ? AND position >= ? AND position < ?", node.id, start, end)

    def content(self, node: Node, start: int, end: int) -> bytes:
        """A file's bytes in a range."""
        found = self._db.execute(
            "SELECT position, size, content FROM chunk WHERE node = ? AND position + size > ? AND position < ? "
            "ORDER BY position",
            (node.id, start, end),
        )
        return b"".join(
            self._contents.read(key, max(0, start - place), min(size, end - place))
            for place, size, key in found.fetchall()
        )

    def stage(self, filesystem: str, path: str, block: str, data: bytes) -> None:
        """Keep a block."""
        place = self._place(filesystem, path)
        self._forget("DELETE FROM block WHERE place = ? AND id = ?", place, block)
        self._db.execute("INSERT INTO block VALUES (?, ?, ?, ?)", (place, block, len(data), self._kept(data)))

    def join(self, node: Node, filesystem: str, path: str, blocks: list[str]) -> int:
        """Make blocks the content of a file, and forget the others; its length, or -1 where a block is missing."""
        place, end = self._place(filesystem, path), 0
        known = "SELECT size, content FROM block WHERE place = ? AND id = ?"
        for block in blocks:
            found = self._db.execute(known, (place, block)).fetchone()
            if found is None:
                return -1
            size, content = found
            if size:
                self._db.execute("INSERT INTO chunk VALUES (?, ?, ?, ?)", (node.id, end, size, content))
            end += size
        self.unstage(filesystem, path)
        return end

    def waiting(self, filesystem: str, path: str) -> dict[str, int]:
        """The blocks that wait for a commit, with their lengths."""
        found = self._db.execute("SELECT id, size FROM block WHERE place = ?", (self._place(filesystem, path),))
        return dict(found.fetchall())

    def unstage(self, filesystem: str, path: str) -> None:
        """Forget the blocks that wait for a path."""
        self._forget("DELETE FROM block WHERE place = ?", self._place(filesystem, path))

    def overlaps(self, node: Node, position: int) -> bool:
        """Whether a piece that begins before a position reaches behind it."""
        found = self._db.execute(
            "SELECT 1 FROM chunk WHERE node = ? AND position < ? AND position + size > ?", (node.id, position, position)
        )
        return found.fetchone() is not None

    def _kept(self, data: bytes) -> str:
        self._added.append(self._contents.add(data))
        return self._added[-1]

    def _forget(self, statement: str, *values: Any) -> None:
        """Delete rows that name contents; these go with the end of the transaction."""
        found = self._db.execute(f"{statement} RETURNING content", values)
        self._dropped += [content for (content,) in found.fetchall()]

    def _etag(self) -> str:
        """As the service's look: a time, but never the same twice."""
        last = self._db.execute("SELECT last FROM counter").fetchone()
        tick = max(time.time_ns() // 100, (last[0] if last else 0) + 1)
        self._db.execute("DELETE FROM counter")
        self._db.execute("INSERT INTO counter VALUES (?)", (tick,))
        return f"0x8D{tick:014X}"

    def _place(self, filesystem: str, path: str) -> str:
        return f"{self.filesystem(filesystem).id}/{'/'.join(parts(path) or no_root())}"


def no_root() -> list[str]:
    """What stands behind an `or` where a path is needed.

    Raises:
        LakeError: there is none.
    """
    raise LakeError(400, "InvalidUri", "The root directory can't be made, moved or deleted.")
