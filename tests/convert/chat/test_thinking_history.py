"""Earlier thinking: to those who demand it, never to those who refuse it."""

from __future__ import annotations

import pytest

from ccproxy.convert.common.thinking import Origin, pack_details
from tests.asking import SIGNER, ask, assistant, result, target, text, thinking, use, user


def signed(words="", *, provider="p", model="m", **carried):
    origin = Origin(provider=provider, model=model, carried=carried)
    return thinking(words, SIGNER.mint(origin))


def said(*blocks, to, **fields):
    """The assistant message that *blocks* become in a finished tool turn."""
    calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
    answers = [user(*map(result, calls))] if calls else []
    return ask(user("q"), assistant(*blocks), *answers, user("next"), to=to, **fields).messages[1]


@pytest.mark.parametrize(
    ("history", "fields"),
    [
        pytest.param("drop", {"content": "ok"}, id="refused"),
        pytest.param(
            "reasoning_content",
            {"content": "ok", "reasoning_content": "plan"},
            id="reasoning_content",
        ),
        pytest.param("reasoning", {"content": "ok", "reasoning": "plan"}, id="reasoning"),
        pytest.param(
            "reasoning_details",
            {"content": "ok", "reasoning_details": [{"type": "reasoning.text", "text": "plan"}]},
            id="reasoning_details",
        ),
        pytest.param("think_tags", {"content": "<think>\nplan\n</think>\n\nok"}, id="think tags"),
        pytest.param(
            "thinking_parts",
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "plan"}]},
                    {"type": "text", "text": "ok"},
                ]
            },
            id="thinking parts",
        ),
    ],
)
@pytest.mark.parametrize(
    "block",
    [
        pytest.param(thinking("plan"), id="signed elsewhere"),
        pytest.param(thinking("plan", ""), id="unsigned"),
        pytest.param({"type": "thinking", "thinking": "plan"}, id="without a signature"),
        pytest.param(signed("plan"), id="signed here"),
        pytest.param(signed("plan", provider="other"), id="signed for another provider"),
        pytest.param(thinking("plan", "ccproxy1.AAAA"), id="forged"),
    ],
)
def test_forms(history, fields, block):
    message = said(block, text("ok"), to=target(history=history))
    assert message == {"role": "assistant", **fields}


@pytest.mark.parametrize(
    ("history", "content"),
    [
        pytest.param("think_tags", "<think>\nplan\n</think>\n\n", id="think tags"),
        pytest.param(
            "thinking_parts",
            [{"type": "thinking", "thinking": [{"type": "text", "text": "plan"}]}],
            id="thinking parts",
        ),
    ],
)
def test_thinking_in_the_content_of_a_bare_call(history, content):
    assert said(thinking("plan"), use("t"), to=target(history=history))["content"] == content


def test_several_thoughts_are_joined():
    blocks = (thinking("one"), text("ok"), thinking("two"), thinking(""))
    message = said(*blocks, to=target(history="reasoning_content"))
    assert message["reasoning_content"] == "one\n\ntwo"


@pytest.mark.parametrize("history", ["drop", "reasoning_content", "think_tags"])
def test_signatures_never_leave(history):
    asked = ask(
        user("q"), assistant(thinking("plan", "sig-xyz"), "ok"), user("n"),
        to=target(history=history),
    )  # fmt: skip
    assert b"sig-xyz" not in asked.converted.body


def test_dropped_thinking_is_noted():
    asked = ask(user("q"), assistant(thinking("plan"), "ok"), user("n"))
    assert asked.converted.dropped == ("messages.thinking",)


def test_redacted_thinking_is_always_dropped():
    sealed = {"type": "redacted_thinking", "data": "SEALED"}
    asked = ask(
        user("q"), assistant(sealed, "ok"), user("n"), to=target(history="reasoning_content")
    )
    assert b"SEALED" not in asked.converted.body
    assert asked.converted.dropped == ("messages.redacted_thinking",)


# Providers that demand it...

DEMANDS = {"history": "reasoning_content", "history_required": True}


