"""
Sends a request to the provider, in as many attempts as necessary.

`send` leases a key, sends the request, and checks the answer before returning it. An error, even
one inside a 200 or at the beginning of a stream, gets a verdict: the request is sent with another
key, is repeated, or ends with a Problem. No request is repeated once the content of its answer has
begun. If the client disconnects, the connection is closed at once and the lease is released.

The time limits are 10 s to connect, REQUEST_TIMEOUT for silence before the first content and 900 s
for silence after it; there is none for the whole answer.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import aiohttp
import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

from ccproxy.config.forward_proxy import proxy_for, unsupported_proxy
from ccproxy.config.secrets import masked_headers, masked_url, secrets_of
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.convert.errors.causes import Cause
from ccproxy.convert.errors.classify import ProviderError
from ccproxy.errors import Problem
from ccproxy.keys.breaker import Breakers
from ccproxy.keys.display import MoveView
from ccproxy.keys.pool import KeyPool, Lease
from ccproxy.keys.rate_headers import cooldown_of
from ccproxy.keys.retry import RetryBudget, RetryPlan, Step
from ccproxy.keys.sessions import SessionRef
from ccproxy.keys.verdict import WORKS, Effect, Next, Verdict, judge
from ccproxy.protocol.headers import UpstreamHeaders
from ccproxy.providers.quirks import Api
from ccproxy.text import mask_key
from ccproxy.worker.upstream.connections import explain, open_transport
from ccproxy.worker.upstream.key_queue import KeyQueue, LeaseQueue
from ccproxy.worker.upstream.provider_answer import (
    AttemptFailed,
    ErrorReader,
    ProviderAnswer,
    open_answer,
)
from ccproxy.worker.upstream.transport import Headers, HttpTransport

__all__ = ["Outgoing", "ProviderAnswer", "ProviderClient"]

COUNT_SECONDS = 10.0
"""Time limit for a request on which the answer to the client does not depend."""


_KEY_EVENTS = {
    Effect.COOLDOWN: "key.cooldown",
    Effect.OUT: "key.out",
    Effect.REJECTED: "key.rejected",
}


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """One request to the provider, without its key."""

    url: str
    body: bytes
    model: str
    stream: bool
    """Whether a stream is requested; the provider might not return one."""
    headers: Mapping[str, str]
    """Extra headers that depend on the content of the request."""
    client_headers: Mapping[str, str] = {}
    """The client's headers, some of which are forwarded in direct mode."""
    client_key: str | None = None
    """The client's own key, if it is used instead of a key from the pool."""
    api: Api | None = None
    """The dialect of the request; None for the worker's dialect."""
    key_id: str | None = None
    """The only key to use, regardless of its state, because the user is testing it."""
    session: SessionRef | None = None
    """The session for which the key is chosen; None if any key may be used."""
    hop: int = 0
    """How many proxies of the fleet the request has passed through."""
    may_repeat: bool = True
    """False if the client is repeating the request itself: each key then gets one attempt."""
    confirm: Callable[[], Awaitable[None]] | None = None
    """Called once a key has been leased; raises Problem if other hosts have spent the budget."""
    on_attempt: Callable[[str], None] = lambda _key: None
    """Called with the masked key each time the request is sent."""
    on_failure: Callable[[Lease, AttemptFailed, Step], None] = lambda _lease, _failure, _step: None
    """Called after each failed attempt, with the next step."""
    on_move: Callable[[MoveView], None] = lambda _move: None
    """Called if the request's session moves to another key."""


