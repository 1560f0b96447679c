"""Tests of the assembly of tool calls: identity, ids and arguments."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy.convert.chat.tool_calls import MAX_CALLS, ToolCall, ToolCalls, to_input
from ccproxy.errors import Problem
from ccproxy.protocol.chat import Function, ToolCallDelta


def piece(arguments=None, *, name=None, **more):
    return ToolCallDelta(function=Function(name=name, arguments=arguments), **more)


def collect(pieces, *, is_whole=False):
    """Return the calls in *pieces*, as (provider's id, name, arguments)."""
    calls, result = ToolCalls("msg_1", ()), []
    for delta in pieces:
        call, is_new = calls.find(delta, 0, is_whole=is_whole)
        assert is_new == (call not in result)
        if is_new:
            result.append(call)
    return [
        (call.provider_id, call.name, call.arguments) for call in result if not call.is_repetition
    ]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param(
            [piece("", index=0, id="a", name="R"), piece('{"x"', index=0), piece(":1}", index=0)],
            [("a", "R", '{"x":1}')],
            id="one call by its index",
        ),
        pytest.param(
            [
                piece("", index=0, id="a", name="R"),
                piece("", index=1, id="b", name="G"),
                piece("1", index=0),
                piece("2", index=1),
            ],
            [("a", "R", "1"), ("b", "G", "2")],
            id="interleaved calls",
        ),
        *(
            pytest.param(
                [ToolCallDelta(id="a", name="R", **{field: {"x": 1}})],
                [("a", "R", '{"x":1}')],
                id=f"without `function`, and arguments called {field}",
            )
            for field in ("arguments", "input", "parameters")
        ),
        pytest.param(
            [piece("{}", index=0, id=i, name="R") for i in "abc"],
            [(i, "R", "{}") for i in "abc"],
            id="index always 0: a new id is a new call",
        ),
        pytest.param(
            [piece('{"a":1}', index=0, id="", name="R"), piece('{"a":2}', index=0, name="R")],
            [("", "R", '{"a":1}'), ("", "R", '{"a":2}')],
            id="index always 0, no ids: a name after complete arguments",
        ),
        pytest.param(
            [piece("", index=0, name="R"), piece("", index=0, name="G")],
            [("", "R", ""), ("", "G", "")],
            id="index always 0, no ids: another name",
        ),
        pytest.param(
            [piece("{}", id="a", name="R"), piece("{}", id="b", name="R")],
            [("a", "R", "{}"), ("b", "R", "{}")],
            id="no index: the id",
        ),
        pytest.param(
            [piece("", id="a", name="R"), piece("1"), piece("2")],
            [("a", "R", "12")],
            id="no index, no id: the last call continues",
        ),
        pytest.param(
            [piece("", id="a", name="R"), piece("", id="b", name="G"), piece("1", id="a")],
            [("a", "R", "1"), ("b", "G", "")],
            id="no index: an id again",
        ),
        pytest.param(
            [piece("{}", name="R"), piece("{}", name="R")],
            [("", "R", "{}"), ("", "R", "{}")],
            id="no index, no id: whole calls of one name",
        ),
        pytest.param(
            [piece("", index=0, id="a", name="R"), piece("1", index=0, id="", name="")],
            [("a", "R", "1")],
            id="empty ids and names are absent",
        ),
        pytest.param(
            [piece("", index=0, id="a", name="R"), piece("1", index=0, id="a", name="R")],
            [("a", "R", "1")],
            id="ids and names may be repeated",
        ),
        pytest.param(
            [piece(None, index=0, id="a"), piece("1", index=0, name="R")],
            [("a", "R", "1")],
            id="a late name",
        ),
        pytest.param(
            [piece("", index=0, name="R"), piece("1", index=0, id="a")],
            [("a", "R", "1")],
            id="a late id",
        ),
        pytest.param(
            [piece("", name="R"), piece("1", id="a")], [("a", "R", "1")], id="without an index too"
        ),
        pytest.param(
            [piece("{}", id="same", name="R"), piece("{}", id="same", name="G")],
            [("same", "R", "{}"), ("same", "G", "{}")],
            id="one id for two names",
        ),
        pytest.param(
            [piece("1", index="0", id="a", name="R"), piece("2", index=None)],
            [("a", "R", "12")],
            id="an index that is not a number is ignored",
        ),
        pytest.param(
            [piece("", index=0, id=7, name="R")], [("7", "R", "")], id="an id that is a number"
        ),
        pytest.param(
            [piece("", index=0, id=True, name=["R"])],
            [("", "", "")],
            id="an id and a name of other types",
        ),
        pytest.param([ToolCallDelta(index=0, id="a")], [("a", "", "")], id="no function"),
        pytest.param(
            [
                piece("", index=0, id="a", name="Ba"),
                piece("", index=0, name="sh"),
                piece("1", index=0),
            ],
            [("a", "Bash", "1")],
            id="a name in pieces",
        ),
        pytest.param(
            [
                piece(None, id="a", name="Ba"),
                piece("", id="a", name="s"),
                piece("1", id="a", name="h"),
            ],
            [("a", "Bash", "1")],
            id="and its id with each",
        ),
        pytest.param(
            [piece("1", index=0, id="a", name="R"), piece("", index=0, id="a", name="G")],
            [("a", "R", "1"), ("a", "G", "")],
            id="after arguments another name is another call",
        ),
        pytest.param(
            [
                piece('{"x":1}', index=0, id="a", name="R"),
                piece('{"x":1}', index=0, id="a", name="R"),
            ],
            [("a", "R", '{"x":1}')],
            id="a repeated call",
        ),
        pytest.param(
            [piece({"x": 1}, id="a", name="R"), piece({"x": 1}, id="a", name="R")],
            [("a", "R", '{"x":1}')],
            id="again without an index",
        ),
        pytest.param(
            [
                piece('{"x":', index=0, id="a", name="R"),
                piece("1}", index=0),
                piece("{}", index=1, id="b", name="R"),
                piece('{"x":1}', index=0, id="a"),
            ],
            [("a", "R", '{"x":1}'), ("b", "R", "{}")],
            id="again as a whole, after another one",
        ),
        pytest.param(
            [
                piece('{"x":1}', index=0, id="a", name="R"),
                piece('{"x":2}', index=0, id="a", name="R"),
            ],
            [("a", "R", '{"x":1}'), ("a", "R", '{"x":2}')],
            id="one id with other arguments",
        ),
        pytest.param(
            [piece('{"x":1}', index=0, name="R"), piece('{"x":1}', index=0, name="R")],
            [("", "R", '{"x":1}'), ("", "R", '{"x":1}')],
            id="without ids the same twice may be meant",
        ),
        pytest.param(
            [piece("1", index=0, id="a", name="R"), piece("1", index=0, id="a", name="R")],
            [("a", "R", "11")],
            id="the same piece twice",
        ),
    ],
)
def test_identity(pieces, expected):
    assert collect(pieces) == expected


