"""Formats log lines, and prints them while a command runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager

import click

from ccproxy.cli.logs.log_files import Follower, Log, LogLine, sorted_by_time
from ccproxy.cli.render.request_lines import clock
from ccproxy.log_format import format_record
from ccproxy.text import printable

_POLL_SECONDS = 0.1
_CLIENT_ERROR, _SERVER_ERROR = 400, 500


def line_text(line: LogLine, *, with_label: bool, verbose: bool = False) -> str:
    """
    Return *line* as readable text; *with_label* adds the label of its proxy.

    A finished request is `09:14:02 kimi 200 108 ms kimi-k3 …9f2c 5965 in (512 cached) 13 out`. With
    *verbose*, and for every other event, all fields of the record are shown.
    """
    label = line.source if with_label else ""
    if line.at is None or "event" not in line.fields:
        return printable(f"{label}  {line.text}" if with_label else line.text)
    if line.fields["event"] == "request.finished" and not verbose:
        return _request_text(line, with_label=with_label)
    return format_record(line.fields, at=line.at, source=label)


def _request_text(line: LogLine, *, with_label: bool) -> str:
    record = line.fields
    answered_by = str(record.get("answered_by") or "")
    parts = [clock(line.at or 0.0)]
    if with_label or answered_by:
        parts.append(line.source)
    if answered_by:
        parts.append(f"→ {answered_by}")
    if "requested" not in record:
        parts.append(f"{record.get('method', '')} {record.get('path', '')}".strip())
    status, milliseconds = record.get("status"), record.get("ms")
    parts.append(str(status))
    if isinstance(milliseconds, int | float):
        parts.append(f"{milliseconds:.0f} ms")
    parts += [str(record[name]) for name in ("model", "key") if record.get(name)]
    if tokens := _tokens_text(record.get("tokens")):
        parts.append(tokens)
    if error := record.get("error"):
        reason = record.get("reason")
        parts.append(f"{error}: {reason}" if reason else str(error))
    # After printable(), which would escape the color codes as well.
    return click.style(printable(" ".join(parts)), fg=_color(status))


def _tokens_text(tokens: object) -> str:
    if not isinstance(tokens, Mapping) or not any(tokens.values()):
        return ""
    cached = _count(tokens, "cache_read")
    total = _count(tokens, "input") + cached + _count(tokens, "cache_write")
    note = f" ({cached} cached)" if cached else ""
    return f"{total} in{note} {_count(tokens, 'output')} out"


def _count(tokens: Mapping[str, object], name: str) -> int:
    value = tokens.get(name)
    return value if isinstance(value, int) else 0


def _color(status: object) -> str | None:
    if not isinstance(status, int) or status < _CLIENT_ERROR:
        return None
    return "red" if status >= _SERVER_ERROR else "yellow"


@contextmanager
def echoing(logs: Sequence[Log], show: Callable[[LogLine], None]) -> Iterator[None]:
    """Call *show* with each line written to *logs* during the block, including the last one."""
    with ExitStack() as files:
        followers = [files.enter_context(closing(Follower(log))) for log in logs]
        ended = threading.Event()

        def echo() -> None:
            is_last = False
            while not is_last:
                # Wait before reading, so that everything written before `ended` is read.
                is_last = ended.wait(_POLL_SECONDS)
                lines = (line for follower in followers for line in follower.read())
                for line in sorted_by_time(lines):
                    show(line)

        thread = threading.Thread(target=echo, name="echo")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
