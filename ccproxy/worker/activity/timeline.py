"""Messages about requests and moves of sessions; created only when needed."""

from __future__ import annotations

from collections.abc import Callable

from ccproxy.ipc.activity import RequestState, RequestTimeline
from ccproxy.ipc.control_messages import SessionMove
from ccproxy.keys.display import MoveView, describe_move_reason
from ccproxy.worker.server.access_record import CLIENT_LEFT, AccessRecord


def timeline_of(
    record: AccessRecord, *, label: str, is_running: bool, redact: Callable[[str], str]
) -> RequestTimeline:
    """Return the timeline of *record*, a request to the entry *label*."""
    usage = record.usage if record.has_begun or record.error is None else {}
    details = usage.get("output_tokens_details") or {}
    return RequestTimeline(
        id=record.request_id,
        label=label,
        state=_state(record, is_running=is_running),
        started=record.started_at,
        path=record.path,
        session=record.session,
        agent=record.agent,
        user=record.user,
        requested=record.requested,
        model=record.model,
        route=record.route,
        answered_by=record.answered_by,
        stream=record.stream,
        size=record.size,
        dropped=record.dropped,
        converted_s=_rounded(record.converted_after),
        sent_s=_rounded(record.sent_after),
        first_byte_s=_rounded(record.first_byte_after),
        total_s=round(record.elapsed, 4),
        key=record.key,
        attempts=record.attempts,
        failures=record.failures,
        chunks=record.chunks,
        pings=record.pings,
        status=record.status,
        error=record.error or "",
        reason=redact(record.reason) if record.reason else "",
        stop_reason=record.stop_reason or "",
        input=usage.get("input_tokens") or 0,
        cached=usage.get("cache_read_input_tokens") or 0,
        written=usage.get("cache_creation_input_tokens") or 0,
        output=usage.get("output_tokens") or 0,
        reasoning=details.get("thinking_tokens") or 0,
        cost=record.cost,
        cache_loss=record.cache_loss,
    )


def session_move(move: MoveView) -> SessionMove:
    """Return the message about a session that has moved to another key."""
    return SessionMove(
        session=move.session,
        source=move.source,
        target=move.target,
        cause=move.reason,
        reason=describe_move_reason(move.reason),
        cached_tokens_lost=move.tokens,
        at=move.at,
    )


def _state(record: AccessRecord, *, is_running: bool) -> RequestState:
    if is_running:
        return "running"
    if record.status == CLIENT_LEFT:
        return "client_left"
    return "failed" if record.failed else "done"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
