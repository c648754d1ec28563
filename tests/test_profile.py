"""Profiles: the maths of their parts, the passes that make them, and where they are kept."""

from __future__ import annotations

import datetime
import decimal
import importlib.util
import math
import sys
import zipfile
import zipimport
from collections.abc import Iterable, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from aml_spark.errors import ArgumentError, SchemaError, TargetError
from aml_spark.monitoring.profiles import counting, kept
from aml_spark.monitoring.profiles.fields import MISSING, OTHER
from aml_spark.monitoring.profiles.frequencies import Frequencies
from aml_spark.monitoring.profiles.histogram import MOST_BUCKETS, Histogram
from aml_spark.monitoring.profiles.passes import profiles
from aml_spark.monitoring.profiles.profile import Centroid, Column, Profile

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

try:
    from hypothesis import given as _given, settings, strategies as st
except ImportError:  # it isn't there with the oldest versions
    st = None  # type: ignore[assignment]


def _merged(parts: Sequence[Histogram]) -> Histogram:
    return reduce(Histogram.merge, parts)


def _same(one: Histogram, two: Histogram) -> None:
    assert one.level == two.level
    for name in ("codes", "counts", "lows", "highs"):
        assert getattr(one, name).tolist() == getattr(two, name).tolist()
    np.testing.assert_allclose(one.means, two.means, rtol=1e-12, atol=1e-320)


def _column(values: Any) -> Column:
    numbers = np.asarray(values, dtype=np.float64)
    mean = float(numbers.mean()) if len(numbers) else math.nan
    m2 = float(((numbers - mean) ** 2).sum())
    return Column(
        name="x", type="double", kind="numeric", rows=len(numbers), mean=mean, m2=m2, histogram=Histogram.of(numbers)
    )


# Maths

if st is not None:

    def given(*drawn: Any) -> Any:
        return lambda test: settings(deadline=None)(_given(*drawn)(test))

    numbers = st.lists(
        st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.floats(-5, 5), st.integers(-9, 9).map(float)),
        max_size=60,
    )
    seeds = st.integers(0, 2**32 - 1)
    counted = st.builds(
        lambda counts, rest: Frequencies(
            counts=counts, rest=rest, distinct=len(counts) + (rest > 0), most_missed=min(rest, 1)
        ),
        st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9)),
        st.integers(0, 3),
    )

    @given(numbers, numbers, numbers)
    def test_histograms_are_put_together_in_any_order_and_are_that_of_the_whole(
        one: list[float], two: list[float], three: list[float]
    ) -> None:
        first, second, third = map(Histogram.of, (one, two, three))
        whole = Histogram.of([*one, *two, *three])
        _same(first.merge(second).merge(third), whole)
        _same(third.merge(first.merge(second)), whole)
        _same(first.merge(Histogram.empty()), first)

    @given(seeds)
    def test_histograms_that_were_joined_are_put_together_in_any_order(seed: int) -> None:
        random = np.random.default_rng(seed)
        parts = [random.normal(at, 10.0 ** random.integers(-3, 4), random.integers(1, 4000)) for at in range(4)]
        whole = Histogram.of(np.concatenate(parts))
        assert len(whole.codes) <= MOST_BUCKETS
        _same(_merged([Histogram.of(part) for part in parts]), whole)
        _same(_merged([Histogram.of(part) for part in reversed(parts)]), whole)

    @given(seeds, st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 0.9375, 1.0]))
    def test_a_quantile_is_right_to_within_the_stated_width(seed: int, share: float) -> None:
        random = np.random.default_rng(seed)
        values = random.normal(0, 1, random.integers(1, 3000)) * 10.0 ** random.integers(-5, 5)
        found = Histogram.of(values)
        right = float(np.quantile(values, share, method="inverted_cdf"))
        assert found.quantile(share) == pytest.approx(right, rel=found.width, abs=0)

    @given(numbers.filter(len), numbers.filter(len))
    def test_moments_of_parts_are_those_of_the_whole(one: list[float], two: list[float]) -> None:
        one, two = (np.clip(part, -1e100, 1e100).tolist() for part in (one, two))
        both = _column(one).merge(_column(two))
        scale = max(map(abs, [*one, *two])) or 1.0
        assert both.mean / scale == pytest.approx(np.mean([*one, *two]) / scale, abs=1e-12)
        assert both.deviation / scale == pytest.approx(np.std([*one, *two]) / scale, rel=1e-6, abs=1e-9)
        same = both.merge(_column([]))
        assert (same.mean, same.m2, same.rows) == (both.mean, both.m2, both.rows)

    @given(counted, counted, counted)
    def test_frequencies_are_put_together_in_any_order(one: Frequencies, two: Frequencies, three: Frequencies) -> None:
        assert one.merge(two) == two.merge(one)
        assert one.merge(two).merge(three) == one.merge(two.merge(three))
        assert one.merge(two).total == one.total + two.total
        assert one.merge(Frequencies(counts={})) == one


