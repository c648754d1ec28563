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
# What becomes the process. It tells the guard of its group before anything else: the guard waits for all that may write
# to its pipe, so none is missed. The emulator blocks these signals to wait for them, and what it starts inherits that.
_LAUNCHER = """
import os, signal, sys
pipe = int(sys.argv[1])
os.write(pipe, b"+%d\\n" % os.getpid())
os.close(pipe)
signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
os.execvp(sys.argv[2], sys.argv[2:])
"""
# Kills what is left when the pipe ends: that is how the death of an emulator shows that had no time to end anything.
_GUARD = """
import contextlib, os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
"""


class Processes:
    """Those that are running. None outlives the emulator, be it stopped or killed."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._guard: subprocess.Popen[bytes] | None = None
        self._lock, self._closed = threading.Lock(), False

    def start(
        self, name: str, command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Start one; output and errors go to the log in the order in which they are written."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as said, self._lock:
            if self._closed:
                raise RuntimeError("the emulator was stopped")
            pipe = self._pipe()
            process = self._running[name] = subprocess.Popen(
                [sys.executable, "-ISc", _LAUNCHER, str(pipe), *command],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(pipe,),
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
        with self._lock, contextlib.suppress(BrokenPipeError):
            if self._guard is not None:
                os.write(self._pipe(), b"-%d\n" % process.pid)  # its number may soon be another's

    def close(self) -> None:
        """End all, and start no more."""
        with self._lock:
            self._closed = True
        for name in list(self._running):
            self.stop(name)
        with self._lock:
            if self._guard is not None:
                self._guard.communicate()
                self._guard = None

    def _pipe(self) -> int:
        """What leads to the guard, which is started for the first process."""
        if self._guard is None:
            self._guard = subprocess.Popen(
                [sys.executable, "-ISc", _GUARD],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in a terminal is not for it
            )
        assert self._guard.stdin is not None
        return self._guard.stdin.fileno()
