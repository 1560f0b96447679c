"""Tests of the system prompt and of system messages."""

from __future__ import annotations

import pytest

from ccproxy.errors import Problem
from tests.asking import ask, assistant, system, target, text, user

HEADER = "x-anthropic-billing-header: cc_version=2.1.329.651; cc_entrypoint=sdk-cli; cch=00000;"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param("You are terse.", "You are terse.", id="a string"),
        pytest.param([text("You are terse.")], "You are terse.", id="a block"),
        pytest.param([text("a"), text("b"), text("c")], "a\n\nb\n\nc", id="blocks"),
        pytest.param([text("a"), text(""), text("c")], "a\n\nc", id="an empty block"),
        pytest.param([text(HEADER), text("a"), text("b")], "a\n\nb", id="attribution block"),
        pytest.param([text(HEADER + "\n"), text("a")], "a", id="attribution with a line end"),
        pytest.param(HEADER + "\nYou are", "You are", id="attribution line in a string"),
        pytest.param(HEADER + " You are", "You are", id="attribution in front of a string"),
        pytest.param(
            "x-anthropic-billing-header: new form\nYou", "You", id="an unknown form of it"
        ),
        pytest.param([text("a"), {"type": "tool_addition"}], "a", id="a block of another type"),
    ],
)
def test_prompt(settings, expected):
    outcome = ask(user("Hi"), system=settings)
    assert outcome.messages == [
        {"role": "system", "content": expected},
        {"role": "user", "content": "Hi"},
    ]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param("", id="empty"),
        pytest.param([], id="no blocks"),
        pytest.param(None, id="null"),
        pytest.param([text(HEADER)], id="attribution alone"),
        pytest.param(HEADER, id="attribution as a string"),
    ],
)
def test_an_empty_prompt_is_left_out(settings):
    assert ask(user("Hi"), system=settings).roles == "user"


def test_attribution_in_the_middle_of_a_text_is_text():
    output = f"Look at {HEADER}"
    assert ask(user("Hi"), system=output).messages[0]["content"] == output


def test_the_attribution_does_not_change_the_prompt():
    def body(version):
        blocks = [text(f"x-anthropic-billing-header: cc_version={version};"), text("prompt")]
        return ask(user("Hi"), system=blocks).converted.body

    assert body("1") == body("2")


# Later system messages.


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param("note", "note", id="a string"),
        pytest.param([text("a"), text("b")], "a\n\nb", id="blocks"),
        pytest.param(
            [text("a"), {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "f"}}],
            "a",
            id="tool additions are left out",
        ),
    ],
)
def test_in_place(settings, expected):
    outcome = ask(user("a"), {"role": "system", "content": settings}, user("b"))
    assert outcome.messages[1] == {"role": "system", "content": expected}


def test_dropped_blocks_are_recorded():
    removal = {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "f"}}
    outcome = ask(user("a"), system(removal), user("b"))
    assert outcome.roles == "user user"
    assert outcome.converted.dropped == ("system.tool_removal",)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(
            "note", "<system-reminder>\nnote\n</system-reminder>", id="becomes a reminder"
        ),
        pytest.param(
            "<system-reminder>note</system-reminder>",
            "<system-reminder>note</system-reminder>",
            id="a reminder stays one",
        ),
    ],
)
def test_later_system_messages_become_reminders(words, expected):
    outcome = ask(
        user("a"), system(words), assistant("b"), user("c"),
        system="prompt", to=target(system_messages="first"),
    )  # fmt: skip
    assert outcome.roles == "system user user assistant user"
    assert outcome.messages[2]["content"] == expected


def test_the_first_message_may_be_the_one_system_message():
    outcome = ask(system("prompt"), user("a"), to=target(system_messages="first"))
    assert outcome.messages[0] == {"role": "system", "content": "prompt"}


def test_an_error_in_the_prompt_contains_the_path():
    with pytest.raises(Problem, match=r"^system\.0\.text: Input should be a valid string$"):
        ask(user("a"), system=[{"type": "text", "text": 7}])
    with pytest.raises(Problem, match=r"^system\.0\.type: Field required$"):
        ask(user("a"), system=[{}])
    with pytest.raises(Problem, match=r"^system: Input should be a valid string or list"):
        ask(user("a"), system=7)
