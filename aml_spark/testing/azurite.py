"""The workspace's artifacts on Azurite, Microsoft's own emulator of Azure Storage."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import os
import re
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import flask

ACCOUNT = "amlsparkazurite"
_LIFETIME = dt.timedelta(hours=1)


def find() -> str | None:
    """Azurite's command, where it is on the PATH (npm install azurite)."""
    return shutil.which("azurite-blob")


class AzuriteBlobs:
    """Containers of Azurite's, from `start` to `stop`.

    Args:
        folder: where Azurite keeps it.
        ca_file: the authority of its certificate.
    """

    account = ACCOUNT

    def __init__(self, folder: Path, ca_file: Path) -> None:
        self.folder, self._ca_file = folder, ca_file
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def start(self, command: str, certificate: Path) -> None:
        """Start it, with a certificate and its key in one file.

        Raises:
            RuntimeError: it ended; with its words.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        key_file = self.folder / "account.key"  # what is signed with it is read again after the next start
        if not key_file.exists():
            key_file.touch(mode=0o600)
            key_file.write_text(base64.b64encode(secrets.token_bytes(64)).decode())
        self._key = key_file.read_text()
        place = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--location", os.fspath(self.folder)]
        secured = ["--cert", os.fspath(certificate), "--key", os.fspath(certificate)]
        self._process = subprocess.Popen(
            [command, *place, *secured, "--silent", "--disableTelemetry", "--skipApiVersionCheck"],
            env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{self._key}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # The emulator blocks these to wait for them, and what it starts would inherit that.
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM)),  # noqa: PLW1509
        )
        assert self._process.stdout is not None
        said = ""
        for line in self._process.stdout:
            said += line
            if found := re.search(r"listens on https://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                break
        else:
            self.stop()
            raise RuntimeError(f"Azurite didn't start: {said[-3000:]}")

    def stop(self) -> None:
        """End it; the folder stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()
            self._process = None

    def address(self, container: str, name: str, *, write: bool) -> str:
        """An address with a signature that lets its bearer write or read the blob for an hour."""
        from azure.storage.blob import BlobSasPermissions, generate_blob_sas

        rights = BlobSasPermissions(create=True, write=True) if write else BlobSasPermissions(read=True)
        sas = generate_blob_sas(ACCOUNT, container, name, account_key=self._key, permission=rights, expiry=_end())
        return f"{self._root()}/{container}/{quote(name)}?{sas}"

    def container_address(self, container: str, *, write: bool) -> str:
        """The same for all blobs of a container, which are also listed by it."""
        from azure.storage.blob import ContainerSasPermissions, generate_container_sas

        rights = ContainerSasPermissions(read=True, list=True, write=write, create=write)
        sas = generate_container_sas(ACCOUNT, container, account_key=self._key, permission=rights, expiry=_end())
        return f"{self._root()}/{container}?{sas}"

    def create(self, container: str) -> None:
        """Make a container where there is none."""
        from azure.core.exceptions import ResourceExistsError

        with contextlib.suppress(ResourceExistsError):
            self._container(container).create_container()

    def names(self, container: str, prefix: str) -> list[str]:
        """All blobs of a container whose names start like this, in their order."""
        return sorted(self._container(container).list_blob_names(name_starts_with=prefix))

    def put(self, container: str, name: str, file: Path) -> None:
        """Store a file of the emulator's own."""
        with file.open("rb") as content:
            self._container(container).upload_blob(name, content, overwrite=True)

    def fetch(self, container: str, name: str, file: Path) -> None:
        """Write a blob to a file of the emulator's own."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as target:
            self._container(container).download_blob(name).readinto(target)

    def _root(self) -> str:
        if flask.request.host.startswith("127."):
            return f"https://127.0.0.1:{self.port}/{ACCOUNT}"
        return f"https://{ACCOUNT}.blob.core.windows.net"

    def _container(self, container: str) -> Any:
        from azure.storage.blob import ContainerClient

        address = f"https://127.0.0.1:{self.port}/{ACCOUNT}"
        return ContainerClient(
            address, container, credential=self._key, connection_verify=os.fspath(self._ca_file), retry_total=0
        )


def _end() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc) + _LIFETIME
