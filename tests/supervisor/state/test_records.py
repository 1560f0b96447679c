"""Pid records: they survive any kill, belong to one home, and invalid files are rejected."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ccproxy.config.fleet import Fleet
from ccproxy.files import write_atomically
from ccproxy.store.wall_clock import WallClock
from ccproxy.supervisor.processes.identity import Identity, identify
from ccproxy.supervisor.state.lock import describe_holder
from ccproxy.supervisor.state.records import (
    RecordFolder,
    Spec,
    SupervisorRecord,
    WorkerRecord,
    is_home,
    read_supervisor,
)
from ccproxy.supervisor.state.stopped_entries import StoppedEntries

SPEC = Spec(label="Kimi", host="127.0.0.1", port=8081, env_file="/e/kimi.env", models={"big": "k"})
DEAD = Identity(2**22 + 1, 1.0, "another boot")


def record(**changes: Any) -> WorkerRecord:
    made = WorkerRecord(
        identity=DEAD, nonce="a" * 32, control="/c", index=1, spec=SPEC, home="/home/u/p"
    )
    return dataclasses.replace(made, **changes)


def this_process() -> Identity:
    identity = identify(os.getpid())
    assert identity is not None
    return identity


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Reading.


def test_a_record_survives_a_round_trip() -> None:
    assert WorkerRecord.from_json(record(index=3).to_json()) == record(index=3)


def test_a_record_contains_the_fields_that_other_tools_need() -> None:
    fields = json.loads(record().to_json())
    assert (fields["pid"], fields["label"], fields["port"]) == (DEAD.pid, "Kimi", 8081)


def test_a_record_of_another_release_may_have_other_fields() -> None:
    fields = json.loads(record().to_json())
    del fields["spec"]["base_url"]
    fields["spec"]["tomorrow"] = 1
    assert WorkerRecord.from_json(json.dumps(fields)) == record()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("4711", id="a bare pid, as other programs write"),
        pytest.param("[]", id="a list"),
        pytest.param('{"pid": 1}', id="half a record"),
        pytest.param(record().to_json()[:-30], id="torn"),
        pytest.param(record().to_json().replace('"port"', '"prt"'), id="a missing field"),
        pytest.param(record().to_json().replace(str(DEAD.pid), '"x"', 1), id="a text for a pid"),
        pytest.param(record().to_json().replace(str(DEAD.pid), "1e999", 1), id="infinity"),
        pytest.param(record().to_json().replace(str(DEAD.pid), "-1", 1), id="the pid of all"),
        pytest.param(record().to_json().replace(str(DEAD.pid), "9" * 30, 1), id="a huge pid"),
        pytest.param(record().to_json().replace("1.0", "[]"), id="a list for a time"),
        pytest.param(record().to_json().replace('"Kimi"', "5"), id="a number for a label"),
        pytest.param(record().to_json().replace('"Kimi"', '"../x"'), id="a path for a label"),
        pytest.param(record().to_json().replace('"/c"', '"/\\u0000"'), id="a NUL in a path"),
        pytest.param(record().to_json().replace('"127.0.0.1"', "{}"), id="an object for a host"),
        pytest.param(record().to_json().replace('{\n   "big": "k"\n  }', "7"), id="models"),
        pytest.param(record().to_json().replace('"/home/u/p"', "7"), id="a number for a home"),
        pytest.param("[" * 100_000, id="a hundred thousand brackets"),
    ],
)
def test_invalid_content_is_not_a_record(text: str) -> None:
    with pytest.raises(ValueError, match="not a pid record"):
        WorkerRecord.from_json(text)


ANY_VALUE: tuple[object, ...] = (None, True, 0, -1.5, "", [], {}, [{}], {"a": []}, "\ud800")


@pytest.mark.parametrize("name", [*json.loads(record().to_json()), *dataclasses.asdict(SPEC)])
def test_any_value_in_any_field_gives_a_record_or_the_one_error(name: str) -> None:
    for value in ANY_VALUE:
        fields = json.loads(record().to_json())
        for part in (fields, fields["spec"]):
            if name in part:
                part[name] = value
        for text in (json.dumps(value), json.dumps(fields)):
            with contextlib.suppress(ValueError):
                WorkerRecord.from_json(text)


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


ODD_FILES: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a socket": bind,
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a hundred thousand brackets": lambda path: path.write_text("[" * 100_000),
}


@pytest.mark.parametrize("make", ODD_FILES.values(), ids=ODD_FILES)
def test_anything_but_a_regular_file_is_not_a_record(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    records = RecordFolder(tmp_path)
    for name in ("Kimi.pid", "supervisor.pid"):
        make(tmp_path / name)
    assert read_supervisor(tmp_path) is None
    assert [result for _, result in records.read()] in ([], [None])
    records.remove(record())
    assert names(tmp_path) == ["Kimi.pid", "supervisor.pid"]


@pytest.mark.parametrize("make", ODD_FILES.values(), ids=ODD_FILES)
def test_anything_but_a_regular_file_counts_as_missing_in_the_state_folder(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    fleet = Fleet(home=tmp_path, file=tmp_path / "ccproxy.toml", entries=())
    fleet.state.mkdir()
    for name in ("clock.json", "unwanted.json", "supervisor.lock"):
        make(fleet.state / name)
    assert WallClock(fleet.state).jump() == 0.0
    assert StoppedEntries(fleet.state).labels == frozenset()
    assert describe_holder(fleet).startswith("busy: another")


def test_unreadable_records_are_reported_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "Kimi.pid").write_text("{")
    (tmp_path / "supervisor.pid").write_text("{}")
    (tmp_path / "Glm.pid").symlink_to("/etc/passwd")
    assert list(RecordFolder(tmp_path).read()) == [(tmp_path / "Kimi.pid", None)]


# Writing.


def test_each_position_has_its_own_file(tmp_path: Path) -> None:
    records = RecordFolder(tmp_path)
    records.write(record())
    records.write(record(index=2, nonce="b" * 32))
    assert names(tmp_path) == ["Kimi.pid", "Kimi@2.pid"]
    records.remove(record())
    assert names(tmp_path) == ["Kimi@2.pid"]


def test_different_labels_never_share_a_file(tmp_path: Path) -> None:
    records = RecordFolder(tmp_path)
    for label, index in (("a", 1), ("a", 2), ("a.2", 1), ("a-2", 1)):
        records.write(record(spec=dataclasses.replace(SPEC, label=label), index=index))
    assert len(names(tmp_path)) == 4


def test_the_record_of_a_dead_predecessor_is_overwritten(tmp_path: Path) -> None:
    records = RecordFolder(tmp_path)
    records.write(record())
    records.write(record(nonce="b" * 32))
    assert [one.nonce for _, one in records.read() if one] == ["b" * 32]


def test_a_running_predecessor_keeps_a_record_until_it_ends(tmp_path: Path) -> None:
    records = RecordFolder(tmp_path)
    old = record(identity=this_process())
    records.write(old)
    records.write(record(nonce="b" * 32))
    assert names(tmp_path) == ["Kimi.pid", "Kimi@1~aaaaaaaaaaaa.pid"]
    records.remove(old)
    assert names(tmp_path) == ["Kimi.pid"]


def test_the_record_of_another_process_is_not_removed(tmp_path: Path) -> None:
    records = RecordFolder(tmp_path)
    records.write(record(nonce="b" * 32))
    records.remove(record())
    assert names(tmp_path) == ["Kimi.pid"]


def test_a_removed_record_is_restored_but_a_present_one_is_not_touched(tmp_path: Path) -> None:
    records = RecordFolder(tmp_path)
    records.restore(record())
    assert names(tmp_path) == ["Kimi.pid"]
    records.restore(record(nonce="b" * 32))
    assert [one.nonce for _, one in records.read() if one] == ["a" * 32]


def test_a_failed_write_is_retried(tmp_path: Path) -> None:
    (tmp_path / "pids").touch()  # no record can be written below a file
    records = RecordFolder(tmp_path / "pids")
    records.restore(record())
    (tmp_path / "pids").unlink()
    records.restore(record())
    assert names(tmp_path / "pids") == ["Kimi.pid"]


def test_a_planted_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "x.pid").symlink_to(victim)
    (tmp_path / f".x.pid.{os.getpid()}.tmp").symlink_to(victim)
    write_atomically(tmp_path / "x.pid", "new")
    assert victim.read_text() == "precious"
    assert (tmp_path / "x.pid").read_text() == "new"
    assert (tmp_path / "x.pid").stat().st_mode & 0o777 == 0o600


KILL_ME = """
import sys, itertools
from pathlib import Path
from tests.supervisor.state.test_records import record
from ccproxy.supervisor.state.records import RecordFolder
records = RecordFolder(Path(sys.argv[1]))
print("go", flush=True)
for number in itertools.count():
    records.write(record(nonce=f"{number:032x}", control="c" * (number * 997 % 50000)))
