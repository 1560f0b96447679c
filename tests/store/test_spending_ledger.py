"""The amounts of several processes: exact, without locks, and preserved if a process is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccproxy.store.spending_ledger import MOST_ROWS, RESCAN_SECONDS, Periods, SpendingLedger, Spent

A, B = b"a" * 16, b"b" * 16
TODAY = Periods(739_000, 24_323)
TOMORROW = Periods(739_001, 24_323)
NEXT_MONTH = Periods(739_031, 24_324)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SpendingLedger]:
    with_clock = SpendingLedger(tmp_path / "x.budgets", clock=ticking())
    yield with_clock
    with_clock.close()


def ticking():
    """Return a clock that advances a second per call, so that files are searched each time."""
    seconds = iter(range(10**6))
    return lambda: float(next(seconds))


def test_a_new_process_is_seen_at_once(tmp_path):
    first = SpendingLedger(tmp_path / "x.budgets", clock=lambda: 0.0)
    assert first.spent(A, TODAY).day == 0
    # The time stamps of some file systems have the resolution of the kernel's clock.
    os.utime(tmp_path / "x.budgets", ns=(0, 0))
    assert first.spent(A, TODAY).day == 0
    second = SpendingLedger(tmp_path / "x.budgets", clock=lambda: 0.0)
    second.add(A, 6, TODAY)
    assert first.spent(A, TODAY).day == 6
    first.close()
    second.close()


def test_amounts_add_up_per_day_and_month(ledger):
    ledger.add(A, 5, TODAY)
    ledger.add(A, 7, TODAY)
    ledger.add(B, 1, TODAY)
    assert ledger.spent(A, TODAY) == Spent(12, 12, 0)
    ledger.add(A, 1, TOMORROW)
    assert ledger.spent(A, TOMORROW) == Spent(1, 13, 0)
    assert ledger.spent(A, NEXT_MONTH) == Spent(0, 0, 0)
    ledger.add(A, 2, NEXT_MONTH)
    assert ledger.spent(A, NEXT_MONTH) == Spent(2, 2, 0)


def test_two_processes_see_each_other(ledger, tmp_path):
    other = SpendingLedger(tmp_path / "x.budgets", clock=ticking())
    ledger.reserve(A, 100)
    ledger.add(A, 5, TODAY)
    other.add(A, 6, TODAY)
    assert other.spent(A, TODAY) == Spent(11, 11, 100, own=0)
    assert ledger.spent(A, TODAY) == Spent(11, 11, 100, own=100)
    other.add(B, 1, TODAY)
    assert ledger.spent(B, TODAY).day == 1
    other.close()
    assert ledger.spent(A, TODAY).day == 11, "the file of an ended process still counts"
    ledger.reserve(A, -500)
    assert ledger.spent(A, TODAY).reserved == 0


SPENDER = """
import sys, time
from pathlib import Path
from ccproxy.store.spending_ledger import Periods, SpendingLedger
ledger = SpendingLedger(Path(sys.argv[1]))
ledger.reserve(b"a" * 16, 1000)
for _ in range(int(sys.argv[2])):
    ledger.add(b"a" * 16, 3, Periods(*map(int, sys.argv[3:5])))
