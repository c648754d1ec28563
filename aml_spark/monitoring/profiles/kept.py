"""Profiles that stay: as rows of a Delta table, by which a baseline isn't read again, and as JSON beside a run."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aml_spark import table, writer
from aml_spark.datalake import reach
from aml_spark.errors import ArgumentError, TargetError
from aml_spark.monitoring.profiles.frequencies import Frequencies
from aml_spark.monitoring.profiles.histogram import Histogram
from aml_spark.monitoring.profiles.profile import Centroid, Column, Profile
from aml_spark.table import Table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FORMAT = 1
"""What records mean. Those of another format are never read."""
_RECORD = {
    "place": "INT",  # of the profile among those that were kept together
    "source": "STRING",
    "version": "BIGINT",
    "slice": "STRING",
    "window": "STRING",
    "table_rows": "BIGINT",
    "position": "INT",  # of the column; null is a profile without columns
    "name": "STRING",
    "type": "STRING",
    "kind": "STRING",
    "rows": "BIGINT",
    "nulls": "BIGINT",
    "nans": "BIGINT",
    "positive_infinities": "BIGINT",
    "negative_infinities": "BIGINT",
    "mean": "DOUBLE",
    "m2": "DOUBLE",
    "note": "STRING",
    "level": "INT",  # the histogram's
    "codes": "ARRAY<BIGINT>",
    "counts": "ARRAY<BIGINT>",
    "lows": "ARRAY<DOUBLE>",
    "highs": "ARRAY<DOUBLE>",
    "means": "ARRAY<DOUBLE>",
    "value_texts": "ARRAY<STRING>",  # the frequencies'; null where there are none
    "value_counts": "ARRAY<BIGINT>",
    "value_rest": "BIGINT",
    "value_distinct": "BIGINT",
    "value_most_missed": "BIGINT",
    "dimension": "INT",  # the centroid's; null where there is none
    "other_vectors": "BIGINT",
    "vectors": "BIGINT",
    "centroid": "ARRAY<DOUBLE>",
}
_ABOUT = {"saved": "STRING", "saved_at": "TIMESTAMP", "source_id": "STRING", "source_version": "BIGINT"}
DDL = ", ".join(f"`{name}` {kind}" for name, kind in {**_ABOUT, "asked": "STRING", **_RECORD}.items())
"""The table's columns: a row for each column of each profile. `saved` is the same in all rows that were saved together,
`source_id` and `source_version` say what was read, `asked` is `asked`'s digest."""
_COLUMN = ("name", "type", "kind", "rows", "nulls", "nans", "positive_infinities", "negative_infinities")
_COLUMN_LAST = ("mean", "m2", "note")
_HISTOGRAM = ("codes", "counts", "lows", "highs", "means")


def asked(
    *,
    columns: Sequence[str] | None = None,
    where: str | None = None,
    by: str | None = None,
    zone: str | None = None,
) -> str:
    """A digest of what profiles were asked for: equal ones of one version of a table are equal.

    Args:
        columns: as for `passes.profiles`.
        where: SQL condition on the rows.
        by: as for `passes.profiles`.
        zone: the session's time zone, in which texts of times are meant.
    """
    told = [FORMAT, None if columns is None else list(columns), where, by, zone]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def save(
    spark: SparkSession, profiles: Sequence[Profile], to: str, *, source_id: str, source_version: int, asked: str
) -> None:
    """Append profiles to a Delta table in one commit; it is made where it isn't there.

    Args:
        spark: the session.
        profiles: all that were asked for.
        to: Delta table: a name, a path or a URI.
        source_id: Delta's id of the table that was read, see `table.identifier`; a table that is made anew has another.
        source_version: the version of it.
        asked: the digest that `asked` gives.

    Raises:
        TargetError: another table is there.
        TableError: it can't be written.
    """
    place = Table.of(reach(spark, to))
    writer.create(spark, place, DDL)
    _check(spark, place)
    about = (uuid.uuid4().hex, datetime.datetime.now(datetime.timezone.utc), source_id, source_version, asked)
    rows = [(*about, *(record[name] for name in _RECORD)) for record in _records(profiles)]
    df = spark.createDataFrame(rows, DDL)
    try:
        if place.is_path:
            df.write.format("delta").mode("append").save(place.text)
        else:
            df.writeTo(place.sql).append()
    except Exception as error:
        raise writer.write_error(place, error) from None


