"""
Convert a Messages request into a Responses request.

The request is stateless: the provider stores nothing, every request contains the whole
conversation, and reasoning is sent encrypted. The system prompt is the first input item instead of
`instructions`, which some providers ignore and newer models read and bill after the input.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Raw

from ccproxy.convert.chat.parameters import (
    limit_fields,
    sampling_fields,
    stop_sequences_of,
)
from ccproxy.convert.chat.system_prompt import to_system_prompt
from ccproxy.convert.common.classifier import ROOM_TO_REASON, is_classifier
from ccproxy.convert.common.conversion import (
    Conversion,
    ConvertedRequest,
    record_unsupported,
    session_key,
)
from ccproxy.convert.common.effort import (
    NO_THINKING,
    ReasoningRequest,
    lowest_effort,
    nearest_effort,
    requested_reasoning,
)
from ccproxy.convert.common.request_cache import ConversationCache
from ccproxy.convert.common.schema import named_schema, requested_format
from ccproxy.convert.common.thinking import Signer
from ccproxy.convert.content_headers import content_headers
from ccproxy.convert.dialects.conversation_writer import convert_messages
from ccproxy.convert.responses.content import Item, input_content
from ccproxy.convert.responses.conversation import InputWriter, message_item
from ccproxy.convert.responses.learning import NOTHING_REFUSED, Refusals
from ccproxy.convert.responses.tools import (
    NO_RESPONSES_TOOLS,
    ResponsesTools,
    to_responses_choice,
    to_responses_tools,
)
from ccproxy.protocol.literals import invalid_request
from ccproxy.protocol.messages import MessagesRequest
from ccproxy.providers.quirks import Quirks, Target

LEAST_OUTPUT_TOKENS: Final = 16
"""OpenAI refuses smaller values (code integer_below_min_value); Claude Code probes with 1."""

_ENCODER = msgspec.json.Encoder()
_IMAGE_ITEM = b'{"type":"input_image"'


def to_responses(
    request: MessagesRequest,
    target: Target,
    *,
    signer: Signer,
    stream: bool | None = None,
    cache: ConversationCache | None = None,
    refusals: Refusals = NOTHING_REFUSED,
) -> ConvertedRequest:
    """
    Convert *request* for *target*; by default, the provider streams if the client requests it.

    *cache* speeds up the conversion of a conversation's next request without changing the result.
    *refusals* are the features that the provider has refused.

    Raises:
        Problem: invalid_request_error if the Messages API would also refuse the request.
    """
    try:
        conversion = Conversion(target=target, signer=signer)
        return _convert(request, conversion, stream, cache, refusals)
    except RecursionError as error:
        raise invalid_request("The JSON is nested too deeply") from error


def _convert(
    request: MessagesRequest,
    conversion: Conversion,
    stream: bool | None,
    cache: ConversationCache | None,
    refusals: Refusals,
) -> ConvertedRequest:
    target, quirks = conversion.target, conversion.quirks
    classifies = is_classifier(request)
    requested = NO_THINKING if classifies else requested_reasoning(request)
    hide = classifies and quirks.always_reasons
    streams = bool(request.stream if stream is None else stream)
    conversion.thinks = requested.thinks is not False
    record_unsupported(request, conversion)
    tools = to_responses_tools(request.tools, conversion)
    choice = to_responses_choice(request.tool_choice, tools, conversion)
    if choice.without_tools:
        tools = NO_RESPONSES_TOOLS
    instructions = [choice.instruction] if choice.instruction else []
    system = _system_item(request.system, conversion, instructions)
    make = partial(InputWriter, refused_reasoning=refusals.refused_reasoning)
    writer, items = convert_messages(request.messages, system, conversion, cache, make)
    reasoning = _reasoning(requested, quirks, hide=hide)
    body = {
        "model": target.model,
        "input": items,
        "store": False,
        **_limit(request, target, hide=hide),
        **sampling_fields(request, conversion, effort=reasoning.get("effort")),
        **({"tools": tools.definitions, **choice.fields} if tools.count else {}),
        **({"reasoning": reasoning} if reasoning else {}),
        **_include(conversion, tools),
        **_text_format(request),
        **_cache_key(request, conversion),
        **_stream_fields(target, streams=streams),
        **quirks.extra_body,
    }
    encoded = _ENCODER.encode(refusals.apply(body, target.model))
    return ConvertedRequest(
        body=encoded,
        headers=content_headers(request, quirks, has_images=lambda: _IMAGE_ITEM in encoded),
        dropped=tuple(conversion.dropped),
        tool_names=conversion.tool_names,
        stop_sequences=stop_sequences_of(request),
        stream=streams,
        hide_thinking=hide,
        known_ids=writer.known_ids(),
        tools=tools.count,
        searches=tools.functions.searches,
        finds_tools=tools.functions.finds_tools,
        own_search=tools.search_name is not None,
    )


def _system_item(system: Raw, conversion: Conversion, instructions: list[str]) -> Item | None:
    message = to_system_prompt(system, conversion, instructions=instructions)
    if message is None:
        return None
    content = message["content"]
    if isinstance(content, list):
        content = input_content(content, flat=True)
    return message_item(conversion.quirks.system_role, content)


def _limit(request: MessagesRequest, target: Target, *, hide: bool) -> dict[str, int]:
    least = ROOM_TO_REASON if hide else LEAST_OUTPUT_TOKENS
    (limit,) = limit_fields(request, target, least=least).values()
    return {"max_output_tokens": max(limit, LEAST_OUTPUT_TOKENS)}


def _include(conversion: Conversion, tools: ResponsesTools) -> dict[str, list[str]]:
    quirks = conversion.quirks
    include = []
    if quirks.encrypted_reasoning and quirks.reasoning != "none":
        include.append("reasoning.encrypted_content")
    if tools.search_name is not None:
        include.append("web_search_call.action.sources")
    return {"include": include} if include else {}


def _text_format(request: MessagesRequest) -> dict[str, Any]:
    requested = requested_format(request)
    if requested is None:
        return {}
    return {"text": {"format": {"type": "json_schema", "strict": False, **named_schema(requested)}}}


def _cache_key(request: MessagesRequest, conversion: Conversion) -> dict[str, str]:
    """Return the key of the session's prompt cache, which contains the user id only as a hash."""
    user_id = request.metadata.user_id if request.metadata else None
    if request.metadata and not (user_id and conversion.quirks.cache_key):
        conversion.drop("metadata")
    if not user_id or not conversion.quirks.cache_key:
        return {}
    return {"prompt_cache_key": session_key(user_id)}


def _stream_fields(target: Target, *, streams: bool) -> dict[str, Any]:
    if not streams:
        return {}
    plain = {"stream_options": {"include_obfuscation": False}} if target.quirks.obfuscation else {}
    return {"stream": True, **plain}


def _reasoning(requested: ReasoningRequest, quirks: Quirks, *, hide: bool) -> dict[str, Any]:
    """
    Return the `reasoning` field, empty if the model does not reason or the client requests nothing.

    With *hide*, the client does not receive the reasoning, so no summary is requested.
    """
    if quirks.reasoning not in ("effort", "openrouter"):
        return {}
    fields: dict[str, Any] = {}
    if effort := _effort(requested, quirks):
        fields["effort"] = effort
    if quirks.reasoning_summary and requested.thinks and not hide:
        fields["summary"] = "auto"
    return fields


def _effort(requested: ReasoningRequest, quirks: Quirks) -> str | None:
    if requested.thinks is False:
        return lowest_effort(quirks.efforts)
    if effort := requested.effort_or_budget():
        return nearest_effort(effort, quirks.efforts)
    # Models that accept "none" may not reason by default.
    return "medium" if requested.thinks and "none" in quirks.efforts else None
