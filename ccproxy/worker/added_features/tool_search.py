"""Requests with more tools than the provider takes: rounds of the model and of a tool search."""

from __future__ import annotations

from ccproxy.convert.added_features.deferred_tools import ToolPlan, tool_plan
from ccproxy.convert.added_features.search_answer import USE_PREFIX
from ccproxy.convert.added_features.tool_search_loop import ToolSearchLoop
from ccproxy.convert.direct.passthrough import Passthrough
from ccproxy.convert.exchange import Exchange
from ccproxy.worker.added_features.model_round import ModelRound, Take
from ccproxy.worker.server.http import ClientRequest


class ToolSearchRounds:
    """Rounds of model and tool search as one source of Messages events."""

    is_over = True

    def __init__(self, request: ClientRequest, body: bytes, plan: ToolPlan) -> None:
        self._request = request
        self._loop = ToolSearchLoop(body, plan, new_id=lambda: request.worker.new_id(USE_PREFIX))
        self._round = ModelRound(request, self._loop.body)

    @property
    def exchange(self) -> Exchange | Passthrough:
        """The last request to the model."""
        return self._round.exchange

    async def pump(self, take: Take) -> bool:
        """Run the rounds; resumes where *take* stopped."""
        loop = self._loop

        def feed(data: bytes) -> bool:
            events = loop.feed(data)
            return take(events) if events else True

        while True:
            if not await self._round.pump(feed):
                return False
            loop.end_round()
            await self._round.close()
            continues = loop.needs_round
            if loop.searches:
                self._log()
                take(loop.search())
            if not continues:
                break
            self._round = ModelRound(self._request, loop.body)
        take(loop.close())
        return True

    async def close(self) -> None:
        """Drop the rest of the round's answer."""
        await self._round.close()

    def _log(self) -> None:
        self._request.worker.logs.events.info(
            "tools.searched",
            request=self._request.record.request_id,
            searches=len(self._loop.searches),
        )


def model_rounds(request: ClientRequest, body: bytes) -> ModelRound | ToolSearchRounds:
    """Return the source of the answer to *body*, with a search if tools must be held back."""
    made = ModelRound(request, body)
    exchange = made.exchange
    if isinstance(exchange, Exchange) and exchange.defers_tools:
        plan = tool_plan(exchange.asked, exchange.target.quirks.max_tools)
        if plan is not None:
            return ToolSearchRounds(request, exchange.asked, plan)
    return made
