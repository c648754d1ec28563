"""A project's environment on this machine, which MLflow's own machinery makes and keeps."""

from __future__ import annotations

import inspect
import shlex
import shutil
from pathlib import Path
from typing import Any

from aml_spark.errors import ProjectError
from aml_spark.project.masking import masked_line
from aml_spark.project.source import Project


def manager(project: Project, wanted: str | None) -> str:
    """Which of MLflow's managers makes it: local, virtualenv, uv or conda.

    Args:
        project: whose environment.
        wanted: what `--env-manager` says. None takes conda for a conda.yaml where conda is there, else uv where that
            is there, else virtualenv; and local for a project that wants nothing installed.

    Raises:
        ProjectError: it isn't there, or can't make this environment.
    """
    if wanted is None:
        if project.conda_file is None and project.python_env_file is None:
            return "local"
        wanted = "conda" if project.conda_file and _there("conda") else "uv" if _there("uv") else "virtualenv"
    needs = {"conda": "conda", "uv": "uv", "virtualenv": "pyenv"}.get(wanted)
    if needs and not _there(needs):
        raise ProjectError(
            f"the environment's manager is {wanted!r}, and there is no {needs} on the PATH",
            hint="install it, or mlflow run --env-manager local, which takes the Python that runs MLflow",
        )
    if wanted == "conda" and project.conda_file is None:
        raise ProjectError(
            "conda makes environments of a conda.yaml, which the project doesn't have",
            hint="mlflow run --env-manager uv",
        )
    return wanted


def activation(project: Project, wanted: str | None) -> list[str]:
    """Make the environment where it isn't there yet.

    Args:
        project: whose environment.
        wanted: as `manager` takes it.

    Returns:
        Commands for a shell that lead into it.

    Raises:
        ProjectError: it can't be made.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.utils.conda import get_or_create_conda_env
    from mlflow.utils.process import ShellCommandException

    chosen = manager(project, wanted)
    if chosen == "local":
        return []
    try:
        if chosen == "conda":
            return [str(step) for step in get_or_create_conda_env(str(project.conda_file)).get_activate_command()]
        return _virtual(project, chosen)
    except (MlflowException, ShellCommandException, OSError) as error:
        raise ProjectError(f"{chosen} can't make the project's environment: {masked_line(str(error))}") from None


def _virtual(project: Project, chosen: str) -> list[str]:
    from mlflow.utils import virtualenv
    from mlflow.utils.environment import _PythonEnv

    make: Any = virtualenv._create_virtualenv
    if "env_manager" not in inspect.signature(make).parameters:
        raise ProjectError(
            "this version of MLflow can't make environments in the way that is needed here",
            hint="pip install --upgrade mlflow-skinny, or mlflow run --env-manager local",
        )
    if project.python_env_file:
        wanted = _PythonEnv.from_yaml(project.python_env_file)
    elif project.conda_file:
        wanted = _PythonEnv.from_conda_yaml(project.conda_file)
    else:
        wanted = _PythonEnv()
    root = Path(virtualenv._get_mlflow_virtualenv_root())
    root.mkdir(parents=True, exist_ok=True)
    folder = root / virtualenv._get_virtualenv_name(wanted, project.folder)
    make(
        local_model_path=project.folder,
        python_env=wanted,
        env_dir=folder,
        env_manager=chosen,
        extra_env=virtualenv._get_virtualenv_extra_env_vars(),
    )
    return [f"source {shlex.quote(str(folder / 'bin' / 'activate'))}"]


def _there(program: str) -> bool:
    return shutil.which(program) is not None
