"""Losses of the prompt cache: every cause is reported, and ordinary turns cause no report."""

from __future__ import annotations

import copy
import json
import random

import pytest

from ccproxy.convert.prompt_prefix import read_prompt
from ccproxy.ipc.control_messages import RequestsRequest
from ccproxy.worker.activity.cache_loss_detector import (
    MAX_CONVERSATIONS,
    MAX_SESSIONS,
    CacheLossDetector,
)
from ccproxy.worker.server.access_record import AccessRecord
from tests.fleet import eventually
from tests.provider import completion
from tests.worker.proxy import running

BLOCK = 128
"""The tokens of a block; a provider caches whole blocks."""
MARK = {"cache_control": {"type": "ephemeral"}}
SUMMARY = "This session is being continued from a previous conversation. The user wants a parser."


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class PromptCache:
    """A provider's prompt cache: per key and model, the longest common prefix of five minutes."""

    def __init__(self, clock, ttl=300.0):
        self._clock = clock
        self._ttl = ttl
        self._entries = []

    def usage(self, body, key, model):
        """Return the provider's usage; a token is four characters of the prompt."""
        rendered = self.render(body)
        now = self._clock()
        self._entries = [one for one in self._entries if now - one[0] <= self._ttl]
        cached = max(
            (_common(text, rendered) for _, which, text in self._entries if which == (key, model)),
            default=0,
        )
        self._entries.append((now, (key, model), rendered))
        tokens, read = len(rendered) // 4, cached // 4 // BLOCK * BLOCK
        return {
            "input_tokens": tokens - read,
            "cache_read_input_tokens": read,
            "output_tokens": 50,
        }

    @staticmethod
    def render(body):
        parts = [_text([tool]) for tool in body.get("tools", [])]
        parts += [_text(body.get("system", ""))]
        parts += [json.dumps(body.get(name)) for name in ("thinking", "tool_choice")]
        parts += [f"{one['role']}: {_text(one['content'])}" for one in body["messages"]]
        return "\n".join(parts)


def _common(one, other):
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def _text(content):
    if isinstance(content, str):
        return content
    blocks = [{k: v for k, v in one.items() if k != "cache_control"} for one in content]
    return "".join(
        one["text"] if set(one) == {"type", "text"} else json.dumps(one) for one in blocks
    )


class ClaudeCode:
    """Requests in the form of Claude Code 2.1.332: roles, cache marks, lists and strings."""

    def __init__(self, name="s-1", tools=12, seed=1):
        self.name = name
        self.random = random.Random(seed)
        self.tools = [self.tool(f"Tool{number}") for number in range(tools)]
        self.system = [
            "x-anthropic-billing-header: cc_version=2.1.332.201; cc_entrypoint=cli;",
            "You are Claude Code, Anthropic's official CLI for Claude.",
            self.words(1400),
        ]
        self.thinking = {"type": "adaptive", "display": "updates"}
        self.messages = [
            ("user", [self.words(140), "Write a parser"]),
            ("system", self.words(2300)),
        ]
        self.turn = 0

    def words(self, count):
        return " ".join(self.random.choice(WORDS) for _ in range(count))

    def tool(self, name):
        schema = {"type": "object", "properties": {"path": {"type": "string"}}}
        return {"name": name, "description": self.words(200), "input_schema": schema}

    def answer(self):
        """Add an answer with calls of one or two tools, or with text, and the next user message."""
        self.turn += 1
        if self.random.random() < 0.7:
            ids = [f"toolu_{self.turn}_{n}" for n in range(self.random.choice((1, 1, 2)))]
            calls = [
                {"type": "tool_use", "id": one, "name": "Tool1", "input": {"path": self.words(2)}}
                for one in ids
            ]
            self.messages.append(("assistant", [{"type": "text", "text": self.words(20)}, *calls]))
            results = [
                {"type": "tool_result", "tool_use_id": one, "content": self.words(300)}
                for one in ids
            ]
            self.messages.append(("user", results))
        else:
            self.messages.append(("assistant", [{"type": "text", "text": self.words(60)}]))
            self.messages.append(("user", self.words(30)))
        if self.random.random() < 0.1:
            self.messages.append(("system", self.words(40)))

    def body(self):
        last = len(self.messages) - 1
        return {
            "model": "claude-opus-4-1",
            "messages": [
                {"role": role, "content": self._content(content, is_last=index == last)}
                for index, (role, content) in enumerate(self.messages)
            ],
            "system": [
                {"type": "text", "text": text, **(MARK if index else {})}
                for index, text in enumerate(self.system)
            ],
            "tools": self.tools,
            "metadata": {"user_id": json.dumps({"session_id": self.name})},
            "max_tokens": 32000,
            "thinking": self.thinking,
            "stream": True,
        }

    @staticmethod
    def _content(content, *, is_last):
        if isinstance(content, str):
            return [{"type": "text", "text": content, **MARK}] if is_last else content
        blocks = [{"type": "text", "text": one} if isinstance(one, str) else one for one in content]
        return [*blocks[:-1], {**blocks[-1], **MARK}] if is_last else blocks


