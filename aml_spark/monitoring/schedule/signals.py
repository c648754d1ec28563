"""The signals of a workspace's monitor, and the thresholds that Azure has for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aml_spark.errors import ArgumentError, listed
from aml_spark.monitoring.schedule.config import MonitorConfig

if TYPE_CHECKING:
    from azure.ai.ml.entities import ProductionData, ReferenceData

    from aml_spark.monitoring.schedule.production import Data, Production

_DEFAULT = ("data_drift", "data_quality", "prediction_drift")
_DRIFT = ("data_drift", "prediction_drift")
NUMERICAL = (
    "jensen_shannon_distance",
    "normalized_wasserstein_distance",
    "population_stability_index",
    "two_sample_kolmogorov_smirnov_test",
)
CATEGORICAL = ("jensen_shannon_distance", "population_stability_index", "pearsons_chi_squared_test")
# What Azure takes where it isn't told another.
_USUAL = {"numerical": ("normalized_wasserstein_distance", 0.1), "categorical": ("jensen_shannon_distance", 0.1)}
_QUALITY = ("null_value_rate", "data_type_error_rate", "out_of_bounds_rate")
# Our names of a task's metrics, and those of azure-ai-ml.
_PERFORMANCE = {
    "classification": {name: name for name in ("accuracy", "precision", "recall")},
    "regression": {"mae": "mean_absolute_error", "rmse": "root_mean_squared_error"},
}
_UNBOUNDED = ("normalized_wasserstein_distance", "population_stability_index", "mae", "rmse")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a monitor is to find out.

    Args:
        kinds: of signals, in Azure's words.
        task: `classification` or `regression`.
        features: names; how many of those that matter most; or None for all.
        label: the column with what was true, where it has a name.
        prediction: the column with what the model says, where it has a name.
        key: the column that brings predictions and labels together, where it has a name.
        numerical: metric and threshold of drift of numbers.
        categorical: metric and threshold of drift of categories.
        quality: thresholds of rates, by metric.
        performance: thresholds by azure-ai-ml's names.
        left_out: thresholds and expectations that Azure has nothing for.
    """

    kinds: tuple[str, ...]
    task: str
    features: int | list[str] | None
    label: str | None
    prediction: str | None
    key: str | None
    numerical: tuple[str, float]
    categorical: tuple[str, float]
    quality: Mapping[str, float]
    performance: Mapping[str, float]
    left_out: tuple[str, ...]


def wanted(config: MonitorConfig) -> Wanted:
    """Read what a file asks for, and check that Azure has it.

    Raises:
        ArgumentError: a threshold is outside of its metric's range, there are several metrics where Azure has one, or
            a signal lacks what it can't do without.
    """
    azure, given = config.azure or {}, config.arguments
    kinds, task = tuple(azure.get("signals", _DEFAULT)), given.get("task", "classification")
    asked: Mapping[str, Any] = given.get("thresholds", {})
    whole = {name: value for name, value in asked.items() if isinstance(value, int | float)}
    drift = {of: _drift(config, of, whole) for of in ("numerical", "categorical")}
    quality = {name: whole[name] for name in _QUALITY if name in whole}
    measures = _PERFORMANCE[task]
    performance = {measures[name]: whole[name] for name in measures if name in whole}
    used = {drift["numerical"][0], drift["categorical"][0]} if set(kinds) & set(_DRIFT) else set()
    used |= set(quality) if "data_quality" in kinds else set()
    used |= set(measures) & set(whole) if "model_performance" in kinds else set()
    for name in sorted(used & set(whole)):
        _check_range(config.file, name, whole[name])
    if "model_performance" in kinds:
        _check_performance(config, task, performance)
    features = azure.get("features", given.get("columns"))
    reference = azure.get("reference")
    trained = reference is not None and reference.get("context", "training") == "training" and "label" in given
    if isinstance(features, int) and not trained:
        raise ArgumentError(
            f"[azure] of {config.file!r}: `features` is {features}; Azure learns from training data which matter most",
            hint='[azure.reference] with the data and context = "training", and label = "…" before the first table',
        )
    key = given.get("key", [])
    left_out = [
        f"thresholds.{name}" if isinstance(value, Mapping) else name
        for name, value in asked.items()
        if name not in used
    ]
    left_out += [f"expectations.{name}" for name in given.get("expectations", {})]
    return Wanted(
        kinds=kinds,
        task=task,
        features=features,
        label=given.get("label"),
        prediction=given.get("prediction"),
        key=key[0] if len(key) == 1 else None,
        numerical=drift["numerical"],
        categorical=drift["categorical"],
        quality=quality,
        performance=performance,
        left_out=tuple(left_out),
    )


