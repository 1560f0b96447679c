"""The fuzz targets work with the current code."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from tests.fleet import ROOT
from tests.fuzz.targets import TARGETS

SEEDS = [
    b"",
    b"\x03data: {}\r\n\r\n: c\n",
    b"proxies = ['8081:envs/x.env:x']",
    b"PROVIDER=demo\nPORT=1\n",
    b'\x1d{"error":{"message":"x"}}',
    b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}]}',
]


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_accepts_any_bytes(name):
    chance = random.Random(1)
    for seed in SEEDS:
        TARGETS[name](seed)
        for _ in range(200):
            data = bytearray(seed)
            for _ in range(chance.randint(1, 6)):
                data[chance.randint(0, len(data)) :] += chance.randbytes(chance.randint(0, 9))
            TARGETS[name](bytes(data))


def test_the_script_prints_its_usage():
    words = [sys.executable, "-m", "tests.fuzz"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "sse|table|env|problem|request" in done.stderr
