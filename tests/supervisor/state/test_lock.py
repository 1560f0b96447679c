"""The fleet's lock: one holder, inheritance without a gap, and clear errors where locks fail."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ccproxy.config.fleet import Fleet
from ccproxy.errors import Busy, CcproxyError
from ccproxy.supervisor.state.lock import Lock


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(home=tmp_path, file=tmp_path / "ccproxy.toml", entries=())


def assert_free(fleet: Fleet) -> None:
    with Lock(fleet, command="the next one"):
        pass


def test_the_lock_names_its_only_holder(fleet: Fleet) -> None:
    with (
        Lock(fleet, command="ccproxy up"),
        pytest.raises(Busy, match=rf"`ccproxy up` \(pid {os.getpid()}\) has held the lock for"),
        Lock(fleet, command="ccproxy start"),
    ):
        pass
    assert_free(fleet)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '{"command": "x", "pid": 1, "since": null}'),
        pytest.param('{"command": "x", "pid": 1e999, "since": 1}', id="an infinite pid"),
        pytest.param('{"command": "x", "pid": 1, "since": -1e999}', id="an infinite time"),
    ],
)
def test_an_unreadable_holder_is_not_named(fleet: Fleet, text: str) -> None:
    with Lock(fleet, command="ccproxy start"):
        (fleet.state / "supervisor.lock").write_text(text)
        with pytest.raises(Busy, match="another ccproxy command holds the lock"):
            Lock(fleet, command="test").__enter__()


def test_a_child_inherits_the_lock_without_a_gap(fleet: Fleet) -> None:
    code = "import sys; print('mine', flush=True); sys.stdin.read()"
    with Lock(fleet, command="ccproxy start") as lock:
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[lock.fd],
        )
        assert child.stdout is not None
        child.stdout.readline()
    with child:
        with pytest.raises(Busy), Lock(fleet, command="another"):
            pass
        child.communicate()
    assert_free(fleet)


def test_the_lock_is_released_when_its_holder_exits(fleet: Fleet) -> None:
    code = "import sys, fcntl; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX);"
    code += "print('held', flush=True); sys.stdin.read()"
    fleet.state.mkdir()
    path = fleet.state / "supervisor.lock"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(Busy, match="another ccproxy command"), Lock(fleet, command="x"):
            pass
        holder.kill()
        holder.wait()
        assert_free(fleet)


@pytest.mark.parametrize("removed", ["file", "folder", "replaced"])
def test_a_removed_lock_is_reacquired(fleet: Fleet, removed: str) -> None:
    path = fleet.state / "supervisor.lock"
    with Lock(fleet, command="ccproxy start") as lock:
        assert lock.renew()
        if removed == "folder":
            shutil.rmtree(fleet.state)
        else:
            path.unlink()
        if removed == "replaced":
            path.touch(0o600)
        assert lock.renew()
        with pytest.raises(Busy, match="ccproxy start"), Lock(fleet, command="a second"):
            pass


def test_a_removed_lock_that_another_process_has_taken_is_lost(fleet: Fleet) -> None:
    with Lock(fleet, command="first") as first:
        (fleet.state / "supervisor.lock").unlink()
        with Lock(fleet, command="second") as second:
            assert not first.renew()
            assert second.renew()


# Where locks fail.


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_reported_with_reason_and_fix(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(fd: int, flags: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(CcproxyError) as caught, Lock(fleet, command="ccproxy start"):
        pass
    text = str(caught.value)
    assert text.startswith(f"{fleet.state}/supervisor.lock: the file system does not support locks")
    assert text.endswith("fix: move the folder of ccproxy.toml to a local disk")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_read_only_folder_is_named_in_the_error(fleet: Fleet) -> None:
    fleet.state.mkdir(mode=0o500)
    with pytest.raises(PermissionError, match=r"state/supervisor\.lock"):
        assert_free(fleet)


def test_a_folder_instead_of_the_lock_is_named_in_the_error(fleet: Fleet) -> None:
    (fleet.state / "supervisor.lock").mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match=r"supervisor\.lock"):
        assert_free(fleet)


def test_a_symbolic_link_instead_of_the_lock_is_not_followed(fleet: Fleet) -> None:
    fleet.state.mkdir()
    victim = fleet.home / "victim"
    victim.write_text("precious")
    (fleet.state / "supervisor.lock").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        assert_free(fleet)
    assert victim.read_text() == "precious"


def test_a_full_disk_leaves_the_lock_usable(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse)
    with (
        Lock(fleet, command="ccproxy start"),
        pytest.raises(Busy, match="another ccproxy command"),
        Lock(fleet, command="another"),
    ):
        pass
