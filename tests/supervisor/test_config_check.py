"""The check of the user's files: its input, its reports, and when it is repeated."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ccproxy.errors import CcproxyError, ConfigError
from ccproxy.supervisor.config_check import ConfigCheck, check
from ccproxy.supervisor.processes.identity import command_lines_of_this_user
from tests.supervisor.conftest import eventually

ENTRY = '[[proxy]]\nport = 8081\nenv_file = "a.env"\nlabel = "A"\n'


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "a.env").write_text("PROVIDER=demo\n")
    (tmp_path / "b.env").write_text("PROVIDER=demo\nMAX_RETRIES=many\n")
    for name in ("a.env", "b.env"):
        (tmp_path / name).chmod(0o600)
    file = tmp_path / "ccproxy.toml"
    file.write_text('proxies = ["8081:a.env:A", "8082:b.env:B"]')
    return file


def test_only_the_env_files_of_the_given_labels_are_checked(table: Path) -> None:
    first, second = check(table, ["a"]).specs
    assert (first.label, first.models["big"]) == ("A", "demo-large")
    assert first.digest
    assert first.source
    assert (second.label, second.port, second.digest) == ("B", 8082, "")


def test_every_mistake_of_every_file_is_reported(table: Path) -> None:
    table.write_text(table.read_text().replace("]", ', "x:a.env:C"]'))
    with pytest.raises(ConfigError) as caught:
        check(table, [])
    assert {mistake.file.name for mistake in caught.value.mistakes} == {"ccproxy.toml", "b.env"}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda t: (t.parent / "a.env").write_text("PROVIDER=demo\n#"), id="env file"),
        pytest.param(lambda t: t.write_text('proxies = ["8083:a.env:A"]'), id="port"),
        pytest.param(lambda t: t.write_text('proxies = ["8081:a.env:a"]'), id="label"),
        pytest.param(lambda t: t.write_text(f"{ENTRY}workers = 2"), id="workers"),
    ],
)
def test_the_digest_covers_every_input_of_a_worker(
    table: Path, change: Callable[[Path], object]
) -> None:
    before = check(table, ["a"]).specs[0]
    assert check(table, ["a"]).specs[0] == before
    change(table)
    after = check(table, ["a"]).specs[0]
    assert after.digest != before.digest
    assert after.source != before.source


def test_proxy_variables_change_the_digest_but_not_the_source(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    before = check(table, ["a"]).specs[0]
    monkeypatch.setenv("HTTPS_PROXY", "http://user:password@proxy:3128")
    after = check(table, ["a"]).specs[0]
    assert after.digest != before.digest
    assert after.source == before.source
    assert "password" not in repr(after)


@pytest.mark.parametrize(
    ("text", "is_changed"),
    [
        pytest.param(f"\n{ENTRY}", False, id="the same entry"),
        pytest.param(ENTRY.replace("8081", "8089"), False, id="another port"),
        pytest.param(f'{ENTRY}fallback = ["B"]\n', True, id="a fallback"),
        pytest.param(f'{ENTRY}[routes]\n"*haiku*" = "A"\n', True, id="a route"),
    ],
)
def test_the_routing_digest_covers_routes_and_fallback_only(
    table: Path, text: str, *, is_changed: bool
) -> None:
    other = '\n[[proxy]]\nport = 8082\nenv_file = "b.env"\nlabel = "B"\n'
    table.write_text(ENTRY + other)
    before = check(table, ["a"]).routing
    table.write_text(text + other)
    assert (check(table, ["a"]).routing != before) is is_changed


def test_the_routing_digest_covers_the_local_table(table: Path) -> None:
    before = check(table, ["a"]).routing
    local = table.with_name("ccproxy.local.toml")
    local.write_text('proxies = ["8090:a.env:Mine"]\n')
    assert check(table, ["a"]).routing == before
    local.write_text('proxies = ["8090:a.env:Mine"]\n[fallback]\nMine = ["A"]\n')
    assert check(table, ["a"]).routing != before


async def test_a_changed_local_table_is_read_again(table: Path) -> None:
    runs = ConfigCheck(table)
    first = await runs(["A"], cwd=None)
    table.with_name("ccproxy.local.toml").write_text('proxies = ["8090:a.env:Mine"]\n')
    second = await runs(["A"], cwd=None)
    labels = [spec.label for spec in second.specs]
    assert labels == [*(spec.label for spec in first.specs), "Mine"]


async def test_an_unchanged_table_is_not_read_again(table: Path) -> None:
    runs = ConfigCheck(table)
    first = await runs(["A"], cwd=None)
    assert await runs(["a"], cwd=None) is first
    (table.parent / "a.env").write_text("PROVIDER=demo\n\n")
    second = await runs(["A"], cwd=None)
    assert second.specs[0].digest != first.specs[0].digest
    third = await runs(["A"], cwd=None, network={"HTTPS_PROXY": "http://p:1"})
    assert third.specs[0].digest != second.specs[0].digest


@pytest.mark.parametrize("edited", ["ccproxy.toml", "a.env", "keys.txt"])
async def test_a_file_that_is_edited_during_a_check_is_read_again(table: Path, edited: str) -> None:
    """A reload would otherwise report that nothing has changed until the next edit."""
    (table.parent / "keys.txt").write_text("sk-one\n")
    (table.parent / "keys.txt").chmod(0o600)
    (table.parent / "a.env").write_text("PROVIDER=kimi\nPROVIDER_API_KEYS_FILE=keys.txt\n")
    edit = f"open({str(table.parent / edited)!r}, 'a').write('#edited\\n')"
    code = (
        f"import sys; from ccproxy.supervisor.config_check import main; main(sys.argv[1:]); {edit}"
    )
    runs = ConfigCheck(table, command=[sys.executable, "-c", code])
    first = await runs(["A"], cwd=None)
    assert await runs(["A"], cwd=None) is not first


async def test_mistakes_found_by_the_child_arrive_with_file_and_line(table: Path) -> None:
    with pytest.raises(ConfigError, match="MAX_RETRIES") as caught:
        await ConfigCheck(table)([], cwd=str(table.parent))
    (mistake,) = caught.value.mistakes
    assert (mistake.file, mistake.line) == (Path("b.env"), 2)


async def test_a_child_that_fails_is_reported_with_its_last_line(table: Path) -> None:
    command = [sys.executable, "-c", "raise RuntimeError('no disk')"]
    with pytest.raises(CcproxyError, match="could not be read: RuntimeError: no disk"):
        await ConfigCheck(table, command=command)([], cwd=None)


async def test_a_child_that_does_not_exit_is_killed(table: Path) -> None:
    """For example if an env file is a pipe; otherwise it would block every later operation."""
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    with pytest.raises(CcproxyError, match=r"not be read within 0\.2 s\n  fix: look for an env f"):
        await ConfigCheck(table, command=command, limit=0.2)([], cwd=None)
    await asyncio.to_thread(
        eventually,
        lambda: not any(str(table) in arguments for _, arguments in command_lines_of_this_user()),
    )


async def test_a_deleted_python_environment_is_reported_with_the_fix(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/gone/.venv/bin/python")
    with pytest.raises(CcproxyError, match=r"/gone/\.venv/bin/python is missing.*install ccproxy"):
        await ConfigCheck(table, command=[sys.executable, "-c", ""])([], cwd=None)


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("control.client", {"asyncio", "psutil", "tempfile"}),
        ("control.worker_requests", {"asyncio", "psutil", "tempfile"}),
        ("main_loop", {"psutil", "ccproxy.config.worker_config"}),
    ],
)
def test_a_module_does_not_import_slow_or_large_modules(module: str, forbidden: set[str]) -> None:
    forbidden = forbidden | {"aiohttp", "structlog", "msgspec", "rich", "uvloop", "dotenv"}
    code = f"import sys, ccproxy.supervisor.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert f"ccproxy.supervisor.{module}" in loaded
    assert forbidden & loaded == set()