def made(asked: Wanted, found: Production) -> dict[str, Any]:
    """The signals as azure-ai-ml takes them, each with an alert, by their names."""
    from azure.ai.ml import entities as ml

    numerical: dict[str, Any] = dict([asked.numerical])
    categorical: dict[str, Any] = dict([asked.categorical])
    features: Any = asked.features or "all_features"
    if isinstance(features, int):
        features = ml.MonitorFeatureFilter(top_n_feature_importance=features)
    signals: dict[str, Any] = {}
    for kind in asked.kinds:
        data = found.inputs if kind in ("data_drift", "data_quality") else found.outputs
        assert data is not None  # `Production.of` looked
        common: dict[str, Any] = {"production_data": _production(data), "alert_enabled": True}
        if kind != "model_performance":
            common["reference_data"] = _reference(found.reference, data, asked.label)
        if kind == "data_drift":
            signals[kind] = ml.DataDriftSignal(
                **common,
                features=features,
                metric_thresholds=ml.DataDriftMetricThreshold(
                    numerical=ml.NumericalDriftMetrics(**numerical),
                    categorical=ml.CategoricalDriftMetrics(**categorical),
                ),
            )
        elif kind == "prediction_drift":
            signals[kind] = ml.PredictionDriftSignal(
                **common,
                metric_thresholds=ml.PredictionDriftMetricThreshold(
                    numerical=ml.NumericalDriftMetrics(**numerical),
                    categorical=ml.CategoricalDriftMetrics(**categorical),
                ),
            )
        elif kind == "data_quality":
            rates = dict.fromkeys(_QUALITY, 0.0) | dict(asked.quality)
            signals[kind] = ml.DataQualitySignal(
                **common,
                features=features,
                metric_thresholds=ml.DataQualityMetricThreshold(
                    numerical=ml.DataQualityMetricsNumerical(**rates),
                    categorical=ml.DataQualityMetricsCategorical(**rates),
                ),
            )
        else:
            signals[kind] = _performance(asked, found, common)
    return signals


def _performance(asked: Wanted, found: Production, common: Mapping[str, Any]) -> Any:
    from azure.ai.ml import entities as ml
    from azure.ai.ml.constants import MonitorDatasetContext

    assert found.outputs is not None  # `Production.of` looked
    assert found.labels is not None
    thresholds: Any = (
        ml.ModelPerformanceMetricThreshold(
            classification=ml.ModelPerformanceClassificationThresholds(**asked.performance)
        )
        if asked.task == "classification"
        else ml.ModelPerformanceMetricThreshold(regression=ml.ModelPerformanceRegressionThresholds(**asked.performance))
    )
    production, labels = common["production_data"], found.labels
    production.data_column_names = _columns(asked.prediction, found.outputs.join or asked.key)
    reference = ml.ReferenceData(
        input_data=_input(labels),
        data_context=MonitorDatasetContext.GROUND_TRUTH_DATA,
        data_column_names=_columns(asked.label, labels.join or asked.key),
        pre_processing_component=labels.preprocessing,
    )
    return ml.ModelPerformanceSignal(**common, reference_data=reference, metric_thresholds=thresholds)


