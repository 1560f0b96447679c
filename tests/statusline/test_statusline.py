"""`ccproxy-statusline` with a running fleet: its output, and that it never fails."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

import ccproxy
from ccproxy.statusline.__main__ import output
from ccproxy.statusline.entry_state import EntryState
from ccproxy.statusline.session_view import SessionView
from tests.fleet import FleetHome, eventually
from tests.messages import prompt
from tests.provider import Provider, completion, failure

SESSION = "11111111-2222-3333-4444-555555555555"
STDIN = {
    "session_id": SESSION,
    "model": {"id": "kimi:big"},
    "context_window": {"current_usage": {"input_tokens": 3000, "cache_read_input_tokens": 97000}},
}


@pytest.fixture
async def home(tmp_path: Path, provider: Provider) -> AsyncIterator[FleetHome]:
    server = {"PROVIDER_BASE_URL": provider.url, "MAX_RETRIES": "0"}
    async with FleetHome(tmp_path) as home:
        home.write(
            kimi={
                **server,
                "PROVIDER_API_KEY": "sk-kimi-00001111,sk-kimi-00002222",
                "BIG_MODEL": "kimi-k3",
                "CONTEXT_WINDOW": "200000",
            },
            glm={
                **server,
                "PROVIDER_API_KEY": "sk-glm-00003333",
                "BIG_MODEL": "glm-5",
                "CONTEXT_WINDOW": "1000000",
                "PRICES": "glm-5=1000/1000",
            },
        )
        table = tmp_path / "ccproxy.toml"
        table.write_text(table.read_text() + '[fallback]\nkimi = ["glm"]\n')
        done = await home.ccproxy("start")
        assert done.code == 0, done
        yield home


async def line(home: FleetHome, *arguments: str, stdin: object = STDIN, **environ: str) -> str:
    """Run the program like Claude Code, and return its output."""
    data = stdin if isinstance(stdin, bytes) else json.dumps(stdin).encode()
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "ccproxy.statusline", "--home", str(home.path), *arguments),
        env={**home.environ, **environ},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await child.communicate(data)
    assert (child.returncode, errors) == (0, b"")
    return out.decode()


async def ask(home: FleetHome, model: str = "kimi:big") -> int:
    headers = {"x-claude-code-session-id": SESSION}
    async with (
        aiohttp.ClientSession() as client,
        client.post(
            f"{home.url('kimi')}/v1/messages", json=prompt(model=model), headers=headers
        ) as answer,
    ):
        await answer.read()
        return answer.status


async def test_the_line_shows_the_model_and_the_reason(home: FleetHome, provider: Provider) -> None:
    assert await line(home, "--label", "kimi") == "kimi · kimi-k3  50% of 200K  keys 2/2\n"
    assert await ask(home) == 200
    assert (await line(home, "--label", "kimi")).startswith("kimi · kimi-k3  50% of 200K  keys 2/2")

    provider.script(failure(500), completion("ok"))
    assert await ask(home) == 200
    display = await line(home, "--label", "kimi", COLUMNS="300")
    assert display.startswith("kimi → glm · glm-5 (fallback: api_error)")
    assert "10% of 1M  $" in display, "the window and the cost of the entry that answers"
    by_port = await line(home, ANTHROPIC_BASE_URL=home.url("kimi"), COLUMNS="300")
    assert by_port == display


async def test_a_selected_model_is_shown_before_its_first_answer(home: FleetHome) -> None:
    assert await ask(home) == 200
    chosen = STDIN | {"model": {"id": "glm:big[1m]"}}
    display = await line(home, "--label", "kimi", stdin=chosen)
    assert display.startswith("kimi → glm · glm-5  10% of 1M  ")


async def test_a_waiting_request_is_shown(home: FleetHome, provider: Provider) -> None:
    gate = asyncio.Event()
    provider.script(failure(429), replace(completion("ok"), gate=gate))
    asking = asyncio.create_task(ask(home))
    display = await eventually(lambda: _waiting(home))
    assert "waiting " in display
    assert ", attempt 2 after 429 rate limit, key …2222" in display
    assert "1 of 2 keys out: k1 …1111 cooling down" in display
    gate.set()
    await asking


async def _waiting(home: FleetHome) -> str:
    display = await line(home, "--label", "kimi", COLUMNS="300")
    return display if "waiting " in display else ""


async def test_the_users_own_line_comes_first(home: FleetHome) -> None:
    wrapped = 'read -r json; echo "mine ${#json}"; echo second'
    display = await line(home, "--label", "kimi", "--wrap", wrapped)
    assert display.splitlines()[:2] == [f"mine {len(json.dumps(STDIN))}", "second"]
    assert display.splitlines()[2].startswith("kimi · ")
    failing = await line(home, "--label", "kimi", "--wrap", "echo x; exit 3")
    assert failing.startswith("kimi · ")


@pytest.mark.parametrize(
    ("arguments", "stdin", "environ", "expected"),
    [
        (
            ["--label", "Kimi"],
            b"",
            {},
            "Kimi: the proxy does not answer; fix: ccproxy start Kimi\n",
        ),
        (
            [],
            b"[]",
            {"CCPROXY_ACTIVE": "a"},
            "a: the proxy does not answer; fix: ccproxy start a\n",
        ),
        ([], b"{}", {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1/v1/"}, ""),
        ([], b"null", {}, ""),
        (["--wrap"], b"{", {"ANTHROPIC_BASE_URL": "https://api.anthropic.com"}, ""),
        (["--wrap", "echo mine"], b"{", {}, "mine\n"),
    ],
)
def test_the_line_without_a_running_proxy(arguments, stdin, environ, expected, tmp_path):
    assert output(["--home", str(tmp_path), *arguments], stdin, environ) == expected


def test_the_line_is_empty_without_a_home():
    assert output([], b"{}", {}) == ""


def test_the_program_imports_no_slow_module():
    code = "import sys, ccproxy.statusline.__main__; print(*sys.modules)"
    done = subprocess.run(
        [
            sys.executable,
            "-S",
            "-P",
            "-c",
            code,
        ],  # -S: .pth files of installed packages may import more
        env={"PYTHONPATH": str(Path(ccproxy.__file__).parents[1])},
        capture_output=True,
        check=True,
    )
    slow = {"asyncio", "click", "dataclasses", "inspect", "msgspec", "pathlib", "subprocess"}
    assert not slow & set(done.stdout.decode().split())


@pytest.mark.parametrize(
    ("environ", "colors"), [({}, 1), ({"NO_COLOR": ""}, 1), ({"NO_COLOR": "1"}, 0)]
)
def test_an_empty_no_color_does_not_disable_colors(environ, colors, monkeypatch):
    view = SessionView(own=EntryState(label="kimi", reason="no key is ready"))
    monkeypatch.setattr("ccproxy.statusline.__main__.view_session", lambda *_, **__: view)
    assert output(["--home", "/"], b"{}", environ).count("\x1b[33m") == colors
