"""`ccproxy probe`."""

from __future__ import annotations

import pytest

from ccproxy.config.catalogue.measured_profiles import (
    MeasuredModel,
    Profiles,
    profiles_path,
    save_profile,
)
from tests.cli.conftest import write_env


def test_a_running_proxy_is_measured(demo, ccproxy, process):
    assert process("start", "demo").returncode == 0
    done = ccproxy("probe", "demo", "--model", "demo")
    assert done.exit_code != 0
    assert "fix: ccproxy probe Demo --yes" in done.stderr
    done = ccproxy("probe", "demo", "--yes", "--model", "demo")
    assert done.exit_code == 0, done.output
    assert "demo: " in done.stdout
    assert "To apply it: ccproxy restart Demo" in done.stdout
    process("stop")


def test_the_export_is_a_row_of_the_presets(home, ccproxy):
    url = "https://api.example.com/v1"
    write_env(home, "kimi", f"PROVIDER=kimi\nPROVIDER_BASE_URL={url}\nPROVIDER_API_KEY=sk-1\n")
    quirks = {"stop": False, "efforts": ["low", "high"], "max_tools": 128}
    measured = MeasuredModel(date="2026-11-29", quirks=quirks, differs=("efforts", "stop"))
    profiles = Profiles(base_url=url, provider="kimi")
    save_profile(profiles_path(home / "state", url), profiles, "kimi-x", measured)
    assert ccproxy("probe", "kimi-k2", "--export").stdout.splitlines() == [
        "[[kimi.models]] # measured 2026-11-29",
        'names = ["kimi-x"]',
        'quirks = { efforts = ["low", "high"], stop = false }',
    ]


@pytest.mark.parametrize(
    ("words", "report"),
    [
        (["kimi-k2", "--export"], "nothing was measured at this address"),
        (["kimi-k2", "--yes"], "is not running"),
    ],
)
def test_mistakes(home, ccproxy, words, report):
    done = ccproxy("probe", *words)
    assert done.exit_code != 0
    assert report in done.stderr