def load(spark: SparkSession, kept_in: str, *, source_id: str, source_version: int, asked: str) -> list[Profile] | None:
    """The profiles that `save` kept last under the same three; None where there are none, or no such table.

    Raises:
        TargetError: another table is there.
    """
    from pyspark.sql import functions as F

    place = Table.of(reach(spark, kept_in))
    if not table.history(spark, place, 1):
        return None
    _check(spark, place)
    known = spark.sql(f"SELECT * FROM {place.sql}").where(
        (F.col("source_id") == source_id) & (F.col("source_version") == source_version) & (F.col("asked") == asked)
    )
    newest = known.orderBy(F.desc("saved_at"), "saved").select("saved").head(1)
    if not newest:
        return None
    return _profiles([row.asDict() for row in known.where(F.col("saved") == newest[0][0]).collect()])


def to_json(profiles: Sequence[Profile]) -> str:
    """As one JSON object, strictly: NaN is null, infinity is a text."""
    records = [
        {name: _told(value) for name, value in record.items() if value is not None} for record in _records(profiles)
    ]
    return json.dumps({"format": FORMAT, "profiles": records}, ensure_ascii=False, allow_nan=False)


def from_json(text: str) -> list[Profile]:
    """Read what `to_json` wrote.

    Raises:
        ArgumentError: it isn't that, or of another format.
    """
    try:
        found = json.loads(text)
        if found["format"] != FORMAT:
            raise ArgumentError(f"the profiles have format {found['format']!r}; expected {FORMAT}")
        return _profiles([{**dict.fromkeys(_RECORD), **record} for record in found["profiles"]])
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError("the text isn't what to_json makes of profiles") from None


def _told(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, list):
        return [_told(one) for one in value]
    return value


def _check(spark: SparkSession, place: Table) -> None:
    has = spark.sql(f"SELECT * FROM {place.sql} LIMIT 0").columns
    if not set(has) >= {*_ABOUT, "asked", *_RECORD}:
        raise TargetError(
            f"profiles are kept in {place.text!r}, but that is another table", hint="name another table for them"
        )


def _records(profiles: Sequence[Profile]) -> list[dict[str, Any]]:
    """One for each column of each profile, one for a profile without columns; all have the keys of `_RECORD`."""
    records = []
    for place, profile in enumerate(profiles):
        about = {name: getattr(profile, name) for name in ("source", "version", "slice", "window")}
        record = {**dict.fromkeys(_RECORD), "place": place, **about, "table_rows": profile.rows}
        columns = profile.columns.values()
        records += [record | {"position": at, **_column_record(column)} for at, column in enumerate(columns)] or [
            record
        ]
    return records


def _column_record(column: Column) -> dict[str, Any]:
    record = {name: getattr(column, name) for name in (*_COLUMN, *_COLUMN_LAST)}
    record |= {"level": column.histogram.level}
    record |= {name: getattr(column.histogram, name).tolist() for name in _HISTOGRAM}
    if (values := column.frequencies) is not None:
        record |= {"value_texts": list(values.counts), "value_counts": list(values.counts.values())}
        record |= {f"value_{name}": getattr(values, name) for name in ("rest", "distinct", "most_missed")}
    if (centroid := column.centroid) is not None:
        record |= {"dimension": centroid.dimension, "other_vectors": centroid.others, "vectors": centroid.count}
        record |= {"centroid": centroid.mean.tolist()}
    return record


def _profiles(records: Sequence[Mapping[str, Any]]) -> list[Profile]:
    grouped: dict[int, list[Mapping[str, Any]]] = {}
    for record in sorted(records, key=lambda record: (record["place"], record["position"] or 0)):
        grouped.setdefault(record["place"], []).append(record)
    return [
        Profile(
            rows=found[0]["table_rows"],
            columns={record["name"]: _column(record) for record in found if record["position"] is not None},
            **{name: found[0][name] for name in ("source", "version", "slice", "window")},
        )
        for found in grouped.values()
    ]


def _column(record: Mapping[str, Any]) -> Column:
    import numpy as np

    codes, counts = (np.array(record[name], dtype=np.int64) for name in ("codes", "counts"))
    lows, highs, means = (np.array(record[name], dtype=np.float64) for name in ("lows", "highs", "means"))
    values, centroid = None, None
    if record["value_texts"] is not None:
        values = Frequencies(
            counts=dict(zip(record["value_texts"], record["value_counts"], strict=True)),
            rest=record["value_rest"],
            distinct=record["value_distinct"],
            most_missed=record["value_most_missed"],
        )
    if record["dimension"] is not None:
        centroid = Centroid(
            dimension=record["dimension"],
            others=record["other_vectors"],
            count=record["vectors"],
            mean=np.array(record["centroid"], dtype=np.float64),
        )
    return Column(
        **{name: record[name] for name in _COLUMN},
        mean=math.nan if record["mean"] is None else float(record["mean"]),
        m2=float(record["m2"]),
        note=record["note"],
        histogram=Histogram(level=record["level"], codes=codes, counts=counts, lows=lows, highs=highs, means=means),
        frequencies=values,
        centroid=centroid,
    )
