"""What commands share: the workspace that they work in, and tables on the terminal."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shlex
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aml_spark.errors import AmlSparkError, WorkspaceError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from aml_spark.workspace import Workspace

EMULATOR = "emulator"  # the workspace that is started for a command
EMULATOR_FOLDER = "aml-spark-emulator"  # what it keeps
WORKSPACE_HELP = (
    "Folder, URI, config.json, or `emulator`: one on 127.0.0.1 while this command runs, which keeps what it gets in "
    "./aml-spark-emulator."
)
IN_WORKSPACE = click.option("--workspace", help=f"{WORKSPACE_HELP} Default: the environment, config.json.")


# Those within a call are Python's.
_ARGUMENT = re.compile(r"""\w\([^()]*\)|\b(\w+)=(True\b|'[^']*'|"[^"]*"|\[[^\]]*\]|(?=[\s,;]|$))""")


def in_options(hint: str, command: click.Command) -> str:
    """A hint that names Python's arguments, with the options of a command, and of those below it, in their place."""
    options = dict(_options(command))

    def option(argument: re.Match[str]) -> str:
        name, text = options.get(argument[1]), argument[2]
        if name is None:
            return argument[0]
        try:
            value = ast.literal_eval(text or "True")
        except (SyntaxError, ValueError):  # […, …]
            value = True
        if value is True:
            return name
        return " ".join(f"{name} {shlex.quote(str(one))}" for one in (value if isinstance(value, list) else [value]))

    return _ARGUMENT.sub(option, hint)


def _options(command: click.Command) -> Iterator[tuple[str, str]]:
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name is not None:
            yield parameter.name, parameter.opts[-1]
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        yield from _options(below)


def pairs(
    option: str, entries: Iterable[str], form: str = "KEY=VALUE", *, last: bool = False
) -> Iterator[tuple[str, str]]:
    """What an option that may be repeated gives: names and values, parted by the first `=`, or the last."""
    for entry in entries:
        name, found, value = entry.rpartition("=") if last else entry.partition("=")
        if not found or not name.strip():
            raise click.BadParameter(f"{entry!r}; expected {form}", param_hint=option)
        yield name.strip(), value


def print_table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Rows below their columns' names, as wide as they need."""
    lines = [names, *[["" if value is None else str(value) for value in row] for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_facts(facts: Mapping[str, Any]) -> None:
    """A thing's properties below each other, with their names before them; those that it doesn't have are left out."""
    known = {name: value for name, value in facts.items() if value is not None}
    width = max(len(name) for name in known)
    for name, value in known.items():
        click.echo(f"{name:<{width}}  {value}".rstrip())


def start_spark(
    app_name: str, master: str | None = None, conf: Mapping[str, str] | None = None, *, uris: Sequence[str] = ()
) -> SparkSession:
    """A Spark session for a command: `get_spark`.

    A Ctrl-C while Java starts counts when it is there, as half of a start leaves a process; a second one counts at
    once. Later ones don't ask Spark to cancel its jobs first, as PySpark does from when its context is there, which
    fails where one is waited for.
    """
    from aml_spark.session import get_spark

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # in the background of a script it is ignored
        return get_spark(app_name, master, conf, uris=uris)
    came: list[int] = []

    def keep(number: int, _frame: Any) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt
        click.echo("ends when Spark has started; Ctrl-C again ends at once", err=True)

    signal.signal(signal.SIGINT, keep)
    try:
        session = get_spark(app_name, master, conf, uris=uris)
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt
    return session


@contextlib.contextmanager
def chosen(workspace: str | None) -> Iterator[Workspace]:
    """The Azure workspace that a command was given, or that is found; MLflow stays as it is."""
    with opened(workspace, Path()) as address:
        yield _found(address, in_azure=True)


@contextlib.contextmanager
def configured(workspace: str | None, *, in_azure: bool = False, model: str | None = None) -> Iterator[None]:
    """With MLflow on the workspace that a command was given, or that is found; and must be Azure's where it says so.

    Of local ones that aren't there only `./mlworkspace` is made, and not to look for a `model` in it.
    """
    from aml_spark.tracking import configure

    with opened(workspace, Path()) as address:
        found = _found(address, in_azure=in_azure)
        if not found.is_made and (address is not None or (model or "").startswith(("models:/", "runs:/"))):
            raise WorkspaceError(
                f"there is no workspace in {found.folder!r}" + (", and none is named" if address is None else ""),
                hint=None if address else "--workspace <folder or address>, MLFLOW_TRACKING_URI, or a config.json here",
            )
        with configure(workspace=found, autolog=False):
            yield


def _found(address: str | None, *, in_azure: bool) -> Workspace:
    from aml_spark.workspace import Workspace

    found = Workspace.find(address)
    if in_azure and found.arm_id is None:
        is_named = address is not None or found.folder is None  # else the folder is only what is left
        raise WorkspaceError(
            f"{found.label!r} isn't an Azure Machine Learning workspace" if is_named else "no workspace is named",
            hint="--workspace azureml://…, MLFLOW_TRACKING_URI, or a config.json here",
        )
    return found


@contextlib.contextmanager
def opened(workspace: str | None, folder: Path) -> Iterator[str | None]:
    """What `--workspace` means, while a command runs; the folder gets what an emulator keeps."""
    if workspace != EMULATOR:
        yield workspace
        return
    try:
        from aml_spark.testing import EmulatorProcess
    except ImportError as error:
        raise not_installed(error) from None
    before = dict(os.environ)
    try:
        with EmulatorProcess(folder / EMULATOR_FOLDER) as started:
            os.environ.update(started.environment)
            yield started.facts["tracking_uri"]
    finally:
        os.environ.clear()
        os.environ.update(before)


def not_installed(error: ImportError) -> AmlSparkError:
    """The error for a package that the emulator needs."""
    return AmlSparkError(f"{error.name} isn't installed", hint="pip install 'aml-spark[testing]'")
