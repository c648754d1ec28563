"""Spark sessions. The only module that tells classic Spark from Spark Connect."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from aml_spark import java
from aml_spark.errors import SessionError
from aml_spark.location import in_lake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DELTA_CONF: Mapping[str, str] = {
    "spark.sql.extensions": java.DELTA_CLASS,
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
# What a laptop wants: few partitions for few cores, no port open to others, no web server.
LOCAL_CONF: Mapping[str, str] = {
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "2g",
    "spark.log.level": "ERROR",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.shuffle.partitions": "4",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Called with the number of tasks done and the number known so far."""


def get_spark(
    app_name: str = "aml-spark",
    master: str | None = None,
    conf: Mapping[str, str] | None = None,
    *,
    uris: Iterable[str] = (),
) -> SparkSession:
    """Give the active Spark session, untouched, or make one with Delta.

    Args:
        app_name: name of a new session.
        master: where a new session runs: `local[*]` (default), `local-cluster[2,1,1024]`, `spark://host:port`,
            `sc://host:port` for Spark Connect. Under spark-submit its own `--master` counts.
        conf: Spark settings of a new session; they go before ours. On `local` and `local-cluster` ours are
            `LOCAL_CONF`, everywhere outside Databricks and Connect `DELTA_CONF` and Delta's jars.
        uris: tables, files and folders that will be used. Where one is in a data lake (`abfss://…` or
            `azureml://datastores/…`), a new session outside Databricks and Connect gets Hadoop's driver for it.

    Returns:
        The session. On Databricks always the one that is given there. Executors of a new one run the driver's
        Python, unless `PYSPARK_PYTHON` or `spark.pyspark.python` names another.

    Raises:
        SessionError: Java or jars are missing, or pyspark itself.
    """
    wanted = dict(conf or {})
    if session := active_session():
        _warn_ignored(session, master, wanted)
        return session
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise SessionError("pyspark isn't installed", hint="pip install 'aml-spark[spark]'") from None
    builder: SparkSession.Builder = SparkSession.builder
    if on_databricks():
        session = builder.getOrCreate()
        _warn_ignored(session, master, wanted)
        return session
    builder = builder.appName(app_name)
    remote = master if (master or "").startswith("sc://") else os.environ.get("SPARK_REMOTE") if not master else None
    if remote:
        for key, value in wanted.items():
            builder = builder.config(key, value)
        return builder.remote(remote).getOrCreate()
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # under spark-submit the JVM runs already, with jars of its own
        for key, value in wanted.items():
            builder = builder.config(key, value)
        session = builder.getOrCreate()
        if master and session.sparkContext.master != master:
            _warn_ignored(session, master, {})
        return session
    return _build(builder, master or wanted.get("spark.master", "local[*]"), wanted, any(map(in_lake, uris)))


def _build(builder: SparkSession.Builder, master: str, wanted: Mapping[str, str], with_lake: bool) -> SparkSession:
    settings = {**DELTA_CONF, **(LOCAL_CONF if master.startswith("local") else {}), **wanted}
    packages = settings.pop("spark.jars.packages", "")
    given = packages + settings.get("spark.jars", "")
    if with_lake and "hadoop-azure" not in given:
        packages = ",".join(filter(None, (packages, java.lake_package())))
    if "delta-spark" not in given:
        packages = ",".join(filter(None, (java.delta_package(), packages)))
    others = ("spark.jars", "spark.driver.userClassPathFirst", "spark.executor.userClassPathFirst")
    all_ours = java.decides_jars() and not any(key.startswith(others) for key in wanted)
    if packages:
        settings |= java.jar_settings(packages) if all_ours else {"spark.jars.packages": packages}
    settings["spark.master"] = master
    for key, value in settings.items():
        builder = builder.config(key, value)
    with _workers_python(wanted.get("spark.pyspark.python")), java.started(settings):
        session = builder.getOrCreate()
    if all_ours and "spark.jars.packages" in settings:
        java.remember(packages, session.sparkContext.getConf().get("spark.jars") or "")
    return session


