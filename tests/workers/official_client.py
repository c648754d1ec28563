"""What a user of azureml-mlflow does, run in its own environment; prints what came back as JSON."""

import json
import os
import tempfile
from pathlib import Path

import mlflow

mlflow.set_experiment("official")
folder = Path(tempfile.mkdtemp())
(folder / "MLmodel").write_text("flavors: {}\n")
(folder / "data").mkdir()
(folder / "data" / "weights.bin").write_bytes(os.urandom(5 * 2**20))
with mlflow.start_run(run_name="one") as run:
    mlflow.log_params({"depth": 3})
    mlflow.log_metrics({"auc": 0.7, "loss": 0.4})
    mlflow.set_tag("team", "delays")
    mlflow.log_artifacts(str(folder), "model")
    mlflow.log_artifact(str(folder / "MLmodel"))
client = mlflow.MlflowClient()
seen = client.get_run(run.info.run_id)
client.create_registered_model("official")
version = client.create_model_version("official", f"{seen.info.artifact_uri}/model", run.info.run_id)
loaded = Path(mlflow.artifacts.download_artifacts("models:/official/1", dst_path=tempfile.mkdtemp()))
try:
    client.list_artifacts(run.info.run_id, "model")
    listing = "no error"
except mlflow.exceptions.MlflowException as error:
    listing = str(error)
shared = mlflow.MlflowClient(registry_uri=os.environ["REGISTRY_URI"])
shared.create_registered_model("official")
shared.create_model_version("official", f"file://{folder}")
mlflow.set_registry_uri(os.environ["REGISTRY_URI"])
from_registry = Path(mlflow.artifacts.download_artifacts("models:/official/1", dst_path=tempfile.mkdtemp()))
told = {
    "source": shared.get_model_version("official", "1").source,
    "same_from_registry": (from_registry / "data" / "weights.bin").read_bytes()
    == (folder / "data" / "weights.bin").read_bytes(),
    "run_id": run.info.run_id,
    "status": seen.info.status,
    "params": seen.data.params,
    "metrics": seen.data.metrics,
    "host": seen.info.artifact_uri.split("/")[2],
    "version": str(version.version),
    "same": (loaded / "data" / "weights.bin").read_bytes() == (folder / "data" / "weights.bin").read_bytes(),
    "listing": listing,
}
print(json.dumps(told))
