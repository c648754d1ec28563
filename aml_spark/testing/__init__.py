"""A workspace of Azure Machine Learning on this machine, for tests and offline work.

Needs `pip install 'aml-spark[testing]'`. In pytest the fixtures `azureml_emulator` and `azureml_workspace` are there by
themselves. The names below are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aml_spark.testing.emulator import Emulator as Emulator
    from aml_spark.testing.faults import Fault as Fault
    from aml_spark.testing.process import EmulatorProcess as EmulatorProcess, environment as environment

_HOMES = {"Emulator": "emulator", "EmulatorProcess": "process", "Fault": "faults", "environment": "process"}
__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'aml_spark.testing' has no attribute {name!r}")
    return getattr(import_module(f"aml_spark.testing.{_HOMES[name]}"), name)
