"""A model's own Python packages: a folder of them, built once for a machine and content, whatever else runs there.

The folder holds `packages/` and `environment.json` with the Python version it was built for. It can be moved: nothing
in it names a place. So it is built beside its place and moved there when it is whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .failures import PredictionError

PLACE = "AML_SPARK_ENVIRONMENTS"
"""Environment variable: where environments are built. Default: a folder of this user's in the temporary one."""
_FACTS = "environment.json"
_LINES = 20


def folder(wanted: Mapping[str, Any]) -> Path:
    """The environment's folder on this machine, built where it isn't there yet.

    Args:
        wanted: `manager` (`uv`, `virtualenv` or `prebuilt`), `python` (such as `3.11`), `requirements` (lines),
            `constraints` (text), `digest` of these; of a prebuilt one its `path`, or its name among Spark's files.

    Raises:
        PredictionError: it can't be built, with the last lines of what the installer said; or no prebuilt one is there.
    """
    if wanted["manager"] == "prebuilt":
        from pyspark import SparkFiles

        found = Path(SparkFiles.getRootDirectory(), wanted["path"])  # an absolute path stays what it is
        if not (found / _FACTS).is_file():
            raise PredictionError(f"has no environment at {wanted['path']!r}: expected what aml-spark env pack makes")
        return found
    place = _place() / str(wanted["digest"])
    with _locked(place.with_suffix(".lock")):
        if not place.exists():
            part = place.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)  # of a build that was killed
            try:
                build(wanted, part)
                part.rename(place)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return place


def facts(place: Path) -> str:
    """What tells one build of an environment from the next."""
    return (place / _FACTS).read_text(encoding="utf-8")


def remove(wanted: Mapping[str, Any], broken: str) -> None:
    """Take away an environment that turned out to be broken, as where the temporary folder was tidied.

    Args:
        wanted: as for `folder`.
        broken: the `facts` of the build that is broken; another worker may have made a new one meanwhile.
    """
    place = _place() / str(wanted["digest"])
    with _locked(place.with_suffix(".lock")), contextlib.suppress(FileNotFoundError):
        if facts(place) == broken:
            shutil.rmtree(place.rename(place.with_suffix(f".{os.getpid()}")), ignore_errors=True)


def build(wanted: Mapping[str, Any], place: Path) -> None:
    """Install the requirements into a new folder.

    Raises:
        PredictionError: there is no such Python, or a requirement can't be installed.
    """
    python = interpreter(wanted["python"])
    packages = place / "packages"
    packages.mkdir(parents=True)
    requirements = place / "requirements.txt"
    requirements.write_text("\n".join(wanted["requirements"]) + "\n", encoding="utf-8")
    target = ["--target", str(packages), "--requirement", str(requirements)]
    if wanted["constraints"]:
        constraints = place / "constraints.txt"
        constraints.write_text(wanted["constraints"], encoding="utf-8")
        target += ["--constraint", str(constraints)]
    if wanted["manager"] == "uv":
        uv = shutil.which("uv")
        start = [uv] if uv else [sys.executable, "-m", "uv"]
        commands = [[*start, "pip", "install", "--quiet", "--python", python, *target]]
    else:
        pip = place / "pip"  # Python may be there without one
        install = [str(pip / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        commands = [[python, "-m", "venv", str(pip)], [*install, "--no-input", *target]]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            said = told(done.stdout + done.stderr)
            raise PredictionError(f"needs an environment that {wanted['manager']} couldn't build:\n{said}")
    shutil.rmtree(place / "pip", ignore_errors=True)
    (place / _FACTS).write_text(json.dumps({"python": wanted["python"], "build": uuid.uuid4().hex}), encoding="utf-8")


def command(place: Path) -> list[str]:
    """How to start Python with nothing but the environment's packages."""
    python = json.loads(facts(place))["python"]
    start = "import site, sys; site.addsitedir(sys.argv.pop(1)); exec(sys.argv.pop(1))"
    return [interpreter(python), "-I", "-S", "-c", start, str(place / "packages")]


def interpreter(version: str) -> str:
    """The executable of a Python such as `3.11`.

    Raises:
        PredictionError: it isn't on this machine.
    """
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    for found in (shutil.which(f"python{version}"), _printed(["uv", "python", "find", version])):
        # A name on the PATH may be a version manager's, which has no such Python after all.
        if found and _printed([found, "-I", "-c", "import sys; print(*sys.version_info[:2], sep='.')"]) == version:
            return found
    raise PredictionError(f"needs Python {version}, which isn't on this machine: install it as python{version}")


def _printed(command: list[str]) -> str:
    """What a command prints; nothing where it fails or isn't there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError:
        return ""
    return "" if done.returncode else done.stdout.strip()


def told(text: str) -> str:
    """The last lines of an output, without the passwords of addresses in it."""
    lines = re.sub(r"(\w+://)[^/\s@]+@", r"\1***@", text).strip().splitlines()
    return "\n".join(lines[-_LINES:])


def _place() -> Path:
    place = Path(os.environ.get(PLACE) or Path(tempfile.gettempdir(), f"aml-spark-environments-{os.getuid()}"))
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if place.stat().st_uid != os.getuid():  # what lies there is run
        raise PredictionError(f"needs a folder for environments, but {str(place)!r} is another user's; set {PLACE}")
    return place


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
