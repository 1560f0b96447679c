"""YAML without a library: mappings as blocks; lists and scalars as JSON, a subset of YAML."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def yaml_lines(value: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yield the lines of *value*."""
    for name, one in value.items():
        if isinstance(one, dict) and one:
            yield f"{indent}{name}:"
            yield from yaml_lines(one, indent + "  ")
        else:
            yield f"{indent}{name}: {json.dumps(one, ensure_ascii=False)}"
