"""
Reasoning: the parameters that request it, and earlier thinking sent back in the history.

Each form of the parameters (`Quirks.reasoning`) has its own function. If the client requests
nothing, nothing is sent and the provider's default applies.

Some providers require earlier thinking, some refuse it, and most ignore it; `Quirks.history`
selects the form. The text of any thinking block is sent, whichever provider produced it, so that
sessions survive a change of provider. Data that only its producer can read (thought signatures,
encrypted details) is sent only to the same model of the same provider.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Raw

from ccproxy.convert.common.conversion import Conversion
from ccproxy.convert.common.effort import (
    EFFORTS,
    ReasoningRequest,
    lowest_effort,
    nearest_effort,
)
from ccproxy.convert.common.thinking import (
    HIDDEN_TEXT,
    REASONING_DETAILS,
    REASONING_OPAQUE,
    THOUGHT_SIGNATURES,
    Origin,
    unpack_details,
)
from ccproxy.protocol.literals import (
    EMPTY,
    is_string,
    join_literals,
    literal,
    text_of,
    wrap_literal,
)
from ccproxy.protocol.messages import Block
from ccproxy.providers.quirks import Quirks

UNKNOWN_SIGNATURE = "skip_thought_signature_validator"
"""Gemini accepts this instead of an unknown signature (ai.google.dev, thought signatures)."""


def reasoning_fields(
    request: ReasoningRequest, quirks: Quirks, *, with_tools: bool
) -> dict[str, Any]:
    """Return the fields that request reasoning from the provider."""
    if not quirks.effort_with_tools and with_tools:
        # gpt-5.4 and later: "set reasoning_effort to 'none'" or leave it out.
        return {"reasoning_effort": "none"} if "none" in quirks.efforts else {}
    fields = _FORMS[quirks.reasoning](request, quirks)
    if quirks.reasoning_split:
        fields["reasoning_split"] = True
    return fields


def _no_fields(_request: ReasoningRequest, _quirks: Quirks) -> dict[str, Any]:
    return {}


def _effort(request: ReasoningRequest, quirks: Quirks) -> dict[str, Any]:
    if request.thinks is False:
        lowest = lowest_effort(quirks.efforts)
        return {"reasoning_effort": lowest} if lowest else {}
    effort = request.effort_or_budget()
    if effort is None and request.thinks and "none" in quirks.efforts:
        effort = "medium"  # models that accept "none" do not reason by default
    return {"reasoning_effort": nearest_effort(effort, quirks.efforts)} if effort else {}


def _explicit_effort(request: ReasoningRequest, quirks: Quirks) -> dict[str, Any]:
    if not request.effort or request.thinks is False:
        return {}
    return {"reasoning_effort": nearest_effort(request.effort, quirks.efforts)}


def _thinking_type(request: ReasoningRequest, quirks: Quirks) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if request.thinks is not None and not (request.thinks is False and quirks.always_reasons):
        fields["thinking"] = {"type": "enabled" if request.thinks else "disabled"}
    if request.thinks and quirks.thinking_keep:
        fields["thinking"] |= _KEEP[quirks.thinking_keep]
    if quirks.efforts and (request.thinks is not False or quirks.always_reasons):
        fields |= _effort(request, quirks)
    return fields


def _enable_thinking(request: ReasoningRequest, quirks: Quirks) -> dict[str, Any]:
    if request.thinks is None or (not request.thinks and quirks.always_reasons):
        return {}
    if not request.thinks:
        return {"enable_thinking": False}
    budget = {"thinking_budget": request.budget} if request.budget is not None else {}
    return {"enable_thinking": True, **budget}


def _reasoning_object(request: ReasoningRequest, quirks: Quirks) -> dict[str, Any]:
    if request.thinks is False:
        return {} if quirks.always_reasons else {"reasoning": {"enabled": False}}
    if request.effort:
        allowed = quirks.efforts or tuple(value for value in EFFORTS if value != "max")
        return {"reasoning": {"effort": nearest_effort(request.effort, allowed)}}
    if request.budget is not None:
        return {"reasoning": {"max_tokens": request.budget}}
    return {"reasoning": {"enabled": True}} if request.thinks else {}


def _adaptive_type(request: ReasoningRequest, quirks: Quirks) -> dict[str, Any]:
    if request.thinks is None or quirks.always_reasons:
        return {}
    return {"thinking": {"type": "adaptive" if request.thinks else "disabled"}}


def _template_kwargs(request: ReasoningRequest, quirks: Quirks) -> dict[str, Any]:
    is_default = request.thinks is None or (not request.thinks and quirks.always_reasons)
    if is_default or not quirks.template_kwargs:
        return {}
    # Both names are in use (Qwen, GLM: enable_thinking; DeepSeek, Kimi: thinking).
    switch = {"enable_thinking": request.thinks, "thinking": request.thinks}
    return {"chat_template_kwargs": switch}


_KEEP: Final[dict[str, dict[str, Any]]] = {
    "clear_thinking": {"clear_thinking": False},
    "keep_all": {"keep": "all"},
}
_FORMS: Final[dict[str, Callable[[ReasoningRequest, Quirks], dict[str, Any]]]] = {
    "none": _no_fields,
    "effort": _effort,
    "thinking_type": _thinking_type,
    "enable_thinking": _enable_thinking,
    "openrouter": _reasoning_object,
    "minimax": _adaptive_type,
    "template_kwargs": _template_kwargs,
    "explicit_effort": _explicit_effort,
}


# Earlier thinking.

_TEXT_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "reasoning_content": ("reasoning_content",),
    "reasoning": ("reasoning",),
    "both_fields": ("reasoning", "reasoning_content"),
}


class EarlierThinking:
    """The thinking blocks of one assistant message, and the data in their signatures."""

    def __init__(self, blocks: Sequence[Block], conversion: Conversion) -> None:
        self._conversion = conversion
        self._quirks = conversion.quirks
        # The origin is None if another model produced the block.
        self._blocks: list[tuple[Raw, Origin | None]] = []
        for block in blocks:
            origin = origin_of(block, conversion)
            self._blocks.append((_visible_text(block, origin), origin))

    def text(self) -> Raw | None:
        """Return all text as one string literal, or None if there is none."""
        texts = [text for text, _ in self._blocks if text is not EMPTY]
        return join_literals("\\n\\n", texts) if texts else None

    def fields(self, *, required: bool) -> dict[str, Any]:
        """
        Return the fields of the assistant message that contain the thinking.

        `required`: the provider refuses the message without the field; "" is accepted (DeepSeek,
        Kimi: "reasoning_content is missing in assistant tool call message").
        """
        form = self._quirks.history
        if opaque := self._opaque():
            return opaque
        if fields := _TEXT_FIELDS.get(form):
            text = self.text() or (EMPTY if required else None)
            return {} if text is None else dict.fromkeys(fields, text)
        if form == "reasoning_details":
            details = [detail for block in self._blocks for detail in self._details(*block)]
            return {"reasoning_details": details} if details else {}
        if form == "drop" and self._blocks:
            self._conversion.drop("messages.thinking")
        return {}

    def add_to(self, content: Raw | None) -> Raw | list[dict[str, Any]] | None:
        """Return the message's *content*, with the thinking if the provider expects it there."""
        form = self._quirks.history
        text = self.text() if form in ("think_tags", "thinking_parts") else None
        if text is None:
            return content
        if form == "think_tags":
            tagged = wrap_literal("<think>\\n", text, "\\n</think>\\n\\n")
            return tagged if content is None else join_literals("", [tagged, content])
        part = {"type": "thinking", "thinking": [{"type": "text", "text": text}]}
        return [part] if content is None else [part, {"type": "text", "text": content}]

    def signatures(self) -> dict[str, str]:
        """Return the thought signature of each tool call, by the client's call ID."""
        signatures: dict[str, str] = {}
        for _, origin in self._blocks:
            signatures |= origin.carried.get(THOUGHT_SIGNATURES, {}) if origin else {}
        return signatures

    def _opaque(self) -> dict[str, Any]:
        """Return Copilot's encrypted reasoning and its text as fields, or {} if there is none."""
        for _, origin in self._blocks:
            if origin is not None and REASONING_OPAQUE in origin.carried:
                opaque = {"reasoning_opaque": origin.carried[REASONING_OPAQUE]}
                text = self.text()
                return opaque if text is None else {"reasoning_text": text, **opaque}
        return {}

    def _details(self, text: Raw, origin: Origin | None) -> list[dict[str, Any]]:
        packed = origin.carried.get(REASONING_DETAILS) if origin else None
        if packed:
            return unpack_details(packed, text_of(text))
        if not self._quirks.unsigned_thinking or text is EMPTY:
            return []
        return [{"type": "reasoning.text", "text": text}]


def _visible_text(block: Block, origin: Origin | None) -> Raw:
    """
    Return the text of *block*, or EMPTY.

    With `thinking.display: "omitted"`, the signature carries the text.
    """
    if is_string(block.thinking) and block.thinking != EMPTY:
        return block.thinking
    text = origin.carried.get(HIDDEN_TEXT) if origin else None
    return literal(text) if text else EMPTY


def origin_of(block: Block, conversion: Conversion) -> Origin | None:
    """Return the origin of *block* if the block came from the current target, else None."""
    origin = conversion.signer.open(text_of(block.signature))
    target = conversion.target
    if origin is None or (origin.provider, origin.model) != (target.provider, target.model):
        return None
    return origin
