"""Restart and reload: no connection is refused, and streams finish on their old worker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ccproxy.errors import ConfigError, UsageError
from ccproxy.supervisor.config_check import ConfigCheck
from ccproxy.supervisor.control.protocol import ControlCommand
from ccproxy.supervisor.fleet.worker_slot import START_LIMIT
from tests.architecture import PATIENCE
from tests.ports import free_port
from tests.supervisor.conftest import Load, ask, eventually, is_alive, states
from tests.supervisor.test_interrupted import workers_of
from tests.supervisor.test_starting import ended, running, state_of

HELD = "/held"
"""The path of an answer that the fake worker finishes after `home.release`."""


def stream(port, path, into):
    """Request a slow answer, and append its parts to *into*."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    into.append(answer.read(1))  # it is running
    into.append(answer.read())
    connection.close()


def signs(reply):
    return tuple((change.label, change.change) for change in reply.plan)


# Restart.


def test_restart_replaces_the_processes_without_a_gap(home):
    home.add("Kimi", workers=2)
    home.start()
    before = set(home.row("Kimi").pids)
    with Load(home.ports["Kimi"]) as load:
        for _ in range(3):
            assert states(home.request("restart", "kimi")) == {"Kimi": "ready"}
        answered = load.answered
        eventually(lambda: load.answered > answered + 20)
    assert (load.refused, load.broken) == (0, 0)
    assert before.isdisjoint(home.row("Kimi").pids)
    eventually(lambda: not any(is_alive(pid) for pid in before))
    eventually(lambda: len(home.records()) == 2)


def test_a_failed_restart_leaves_the_old_worker_serving(home):
    home.add("Kimi")
    home.start()
    pid = home.pid("Kimi")
    home.set("Kimi", FAIL="no such model")
    answer = home.request("restart")
    assert not answer.ok
    assert answer.error == "Kimi: no such model; the previous worker continues"
    assert home.status() == {"Kimi": "ready"}
    assert (home.pid("Kimi"), home.ask("Kimi")["pid"]) == (pid, pid)


async def test_a_successor_may_start_for_as_long_as_the_command_waits(home):
    home.add("Kimi")
    now = 0.0
    supervisor, life = await running(home, clock=lambda: now)
    await supervisor.execute(ControlCommand(op="start"))
    home.set("Kimi", NEVER_READY="1")
    command = asyncio.create_task(
        supervisor.execute(ControlCommand(op="restart", timeout=10 * START_LIMIT))
    )
    async with asyncio.timeout(PATIENCE):
        while len(home.events("worker.spawned")) < 2:
            await asyncio.sleep(0.01)
    now = 11 * START_LIMIT
    await supervisor.execute(ControlCommand(op="status"))  # wakes the loop
    assert (await command).error == "Kimi: not ready after 150 s; the previous worker continues"
    await ended(supervisor, life)


def test_a_failed_restart_cuts_no_request_of_a_new_worker_that_served(home):
    """Of two new workers the first serves until the second has had its time to start."""
    home.add("Kimi", workers=2)
    home.start()
    old = set(home.row("Kimi").pids)
    home.set("Kimi", NEVER_READY="2")
    with ThreadPoolExecutor(1) as pool:
        restart = pool.submit(home.request, "restart", "kimi", timeout=8.0)
        eventually(lambda: len(home.events("worker.ready")) == 3)
        for pid in old:
            os.kill(pid, signal.SIGSTOP)  # so that the new worker gets the request
        got: list[bytes] = []
        reader = threading.Thread(target=stream, args=(home.ports["Kimi"], HELD, got))
        reader.start()
        eventually(lambda: got)
        for pid in old:
            os.kill(pid, signal.SIGCONT)
        answer = restart.result()
    assert answer.error == "Kimi: not ready in time; the previous worker continues"
    assert {pid for pid in home.row("Kimi").pids if pid in old} == old
    home.release("Kimi")
    reader.join()
    assert got == [b".", b"end"]
    eventually(lambda: set(home.row("Kimi").pids) == old)


def test_a_worker_that_is_killed_while_it_is_replaced_leaves_no_second_one(home):
    home.add("Kimi")
    home.start()
    home.set("Kimi", NEVER_READY="1")
    with ThreadPoolExecutor(1) as pool:
        restart = pool.submit(home.request, "restart", "kimi", timeout=5.0)
        eventually(lambda: len(home.events("worker.spawned")) == 2)
        first, second = (event["pid"] for event in home.events("worker.spawned"))
        os.kill(first, signal.SIGKILL)
        eventually(lambda: len(home.events("worker.spawned")) == 3)
        assert not restart.result().ok
    eventually(lambda: home.events("worker.draining") or home.events("worker.late"))
    eventually(lambda: workers_of(home) == {second})


