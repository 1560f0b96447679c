"""
Read the files of other tools: bounded in size and depth, and never changed.

JSON may contain comments and trailing commas, as several tools allow.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar, cast

from ccproxy.errors import CcproxyError, ConfigError, Mistake
from ccproxy.files import open_regular

MOST_BYTES = 2**20
"""The limit for text files; a database is read in place."""
MOST_DUMP_BYTES = 2**26
"""The limit for SQL exports, which also contain statistics."""
_MOST_VALUES = 50_000
_MOST_LEVELS = 50
_YAML_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_LONGEST_NUMBER = 100
"""In characters."""

# Each alternative also matches at the end of the text, so that the search is linear.
_COMMENT = re.compile(r'("(?:[^"\\]|\\.?)*+(?:"|\Z))|//[^\n]*+|/\*.*?(?:\*/|\Z)', re.DOTALL)
_COMMA = re.compile(r'("(?:[^"\\]|\\.?)*+(?:"|\Z))|,(?=\s*+[}\]])', re.DOTALL)

T = TypeVar("T")


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
        raise failure(
            file,
            f"is larger than {most // 2**20} MiB",
            "split the file and import one part at a time",
        )
    return content


def parse_json(text: str, file: Path) -> Any:  # noqa: ANN401 - any JSON value
    """Parse JSON with comments. Raise ConfigError if it is not JSON or is too large."""
    plain = _COMMENT.sub(r"\1", text)
    plain = _COMMA.sub(r"\1", plain)
    try:
        document = json.loads(plain)
    except json.JSONDecodeError as error:
        raise failure(file, f"is not JSON: {error.msg}", "correct it", line=error.lineno) from error
    except (ValueError, RecursionError) as error:  # raised for numbers with thousands of digits too
        raise failure(file, "is not valid JSON", "correct it") from error
    return check_bounds(document, file)


def parse_yaml(text: str, file: Path) -> Any:  # noqa: ANN401 - any YAML value
    """
    Parse YAML.

    Raises:
        ConfigError: If it is not YAML or is too large.
        CcproxyError: If PyYAML is not installed.

    """
    try:
        import yaml
    except ImportError as error:
        text = "reading YAML needs PyYAML\n  fix: pip install 'ccproxy-fleet[import]'"
        raise CcproxyError(text) from error
    characters = 0

    def children(node: yaml.Node) -> Iterable[yaml.Node]:
        nonlocal characters
        if isinstance(node, yaml.MappingNode):
            return chain.from_iterable(node.value)
        if isinstance(node, yaml.SequenceNode):
            return cast("list[yaml.Node]", node.value)
        characters += len(node.value.encode())  # raises an error for a lone surrogate
        if characters > MOST_BYTES:
            raise _too_large(file)
        if node.tag in _YAML_NUMBERS and len(node.value) > _LONGEST_NUMBER:
            # A number in base 60 takes quadratic time; a long hexadecimal one cannot be printed.
            raise yaml.MarkedYAMLError(problem="a number is too long", problem_mark=node.start_mark)
        return ()

    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        # Checked before the values are built, because merge keys copy the aliased mappings.
        if root is not None and not _is_small(root, children):
            raise _too_large(file)
        return None if root is None else loader.construct_document(root)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        cause = getattr(error, "problem", None) or "cannot be parsed"
        raise failure(file, f"is not YAML: {cause}", "correct it", line=line) from error


def check_bounds(document: Any, file: Path) -> Any:  # noqa: ANN401 - any JSON value
    """
    Return *document* if it is small and its strings can be encoded as UTF-8.

    Raises:
        ConfigError: If it is not.

    """
    if not _is_small(document, _children):
        raise _too_large(file)
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:  # a lone surrogate
        raise failure(file, "contains text that is not Unicode", "correct it") from error
    return document


def _is_small(root: T, children: Callable[[T], Iterable[T]]) -> bool:
    """Return True if a tree is neither large nor deep; each use of a YAML alias counts."""
    level, count = [root], 0
    for _ in range(_MOST_LEVELS):
        level = list(islice(chain.from_iterable(map(children, level)), _MOST_VALUES + 1))
        count += len(level)
        if not level or count > _MOST_VALUES:
            break
    return not level


def failure(file: Path, text: str, fix: str, *, line: int | None = None) -> ConfigError:
    """Return the error for a file that cannot be imported."""
    return ConfigError([Mistake(file=file, line=line, text=text, fix=fix)])


def _too_large(file: Path) -> ConfigError:
    return failure(
        file, "is too large or too deeply nested", "split the file and import one part at a time"
    )


def _children(value: Any) -> Iterable[Any]:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
