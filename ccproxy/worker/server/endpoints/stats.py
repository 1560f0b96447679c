"""GET /v1/stats: tokens and costs since this worker started, and across all its replicas."""

from __future__ import annotations

from datetime import UTC, datetime

from aiohttp import web

from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.json_response import json_response


async def stats(request: ClientRequest) -> web.Response:
    """Return the totals."""
    counter, shared = request.worker.session.usage, request.worker.shared_pool
    totals, started = counter.totals, request.worker.started
    elapsed = datetime.now(UTC).timestamp() - started
    body = {
        "session_duration_seconds": round(max(0.0, elapsed), 3),
        "total_requests": totals.requests,
        "total_input_tokens": totals.input,
        "total_output_tokens": totals.output,
        "total_tokens": totals.input + totals.output,
        "total_cache_creation_tokens": totals.written,
        "total_cache_read_tokens": totals.cached,
        "total_reasoning_tokens": totals.reasoning,
        "model_usage_count": dict(counter.requests_by_model),
        "session_start_time": datetime.fromtimestamp(started, UTC).isoformat(),
        "total_errors": totals.errors,
        "total_cost_usd": totals.known_cost,
        "unpriced_requests": totals.unpriced,
        **({} if shared is None else {"all_replicas": shared.usage.as_json()}),
    }
    return json_response(body)
