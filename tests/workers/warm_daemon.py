"""pyspark's daemon with MLflow imported once, before it forks the Python workers of a test session.

Each worker would spend seconds on that import. Tests that start processes of their own go without it.
"""

import mlflow.pyfunc  # noqa: F401
from pyspark.daemon import manager

manager()
