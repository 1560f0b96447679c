"""Requests as text: one line each, and the timeline of a single request."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from ccproxy.cli.render.table import Column, table
from ccproxy.text import format_dollars, format_size, printable

if TYPE_CHECKING:
    from ccproxy.ipc.activity import CacheLoss, FailedAttempt, RequestTimeline

ID_LENGTH = 10
"""The number of trailing characters of an id that are shown; in practice they are unique."""

COLUMNS = (
    Column(head="TIME"),
    Column(head="ID", drop_order=5),
    Column(head="ENTRY"),
    Column(head="KEY", drop_order=1),
    Column(head="MODEL", least=14),
    Column(head="STATUS"),
    Column(head="TTFT", align_right=True, drop_order=4),
    Column(head="TOTAL", align_right=True),
    Column(head="IN/CACHED/OUT", align_right=True, drop_order=2),
    Column(head="COST", align_right=True, drop_order=3),
    Column(head="NOTE", drop_order=6, least=16),
)
_TYPICAL = (
    *("00:00:00", "0" * ID_LENGTH, "entry-label", "…0000", "claude-opus-4-1", "STATUS"),
    *("0.00 s", "0.00 s", "000k/000k/000k", "$0.0000", "a short note"),
)
"""A row that determines the column widths of lines that are printed one by one."""
_STATE_COLORS = {"running": "cyan", "failed": "red", "client_left": "yellow"}
_CAUSES = {
    "tool_added": "a tool was added",
    "tool_removed": "a tool was removed",
    "tool_changed": "a tool was changed",
    "tools_reordered": "the order of the tools changed",
    "attribution_header": "the client's attribution header changed",
    "system_changed": "the system prompt changed",
    "compaction": "the conversation was compacted",
    "tool_results_cleared": "the client cleared old tool results",
    "message_changed": "an earlier message changed",
    "messages_removed": "messages were removed",
    "parameters_changed": "the request parameters changed",
    "entry_changed": "another entry answered earlier requests",
    "model_changed": "the model changed",
    "key_moved": "another key was used, and caches are per account",
    "ttl": "the cache had expired",
    "provider": "the provider did not read its cache",
}


def one_row_per_request(requests: Iterable[RequestTimeline]) -> list[RequestTimeline]:
    """Return *requests* without those that the answering entry also reports."""
    requests = [*requests]
    answered = {one.id for one in requests if not one.answered_by}
    return [one for one in requests if not one.answered_by or one.id not in answered]


def request_cells(one: RequestTimeline, *, at: float = 0.0) -> tuple[str, ...]:
    """
    Return the cells of `COLUMNS` for one request.

    *at* is the current time in seconds since the epoch; pass it for running requests from events.
    """
    is_running = one.state == "running"
    state = "running" if is_running else str(one.status or one.state)
    return (
        clock(one.started),
        short_id(one.id),
        printable(f"{one.label}→{one.answered_by}" if one.answered_by else one.label),
        printable(one.key) or "–",
        printable(one.model or one.requested),
        click.style(state, fg=_STATE_COLORS.get(one.state)),
        seconds(one.first_byte_s),
        seconds(max(one.total_s, at - one.started) if is_running else one.total_s),
        tokens(one) or "–",
        format_dollars(one.cost),
        printable(note(one)),
    )


def aligned_head(width: int | None) -> str:
    """Return the header line for the lines of `aligned_line`."""
    return table(COLUMNS, [_TYPICAL], width=width)[0]


def aligned_line(one: RequestTimeline, width: int | None) -> str:
    """Return the line of one request; the columns of all lines align unless a cell is too long."""
    return table(COLUMNS, [_TYPICAL, request_cells(one)], width=width)[2]


def note(one: RequestTimeline) -> str:
    """Return a short note: the user who sent the request, and anything unusual about it."""
    parts = [one.user] if one.user else []
    if one.state == "running":
        parts.append(f"{one.chunks} chunks" if one.chunks else "waiting")
    if one.state == "client_left":
        parts.append("the client disconnected")
    elif one.error:
        parts.append(one.reason or one.error)
    if one.failures and one.state != "failed":
        causes = ", ".join(dict.fromkeys(str(each.status) for each in one.failures))
        parts.append(f"{len(one.failures)} refused: {causes}")
    if one.cache_loss is not None:
        parts.append(f"cache: {cause(one.cache_loss)}")
    return "; ".join(parts)


def timeline_lines(one: RequestTimeline, *, url: str) -> list[str]:
    """Return the timeline of one request, and a command that sends a similar one to *url*."""
    head = f"{one.id}  {one.state}" + (f" {one.status}" if one.status else "")
    lines = [click.style(printable(head), fg=_STATE_COLORS.get(one.state), bold=True)]
    facts = [
        ("entry", f"{one.label}, answered by {one.answered_by}" if one.answered_by else one.label),
        ("route", one.route),
        ("model", f"{one.requested} → {one.model}" if one.requested != one.model else one.model),
        ("user", one.user),
        ("session", one.session + (f", sub-agent {one.agent}" if one.agent else "")),
    ]
    lines += [f"  {name:<8} {printable(text)}" for name, text in facts if text]
    steps = sorted(_steps(one), key=lambda step: step[0])
    lines += ["", *(f"  {f'{at:.3f} s':>8}  {printable(text)}" for at, text in steps)]
    if one.input or one.cached or one.written or one.output:
        lines += ["", f"  tokens   {_token_sentence(one)}"]
    if one.cost is not None:
        lines.append(f"  cost     {format_dollars(one.cost)}")
    if one.cache_loss is not None:
        lines.append(f"  cache    {printable(_loss_sentence(one.cache_loss))}")
    return [*lines, "", *_repeat_lines(one, url)]


def _steps(one: RequestTimeline) -> Iterator[tuple[float, str]]:
    """Yield the steps of a request, each with its time in seconds."""
    kind = "stream" if one.stream else "whole answer"
    yield 0.0, f"accepted: {one.path}, {format_size(one.size)}, {kind}"
    if one.converted_s is not None:
        dropped = f"; not sent: {', '.join(one.dropped)}" if one.dropped else ""
        yield one.converted_s, f"converted{dropped}"
    for failure in one.failures:
        yield failure.at, _failure_sentence(failure)
    if one.sent_s is not None:
        yield one.sent_s, f"sent with key {one.key}, attempt {one.attempts}"
    if one.first_byte_s is not None:
        yield one.first_byte_s, "first byte to the client"
    counts = f"{one.chunks} chunks, {one.pings} pings"
    if one.state == "running":
        yield one.total_s, f"running: {counts}"
    elif one.state == "client_left":
        yield one.total_s, f"the client disconnected: {counts}"
    elif one.state == "failed":
        yield one.total_s, f"failed: {one.error}: {one.reason}"
    else:
        yield one.total_s, f"end: {one.stop_reason or one.status}, {counts}"


def _failure_sentence(failure: FailedAttempt) -> str:
    key = {"none": "", "cooldown": ", it cools down", "out": ", it is out of quota or credit"}
    following = {
        "other_key": "next: another key",
        "repeat": f"next: another attempt after {failure.delay:.1f} s",
        "end": "no further attempt",
    }
    effect = key.get(failure.effect, f", it is {failure.effect}")
    return (
        f"key {failure.key} refused: {failure.status} {failure.cause}{effect}; "
        f"{following.get(failure.next, failure.next)} ({failure.reason})"
    )


def _token_sentence(one: RequestTimeline) -> str:
    reasoning = f" ({one.reasoning:,} reasoning)" if one.reasoning else ""
    written = f", {one.written:,} written to the cache" if one.written else ""
    return f"{one.input:,} new, {one.cached:,} cached{written}; {one.output:,} output{reasoning}"


def cause(loss: CacheLoss) -> str:
    """Return why the cache was not read, with the block that changed."""
    return _CAUSES.get(loss.cause, loss.cause) + (f" ({loss.block})" if loss.block else "")


def _loss_sentence(loss: CacheLoss) -> str:
    cost = "" if loss.cost is None else f", {format_dollars(loss.cost)} more"
    detail = f": {loss.detail}" if loss.detail else ""
    counts = f"{loss.after:,} of {loss.before:,} tokens read, {loss.lost:,} paid again{cost}"
    return f"{cause(loss)}{detail}; {counts}"


def _short_request(one: RequestTimeline) -> tuple[str, Mapping[str, Any]]:
    """Return the path and body of a short request to the same model, in the API that *one* used."""
    model, prompt = one.requested or one.model, "Reply with one word."
    if one.path.endswith("/responses"):
        body = {"model": model, "max_output_tokens": 64, "stream": one.stream, "input": prompt}
        return "/v1/responses", body
    path = "/v1/chat/completions" if one.path.endswith("/chat/completions") else "/v1/messages"
    messages = [{"role": "user", "content": prompt}]
    return path, {"model": model, "max_tokens": 64, "stream": one.stream, "messages": messages}


def _repeat_lines(one: RequestTimeline, url: str) -> list[str]:
    path, body = _short_request(one)
    text = printable(json.dumps(body)).replace("'", "'\\''")
    return [
        "A short request to the same model (conversations are not kept):",
        f"  curl -sN {url}{path} -H 'content-type: application/json' \\",
        '    -H "x-api-key: $ANTHROPIC_AUTH_TOKEN" \\',
        f"    -d '{text}'",
    ]


# Cells.


def short_id(request_id: str) -> str:
    """Return the end of an id, which `ccproxy requests` accepts."""
    return printable(request_id[-ID_LENGTH:])


def clock(at: float) -> str:
    """Return the time of day, with the date unless it is today."""
    moment = datetime.fromtimestamp(at)
    is_today = moment.date() == datetime.now().date()
    return moment.strftime("%H:%M:%S" if is_today else "%m-%d %H:%M:%S")


def seconds(value: float | None) -> str:
    """Return `0.42 s`, `24.8 s` or `310 s`; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s" if value < 100 else f"{value:.0f} s"


def tokens(one: RequestTimeline) -> str:
    """Return `2.2k/16k/1.1k`: new, cached and output tokens; empty if there are none."""
    counts: Sequence[int] = (one.input + one.written, one.cached, one.output)
    return "/".join(short_count(count) for count in counts) if any(counts) else ""


def short_count(count: float) -> str:
    """Return a count in at most four characters: `310`, `1.1k`, `18k`, `2.4M`."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if count >= unit * 0.9995:
            value = count / unit
            return f"{value:.1f}{name}" if value < 9.95 else f"{value:.0f}{name}"
    return f"{count:.0f}"
