"""`ccproxy keys LABEL add` and `remove`: keys in the env file, never on the command line."""

from __future__ import annotations

import pytest

from ccproxy.cli.setup.config_edit import read_keys
from tests.cli.conftest import write_env
from tests.cli.terminal import Terminal

FIRST, SECOND, THIRD = (f"sk-number-{number}-0123456789{number}" for number in (111, 222, 333))


@pytest.fixture
def env_file(home):
    return write_env(home, "kimi", f"PROVIDER=kimi\nPROVIDER_API_KEY={FIRST},{SECOND}\n")


def test_keys_are_read_from_stdin(env_file, ccproxy):
    done = ccproxy("keys", "kimi-k2", "add", input=f"{THIRD}\n{FIRST}\n")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "Added k3 …9333 to envs/kimi.env.\n"
    assert done.stderr == (
        "Already in the file: 1 key.\nNext:  ccproxy reload && ccproxy keys Kimi-K2 test k3\n"
    )
    assert read_keys(env_file) == (FIRST, SECOND, THIRD)


def test_keys_are_not_echoed_at_a_terminal(env_file):
    terminal = Terminal("keys", "kimi-k2", "add")
    terminal.wait_for("an empty line (not shown):")
    terminal.type(f"{THIRD}\n")
    terminal.wait_for("1 key: …9333")
    terminal.type("\n")
    assert terminal.end() == 0
    assert THIRD not in terminal.seen
    assert read_keys(env_file)[-1] == THIRD


@pytest.mark.parametrize("name", ["k1", "…9111", "9111"])
def test_a_key_is_removed_by_its_id_or_tail(name, env_file, ccproxy):
    done = ccproxy("keys", "kimi-k2", "remove", name, "--yes")
    assert (done.exit_code, done.stdout) == (0, "Removed …9111 from envs/kimi.env.\n")
    assert done.stderr == "Next:  ccproxy reload\n"
    assert read_keys(env_file) == (SECOND,)


def test_removing_is_confirmed_at_a_terminal(env_file):
    for answer, code in (("n\n", 130), ("y\n", 0)):
        terminal = Terminal("keys", "kimi-k2", "remove", "k2")
        terminal.wait_for("Remove …9222 from envs/kimi.env? [y/N]: ")
        terminal.type(answer)
        assert terminal.end() == code
    assert read_keys(env_file) == (FIRST,)


@pytest.mark.parametrize(
    ("words", "typed", "text"),
    [
        (["add"], "", "no key was entered"),
        (["add"], "your-api-key", "placeholder"),
        (["add", THIRD], "", "visible to other users"),
        (["remove"], "", "remove needs a key"),
        (["remove", "k7", "--yes"], "", "use one of: k1 …9111, k2 …9222"),
        (["remove", "k1", "k2", "--yes"], "", "this would leave Kimi-K2 without a key"),
        (["remove", "k1"], "", "fix: ccproxy keys Kimi-K2 remove k1 --yes"),
    ],
)
def test_mistakes_change_nothing(words, typed, text, env_file, ccproxy):
    before = env_file.read_bytes()
    done = ccproxy("keys", "kimi-k2", *words, input=typed)
    assert (done.exit_code, text in done.stderr) == (2, True), done.stderr
    assert env_file.read_bytes() == before
    for key in (FIRST, SECOND, THIRD):
        assert key not in done.output


@pytest.mark.parametrize("words", [["add"], ["remove", "k1", "--yes"]], ids=["add", "remove"])
def test_a_file_that_is_not_utf_8_is_not_changed(words, env_file, ccproxy):
    before = env_file.read_bytes() + "# é".encode("latin-1")
    env_file.write_bytes(before)
    done = ccproxy("keys", "kimi-k2", *words, input=THIRD)
    assert (done.exit_code, env_file.read_bytes()) == (78, before)
    assert "is not UTF-8 text\n  envs/kimi.env\n  fix: save it as UTF-8" in done.stderr


@pytest.mark.parametrize("action", ["add", "remove"])
def test_a_label_is_needed(action, home, ccproxy):
    done = ccproxy("keys", action)
    assert done.exit_code == 2
    assert f"fix: ccproxy keys LABEL {action}" in done.stderr


def test_attributes_of_keys_are_kept(home, ccproxy):
    marked = f"{SECOND};priority=2"
    env_file = write_env(home, "kimi", f"PROVIDER=kimi\nPROVIDER_API_KEY={FIRST},{marked}\n")
    done = ccproxy("keys", "kimi-k2", "add", input=f"{THIRD};priority=3\n{SECOND}\n")
    assert done.stdout == "Added k3 …9333;priority=3 to envs/kimi.env.\n"
    done = ccproxy("keys", "kimi-k2", "remove", "9222", "--yes")
    assert done.stdout == "Removed …9222;priority=2 from envs/kimi.env.\n"
    assert read_keys(env_file) == (FIRST, f"{THIRD};priority=3")


def test_keys_in_a_separate_file_are_edited_there(home, ccproxy):
    write_env(home, "kimi", "PROVIDER=kimi\nPROVIDER_API_KEYS_FILE=kimi.keys\n")
    for words in (["add"], ["remove", "k1", "--yes"]):
        done = ccproxy("keys", "kimi-k2", *words, input=FIRST)
        assert done.exit_code == 2
        assert "the keys of Kimi-K2 are in kimi.keys (PROVIDER_API_KEYS_FILE)" in done.stderr
