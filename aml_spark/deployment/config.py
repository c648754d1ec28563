"""What a deployment or an endpoint is asked to be like: a dict, `-C key=value`, or a YAML or JSON file, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aml_spark.errors import ArgumentError, did_you_mean, listed

FILE = "config_file"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]")
_PROBE = {
    "failure_threshold": int,
    "success_threshold": int,
    "timeout": int,
    "period": int,
    "initial_delay": int,
}
_TEXTS, _PERCENT = "texts", "percent"
_COLLECTED = ("model_inputs", "model_outputs")
_ROUTED = {"traffic": _PERCENT, "mirror_traffic": _PERCENT}
_DESCRIBED = {"tags": _TEXTS, "description": str}

Kind = Any
"""What a value must be: a type, the texts that it may be, `texts`, `percent`, or the keys of an object."""

ENDPOINT: Mapping[str, Kind] = {
    "auth_mode": ("key", "aml_token", "aad_token"),
    "public_network_access": ("enabled", "disabled"),
    **_DESCRIBED,
    **_ROUTED,
}
DEPLOYMENT: Mapping[str, Kind] = {
    "instance_type": str,
    "instance_count": int,
    "environment_variables": _TEXTS,
    "request_settings": {
        "request_timeout_ms": int,
        "max_concurrent_requests_per_instance": int,
        "max_queue_wait_ms": int,
    },
    "liveness_probe": _PROBE,
    "readiness_probe": _PROBE,
    "app_insights_enabled": bool,
    "egress_public_network_access": ("enabled", "disabled"),
    "data_collector": {
        "collections": dict,
        "sampling_rate": float,
        "rolling_rate": ("minute", "hour", "day"),
        "request_logging": {"capture_headers": list},
    },
    **_DESCRIBED,
    **_ROUTED,
    "endpoint_name": str,
    "auth_mode": ENDPOINT["auth_mode"],
}
BATCH: Mapping[str, Kind] = {
    "compute": str,
    "instance_count": int,
    "max_concurrency_per_instance": int,
    "mini_batch_size": int,
    "error_threshold": int,
    "retry_settings": {"max_retries": int, "timeout": int},
    "logging_level": ("info", "warning", "debug"),
    "environment_variables": _TEXTS,
    "output_action": ("append_row", "summary_only"),
    "output_file_name": str,
    **_DESCRIBED,
}
LOCAL: Mapping[str, Kind] = {
    "env_manager": ("local", "virtualenv", "uv", "conda"),
    "port": int,
    "startup_timeout": int,
    "environment_variables": _TEXTS,
}


def read(config: Mapping[str, Any] | None, allowed: Mapping[str, Kind]) -> dict[str, Any]:
    """The settings of a config, each of its type.

    Args:
        config: keys and values; texts, as the command line gives them, are read as YAML where a text isn't expected.
            `config_file` names a YAML or JSON file with more; what stands beside it goes before the file's.
        allowed: the keys, and what each may be.

    Raises:
        ArgumentError: a key isn't known, or a value isn't of its type; names the key.
    """
    given = dict(config or {})
    file = given.pop(FILE, None)
    if file is not None:
        given = {**_of_file(str(file)), **given}
    if given.get("data_collector") is not None and "data_collector" in allowed:
        given["data_collector"] = _collector(given["data_collector"])
    return _object("", given, allowed)


def check_name(name: str, what: str) -> str:
    """See that Azure takes a name for an endpoint or a deployment.

    Raises:
        ArgumentError: it is too short or too long, or has other characters.
    """
    if not _NAME.fullmatch(name):
        raise ArgumentError(
            f"the {what}'s name is {name!r} ({len(name)} characters); expected 3 to 32 letters, digits and dashes, "
            "beginning with a letter and not ending with a dash"
        )
    return name


def _of_file(name: str) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        raise ArgumentError(f"{FILE}: {name!r} can't be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{FILE}: {name!r} is neither YAML nor JSON ({type(error).__name__})") from None
    if not isinstance(found, dict):
        raise ArgumentError(f"{FILE}: {name!r} holds no keys with values")
    return found


def _collector(given: Any) -> Any:
    """`true` and a list of collections are short for Azure's form."""
    given = _parsed(given)
    if given is True:
        given = list(_COLLECTED)
    if given is False:
        return {"collections": {name: {"enabled": "false"} for name in _COLLECTED}}
    if isinstance(given, list):
        return {"collections": {str(name): {"enabled": "true"} for name in given}}
    if isinstance(given, dict):
        given = {"collections": dict.fromkeys(_COLLECTED), **given}
        if isinstance(given["collections"], dict):
            given["collections"] = {name: _enabled(one) for name, one in given["collections"].items()}
    return given


def _enabled(one: Any) -> Any:
    if one is None:
        return {"enabled": "true"}
    if isinstance(one, bool):
        return {"enabled": str(one).lower()}
    if isinstance(one, dict) and set(one) == {"enabled"}:
        return {"enabled": str(one["enabled"]).lower()}
    raise ArgumentError(f"data_collector.collections: expected a mapping with 'enabled', got {type(one).__name__}")


def _object(path: str, given: Mapping[Any, Any], allowed: Mapping[str, Kind]) -> dict[str, Any]:
    for key in given:
        if key not in allowed:
            where = f" of {path!r}" if path else ""
            raise ArgumentError(
                f"unknown key {str(key)!r}{where}; the keys are {listed(sorted(allowed), most=30)}",
                hint=did_you_mean(str(key), allowed),
            )
    return {key: _value(f"{path}.{key}" if path else key, value, allowed[key]) for key, value in given.items()}


def _value(key: str, value: Any, kind: Kind) -> Any:
    if kind is str:
        return _expected(key, value, "a text") if not isinstance(value, str) or not value else value
    if isinstance(kind, tuple):
        return value if value in kind else _expected(key, value, f"one of {listed(kind)}")
    value = _parsed(value)
    if isinstance(kind, Mapping):
        return _object(key, value, kind) if isinstance(value, dict) else _expected(key, value, "keys with values")
    if kind is bool:
        return value if isinstance(value, bool) else _expected(key, value, "true or false")
    if kind is int:
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        return value if whole else _expected(key, value, "a whole number")
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(value) if number else _expected(key, value, "a number")
    if kind is list:
        return value if isinstance(value, list) else _expected(key, value, "a list")
    if not isinstance(value, dict):
        return _expected(key, value, "keys with values")
    if kind == _TEXTS:
        return {str(name): one if isinstance(one, str) else _as_text(one) for name, one in value.items()}
    return _percents(key, value) if kind == _PERCENT else value


def _percents(key: str, value: Mapping[Any, Any]) -> dict[str, int]:
    most = 100 if key == "traffic" else 50
    for name, percent in value.items():
        if not isinstance(percent, int) or isinstance(percent, bool) or not 0 <= percent <= most:
            return dict(_expected(f"{key}.{name}", percent, f"a whole number of percent from 0 to {most}"))
    if key == "traffic" and sum(value.values()) not in (0, 100):
        return dict(_expected(key, sum(value.values()), "percentages that make 100, or 0, together"))
    return {str(name): percent for name, percent in value.items()}


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parsed(value: Any) -> Any:
    """A text from the command line as what it says."""
    if not isinstance(value, str):
        return value
    import yaml

    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def _expected(key: str, value: Any, expected: str) -> Any:
    secret = key.startswith("environment_variables")
    raise ArgumentError(f"{key} is {'***' if secret else repr(value)}; expected {expected}")
