"""Jobs that are killed at each point of their way: the next one puts all right, and nothing is there twice.

On `local` a job is a driver with a JVM of its own. On `connect` it is a client of the tests' server, which goes on with
what it was told. On `cluster` it is a task that fails or an executor that dies, for which Spark starts others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jobs import Jobs

import aml_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.every_kind

# What is due, and where the job that does it is killed.
POINTS = {
    "local": [
        ("new", "task"),
        ("changes", "file"),
        ("changes", "commit"),
        ("stream", "task"),
        ("stream", "commit"),
    ],
    "connect": [
        ("new", "before:writer.replace"),
        ("changes", "task"),
        ("changes", "before:table.history"),
        ("changes", "before:attempt.pin"),
        ("changes", "after:frame.kept_columns"),
        ("changes", "after:feed.last_words"),
        ("changes", "before:rejects.add"),
        ("changes", "after:rejects.add"),
        ("changes", "before:writer.merge"),
        ("changes", "after:writer.merge"),
        ("changes", "before:history.tag_version"),
        ("changes", "after:history.tag_version"),
        ("all", "after:writer.replace"),
    ],
    "cluster": [("changes", "executor"), ("changes", "raise")],
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "point" in metafunc.fixturenames:
        points = POINTS[metafunc.config.getoption("--spark")]
        metafunc.parametrize(("due", "point"), points, ids=[" ".join(one) for one in points])


@pytest.fixture(scope="module")
def all_jobs(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, workspace: aml_spark.Workspace, kind: str
) -> Iterator[dict[str, Jobs]]:
    """By what they do with rows on which the model fails."""
    with aml_spark.configure(workspace=workspace, experiment="tests", autolog=False):
        yield {
            on_error: Jobs(spark, tmp_path_factory.mktemp(on_error), workspace, kind, on_error)
            for on_error in ("raise", "quarantine")
        }


@pytest.fixture
def jobs(all_jobs: dict[str, Jobs], due: str, point: str) -> Jobs:
    jobs = all_jobs["quarantine" if "rejects" in point else "raise"]
    if due == "new" or not Path(jobs.flow.source).exists():
        jobs.begin()
    if due != "new" and jobs.flow.commits() == 0:
        jobs.run()
    return jobs


def test_after_a_kill_the_next_run_puts_all_right(jobs: Jobs, due: str, point: str) -> None:
    before = jobs.flow.commits()
    if due == "all":
        jobs.version = 3 - jobs.version
    elif due == "changes":
        jobs.change()
    if point in ("executor", "raise"):
        jobs.fault.write_text(point)
    else:
        jobs.kill_at(point, in_query=due == "stream")
    jobs.gate.touch()
    if due == "stream":
        assert jobs.run_stream().exception() is None
    if point == "task":  # what a Connect server goes on with, though its client is dead, may win
        with contextlib.suppress(aml_spark.ConflictError):
            jobs.run()
    jobs.run()
    jobs.check()
    assert not jobs.fault.exists()
    assert jobs.flow.commits() == before + 1
    assert jobs.run().skipped