def test_each_power_of_two_opens_a_bucket() -> None:
    powers = 2.0 ** np.arange(-1074, 1024)
    below = np.nextafter(powers[100:], 0) * (1 - 1e-8)  # of the smallest there is no number so near
    assert len(np.unique(Histogram.of(powers).at(10).codes)) == len(Histogram.of(powers).codes)
    for power, less in zip(powers[100:], below, strict=True):
        assert len(Histogram.of([power, less]).codes) == 2


def test_the_extremes_of_doubles_are_counted() -> None:
    values = [1.7e308, 1.7e308, -1.7e308, 5e-324, -5e-324, 0.0, -0.0]
    found = Histogram.of(values)
    assert found.counts.tolist() == [1, 1, 2, 1, 2]
    assert found.means.tolist() == [-1.7e308, -5e-324, 0.0, 5e-324, 1.7e308]
    assert found.is_exact
    assert math.isnan(Histogram.empty().quantile(0.5))


def test_parts_of_another_type_make_a_column_that_is_not_supported() -> None:
    text = Column(name="x", type="string", kind="text", rows=2, nulls=1, frequencies=Frequencies(counts={"a": 1}))
    both = text.merge(_column([1.0]))
    assert (both.kind, both.rows, both.nulls) == ("unsupported", 3, 1)
    assert both.note == "it is string in one part and double in another"


def test_a_column_that_a_part_lacks_is_null_there() -> None:
    one = Profile(rows=1, columns={"x": _column([1.0])}, source="t", slice="a")
    two = Profile(rows=3, columns={}, source="t", slice="b")
    for both in (one.merge(two), two.merge(one)):
        assert (both.rows, both.columns["x"].rows, both.columns["x"].nulls) == (4, 4, 3)
        assert (both.source, both.slice) == ("t", None)


def test_vectors_of_another_dimension_are_others() -> None:
    many = Centroid(dimension=2, others=1, count=3, mean=np.array([1.0, 2.0]))
    few = Centroid(dimension=3, others=0, count=2, mean=np.zeros(3))
    columns = [Column(name="v", type="array<double>", kind="embedding", rows=5, centroid=part) for part in (many, few)]
    both = columns[1].merge(columns[0]).centroid
    assert both is not None
    assert (both.dimension, both.others, both.count, both.mean.tolist()) == (2, 3, 3, [1.0, 2.0])


# Passes


def _told(found: list[Profile]) -> str:
    return kept.to_json(found)


def _one(found: list[Profile]) -> Profile:
    (only,) = found
    return only


SEED = 7


