"""What is written down: records survive any kill, the lock has one holder, the journal no keys."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys

import pytest

from ccproxy.config.fleet import Fleet
from ccproxy.errors import Busy
from ccproxy.files import write_atomically
from ccproxy.supervisor.journal import FileJournal
from ccproxy.supervisor.processes.child_environment import clean_environment
from ccproxy.supervisor.processes.identity import Identity, identify
from ccproxy.supervisor.processes.output import last_lines
from ccproxy.supervisor.state.lock import Lock, holder_text
from ccproxy.supervisor.state.records import (
    RecordFolder,
    Spec,
    WorkerRecord,
    read_supervisor,
)
from ccproxy.supervisor.state.stopped_entries import StoppedEntries
from ccproxy.supervisor.state.wall_clock import WallClock
from tests.supervisor.conftest import eventually

SPEC = Spec(label="Kimi", host="127.0.0.1", port=8081, env_file="/e/kimi.env", models={"big": "k"})
DEAD = Identity(2**22 + 1, 1.0, "another boot")


def record(**more) -> WorkerRecord:
    fields = {"identity": DEAD, "nonce": "a" * 32, "control": "/c", "index": 1, "spec": SPEC}
    return WorkerRecord(**{**fields, **more})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# RecordFolder.


def test_a_record_is_read_as_it_was_written():
    assert WorkerRecord.from_json(record(index=3).to_json()) == record(index=3)


def test_a_record_tells_other_tools_the_essentials():
    fields = json.loads(record().to_json())
    assert (fields["pid"], fields["label"], fields["port"]) == (DEAD.pid, "Kimi", 8081)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("4711", id="a bare pid, as other programs write"),
        pytest.param("[]", id="a list"),
        pytest.param('{"pid": 1}', id="half a record"),
        pytest.param(record().to_json()[:-30], id="torn"),
        pytest.param(record().to_json().replace('"port"', '"prt"'), id="a foreign field"),
        pytest.param(record().to_json().replace(str(DEAD.pid), '"x"', 1), id="no number"),
        pytest.param(record().to_json().replace(str(DEAD.pid), "1e999", 1), id="no end"),
        pytest.param(record().to_json().replace(str(DEAD.pid), "-1", 1), id="everybody's pid"),
        pytest.param(record().to_json().replace(str(DEAD.pid), "9" * 30, 1), id="no pid"),
        pytest.param(record().to_json().replace("1.0", "[]"), id="no moment"),
        pytest.param(record().to_json().replace('"Kimi"', "5"), id="a number for a label"),
        pytest.param(record().to_json().replace('"Kimi"', '"../x"'), id="a path for a label"),
        pytest.param(record().to_json().replace('"/c"', '"/\\u0000"'), id="no path"),
        pytest.param(record().to_json().replace('"127.0.0.1"', "{}"), id="no host"),
        pytest.param(record().to_json().replace('{\n   "big": "k"\n  }', "7"), id="no models"),
        pytest.param("[" * 100_000, id="a hundred thousand brackets"),
    ],
)
def test_what_is_no_record_is_said_to_be_none(text):
    with pytest.raises(ValueError, match="not a pid record"):
        WorkerRecord.from_json(text)


def bind(path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


ODD = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a socket": bind,
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a hundred thousand brackets": lambda path: path.write_text("[" * 100_000),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_what_is_no_file_is_no_record(tmp_path, make):
    records = RecordFolder(tmp_path)
    for name in ("Kimi.pid", "supervisor.pid"):
        make(tmp_path / name)
    assert read_supervisor(tmp_path) is None
    assert [found for _, found in records.read()] in ([], [None])
    records.remove(record())
    assert names(tmp_path) == ["Kimi.pid", "supervisor.pid"]


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_what_is_no_file_says_nothing(fleet, make):
    fleet.state.mkdir()
    for name in ("clock.json", "unwanted.json", "supervisor.lock"):
        make(fleet.state / name)
    assert WallClock(fleet.state).leap() == 0.0
    assert StoppedEntries(fleet.state).labels == frozenset()
    assert holder_text(fleet).startswith("busy: another")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a pipe", "a folder"])
def test_there_are_no_last_words_in_what_is_no_file(tmp_path, make):
    make(tmp_path / "Kimi.out")
    (tmp_path / "Kimi.log").write_text("the end\n")
    files = [(tmp_path / "Kimi.out", 0), (tmp_path / "Kimi.log", 0)]
    assert last_lines(files) == "the end"


def test_each_position_has_its_file(tmp_path):
    records = RecordFolder(tmp_path)
    records.write(record())
    records.write(record(index=2, nonce="b" * 32))
    assert names(tmp_path) == ["Kimi.pid", "Kimi@2.pid"]
    records.remove(record())
    assert names(tmp_path) == ["Kimi@2.pid"]


def test_a_dead_predecessor_is_written_over(tmp_path):
    records = RecordFolder(tmp_path)
    records.write(record())
    records.write(record(nonce="b" * 32))
    assert [one.nonce for _, one in records.read()] == ["b" * 32]


def test_a_living_predecessor_is_kept_aside_until_it_goes(tmp_path):
    records = RecordFolder(tmp_path)
    old = record(identity=identify(os.getpid()))
    new = record(nonce="b" * 32)
    records.write(old)
    records.write(new)
    assert names(tmp_path) == ["Kimi.pid", "Kimi@1~aaaaaaaaaaaa.pid"]
    records.remove(old)
    assert names(tmp_path) == ["Kimi.pid"]


def test_only_ones_own_record_is_removed(tmp_path):
    records = RecordFolder(tmp_path)
    records.write(record(nonce="b" * 32))
    records.remove(record())
    assert names(tmp_path) == ["Kimi.pid"]


def test_no_two_labels_share_a_file(tmp_path):
    records = RecordFolder(tmp_path)
    for label, index in (("a", 1), ("a", 2), ("a.2", 1), ("a-2", 1)):
        spec = dataclasses.replace(SPEC, label=label)
        records.write(record(spec=spec, index=index))
    assert len(names(tmp_path)) == 4


def test_unreadable_records_are_shown_and_links_are_not_followed(tmp_path):
    (tmp_path / "Kimi.pid").write_text("{")
    (tmp_path / "supervisor.pid").write_text("{}")
    (tmp_path / "Glm.pid").symlink_to("/etc/passwd")
    assert list(RecordFolder(tmp_path).read()) == [(tmp_path / "Kimi.pid", None)]


def test_a_planted_link_is_not_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "x.pid").symlink_to(victim)
    (tmp_path / f".x.pid.{os.getpid()}.tmp").symlink_to(victim)
    write_atomically(tmp_path / "x.pid", "new")
    assert victim.read_text() == "precious"
    assert (tmp_path / "x.pid").read_text() == "new"
    assert (tmp_path / "x.pid").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_takes_nothing_keeps_what_it_had(tmp_path):
    path = tmp_path / "x.pid"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "old"


KILL_ME = """
import sys, itertools
from pathlib import Path
from tests.supervisor.test_writing import record
from ccproxy.supervisor.state.records import RecordFolder
records = RecordFolder(Path(sys.argv[1]))
print("go", flush=True)
for number in itertools.count():
    records.write(record(nonce=f"{number:032x}", control="c" * (number * 997 % 50000)))
