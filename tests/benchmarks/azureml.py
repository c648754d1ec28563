"""A run that is logged to a workspace, beside azureml-mlflow: seconds and requests.

    python tests/benchmarks/azureml.py [--megabytes 500] [--pairs 3] [--latency 0.02]

Both log the same run to the same emulator, in turn: azureml-mlflow with the MLflow that it wants in `.venv-official`,
this library with the MLflow of `.venv`. The emulator waits `--latency` seconds before each answer, as a network would.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from aml_spark.testing import EmulatorProcess

ROOT = Path(__file__).parent.parent.parent


CONFIGURED = """
import json, time
import mlflow.pyfunc
import aml_spark

def timed():
    start = time.perf_counter()
    with aml_spark.configure(experiment="configured", autolog=False):
        return time.perf_counter() - start

print(json.dumps([timed(), timed()]))
"""


def configured(emulator: EmulatorProcess) -> tuple[float, float, int]:
    """Seconds of the first `configure` and of a second one in a new process, and the requests of both."""
    emulator.forget()
    command = [sys.executable, "-c", CONFIGURED]
    done = subprocess.run(command, env={**os.environ, **emulator.environment}, capture_output=True, check=True)
    asked = [path for _, path in emulator.requests if path.startswith("/mlflow/")]
    return (*json.loads(done.stdout), len(asked))


def log_run(python: str | Path, emulator: EmulatorProcess, megabytes: int, latency: float) -> dict[str, Any]:
    path = emulator.facts["tracking_uri"].partition("/mlflow/")[2]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AZURE"))}
    env |= emulator.environment
    del env["AZURE_AUTHORITY_HOST"]
    env |= {
        "MLFLOW_TRACKING_URI": f"azureml://westeurope.api.azureml.ms/mlflow/{path}",
        "HTTPS_PROXY": emulator.facts["proxy_url"],
        "AZUREML_CURRENT_CLOUD": "AzureCloud",
        "EMULATOR_URL": emulator.facts["arm_url"],
        "DO_NOT_TRACK": "true",
    }
    command = [python, ROOT / "tests" / "workers" / "logged_run.py", str(megabytes), str(latency)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.02)
    options = parser.parse_args()
    theirs, ours = [], []
    for _ in range(options.pairs):
        for python, found in ((ROOT / ".venv-official" / "bin" / "python", theirs), (sys.executable, ours)):
            with tempfile.TemporaryDirectory() as folder, EmulatorProcess(folder) as emulator:
                found.append(log_run(python, emulator, options.megabytes, options.latency))
    with tempfile.TemporaryDirectory() as folder, EmulatorProcess(folder) as emulator:
        first, second, requests = [
            statistics.median(each) for each in zip(*[configured(emulator) for _ in range(5)], strict=True)
        ]
    machine = f"{dt.date.today()}, {os.cpu_count()} cores, {platform.platform()}"
    print(f"{machine}; median of {options.pairs} pairs, {options.latency} s before each answer")
    print(f"{'':<36}{'azureml-mlflow':>24}{'aml-spark':>24}{'ratio':>8}")
    print(f"{'':<36}" + f"{'s':>8}{'requests':>9}{'blobs':>7}" * 2)
    for part in theirs[0]:
        cells, medians = [], []
        for runs in (theirs, ours):
            medians.append(statistics.median(run[part]["seconds"] for run in runs))
            counts = runs[0][part]
            cells.append(f"{medians[-1]:>8.2f}{counts['workspace']:>9}{counts['storage']:>7}")
        print(f"{part:<36}{''.join(cells)}{medians[0] / medians[1]:>8.2f}")
    print(f"configure() with its token: {first:.2f} s, again: {second:.2f} s, together {requests} requests")


if __name__ == "__main__":
    main()
