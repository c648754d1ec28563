"""Run where azureml-mlflow and this library are both installed; prints as JSON who answers when."""

import json

import mlflow
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking._model_registry.utils import _get_store as registry
from mlflow.tracking._tracking_service.utils import _get_store as store

import aml_spark
from aml_spark.doctor import examine

ADDRESS = f"{mlflow.get_tracking_uri().replace('v1.0', 'v2.0')}/experiments/1/runs/2/artifacts"


def answering():
    return [type(each).__module__.split(".")[0] for each in (store(), registry(), get_artifact_repository(ADDRESS))]


told = {"before": answering()}
(finding,) = [finding for finding in examine() if finding.what == "azureml://"]
told["doctor"] = [finding.ok, finding.found]
with aml_spark.configure(experiment="both", autolog=False):
    told["configured"] = answering()
    with mlflow.start_run() as run:
        mlflow.log_metric("auc", 0.7)
        mlflow.log_text("flavors: {}", "model/MLmodel")
    # Both of these fail where azureml-mlflow answers.
    told["files"] = [file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id, "model")]
    told["version"] = str(mlflow.register_model(f"runs:/{run.info.run_id}/model", "both").version)
    told["loaded"] = mlflow.artifacts.load_text("models:/both/1/MLmodel")
told["restored"] = answering()
print(json.dumps(told))
