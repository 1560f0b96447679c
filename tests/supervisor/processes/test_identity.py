"""Processes: their identity, signals that reach no other process, and their exit."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest

from ccproxy.store.wall_clock import boot_id
from ccproxy.supervisor.processes.exit_watch import ExitWatch
from ccproxy.supervisor.processes.identity import (
    Identity,
    age_of,
    command_line,
    command_lines_of_this_user,
    identify,
    option_of,
    start_of,
)
from tests.supervisor.conftest import eventually


def identity_of(child: subprocess.Popen[bytes]) -> Identity:
    identity = identify(child.pid)
    assert identity is not None
    return identity


def test_a_process_is_identified_by_more_than_its_pid() -> None:
    me = identify(os.getpid())
    assert me is not None
    assert me.is_alive()
    assert not Identity(me.pid, me.start + 1, me.boot).is_alive()
    assert not Identity(me.pid, me.start, "another boot").is_alive()
    assert boot_id() == me.boot
    assert 0 < age_of(me) < 10 * 86400


def test_a_zombie_is_not_alive() -> None:
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{child.pid}").exists()
        assert start_of(child.pid) is None
        assert identify(child.pid) is None


def test_a_program_name_may_contain_brackets_and_spaces(tmp_path: Path) -> None:
    program = tmp_path / "a) Z (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as child:
        start = start_of(child.pid)
        child.kill()
    assert start is not None
    assert start > 0


def test_signals_reach_only_the_identified_process() -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as child:
        right = identity_of(child)
        wrong = Identity(right.pid, right.start - 1, right.boot)
        assert not wrong.signal(signal.SIGKILL)
        assert not wrong.signal_group(signal.SIGKILL)
        assert child.poll() is None
        assert right.signal_group(signal.SIGTERM)
        assert child.wait() == -signal.SIGTERM
        assert not right.signal(signal.SIGKILL)


def test_only_a_group_leader_is_terminated_with_its_group() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        assert not identity_of(child).signal_group(signal.SIGKILL)
        assert child.poll() is None
        child.kill()


async def test_without_pidfds_signals_reach_only_the_identified_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    with subprocess.Popen(["sleep", "60"]) as child:
        right = identity_of(child)
        assert not Identity(right.pid, right.start - 1, right.boot).signal(signal.SIGKILL)
        assert right.signal(signal.SIGTERM)
        assert child.wait() == -signal.SIGTERM


def test_all_arguments_are_read() -> None:
    with subprocess.Popen(["sleep", "60", "0.00123"]) as child:
        # A new process has no arguments for a moment.
        eventually(lambda: "0.00123" in command_line(child.pid))
        assert "0.0012" not in command_line(child.pid)
        assert (child.pid, "sleep") in {(p, line[0]) for p, line in command_lines_of_this_user()}
        child.kill()
    assert command_line(2**22 + 1) == []


def test_the_value_of_an_option_follows_its_name() -> None:
    arguments = ["python", "--home", "/a", "--label", "K", "--home"]
    assert option_of(arguments, "--label") == "K"
    assert option_of(arguments, "--nonce") is None
    assert option_of(["--home"], "--home") is None


@pytest.mark.parametrize("has_pidfd", [True, False])
async def test_the_exit_of_a_process_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, *, has_pidfd: bool
) -> None:
    if not has_pidfd:
        monkeypatch.delattr(os, "pidfd_open")
    calls: list[None] = []
    ended = asyncio.Event()

    def on_exit() -> None:
        calls.append(None)
        ended.set()

    with subprocess.Popen(["sleep", "60"]) as child:
        watch = ExitWatch(identity_of(child), on_exit)
        await asyncio.sleep(0)
        assert calls == []
        child.kill()
        await asyncio.wait_for(ended.wait(), 30)
        await asyncio.sleep(0)
        assert calls == [None]
        watch.close()


async def test_a_closed_watch_reports_nothing() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        calls: list[None] = []
        ExitWatch(identity_of(child), lambda: calls.append(None)).close()
        child.kill()
        child.wait()
        await asyncio.sleep(0.05)
    assert calls == []
