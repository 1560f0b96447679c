"""
Secrets are planted at every input that may contain one; no part of them may leak.

A real fleet runs through its failures. Then all its files, output and answers are searched for
every run of eight characters of every secret.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.fleet import FleetHome, eventually
from tests.messages import prompt
from tests.ports import free_port
from tests.provider import chunk, completion, failure, hang_up, raw, stream

pytestmark = pytest.mark.xdist_group("processes")

PIECE = 8


def canary(name: str, prefix: str = "") -> str:
    """Return a secret, the same in every run, that shares no eight characters with other text."""
    return prefix + hashlib.sha256(name.encode()).hexdigest()[:40]


SECRETS = {
    name: canary(name, prefix)
    for name, prefix in {
        "first key": "sk-",
        "second key": "sk-proj-",
        "plain key": "",
        "direct key": "sk-ant-api03-",
        "jwt key": "eyJ",
        "client key": "ccp_",
        "other client key": "",
        "short header": "",
        "bearer header": "Bearer ",
        "proxy password": "",
        "query of the address": "",
        "shell key": "sk-",
        "shell token": "",
        "wrong client key": "sk-ant-",
        "wrong bearer": "",
        "cookie": "",
        "client header": "",
        "query": "",
        "huge header": "",
        "bad header": "",
        "key as a model": "sk-",
        "key on a line of its own": "sk-",
        "key without a quote": "sk-",
        "key with a blank": "sk-",
        "key as an address": "sk-",
        "key as a port": "sk-",
        "prompt": "",
    }.items()
}
SECRETS["short header"] = SECRETS["short header"][:12]


def pieces(secret: str) -> Iterator[str]:
    bare = secret.removeprefix("Bearer ").removeprefix("sk-ant-api03-")
    return (bare[start : start + PIECE] for start in range(len(bare) - PIECE + 1))


def leaks(said: dict[str, bytes]) -> list[str]:
    """Return each leaked secret with its location."""
    result = []
    for location, data in said.items():
        for name, secret in SECRETS.items():
            if any(piece.encode() in data for piece in pieces(secret)):
                result.append(f"{name} in {location}")
    return result


def test_the_search_finds_planted_secrets():
    key = SECRETS["first key"]
    assert leaks({"x": f"...{key[5:13]}...".encode()}) == ["first key in x"]
    assert leaks({"x": f"...{key[5:12]}...".encode()}) == []


class Run:
    """One fleet, with everything that it wrote or answered."""

    def __init__(self, home: FleetHome) -> None:
        self.home = home
        self.said: dict[str, bytes] = {}

    async def ccproxy(self, *words: str, code: int | None = None) -> None:
        shell = {
            "OPENAI_API_KEY": SECRETS["shell key"],
            "PROVIDER_API_KEY": SECRETS["shell key"],
            "ANTHROPIC_API_KEY": SECRETS["shell token"],
            "ANTHROPIC_AUTH_TOKEN": SECRETS["shell token"],
            "CUSTOM_HEADER_X_SHELL": SECRETS["shell token"],
        }
        done = await self.home.ccproxy(*words, **shell)
        assert code is None or done.code == code, done
        name = f"{len(self.said)} ccproxy {' '.join(words)}"
        self.said[name] = (done.out + done.err).encode()

    async def ask(self, session, label, path="/v1/messages", *, key="client key", **how) -> int:
        headers = {"x-api-key": SECRETS[key], **how.pop("headers", {})}
        body = how.pop("body", prompt(SECRETS["prompt"]))
        url = self.home.url(label) + path
        async with session.post(url, json=body, headers=headers, **how) as answer:
            text = await answer.read()
            name = f"{len(self.said)} answer of {label}"
            # The prompt and the model's text belong to the client.
            self.said[name] = text + repr(sorted(answer.headers.items())).encode()
            return answer.status

    async def raw(self, label, data: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.home.ports[label])
        writer.write(data)
        self.said[f"{len(self.said)} raw answer"] = await reader.read()
        writer.close()

    def look_at_processes(self) -> None:
        for process in self.home.processes():
            proc = Path("/proc", str(process.pid))
            for name in ("cmdline", "environ"):
                text = (proc / name).read_bytes()
                assert text, "there is something to be searched"
                self.said[f"/proc/{process.pid}/{name}"] = text

    def look_at_files(self) -> None:
        for path in self.home.path.rglob("*"):
            if path.is_file() and path.parent.name != "envs":
                self.said[str(path.relative_to(self.home.path))] = path.read_bytes()


def echo(status: int = 401):
    """Answer like a provider that quotes the whole request."""

    def answer(call):
        text = f"refused: {json.dumps(dict(call.headers))} {call.path}?{call.query}"
        return failure(status, text, headers={"x-echo": call.key or ""})

    return answer


def echo_as_json(call):
    return failure(
        403, {"type": "error", "error": {"type": "permission_error", "message": call.key}}
    )


def echo_in_html(call):
    return raw(f"<html>{call.key}</html>", headers={"Content-Type": "text/html"})


def echo_in_a_stream(call):
    fault = b'data: {"error":{"message":"bad key %s"}}\n\n' % (call.key or "").encode()
    return stream(chunk("x"), fault, end="eof")


def echo_then_break(call):
    return stream(chunk("x"), b'data: {"broken %s\n\n' % (call.key or "").encode(), end="reset")


def write(home: FleetHome, provider) -> None:
    common = {
        "ANTHROPIC_API_KEY": f"{SECRETS['client key']},{SECRETS['other client key']}",
        "CUSTOM_HEADER_X_SHORT_SECRET": SECRETS["short header"],
        "LOG_LEVEL": "DEBUG",
        "MAX_RETRIES": "0",
    }
    keys = ("first key", "second key", "plain key", "jwt key")
    home.write(
        chat={
            **common,
            "PROVIDER_BASE_URL": provider.url,
            "PROVIDER_API_KEY": ",".join(SECRETS[name] for name in keys),
        },
        bearer={
            **common,
            "PROVIDER_BASE_URL": provider.url,
            "PROVIDER_API_KEY": SECRETS["first key"],
            "CUSTOM_HEADER_AUTHORIZATION": SECRETS["bearer header"],
        },
        direct={
            **common,
            "PROVIDER": "anthropic",
            "PROVIDER_BASE_URL": provider.url,
            "PROVIDER_API_KEY": SECRETS["direct key"],
        },
        dead={
            **common,
            "PROVIDER_BASE_URL": "https://provider.invalid/v1",
            "PROVIDER_API_KEY": SECRETS["plain key"],
            "UPSTREAM_PROXY": f"http://user:{SECRETS['proxy password']}@127.0.0.1:{free_port()}",
        },
    )


FAULTS = [echo(401), echo(429), echo(500), echo(400), echo(403), echo(404), echo_as_json,
          echo_in_html, echo_in_a_stream, echo_then_break, hang_up()]  # fmt: skip


async def fail_in_every_way(run: Run, provider) -> None:
    async with aiohttp.ClientSession() as session:
        provider.script(completion("ok"))
        for label in ("chat", "bearer", "direct"):
            assert await run.ask(session, label) == 200
        for fault in FAULTS:
            provider.script(fault)
            # A successful answer is relayed unchanged, except where it is converted.
            relays = fault not in (echo_in_a_stream, echo_then_break)
            for label in ("chat", "bearer", *(["direct"] if relays else [])):
                await run.ask(session, label)
                await run.ask(session, label, body=prompt(SECRETS["prompt"], stream=True))
                if relays:
                    await run.ask(session, label, "/v1/chat/completions")
        await run.ask(session, "dead")
        for key in ("wrong client key", "wrong bearer"):
            assert await run.ask(session, "chat", key=key) == 401
        more = {"Authorization": f"Bearer {SECRETS['wrong bearer']}"}
        more |= {"Cookie": f"s={SECRETS['cookie']}", "X-Secret": SECRETS["client header"]}
        await run.ask(session, "chat", key="wrong client key", headers=more)
        await run.ask(
            session, "chat", headers={k: v for k, v in more.items() if k != "Authorization"}
        )
        await run.ask(session, "chat", f"/v1/messages?key={SECRETS['query']}")
        for path in ("/health", "/", "/test-connection", "/v1/models"):
            headers = {"x-api-key": SECRETS["client key"]}
            async with session.get(run.home.url("chat") + path, headers=headers) as answer:
                run.said[f"GET {path}"] = await answer.read()
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    await run.raw("chat", head + b"X: " + SECRETS["huge header"].encode() * 3000 + b"\r\n\r\n")
    await run.raw("chat", head + b"Bad Name: " + SECRETS["bad header"].encode() + b"\r\n\r\n")
    await run.raw("chat", head + b"Host: " + SECRETS["bad header"].encode() + b"\r\n\r\n")


BROKEN = [
    f'PROVIDER=kimi\nPROVIDER_API_KEY="{SECRETS["key without a quote"]}\n',
    f"PROVIDER=kimi\nPROVIDER_API_KEY='{SECRETS['key with a blank']} x'\n",
    f"PROVIDER=kimi\n{SECRETS['key on a line of its own']}\n",
    f"PROVIDER={SECRETS['key as a model']}\nPROVIDER_API_KEY={SECRETS['first key']}\n",
    f"PROVIDER_BASE_URL={SECRETS['key as an address']}\nBIG_MODEL=a,{SECRETS['key as a model']}\n",
    f"PROVIDER_BASE_URL=http://u:{SECRETS['proxy password']}@h/v1\nPROVIDER_API_KEY=x\n",
    f"PROVIDER_BASE_URL=https://h/v1?key={SECRETS['query of the address']}\nPROVIDER_API_KEY=x\n",
    f"PROVIDER=kimi\nPORT={SECRETS['key as a port']}\nLOG_LEVEL={SECRETS['key as a model']}\n",
    f"PROVIDER=kimi\nHOST=0.0.0.0\nANTHROPIC_API_KEY={SECRETS['short header']}\n",
    f'PROVIDER=kimi\nCUSTOM_HEADER_X="a\\n{SECRETS["short header"]}"\n',
]


async def break_the_files(run: Run) -> None:
    file = run.home.path / "envs/chat.env"
    good = file.read_text()
    for number, text in enumerate(BROKEN):
        file.write_text(text)
        # The lines after the broken one may form a valid configuration.
        for words in (["check"], ["reload"]):
            await run.ccproxy(*words)
        await run.ccproxy("doctor", "--offline", ["--report", "--json", "-v"][number % 3])
    pid = await run.home.supervisor_pid()
    psutil.Process(pid).send_signal(signal.SIGHUP)
    log = run.home.path / "logs/supervisor.log"
    size = log.stat().st_size
    file.write_text(BROKEN[3])
    psutil.Process(pid).send_signal(signal.SIGHUP)
    await run.ccproxy("status")
    assert log.stat().st_size >= size
    file.write_text(good)


async def test_a_fleet_reveals_no_secret(tmp_path, provider):
    async with FleetHome(tmp_path) as home:
        run = Run(home)
        write(home, provider)
        await run.ccproxy("start", code=0)
        run.look_at_processes()
        assert len(home.processes()) == 5
        await fail_in_every_way(run, provider)
        await run.ccproxy("status")
        await run.ccproxy("status", "--json")
        await run.ccproxy("status", "-v")
        await run.ccproxy("logs", "-n", "5000")
        await run.ccproxy("logs", "--json", "-n", "5000")
        await break_the_files(run)
        await run.ccproxy("env", "chat", "--shell", "bash")
        del run.said[[*run.said][-1]]  # it prints keys on purpose
        worker = await home.worker_pid("direct")
        psutil.Process(worker).send_signal(signal.SIGABRT)  # a crash with output
        await eventually(lambda: not psutil.pid_exists(worker))
        await run.ccproxy("stop", code=0)
        run.look_at_files()
        assert len(run.said) > 100
        assert any(name.endswith(".log") for name in run.said)
        assert leaks(run.said) == []


@pytest.mark.parametrize(
    "verb", [["check"], ["start"], ["up"], ["up", "--env", "envs/chat.env", "--port", "1"]]
)
@pytest.mark.parametrize("text", BROKEN)
async def test_configuration_errors_quote_no_secret(verb, text, tmp_path):
    async with FleetHome(tmp_path) as home:
        home.write(chat={})
        (tmp_path / "envs/chat.env").write_text(text)
        run = Run(home)
        done = await home.ccproxy(*verb)
        assert done.code == 78, done
        run.said["it"] = (done.out + done.err).encode()
        run.look_at_files()
        assert leaks(run.said) == []
