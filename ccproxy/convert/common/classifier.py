"""
Claude Code's auto mode asks a model whether a command is dangerous, and that must work anywhere.

The question has few tokens for its answer, `<block>yes</block>` or `<block>no</block>`, and the
client fails closed: without a readable answer every command is refused. So reasoning, which
would eat the tokens, is switched off; where a model always reasons, it gets room to do so, its
reasoning is hidden and the stop sequence is ours to enforce (the provider would find it in the
reasoning). It is never answered without asking a model.
"""

from __future__ import annotations

from typing import Final

from ccproxy.protocol.literals import is_present
from ccproxy.protocol.messages import MessagesRequest

ROOM_TO_REASON: Final = 4_096
"""Tokens that a model which always reasons gets at least."""

_OPENING: Final = b"You are a security monitor for autonomous AI coding agents"
_STOPS: Final = frozenset({"</block>", "</severity>"})
_SHORT: Final = 1_024
"""Tokens; the classifier asks for 64, and anything with room for a report is something else."""


def is_classifier(request: MessagesRequest) -> bool:
    """Whether this is auto mode's question: by its prompt, or by its stops and its shortness."""
    if is_present(request.system) and _OPENING in bytes(memoryview(request.system)[:2_048]):
        return True
    stops = set(request.stop_sequences or ())
    short = request.max_tokens is not None and request.max_tokens <= _SHORT
    return bool(stops & _STOPS) and short and not is_present(request.tools)
