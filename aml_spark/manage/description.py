"""What is wrong with a file that doesn't describe a job: azure-ai-ml says that on a hundred lines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aml_spark.errors import ArgumentError, did_you_mean

_MISSING, _UNKNOWN = "Missing data for required field.", "Unknown field."
_UNNAMED = ("_schema", "value")  # levels that marshmallow puts in between


@contextlib.contextmanager
def read(file: Path) -> Iterator[None]:
    """Raise what azure-ai-ml finds wrong with a description as an `ArgumentError` that names the file and the fields.

    Args:
        file: the description.
    """
    from azure.ai.ml.exceptions import MlException
    from marshmallow import ValidationError
    from yaml import YAMLError

    try:
        yield
    except ValidationError as error:
        found = _fields(_first(error).messages)
        missing = [field for field, text in found if text == _MISSING]
        unknown = [field for field, text in found if text == _UNKNOWN]
        hints = [did_you_mean(field, missing) for field in unknown]
        words = "; ".join(dict.fromkeys(_told(field, text) for field, text in found))
        raise ArgumentError(_refused(file, words), hint=next(filter(None, hints), None)) from None
    except MlException as error:
        raise ArgumentError(_refused(file, str(error.message))) from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ArgumentError(_refused(file, str(error))) from None


def _first(error: BaseException) -> Any:
    """The error that the others were made of, in whose texts its fields are only quoted."""
    from marshmallow import ValidationError

    while isinstance(error.__context__, ValidationError):
        error = error.__context__
    return error


def _fields(messages: Any, path: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Each field, such as `resources.instance_count`, with what is wrong with it."""
    if isinstance(messages, dict):
        return [
            pair
            for key, inner in messages.items()
            for pair in _fields(inner, path if key in _UNNAMED else (*path, str(key)))
        ]
    if isinstance(messages, list):
        return [pair for inner in messages for pair in _fields(inner, path)]
    return [(".".join(path), str(messages))]


def _told(field: str, text: str) -> str:
    if text == _MISSING:
        return f"the field {field!r} is missing"
    if text == _UNKNOWN:
        return f"there is no field {field!r}"
    first = text.strip().partition("\n")[0]  # examples follow
    return f"{field}: {first}" if field else first


def _refused(file: Path, words: str) -> str:
    return f"{str(file)!r} doesn't describe a job: {' '.join(words.split())}"
