"""
The only place that talks to the provider: key, headers, send, judge, retry.

Theory of operation: `send` takes a key, sends, and looks at the answer before it hands it out: a
whole answer is read, of a stream the first event. An error among these, also inside a 200, is
judged; the request goes to another key, is repeated, or ends with a Problem. So nothing is ever
sent twice of which the client has seen the beginning. From then on only the client decides: when
it leaves, the connection is closed at once and the permit goes back.

Time limits: 10 s to connect, REQUEST_TIMEOUT of silence before the first event, 900 s between two
reads, none in all.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from urllib.parse import urlsplit

import aiohttp
import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

from ccproxy.config.forward_proxy import proxy_for, unsupported_proxy
from ccproxy.config.secrets import masked_headers, masked_url, secrets_of
from ccproxy.config.worker import WorkerConfig
from ccproxy.convert.errors.causes import Cause
from ccproxy.convert.errors.classify import ProviderError
from ccproxy.errors import Problem
from ccproxy.keys.breaker import Breakers
from ccproxy.keys.pool import KeyPool, Lease
from ccproxy.keys.retry import RetryBudget, RetryPlan, Step
from ccproxy.keys.verdict import WORKS, Effect, Next, Verdict, judge
from ccproxy.protocol.headers import UpstreamHeaders
from ccproxy.providers.quirks import Api
from ccproxy.text import mask_key
from ccproxy.worker.upstream.answer import Answer, Reader, Refused, open_answer
from ccproxy.worker.upstream.connections import explain, open_wire
from ccproxy.worker.upstream.key_queue import Turns
from ccproxy.worker.upstream.wire import Headers, Wire

__all__ = ["Answer", "Outgoing", "Upstream"]


_KEY_EVENTS = {
    Effect.COOLDOWN: "key.cooldown",
    Effect.OUT: "key.out",
    Effect.REJECTED: "key.rejected",
}


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """One request to the provider, but for the key."""

    url: str
    body: bytes
    model: str
    stream: bool
    """What is asked for; the provider may answer otherwise."""
    api: Api | None = None
    """The dialect of the request; None: the worker's."""
    headers: Mapping[str, str]
    """Direct mode: the client's headers, of which only some are sent on. Otherwise: headers that
    depend on the content of the request."""
    client_key: str | None = None
    """The client's own key, where it is passed on instead of one of the pool's."""
    key_id: str | None = None
    """The only key to ask with, whatever is known about it: the user tests it."""
    hop: int = 0
    """How many proxies of ours the request has passed before this one."""


