"""How labels and predictions are read: what is predicted, in which form, and of which classes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from aml_spark import table
from aml_spark.analysis import analysed, on_columns
from aml_spark.errors import ArgumentError, SchemaError
from aml_spark.monitoring.performance.outcome import Task, ordered

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

MOST_CLASSES = 100
Form = Literal["class", "score", "scores", "number"]
_WHOLE = ("tinyint", "smallint", "int", "bigint")
_BROKEN = ("float", "double", "decimal")
_UNIT = r"(?:micro|milli)?seconds?|minutes?|hours?|days?|weeks?|months?|quarters?|years?"
# Of SQL: comments, texts and numbers (with the unit of an interval), names in backticks, and words with what shows that
# they are no column of a table.
_SQL = re.compile(
    rf"""--[^\n]*|/\*.*?\*/|\br(?:'[^']*'|"[^"]*")|(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\b\d[\w.]*)(?:\s+(?:{_UNIT})\b)?"""
    rf"""|\b(?:extract|timestamp(?:add|diff)|date_?(?:add|diff))\s*\(\s*(?:{_UNIT})\b"""
    r"""|(?P<qualifier>\.\s*|::\s*|\bas\s+)?(?:`(?P<quoted>(?:[^`]|``)+)`|\b(?P<word>\w+)(?P<call_or_literal>(?=\s*['"(]))?)""",
    re.DOTALL | re.IGNORECASE,
)
_SYNTAX = re.compile(
    "all|and|any|as|between|case|div|else|end|exists|false|from|i?like|in|interval|is|not|null|or|rlike|some|then|to|true"
    "|when",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How rows are read.

    Args:
        task: what is predicted.
        form: what a prediction is: a class, the score of the second of two classes, or the scores of all; or a number.
        classes: in order; none of regressions, and where labels are of too few to tell what scores are of.
        level: that of the buckets of scores and residuals.
        is_guessed: whether the positive class is the second of two texts, in want of anybody who says which it is.
    """

    task: Task
    form: Form
    classes: tuple[str, ...]
    level: int
    is_guessed: bool = False


def column(df: DataFrame, text: str | None, what: str) -> Column:
    """A column by its name or by an SQL expression; null where there is none.

    Raises:
        SchemaError: it is neither.
    """
    from pyspark.sql import functions as F

    if text is None:
        return F.lit(None)
    if text in df.columns:
        return F.col(table.quoted(text))
    with on_columns(df, f"{what}={text!r} is neither a column nor an SQL expression on the columns", name=text):
        found = F.expr(text)
        analysed(df.select(found))
    return found


def names_in(text: str, columns: Sequence[str]) -> list[str]:
    """Those columns that a name or an SQL expression names, without asking Spark.

    What could as well be a part of SQL, such as `end`, is a column in backticks only, or alone.
    """
    if text in columns:
        return [text]
    found = set()
    for one in _SQL.finditer(text):
        if one["qualifier"]:
            continue  # a field of a struct, a type, a new name
        if one["quoted"]:
            found.add(one["quoted"].replace("``", "`").casefold())
        elif one["word"] and one["call_or_literal"] is None and not _SYNTAX.fullmatch(one["word"]):
            found.add(one["word"].casefold())
    return [name for name in columns if name.casefold() in found]


def lacks(df: DataFrame, other: DataFrame, text: str) -> bool:
    """Whether a table hasn't what a name or an SQL expression names, which the other one has."""
    has = {name.casefold() for name in df.columns}
    missing = [name for name in other.columns if name.casefold() not in has]
    if not names_in(text, missing):
        return False
    try:
        column(df, text, "label")  # a name may also be that of a function's argument, or a new one
    except SchemaError:
        return True
    return False


def _kind(rows: DataFrame, name: str) -> str:
    """What is treated alike: "none", "boolean", "text", "whole" or "broken" numbers, "scores"."""
    type_name = rows.schema[name].dataType.simpleString()
    plain = type_name.partition("(")[0].removeprefix("array<")
    if type_name == "vector":
        hint = "pyspark.ml.functions.vector_to_array makes an array of one"
        raise SchemaError(f"the {name} is a vector of Spark ML; expected an array of probabilities", hint=hint)
    if type_name.startswith("array<") and plain.rstrip(">") in (*_WHOLE, *_BROKEN) and name == "prediction":
        return "scores"
    kinds = {"void": "none", "boolean": "boolean", "string": "text", "varchar": "text", "char": "text"}
    kinds |= {**dict.fromkeys(_WHOLE, "whole"), **dict.fromkeys(_BROKEN, "broken")}
    if plain not in kinds or type_name.startswith("array<"):
        expected = "a boolean, a text or a number" + (", or an array of numbers" if name == "prediction" else "")
        raise SchemaError(f"the {name} has the type {type_name}; expected {expected}")
    return kinds[plain]


def reading(rows: DataFrame, task: Task | None, classes: Sequence[Any] | None, *, finest: bool) -> Reading:
    """What the columns `label` and `prediction` of rows mean; see `outcomes` for the rules.

    Args:
        rows: what is read; only where the types don't tell.
        task: what the user says.
        classes: what the user says.
        finest: whether buckets are the finest ones; else eight are one, where there are many outcomes.

    Raises:
        ArgumentError: arguments that don't go together.
        SchemaError: types that don't, or too many classes.
    """
    label, guess = _kind(rows, "label"), _kind(rows, "prediction")
    if task not in (None, "classification", "regression"):
        raise ArgumentError(f"task is {task!r}; expected 'classification' or 'regression'")
    classes = listed_classes(classes)
    if task is None and classes is not None:
        task = "classification"
    is_certain = guess == "scores" or {"boolean", "text"} & {label, guess}
    if task == "regression" and is_certain:
        raise SchemaError(
            "a regression has labels and predictions that are numbers; "
            f"the label is {rows.schema['label'].dataType.simpleString()}, "
            f"the prediction {rows.schema['prediction'].dataType.simpleString()}",
            hint="leave task= out",
        )
    form: Form = "number"
    if guess == "scores":
        form = "scores"
    elif is_certain or guess != "broken":
        if is_certain or (task or ("regression" if label == "broken" else "classification")) == "classification":
            form = "score" if guess == "broken" else "class"
    elif classes is not None and {_named(one) for one in classes} == {"0", "1"}:
        form = "score"  # whatever a few labels are
    elif task == "classification" or (task is None and label == "whole"):
        others, outside = _facts(rows)
        doubted: Form = "number" if task is None else "class"
        form = doubted if others or (task is None and outside) else "score"
    if form == "number":
        return Reading(task="regression", form=form, classes=(), level=0 if finest else 3)
    named = _classes(rows, form, label, guess) if classes is None else tuple(_named(one) for one in classes)
    if form == "score" and classes is None and len(named) < 2:
        named = ()
    elif form == "score" and len(named) != 2:
        raise SchemaError(
            f"a prediction that is one number goes with two classes, but there are {len(named)}",
            hint="classes=[…, …] names them, the positive one last; or give an array of probabilities",
        )
    if form == "scores" and len(named) == 1:
        raise SchemaError(
            "the prediction is an array for one class; expected one probability for each of two classes or more",
            hint="prediction='element_at(…, 1)' takes the number out of it",
        )
    if len(named) > MOST_CLASSES:
        raise SchemaError(
            f"there are more than {MOST_CLASSES} classes: labels and predictions have too many values",
            hint="is it a regression (task='regression'), or another column?",
        )
    level = 0 if len(named) <= 2 else 3 if len(named) <= 10 else 6
    is_guessed = form == "score" and classes is None and label == "text" and len(named) == 2
    level += 0 if finest else 3
    return Reading(task="classification", form=form, classes=named, level=level, is_guessed=is_guessed)


def listed_classes(classes: Any) -> list[Any] | None:
    """The names of classes in their order.

    Raises:
        ArgumentError: they are no list, tuple, array or pandas Series of names that differ.
    """
    if classes is None:
        return None
    found = classes.tolist() if hasattr(classes, "tolist") else classes
    if not isinstance(found, (list, tuple)) or None in found or len({_named(one) for one in found}) != len(found):
        raise ArgumentError(f"classes is {classes!r}; expected a list of names that differ")
    return list(found)


def _named(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    is_whole = isinstance(value, (float, Decimal)) and value == value // 1
    return str(int(value)) if is_whole else str(value)


def _facts(rows: DataFrame) -> tuple[int, int]:
    """How many labels are neither 0 nor 1, and how many predictions aren't from 0 to 1."""
    from pyspark.sql import functions as F

    label, guess = finite("label"), finite("prediction")
    others, outside = rows.agg(F.count_if(~label.isin(0.0, 1.0)), F.count_if(~guess.between(0.0, 1.0))).collect()[0]
    return int(others), int(outside)


def _classes(rows: DataFrame, form: str, label: str, guess: str) -> tuple[str, ...]:
    """The classes that labels, and predictions that are classes, name."""
    from pyspark.sql import functions as F

    if label == "boolean" and guess not in ("text", "whole"):
        return "false", "true"
    if form == "score" and label != "text":
        return "0", "1"
    name = text(rows, "label").alias("name")
    if form != "scores":
        each = name if form == "score" else F.explode(F.array(name, text(rows, "prediction"))).alias("name")
        found = rows.select(each).where("name IS NOT NULL").distinct().limit(MOST_CLASSES + 1).collect()
        return ordered({one for (one,) in found})
    sizes = rows.groupBy(name).agg(F.max(F.size("prediction"))).limit(MOST_CLASSES + 2).collect()
    names = {name for name, _ in sizes if name is not None}
    size = max((size for _, size in sizes if size is not None), default=0)
    positions = tuple(map(str, range(size)))
    if names <= set(positions):
        return positions
    if 0 < size < len(names):
        raise SchemaError(
            f"the prediction has {size} probabilities, but the label has {len(names)} different values",
            hint="classes=[…] names the classes in the order of the probabilities",
        )
    return ordered(names) if len(names) == size else ()


def text(rows: DataFrame, name: str) -> Column:
    """Values as classes are named: whole numbers, and booleans beside such, as integers; null where not finite."""
    from pyspark.sql import functions as F

    kinds = {other: _kind(rows, other) for other in ("label", "prediction")}
    if kinds[name] == "boolean" and "whole" in kinds.values():
        return F.col(name).cast("int").cast("string")
    if kinds[name] != "broken":
        return F.col(name).cast("string")
    number = finite(name)
    is_whole = (F.abs(number) < 2.0**53) & (number == F.floor(number))
    return F.when(is_whole, F.floor(number).cast("string")).otherwise(number.cast("string"))


def finite(name: str) -> Column:
    """A column as doubles, null where it isn't finite."""
    from pyspark.sql import functions as F

    number = F.col(name).cast("double")
    return F.when(F.abs(number) < math.inf, number)
