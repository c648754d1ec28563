"""Getting a session: the active one untouched, else a new one with Delta."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pyspark
import pytest

import aml_spark
from aml_spark import java, session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CONF = Path(__file__).parent.parent / "conf" / "spark-defaults.conf"


def python(code: str, **environ: str | None) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in {**os.environ, **environ}.items() if value is not None}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)


@pytest.mark.every_kind
def test_the_active_session_is_given_untouched_and_what_it_ignores_is_said(spark: SparkSession) -> None:
    before = session.setting(spark, "spark.sql.shuffle.partitions")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert aml_spark.get_spark() is spark
    with pytest.warns(UserWarning, match=r"ignored: spark.master, spark.sql.shuffle.partitions"):
        assert aml_spark.get_spark(master="local[7]", conf={"spark.sql.shuffle.partitions": "77"}) is spark
    assert session.setting(spark, "spark.sql.shuffle.partitions") == before


@pytest.mark.every_kind
def test_the_time_zone_is_that_of_spark_where_nobody_set_one(spark: SparkSession) -> None:
    assert session.time_zone(spark) == spark.sql("SELECT current_timezone()").collect()[0][0]


@pytest.mark.every_kind
def test_the_kind_is_told_from_the_session(spark: SparkSession, kind: str) -> None:
    assert session.is_connect(spark) == (kind == "connect")


@pytest.mark.every_kind
def test_workers_run_the_drivers_python(spark: SparkSession) -> None:
    from pyspark.sql import functions as F

    @F.udf("string")
    def where(_):  # type: ignore[no-untyped-def]  # hints would choose another kind of UDF
        import sys

        return sys.executable

    assert spark.range(1).select(where("id")).first()[0] == sys.executable  # type: ignore[index]


@pytest.mark.every_kind
def test_watched_work_is_reported_and_leaves_the_users_own_marks_alone(spark: SparkSession, kind: str) -> None:
    seen: list[tuple[int, int]] = []
    slow = spark.range(0, 4, numPartitions=4).mapInPandas(_slowly, "id bigint")
    spark.addTag("mine")
    try:
        rows = session.watched(spark, "ours", lambda done, known: seen.append((done, known)), slow.collect)
        assert spark.getTags() == {"mine"}
    finally:
        spark.removeTag("mine")
    assert sorted(row.id for row in rows) == [0, 1, 2, 3]
    assert max(known for _, known in seen) == 4
    if kind != "connect":
        assert spark.sparkContext.getLocalProperty("spark.jobGroup.id") is None


def test_an_error_of_watched_work_comes_out(spark: SparkSession) -> None:
    with pytest.raises(ZeroDivisionError):
        session.watched(spark, "ours", lambda done, known: None, lambda: 1 / 0)


def _slowly(batches):  # type: ignore[no-untyped-def]
    import time

    time.sleep(1)
    yield from batches


_slowly.__module__ = "__main__"  # executors can't import this file


def test_a_missing_java_is_named_in_one_line_with_what_to_type() -> None:
    code = "import aml_spark\ntry: aml_spark.get_spark()\nexcept aml_spark.SessionError as e: print(e)"
    told = python(code, PATH="/nowhere", JAVA_HOME=None).stdout
    assert told.startswith("no Java found")
    assert "Hint: apt-get install openjdk-17" in told


def test_jars_that_cannot_be_had_are_named() -> None:
    code = (
        "import aml_spark\ntry: aml_spark.get_spark(conf={'spark.jars.packages': 'io.delta:no-such-jar:0.0'})\n"
        "except aml_spark.SessionError as e: print(e)"
    )
    done = python(code)
    assert "io.delta:no-such-jar:0.0" in done.stdout
    assert "UNRESOLVED DEPENDENCIES" in done.stderr  # what Java says is held back only where all goes well


def test_a_new_session_starts_without_a_word() -> None:
    # Spark 4.2 doesn't know pandas 3 yet, and says so.
    done = python(
        "import aml_spark\nprint(aml_spark.get_spark().range(3).count())", PYTHONWARNINGS="ignore:PySpark does"
    )
    assert (done.stdout, done.stderr) == ("3\n", "")


def test_a_later_session_has_the_jars_of_an_earlier_one_and_keeps_them_from_python(tmp_path: Path) -> None:
    code = (
        "import aml_spark, sys\nspark = aml_spark.get_spark()\nconf = spark.conf\n"
        "def jars(_): yield from (place for place in sys.path if 'delta-spark' in place)\n"
        "print(conf.get('spark.jars.packages', 'none'), 'delta-spark' in conf.get('spark.jars'))\n"
        "print(len([*jars(0), *spark.sparkContext.parallelize([1], 1).mapPartitions(jars).collect()]))\n"
        f"table = {str(tmp_path / 'table')!r}\n"
        "spark.range(3).write.format('delta').mode('overwrite').save(table)\n"
        "print(spark.read.format('delta').load(table).count())\n"
        # with the Java of the first, whose jars are no news
        "spark.stop()\naml_spark.get_spark(uris=['abfss://any@account.dfs.core.windows.net/x'])\n"
    )
    home = {"HOME": str(tmp_path / "home")}  # of Python alone: Java finds its own elsewhere
    first, second = python(code, **home).stdout.splitlines(), python(code, **home).stdout.splitlines()
    assert first == [f"{java.delta_package()} True", "2", "3"]
    assert second == ["none True", "0", "3"]
    assert len(list((tmp_path / "home").rglob("*delta-spark*"))) == 1


def test_noted_jars_are_taken_where_those_of_the_packages_are_among_them_and_all_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    delta = "io.delta:delta-spark_2.13:4.0.0"
    files = [java.jar_file(package) for package in (delta, "a:b c%20:1", "org.slf4j:slf4j-api:1.0")]
    assert java.fetched(delta) == []
    files[0].parent.mkdir(parents=True)
    for file in files:
        file.touch()
    java.remember(delta, ",".join(file.as_uri() for file in files))
    assert java.fetched(delta) == [file.as_uri() for file in files[:2]], "Spark has the last one's of its own"
    assert java.fetched("io.delta:delta-spark_2.13:4.1.0") == []
    files[1].unlink()
    assert java.fetched(delta) == []
    java.remember(delta, "")
    assert java.fetched(delta) == []
    java.remember(f"{delta},a:d:1", files[0].as_uri())
    assert java.fetched(f"{delta},a:d:1") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PYSPARK_SUBMIT_ARGS", "--packages a:b:c pyspark-shell"),
        ("PYSPARK_SUBMIT_ARGS", "--properties-file my.conf pyspark-shell"),
        ("SPARK_SUBMIT_OPTS", "-Dspark.jars.ivy=/elsewhere"),
        ("SPARK_CONF_DIR", str(CONF.parent)),
    ],
)
def test_who_else_tells_of_jars_is_left_to_do_so(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyspark.SparkContext._gateway", None)
    assert java.decides_jars()
    monkeypatch.setenv(name, value)
    assert not java.decides_jars()


def test_on_databricks_the_given_session_is_taken_as_it_is() -> None:
    code = (
        "from pyspark.sql import SparkSession\nimport aml_spark, os, warnings\nwarnings.simplefilter('ignore')\n"
        "given = SparkSession.builder.master('local[1]').config('spark.ui.enabled', 'false').getOrCreate()\n"
        "assert aml_spark.get_spark(conf={'spark.sql.shuffle.partitions': '3'}) is given\n"
        "print(given.conf.get('spark.sql.shuffle.partitions'), given.conf.get('spark.jars.packages', 'none'))\n"
        # a session without Delta, and then none
        "try: aml_spark.score(given, model='models:/a/1', source='/a', target='/b')\n"
        "except aml_spark.SessionError as e: print(e.message)\n"
        "given.stop()\ndel os.environ['DATABRICKS_RUNTIME_VERSION']\n"
        "try: aml_spark.get_spark()\n"
        "except aml_spark.SessionError as e: print(e.message)\n"
    )
    settings, without_delta, again = python(code, DATABRICKS_RUNTIME_VERSION="17.3").stdout.splitlines()
    assert settings.split() == ["200", "none"]
    assert without_delta == "this Spark session doesn't know Delta's SQL"
    assert again.endswith("goes on running, and has no Delta")


@pytest.mark.skipif(not pyspark.__version__.startswith("4.1."), reason="the file is for Spark 4.1")
def test_the_settings_for_plain_spark_submit_are_those_of_the_library() -> None:
    lines = [line.split(None, 1) for line in CONF.read_text().splitlines() if line and not line.startswith("#")]
    settings = {key: value.strip() for key, value in lines}
    assert settings["spark.jars.packages"] == java.delta_package()
    assert session.DELTA_CONF.items() <= settings.items()