def test_every_call_of_a_whole_answer_is_its_own_unless_it_is_repeated():
    pieces = [piece("{}", id="same", name="R"), piece("{}", id="same", name="R"), piece("{}")]
    assert collect(pieces, is_whole=True) == [("same", "R", "{}"), ("", "", "{}")]


def test_choices_have_their_own_indexes():
    calls = ToolCalls("msg_1", ())
    first, _ = calls.find(piece("1", index=0, name="R"), 0, is_whole=False)
    second, is_new = calls.find(piece("2", index=0, name="R"), 1, is_whole=False)
    assert is_new
    assert (first.arguments, second.arguments) == ("1", "2")


# Ids.


@pytest.mark.parametrize(
    "expected",
    ["call_a", "toolu_01AbC", "chatcmpl-tool-1", "gSIMJiOkT", "0"],
)
def test_a_valid_new_id_is_kept(expected):
    assert ToolCalls("msg_1", {"other"}).claim_id(expected) == expected


@pytest.mark.parametrize(
    "expected",
    [
        pytest.param("", id="none"),
        pytest.param("functions.Read:0", id="Kimi's"),
        pytest.param("a b", id="a blank"),
        pytest.param("a\n", id="a line end"),
        pytest.param("é", id="a letter that is not ASCII"),
        pytest.param("known", id="one that the conversation has"),
    ],
)
def test_an_invalid_or_known_id_is_replaced(expected):
    made = ToolCalls("msg_1", {"known"}).claim_id(expected)
    assert made.startswith("toolu_")
    assert made.replace("toolu_", "").isalnum()
    assert made == ToolCalls("msg_1", {"known"}).claim_id(expected)
    assert made != ToolCalls("msg_2", {"known"}).claim_id(expected)


