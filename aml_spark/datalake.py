"""A data lake: what a URI means, and a Spark session or a client for Python that is let into it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_spark import datastore, session
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
from aml_spark.errors import ArgumentError, DataLakeError, SessionError
from aml_spark.location import DatastorePath, Location, in_lake, is_of_azure

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
_SIGNED = "aml_spark.lake.signed"  # and the account: the file system that our signature is for
_LEAST_SPARK: Mapping[type, tuple[int, int]] = {SasToken: (4, 0), SignedIn: (4, 0), WorkloadIdentity: (4, 1)}
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
    if importlib.util.find_spec("azure") is None or importlib.util.find_spec("azure.identity") is None:
        raise DataLakeError("Azure's clients aren't installed", hint="pip install 'aml-spark[azure]'")
    own: Credential | None = None
    if isinstance(place, Location):
        location = place
    elif place.lower().startswith("azureml:"):
        location, own = datastore.find(DatastorePath.of(place))
    else:
        location = Location.of(place)
    return LakePath(location=location, credential=credential or own or discover(location))


def settings(path: LakePath, *, of_account: bool | None = None) -> Mapping[str, str]:
    """Hadoop's settings that open the account, each for this account alone. They hold secrets.

    Spark takes them as they are in a session's `spark.conf`. With `spark.hadoop.` before them it takes them when it
    starts, too, but shows an account's key in its event log then, unless `spark.redaction.regex` names it.

    Args:
        path: a place in it.
        of_account: whether a signature is set for all file systems of the account, as Spark before 4.1 and Databricks
            have it; False for that of the place; None as the installed pyspark has it.

    Raises:
        AuthenticationError: nobody is signed in.
        DataLakeError: the account doesn't sign for who is.
    """
    if of_account is None:
        import pyspark

        of_account = _of_account((int(pyspark.__version__.split(".")[0]), int(pyspark.__version__.split(".")[1])))
    found = path.credential.hadoop()
    if _SIGNATURE in found and session.on_databricks():
        found["fs.azure.sas.token.provider.type"] = _FIXED_ON_DATABRICKS
    where = dict.fromkeys(found, path.location.host)
    if not of_account and _SIGNATURE in found:
        where[_SIGNATURE] = f"{path.location.filesystem}.{path.location.host}"
    return {f"{name}.{where[name]}": value for name, value in found.items()}


def connect(spark: SparkSession, path: LakePath) -> None:
    """Let a session into the account, by its own settings and for this account alone.

    Sessions that are copied from this one afterwards have the same. Java keeps its first connection to a file system
    for all sessions of its process, so another credential for one that was read takes a new process.

    Raises:
        AuthenticationError, DataLakeError: see `settings`; or the session is let into the account in another way.
        SessionError: the session takes no such settings, or its Spark no such credential.
    """
    kind, host = type(path.credential), path.location.host
    version = session.spark_version(spark)
    if not session.on_databricks() and version < (least := _LEAST_SPARK.get(kind, (3, 5))):
        raise SessionError(
            f"Spark {spark.version} takes no {kind.__name__} for a storage account; it needs {least[0]}.{least[1]}",
            hint="give an AccountKey or a ServicePrincipal: datalake.find(…, credential=…)",
        )
    wanted = settings(path, of_account=_of_account(version))
    for name, value in wanted.items():
        had = session.setting(spark, name)
        if had not in (None, value) and (name.startswith(_KIND) or _of_account(version)):
            raise DataLakeError(
                f"the session is let into the account {path.location.account!r} in another way already",
                hint="an account has one credential in a session: give it to datalake.find, or use newSession()",
            )
    try:
        hidden = spark.conf.get(_REDACTED)
        if _KEYS not in (hidden or ""):
            spark.conf.set(_REDACTED, f"{hidden}|{_KEYS}" if hidden else _KEYS)
        if _SIGNATURE in "".join(wanted):
            spark.conf.set(f"{_SIGNED}.{host}", path.location.filesystem)
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
    if not isinstance(text, str):
        raise ArgumentError(
            f"a table is given as {type(text).__name__}; expected its name, path or URI as a text",
            hint="str(path); rows of a DataFrame are written to a Delta table first, or scored by spark_udf",
        )
    wrapped = re.fullmatch(r"(?i)delta\.`([^`]+)`", text)
    text = wrapped[1] if wrapped else text
    if not in_lake(text):
        return text
    path = find(text) if text.lower().startswith("azureml:") else None
    if path is None and (session.on_databricks() or not is_of_azure(text)):  # of OneLake, or behind a name of its own
        return text
    location = path.location if path else Location.of(text)
    if not _is_connected(spark, location):
        connect(spark, path or find(location))
    return location.uri


def client(path: LakePath) -> FileSystemClient:
    """A client of `azure-storage-file-datalake` for the file system."""
    from azure.storage.filedatalake import FileSystemClient

    location = path.location
    return FileSystemClient(f"https://{location.host}", location.filesystem, path.credential.azure())


def _of_account(version: tuple[int, int]) -> bool:
    """Whether Hadoop takes one signature for an account."""
    return session.on_databricks() or version < (4, 1)


def _is_connected(spark: SparkSession, location: Location) -> bool:
    """Whether the session has settings for the place: ours, or somebody's who has taken care of it."""
    account = [f".{location.host}", ""]

    def has(name: str, ends: list[str]) -> str | None:
        names = (f"{start}{name}{end}" for end in ends for start in ("", "spark.hadoop."))
        return next((found for one in names if (found := session.setting(spark, one))), None)

    if has(_KIND, account) == "SAS":
        if (of := session.setting(spark, f"{_SIGNED}.{location.host}")) and of != location.filesystem:
            return False  # ours, for another one
        signed = has(_SIGNATURE, [f".{location.filesystem}.{location.host}", *account])
        return bool(signed or has("fs.azure.sas.token.provider.type", account))
    return bool(has(_KIND, account) or has(_KEY, account))
