"""A new supervisor takes over running workers, and no other process."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import signal
import socket
import subprocess
import threading
from datetime import datetime

import pytest

from ccproxy.errors import CcproxyError
from ccproxy.store.wall_clock import boot_id
from ccproxy.supervisor.control import client
from ccproxy.supervisor.fleet.adoption import ANSWER_LIMIT
from ccproxy.supervisor.processes.identity import Identity, identify
from ccproxy.supervisor.state.records import RecordFolder, Spec, WorkerRecord
from tests.ports import free_port
from tests.supervisor.conftest import (
    FAKE_WORKER,
    Load,
    ask,
    eventually,
    is_alive,
    listen_as_somebody_else,
)


def kill_supervisor(home):
    pid = home.supervise()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_alive(pid))
    return pid


def test_workers_continue_and_the_next_start_adopts_them(home):
    home.add("Kimi")
    home.add("Glm", workers=2)
    home.start()
    before = {label: home.row(label).pids for label in ("Kimi", "Glm")}
    with Load(home.ports["Kimi"]) as kimi, Load(home.ports["Glm"]) as glm:
        old = kill_supervisor(home)
        status = client.fleet_status(home.fleet)
        assert status.supervisor is None
        assert status.note == "supervisor down, 2 workers serving; fix: ccproxy start"
        assert {row.label: row.pids for row in status.proxies} == before
        assert home.start() == {"Kimi": "ready", "Glm": "ready"}
        assert home.supervise() != old
        answered = kimi.answered
        eventually(lambda: kimi.answered > answered + 20)
    assert {label: home.row(label).pids for label in before} == before
    assert (kimi.refused, kimi.broken, glm.refused, glm.broken) == (0, 0, 0, 0)
    (started,) = home.events("supervisor.started")
    adopted = [datetime.fromisoformat(event["time"]) for event in home.events("worker.adopted")]
    assert len(adopted) == 3
    # Adoption does not wait until an unanswered probe times out.
    assert (max(adopted) - datetime.fromisoformat(started["time"])).total_seconds() < ANSWER_LIMIT
    assert len(home.events("listener.adopted")) == 3


def test_an_adopted_worker_that_crashes_is_restarted_on_the_same_listener(home):
    home.add("Kimi")
    home.start()
    pid = home.pid("Kimi")
    kill_supervisor(home)
    home.start()
    with Load(home.ports["Kimi"]) as load:
        os.kill(pid, signal.SIGKILL)
        assert ask(home.ports["Kimi"])["pid"] != pid
    assert load.refused == 0
    assert home.events("listener.bound") == []  # since the start of the second supervisor


def test_a_stopped_entry_stays_stopped_for_the_next_supervisor(home):
    """A worker that exited without a supervisor does not count as stopped."""
    for label in ("Kimi", "Glm", "Qwen"):
        home.add(label)
    home.start()
    home.request("stop", "glm")
    kill_supervisor(home)
    os.kill(home.pid("Qwen"), signal.SIGKILL)
    eventually(lambda: home.status()["Qwen"] == "stopped")
    home.add("Groq")
    home.supervise()
    answer = home.request("reload")
    signs = {one.label: one.change for one in answer.plan}
    assert signs == {"Kimi": "=", "Glm": "=", "Qwen": "+", "Groq": "+"}
    expected = {"Kimi": "ready", "Glm": "stopped", "Qwen": "ready", "Groq": "ready"}
    assert home.status() == expected
    assert home.start("Glm") == {"Glm": "ready"}
    assert list((home.path / "state").glob("unwanted*")) == []


def test_stop_works_without_a_supervisor(home):
    home.add("Kimi")
    home.start()
    pid = home.pid("Kimi")
    kill_supervisor(home)
    assert home.request("stop").ok
    assert not is_alive(pid)
    assert home.status() == {"Kimi": "stopped"}


def test_the_record_of_an_exited_worker_is_deleted(home):
    home.add("Kimi")
    home.start()
    pid = home.pid("Kimi")
    kill_supervisor(home)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_alive(pid))
    # The threads of a killed process exit one by one; the last one releases its port.
    eventually(lambda: home.status() == {"Kimi": "stopped"})
    assert home.start() == {"Kimi": "ready"}
    assert home.pid("Kimi") != pid
    assert [event["pid"] for event in home.events("record.stale")] == [pid]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.write_text("{"), id="torn"),
        pytest.param(lambda path: path.write_bytes(b"\xff\x00"), id="garbage"),
        pytest.param(lambda path: path.write_text(""), id="empty"),
        pytest.param(lambda path: path.unlink(), id="gone"),
    ],
)
def test_an_unreadable_record_is_rebuilt_from_the_control_socket(home, damage):
    home.add("Kimi")
    home.start()
    pid = home.pid("Kimi")
    before = home.records()
    kill_supervisor(home)
    damage(home.path / "pids/Kimi.pid")
    assert home.start() == {"Kimi": "ready"}
    assert home.pid("Kimi") == pid
    (rebuilt,) = home.records()
    assert rebuilt.identity == before[0].identity
    assert rebuilt.nonce == before[0].nonce
    assert len(home.events("record.rebuilt")) == 1


def test_a_hung_worker_is_adopted(home):
    home.add("Kimi", HANG_AFTER="1")
    home.start()
    (record,) = home.records()
    kill_supervisor(home)
    home.supervise()
    assert home.status()["Kimi"] in ("ready", "degraded")
    assert home.request("stop", drain=0.0).ok
    assert not record.identity.is_alive()


# Other processes.


def test_other_processes_in_records_are_never_signalled(home):
    """The records contain a running process's pid, with right and wrong start times and boots."""
    port = home.add("Kimi")
    chance = random.Random(3)
    pids = home.path / "pids"
    pids.mkdir()
    with subprocess.Popen(["sleep", "600"]) as stranger:
        identity = identify(stranger.pid)
        for number in range(50):
            wrong = Identity(
                stranger.pid,
                identity.start + chance.choice([0, 0, 1, -100]),
                chance.choice([boot_id(), boot_id(), "another boot"]),
            )
            spec = Spec(label=f"L{number}", host="127.0.0.1", port=port, env_file="x")
            control = chance.choice([str(home.path / "nothing.sock"), "", "/dev/null"])
            record = WorkerRecord(
                identity=wrong,
                nonce=f"{number:032x}",
                control=control,
                index=1,
                spec=spec,
                home=str(home.path),
            )
            (pids / f"L{number}.pid").write_text(record.to_json())
        assert home.status()["Kimi"] == "stopped"
        assert home.start() == {"Kimi": "ready"}
        assert [path.name for path in pids.glob("L*")] == []
        assert home.request("stop", drain=0.0).ok
        assert stranger.poll() is None
        stranger.kill()


