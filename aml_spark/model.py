"""Models, pinned: one version, downloaded once, and packed for the executors under the digest of its content."""

from __future__ import annotations

import atexit
import hashlib
import re
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_spark.addresses import masked
from aml_spark.errors import ModelError, ModelNotFoundError, did_you_mean, listed

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import Model

_REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))")


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedModel:
    """One version of a model, with its files on this machine.

    Args:
        uri: the address as it was given.
        pinned_uri: the same without alias: what it goes on meaning when the alias moves.
        name: name in the registry; None for a model that isn't registered.
        version: version in the registry; None for a model that isn't registered.
        run_id: the run that logged it, where MLflow knows.
        digest: SHA-256 of its files, their names included; 64 hexadecimal digits.
        folder: where its files are.
        metadata: what MLflow's `MLmodel` file says: signature, flavors, example.
    """

    uri: str
    pinned_uri: str
    name: str | None
    version: str | None
    run_id: str | None
    digest: str
    folder: Path = field(repr=False)
    metadata: Model = field(repr=False)

    @property
    def label(self) -> str:
        """How messages, commits and the `model_version` column's reader name it: `delay/3`, else its digest."""
        return f"{self.name}/{self.version}" if self.name else self.digest[:12]


def pin(uri: str) -> PinnedModel:
    """Resolve a model address to one version and fetch its files.

    Args:
        uri: `models:/name/3`, `models:/name@alias`, `models:/name/latest`, `models:/m-…`, `runs:/…/model`, or a folder.

    Raises:
        ModelNotFoundError: no such model, version or alias; says which exist.
        ModelError: the files aren't an MLflow model, or can't be fetched.
    """
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    registered = _REGISTERED.fullmatch(uri)
    name = version = run_id = None
    identity = [mlflow.get_tracking_uri(), mlflow.get_registry_uri(), uri]
    if registered and not (registered["version"] or "").startswith("m-"):
        try:
            client = mlflow.MlflowClient()
        except (MlflowException, ImportError) as error:  # a store of SQLite where only mlflow-skinny is installed
            raise ModelError(
                f"the registry {masked(mlflow.get_registry_uri())!r} can't be used with what is installed here "
                f"({type(error).__name__})",
                hint="pip install 'aml-spark[local]'",
            ) from None
        found = _find_version(client, uri, registered.groupdict())
        # The name is the one that was asked for, whatever the registry says: copies are made under it.
        name, version, run_id = registered["name"], str(found.version), found.run_id or None
        identity += [version, str(found.source), str(found.creation_timestamp)]
    pinned_uri = f"models:/{name}/{version}" if name else uri
    try:
        # A version's files never change, so they are fetched once a process; nothing vouches for other addresses.
        folder = _fetched(tuple(identity), pinned_uri) if name else _fetch(pinned_uri)
        metadata = Model.load(str(folder / "MLmodel"))
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"the model {uri!r} can't be opened ({type(error).__name__}): expected the files of an MLflow model",
            hint=_meant(uri) or "mlflow.models.get_model_info(uri) shows what MLflow finds there",
        ) from _harmless(error)
    return PinnedModel(
        uri=uri,
        pinned_uri=pinned_uri,
        name=name,
        version=version,
        run_id=run_id or metadata.run_id,
        digest=digest(folder),
        folder=folder,
        metadata=metadata,
    )


def _meant(uri: str) -> str | None:
    """The address of a registered model, where only what it begins with was left out."""
    if re.fullmatch(r"[\w.-]+(@[\w.-]+|/\d+)", uri):
        return f"models:/{uri} names a registered model"
    return f"models:/{uri}@alias and models:/{uri}/1 name a registered model" if re.fullmatch(r"[\w.-]+", uri) else None


def pack(model: PinnedModel, worker: Path) -> tuple[Path, str]:
    """Zip a model with the folder of modules that will run it.

    Returns:
        The archive, holding `worker/` and `model/`, and a name that stands for its content. The same content gives
        the same bytes: Spark Connect takes a second archive of the same name only where it is equal.
    """
    name = "aml-spark-" + hashlib.sha256(f"{model.digest}{digest(worker)}".encode()).hexdigest()[:32]
    archive = _own_folder() / f"{name}.zip"
    with _lock:
        if not archive.exists():
            part = archive.with_suffix(".part")
            with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as target:  # models hardly shrink
                for part_of, folder in (("worker", worker), ("model", model.folder)):
                    for file in _files(folder):
                        _add(target, file, f"{part_of}/{file.relative_to(folder).as_posix()}")
            part.rename(archive)
    return archive, name


