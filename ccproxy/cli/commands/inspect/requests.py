"""Show the requests of the proxies, running and finished."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.render.request_lines import (
    COLUMNS,
    aligned_head,
    aligned_line,
    one_row_per_request,
    request_cells,
    timeline_lines,
)
from ccproxy.cli.render.table import table
from ccproxy.cli.render.terminal import columns, notify, show, show_json
from ccproxy.cli.selection import complete_label, known_labels, open_fleet
from ccproxy.config.fleet import Fleet
from ccproxy.errors import UsageError
from ccproxy.ipc.control_messages import RequestsRequest
from ccproxy.text import printable_json

if TYPE_CHECKING:
    from ccproxy.ipc.activity import RequestTimeline

DEFAULT_COUNT = 20
ALL = 1000
_ID = re.compile(r"(?:req_)?[0-9a-f]{8,}|req_\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """The filters that select the requests to list."""

    fleet: Fleet
    labels: Sequence[str] | None
    request: RequestsRequest

    def matches(self, one: RequestTimeline) -> bool:
        """Return True if a request that has just ended passes the filters."""
        from ccproxy.ipc.activity import is_slow

        if one.answered_by and self.labels is None:
            return False  # the entry that answered also reports it
        if self.request.failed and one.state != "failed":
            return False
        return not self.request.slow or is_slow(one)


@command(
    "ccproxy requests",
    "ccproxy requests -f --failed",
    "ccproxy requests kimi --slow -n 50",
    "ccproxy requests 3f0000001f      # the timeline of one request",
)
@click.argument("words", nargs=-1, metavar="[LABEL]... [ID]", shell_complete=complete_label)
@click.option("-f", "--follow", "follows", is_flag=True, help="Show requests as they end.")
@click.option("--failed", is_flag=True, help="Only requests that ended with an error.")
@click.option("--slow", is_flag=True, help="Only requests whose answer began after 10 s.")
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(0, ALL),
    default=DEFAULT_COUNT,
    show_default=True,
    help="The number of requests to show.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/events.md).")
def requests(
    options: Options,
    words: tuple[str, ...],
    *,
    follows: bool,
    failed: bool,
    slow: bool,
    count: int,
    as_json: bool,
) -> None:
    """
    Show the last model requests of the proxies named by LABEL, or of all proxies.

    With ID (the id in an error, or its last 8 or more characters), show the timeline of that
    request: when it was accepted, converted and sent, which keys were refused and why, first byte,
    tokens and cost. Each worker keeps its last 1,000 requests until it restarts.
    """
    fleet = open_fleet(options)
    ids = [each for each in words if _ID.fullmatch(each) and fleet.entry(each) is None]
    names = [each for each in words if each not in ids]
    if len(ids) > 1:
        raise UsageError(f"only one ID can be shown at a time, got {' '.join(ids)}")
    choice = _Choice(
        fleet=fleet,
        labels=known_labels(fleet, [], names) if names else None,
        request=RequestsRequest(
            limit=ALL if ids else count, id="".join(ids), failed=failed, slow=slow
        ),
    )
    if follows and not ids:
        _follow(choice, as_json=as_json)
    elif ids:
        _show_timelines(choice, as_json=as_json)
    else:
        _show_list(options, choice, as_json=as_json)


def _show_list(options: Options, choice: _Choice, *, as_json: bool) -> None:
    from ccproxy.supervisor.control.fleet_activity import recent_requests

    running, finished = recent_requests(choice.fleet, choice.labels, choice.request)
    if as_json:
        _show_json(running, finished)
        return
    rows = one_row_per_request([*finished, *running])
    if rows:
        show("\n".join(table(COLUMNS, [request_cells(one) for one in rows], width=columns())))
    else:
        notify(
            options,
            "No matching requests since the workers started.  For earlier ones: ccproxy logs",
        )


def _show_timelines(choice: _Choice, *, as_json: bool) -> None:
    from ccproxy.cli.fleet_models import entry_url
    from ccproxy.supervisor.control.fleet_activity import recent_requests

    running, finished = recent_requests(choice.fleet, choice.labels, choice.request)
    if not running and not finished:
        raise UsageError(
            f"no running worker has the request {choice.request.id}\n"
            f"  fix: ccproxy logs --request {choice.request.id}"
        )
    if as_json:
        _show_json(running, finished)
        return
    texts = []
    for one in [*finished, *running]:
        lines = timeline_lines(one, url=entry_url(choice.fleet, one.label))
        texts.append("\n".join(lines))
    show("\n\n".join(texts))


def _follow(choice: _Choice, *, as_json: bool) -> None:
    """Show the last requests, then each new one as it ends, until interrupted."""
    from ccproxy.ipc.activity import encode_line
    from ccproxy.supervisor.control.fleet_activity import FleetWatch, recent_requests

    with closing(FleetWatch(choice.fleet, choice.labels)) as watch:
        watch.next_events(0)  # connect first, so that no request is missed
        finished = recent_requests(choice.fleet, choice.labels, choice.request).finished
        finished_ids = {(one.id, one.label) for one in finished}
        if not as_json:
            show(aligned_head(columns()))

        def print_line(one: RequestTimeline) -> None:
            if as_json:
                show(printable_json(encode_line(one).decode().rstrip()))
            else:
                show(aligned_line(one, columns()))

        for one in one_row_per_request(finished):
            print_line(one)
        for event in watch:
            ended = event.request if event.event == "request.finished" else None
            if (
                ended is not None
                and (ended.id, ended.label) not in finished_ids
                and choice.matches(ended)
            ):
                print_line(ended)


def _show_json(running: Sequence[RequestTimeline], finished: Sequence[RequestTimeline]) -> None:
    from ccproxy.ipc.activity import encode_line

    parts = {"running": running, "finished": finished}
    fields = {
        name: [json.loads(encode_line(one)) for one in requests] for name, requests in parts.items()
    }
    show_json({"schema": 1, **fields})
