"""The output of status and the results of a start: lines and exit codes."""

from __future__ import annotations

import re
from dataclasses import replace

import click
import pytest

from ccproxy import __version__
from ccproxy.build import installed_build
from ccproxy.cli.commands.fleet import status
from ccproxy.cli.exit_codes import exit_code_of
from ccproxy.cli.render import outcome
from ccproxy.cli.render.fleet_table import status_text
from ccproxy.config.fleet import Fleet
from ccproxy.ipc.control_messages import BudgetRow, PoolSharing, RetiringModel
from ccproxy.supervisor.control.client import FleetStatus
from ccproxy.supervisor.control.protocol import SupervisorInfo
from ccproxy.supervisor.control.status import Row
from tests.cli.vanishing_files import vanishing

REFUSED = "failed 7 times, next try in 22 s. Last line: BASE_URL is not a valid URL"
PORT = "port 8083 in use by node (pid 4411, user root)"


def row(
    label, state="ready", *, port=8081, reason=None, up=3600.0, keys=(2, 2), model="big-1", **more
):
    runs = state in ("ready", "degraded", "starting", "stopping")
    return Row(
        label=label,
        port=port,
        host="127.0.0.1",
        state=state,
        pids=(4711,) if runs else (),
        uptime_s=up if runs else None,
        keys={"ready": keys[0], "total": keys[1]},
        in_flight=1,
        models={"big": model, "middle": model, "small": "small-1"},
        base_url="https://api.example/v1",
        log="/x/logs/a.log",
        reason=reason,
        **more,
    )


def test_an_archive_that_is_deleted_at_the_same_time_is_not_counted(text, tmp_path):
    with vanishing(tmp_path / "logs"):
        assert all("Logs 0 B in" in text(row("a"))[-1] for _ in range(60))


@pytest.fixture
def text(tmp_path, monkeypatch):
    """Return the lines of the status of *rows*."""
    fleet = Fleet(home=tmp_path, file=tmp_path / "ccproxy.toml", entries=())

    def lines(*rows, columns=120, verbose=False, note="", supervisor=True, changed=()):
        monkeypatch.setenv("COLUMNS", str(columns))
        about = SupervisorInfo(pid=812, uptime_s=273600.0) if supervisor else None
        result = FleetStatus(config="x", supervisor=about, proxies=rows, note=note)
        return status_text(result, fleet, rows=rows, changed=changed, verbose=verbose).splitlines()

    return lines


def test_after_an_upgrade_the_running_version_is_shown_with_a_fix(text):
    """Workers run the old version until a reload."""
    (first, *_) = text(row("kimi", version="0.0.1"), row("glm", version=__version__))
    assert f"running 0.0.1, installed {__version__}: `ccproxy reload`" in first
    (first, *_) = text(row("kimi", version=__version__))
    assert "running" not in first


def test_older_code_of_the_same_version_is_reported(text):
    message = f"{__version__}, running older code: `ccproxy reload`"
    (first, *_) = text(row("kimi", version=__version__, build="0123456789ab"))
    assert message in first
    (first, *_) = text(row("kimi", version=__version__, build=installed_build()))
    assert "running" not in first


def test_a_problem_of_the_supervisor_is_shown_next_to_its_pid(text):
    (first, *_) = text(row("kimi"), note="disk full: /srv/logs")
    assert "supervisor pid 812 · " in first
    assert "disk full: /srv/logs" in first


def test_a_healthy_fleet(text, tmp_path):
    lines = text(row("claude"), row("kimi", port=8082, up=75.0, keys=(3, 3)))
    assert lines[0].startswith("ccproxy ")
    assert " · up 3d 4h · supervisor pid 812 · all 2 ready   config " in lines[0]
    assert [line.replace("\x1b[32m", "").replace("\x1b[0m", "") for line in lines[2:5]] == [
        "  LABEL   ADDRESS         STATE  UPTIME  KEYS  IN-FLIGHT   PID  MODEL",
        "● claude  127.0.0.1:8081  ready  1h       2/2          1  4711  big-1",
        "● kimi    127.0.0.1:8082  ready  1m 15s   3/3          1  4711  big-1",
    ]
    assert lines[-1] == f"Logs 0 B in 0 files (kept 3 days): {tmp_path / 'logs'}"


def test_an_unhealthy_fleet_is_shown_with_reasons_and_fixes(text):
    lines = text(
        row("claude"),
        row("kimi", "degraded", reason="1 of 3 keys rests", keys=(2, 3)),
        row("glm", "crash-loop", reason=REFUSED),
        row("deepseek", "foreign", reason=PORT),
    )
    output = "\n".join(lines)
    assert "1 ready, 1 degraded, 1 crash-loop, 1 foreign" in lines[0]
    assert f"✗\x1b[0m glm  {REFUSED}\n    fix: ccproxy logs glm" in output
    assert f"✗\x1b[0m deepseek  {PORT}\n    fix: stop the other program, or give deepseek" in output
    assert "◐\x1b[0m kimi  1 of 3 keys rests" in output
    assert output.count("fix: ") == 2


