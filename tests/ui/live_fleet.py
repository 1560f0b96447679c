"""
A fleet with traffic of every kind, and its page, for the tests and the pictures in the docs.

`Mountain` works and records requests, `River` has unavailable keys, `Harbour` is hostile: it puts
markup, escapes and reversed text into models, tools and errors.
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from ccproxy.store.database import open_database
from ccproxy.store.usage_totals import FILE_NAME, SCHEMA, Used, add
from tests.fleet import FleetHome, eventually
from tests.provider import Answer, Call, Provider, completion, failure

HOSTILE = '<img src=x onerror="document.title=1">\u202egnp.exe\x1b[31m<script>window.hit=1</script>'
MODELS = {"Mountain": "summit-2-pro", "River": "delta-large-2026-08-preview", "Harbour": "pilot"}
USAGE = {
    "prompt_tokens": 18_432,
    "completion_tokens": 412,
    "prompt_tokens_details": {"cached_tokens": 16_100},
}
TOOLS = [
    {"name": "Read", "description": "Reads a file " * 40, "input_schema": {"type": "object"}},
    {"name": "Bash", "description": "Runs a command " * 60, "input_schema": {"type": "object"}},
]
HOSTILE_TOOL = {"name": '<img src=x onerror="window.hit=1">', "input_schema": {"type": "object"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFleet:
    """The running fleet and page, and the printed link."""

    home: FleetHome
    ui: asyncio.subprocess.Process
    link: str

    @property
    def url(self) -> str:
        """The address of the page, without the code."""
        return self.link.partition("#")[0]

    async def new_link(self) -> str:
        """Start another page process and return its link, because each code works only once."""
        return await read_link(self.ui)


def answer(call: Call) -> Answer:
    """Return the provider's answer, which depends on the model and the key."""
    text = call.body.decode()
    if "think hard" in text:
        return completion("Done.", usage=USAGE, gate=asyncio.Event())
    if "too long" in text:
        return failure(400, "this model's maximum context length is 131072 tokens")
    if call.key == "river-key-2222":
        return failure(429, "rate limit reached for this key", retry_after=2400)
    if call.key == "river-key-3333":
        return failure(401, "invalid api key")
    if "hostile" in text:
        return failure(400, f"bad request: {HOSTILE}")
    return completion("The tests pass now. I changed the parser and its table.", usage=USAGE)


def seed_usage(state: Path, *, days: int = 30) -> None:
    """Write statistics of the last days, the same in every run."""
    rng = random.Random(7)
    state.mkdir(parents=True, exist_ok=True)
    rows = []
    for day in range(1, days):
        for label, model in MODELS.items():
            weight = {"Mountain": 9, "River": 5, "Harbour": 2}[label]
            for number in range(rng.randint(1, weight)):
                cached = rng.randint(5_000, 60_000)
                rows.append(
                    Used(
                        time.time() - day * 86400,
                        label,
                        model,
                        f"…{1000 + number % 3 * 1111}",
                        rng.random() < 0.04,
                        rng.randint(800, 9_000),
                        rng.randint(100, 2_500),
                        cached,
                        rng.randint(0, 4_000),
                        0,
                        rng.uniform(0.4, 2.5),
                        rng.uniform(0.01, 0.2),
                        f"session-{day % 5}-{label.lower()}",
                        extra=0.02 if rng.random() < 0.05 else None,
                    )
                )
    database = open_database(state / FILE_NAME, SCHEMA).connection
    add(database, rows)
    database.close()


def write_fleet(home: FleetHome, url: str, *, pilot: str) -> None:
    """Write the table and the env files; *pilot* is Harbour's model."""
    common = {"PROVIDER_BASE_URL": url, "PRICES": "*=3/15/0.3"}
    home.write(
        Mountain={
            **common,
            "PROVIDER_API_KEY": "mountain-key-1111,mountain-key-4444",
            "BIG_MODEL": MODELS["Mountain"],
            "SMALL_MODEL": "summit-2-mini",
            "INSPECT": "on",
        },
        River={
            **common,
            "PROVIDER_API_KEY": "river-key-2222,river-key-3333,river-key-5555",
            "BIG_MODEL": MODELS["River"],
            "KEY_STRATEGY": "rotate",
        },
        Harbour={
            **common,
            "PROVIDER_API_KEY": "harbour-key-7777",
            "BIG_MODEL": pilot,
        },
    )
    table = home.path / "ccproxy.toml"
    routes = '\n[routes.Mountain]\nsubagent = "summit-2-mini"\n\n[fallback]\nMountain = ["River"]\n'
    table.write_text(table.read_text() + routes)