@pytest.mark.parametrize("op", ["start", "restart", "reload"])
async def test_a_stop_takes_precedence_over_a_running_command(home, op):
    """It arrives after the files were checked, while the fork server is still loading."""
    for label in ("Kimi", "Glm"):
        home.add(label)
    checked = asyncio.Event()

    class ObservedCheck(ConfigCheck):
        async def __call__(self, labels, *, cwd, network=None):
            result = await super().__call__(labels, cwd=cwd, network=network)
            checked.set()
            return result

    may_end = home.path / "may-end"
    may_end.touch()
    wait = f"import os, time\nwhile not os.path.exists({str(may_end)!r}): time.sleep(0.02)"
    supervisor, life = await running(
        home, check=ObservedCheck(home.file), fork_server=(sys.executable, "-c", wait)
    )
    first = ("glm",) if op == "start" else ()
    await supervisor.execute(ControlCommand(op="start", labels=first))
    may_end.unlink()
    checked.clear()
    home.set("Kimi", COLOUR="blue")
    late = asyncio.create_task(supervisor.execute(ControlCommand(op=op)))
    await checked.wait()
    await supervisor.execute(ControlCommand(op="stop", labels=("kimi",)))
    may_end.touch()
    assert (await late).error is None
    assert await state_of(supervisor, "Kimi") == "stopped"
    assert await state_of(supervisor, "Glm") == "ready"
    assert json.loads((home.path / "state/unwanted.json").read_text()) == ["kimi"]
    await ended(supervisor, life)


def test_restart_of_a_failed_entry_starts_it(home):
    home.add("Kimi", FAIL="no such model")
    home.add("Glm")
    home.start()
    home.set("Kimi")
    assert states(home.request("restart", "Kimi")) == {"Kimi": "ready"}


# Reload.


def test_reload_replaces_only_what_has_changed(home):
    for label in ("Kimi", "Glm", "Qwen"):
        home.add(label)
    home.start()
    before = {label: home.pid(label) for label in home.ports}
    home.set("Kimi", COLOUR="blue")
    home.remove("Qwen")
    home.add("Groq")
    plan = (("Kimi", "~"), ("Glm", "="), ("Groq", "+"), ("Qwen", "-"))
    assert signs(home.request("plan")) == plan
    assert {label: home.pid(label) for label in before} == before
    with Load(home.ports["Kimi"]) as load:
        answer = home.request("reload")
    assert answer.ok
    assert signs(answer) == plan
    assert states(answer) == {"Kimi": "ready", "Glm": "ready", "Groq": "ready"}
    assert home.ask("Kimi")["COLOUR"] == "blue"
    assert home.pid("Glm") == before["Glm"]
    eventually(lambda: not is_alive(before["Qwen"]))
    with pytest.raises(ConnectionRefusedError):
        ask(home.ports["Qwen"])
    assert (load.refused, load.broken) == (0, 0)
    assert set(dict(signs(home.request("reload"))).values()) == {"="}


def test_a_stream_finishes_on_the_old_worker_while_the_new_one_serves(home):
    home.add("Kimi")
    home.start()
    old = home.pid("Kimi")
    got: list[bytes] = []
    reader = threading.Thread(target=stream, args=(home.ports["Kimi"], HELD, got))
    reader.start()
    eventually(lambda: got)
    home.set("Kimi", COLOUR="blue")
    assert home.request("reload").ok
    assert home.ask("Kimi")["COLOUR"] == "blue"
    assert is_alive(old)
    home.release("Kimi")
    reader.join()
    assert got == [b".", b"end"]
    eventually(lambda: not is_alive(old))


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(lambda home: home.file.write_text("proxies = ["), id="bad TOML"),
        pytest.param(lambda home: home.set("Kimi", MAX_RETRIES="many"), id="bad setting"),
        pytest.param(lambda home: (home.path / "envs/Kimi.env").unlink(), id="no env file"),
        pytest.param(lambda home: home.add("../x", port=1), id="bad label"),
        pytest.param(lambda home: home.add("Glm", port=home.ports["Kimi"]), id="a port twice"),
    ],
)
def test_a_broken_configuration_changes_nothing(home, break_it):
    home.add("Kimi")
    home.start()
    fleet, pid = home.fleet, home.pid("Kimi")
    (home.path / "x.env").touch()
    break_it(home)
    from ccproxy.supervisor.control import client

    for op in ("reload", "restart", "start"):
        with pytest.raises(ConfigError) as caught:
            client.request(fleet, op)
        assert caught.value.mistakes
    (row,) = client.fleet_status(fleet).proxies
    assert (row.state, row.pids) == ("ready", (pid,))
    assert len(home.events("worker.spawned")) == 1


