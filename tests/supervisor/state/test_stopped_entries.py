"""Stopped entries stay stopped under the next supervisor."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccproxy.supervisor.state.stopped_entries import NAME, StoppedEntries


def test_the_next_supervisor_reads_the_stopped_entries(tmp_path: Path) -> None:
    StoppedEntries(tmp_path).set(["glm", "kimi"])
    assert StoppedEntries(tmp_path).labels == {"glm", "kimi"}
    StoppedEntries(tmp_path).set([])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "{}", "5", "\x00"])
def test_an_unreadable_file_names_no_entry(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    assert StoppedEntries(tmp_path).labels == frozenset()


def test_a_removed_file_is_restored(tmp_path: Path) -> None:
    entries = StoppedEntries(tmp_path)
    entries.restore()
    assert list(tmp_path.iterdir()) == []
    entries.set(["glm"])
    (tmp_path / NAME).unlink()
    entries.restore()
    assert StoppedEntries(tmp_path).labels == {"glm"}


def test_a_full_disk_keeps_the_labels_in_memory(tmp_path: Path) -> None:
    (tmp_path / "state").touch()  # nothing can be written below a file
    entries = StoppedEntries(tmp_path / "state")
    entries.set(["glm"])
    assert entries.labels == {"glm"}
    (tmp_path / "state").unlink()
    entries.restore()
    assert StoppedEntries(tmp_path / "state").labels == {"glm"}
