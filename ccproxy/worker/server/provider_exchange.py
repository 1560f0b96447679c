"""Steps before and after a request to the provider, common to all endpoints that send one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Protocol

from ccproxy.convert.exchange import Exchange
from ccproxy.convert.stream_converter import StreamConverter
from ccproxy.errors import Problem
from ccproxy.keys.session_identity import Conversation, find_session
from ccproxy.keys.sessions import SessionRef
from ccproxy.providers.quirks import Api
from ccproxy.worker.accounting.payers import confirm, settle, user_named_by
from ccproxy.worker.peers.peer_request import client_of, payer_of, without_limits
from ccproxy.worker.server.authentication import offered_keys
from ccproxy.worker.server.error_response import SHUTTING_DOWN, redacted
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.upstream.provider_client import Outgoing, ProviderAnswer
from ccproxy.worker.upstream.recorded_answer import RecordedAnswer
from ccproxy.worker.worker import Worker

MAX_TRACEPARENT = 128
"""Maximum bytes of the header that identifies the client's span; a valid one has 55."""
ANTHROPIC_KEY_PREFIX = "sk-ant-"
MAX_REVISIONS = 3
"""Maximum number of times a request is changed after refusals; each refusal names one fault."""
RETRY_COUNT_HEADER = "x-stainless-retry-count"
"""Sent by the Anthropic and OpenAI SDKs: how many times they have repeated the request."""


class ModelExchange(Protocol):
    """The common interface of chat mode's `Exchange` and direct mode's `Passthrough`."""

    requested: str
    model: str
    body: bytes
    streams: bool
    asks_stream: bool
    stop_reason: str | None
    api: Api

    @property
    def asked(self) -> bytes:
        """The request that is converted or passed on; empty if it was not kept."""

    @property
    def dropped(self) -> tuple[str, ...]:
        """The parts of the request that are not sent to the provider."""

    @property
    def known_dropped(self) -> tuple[str, ...]:
        """Like `dropped`, but without unknown fields, which are costly to find."""

    @property
    def usage(self) -> Mapping[str, Any]:
        """The token counts of the answer that are known so far."""

    def conversation(self) -> Conversation | None:
        """Return the parts of the request that identify its conversation."""


class ConvertedExchange(ModelExchange, StreamConverter, Protocol):
    """An exchange that makes the provider's request and the client's answer."""

    headers: Mapping[str, str]

    @property
    def removed_reasoning(self) -> tuple[str, ...]:
        """Why the provider removed reasoning from the request, one reason for each item."""

    def whole(self, body: bytes) -> bytes:
        """Convert a whole answer. Raises Problem if it is an error."""

    def revise(self, problem: Problem) -> bool:
        """Change the part that *problem* refuses; return False if nothing can be changed."""


def admit(request: ClientRequest, requested: str, model: str, *, stream: bool, size: int) -> None:
    """
    Add a model request to the access record, and reserve its budget.

    *size* is the length of its body in bytes.

    Raises:
        Problem: If a budget does not allow it.
    """
    record, worker = request.record, request.worker
    record.begin_model_request(requested, model, stream=stream)
    if worker.config.services.traces is not None:
        record.traceparent = request.headers.get("traceparent", "")[:MAX_TRACEPARENT]
    worker.activity.start(record)
    if not record.shares:
        client, payer = payer_of(request)
        if payer and not record.user:
            record.user = user_named_by(payer)
        record.shares = worker.payers.reserve(client, payer, model=model, size=size)


def converted(request: ClientRequest, body: bytes, dropped: tuple[str, ...] = ()) -> Exchange:
    """Return the exchange that converts *body*, for the model that was chosen."""
    worker, chosen = request.worker, request.chosen
    return Exchange(
        body,
        rules=worker.rules,
        message_id=worker.new_id("msg"),
        model=chosen.model if chosen else None,
        requested=chosen.requested if chosen else "",
        request_id=request.record.request_id,
        dropped=dropped,
    )


