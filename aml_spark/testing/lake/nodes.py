"""What lies in a data lake: filesystems, directories and files, the conditions of requests, and leases."""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass
from typing import Any

_MESSAGES = {
    "AuthenticationFailed": "Server failed to authenticate the request. Make sure the value of Authorization header is "
    "formed correctly including the signature.",
    "ConditionNotMet": "The condition specified using HTTP conditional header(s) is not met.",
    "SourceConditionNotMet": "The source condition specified using HTTP conditional header(s) is not met.",
    "LeaseIdMissing": "There is currently a lease on the resource and no lease ID was specified in the request.",
    "LeaseLost": "A lease ID was specified, but the lease for the resource has expired.",
    "LeaseAlreadyPresent": "There is already a lease present.",
    "LeaseIdMismatchWithLeaseOperation": "The lease ID specified did not match the lease ID for the resource.",
    "LeaseNotPresentWithLeaseOperation": "There is currently no lease on the resource.",
    "LeaseIsBrokenAndCannotBeRenewed": "The lease ID matched, but the lease has been broken explicitly.",
    "LeaseIsBreakingAndCannotBeAcquired": "The lease has been broken and can't be acquired until it ends.",
    "LeaseIsBreakingAndCannotBeChanged": "The lease has been broken and can't be changed.",
    "PathNotFound": "The specified path does not exist.",
    "SourcePathNotFound": "The source path for a rename operation does not exist.",
    "RenameDestinationParentPathNotFound": "The parent directory of the destination path does not exist.",
    "InvalidRenameSourcePath": "The destination can't be the source directory or below it.",
    "InvalidSourceOrDestinationResourceType": "The source and destination resource type must be identical.",
    "PathAlreadyExists": "The specified path already exists.",
    "PathConflict": "The specified path, or an element of the path, exists and its resource type is invalid for this "
    "operation.",
    "DirectoryNotEmpty": "The recursive query parameter value must be true to delete a non-empty directory.",
    "FilesystemNotFound": "The specified filesystem does not exist.",
    "FilesystemAlreadyExists": "The specified filesystem already exists.",
    "InvalidFlushPosition": "The uploaded data is not contiguous or the position query parameter value is not equal to "
    "the length of the file after appending the uploaded data.",
    "InvalidRange": "The range specified is invalid for the current size of the resource.",
    "InvalidBlockList": "The specified block list is invalid.",
    "AuthorizationPermissionMismatch": "This request is not authorized to perform this operation using this "
    "permission.",
}
_LEASE_SECONDS = range(15, 61)


class LakeError(Exception):
    """What the service answers where it refuses.

    Args:
        status: of the answer.
        code: the service's word for it, as it stands in `x-ms-error-code`.
        message: what it says to it; None for what it usually says.
        headers: more of the answer's headers.
    """

    def __init__(self, status: int, code: str, message: str | None = None, **headers: str) -> None:
        super().__init__(message or _MESSAGES.get(code, code))
        self.status, self.code, self.headers = status, code, headers

    @property
    def reason(self) -> str:
        """What stands beside the status: all that is told where an answer has no body."""
        return f"{self.status} {_MESSAGES.get(self.code, self.code)}"


