"""`ccproxy probe`."""

from __future__ import annotations

import pytest

from ccproxy.cli.commands.inspect.probe import _question
from ccproxy.config.catalogue.measured_profiles import (
    MeasuredModel,
    Profiles,
    profiles_path,
    save_profile,
)
from ccproxy.ipc.control_messages import ProbeReply
from tests.cli.conftest import write_env


def test_a_running_proxy_is_measured(demo, ccproxy, process):
    assert process("start", "demo").returncode == 0
    done = ccproxy("probe", "demo", "--model", "demo", "--overflow")
    assert done.exit_code != 0
    same = "ccproxy probe Demo --model demo --max-cost=0.01 --overflow --yes"
    assert f"fix: {same}\n" in done.stderr
    done = ccproxy("probe", "demo", "--yes", "--model", "demo", "--overflow")
    assert done.exit_code == 0, done.output
    assert "demo: " in done.stdout
    assert "  longest answer: unknown, any limit is accepted" in done.stdout
    assert "  end of a stream: [DONE], finish_reason, usage in its own chunk" in done.stdout
    assert "  too-long request: " in done.stdout
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


def test_the_export_names_the_limits(home, ccproxy):
    url = "https://api.example.com/v1"
    write_env(home, "kimi", f"PROVIDER=kimi\nPROVIDER_BASE_URL={url}\nPROVIDER_API_KEY=sk-1\n")
    measured = MeasuredModel(
        date="2026-11-29", quirks={}, max_output=4096, overflow="Your tale is long\x1b[1m"
    )
    profiles = Profiles(base_url=url, provider="kimi")
    save_profile(profiles_path(home / "state", url), profiles, "kimi-x", measured)
    lines = ccproxy("probe", "kimi-k2", "--export").stdout.splitlines()
    assert "# longest answer: 4096 tokens (the catalogue's max_output)" in lines
    assert lines[-1].startswith("# refusal of a too-long request, not recognized: Your tale")
    assert "\x1b" not in lines[-1]


@pytest.mark.parametrize(
    ("plan", "question"),
    [
        pytest.param(
            ProbeReply(model="m", requests=9, dollars=0.5),
            "Send up to 9 small requests to m, for at most $0.0100?",
            id="the limit",
        ),
        pytest.param(
            ProbeReply(
                model="m", requests=9, dollars=0.001, overflow_tokens=120, overflow_dollars=1.2
            ),
            "Send up to 9 small requests to m, for at most $0.0010, "
            "and one of 120 tokens, for $1.2000 if it is accepted?",
            id="a too-long request",
        ),
        pytest.param(
            ProbeReply(model="m", requests=9, overflow_tokens=120),
            "Send up to 9 small requests to m, for at most an unknown price, "
            "and one of 120 tokens, for an unknown price if it is accepted?",
            id="no price",
        ),
    ],
)
def test_the_question(plan, question):
    assert _question(plan, 0.01) == question


@pytest.mark.parametrize(
    ("words", "report"),
    [
        (["kimi-k2", "--export"], "nothing has been measured at this address"),
        (["kimi-k2", "--yes"], "is not running"),
        (["kimi-k2", "--max-cost", "nan"], "'nan' is not a finite number"),
    ],
)
def test_mistakes(home, ccproxy, words, report):
    done = ccproxy("probe", *words)
    assert done.exit_code != 0
    assert report in done.stderr
