"""Processes that do what a workspace's computes would do: each in a group of its own, with what it says in a file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

_GRACE = 5.0  # seconds from the first to the last signal
# The emulator blocks these signals to wait for them, and what it starts would inherit that.
_UNBLOCKED = (
    "import os, signal, sys; signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM)); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


class Processes:
    """Those that are running. None outlives the emulator's `stop`."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._lock, self._closed = threading.Lock(), False

    def start(
        self, name: str, command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Start one; output and errors go to the log in the order in which they are written."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as said, self._lock:
            if self._closed:
                raise RuntimeError("the emulator was stopped")
            process = self._running[name] = subprocess.Popen(
                [sys.executable, "-ISc", _UNBLOCKED, *command],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return process

    def stop(self, name: str) -> None:
        """End one with all that it started; nothing where it has ended."""
        with self._lock:
            process = self._running.pop(name, None)
        if process is None:
            return
        for asked in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, asked)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
                if asked is signal.SIGKILL:
                    return

    def close(self) -> None:
        """End all, and start no more."""
        with self._lock:
            self._closed = True
        for name in list(self._running):
            self.stop(name)
