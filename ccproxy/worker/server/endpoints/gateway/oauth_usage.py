"""GET /api/oauth/usage: a gateway user's spending, in claude.ai's format."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from aiohttp import web

from ccproxy.errors import Problem
from ccproxy.keys.gateway.spending_notice import spending_report
from ccproxy.worker.peers.peer_request import budgets_of
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.json_response import json_response


async def oauth_usage(request: ClientRequest) -> web.Response:
    """Return the user's budgets in dollars; 404 if there are none."""
    # The same instant as in the limit headers: Claude Code compares them.
    report = spending_report((state, _iso(state.end)) for state in budgets_of(request))
    if report is None:
        raise Problem("not_found_error", "this user has no budget in dollars")
    response = json_response(report)
    response.headers["Cache-Control"] = "no-store"
    return response


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(math.ceil(moment), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
