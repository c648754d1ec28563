"""What a model gets of a query's columns, without Spark."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from aml_spark.worker import Input, PredictionError, columns, fits, models, predict

# Casts of columns

INTEGERS = {
    pa.int8(): [pa.int32(), pa.int64(), pa.float32(), pa.float64()],
    pa.int16(): [pa.int32(), pa.int64(), pa.float32(), pa.float64()],
    pa.int32(): [pa.int32(), pa.int64(), pa.float64()],
    pa.int64(): [pa.int64()],
}
FITS: dict[pa.DataType, list[pa.DataType]] = {
    **INTEGERS,
    pa.uint8(): [],
    pa.float32(): [pa.float32(), pa.float64()],
    pa.float64(): [pa.float64()],
    pa.decimal128(10, 2): [pa.float64()],
    pa.bool_(): [pa.bool_()],
    pa.string(): [pa.string()],
    pa.large_string(): [pa.string()],
    pa.binary(): [pa.binary()],
    pa.large_binary(): [pa.binary()],
    pa.date32(): [pa.timestamp("ns")],
    pa.timestamp("us"): [pa.timestamp("ns")],
    pa.timestamp("us", "UTC"): [pa.timestamp("ns")],
}
WANTED = [
    pa.bool_(),
    pa.int32(),
    pa.int64(),
    pa.float32(),
    pa.float64(),
    pa.string(),
    pa.binary(),
    pa.timestamp("ns"),
]


@pytest.mark.parametrize("has", FITS, ids=str)
@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_a_column_is_cast_only_where_every_value_is_kept(has: pa.DataType, wanted: pa.DataType) -> None:
    assert fits(has, wanted) is (wanted in FITS[has])


@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_a_column_of_nulls_fits_any_type(wanted: pa.DataType) -> None:
    assert fits(pa.null(), wanted) is True


@pytest.mark.parametrize(
    ("has", "wanted"), [(has, wanted) for has, fitting in INTEGERS.items() for wanted in fitting], ids=str
)
def test_the_extremes_of_a_type_that_fits_survive_the_cast(has: pa.DataType, wanted: pa.DataType) -> None:
    extremes = [-(2 ** (has.bit_width - 1)), 2 ** (has.bit_width - 1) - 1]
    assert [int(value) for value in pa.array(extremes, has).cast(wanted).to_pylist()] == extremes


# What goes in


SPEC = {
    "label": "delay/3",
    "output": pa.float64(),
    "time_zone": "UTC",
    "show_message": False,
    "form": "columns",
    "on_error": "raise",
    "environment": None,
    "extra_env": None,
}


def _handed(monkeypatch: pytest.MonkeyPatch, batch: Any, inputs: list[Input] | None, *, rows: int = 2) -> Any:
    """What the model gets of a batch."""
    seen: list[Any] = []

    def run(data: Any) -> Any:
        seen.append(data)
        return np.zeros(rows)

    monkeypatch.setattr(models, "get", lambda folder, spec: models.LoadedModel(run, "", 0))
    (array,) = predict(iter([batch]), "", {**SPEC, "inputs": inputs})
    assert array.to_pylist() == [0.0] * rows
    return seen[0]


def test_a_struct_among_columns_that_came_as_a_data_frame_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = pa.struct([("a", pa.float64()), ("b", pa.string())])
    inputs = [Input("x", pa.float64()), Input("y", kind)]
    batch = (pd.Series([1.0, 2.0]), pd.DataFrame({"a": [3.0, 4.0], "b": ["s", "t"]}))
    data = _handed(monkeypatch, batch, inputs)
    assert data["y"].tolist() == [{"a": 3.0, "b": "s"}, {"a": 4.0, "b": "t"}]


MOMENT = datetime.datetime(2024, 7, 1, 10, tzinfo=datetime.timezone.utc)
HERE = datetime.datetime(2024, 7, 1, 12)
TIME = pa.timestamp("us", "Europe/Berlin")


@pytest.mark.parametrize("is_asked_for", [True, False])
@pytest.mark.parametrize(
    ("kind", "asked", "given", "seen"),
    [
        (pa.struct([("t", TIME)]), pa.struct([("t", pa.timestamp("ns"))]), {"t": MOMENT}, {"t": HERE}),
        (pa.map_(pa.string(), TIME), pa.map_(pa.string(), pa.timestamp("ns")), [("k", MOMENT)], {"k": HERE}),
        (
            pa.list_(pa.struct([("t", TIME)])),
            pa.list_(pa.struct([("t", pa.timestamp("ns"))])),
            [{"t": MOMENT}],
            [{"t": HERE}],
        ),
    ],
    ids=["struct", "map", "list"],
)
def test_times_in_structs_and_maps_are_times(
    monkeypatch: pytest.MonkeyPatch, kind: pa.DataType, asked: pa.DataType, given: Any, seen: Any, is_asked_for: bool
) -> None:
    inputs = [Input("x", asked)] if is_asked_for else None
    batch = (pa.StructArray.from_arrays([pa.array([given, None], kind)], ["x"]),)
    first, second = _handed(monkeypatch, batch, inputs)["x"]
    assert (list(first) if isinstance(seen, list) else first, second) == (seen, None)


@pytest.mark.parametrize(
    ("kind", "whole", "torn"),
    [
        (pa.list_(pa.int64()), [4, 4], [4, None]),
        (pa.list_(pa.bool_()), [True], [True, None]),
        (pa.list_(pa.list_(pa.int32())), [[1, 2]], [[1], [None]]),
        (pa.struct([("a", pa.list_(pa.int32()))]), {"a": [1, 2]}, {"a": [None, 2]}),
        (pa.map_(pa.string(), pa.list_(pa.int64())), [("k", [1])], [("k", [None])]),
    ],
    ids=str,
)
def test_a_rows_integers_are_the_same_beside_a_row_with_nulls_inside(
    monkeypatch: pytest.MonkeyPatch, kind: pa.DataType, whole: Any, torn: Any
) -> None:
    def handed(*rows: Any) -> list[str]:
        """What the model gets, with the types of arrays."""
        data = _handed(monkeypatch, (pa.array(rows, kind),), [Input("x", kind)], rows=len(rows))
        return [repr(value) for value in data["x"]]

    assert handed(whole, torn, None, whole) == [*handed(whole), *handed(torn), "None", *handed(whole)]


@pytest.mark.parametrize(
    ("inputs", "batch"),
    [
        ([Input(None, "float32", True, (-1, 2))], (pa.array([[1, 2], [3, 4]], pa.list_(pa.float32())),)),
        ([Input("x", "float64", True, (-1,))], (pa.StructArray.from_arrays([pa.array([1.0, 2.0])], ["x"]),)),
        ([Input("x", pa.float64())], (pa.StructArray.from_arrays([pa.array([1.0, 2.0])], ["x"]),)),
        ([Input("x", pa.float64()), Input("y", pa.float64())], (pa.array([1.0, 2.0]), pa.array([1.0, 2.0]))),
    ],
)
def test_a_model_may_write_to_what_it_gets(
    monkeypatch: pytest.MonkeyPatch, inputs: list[Input], batch: tuple[pa.Array, ...]
) -> None:
    data = _handed(monkeypatch, batch, inputs)
    for array in data.values() if isinstance(data, dict) else [data]:
        if isinstance(array, pd.DataFrame):
            array.iloc[0, 0] = 9.0
            assert array.iloc[0, 0] == 9.0
        else:
            array[0] = 9.0
            assert (array[0] == 9.0).all()


def test_two_columns_without_names_are_both_handed_over_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [Input(None, pa.float64()), Input(None, pa.string())]
    data = _handed(monkeypatch, (pa.array([1.0, 2.0]), pa.array(["a", "b"])), inputs)
    assert data.to_numpy().tolist() == [[1.0, "a"], [2.0, "b"]]
    assert list(data) == [0, 1]
    with pytest.raises(PredictionError, match="takes 2 columns without names, but 1 were given"):
        _handed(monkeypatch, (pa.array([1.0, 2.0]),), inputs)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([1.5, 2.0]), "int64"),
        (pa.array([2**40, 1]), "int32"),
        (pa.array([1, None]), "int64"),
        (pa.array([[1, 2], [None, 3]]), "int64"),
        (pa.array([300, -1], pa.int16()), "int8"),
        (pa.array([300, 1], pa.int16()), "uint8"),
        (pa.array([1, -1], pa.int16()), "uint16"),
        (pa.array(["pa55word", "1"]), "float64"),
    ],
)
def test_a_tensor_that_would_lose_something_is_refused_without_its_values(
    monkeypatch: pytest.MonkeyPatch, values: pa.Array, kind: str
) -> None:
    shape = (-1, 2) if pa.types.is_list(values.type) else (-1,)
    with pytest.raises(PredictionError, match="column 'x'") as caught:
        _handed(
            monkeypatch,
            pa.StructArray.from_arrays([values], ["x"]),
            [Input("x", kind, True, shape)],
        )
    assert "pa55word" not in str(caught.value)


def test_columns_that_make_no_tensor_of_the_shape_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    four = tuple(pa.array([1.0, 2.0]) for _ in range(4))
    inputs = [Input(None, "float64", True, (-1, 2))]
    with pytest.raises(PredictionError, match=r"wants tensors of the shape \(-1, 2\)"):
        _handed(monkeypatch, four, inputs)
    assert _handed(monkeypatch, four[:2], inputs).tolist() == [[1.0, 1.0], [2.0, 2.0]]


def test_a_time_that_the_model_cannot_take_is_an_error_that_names_the_column(monkeypatch: pytest.MonkeyPatch) -> None:
    far = pa.array([datetime.datetime(9999, 12, 31), None], pa.timestamp("us"))
    with pytest.raises(PredictionError, match="column 't' of type timestamp") as caught:
        _handed(monkeypatch, pa.StructArray.from_arrays([far], ["t"]), [Input("t", pa.timestamp("ns"))])
    assert "9999" not in str(caught.value)


def test_a_time_for_a_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    times = pa.array([datetime.datetime(2013, 1, 1)] * 2, pa.timestamp("us", "UTC"))
    with pytest.raises(PredictionError, match=r"wants double for column 't', which has type timestamp"):
        _handed(monkeypatch, pa.StructArray.from_arrays([times], ["t"]), [Input("t", pa.float64())])


def test_integers_that_came_as_doubles_beside_nulls_are_integers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"n": [7.0, None]})  # as Spark 3.5 hands over a bigint column
    data = _handed(monkeypatch, frame, [Input("n", pa.int64())])
    assert data["n"].tolist() == [7, pd.NA]
    with pytest.raises(PredictionError, match="wants int64 for column 'n', which has type double"):
        _handed(monkeypatch, pd.DataFrame({"n": [2.0**53, None]}), [Input("n", pa.int64())])


def test_numbers_that_came_as_one_array_are_columns_side_by_side() -> None:
    values = np.array([[1.0, 2.0, 3.0], [4.0, np.nan, 6.0]])
    numbers = columns.Numbers(values)
    assert [column.to_pylist() for column in numbers][::2] == [[1.0, 4.0], [3.0, 6.0]]
    assert [column.to_pylist() for column in numbers[1:]][-1] == [3.0, 6.0]
    given = [(name, pa.float64()) for name in "abc"]
    for wanted, expected in (("abc", values), ("ca", values[:, [2, 0]]), ("b", values[:, [1]])):
        made = columns.plan([Input(name, pa.float64()) for name in wanted], given)
        matrix = made.matrix(numbers, 2)
        assert np.array_equal(matrix, expected, equal_nan=True)
        assert np.array_equal(made.data(numbers, 2).to_numpy(), expected, equal_nan=True)
        matrix[:] = 0  # a model may write to it
    assert values[0].tolist() == [1.0, 2.0, 3.0]
