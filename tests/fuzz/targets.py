"""
Fuzz targets: functions that take bytes and raise only on a defect.

Each ignores the one error that its parser documents.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from ccproxy.config.fleet import read_fleet
from ccproxy.config.worker_config import load_worker
from ccproxy.convert.chat.request import to_chat
from ccproxy.convert.common.thinking import Signer
from ccproxy.convert.errors.classify import classify_error
from ccproxy.errors import ConfigError, Problem
from ccproxy.protocol.messages import read_request
from ccproxy.protocol.sse import Decoder
from ccproxy.providers.quirks import Quirks, Target

_HOME = Path(tempfile.mkdtemp(prefix="ccproxy-fuzz-"))
_TARGET = Target(provider="x", model="m", quirks=Quirks(), window=None, max_output=None)


def sse(data: bytes) -> None:
    """Decode an event stream, cut at the position given by the first byte."""
    size = (data[0] if data else 0) + 1
    decoder = Decoder(limit=1 << 16)
    with contextlib.suppress(Problem):
        for start in range(0, len(data), size):
            decoder.feed(data[start : start + size])
        decoder.close()


def table(data: bytes) -> None:
    """Read a ccproxy.toml."""
    file = _HOME / "ccproxy.toml"
    file.write_bytes(data)
    read_fleet(file)


def env(data: bytes) -> None:
    """Read an env file."""
    file = _HOME / "x.env"
    file.write_bytes(data)
    file.chmod(0o600)
    with contextlib.suppress(ConfigError):
        load_worker(file)


def problem(data: bytes) -> None:
    """Classify a provider's error."""
    status = 400 + (data[0] if data else 0)
    classify_error(status, {"retry-after": data[1:9].decode("latin-1")}, data[9:], quirks=Quirks())


def request(data: bytes) -> None:
    """Convert a client's request."""
    with contextlib.suppress(Problem):
        to_chat(read_request(data), _TARGET, signer=Signer(b"k" * 32))


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "sse": sse,
    "table": table,
    "env": env,
    "problem": problem,
    "request": request,
}
