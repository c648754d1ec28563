"""Train and score with Spark; keep the models in MLflow and Azure Machine Learning.

The names below are imported when they are first used, so that `import aml_spark` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aml_spark.attempt import ScoreResult as ScoreResult
    from aml_spark.copying import ModelCopy as ModelCopy, copy_model as copy_model
    from aml_spark.errors import (
        AmlSparkError as AmlSparkError,
        ArgumentError as ArgumentError,
        AuthenticationError as AuthenticationError,
        BreachError as BreachError,
        ConflictError as ConflictError,
        DataLakeError as DataLakeError,
        FeedError as FeedError,
        ModelError as ModelError,
        ModelNotFoundError as ModelNotFoundError,
        SchemaError as SchemaError,
        ScoringError as ScoringError,
        SessionError as SessionError,
        TableError as TableError,
        TableNotFoundError as TableNotFoundError,
        TargetError as TargetError,
        WorkspaceError as WorkspaceError,
    )
    from aml_spark.history import ScoredCommit as ScoredCommit, lineage as lineage
    from aml_spark.monitoring.monitor import monitor as monitor
    from aml_spark.monitoring.report.report import Report as Report
    from aml_spark.monitoring.selection import Selection as Selection
    from aml_spark.rejects import read_rejects as read_rejects
    from aml_spark.scoring import backfill as backfill, score as score
    from aml_spark.session import get_spark as get_spark
    from aml_spark.stream import score_stream as score_stream
    from aml_spark.tracking import Tracking as Tracking, configure as configure
    from aml_spark.udf import ModelUDF as ModelUDF, spark_udf as spark_udf
    from aml_spark.workspace import Workspace as Workspace

__version__ = "0.1.0"

_ERRORS = (
    "AmlSparkError ArgumentError AuthenticationError BreachError ConflictError DataLakeError FeedError ModelError "
    "ModelNotFoundError SchemaError ScoringError SessionError TableError TableNotFoundError TargetError WorkspaceError"
)
_HOMES = {
    **dict.fromkeys(_ERRORS.split(), "errors"),
    "ModelCopy": "copying",
    "ModelUDF": "udf",
    "Report": "monitoring.report.report",
    "ScoreResult": "attempt",
    "ScoredCommit": "history",
    "Selection": "monitoring.selection",
    "Tracking": "tracking",
    "Workspace": "workspace",
    "backfill": "scoring",
    "configure": "tracking",
    "copy_model": "copying",
    "get_spark": "session",
    "lineage": "history",
    "monitor": "monitoring.monitor",
    "read_rejects": "rejects",
    "score": "scoring",
    "score_stream": "stream",
    "spark_udf": "udf",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'aml_spark' has no attribute {name!r}")
    value = getattr(import_module(f"aml_spark.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