print("done", flush=True)
time.sleep(600)
"""


def test_nothing_is_lost_when_processes_are_killed(ledger, tmp_path):
    words = [str(tmp_path / "x.budgets"), "500", *map(str, TODAY)]
    children = [
        subprocess.Popen([sys.executable, "-c", SPENDER, *words], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == b"done\n"
    assert ledger.spent(A, TODAY) == Spent(4500, 4500, 3000)
    for child in children:
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
    assert ledger.spent(A, TODAY) == Spent(4500, 4500, 0), "reservations end with the process"
    successor = SpendingLedger(tmp_path / "x.budgets")
    successor.add(A, 1, TODAY)
    assert ledger.spent(A, TODAY) == Spent(4501, 4501, 0)
    successor.close()
    assert len([*(tmp_path / "x.budgets").iterdir()]) == 4, "a file is continued, not added"


def test_a_removed_folder_is_written_again(ledger, tmp_path):
    other = SpendingLedger(tmp_path / "x.budgets", clock=ticking())
    for one in (ledger, other):
        one.add(A, 5, TODAY)
    shutil.rmtree(tmp_path / "x.budgets")
    ledger.spent(A, TODAY)
    other.spent(A, TODAY)
    assert ledger.spent(A, TODAY) == other.spent(A, TODAY) == Spent(10, 10, 0)
    other.close()


def test_a_removed_folder_that_cannot_be_created_again_still_counts(tmp_path):
    warnings: list[str] = []
    ledger = SpendingLedger(tmp_path / "x.budgets", clock=ticking(), warn=warnings.append)
    other = SpendingLedger(tmp_path / "x.budgets", clock=ticking())
    for one in (ledger, other):
        one.add(A, 5, TODAY)
        one.spent(A, TODAY)
    shutil.rmtree(tmp_path / "x.budgets")
    (tmp_path / "x.budgets").touch()
    ledger.add(A, 1, TODAY)
    for _ in range(2):
        assert ledger.spent(A, TODAY) == other.spent(A, TODAY) == Spent(11, 11, 0)
    (warning,) = warnings
    assert warning.startswith(
        f"{tmp_path / 'x.budgets'}: File exists; a file with the folder's name"
    )
    assert warning.endswith("; spending is not saved")
    (tmp_path / "x.budgets").unlink()
    ledger.spent(A, TODAY)
    other.spent(A, TODAY)
    assert ledger.spent(A, TODAY) == other.spent(A, TODAY) == Spent(11, 11, 0)
    other.close()
    ledger.close()


def test_a_removed_folder_is_searched_once_a_second(tmp_path):
    now = 0.0
    ledger = SpendingLedger(tmp_path / "x.budgets", clock=lambda: now)
    ledger.spent(A, TODAY)
    shutil.rmtree(tmp_path / "x.budgets")
    ledger.spent(A, TODAY)
    assert not (tmp_path / "x.budgets").exists()
    now += RESCAN_SECONDS
    ledger.spent(A, TODAY)
    assert (tmp_path / "x.budgets" / "slot.1").exists()
    ledger.close()


def test_the_spending_of_a_process_that_ended_after_the_removal_is_kept(ledger, tmp_path):
    ledger.add(A, 5, TODAY)
    ledger.reserve(A, 100)
    ledger.add(B, 2, TOMORROW)
    shutil.rmtree(tmp_path / "x.budgets")
    ended = SpendingLedger(tmp_path / "x.budgets")
    ended.add(A, 7, TOMORROW)
    ended.add(B, 3, TOMORROW)
    ended.close()
    assert ledger.spent(A, TOMORROW) == Spent(7, 12, 100, own=100)
    assert ledger.spent(B, TOMORROW) == Spent(5, 5, 0)


def test_a_file_that_replaces_a_removed_one_is_counted_once(tmp_path):
    ended, ledger = (SpendingLedger(tmp_path / "x.budgets", clock=ticking()) for _ in range(2))
    for one in (ended, ledger):
        one.add(A, 5, TODAY)
    assert ledger.spent(A, TODAY) == Spent(10, 10, 0)
    ended.close()
    (tmp_path / "x.budgets" / "slot.2").unlink()
    for _ in range(2):
        assert ledger.spent(A, TODAY) == Spent(10, 10, 0)
    ledger.close()


def test_a_ledger_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "x.budgets").write_text("")
    with pytest.raises(
        OSError, match=r"File exists; a file with the folder's name .*: '.*x\.budgets'"
    ):
        SpendingLedger(tmp_path / "x.budgets")


def test_a_file_of_another_form_is_emptied(tmp_path):
    folder = tmp_path / "x.budgets"
    folder.mkdir()
    (folder / "slot.1").write_bytes(b"nonsense" * 4)
    (folder / "slot.2").write_bytes(b"short")
    (folder / "slot.3").write_bytes(bytes(100_000))
    (folder / "notes.txt").write_text("not a slot")
    ledger = SpendingLedger(folder)
    assert ledger.spent(A, TODAY) == Spent(0, 0, 0)
    ledger.add(A, 5, TODAY)
    assert ledger.spent(A, TODAY).day == 5
    ledger.close()


def test_a_full_ledger_is_an_error(ledger):
    for number in range(MOST_ROWS):
        ledger.reserve(number.to_bytes(16, "big"), 0)
    with pytest.raises(OSError, match="is full"):
        ledger.reserve(A, 0)
