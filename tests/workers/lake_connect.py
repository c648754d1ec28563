"""Scores a table in a lake into another one, on Spark Connect, with nothing set but the environment."""

from __future__ import annotations

import json
import sys

import aml_spark
from aml_spark import datalake


def main(server: str, source: str, target: str, model: str) -> None:
    spark = aml_spark.get_spark("lake", master=server)
    datalake.connect(spark, datalake.find(source))
    rows = spark.createDataFrame([(number, float(number), 1.0) for number in range(5)], "id long, x double, y double")
    rows.write.format("delta").option("delta.enableChangeDataFeed", "true").save(source)
    told = []
    for _ in range(2):
        result = aml_spark.score(spark, model=model, source=source, target=target, mode="changes", key=["id"])
        told.append([result.rows, result.skipped])
        rows = spark.createDataFrame([(9, 9.0, 1.0)], "id long, x double, y double")
        rows.write.format("delta").mode("append").save(source)
    found = spark.read.format("delta").load(target).sort("id").collect()
    print(json.dumps([told, [row["prediction"] for row in found]]))


if __name__ == "__main__":
    main(*sys.argv[1:])
