"""Addresses: which are Azure ML's, and what of one may be shown."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from aml_spark.errors import WorkspaceError, did_you_mean, listed

# Hosts of the workspaces' MLflow endpoints by cloud: https://<region><suffix>/mlflow/…
CLOUD_REGIONS: Mapping[str, frozenset[str]] = {
    ".api.azureml.ms": frozenset(
        """
        australiacentral australiaeast australiasoutheast austriaeast belgiumcentral brazilsouth
        canadacentral canadaeast centralindia centralus centraluseuap chilecentral eastasia eastus eastus2
        eastus2euap francecentral germanywestcentral indonesiacentral israelcentral italynorth japaneast
        japanwest jioindiawest koreacentral koreasouth malaysiawest mexicocentral newzealandnorth
        northcentralus northeurope norwayeast polandcentral qatarcentral southafricanorth southcentralus
        southeastasia southindia spaincentral swedencentral switzerlandnorth switzerlandwest uaenorth
        uksouth ukwest westcentralus westeurope westindia westus westus2 westus3
        """.split()  # noqa: SIM905
    ),
    ".api.ml.azure.cn": frozenset(["chinaeast2", "chinaeast3", "chinanorth2", "chinanorth3"]),
    ".api.ml.azure.us": frozenset(["usgovarizona", "usgovvirginia"]),
}

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?")
_CONTROL_SUFFIX = ".experiments.azureml.net"  # cert-<region> of it is where a registry's control plane is

_REGISTRY = re.compile(
    r"azureml://[^/]+/mlflow/v[\d.]+/subscriptions/[\w-]+/resourceGroups/[\w()-][\w.()-]*"
    r"/providers/Microsoft\.MachineLearningServices/registries/\w[\w-]*/?",
    re.IGNORECASE,
)


def region_host(region: str) -> str:
    """The host of a region's MLflow endpoints.

    Args:
        region: Azure's short name of it, such as `westeurope`.

    Raises:
        WorkspaceError: no region is called so.
    """
    for suffix, regions in CLOUD_REGIONS.items():
        if region in regions:
            return region + suffix
    every = sorted(frozenset().union(*CLOUD_REGIONS.values()))
    raise WorkspaceError(
        f"region is {region!r}, which isn't known; expected Azure's short name of a region, such as 'westeurope'",
        hint=did_you_mean(region, every) or f"for a new region give host={region + '.api.azureml.ms'!r} instead",
    )


def check_host(host: str, chosen: Collection[str] = ()) -> None:
    """See that a host is one of Azure ML's, or this machine, or one that a person chose.

    Args:
        host: `host[:port]`.
        chosen: such hosts.

    Raises:
        WorkspaceError: it is another one, or not a host at all: what else an address can hold before its path is read
            in one way by one library and in another by the next.
    """
    if not _HOST.fullmatch(host):
        raise WorkspaceError(f"the host {masked(f'//{host}')[2:]!r} isn't one; expected <name> or <name>:<port>")
    name = urlsplit(f"//{host}").hostname or ""
    if name in _LOOPBACK or host in chosen:
        return
    for suffix in (*CLOUD_REGIONS, _CONTROL_SUFFIX):
        if name.endswith(suffix):
            region = name.removesuffix(suffix)
            try:
                region_host(region.removeprefix("cert-") if suffix == _CONTROL_SUFFIX else region)
            except WorkspaceError as error:
                raise WorkspaceError(f"the host {host!r}: {error.message}", hint=error.hint) from None
            return
    raise WorkspaceError(
        f"the host {host!r} isn't one of Azure ML's; expected <region> and one of {listed(CLOUD_REGIONS)}",
        hint="for a host of your own make the value with Workspace(subscription_id=…, …, host=…)",
    )


def masked(uri: str) -> str:
    """A URI without the passwords and tokens that it may carry."""
    without_user = re.sub(r"(?s)(?<=//).*@", "***@", uri)
    return re.sub(r"(\?)(?=[^=]+$).*|([?&;][^=&;]*=)[^&;]*", lambda found: f"{found[1] or found[2]}***", without_user)


def is_registry(uri: str) -> bool:
    """Whether this is the address of a registry of Azure ML, which workspaces share."""
    return _REGISTRY.fullmatch(uri) is not None


def unsigned(text: str) -> str:
    """A text without the signatures of the addresses in it, as Azure, Amazon and Google write them."""
    return re.sub(r"(?i)\b(sig|signature|x-(?:amz|goog)-[\w-]+)=[^&\s'\")]+", r"\1=***", text)


def told(error: Exception, *uris: str) -> str:
    """What an error says; its type alone where its text may quote one of these addresses with a password in it."""
    return unsigned(str(error)) if all(masked(uri) == uri for uri in uris) else type(error).__name__
