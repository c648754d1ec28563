"""Delta tables written, changed and read by delta-rs: in milliseconds, where Spark takes a second for each.

Where a test is about what Spark writes, Spark writes. What a table asks of its readers beyond the first version of
Delta's protocol (deletion vectors, column mapping, timestamp_ntz) is left to Spark, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, write_deltalake

FEED = {"delta.enableChangeDataFeed": "true"}


def write(
    path: str,
    columns: Mapping[str, Sequence[Any]] | pa.Table,
    *,
    properties: Mapping[str, str] | None = None,
    mode: Any = "error",
) -> None:
    """Make a table of columns, or write them to one; Python's integers are long, its floats double."""
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    write_deltalake(path, table, mode=mode, configuration=dict(properties or {}))


def insert(path: str, *rows: Sequence[Any]) -> None:
    """Append rows, whose values come in the order of the table's columns."""
    schema = pa.schema(DeltaTable(path).schema().to_arrow())
    columns = [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)]
    write_deltalake(path, pa.Table.from_arrays(columns, schema=schema), mode="append")


def update(path: str, where: str, **values: str) -> None:
    """Set columns to what SQL gives, in the rows for which a condition holds."""
    DeltaTable(path).update(values, predicate=where)


def delete(path: str, where: str) -> None:
    DeltaTable(path).delete(where)


def is_plain(path: str) -> bool:
    """Whether a table lies in a folder, and the first version of Delta's protocol is enough to read it."""
    return "://" not in path and DeltaTable(path).protocol().min_reader_version == 1


def rows(path: str, columns: str = "*", where: str = "true") -> list[tuple[Any, ...]]:
    """What SQL selects of a table, in no order."""
    query = QueryBuilder().register("rows", DeltaTable(path)).execute(f"SELECT {columns} FROM rows WHERE {where}")
    # Without pyarrow, whose oldest version doesn't know the texts that delta-rs gives.
    return list(zip(*([value.as_py() for value in column] for column in query.read_all().columns), strict=True))


def columns(path: str) -> list[str]:
    return [field.name for field in DeltaTable(path).schema().fields]


def versions(path: str) -> int:
    """How many commits there were."""
    return int(DeltaTable(path).version()) + 1
