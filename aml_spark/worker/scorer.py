"""A model in a process of its own, in the environment that it was logged with. Arrow goes there and back.

Both ends of the two pipes are in this module: `Scorer` in the Spark worker, `serve` in the process. A message is its
kind (a byte), its length (8 bytes) and an Arrow stream, or text.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import functools
import json
import os
import select
import struct
import subprocess
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from . import environments
from .columns import Input
from .failures import BATCH, PredictionError, RowsError, where

_HEAD = struct.Struct(">cQ")
_ROWS, _BAD_ROWS, _FAILED, _READY = b"r", b"b", b"f", b"!"
_MOST = 4  # processes that a Spark worker keeps, each with a model
_START = """
import importlib.util, sys
found = importlib.util.spec_from_file_location("aml_spark_worker", sys.argv.pop(1))
module = sys.modules["aml_spark_worker"] = importlib.util.module_from_spec(found)
found.loader.exec_module(module)
from aml_spark_worker.scorer import serve
serve(*sys.argv[1:])
"""
_PLAIN = ("label", "digest", "enforced", "time_zone", "params", "model_config", "extra_env", "show_message")
Columns = Sequence[tuple[str, pa.DataType]]

_scorers: OrderedDict[str, Scorer] = OrderedDict()


class _StartError(PredictionError):
    """The environment can't even run what scores."""


def get(folder: str, spec: Mapping[str, Any]) -> Scorer:
    """The process for a model: this Python process starts one, and starts another where it has ended."""
    key = json.dumps([spec[part] for part in (*_PLAIN, "environment", "output")], default=str)
    if key in _scorers and _scorers[key].ended:
        del _scorers[key]
    if key not in _scorers:
        while len(_scorers) >= _MOST:
            _scorers.popitem(last=False)[1].end()
        wanted = spec["environment"]
        place = environments.folder(wanted)
        build = environments.facts(place)
        try:
            _scorers[key] = Scorer(place, folder, spec)
        except _StartError:
            if wanted["manager"] == "prebuilt":
                raise
            environments.remove(wanted, build)
            _scorers[key] = Scorer(environments.folder(wanted), folder, spec)
    _scorers.move_to_end(key)
    return _scorers[key]


class Scorer:
    """The near end of a process that scores.

    Args:
        place: the environment.
        folder: where the model's files are.
        spec: what the driver decided.

    Raises:
        PredictionError: the process doesn't start in time, or ends; with its last lines.
    """

    def __init__(self, place: Path, folder: str, spec: Mapping[str, Any]) -> None:
        wanted = spec["environment"]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - ends with the scorer
        near_in, far_out = os.pipe()
        far_in, near_out = os.pipe()
        said = os.dup(2)
        code = str(Path(__file__).with_name("__init__.py"))
        command = [*environments.command(place), _START, code, str(far_in), str(far_out), str(said), folder]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, pass_fds=(far_in, far_out, said)
        )
        for far in (far_in, far_out, said):
            os.close(far)
        self._from, self._to = os.fdopen(near_in, "rb"), os.fdopen(near_out, "wb")
        self.ended = False
        atexit.register(self.end)
        # What doesn't come this far has lost packages, as where the temporary folder was tidied.
        if self._receive(_StartError)[0] != _READY:
            raise self._crashed()
        self._send(_ROWS, _packed(spec))
        ready, _, _ = select.select([self._from], [], [], wanted["start_seconds"])
        if not ready:
            self._process.kill()
            self.end()
            raise PredictionError(f"wasn't loaded in its environment within {wanted['start_seconds']:g} seconds")
        kind, text = self._receive()
        if kind == _FAILED:
            self.end()
            raise PredictionError(text.decode())

    def score(self, types: Columns, columns: Sequence[pa.Array], rows: int) -> pa.Array:
        """The predictions for some rows."""
        names = [name for name, _ in types]
        batch = pa.record_batch(list(columns), names=names) if columns else pa.record_batch([pa.nulls(rows)], [""])
        self._send(_ROWS, _written(batch))
        kind, answer = self._receive()
        if kind in (_BAD_ROWS, _FAILED):
            told = answer.decode().replace(BATCH, f"{BATCH}{where()}", 1)
            raise RowsError(told) if kind == _BAD_ROWS else PredictionError(told)
        return pa.ipc.open_stream(answer).read_all().column(0).combine_chunks()

    def _send(self, kind: bytes, content: Any) -> None:
        try:
            _put(self._to, kind, content)
        except OSError:
            raise self._crashed() from None

    def _receive(self, error: type[PredictionError] = PredictionError) -> tuple[bytes, bytes]:
        message = _take(self._from)
        if message is None:
            raise self._crashed(error)
        return message

    def _crashed(self, error: type[PredictionError] = PredictionError) -> PredictionError:
        told = self.end()
        return error(f"crashed its process ({_ending(self._process.returncode)}):\n{told}")

    def end(self) -> str:
        """End the process; gives the last lines that it wrote where they hold no rows."""
        if self.ended:
            return ""
        self.ended = True
        atexit.unregister(self.end)
        for pipe in (self._from, self._to):
            with contextlib.suppress(OSError):  # what wasn't sent yet goes nowhere
                pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with self._log:
            self._log.seek(0, os.SEEK_END)
            self._log.seek(max(0, self._log.tell() - 10_000))
            return environments.told(self._log.read().decode(errors="replace"))


def serve(far_in: str, far_out: str, said: str, folder: str) -> None:
    """The far end: score what comes until nothing more does.

    Until the model is loaded, what is written goes to the log that a crash's error quotes. Later it may be about rows
    and goes to the executor's own log; only Python's word on a fatal error stays.
    """
    from . import local

    with os.fdopen(int(far_in), "rb") as requests, os.fdopen(int(far_out), "wb") as answers:

        def answer(kind: bytes, work: Callable[[], Any]) -> None:
            try:
                content = work()
            except PredictionError as error:
                kind, content = _BAD_ROWS if isinstance(error, RowsError) else _FAILED, str(error).encode()
            except Exception as error:  # its text may quote rows
                kind, content = _FAILED, f"couldn't be scored: {type(error).__name__}".encode()
            _put(answers, kind, content)

        _put(answers, _READY, b"")
        first = _take(requests)
        assert first is not None
        spec = _unpacked(first[1])
        scorer = local.Scorer(folder, spec)

        def loaded() -> bytes:
            scorer.load()
            if not spec["show_message"]:
                faulthandler.enable(os.fdopen(os.dup(2), "w"))
                os.dup2(int(said), 1)
                os.dup2(int(said), 2)
            return b""

        def scored(content: bytes) -> Any:
            table = pa.ipc.open_stream(content).read_all()
            types = [(field.name, field.type) for field in table.schema]
            columns = [column.combine_chunks() for column in table.columns]
            return _written(pa.record_batch([scorer.score(types, columns, table.num_rows)], ["prediction"]))

        answer(_READY, loaded)
        while (message := _take(requests)) is not None:
            answer(_ROWS, functools.partial(scored, message[1]))


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
