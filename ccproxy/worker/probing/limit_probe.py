"""
Measures the limits of a model with requests that are meant to be refused.

Acceptance proves nothing: many servers silently lower a limit or shorten a prompt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ccproxy.convert.errors.overflow_wording import output_limit
from ccproxy.errors import CcproxyError, Problem
from ccproxy.providers.measurement import Measurement, why_no_overflow
from ccproxy.worker.probing.probe_client import ProbeClient
from ccproxy.worker.worker import Worker

MAX_WORDING: Final = 300
"""Maximum characters kept of a refusal."""
_NOT_ABOUT_LENGTH: Final = frozenset(
    {
        *("authentication_error", "billing_error", "permission_error"),
        *("not_found_error", "rate_limit_error", "overloaded_error"),
    }
)
"""Kinds of errors that are not about the request itself."""


@dataclass(slots=True)
class MeasuredLimits:
    """The measured limits; `lines` is the report."""

    lines: list[str] = field(default_factory=list)
    max_output: int | None = None
    overflow: str = ""
    """The wording of an overflow error that ccproxy does not recognize."""


async def measure_limits(
    worker: Worker, client: ProbeClient, measurement: Measurement, *, overflow: bool
) -> MeasuredLimits:
    """Measure the maximum answer length, and with *overflow* the refusal of a too-long request."""
    limits = MeasuredLimits(lines=list(_stream_lines(measurement)))
    await _measure_output(worker, client, measurement, limits)
    if overflow:
        await _measure_overflow(worker, client, measurement, limits)
    return limits


def _stream_lines(measurement: Measurement) -> list[str]:
    finding = ": ccproxy treats such an answer as cut off"
    return [
        f"end of a stream: {end}{'' if end.is_readable else finding}"
        for end in measurement.stream_ends
    ]


async def _measure_output(
    worker: Worker, client: ProbeClient, measurement: Measurement, limits: MeasuredLimits
) -> None:
    try:
        problem = await client.refusal(measurement.long_answer_request())
    except CcproxyError as error:
        limits.lines.append(f"longest answer: not measured: {error}")
        return
    if problem is None:
        limits.lines.append("longest answer: unknown, any limit is accepted")
        return
    limits.max_output = output_limit(problem.refusal.text) if problem.refusal else None
    if limits.max_output:
        limits.lines.append(f"longest answer: {limits.max_output} tokens")
    else:
        limits.lines.append(f"longest answer: not named by the refusal: {_text(worker, problem)}")


async def _measure_overflow(
    worker: Worker, client: ProbeClient, measurement: Measurement, limits: MeasuredLimits
) -> None:
    window = worker.config.target(client.model, "chat").window
    if window is None or why_no_overflow(window):
        limits.lines.append(f"too-long request: not sent, {why_no_overflow(window)}")
        return
    try:
        problem = await client.refusal(measurement.too_long_request(window))
    except CcproxyError as error:
        limits.lines.append(f"too-long request: not measured: {error}")
        return
    if problem is None:
        limits.lines.append(
            "too-long request: accepted; the window is larger, or the prompt was shortened"
        )
    elif problem.refusal is None:
        limits.lines.append("too-long request: recognized, so that Claude Code compacts")
    elif problem.kind in _NOT_ABOUT_LENGTH:
        limits.lines.append(f"too-long request: not measured: {_text(worker, problem)}")
    else:
        limits.overflow = _text(worker, problem)
        limits.lines.append(f"too-long request: NOT recognized as such: {limits.overflow}")


def _text(worker: Worker, problem: Problem) -> str:
    """Return the provider's text on one line, without secrets."""
    text = problem.refusal.text if problem.refusal else problem.message
    return " ".join(worker.logs.redact(text).split())[:MAX_WORDING]
