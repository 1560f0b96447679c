"""Requests from the command line to workers: which processes receive them, and missing answers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, NotRunning
from ccproxy.ipc.control_messages import Done, InspectReply, OfferedModels, SessionReply, encode
from ccproxy.ipc.control_messages import Reply as Answer
from ccproxy.supervisor.control import worker_requests
from ccproxy.supervisor.control.worker_requests import (
    ask_about_keys,
    forget_refusals,
    inspected_request,
    offered_models,
    running_processes,
    switch_session,
)
from ccproxy.supervisor.processes.identity import Identity, identify
from ccproxy.supervisor.state.records import RecordFolder, Spec, WorkerRecord
from tests.fleet import pause
from tests.supervisor.conftest import Home
from tests.supervisor.control.answering_socket import AnsweringSocket

GONE = b""
LATE = None
REFUSED = b'{"ok": false, "error": "no such key"}\n'

Ask = Callable[[Fleet, str], object]
REQUESTS = {
    "keys": lambda fleet, label: ask_about_keys(fleet, label, "reset"),
    "models": offered_models,
    "inspect": lambda fleet, label: inspected_request(fleet, label, "req_1"),
    "switch": lambda fleet, label: switch_session(fleet, label, proxy="toggle"),
}


class Processes(ExitStack):
    """Recorded processes of an entry that send the given answers."""

    def __init__(self, home: Home, *answers: bytes | None, identity: Identity | None = None):
        super().__init__()
        folder = RecordFolder(home.path / "pids")
        self.sockets = []
        for index, answer in enumerate(answers, 1):
            path = home.path / f"worker.{index}.sock"
            self.sockets.append(self.enter_context(AnsweringSocket(path, answer)))
            folder.write(
                WorkerRecord(
                    identity=identity or _own_identity(),
                    nonce=f"n{index}",
                    control=str(path),
                    index=index,
                    spec=Spec(label="Kimi", host="127.0.0.1", port=8081, env_file="e"),
                    home=str(home.path),
                )
            )

    def requests(self) -> list[list[str]]:
        """Return the values of `proxy` that each process received."""
        return [
            [json.loads(line)["proxy"] for line in one.requests if line] for one in self.sockets
        ]


def _own_identity() -> Identity:
    identity = identify(os.getpid())
    assert identity is not None
    return identity


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LIMIT", "LIST_LIMIT"):
        monkeypatch.setattr(worker_requests, name, 0.2)


def _line(reply: Answer) -> bytes:
    return encode(reply)


# Which processes receive requests.


def test_labels_of_processes_are_case_insensitive(home: Home) -> None:
    home.add("Kimi", workers=2)
    home.start()
    records = running_processes(home.fleet, "kimi")
    assert [record.index for record in records] == [1, 2]
    assert tuple(record.identity.pid for record in records) == home.row("Kimi").pids


def test_a_recycled_pid_receives_no_request(home: Home) -> None:
    home.add("Kimi")
    own = _own_identity()
    before = Identity(own.pid, own.start - 60, own.boot)
    with Processes(home, _line(Done()), identity=before) as processes:
        assert running_processes(home.fleet, "Kimi") == []
        assert not forget_refusals(home.fleet, "Kimi")
        assert processes.sockets[0].requests == []


# Answers.


@pytest.mark.parametrize("ask", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize(
    ("answers", "error", "text"),
    [
        pytest.param([], NotRunning, "Kimi is not running\n  fix: ccproxy start Kimi", id="none"),
        pytest.param([GONE, GONE], NotRunning, "Kimi is not running", id="all have ended"),
        pytest.param([LATE], CcproxyError, "Kimi runs but does not answer (", id="late"),
        pytest.param([GONE, LATE], CcproxyError, "Kimi runs but does not", id="one is late"),
        pytest.param([REFUSED], CcproxyError, "Kimi: no such key", id="refused"),
        pytest.param([GONE, REFUSED], CcproxyError, "Kimi: no such key", id="the second refuses"),
        pytest.param([b'{"ok": tr'], NotRunning, "Kimi is not running", id="cut in the middle"),
    ],
)
def test_a_missing_answer_is_an_error_with_the_reason(
    home: Home, ask: Ask, answers: list[bytes | None], error: type[CcproxyError], text: str
) -> None:
    home.add("Kimi")
    with Processes(home, *answers), pytest.raises(CcproxyError) as caught:
        ask(home.fleet, "Kimi")
    assert type(caught.value) is error
    assert str(caught.value).startswith(text)


def test_a_process_that_has_ended_is_skipped(home: Home) -> None:
    home.add("Kimi")
    with Processes(home, GONE, _line(OfferedModels(names=("k3",)))):
        assert offered_models(home.fleet, "Kimi") == ("k3",)


def test_bodies_come_from_the_process_that_has_them(home: Home) -> None:
    home.add("Kimi")
    with Processes(home, REFUSED, _line(InspectReply(request="{}"))):
        assert inspected_request(home.fleet, "Kimi", "req_1").request == "{}"


def test_every_process_receives_the_result_of_a_toggle(home: Home) -> None:
    home.add("Kimi")
    off, unsaved = SessionReply(proxy=False), SessionReply(proxy=False, unsaved="disk full")
    with Processes(home, _line(off), GONE, _line(unsaved)) as processes:
        reply = switch_session(home.fleet, "Kimi", proxy="toggle")
        assert processes.requests() == [["toggle"], ["off"], ["off"]]
    assert reply.unsaved == "disk full"


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        pytest.param([_line(Done()), REFUSED], "Kimi: no such key", id="refused"),
        pytest.param([_line(Done()), LATE], "Kimi runs but does not answer", id="late"),
    ],
)
def test_clearing_refusals_fails_unless_every_process_confirms(
    home: Home, answers: list[bytes | None], text: str
) -> None:
    home.add("Kimi")
    with Processes(home, *answers), pytest.raises(CcproxyError, match=text):
        forget_refusals(home.fleet, "Kimi")


def test_clearing_refusals_needs_no_running_process(home: Home) -> None:
    home.add("Kimi")
    with Processes(home, GONE):
        assert not forget_refusals(home.fleet, "Kimi")
    with Processes(home, GONE, _line(Done())):
        assert forget_refusals(home.fleet, "Kimi")


def test_a_suspended_process_is_not_reported_as_stopped(home: Home) -> None:
    """A process may hang, for example while another program locks its database."""
    home.add("Kimi")
    home.start()
    pid = home.pid("Kimi")
    pause(pid)
    with pytest.raises(CcproxyError) as caught:
        ask_about_keys(home.fleet, "Kimi", "list")
    os.kill(pid, signal.SIGCONT)
    assert not isinstance(caught.value, NotRunning)
    assert "no answer within 0.2 s" in str(caught.value)
    assert "fix: see what it waits for: ccproxy logs Kimi" in str(caught.value)
