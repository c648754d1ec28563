"""The process that serves a model on this machine: MLflow's scoring server, for as long as its parent lives.

It holds the reading end of a pipe from its parent. When that closes, whether the parent closed it, ended or was killed,
the server ends with all that it started.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

_GRACE = 5.0  # seconds from the first to the last signal


def main(folder: str, port: str, env_manager: str) -> None:
    """Serve.

    Args:
        folder: the model's.
        port: on 127.0.0.1.
        env_manager: MLflow's name of what makes the environment.
    """
    signal.signal(signal.SIGTERM, lambda *_: None)  # a handler, as what is ignored would be ignored by children, too
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from mlflow.models.cli import commands

    where = ["--host", "127.0.0.1", "--port", port, "--workers", "1"]
    try:
        commands.main(["serve", "--model-uri", folder, *where, "--env-manager", env_manager])
    except Exception as error:  # the server, or pip, has said why above; our own lines would only push that away
        sys.exit(f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGTERM)
    time.sleep(_GRACE)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
