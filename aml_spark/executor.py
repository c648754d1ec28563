"""MLflow for functions that run on executors: what they need of the driver's tracking, in one picklable value."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aml_spark import auth, plugin
from aml_spark.errors import AuthenticationError, WorkspaceError
from aml_spark.state import State
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import ActiveRun

# What MLflow's own clients of servers take from the environment.
_OF_SERVERS = (
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_INSECURE_TLS",
)
_OF_DATABRICKS = ("DATABRICKS_HOST", "DATABRICKS_TOKEN")
_FILES = ("REQUESTS_CA_BUNDLE", "MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorTracking:
    """The driver's tracking for functions that run elsewhere: in `mapInPandas`, `applyInPandas`, joblib-spark, ….

    `Tracking.on_executor` makes it; a function takes it along. It holds what gives access, for an Azure ML workspace a
    token that ends soon, so it belongs into closures and nowhere else.

    Args:
        workspace: where runs go.
        registry_uri: where models are registered.
        experiment_id: of the runs.
        parent_run_id: the driver's run that was active; None for none.
        tags: what each run gets.
        task_seconds: how long a task may take; the token is good for that long when a run starts.
    """

    workspace: Workspace
    registry_uri: str = field(repr=False)  # may hold a password
    experiment_id: str
    parent_run_id: str | None
    tags: Mapping[str, str]
    task_seconds: float
    _token: auth.Token | None = field(repr=False)
    _environ: Mapping[str, str] = field(repr=False)

    @classmethod
    def here(
        cls, workspace: Workspace, registry_uri: str, tags: Mapping[str, str], *, task_seconds: float
    ) -> ExecutorTracking:
        """What is in force in this process, which MLflow is set up in."""
        import mlflow
        from mlflow.tracking import fluent
        from mlflow.tracking.context.registry import resolve_tags

        run = mlflow.active_run()
        schemes = {uri.partition(":")[0] for uri in (workspace.tracking_uri, registry_uri)}
        token = _token(task_seconds) if "azureml" in schemes else None
        passed = [*_FILES, *(_OF_SERVERS if {"http", "https"} & schemes else ())]
        passed += _OF_DATABRICKS if {"databricks", "databricks-uc"} & schemes else ()
        environ = {name: os.environ[name] for name in passed if name in os.environ}
        if workspace.tracking_uri.startswith("databricks"):
            environ |= _databricks(workspace.tracking_uri)
            # Profiles are known to the driver only.
            workspace, registry_uri = (
                Workspace(uri="databricks"),
                re.sub(r"^(databricks(-uc)?)://.*", r"\1", registry_uri),
            )
        return cls(
            workspace=workspace,
            registry_uri=registry_uri,
            experiment_id=run.info.experiment_id if run else str(fluent._get_experiment_id()),
            parent_run_id=run.info.run_id if run else None,
            tags={**resolve_tags(), **tags},  # who started it from where is known on the driver only
            task_seconds=task_seconds,
            _token=token,
            _environ=environ,
        )

    @contextlib.contextmanager
    def start_run(self, run_name: str | None = None, *, tags: Mapping[str, str] | None = None) -> Iterator[ActiveRun]:
        """A run that is a child of the driver's, while the block runs: plain `mlflow.log_metric(…)` logs to it.

        It ends as FINISHED, or as FAILED where the block raises. MLflow is put back as it was before. The tags
        `spark.partition_id` and `spark.task_attempt` tell a task's run from that of its repetition.

        Args:
            run_name: name of the run; None leaves it to MLflow.
            tags: more tags.

        Raises:
            AuthenticationError: the token ends sooner than a task takes, and this process has no credential of its own.
            WorkspaceError: a local workspace whose folder this machine doesn't have.
        """
        import mlflow

        if self.workspace.folder is not None and not Path(self.workspace.folder).is_dir():
            raise WorkspaceError(
                f"the local workspace {self.workspace.folder!r} isn't on the machine of this executor",
                hint="configure(workspace=…) with one that executors reach: Azure ML, Databricks, an MLflow server",
            )
        before = State.now(*self._environ)
        try:
            self._set_up()
            parent = {"mlflow.parentRunId": self.parent_run_id} if self.parent_run_id else {}
            with mlflow.start_run(
                experiment_id=self.experiment_id,
                run_name=run_name,
                nested=True,
                tags={**self.tags, **_task(), **parent, **(tags or {})},
            ) as run:
                yield run
        finally:
            before.restore()

    def _set_up(self) -> None:
        import mlflow

        for name, value in self._environ.items():
            if name not in _FILES or Path(value).exists():
                os.environ[name] = value
        inherited = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "_MLFLOW_SERVER_ARTIFACT_ROOT")
        for name in inherited:  # from whatever started Spark
            os.environ.pop(name, None)
        os.environ["MLFLOW_RUN_CONTEXT"] = json.dumps(dict(self.tags))
        if self.workspace.artifact_root is not None:
            os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = self.workspace.artifact_root
        if self._token is not None:
            plugin.prefer(self.workspace.host)
            if (left := self._token.expires_on - time.time()) >= self.task_seconds:
                auth.tokens().lend(self._token)
            else:
                try:
                    auth.tokens().current()  # a credential of this machine's own
                except AuthenticationError:
                    raise _ends_too_soon(left, self.task_seconds) from None
        mlflow.set_tracking_uri(self.workspace.tracking_uri)
        mlflow.set_registry_uri(self.registry_uri)


def _token(seconds: float) -> auth.Token:
    found = auth.tokens().current()
    if found.expires_on - time.time() < seconds:
        auth.tokens().forget(found.token)
        found = auth.tokens().current()
    if (left := found.expires_on - time.time()) < seconds:
        raise _ends_too_soon(left, seconds)
    return found


def _ends_too_soon(left: float, seconds: float) -> AuthenticationError:
    what = f"ends in {left:.0f} s" if left > 0 else f"ended {-left:.0f} s ago"
    return AuthenticationError(
        f"the driver's token {what}, and a task may take {seconds:.0f} s: what it logs later would be lost",
        hint="call on_executor() again right before the job; where tasks are shorter, with task_seconds=",
    )


def _databricks(uri: str) -> dict[str, str]:
    try:
        from databricks.sdk.config import Config  # comes with MLflow 3
    except ImportError:
        raise AuthenticationError(
            "a token for Databricks takes databricks-sdk, which isn't installed", hint="pip install databricks-sdk"
        ) from None
    try:
        config = Config(profile=uri.partition("://")[2] or None)
        bearer = config.authenticate()["Authorization"]
    except (ValueError, KeyError) as error:
        raise AuthenticationError(
            f"no credential gives a token for Databricks: {error}", hint="set DATABRICKS_HOST and DATABRICKS_TOKEN"
        ) from None
    return {"DATABRICKS_HOST": str(config.host), "DATABRICKS_TOKEN": bearer.removeprefix("Bearer ")}


def _task() -> dict[str, str]:
    if "pyspark" not in sys.modules:
        return {}
    from pyspark import TaskContext

    task = TaskContext.get()
    if task is None:
        return {}
    return {"spark.partition_id": str(task.partitionId()), "spark.task_attempt": str(task.attemptNumber())}
