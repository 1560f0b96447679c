"""`ccproxy models`: the list, the provider's own list, and newer catalogues."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from ccproxy.config.catalogue.catalogue_file import active_catalogue, user_catalogue_file
from ccproxy.providers.catalogue import (
    Catalogue,
    ModelFacts,
    format_catalogue,
    parse_catalogue,
    shipped_catalogue_file,
)
from tests.cli.conftest import write_env
from tests.ports import free_port

KEY = "sk-a-good-key-for-tests-1111"
SHIPPED = parse_catalogue(shipped_catalogue_file().read_bytes())
NEXT_DATE = "2999-01-01"


@pytest.fixture
def newer(tmp_path):
    """Write a catalogue file with other rows for deepseek and return its path."""

    def write(rows, *, date=NEXT_DATE, sources=SHIPPED.sources):
        sections = {**SHIPPED.sections, "deepseek": msgspec.Raw(msgspec.json.encode(rows))}
        file = tmp_path / "newer.json"
        whole = Catalogue(date=date, sources=sources, sections=sections)
        file.write_bytes(format_catalogue(whole))
        return file

    return write


def deepseek(**changes):
    """Return the shipped rows of deepseek without the aliases and with a new model."""
    rows = SHIPPED.section("deepseek")
    flash = msgspec.structs.replace(rows["deepseek-flash"], **changes)
    return {
        "deepseek-v4-pro": rows["deepseek-v4-pro"],
        "deepseek-flash": flash,
        "deepseek-v5": ModelFacts(source="VND", date="2026-11-15", window=2_000_000),
    }


# The list.


@pytest.fixture
def fleet(home):
    write_env(home, "kimi", f"PROVIDER=deepseek\nPROVIDER_API_KEY={KEY}\nSMALL_MODEL=new-model\n")
    return home


def test_the_models_of_every_proxy(fleet, ccproxy, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    done = ccproxy("models")
    assert done.exit_code == 0, done.stderr
    text = done.stdout
    assert "Kimi-K2  DeepSeek\n" in text
    assert "GLM-4.6  Z.ai (GLM)\n" in text
    (pro,) = (line for line in text.splitlines() if "deepseek-v4-pro (big, middle)" in line)
    for part in ("1,000,000", "384,000", "high/max", "chat", "1.32/3.96, cached 0.044; off-peak: "):
        assert part in pro
    (own,) = (line for line in text.splitlines() if "new-model (small)" in line)
    assert own.endswith("not in the catalogue")
    assert "deepseek-chat" not in text
    assert "2 retired models not shown (-v)" in text
    assert text.endswith(f"Catalogue of {SHIPPED.date}\n")


def test_retired_models_are_shown_on_demand(fleet, ccproxy, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    lines = ccproxy("-v", "models", "Kimi").stdout.splitlines()
    (chat,) = (line for line in lines if " deepseek-chat " in line)
    assert chat.endswith("retired 2026-07-24, then deepseek-flash")
    assert not any("not shown" in line for line in lines)


def test_a_server_without_a_preset_has_no_models_of_another_provider(fleet, ccproxy):
    address = "PROVIDER_BASE_URL=http://10.0.0.5:8000/v1"
    write_env(fleet, "kimi", f"{address}\nPROVIDER_API_KEY={KEY}\nBIG_MODEL=m1\nSMALL_MODEL=m2\n")
    lines = ccproxy("models", "kimi").stdout.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["m1", "m2"]
    assert lines[-3] == "  the models of this server: ccproxy models Kimi-K2 --online"


def test_the_list_as_json(fleet, ccproxy):
    report = json.loads(ccproxy("models", "kimi", "--json").stdout)
    assert (report["schema"], report["catalogue"]) == (1, SHIPPED.date)
    (proxy,) = report["proxies"]
    assert (proxy["label"], proxy["provider"]) == ("Kimi-K2", "deepseek")
    rows = {row["id"]: row for row in proxy["models"]}
    flash = rows["deepseek-flash"]
    assert (flash["images"], flash["efforts"]) == (True, ["low", "high", "max"])
    assert flash["price"]["off_peak"]["input"] == 0.15
    assert (flash["status"], flash["retires"], flash["offered"]) == ("current", None, None)
    assert flash["source"]
    assert rows["new-model"]["status"] is None
    assert rows["deepseek-reasoner"]["successor"] == "deepseek-flash"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        pytest.param(["nonesuch"], 2, "nonesuch", id="an unknown label"),
        pytest.param(["--reset", "kimi"], 2, "cannot be combined", id="reset with a label"),
        pytest.param(["--update", "f", "--reset"], 2, "cannot be combined", id="both at once"),
        pytest.param(["kimi", "--online"], 3, "Kimi-K2 is not running", id="a stopped proxy"),
        pytest.param(["--update", "nonesuch.json"], 1, "nonesuch.json", id="no file"),
    ],
)
def test_invalid_arguments_are_refused(words, code, message, fleet, ccproxy):
    done = ccproxy("models", *words)
    assert (done.exit_code, message in done.stderr) == (code, True), done.stderr


def test_a_proxy_with_mistakes_is_reported_on_request(fleet, ccproxy):
    write_env(fleet, "kimi", "PROVIDER=kimmi\n")
    assert ccproxy("models", "kimi").exit_code == 78
    assert "GLM-4.6" in ccproxy("models").stdout


# The provider's own list.


class _Provider(BaseHTTPRequestHandler):
    """Lists three models, one of them unknown."""

    def do_GET(self):
        names = ["deepseek-v4-pro", "models/deepseek-flash", "deepseek-v6"]
        body = json.dumps({"data": [{"id": name} for name in names]}).encode()
        is_right = self.path == "/v1/models" and self.headers["Authorization"] == f"Bearer {KEY}"
        self.send_response(200 if is_right else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Log nothing."""