class Upstream:
    """The way to one provider."""

    def __init__(
        self,
        config: WorkerConfig,
        *,
        pool: KeyPool,
        log: FilteringBoundLogger | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._pool = pool
        self._turns = Turns(pool)
        self._log: FilteringBoundLogger = structlog.get_logger() if log is None else log
        self._clock = clock
        self._jitter = jitter
        self._budget = RetryBudget(clock=clock)
        self.breakers = Breakers(config.provider_name, clock=clock)
        self._is_watched = config.log_level == "DEBUG"
        self._is_near = config.base_url.startswith("http://")
        self._headers = UpstreamHeaders(config.auth, custom=config.custom_headers)
        self._secrets = secrets_of(config)
        self._proxy = proxy_for(config.base_url, config.upstream_proxy)
        self._wire: Wire | None = None

    async def open(self) -> None:
        """Prepare to connect; must be called inside the event loop."""
        self._wire = open_wire(self._config.ca_bundle, proxy=self._proxy)
        config = self._config
        if reason := unsupported_proxy(config.base_url, config.upstream_proxy):
            self._log.warning("upstream.proxy_ignored", reason=reason)

    async def close(self) -> None:
        """Close every connection."""
        if self._wire is not None:
            await self._wire.close()
            self._wire = None

    def send(self, outgoing: Outgoing) -> Asking:
        """
        Ask the provider, in `async with`; on leaving, the rest of the answer is given up.

        Entering raises Problem if the provider does not answer, after all that could be tried.
        """
        return Asking(self, outgoing)

    async def ask(self, outgoing: Outgoing) -> tuple[Answer, Lease]:
        """Ask the provider; both results must be given to `end`. Raises as `send` does."""
        ticket = self.breakers.enter(outgoing.model)
        self._budget.count_request()
        try:
            found = await self._ask(outgoing)
        except Refused as refused:
            # The breaker counts requests, not attempts, so it is told here only.
            if refused.verdict.is_unreachable:
                self.breakers.lose_connection(ticket, refused.problem.message)
            elif refused.verdict.provider_failed:
                self.breakers.fail(ticket, refused.problem.message)
            else:
                self.breakers.succeed(ticket)
            raise refused.problem from refused.__cause__
        except BaseException:  # no word about the provider: no key was free, or the client left
            self.breakers.abandon(ticket)
            raise
        self.breakers.succeed(ticket)
        return found

    def end(self, answer: Answer, lease: Lease) -> None:
        """Give up what is left of the *answer*, and the permit back."""
        answer.close()
        self._give_back(lease)

    # The attempts of one request...

    async def _ask(self, outgoing: Outgoing) -> tuple[Answer, Lease]:
        plan = RetryPlan(
            max_retries=self._config.max_retries, budget=self._budget, jitter=self._jitter
        )
        tried: set[str] = set()
        last: Refused | None = None
        attempts = 0
        while True:
            lease = await self._lease(outgoing, tried, last)
            attempts += 1
            try:
                answer = await self._attempt(outgoing, lease)
            except Refused as refused:
                self._settle(lease, refused.verdict)
                self._give_back(lease)
                step = plan.after(refused.verdict)
                self._note(refused, lease, attempts, step)
                if not step.again:
                    raise
                last = refused
                if step.other_key:
                    tried.add(lease.id)
                await asyncio.sleep(step.delay)
            except BaseException:  # whatever it is, the permit goes back
                self._give_back(lease)
                raise
            else:
                self._settle(lease, WORKS)
                answer.key, answer.attempts = lease.tail, attempts
                return answer, lease

    async def _lease(self, outgoing: Outgoing, tried: set[str], last: Refused | None) -> Lease:
        """Take a key; where there is none any more, say what the provider said last."""
        key, key_id = outgoing.client_key, outgoing.key_id
        named = key is not None or key_id is not None
        if named and last is not None and last.verdict.next is not Next.REPEAT:
            raise last
        if key_id is not None:
            return self._pool.take_key(key_id, outgoing.model)
        if key is not None:
            return Lease(secret=key, id="", tail=mask_key(key), model=outgoing.model)
        if len(self._pool) == 0:
            raise _no_key(self._config.provider_name)
        try:
            return await self._turns.take(outgoing.model, skip=tried)
        except Problem as problem:
            if last is None:
                raise
            if self._pool.has_one_key or last.verdict.next is Next.ONE_OTHER_KEY:
                raise last from problem
            text = last.problem.message
            raise self._pool.refusal(outgoing.model, skip=tried, last=text) from last

    def _settle(self, lease: Lease, verdict: Verdict) -> None:
        if lease.id:
            self._pool.settle(lease, verdict)

    def _give_back(self, lease: Lease) -> None:
        if lease.id:
            self._turns.give_back(lease)

    # ...and one of them.

    async def _attempt(self, outgoing: Outgoing, lease: Lease) -> Answer:
        """Send once, and look at what comes back."""
        if self._wire is None:
            raise RuntimeError("the way to the provider is not open")
        headers = self._headers_of(outgoing, lease)
        patience = self._config.request_timeout
        if self._is_watched:
            self._note_sent(outgoing, lease, headers)
        try:
            reply = await self._wire.post(outgoing.url, headers, outgoing.body, patience=patience)
            try:
                return await open_answer(reply, self._reader(outgoing))
            except BaseException:  # whatever it is, the connection must not linger
                reply.close()
                raise
        except aiohttp.ConnectionTimeoutError as error:
            raise self._unreachable(error) from error
        except TimeoutError as error:
            raise self._too_late() from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from error

    def _headers_of(self, outgoing: Outgoing, lease: Lease) -> Headers:
        # A base URL may lead back to one of us by a name that no check knows (G21).
        hop = (("x-ccproxy-hop", str(outgoing.hop + 1)),) if self._is_near else ()
        if (outgoing.api or self._config.api) != "messages":
            headers = self._headers.chat(
                lease.secret, stream=outgoing.stream, extra=outgoing.headers
            )
            return (*headers.items(), *hop)
        client = outgoing.headers.items()
        return (*self._headers.direct(lease.secret, client).items(), *hop)

    def _reader(self, outgoing: Outgoing) -> Reader:
        own = () if outgoing.client_key is None else (outgoing.client_key,)
        return Reader(
            self._config,
            outgoing.model,
            outgoing.body,
            (*self._secrets, *own),
            api=outgoing.api or self._config.api,
        )

    def _too_late(self) -> Refused:
        seconds = self._config.request_timeout
        text = f"{self._config.provider_name} sent nothing for {seconds:g} s (REQUEST_TIMEOUT)"
        problem = Problem("timeout_error", text)
        said = ProviderError(cause=Cause.TIMEOUT, problem=problem, status=504)
        # Whoever has waited for so long is not made to wait for it again.
        return Refused(said, replace(judge(said), next=Next.END))

    def _unreachable(self, error: Exception) -> Refused:
        host = urlsplit(self._config.base_url).netloc.rpartition("@")[2]
        name = self._config.provider_name
        who = name if name == host else f"{name} at {host}"
        text = f"no answer from {who}: {explain(error)}"
        problem = Problem("api_error", text, status=502)
        refusal = ProviderError(cause=Cause.SERVER, problem=problem, status=502)
        no_connection = isinstance(
            error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
        )
        return Refused(refusal, replace(judge(refusal), is_unreachable=no_connection))

    def _note_sent(self, outgoing: Outgoing, lease: Lease, headers: Headers) -> None:
        self._log.debug(
            "upstream.sent",
            url=masked_url(outgoing.url),
            model=outgoing.model,
            stream=outgoing.stream,
            bytes=len(outgoing.body),
            key=lease.tail,
            headers=masked_headers(headers, self._config.custom_headers),
        )

    def _note(self, refused: Refused, lease: Lease, attempt: int, step: Step) -> None:
        verdict = refused.verdict
        cause = verdict.cause.value if verdict.cause else ""
        self._log.warning(
            "upstream.refused",
            key=lease.tail,
            attempt=attempt,
            status=verdict.status,
            cause=cause,
            again=step.again,
            reason=refused.problem.message,
        )
        if lease.id and verdict.effect is not Effect.NONE and not self._pool.has_one_key:
            event = _KEY_EVENTS[verdict.effect]
            self._log.warning(event, key=lease.tail, id=lease.id, cause=cause, model=lease.model)


class Asking:
    """One request to the provider and its answer, as a context."""

    __slots__ = ("_answer", "_lease", "_outgoing", "_upstream")

    def __init__(self, upstream: Upstream, outgoing: Outgoing) -> None:
        self._upstream = upstream
        self._outgoing = outgoing

    async def __aenter__(self) -> Answer:
        self._answer, self._lease = await self._upstream.ask(self._outgoing)
        return self._answer

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._upstream.end(self._answer, self._lease)


def _no_key(provider: str) -> Problem:
    return Problem(
        "authentication_error",
        f"this proxy has no key of its own (PASS_CLIENT_KEY): set ANTHROPIC_AUTH_TOKEN to your key "
        f"for {provider}",
        should_retry=False,
    )
