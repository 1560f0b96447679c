"""Rules and switches, seen by a client of one worker."""

from __future__ import annotations

import json

import pytest

from ccproxy.keys.sessions import MAX_SESSIONS
from ccproxy.routing.names import NO_TIERS, Tiers
from ccproxy.routing.switching import NO_SWITCH, ModelSwitch
from ccproxy.store.overrides import read_switch, switch_path, write_switch
from ccproxy.worker.peers.pending_switch import PendingSwitch
from tests.messages import prompt
from tests.worker.family import Family

RULES = """
[routes.Kimi]
subagent = "GLM:big"
background = "DeepSeek:small"
thinking = "kimi-thinks"
auxiliary = "small"
long_context = { over = 3000, model = "GLM:glm-long" }

[routes.Kimi.agents]
Explore = "DeepSeek:explorer"
"""
IMAGE = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
}


@pytest.fixture
async def family(tmp_path):
    async with Family(tmp_path) as family:
        yield family


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("headers", "fields", "requests", "route"),
    [
        pytest.param({}, {}, {"Kimi": ["kimi-big"]}, None, id="no rule: as ever"),
        pytest.param(
            {"x-claude-code-agent-id": "a1"},
            {},
            {"GLM": ["glm-big"]},
            "GLM:big (subagent)",
            id="a subagent",
        ),
        pytest.param(
            {"X-Claude-Code-Request-Class": "subagent", "X-Claude-Code-Agent-Type": "Explore"},
            {},
            {"DeepSeek": ["explorer"]},
            "DeepSeek:explorer (agent explore)",
            id="a type of agent",
        ),
        pytest.param(
            {},
            {"model": "claude-haiku-5-5"},
            {"DeepSeek": ["deepseek-small"]},
            "DeepSeek:small (background)",
            id="background",
        ),
        pytest.param(
            {},
            {"model": "claude-haiku-5-5", "thinking": {"type": "adaptive"}},
            {"Kimi": ["kimi-thinks"]},
            "Kimi:kimi-thinks (thinking)",
            id="thinking before background, at home",
        ),
        pytest.param(
            {},
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            {"Kimi": ["kimi-small"]},
            "Kimi:kimi-small (auxiliary)",
            id="a tier of one's own",
        ),
        pytest.param(
            {"x-claude-code-agent-id": "a1"},
            {"model": "GLM:small"},
            {"GLM": ["glm-small"]},
            "GLM:small (named)",
            id="a named model wins",
        ),
        pytest.param(
            {},
            {"model": "Kimi:small"},
            {"DeepSeek": ["deepseek-small"]},
            "DeepSeek:small (background)",
            id="a tier of the entry itself is no named model",
        ),
        pytest.param(
            {"x-claude-code-agent-id": "a1"},
            {"model": "Kimi:kimi-special"},
            {"Kimi": ["kimi-special"]},
            "Kimi:kimi-special (named)",
            id="a model of the entry itself is",
        ),
        pytest.param(
            {},
            {"model": "anthropic/GLM:big"},
            {"GLM": ["glm-big"]},
            "GLM:big (named)",
            id="the prefix of the model discovery is ignored",
        ),
    ],
)
async def test_rules(family, headers, fields, requests, route, streams):
    await family.start(RULES, Kimi={}, GLM={}, DeepSeek={})
    kimi = family.proxies["Kimi"]
    answer = await kimi.ask(prompt(**{"stream": streams, **fields}), headers=headers)
    assert answer.text == "ok"
    assert answer.message["model"] == fields.get("model", "claude-opus-4-1")
    assert family.requested() == requests
    assert answer.headers.get("x-ccproxy-route") == route
    assert (await kimi.logged("request.finished")).get("route") == route


async def test_long_requests_go_to_their_model(family):
    await family.start(RULES, Kimi={}, GLM={}, DeepSeek={})
    answer = await family.proxies["Kimi"].ask(prompt("word " * 4000))
    assert family.requested() == {"GLM": ["glm-long"]}
    assert answer.headers["x-ccproxy-route"].startswith("GLM:glm-long (long context: ")


