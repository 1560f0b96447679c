"""Images over HTTP: a text-only model gets descriptions from another model."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from ccproxy.convert.direct.message_events import message_events
from tests.fleet import eventually
from tests.messages import prompt
from tests.provider import completion, failure, hang_up, raw
from tests.worker.family import Family

BLIND = "glm-5.3"
"""A model of the preset zai without vision."""


EVENT_STREAM = {"Content-Type": "text/event-stream"}


def image(number=1):
    data = base64.b64encode(f"picture {number}".encode()).decode()
    source = {"type": "base64", "media_type": "image/png", "data": data}
    return {"type": "image", "source": source}


def user(*content):
    return {"role": "user", "content": list(content)}


def text(words):
    return {"type": "text", "text": words}


def request(*messages, **fields):
    return prompt(**fields) | {"messages": list(messages)}


def is_description(call):
    return call.json["model"] == "glm-5v"


def scripted(provider, answer=None):
    """Make the describer count its pictures; other calls get "ok"."""

    def reply(call):
        if not is_description(call):
            return completion("ok")
        number = sum(map(is_description, provider.calls))
        return answer(call) if answer else completion(f"picture {number}: a cat")

    provider.script(reply)


def descriptions(provider):
    return [call for call in provider.calls if is_description(call)]


def prompts(provider):
    return [str(call.json["messages"]) for call in provider.calls if not is_description(call)]


@pytest.fixture
async def proxy(start, provider):
    scripted(provider)
    return await start(PROVIDER="zai", BIG_MODEL=BLIND, VISION="glm-5v")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_image_is_described_once_in_place(proxy, provider, stream):
    history = user(text("before"), image(), text("What is it?"))
    assert (await proxy.ask(request(history, stream=stream))).text == "ok"
    later = (history, {"role": "assistant", "content": "ok"}, user(text("go on")))
    await proxy.ask(request(*later, stream=stream))
    (call,) = descriptions(provider)
    assert "What is it?" in str(call.json["messages"])
    assert "image_url" in str(call.json["messages"])
    first, second = prompts(provider)
    assert "[Picture 1 described by glm-5v" in first
    assert first.index("before") < first.index("a cat") < first.index("What is it?")
    assert "image_url" not in first
    assert second.startswith(first[:-1])  # the provider's prompt cache still applies


async def test_an_image_in_a_result_is_described(proxy, provider):
    call = {"type": "tool_use", "id": "t1", "name": "Read", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [image()]}
    await proxy.ask(
        request(user(text("a")), {"role": "assistant", "content": [call]}, user(result))
    )
    assert "a cat" in prompts(provider)[0]


async def test_equal_images_are_described_once(proxy, provider):
    await proxy.ask(request(user(image(), image())))
    assert len(descriptions(provider)) == 1


async def test_images_are_described_with_limited_concurrency(start, provider):
    gate = asyncio.Event()
    scripted(provider, lambda _: completion("a cat", gate=gate))
    proxy = await start(PROVIDER="zai", BIG_MODEL=BLIND, VISION="glm-5v")
    answer = asyncio.create_task(proxy.ask(request(user(*map(image, range(10))))))
    await provider.called(3)
    gate.set()
    await answer
    assert len(descriptions(provider)) == 8
    assert prompts(provider)[0].count("more than 8 new pictures") == 2


async def test_two_requests_share_one_description(start, provider):
    gate = asyncio.Event()
    scripted(provider, lambda _: completion("a cat", gate=gate))
    proxy = await start(PROVIDER="zai", BIG_MODEL=BLIND, VISION="glm-5v")
    answers = [asyncio.create_task(proxy.ask(request(user(image())))) for _ in range(2)]
    await provider.called()
    await eventually(lambda: len(proxy.worker.requests.tasks) == 2)
    answers.pop().cancel()  # one client disconnects, the other still gets the description
    gate.set()
    await answers[0]
    assert len(descriptions(provider)) == 1


async def test_descriptions_survive_a_restart(start, provider, tmp_path):
    scripted(provider)
    for _ in range(2):
        proxy = await start(PROVIDER="zai", BIG_MODEL=BLIND, VISION="glm-5v")
        await proxy.ask(request(user(image())))
    assert len(descriptions(provider)) == 1
    first, second = prompts(provider)
    assert first == second
    (file,) = (tmp_path / "state" / "descriptions").iterdir()
    assert file.stat().st_mode & 0o077 == 0


async def test_a_later_question_is_asked_with_the_image(proxy, provider):
    history = (user(image()), {"role": "assistant", "content": "ok"})
    question = user(text("What is on the left of the image?"))
    await proxy.ask(request(*history, question))
    general, specific = sorted(
        descriptions(provider), key=lambda call: len(call.body), reverse=True
    )
    assert "Describe the picture" in str(general.json["messages"])
    assert "What is on the left" in str(specific.json["messages"])
    first = prompts(provider)[0]
    assert "seen again by glm-5v with this question" in first
    # The next turn contains the same text, without a new request.
    more = ({"role": "assistant", "content": "ok"}, user(text("go on")))
    await proxy.ask(request(*history, question, *more))
    assert len(descriptions(provider)) == 2
    assert prompts(provider)[1].startswith(first[:-1])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda _: failure(400, "no pictures"), "no pictures"),
        (lambda _: completion(""), "returned no text"),
        (lambda _: completion("No.", finish="content_filter"), "refused to describe it"),
        (lambda _: hang_up(), "closed the connection"),
    ],
    ids=["refused", "empty", "a refusal", "broken"],
)
async def test_a_failure_becomes_a_note(start, provider, answer, reason):
    scripted(provider, answer)
    proxy = await start(PROVIDER="zai", BIG_MODEL=BLIND, VISION="glm-5v")
    for _ in range(2):  # and is not retried immediately
        assert (await proxy.ask(request(user(image())))).text == "ok"
    assert len(descriptions(provider)) == 1
    assert "[Picture 1 could not be described: " in prompts(provider)[1]
    assert reason in prompts(provider)[1]


async def test_a_failed_question_leaves_the_description(start, provider):
    scripted(
        provider, lambda call: failure(400) if "question" in str(call.json) else completion("x")
    )
    proxy = await start(PROVIDER="zai", BIG_MODEL=BLIND, VISION="glm-5v")
    history = (user(image()), {"role": "assistant", "content": "ok"})
    await proxy.ask(request(*history, user(text("What is in the image?"))))
    assert "seen again" not in prompts(provider)[0]
    # The question is in an earlier turn, so the picture is not described again.
    more = ({"role": "assistant", "content": "ok"}, user(text("go on")))
    await proxy.ask(request(*history, user(text("What is in the image?")), *more))
    assert len(descriptions(provider)) == 2


async def test_a_describer_without_vision_is_not_used(start, provider):
    proxy = await start(PROVIDER="zai", BIG_MODEL=BLIND, VISION="glm-5.2")
    await proxy.ask(request(user(image())))
    assert len(provider.calls) == 1
    assert "glm-5.2 cannot see images" in prompts(provider)[0]


async def test_a_slow_describer_times_out(start, provider, monkeypatch):
    monkeypatch.setattr("ccproxy.worker.added_features.description_store.DESCRIBE_SECONDS", 0.05)
    scripted(provider, lambda _: completion("late", gate=asyncio.Event()))
    proxy = await start(PROVIDER="zai", BIG_MODEL=BLIND, VISION="glm-5v")
    await proxy.ask(request(user(image())))
    assert "did not answer within 0.05 s" in prompts(provider)[0]


async def test_a_large_image_becomes_a_note(proxy, provider, monkeypatch):
    monkeypatch.setattr("ccproxy.worker.added_features.image_describer.MAX_IMAGE", 10)
    await proxy.ask(request(user(image())))
    assert "larger than 5 MB" in prompts(provider)[0]


async def test_a_model_with_vision_gets_the_image(start, provider):
    proxy = await start(PROVIDER="gemini", VISION="glm-5v")
    await proxy.ask(request(user(image())))
    (call,) = provider.calls
    assert "image_url" in str(call.json["messages"])


async def test_the_describer_may_be_another_entry(tmp_path):
    async with Family(tmp_path) as family:
        blind = {"PROVIDER": "zai", "BIG_MODEL": BLIND, "VISION": "Seeing:small"}
        await family.start(Main=blind, Seeing={})
        family.providers["Seeing"].script(completion("a cat"))
        await family.proxies["Main"].ask(request(user(image())))
        (call,) = family.providers["Seeing"].calls
        (main_call,) = family.providers["Main"].calls
    assert call.json["model"] == "seeing-small"
    assert "described by Seeing:small" in str(main_call.json["messages"])


@pytest.mark.parametrize("api", ["chat", "messages"])
async def test_half_an_emoji_does_not_break_the_conversation(start, provider, api):
    scripted(provider)
    proxy = await start(PROVIDER="zai", PROVIDER_API=api, BIG_MODEL=BLIND, VISION="glm-5v")
    answer = await proxy.ask(request(user(image(), text("half \ud83d"))))
    assert answer.status == 200
    assert "a cat" in prompts(provider)[0]
    assert "half \ufffd" in prompts(provider)[0]


@pytest.mark.parametrize("data", [b'{"type":"ping"', b"[1]"], ids=["not JSON", "not an object"])
async def test_an_invalid_event_in_direct_mode_is_an_error_of_the_provider(start, provider, data):
    """The answer is streamed even if the client requests a whole message."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
    events = message_events(json.dumps({**message, "stop_reason": "end_turn"}).encode())
    odd = raw(b"data: %b\n\n%b" % (data, events), headers=EVENT_STREAM)
    provider.script(lambda call: completion("a cat") if is_description(call) else odd)
    proxy = await start(PROVIDER="zai", PROVIDER_API="messages", BIG_MODEL=BLIND, VISION="glm-5v")
    answer = await proxy.ask(request(user(image())))
    assert (answer.status, answer.error["type"]) == (502, "api_error")
    assert "an event that is not valid" in answer.error["message"]


