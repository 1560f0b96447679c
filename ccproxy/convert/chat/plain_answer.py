"""
The short way of the whole answer that comes most often: one text and nothing else.

It must never differ from the long way, through the state machine: whatever is not certainly plain
is left to that, and a test holds the two against each other.
"""

from __future__ import annotations

from typing import Any

from ccproxy.convert.chat.think_tags import OPENING
from ccproxy.convert.common.message_writer import AnswerContext, new_message
from ccproxy.convert.common.usage import is_usage, to_usage
from ccproxy.protocol.chat import Completion, Delta

_REASONS = {"stop": "end_turn", "length": "max_tokens"}


def plain_message(completion: Completion, context: AnswerContext) -> dict[str, Any] | None:
    """Return the message that *completion* is, None if it says anything but one text."""
    choices = completion.choices
    if not choices or len(choices) != 1 or completion.x_groq is not None:
        return None
    (choice,) = choices
    if choice.message is None or choice.delta is not None or choice.usage is not None:
        return None
    text = None if context.stop_sequences else _sole_text(choice.message)
    reason = _REASONS.get(choice.finish_reason) if isinstance(choice.finish_reason, str) else None
    if text is None or reason is None:
        return None
    if context.target.quirks.think_tags and text.lstrip().startswith(OPENING):
        return None
    message = new_message(context)
    message["content"].append({"type": "text", "text": text})
    message["stop_reason"] = reason
    message["usage"] |= to_usage(
        completion.usage if is_usage(completion.usage) else None,
        context.target.quirks,
        input_estimate=context.input_estimate,
        chars=len(text),
    )
    return message


def _sole_text(said: Delta) -> str | None:
    text = said.content
    if not isinstance(text, str) or not text.strip() or said.tool_calls or said.refusal:
        return None
    others = (said.reasoning_content, said.reasoning, said.reasoning_details, said.function_call)
    return text if others == _NOTHING else None


_NOTHING = (None, None, None, None)
