"""
Which model a request deserves: the user's rules, by what kind of request it is.

Rules, in order; the first that the user has given and that fits decides:

1. `LABEL:model`, or a model by its own name: the client has decided.
2. What a model must be able to do: pdf, image, web_search.
3. The type of the agent that asks (`agents`).
4. Classes that are nobody's conversation: compaction, auxiliary, subagent.
5. thinking, background (a name with "haiku" in it), main.

Whatever was decided, a request over the threshold of `long_context`, or over the window of the
model decided on, goes to its model.

The class stands in a header where Claude Code is told to send it (CLAUDE_CODE_GATEWAY_HINT_HEADERS,
which `ccproxy env` and `run` set). Where it does not, the documented signs are read: the header
x-claude-code-agent-id is a subagent's, the compaction's last message has a fixed beginning, and an
auxiliary request (the session's title) has no tools and wants JSON of a given form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec

from ccproxy.convert.common.token_estimate import estimate
from ccproxy.errors import Problem
from ccproxy.protocol.literals import is_present
from ccproxy.protocol.messages import Block, Message, MessagesRequest, blocks_of, tools_of

Class = Literal["main", "subagent", "compaction", "auxiliary"]
CLASSES: tuple[Class, ...] = ("main", "subagent", "compaction", "auxiliary")

ORDER = (
    *("pdf", "image", "web_search"),
    *("agents", "compaction", "auxiliary", "subagent"),
    *("thinking", "background", "main"),
)
"""Every rule but long_context, in the order above."""

CLASS_HEADER = "x-claude-code-request-class"
AGENT_TYPE_HEADER = "x-claude-code-agent-type"
AGENT_ID_HEADER = "x-claude-code-agent-id"

# Claude Code 2.1.329 sends main, subagent, workflow, compaction, auxiliary and side_reply.
_CLASS_OF_HINT: Mapping[str, Class] = {
    **{word: word for word in CLASSES},
    "workflow": "subagent",
    "side_reply": "auxiliary",
}
_COMPACTION = b"CRITICAL: Respond with TEXT ONLY"
_TITLE = re.compile(
    rb"\b(?:conversation|session) title\b|\btitle for (?:this|the)\b", re.IGNORECASE
)
_TITLE_PROMPT = 2000
"""Bytes: the prompt that asks for a title is shorter than any other."""
_IMAGE = re.compile(rb'"type"\s*:\s*"image"')
_DOCUMENT = re.compile(rb'"type"\s*:\s*"document"')
_OUT = frozenset(
    (
        *("rate_limit_error", "overloaded_error", "api_error"),
        *("timeout_error", "authentication_error", "billing_error"),
    )
)
LOOP = 508
"""The status of a request that went round in circles (RFC 5842)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LongContext:
    """Where long requests go."""

    model: str
    over: int | None = None
    """Tokens, system and tools included; None: only what is over the model's window is long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """The rules of one entry: models by the names in `ORDER`."""

    rules: Mapping[str, str] = field(default_factory=dict)
    agents: Mapping[str, str] = field(default_factory=dict)
    """By the agent's type as Claude Code names it, in lower case."""
    long_context: LongContext | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be decided."""
        return not (self.rules or self.agents or self.long_context)

    def with_threshold(self, tokens: int | None) -> Routing:
        """Return the rules with *tokens* as the threshold of long requests, if they have none."""
        long = self.long_context
        if tokens is None or long is None or long.over is not None:
            return self
        return replace(self, long_context=replace(long, over=tokens))


NO_ROUTING = Routing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the rules look at."""

    kind: Class
    agent: str = ""
    """The type of the agent, in lower case; empty if it is not told."""
    background: bool = False
    thinking: bool = False
    image: bool = False
    pdf: bool = False
    web_search: bool = False
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """A model by any name of `routing/names.py`, and why; no model: as without rules."""

    model: str | None
    reason: str


UNDECIDED = Decision(None, "")


