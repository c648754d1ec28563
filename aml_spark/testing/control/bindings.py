"""The inputs and outputs of a job: where their files are for its process, and where they go to afterwards."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aml_spark.testing.control.storage import Storage

_ASKED = re.compile(r"\$\{\{\s*(?P<kind>inputs|outputs)\.(?P<name>[\w.-]+)\s*\}\}")
_SPECIAL = re.compile(r"[^\w@%+=:,.-]", re.ASCII)  # characters that a shell may take for something else
_DIRECT = "Direct"


class UnknownBindingError(Exception):
    """The command names an input or an output that the job hasn't."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bindings:
    """What stands for each `${{inputs.x}}` and `${{outputs.y}}`.

    Args:
        values: text for each name, as `inputs.x`.
        uploads: what is copied to the storage when the process has ended: a file or a folder, and its URI.
    """

    values: Mapping[str, str]
    uploads: Mapping[Path, str]

    def fill(self, text: str) -> str:
        """A text with the values in the places of their names.

        Raises:
            UnknownBindingError: a name isn't known.
        """

        def value(found: re.Match[str]) -> str:
            name = f"{found['kind']}.{found['name']}"
            if name not in self.values:
                raise UnknownBindingError(f"'{found[0]}' is in the command, but not in the job's {found['kind']}.")
            return self.values[name]

        return _ASKED.sub(value, text)


def bind(job: str, properties: Mapping[str, Any], folder: Path, storage: Storage) -> Bindings:
    """Copy a job's inputs to this machine, and make the folders of its outputs.

    Args:
        job: its name.
        properties: as they were asked for.
        folder: where files go, those of each input and output in a folder of their own.
        storage: where they come from.

    Raises:
        UnknownPlaceError: an input isn't there.
    """
    values, uploads = {}, {}
    for name, asked in (properties.get("inputs") or {}).items():
        if asked["jobInputType"] == "literal":
            values[f"inputs.{name}"] = str(asked["value"])
        elif asked.get("mode") == _DIRECT:
            values[f"inputs.{name}"] = asked["uri"]
        else:
            place = folder / "inputs" / name
            copied = storage.download(asked["uri"], place)
            values[f"inputs.{name}"] = str(place if asked["jobInputType"] == "uri_folder" else _plain(copied))
    for name, asked in (properties.get("outputs") or {}).items():
        uri = output_uri(job, name, asked or {})
        if (asked or {}).get("mode") == _DIRECT:
            values[f"outputs.{name}"] = uri
            continue
        place = folder / "outputs" / name
        (place.parent if asked.get("jobOutputType") == "uri_file" else place).mkdir(parents=True, exist_ok=True)
        values[f"outputs.{name}"], uploads[place] = str(place), uri
    return Bindings(values=values, uploads=uploads)


def _plain(file: Path) -> Path:
    """Give a file a name that a shell takes as it is: commands name it without quotes."""
    return file.replace(file.with_name(_SPECIAL.sub("_", file.name)))


def output_uri(job: str, name: str, asked: Mapping[str, Any]) -> str:
    """Where an output goes: to the URI that it was given, or below the workspace's default datastore."""
    ending = "" if asked.get("jobOutputType") == "uri_file" else "/"
    return str(asked.get("uri") or f"azureml://datastores/workspaceblobstore/paths/azureml/{job}/{name}{ending}")
