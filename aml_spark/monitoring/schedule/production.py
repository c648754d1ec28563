"""The data that a workspace's monitor looks at: found in the workspace before the monitor is sent."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aml_spark import control, datalake, files, refusals
from aml_spark.errors import ArgumentError, DataLakeError, ServiceError, did_you_mean, listed
from aml_spark.monitoring.schedule.config import MonitorConfig
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

INPUTS, OUTPUTS = "model_inputs", "model_outputs"
_NOT_FOUND = 404
_ASSET = re.compile(r"azureml:(?P<name>[^/:@]+)(?::(?P<version>[^/:@]+)|@(?P<label>[^/:@]+))")
_CORRELATED = "correlationid"  # the collector's column with the request's id
_COLLECTED = "/modelDataCollector/"  # in the paths of what Azure's collector writes and its monitor reads by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Data that is there.

    Args:
        path: a data asset as `azureml:<name>:<version>`, or a URI in a datastore.
        type: `mltable`, `uri_folder` or `uri_file`.
        context: what it is to the model, in Azure's word.
        days: how many days of it a run looks at; None for as many as lie between two runs.
        join: the column that brings outputs and labels together.
        preprocessing: the component that makes a table of it, as `<name>:<version>`.
    """

    path: str
    type: str
    context: str
    days: int | None = None
    join: str | None = None
    preprocessing: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Production:
    """All data of a monitor.

    Args:
        deployment: `<endpoint>/<deployment>`, where one is looked at.
        inputs: what the model is asked; None where no signal needs it, as the next three.
        outputs: what it answers.
        labels: what was true.
        reference: what production is compared with; None for what it was before.
    """

    deployment: str | None
    inputs: Data | None
    outputs: Data | None
    labels: Data | None
    reference: Data | None

    @classmethod
    def of(
        cls, config: MonitorConfig, kinds: Collection[str], client: MLClient, workspace: Workspace | None
    ) -> Production:
        """Look for all data that the signals need.

        Args:
            config: with `[azure]`.
            kinds: the signals.
            client: of the workspace.
            workspace: None takes the one that MLflow is configured for.

        Raises:
            ArgumentError: a signal has no data.
            DataLakeError: nothing is where a URI leads.
            ServiceError: there is no such deployment or data asset, or the deployment collects no data.
        """
        azure = config.azure or {}
        deployment: str | None = azure.get("deployment")
        given_apart = bool({"inputs", "outputs"} & set(azure))
        collected = _collected(client, deployment, optional=given_apart) if deployment else {}

        def found(part: str, context: str, needed_by: set[str]) -> Data | None:
            if not needed_by & set(kinds):
                return None
            given = azure.get(part) or collected.get(context)
            if given is None:
                raise ArgumentError(
                    f"{config.file!r}: {listed(sorted(needed_by & set(kinds)))} has no data; [azure.{part}] is missing",
                    hint=f'[azure.{part}] with data = "azureml:<name>:<version>"'
                    + ("" if part == "labels" else ', or in [azure] deployment = "<endpoint>/<deployment>"'),
                )
            return _data(f"[azure.{part}] of {config.file!r}", given, context, client, workspace)

        reference = azure.get("reference")
        return cls(
            deployment=deployment,
            inputs=found("inputs", INPUTS, {"data_drift", "data_quality"}),
            outputs=found("outputs", OUTPUTS, {"prediction_drift", "model_performance"}),
            labels=found("labels", "ground_truth", {"model_performance"}),
            reference=None
            if reference is None
            else _data(
                f"[azure.reference] of {config.file!r}",
                reference,
                reference.get("context", "training"),
                client,
                workspace,
            ),
        )


