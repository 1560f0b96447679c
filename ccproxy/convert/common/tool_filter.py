"""
Tools that the user does not want a model to be told of (TOOL_FILTER, row M22).

Decided by the tool's name, without regard to its type. Where nothing is left, neither `tools` nor
`tool_choice` is sent; a `tool_choice` that names a tool that went goes, too. Every other byte of
the request stays.
"""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache

import msgspec
from msgspec import Raw

from ccproxy.protocol.json_splice import fields_of


class _Named(msgspec.Struct, gc=False):
    name: str = ""


_TOOLS = msgspec.json.Decoder(list[Raw])
_TOOL = msgspec.json.Decoder(_Named)
_LISTS_KEPT = 16
_LARGEST_KEPT = 512 * 1024
"""Bytes of a list of tools."""


def without_tools(body: bytes, patterns: tuple[str, ...]) -> tuple[bytes, tuple[str, ...]]:
    """
    Return the request *body* without the tools whose names match one of *patterns*.

    Beside it stands what was left out, as `tools.NAME`. What is no request comes back as it was:
    whoever reads it next says what is wrong with it.
    """
    fields = fields_of(body) if patterns else None
    if fields is None or "tools" not in fields:
        return body, ()
    tools = bytes(fields["tools"])
    kept, gone = (_kept_sorted if len(tools) <= _LARGEST_KEPT else _sorted)(tools, patterns)
    if not gone:
        return body, ()
    if kept:
        fields["tools"] = Raw(b"[" + b",".join(kept) + b"]")
    else:
        del fields["tools"]
    if "tool_choice" in fields and (not kept or _name(fields["tool_choice"]) in gone):
        del fields["tool_choice"]
    parts = (b"%b:%b" % (msgspec.json.encode(name), raw) for name, raw in fields.items())
    return b"{" + b",".join(parts) + b"}", tuple(f"tools.{name}" for name in gone)


def _sorted(tools: bytes, patterns: tuple[str, ...]) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    """Return the tools that stay, and the names of those that go."""
    try:
        found = _TOOLS.decode(tools)
    except msgspec.MsgspecError:
        return (), ()
    matches = re.compile("|".join(map(translate, patterns)), re.IGNORECASE).match
    named = [(_name(tool), bytes(tool)) for tool in found]
    gone = tuple(name for name, _ in named if name and matches(name))
    return tuple(tool for name, tool in named if name not in gone), gone


# A client sends the same tools with every turn.
_kept_sorted = lru_cache(maxsize=_LISTS_KEPT)(_sorted)


def _name(raw: Raw) -> str:
    try:
        return _TOOL.decode(raw).name
    except (msgspec.MsgspecError, RecursionError):
        return ""
