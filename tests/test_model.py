"""Models that can't be pinned, because the registry doesn't answer."""

from __future__ import annotations

from collections.abc import Iterator

import processes
import pytest

import aml_spark
from aml_spark.errors import ModelError, ModelNotFoundError
from aml_spark.model import pin


@pytest.fixture
def dead_registry(monkeypatch: pytest.MonkeyPatch, workspace: aml_spark.Workspace) -> Iterator[None]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = f"http://127.0.0.1:{processes.free_port()}"
    with aml_spark.configure(workspace=workspace, registry=registry, autolog=False):
        yield


@pytest.mark.parametrize("uri", ["models:/delay/1", "models:/delay@champion", "models:/delay/latest"])
def test_a_registry_that_does_not_answer_is_not_taken_for_an_empty_one(dead_registry: None, uri: str) -> None:
    with pytest.raises(ModelError, match=r"doesn't answer") as caught:
        pin(uri)
    assert not isinstance(caught.value, ModelNotFoundError)


@pytest.mark.parametrize(
    ("uri", "hint"), [("delay", "models:/delay@alias and"), ("./no/model", "mlflow.models.get_model_info")]
)
def test_a_registered_model_that_is_named_like_a_table_is_told_how(uri: str, hint: str) -> None:
    with pytest.raises(ModelError, match="expected the files of an MLflow model") as caught:
        pin(uri)
    assert str(caught.value.hint).startswith(hint)
