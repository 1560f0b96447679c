"""Tests of the worker's log: lines in order, one JSON object each, without keys."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from datetime import UTC, datetime

import pytest

from ccproxy.log_format import format_record
from ccproxy.log_rotation import LogFile
from ccproxy.redaction import Redactor
from ccproxy.worker.log.lines import MAX_REJECTED_PER_SECOND, RequestLog, set_up, stamp
from tests.steering import STEERING


@pytest.fixture
def root_logger():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_event_is_one_json_line(tmp_path, root_logger):
    log = set_up(LogFile(tmp_path / "a.log"), level="INFO", redact=Redactor(["top-secret-1"]))
    log.info("worker.started", text='a "b"\n\x1b[31m top-secret-1', path=tmp_path, n=1)
    log.debug("too.much")
    (line,) = lines_of(tmp_path / "a.log")
    assert list(line)[:3] == ["time", "level", "event"]
    assert (line["level"], line["event"], line["n"]) == ("info", "worker.started", 1)
    assert line["text"] == 'a "b"\n\x1b[31m …et-1'
    assert line["path"] == str(tmp_path)
    assert "\x1b" not in (tmp_path / "a.log").read_text()


SIGNS = [
    *map(chr, range(0x20)),
    *'"\\{}:,aé漢😀\x7f\x85\x9b\u2028\u2029\u202e\u2066\u200f\ufeff\ufffe',
    *("\udcff", "\r\n", "\x1b[2J", "\x1b]0;t\x07", '"}\n{"event":"forged"}\n', "sk-"),
]


async def test_any_text_is_one_line_of_json(tmp_path, root_logger):
    """The test uses three thousand strings that break lines, terminals and encodings."""
    chance = random.Random(15)
    file = LogFile(tmp_path / "a.log")
    log = set_up(file, level="INFO", redact=Redactor())
    requests = RequestLog(file, level="INFO", redact=Redactor())
    texts = ["".join(chance.choices(SIGNS, k=chance.randrange(40))) for _ in range(3_000)]
    for number, text in enumerate(texts):
        match number % 3:
            case 0:
                log.info("x.seen", text=text, **{f"n{text}": 1})
            case 1:
                requests.info("x.seen", text=text)
                requests.flush()
            case 2:
                logging.getLogger("some.library").warning("%s", text)
    written = (tmp_path / "a.log").read_bytes().removesuffix(b"\n").split(b"\n")
    assert len(written) == len(texts)
    for line, text in zip(written, texts, strict=True):
        fields = json.loads(line)
        assert fields["event"] in ("x.seen", "library.logged")
        assert fields["text" if "text" in fields else "message"] == Redactor()(text)
        assert b"\x1b" not in line
        output = format_record(fields, at=0.0, color=False)
        assert "\n" not in output
        assert not STEERING.search(output), ascii(output)


def test_library_messages_are_logged_from_warning_level_and_redacted(tmp_path, root_logger):
    set_up(LogFile(tmp_path / "a.log"), level="DEBUG", redact=Redactor())
    library = logging.getLogger("some.library")
    library.info("not this")
    try:
        raise ValueError("sk-abcdefgh12345678")
    except ValueError:
        library.exception("failed with %s", "sk-abcdefgh12345678")
    (line,) = lines_of(tmp_path / "a.log")
    assert (line["event"], line["logger"], line["level"]) == (
        "library.logged",
        "some.library",
        "error",
    )
    assert line["message"] == "failed with …5678"
    assert "ValueError" in line["exception"]
    assert "sk-abcdefgh" not in (tmp_path / "a.log").read_text()


def test_an_exception_is_a_traceback_without_values(tmp_path, root_logger):
    log = set_up(LogFile(tmp_path / "a.log"), level="INFO", redact=Redactor())
    hidden = "local" + "-value"
    try:
        raise ValueError(f"why {len(hidden)}")
    except ValueError:
        log.exception("request.crashed")
    text = (tmp_path / "a.log").read_text()
    assert "ValueError: why 11" in text
    assert hidden not in text


# Requests.


def events_of(path):
    return [line["event"] for line in lines_of(path)]


@pytest.fixture
def file(tmp_path):
    return LogFile(tmp_path / "a.log")


async def test_the_lines_of_requests_are_written_together_soon(file):
    log = RequestLog(file, level="INFO", redact=Redactor())
    log.info("request.finished", request="req_1")
    log.info("request.finished", request="req_2")
    assert file.path.read_bytes() == b""
    async with asyncio.timeout(30):
        while not file.path.read_bytes():
            await asyncio.sleep(0)
    assert [line["request"] for line in lines_of(file.path)] == ["req_1", "req_2"]


async def test_request_lines_precede_later_lines(file, root_logger):
    requests = RequestLog(file, level="INFO", redact=Redactor())
    log = set_up(file, level="INFO", redact=Redactor(), request_log=requests)
    requests.info("request.finished")
    log.warning("key.rested")
    requests.info("request.finished")
    logging.getLogger("a.library").warning("heard")
    assert events_of(file.path) == [
        "request.finished",
        "key.rested",
        "request.finished",
        "library.logged",
    ]


@pytest.mark.parametrize(
    ("level", "written"), [("DEBUG", ["quiet", "loud"]), ("INFO", ["loud"]), ("WARNING", [])]
)
async def test_lines_below_the_level_are_not_written(file, level, written):
    log = RequestLog(file, level=level, redact=Redactor())
    log.debug("quiet")
    log.info("loud")
    log.flush()
    assert events_of(file.path) == written


async def test_in_a_flood_of_rejected_requests_some_are_logged_and_the_others_counted(file):
    log = RequestLog(file, level="INFO", redact=Redactor())
    for _ in range(MAX_REJECTED_PER_SECOND + 30):
        log.info("request.finished", status=404, error="not_found_error")
    for _ in range(200):
        log.info("request.finished", model="m", error="api_error")
        log.info("request.finished", model="m")
    async with asyncio.timeout(30):
        while b"requests.not_logged" not in file.path.read_bytes():
            await asyncio.sleep(0.01)
    lines = lines_of(file.path)
    assert [line["status"] for line in lines if "status" in line] == [404] * MAX_REJECTED_PER_SECOND
    assert sum("model" in line for line in lines) == 400
    assert lines[-1]["rejected"] == 30


async def test_no_line_of_a_request_contains_a_key(file):
    log = RequestLog(file, level="INFO", redact=Redactor(["top-secret-1"]))
    for _ in range(3):
        log.info("request.finished", reason="top-secret-1 of sk-abcdefgh12345678")
    log.flush()
    assert [line["reason"] for line in lines_of(file.path)] == ["…et-1 of …5678"] * 3


@pytest.mark.parametrize("at", [0.0, 1.9999, 1773144000.0, 1773144000.001, 1773144000.9994])
def test_a_stamp_is_iso_8601_to_the_millisecond(at):
    assert stamp(at) == datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
