"""The text of the status line: the answering entry, the reason, problems, and the line's width."""

from __future__ import annotations

from typing import Any

import pytest

from ccproxy.statusline.entry_state import EntryState, LowBudget, PlanUse, ReadyKeys
from ccproxy.statusline.line_text import (
    ClientFacts,
    no_answer_line,
    session_lines,
    status_line,
)
from ccproxy.statusline.session_view import SessionView

FACTS = ClientFacts(session_id="s", model="Kimi:big", tokens=50_000)


def own(**fields: Any) -> EntryState:
    values = {"label": "Kimi", "model": "kimi-k3", "window": 200_000, **fields}
    return EntryState(**values)


GLM = EntryState(
    label="GLM", model="glm-5.3", window=100_000, keys=ReadyKeys(ready=1, total=1), cost=0.25
)
FALLBACK = {"answered_by": "GLM", "route": "GLM:big (fallback: overloaded_error)"}
WAITING = {"waiting_s": 23.0, "attempts": 3, "refusal": "429 rate limit", "key": "…2222"}
COOLING = "1 of 2 keys out: k1 …1111 cooling down for 41 s (429)"


def line(columns: int = 200, color: bool = False, others=(), **fields: Any) -> str:
    view = SessionView(own=own(**fields), others=tuple(others))
    return status_line(view, FACTS, columns=columns, color=color)


@pytest.mark.parametrize(
    ("fields", "others", "expected"),
    [
        pytest.param({}, [], "Kimi · kimi-k3  25% of 200K", id="the proxy itself"),
        pytest.param(
            {"window": None, "keys": ReadyKeys(ready=2, total=3)},
            [],
            "Kimi · kimi-k3  keys 2/3",
            id="an unknown window",
        ),
        pytest.param(
            {"low_budgets": (LowBudget(unit="tokens", period="day", limit=2e6, spent=1.8e6),)},
            [],
            "Kimi · kimi-k3  budget 90 % of 2,000,000 tokens per day  25% of 200K",
            id="a budget in tokens",
        ),
        pytest.param(
            {"low_budgets": (LowBudget(unit="USD", period="day", limit=5, spent=4.2),)},
            [],
            "Kimi · kimi-k3  budget 84 % of 5 USD per day  25% of 200K",
            id="a low budget",
        ),
        pytest.param(
            FALLBACK,
            [GLM],
            "Kimi → GLM · glm-5.3 (fallback: overloaded_error)  50% of 100K  $0.25  keys 1/1",
            id="a fallback has its own window, keys and cost",
        ),
        pytest.param(
            {"answered_by": "GLM", "route": "GLM:big (named)", "model": "GLM:big"},
            [],
            "Kimi → GLM · GLM:big  25% of 200K",
            id="a named model needs no reason",
        ),
        pytest.param(
            {"route": "Kimi:k2 (subagent)"},
            [],
            "Kimi · kimi-k3 (subagent)  25% of 200K",
            id="a rule of the entry itself",
        ),
        pytest.param(
            {"cost": 0.0123, "unpriced": 1, "cost_today": 3.1},
            [],
            "Kimi · kimi-k3  25% of 200K  $0.0123+ · today $3.10",
            id="costs, some unknown",
        ),
        pytest.param(
            {"plan": PlanUse(name="5h", used=0.38)},
            [],
            "Kimi · kimi-k3  25% of 200K  plan 5h 62% left",
            id="the plan",
        ),
        pytest.param(
            {"input": 5, "cached": 90, "written": 5},
            [],
            "Kimi · kimi-k3  25% of 200K  cache 90%",
            id="the cache",
        ),
        pytest.param(
            WAITING | {"reason": COOLING},
            [],
            "Kimi · kimi-k3  waiting 23s, attempt 3 after 429 rate limit, key …2222; "
            f"{COOLING}  25% of 200K",
            id="a request that waits",
        ),
        pytest.param(
            {"waiting_s": 3.0, "attempts": 1}, [], "Kimi · kimi-k3  25% of 200K", id="not for long"
        ),
        pytest.param(
            {"error": "authentication_error: key …1111 was rejected"},
            [],
            "Kimi · kimi-k3  authentication_error: key …1111 was rejected  25% of 200K",
            id="the last error",
        ),
        pytest.param(
            {"error": "api_error: no answer", "reason": "the last 2 requests failed: no answer"},
            [],
            "Kimi · kimi-k3  the last 2 requests failed: no answer  25% of 200K",
            id="an error that the reason contains",
        ),
        pytest.param(
            {"bypass": "https://api.anthropic.com"},
            [],
            "Kimi bypassed → https://api.anthropic.com  25% of 200K",
            id="bypass",
        ),
        pytest.param(
            {"model": "a\x1b[2Jb"}, [], "Kimi · a\\x1b[2Jb  25% of 200K", id="control characters"
        ),
    ],
)
def test_lines(fields, others, expected):
    assert line(others=others, **fields) == expected


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (60, "Kimi · kimi-k3  25% of 200K  keys 1/2  cache 100%"),
        (45, "Kimi · kimi-k3  25% of 200K  keys 1/2"),
        (20, "Kimi · kimi-k3"),
        (10, "Kimi · ki…"),
    ],
)
def test_parts_that_do_not_fit_are_dropped_from_the_end(columns, expected):
    assert line(columns, keys=ReadyKeys(ready=1, total=2), cached=1) == expected


def test_a_long_note_is_cut_before_the_context_is_dropped():
    text = line(80, reason="all keys are cooling down " * 5, keys=ReadyKeys(ready=1, total=2))
    assert text.startswith("Kimi · kimi-k3  all keys are cooling down all keys")
    assert text.endswith("…  25% of 200K")
    assert len(text) <= 80


def test_wide_characters_count_twice():
    assert line(16, model="智谱智谱智谱") == "Kimi · 智谱智谱…"


def test_only_parts_that_need_attention_are_coloured():
    assert line(color=True) == line()
    assert line(color=True, reason="x") == ("Kimi · kimi-k3  \x1b[33mx\x1b[0m  25% of 200K")


def test_a_stopped_proxy_names_the_command():
    text = no_answer_line("Kimi", columns=100)
    assert text == "Kimi: the proxy does not answer; fix: ccproxy start Kimi"


def test_without_a_token_count_the_window_is_shown():
    view = SessionView(own=own())
    assert status_line(view, ClientFacts(), columns=99, color=False) == (
        "Kimi · kimi-k3  200K window"
    )


def test_a_pane_shows_one_fact_per_line():
    view = SessionView(own=own(reason=COOLING))
    assert session_lines(view, FACTS) == ["Kimi · kimi-k3", COOLING, "25% of 200K"]