async def send(
    home: FleetHome,
    label: str,
    text: str,
    *,
    session: str = "",
    model: str = "claude-sonnet-5",
    count: int = 1,
) -> None:
    """Send requests like Claude Code."""
    body = {
        "model": model,
        "max_tokens": 100,
        "stream": True,
        "system": [{"type": "text", "text": "You are a careful engineer. " * 80}],
        "tools": [*TOOLS, HOSTILE_TOOL] if "<script>" in text else TOOLS,
        "messages": [
            {"role": "user", "content": "Why does the parser fail on empty input? " * 12},
            {"role": "assistant", "content": "It reads past the end of the buffer."},
            {"role": "user", "content": text},
        ],
    }
    headers = {"x-claude-code-session-id": session} if session else {}
    async with aiohttp.ClientSession() as client:
        for _ in range(count):
            async with client.post(
                f"{home.url(label)}/v1/messages", json=body, headers=headers
            ) as response:
                await response.read()


async def send_traffic(home: FleetHome) -> None:
    """Send requests that succeed, that need another key, and that fail."""
    session = "0b9a4c1e-4a44-4c34-9e0f-5a7b1c2d3e4f"
    await send(home, "Mountain", "Fix it, please.", session=session, count=9)
    await send(home, "River", "Write the test first.", count=5)
    await send(home, "Harbour", "hostile", count=2)
    await send(home, "Harbour", f"and this: {HOSTILE}", model=f"claude-{HOSTILE}")
    markup = '<img src=x onerror="window.hit=1">'
    await send(home, "Harbour", "And a session.", session=markup)
    await send(home, "Mountain", f"<script>window.hit=1</script> {HOSTILE}", session=session)


async def read_link(ui: asyncio.subprocess.Process) -> str:
    """Return the next link in the output of the page's process."""
    assert ui.stdout is not None
    while line := (await asyncio.wait_for(ui.stdout.readline(), 30)).decode():
        if match := re.search(r"http://\S+#\S+", line):
            return match[0]
    raise AssertionError("no link was printed")


@asynccontextmanager
async def serve_page(home: FleetHome, *, browser: str = "") -> AsyncIterator[LiveFleet]:
    """Run `ccproxy ui` for the fleet of *home*, with *browser* if it is not empty."""
    ui = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ccproxy", "ui", *([] if browser else ["--no-open"])),
        cwd=home.path,
        env={**home.environ, "BROWSER": browser},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield LiveFleet(home=home, ui=ui, link=await read_link(ui))
    finally:
        if ui.returncode is None:
            ui.terminate()
        await asyncio.wait_for(ui.wait(), 30)


@asynccontextmanager
async def live_fleet(folder: Path, *, is_hostile: bool = True) -> AsyncIterator[LiveFleet]:
    """Run a fleet with traffic, and its page, in *folder*."""
    async with Provider() as provider, FleetHome(folder) as home:
        provider.script(answer)
        pilot = '<b onclick="hit()">pilot</b>' if is_hostile else MODELS["Harbour"]
        write_fleet(home, provider.url, pilot=pilot)
        seed_usage(folder / "state")
        started = await home.ccproxy("start")
        assert started.code == 0, started.err + started.out
        if is_hostile:
            await send_traffic(home)
        async with serve_page(home) as live:
            yield live


async def signed_in(page: Any, live: LiveFleet) -> None:
    """Sign in with the link, and wait for the fleet to appear."""
    await page.goto(live.link)
    await page.wait_for_selector("text=live")
    await page.wait_for_selector("tbody tr")


__all__ = ["HOSTILE", "LiveFleet", "eventually", "live_fleet", "serve_page", "signed_in"]