def _data(where: str, given: Mapping[str, Any], context: str, client: MLClient, workspace: Workspace | None) -> Data:
    path, kind, lies = str(given["data"]), given.get("type", "mltable"), str(given["data"])
    if asset := _ASSET.fullmatch(path):
        found = _asset(client, where, asset)
        if given.get("type", found.type) != found.type:
            raise ArgumentError(
                f"{where}: `type` is {kind!r}, but {path!r} is of the type {found.type!r}", hint="leave it out"
            )
        path, kind, lies = f"azureml:{found.name}:{found.version}", str(found.type), str(found.path)
    else:
        _look(where, path, workspace)
    reads = kind == "mltable" or given.get("collected") or _COLLECTED.lower() in f"{lies}/".lower()
    if not reads and "preprocessing" not in given:
        raise ArgumentError(
            f"{where}: {given['data']!r} is of the type {kind!r}, of which Azure's monitor makes no table by itself",
            hint='data of the type mltable, or preprocessing = "azureml:<component>:<version>"',
        )
    component = given.get("preprocessing")
    return Data(
        path=path,
        type=kind,
        context=context,
        days=given.get("days"),
        join=given.get("join"),
        preprocessing=component and component.removeprefix("azureml:"),
    )


def _asset(client: MLClient, where: str, asked: re.Match[str]) -> Any:
    name = asked["name"]
    try:
        with control.own_words(f"find the data asset {name!r}"):
            return client.data.get(name, version=asked["version"], label=asked["label"])
    except ServiceError as error:
        if error.status != _NOT_FOUND:
            raise
    with control.own_words("list the data assets"):
        names = [str(one.name) for one in client.data.list()]
        versions = [str(one.version) for one in client.data.list(name=name)] if name in names else []
    told = f"{where}: the workspace has no data asset {asked[0]!r}"
    if name in names:
        raise ServiceError(
            f"{told}; {name!r} has the versions {listed(versions)}",
            hint=f'data = "azureml:{name}@latest"',
            status=_NOT_FOUND,
        )
    raise ServiceError(
        f"{told}; it has {listed(names)}",
        hint=did_you_mean(name, names) or f"az ml data create --name {name} --type mltable --path …",
        status=_NOT_FOUND,
    )


def _look(where: str, uri: str, workspace: Workspace | None) -> None:
    """Raise where nothing is at a URI in a datastore."""
    from azure.core.exceptions import AzureError, ResourceNotFoundError

    place = datalake.find(control.naming(uri, workspace))
    try:
        files.LakeArtifactRepository(place, write=False).is_folder()
    except ResourceNotFoundError:
        raise DataLakeError(f"{where}: nothing is at {uri!r}", hint=f"aml-spark datastore ls {uri}") from None
    except AzureError as error:
        raise refusals.refused(place.location, error) from None


def _collected(client: MLClient, deployment: str, *, optional: bool) -> dict[str, Mapping[str, Any]]:
    """The data assets that a deployment's collector fills, by what they are to the model.

    Args:
        client: of the workspace.
        deployment: `<endpoint>/<deployment>`.
        optional: whether it may have no collector at all.

    Raises:
        ServiceError: there is no such deployment, or it doesn't collect both its inputs and its outputs.
    """
    endpoint, _, name = deployment.partition("/")
    with control.own_words(
        f"find the deployment {name!r} of the endpoint {endpoint!r}", hint=f"aml-spark endpoint show {endpoint}"
    ):
        found: Any = client.online_deployments.get(name, endpoint)
    collections = found.data_collector.collections if found.data_collector else {}
    if optional and not collections:
        return {}
    lacking = [
        one
        for one in (INPUTS, OUTPUTS)
        if str(getattr(collections.get(one), "enabled", None)).lower() != "true" or not collections[one].data
    ]
    if lacking:  # azure-ai-ml makes no monitor of a deployment that collects only one of them
        raise ServiceError(
            f"the deployment {name!r} of the endpoint {endpoint!r} doesn't collect {listed(lacking)}",
            hint=f"mlflow deployments update -t aml-spark --endpoint {endpoint} --name {name} -C data_collector=true",
        )
    return {
        one: {"data": _named(str(collections[one].data)), "join": _CORRELATED, "collected": True}
        for one in (INPUTS, OUTPUTS)
    }


def _named(asset: str) -> str:
    """A data asset's id as its name and version."""
    found = re.search(r"/data/([^/]+)/versions/([^/]+)$", asset)
    return f"azureml:{found[1]}:{found[2]}" if found else asset
