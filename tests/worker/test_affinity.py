"""Sessions over HTTP: each stays with its key, and every move is logged and shown."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections import Counter, defaultdict

import aiohttp
import psutil
import pytest

from ccproxy.ipc.control_messages import KeysRequest
from ccproxy.store.key_database import SESSIONS, KeyStore, keys_path
from ccproxy.worker.key_report import answer_keys
from tests import messages
from tests.fleet import FleetHome, eventually
from tests.messages import prompt
from tests.provider import completion, failure
from tests.worker.proxy import running

KEYS = tuple(f"sk-key-number-{number:04}" for number in range(1, 6))
THREE = ",".join(KEYS[:3])
LONG = "A long question. " * 1000


def headers(session, **more):
    named = {f"x-claude-code-{name.replace('_', '-')}": value for name, value in more.items()}
    return {"x-claude-code-session-id": session, **named}


async def ask(proxy, session, text="Hello", **more):
    answer = await proxy.ask(prompt(text), headers=headers(session, **more))
    assert answer.status == 200


def keys_of(provider):
    return [f"k{KEYS.index(call.key) + 1}" for call in provider.calls]


async def test_200_sessions_over_5_keys(start, provider):
    """The test sends 1,000 requests, 40 at once; the pool's own test has 10,000."""
    proxy = await start(PROVIDER_API_KEY=",".join(KEYS), LOG_LEVEL="INFO")
    names = [f"session-{number}" for number in range(200)]
    used = defaultdict(set)

    def script(call):
        used[call.json["messages"][-1]["content"]].add(call.key)
        return completion("ok")

    provider.script(script)
    for _ in range(5):
        for first in range(0, 200, 40):
            await asyncio.gather(*(ask(proxy, name, name) for name in names[first : first + 40]))
    assert [len(keys) for keys in used.values()] == [1] * 200
    assert set(Counter(next(iter(keys)) for keys in used.values()).values()) == {40}
    assert proxy.lines("session.moved") == []


async def test_requests_without_a_session_rotate_exactly(start, provider):
    proxy = await start(PROVIDER_API_KEY=THREE)
    for _ in range(9):
        await proxy.ask()
    assert keys_of(provider) == ["k1", "k2", "k3"] * 3


