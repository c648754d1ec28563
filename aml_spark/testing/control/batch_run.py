"""What a job of a batch endpoint runs in a process of its own: an MLflow model over files, a mini batch at a time.

It is started as a file, with the folders of the model, of the data and of the output, so it imports nothing of ours.
With `append_row` the predictions of all files go to one file without a header, a line for each row: its number in its
file, what the model answered for it, and the file's name.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ALL = -1  # as error threshold: however many files fail


class UnreadableFileError(Exception):
    """A file is of a kind that isn't known."""


def main() -> int:
    """Score what the arguments name."""
    asked = _arguments()
    import mlflow

    model = mlflow.pyfunc.load_model(str(asked.model))
    files = sorted(file for file in asked.data.rglob("*") if file.is_file())
    batches = [files[start : start + asked.mini_batch_size] for start in range(0, len(files), asked.mini_batch_size)]
    asked.output.mkdir(parents=True, exist_ok=True)
    failed: list[Path] = []
    with (asked.output / asked.output_file_name).open("w", newline="", encoding="utf-8") as target:
        writer = csv.writer(target)
        for number, batch in enumerate(batches):
            print(f"mini batch {number + 1} of {len(batches)}: {len(batch)} files", flush=True)
            for file in batch:
                rows = _tried(model, file, asked.max_retries)
                if rows is None:
                    failed.append(file)
                elif asked.output_action == "AppendRow":
                    writer.writerows(rows)
    if asked.output_action != "AppendRow":
        (asked.output / asked.output_file_name).unlink()
    print(f"{len(files) - len(failed)} of {len(files)} files were scored", flush=True)
    if asked.error_threshold != ALL and len(failed) > asked.error_threshold:
        print(f"{len(failed)} files failed; the error threshold is {asked.error_threshold}", file=sys.stderr)
        return 1
    return 0


def _tried(model: Any, file: Path, retries: int) -> list[list[Any]] | None:
    """A file's rows; None where it fails each time, of which the log tells."""
    for attempt in range(retries + 1):
        try:
            return list(_scored(model, file))
        except Exception as error:
            kind = type(error).__name__
            print(f"{file.name}: attempt {attempt + 1} failed: {kind}: {error}", file=sys.stderr, flush=True)
    return None


def _scored(model: Any, file: Path) -> Iterator[list[Any]]:
    import numpy as np
    import pandas as pd

    predictions = model.predict(_read(file, model.metadata.get_input_schema()))
    if isinstance(predictions, (pd.DataFrame, pd.Series)):
        predictions = predictions.to_numpy()
    for number, value in enumerate(predictions):
        cells = np.asarray(value).ravel().tolist() if isinstance(value, (list, tuple, np.ndarray)) else [value]
        yield [number, *cells, file.name]


def _read(file: Path, schema: Any) -> Any:
    """Its rows, with columns of the types that the model has in its signature."""
    import pandas as pd
    from mlflow.pyfunc import scoring_server

    kind = file.suffix.lower()
    if kind == ".csv":
        return scoring_server.parse_csv_input(file, schema)
    if kind in (".parquet", ".pqt"):
        return pd.read_parquet(file)
    if kind not in (".json", ".jsonl"):
        raise UnreadableFileError("only .csv, .json, .jsonl, .parquet and .pqt can be read")
    text = file.read_text(encoding="utf-8")
    rows = json.loads(text) if kind == ".json" else [json.loads(line) for line in text.splitlines()]
    form = "dataframe_records" if isinstance(rows, list) else "dataframe_split"
    return scoring_server.infer_and_parse_data({form: rows}, schema)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "data", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--output-file-name", default="predictions.csv")
    parser.add_argument("--output-action", choices=["AppendRow", "SummaryOnly"], default="AppendRow")
    parser.add_argument("--mini-batch-size", type=int, default=10)
    parser.add_argument("--error-threshold", type=int, default=ALL)
    parser.add_argument("--max-retries", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