def begin_exchange(request: ClientRequest, exchange: ModelExchange) -> None:
    """Admit the model request, and log what conversion dropped; raises like `admit`."""
    model, size = exchange.model, len(exchange.body)
    admit(request, exchange.requested, model, stream=exchange.streams, size=size)
    request.record.drop(exchange.known_dropped)
    if request.worker.config.log_level != "DEBUG":
        return  # listing the dropped parts costs more than the rest of a small request
    request.worker.logs.requests.debug(
        "request.converted",
        request=request.record.request_id,
        requested=exchange.requested,
        model=exchange.model,
        bytes=len(exchange.body),
        dropped=exchange.dropped,
        client_headers=tuple(request.headers),
    )


def end_exchange(request: ClientRequest, exchange: ModelExchange) -> None:
    """Record the answer's token counts and stop reason, and the parts that were not sent."""
    request.record.drop(exchange.known_dropped)
    request.record.end_model_request(exchange.usage, exchange.stop_reason)


def end_converted(request: ClientRequest, exchange: ConvertedExchange) -> None:
    """
    Record and log the end of a converted request.

    Reasoning that the provider removed is logged: the answer looks normal, but is worse and costs
    more, because something before that reasoning has changed since it was generated.
    """
    end_exchange(request, exchange)
    if request.worker.auto_probe is not None and exchange.stop_reason is not None:
        request.worker.auto_probe.note_answer(exchange.model, exchange.api)
    if reasons := exchange.removed_reasoning:
        worker = request.worker
        worker.removed_reasoning += len(reasons)
        worker.logs.events.warning(
            "reasoning.removed",
            request=request.record.request_id,
            model=exchange.model,
            count=len(reasons),
            reasons=sorted(set(reasons)),
            total=worker.removed_reasoning,
        )


def finish_record(request: ClientRequest, *, counts: bool) -> None:
    """
    Log a request that has ended; a failure here does not undo the response.

    If *counts*, a model request is included in statistics, history and budgets.
    """
    worker, record = request.worker, request.record
    used = None
    try:
        record.finish(worker.logs.requests)
        if counts and record.requested:
            used = worker.session.note(record, request.headers)
            if worker.shared_pool is not None and used is not None:
                worker.shared_pool.usage.add(used)
            worker.activity.finish(record, request.read_prompt)
            if record.user:
                worker.logs.events.info("audit.request", **record.audit_fields(worker.config.label))
        if record.session:
            worker.session.clients.end(record)
    except Exception:  # noqa: BLE001 - the client has its response already
        worker.logs.events.exception("request.unrecorded", request=record.request_id)
    try:
        settle(record.shares, used)
    except Exception:  # noqa: BLE001 - as above
        worker.logs.events.exception("request.unrecorded", request=record.request_id)


def outgoing(
    request: ClientRequest,
    exchange: ModelExchange,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
) -> Outgoing:
    """Return the request to send to the provider."""
    worker, record = request.worker, request.record
    if record.bodies is not None:
        record.bodies.sent = exchange.body
    is_shared = record.shares and worker.shared_pool is not None
    return Outgoing(
        url=url,
        body=exchange.body,
        model=exchange.model,
        api=exchange.api,
        stream=exchange.asks_stream,
        headers=headers or {},
        client_headers=request.headers,
        client_key=passed_key(request),
        hop=request.chosen.hop if request.chosen else 0,
        may_repeat=may_repeat(request),
        confirm=(lambda: confirm(record.shares)) if is_shared else None,
        on_attempt=record.attempt,
        on_failure=request.attempt_failed,
        on_move=request.worker.activity.move_session,
        session=session_of(request, exchange),
    )


def session_of(request: ClientRequest, exchange: ModelExchange) -> SessionRef | None:
    """Return the session that determines the key of *request*, or None if any key will do."""
    worker = request.worker
    if not worker.pool.keeps_sessions:
        return None
    affinity, size = worker.config.key_policy.affinity, len(exchange.body)
    return find_session(
        request.headers,
        exchange.conversation,
        affinity=affinity,
        size=size,
        client=client_of(request),
    )


