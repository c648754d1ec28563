"""The emulator in a process of its own, as the tests of a job want it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests


class EmulatorProcess:
    """`aml-spark emulator`, from `start` to `stop`; a context manager, too.

    Args:
        folder: where it keeps what it gets; what is there from before is served again.
    """

    facts: dict[str, Any]
    """What a client needs, as `Emulator.start` gives it."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> EmulatorProcess:
        """Wait until it is ready.

        Raises:
            RuntimeError: it ended; with its words.
        """
        with tempfile.TemporaryFile("w+") as words:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "aml_spark", "emulator", "--dir", self.folder],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=words,
                text=True,
            )
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
            if not line:
                self.stop()
                words.seek(0)
                raise RuntimeError(f"the emulator didn't start: {words.read()[-3000:]}")
        self.facts = json.loads(line)
        return self

    def stop(self) -> None:
        """End it; the folder stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> EmulatorProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point MLflow, Azure's clients, Spark and this library to it."""
        return environment(self.facts)

    def plan(self, **fault: Any) -> None:
        """Have something go wrong with the next requests that fit.

        Args:
            fault: the fields of `aml_spark.testing.Fault`: `kind`, `path`, `method`, `times`, `rate`, `seconds`.
        """
        self._call("POST", "faults", json=fault)

    def forget(self, seed: int | None = None) -> None:
        """Forget what was planned, and the requests that came.

        Args:
            seed: what the `rate` of later faults draws by; None goes on as before.
        """
        self._call("DELETE", "faults", params={} if seed is None else {"seed": seed})

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Method and path of each request since the start or the last `forget`."""
        return [(method, path) for method, path in self._call("GET", "requests")["requests"]]

    def _call(self, method: str, path: str, **options: Any) -> Any:
        url = f"{self.facts['arm_url']}/emulator/{path}"
        answer = requests.request(method, url, verify=self.facts["authority_file"], timeout=60, **options)
        if not answer.ok:
            raise ValueError(answer.json()["error"]["message"])
        return answer.json()


def environment(facts: Mapping[str, str]) -> dict[str, str]:
    """The variables that point MLflow, Azure's and Databricks' clients, Spark and this library to an emulator.

    Hadoop's driver for data lakes finds the lake by `HADOOP_CONF_DIR` in whatever account a URI names, and Java trusts
    the emulator beside everybody else. Other clients find Azure's hosts by the proxy, which refuses all others, and
    trust the emulator alone: to reach others, too, set `REQUESTS_CA_BUNDLE` to its `ca_file`, and `NO_PROXY`.

    Args:
        facts: what `Emulator.start` gave.
    """
    return {
        "HADOOP_CONF_DIR": facts["hadoop_conf_dir"],
        "HTTPS_PROXY": facts["proxy_url"],
        "https_proxy": facts["proxy_url"],  # which goes before the other where both are set
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "JAVA_TOOL_OPTIONS": facts["java_options"],
        "MLFLOW_TRACKING_URI": facts["tracking_uri"],
        "REQUESTS_CA_BUNDLE": facts["authority_file"],  # the proxy lets nobody to other hosts
        "AZURE_AUTHORITY_HOST": facts["token_url"].partition(f"/{facts['tenant_id']}/")[0],
        "AZURE_TENANT_ID": facts["tenant_id"],
        "AZURE_CLIENT_ID": facts["client_id"],
        "AZURE_CLIENT_SECRET": facts["client_secret"],
        "DATABRICKS_HOST": facts["databricks_url"],
        "DATABRICKS_TOKEN": facts["databricks_token"],
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the pages that MLflow links to are not there
    }
