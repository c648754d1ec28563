"""A data lake on this machine: files by this library beside the SDK's plain loop, and scoring beside a local folder.

    python tests/benchmarks/lake.py [--files 500] [--megabytes 1024] [--rows 1000000] [--pairs 3] [--json FILE]

Files: 500 of 1 MB and one of 1 GB, up and down, both ways in turn against the same emulator, by HTTPS under Azure's own
host names, each in a process of its own. The plain loop is Microsoft's client, one file after the other as its
documentation has it. Scoring: a LightGBM model of 100 trees on so many rows of 20 doubles, from Delta to Delta. Ratios
are of one run; times are this machine's.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aml_spark import datalake
from aml_spark.testing import EmulatorProcess

ACCOUNT = "amlsparklake"
MEGABYTE = 2**20
WAYS = ("plain", "ours")


def main() -> None:
    """Compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--copy", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.copy:
        copy(*asked.copy)
        return
    warnings.simplefilter("ignore")
    versions = {name: version(name) for name in ("azure-storage-file-datalake", "pyspark", "delta-spark")}
    told = {"date": str(datetime.date.today()), "cores": os.cpu_count(), **versions}
    print(", ".join(f"{name} {value}" for name, value in told.items()), flush=True)
    with tempfile.TemporaryDirectory() as folder, EmulatorProcess(Path(folder, "emulator")) as emulator:
        os.environ.update(emulator.environment)
        os.environ["LAKE_KEY"] = emulator.facts["lake_key"]
        results = []
        for name, count, size in (("many", asked.files, 1), ("large", 1, asked.megabytes)):
            results += copied(Path(folder, name), count, size, asked.pairs)
        results.append(scored(Path(folder), asked.rows, asked.pairs))
    if asked.json:
        asked.json.write_text(json.dumps({**told, "results": results}, indent=1))


def copied(folder: Path, count: int, megabytes: int, pairs: int) -> list[dict[str, Any]]:
    """Copy files up and down, both ways in turn."""
    folder.mkdir()
    for number in range(count):
        with (folder / f"{number}.bin").open("wb") as file:
            for _ in range(megabytes):
                file.write(os.urandom(MEGABYTE))
    seconds: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}
    for _ in range(pairs):
        for direction in ("up", "down"):
            for way in WAYS:
                command = [sys.executable, __file__, "--copy", way, direction, str(folder)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                took, peak = json.loads(done.stdout.splitlines()[-1])
                seconds.setdefault(f"{direction} {way}", []).append(took)
                peaks[f"{direction} {way}"] = max(peak, peaks.get(f"{direction} {way}", 0))
    results = []
    for direction in ("up", "down"):
        plain, ours = seconds[f"{direction} plain"], seconds[f"{direction} ours"]
        ratios = [one / other for one, other in zip(plain, ours, strict=True)]
        results.append(
            {
                "what": f"{count} files of {megabytes} MB {direction}",
                "times faster": round(statistics.median(ratios), 2),
                "from": round(min(ratios), 2),
                "to": round(max(ratios), 2),
                "plain MB": round(peaks[f"{direction} plain"]),
                "ours MB": round(peaks[f"{direction} ours"]),
            }
        )
        print(results[-1], flush=True)
    return results


def copy(way: str, direction: str, folder: str) -> None:
    """One way in a process of its own; tells the seconds, and by how much memory grew, in MB."""
    local = Path(folder) if direction == "up" else Path(f"{folder} {way}")
    name = Path(folder).name
    work = (plain if way == "plain" else ours)(direction, local, f"{name} {way}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    work()
    took = time.perf_counter() - start
    print(json.dumps([took, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024]))
    if direction == "down":
        shutil.rmtree(local)


def plain(direction: str, local: Path, name: str) -> Callable[[], None]:
    """Microsoft's client, one file after the other."""
    from azure.storage.filedatalake import DataLakeServiceClient

    service = DataLakeServiceClient(f"https://{ACCOUNT}.dfs.core.windows.net", credential=os.environ["LAKE_KEY"])
    lake = service.get_file_system_client("lake")

    def work() -> None:
        if direction == "up":
            for file in local.iterdir():
                with file.open("rb") as content:
                    lake.get_file_client(f"{name}/{file.name}").upload_data(content, overwrite=True)
            return
        local.mkdir()
        for found in lake.get_paths(name):
            with (local / Path(found.name).name).open("wb") as content:
                lake.get_file_client(found.name).download_file().readinto(content)

    return work


def ours(direction: str, local: Path, name: str) -> Callable[[], None]:
    """This library."""
    import azure.storage.filedatalake  # noqa: F401  # as in the plain loop, before the clock runs

    from aml_spark import files

    location = datalake.Location(account=ACCOUNT, filesystem="lake", path=name)
    place = datalake.find(location, credential=datalake.AccountKey(key=os.environ["LAKE_KEY"]))
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    return lambda: files.upload(local, place) if direction == "up" else files.download(place, local)


def scored(folder: Path, rows: int, pairs: int) -> dict[str, Any]:
    """Score a table of the lake and one of a local folder, in turn."""
    import lightgbm
    import mlflow
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature

    import aml_spark

    lake = f"abfss://lake@{ACCOUNT}.dfs.core.windows.net"
    spark = aml_spark.get_spark("benchmark", master="local[*]", uris=[lake])
    datalake.connect(spark, datalake.find(lake))
    names = [f"x{number}" for number in range(20)]
    values = np.random.default_rng(0).random((10_000, 20))
    data = pd.DataFrame(values, columns=names)
    model = lightgbm.LGBMRegressor(n_estimators=100, verbose=-1).fit(data, values.sum(axis=1))
    with aml_spark.configure(spark, folder / "mlworkspace", experiment="benchmark", autolog=False):
        with mlflow.start_run():
            made = mlflow.lightgbm.log_model(
                model, name="model", signature=infer_signature(data, model.predict(data)), registered_model_name="lake"
            )
        columns = ", ".join(f"rand({number}) {name}" for number, name in enumerate(names))
        table = spark.sql(f"SELECT id, {columns} FROM range(0, {rows}, 1, 8)")
        places = {"local": str(folder), "lake": lake}
        for place in places.values():
            table.write.format("delta").save(f"{place}/source")
        seconds: dict[str, list[float]] = {name: [] for name in places}
        for number in range(pairs + 1):
            for name, place in places.items():
                start = time.perf_counter()
                aml_spark.score(
                    spark, model=made.model_uri, source=f"{place}/source", target=f"{place}/target", force=True
                )
                if number:  # the first warms up
                    seconds[name].append(time.perf_counter() - start)
    spark.stop()
    ratios = [there / here for here, there in zip(seconds["local"], seconds["lake"], strict=True)]
    told = {
        "what": f"scoring {rows:,} rows in the lake",
        "times slower": round(statistics.median(ratios), 2),
        "from": round(min(ratios), 2),
        "to": round(max(ratios), 2),
    }
    print(told, flush=True)
    return told


if __name__ == "__main__":
    main()