@pytest.mark.every_kind
@pytest.mark.oldest
def test_a_pass_finds_what_numpy_finds_and_what_it_found_can_be_kept(spark: SparkSession, tmp_path: Path) -> None:
    random = np.random.default_rng(SEED)
    rows = 6000
    frame = pd.DataFrame(
        {
            "wide.`é": random.normal(0, 1, rows),
            "far": 1e9 + random.normal(0, 1, rows),
            "whole": random.integers(-9, 9, rows),
            "text": [f"t{number}" for number in random.integers(0, 1200, rows)],
            "flag": random.random(rows) < 0.25,
            "group": random.choice(["a", "b"], rows),
        }
    )
    odd = [5e-324, 1e308, -1e308, 8.0, 0.0, -0.0, 4.0]
    frame.iloc[: len(odd), 0] = odd
    df = spark.createDataFrame(frame).repartition(3)
    found = profiles(df, columns=[name for name in frame if name != "group"], by="group", source="t", version=3)
    assert [one.slice for one in found] == frame["group"].value_counts().index.tolist()
    for one in found:
        part = frame[frame["group"] == one.slice]
        assert (one.rows, one.source, one.version, one.window) == (len(part), "t", 3, None)
        assert list(one.columns) == [name for name in frame if name != "group"]
        for name in ("wide.`é", "far", "whole"):
            column, values = one.columns[name], part[name].to_numpy(dtype=float)
            _same(column.histogram, Histogram.of(values))
            assert (column.rows, column.nulls, column.min, column.max) == (len(part), 0, values.min(), values.max())
        for name in ("far", "whole"):
            values = part[name].to_numpy(dtype=float)
            assert one.columns[name].mean == pytest.approx(values.mean(), rel=1e-13)
            assert one.columns[name].deviation == pytest.approx(values.std(), rel=1e-6)
        text, flag = one.columns["text"].frequencies, one.columns["flag"].frequencies
        counts = part["text"].value_counts()
        first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:1000]
        assert text is not None
        assert text.counts == dict(first)
        assert (text.total, text.distinct) == (len(part), len(counts))
        assert text.most_missed == (sorted(counts, reverse=True)[1000] if len(counts) > 1000 else 0)
        _same(one.columns["text"].histogram, Histogram.of(part["text"].str.len()))
        assert flag == Frequencies(
            counts={"true": int(part["flag"].sum()), "false": int((~part["flag"]).sum())}, distinct=2
        )
    assert _told(kept.from_json(_told(found))) == _told(found)
    place, under = str(tmp_path / "kept"), {"source_id": "guid", "source_version": 3, "asked": kept.asked(by="group")}
    assert kept.load(spark, place, **under) is None
    kept.save(spark, found[:1], place, **under)
    kept.save(spark, found, place, **under)
    again = kept.load(spark, place, **under)
    assert again is not None
    assert _told(again) == _told(found)
    assert kept.load(spark, place, **{**under, "source_version": 4}) is None


def _counted(batches: list[pa.RecordBatch]) -> dict[tuple[str, int], dict[str, Any]]:
    told = [row for batch in batches for row in batch.to_pylist()]
    return {(row["slice"], row["field"]): row for row in told}


@pytest.mark.parametrize(("most", "parts"), [(1, 28), (1 << 26, 4)])
def test_what_tasks_count_is_put_together_to_that_of_all_rows(
    monkeypatch: pytest.MonkeyPatch, most: int, parts: int
) -> None:
    monkeypatch.setattr(counting, "_BYTES", most)
    random = np.random.default_rng(SEED)
    values = np.concatenate([random.normal(0, 1, 4993), [1.7e308, 1.7e308, -1.7e308, 5e-324, 0.0, -0.0, 8.0]])
    odd = [None, math.nan, math.inf, math.inf, -math.inf]
    rows = [[("a", value) for value in part] for part in np.split(values, [5, 9, 1500])]
    rows += [[("a", one), ("b", 1.5)] for one in odd]
    batches = [
        pa.record_batch(
            {
                "slice": [name for name, _ in part],
                "numbers": [[2.5, value] for _, value in part],
                "text": [str(value) for _, value in part],
            }
        )
        for part in rows
    ]
    batches.append(batches[0].slice(0, 0))
    told = list(counting.counted(["slice"], [3, 7], [8])(iter(batches)))
    assert sum(batch.column("part").is_valid().to_pylist().count(True) for batch in told) == parts
    for some in (told, told[::-1]):
        found = _counted(list(counting.together(["slice"])(iter(some))))
        assert set(found) == {(name, field) for name in "ab" for field in (3, 7, 8)}
        assert (set(found["b", 8]["texts"]), found["b", 8]["lengths"], found["b", 8]["rows"]) == (
            {"1.5"},
            [3],
            [len(odd)],
        )
        whole = found["a", 7]
        assert [whole[name] for name in ("nulls", "nans", "plus", "minus")] == [1, 1, 2, 1]
        arrays = {name: np.array(whole[name]) for name in ("codes", "counts", "lows", "highs", "means")}
        _same(Histogram(level=whole["level"], **arrays), Histogram.of(values))
        assert whole["mean"] == pytest.approx(1.7e308 / len(values), rel=1e-9)
        assert whole["squares"] == math.inf
        assert (found["b", 7]["counts"], found["b", 7]["lows"]) == ([len(odd)], [1.5])
        assert (found["a", 3]["counts"], found["a", 3]["squares"]) == (
            [len(values) + len(odd)],
            pytest.approx(0, abs=1e-20),
        )


