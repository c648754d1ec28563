"""Data drift, data quality and model performance of Delta tables: what `aml_spark.monitor` stands on.

One direction: rows → Profile and Outcome (Spark aggregates) → Metric (maths on them) → Report → page, table, run.
"""
