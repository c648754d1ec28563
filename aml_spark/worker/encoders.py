"""scikit-learn's encoders of texts, which look each text of a batch up once, in place of once a row."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

_SAMPLE = 64  # texts of a column


def quicken(encoder: Any) -> None:
    """Have an encoder work in this way, where it makes the same of made-up rows as by itself."""
    if not (type(encoder).__module__.startswith("sklearn.preprocessing.") and hasattr(encoder, "categories_")):
        return
    known = [[text for text in texts if isinstance(text, str)][:_SAMPLE] for texts in encoder.categories_]
    if not (known and all(known)) or isinstance(encoder._transform, _Transform):
        return
    rows = 4 * (_SAMPLE + 1)
    # All texts in one are hardly a category, so they stand for an unknown text.
    columns = [list(itertools.islice(itertools.cycle([*texts, "".join(texts)]), rows)) for texts in known]
    sample: Any = np.array(columns, object).T
    if hasattr(encoder, "feature_names_in_"):
        sample = pd.DataFrame(sample, columns=encoder.feature_names_in_).infer_objects()
    own, quick = encoder._transform, _Transform(encoder)
    pairs = zip(own(sample, handle_unknown="ignore"), quick(sample, handle_unknown="ignore"), strict=True)
    if all(np.array_equal(one, other) and one.dtype == other.dtype for one, other in pairs):
        encoder._transform = quick


class _Transform:
    """An encoder's `_transform`, which gives for each value its category's number and whether there is one."""

    def __init__(self, encoder: Any) -> None:
        self._own = encoder._transform

    def __reduce__(self) -> Any:
        return getattr, (self._own.__self__, "_transform")  # a copy elsewhere is scikit-learn's own

    def __call__(self, data: Any, **options: Any) -> Any:
        found = _distinct(data)
        if found is None:
            return self._own(data, **options)
        few, places = found
        return tuple(
            np.column_stack([column.take(place) for column, place in zip(of_few.T, places, strict=True)])
            for of_few in self._own(few, **options)
        )


def _distinct(data: Any) -> tuple[Any, Sequence[Any]] | None:
    """Rows that have every text of each column, and by column, which of them has each row's.

    None for what isn't a table of texts, most of them more than once.
    """
    if isinstance(data, pd.DataFrame):
        columns = [data.iloc[:, place] for place in range(data.shape[1])]
    elif type(data) is np.ndarray and data.ndim == 2:
        columns = list(data.T)
    else:
        return None
    places, firsts = [], []
    for column in columns:
        found = _numbered(column)
        if found is None:
            return None
        places.append(found[0])
        firsts.append(found[1])
    if not firsts:
        return None
    rows = max(map(len, firsts))
    few = [column.take(np.resize(first, rows)) for column, first in zip(columns, firsts, strict=True)]
    if isinstance(data, np.ndarray):
        return np.column_stack(few), places
    frame = pd.DataFrame({place: one.array for place, one in enumerate(few)})
    frame.columns = data.columns
    return frame, places


def _numbered(column: Any) -> tuple[Any, Any] | None:
    """For each row the number of its text, and for each number the first row that has it."""
    is_object = column.dtype == object
    if not (is_object or isinstance(column.dtype, pd.StringDtype)):
        return None
    try:
        texts = pa.array(np.asarray(column) if is_object else column, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError):  # other things among them
        return None
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    is_text = pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)
    if not is_text or (is_object and texts.null_count):  # scikit-learn tells None from NaN
        return None
    coded = texts.dictionary_encode(null_encoding="encode")
    if len(coded.dictionary) > len(texts) / 2:
        return None
    numbers = coded.indices.to_numpy()
    first = np.zeros(len(coded.dictionary), np.int64)
    first[numbers[::-1]] = np.arange(len(numbers))[::-1]
    return numbers, first