def test_ids_are_unique_in_the_answer():
    calls = ToolCalls("msg_1", ())
    ids = [calls.claim_id(expected) for expected in ("a", "a", "", "", "a")]
    assert ids[0] == "a"
    assert len(set(ids)) == 5


def test_an_answer_with_too_many_calls_is_an_error():
    pieces = [piece("{}", name="f", index=number) for number in range(MAX_CALLS + 1)]
    assert len(collect(pieces[:-1])) == MAX_CALLS
    with pytest.raises(Problem, match="more than 4,096 tool calls"):
        collect(pieces)


def test_a_generated_id_may_already_exist():
    made = ToolCalls("msg_1", ()).claim_id("")
    assert ToolCalls("msg_1", {made}).claim_id("") not in ("", made)


# Arguments.


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        ("  ", {}),
        ("null", {}),
        ('""', {}),
        ("[]", {}),
        ('{"a": 1}', {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ("[1]", {"arguments": [1]}),
        ("5", {"arguments": 5}),
        ('"text"', {"arguments": "text"}),
        ('{"a": 1,}', {"arguments": '{"a": 1,}'}),
        ('{"a', {"arguments": '{"a'}),
        ("path=x", {"arguments": "path=x"}),
    ],
)
def test_input_is_always_an_object(arguments, expected):
    assert to_input(arguments) == expected


@settings(deadline=None)
@given(st.text())
def test_any_text_becomes_an_object(text):
    assert isinstance(to_input(text), dict)


def relayed(parts):
    call = ToolCall()
    outgoing = []
    for part in parts:
        call.add(part)
        outgoing.append(call.take())
    return [*outgoing, call.rest()]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param(['{"a"', ":1}"], ['{"a"', ":1}", ""], id="as they arrive"),
        pytest.param([" ", '{"a"', ":1}"], ["", ' {"a"', ":1}", ""], id="blanks wait"),
        pytest.param(['{"a', None, ""], ['{"a', "", "", ""], id="even if they are cut"),
        pytest.param(["nu", "ll"], ["", "", ""], id="null"),
        pytest.param(['"{', '}"'], ["", "", ""], id="an empty object, encoded twice"),
        pytest.param(["{}"], ["", "{}"], id="an empty object waits for a better one"),
        pytest.param(["{}", '{"a"', ":1}"], ["", '{"a"', ":1}", ""], id="which replaces it"),
        pytest.param(["{}", "", None], ["", "", "", "{}"], id="unless it is missing"),
        pytest.param(["{}", "\n"], ["", "{}\n", ""], id="unless only white space follows"),
        pytest.param([{"a": 1}], ['{"a":1}', ""], id="an object"),
        pytest.param([[1]], ["", '{"arguments":[1]}'], id="a list"),
        pytest.param(["x", "y"], ["", "", '{"arguments":"xy"}'], id="no JSON"),
        pytest.param([], [""], id="nothing"),
    ],
)
def test_relayed_arguments(parts, expected):
    assert relayed(parts) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [('{"a":1,}', '{"a":1,}'), ('{ "a": 1 }', '{ "a": 1 }'), ("", "")],
)
def test_whole_arguments_are_sent_when_they_are_an_object(arguments, expected):
    call, _ = ToolCalls("m", ()).find(piece(arguments, name="R"), 0, is_whole=True)
    assert (call.take(), call.rest()) == ("", expected)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([], False, id="nothing"),
        pytest.param([" "], False, id="blank"),
        pytest.param(['{"a":'], False, id="half an object"),
        pytest.param(['{"a":{}'], False, id="a brace that is not the last"),
        pytest.param(['{"a":{}', "}"], True, id="an object"),
        pytest.param(['{"a":1}', "\n", ""], True, id="blanks behind it"),
        pytest.param(["null"], True, id="null"),
    ],
)
def test_completeness(parts, expected):
    call = ToolCall()
    for part in parts:
        call.add(part)
    assert call.is_complete is expected
    assert call.is_complete is expected  # even if it is already known


