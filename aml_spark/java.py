"""Java and the jars that Spark needs: what this machine has, and Spark's Java process started with them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from aml_spark.errors import SessionError

DELTA_CLASS = "io.delta.sql.DeltaSparkSessionExtension"
_OF_JARS = re.compile(r"spark\.jars|--jars|--packages|--properties-file|userClassPathFirst")
_logger = logging.getLogger(__name__)


def delta_package() -> str:
    """Maven coordinates of the Delta jar that goes with the installed pyspark and delta-spark."""
    try:
        from delta.pip_utils import configure_spark_with_delta_pip
        from pyspark.sql import SparkSession
    except ImportError:
        raise SessionError("delta-spark isn't installed", hint="pip install 'aml-spark[spark]'") from None
    builder = configure_spark_with_delta_pip(SparkSession.Builder())
    return str(builder._options["spark.jars.packages"])


def lake_package() -> str:
    """Maven coordinates of Hadoop's driver for data lakes, in the version that goes with the installed pyspark."""
    folder = _jars()
    found = [file.stem.removeprefix("hadoop-client-api-") for file in folder.glob("hadoop-client-api-*.jar")]
    if not found:
        raise SessionError(
            f"there is no hadoop-client-api jar in {str(folder)!r}, so its version isn't known",
            hint="conf={'spark.jars.packages': 'org.apache.hadoop:hadoop-azure:…'} with the version of its Hadoop",
        )
    return f"org.apache.hadoop:hadoop-azure:{found[0]}"


def spark_home() -> Path | None:
    """Spark's folder: the one that SPARK_HOME names, or else the installed pyspark's; None where there is neither."""
    if named := os.environ.get("SPARK_HOME"):
        return Path(named)
    pyspark = importlib.util.find_spec("pyspark")
    return Path(pyspark.origin).parent if pyspark is not None and pyspark.origin else None


def defaults_file() -> Path:
    """The file of settings that Spark reads by itself, where it is there."""
    return Path(os.environ.get("SPARK_CONF_DIR") or Path(spark_home() or "", "conf"), "spark-defaults.conf")


def _jars() -> Path:
    home = spark_home()
    if home is None:
        raise SessionError("pyspark isn't installed", hint="pip install 'aml-spark[spark]'")
    return home / "jars"


def delta_version() -> str | None:
    """Version of the installed delta-spark, or None."""
    try:
        return importlib.metadata.version("delta-spark")
    except importlib.metadata.PackageNotFoundError:
        return None


def jar_file(package: str) -> Path:
    """Where Spark's resolver keeps the jar of `group:artifact:version` once it was downloaded."""
    import pyspark

    folder = ".ivy2" if pyspark.__version__.startswith("3.") else ".ivy2.5.2"
    return Path.home() / folder / "jars" / f"{package.replace(':', '_', 1).replace(':', '-')}.jar"


def decides_jars() -> bool:
    """Whether the next session starts Java, and nothing outside this process tells of jars for it."""
    from pyspark import SparkContext

    told = [os.environ.get(name, "") for name in ("PYSPARK_SUBMIT_ARGS", "SPARK_SUBMIT_OPTS")]
    with contextlib.suppress(FileNotFoundError):
        told.append(defaults_file().read_text(errors="replace"))
    return SparkContext._gateway is None and not any(_OF_JARS.search(words) for words in told)


