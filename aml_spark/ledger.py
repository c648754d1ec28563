"""What the target's own history says: which of its commits are ours, and whether scoring again is due."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from aml_spark.table import Commit

_KEY = "aml_spark"

# Delta's operations after which the rows are the same. Any other that comes after ours makes scoring due.
_KEEPS_ROWS = frozenset(
    {
        "ADD CONSTRAINT",
        "ANALYZE",
        "CLUSTER BY",
        "COMPUTE STATS",
        "DROP CONSTRAINT",
        "DROP FEATURE",
        "OPTIMIZE",
        "REORG",
        "SET TBLPROPERTIES",
        "UNSET TBLPROPERTIES",
        "UPGRADE PROTOCOL",
        "VACUUM END",
        "VACUUM START",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a commit of ours carries as `userMetadata`.

    Args:
        attempt: a UUID of the call that wrote it.
        sequence: Delta's transaction version; one above that of our last commit.
        source: name or path of the source.
        source_id: Delta's id of it.
        source_version: the version that was scored.
        model: name in the registry, or None.
        model_version: version in the registry, or None.
        model_uri: address without alias.
        model_digest: SHA-256 of the model's files.
        run_id: the run that logged the model, or None.
        spec: digest of what else decides the rows: source, where, columns and so on.
        library: our version.
    """

    attempt: str
    sequence: int
    source: str
    source_id: str
    source_version: int
    model: str | None
    model_version: str | None
    model_uri: str
    model_digest: str
    run_id: str | None
    spec: str
    library: str

    def to_json(self) -> str:
        """As the commit carries it."""
        return json.dumps({_KEY: asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | None) -> Entry | None:
        """Read a commit's `userMetadata`; None where it isn't ours."""
        try:
            found = json.loads(text or "null")
            return cls(**{name: found[_KEY][name] for name in cls.__slots__})
        except (ValueError, KeyError, TypeError):
            return None

    def same_work(self, other: Entry) -> bool:
        """Whether both score the same rows with the same model in the same way."""
        names = ("source_id", "source_version", "model", "model_version", "model_digest", "spec")
        return all(getattr(self, name) == getattr(other, name) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Our newest commit in a table's history, and what came after it.

    Args:
        entry: what it says; None where no commit is ours.
        version: the table's version that it made.
        changed_since: operations after it that changed rows.
    """

    entry: Entry | None = None
    version: int | None = None
    changed_since: Sequence[str] = field(default=())

    @classmethod
    def of(cls, commits: Sequence[Commit]) -> Ledger:
        """Read a history, newest commit first."""
        later: list[str] = []
        for commit in commits:
            if entry := Entry.from_json(commit.metadata):
                return cls(entry=entry, version=commit.version, changed_since=tuple(later))
            if commit.operation not in _KEEPS_ROWS:
                later.append(commit.operation)
        return cls()

    def holds(self, wanted: Entry) -> bool:
        """Whether the table holds just what this entry would write."""
        return self.entry is not None and not self.changed_since and self.entry.same_work(wanted)

    def next_sequence(self, table_version: int | None) -> int:
        """The transaction version to write with.

        Delta drops a write whose version isn't above the last one. Where no commit of ours is left in the history,
        the table's own version is above all that we ever wrote with, because each of our commits added one to both.
        """
        if self.entry is not None:
            return self.entry.sequence + 1
        return 1 if table_version is None else table_version + 1


def digest(parts: Mapping[str, Any]) -> str:
    """A stable digest of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