@pytest.mark.parametrize("name", ["claude-opus-5", "claude-haiku-5", "kimi-middle", "unknown"])
@pytest.mark.parametrize(
    ("rule", "route"),
    [
        pytest.param('"GLM:long"', "GLM:long (long context: ", id="the setting counts"),
        pytest.param('{ model = "GLM:long", over = 90000 }', None, id="the table's own wins"),
    ],
)
async def test_the_threshold_of_the_env_file_applies_to_every_model(family, name, rule, route):
    """The threshold of the env file applies to every model."""
    table = f"[routes.Kimi]\nlong_context = {rule}"
    await family.start(table, Kimi={"LONG_CONTEXT_THRESHOLD": "2000"}, GLM={})
    answer = await family.proxies["Kimi"].ask(prompt("word " * 4000, model=name))
    header = answer.headers.get("x-ccproxy-route")
    assert header is None if route is None else header.startswith(route)
    short = await family.proxies["Kimi"].ask(prompt(model=name))
    assert "x-ccproxy-route" not in short.headers


async def test_the_window_of_another_entrys_model_is_used(family):
    rules = '[routes.Kimi]\nmain = "GLM:big"\nlong_context = "DeepSeek:big"'
    await family.start(rules, Kimi={}, GLM={"CONTEXT_WINDOW": "2000"}, DeepSeek={})
    kimi = family.proxies["Kimi"]
    await kimi.ask(prompt())
    await kimi.ask(prompt("word " * 4000))
    assert family.requested() == {"GLM": ["glm-big"], "DeepSeek": ["deepseek-big"]}


async def test_a_model_by_its_own_name_is_not_routed(family):
    await family.start(RULES, Kimi={"PASS_MODELS": "kimi-*"}, GLM={}, DeepSeek={})
    await family.proxies["Kimi"].ask(
        prompt(model="kimi-special"), headers={"x-claude-code-agent-id": "a1"}
    )
    assert family.requested() == {"Kimi": ["kimi-special"]}


async def test_a_peers_rules_are_not_applied_again(family):
    rules = '[routes.Kimi]\nmain = "GLM:big"\n[routes.GLM]\nmain = "Kimi:big"'
    await family.start(rules, Kimi={}, GLM={})
    await family.proxies["Kimi"].ask()
    await family.proxies["GLM"].ask()
    assert family.requested() == {"GLM": ["glm-big"], "Kimi": ["kimi-big"]}


async def test_rules_apply_in_direct_mode(family):
    rules = '[routes.Kimi]\nimage = "GLM:big"\nthinking = "thinker"'
    await family.start(rules, Kimi={"PROVIDER_API": "messages"}, GLM={})
    kimi = family.proxies["Kimi"]
    messages = [{"role": "user", "content": [IMAGE]}]
    await kimi.ask(prompt(messages=messages))
    answer = await kimi.ask(prompt(thinking={"type": "adaptive"}))
    assert family.requested() == {"GLM": ["glm-big"], "Kimi": ["thinker"]}
    assert answer.message["model"] == "claude-opus-4-1"


async def test_changed_rules_are_read_again(family):
    await family.start(Kimi={}, GLM={})
    kimi = family.proxies["Kimi"]
    await kimi.ask()
    family.write('[routes.Kimi]\nmain = "GLM:big"')
    await kimi.ask()
    family.write("")
    await kimi.ask()
    assert family.requested() == {"Kimi": ["kimi-big", "kimi-big"], "GLM": ["glm-big"]}


async def test_an_unreadable_body_is_refused_as_usual(family):
    await family.start(RULES, Kimi={}, GLM={}, DeepSeek={})
    for body in (b"", b"[]", b'{"model":3}', b'{"model":"x"', b'{"messages":[]}', b'{"model":""}'):
        answer = await family.proxies["Kimi"].ask(body)
        assert (answer.status, answer.error["type"]) == (400, "invalid_request_error"), body


# The switch.


def switch(family: Family, label: str, **tiers: str) -> None:
    write_switch(switch_path(family.home / "state", label), ModelSwitch(tiers=Tiers(**tiers)))


async def test_the_next_request_uses_the_switch(family):
    await family.start(Kimi={}, GLM={})
    kimi = family.proxies["Kimi"]
    await kimi.ask()
    switch(family, "Kimi", big="GLM:small", small="kimi-tiny")
    answer = await kimi.ask()
    assert answer.headers["x-ccproxy-route"] == "GLM:small (big of switched)"
    await kimi.ask(prompt(model="claude-haiku-5-5"))
    await kimi.ask(prompt(model="claude-sonnet-5-5"))
    await kimi.ask(prompt(model="kimi-small"))
    assert family.requested() == {
        "Kimi": ["kimi-big", "kimi-tiny", "kimi-middle", "kimi-tiny"],
        "GLM": ["glm-small"],
    }
    write_switch(kimi.worker.chooser.switch_file, NO_SWITCH)
    await kimi.ask()
    assert family.requested()["Kimi"][-1] == "kimi-big"


