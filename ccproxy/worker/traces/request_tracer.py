"""
A span for each request to a model, with a child span for each attempt at the provider.

The attributes are those of OpenTelemetry's GenAI conventions (docs/gen-ai/gen-ai-spans.md of
open-telemetry/semantic-conventions-genai, November 2026): models, counts, times and causes, but no
content, keys or error texts. Spans are created from the access record after a request has ended, so
that tracing does not slow down a running request. The span in the client's `traceparent` header is
the parent.

The SDK sends spans in batches from its own thread. Batches that the collector does not accept are
dropped; only the first failure is logged.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.typing import FilteringBoundLogger

from ccproxy import __version__
from ccproxy.config.services.monitoring_addresses import TracesAddress
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.worker.server.access_record import CLIENT_LEFT, AccessRecord

SEND_SECONDS = 5.0
"""Time limit for sending a batch, and for sending the remaining ones when the worker exits."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "gemini": "gcp.gemini",
    "kimi": "moonshot_ai",
    "kimi-code": "moonshot_ai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""The names in the conventions for provider presets that have a different name in ccproxy."""
_READ, _WRITTEN = "cache_read_input_tokens", "cache_creation_input_tokens"
_USAGE = {
    # All input tokens, because the Messages API's `input_tokens` excludes cached ones.
    "gen_ai.usage.input_tokens": ("input_tokens", _READ, _WRITTEN),
    "gen_ai.usage.output_tokens": ("output_tokens",),
    "gen_ai.usage.cache_read.input_tokens": (_READ,),
    "gen_ai.usage.cache_creation.input_tokens": (_WRITTEN,),
}

Attributes = dict[str, str | int | float | Sequence[str]]


class RequestTracer:
    """Creates and sends the spans of requests."""

    def __init__(
        self, config: WorkerConfig, address: TracesAddress, *, log: FilteringBoundLogger
    ) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # this module logs failures
        self._label = config.label
        server = urlsplit(config.base_url)
        self._common: Attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _PROVIDERS.get(
                config.provider, config.provider or config.provider_name
            ),
        }
        self._server: Attributes = {
            "server.address": server.hostname or "",
            "server.port": server.port or _DEFAULT_PORTS.get(server.scheme, 0),
        }
        self._provider = TracerProvider(
            sampler=ParentBased(ALWAYS_ON),
            resource=Resource({"service.name": "ccproxy", "service.version": __version__}),
            shutdown_on_exit=False,
        )
        exporter = _LoggingExporter(address, log)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("ccproxy", __version__)
        self._parent_of = TraceContextTextMapPropagator().extract

    def note(self, record: AccessRecord) -> None:
        """Create the spans of a finished request."""
        if record.answered_by and not record.attempts:
            return  # the entry that answered records the attempts
        begin = round(record.started_at * 1e9)
        request = self._tracer.start_span(
            f"chat {record.model}",
            context=self._parent_of({"traceparent": record.traceparent}),
            kind=SpanKind.SERVER,
            start_time=begin,
            attributes=self._attributes_of(record),
        )
        _set_error(request, record.error or "", record.status)
        context = set_span_in_context(request)
        for attempt in attempts_of(record):
            span = self._tracer.start_span(
                f"chat {record.model}",
                context=context,
                kind=SpanKind.CLIENT,
                start_time=begin + round(attempt.begin * 1e9),
                attributes={
                    **self._common,
                    **self._server,
                    "gen_ai.request.model": record.model,
                    **({"http.response.status_code": attempt.status} if attempt.status else {}),
                },
            )
            _set_error(span, attempt.cause, attempt.status)
            span.end(begin + round(attempt.end * 1e9))
        request.end(begin + round(record.elapsed * 1e9))

    async def close(self) -> None:
        """Send pending spans for a limited time; a blocked thread ends with the process."""
        thread = threading.Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, SEND_SECONDS)

    def _attributes_of(self, record: AccessRecord) -> Attributes:
        usage = {
            name: sum(record.usage.get(field) or 0 for field in fields)
            for name, fields in _USAGE.items()
        }
        attributes: Attributes = {
            **self._common,
            **({} if record.ttfb is None else usage),
            "gen_ai.request.model": record.requested,
            "gen_ai.response.model": record.model,
            "http.response.status_code": record.status,
            "ccproxy.entry": self._label,
            "ccproxy.request_id": record.request_id,
            "ccproxy.attempts": record.attempts,
        }
        if record.stop_reason:
            attributes["gen_ai.response.finish_reasons"] = (record.stop_reason,)
        if record.session:
            attributes["gen_ai.conversation.id"] = record.session
        if record.answered_by:
            attributes["ccproxy.answered_by"] = record.answered_by
        if record.stream:
            attributes["gen_ai.request.stream"] = True
            if record.ttfb is not None:
                attributes["gen_ai.response.time_to_first_chunk"] = record.ttfb
        return attributes


class Attempt(NamedTuple):
    """An attempt at the provider; times are in seconds since the request began."""

    begin: float
    end: float
    status: int
    cause: str
    """Why the attempt failed; empty if it succeeded."""


def attempts_of(record: AccessRecord) -> Iterator[Attempt]:
    """Yield the attempts of *record*; each begins after the previous one and the retry delay."""
    begin = record.converted_after or 0.0
    for failure in record.failures:
        yield Attempt(begin, failure.at, failure.status, failure.cause or "unknown")
        begin = failure.at + failure.delay
    if record.attempts > len(record.failures):
        has_answer = record.ttfb is not None
        cause = "" if has_answer and not record.error else record.error or "no_answer"
        start = record.sent_after or begin
        yield Attempt(max(begin, start), record.elapsed, 200 if has_answer else 0, cause)


def _set_error(span: Span, cause: str, status: int) -> None:
    if not cause:
        return
    span.set_attribute("error.type", cause)
    if status != CLIENT_LEFT:
        span.set_status(Status(StatusCode.ERROR))


class _LoggingExporter(SpanExporter):
    """Sends batches, and logs when the collector starts or stops accepting them."""

    def __init__(self, address: TracesAddress, log: FilteringBoundLogger) -> None:
        session = requests.Session()
        session.trust_env = False  # HTTPS_PROXY applies to providers, not to the collector
        headers = dict(address.headers)
        self._exporter = OTLPSpanExporter(
            endpoint=address.url, headers=headers, timeout=SEND_SECONDS, session=session
        )
        self._url = address.url
        self._log = log
        self._has_failed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send *spans*; called by the SDK's thread."""
        reason = "the collector did not accept them"
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001 - no error may affect a request
            result, reason = SpanExportResult.FAILURE, type(error).__name__
        has_failed = result is not SpanExportResult.SUCCESS
        if has_failed != self._has_failed:
            self._has_failed = has_failed
            if has_failed:
                self._log.warning("traces.lost", collector=self._url, reason=reason)
            else:
                self._log.info("traces.sent", collector=self._url)
        return result

    def shutdown(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return True: nothing is buffered here."""
        del timeout_millis
        return True
