"""Log files on a full disk, and rotation with many writers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from ccproxy.cli.logs.log_files import Follower, Log
from ccproxy.log_rotation import LogFile, prune
from tests.fleet import ROOT, FleetHome, eventually
from tests.trust.conftest import settings
from tests.trust.sizes import note, size
from tests.trust.traffic import Traffic

pytestmark = pytest.mark.xdist_group("processes")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    mount_point = tmp_path / "small"
    mount_point.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount_point)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield mount_point
    subprocess.run(["umount", "-l", str(mount_point)], check=True)


def fill(file):
    """Write until the disk is full."""
    with file.open("ab", buffering=0) as ballast:
        for block in (65536, 4096, 64, 1):
            try:
                while ballast.write(b"x" * block) == block:
                    pass
            except OSError:
                continue


async def test_a_full_disk_stops_no_request(small_disk, upstream):
    """All requests are answered, lost lines are counted, and logging resumes without a restart."""
    async with FleetHome(small_disk) as fleet:
        fleet.write(kimi=settings(upstream))
        assert (await fleet.ccproxy("start")).code == 0
        pid = await fleet.worker_pid("kimi")
        ballast = fleet.path / "ballast"
        async with Traffic(fleet.ports["kimi"], rate=50) as traffic:
            await eventually(lambda: traffic.answered > 20)
            fill(ballast)
            answered = traffic.answered
            await eventually(lambda: traffic.answered > answered + 100)
            row = await eventually(lambda: full_row(fleet))
            text = await fleet.ccproxy("status")
            while_full = traffic.answered - answered
        ballast.unlink()  # without traffic, `status` detects the free space
        again = await eventually(lambda: ready_row(fleet))
        log = (fleet.path / "logs/kimi.log").read_text()
        reported = [
            json.loads(line)["lines"] for line in log.splitlines() if '"log.dropped"' in line
        ]
        note("", answered_while_full=while_full, lost=traffic.refused + len(traffic.broken),
             dropped=row["log_dropped_total"], reported_afterwards=sum(reported))  # fmt: skip
        assert (traffic.refused, traffic.broken) == (0, [])
        assert f"disk full: {fleet.path / 'logs'}" in text.out
        assert text.code == 1
        assert row["log_dropped_total"] > 0
        assert again["log_dropped_total"] == sum(reported)
        assert again["pids"] == [pid]


async def full_row(fleet):
    row = await fleet.proxy("kimi")
    return row if "disk full" in (row["reason"] or "") else None


async def ready_row(fleet):
    row = await fleet.proxy("kimi")
    return row if row["state"] == "ready" else None


async def test_a_worker_comes_back_on_a_full_disk(small_disk, upstream):
    """Neither log, record nor crash file prevents a worker from serving."""
    async with FleetHome(small_disk) as fleet:
        fleet.write(kimi=settings(upstream))
        assert (await fleet.ccproxy("start")).code == 0
        pid = await fleet.worker_pid("kimi")
        for file in (fleet.path / "logs").glob("kimi*"):
            file.unlink()
        fill(fleet.path / "ballast")
        async with Traffic(fleet.ports["kimi"], rate=20) as traffic:
            os.kill(pid, 9)
            await eventually(lambda: len(traffic.broken) <= 2 and traffic.answered > 20)
        assert traffic.refused == 0
        assert await fleet.worker_pid("kimi") != pid


WRITER = """
import sys
from pathlib import Path
from ccproxy.log_rotation import LogFile
path, count, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
file = LogFile(path, limit=limit)
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    file.write(b'{"number": %d, "filling": "%s"}' % (number, b"x" * 60))
file.close()
"""


def test_rotation_under_four_writers(tmp_path):
    """With 4 × 40,000 lines, 40 rotations and concurrent cleanups, no line is lost or torn."""
    count = size(4_000, 40_000)
    limit = count * 85 // 10
    command = [sys.executable, "-c", WRITER]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "text": True,
        "env": environ,
    }
    writers = [
        subprocess.Popen([*command, str(tmp_path / f"w{one}.log"), str(count), str(limit)], **pipes)
        for one in range(4)
    ]
    over, rounds, failed = threading.Event(), [], []

    def clean():
        while not over.is_set():
            try:
                rounds.append(prune(tmp_path))
            except OSError as error:
                failed.append(error)

    cleaner = threading.Thread(target=clean)
    for writer in writers:
        writer.stdout.readline()
    cleaner.start()
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    codes = [writer.wait() for writer in writers]
    over.set()
    cleaner.join()
    lines, torn, rotations = {one: [] for one in range(4)}, 0, 0
    for path in tmp_path.iterdir():
        rotations += bool(re.search(r"\.log\.\d{8}_\d{6}$", path.name))
        for text in path.read_text().splitlines():
            try:
                lines[int(path.name[1])].append(json.loads(text)["number"])
            except ValueError:
                torn += 1
    lost = sum(count - len(set(numbers)) for numbers in lines.values())
    note("", lines=4 * count, rotations=rotations, cleanups=len(rounds), lost=lost, torn=torn)
    for writer in writers:
        writer.stdin.close()
        writer.stdout.close()
    assert codes == [0] * 4
    assert (lost, torn) == (0, 0)
    assert all(sorted(numbers) == list(range(count)) for numbers in lines.values())
    assert rotations >= 36
    assert len(rounds) > 3
    assert not any(rounds)
    assert failed == []


def test_followers_see_every_line_across_rotations(tmp_path):
    """`tail -F` and `logs -f` follow; each rotation waits until both have caught up."""
    path = tmp_path / "kimi.log"
    file = LogFile(path, limit=1000)
    follower = Follower(Log(source="kimi", path=path, parts=()))
    followed: list[str] = []
    heard: list[str] = []
    with subprocess.Popen(
        ["tail", "-n", "+1", "-s", "0.05", "-F", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as tail:
        listening = threading.Thread(target=lambda: heard.extend(iter(tail.stdout.readline, "")))
        listening.start()
        expected = [f"{number:04d} {'x' * 95}" for number in range(45)]
        for number, text in enumerate(expected):
            file.write(text.encode())
            until = time.monotonic() + 20
            while len(heard) <= number or len(followed) <= number:
                followed += [line.text for line in follower.read()]
                assert time.monotonic() < until, (number, len(heard), len(followed))
        tail.terminate()
        listening.join()
    follower.close()
    file.close()
    rotations = len(list(tmp_path.glob("kimi.log.*")))
    note("follow", lines=len(expected), rotations=rotations)
    assert rotations >= 4
    assert followed == expected
    assert [text.rstrip() for text in heard] == expected
