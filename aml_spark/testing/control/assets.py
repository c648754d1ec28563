"""What the workspace keeps in versions: environments and data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import flask

from aml_spark.testing.artifacts import failure
from aml_spark.testing.control.records import Records, shown


class Assets:
    """One kind of assets. A version of one doesn't change, but for its description and tags.

    Args:
        kind: as it stands in their ids, such as `environments`.
        folder: gets `<kind>.json`.
        workspace: the workspace's ARM path.
    """

    def __init__(self, kind: str, folder: Path, workspace: str) -> None:
        self.kind = kind
        self._records, self._root = Records(folder / f"{kind}.json"), f"{workspace}/{kind}"

    def find(self, arm_id: str) -> dict[str, Any] | None:
        """The properties of a version, or of the latest one, by its id; None: there is no such version."""
        asked = re.fullmatch(rf"{re.escape(self._root)}/([^/]+)/(versions|labels)/([^/]+)", arm_id)
        versions = self._versions(asked[1]) if asked else {}
        if not asked or not versions:
            return None
        last = list(versions)[-1]
        found: dict[str, Any] | None = versions.get(asked[3] if asked[2] == "versions" else last)
        return found

    def routes(self) -> flask.Blueprint:
        """Containers and their versions: list and get; a version is also created, changed and deleted."""
        routes = flask.Blueprint(self.kind, __name__)
        root = self._root

        @routes.get(root)
        def listed() -> Any:
            return {"value": [self._container(name) for name in self._records.all()]}

        @routes.get(f"{root}/<name>")
        def get(name: str) -> Any:
            return self._container(name) if self._versions(name) else self._missing(name)

        @routes.get(f"{root}/<name>/versions")
        def versions(name: str) -> Any:
            found = [self._shown(name, version) for version in reversed(self._versions(name))]
            asked = flask.request.args
            archived = {"ActiveOnly": [False], "ArchivedOnly": [True]}.get(asked.get("listViewType", ""), [False, True])
            found = [each for each in found if each["properties"].get("isArchived", False) in archived]
            if asked.get("$orderBy", asked.get("orderBy", "")).endswith("asc"):
                found.reverse()
            top = asked.get("$top", asked.get("top"))
            return {"value": found[: int(top) if top else None]}

        @routes.get(f"{root}/<name>/versions/<version>")
        def version(name: str, version: str) -> Any:
            return self._shown(name, version) if version in self._versions(name) else self._missing(name, version)

        @routes.put(f"{root}/<name>/versions/<version>")
        def put(name: str, version: str) -> Any:
            given = flask.request.get_json()["properties"]
            with self._records.changed() as everything:
                versions = everything.setdefault(name, {})
                old = versions.get(version)
                if old is not None and _lasting(old) != _lasting(given):
                    told = f"{self.kind} {name}, version {version}, already exists and can't be changed."
                    return failure(409, "UserError", told)
                versions[version] = {**(old or {}), **given}
            return self._shown(name, version), 201 if old is None else 200

        @routes.delete(f"{root}/<name>/versions/<version>")
        def delete(name: str, version: str) -> Any:
            with self._records.changed() as everything:
                gone = everything.get(name, {}).pop(version, None)
            return "", 204 if gone is None else 200

        return routes

    def _versions(self, name: str) -> dict[str, Any]:
        return self._records.get(name) or {}

    def _container(self, name: str) -> dict[str, Any]:
        versions = list(self._versions(name))
        numbers = [int(version) for version in versions if version.isdigit()]
        properties: dict[str, Any] = {
            "latestVersion": versions[-1] if versions else None,
            "nextVersion": str(max(numbers, default=0) + 1),
            "isArchived": False,
            "tags": {},
            "properties": {},
        }
        return shown(f"{self._root}/{name}", f"{_KIND}/{self.kind}", properties)

    def _shown(self, name: str, version: str) -> dict[str, Any]:
        known = {"tags": {}, "properties": {}, "isArchived": False, **self._versions(name)[version]}
        return shown(f"{self._root}/{name}/versions/{version}", f"{_KIND}/{self.kind}/versions", known)

    def _missing(self, name: str, version: str | None = None) -> Any:
        told = f"No {self.kind} exists for name: {name}" + (f", version: {version}" if version else "")
        return failure(404, "UserError", told)


_KIND = "Microsoft.MachineLearningServices/workspaces"


def _lasting(properties: dict[str, Any]) -> dict[str, Any]:
    free = ("description", "tags", "properties", "isArchived", "stage")
    return {key: value for key, value in properties.items() if key not in free and value is not None}
