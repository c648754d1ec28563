"""What all kinds of resources of the emulated workspace stand on: those that others name, and what does their work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aml_spark.testing.artifacts import Blobs
from aml_spark.testing.control.assets import Assets
from aml_spark.testing.control.codes import Codes
from aml_spark.testing.control.computes import Computes
from aml_spark.testing.control.datastores import Datastores
from aml_spark.testing.control.operations import Operations
from aml_spark.testing.control.processes import Processes
from aml_spark.testing.control.storage import Storage
from aml_spark.testing.control.workspaces import LOCATION
from aml_spark.testing.identity import Identity
from aml_spark.testing.lake import account
from aml_spark.testing.mlflow_api import MlflowApi


class Ground:
    """One workspace's.

    Args:
        folder: where its resources are kept.
        arm_id: the workspace's id.
        runs: its runs and models.
        lake: the storage account of its datastores.
        blobs: where the runs' files are.
        identity: who gives out tokens.
    """

    def __init__(
        self,
        folder: Path,
        arm_id: str,
        runs: MlflowApi,
        lake: account.LakeAccount,
        blobs: Blobs,
        identity: Identity,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.arm_id, self.runs, self.lake = folder, arm_id, runs, lake
        self.blobs, self.identity = blobs, identity
        self.processes = Processes()
        self.operations = Operations(arm_id.partition("/resourceGroups/")[0], LOCATION)
        self.environment: Mapping[str, str] = {}
        """The variables that lead a process to this emulator; known once it serves."""
        self.datastores = Datastores(folder, arm_id, account.ACCOUNT, lake.key, blobs)
        self.computes = Computes(folder, arm_id, self.operations)
        self.environments = Assets("environments", folder, arm_id)
        self.data = Assets("data", folder, arm_id)
        self.codes = Codes(folder, arm_id, lake)
        self.storage = Storage(arm_id, self.datastores, lake, blobs, runs, self.data)
