"""The estimate of a request's tokens: plausible, monotonic, cheap, and corrected by usage."""

from __future__ import annotations

import base64
import json
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy.convert.common.image_size import size_of
from ccproxy.convert.common.token_estimate import Calibration, estimate
from ccproxy.protocol.messages import read_request
from tests.convert.common.token_samples import SAMPLES, TOKENS, VOCABULARIES

CODE = 'def add(a, b):\n    """Return the sum of a and b."""\n    return a + b\n\n'
CHINESE = "这是一个用于测试分词器的段落，包含标点。"
PROSE = "The quick brown fox jumps over the lazy dog and then sleeps for an hour. "


def count(*, ascii_only=False, vocabulary="mixed", **fields):
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    request = read_request(json.dumps(body, ensure_ascii=ascii_only).encode(), counting=True)
    return estimate(request, vocabulary=vocabulary)


def count_text(text, **more):
    return count(messages=[{"role": "user", "content": text}], **more)


def count_blocks(*blocks):
    return count(messages=[{"role": "user", "content": list(blocks)}])


def png(width, height, size=0):
    head = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", width, height)
    return head + b"\x08\x06\x00\x00\x00" + bytes(size)


def gif(width, height):
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes(9)


def jpeg(width, height, *, before=b""):
    app = b"\xff\xe0" + struct.pack(">H", 2 + len(before)) + before
    size = b"\xff\xff\xc2" + struct.pack(">HBHH", 8, 8, height, width) + bytes(9)
    return b"\xff\xd8" + app + size


def webp(kind, width, height):
    match kind:
        case b"VP8X":
            data = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        case b"VP8 ":
            data = bytes(6) + struct.pack("<HH", width, height)
        case _:
            data = b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little") + bytes(5)
    return b"RIFF\x00\x00\x00\x00WEBP" + kind + bytes(4) + data


def image(data, media="image/png"):
    text = base64.b64encode(data).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": media, "data": text}}


# Plausible.


@pytest.mark.parametrize("ascii_only", [False, True], ids=["as it is", "escaped"])
@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        pytest.param(CODE * 40, 630, 1150, id="code"),
        pytest.param(CHINESE * 60, 850, 1570, id="Chinese"),
        pytest.param(PROSE * 40, 600, 900, id="English"),
        pytest.param("Съешь ещё этих мягких французских булок. " * 30, 300, 900, id="Russian"),
        pytest.param("hi", 1, 15, id="two letters"),
        pytest.param("👍🏽" * 100, 200, 800, id="emoji"),
    ],
)
def test_plausible(text, least, most, ascii_only):
    assert least <= count_text(text, ascii_only=ascii_only) <= most


# The weights are fitted to longer texts. Scripts that share a class have one weight.
TOLERANCES = {"english": 0.25, "chinese": 0.35, "russian": 0.45, "arabic": 0.35, "thai": 0.9}


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("ascii_only", [False, True], ids=["UTF-8", "escaped"])
def test_the_estimate_is_close_to_the_counts_of_six_vocabularies(kind, ascii_only):
    """The vocabularies differ from each other by up to 60 %."""
    for vocabulary, tokens in zip(VOCABULARIES, TOKENS[kind], strict=True):
        texts = (SAMPLES[kind], "")
        whole, empty = (
            count_text(text, ascii_only=ascii_only, vocabulary=vocabulary) for text in texts
        )
        assert whole - empty == pytest.approx(tokens, rel=TOLERANCES.get(kind, 0.15)), vocabulary


@pytest.mark.parametrize("text", [CODE, CHINESE, PROSE])
def test_a_hundred_times_the_text_is_about_a_hundred_times_the_tokens(text):
    once = count_text(text * 10) - count_text("")
    assert count_text(text * 1000) - count_text("") == pytest.approx(100 * once, rel=0.05)


@pytest.mark.parametrize(
    ("data", "tokens"),
    [
        pytest.param(png(750, 1000, 9000), 1000, id="by its pixels"),
        pytest.param(png(750, 1000, 900_000), 1000, id="not by its bytes"),
        pytest.param(png(8000, 8000, 9000), 1600, id="scaled down if large"),
        pytest.param(b"what is this" * 1000, 1500, id="1500 if its size is unknown"),
        pytest.param(jpeg(1000, 750) + bytes(9000), 1000, id="JPEG"),
        pytest.param(gif(750, 700) + bytes(9000), 700, id="GIF"),
        pytest.param(png(1, 1, 9000), 420, id="not less than in a short message"),
    ],
)
@pytest.mark.parametrize("inside", [False, True], ids=["in the message", "in a tool result"])
def test_a_picture_costs_its_size(data, tokens, inside):
    block = image(data)
    if inside:
        block = {"type": "tool_result", "tool_use_id": "t", "content": [block]}
    assert count_blocks(block) == pytest.approx(tokens, abs=80)