_lock = threading.Lock()


@cache
def _own_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="aml-spark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _fetched(_identity: tuple[str, ...], uri: str) -> Path:
    return _fetch(uri)


def _fetch(uri: str) -> Path:
    import mlflow

    if Path(uri, "MLmodel").is_file():
        return Path(uri)
    target = tempfile.mkdtemp(dir=_own_folder())
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=target))


def _find_version(client: MlflowClient, uri: str, wanted: Mapping[str, str | None]) -> Any:
    import mlflow
    from mlflow.exceptions import MlflowException

    name, alias, version = str(wanted["name"]), wanted["alias"], wanted["version"]
    try:
        if alias is not None:
            return client.get_model_version_by_alias(name, alias)
        if version == "latest":
            if known := versions(client, name):
                return known[-1]
        elif version is not None and version.isdigit():
            return client.get_model_version(name, version)
        elif version is not None and (staged := client.get_latest_versions(name, stages=[version])):
            return staged[0]
    except NotImplementedError:  # Unity Catalog's open server
        raise ModelError(
            f"the registry {masked(mlflow.get_registry_uri())!r} has no aliases and no stages, which {uri!r} names",
            hint=f"models:/{name}/<version>",
        ) from None
    except MlflowException as error:
        missing = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
        if error.error_code not in missing and error.get_http_status_code() != 404:
            registry = masked(mlflow.get_registry_uri())
            raise ModelError(
                f"the registry {registry!r} doesn't answer for {uri!r}: {error.error_code}"
            ) from _harmless(error)
    raise _not_found(client, uri, name, alias, version)


def _not_found(client: MlflowClient, uri: str, name: str, alias: str | None, version: str | None) -> ModelNotFoundError:
    import mlflow

    known = _quietly(lambda: versions(client, name))
    if not known:
        names = _quietly(lambda: [model.name for model in client.search_registered_models(max_results=100)])
        return ModelNotFoundError(
            f"no registered model {name!r} ({uri!r}) in {masked(mlflow.get_registry_uri())!r}; it has {listed(names)}",
            hint=did_you_mean(name, names) or "is it in another workspace? workspace= names it",
        )
    numbers = listed(str(found.version) for found in known)
    aliases = _quietly(lambda: sorted(client.get_registered_model(name).aliases))
    what = f"alias {alias!r}" if alias is not None else f"version {version!r}"
    return ModelNotFoundError(
        f"model {name!r} has no {what}; it has the versions {numbers} and the aliases {listed(aliases)}",
        hint=did_you_mean(alias, aliases) if alias is not None else None,
    )


def versions(client: Any, name: str) -> list[Any]:
    """All versions of a registered model, the oldest first, as MLflow's client or store gives them."""
    quote = '"' if "'" in name else "'"  # MLflow's filters have no way to escape one
    found: list[Any] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = {quote}{name}{quote}", max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda version: int(version.version))


def _harmless(error: Exception) -> Exception | None:
    """The error, where it can't quote an address with its password."""
    import mlflow

    uris = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    return error if all(masked(uri) == uri for uri in uris) else None


def _quietly(look: Callable[[], list[Any]]) -> list[Any]:
    # For the list in an error text only: a registry that can't list must not hide the error itself.
    from mlflow.exceptions import MlflowException

    try:
        return look()
    except MlflowException:
        return []


def _files(folder: Path) -> list[Path]:
    return sorted(
        (file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts),
        key=lambda file: file.relative_to(folder).as_posix(),
    )


def digest(folder: Path) -> str:
    """SHA-256 of a folder's files, their names included; 64 hexadecimal digits."""
    whole = hashlib.sha256()
    for file in _files(folder):
        with file.open("rb") as content:
            part = hashlib.file_digest(content, "sha256") if hasattr(hashlib, "file_digest") else _sha256(content)
        whole.update(f"{file.relative_to(folder).as_posix()}\0{part.hexdigest()}\n".encode())
    return whole.hexdigest()


def _sha256(content: Any) -> Any:  # until Python 3.10
    part = hashlib.sha256()
    for block in iter(lambda: content.read(1 << 20), b""):
        part.update(block)
    return part


def _add(target: zipfile.ZipFile, file: Path, name: str) -> None:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.external_attr = 0o644 << 16
    with file.open("rb") as content, target.open(entry, "w", force_zip64=True) as out:
        shutil.copyfileobj(content, out, 1 << 20)
