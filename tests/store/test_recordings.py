"""Recorded exchanges: complete or absent, limited in age and size, shared by several processes."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ccproxy.store import recordings as module
from ccproxy.store.recordings import (
    KEPT_SECONDS,
    Piece,
    RecordedCall,
    Recording,
    find_recording,
    prune_recordings,
    recordings,
    recordings_folder,
    save_recording,
)

CALL = RecordedCall(
    asked=b"{}",
    message_id="msg_1",
    input_estimate=3,
    model="m",
    api="chat",
    body=b"{}",
    status=200,
    is_stream=True,
    pieces=(Piece(0.1, b"data: \xff"), Piece(0.2, b"\n\n")),
)


def recording(recording_id: str = "req_1", **fields: Any) -> Recording:
    values: dict[str, Any] = {
        "label": "Kimi",
        "provider": "kimi",
        "at": 1.0,
        "path": "/v1/messages",
        "requested": "claude-opus-4-1",
        "stream": True,
        "status": 200,
        "request": b"{}",
        "answer": b"\xff",
        "calls": (CALL,),
    }
    return Recording(id=recording_id, **(values | fields))


def ids(state: Path, label: str = "Kimi") -> list[str]:
    return [each.id for each in recordings(state, label)]


def age(state: Path, recording_id: str, seconds: float, label: str = "kimi") -> None:
    """Make a recording older by *seconds*."""
    path = state / "recordings" / label / f"{recording_id}.json"
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_a_recording_is_read_as_it_was_written(tmp_path):
    save_recording(tmp_path, recording())
    assert find_recording(tmp_path, "req_1") == recording()
    assert list(recordings(tmp_path, "KIMI")) == [recording()]
    assert recording().calls[0].data == b"data: \xff\n\n"


def test_only_the_user_can_read_it(tmp_path):
    save_recording(tmp_path, recording())
    folder = recordings_folder(tmp_path, "Kimi")
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_recordings_are_listed_by_age_and_found_in_every_entry(tmp_path):
    for number, label in enumerate(["Kimi", "Kimi", "Glm"]):
        save_recording(tmp_path, recording(f"req_{number}", label=label))
    age(tmp_path, "req_1", 60)
    assert ids(tmp_path) == ["req_1", "req_0"]
    assert ids(tmp_path, "Glm") == ["req_2"]
    assert ids(tmp_path, "other") == []
    assert find_recording(tmp_path, "req_2") == recording("req_2", label="Glm")


@pytest.mark.parametrize(
    "recording_id", ["req_2", "", "*", "../kimi/req_1", "req_1.json", "/etc/passwd", "x" * 81]
)
def test_an_invalid_id_finds_nothing(tmp_path, recording_id):
    save_recording(tmp_path, recording())
    assert find_recording(tmp_path, recording_id) is None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(msgspec.json.encode(recording())[:-9], id="cut"),
        pytest.param(b"[]", id="of another form"),
        pytest.param(b"\xff", id="not UTF-8"),
    ],
)
def test_a_damaged_file_is_left_out_of_the_list_and_an_error_by_its_id(tmp_path, data):
    for name in ("req_1", "req_2"):
        save_recording(tmp_path, recording(name))
    (recordings_folder(tmp_path, "Kimi") / "req_1.json").write_bytes(data)
    assert ids(tmp_path) == ["req_2"]
    with pytest.raises(ValueError, match=r".+"):
        find_recording(tmp_path, "req_1")


def test_a_pipe_in_the_folder_is_not_read(tmp_path):
    save_recording(tmp_path, recording())
    os.mkfifo(recordings_folder(tmp_path, "Kimi") / "req_2.json")
    assert ids(tmp_path) == ["req_1"]
    with pytest.raises(OSError, match=r".+"):
        find_recording(tmp_path, "req_2")


def test_recordings_expire_after_a_day(tmp_path):
    for name in ("old", "new"):
        save_recording(tmp_path, recording(name))
    save_recording(tmp_path, recording("other", label="Glm"))
    age(tmp_path, "old", KEPT_SECONDS + 60)
    age(tmp_path, "other", KEPT_SECONDS + 60, "glm")
    assert prune_recordings(tmp_path) == 2
    assert (ids(tmp_path), ids(tmp_path, "Glm")) == (["new"], [])
    assert prune_recordings(tmp_path) == 0
    assert prune_recordings(tmp_path / "none") == 0


def test_saving_deletes_old_recordings(tmp_path):
    save_recording(tmp_path, recording("old"))
    age(tmp_path, "old", KEPT_SECONDS + 60)
    save_recording(tmp_path, recording("new"))
    assert ids(tmp_path) == ["new"]


def test_the_oldest_are_deleted_above_a_total_size(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 2500)
    for number in range(5):
        save_recording(tmp_path, recording(f"req_{number}", request=b"x" * 400))
        for earlier in range(number + 1):
            age(tmp_path, f"req_{earlier}", 10) if earlier >= number - 1 else None
    assert ids(tmp_path) == ["req_3", "req_4"]


def test_a_full_disk_is_an_error_and_no_part_remains(tmp_path, disk_limit):
    save_recording(tmp_path, recording())
    with disk_limit(2000), pytest.raises(OSError, match="File too large"):
        save_recording(tmp_path, recording("req_2", request=b"x" * 9000))
    assert [each.name for each in recordings_folder(tmp_path, "Kimi").iterdir()] == ["req_1.json"]


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.store.test_recordings import recording, save_recording
os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)
save_recording(Path(sys.argv[1]), recording("req_2"))
"""


def test_a_kill_while_it_is_written_leaves_no_recording(tmp_path):
    save_recording(tmp_path, recording())
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert ids(tmp_path) == ["req_1"]
    assert find_recording(tmp_path, "req_2") is None


def test_processes_that_prune_the_same_folder_do_not_disturb_each_other(tmp_path, monkeypatch):
    """Every save prunes; a file that another process has already deleted is not an error."""
    monkeypatch.setattr(module, "MAX_BYTES", 3000)

    def save(number: int) -> None:
        for part in range(40):
            save_recording(tmp_path, recording(f"req_{number}_{part}"))
            assert all(each.startswith("req_") for each in ids(tmp_path))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(save, range(4)))
    files = list(recordings_folder(tmp_path, "Kimi").iterdir())
    assert 0 < sum(each.stat().st_size for each in files) <= 3000
