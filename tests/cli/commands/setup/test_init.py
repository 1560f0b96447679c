"""`ccproxy init`: from a key to an answer; existing files are unchanged."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from ccproxy.cli.setup import new_proxy
from ccproxy.config.fleet import Fleet, load_fleet
from ccproxy.config.fleet_check import load_all
from ccproxy.config.worker_config import load_worker
from ccproxy.providers.presets import load_presets
from tests.cli.conftest import TABLE, command, write_env
from tests.cli.terminal import Terminal
from tests.fleet import ROOT, FleetHome
from tests.ports import free_port
from tests.provider import completion, failure, raw

KEY = "sk-the-provider-0123456789abcdef"
OTHER = "sk-the-second-fedcba9876543210"
ASK = """
import os, urllib.request
request = urllib.request.Request(
    os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages",
    data=b'{"model":"claude-opus-4-5","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}',
    headers={"x-api-key": os.environ.get("KEY", os.environ["ANTHROPIC_AUTH_TOKEN"])},
)
print(urllib.request.urlopen(request).read().decode())
"""


@pytest.fixture
def init(ccproxy):
    """Run the command like a script; *stdin* is the input of --key-stdin."""

    def run(*words, stdin=KEY):
        return ccproxy("init", "--no-input", *words, input=stdin)

    return run


def env_of(folder: Path, label: str):
    entry = load_fleet(folder / "ccproxy.toml").entry(label)
    return load_worker(entry.env_file, entry=entry)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# From an empty folder to an answer.


@pytest.mark.xdist_group("processes")
async def test_two_commands_are_enough(tmp_path, provider):
    async with FleetHome(tmp_path) as home:
        words = ["--preset", "custom", "--base-url", provider.url, "--model", "m1"]
        done = await with_stdin(home, KEY, "init", "--no-input", "--key-stdin", *words)
        assert done.returncode == 0, done.stderr
        assert "Next:  ccproxy run custom -- claude" in done.stderr
        run = ("run", "custom", "--", sys.executable, "-c", ASK)
        output = await home.ccproxy(*run)
        assert (output.code, json.loads(output.out)["type"]) == (0, "message"), output.err
        assert [(call.key, call.json["model"]) for call in provider.calls] == [(KEY, "m1")]
        for wrong in ("", "ccp_wrong"):
            refused = await home.ccproxy(*run, KEY=wrong)
            assert "401" in refused.err
        assert len(provider.calls) == 1


async def with_stdin(home, typed, *words):
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "ccproxy", *words],
        cwd=home.path,
        env=home.environ,
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("words", "location"),
    [
        pytest.param([], "user/.config/ccproxy/ccproxy.toml", id="the user's config folder"),
        pytest.param(["-c", "new/my.toml"], "here/new/my.toml", id="at --config"),
    ],
)
def test_a_table_is_created(words, location, init, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    old = os.umask(0)
    try:
        done = init("--preset", "kimi", "--key-stdin", *words)
    finally:
        os.umask(old)
    assert done.exit_code == 0, done.stderr
    table = tmp_path / location
    checked = load_all(table)
    assert [entry.label for entry in checked.fleet.entries] == ["kimi"]
    assert '"8081:envs/kimi.env:kimi"' in table.read_text() or checked.fleet.entries[0].port > 8081
    written = [path for path in tmp_path.rglob("*") if path.name != "here"]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in written}
    assert modes == {path: 0o700 if path.is_dir() else 0o600 for path in written}


# The table is found from any folder.

PROGRAM = "#!{python}\nfrom ccproxy.cli.main import main\nmain()\n"


@pytest.fixture
def program(home, monkeypatch):
    """The command that `make run` installs next to the table; the user is in another folder."""
    environment = home / ".venv"
    venv.create(environment, symlinks=True)
    program = environment / "bin/ccproxy"
    program.write_text(PROGRAM.format(python=environment / "bin/python"))
    program.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    elsewhere = Path(os.environ["HOME"], "my-project")
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return program


def test_no_second_fleet_is_created_next_to_the_first(program, home):
    words = ["init", "--no-input", "--preset", "demo", "--label", "New"]
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"Config   {home}/ccproxy.toml\n" in done.stderr
    assert not Path(os.environ["HOME"], ".config").exists()
    assert [entry.label for entry in load_fleet(home / "ccproxy.toml").entries][-1] == "New"


@pytest.mark.xdist_group("processes")
def test_run_finds_the_table_next_to_its_program(program, home):
    entry = f'["{free_port()}:envs/demo.env:Demo"]'
    (home / "ccproxy.toml").write_text(f"proxies = {entry}\n")
    write_env(home, "demo", "PROVIDER=demo\n")
    words = ["run", "demo", "--", "printenv", "ANTHROPIC_BASE_URL"]
    try:
        done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert f"Config   {home}/ccproxy.toml\n" in done.stderr
    finally:
        subprocess.run([program, "stop", "--now"], capture_output=True, check=True)


def test_the_table_keeps_every_line(init, home):
    before = "# mine\n" + TABLE + "\n[fallback]   # my comment\nKimi-K2 = ['GLM-4.6']\n"
    (home / "ccproxy.toml").write_text(before)
    (home / "ccproxy.toml").chmod(0o644)
    done = init("--preset", "deepseek", "--key-stdin", "--port", str(port := free_port()))
    assert done.exit_code == 0, done.stderr
    table = home / "ccproxy.toml"
    assert table.read_text().startswith(before)
    assert stat.S_IMODE(table.stat().st_mode) == 0o644
    added = load_all(table).fleet.entries[2]
    assert (added.label, added.port, added.env_file) == (
        *("deepseek", port),
        home / "envs/deepseek.env",
    )
    assert not [path for path in home.iterdir() if path.name.startswith("tmp")]


def test_in_a_clone_the_tracked_table_is_not_changed(init, home, ccproxy):
    (home / ".git").mkdir()
    (home / "ccproxy").mkdir()
    (home / "ccproxy/__init__.py").touch()
    before = (home / "ccproxy.toml").read_bytes()
    for label in ("One", "Two"):
        words = ["--preset", "deepseek", "--label", label, "--key-stdin"]
        done = init(*words)
        assert done.exit_code == 0, done.stderr
        assert "Added to ccproxy.local.toml\n" in done.stdout
    assert (home / "ccproxy.toml").read_bytes() == before
    fleet = load_all(home / "ccproxy.toml").fleet
    assert [entry.label for entry in fleet.entries] == ["Kimi-K2", "GLM-4.6", "One", "Two"]
    assert len({entry.port for entry in fleet.entries}) == 4
    done = ccproxy("remove", "one", "--yes")
    assert done.stdout == "Removed One from ccproxy.local.toml.\n", done.stderr
    assert [entry.label for entry in load_fleet(home / "ccproxy.toml").entries][2:] == ["Two"]


def test_git_ignores_files_with_secrets_in_a_clone():
    ignored = {*(ROOT / ".gitignore").read_text().splitlines()}
    assert {"/ccproxy.local.toml", "envs/*.env", "envs/*.keys", "envs/*.pem", ".*.tmp"} <= ignored


@pytest.mark.parametrize("table", ["", "# nothing yet\n", "proxies = []\n"])
def test_an_empty_table_gets_its_first_proxy(table, init, home):
    (home / "ccproxy.toml").write_text(table)
    assert init("--preset", "kimi", "--label", "Moon", "--key-stdin").exit_code == 0
    assert [entry.label for entry in load_fleet(home / "ccproxy.toml").entries] == ["Moon"]
    assert (home / "ccproxy.toml").read_text().startswith(table)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(
            ["--preset", "zai", "--key-stdin"],
            ("zai", "https://api.z.ai/api/paas/v4", "glm-5.3", "glm-5.3-flash"),
            id="a preset alone is sufficient",
        ),
        pytest.param(
            ["--preset", "zai", "--key-stdin", "--model", "glm-4.6"],
            ("zai", "https://api.z.ai/api/paas/v4", "glm-4.6", "glm-4.6"),
            id="the chosen model is used for every tier",
        ),
        pytest.param(
            ["--preset", "KIMI", "--key-stdin", "--base-url", "https://api.moonshot.cn/v1"],
            ("kimi", "https://api.moonshot.cn/v1", "kimi-k3.1-pro", "kimi-k2.6"),
            id="a preset at another address",
        ),
        pytest.param(
            ["--base-url", "http://10.0.0.5:8000/v1", "--model", "q", "--key-stdin"],
            ("", "http://10.0.0.5:8000/v1", "q", "q"),
            id="an address without a preset is a custom server",
        ),
        pytest.param(
            ["--preset", "ollama"],
            ("ollama", "http://127.0.0.1:11434/v1", "qwen3-coder:30b", "qwen3-coder:30b"),
            id="no key if none is needed",
        ),
        pytest.param(
            ["--preset", "anthropic", "--key-stdin"],
            ("anthropic", "https://api.anthropic.com", None, None),
            id="a preset without models passes names on",
        ),
    ],
)
def test_written_files(words, expected, init, home):
    done = init("--label", "New", *words)
    assert done.exit_code == 0, done.stderr
    config = env_of(home, "new")
    output = (config.provider, config.base_url, config.models.big, config.models.small)
    assert output == expected
    assert config.api_keys == ((KEY,) if "--key-stdin" in words else ("ollama",))


@pytest.mark.parametrize(
    ("preset", "endpoint", "provider", "base_url"),
    [
        ("kimi", "china", "kimi", "https://api.moonshot.cn/v1"),
        ("kimi", "international", "kimi", "https://api.moonshot.ai/v1"),
        ("minimax", "china", "minimax", "https://api.minimax.cn/v1"),
        ("kimi", "coding-plan", "kimi-code", "https://api.kimi.ai/coding/v1"),
        ("zai", "coding-plan", "zai", "https://api.z.ai/api/coding/paas/v4"),
        ("zai", "china", "bigmodel", "https://open.bigmodel.cn/api/paas/v4"),
        ("qwen", "2", "qwen", "https://dashscope.aliyuncs.com/compatible-mode/v1"),
    ],
)
def test_a_region_or_plan(preset, endpoint, provider, base_url, init, home):
    done = init("--preset", preset, "--endpoint", endpoint, "--label", "New", "--key-stdin")
    assert done.exit_code == 0, done.stderr
    config = env_of(home, "new")
    assert (config.provider, config.base_url) == (provider, base_url)


def test_a_plan_has_its_own_models(init, home):
    """The env file names the plan, not its address, so that its models are known."""
    words = ("--preset", "qwen", "--endpoint", "coding-plan", "--label", "New", "--key-stdin")
    assert init(*words).exit_code == 0
    text = (home / "envs/new.env").read_text()
    assert "\nPROVIDER_PLAN=coding-plan\n" in text
    assert "BASE_URL" not in text
    config = env_of(home, "new")
    assert (config.models.big, config.models.small) == ("qwen3.7-plus", "qwen3-coder-next")


@pytest.mark.parametrize(
    ("words", "window"),
    [
        pytest.param([], None, id="unknown"),
        pytest.param(["--context-window", "40k"], 40000, id="as the user answers"),
    ],
)
def test_the_window_of_an_unknown_server(words, window, init, home):
    server = ["--base-url", "http://10.0.0.5:8000/v1", "--model", "m1", "--label", "New"]
    done = init("--key-stdin", *server, *words)
    assert done.exit_code == 0, done.stderr
    assert env_of(home, "new").context_window == window


@pytest.mark.parametrize("name", load_presets())
def test_every_preset_can_be_added(name, init, home):
    words = [] if load_presets()[name].base_url else ["--base-url", "https://x.example.com"]
    done = init("--preset", name, "--label", "New", "--key-stdin", *words)
    assert done.exit_code == 0, done.stderr
    assert load_all(home / "ccproxy.toml").workers["New"].provider == name


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        pytest.param(f"{KEY}\n{OTHER}\n", (KEY, OTHER), id="one a line"),
        pytest.param(f"{KEY}, {OTHER},{KEY}", (KEY, OTHER), id="split by commas, each once"),
        pytest.param(f"\r\n  {KEY}\r\n\r\n", (KEY,), id="blank lines and ends of other systems"),
        pytest.param("sk-a|b\\d$e~f-0123", ("sk-a|b\\d$e~f-0123",), id="punctuation"),
    ],
)
def test_keys_are_stored_unchanged(typed, expected, init, home):
    assert init("--preset", "deepseek", "--key-stdin", stdin=typed).exit_code == 0
    assert env_of(home, "deepseek").api_keys == expected


def test_each_proxy_gets_a_client_key_of_256_bits(init, home):
    for label in ("one", "two"):
        assert init("--preset", "demo", "--label", label).exit_code == 0
    keys = [env_of(home, label).client_keys for label in ("one", "two")]
    assert all(re.fullmatch(r"ccp_[A-Za-z0-9_-]{43}", key) for (key,) in keys)
    assert keys[0] != keys[1]


@pytest.mark.parametrize("words", [[], ["--json"], ["-v"]])
def test_no_key_is_shown(words, init, home):
    typed = f"{KEY}\n{OTHER}"
    done = init("--preset", "deepseek", "--key-stdin", *words, stdin=typed)
    config = env_of(home, "deepseek")
    for secret in (*config.api_keys, *config.client_keys):
        assert secret[:8] not in done.stdout + done.stderr
        assert secret[8:-4] not in done.stdout + done.stderr
    if words == ["--json"]:
        assert json.loads(done.stdout) == {
            "schema": 1,
            "proxy": {
                "label": "deepseek",
                "port": config.port,
                "env_file": str(home / "envs/deepseek.env"),
                "table": str(home / "ccproxy.toml"),
            },
        }


# Invalid options: nothing is written, and the error has a fix.

DEEPSEEK = ["--preset", "deepseek", "--key-stdin"]


@pytest.mark.parametrize(
    ("words", "typed", "code", "expected"),
    [
        (["--preset", "deepsek"], KEY, 2, 'unknown provider "deepsek" (did you mean "deepseek"?)'),
        ([], KEY, 2, "--preset is missing"),
        (["--preset", "deepseek"], "", 2, "--key-stdin is missing: DeepSeek needs a key"),
        (["--base-url", "https://x.example"], "", 2, "or any text if the server needs no key"),
        (["--preset", "custom", "--key-stdin", "--model", "m"], KEY, 2, "--base-url is missing"),
        (["--preset", "azure", "--key-stdin"], KEY, 2, "--base-url is missing"),
        (["--base-url", "https://x.example/v1", "--key-stdin"], KEY, 2, "--model is missing"),
        ([*DEEPSEEK, "--base-url", "http://x.example/v1"], KEY, 2, "send the key unencrypted"),
        ([*DEEPSEEK, "--base-url", "x.example"], KEY, 2, "must be an http:// or https://"),
        ([*DEEPSEEK, "--context-window", "1G"], KEY, 2, "must be a whole number of tokens"),
        ([*DEEPSEEK, "--model", "a,b"], KEY, 2, "must be the name of one model"),
        (["--preset", "kimi", "--key-stdin", "--endpoint", "chna"], KEY, 2, 'mean "china"?'),
        ([*DEEPSEEK, "--endpoint", "china"], KEY, 2, "DeepSeek has only one endpoint"),
        (
            ["--preset", "kimi", "--key-stdin", "--endpoint", "china", "--base-url", "https://x.y"],
            KEY,
            2,
            "--endpoint and --base-url cannot be combined",
        ),
        ([*DEEPSEEK, "--label", "kimi-k2"], KEY, 2, "the label Kimi-K2 already exists (ccproxy.to"),
        ([*DEEPSEEK, "--label", "../x"], KEY, 2, '"../x" is not a valid label: use 1 to 32'),
        ([*DEEPSEEK, "--label", "Supervisor"], KEY, 2, 'the label "Supervisor" is reserved'),
        ([*DEEPSEEK, "--label", "glm"], KEY, 2, "refusing to overwrite envs/glm"),
        ([*DEEPSEEK, "--port", "18082"], KEY, 2, "port 18082 belongs to GLM-4.6"),
        ([*DEEPSEEK, "--port", "0"], KEY, 2, "the port must be a port from 1 to 65535"),
        ([*DEEPSEEK, "--base-url", "http://127.0.0.1:18082/v1"], KEY, 78, "the proxy GLM-4.6"),
        ([*DEEPSEEK, "--model", OTHER], KEY, 2, "the model cannot be a key"),
        ([*DEEPSEEK, "--model", "https://x.example/v1"], KEY, 2, "the model cannot be an address"),
        (DEEPSEEK, "", 2, "no key was entered"),
        (DEEPSEEK, "\n \n", 2, "no key was entered"),
        (DEEPSEEK, ",", 2, "stdin contains no key, only commas"),
        (DEEPSEEK, "your-api-key", 2, "stdin contains a placeholder, not a key"),
        (DEEPSEEK, f"{KEY}\nsk-xxx", 2, "stdin (key 2 of 2) contains a placeholder"),
        (DEEPSEEK, "changeme", 2, "stdin contains a placeholder, not a key"),
        (DEEPSEEK, "sk-two words-0123456789", 2, "stdin contains a space"),
    ],
)
def test_mistakes(words, typed, code, expected, init, home):
    before = everything(home)
    done = init(*words, stdin=typed)
    assert (done.exit_code, expected in done.stderr) == (code, True), done.stderr
    assert "fix: " in done.stderr
    for key in (KEY, OTHER):
        assert key[:10] not in done.stderr
    assert everything(home) == before


def test_a_used_port_is_refused(init, home):
    before = everything(home)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        done = init(*DEEPSEEK, "--port", str(port))
    assert done.exit_code == 5
    assert f"port {port} in use" in done.stderr
    assert everything(home) == before


def test_a_used_port_is_not_proposed(tmp_path):
    fleet = Fleet(home=tmp_path, file=tmp_path / "ccproxy.toml", entries=())
    first = new_proxy.propose_port(fleet)
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", first))
        stranger.listen()
        assert new_proxy.propose_port(fleet) > first


def test_a_port_in_a_comment_can_be_proposed(tmp_path):
    table = tmp_path / "ccproxy.toml"
    fleet = Fleet(home=tmp_path, file=table, entries=())
    first = new_proxy.propose_port(fleet)
    table.write_text(f"""\