WORDS = [
    "parse",
    "file",
    "the",
    "token",
    "error",
    "value",
    "naïve",
    "日本",
    'a "quoted" word',
    "\\",
]


class Rig:
    """The detector of a worker and a provider with a prompt cache."""

    def __init__(self, *, keeps_attribution=True):
        self.clock = Clock()
        self.cache = PromptCache(self.clock)
        self.loss_detector = CacheLossDetector(_cost, clock=self.clock)
        self.keeps_attribution = keeps_attribution

    def ask(self, body, *, session="s-1", agent="", model="kimi-k3", key="…0001", **fields):
        record = AccessRecord(request_id="req_1", method="POST", path="/v1/messages", **fields)
        record.session, record.agent, record.model, record.key = session, agent, model, key
        record.stop_reason = "end_turn"
        record.usage = self.cache.usage(body, key, model)
        self.clock.now += 8
        return self.loss_detector.note(record, lambda: self.read(body))

    def read(self, body):
        return read_prompt(json.dumps(body).encode(), keeps_attribution=self.keeps_attribution)


def _cost(model, usage):
    prices = {"input_tokens": 1.0, "cache_read_input_tokens": 0.1, "output_tokens": 3.0}
    return sum(usage.get(name, 0) * price for name, price in prices.items()) / 1e6


@pytest.fixture
def rig():
    return Rig()


def conversation(rig, turns=6, **how):
    """Return a conversation whose beginning is in the cache."""
    client = ClaudeCode(**how)
    for _ in range(turns):
        assert rig.ask(client.body()) is None
        client.answer()
    return client


# Changes to the client between two requests.


def replace(items, index, value):
    items[index] = value


def compact(client):
    client.messages = [("user", [client.words(140), SUMMARY + client.words(200)])]


def ask_for_summary(client):
    client.messages = [
        *client.messages[3:],
        ("user", "CRITICAL: Respond with TEXT ONLY. Summarize"),
    ]


def clear_results(client):
    for index, (role, content) in enumerate(client.messages[:-2]):
        if role == "user" and isinstance(content, list) and isinstance(content[0], dict):
            cleared = [{**one, "content": "[Old tool result content cleared]"} for one in content]
            client.messages[index] = (role, cleared)
            return


def rewind(client):
    client.messages = [*client.messages[:2], ("user", "Start again, in Rust" + client.words(2600))]


def change_message(client):
    client.messages[1] = ("system", client.words(2300))


CHANGES = [
    (lambda c: c.tools.insert(0, c.tool("Deploy")), "tool_added", "tools[0] Deploy"),
    (lambda c: c.tools.append(c.tool("mcp__x")), "tool_added", "tools[12] mcp__x"),
    (
        lambda c: c.tools.extend([c.tool("mcp__a"), c.tool("mcp__b")]),
        "tool_added",
        "tools[12] mcp__a",
    ),
    (lambda c: c.tools.pop(0), "tool_removed", "tools[0] Tool0"),
    (lambda c: c.tools.pop(), "tool_removed", "tools[11] Tool11"),
    (lambda c: c.tools.clear(), "tool_removed", "tools[0] Tool0"),
    (lambda c: replace(c.tools, 3, c.tool("Tool3")), "tool_changed", "tools[3] Tool3"),
    (
        lambda c: replace(c.tools, 2, {**c.tools[2], "input_schema": {"type": "object"}}),
        "tool_changed",
        "tools[2] Tool2",
    ),
    (lambda c: c.tools.reverse(), "tools_reordered", "tools[0] Tool11"),
    (
        lambda c: replace(c.system, 0, "x-anthropic-billing-header: cc_version=2.1.333.1; cch=9f;"),
        "attribution_header",
        "system[0]",
    ),
    (lambda c: c.system.pop(0), "system_changed", "system[0]"),
    (
        lambda c: replace(c.system, 1, "You are a Claude agent, built on the Agent SDK."),
        "system_changed",
        "system[1]",
    ),
    (lambda c: replace(c.system, 2, c.words(1400)), "system_changed", "system[2]"),
    (lambda c: c.system.append(c.words(10)), "system_changed", "system[3]"),
    (compact, "compaction", "messages[0]"),
    (ask_for_summary, "compaction", "messages[0]"),
    (clear_results, "tool_results_cleared", None),
    (change_message, "message_changed", "messages[1]"),
    (
        lambda c: replace(c.messages, 0, ("user", ["Today is another day", "Write a parser"])),
        "message_changed",
        "messages[0]",
    ),
    (rewind, "messages_removed", "messages[2]"),
    (
        lambda c: setattr(c, "thinking", {"type": "enabled", "budget_tokens": 31999}),
        "parameters_changed",
        "thinking",
    ),
]


