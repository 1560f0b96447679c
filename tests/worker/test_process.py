"""The worker as a process: its command line, readiness message and signals."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import sys
from pathlib import Path

import aiohttp
import pytest

from ccproxy.worker.__main__ import _clear_settings
from tests.fleet import eventually
from tests.messages import ask, prompt, read_answer
from tests.ports import free_port
from tests.provider import chunk, completion, stream
from tests.worker.proxy import KEY


class Process:
    def __init__(self, home):
        self.home = home
        self.url = ""

    async def start(self, *, settings="", args=(), listen=True, env_file="x.env"):
        if settings:
            (self.home / "x.env").write_text(settings)
            (self.home / "x.env").chmod(0o600)
        self.listener = socket.create_server(("127.0.0.1", 0)) if listen else None
        ready, message = os.pipe()
        fds = [message]
        words = ["--home", str(self.home), "--label", "Test", "--env-file", env_file]
        words += ["--ready-fd", str(message), "--nonce", "n1", *args]
        if self.listener:
            fds.append(self.listener.fileno())
            port = self.listener.getsockname()[1]
            words += ["--port", str(port), "--listen-fd", str(fds[1])]
            self.url = f"http://127.0.0.1:{port}"
        self.child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ccproxy.worker", *words),
            pass_fds=fds,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        os.close(message)
        line = await asyncio.to_thread(_read_line, ready)
        return json.loads(line) if line else None

    async def end(self):
        if self.child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.child.kill()
        await self.child.communicate()
        if self.listener:
            self.listener.close()


def _read_line(fd):
    with os.fdopen(fd) as pipe:
        return pipe.readline()


@pytest.fixture
async def process(tmp_path):
    process = Process(tmp_path)
    yield process
    await process.end()


def settings_for(provider, **more):
    settings = {"PROVIDER_BASE_URL": provider.url, "PROVIDER_API_KEY": KEY, **more}
    return "".join(f"{name}={value}\n" for name, value in settings.items())


async def test_it_reports_that_it_is_ready_and_drains_on_sigterm(process, provider):
    ready = await process.start(
        settings=settings_for(provider), args=["--control", str(process.home / "c.sock")]
    )
    assert (ready["ready"], ready["pid"], ready["nonce"]) == (True, process.child.pid, "n1")
    limits = Path(f"/proc/{process.child.pid}/limits").read_text().splitlines()
    rows = {line[:26].strip(): line[26:].split() for line in limits}
    assert rows["Max core file size"][0] == "0"
    assert int(rows["Max open files"][0]) >= 1024
    gate = asyncio.Event()
    provider.script(stream(chunk("a"), gate, chunk("b", finish="stop")))
    async with (
        aiohttp.ClientSession() as session,
        session.post(process.url + "/v1/messages", json=prompt(stream=True)) as response,
    ):
        head = await response.content.readuntil(b"text_delta")
        process.child.send_signal(signal.SIGTERM)
        gate.set()
        answer = read_answer(200, response.headers, head + await response.read())
    assert answer.text == "ab"
    async with asyncio.timeout(30):
        assert await process.child.wait() == 0
    assert not (process.home / "c.sock").exists()
    log = process.home / "logs" / "Test.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events[0] == "worker.started"
    assert events[-2:] == ["worker.draining", "worker.stopped"] or events[-1] == "worker.stopped"
    assert KEY not in log.read_text()
    key = process.home / "state" / "signing.key"
    assert (stat.S_IMODE(key.stat().st_mode), key.stat().st_size) == (0o600, 32)


@pytest.mark.parametrize(
    ("number", "args"),
    [
        pytest.param(signal.SIGINT, ["--echo", "json"], id="Ctrl-C in the foreground"),
        pytest.param(signal.SIGHUP, ["--echo", "json"], id="closed terminal in the foreground"),
        pytest.param(signal.SIGTERM, ["--echo", "json"], id="SIGTERM in the foreground"),
        pytest.param(signal.SIGTERM, [], id="SIGTERM in the background"),
    ],
)
async def test_a_signal_starts_a_drain_and_a_second_one_ends_it(process, provider, number, args):
    await process.start(settings=settings_for(provider), args=args)
    provider.script(completion("late", gate=asyncio.Event()))
    log = process.home / "logs" / "Test.log"
    async with aiohttp.ClientSession() as session:
        asking = asyncio.ensure_future(ask(session, process.url, prompt()))
        await provider.called()
        process.child.send_signal(number)
        await eventually(lambda: "worker.draining" in log.read_text())
        assert not asking.done()
        process.child.send_signal(number)
        assert (await asking).status == 529
        async with asyncio.timeout(30):
            _, output = await process.child.communicate()
    assert process.child.returncode == 0
    assert output.decode() == (log.read_text() if args else "")


def test_settings_leave_the_environment_once_they_are_read(monkeypatch):
    monkeypatch.setenv("PROVIDER_API_KEY", KEY)
    monkeypatch.setenv("CUSTOM_HEADER_X", KEY)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    _clear_settings()
    assert KEY not in os.environ.values()
    assert os.environ["HTTPS_PROXY"] == "http://127.0.0.1:1"


async def test_a_configuration_error_is_reported_and_exits_with_78(process, provider):
    ready = await process.start(settings=settings_for(provider, BIG_MODLE="x"))
    assert ready["ready"] is False
    assert "BIG_MODEL" in ready["error"]
    assert await process.child.wait() == 78


async def test_a_port_in_use_is_reported(process, provider):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ready = await process.start(
            settings=settings_for(provider), args=["--port", str(port)], listen=False
        )
    assert ready["ready"] is False
    assert await process.child.wait() == 1


async def test_it_binds_its_port_and_reads_settings_from_the_environment(
    process, provider, monkeypatch
):
    monkeypatch.setenv("PROVIDER_BASE_URL", provider.url)
    monkeypatch.setenv("PROVIDER_API_KEY", KEY)
    port = free_port()
    ready = await process.start(
        args=["--port", str(port), "--index", "2"], listen=False, env_file="-"
    )
    assert ready["ready"] is True
    async with aiohttp.ClientSession() as session:
        assert (await ask(session, f"http://127.0.0.1:{port}", prompt())).text == "ok"
    process.child.send_signal(signal.SIGINT)
    assert await process.child.wait() == 0
    assert (process.home / "logs" / "Test.2.log").exists()


async def test_the_demo_needs_no_settings(process):
    assert (await process.start(settings="PROVIDER=demo\n"))["ready"] is True
    async with aiohttp.ClientSession() as session:
        answer = await ask(session, process.url, prompt("hello", stream=True))
    assert "You said: hello" in answer.text
