"""A run such as people log, timed by its parts; prints seconds and requests as JSON. Runs with either plugin."""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import mlflow
import requests
from mlflow.entities import Metric, Param

MEGABYTES, LATENCY = int(sys.argv[1]), float(sys.argv[2])
EMULATOR, CA = os.environ["EMULATOR_URL"], os.environ["REQUESTS_CA_BUNDLE"]
told = {}


def timed(name, work):
    direct = requests.Session()
    direct.trust_env = False  # past the proxy
    direct.delete(f"{EMULATOR}/emulator/faults", verify=CA, timeout=60)
    if LATENCY:
        slow = {"kind": "slow", "times": 10**9, "seconds": LATENCY}
        direct.post(f"{EMULATOR}/emulator/faults", json=slow, verify=CA, timeout=60)
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    asked = direct.get(f"{EMULATOR}/emulator/requests", verify=CA, timeout=60).json()["requests"]
    workspace = [path for _, path in asked if path.startswith(("/mlflow", "/history", "/artifact"))]
    storage = [path for _, path in asked if path.startswith(("/amlspark", "/azureml"))]
    told[name] = {"seconds": seconds, "workspace": len(workspace), "storage": len(storage)}
    return result


folder = Path(tempfile.mkdtemp())
(folder / "small").mkdir()
for number in range(200):
    (folder / "small" / f"file {number}.txt").write_bytes(os.urandom(2_000))
with (folder / "large.bin").open("wb") as large:
    for _ in range(MEGABYTES):
        large.write(os.urandom(2**20))
client = mlflow.MlflowClient()
mlflow.set_experiment("benchmark")  # also gets the token, outside of what is measured
metrics = [Metric("loss", 1 / (step + 1), 1_700_000_000_000 + step, step) for step in range(1_000)]

run = timed("start", mlflow.start_run)
run_id = run.info.run_id
timed("100 params", lambda: client.log_batch(run_id, params=[Param(f"p{n}", "1") for n in range(100)]))
timed(
    "1,000 metrics",
    lambda: [client.log_batch(run_id, metrics=metrics[start : start + 200]) for start in range(0, 1_000, 200)],
)
timed("200 small artifacts", lambda: mlflow.log_artifacts(str(folder / "small"), "small"))
timed(f"one artifact of {MEGABYTES} MB", lambda: mlflow.log_artifact(str(folder / "large.bin")))
timed(
    "200 small artifacts, downloaded",
    lambda: mlflow.artifacts.download_artifacts(f"{run.info.artifact_uri}/small", dst_path=tempfile.mkdtemp()),
)
down = timed(
    f"one artifact of {MEGABYTES} MB, downloaded",
    lambda: mlflow.artifacts.download_artifacts(f"{run.info.artifact_uri}/large.bin", dst_path=tempfile.mkdtemp()),
)
assert Path(down).stat().st_size == MEGABYTES * 2**20


def register():
    name = f"benchmark-{run_id[:8]}"
    client.create_registered_model(name)
    client.create_model_version(name, f"{run.info.artifact_uri}/small", run_id)


timed("a registered model", register)
timed("end", mlflow.end_run)
print(json.dumps(told))
