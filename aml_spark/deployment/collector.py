"""What deployments were asked and answered: what Azure's data collector left in a datastore, as a Spark DataFrame."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aml_spark import control, datalake, refusals
from aml_spark.deployment import deployments, waiting
from aml_spark.errors import ArgumentError, DataLakeError, SchemaError, listed
from aml_spark.location import DatastorePath
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from pyspark.sql import DataFrame, SparkSession

    from aml_spark.files import File

INPUTS, OUTPUTS = "model_inputs", "model_outputs"
CORRELATION, TIME = "correlationid", "collected_at"
_HOME = "azureml://datastores/workspaceblobstore/paths/modelDataCollector"
# yyyy/MM/dd, with the hour and the minute where Azure starts a new folder for each.
_DATED = re.compile(r"/(\d{4})/(\d\d)/(\d\d)(?:/(\d\d))?(?:/(\d\d))?/[^/]+\.jsonl$")
_ASSET = re.compile(r"/data/(?P<name>[^/]+)/versions/(?P<version>[^/]+)$")


def collected(
    spark: SparkSession,
    endpoint: str,
    deployment: str,
    what: str | Sequence[str] = INPUTS,
    *,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    workspace: Workspace | None = None,
) -> DataFrame:
    """The rows that a deployment was asked with, or that it answered.

    Args:
        spark: the session.
        endpoint: the deployment's endpoint.
        deployment: its name. It need not be there any more.
        what: `model_inputs`, `model_outputs` or another collection; or several, whose rows are joined.
        since: the first moment, a time without zone in UTC; None for all from the beginning.
        until: the moment after the last; None for all there are.
        workspace: None takes the one that MLflow is configured for.

    Returns:
        A row for each row of a request, with its columns, `correlationid` (the request's id and the row's number in it,
        `<id>_<number>`: equal in inputs and outputs) and `collected_at`, the time of the request.

    Raises:
        ArgumentError: no collection is named.
        DataLakeError: nothing was collected there in this time, or it can't be read.
        SchemaError: the collections can't be told apart by their columns' names.
    """
    names = [what] if isinstance(what, str) else list(what)
    if not names:
        raise ArgumentError(f"what is empty; expected {INPUTS!r}, {OUTPUTS!r} or both")
    client = control.client(workspace)
    joined: Any = None
    for name in names:
        place = datalake.find(control.naming(_home(client, endpoint, deployment, name), workspace))
        rows = _rows(spark, place, endpoint, deployment, name, _utc(since), _utc(until))
        if joined is None:
            joined = rows
            continue
        if both := sorted(set(joined.columns) & set(rows.columns) - {CORRELATION, TIME}):
            raise SchemaError(f"{name!r} has the columns {listed(both)} that others have, too; read them one by one")
        joined = joined.join(rows.drop(TIME), CORRELATION)
    own = (CORRELATION, TIME)
    return joined.select(*[name for name in joined.columns if name not in own], *own)  # type: ignore[no-any-return]


def _rows(
    spark: SparkSession,
    place: datalake.LakePath,
    endpoint: str,
    deployment: str,
    name: str,
    since: dt.datetime | None,
    until: dt.datetime | None,
) -> DataFrame:
    from pyspark.sql import functions as F

    found = [one.path for one in _files(place) if not one.is_folder and _meets(one.path, since, until)]
    if not found:
        raise DataLakeError(
            f"there is nothing collected as {name!r} of the deployment {deployment!r} of {endpoint!r}"
            + (" in this time" if since or until else ""),
            hint="switch it on: mlflow deployments update -t aml-spark … -C data_collector=true; it takes a while to "
            "come after requests",
        )
    datalake.connect(spark, place)
    root = place.uri.removesuffix(place.location.path).rstrip("/")
    try:
        events = spark.read.json([f"{root}/{path}" for path in found])
    except Exception as error:  # Java's own, of the storage
        if refused := refusals.refusal(place.uri, error):
            raise refused from None
        raise
    if "data" not in events.columns or not events.schema["data"].dataType.simpleString().startswith("array<struct"):
        raise SchemaError(f"what was collected as {name!r} isn't rows of a table")
    moment = F.to_timestamp("time")
    if since is not None:
        events = events.where(moment >= F.lit(since))
    if until is not None:
        events = events.where(moment < F.lit(until))
    rows = events.select(
        F.col(CORRELATION).alias("_request"), moment.alias("_time"), F.posexplode("data").alias("_number", "_row")
    )
    columns = rows.schema["_row"].dataType.fieldNames()  # type: ignore[attr-defined]
    if own := sorted({CORRELATION, TIME} & set(columns)):
        raise SchemaError(f"what was collected as {name!r} has {listed(own)}, which this library names columns itself")
    return rows.select(
        *[F.col("_row").getField(column).alias(column) for column in columns],
        F.concat_ws("_", "_request", "_number").alias(CORRELATION),
        F.col("_time").alias(TIME),
    )


def _home(client: MLClient, endpoint: str, deployment: str, name: str) -> str:
    """Where a collection lies: where the deployment's data asset says, else where Azure keeps it."""
    found = deployments.find(client, endpoint, deployment)
    collector = getattr(found, "data_collector", None)
    one = (collector.collections if collector else {}).get(name)
    if one is not None and (asset := _ASSET.search(str(one.data or ""))):
        with control.own_words(f"look at the data asset {asset['name']!r}"):
            data = waiting.found(lambda: client.data.get(asset["name"], asset["version"]))
        if data is not None and data.path:
            path = DatastorePath.of(str(data.path))
            return f"azureml://datastores/{path.name}/paths/{path.path}".rstrip("/")
    return f"{_HOME}/{endpoint}/{deployment}/{name}"


def _files(place: datalake.LakePath) -> list[File]:
    from aml_spark import files

    try:
        return list(files.listed(place, recursive=True))
    except DataLakeError as error:
        if "(PathNotFound)" in error.message:
            return []
        raise


def _meets(path: str, since: dt.datetime | None, until: dt.datetime | None) -> bool:
    """Whether a file may hold events of the time: its folders say of which hour, day or minute they are."""
    found = _DATED.search(path)
    if found is None:
        return False
    year, month, day, hour, minute = (None if part is None else int(part) for part in found.groups())
    begin = dt.datetime(year or 1, month or 1, day or 1, hour or 0, minute or 0, tzinfo=dt.timezone.utc)
    if minute is not None:
        length = dt.timedelta(minutes=1)
    else:
        length = dt.timedelta(hours=1) if hour is not None else dt.timedelta(days=1)
    # A request that came at the end of an hour may be written in the next.
    return (since is None or begin + length >= since) and (until is None or begin - length <= until)


def _utc(time: dt.datetime | None) -> dt.datetime | None:
    return time if time is None or time.tzinfo else time.replace(tzinfo=dt.timezone.utc)
