"""Handle requests with more tools than the provider accepts by adding a tool-search tool."""

from __future__ import annotations

from ccproxy.convert.added_features.deferred_tools import ToolPlan, tool_plan
from ccproxy.convert.added_features.search_answer import USE_PREFIX
from ccproxy.convert.added_features.tool_search_loop import ToolSearchLoop
from ccproxy.convert.exchange import Exchange
from ccproxy.worker.added_features.model_round import AnswerSource, ModelRound, ModelRounds
from ccproxy.worker.server.http import ClientRequest


class ToolSearchRounds(ModelRounds):
    """A source that alternates between the model and the tool search."""

    def __init__(self, request: ClientRequest, body: bytes, plan: ToolPlan) -> None:
        self._tools = ToolSearchLoop(body, plan, new_id=lambda: request.worker.new_id(USE_PREFIX))
        super().__init__(request, self._tools)

    def _open(self, body: bytes) -> AnswerSource:
        return ModelRound(self._request, body)

    async def _search(self) -> bytes:
        self._request.worker.logs.events.info(
            "tools.searched",
            request=self._request.record.request_id,
            searches=len(self._tools.searches),
        )
        return self._tools.search()


def model_rounds(request: ClientRequest, body: bytes) -> AnswerSource:
    """Return the source for the answer to *body*, with a tool search if tools are deferred."""
    made = ModelRound(request, body)
    exchange = made.exchange
    if isinstance(exchange, Exchange) and exchange.defers_tools:
        plan = tool_plan(exchange.asked, exchange.target.quirks.max_tools)
        if plan is not None:
            return ToolSearchRounds(request, exchange.asked, plan)
    return made
