"""Who asks a storage account, and what they may do: account key, shared access signatures, tokens.

What is signed stands in Microsoft's reference of the storage services (Authorize with Shared Key, Create an account
SAS, Create a service SAS, Create a user delegation SAS).
"""

from __future__ import annotations

import base64
import datetime as dt
import email.utils
import hashlib
import hmac
import itertools
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from werkzeug.wrappers import Request

from aml_spark.testing.identity import Identity, RefusedToken
from aml_spark.testing.lake.acls import SUPERUSER
from aml_spark.testing.lake.calls import Caller
from aml_spark.testing.lake.nodes import LakeError

_SIGNED_HEADERS = (
    "Content-Encoding",
    "Content-Language",
    "Content-Length",
    "Content-MD5",
    "Content-Type",
    "Date",
    "If-Modified-Since",
    "If-Match",
    "If-None-Match",
    "If-Unmodified-Since",
    "Range",
)
_OVERRIDES = ("rscc", "rscd", "rsce", "rscl", "rsct")
_CLOCKS = 15 * 60  # seconds that the client's clock may differ
_LONGEST = 7 * 24 * 3600  # seconds that a key for user delegation is good for
_FAILED = "Server failed to authenticate the request. Make sure the value of the Authorization header is formed " + (
    "correctly including the signature."
)

Allows = Callable[[str, str, Collection[str], str], bool]
"""Whether filesystem, path, ids and right go together: `Lake.allows`."""


class Signatures:
    """Those of one account.

    Args:
        account: its name.
        key: its key, in base64.
        identity: who gives out tokens.
        allows: what the lists of paths say.
    """

    def __init__(self, account: str, key: str, identity: Identity, allows: Allows) -> None:
        self._account, self._key, self._identity, self._allows = account, base64.b64decode(key), identity, allows
        hosts = [f"https://{account}.{kind}.core.windows.net" for kind in ("blob", "dfs")]
        self._audiences = ("https://storage.azure.com", *hosts)

    def caller(self, request: Request, filesystem: str, path: str, args: Mapping[str, str]) -> Caller:
        """Who sent a request for a path, with these arguments in the query.

        Raises:
            LakeError: nobody, or somebody who isn't who they say.
        """
        kind, _, _ = request.headers.get("Authorization", "").partition(" ")
        if kind == "Bearer":
            return self._bearer(request)
        if kind == "SharedKey":
            self._check_key(request)
            return _Owner()
        if "sig" in args:
            return self._signed(request, filesystem, path, args)
        base = f"{request.scheme}://{request.host}/{self._identity.tenant_id}"
        told = f"Bearer authorization_uri={base}/oauth2/authorize resource_id=https://storage.azure.com"
        message = (
            "Server failed to authenticate the request. Please refer to the information in the www-authenticate header."
        )
        raise LakeError(401, "NoAuthenticationInformation", message, **{"WWW-Authenticate": told})

    def delegation_key(self, caller: Caller | None, start: str | None, expiry: str) -> dict[str, str]:
        """A key with which the bearer of a token signs for others, as the answer's elements.

        Raises:
            LakeError: it isn't a bearer of a token who asks.
        """
        if not isinstance(caller, _Bearer):
            raise LakeError(403, "AuthenticationFailed", "Only the bearer of a token gets a key for user delegation.")
        now = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        if not 0 < _seconds(expiry, 0) - time.time() <= _LONGEST:
            raise LakeError(400, "InvalidXmlNodeValue", "The key has to end within seven days.")
        facts = {
            "SignedOid": caller.who,
            "SignedTid": self._identity.tenant_id,
            "SignedStart": start or now,
            "SignedExpiry": expiry,
            "SignedService": "b",
            "SignedVersion": "2023-11-03",
        }
        return {**facts, "Value": base64.b64encode(self._delegated(*facts.values())).decode()}

    def _bearer(self, request: Request) -> _Bearer:
        try:
            self._identity.check(request.headers.get("Authorization"), self._audiences)
        except RefusedToken as refused:
            base = f"https://login.microsoftonline.com/{self._identity.tenant_id}"
            told = f"Bearer authorization_uri={base}/oauth2/authorize resource_id=https://storage.azure.com"
            headers = {"WWW-Authenticate": told}
            raise LakeError(401, "InvalidAuthenticationInfo", str(refused), **headers) from None
        return _Bearer(self._identity.client_id, self._allows)

    def _check_key(self, request: Request) -> None:
        name, _, signature = request.headers["Authorization"].partition(" ")[2].partition(":")
        expected = (_mac(self._key, text) for text in _to_sign(self._account, request))
        if name != self._account or not any(_same(signature, each) for each in expected):
            raise LakeError(403, "AuthenticationFailed", _FAILED)
        told = request.headers.get("x-ms-date") or request.headers.get("Date") or ""
        sent = email.utils.parsedate_tz(told)
        if sent is None or abs(email.utils.mktime_tz(sent) - time.time()) > _CLOCKS:
            raise LakeError(403, "AuthenticationFailed", "The request's date is missing, or too far from now.")

    def _signed(self, request: Request, filesystem: str, path: str, args: Mapping[str, str]) -> Caller:
        of_account = "ss" in args
        key = self._key
        if "skoid" in args:
            key = self._delegated(*(args.get(name, "") for name in ("skoid", "sktid", "skt", "ske", "sks", "skv")))
        text = (
            _account_text(self._account, args) if of_account else _text(self._account, request, filesystem, path, args)
        )
        if not _same(args["sig"], _mac(key, text)):
            raise LakeError(403, "AuthenticationFailed", f"{_FAILED} Signature did not match.")
        for start, end in (("st", "se"), ("skt", "ske")):
            if not _seconds(args.get(start), 0) <= time.time() <= _seconds(args.get(end), 2**40):
                raise LakeError(403, "AuthenticationFailed", "Signature not valid in the specified time frame.")
        if not args.get("se") or args.get("si"):
            raise LakeError(403, "AuthenticationFailed", "se is mandatory. Stored access policies are not there.")
        if args.get("spr") == "https" and request.scheme != "https":
            raise LakeError(403, "AuthorizationProtocolMismatch", "The signature is for https.")
        low, _, high = args.get("sip", "").partition("-")
        if low and not _address(low) <= _address(request.remote_addr or "") <= _address(high or low):
            raise LakeError(403, "AuthorizationSourceIPMismatch", "The signature is for another address.")
        if args.get("sduoid") and self._bearer(request).who != args["sduoid"]:
            raise LakeError(403, "AuthenticationFailed", "The signature is for another user.")
        if of_account:
            return _OfAccount(args.get("sp", ""), args.get("ss", ""), args.get("srt", ""))
        return _OfService(args.get("sp", ""), args.get("sr", ""), args.get("suoid", ""), self._allows)

    def _delegated(self, *facts: str) -> bytes:
        return hmac.digest(self._key, "\n".join(("user delegation", *facts)).encode(), hashlib.sha256)


