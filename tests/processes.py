"""Servers for the tests: real ones, each in processes of its own, on free ports of 127.0.0.1."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyspark

# Sessions of a minute pay for Java's optimising compiler and never earn it back. Without it Java keeps 48 MB for
# compiled code, which a session of ten minutes fills; then it stops compiling.
# For each file that it makes, Hadoop starts a `chmod`, which takes a fifth less without a helper in between.
LEAN_JAVA = (
    "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC -Xlog:disable "
    "-Djdk.lang.Process.launchMechanism=VFORK"
)
# Java's classes of Spark, ready to use, for Java processes of this environment. See archive_classes.py.
CLASSES = Path(sys.prefix, "spark.jsa")
QUICK_JAVA = f"{LEAN_JAVA} -XX:SharedArchiveFile={CLASSES}" if CLASSES.exists() else LEAN_JAVA
# Spark's settings, for jobs of their own, too: otherwise each small table takes fifty tasks for its log alone.
SETTINGS = {
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.executor.extraJavaOptions": QUICK_JAVA,
}
# Those of the sessions that score tables of twenty rows all the time: a task costs the same, however few there are, and
# code for such a query takes longer to compile than the query to run.
FOR_FEW_ROWS = {
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.adaptive.enabled": "false",  # to plan each stage anew takes a twelfth of Java's time
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",  # VACUUM lists a folder in so many tasks
    # Of each commit Delta moves four files into place, and each move of a file with a checksum starts four processes.
    "spark.hadoop.fs.AbstractFileSystem.file.impl": "org.apache.hadoop.fs.local.RawLocalFs",
}
# For the flights, of which nobody asks for a part: Delta's statistics of each file take 7 of the 20 seconds of CPU in
# which they are written.
FOR_ALL_ROWS = {"spark.databricks.delta.stats.collect": "false"}


def submit_options(more: Mapping[str, str] | None = None) -> str:
    """What Java processes of Spark take from `SPARK_SUBMIT_OPTS`: Java's options, and Spark's settings."""
    return " ".join([QUICK_JAVA, *(f'"-D{name}={value}"' for name, value in {**SETTINGS, **(more or {})}.items())])


ENVIRONMENT = {
    "DO_NOT_TRACK": "true",  # MLflow's telemetry
    # To find out what a model needs, MLflow loads it in a process of its own, unless that takes too long.
    "MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT": "1",
    "SPARK_DAEMON_JAVA_OPTS": QUICK_JAVA,
    "SPARK_LAUNCHER_OPTS": LEAN_JAVA,  # of the Java process that puts the command of another together
    "SPARK_SUBMIT_OPTS": submit_options(),
}
SPARK_BIN = Path(pyspark.__file__).parent / "bin"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def serving(command: Sequence[str], port: int, log: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server from when it listens on the port to the end of the block; its words go to the log."""
    with log.open("wb") as words:
        process = subprocess.Popen(
            command, env={**os.environ, **environ}, stdout=words, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_for(process, port, log)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):  # its children are of its group
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(600):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.2)
    raise RuntimeError(f"the server didn't start: {log.read_text(errors='replace')[-3000:]}")


@contextlib.contextmanager
def connect_server(settings: Mapping[str, str], log: Path) -> Iterator[str]:
    """A Spark Connect server; gives its address."""
    port = free_port()
    binding = {"spark.connect.grpc.binding.address": "127.0.0.1", "spark.connect.grpc.binding.port": str(port)}
    options = [word for key, value in {**settings, **binding}.items() for word in ("--conf", f"{key}={value}")]
    main = ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"]
    command = [str(SPARK_BIN / "spark-submit"), "--master", "local[2]", *options, *main]
    with serving(command, port, log, PYSPARK_PYTHON=sys.executable):
        yield f"sc://127.0.0.1:{port}"


@contextlib.contextmanager
def standalone_cluster(folder: Path) -> Iterator[str]:
    """A master and a worker with two cores; gives the master's address."""
    port, worker_port = free_port(), free_port()
    start, address = str(SPARK_BIN / "spark-class"), f"spark://127.0.0.1:{port}"
    place = ["--host", "127.0.0.1", "--webui-port", "0"]
    master = [start, "org.apache.spark.deploy.master.Master", *place, "--port", str(port)]
    room = ["--cores", "2", "--memory", "2g", "--work-dir", str(folder / "work")]
    worker = [start, "org.apache.spark.deploy.worker.Worker", *place, "--port", str(worker_port), *room, address]
    local = {"SPARK_LOCAL_IP": "127.0.0.1"}
    with (
        serving(master, port, folder / "master.log", **local),
        serving(worker, worker_port, folder / "worker.log", **local),
    ):
        yield address


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """An MLflow tracking server that keeps its store and its artifacts in the folder; gives its address."""
    port = free_port()
    store = [
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        *store,
    ]
    without_jobs = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # they start processes that nobody here needs
    with serving(command, port, folder / "server.log", **without_jobs):
        yield f"http://127.0.0.1:{port}"
