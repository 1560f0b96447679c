"""
Read the files of other tools: bounded in size and depth, and never changed.

JSON may contain comments and trailing commas, as several tools allow.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ccproxy.errors import CcproxyError, ConfigError, Mistake
from ccproxy.files import open_regular

MOST_BYTES = 2**20
"""Of a text file; a database is read in place."""
MOST_DUMP_BYTES = 2**26
"""Of an export in SQL, which also contains statistics."""
_MOST_VALUES = 50_000
_MOST_LEVELS = 50

# Each alternative also matches to the end of the text, so that the search is linear.
_COMMENT = re.compile(
    r'("(?:[^"\\]|\\.?)*+(?:"|\Z))|//[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/|\Z)', re.DOTALL
)
_COMMA = re.compile(r'("(?:[^"\\]|\\.?)*+(?:"|\Z))|,(?=\s*+[}\]])', re.DOTALL)


def read_bytes(file: Path, *, most: int = MOST_BYTES) -> bytes:
    """
    Return the content of *file*.

    Raises:
        ConfigError: If it has more than *most* bytes.
        OSError: If it cannot be read, or is not a regular file.

    """
    with os.fdopen(open_regular(file), "rb") as source:
        content = source.read(most + 1)
    if len(content) > most:
        raise failure(file, f"is larger than {most // 2**20} MiB", "import a part of it")
    return content


def parse_json(text: str, file: Path) -> Any:  # noqa: ANN401 - any JSON value
    """
    Parse JSON with comments.

    Raises:
        ConfigError: If it is not JSON, or too large.

    """
    plain = _COMMENT.sub(r"\1", text)
    plain = _COMMA.sub(r"\1", plain)
    try:
        document = json.loads(plain)
    except json.JSONDecodeError as error:
        raise failure(file, f"is not JSON: {error.msg}", "correct it", line=error.lineno) from error
    except (ValueError, RecursionError) as error:  # also numbers with thousands of digits
        raise failure(file, "is not JSON that can be read", "correct it") from error
    return check_bounds(document, file)


def parse_yaml(text: str, file: Path) -> Any:  # noqa: ANN401 - any YAML value
    """
    Parse YAML.

    Raises:
        ConfigError: If it is not YAML, or too large.
        CcproxyError: If PyYAML is not installed.

    """
    try:
        import yaml
    except ImportError as error:
        text = "reading YAML needs PyYAML\n  fix: pip install 'ccproxy-fleet[import]'"
        raise CcproxyError(text) from error
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        cause = getattr(error, "problem", None) or "cannot be parsed"
        raise failure(file, f"is not YAML: {cause}", "correct it", line=line) from error
    return check_bounds(document, file)


def check_bounds(document: Any, file: Path) -> Any:  # noqa: ANN401 - any value
    """
    Return *document* if it is small; aliases in YAML count each time.

    Raises:
        ConfigError: If it is not.

    """
    level, count = [document], 0
    for _ in range(_MOST_LEVELS):
        parents = [value for value in level if isinstance(value, dict | list)]
        if not parents:
            return document
        count += sum(map(len, parents))
        if count > _MOST_VALUES:
            break
        level = [child for value in parents for child in _children(value)]
    raise failure(file, "is too large or too deeply nested", "import a part of it")


def failure(file: Path, text: str, fix: str, *, line: int | None = None) -> ConfigError:
    """Return the error of a file that cannot be imported."""
    return ConfigError([Mistake(file=file, line=line, text=text, fix=fix)])


def _children(value: Any) -> Iterable[Any]:  # noqa: ANN401 - a mapping or a list
    return value.values() if isinstance(value, dict) else value
