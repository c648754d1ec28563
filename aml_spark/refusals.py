"""What storage accounts refuse, in our words: from what Azure's clients for Python raise, and from what Spark says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aml_spark import java
from aml_spark.errors import AmlSparkError, AuthenticationError, DataLakeError
from aml_spark.location import Location, is_of_azure


def refusal(text: str, error: BaseException) -> AmlSparkError | None:
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
        if is_of_azure(text) and (re.search(rf"\b{code}\b", told) or _SAID.get(code, code) in told):
            return refused(Location.of(text), code)
    return None


# Where an answer has no body, Hadoop tells what stands beside its status.
_SAID = {
    "AuthenticationFailed": "failed to authenticate the request",
    "AuthorizationPermissionMismatch": "not authorized to perform this operation using this permission",
    "AuthorizationFailure": "not authorized to perform this operation.",
    "FilesystemNotFound": "specified filesystem does not exist",
}


def refused(location: Location, error: Any) -> AmlSparkError:
    """What an answer of the storage means.

    Args:
        location: the place.
        error: what a client for Python raised, or Azure's error code, such as `AuthorizationPermissionMismatch`.
    """
    told = getattr(error, "error_code", None) or (error if isinstance(error, str) else type(error).__name__)
    code = str(getattr(told, "value", told))
    if code == "ClientAuthenticationError":  # of Microsoft Entra, which says more than that
        return AuthenticationError(
            f"no token for the account {location.account!r}: {str(error).partition(chr(10))[0]}",
            hint="check the tenant, the application and its secret, or az login",
        )
    what, hint = {**_NO_ENTRY, **_OF_FILES}.get(code, ("refuses what was asked of {0.path!r} in {0.filesystem!r}", ""))
    return DataLakeError(
        f"the account {location.account!r} {what.format(location)} ({code})", hint=hint.format(location) or None
    )


_NO_ENTRY: Mapping[str, tuple[str, str]] = {
    "AuthenticationFailed": (
        "doesn't accept the key or the signature for {0.path!r} in {0.filesystem!r}",
        "check that it is this account's and hasn't ended or been rotated; another one takes a new Python process, as "
        "Java keeps its connection",
    ),
    "AuthorizationPermissionMismatch": (
        "doesn't give this identity access to {0.path!r} in {0.filesystem!r}",
        "give it the role Storage Blob Data Contributor on the account, or rwx in the access control list of the path "
        "and x in those of the folders above it",
    ),
    "AuthorizationFailure": (
        "doesn't answer requests from here for {0.path!r} in {0.filesystem!r}",
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
_NOT_REACHED = (
    "isn't reached at {0.host!r}",
    "check its name and the network; a private endpoint needs its private DNS zone",
)
_OF_FILES: Mapping[str, tuple[str, str]] = {
    "ServiceRequestError": _NOT_REACHED,
    "ServiceResponseError": _NOT_REACHED,
    "PathNotFound": ("has no {0.path!r} in {0.filesystem!r}", "aml-spark datastore ls"),
    "BlobNotFound": ("has no {0.path!r} in {0.filesystem!r}", "aml-spark datastore ls"),
    "ConditionNotMet": ("has another {0.path!r} in {0.filesystem!r} now", "it was written meanwhile; try again"),
}
