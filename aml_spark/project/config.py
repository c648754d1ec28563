"""The backend's configuration: read, checked against the schema of its place, and told apart from MLflow's own keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_spark.errors import ArgumentError, did_you_mean, listed

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

PLACES = ("local", "azureml", "databricks")
_SCHEMAS = Path(__file__).with_name("schema")
# What mlflow.projects puts among the keys of a backend's configuration.
_OF_MLFLOW = ("ENV_MANAGER", "SYNCHRONOUS", "DOCKER_ARGS", "STORAGE_DIR", "build_image", "docker_auth")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A configuration with what MLflow says beside it.

    Args:
        config: the keys of the schema `schema/<place>.json`, and `env_manager`: what `--env-manager` says, which is
            local, virtualenv, uv or conda; None where it says nothing.
        storage: folder for downloads of parameters of type `path`; None for the system's temporary one.
    """

    config: Mapping[str, Any]
    storage: str | None


def check(backend_config: Mapping[str, Any] | str | None) -> Given:
    """Check what `mlflow run --backend-config` or `mlflow.projects.run(backend_config=…)` hands over.

    Raises:
        ArgumentError: no configuration, no such place, or a key that is missing, unknown or of the wrong type.
    """
    if isinstance(backend_config, str):  # MLflow reads files that end in .json only
        raise ArgumentError(f"backend_config is {backend_config!r}; expected a dict or a file that ends in .json")
    whole = dict(backend_config or {})
    mlflow_says = {name: whole.pop(name, None) for name in _OF_MLFLOW}
    where = whole.get("place")
    if where not in PLACES:
        said = f"`place` is {where!r}" if "place" in whole else "`place` is missing"
        close = did_you_mean(where, PLACES) if isinstance(where, str) else None
        raise ArgumentError(
            f"the backend's configuration: {said}; expected one of {listed(PLACES)}",
            hint=close
            or 'mlflow run . -b aml-spark --backend-config \'{"place": "local"}\', or a file that ends in .json',
        )
    for name in ("DOCKER_ARGS", "build_image", "docker_auth"):
        if mlflow_says[name]:
            raise ArgumentError(f"{name} was given, which only MLflow's own backends take")
    _validate(whole, where)
    return Given(config={**whole, "env_manager": mlflow_says["ENV_MANAGER"]}, storage=mlflow_says["STORAGE_DIR"])


def schema(place: str) -> dict[str, Any]:
    """The JSON schema of a place's configuration."""
    read: dict[str, Any] = json.loads((_SCHEMAS / f"{place}.json").read_text(encoding="utf-8"))
    return read


def _validate(config: Mapping[str, Any], place: str) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    errors = list(Draft202012Validator(schema(place)).iter_errors(config))
    # An unknown key is often a misspelt one that is then missing, so it is told first.
    unknown = [error for error in errors if error.validator == "additionalProperties"]
    found = unknown[0] if unknown else best_match(errors)
    if found is not None:
        raise _told(found, place)


def _told(error: ValidationError, place: str) -> ArgumentError:
    path = ".".join(str(part) for part in error.absolute_path)
    where = f"the backend's configuration for {place!r}" + (f", `{path}`" if path else "")
    rule: Any = error.schema
    if error.validator == "additionalProperties":
        names = list(rule.get("properties", {}))
        key = next(name for name in error.instance if name not in names)
        return ArgumentError(
            f"{where}: the key {key!r} is unknown; expected {listed(names, most=40)}", hint=did_you_mean(key, names)
        )
    if error.validator == "required":
        key = next(name for name in rule["required"] if name not in error.instance)
        meant = rule.get("properties", {}).get(key, {}).get("description")
        return ArgumentError(f"{where}: the key {key!r} is missing" + (f": {meant}" if meant else ""))
    if error.validator == "enum":
        value = error.instance
        close = did_you_mean(value, rule["enum"]) if isinstance(value, str) else None
        return ArgumentError(f"{where} is {value!r}; expected one of {listed(rule['enum'])}", hint=close)
    return ArgumentError(f"{where}: {error.message}", hint=rule.get("description"))
