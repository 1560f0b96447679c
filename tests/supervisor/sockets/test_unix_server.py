"""The supervisor's server: one request per connection, restored sockets, reserved descriptors."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import shutil
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from ccproxy.ipc.control_messages import StateRequest, WorkerState
from ccproxy.supervisor.processes.descriptors import DescriptorReserve, raise_soft_limit
from ccproxy.supervisor.sockets.unix_server import UnixServer, ask_worker_async
from ccproxy.supervisor.sockets.unix_socket import NoAnswer, exchange
from tests.descriptors import exhausted

Send = Callable[[bytes], None]


async def echo(line: bytes, send: Send) -> bytes:
    json.loads(line)  # a ValueError closes the connection
    return line


def named(label: str) -> Callable[[bytes, Send], Awaitable[bytes]]:
    async def answer(line: bytes, send: Send) -> bytes:
        return WorkerState(label=label).label.encode() + b"\n"

    return answer


async def ask(path: Path, line: bytes = b'{"op": "ping"}\n') -> bytes:
    return (await asyncio.to_thread(exchange, path, line, timeout=30)).line


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[UnixServer]:
    server = UnixServer(tmp_path / "s.sock", handler=echo)
    server.start()
    yield server
    await server.close()


async def test_a_request_gets_its_reply_over_a_private_socket(server: UnixServer) -> None:
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
    question = json.dumps({"op": "status", "text": "zwei\nZeilen, ü"}).encode()
    assert await ask(server.path, question + b"\n") == question


@pytest.mark.parametrize("line", [b"", b"\n", b"no json\n", b"{", b"[" * 100_000 + b"\n"])
async def test_a_malformed_request_closes_only_its_connection(
    server: UnixServer, line: bytes
) -> None:
    reader, writer = await asyncio.open_unix_connection(server.path)
    writer.write(line)
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    assert await ask(server.path) == b'{"op": "ping"}'


async def test_progress_is_sent_before_the_reply(tmp_path: Path) -> None:
    async def answer(line: bytes, send: Send) -> bytes:
        send(b"half done\n")
        await asyncio.sleep(0)
        return b"done\n"

    server = UnixServer(tmp_path / "s.sock", handler=answer)
    server.start()
    lines: list[bytes] = []
    await asyncio.to_thread(
        exchange, server.path, b"go\n", timeout=30,
        is_last=lambda line: lines.append(line) or line == b"done",
    )  # fmt: skip
    await server.close()
    assert lines == [b"half done", b"done"]


async def test_a_stale_socket_is_replaced_and_the_servers_own_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(NoAnswer, match="refused"):
        await ask_worker_async(path, StateRequest(), WorkerState)
    server = UnixServer(path, handler=echo)
    server.start()
    assert await ask(path) == b'{"op": "ping"}'
    await server.close()
    assert not path.exists()
    with pytest.raises(NoAnswer, match="No such file"):
        await ask_worker_async(path, StateRequest(), WorkerState)


async def test_a_removed_socket_is_restored_and_another_servers_is_left_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state/s.sock"
    first = UnixServer(path, handler=named("first"))
    second = UnixServer(path, handler=named("second"))
    first.start()
    assert not first.restore()
    shutil.rmtree(path.parent)
    assert first.restore()
    assert await ask(path) == b"first"
    second.start()
    await first.close()
    assert await ask(path) == b"second"
    await second.close()
    assert not path.exists()


# File systems.


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
async def test_without_sockets_in_the_home_the_second_path_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    home, runtime = tmp_path / "state/s.sock", tmp_path / "run/s.sock"
    bind = socket.socket.bind

    def refuse(self: socket.socket, address: object) -> None:
        if address == str(home):
            raise OSError(number, os.strerror(number))
        bind(self, address)

    monkeypatch.setattr(socket.socket, "bind", refuse)
    server = UnixServer(home, runtime, handler=echo)
    server.start()
    assert server.path == runtime
    assert await ask(runtime) == b'{"op": "ping"}'
    await server.close()


async def test_a_folder_with_wrong_permissions_is_an_error_instead_of_the_second_path(
    tmp_path: Path,
) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state").chmod(0o777)
    server = UnixServer(tmp_path / "state/s.sock", tmp_path / "run/s.sock", handler=echo)
    with pytest.raises(PermissionError, match="chmod 700"):
        server.start()
    assert not (tmp_path / "run").exists()


# Descriptors.


async def test_a_request_is_answered_without_free_descriptors(server: UnixServer) -> None:
    await ask(server.path)
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    with client, exhausted():
        await loop.sock_connect(client, str(server.path))
        await loop.sock_sendall(client, b'{"op": "ping"}\n')
        answer = await asyncio.wait_for(loop.sock_recv(client, 100), 30)
    assert answer == b'{"op": "ping"}\n'


def test_the_reserve_is_refilled_after_use() -> None:
    reserve = DescriptorReserve()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(3):
            with socket.create_connection(listener.getsockname()):
                reserve.accept(listener).close()
    reserve.close()
    reserve.close()


def test_the_soft_limit_is_raised_at_most_to_the_hard_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
        assert raise_soft_limit(300) == min(300, hard)
        assert raise_soft_limit(100) == min(300, hard), "it is never lowered"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
