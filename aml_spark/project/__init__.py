"""MLflow Projects: one MLproject, run here, in a workspace of Azure Machine Learning or on Databricks."""
