"""What a data lake stores: filesystems of directories and files with Azure's hierarchical namespace, in SQLite.

Every operation is one transaction, so of many renames to one name exactly one wins, as on the service.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from aml_spark.testing.lake import acls
from aml_spark.testing.lake.nodes import Conditions, LakeError, Node, check_filesystem_name, parts
from aml_spark.testing.lake.rows import ROOT, Rows, no_root

_NO_CONDITIONS = Conditions()


class Lake:
    """The storage of one account.

    Args:
        database: its file; None keeps it in memory.
    """

    def __init__(self, database: Path | None) -> None:
        self._rows = Rows(database)

    def close(self) -> None:
        """Let the file go."""
        self._rows.close()

    # Filesystems

    def create_filesystem(self, name: str, properties: dict[str, str]) -> Node:
        """Make one."""
        check_filesystem_name(name)
        with self._rows.transaction():
            if self._rows.child(ROOT, name) is not None:
                raise LakeError(409, "FilesystemAlreadyExists")
            rights, _ = acls.from_permissions("0750")
            return self._rows.insert(ROOT, name, True, acls.written(rights), False, {}, properties)

    def filesystem(self, name: str) -> Node:
        """One, which is also its root directory."""
        with self._rows.transaction():
            return self._rows.filesystem(name)

    def filesystems(self, prefix: str = "") -> list[Node]:
        """All whose names start like this."""
        with self._rows.transaction():
            return [node for node in self._rows.children(ROOT) if node.name.startswith(prefix)]

    def delete_filesystem(self, name: str, conditions: Conditions = _NO_CONDITIONS) -> None:
        """Delete one with all that it holds."""
        with self._rows.transaction():
            node = self._rows.filesystem(name)
            conditions.check(node)
            node.check_lease(conditions.lease)
            self._rows.remove(node)

    # Files and directories

    def get(self, filesystem: str, path: str) -> Node:
        """What lies there; the filesystem itself for an empty path."""
        with self._rows.transaction():
            return self._rows.get(filesystem, path)

    def has(self, filesystem: str, path: str) -> bool:
        """Whether something lies there."""
        with self._rows.transaction():
            return self._rows.find(self._rows.filesystem(filesystem), parts(path)) is not None

    def create(
        self,
        filesystem: str,
        path: str,
        *,
        directory: bool,
        conditions: Conditions = _NO_CONDITIONS,
        headers: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        permissions: str | None = None,
        umask: str | None = None,
    ) -> Node:
        """Make a file or a directory, and the directories above it. A file that is there is emptied, a directory kept.

        Args:
            filesystem: where.
            path: its path in it.
            directory: which of both.
            conditions: of what is there.
            headers: `Content-Type` and others that are given back.
            properties: names and values that are given back.
            permissions: symbolic or octal.
            umask: octal; what of the permissions isn't given.
        """
        with self._rows.transaction():
            *above, name = parts(path) or no_root()
            old = self._rows.find(self._rows.filesystem(filesystem), [*above, name])
            if old is not None and conditions.absent:
                raise _exists(old)
            conditions.check(old)
            parent = self._rows.made(filesystem, above)
            acl, sticky = acls.inherited(parent, directory=directory, wanted=permissions, umask=umask)
            if old is None:
                return self._rows.insert(parent.id, name, directory, acl, sticky, headers or {}, properties or {})
            if old.directory != int(directory):
                raise _exists(old)
            old.check_lease(conditions.lease)
            if not directory:
                self._rows.drop(old)
            told = {"headers": json.dumps(headers or {}), "properties": json.dumps(properties or {})}
            values: dict[str, Any] = told if properties or not directory else {}
            return self._rows.update(old, **values, length=0)

    def append(self, filesystem: str, path: str, position: int, data: bytes, lease: str | None = None) -> Node:
        """Hand over data that readers don't see before it is flushed."""
        with self._rows.transaction():
            node = self._rows.file(filesystem, path)
            node.check_lease(lease)
            if position < node.length or self._rows.overlaps(node, position):
                raise LakeError(400, "InvalidFlushPosition")
            self._rows.drop(node, position, position + len(data))  # it comes again where an answer was lost
            self._rows.put(node, position, data)
            return node

    def flush(
        self,
        filesystem: str,
        path: str,
        position: int,
        conditions: Conditions = _NO_CONDITIONS,
        *,
        headers: dict[str, str] | None = None,
        retain: bool = False,
    ) -> Node:
        """Make what was appended up to a position the file's content; what lies after it is dropped, or retained."""
        with self._rows.transaction():
            node = self._rows.file(filesystem, path)
            conditions.check(node)
            node.check_lease(conditions.lease)
            if self._rows.end(node, position) != position:
                raise LakeError(400, "InvalidFlushPosition")
            if not retain:
                self._rows.drop(node, position)
            kept = json.loads(node.headers) | (headers or {})
            return self._rows.update(node, length=position, headers=json.dumps(kept))

    def put(self, filesystem: str, path: str, data: bytes, **options: Any) -> Node:
        """Make a file with its content at once; options are those of `create`."""
        with self._rows.transaction():
            node = self.create(filesystem, path, directory=False, **options)
            self._rows.unstage(filesystem, path)
            self._rows.put(node, 0, data)
            return self._rows.update(node, length=len(data))

    def stage(self, filesystem: str, path: str, block: str, data: bytes) -> None:
        """Keep a block for a file that need not be there yet."""
        with self._rows.transaction():
            self._rows.stage(filesystem, path, block, data)

    def waiting(self, filesystem: str, path: str) -> dict[str, int]:
        """Blocks that wait for a commit, with their lengths in bytes."""
        with self._rows.transaction():
            return self._rows.waiting(filesystem, path)

    def commit(self, filesystem: str, path: str, blocks: list[str], **options: Any) -> Node:
        """Make a file of staged blocks; the others are dropped. Options are those of `create`."""
        with self._rows.transaction():
            node = self.create(filesystem, path, directory=False, **options)
            end = self._rows.join(node, filesystem, path, blocks)
            if end < 0:
                raise LakeError(400, "InvalidBlockList")
            return self._rows.update(node, length=end)

    def read(
        self,
        filesystem: str,
        path: str,
        start: int = 0,
        end: int | None = None,
        conditions: Conditions = _NO_CONDITIONS,
    ) -> tuple[Node, bytes]:
        """A file and its bytes from start up to, not including, end.

        Raises:
            LakeError: start is behind its last byte, among others.
        """
        with self._rows.transaction():
            node = self._rows.get(filesystem, path)
            conditions.check(node, reading=True)
            if node.directory:
                return node, b""
            if end is not None and start >= node.length:
                raise LakeError(416, "InvalidRange", **{"Content-Range": f"bytes */{node.length}"})
            return node, self._rows.content(node, start, node.length if end is None else min(end, node.length))

    def set(
        self,
        filesystem: str,
        path: str,
        conditions: Conditions = _NO_CONDITIONS,
        *,
        headers: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
    ) -> Node:
        """Replace what is given back with a node."""
        with self._rows.transaction():
            node = self._rows.get(filesystem, path)
            conditions.check(node)
            node.check_lease(conditions.lease)
            given = (("headers", headers), ("properties", properties))
            values: dict[str, Any] = {key: json.dumps(value) for key, value in given if value is not None}
            return self._rows.update(node, **values)

    def delete(
        self, filesystem: str, path: str, conditions: Conditions = _NO_CONDITIONS, *, recursive: bool = False
    ) -> None:
        """Delete a file or a directory."""
        with self._rows.transaction():
            parts(path) or no_root()
            node = self._rows.get(filesystem, path)
            conditions.check(node)
            node.check_lease(conditions.lease)
            if node.directory and not recursive and self._rows.children(node.id):
                raise LakeError(409, "DirectoryNotEmpty")
            self._rows.remove(node)

    def rename(
        self,
        source: tuple[str, str],
        target: tuple[str, str],
        source_conditions: Conditions = _NO_CONDITIONS,
        conditions: Conditions = _NO_CONDITIONS,
    ) -> Node:
        """Give a file or a directory with all that is in it another place; its ETag stays, as on the service.

        Args:
            source: filesystem and path.
            target: the same of the new place. A file or an empty directory that lies there is replaced.
            source_conditions: of what is moved.
            conditions: of what lies in the new place.
        """
        with self._rows.transaction():
            node = self._rows.find(self._rows.filesystem(source[0]), parts(source[1]) or no_root())
            if node is None:
                raise LakeError(404, "SourcePathNotFound")
            source_conditions.check(node, "SourceConditionNotMet")
            node.check_lease(source_conditions.lease)
            *above, name = parts(target[1]) or no_root()
            parent = self._rows.find(self._rows.filesystem(target[0]), above)
            if parent is None or not parent.directory:
                raise LakeError(404, "RenameDestinationParentPathNotFound")
            old = self._rows.child(parent.id, name)
            if old is not None and conditions.absent:
                raise _exists(old)
            conditions.check(old)
            if self._rows.inside(parent, node) or (old is not None and old.id == node.id and node.directory):
                raise LakeError(409, "InvalidRenameSourcePath")
            if old is not None and old.id != node.id:
                old.check_lease(conditions.lease)
                if old.directory != node.directory:
                    raise LakeError(409, "InvalidSourceOrDestinationResourceType")
                if old.directory and self._rows.children(old.id):
                    raise LakeError(409, "DirectoryNotEmpty")
                self._rows.remove(old)
            return self._rows.update(node, touch=False, parent=parent.id, name=name)

    def list(
        self, filesystem: str, directory: str, *, recursive: bool, after: str = "", size: int = 5000
    ) -> tuple[list[tuple[str, Node]], str]:
        """What lies in a directory: a page of paths in the filesystem with their nodes, and where the next begins.

        Args:
            filesystem: where.
            directory: its path, empty for all of the filesystem.
            recursive: with all below.
            after: the last path of the page before.
            size: how many at most.
        """
        with self._rows.transaction():
            top = self._rows.get(filesystem, directory)
            if not top.directory:
                return [("/".join(parts(directory)), top)], ""
            found = list(self._rows.below(top, parts(directory), recursive))
            found.sort(key=lambda each: each[0])
            if after:
                found = [each for each in found if each[0] > after.split("/")]
            page = [("/".join(names), node) for names, node in found[:size]]
            return page, page[-1][0] if len(found) > size else ""

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """What is done in the block is done as a whole or not at all."""
        return self._rows.transaction()

    # Leases and rights

    def lease(self, filesystem: str, path: str, action: str, conditions: Conditions, **asked: Any) -> Node:
        """Acquire, renew, change, release or break a lease; `asked` is what `Node.leased` takes."""
        with self._rows.transaction():
            node = self._rows.get(filesystem, path)
            conditions.check(node)
            return self._rows.update(node, touch=False, **node.leased(action, lease=conditions.lease, **asked))

    def set_access(
        self,
        filesystem: str,
        path: str,
        conditions: Conditions = _NO_CONDITIONS,
        *,
        owner: str | None = None,
        group: str | None = None,
        permissions: str | None = None,
        acl: str | None = None,
    ) -> Node:
        """Give a node another owner, other permissions or another list."""
        with self._rows.transaction():
            node = self._rows.get(filesystem, path)
            conditions.check(node)
            node.check_lease(conditions.lease)
            values: dict[str, Any] = {key: value for key, value in (("owner", owner), ("group", group)) if value}
            if permissions:
                basic, values["sticky"] = acls.from_permissions(permissions)
                entries = acls.parsed(node.acl)
                if "mask:" in entries:  # then the group's part of the permissions is the mask
                    basic = {("mask:" if key == "group:" else key): rights for key, rights in basic.items()}
                values["acl"] = acls.written(entries | basic)
            if acl:
                values["acl"] = acls.changed(node, acl, "set")
            return self._rows.update(node, touch=False, **values)

    def set_access_below(self, filesystem: str, path: str, acl: str, mode: str) -> tuple[int, int]:
        """Change the lists of a node and of all below; gives how many directories and files that were."""
        with self._rows.transaction():
            top = self._rows.get(filesystem, path)
            nodes = [top, *(node for _, node in self._rows.below(top, [], True))]
            for node in nodes:
                self._rows.update(node, touch=False, acl=acls.changed(node, acl, mode))
            directories = sum(node.directory for node in nodes)
            return directories, len(nodes) - directories

    def allows(self, filesystem: str, path: str, who: Collection[str], right: str) -> bool:
        """Whether the lists let someone do something.

        Args:
            filesystem: where.
            path: of what is read or written, which need not be there.
            who: their ids; `$superuser` is among them for whom the account is.
            right: `r`, `w`, `x` (get there), `l` (list), `wx` (of the parent, to make or delete) or `o` (be its owner).
        """
        with self._rows.transaction():
            names, node = parts(path), self._rows.filesystem(filesystem)
            for name in names[:-1] if right == "wx" else names:
                if not acls.allows(node, who, "x"):
                    return False
                child = self._rows.child(node.id, name)
                if child is None:  # it is made there, or there is nothing to see
                    return right not in ("w", "wx") or acls.allows(node, who, "w")
                node = child
            if right == "o":
                return node.owner in who
            return right == "x" or all(acls.allows(node, who, each) for each in {"l": "rx"}.get(right, right))


def _exists(node: Node) -> LakeError:
    kind = "directory" if node.directory else "file"
    return LakeError(409, "PathAlreadyExists", **{"x-ms-existing-resource-type": kind})
