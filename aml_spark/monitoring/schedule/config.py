"""`conf/monitor.toml`: what is monitored, read and checked against the schema that documents it."""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_spark.errors import ArgumentError, did_you_mean, listed

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

SCHEMA = Path(__file__).with_name("config.schema.json")
_PARTS = ("baseline", "target", "report", "schedule", "alert", "azure")


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorConfig:
    """What a file says, checked. Each part has the keys of `config.schema.json`, and is None where it isn't there.

    Args:
        file: its name, for messages.
        arguments: of `monitor`: what stands before the first table, thresholds (None for `"none"`), expectations and
            importance.
        baseline: which rows the target is compared with: `source`, `version`, `where`, `since`, `until`.
        target: which rows are looked at.
        report: where the report goes: `html`, `delta`, `log`.
        schedule: when and on what the workspace's monitor runs.
        alert: who is told: `emails`.
        azure: what the workspace's monitor looks at.
    """

    file: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    baseline: Mapping[str, Any] | None = None
    target: Mapping[str, Any] | None = None
    report: Mapping[str, Any] | None = None
    schedule: Mapping[str, Any] | None = None
    alert: Mapping[str, Any] | None = None
    azure: Mapping[str, Any] | None = None


def read(file: str | os.PathLike[str]) -> MonitorConfig:
    """Read and check a file.

    Args:
        file: in TOML.

    Raises:
        ArgumentError: it can't be read, or a key is unknown, missing or of the wrong type; says which.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    name = os.fspath(file)
    try:
        given = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ArgumentError(f"{name!r} can't be read: {error.strerror}", hint="--config conf/monitor.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{name!r} isn't TOML: {error}", hint="see https://toml.io") from None
    return checked(given, name)


def checked(given: Mapping[str, Any], name: str = "monitor.toml") -> MonitorConfig:
    """Check what a file says; times may be texts, too.

    Args:
        given: its keys.
        name: of the file, for messages.

    Raises:
        ArgumentError: a key is unknown, missing or of the wrong type; says which.
    """
    plain = _plain(given)
    _validate(plain, name)
    parts = {part: plain.pop(part, None) for part in _PARTS}
    if "thresholds" in plain:
        plain["thresholds"] = _without_none(plain["thresholds"])
    return MonitorConfig(file=name, arguments=plain, **parts)


def _plain(value: Any) -> Any:
    """TOML's dates and times as texts in ISO 8601."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value.isoformat() if isinstance(value, dt.date | dt.time) else value


def _without_none(thresholds: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, Mapping) else None if value == "none" else value
        for name, value in thresholds.items()
    }


def _validate(given: Mapping[str, Any], name: str) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    errors = list(Draft202012Validator(schema).iter_errors(given))
    # An unknown key is often a misspelt one that is then missing, so it is told first.
    unknown = [error for error in errors if error.validator == "additionalProperties"]
    found = unknown[0] if unknown else best_match(errors)
    if found is not None:
        raise _told(_whole(found), name)


def _whole(error: ValidationError) -> ValidationError:
    """Of what may be one of several, the error of the whole: each by itself says too little."""
    while error.parent is not None:
        error = error.parent
    return error


def _told(error: ValidationError, name: str) -> ArgumentError:
    path = ".".join(str(part) for part in error.absolute_path)
    where, rule = f"{name!r}" + (f", `{path}`" if path else ""), dict(error.schema)
    if error.validator == "additionalProperties":
        names = list(rule.get("properties", {}))
        key = next(key for key in error.instance if key not in names)
        return ArgumentError(
            f"{where}: the key {key!r} is unknown; expected {listed(names, most=40)}",
            hint=did_you_mean(key, names) or _home(key),
        )
    if error.validator == "required":
        key = next(key for key in rule["required"] if key not in error.instance)
        return ArgumentError(
            f"{where}: the key {key!r} is missing", hint=rule.get("properties", {}).get(key, {}).get("description")
        )
    value, hint = error.instance, rule.get("description")
    if error.validator == "enum":
        close = did_you_mean(value, rule["enum"]) if isinstance(value, str) else None
        return ArgumentError(f"{where} is {value!r}; expected one of {listed(rule['enum'])}", hint=close or hint)
    if error.validator in ("pattern", "anyOf"):
        return ArgumentError(f"{where} is {value!r}, which can't be meant", hint=hint)
    return ArgumentError(f"{where}: {error.message}", hint=hint)


def _home(key: str) -> str | None:
    """A hint where else a key stands: after the head of a table TOML takes all keys for the table's."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    found = ["before the first table"] if key in schema["properties"] else []
    found += [f"in [{name}]" for name in _PARTS if key in _keys(schema["properties"][name], schema)]
    inner = schema["properties"]["azure"]["properties"]
    found += [f"in [azure.{name}]" for name in inner if key in _keys(inner[name], schema)]
    return f"{key!r} stands {', or '.join(found)}" if found else None


def _keys(rule: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    known = schema["$defs"][rule["$ref"].rpartition("/")[2]] if "$ref" in rule else rule
    keys: Mapping[str, Any] = known.get("properties", {})
    return keys