def active_session() -> SparkSession | None:
    """The session that this process has, or None. Makes none."""
    if "pyspark.sql" not in sys.modules:
        return None
    from pyspark.sql import SparkSession

    if session := SparkSession.getActiveSession():
        return session
    context = sys.modules.get("pyspark.core.context") or sys.modules.get("pyspark.context")
    if context is not None and context.SparkContext._active_spark_context is not None:
        return SparkSession.builder.getOrCreate()  # another thread's; without options this changes nothing
    return None


def is_connect(spark: SparkSession) -> bool:
    """Whether the session is Spark Connect's, decided from the session alone."""
    return any(".connect." in cls.__module__ for cls in type(spark).__mro__)


def on_databricks() -> bool:
    """Whether this process runs on a Databricks cluster."""
    return "DATABRICKS_RUNTIME_VERSION" in os.environ


def spark_version(spark: SparkSession) -> tuple[int, int]:
    """Major and minor version of the session's Spark or of this process' pyspark, whichever is lower."""
    import pyspark

    versions = [version.split(".")[:2] for version in (spark.version, pyspark.__version__)]
    return min((int(major), int(minor)) for major, minor in versions)


def setting(spark: SparkSession, key: str) -> str | None:
    """A Spark setting, or None where it isn't set or may not be read."""
    try:
        return spark.conf.get(key, None)
    except Exception:  # Databricks' shared and serverless clusters refuse most keys
        return None


def forgets_names(spark: SparkSession) -> bool:
    """Whether the names of tables are gone when Spark ends, while their files stay: without a metastore."""
    try:
        return spark.conf.get("spark.sql.catalogImplementation") == "in-memory"
    except Exception:  # as above
        return False


def time_zone(spark: SparkSession) -> str:
    """The session's time zone; where nobody set one, that of the machine that Spark's driver runs on."""
    return str(spark.conf.get("spark.sql.session.timeZone"))  # with a default, classic gives that instead of Spark's


def cast_type(spark: SparkSession, ddl: str) -> Any:
    """The Spark data type that a DDL string such as `array<double>` names."""
    from pyspark.sql import functions as F

    return spark.range(0).select(F.lit(None).cast(ddl)).schema[0].dataType


def ship(spark: SparkSession, archive: Path, name: str) -> None:
    """Send a zip to the executors, which find it unpacked under `SparkFiles.getRootDirectory()/name`.

    Sending the same name twice in a session does nothing the second time, so a name has to stand for its content.
    """
    if is_connect(spark):
        spark.addArtifacts(f"{archive}#{name}", archive=True)
    elif not any(sent.endswith(f"#{name}") for sent in spark.sparkContext.listArchives):  # of which Spark warns
        spark.sparkContext.addArchive(f"{archive}#{name}")


def check_isolation(spark: SparkSession) -> None:
    """Whether `isolated` works.

    Raises:
        SessionError: Spark Connect before 4.1, whose sessions can't be copied.
    """
    if is_connect(spark) and spark_version(spark) < (4, 1):
        raise SessionError(
            f"a session of Spark Connect {spark.version} can't be copied, which merging by key needs",
            hint="use Spark 4.1 or newer there, or a classic session",
        )


def copied(spark: SparkSession) -> SparkSession:
    """A copy of a session, with its settings, views and current schema as they are now."""
    if is_connect(spark):
        return cast("SparkSession", cast("Any", spark).cloneSession())
    from pyspark import RDD

    users = RDD.toDF  # making a session makes it the one of toDF
    own = type(spark)(spark.sparkContext, spark._jsparkSession.cloneSession())
    RDD.toDF = users  # type: ignore[method-assign]
    return own


@contextlib.contextmanager
def isolated(spark: SparkSession) -> Iterator[SparkSession]:
    """A copy of a session, with its settings, views and current schema, for the time of the block.

    Whatever is set or made in the copy, other threads of the user's session notice nothing of it.

    Raises:
        SessionError: see `check_isolation`.
    """
    check_isolation(spark)
    own = copied(spark)
    try:
        yield own
    finally:
        if is_connect(spark):
            with contextlib.suppress(Exception):  # the server ends it by itself some time
                cast("Any", own).client.release_session()


