"""Models, endpoints and deployments of one workspace, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flask

from aml_spark.testing.control.batch import Batch
from aml_spark.testing.control.collected import Collector
from aml_spark.testing.control.deployments import Deployments
from aml_spark.testing.control.models import Models
from aml_spark.testing.control.online import OnlineEndpoints
from aml_spark.testing.control.scoring import Scoring
from aml_spark.testing.control.serving import Servers

if TYPE_CHECKING:
    from aml_spark.testing.control.plane import ControlPlane


def inference(plane: ControlPlane) -> list[flask.Blueprint]:
    """What answers for a workspace's models and endpoints."""
    folder, workspace, operations = plane.folder, plane.arm_id, plane.operations
    models = Models(folder, workspace, plane.runs, plane.storage)
    servers = Servers(plane.processes, folder / "online", lambda: plane.environment)
    deployments = Deployments(folder, workspace, operations, models, plane.storage, servers)
    online = OnlineEndpoints(
        folder, workspace, operations, plane.identity, deployments=deployments.states, remove=deployments.remove
    )
    deployments.endpoints = online
    collector = Collector(workspace, plane.storage, plane.lake.storage, plane.data, servers.signature)
    return [
        models.routes(),
        online.routes(),
        deployments.routes(),
        Scoring(online, deployments, servers, collector).routes(),
        Batch(plane, models).routes(),
    ]