def test_a_document_costs_less_than_its_base64():
    data = base64.b64encode(bytes(700_000)).decode()
    source = {"type": "base64", "media_type": "application/pdf", "data": data}
    assert 10_000 < count_blocks({"type": "document", "source": source}) < 50_000


@pytest.mark.parametrize("size", [30_000, 3_000_000], ids=["remembered", "too large for that"])
def test_a_picture_costs_the_same_in_every_turn(size):
    pictures = [image(png(width, 1000, size)) for width in (1125, 750)]
    once = [count_blocks(picture) for picture in pictures]
    assert once[0] - once[1] == pytest.approx(500, abs=5)
    assert [count_blocks(picture) for picture in pictures] == once


def test_text_next_to_a_picture_counts_in_full():
    picture = image(png(750, 1000, 90_000))
    text = {"type": "text", "text": PROSE * 100}
    alone = count_blocks(text)
    assert count_blocks(text, picture) - alone == pytest.approx(1000, abs=80)


# Growing.

TOOL = {
    "name": "Read",
    "description": "Reads a file",
    "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}},
}
USE = {"type": "tool_use", "id": "t1", "name": "Read", "input": {"path": "/etc/hosts"}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "127.0.0.1 localhost"}


@pytest.mark.parametrize(
    "added",
    [
        pytest.param({"system": "You are helpful."}, id="system"),
        pytest.param(
            {"system": [{"type": "text", "text": "You are helpful."}]}, id="system blocks"
        ),
        pytest.param({"tools": [TOOL]}, id="tools"),
        pytest.param({"messages": [{"role": "user", "content": "hi there"}]}, id="text"),
        pytest.param(
            {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}]},
            id="a message",
        ),
        pytest.param(
            {
                "messages": [
                    {"role": "user", "content": "hi"},
                    {"role": "assistant", "content": [USE]},
                ]
            },
            id="tool_use",
        ),
        pytest.param({"messages": [{"role": "user", "content": [RESULT]}]}, id="tool_result"),
        pytest.param({"messages": [{"role": "user", "content": [image(png(9, 9))]}]}, id="image"),
    ],
)
def test_the_estimate_grows_with_every_field(added):
    assert count(**added) > count()


def test_every_tool_counts():
    counts = [count(tools=[TOOL] * number) for number in range(1, 6)]
    assert all(later - earlier >= 15 for earlier, later in pairwise(counts))


PARTS = st.lists(
    st.one_of(
        st.builds(lambda text: {"type": "text", "text": text}, st.text(max_size=300)),
        st.builds(
            lambda size, width: image(png(width, width, size)),
            st.integers(0, 20_000),
            st.integers(1, 3000),
        ),
        st.builds(lambda n: {"type": "text", "text": PROSE * n}, st.integers(100, 200)),
    ),
    min_size=1,
    max_size=6,
)


@given(PARTS)
def test_the_estimate_grows_with_every_block(blocks):
    counts = [count_blocks(*blocks[:end]) for end in range(1, len(blocks) + 1)]
    assert counts == sorted(counts)


# Any input.


@pytest.mark.parametrize(
    "content",
    [
        pytest.param([1, 2, "base64" * 3000], id="no blocks"),
        pytest.param([{"type": "image", "source": 5, "x": "base64" * 3000}], id="no source"),
        pytest.param(
            [{"type": "image", "source": {"type": "base64"}, "x": "y" * 9000}], id="no data"
        ),
        pytest.param(
            [{"type": "image", "source": {"type": "base64", "data": 7}, "x": "y" * 9000}],
            id="data that is not a string",
        ),
        pytest.param([], id="nothing"),
        pytest.param(
            [{"type": 5, "source": {"type": "base64"}, "x": "y" * 9000}],
            id="a wrong type next to data that looks like a picture",
        ),
    ],
)
def test_invalid_content_is_counted(content):
    assert count(messages=[{"role": "user", "content": content}]) >= 1


def test_the_depth_of_results_is_bounded():
    block = image(png(750, 1000, 9000))
    for _ in range(30):
        block = {"type": "tool_result", "tool_use_id": "t", "content": [block]}
    assert count_blocks(block) >= 1


