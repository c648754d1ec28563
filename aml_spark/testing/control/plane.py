"""The control plane of the emulated workspace as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import flask

from aml_spark.testing.control.datastores import Datastores
from aml_spark.testing.control.operations import Operations
from aml_spark.testing.control.processes import Processes
from aml_spark.testing.lake import account
from aml_spark.testing.mlflow_api import MlflowApi

LOCATION = "westeurope"


class ControlPlane:
    """What Azure Resource Manager answers for one workspace.

    Args:
        folder: where its resources are kept.
        arm_id: the workspace's id.
        runs: its runs and models.
        lake: the storage account of its datastores.
    """

    def __init__(self, folder: Path, arm_id: str, runs: MlflowApi, lake: account.LakeAccount) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._arm_id, self._runs, self._lake = folder, arm_id, runs, lake
        self.processes = Processes()
        self.operations = Operations(arm_id.partition("/resourceGroups/")[0], LOCATION)
        self.environment: Mapping[str, str] = {}
        """The variables that lead a process to this emulator; known once it serves."""

    def routes(self) -> list[flask.Blueprint]:
        """All its kinds of resources."""
        return [
            self.operations.routes(),
            Datastores(self._folder, self._arm_id, account.ACCOUNT, self._lake.key).routes(),
        ]

    def close(self) -> None:
        """End what its jobs and endpoints started."""
        self.processes.close()