@pytest.mark.parametrize(
    ("change", "cause", "block"),
    CHANGES,
    ids=[f"{number}: {cause}" for number, (_, cause, _) in enumerate(CHANGES, 1)],
)
def test_a_change_of_the_prompt_is_named(rig, change, cause, block):
    client = conversation(rig)
    change(client)
    loss = rig.ask(client.body())
    assert loss is not None
    assert loss.cause == cause
    assert block is None or loss.block == block
    assert 0 <= loss.after < loss.before
    assert loss.lost > (0 if cause == "compaction" else 1000)
    assert loss.cost == pytest.approx(loss.lost * 0.9e-6)
    client.answer()
    assert rig.ask(client.body()) is None, "the next turn is an ordinary one"


@pytest.mark.parametrize(
    ("how", "cause", "detail"),
    [
        ({"model": "kimi-k2"}, "model_changed", "kimi-k3 answered before"),
        ({"key": "…0002"}, "key_moved", "…0001 was used before"),
    ],
)
def test_a_change_of_the_model_or_key_is_named(rig, how, cause, detail):
    client = conversation(rig)
    rig.loss_detector._caching["kimi-k2"] = None
    loss = rig.ask(client.body(), **how)
    assert (loss.cause, loss.detail) == (cause, detail)


def test_a_key_of_the_same_account_is_not_a_loss(rig):
    client = conversation(rig)
    record = AccessRecord(request_id="r", method="POST", path="/")
    record.session, record.model, record.key = "s-1", "kimi-k3", "…0002"
    record.stop_reason = "end_turn"
    body = client.body()
    record.usage = rig.cache.usage(body, "…0001", "kimi-k3")
    assert rig.loss_detector.note(record, lambda: rig.read(body)) is None


def test_time_is_the_cause_if_nothing_changed(rig):
    client = conversation(rig)
    rig.clock.now += 400
    loss = rig.ask(client.body())
    assert (loss.cause, loss.after, loss.detail) == ("ttl", 0, "7 min without a request")


