"""
Hashes of a prompt's blocks, and the first block that differs from an earlier prompt.

Providers cache the beginning of a prompt: tools, then system blocks, then messages. A changed block
invalidates the cache for everything after it. Only 64-bit hashes of the blocks are stored, keyed
with a secret of the process, so that no text can be recovered.

Clients mark cached blocks with `cache_control` and move the mark with every turn. Claude Code
sends the last message as a list with a marked block and later as a plain string. Neither changes
the prompt, so the last messages of a prompt are also hashed without marks and in one format.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw

from ccproxy.protocol.claude_code import BILLING_LINE, COMPACTION_PROMPT
from ccproxy.protocol.json_splice import NOT_JSON
from ccproxy.protocol.literals import ABSENT, BRACKET, is_present
from ccproxy.protocol.messages import Message, MessagesRequest

PrefixChange = Literal[
    "tool_added",
    "tool_removed",
    "tool_changed",
    "tools_reordered",
    "attribution_header",
    "system_changed",
    "compaction",
    "tool_results_cleared",
    "message_changed",
    "messages_removed",
    "parameters_changed",
]

MAX_MESSAGES: Final = 4096
MAX_BODY: Final = 16 * 1024 * 1024
"""Longer prompts are not examined."""
_TAIL: Final = 4
"""Number of last messages that may have marks: the API allows four marks."""
_LONGEST_NAME: Final = 64

_MARK = re.compile(rb'"cache_control"\s*:\s*(?:\{[^{}]*\}|null)')
_LONG_TTL = re.compile(rb'"ttl"\s*:\s*"1h"')
_NUL: Final = b"\0"
"""A byte that never occurs in JSON."""
_TOOL_NAME = re.compile(rb'"name"\s*:\s*"([^"\\]{1,64})"')
_SUMMARY = b"This session is being continued from a previous conversation"
"""The beginning of a conversation that Claude Code has compacted."""
_CLEARED = b"[Old tool result content cleared]"
"""Claude Code's replacement for an old tool result."""
_PARAMETERS = ("thinking", "tool_choice", "output_config")
"""Parameters that are part of the cached prompt at Anthropic and in chat templates."""


class _Outline(msgspec.Struct):
    messages: list[Message]
    system: Raw = ABSENT
    tools: Raw = ABSENT
    thinking: Any = None
    tool_choice: Any = None
    output_config: Any = None


