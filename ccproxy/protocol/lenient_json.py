"""
Size limits for providers' JSON, and a decoder for slightly invalid JSON from custom servers.

Lone surrogates and bytes that are not UTF-8 become U+FFFD, and a byte order mark is removed. Raw
control characters in strings and NaN are accepted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from ccproxy.errors import BadAnswer

T = TypeVar("T")

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# A run skips whole stretches of valid text: 10 ms for 1 MiB of pairs, instead of 50 ms with a match
# for each pair. It is bounded, because an unbounded one needs 120 times its memory, and not
# possessive, because Python before 3.11.5 misplaces the end of a possessive group.
_LONE_SURROGATE = re.compile(
    rb"((?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])"
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}){1,256})"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
_SHOWN_BYTES = 200
_LARGE = 256 * 1024
"""Bytes; the objects of smaller data need not be counted."""
MAX_OBJECTS = 100_000
"""Maximum number of objects and lists in one event or body; converting them takes 0.4 s."""


def has_too_many_objects(data: bytes) -> bool:
    """Return True if *data* has more objects and lists than any answer needs."""
    return len(data) > _LARGE and data.count(b"{") + data.count(b"[") > MAX_OBJECTS


def check_objects(data: bytes) -> None:
    """
    Refuse an answer that would block the worker.

    Raises:
        BadAnswer: If it has too many objects and lists.
    """
    if has_too_many_objects(data):
        text = f"The provider sent more than {MAX_OBJECTS:,} objects and lists at once"
        raise BadAnswer(text)


def replace_lone_surrogates(text: bytes) -> bytes:
    """Replace every escaped lone surrogate in the JSON *text* with U+FFFD; decoders refuse them."""
    if b"\\u" not in text or _SURROGATE.search(text) is None:
        return text
    return _LONE_SURROGATE.sub(lambda match: match[1] or rb"\ufffd", text)


def decode_leniently(
    data: bytes, struct: type[T], *, repair: Callable[[Any], Any] = lambda value: value
) -> T:
    """
    Decode *data*, which the strict decoder refused, as *struct*.

    *repair* may change the JSON value before it is converted, or raise ValueError.

    Raises:
        BadAnswer: If it is not JSON, or not in this format.
    """
    text = data.decode("utf-8-sig", "replace").encode()
    try:
        value = json.loads(replace_lone_surrogates(text), strict=False)
        return msgspec.convert(repair(value), struct)
    except (ValueError, RecursionError) as error:
        excerpt = data[:_SHOWN_BYTES].decode("utf-8", "replace")
        raise BadAnswer(f"The provider's answer is not valid: {excerpt} ({error})") from error


def objects(value: object) -> list[dict[str, Any]]:
    """Return the objects in *value* if it is a list, else nothing."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def string(value: object) -> str:
    """Return *value* if it is a string, else ""."""
    return value if isinstance(value, str) else ""
