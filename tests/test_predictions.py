"""What becomes of a model's predictions, without Spark."""

from __future__ import annotations

import datetime
import decimal
import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from aml_spark.worker import PredictionError, to_arrow

DOUBLES = pa.list_(pa.float64())
PAIR = pa.struct([("label", pa.string()), ("score", pa.float64())])


def _given(prediction: Any, wanted: pa.DataType, rows: int) -> list[Any]:
    array = to_arrow(prediction, wanted, rows)
    assert isinstance(array, pa.Array)
    assert array.type == wanted
    array.validate(full=True)
    return list(array.to_pylist())


@pytest.mark.parametrize(
    "prediction",
    [
        [1, 2],
        (1, 2),
        [1.0, 2.0],
        np.array([1, 2], "int8"),
        np.array([1, 2], "uint64"),
        np.array([1, 2], "float32"),
        np.array([[1], [2]]),
        np.array([1, 2], object),
        [np.float32(1), np.int64(2)],
        pd.Series([1, 2], index=[7, 3]),
        pd.Series([1, 2], dtype="Int64"),
        pd.Series([1, 2], dtype="category"),
        pd.Index([1, 2]),
        pd.DataFrame({"p": [1, 2]}),
        {"p": [1, 2]},
        {"p": np.array([1, 2])},
        [decimal.Decimal(1), decimal.Decimal(2)],
        pa.array([1, 2]),
    ],
)
@pytest.mark.parametrize("wanted", [pa.float64(), pa.float32(), pa.int32(), pa.int64()])
def test_numbers_come_as_the_type_that_is_wanted(prediction: Any, wanted: pa.DataType) -> None:
    assert _given(prediction, wanted, 2) == [1, 2]


@pytest.mark.parametrize("prediction", [5, 5.0, np.float64(5), np.array(5), [5], np.array([[5]])])
def test_one_row_takes_a_single_value(prediction: Any) -> None:
    assert _given(prediction, pa.float64(), 1) == [5.0]


@pytest.mark.parametrize(
    "prediction", [["a", "b"], np.array(["a", "b"]), np.array(["a", "b"], object), pd.Series(["a", "b"])]
)
def test_strings_stay_strings(prediction: Any) -> None:
    assert _given(prediction, pa.string(), 2) == ["a", "b"]


def test_a_single_string_is_one_value_and_not_its_letters() -> None:
    assert _given("abc", pa.string(), 1) == ["abc"]
    with pytest.raises(PredictionError, match="for 3 rows"):
        to_arrow("abc", pa.string(), 3)


def test_numbers_become_text_where_text_is_wanted() -> None:
    assert _given([1, 2], pa.string(), 2) == ["1", "2"]
    assert _given(np.array([0.5, 1.0]), pa.string(), 2) == ["0.5", "1.0"]
    assert _given([True, None], pa.string(), 2) == ["True", None]
    assert _given(pd.Series(["a", "b"], dtype="category"), pa.string(), 2) == ["a", "b"]


@pytest.mark.parametrize(
    "prediction", [[True, False], np.array([True, False]), np.array([True, False], object), pd.Series([True, False])]
)
def test_booleans_stay_booleans_and_count_as_numbers(prediction: Any) -> None:
    assert _given(prediction, pa.bool_(), 2) == [True, False]
    assert _given(prediction, pa.float64(), 2) == [1.0, 0.0]
    assert _given(prediction, pa.int32(), 2) == [1, 0]


def test_times_are_kept_to_the_microsecond() -> None:
    time = datetime.datetime(2013, 1, 2, 3, 4, 5, 6)
    wanted = pa.timestamp("us")
    assert _given(pd.Series([time, None]), wanted, 2) == [time, None]
    assert _given([time, None], wanted, 2) == [time, None]
    assert _given(np.array([time], "datetime64[us]"), wanted, 1) == [time]
    assert _given([pd.Timestamp(time), pd.NaT], wanted, 2) == [time, None]
    assert _given([datetime.date(2013, 1, 2)], pa.date32(), 1) == [datetime.date(2013, 1, 2)]


# Missing values


