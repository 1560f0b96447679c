"""Real workers that are terminated from outside, and a state folder that is removed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.fleet import FleetHome, eventually

pytestmark = pytest.mark.xdist_group("processes")

SETTINGS = {"PROVIDER": "demo", "PROVIDER_API_KEY": "sk-first-0123456789,sk-second-0123456789"}


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[FleetHome]:
    async with FleetHome(tmp_path) as fleet:
        fleet.write(kimi={"PROVIDER": "demo"})
        assert (await fleet.ccproxy("start")).code == 0
        yield fleet


async def health(fleet: FleetHome) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.ports["kimi"])
    writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n")[0]


def remove_state(home: Path) -> None:
    # Renamed first, because new files may appear while rmtree empties the folder.
    shutil.rmtree((home / "state").rename(home / "removed"))


async def test_sigterm_to_a_worker_starts_its_successor_before_it_has_ended(
    fleet: FleetHome,
) -> None:
    """An open connection keeps the old worker draining, while new connections are answered."""
    old = await fleet.worker_pid("kimi")
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.ports["kimi"])
    body = b'{"model": "x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi'
    head = f"POST /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body) + 5}\r\n\r\n"
    writer.write(head.encode() + body)  # the rest of the body is sent later
    await writer.drain()
    await asyncio.sleep(0.1)
    os.kill(old, signal.SIGTERM)
    for _ in range(50):
        assert await health(fleet) == b"HTTP/1.1 200 OK"
    assert psutil.pid_exists(old), "it waits for the rest of the request"
    row = await fleet.proxy("kimi")
    assert row["state"] == "ready"
    assert old not in row["pids"]
    writer.write(b'"}]}\n')
    assert (await reader.readline()).startswith(b"HTTP/1.1 ")
    writer.close()
    await eventually(lambda: not psutil.pid_exists(old))


async def test_a_removed_state_folder_is_rebuilt_and_reported(fleet: FleetHome) -> None:
    supervisor, worker = await fleet.supervisor_pid(), await fleet.worker_pid("kimi")
    remove_state(fleet.path)

    async def is_reported() -> bool:
        note = (await fleet.status())["supervisor"]
        return note is not None and "state/ was removed at" in (note["trouble"] or "")

    await eventually(is_reported)
    await eventually(lambda: list((fleet.path / "state").glob("kimi.keys.sqlite")))
    assert await fleet.supervisor_pid() == supervisor
    assert await fleet.worker_pid("kimi") == worker
    done = await fleet.ccproxy("status")
    assert "state/ was removed at" in done.out
    assert "fix: ccproxy restart" in done.out
    assert (await fleet.ccproxy("restart")).code == 0
    assert "state/ was removed" not in (await fleet.ccproxy("status")).out


async def test_a_disabled_key_stays_disabled_after_the_state_folder_was_removed(
    tmp_path: Path,
) -> None:
    async with FleetHome(tmp_path) as fleet:
        fleet.write(kimi={**SETTINGS, "PROVIDER_BASE_URL": "http://127.0.0.1:9/v1"})
        assert (await fleet.ccproxy("start")).code == 0
        assert (await fleet.ccproxy("keys", "kimi", "disable", "k1")).code == 0
        remove_state(tmp_path)
        await eventually((tmp_path / "state/kimi.keys.sqlite").exists)
        await eventually((tmp_path / "state/supervisor.sock").exists)
        assert (await fleet.ccproxy("restart")).code == 0
        done = await fleet.ccproxy("keys", "kimi")
        assert "disabled" in done.out
