"""MLflow's tracking, set up for a Spark session and put back again."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from aml_spark import auth, java, plugin, session
from aml_spark.addresses import is_registry, masked, told
from aml_spark.errors import AmlSparkError, ArgumentError, WorkspaceError
from aml_spark.executor import ExecutorTracking
from aml_spark.location import in_lake
from aml_spark.runs import RunCopier
from aml_spark.state import State
from aml_spark.tags import EXPERIMENT_PATH, PROJECT_RUN
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_logger = logging.getLogger(__name__)
_OWN_RUN = ("AZUREML_RUN_ID", PROJECT_RUN)  # variables with a run that this process was started for

_in_force: list[Tracking] = []  # one entry for each call of configure that isn't put back, the newest last


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tracking:
    """MLflow as `configure` set it up; also a context manager.

    Args:
        workspace: where runs go.
        registry_uri: where models are registered.
        experiment: name of the experiment; None for MLflow's own choice.
        tags: what each run gets.
        mirror: the workspace that gets copies of runs; None for none.
    """

    workspace: Workspace
    registry_uri: str = field(repr=False)  # may hold a password
    experiment: str | None
    tags: Mapping[str, str]
    mirror: Workspace | None = None
    _arguments: tuple[object, ...] = field(repr=False)
    _before: State = field(repr=False)
    _experiment_id: str | None = field(repr=False)  # what is mirrored

    def restore(self) -> None:
        """Put MLflow back as it was before `configure`; a second call does nothing.

        What was configured after this one and not yet restored is undone with it.
        """
        if self in _in_force:
            try:
                for tracking in dict.fromkeys(reversed(_in_force[_in_force.index(self) :])):
                    tracking._mirror_at_last()
            finally:
                del _in_force[_in_force.index(self) :]
                self._before.restore()

    def on_executor(self, *, task_seconds: float = 600) -> ExecutorTracking:
        """What functions need that run on executors: `with tracking.on_executor().start_run("child"): …` in them.

        Make it right before the job, while the run is active whose children its runs shall be, and let the function
        take it along. Executors need this library and have to reach the workspace. What Spark evaluates twice logs
        twice: a repeated task, a DataFrame that is used again without being cached, the sampling of `orderBy`.

        Args:
            task_seconds: how long a task takes at most. The token that goes along is good for that long at least.

        Raises:
            ArgumentError: MLflow is set to another store now.
            AuthenticationError: no token for the workspace, or none that is good for so long.
        """
        import mlflow

        if mlflow.get_tracking_uri() != self.workspace.tracking_uri:
            raise ArgumentError(
                f"MLflow is set to {masked(mlflow.get_tracking_uri())!r} now, not to {self.workspace!r}, so the run "
                "whose children these runs would be isn't known",
                hint="call on_executor() of the Tracking that configure() gave last, before its restore()",
            )
        return ExecutorTracking.here(self.workspace, self.registry_uri, self.tags, task_seconds=task_seconds)

    def mirror_runs(self) -> dict[str, str]:
        """Copy the experiment's runs that have ended to the mirror, each once, with all that they logged.

        The experiment is the one that `configure` named, or that MLflow was set to then. What was interrupted is gone
        on with by the next call. `restore()` and the end of a `with` block do it, too.

        Returns:
            Ids of the runs that were copied now: the copies' by the origins'.

        Raises:
            ArgumentError: there is no mirror.
            WorkspaceError: a store doesn't answer or refuses; or some runs can't be copied, which are named. All
                others are copied.
        """
        if self.mirror is None:
            raise ArgumentError("there is no mirror to copy runs to", hint="configure(workspace=…, mirror=True)")
        of_azure = self.mirror.arm_id is not None
        uris = self.workspace.tracking_uri, self.mirror.tracking_uri
        try:
            with plugin.preferred(self.mirror.host) if of_azure else contextlib.nullcontext():
                made, failed = self._mirrored(self.mirror)
        except Exception as error:  # whatever the stores' drivers raise
            if isinstance(error, AmlSparkError):
                raise
            raise WorkspaceError(f"no runs could be copied to {self.mirror.label!r}: {told(error, *uris)}") from None
        if failed:
            reasons = "; ".join(f"{run}: {told(error, *uris)}" for run, error in list(failed.items())[:3])
            raise WorkspaceError(
                f"not copied to {self.mirror.label!r}: {len(failed)} of {len(failed) + len(made)} runs: {reasons}",
                hint="each mirror_runs() tries these again",
            )
        return made

    def _mirrored(self, mirror: Workspace) -> tuple[dict[str, str], dict[str, Exception]]:
        import mlflow

        source = mlflow.MlflowClient(self.workspace.tracking_uri, self.registry_uri)
        target = mlflow.MlflowClient(mirror.tracking_uri, mirror.registry_uri)
        experiment = source.get_experiment(str(self._experiment_id))
        name = experiment_name(mirror, experiment.tags.get(EXPERIMENT_PATH, experiment.name))
        found = target.get_experiment_by_name(name)
        there = found.experiment_id if found else target.create_experiment(name, _artifact_place(mirror, name))
        return RunCopier(source, target, there).copy_all(experiment.experiment_id)

    def _mirror_at_last(self) -> None:
        if self.mirror is None:
            return
        try:
            self.mirror_runs()
        except AmlSparkError as error:  # the runs themselves are safe where they are, and MLflow has to be put back
            _logger.error("%s; mirror_runs() goes on with it", error.message)

    def __enter__(self) -> Tracking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _in_force.count(self) > 1:  # an outer configure of the same arguments goes on
            try:
                self._mirror_at_last()
            finally:
                del _in_force[len(_in_force) - 1 - _in_force[::-1].index(self)]
        else:
            self.restore()


def configure(
    spark: SparkSession | None = None,
    workspace: Workspace | str | os.PathLike[str] | None = None,
    experiment: str | None = None,
    registry: str | None = None,
    autolog: bool = True,
    tags: Mapping[str, str] | None = None,
    *,
    artifacts: str | None = None,
    mirror: bool = False,
    interactive: bool = False,
) -> Tracking:
    """Set MLflow up in this process: from now on plain `mlflow.start_run()` logs to the workspace.

    Each new run is tagged with Spark's version, master and application id, Delta's version, on Databricks the cluster
    and the notebook, and with your tags; MLflow itself adds user, source and git commit. A run id that was inherited
    by `MLFLOW_RUN_ID` is set aside, so that `start_run()` doesn't go on with somebody else's run, except inside an
    Azure ML job or a project that the backend `aml-spark` runs, which own that run. For Azure ML this library answers
    for `azureml://` from now on, also beside azureml-mlflow, and MLflow doesn't print its links to runs, which lead
    nowhere there. A second call with the same arguments changes nothing.

    Args:
        spark: the session to take tags from; None takes the active one, if any.
        workspace: a `Workspace`, or what `Workspace.find` takes: None looks at the environment, for a config.json,
            at Databricks, and ends at `./mlworkspace`.
        experiment: name of the experiment, made where it doesn't exist; None leaves the choice to MLflow. Azure ML
            takes no `/` in names: of a path, as Databricks has them, the last part is the name.
        registry: registry URI where it isn't the workspace's own.
        autolog: whether `mlflow.autolog()` is switched on. False leaves autologging as it is.
        tags: more tags for each run.
        artifacts: folder or URI in a data lake, `abfss://…`, below which experiments that are made from now on keep
            their artifacts; None leaves it to the workspace. An Azure ML workspace takes none. For `abfss://` this
            library answers in MLflow's place then, by what `datalake.find` finds.
        mirror: log where MLflow is set to now, on Databricks to Databricks, and copy runs that have ended to the
            workspace: by `Tracking.mirror_runs`, at `restore()` and at the end of a `with` block. Not for a Databricks
            workspace that is linked with the Azure ML workspace: there Azure doubles the runs itself.
        interactive: whether you may be asked to sign in to Azure where no credential is found and a terminal is there.

    Raises:
        WorkspaceError: not a workspace, or one that doesn't answer or refuses.
        ArgumentError: a mirror of itself.
        AuthenticationError: no credential gives a token for Azure.
    """
    import mlflow
    from mlflow.tracking import fluent

    target, copies = Workspace.find(workspace), None
    if artifacts is not None:
        target = replace(target, artifacts=artifacts if "://" in artifacts else str(Path(artifacts).absolute()))
    if registry is not None and registry.startswith("azureml://") and not is_registry(registry):
        Workspace.from_uri(registry)  # says what is wrong with it
    if mirror:
        target, copies = present(), target
        if target.tracking_uri == copies.tracking_uri:
            raise ArgumentError(
                "mirror=True copies runs from where MLflow is set to now, which is the workspace itself"
            )
    registry_uri = registry or target.registry_uri
    spark = spark if spark is not None else session.active_session()
    run_tags = {**(_session_tags(spark) if spark is not None else {}), **(tags or {})}
    before = State.now()
    auth.tokens().interactive = interactive
    try:
        _set_up(target, registry_uri, experiment, _with_given(run_tags, _in_force[0]._before if _in_force else before))
        if autolog:
            # Spark's own data source logging needs a JVM listener, which only Databricks brings.
            mlflow.autolog(silent=True, exclude_flavors=None if session.on_databricks() else ["spark"])
        mirrored = str(fluent._get_experiment_id()) if mirror else None
    except BaseException as error:
        before.restore()
        if isinstance(error, AmlSparkError) or not isinstance(error, Exception):
            raise
        # MLflow's stores raise whatever their drivers do, and quote the address with its password.
        raise _unusable(target, error) from (error if masked(target.tracking_uri) == target.tracking_uri else None)
    sorted_tags = tuple(sorted(run_tags.items()))
    stores = target.tracking_uri, target.artifacts, registry_uri
    arguments = (stores, experiment, autolog, sorted_tags, copies, mirrored)
    if _in_force and _in_force[-1]._arguments == arguments:
        tracking = _in_force[-1]
    else:
        tracking = Tracking(
            workspace=target,
            registry_uri=registry_uri,
            experiment=experiment,
            tags=run_tags,
            mirror=copies,
            _arguments=arguments,
            _before=before,
            _experiment_id=mirrored,
        )
    _in_force.append(tracking)
    return tracking


def present() -> Workspace:
    """Where MLflow is set to now."""
    import mlflow

    uri, registry = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    if _in_force and _in_force[-1].workspace.tracking_uri == uri:
        found = _in_force[-1].workspace
    elif "://" in uri:
        found = Workspace.from_uri(uri)
    else:
        found = Workspace(uri="databricks" if session.on_databricks() else uri)
    return found if found.registry_uri == registry else found.with_registry(registry)


def experiment_name(target: Workspace, name: str) -> str:
    """How a workspace takes an experiment's name: Databricks wants a path."""
    of_databricks = re.fullmatch(r"databricks(://.*)?", target.tracking_uri)
    return f"/Shared/{name}" if of_databricks and not name.startswith("/") else name


