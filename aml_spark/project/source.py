"""A project as MLflow reads it from MLproject: its files, its command, its parameters and what it wants installed."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aml_spark.errors import ProjectError
from aml_spark.project.masking import masked_line

_NEVER_SENT = {".git", ".venv", "mlruns", "mlworkspace", "__pycache__", ".ipynb_checkpoints"}
_QUOTED = re.compile(r"""'[^']*'|"(?P<inner>(?:\\.|[^"\\])*)"|\\.""", re.DOTALL)
_SHELLS_OWN = re.compile(r"[;&|<>()$`*?\[\]{}~\n]|(?:^|\s)#")
_LOCAL_MASTER = re.compile(r"(?<=[\s=])local(?:-cluster)?\[[\d*,]+\](?!\S)")
_PLACEHOLDER = re.compile(r"\$\{\{(?:inputs|outputs)\.\w+\}\}")  # a service fills it in before the shell reads it
_FLAGS = {"--supervise", "--verbose", "-v", "--load-spark-defaults"}  # options of spark-submit without a value


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """One entry point of a project with its parameters.

    Args:
        folder: absolute path of its files; the command runs here.
        uri: where it came from: a folder, a file or a Git repository.
        name: what MLproject calls it; None where it doesn't say.
        entry_point: name of the entry point, or a file that is run as one.
        parameters: values by name, those that weren't given as MLproject has them; as they are, not quoted.
        command: for a shell; the parameters stand in it quoted.
        data: names of the parameters for which the service that runs it puts in other values: where its data is.
        version: the commit; None where it isn't in a Git repository.
        requirements: what pip is to install, with files (`-r`) and constraints (`-c`) among it; other options such as
            `--extra-index-url` are kept as lines.
        python: version of Python it wants, such as `3.11`; None where it doesn't say.
        conda_file: absolute path of its conda.yaml; None where it has none.
        python_env_file: absolute path of its python_env.yaml; None where it has none.
    """

    folder: Path
    uri: str
    name: str | None
    entry_point: str
    parameters: Mapping[str, str]
    command: str
    data: frozenset[str] = frozenset()
    version: str | None = None
    requirements: Sequence[str] = ()
    python: str | None = None
    conda_file: Path | None = None
    python_env_file: Path | None = None

    def script(self) -> tuple[str, list[str]]:
        """The Python file that the command runs, relative to the folder, and its arguments.

        Raises:
            ProjectError: the command is neither `python FILE …` nor `spark-submit [options] FILE …`.
        """
        words = self._words()
        options = len(self.spark_options())
        first = 1 + options + (words[1:2] == ["-u"])
        file = os.path.normpath(words[first]) if len(words) > first else ""
        if not file.endswith(".py") or file.startswith(("..", "/")):
            raise self._not_a_script("a file of the project that ends in .py")
        if not (self.folder / file).is_file():
            raise ProjectError(f"the command {self.command!r} runs {file!r}, which isn't in {str(self.folder)!r}")
        return Path(file).as_posix(), words[first + 1 :]

    def spark_options(self) -> list[str]:
        """What the command gives to `spark-submit` before the file, such as `["--conf", "spark.ui.enabled=false"]`.

        Raises:
            ProjectError: as `script`.
        """
        words = self._words()
        if Path(words[0]).name != "spark-submit":
            return []
        end = 1
        while end < len(words) and words[end].startswith("-"):
            alone = words[end] in _FLAGS or re.match("--[^=]+=", words[end])
            end += 1 if alone else 2
        return words[1:end]

    def _words(self) -> list[str]:
        """The command without a shell, where it doesn't need one."""
        bare = _PLACEHOLDER.sub("_", self.command)
        bare = _QUOTED.sub(lambda found: "".join(re.findall(r"[$`]", found["inner"] or "")) or "_", bare)
        # A shell leaves brackets as they are where no file matches.
        bare = _LOCAL_MASTER.sub(lambda found: found[0] if any(self.folder.glob(found[0])) else "_", bare)
        if _SHELLS_OWN.search(bare.strip()):
            raise self._not_a_script("one command, without what only a shell does")
        words = shlex.split(self.command)
        program = Path(words[0]).name if words else ""
        if not re.fullmatch(r"python[\d.]*|spark-submit", program):
            raise self._not_a_script("`python FILE …` or `spark-submit [options] FILE …`")
        return words

    def _not_a_script(self, expected: str) -> ProjectError:
        return ProjectError(
            f"the entry point {self.entry_point!r} runs {self.command!r}; expected {expected}",
            hint="write MLproject's command as `python FILE ARGUMENTS` or `spark-submit [options] FILE ARGUMENTS`",
        )

    def files(self) -> Iterator[Path]:
        """Paths of what belongs to the project, relative to its folder, in order.

        Those that .amlignore excludes are left out, or where there is none .gitignore; both are read at the folder's
        top. Never there: .git, .venv, mlruns, and Python's and Jupyter's own leavings.

        Raises:
            ProjectError: there is such a file, and azure-ai-ml, which reads it, isn't installed.
        """
        ignored = _ignored(self.folder)
        for place, folders, names in os.walk(self.folder):
            here = Path(place)
            folders[:] = sorted(name for name in folders if name not in _NEVER_SENT and not ignored(here / name))
            yield from (
                (here / name).relative_to(self.folder)
                for name in sorted(names)
                if (here / name).is_file() and not ignored(here / name)
            )


