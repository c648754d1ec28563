"""Places in a data lake on Azure Data Lake Storage Gen2, and in a workspace's datastores, as values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from aml_spark.addresses import masked
from aml_spark.errors import ArgumentError

_SUFFIX = "dfs.core.windows.net"
_SUFFIXES = (_SUFFIX, "dfs.core.chinacloudapi.cn", "dfs.core.usgovcloudapi.net")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_FILESYSTEM = re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,62}|\$(?:root|web|logs)")
_URI = re.compile(r"(?i)abfss?://(?P<filesystem>[^@/]*)@(?P<host>[^/]*)(?:/(?P<path>.*))?", re.DOTALL)
_OLDER = re.compile(r"(?i)wasbs?://(?P<filesystem>[^@/]*)@(?P<account>[^./]*)\.blob\.(?P<rest>[^/]*)(?P<path>.*)")
_FORM = "abfss://<filesystem>@<account>.dfs.core.windows.net/<path>"
_DATASTORE = re.compile(
    r"(?i)azureml://(?:subscriptions/(?P<subscription_id>[^/]+)/resourcegroups/(?P<resource_group>[^/]+)"
    r"/(?:providers/Microsoft\.MachineLearningServices/)?workspaces/(?P<workspace>[^/]+)/)?"
    r"datastores/(?P<name>[\w-]+)(?:/paths(?:/(?P<path>.*))?)?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A folder or file in a data lake.

    Args:
        account: the storage account's name.
        filesystem: its file system, which Blob Storage calls a container.
        path: from the file system's root, without a slash before it; empty for the root.
        suffix: what follows the account in the host's name; another one in national clouds.

    Raises:
        ArgumentError: a part can't be meant.
    """

    account: str
    filesystem: str
    path: str = ""
    suffix: str = _SUFFIX

    def __post_init__(self) -> None:
        if not _ACCOUNT.fullmatch(self.account):
            raise ArgumentError(f"account is {self.account!r}; expected 3 to 24 lower-case letters and digits")
        if not _FILESYSTEM.fullmatch(self.filesystem):
            raise ArgumentError(
                f"filesystem is {self.filesystem!r}; expected 3 to 63 lower-case letters, digits and single dashes"
            )
        if self.suffix not in _SUFFIXES:
            raise ArgumentError(f"{self.account!r} has the host {self.host!r}; expected one of {', '.join(_SUFFIXES)}")
        if re.search(r"[?&]sig=", self.path):
            raise ArgumentError("the path carries a signature", hint="give it by itself: credential=SasToken(token=…)")
        if {".", ".."} & set(self.path.split("/")):
            raise ArgumentError(f"path is {self.path!r}; expected one without '.' and '..' between slashes")
        object.__setattr__(self, "path", "/".join(part for part in self.path.split("/") if part))

    @classmethod
    def of(cls, uri: str) -> Location:
        """Read `abfss://<filesystem>@<account>.dfs.core.windows.net/<path>`, or the `https` address of the same.

        A path in `abfss` is taken as it stands, as Spark does; in `https` it is percent-encoded.

        Raises:
            ArgumentError: it is neither.
        """
        if found := _URI.fullmatch(uri):
            account, _, suffix = found["host"].partition(".")
            return cls(account=account, filesystem=found["filesystem"], path=found["path"] or "", suffix=suffix)
        if old := _OLDER.fullmatch(uri):
            same = f"abfss://{old['filesystem']}@{old['account']}.dfs.{old['rest']}{old['path']}"
            raise ArgumentError(f"{uri!r} is of a driver that Hadoop no longer develops", hint=f"write {same}")
        parts = urlsplit(uri)
        account, _, suffix = (parts.hostname or "").partition(".")
        if parts.scheme != "https" or not suffix:
            raise ArgumentError(f"{masked(uri)!r} isn't a place in a data lake; expected {_FORM}")
        if parts.query:
            raise ArgumentError(
                f"{masked(uri)!r} carries a signature", hint="give it by itself: credential=SasToken(token=…)"
            )
        filesystem, _, path = parts.path.removeprefix("/").partition("/")
        suffix = re.sub(r"^blob\.", "dfs.", suffix)
        return cls(account=account, filesystem=filesystem, path=unquote(path), suffix=suffix)

    @property
    def host(self) -> str:
        """`<account>.dfs.core.windows.net`, by which Hadoop's settings name the account."""
        return f"{self.account}.{self.suffix}"

    @property
    def uri(self) -> str:
        """What Spark reads and writes: `abfss://…`."""
        return f"abfss://{self.filesystem}@{self.host}/{self.path}".rstrip("/")

    def __truediv__(self, name: str) -> Location:
        return Location(
            account=self.account, filesystem=self.filesystem, path=f"{self.path}/{name}", suffix=self.suffix
        )

    def __str__(self) -> str:
        return self.uri


@dataclass(frozen=True, slots=True, kw_only=True)
class DatastorePath:
    """A folder or file in a datastore of an Azure Machine Learning workspace.

    Args:
        name: the datastore.
        path: from the datastore's root.
        subscription_id: of the workspace; None, as the next two, for the workspace that MLflow is configured for.
        resource_group: of the workspace.
        workspace: its name.
    """

    name: str
    path: str = ""
    subscription_id: str | None = None
    resource_group: str | None = None
    workspace: str | None = None

    @classmethod
    def of(cls, uri: str) -> DatastorePath:
        """Read `azureml://datastores/<name>/paths/<path>`, or Azure's long form with the workspace before it.

        Raises:
            ArgumentError: it isn't one.
        """
        found = _DATASTORE.fullmatch(uri)
        if found is None or "?" in uri:
            raise ArgumentError(
                f"{masked(uri)!r} isn't a datastore's; expected azureml://datastores/<name>/paths/<path>"
            )
        return cls(**{name: value or "" if name == "path" else value for name, value in found.groupdict().items()})


def in_lake(text: str) -> bool:
    """Whether a text that names a table or a folder means a place in a data lake or a datastore."""
    return re.match(r"(?i)(?:delta\.`)?(?:abfss?|azureml)://", text) is not None


def is_of_azure(uri: str) -> bool:
    """Whether an `abfss://` URI names an account by the host of a cloud of Azure's, as `Location.of` wants it."""
    found = _URI.fullmatch(uri)
    return found is not None and found["host"].partition(".")[2].lower() in _SUFFIXES