@dataclass(frozen=True)
class Node:
    """A filesystem, a directory or a file; the fields are the columns of its row."""

    id: int
    parent: int
    name: str
    directory: int
    etag: str
    modified: float
    created: float
    length: int
    headers: str
    properties: str
    owner: str
    group: str
    acl: str
    sticky: int
    lease: str | None
    lease_until: float | None
    lease_seconds: int
    lease_broken: int

    @property
    def lease_state(self) -> str:
        """`available`, `leased`, `breaking`, `broken` or `expired`."""
        if self.lease is None:
            return "available"
        ended = self.lease_until is not None and self.lease_until <= time.time()
        if self.lease_broken:
            return "broken" if ended else "breaking"
        return "expired" if ended else "leased"

    @property
    def locked(self) -> bool:
        """Whether a write has to name the lease."""
        return self.lease_state in ("leased", "breaking")

    def check_lease(self, lease: str | None) -> None:
        """Look at the lease that a write names.

        Raises:
            LakeError: it isn't the node's.
        """
        if self.locked and lease is None:
            raise LakeError(412, "LeaseIdMissing")
        kind = "Blob" if self.parent else "Container"
        if self.locked and lease != self.lease:
            told = "The lease ID specified did not match the lease ID for the resource."
            raise LakeError(412, f"LeaseIdMismatchWith{kind}Operation", told)
        if lease is not None and not self.locked:
            if lease == self.lease:
                raise LakeError(412, "LeaseLost")
            told = "There is currently no lease on the resource."
            raise LakeError(412, f"LeaseNotPresentWith{kind}Operation", told)

    def leased(
        self, action: str, *, lease: str | None, proposed: str | None, seconds: int | None, period: int | None
    ) -> dict[str, Any]:
        """What a lease action changes in the row.

        Args:
            action: `acquire`, `renew`, `change`, `release` or `break`.
            lease: the id that the request names.
            proposed: the id that it wants.
            seconds: how long, -1 for ever.
            period: seconds until a broken lease ends.
        """
        state = self.lease_state
        if action == "acquire":
            if seconds is None or (seconds != -1 and seconds not in _LEASE_SECONDS):
                raise LakeError(400, "InvalidHeaderValue", "The lease's duration is -1, or 15 to 60 seconds.")
            if state == "breaking":
                raise LakeError(409, "LeaseIsBreakingAndCannotBeAcquired")
            if state == "leased" and proposed != self.lease:
                raise LakeError(409, "LeaseAlreadyPresent")
            return _lease(proposed or str(uuid.uuid4()), seconds)
        if state == "available":
            raise LakeError(409, "LeaseNotPresentWithLeaseOperation")
        if action == "break":
            left = None if self.lease_until is None else max(0.0, self.lease_until - time.time())
            wait = min(given for given in (left, period) if given is not None) if (left, period) != (None, None) else 0
            return {"lease_until": time.time() + wait, "lease_broken": 1}
        if lease is None:
            raise LakeError(400, "MissingRequiredHeader", "x-ms-lease-id is missing.")
        if lease != self.lease and not (action == "change" and proposed == self.lease):
            raise LakeError(409, "LeaseIdMismatchWithLeaseOperation")
        if action == "release":
            return {"lease": None, "lease_until": None, "lease_seconds": 0, "lease_broken": 0}
        if self.lease_broken:
            renewing = action == "renew"
            raise LakeError(409, f"LeaseIs{'BrokenAndCannotBeRenewed' if renewing else 'BreakingAndCannotBeChanged'}")
        if action == "renew":
            return _lease(lease, self.lease_seconds)
        if action == "change" and proposed and state == "leased":
            return {"lease": proposed}
        raise LakeError(400, "InvalidHeaderValue", "The lease action or a proposed lease ID is not valid.")


def _lease(lease: str, seconds: int) -> dict[str, Any]:
    until = None if seconds == -1 else time.time() + seconds
    return {"lease": lease, "lease_until": until, "lease_seconds": seconds, "lease_broken": 0}


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What has to be true of a node for a request to be done.

    Args:
        match: ETag that it has, or `*`.
        none_match: ETag that it doesn't have, or `*` for a node that isn't there.
        modified_since: it was changed after this, in seconds since 1970.
        unmodified_since: it wasn't.
        lease: the lease that the request names.
    """

    match: str | None = None
    none_match: str | None = None
    modified_since: float | None = None
    unmodified_since: float | None = None
    lease: str | None = None

    @property
    def absent(self) -> bool:
        """Whether there may be no node yet."""
        return self.none_match == "*"

    def check(self, node: Node | None, code: str = "ConditionNotMet", *, reading: bool = False) -> None:
        """Look whether it is so.

        Raises:
            LakeError: it isn't: 412, or 304 where a read asked for what is new.
        """
        etag = node.etag if node else None
        if self.match is not None and (node is None or bare(self.match) not in ("*", etag)):
            raise LakeError(412, code)
        if node is None:
            return
        if self.unmodified_since is not None and int(node.modified) > self.unmodified_since:
            raise LakeError(412, code)
        old = self.modified_since is not None and int(node.modified) <= self.modified_since
        if old or (self.none_match is not None and bare(self.none_match) in ("*", etag)):
            raise LakeError(304 if reading else 412, code)


def bare(etag: str) -> str:
    """An ETag without quotes: clients send it with and without, as listings hold it without."""
    return etag.removeprefix("W/").strip('"')


def parts(path: str) -> list[str]:
    """The names along a path.

    Raises:
        LakeError: one of them isn't one.
    """
    names = [name for name in path.split("/") if name]
    if {".", ".."} & set(names) or "\0" in path:
        raise LakeError(400, "InvalidUri", "The request URI is invalid.")
    return names


def check_filesystem_name(name: str) -> None:
    """A filesystem's name has 3 to 63 small letters, digits and single hyphens.

    Raises:
        LakeError: it hasn't.
    """
    if not re.fullmatch(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", name) and name not in ("$root", "$web", "$logs"):
        raise LakeError(400, "InvalidResourceName", "The specified resource name contains invalid characters.")
