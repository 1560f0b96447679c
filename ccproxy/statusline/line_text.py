"""
The text of the status line. Pure.

It begins with the label and the model that actually answers, and with the reason if another one was
requested. Then come the context as a percentage of the model's true window, the cost, the keys, and
the share of the input that came from the provider's cache. If the terminal is too narrow, these are
dropped one by one, the last one first. A long note about a problem is truncated before the context
is dropped.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ccproxy.statusline.session_view import SessionView
from ccproxy.text import (
    format_dollars,
    format_duration,
    format_tokens,
    printable,
    shortened,
    text_width,
)

GAP = "  "
SLOW_SECONDS = 5.0
"""A wait shorter than this is not shown during the first attempt."""
MAX_REASON = 200
LEAST_NOTE = 40
"""In columns. A note is never cut below this width to make room for the figures."""

_YELLOW, _PLAIN = "\x1b[33m", "\x1b[0m"
_ROUTE_REASON = re.compile(r"\((.*?)\)(?:;|$)")
_EXPECTED = ("named", "big", "middle", "small")
"""Reasons for a route that need no mention, because the user chose the model."""


class ClientFacts(NamedTuple):
    """The data that Claude Code passes to its status line."""

    session_id: str = ""
    model: str = ""
    tokens: int | None = None
    """The tokens in the context of the last request, or None."""


def status_line(view: SessionView, facts: ClientFacts, *, columns: int, color: bool) -> str:
    """Return the line, at most *columns* wide; *color* highlights the note."""
    head, note, figures = _head(view, facts), _note(view), _figures(view, facts)
    if note and figures:  # a long note leaves room for the first figure, the context
        room = columns - text_width(GAP.join([head, "", figures[0]]))
        note = shortened(note, room) if room >= LEAST_NOTE else note
    parts = [head, *filter(None, [note]), *figures]
    least = 2 if note else 1
    while len(parts) > least and text_width(GAP.join(parts)) > columns:
        parts.pop()
    line = shortened(GAP.join(parts), columns)
    if color and note and len(line) > len(head):
        start = len(head) + len(GAP)
        end = min(len(line), start + len(note))
        line = f"{line[:start]}{_YELLOW}{line[start:end]}{_PLAIN}{line[end:]}"
    return line


def no_answer_line(label: str, *, columns: int) -> str:
    """Return the line for an entry whose proxy does not answer."""
    return shortened(f"{label}: the proxy does not answer; fix: ccproxy start {label}", columns)


def session_lines(view: SessionView, facts: ClientFacts) -> list[str]:
    """Return the content of the status line, one fact per line, for a pane."""
    return [_head(view, facts), *filter(None, [_note(view)]), *_figures(view, facts)]


def _head(view: SessionView, facts: ClientFacts) -> str:
    own = view.own
    if own.bypass:
        return f"{own.label} bypassed → {printable(own.bypass)}"
    answering = view.answering
    model = answering.model or own.model or facts.model
    if model.lower().startswith(f"{answering.label.lower()}:"):
        model = model.partition(":")[2]
    reason = _ROUTE_REASON.search(own.route)
    why = "" if reason is None or reason[1] in _EXPECTED else f" ({reason[1]})"
    if own.answered_by:
        return f"{own.label} → {own.answered_by} · {printable(model)}{printable(why)}"
    return f"{own.label} · {printable(model)}{printable(why)}" if model else own.label


def _note(view: SessionView) -> str:
    """Return why the session is waiting or what has failed; empty if there is no problem."""
    own = view.own
    parts = []
    if own.waiting_s >= SLOW_SECONDS or (own.waiting_s and own.attempts > 1):
        attempt = f", attempt {own.attempts}" if own.attempts > 1 else ""
        attempt += f" after {own.refusal}" if own.refusal else ""
        key = f", key {own.key}" if own.key else ""
        parts.append(f"waiting {format_duration(own.waiting_s)}{attempt}{key}")
    elif own.error and own.error.partition(": ")[2] not in own.reason:
        parts.append(own.error)
    if own.reason:
        parts.append(own.reason)
    for row in own.low_budgets:
        limit = f"{row.limit:,.12g} {row.unit} per {row.period}"
        parts.append(f"budget {100 * row.spent / row.limit:.0f} % of {limit}")
    note = "; ".join(parts)
    return printable(note[:MAX_REASON])


def _figures(view: SessionView, facts: ClientFacts) -> list[str]:
    own, answering = view.own, view.answering
    figures = []
    window = answering.window or own.window
    if window and facts.tokens is None:
        figures.append(f"{format_tokens(window)} window")
    elif window and facts.tokens is not None:
        figures.append(f"{facts.tokens / window:.0%} of {format_tokens(window)}")
    cost = format_dollars(view.cost, is_partial=bool(view.unpriced)) if view.cost else ""
    today = format_dollars(own.cost_today) if own.cost_today else ""
    if cost or today:
        figures.append(" · ".join(filter(None, [cost, today and f"today {today}"])))
    if (plan := answering.plan) is not None:
        figures.append(f"plan {plan.name} {max(0.0, 1 - plan.used):.0%} left".replace("  ", " "))
    if answering.keys is not None:
        figures.append(f"keys {answering.keys.ready}/{answering.keys.total}")
    if (share := view.cache_share) is not None:
        figures.append(f"cache {share:.0%}")
    return figures
