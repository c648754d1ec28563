"""pyspark's daemon with MLflow imported once, before it forks the Python workers of a test session.

Each worker would spend seconds on that import. Before each task Spark has Python's import system look at all jars once
more, a third of a second, though none changes here. Tests that start processes of their own go without either.
"""

import zipimport

import mlflow.pyfunc  # noqa: F401
from pyspark.daemon import manager

zipimport.zipimporter.invalidate_caches = lambda _: None  # type: ignore[method-assign]

manager()