def test_parts_have_the_mean_and_the_squares_of_all_numbers() -> None:
    random = np.random.default_rng(SEED)
    parts = [random.normal(at, 10, 700) for at in (1000, 1000, 1010)] + [np.array([math.nan])]
    told = [
        batch
        for part in parts
        for batch in counting.counted([], [0], [])(iter([pa.record_batch({"numbers": [[one] for one in part]})]))
    ]
    told = [batch.set_column(batch.num_columns - 1, "count", pa.array([2])) for batch in told]  # each came twice
    (found,) = (row for batch in counting.together([])(iter(told * 10)) for row in batch.to_pylist())
    values = np.tile(np.concatenate(parts[:-1]), 20)
    assert found["mean"] == pytest.approx(values.mean(), rel=1e-13)
    assert found["squares"] == pytest.approx(((values - values.mean()) ** 2).sum(), rel=1e-10)
    assert (sum(found["counts"]), found["nans"]) == (len(values), 20)


def test_counting_leaves_no_archive_that_is_read_again_before_the_next_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("of_archive.py", "")
    batches: Iterable[pa.RecordBatch] = [pa.record_batch({"numbers": [[1.0]]})]
    for count in (counting.counted([], [0], []), counting.together([])):
        monkeypatch.syspath_prepend(str(tmp_path / "archive.zip"))
        assert importlib.util.find_spec("of_archive") is not None
        batches = list(count(iter(batches)))
        assert not [one for one in sys.path_importer_cache.values() if isinstance(one, zipimport.zipimporter)]
    (found,) = batches
    assert found.to_pylist()[0]["counts"] == [1]


def test_tasks_need_no_library_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyspark import cloudpickle

    pickled = cloudpickle.dumps((counting.counted([], [0], [1]), counting.together([])))
    for name in [name for name in sys.modules if name.partition(".")[0] == "aml_spark"]:
        monkeypatch.setitem(sys.modules, name, None)
    counted, together = cloudpickle.loads(pickled)
    batch = pa.record_batch({"numbers": [[2.0], [2.0], [None]], "x": ["a", None, "a"]})
    numbers, texts = (row for batch in together(counted(iter([batch]))) for row in batch.to_pylist())
    none = dict.fromkeys([name.split()[0] for name in counting.TOGETHER.split(", ")])
    buckets = {"codes": [2098176], "counts": [2], "lows": [2.0], "highs": [2.0], "means": [2.0]}
    assert numbers == {
        **none,
        **buckets,
        **dict.fromkeys(("field", "nans", "plus", "minus", "squares", "level"), 0),
        "nulls": 1,
        "mean": 2.0,
    }
    assert texts == {
        **none,
        **dict.fromkeys(("rest", "most_missed"), 0),
        **dict.fromkeys(("field", "nulls", "distinct"), 1),
        "texts": ["a"],
        "often": [2],
        "lengths": [1],
        "rows": [2],
    }


def test_what_is_asked_for_has_a_digest_of_its_own() -> None:
    ways = [{}, {"columns": []}, {"columns": ["a"]}, {"where": "a"}, {"by": "a"}, {"zone": "UTC"}]
    assert len({kept.asked(**way) for way in ways}) == len(ways)


def test_another_table_is_not_taken_for_profiles(spark: SparkSession, tmp_path: Path) -> None:
    place = str(tmp_path / "other")
    spark.range(1).write.format("delta").save(place)
    with pytest.raises(TargetError, match="that is another table"):
        kept.save(spark, [], place, source_id="", source_version=0, asked="")
    with pytest.raises(ArgumentError, match="isn't what to_json makes"):
        kept.from_json("{}")


