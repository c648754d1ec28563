"""What Spark does in a Python worker between two tasks, kept cheap: both take half a second where much is loaded."""

from __future__ import annotations

import gc
from collections.abc import Callable


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
