"""The code of jobs: uploaded by clients to a container of its own, known by the hash of its files."""

from __future__ import annotations

import datetime as dt
import uuid
from pathlib import Path
from typing import Any

import flask

from aml_spark.testing.artifacts import failure
from aml_spark.testing.control.records import Records, shown
from aml_spark.testing.lake import account

_KIND = "Microsoft.MachineLearningServices/workspaces/codes/versions"
_HASH = "hash_sha256"
_LIFETIME = dt.timedelta(hours=1)  # that an upload has


class Codes:
    """The code assets of one workspace.

    Args:
        folder: gets `codes.json`.
        workspace: the workspace's ARM path.
        lake: where the files are uploaded to.
    """

    def __init__(self, folder: Path, workspace: str, lake: account.LakeAccount) -> None:
        self._records, self._root, self._lake = Records(folder / "codes.json"), f"{workspace}/codes", lake

    def find(self, arm_id: str) -> str | None:
        """Where the files of a version lie, by its id; None: there is no such version."""
        known = self._records.get(arm_id.removeprefix(f"{self._root}/"))
        return None if known is None else str(known["codeUri"])

    def routes(self) -> flask.Blueprint:
        """Where to upload, create and get; and the versions with a hash, so that nothing is uploaded twice."""
        routes = flask.Blueprint("codes", __name__)
        root = f"{self._root}/<name>/versions"

        @routes.post(f"{root}/<version>/startPendingUpload")
        def upload(name: str, version: str) -> Any:
            # The same for each call, as for one that is made again after a break.
            container = f"code-{uuid.uuid5(uuid.NAMESPACE_URL, f'{name}/{version}')}"
            self._lake.create(container)
            address = f"https://{account.BLOB_HOST}/{container}"
            reference = {
                "blobUri": address,
                "storageAccountArmId": "",
                "credential": {"credentialType": "SAS", "sasUri": f"{address}?{self._signed(container)}"},
            }
            return {
                "pendingUploadId": container,
                "pendingUploadType": "TemporaryBlobReference",
                "blobReferenceForConsumption": reference,
            }

        @routes.get(root)
        def listed(name: str) -> Any:
            wanted = flask.request.args.get("hash")
            known = {key: each for key, each in self._records.all().items() if key.startswith(f"{name}/versions/")}
            found = [key for key, each in known.items() if wanted in (None, (each.get("properties") or {}).get(_HASH))]
            return {"value": [self._shown(key) for key in found]}

        @routes.get(f"{root}/<version>")
        def get(name: str, version: str) -> Any:
            key = f"{name}/versions/{version}"
            if self._records.get(key) is None:
                return failure(404, "UserError", f"No code asset exists for name: {name}, version: {version}")
            return self._shown(key)

        @routes.put(f"{root}/<version>")
        def put(name: str, version: str) -> Any:
            key, given = f"{name}/versions/{version}", flask.request.get_json()["properties"]
            with self._records.changed() as everything:
                old = everything.get(key)
                if old is not None and old["codeUri"] != given["codeUri"]:
                    return failure(409, "UserError", "The code uri is already linked to another asset.")
                everything[key] = given
            return self._shown(key), 201 if old is None else 200

        return routes

    def _shown(self, key: str) -> dict[str, Any]:
        known = {"tags": {}, "properties": {}, **self._records.get(key)}
        return shown(f"{self._root}/{key}", _KIND, known)

    def _signed(self, container: str) -> str:
        from azure.storage.blob import ContainerSasPermissions, generate_container_sas

        rights = ContainerSasPermissions(read=True, write=True, list=True, add=True, create=True)
        end = dt.datetime.now(dt.timezone.utc) + _LIFETIME
        key = self._lake.key
        return str(generate_container_sas(account.ACCOUNT, container, account_key=key, permission=rights, expiry=end))