@pytest.mark.parametrize(
    ("state", "character"),
    [
        ("ready", "●"),
        ("starting", "◐"),
        ("degraded", "◐"),
        ("stopping", "◐"),
        ("stopped", "○"),
        ("crash-loop", "✗"),
        ("failed", "✗"),
        ("foreign", "✗"),
    ],
)
def test_a_state_has_a_mark_and_a_word(state, character, text):
    line = text(row("a", state))[3]
    assert character in line
    assert f" {state} " in line


@pytest.mark.parametrize(
    ("columns", "hidden"),
    [
        pytest.param(120, [], id="all fit"),
        pytest.param(80, ["IN-FLIGHT", "PID"], id="80 columns leave the model visible"),
        pytest.param(60, ["ADDRESS", "UPTIME", "IN-FLIGHT", "PID"], id="60 columns"),
    ],
)
def test_a_narrow_terminal_leaves_out_whole_columns_and_names_them(columns, hidden, text):
    lines = text(row("a" * 12, model="m" * 18), row("b"), columns=columns)[2:6]
    plain = [click.unstyle(line) for line in lines]
    assert max(map(len, plain)) <= columns
    heads = ["LABEL", "ADDRESS", "STATE", "UPTIME", "KEYS", "IN-FLIGHT", "PID", "MODEL"]
    assert plain[0].split() == [head for head in heads if head not in hidden]
    assert plain[1].endswith("m" * 18)
    assert plain[3] == (f"(terminal too narrow for: {', '.join(hidden)})" if hidden else "")


def test_verbose_adds_the_details(text):
    pool = PoolSharing(replicas=3, per_replica=("history", "sign-ins"))
    output = "\n".join(text(row("a", pool=pool), verbose=True))
    assert "3 share keys and budgets in Redis; each has its own history, sign-ins" in output
    assert "upstream  https://api.example/v1" in output
    assert "big big-1, middle big-1, small small-1" in output
    assert "/x/logs/a.log" in output


def test_a_bypassed_proxy_is_not_shown_as_ready(text):
    lines = text(row("claude"), row("glm", passes_to="https://api.anthropic.com"))
    output = [click.unstyle(line) for line in lines]
    assert "1 ready, 1 bypassed" in output[0]
    assert re.fullmatch(r"◐ glm .* bypassed .* → api\.anthropic\.com", output[4])
    assert "\x1b[33m" in lines[4]
    assert (
        "! glm: bypassed → api.anthropic.com, requests are not changed   (ccproxy toggle glm on)"
    ) in output


def test_a_reload_reports_a_bypass(capsys):
    outcome.report([row("glm", passes_to="https://api.anthropic.com")], seconds=9000.0)
    assert capsys.readouterr().out == (
        "  ✓ glm  127.0.0.1:8081  ready   bypassed → api.anthropic.com\n"
    )


def test_changes_since_the_start_are_named(text):
    lines = text(row("kimi"), row("glm"), changed=["glm"])
    assert "! changed since start: glm   (ccproxy reload)" in map(click.unstyle, lines)


def test_a_key_that_the_user_can_test_is_the_fix(text):
    lines = text(row("kimi", "degraded", reason="any wording", keys=(2, 3), faulty_key="k2"))
    assert "    fix: ccproxy keys kimi test k2" in lines


def test_a_dead_supervisor_is_reported(text):
    note = "supervisor down, 1 worker serving"
    assert note in text(row("a"), note=note, supervisor=False)[0]


def test_control_characters_of_workers_are_escaped(text):
    lines = text(row("a", "failed", reason="\x1b[2Jgone", model="m\x1b]0;x\x07"), verbose=True)
    output = "\n".join(lines).replace("\x1b[31m", "").replace("\x1b[0m", "")
    assert "\x1b" not in output
    assert "\\x1b[2Jgone" in output


# Exit codes.


@pytest.mark.parametrize(
    ("states", "note", "code"),
    [
        (["ready", "ready"], "", 0),
        (["ready"], "supervisor down, 1 worker serving", 1),
        (["ready", "degraded"], "", 1),
        (["ready", "stopped"], "", 1),
        (["crash-loop"], "", 1),
        (["starting"], "", 1),
        (["stopping"], "", 1),
        (["stopped", "stopped"], "", 3),
        (["stopped", "foreign"], "", 3),
    ],
)
def test_the_exit_code_of_status(states, note, code):
    rows = tuple(row(str(number), state) for number, state in enumerate(states))
    result = FleetStatus(config="x", supervisor=None, proxies=rows, note=note)
    assert status.exit_code(result, rows) == code


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([row("a"), row("b", "degraded")], 0),
        ([row("a"), row("b", "foreign")], 1),
        ([row("a", "foreign"), row("b", "foreign")], 5),
        ([row("a", "foreign"), row("b", "failed")], 1),
        ([row("a"), row("b", "starting")], 7),
        ([row("a", "failed", late=True)], 7),
        ([row("a", "failed", late=True), row("b", "crash-loop")], 1),
        ([row("a", "crash-loop")], 1),
    ],
)
def test_the_exit_code_of_a_start(rows, code):
    assert outcome.exit_code(rows) == code


