"""
Requests in which Claude Code's auto mode classifies a command as dangerous or not.

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
"""Lower bound for max_tokens with models that always reason."""

_OPENING: Final = b"You are a security monitor for autonomous AI coding agents"
_STOPS: Final = frozenset({"</block>", "</severity>"})
_SHORT: Final = 1_024
"""Tokens. The classifier requests 64; a request for more than this is not a classification."""


def is_classifier(request: MessagesRequest) -> bool:
    """Return True if the prompt, or the stop sequences and a low limit, mark a classification."""
    if is_present(request.system) and _OPENING in bytes(memoryview(request.system)[:2_048]):
        return True
    stops = set(request.stop_sequences or ())
    short = request.max_tokens is not None and request.max_tokens <= _SHORT
    return bool(stops & _STOPS) and short and not is_present(request.tools)
