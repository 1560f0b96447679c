"""Tests of reasoning parameters and of earlier thinking in the history."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from ccproxy.convert.common.effort import nearest_effort
from ccproxy.convert.common.thinking import Origin, pack_details
from ccproxy.providers.quirks import EffortWord
from tests.asking import SIGNER, ask, assistant, result, target, text, thinking, tool, use, user

ON = {"type": "enabled", "budget_tokens": 2048}
ADAPTIVE = {"type": "adaptive", "display": "updates"}
OFF = {"type": "disabled"}
FIELDS = {
    *("reasoning_effort", "thinking", "enable_thinking", "thinking_budget", "reasoning"),
    *("chat_template_kwargs", "reasoning_split"),
}


def reasoning_fields_of(thinking=None, effort=None, *, tools=None, **quirks):
    fields = {"thinking": thinking} if thinking else {}
    fields |= {"output_config": {"effort": effort}} if effort else {}
    fields |= {"tools": tools} if tools else {}
    body = ask(to=target(**quirks), stream=True, **fields).body
    return {key: value for key, value in body.items() if key in FIELDS}


KIMI_3 = ("low", "high", "max")
GROQ_QWEN = ("none", "default")
GPT = ("none", "low", "medium", "high", "xhigh")


def form(name, **quirks):
    return {"reasoning": name, **quirks}


def budget(tokens):
    return {"type": "enabled", "budget_tokens": tokens}


GPT_EFFORT = form("effort", efforts=GPT)
GROQ_EFFORT = form("effort", efforts=GROQ_QWEN)
KIMI_TYPE = form("thinking_type", efforts=KIMI_3)


def row(name, quirks, thinking=None, effort=None, /, **fields):
    return pytest.param(quirks, thinking, effort, fields, id=name)


@pytest.mark.parametrize(
    ("quirks", "thinking", "effort", "fields"),
    [
        # an unknown server gets no parameter
        row("unknown provider", {}, ON, "high"),
        row("nothing requested", GPT_EFFORT),
        # reasoning_effort
        row("effort as requested", GPT_EFFORT, ADAPTIVE, "high", reasoning_effort="high"),
        row("effort moves to the nearest", GPT_EFFORT, ADAPTIVE, "max", reasoning_effort="xhigh"),
        row(
            "between two, the greater",
            form("effort", efforts=KIMI_3),
            ADAPTIVE,
            "medium",
            reasoning_effort="high",
        ),
        row("any value", form("effort"), ADAPTIVE, "xhigh", reasoning_effort="xhigh"),
        row("effort is on or off", GROQ_EFFORT, ADAPTIVE, "max", reasoning_effort="default"),
        row("on without an effort", GROQ_EFFORT, ADAPTIVE, None, reasoning_effort="default"),
        row("off", GROQ_EFFORT, OFF, None, reasoning_effort="none"),
        row("left to the model", GROQ_EFFORT),
        row("effort without thinking", GPT_EFFORT, None, "low", reasoning_effort="low"),
        row("a small budget", GPT_EFFORT, ON, None, reasoning_effort="low"),
        row("a middle budget", GPT_EFFORT, budget(10_000), None, reasoning_effort="medium"),
        row("a great budget", GPT_EFFORT, budget(31_999), None, reasoning_effort="high"),
        row(
            "a model that thinks on request only",
            GPT_EFFORT,
            ADAPTIVE,
            None,
            reasoning_effort="medium",
        ),
        row("a model that thinks by itself", form("effort", efforts=("low", "high")), ADAPTIVE),
        row("off", GPT_EFFORT, OFF, "high", reasoning_effort="none"),
        row(
            "as good as off",
            form("effort", efforts=("minimal", "low", "high")),
            OFF,
            None,
            reasoning_effort="minimal",
        ),
        row(
            "the least", form("effort", efforts=("high", "low")), OFF, None, reasoning_effort="low"
        ),
        row("off, but without a value for it", form("effort"), OFF),
        # thinking{type}
        row("type on", form("thinking_type"), ON, None, thinking={"type": "enabled"}),
        row("type adaptive", form("thinking_type"), ADAPTIVE, "low", thinking={"type": "enabled"}),
        row(
            "type between tools",
            form("thinking_type"),
            {"type": "between_tools"},
            None,
            thinking={"type": "enabled"},
        ),
        row("type off", form("thinking_type"), OFF, None, thinking={"type": "disabled"}),
        row("no type requested", form("thinking_type")),
        row("type always", form("thinking_type", always_reasons=True), OFF),
        row(
            "kept by clear_thinking",
            form("thinking_type", thinking_keep="clear_thinking"),
            ON,
            None,
            thinking={"type": "enabled", "clear_thinking": False},
        ),
        row(
            "kept by keep",
            form("thinking_type", thinking_keep="keep_all"),
            ON,
            None,
            thinking={"type": "enabled", "keep": "all"},
        ),
        row(
            "nothing to keep",
            form("thinking_type", thinking_keep="keep_all"),
            OFF,
            None,
            thinking={"type": "disabled"},
        ),
        row(
            "type and effort",
            KIMI_TYPE,
            ADAPTIVE,
            "xhigh",
            thinking={"type": "enabled"},
            reasoning_effort="max",
        ),
        row("no effort while off", KIMI_TYPE, OFF, None, thinking={"type": "disabled"}),
        row(
            "the least where it is always on",
            form("thinking_type", efforts=KIMI_3, always_reasons=True),
            OFF,
            None,
            reasoning_effort="low",
        ),
        # enable_thinking
        row(
            "switch with a budget",
            form("enable_thinking"),
            ON,
            None,
            enable_thinking=True,
            thinking_budget=2048,
        ),
        row("switch", form("enable_thinking"), ADAPTIVE, "max", enable_thinking=True),
        row("switch off", form("enable_thinking"), OFF, None, enable_thinking=False),
        row("switch untouched", form("enable_thinking")),
        row("no switch", form("enable_thinking", always_reasons=True), OFF),
        # reasoning{}
        row(
            "object with effort", form("openrouter"), ADAPTIVE, "max", reasoning={"effort": "xhigh"}
        ),
        row("object with a budget", form("openrouter"), ON, None, reasoning={"max_tokens": 2048}),
        row("object on", form("openrouter"), ADAPTIVE, None, reasoning={"enabled": True}),
        row("object off", form("openrouter"), OFF, None, reasoning={"enabled": False}),
        row("object always", form("openrouter", always_reasons=True), OFF),
        row("no object", form("openrouter")),
        # thinking{adaptive}
        row("adaptive", form("minimax"), ON, None, thinking={"type": "adaptive"}),
        row("not adaptive", form("minimax"), OFF, None, thinking={"type": "disabled"}),
        row("adaptive always", form("minimax", always_reasons=True), OFF),
        row("split always", {"reasoning_split": True}, None, None, reasoning_split=True),
        # chat_template_kwargs
        row(
            "template on",
            form("template_kwargs"),
            ON,
            None,
            chat_template_kwargs={"enable_thinking": True, "thinking": True},
        ),
        row(
            "template off",
            form("template_kwargs"),
            OFF,
            None,
            chat_template_kwargs={"enable_thinking": False, "thinking": False},
        ),
        row("template untouched", form("template_kwargs")),
        row("no template", form("template_kwargs", always_reasons=True), OFF),
    ],
)
def test_parameter_forms(quirks, thinking, effort, fields):
    assert reasoning_fields_of(thinking, effort, **quirks) == fields


@pytest.mark.parametrize(
    ("efforts", "tools", "fields"),
    [
        pytest.param(GPT, [tool()], {"reasoning_effort": "none"}, id="switched off"),
        pytest.param(("low", "high"), [tool()], {}, id="left out"),
        pytest.param(GPT, None, {"reasoning_effort": "high"}, id="sent without tools"),
    ],
)
def test_effort_refused_with_tools(efforts, tools, fields):
    outgoing = reasoning_fields_of(
        ADAPTIVE, "high", tools=tools, reasoning="effort", efforts=efforts, effort_with_tools=False
    )
    assert outgoing == fields


def test_efforts_are_in_rising_order():
    words = get_args(EffortWord)
    assert words[-1] == "default", "the one that is no degree is last"
    assert words[:-1] == ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@pytest.mark.parametrize(
    ("expected", "allowed", "nearest"),
    [
        pytest.param("low", ("low", "high"), "low", id="allowed"),
        pytest.param("max", ("low", "medium", "high"), "high", id="above"),
        pytest.param("low", ("medium", "high"), "medium", id="below"),
        pytest.param("low", ("none", "high"), "high", id="none is no effort"),
        pytest.param("xhigh", ("high", "max"), "max", id="of two the greater"),
        pytest.param("max", (), "max", id="nothing known"),
        pytest.param("max", ("none",), "max", id="nothing to choose from"),
        pytest.param(
            "gigantic", ("low", "high"), "high", id="an unknown value counts as much effort"
        ),
        pytest.param("gigantic", (), "gigantic", id="unless nothing is known"),
    ],
)
def test_nearest_effort(expected, allowed, nearest):
    assert nearest_effort(expected, allowed) == nearest


def test_the_last_effort_of_the_conversation_applies():
    changed = {**user("b"), "output_config": {"effort": "low"}}
    outcome = ask(
        user("a"), changed, user("c"),
        output_config={"effort": "high"}, to=target(reasoning="effort", efforts=GPT),
    )  # fmt: skip
    assert outcome.body["reasoning_effort"] == "low"


@pytest.mark.parametrize(
    ("stream", "thinking", "streams", "enabled"),
    [
        pytest.param(True, ON, True, True, id="a stream thinks"),
        pytest.param(False, ON, True, True, id="a whole answer is streamed to think"),
        pytest.param(False, OFF, False, False, id="a whole answer without thinking"),
        pytest.param(False, None, False, False, id="thinking is off unless requested"),
        pytest.param(True, None, True, None, id="a stream is left to the default"),
    ],
)
def test_thinking_that_needs_a_stream(stream, thinking, streams, enabled):
    to = target(reasoning="enable_thinking", thinking_needs_stream=True)
    outcome = ask(to=to, stream=stream, thinking=thinking)
    assert outcome.converted.stream is outcome.body.get("stream", False) is streams
    assert outcome.body.get("enable_thinking") is enabled


def test_a_model_that_always_reasons_is_always_streamed_there():
    to = target(reasoning="enable_thinking", thinking_needs_stream=True, always_reasons=True)
    assert ask(to=to).converted.stream is True


@pytest.mark.parametrize(
    "field",
    [
        pytest.param({"thinking": ADAPTIVE}, id="thinking"),
        pytest.param({"output_config": {"effort": "high"}}, id="effort"),
    ],
)
def test_unsupported_reasoning_is_recorded_as_dropped(field):
    assert ask(**field).converted.dropped == ("thinking",)


def signed(words="", *, provider="p", model="m", **carried):
    origin = Origin(provider=provider, model=model, carried=carried)
    return thinking(words, SIGNER.mint(origin))


def assistant_message(*blocks, to, **fields):
    """Return the assistant message for *blocks* in a finished tool turn."""
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
def test_history_forms(history, fields, block):
    message = assistant_message(block, text("ok"), to=target(history=history))
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
    assert (
        assistant_message(thinking("plan"), use("t"), to=target(history=history))["content"]
        == content
    )


def test_several_thinking_blocks_are_joined():
    blocks = (thinking("one"), text("ok"), thinking("two"), thinking(""))
    message = assistant_message(*blocks, to=target(history="reasoning_content"))
    assert message["reasoning_content"] == "one\n\ntwo"


@pytest.mark.parametrize("history", ["drop", "reasoning_content", "think_tags"])
def test_signatures_are_never_sent(history):
    outcome = ask(
        user("q"), assistant(thinking("plan", "sig-xyz"), "ok"), user("n"),
        to=target(history=history),
    )  # fmt: skip
    assert b"sig-xyz" not in outcome.converted.body


def test_dropped_thinking_is_recorded():
    outcome = ask(user("q"), assistant(thinking("plan"), "ok"), user("n"))
    assert outcome.converted.dropped == ("messages.thinking",)


def test_redacted_thinking_is_always_dropped():
    sealed = {"type": "redacted_thinking", "data": "SEALED"}
    outcome = ask(
        user("q"), assistant(sealed, "ok"), user("n"), to=target(history="reasoning_content")
    )
    assert b"SEALED" not in outcome.converted.body
    assert outcome.converted.dropped == ("messages.redacted_thinking",)


# Providers that require reasoning.

REQUIRED: dict[str, Any] = {"history": "reasoning_content", "history_required": True}


@pytest.mark.parametrize(
    ("blocks", "reasoning"),
    [
        pytest.param([thinking("plan"), use("t")], "plan", id="known"),
        pytest.param([use("t")], "", id="unknown"),
        pytest.param([thinking(""), use("t")], "", id="empty"),
        pytest.param([text("ok"), use("t")], "", id="next to text"),
        pytest.param([text("ok")], None, id="no calls, not required"),
        pytest.param([thinking("plan"), text("ok")], "plan", id="no calls, but known"),
    ],
)
def test_reasoning_is_required_in_tool_turns(blocks, reasoning):
    assert assistant_message(*blocks, to=target(**REQUIRED)).get("reasoning_content") == reasoning


def test_reasoning_is_required_to_the_end_of_the_tool_turn():
    outcome = ask(
        user("q"),
        assistant(use("t")),
        user(result("t")),
        assistant("Done."),
        user("thanks"),
        assistant("Welcome."),
        user("bye"),
        to=target(**REQUIRED),
    )
    spoken = [message for message in outcome.messages if message["role"] == "assistant"]
    assert [message.get("reasoning_content") for message in spoken] == ["", "", None]


@pytest.mark.parametrize(
    ("form", "is_required"),
    [
        pytest.param({"type": "disabled"}, False, id="not while thinking is off"),
        pytest.param({"type": "adaptive"}, True, id="while it is on"),
        pytest.param(None, True, id="without a request"),
    ],
)
def test_reasoning_is_required_only_while_thinking(form, is_required):
    message = assistant_message(
        use("t"), to=target(**REQUIRED, reasoning="thinking_type"), thinking=form
    )
    assert ("reasoning_content" in message) is is_required


# Data that only its producer can read.

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
            id="encrypted reasoning without text",
        ),
        pytest.param(thinking(""), None, id="an empty block"),
    ],
)
def test_details(block, details):
    message = assistant_message(block, text("ok"), to=target(history="reasoning_details"))
    assert message.get("reasoning_details") == details


def signatures(*blocks, **at):
    message = assistant_message(*blocks, to=target(thought_signatures=True, **at))
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
            id="is returned with its call",
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
    assert "extra_content" not in assistant_message(use("t"), to=target())["tool_calls"][0]


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        pytest.param(
            "m", {"reasoning_opaque": "SEALED", "reasoning_text": "plan"}, id="the same model"
        ),
        pytest.param("other", {}, id="another model"),
    ],
)
def test_copilots_opaque_reasoning_is_returned_to_its_model(model, fields):
    block = signed("plan", model=model, reasoning_opaque="SEALED")
    message = assistant_message(block, text("ok"), to=target())
    assert {key: value for key, value in message.items() if "reasoning" in key} == fields


@pytest.mark.parametrize(
    ("thinking_form", "effort", "fields"),
    [
        pytest.param(ADAPTIVE, "max", {"reasoning_effort": "xhigh"}, id="the client's"),
        pytest.param(ADAPTIVE, None, {}, id="none"),
        pytest.param(OFF, "max", {}, id="without thinking"),
    ],
)
def test_an_effort_only_if_the_client_names_one(thinking_form, effort, fields):
    assert (
        reasoning_fields_of(thinking_form, effort, reasoning="explicit_effort", efforts=GPT)
        == fields
    )
