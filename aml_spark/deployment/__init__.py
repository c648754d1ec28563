"""Models as web services: MLflow's deployments on a workspace's endpoints."""
