"""Microsoft Entra's part: tokens for who proves who they are, and whether a request carries a good one.

Proofs are those that `azure-identity` knows: a client's secret, a client's certificate, the token of a workload that is
trusted (Kubernetes), and the header of a managed identity.
"""

from __future__ import annotations

import hmac
import secrets
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flask
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from aml_spark.testing import certificates

AUDIENCES = ("https://management.azure.com", "https://management.core.windows.net", "https://ml.azure.com")
_ALGORITHM = "ES256"
_EXCHANGE = "api://AzureADTokenExchange"  # audience of the tokens of workloads


class RefusedToken(Exception):  # noqa: N818 - as Azure calls it
    """The text says why."""


@dataclass
class Identity:
    """One tenant with one application in it, and the tokens that it gave out.

    Args:
        lifetime: seconds that a token is good for.
    """

    lifetime: float = 3600
    tenant_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    client_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    identity_header: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    _client_key: Any = field(default_factory=lambda: rsa.generate_private_key(65537, 2048), repr=False)
    _key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False)

    def token(self, audience: str = AUDIENCES[0], lifetime: float | None = None) -> str:
        """A signed token; a negative lifetime makes one that has ended."""
        now = time.time()
        claims = {
            "aud": audience,
            "iss": f"https://sts.windows.net/{self.tenant_id}/",
            "tid": self.tenant_id,
            "appid": self.client_id,
            "nbf": int(now) - 3600,
            "exp": int(now + (self.lifetime if lifetime is None else lifetime)),
            "jti": uuid.uuid4().hex,
        }
        return jwt.encode(claims, self._key, _ALGORITHM)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write the client's certificate with its key, and the token of a workload; gives both files."""
        certificate, token = folder / "client.pem", folder / "federated.token"
        for file in (certificate, token):
            file.touch(mode=0o600)
        certificate.write_bytes(certificates.self_signed("aml-spark emulator client", self._client_key))
        token.write_text(self.token(_EXCHANGE))
        return certificate, token

    def check(self, authorization: str | None, audiences: tuple[str, ...] = AUDIENCES) -> None:
        """Look at the Authorization header of a request.

        Args:
            authorization: the header.
            audiences: whom its token may be for.

        Raises:
            RefusedToken: there is none, somebody else signed it, it is for another audience, or it has ended.
        """
        kind, _, token = (authorization or "").partition(" ")
        if kind != "Bearer" or not token:
            raise RefusedToken("Bearer token not provided.")
        try:
            claims = jwt.decode(token, self._key.public_key(), [_ALGORITHM], options={"verify_aud": False})
        except jwt.ExpiredSignatureError:
            raise RefusedToken("The token has expired.") from None
        except jwt.InvalidTokenError:
            raise RefusedToken("The token's signature is not valid.") from None
        if str(claims.get("aud", "")).rstrip("/") not in audiences:
            raise RefusedToken(f"The token is for the audience {claims.get('aud')!r}.")

    def routes(self) -> flask.Blueprint:
        """What `azure-identity` and Hadoop ask: where a tenant's endpoints are, and tokens for each kind of proof."""
        routes = flask.Blueprint("identity", __name__)

        @routes.get("/common/discovery/instance")
        def discovery() -> Any:
            return {
                "tenant_discovery_endpoint": f"{_base()}/{self.tenant_id}/v2.0/.well-known/openid-configuration",
                "metadata": [
                    {
                        "preferred_network": flask.request.host,
                        "preferred_cache": flask.request.host,
                        "aliases": [flask.request.host],
                    }
                ],
            }

        @routes.get("/<tenant>/v2.0/.well-known/openid-configuration")
        def configuration(tenant: str) -> Any:
            if tenant != self.tenant_id:
                return _failure("invalid_tenant", f"AADSTS90002: Tenant '{tenant}' not found.")
            return {
                "issuer": f"{_base()}/{tenant}/v2.0",
                "authorization_endpoint": f"{_base()}/{tenant}/oauth2/v2.0/authorize",
                "token_endpoint": f"{_base()}/{tenant}/oauth2/v2.0/token",
            }

        @routes.post("/<tenant>/oauth2/token")  # the first version: for a resource instead of a scope
        @routes.post("/<tenant>/oauth2/v2.0/token")
        def token(tenant: str) -> Any:
            asked = flask.request.form
            if tenant != self.tenant_id:
                return _failure("invalid_request", f"AADSTS90002: Tenant '{tenant}' not found.")
            if asked.get("grant_type") != "client_credentials":
                return _failure("unsupported_grant_type", "AADSTS70003: only client_credentials is answered here.")
            if asked.get("client_id") != self.client_id:
                return _failure("unauthorized_client", "AADSTS700016: Application was not found in the directory.")
            if "client_assertion" in asked:
                if not self._vouched(asked["client_assertion"]):
                    return _failure("invalid_client", "AADSTS700027: The client assertion is not valid.", 401)
            elif not hmac.compare_digest(asked.get("client_secret", "").encode(), self.client_secret.encode()):
                return _failure("invalid_client", "AADSTS7000215: Invalid client secret provided.", 401)
            audience = asked.get("resource") or asked.get("scope", "").removesuffix("/.default")
            return self._given(audience, expires_on=False)

        @routes.get("/msi/token")
        def managed() -> Any:
            if not hmac.compare_digest(flask.request.headers.get("X-IDENTITY-HEADER", ""), self.identity_header):
                return _failure("unauthorized_client", "The header is not the identity's.", 401)
            token = self.token(flask.request.args["resource"])
            return {"token_type": "Bearer", "expires_on": str(int(time.time() + self.lifetime)), "access_token": token}

        @routes.get("/metadata/identity/oauth2/token")
        def of_machine() -> Any:
            if flask.request.headers.get("Metadata", "").lower() != "true":
                return _failure("invalid_request", "Required metadata header not specified.")
            if not (resource := flask.request.args.get("resource")):
                return _failure("invalid_request", "Required query variable 'resource' is missing.")
            if "storage" not in resource:  # it takes no secret, so it opens the lake only
                return _failure("invalid_resource", "The machine's identity is for storage only here.")
            return self._given(resource, expires_on=True)

        return routes

    def _given(self, audience: str, *, expires_on: bool) -> dict[str, Any]:
        seconds = int(self.lifetime)
        more = {"expires_on": str(int(time.time()) + seconds), "resource": audience} if expires_on else {}
        return {"token_type": "Bearer", "expires_in": seconds, "access_token": self.token(audience), **more}

    def _vouched(self, assertion: str) -> bool:
        """Whether the client's certificate signed it, or the cluster of the workloads, which is played here, too."""
        keys: tuple[Any, ...] = (
            (self._client_key, ["RS256", "PS256"], {"options": {"verify_aud": False}}),
            (self._key, [_ALGORITHM], {"audience": _EXCHANGE}),
        )
        for key, algorithms, checked in keys:
            try:
                jwt.decode(assertion, key.public_key(), algorithms, **checked)
                return True
            except jwt.InvalidTokenError:
                continue
        return False


def _base() -> str:
    return f"https://{flask.request.host}"


def _failure(error: str, description: str, status: int = 400) -> Any:
    return {"error": error, "error_description": description, "correlation_id": str(uuid.uuid4())}, status
