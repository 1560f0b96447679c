"""Log lines for people, and showing them while something else runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

from ccproxy.cli.logs.files import Follower, Log, LogLine, sorted_by_time
from ccproxy.log_format import format_record
from ccproxy.text import printable as clean

_POLL = 0.1


def for_people(line: LogLine, *, many: bool) -> str:
    """Return `09:14:02 INFO  kimi  request.finished status=200 …`; *many* adds whose line it is."""
    source = line.source if many else ""
    if line.at is None or "event" not in line.fields:
        return clean(f"{source}  {line.text}" if many else line.text)
    return format_record(line.fields, at=line.at, source=source)


@contextmanager
def echoing(logs: Sequence[Log], show: Callable[[LogLine], None]) -> Iterator[None]:
    """Show what is written to *logs* meanwhile, to the last line."""
    with ExitStack() as files:
        followers = [files.enter_context(closing(Follower(log))) for log in logs]
        ended = threading.Event()

        def echo() -> None:
            is_last = False
            while not is_last:
                # Asked before reading: what was written before the end is read after it.
                is_last = ended.wait(_POLL)
                for line in sorted_by_time(
                    line for follower in followers for line in follower.read()
                ):
                    show(line)

        thread = threading.Thread(target=echo, name="echo")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
