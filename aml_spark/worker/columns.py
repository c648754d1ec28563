"""Columns of a query as what a model takes: planned from the signature and the columns' types, then done per batch.

No batch's values decide anything here but two that lose nothing: integers and booleans that the signature declares as
never missing are pandas' nullable ones in a batch where they are missing all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .failures import PredictionError

_NULLABLE = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}


class ColumnError(PredictionError):
    """A column whose type can't be cast without loss.

    Args:
        column: its name.
        has: its type.
        wanted: the model's.
    """

    def __init__(self, column: str, has: Any, wanted: Any) -> None:
        super().__init__(
            f"wants {wanted} for column {column!r}, which has type {has}, and a cast could lose something; "
            f"cast it in the query where that is meant"
        )
        self.column, self.has, self.wanted = column, has, wanted


class Input(NamedTuple):
    """One input of a model's signature, as plain values.

    Args:
        name: None in a signature that names none.
        type: Arrow type, or a tensor's numpy dtype as text; None takes what comes.
        required: whether the column has to be there, without nulls.
        shape: of a tensor, the rows first; None for a column.
    """

    name: str | None
    type: Any
    required: bool = True
    shape: tuple[int, ...] | None = None


class Numbers(Sequence[pa.Array]):
    """Columns of numbers that came as one array, side by side.

    Args:
        values: rows by columns, NaN where one is missing.
    """

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.values = values
        self.nbytes = values.nbytes

    def __len__(self) -> int:
        return int(self.values.shape[1])

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        return pa.array(np.ascontiguousarray(self.values[:, place]))


class Plan(NamedTuple):
    """What becomes of the columns of a query, the same for all of its batches.

    Args:
        steps: name, place among the given columns and conversion of each column that the model takes.
        make: puts the converted columns together; takes them by name and the number of rows.
        dtype: of all columns, where they are floating point numbers of one width and so make a matrix as they are.
    """

    steps: Sequence[tuple[str, int, Callable[[pa.Array], Any]]]
    make: Callable[[dict[str, Any], int], Any]
    dtype: np.dtype[Any] | None = None

    def data(self, arrays: Sequence[pa.Array], rows: int) -> Any:
        """What `predict` takes: a DataFrame, an array, or arrays by name.

        Raises:
            PredictionError: a value that the model's type can't hold; names the column.
        """
        columns = {}
        for name, place, convert in self.steps:
            try:
                columns[name] = convert(arrays[place])
            except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
                raise PredictionError(
                    f"can't take column {name!r} of type {arrays[place].type}: a value doesn't fit the type that it "
                    f"wants ({type(error).__name__})"
                ) from None
        return self.make(columns, rows)

    def matrix(self, arrays: Sequence[pa.Array], rows: int) -> Any:
        """The same as one array in the layout that a DataFrame's `to_numpy()` has; only where there is a `dtype`."""
        if isinstance(arrays, Numbers):
            places = [place for _, place, _ in self.steps]
            values = arrays.values if places == [*range(len(arrays))] else arrays.values[:, places]
            return np.array(values, order="F")
        out = np.empty((rows, len(self.steps)), self.dtype, order="F")
        for number, (_, place, _) in enumerate(self.steps):
            out[:, number] = arrays[place].to_numpy(zero_copy_only=False)
        return out


def plan(inputs: Sequence[Input] | None, given: Sequence[tuple[str, pa.DataType]]) -> Plan:
    """Decide what becomes of a query's columns.

    Args:
        inputs: the signature's; None where there is none: every column is handed on.
        given: names and types of the query's columns.

    Raises:
        PredictionError: a column is missing, or casting it could lose something.
    """
    places = {name: number for number, (name, _) in enumerate(given)}
    if inputs and inputs[0].shape is not None:
        return _tensor_plan(inputs, given, places)
    if inputs is None:
        chosen = [(Input(name, None, required=False), number) for name, number in places.items()]
    elif inputs[0].name is None:
        if len(given) != len(inputs):
            raise PredictionError(f"takes {len(inputs)} columns without names, but {len(given)} were given")
        chosen = [
            (one._replace(name=name), number) for number, (one, (name, _)) in enumerate(zip(inputs, given, strict=True))
        ]
    else:
        missing = [one.name for one in inputs if one.required and one.name not in places]
        if missing:
            raise PredictionError(f"needs the columns {missing}, which are missing; given: {list(places)}")
        chosen = [(one, places[one.name]) for one in inputs if one.name in places]
    steps, kinds = [], set[Any]()
    for one, place in chosen:
        has = given[place][1]
        target = _natural(has) if one.type is None else one.type
        if not fits(has, target):
            raise ColumnError(str(one.name), has, target)
        nullable = inputs is not None and not one.required
        steps.append((str(one.name), place, _converter(target, nullable)))
        kinds.add(target if has == target else None)
    kind = kinds.pop() if len(kinds) == 1 else None
    dtype = np.dtype(kind.to_pandas_dtype()) if kind in (pa.float64(), pa.float32()) else None
    return Plan(steps, _frame if inputs is None or inputs[0].name is not None else _unnamed_frame, dtype)


