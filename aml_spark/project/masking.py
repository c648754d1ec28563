"""What of a configuration may be shown: settings and lines without the secrets in them."""

from __future__ import annotations

import re
from typing import Any

from aml_spark.addresses import masked, unsigned

_SECRET = re.compile(r"(?i)key|secret|password|token|\bsas\b")  # in the name of a setting
# What stands before the @ of abfss and wasbs is a container.
_ADDRESS = re.compile(r"(?<![\w.+-])(?!(?:abfs|wasb)s?:)[\w.+-]+://[^\s'\"]+")


def masked_line(line: str) -> str:
    """A line, such as a requirement of pip, without the passwords and tokens of the addresses in it."""
    return unsigned(_ADDRESS.sub(lambda found: masked(found[0]), line))


def masked_settings(settings: Any) -> Any:
    """Settings as JSON has them, nested ones, too: `***` for texts whose name tells of a secret, others as lines."""
    if isinstance(settings, dict):
        return {
            name: "***" if isinstance(value, str) and _SECRET.search(name) else masked_settings(value)
            for name, value in settings.items()
        }
    if isinstance(settings, (list, tuple)):
        return [masked_settings(one) for one in settings]
    return masked_line(settings) if isinstance(settings, str) else settings
