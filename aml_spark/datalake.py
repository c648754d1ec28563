"""A data lake: what a URI means, and a Spark session or a client for Python that is let into it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_spark import datastore, java, session
from aml_spark.credential import (
    AccountKey,
    Credential,
    ManagedIdentity,
    SasToken,
    ServicePrincipal,
    SignedIn,
    WorkloadIdentity,
    discover,
)
from aml_spark.errors import DataLakeError, SessionError
from aml_spark.location import DatastorePath, Location, in_lake

if TYPE_CHECKING:
    from azure.storage.filedatalake import FileSystemClient
    from pyspark.sql import SparkSession

__all__ = [
    "AccountKey",
    "LakePath",
    "Location",
    "ManagedIdentity",
    "SasToken",
    "ServicePrincipal",
    "SignedIn",
    "WorkloadIdentity",
    "client",
    "connect",
    "find",
    "settings",
]

_KIND, _KEY, _SIGNATURE = "fs.azure.account.auth.type", "fs.azure.account.key", "fs.azure.sas.fixed.token"
# Spark writes a session's settings to its event log and its web pages. It hides those whose names match this or have
# "secret" or "token" in them, which an account's key hasn't.
_REDACTED, _KEYS = "spark.sql.redaction.options.regex", "account[.]key"
_FIXED_ON_DATABRICKS = "org.apache.hadoop.fs.azurebfs.sas.FixedSASTokenProvider"


@dataclass(frozen=True, slots=True, kw_only=True)
class LakePath:
    """A folder or file in a data lake, and what opens it.

    Args:
        location: where it is.
        credential: what opens it.
    """

    location: Location
    credential: Credential

    @property
    def uri(self) -> str:
        """What Spark reads and writes: `abfss://…`."""
        return self.location.uri


def find(place: str | Location, *, credential: Credential | None = None) -> LakePath:
    """Find out what a URI means, and what opens it.

    Args:
        place: `abfss://<filesystem>@<account>.dfs.core.windows.net/<path>`, the `https` address of the same,
            `azureml://datastores/<name>/paths/<path>` for a datastore of the workspace that MLflow is configured for,
            or a `Location`.
        credential: what opens it; None takes the datastore's own, else what `credential.discover` finds.

    Raises:
        ArgumentError: it isn't such a place.
        DataLakeError: the workspace has no such datastore, or it isn't one of a storage account.
        WorkspaceError: MLflow isn't configured for a workspace that has datastores.
    """
    own: Credential | None = None
    if isinstance(place, Location):
        location = place
    elif place.lower().startswith("azureml:"):
        location, own = datastore.find(DatastorePath.of(place))
    else:
        location = Location.of(place)
    return LakePath(location=location, credential=credential or own or discover(location))


def settings(path: LakePath, *, of_account: bool = False) -> Mapping[str, str]:
    """Hadoop's settings that open the account, each for this account alone. They hold secrets.

    Spark takes them as they are in a session's `spark.conf`, and with `spark.hadoop.` before them when it starts.

    Args:
        path: a place in it.
        of_account: whether a signature is set for all file systems of the account, as Spark before 4.1 and Databricks
            have it; else for that of the place.

    Raises:
        AuthenticationError: nobody is signed in.
        DataLakeError: the account doesn't sign for who is.
    """
    found = path.credential.hadoop()
    if _SIGNATURE in found and session.on_databricks():
        found["fs.azure.sas.token.provider.type"] = _FIXED_ON_DATABRICKS
    where = dict.fromkeys(found, path.location.host)
    if not of_account and _SIGNATURE in found:
        where[_SIGNATURE] = f"{path.location.filesystem}.{path.location.host}"
    return {f"{name}.{where[name]}": value for name, value in found.items()}


def connect(spark: SparkSession, path: LakePath) -> None:
    """Let a session into the account, by its own settings and for this account alone.

    Other sessions aren't changed, and those that are copied from this one afterwards have the same. Java keeps the
    first connection to a file system, so another credential for one that was read already takes a new Java process.

    Raises:
        AuthenticationError, DataLakeError: see `settings`.
        SessionError: the session takes no such settings.
    """
    older = session.on_databricks() or session.spark_version(spark) < (4, 1)
    wanted = settings(path, of_account=older)
    hidden = session.setting(spark, _REDACTED) or ""
    try:
        if _KEYS not in hidden:
            spark.conf.set(_REDACTED, f"{hidden}|{_KEYS}" if hidden else _KEYS)
        for name, value in wanted.items():
            spark.conf.set(name, value)
    except Exception as error:
        raise SessionError(
            f"this session takes no settings for {path.location.account!r} ({type(error).__name__})",
            hint="on serverless compute of Databricks make it an external location of Unity Catalog",
        ) from None


def reach(spark: SparkSession, text: str) -> str:
    """Let a session into the place that a text names, if it is one of a lake.

    Args:
        spark: the session. Nothing is set in it where it has settings for the account, nor on Databricks, whose Unity
            Catalog decides, unless the place is a datastore's.
        text: a table's name, a path or a URI.

    Returns:
        What Spark takes: the same, but `abfss://…` for a place in a lake.

    Raises:
        ArgumentError, AuthenticationError, DataLakeError, SessionError, WorkspaceError: see `find` and `connect`.
    """
    if not in_lake(text):
        return text
    of_datastore = text.lower().startswith("azureml:")
    if not of_datastore:
        location = Location.of(text)
        if session.on_databricks() or _is_connected(spark, location):
            return location.uri
    path = find(text)
    if not _is_connected(spark, path.location):
        connect(spark, path)
    return path.uri


def client(path: LakePath) -> FileSystemClient:
    """A client of `azure-storage-file-datalake` for the file system.

    Raises:
        DataLakeError: the package isn't installed.
    """
    try:
        from azure.storage.filedatalake import FileSystemClient
    except ImportError:
        raise DataLakeError(
            "azure-storage-file-datalake isn't installed", hint="pip install 'aml-spark[azure]'"
        ) from None
    location = path.location
    return FileSystemClient(f"https://{location.host}", location.filesystem, path.credential.azure())


def _is_connected(spark: SparkSession, location: Location) -> bool:
    """Whether the session has settings for the place: ours, or somebody's who has taken care of it."""
    account = [f".{location.host}", ""]

    def has(name: str, ends: list[str]) -> str | None:
        names = (f"{start}{name}{end}" for end in ends for start in ("", "spark.hadoop."))
        return next((found for one in names if (found := session.setting(spark, one))), None)

    if has(_KIND, account) == "SAS":
        signed = has(_SIGNATURE, [f".{location.filesystem}.{location.host}", *account])
        return bool(signed or has("fs.azure.sas.token.provider.type", account))
    return bool(has(_KIND, account) or has(_KEY, account))


