"""Real processes: starts, crashes, hangs, ports and status."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ccproxy.errors import Busy, ConfigError, NotRunning, UsageError
from ccproxy.supervisor.config_check import ConfigCheck
from ccproxy.supervisor.control import client
from ccproxy.supervisor.control.protocol import ControlCommand
from ccproxy.supervisor.fleet.host import Settings
from ccproxy.supervisor.main_loop import Supervisor
from ccproxy.supervisor.state.lock import Lock
from tests.fleet import pause
from tests.supervisor.conftest import FAKE_WORKER, Home, Load, ask, eventually, is_alive

# Starts.


def test_start_returns_when_every_worker_is_ready(home):
    home.add("Kimi")
    home.add("Glm")
    answer = home.request("start")
    assert answer.ok
    assert [(row.label, row.state) for row in answer.proxies] == [
        ("Kimi", "ready"),
        ("Glm", "ready"),
    ]
    assert answer.proxies[0].keys == {"ready": 2, "total": 2}
    assert home.ask("Kimi")["label"] == "Kimi"
    assert home.ask("Kimi")["pid"] == home.pid("Kimi")


def test_start_leaves_running_workers_alone(home):
    home.add("Kimi")
    home.start()
    pid = home.pid("Kimi")
    assert home.start() == {"Kimi": "ready"}
    assert home.pid("Kimi") == pid


def test_start_of_one_entry_starts_no_other(home):
    home.add("Kimi")
    home.add("Glm")
    assert home.start("kimi") == {"Kimi": "ready"}
    assert home.status() == {"Kimi": "ready", "Glm": "stopped"}


def test_an_unknown_label_is_an_error(home):
    home.add("Kimi")
    home.start()
    with pytest.raises(UsageError, match="not in the table: kimmi"):
        home.request("start", "kimmi")


def test_twenty_starts_at_once_create_one_supervisor(home):
    home.add("Kimi")
    home.add("Glm")
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: home.request("start"), range(20)))
    assert [answer.ok for answer in answers] == [True] * 20
    assert len({row.pids for answer in answers for row in answer.proxies}) == 2
    assert len(home.events("supervisor.started")) == 1
    assert len(home.events("worker.spawned")) == 2


def test_the_supervisor_is_detached_and_inherits_no_descriptor_of_the_shell(home):
    home.add("Kimi")
    read, write = os.pipe()
    os.set_inheritable(write, True)  # like a shell's own descriptors
    try:
        pid = home.supervise()
        home.start()
    finally:
        os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b""  # end of file: no process holds the other end
    assert os.getsid(pid) != os.getsid(0)
    for number in (pid, home.pid("Kimi")):
        assert str(Path(f"/proc/{number}/fd/0").readlink()) == "/dev/null"
        assert Path(f"/proc/{number}/fd/1").readlink().suffix == ".out"


def test_keys_in_the_shell_do_not_reach_workers(home, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-canary")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    home.add("Kimi")
    home.start()
    environment = Path(f"/proc/{home.pid('Kimi')}/environ").read_bytes()
    assert b"canary" not in environment
    assert b"HTTPS_PROXY=http://proxy.example:3128" in environment


def test_files_are_readable_only_by_their_owner(home):
    home.add("Kimi")
    home.start()
    paths = [path for name in ("logs", "pids", "state") for path in (home.path / name).iterdir()]
    assert {"Kimi.pid", "supervisor.pid", "supervisor.sock", "supervisor.log"} <= {
        path.name for path in paths
    }
    assert [path.name for path in paths if path.stat().st_mode & 0o077] == []


def test_start_with_an_invalid_file_starts_nothing_and_leaves_no_supervisor(home):
    home.add("Kimi")
    home.add("Glm", REQUEST_TIMEOUT="soon", MAX_RETRIES="many")
    with pytest.raises(ConfigError) as caught:
        home.request("start")
    assert len(caught.value.mistakes) == 2
    assert home.status() == {"Kimi": "stopped", "Glm": "stopped"}
    with Lock(eventually_free(home), command="test"):
        pass


def eventually_free(home):
    def is_free():
        try:
            with Lock(home.fleet, command="test"):
                return True
        except Busy:
            return False

    eventually(is_free)
    return home.fleet


def test_several_processes_serve_one_port(home):
    home.add("Kimi", workers=3)
    home.start()
    pids = home.row("Kimi").pids
    assert len(set(pids)) == 3
    with Load(home.ports["Kimi"]) as load:
        eventually(lambda: load.pids == set(pids))
    assert {path.name for path in (home.path / "pids").glob("Kimi*")} == {
        "Kimi.pid",
        "Kimi@2.pid",
        "Kimi@3.pid",
    }


# Crashes.


def test_a_killed_worker_is_restarted_and_no_connection_is_refused(home):
    home.add("Kimi")
    home.add("Glm")
    home.start()
    first, other = home.pid("Kimi"), home.pid("Glm")
    with Load(home.ports["Kimi"]) as load, Load(home.ports["Glm"]) as beside:
        eventually(lambda: load.answered > 20)
        os.kill(first, signal.SIGKILL)
        assert ask(home.ports["Kimi"])["pid"] != first
        answered = load.answered
        eventually(lambda: load.answered > answered + 20)
    assert load.refused == 0
    assert load.broken <= 8  # at most those in progress when it was killed
    assert (beside.refused, beside.broken, beside.pids) == (0, 0, {other})
    assert home.status() == {"Kimi": "ready", "Glm": "ready"}
    (exited,) = home.events("worker.exited")
    assert exited["code"] == -9


def test_the_delay_before_a_restart_grows_with_every_crash(home):
    home.add("Kimi", CRASH="1")
    home.request("start", timeout=2.0)
    row = home.row("Kimi")
    assert row.state == "starting"
    assert "the fake worker was configured to crash" in row.reason
    eventually(lambda: len(home.events("worker.spawned")) >= 3)
    at = [float(event["time"][17:23]) for event in home.events("worker.exited")[:2]]
    again = [float(event["time"][17:23]) for event in home.events("worker.spawned")[1:3]]
    delays = [(later - earlier) % 60 for earlier, later in zip(at, again, strict=True)]
    assert delays[0] >= 0.4
    assert delays[1] >= 0.8


def test_rejected_settings_are_tried_once_and_reported_with_the_workers_message(home):
    home.add("Kimi", FAIL="KIMI_KEY is not a key")
    home.add("Glm")
    answer = home.request("start")
    assert not answer.ok
    assert {row.label: row.state for row in answer.proxies} == {"Kimi": "failed", "Glm": "ready"}
    assert answer.proxies[0].reason == "KIMI_KEY is not a key"
    assert len(home.events("worker.spawned")) == 2
    with pytest.raises(ConnectionRefusedError):
        ask(home.ports["Kimi"])
    home.set("Kimi")
    assert home.start("Kimi") == {"Kimi": "ready"}
    assert home.ask("Kimi")["label"] == "Kimi"


async def test_clients_of_a_crash_loop_get_an_error_until_it_is_fixed(home):
    home.add("Kimi", CRASH="1")
    without_delay = -4.9
    resident, life = await running(home, jitter=lambda: without_delay)
    await resident.execute(ControlCommand(op="start", timeout=0.0))
    output = await asyncio.to_thread(home.ask, "Kimi")
    assert output["error"]["message"].startswith("the proxy Kimi is down: it exited ")
    home.set("Kimi")
    await resident.execute(ControlCommand(op="restart"))
    assert (await asyncio.to_thread(home.ask, "Kimi"))["label"] == "Kimi"
    home.records()
    await ended(resident, life)


# Hangs, with frequent probes.


async def running(
    home: Home, *, check: ConfigCheck | None = None, **more: Any
) -> tuple[Supervisor, asyncio.Task[None]]:
    settings = Settings(**{"worker_command": FAKE_WORKER, "fork_server": (), **more})
    resident = Supervisor(home.fleet, settings=settings, check=check)
    serving = asyncio.Event()
    life = asyncio.create_task(resident.run(serving.set))
    await serving.wait()
    return resident, life


async def ended(resident: Supervisor, life: asyncio.Task[None]) -> None:
    resident.end(drain=1.0)
    await asyncio.wait_for(life, 30)


async def state_of(resident: Supervisor, label: str) -> str:
    outcome = await resident.execute(ControlCommand(op="status"))
    return next(row.state for row in outcome.proxies if row.label == label)


async def test_a_hung_worker_dumps_its_stack_and_is_replaced(home):
    home.add("Kimi")
    resident, life = await running(home, probe_period=0.3, probe_limit=0.1)
    await resident.execute(ControlCommand(op="start"))
    pid = home.pid("Kimi")
    pause(pid)
    await asyncio.to_thread(eventually, lambda: not is_alive(pid))
    await asyncio.to_thread(eventually, lambda: len(home.events("worker.ready")) == 2)
    home.records()
    assert (await asyncio.to_thread(home.ask, "Kimi"))["pid"] != pid
    assert home.events("worker.hung")[0]["misses"] == 3
    assert "Fatal Python error: Aborted" in (home.path / "logs/Kimi.out").read_text()
    await ended(resident, life)


async def test_status_shows_a_hung_worker_before_the_next_probe(home):
    home.add("Kimi")
    resident, life = await running(home, probe_period=600.0, probe_limit=0.1)
    await resident.execute(ControlCommand(op="start"))
    pid = home.pid("Kimi")
    pause(pid)
    (row,) = (await resident.execute(ControlCommand(op="status"))).proxies
    assert (row.state, row.reason) == ("degraded", "does not answer")
    os.kill(pid, signal.SIGCONT)
    async with asyncio.timeout(30):
        while await state_of(resident, "Kimi") != "ready":
            await asyncio.sleep(0.01)
    await ended(resident, life)


async def test_a_worker_that_answers_late_is_not_hung(home):
    """Only three missed probes in a row count, and a late answer clears them."""
    home.add("Kimi")
    resident, life = await running(home, probe_period=0.3, probe_limit=0.1)
    await resident.execute(ControlCommand(op="start"))
    pid = home.pid("Kimi")
    for _ in range(4):
        pause(pid)
        async with asyncio.timeout(30):
            while await state_of(resident, "Kimi") == "ready":
                await asyncio.sleep(0.01)
        os.kill(pid, signal.SIGCONT)
        async with asyncio.timeout(30):
            while await state_of(resident, "Kimi") != "ready":
                await asyncio.sleep(0.01)
    assert home.pid("Kimi") == pid
    assert home.events("worker.hung") == []
    await ended(resident, life)


# Ports.


def test_the_holder_of_a_used_port_is_named_and_the_port_bound_once_free(home):
    home.add("Glm")
    code = "import socket, time; s = socket.create_server(('127.0.0.1', 0))\n"
    code += "print(s.getsockname()[1], flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as stranger:
        port = home.add("Kimi", port=int(stranger.stdout.readline()))
        answer = home.request("start")
        states = {row.label: row.state for row in answer.proxies}
        assert states == {"Glm": "ready", "Kimi": "foreign"}
        reason = next(row.reason for row in answer.proxies if row.label == "Kimi")
        assert reason.startswith(f"port {port} in use by python")
        assert f"(pid {stranger.pid}, user " in reason
        assert len(home.events("worker.spawned")) == 1
        stranger.kill()
    eventually(lambda: home.status()["Kimi"] == "ready")


def test_a_stopped_entry_refuses_connections(home):
    home.add("Kimi")
    home.add("Glm")
    home.start()
    assert home.request("stop", "kimi").ok
    with pytest.raises(ConnectionRefusedError):
        ask(home.ports["Kimi"])
    assert home.status() == {"Kimi": "stopped", "Glm": "ready"}
    assert home.start("Kimi") == {"Kimi": "ready"}


# Status.


def test_status_starts_nothing(home):
    home.add("Kimi")
    assert home.status() == {"Kimi": "stopped"}
    assert sorted(path.name for path in home.path.iterdir()) == ["ccproxy.toml", "envs"]


def test_status_names_the_holder_of_a_stopped_entrys_port(home):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = home.add("Kimi", port=stranger.getsockname()[1])
        row = home.row("Kimi")
    assert row.state == "foreign"
    assert f"port {port} in use by " in row.reason
    assert f"pid {os.getpid()}" in row.reason


@pytest.mark.parametrize("op", ["stop", "restart", "reload"])
def test_commands_need_a_running_fleet(home, op):
    home.add("Kimi")
    with pytest.raises(NotRunning, match="ccproxy start"):
        home.request(op)
    assert not (home.path / "pids").exists()


def test_status_shows_the_workers_of_a_hung_supervisor(home):
    home.add("Kimi")
    home.start()
    pid = home.supervise()
    pause(pid)
    status = client.fleet_status(home.fleet)  # returns although the supervisor never answers
    os.kill(pid, signal.SIGCONT)
    assert status.supervisor is None
    assert status.note == f"supervisor (pid {pid}) does not answer, 1 worker serving"
    assert [row.state for row in status.proxies] == ["ready"]


def test_busy_names_the_command_that_holds_the_lock(home):
    home.add("Kimi")
    with Lock(home.fleet, command="ccproxy up"), pytest.raises(Busy) as caught:
        client.ensure_supervisor(home.fleet, timeout=0.1)
    assert f"`ccproxy up` (pid {os.getpid()}) has held the lock for" in str(caught.value)


def test_status_as_json_has_the_published_form(home):
    home.add("Kimi")
    home.start()
    fields = client.fleet_status(home.fleet).as_json()
    assert fields["schema"] == 1
    assert fields["config"] == str(home.file.resolve())
    assert fields["supervisor"]["pid"] == home.supervise()
    assert fields["supervisor"]["uptime_s"] >= 0
    (row,) = fields["proxies"]
    names = "label port host state pids uptime_s keys models switched base_url log reason"
    assert set(names.split()) <= set(row)
    assert row["models"] == {"big": "b", "middle": "m", "small": "s"}
    assert row["log"] == str(home.path / "logs/Kimi.log")
