"""What opens a storage account: as Hadoop's settings for Spark, and as credentials of Azure's clients for Python."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from aml_spark import auth
from aml_spark.location import Location
from aml_spark.refusals import refused

SCOPE = "https://storage.azure.com/.default"
_AUTHORITY = "https://login.microsoftonline.com"
_METADATA_SERVICE = "http://169.254.169.254/metadata/identity/oauth2/token"  # the same on all of Azure's machines
_SIGNED_FOR = dt.timedelta(days=7)  # the longest that Azure signs for
_CLOCKS = dt.timedelta(minutes=15)  # that this machine's clock may be ahead


class Credential(Protocol):
    """One way to be let into an account. Its `repr` shows no secret."""

    def hadoop(self) -> dict[str, str]:
        """Hadoop's settings, `fs.azure.account.auth.type` and more, without the account at their ends.

        Raises:
            AuthenticationError: they have to be asked for, and aren't given.
        """

    def azure(self) -> Any:
        """What a client of `azure-storage-file-datalake` takes as `credential`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountKey:
    """One of an account's two keys; it opens all that the account holds.

    Args:
        key: in base64, as the portal shows it.
    """

    key: str = field(repr=False)

    def hadoop(self) -> dict[str, str]:
        """See `Credential`."""
        return {"fs.azure.account.auth.type": "SharedKey", "fs.azure.account.key": self.key}

    def azure(self) -> Any:
        """See `Credential`."""
        return self.key


