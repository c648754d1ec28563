"""The names that users type, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import aml_spark

NAMES = [
    "AmlSparkError",
    "ArgumentError",
    "AuthenticationError",
    "BreachError",
    "ConflictError",
    "DataLakeError",
    "FeedError",
    "ModelCopy",
    "ModelError",
    "ModelNotFoundError",
    "ModelUDF",
    "Report",
    "SchemaError",
    "ScoreResult",
    "ScoredCommit",
    "ScoringError",
    "Selection",
    "SessionError",
    "TableError",
    "TableNotFoundError",
    "TargetError",
    "Tracking",
    "Workspace",
    "WorkspaceError",
    "backfill",
    "configure",
    "copy_model",
    "get_spark",
    "lineage",
    "monitor",
    "read_rejects",
    "score",
    "score_stream",
    "spark_udf",
]


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_public_names_are_these() -> None:
    assert sorted(aml_spark.__all__) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_there_and_comes_from_this_package(name: str) -> None:
    value = getattr(aml_spark, name)
    assert callable(value)
    assert value.__name__ == name
    assert value.__module__.startswith("aml_spark.")


def test_a_star_import_gives_them_all() -> None:
    assert _run(f"from aml_spark import *; print(all(name in globals() for name in {NAMES}))") == "True"


def test_dir_lists_each_name_once() -> None:
    for name in NAMES:
        getattr(aml_spark, name)
    listed = dir(aml_spark)
    assert set(NAMES) <= set(listed)
    assert "__version__" in listed
    assert len(listed) == len(set(listed))


def test_dir_lists_the_names_before_they_are_used() -> None:
    assert _run(f"import aml_spark; print(set({NAMES}) <= set(dir(aml_spark)))") == "True"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'aml_spark' has no attribute 'scores'"):
        aml_spark.scores  # noqa: B018
    assert not hasattr(aml_spark, "DeltaTable")


def test_importing_the_package_imports_none_of_the_large_ones() -> None:
    code = """
import sys, aml_spark
print(sorted({"mlflow", "pyspark", "pandas", "numpy", "pyarrow", "click"} & set(sys.modules)))
"""
    assert _run(code) == "[]"


def test_pytest_may_load_the_fixtures_at_no_cost() -> None:
    code = """
import sys, aml_spark.testing.fixtures
print(sorted({"mlflow", "pyspark", "pandas", "numpy", "flask", "cryptography", "requests"} & set(sys.modules)))
"""
    assert _run(code) == "[]"


def test_errors_and_workspace_need_none_of_the_large_ones() -> None:
    code = """
import sys, aml_spark
aml_spark.Workspace.local("/tmp/w").tracking_uri, aml_spark.ArgumentError("x")
print(sorted({"mlflow", "pyspark", "pandas", "numpy", "pyarrow"} & set(sys.modules)))
"""
    assert _run(code) == "[]"


@pytest.mark.parametrize(
    "first", ["import aml_spark.scoring", "import aml_spark.scoring, aml_spark.cli", "from aml_spark import session"]
)
def test_importing_a_module_first_leaves_the_functions_functions(first: str) -> None:
    code = f"{first}\nimport aml_spark; print(*[type(getattr(aml_spark, n)).__name__ for n in aml_spark.__all__])"
    assert "module" not in _run(code).split()


def test_no_module_has_the_name_of_a_public_function() -> None:
    # Importing such a module would put it in the function's place.
    code = f"""
import pkgutil, aml_spark
print([module.name for module in pkgutil.iter_modules(aml_spark.__path__) if module.name in {NAMES}])
"""
    assert _run(code) == "[]"
