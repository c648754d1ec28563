"""What pytest finds where this library is installed. Imports the rest when a fixture is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from aml_spark.testing.process import EmulatorProcess


@pytest.fixture(scope="session")
def azureml_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """An Azure ML workspace on 127.0.0.1, for all tests of a session: `facts`, `environment`, `plan`, `requests`."""
    from aml_spark.testing.process import EmulatorProcess

    with EmulatorProcess(tmp_path_factory.mktemp("azureml-emulator")) as emulator:
        yield emulator


@pytest.fixture
def azureml_workspace(azureml_emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatorProcess]:
    """The same with the environment pointing to it and no faults planned, and MLflow as it was before afterwards."""
    from aml_spark import auth
    from aml_spark.state import State

    before = State.now()
    for name, value in azureml_emulator.environment.items():
        monkeypatch.setenv(name, value)
    auth.tokens.cache_clear()  # they hold credentials that were made from another environment
    azureml_emulator.forget()
    yield azureml_emulator
    azureml_emulator.forget()
    before.restore()
    auth.tokens.cache_clear()
