"""YAML without a library: mappings as blocks; lists and scalars as JSON, a subset of YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_NOT_TEXT = re.compile(r"[0-9].*|y|n|yes|no|on|off|true|false|null", re.IGNORECASE)
"""Labels that YAML may read as a number, date, boolean or null."""


def yaml_lines(value: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yield the lines of *value*."""
    for key, one in value.items():
        name = json.dumps(key) if _NOT_TEXT.fullmatch(key) else key
        if isinstance(one, dict) and one:
            yield f"{indent}{name}:"
            yield from yaml_lines(one, indent + "  ")
        else:
            yield f"{indent}{name}: {json.dumps(one, ensure_ascii=False)}"
