"""PDFs as text: the child process, its limits, and requests over HTTP."""

from __future__ import annotations

import asyncio
import base64
import os
import struct
import sys

import pytest

from ccproxy.worker.added_features import pdf_texts
from ccproxy.worker.added_features.pdf_reader import CUT, DAMAGED
from ccproxy.worker.added_features.pdf_texts import PdfTexts
from tests.messages import prompt
from tests.pdf_files import ENCRYPTED, document, encoded, pages_of, pdf
from tests.provider import completion

SLOW = b"read after the others"
HELLO = pdf("Hello from page one", "And this is page two")


async def test_pages_are_read_and_kept(monkeypatch):
    texts = PdfTexts()
    read = await pages_of(encoded(HELLO), texts)
    assert [page.text for page in read.pages] == ["Hello from page one", "And this is page two"]
    assert (read.total, read.error) == (2, "")
    monkeypatch.setattr(pdf_texts, "_READER", None)
    assert await pages_of(encoded(HELLO), texts) is read


async def test_a_page_without_text_becomes_an_image():
    read = await pages_of(encoded(pdf("", "Hello from page two")))
    picture = base64.b64decode(read.pages[0].image)
    width, height = struct.unpack(">II", picture[16:24])
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert (width, height) == (1200, 800)
    assert read.pages[1].image == ""


async def test_the_number_of_pages_is_bounded():
    read = await pages_of(encoded(pdf(*["A page with some words"] * 101)))
    assert (len(read.pages), read.total) == (100, 101)


async def test_the_number_of_characters_is_bounded(monkeypatch, tmp_path):
    source = pdf_texts._READER.read_text()
    reader = tmp_path / "reader.py"
    reader.write_text(source.replace("MAX_CHARACTERS = 300_000", "MAX_CHARACTERS = 25"))
    monkeypatch.setattr(pdf_texts, "_READER", reader)
    read = await pages_of(encoded(pdf("This page is whole.", "This page is cut.", "Left out")))
    assert [page.text for page in read.pages] == ["This page is whole.", f"This p{CUT}"]
    assert read.total == 3


async def test_a_damaged_page_does_not_hide_the_others():
    damaged = pdf("Page number one is fine", "x", "Page number three is fine").replace(
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Resources << /Font << /F1 3 0 R >>"
        b" >> /Contents 6 0 R >>",
        b"<< /Type /Font >>".ljust(108),
    )
    read = await pages_of(encoded(damaged))
    assert [page.text for page in read.pages] == [
        "Page number one is fine", DAMAGED, "Page number three is fine"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("%%%", "not valid base64"),
        (encoded(b"no PDF"), "damaged or not a PDF"),
        (encoded(HELLO[:60]), "damaged or not a PDF"),
        (encoded(ENCRYPTED), "encrypted and needs a password"),
    ],
    ids=["not base64", "not a PDF", "broken", "encrypted"],
)
async def test_errors(data, error):
    assert error in (await pages_of(data)).error


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("import time; time.sleep(99)", "took more than 0.5 s"),
        ("import os; os.abort()", "too much memory or time"),
    ],
    ids=["too slow", "killed"],
)
async def test_a_reader_that_fails(monkeypatch, tmp_path, program, error):
    reader = tmp_path / "reader.py"
    reader.write_text(program)
    monkeypatch.setattr(pdf_texts, "_READER", reader)
    if "0.5" in error:
        monkeypatch.setattr(pdf_texts, "READ_SECONDS", 0.5)
    assert error in (await pages_of(encoded(HELLO))).error


async def test_a_timeout_is_not_remembered(monkeypatch):
    texts = PdfTexts()
    with monkeypatch.context() as patched:
        patched.setattr(pdf_texts, "READ_SECONDS", 0.0)
        assert "took more than 0 s" in (await pages_of(encoded(HELLO), texts)).error
    assert (await pages_of(encoded(HELLO), texts)).total == 2


async def test_a_reader_that_cannot_be_started_is_an_error_and_not_remembered(monkeypatch):
    texts = PdfTexts()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "/missing")
        read = await pages_of(encoded(HELLO), texts)
        assert read.error == "its reader cannot be started: No such file or directory"
    assert (await pages_of(encoded(HELLO), texts)).total == 2


async def test_the_reader_has_little_memory(monkeypatch, tmp_path):
    source = pdf_texts._READER.read_text()
    reader = tmp_path / "reader.py"
    reader.write_text(source.replace("import pypdfium2", "bytes(2 * MEMORY); import pypdfium2"))
    monkeypatch.setattr(pdf_texts, "_READER", reader)
    assert (await pages_of(encoded(HELLO))).error == "it needs too much memory"


