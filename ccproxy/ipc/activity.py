"""
Messages of a worker about its requests: timelines, events and prompt-cache losses.

`docs/events.md` describes every field for users; `tests/ipc/test_activity.py` keeps the two in
sync. Fields that have their default are omitted from the JSON, so a reader must know the defaults.
Providers' messages are redacted, keys are shown as `…last4`, and no message contains the content of
conversations.

This module imports msgspec, so the command line imports it lazily.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from ccproxy.ipc.control_messages import Reply, SessionMove

EventName = Literal[
    "request.started",
    "request.finished",
    "key.refused",
    "key.changed",
    "session.moved",
    "models.switched",
    "proxy.switched",
    "history.switched",
    "entry.state",
    "events.lost",
]
EVENTS: tuple[EventName, ...] = get_args(EventName)

RequestState = Literal["running", "done", "failed", "client_left"]

CacheCause = Literal[
    "tool_added",
    "tool_removed",
    "tool_changed",
    "tools_reordered",
    "attribution_header",
    "system_changed",
    "compaction",
    "tool_results_cleared",
    "message_changed",
    "messages_removed",
    "parameters_changed",
    "entry_changed",
    "model_changed",
    "key_moved",
    "ttl",
    "provider",
]
"""Reasons for fewer tokens read from the provider's prompt cache, explained in `docs/events.md`."""


class FailedAttempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt that the provider refused."""

    at: float
    """Seconds since the request began."""
    key: str
    """The key, as `…last4`."""
    status: int
    cause: str = ""
    effect: str = "none"
    """What happens to the key: none, cooldown, out or rejected."""
    next: str = "end"
    """What happens to the request: end, other_key or repeat."""
    delay: float = 0.0
    """Seconds until the next attempt."""
    reason: str = ""
    """The provider's message, redacted."""


class CacheLoss(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request read fewer tokens from the prompt cache than the one before it."""

    cause: CacheCause
    block: str = ""
    """The first block that changed, such as `tools[3] Read`, `system[1]` or `messages[12]`."""
    detail: str = ""
    before: int = 0
    """Number of tokens that were in the cache."""
    after: int = 0
    """Number of tokens read from the cache this time."""
    lost: int = 0
    """Number of tokens charged at full price as a result."""
    cost: float | None = None
    """US dollars; None if the model's price is unknown."""


class RequestTimeline(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request to a model, running or finished; times are seconds since `started`."""

    id: str
    label: str
    state: RequestState
    started: float
    """Seconds since the epoch."""
    path: str = ""
    session: str = ""
    """The id of Claude Code's session."""
    agent: str = ""
    """The id of the subagent that sent it."""
    user: str = ""
    """The gateway user who sent it."""
    requested: str = ""
    """The client's name for the model."""
    model: str = ""
    """The model that answers."""
    route: str = ""
    """Which entry answers, and why; empty if the model's name alone determines it."""
    answered_by: str = ""
    """The label of the entry that answers; empty if it is this one."""
    stream: bool = False
    size: int = 0
    """Bytes of the request's body."""
    dropped: tuple[str, ...] = ()
    """The parts of the request that were not sent to the provider."""
    converted_s: float | None = None
    sent_s: float | None = None
    """When the last attempt was sent."""
    first_byte_s: float | None = None
    total_s: float = 0.0
    """How long the request took, or has taken so far while it is running."""
    key: str = ""
    """The last key used, `…last4`."""
    attempts: int = 0
    failures: tuple[FailedAttempt, ...] = ()
    chunks: int = 0
    """Number of writes to the client that carried a part of the answer."""
    pings: int = 0
    status: int = 0
    error: str = ""
    reason: str = ""
    stop_reason: str = ""
    input: int = 0
    """Input tokens that were not cached."""
    cached: int = 0
    written: int = 0
    output: int = 0
    reasoning: int = 0
    """Reasoning tokens, which are included in `output`."""
    cost: float | None = None
    """US dollars; None if the model's price is unknown."""
    cache_loss: CacheLoss | None = None


class RequestsReply(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of one worker process, oldest first."""

    ok: bool = True
    running: tuple[RequestTimeline, ...] = ()
    finished: tuple[RequestTimeline, ...] = ()


class KeyEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happened to a key."""

    id: str
    """`k1`, `k2` …; empty if the client's own key is passed on."""
    tail: str = ""
    action: str = ""
    """What the user did: enable, disable or reset."""
    cause: str = ""
    status: int = 0
    effect: str = ""
    """What happens to the key: none, cooldown, out or rejected."""
    next: str = ""
    """What the request does next: end, other_key or repeat."""
    request: str = ""
    reason: str = ""


class ActivityEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of `ccproxy events`; `event` determines which of the last fields are set."""

    event: EventName
    at: float
    """Seconds since the epoch."""
    label: str
    pid: int = 0
    request: RequestTimeline | None = None
    key: KeyEvent | None = None
    move: SessionMove | None = None
    to: str = ""
    """The new state of an entry or a switch."""
    reason: str = ""
    lost: int = 0
    """The number of events that a slow reader missed; the stream then ends."""


SLOW_SECONDS = 10.0
"""An answer that begins after this many seconds is slow."""


def is_slow(one: RequestTimeline) -> bool:
    """Return True if the answer began late, or has not begun within that time."""
    waited = one.total_s if one.first_byte_s is None else one.first_byte_s
    return waited >= SLOW_SECONDS


_ENCODER = msgspec.json.Encoder()
_EVENTS = msgspec.json.Decoder(ActivityEvent)
_REQUESTS = msgspec.json.Decoder(RequestsReply)


def encode_line(message: RequestsReply | ActivityEvent | RequestTimeline | Reply) -> bytes:
    """Return *message* as one line of JSON; for a worker's state, in a tenth of `encode`'s time."""
    return _ENCODER.encode(message) + b"\n"


def decode_event(line: bytes) -> ActivityEvent | None:
    """Return the event in one line of a worker, or None if this version does not support it."""
    try:
        return _EVENTS.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def decode_requests(line: bytes) -> RequestsReply | None:
    """Return the reply to a `RequestsRequest` in *line*, or None if it is something else."""
    try:
        return _REQUESTS.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