def refusal(text: str, error: BaseException) -> DataLakeError | None:
    """What Spark's error says of a place in a lake, or None where it isn't about one.

    Args:
        text: the place.
        error: what Spark raised.
    """
    told = str(error)
    if "azurebfs.SecureAzureBlobFileSystem" in told and "not found" in told:
        return DataLakeError(
            f"this Spark session can't read {text!r}: Hadoop's driver for data lakes isn't among its jars",
            hint="start again with aml_spark.get_spark(uris=[…]) or spark-submit --packages "
            f"{java.lake_package()}; Spark takes jars only when it starts",
        )
    for code in _NO_ENTRY:
        if in_lake(text) and (re.search(rf"\b{code}\b", told) or _SAID.get(code, code) in told):
            return refused(Location.of(text), code)
    return None


# Where an answer has no body, Hadoop tells what stands beside its status.
_SAID = {
    "AuthenticationFailed": "failed to authenticate the request",
    "AuthorizationPermissionMismatch": "not authorized to perform this operation using this permission",
    "AuthorizationFailure": "not authorized to perform this operation.",
    "FilesystemNotFound": "specified filesystem does not exist",
}


def refused(location: Location, code: str) -> DataLakeError:
    """What an answer of the storage means.

    Args:
        location: the place.
        code: Azure's error code, such as `AuthorizationPermissionMismatch`.
    """
    what, hint = {**_NO_ENTRY, **_OF_FILES}.get(code, ("refuses what was asked of {0.path!r} in {0.filesystem!r}", ""))
    return DataLakeError(
        f"the account {location.account!r} {what.format(location)} ({code})", hint=hint.format(location) or None
    )


_NO_ENTRY: Mapping[str, tuple[str, str]] = {
    "AuthenticationFailed": (
        "doesn't accept the key or the signature for {0.path!r} in {0.filesystem!r}",
        "check that it is this account's and hasn't ended or been rotated; then start a new session",
    ),
    "AuthorizationPermissionMismatch": (
        "doesn't let this identity at {0.path!r} in {0.filesystem!r}",
        "give it the role Storage Blob Data Contributor on the account, or rwx in the access control list of the path "
        "and x in those of the folders above it",
    ),
    "AuthorizationFailure": (
        "doesn't let requests from here at {0.path!r} in {0.filesystem!r}",
        "look at the account's firewall and private endpoints",
    ),
    "InvalidAuthenticationInfo": (
        "doesn't accept the token for {0.path!r} in {0.filesystem!r}",
        "check the tenant, and this machine's clock",
    ),
    "FilesystemNotFound": (
        "has no file system {0.filesystem!r}",
        "az storage fs create --account-name {0.account} --name {0.filesystem}",
    ),
    "UnknownHostException": (
        "isn't found: {0.host!r} has no address",
        "check its name; a private endpoint needs its private DNS zone",
    ),
}
_OF_FILES: Mapping[str, tuple[str, str]] = {
    "PathNotFound": ("has no {0.path!r} in {0.filesystem!r}", "aml-spark datastore ls"),
    "BlobNotFound": ("has no {0.path!r} in {0.filesystem!r}", "aml-spark datastore ls"),
    "ConditionNotMet": ("has another {0.path!r} in {0.filesystem!r} now", "it was written meanwhile; try again"),
}
