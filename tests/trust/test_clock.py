"""Changes of the wall clock cause no restart, no delay and no negative uptime."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from ccproxy.ipc.codec import decode
from ccproxy.supervisor.control.protocol import ControlCommand, ControlReply, encode_message
from ccproxy.supervisor.fleet.host import Settings
from ccproxy.supervisor.main_loop import Supervisor
from tests.provider import completion, failure
from tests.supervisor.conftest import FAKE_WORKER
from tests.trust.sizes import note
from tests.worker.proxy import running

pytestmark = pytest.mark.xdist_group("processes")

HOUR = 3600.0


@pytest.fixture
def move_clock(monkeypatch):
    """Return a function that sets the wall clock of this process, which is the supervisor."""
    real, ahead = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])

    def move(seconds):
        ahead[0] = seconds

    return move


@pytest.mark.timed
@pytest.mark.parametrize(
    "moved",
    [
        pytest.param(-HOUR, id="an hour back: also the end of summer time"),
        pytest.param(HOUR, id="an hour ahead"),
        pytest.param(24 * HOUR, id="a day ahead: also a suspended machine"),
    ],
)
async def test_a_changed_clock_restarts_nothing(home, move_clock, moved):
    """No worker restarts, uptimes continue, and the delay after a crash is as usual."""
    home.add("Kimi")
    settings = Settings(
        worker_command=FAKE_WORKER,
        fork_server=(),
        probe_period=0.2,
        probe_limit=0.1,
        jitter=lambda: 0.0,
    )
    resident = Supervisor(home.fleet, settings=settings)
    serving = asyncio.Event()
    life = asyncio.create_task(resident.run(serving.set))
    await serving.wait()
    (before,) = (await resident.execute(ControlCommand(op="start"))).proxies
    lived = await _uptime(resident)
    move_clock(moved)
    begun = time.monotonic()
    while time.monotonic() - begun < 1.0:  # five rounds of probes
        (row,) = (await resident.execute(ControlCommand(op="status"))).proxies
        assert (row.state, row.pids) == ("ready", before.pids)
        assert 0.0 <= row.uptime_s < 60.0
        assert 0.0 <= await _uptime(resident) - lived < 60.0
        await asyncio.sleep(0.05)
    os.kill(before.pids[0], signal.SIGKILL)
    killed = time.monotonic()
    while len(home.events("worker.spawned")) < 2:
        assert time.monotonic() - killed < 20
        await asyncio.sleep(0.01)
    delay = time.monotonic() - killed
    assert delay >= 0.4
    assert home.events("worker.hung") == []
    note(f"{moved / HOUR:+.0f} h", restarts=0, backoff_s=round(delay, 2))
    resident.end(drain=1.0)
    await asyncio.wait_for(life, 30)


async def _uptime(resident):
    """Return the uptime of the supervisor, which is this process."""
    line = await resident.handle(encode_message(ControlCommand(op="ping")))
    return decode(ControlReply, line).supervisor.uptime_s


@pytest.mark.parametrize("moved", [-HOUR, HOUR, 24 * HOUR])
async def test_a_changed_clock_changes_no_cooldown(tmp_path, provider, move_clock, moved):
    keys = {"PROVIDER_API_KEY": "sk-first-0123456789,sk-second-0123456789"}
    async with running(tmp_path, provider.url, **keys) as proxy:
        provider.script(failure(429, retry_after=30), completion("ok"))
        assert (await proxy.ask()).status == 200
        move_clock(moved)
        (cooldown,) = [view for key in proxy.worker.pool.snapshot() for view in key.cooldowns]
        note(f"cooldown {moved / HOUR:+.0f} h", stated_s=30, left_s=round(cooldown.seconds, 2))
        assert 25.0 <= cooldown.seconds <= 30.0