@pytest.mark.parametrize("limit", [{"KEPT_FILES": 2}, {"KEPT_CHARACTERS": 100}])
async def test_the_most_recently_used_files_are_kept(monkeypatch, tmp_path, limit):
    reader = tmp_path / "reader.py"
    reader.write_text('print(\'{"pages": [{"text": "%s"}]}\' % (\'x\' * 50))')
    monkeypatch.setattr(pdf_texts, "_READER", reader)
    for name, value in limit.items():
        monkeypatch.setattr(pdf_texts, name, value)
    texts = PdfTexts()
    first = await texts.read(["AAAA", "BBBB"])
    again = await texts.read(["AAAA"])
    later = await texts.read(["CCCC", "AAAA", "BBBB"])
    assert again["AAAA"] is later["AAAA"] is first["AAAA"]
    assert later["BBBB"] is first["BBBB"]
    assert set(texts._kept.values()) == {later["AAAA"], later["BBBB"]}


async def test_a_file_evicted_during_a_request_is_still_in_its_result(monkeypatch, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    reader = tmp_path / "reader.py"
    reader.write_text(
        f"import sys\nif sys.stdin.buffer.read() == {SLOW!r}: open({str(gate)!r}).read()\n"
        'print(\'{"pages": [{"text": "x"}]}\')'
    )
    monkeypatch.setattr(pdf_texts, "_READER", reader)
    monkeypatch.setattr(pdf_texts, "KEPT_FILES", 1)
    texts = PdfTexts()
    first = await pages_of("AAAA", texts)

    async def evict() -> None:
        await texts.read(["CCCC"])
        await asyncio.to_thread(gate.write_text, "")

    read, _ = await asyncio.gather(texts.read(["AAAA", encoded(SLOW)]), evict())
    assert read["AAAA"] is first
    assert read[encoded(SLOW)].pages


async def test_a_request_has_a_limit_of_new_files(monkeypatch):
    monkeypatch.setattr(pdf_texts, "MAX_NEW_FILES", 2)
    texts = PdfTexts()
    read = await texts.read(["%", "%%", "%%%", "%"])
    assert [each.error for each in read.values()] == [
        *["it is not valid base64"] * 2, "more than 2 new PDFs in one request"
    ]  # fmt: skip
    assert (await pages_of("%%%", texts)).error == "it is not valid base64"


# Requests.


def request(*blocks, **fields):
    return prompt(**fields) | {"messages": [{"role": "user", "content": list(blocks)}]}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_provider_without_pdf_input_gets_the_text(start, provider, stream):
    proxy = await start(PROVIDER="zai")
    answer = await proxy.ask(request(document(HELLO, title="a.pdf"), stream=stream))
    assert answer.text == "ok"
    messages = str(provider.calls[0].json["messages"])
    assert "Hello from page one" in messages
    assert "[Page 2]" in messages
    assert encoded(HELLO)[:40] not in messages


async def test_scanned_pages_are_described(start, provider):
    provider.script(
        lambda call: completion("a black square" if call.json["model"] == "glm-5v" else "ok")
    )
    proxy = await start(PROVIDER="zai", BIG_MODEL="glm-5.3", VISION="glm-5v")
    await proxy.ask(request(document(pdf("", "Hello from page two"))))
    described, answer_call = provider.calls
    assert "data:image/png;base64" in str(described.json["messages"])
    text = str(answer_call.json["messages"])
    assert text.index("[Page 1]") < text.index("a black square") < text.index("[Page 2]")


async def test_a_model_with_vision_gets_scanned_pages_as_images(start, provider):
    proxy = await start(PROVIDER="zai", BIG_MODEL="glm-5v")
    await proxy.ask(request(document(pdf(""))))
    assert "data:image/png;base64" in str(provider.calls[0].json["messages"])


async def test_scanned_pages_without_a_model_with_vision_get_a_note_and_a_hint(start, provider):
    proxy = await start(PROVIDER="zai", BIG_MODEL="glm-5.3")
    await proxy.ask(request(document(pdf(""))))
    assert "this page is a picture without text" in provider.calls[-1].body.decode()
    assert "VISION" in (await proxy.logged("scan.dropped"))["hint"]


async def test_a_provider_with_pdf_input_gets_the_file(start, provider):
    proxy = await start(PROVIDER="openai", PROVIDER_API="chat")
    await proxy.ask(request(document(HELLO)))
    assert encoded(HELLO) in str(provider.calls[0].json["messages"])


async def test_without_the_library_the_log_has_a_hint(start, provider, monkeypatch):
    monkeypatch.setattr("ccproxy.worker.added_features.media.can_read_pdfs", lambda: False)
    proxy = await start(PROVIDER="zai")
    await proxy.ask(request(document(HELLO)))
    assert "does not accept PDF files" in str(provider.calls[0].json["messages"])
    assert "ccproxy-fleet[pdf]" in proxy.lines("pdf.dropped")[0]["hint"]
