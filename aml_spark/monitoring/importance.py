"""How much each column matters to a model: shares that add up to 1.

They come from the user, from SHAP values of a sample, or from the model itself. What a model says:

* LightGBM and XGBoost: the gain of all splits on a column.
* scikit-learn's trees and forests: `feature_importances_`.
* linear models: the standard deviation of what a column adds to the sum, which is its coefficient times its own
  standard deviation. That is 1 behind a scaler. Of indicators, such as OneHotEncoder's, it is that of their
  coefficients, as if all categories were equally frequent. Of columns as they are the caller has to say it. Of several
  classes, the mean.

What pipelines and column transformers make of a column counts to it, and what they make of several to each in equal
parts. scikit-learn isn't imported for this: its objects are known by what they have.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from aml_spark.errors import ArgumentError, did_you_mean, listed
from aml_spark.model import PinnedModel, pin

FLAVORS = ("sklearn", "lightgbm", "xgboost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """How much columns matter.

    Args:
        shares: by column; they add up to 1. None where it can't be told.
        note: where they come from, or why it can't be told.
    """

    shares: Mapping[str, float] | None
    note: str


def importance(source: Any, columns: Sequence[str], *, deviations: Mapping[str, float] | None = None) -> Importance:
    """How much each column matters to a model.

    Args:
        source: one of these:
            a mapping of column to a number that isn't negative;
            SHAP values: `shap.Explanation`, a DataFrame, or an array of the shape (rows, columns) or (rows, columns,
            classes), whose columns are `columns` or, in a DataFrame, parts of them, such as carrier_AA of carrier;
            a fitted model of scikit-learn, LightGBM or XGBoost, or a pyfunc model of one;
            a pinned model, or a model's URI or folder, which is loaded in this process.
        columns: those that the model takes, in its order.
        deviations: standard deviations of columns, for linear models that take some as they are.

    Returns:
        Shares of all the columns, or the reason why there are none.

    Raises:
        ArgumentError: numbers that can't be importances, or columns that the model doesn't take.
        ModelError: the model can't be opened.
    """
    if isinstance(source, Mapping):
        return _shared(_given(source, columns), columns, "as given")
    values = getattr(source, "values", source) if hasattr(source, "feature_names") else source
    names = getattr(source, "feature_names", None) or getattr(source, "columns", None)
    if hasattr(values, "shape"):
        return _shared(_shap(values, list(columns if names is None else names), columns), columns, "from SHAP values")
    try:
        model = _loaded(source)
        return _shared(_of_model(model, list(columns), deviations or {}), columns, f"from {type(model).__name__}")
    except _UnknownError as error:
        return Importance(shares=None, note=str(error))


class _UnknownError(Exception):
    """A model doesn't tell; the reason."""


def _shared(sums: Mapping[str, float], columns: Sequence[str], note: str) -> Importance:
    total = sum(sums.values())
    if not 0 < total < math.inf:
        return Importance(shares=None, note=f"{note}: no column matters")
    return Importance(shares={name: sums.get(name, 0.0) / total for name in columns}, note=note)


def _given(numbers: Mapping[Any, Any], columns: Sequence[str]) -> dict[str, float]:
    for name, number in numbers.items():
        if name not in columns:
            told = f"importance names {name!r}, which is no column; expected some of {listed(columns)}"
            raise ArgumentError(told, hint=did_you_mean(str(name), columns))
        if isinstance(number, bool) or not isinstance(number, Real) or not 0 <= float(number) < math.inf:
            raise ArgumentError(f"the importance of {name!r} is {number!r}; expected a number from 0 on")
    return {name: float(number) for name, number in numbers.items()}


def _shap(values: Any, names: Sequence[Any], columns: Sequence[str]) -> dict[str, float]:
    """The mean size of a column's values. Parts of a column are added up first, as their effects do."""
    import numpy as np

    found = np.asarray(values, dtype=np.float64)
    if found.ndim not in (2, 3) or found.shape[1] != len(names):
        expected = f"(rows, {len(names)}) or (rows, {len(names)}, classes)"
        raise ArgumentError(f"the SHAP values have the shape {found.shape}; expected {expected}")
    parts: dict[str, list[int]] = {}
    for place, name in enumerate(map(str, names)):
        of = [column for column in columns if name == column or name.startswith(f"{column}_")]
        if not of:
            raise ArgumentError(
                f"the SHAP values name {name!r}, which is neither a column nor a part of one, such as "
                f"{columns[0] if columns else 'x'}_…; the columns are {listed(columns)}"
            )
        parts.setdefault(max(of, key=len), []).append(place)
    if not len(found):
        return {}
    return {name: float(np.nanmean(np.abs(found[:, places].sum(axis=1)))) for name, places in parts.items()}