async def test_a_conversation_without_a_session_id_keeps_its_key_too(start, provider):
    proxy = await start(PROVIDER_API_KEY=THREE)
    question = {"role": "user", "content": LONG}
    turns = [question, {"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]
    for _ in range(4):
        await proxy.ask({**prompt(), "messages": turns})
        turns += turns[-2:]
    assert keys_of(provider) == ["k1"] * 4


@pytest.mark.parametrize("api", ["chat", "messages"])
async def test_a_key_that_is_rejected_in_a_session_causes_one_move(start, provider, api):
    proxy = await start(PROVIDER_API_KEY=THREE, PROVIDER_API=api)
    refused = set()
    provider.script(
        lambda call: failure(429, retry_after=60) if call.key in refused else completion("ok")
    )
    await ask(proxy, "3f2a91bc-session", LONG)
    refused.add(KEYS[0])
    for _ in range(3):
        await ask(proxy, "3f2a91bc-session", LONG)
    assert keys_of(provider) == ["k1", "k1", "k2", "k2", "k2"]
    (line,) = proxy.lines("session.moved")
    lost = line["cached_tokens_lost"]
    assert 4000 < lost < 5000, "17,000 characters"
    assert (line["session"], line["reason"]) == ("3f2a91bc", "rate_limit")
    assert (line["source"], line["target"]) == ("k1 …0001", "k2 …0002")

    reply = await answer_keys(proxy.worker, KeysRequest())
    (move,) = reply.moves
    assert (move.source, move.target, move.cached_tokens_lost) == ("k1 …0001", "k2 …0002", lost)
    assert (move.cause, move.reason) == ("rate_limit", "the key is rate-limited")
    assert [key.sessions for key in reply.keys] == [0, 1, 0]
    assert reply.strategy == "rotate"


async def test_auxiliary_requests_use_other_keys(start, provider):
    proxy = await start(PROVIDER_API_KEY=THREE)
    await ask(proxy, "a")
    for _ in range(3):
        await ask(proxy, "a", request_class="auxiliary")
        await ask(proxy, "a", request_class="main")
    assert keys_of(provider)[::2] == ["k1"] * 4
    assert set(keys_of(provider)[1::2]) == {"k2", "k3"}


@pytest.mark.parametrize(
    ("affinity", "expected"),
    [
        pytest.param("session", ["k1", "k1", "k1", "k1"], id="subagents stay with the session"),
        pytest.param("conversation", ["k1", "k2", "k1", "k2"], id="subagents use other keys"),
        pytest.param("off", ["k1", "k2", "k3", "k1"], id="every request rotates"),
    ],
)
async def test_the_unit_of_affinity_can_be_configured(start, provider, affinity, expected):
    proxy = await start(PROVIDER_API_KEY=THREE, KEY_AFFINITY=affinity)
    for _ in range(2):
        await ask(proxy, "a")
        await ask(proxy, "a", agent_id="agent-1")
    assert keys_of(provider) == expected


async def test_a_client_cannot_use_the_session_of_another(start, provider):
    clients = ("client-key-of-alice-0001", "client-key-of-bob-00000002")
    proxy = await start(PROVIDER_API_KEY=THREE, ANTHROPIC_API_KEY=",".join(clients))
    for client in (*clients, *clients):
        names = {**headers("a"), "Authorization": f"Bearer {client}"}
        assert (await proxy.ask(prompt("Hello"), headers=names)).status == 200
    assert keys_of(provider) == ["k1", "k2", "k1", "k2"]


async def test_the_strategies_apply_to_requests_and_sessions(start, provider, tmp_path):
    """The keys are in a file, with and without weights."""
    file = tmp_path / "provider.keys"
    for text, settings, expected in [
        ("{}\n{}\n", {"KEY_STRATEGY": "fill-first"}, ["k1"] * 8),
        ("{};weight=3\n{}\n", {}, ["k1", "k1", "k2", "k1"] * 2),
        ("{};priority=2\n{}\n", {"KEY_STRATEGY": "priority"}, ["k2"] * 8),
    ]:
        file.write_text(text.format(*KEYS))
        file.chmod(0o600)
        proxy = await start(PROVIDER_API_KEY="", PROVIDER_API_KEYS_FILE=str(file), **settings)
        provider.calls.clear()
        for number in range(4):
            await ask(proxy, f"session-{number}")
        for _ in range(4):
            await proxy.ask()
        assert sorted(keys_of(provider)) == sorted(expected)


async def test_paid_keys_serve_last_and_the_session_returns_after_a_compaction(start, provider):
    keys = f"{KEYS[0]},{KEYS[1]};priority=2"
    proxy = await start(PROVIDER_API_KEY=keys)
    proxy.worker.pool.disable("k1")
    await ask(proxy, "a", LONG)
    proxy.worker.pool.enable("k1")
    for kind in ("main", "compaction", "main", "main"):
        await ask(proxy, "a", LONG, request_class=kind)
    assert keys_of(provider) == ["k2", "k2", "k2", "k1", "k1"]
    (line,) = proxy.lines("session.moved")
    assert (line["reason"], line["cached_tokens_lost"]) == ("preferred_key_at_new_prefix", 0)


async def test_a_session_keeps_its_key_across_a_restart(tmp_path, provider):
    settings = {"PROVIDER_API_KEY": THREE}
    async with running(tmp_path, provider.url, **settings) as proxy:
        for name in "abc":
            await ask(proxy, name)
    async with running(tmp_path, provider.url, **settings) as proxy:
        for name in "cba":
            await ask(proxy, name)
    assert keys_of(provider) == ["k1", "k2", "k3", "k3", "k2", "k1"]


async def test_processes_of_an_entry_share_sessions_which_survive_a_kill_of_all(tmp_path, provider):
    async with FleetHome(tmp_path) as home:
        home.write(kimi={"PROVIDER_BASE_URL": provider.url, "PROVIDER_API_KEY": THREE})
        entry = re.search(r'"(\d+):(.*?):(.*?)"', (home.path / "ccproxy.toml").read_text())
        assert entry is not None
        port, env_file, label = entry.groups()
        fields = f'port = {port}\nenv_file = "{env_file}"\nlabel = "{label}"\nworkers = 2\n'
        (home.path / "ccproxy.toml").write_text(f"[[proxy]]\n{fields}")
        assert (await home.ccproxy("start")).code == 0
        used = defaultdict(set)

        def script(call):
            used[call.json["messages"][-1]["content"]].add(call.key)
            return completion("ok")

        async def ask_once(name):
            async with aiohttp.ClientSession() as client:
                got = await messages.ask(client, url, prompt(name), headers=headers(name))
            return got.status == 200

        provider.script(script)
        url, names = home.url("kimi"), [f"session-{number}" for number in range(30)]
        for _ in range(3):
            assert all(await asyncio.gather(*map(ask_once, names)))
        store = KeyStore(keys_path(home.path, "kimi"))
        await eventually(lambda: len(store.load_value(SESSIONS) or ()) == len(names))
        store.close()
        before = pids(home)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not any(map(psutil.pid_exists, before)))
        assert all(await asyncio.gather(*map(ask_once, names)))
        assert not before & pids(home)
    assert [len(keys) for keys in used.values()] == [1] * 30
    assert set(Counter(next(iter(keys)) for keys in used.values()).values()) == {10}


def pids(home):
    """Return the pids of the workers."""
    records = (home.path / "pids").glob("kimi*.pid")
    return {json.loads(path.read_text())["pid"] for path in records}
