"""`python -m aml_spark`, and the file that spark-submit runs: `spark-submit $(aml-spark app) score …`."""

import sys
from pathlib import Path

if not __package__:  # run as a file: its own folder must not stand for the standard library's modules
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

from aml_spark.cli.main import main

if __name__ == "__main__":
    main(prog_name="aml-spark")
