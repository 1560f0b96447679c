"""What holds for every request of one worker, and the numbers that it learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ccproxy.convert.chat.checkpoint import Memory
from ccproxy.convert.common.thinking import Signer
from ccproxy.convert.common.token_estimate import Calibration, estimate
from ccproxy.convert.common.tool_filter import without_tools
from ccproxy.errors import Problem
from ccproxy.protocol.block_cache import SeenTexts
from ccproxy.protocol.messages import MessagesRequest, read_request
from ccproxy.providers.quirks import Target

CLEARLY_TOO_LONG = 1.25
"""Times the window, by an estimate whose factor was learnt: then nobody needs to be asked."""
PROBABLY_TOO_LONG = 1.5
"""Times the window, by an estimate that nobody has confirmed."""

_COMPACTION = b"CRITICAL: Respond with TEXT ONLY"
"""How Claude Code begins the request that makes the conversation shorter; never refused."""
_INPUT_FIELDS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionContext:
    """Models, limits and what was learnt; shared by the exchanges of one worker."""

    pick_model: Callable[[str], str]
    """Returns the model that answers a request for a name."""
    target: Callable[[str], Target]
    """What is known about a model of the provider's."""
    signer: Signer
    calibration: Calibration
    memory: Memory = field(default_factory=Memory)
    """Of the conversations so far."""
    seen: SeenTexts = field(default_factory=SeenTexts)
    """The bodies so far."""
    most_tokens: int | None = None
    least_tokens: int | None = None
    tool_filter: tuple[str, ...] = ()
    """Patterns of tools that are left out of every request."""

    def without_tools(self, body: bytes) -> tuple[bytes, tuple[str, ...]]:
        """Return *body* without the tools that the user does not want sent, and what went."""
        return without_tools(body, self.tool_filter) if self.tool_filter else (body, ())

    def clamp(self, wanted: int | None) -> int | None:
        """Return what the user allows for *wanted*; None and 0 (a warm-up) stay as they are."""
        if not wanted:
            return wanted
        if self.least_tokens is not None:
            wanted = max(wanted, self.least_tokens)
        return wanted if self.most_tokens is None else min(wanted, self.most_tokens)

    def count(self, body: bytes, *, model: str | None = None) -> int:
        """
        Count the tokens of a count_tokens *body*, for *model* if that is not the one it names.

        Raises:
            Problem: If it is not a request.

        """
        text = self.seen.look(self.without_tools(body)[0])
        request = read_request(text, counting=True)
        model = model or self.pick_model(request.model)
        return self.calibration.apply(model, estimate(request, text))

    def check_window(self, request: MessagesRequest, model: str, *, estimated: int) -> None:
        """
        Refuse a request that is clearly too long for *model*, in the words that mean compaction.

        Raises:
            Problem: "prompt is too long: N tokens > M maximum".

        """
        window = self.target(model).window
        # Nothing has more tokens than twice the estimate, so most requests are done with here.
        if window is None or estimated * 2.5 < window:
            return
        tokens = self.calibration.apply(model, estimated)
        margin = CLEARLY_TOO_LONG if self.calibration.knows(model) else PROBABLY_TOO_LONG
        if tokens > window * margin and not _compacts(request):
            text = f"prompt is too long: {tokens} tokens > {window} maximum"
            raise Problem("invalid_request_error", text)

    def learn(self, model: str, estimated: int, usage: Mapping[str, Any]) -> None:
        """Compare an estimate with what the provider reports."""
        reported = sum(usage.get(name) or 0 for name in _INPUT_FIELDS)
        self.calibration.learn(model, estimated=estimated, reported=reported)


def _compacts(request: MessagesRequest) -> bool:
    """Tell whether this is the compaction; a system message may follow what the user says last."""
    said = (message for message in reversed(request.messages) if message.role == "user")
    last = next(said, None)
    return last is not None and _COMPACTION in bytes(last.content)
