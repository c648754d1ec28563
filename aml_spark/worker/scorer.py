"""A model in a process of its own, in the environment that it was logged with. Arrow goes there and back.

Both ends of the two pipes are in this module: `Scorer` in the Spark worker, `serve` in the process. A message is its
kind (a byte), its length (8 bytes) and an Arrow stream, or text.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import struct
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from . import environments
from .columns import Input
from .failures import BATCH, PredictionError, where

_HEAD = struct.Struct(">cQ")
_ROWS, _FAILED, _READY = b"r", b"f", b"!"
_PLAIN = ("label", "digest", "enforced", "time_zone", "params", "model_config", "extra_env", "show_message")
Columns = Sequence[tuple[str, pa.DataType]]

_scorers: dict[str, Scorer] = {}


def get(folder: str, spec: Mapping[str, Any]) -> Scorer:
    """The process for a model: this Python process starts one, and starts another where it has ended."""
    key = json.dumps([spec[part] for part in (*_PLAIN, "environment")], default=str)
    if key not in _scorers or _scorers[key].ended:
        _scorers[key] = Scorer(folder, spec)
    return _scorers[key]


class Scorer:
    """The near end of a process that scores.

    Args:
        folder: where the model's files are.
        spec: what the driver decided.

    Raises:
        PredictionError: the process doesn't start in time, or ends; with its last lines.
    """

    def __init__(self, folder: str, spec: Mapping[str, Any]) -> None:
        wanted = spec["environment"]
        place = environments.folder(wanted)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - ends with the scorer
        near_in, far_out = os.pipe()
        far_in, near_out = os.pipe()
        start = "import sys; sys.path.insert(0, sys.argv[1]); from worker.scorer import serve; serve(*sys.argv[2:])"
        command = [*environments.command(place), start, str(Path(folder).parent), str(far_in), str(far_out), folder]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, pass_fds=(far_in, far_out)
        )
        os.close(far_in)
        os.close(far_out)
        self._from, self._to = os.fdopen(near_in, "rb"), os.fdopen(near_out, "wb")
        self.ended = False
        atexit.register(self._end)
        self._send(_ROWS, _packed(spec))
        ready, _, _ = select.select([self._from], [], [], wanted["start_seconds"])
        if not ready:
            self._end()
            raise PredictionError(
                f"didn't start in its environment within {wanted['start_seconds']:g} seconds:\n{self._said()}"
            )
        kind, text = self._receive()
        if kind == _FAILED:
            self._end()
            environments.remove(wanted)
            raise PredictionError(text.decode())

    def score(self, types: Columns, columns: Sequence[pa.Array], rows: int) -> pa.Array:
        """The predictions for some rows."""
        names = [name for name, _ in types]
        batch = pa.record_batch(list(columns), names=names) if columns else pa.record_batch([pa.nulls(rows)], [""])
        self._send(_ROWS, _written(batch))
        kind, answer = self._receive()
        if kind == _FAILED:
            raise PredictionError(answer.decode().replace(BATCH, f"{BATCH}{where()}", 1))
        return pa.ipc.open_stream(answer).read_all().column(0).combine_chunks()

    def _send(self, kind: bytes, content: Any) -> None:
        try:
            _put(self._to, kind, content)
        except OSError:
            raise self._crashed() from None

    def _receive(self) -> tuple[bytes, bytes]:
        message = _take(self._from)
        if message is None:
            raise self._crashed()
        return message

    def _crashed(self) -> PredictionError:
        self._end()
        return PredictionError(f"crashed its process ({_ending(self._process.returncode)}):\n{self._said()}")

    def _end(self) -> None:
        self.ended = True
        for pipe in (self._from, self._to):
            with contextlib.suppress(OSError):  # what wasn't sent yet goes nowhere
                pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _said(self) -> str:
        self._log.seek(0)
        return environments.told(self._log.read().decode(errors="replace"))


def serve(far_in: str, far_out: str, folder: str) -> None:
    """The far end: score what comes until nothing more does."""
    from . import local

    with os.fdopen(int(far_in), "rb") as requests, os.fdopen(int(far_out), "wb") as answers:

        def answer(kind: bytes, work: Callable[[], Any]) -> None:
            try:
                content = work()
            except PredictionError as error:
                kind, content = _FAILED, str(error).encode()
            _put(answers, kind, content)

        first = _take(requests)
        assert first is not None
        spec = _unpacked(first[1])
        scorer = local.Scorer(folder, spec)

        def scored(content: bytes) -> Any:
            table = pa.ipc.open_stream(content).read_all()
            types = [(field.name, field.type) for field in table.schema]
            columns = [column.combine_chunks() for column in table.columns]
            return _written(pa.record_batch([scorer.score(types, columns, table.num_rows)], ["prediction"]))

        def loaded() -> bytes:
            scorer.load()
            return b""

        answer(_READY, loaded)
        while (message := _take(requests)) is not None:
            answer(_ROWS, lambda: scored(message[1]))


def _put(pipe: BinaryIO, kind: bytes, content: Any) -> None:
    pipe.write(_HEAD.pack(kind, len(content)))
    pipe.write(content)
    pipe.flush()


def _take(pipe: BinaryIO) -> tuple[bytes, bytes] | None:
    head = pipe.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    kind, length = _HEAD.unpack(head)
    content = pipe.read(length)
    return (kind, content) if len(content) == length else None


def _written(batch: pa.RecordBatch) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue()


def _packed(spec: Mapping[str, Any]) -> pa.Buffer:
    """The spec as an Arrow schema: another version of Arrow reads that, and needn't read a pickle."""
    inputs = None if spec["inputs"] is None else [Input(*one) for one in spec["inputs"]]
    plain: dict[str, Any] = {name: spec[name] for name in _PLAIN}
    types = [one.type if isinstance(one.type, pa.DataType) else pa.null() for one in inputs or ()]
    fields = [pa.field("", kind) for kind in [spec["output"], *types]]
    plain["inputs"] = (
        None
        if inputs is None
        else [
            [one.name, None if isinstance(one.type, pa.DataType) else one.type or "", one.required, one.shape]
            for one in inputs
        ]
    )
    return pa.schema(fields, {"spec": json.dumps(plain, default=str)}).serialize()


def _unpacked(content: bytes) -> dict[str, Any]:
    schema = pa.ipc.read_schema(pa.py_buffer(content))
    spec = json.loads(schema.metadata[b"spec"])
    if spec["inputs"] is not None:
        spec["inputs"] = [
            (name, field.type if kind is None else kind or None, required, shape and tuple(shape))
            for (name, kind, required, shape), field in zip(spec["inputs"], list(schema)[1:], strict=True)
        ]
    return {**spec, "output": schema.field(0).type}


def _ending(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
