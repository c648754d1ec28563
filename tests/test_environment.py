"""Models in environments of their own: installed once, used whole, and ended when they crash."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from click.testing import CliRunner
from mlflow.models.signature import ModelSignature
from mlflow.types import ColSpec, Schema

import aml_spark
from aml_spark.cli.main import main
from aml_spark.environment import wanted
from aml_spark.model import pin
from aml_spark.worker import PredictionError, environments

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.usefixtures("tracking")
PACKAGE = "tabulate==0.8.10"  # small, and not where the tests run


def make_reporter() -> Any:
    class Reporter(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            import os
            import signal

            import tabulate

            if (model_input["x"] < 0).any():
                os.kill(os.getpid(), signal.SIGKILL)
            told = f"tabulate {tabulate.__version__}, {os.getpid()}"
            kinds = ", ".join(f"{name} {model_input[name].dtype}" for name in model_input)
            return [f"{told}: {kinds}: {row}" for row in model_input.astype(object).to_dict("records")]

    return Reporter()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("environments")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("reporter") / "model"
    columns = [("x", "double"), ("n", "long"), ("t", "datetime"), ("s", "string")]
    inputs = Schema([ColSpec(kind, name, required=name == "x") for name, kind in columns])
    requirements = [f"mlflow-skinny=={mlflow.__version__}", "pandas", "pyarrow", PACKAGE]
    mlflow.pyfunc.save_model(
        str(folder),
        python_model=make_reporter(),
        signature=ModelSignature(inputs=inputs, outputs=Schema([ColSpec("string")])),
        pip_requirements=requirements,
    )
    return str(folder)


def _rows(spark: SparkSession) -> Any:
    columns = "double(id) x", "9007199254740993 + id n", "timestamp_seconds(id) t", "string(id) s"
    nulls = "double(-0.0) x", "CAST(NULL AS bigint) n", "CAST(NULL AS timestamp) t", "CAST(NULL AS string) s"
    return spark.range(0, 40, numPartitions=4).selectExpr(*columns).union(spark.range(1).selectExpr(*nulls))


def test_a_model_runs_with_its_own_packages_on_the_same_rows_as_in_process(
    spark: SparkSession, uri: str, place: Path
) -> None:
    udf = aml_spark.spark_udf(spark, uri, env_manager="uv", extra_env={environments.PLACE: str(place)})
    told = [row[0] for row in _rows(spark).select(udf()).collect()]
    assert len(told) == 41
    assert {text.partition(",")[0] for text in told} == {"tabulate 0.8.10"}
    assert {text.split(": ")[1] for text in told} == {"x float64, n Int64, t datetime64[ns], s str"}
    assert len([file for file in place.iterdir() if file.is_dir()]) == 1
    assert "'n': 9007199254741032" in told[39]
    assert told[40].endswith("{'x': 0.0, 'n': None, 't': NaT, 's': nan}")
    again = {row[0].split(": ")[0] for row in _rows(spark).select(udf()).collect()}
    assert again & {text.split(": ")[0] for text in told}  # a Spark worker goes on with its process


def test_a_crash_ends_the_query_with_its_last_lines_and_the_next_one_works(
    spark: SparkSession, uri: str, place: Path
) -> None:
    from pyspark.errors import PySparkException

    udf = aml_spark.spark_udf(spark, uri, env_manager="uv", extra_env={environments.PLACE: str(place)})
    rows = _rows(spark)
    with pytest.raises(PySparkException, match=r"crashed its process \(signal 9\)"):
        rows.selectExpr("-1 - x x", "n", "t", "s").select(udf()).collect()
    assert len(rows.select(udf()).collect()) == 41


def test_a_broken_environment_is_built_anew(spark: SparkSession, uri: str, place: Path) -> None:
    built = place / wanted(pin(uri), "uv", 60)["digest"]
    for package in ("pyarrow", "pandas"):  # as where a temporary folder was tidied
        shutil.rmtree(built / "packages" / package)
    env = {environments.PLACE: str(place), "ANOTHER": "process"}
    udf = aml_spark.spark_udf(spark, uri, env_manager="uv", extra_env=env)
    assert len(_rows(spark).select(udf()).collect()) == 41
    assert (built / "packages" / "pyarrow").is_dir()


def test_what_a_model_writes_is_not_in_errors_and_a_crash_is_no_rows_failure(
    spark: SparkSession, uri: str, place: Path, tmp_path: Path
) -> None:
    from pyspark.errors import PySparkException

    class Talker(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            import os

            if (model_input["x"] > 7).any():
                os.write(2, f"this row: {model_input['x'].tolist()} 77123".encode())
                os._exit(3)
            raise SystemExit(f"that row: {model_input['x'].tolist()} 77123")

    folder = str(tmp_path / "talker")
    requirements = Path(uri, "requirements.txt").read_text().splitlines()
    signature = ModelSignature(inputs=Schema([ColSpec("double", "x")]), outputs=Schema([ColSpec("double")]))
    mlflow.pyfunc.save_model(folder, python_model=Talker(), signature=signature, pip_requirements=requirements)
    env = {environments.PLACE: str(place)}
    udf = aml_spark.spark_udf(spark, folder, env_manager="uv", on_error="null", extra_env=env)
    assert spark.range(3).selectExpr("double(id) x").where(udf().isNull()).count() == 3
    with pytest.raises(PySparkException, match=r"crashed its process \(exit code 3\)") as raised:
        spark.range(3).selectExpr("double(id + 7) x").select(udf()).collect()
    assert "77123" not in str(raised.value)


def test_a_packed_environment_needs_no_installer(spark: SparkSession, uri: str, tmp_path: Path) -> None:
    archive = tmp_path / "reporter.zip"
    done = CliRunner().invoke(main, ["env", "pack", "--model", uri, "--output", str(archive)])
    assert done.exit_code == 0, done.output
    nothing = {environments.PLACE: str(archive)}  # no folder: nothing can be built there
    udf = aml_spark.spark_udf(spark, uri, prebuilt_env_uri=str(archive), extra_env=nothing)
    told = {row[0].partition(",")[0] for row in _rows(spark).select(udf()).collect()}
    assert told == {"tabulate 0.8.10"}
    with pytest.raises(aml_spark.ArgumentError, match="prebuilt_env_uri is 'here'"):
        aml_spark.spark_udf(spark, uri, prebuilt_env_uri="here")


def test_an_environment_that_was_killed_while_it_was_built_is_built_anew(uri: str, tmp_path: Path) -> None:
    facts = wanted(pin(uri), "uv", 60)
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from worker import environments; "
        "environments.folder(json.loads(sys.argv[2]))"
    )
    library = str(Path(aml_spark.__file__).parent)
    env = {**os.environ, environments.PLACE: str(tmp_path)}
    command = [sys.executable, "-c", code, library, json.dumps(facts)]
    place, part = tmp_path / facts["digest"], tmp_path / f"{facts['digest']}.part"
    with subprocess.Popen(command, env=env, start_new_session=True) as building:
        while not (part / "packages").exists():
            assert building.poll() is None
            time.sleep(0.01)
        os.killpg(building.pid, signal.SIGKILL)
    assert not place.exists()
    (part / "packages" / "half").mkdir(parents=True, exist_ok=True)
    both = [subprocess.Popen(command, env=env) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert (place / "environment.json").exists()
    assert not (place / "packages" / "half").exists()
    assert (place / "packages" / "tabulate.py").exists()


@pytest.mark.parametrize("manager", ["uv", "virtualenv"])
def test_each_manager_installs_what_can_be_moved(manager: str, tmp_path: Path) -> None:
    facts = {"manager": manager, "python": f"3.{sys.version_info.minor}", "requirements": [PACKAGE], "constraints": ""}
    environments.build(facts, tmp_path / "built")
    moved = (tmp_path / "built").rename(tmp_path / "moved")
    start = [*environments.command(moved), "import sys, tabulate; print(tabulate.__file__, *sys.argv[1:])", "more"]
    said = subprocess.run(start, capture_output=True, text=True, check=True).stdout.split()
    assert said == [str(moved / "packages" / "tabulate.py"), "more"]
    assert {file.name for file in moved.iterdir()} == {"packages", "requirements.txt", "environment.json"}


def test_what_cant_be_installed_is_told_without_passwords(tmp_path: Path) -> None:
    facts = {
        "manager": "uv",
        "python": f"3.{sys.version_info.minor}",
        "requirements": ["no-such-package-of-ours==1"],
        "constraints": "",
    }
    with pytest.raises(PredictionError, match="couldn't build") as raised:
        environments.build(facts, tmp_path / "environment")
    assert "no-such-package-of-ours" in str(raised.value)
    assert environments.told("Looking in https://me:pa55word@index/simple") == "Looking in https://***@index/simple"
    with pytest.raises(PredictionError, match=r"needs Python 2\.7, which isn't on this machine"):
        environments.interpreter("2.7")


def test_a_model_without_requirements_is_refused(spark: SparkSession, uri: str, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(uri, tmp_path / "bare"))
    (bare / "requirements.txt").unlink()
    with pytest.raises(aml_spark.ModelError, match=r"has no requirements\.txt"):
        aml_spark.spark_udf(spark, str(bare), env_manager="virtualenv")