def test_an_entry_may_change_its_port(home):
    old = home.add("Kimi")
    home.start()
    new = free_port()
    home.add("Kimi", port=new)
    assert dict(signs(home.request("reload"))) == {"Kimi": "~"}
    assert ask(new)["label"] == "Kimi"
    with pytest.raises(ConnectionRefusedError):
        eventually(lambda: ask(old)["pid"] < 0)


def test_an_entry_may_change_its_label(home):
    port = home.add("Kimi")
    home.start()
    home.remove("Kimi")
    home.add("Kimi-K2", port=port)
    with Load(port) as load:
        assert home.request("reload").ok
    assert load.refused == 0
    eventually(lambda: home.status() == {"Kimi-K2": "ready"})
    assert ask(port)["label"] == "Kimi-K2"


def test_an_entry_may_change_its_labels_case(home):
    port = home.add("Kimi")
    home.start()
    home.remove("Kimi")
    home.add("kimi", port=port)
    with Load(port) as load:
        reply = home.request("reload")
    assert signs(reply) == (("kimi", "~"),)
    assert load.refused == 0
    assert states(reply) == {"kimi": "ready"}
    assert ask(port)["label"] == "kimi"


def test_a_port_does_not_serve_two_labels_before_a_reload(home):
    first, second = home.add("Kimi"), home.add("Glm")
    home.start()
    home.add("Kimi", port=second)
    home.add("Glm", port=first)
    home.request("stop", "Kimi")
    with pytest.raises(UsageError, match=f"port {second} still serves Glm"):
        home.request("start", "Kimi")
    assert home.request("reload").ok
    assert ask(first)["label"] == "Glm"


def test_a_port_that_moves_to_another_entry_never_serves_both(home):
    """The entry that had it fails at its new port, so its previous worker cannot continue."""
    first, second = home.add("Kimi"), home.add("Glm")
    home.start()
    home.add("Kimi", port=second, FAIL="no such model")
    home.add("Glm", port=first)
    reply = home.request("reload")
    assert reply.error == f"Kimi: no such model; port {first}, which it had, now serves Glm"
    eventually(lambda: len(workers_of(home)) == 1)
    assert home.status() == {"Kimi": "failed", "Glm": "ready"}
    assert ask(first)["label"] == "Glm"
    home.set("Kimi")
    assert home.request("reload").ok
    assert ask(second)["label"] == "Kimi"


def test_ports_stay_where_they_were_if_both_entries_fail(home):
    first, second = home.add("Kimi"), home.add("Glm")
    home.start()
    before = workers_of(home)
    home.add("Kimi", port=second, FAIL="no such model")
    home.add("Glm", port=first, FAIL="no such model")
    reply = home.request("reload")
    assert sorted((reply.error or "").splitlines()) == [
        "Glm: no such model; the previous worker continues",
        "Kimi: no such model; the previous worker continues",
    ]
    eventually(lambda: workers_of(home) == before)
    assert (ask(first)["label"], ask(second)["label"]) == ("Kimi", "Glm")


def test_an_entry_may_change_its_host(home):
    """The two addresses cannot be bound simultaneously, so the old worker is stopped first."""
    port = home.add("Kimi")
    home.start()
    home.add("Kimi", HOST="0.0.0.0", ANTHROPIC_API_KEY="a-client-key-of-some-length")
    assert home.request("reload").ok
    assert home.row("Kimi").host == "0.0.0.0"
    assert ask(port)["label"] == "Kimi"


def test_a_stopped_entry_stays_stopped(home):
    home.add("Kimi")
    home.add("Glm")
    home.start()
    home.request("stop", "glm")
    home.set("Glm", COLOUR="blue")
    assert dict(signs(home.request("reload"))) == {"Kimi": "=", "Glm": "="}
    assert home.status() == {"Kimi": "ready", "Glm": "stopped"}


def test_reload_retries_failed_entries(home):
    home.add("Kimi", FAIL="not today")
    home.add("Glm")
    home.start()
    assert dict(signs(home.request("reload"))) == {"Kimi": "=", "Glm": "="}
    assert len([e for e in home.events("worker.spawned") if e["label"] == "Kimi"]) == 2


def test_sighup_reloads(home):
    home.add("Kimi")
    home.start()
    home.set("Kimi", COLOUR="blue")
    os.kill(home.supervise(), signal.SIGHUP)
    eventually(lambda: home.ask("Kimi").get("COLOUR") == "blue")