def _artifact_place(target: Workspace, experiment: str) -> str | None:
    folder = re.sub(r"[^\w-]", "_", experiment)
    return target.artifact_root and f"{target.artifact_root}/{folder}"


def _unusable(target: Workspace, error: Exception) -> WorkspaceError:
    if isinstance(error, ImportError) and target.folder is not None:
        return WorkspaceError(
            f"a local workspace needs all of mlflow and its database packages; {error.name!r} can't be imported",
            hint="pip install 'aml-spark[local]'",
        )
    if target.arm_id is not None:  # its address holds no password, and its own words say what is wrong
        return WorkspaceError(f"the workspace {target.name!r} can't be used: {error}")
    return WorkspaceError(
        f"the workspace {target!r} doesn't answer ({type(error).__name__})",
        hint="aml-spark doctor shows what is missing",
    )


def _set_up(target: Workspace, registry_uri: str, experiment: str | None, context: str) -> None:
    import mlflow
    from mlflow.tracking import fluent

    if target.arm_id is not None or registry_uri.startswith("azureml://"):
        plugin.prefer(target.host)
    moved = mlflow.get_tracking_uri() != target.tracking_uri
    if target.artifact_root is not None:
        if in_lake(target.artifact_root):
            plugin.keep_in_lake()
        elif "://" not in target.artifact_root:
            Path(target.artifact_root).mkdir(parents=True, exist_ok=True)
        # The only way to tell an SQLite store where artifacts go that are logged to experiments of other names.
        os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = target.artifact_root
    else:
        os.environ.pop("_MLFLOW_SERVER_ARTIFACT_ROOT", None)
    mlflow.set_tracking_uri(target.tracking_uri)
    mlflow.set_registry_uri(registry_uri)
    if moved:  # an experiment of another store means nothing in this one
        fluent._active_experiment_id = None
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    inherited = os.environ.get("MLFLOW_RUN_ID")
    if inherited and inherited not in (os.environ.get(name) for name in _OWN_RUN):
        _logger.warning("MLFLOW_RUN_ID=%s was inherited and is set aside: start_run() makes a new run", inherited)
        del os.environ["MLFLOW_RUN_ID"]
    if experiment is not None:
        _set_experiment(target, experiment)
    os.environ["MLFLOW_RUN_CONTEXT"] = context