TYPES = """
    none DOUBLE, nan DOUBLE, odd FLOAT, price DECIMAL(20,2), at TIMESTAMP, local TIMESTAMP_NTZ, day DATE,
    nested STRUCT<`b.c`: INT, d: STRUCT<e: STRING>>, vector ARRAY<FLOAT>, bytes BINARY, map MAP<STRING, INT>,
    words ARRAY<STRING>, long STRING, `nested.d.e` INT"""


@pytest.mark.oldest
def test_every_type_gives_numbers_or_a_reason(spark: SparkSession) -> None:
    utc, noon = datetime.timezone.utc, datetime.datetime(2020, 1, 1, 12, 0, 0, 500000)
    long = "x" * 300
    first = [3.0, 4.0], b"1", {"a": 1}, ["a"], long + "1", 1
    rows: list[tuple[Any, ...]] = [
        (
            None,
            math.nan,
            1.5,
            decimal.Decimal("1.25"),
            noon.replace(tzinfo=utc),
            noon,
            noon.date(),
            (1, ("a",)),
            *first,
        ),
        (None, math.nan, math.inf, None, None, None, None, None, [1.0, 0.0], None, None, None, long + "2", 2),
        (None, math.nan, -math.inf, None, None, None, None, (None, None), [1.0], None, None, None, "é", 3),
        (None, math.nan, math.nan, None, None, None, None, None, [1.0, None], b"", {}, [], None, 4),
        (None, math.nan, None, None, None, None, None, None, None, None, None, None, None, 5),
    ]
    found = _one(profiles(spark.createDataFrame(rows, TYPES))).columns
    assert {column.rows for column in found.values()} == {5}
    assert (found["none"].nulls, found["none"].histogram.total, found["none"].kind) == (5, 0, "numeric")
    assert math.isnan(found["none"].mean)
    assert (found["nan"].nans, found["nan"].missing, found["nan"].count) == (5, 5, 0)
    odd = found["odd"]
    assert (odd.positive_infinities, odd.negative_infinities, odd.nans, odd.nulls, odd.mean) == (1, 1, 1, 1, 1.5)
    assert (found["price"].max, found["price"].nulls, found["price"].type) == (1.25, 4, "decimal(20,2)")
    at = noon.replace(tzinfo=utc).timestamp()
    assert (found["at"].min, found["local"].max, found["day"].mean) == (at, at, at - 43200.5)
    assert (found["nested.b.c"].nulls, found["nested.b.c"].max) == (4, 1)
    inner = found["`nested`.`d`.`e`"]
    assert (inner.kind, inner.nulls, inner.frequencies) == ("text", 4, Frequencies(counts={"a": 1}, distinct=1))
    assert found["nested.d.e"].histogram.total == 5
    vector = found["vector"]
    assert vector.centroid is not None
    assert (vector.centroid.dimension, vector.centroid.count, vector.centroid.others) == (2, 2, 2)
    assert vector.centroid.mean.tolist() == [2.0, 2.0]
    assert (vector.nulls, vector.nans, vector.min, vector.max) == (1, 1, 1.0, 5.0)
    for name, nulls in (("bytes", 3), ("map", 3), ("words", 3)):
        assert (found[name].kind, found[name].nulls, found[name].histogram.total) == ("unsupported", nulls, 0)
        assert found[name].note
    assert found["long"].frequencies == Frequencies(counts={"x" * 256 + "… (301 characters)": 2, "é": 1}, distinct=2)
    assert (found["long"].min, found["long"].max) == (1, 301)


def test_no_rows_and_no_columns(spark: SparkSession) -> None:
    df = spark.createDataFrame([], "a INT, s STRING, v ARRAY<DOUBLE>, t DATE")
    for found in (profiles(df), profiles(df, by="s", time_column="t", window="day")):
        only = _one(found)
        assert (only.rows, only.slice, only.window, list(only.columns)) == (0, None, None, ["a", "s", "v", "t"])
        assert {column.rows for column in only.columns.values()} == {0}
        assert _told(kept.from_json(_told(found))) == _told(found)
    bare = spark.range(3).select()
    assert (_one(profiles(bare)).rows, _one(profiles(bare)).columns) == (3, {})


