"""Clusters: one that runs already, and what new ones may be made of."""

from __future__ import annotations

from typing import Any

import flask

from aml_spark.testing.databricks.refusals import invalid
from aml_spark.testing.databricks.tree import USER

CLUSTER_ID = "1126-090000-emulated"
NODE_TYPES = ("Standard_D4ds_v5", "Standard_DS3_v2", "Standard_E4ds_v5")
SPARK_VERSIONS = {
    "15.4.x-scala2.12": "15.4 LTS (includes Apache Spark 3.5.0, Scala 2.12)",
    "16.4.x-scala2.13": "16.4 LTS (includes Apache Spark 3.5.2, Scala 2.13)",
    "17.3.x-scala2.13": "17.3 LTS (includes Apache Spark 4.0.0, Scala 2.13)",
}
_RUNNING: dict[str, Any] = {
    "cluster_id": CLUSTER_ID,
    "cluster_name": "emulated",
    "state": "RUNNING",
    "spark_version": "17.3.x-scala2.13",
    "node_type_id": NODE_TYPES[0],
    "num_workers": 1,
    "creator_user_name": USER,
    "data_security_mode": "SINGLE_USER",
    "cluster_source": "UI",
}


def find(cluster_id: str) -> dict[str, Any]:
    """The cluster with this id."""
    if cluster_id != CLUSTER_ID:
        raise invalid(f"Cluster {cluster_id} does not exist")
    return _RUNNING


def check(new: dict[str, Any]) -> None:
    """Refuse a new cluster that can't be made."""
    version, node_type = new.get("spark_version"), new.get("node_type_id")
    if version not in SPARK_VERSIONS:
        raise invalid(f"Invalid spark version {version}.")
    if node_type not in NODE_TYPES and "instance_pool_id" not in new:
        raise invalid(f"Node type {node_type} not supported. Supported node types: {', '.join(NODE_TYPES)}")
    if "num_workers" not in new and "autoscale" not in new:
        raise invalid("Missing required field: size")


def routes() -> flask.Blueprint:
    """`list`, `get`, `spark-versions` and `list-node-types` below `/api/2.1/clusters`."""
    routes = flask.Blueprint("databricks-clusters", __name__, url_prefix="/api/2.1/clusters")

    @routes.get("/list")
    def listed() -> Any:
        return {"clusters": [_RUNNING]}

    @routes.get("/get")
    def get() -> Any:
        return find(flask.request.args["cluster_id"])

    @routes.get("/spark-versions")
    def spark_versions() -> Any:
        return {"versions": [{"key": key, "name": name} for key, name in SPARK_VERSIONS.items()]}

    @routes.get("/list-node-types")
    def node_types() -> Any:
        sizes = {"memory_mb": 16384, "num_cores": 4.0, "category": "General Purpose"}
        return {
            "node_types": [
                {"node_type_id": name, "instance_type_id": name, "description": name, **sizes} for name in NODE_TYPES
            ]
        }

    return routes
