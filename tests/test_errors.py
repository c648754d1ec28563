"""The tree of errors."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from aml_spark import errors
from aml_spark.errors import AmlSparkError, did_you_mean, listed

# Each class with its parent among ours and the builtin that callers may catch instead.
TREE: dict[str, tuple[type[BaseException], type[BaseException] | None]] = {
    "AmlSparkError": (Exception, None),
    "ArgumentError": (AmlSparkError, ValueError),
    "WorkspaceError": (AmlSparkError, ValueError),
    "AuthenticationError": (AmlSparkError, PermissionError),
    "DataLakeError": (AmlSparkError, None),
    "ServiceError": (AmlSparkError, RuntimeError),
    "ProjectError": (AmlSparkError, RuntimeError),
    "DeploymentError": (AmlSparkError, RuntimeError),
    "SessionError": (AmlSparkError, RuntimeError),
    "ModelError": (AmlSparkError, None),
    "ModelNotFoundError": (errors.ModelError, LookupError),
    "SchemaError": (AmlSparkError, ValueError),
    "TableError": (AmlSparkError, None),
    "FeedError": (errors.TableError, None),
    "TableNotFoundError": (errors.TableError, LookupError),
    "TargetError": (errors.TableError, None),
    "ConflictError": (errors.TargetError, None),
    "ScoringError": (AmlSparkError, RuntimeError),
    "BreachError": (AmlSparkError, RuntimeError),
}
CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == errors.__name__
}


def test_the_tree_names_every_class() -> None:
    assert set(CLASSES) == set(TREE)


@pytest.mark.parametrize("name", sorted(TREE))
def test_parents_are_as_documented(name: str) -> None:
    parent, builtin = TREE[name]
    assert CLASSES[name].__bases__[0] is parent
    assert issubclass(CLASSES[name], AmlSparkError)
    builtins = {
        base for base in CLASSES[name].__mro__ if base in (ValueError, RuntimeError, LookupError, PermissionError)
    }
    assert builtins == ({builtin} if builtin else set())


def _drawn() -> dict[str, str]:
    """The docstring's lines by class name."""
    lines = (line.lstrip("│├└─ ") for line in (errors.__doc__ or "").splitlines())
    return {line.split()[0]: line for line in lines if line and line.split()[0] in CLASSES}


def test_the_docstring_draws_every_class() -> None:
    assert set(_drawn()) == set(CLASSES)


@pytest.mark.parametrize("name", sorted(TREE))
def test_the_docstring_names_the_builtin_that_a_class_derives_from(name: str) -> None:
    line, builtin = _drawn()[name], TREE[name][1]
    assert ("also a " in line) == (builtin is not None)
    assert builtin is None or builtin.__name__ in line


@pytest.mark.parametrize("name", sorted(TREE))
@pytest.mark.parametrize("hint", [None, "type this next"])
def test_an_error_survives_pickle(name: str, hint: str | None) -> None:
    error = CLASSES[name]("it broke", hint=hint)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is type(error)
        assert (again.message, again.hint, str(again)) == ("it broke", hint, str(error))
    assert copy.copy(error).hint == hint


def test_the_text_ends_in_the_hint() -> None:
    assert str(AmlSparkError("it broke", hint="mend it")) == "it broke\nHint: mend it"
    assert str(AmlSparkError("it broke")) == "it broke"


@pytest.mark.parametrize(
    ("names", "most", "text"),
    [
        ([], 20, "none"),
        (["a"], 20, "'a'"),
        (["a", "b"], 2, "'a', 'b'"),
        (["a", "b", "c"], 2, "'a', 'b' and 1 more"),
        ((letter for letter in "ab"), 20, "'a', 'b'"),
    ],
)
def test_listed_names_the_first_and_counts_the_rest(names: list[str], most: int, text: str) -> None:
    assert listed(names, most=most) == text


def test_did_you_mean_takes_the_closest_name_or_none() -> None:
    assert did_you_mean("originn", ["dest", "origin"]) == "did you mean 'origin'?"
    assert did_you_mean("xyz", ["dest", "origin"]) is None


def test_several_names_in_one_text_are_told_as_a_list() -> None:
    assert did_you_mean("origin, dest", ["dest", "origin"], argument="key") == "key=['origin', 'dest']"
    assert did_you_mean("origin,dest", ["dest", "origin"]) == "did you mean 'origin'?"
    assert did_you_mean("dest,xyzxyz", ["dest", "origin"], argument="key") is None
    assert did_you_mean("", []) is None