# Pictures.


@pytest.mark.parametrize(
    ("data", "size"),
    [
        pytest.param(png(800, 600), (800, 600), id="PNG"),
        pytest.param(gif(320, 200), (320, 200), id="GIF"),
        pytest.param(jpeg(1024, 768), (1024, 768), id="JPEG"),
        pytest.param(jpeg(1024, 768, before=bytes(9000)), (1024, 768), id="JPEG with a thumbnail"),
        pytest.param(webp(b"VP8X", 1000, 500), (1000, 500), id="WebP, extended"),
        pytest.param(webp(b"VP8 ", 1000, 500), (1000, 500), id="WebP, lossy"),
        pytest.param(webp(b"VP8L", 1000, 500), (1000, 500), id="WebP, lossless"),
        pytest.param(webp(b"WHAT", 1000, 500), None, id="WebP of a new kind"),
        pytest.param(jpeg(1024, 768, before=bytes(20_000)), None, id="JPEG, too far in"),
        pytest.param(png(1, 1)[:20], None, id="PNG, cut"),
        pytest.param(b"\xff\xd8\x00", None, id="JPEG, broken"),
        pytest.param(b"", None, id="nothing"),
    ],
)
def test_the_size_of_a_picture(data, size):
    assert size_of(base64.b64encode(data)) == size


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("ключ".encode(), id="other letters"),
        pytest.param(b"A===", id="padding where no letter can end"),
    ],
)
def test_invalid_base64_has_no_size(data):
    assert size_of(data) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_accepted(data):
    size_of(data)
    for start in (b"\xff\xd8", b"RIFF\x00\x00\x00\x00WEBP", b"GIF8", b"\x89PNG"):
        size_of(base64.b64encode(start + data))


# Corrections.


def test_a_new_calibration_is_empty():
    calibration = Calibration()
    assert (calibration.factor("m"), calibration.knows("m")) == (1.0, False)
    assert calibration.apply("m", 1000) == 1000


def test_the_first_answer_counts_fully_and_only_for_its_model():
    calibration = Calibration()
    calibration.learn("m", estimated=1000, reported=1300)
    assert calibration.apply("m", 2000) == 2600
    assert calibration.knows("m")
    assert calibration.apply("other", 2000) == 2000


def test_the_factor_approaches_the_providers_count():
    calibration = Calibration()
    calibration.learn("m", estimated=1000, reported=2400)
    for _ in range(30):
        calibration.learn("m", estimated=1000, reported=800)
    assert calibration.factor("m") == pytest.approx(0.8, abs=0.01)


def test_one_outlier_changes_the_factor_little():
    calibration = Calibration()
    for _ in range(10):
        calibration.learn("m", estimated=1000, reported=1000)
    calibration.learn("m", estimated=1000, reported=2000)
    assert calibration.factor("m") == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("estimated", "reported", "factor"),
    [
        pytest.param(1000, 900_000, 1.0, id="too many"),
        pytest.param(1000, 1, 1.0, id="too few"),
        pytest.param(2600, 1300, 1.0, id="the same number for every request"),
        pytest.param(1000, 0, 1.0, id="none"),
        pytest.param(1000, -5, 1.0, id="less than none"),
        pytest.param(100, 200, 1.0, id="too short to learn from"),
    ],
)
def test_implausible_ratios_are_ignored(estimated, reported, factor):
    calibration = Calibration()
    calibration.learn("m", estimated=estimated, reported=reported)
    assert calibration.factor("m") == factor


def test_the_estimate_is_at_least_one_token():
    assert Calibration().apply("m", 0) == 1


def test_a_calibration_is_exported_and_restored():
    calibration, again = Calibration(), Calibration()
    calibration.learn("m", estimated=1000, reported=1300)
    again.restore(json.loads(json.dumps(calibration.export())))
    assert again.factor("m") == calibration.factor("m")
    with pytest.raises((TypeError, ValueError)):
        again.restore({"m": ("x", 1)})
    with pytest.raises((TypeError, ValueError)):
        again.restore({"m": 5})


def test_the_number_of_models_is_bounded():
    calibration = Calibration()
    for number in range(1000):
        calibration.learn("always", estimated=1000, reported=1300)
        calibration.learn(f"m{number}", estimated=1000, reported=1300)
    assert len(calibration.export()) == 256
    assert calibration.knows("always")
    assert not calibration.knows("m0")