def watched(spark: SparkSession, description: str, progress: Progress, work: Callable[[], T]) -> T:
    """Do work while its Spark tasks are reported; an error in this thread or Ctrl-C cancels it and waits for its end.

    The work is done in a thread of its own: Ctrl-C in the middle of a call into the JVM would leave the connection of
    this thread unusable, and the group of the jobs (classic) or their tag (Connect) stays out of the user's.
    """
    group = f"aml-spark-{uuid.uuid4()}"
    kind = _ConnectJobs if is_connect(spark) else _ClassicJobs
    jobs, done = kind(spark, group, description), Future[T]()

    def run() -> None:
        try:
            jobs.mark()
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    with jobs.reported(progress):
        jobs.thread(run).start()
        try:
            wait([done])
        except BaseException:
            while not done.done():
                jobs.cancel()  # more than once, as the next job may not have begun yet
                wait([done], 0.5)
            raise
        return done.result()


class _ConnectJobs:
    """The jobs of a thread on Spark Connect, known by a tag."""

    def __init__(self, spark: SparkSession, group: str, _description: str) -> None:
        self._spark, self._group, self._users_tags = spark, group, spark.getTags()

    def thread(self, run: Callable[[], None]) -> threading.Thread:
        return threading.Thread(target=run, name=self._group, daemon=True)

    def mark(self) -> None:
        for tag in (*self._users_tags, self._group):
            self._spark.addTag(tag)

    def cancel(self) -> None:
        self._spark.interruptTag(self._group)

    @contextlib.contextmanager
    def reported(self, progress: Progress) -> Iterator[None]:
        def handler(stages: Any, **_: Any) -> None:
            counts = [(stage.num_completed_tasks, stage.num_tasks) for stage in stages or ()]
            progress(sum(done for done, _ in counts), sum(known for _, known in counts))

        if not hasattr(self._spark, "registerProgressHandler"):  # Spark 3.5
            yield
            return
        self._spark.registerProgressHandler(handler)
        try:
            yield
        finally:
            self._spark.removeProgressHandler(handler)


class _ClassicJobs:
    """The jobs of a thread in a classic session, known by their group."""

    def __init__(self, spark: SparkSession, group: str, description: str) -> None:
        self._context, self._group, self._description = spark.sparkContext, group, description

    def thread(self, run: Callable[[], None]) -> threading.Thread:
        from pyspark import InheritableThread  # goes on with the user's scheduler pool and other properties

        return InheritableThread(target=run, name=self._group, daemon=True)

    def mark(self) -> None:
        self._context.setJobGroup(self._group, self._description)

    def cancel(self) -> None:
        self._context.cancelJobGroup(self._group)

    @contextlib.contextmanager
    def reported(self, progress: Progress) -> Iterator[None]:
        tracker, ended = self._context.statusTracker(), threading.Event()

        def poll() -> None:
            while not ended.wait(0.5):
                jobs = [tracker.getJobInfo(job) for job in tracker.getJobIdsForGroup(self._group)]
                stages = [tracker.getStageInfo(stage) for job in jobs if job for stage in job.stageIds]
                progress(
                    sum(stage.numCompletedTasks for stage in stages if stage),
                    sum(stage.numTasks for stage in stages if stage),
                )

        poller = threading.Thread(target=poll, name=f"{self._group}-progress", daemon=True)
        poller.start()
        try:
            yield
        finally:
            ended.set()
            poller.join()


@contextlib.contextmanager
def _workers_python(chosen: str | None) -> Iterator[None]:
    # Spark reads the variable when the context starts; where it isn't set, executors take the first python3 on the
    # PATH, which need not have pyarrow.
    if "PYSPARK_PYTHON" in os.environ:
        yield
        return
    os.environ["PYSPARK_PYTHON"] = chosen or sys.executable
    try:
        yield
    finally:
        del os.environ["PYSPARK_PYTHON"]


def _warn_ignored(session: SparkSession, master: str | None, conf: Mapping[str, str]) -> None:
    asked = {**({"spark.master": master} if master else {}), **conf}
    ignored = [key for key, value in asked.items() if setting(session, key) != value]
    if ignored:
        warnings.warn(
            f"a Spark session is active and is used as it is; ignored: {', '.join(sorted(ignored))}. "
            "To have them, start again: spark.stop() for most, a new Python process for jars and memory",
            stacklevel=3,
        )