# Models


def _loaded(source: Any) -> Any:
    """The model itself, of what may hold it or name it."""
    import importlib

    if isinstance(source, str) or hasattr(source, "__fspath__"):
        source = pin(str(source))
    if isinstance(source, PinnedModel):
        flavor = next((name for name in FLAVORS if name in source.metadata.flavors), None)
        if flavor is None:
            raise _UnknownError(
                f"the model {source.label} is of {listed(source.metadata.flavors)}; importances are read of "
                f"{listed(FLAVORS)}"
            )
        try:
            source = importlib.import_module(f"mlflow.{flavor}").load_model(str(source.folder))
        except Exception as error:  # whatever a package that lacks or differs raises
            raise _UnknownError(
                f"the model {source.label} can't be loaded in this process ({type(error).__name__})"
            ) from None
    if hasattr(source, "unwrap_python_model"):  # MLflow's pyfunc
        inner = source.get_raw_model() if hasattr(source, "get_raw_model") else source._model_impl
        wrapped = ("sklearn_model", "lgb_model", "xgb_model")
        source = next((getattr(inner, name) for name in wrapped if hasattr(inner, name)), inner)
    return getattr(source, "best_estimator_", source)  # of a search over parameters


def _of_model(model: Any, columns: list[str], deviations: Mapping[str, float]) -> dict[str, float]:
    *before, last = [step for _, step in model.steps] if hasattr(model, "steps") else [model]
    before = [step for step in before if step not in ("passthrough", None)]
    features = [_Feature(columns=(name,)) for name in _inputs(model, columns)]
    for step in before:
        features = _through(step, features)
    weights = _gains(last)
    if weights is None and (coefficients := getattr(last, "coef_", None)) is not None:
        return _linear(coefficients, features, deviations)
    if weights is None:
        raise _UnknownError(f"{type(last).__name__} has no importances and no coefficients; SHAP values tell them")
    if len(weights) != len(features):
        raise _UnknownError(f"{type(last).__name__} has {len(weights)} features, of which {len(features)} are known")
    sums: dict[str, float] = {}
    for feature, weight in zip(features, weights, strict=True):
        for name in feature.columns:
            sums[name] = sums.get(name, 0.0) + float(weight) / len(feature.columns)
    return sums


def _inputs(model: Any, columns: list[str]) -> list[str]:
    """The columns that a model takes, in its order."""
    named = getattr(model, "feature_names_in_", None)
    if named is not None and set(named) <= set(columns):
        return [str(name) for name in named]
    count = getattr(model, "n_features_in_", None)
    if count is None and callable(getattr(model, "num_feature", None)):  # a booster of LightGBM
        count = model.num_feature()
    elif count is None and callable(getattr(model, "num_features", None)):  # of XGBoost
        count = model.num_features()
    own = getattr(model, "feature_names", None) or (model.feature_name() if hasattr(model, "feature_name") else None)
    if own and not callable(own) and set(own) <= set(columns):
        return list(own)
    if count is not None and count != len(columns):
        raise _UnknownError(f"the model takes {count} columns, and which of {listed(columns)} they are can't be told")
    return columns


def _gains(model: Any) -> list[float] | None:
    """What trees say of each feature; None of other models."""
    if callable(getattr(model, "feature_importance", None)):  # LightGBM's booster
        return [float(gain) for gain in model.feature_importance("gain")]
    if hasattr(model, "booster_"):
        return _gains(model.booster_)
    if hasattr(model, "get_booster"):  # XGBoost
        return _gains(model.get_booster())
    if hasattr(model, "get_score"):
        count = int(model.num_features())
        try:
            gains = model.get_score(importance_type="total_gain")
        except Exception as error:  # XGBoost's own, of boosters that aren't trees
            raise _UnknownError(f"the XGBoost model has no gain ({type(error).__name__})") from None
        names = model.feature_names or [f"f{place}" for place in range(count)]
        return [float(gains.get(name, 0.0)) for name in names]
    found = getattr(model, "feature_importances_", None)
    return None if found is None else [float(one) for one in found]


# Pipelines


