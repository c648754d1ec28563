"""Managed online endpoints, as Azure Resource Manager answers for them: their keys, tokens and traffic."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flask

from aml_spark.testing.control.endpoints import BUSY, Resources, blueprint, busy, check_name, invalid, missing
from aml_spark.testing.control.operations import Operations
from aml_spark.testing.control.records import shown
from aml_spark.testing.control.workspaces import LOCATION
from aml_spark.testing.identity import Identity, RefusedToken

KIND = "onlineEndpoints"
DOMAIN = f".{LOCATION}.inference.ml.azure.com"
_TYPE = f"Microsoft.MachineLearningServices/workspaces/{KIND}"
_TAKEN = (
    "There is already an endpoint with this name, Endpoint name needs to be unique within a region. "
    "Try some other name."
)
_MOST_MIRRORED = 50  # percent
_KEEPS = ("location", "tags", "identity", "kind", "sku")


class OnlineEndpoints:
    """The online endpoints of one workspace.

    Args:
        folder: gets `onlineEndpoints.json`, with their keys.
        workspace: the workspace's ARM path.
        operations: the long ones.
        identity: makes tokens for endpoints that want them.
        deployments: the states of an endpoint's deployments, by their names.
        remove: ends and forgets an endpoint's deployments.
    """

    def __init__(
        self,
        folder: Path,
        workspace: str,
        operations: Operations,
        identity: Identity,
        *,
        deployments: Callable[[str], Mapping[str, str]],
        remove: Callable[[str], object],
    ) -> None:
        self._root = f"{workspace}/{KIND}"
        self._workspace, self._identity = workspace, identity
        self._deployments, self._remove = deployments, remove
        self._resources = Resources(folder / f"{KIND}.json", self._root, operations)
        self._taken: set[str] = set()

    def get(self, name: str) -> dict[str, Any]:
        """What is known of one.

        Raises:
            Refused: there is none.
        """
        known: dict[str, Any] | None = self._resources.records.get(name)
        if known is None:
            raise missing(KIND, self._workspace, name)
        return known

    def by_host(self, host: str) -> str | None:
        """The name of the one that has a host of its own; None: no such host."""
        names = {f"{name}{DOMAIN}".lower(): name for name in self._resources.records.all()}
        return names.get(host.partition(":")[0].lower())

    def lacks(self, name: str, deployment: str) -> None:
        """Send nothing more to a deployment that is gone."""
        with self._resources.records.changed() as everything:
            for traffic in ("traffic", "mirrorTraffic"):
                everything[name]["properties"].get(traffic, {}).pop(deployment.lower(), None)

    def allows(self, name: str, authorization: str | None) -> tuple[int, str] | None:
        """Look at the Authorization header of a request for scoring; gives the status and the words of a refusal."""
        known = self.get(name)
        mode = known["properties"]["authMode"].lower()
        kind, _, given = (authorization or "").partition(" ")
        which = "key" if mode == "key" else "token"
        if kind != "Bearer" or not given:
            return 401, f"{which}_auth_bad_header_forbidden"
        if mode == "key":
            good = any(secrets.compare_digest(given.encode(), key.encode()) for key in known["keys"].values())
            return None if good else (403, "key_auth_access_denied")
        audience = _audience(name) if mode == "amltoken" else "https://ml.azure.com"
        try:
            self._identity.check(authorization, (audience,))
        except RefusedToken as refused:
            return 401, f"token_auth_access_denied: {refused}"
        return None

    def routes(self) -> flask.Blueprint:
        """List, get, create, change, delete; keys and tokens; and names that others have in the region."""
        routes = blueprint("online")
        one = f"{self._root}/<name>"

        @routes.get(self._root)
        def listed() -> Any:
            return {"value": [self._shown(name, known) for name, known in self._resources.records.all().items()]}

        @routes.get(one)
        def get(name: str) -> Any:
            return self._shown(name, self.get(name))

        @routes.put(one)
        def put(name: str) -> Any:
            return self._put(name, flask.request.get_json())

        @routes.delete(one)
        def delete(name: str) -> Any:
            if self._resources.records.get(name) is None:
                return "", 204
            if any(state in BUSY for state in self._deployments(name).values()):
                raise busy(name)

            def work() -> None:
                self._remove(name)
                self._resources.records.pop(name)

            return self._resources.begin(name, work, doing="Deleting")

        @routes.post(f"{one}/listKeys")
        def keys(name: str) -> Any:
            known = self.get(name)
            if known["properties"]["authMode"].lower() != "key":
                raise invalid(f"Endpoint '{name}' does not use keys for authentication.", "AuthMode")
            return {"primaryKey": known["keys"]["primary"], "secondaryKey": known["keys"]["secondary"]}

        @routes.post(f"{one}/regenerateKeys")
        def regenerate(name: str) -> Any:
            which = flask.request.get_json()["keyType"].lower()
            if which not in self.get(name)["keys"]:
                raise invalid("The type of a key is 'Primary' or 'Secondary'.", "KeyType")

            def work() -> None:
                with self._resources.records.changed() as everything:
                    everything[name]["keys"][which] = secrets.token_urlsafe(24)

            return self._resources.begin(name, work)

        @routes.post(f"{one}/token")
        def token(name: str) -> Any:
            if self.get(name)["properties"]["authMode"].lower() != "amltoken":
                raise invalid(f"Endpoint '{name}' does not use tokens for authentication.", "AuthMode")
            now, lifetime = int(time.time()), self._identity.lifetime
            return {
                "accessToken": self._identity.token(_audience(name)),
                "tokenType": "Bearer",
                "expiryTimeUtc": now + int(lifetime),
                "refreshAfterTimeUtc": now + int(lifetime / 2),
            }

        @routes.post("/emulator/endpoints/taken")
        def taken() -> Any:
            self._taken.add(flask.request.get_json()["name"])
            return {}

        return routes

    def _put(self, name: str, asked: dict[str, Any]) -> Any:
        check_name(name, "an endpoint")
        if name in self._taken:
            raise invalid(_TAKEN)
        given = asked["properties"]
        old = self._resources.records.get(name)
        properties = {
            "properties": {},
            "description": None,
            "publicNetworkAccess": "Enabled",
            **(old["properties"] if old else {}),
            **{key: value for key, value in given.items() if value is not None},
        }
        if old and properties["authMode"].lower() != old["properties"]["authMode"].lower():
            raise invalid("The authentication mode of an endpoint can't be changed.", "AuthMode")
        properties["traffic"] = _lower(properties.get("traffic"))
        properties["mirrorTraffic"] = _lower(properties.get("mirrorTraffic"))
        _check_traffic(properties["traffic"], properties["mirrorTraffic"], self._deployments(name))
        known = {
            **{key: asked[key] for key in _KEEPS if asked.get(key) is not None},
            "properties": properties,
            "keys": old["keys"] if old else {key: secrets.token_urlsafe(24) for key in ("primary", "secondary")},
        }
        show = lambda: self._shown(name, self.get(name))  # noqa: E731
        return self._resources.begin(name, lambda: None, known=known, show=show)

    def _shown(self, name: str, known: dict[str, Any]) -> dict[str, Any]:
        host = f"https://{name}{DOMAIN}"
        properties = {
            **known["properties"],
            "scoringUri": f"{host}/score",
            "swaggerUri": f"{host}/swagger.json",
            "provisioningState": known["state"],
        }
        beside = {"location": LOCATION, "kind": "Managed", **{key: known[key] for key in _KEEPS if key in known}}
        return shown(f"{self._root}/{name}", _TYPE, properties) | beside


def _audience(name: str) -> str:
    return f"https://{name}{DOMAIN}"


def _lower(traffic: Mapping[str, int] | None) -> dict[str, int]:
    return {name.lower(): percent for name, percent in (traffic or {}).items()}


def _check_traffic(live: Mapping[str, int], mirrored: Mapping[str, int], deployments: Mapping[str, str]) -> None:
    """Raise for what Azure doesn't take: live traffic is all or nothing, a copy of at most half goes to one more."""
    there = {name.lower() for name in deployments}
    for field, traffic in (("Traffic", live), ("MirrorTraffic", mirrored)):
        if unknown := sorted(set(traffic) - there):
            raise invalid(f"The deployment '{unknown[0]}' in the traffic rules does not exist.", field)
        if wrong := [value for value in traffic.values() if not 0 <= value <= 100]:
            raise invalid(f"A traffic percentage must be between 0 and 100, not {wrong[0]}.", field)
    if sum(live.values()) not in (0, 100):
        raise invalid(f"The sum of the traffic percentages must be 0 or 100, not {sum(live.values())}.", "Traffic")
    copied = {name: percent for name, percent in mirrored.items() if percent}
    if len(copied) > 1:
        raise invalid("Traffic can be mirrored to only one deployment.", "MirrorTraffic")
    for name, percent in copied.items():
        if percent > _MOST_MIRRORED:
            raise invalid(f"At most {_MOST_MIRRORED} percent of the traffic can be mirrored.", "MirrorTraffic")
        if live.get(name):
            raise invalid(f"The deployment '{name}' can't receive both live and mirrored traffic.", "MirrorTraffic")
