"""The unix socket, the listening sockets, and the processes at their ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ccproxy.supervisor.fleet.plan import Port
from ccproxy.supervisor.processes import identity as processes
from ccproxy.supervisor.processes.exit_watch import ExitWatch
from ccproxy.supervisor.processes.identity import age_of, boot_id, has_argument, identify, start_of
from ccproxy.supervisor.sockets import listeners
from ccproxy.supervisor.sockets import unix_socket as control
from ccproxy.supervisor.sockets.listeners import RETRY, SOON, Listeners
from ccproxy.supervisor.sockets.unix_server import Server, ask_soon
from ccproxy.supervisor.sockets.unix_socket import (
    NoAnswer,
    ask,
    ask_who,
    socket_path,
    take_listener,
    worker_sockets,
)
from tests.supervisor.conftest import eventually, listen_as_somebody_else

# The control socket.


def test_a_socket_lies_in_the_state_folder():
    assert socket_path(Path("/home/u/p")) == Path("/home/u/p/state/supervisor.sock")


@pytest.mark.parametrize("length", [70, 81, 82, 150])
def test_a_path_too_long_for_a_socket_has_another_place(tmp_path, monkeypatch, length):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    home = Path("/" + "x" * (length - 1))
    path = socket_path(home)
    direct = len(str(home / "state/supervisor.sock")) <= 100
    assert (path.parent == home / "state") is direct
    assert direct or (path.parent == tmp_path / "ccproxy" and path == socket_path(home))
    assert socket_path(home, "other") != path


def test_different_homes_never_share_a_short_path(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    paths = {socket_path(Path(f"/{'x' * 150}/{number}")) for number in range(50)}
    assert len(paths) == 50
    assert {path.parent for path in paths} == {Path(f"/tmp/ccproxy-{os.getuid()}")}


@pytest.mark.parametrize("home", ["/" + "x" * 150, "home"], ids=["short", "state"])
def test_a_folder_that_others_may_write_is_refused(tmp_path, monkeypatch, home):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = socket_path(tmp_path / home)
    control.prepare_folder(path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for mode in (0o777, 0o720, 0o702):
        path.parent.chmod(mode)
        with pytest.raises(PermissionError, match=f"by others: chmod 700 {path.parent}"):
            control.prepare_folder(path)
    path.parent.rmdir()
    path.parent.symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        control.prepare_folder(path)


def test_worker_sockets_are_all_but_the_supervisors(tmp_path):
    (tmp_path / "state").mkdir()
    for name in ("supervisor.sock", "Kimi.1.ab.sock", "Glm.2.cd.sock", "notes.txt"):
        (tmp_path / "state" / name).touch()
    assert [path.name for path in worker_sockets(tmp_path)] == ["Glm.2.cd.sock", "Kimi.1.ab.sock"]


async def echo(request):
    return {"you": request}


@pytest.fixture
async def server(tmp_path):
    server = Server(tmp_path / "s.sock", echo)
    await server.start()
    yield server
    await server.close()


async def test_question_and_answer(server):
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
    question = {"op": "status", "text": "zwei\nZeilen, ü"}
    assert await ask_soon(server.path, question) == {"you": question}
    assert await asyncio.to_thread(ask, server.path, question, timeout=5) == {"you": question}


@pytest.mark.parametrize("line", [b"", b"\n", b"no json\n", b"[1]\n", b"{", b'{"a": NaN'])
async def test_nonsense_is_hung_up_on_and_harms_nobody(server, line):
    reader, writer = await asyncio.open_unix_connection(server.path)
    writer.write(line)
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    assert await ask_soon(server.path, {"a": 1}) == {"you": {"a": 1}}


async def test_the_socket_of_the_dead_is_replaced_and_ones_own_removed(tmp_path):
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(NoAnswer, match="refused"):
        await ask_soon(path, {})
    server = Server(path, echo)
    await server.start()
    assert await ask_soon(path, {}) == {"you": {}}
    await server.close()
    assert not path.exists()
    with pytest.raises(NoAnswer, match="No such file"):
        await ask_soon(path, {})


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(None, id="silence"),
        pytest.param(b"", id="hung up"),
        pytest.param(b"{", id="half a line"),
        pytest.param(b"no\n", id="no JSON"),
        pytest.param(b"[]\n", id="no object"),
        pytest.param(b"x" * 5_000_000, id="no end"),
    ],
)
def test_what_is_no_answer_is_said_to_be_none(tmp_path, answer):
    def serve(listener):
        connection, _ = listener.accept()
        with connection:
            if answer is None:
                connection.recv(1000)
                connection.recv(1000)
            else:
                connection.recv(1000)
                try:
                    connection.sendall(answer)
                except OSError:
                    return

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.sock"))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with pytest.raises(NoAnswer, match=r"s\.sock"):
            ask(tmp_path / "s.sock", {"op": "state"}, timeout=0.2 if answer is None else 5)
        thread.join()


def ask_in_a_loop(path):
    asyncio.run(asyncio.wait_for(ask_soon(path, {"op": "state"}), 5))


@pytest.mark.parametrize(
    "asking",
    [
        pytest.param(lambda path: ask(path, {"op": "status"}, timeout=5), id="ask"),
        pytest.param(lambda path: ask_who(path, timeout=5), id="ask_who"),
        pytest.param(lambda path: take_listener(path, timeout=5), id="take_listener"),
        pytest.param(ask_in_a_loop, id="ask_soon"),
    ],
)
def test_another_user_at_a_socket_is_told_nothing(tmp_path, monkeypatch, asking):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.sock"))
        listen_as_somebody_else(listener, monkeypatch)
        with pytest.raises(NoAnswer, match="neither you nor root"):
            asking(tmp_path / "s.sock")
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1000) == b""


ANSWERING = """
import json, os, socket, sys
side = socket.socket(socket.AF_UNIX)
side.bind(sys.argv[1])
side.listen()
print("listening", flush=True)
connection, _ = side.accept()
connection.recv(1000)  # who answers and leaves at once breaks the asking off
connection.sendall(json.dumps({"pid": os.getpid()}).encode() + b"\\n")
"""


def test_the_process_that_listens_is_known(tmp_path):
    path = tmp_path / "s.sock"
    command = [sys.executable, "-c", ANSWERING, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"listening\n"
        assert ask_who(path, timeout=5) == ({"pid": child.pid}, (os.geteuid(), child.pid))


@pytest.mark.parametrize("gives", [True, False])
def test_a_listening_socket_crosses_over(tmp_path, gives):
    with socket.create_server(("127.0.0.1", 0)) as shop, socket.socket(socket.AF_UNIX) as side:
        side.bind(str(tmp_path / "s.sock"))
        side.listen()

        def serve():
            connection, _ = side.accept()
            with connection:
                connection.recv(1000)
                fds = [shop.fileno()] if gives else []
                socket.send_fds(connection, [b'{"ok": true}\n'], fds)

        thread = threading.Thread(target=serve)
        thread.start()
        if gives:
            with take_listener(tmp_path / "s.sock", timeout=5) as taken:
                assert taken.getsockname() == shop.getsockname()
                assert not os.get_inheritable(taken.fileno())
        else:
            with pytest.raises(NoAnswer, match="no socket came"):
                take_listener(tmp_path / "s.sock", timeout=5)
        thread.join()


# Listening sockets.


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def shop():
    opened = Listeners(clock=Clock(), name_holder=lambda port: f"port {port} is Hugo's")
    yield opened
    opened.keep_only(())


def free():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_bound_port_queues_before_anybody_accepts(shop, host):
    address = (host, free()[1])
    assert shop.bind(address) is None
    assert shop.has(address)
    assert not os.get_inheritable(shop.fileno(address))
    with socket.create_connection(address, timeout=5):
        pass


def test_a_strangers_port_is_named_and_tried_again_later(shop):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        address = stranger.getsockname()
        trouble = shop.bind(address)
        assert trouble.reason == f"port {address[1]} is Hugo's"
        assert (trouble.port, trouble.again) == (Port.FOREIGN, 100.0 + RETRY)
        assert RETRY <= 5.0
        assert shop.next_try(100.0) == 100.0 + RETRY
    assert shop.bind(address) is None
    assert shop.trouble(address) is None


def test_a_leaving_workers_port_is_tried_again_soon(shop):
    with socket.create_server(("127.0.0.1", 0)) as ours:
        trouble = shop.bind(ours.getsockname(), leaving=True)
    assert (trouble.port, trouble.again) == (Port.HELD, 100.0 + SOON)


@pytest.mark.parametrize("address", [("203.0.113.1", 8081), ("no.such.host.invalid", 8081)])
def test_an_address_that_is_not_here_is_barred(shop, address):
    trouble = shop.bind(address)
    assert trouble.port is Port.BARRED
    assert trouble.reason.startswith(f"cannot listen on {address[0]}:8081: ")


def test_what_is_not_wanted_is_closed(shop):
    first, second = free(), free()
    shop.bind(first)
    shop.bind(second)
    assert shop.keep_only({first}) == [second]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(second, timeout=5)


def test_of_two_copies_of_one_socket_one_is_kept(shop):
    taken = socket.create_server(("127.0.0.1", 0))
    address, copy = taken.getsockname(), taken.dup()
    shop.adopt(address, taken)
    shop.adopt(address, copy)
    assert shop.fileno(address) == taken.fileno()
    assert copy.fileno() == -1
    assert not taken.getblocking()


def test_the_holder_of_a_port_is_named_by_program_and_pid():
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        text = listeners.name_holder_of(port)
    assert text.startswith(f"port {port} in use by ")
    assert f"(pid {os.getpid()}, user " in text
    assert listeners.name_holder_of(port).startswith(f"port {port} in use by another")


# Processes.


def test_a_process_is_known_by_more_than_its_pid():
    me = identify(os.getpid())
    assert me.is_alive()
    assert not processes.Identity(me.pid, me.start + 1, me.boot).is_alive()
    assert not processes.Identity(me.pid, me.start, "another boot").is_alive()
    assert boot_id() == me.boot
    assert 0 < age_of(me) < 100_000


def test_a_zombie_does_not_live():
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{child.pid}").exists()
        assert start_of(child.pid) is None
        assert identify(child.pid) is None


def test_a_name_with_brackets_and_blanks_is_read_over(tmp_path):
    program = tmp_path / "a) Z (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as child:
        os.waitid  # noqa: B018
        assert start_of(child.pid) > 0
        child.kill()


def test_signals_reach_the_very_process_only():
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as child:
        right = identify(child.pid)
        wrong = processes.Identity(right.pid, right.start - 1, right.boot)
        assert not wrong.signal(signal.SIGKILL)
        assert not wrong.signal_group(signal.SIGKILL)
        assert child.poll() is None
        assert right.signal_group(signal.SIGTERM)
        assert child.wait() == -signal.SIGTERM
        assert not right.signal(signal.SIGKILL)


def test_a_process_that_leads_no_group_takes_nobody_with_it():
    with subprocess.Popen(["sleep", "60"]) as child:
        assert not identify(child.pid).signal_group(signal.SIGKILL)
        assert child.poll() is None
        child.kill()


def test_arguments_are_compared_whole():
    with subprocess.Popen(["sleep", "60", "0.00123"]) as child:
        # A new process has no arguments for a moment.
        eventually(lambda: has_argument(child.pid, "0.00123"))
        assert not has_argument(child.pid, "0.0012")
        child.kill()
    assert not has_argument(2**22 + 1, "x")


@pytest.mark.parametrize("pidfd", [True, False])
async def test_an_end_is_told_once_and_at_once(monkeypatch, pidfd):
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open")
    with subprocess.Popen(["sleep", "60"]) as child:
        told = asyncio.Event()
        watch = ExitWatch(identify(child.pid), told.set)
        assert not told.is_set()
        child.kill()
        await asyncio.wait_for(told.wait(), 0.2 if pidfd else 2.0)
        watch.close()


async def test_without_pidfds_signals_still_reach_the_right_one(monkeypatch):
    monkeypatch.delattr(os, "pidfd_open")
    with subprocess.Popen(["sleep", "60"]) as child:
        assert identify(child.pid).signal(signal.SIGTERM)
        assert child.wait() == -signal.SIGTERM
