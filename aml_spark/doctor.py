"""What is found on this machine, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from aml_spark import java, session
from aml_spark.addresses import masked
from aml_spark.credential import AccountKey, SasToken, SignedIn, discover
from aml_spark.errors import AmlSparkError
from aml_spark.location import Location
from aml_spark.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked for.

    Args:
        what: its name.
        ok: whether it is as it has to be.
        found: what was found.
        mend: what to type where it isn't; None where nothing is to be done.
        needed: whether training and scoring on this machine need it.
    """

    what: str
    ok: bool
    found: str
    mend: str | None = None
    needed: bool = True


def examine() -> list[Finding]:
    """Look at Python, Java, the packages, the jars and the workspace. Changes nothing and contacts nobody."""
    python = ".".join(map(str, sys.version_info[:3]))
    findings = [
        Finding(what="python", ok=sys.version_info >= (3, 10), found=python, mend="install Python 3.10 or newer")
    ]
    if not session.on_databricks():
        findings += [_java(), _package("pyspark", "spark"), _package("delta-spark", "spark")]
        if all(finding.ok for finding in findings):
            findings += [_jar("delta jar", java.delta_package()), _jar("lake jar", java.lake_package())]
    else:
        findings.append(Finding(what="databricks", ok=True, found=os.environ["DATABRICKS_RUNTIME_VERSION"]))
    workspace, finding = _workspace()
    findings += [
        _package("mlflow-skinny", None),
        _package("mlflow", "local", needed=workspace is not None and workspace.folder is not None),
        _package("azure-identity", "azure", needed=False),
        _package("azure-ai-ml", "aml", needed=False),
        _azureml(),
        _lakes(),
        finding,
    ]
    return findings


def _package(name: str, extra: str | None, *, needed: bool = True) -> Finding:
    asked = _asked(name)
    mend = f"pip install 'aml-spark[{extra}]'" if extra else f"pip install '{name}{asked}'"
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(what=name, ok=False, found="not installed", mend=mend, needed=needed)
    numbers = re.match(r"\d+(\.\d+)*", str(found))  # what a vendor appends need not be a version's
    if numbers is None or asked.contains(numbers[0]):
        return Finding(what=name, ok=True, found=found, needed=needed)
    return Finding(what=name, ok=False, found=f"{found}; expected {asked}", mend=mend, needed=needed)


def _asked(name: str) -> SpecifierSet:
    """The versions of a package that this one asks for; any, in a source checkout that isn't installed."""
    try:
        lines = importlib.metadata.requires("aml-spark") or []
    except importlib.metadata.PackageNotFoundError:
        lines = []
    asked = [str(one.specifier) for one in map(Requirement, lines) if one.name == name]
    return SpecifierSet(",".join(asked))


def _java() -> Finding:
    version, path = java.java_version(), java.find_java()
    mend = "apt-get install openjdk-17-jre-headless, or set JAVA_HOME"
    found = f"{version} ({path})" if path else "none on JAVA_HOME or the PATH"
    return Finding(what="java", ok=version is not None and version >= 17, found=found, mend=mend)


def _jar(what: str, package: str) -> Finding:
    there = java.jar_file(package).exists()
    found = package if there else f"{package}: not here yet, fetched when a session starts that needs it"
    return Finding(what=what, ok=there, found=found, mend=f"spark-shell --packages {package}", needed=False)


def _lakes() -> Finding:
    """What opens data lakes where a datastore or the caller names nothing else. Its kind alone is told."""
    account = os.environ.get("AZURE_STORAGE_ACCOUNT")
    credential = discover(Location(account=account or "any", filesystem="any"))
    kind = type(credential).__name__
    if isinstance(credential, (AccountKey, SasToken)):
        found = f"{kind} for the account {account!r}"
    elif isinstance(credential, SignedIn):
        found = "whoever azure-identity finds, for every account"
    else:
        found = f"{kind} of AZURE_CLIENT_ID, for every account"
    clients = _package("azure-identity", "azure", needed=False)
    if not clients.ok:
        found += "; but azure-identity isn't installed"
    return Finding(what="abfss://", ok=clients.ok, found=found, mend=clients.mend, needed=False)


def _azureml() -> Finding:
    """Whose plugin for `azureml://` answers: of several, the one that MLflow finds last."""
    found = importlib.metadata.entry_points(group="mlflow.tracking_store", name="azureml")
    names = list(dict.fromkeys(entry.dist.name for entry in found if entry.dist is not None))
    if names in ([], ["aml-spark"]):  # in a source checkout that isn't installed there are none
        return Finding(what="azureml://", ok=True, found="aml-spark", needed=False)
    last = names[-1]
    return Finding(
        what="azureml://",
        ok=False,
        found=f"{' and '.join(names)} are installed; {last} answers, and aml-spark after configure()",
        mend="pip uninstall azureml-mlflow, or call aml_spark.configure() first",
        needed=False,
    )


def _workspace() -> tuple[Workspace | None, Finding]:
    try:
        workspace = Workspace.find()
        found = masked(workspace.tracking_uri) + ("" if workspace.is_made else " (made when it is first used)")
        return workspace, Finding(what="workspace", ok=True, found=found)
    except AmlSparkError as error:
        return None, Finding(
            what="workspace",
            ok=False,
            found=error.message,
            mend=error.hint or "set MLFLOW_TRACKING_URI to a workspace's address, or write a config.json",
        )
