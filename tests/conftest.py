"""One kind of Spark session per process: --spark local (default), cluster or connect."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import aml_spark
from aml_spark import session as sessions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

KINDS = ("local", "cluster", "connect")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--spark", choices=KINDS, default="local", help="the kind of Spark session of this process")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "every_kind: runs on each kind of Spark session, not only on local")
    config.addinivalue_line("markers", "oldest: also runs on the oldest versions that are supported")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--spark") == "local":
        return
    chosen = [item for item in items if item.get_closest_marker("every_kind")]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


@pytest.fixture(scope="session")
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--spark"))


@pytest.fixture(scope="session")
def spark(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The session of this process: in one JVM, with two executor processes, or on a Connect server of its own."""
    warehouse = str(tmp_path_factory.mktemp("warehouse"))
    if kind == "connect":
        with connect_server(warehouse) as url:
            session = aml_spark.get_spark("tests", master=url)
            yield session
            session.stop()
        return
    master = "local[2]" if kind == "local" else "local-cluster[2,1,1024]"
    session = aml_spark.get_spark("tests", master=master, conf={"spark.sql.warehouse.dir": warehouse})
    yield session
    session.stop()


class connect_server:  # noqa: N801
    """A Spark Connect server with Delta in a process of its own."""

    def __init__(self, warehouse: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        import pyspark

        settings = {
            **sessions.DELTA_CONF,
            **sessions.LOCAL_CONF,
            "spark.jars.packages": sessions.delta_package(),
            "spark.connect.grpc.binding.address": "127.0.0.1",
            "spark.connect.grpc.binding.port": str(self.port),
            "spark.sql.warehouse.dir": warehouse,
        }
        options = [word for key, value in settings.items() for word in ("--conf", f"{key}={value}")]
        self.command = [
            str(Path(pyspark.__file__).parent / "bin" / "spark-submit"),
            "--master",
            "local[2]",
            *options,
            "--class",
            "org.apache.spark.sql.connect.service.SparkConnectServer",
            "spark-internal",
        ]

    def __enter__(self) -> str:
        self.process = subprocess.Popen(
            self.command,
            env={**os.environ, "PYSPARK_PYTHON": sys.executable},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(240):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", self.port)) == 0:
                    return f"sc://127.0.0.1:{self.port}"
            if self.process.poll() is not None:
                break
            time.sleep(0.5)
        raise RuntimeError("the Connect server didn't start")

    def __exit__(self, *_: Any) -> None:
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> aml_spark.Workspace:
    return aml_spark.Workspace.local(tmp_path_factory.mktemp("workspace"))


@pytest.fixture
def tracking(workspace: aml_spark.Workspace) -> Iterator[aml_spark.Tracking]:
    """MLflow on a store of the tests' own."""
    with aml_spark.configure(workspace=workspace, experiment="tests", autolog=False) as configured:
        yield configured
