"""What is run for a job: its command in a shell, or `spark-submit` with its entry."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aml_spark.testing.control.bindings import Bindings

PYTHONS = Path(sys.executable).parent
_LISTS = {"--py-files": "pyFiles", "--jars": "jars", "--files": "files", "--archives": "archives"}
_OF_LOCAL = ("spark.master", "spark.submit.deployMode")  # settled by where it runs


def command(name: str, properties: Mapping[str, Any], bindings: Bindings) -> list[str]:
    """The program and its arguments.

    Args:
        name: the job's name.
        properties: as they were asked for.
        bindings: what stands for its inputs and outputs.
    """
    if properties["jobType"] == "Spark":
        return _spark_submit(name, properties, bindings)
    return ["bash", "-c", bindings.fill(properties["command"])]


def _spark_submit(name: str, properties: Mapping[str, Any], bindings: Bindings) -> list[str]:
    conf, entry = dict(properties.get("conf") or {}), properties["entry"]
    options = ["--master", _master(conf), "--name", name]
    for key, value in conf.items():
        if key not in _OF_LOCAL:
            options += ["--conf", f"{key}={bindings.fill(str(value))}"]
    for option, key in _LISTS.items():
        if properties.get(key):
            options += [option, ",".join(bindings.fill(each) for each in properties[key])]
    if entry.get("sparkJobEntryType") == "SparkJobScalaEntry":
        options += ["--class", entry["className"]]
        program = str(properties["jars"][0])
    else:
        program = str(entry["file"])
    args = [bindings.fill(arg) for arg in shlex.split(properties.get("args") or "")]
    return [str(PYTHONS / "spark-submit"), *options, program, *args]


def _master(conf: Mapping[str, Any]) -> str:
    """As many threads as all executors have cores, and no more than this machine has."""
    asked = int(conf.get("spark.executor.instances") or 1) * int(conf.get("spark.executor.cores") or 1)
    return f"local[{max(1, min(asked, os.cpu_count() or 1))}]"