def test_the_provider_is_the_cause_if_a_one_hour_cache_expires_early(rig):
    client = conversation(rig)
    client.tools[-1] = {**client.tools[-1], "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert rig.ask(client.body()) is None
    rig.clock.now += 400
    assert rig.ask(client.body()).cause == "provider"


def test_the_provider_is_the_cause_if_there_is_no_other(rig):
    client = conversation(rig)
    rig.cache._entries.clear()
    loss = rig.ask(client.body())
    assert (loss.cause, loss.after) == ("provider", 0)


def test_an_answer_of_another_entry_in_between(rig):
    client = conversation(rig)
    rig.ask(client.body(), answered_by="GLM")
    rig.cache._entries.clear()
    client.answer()
    loss = rig.ask(client.body())
    assert (loss.cause, loss.detail) == ("entry_changed", "GLM answered before")
    client.answer()
    assert rig.ask(client.body()) is None


def test_100_ordinary_turns_raise_no_alarm(rig):
    """Three concurrent sessions have sub-agents, titles, web searches and errors."""
    chance = random.Random(7)
    clients = [ClaudeCode(f"s-{number}", seed=number) for number in range(3)]
    agents = {client.name: ClaudeCode(client.name, tools=10, seed=50) for client in clients}
    losses, turns = [], 0
    while turns < 100:
        client = chance.choice(clients)
        losses.append(rig.ask(client.body(), session=client.name))
        client.answer()
        turns += 1
        name = client.name
        match chance.randrange(8):
            case 0:
                agent = agents[name]
                losses.append(rig.ask(agent.body(), session=name, agent="a-1"))
                agent.answer()
                turns += 1
            case 1:  # a new sub-agent: the same tools, a different task
                agents[name] = ClaudeCode(name, tools=10, seed=turns)
                losses.append(rig.ask(agents[name].body(), session=name, agent=f"a-{turns}"))
            case 2:  # the title of the session: no tools, a different system prompt
                title = {"messages": [{"role": "user", "content": client.words(60)}], "system": "T"}
                losses.append(rig.ask(title, session=name))
            case 3:  # a web search on the same model
                search = {
                    "messages": [{"role": "user", "content": "Perform a web search: " + name}],
                    "tools": [{"type": "web_search_20250305", "name": "web_search"}],
                }
                losses.append(rig.ask(search, session=name))
            case 4:  # the client repeats a request
                losses.append(rig.ask(client.body(), session=name))
            case 5:  # an error in between
                losses.append(rig.ask(client.body(), session=name, error="api_error"))
            case 6:  # two requests of one session that overlap
                losses.append(rig.ask(copy.deepcopy(client.body()), session=name))
            case _:
                pass
    assert turns >= 100
    assert [loss for loss in losses if loss is not None] == []


def test_the_attribution_is_not_a_cause_if_conversion_removes_it():
    rig = Rig(keeps_attribution=False)
    client = conversation(rig)
    client.system[0] = "x-anthropic-billing-header: cc_version=2.1.333.1; cch=9f;"
    client.messages[1] = ("system", client.words(2300))
    assert rig.ask(client.body()).cause == "message_changed"


def test_a_model_without_a_cache_is_not_examined(rig):
    record = AccessRecord(request_id="r", method="POST", path="/")
    record.session, record.model, record.stop_reason = "s", "m", "end_turn"
    record.usage = {"input_tokens": 5000, "output_tokens": 3}
    assert rig.loss_detector.note(record, lambda: pytest.fail("the prompt is read")) is None
    assert rig.loss_detector._sessions == {}


def test_other_clients_are_not_examined(rig):
    assert rig.ask(ClaudeCode().body(), session="") is None
    assert rig.loss_detector._sessions == {}


def test_memory_is_bounded(rig):
    client = conversation(rig)
    for number in range(MAX_SESSIONS + 5):
        rig.ask(client.body(), session=f"other-{number}")
    assert len(rig.loss_detector._sessions) == MAX_SESSIONS
    for number in range(MAX_CONVERSATIONS + 5):
        rig.ask(
            {"messages": [{"role": "user", "content": f"{number}" + client.words(900)}]},
            session="other-66",
        )
    assert len(rig.loss_detector._sessions["other-66", ""].conversations) == MAX_CONVERSATIONS


async def test_a_worker_reports_the_cause(tmp_path, provider):
    usage = {"prompt_tokens": 9000, "completion_tokens": 5, "total_tokens": 9005}

    def answer(cached):
        return completion("ok", usage={**usage, "prompt_tokens_details": {"cached_tokens": cached}})

    provider.script(answer(8000), answer(8000), answer(0))
    client = ClaudeCode()
    headers = {"x-claude-code-session-id": "s-1"}
    async with running(
        tmp_path, provider.url, PRICES="gpt-4o=1/3/0.1", BIG_MODEL="gpt-4o"
    ) as proxy:
        for _ in range(2):
            await proxy.ask(client.body(), headers=headers)
            client.answer()
        client.tools.append(client.tool("Deploy"))
        await proxy.ask(client.body(), headers=headers)
        activity = proxy.worker.activity
        await eventually(lambda: len(activity.requests(RequestsRequest()).finished) == 3)
    losses = [one.cache_loss for one in activity.requests(RequestsRequest()).finished]
    assert losses[:2] == [None, None]
    assert (losses[2].cause, losses[2].block) == ("tool_added", "tools[12] Deploy")
    assert (losses[2].lost, losses[2].cost) == (8000, pytest.approx(8000 * 0.9e-6))
