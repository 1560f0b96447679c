"""`ccproxy edit`: the user's editor, then a check."""

from __future__ import annotations

import pytest

from ccproxy.cli.commands.setup.edit import editor_command
from ccproxy.errors import UsageError
from tests.cli.terminal import Terminal


def editor(home, text):
    """Return a program that replaces a file's content with *text*."""
    program = home / "editor"
    program.write_text(f"#!/bin/sh\nprintf '{text}' > \"$2\"\n")
    program.chmod(0o755)
    return f"{program} --wait"


def test_a_valid_file_names_the_next_step(home):
    text = "PROVIDER=kimi\\nPROVIDER_API_KEY=sk-kimi-another-0123456789\\n"
    terminal = Terminal("edit", "kimi-k2", EDITOR=editor(home, text))
    terminal.wait_for("envs/kimi.env is valid.  Next:  ccproxy reload")
    assert terminal.end() == 0
    assert "another" in (home / "envs/kimi.env").read_text()


def test_without_a_label_the_table_is_edited(home):
    terminal = Terminal("edit", VISUAL="true", EDITOR="false")
    terminal.wait_for("ccproxy.toml is unchanged.")
    assert terminal.end() == 0


def test_an_error_is_shown_and_the_file_can_be_edited_again(home):
    terminal = Terminal("edit", "kimi-k2", EDITOR=editor(home, "PROVIDER=kimmi\\n"))
    terminal.wait_for("envs/kimi.env:1")
    terminal.wait_for("Edit it again? [Y/n]: ")
    terminal.type("y\n")
    terminal.wait_for("Edit it again? [Y/n]: ")
    terminal.type("n\n")
    assert terminal.end() == 78


@pytest.mark.parametrize(
    ("environ", "code", "text"),
    [
        ({"EDITOR": "false"}, 1, "false failed with exit code 1"),
        ({"EDITOR": "no-such-editor"}, 1, "cannot run the editor no-such-editor"),
        ({"VISUAL": "vim '"}, 2, "$VISUAL is not a valid command: No closing quotation"),
    ],
)
def test_an_editor_that_fails(environ, code, text, home):
    terminal = Terminal("edit", **environ)
    terminal.wait_for(text)
    assert terminal.end() == code


def test_the_editor_is_the_users(monkeypatch, tmp_path):
    assert editor_command({"VISUAL": "code --wait", "EDITOR": "vi"}) == ["code", "--wait"]
    assert editor_command({"EDITOR": "vi"}) == ["vi"]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no editor is installed"):
        editor_command({})


def test_without_a_terminal(home, ccproxy):
    done = ccproxy("edit", "kimi-k2")
    assert (done.exit_code, "edit needs a terminal" in done.stderr) == (2, True)
