"""What Spark does in a Python worker between two tasks and at the end of one, kept cheap."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def settle() -> None:
    """Leave what is loaded now out of the garbage collection that Spark asks for after each task.

    Objects go on being freed when nothing refers to them; only circles among them are not found any more.
    """
    gc.freeze()


def stir() -> None:
    """Undo `settle` where something large is about to be let go, circles and all."""
    gc.unfreeze()
    gc.collect()


def forgetting() -> Callable[[], None]:
    """Give what drops the import system's finders for zip files and jars; the next import from one makes it anew.

    Before each task Spark has all finders look again, for which one of an archive reads the whole list of its files,
    and each jar of the session is on the path. As a function of a function it travels to where this module isn't.
    """

    def forget() -> None:
        import sys
        import zipimport

        for path, finder in list(sys.path_importer_cache.items()):
            if isinstance(finder, zipimport.zipimporter):
                del sys.path_importer_cache[path]

    return forget


forget_archives = forgetting()


def acknowledging() -> Callable[[Iterable[T]], Iterator[T]]:
    """Give what hands on the batches of a task without the 40 ms for which its last bytes may be held back.

    Spark's end of the connection keeps what doesn't fill a packet until all before it is acknowledged (Nagle's
    algorithm), and this end puts that off in the hope of an answer that goes along. So what came is acknowledged when
    more is asked for, and what goes out isn't kept. Only Linux can be told to; elsewhere nothing changes. Travels as
    `forgetting` does.
    """

    def at_once(batches: Iterable[T]) -> Iterator[T]:
        import contextlib
        import os
        import pathlib
        import socket

        @contextlib.contextmanager
        def opened(number: int) -> Iterator[socket.socket]:
            """A descriptor as a socket. It stays open, and blocking if it was, which a default timeout would end."""
            blocking = os.get_blocking(number)
            found = socket.socket(fileno=number)
            try:
                os.set_blocking(number, blocking)
                yield found
            finally:
                found.detach()

        def connections() -> Iterator[int]:
            """Descriptors of this process's TCP connections within the machine, of which one is Spark's."""
            for entry in pathlib.Path("/proc/self/fd").glob("*"):
                with contextlib.suppress(OSError), opened(int(entry.name)) as found:  # no socket, or not connected
                    is_tcp = found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM
                    if is_tcp and found.getpeername()[0] in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
                        yield int(entry.name)

        def tell(numbers: Sequence[int], option: str) -> None:
            for number in numbers:
                with contextlib.suppress(OSError), opened(number) as connection:  # it was closed meanwhile
                    connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), 1)

        local = list(connections())
        tell(local, "TCP_NODELAY")
        tell(local, "TCP_QUICKACK")
        for batch in batches:
            yield batch
            tell(local, "TCP_QUICKACK")

    return at_once


at_once = acknowledging()
