"""What this library changes in MLflow and its environment variables, to be put back."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aml_spark import auth, plugin

# What MLflow itself writes when it is set up, and what it takes from a parent process.
_VARIABLES = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_RUN_ID",
    "MLFLOW_RUN_CONTEXT",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT",
    "_MLFLOW_SERVER_ARTIFACT_ROOT",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """MLflow in this process at one moment."""

    environ: Mapping[str, str | None]
    tracking_uri: str | None
    registry_uri: str | None
    experiment_id: str | None
    autologging: Mapping[str, Any]
    builders: plugin.Builders
    interactive: bool
    lent: auth.Token | None
    hosts: frozenset[str]

    @classmethod
    def now(cls, *variables: str) -> State:
        """The moment is this one; more variables may be named."""
        from mlflow.tracking import fluent
        from mlflow.tracking._model_registry import utils as registry
        from mlflow.tracking._tracking_service import utils as tracking
        from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS

        return cls(
            environ={name: os.environ.get(name) for name in (*_VARIABLES, *variables)},
            tracking_uri=tracking._tracking_uri,
            registry_uri=registry._registry_uri,
            experiment_id=fluent._active_experiment_id,
            autologging=copy.deepcopy(AUTOLOGGING_INTEGRATIONS),
            builders=plugin.builders(),
            interactive=auth.tokens().interactive,
            lent=auth.tokens().lent,
            hosts=frozenset(auth.hosts),
        )

    def restore(self) -> None:
        """Put all of it back."""
        import mlflow
        from mlflow.tracking import fluent
        from mlflow.tracking._model_registry import utils as registry
        from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS

        mlflow.set_tracking_uri(self.tracking_uri)  # type: ignore[arg-type]  # None is how it starts
        registry._registry_uri = self.registry_uri  # type: ignore[assignment]  # MLflow's None has no type
        auth.tokens().interactive = self.interactive
        auth.tokens().lend(self.lent)
        auth.hosts.intersection_update(self.hosts)
        plugin.answer(self.builders)
        fluent._active_experiment_id = self.experiment_id  # type: ignore[assignment]
        if dict(AUTOLOGGING_INTEGRATIONS) != dict(self.autologging):
            mlflow.autolog(disable=True, silent=True)  # also for libraries that are imported later
            for name, config in self.autologging.items():
                AUTOLOGGING_INTEGRATIONS[name] = copy.deepcopy(config)
        for name, value in self.environ.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
