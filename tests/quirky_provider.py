"""A Chat Completions provider with given quirks, which rejects everything that they exclude."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ccproxy.convert.common.schema import to_parameters
from ccproxy.providers.measurement import Outcome
from ccproxy.providers.quirks import Quirks

KNOWN = {
    *("model", "messages", "stream", "temperature", "stop", "tools", "tool_choice"),
    "response_format",
}
ON = {
    "thinking_type": ("thinking", {"type": "enabled"}, {"type": "disabled"}),
    "minimax": ("thinking", {"type": "adaptive"}, {"type": "disabled"}),
    "enable_thinking": ("enable_thinking", True, False),
    "openrouter": ("reasoning", {"enabled": True}, {"enabled": False}),
    "template_kwargs": (
        "chat_template_kwargs",
        {"enable_thinking": True, "thinking": True},
        {"enable_thinking": False, "thinking": False},
    ),
}
REFUSED = {"max_tokens", "max_completion_tokens", "parallel_tool_calls", "stream_options"}
"""Known fields; a server that does not support one rejects it."""
PART_FIELDS = {"image_url", "file", "document_url", "thinking"}
MESSAGE_FIELDS = {"role", "content", "tool_calls", "prefix", "partial"}
HISTORY = {
    "drop": set(),
    "think_tags": set(),
    "thinking_parts": set(),
    "both_fields": {"reasoning_content", "reasoning"},
}


FORMATS: dict[str, set[str]] = {
    "json_schema": {"json_schema", "json_object"},
    "json_object": {"json_object"},
    "none": set(),
}


class QuirkyProvider:
    """
    Answers requests to a model with *quirks*.

    A lenient provider ignores unknown fields instead of rejecting them.
    """

    def __init__(self, quirks: Quirks, *, is_lenient: bool = False) -> None:
        self._quirks = quirks
        self._is_lenient = is_lenient

    def answer(self, body: Mapping[str, Any]) -> Outcome:
        """Return the outcome of a request."""
        if any(self.problems(body)):
            return Outcome(accepted=False)
        is_padded = self._quirks.obfuscation and bool(body.get("stream"))
        if not self._thinks(body):
            message = self._message(body)
            usage = {"completion_tokens": 5}
            return Outcome(accepted=True, message=message, usage=usage, is_padded=is_padded)
        written = 1 if self._quirks.usage_without_reasoning else 12
        usage = {
            "completion_tokens": written,
            "completion_tokens_details": {"reasoning_tokens": 8},
        }
        message = self._message(body)
        if self._quirks.reasoning_split and not body.get("reasoning_split"):
            message["content"] = f"<think>Hm.</think>{message['content'] or ''}"
        else:
            message["reasoning_content"] = "Hm."
        return Outcome(accepted=True, message=message, usage=usage, is_padded=is_padded)

    def _message(self, body: Mapping[str, Any]) -> dict[str, Any]:
        choice = body.get("tool_choice")
        choice_name = "function" if isinstance(choice, dict) else choice
        if choice_name in ("required", "any", "function") and choice_name in self._choices():
            return {"content": None, "tool_calls": [{}]}
        form = body.get("response_format", {}).get("type")
        if form not in FORMATS[self._quirks.response_format]:
            return {"content": "ok"}
        return {"content": '{"ccproxy_ok": true}' if form == "json_schema" else '{ "ok": true}'}

    def _choices(self) -> set[str]:
        names = {"required": self._quirks.required_word}
        return {names.get(each, each) for each in self._quirks.tool_choices}

    def _thinks(self, body: Mapping[str, Any]) -> bool:
        quirks = self._quirks
        if quirks.reasoning == "none":
            return False
        if quirks.always_reasons:
            return True
        if quirks.reasoning in ON:
            name, on, _ = ON[quirks.reasoning]
            return bool(body.get(name) == on)
        return body.get("reasoning_effort", "none") not in {"none", "minimal"}

    def problems(self, body: Mapping[str, Any]) -> Iterator[str]:
        """Yield the reasons to reject *body*."""
        yield from self._fields(body)
        yield from self._sampling(body)
        yield from self._tools(body)
        yield from self._messages(body)

    def _fields(self, body: Mapping[str, Any]) -> Iterator[str]:
        quirks = self._quirks
        known_fields = KNOWN | {quirks.max_tokens_field}
        known_fields |= {"top_k"} if quirks.top_k else set()
        known_fields |= {"parallel_tool_calls"} if quirks.parallel_tool_calls else set()
        known_fields |= {"stream_options"} if quirks.stream_options else set()
        known_fields |= {"prompt_cache_key"} if quirks.cache_key else set()
        known_fields |= {quirks.user_field}
        known_fields |= {"reasoning_split"} if quirks.reasoning_split else set()
        takes_any = quirks.reasoning == "explicit_effort" and not quirks.efforts
        known_fields |= {"reasoning_effort"} if quirks.efforts or takes_any else set()
        if quirks.reasoning in ON:
            name, on, off = ON[quirks.reasoning]
            known_fields |= {name}
            if body.get(name, on) not in ([on] if quirks.always_reasons else [on, off]):
                yield name
        if quirks.thinking_needs_stream and not body.get("stream") and self._is_on(body):
            yield "thinking without stream"
        effort = body.get("reasoning_effort")
        reads_effort = bool(quirks.efforts) or not self._is_lenient
        if effort and reads_effort and not takes_any and effort not in quirks.efforts:
            yield "reasoning_effort"
        form = body.get("response_format", {}).get("type")
        if form and form not in FORMATS[quirks.response_format] and not self._is_lenient:
            yield "response_format"
        if form and self._is_on(body) and not quirks.format_with_thinking:
            yield "response_format with thinking"
        if form and body.get("stream") and not quirks.response_format_streams:
            yield "response_format with stream"
        unknown = body.keys() - known_fields
        yield from unknown & REFUSED if self._is_lenient else unknown

    def _is_on(self, body: Mapping[str, Any]) -> bool:
        name, on, _ = ON.get(self._quirks.reasoning, ("", None, None))
        return name in body and body[name] == on

    def _sampling(self, body: Mapping[str, Any]) -> Iterator[str]:
        quirks = self._quirks
        if "temperature" in body:
            least, most = quirks.temperature_range
            free = quirks.sampling_without_effort and "reasoning_effort" not in body
            if not (quirks.sampling or free) or not least <= body["temperature"] <= most:
                yield "temperature"
        if "stop" in body and (not quirks.stop or len(body["stop"]) > quirks.max_stops):
            yield "stop"

    def _tools(self, body: Mapping[str, Any]) -> Iterator[str]:
        quirks = self._quirks
        tools, choice = body.get("tools", ()), body.get("tool_choice")
        if quirks.max_tools and len(tools) > quirks.max_tools:
            yield "tools"
        choice_name = "function" if isinstance(choice, dict) else choice
        if choice_name and choice_name not in self._choices() and not self._is_lenient:
            yield "tool_choice"
        for tool in tools:
            function = tool["function"]
            if len(function["name"]) > quirks.tool_name_length:
                yield "tool name"
            if to_parameters(function["parameters"], quirks.schema) != function["parameters"]:
                yield "schema"
        is_forced = choice_name in {"function", quirks.required_word}
        thinks = self._is_on(body) or "reasoning_effort" in body
        if is_forced and thinks and not quirks.forced_choice_with_thinking:
            yield "tool_choice with thinking"
        if tools and "reasoning_effort" in body and not quirks.effort_with_tools:
            yield "reasoning_effort with tools"

    def _messages(self, body: Mapping[str, Any]) -> Iterator[str]:
        quirks = self._quirks
        messages = body["messages"]
        for before, message in zip([{"role": ""}, *messages], messages, strict=False):
            roles = (before["role"], message["role"])
            if roles == ("user", "user") and quirks.merge_user_messages:
                yield "roles"
            if roles == ("tool", "user") and not quirks.user_after_tool:
                yield "user after tool"
            if message["role"] == "system" and before["role"] and quirks.system_messages == "first":
                yield "system"
            yield from self._content(message)
            if message["role"] == "assistant":
                yield from self._assistant(message)
        last = messages[-1]
        if last["role"] == "assistant":
            flags = {"prefix", "partial"} & last.keys()
            if flags != ({quirks.prefill} - {"plain"}):
                yield "prefill"

    def _content(self, message: Mapping[str, Any]) -> Iterator[str]:
        quirks, content = self._quirks, message["content"]
        if content is None and not quirks.null_content:
            yield "null"
        if not isinstance(content, list):
            return
        if quirks.flat_text:
            yield "content"
        allowed = {"text", quirks.pdf}
        allowed |= {"image_url"} if quirks.images else set()
        allowed |= {"thinking"} if quirks.history == "thinking_parts" else set()
        for part in content:
            if part["type"] not in allowed:
                yield part["type"]
            known_fields = {"cache_control"} if quirks.cache_control else set()
            if not self._is_lenient:
                yield from part.keys() - {"type", "text", *PART_FIELDS} - known_fields

    def _assistant(self, message: Mapping[str, Any]) -> Iterator[str]:
        quirks = self._quirks
        allowed = HISTORY.get(quirks.history, {quirks.history})
        if not self._is_lenient:
            yield from message.keys() - MESSAGE_FIELDS - allowed
        thoughts = {"reasoning_content", "reasoning", "reasoning_details"} & message.keys()
        calls = message.get("tool_calls", ())
        if calls and quirks.thought_signatures and "extra_content" not in calls[0]:
            yield "thought_signature"
        if calls and quirks.history_required and not thoughts & allowed:
            yield "reasoning is missing"
        for call in calls:
            length = len(call["id"])
            if quirks.tool_ids == "nine" and length != 9:
                yield "id"
            if quirks.tool_ids == "forty" and length > 40:
                yield "id"
