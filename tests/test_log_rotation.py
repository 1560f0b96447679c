"""Log files: no line is lost, archives are deleted by age and size, other files are kept."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import time
from datetime import datetime, timedelta

import pytest

from ccproxy import log_rotation
from ccproxy.log_rotation import CHECK_INTERVAL, LogFile, archive, archive_label, log_path, prune

NOON = datetime(2026, 3, 10, 12, 0, 0).timestamp()
DAY = 86400


class Clock:
    def __init__(self, now=NOON):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Files.


def test_each_process_has_its_own_file(tmp_path):
    paths = [log_path(tmp_path, "Kimi-K2", index).name for index in (1, 2, 3)]
    assert paths == ["Kimi-K2.log", "Kimi-K2.2.log", "Kimi-K2.3.log"]


def test_lines_are_appended_and_private(tmp_path, clock):
    path = tmp_path / "new" / "a.log"
    for text in (b"one", b"two"):
        file = LogFile(path, clock=clock)
        file.write(text)
        file.close()
    assert path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_opening_a_fifo_fails_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.log")
    with pytest.raises(OSError, match=r"not a regular file: .*a\.log"):
        LogFile(tmp_path / "a.log")
    reader = os.open(tmp_path / "a.log", os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(reader), pytest.raises(OSError, match="not a regular file"):
        LogFile(tmp_path / "a.log")


def test_a_symbolic_link_is_refused(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "a.log").symlink_to(victim)
    with pytest.raises(OSError, match=r"a\.log is a symbolic link; .*: remove the link"):
        LogFile(tmp_path / "a.log")
    assert victim.read_text() == "mine"


def test_a_full_file_is_rotated_and_no_line_is_lost(tmp_path, clock):
    file = LogFile(tmp_path / "a.log", limit=100, clock=clock)
    for number in range(40):
        file.write(b"line %03d" % number)
    file.close()
    archives = [name for name in names(tmp_path) if name != "a.log"]
    assert archives[0] == "a.log.20260310_120000"
    assert len(set(archives)) >= 3
    written = b"".join((tmp_path / name).read_bytes() for name in [*archives, "a.log"])
    assert written.splitlines() == [b"line %03d" % number for number in range(40)]


@pytest.mark.parametrize("how", ["folder", "file", "renamed"])
def test_a_removed_file_is_created_again(tmp_path, clock, how):
    path = tmp_path / "logs" / "a.log"
    file = LogFile(path, clock=clock)
    file.write(b"before")
    if how == "folder":
        shutil.rmtree(path.parent)
    elif how == "file":
        path.unlink()
    else:
        path.rename(path.with_name("put.aside"))
        path.write_bytes(b"a stranger's\n")
    clock.now += CHECK_INTERVAL
    file.write(b"after")
    expected = b"a stranger's\nafter\n" if how == "renamed" else b"after\n"
    assert path.read_bytes() == expected
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o700 == 0o700
    file.close()


def test_the_file_is_checked_once_per_interval(tmp_path, clock):
    path = tmp_path / "a.log"
    file = LogFile(path, clock=clock)
    path.unlink()
    clock.now += CHECK_INTERVAL / 2
    file.write(b"lost")
    assert not path.exists()
    clock.now -= CHECK_INTERVAL * 2  # setting the clock back delays nothing
    file.write(b"kept")
    assert path.read_bytes() == b"kept\n"
    file.close()


def test_a_link_in_place_of_a_removed_file_is_refused(tmp_path, clock):
    path, victim = tmp_path / "a.log", tmp_path / "victim"
    victim.write_text("mine")
    file = LogFile(path, clock=clock)
    path.unlink()
    path.symlink_to(victim)
    clock.now += CHECK_INTERVAL
    file.write(b"line")
    assert victim.read_text() == "mine"
    path.unlink()
    clock.now += CHECK_INTERVAL
    file.write(b"next")
    assert path.read_bytes() == b"next\n"
    file.close()


def test_a_file_is_rotated_at_local_midnight(tmp_path, clock):
    file = LogFile(tmp_path / "a.log", clock=clock)
    clock.now = NOON + DAY / 2 - 1
    file.write(b"before")
    clock.now = NOON + DAY / 2
    file.write(b"after")
    file.close()
    assert names(tmp_path) == ["a.log", "a.log.20260311_000000"]
    assert (tmp_path / "a.log").read_bytes() == b"after\n"


def test_a_restart_on_the_same_day_appends_to_the_file(tmp_path, clock):
    path = tmp_path / "a.log"
    path.write_bytes(b"before the crash\n")
    os.utime(path, (NOON, NOON))
    clock.now = NOON + 60
    LogFile(path, clock=clock).write(b"after it")
    assert path.read_bytes() == b"before the crash\nafter it\n"


def test_a_restart_on_the_next_day_rotates_the_file(tmp_path, clock):
    path = tmp_path / "a.log"
    path.write_bytes(b"yesterday\n")
    os.utime(path, (NOON - DAY, NOON - DAY))
    LogFile(path, clock=clock).write(b"today")
    assert path.read_bytes() == b"today\n"
    assert (tmp_path / "a.log.20260310_120000").read_bytes() == b"yesterday\n"


def test_lines_lost_to_a_full_disk_are_counted_and_reported(tmp_path, clock, monkeypatch):
    file = LogFile(tmp_path / "a.log", clock=clock)
    file.write(b"1")
    real, room = os.write, [0]

    def full(fd, data):
        if room[0] < len(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", full)
    file.write(b"2")
    file.write(b"3")
    assert file.dropped == 2
    room[0] = 10_000
    file.write(b"4")
    assert file.dropped == 0
    first, message, last = (tmp_path / "a.log").read_bytes().splitlines()
    assert (first, last) == (b"1", b"4")
    assert (json.loads(message)["event"], json.loads(message)["lines"]) == ("log.dropped", 2)


def test_lost_lines_of_one_batch_are_counted_singly(tmp_path, clock, monkeypatch):
    file = LogFile(tmp_path / "a.log", clock=clock)

    def full(fd, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as no_room:
        no_room.setattr(os, "write", full)
        file.write(b"1\n2\n3")
    assert (file.dropped, file.dropped_total) == (3, 3)
    file.write(b"4\n5")
    message, *rest = (tmp_path / "a.log").read_bytes().splitlines()
    assert (json.loads(message)["lines"], rest) == (3, [b"4", b"5"])


def test_a_full_disk_at_start_is_reported_and_not_fatal(tmp_path, clock, monkeypatch):
    """The file is created as soon as there is space, and the lost lines are reported."""
    real = os.open

    def full(path, flags, mode=0o777):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(os, "open", full)
    file = LogFile(tmp_path / "a.log", clock=clock)
    file.write(b"1")
    assert (file.trouble, file.dropped_total) == (f"disk full: {tmp_path}", 1)
    monkeypatch.setattr(os, "open", real)
    file.write(b"2")
    file.write(b"3")
    assert (file.trouble, file.dropped, file.dropped_total) == ("", 0, 1)
    message, *rest = (tmp_path / "a.log").read_bytes().splitlines()
    assert (json.loads(message)["lines"], rest) == (1, [b"2", b"3"])
    file.close()


def test_other_write_errors_are_reported_by_name(tmp_path, clock, monkeypatch):
    file = LogFile(tmp_path / "a.log", clock=clock)

    def broken(fd, data):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", broken)
    file.write(b"1")
    assert file.trouble == f"cannot log (Input/output error): {tmp_path}"


def test_a_partial_line_does_not_damage_the_next(tmp_path, clock, monkeypatch):
    file = LogFile(tmp_path / "a.log", clock=clock)
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
    file.write(b"whole line")
    monkeypatch.setattr(os, "write", real)
    file.write(b"next")
    lines = (tmp_path / "a.log").read_bytes().splitlines()
    assert lines[0] == b"who"
    assert lines[-1] == b"next"


def test_a_failed_rotation_continues_in_the_old_file(tmp_path, clock, monkeypatch):
    file = LogFile(tmp_path / "a.log", limit=3, clock=clock)
    file.write(b"one")

    def refuse(*_args, **_kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(log_rotation, "archive", refuse)
    file.write(b"two")
    file.write(b"three")
    assert (tmp_path / "a.log").read_bytes() == b"one\ntwo\nthree\n"


# Archives.


def test_an_archive_is_never_overwritten(tmp_path):
    for text in ("first", "second"):
        (tmp_path / "a.log").write_text(text)
        archive(tmp_path / "a.log", now=NOON)
    assert names(tmp_path) == ["a.log.20260310_120000", "a.log.20260310_120001"]
    assert (tmp_path / "a.log.20260310_120000").read_text() == "first"


def test_a_missing_or_empty_log_is_not_archived(tmp_path):
    (tmp_path / "empty.log").touch()
    assert archive(tmp_path / "empty.log", now=NOON) is None
    assert archive(tmp_path / "missing.log", now=NOON) is None
    assert archive_label(tmp_path / "nowhere", "a") == ()


def test_a_start_archives_only_the_logs_of_its_label(tmp_path):
    for name in ("a.log", "a.2.log", "a.b.log", "ab.log", "a.log.20260101_000000", "a.out"):
        (tmp_path / name).write_text("x")
    moved = {path.name for path in archive_label(tmp_path, "a", now=NOON)}
    assert moved == {"a.log.20260310_120000", "a.2.log.20260310_120000"}
    stored = {"a.b.log", "ab.log", "a.log.20260101_000000", "a.out"}
    assert set(names(tmp_path)) == stored | moved


def test_the_logs_of_an_entry_with_a_longer_label_are_not_archived(tmp_path):
    for name in ("GLM-4.log", "GLM-4.2.log", "GLM-4.6.log", "GLM-4.6.2.log"):
        (tmp_path / name).write_text("x")
    moved = archive_label(tmp_path, "GLM-4", ["GLM-4", "GLM-4.6", "GLM-5"], now=NOON)
    assert [path.name.partition(".log")[0] for path in moved] == ["GLM-4.2", "GLM-4"]
    moved = archive_label(tmp_path, "GLM-4.6", ["GLM-4", "GLM-4.6", "GLM-5"], now=NOON)
    assert [path.name.partition(".log")[0] for path in moved] == ["GLM-4.6.2", "GLM-4.6"]


# Retention.


def aged(path, seconds, text="x"):
    path.write_text(text)
    os.utime(path, (NOON - seconds, NOON - seconds))
    return path


@pytest.mark.parametrize(
    ("seconds", "goes"),
    [(3 * DAY + 1, True), (3 * DAY - 1, False), (3 * DAY, False), (0, False), (30 * DAY, True)],
)
def test_archives_are_deleted_after_exactly_three_days(tmp_path, seconds, goes):
    path = aged(tmp_path / "Kimi-K2.log.20260101_000000", seconds, "hello")
    removed = prune(tmp_path, now=NOON)
    assert [(one.path, one.size) for one in removed] == ([(path, 5)] if goes else [])
    assert path.exists() is not goes


@pytest.mark.parametrize(
    "name",
    [
        "a.log",
        "a.2.log",
        "cleanup-cron.log",
        "a.log.20260101",
        "a.log.20260101_000000.gz",
        "a.log.20260101_0000",
        "a.log.old",
        "a.txt.20260101_000000",
        ".log.20260101_000000",
        "notes.md",
    ],
)
def test_files_that_are_not_archives_are_kept(tmp_path, name):
    path = aged(tmp_path / name, 100 * DAY)
    assert prune(tmp_path, now=NOON) == ()
    assert path.exists()


@pytest.mark.parametrize("name", ["a.log", "a.2.log", "supervisor.log", "GLM-4.6.log"])
def test_every_form_of_archive_name_is_deleted(tmp_path, name):
    aged(tmp_path / f"{name}.20260101_000000", 100 * DAY)
    assert len(prune(tmp_path, now=NOON)) == 1


def test_links_and_folders_are_not_followed(tmp_path):
    victim = aged(tmp_path / "victim", 100 * DAY)
    (tmp_path / "a.log.20260101_000000").symlink_to(victim)
    (tmp_path / "b.log.20260101_000000").mkdir()
    assert prune(tmp_path, now=NOON + 1000 * DAY) == ()
    assert victim.exists()


def test_a_dry_run_reports_and_deletes_nothing(tmp_path):
    path = aged(tmp_path / "a.log.20260101_000000", 4 * DAY)
    assert [one.path for one in prune(tmp_path, now=NOON, dry_run=True)] == [path]
    assert path.exists()


def test_the_age_can_be_chosen(tmp_path):
    aged(tmp_path / "a.log.20260101_000000", 2 * DAY)
    assert len(prune(tmp_path, now=NOON, keep=timedelta(days=1))) == 1


def test_a_missing_folder_has_no_archives(tmp_path):
    assert prune(tmp_path / "nowhere") == ()


def test_rotation_during_cleanup_loses_no_line(tmp_path):
    file = LogFile(tmp_path / "a.log", limit=20_000)
    for number in range(5_000):
        file.write(b"%06d" % number)
        if number % 500 == 0:
            prune(tmp_path, now=time.time())
    file.close()
    numbers = [
        int(line) for name in names(tmp_path) for line in (tmp_path / name).read_text().split()
    ]
    assert sorted(numbers) == list(range(5_000))


def test_the_oldest_archives_beyond_the_total_limit_are_deleted(tmp_path, clock):
    file = LogFile(tmp_path / "a.log", limit=100, total_limit=250, clock=clock)
    (tmp_path / "a.2.log.20260101_000000").write_bytes(b"x" * 1000)  # another process's
    for number in range(60):
        clock.now += 1
        file.write(b"line %03d" % number)
    file.close()
    assert "a.2.log.20260101_000000" in names(tmp_path)
    own = [name for name in names(tmp_path) if name.startswith("a.log")]
    assert sum((tmp_path / name).stat().st_size for name in own) <= 250 + 108
    assert b"line 059" in b"".join((tmp_path / name).read_bytes() for name in own)