@pytest.mark.parametrize(
    "prediction",
    [
        [1.0, None],
        [1.0, pd.NA],
        np.array([1.0, None], object),
        pd.Series([1.0, None], dtype=object),
        pd.Series([1.0, pd.NA], dtype="Float64"),
        pd.Series([1, pd.NA], dtype="Int64"),
    ],
)
def test_what_is_missing_becomes_null(prediction: Any) -> None:
    assert _given(prediction, pa.float64(), 2) == [1.0, None]
    assert _given(prediction, pa.int64(), 2) == [1, None]


@pytest.mark.parametrize(
    "prediction",
    [
        [1.0, math.nan],
        np.array([1.0, math.nan]),
        np.array([1.0, math.nan], "float32"),
        pd.Series([1.0, math.nan]),
        pd.DataFrame({"p": [1.0, math.nan]}),
        np.array([[1.0], [math.nan]]),
    ],
)
def test_nan_stays_nan(prediction: Any) -> None:
    array = to_arrow(prediction, pa.float64(), 2)
    assert array.null_count == 0
    assert math.isnan(array[1].as_py())


def test_null_and_nan_are_told_apart_in_one_batch() -> None:
    array = to_arrow([None, math.nan, 1.0], pa.float64(), 3)
    assert array.is_null().to_pylist() == [True, False, False]
    array = to_arrow(np.array([None, math.nan, 1.0], object), pa.float64(), 3)
    assert array.is_null().to_pylist() == [True, False, False]


def test_nan_inside_a_rows_values_stays_nan() -> None:
    array = to_arrow(np.array([[1.0, math.nan]]), DOUBLES, 1)
    assert array.flatten().null_count == 0
    assert math.isnan(array[0].as_py()[1])


def test_nan_is_no_integer() -> None:
    with pytest.raises(PredictionError, match="int32 can't hold"):
        to_arrow([1.0, math.nan], pa.int32(), 2)


def test_all_missing_takes_the_wanted_type() -> None:
    for wanted in (pa.string(), pa.int32(), pa.float64(), pa.bool_(), DOUBLES):
        assert _given([None, None], wanted, 2) == [None, None]


@pytest.mark.parametrize("prediction", [["a", None], pd.Series(["a", None]), np.array(["a", None], object)])
def test_missing_text_becomes_null(prediction: Any) -> None:
    assert _given(prediction, pa.string(), 2) == ["a", None]


@pytest.mark.parametrize("prediction", [np.array(["a", np.nan], object), pd.Series(["a", np.nan], dtype=object)])
def test_pandas_nan_among_texts_becomes_null(prediction: Any) -> None:
    assert _given(prediction, pa.string(), 2) == ["a", None]


def test_large_integers_beside_missing_ones_keep_their_digits() -> None:
    large = 2**53 + 1
    assert _given([large, None], pa.int64(), 2) == [large, None]
    assert _given(pd.Series([large, pd.NA], dtype="Int64"), pa.int64(), 2) == [large, None]
    assert _given(np.array([large, None], object), pa.int64(), 2) == [large, None]


# A row's values


@pytest.mark.parametrize(
    "prediction",
    [
        np.array([[1, 2], [3, 4]]),
        np.array([[1, 2], [3, 4]], "float32"),
        np.array([[1, 2], [3, 4]], object),
        [[1, 2], [3, 4]],
        [np.array([1, 2]), np.array([3, 4])],
        [(1.0, 2.0), (3.0, 4.0)],
        pd.DataFrame({"a": [1, 3], "b": [2, 4]}),
        pd.DataFrame({"p": [[1, 2], [3, 4]]}),
        pd.Series([[1, 2], [3, 4]]),
        pd.Series([np.array([1, 2]), np.array([3, 4])]),
        {"p": [[1, 2], [3, 4]]},
        {"p": np.array([[1, 2], [3, 4]])},
    ],
)
@pytest.mark.parametrize("inner", [pa.float64(), pa.float32(), pa.int32(), pa.int64()])
def test_a_list_takes_a_rows_values(prediction: Any, inner: pa.DataType) -> None:
    assert _given(prediction, pa.list_(inner), 2) == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "prediction",
    [
        [[1.0], [2.0, 3.0]],
        [[1.0], None],
        [[], [1.0]],
        pd.Series([[1.0], [2.0, 3.0]]),
        {"p": [[1.0], [2.0, 3.0]]},
        [np.array([1.0]), np.array([2.0, 3.0])],
    ],
)
def test_rows_may_have_different_numbers_of_values(prediction: Any) -> None:
    values = list(next(iter(prediction.values())) if isinstance(prediction, dict) else prediction)
    assert _given(prediction, DOUBLES, 2) == [None if value is None else list(value) for value in values]


