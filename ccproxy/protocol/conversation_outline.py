"""The parts of a request that identify its conversation, in every dialect."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from ccproxy.protocol.json_splice import NOT_JSON
from ccproxy.protocol.literals import ABSENT


class OutlineTurn(msgspec.Struct, gc=False):
    """A message or, in the Responses API, an item, which can lack both role and content."""

    role: str = ""
    content: Raw = ABSENT


class ConversationOutline(msgspec.Struct, gc=False):
    """A request to Messages, or to Chat Completions with the system prompt as the first message."""

    messages: list[OutlineTurn]
    system: Raw = ABSENT
    tools: Raw = ABSENT


class _ResponsesForm(msgspec.Struct, gc=False):
    input: list[OutlineTurn]
    instructions: Raw = ABSENT
    tools: Raw = ABSENT


_OUTLINE = msgspec.json.Decoder(ConversationOutline)
_RESPONSES = msgspec.json.Decoder(_ResponsesForm)


def read_outline(body: bytes) -> ConversationOutline | None:
    """Return the outline of a Messages or Chat Completions request, or None if it is invalid."""
    try:
        return _OUTLINE.decode(body)
    except NOT_JSON:
        return None


def read_responses_outline(body: bytes) -> ConversationOutline | None:
    """Return the outline of a Responses API request, or None if its input is not a list."""
    try:
        form = _RESPONSES.decode(body)
    except NOT_JSON:
        return None
    return ConversationOutline(messages=form.input, system=form.instructions, tools=form.tools)
