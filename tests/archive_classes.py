"""Fetch the jars of Delta and of Hadoop's driver for data lakes, and keep Spark's classes in a file for the tests.

Java reads and checks thousands of classes at the start of each session. From this file, which the Java processes of the
tests share, it takes them as they are. Runs before the tests, by `make jars`, and does nothing where there is nothing
to do.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import processes
from pyspark import SparkContext

import aml_spark
from aml_spark import java


def main() -> None:
    packages = java.delta_package(), java.lake_package()
    if processes.CLASSES.exists() and java.fetched(packages[0]) and java.fetched(",".join(packages)):
        return
    # Each notes its jars for later sessions with the same packages.
    subprocess.run([sys.executable, "-c", "import aml_spark; aml_spark.get_spark().stop()"], check=True)
    unfinished = processes.CLASSES.with_suffix(".unfinished")
    os.environ["SPARK_SUBMIT_OPTS"] = f"{processes.LEAN_JAVA} -XX:ArchiveClassesAtExit={unfinished}"
    spark = aml_spark.get_spark("classes", uris=["abfss://any@account.dfs.core.windows.net"])
    with tempfile.TemporaryDirectory() as folder:
        spark.range(100).write.format("delta").save(f"{folder}/table")
        spark.read.format("delta").load(f"{folder}/table").selectExpr("sum(id)").collect()
    spark.stop()
    process = SparkContext._gateway.proc
    process.stdin.close()  # Java ends with that, and writes the file
    process.wait()
    if unfinished.exists():  # without it the tests take longer, no more
        unfinished.rename(processes.CLASSES)


if __name__ == "__main__":
    main()
