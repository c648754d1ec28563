"""One kind of Spark session per process: --spark local (default), cluster or connect."""

from __future__ import annotations

import contextlib
import multiprocessing.util
import os
import signal
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import processes
import pytest
import warm_daemon

import aml_spark
from aml_spark import java, session as sessions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

KINDS = ("local", "cluster", "connect")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--spark", choices=KINDS, default="local", help="the kind of Spark session of this process")


def pytest_configure(config: pytest.Config) -> None:
    os.environ.update(processes.ENVIRONMENT)
    # Tests interrupt what they start, which ignores that where this was started to ignore it, as by nohup.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    multiprocessing.util.get_temp_dir()  # which is removed after ours is, so it can't be in it
    # MLflow and Spark leave files behind, a killed process leaves more: all of it goes with this folder.
    temporary = tempfile.TemporaryDirectory(prefix="pytest-", ignore_cleanup_errors=True)
    config.add_cleanup(temporary.cleanup)
    os.environ |= {"TMPDIR": temporary.name, "SPARK_LOCAL_DIRS": temporary.name}
    tempfile.tempdir = temporary.name
    with contextlib.suppress(ImportError):  # it isn't there with the oldest versions
        import hypothesis

        hypothesis.settings.register_profile("few", max_examples=12, derandomize=True, database=None)
        hypothesis.settings.register_profile("fuzz", max_examples=500, database=None, print_blob=True)
        if not config.getoption("--hypothesis-profile"):
            hypothesis.settings.load_profile("few")
    config.addinivalue_line("markers", "every_kind: runs on each kind of Spark session, not only on local")
    config.addinivalue_line("markers", "connect: runs on Connect, not only on local")
    config.addinivalue_line("markers", "oldest: also runs on the oldest versions that are supported")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--spark") == "local":
        return
    kind = config.getoption("--spark")
    chosen = [item for item in items if item.get_closest_marker("every_kind") or item.get_closest_marker(kind)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


@pytest.fixture(scope="session")
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--spark"))


@pytest.fixture(scope="session")
def daemons() -> Iterator[None]:
    """Python daemons that have imported MLflow, for whatever session wants them."""
    with warm_daemon.served() as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv(warm_daemon.ADDRESS, address)
        yield


@pytest.fixture(scope="session")
def spark(daemons: None, kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The session of this process: in one JVM, with two executor processes, or on a Connect server of its own."""
    conf = {
        **processes.FOR_FEW_ROWS,
        **warm_daemon.SETTINGS,
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
    }
    if kind != "local":
        events = str(tmp_path_factory.mktemp("events"))
        conf |= {"spark.eventLog.enabled": "true", "spark.eventLog.compress": "false", "spark.eventLog.dir": events}
        conf["spark.sql.adaptive.enabled"] = "true"  # as users have it
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", warm_daemon.PLACE)
        if kind == "connect":
            conf = {
                **sessions.DELTA_CONF,
                **sessions.LOCAL_CONF,
                **java.jar_settings(java.delta_package()),
                **conf,
            }
            log = tmp_path_factory.mktemp("connect") / "server.log"
            with processes.connect_server(conf, log) as url:
                session = aml_spark.get_spark("tests", master=url)
                yield session
                session.stop()
            return
        master = "local[2]"
        if kind == "cluster":  # where each executor shall get rows
            master, conf = "local-cluster[2,1,1024]", {**conf, "spark.sql.shuffle.partitions": "2"}
        session = aml_spark.get_spark("tests", master=master, conf=conf)
    yield session
    session.stop()


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> aml_spark.Workspace:
    return aml_spark.Workspace.local(tmp_path_factory.mktemp("workspace"))


@pytest.fixture
def tracking(workspace: aml_spark.Workspace) -> Iterator[aml_spark.Tracking]:
    """MLflow on a store of the tests' own."""
    with aml_spark.configure(workspace=workspace, experiment="tests", autolog=False) as configured:
        yield configured
