"""What is compared: the rows of a table, of one version of it, of a time, or for which a condition holds."""

from __future__ import annotations

import json
import re
from dataclasses import KW_ONLY, dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from aml_spark import frame, table
from aml_spark.analysis import analysed, condition, tried
from aml_spark.datalake import reach
from aml_spark.errors import ArgumentError, TableNotFoundError
from aml_spark.monitoring.quality.rows import check_time_column
from aml_spark.table import Table

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

# Conditions that mean something else each time, of which nothing can be kept.
_OF_THE_MOMENT = re.compile(
    r"(?i)\b(current_\w+|curdate|localtimestamp|now|rand|randn|random|uniform|randstr|uuid|shuffle|unix_timestamp"
    r"|(session_)?user|input_file_\w+|monotonically_increasing_id|spark_partition_id|yesterday|today|tomorrow"
    r"|SELECT|TABLE)\b|\(\s*FROM\b"  # the last three are of subqueries, on tables that change
)


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of a table that `monitor` is to look at.

    Args:
        source: Delta table: a name, a path, or a URI such as `abfss://…` or `azureml://datastores/<name>/paths/<path>`;
            a view, or a table of another format, by name; or a DataFrame.
        version: version of the Delta table; None takes the newest.
        where: SQL condition on its columns; other rows are left out.
        since: first moment, as an ISO 8601 text (`"2013-06-01"`, `"2013-06-01T12:00:00+02:00"`), date or datetime.
            Without a zone it is meant in the session's. None takes all from the beginning.
        until: the moment that is the first not to be taken, in the same ways.
        time_column: column that says when a row is of; None takes the one that is given to `monitor`.

    Raises:
        ArgumentError: they can't be meant.
    """

    source: str | DataFrame
    _: KW_ONLY
    version: int | None = None
    where: str | None = None
    since: str | date | None = None
    until: str | date | None = None
    time_column: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.source, str):
            _check_frame(self.source)
            if self.version is not None:
                raise ArgumentError(
                    f"version is {self.version!r}, but the source is a DataFrame, whose rows are of no version",
                    hint="name the table instead: Selection('catalog.schema.table', version=…)",
                )
        if self.version is not None and (isinstance(self.version, bool) or not isinstance(self.version, int)):
            raise ArgumentError(f"version is {self.version!r}; expected a whole number, or None for the newest")
        since, until = _moment("since", self.since), _moment("until", self.until)
        if since and until and (since.tzinfo is None) == (until.tzinfo is None) and since >= until:
            raise ArgumentError(
                f"since is {self.since!r} and until is {self.until!r}, between which there is no time",
                hint="until is the first moment that isn't taken: a day is since='2013-06-01', until='2013-06-02'",
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opened:
    """The rows of a selection.

    Args:
        df: the rows, of one version whatever is written to the table meanwhile.
        name: of the table, or its path in full; None of a DataFrame.
        version: the Delta version; None of what isn't a Delta table.
        asked: what was asked of that table and version, as a text: the same text gives the same rows. None where that
            can't be said: of a DataFrame or a view, or with a condition such as `day > current_date() - 7`.
        time_column: column that says when a row is of.
    """

    df: DataFrame
    name: str | None
    version: int | None
    asked: str | None
    time_column: str | None

    def table_id(self) -> str | None:
        """The GUID that was made with the Delta table; None of what isn't one."""
        if self.name is None or self.version is None:
            return None
        return table.identifier(self.df.sparkSession, Table.of(self.name))


def opened(
    spark: SparkSession,
    source: str | DataFrame | Selection,
    *,
    time_column: str | None = None,
    is_timed: bool = True,
) -> Opened:
    """Look a selection up; starts no job on its rows.

    Args:
        spark: the session. It is let into a data lake as `datalake.reach` does.
        source: what `Selection` takes as its source, or a selection.
        time_column: column that says when a row is of, where the selection doesn't name one.
        is_timed: whether that one has to be there, even where no time is asked for.

    Raises:
        ArgumentError: there is no such version; a time is asked for without a column to tell it by.
        TableNotFoundError: there is no such table or view, or the path isn't a Delta table's.
        SchemaError: the condition isn't one on these columns; the time's column isn't there or holds no times.
        TableError: the version can't be read any more.
        DataLakeError: a place in a data lake can't be reached; AuthenticationError: nobody is signed in to Azure.
    """
    selection = source if isinstance(source, Selection) else Selection(source)
    found: int | None = None
    if isinstance(selection.source, str):
        of = Table.of(reach(spark, selection.source))
        found, df = _looked_up(spark, of, selection.version)
        name: str | None = of.text
    else:
        df, name = selection.source, None
    if selection.where is not None:  # select() first: on Connect a filter takes over a schema that is known already
        df = frame.selected(df.select("*"), selection.where, name or "the DataFrame")
    column = selection.time_column or time_column
    if column == time_column and column not in df.columns and not (is_timed or selection.since or selection.until):
        column = None
    if column is not None:
        check_time_column(df, column)
    for end in ("since", "until"):
        if (moment := _moment(end, getattr(selection, end))) is not None:
            df = df.where(_compared(df, column, end, moment))
    return Opened(
        df=df,
        name=name,
        version=found,
        asked=None if found is None else _asked(spark, selection, found, column),
        time_column=column,
    )


