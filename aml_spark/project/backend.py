"""MLflow's door to this package: the backend `aml-spark` of `mlflow run` and `mlflow.projects.run`.

Each place is a module: `local`, `azureml`, `databricks`, with

* `plan(project, config, link) -> dict`: what would be sent, as JSON has it, with no secret in it;
* `submit(project, config, link) -> SubmittedRun`: starts it. Its `wait()` says whether it succeeded and logs why not,
  its `cancel()` ends it with all that it started and leaves the run KILLED.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import signal
import threading
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from mlflow.exceptions import ExecutionException
from mlflow.projects import SubmittedRun

from aml_spark.errors import AmlSparkError
from aml_spark.project import config as configuration, run as runs
from aml_spark.project.source import Project, fetch

if TYPE_CHECKING:
    import click

_logger = logging.getLogger("mlflow.projects.aml_spark")  # MLflow shows what it says


class Backend:
    """What MLflow asks to run a project: see `mlflow.projects.backend.abstract_backend`."""

    def run(
        self,
        project_uri: str,
        entry_point: str,
        params: Mapping[str, Any] | None,
        version: str | None,
        backend_config: Mapping[str, Any] | str | None,
        tracking_uri: str,  # noqa: ARG002 - MLflow is set to it
        experiment_id: str,
    ) -> SubmittedRun:
        """Start an entry point of a project in the place that the configuration names.

        Called by `mlflow run`, it waits for the end, unless the configuration has `"wait": false`; called by
        `mlflow.projects.run(…)` it doesn't: MLflow itself waits, or not with `synchronous=False`.

        Args:
            project_uri: a folder, a zip file or a Git repository.
            entry_point: name of the entry point, or a file.
            params: its parameters.
            version: branch, tag or commit.
            backend_config: see the files in `schema/`, and MLflow's own keys beside.
            tracking_uri: MLflow's store.
            experiment_id: where the run goes.

        Raises:
            mlflow.projects.ExecutionException: the configuration, the project or the place won't do; or, for
                `mlflow run`, the run failed.
        """
        try:
            given = configuration.check(backend_config)
            project = fetch(
                project_uri,
                entry_point,
                {**_paths(given.config), **(params or {})},
                version,
                replaced=_placeholders(given.config),
                download=given.config["place"] == "local",
                storage=given.storage,
            )
            command_line = _command_line()
            with _ended_by_signal() if command_line else contextlib.nullcontext():
                return _run(project, given.config, str(experiment_id), command_line)
        except AmlSparkError as error:
            raise ExecutionException(str(error)) from error


def _run(
    project: Project, config: Mapping[str, Any], experiment_id: str, command_line: click.Context | None
) -> SubmittedRun:
    place = importlib.import_module(f"aml_spark.project.{config['place']}")
    if config.get("dry_run"):
        planned = place.plan(project, config, runs.link(experiment_id, runs.given_run()))
        print(json.dumps(planned, indent=2, ensure_ascii=False))
        return _planned(project, experiment_id, command_line)
    submitted = _submitted(place, project, config, experiment_id, command_line)
    if command_line is not None and config.get("wait", True):
        _wait(submitted)
    return submitted


def _submitted(
    place: Any, project: Project, config: Mapping[str, Any], experiment_id: str, command_line: click.Context | None
) -> SubmittedRun:
    name = command_line.params.get("run_name") if command_line else None
    given = runs.given_run()
    if given is None and config["place"] == "azureml" and place.makes_run(config):
        submitted: SubmittedRun = place.submit(project, config, runs.link(experiment_id, None))
        try:
            runs.describe(project, submitted.run_id, name=name)
        except (KeyboardInterrupt, SystemExit):
            submitted.cancel()
            raise
        except Exception as error:  # the job runs, and that is what was asked for
            _logger.warning("the run %s lacks the project's tags and parameters: %s", submitted.run_id, error)
        return submitted
    run_id = runs.make(project, experiment_id, name=name, reuse=given)
    try:
        return cast(SubmittedRun, place.submit(project, config, runs.link(experiment_id, run_id)))
    except BaseException as error:
        runs.end(run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise


def _wait(submitted: SubmittedRun) -> None:
    """What MLflow does after a place's `submit`, but not for a backend that `mlflow run` names."""
    try:
        done = submitted.wait()
    except (KeyboardInterrupt, SystemExit):
        submitted.cancel()
        raise
    runs.end(submitted.run_id, "FINISHED" if done else "FAILED")
    if not done:
        raise ExecutionException(f"Run (ID '{submitted.run_id}') failed")
    _logger.info("=== Run (ID '%s') succeeded ===", submitted.run_id)


def _planned(project: Project, experiment_id: str, command_line: click.Context | None) -> SubmittedRun:
    """How a dry run ends: a command line at once; a call with a run that says what it was, as MLflow wants one."""
    if command_line is not None:
        command_line.exit(0)
    return _DryRun(runs.make(project, experiment_id, name="dry run", more={runs.DRY_RUN: "true"}))


class _DryRun(SubmittedRun):
    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        runs.end(run_id, "FINISHED")

    @property
    def run_id(self) -> str:
        return self._run_id

    def wait(self) -> bool:
        return True

    def get_status(self) -> str:
        return "FINISHED"

    def cancel(self) -> None:
        """Nothing runs."""


def _paths(config: Mapping[str, Any]) -> dict[str, str]:
    """Parameters that the configuration gives: the data that a job reads and writes."""
    return {name: one["path"] for kind in ("inputs", "outputs") for name, one in config.get(kind, {}).items()}


def _placeholders(config: Mapping[str, Any]) -> dict[str, str]:
    """What stands for them in the command until the service puts in where they are."""
    return {name: f"${{{{{kind}.{name}}}}}" for kind in ("inputs", "outputs") for name in config.get(kind, {})}


def _command_line() -> click.Context | None:
    """`mlflow run`, where that is what called."""
    import click

    context = click.get_current_context(silent=True)
    called = getattr(context.command.callback, "__module__", "") if context else ""
    return context if called.split(".")[0] == "mlflow" else None


@contextlib.contextmanager
def _ended_by_signal() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end this process as Ctrl-C does, so that it takes along what it started."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # One that is ignored stays so: `nohup` means it.
    before = {number: signal.signal(number, leave) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
