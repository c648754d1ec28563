"""Models as web services: MLflow's deployments on endpoints and on this machine, batch endpoints, collected data."""

from aml_spark.deployment.collector import collected
from aml_spark.deployment.local import LocalServer, run_local

__all__ = ["LocalServer", "collected", "run_local"]
