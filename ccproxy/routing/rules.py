"""
The user's routing rules, which map kinds of requests to models.

The first configured rule that matches is used:

1. `LABEL:model`, or a model by its own name: the client's choice takes precedence.
2. Required features: pdf, image, web_search.
3. The type of the agent that sends the request (`agents`).
4. Requests outside the main conversation: compaction, auxiliary, subagent.
5. thinking, background (a model name that contains "haiku"), main.

In addition, a request above the threshold of `long_context`, or above the context window of the
selected model, uses the model of `long_context`.

Claude Code sends the class of a request in a header if CLAUDE_CODE_GATEWAY_HINT_HEADERS is set, as
`ccproxy env` and `run` do. Otherwise the class is derived: a subagent sends the header
x-claude-code-agent-id, the last message of a compaction starts with a fixed text, and an auxiliary
request (such as for a session title) has no tools and requests JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec

from ccproxy.convert.common.token_estimate import estimate
from ccproxy.errors import Problem
from ccproxy.protocol.claude_code import (
    AGENT_ID_HEADER,
    AGENT_TYPE_HEADER,
    CLASS_HEADER,
    COMPACTION_PROMPT,
)
from ccproxy.protocol.json_splice import NOT_JSON
from ccproxy.protocol.literals import is_present
from ccproxy.protocol.messages import Block, Message, MessagesRequest, blocks_of, tools_of
from ccproxy.routing.names import Tiers

Class = Literal["main", "subagent", "compaction", "auxiliary"]
CLASSES: tuple[Class, ...] = ("main", "subagent", "compaction", "auxiliary")

ORDER = (
    *("pdf", "image", "web_search"),
    *("agents", "compaction", "auxiliary", "subagent"),
    *("thinking", "background", "main"),
)
"""All rules except long_context, in the order above."""

_CLASS_OF_HINT: Mapping[str, Class] = {
    **{class_name: class_name for class_name in CLASSES},
    "workflow": "subagent",
    "side_reply": "auxiliary",
}
_TITLE = re.compile(
    rb"\b(?:conversation|session) title\b|\btitle for (?:this|the)\b", re.IGNORECASE
)
_TITLE_PROMPT_SIZE = 2000
"""In bytes; the system prompt that requests a title is shorter than all others."""
_IMAGE = re.compile(rb'"type"\s*:\s*"image"')
_DOCUMENT = re.compile(rb'"type"\s*:\s*"document"')
_PROVIDER_ERRORS = frozenset(
    (
        *("rate_limit_error", "overloaded_error", "api_error"),
        *("timeout_error", "authentication_error", "billing_error"),
    )
)
LOOP = 508
"""The HTTP status for a request that visited too many entries (RFC 5842)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LongContext:
    """The rule for long requests."""

    model: str
    over: int | None = None
    """The threshold in tokens, including system prompt and tools; by default the model's window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """The rules of one entry; `rules` maps the names in `ORDER` to model names."""

    rules: Mapping[str, str] = field(default_factory=dict)
    agents: Mapping[str, str] = field(default_factory=dict)
    """Model names by the type of Claude Code's agent, in lower case."""
    long_context: LongContext | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there are no rules."""
        return not (self.rules or self.agents or self.long_context)

    def with_threshold(self, tokens: int | None) -> Routing:
        """Return the rules with *tokens* as the default threshold for long requests."""
        long = self.long_context
        if tokens is None or long is None or long.over is not None:
            return self
        return replace(self, long_context=replace(long, over=tokens))


NO_ROUTING = Routing()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingTables:
    """The model presets, routes and fallbacks of a table; labels are in lower case."""

    presets: Mapping[str, Tiers] = field(default_factory=dict)
    """The model presets by name; the user's presets override the built-in ones."""
    routes: Mapping[str, Routing] = field(default_factory=dict)
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def routing(self, label: str) -> Routing:
        """Return the rules of the entry *label*."""
        return self.routes.get(label.lower(), NO_ROUTING)

    def fallback(self, label: str) -> tuple[str, ...]:
        """Return the labels of the entries that replace the entry *label* when it fails."""
        return self.fallbacks.get(label.lower(), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """The properties of a request that rules depend on."""

    kind: Class
    agent: str = ""
    """The type of the agent in lower case, or empty if unknown."""
    background: bool = False
    thinking: bool = False
    image: bool = False
    pdf: bool = False
    web_search: bool = False
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """A model name as in `routing/names.py`, or None if no rule matches, and the reason."""

    model: str | None
    reason: str


UNDECIDED = Decision(None, "")


def decide(
    routing: Routing, facts: RequestFacts, *, window: Callable[[str | None], int | None]
) -> Decision:
    """
    Apply the rules.

    *window* returns a model's context window in tokens. Its argument is None for the model that is
    used if no rule matches.
    """
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


def _by_kind(routing: Routing, facts: RequestFacts) -> Decision:
    for name in ORDER:
        if name == "agents":
            if (model := routing.agents.get(facts.agent)) is not None:
                return Decision(model, f"agent {facts.agent}")
        elif name in routing.rules and _matches(name, facts):
            return Decision(routing.rules[name], name.replace("_", " "))
    return UNDECIDED


def _matches(name: str, facts: RequestFacts) -> bool:
    return facts.kind == name if name in CLASSES else bool(getattr(facts, name))


# The properties of a request


def request_facts(request: MessagesRequest, headers: Mapping[str, str]) -> RequestFacts:
    """Return the properties of *request*; the keys of *headers* must be in lower case."""
    thinking = request.thinking
    return RequestFacts(
        kind=_class_of(request, headers),
        agent=headers.get(AGENT_TYPE_HEADER, "").strip().lower(),
        background="haiku" in request.model.lower(),
        thinking=thinking is not None and thinking.type not in ("disabled", "none"),
        image=_has(request.messages, _IMAGE, lambda block: block.type == "image"),
        pdf=_has(request.messages, _DOCUMENT, _is_pdf),
        web_search=_searches(request),
        tokens=estimate(request),
    )


def is_provider_failure(problem: Problem) -> bool:
    """Return True if the provider caused *problem*, so that a fallback may answer."""
    return problem.kind in _PROVIDER_ERRORS and problem.status != LOOP


def _class_of(request: MessagesRequest, headers: Mapping[str, str]) -> Class:
    hint = _CLASS_OF_HINT.get(headers.get(CLASS_HEADER, "").strip().lower())
    if hint is not None:
        return hint
    last = request.messages[-1]
    if last.role == "user" and COMPACTION_PROMPT in bytes(last.content):
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
    return len(system) <= _TITLE_PROMPT_SIZE and _TITLE.search(system) is not None


def _searches(request: MessagesRequest) -> bool:
    if not is_present(request.tools) or b"web_search" not in bytes(request.tools):
        return False
    return any((tool.type or "").startswith("web_search") for tool in tools_of(request.tools))


def _has(
    messages: list[Message], pattern: re.Pattern[bytes], matches: Callable[[Block], bool]
) -> bool:
    """Return True if a message or a tool result contains a block that *matches*."""
    # The pattern avoids parsing messages without such a block.
    candidates = (message for message in messages if pattern.search(message.content))
    return any(
        _contains(block, matches) for message in candidates for block in blocks_of(message.content)
    )


def _contains(block: Block, matches: Callable[[Block], bool]) -> bool:
    if matches(block):
        return True
    if block.type != "tool_result" or not is_present(block.content):
        return False
    return any(matches(inner) for inner in blocks_of(block.content))


class _Source(msgspec.Struct):
    type: str = ""
    media_type: str | None = None


_SOURCE = msgspec.json.Decoder(_Source)


def _is_pdf(block: Block) -> bool:
    if block.type != "document" or not is_present(block.source):
        return False
    try:
        source = _SOURCE.decode(block.source)
    except NOT_JSON:
        return False
    return source.media_type == "application/pdf" or source.type == "url"
