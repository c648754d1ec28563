"""The loopback workspace as a whole."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import flask

from aml_spark.testing import artifacts, azurite, certificates, server
from aml_spark.testing.blobs import FolderBlobs
from aml_spark.testing.faults import Faults
from aml_spark.testing.identity import Identity, RefusedToken
from aml_spark.testing.mlflow_api import MlflowApi

RESOURCE_GROUP = "emulator"
WORKSPACE = "emulated"
_GUARDED = ("/mlflow/", "/history/", "/artifact/", "/subscriptions/")


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
        self.faults = Faults()
        self.subscription_id = str(uuid.uuid4())
        self._port = port
        self._servers: list[Any] = []
        self._azurite: azurite.AzuriteBlobs | None = None

    def start(self) -> dict[str, str]:
        """Serve.

        Returns:
            What a client needs: `tracking_uri`, `mlflow_url`, `arm_url`, `proxy_url`, `token_url`, `ca_file`,
            `subscription_id`, `resource_group`, `workspace`, `tenant_id`, `client_id`, `client_secret`; for other ways
            to a token `client_certificate`, `federated_token_file`, `identity_endpoint` and `identity_header`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        subscription = self.folder / "subscription"
        if subscription.exists():
            self.subscription_id = subscription.read_text().strip()
        else:
            subscription.write_text(self.subscription_id)
        azurite_command, blobs = azurite.find(), None
        with certificates.made(self.folder, server.HOSTS) as (ca_file, certificate):
            if azurite_command is not None:
                blobs = azurite.AzuriteBlobs(self.folder / "azurite", ca_file)
                blobs.start(azurite_command, certificate)
            web = server.Server(self._app(blobs), self._port, certificate)
        proxy = server.Proxy(0, web.port, blobs.port if blobs else web.port)
        self._servers, self._azurite = [web, proxy], blobs
        for each in self._servers:
            server.serve(each)
        client_certificate, federated_token = self.identity.write(self.folder)
        base = f"https://127.0.0.1:{web.port}"
        return {
            "tracking_uri": f"azureml://{urlsplit(base).netloc}/mlflow/v1.0{self.arm_id}",
            "mlflow_url": f"{base}/mlflow/v2.0{self.arm_id}",
            "arm_url": base,
            "proxy_url": proxy.url,
            "token_url": f"{base}/{self.identity.tenant_id}/oauth2/v2.0/token",
            "ca_file": str(ca_file),
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
        }

    def stop(self) -> None:
        """Close the servers; the folder stays."""
        for each in self._servers:
            each.shutdown()
            each.server_close()
        self._servers = []
        if self._azurite is not None:
            self._azurite.stop()
            self._azurite = None

    def __enter__(self) -> dict[str, str]:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def arm_id(self) -> str:
        """The workspace's id in Azure Resource Manager."""
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{RESOURCE_GROUP}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{WORKSPACE}"
        )

    def _app(self, blobs: artifacts.Blobs | None) -> flask.Flask:
        app = flask.Flask("aml_spark.testing", static_folder=None)
        runs = MlflowApi(self.folder, self.arm_id)
        if blobs is None:
            blobs = FolderBlobs(self.folder / "blobs")
            app.register_blueprint(blobs.routes())
        app.register_blueprint(self.identity.routes())
        app.register_blueprint(runs.routes())
        app.register_blueprint(artifacts.routes(self.arm_id, runs, blobs))
        app.register_blueprint(self.faults.routes())

        @app.before_request
        def guard() -> Any:
            if not flask.request.path.startswith(_GUARDED):
                return None
            try:
                self.identity.check(flask.request.headers.get("Authorization"))
            except RefusedToken as refused:
                return artifacts.failure(401, "Unauthorized", str(refused))
            return None

        app.wsgi_app = self.faults.around(app.wsgi_app)  # type: ignore[method-assign]
        return app