def _with_given(tags: Mapping[str, str], before: State) -> str:
    """What MLFLOW_RUN_CONTEXT gets: the tags, on top of those that were in it before any `configure`."""
    try:
        given = dict(json.loads(before.environ["MLFLOW_RUN_CONTEXT"] or "{}"))
    except (ValueError, TypeError):
        raise WorkspaceError(
            "MLFLOW_RUN_CONTEXT isn't a JSON object of tags", hint="unset MLFLOW_RUN_CONTEXT"
        ) from None
    return json.dumps({**given, **tags}, sort_keys=True)


def _set_experiment(target: Workspace, name: str) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import fluent

    if target.artifact_root is None and target.arm_id is None:
        mlflow.set_experiment(name)
        return
    if mlflow.get_experiment_by_name(name) is None:
        try:
            # What set_experiment does, without asking for what was just made.
            made = mlflow.create_experiment(name, _artifact_place(target, name))
            os.environ["MLFLOW_EXPERIMENT_ID"] = made
            fluent._active_experiment_id = made  # type: ignore[assignment]
            return
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
                raise
    mlflow.set_experiment(name)


def _session_tags(spark: SparkSession) -> dict[str, str]:
    found = {
        "spark.version": spark.version,
        "spark.master": session.setting(spark, "spark.master"),
        "spark.app.id": session.setting(spark, "spark.app.id"),
        "delta.version": java.delta_version(),
    }
    if session.on_databricks():
        from mlflow.utils import databricks_utils

        found["databricks.runtime"] = os.environ["DATABRICKS_RUNTIME_VERSION"]
        found["databricks.cluster_id"] = session.setting(spark, "spark.databricks.clusterUsageTags.clusterId")
        try:
            found["databricks.notebook_path"] = databricks_utils.get_notebook_path()
        except Exception:  # a job of plain Python files has no notebook
            _logger.debug("no notebook path", exc_info=True)
    return {key: str(value) for key, value in found.items() if value}