def test_a_recycled_pid_with_another_worker_at_the_socket_is_not_adopted(home):
    """The record names another process, and the worker at its socket has another nonce."""
    home.add("Kimi")
    home.start()
    (record,) = home.records()
    kill_supervisor(home)
    with subprocess.Popen(["sleep", "600"]) as stranger:
        forged = dataclasses.replace(record, identity=identify(stranger.pid), nonce="f" * 32)
        forged = dataclasses.replace(forged, spec=dataclasses.replace(record.spec, label="Forged"))
        RecordFolder(home.path / "pids").write(forged)
        assert home.start() == {"Kimi": "ready"}
        assert [row.label for row in client.fleet_status(home.fleet).proxies] == ["Kimi"]
        assert home.request("stop", drain=0.0).ok
        assert stranger.poll() is None
        stranger.kill()


def serve(listener, state):
    """Answer every client of a unix socket until it is shut down; each answer has a listener."""

    def run():
        with socket.create_server(("127.0.0.1", 0)) as shop, contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    if connection.recv(65536):
                        line = json.dumps(state).encode() + b"\n"
                        socket.send_fds(connection, [line], [shop.fileno()])

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def end(listener, thread):
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_process_of_another_user_is_not_trusted_as_the_supervisor(home, monkeypatch):
    home.add("Kimi")
    row = client.fleet_status(home.fleet).proxies[0].as_json() | {"state": "ready", "port": 1}
    (home.path / "state").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home.path / "state/supervisor.sock"))
        listen_as_somebody_else(listener, monkeypatch)
        thread = serve(listener, {"ok": True, "supervisor": {"pid": 1}, "proxies": [row]})
        status = client.fleet_status(home.fleet)
        end(listener, thread)
    assert status.supervisor is None
    assert [(row.state, row.port) for row in status.proxies] == [("stopped", home.ports["Kimi"])]


