"""Minutes of what can happen to tables and jobs, at random; after each job the target has to be right.

    python tests/chaos.py [--minutes 10] [--seed N]

Tables are changed, optimised, restored and tampered with, the model moves, jobs are killed at any moment or left to
end. Prints the seed, with which the same comes again up to the moments of the kills, and what happened how often.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import logging
import os
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import processes

os.environ.update(processes.ENVIRONMENT)

from jobs import Jobs

import aml_spark


def main() -> None:
    """Do it, and say what was done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(f"seed {asked.seed}", flush=True)
    end, chance, counts = time.monotonic() + asked.minutes * 60, random.Random(asked.seed), collections.Counter[str]()
    spark = aml_spark.get_spark("chaos", master="local[2]")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        workspace = aml_spark.Workspace.local(Path(folder, "mlworkspace"))
        with aml_spark.configure(spark, workspace, experiment="chaos", autolog=False):
            jobs = Jobs(spark, Path(folder), workspace, "local", "quarantine")
            jobs.begin()
            jobs.run()
            steps = operations(jobs, chance)
            while time.monotonic() < end:
                for _ in range(chance.randrange(4)):
                    name = chance.choice(sorted(steps))
                    counts[name] += 1
                    steps[name]()
                counts[attempt(jobs, chance)] += 1
                before = jobs.flow.commits()
                result = jobs.run()
                assert jobs.flow.commits() == before + (not result.skipped), "more than one commit for what was due"
                counts[f"then: {result.scope}"] += 1
                jobs.check()
                if sys.stdout.isatty():
                    print(f"\r{sum(counts.values())} steps, {max(0, end - time.monotonic()):.0f} s left ", end="")
    spark.stop()
    print()
    for name, count in sorted(counts.items()):
        print(f"{count:>6}  {name}")


def operations(jobs: Jobs, chance: random.Random) -> dict[str, Callable[[], None]]:
    """What people do to the tables and the model."""
    flow = jobs.flow

    def restore(table: str, path: str) -> None:
        if table == "SOURCE" or Path(path, "_delta_log").exists():
            newest = flow.spark.sql(f"DESCRIBE HISTORY delta.`{path}` LIMIT 1").collect()[0]["version"]
            flow.sql(f"RESTORE TABLE {table} TO VERSION AS OF {chance.randint(max(0, newest - 5), newest)}")

    def move() -> None:
        jobs.version = 3 - jobs.version

    def backfill() -> None:
        with contextlib.suppress(aml_spark.TargetError):  # where others were at the target
            aml_spark.backfill(flow.spark, target=flow.target, where=f"id % 3 = {chance.randrange(3)}")

    return {
        "change rows": jobs.change,
        "change more rows": jobs.change,
        "update a third": lambda: flow.sql(
            f"UPDATE SOURCE SET x = x + 1 WHERE x > 0 AND id % 3 = {chance.randrange(3)}"
        ),
        "optimize source": lambda: flow.sql("OPTIMIZE SOURCE"),
        "optimize target": lambda: flow.sql("OPTIMIZE TARGET"),
        "restore source": lambda: restore("SOURCE", flow.source),
        "restore target": lambda: restore("TARGET", flow.target),
        "delete from target": lambda: flow.sql(f"DELETE FROM TARGET WHERE id % 5 = {chance.randrange(5)}"),
        "double a row of target": lambda: flow.sql("INSERT INTO TARGET SELECT * FROM TARGET ORDER BY id LIMIT 1"),
        "another model": move,
        "backfill": backfill,
    }


def attempt(jobs: Jobs, chance: random.Random) -> str:
    """A job or a query in processes of its own, killed at any moment; or none."""
    kind = chance.choice(["no", "job", "job", "query"])
    if kind == "no":
        return "no job beforehand"
    with jobs.process(checkpoint=jobs.checkpoint if kind == "query" else None) as (process, _):
        process.join(chance.uniform(2, 25))
        ended = process.exitcode
    assert ended in (None, 0), jobs.words()
    return f"{kind} killed" if ended is None else f"{kind} ended"


if __name__ == "__main__":
    main()
