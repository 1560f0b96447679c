"""Test cases from recorded exchanges: they have no private text, and they pass."""

from __future__ import annotations

import json

import pytest

from ccproxy.cli.recordings.case_from_recording import case_from_recording
from ccproxy.cli.recordings.placeholders import Placeholders, placeholder
from ccproxy.errors import CcproxyError
from ccproxy.store.recordings import recordings
from tests.cases.case import check
from tests.fleet import eventually
from tests.messages import ask, prompt
from tests.provider import chunk, completion, stream, tool_call
from tests.worker.proxy import running

TEXT = "My secret Königsberg ☃ plan no. 7\n<think>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World 42!", "Xxxxx, Xxxxx 11!"),
        ("a\\n\\u00e9", "x\\n\\u00e9"),
        ("é中😀ж", "é中😀é"),
        (r"\u0436\u2603\ud83c\udf00\u0041", r"\u00e9\u4e2d\ud83d\ude00\u0041"),
        ("[1.5e-7, 20E3]", "[1.1e-1, 11E1]"),
        ("<think>why</think> <|tool|>", "<think>xxx</think> <|tool|>"),
        ('{"a": true, "b": null, "c": 10}', '{"x": true, "x": null, "x": 11}'),
    ],
)
def test_placeholders(text, expected):
    assert placeholder(text) == expected
    assert len(expected.encode()) == len(text.encode())


def test_json_keeps_its_structure():
    value = {
        "role": "user",
        "content": [{"type": "text", "text": "abc"}, "x]{", 1.5, None],
        "tools": [{"name": "read_it"}, {"name": "edit_it"}, {"name": "read_it"}],
        "required": ["path"],
    }
    text = json.dumps(value, indent=1)
    made = Placeholders().json(text)
    assert len(made) == len(text)
    assert json.loads(made) == {
        "role": "user",
        "content": [{"type": "text", "text": "xxx"}, "x]{", 1.5, None],
        "tools": [{"name": "xxxx_xx"}, {"name": "xxxa_aa"}, {"name": "xxxx_xx"}],
        "required": ["path"],
    }
    assert Placeholders().json("]}") == "]}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"content": "my pri', '{"content": "xx xxx'),
        ('{"content": "my pri\\', '{"content": "xx xxx\\'),
        ('{"content": "pri:', '{"content": "xxx:'),
        ("<p>private 12</p>", "<p>xxxxxxx 12</p>"),
        ("[DONE]", "[DONE]"),
    ],
    ids=["a cut string", "a cut escape", "a cut string like a key", "no JSON", "the end mark"],
)
def test_text_that_is_not_json_is_private_too(text, expected):
    assert Placeholders().json(text) == expected


def test_lines_of_a_stream_are_private_whatever_separates_them():
    stream = 'event: x\ndata: {"t": "a\u2028private"}\n: private\nprivate\r\n\n'
    made = Placeholders().events(stream)
    assert made == 'event: x\ndata: {"t": "x\u4e2dxxxxxxx"}\n: xxxxxxx\nxxxxxxx\r\n\n'


def test_the_time_is_linear():
    """The inputs are an unterminated string full of escapes, and many names of one form."""
    assert len(Placeholders().json('"' + '\\"' * 50_000)) == 100_001
    names = Placeholders().json(json.dumps([{"id": f"call_{number:06}"} for number in range(3000)]))
    assert len({row["id"] for row in json.loads(names)}) == 3000


ANSWERS = {
    "text": completion(TEXT, reasoning="Hm, private"),
    "call": completion(tool_calls=[tool_call("read_it", {"path": "/home/me", "n": 3})]),
    "pieces": stream(
        chunk(reasoning_content="Hm "), chunk("My pri"), chunk("vate ☃☃"), chunk(finish="stop")
    ),
}
TOOLS = [{"name": name, "input_schema": {"type": "object"}} for name in ("edit_it", "read_it")]


async def record(tmp_path, provider, answer, *, streamed, api="chat", path="/v1/messages"):
    provider.script(answer)
    body = prompt(TEXT, stream=streamed, tools=TOOLS)
    if path.endswith("responses"):
        tools = [{"type": "function", "name": t["name"], "parameters": {}} for t in TOOLS]
        body = {"model": "claude-opus-4-1", "input": TEXT, "tools": tools, "stream": streamed}
    async with running(tmp_path / "first", provider.url, PROVIDER_API=api) as proxy:
        await proxy.worker.session.switches.switch_recording(on=True)
        async with proxy.post(path, body) as sent:
            assert sent.status == 200, await sent.text()
            await sent.read()
        folder = tmp_path / "first" / "state"
        (made,) = await eventually(lambda: list(recordings(folder, "Test")))
        return made


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("kind", ANSWERS)
async def test_a_case_passes(tmp_path, provider, kind, streamed, api, path):
    """The case is run in the same way as by the case runner."""
    if kind == "pieces" and api != "chat":
        pytest.skip("pieces are chunks of Chat Completions")
    if api == "responses" and path == "/v1/responses":
        pytest.skip("such a request is passed on")
    recording = await record(
        tmp_path, provider, ANSWERS[kind], streamed=streamed, api=api, path=path
    )
    case = case_from_recording(recording)
    text = json.dumps(case, ensure_ascii=False)
    for private in ("secret", "private", "/home/me", "read_it", "Königsberg"):
        assert private not in text
    (upstream,) = case["input"]["upstream"]
    raw = upstream.get("raw") or "".join(upstream["chunks"])
    headers = upstream["headers"]
    provider.script(lambda _call: _answer(raw, headers))
    settings = {"BIG_MODEL": "m", "PROVIDER_API": case["api"]}
    async with running(tmp_path / "second", provider.url, **settings) as proxy:
        answer = await ask(proxy.session, proxy.url, case["input"]["request"])
    assert case["expect"]["ok"]
    assert len(case["expect"]["msg"]) >= 4
    paths = {path: goal for path, _, goal in case["expect"]["msg"] if "@" not in path}
    dotted = {path.replace("[", ".").replace("]", ""): paths[path] for path in paths}
    check(answer.message, dotted)


def _answer(text, headers):
    from tests.provider import raw

    return raw(text, headers=headers)


async def test_a_request_that_was_passed_on_gives_no_case(tmp_path, provider):
    answer, path = ANSWERS["text"], "/v1/responses"
    recording = await record(tmp_path, provider, answer, streamed=False, api="responses", path=path)
    with pytest.raises(CcproxyError, match="passed on without conversion"):
        case_from_recording(recording)


async def test_several_requests_give_no_case(tmp_path, provider):
    recording = await record(tmp_path, provider, ANSWERS["text"], streamed=False)
    import msgspec

    with pytest.raises(CcproxyError, match="not a single answered request"):
        case_from_recording(msgspec.structs.replace(recording, calls=()))
    with pytest.raises(CcproxyError, match="an unexpected form"):
        case_from_recording(msgspec.structs.replace(recording, answer=b'{"content": '))
