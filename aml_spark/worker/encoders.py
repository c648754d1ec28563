"""scikit-learn's encoders of texts, which look each text of a batch up once, in place of once a row."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

_SAMPLE = 64  # texts of a column


def parts(model: Any) -> Iterator[Any]:
    """A model of scikit-learn's, and all that it is composed of."""
    yield model
    for name in ("steps", "transformers_", "transformer_list"):
        for _, part, *_ in getattr(model, name, ()):
            yield from parts(part)


def quicken(encoder: Any) -> None:
    """Have an encoder work in this way, where it makes the same of made-up rows as by itself."""
    if not (type(encoder).__module__.startswith("sklearn.preprocessing.") and hasattr(encoder, "categories_")):
        return
    known = [[text for text in texts if isinstance(text, str)][:_SAMPLE] for texts in encoder.categories_]
    if not (known and all(known) and hasattr(encoder, "_transform")):
        return
    rows = 4 * (_SAMPLE + 1)
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
    elif isinstance(data, np.ndarray) and data.ndim == 2:
        columns = list(data.T)
    else:
        return None
    places, texts = [], []
    for column in columns:
        if not (isinstance(column.dtype, pd.StringDtype) or column.dtype == object):
            return None
        place, different = pd.factorize(column, use_na_sentinel=False)
        is_text = isinstance(column.dtype, pd.StringDtype) or all(type(one) is str for one in different)
        if not is_text or len(different) > len(column) / 2:
            return None
        places.append(place)
        texts.append(different)
    numbers = np.arange(max(map(len, texts)))
    few = [pd.Series(one.take(np.minimum(numbers, len(one) - 1)), dtype=one.dtype) for one in texts]
    if isinstance(data, np.ndarray):
        return np.column_stack(few), places
    frame = pd.DataFrame(dict(enumerate(few)))
    frame.columns = data.columns
    return frame, places
