"""Jobs of scoring for the tests: tables with a history, and processes to kill."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pyarrow as pa
import scoring_job
import tables
import warm_daemon
from deltalake import DeltaTable
from models import TRAINING, register
from tables import FEED

import aml_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

# Jobs are forked from a process that has imported what they need, and nothing else.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["scoring_job", "mlflow.pyfunc", "pandas", "pyspark.sql.connect.session", "aml_spark.scoring"]
)


class Flow:
    """A source, a target, and the calls that lead from one to the other."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark, self.source, self.target = spark, str(folder / "source"), str(folder / "target")

    def make(self, rows: int = 20, properties: dict[str, str] = FEED, layout: str = "") -> None:
        if layout == "" and properties in (FEED, {}) and "://" not in self.source:
            numbers = range(rows)
            columns = {"id": numbers, "x": [float(n) for n in numbers], "y": [float(n % 7) for n in numbers]}
            tables.write(self.source, columns, properties=properties)
            return
        later = {name: value for name, value in properties.items() if "columnMapping" in name}  # not while it is made
        first = {"purpose": "tests", **{name: value for name, value in properties.items() if name not in later}}
        told = ", ".join(f"'{name}' = '{value}'" for name, value in first.items())
        self.sql(
            f"CREATE TABLE SOURCE USING delta {layout} TBLPROPERTIES ({told}) "
            f"AS SELECT id, double(id) x, double(id % 7) y FROM range(0, {rows}, 1, 1)"
        )
        if later:
            later |= {"delta.minReaderVersion": "2", "delta.minWriterVersion": "5"}  # which Delta 3.2 wants to be told
            told = ", ".join(f"'{name}' = '{value}'" for name, value in later.items())
            self.sql(f"ALTER TABLE SOURCE SET TBLPROPERTIES ({told})")

    def sql(self, *statements: str) -> None:
        for statement in statements:
            named = statement.replace("SOURCE", f"delta.`{self.source}`").replace("TARGET", f"delta.`{self.target}`")
            self.spark.sql(named).collect()

    def insert(self, *rows: Sequence[Any]) -> None:
        tables.insert(self.source, *rows)

    def update(self, where: str, **values: str) -> None:
        tables.update(self.source, where, **values)

    def delete(self, where: str) -> None:
        tables.delete(self.source, where)

    def score(self, model: str, **more: Any) -> aml_spark.ScoreResult:
        given: dict[str, Any] = {"model": model, "source": self.source, "target": self.target, "key": ["id"], **more}
        return aml_spark.score(self.spark, mode="changes", **given)

    def rows(self, columns: str = "id, x, y, prediction") -> list[Any]:
        return self._select(self.target, columns, "true")

    def expected(self, constant: float = 0.0, where: str = "true") -> list[Any]:
        return self._select(self.source, f"id, x, y, x + y + {constant}", where)

    def _select(self, path: str, columns: str, where: str) -> list[Any]:
        if tables.is_plain(path):
            found: Sequence[Any] = tables.rows(path, columns, where)
        else:
            found = self.spark.sql(f"SELECT {columns} FROM delta.`{path}` WHERE {where}").collect()
        return sorted((tuple(row) for row in found), key=str)

    def commits(self) -> int:
        return len(list(Path(self.target, "_delta_log").glob("*.json")))


