"""POSIX access control lists, in the words of Azure Data Lake: `user::rwx,user:<id>:r-x,group::r-x,other::---`."""

from __future__ import annotations

import re
from collections.abc import Collection

from aml_spark.testing.lake.nodes import LakeError, Node

SUPERUSER = "$superuser"
_ENTRY = re.compile(r"(?P<key>(?:default:)?(?:user|group|mask|other):[^:,]*)(?::(?P<rights>[r-][w-][x-]))?")
_SYMBOLIC = re.compile(r"[r-][w-][x-][r-][w-][x-][r-][w-][xtT-]\+?")
_ORDER = ("user:", "group:", "mask:", "other:")


def parsed(acl: str) -> dict[str, str]:
    """Rights by entry.

    Raises:
        LakeError: it isn't a list.
    """
    found = {}
    for entry in acl.split(","):
        match = _ENTRY.fullmatch(entry.strip())
        if match is None:
            raise LakeError(400, "InvalidAccessControlList", "The access control list value is invalid.")
        found[match["key"]] = match["rights"] or ""
    return found


def written(entries: dict[str, str]) -> str:
    """The entries as one text, in the service's order."""

    def order(key: str) -> tuple[bool, int, str]:
        kind = key.removeprefix("default:")
        return key.startswith("default:"), next(n for n, start in enumerate(_ORDER) if kind.startswith(start)), kind

    return ",".join(f"{key}:{entries[key]}" for key in sorted(entries, key=order))


def from_permissions(permissions: str) -> tuple[dict[str, str], bool]:
    """The three basic entries, and the sticky bit, of `rwxr-x---` or `0750`.

    Raises:
        LakeError: it is neither.
    """
    if re.fullmatch(r"[01]?[0-7]{3}", permissions):
        digits = permissions[-3:]
        text = "".join(_rights(int(digit)) for digit in digits)
        sticky = len(permissions) == 4 and permissions[0] == "1"
    elif _SYMBOLIC.fullmatch(permissions):
        sticky = permissions[8] in "tT"
        text = permissions[:8] + {"t": "x", "T": "-"}.get(permissions[8], permissions[8])
    else:
        raise LakeError(400, "InvalidPermission", "The permission value is invalid.")
    return {"user:": text[:3], "group:": text[3:6], "other:": text[6:]}, sticky


def permissions(node: Node) -> str:
    """What stands in `x-ms-permissions`; a `+` at the end says that there is more in the list."""
    entries = parsed(node.acl)
    text = entries["user:"] + entries.get("mask:", entries["group:"]) + entries["other:"]
    if node.sticky:
        text = text[:8] + ("t" if text[8] == "x" else "T")
    return text + ("+" if len(entries) > 3 else "")


def inherited(parent: Node, *, directory: bool, wanted: str | None, umask: str | None) -> tuple[str, bool]:
    """The list and the sticky bit of what is made below a directory."""
    defaults = {key.removeprefix("default:"): r for key, r in parsed(parent.acl).items() if key.startswith("default:")}
    if defaults and not wanted:
        if directory:
            defaults |= {f"default:{key}": rights for key, rights in defaults.items()}
        return written(defaults), False
    entries, sticky = from_permissions(wanted or ("0777" if directory else "0666"))
    mask = int(umask or ("0000" if wanted else "0027"), 8)
    for key, shift in (("user:", 6), ("group:", 3), ("other:", 0)):
        entries[key] = _rights(_number(entries[key]) & ~(mask >> shift))
    return written(entries), sticky


def changed(node: Node, acl: str, mode: str) -> str:
    """The node's list after `set`, `modify` or `remove` of entries; defaults are for directories."""
    given = {key: rights for key, rights in parsed(acl).items() if node.directory or not key.startswith("default:")}
    if mode == "remove":
        return written({key: rights for key, rights in parsed(node.acl).items() if key not in given})
    if not all(given.values()):
        raise LakeError(400, "InvalidAccessControlList", "The access control list value is invalid.")
    entries = parsed(node.acl) | given if mode == "modify" else given
    if not {"user:", "group:", "other:"} <= set(entries):
        raise LakeError(400, "InvalidAccessControlList", "The owner's, the group's or the others' entry is missing.")
    for prefix in ("", "default:"):
        named = [key for key in entries if re.match(rf"{prefix}(user|group):[^:]", key)]
        if named and f"{prefix}mask:" not in entries:
            every = "".join(entries.get(key, "") for key in (*named, f"{prefix}group:"))
            entries[f"{prefix}mask:"] = "".join(letter if letter in every else "-" for letter in "rwx")
    return written(entries)


def allows(node: Node, who: Collection[str], right: str) -> bool:
    """Whether somebody has `r`, `w` or `x` on a node.

    Args:
        node: what it is about.
        who: their ids; `$superuser` is among them for whom the account is.
        right: one letter.
    """
    entries = parsed(node.acl)
    mask = entries.get("mask:", "rwx")
    if node.owner in who:
        return right in entries["user:"]
    for kind, owning in (("user", ""), ("group", node.group)):
        found = [entries[f"{kind}:{each}"] for each in who if f"{kind}:{each}" in entries]
        if owning in who:
            found.append(entries[f"{kind}:"])
        if found:
            return any(right in rights and right in mask for rights in found)
    return right in entries["other:"]


def _rights(number: int) -> str:
    return "".join(letter if number & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))


def _number(rights: str) -> int:
    return sum(bit for letter, bit in (("r", 4), ("w", 2), ("x", 1)) if letter in rights)
