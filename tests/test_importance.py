"""How much columns matter to models, trained for real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, StandardScaler

from aml_spark.errors import ArgumentError
from aml_spark.monitoring.importance import importance

COLUMNS = ["weak", "strong", "strong_ish", "kind"]


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    """`strong` decides; `weak` has great numbers; the name of `strong_ish` begins as another's and its parts'."""
    drawn = np.random.default_rng(0)
    made = pd.DataFrame(drawn.normal(size=(400, 3)) * [1000.0, 1.0, 1.0], columns=COLUMNS[:3])
    made.loc[::7, "weak"] = np.nan
    return made.assign(kind=drawn.choice(np.array(["a", "ish_b", "c"], dtype=object), 400))


def _late(data: pd.DataFrame) -> Any:
    return (data["strong"] + 0.3 * (data["kind"] == "c") + 0.2 * data["strong_ish"] > 0).astype(int)


def _prepared(*, scaled: bool = True) -> ColumnTransformer:
    return ColumnTransformer(
        [
            ("kinds", OneHotEncoder(), ["kind"]),
            ("filled", make_pipeline(SimpleImputer(add_indicator=True), *[StandardScaler()] * scaled), ["weak"]),
            ("bins", KBinsDiscretizer(n_bins=4, quantile_method="averaged_inverted_cdf"), [1]),
            ("rest", StandardScaler() if scaled else "passthrough", ["strong_ish"]),
        ],
        sparse_threshold=0,
    )


def _shares(source: Any, columns: list[str] = COLUMNS, **options: Any) -> dict[str, float]:
    found = importance(source, columns, **options)
    assert found.shares is not None, found.note
    assert list(found.shares) == columns
    assert sum(found.shares.values()) == pytest.approx(1)
    return dict(found.shares)


def _reason(source: Any, columns: list[str] = COLUMNS, **options: Any) -> str:
    found = importance(source, columns, **options)
    assert found.shares is None
    return found.note


@pytest.mark.parametrize(
    "last", [LogisticRegression(), RandomForestClassifier(20, random_state=0)], ids=["linear", "trees"]
)
def test_what_a_pipeline_makes_of_a_column_counts_to_it(data: pd.DataFrame, last: Any) -> None:
    model = make_pipeline(_prepared(), last).fit(data, _late(data))
    shares = _shares(model)
    assert max(shares, key=shares.__getitem__) == "strong"
    if last.__class__ is RandomForestClassifier:  # one-hot 3, the mean and the indicator, 4 bins, 1
        parts = np.split(last.feature_importances_, [3, 5, 9])
        expected = dict(zip(("kind", "weak", "strong", "strong_ish"), map(np.sum, parts), strict=True))
        assert shares == pytest.approx(expected)


def test_coefficients_count_by_what_their_column_adds(data: pd.DataFrame) -> None:
    model = LinearRegression().fit(data[["strong", "strong_ish"]], 3 * data["strong"] + data["strong_ish"])
    names = ["strong", "strong_ish"]
    assert _shares(model, names, deviations={"strong": 1.0, "strong_ish": 3.0}) == pytest.approx(
        dict.fromkeys(names, 0.5)
    )
    assert "'strong' isn't scaled before it" in _reason(model, names)


def test_a_linear_model_on_columns_as_they_are_needs_their_deviations(data: pd.DataFrame) -> None:
    model = make_pipeline(_prepared(scaled=False), LogisticRegression(max_iter=5000)).fit(data.fillna(0), _late(data))
    assert "isn't scaled before it; SHAP values tell" in _reason(model)
    shares = _shares(model, deviations={"weak": 1000.0, "strong_ish": 1.0})
    assert max(shares, key=shares.__getitem__) == "strong"


def test_what_can_not_be_told_has_a_reason(data: pd.DataFrame) -> None:
    numbers = data[["strong", "strong_ish"]]
    names = list(numbers)
    mixed = make_pipeline(PCA(2), LogisticRegression()).fit(numbers, _late(data))
    assert _reason(mixed, names) == "PCA mixes columns; SHAP values tell what matters"
    neighbours = KNeighborsClassifier().fit(numbers, _late(data))
    assert "KNeighborsClassifier has no importances" in _reason(neighbours, names)
    unnamed = LogisticRegression().fit(numbers.to_numpy(), _late(data))
    assert "the model takes 2 columns" in _reason(unnamed, COLUMNS)
    assert "no column matters" in _reason({"weak": 0})


@pytest.mark.parametrize("package", ["lightgbm", "xgboost"])
def test_trees_of_other_packages_tell_their_gain(
    data: pd.DataFrame, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    module = pytest.importorskip(package)
    numbers, names = data[COLUMNS[:3]], COLUMNS[:3]
    makers = {"lightgbm": ("LGBMClassifier", {"verbose": -1}), "xgboost": ("XGBClassifier", {})}
    name, options = makers[package]
    model = getattr(module, name)(n_estimators=10, **options).fit(numbers, _late(data))
    shares = _shares(model, names)
    assert shares["strong"] > 0.5
    booster = model.booster_ if package == "lightgbm" else model.get_booster()
    assert _shares(booster, names) == shares
    folder = str(tmp_path / "model")
    getattr(mlflow, package).save_model(model, folder)
    assert _shares(folder, names) == pytest.approx(shares)
    assert _shares(mlflow.pyfunc.load_model(folder), names) == pytest.approx(shares)


def test_numbers_that_are_given_are_made_shares() -> None:
    assert _shares({"weak": 1, "strong": 3.0}) == {"weak": 0.25, "strong": 0.75, "strong_ish": 0, "kind": 0}
    assert _shares({"weak": np.float32(1), "strong": np.int32(3)})["strong"] == 0.75
    for wrong, told in (
        ({"weak": True}, "expected a number from 0 on"),
        ({"stron": 1}, "did you mean 'strong'?"),
        ({"weak": -1}, "expected a number from 0 on"),
    ):
        with pytest.raises(ArgumentError, match=told.replace("?", r"\?")):
            importance(wrong, COLUMNS)


def test_shap_values_are_mean_sizes_and_parts_of_a_column_are_added_up_first() -> None:
    values = np.array([[1.0, 2.0, -1.0, 3.0], [-1.0, 0.0, 1.0, -3.0]])
    frame = pd.DataFrame(values, columns=["weak", "kind_a", "kind_ish_b", "strong_ish"])
    assert _shares(frame) == pytest.approx({"weak": 0.2, "strong": 0, "strong_ish": 0.6, "kind": 0.2})
    by_class = np.stack([values, -values], axis=2)
    assert _shares(by_class) == pytest.approx({"weak": 1 / 6, "strong": 1 / 6, "strong_ish": 1 / 6, "kind": 1 / 2})
    with pytest.raises(ArgumentError, match="the shape"):
        importance(values[:, :3], COLUMNS)
    with pytest.raises(ArgumentError, match="neither a column nor a part of one"):
        importance(frame.rename(columns={"weak": "who"}), COLUMNS)
