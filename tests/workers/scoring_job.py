"""A call of `score` or a query in a process of its own, which stops for good where it is told to, as if it had died."""

from __future__ import annotations

import importlib
import os
import time
from multiprocessing.connection import Connection
from typing import Any

import processes
import warm_daemon

import aml_spark


def stop_at(point: str, told: Connection) -> None:
    """Let the function `module.function`, behind `before:` or `after:`, say `reached` and never go on."""
    when, _, place = point.partition(":")
    name, _, function = place.rpartition(".")
    module = importlib.import_module(f"aml_spark.{name}")
    real = getattr(module, function)

    def stopping(*given: Any, **named: Any) -> Any:
        if when == "after":
            real(*given, **named)
        told.send("reached")
        while True:
            time.sleep(60)

    setattr(module, function, stopping)


def main(master: str, workspace: str, point: str | None, arguments: dict[str, Any], log: str, told: Connection) -> None:
    os.setsid()  # with its JVM it is a group that can be killed
    words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(words, stream)
    os.environ["PYTHONPATH"] = warm_daemon.PLACE
    conf = {} if master.startswith("sc://") else {**processes.FOR_FEW_ROWS, **warm_daemon.SETTINGS}
    spark = aml_spark.get_spark("job", master=master, conf=conf)
    if point:
        stop_at(point, told)
    with aml_spark.configure(spark, workspace=workspace, experiment="jobs", autolog=False):
        checkpoint = arguments.pop("checkpoint")
        if checkpoint is None:
            told.send(aml_spark.score(spark, **arguments).scope)
        else:
            del arguments["mode"]
            query = aml_spark.score_stream(spark, checkpoint=checkpoint, **arguments)
            query.processAllAvailable()
            told.send("running")
            query.awaitTermination()