def decide(
    routing: Routing, facts: Facts, *, window: Callable[[str | None], int | None]
) -> Decision:
    """Apply the rules; *window* tells the size of a model's window (None: who answers anyway)."""
    decision = _by_kind(routing, facts)
    long = routing.long_context
    if long is None:
        return decision
    if long.over is not None and facts.tokens > long.over:
        return Decision(long.model, f"long context: {facts.tokens} tokens > {long.over}")
    limit = window(decision.model)
    if limit is not None and facts.tokens > limit:
        return Decision(long.model, f"long context: {facts.tokens} tokens > window {limit}")
    return decision


def _by_kind(routing: Routing, facts: Facts) -> Decision:
    for name in ORDER:
        if name == "agents":
            if (model := routing.agents.get(facts.agent)) is not None:
                return Decision(model, f"agent {facts.agent}")
        elif name in routing.rules and _fits(name, facts):
            return Decision(routing.rules[name], name.replace("_", " "))
    return UNDECIDED


def _fits(name: str, facts: Facts) -> bool:
    return facts.kind == name if name in CLASSES else bool(getattr(facts, name))


# What a request is.


def facts_of(request: MessagesRequest, headers: Mapping[str, str]) -> Facts:
    """Look at a *request*; the names of *headers* must be findable in lower case."""
    thinking = request.thinking
    return Facts(
        kind=_class_of(request, headers),
        agent=headers.get(AGENT_TYPE_HEADER, "").strip().lower(),
        background="haiku" in request.model.lower(),
        thinking=thinking is not None and thinking.type not in ("disabled", "none"),
        image=_has(request.messages, _IMAGE, lambda block: block.type == "image"),
        pdf=_has(request.messages, _DOCUMENT, _is_pdf),
        web_search=_searches(request),
        tokens=estimate(request),
    )


def is_out(problem: Problem) -> bool:
    """Tell whether a *problem* is the provider's, so that another one may answer."""
    return problem.kind in _OUT and problem.status != LOOP


def _class_of(request: MessagesRequest, headers: Mapping[str, str]) -> Class:
    told = _CLASS_OF_HINT.get(headers.get(CLASS_HEADER, "").strip().lower())
    if told is not None:
        return told
    last = request.messages[-1]
    if last.role == "user" and _COMPACTION in bytes(last.content):
        return "compaction"
    if AGENT_ID_HEADER in headers:
        return "subagent"
    return "auxiliary" if _is_auxiliary(request) else "main"


def _is_auxiliary(request: MessagesRequest) -> bool:
    if is_present(request.tools) and bytes(request.tools).strip() != b"[]":
        return False
    config = request.output_config
    if request.output_format is not None or (config is not None and config.format is not None):
        return True
    system = bytes(request.system)
    return len(system) <= _TITLE_PROMPT and _TITLE.search(system) is not None


def _searches(request: MessagesRequest) -> bool:
    if not is_present(request.tools) or b"web_search" not in bytes(request.tools):
        return False
    return any((tool.type or "").startswith("web_search") for tool in tools_of(request.tools))


def _has(messages: list[Message], sign: re.Pattern[bytes], fits: Callable[[Block], bool]) -> bool:
    """Tell whether a block that *fits* stands in a message or in a tool's result."""
    likely = (message for message in messages if sign.search(message.content))
    return any(_holds(block, fits) for message in likely for block in blocks_of(message.content))


def _holds(block: Block, fits: Callable[[Block], bool]) -> bool:
    if fits(block):
        return True
    if block.type != "tool_result" or not is_present(block.content):
        return False
    return any(fits(inner) for inner in blocks_of(block.content))


class _Source(msgspec.Struct):
    type: str = ""
    media_type: str | None = None


_SOURCE = msgspec.json.Decoder(_Source)


def _is_pdf(block: Block) -> bool:
    if block.type != "document" or not is_present(block.source):
        return False
    try:
        source = _SOURCE.decode(block.source)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return source.media_type == "application/pdf" or source.type == "url"
