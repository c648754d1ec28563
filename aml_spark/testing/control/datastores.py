"""The datastores of the workspace: two on the lake, the one of the runs' files, and what users make."""

from __future__ import annotations

import datetime as dt
import json
import threading
from pathlib import Path
from typing import Any

import flask

from aml_spark.testing.artifacts import CONTAINER as ARTIFACTS, Blobs, failure

ARTIFACT_STORE = "workspaceartifactstore"
FILESYSTEMS = CONTAINER, FILESYSTEM = "workspaceblobs", "lake"
_TYPE = "Microsoft.MachineLearningServices/workspaces/datastores"


class Datastores:
    """The datastores of one workspace.

    Args:
        folder: gets `datastores.json`, readable by its owner alone: there are secrets in it.
        workspace: the workspace's ARM path.
        account: name of the lake's account.
        key: its key.
        blobs: where the runs' files are.
    """

    def __init__(self, folder: Path, workspace: str, account: str, key: str, blobs: Blobs) -> None:
        self._file, self._workspace, self._blobs = folder / "datastores.json", workspace, blobs
        self._lock = threading.Lock()
        if not self._file.exists():
            place = {"accountName": account, "endpoint": "core.windows.net", "protocol": "https"}
            secrets = {"secretsType": "AccountKey", "key": key}
            self._write(
                {
                    "workspaceblobstore": {
                        **place,
                        "datastoreType": "AzureBlob",
                        "containerName": CONTAINER,
                        "isDefault": True,
                        "credentials": {"credentialsType": "AccountKey", "secrets": secrets},
                    },
                    "lake": {
                        **place,
                        "datastoreType": "AzureDataLakeGen2",
                        "filesystem": FILESYSTEM,
                        "isDefault": False,
                        "credentials": {"credentialsType": "None"},
                    },
                }
            )

    def routes(self) -> flask.Blueprint:
        """List, get, create, delete, and what opens one."""
        routes = flask.Blueprint("datastores", __name__)
        root = f"{self._workspace}/datastores"

        @routes.get(root)
        def listed() -> Any:
            only_default = flask.request.args.get("isDefault", "").lower() == "true"
            found = [(name, known) for name, known in self.known().items() if known["isDefault"] or not only_default]
            return {"value": [self._shown(name, known) for name, known in found]}

        @routes.get(f"{root}/<name>")
        def get(name: str) -> Any:
            known = self.known().get(name)
            return _missing(name) if known is None else self._shown(name, known)

        @routes.put(f"{root}/<name>")
        def put(name: str) -> Any:
            given = flask.request.get_json()["properties"]
            if "credentials" not in given:
                return failure(400, "UserError", "credentials is missing.")
            with self._lock:
                known = self._read()
                was_default = known.get(name, {}).get("isDefault", False)
                made = {**given, "isDefault": was_default or given.get("isDefault", False)}
                others = {other: {**one, "isDefault": False} for other, one in known.items() if made["isDefault"]}
                self._write({**known, **others, name: made})
            return self._shown(name, made), 201

        @routes.delete(f"{root}/<name>")
        def delete(name: str) -> Any:
            with self._lock:
                known = self._read()
                if known.pop(name, None) is None:
                    return "", 204
                self._write(known)
            return "", 200

        @routes.post(f"{root}/<name>/listSecrets")
        def secrets(name: str) -> Any:
            if name == ARTIFACT_STORE:
                _, _, signature = self._blobs.container_address(ARTIFACTS, write=False).partition("?")
                return {"secretsType": "Sas", "sasToken": signature}
            known = self._read().get(name)
            if known is None:
                return _missing(name)
            found = known["credentials"].get("secrets")
            if found is None:
                return failure(400, "UserError", f"The datastore '{name}' keeps no credentials.")
            asked = flask.request.get_json(silent=True) or {}
            if asked.get("expirableSecret") and found["secretsType"] == "AccountKey":
                return {"secretsType": "Sas", "sasToken": _signed(known, found["key"], asked["expireAfterHours"])}
            return found

        return routes

    def known(self) -> dict[str, Any]:
        """What is known of each, by name."""
        artifacts = {
            "accountName": self._blobs.account,
            "endpoint": "core.windows.net",
            "protocol": "https",
            "datastoreType": "AzureBlob",
            "containerName": ARTIFACTS,
            "isDefault": False,
            "credentials": {"credentialsType": "Sas"},
        }
        return {**self._read(), ARTIFACT_STORE: artifacts}

    def _shown(self, name: str, known: dict[str, Any]) -> dict[str, Any]:
        credentials = {key: value for key, value in known["credentials"].items() if key != "secrets"}
        now = dt.datetime.now(dt.timezone.utc).isoformat()
        return {
            "id": f"{self._workspace}/datastores/{name}",
            "name": name,
            "type": _TYPE,
            "properties": {"tags": {}, "properties": {}, **known, "credentials": credentials},
            "systemData": {"createdAt": now, "lastModifiedAt": now},
        }

    def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._file.read_text(encoding="utf-8"))
        return found

    def _write(self, known: dict[str, Any]) -> None:
        whole = self._file.with_suffix(".new")
        whole.touch(mode=0o600)
        whole.write_text(json.dumps(known), encoding="utf-8")
        whole.replace(self._file)


def _signed(known: dict[str, Any], key: str, hours: int) -> str:
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    rights = ContainerSasPermissions(read=True, write=True, delete=True, list=True, add=True, create=True)
    end = dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=hours)
    container = known.get("containerName") or known["filesystem"]
    return generate_container_sas(known["accountName"], container, account_key=key, permission=rights, expiry=end)


def _missing(name: str) -> Any:
    return failure(404, "UserError", f"Could not find datastore with name {name}.")
