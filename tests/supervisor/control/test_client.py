"""The client of the supervisor: late, truncated and invalid replies, and unusual records."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict

import pytest

from ccproxy.errors import Busy, CcproxyError, NotRunning
from ccproxy.ipc.socket_paths import socket_path
from ccproxy.supervisor.control import client
from ccproxy.supervisor.control.client import fleet_status, running_records
from ccproxy.supervisor.control.protocol import (
    ControlReply,
    Op,
    SupervisorInfo,
    encode_message,
    refusal,
)
from ccproxy.supervisor.control.status import Row
from ccproxy.supervisor.processes.identity import identify
from ccproxy.supervisor.state.records import SUPERVISOR_FILE, SupervisorRecord
from tests.supervisor.conftest import Home, states
from tests.supervisor.control.answering_socket import AnsweringSocket

ROW = Row(label="Kimi", port=1, host="h", state="ready", pids=(1,))
REPLY = encode_message(
    ControlReply(ok=True, proxies=(ROW,), supervisor=SupervisorInfo(pid=7, version="1"))
)


def supervisor(home: Home, answer: bytes | None) -> AnsweringSocket:
    """Answer instead of the supervisor."""
    return AnsweringSocket(socket_path(home.path), answer)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="it closes the connection"),
        pytest.param(REPLY[: len(REPLY) // 2], id="half an answer"),
        pytest.param(REPLY[:-1], id="an answer without a line end"),
        pytest.param(REPLY[:40] + b"\n", id="a truncated answer with a line end"),
        pytest.param(b"[]\n", id="another JSON value"),
        pytest.param(b'{"ok": "yes"}\n', id="a field of another type"),
        pytest.param(b"\xff\xfe\n", id="not UTF-8"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another protocol"),
        pytest.param(b'{"progress"\n', id="progress without a reply"),
    ],
)
def test_status_works_without_a_valid_reply(home: Home, answer: bytes) -> None:
    home.add("Kimi")
    with supervisor(home, answer):
        status = fleet_status(home.fleet)
        assert (status.supervisor, states(status)) == (None, {"Kimi": "stopped"})
        assert running_records(home.fleet) == []


def test_a_silent_supervisor_is_reported_with_its_pid(
    home: Home, process: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "STATUS_LIMIT", 0.1)
    home.add("Kimi")
    with supervisor(home, None):
        _record_supervisor(home, process)
        status = fleet_status(home.fleet)
    assert status.note == f"supervisor (pid {process}) does not answer, 0 workers serving"


def test_the_recorded_socket_takes_precedence(home: Home, process: int) -> None:
    """A home on a file system without sockets has its control socket elsewhere."""
    home.add("Kimi")
    with ExitStack() as stack:
        stack.enter_context(supervisor(home, b""))
        other = stack.enter_context(AnsweringSocket(home.path / "other.sock", REPLY))
        _record_supervisor(home, process, control=str(other.path))
        assert states(fleet_status(home.fleet)) == {"Kimi": "ready"}
    with supervisor(home, REPLY):  # the recorded socket was removed
        assert states(fleet_status(home.fleet)) == {"Kimi": "ready"}


def test_rows_follow_the_table_and_removed_entries_come_last(home: Home) -> None:
    home.add("Zeta")
    home.add("Kimi")
    rows = (Row(label="gone", port=1, host="h", state="ready"), ROW)
    with supervisor(home, encode_message(ControlReply(ok=True, proxies=rows))):
        status = fleet_status(home.fleet)
    assert [row.label for row in status.proxies] == ["Zeta", "Kimi", "gone"]
    assert status.proxies[0].state == "stopped"


def test_rows_of_another_table_in_the_folder_are_hidden(home: Home) -> None:
    home.add("Kimi")
    answer = refusal(CcproxyError("the supervisor runs other.toml"))
    with supervisor(home, encode_message(answer)):
        status = fleet_status(home.fleet)
    assert (states(status), status.note) == ({"Kimi": "stopped"}, "the supervisor runs other.toml")


def test_unreadable_records_are_ignored(home: Home) -> None:
    home.add("Kimi")
    with supervisor(home, encode_message(ControlReply(ok=True, records=("{",)))):
        assert running_records(home.fleet) == []


def test_an_error_reply_is_raised_with_its_type(home: Home) -> None:
    home.add("Kimi")
    answer = json.loads(encode_message(refusal(Busy("another command is running"))))
    with (
        supervisor(home, json.dumps({**answer, "ok": False}).encode() + b"\n"),
        pytest.raises(Busy, match="another command is running"),
    ):
        client.request(home.fleet, "stop")


@pytest.mark.parametrize("op", ["stop", "restart", "reload", "plan"])
def test_without_a_fleet_no_supervisor_is_started(home: Home, op: Op) -> None:
    home.add("Kimi")
    with pytest.raises(NotRunning, match="nothing is running\n  fix: ccproxy start"):
        client.request(home.fleet, op)
    assert not (home.path / "pids").exists()


@pytest.fixture
def process() -> Iterator[int]:
    """The pid of a process that can be recorded as the supervisor."""
    child = subprocess.Popen(["sleep", "60"])
    yield child.pid
    child.kill()
    child.wait()


def _record_supervisor(home: Home, pid: int, control: str = "") -> None:
    identity = identify(pid)
    assert identity is not None
    record = SupervisorRecord(
        pid=pid,
        start_time=identity.start,
        boot_id=identity.boot,
        control=control,
        home=str(home.path),
    )
    file = home.path / "pids" / SUPERVISOR_FILE
    file.parent.mkdir(mode=0o700)
    file.write_text(json.dumps(asdict(record)))
    file.chmod(0o600)