class ProviderClient:
    """Sends requests to one provider."""

    def __init__(
        self,
        config: WorkerConfig,
        *,
        pool: KeyPool,
        queue: LeaseQueue | None = None,
        log: FilteringBoundLogger | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Use *queue* to lease keys; by default, the state of the keys is local to this machine."""
        self._config = config
        self._pool = pool
        self._queue = queue or KeyQueue(pool, wait_seconds=config.key_wait)
        self._log: FilteringBoundLogger = structlog.get_logger() if log is None else log
        self._clock = clock
        self._jitter = jitter
        self._budget = RetryBudget(clock=clock)
        self.limit_headers: dict[str, tuple[float, Mapping[str, str]]] = {}
        """For each key, the arrival time and the headers of its last answer."""
        self.on_key_wait: Callable[[float], None] = lambda _seconds: None
        self.breakers = Breakers(config.provider_name, clock=clock)
        self._logs_requests = config.log_level == "DEBUG"
        self._is_plain_http = config.base_url.startswith("http://")
        self._headers = UpstreamHeaders(config.auth, custom=config.custom_headers)
        self._secrets = secrets_of(config)
        self._proxy = proxy_for(config.base_url, config.upstream_proxy)
        self._transport: HttpTransport | None = None

    async def open(self) -> None:
        """Prepare to connect; must be called inside the event loop."""
        config = self._config
        if reason := unsupported_proxy(config.base_url, config.upstream_proxy):
            self._log.warning("upstream.proxy_ignored", reason=reason)
        self._transport = open_transport(config.ca_bundle, proxy=self._proxy)

    async def close(self) -> None:
        """Close every connection."""
        if self._transport is not None:
            await self._transport.close()
            self._transport = None

    @asynccontextmanager
    async def send(self, outgoing: Outgoing) -> AsyncIterator[ProviderAnswer]:
        """Send a request; on exit, drop the rest of the answer. Raise the errors of `request`."""
        answer, lease = await self.request(outgoing)
        try:
            yield answer
        finally:
            self.end(answer, lease)

    async def request(self, outgoing: Outgoing) -> tuple[ProviderAnswer, Lease]:
        """
        Send a request; both results must be passed to `end`.

        Raises:
            Problem: If no attempt succeeded.
        """
        ticket = self.breakers.enter(outgoing.model)
        self._budget.count_request()
        try:
            result = await self._try(outgoing)
        except AttemptFailed as failure:
            # The breaker counts requests, not attempts.
            if failure.verdict.is_unreachable:
                if not self.breakers.lose_connection(ticket, failure.problem.message):
                    failure.problem.should_retry = False
            elif failure.verdict.provider_failed:
                self.breakers.fail(ticket, failure.problem.message)
            else:
                self.breakers.succeed(ticket)
            raise failure.problem from failure.__cause__
        except BaseException:  # no evidence: no key, or a disconnect
            self.breakers.abandon(ticket)
            raise
        self.breakers.succeed(ticket)
        return result

    def end(self, answer: ProviderAnswer, lease: Lease) -> None:
        """Discard the rest of *answer* and release the key."""
        answer.close()
        self._release(lease)

    async def request_aside(
        self, outgoing: Outgoing, *, is_cut: bool = False, seconds: float = COUNT_SECONDS
    ) -> bytes:
        """
        Return the answer to a request that does not affect other requests, even if it fails.

        It changes neither the state of the keys nor the breaker or the retry budget. If *is_cut*, a
        stream is abandoned at its first content.

        Raises:
            Problem: If there is no answer.
        """
        secret = outgoing.client_key or self._pool.peek(outgoing.model)
        if secret is None:
            raise self._pool.refusal(outgoing.model)
        lease = Lease(secret=secret, id="", tail=mask_key(secret), model=outgoing.model)
        try:
            async with asyncio.timeout(seconds):
                answer = await self._attempt(outgoing, lease)
                try:
                    return answer.first if is_cut else await answer.read()
                finally:
                    answer.close()
        except AttemptFailed as failure:
            raise failure.problem from failure
        except TimeoutError as error:
            raise Problem("timeout_error", f"no answer within {seconds:g} s") from error

    # All attempts of one request.

    async def _try(self, outgoing: Outgoing) -> tuple[ProviderAnswer, Lease]:
        plan: RetryPlan | None = None
        tried: set[str] = set()
        last: AttemptFailed | None = None
        attempts = 0
        while True:
            lease = await self._lease(outgoing, tried, last)
            attempts += 1
            try:
                if outgoing.confirm is not None:
                    await outgoing.confirm()
                answer = await self._attempt(outgoing, lease)
            except AttemptFailed as failure:
                self._settle(outgoing, lease, failure.verdict)
                self._release(lease)
                plan = plan or self._retry_plan(outgoing)
                step = plan.after(failure.verdict)
                self._log_failure(failure, lease, attempts, step)
                outgoing.on_failure(lease, failure, step)
                if not step.again:
                    raise
                last = failure
                if step.other_key:
                    tried.add(lease.id)
                await asyncio.sleep(step.delay)
            except BaseException:  # in any case, the key must be released
                self._release(lease)
                raise
            else:
                self._settle(outgoing, lease, WORKS)
                self._note_limits(lease, answer.headers)
                return answer, lease

    def _retry_plan(self, outgoing: Outgoing) -> RetryPlan:
        return RetryPlan(
            max_retries=self._config.max_retries if outgoing.may_repeat else 0,
            budget=self._budget,
            jitter=self._jitter,
        )

    async def _lease(
        self, outgoing: Outgoing, tried: set[str], last: AttemptFailed | None
    ) -> Lease:
        """Lease a key; if none is left, raise the last failure."""
        key, key_id = outgoing.client_key, outgoing.key_id
        is_fixed = key is not None or key_id is not None
        if is_fixed and last is not None and last.verdict.next is not Next.REPEAT:
            raise last
        if key_id is not None:
            return self._pool.take_key(key_id, outgoing.model)
        if key is not None:
            return Lease(secret=key, id="", tail=mask_key(key), model=outgoing.model)
        if len(self._pool) == 0:
            raise _no_key(self._config.provider_name)
        asked_at = self._clock()
        try:
            lease = await self._queue.take(outgoing.model, skip=tried, session=outgoing.session)
        except Problem as problem:
            if last is None:
                raise
            if self._pool.has_one_key or last.verdict.next is Next.ONE_OTHER_KEY:
                raise last from problem
            raise self._pool.refusal(outgoing.model, skip=tried, last=last.problem) from last
        self.on_key_wait(self._clock() - asked_at)
        return lease

    def _settle(self, outgoing: Outgoing, lease: Lease, verdict: Verdict) -> None:
        if not lease.id or (move := self._pool.settle(lease, verdict)) is None:
            return
        view = self._pool.view_move(move)
        self._log.info(
            "session.moved",
            session=view.session,
            source=view.source,
            target=view.target,
            reason=view.reason,
            cached_tokens_lost=view.tokens,
        )
        outgoing.on_move(view)

    def _note_limits(self, lease: Lease, headers: Mapping[str, str]) -> None:
        """Store the headers of the key's last answer; cool the key down if its limit is used up."""
        if not lease.id:
            return
        now = time.time()
        self.limit_headers[lease.id] = (now, headers)
        if (seconds := cooldown_of(headers, now)) is not None:
            self._pool.start_cooldown(lease, seconds)

    def _release(self, lease: Lease) -> None:
        if lease.id:
            self._queue.release(lease)

    # A single attempt.

    async def _attempt(self, outgoing: Outgoing, lease: Lease) -> ProviderAnswer:
        """Send the request once and check the answer."""
        if self._transport is None:
            raise RuntimeError("the client is not open")
        headers = self._headers_of(outgoing, lease)
        if self._logs_requests:
            self._log_request(outgoing, lease, headers)
        try:
            reply = await self._transport.post(
                outgoing.url,
                headers,
                outgoing.body,
                patience=self._config.request_timeout,
                on_send=lambda: outgoing.on_attempt(lease.tail),
            )
            try:
                return await open_answer(reply, self._error_reader(outgoing, lease))
            except BaseException:  # in any case, the connection must not leak
                reply.close()
                raise
        except aiohttp.ConnectionTimeoutError as error:
            raise self._unreachable(error) from error
        except TimeoutError as error:
            raise self._timed_out() from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from error

    def _headers_of(self, outgoing: Outgoing, lease: Lease) -> Headers:
        # A base URL may lead back to this fleet under a name that no check recognizes.
        hop = (("x-ccproxy-hop", str(outgoing.hop + 1)),) if self._is_plain_http else ()
        if (outgoing.api or self._config.api) != "messages":
            headers = self._headers.chat(
                lease.secret, stream=outgoing.stream, extra=outgoing.headers
            )
            return (*headers.items(), *hop)
        client = outgoing.client_headers.items()
        headers = self._headers.direct(lease.secret, client, extra=outgoing.headers)
        return (*headers.items(), *hop)

    def _error_reader(self, outgoing: Outgoing, lease: Lease) -> ErrorReader:
        own = () if outgoing.client_key is None else (outgoing.client_key,)
        return ErrorReader(
            self._config,
            outgoing.model,
            outgoing.body,
            (*self._secrets, *own),
            api=outgoing.api or self._config.api,
            key=lease.tail,
        )

    def _timed_out(self) -> AttemptFailed:
        seconds = self._config.request_timeout
        text = f"{self._config.provider_name} sent nothing for {seconds:g} s (REQUEST_TIMEOUT)"
        problem = Problem("timeout_error", text)
        cause = ProviderError(cause=Cause.TIMEOUT, problem=problem, status=504)
        # A client that has already waited this long should not have to wait as long again.
        return AttemptFailed(cause, replace(judge(cause), next=Next.END))

    def _unreachable(self, error: Exception) -> AttemptFailed:
        host = urlsplit(self._config.base_url).netloc.rpartition("@")[2]
        name = self._config.provider_name
        provider = name if name == host else f"{name} at {host}"
        problem = Problem("api_error", f"no answer from {provider}: {explain(error)}", status=502)
        cause = ProviderError(cause=Cause.SERVER, problem=problem, status=502)
        no_connection = isinstance(
            error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
        )
        return AttemptFailed(cause, replace(judge(cause), is_unreachable=no_connection))

    def _log_request(self, outgoing: Outgoing, lease: Lease, headers: Headers) -> None:
        self._log.debug(
            "upstream.sent",
            url=masked_url(outgoing.url),
            model=outgoing.model,
            stream=outgoing.stream,
            bytes=len(outgoing.body),
            key=lease.tail,
            headers=masked_headers(headers, self._config.custom_headers),
        )

    def _log_failure(self, failure: AttemptFailed, lease: Lease, attempt: int, step: Step) -> None:
        verdict = failure.verdict
        cause = verdict.cause.value if verdict.cause else ""
        self._log.warning(
            "upstream.refused",
            key=lease.tail,
            attempt=attempt,
            status=verdict.status,
            cause=cause,
            again=step.again,
            reason=failure.problem.message,
        )
        if lease.id and verdict.effect is not Effect.NONE and not self._pool.has_one_key:
            event = _KEY_EVENTS[verdict.effect]
            self._log.warning(event, key=lease.tail, id=lease.id, cause=cause, model=lease.model)


def _no_key(provider: str) -> Problem:
    return Problem(
        "authentication_error",
        f"this proxy has no key of its own (PASS_CLIENT_KEY): set ANTHROPIC_AUTH_TOKEN to your key "
        f"for {provider}",
        should_retry=False,
    )