def test_a_socket_that_reports_another_process_is_ignored(home):
    """The other process belongs to this user and leads a session, as a worker does."""
    home.add("Kimi")
    home.start()
    kill_supervisor(home)
    nonce = "deadbeef"
    with (
        subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(str(home.path / f"state/Forged.1.{nonce}.sock"))
        listener.listen()
        output = {"label": "Forged", "pid": stranger.pid, "nonce": nonce, "port": free_port()}
        thread = serve(listener, output | {"state": "ready", "in_flight": 0})
        assert home.start() == {"Kimi": "ready"}
        assert home.request("stop", drain=0.0).ok
        end(listener, thread)
        assert stranger.poll() is None
        stranger.kill()


def test_a_wrong_socket_in_a_record_starts_no_second_worker(home):
    home.add("Kimi")
    home.start()
    kill_supervisor(home)
    (record,) = home.records()
    wrong = dataclasses.replace(record, control=str(home.path / "state/gone.sock"))
    (home.path / "pids/Kimi.pid").write_text(wrong.to_json())
    assert home.start() == {"Kimi": "ready"}
    assert home.row("Kimi").pids == (record.identity.pid,)
    assert home.records() == [record]
    record.identity.signal(signal.SIGKILL)
    eventually(
        lambda: home.status() == {"Kimi": "ready"} and home.pid("Kimi") != record.identity.pid
    )
    assert (home.path / "logs/supervisor.out").read_bytes() == b""


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a pipe", "a folder"])
def test_a_pipe_or_folder_instead_of_a_file_does_not_prevent_commands(home, make):
    home.add("Kimi")
    home.start()
    (record,) = home.records()
    kill_supervisor(home)
    for name in ("pids/Kimi.pid", "pids/supervisor.pid", "state/clock.json"):
        (home.path / name).unlink(missing_ok=True)
        make(home.path / name)
    assert home.status() == {"Kimi": "degraded"}
    client.ensure_supervisor(home.fleet, worker_command=FAKE_WORKER)
    supervisor = client.fleet_status(home.fleet).supervisor.pid
    assert client.request(home.fleet, "start").ok
    assert home.row("Kimi").pids == (record.identity.pid,)
    assert home.request("stop", drain=0.0).ok
    eventually(lambda: not is_alive(supervisor))
    assert not record.identity.is_alive()


@pytest.mark.parametrize("name", ["logs/Kimi.out", "logs/Kimi.log"])
def test_a_pipe_instead_of_a_log_does_not_block_commands(home, name):
    home.add("Kimi", FAIL="1")
    (home.path / "logs").mkdir()
    os.mkfifo(home.path / name)
    home.supervise()
    assert home.request("start", timeout=5.0).ok is False
    assert client.fleet_status(home.fleet).supervisor is not None


def test_a_folder_instead_of_the_socket_is_named_in_the_error(home):
    home.add("Kimi")
    (home.path / "state/supervisor.sock").mkdir(parents=True)
    with pytest.raises(CcproxyError, match=r"no control socket can be created: .*supervisor\.sock"):
        home.start()
