"""LightGBM's trees, evaluated for many rows at once, to the same bits as LightGBM does it row by row.

The way is QuickScorer's (Lucchese et al., "QuickScorer: a fast algorithm to rank documents with additive ensembles of
regression trees", SIGIR 2015): each test of a tree leaves a set of leaves that can still be reached, kept as bits. All
tests of one feature depend on the interval that its value lies in, so what each interval leaves of every tree is worked
out beforehand. For a row, what its features leave is intersected, and one leaf of each tree remains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

Array = np.ndarray[Any, np.dtype[Any]]
Bits = type[np.unsignedinteger[Any]]
"""The type in which a tree's leaves are kept, a bit for each."""

_GROUP = 128
"""Most trees whose tables are used together: they have to fit the cache of a core."""
_ROWS = 512
"""Rows that are scored together, for the same reason."""
_FEW_ROWS = 64
"""Fewer rows than these LightGBM scores sooner."""
_MOST_LEAVES = 64
_MOST_BYTES = 128 << 20
"""Most memory for the tables of a model, which take at most 1.6 MB for a hundred trees of 31 leaves with numbers."""
_MOST_PAIRS = 1 << 22
"""Most intervals of a feature times tests of it, or trees, in a group: memory while a table is made."""
_SAMPLE = 256  # rows
_ZERO = float(np.float32(1e-35))
"""LightGBM takes for 0 what is as near to it."""
_BELOW_ZERO = float(np.nextafter(-_ZERO, -np.inf))
_OF_CATEGORIES, _DEFAULT_LEFT = 1, 2
_ZERO_IS_MISSING, _NAN_IS_MISSING = 1, 2
_DEFAULTS = {"start_iteration": 0, "num_iteration": None} | dict.fromkeys(
    ("raw_score", "pred_leaf", "pred_contrib", "pred_early_stop", "validate_features"), False
)
"""Options of `Booster.predict` that change what it gives or checks."""
_SUM_OBJECTIVES = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg")
_LOG_OBJECTIVES = ("poisson", "gamma", "tweedie")


class _UnsupportedError(Exception):
    """LightGBM has to evaluate the model itself."""


class _Test(NamedTuple):
    """A test of a tree.

    Args:
        tree, feature: their places.
        threshold: up to which values go left.
        missing: what is missing: `_ZERO_IS_MISSING`, `_NAN_IS_MISSING` or 0.
        default_left: whether that goes left.
        categories: those that go left; None where a number is asked for.
        left, right: the leaves that it leaves, as bits.
    """

    tree: int
    feature: int
    threshold: float
    missing: int
    default_left: bool
    categories: Sequence[int] | None
    left: int
    right: int


class _Group(NamedTuple):
    """Trees of one class.

    Args:
        tables: a feature, the upper ends of its intervals and what these leave: a row for each interval and one for
            NaN, a column for each tree.
        leaves: the values of all leaves, one tree's after the other's.
        first: by tree, the place before its leaves, as a column.
        class_index: the class whose sum they add to.
    """

    tables: Sequence[tuple[int, Array, Array]]
    leaves: Array
    first: Array
    class_index: int


def quicken(model: Any) -> None:
    """Have a model of LightGBM's predict in this way, where its own answers to made-up rows are the same.

    It has to stay as it is from then on: trees that are changed later don't count.
    """
    if not type(model).__module__.startswith("lightgbm."):
        return
    booster = getattr(model, "booster_", model)
    if isinstance(booster.predict, _Predict):
        return
    try:
        quick = _Predict(booster)
    except _UnsupportedError:
        return
    sample = quick.sample()
    if booster.predict(sample).tobytes() == quick(sample).tobytes():
        booster.predict = quick


