"""
Requests of Claude Code's auto mode that classify whether a command is dangerous.

The answer, `<block>yes</block>` or `<block>no</block>`, is limited to a few tokens, and Claude Code
refuses every command without a valid answer. Reasoning would use up the tokens, so it is disabled.
A model that always reasons gets a larger limit, its reasoning is hidden, and ccproxy enforces the
stop sequence, because the provider would also match it in the reasoning.
"""

from __future__ import annotations

from typing import Final

from ccproxy.protocol.literals import is_present
from ccproxy.protocol.messages import MessagesRequest

ROOM_TO_REASON: Final = 4_096
"""Lower bound of max_tokens for models that always reason."""

_OPENING: Final = b"You are a security monitor for autonomous AI coding agents"
_STOPS: Final = frozenset({"</block>", "</severity>"})
_SHORT: Final = 1_024
"""Tokens; the classifier requests 64, so a request for more is not a classification."""


def is_classifier(request: MessagesRequest) -> bool:
    """Return True for a classification, by its prompt or by its stop sequences and short limit."""
    if is_present(request.system) and _OPENING in bytes(memoryview(request.system)[:2_048]):
        return True
    stops = set(request.stop_sequences or ())
    short = request.max_tokens is not None and request.max_tokens <= _SHORT
    return bool(stops & _STOPS) and short and not is_present(request.tools)
