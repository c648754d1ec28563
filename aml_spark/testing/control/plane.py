"""The control plane of the emulated workspace as a whole."""

from __future__ import annotations

import flask

from aml_spark.testing.control.ground import Ground
from aml_spark.testing.control.inference import inference
from aml_spark.testing.control.jobs import Jobs
from aml_spark.testing.control.runs import history
from aml_spark.testing.control.schedules import Schedules
from aml_spark.testing.control.workspaces import workspaces


class ControlPlane:
    """What Azure Resource Manager answers for one workspace.

    Args:
        ground: what its resources stand on.
    """

    def __init__(self, ground: Ground) -> None:
        self.ground, self._jobs = ground, Jobs(ground)
        self._schedules = Schedules(ground.folder, ground.arm_id, ground.operations, ground.storage)

    def routes(self) -> list[flask.Blueprint]:
        """All its kinds of resources."""
        ground = self.ground
        return [
            ground.operations.routes(),
            ground.datastores.routes(),
            workspaces(ground.arm_id),
            ground.computes.routes(),
            ground.environments.routes(),
            ground.data.routes(),
            ground.codes.routes(),
            self._jobs.routes(),
            self._schedules.routes(),
            history(ground, self._jobs),
            *inference(ground, self._jobs),
        ]

    def close(self) -> None:
        """End what its jobs and endpoints started."""
        self._jobs.close()
        self.ground.processes.close()
