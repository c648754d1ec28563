"""pyspark's daemon for the tests' sessions, forked from a process that has imported MLflow once for all of them.

Spark starts a daemon for each session of Spark Connect, each copy of one, and each Java process that a test starts,
and each would spend seconds on that import. Before each task Spark has Python look at all archives on its path once
more, though none changes here. Jobs that tests start as a user would go without either.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

SETTINGS = {"spark.python.daemon.module": "warm_daemon"}
PLACE = str(Path(__file__).parent)
ADDRESS = "AML_SPARK_TESTS_DAEMONS"
JAVA = "AML_SPARK_TESTS_JAVA"  # to a daemon and its workers: the process that they work for
_LENGTH = 8


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Fork daemons for whoever asks, from a process that ends with the block or with this one.

    Gives what `ADDRESS` is to be where Java starts with `SETTINGS`, and with `PLACE` in `PYTHONPATH`.
    """
    with tempfile.TemporaryDirectory() as folder:
        address = str(Path(folder, "daemons"))
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            listening.listen(100)
            # As Spark sets them for its own.
            environment = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", **os.environ}
            command = [sys.executable, __file__, "serve", str(listening.fileno())]
            server = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, pass_fds=[listening.fileno()])
        try:
            yield address
        finally:
            server.terminate()
            server.communicate(timeout=30)


def _serve(listening: socket.socket) -> None:
    import mlflow.pyfunc  # noqa: F401
    import pyspark.daemon  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while 0 not in select.select([listening, 0], [], [])[0]:
        client, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            try:
                _become(client)
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(1)
        client.close()


def _become(client: socket.socket) -> None:
    """Be the process that asked, from here on."""
    length, streams, *_ = socket.recv_fds(client, _LENGTH, 3)
    asked = json.loads(client.makefile("rb").read(int.from_bytes(length, "big")))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(asked["environment"])
    time.tzset()
    os.chdir(asked["folder"])
    sys.path[:0] = [place for place in asked["path"] if place not in sys.path]
    client.sendall(os.getpid().to_bytes(_LENGTH, "big"))
    _daemon()


def _ask(address: str) -> None:
    """Have a daemon forked that has this process' streams, and end when it and its workers do."""
    told = {"environment": {**os.environ, JAVA: str(os.getppid())}, "folder": str(Path.cwd()), "path": sys.path}
    words = json.dumps(told).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [len(words).to_bytes(_LENGTH, "big")], [0, 1, 2])
        server.sendall(words)
        daemon = int.from_bytes(server.recv(_LENGTH), "big")
        if not daemon:
            sys.exit(1)
        signal.signal(signal.SIGTERM, lambda *_: os.kill(daemon, signal.SIGTERM))
        for stream in (0, 1):
            os.close(stream)
        server.recv(1)


def _daemon() -> None:
    import zipimport

    from pyspark.daemon import manager

    zipimport.zipimporter.invalidate_caches = lambda _: None  # type: ignore[method-assign]
    manager()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        _serve(socket.socket(fileno=int(sys.argv[2])))
    elif sys.argv[1:] in (["pyspark.worker"], []):  # Spark 3.5 knows no others
        _ask(os.environ[ADDRESS])
    else:
        _daemon()
