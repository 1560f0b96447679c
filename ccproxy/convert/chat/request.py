"""
A Messages request as a Chat Completions request.

The one function here puts together what the other modules convert. Nothing in it looks into text:
string literals are copied from the client's bytes into the provider's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Raw

from ccproxy.convert.chat.checkpoint import Memory
from ccproxy.convert.chat.messages import Conversation
from ccproxy.convert.chat.reasoning import NO_THINKING, Wish, reasoning_fields, wish_of
from ccproxy.convert.chat.response_format import format_fields, format_of
from ccproxy.convert.chat.sampling import (
    limit_fields,
    sampling_fields,
    stop_fields,
    stops_of,
    user_fields,
)
from ccproxy.convert.chat.system_prompt import to_system_prompt
from ccproxy.convert.chat.tools import NO_TOOLS, Choice, ToolSet, to_chat_choice, to_chat_tools
from ccproxy.convert.common.classifier import ROOM_TO_REASON, is_classifier
from ccproxy.convert.common.conversion import Conversion
from ccproxy.convert.common.thinking import Signer
from ccproxy.protocol.literals import ABSENT, invalid_request, is_present
from ccproxy.protocol.messages import ANTHROPIC_ONLY, Message, MessagesRequest
from ccproxy.providers.quirks import Target

_ENCODER = msgspec.json.Encoder()
_anthropic_only = attrgetter(*ANTHROPIC_ONLY)
_ALL_ABSENT = (ABSENT,) * len(ANTHROPIC_ONLY)


class Converted(msgspec.Struct, frozen=True, kw_only=True):
    """A request for the provider, and what its answer needs to be read with."""

    body: bytes
    """The whole JSON body."""
    dropped: tuple[str, ...] = ()
    """What was left out, as short paths; for the log."""
    tool_names: Mapping[str, str] = {}
    """Sent tool name -> the client's, of those that had to change."""
    stop_sequences: tuple[str, ...] = ()
    """All of the client's: the answer must end before any of them, whoever sees to it."""
    stream: bool = False
    """Whether the provider was asked to stream; it may be although the client does not."""
    hide_thinking: bool = False
    """True: reasoning in the answer is not for the client."""
    known_ids: frozenset[str] = frozenset()
    """Tool ids that the conversation holds already; a new call must not repeat one."""
    tools: int = 0
    """How many of them are sent."""


def to_chat(
    request: MessagesRequest,
    target: Target,
    *,
    signer: Signer,
    stream: bool | None = None,
    memory: Memory | None = None,
) -> Converted:
    """
    Convert *request* for *target*; `stream` None: stream if the client does.

    *memory* makes it cheaper, not different, to convert the next turn of a conversation.

    Raises:
        Problem: invalid_request_error if the request is one that the Messages API refuses, too.
    """
    try:
        return _convert(request, Conversion(target=target, signer=signer), stream, memory)
    except RecursionError as error:
        raise invalid_request("The JSON is nested too deeply") from error


def _convert(
    request: MessagesRequest, conversion: Conversion, stream: bool | None, memory: Memory | None
) -> Converted:
    target, quirks = conversion.target, conversion.quirks
    classifies = is_classifier(request)
    wish = NO_THINKING if classifies else wish_of(request)
    hide = classifies and quirks.always_reasons
    streams = bool(request.stream if stream is None else stream)
    wish, streams = _streamed_to_think(wish, streams, target)

    conversion.thinks = wish.thinks is not False
    note_dropped(request, conversion)
    tools = to_chat_tools(request.tools, conversion)
    choice = to_chat_choice(request.tool_choice, tools, conversion)
    if choice.without_tools:
        tools = NO_TOOLS
    form, form_instruction = format_fields(format_of(request), conversion, streams=streams)
    instructions = [text for text in (form_instruction, choice.instruction) if text]

    system = to_system_prompt(request.system, conversion, instructions=instructions)
    messages, known_ids = _to_messages(request.messages, system, conversion, memory)

    stops = stops_of(request)
    reasoning = reasoning_fields(wish, quirks, with_tools=tools is not NO_TOOLS)
    body = {
        "model": target.model,
        "messages": messages,
        **limit_fields(request, target, least=ROOM_TO_REASON if hide else 1),
        **sampling_fields(request, conversion, effort=reasoning.get("reasoning_effort")),
        **({} if hide else stop_fields(stops, conversion)),
        **_tool_fields(tools, choice, target, streams=streams),
        **reasoning,
        **form,
        **user_fields(request, conversion),
        **_stream_fields(target, streams=streams),
        **quirks.extra_body,
    }
    return Converted(
        body=_ENCODER.encode(body),
        dropped=tuple(conversion.dropped),
        tool_names=conversion.tool_names,
        stop_sequences=stops,
        stream=streams,
        hide_thinking=hide,
        known_ids=known_ids,
        tools=len(tools.sent_names),
    )


def _to_messages(
    messages: list[Message],
    system: dict[str, Any] | None,
    conversion: Conversion,
    memory: Memory | None,
) -> tuple[list[dict[str, Any] | Raw], frozenset[str]]:
    """Convert the messages behind *system*; return the ids of the calls in them, too."""
    target, signer, thinks = conversion.target, conversion.signer, conversion.thinks
    own = Conversion(target=target, signer=signer, thinks=thinks)
    conversation = Conversation(own, system=system)
    prompted = system is not None
    known = memory.find(messages, own, prompted=prompted) if memory else None
    first = conversation.resume(known) if known else 0
    for index, message in enumerate(messages[first:], first):
        conversation.add(message, index)
    converted = conversation.finish()
    start = conversation.start() if memory else None
    if memory and start:
        memory.keep(messages, own, prompted=prompted, start=start)
    conversion.dropped |= own.dropped
    conversion.tool_names |= own.tool_names
    return converted, conversation.known_ids()


def _streamed_to_think(wish: Wish, streams: bool, target: Target) -> tuple[Wish, bool]:
    """
    Where a model thinks only while it streams (Qwen), stream for a client that wants a whole.

    If the client does not ask for thinking, it is switched off: left to the default, the
    provider refuses ("enable_thinking must be set to false for non-streaming calls").
    """
    if streams or not target.quirks.thinking_needs_stream:
        return wish, streams
    if wish.thinks or target.quirks.always_reasons:
        return wish, True
    return replace(wish, thinks=False), False


def note_dropped(request: MessagesRequest, conversion: Conversion) -> None:
    """Note the fields that mean nothing to any provider of another API."""
    values = _anthropic_only(request)
    if values != _ALL_ABSENT:
        for name, value in zip(ANTHROPIC_ONLY, values, strict=True):
            if is_present(value):
                conversion.drop(name)
    if (request.thinking or request.output_config) and conversion.quirks.reasoning == "none":
        conversion.drop("thinking")


def _tool_fields(
    tools: ToolSet, choice: Choice, target: Target, *, streams: bool
) -> dict[str, Any]:
    if not tools.sent_names:
        return {}
    stream_field = {"tool_stream": True} if streams and target.quirks.tool_stream else {}
    return {"tools": tools.definitions, **choice.fields, **stream_field}


def _stream_fields(target: Target, *, streams: bool) -> dict[str, Any]:
    if not streams:
        return {}
    if not target.quirks.stream_options:
        return {"stream": True}
    plain = {"include_obfuscation": False} if target.quirks.obfuscation else {}
    return {"stream": True, "stream_options": {"include_usage": True, **plain}}