def fits(has: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether every value of one type is kept when it is cast to the other. Decimal to double rounds as doubles do."""
    if has == wanted or pa.types.is_null(has):
        return True
    if _is_list(wanted):
        return _is_list(has) and fits(has.value_type, wanted.value_type)
    if pa.types.is_struct(wanted):
        if not pa.types.is_struct(has):
            return False
        there = {field.name: field.type for field in has}
        return all(fits(there[field.name], field.type) if field.name in there else field.nullable for field in wanted)
    if pa.types.is_map(wanted):
        return pa.types.is_map(has) and fits(has.key_type, wanted.key_type) and fits(has.item_type, wanted.item_type)
    if pa.types.is_integer(wanted):
        return bool(pa.types.is_signed_integer(has) and has.bit_width <= wanted.bit_width)
    if pa.types.is_floating(wanted):
        if pa.types.is_signed_integer(has):
            return bool(has.bit_width < wanted.bit_width)
        if pa.types.is_floating(has):
            return bool(has.bit_width <= wanted.bit_width)
        return bool(pa.types.is_decimal(has) and wanted == pa.float64())
    if pa.types.is_timestamp(wanted):
        return bool(pa.types.is_timestamp(has) or pa.types.is_date(has))
    if pa.types.is_string(wanted):
        return bool(pa.types.is_string(has) or pa.types.is_large_string(has))
    return bool(pa.types.is_binary(wanted) and (pa.types.is_binary(has) or pa.types.is_large_binary(has)))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _natural(kind: pa.DataType) -> pa.DataType:
    """What a column becomes where nothing is wanted: times without zone, as toPandas() gives them."""
    if pa.types.is_timestamp(kind):
        return pa.timestamp("ns")
    if _is_list(kind):
        return pa.list_(_natural(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_natural(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(kind.key_type, _natural(kind.item_type))
    return kind


def cast(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """The array in another type that it fits. Times with a zone become what a person sees in that zone."""
    has = array.type
    if has == wanted:
        return array
    if pa.types.is_null(has):
        return pa.nulls(len(array), wanted)
    if array.offset and pa.types.is_nested(has):
        array = array.take(pa.array(np.arange(len(array))))  # offsets of a slice don't begin at its values
    if pa.types.is_struct(wanted):
        there = dict(zip([field.name for field in has], array.flatten(), strict=True))
        absent = pa.nulls(len(array))
        parts = [cast(there.get(field.name, absent), field.type) for field in wanted]
        return pa.StructArray.from_arrays(parts, fields=list(wanted), mask=array.is_null())
    if pa.types.is_map(wanted):
        gone = np.append(array.is_null().to_numpy(zero_copy_only=False), False)
        offsets = pa.array(array.offsets.to_numpy(), pa.int32(), mask=gone)
        return pa.MapArray.from_arrays(
            offsets, cast(array.keys, wanted.key_type), cast(array.items, wanted.item_type)
        ).cast(wanted)
    if _is_list(wanted):
        return pa.ListArray.from_arrays(
            array.offsets.cast(pa.int32()), cast(array.values, wanted.value_type), mask=array.is_null()
        ).cast(wanted)
    if pa.types.is_timestamp(has) and has.tz and not wanted.tz:
        return pc.local_timestamp(array).cast(wanted)
    if pa.types.is_decimal(has):
        # Arrow's own cast of decimals is off by one in the last digit for some; text is read exactly.
        return array.cast(pa.string()).cast(wanted)
    return array.cast(wanted)


def _converter(wanted: pa.DataType, nullable: bool) -> Callable[[pa.Array], Any]:
    dtype = _NULLABLE.get(wanted)
    if pa.types.is_floating(wanted):
        return lambda array: cast(array, wanted).to_numpy(zero_copy_only=False)
    if dtype is not None:

        def whole(array: pa.Array) -> Any:
            array = cast(array, wanted)
            return array.to_pandas(types_mapper=_NULLABLE.get if nullable or array.null_count else None)

        return whole
    inside = _of_items(wanted)
    return lambda array: _by_row(cast(array, inside))


def _of_items(kind: pa.DataType, *, item: bool = False) -> pa.DataType:
    """The type by which times in structs and maps become datetimes: of nanoseconds Arrow makes integers there."""
    if pa.types.is_timestamp(kind) and item:
        return pa.timestamp("us", kind.tz)
    if _is_list(kind):
        return pa.list_(_of_items(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_of_items(field.type, item=True)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_of_items(kind.key_type, item=True), _of_items(kind.item_type, item=True))
    return kind


def _by_row(array: pa.Array) -> Any:
    """A column as pandas has it. Lists of integers with a null inside become lists of objects, in their row alone."""
    holes = _holes(array)
    parts = [array] if holes is None else [array.filter(pa.array(holes)), array.filter(pa.array(~holes))]
    series = [part.to_pandas(integer_object_nulls=True, maps_as_pydicts="strict") for part in parts]
    if holes is None:
        return series[0]
    found = np.empty(len(array), object)
    found[holes], found[~holes] = (one.to_numpy() for one in series)
    return pd.Series(found)


def _holes(array: pa.Array) -> Any:
    """In which rows a list of integers or booleans has a null; None where in none."""
    kind = array.type
    if pa.types.is_struct(kind):
        found = [holes for field in array.flatten() if (holes := _holes(field)) is not None]
        return np.logical_or.reduce(found) if found else None
    if _is_list(kind):
        below = array.values
        gone = below.null_count and below.type in _NULLABLE
        inside = below.is_null().to_numpy(zero_copy_only=False) if gone else _holes(below)
    else:
        inside = _holes(array.items) if pa.types.is_map(kind) else None
    if inside is None:
        return None
    before, offsets = np.append(0, np.cumsum(inside)), array.offsets.to_numpy()
    return before[offsets[1:]] > before[offsets[:-1]]


def _frame(columns: Mapping[Any, Any], rows: int) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.RangeIndex(rows))


def _unnamed_frame(columns: dict[str, Any], rows: int) -> pd.DataFrame:
    """With numbers for names, as a DataFrame of an array has them, and by which MLflow looks for them."""
    return _frame(dict(enumerate(columns.values())), rows)


def _tensor_plan(inputs: Sequence[Input], given: Sequence[tuple[str, pa.DataType]], places: Mapping[str, int]) -> Plan:
    named = inputs[0].name is not None
    if named:
        missing = [one.name for one in inputs if one.name not in places]
        if missing:
            raise PredictionError(f"needs the columns {missing}, which are missing; given: {list(places)}")
        chosen = [(one, places[str(one.name)]) for one in inputs]
    else:
        chosen = [(inputs[0]._replace(name=name), number) for name, number in places.items()]
    steps = []
    for one, place in chosen:
        dtype = np.dtype(one.type)
        _refuse_tensor(str(one.name), given[place][1], dtype)
        steps.append((str(one.name), place, _tensor_converter(dtype)))

    def shaped(array: Any, one: Input, rows: int) -> Any:
        assert one.shape is not None
        try:
            return array.reshape([rows, *one.shape[1:]])
        except ValueError:
            raise PredictionError(
                f"wants tensors of the shape {one.shape}, which the columns {[name for name, _, _ in steps]} don't make"
            ) from None

    def by_name(columns: dict[str, Any], rows: int) -> Any:
        return {str(one.name): shaped(columns[str(one.name)], one, rows) for one in inputs}

    def in_one(columns: dict[str, Any], rows: int) -> Any:
        arrays = list(columns.values())
        return shaped(arrays[0] if len(arrays) == 1 else np.column_stack(arrays), inputs[0], rows)

    return Plan(steps, by_name if named else in_one)


def _refuse_tensor(name: str, has: pa.DataType, dtype: np.dtype[Any]) -> None:
    leaf, depth = has, 0
    while _is_list(leaf):
        leaf, depth = leaf.value_type, depth + 1
    if dtype.kind not in "iuf" or pa.types.is_null(leaf):
        return
    both_floats = pa.types.is_floating(leaf) and dtype.kind == "f"  # the nearest value counts
    unsigned = pa.types.is_signed_integer(leaf) and dtype.kind == "u"  # Spark has none: each value is looked at
    wanted = pa.from_numpy_dtype(f"i{min(2 * dtype.itemsize, 8)}" if dtype.kind == "u" else dtype)
    if not (both_floats or unsigned or fits(leaf, wanted)):
        for _ in range(depth):
            wanted = pa.list_(wanted)
        raise ColumnError(name, has, wanted)


def _tensor_converter(dtype: np.dtype[Any]) -> Callable[[pa.Array], Any]:
    def convert(array: pa.Array) -> Any:
        """An array of one dimension more for each list, all lists of a level equally long."""
        shape = [len(array)]
        while _is_list(array.type):
            lengths = np.unique(pc.list_value_length(array.drop_null()).to_numpy())
            if array.null_count or len(lengths) != 1:
                raise ValueError("lists that are missing, empty or of different lengths")
            shape.append(int(lengths[0]))
            array = array.flatten()
        if array.null_count and dtype.kind in "iub":
            raise ValueError("nulls, which no tensor of this type can hold")
        leaf = cast(array, _natural(array.type))
        if pa.types.is_decimal(leaf.type):
            leaf = cast(leaf, pa.float64())
        values = leaf.to_numpy(zero_copy_only=False)
        typed = values.astype(dtype, copy=not values.flags.writeable)  # a model may write to what it gets
        if dtype.kind == "u" and not np.array_equal(typed, values):
            raise OverflowError("a value outside of the type")
        return typed.reshape(shape)

    return convert