class _Owner:
    """Who has the account's key."""

    def require(self, letters: str, kind: str, filesystem: str, path: str, right: str) -> None:
        """All is allowed."""


@dataclass(frozen=True)
class _OfAccount:
    permissions: str
    services: str
    kinds: str

    def require(self, letters: str, kind: str, filesystem: str, path: str, right: str) -> None:  # noqa: ARG002
        """The signature has to name service, kind of resource and permission."""
        if "b" not in self.services:
            raise LakeError(403, "AuthorizationServiceMismatch", "The signature is for another service.")
        if kind not in self.kinds:
            told = "This request is not authorized to perform this operation using this resource type."
            raise LakeError(403, "AuthorizationResourceTypeMismatch", told)
        _need(letters, self.permissions)


@dataclass(frozen=True)
class _OfService:
    permissions: str
    resource: str
    agent: str
    allows: Allows

    def require(self, letters: str, kind: str, filesystem: str, path: str, right: str) -> None:
        """That the path is the signature's stands in what is signed; filesystems themselves are only listed by it."""
        if kind == "s" or (kind == "c" and (letters != "l" or self.resource not in "cds")):
            raise LakeError(403, "AuthorizationPermissionMismatch")
        _need(letters, self.permissions)
        if self.agent and right and not self.allows(filesystem, path, (self.agent,), right):
            raise LakeError(403, "AuthorizationPermissionMismatch")


@dataclass(frozen=True)
class _Bearer:
    who: str
    allows: Allows

    def require(self, letters: str, kind: str, filesystem: str, path: str, right: str) -> None:  # noqa: ARG002
        """The lists decide."""
        if right and not self.allows(filesystem, path, (self.who, SUPERUSER), right):
            raise LakeError(403, "AuthorizationPermissionMismatch")


