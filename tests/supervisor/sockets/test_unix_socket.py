"""Control sockets: their paths, trusted listeners, and blocking requests."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ccproxy.ipc.control_messages import KeysReply, StateRequest, WorkerState
from ccproxy.ipc.socket_paths import runtime_path, socket_path, worker_sockets
from ccproxy.supervisor.sockets.unix_server import ask_worker_async
from ccproxy.supervisor.sockets.unix_socket import (
    AnswerTimeout,
    FolderWithoutModes,
    NoAnswer,
    WorkerRefused,
    ask_worker,
    exchange,
    prepare_folder,
    state_and_peer,
    take_listener,
)
from tests.supervisor.conftest import listen_as_somebody_else

# Paths.


def test_a_socket_is_in_the_state_folder() -> None:
    assert socket_path(Path("/home/u/p")) == Path("/home/u/p/state/supervisor.sock")


@pytest.mark.parametrize("length", [70, 81, 82, 150])
def test_a_path_that_is_too_long_for_a_socket_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    home = Path("/" + "x" * (length - 1))
    path = socket_path(home)
    fits = len(str(home / "state/supervisor.sock")) <= 100
    assert (path.parent == home / "state") is fits
    assert fits or (path.parent == tmp_path / "ccproxy" and path == socket_path(home))
    assert socket_path(home, "other") != path


def test_two_homes_never_share_a_runtime_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    paths = {socket_path(Path(f"/{'x' * 150}/{number}")) for number in range(50)}
    assert len(paths) == 50
    assert {path.parent for path in paths} == {Path(f"/tmp/ccproxy-{os.getuid()}")}


def test_the_sockets_of_workers_are_found_in_both_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "state").mkdir()
    for name in ("supervisor.sock", "Kimi.1.ab.sock", "Glm.2.cd.sock", "notes.txt"):
        (tmp_path / "state" / name).touch()
    elsewhere = runtime_path(tmp_path, "Qwen.1.ef.sock")
    elsewhere.parent.mkdir()
    elsewhere.touch()
    runtime_path(Path("/another/home"), "Groq.1.ef.sock").touch()
    names = [Path(path).name for path in worker_sockets(tmp_path)]
    assert names == [elsewhere.name, "Glm.2.cd.sock", "Kimi.1.ab.sock"]


def test_the_sockets_in_a_folder_of_another_user_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    planted = runtime_path(tmp_path, "Qwen.1.ef.sock")
    planted.parent.mkdir()
    planted.touch()
    assert worker_sockets(tmp_path) == [str(planted)]
    monkeypatch.setattr(os, "getuid", lambda: planted.parent.stat().st_uid + 1)
    assert worker_sockets(tmp_path) == []


@pytest.mark.parametrize("home", ["/" + "x" * 150, "home"], ids=["runtime", "state"])
def test_a_folder_that_others_can_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = socket_path(tmp_path / home)
    prepare_folder(path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for mode in (0o777, 0o720, 0o702):
        path.parent.chmod(mode)
        with pytest.raises(PermissionError, match=f"by others: chmod 700 {path.parent}"):
            prepare_folder(path)
    path.parent.rmdir()
    path.parent.symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="belongs to another user"):
        prepare_folder(path)


def test_a_file_system_without_modes_is_reported_instead_of_a_useless_chmod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state/s.sock"
    prepare_folder(path)
    path.parent.chmod(0o777)
    monkeypatch.setattr(os, "fchmod", lambda fd, mode: Path(f"/proc/self/fd/{fd}").chmod(0o777))
    with pytest.raises(FolderWithoutModes, match="does not store permissions"):
        prepare_folder(path)


# Requests.


def serve_once(listener: socket.socket, answer: bytes | None) -> threading.Thread:
    """Send *answer* to the first client, or nothing until the client disconnects if it is None."""

    def run() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            if answer is None:
                connection.recv(1000)
                return
            try:
                connection.sendall(answer)
            except OSError:
                return

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def state_of(path: Path, timeout: float = 5.0) -> WorkerState:
    return ask_worker(path, StateRequest(), WorkerState, timeout=timeout)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="closed"),
        pytest.param(b"{", id="half a line"),
        pytest.param(b"no\n", id="not JSON"),
        pytest.param(b"[]\n", id="not an object"),
        pytest.param(b'{"pid": "x"}\n', id="a wrong type"),
        pytest.param(b"[" * 100_000 + b"\n", id="deeply nested"),
        pytest.param(b"x" * 5_000_000, id="a line without an end"),
    ],
)
def test_an_invalid_reply_counts_as_no_answer(tmp_path: Path, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.sock"))
        listener.listen()
        thread = serve_once(listener, answer)
        with pytest.raises(NoAnswer, match=r"s\.sock") as caught:
            state_of(tmp_path / "s.sock")
        thread.join()
    assert not isinstance(caught.value, AnswerTimeout)


def test_a_silent_listener_is_distinguished_from_a_missing_one(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.sock"))
        listener.listen()
        thread = serve_once(listener, None)
        with pytest.raises(AnswerTimeout, match=r"s\.sock: no answer within 0\.2 s"):
            state_of(tmp_path / "s.sock", 0.2)
        thread.join()


def test_a_refusal_contains_the_workers_text(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.sock"))
        listener.listen()
        thread = serve_once(listener, b'{"ok": false, "error": "there is no key k9"}\n')
        with pytest.raises(WorkerRefused, match="there is no key k9"):
            ask_worker(tmp_path / "s.sock", StateRequest(), KeysReply, timeout=30)
        thread.join()


def test_progress_lines_are_passed_to_the_caller(tmp_path: Path) -> None:
    lines: list[bytes] = []

    def is_last(line: bytes) -> bool:
        lines.append(line)
        return line.startswith(b"last")

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.sock"))
        listener.listen()
        thread = serve_once(listener, b"first\nsecond\nlast\nmore")
        reply = exchange(tmp_path / "s.sock", b"go\n", timeout=30, is_last=is_last)
        thread.join()
    assert (reply.line, lines) == (b"last", [b"first", b"second", b"last"])


def ask_in_a_loop(path: Path) -> None:
    asyncio.run(asyncio.wait_for(ask_worker_async(path, StateRequest(), WorkerState), 30))


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(state_of, id="ask_worker"),
        pytest.param(lambda path: state_and_peer(path, timeout=30), id="state_and_peer"),
        pytest.param(lambda path: take_listener(path, timeout=30), id="take_listener"),
        pytest.param(ask_in_a_loop, id="ask_worker_async"),
    ],
)
def test_a_process_of_another_user_receives_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Path], object]
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.sock"))
        listen_as_somebody_else(listener, monkeypatch)
        with pytest.raises(NoAnswer, match="neither you nor root"):
            ask(tmp_path / "s.sock")
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
connection.recv(1000)  # closing before the request was read would break the request
connection.sendall(json.dumps({"pid": os.getpid()}).encode() + b"\\n")
"""


