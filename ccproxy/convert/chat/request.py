"""
Conversion of a Messages request to a Chat Completions request.

Text is not decoded: string literals are copied from the client's bytes into the provider's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from ccproxy.convert.chat.messages import ChatConversation
from ccproxy.convert.chat.parameters import (
    format_fields,
    limit_fields,
    metadata_fields,
    sampling_fields,
    stop_fields,
    stop_sequences_of,
)
from ccproxy.convert.chat.reasoning import reasoning_fields
from ccproxy.convert.chat.system_prompt import to_system_prompt
from ccproxy.convert.chat.tools import (
    NO_TOOLS,
    ChatToolChoice,
    ToolSet,
    is_forced,
    to_chat_choice,
    to_chat_tools,
)
from ccproxy.convert.common.classifier import ROOM_TO_REASON, is_classifier
from ccproxy.convert.common.conversion import Conversion, ConvertedRequest, record_unsupported
from ccproxy.convert.common.effort import NO_THINKING, ReasoningRequest, requested_reasoning
from ccproxy.convert.common.request_cache import ConversationCache
from ccproxy.convert.common.schema import requested_format
from ccproxy.convert.common.thinking import Signer
from ccproxy.convert.content_headers import content_headers
from ccproxy.convert.dialects.conversation_writer import convert_messages
from ccproxy.protocol.literals import invalid_request
from ccproxy.protocol.messages import MessagesRequest, OutputFormat
from ccproxy.providers.quirks import Quirks, Target

_ENCODER = msgspec.json.Encoder()
# Cannot occur inside a JSON string, which would escape the quotes.
_IMAGE_PART = b'{"type":"image_url"'


def to_chat(
    request: MessagesRequest,
    target: Target,
    *,
    signer: Signer,
    cache: ConversationCache | None = None,
) -> ConvertedRequest:
    """
    Convert *request* for *target*.

    *cache* makes later turns of a conversation cheaper; the result is the same.

    Raises:
        Problem: invalid_request_error if the Messages API would also refuse the request.
    """
    try:
        return _convert(request, Conversion(target=target, signer=signer), cache)
    except RecursionError as error:
        raise invalid_request("The JSON is nested too deeply") from error


def _convert(
    request: MessagesRequest, conversion: Conversion, cache: ConversationCache | None
) -> ConvertedRequest:
    target, quirks = conversion.target, conversion.quirks
    classifies = is_classifier(request)
    reasoning = NO_THINKING if classifies else requested_reasoning(request)
    hide = classifies and quirks.always_reasons
    requested = requested_format(request)
    reasoning = _without_conflicts(request, reasoning, requested, quirks)
    reasoning, streams = _stream_to_think(reasoning, bool(request.stream), target)
    thinking = quirks.always_reasons or (
        reasoning.thinks is not False and quirks.reasoning not in ("none", "explicit_effort")
    )

    conversion.thinks = reasoning.thinks is not False
    record_unsupported(request, conversion)
    tools, choice = _tools(request, conversion, thinking=thinking)
    form, form_instruction = format_fields(
        requested, conversion, streams=streams, thinking=thinking
    )
    instructions = [text for text in (form_instruction, choice.instruction) if text]

    system = to_system_prompt(request.system, conversion, instructions=instructions)
    conversation, messages = convert_messages(
        request.messages, system, conversion, cache, ChatConversation
    )
    stops = stop_sequences_of(request)
    effort = reasoning_fields(reasoning, quirks, with_tools=tools is not NO_TOOLS)
    body = {
        "model": target.model,
        "messages": messages,
        **limit_fields(request, target, least=ROOM_TO_REASON if hide else 1),
        **sampling_fields(request, conversion, effort=effort.get("reasoning_effort")),
        **({} if hide else stop_fields(stops, conversion)),
        **_tool_fields(tools, choice, target, streams=streams),
        **effort,
        **form,
        **metadata_fields(request, conversion),
        **_stream_fields(target, streams=streams),
        **quirks.extra_body,
    }
    encoded = _encode(body, conversion)
    return ConvertedRequest(
        body=encoded,
        headers=content_headers(request, quirks, has_images=lambda: _IMAGE_PART in encoded),
        dropped=tuple(conversion.dropped),
        tool_names=conversion.tool_names,
        stop_sequences=stops,
        stream=streams,
        hide_thinking=hide,
        known_ids=conversation.known_ids(),
        tools=len(tools.sent_names),
        unsent=conversation.unsent,
        searches=tools.searches,
        finds_tools=tools.finds_tools,
    )


def _tools(
    request: MessagesRequest, conversion: Conversion, *, thinking: bool
) -> tuple[ToolSet, ChatToolChoice]:
    tools = to_chat_tools(request.tools, conversion)
    choice = to_chat_choice(request.tool_choice, tools, conversion, thinking=thinking)
    if choice.without_tools:
        return NO_TOOLS, choice
    return tools.only(choice.only_tool) if choice.only_tool else tools, choice


def _encode(body: dict[str, Any], conversion: Conversion) -> bytes:
    for name in conversion.quirks.refused_fields:
        if body.pop(name, None) is not None:
            conversion.drop(name)
    return _ENCODER.encode(body)


def _without_conflicts(
    request: MessagesRequest,
    reasoning: ReasoningRequest,
    requested: OutputFormat | None,
    quirks: Quirks,
) -> ReasoningRequest:
    """
    Disable thinking that the client did not request and that conflicts with its other options.

    Some providers enable thinking by default and refuse a forced tool or a format together with it.
    If the client requests thinking, an instruction replaces the tool choice or the format.
    """
    is_refused = (is_forced(request.tool_choice) and not quirks.forced_choice_with_thinking) or (
        requested is not None and not quirks.format_with_thinking
    )
    if is_refused and reasoning.thinks is None and not quirks.always_reasons:
        return replace(reasoning, thinks=False)
    return reasoning


def _stream_to_think(
    reasoning: ReasoningRequest, streams: bool, target: Target
) -> tuple[ReasoningRequest, bool]:
    """
    Return the reasoning and whether to stream, for models that think only when streaming (Qwen).

    If the client requests thinking without a stream, the provider streams and the whole answer is
    collected. Otherwise thinking is disabled, because the provider refuses its own default
    ("enable_thinking must be set to false for non-streaming calls").
    """
    if streams or not target.quirks.thinking_needs_stream:
        return reasoning, streams
    if reasoning.thinks or target.quirks.always_reasons:
        return reasoning, True
    return replace(reasoning, thinks=False), False


def _tool_fields(
    tools: ToolSet, choice: ChatToolChoice, target: Target, *, streams: bool
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
    unpadded = {"include_obfuscation": False} if target.quirks.obfuscation else {}
    return {"stream": True, "stream_options": {"include_usage": True, **unpadded}}
