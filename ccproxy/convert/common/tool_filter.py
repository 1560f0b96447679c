"""
Removal of tools by name, with the patterns of the user's TOOL_FILTER.

Tools of every type are filtered. A `tool_choice` that names a removed tool is removed; if no tool
is left, both `tools` and `tool_choice` are removed. All other bytes of the request are preserved.
"""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache

import msgspec
from msgspec import Raw

from ccproxy.protocol.json_splice import NOT_JSON, fields_of


class _Named(msgspec.Struct, gc=False):
    name: str = ""


_TOOLS = msgspec.json.Decoder(list[Raw])
_TOOL = msgspec.json.Decoder(_Named)
_CACHED_LISTS = 16
_LARGEST_CACHED = 512 * 1024
"""Bytes of a list of tools; larger lists are not cached."""


def without_tools(body: bytes, patterns: tuple[str, ...]) -> tuple[bytes, tuple[str, ...]]:
    """
    Return the request *body* without the tools whose names match one of *patterns*.

    The second value returned lists the removed tools as `tools.NAME`. A body that is not a request
    is returned unchanged; reading it reports the error.
    """
    fields = fields_of(body) if patterns else None
    if fields is None or "tools" not in fields:
        return body, ()
    tools = bytes(fields["tools"])
    partition = _cached_partition if len(tools) <= _LARGEST_CACHED else _partition
    remaining, removed = partition(tools, patterns)
    if not removed:
        return body, ()
    if remaining:
        fields["tools"] = Raw(b"[" + b",".join(remaining) + b"]")
    else:
        del fields["tools"]
    if "tool_choice" in fields and (not remaining or _name(fields["tool_choice"]) in removed):
        del fields["tool_choice"]
    return msgspec.json.encode(fields), tuple(f"tools.{name}" for name in removed)


def _partition(
    tools: bytes, patterns: tuple[str, ...]
) -> tuple[tuple[bytes, ...], dict[str, None]]:
    """Return the remaining tools and the names of the removed ones."""
    try:
        decoded = _TOOLS.decode(tools)
    except NOT_JSON:
        return (), {}
    matches = re.compile("|".join(map(translate, patterns)), re.IGNORECASE).match
    named = [(_name(tool), bytes(tool)) for tool in decoded]
    removed = dict.fromkeys(name for name, _ in named if name and matches(name))
    return tuple(tool for name, tool in named if name not in removed), removed


# A client sends the same tools with every turn.
_cached_partition = lru_cache(maxsize=_CACHED_LISTS)(_partition)


def _name(raw: Raw) -> str:
    try:
        return _TOOL.decode(raw).name
    except NOT_JSON:
        return ""
