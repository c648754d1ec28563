"""What Databricks' driver runs: it unpacks the project, points MLflow to the run, and runs the project's script.

It is sent as a file of its own, so it imports nothing of ours. Its arguments are the archive, MLflow's variables as
JSON, the script's path in the archive, and the script's arguments. `%` and `{{` in them are percent-encoded: Databricks
would put values in place of references such as `{{job.id}}`.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import shutil
import sys
import tempfile
import zipfile
from urllib.parse import unquote


def run(archive: str, variables: str, script: str, *arguments: str) -> None:
    """Run the script in the project's folder as `python script arguments` does."""
    os.environ.update(json.loads(unquote(variables)))
    folder = tempfile.mkdtemp(prefix="project-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # when a trace has been printed, which shows its lines
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    file = os.path.join(folder, unquote(script))  # noqa: PTH118
    sys.path.insert(0, os.path.dirname(file))  # noqa: PTH120
    sys.argv = [unquote(script), *map(unquote, arguments)]
    os.chdir(folder)
    status = "FAILED"
    try:
        runpy.run_path(file, run_name="__main__")
        status = "FINISHED"
    except SystemExit as end:
        if end.code:
            raise
        status = "FINISHED"  # for Databricks an exit is a failure, whatever its code
    finally:
        # A cluster's Python may go on after the script, so a run that it left open has to be ended here.
        mlflow = sys.modules.get("mlflow")
        if mlflow is not None and mlflow.active_run() is not None:
            mlflow.end_run(status)


if __name__ == "__main__":
    run(*sys.argv[1:])
