"""Files: only regular ones, private, replaced atomically, locked during a context."""

from __future__ import annotations

import os
import pwd
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ccproxy.files import (
    allocate,
    expand_home,
    home_folder,
    locked,
    open_private,
    open_regular,
    read_json,
    write_atomically,
)

HOLD_LOCK = """
import sys
from pathlib import Path
from ccproxy.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def make(kind: str, path: Path) -> None:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(os.fspath(path))


@pytest.mark.parametrize("kind", ["fifo", "folder", "socket"])
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY])
def test_only_regular_files_are_opened_and_nothing_blocks(tmp_path, kind, flags):
    make(kind, tmp_path / "x")
    with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
        open_regular(tmp_path / "x", flags)


def test_a_symbolic_link_is_never_written_through(tmp_path):
    (tmp_path / "target").write_text("mine")
    (tmp_path / "x").symlink_to("target")
    with pytest.raises(OSError, match=r"x is a symbolic link; .*: remove the link"):
        open_private(tmp_path / "x", os.O_WRONLY | os.O_TRUNC)
    assert (tmp_path / "target").read_text() == "mine"


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "NaN,"])
def test_invalid_json_is_a_value_error(tmp_path, content):
    (tmp_path / "x").write_text(content)
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the parser's
        read_json(tmp_path / "x")


def test_an_atomic_write_creates_private_files_and_folders(tmp_path):
    write_atomically(tmp_path / "a" / "x", "new")
    assert stat.S_IMODE((tmp_path / "a" / "x").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


def test_an_atomic_write_sets_mode_and_owner(tmp_path):
    own = os.geteuid(), os.getegid()
    write_atomically(tmp_path / "x", "new", mode=0o644, owner=own)
    facts = (tmp_path / "x").stat()
    assert (stat.S_IMODE(facts.st_mode), (facts.st_uid, facts.st_gid)) == (0o644, own)


def test_an_atomic_write_replaces_a_link_and_keeps_its_target(tmp_path):
    (tmp_path / "target").write_text("mine")
    (tmp_path / "x").symlink_to("target")
    write_atomically(tmp_path / "x", "new")
    assert (tmp_path / "target").read_text() == "mine"
    assert (tmp_path / "x").read_text() == "new"


def test_a_failed_atomic_write_leaves_the_old_content_and_no_draft(tmp_path):
    write_atomically(tmp_path / "x", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "x", "\ud800")
    assert (tmp_path / "x").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_interrupted_atomic_write_leaves_no_draft(tmp_path):
    def interrupt() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "x", "PROVIDER_API_KEY=sk-secret", is_current=interrupt)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("has_fallocate", [True, False])
def test_a_file_that_cannot_be_enlarged_is_closed(tmp_path, monkeypatch, has_fallocate):
    if not has_fallocate:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    (tmp_path / "x").touch()
    fd = open_regular(tmp_path / "x")  # for reading only
    with pytest.raises(OSError, match=r"Bad file|Invalid argument"):
        allocate(fd, 4096)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_home("~/x") == tmp_path / "x"
    assert expand_home("~no-such-user/x") == Path("~no-such-user/x")
    assert home_folder(os.environ) == tmp_path


def test_a_user_without_a_home_folder_has_the_root_folder(monkeypatch):
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert home_folder(os.environ) == Path("/")
    assert expand_home("~/x") == Path("~/x")


def test_a_lock_excludes_other_processes_and_ends_with_its_holder(tmp_path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD_LOCK, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(TimeoutError, match="locked by another process"),
            locked(path, timeout=0),
        ):
            pass
        holder.kill()
    with locked(path, timeout=0):
        pass
