"""Log lines for people, and showing them while something else runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime

import click

from ccproxy.cli.logfiles import Follower, Line, Log, by_time
from ccproxy.cli.terminal import clean

_COLORS = {"debug": "bright_black", "warning": "yellow", "error": "red", "critical": "red"}
_HEAD = ("time", "level", "event")
_POLL = 0.1


def for_people(line: Line, *, many: bool) -> str:
    """Return `09:14:02 INFO  kimi  request.finished status=200 …`; *many* adds whose line it is."""
    source = f"{clean(line.source)}  " if many else ""
    fields = line.fields
    if line.at is None or "event" not in fields:
        return f"{source}{clean(line.text)}"
    level = str(fields.get("level", "info"))
    moment = datetime.fromtimestamp(line.at)  # in the reader's own time
    stamp = moment.strftime("%H:%M:%S" if _is_today(moment) else "%m-%d %H:%M:%S")
    word = click.style(f"{clean(level.upper()):<8}", fg=_COLORS.get(level))
    event = click.style(clean(str(fields["event"])), bold=True)
    rest = (f"{clean(key)}={_value(value)}" for key, value in fields.items() if key not in _HEAD)
    return f"{stamp} {word} {source}{' '.join([event, *rest])}"


@contextmanager
def echoing(logs: Sequence[Log], show: Callable[[Line], None]) -> Iterator[None]:
    """Show what is written to *logs* meanwhile, to the last line."""
    with ExitStack() as files:
        followers = [files.enter_context(closing(Follower(log))) for log in logs]
        ended = threading.Event()

        def echo() -> None:
            is_last = False
            while not is_last:
                # Asked before reading: what was written before the end is read after it.
                is_last = ended.wait(_POLL)
                for line in by_time(line for follower in followers for line in follower.read()):
                    show(line)

        thread = threading.Thread(target=echo, name="echo")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _value(value: object) -> str:
    if isinstance(value, str) and value and not set(value) & set(' "=\\\n'):
        return clean(value)
    return clean(json.dumps(value, ensure_ascii=False))


def _is_today(moment: datetime) -> bool:
    return moment.date() == datetime.now().date()
