"""
An inspected request as a list of blocks with their tokens, for the page.

The tokens of each block are estimated. If the provider has reported the request's input tokens, the
estimates are scaled to that total. Parts that cannot be parsed are shown as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import msgspec
from msgspec import Raw

from ccproxy.convert.common.token_estimate import estimate
from ccproxy.errors import Problem
from ccproxy.protocol.messages import Message, MessagesRequest, read_request

MAX_TEXT = 20_000
"""The maximum number of characters shown of one block."""
MAX_BLOCKS = 2000
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class PromptBlock(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One block of a prompt."""

    section: str
    """`system`, `tools`, or `messages`."""
    role: str = ""
    kind: str = "text"
    name: str = ""
    """The name of a tool."""
    turn: int = 0
    """The number of the message."""
    text: str = ""
    characters: int = 0
    tokens: int = 0
    is_cached_mark: bool = False
    """Whether the client marked a cached prefix that ends here."""


def prompt_blocks(body: str, *, reported: int = 0) -> list[PromptBlock]:
    """Return the blocks of the Messages request *body*; empty if *body* is not such a request."""
    try:
        request = read_request(body.encode("utf-8", "replace"))
    except (Problem, RecursionError):
        return []
    blocks = [*islice(_blocks(request), MAX_BLOCKS)]
    estimated = sum(block.tokens for block in blocks)
    if reported and estimated:
        for block in blocks:
            block.tokens = round(block.tokens * reported / estimated)
    return blocks


def _blocks(request: MessagesRequest) -> Iterator[PromptBlock]:
    for raw in _parts(request.system):
        yield _block("system", raw, role="system")
    for raw in _parts(request.tools):
        yield _block("tools", raw, role="tool")
    for number, message in enumerate(request.messages, 1):
        for raw in _parts(message.content):
            yield _block("messages", raw, role=message.role, turn=number)


def _parts(raw: Raw) -> Iterable[Raw]:
    """Return the items of a list, or any other value as a single item."""
    data = bytes(raw)
    if not data or data == b"null":
        return ()
    try:
        return msgspec.json.decode(data, type=list[Raw])
    except _UNREADABLE:
        return (raw,)


def _block(section: str, raw: Raw, *, role: str, turn: int = 0) -> PromptBlock:
    data = bytes(raw)
    fields: Mapping[str, object] = {}
    try:
        value = msgspec.json.decode(data)
        fields = value if isinstance(value, dict) else {"text": value}
        text = _text(fields)
    except _UNREADABLE:
        text = data.decode("utf-8", "replace")
    return PromptBlock(
        section=section,
        role=role,
        kind="tool" if section == "tools" else str(fields.get("type") or "text"),
        name=str(fields.get("name") or ""),
        turn=turn,
        text=text[:MAX_TEXT],
        characters=len(text),
        tokens=_tokens(raw),
        is_cached_mark="cache_control" in fields,
    )


def _text(fields: Mapping[str, object]) -> str:
    """Return the readable content of a block: its text, or else its fields as JSON."""
    for name in ("text", "thinking"):
        if isinstance(text := fields.get(name), str):
            return text
    content = fields.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(_text(part) if isinstance(part, dict) else str(part) for part in content)
    hidden = ("type", "name", "id", "cache_control")
    rest = {key: value for key, value in fields.items() if key not in hidden}
    return msgspec.json.format(msgspec.json.encode(rest), indent=2).decode()


def _tokens(raw: Raw) -> int:
    one = MessagesRequest(model="", messages=[Message(role="user", content=raw)])
    return max(0, estimate(one) - _EMPTY)


_EMPTY = estimate(MessagesRequest(model="", messages=[Message(role="user", content=Raw(b'""'))]))