def test_slices_and_windows(spark: SparkSession) -> None:
    spark.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
    try:
        # Clocks are put back at 1:00 UTC: the hour from two o'clock comes twice.
        df = spark.sql(
            "SELECT IF(id >= 46, NULL, CAST(id DIV 2 AS STRING)) AS k, id AS x, IF(id = 47, NULL, "
            "timestamp_seconds(1603584000 + IF(id = 46, 3600, 0))) AS t FROM range(48)"
        )
        df = df.selectExpr("*", "array(CAST(x AS DOUBLE)) AS v")
        found = profiles(df, columns=["x", "k", "v"], by="k", time_column="t", window="hour")
        days = profiles(df, columns=["x"], time_column="t", window="week")
    finally:
        spark.conf.unset("spark.sql.session.timeZone")
    slices = [one.slice for one in found]
    assert slices == [*sorted(map(str, range(23)))[:20], OTHER, MISSING, None, None, None]
    assert [one.rows for one in found] == [2] * 20 + [6, 2] + [46, 1, 1]
    windows = ["2020-10-25T02:00:00+02:00", "2020-10-25T02:00:00+01:00", MISSING]
    assert [one.window for one in found] == [None] * 22 + windows  # in the order of time
    assert [(one.window, one.rows, one.slice) for one in days] == [("2020-10-19", 47, None), (MISSING, 1, None)]
    for parts in (found[:22], found[22:]):  # each row is in a slice, and once more in a window
        _same(_merged([one.columns["x"].histogram for one in parts]), Histogram.of(range(48)))
        texts, vectors = zip(*((one.columns["k"], one.columns["v"].centroid) for one in parts), strict=True)
        assert sum(one.frequencies.total for one in texts if one.frequencies) == 46
        assert sum(one.count for one in vectors if one) == 48
    assert [round(one.columns["v"].centroid.mean[0], 9) for one in found[22:] if one.columns["v"].centroid] == [
        sum(range(46)) / 46,
        46,
        47,
    ]


def test_many_texts_are_counted_exactly(spark: SparkSession) -> None:
    df = spark.sql("SELECT IF(id % 3 = 0, 'often', CONCAT('value ', id)) AS s FROM range(60000)")
    found = _one(profiles(df)).columns["s"].frequencies
    assert found is not None
    assert (found.counts["often"], len(found.counts), found.distinct) == (20000, 1000, 40001)
    assert (found.rest, found.most_missed) == (60000 - 20000 - 999, 1)


def test_what_cannot_be_meant_is_refused(spark: SparkSession) -> None:
    df = spark.sql("SELECT 1 AS alpha, 'x' AS text, array('x') AS words, named_struct('b', 1) AS nested")
    with pytest.raises(SchemaError, match=r"columns names 'alpa'") as caught:
        profiles(df, columns=["alpa"])
    assert caught.value.hint == "did you mean 'alpha'?"
    with pytest.raises(SchemaError, match="by names 'words' of type array<string>"):
        profiles(df, by="words")
    with pytest.raises(SchemaError, match="time_column names 'text' of type string; expected a date"):
        profiles(df, time_column="text", window="day")
    with pytest.raises(ArgumentError, match="window is 'minute'"):
        profiles(df, time_column="text", window="minute")
    with pytest.raises(ArgumentError, match="needs time_column"):
        profiles(df, window="day")
    with pytest.raises(SchemaError, match="more than one column of the name 'a'"):
        profiles(spark.sql("SELECT 1 AS a, 2 AS a"))
    assert list(_one(profiles(df, columns=["nested", "alpha"])).columns) == ["nested.b", "alpha"]


def test_five_hundred_columns(spark: SparkSession) -> None:
    df = spark.range(20).selectExpr(
        *(f"id + {at} AS c{at}" for at in range(450)), *(f"'{at}' AS s{at}" for at in range(50))
    )
    found = _one(profiles(df)).columns
    assert [found[f"c{at}"].max for at in range(450)] == [19 + at for at in range(450)]
    assert [dict(found[f"s{at}"].frequencies.counts) for at in range(50)] == [{str(at): 20} for at in range(50)]  # type: ignore[union-attr]