def test_more_parts_make_arguments_incomplete_again():
    call = ToolCall()
    call.add("{}")
    assert call.is_complete
    call.add('{"a"')
    assert not call.is_complete
    call.add(":1}")
    assert (call.is_complete, call.arguments) == (True, '{"a":1}')


def test_absorbed_parts_are_not_sent_again():
    call = ToolCall()
    call.add('{"a":"')
    assert call.take() == '{"a":"'
    call.absorb(["b", "c"], 2)
    call.add('"}')
    assert (call.take(), call.arguments, call.is_complete) == ('"}', '{"a":"bc"}', True)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param(["{}"], False, id="an empty object"),
        pytest.param(["{}", " "], True, id="white space is no better one"),
        pytest.param(["{}", '{"a":1}'], True, id="the better one"),
        pytest.param(['{"a"'], False, id="half an object"),
        pytest.param(["{", "}"], True, id="an empty object that was relayed"),
    ],
)
def test_settled_arguments(parts, expected):
    call = ToolCall()
    for part in parts:
        call.add(part)
        call.take()
    assert call.is_settled is expected


def test_a_closed_call_accepts_only_white_space():
    call = ToolCall()
    call.add("{}")
    call.is_closed = True
    for nothing in (None, "", " \n"):
        call.add(nothing)
    assert call.arguments == "{}"
    with pytest.raises(Problem, match="had ended"):
        call.add("more")


@pytest.mark.parametrize(
    ("pieces", "is_complete"),
    [
        pytest.param(['"' + "x" * 80 + '"'], False, id="a long text is not parsed again and again"),
        pytest.param(["{\\}", "}"], False, id="a backslash outside of a string"),
        pytest.param(['{"a":"\\"', '"}'], True, id="an escape that is cut"),
        pytest.param(["1"], True, id="a number"),
        pytest.param(['{"a":1}', " "], True, id="white space after an object"),
        pytest.param(["{}", '{"a"', " "], False, id="white space within the next object"),
    ],
)
def test_the_end_of_arguments(pieces, is_complete):
    one = ToolCall()
    for each in pieces:
        one.add(each)
        one.is_complete  # noqa: B018 - scans the arguments
    assert one.is_complete is is_complete


def test_an_empty_object_is_replaced_by_the_real_arguments():
    pieces = [
        piece("{}", index=0, id="a", name="R"),
        piece('{"x":1}', index=0, id="a", name="R"),
    ]
    assert collect(pieces) == [("a", "R", '{"x":1}')]


@pytest.mark.parametrize(
    ("arguments", "members"),
    [
        pytest.param('{"a": 1, "b": "x', {"a": 1}, id="a text"),
        pytest.param('{"a": "x, \\" {", "b', {"a": 'x, " {'}, id="signs within a text"),
        pytest.param('{"a": {"x": [1, 2]}, "b": [1, ', {"a": {"x": [1, 2]}}, id="nested"),
        pytest.param('{"a": [1, 2', {}, id="no member is whole"),
        pytest.param('{"a" 1, "b', {}, id="broken"),
    ],
)
def test_complete_members_of_cut_arguments_are_kept(arguments, members):
    assert to_input(arguments, is_cut=True) == members
