"""The loopback workspace as a whole."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import uuid
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import flask

from aml_spark.testing import artifacts, azurite, certificates, server
from aml_spark.testing.blobs import FolderBlobs
from aml_spark.testing.control import datastores, plane
from aml_spark.testing.control.ground import Ground
from aml_spark.testing.databricks import clusters, tree, workspace as databricks
from aml_spark.testing.faults import Faults
from aml_spark.testing.identity import Identity, RefusedToken
from aml_spark.testing.lake import account
from aml_spark.testing.mlflow_api import MlflowApi
from aml_spark.testing.process import environment
from aml_spark.testing.registry import Registry

RESOURCE_GROUP = "emulator"
WORKSPACE = "emulated"
REGISTRY = "shared"
_PROVIDER = f"resourceGroups/{RESOURCE_GROUP}/providers/Microsoft.MachineLearningServices"
_GUARDED = ("/mlflow/", "/history/", "/artifact/", "/data/", "/subscriptions/", "/mferp/", "/registrymanagement/")


class Emulator:
    """A workspace on 127.0.0.1, from `start` to `stop`; a context manager, too. One at a time in a process.

    Artifacts lie in Azurite where `azurite-blob` is on the PATH, else in a folder that is spoken to in the same way.

    Args:
        folder: where its store, its artifacts and `ca.pem` lie. What is there from before is served again.
        port: of its HTTPS server; 0 for a free one.
        token_lifetime: seconds that its tokens are good for.
    """

    def __init__(self, folder: str | Path, *, port: int = 0, token_lifetime: float = 3600) -> None:
        self.folder = Path(folder).absolute()
        self.identity = Identity(token_lifetime)
        self.faults = Faults(is_storage=account.mine)
        self.subscription_id = str(uuid.uuid4())
        self._port = port
        self._servers: list[Any] = []
        self._lock: IO[str] | None = None  # by which one emulator alone serves a folder
        self._azurite: azurite.AzuriteBlobs | None = None
        self._lake: account.LakeAccount | None = None
        self._control: plane.ControlPlane | None = None
        self._databricks: databricks.DatabricksWorkspace | None = None

    def start(self) -> dict[str, Any]:
        """Serve.

        Returns:
            What a client needs: `tracking_uri`, `registry_uri` (a registry that workspaces share), `mlflow_url`,
            `arm_url`, `proxy_url`, `token_url`, `authority_file` (of its certificate), `ca_file` (that authority, and
            those that everybody trusts, and this Python), `subscription_id`, `resource_group`, `workspace`,
            `tenant_id`, `client_id`, `client_secret`; for other ways to a token `client_certificate`,
            `federated_token_file`, `identity_endpoint` and `identity_header`; of a data lake `lake_url` (plain HTTP,
            where tokens are given out, too), `lake_account` and `lake_key`; of a Databricks workspace `databricks_url`,
            `databricks_token`, `databricks_cluster_id` (of a cluster that is running) and `databricks_volume` (a path);
            for Java `java_options` and `hadoop_conf_dir`; and as `environment` the variables that point MLflow, Azure's
            and Databricks' clients, Spark and this library here.

        Raises:
            BlockingIOError: another emulator serves what is in the folder.
            OSError: the port is in use.
        """
        socket.create_server(("127.0.0.1", self._port)).close()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock_folder()
        with contextlib.ExitStack() as undo:
            undo.callback(self._unlock_folder)
            subscription = self.folder / "subscription"
            if subscription.exists():
                self.subscription_id = subscription.read_text().strip()
            else:
                subscription.write_text(self.subscription_id)
            azurite_command, blobs = azurite.find(), None
            with certificates.made(self.folder, server.HOSTS) as (ca_file, certificate):
                if azurite_command is not None:
                    blobs = azurite.AzuriteBlobs(self.folder / "azurite", certificates.authority_file(ca_file))
                    undo.callback(blobs.stop)
                    blobs.start(azurite_command, certificate)
                lake = account.LakeAccount(self.folder, self.identity)
                undo.callback(lake.close)
                web = server.Server(self._app(blobs, lake), self._port, certificate)
                undo.callback(web.server_close)
                plain = server.PlainServer(self._lake_app(lake), 0)
                undo.callback(plain.server_close)
                own = (account.BLOB_HOST,)
                proxy = server.Proxy(0, web.port, blobs.port if blobs else web.port, own)
            undo.pop_all()
        self._servers, self._azurite, self._lake = [web, plain, proxy], blobs, lake
        for each in self._servers:
            server.serve(each)
        client_certificate, federated_token = self.identity.write(self.folder)
        base = f"https://127.0.0.1:{web.port}"
        facts: dict[str, Any] = {
            "tracking_uri": f"azureml://{urlsplit(base).netloc}/mlflow/v1.0{self.arm_id}",
            "registry_uri": f"azureml://{urlsplit(base).netloc}/mlflow/v1.0{self._registry_id}",
            "mlflow_url": f"{base}/mlflow/v2.0{self.arm_id}",
            "arm_url": base,
            "proxy_url": proxy.url,
            "token_url": f"{base}/{self.identity.tenant_id}/oauth2/v2.0/token",
            "ca_file": str(ca_file),
            "authority_file": str(certificates.authority_file(ca_file)),
            "subscription_id": self.subscription_id,
            "resource_group": RESOURCE_GROUP,
            "workspace": WORKSPACE,
            "tenant_id": self.identity.tenant_id,
            "client_id": self.identity.client_id,
            "client_secret": self.identity.client_secret,
            "client_certificate": str(client_certificate),
            "federated_token_file": str(federated_token),
            "identity_endpoint": f"{base}/msi/token",
            "identity_header": self.identity.identity_header,
            "lake_url": f"http://127.0.0.1:{plain.port}/{account.ACCOUNT}",
            "lake_account": account.ACCOUNT,
            "lake_key": lake.key,
            "databricks_url": base,
            "databricks_cluster_id": clusters.CLUSTER_ID,
            "databricks_volume": tree.VOLUME,
            "java_options": certificates.java_options(ca_file),
            "hadoop_conf_dir": str(self._hadoop_conf(urlsplit(base).netloc)),
        }
        if self._databricks is not None:
            facts["databricks_token"] = self._databricks.token
        facts["environment"] = environment(facts)
        if self._control is not None:
            self._control.ground.environment = facts["environment"]
        if self._databricks is not None:
            self._databricks.environment = facts["environment"]
        return facts

    def _hadoop_conf(self, endpoint: str) -> Path:
        """A folder with settings of Hadoop's that lead each account of Azure's to the lake."""
        folder = self.folder / "hadoop"
        folder.mkdir(exist_ok=True)
        settings = {
            "fs.azure.abfs.endpoint": endpoint,
            # Hadoop 3.5 sends some when Java ends, for half an hour where nobody answers any more.
            "fs.azure.metrics.collection.enabled": "false",
        }
        told = "".join(
            f"<property><name>{name}</name><value>{value}</value></property>" for name, value in settings.items()
        )
        (folder / "core-site.xml").write_text(f"<configuration>{told}</configuration>\n")
        return folder

    def stop(self) -> None:
        """Close the servers, and end what they started; the folder stays."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._databricks is not None:
            self._databricks.close()
            self._databricks = None
        for each in self._servers:
            each.shutdown()
            each.server_close()
        self._servers = []
        if self._lake is not None:
            self._lake.close()
            self._lake = None
        if self._azurite is not None:
            self._azurite.stop()
            self._azurite = None
        self._unlock_folder()

    def _lock_folder(self) -> None:
        lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise BlockingIOError(error.errno, "an emulator serves what is in it already", str(self.folder)) from None
        self._lock = lock

    def _unlock_folder(self) -> None:
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_UN)  # a process that was forked meanwhile would hold it on
            self._lock.close()
            self._lock = None

    def __enter__(self) -> dict[str, Any]:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def arm_id(self) -> str:
        """The workspace's id in Azure Resource Manager."""
        return f"/subscriptions/{self.subscription_id}/{_PROVIDER}/workspaces/{WORKSPACE}"

    @property
    def _registry_id(self) -> str:
        return f"/subscriptions/{self.subscription_id}/{_PROVIDER}/registries/{REGISTRY}"

    def _lake_app(self, lake: account.LakeAccount) -> Any:
        """The storage account, and tokens for it: a machine's come over plain HTTP on Azure, too."""
        app = flask.Flask("aml_spark.testing.lake", static_folder=None)
        app.register_blueprint(self.identity.routes())
        return self.faults.around(lake.before(app.wsgi_app))

    def _app(self, blobs: artifacts.Blobs | None, lake: account.LakeAccount) -> flask.Flask:
        app = flask.Flask("aml_spark.testing", static_folder=None)

        @app.before_request
        def guard() -> Any:
            if not flask.request.path.startswith(_GUARDED):
                return None
            try:
                self.identity.check(flask.request.headers.get("Authorization"))
            except RefusedToken as refused:
                return artifacts.failure(401, "Unauthorized", str(refused))
            return None

        runs = MlflowApi(self.folder / "mlflow.db", self.arm_id)
        behind_host = None
        if blobs is None:
            blobs = folder_blobs = FolderBlobs(self.folder / "blobs")
            app.register_blueprint(folder_blobs.routes())
            behind_host = folder_blobs.by_host
        blobs.create(artifacts.CONTAINER)
        app.register_blueprint(self.identity.routes())
        for filesystem in datastores.FILESYSTEMS:
            lake.create(filesystem)
        ground = Ground(self.folder / "control", self.arm_id, runs, lake, blobs, self.identity)
        self._control = plane.ControlPlane(ground)
        for each in self._control.routes():
            app.register_blueprint(each)
        app.register_blueprint(runs.routes())
        app.register_blueprint(artifacts.routes(self.arm_id, runs, blobs))
        app.register_blueprint(Registry(self.folder, self._registry_id, blobs).routes())
        self._databricks = databricks.DatabricksWorkspace(self.folder / "databricks")
        app.register_blueprint(self._databricks.routes())
        app.register_blueprint(self.faults.routes())

        app.wsgi_app = self.faults.around(lake.before(app.wsgi_app))  # type: ignore[method-assign]
        if behind_host is not None:
            app.wsgi_app = behind_host(app.wsgi_app)  # type: ignore[method-assign]
        return app