async def test_direct_mode_describes_images_too(start, provider):
    scripted(provider)
    proxy = await start(PROVIDER="zai", PROVIDER_API="messages", BIG_MODEL=BLIND, VISION="glm-5v")
    await proxy.ask(request(user(image())))
    assert "a cat" in prompts(provider)[0]
    provider.calls.clear()
    await proxy.ask(request(user(text("no image"))))
    assert len(provider.calls) == 1


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        (5, 400),
        ([5], 400),
        ([{"role": "user", "content": {"source": image()}}], 400),
        ([user(image(), 5)], 400),
        ([user(image(), {"type": "text", "text": 5})], 200),
        ([user(image(), {"type": "text"})], 200),
        ([user({**image(), "source": {**image()["source"], "data": 5}})], 200),
    ],
    ids=str,
)
async def test_unusual_messages_in_direct_mode(start, provider, messages, status):
    """Direct mode does not check the messages; the provider reports its reasons."""
    scripted(provider)
    proxy = await start(PROVIDER="zai", PROVIDER_API="messages", BIG_MODEL=BLIND, VISION="glm-5v")
    body = {"model": "claude-opus-4-1", "max_tokens": 9, "messages": messages, "x": image()}
    assert (await proxy.ask(body)).status == status


async def test_without_a_describer_the_log_has_a_hint(start, provider):
    proxy = await start(PROVIDER="zai", BIG_MODEL=BLIND)
    for _ in range(2):
        await proxy.ask(request(user(image())))
    (line,) = proxy.lines("image.dropped")
    assert "VISION" in line["hint"]
    assert "image omitted" in prompts(provider)[0]


