"""Lines of pip's and conda's requirements, and what of them a place brings itself."""

from __future__ import annotations

import re

# What comes with a service's Spark, and what breaks it when PyPI's is installed over it.
BROUGHT = frozenset(["pip", "setuptools", "wheel", "pyspark", "delta-spark"])


def package(line: str) -> str:
    """The package that a line of pip's or conda's names, as PyPI spells it; empty for an option or a path."""
    name = re.findall(r"^(?:[^\s:]+::)?([\w.-]*)", line.strip())[0]
    return "" if name.startswith(("-", ".")) else re.sub(r"[-_.]+", "-", name).lower()
