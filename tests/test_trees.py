"""LightGBM's trees as workers evaluate them: to the same bits as LightGBM, or by LightGBM."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightgbm
import mlflow
import numpy as np
import pandas as pd
import pytest
from lightgbm.basic import LightGBMError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aml_spark.worker import models, trees

ROWS, COLUMNS, TREES = 600, 6, 30
KINDS: Mapping[str, dict[str, Any]] = {
    "regression": {},
    "quantile": {"objective": "quantile", "alpha": 0.7},
    "poisson": {"objective": "poisson"},
    "binary": {"objective": "binary", "sigmoid": 0.7},
    "multiclass": {"objective": "multiclass", "num_class": 3},
    "no objective": {"objective": "none"},
    "dart": {"boosting": "dart"},
    "64 leaves": {"num_leaves": 64},
    "zero is missing": {"zero_as_missing": True},
    "nothing is missing": {"use_missing": False},
    "one leaf": {"min_data_in_leaf": ROWS},
    "several groups": {"num_iterations": 130, "num_leaves": 4},
    "categories": {"categorical_feature": [1, 2], "min_data_per_group": 2, "cat_smooth": 1},
}
LEFT_ALONE: Mapping[str, dict[str, Any]] = {
    "65 leaves": {"num_leaves": 65},
    "linear leaves": {"linear_tree": True},
    "averaged": {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    "squared sums": {"reg_sqrt": True},
    "another objective": {"objective": "cross_entropy_lambda"},
    "one against all": {"objective": "multiclassova", "num_class": 3},
    "no objective for classes": {"objective": "none", "num_class": 3},
    "more columns than trees": {"num_iterations": 2},
}


def _data(rows: int = ROWS, seed: int = 0) -> np.ndarray[Any, Any]:
    """Numbers, many of them equal, some missing, infinite, zero, or as near to it as makes no difference."""
    random = np.random.default_rng(seed)
    data = random.normal(size=(rows, COLUMNS)).round(1)
    data[:, 1] = random.integers(0, 5, size=rows)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-36, -1e-36, 1e-35, -1e-35, 1e30])
    places = random.random(size=data[:, 2:].shape) < 0.3
    data[:, 2:][places] = random.choice(special, places.sum())
    return data


def _like(labels: Any, sums: Any) -> Any:
    return labels if sums.ndim == 1 else labels[:, None] == np.arange(sums.shape[1])


def _booster(kind: dict[str, Any]) -> lightgbm.Booster:
    data = _data()
    target = np.nan_to_num(data, posinf=3, neginf=-3)[:, :3].clip(-3, 3).sum(axis=1)
    objective = kind.get("objective", "")
    if "num_class" in kind:
        target = np.digitize(target, [-1, 2])
    elif objective in ("binary", "cross_entropy_lambda"):
        target = (target > 1).astype(float)
    elif objective == "poisson":
        target = abs(target)
    settings = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 5, **kind}
    if objective == "none":
        settings["objective"] = lambda sums, given: (sums - _like(given.get_label(), sums), np.ones_like(sums))
    rounds, categories = settings.pop("num_iterations", TREES), settings.pop("categorical_feature", "auto")
    return lightgbm.train(settings, lightgbm.Dataset(data, target, categorical_feature=categories), rounds)


def _is_quick(model: Any) -> bool:
    return isinstance(getattr(model, "booster_", model).predict, trees._Predict)


def _same(one: Any, other: Any) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_to_the_last_bit_as_lightgbm(kind: str) -> None:
    booster = _booster(KINDS[kind])
    own = booster.predict
    trees.quicken(booster)
    assert _is_quick(booster)
    near = trees._Predict(lightgbm.Booster(model_str=booster.model_to_string())).sample()
    data = np.concatenate([_data(1100, seed=1), near])
    numbers = pd.DataFrame(data[:1100]).astype({1: "int64"})
    few = [data[:1], data[:3, ::-1], data[:63], data[:64], data[:65, ::-1]]
    for given in (data, np.asfortranarray(data), data[::-2], data[:1100].astype("float32"), numbers, *few):
        assert _same(booster.predict(given), own(given))


@pytest.mark.parametrize("kind", LEFT_ALONE)
def test_what_it_can_not_do_is_left_to_lightgbm(kind: str) -> None:
    booster = _booster(LEFT_ALONE[kind])
    trees.quicken(booster)
    assert not _is_quick(booster)


def test_a_category_that_no_tree_asks_for_is_lightgbms_matter() -> None:
    data = pd.DataFrame({"x": np.arange(200.0), "always": pd.Categorical(["a"] * 200)})
    booster = lightgbm.train({"verbose": -1}, lightgbm.Dataset(data, data["x"]), TREES)
    trees.quicken(booster)
    assert not _is_quick(booster)


@pytest.mark.parametrize("limit", ["_MOST_BYTES", "_MOST_PAIRS"])
def test_tables_that_take_much_memory_are_not_made(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    booster = _booster({})
    monkeypatch.setattr(trees, limit, 1000)
    trees.quicken(booster)
    assert not _is_quick(booster)


def test_tables_of_many_categories_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.arange(5000.0)[:, None] % 500 * 2
    settings = {"verbose": -1, "num_leaves": 4, "min_data_per_group": 1, "cat_smooth": 0, "max_cat_threshold": 500}
    given = lightgbm.Dataset(data, data[:, 0] * 7919 % 1000, categorical_feature=[0])
    booster = lightgbm.train(settings, given, TREES)
    monkeypatch.setattr(trees, "_MOST_BYTES", 1 << 16)  # more than four leaves of each tree take with numbers
    trees.quicken(booster)
    assert not _is_quick(booster)
    monkeypatch.setattr(trees, "_MOST_BYTES", 1 << 18)
    trees.quicken(booster)
    assert _is_quick(booster)


def test_a_leaf_may_be_past_what_a_double_holds() -> None:
    booster = _booster(KINDS["poisson"])
    for leaf in range(31):
        booster.set_leaf_output(0, leaf, (707.5, 708.1928820975029, 712.0, -800.0)[leaf % 4])
    own, data = booster.predict, _data()
    trees.quicken(booster)
    assert _is_quick(booster)
    assert np.isinf(own(data)).any()
    assert _same(booster.predict(data), own(data))


def test_a_model_whose_answers_to_made_up_rows_differ_is_left_to_lightgbm(monkeypatch: pytest.MonkeyPatch) -> None:
    booster = _booster({"objective": "binary"})
    monkeypatch.setattr(trees, "_exp", lambda values: np.nextafter(np.exp(values), np.inf))
    trees.quicken(booster)
    assert not _is_quick(booster)


def test_what_is_asked_beyond_predictions_is_lightgbms_answer() -> None:
    booster, data = _booster(KINDS["binary"]), _data(100)
    own = booster.predict
    trees.quicken(booster)
    asked: list[dict[str, Any]] = [
        {"raw_score": True},
        {"pred_leaf": True},
        {"pred_contrib": True},
        {"num_iteration": 3},
        {"start_iteration": 2},
        {"pred_early_stop": True, "pred_early_stop_margin": 0.01},
    ]
    for options in asked:
        assert _same(booster.predict(data, **options), own(data, **options))
        assert not _same(booster.predict(data, **options), own(data))
    assert _same(booster.predict(data, 0, 3), own(data, 0, 3))
    booster.best_iteration = 3
    assert _same(booster.predict(data, num_iteration=0), own(data, num_iteration=0))
    with pytest.raises(LightGBMError, match="Expected"):
        booster.predict(pd.DataFrame(data), validate_features=True)
    whole = data[:, [1] * COLUMNS].astype(int)
    assert _same(booster.predict(whole), own(whole))
    with pytest.raises(LightGBMError, match="number of features"):
        booster.predict(data[:, 1:])


def test_the_best_iteration_counts() -> None:
    booster, data = _booster({}), _data()
    every = booster.predict(data)
    booster.best_iteration = 7
    expected = booster.predict(data)
    trees.quicken(booster)
    assert _is_quick(booster)
    assert _same(booster.predict(data), expected)
    assert not _same(expected, every)


def test_copies_of_a_model_are_lightgbms_own() -> None:
    booster, data = _booster({}), _data(100)
    expected = booster.predict(data)
    trees.quicken(booster)
    trees.quicken(booster)  # as where a pipeline has it twice
    for made in (pickle.loads(pickle.dumps(booster)), copy.deepcopy(booster)):
        assert _same(made.predict(data), expected)
        assert not _is_quick(made)


@pytest.mark.parametrize("saved", ["lightgbm", "sklearn"])
def test_a_loaded_model_is_quick(tmp_path: Path, saved: str) -> None:
    data = pd.DataFrame(_data(), columns=[f"x{number}" for number in range(COLUMNS)])
    classes = lightgbm.LGBMClassifier(n_estimators=TREES, verbose=-1, n_jobs=1)
    save: Callable[..., Any] = mlflow.lightgbm.save_model
    model: Any = classes.fit(data, (data["x0"] > 0).map({True: "late", False: "on time"}))
    if saved == "sklearn":
        data = data.replace([np.inf, -np.inf, 1e30], 0)
        model = make_pipeline(StandardScaler().set_output(transform="pandas"), classes).fit(data, data["x0"] > 0)
        save = mlflow.sklearn.save_model
    more = {"serialization_format": "cloudpickle"} if saved == "sklearn" else {}
    save(model, str(tmp_path / "model"), **more)
    expected = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(data)
    unset = dict.fromkeys(("model_config", "extra_env", "params"))
    loaded = models.get(str(tmp_path / "model"), {"digest": str(tmp_path), "enforced": True, "label": "m", **unset})
    raw = loaded.predict.__self__.get_raw_model()  # type: ignore[attr-defined]
    assert _is_quick(raw[-1] if saved == "sklearn" else raw)
    assert loaded.predict(data).tolist() == expected.tolist()
