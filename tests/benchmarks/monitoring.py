"""A comparison of two tables: `aml_spark.monitor` beside evidently's data drift preset in pandas, and by size.

    python tests/benchmarks/monitoring.py [--rows 1000000] [--sizes 100000 …] [--picture FILE] [--json FILE]

Baseline and target have 40 columns of doubles and 10 of texts, of which some drifted. Each way runs in a process of its
own, from the same two Delta tables (evidently through pandas, from their Parquet files), to a page; memory is the most
that its Python held. evidently is imported when its time begins. Ours is timed three times: `cold` as the first thing
that a session does, `first` in another session, whose Java has read a row of both tables, and `again` after that.
evidently wants pandas below 3, so it has an environment of its own: `make .venv-evidently/ready`. Times are this
machine's, and the ratio is of one run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

NUMBERS, TEXTS = 40, 10
SIZES = (100_000, 1_000_000, 5_000_000, 20_000_000)
EVIDENTLY = Path(".venv-evidently/bin/python")


def main() -> None:
    """Compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the comparison with evidently; 0 leaves it out")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--compare", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.make:
        make(Path(asked.make[0]), int(asked.make[1]))
        return
    if asked.compare:
        way, folder = asked.compare
        compare(way, Path(folder))
        return
    told = {"date": str(datetime.date.today()), "cores": os.cpu_count(), "pyspark": version("pyspark")}
    print(", ".join(f"{name} {value}" for name, value in told.items()), flush=True)
    results = []
    for rows in sorted({*asked.sizes, asked.rows} - {0}):
        ways = ("cold", "ours", "evidently") if rows == asked.rows else ("ours",)
        results += measured(rows, ways)
    if asked.picture:
        draw([one for one in results if one["way"] == "ours" and one["rows"] in asked.sizes], asked.picture)
    if asked.json:
        asked.json.write_text(json.dumps({**told, "results": results}, indent=1))


def measured(rows: int, ways: tuple[str, ...]) -> list[dict[str, Any]]:
    """Make two tables, and compare them in each way."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, __file__, "--make", folder, str(rows)], check=True, capture_output=True)
        for way in ways:
            python = str(EVIDENTLY) if way == "evidently" else sys.executable
            command = [python, __file__, "--compare", way, folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr[-3000:])
            results.append({"rows": rows, "way": way, **json.loads(done.stdout.splitlines()[-1])})
            print(results[-1], flush=True)
    if "evidently" in ways:
        *ours, theirs = results
        seconds = {name: value for one in ours for name, value in one.items() if name in ("cold", "first", "again")}
        faster = (f"{name} {theirs['seconds'] / value:.1f}" for name, value in seconds.items())
        print(f"times faster: {', '.join(faster)}", flush=True)
    return results


def make(folder: Path, rows: int) -> None:
    """Two tables of one version; every fourth column of the target drifted."""
    import aml_spark

    spark = aml_spark.get_spark("benchmark", master="local[*]")
    for table, drift in (("baseline", 0.0), ("target", 0.3)):
        seed = 1000 if drift else 0
        columns = []
        for number in range(NUMBERS):
            shift = drift if number % 4 == 0 else 0.0
            forms = (f"randn({seed + number}) + {shift}", f"exp(randn({seed + number}) + {shift})")
            form = (*forms, f"1000 + 10 * randn({seed + number}) + {shift}", f"floor(100 * rand({seed + number}))")[
                number % 4
            ]
            columns.append(f"CAST(IF(rand({seed + 500 + number}) < 0.02, NULL, {form}) AS double) AS number_{number}")
        for number in range(TEXTS):
            power = 2 + (drift if number % 4 == 0 else 0.0)
            columns.append(
                f"concat('value ', CAST({20 * (number + 1)} * pow(rand({seed + 700 + number}), {power}) AS int)) "
                f"AS text_{number}"
            )
        made = spark.sql(f"SELECT {', '.join(columns)} FROM range(0, {rows}, 1, {max(2, rows // 500_000)})")
        made.write.format("delta").save(f"{folder}/{table}")
    spark.stop()


def compare(way: str, folder: Path) -> None:
    """One way in this process; tells the seconds, the most memory of its Python in MB, and how many columns drifted."""
    told = with_evidently(folder) if way == "evidently" else with_ours(folder, cold=way == "cold")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**told, "MB": round(peak)}))


def with_ours(folder: Path, *, cold: bool) -> dict[str, Any]:
    """This library, in a session that has just started or has read a row of each table, and then once more."""
    import aml_spark

    spark = aml_spark.get_spark("benchmark", master="local[*]")
    if not cold:
        for table in ("baseline", "target"):
            spark.read.format("delta").load(f"{folder}/{table}").head(1)
    told: dict[str, Any] = {}
    for name in ("cold",) if cold else ("first", "again"):
        start = time.perf_counter()
        report = aml_spark.monitor(spark, baseline=f"{folder}/baseline", target=f"{folder}/target")
        report.to_html(folder / "ours.html")
        told[name] = round(time.perf_counter() - start, 1)
    breached = report.metrics.query("breached and signal == 'drift'")
    spark.stop()
    return {**told, "drifted": int(breached["column"].nunique())}


def with_evidently(folder: Path) -> dict[str, Any]:
    """evidently's preset."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    start = time.perf_counter()
    frames = [pd.read_parquet(folder / table) for table in ("target", "baseline")]
    kinds = DataDefinition(
        numerical_columns=[f"number_{number}" for number in range(NUMBERS)],
        categorical_columns=[f"text_{number}" for number in range(TEXTS)],
    )
    result = Report([DataDriftPreset()]).run(*[Dataset.from_pandas(frame, kinds) for frame in frames])
    result.save_html(str(folder / "evidently.html"))
    took = time.perf_counter() - start
    return {"seconds": round(took, 1), "drifted": int(result.dict()["metrics"][0]["value"]["count"])}


def draw(results: list[dict[str, Any]], picture: Path) -> None:
    """Seconds over rows, once Java is warm."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.plot([one["rows"] / 1e6 for one in results], [one["again"] for one in results], marker="o", color="#d97706")
    axis.set(xlabel="rows of each table, millions", ylabel="seconds", title="monitor() of 50 columns")
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture)


if __name__ == "__main__":
    main()
