"""How long a model stays in a worker process, and what it leaves there."""

from __future__ import annotations

import gc
import os
import socket
import sys
import zipfile
import zipimport
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pyarrow as pa
import pytest

import aml_spark
from aml_spark.worker import models, predict, upkeep

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.usefixtures("tracking")


def make_loud(told: str) -> Any:
    """A model that writes a line to a file each time that it is loaded."""

    class Loud(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def load_context(self, context: Any) -> None:
            import os
            import pathlib

            with pathlib.Path(told).open("a") as file:
                file.write(f"{os.getpid()}\n")

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            import os

            import numpy

            return numpy.full(len(model_input), float(os.getpid()))

    return Loud()


def _saved(tmp_path: Path, name: str) -> tuple[str, Path]:
    told = tmp_path / f"{name}.txt"
    told.touch()
    mlflow.pyfunc.save_model(str(tmp_path / name), python_model=make_loud(str(told)), pip_requirements=["mlflow"])
    return str(tmp_path / name), told


@pytest.mark.every_kind
def test_a_worker_process_loads_a_model_once_whatever_the_tasks_and_queries(
    spark: SparkSession, tmp_path: Path
) -> None:
    folder, told = _saved(tmp_path, "loud")
    used = set()
    for _ in range(3):
        udf = aml_spark.spark_udf(spark, folder, "double")
        used |= {row[0] for row in spark.range(0, 64, numPartitions=8).select(udf("id")).distinct().collect()}
    loads = told.read_text().split()
    assert {int(pid) for pid in used} <= {int(pid) for pid in loads}
    assert len(loads) == len(set(loads))


def _spec(folder: str) -> dict[str, Any]:
    none = dict.fromkeys(["inputs", "params", "model_config", "extra_env", "environment"])
    told = {"label": folder, "digest": folder, "time_zone": "UTC", "on_error": "raise"}
    return {**none, **told, "output": pa.float64(), "enforced": True, "show_message": False, "form": "columns"}


def test_the_least_recently_used_models_go_where_there_are_too_many_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_loaded", type(models._loaded)())
    saved = [_saved(tmp_path, name) for name in "abc"]
    size = max(sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) for folder, _ in saved)
    monkeypatch.setenv(models.MOST_BYTES, str(2 * size + 100))
    batch = (pa.array(np.arange(3.0)),)
    for place in (0, 1, 0, 2, 0, 1):  # c takes the place of b, and b that of c
        folder, _ = saved[place]
        (answer,) = predict(iter([batch]), folder, _spec(folder))
        assert len(answer) == 3
    assert [len(told.read_text().split()) for _, told in saved] == [1, 2, 1]
    gc.unfreeze()


def test_archives_on_the_path_are_not_read_again_before_each_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("first_of_archive.py", "value = 1")
        archive.writestr("second_of_archive.py", "value = 2")
    monkeypatch.syspath_prepend(str(tmp_path / "archive.zip"))
    import first_of_archive  # type: ignore[import-not-found]

    def archives() -> list[str]:
        return [path for path, one in sys.path_importer_cache.items() if isinstance(one, zipimport.zipimporter)]

    assert archives()
    upkeep.forget_archives()
    assert not archives()
    import second_of_archive  # type: ignore[import-not-found]

    assert (first_of_archive.value, second_of_archive.value) == (1, 2)


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="only Linux can be told to acknowledge at once")
def test_what_came_over_a_connection_is_acknowledged_when_more_is_asked_for() -> None:
    def is_set(option: int) -> bool:
        return bool(worker.getsockopt(socket.IPPROTO_TCP, option))

    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as spark,
        server.accept()[0] as worker,
        socket.socketpair()[0],  # another kind, as where Spark uses no TCP
    ):
        batches = upkeep.at_once(iter(["first", "second", "third"]))
        socket.setdefaulttimeout(60)  # as a model may
        try:
            assert next(batches) == "first"
        finally:
            socket.setdefaulttimeout(None)
        assert os.get_blocking(worker.fileno())
        assert is_set(socket.TCP_NODELAY)
        for _ in range(3):  # a conversation, in which the kernel puts acknowledgements off
            spark.sendall(b"batch")
            worker.recv(5)
            worker.sendall(b"prediction")
        assert not is_set(socket.TCP_QUICKACK)
        assert next(batches) == "second"
        assert is_set(socket.TCP_QUICKACK)
        worker.close()
        assert list(batches) == ["third"]