def remember(packages: str, jars: str) -> None:
    """Note which jars Spark's resolver found, for `fetched`.

    Args:
        packages: what `spark.jars.packages` was.
        jars: what `spark.jars` is in the session that was made with it, and with nothing else that tells of jars.
    """
    note = _note(packages)
    unfinished = note.with_name(f"{note.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # the next session has them resolved again
        note.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(jars, encoding="utf-8")
        unfinished.replace(note)


def fetched(packages: str) -> list[str]:
    """The jars that a session with these packages needs, where an earlier one noted them and they are still there.

    To resolve them anew takes Spark's resolver seconds, and it hands them to Python, too, which looks at each of them
    again before each task. Spark's own jars go before them, so those of which it has some version aren't among them.

    Args:
        packages: what `spark.jars.packages` would be: Delta's and Hadoop's, which are made for this Spark.

    Returns:
        Their URIs; none where it isn't known.
    """
    try:
        jars = _note(packages).read_text(encoding="utf-8").split(",")
    except (OSError, UnicodeError):
        return []
    places = [Path(url2pathname(urlsplit(jar).path)) for jar in jars]
    names = {place.name for place in places}
    if not all(jar_file(package).name in names for package in packages.split(",")):
        return []
    if not all(place.exists() for place in places):
        return []
    own = {_artifact(file.name) for file in _jars().glob("*.jar")}
    return [jar for jar, place in zip(jars, places, strict=True) if _artifact(place.name.partition("_")[2]) not in own]


def jar_settings(packages: str) -> dict[str, str]:
    """Spark's settings for a session with these packages: their jars where they are known, else the packages."""
    jars = ",".join(fetched(packages))
    return {"spark.jars": jars} if jars else {"spark.jars.packages": packages}


def _note(packages: str) -> Path:
    return jar_file("a:b:c").parent.with_name("aml-spark") / packages.replace(":", "_").replace("/", "_")


def _artifact(file: str) -> str:
    """`delta-spark_2.13` of `delta-spark_2.13-4.1.0.jar`."""
    return re.sub(r"-\d[^-]*(-.*)?\.jar$", "", file)


def find_java() -> str | None:
    """Path of the Java that Spark would start, or None."""
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java", path=str(Path(home, "bin"))) if home else shutil.which("java")


def java_version() -> int | None:
    """Major version of the Java that Spark would start, or None."""
    java = find_java()
    if java is None:
        return None
    try:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    except OSError:  # made for another machine
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', told)
    return int(match[1]) if match else None


@contextlib.contextmanager
def started(settings: Mapping[str, str]) -> Iterator[None]:
    """Have Spark's Java process for the block that makes a session of it.

    What the process says meanwhile, a hundred lines on jars, is shown only where the block fails; later words are
    shown as they come.

    Args:
        settings: Spark's, with the packages to fetch in `spark.jars.packages`.

    Raises:
        SessionError: there is no Java, it is too old, or a package can't be had.
    """
    from pyspark import SparkContext

    if find_java() is None:
        raise SessionError(
            "no Java found: neither JAVA_HOME nor the PATH has one, and Spark needs Java 17 or newer",
            hint="apt-get install openjdk-17-jre-headless (Debian, Ubuntu) or brew install openjdk@17 (macOS)",
        )
    if SparkContext._gateway is not None:  # it goes on running when a session is stopped
        _refuse_without_delta(SparkContext._gateway)
        yield
        return
    reader, writer = os.pipe()
    held: list[bytes] = []
    ready = threading.Event()

    def listen() -> None:
        with os.fdopen(reader, "rb") as said:
            for line in said:
                if ready.is_set():
                    os.write(2, line)
                else:
                    held.append(line)

    listener = threading.Thread(target=listen, name="spark-java-stderr", daemon=True)
    listener.start()
    try:
        _launch(settings, writer)
        yield
    except BaseException:
        listener.join(1)
        os.write(2, b"".join(held))
        raise
    finally:
        ready.set()


def _refuse_without_delta(gateway: Any) -> None:
    # Jars are looked up when the process starts. Its main loader doesn't know them, the threads' does.
    loader = gateway.jvm.java.lang.Thread.currentThread().getContextClassLoader()
    try:
        loader.loadClass(DELTA_CLASS)
    except Exception:  # py4j's, for ClassNotFoundException
        raise SessionError(
            "the Java process of an earlier session in this Python process goes on running, and has no Delta",
            hint="restart Python, and call aml_spark.get_spark() before any other session is made",
        ) from None


def _launch(settings: Mapping[str, str], stderr: int) -> None:
    from pyspark import SparkConf, SparkContext
    from pyspark.errors import PySparkRuntimeError
    from pyspark.java_gateway import launch_gateway

    packages = [package for package in settings.get("spark.jars.packages", "").split(",") if package]
    absent = [package for package in packages if not jar_file(package).exists()]
    if absent:
        _logger.warning("fetching %s and what they need from Maven Central, once", ", ".join(absent))
    conf = SparkConf(loadDefaults=False).setAll(list(settings.items()))
    try:
        SparkContext._gateway = launch_gateway(conf, {"stderr": stderr})  # type: ignore[no-untyped-call]
        SparkContext._jvm = SparkContext._gateway.jvm
    except PySparkRuntimeError as error:
        version = java_version()
        if version is not None and version < 17:
            raise SessionError(
                f"Spark's Java process ended at once: {find_java()!r} is Java {version}, and Spark needs 17 or newer",
                hint="set JAVA_HOME to a newer one",
            ) from error
        raise SessionError(
            "Spark's Java process ended before it was ready; its own words stand above"
            + (f". Not in {str(jar_file(absent[0]).parent)!r}, and so to be downloaded: {absent}" if absent else ""),
            hint="is Maven Central reached? pip install 'aml-spark[spark]' brings a pyspark and a delta-spark that go "
            "together; conf={'spark.jars': …} names jars that are here"
            if absent
            else f"they tell why, such as a master that it doesn't know; that is {settings['spark.master']!r}",
        ) from error
    finally:
        os.close(stderr)
