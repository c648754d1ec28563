"""What the target's own history says: which of its commits are ours, and whether scoring again is due."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from aml_spark.errors import listed
from aml_spark.table import Commit

_KEY = "aml_spark"

# Delta's operations after which the rows are the same. Any other that comes after ours makes scoring due.
_KEEPS_ROWS = frozenset(
    {
        "ADD COLUMNS",
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


# Those after which the table is the same. Others may have made another in its place, or have brought one back.
_KEEPS_TABLE = _KEEPS_ROWS | {"DELETE", "MERGE", "STREAMING UPDATE", "UPDATE", "WRITE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a commit of ours carries as `userMetadata`.

    Args:
        attempt: a UUID of the call that wrote it.
        sequence: Delta's transaction version; one above that of our last commit.
        source: name or path of the source.
        source_id: Delta's id of it.
        source_version: the version that was scored.
        source_mark: that of the commit which made it, or None.
        model: name in the registry, or None.
        model_version: version in the registry, or None.
        model_uri: address without alias.
        model_digest: SHA-256 of the model's files.
        run_id: the run that logged the model, or None.
        spec: what else decides the rows, see `Request.spec`, and the model's name.
        library: our version.
        columns: those of the target that are ours, the prediction's included.
        scope: `"all"` where it replaced all rows, `"changes"` where it changed some, `"backfill"` where it scored some
            again.
        mixed: whether rows of other models than this one are left.
        based_on: the target's version that was looked at; None where it was new.
        query_id: of the streaming query that asked for it, or None.
        batch_id: its micro-batch.
        backfill: of a backfill its name, and the `where` and `from_version` that chose the rows.
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
    spec: Mapping[str, Any]
    library: str
    columns: list[str] = field(default_factory=list)
    scope: str = "all"
    mixed: bool = False
    based_on: int | None = None
    query_id: str | None = None
    batch_id: int | None = None
    backfill: Mapping[str, Any] | None = None
    source_mark: str | None = None

    def to_json(self) -> str:
        """As the commit carries it."""
        return json.dumps({_KEY: asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | None) -> Entry | None:
        """Read a commit's `userMetadata`; None where it isn't ours."""
        try:
            found = json.loads(text or "null")[_KEY]
            if not isinstance(found["spec"], dict):  # of a version that was never released
                return None
            return cls(**{name: found[name] for name in cls.__slots__ if name in found})
        except (ValueError, KeyError, TypeError):
            return None

    @classmethod
    def of(cls, commit: Commit) -> Entry | None:
        """What a commit of ours says; None where it isn't ours, or only put files together after one."""
        return None if commit.operation in _KEEPS_ROWS else cls.from_json(commit.metadata)

    def knows(self, commits: Sequence[Commit]) -> bool:
        """Whether these newest commits of a table show that it is the source still: nothing else has to be asked."""
        for commit in commits:
            if commit.version <= self.source_version:
                is_same = (commit.version, commit.mark) == (self.source_version, self.source_mark)
                return is_same and self.source_mark is not None
            if commit.operation not in _KEEPS_TABLE:
                break
        return False

    def same_model(self, other: Entry) -> bool:
        """Whether both score with the same model."""
        names = ("model", "model_version", "model_digest")
        return all(getattr(self, name) == getattr(other, name) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What is to be done.

    Args:
        scope: `"nothing"`, `"changes"`, `"backfill"` or `"all"`.
        reason: why, as a part of a sentence.
    """

    scope: str
    reason: str


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
        ours: tuple[Entry, int] | None = None
        for commit in commits:
            if ours is not None and (ours[0].based_on is None or commit.version <= ours[0].based_on):
                break
            entry = Entry.of(commit)
            if entry is not None:
                ours = ours or (entry, commit.version)
            elif commit.operation not in _KEEPS_ROWS:
                later.append(commit.operation)
        if ours is None:
            return cls()
        # Also what came between the version that was looked at and ours: nobody noticed it.
        return cls(entry=ours[0], version=ours[1], changed_since=tuple(later))

    @staticmethod
    def suffices(commits: Sequence[Commit]) -> bool:
        """Whether these newest commits of a history tell the same as all of them."""
        for commit in commits:
            if entry := Entry.of(commit):
                return entry.based_on is None or commits[-1].version <= entry.based_on
        return False

    def due(self, wanted: Entry, *, changes: bool, keeps_model: bool) -> Due:
        """What would make the table hold what this entry says.

        Args:
            wanted: what the table shall hold.
            changes: whether the source's changes can be scored alone.
            keeps_model: whether rows that didn't change keep the prediction of another model.
        """
        has = self.entry
        if has is None:
            return Due(scope="all", reason="no commit of score() is in the target's history")
        if differing(has.spec, wanted.spec):
            return Due(scope="all", reason="the target was scored with other arguments")
        if self.changed_since:
            return Due(scope="all", reason=f"{listed(self.changed_since)} changed the target's rows")
        if has.source_id != wanted.source_id:
            return Due(scope="all", reason="the source is another table than before")
        if not has.same_model(wanted) and not keeps_model:
            return Due(scope="all", reason=f"the model was {has.model_uri} before")
        if has.mixed and not keeps_model:
            return Due(scope="all", reason="rows of other models are left")
        if has.source_version == wanted.source_version:
            return Due(scope="nothing", reason="the target holds these predictions")
        if not changes or has.source_version > wanted.source_version:
            return Due(scope="all", reason=f"the target holds version {has.source_version} of the source")
        return Due(scope="changes", reason=f"the source changed since version {has.source_version}")

    def next_sequence(self, table_version: int | None) -> int:
        """The transaction version to write with.

        Delta drops a write whose version isn't above the last one. Where no commit of ours is left in the history,
        the table's own version is above all that we ever wrote with, because each of our commits added one to both.
        """
        if self.entry is not None:
            return self.entry.sequence + 1
        return 1 if table_version is None else table_version + 1


def differing(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The arguments that would make other rows of two specs.

    Where `on_error` was `"raise"` no row failed, so all are as any other choice has them.
    """
    return [
        name for name, value in now.items()
        if was.get(name) != value and (name, was.get(name)) != ("on_error", "raise")
    ]  # fmt: skip
