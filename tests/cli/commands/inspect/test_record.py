"""`ccproxy record` and `ccproxy replay`."""

from __future__ import annotations

import json
import time
import urllib.request

import msgspec

from ccproxy.store.recordings import recordings, recordings_folder, save_recording
from tests.cli.conftest import port_of


def ask(port):
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "private"}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/messages",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.headers["request-id"]


def recorded(home, count=1):
    until = time.monotonic() + 30
    while len(listed := list(recordings(home / "state", "Demo"))) < count:
        assert time.monotonic() < until, "nothing was recorded"
        time.sleep(0.02)
    return listed


def test_from_recording_to_case(demo, ccproxy, process):
    assert process("start", "demo").returncode == 0
    assert "To record exchanges: ccproxy record Demo on" in ccproxy("record", "demo").stderr
    assert ccproxy("record", "demo", "on").stdout.startswith("Recording exchanges of Demo for 1d")
    port = port_of(demo, "Demo")
    request_id = ask(port)
    (made,) = recorded(demo)
    assert made.id == request_id
    assert f"{request_id}  m  1 call  ok" in ccproxy("record", "demo").stdout
    done = ccproxy("replay", request_id)
    assert (done.exit_code, done.stdout.count("is the same.")) == (0, 2), done.output
    damaged = msgspec.structs.replace(made.calls[0], body=b"{")
    save_recording(demo / "state", msgspec.structs.replace(made, id="damaged", calls=(damaged,)))
    assert "the recording cannot be read: " in ccproxy("replay", "damaged").stderr
    (recordings_folder(demo / "state", "Demo") / "damaged.json").unlink()
    case = json.loads(ccproxy("record", "--case", request_id).stdout)
    assert case["input"]["request"]["messages"] == [{"role": "user", "content": "xxxxxxx"}]
    assert ccproxy("record", "demo", "off").stdout == "Not recording exchanges of Demo.\n"
    ask(port)
    assert len(list(recordings(demo / "state", "Demo"))) == 1
    process("stop")


def test_mistakes(home, ccproxy):
    for words, report in {
        ("record",): "the label is missing",
        ("record", "--case", "req_1"): "there is no recording req_1",
        ("replay", "../../etc/passwd"): "there is no recording ../../etc/passwd",
    }.items():
        done = ccproxy(*words)
        assert done.exit_code != 0
        assert report in done.stderr
    folder = home / "state" / "recordings" / "kimi-k2"
    folder.mkdir(parents=True)
    (folder / "req_1.json").write_text("{}")
    assert "cannot be read" in ccproxy("replay", "req_1").stderr
    assert "Nothing is recorded" in ccproxy("record", "kimi-k2").stderr