def test_texts_in_lists() -> None:
    assert _given(np.array([["a", "b"]]), pa.list_(pa.string()), 1) == [["a", "b"]]


def test_an_array_of_three_dimensions_becomes_lists_of_lists() -> None:
    prediction = np.arange(8.0).reshape(2, 2, 2)
    assert _given(prediction, pa.list_(DOUBLES), 2) == prediction.tolist()


def test_a_sparse_matrix_is_spread_out() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    assert _given(sparse.csr_matrix(np.eye(2)), DOUBLES, 2) == [[1.0, 0.0], [0.0, 1.0]]


def test_several_values_a_row_are_no_single_value() -> None:
    with pytest.raises(PredictionError, match=r"gave \(2,\) values a row, but the result type is double"):
        to_arrow(np.zeros((3, 2)), pa.float64(), 3)


def test_a_single_value_where_a_list_is_wanted_is_a_list_of_one() -> None:
    assert _given([1.0, None], DOUBLES, 2) == [[1.0], None]
    assert _given(np.array(["a", "b"]), pa.list_(pa.string()), 2) == [["a"], ["b"]]
    with pytest.raises(PredictionError, match=r"list<.*> can't hold"):
        to_arrow([1.5], pa.list_(pa.int32()), 1)


# Columns


@pytest.mark.parametrize(
    "prediction",
    [
        pd.DataFrame({"score": [0.5, 1.0], "label": ["a", "b"]}),
        pd.DataFrame({"label": ["a", "b"], "score": [0.5, 1.0], "more": [1, 2]}, index=[9, 4]),
        {"label": ["a", "b"], "score": [0.5, 1.0]},
        {"label": np.array(["a", "b"]), "score": pd.Series([0.5, 1.0], index=[5, 6])},
        [{"label": "a", "score": 0.5}, {"label": "b", "score": 1.0}],
    ],
)
def test_a_struct_takes_columns_by_name(prediction: Any) -> None:
    assert _given(prediction, PAIR, 2) == [{"label": "a", "score": 0.5}, {"label": "b", "score": 1.0}]


def test_a_struct_takes_the_columns_of_an_array_in_their_order() -> None:
    wanted = pa.struct([("a", pa.float64()), ("b", pa.int32())])
    assert _given(np.array([[1.0, 2.0], [3.0, 4.0]]), wanted, 2) == [{"a": 1.0, "b": 2}, {"a": 3.0, "b": 4}]


def test_a_struct_takes_columns_with_numbers_for_names() -> None:
    assert _given(pd.DataFrame([[1.0], [2.0]]), pa.struct([("0", pa.float64())]), 2) == [{"0": 1.0}, {"0": 2.0}]


@pytest.mark.parametrize("prediction", [pd.DataFrame({"label": ["a"]}), {"label": ["a"]}])
def test_a_column_that_the_struct_names_has_to_be_there(prediction: Any) -> None:
    with pytest.raises(PredictionError, match=r"no columns \['score'\].*it gave \['label'\]"):
        to_arrow(prediction, PAIR, 1)


def test_a_single_value_is_the_first_column_of_its_kind() -> None:
    frame = pd.DataFrame({"label": ["a", "b"], "score": [0.5, 1.0], "other": [7.0, 8.0]})
    assert _given(frame, pa.float64(), 2) == [0.5, 1.0]
    assert _given(frame, pa.string(), 2) == ["a", "b"]
    assert _given({"label": ["a", "b"], "score": [0.5, 1.0]}, pa.float64(), 2) == [0.5, 1.0]


def test_a_frame_without_numbers_is_no_number() -> None:
    with pytest.raises(PredictionError, match="no numeric column, but the result type is double"):
        to_arrow(pd.DataFrame({"label": ["a"], "flag": [True]}), pa.float64(), 1)


