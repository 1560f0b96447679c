"""
Answer a request with web searches in several rounds: model, search, model.

The model receives a function instead of the API's search tool; see `server_tool_loop.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from ccproxy.convert.added_features.media_blocks import Content
from ccproxy.convert.added_features.search_answer import (
    found_text,
    outcome_text,
    result_block,
)
from ccproxy.convert.added_features.search_results import SearchOutcome, failed
from ccproxy.convert.added_features.search_tool import SearchTool, without_search
from ccproxy.convert.added_features.server_tool_loop import (
    MAX_ROUNDS,
    PendingSearch,
    ServedTool,
    ServerToolLoop,
)
from ccproxy.protocol.json_splice import object_of

TOO_MANY: Final = "The limit of searches for this request is reached; answer with what was found."
_RESULT: Final = "web_search_tool_result"
_DESCRIPTION: Final = (
    "Search the web for current information. Returns titles, addresses and excerpts of pages. "
    "Cite the addresses that the answer uses."
)
_QUERY: Final = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What to search for"}},
    "required": ["query"],
}


def web_search_calls(name: str) -> ServedTool:
    """Return the web search as a function called *name*."""
    names = frozenset({"web_search"})
    return ServedTool(name=name, server_names=names, result=_RESULT, model_content=found_text)


class WebSearchLoop(ServerToolLoop):
    """The rounds of one request. Not reusable."""

    USAGE = "web_search_requests"

    def __init__(self, body: bytes, tool: SearchTool, *, new_id: Callable[[], str]) -> None:
        self._tool = tool
        self._left = tool.uses
        super().__init__(body, web_search_calls(tool.name), new_id=new_id)

    @property
    def body(self) -> bytes:
        """The request of this round."""
        function = None
        if self._rounds < MAX_ROUNDS:
            parameters = {"description": _DESCRIPTION, "input_schema": _QUERY}
            function = Raw(msgspec.json.encode({"name": self._tool.name, **parameters}))
        fields: dict[str, Any] = {**self._fields, "messages": self._messages, "stream": True}
        fields["tools"] = without_search(self._fields["tools"], function)
        if not fields["tools"]:
            del fields["tools"]
            fields.pop("tool_choice", None)
        elif self._rounds > 1 and "tool_choice" in fields:
            choice = object_of(bytes(fields["tool_choice"])) or {}
            choice.pop("name", None)  # a forced search would repeat forever
            fields["tool_choice"] = {**choice, "type": "auto"}
        return msgspec.json.encode(fields)

    def allowed(self) -> list[PendingSearch]:
        """Return the searches of the round that `max_uses` allows."""
        return [each for each in self.searches if each.query][: self._left]

    def resolve(self, outcomes: Sequence[SearchOutcome]) -> bytes:
        """Return the result blocks for the *outcomes* of the allowed searches, in order."""
        by_id = dict(zip((each.use_id for each in self.allowed()), outcomes, strict=True))
        self._left -= len(by_id)
        self._searched += sum(not outcome.error for outcome in outcomes)
        answers: list[tuple[Content, object]] = []
        for search in self.searches:
            outcome = by_id.get(search.use_id) or _refused(search)
            answers.append((result_block(search.use_id, outcome), outcome_text(outcome)))
        return self._resolve(answers)


def _refused(search: PendingSearch) -> SearchOutcome:
    if not search.query:
        return failed("The search has no query.", code="invalid_tool_input")
    return failed(TOO_MANY, code="max_uses_exceeded")
