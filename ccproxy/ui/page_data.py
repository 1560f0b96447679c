"""The data of the views, except for the live feed. These functions block; they run in threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import click
import msgspec

from ccproxy.cli.doctor.examination import as_json_of, examine, redactor, results_of
from ccproxy.cli.logs.log_files import LEVELS, LogFilter, LogLine, last_lines_of_all, logs_of
from ccproxy.cli.logs.log_lines import line_text
from ccproxy.cli.single_proxy import require_table
from ccproxy.config.fleet import Fleet
from ccproxy.config.fleet_check import CheckedFleet, check_fleet
from ccproxy.errors import UsageError
from ccproxy.ipc.activity import RequestTimeline
from ccproxy.ipc.control_messages import RequestsRequest
from ccproxy.routing.rules import ORDER
from ccproxy.routing.switching import usable_presets
from ccproxy.routing.tiers import TIERS
from ccproxy.store.overrides import overrides_path, read_overrides, read_switch, switch_path
from ccproxy.store.usage_totals import GROUPS, By, Totals, summed
from ccproxy.supervisor.control.client import fleet_status
from ccproxy.supervisor.control.fleet_activity import recent_requests
from ccproxy.supervisor.control.worker_requests import inspected_request
from ccproxy.ui.conversation_blocks import prompt_blocks

MAX_LOG_LINES = 500
MAX_SEARCHED = 50_000
"""The maximum number of lines across all logs; the page repeats the search every two seconds."""
MAX_REQUESTS = 1000
MAX_DAYS = 366
MAX_USAGE_ROWS = 5000
"""A month of sessions can have more rows; the most expensive ones are shown."""
MAX_MODELS = 200
"""The maximum number of models per entry in the list of routes."""
SUPERVISOR = "supervisor"
RULES = (*(name for name in ORDER if name != "agents"), "long_context")
"""The rules that the page can change."""

Query = Mapping[str, str]


def known_entry(fleet: Fleet, label: str) -> str:
    """Return the label of an entry as written in the table; UsageError if there is none."""
    entry = fleet.entry(label)
    if entry is None:
        raise UsageError(f'"{label}" is not an entry of the table')
    return entry.label


def fleet_facts(fleet: Fleet, _: Query) -> dict[str, Any]:
    """Return data that rarely changes: the file, the supervisor and the entries."""
    status = fleet_status(fleet)
    supervisor = status.supervisor
    return {
        "config": status.config,
        "note": status.note,
        "version": supervisor.version if supervisor else "",
        "labels": [entry.label for entry in fleet.entries],
    }


def requests(fleet: Fleet, query: Query) -> dict[str, Any]:
    """Return the finished requests, newest first, and the running ones."""
    label = query.get("label", "")
    labels = [known_entry(fleet, label)] if label else None
    request = RequestsRequest(
        limit=_number(query, "limit", 200, MAX_REQUESTS),
        id=query.get("id", "")[:200],
        failed=query.get("failed") == "1",
        slow=query.get("slow") == "1",
    )
    result = recent_requests(fleet, labels, request)
    return {"running": result.running, "finished": result.finished[::-1]}


def inspected(fleet: Fleet, query: Query) -> dict[str, Any]:
    """Return the conversation of a request as blocks, and the raw bodies."""
    label, request_id = known_entry(fleet, query.get("label", "")), query.get("id", "")[:200]
    bodies = inspected_request(fleet, label, request_id)
    one = _request_of(fleet, label, request_id)
    reported = one.input + one.cached + one.written if one else 0
    return {
        "request": one,
        "input_cost": _input_cost(fleet, label, one) if one else None,
        "blocks": prompt_blocks(bodies.request, reported=reported),
        "is_cut": bodies.is_cut,
        "client_body": bodies.request,
        "provider_body": bodies.sent,
        "response": bodies.response,
        "event_times": bodies.event_times,
    }


def _request_of(fleet: Fleet, label: str, request_id: str) -> RequestTimeline | None:
    result = recent_requests(fleet, [label], RequestsRequest(limit=1, id=request_id))
    return next((one for one in result.finished if one.id == request_id), None)


def _input_cost(fleet: Fleet, label: str, one: RequestTimeline) -> float | None:
    """Return the cost of the prompt without the answer, at the current prices of the env file."""
    config = check_fleet(fleet.file).workers.get(label)
    price = config.models.price(one.model) if config else None
    if price is None:
        return None
    usage = {
        "input_tokens": one.input,
        "cache_read_input_tokens": one.cached,
        "cache_creation_input_tokens": one.written,
    }
    return price.cost(usage, at=one.started)


def usage(fleet: Fleet, query: Query) -> dict[str, Any]:
    """Return the totals, grouped as the query requests."""
    names = query.get("by", "day").split(",")
    by: list[By] = [name for name in GROUPS if name in names]
    days = _number(query, "days", 7, MAX_DAYS)
    midnight = datetime.now().replace(hour=0, minute=0, second=0, microsecond=0)
    since = (midnight - timedelta(days=max(days, 1) - 1)).timestamp()
    rows = summed(fleet.state, by=by or ["day"], since=since)
    total = Totals()
    for row in rows:
        total.merge(row.totals)
    left_out = max(0, len(rows) - MAX_USAGE_ROWS)
    if left_out:
        rows.sort(key=lambda row: (row.totals.cost, row.totals.requests), reverse=True)
        del rows[MAX_USAGE_ROWS:]
    return {
        "by": by,
        "left_out": left_out,
        "rows": [{**dict(zip(by, row.group, strict=True)), **row.totals.as_json()} for row in rows],
        "total": total.as_json(),
    }


def logs(fleet: Fleet, query: Query) -> dict[str, Any]:
    """Return the last matching lines of the logs."""
    label = query.get("label", "")
    sources = [SUPERVISOR, *(entry.label for entry in fleet.entries)]
    if label:
        sources = [label if label == SUPERVISOR else known_entry(fleet, label)]
    conditions = LogFilter(
        level=LEVELS.get(query.get("level", ""), 0), request=query.get("request") or None
    )
    names = fleet.labels.values()
    files = [log for source in sources for log in logs_of(fleet.logs, source, names)]
    count = _number(query, "count", 200, MAX_LOG_LINES)
    search = MAX_SEARCHED // max(1, len(files))
    lines = last_lines_of_all(files, conditions, count=count, search=search)
    return {"lines": [_log_line(line) for line in lines]}


def _log_line(line: LogLine) -> dict[str, Any]:
    return {
        "at": line.at,
        "source": line.source,
        "level": line.fields.get("level", "warning"),
        "event": line.fields.get("event", ""),
        "request": line.fields.get("request", ""),
        "text": click.unstyle(line_text(line, with_label=False))[:4000],
    }


def doctor(fleet: Fleet, query: Query) -> dict[str, Any]:
    """Run the checks of `ccproxy doctor`."""
    require_table(fleet)
    scene = examine(str(fleet.file), online=query.get("online") == "1", offline=False)
    results = list(results_of(scene))
    redacted = redactor(scene)(msgspec.json.encode(as_json_of(results)).decode())
    content: dict[str, Any] = msgspec.json.decode(redacted)
    return content


def routes(fleet: Fleet, _: Query) -> dict[str, Any]:
    """Return the rules, models, switches and model presets of every entry."""
    require_table(fleet)
    checked = check_fleet(fleet.file)
    return {
        "file": str(fleet.file),
        "rules": RULES,
        "mistakes": [str(mistake) for mistake in checked.mistakes],
        "entries": [_routes_of(checked, entry.label) for entry in checked.fleet.entries],
    }


def _routes_of(checked: CheckedFleet, label: str) -> dict[str, Any]:
    config = checked.workers.get(label)
    state = checked.fleet.state
    routing = checked.tables.routing(label)
    switch = read_switch(switch_path(state, label))
    long = routing.long_context
    rules = dict(routing.rules)
    if long is not None:
        rules["long_context"] = long.model
    presets = usable_presets(checked.tables.presets, label=label, entries=checked.workers)
    return {
        "label": label,
        "rules": rules,
        "agents": dict(routing.agents),
        "over": long.over if long else None,
        "fallback": checked.tables.fallback(label),
        "models": config.models.listed()[:MAX_MODELS] if config else (),
        "tiers": {tier: config.models.tier(tier) if config else None for tier in TIERS},
        "switch": {"preset": switch.preset, "name": switch.name, **asdict(switch.tiers)},
        "presets": {name: asdict(tiers) for name, tiers in presets.items()},
        "bypassed": read_overrides(overrides_path(state, label)).is_bypassed,
    }


def _number(query: Query, name: str, default: int, most: int) -> int:
    text = query.get(name, "")
    is_number = text.isascii() and text.isdecimal() and len(text) < 10
    return min(int(text), most) if is_number else default


VIEWS: Mapping[str, Callable[[Fleet, Query], dict[str, Any]]] = {
    "fleet": fleet_facts,
    "requests": requests,
    "inspect": inspected,
    "usage": usage,
    "logs": logs,
    "doctor": doctor,
    "routes": routes,
}
"""The function of each view, by the last part of the path, `/api/NAME`."""
