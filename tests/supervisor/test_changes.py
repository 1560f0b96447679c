"""Differences between the running workers and the current files and shell variables."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ccproxy.supervisor.control import client
from ccproxy.supervisor.control.protocol import ControlReply, Op, Progress
from ccproxy.supervisor.processes.child_environment import NETWORK_VARIABLES
from tests.supervisor.conftest import FAKE_WORKER, Home, Load, ask, eventually, is_alive
from tests.supervisor.test_replacing import HELD, stream
from tests.supervisor.test_stopping import foreground


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NETWORK_VARIABLES:
        monkeypatch.delenv(name, raising=False)


# Files.


def changed(home: Home) -> dict[str, str]:
    return {row.label: row.changed for row in client.fleet_status(home.fleet).proxies}


@pytest.mark.parametrize("supervisor", ["running", "killed"])
def test_status_shows_which_entries_have_changed_since_their_start(
    home: Home, supervisor: str
) -> None:
    for label in ("Kimi", "Glm", "Qwen", "Groq"):
        home.add(label)
    home.start()
    assert set(changed(home).values()) == {""}
    if supervisor == "killed":
        os.kill(home.supervise(), signal.SIGKILL)
        eventually(lambda: client.fleet_status(home.fleet).supervisor is None)
    home.set("Kimi", BIG_MODEL="another")
    home.remove("Qwen")
    (home.path / "envs/Groq.env").unlink()
    expected = {"Kimi": "changed", "Glm": "", "Qwen": "removed", "Groq": "unreadable"}
    assert changed(home) == expected


def test_an_undone_edit_is_not_a_change(home: Home) -> None:
    home.add("Kimi")
    home.start()
    home.set("Kimi", BIG_MODEL="another")
    assert changed(home) == {"Kimi": "changed"}
    home.set("Kimi")
    assert changed(home) == {"Kimi": ""}


def test_only_a_successful_reload_clears_the_change(home: Home) -> None:
    home.add("Kimi")
    home.start()
    home.set("Kimi", FAIL="no such model")
    assert not home.request("reload").ok
    assert changed(home) == {"Kimi": "changed"}
    home.set("Kimi", COLOUR="blue")
    assert home.request("reload").ok
    assert changed(home) == {"Kimi": ""}


def test_models_in_status_are_those_of_the_running_worker(home: Home) -> None:
    home.add("Kimi")
    home.start()
    home.set("Kimi", BIG_MODEL="another")
    assert home.row("Kimi").models == {"big": "b", "middle": "m", "small": "s"}


def test_a_reload_reports_new_routes_although_it_restarts_nothing(home: Home) -> None:
    home.add("Kimi")
    home.add("Glm")
    home.start()
    pid = home.pid("Kimi")
    home.file.write_text(home.file.read_text() + '\n[routes]\n"*haiku*" = "Glm"\n')
    assert home.request("plan").routing_changed
    reply = home.request("reload")
    assert reply.ok
    assert reply.routing_changed
    assert {one.change for one in reply.plan} == {"="}
    assert home.pid("Kimi") == pid
    assert not home.request("reload").routing_changed


# The shell's proxy variables.


def variables_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    pairs = dict(line.split("=", 1) for line in lines if "=" in line)
    return {name: value for name, value in pairs.items() if name in NETWORK_VARIABLES}


@pytest.mark.parametrize("op", ["restart", "reload"])
def test_restart_and_reload_use_the_proxy_variables_of_the_calling_shell(
    home: Home, op: Op
) -> None:
    home.add("Kimi")
    home.start()
    assert variables_of(home.pid("Kimi")) == {}
    new = {"HTTPS_PROXY": "http://p:3128", "SSL_CERT_FILE": "/etc/ca.pem", "OPENAI_API_KEY": "k"}
    assert home.request(op, environ=new).ok
    expected = {"HTTPS_PROXY": "http://p:3128", "SSL_CERT_FILE": "/etc/ca.pem"}
    assert variables_of(home.pid("Kimi")) == expected
    assert home.request(op, environ={}).ok
    assert variables_of(home.pid("Kimi")) == {}


def test_start_after_a_stop_of_one_entry_uses_the_callers_proxy_variables(home: Home) -> None:
    home.add("Kimi")
    home.add("Glm")
    home.start()
    home.request("stop", "kimi")
    reply = home.request("start", "kimi", environ={"HTTPS_PROXY": "http://u:password@p:3128"})
    assert variables_of(home.pid("Kimi")) == {"HTTPS_PROXY": "http://u:password@p:3128"}
    (note,) = reply.notes
    assert note.startswith("HTTPS_PROXY: this shell's values differ from those that Glm runs with")
    assert note.endswith("fix: ccproxy restart Glm")
    assert "password" not in note


def test_a_crashed_worker_is_restarted_with_the_latest_variables(home: Home) -> None:
    home.add("Kimi")
    home.start()
    home.request("restart", environ={"NO_PROXY": "example.org"})
    pid = home.pid("Kimi")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: home.row("Kimi").pids not in ((), (pid,)))
    assert variables_of(home.pid("Kimi")) == {"NO_PROXY": "example.org"}


def test_no_proxy_password_is_written_to_a_file(home: Home) -> None:
    home.add("Kimi")
    home.start()
    home.request("restart", environ={"HTTPS_PROXY": "http://u:canary@p:3128"})
    files = [path for path in home.path.rglob("*") if path.is_file()]
    assert [path for path in files if b"canary" in path.read_bytes()] == []


def test_a_plan_shows_the_effect_of_other_variables_and_changes_nothing(home: Home) -> None:
    home.add("Kimi")
    home.start()
    plan = home.request("plan", environ={"HTTPS_PROXY": "http://p:3128"}).plan
    assert [one.change for one in plan] == ["~"]
    assert [one.change for one in home.request("plan").plan] == ["="]


def test_a_foreground_supervisor_reports_the_difference(home: Home) -> None:
    home.add("Kimi")
    with foreground(home) as up:
        assert up.stdout is not None
        up.stdout.readline()
        reply = home_request(home, "restart", environ={"HTTPS_PROXY": "http://p:3128"})
        assert variables_of(home.pid("Kimi")) == {}
        up.send_signal(signal.SIGINT)
        up.wait(60)
    assert reply.notes[0].startswith("HTTPS_PROXY: this shell's values differ")


def home_request(home: Home, op: Op, **options: Any) -> ControlReply:
    return client.request(home.fleet, op, **options)


# Drains.


def test_a_worker_that_gets_sigterm_from_outside_is_replaced_immediately(home: Home) -> None:
    """The old worker finishes its stream, and no connection is refused."""
    home.add("Kimi")
    home.start()
    old = home.pid("Kimi")
    parts: list[bytes] = []
    reader = threading.Thread(target=stream, args=(home.ports["Kimi"], HELD, parts))
    reader.start()
    eventually(lambda: parts)
    with Load(home.ports["Kimi"]) as load:
        os.kill(old, signal.SIGTERM)
        eventually(lambda: home.status() == {"Kimi": "ready"} and home.pid("Kimi") != old)
        answered = load.answered
        eventually(lambda: load.answered > answered + 20)
        assert is_alive(old), "it still has its stream"
    assert load.refused == 0
    home.release("Kimi")
    reader.join()
    assert parts == [b".", b"end"]
    eventually(lambda: not is_alive(old))
    assert len(home.events("worker.left")) == 1
    assert home.status() == {"Kimi": "ready"}


def test_an_adopted_worker_that_gets_sigterm_is_replaced(home: Home) -> None:
    """It has no readiness pipe to the new supervisor, which detects the drain with a probe."""
    home.add("Kimi")
    home.start()
    old = home.pid("Kimi")
    os.kill(home.supervise(), signal.SIGKILL)
    eventually(lambda: client.fleet_status(home.fleet).supervisor is None)
    home.start()
    parts: list[bytes] = []
    reader = threading.Thread(target=stream, args=(home.ports["Kimi"], HELD, parts))
    reader.start()
    eventually(lambda: parts)
    os.kill(old, signal.SIGTERM)
    eventually(lambda: ask(home.ports["Kimi"])["pid"] != old)
    home.release("Kimi")
    reader.join()
    assert parts == [b".", b"end"]


def test_a_stop_reports_the_requests_that_it_waits_for(home: Home) -> None:
    home.add("Kimi")
    home.add("Glm")
    home.start()
    parts: list[bytes] = []
    readers = [
        threading.Thread(target=stream, args=(home.ports["Kimi"], HELD, parts)) for _ in range(2)
    ]
    for reader in readers:
        reader.start()
    eventually(lambda: len(parts) == 2)
    reports: list[Progress] = []

    def on_progress(progress: Progress) -> None:
        reports.append(progress)
        home.release("Kimi")

    assert home.request("stop", on_progress=on_progress).ok
    for reader in readers:
        reader.join()
    assert (reports[0].labels, reports[0].in_flight) == (("Kimi",), 2)
    assert 0 < reports[0].seconds_left <= 30.0


# The supervisor's own installation.

GONE = """
import sys, shutil
from pathlib import Path
from ccproxy.config.fleet import load_fleet
from ccproxy.supervisor.control import client
client.ensure_supervisor(load_fleet(Path(sys.argv[1])), worker_command=sys.argv[2:])
"""


def test_a_supervisor_whose_python_was_deleted_is_replaced_by_the_next_command(
    home: Home, tmp_path: Path
) -> None:
    """After `rm -rf .venv`, workers continue, and the new installation adopts them."""
    home.add("Kimi")
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    for site in Path(sys.executable).parent.parent.glob("lib/python*/site-packages"):
        (target,) = venv.glob("lib/python*/site-packages")
        (target / "all.pth").write_text(f"{site}\n{Path.cwd()}\n")
    python = venv / "bin/python"
    subprocess.run([python, "-c", GONE, home.file, *FAKE_WORKER], check=True, cwd=Path.cwd())
    assert home.start() == {"Kimi": "ready"}
    worker, old = home.pid("Kimi"), home.supervise()
    python.unlink()
    reply = home.request("reload")
    assert reply.ok
    assert home.supervise() != old
    assert is_alive(worker)
    eventually(lambda: not is_alive(old))