class Jobs:
    """A source and a target with a history, and jobs that score the one into the other.

    The model's first task waits while there is no `gate`. Where there is a `fault`, one raises or kills its executor.
    """

    def __init__(
        self, spark: SparkSession, folder: Path, workspace: aml_spark.Workspace, kind: str, on_error: str = "raise"
    ) -> None:
        self.flow, self.folder, self.workspace, self.on_error = Flow(spark, folder), folder, workspace, on_error
        self.master = f"sc://{spark.client._builder.endpoint}" if kind == "connect" else "local[1]"
        self.checkpoint = str(folder / "checkpoint")
        self.entered, self.gate, self.fault = folder / "entered", folder / "gate", folder / "fault"
        self.gate.touch()
        self.name = f"killed-{folder.name}"
        for constant in (0.0, 0.5):
            register(
                self.name, self._model(constant), signature=mlflow.models.infer_signature(TRAINING, np.arange(2.0))
            )
        self.version = 1

    def _model(self, constant: float) -> Any:
        entered, gate, fault, of_java = self.entered, self.gate, self.fault, warm_daemon.JAVA

        class Hindered(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
            def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
                import os
                import time

                try:
                    entered.touch(exist_ok=False)
                except FileExistsError:
                    pass  # one waits; others leave room for other jobs
                else:
                    while not gate.exists():
                        time.sleep(0.05)
                if fault.exists():
                    word, java = fault.read_text(), int(os.environ[of_java])
                    fault.unlink()
                    if word == "executor":
                        os.kill(java, 9)
                        time.sleep(60)
                    raise OSError
                if (model_input["x"] < 0).any():
                    raise ValueError
                return (model_input["x"] + model_input["y"]).to_numpy() + constant

        return Hindered()

    @property
    def arguments(self) -> dict[str, Any]:
        flow, model = self.flow, f"models:/{self.name}/{self.version}"
        given = {"source": flow.source, "target": flow.target, "model": model, "key": ["id"], "mode": "changes"}
        return {**given, "on_error": self.on_error}

    def run(self) -> aml_spark.ScoreResult:
        return aml_spark.score(self.flow.spark, **self.arguments)

    def stream(self, **more: Any) -> StreamingQuery:
        given = {name: value for name, value in self.arguments.items() if name != "mode"}
        return aml_spark.score_stream(self.flow.spark, checkpoint=self.checkpoint, **given, **more)

    def run_stream(self) -> StreamingQuery:
        """Until nothing is left."""
        query = self.stream(trigger={"availableNow": True})
        query.awaitTermination()
        return query

    def begin(self) -> None:
        """A new source, and no target."""
        for place in (self.flow.source, self.flow.target, f"{self.flow.target}_rejects", self.checkpoint):
            shutil.rmtree(place, ignore_errors=True)
        self.flow.make()

    def change(self) -> None:
        """One row of the source updated, one deleted, one inserted, whose x is negative where it may be."""
        ((number,),) = tables.rows(self.flow.source, "max(id)")
        bad = -1 if self.on_error == "quarantine" else 1
        keys = pa.table({"id": [number % 5, number - 3, number + 1]})
        merge = DeltaTable(self.flow.source).merge(keys, "t.id = s.id", source_alias="s", target_alias="t")
        merge = merge.when_matched_delete(f"s.id = {number - 3}").when_matched_update({"x": "t.x + 1"})
        merge.when_not_matched_insert(
            {"id": "s.id", "x": f"CASE WHEN s.id = {number + 1} THEN {bad} ELSE s.id END", "y": "1"}
        ).execute()

    @contextlib.contextmanager
    def process(
        self, point: str | None = None, *, checkpoint: str | None = None
    ) -> Iterator[tuple[BaseProcess, Connection]]:
        """A job or, with a checkpoint, a query in processes of its own, killed where the block ends; what it says."""
        hears, told = FORKS.Pipe(duplex=False)
        arguments = {**self.arguments, "checkpoint": checkpoint}
        given = (self.master, str(self.workspace.folder), point, arguments, str(self.folder / "job.log"), told)
        process = FORKS.Process(target=scoring_job.main, args=given)
        process.start()
        told.close()
        try:
            yield process, hears
        finally:
            for kill in (os.killpg, os.kill):  # before it has made itself a group it is alone
                with contextlib.suppress(ProcessLookupError):
                    kill(int(process.pid or 0), signal.SIGKILL)
            process.join()

    def kill_at(self, point: str, *, in_query: bool = False) -> None:
        """Start a job and kill it where it stops, or where its traces show that it is there.

        Args:
            point: see `workers/scoring_job.py`; or `task`: while the model predicts; `file`: as soon as a data file
                lies in the target's folder; `commit`: as soon as a commit does.
            in_query: whether it is a query, whose micro-batch is killed there that follows a change.
        """
        traces: dict[str, Callable[[], set[str] | bool]] = {
            "task": self.entered.exists,
            "file": lambda: {file.name for file in Path(self.flow.target).glob("*.parquet")},
            "commit": lambda: {file.name for file in Path(self.flow.target, "_delta_log").glob("*.json")},
        }
        self.entered.unlink(missing_ok=True)
        if point == "task":
            self.gate.unlink()
        trace = traces.get(point)
        before, end = trace() if trace else None, time.monotonic() + 120
        checkpoint = self.checkpoint if in_query else None
        with self.process(None if trace else point, checkpoint=checkpoint) as (process, hears):
            if trace is None or in_query:
                try:
                    assert hears.poll(120), self.words()
                    assert hears.recv() in ("reached", "running"), self.words()
                except EOFError:
                    raise AssertionError(self.words()) from None
            if in_query:
                self.change()
            if trace:
                while trace() == before:
                    assert process.is_alive(), self.words()
                    assert time.monotonic() < end, self.words()
                    time.sleep(0.002)

    def words(self) -> str:
        """The last ones of the newest job in processes of its own."""
        return (self.folder / "job.log").read_text()[-3000:]

    def check(self) -> None:
        """The target is what scoring the whole would make it, and MLflow knows of it."""
        flow, right = self.flow, f"CASE WHEN x >= 0 THEN x + y + {0.5 * (self.version - 1)} END"
        rows = sorted(tables.rows(flow.source, f"id, x, y, {right}, '{self.version}'"), key=str)
        assert sorted(tables.rows(flow.target, "id, x, y, prediction, model_version"), key=str) == rows
        if bad := {row[0] for row in rows if row[1] < 0}:
            found = aml_spark.read_rejects(flow.spark, flow.target).select("id", "target_version").collect()
            assert len(set(found)) == len(found)
            assert bad <= {row["id"] for row in found}
        tags = mlflow.MlflowClient().get_model_version(self.name, str(self.version)).tags
        assert f"{flow.target} (from {flow.source})" in tags.values()