@pytest.mark.parametrize("numbers", [[1.5, None], [decimal.Decimal("1.5"), None], [None, 1.5], [1, 1.5]])
def test_a_column_counts_as_numbers_whatever_type_pandas_gave_it(numbers: list[Any]) -> None:
    frame = pd.DataFrame({"risk": pd.Series(numbers, dtype=object), "cost": [7.0, 8.0]})
    assert _given(frame, pa.float64(), 2) == numbers


@pytest.mark.parametrize(
    "risk", [[None, None], [1.5, "n/a"], [1.5, True], [float("nan"), None], [1.5, decimal.Decimal(2)]]
)
def test_a_column_that_may_be_of_numbers_or_not_is_never_passed_over(risk: list[Any]) -> None:
    frame = pd.DataFrame({"risk": pd.Series(risk, dtype=object), "cost": [1000.0, 2000.0]})
    with pytest.raises(PredictionError, match="column 'risk' of type object before any of numbers"):
        to_arrow(frame, pa.float64(), 2)
    assert _given(frame[["cost", "risk"]], pa.float64(), 2) == [1000.0, 2000.0]
    assert _given(pd.DataFrame({"p": pd.Series([None, 1.0], dtype=object)}), pa.float64(), 2) == [None, 1.0]


NOON, LATER = datetime.datetime(2024, 7, 1, 12), datetime.datetime(2024, 7, 1, 12, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([1, 2.5, True, None], pa.string()),
        (["none", 1, decimal.Decimal("2.50"), NOON], pa.string()),
        ([True, 2.5, decimal.Decimal("885885822.932360"), 2**53 + 1, "7.5"], pa.float64()),
        ([16_777_217, 0.1], pa.float32()),
        (
            [datetime.date(2024, 1, 1), NOON, LATER, pd.Timestamp(NOON), np.datetime64(NOON, "ns")],
            pa.timestamp("us", "UTC"),
        ),
        ([LATER, LATER.astimezone(datetime.timezone(datetime.timedelta(hours=5)))], pa.timestamp("us", "UTC")),
        ([[1, 2], [2.5], [None], None, (3,), np.array([4.5]), 5], pa.list_(pa.string())),
        ([[NOON], np.array([NOON], "datetime64[ns]"), [LATER, None]], pa.list_(pa.timestamp("us", "UTC"))),
        ([{"label": 1}, {"label": "a", "score": 1}, None, {"score": decimal.Decimal(2)}], PAIR),
        ([{"a": 1}, {"b": NOON}, None, {}], pa.map_(pa.string(), pa.string())),
        ([{"a": NOON}, {"b": LATER, "c": None}], pa.map_(pa.string(), pa.timestamp("us", "UTC"))),
        ([np.ma.masked_array([1.0, 999.0], [0, 1]), [2.0], np.array([3.0])], DOUBLES),
        ([np.array([np.nan]), ["a"], float("nan")], pa.list_(pa.string())),
        ([[1.0], float("nan"), 2.5], DOUBLES),
        ([{"label": "a", "score": 1.0}, float("nan")], PAIR),
        ([0, decimal.Decimal("1.25"), decimal.Decimal("1E+3")], pa.decimal128(10, 2)),
        ([np.datetime64("9999-12-31"), NOON, np.datetime64("3000-01-01T10", "h")], pa.timestamp("us", "UTC")),
        ([np.datetime64("2024-01-01"), np.datetime64("2024-01-01T10", "s")], pa.string()),
        ([2**70, 1], pa.float64()),
    ],
    ids=str,
)
def test_a_value_becomes_the_same_whatever_comes_beside_it(values: list[Any], wanted: pa.DataType) -> None:
    zone = "Europe/Berlin"
    together = to_arrow(values, wanted, len(values), zone)
    alone = [to_arrow([value], wanted, 1, zone) for value in values]
    together.validate(full=True)
    assert together.to_pylist() == [one.to_pylist()[0] for one in alone]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"t": NOON}, pa.struct([("t", pa.timestamp("us"))])),
        ([("t", NOON)], pa.map_(pa.string(), pa.timestamp("us"))),
        ([{"t": NOON}], pa.list_(pa.struct([("t", pa.timestamp("us"))]))),
        (decimal.Decimal("885885822.932360"), pa.decimal128(20, 6)),
    ],
    ids=str,
)
def test_values_that_came_as_arrows_are_what_pythons_are(value: Any, kind: pa.DataType) -> None:
    def found(kind: pa.DataType) -> pa.DataType:
        """The same with moments for times, and doubles for decimals."""
        if pa.types.is_struct(kind):
            return pa.struct([field.with_type(found(field.type)) for field in kind])
        if pa.types.is_map(kind):
            return pa.map_(kind.key_type, found(kind.item_type))
        if pa.types.is_list(kind):
            return pa.list_(found(kind.value_type))
        return pa.float64() if pa.types.is_decimal(kind) else pa.timestamp("us", "UTC")

    wanted = found(kind)
    pythons = dict(value) if pa.types.is_map(kind) else value
    alike = [to_arrow(given, wanted, 1, "Europe/Berlin") for given in (pa.array([value], kind), [pythons])]
    assert alike[0].to_pylist() == alike[1].to_pylist()
    assert any(told in str(alike[0]) for told in ("2024-07-01 10:00", "885885822.93236"))


