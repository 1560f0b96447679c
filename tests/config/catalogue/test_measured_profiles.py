"""The file with the measurements of a provider's models."""

from __future__ import annotations

import subprocess
import sys

from ccproxy.config.catalogue.measured_profiles import read_profiles

SAVE = """
import sys
from pathlib import Path
from ccproxy.config.catalogue.measured_profiles import MeasuredModel, Profiles, save_profile
sys.stdin.readline()
for number in range(30):
    profiles = Profiles(base_url="https://x.example")
    measured = MeasuredModel(date="2026-01-01", quirks={})
    save_profile(Path(sys.argv[1]), profiles, f"{sys.argv[2]}-{number}", measured)
"""


def test_processes_that_measure_at_once_lose_nothing(tmp_path):
    path = tmp_path / "profiles.json"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SAVE, str(path), name], stdin=subprocess.PIPE, text=True
        )
        for name in ("a", "b")
    ]
    for process in processes:
        process.communicate("begin\n")
    assert [process.returncode for process in processes] == [0, 0]
    profiles = read_profiles(path)
    assert profiles is not None
    assert len(profiles.models) == 60
