"""Where runs and models live, as a value."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from aml_spark.addresses import check_host, is_registry, masked, region_host
from aml_spark.errors import WorkspaceError, did_you_mean, listed

_ARM_ID = re.compile(
    r"/?subscriptions/(?P<subscription_id>[^/]*)/resourceGroups/(?P<resource_group>[^/]*)"
    r"/providers/Microsoft\.MachineLearningServices/workspaces/(?P<name>[^/]*)/?",
    re.IGNORECASE,
)
_ARM_FORM = "/subscriptions/<id>/resourceGroups/<group>/providers/Microsoft.MachineLearningServices/workspaces/<name>"
_MLFLOW_PATH = re.compile(r"/mlflow/v[\d.]+(?P<arm>/subscriptions/.*)", re.IGNORECASE)
_FIELDS = {
    "subscription_id": (
        re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE),
        "a GUID such as 11111111-2222-3333-4444-555555555555",
    ),
    "resource_group": (
        re.compile(r"[\w.()-]{0,89}[\w()-]"),
        "1 to 90 letters, digits, '.', '_', '-', '(' or ')', not ending in '.'",
    ),
    "name": (re.compile(r"[A-Za-z0-9][\w-]{1,254}"), "letters, digits, '-' or '_', starting with a letter or digit"),
}
_STORE_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "file", "databricks")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Workspace:
    """An Azure Machine Learning workspace, or another MLflow store in its place.

    An Azure workspace has `subscription_id`, `resource_group`, `name` and a `region` or `host`. Any other store has
    `uri` alone, or `folder` for a local one. Making a value contacts nobody and writes nothing.

    Args:
        subscription_id: GUID of the subscription.
        resource_group: its resource group.
        name: its name.
        region: Azure's short name of its region, such as `westeurope`. Azure ML's own config.json lacks it.
        host: `host[:port]` of its MLflow endpoint; derived from the region where it isn't given.
        uri: an MLflow tracking URI that isn't Azure ML's.
        folder: absolute path of a local workspace.
        registry: registry URI where it isn't the workspace's own.
        artifacts: folder or `abfss://` URI below which new experiments keep their artifacts; None leaves that to the
            store, and to the folder of a local workspace. An Azure workspace has a place of its own.

    Raises:
        WorkspaceError: a field is missing or malformed.
    """

    subscription_id: str | None = None
    resource_group: str | None = None
    name: str | None = None
    region: str | None = None
    host: str | None = None
    uri: str | None = None
    folder: str | None = None
    registry: str | None = None
    artifacts: str | None = None

    def __repr__(self) -> str:
        values = ((name, getattr(self, name)) for name in self.__slots__)
        return f"Workspace({', '.join(f'{name}={masked(value)!r}' for name, value in values if value is not None)})"

    def __post_init__(self) -> None:
        if self.folder and "?" in self.folder:
            raise WorkspaceError(f"the folder {self.folder!r} has a '?', which SQLite's URIs can't hold")
        if self.uri or self.folder:
            return
        if self.artifacts is not None:
            raise WorkspaceError("artifacts is set, and an Azure ML workspace has a place of its own for them")
        for field, (pattern, expected) in _FIELDS.items():
            value = getattr(self, field)
            if not value:
                raise WorkspaceError(f"{field} is missing: an Azure ML workspace needs {listed(_FIELDS)}")
            if not pattern.fullmatch(value):
                raise WorkspaceError(f"{field} is {value!r}; expected {expected}")
        if self.region is not None:
            if not isinstance(self.region, str):
                raise WorkspaceError(f"region is {self.region!r}; expected a text such as 'westeurope'")
            region = re.sub(r"[\s_-]", "", self.region).lower()  # "West Europe" is how the portal writes it
            object.__setattr__(self, "region", region)
            if self.host is None:
                object.__setattr__(self, "host", region_host(region))

    @classmethod
    def local(cls, folder: str | os.PathLike[str] = "./mlworkspace") -> Workspace:
        """A workspace in a folder: an SQLite store and an artifact folder, no server. Made when it is first used."""
        return cls(folder=str(Path(folder).expanduser().resolve()))

    @classmethod
    def from_config(cls, path: str | os.PathLike[str] | None = None, *, region: str | None = None) -> Workspace:
        """Read Azure ML's own `config.json`.

        Args:
            path: the file, or a folder to look into. None looks for `config.json`, `.azureml/config.json` and
                `aml_config/config.json` in the working folder and those above it.
            region: the workspace's region, where the file has no `region` or `location` (Azure's download has none).

        Raises:
            WorkspaceError: no such file, not JSON, or a field is missing or malformed; names the file.
        """
        start = Path(path) if path is not None else Path.cwd()
        file = start if start.is_file() else next(_config_files(start, upwards=path is None), None)
        if file is None:
            raise WorkspaceError(
                f"no config.json of an Azure ML workspace in {str(start)!r}" + (" or above it" if path is None else ""),
                hint="download it from the workspace's page in the Azure portal, or give the tracking URI",
            )
        try:
            content = json.loads(file.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise WorkspaceError(f"{str(file)!r} can't be read as JSON: {type(error).__name__}") from None
        if not isinstance(content, dict):
            raise WorkspaceError(f"{str(file)!r} holds a JSON {type(content).__name__}; expected an object")
        fields = {field: content.get(field) for field in ("subscription_id", "resource_group", "workspace_name")}
        missing = [field for field, value in fields.items() if not (isinstance(value, str) and value.strip())]
        if missing:
            raise WorkspaceError(
                f"{str(file)!r} lacks {listed(missing)}; expected the text fields {listed(fields)}",
                hint="download it again from the workspace's page in the Azure portal",
            )
        try:
            return cls(
                subscription_id=fields["subscription_id"],
                resource_group=fields["resource_group"],
                name=fields["workspace_name"],
                region=region or content.get("region") or content.get("location"),
            )
        except WorkspaceError as error:
            raise WorkspaceError(f"{str(file)!r}: {error.message}", hint=error.hint) from None

    @classmethod
    def from_uri(cls, uri: str, *, region: str | None = None) -> Workspace:
        """Read an address.

        Args:
            uri: `azureml://<host>/mlflow/…`, the same with `https://`, an ARM id (`/subscriptions/…`), `databricks`,
                `databricks://<profile>`, or a tracking URI of any other MLflow store.
            region: the region that goes with an ARM id, which has none.

        Raises:
            WorkspaceError: not such an address; names the part that is wrong.
        """
        if _ARM_ID.fullmatch(uri):
            return cls(**_arm_fields(uri, uri), region=region)
        if of_unity_catalog := re.fullmatch(r"databricks-uc(://.*)?", uri):
            return cls(uri=f"databricks{of_unity_catalog[1] or ''}", registry=uri)
        if is_registry(uri):
            raise WorkspaceError(
                f"{masked(uri)!r} is a registry, which holds models and no runs; expected a workspace",
                hint="give it as registry=, or to copy_model",
            )
        try:
            parts = urlsplit(uri)
        except ValueError as error:
            raise WorkspaceError(f"{masked(uri)!r} can't be read as a URI: {error}") from None
        if parts.hostname == "ml.azure.com":
            raise WorkspaceError(
                f"{masked(uri)!r} is the page of a workspace; expected its MLflow address, azureml://…",
                hint="az ml workspace show --query mlflow_tracking_uri prints it",
            )
        mlflow_path = _MLFLOW_PATH.fullmatch(parts.path)
        if parts.scheme == "azureml" or (parts.scheme == "https" and mlflow_path):
            if not mlflow_path:
                raise WorkspaceError(
                    f"{masked(uri)!r} isn't the tracking URI of a workspace; expected "
                    f"azureml://<region>.api.azureml.ms/mlflow/v1.0{_ARM_FORM}",
                    hint="az ml workspace show --query mlflow_tracking_uri prints it",
                )
            check_host(parts.netloc)
            return cls(**_arm_fields(mlflow_path["arm"], uri), host=parts.netloc)
        if uri == "databricks" or parts.scheme in _STORE_SCHEMES or parts.scheme.partition("+")[0] in _STORE_SCHEMES:
            return cls(uri=uri)
        raise WorkspaceError(
            f"{masked(uri)!r} isn't an address of a workspace; expected azureml://…, an ARM id, databricks, "
            f"or a tracking URI with one of the schemes {listed(_STORE_SCHEMES)}",
            hint=did_you_mean(parts.scheme, ("azureml", *_STORE_SCHEMES)),
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Workspace | None:
        """What the environment names, or None where it names nothing.

        `MLFLOW_TRACKING_URI` (with `MLFLOW_REGISTRY_URI`) comes first; then `AZUREML_ARM_SUBSCRIPTION`,
        `AZUREML_ARM_RESOURCEGROUP` and `AZUREML_ARM_WORKSPACE_NAME`, which Azure ML sets in its jobs, with the host
        from `AZUREML_SERVICE_ENDPOINT` or the region from `AZUREML_REGION`.

        Raises:
            WorkspaceError: some of the variables are set and others are not, or one is malformed; names it.
        """
        env = os.environ if environ is None else environ
        if uri := env.get("MLFLOW_TRACKING_URI"):
            try:
                found = cls.from_uri(uri) if "://" in uri or uri == "databricks" else cls(uri=uri)
            except WorkspaceError as error:
                raise WorkspaceError(f"MLFLOW_TRACKING_URI: {error.message}", hint=error.hint) from None
            return found.with_registry(env.get("MLFLOW_REGISTRY_URI"))
        variables = {
            "subscription_id": "AZUREML_ARM_SUBSCRIPTION",
            "resource_group": "AZUREML_ARM_RESOURCEGROUP",
            "name": "AZUREML_ARM_WORKSPACE_NAME",
        }
        values = {field: env.get(variable) for field, variable in variables.items()}
        if not any(values.values()):
            return None
        missing = [variables[field] for field, value in values.items() if not value]
        if missing:
            raise WorkspaceError(
                f"the environment names a part of a workspace: {listed(missing)} not set; "
                f"expected all of {listed(variables.values())}"
            )
        endpoint = env.get("AZUREML_SERVICE_ENDPOINT")
        try:
            return cls(
                **values,
                region=env.get("AZUREML_REGION") or None,
                host=urlsplit(endpoint).netloc or None if endpoint else None,
            )
        except WorkspaceError as error:
            raise WorkspaceError(f"from AZUREML_* variables: {error.message}", hint=error.hint) from None

    @classmethod
    def find(cls, value: Workspace | str | os.PathLike[str] | None = None) -> Workspace:
        """What a person means by a workspace.

        Args:
            value: a workspace, a URI, the path of a `config.json`, or a folder for a local one. None takes the first
                of: the environment, a `config.json` in the working folder or above it, Databricks' own store where
                this runs on Databricks, `./mlworkspace`.
        """
        if isinstance(value, Workspace):
            return value
        if value is not None:
            text = os.fspath(value)
            if not text:
                raise WorkspaceError("the workspace is ''; expected a folder, a URI or a config.json")
            if (
                "://" in text
                or text in ("databricks", "databricks-uc")
                or _ARM_ID.fullmatch(text)
                or re.match(r"\w+:/", text)
            ):
                return cls.from_uri(text)
            return cls.from_config(text) if text.endswith(".json") else cls.local(text)
        if found := cls.from_env():
            return found
        if any(_config_files(Path.cwd(), upwards=True)):
            return cls.from_config()
        return cls(uri="databricks") if "DATABRICKS_RUNTIME_VERSION" in os.environ else cls.local()

    def with_registry(self, registry: str | None) -> Workspace:
        """The same with models registered elsewhere."""
        fields = {field: getattr(self, field) for field in self.__slots__}
        return Workspace(**{**fields, "registry": registry}) if registry else self

    @property
    def arm_id(self) -> str | None:
        """The id of an Azure workspace in Azure Resource Manager; None for other stores."""
        if self.subscription_id is None:
            return None
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.name}"
        )

    @property
    def tracking_uri(self) -> str:
        """What `mlflow.set_tracking_uri` takes.

        Raises:
            WorkspaceError: an Azure workspace whose region isn't known.
        """
        if self.folder is not None:
            return f"sqlite:///{Path(self.folder, 'mlflow.db').as_posix()}"
        if self.uri is not None:
            return self.uri
        if self.host is None:
            raise WorkspaceError(
                f"region is missing: the tracking URI of workspace {self.name!r} starts with "
                "azureml://<region>.api.azureml.ms",
                hint='add "region": "westeurope" (yours) to its config.json, or make the value with region=: '
                'Workspace.from_config(…, region="westeurope")',
            )
        return f"azureml://{self.host}/mlflow/v1.0{self.arm_id}"

    @property
    def registry_uri(self) -> str:
        """What `mlflow.set_registry_uri` takes."""
        if self.registry is not None:
            return self.registry
        if self.uri is not None and re.fullmatch(r"databricks(://.*)?", self.uri):
            return self.uri.replace("databricks", "databricks-uc", 1)  # MLflow 3's default there
        return self.tracking_uri

    @property
    def label(self) -> str:
        """How messages name it."""
        return self.name or self.folder or masked(self.uri or "")

    @property
    def is_made(self) -> bool:
        """False for a local workspace that nothing was logged to yet; of others nobody knows without asking."""
        return self.folder is None or Path(self.folder, "mlflow.db").exists()

    @property
    def artifact_root(self) -> str | None:
        """Folder or URI below which new experiments keep their artifacts; None where the store decides."""
        if self.artifacts is not None:
            return self.artifacts.rstrip("/")
        return str(Path(self.folder, "artifacts")) if self.folder is not None else None


def _config_files(folder: Path, *, upwards: bool) -> Iterator[Path]:
    """Azure ML config files in the folder, then in those above it. Other programs' config.json don't count."""
    for place in (folder, *folder.absolute().parents) if upwards else (folder,):
        for file in (place / "config.json", place / ".azureml" / "config.json", place / "aml_config" / "config.json"):
            if file.is_file() and (not upwards or "workspace_name" in file.read_text("utf-8-sig", errors="replace")):
                yield file


def _arm_fields(text: str, whole: str) -> dict[str, str]:
    match = _ARM_ID.fullmatch(text)
    if match is None:
        raise WorkspaceError(f"{masked(whole)!r} doesn't end in the id of a workspace; expected {_ARM_FORM}")
    return match.groupdict()