def test_what_is_missing_in_a_row_is_null() -> None:
    masked = np.ma.masked_array([1.0, 999.0], [0, 1])
    assert _given([masked], DOUBLES, 1) == [[1.0, None]]
    assert _given([[1.0], float("nan")], DOUBLES, 2) == [[1.0], None]
    assert _given([np.array([np.nan])], pa.list_(pa.string()), 1) == [[None]]
    assert _given([np.datetime64("2024-01-01")], pa.string(), 1) == ["2024-01-01"]
    assert _given(np.array([["2024-01-01"]], "datetime64[D]"), pa.list_(pa.date32()), 1) == [
        [datetime.date(2024, 1, 1)]
    ]


def test_texts_numbers_and_times_are_those_of_the_value_itself() -> None:
    assert _given([1, 2.5, True], pa.string(), 3) == ["1", "2.5", "True"]
    assert _given([decimal.Decimal("885885822.932360")], pa.float64(), 1) == [885885822.93236]
    assert _given(np.array([2**24 + 1]), pa.float32(), 1) == [2.0**24]
    assert _given(pd.Series([decimal.Decimal("1.5")]), pa.float64(), 1) == [1.5]
    lists = pd.DataFrame({"p": [None, [1.0, 2.0], np.array([3.0])]})
    assert _given(lists, DOUBLES, 3) == [None, [1.0, 2.0], [3.0]]


