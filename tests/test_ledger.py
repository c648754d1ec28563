"""What a target's history says is due."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import pytest
from pyspark.sql import Row

from aml_spark import table
from aml_spark.ledger import Entry, Ledger
from aml_spark.table import Commit

A = Entry(
    attempt="11111111-1111-1111-1111-111111111111",
    sequence=7,
    source="flights",
    source_id="source-guid",
    source_version=3,
    model="delay",
    model_version="1",
    model_uri="models:/delay/1",
    model_digest="a" * 64,
    run_id="run",
    spec={"where": None},
    library="0.1.0",
)
B = replace(A, attempt="2", sequence=8, model_version="2", model_uri="models:/delay/2", model_digest="b" * 64)


def _commit(version: int, operation: str = "WRITE", entry: Entry | None = None, metadata: str | None = None) -> Commit:
    return Commit(version=version, operation=operation, metadata=entry.to_json() if entry else metadata, rows=1)


def _history(*oldest_first: tuple[str, Entry | None]) -> list[Commit]:
    commits = [_commit(version, operation, entry) for version, (operation, entry) in enumerate(oldest_first)]
    return commits[::-1]


def _due(ledger: Ledger, wanted: Entry, *, changes: bool = True, keeps_model: bool = False) -> str:
    return ledger.due(wanted, changes=changes, keeps_model=keeps_model).scope


def _holds(ledger: Ledger, wanted: Entry) -> bool:
    return _due(ledger, wanted, changes=False) == "nothing"


def _again(entry: Entry) -> Entry:
    return replace(entry, attempt="another", sequence=99)


def test_an_entry_survives_json() -> None:
    assert Entry.from_json(A.to_json()) == A


def test_an_entry_whose_spec_is_none_is_not_ours() -> None:
    assert Entry.from_json(A.to_json().replace('{"where": null}', '"a digest"')) is None


@pytest.mark.parametrize(
    ("based_on", "oldest", "suffices"), [(None, 7, True), (7, 7, True), (6, 7, False), (None, 9, False)]
)
def test_the_newest_commits_suffice_where_ours_and_what_it_was_based_on_are_among_them(
    based_on: int | None, oldest: int, suffices: bool
) -> None:
    ours = _commit(8, "MERGE", replace(A, based_on=based_on))
    commits = [_commit(10), _commit(9), ours, _commit(7)]
    assert Ledger.suffices([one for one in commits if one.version >= oldest]) is suffices


def test_an_entry_of_an_unregistered_model_survives_json() -> None:
    entry = replace(A, model=None, model_version=None, run_id=None)
    assert Entry.from_json(entry.to_json()) == entry


def test_an_entry_is_one_json_object_under_our_name() -> None:
    assert json.loads(A.to_json()) == {"aml_spark": asdict(A)}


def test_an_entry_with_fields_of_a_later_version_is_read() -> None:
    text = json.dumps({"aml_spark": {**asdict(A), "later": 1}, "other": 2})
    assert Entry.from_json(text) == A


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "nightly load",
        "null",
        "5",
        '"aml_spark"',
        "[]",
        '["aml_spark"]',
        "{}",
        '{"aml_spark": null}',
        '{"aml_spark": []}',
        '{"aml_spark": "x"}',
        '{"aml_spark": {"attempt": "1"}}',
        '{"other": {}}',
        "{",
    ],
)
def test_metadata_of_others_is_no_entry(text: str | None) -> None:
    assert Entry.from_json(text) is None


@pytest.mark.parametrize(
    ("mark", "later", "knows"),
    [
        ("of version 3", [], True),
        ("of version 3", ["WRITE", "OPTIMIZE", "MERGE"], True),
        ("of another table's version 3", [], False),
        ("of another table's version 3", ["WRITE"], False),
        ("of version 3", ["WRITE", "RESTORE", "WRITE"], False),
        ("of version 3", ["CREATE OR REPLACE TABLE AS SELECT"], False),
        ("of version 3", ["an operation of the future"], False),
        (None, [], False),
    ],
)
def test_a_source_is_known_by_the_commit_that_was_scored_and_what_came_after_it(
    mark: str | None, later: list[str], knows: bool
) -> None:
    scored = replace(_commit(3), mark=mark)
    commits = [scored, *(_commit(4 + number, operation) for number, operation in enumerate(later))][::-1]
    assert replace(A, source_mark="of version 3").knows([*commits, _commit(2)]) is knows
    assert not A.knows(commits), "which an earlier version of this library wrote"


@pytest.mark.parametrize(
    ("version", "millisecond", "is_marked"), [(0, 0, False), (0, 1, True), (1, 0, True), (1, 999, True)]
)
def test_a_commit_that_another_table_may_have_has_no_mark(version: int, millisecond: int, is_marked: bool) -> None:
    made = datetime(2026, 1, 2, 3, 4, 5, 1000 * millisecond)
    row = Row(version=version, timestamp=made, operation="WRITE", operationMetrics={"b": "1", "a": None})
    first = table._commit(Row(**row.asDict(), userMetadata=None))
    assert (first.mark is not None) is is_marked
    assert first.mark == table._commit(Row(userMetadata=None, **row.asDict())).mark
    assert not is_marked or first.mark != table._commit(Row(userMetadata="other", **row.asDict())).mark


@pytest.mark.parametrize("versions", [[], [2], [2, 1, 0], [9, 8, 7]])
def test_a_source_is_not_known_where_the_commit_that_was_scored_is_not_there(versions: list[int]) -> None:
    commits = [replace(_commit(version), mark="of version 3") for version in versions]
    assert not replace(A, source_mark="of version 3").knows(commits)


def test_a_table_without_history_holds_nothing() -> None:
    ledger = Ledger.of([])
    assert (ledger.entry, ledger.version, tuple(ledger.changed_since)) == (None, None, ())
    assert not _holds(ledger, A)


def test_a_table_written_by_others_holds_nothing() -> None:
    ledger = Ledger.of([_commit(1, metadata='{"job": 5}'), _commit(0, "CREATE TABLE")])
    assert ledger.entry is None
    assert not _holds(ledger, A)


def test_the_same_work_is_not_due_again() -> None:
    ledger = Ledger.of(_history(("WRITE", A)))
    assert (ledger.entry, ledger.version) == (A, 0)
    assert _holds(ledger, _again(A))


@pytest.mark.parametrize(
    "operation", ["OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES", "ANALYZE", "UPGRADE PROTOCOL"]
)
def test_an_operation_that_keeps_the_rows_leaves_nothing_due(operation: str) -> None:
    ledger = Ledger.of(_history(("WRITE", A), (operation, None)))
    assert _holds(ledger, _again(A))
    assert ledger.version == 0


@pytest.mark.parametrize(
    "operation",
    ["RESTORE", "WRITE", "DELETE", "UPDATE", "MERGE", "TRUNCATE", "STREAMING UPDATE", "CREATE OR REPLACE TABLE", "NEW"],
)
def test_an_operation_that_changes_rows_makes_scoring_due(operation: str) -> None:
    ledger = Ledger.of(_history(("WRITE", A), (operation, None)))
    assert tuple(ledger.changed_since) == (operation,)
    assert not _holds(ledger, _again(A))


def test_keeping_operations_after_a_change_do_not_hide_it() -> None:
    assert not _holds(Ledger.of(_history(("WRITE", A), ("DELETE", None), ("OPTIMIZE", None))), A)


def test_changes_before_our_commit_do_not_count() -> None:
    ledger = Ledger.of(_history(("WRITE", None), ("DELETE", None), ("WRITE", A)))
    assert _holds(ledger, _again(A))
    assert ledger.version == 2


def test_scoring_again_after_a_change_puts_it_right() -> None:
    history = _history(("WRITE", A), ("DELETE", None), ("WRITE", replace(A, attempt="2", sequence=8)))
    assert _holds(Ledger.of(history), _again(A))


def test_model_a_after_model_b_is_due_again() -> None:
    ledger = Ledger.of(_history(("WRITE", A), ("WRITE", B)))
    assert ledger.entry == B
    assert _holds(ledger, _again(B))
    assert not _holds(ledger, _again(A))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source_id", "x"),
        ("source_version", 4),
        ("model", "x"),
        ("model_version", "2"),
        ("model_digest", "x"),
        ("spec", {"where": "x"}),
    ],
)
def test_a_difference_in_what_decides_the_rows_is_other_work(name: str, value: Any) -> None:
    other = replace(A, **{name: value})
    assert not _holds(Ledger.of(_history(("WRITE", A))), other)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempt", "x"),
        ("sequence", 1),
        ("source", "/renamed"),
        ("model_uri", "models:/delay@champion"),
        ("run_id", None),
        ("library", "9"),
    ],
)
def test_a_difference_in_anything_else_is_the_same_work(name: str, value: Any) -> None:
    assert _holds(Ledger.of(_history(("WRITE", A))), replace(A, **{name: value}))


LATER = replace(_again(A), source_version=9)


def test_a_source_that_went_on_makes_its_changes_due_where_they_can_be_scored_alone() -> None:
    ledger = Ledger.of(_history(("WRITE", A), ("ADD COLUMNS", None)))
    assert _due(ledger, LATER) == "changes"
    assert _due(ledger, LATER, changes=False) == "all"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source_id", "x"),
        ("source_version", 2),
        ("model_version", "2"),
        ("model_digest", "x"),
        ("spec", {"where": "x"}),
    ],
)
def test_other_differences_make_the_whole_due(name: str, value: Any) -> None:
    assert _due(Ledger.of(_history(("WRITE", A))), replace(LATER, **{name: value})) == "all"


def test_a_model_that_is_kept_makes_only_changes_due() -> None:
    ledger = Ledger.of(_history(("WRITE", A)))
    other = replace(LATER, model_version="2", model_digest="x")
    assert _due(ledger, other, keeps_model=True) == "changes"
    assert _due(ledger, replace(other, source_version=A.source_version), keeps_model=True) == "nothing"


def test_rows_of_a_model_that_was_kept_make_the_whole_due_once_it_is_no_more() -> None:
    mixed = Ledger.of(_history(("WRITE", A), ("MERGE", replace(B, scope="changes", mixed=True, based_on=0))))
    assert _due(mixed, replace(_again(B), source_version=9), keeps_model=True) == "changes"
    assert _due(mixed, _again(B)) == "all"


def test_files_put_together_right_after_a_commit_are_none_of_ours() -> None:
    ledger = Ledger.of(_history(("MERGE", A), ("OPTIMIZE", A)))  # in a session that stamps all it writes
    assert (ledger.entry, ledger.version) == (A, 0)


def test_changes_of_others_make_the_whole_due_before_and_after_ours() -> None:
    merged = replace(A, sequence=8, source_version=4, based_on=0)
    assert _due(Ledger.of(_history(("WRITE", A), ("MERGE", merged))), LATER) == "changes"
    assert _due(Ledger.of(_history(("WRITE", A), ("MERGE", merged), ("DELETE", None))), LATER) == "all"
    # It came between the look at the history and the merge, which went on without noticing it.
    between = Ledger.of(_history(("WRITE", A), ("WRITE", None), ("MERGE", merged)))
    assert (_due(between, LATER), between.changed_since) == ("all", ("WRITE",))
    kept = Ledger.of(_history(("WRITE", A), ("OPTIMIZE", None), ("MERGE", merged)))
    assert _due(kept, LATER) == "changes"
    before = Ledger.of(_history(("WRITE", A), ("WRITE", None), ("MERGE", replace(merged, based_on=1))))
    assert _due(before, LATER) == "changes"


def test_an_entry_of_an_earlier_version_of_this_library_is_read() -> None:
    text = json.dumps({"aml_spark": {name: value for name, value in asdict(A).items() if name != "based_on"}})
    assert Entry.from_json(text) == A


def test_the_sequence_starts_at_one() -> None:
    assert Ledger().next_sequence(None) == 1


def test_the_sequence_goes_on_from_our_last_commit() -> None:
    assert Ledger.of(_history(("WRITE", A))).next_sequence(0) == A.sequence + 1
    # also after others wrote, whatever the table's version
    assert Ledger.of(_history(("WRITE", A), *[("WRITE", None)] * 40)).next_sequence(40) == A.sequence + 1


def test_the_sequence_of_a_table_without_our_commits_is_above_its_version() -> None:
    assert Ledger.of([_commit(12)]).next_sequence(12) == 13
    assert Ledger.of([_commit(0)]).next_sequence(0) == 1


@pytest.mark.parametrize("foreign", [1, 2, 5])
def test_the_sequence_keeps_rising_when_our_commits_left_the_history(foreign: int) -> None:
    # The worst case: all commits but the last few were ours, from the table's first on.
    sequence = 0
    for version in range(10):
        ledger = Ledger.of([_commit(version - 1, entry=replace(A, sequence=sequence))]) if version else Ledger()
        sequence = ledger.next_sequence(version - 1 if version else None)
    newest = 9 + foreign
    trimmed = Ledger.of([_commit(newest - number) for number in range(foreign)])
    assert trimmed.next_sequence(newest) > sequence