@dataclass(frozen=True, slots=True, kw_only=True)
class _Feature:
    """What an estimator sees: of which columns it is made, and of what scale: "own", "one" or "indicator"."""

    columns: tuple[str, ...]
    scale: str = "own"


def _through(step: Any, features: list[_Feature]) -> list[_Feature]:
    """What a transformer makes of features."""
    if isinstance(step, str):
        return [] if step == "drop" else features
    if hasattr(step, "steps"):
        for _, inner in step.steps:
            features = features if inner is None else _through(inner, features)
        return features
    if hasattr(step, "output_indices_"):  # a ColumnTransformer
        found: dict[int, _Feature] = {}
        for name, inner, chosen in step.transformers_:
            made = _through(inner, [features[place] for place in _chosen(chosen, step, len(features))])
            places = range(*step.output_indices_[name].indices(10**9))
            found |= dict(zip(places, made, strict=True))
        return [found[place] for place in sorted(found)]
    if hasattr(step, "transformer_list"):  # a FeatureUnion
        return [one for _, inner in step.transformer_list for one in _through(inner, features)]
    return list(_made(step, features))


def _chosen(chosen: Any, step: Any, count: int) -> list[int]:
    """Places of the columns that a part of a ColumnTransformer takes: by name, number, mask or slice."""
    import numpy as np

    if isinstance(chosen, str) or (not isinstance(chosen, slice) and any(isinstance(one, str) for one in chosen)):
        names = list(step.feature_names_in_)
        return [names.index(name) for name in ([chosen] if isinstance(chosen, str) else chosen)]
    return [int(place) for place in np.atleast_1d(np.arange(count)[chosen])]


def _made(step: Any, features: list[_Feature]) -> Iterator[_Feature]:
    """By the names that a transformer gives: it is shown marks for names, and where these come back is told."""
    shown = copy.copy(step)
    if hasattr(shown, "feature_names_in_"):
        del shown.feature_names_in_  # it takes no other names then
    marks = [f"\0{place}\0" for place in range(len(features))]
    try:
        names = [str(name) for name in shown.get_feature_names_out(marks)]
    except Exception as error:  # of a transformer of anybody's
        raise _UnknownError(
            f"what {type(step).__name__} makes of columns can't be told ({type(error).__name__})"
        ) from None
    scales = any(getattr(step, name, None) is not None for name in ("scale_", "lambdas_", "quantiles_"))
    for name in names:
        of = [features[int(place)] for place in dict.fromkeys(re.findall("\0(\\d+)\0", name))]
        if not of:
            raise _UnknownError(f"{type(step).__name__} mixes columns; SHAP values tell what matters")
        columns = tuple(dict.fromkeys(column for one in of for column in one.columns))
        scale = "one" if scales else of[0].scale if name in marks else "indicator" if len(of) == 1 else "mixed"
        yield _Feature(columns=columns, scale=scale)


def _linear(coefficients: Any, features: list[_Feature], deviations: Mapping[str, float]) -> dict[str, float]:
    import numpy as np

    rows = coefficients.toarray() if hasattr(coefficients, "toarray") else np.asarray(coefficients, dtype=np.float64)
    rows = np.atleast_2d(rows)
    if rows.shape[1] != len(features):
        raise _UnknownError(f"there are {rows.shape[1]} coefficients, and {len(features)} features are known")
    sums: dict[str, float] = {}
    indicators: dict[tuple[str, ...], list[int]] = {}
    for place, feature in enumerate(features):
        if feature.scale == "indicator":
            indicators.setdefault(feature.columns, []).append(place)
            continue
        deviation = 1.0 if feature.scale == "one" else deviations.get(feature.columns[0], math.nan)
        if feature.scale == "mixed" or not math.isfinite(deviation):
            raise _UnknownError(
                "a linear model's coefficients tell only where its features are of one scale: "
                f"{' and '.join(map(repr, feature.columns))} isn't scaled before it; SHAP values tell"
            )
        for name in feature.columns:
            size = float(np.abs(rows[:, place]).mean()) * deviation / len(feature.columns)
            sums[name] = sums.get(name, 0.0) + size
    for names, places in indicators.items():
        one = len(places) == 1  # it and its opposite
        size = float((np.abs(rows[:, places]) / 2 if one else rows[:, places].std(axis=1)).mean())
        for name in names:
            sums[name] = sums.get(name, 0.0) + size / len(names)
    return sums