@pytest.mark.parametrize(
    ("one", "code"),
    [
        (row("a", "foreign", reason=PORT), 5),
        (row("a", "starting"), 7),
        (row("a", "failed", reason=REFUSED), 1),
    ],
)
def test_a_single_failure_is_an_error_with_a_fix(one, code):
    error = outcome.failure(one)
    assert exit_code_of(error) == code
    assert str(error).startswith("a did not start: ")
    assert "\n  fix: " in str(error)


def test_the_last_output_of_a_late_worker_is_shown(tmp_path, capsys):
    fleet = Fleet(home=tmp_path, file=tmp_path / "ccproxy.toml", entries=())
    fleet.logs.mkdir()
    for label in ("late", "up", "foreign"):
        text = "".join(f"{label} {number}\n" for number in range(30))
        (fleet.logs / f"{label}.log").write_text(text)
    outcome.show_last_lines(fleet, [row("late", "starting"), row("up"), row("x", "foreign")])
    output = capsys.readouterr().err.splitlines()
    assert output == [f"late  late {number}" for number in range(10, 30)]


def test_a_start_is_reported_line_by_line(capsys):
    new, old = row("kimi", up=0.6, keys=(3, 3)), row("glm-4.6", up=7500.0, keys=(1, 1), port=18082)
    outcome.report([new, old, row("x", "foreign", reason=PORT)], seconds=0.9)
    assert capsys.readouterr().out == (
        "  ✓ kimi     127.0.0.1:8081   ready   3 keys   big-1\n"
        "  ✓ glm-4.6  127.0.0.1:18082  ready since 2h 5m   1 key   big-1\n"
        f"  ✗ x        127.0.0.1:8081   {PORT}\n"
        "      fix: stop the other program, or give x another port in the table\n"
    )


def test_budgets_are_shown_and_low_ones_are_warned_of(text):
    budget = BudgetRow(unit="USD", period="day", limit=5, spent=4.1, resets_at=1_800_000_000)
    low = replace(budget, client="…k3y1", is_low=True)
    spent = replace(budget, unit="tokens", limit=1000, spent=1200, uncounted=("x",))
    lines = text(row("kimi", budgets=(budget,)), verbose=True)
    assert any(
        "budget    4.10 of 5.00 USD per day (82 %), until 2027-01-15" in line for line in lines
    )
    assert not any(line.startswith("!") for line in lines)
    small = replace(budget, limit=0.02, spent=0.0076)
    lines = text(row("kimi", budgets=(small,)), verbose=True)
    assert any("budget    0.0076 of 0.0200 USD per day (38 %)" in line for line in lines)
    output = "\n".join(text(row("kimi", budgets=(low, spent))))
    assert "! kimi: budget: client key …k3y1: 4.10 of 5.00 USD per day (82 %)" in output
    assert "! kimi: budget spent: 1,200 of 1,000 tokens per day (120 %)" in output
    assert "their price is unknown: x" in output


def test_low_budgets_of_users_are_shown_once_for_all_entries(text):
    budget = BudgetRow(unit="USD", period="day", limit=5, resets_at=1_800_000_000)
    anna = replace(budget, user="anna", spent=5.5)
    others = [replace(budget, user=f"u{n}", spent=4 + n / 100, is_low=True) for n in range(20)]
    bob = replace(budget, user="bob", spent=1)
    entries = [row(label, budgets=(*others, bob, anna)) for label in ("kimi", "glm-4.6")]
    lines = [click.unstyle(line) for line in text(*entries, verbose=True) if "! " in line]
    assert lines[0].startswith("! budget spent: user anna: 5.50 of 5.00 USD per day (110 %)")
    assert lines[1].startswith("! budget: user u19: 4.19 of 5.00")
    assert lines[8:] == ["! 13 more low user budgets: ccproxy usage --by user"]


def test_retiring_models_are_warned_of(text):
    retiring = (
        RetiringModel(model="old", date="2199-12-11", successor="new"),
        RetiringModel(model="gone", date="2024-01-01"),
    )
    output = "\n".join(text(row("kimi", retiring=retiring)))
    assert "! kimi: the provider will retire old on 2199-12-11; its successor is new" in output
    assert "! kimi: the provider retired gone on 2024-01-01" in output
