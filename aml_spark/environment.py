"""The Python environment that a model was logged with, for executors that build it or get it packed."""

from __future__ import annotations

import hashlib
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from aml_spark.errors import ArgumentError, ModelError
from aml_spark.model import PinnedModel, pin
from aml_spark.worker import PredictionError, environments

MANAGERS = ("local", "uv", "virtualenv")
START_SECONDS = 300.0


def wanted(model: PinnedModel, manager: str, start_seconds: float) -> dict[str, Any]:
    """What executors need to know to build the model's environment.

    Args:
        model: whose `requirements.txt` and `python_env.yaml` count.
        manager: `uv` or `virtualenv`.
        start_seconds: how long the model may take to be loaded there.
    """
    import mlflow

    file = model.folder / "requirements.txt"
    if not file.is_file():
        raise ModelError(
            f"the model {model.label!r} has no requirements.txt, so its environment isn't known",
            hint="log it with pip_requirements=; in the executors' own Python it needs none",
        )
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    requirements = [line for line in lines if line and not line.startswith(("#", "-c ", "--constraint"))]
    limits = model.folder / "constraints.txt"  # MLflow's name for what `-c` named
    constraints = limits.read_text(encoding="utf-8") if limits.is_file() else ""
    names = {re.split(r"[^\w.-]", line, maxsplit=1)[0].lower().replace("_", "-") for line in requirements}
    # What scores there needs these, whatever the model asks for.
    requirements += [] if names & {"mlflow", "mlflow-skinny"} else [f"mlflow-skinny=={mlflow.__version__}"]
    requirements += [name for name in ("pandas", "pyarrow") if name not in names]
    return {
        "manager": manager,
        "python": _python(model),
        "requirements": requirements,
        "constraints": constraints,
        "digest": hashlib.sha256(repr([manager, _python(model), requirements, constraints]).encode()).hexdigest()[:32],
        "start_seconds": start_seconds,
    }


def prebuilt(uri: str, start_seconds: float) -> tuple[dict[str, Any], Path | None, str]:
    """The same for one that is there already.

    Args:
        uri: an archive that `pack_environment` made, on the driver; or a folder like it, at the same place on each
            executor.
        start_seconds: how long the model may take to be loaded there.

    Returns:
        What executors need to know, the archive to ship or None, and the name that it is to have there.
    """
    path = Path(uri.removeprefix("file://"))
    facts = {"manager": "prebuilt", "path": str(path), "start_seconds": start_seconds}
    if path.is_file() and zipfile.is_zipfile(path):
        with path.open("rb") as content:
            name = "aml-spark-env-" + hashlib.sha256(content.read()).hexdigest()[:32]
        return {**facts, "path": name}, path, name
    if path.is_file() or not path.is_absolute():
        raise ArgumentError(
            f"prebuilt_env_uri is {uri!r}; expected an archive that `aml-spark env pack` made, or the absolute path of "
            "a folder on the executors"
        )
    return facts, None, ""


def pack_environment(model: str, output: str | Path, *, manager: str = "uv") -> Path:
    """Build a model's environment here and pack it for executors, which then need neither an index nor an installer.

    The executors have to have the same Python version (3.11, say) and the same kind of machine as this one.

    Args:
        model: address of the model.
        output: the archive to write, a `.zip`.
        manager: what installs: `"uv"` or `"virtualenv"`, which is pip.

    Raises:
        ModelError: the model's requirements aren't known, or can't be installed.
    """
    if manager not in MANAGERS[1:]:
        raise ArgumentError(f"manager is {manager!r}; expected one of {MANAGERS[1:]}")
    pinned, target = pin(model), Path(output)
    if target.suffix != ".zip":
        raise ArgumentError(f"output is {str(output)!r}; expected a file that ends in .zip")
    with tempfile.TemporaryDirectory(prefix="aml-spark-") as folder:
        place = Path(folder, "environment")
        try:
            environments.build(wanted(pinned, manager, START_SECONDS), place)
        except PredictionError as error:
            raise ModelError(f"the model {pinned.label!r} {error}") from None
        part = target.with_suffix(".part")
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for file in sorted(place.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(place).as_posix())
        part.replace(target)
    return target


def _python(model: PinnedModel) -> str:
    """The Python that the model was logged with, such as `3.11`."""
    import platform

    file = model.folder / "python_env.yaml"
    found = re.search(r"(?m)^python:\s*['\"]?(\d+\.\d+)", file.read_text(encoding="utf-8")) if file.is_file() else None
    return found[1] if found else ".".join(platform.python_version_tuple()[:2])