@dataclass(frozen=True, slots=True, kw_only=True)
class SasToken:
    """A shared access signature; it opens what it was made for, until it ends.

    Args:
        token: `sv=…&sig=…`, with or without a question mark before it.
    """

    token: str = field(repr=False)

    def hadoop(self) -> dict[str, str]:
        """See `Credential`. Open-source Spark takes it from 4.0."""
        return {"fs.azure.account.auth.type": "SAS", "fs.azure.sas.fixed.token": self.token.removeprefix("?")}

    def azure(self) -> Any:
        """See `Credential`."""
        from azure.core.credentials import AzureSasCredential

        return AzureSasCredential(self.token.removeprefix("?"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePrincipal:
    """An application in Microsoft Entra with a secret.

    Args:
        tenant_id: its tenant.
        client_id: the application.
        client_secret: its secret.
        authority: address of Entra; another one in national clouds.
    """

    tenant_id: str
    client_id: str
    client_secret: str = field(repr=False)
    authority: str = _AUTHORITY

    def hadoop(self) -> dict[str, str]:
        """See `Credential`."""
        return {
            **_oauth("ClientCredsTokenProvider"),
            "fs.azure.account.oauth2.client.endpoint": f"{_address(self.authority)}{self.tenant_id}/oauth2/token",
            "fs.azure.account.oauth2.client.id": self.client_id,
            "fs.azure.account.oauth2.client.secret": self.client_secret,
        }

    def azure(self) -> Any:
        """See `Credential`."""
        from azure.identity import ClientSecretCredential

        return ClientSecretCredential(
            self.tenant_id,
            self.client_id,
            self.client_secret,
            authority=self.authority,
            disable_instance_discovery=auth.is_private_cloud(self.authority),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedIdentity:
    """The identity of the machine that Spark runs on, on Azure.

    Args:
        client_id: of a user-assigned identity; None for the machine's own.
        tenant_id: its tenant, which Spark before 4.0 asks for.
        endpoint: where the machine's tokens are had.
    """

    client_id: str | None = None
    tenant_id: str | None = None
    endpoint: str = _METADATA_SERVICE

    def hadoop(self) -> dict[str, str]:
        """See `Credential`."""
        settings = {**_oauth("MsiTokenProvider"), "fs.azure.account.oauth2.msi.endpoint": self.endpoint}
        if self.tenant_id:
            settings["fs.azure.account.oauth2.msi.tenant"] = self.tenant_id
        if self.client_id:
            settings["fs.azure.account.oauth2.client.id"] = self.client_id
        return settings

    def azure(self) -> Any:
        """See `Credential`."""
        from azure.identity import ManagedIdentityCredential

        return ManagedIdentityCredential(client_id=self.client_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadIdentity:
    """The identity of a workload in Kubernetes. Spark takes it from 4.1.

    Args:
        tenant_id: its tenant.
        client_id: the application.
        token_file: where Kubernetes keeps the workload's token, on the driver and on each executor.
        authority: address of Entra.
    """

    tenant_id: str
    client_id: str
    token_file: str
    authority: str = _AUTHORITY

    def hadoop(self) -> dict[str, str]:
        """See `Credential`."""
        return {
            **_oauth("WorkloadIdentityTokenProvider"),
            "fs.azure.account.oauth2.msi.authority": _address(self.authority),
            "fs.azure.account.oauth2.msi.tenant": self.tenant_id,
            "fs.azure.account.oauth2.client.id": self.client_id,
            "fs.azure.account.oauth2.token.file": self.token_file,
        }

    def azure(self) -> Any:
        """See `Credential`."""
        from azure.identity import WorkloadIdentityCredential

        return WorkloadIdentityCredential(
            tenant_id=self.tenant_id,
            client_id=self.client_id,
            token_file_path=self.token_file,
            authority=self.authority,
            disable_instance_discovery=auth.is_private_cloud(self.authority),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """Whoever `azure-identity` finds on this machine, such as the one of `az login`.

    Hadoop can't ask it, so Spark gets a signature for the file system, which Azure makes for that person (a user
    delegation SAS); it is good for seven days and opens no more than the person may.

    Args:
        location: a place in the file system.
    """

    location: Location

    def hadoop(self) -> dict[str, str]:
        """See `Credential`."""
        return SasToken(token=signature(self, self.location)).hadoop()

    def azure(self) -> Any:
        """See `Credential`."""
        return auth.tokens(SCOPE)


def signature(
    credential: Credential, location: Location, *, write: bool = True, lifetime: dt.timedelta = _SIGNED_FOR
) -> str:
    """A shared access signature for a file system, or the one that there is.

    Args:
        credential: what opens the account.
        location: a place in the file system.
        write: whether it lets its bearer write, move and delete, besides reading and listing.
        lifetime: how long it is good for; seven days at most.

    Raises:
        AuthenticationError: nobody is signed in.
        DataLakeError: the account gives this identity no key to sign with, or isn't reached.
    """
    if isinstance(credential, SasToken):
        return credential.token.removeprefix("?")
    from azure.core.exceptions import AzureError
    from azure.storage.filedatalake import DataLakeServiceClient, FileSystemSasPermissions, generate_file_system_sas

    start = dt.datetime.now(dt.timezone.utc) - _CLOCKS
    end = start + lifetime
    if isinstance(credential, AccountKey):
        key: Any = credential.key
    else:
        with DataLakeServiceClient(f"https://{location.host}", credential.azure()) as client:
            try:
                key = client.get_user_delegation_key(start, end)
            except AzureError as error:
                raise refused(location, error) from None
    rights = FileSystemSasPermissions(read=True, list=True, execute=True)
    if write:
        rights = FileSystemSasPermissions(
            read=True, add=True, create=True, write=True, delete=True, list=True, move=True, execute=True
        )
    return generate_file_system_sas(location.account, location.filesystem, key, rights, end, start=start)


def discover(location: Location) -> Credential:
    """The first of these that is there: a key or a signature for the account, a service principal, a workload's
    identity, and else whoever is signed in.

    Looked for in the environment under the names of Azure's own tools (`AZURE_STORAGE_ACCOUNT` with
    `AZURE_STORAGE_KEY` or `AZURE_STORAGE_SAS_TOKEN`; `AZURE_TENANT_ID` and `AZURE_CLIENT_ID` with `AZURE_CLIENT_SECRET`
    or `AZURE_FEDERATED_TOKEN_FILE`) and, before these, in the Databricks secret scope that `AML_SPARK_SECRET_SCOPE`
    names: `<account>-key`, `<account>-sas`, or `tenant-id`, `client-id` and `client-secret`.
    """
    return next(found for way in (_of_scope, _of_environment) for found in way(location))


def _of_scope(location: Location) -> Iterator[Credential]:
    kinds: tuple[tuple[Callable[..., Credential], dict[str, str]], ...] = (
        (AccountKey, {"key": f"{location.account}-key"}),
        (SasToken, {"token": f"{location.account}-sas"}),
        (ServicePrincipal, {name: name.replace("_", "-") for name in ("tenant_id", "client_id", "client_secret")}),
    )
    for kind, names in kinds:
        found = {name: auth.scope_secret(key) for name, key in names.items()}
        if all(found.values()):
            yield kind(**found)


def _of_environment(location: Location) -> Iterator[Credential]:
    environ = os.environ
    if environ.get("AZURE_STORAGE_ACCOUNT") == location.account:  # a signature isn't for other accounts' eyes
        if key := environ.get("AZURE_STORAGE_KEY"):
            yield AccountKey(key=key)
        if token := environ.get("AZURE_STORAGE_SAS_TOKEN"):
            yield SasToken(token=token)
    who = {name: environ.get(f"AZURE_{name.upper()}", "") for name in ("tenant_id", "client_id")}
    if all(who.values()):
        who["authority"] = environ.get("AZURE_AUTHORITY_HOST") or _AUTHORITY
        if secret := environ.get("AZURE_CLIENT_SECRET"):
            yield ServicePrincipal(client_secret=secret, **who)
        if file := environ.get("AZURE_FEDERATED_TOKEN_FILE"):
            yield WorkloadIdentity(token_file=file, **who)
    yield SignedIn(location=location)


def _oauth(provider: str) -> dict[str, str]:
    return {
        "fs.azure.account.auth.type": "OAuth",
        "fs.azure.account.oauth.provider.type": f"org.apache.hadoop.fs.azurebfs.oauth2.{provider}",
    }


def _address(authority: str) -> str:
    """The authority with its scheme, which azure-identity's own names of them lack."""
    return f"{authority if '://' in authority else f'https://{authority}'}".rstrip("/") + "/"