class _TextBlock(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["text"]
    text: Raw


_OUTLINE = msgspec.json.Decoder(_Outline)
_ONE_TEXT = msgspec.json.Decoder(tuple[_TextBlock])
_LIST = msgspec.json.Decoder(list[Raw])


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPrefix:
    """The hashes of a prompt."""

    all_tools: int
    """One hash of all tools as sent; while it is the same, `tools` is not computed again."""
    tools: Sequence[int]
    tool_names: tuple[str, ...]
    all_system: int
    system: tuple[int, ...]
    messages: Sequence[int]
    tail: Mapping[int, int]
    """Hashes of the first and the last messages without marks, by index."""
    parameters: Mapping[str, int]

    @property
    def first(self) -> int:
        """The hash of the first message, which identifies a conversation."""
        return self.tail[0]


@dataclass(frozen=True, slots=True)
class FirstChange:
    """The first block in which two prompts differ."""

    kind: PrefixChange
    block: str
    detail: str = ""


class Prompt:
    """The blocks of one request, for comparison with earlier ones."""

    def __init__(self, request: _Outline | MessagesRequest, *, keeps_attribution: bool) -> None:
        """*keeps_attribution* is False if conversion removes Claude Code's attribution block."""
        self._request = request
        self._keeps_attribution = keeps_attribution
        self.all_tools = hash(bytes(request.tools))
        self.all_system = hash(bytes(request.system))
        self.messages = request.messages
        self.parameters = {
            name: hash(msgspec.json.encode(value))
            for name in _PARAMETERS
            if (value := getattr(request, name)) is not None
        }

    @cached_property
    def tools(self) -> Sequence[int]:
        """The hash of each tool; only the last one can have a mark."""
        hashes = [hash(bytes(tool)) for tool in self._tools]
        return array(
            "q", [*hashes[:-1], *(hash(_unmarked(bytes(one))) for one in self._tools[-1:])]
        )

    @cached_property
    def system(self) -> Sequence[bytes]:
        """The system prompt's blocks as sent to the provider, without marks."""
        blocks = [_unmarked(bytes(block)) for block in _items(self._request.system)]
        return [one for one in blocks if self._keeps_attribution or not _is_attribution(one)]

    @cached_property
    def hashes(self) -> Sequence[int]:
        """The hash of each message as sent."""
        return array("q", [hash(bytes(message.content)) for message in self.messages])

    @cached_property
    def first(self) -> int:
        """The hash of the first message without marks."""
        return self.unmarked(0)

    @cached_property
    def tool_names(self) -> tuple[str, ...]:
        """The name of each tool, or "" if it is not near the start of the definition."""
        heads = (bytes(memoryview(tool)[: 4 * _LONGEST_NAME]) for tool in self._tools)
        names = map(_TOOL_NAME.search, heads)
        return tuple(name[1].decode("utf-8", "replace") if name else "" for name in names)

    def unmarked(self, index: int) -> int:
        """Return the hash of a message without marks; a single text block counts as a string."""
        content = _unmarked(bytes(self.messages[index].content))
        if content.startswith(b"["):
            with suppress(msgspec.DecodeError):  # not a single text block
                content = bytes(_ONE_TEXT.decode(content)[0].text)
        return hash((self.messages[index].role, content))

    @cached_property
    def _tools(self) -> Sequence[Raw]:
        return _items(self._request.tools)

    def condense(self, before: PromptPrefix | None = None) -> PromptPrefix:
        """Return the hashes for comparison with the next prompt; reuse equal parts of *before*."""
        count = len(self.messages)
        if before is not None and before.all_tools == self.all_tools:
            tools, names = before.tools, before.tool_names
        else:
            tools, names = self.tools, self.tool_names
        if before is not None and before.all_system == self.all_system:
            system = before.system
        else:
            system = tuple(map(hash, self.system))
        tail = {index: self.unmarked(index) for index in range(max(1, count - _TAIL), count)}
        return PromptPrefix(
            all_tools=self.all_tools,
            tools=tools,
            tool_names=names,
            all_system=self.all_system,
            system=system,
            messages=self.hashes,
            tail={0: self.first, **tail},
            parameters=self.parameters,
        )

    @property
    def is_cached_long(self) -> bool:
        """Whether the client requests that the prompt be cached for an hour."""
        parts = (self._request.system, self.messages[-1].content, self._request.tools)
        return any(_LONG_TTL.search(bytes(part)) for part in parts)

    @property
    def is_summary(self) -> bool:
        """Whether the conversation begins with a summary of an earlier one or requests one."""
        first, last = self.messages[0].content, self.messages[-1].content
        return _SUMMARY in bytes(first) or COMPACTION_PROMPT in bytes(last)


def read_prompt(body: bytes, *, keeps_attribution: bool) -> Prompt | None:
    """Return the prompt in the *body* of a Messages request, or None if invalid or too long."""
    if len(body) > MAX_BODY:
        return None
    try:
        outline = _OUTLINE.decode(body)
    except NOT_JSON:
        return None
    if not 0 < len(outline.messages) <= MAX_MESSAGES:
        return None
    return Prompt(outline, keeps_attribution=keeps_attribution)


def first_change(before: PromptPrefix, now: Prompt) -> FirstChange | None:
    """Return the first block that differs from *before*, or None; new messages do not count."""
    return (
        _changed_tool(before, now)
        or _changed_system(before, now)
        or _changed_message(before, now)
        or _changed_parameter(before, now)
    )


def _changed_tool(before: PromptPrefix, now: Prompt) -> FirstChange | None:
    same = before.all_tools == now.all_tools
    index = None if same else _first_difference(before.tools, now.tools)
    if index is None:
        return None
    old, new = before.tool_names, now.tool_names
    name = new[index] if index < len(new) else ""
    old_name = old[index] if index < len(old) else ""
    old_names, new_names = set(old), set(new)
    added = [each for each in new if each not in old_names]
    removed = [each for each in old if each not in new_names]
    counts = ", ".join(filter(None, (_counted(removed, "removed"), _counted(added, "added"))))
    if name and name not in old_names:
        return FirstChange("tool_added", f"tools[{index}] {name}", counts)
    if old_name and old_name not in new_names:
        return FirstChange("tool_removed", f"tools[{index}] {old_name}", counts)
    if name == old_name:
        return FirstChange("tool_changed", f"tools[{index}] {name}".rstrip(), counts)
    return FirstChange("tools_reordered", f"tools[{index}] {name}".rstrip(), counts)


def _changed_system(before: PromptPrefix, now: Prompt) -> FirstChange | None:
    same = before.all_system == now.all_system
    index = None if same else _first_difference(before.system, [*map(hash, now.system)])
    if index is None:
        return None
    is_attribution = index < len(now.system) and _is_attribution(now.system[index])
    kind: PrefixChange = "attribution_header" if is_attribution else "system_changed"
    return FirstChange(kind, f"system[{index}]")


def _changed_message(before: PromptPrefix, now: Prompt) -> FirstChange | None:
    count = len(now.messages)
    index = next(
        (
            index
            for index, (old, new) in enumerate(zip(before.messages, now.hashes, strict=False))
            if old != new and before.tail.get(index) != now.unmarked(index)
        ),
        None,
    )
    if index is None:
        if count >= len(before.messages):
            return None
        return FirstChange("messages_removed", f"messages[{count}]")
    block = f"messages[{index}]"
    if index == 0 and now.is_summary:
        return FirstChange("compaction", block)
    if _CLEARED in bytes(now.messages[index].content):
        return FirstChange("tool_results_cleared", block)
    if index == count - 1 and count <= len(before.messages):
        return FirstChange("messages_removed", block)
    return FirstChange("message_changed", block)


def _changed_parameter(before: PromptPrefix, now: Prompt) -> FirstChange | None:
    for name in _PARAMETERS:
        if before.parameters.get(name) != now.parameters.get(name):
            return FirstChange("parameters_changed", name)
    return None


def _first_difference(before: Sequence[int], now: Sequence[int]) -> int | None:
    for index, (old, new) in enumerate(zip(before, now, strict=False)):
        if old != new:
            return index
    return None if len(before) == len(now) else min(len(before), len(now))


def _counted(names: Sequence[str], verb: str) -> str:
    """Return, for example, `2 removed`; empty for a single tool, which the block names."""
    return f"{len(names)} {verb}" if len(names) > 1 else ""


def _items(field: Raw) -> Sequence[Raw]:
    """Return the items of a list; a system prompt that is a string is the only item."""
    if not is_present(field):
        return ()
    return _LIST.decode(field) if memoryview(field)[0] == BRACKET else (field,)


def _is_attribution(block: bytes) -> bool:
    return BILLING_LINE in block[:128]


def _unmarked(raw: bytes) -> bytes:
    """Return the JSON without its `cache_control` fields."""
    if b'"cache_control"' not in raw:
        return raw
    raw = _MARK.sub(_NUL, raw)
    for comma in (b", \0", b",\0", b"\0, ", b"\0,"):
        raw = raw.replace(comma, b"")
    return raw.replace(_NUL, b"")
