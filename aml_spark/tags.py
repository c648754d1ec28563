"""Names of the tags that this library writes to experiments, runs, models and versions, and of one variable."""

REQUEST_ID = "aml_spark.request_id"  # of what was asked for, to find it after a connection broke
EXPERIMENT_PATH = "aml_spark.experiment_path"  # of an experiment whose name is the last part of it
COPY_OF = "aml_spark.copy_of_run"
COPIED_FROM = "aml_spark.copied_from"  # address of a copied version's origin
COPIED_RUN = "aml_spark.copied_run"  # the run that trained the origin
MODEL_DIGEST = "aml_spark.model_digest"  # SHA-256 of a copied version's files
RUN_ID = "aml_spark.run_id"  # the run, elsewhere, that an uploaded version comes from
SCORED_TABLE = "aml_spark.scored_table"  # begins those of a version that say which tables it scores
PROJECT_RUN = "AML_SPARK_RUN_ID"  # variable with the run that a project's process was started for
