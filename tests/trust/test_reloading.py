"""Reloads under load, and an upgrade of the package while the fleet runs."""

from __future__ import annotations

import asyncio
import shutil
import time

import psutil
import pytest

from ccproxy import __version__
from ccproxy.supervisor.processes.identity import command_line
from tests.fleet import ROOT, FleetHome, eventually
from tests.provider import chunk, stream
from tests.trust.conftest import settings
from tests.trust.sizes import note, size
from tests.trust.traffic import STREAMED, Traffic, request_bytes

pytestmark = pytest.mark.xdist_group("processes")


async def test_reloads_under_load(fleet, upstream, provider):
    """
    20 reloads in 60 s, at 500 requests per second, lose none of 100,000 requests.

    A stream of 120 s finishes on the worker that began it, which exits after the stream.
    """
    gate = asyncio.Event()
    provider.script(stream(chunk("one "), gate, chunk("two", finish="stop")))
    fleet.write(kimi=settings(provider.url))
    assert (await fleet.ccproxy("start")).code == 0
    first = await fleet.worker_pid("kimi")
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.ports["kimi"])
    begun = time.monotonic()
    writer.write(request_bytes(STREAMED))
    await provider.called()

    async def reload(number: int) -> None:
        timeout = {"LOG_LEVEL": "WARNING", "REQUEST_TIMEOUT": str(60 + number)}
        fleet.write(kimi=settings(upstream, **timeout))
        done = await fleet.ccproxy("reload", "--drain", "600s")
        assert done.code == 0, done
        assert "~ kimi" in done.out

    await reload(0)
    reloads, minimum = size(3, 20), size(100, 100_000)
    async with Traffic(fleet.ports["kimi"], rate=size(50, 500)) as traffic:
        reloading = time.monotonic()
        for number in range(reloads):
            await reload(number + 1)
        reloading = time.monotonic() - reloading
        await eventually(
            lambda: traffic.answered >= minimum and time.monotonic() - begun > size(1, 120),
            within=900,
        )
    assert psutil.pid_exists(first), "it still has its stream"
    gate.set()
    stream_s = time.monotonic() - begun
    whole = await reader.read()
    writer.close()
    ended = time.monotonic()
    await eventually(lambda: not psutil.pid_exists(first))
    note("", reloads=reloads, reloads_s=round(reloading, 1), answered=traffic.answered,
         refused=traffic.refused, broken=len(traffic.broken), slowest_s=round(traffic.slowest, 2),
         stream_s=round(stream_s, 1), gone_after_s=round(time.monotonic() - ended, 2))  # fmt: skip
    assert (traffic.refused, traffic.broken) == (0, [])
    assert b"message_stop" in whole
    assert b"event: error" not in whole
    workers = [one for one in fleet.processes() if "--nonce" in command_line(one.pid)]
    assert await eventually(lambda: len(workers) == 1)


GARBAGE = "raise RuntimeError('a module of another version was imported late')\n"


async def test_an_upgrade_under_a_running_fleet(tmp_path, upstream):
    """
    Old workers continue without a late import, `status` reports the running and the installed
    version, and `reload` moves workers and supervisor to the new code, even if it has the same
    version, as after `git pull`.
    """
    package = tmp_path / "site" / "ccproxy"
    shutil.copytree(ROOT / "ccproxy", package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "home").mkdir()
    async with FleetHome(tmp_path / "home", package=package.parent) as fleet:
        fleet.write(kimi=settings(upstream))
        assert (await fleet.ccproxy("start")).code == 0
        worker, supervisor = await fleet.worker_pid("kimi"), await fleet.supervisor_pid()
        for path in (package / "worker").rglob("*.py"):
            path.write_text(GARBAGE)
        for part in ("convert", "keys", "protocol", "providers", "routing", "store"):
            for path in (package / part).rglob("*.py"):
                path.write_text(GARBAGE)
        async with Traffic(fleet.ports["kimi"], rate=20) as traffic:
            await eventually(lambda: traffic.answered > 20)
            streamed = await streamed_answer(fleet)
            shutil.rmtree(package)
            shutil.copytree(ROOT / "ccproxy", package)
            init = package / "__init__.py"
            init.write_text(init.read_text().replace(f'"{__version__}"', '"99.1.0"'))

            status = await fleet.ccproxy("status")
            hint = f"running {__version__}, installed 99.1.0: `ccproxy reload`"
            assert hint in status.out
            assert await fleet.worker_pid("kimi") == worker
            assert (await fleet.ccproxy("reload")).code == 0
            answered = traffic.answered
            await eventually(lambda: traffic.answered > answered + 20)
        assert (traffic.refused, traffic.broken) == (0, [])
        assert b"message_stop" in streamed
        row = await fleet.proxy("kimi")
        assert (row["state"], row["version"]) == ("ready", "99.1.0")
        assert row["pids"] != [worker]
        about = (await fleet.status())["supervisor"]
        assert (about["version"], about["pid"] != supervisor) == ("99.1.0", True)
        note("", answered=traffic.answered, lost=len(traffic.broken) + traffic.refused)

        status = await fleet.ccproxy("status")
        assert "installed" not in status.out
        assert "older code" not in status.out
        module = package / "worker" / "lifecycle.py"
        module.write_text(f"{module.read_text()}\n# pulled\n")
        assert "running older code: `ccproxy reload`" in (await fleet.ccproxy("status")).out
        assert (await fleet.ccproxy("reload")).code == 0
        assert (await fleet.proxy("kimi"))["pids"] != row["pids"]
        assert await fleet.supervisor_pid() != about["pid"]
        assert "older code" not in (await fleet.ccproxy("status")).out


async def streamed_answer(fleet):
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.ports["kimi"])
    writer.write(request_bytes(STREAMED))
    answer = await reader.read()
    writer.close()
    return answer
