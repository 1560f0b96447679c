"""The supervisor's log: JSON lines without keys, a deleted file, and a full disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ccproxy.log_rotation import LogFile
from ccproxy.supervisor.journal import FileJournal
from tests.supervisor.conftest import eventually


def test_events_are_json_lines_without_keys(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    journal("worker.failed", level="error", label="Kimi", reason="bad key sk-abcdefghijklmnop1234")
    journal.close()
    (line,) = (tmp_path / "supervisor.log").read_text().splitlines()
    fields = json.loads(line)
    assert (fields["event"], fields["level"], fields["label"]) == ("worker.failed", "error", "Kimi")
    assert fields["reason"] == "bad key …1234"


def test_each_supervisor_starts_a_new_file(tmp_path: Path) -> None:
    for name in ("first", "second"):
        journal = FileJournal(tmp_path)
        journal(f"{name}.started")
        journal.close()
    assert "second.started" in (tmp_path / "supervisor.log").read_text()
    assert len(list(tmp_path.glob("supervisor.log.*"))) == 1


def test_a_removed_file_is_created_again(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    journal = FileJournal(folder)
    shutil.rmtree(folder)

    def is_there() -> bool:
        journal("worker.ready")
        return (folder / "supervisor.log").exists()

    eventually(is_there)
    journal.close()


def test_the_error_clears_as_soon_as_the_disk_has_space(tmp_path: Path) -> None:
    """Status retries the disk, because an idle supervisor writes nothing else."""
    journal = FileJournal(tmp_path)
    is_full = True

    def append(self: LogFile, lines: bytes) -> bool:
        if is_full:
            self.trouble = "disk full"
            return False
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LogFile, "_append", append)
        journal("worker.ready")
        assert journal.trouble == "disk full"
        is_full = False
        assert journal.trouble == ""
    journal.close()
