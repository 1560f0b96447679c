"""The real Claude Code reads an image with a text-only model: another model describes it once."""

from __future__ import annotations

import base64
import struct
import zlib

import pytest

from tests.claude.conftest import on_proxy
from tests.provider import completion, tool_call

pytestmark = pytest.mark.claude


def png(width: int = 64, height: int = 64) -> bytes:
    """Return a red picture."""

    def part(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    rows = (b"\0" + b"\xff\0\0" * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + part(b"IHDR", head)
        + part(b"IDAT", zlib.compress(rows))
        + part(b"IEND", b"")
    )


@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
async def test_an_image_that_is_read_is_described_once(
    claude_binary, home, provider, tmp_path, api
):
    encoded = base64.b64encode(png()).decode()

    def answer(call):
        if call.json["model"] == "glm-5v":
            return completion("a red square")
        text = call.body.decode()
        if "Picture 1 described by glm-5v" in text:
            used = "a red square" in text and encoded not in text
            step = tool_call("Bash", {"command": "true"}, call_id="call_2")
            is_last = "call_2" in text
            return completion(f"It is red: {used}") if is_last else completion(tool_calls=[step])
        path = str(tmp_path / "claude" / "work" / "picture.png")
        return completion(tool_calls=[tool_call("Read", {"file_path": path})])

    provider.script(answer)
    settings = {"PROVIDER_BASE_URL": provider.url, "PROVIDER_API_KEY": "sk-upstream-1"}
    models = {"PROVIDER": "zai", "BIG_MODEL": "glm-5.3", "VISION": "glm-5v", "PROVIDER_API": api}
    home.write(blind={**settings, **models})
    claude = await on_proxy("blind", home, claude_binary, tmp_path)
    claude.cwd.mkdir()
    (claude.cwd / "picture.png").write_bytes(png())
    session = await claude.run("What is in picture.png?")
    session.expect("It is red: True")
    assert sum(call.json["model"] == "glm-5v" for call in provider.calls) == 1