def test_the_process_at_the_other_end_is_identified(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    command = [sys.executable, "-c", ANSWERING, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"listening\n"
        state, peer = state_and_peer(path, timeout=30)
        assert (state.pid, peer) == (child.pid, (os.geteuid(), child.pid))


@pytest.mark.parametrize("sends_it", [True, False])
def test_a_listening_socket_is_transferred(tmp_path: Path, *, sends_it: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as shop, socket.socket(socket.AF_UNIX) as side:
        side.bind(str(tmp_path / "s.sock"))
        side.listen()

        def serve() -> None:
            connection, _ = side.accept()
            with connection:
                connection.recv(1000)
                fds = [shop.fileno()] if sends_it else []
                socket.send_fds(connection, [b'{"ok": true}\n'], fds)

        thread = threading.Thread(target=serve)
        thread.start()
        if sends_it:
            with take_listener(tmp_path / "s.sock", timeout=30) as durations:
                assert durations.getsockname() == shop.getsockname()
                assert not os.get_inheritable(durations.fileno())
        else:
            with pytest.raises(NoAnswer, match="no socket in the reply"):
                take_listener(tmp_path / "s.sock", timeout=30)
        thread.join()


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_descriptors_of_a_broken_reply_are_closed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as shop, socket.socket(socket.AF_UNIX) as side:
        side.bind(str(tmp_path / "s.sock"))
        side.listen()

        def serve() -> None:
            connection, _ = side.accept()
            with connection:
                connection.recv(1000)
                socket.send_fds(connection, [b"half a li"], [shop.fileno()])

        before = open_descriptors()
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(NoAnswer):
            take_listener(tmp_path / "s.sock", timeout=30)
        thread.join()
        assert open_descriptors() <= before
