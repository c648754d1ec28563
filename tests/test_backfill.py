"""Scoring rows again that a target holds already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jobs import Flow
from models import register_sum

import aml_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.usefixtures("tracking")


@pytest.fixture
def flow(spark: SparkSession, tmp_path: Path) -> Flow:
    return Flow(spark, tmp_path)


def _versions(flow: Flow) -> dict[str, set[int]]:
    rows = flow.rows("model_version, id")
    return {version: {number for one, number in rows if one == version} for version, _ in rows}


@pytest.mark.connect
def test_rows_that_an_older_model_scored_are_scored_again_once(flow: Flow) -> None:
    flow.make()
    given: dict[str, Any] = {"where": "x < 1000", "on_model_change": "keep", "columns": ["x", "y"]}
    flow.score(f"models:/backfilled/{register_sum('backfilled')}", **given)
    model = f"models:/backfilled/{register_sum('backfilled', 0.5)}"
    flow.update("id < 3", x="x + 1")
    flow.update("id = 19", x="5000")
    flow.score(model, **given)
    assert _versions(flow) == {"1": {*range(3, 19)}, "2": {0, 1, 2}}
    flow.delete("id = 5")  # which the backfill doesn't see: the target isn't there yet
    done = aml_spark.backfill(flow.spark, target=flow.target, where="id BETWEEN 2 AND 9 OR id = 19")
    assert (done.scope, done.rows, done.source_version, done.model_version) == ("backfill", 8, 2, "2")
    assert _versions(flow) == {"1": {*range(10, 19)}, "2": {*range(10)}}
    followed = flow.score(model, **given)
    assert (followed.scope, followed.deleted) == ("changes", 1)
    named = aml_spark.backfill(flow.spark, target=flow.target, where="true", name="all of 2")
    assert aml_spark.lineage(flow.spark, flow.target)[0].backfill == "all of 2"
    again = aml_spark.backfill(flow.spark, target=flow.target, where="true", name="all of 2")
    assert (again.skipped, again.target_version, again.rows) == (True, named.target_version, 0)
    with pytest.raises(aml_spark.ArgumentError, match="the backfill of that name had"):
        aml_spark.backfill(flow.spark, target=flow.target, where="id = 1", name="all of 2")
    assert flow.rows() == flow.expected(0.5, "x < 1000")


def test_rows_that_changed_since_a_version_and_another_model(flow: Flow) -> None:
    flow.make()
    first = f"models:/since/{register_sum('since')}"
    flow.score(first)
    flow.update("id < 3", x="x + 1")
    flow.delete("id = 1")
    flow.update("id = 10", x="x + 1")
    flow.score(first)
    second = f"models:/since/{register_sum('since', 0.5)}"
    done = aml_spark.backfill(flow.spark, target=flow.target, model=second, from_version=2)
    assert (done.rows, done.deleted) == (1, 0)
    assert _versions(flow)["2"] == {10}
    done = aml_spark.backfill(flow.spark, target=flow.target, model=second, from_version=1, where="id < 2")
    assert _versions(flow)["2"] == {10, 0}
    whole = flow.score(second)
    assert (whole.scope, whole.reason) == ("all", "rows of other models are left")
    assert flow.rows() == flow.expected(0.5)


def test_a_source_without_feed_and_with_keys_that_are_none(flow: Flow) -> None:
    flow.make(properties={})
    model = f"models:/plain/{register_sum('plain')}"
    flow.score(model, on_missing_feed="diff")
    flow.sql("UPDATE TARGET SET model_version = '0'", "RESTORE TABLE TARGET TO VERSION AS OF 0")
    with pytest.raises(aml_spark.TargetError, match="others changed rows of it since"):
        aml_spark.backfill(flow.spark, target=flow.target, where="id = 1")
    flow.score(model, on_missing_feed="diff")
    assert aml_spark.backfill(flow.spark, target=flow.target, where="id = 1").rows == 1
    flow.insert((1, 100, 1))
    given = {"model": model, "source": flow.source, "target": flow.target, "key": ["id"]}
    aml_spark.score(flow.spark, **given, overwrite=True)  # asks no key whether it is one
    with pytest.raises(aml_spark.SchemaError, match="doesn't identify a row"):
        aml_spark.backfill(flow.spark, target=flow.target, where="x = 100")
    assert len(flow.rows()) == 21


def test_what_can_not_be_known_is_refused(flow: Flow) -> None:
    flow.make()
    model = f"models:/asked/{register_sum('asked')}"
    with pytest.raises(aml_spark.ArgumentError, match="which rows to score again isn't said"):
        aml_spark.backfill(flow.spark, target=flow.target)
    with pytest.raises(aml_spark.TableNotFoundError, match="doesn't exist"):
        aml_spark.backfill(flow.spark, target=flow.target, where="true")
    with pytest.raises(aml_spark.TargetError, match="nothing in its history says that score"):
        aml_spark.backfill(flow.spark, target=flow.source, where="true")
    flow.score(model, key=None)
    with pytest.raises(aml_spark.TargetError, match="scored without a key"):
        aml_spark.backfill(flow.spark, target=flow.target, where="true")
    flow.score(model, overwrite=True)
    other = f"models:/another/{register_sum('another')}"
    with pytest.raises(aml_spark.ArgumentError, match="model='asked' then, 'another' now"):
        aml_spark.backfill(flow.spark, target=flow.target, model=other, where="true")
    with pytest.raises(aml_spark.ArgumentError, match=r"from_version is 1; .* holds version 0 of its source"):
        aml_spark.backfill(flow.spark, target=flow.target, from_version=1)
    with pytest.raises(aml_spark.SchemaError, match="isn't a condition on the columns"):
        aml_spark.backfill(flow.spark, target=flow.target, where="nothing = 1")
    flow.sql("DELETE FROM TARGET WHERE id = 1")
    with pytest.raises(aml_spark.TargetError, match="others changed rows of it since"):
        aml_spark.backfill(flow.spark, target=flow.target, where="true")
    assert flow.commits() == 3