class _Predict:
    """`Booster.predict`; what it can't do, LightGBM's own does.

    Raises:
        _UnsupportedError: it can do nothing for this model.
    """

    def __init__(self, booster: Any) -> None:
        _parsed(booster.model_to_string(num_iteration=1))  # which tells of most that it isn't supported, soon
        head, trees = _parsed(booster.model_to_string(num_iteration=booster.best_iteration))
        leaves = [int(tree["num_leaves"]) for tree in trees]
        bits = np.uint32 if max(leaves, default=0) <= 32 else np.uint64
        if booster.pandas_categorical or not trees or sum(leaves) * _GROUP * np.iinfo(bits).bits // 8 > _MOST_BYTES:
            raise _UnsupportedError
        self._own = booster.predict
        self._columns = booster.num_feature()
        self._classes = int(head["num_tree_per_iteration"])
        self._output = _output(head.get("objective", ""), self._classes)
        self._groups, size_of_tables = list[_Group](), 0
        for index in range(self._classes):
            of_class = trees[index :: self._classes]
            size = math.ceil(len(of_class) / math.ceil(len(of_class) / _GROUP))
            starts = range(0, len(of_class), size)
            for start in starts:
                group = _group(of_class[start : start + size], bits, index)
                size_of_tables += sum(table.nbytes for _, _, table in group.tables)
                if size_of_tables > _MOST_BYTES:
                    raise _UnsupportedError
                self._groups.append(group)

    def __reduce__(self) -> Any:
        return getattr, (self._own.__self__, "predict")  # a copy elsewhere is LightGBM's own

    def __call__(self, data: Any, *args: Any, **options: Any) -> Any:
        plain = not args and all(options.get(name, value) == value for name, value in _DEFAULTS.items())
        matrix = self._matrix(data) if plain else None
        return self._own(data, *args, **options) if matrix is None else self._output(self._sums(matrix))

    def _matrix(self, data: Any) -> Array | None:
        """The data as an array, where LightGBM makes the same numbers of it."""
        if isinstance(data, pd.DataFrame) and all(
            isinstance(kind, np.dtype) and (kind.kind in "iub" or kind in (np.float32, np.float64))
            for kind in data.dtypes
        ):
            data = data.to_numpy(np.float64)
        # It takes integers in an array for floats of 32 bits.
        fits = type(data) is np.ndarray and data.ndim == 2 and data.dtype in (np.float32, np.float64)
        return data if fits and len(data) >= _FEW_ROWS and data.shape[1] == self._columns else None

    def _sums(self, data: Array) -> Array:
        """By class and row, the sum of the leaves that the row reaches, added in LightGBM's order."""
        sums = np.zeros((self._classes, len(data)))
        for start in range(0, len(data), _ROWS):
            rows = data[start : start + _ROWS]
            for group in self._groups:
                remain = np.ones((len(rows), len(group.first)), np.uint32)  # where no tree has a test
                for number, (feature, ends, table) in enumerate(group.tables):
                    found = table.take(ends.searchsorted(rows[:, feature]), axis=0)
                    remain = np.bitwise_and(remain, found, out=remain) if number else found
                # One bit remains of each tree, so as a number it is a power of 2, which a float holds exactly.
                powers = np.frexp(remain.astype(np.float32 if remain.itemsize == 4 else np.float64))[1]
                leaf = np.add(powers.T, group.first, order="C")
                total = sums[group.class_index, start : start + _ROWS]
                for values in group.leaves.take(leaf):  # numpy's sum over an axis promises no order
                    total += values
        return sums

    def sample(self) -> Array:
        """Rows at, just below and just above the ends of intervals, and such as are missing, zero or infinite."""
        random = np.random.default_rng(0)
        sample = random.normal(size=(_SAMPLE, self._columns))
        special = np.array([np.nan, 0.0, -0.0, np.inf, -np.inf, 1e-36, -1e-36, _ZERO, -_ZERO, 2.0**32])
        for group in self._groups:
            for feature, ends, _ in group.tables:
                with np.errstate(over="ignore"):
                    near = np.concatenate([ends, np.nextafter(ends, -np.inf), np.nextafter(ends, np.inf)])
                places = random.choice(_SAMPLE, _SAMPLE // 2, replace=False)
                chosen = random.choice(near, len(places) - len(special))
                sample[places, feature] = np.concatenate([special, chosen])
        return sample


def _parsed(text: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """What LightGBM's description of a model says of the whole and of each tree.

    Raises:
        _UnsupportedError: it averages its trees, or has one of linear models or of too many leaves.
    """
    parts = text.partition("\nend of trees")[0].split("\nTree=")
    head, *trees = [dict(line.partition("=")[::2] for line in part.split("\n")) for part in parts]
    is_linear = any(tree.get("is_linear", "0") != "0" for tree in trees)
    if "average_output" in head or is_linear or any(int(tree["num_leaves"]) > _MOST_LEAVES for tree in trees):
        raise _UnsupportedError
    return head, trees


def _output(objective: str, classes: int) -> Callable[[Array], Array]:
    """What LightGBM makes of the sums: the objective's `ConvertOutput`."""
    if not objective and classes == 1:  # one's own isn't described, and its sums are what it gives
        return lambda sums: sums[0]
    name, *settings = objective.split() or [""]
    told = dict(setting.partition(":")[::2] for setting in settings)
    if name in _SUM_OBJECTIVES and "sqrt" not in told and classes == 1:
        return lambda sums: sums[0]
    if name in _LOG_OBJECTIVES and classes == 1:
        return lambda sums: _exp(sums[0])
    if name == "binary" and classes == 1:
        slope = float(told["sigmoid"])
        return lambda sums: 1.0 / (1.0 + _exp(-slope * sums[0]))
    if name == "multiclass":
        return _softmax
    raise _UnsupportedError


def _softmax(sums: Array) -> Array:
    powers = _exp(sums - sums.max(axis=0))
    return np.ascontiguousarray((powers / sum(powers)).T)


def _exp(values: Array) -> Array:
    """The C library's exponential, which LightGBM takes: numpy's own differs from it in the last bit."""
    return np.array([_power(value) for value in values.ravel().tolist()]).reshape(values.shape)


def _power(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _group(trees: Sequence[Mapping[str, str]], bits: Bits, class_index: int) -> _Group:
    leaves, tests = np.zeros((len(trees), np.iinfo(bits).bits)), list[_Test]()
    for place, tree in enumerate(trees):
        order, found = _tests(place, tree)
        leaves[place, : len(order)] = np.array(tree["leaf_value"].split(), float)[order]
        if not found:  # whichever bit remains of it
            leaves[place] = leaves[place, 0]
        tests += found
    features = sorted({test.feature for test in tests})
    if len(features) > len(trees):  # then each feature has so few tests that LightGBM is faster
        raise _UnsupportedError
    tables = [(one, *_table([test for test in tests if test.feature == one], len(trees), bits)) for one in features]
    return _Group(tables, leaves.ravel(), (np.arange(len(trees)) * leaves.shape[1] - 1)[:, None], class_index)


def _tests(place: int, tree: Mapping[str, str]) -> tuple[list[int], list[_Test]]:
    """A tree's leaves from left to right, and its tests."""
    if tree["num_leaves"] == "1":
        return [0], []
    features, kinds, lefts, rights, boundaries, words = (
        [int(value) for value in tree.get(name, "").split()]
        for name in ("split_feature", "decision_type", "left_child", "right_child", "cat_boundaries", "cat_threshold")
    )
    thresholds = [float(value) for value in tree["threshold"].split()]
    order, tests, whole = list[int](), list[_Test](), (1 << len(thresholds) + 1) - 1

    def walk(node: int) -> int:
        """The leaves below a node, as bits; those have negative numbers."""
        if node < 0:
            order.append(~node)
            return 1 << len(order) - 1
        left, right = walk(lefts[node]), walk(rights[node])
        missing, default_left = kinds[node] >> 2 & 3, bool(kinds[node] & _DEFAULT_LEFT)
        categories = None
        if kinds[node] & _OF_CATEGORIES:
            number = int(thresholds[node])  # of its words of 32 bits, in which there is one for each category
            bits = enumerate(words[boundaries[number] : boundaries[number + 1]])
            categories = [32 * index + bit for index, word in bits if word for bit in range(32) if word >> bit & 1]
        keeps = whole & ~right, whole & ~left
        tests.append(_Test(place, features[node], thresholds[node], missing, default_left, categories, *keeps))
        return left | right

    walk(0)
    return order, tests


def _table(tests: Sequence[_Test], trees: int, bits: Bits) -> tuple[Array, Array]:
    """The upper ends of a feature's intervals, and what each leaves of each tree."""
    categories = [test.categories for test in tests if test.categories is not None]
    if len(categories) not in (0, len(tests)):
        raise _UnsupportedError
    ends = _ends_of_categories(categories) if categories else _ends_of_numbers(tests)
    if len(ends) * max(len(tests), trees) > _MOST_PAIRS:
        raise _UnsupportedError
    goes_left = _by_category(categories, ends) if categories else _by_number(tests, ends)
    left, right = (np.array([getattr(test, name) for test in tests], bits)[:, None] for name in ("left", "right"))
    leaves = np.where(goes_left, left, right)
    of_tree, first = np.unique([test.tree for test in tests], return_index=True)
    table = np.full((len(ends) + 1, trees), np.iinfo(bits).max, bits)
    table[:, of_tree] = np.bitwise_and.reduceat(leaves, first, axis=0).T
    return ends, table


def _ends_of_numbers(tests: Sequence[_Test]) -> Array:
    """The thresholds. What is nearly 0 is 0, so no interval ends among it. Past infinity, NaN alone is sorted."""
    threshold = np.array([test.threshold for test in tests])
    ends = np.where(abs(threshold) > _ZERO, threshold, np.where(threshold < 0, _BELOW_ZERO, _ZERO))
    return np.unique([*ends, _BELOW_ZERO, _ZERO, np.inf])


def _ends_of_categories(tests: Sequence[Sequence[int]]) -> Array:
    """Before and after each category that is asked for: the whole part of a value, so that 0 begins above -1."""
    known = {category for categories in tests for category in categories}
    before = [np.nextafter(category, -np.inf) if category else -1.0 for category in known]
    return np.unique([*before, *(np.nextafter(category + 1, -np.inf) for category in known), np.inf])


def _by_number(tests: Sequence[_Test], ends: Array) -> Array:
    """By test and interval, with NaN as the last one, what goes left: LightGBM's `NumericalDecision`."""
    names = ("threshold", "missing", "default_left")
    threshold, missing, default_left = (np.array([getattr(test, name) for test in tests])[:, None] for name in names)
    value = np.append(ends, np.nan)
    value = np.where(np.isnan(value) & (missing != _NAN_IS_MISSING), 0.0, value)
    value = np.where(abs(value) <= _ZERO, 0.0, value)
    is_missing = np.where(missing == _NAN_IS_MISSING, np.isnan(value), (missing == _ZERO_IS_MISSING) & (value == 0))
    return np.where(is_missing, default_left, value <= threshold)


def _by_category(tests: Sequence[Sequence[int]], ends: Array) -> Array:
    """The same by `CategoricalDecision`: what is below 0, missing, or isn't known goes right."""
    category = np.append(np.where(np.isfinite(ends), np.trunc(ends), -1), -1)
    return np.array([np.isin(category, categories) for categories in tests])
