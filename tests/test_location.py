"""What URIs of data lakes and datastores mean, and what opens an account on this machine."""

from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest

from aml_spark.credential import AccountKey, SasToken, ServicePrincipal, SignedIn, WorkloadIdentity, discover
from aml_spark.errors import ArgumentError
from aml_spark.location import DatastorePath, Location, in_lake

PLACE = Location(account="account1", filesystem="data", path="a/b")
SECRET = "k-e-y-0123456789"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("abfss://data@account1.dfs.core.windows.net/a/b", "a/b"),
        ("ABFSS://data@account1.dfs.core.windows.net//a//b/", "a/b"),
        ("abfs://data@account1.dfs.core.windows.net/a/b", "a/b"),
        ("abfss://data@account1.dfs.core.windows.net", ""),
        ("abfss://data@account1.dfs.core.windows.net/a b/ü=1/%20", "a b/ü=1/%20"),
        ("https://account1.dfs.core.windows.net/data/a%20b/%2520", "a b/%20"),
        ("https://account1.blob.core.windows.net/data/a/b", "a/b"),
    ],
)
def test_a_uri_is_read(uri: str, path: str) -> None:
    found = Location.of(uri)
    assert (found.account, found.filesystem, found.path) == ("account1", "data", path)
    assert Location.of(found.uri) == found


def test_a_national_cloud_keeps_its_suffix() -> None:
    uri = "abfss://data@account1.dfs.core.chinacloudapi.cn/a"
    assert (Location.of(uri).host, Location.of(uri).uri) == ("account1.dfs.core.chinacloudapi.cn", uri)
    assert (PLACE / "c").uri == "abfss://data@account1.dfs.core.windows.net/a/b/c"


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("abfss://data@Account.dfs.core.windows.net/a", "account is 'Account'"),
        ("abfss://d@account1.dfs.core.windows.net/a", "filesystem is 'd'"),
        ("abfss://data@account1.example.com/a", "expected one of dfs.core.windows.net"),
        ("abfss://data@account1.dfs.core.windows.net/a/../b", "'.' and '..'"),
        ("wasbs://data@account1.blob.core.windows.net/a", "abfss://data@account1.dfs.core.windows.net/a"),
        ("https://account1.dfs.core.windows.net/data/a?sv=1&sig=secret", "credential=SasToken"),
        ("abfss://data@account1.dfs.core.windows.net/a?sv=1&sig=secret", "credential=SasToken"),
        ("s3://data/a", "expected abfss://<filesystem>@<account>"),
    ],
)
def test_another_uri_is_refused_with_what_to_write(uri: str, told: str) -> None:
    with pytest.raises(ArgumentError) as failed:
        Location.of(uri)
    assert told in str(failed.value)
    assert "secret" not in str(failed.value)


def test_a_datastores_path_is_read_short_and_long() -> None:
    assert DatastorePath.of("azureml://datastores/lake/paths/a b/c") == DatastorePath(name="lake", path="a b/c")
    assert DatastorePath.of("azureml://datastores/lake") == DatastorePath(name="lake")
    long = "azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/lake/paths/a"
    whole = DatastorePath(name="lake", path="a", subscription_id="s", resource_group="g", workspace="w")
    assert DatastorePath.of(long) == whole
    with pytest.raises(ArgumentError, match="azureml://datastores/<name>/paths/<path>"):
        DatastorePath.of("azureml://jobs/x/outputs")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("abfss://x", True),
        ("azureml://datastores/x", True),
        ("./abfss", False),
        ("delta.`abfss://x`", True),
        ("main.s.t", False),
        ("s3://x", False),
    ],
)
def test_which_texts_mean_a_lake(text: str, wanted: bool) -> None:
    assert in_lake(text) == wanted


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.startswith(("AZURE_", "AML_SPARK_", "DATABRICKS_")):
            monkeypatch.delenv(name)
    return monkeypatch


PRINCIPAL = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c"}


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, SignedIn(location=PLACE)),
        ({"AZURE_STORAGE_ACCOUNT": "account1", "AZURE_STORAGE_KEY": SECRET}, AccountKey(key=SECRET)),
        ({"AZURE_STORAGE_ACCOUNT": "other", "AZURE_STORAGE_KEY": SECRET}, SignedIn(location=PLACE)),
        ({"AZURE_STORAGE_ACCOUNT": "account1", "AZURE_STORAGE_SAS_TOKEN": SECRET}, SasToken(token=SECRET)),
        (
            {**PRINCIPAL, "AZURE_CLIENT_SECRET": SECRET},
            ServicePrincipal(tenant_id="t", client_id="c", client_secret=SECRET),
        ),
        (
            {**PRINCIPAL, "AZURE_FEDERATED_TOKEN_FILE": "/t", "AZURE_AUTHORITY_HOST": "https://login"},
            WorkloadIdentity(tenant_id="t", client_id="c", token_file="/t", authority="https://login"),
        ),
        ({"AZURE_CLIENT_SECRET": SECRET}, SignedIn(location=PLACE)),
    ],
)
def test_what_opens_an_account_is_found_in_the_environment(
    bare: pytest.MonkeyPatch, environ: dict[str, str], wanted: object
) -> None:
    for name, value in environ.items():
        bare.setenv(name, value)
    found = discover(PLACE)
    assert found == wanted
    assert SECRET not in repr(found)


def test_a_databricks_secret_scope_goes_first(bare: pytest.MonkeyPatch) -> None:
    secrets = {"account1-sas": "?sv=1&sig=x"}
    runtime = ModuleType("databricks.sdk.runtime")
    runtime.dbutils = SimpleNamespace(secrets=SimpleNamespace(get=lambda scope, key: secrets[key]))  # type: ignore[attr-defined]
    bare.setitem(sys.modules, "databricks.sdk.runtime", runtime)
    bare.setenv("AML_SPARK_SECRET_SCOPE", "scope")
    bare.setenv("AZURE_STORAGE_ACCOUNT", "account1")
    bare.setenv("AZURE_STORAGE_KEY", SECRET)
    assert discover(PLACE) == SasToken(token="?sv=1&sig=x")
    assert discover(Location(account="other", filesystem="data")) == SignedIn(
        location=Location(account="other", filesystem="data")
    )


def test_settings_name_the_account_and_leave_out_a_question_mark() -> None:
    from aml_spark import datalake

    found = datalake.settings(datalake.LakePath(location=PLACE, credential=SasToken(token="?sv=1&sig=x")))
    assert found == {
        "fs.azure.account.auth.type.account1.dfs.core.windows.net": "SAS",
        "fs.azure.sas.fixed.token.data.account1.dfs.core.windows.net": "sv=1&sig=x",
    }
