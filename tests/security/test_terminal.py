"""Text from clients, providers and files cannot control the user's terminal."""

from __future__ import annotations

import json

import aiohttp
import pytest

from tests.fleet import FleetHome, eventually
from tests.messages import ask, prompt
from tests.provider import completion, failure
from tests.steering import STEERING

pytestmark = pytest.mark.xdist_group("processes")

# Clears the screen, sets the window title, changes the text direction, starts a new line.
SIGNS = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eevil\u2066\u200f\r\nforged\u2028line\x08"
MODEL = f"model-{SIGNS}"
TURNED = "m\u202eledom\u2066"
COMMANDS = [
    "status",
    "status -v",
    "status --json",
    "logs -n 500",
    "logs -n 500 --level debug -v",
    "keys",
    "keys one",
    "keys --json",
    "keys one test",
    "doctor --offline",
    "doctor --online",
    "doctor --offline --json",
    "doctor --offline --report",
    "history",
    "history one",
    "usage",
    "usage --by model",
    "usage --by key --json",
    "usage --by day",
    "route one",
    "check",
]


@pytest.fixture
async def home(tmp_path, provider):
    """A fleet with a client and a provider that send only hostile text."""
    async with FleetHome(tmp_path) as home:
        home.write(
            one={
                "PROVIDER_BASE_URL": provider.url,
                "PROVIDER_API_KEY": "sk-one-0123456789abcdef,sk-two-0123456789abcdef",
                "BIG_MODEL": TURNED,
                "PASS_MODELS": "model-*",
                "HISTORY": "on",
                "INSPECT": "on",
                "LOG_LEVEL": "DEBUG",
                "MAX_RETRIES": "0",
            }
        )
        started = await home.ccproxy("start")
        assert started.code == 0, started.err
        assert not STEERING.search(started.out + started.err)
        provider.script(
            completion(f"answer {SIGNS}"),
            failure(500, f"broken {SIGNS}"),
            failure(400, f"refused {SIGNS}"),
            failure(401, f"no such key {SIGNS}"),
        )
        statuses = []
        async with aiohttp.ClientSession() as session:
            for _ in range(4):
                answer = await ask(
                    session,
                    home.url("one"),
                    {**prompt(f"question {SIGNS}"), "model": MODEL},
                    headers={"User-Agent": "agent \u202e\x9b31m".encode().decode("latin-1")},
                )
                statuses.append(answer.status)
        assert statuses[0] == 200
        assert all(status >= 400 for status in statuses[1:])
        yield home


async def test_no_command_prints_control_characters(home):
    output = {}
    for command in COMMANDS:
        done = await home.ccproxy(*command.split())
        output[command] = done.out + done.err
        result = STEERING.search(output[command])
        assert not result, f"{command}: {output[command]!a}"
        assert "Traceback" not in output[command]
    # The hostile text is shown, but escaped.
    assert "ledom" in output["status"]
    assert "\\u001b[2J" in output["logs -n 500"]
    assert "\\x1b[2J" in output["history"]
    assert "model-" in output["usage --by model"]
    assert "no such key" in output["keys one test"]


async def test_each_event_is_one_log_line(home):
    def lines() -> list[bytes]:
        content = (home.path / "logs/one.log").read_bytes()
        return content.removesuffix(b"\n").split(b"\n")

    def requests() -> list[bytes]:
        return [line for line in lines() if json.loads(line)["event"] == "request.finished"]

    await eventually(lambda: len(requests()) == 4)
    assert not any(b"\x1b" in line or b"\r" in line for line in lines())