def _production(data: Data) -> ProductionData:
    from azure.ai.ml.entities import BaselineDataRange, ProductionData

    window = "default" if data.days is None else f"P{data.days}D"
    context: Any = data.context
    return ProductionData(
        input_data=_input(data),
        data_context=context,
        pre_processing_component=data.preprocessing,
        data_window=BaselineDataRange(lookback_window_size=window, lookback_window_offset="P0D"),
    )


def _reference(reference: Data | None, production: Data, label: str | None) -> ReferenceData:
    """What production is compared with: itself, before, where there is nothing else."""
    from azure.ai.ml.entities import BaselineDataRange, ReferenceData

    data = production if reference is None else reference
    days = production.days
    size, offset = ("default", "default") if days is None else (f"P{2 * days}D", f"P{days}D")
    context: Any = data.context
    return ReferenceData(
        input_data=_input(data),
        data_context=context,
        pre_processing_component=data.preprocessing,
        data_window=BaselineDataRange(lookback_window_size=size, lookback_window_offset=offset)
        if reference is None
        else None,
        data_column_names=_columns(label, None) if reference is not None else None,
    )


def _input(data: Data) -> Any:
    from azure.ai.ml import Input

    return Input(type=data.type, path=data.path)


def _columns(target: str | None, join: str | None) -> dict[str, str] | None:
    pairs = {"target_column": target, "join_column": join}
    return {name: column for name, column in pairs.items() if column} or None


def _drift(config: MonitorConfig, of: str, whole: Mapping[str, float]) -> tuple[str, float]:
    """The one metric that Azure has for a kind of columns, and its threshold."""
    known = NUMERICAL if of == "numerical" else CATEGORICAL
    chosen: str | None = (config.azure or {}).get(of)
    given = [name for name in known if name in whole]
    usual, threshold = _USUAL[of]
    if chosen is None and len(given) > 1 and usual not in given:
        raise ArgumentError(
            f"[thresholds] of {config.file!r} has {listed(given)}; Azure's monitor has one metric for {of} columns",
            hint=f'[azure] with {of} = "{given[0]}"',
        )
    name = chosen or (given[0] if given and usual not in given else usual)
    if name not in whole and name != usual:
        raise ArgumentError(
            f"[azure] of {config.file!r}: `{of}` is {name!r}, which has no threshold",
            hint=f"[thresholds] with {name} = 0.1",
        )
    return name, whole.get(name, threshold)


def _check_range(file: str, name: str, value: float) -> None:
    """Raise for a threshold that its metric can't reach, or that azure-ai-ml takes for none."""
    most = math.inf if name in _UNBOUNDED else 1.0
    above = value >= 0 if name in _QUALITY else value > 0
    if not above or value > most or not math.isfinite(value):
        least = "from 0 on" if name in _QUALITY else "above 0"
        raise ArgumentError(
            f"[thresholds] of {file!r}: `{name}` is {value}; Azure's monitor wants a number {least}"
            + ("" if name in _UNBOUNDED else " and not above 1"),
            hint=f"{name} = 0.1",
        )


def _check_performance(config: MonitorConfig, task: str, thresholds: Mapping[str, float]) -> None:
    if not thresholds:
        names = list(_PERFORMANCE[task])
        raise ArgumentError(
            f"[thresholds] of {config.file!r} has none of the performance of a {task}: {listed(names)}",
            hint=f"[thresholds] with {names[0]} = 0.8",
        )
    azure = config.azure or {}
    lacking = [name for name in ("prediction", "label") if name not in config.arguments]
    if lacking:
        raise ArgumentError(
            f"{config.file!r} has no `{lacking[0]}`, which model_performance needs",
            hint=f'{lacking[0]} = "<column>" before the first table',
        )
    if len(config.arguments.get("key", [])) == 1:
        return
    for part in ("outputs", "labels"):
        if part in azure and "join" not in azure[part]:
            raise ArgumentError(
                f"[azure.{part}] of {config.file!r} has no `join`, the column that brings outputs and labels together",
                hint=f'[azure.{part}] with join = "<column>", or key = ["<column>"] before the first table',
            )
