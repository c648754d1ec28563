"""A workspace of Azure Machine Learning on this machine, for tests and offline work.

Needs `pip install 'aml-spark[testing]'`. Public names: `Emulator`, `Fault`, `environment`.
"""

from __future__ import annotations

from aml_spark.testing.emulator import Emulator, environment
from aml_spark.testing.faults import Fault

__all__ = ["Emulator", "Fault", "environment"]