def _need(letters: str, permissions: str) -> None:
    if not set(letters) & set(permissions):
        raise LakeError(403, "AuthorizationPermissionMismatch")


def _mac(key: bytes, text: str) -> str:
    return base64.b64encode(hmac.digest(key, text.encode("utf-8", "surrogateescape"), hashlib.sha256)).decode()


def _to_sign(account: str, request: Request) -> list[str]:
    """What the account's key may have signed.

    Clients differ in the order of headers with hyphens and underscores, in arguments without a value, and Java adds
    its own content type to a request after it was signed.
    """
    raw, _, asked = str(request.environ["REQUEST_URI"]).partition("?")
    arguments: dict[str, list[str]] = {}
    for pair in asked.split("&") if asked else []:
        name, _, value = pair.partition("=")
        arguments.setdefault(unquote(name).lower(), []).append(unquote(value))
    headers = [(name.lower(), value.strip()) for name, value in request.headers]
    special = [each for each in headers if each[0].startswith("x-ms-")]
    found = []
    orders: tuple[Callable[[tuple[str, str]], str], ...] = (
        lambda each: each[0],
        lambda each: each[0].replace("-", "").replace("_", "!"),
    )
    for order, with_empty, with_type in itertools.product(orders, (True, False), (True, False)):
        lines = [request.method]
        for name in _SIGNED_HEADERS:
            value = request.headers.get(name, "")
            empty = (name == "Content-Length" and value == "0") or (name == "Content-Type" and not with_type)
            lines.append("" if empty or (name == "Date" and "x-ms-date" in dict(headers)) else value)
        lines += [f"{name}:{value}" for name, value in sorted(special, key=order)]
        lines.append(f"/{account}{raw}")
        for name in sorted(arguments):
            if with_empty or any(arguments[name]):
                lines.append(f"{name}:{','.join(sorted(arguments[name]))}")
        found.append("\n".join(lines))
    return found


def _account_text(account: str, args: Mapping[str, str]) -> str:
    names = [
        "sp",
        "ss",
        "srt",
        "st",
        "se",
        "sip",
        "spr",
        "sv",
        *(["ses"] if args.get("sv", "") >= "2020-12-06" else []),
    ]
    return "\n".join((account, *(args.get(name, "") for name in names), ""))


def _text(account: str, request: Request, filesystem: str, path: str, args: Mapping[str, str]) -> str:
    """What a signature for a filesystem, directory or file signs, as its version has it."""
    version, parts = args.get("sv", ""), [part for part in path.split("/") if part]
    if args.get("sr") in ("c", "s"):
        parts = []
    elif args.get("sr") == "d":
        depth = args.get("sdd", "")
        if not depth.isdigit() or int(depth) > len(parts):
            raise LakeError(403, "AuthenticationFailed", f"{_FAILED} Signature did not match.")
        parts = parts[: int(depth)]
    lines = [args.get(name, "") for name in ("sp", "st", "se")]
    lines.append("/".join((f"/blob/{account}/{filesystem}", *parts)))
    of_user = "skoid" in args
    names = ["skoid", "sktid", "skt", "ske", "sks", "skv"] if of_user else ["si"]
    if of_user and version >= "2020-02-10":
        names += ["saoid", "suoid", "scid"]
    if of_user and version >= "2025-07-05":
        names += ["skdutid", "sduoid"]
    names += ["sip", "spr", "sv", "sr", "snapshot"]
    if version >= "2020-12-06":
        names.append("ses")
    lines += [args.get(name, "") for name in names]
    if of_user and version >= "2026-04-06":
        wanted = [unquote(name) for name in args.get("srh", "").split(",") if name]
        lines.append("".join(f"{name}:{request.headers.get(name, '')}\n" for name in wanted))
        wanted = [unquote(name) for name in args.get("srq", "").split(",") if name]
        lines.append("".join(f"\n{name}:{args.get(name, '')}" for name in wanted))
    return "\n".join(lines + [args.get(name, "") for name in _OVERRIDES])


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _seconds(text: str | None, otherwise: float) -> float:
    """A time of a signature."""
    if not text:
        return otherwise
    try:
        found = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise LakeError(403, "AuthenticationFailed", "A time of the signature isn't in the correct format.") from None
    return (found if found.tzinfo else found.replace(tzinfo=dt.timezone.utc)).timestamp()


def _address(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in text.split("."))
