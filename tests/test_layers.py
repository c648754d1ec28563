"""The architecture, held by an AST walk: imports point down only."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import aml_spark

FOLDER = Path(aml_spark.__file__).parent
LAYERS = [
    {"errors", "addresses", "location", "workspace", "tags"},
    {"java", "session", "state", "executor", "runs", "tracking", "model", "signature", "forms", "environment", "table"}
    | {
        "writer",
        "progress",
        "analysis",
        "spark_ml",
        "feed",
        "credential",
        "datastore",
        "datalake",
        "files",
        "refusals",
        "control",
    }
    | {"auth", "service", "store", "registry", "registry_files", "artifacts", "blobs", "plugin"},
    {"udf", "ledger", "rejects", "frame", "history", "request", "job", "attempt"},
    {"scoring", "stream", "copying", "doctor", "project", "deployment", "manage", "monitoring"},
    {"cli", "demo", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
BESIDE = {"__init__"}
# Which modules of its own layer a module may import.
SAME_LAYER = {
    0: {"errors", "addresses"},
    1: {
        "java",
        "session",
        "state",
        "executor",
        "runs",
        "model",
        "table",
        "writer",
        "credential",
        "datastore",
        "datalake",
        "refusals",
        "control",
        "progress",
        "analysis",
    }
    | {"auth", "service", "store", "registry", "registry_files", "artifacts", "blobs", "plugin", "files"},
    2: {"ledger", "udf", "frame", "rejects", "history", "request", "job"},
    3: set[str](),
    4: {"cli", "demo"},
}
WORKER_USERS = {"environment", "forms", "monitoring", "signature", "udf"}
MOST_LINES = 400
# In `monitoring` what is said of tables follows from values alone, so it can be tested without Spark.
MATHS = [FOLDER / "monitoring" / f"{name}.py" for name in ("figures", "metric", "quality/outside", "quality/quality")]
MATHS += [FOLDER / "monitoring" / "profiles" / f"{name}.py" for name in ("frequencies", "histogram", "profile")]
MATHS += [FOLDER / "monitoring" / "drift" / f"{name}.py" for name in ("bins", "distances", "drift")]
MATHS += [
    FOLDER / "monitoring" / "performance" / f"{name}.py"
    for name in ("curves", "estimation", "measure", "outcome", "performance")
]

# A folder of modules that belong together counts as one, in one layer.
FOLDERS = ("cli", "deployment", "manage", "monitoring", "project")
MODULES = sorted(file.stem for file in FOLDER.glob("*.py")) + [name for name in FOLDERS if (FOLDER / name).is_dir()]


def _files(module: str) -> list[Path]:
    return sorted((FOLDER / module).rglob("*.py")) if module in FOLDERS else [FOLDER / f"{module}.py"]


def _tree(module: str) -> ast.Module:
    return ast.parse("\n".join(file.read_text(encoding="utf-8") for file in _files(module)))


def _imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all that is imported, also inside functions; ours in full, such as `aml_spark.table`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = ".".join(filter(None, ["aml_spark" if node.level else None, node.module]))
            if home == "aml_spark":
                yield from (f"aml_spark.{alias.name}" for alias in node.names)
            else:
                yield home


def _ours(tree: ast.AST) -> set[str]:
    """Names of our modules that are imported; of the package itself `__init__`."""
    found = {name for name in _imports(tree) if name.split(".")[0] == "aml_spark"}
    return {[*name.split("."), "__init__"][1] for name in found} - {"__version__"}


def test_the_table_holds_every_module_and_no_other() -> None:
    assert set(MODULES) == LEVEL.keys() | BESIDE
    folders = {path.name for path in FOLDER.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == {"testing", "worker", *FOLDERS}


@pytest.mark.parametrize("module", sorted(set(MODULES) - BESIDE))
def test_imports_point_down_only(module: str) -> None:
    level = LEVEL[module]
    below = {name for name, its_level in LEVEL.items() if its_level < level}
    allowed = below | SAME_LAYER[level] | ({"worker"} if module in WORKER_USERS else set())
    if module == "cli":  # starts the emulator
        allowed.add("testing")
    if module == "demo":  # written as a user would write it
        allowed.add("__init__")
    assert _ours(_tree(module)) - {module} <= allowed


def test_the_package_imports_its_modules_only_for_type_checkers() -> None:
    tree = _tree("__init__")
    guarded = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    assert guarded
    tree.body = [node for node in tree.body if node not in guarded]
    assert not _ours(tree)
    assert {name.split(".")[0] for name in _imports(tree)} <= sys.stdlib_module_names


@pytest.mark.parametrize("file", sorted((FOLDER / "testing").rglob("*.py")), ids=lambda file: file.stem)
def test_the_emulator_knows_nothing_of_what_it_tests(file: Path) -> None:
    bridge = {"auth", "state"} if file.stem == "fixtures" else set[str]()  # it puts this process back as it was
    assert _ours(ast.parse(file.read_text(encoding="utf-8"))) <= {"testing"} | bridge
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("file", sorted((FOLDER / "worker").glob("*.py")), ids=lambda file: file.stem)
def test_what_runs_on_executors_imports_nothing_of_ours(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert _ours(tree) <= {other.stem for other in file.parent.glob("*.py")}
    named = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    assert not [name for name in named if name.startswith("aml_spark")]
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("module", sorted(LAYERS[0]))
def test_the_lowest_layer_imports_the_standard_library_only(module: str) -> None:
    foreign = {name.split(".")[0] for name in _imports(_tree(module))} - sys.stdlib_module_names
    assert foreign <= {"aml_spark"}


@pytest.mark.parametrize("file", MATHS, ids=lambda file: file.stem)
def test_the_maths_of_monitoring_know_numbers_only(file: Path) -> None:
    imports = list(_imports(ast.parse(file.read_text(encoding="utf-8"))))
    foreign = {name.split(".")[0] for name in imports} - sys.stdlib_module_names
    assert foreign <= {"aml_spark", "numpy", "scipy"}


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"java", "session"}))
def test_only_session_and_java_touch_the_jvm(module: str) -> None:
    inner = {"sparkContext", "_jvm", "_jsc", "_sc", "_jsparkSession", "_active_spark_context"}
    names = {node.attr for node in ast.walk(_tree(module)) if isinstance(node, ast.Attribute)}
    names |= {node.value for node in ast.walk(_tree(module)) if isinstance(node, ast.Constant) and node.value in inner}
    assert not names & inner


@pytest.mark.parametrize("module", MODULES)
def test_a_module_can_be_read_in_one_go(module: str) -> None:
    for file in _files(module):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES, file.name
