"""A project's command on this machine: MLproject's own or spark-submit's, and a file for what is secret in it."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aml_spark.java import defaults_file
from aml_spark.project.masking import masked_settings
from aml_spark.project.source import Project


def command(project: Project, config: Mapping[str, Any], settings: Path | None = None) -> str:
    """The command for a shell: MLproject's own, or with `"launcher": "spark-submit"` its Python file's.

    Args:
        project: whose.
        config: see `schema/local.json`.
        settings: file of `secret_settings`; without it they stand in the command as `***`.
    """
    if config.get("launcher") != "spark-submit":
        return project.command
    file, arguments = project.script()
    options = ["--master", config["master"]] if "master" in config else []
    if packages := config.get("packages"):
        options += ["--packages", ",".join(packages)]
    conf = _conf(config)
    for name, value in masked_settings(conf).items():
        if settings is None or value == conf[name]:
            options += ["--conf", f"{name}={value}"]
    # What the project itself says comes after, because spark-submit takes the last word; its own file is part of ours.
    last = ["--properties-file", str(settings)] if settings else []
    return shlex.join([_program(), *options, *project.spark_options(), *last, file, *arguments])


def secret_settings(project: Project, config: Mapping[str, Any]) -> Path | None:
    """Write the settings of `conf` that are secret to a temporary file that only this user reads.

    Every user of a machine sees the words of a command. The file begins with the settings that spark-submit would read
    without it, because it reads one such file.

    Returns:
        The file, which the caller removes; None where nothing is secret.
    """
    conf = _conf(config)
    shown = masked_settings(conf)
    secret = {name: value for name, value in conf.items() if shown[name] != value}
    if config.get("launcher") != "spark-submit" or not secret:
        return None
    instead = _properties_file(project)
    before = instead.read_bytes() if instead.is_file() else b""
    lines = "".join(f"{_escaped(name)}={_escaped(value)}\n" for name, value in secret.items())
    number, path = tempfile.mkstemp(prefix="spark-", suffix=".conf")
    os.close(number)
    Path(path).write_bytes(before + b"\n\n" + lines.encode())
    return Path(path)


def _conf(config: Mapping[str, Any]) -> dict[str, str]:
    given = config.get("conf", {}).items()
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given}


def _properties_file(project: Project) -> Path:
    """The file of settings that spark-submit reads: the one that the project names, or spark-defaults.conf."""
    options, named = project.spark_options(), None
    for option, following in zip(options, [*options[1:], ""], strict=False):
        name, equals, value = option.partition("=")
        if name == "--properties-file":
            named = value if equals else following
    if named:
        return project.folder / named
    return defaults_file()


def _escaped(text: str) -> str:
    """A name or a value as Java's files of properties have it."""
    text = re.sub(r"[\\:=#! \t]", r"\\\g<0>", text)
    return text.replace("\n", "\\n").replace("\r", "\\r")


def _program() -> str:
    home = os.environ.get("SPARK_HOME")
    return str(Path(home, "bin", "spark-submit")) if home else "spark-submit"