"""


def test_kill_9_at_any_moment_leaves_a_readable_record(tmp_path):
    for wait in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", KILL_ME, str(tmp_path)], stdout=subprocess.PIPE
        ) as writer:
            writer.stdout.readline()
            seen = set()
            while len(seen) <= wait:  # so that each is killed at another moment
                seen |= {one.nonce for _, one in RecordFolder(tmp_path).read() if one}
            writer.kill()
        assert [one is not None for _, one in RecordFolder(tmp_path).read()] == [True]


def test_no_record_of_a_supervisor_is_none(tmp_path):
    assert read_supervisor(tmp_path) is None
    (tmp_path / "supervisor.pid").write_text("[]")
    assert read_supervisor(tmp_path) is None


# The lock.


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    return Fleet(home=tmp_path, file=tmp_path / "ccproxy.toml", entries=())


def test_the_lock_has_one_holder_and_names_it(fleet):
    with (
        Lock(fleet, command="ccproxy up"),
        pytest.raises(Busy, match=rf"`ccproxy up` \(pid {os.getpid()}\) holds the lock since"),
        Lock(fleet, command="ccproxy start"),
    ):
        pass
    with Lock(fleet, command="ccproxy start"):
        pass


def test_the_lock_passes_to_a_child_without_a_gap(fleet):
    code = "import sys; print('mine', flush=True); sys.stdin.read()"
    with Lock(fleet, command="ccproxy start") as lock:
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[lock.fd],
        )
        child.stdout.readline()
    with child:
        with pytest.raises(Busy), Lock(fleet, command="another"):
            pass
        child.stdin.close()
        child.wait()
    with Lock(fleet, command="another"):
        pass


def test_the_lock_ends_with_its_holder(fleet):
    code = "import sys, fcntl; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX);"
    code += "print('held', flush=True); sys.stdin.read()"
    fleet.state.mkdir()
    path = fleet.state / "supervisor.lock"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        with pytest.raises(Busy, match="another ccproxy command"), Lock(fleet, command="x"):
            pass
        holder.kill()
        holder.wait()
        with Lock(fleet, command="x"):
            pass


# The journal and the environment.


def test_the_journal_writes_json_lines_and_no_keys(tmp_path):
    heard = []
    journal = FileJournal(tmp_path, echo=heard.append)
    journal("worker.failed", level="error", label="Kimi", reason="bad key sk-abcdefghijklmnop1234")
    journal.close()
    (line,) = (tmp_path / "supervisor.log").read_text().splitlines()
    fields = json.loads(line)
    assert (fields["event"], fields["level"], fields["label"]) == ("worker.failed", "error", "Kimi")
    assert fields["reason"] == "bad key …1234"
    assert heard == [line]


def test_the_journal_is_begun_anew_by_each_supervisor(tmp_path):
    for name in ("first", "second"):
        journal = FileJournal(tmp_path)
        journal(f"{name}.started")
        journal.close()
    assert "second.started" in (tmp_path / "supervisor.log").read_text()
    assert len(list(tmp_path.glob("supervisor.log.*"))) == 1


def test_the_environment_of_children_is_a_choice(monkeypatch):
    secrets = {"OPENAI_API_KEY": "k", "ANTHROPIC_AUTH_TOKEN": "t", "AWS_SECRET": "s", "PS1": "$"}
    wanted = {"LC_ALL": "C", "TZ": "UTC", "https_proxy": "http://p", "SSL_CERT_FILE": "/c"}
    for name, value in {**secrets, **wanted}.items():
        monkeypatch.setenv(name, value)
    kept = clean_environment()
    assert wanted.items() <= kept.items()
    assert not secrets.keys() & kept.keys()


def test_a_journal_that_was_removed_is_begun_anew(tmp_path):
    folder = tmp_path / "logs"
    journal = FileJournal(folder)
    shutil.rmtree(folder)

    def is_there():
        journal("worker.ready")
        return (folder / "supervisor.log").exists()

    eventually(is_there)
    journal.close()
