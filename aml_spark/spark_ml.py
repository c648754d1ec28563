"""Models of Spark ML, which score on the driver's Spark and not in Python on executors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aml_spark.errors import ModelError, SchemaError, listed
from aml_spark.model import PinnedModel
from aml_spark.session import is_connect

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_PREDICTION = "prediction"


def is_spark_ml(model: PinnedModel) -> bool:
    """Whether this is a model of Spark ML."""
    loader = model.metadata.flavors.get("python_function", {}).get("loader_module")
    return bool(loader == "mlflow.spark")


def transformed(spark: SparkSession, model: PinnedModel, df: DataFrame) -> tuple[DataFrame, str]:
    """The DataFrame with the model's predictions, and the name of their column.

    Raises:
        ModelError: this session can't load models of Spark ML.
        SchemaError: the columns don't fit.
    """
    import mlflow.spark

    if is_connect(spark):
        raise ModelError(
            f"{model.label!r} is a model of Spark ML, which MLflow can't load through Spark Connect",
            hint="score it in a classic session, such as a spark-submit job or a dedicated cluster",
        )
    loaded: Any = mlflow.spark.load_model(str(model.folder))
    last = loaded.stages[-1] if hasattr(loaded, "stages") else loaded
    name = last.getPredictionCol() if hasattr(last, "getPredictionCol") else _PREDICTION
    try:
        return loaded.transform(df), name
    except Exception as error:  # Spark's and Java's, such as for a column that is there already
        raise SchemaError(
            f"the model {model.label!r} can't transform the columns {listed(df.columns)} ({type(error).__name__})",
            hint=f"does the source have one that the model makes, such as {name!r}? Leave it out with a view",
        ) from None
