"""What the control plane knows of its resources, kept in a file for each kind, and how Azure shows one."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Records:
    """Resources of one kind by name; what is changed is on the disk before the change is answered.

    Args:
        file: where they are kept, readable by its owner alone: there may be secrets in it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.RLock()

    def all(self) -> dict[str, Any]:
        """Every one, by name."""
        with self._lock:
            if not self._file.exists():
                return {}
            found: dict[str, Any] = json.loads(self._file.read_text(encoding="utf-8"))
            return found

    def get(self, name: str) -> Any:
        """One, or None."""
        return self.all().get(name)

    def put(self, name: str, known: Any) -> None:
        """Add or replace one."""
        with self.changed() as everything:
            everything[name] = known

    def pop(self, name: str) -> Any:
        """Take one away; None where there is none."""
        with self.changed() as everything:
            return everything.pop(name, None)

    @contextmanager
    def changed(self) -> Iterator[dict[str, Any]]:
        """All of them, to change while nobody else does."""
        with self._lock:
            everything = self.all()
            yield everything
            whole = self._file.with_suffix(".new")
            whole.touch(mode=0o600)
            whole.write_text(json.dumps(everything), encoding="utf-8")
            whole.replace(self._file)


def shown(arm_id: str, kind: str, properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A resource in Azure's form.

    Args:
        arm_id: its id, which ends in its name.
        kind: its type, such as `Microsoft.MachineLearningServices/workspaces/jobs`.
        properties: what is particular to it.
        more: what stands beside those, such as `location`.
    """
    now = dt.datetime.now(dt.timezone.utc).isoformat()
    return {
        "id": arm_id,
        "name": arm_id.rpartition("/")[2],
        "type": kind,
        "properties": properties,
        "systemData": {"createdAt": now, "lastModifiedAt": now, "createdBy": "emulator", "lastModifiedBy": "emulator"},
        **more,
    }
