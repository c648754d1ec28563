"""What deployments were asked and answered, kept in the workspace's storage as Azure's data collector does.

A line of JSON is a request in the form of CloudEvents, with the rows of a DataFrame as its data. The files lie by hours
under `<path>/<yyyy>/<MM>/<dd>/<HH>/<instance>.jsonl`.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import threading
import uuid
from collections.abc import Callable
from typing import Any

from aml_spark.testing.control.assets import Assets
from aml_spark.testing.control.storage import Storage
from aml_spark.testing.lake.storage import Lake

INPUTS, OUTPUTS = "model_inputs", "model_outputs"
_HOME = "azureml://datastores/workspaceblobstore/paths/modelDataCollector"


class Collector:
    """Writes what is collected.

    Args:
        workspace: the workspace's ARM path.
        storage: knows where to.
        lake: what is written to; a collection lies in one of its datastores.
        data: the data assets that say where a collection lies.
        signature: what the model of a deployment says of its inputs and outputs.
        seed: of which requests are taken.
    """

    def __init__(
        self,
        workspace: str,
        storage: Storage,
        lake: Lake,
        data: Assets,
        signature: Callable[[str], dict[str, Any]],
        *,
        seed: int = 0,
    ) -> None:
        self._workspace, self._storage, self._lake = workspace, storage, lake
        self._data, self._signature = data, signature
        self._random = random.Random(seed)  # noqa: S311 - not for secrets
        self._instance = uuid.uuid4().hex
        self._lock = threading.Lock()

    def keep(
        self,
        endpoint: str,
        name: str,
        wanted: dict[str, Any] | None,
        asked: dict[str, Any],
        predictions: Any,
        request_id: str,
    ) -> None:
        """Write one request and its answer.

        Args:
            endpoint: of the deployment.
            name: of the deployment.
            wanted: its `dataCollector`.
            asked: the request, in MLflow's protocol.
            predictions: the answer.
            request_id: the same in both.
        """
        collections = {
            collection: rules
            for collection, rules in ((wanted or {}).get("collections") or {}).items()
            if collection in (INPUTS, OUTPUTS) and str(rules.get("dataCollectionMode")).lower() == "enabled"
        }
        if not collections:
            return
        drawn = self._random.random()  # one for both, so that each input has its output
        signature = self._signature(f"{endpoint}/{name}")
        for collection, rules in collections.items():
            rate = rules.get("samplingRate")
            if drawn >= (1.0 if rate is None else rate):
                continue
            inputs = collection == INPUTS
            names = _names(signature.get("inputs" if inputs else "outputs"))
            rows = _inputs(asked, names) if inputs else _rows(predictions, names)
            event = self._event(f"{endpoint}/deployments/{name}", collection, rows, request_id)
            self._write(self._home(endpoint, name, collection, rules), event)

    def _home(self, endpoint: str, name: str, collection: str, rules: dict[str, Any]) -> str:
        asset = self._data.find(rules.get("dataId") or "")
        return str(asset["dataUri"]).rstrip("/") if asset else f"{_HOME}/{endpoint}/{name}/{collection}"

    def _event(self, deployment: str, collection: str, rows: list[Any], request_id: str) -> dict[str, Any]:
        size = len(json.dumps(rows).encode())
        return {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": f"{self._workspace}/onlineEndpoints/{deployment}",
            "type": f"azureml.inference.{collection}",
            "datacontenttype": "application/json",
            "time": f"{dt.datetime.now(dt.timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
            "data": rows,
            "contentrange": f"bytes 0-{size - 1}/{size}",
            "correlationid": request_id,
            "xrequestid": request_id,
            "modelversion": "default",
            "collectdatatype": "pandas.core.frame.DataFrame",
            "agent": "azureml-ai-monitoring/0.1.0b4",
        }

    def _write(self, home: str, event: dict[str, Any]) -> None:
        line = json.dumps(event).encode() + b"\n"
        place = self._storage.place(f"{home}/{dt.datetime.now(dt.timezone.utc):%Y/%m/%d/%H}/{self._instance}.jsonl")
        where = (place.container, place.path)
        with self._lock, self._lake.transaction():
            if not self._lake.has(*where):
                self._lake.create(*where, directory=False)
            end = self._lake.get(*where).length
            self._lake.append(*where, end, line)
            self._lake.flush(*where, end + len(line))


def _names(schema: str | None) -> list[str]:
    """Names of columns in one half of a signature, as an MLmodel file has it; none of tensors."""
    return [column["name"] for column in json.loads(schema or "[]") if "name" in column]


def _inputs(asked: dict[str, Any], names: list[str]) -> list[Any]:
    if "dataframe_split" in asked:
        split = asked["dataframe_split"]
        return [dict(zip(map(str, split["columns"]), row, strict=False)) for row in split["data"]]
    data = next(asked[key] for key in ("dataframe_records", "inputs", "instances") if key in asked)
    if isinstance(data, dict):
        columns = {key: values if isinstance(values, list) else [values] for key, values in data.items()}
        return [dict(zip(columns, row, strict=False)) for row in zip(*columns.values(), strict=False)]
    return _rows(data, names)


def _rows(values: Any, names: list[str]) -> list[Any]:
    """Rows with named columns; where there are no names, with their numbers, as pandas does it."""
    rows = []
    for value in values if isinstance(values, list) else [values]:
        if isinstance(value, dict):
            rows.append(value)
        else:
            cells = value if isinstance(value, list) else [value]
            labels = names if len(names) == len(cells) else [str(number) for number in range(len(cells))]
            rows.append(dict(zip(labels, cells, strict=True)))
    return rows
