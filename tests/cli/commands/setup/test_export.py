"""`ccproxy export`: the fleet as files for containers, without its secrets."""

from __future__ import annotations

import pytest

from tests.cli.conftest import KIMI, write_env

yaml = pytest.importorskip("yaml")


@pytest.mark.parametrize("form", ["compose", "helm", "kubernetes"])
def test_no_secret_is_printed(ccproxy, home, form):
    more = "CUSTOM_HEADER_X_AUTH=hidden\nREDIS_URL=redis://:hidden@redis:6379\n"
    more += "TRACES_HEADERS=authorization=hidden\nOIDC_CLIENT_SECRET=hidden\n"
    more += "TRANSPARENT_URL=https://user:hidden@example.com\n"
    write_env(home, "kimi", f"{KIMI}{more}ANTHROPIC_API_KEY=ccp_hidden_0123456789\n")
    done = ccproxy("export", form)
    assert done.exit_code == 0, done.stderr
    for secret in ("hidden", "sk-"):
        assert secret not in done.stdout + done.stderr
    top, *more_documents = yaml.safe_load_all(done.stdout)
    names = {"compose": ["services", "volumes"], "helm": ["networkPolicy", "entries"]}
    assert list(top) == names.get(form, ["apiVersion", "kind", "metadata", "data"])
    assert len(more_documents) == (9 if form == "kubernetes" else 0)


def test_compose_refers_to_the_env_files(ccproxy, home):
    services = yaml.safe_load(ccproxy("export", "compose").stdout)["services"]
    assert list(services) == ["kimi-k2", "glm-4-6"]
    assert services["kimi-k2"]["env_file"] == [str(home / "envs/kimi.env")]
    assert services["kimi-k2"]["ports"] == ["127.0.0.1:18081:8080"]


def test_compose_does_not_replace_variables_in_a_path(ccproxy, home):
    folder = home.rename(home.with_name("a$HOME"))
    services = yaml.safe_load(
        ccproxy("-c", str(folder / "ccproxy.toml"), "export", "compose").stdout
    )
    assert services["services"]["kimi-k2"]["env_file"] == [
        str(folder / "envs/kimi.env").replace("$HOME", "$$HOME")
    ]


@pytest.mark.parametrize(
    ("line", "is_needed"),
    [
        ("", True),
        ("ANTHROPIC_API_KEY=ccp_0123456789abcdef\n", False),
        ("ALLOW_PUBLIC=on\n", False),
        ("ALLOW_PUBLIC=off\n", True),
        ("ALLOW_PUBLIC=perhaps\n", True),
    ],
    ids=["no client key", "client key", "open to all", "not open", "not valid"],
)
def test_compose_names_a_missing_client_key(line, is_needed, ccproxy, home):
    write_env(home, "kimi", KIMI + line)
    note = "Kimi-K2: containers require a client key; add ANTHROPIC_API_KEY to envs/kimi.env"
    assert (note in ccproxy("export", "compose", "kimi").stderr) == is_needed


def test_helm_has_plain_settings_and_the_name_of_a_secret(ccproxy, home):
    write_env(home, "kimi", f'{KIMI}HOST=0.0.0.0\nUSERS=users.toml\nKEY_MAX_IN_FLIGHT="8"\n')
    (home / "envs/users.toml").write_text("")
    done = ccproxy("export", "helm", "kimi")
    assert yaml.safe_load(done.stdout) == {
        "networkPolicy": {"egressPorts": [443]},
        "entries": {
            "kimi-k2": {
                "existingSecret": "ccproxy-kimi-k2",
                "env": {"PROVIDER": "kimi", "KEY_MAX_IN_FLIGHT": "8"},
            }
        },
    }
    assert "kubectl create secret generic ccproxy-kimi-k2 --from-literal=PROVIDER_API_KEY=…" in (
        done.stderr
    )
    assert "USERS names a file" in done.stderr


def test_a_container_is_stopped_after_its_drain(ccproxy, home):
    write_env(home, "kimi", f"{KIMI}DRAIN_DELAY=5\nDRAIN_TIMEOUT=120.5\n")
    services = yaml.safe_load(ccproxy("export", "compose").stdout)["services"]
    grace = {name: service["stop_grace_period"] for name, service in services.items()}
    assert grace == {"kimi-k2": "136s", "glm-4-6": "40s"}
    for value in ("soon", "nan", "inf", "-1"):
        write_env(home, "kimi", f"{KIMI}DRAIN_TIMEOUT={value}\n")
        done = ccproxy("export", "compose")
        assert done.exit_code == 2
        assert "Kimi-K2: DRAIN_TIMEOUT must be a number of seconds" in done.stderr
        assert "fix: correct envs/kimi.env" in done.stderr


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param("# é".encode("latin-1"), "is not UTF-8 text\n  envs/kimi.env", id="encoding"),
        pytest.param(b"A='x\n", "quote of A is not closed\n  envs/kimi.env:1", id="a quote"),
        pytest.param(None, 'the env file "envs/kimi.env" of Kimi-K2 does not exist', id="none"),
    ],
)
def test_an_env_file_that_cannot_be_read_is_refused(content, error, ccproxy, home):
    file = home / "envs/kimi.env"
    file.unlink() if content is None else file.write_bytes(content)
    done = ccproxy("export", "compose")
    assert (done.exit_code, done.stdout) == (78, "")
    assert error in done.stderr


@pytest.mark.parametrize("form", ["compose", "helm"])
def test_labels_remain_text(form, ccproxy, home):
    labels = ["4", "4o", "1e5", "2026-01-01", "yes", "n", "off", "null", "true", "kimi"]
    table = [f"{port}:envs/kimi.env:{label}" for port, label in enumerate(labels, 8081)]
    (home / "ccproxy.toml").write_text(f"proxies = {table}")
    document = yaml.safe_load(ccproxy("export", form).stdout)
    assert list(document["services" if form == "compose" else "entries"]) == labels


def test_two_labels_with_one_object_name_are_refused(ccproxy, home):
    file = home / "ccproxy.toml"
    file.write_text('proxies = ["1:envs/kimi.env:Kimi.K3", "2:envs/kimi.env:kimi-k3"]')
    done = ccproxy("export", "kubernetes")
    assert done.exit_code == 2
    assert '"Kimi.K3" and "kimi-k3" would both be containers named "kimi-k3"' in done.stderr
