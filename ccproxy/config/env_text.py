"""
The text of an env file: writing a line, and reading and replacing the provider's keys.

python-dotenv parses the file; every other line keeps its original text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from dotenv.parser import parse_stream

from ccproxy.config.parsers import words
from ccproxy.config.settings import PROVIDER_API_KEY, PROVIDER_API_KEYS_FILE
from ccproxy.text import mask_key


def env_line(name: str, value: str) -> str:
    """Return a line of an env file; a value that needs quotes is escaped with backslashes."""
    if re.fullmatch(r"[\w./:@+,=*-]+", value):
        return f"{name}={value}"
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{name}='{escaped}'"


def with_keys(text: str, value: str) -> Iterator[str]:
    """Yield versions of an env file with *value* as its keys, the least-changed one first."""
    names = PROVIDER_API_KEY.names
    bindings = list(parse_stream(io.StringIO(text)))
    used = [one for one in bindings if one.key in names and (one.value or "").strip()]
    empty = [one for one in bindings if one.key in names]
    if not empty:
        yield f"{text.rstrip()}\n{env_line(names[0], value)}\n".lstrip()
        return
    # If both names are set, the first one wins; of lines with the same name, the last one.
    target = min(used or empty, key=lambda one: (names.index(str(one.key)), -one.original.line))
    line = target.original.string
    candidates = [f"{env_line(str(target.key), value)}\n"]
    if target.value and line.count(target.value) == 1:
        candidates.insert(0, line.replace(target.value, value))  # keeps quotes and comments
    for candidate in candidates:
        yield "".join(candidate if one is target else one.original.string for one in bindings)


def keys_in(text: str) -> tuple[str, ...]:
    """Return the provider's keys in an env file, with their attributes; empty if it has none."""
    names = PROVIDER_API_KEY.names
    values = {one.key: one.value for one in parse_stream(io.StringIO(text)) if one.key in names}
    value = next((stripped for name in names if (stripped := (values.get(name) or "").strip())), "")
    return words(value)


def keys_file_in(text: str) -> str:
    """Return the value of PROVIDER_API_KEYS_FILE in an env file; empty if it is not set."""
    name = PROVIDER_API_KEYS_FILE.name
    values = [one.value for one in parse_stream(io.StringIO(text)) if one.key == name]
    return next((value.strip() for value in reversed(values) if value and value.strip()), "")


def secret_of(listed: str) -> str:
    """Return a key without its attributes."""
    return listed.partition(";")[0].strip()


def masked_key(listed: str) -> str:
    """Return a key, masked for display, with its attributes."""
    _, semicolon, attributes = listed.partition(";")
    return f"{mask_key(secret_of(listed))}{semicolon}{attributes}"
