"""Models, endpoints and deployments of one workspace, put together."""

from __future__ import annotations

import flask

from aml_spark.testing.control.batch import Batch
from aml_spark.testing.control.collected import Collector
from aml_spark.testing.control.deployments import Deployments
from aml_spark.testing.control.ground import Ground
from aml_spark.testing.control.jobs import Jobs
from aml_spark.testing.control.models import Models
from aml_spark.testing.control.online import OnlineEndpoints
from aml_spark.testing.control.scoring import Scoring
from aml_spark.testing.control.serving import Servers


def inference(ground: Ground, jobs: Jobs) -> list[flask.Blueprint]:
    """What answers for a workspace's models and endpoints."""
    folder, workspace, operations = ground.folder, ground.arm_id, ground.operations
    models = Models(folder, workspace, ground.runs, ground.storage)
    servers = Servers(ground.processes, folder / "online", lambda: ground.environment)
    deployments = Deployments(folder, workspace, operations, models, ground.storage, servers)
    online = OnlineEndpoints(
        folder, workspace, operations, ground.identity, deployments=deployments.states, remove=deployments.remove
    )
    deployments.endpoints = online
    collector = Collector(workspace, ground.storage, ground.lake.storage, ground.data, servers.signature)
    return [
        models.routes(),
        online.routes(),
        deployments.routes(),
        Scoring(online, deployments, servers, collector).routes(),
        Batch(ground, jobs, models).routes(),
    ]