async def test_a_tier_after_a_label_is_the_switched_one(family):
    await family.start(Kimi={}, GLM={})
    switch(family, "GLM", big="glm-other")
    await family.proxies["Kimi"].ask(prompt(model="GLM:big"))
    assert family.requested() == {"GLM": ["glm-other"]}


async def test_a_running_stream_is_not_affected_by_a_switch(family):
    await family.start(Kimi={}, GLM={})
    kimi = family.proxies["Kimi"]
    async with kimi.post("/v1/messages", prompt(stream=True)) as got:
        begun = await got.content.readany()
        switch(family, "Kimi", big="GLM:big")
        rest = await got.content.read()
    assert b"message_stop" in begun + rest
    assert family.requested() == {"Kimi": ["kimi-big"]}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '{"big": 3}', '{"big": ["x"]}', '{"big": "x", "preset": 7}', "\x00"],
)
def test_a_torn_switch_is_ignored(tmp_path, text):
    file = tmp_path / "kimi.switch.json"
    file.write_text(text)
    assert read_switch(file) == NO_SWITCH


@pytest.mark.parametrize(
    "written",
    [
        ModelSwitch(tiers=Tiers(big="GLM:big", small="x"), preset="fast"),
        ModelSwitch(tiers=Tiers(middle="x")),
    ],
)
def test_a_switch_survives_a_round_trip(tmp_path, written):
    file = switch_path(tmp_path / "state", "Kimi")
    write_switch(file, written)
    assert read_switch(file) == written
    assert (file.stat().st_mode & 0o777, json.loads(file.read_text())["middle"]) == (
        0o600,
        written.tiers.middle,
    )
    assert [path.name for path in file.parent.iterdir()] == ["kimi.switch.json"]


def test_no_switch_leaves_no_file(tmp_path):
    file = switch_path(tmp_path, "Kimi")
    write_switch(file, ModelSwitch(tiers=Tiers(big="x")))
    write_switch(file, ModelSwitch(tiers=NO_TIERS))
    write_switch(file, NO_SWITCH)
    assert not file.exists()


# A switch that running sessions follow when their prefix changes.

RUNNING = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "Go on"},
]


async def test_running_sessions_follow_a_switch_after_their_compaction(family):
    await family.start(Kimi={}, GLM={})
    kimi = family.proxies["Kimi"]

    async def model(session="s1", *, running=True, kind="main", **more):
        headers = {"x-claude-code-request-class": kind, **more}
        if session:
            headers["x-claude-code-session-id"] = session
        body = prompt() | ({"messages": RUNNING} if running else {})
        before = {label: len(provider.calls) for label, provider in family.providers.items()}
        assert (await kimi.ask(body, headers=headers)).status == 200
        ((label, calls),) = [
            (label, provider.calls)
            for label, provider in family.providers.items()
            if len(provider.calls) > before[label]
        ]
        return f"{label}:{calls[-1].json['model']}"

    old, new = "Kimi:kimi-big", "GLM:glm-big"
    file, now = kimi.worker.chooser.switch_file, [1000.0]
    kimi.worker.chooser._wall = lambda: now[0]
    waiting = ModelSwitch(tiers=Tiers(big="GLM:big")).waiting(NO_SWITCH, until=1060.0)
    write_switch(file, waiting)
    assert [await model(), await model(kind="compaction"), await model()] == [old, old, new]
    assert [await model("s2", running=False), await model("s2")] == [new, new]
    assert await model("") == new, "no session"
    agent = {"x-claude-code-agent-id": "a1"}
    assert [await model("s3"), await model("s3", running=False, **agent)] == [old, new]
    now[0] += 60
    assert await model("s3") == new, "the wait is bounded"

    write_switch(file, NO_SWITCH.waiting(waiting, until=1200.0))
    assert [await model(), await model("s4", running=False)] == [new, old], "also back again"


def test_the_sessions_of_a_pending_switch_are_bounded():
    pending = PendingSwitch()
    switch = ModelSwitch(tiers=Tiers(big="x"), until=1.0)
    for number in range(MAX_SESSIONS + 3):
        headers = {"x-claude-code-session-id": str(number)}
        assert pending.switch_for(switch, headers, lambda: b"{}") is switch
    assert len(pending._sessions) == MAX_SESSIONS
