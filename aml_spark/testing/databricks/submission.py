"""What can be submitted as a one-time run, and what a task of it needs before it starts."""

from __future__ import annotations

import json
import re
from importlib import metadata
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from aml_spark.testing.databricks import clusters
from aml_spark.testing.databricks.refusals import invalid
from aml_spark.testing.databricks.tree import Tree

_REFERENCE = re.compile(r"\{\{\s*([\w.]+)\s*\}\}")
_MOST_PARAMETERS = 10_000  # bytes as JSON


def check(asked: dict[str, Any], tree: Tree) -> None:
    """Refuse what Databricks would, and what is not emulated."""
    tasks = asked.get("tasks") or []
    if len(tasks) != 1:
        raise invalid(f"The emulated workspace runs one task at a time; {len(tasks)} were given.")
    if len(asked.get("idempotency_token") or "") > 64:
        raise invalid("The idempotency token must have at most 64 characters.")
    (task,) = tasks
    if not re.fullmatch(r"[\w-]{1,100}", task.get("task_key", "")):
        raise invalid(f"Invalid task key: {task.get('task_key')!r}")
    script = task.get("spark_python_task")
    if script is None:
        kind = next((name for name in task if name.endswith("_task")), "none")
        raise invalid(f"The emulated workspace runs spark_python_task only; the task {task['task_key']} has {kind}.")
    tree.local(script.get("python_file", ""))
    if len(json.dumps(script.get("parameters", []))) > _MOST_PARAMETERS:
        raise invalid("The JSON representation of parameters cannot exceed 10,000 bytes.")
    _check_compute(task, asked.get("environments") or [])


def _check_compute(task: dict[str, Any], environments: list[dict[str, Any]]) -> None:
    places = [name for name in ("new_cluster", "existing_cluster_id", "environment_key") if task.get(name)]
    if len(places) > 1:
        raise invalid(f"Task {task['task_key']} can have only one of {', '.join(places)}.")
    if not places:
        raise invalid(f"An environment is required for serverless task {task['task_key']}.")
    if task.get("new_cluster"):
        clusters.check(task["new_cluster"])
    elif task.get("existing_cluster_id"):
        clusters.find(task["existing_cluster_id"])
    else:
        if task.get("libraries"):
            raise invalid(
                "Libraries field is not supported for serverless task, please specify libraries in environment."
            )
        if task["environment_key"] not in [one["environment_key"] for one in environments]:
            raise invalid(f"Environment key {task['environment_key']} is not defined in environments.")
    for library in task.get("libraries", []):
        if list(library) != ["pypi"]:
            raise invalid(f"The emulated workspace takes libraries from PyPI only, not {', '.join(library)}.")


def unmet(asked: dict[str, Any]) -> str | None:
    """The first package that a run wants and this Python doesn't have; None where it has them all.

    Nothing is installed: the run shares the emulator's own packages.
    """
    task = asked["tasks"][0]
    wanted = [library["pypi"]["package"] for library in task.get("libraries", [])]
    for one in asked.get("environments") or []:
        if one["environment_key"] == task.get("environment_key"):
            wanted += (one.get("spec") or {}).get("dependencies") or []
    return next((text for text in wanted if not _has(text)), None)


def _has(text: str) -> bool:
    try:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate():
            return True
        return wanted.specifier.contains(metadata.version(wanted.name), prereleases=True)
    except (InvalidRequirement, metadata.PackageNotFoundError):
        return False


def filled(text: str, values: dict[str, str]) -> str:
    """A parameter with what Databricks puts in place of references such as `{{job.run_id}}`."""
    return _REFERENCE.sub(lambda found: values.get(found[1], found[0]), text)