proxies = [
  # "{first}:envs/kimi.env:Kimi",
]
# [[proxy]]
# port = {first + 1}
""")
    assert new_proxy.propose_port(fleet) == first


@pytest.mark.parametrize("table", [TABLE, None], ids=["added to", "begun"])
def test_the_shown_files_equal_the_written_ones(table, init, home):
    if table is None:
        (home / "ccproxy.toml").unlink()
    done = init("-c", "ccproxy.toml", "--preset", "demo")
    _, output = done.stdout.split("Added to ccproxy.toml\n")
    written = (home / "ccproxy.toml").read_text()
    assert written.endswith("\n".join(line[2:] for line in output.splitlines() if line) + "\n")


def test_a_table_with_mistakes_is_unchanged(init, home):
    (home / "ccproxy.toml").write_text(TABLE.replace("18082", "18081"))
    before = everything(home)
    done = init(*DEEPSEEK)
    assert (done.exit_code, "port 18081 is used twice" in done.stderr) == (78, True)
    assert everything(home) == before


def test_a_table_that_ends_in_another_form_is_unchanged(init, home):
    row = '{port = 18081, env_file = "envs/kimi.env", label = "K"}'
    (home / "ccproxy.toml").write_text(f"proxy = [{row}]\n")
    before = everything(home)
    done = init(*DEEPSEEK)
    assert (done.exit_code, "add this by hand" in done.stderr) == (1, True)
    assert everything(home) == before


def test_a_planted_link_is_not_followed(init, home):
    victim = home / "victim"
    (home / "envs/deepseek.env").symlink_to(victim)
    assert init(*DEEPSEEK).exit_code == 2
    assert not victim.exists()


def test_a_pipe_instead_of_the_table_does_not_block(init, home):
    (home / "ccproxy.toml").unlink()
    os.mkfifo(home / "ccproxy.toml")
    done = init(*DEEPSEEK, "-c", "ccproxy.toml")
    assert (done.exit_code, "not a regular file" in done.stderr) == (78, True)
    assert not (home / "envs/deepseek.env").exists()


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from ccproxy.cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("room", "expected"),
    [pytest.param(0, "", id="env file"), pytest.param(2000, "#" * 2000, id="table")],
)
def test_a_full_disk_leaves_no_incomplete_file(room, expected, home):
    (home / "ccproxy.toml").write_text(f"{TABLE}{expected}\n")
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    words = ["init", "--no-input", *DEEPSEEK]
    done = subprocess.run(
        [sys.executable, "-B", "-c", LIMITED, str(room), *words],
        input=KEY.encode(),
        capture_output=True,
    )
    assert (done.returncode, b"too large" in done.stderr) == (1, True), done
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


# Several proxies.


@pytest.mark.xdist_group("processes")
@pytest.mark.parametrize("table", [TABLE, None], ids=["added to", "begun"])
def test_concurrent_commands_lose_no_entry(table, home):
    if table is None:
        (home / "ccproxy.toml").unlink()
    labels = [f"L{number}" for number in range(6)]
    words = ["-c", "ccproxy.toml", "init", "--no-input", "--preset", "kimi", "--key-stdin"]
    running = [
        subprocess.Popen(
            command(*words, "--label", label, "--port", free_port()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for label in labels
    ]
    output = [one.communicate(KEY.encode())[0] for one in running]
    assert [one.returncode for one in running] == [0] * len(labels), output
    written = [entry.label for entry in load_fleet(home / "ccproxy.toml").entries]
    assert sorted(written) == sorted(labels + (["Kimi-K2", "GLM-4.6"] if table else []))


def test_changes_by_an_editor_are_preserved(init, home, monkeypatch):
    sync = os.fsync
    saved = ["# saved by hand\n", "# and again\n"]

    def save_first(fd):
        sync(fd)
        if saved:
            with (home / "ccproxy.toml").open("a") as table:
                table.write(saved.pop(0))

    monkeypatch.setattr(os, "fsync", save_first)
    assert init(*DEEPSEEK).exit_code == 0
    table = (home / "ccproxy.toml").read_text()
    assert "# saved by hand\n# and again\n" in table
    assert "deepseek" in table
    assert not [path for path in home.iterdir() if path.name.startswith("tmp")]


# The test request, before any file is written.


@pytest.mark.xdist_group("processes")
@pytest.mark.parametrize(
    ("answer", "code", "expected"),
    [
        (None, 0, "✓ …cdef  works  ("),
        (failure(401, "no such key"), 4, "no such key"),
        (failure(402, "no money"), 4, "no money"),
        (failure(404, "no such model"), 1, "no such model"),
    ],
)
async def test_the_provider_is_tested_before_files_are_written(
    answer, code, expected, tmp_path, provider
):
    if answer is not None:
        provider.script(answer)
    async with FleetHome(tmp_path) as home:
        words = ["--base-url", provider.url, "--model", "m1", "--key-stdin", "--test"]
        done = await with_stdin(home, f"{KEY}\n", "init", "--no-input", *words)
        assert (done.returncode, expected in done.stderr) == (code, True), done.stderr
        assert {call.key for call in provider.calls} == {KEY}
        assert (tmp_path / ".config/ccproxy").exists() is (code == 0)
        assert "test.env" not in done.stderr, "the user has never seen this file"
        assert home.processes() == []
        assert KEY not in done.stdout + done.stderr


@pytest.mark.xdist_group("processes")
async def test_the_api_and_the_window_of_a_server_are_found(tmp_path, provider):
    def answer(call):
        return completion("ok") if call.path.endswith("/responses") else failure(404)

    provider.script(answer)
    provider.pages["/v1/models"] = raw(json.dumps({"data": [{"id": "m1", "max_model_len": 32768}]}))
    async with FleetHome(tmp_path) as home:
        words = ["--base-url", provider.url, "--model", "m1", "--key-stdin", "--test"]
        done = await with_stdin(home, KEY, "init", "--no-input", *words)
        assert done.returncode == 0, done.stderr
        assert "The server works with PROVIDER_API=responses; using that\n" in done.stderr
        assert "✗" not in done.stderr
        (env_file,) = tmp_path.glob(".config/ccproxy/envs/*.env")
        assert "PROVIDER_API=responses\n" in env_file.read_text()
        assert "CONTEXT_WINDOW=32768\n" in env_file.read_text()
        assert "unknown" not in done.stderr


@pytest.mark.xdist_group("processes")
async def test_a_path_without_an_api_is_reported_with_both_causes(tmp_path, provider):
    page = {"Content-Type": "text/html"}
    provider.script(raw("<html>nothing here</html>", status=404, headers=page))
    async with FleetHome(tmp_path) as home:
        words = ["--base-url", provider.url, "--model", "m1", "--key-stdin", "--test"]
        done = await with_stdin(home, KEY, "init", "--no-input", *words)
    assert done.returncode == 1, done.stderr
    assert "fix: check the address (--base-url) and the API (--api)" in done.stderr


def test_untested_keys_and_unknown_windows_are_reported(init, home):
    server = ["--base-url", "http://10.0.0.5:8000/v1", "--model", "m1", "--label", "New"]
    done = init("--key-stdin", *server)
    assert "note: the context window of m1 is unknown" in done.stderr
    assert "Set CONTEXT_WINDOW in new.env." in done.stderr
    assert "note: 1 key not tested; to test: ccproxy keys New test" in done.stderr
    done = init("--preset", "kimi", "--label", "Other", "--key-stdin")
    assert "window" not in done.stderr


def test_the_api_can_be_selected(init, home):
    server = ["--base-url", "http://10.0.0.5:8000/v1", "--model", "m1", "--label", "New"]
    assert init("--key-stdin", *server, "--api", "responses").exit_code == 0
    assert env_of(home, "new").api == "responses"


@pytest.mark.xdist_group("processes")
async def test_each_key_is_tested(tmp_path, provider):
    provider.script(completion("ok"), failure(401, "no such key"))
    async with FleetHome(tmp_path) as home:
        words = ["--base-url", provider.url, "--model", "m1", "--key-stdin", "--test"]
        done = await with_stdin(home, f"{KEY};priority=2\n{OTHER}\n", "init", "--no-input", *words)
    assert done.returncode == 4, done.stderr
    assert "✓ key 1 of 2 …cdef;priority=2  works  (" in done.stderr
    assert "✗ key 2 of 2 …3210  401 " in done.stderr
    assert [call.key for call in provider.calls] == [KEY, OTHER]


@pytest.mark.xdist_group("processes")
@pytest.mark.parametrize("refusal", [failure(401, "no such key"), failure(402, "no balance")])
async def test_for_a_rejected_key_the_other_regions_and_plans_are_named(
    refusal, tmp_path, provider
):
    provider.script(refusal)
    async with FleetHome(tmp_path) as home:
        words = ["--preset", "kimi", "--base-url", provider.url, "--key-stdin", "--test"]
        done = await with_stdin(home, KEY, "init", "--no-input", *words)
    assert done.returncode == 4, done.stderr
    assert "The key may belong to another region or plan" in done.stderr
    assert "--endpoint china              https://api.moonshot.cn/v1" in done.stderr


@pytest.mark.xdist_group("processes")
async def test_a_failure_that_affects_every_key_is_tested_once(tmp_path):
    async with FleetHome(tmp_path) as home:
        address = f"http://127.0.0.1:{free_port()}/v1"
        words = ["--base-url", address, "--model", "m1", "--key-stdin", "--test"]
        done = await with_stdin(home, f"{KEY}\n{OTHER}\n", "init", "--no-input", *words)
    assert done.returncode == 1
    assert done.stderr.count("connection refused") == 1
    assert "1 other key not tested" in done.stderr


@pytest.mark.xdist_group("processes")
async def test_a_fix_names_options_that_exist(tmp_path):
    async with FleetHome(tmp_path) as home:
        address = f"http://127.0.0.1:{free_port()}/v1"
        words = ["--base-url", address, "--model", "m1", "--key-stdin", "--test"]
        done = await with_stdin(home, KEY, "init", "--no-input", *words)
    assert done.returncode == 1
    assert "connection refused: " in done.stderr
    assert "fix: check the address (--base-url)" in done.stderr
    assert "log file" not in done.stderr


# At a terminal.


def a_conversation(url: str) -> Terminal:
    terminal = Terminal("init")
    for question, answer in [
        ("name or number): ", "kimmi\n"),
        ('did you mean "kimi"', "custom\n"),
        ("Base URL: ", f"{url}\n"),
        ("an empty line (not shown):", "your-api-key\n\n"),
        ("placeholder", ""),
        ("an empty line (not shown):", "\n"),
        ("no key was entered", ""),
        ("an empty line (not shown):", f"{KEY};weight=2\n{OTHER}\n\n"),
        ("1 key: …cdef;weight=2", ""),
        ("2 keys: …3210", ""),
        ("Model (such as scripted-big, scripted-small): ", "sk-another-0123456789abcdef\n"),
        ("cannot be a key", ""),
        ("Model (such as scripted-big, scripted-small): ", "m1\n"),
        ("Label [custom]: ", "kimi-k2\n"),
        ("already exists", ""),
        ("Label [custom]: ", "Mine\n"),
        ("Port [", "\n"),
        ("Context window of m1 in tokens, such as 200k (empty: unknown): ", "many\n"),
        ("must be a whole number of tokens", ""),
        ("Context window of m1 in tokens, such as 200k (empty: unknown): ", "\n"),
        ("Send a test request now? [Y/n]: ", "\n"),
        ("key 1 of 2 …cdef;weight=2  works  (", ""),
        ("key 2 of 2 …3210  works  (", ""),
        ("run Mine -- claude", ""),
    ]:
        terminal.wait_for(question)
        terminal.type(answer)
    return terminal


@pytest.mark.xdist_group("processes")
async def test_a_dialog_at_a_terminal(home, provider):
    names = [{"id": name} for name in ("scripted-big", "scripted-small")]
    provider.pages["/v1/models"] = raw(json.dumps({"data": names}))
    terminal = await asyncio.to_thread(a_conversation, provider.url)
    assert await asyncio.to_thread(terminal.end) == 0
    assert {call.key for call in provider.other} == {KEY}, "without its attributes"
    config = env_of(home, "mine")
    assert (config.base_url, config.models.big) == (provider.url, "m1")
    assert config.api_keys == (KEY, OTHER)
    assert KEY[3:] not in terminal.seen
    assert OTHER[3:] not in terminal.seen
    assert [call.key for call in provider.calls] == [KEY, OTHER]


def test_a_user_without_a_key_is_asked_only_twice(home):
    before = everything(home)
    terminal = Terminal("init", "--preset", "deepseek")
    for _ in range(2):
        terminal.wait_for("an empty line (not shown):")
        terminal.type("\n")
    assert terminal.end() == 2
    assert terminal.seen.count("no key was entered") == 2
    assert everything(home) == before


def refused(url: str) -> Terminal:
    words = ["--preset", "custom", "--base-url", url, "--model", "m1", "--context-window", "9000"]
    terminal = Terminal("init", *words, "--label", "new", "--port", str(free_port()))
    terminal.wait_for("an empty line (not shown):")
    terminal.type(f"{KEY}\n\n")
    terminal.wait_for("Send a test request now? [Y/n]: ")
    terminal.type("y\n")
    terminal.wait_for("What now? (retype, add, cancel) [cancel]: ")
    return terminal


@pytest.mark.xdist_group("processes")
@pytest.mark.parametrize(("answer", "code"), [("\n", 4), ("add\n", 0)])
async def test_a_rejected_key_may_be_added(answer, code, home, provider):
    provider.script(failure(401, "no such key"))
    terminal = await asyncio.to_thread(refused, provider.url)
    terminal.type(answer)
    assert await asyncio.to_thread(terminal.end) == code
    assert (home / "envs/new.env").exists() is (code == 0)


def some_keys_fail(url: str, answer: str) -> Terminal:
    words = ["--preset", "custom", "--base-url", url, "--model", "m1", "--context-window", "9000"]
    terminal = Terminal("init", *words, "--label", "new", "--port", str(free_port()), "--test")
    terminal.wait_for("an empty line (not shown):")
    terminal.type(f"{KEY}\n{OTHER}\n\n")
    terminal.wait_for("What now? (keep, retype, add, cancel) [keep]: ")
    terminal.type(answer)
    if answer == "retype\n":
        terminal.wait_for("an empty line (not shown):")
        terminal.type("sk-the-third-0123456789abcdef\n\n")
        terminal.wait_for("✓ key 2 of 2 …cdef  works")
    return terminal


@pytest.mark.xdist_group("processes")
@pytest.mark.parametrize(
    ("answer", "keys"),
    [
        ("\n", (KEY,)),
        ("retype\n", (KEY, "sk-the-third-0123456789abcdef")),
        ("add\n", (KEY, OTHER)),
    ],
)
async def test_working_keys_are_kept_if_others_fail(answer, keys, home, provider):
    provider.script(completion("ok"), failure(401, "no such key"), completion("ok"))
    terminal = await asyncio.to_thread(some_keys_fail, provider.url, answer)
    assert await asyncio.to_thread(terminal.end) == 0
    assert env_of(home, "new").api_keys == keys


@pytest.mark.xdist_group("processes")
async def test_the_region_is_asked_for_and_can_be_changed_after_a_refusal(home, provider):
    def converse() -> Terminal:
        terminal = Terminal("init", "--preset", "kimi", "--label", "new")
        terminal.wait_for("  1 international      https://api.moonshot.ai/v1")
        terminal.wait_for("  2 china              https://api.moonshot.cn/v1")
        terminal.wait_for("Region or plan (name or number) [international]: ")
        terminal.type("china\n")
        terminal.wait_for("Get a key at https://platform.kimi.com/")
        terminal.type(f"{KEY}\n\n")
        for question in ("Model [kimi-k3.1-pro]: ", "Port [", "now? [Y/n]: "):
            terminal.wait_for(question)
            terminal.type("n\n" if "now?" in question else "\n")
        return terminal

    terminal = await asyncio.to_thread(converse)
    assert await asyncio.to_thread(terminal.end) == 0
    assert env_of(home, "new").base_url == "https://api.moonshot.cn/v1"


def test_the_menu_shows_numbers_and_names(home):
    terminal = Terminal("init", "--label", "New", "--no-test")
    terminal.wait_for("name or number): ")
    menu = dict(re.findall(r"(\d+) ([a-z-]+) ", terminal.seen))
    assert [*menu.values()].count("demo") == 1
    assert set(menu.values()) == {*load_presets(), new_proxy.CUSTOM}
    rows = re.findall(r"^ +\d+ [a-z-]+ .*?( \d+ [a-z-]+ .*)\r$", terminal.seen, re.MULTILINE)
    lines = [line.rstrip("\r") for line in terminal.seen.split("\n")]
    columns = {line.index(row) for row in rows for line in lines if line.endswith(row)}
    assert (len(rows) > 10, len(columns)) == (True, 1), terminal.seen
    number = next(number for number, name in menu.items() if name == "demo")
    terminal.type(f"{number}\n\n\n")
    assert terminal.end() == 0, terminal.seen
    assert env_of(home, "new").provider == "demo"


@pytest.mark.parametrize(
    "give_up",
    [
        pytest.param(lambda one: one.child.send_signal(signal.SIGINT), id="Ctrl-C"),
        pytest.param(lambda one: one.type("\x04"), id="Ctrl-D"),
    ],
)
def test_an_aborted_dialog_leaves_no_files(give_up, home):
    before = everything(home)
    terminal = Terminal("init", "--preset", "deepseek", "--model", "m")
    terminal.wait_for("an empty line (not shown):")
    terminal.type(f"{KEY}\n")
    give_up(terminal)
    assert terminal.end() == 130
    assert KEY not in terminal.seen
    assert everything(home) == before


def test_without_a_terminal_there_are_no_questions(ccproxy, home):
    done = ccproxy("init", "--preset", "demo")
    assert (done.exit_code, "init cannot prompt" in done.stderr) == (2, True)
    assert "--no-input" in done.stderr.split("fix:")[1]
