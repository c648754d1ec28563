"""Appends to a table in a lake, a row each time it is told to."""

from __future__ import annotations

import sys

from processes import FOR_FEW_ROWS

import aml_spark
from aml_spark import datalake


def main(name: str, table: str) -> None:
    spark = aml_spark.get_spark(name, master="local[1]", conf=FOR_FEW_ROWS, uris=[table])
    datalake.connect(spark, datalake.find(table))
    print("ready", flush=True)
    for line in sys.stdin:
        row = spark.createDataFrame([(name, int(line))], "writer string, round int")
        row.write.format("delta").mode("append").save(table)
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