@pytest.mark.parametrize(
    ("blocks", "reasoning"),
    [
        pytest.param([thinking("plan"), use("t")], "plan", id="known"),
        pytest.param([use("t")], "", id="unknown"),
        pytest.param([thinking(""), use("t")], "", id="empty"),
        pytest.param([text("ok"), use("t")], "", id="beside text"),
        pytest.param([text("ok")], None, id="no calls, not demanded"),
        pytest.param([thinking("plan"), text("ok")], "plan", id="no calls, but known"),
    ],
)
def test_demanded_on_tool_turns(blocks, reasoning):
    assert said(*blocks, to=target(**DEMANDS)).get("reasoning_content") == reasoning


def test_demanded_to_the_end_of_the_tool_turn():
    asked = ask(
        user("q"),
        assistant(use("t")),
        user(result("t")),
        assistant("Done."),
        user("thanks"),
        assistant("Welcome."),
        user("bye"),
        to=target(**DEMANDS),
    )
    spoken = [message for message in asked.messages if message["role"] == "assistant"]
    assert [message.get("reasoning_content") for message in spoken] == ["", "", None]


@pytest.mark.parametrize(
    ("form", "demanded"),
    [
        pytest.param({"type": "disabled"}, False, id="not while thinking is off"),
        pytest.param({"type": "adaptive"}, True, id="while it is on"),
        pytest.param(None, True, id="while nobody said"),
    ],
)
def test_demanded_while_thinking(form, demanded):
    message = said(use("t"), to=target(**DEMANDS, reasoning="thinking_type"), thinking=form)
    assert ("reasoning_content" in message) is demanded


# ...and what only its maker can read.

DETAILS = [
    {"type": "reasoning.text", "text": "plan A", "index": 0},
    {"type": "reasoning.encrypted", "data": "SEALED", "index": 1},
]


@pytest.mark.parametrize(
    ("block", "details"),
    [
        pytest.param(
            signed("plan A", reasoning_details=pack_details(DETAILS)),
            DETAILS,
            id="the same model gets it whole",
        ),
        pytest.param(
            signed("plan A", provider="other", reasoning_details=pack_details(DETAILS)),
            [{"type": "reasoning.text", "text": "plan A"}],
            id="another provider gets the text",
        ),
        pytest.param(
            signed("plan A", model="other", reasoning_details=pack_details(DETAILS)),
            [{"type": "reasoning.text", "text": "plan A"}],
            id="another model gets the text",
        ),
        pytest.param(
            signed("", reasoning_details=pack_details(DETAILS[1:])),
            DETAILS[1:],
            id="sealed reasoning without words",
        ),
        pytest.param(thinking(""), None, id="nothing is nothing"),
    ],
)
def test_details(block, details):
    message = said(block, text("ok"), to=target(history="reasoning_details"))
    assert message.get("reasoning_details") == details


def signatures(*blocks, **at):
    message = said(*blocks, to=target(thought_signatures=True, **at))
    return [
        call.get("extra_content", {}).get("google", {}).get("thought_signature")
        for call in message["tool_calls"]
    ]


SKIP = "skip_thought_signature_validator"


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        pytest.param(
            [signed(thought_signatures={"t1": "U0lH"}), use("t1"), use("t2")],
            ["U0lH", None],
            id="comes back with its call",
        ),
        pytest.param(
            [signed(thought_signatures={"t1": "A", "t2": "B"}), use("t1"), use("t2")],
            ["A", "B"],
            id="each with its own",
        ),
        pytest.param(
            [
                signed("x", thought_signatures={"t1": "A"}),
                use("t1"),
                signed("y", thought_signatures={"t2": "B"}),
                use("t2"),
            ],
            ["A", "B"],
            id="from several blocks",
        ),
        pytest.param([use("t1"), use("t2")], [SKIP, None], id="unknown: the first is excused"),
        pytest.param(
            [signed(model="other", thought_signatures={"t1": "A"}), use("t1")],
            [SKIP],
            id="of another model: excused",
        ),
        pytest.param([thinking("x", "foreign"), use("t1")], [SKIP], id="foreign: excused"),
    ],
)
def test_thought_signatures(blocks, expected):
    assert signatures(*blocks) == expected


def test_no_thought_signatures_for_others():
    assert "extra_content" not in said(use("t"), to=target())["tool_calls"][0]