def _check_frame(source: object) -> None:
    """A DataFrame of classic Spark or of Connect, which have no class in common before Spark 4."""
    if not (hasattr(type(source), "sparkSession") and hasattr(type(source), "schema")):
        is_pandas = type(source).__module__.partition(".")[0] == "pandas"
        raise ArgumentError(
            f"the source is of type {type(source).__name__!r}; expected the name or path of a table, a DataFrame of "
            "Spark or a Selection",
            hint="spark.createDataFrame(…) makes one of pandas'" if is_pandas else None,
        )


def _moment(name: str, value: str | date | None) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    try:
        return datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", value))
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{name} is {value!r}; expected a date or a datetime, or an ISO 8601 text of one",
            hint=f"{name}='2013-06-01' or {name}='2013-06-01T12:00:00+02:00'",
        ) from None


def _looked_up(spark: SparkSession, of: Table, version: int | None) -> tuple[int | None, DataFrame]:
    """A version of a table, and its rows; of a view, or a table of another format, its rows alone."""
    refused: TableNotFoundError | None = None
    try:
        known = table.history(spark, of, 1)
    except TableNotFoundError as error:
        known, refused = [], error
    if not known:
        df = None if of.is_path else _view(spark, of)
        if df is None:
            raise refused or table.missing(of, f"{of.text!r} doesn't exist; expected a Delta table, or a view")
        if version is not None:
            raise ArgumentError(
                f"version is {version}, but {of.text!r} is a view or a table that isn't Delta's, which has no versions",
                hint="name the Delta table behind it, and use where= for what the view does",
            )
        return None, df
    newest = known[0].version
    if version is not None and not 0 <= version <= newest:
        raise ArgumentError(f"version is {version}; {of.text!r} has the versions 0 to {newest}")
    pinned = newest if version is None else version
    return pinned, table.read(spark, of, pinned)


def _view(spark: SparkSession, of: Table) -> DataFrame | None:
    from pyspark.errors import AnalysisException

    try:
        with tried():
            return analysed(spark.table(of.sql))
    except AnalysisException as error:
        if condition(error).startswith(("TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND")):
            return None
        raise TableNotFoundError(f"{of.text!r} can't be read ({condition(error)})") from None


def _compared(df: DataFrame, column: str | None, end: str, moment: datetime) -> Column:
    from pyspark.sql import functions as F

    if column is None:
        raise ArgumentError(
            f"{end} is given, but no column says when a row is of", hint="give time_column='…', a date or a timestamp"
        )
    kind = df.schema[column].dataType.simpleString()
    text = moment.isoformat(sep=" ")
    if kind == "date" and moment.tzinfo is None and moment.time() == moment.min.time():
        wanted = F.lit(text[:10]).cast("date")  # of a date's own type, so that Delta leaves out whole files by it
    elif kind == "timestamp_ntz" and moment.tzinfo is None:
        wanted = F.lit(text).cast("timestamp_ntz")
    elif kind == "timestamp_ntz":
        wanted = F.lit(text).cast("timestamp").cast("timestamp_ntz")
    else:
        wanted = F.lit(text).cast("timestamp")
    time = F.col(table.quoted(column))
    return time >= wanted if end == "since" else time < wanted


def _asked(spark: SparkSession, selection: Selection, version: int, column: str | None) -> str | None:
    if selection.where and _OF_THE_MOMENT.search(selection.where):
        return None
    since, until = _moment("since", selection.since), _moment("until", selection.until)
    asked = {
        "version": version,
        "where": selection.where,
        "since": since.isoformat() if since else None,
        "until": until.isoformat() if until else None,
        "time_column": column if since or until else None,
        # in which times without a zone are meant
        "time_zone": spark.conf.get("spark.sql.session.timeZone") if selection.where or since or until else None,
    }
    return json.dumps(asked, sort_keys=True, ensure_ascii=False)
