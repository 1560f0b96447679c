"""The result of a start, and its reports about failures."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from ccproxy.cli.main import cli
from tests.fleet import eventually
from tests.trust.conftest import settings
from tests.trust.sizes import IS_FULL, limit, note, size

pytestmark = pytest.mark.xdist_group("processes")

MEMORY = 64 * 2**20
"""The memory limit of an idle worker in bytes."""
SHARE = 25 * 2**20
"""The bytes that each worker adds to the fleet's memory; shared memory counts once."""


@pytest.mark.timed
@pytest.mark.parametrize(("workers", "seconds"), [(4, 3.0), pytest.param(32, 10.0, id="32")])
async def test_a_start_returns_when_all_are_ready(fleet, workers, seconds):
    """4 workers in 3 s, 32 in 10 s; at most 64 MiB each, 800 MiB for 32 idle ones."""
    count = workers if IS_FULL else min(workers, 6)
    fleet.write(**{f"demo{number}": {"PROVIDER": "demo"} for number in range(count)})
    begun = time.monotonic()
    done = await fleet.ccproxy("start", "--timeout", "60s")
    took = time.monotonic() - begun
    assert done.code == 0, done
    rows = (await fleet.status())["proxies"]
    assert [row["state"] for row in rows] == ["ready"] * count
    memory = [psutil.Process(row["pids"][0]).memory_full_info() for row in rows]
    most, all_in_all = max(one.rss for one in memory), sum(one.pss for one in memory)
    note(f"{count} workers", start_s=round(took, 2), most_mib=round(most / 2**20, 1),
         all_mib=round(all_in_all / 2**20))  # fmt: skip
    assert took <= limit(seconds)
    assert most <= MEMORY
    assert all_in_all <= count * SHARE


def test_the_last_output_of_a_late_worker_is_shown(home, capfd):
    """The exit code is 7, and its last 20 lines are on stderr (full size: with its stack)."""
    home.add("Kimi", NEVER_READY="1")
    home.supervise()
    begun = time.monotonic()
    timeout = size("2s", "15s")
    result = CliRunner().invoke(cli, ["--config", str(home.file), "start", "--timeout", timeout])
    took = time.monotonic() - begun
    note("late", exit_code=result.exit_code, took_s=round(took, 1))
    assert result.exit_code == 7, result.output
    lines = result.stderr.splitlines()
    words = lines[lines.index("still warming up") :]
    assert 1 <= len(words) <= 20
    if IS_FULL:
        assert "Fatal Python error: Aborted" in lines
        assert "not ready after 15 s" in result.stdout
    assert home.request("stop", drain=0.0).ok


async def test_a_broken_env_file_does_not_affect_running_workers(fleet, upstream):
    """
    A start checks every file first, and starts nothing if one is invalid. Running workers continue,
    and a start of the other entries by name starts three of four.
    """
    labels = ("kimi", "glm", "qwen", "groq")
    broken = {"PROVIDER_BASE_URL": "nonsense"}
    fleet.write(**{label: settings(upstream) for label in labels[:3]}, groq=broken)
    done = await fleet.ccproxy("start")
    assert done.code == 78
    assert 'PROVIDER_BASE_URL must be an http:// or https:// address, got "nonsense"' in done.err
    assert "envs/groq.env:1\n  fix: " in done.err
    fleet.write(**{label: settings(upstream) for label in labels})
    assert (await fleet.ccproxy("start", *labels[:3])).code == 0
    fleet.write(**{label: settings(upstream) for label in labels[:3]}, groq=broken)
    assert (await fleet.ccproxy("start")).code == 78
    done = await fleet.ccproxy("status")
    states = {row["label"]: row["state"] for row in (await fleet.status())["proxies"]}
    assert states == {"kimi": "ready", "glm": "ready", "qwen": "ready", "groq": "stopped"}
    assert done.code == 1
    note("", start_exit=78, running=3, status_exit=done.code)


async def test_a_used_port_spawns_no_worker_and_recovers(fleet, upstream, events):
    """The holder is named, the exit code is 5 (1 if others run), and the entry starts later."""
    fleet.write(kimi=settings(upstream), glm=settings(upstream))
    code = "import socket,sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); "
    code += "print('up', flush=True); sys.stdin.read()"
    pipes: dict[str, Any] = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    stranger = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, str(fleet.ports["kimi"])), **pipes
    )
    assert await stranger.stdout.readline() == b"up\n"
    assert (await fleet.ccproxy("start", "kimi")).code == 5
    done = await fleet.ccproxy("start")
    assert done.code == 1
    assert f"port {fleet.ports['kimi']} in use by python" in done.out
    assert f"(pid {stranger.pid}, user " in done.out
    spawned = [event for event in events("worker.spawned") if event["label"] == "kimi"]
    stranger.stdin.close()
    await stranger.wait()
    released = time.time()
    ready = await eventually(lambda: [e for e in events("worker.ready") if e["label"] == "kimi"])
    note("", spawns_meanwhile=len(spawned), recovered_s=round(ready[0]["at"] - released, 2))
    assert spawned == []
    assert ready[0]["at"] - released <= 5.0


async def test_a_closed_terminal_ends_no_process(fleet, upstream):
    """A shell on its own terminal starts the fleet, and the terminal is closed."""
    fleet.write(kimi=settings(upstream))
    read, inherited = os.pipe()
    os.set_inheritable(inherited, True)
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(fleet.path)
        command = f"{sys.executable} -m ccproxy start; echo done-$?; sleep 600"
        os.execve("/bin/sh", ["sh", "-c", command], fleet.environ)
    os.close(inherited)
    output = b""
    os.set_blocking(terminal, False)

    def has_started():
        nonlocal output
        with contextlib.suppress(BlockingIOError):
            output += os.read(terminal, 65536)
        return b"done-0" in output

    await eventually(has_started)
    worker, supervisor = await fleet.worker_pid("kimi"), await fleet.supervisor_pid()
    os.close(terminal)
    os.kill(pid, signal.SIGHUP)
    await asyncio.to_thread(os.waitpid, pid, 0)
    with os.fdopen(read, "rb") as pipe:
        assert await asyncio.to_thread(pipe.read) == b"", "no other process holds the other end"
    for number in (worker, supervisor):
        files = [link.readlink() for link in Path(f"/proc/{number}/fd").iterdir()]
        assert not [file for file in files if "/pts/" in str(file)]
        assert os.getsid(number) != pid
    assert (await fleet.worker_pid("kimi"), await fleet.supervisor_pid()) == (worker, supervisor)
    assert (await fleet.proxy("kimi"))["state"] == "ready"
    note("", alive=2, descriptors_of_the_shell=0)
