"""Queries to the workers: several processes, other entries, similar labels, and hung workers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from ccproxy.ipc.control_messages import ClientSessionState, Refusal, encode
from ccproxy.statusline.entry_state import request_line
from ccproxy.statusline.session_view import SessionView, view_session

REQUEST = request_line("s1", "Kimi:big")
Serve = Callable[..., None]


@pytest.fixture
def serve(tmp_path):
    """Listen as the worker *name* and reply to one request; None never replies."""
    (tmp_path / "state").mkdir()
    with ExitStack() as stack:

        def serve(name: str, reply: ClientSessionState | Refusal | bytes | None) -> None:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(tmp_path / "state" / f"{name}.sock"))
            listener.listen()
            if reply is None:
                return

            def answer() -> None:
                connection, _ = listener.accept()
                with connection:
                    assert connection.recv(4096) == REQUEST
                    connection.sendall(reply if isinstance(reply, bytes) else encode(reply))

            thread = threading.Thread(target=answer)
            thread.start()
            stack.callback(thread.join)

        yield serve


def view(home: Path, label: str = "Kimi", port: int | None = None) -> SessionView | None:
    return view_session(str(home), REQUEST, label=label, port=port)


def test_processes_of_one_entry_are_merged(serve: Serve, tmp_path: Path) -> None:
    serve("Kimi.1.aa", ClientSessionState(label="Kimi", at=1.0, model="old", cost=1.0, input=1))
    serve(
        "Kimi.2.bb",
        ClientSessionState(label="Kimi", at=2.0, model="new", cost=2.0, cached=3, waiting_s=9.0),
    )
    result = view(tmp_path)
    assert result is not None
    assert (result.own.model, result.cost, result.own.waiting_s) == ("new", 3.0, 9.0)
    assert result.cache_share == 0.75


def test_entries_that_answered_are_queried_too(serve: Serve, tmp_path: Path) -> None:
    serve("Kimi.1.aa", ClientSessionState(label="Kimi", answered_by="GLM", peers=("GLM",)))
    serve("GLM.1.bb", ClientSessionState(label="GLM", model="glm-5", cost=0.5, unpriced=2))
    serve("Other.1.cc", None)
    result = view(tmp_path)
    assert result is not None
    assert (result.answering.model, result.cost, result.unpriced) == ("glm-5", 0.5, 2)


def test_a_label_with_the_same_prefix_is_another_entry(serve: Serve, tmp_path: Path) -> None:
    serve("Kimi.x.1.aa", ClientSessionState(label="Kimi.x"))
    assert view(tmp_path) is None


def test_without_a_label_the_port_selects_the_entry(serve: Serve, tmp_path: Path) -> None:
    serve("Kimi.1.aa", ClientSessionState(label="Kimi", port=8081))
    serve("GLM.1.bb", ClientSessionState(label="GLM", port=8082))
    result = view(tmp_path, "", 8082)
    assert result is not None
    assert result.own.label == "GLM"


@pytest.mark.parametrize(
    "reply", [None, Refusal(error="op: unknown"), b"x\n", b"", b'{"label": 3}\n']
)
def test_a_worker_without_a_valid_reply_is_left_out(
    reply: Refusal | bytes | None, serve: Serve, tmp_path: Path
) -> None:
    serve("Kimi.1.aa", reply)
    assert view(tmp_path) is None


def test_a_socket_without_a_worker_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with socket.socket(socket.AF_UNIX) as remaining:
        remaining.bind(str(tmp_path / "state/Kimi.1.aa.sock"))
    assert view(tmp_path) is None