@pytest.mark.parametrize(
    ("prediction", "wanted"),
    [
        ([NOON], pa.timestamp("us", "UTC")),
        ([[NOON]], pa.list_(pa.timestamp("us", "UTC"))),
        ([{"t": NOON}], pa.struct([pa.field("t", pa.timestamp("us", "UTC"))])),
        ([{"t": NOON}], pa.map_(pa.string(), pa.timestamp("us", "UTC"))),
        ([[{"t": NOON}]], pa.list_(pa.struct([pa.field("t", pa.timestamp("us", "UTC"))]))),
        (pd.DataFrame({"t": [NOON]}), pa.struct([pa.field("t", pa.timestamp("us", "UTC"))])),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else "",
)
def test_times_without_zone_are_the_sessions_at_any_depth(prediction: Any, wanted: pa.DataType) -> None:
    assert "10, 0" in str(to_arrow(prediction, wanted, 1, "Europe/Berlin").to_pylist())


def test_a_time_that_a_clock_leaves_out_counts_on_from_before() -> None:
    left_out, told_twice = datetime.datetime(2024, 3, 31, 2, 30), datetime.datetime(2024, 10, 27, 2, 30)
    moments = to_arrow([left_out, told_twice], pa.timestamp("us", "UTC"), 2, "Europe/Berlin").to_pylist()
    assert [(moment.hour, moment.minute) for moment in moments] == [(1, 30), (0, 30)]  # as Spark reads them


def test_the_models_own_frame_is_left_as_it_is() -> None:
    frame = pd.DataFrame([[1.0, 2.0]])
    to_arrow(frame, DOUBLES, 1)
    assert list(frame.columns) == [0, 1]


# Nothing to score


@pytest.mark.parametrize(
    ("prediction", "wanted"),
    [
        ([], pa.float64()),
        ([], pa.string()),
        (np.array([]), pa.int64()),
        (np.empty((0, 3)), DOUBLES),
        (pd.Series([], dtype="float64"), pa.float64()),
        (pd.DataFrame({"label": [], "score": []}), PAIR),
        ({"label": [], "score": []}, PAIR),
        (pd.DataFrame({"p": []}), pa.float64()),
        (pd.DataFrame({"p": []}), DOUBLES),
    ],
)
def test_no_rows_give_no_predictions(prediction: Any, wanted: pa.DataType) -> None:
    assert _given(prediction, wanted, 0) == []


# What can't be used


@pytest.mark.parametrize(
    ("prediction", "wanted", "count"),
    [
        ([1.0], pa.float64(), "1"),
        (np.zeros(5), pa.float64(), "5"),
        (np.zeros((4, 2)), DOUBLES, "4"),
        (pd.Series([1.0, 2.0]), pa.float64(), "2"),
        (pd.DataFrame({"p": [1.0]}), pa.float64(), "1"),
        (7.0, pa.float64(), "1"),
        ([], pa.float64(), "0"),
        ({"label": ["a"], "score": [1.0]}, PAIR, r"\[1\]"),
        ({"label": ["a"] * 3, "score": [1.0]}, PAIR, r"\[1, 3\]"),
    ],
)
def test_another_number_of_predictions_is_an_error(prediction: Any, wanted: pa.DataType, count: str) -> None:
    with pytest.raises(PredictionError, match=f"{count} predictions for 3 rows"):
        to_arrow(prediction, wanted, 3)


@pytest.mark.parametrize(
    ("prediction", "wanted"),
    [
        (["pa55word", "b"], pa.float64()),
        (np.array(["pa55word", "b"]), pa.int32()),
        (pd.Series(["pa55word", "b"]), pa.float64()),
        (pd.DataFrame({"p": ["pa55word", "b"]}), pa.bool_()),
        ([["pa55word"], ["b"]], DOUBLES),
        ({"label": ["a", "b"], "score": ["pa55word", "1"]}, PAIR),
        ([55555.5, 1.0], pa.int32()),
        ([5_555_555_555, 1], pa.int32()),
        (np.array([55555555, 1]), pa.bool_()),
        (np.array([2**64 - 5555, 1], "uint64"), pa.int64()),
        ([2**70 + 5555, 1], pa.int64()),
        ([55555555, "pa55word"], pa.float64()),
        ([{"label": "pa55word"}, {}], pa.float64()),
        ([object(), 1], pa.float64()),
    ],
)
def test_values_that_do_not_fit_are_an_error_which_does_not_quote_them(prediction: Any, wanted: pa.DataType) -> None:
    with pytest.raises(PredictionError, match="can't hold; give another result_type") as caught:
        to_arrow(prediction, wanted, 2)
    assert "pa55word" not in str(caught.value)
    assert "5555" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("prediction", "wanted"),
    [
        ({"label": "a", "score": 0.5}, PAIR),
        ({"label": ["a", "b"], "score": [1.0]}, pa.float64()),
        ({"a": np.zeros((2, 2)), "b": np.zeros(2)}, pa.float64()),
        ({}, pa.float64()),
        (pd.DataFrame([["a", "b"], ["c", "d"]], columns=["label", "label"]), PAIR),
        (pd.DataFrame([["a", 1.0, 2.0]] * 2, columns=["label", "score", "score"]), PAIR),
    ],
)
def test_columns_that_make_no_table_are_an_error_of_ours(prediction: Any, wanted: pa.DataType) -> None:
    with pytest.raises(PredictionError):
        to_arrow(prediction, wanted, 2)


@pytest.mark.parametrize(("zone", "hour"), [("UTC", 12), ("America/New_York", 17)])
def test_a_time_without_zone_is_meant_in_the_sessions(zone: str, hour: int) -> None:
    wanted = pa.timestamp("us", "UTC")
    noon = datetime.datetime(2013, 1, 2, 12)
    for prediction in ([noon, None], pd.Series([noon, pd.NaT]), np.array([noon, None], "datetime64[us]")):
        moments = to_arrow(prediction, wanted, 2, zone).to_pylist()
        assert moments == [datetime.datetime(2013, 1, 2, hour, tzinfo=datetime.timezone.utc), None]
    aware = pd.Series([noon, pd.NaT]).dt.tz_localize("UTC")
    assert to_arrow(aware, wanted, 2, zone).to_pylist()[0].hour == 12
