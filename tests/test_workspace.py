"""Addresses of workspaces, as values."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from aml_spark.addresses import masked
from aml_spark.errors import WorkspaceError
from aml_spark.workspace import Workspace

ID = "11111111-2222-3333-4444-555555555555"
ARM = f"/subscriptions/{ID}/resourceGroups/rg-1/providers/Microsoft.MachineLearningServices/workspaces/ws_1"
URI = f"azureml://westeurope.api.azureml.ms/mlflow/v1.0{ARM}"
CONFIG = {"subscription_id": ID, "resource_group": "rg-1", "workspace_name": "ws_1"}
FIELDS = {"subscription_id": ID, "resource_group": "rg-1", "name": "ws_1"}
AZUREML_ENV = {
    "AZUREML_ARM_SUBSCRIPTION": ID,
    "AZUREML_ARM_RESOURCEGROUP": "rg-1",
    "AZUREML_ARM_WORKSPACE_NAME": "ws_1",
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "AZUREML_", "DATABRICKS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def _config(folder: Path, content: Any = CONFIG, name: str = "config.json") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


# The value itself


def test_a_value_of_fields_has_its_addresses() -> None:
    workspace = Workspace(**FIELDS, region="westeurope")
    assert workspace.arm_id == ARM
    assert workspace.host == "westeurope.api.azureml.ms"
    assert workspace.tracking_uri == workspace.registry_uri == URI
    assert workspace.artifact_root is None


@pytest.mark.parametrize("region", ["West Europe", "westeurope", "WestEurope", "west-europe", " west_europe "])
def test_a_region_is_understood_however_it_is_written(region: str) -> None:
    assert Workspace(**FIELDS, region=region) == Workspace(**FIELDS, region="westeurope")


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("chinaeast2", "chinaeast2.api.ml.azure.cn"),
        ("usgovvirginia", "usgovvirginia.api.ml.azure.us"),
        ("eastus2euap", "eastus2euap.api.azureml.ms"),
    ],
)
def test_each_cloud_has_its_host(region: str, host: str) -> None:
    assert Workspace(**FIELDS, region=region).tracking_uri == f"azureml://{host}/mlflow/v1.0{ARM}"


def test_an_unknown_region_with_a_host_is_taken() -> None:
    workspace = Workspace(**FIELDS, region="marsnorth", host="marsnorth.api.azureml.ms")
    assert workspace.tracking_uri.startswith("azureml://marsnorth.api.azureml.ms/mlflow/")


def test_a_region_with_a_typo_gets_a_hint() -> None:
    with pytest.raises(WorkspaceError, match="region is 'westeurop'") as caught:
        Workspace(**FIELDS, region="westeurop")
    assert caught.value.hint == "did you mean 'westeurope'?"


def test_a_region_that_nobody_knows_says_how_to_give_a_host() -> None:
    with pytest.raises(WorkspaceError, match="region is 'qqq'") as caught:
        Workspace(**FIELDS, region="qqq")
    assert caught.value.hint is not None
    assert "host='qqq.api.azureml.ms'" in caught.value.hint


@pytest.mark.parametrize("field", sorted(FIELDS))
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_field_is_named(field: str, value: str | None) -> None:
    with pytest.raises(WorkspaceError, match=f"^{field} is missing"):
        Workspace(**{**FIELDS, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subscription_id", "my-subscription"),
        ("subscription_id", ID + "0"),
        ("subscription_id", ID + "\n"),
        ("resource_group", "ends."),
        ("resource_group", "a/b"),
        ("resource_group", "a" * 91),
        ("name", "-ws"),
        ("name", "my ws"),
        ("name", "a/../b"),
    ],
)
def test_a_malformed_field_is_named_with_its_value(field: str, value: str) -> None:
    with pytest.raises(WorkspaceError) as caught:
        Workspace(**{**FIELDS, field: value})
    assert caught.value.message.startswith(f"{field} is {value!r}; expected ")


def test_nothing_at_all_is_not_a_workspace() -> None:
    with pytest.raises(WorkspaceError, match="subscription_id is missing"):
        Workspace()


def test_a_workspace_without_region_says_so_when_its_address_is_asked_for() -> None:
    workspace = Workspace(**FIELDS)
    assert workspace.arm_id == ARM
    with pytest.raises(WorkspaceError, match="region is missing") as caught:
        workspace.tracking_uri  # noqa: B018
    assert caught.value.hint is not None
    assert "region=" in caught.value.hint


def test_a_workspace_is_frozen_and_keyword_only() -> None:
    workspace = Workspace.local("w")
    with pytest.raises(dataclasses.FrozenInstanceError):
        workspace.folder = "/elsewhere"  # type: ignore[misc]
    with pytest.raises(TypeError):
        Workspace(ID, "rg-1", "ws_1")  # type: ignore[misc]


def test_equal_fields_make_equal_workspaces() -> None:
    assert Workspace(**FIELDS, region="westeurope") == Workspace(**FIELDS, region="westeurope")
    assert Workspace(**FIELDS, region="westeurope") != Workspace(**FIELDS, region="northeurope")
    assert len({Workspace.local("w"), Workspace.local("./w"), Workspace.local("v")}) == 2


def test_a_registry_elsewhere_goes_before_the_workspaces_own() -> None:
    workspace = Workspace.local("w")
    assert workspace.registry_uri == workspace.tracking_uri
    other = workspace.with_registry("sqlite:///r.db")
    assert (other.registry_uri, other.tracking_uri) == ("sqlite:///r.db", workspace.tracking_uri)
    assert workspace.registry is None
    assert workspace.with_registry(None) is workspace


def test_an_azure_workspace_keeps_its_fields_with_another_registry() -> None:
    workspace = Workspace(**FIELDS, region="westeurope").with_registry("databricks-uc")
    assert (workspace.tracking_uri, workspace.registry_uri) == (URI, "databricks-uc")


@pytest.mark.parametrize(
    ("uri", "registry"),
    [
        ("databricks", "databricks-uc"),
        ("databricks://profile", "databricks-uc://profile"),
        ("http://databricks:5000", "http://databricks:5000"),
    ],
)
def test_databricks_registers_in_unity_catalog(uri: str, registry: str) -> None:
    assert Workspace(uri=uri).registry_uri == registry


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://user:pa55word@host/db",
        "postgresql+psycopg2://user:pa55word@host:5432/db",
        "https://user:pa55word@host/path",
        "https://pa55word@host/path",
        "postgresql://user:x/pa55word@host/db",  # SQLAlchemy takes a slash there
        "https://user:x@pa55word@host/db",  # urlsplit takes an @ there
        "postgresql://host/db?user=u&password=pa55word",
        "https://host/path?token=pa55word",
    ],
)
def test_a_password_is_masked_in_texts(uri: str) -> None:
    workspace = Workspace(uri=uri, registry=uri)
    assert workspace.tracking_uri == uri
    assert "pa55word" not in masked(uri)
    assert "pa55word" not in repr(workspace)
    assert "pa55word" not in str(workspace)
    assert "pa55word" not in f"{workspace}"


@pytest.mark.parametrize("uri", [URI, "sqlite:///a.db", "databricks://profile"])
def test_an_address_without_secret_is_shown_whole(uri: str) -> None:
    assert masked(uri) == uri


def test_the_text_shows_what_is_set_and_nothing_else() -> None:
    assert repr(Workspace(uri="sqlite:///a.db")) == "Workspace(uri='sqlite:///a.db')"


# local


def test_a_local_workspace_is_a_store_and_a_folder(tmp_path: Path) -> None:
    workspace = Workspace.local(tmp_path / "w")
    assert workspace.tracking_uri == workspace.registry_uri == f"sqlite:///{tmp_path}/w/mlflow.db"
    assert workspace.artifact_root == f"{tmp_path}/w/artifacts"
    assert workspace.arm_id is None
    assert list(tmp_path.iterdir()) == []


def test_a_relative_folder_stays_where_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace.local()
    monkeypatch.chdir("/")
    assert workspace.folder == str(tmp_path / "mlworkspace")


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Workspace.local("~/w").folder == str(tmp_path / "w")


@pytest.mark.parametrize("name", ["a b", "100%", "c#1", "ü", "a=b&c"])
def test_a_local_store_lies_in_its_folder_whatever_the_folders_name(tmp_path: Path, name: str) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    workspace = Workspace.local(tmp_path / name)
    # What MLflow makes of the address.
    assert sqlalchemy.make_url(workspace.tracking_uri).database == str(tmp_path / name / "mlflow.db")


def test_a_folder_that_sqlite_cannot_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="has a '\\?'"):
        Workspace.local(tmp_path / "who?")


# from_config


def test_a_config_file_is_read(tmp_path: Path) -> None:
    workspace = Workspace.from_config(_config(tmp_path, {**CONFIG, "region": "westeurope"}))
    assert workspace == Workspace(**FIELDS, region="westeurope")


def test_a_config_files_folder_may_be_named(tmp_path: Path) -> None:
    _config(tmp_path / "a")
    _config(tmp_path / "b", name=".azureml/config.json")
    assert Workspace.from_config(tmp_path / "a") == Workspace.from_config(tmp_path / "b") == Workspace(**FIELDS)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    file = _config(tmp_path, "\ufeff" + json.dumps(CONFIG))
    assert file.read_bytes().startswith(b"\xef\xbb\xbf")
    assert Workspace.from_config(file) == Workspace.from_config() == Workspace(**FIELDS)


def test_the_region_may_stand_as_location_or_be_given(tmp_path: Path) -> None:
    file = _config(tmp_path, {**CONFIG, "location": "northeurope"})
    assert Workspace.from_config(file).region == "northeurope"
    assert Workspace.from_config(file, region="westeurope").tracking_uri == URI


def test_azures_download_has_no_region_and_the_error_says_so(tmp_path: Path) -> None:
    workspace = Workspace.from_config(_config(tmp_path))
    with pytest.raises(WorkspaceError, match="region"):
        workspace.tracking_uri  # noqa: B018


@pytest.mark.parametrize("field", sorted(CONFIG))
@pytest.mark.parametrize("value", [None, "", "  ", 5, ["a"]])
def test_a_field_missing_from_the_file_is_named_with_the_file(tmp_path: Path, field: str, value: Any) -> None:
    file = _config(tmp_path, {**CONFIG, field: value})
    with pytest.raises(WorkspaceError, match=f"lacks '{field}'") as caught:
        Workspace.from_config(file)
    assert str(file) in caught.value.message
    assert caught.value.hint


def test_all_missing_fields_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="lacks 'subscription_id', 'resource_group', 'workspace_name'"):
        Workspace.from_config(_config(tmp_path, {}))


@pytest.mark.parametrize("field", ["region", "location"])
def test_a_region_that_is_no_text_is_an_error_with_the_file(tmp_path: Path, field: str) -> None:
    file = _config(tmp_path, {**CONFIG, field: 5})
    with pytest.raises(WorkspaceError) as caught:
        Workspace.from_config(file)
    assert str(file) in caught.value.message


def test_a_malformed_field_of_the_file_is_named_with_the_file(tmp_path: Path) -> None:
    file = _config(tmp_path, {**CONFIG, "subscription_id": "mine"})
    with pytest.raises(WorkspaceError, match="subscription_id is 'mine'") as caught:
        Workspace.from_config(file)
    assert str(file) in caught.value.message


@pytest.mark.parametrize("content", ["", "{", "subscription_id: 5", "{'a': 1}"])
def test_a_file_that_is_not_json_is_named(tmp_path: Path, content: str) -> None:
    file = _config(tmp_path, content)
    with pytest.raises(WorkspaceError, match="can't be read as JSON") as caught:
        Workspace.from_config(file)
    assert str(file) in caught.value.message


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(json.dumps(CONFIG).encode("utf-16"))
    with pytest.raises(WorkspaceError, match="can't be read as JSON"):
        Workspace.from_config(file)


@pytest.mark.parametrize(("content", "kind"), [("[]", "list"), ("5", "int"), ('"x"', "str"), ("null", "NoneType")])
def test_json_that_is_no_object_is_named(tmp_path: Path, content: str, kind: str) -> None:
    with pytest.raises(WorkspaceError, match=f"holds a JSON {kind}; expected an object"):
        Workspace.from_config(_config(tmp_path, content))


@pytest.mark.parametrize("name", ["config.json", ".azureml/config.json", "aml_config/config.json"])
def test_a_config_file_is_found_upwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    _config(tmp_path, name=name)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert Workspace.from_config() == Workspace(**FIELDS)


def test_the_nearest_config_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _config(tmp_path, {**CONFIG, "workspace_name": "far"})
    _config(tmp_path / "a", {**CONFIG, "workspace_name": "near"}, ".azureml/config.json")
    monkeypatch.chdir(tmp_path / "a")
    assert Workspace.from_config().name == "near"


def test_config_files_of_other_programs_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _config(tmp_path)
    _config(tmp_path / "a", {"theme": "dark"})
    (tmp_path / "a" / "b" / "config.json").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").mkdir()
    (tmp_path / "a" / "b" / "c" / "config.json").write_bytes(b"\xff\x00\xfe")
    monkeypatch.chdir(tmp_path / "a" / "b" / "c")
    assert Workspace.from_config() == Workspace(**FIELDS)


def test_no_config_file_upwards_says_where_it_looked(tmp_path: Path) -> None:
    _config(tmp_path, {"theme": "dark"})
    with pytest.raises(WorkspaceError, match="or above it") as caught:
        Workspace.from_config()
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint


def test_a_named_folder_is_not_left_upwards(tmp_path: Path) -> None:
    _config(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WorkspaceError, match=r"no config\.json"):
        Workspace.from_config(tmp_path / "empty")
    with pytest.raises(WorkspaceError, match=r"no config\.json"):
        Workspace.from_config(tmp_path / "missing.json")


# from_uri


@pytest.mark.parametrize(
    "uri",
    [
        URI,
        URI + "?",
        URI + "/",
        URI.replace("azureml://", "AzureML://"),
        URI.replace("azureml://", "https://"),
        URI.replace("azureml://", "https://").replace("v1.0", "v2.0"),
        URI.replace("resourceGroups", "resourcegroups").replace("Microsoft.Machine", "microsoft.machine"),
    ],
)
def test_an_azure_address_is_read_in_each_of_its_forms(uri: str) -> None:
    workspace = Workspace.from_uri(uri)
    assert (workspace.subscription_id, workspace.resource_group, workspace.name) == tuple(FIELDS.values())
    assert workspace.tracking_uri == URI


def test_an_address_survives_being_read() -> None:
    assert Workspace.from_uri(URI) == Workspace.from_uri(Workspace.from_uri(URI).tracking_uri)


@pytest.mark.parametrize("uri", [ARM, ARM.lstrip("/"), ARM + "/"])
def test_an_arm_id_takes_its_region_from_beside(uri: str) -> None:
    assert Workspace.from_uri(uri, region="westeurope").tracking_uri == URI
    assert Workspace.from_uri(uri) == Workspace(**FIELDS)


def test_a_region_typo_beside_an_arm_id_gets_a_hint() -> None:
    with pytest.raises(WorkspaceError, match="westeurpe") as caught:
        Workspace.from_uri(ARM, region="westeurpe")
    assert caught.value.hint == "did you mean 'westeurope'?"


@pytest.mark.parametrize("port", ["", ":8443"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_loopback_host_is_taken_with_its_port(host: str, port: str) -> None:
    uri = URI.replace("westeurope.api.azureml.ms", host + port)
    assert Workspace.from_uri(uri).tracking_uri == uri


def test_a_bad_guid_in_an_address_is_named() -> None:
    with pytest.raises(WorkspaceError, match="subscription_id is 'mine'; expected a GUID"):
        Workspace.from_uri(URI.replace(ID, "mine"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("westeurope.api.azureml.ms", "example.com", "the host 'example.com'"),
        ("westeurope.api.azureml.ms", "westeurope.api.azureml.ms.example.com", "isn't one of Azure ML's"),
        ("westeurope.api.azureml.ms", "evilapi.azureml.ms", "isn't one of Azure ML's"),
        ("westeurope.api.azureml.ms", "", "the host ''"),
        ("/workspaces/ws_1", "", "doesn't end in the id of a workspace"),
        ("/workspaces/ws_1", "/workspaces/ws_1/jobs/5", "doesn't end in the id of a workspace"),
        ("/workspaces/ws_1", "/workspaces/", "name is missing"),
    ],
)
def test_a_wrong_part_of_an_address_is_named(old: str, new: str, message: str) -> None:
    with pytest.raises(WorkspaceError) as caught:
        Workspace.from_uri(URI.replace(old, new))
    assert message in caught.value.message


def test_a_typo_in_an_addresss_region_gets_a_hint() -> None:
    with pytest.raises(WorkspaceError, match=r"westeurop\.api\.azureml\.ms") as caught:
        Workspace.from_uri(URI.replace("westeurope", "westeurop"))
    assert caught.value.hint == "did you mean 'westeurope'?"


@pytest.mark.parametrize(
    "uri", ["azureml:", "azureml://", "azureml://westeurope.api.azureml.ms/", "azureml://jobs/x/outputs"]
)
def test_an_azureml_address_of_something_else_says_how_the_right_one_looks(uri: str) -> None:
    with pytest.raises(WorkspaceError, match=r"expected azureml://<region>\.api\.azureml\.ms/mlflow/v1\.0"):
        Workspace.from_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "databricks",
        "databricks://profile",
        "sqlite:///m.db",
        "sqlite:////abs/m.db",
        "http://localhost:5000",
        "https://mlflow.example.com/path",
        "postgresql+psycopg2://host/db",
        "mysql+pymysql://host/db",
        "file:///tmp/mlruns",
    ],
)
def test_an_address_of_another_store_is_taken_as_it_is(uri: str) -> None:
    workspace = Workspace.from_uri(uri)
    assert workspace == Workspace(uri=uri)
    assert (workspace.tracking_uri, workspace.arm_id) == (uri, None)


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("azurml://host/mlflow", "did you mean 'azureml'?"),
        ("sqllite:///m.db", "did you mean 'sqlite'?"),
        ("gopher://x", None),
        ("", None),
        ("./folder", None),
    ],
)
def test_an_unknown_scheme_is_an_error(uri: str, hint: str | None) -> None:
    with pytest.raises(WorkspaceError, match="isn't an address of a workspace") as caught:
        Workspace.from_uri(uri)
    assert caught.value.hint == hint


@pytest.mark.parametrize("uri", ["http://[::1", "azureml://[bad/mlflow"])
def test_an_address_that_cannot_be_parsed_is_a_workspace_error(uri: str) -> None:
    with pytest.raises(WorkspaceError):
        Workspace.from_uri(uri)


@pytest.mark.parametrize("uri", ["gopher://user:pa55word@host/x", "azureml://user:pa55word@host/x"])
def test_an_error_does_not_quote_a_password(uri: str) -> None:
    with pytest.raises(WorkspaceError) as caught:
        Workspace.from_uri(uri)
    assert "pa55word" not in str(caught.value)


# from_env


def test_an_empty_environment_names_nothing() -> None:
    assert Workspace.from_env({}) is None
    assert Workspace.from_env() is None
    assert Workspace.from_env({"MLFLOW_TRACKING_URI": "", **dict.fromkeys(AZUREML_ENV, "")}) is None


@pytest.mark.parametrize("uri", ["sqlite:///m.db", "http://localhost:5000", "databricks", "./mlruns", "/abs/mlruns"])
def test_mlflows_variable_names_a_store(uri: str) -> None:
    assert Workspace.from_env({"MLFLOW_TRACKING_URI": uri}) == Workspace(uri=uri)


def test_mlflows_variable_may_name_an_azure_workspace() -> None:
    assert Workspace.from_env({"MLFLOW_TRACKING_URI": URI}) == Workspace.from_uri(URI)


def test_mlflows_variables_go_before_azures() -> None:
    env = {**AZUREML_ENV, "MLFLOW_TRACKING_URI": "sqlite:///m.db", "MLFLOW_REGISTRY_URI": "sqlite:///r.db"}
    assert Workspace.from_env(env) == Workspace(uri="sqlite:///m.db", registry="sqlite:///r.db")


def test_a_malformed_variable_is_named() -> None:
    with pytest.raises(WorkspaceError, match=r"^MLFLOW_TRACKING_URI: ") as caught:
        Workspace.from_env({"MLFLOW_TRACKING_URI": "sqllite:///m.db"})
    assert caught.value.hint == "did you mean 'sqlite'?"


def test_azures_variables_name_a_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    env = {**AZUREML_ENV, "AZUREML_SERVICE_ENDPOINT": "https://westeurope.api.azureml.ms"}
    found = Workspace.from_env(env)
    assert found is not None
    assert found.tracking_uri == URI
    assert Workspace.from_env({**AZUREML_ENV, "AZUREML_REGION": "westeurope"}) == Workspace(
        **FIELDS, region="westeurope"
    )
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert Workspace.from_env() == found


@pytest.mark.parametrize("empty", ["AZUREML_REGION", "AZUREML_SERVICE_ENDPOINT"])
def test_an_empty_variable_counts_as_not_set(empty: str) -> None:
    assert Workspace.from_env({**AZUREML_ENV, empty: ""}) == Workspace(**FIELDS)


@pytest.mark.parametrize("missing", sorted(AZUREML_ENV))
def test_a_part_of_azures_variables_is_an_error(missing: str) -> None:
    env = {name: value for name, value in AZUREML_ENV.items() if name != missing}
    with pytest.raises(WorkspaceError, match=f"'{missing}' not set"):
        Workspace.from_env(env)


def test_a_malformed_azure_variable_is_an_error() -> None:
    with pytest.raises(WorkspaceError, match=r"from AZUREML_.* subscription_id is 'mine'"):
        Workspace.from_env({**AZUREML_ENV, "AZUREML_ARM_SUBSCRIPTION": "mine"})


# find


def test_find_gives_a_workspace_back() -> None:
    workspace = Workspace.local("w")
    assert Workspace.find(workspace) is workspace


@pytest.mark.parametrize("uri", ["databricks", "sqlite:///m.db", "file:/tmp/mlruns", URI, ARM])
def test_find_takes_an_address(uri: str) -> None:
    assert Workspace.find(uri) == Workspace.from_uri(uri)


def test_find_takes_a_config_file(tmp_path: Path) -> None:
    file = _config(tmp_path, name="other.json")
    assert Workspace.find(file) == Workspace.find("other.json") == Workspace(**FIELDS)
    with pytest.raises(WorkspaceError, match=r"missing\.json"):
        Workspace.find("missing.json")


def test_find_takes_a_folder(tmp_path: Path) -> None:
    assert Workspace.find("w") == Workspace.find(tmp_path / "w") == Workspace.local("w")


def test_find_refuses_a_misspelt_address() -> None:
    with pytest.raises(WorkspaceError, match="sqllite"):
        Workspace.find("sqllite:///m.db")


def test_find_looks_at_the_environment_then_upwards_then_at_databricks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Workspace.find() == Workspace.local("mlworkspace")
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "15.4")
    assert Workspace.find() == Workspace(uri="databricks")
    _config(tmp_path, name=".azureml/config.json")
    assert Workspace.find() == Workspace(**FIELDS)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///m.db")
    assert Workspace.find() == Workspace(uri="sqlite:///m.db")


def test_find_passes_over_config_files_of_other_programs(tmp_path: Path) -> None:
    _config(tmp_path, {"theme": "dark"})
    assert Workspace.find() == Workspace.local("mlworkspace")


def test_what_is_no_workspace_is_named_for_what_it_is() -> None:
    registry = f"azureml://westeurope.api.azureml.ms/mlflow/v1.0{ARM.rpartition('/workspaces/')[0]}/registries/shared"
    with pytest.raises(WorkspaceError, match="is a registry, which holds models and no runs") as raised:
        Workspace.find(registry)
    assert "registry=" in (raised.value.hint or "")
    with pytest.raises(WorkspaceError, match="is the page of a workspace; expected its MLflow address"):
        Workspace.find(f"https://ml.azure.com/?wsid={ARM}")


@pytest.mark.parametrize(
    ("uri", "tracking"), [("databricks-uc", "databricks"), ("databricks-uc://me", "databricks://me")]
)
def test_unity_catalog_stands_for_the_databricks_workspace_that_has_it(uri: str, tracking: str) -> None:
    workspace = Workspace.find(uri)
    assert (workspace.tracking_uri, workspace.registry_uri) == (tracking, uri)


def test_a_folder_is_the_same_by_each_of_its_paths(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert Workspace.local(tmp_path / "link") == Workspace.local(tmp_path / "x" / ".." / "real")
