"""Tables in a data lake, read and written by Hadoop's own driver: by each kind of credential, and what is refused."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pyarrow.parquet as pq
import pytest
from azure.storage.filedatalake import DataLakeServiceClient, FileSystemSasPermissions, generate_file_system_sas
from jobs import Flow
from models import register_sum
from processes import FOR_FEW_ROWS, connect_server

import aml_spark
from aml_spark import datalake, datastore, doctor, java, refusals, session
from aml_spark.datalake import AccountKey, LakePath, Location, ManagedIdentity, SasToken, ServicePrincipal, SignedIn
from aml_spark.errors import DataLakeError
from aml_spark.testing import EmulatorProcess

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SECRETS = ("account.key", "sas.fixed.token", "oauth2.client.secret")


@pytest.fixture(scope="module")
def environment(azureml_emulator: EmulatorProcess) -> Iterator[dict[str, Any]]:
    """This process points to the emulator, and so do the Java processes that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in azureml_emulator.environment.items():
            patch.setenv(name, value)
        yield azureml_emulator.facts


@pytest.fixture(scope="module")
def lake_spark(environment: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A session with Hadoop's driver for data lakes, which isn't let into any account yet."""
    if session.active_session() is not None:
        pytest.skip("Java trusts the emulator from its start: run this file in a process of its own, as make does")
    events = tmp_path_factory.mktemp("events")
    logged = {"spark.eventLog.enabled": "true", "spark.eventLog.compress": "false", "spark.eventLog.dir": str(events)}
    spark = aml_spark.get_spark(
        "lake", master="local[2]", conf={**FOR_FEW_ROWS, **logged}, uris=["abfss://any@account.dfs.core.windows.net/t"]
    )
    yield spark
    spark.stop()


@pytest.fixture
def root(environment: dict[str, Any]) -> Location:
    """A new file system: Java keeps its connection to one, and with it what opened it."""
    filesystem = f"fs-{uuid.uuid4().hex[:12]}"
    with _service(environment) as service:
        service.create_file_system(filesystem)
    return Location(account=environment["lake_account"], filesystem=filesystem)


@pytest.fixture
def model(tracking: aml_spark.Tracking) -> str:
    return f"models:/lake/{register_sum('lake')}"


def _service(facts: dict[str, Any]) -> DataLakeServiceClient:
    return DataLakeServiceClient(facts["lake_url"], credential=facts["lake_key"])


def _signed(facts: dict[str, Any], root: Location, hours: float = 1) -> str:
    rights = FileSystemSasPermissions(read=True, write=True, list=True, create=True, delete=True, add=True, move=True)
    end = dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=hours)
    return generate_file_system_sas(root.account, root.filesystem, facts["lake_key"], rights, end)


def _heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _flow(spark: SparkSession, root: Location) -> Flow:
    flow = Flow(spark, Path())
    flow.source, flow.target = (root / "a b" / "sourçe").uri, (root / "target").uri
    return flow


KINDS = {
    "key": lambda facts, root: AccountKey(key=facts["lake_key"]),
    "signature": lambda facts, root: SasToken(token=_signed(facts, root)),
    "principal": lambda facts, root: ServicePrincipal(
        tenant_id=facts["tenant_id"],
        client_id=facts["client_id"],
        client_secret=facts["client_secret"],
        authority=os.environ["AZURE_AUTHORITY_HOST"],
    ),
    "signed in": lambda facts, root: SignedIn(location=root),
    "managed identity": lambda facts, root: ManagedIdentity(
        endpoint=f"{facts['arm_url']}/metadata/identity/oauth2/token", tenant_id=facts["tenant_id"]
    ),
    "workload identity": lambda facts, root: datalake.WorkloadIdentity(
        tenant_id=facts["tenant_id"],
        client_id=facts["client_id"],
        token_file=facts["federated_token_file"],
        authority=os.environ["AZURE_AUTHORITY_HOST"],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_is_let_in_by_each_kind_of_credential(
    lake_spark: SparkSession,
    environment: dict[str, Any],
    root: Location,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("identity_endpoint", "identity_header"):  # where azure-identity asks for a machine's tokens
        monkeypatch.setenv(name.upper(), environment[name])
    spark = lake_spark.newSession()
    place = datalake.find(root / "table", credential=KINDS[kind](environment, root))
    datalake.connect(spark, place)
    spark.range(0, 5, 1, 1).write.format("delta").save(place.uri)
    assert spark.read.format("delta").load(place.uri).count() == 5
    # The client for Python is let in by the same.
    with datalake.client(place) as client:
        assert any(found.name.endswith("00000000000000000000.json") for found in client.get_paths("table"))
    for secret in (environment["lake_key"], environment["client_secret"], "sig="):
        assert secret not in repr(place)


def test_scoring_from_lake_to_lake_needs_nothing_else_and_the_sdk_sees_the_same_rows(
    lake_spark: SparkSession, environment: dict[str, Any], root: Location, model: str, tmp_path: Path
) -> None:
    flow = _flow(lake_spark.newSession(), root)
    datalake.connect(flow.spark, datalake.find(root))
    flow.make()
    spark = flow.spark = lake_spark.newSession()  # let in by the environment alone
    assert (
        aml_spark.score(spark, model=model, source=flow.source, target=flow.target, mode="changes", key=["id"]).rows
        == 20
    )
    flow.sql("UPDATE SOURCE SET x = x + 0.5 WHERE id < 3", "DELETE FROM SOURCE WHERE id = 7")
    second = flow.score(model)
    assert (second.scope, second.rows, second.deleted) == ("changes", 3, 1)
    assert flow.rows() == flow.expected()
    assert [one.source for one in aml_spark.lineage(lake_spark.newSession(), flow.target)] == [flow.source] * 2
    files = [Path(file).name for file in spark.read.format("delta").load(flow.target).inputFiles()]
    seen = 0
    with _service(environment) as service:
        client = service.get_file_system_client(root.filesystem)
        for name in files:
            local = tmp_path / name
            local.write_bytes(client.get_file_client(f"target/{name}").download_file().readall())
            seen += pq.read_metadata(local).num_rows
    assert seen >= 19  # rows that deletion vectors take away are in the files


def test_a_datastore_of_the_workspace_is_scored_by_its_name(
    lake_spark: SparkSession, environment: dict[str, Any], tracking: aml_spark.Tracking
) -> None:
    tables = "azureml://datastores/workspaceblobstore/paths/tables"
    with pytest.raises(aml_spark.WorkspaceError, match="isn't configured for an Azure Machine Learning workspace"):
        datalake.find(tables)
    with aml_spark.configure(workspace=environment["tracking_uri"], experiment="lake", autolog=False):
        model = f"models:/stored/{register_sum('stored')}"
        found = {one.name: one for one in datastore.listed()}
        assert {"workspaceblobstore", "lake"} <= set(found)
        assert found["workspaceblobstore"].kind == "AzureBlob"
        place = datalake.find(f"{tables}/source")
        assert place.credential == AccountKey(key=environment["lake_key"])
        flow = Flow(lake_spark.newSession(), Path())
        flow.source = place.uri
        datalake.connect(flow.spark, place)
        flow.make()
        own = lake_spark.newSession()
        assert aml_spark.score(own, model=model, source=f"{tables}/source", target=f"{tables}/target").rows == 20
        assert own.conf.get(f"fs.azure.account.auth.type.{place.location.host}") == "SharedKey"
        with pytest.raises(DataLakeError, match="has no datastore 'nowhere'"):
            datalake.find("azureml://datastores/nowhere/paths/x")
        identity = datalake.find("azureml://datastores/lake/paths/x")  # keeps no credential
        assert isinstance(identity.credential, ServicePrincipal)
    assert flow.spark.read.format("delta").load(f"{place.uri.rpartition('/')[0]}/target").count() == 20


@pytest.mark.parametrize("given", ["another key", "an ended signature"])
def test_what_the_account_refuses_names_the_account_the_path_and_the_reason(
    lake_spark: SparkSession, environment: dict[str, Any], root: Location, given: str
) -> None:
    spark, where = lake_spark.newSession(), root / "table"
    credential: Any = AccountKey(key="bm90IHRoZSBrZXk=")
    if given == "an ended signature":
        credential = SasToken(token=_signed(environment, root, -1))
    datalake.connect(spark, LakePath(location=where, credential=credential))
    told = f"'{root.account}' doesn't accept the key or the signature for 'table'.*AuthenticationFailed"
    with pytest.raises(DataLakeError, match=told) as failed:
        aml_spark.lineage(spark, where.uri)
    assert failed.value.hint
    assert "sig=" not in str(failed.value)


def test_a_file_system_that_is_not_there_is_named(
    lake_spark: SparkSession, environment: dict[str, Any], model: str, tmp_path: Path
) -> None:
    spark, source = lake_spark.newSession(), str(tmp_path / "source")
    spark.range(3).selectExpr("id", "double(id) x", "double(id) y").write.format("delta").save(source)
    target = f"abfss://nowhere@{environment['lake_account']}.dfs.core.windows.net/table"
    with pytest.raises(aml_spark.TableError, match="has no file system 'nowhere'"):
        aml_spark.score(spark, model=model, source=source, target=target)


def test_two_file_systems_of_an_account_have_signatures_of_their_own(
    lake_spark: SparkSession, environment: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = [Location(account=environment["lake_account"], filesystem=f"fs-{uuid.uuid4().hex[:12]}") for _ in range(2)]
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", environment["lake_account"])
    spark = lake_spark.newSession()
    for root in roots:
        with _service(environment) as service:
            service.create_file_system(root.filesystem)
        monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", _signed(environment, root))
        with pytest.raises(aml_spark.TableNotFoundError):  # and not for want of a key
            aml_spark.lineage(spark, (root / "table").uri)
        spark.range(3).write.format("delta").save((root / "table").uri)
    assert [spark.read.format("delta").load((root / "table").uri).count() for root in roots] == [3, 3]


def test_a_path_that_a_principal_may_not_read_is_named(
    lake_spark: SparkSession, environment: dict[str, Any], root: Location
) -> None:
    spark = lake_spark.newSession()
    with _service(environment) as service:
        folder = service.get_file_system_client(root.filesystem).create_directory("closed/table")
        folder.create_file("x.txt")
        service.get_file_system_client(root.filesystem).get_directory_client("closed").set_access_control(
            permissions="---------"
        )
    with pytest.raises(DataLakeError, match=r"'closed/table'.*AuthorizationPermissionMismatch"):
        aml_spark.lineage(spark, (root / "closed" / "table").uri)


def test_a_lake_is_scored_on_connect(
    environment: dict[str, Any], root: Location, model: str, workspace: aml_spark.Workspace, tmp_path: Path
) -> None:
    conf = {
        **session.DELTA_CONF,
        **FOR_FEW_ROWS,
        **java.jar_settings(f"{java.delta_package()},{java.lake_package()}"),
    }
    worker = Path(__file__).parent / "workers" / "lake_connect.py"
    with connect_server(conf, tmp_path / "server.log") as server:
        command = [sys.executable, worker, server, (root / "source").uri, (root / "target").uri, model]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**os.environ, "MLFLOW_TRACKING_URI": workspace.tracking_uri},
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    results, predictions = json.loads(done.stdout.splitlines()[-1])
    assert results == [[5, False], [1, False]]
    assert predictions == [1.0, 2.0, 3.0, 4.0, 5.0, 10.0]
    assert environment["lake_key"] not in (tmp_path / "server.log").read_text(errors="replace")


def test_a_session_without_the_driver_is_told_what_to_add() -> None:
    error = RuntimeError("java.lang.ClassNotFoundException: Class org.apache.hadoop.fs.azurebfs."
                         "SecureAzureBlobFileSystem not found")  # fmt: skip
    told = refusals.refusal("abfss://a@b.dfs.core.windows.net/t", error)
    assert told is not None
    assert re.search(r"--packages org\.apache\.hadoop:hadoop-azure:\d", told.hint or "")
    assert refusals.refusal("./table", RuntimeError("AuthenticationFailed")) is None


def test_no_log_shows_what_opens_an_account(
    lake_spark: SparkSession,
    environment: dict[str, Any],
    root: Location,
    model: str,
    workspace: aml_spark.Workspace,
    caplog: pytest.LogCaptureFixture,
) -> None:
    flow = _flow(lake_spark.newSession(), root)
    datalake.connect(flow.spark, datalake.find(root, credential=AccountKey(key=environment["lake_key"])))
    flow.make()
    caplog.set_level("DEBUG")
    flow.score(model)
    secrets = [environment["lake_key"], environment["client_secret"]]
    folder = Path(lake_spark.conf.get("spark.eventLog.dir").removeprefix("file:"))
    events = "".join(file.read_text(errors="replace") for file in folder.rglob("*") if file.is_file())
    assert "fs.azure.account.key" in events  # which is told, and its value isn't
    shown = flow.spark.sql("SET").toPandas().to_string()
    with mlflow.start_run():
        flow.score(model, force=True)
    stored = b"".join(file.read_bytes() for file in Path(str(workspace.folder)).rglob("*") if file.is_file())
    assert b"aml_spark" in stored
    told = json.dumps([asdict(finding) for finding in doctor.examine()])
    for secret in secrets:
        assert secret.encode() not in stored
        assert secret not in told
        assert secret not in events
        assert secret not in caplog.text
        assert secret not in shown


@pytest.mark.parametrize(
    ("kind", "path", "method"),
    [
        ("unavailable", "", None),
        ("drop", "", None),
        # The rename with which Delta commits. A file that was made and isn't told of fails Hadoop's task.
        ("drop-after", r"/_delta_log/\d+\.json", "PUT"),
        ("cut", r"/_delta_log/\d", "GET"),  # not of lists, which Hadoop doesn't ask for again
    ],
)
def test_a_table_is_written_once_whatever_happens_to_requests(
    lake_spark: SparkSession,
    environment: dict[str, Any],
    azureml_emulator: EmulatorProcess,
    root: Location,
    kind: str,
    path: str,
    method: str | None,
) -> None:
    spark, table = lake_spark.newSession(), (root / "table").uri
    datalake.connect(spark, datalake.find(table))
    spark.range(3).write.format("delta").save(table)
    azureml_emulator.forget(seed=7)
    rate, times = (1.0, 2) if method == "PUT" else (0.3, 6)
    azureml_emulator.plan(kind=kind, path=f"{root.filesystem}.*{path}", method=method, times=times, rate=rate)
    try:
        for _ in range(2):
            spark.range(3).write.format("delta").mode("append").save(table)
            assert spark.read.format("delta").load(table).count() % 3 == 0
    finally:
        azureml_emulator.forget()
    assert spark.read.format("delta").load(table).count() == 9


def test_two_processes_that_commit_the_same_version_lose_nothing(
    lake_spark: SparkSession, environment: dict[str, Any], root: Location
) -> None:
    rounds, table = 50, (root / "table").uri
    spark = lake_spark.newSession()
    datalake.connect(spark, datalake.find(table))
    spark.sql(f"CREATE TABLE delta.`{table}` (writer string, round int) USING delta")
    worker = Path(__file__).parent / "workers" / "lake_writer.py"
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, worker, name, table],
                    env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
            for name in ("a", "b")
        ]
        assert [_heard(writer) for writer in writers] == ["ready", "ready"]
        for number in range(rounds):
            for writer in writers:
                print(number, file=writer.stdin, flush=True)
            assert [_heard(writer) for writer in writers] == ["done", "done"]
        for writer in writers:
            writer.communicate()
    assert [writer.returncode for writer in writers] == [0, 0]
    rows = spark.read.format("delta").load(table)
    assert rows.distinct().count() == rows.count() == 2 * rounds
    history = spark.sql(f"DESCRIBE HISTORY delta.`{table}`").select("version").collect()
    assert sorted(row.version for row in history) == list(range(2 * rounds + 1))


def test_the_demo_runs_with_tables_and_artifacts_in_the_lake(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aml_spark", "demo", "--lake", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "255,987 flights scored with flight-delay/1" in done.stdout
    assert "and in abfss://lake@amlsparklake.dfs.core.windows.net/demo:" in done.stdout
    assert {place.name for place in tmp_path.iterdir()} == {
        "aml-spark-emulator", "mlworkspace", "report.html"
    }  # fmt: skip
    with EmulatorProcess(tmp_path / "aml-spark-emulator") as kept, _service(kept.facts) as service:
        names = [found.name for found in service.get_file_system_client("lake").get_paths("demo")]
    assert {"demo/flights/_delta_log", "demo/predictions/_delta_log"} <= set(names)
    assert any(name.startswith("demo/artifacts/flights/models/") and name.endswith("/MLmodel") for name in names)
    assert not (tmp_path / "mlworkspace" / "artifacts").exists()