def sent(
    request: ClientRequest, exchange: ConvertedExchange
) -> AbstractAsyncContextManager[ProviderAnswer | RecordedAnswer]:
    """Send a converted request, and resend it without any parts that the provider refuses."""
    worker = request.worker

    def revise(problem: Problem) -> bool:
        if not exchange.revise(problem):
            return False
        worker.logs.events.info(
            "request.revised", model=exchange.model, api=exchange.api, reason=problem.message
        )
        if worker.auto_probe is not None:
            worker.auto_probe.note_refusal(exchange.model, exchange.api)
        return True

    def outgoing_now() -> Outgoing:
        url = worker.config.model_url(exchange.model, exchange.api)
        return outgoing(request, exchange, url, headers=exchange.headers)

    return sent_with_revisions(request, exchange, outgoing_now, revise)


@asynccontextmanager
async def sent_with_revisions(
    request: ClientRequest,
    exchange: ModelExchange,
    outgoing_now: Callable[[], Outgoing],
    revise: Callable[[Problem], bool],
) -> AsyncIterator[ProviderAnswer | RecordedAnswer]:
    """
    Send what *outgoing_now* returns and yield its answer.

    After a refusal, the request is sent again if *revise* changed it. This is a different request,
    so it does not count toward MAX_RETRIES.
    """
    upstream = request.worker.upstream
    for revision in range(MAX_REVISIONS + 1):
        try:
            answer, lease = await upstream.request(outgoing_now())
            break
        except Problem as problem:
            if revision == MAX_REVISIONS or not revise(problem):
                raise
    try:
        yield recorded(request, exchange, answer)
    finally:
        upstream.end(answer, lease)


def recorded(
    request: ClientRequest, exchange: ModelExchange, answer: ProviderAnswer
) -> ProviderAnswer | RecordedAnswer:
    """Return *answer*, wrapped to keep its bytes if exchanges are recorded."""
    if not (request.worker.session.recorder.is_on and exchange.asked):
        return answer
    recorded_answer = RecordedAnswer(exchange, answer)
    request.record.recorded_answers.append(recorded_answer)
    return recorded_answer


def may_repeat(request: ClientRequest) -> bool:
    """
    Return False if the client is repeating the request itself.

    Retries in two layers multiply: three attempts by an SDK times three by ccproxy make nine.
    """
    return request.headers.get(RETRY_COUNT_HEADER, "0") == "0"


def passed_key(request: ClientRequest) -> str | None:
    """
    Return the client's own key if it is to be sent to the provider.

    If there are several, x-api-key comes first, as in Anthropic's API. An Anthropic key is sent
    to Anthropic only, regardless of the configuration; keys of the proxy and placeholders are never
    sent.
    """
    config = request.worker.config
    if not config.pass_client_key:
        return None
    is_own = request.worker.authenticator.is_own
    keys = [key for key in offered_keys(request.headers) if not is_own(key)]
    if not config.takes_anthropic_keys:
        keys = [key for key in keys if not key.startswith(ANTHROPIC_KEY_PREFIX)]
    return keys[0] if keys else None


def noted(request: ClientRequest, problem: Problem) -> Problem:
    """Record *problem*, and return the version of it that the client may see."""
    if problem.refusal is not None:
        problem.headers = tuple(without_limits(request, problem.headers))
    problem = redacted(problem, request.worker.logs.redact)
    request.record.fail(problem)
    return problem


@contextmanager
def shutdown_as_problem(worker: Worker) -> Iterator[None]:
    """Turn the cancellation at worker shutdown into a Problem for the client."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if not worker.requests.ending or task is None:
            raise
        task.uncancel()
        raise Problem("overloaded_error", SHUTTING_DOWN) from None