async def test_hints_about_models_that_clients_invent_are_bounded(start, provider, monkeypatch):
    monkeypatch.setattr("ccproxy.worker.added_features.media.MAX_HINTS", 2)
    proxy = await start(PROVIDER="zai", BIG_MODEL=BLIND)
    for number in range(4):
        await proxy.ask({**request(user(image())), "model": f"glm-5-{number}"})
    assert len(proxy.lines("image.dropped")) == len(proxy.worker.hinted) == 2


async def test_old_descriptions_are_deleted(start, provider, tmp_path, monkeypatch):
    monkeypatch.setattr("ccproxy.worker.added_features.description_store.KEPT_ON_DISK", 1)
    monkeypatch.setattr("ccproxy.worker.added_features.description_store.KEPT_IN_MEMORY", 1)
    folder = tmp_path / "state" / "descriptions"
    folder.mkdir(parents=True)
    (folder / "old").write_text("old")
    (folder / "folder").mkdir()
    (folder / "gone").symlink_to(tmp_path / "missing")
    scripted(provider)
    proxy = await start(PROVIDER="zai", BIG_MODEL=BLIND, VISION="glm-5v")
    await proxy.ask(request(user(image(1), image(2))))
    assert not (folder / "old").exists()
    assert proxy.lines("image.unsaved") == []


async def test_a_full_disk_does_not_matter(start, provider, tmp_path):
    scripted(provider)
    proxy = await start(PROVIDER="zai", BIG_MODEL=BLIND, VISION="glm-5v")
    (tmp_path / "state" / "descriptions").write_text("a file where the folder would be")
    await proxy.ask(request(user(image())))
    assert "a cat" in prompts(provider)[0]
    assert proxy.lines("image.unsaved")
