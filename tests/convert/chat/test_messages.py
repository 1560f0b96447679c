"""Tests of conversations: roles, tool results, IDs and incomplete histories."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ccproxy.errors import Problem
from tests.asking import (
    PNG,
    ask,
    assistant,
    image,
    result,
    system,
    target,
    text,
    thinking,
    tool,
    use,
    user,
)

IMAGE_PART = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}


def tool_answers(outcome):
    """Return the tool messages as (id, content)."""
    return [
        (message["tool_call_id"], message["content"])
        for message in outcome.messages
        if message["role"] == "tool"
    ]


# Order of roles.


@pytest.mark.parametrize(
    ("messages", "roles"),
    [
        pytest.param([user("a")], "user", id="a lone question"),
        pytest.param(
            [user("a"), assistant("b"), user("c")],
            "user assistant user",
            id="turns stay separate",
        ),
        pytest.param(
            [user("a"), user("b")],
            "user user",
            id="neighbouring user messages stay apart",
        ),
        pytest.param(
            [user("a"), assistant("b"), assistant("c"), user("d")],
            "user assistant user",
            id="neighbouring assistant messages are one",
        ),
        pytest.param(
            [user("a"), system("b")],
            "user system",
            id="a system message stays in its place",
        ),
        pytest.param(
            [user("a"), system("b"), user("c"), assistant("d"), system("e"), user("f")],
            "user system user assistant system user",
            id="several system messages stay in their places",
        ),
        pytest.param(
            [assistant("I was cut"), user("a")],
            "assistant user",
            id="a compacted history may begin with the assistant",
        ),
        pytest.param(
            [user("a"), assistant(use("t1")), user(result("t1"))],
            "user assistant tool",
            id="a result is a tool message",
        ),
        pytest.param(
            [user("a"), assistant(use("t1")), user(result("t1"), "and now?")],
            "user assistant tool user",
            id="text next to a result follows it",
        ),
        pytest.param(
            [user("a"), assistant(use("t1")), user("wait", result("t1"))],
            "user assistant tool user",
            id="text before a result follows it, too",
        ),
        pytest.param(
            [user("a"), assistant(use("t1")), system("s"), user(result("t1"))],
            "user assistant tool system",
            id="a system message is never between a call and its result",
        ),
        pytest.param(
            [user("a"), assistant(use("t1")), user(result("t1")), system("s")],
            "user assistant tool system",
            id="a system message may follow a result",
        ),
        pytest.param(
            [user("a"), assistant(use("t1"), use("t2")), user(result("t2")), user(result("t1"))],
            "user assistant tool tool",
            id="results may be in several messages",
        ),
        pytest.param(
            [
                user("a"),
                assistant(use("t1")),
                assistant(use("t2")),
                user(result("t1"), result("t2")),
            ],
            "user assistant tool tool",
            id="calls in neighbouring messages are answered together",
        ),
        pytest.param(
            [user("a"), assistant("b")],
            "user assistant",
            id="a prefill stays the last message",
        ),
        pytest.param(
            [user("a"), assistant("b", use("t1"))],
            "user assistant tool",
            id="a conversation that ends with a call is repaired",
        ),
        pytest.param(
            [user("a"), {"role": "developer", "content": "b"}],
            "user system",
            id="developer is another word for system",
        ),
        pytest.param(
            [user("a"), {"role": "narrator", "content": "b"}],
            "user user",
            id="an unknown role counts as the user",
        ),
    ],
)
def test_order(messages, roles):
    assert ask(*messages).roles == roles


@pytest.mark.parametrize(
    ("messages", "roles"),
    [
        pytest.param(
            [user("a"), assistant(""), user("b")],
            "user user",
            id="an empty answer",
        ),
        pytest.param(
            [
                user("a"),
                assistant({"type": "thinking", "thinking": "hm", "signature": ""}),
                user("b"),
            ],
            "user user",
            id="an answer of thinking only",
        ),
        pytest.param(
            [user("a"), assistant({"type": "redacted_thinking", "data": "x"}), user("b")],
            "user user",
            id="an answer of redacted thinking only",
        ),
        pytest.param([user("a"), user("")], "user", id="an empty question"),
        pytest.param([user("a"), user(text(""))], "user", id="a question of an empty block"),
        pytest.param([user("a"), system("")], "user", id="an empty system message"),
        pytest.param(
            [user("a"), {"role": "user", "content": []}],
            "user",
            id="a question without blocks",
        ),
        pytest.param(
            [user("a"), user({"type": "container_upload", "file_id": "f"})],
            "user",
            id="a question about an unknown block",
        ),
    ],
)
def test_empty_messages_are_left_out(messages, roles):
    assert ask(*messages).roles == roles


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([user("")], id="one empty message"),
        pytest.param([user({"type": "container_upload"})], id="one unknown block"),
        pytest.param([system("s")], id="only system messages"),
    ],
)
def test_a_request_always_has_a_user_message(messages):
    assert ask(*messages).messages[-1] == {"role": "user", "content": "(no content)"}


# Content.


def test_user_text_is_a_string():
    assert ask(user("alpha")).messages == [{"role": "user", "content": "alpha"}]


def test_several_texts_stay_separate_parts():
    parts = [{"type": "text", "text": "alpha"}, {"type": "text", "text": "beta"}]
    assert ask(user("alpha", "beta")).messages[0]["content"] == parts


def test_several_texts_are_joined_if_parts_are_not_supported():
    outcome = ask(user("alpha", "beta"), to=target(flat_text=True))
    assert outcome.messages[0]["content"] == "alpha\n\nbeta"


def test_an_image_stays_a_part_although_texts_are_flat():
    outcome = ask(user("look", image()), to=target(flat_text=True))
    assert outcome.messages[0]["content"] == [{"type": "text", "text": "look"}, IMAGE_PART]


def test_assistant_texts_are_joined_with_a_blank_line():
    outcome = ask(user("a"), assistant("one", "two"), user("b"))
    assert outcome.messages[1] == {"role": "assistant", "content": "one\n\ntwo"}


def test_a_call_has_name_and_arguments():
    outcome = ask(user("a"), assistant("Look.", use("toolu_1", "Read", path="x", n=[1])), user("b"))
    assert outcome.messages[1]["content"] == "Look."
    (call,) = outcome.messages[1]["tool_calls"]
    assert call["id"] == "toolu_1"
    assert call["function"]["name"] == "Read"
    assert json.loads(call["function"]["arguments"]) == {"path": "x", "n": [1]}


def test_arguments_are_the_clients_bytes():
    body = (
        b'{"model":"m","max_tokens":9,"messages":[{"role":"assistant","content":['
        b'{"type":"tool_use","id":"t","name":"f","input":{"b": 1.50,"a":"\\u00e9"}}]}]}'
    )
    from ccproxy.convert.chat.request import to_chat
    from ccproxy.protocol.messages import read_request
    from tests.asking import SIGNER

    outgoing = json.loads(to_chat(read_request(body), target(), signer=SIGNER).body)
    arguments = outgoing["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert arguments == '{"b": 1.50,"a":"\\u00e9"}'


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="empty"),
        pytest.param(None, id="null"),
        pytest.param("text", id="a string"),
        pytest.param([1], id="a list"),
        pytest.param(7, id="a number"),
    ],
)
def test_arguments_are_always_an_object(settings):
    outcome = ask(user("a"), assistant({**use("t"), "input": settings}), user("b"))
    assert json.loads(outcome.messages[1]["tool_calls"][0]["function"]["arguments"]) == {}


def test_a_call_without_input_has_no_arguments():
    call = use("t")
    del call["input"]
    outcome = ask(user("a"), assistant(call), user("b"))
    assert outcome.messages[1]["tool_calls"][0]["function"]["arguments"] == "{}"


@pytest.mark.parametrize(
    ("null_content", "content"),
    [
        pytest.param(True, None, id="null next to calls"),
        pytest.param(False, "", id="an empty string where null is refused"),
    ],
)
def test_content_next_to_calls(null_content, content):
    outcome = ask(user("a"), assistant(use("t")), user("b"), to=target(null_content=null_content))
    assert outcome.messages[1]["content"] == content


def test_long_tool_names_are_the_same_in_history_and_tools():
    name = "mcp__" + "x" * 90
    outcome = ask(user("a"), assistant(use("t", name)), user(result("t")), tools=[tool(name)])
    outgoing = outcome.body["tools"][0]["function"]["name"]
    assert outcome.messages[1]["tool_calls"][0]["function"]["name"] == outgoing
    assert outcome.converted.tool_names == {outgoing: name}


def test_a_shortened_name_in_the_history_is_mapped_back():
    outcome = ask(user("a"), assistant(use("t", "files.read")), user(result("t")))
    outgoing = outcome.messages[1]["tool_calls"][0]["function"]["name"]
    assert outcome.converted.tool_names == {outgoing: "files.read"}


# Tool results and their calls.


@pytest.mark.parametrize(
    ("expected", "answers"),
    [
        pytest.param(
            [assistant(use("t1"), use("t2")), user(result("t1", "one"), result("t2", "two"))],
            [("t1", "one"), ("t2", "two")],
            id="in the order of the calls",
        ),
        pytest.param(
            [assistant(use("t1"), use("t2")), user(result("t2", "two"), result("t1", "one"))],
            [("t1", "one"), ("t2", "two")],
            id="results in the order of their completion are put in order",
        ),
        pytest.param(
            [assistant(use("t1"), use("t2")), user(result("t2", "two"))],
            [("t1", "[no result]"), ("t2", "two")],
            id="a call without a result gets one",
        ),
        pytest.param(
            [assistant(use("t1")), user("never mind")],
            [("t1", "[no result]")],
            id="an interrupted call",
        ),
        pytest.param(
            [user(result("gone", "late"), "go on")],
            [],
            id="a result without its call is no tool message",
        ),
        pytest.param(
            [assistant(use("t1")), user(result("t1", "one")), user(result("t1", "again"))],
            [("t1", "one")],
            id="a second result of one call is no tool message",
        ),
        pytest.param(
            [assistant(use("t1")), user("no"), assistant("ok"), user(result("t1", "late"))],
            [("t1", "[no result]")],
            id="a result after the next answer is no tool message",
        ),
    ],
)
def test_results(expected, answers):
    assert tool_answers(ask(user("go"), *expected)) == answers


def test_an_orphan_keeps_its_text():
    outcome = ask(user(result("gone", "late result"), "continue"))
    output = [part["text"] for part in outcome.messages[0]["content"]]
    assert output == ["[result of an earlier tool call]\nlate result", "continue"]


def test_an_orphan_keeps_its_image():
    outcome = ask(user(result("gone", [image()])))
    assert outcome.messages[0]["content"][1] == IMAGE_PART


def test_blocks_next_to_results_keep_their_order():
    outcome = ask(
        user("go"),
        assistant(use("t1")),
        system("first"),
        user("second", result("t1"), "third"),
        system("fourth"),
    )
    assert outcome.roles == "user assistant tool system user system"
    assert "first" in outcome.messages[3]["content"]
    assert [part["text"] for part in outcome.messages[4]["content"]] == ["second", "third"]


def test_an_image_in_a_result_follows_with_its_text():
    outcome = ask(
        user("go"),
        assistant(use("t1"), use("t2")),
        user(result("t2", [text("page"), image()]), result("t1", "x"), "<system-reminder>"),
    )
    assert outcome.roles == "user assistant tool tool user"
    assert tool_answers(outcome) == [("t1", "x"), ("t2", "page\n[image follows]")]
    assert outcome.messages[-1]["content"] == [
        IMAGE_PART,
        {"type": "text", "text": "<system-reminder>"},
    ]


# IDs.


@pytest.mark.parametrize(
    "call_id",
    [
        pytest.param("toolu_01ABC", id="Anthropic's"),
        pytest.param("call_abc|1", id="with a bar"),
        pytest.param("functions.Read:0", id="with a name"),
        pytest.param("chatcmpl-tool-" + "a" * 50, id="long"),
        pytest.param('quote"back\\slash', id="with characters that JSON escapes"),
        pytest.param("ünïcode-标识", id="not ASCII"),
    ],
)
def test_ids_are_kept(call_id):
    outcome = ask(user("a"), assistant(use(call_id)), user(result(call_id)))
    assert outcome.messages[1]["tool_calls"][0]["id"] == call_id
    assert tool_answers(outcome) == [(call_id, "done")]
    assert outcome.converted.known_ids == {call_id}


def test_a_repeated_id_is_used_once():
    turn = [assistant(use("call_0")), user(result("call_0", "x"))]
    outcome = ask(user("a"), *turn, *turn, *turn)
    ids = [call_id for call_id, _ in tool_answers(outcome)]
    assert ids[0] == "call_0"
    assert len(set(ids)) == 3
    assert outcome.converted.known_ids == {"call_0"}


def test_two_calls_with_one_id_get_their_results_in_order():
    outcome = ask(
        user("a"),
        assistant(use("c", "Read", n=1), use("c", "Read", n=2)),
        user(result("c", "one"), result("c", "two")),
    )
    calls = outcome.messages[1]["tool_calls"]
    assert [content for _, content in tool_answers(outcome)] == ["one", "two"]
    assert [call["id"] for call in calls] == [call_id for call_id, _ in tool_answers(outcome)]


@pytest.mark.parametrize(
    "call",
    [
        pytest.param({**use(""), "id": ""}, id="empty"),
        pytest.param({**use(""), "id": None}, id="null"),
        pytest.param({**use(""), "id": 7}, id="a number"),
    ],
)
def test_a_call_without_an_id_gets_one(call):
    outcome = ask(user("a"), assistant(call), user(result("")))
    (answer,) = tool_answers(outcome)
    assert answer[0] == outcome.messages[1]["tool_calls"][0]["id"] != ""
    assert answer[1] == "done"


@pytest.mark.parametrize("form", ["nine", "forty"])
def test_ids_fit_the_provider(form):
    long = "toolu_" + "x" * 50
    outcome = ask(
        user("a"),
        assistant(use(long), use("ABCdef123")),
        user(result("ABCdef123", "b"), result(long, "a")),
        to=target(tool_ids=form),
    )
    (first, _), (second, _) = tool_answers(outcome)
    assert second == "ABCdef123"
    assert first != long
    assert [call["id"] for call in outcome.messages[1]["tool_calls"]] == [first, second]
    assert outcome.converted.known_ids == {long, "ABCdef123"}


# Quirks about order.


def test_text_after_results_moves_into_them_if_a_user_message_is_refused():
    outcome = ask(
        user("a"),
        assistant(use("t")),
        user(result("t", "r"), "go on"),
        system("note"),
        to=target(user_after_tool=False, system_messages="first"),
    )
    assert outcome.roles == "user assistant tool"
    assert outcome.messages[-1]["content"] == (
        "r\n\ngo on\n\n<system-reminder>\nnote\n</system-reminder>"
    )


def test_an_image_after_results_follows_an_assistant_message():
    outcome = ask(
        user("a"),
        assistant(use("t")),
        user("look", result("t", [image()])),
        user("well?"),
        to=target(user_after_tool=False),
    )
    assert outcome.roles == "user assistant tool assistant user user"
    assert outcome.messages[2]["content"] == "[image follows]"
    assert outcome.messages[4]["content"][0] == IMAGE_PART
    assert outcome.messages[5]["content"] == "well?"


def test_texts_before_an_image_still_move():
    outcome = ask(
        user("a"),
        assistant(use("t")),
        user(result("t", "r")),
        user("read"),
        user(image()),
        to=target(user_after_tool=False),
    )
    assert outcome.messages[2]["content"] == "r\n\nread"
    assert outcome.roles == "user assistant tool assistant user"


def test_an_empty_answer_does_not_separate_results_from_later_messages():
    outcome = ask(
        user("a"), assistant(use("t")), user(result("t", "r")), assistant(""), user("b"),
        to=target(user_after_tool=False),
    )  # fmt: skip
    assert outcome.roles == "user assistant tool"
    assert outcome.messages[-1]["content"] == "r\n\nb"


def test_an_assistant_may_follow_results_anywhere():
    outcome = ask(
        user("a"), assistant(use("t")), user(result("t")), assistant("b"), user("c"),
        to=target(user_after_tool=False),
    )  # fmt: skip
    assert outcome.roles == "user assistant tool assistant user"


@pytest.mark.parametrize(
    ("prefill", "flags"),
    [
        pytest.param("plain", set(), id="no flag"),
        pytest.param("prefix", {"prefix"}, id="prefix"),
        pytest.param("partial", {"partial"}, id="partial"),
    ],
)
def test_prefill(prefill, flags):
    outcome = ask(user("json"), assistant('{"a":'), to=target(prefill=prefill))
    last = outcome.messages[-1]
    assert last.keys() - {"role", "content"} == flags
    assert last["content"] == '{"a":'


def test_a_prefill_flag_needs_a_trailing_assistant():
    outcome = ask(user("a"), assistant("b"), user("c"), to=target(prefill="prefix"))
    assert all("prefix" not in message for message in outcome.messages)


# Prompt caches.

SESSION = [
    user(text("<system-reminder>ctx</system-reminder>"), text("fix it")),
    system("environment"),
    assistant("Looking.", use("t1", path="a"), use("t2", "mcp__" + "y" * 80)),
    user(result("t2", [text("x"), image()]), result("t1", "y", is_error=True), "todo"),
    system("tools changed"),
    assistant(use("t1")),
    user(result("t1")),
    assistant("Done."),
    user("thanks"),
    user("one more", image()),
    assistant("a", "b"),
    user("bye"),
]


@pytest.mark.parametrize(
    "quirks",
    [
        pytest.param({}, id="plain"),
        pytest.param({"system_messages": "first", "user_after_tool": False}, id="strict order"),
        pytest.param({"tool_ids": "nine", "flat_text": True, "null_content": False}, id="nine"),
        pytest.param({"history": "reasoning_content", "history_required": True}, id="reasoning"),
        pytest.param({"images": False, "thought_signatures": True}, id="blind"),
    ],
)
@pytest.mark.parametrize("turn", [1, 4, 5, 7, 9, 10])
def test_the_beginning_of_a_conversation_is_stable(quirks, turn):
    earlier = ask(*SESSION[:turn], system="prompt", to=target(**quirks)).messages
    later = ask(*SESSION, system="prompt", to=target(**quirks)).messages
    assert earlier == later[: len(earlier)]


@pytest.mark.parametrize("role", [pytest.param(user, id="user"), pytest.param(system, id="system")])
@pytest.mark.parametrize(
    "words",
    [
        pytest.param("plain", id="plain"),
        pytest.param('quotes " and \\ and \n and \t', id="escapes"),
        pytest.param("naïve → 数据 😀 \u2028", id="not ASCII"),
    ],
)
@pytest.mark.parametrize(
    "quirks", [pytest.param({}, id="plain"), pytest.param({"system_messages": "first"}, id="first")]
)
def test_string_and_list_of_one_text_are_the_same_bytes(role, words, quirks):
    string = ask(user("a"), role(words), to=target(**quirks)).converted.body
    marked = text(words, cache_control={"type": "ephemeral"})
    listed = ask(user("a"), role(marked), to=target(**quirks)).converted.body
    assert string == listed


def test_escapes_of_the_client_are_copied():
    from ccproxy.convert.chat.request import to_chat
    from ccproxy.protocol.messages import read_request
    from tests.asking import SIGNER

    words = r'"caf\u00e9 \/ \ud83d\ude00"'
    forms = [words, f'[{{"type":"text","text":{words}}}]']
    bodies = [
        to_chat(
            read_request(
                f'{{"model":"m","max_tokens":1,"messages":[{{"role":"user","content":{form}}}]}}'.encode()
            ),
            target(),
            signer=SIGNER,
        ).body
        for form in forms
    ]
    assert bodies[0] == bodies[1]
    assert words.encode() in bodies[0]


# Cache marks, and errors.


def test_cache_marks_are_left_out():
    marked = text("big", cache_control={"type": "ephemeral"})
    outcome = ask(user(marked), system=[marked], tools=[tool(cache_control={"type": "ephemeral"})])
    assert b"cache_control" not in outcome.converted.body


def test_cache_marks_are_sent_if_supported():
    mark = {"cache_control": {"type": "ephemeral"}}
    outcome = ask(
        user("a"),
        assistant(use("t")),
        user(result("t", "r", **mark), text("b", **mark)),
        system=[text("s1"), text("s2", **mark)],
        to=target(cache_control=True),
    )
    assert outcome.messages[0]["content"] == [text("s1"), text("s2", **mark)]
    assert outcome.messages[3]["content"] == [text("r", **mark)]
    assert outcome.messages[4]["content"] == [text("b", **mark)]


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        pytest.param(
            {"role": "user", "content": 7},
            "messages.1.content: Input should be a valid string or list of blocks",
            id="content is a number",
        ),
        pytest.param(
            user({"type": "text", "text": 7}),
            "messages.1.content.0.text: Input should be a valid string",
            id="text is a number",
        ),
        pytest.param(
            user(text("a"), {"type": "text"}),
            "messages.1.content.1.text: Field required",
            id="text is missing",
        ),
        pytest.param(
            user({"text": "a"}),
            "messages.1.content.0.type: Field required",
            id="type is missing",
        ),
        pytest.param(
            {"role": "user", "content": ["a"]},
            "messages.1.content.0: Input should be a valid dictionary",
            id="a block is a string",
        ),
        pytest.param(
            user({"type": "image"}),
            "messages.1.content.0.source: Field required",
            id="an image without a source",
        ),
        pytest.param(
            user({"type": "image", "source": {"type": "base64", "media_type": "image/png"}}),
            "messages.1.content.0.source.data: Field required",
            id="an image without data",
        ),
        pytest.param(
            user(result("x", [text("a"), {"type": "text", "text": {}}])),
            "messages.1.content.0.content.1.text: Input should be a valid string",
            id="inside a result",
        ),
        pytest.param(
            assistant({"type": "tool_use", "id": "t", "input": {}}),
            "messages.1.content.0.name: Field required",
            id="a call without a name",
        ),
        pytest.param(
            system(text("a"), {"type": "text"}),
            "messages.1.content.1.text: Field required",
            id="a system message",
        ),
    ],
)
def test_errors_contain_the_path(message, complaint):
    with pytest.raises(Problem) as caught:
        ask(user("a"), message, user("b"))
    assert caught.value.kind == "invalid_request_error"
    assert caught.value.message == complaint


def test_errors_name_the_message_of_a_merged_turn():
    invalid = {"type": "text"}
    for turn, path in [
        ([assistant(text("a"), invalid), assistant("b")], "messages.1.content.1.text"),
        ([assistant("a"), assistant(text("b"), invalid)], "messages.2.content.1.text"),
        ([assistant(), assistant(invalid)], "messages.2.content.0.text"),
    ]:
        with pytest.raises(Problem) as caught:
            ask(user("a"), *turn)
        assert caught.value.message == f"{path}: Field required"


def test_deeply_nested_documents_are_refused():
    deep = text("x")
    for _ in range(300):
        deep = {"type": "document", "source": {"type": "content", "content": [deep]}}
    with pytest.raises(Problem, match="nested too deeply"):
        ask(user(deep))


def test_a_nested_document_is_converted():
    deep = text("x")
    for _ in range(20):
        deep = {"type": "document", "source": {"type": "content", "content": [deep]}}
    assert ask(user(deep)).messages[0]["content"] == "x"


# Alternating roles.

MERGED: dict[str, Any] = {"merge_user_messages": True, "system_messages": "first"}


def test_consecutive_user_messages_are_merged():
    outcome = ask(user("a"), system("b"), user("c"), to=target(**MERGED))
    (message,) = outcome.messages
    assert message["content"] == "a\n\n<system-reminder>\nb\n</system-reminder>\n\nc"


def test_a_merged_image_stays_a_part():
    (message,) = ask(user("a"), user(image()), to=target(**MERGED)).messages
    assert [part["type"] for part in message["content"]] == ["text", "image_url"]


def test_text_after_results_is_appended_to_the_last_one():
    turns = [user("a"), assistant(use("t1"), use("t2")), user(result("t2", "2"), result("t1", "1"))]
    outcome = ask(*turns, system("now"), user("go"), to=target(**MERGED))
    assert outcome.roles == "user assistant tool tool"
    content = outcome.messages[-1]["content"]
    assert content == "2\n\n<system-reminder>\nnow\n</system-reminder>\n\ngo"


def test_an_image_after_results_needs_no_assistant_message():
    turns = [user("a"), assistant(use("t1")), user(result("t1", [image()]), "see?")]
    assert ask(*turns, to=target(**MERGED)).roles == "user assistant tool user"


def test_ids_of_the_form_that_the_model_has_learned():
    turns = [
        user("a"),
        assistant(use("toolu_1", "Read"), use("toolu_2", "Bash")),
        user(result("toolu_1"), result("toolu_2")),
        assistant(use("toolu_1", "Read")),
        user(result("toolu_1")),
    ]
    outcome = ask(*turns, to=target(tool_ids="functions"))
    calls = [call["id"] for each in outcome.messages for call in each.get("tool_calls", ())]
    assert calls == ["functions.Read:0", "functions.Bash:1", "functions.Read:2"]
    results = [each["tool_call_id"] for each in outcome.messages if each["role"] == "tool"]
    assert results == calls


def test_thinking_is_sent_in_tool_turns_only_if_that_is_the_scope():
    turns = [
        user("a"),
        assistant(thinking("one"), use("t1")),
        user(result("t1")),
        assistant(thinking("two"), "done"),
        user("b"),
        assistant(thinking("three"), "ok"),
        user("c"),
    ]
    to = target(history="both_fields", history_scope="tool_turns")
    messages = [each for each in ask(*turns, to=to).messages if each["role"] == "assistant"]
    assert [each.get("reasoning") for each in messages] == ["one", "two", None]
    assert [each.get("reasoning_content") for each in messages] == ["one", "two", None]


@pytest.mark.parametrize(
    "mark",
    [{"type": "ephemeral", "scope": "global"}, {"type": "ephemeral", "ttl": "1h", "x": {"y": 1}}],
)
def test_cache_marks_keep_only_type_and_ttl(mark):
    part = {"type": "text", "text": "a", "cache_control": mark}
    outcome = ask(user(part), system=[part], to=target(cache_control=True))
    expected = {name: mark[name] for name in ("type", "ttl") if name in mark}
    for message in outcome.messages:
        assert message["content"][0]["cache_control"] == expected


def test_unsigned_thinking_is_not_sent_to_providers_that_verify_it():
    turns = [user("a"), assistant(thinking("Hm", "foreign"), use("t1")), user(result("t1"))]
    to = target(history="reasoning_details", unsigned_thinking=False)
    assert "Hm" not in str(ask(*turns, to=to).messages)
    assert "Hm" in str(ask(*turns, to=target(history="reasoning_details")).messages)