def fetch(
    uri: str,
    entry_point: str,
    parameters: Mapping[str, Any],
    version: str | None,
    *,
    replaced: Mapping[str, str] | None = None,
    download: bool = False,
    storage: str | None = None,
) -> Project:
    """Read a project, from a Git repository into a temporary folder.

    Args:
        uri: a folder, a zip file or a Git repository; `#folder` at its end names one in it.
        entry_point: as `mlflow run -e` takes it.
        parameters: values by name.
        version: branch, tag or commit.
        replaced: what stands in the command in place of these parameters.
        download: whether parameters of type `path` that are remote are downloaded, and others made absolute.
        storage: folder to download below; None takes the system's temporary one.

    Raises:
        ProjectError: MLproject can't be run here.
        mlflow.exceptions.MlflowException: MLflow can't get or read it, or a parameter is missing.
    """
    from mlflow.projects import utils
    from mlflow.utils.git_utils import get_git_commit

    replaced = replaced or {}
    # MLflow wants a parameter of type `uri` to be one.
    tokens = {name: f"placeholder://{uuid.uuid4().hex}" for name in replaced}
    given = {**parameters, **tokens}
    folder = utils.fetch_and_validate_project(uri, version, entry_point, given)
    read = utils.load_project(folder)
    if read.docker_env or getattr(read, "databricks_spark_job_spec", None):
        kind = "docker_env" if read.docker_env else "databricks_spark_job"
        raise ProjectError(
            f"the project has {kind}, which only MLflow's own backends run; expected python_env, conda_env or neither"
        )
    entry = read.get_entry_point(entry_point)
    has_paths = download and any(one.type == "path" for one in entry.parameters.values())
    target = tempfile.mkdtemp(dir=storage) if has_paths else None
    try:
        command = str(entry.compute_command(given, target))
    except (KeyError, IndexError, ValueError) as error:
        raise ProjectError(
            f"MLproject's command {entry.command!r} can't be filled in: {error!r}",
            hint="declare each {name} in it below parameters, and double other braces",
        ) from None
    defaults = {name: one.default for name, one in entry.parameters.items()}
    project = Project(
        folder=Path(folder),
        uri=uri,
        name=read.name,
        entry_point=entry_point,
        parameters={name: str(value) for name, value in {**defaults, **given, **parameters}.items()},
        command=_put({tokens[name]: text for name, text in replaced.items()}, command),
        data=frozenset(replaced),
        version=get_git_commit(folder),
    )
    return _with_environment(project, read.env_type, read.env_config_path)


def _put(texts: Mapping[str, str], command: str) -> str:
    """The command with texts in place of tokens, quoted for a shell where the token isn't in quotes already."""
    if not texts:
        return command
    token = re.compile("|".join(texts))
    command = _QUOTED.sub(lambda quoted: token.sub(lambda found: texts[found[0]], quoted[0]), command)
    return token.sub(lambda found: shlex.quote(texts[found[0]]), command)


def _with_environment(project: Project, kind: str, path: str | None) -> Project:
    from mlflow.exceptions import MlflowException
    from mlflow.projects import env_type
    from mlflow.utils.environment import _PythonEnv
    from mlflow.utils.requirements_utils import _parse_requirements

    if path is None:
        return project
    file, of_conda = Path(path), kind == env_type.CONDA
    try:
        # MLflow's own value would take this machine's Python where the file names none.
        said = _PythonEnv.get_dependencies_from_conda_yaml(path) if of_conda else described(file)
        lines = said.get("dependencies") or []
        wanted = [one.req_str for one in _parse_requirements(lines, is_constraint=False, base_dir=str(file.parent))]
    except (OSError, TypeError, AttributeError, ValueError, MlflowException) as error:
        raise ProjectError(f"{file.name!r} doesn't describe an environment: {masked_line(str(error))}") from None
    if not isinstance(said.get("python"), (str, type(None))):
        raise ProjectError(f"{file.name!r}: python is {said['python']!r}, a number; write it in quotes: 3.10 is 3.1")
    return replace(
        project,
        requirements=tuple(wanted),
        python=said.get("python"),
        conda_file=file if of_conda else None,
        python_env_file=None if of_conda else file,
    )


def described(file: Path) -> dict[str, Any]:
    """What an environment's file says, as it says it."""
    import yaml

    try:
        said = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from None
    if not isinstance(said, dict):
        raise TypeError("expected python, build_dependencies and dependencies")
    return said


def _ignored(folder: Path) -> Callable[[Path], bool]:
    if not any((folder / name).is_file() for name in (".amlignore", ".gitignore")):
        return lambda _path: False
    try:
        from azure.ai.ml._utils._asset_utils import get_ignore_file
    except ImportError:
        raise ProjectError(
            "the project has an .amlignore or .gitignore, and azure-ai-ml, which reads it, isn't installed",
            hint="pip install 'aml-spark[aml]'",
        ) from None
    excludes: Callable[[Path], bool] = get_ignore_file(folder).is_file_excluded
    return excludes
