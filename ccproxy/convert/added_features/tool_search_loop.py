"""
Answer a request with deferred tools in several rounds: model, tool search, model.

Searches and their results appear in the client's answer as blocks of the API's tool search. The
client returns these blocks in later turns, so the model knows which tools it has found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ccproxy.convert.added_features.deferred_tools import ToolPlan
from ccproxy.convert.added_features.media_blocks import Content
from ccproxy.convert.added_features.search_answer import use_block
from ccproxy.convert.added_features.server_tool_loop import (
    MAX_ROUNDS,
    PendingSearch,
    ServedTool,
    ServerToolLoop,
)

SERVER_NAME = "tool_search_tool_bm25"
RESULT = "tool_search_tool_result"
_NAMES = frozenset({SERVER_NAME, "tool_search_tool_regex"})
_MAX_SEARCHES = 64
"""The maximum number of searches per answer; further ones find nothing."""
_NOTHING = "No tool fits. Try other words, or continue without one."


class ToolSearchLoop(ServerToolLoop):
    """The rounds of one request. Not reusable."""

    USAGE = "tool_search_requests"

    def __init__(self, body: bytes, plan: ToolPlan, *, new_id: Callable[[], str]) -> None:
        self._plan = plan
        self._found: list[str] = []
        tool = ServedTool(
            name=plan.function, server_names=_NAMES, result=RESULT, model_content=_given_content
        )
        super().__init__(body, tool, new_id=new_id)

    @property
    def body(self) -> bytes:
        """The request of this round."""
        searches = self._rounds < MAX_ROUNDS
        fields: dict[str, Any] = {**self._fields, "messages": self._messages, "stream": True}
        fields["tools"] = self._plan.tools(self._found, searches=searches)
        return msgspec.json.encode(fields)

    def search(self) -> bytes:
        """Run the searches of the round, and return their result blocks."""
        answers: list[tuple[Content, object]] = []
        for search in self.searches:
            names = self._plan.find(search.query) if self._searched < _MAX_SEARCHES else []
            self._found += names
            self._searched += 1
            references = [{"type": "tool_reference", "tool_name": name} for name in names]
            content = {"type": "tool_search_tool_search_result", "tool_references": references}
            block = {"type": RESULT, "tool_use_id": search.use_id, "content": content}
            answers.append((block, _given_content(content)))
        return self._resolve(answers)

    def _use_block(self, search: PendingSearch) -> Content:
        return use_block(search.use_id, SERVER_NAME, search.query)


def _given_content(content: object) -> object:
    """Return the `tool_result` content for the *content* of a result block."""
    if not isinstance(content, dict):
        return _NOTHING
    if "error_code" in content:
        return f"The search failed: {content['error_code']}"
    return content.get("tool_references") or _NOTHING
