"""What scoring the changes of a table costs beside scoring all of it.

    python tests/benchmarks/changes.py [--rows 4000000] [--trees 5000 1000 100] [--shares 0.001 0.01 0.1]
        [--picture FILE] [--json FILE]

A table of 20 doubles, scored by LightGBM models of so many trees. Then a share of the rows changes, at the end of the
table (as where it grows or its newest rows are corrected) or scattered over it, and scoring the changes is timed for
each share, then scoring all. Both targets are the same afterwards, which is checked. Ratios are of one run; times are
this machine's.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightgbm
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from pyspark.sql import SparkSession

import aml_spark

COLUMNS = [f"x{number}" for number in range(20)]


def main() -> None:
    """Compare the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--trees", type=int, nargs="+", default=[5000, 1000, 100])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.001, 0.01, 0.1])
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    versions = {name: version(name) for name in ("pyspark", "delta-spark", "mlflow", "lightgbm")}
    told = {"date": str(datetime.date.today()), "cores": os.cpu_count(), "rows": asked.rows, **versions}
    print(", ".join(f"{name} {value}" for name, value in told.items()), flush=True)
    spark = aml_spark.get_spark("benchmark", master="local[*]", conf={"spark.driver.memory": "4g"})
    with tempfile.TemporaryDirectory() as folder:
        place = aml_spark.Workspace.local(Path(folder, "mlworkspace"))
        with aml_spark.configure(spark, place, experiment="benchmark", autolog=False):
            make_source(spark, f"{folder}/source", asked.rows)
            results = []
            for trees in asked.trees:
                print(f"\n{trees} trees", flush=True)
                results += measured(spark, folder, asked.rows, asked.shares, trees)
    spark.stop()
    if asked.json:
        asked.json.write_text(json.dumps({**told, "results": results}, indent=2))
    if asked.picture:
        draw(results, asked.picture)


def make_source(spark: SparkSession, source: str, rows: int) -> None:
    """A table with a feed; targets that are made later have deletion vectors."""
    numbers = ", ".join(f"randn({number}) AS {name}" for number, name in enumerate(COLUMNS))
    spark.sql(
        f"CREATE TABLE delta.`{source}` USING delta TBLPROPERTIES (delta.enableChangeDataFeed = true) "
        f"AS SELECT id, {numbers} FROM range(0, {rows}, 1, 16)"
    )
    spark.conf.set("spark.databricks.delta.properties.defaults.enableDeletionVectors", "true")


def register(trees: int) -> str:
    """A model of so many trees; gives its address."""
    data = pd.DataFrame(np.random.default_rng(0).normal(size=(5_000, len(COLUMNS))), columns=COLUMNS)
    model = lightgbm.LGBMRegressor(n_estimators=trees, verbose=-1, n_jobs=1).fit(data, data.sum(axis=1))
    with mlflow.start_run():
        info = mlflow.lightgbm.log_model(model, name="model", signature=infer_signature(data, model.predict(data)))
    return f"models:/changes-{trees}/{mlflow.register_model(info.model_uri, f'changes-{trees}').version}"


def measured(spark: SparkSession, folder: str, rows: int, shares: list[float], trees: int) -> list[dict[str, Any]]:
    """Seconds of both ways for each share and place of the changes."""
    source = f"{folder}/source"
    targets = {mode: f"{folder}/{mode}-{trees}" for mode in ("changes", "all")}
    model = register(trees)

    def score(mode: str) -> tuple[float, aml_spark.ScoreResult]:
        start = time.perf_counter()
        result = aml_spark.score(
            spark, model=model, source=source, target=targets[mode], mode=mode, key=["id"], columns=["x0"]
        )
        return time.perf_counter() - start, result

    score("changes")  # the whole, for the first time
    spark.sql(f"UPDATE delta.`{source}` SET x0 = x0 + 1 WHERE id < 100")
    score("changes")  # warm
    results = []
    print(f"{'share':>6} {'where':>9} {'changes':>8} {'all':>8} {'times faster':>12}", flush=True)
    for where in ("the end", "scattered"):
        times = {}
        for share in shares:
            step = round(1 / share)
            chosen = f"id >= {rows - round(rows * share)}" if where == "the end" else f"id % {step} = 0"
            spark.sql(f"UPDATE delta.`{source}` SET x0 = x0 + 1 WHERE {chosen}")
            times[share], result = score("changes")
            assert (result.scope, result.rows) == ("changes", round(rows * share)), result
        whole, _ = score("all")
        first, second = (f"SELECT id, x0, prediction FROM delta.`{target}`" for target in targets.values())
        for one, other in ((first, second), (second, first)):
            assert not spark.sql(f"{one} EXCEPT ALL {other}").head(1), "the two differ"
        for share, seconds in times.items():
            told = {"trees": trees, "where": where, "share": share}
            results.append({**told, "changes": seconds, "all": whole, "ratio": whole / seconds})
            print(f"{share:>6.1%} {where:>9} {seconds:>8.1f} {whole:>8.1f} {whole / seconds:>12.1f}", flush=True)
    seconds, result = score("changes")
    assert result.skipped
    print(f"nothing changed: {seconds:.1f}", flush=True)
    return results


def draw(results: list[dict[str, Any]], picture: Path) -> None:
    """The cost as a share of scoring all, over the share of the rows that changed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axis = figure.subplots()
    colors = {"the end": "#d97706", "scattered": "#1f2937"}
    for trees, style in zip(sorted({one["trees"] for one in results}), (":", "--", "-"), strict=False):
        for where, color in colors.items():
            found = [one for one in results if (one["where"], one["trees"]) == (where, trees)]
            places, costs = [100 * one["share"] for one in found], [100 / one["ratio"] for one in found]
            axis.plot(places, costs, style, marker="o", label=f"{trees} trees, {where}", color=color)
    axis.axhline(100, color="#6b7280", linewidth=1, linestyle="--")
    axis.set(xscale="log", xlabel="rows that changed, %", ylabel="cost, % of scoring all", title="mode='changes'")
    shares = sorted({100 * one["share"] for one in results})
    axis.set_xticks(shares, [f"{share:g}" for share in shares])
    axis.set_ylim(bottom=0)
    figure.legend(title="model, and where rows changed", frameon=False, loc="outside right upper")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture)


if __name__ == "__main__":
    main()