@pytest.mark.xdist_group("processes")
def test_the_list_of_the_provider_is_compared(tmp_path, monkeypatch, process):
    monkeypatch.chdir(tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    table = f'proxies = ["{free_port()}:envs/a.env:A", "{free_port()}:envs/b.env:B"]\n'
    (tmp_path / "ccproxy.toml").write_text(table)
    settings = f"PROVIDER=deepseek\nPROVIDER_API_KEY={KEY}\nPROVIDER_BASE_URL="
    write_env(tmp_path, "a", f"{settings}{url}/v1\n")
    write_env(tmp_path, "b", f"{settings}{url}/elsewhere\n")
    try:
        assert process("start").returncode == 0
        (report,) = json.loads(process("models", "A", "--online", "--json").stdout)["proxies"]
        assert report["only_offered"] == ["deepseek-v6"]
        assert report["only_known"] == ["deepseek-v4-flash-vision-exp", "deepseek-v4-flash"]
        models = {row["id"] for row in report["models"] if row["offered"]}
        assert models == {"deepseek-v4-pro", "deepseek-flash", "deepseek-v6"}
        text = process("models", "A", "--online").stdout
        assert "  offered, not in the catalogue: deepseek-v6\n" in text
        done = process("models", "B", "--online")
        assert (done.returncode, done.stdout) == (1, "")
        assert (
            "B: the list of models is unavailable: the provider answered with status 404"
            in done.stderr
        )
    finally:
        assert process("stop", "--now").returncode == 0
        server.shutdown()
        server.server_close()


# Newer catalogues.


def test_a_newer_catalogue_is_shown_installed_and_removed(fleet, ccproxy, newer):
    file = newer(deepseek(window=3_000_000))
    refused = ccproxy("models", "--update", file, input="y\n")  # stdin is not a terminal
    assert (refused.exit_code, "--yes" in refused.stderr) == (2, True)
    assert not user_catalogue_file().exists()
    done = ccproxy("models", "--update", file, "--yes")
    assert done.exit_code == 0, done.stderr
    assert "~ deepseek  deepseek-flash  window 1000000 -> 3000000\n" in done.stdout
    assert "- deepseek  deepseek-chat\n" in done.stdout
    assert "+ deepseek  deepseek-v5\n" in done.stdout
    assert f"6 differences in the catalogue of {NEXT_DATE}\n" in done.stdout
    assert "ccproxy restart" in done.stdout
    report = json.loads(ccproxy("models", "kimi", "--json").stdout)
    rows = {row["id"]: row for row in report["proxies"][0]["models"]}
    assert (report["catalogue"], rows["deepseek-flash"]["window"]) == (NEXT_DATE, 3_000_000)
    assert ccproxy("models", "--reset").stdout.startswith("Removed: ~/.config/ccproxy/")
    assert active_catalogue().date == SHIPPED.date
    assert ccproxy("models", "--reset").stdout.startswith("No catalogue is installed")


def test_long_differences_are_cut(fleet, ccproxy, newer):
    many = {f"m{number}": ModelFacts(source="VND", date="2026-11-15") for number in range(60)}
    done = ccproxy("models", "--update", newer(many), "--yes")
    assert "more (-v)\n" in done.stdout
    assert "+ deepseek  m59\n" not in done.stdout


@pytest.mark.parametrize(
    ("date", "message"),
    [
        pytest.param(SHIPPED.date, "is not later than the date of this release", id="the same"),
        pytest.param("2020-01-01", "is not later than the date of this release", id="an older one"),
    ],
)
def test_a_catalogue_that_is_not_newer_is_refused(date, message, fleet, ccproxy, newer):
    done = ccproxy("models", "--update", newer(deepseek(), date=date), "--yes")
    assert (done.exit_code, message in done.stderr) == (78, True)


def test_an_invalid_catalogue_is_refused(fleet, ccproxy, tmp_path, newer):
    file = newer(deepseek())
    file.write_text(file.read_text().replace('"source":"PI', '"sources":"PI', 1))
    done = ccproxy("models", "--update", file, "--yes")
    assert (done.exit_code, "is not a valid model catalogue" in done.stderr) == (78, True)
    assert not user_catalogue_file().exists()


def test_an_installed_catalogue_older_than_the_release_is_ignored(fleet, ccproxy, newer):
    user_catalogue_file().parent.mkdir(parents=True)
    user_catalogue_file().write_bytes(newer(deepseek(), date="2020-01-01").read_bytes())
    assert active_catalogue().date == SHIPPED.date


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text[:100], id="half a file"),
        pytest.param(
            lambda text: text.replace('"deepseek-v5": {', '"deepseek-v5": {"a":1,'),
            id="a wrong row",
        ),
        pytest.param(
            lambda text: text.replace('"deepseek-v5": {', '"deepseek-v5": ' + "[" * 100_000),
            id="deep nesting",
        ),
    ],
)
def test_a_damaged_installed_catalogue_is_reported_with_a_fix(change, fleet, ccproxy, newer):
    user_catalogue_file().parent.mkdir(parents=True)
    user_catalogue_file().write_text(change(newer(deepseek()).read_text()))
    done = ccproxy("check")
    assert done.exit_code == 78
    assert "the model catalogue cannot be used: " in done.stderr
    assert "~/.config/ccproxy/catalogue.json" in done.stderr
    assert "ccproxy models --update FILE, or remove it with --reset" in done.stderr
    assert ccproxy("models", "--reset").exit_code == 0
