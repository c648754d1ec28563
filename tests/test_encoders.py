"""scikit-learn's encoders as workers use them: each text looked up once, the same numbers."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder

from aml_spark.worker import encoders, models

CITIES = ["Aachen", "Bremen", "Celle", "Çelik", "東京", ""]
KINDS: Mapping[str, Callable[[], Any]] = {
    "one-hot": OneHotEncoder,
    "unknown ignored": lambda: OneHotEncoder(handle_unknown="ignore"),
    "dense": lambda: OneHotEncoder(sparse_output=False, handle_unknown="ignore"),
    "without the first": lambda: OneHotEncoder(drop="first", handle_unknown="ignore"),
    "without one of two": lambda: OneHotEncoder(drop="if_binary", dtype="float32"),
    "rare ones together": lambda: OneHotEncoder(min_frequency=30, handle_unknown="infrequent_if_exist"),
    "ordinal": OrdinalEncoder,
    "ordinal, unknown": lambda: OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    "target": TargetEncoder,
}


def _texts(rows: int = 400, cities: list[str] = CITIES, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "from": random.choice(cities, rows, p=np.array([8, 4, 2, 1, 1, 1][: len(cities)]) / 17),
            "to": random.choice(cities[:3], rows),
            "class": random.choice(["a", "b"], rows),
        }
    )


def _same(one: Any, other: Any) -> bool:
    if hasattr(one, "indptr"):
        parts = ("data", "indices", "indptr")
        return one.shape == other.shape and all(_same(getattr(one, name), getattr(other, name)) for name in parts)
    return type(one) is type(other) and one.dtype == other.dtype and np.array_equal(one, other)


def _fitted(kind: str, data: Any) -> tuple[Any, Any, list[int]]:
    """An encoder by itself, one that is quick, and how many rows the latter has looked up each time."""
    own = KINDS[kind]().fit(data, np.arange(len(data)) % 2)
    quick, looked_up = copy.deepcopy(own), list[int]()
    encoders.quicken(quick)
    assert isinstance(quick._transform, encoders._Transform)
    look_up = quick._transform._own
    quick._transform._own = lambda data, **options: looked_up.append(len(data)) or look_up(data, **options)
    return own, quick, looked_up


@pytest.mark.oldest
@pytest.mark.parametrize("kind", KINDS)
def test_it_gives_the_same_and_looks_each_text_up_once(kind: str) -> None:
    data = _texts()
    own, quick, looked_up = _fitted(kind, data)
    assert _same(quick.transform(data), own.transform(data))
    as_objects = data.astype(object)
    assert _same(quick.transform(as_objects), own.transform(as_objects))
    assert looked_up == [len(CITIES)] * 2
    if "handle_unknown" in own.get_params() and own.handle_unknown != "error":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found unknown categories")
            data["to"] = data["to"].replace("Celle", "Ulm")
            assert _same(quick.transform(data), own.transform(data))


def test_it_takes_arrays() -> None:
    data = _texts().to_numpy(object)
    own, quick, looked_up = _fitted("one-hot", data)
    assert _same(quick.transform(data), own.transform(data))
    assert looked_up == [len(CITIES)]


@pytest.mark.oldest
@pytest.mark.parametrize("dtype", ["str", object])
def test_texts_that_differ_in_what_cannot_be_seen_are_different_ones(dtype: Any) -> None:
    fitted = pd.DataFrame({"c": ["a", "b", "\N{LATIN SMALL LETTER E WITH ACUTE}"]})
    own, quick, looked_up = _fitted("ordinal, unknown", fitted)
    given = pd.DataFrame({"c": ["a", "a\0", "a ", "e\N{COMBINING ACUTE ACCENT}"] * 3}, dtype=dtype)
    assert _same(quick.transform(given), own.transform(given))
    assert own.transform(given)[:4, 0].tolist() == [0, -1, -1, -1]
    assert looked_up == [4]


def test_an_encoder_that_numbers_otherwise_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = OrdinalEncoder().fit(_texts())
    number = encoders._numbered
    monkeypatch.setattr(encoders, "_numbered", lambda column: (number(column)[0] * 0, number(column)[1]))
    encoders.quicken(encoder)
    assert "_transform" not in vars(encoder)


def test_no_column_at_all_is_refused_in_the_same_words() -> None:
    own, quick, _ = _fitted("one-hot", _texts().to_numpy(object))
    nothing = np.empty((400, 0), object)
    with pytest.raises(ValueError, match="feature") as expected:
        own.transform(nothing)
    with pytest.raises(ValueError, match="feature") as got:
        quick.transform(nothing)
    assert str(got.value) == str(expected.value)


def test_unknown_texts_are_refused_in_the_same_words() -> None:
    own, quick, _ = _fitted("one-hot", _texts())
    unknown = _texts().replace("Aachen", "Ulm")
    with pytest.raises(ValueError, match="Found unknown categories") as expected:
        own.transform(unknown)
    with pytest.raises(ValueError, match="Found unknown categories") as got:
        quick.transform(unknown)
    assert str(got.value) == str(expected.value)


@pytest.mark.parametrize("kind", ["unknown ignored", "ordinal, unknown"])
@pytest.mark.parametrize("dtype", ["str", object, "string"])
@pytest.mark.parametrize("missing", [None, np.nan])
def test_what_is_missing_counts_as_by_itself(kind: str, dtype: Any, missing: Any) -> None:
    data = _texts()
    own, quick, _ = _fitted(kind, data)
    data = data.astype(object)
    data.iloc[::7, 0] = missing
    data = data.astype(dtype)
    try:
        expected = own.transform(data)
    except TypeError:  # scikit-learn doesn't take pandas' NA
        with pytest.raises(TypeError):
            quick.transform(data)
    else:
        assert _same(quick.transform(data), expected)


@pytest.mark.parametrize(
    "given",
    [
        _texts(3),
        _texts(8).assign(to=[f"city {number}" for number in range(8)]),
        _texts(40).astype({"class": "category"}),
        _texts(40).assign(to=pd.Series([1, "Celle"] * 20, dtype=object)),
    ],
    ids=["few rows", "mostly different", "categories", "numbers among texts"],
)
def test_what_would_gain_nothing_is_looked_up_row_by_row(given: pd.DataFrame) -> None:
    own, quick, looked_up = _fitted("ordinal, unknown", _texts())
    assert _same(quick.transform(given), own.transform(given))
    assert looked_up == [len(given)]


def test_encoders_of_numbers_and_other_transformers_are_left_alone() -> None:
    numbers = OneHotEncoder().fit([[1], [2]])
    for one in (numbers, OneHotEncoder(), StandardScaler().fit([[1.0]])):
        encoders.quicken(one)
        assert "_transform" not in vars(one)


def test_only_what_scikit_learn_composes_is_looked_into() -> None:
    class Counted(StandardScaler):  # type: ignore[misc]
        steps = 5

    model = make_pipeline(Counted(), "passthrough", make_pipeline(OneHotEncoder()))
    found = [type(part).__name__ for part in models._parts(model)]
    assert found == ["Pipeline", "Counted", "str", "Pipeline", "OneHotEncoder"]


def test_copies_are_scikit_learns_own() -> None:
    own, quick, _ = _fitted("one-hot", _texts())
    encoders.quicken(own)
    encoders.quicken(own)  # as where a pipeline has it twice
    made = pickle.loads(pickle.dumps(own))
    assert not isinstance(made._transform, encoders._Transform)
    assert _same(made.transform(_texts()), quick.transform(_texts()))


def test_a_loaded_pipeline_is_quick_in_all_of_its_parts(tmp_path: Path) -> None:
    data = _texts().assign(x=np.arange(400.0))
    filled = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    both = make_union(OneHotEncoder(handle_unknown="ignore"), OrdinalEncoder())
    prepared = make_column_transformer((filled, ["from"]), (both, ["to", "class"]), ("passthrough", ["x"]))
    model = make_pipeline(prepared, StandardScaler(with_mean=False), LogisticRegression())
    model.fit(data, data["to"] == "Celle")
    mlflow.sklearn.save_model(
        model, str(tmp_path / "model"), pyfunc_predict_fn="predict_proba", serialization_format="cloudpickle"
    )
    expected = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(data)
    unset = dict.fromkeys(("model_config", "extra_env", "params"))
    loaded = models.get(str(tmp_path / "model"), {"digest": str(tmp_path), "enforced": True, "label": "m", **unset})
    raw = loaded.predict.__self__.get_raw_model()  # type: ignore[attr-defined]
    quick = [part for part in models._parts(raw) if isinstance(vars(part).get("_transform"), encoders._Transform)]
    assert [type(part) for part in quick] == [OneHotEncoder, OneHotEncoder, OrdinalEncoder]
    assert _same(loaded.predict(data), expected)