"""


def test_kill_9_at_any_moment_leaves_a_readable_record(tmp_path: Path) -> None:
    for wait in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", KILL_ME, str(tmp_path)], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            observed: set[str] = set()
            while len(observed) <= wait:  # so that each is killed at another moment
                observed |= {one.nonce for _, one in RecordFolder(tmp_path).read() if one}
            writer.kill()
        assert [one is not None for _, one in RecordFolder(tmp_path).read()] == [True]


# Homes.


def test_a_home_has_many_paths_but_a_copy_is_another_home(tmp_path: Path) -> None:
    home, copy = tmp_path / "home", tmp_path / "copy"
    home.mkdir()
    copy.mkdir()
    (tmp_path / "link").symlink_to(home)
    assert is_home(str(home), home)
    assert is_home(str(tmp_path / "link"), home)
    assert not is_home(str(home), copy)
    assert not is_home(str(tmp_path / "moved away"), home)
    assert not is_home("", home)
    assert not is_home("\0", home)


def supervisor_record(**changes: Any) -> str:
    made = SupervisorRecord(pid=os.getpid(), start_time=1.0, boot_id="b", control="/c", home="/h")
    return json.dumps(dataclasses.asdict(dataclasses.replace(made, **changes)))


def test_the_supervisor_of_a_copied_folder_is_not_ours(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    (pids / "supervisor.pid").write_text(supervisor_record(home=str(tmp_path)))
    assert read_supervisor(pids) is not None
    (pids / "supervisor.pid").write_text(supervisor_record(home="/the/original"))
    assert read_supervisor(pids) is None
    (pids / "supervisor.pid").write_text(supervisor_record(home=""))
    assert read_supervisor(pids) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"pid": 1}'),
        pytest.param(supervisor_record(pid=-1), id="a negative pid"),
        pytest.param(supervisor_record(control=7), id="a number for a path"),
    ],
)
def test_an_unreadable_record_of_a_supervisor_counts_as_missing(tmp_path: Path, text: str) -> None:
    assert read_supervisor(tmp_path) is None
    (tmp_path / "supervisor.pid").write_text(text)
    assert read_supervisor(tmp_path) is None
