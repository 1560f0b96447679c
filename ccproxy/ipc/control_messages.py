"""
The messages between a worker and the programs that control it.

A worker has a control socket, on which every connection carries one request and one reply, and a
readiness pipe, to which it writes one message at startup. Each message is one line of JSON.
Worker and supervisor do not import each other; both import this module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

from ccproxy.ipc.codec import MessageError, from_fields, parse_object

KeyAction = Literal["list", "test", "enable", "disable", "reset"]
KEY_ACTIONS: tuple[KeyAction, ...] = get_args(KeyAction)

DRAIN_SECONDS = 30.0
"""Default time limit for the requests that are running when a drain begins."""


# Requests to a worker.


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRequest:
    """Asks for a `WorkerState`."""

    op: Literal["state"] = "state"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainRequest:
    """Stops accepting; the worker exits when its requests have ended, at most `seconds` later."""

    op: Literal["drain"] = "drain"
    seconds: float = DRAIN_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerRequest:
    """Asks for a duplicate of the listening socket, sent as SCM_RIGHTS with a `Done`."""

    op: Literal["listener"] = "listener"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysRequest:
    """Applies an action to one key, or to all if `id` is None; returns a `KeysReply`."""

    op: Literal["keys"] = "keys"
    action: KeyAction = "list"
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRequest:
    """Changes the switches that are not None; returns a `SessionReply`."""

    op: Literal["session"] = "session"
    proxy: Literal["on", "off", "toggle"] | None = None
    history: Literal["on", "off"] | None = None
    recording: Literal["on", "off"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """Replays the recorded exchange *id* through the conversion; returns a `ReplayReply`."""

    op: Literal["replay"] = "replay"
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRequest:
    """Measures *model* (if empty, the big model); returns a `ProbeReply`."""

    op: Literal["probe"] = "probe"
    model: str = ""
    most: float | None = None
    """Stop measuring once this much has been spent, in US dollars; None: only estimate the cost."""
    overflow: bool = False
    """Whether to send a request that is too long as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetRequest:
    """Deletes the refusals learned from the provider; returns `Done`."""

    op: Literal["forget"] = "forget"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestsRequest:
    """Asks for the latest requests to models; returns a `RequestsReply` of `ipc/activity.py`."""

    op: Literal["requests"] = "requests"
    limit: int = 100
    """The maximum number of finished requests to return, the latest ones."""
    id: str = ""
    """Only requests whose id begins or ends with this."""
    failed: bool = False
    """Only requests that ended with an error."""
    slow: bool = False
    """Only requests whose answer began late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRequest:
    """Asks for a line per `ActivityEvent` of `ipc/activity.py`, until the reader disconnects."""

    op: Literal["watch"] = "watch"
    since: float | None = None
    """Start with the requests that ended after this time; if None, with the running ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSessionRequest:
    """Asks for the `ClientSessionState` of one session of Claude Code, for its status line."""

    op: Literal["client_session"] = "client_session"
    id: str = ""
    model: str = ""
    """The session's model, to look up its context window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectRequest:
    """Asks for the `InspectReply` of one request, while INSPECT is on."""

    op: Literal["inspect"] = "inspect"
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsRequest:
    """Asks for an `OfferedModels`, which the worker requests from its provider."""

    op: Literal["models"] = "models"


Request = (
    StateRequest
    | DrainRequest
    | ListenerRequest
    | KeysRequest
    | SessionRequest
    | ForgetRequest
    | RequestsRequest
    | WatchRequest
    | ClientSessionRequest
    | InspectRequest
    | ModelsRequest
    | ReplayRequest
    | ProbeRequest
)
REQUESTS: Mapping[str, type[Request]] = {kind().op: kind for kind in get_args(Request)}


# Replies of a worker. `ok` is False only in a `Refusal`.


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The request was refused; the error text is for the user."""

    ok: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The request succeeded and returns nothing else."""

    ok: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedModels:
    """The models that the provider lists."""

    ok: bool = True
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectReply:
    """The bodies of one request, redacted."""

    ok: bool = True
    request: str = ""
    """The body from the client."""
    sent: str = ""
    """The body sent to the provider in the last attempt; empty if another entry answered."""
    response: str = ""
    """The body of the answer to the client."""
    event_times: tuple[float, ...] = ()
    """When each event of a streamed response was sent, in seconds since the request began."""
    is_cut: bool = False
    """Whether only the beginning of a body was kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCounts:
    """How many keys a worker has, and how many of them can serve a request now."""

    ready: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountBalance:
    """The remaining money or credits."""

    amount: float = 0.0
    currency: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountWindow:
    """An allowance for a period of time, set by a plan or a rate limit."""

    name: str = ""
    used: float = 0.0
    """The fraction used; 1.0 is all of it."""
    resets_at: float | None = None
    """Seconds since the epoch."""
    is_low: bool = False
    """Whether most of it is used; the user is then warned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow:
    """The provider's report on the account of a key."""

    id: str = ""
    """The key's id."""
    tail: str = ""
    balances: tuple[AccountBalance, ...] = ()
    windows: tuple[AccountWindow, ...] = ()
    at: float = 0.0
    """When it was reported, in seconds since the epoch; 0 if never."""
    is_documented: bool = True
    """False if the vendor does not document the endpoint."""
    failure: str = ""
    """Why the latest attempt returned no report; empty if it succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetiringModel:
    """A configured model that the provider has retired or will soon retire."""

    model: str = ""
    date: str = ""
    """YYYY-MM-DD; empty if unknown."""
    successor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRow:
    """A budget of the entry, a client key or a user, and what has been spent in this period."""

    client: str = ""
    """The client key, masked for display."""
    user: str = ""
    unit: str = ""
    """`tokens`, or the code of a currency."""
    period: str = ""
    limit: float = 0.0
    spent: float = 0.0
    reserved: float = 0.0
    """The amount reserved by requests in flight."""
    resets_at: float = 0.0
    """Seconds since the epoch."""
    is_low: bool = False
    """Whether most of it is spent; the user is then warned."""
    uncounted: tuple[str, ...] = ()
    """The models used whose price is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCooldown:
    """One reason why a key is not used."""

    model: str | None = None
    """None if it applies to every model."""
    cause: str = ""
    status: int = 0
    seconds: float = 0.0
    """Seconds until the next attempt; 0 if the next request is that attempt."""
    since: float = 0.0
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """One key, of which no more than the last four characters leave the worker."""

    id: str
    tail: str = ""
    state: str = ""
    cooldowns: tuple[KeyCooldown, ...] = ()
    used_today: int = 0
    in_flight: int = 0
    sessions: int = 0
    """Sessions that have used the key in the last hour and stay with it."""
    last_error: str = ""
    """The provider's message when it last refused the key; empty if the key has no cooldown."""
    account: AccountRow | None = None
    """None if it has never been read."""
    limits: tuple[AccountWindow, ...] = ()
    """The rate limits in the headers of the last answer to the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The requests to models in the last few minutes."""

    requests_per_minute: int = 0
    """Requests that ended in the last minute."""
    output_tokens_per_s: float = 0.0
    """Output tokens per second across the answers that ended in the last minute."""
    requests: int = 0
    """Requests that ended in the last five minutes."""
    errors: int = 0
    answers: int = 0
    """Streamed answers that began in the last five minutes."""
    ttft_median_s: float | None = None
    """Median seconds to the first byte of a streamed answer, over the last five minutes."""
    ttft_p95_s: float | None = None
    history: tuple[int, ...] = ()
    """Requests that ended in each five-second interval of the last five minutes, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSharing:
    """How a worker with REDIS_URL shares the state of its keys with other replicas."""

    mode: Literal["shared", "local"] = "shared"
    """`local` means without Redis, within this replica's share of the limits."""
    reason: str = ""
    replicas: int = 0
    """The number of replicas last seen, including this one."""
    per_replica: tuple[str, ...] = ()
    """The kinds of state that each replica keeps for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedState:
    """What a worker reports and `status` shows; a new column needs a field here."""

    in_flight: int = 0
    connections: int = 0
    """Open client connections, of which there are at most `max_connections`."""
    max_connections: int = 0
    models: Mapping[str, str | None] = field(default_factory=dict)
    """Model names by tier."""
    retiring: tuple[RetiringModel, ...] = ()
    """The configured models that are retired or will be within 30 days."""
    switched: str = ""
    """Name of the active model switch; empty if the env file's models are used."""
    passes_to: str = ""
    """The URL to which bypass mode passes requests unchanged; empty if bypass is off."""
    keeps_history: bool = False
    inspects: bool = False
    """Whether INSPECT makes request bodies readable at the moment."""
    inspects_s: float = 0.0
    """Seconds until INSPECT switches itself off."""
    budgets: tuple[BudgetRow, ...] = ()
    accounts: tuple[AccountRow, ...] = ()
    """One row per key whose account has been read."""
    base_url: str = ""
    faulty_key: str = ""
    """Id of the first key that was rejected or is out of credit, which the user can test."""
    version: str = ""
    """The version of ccproxy when the worker was started; empty if unknown."""
    build: str = ""
    """Hash of the source code that the process runs; empty if unknown."""
    log_dropped_total: int = 0
    """Log lines lost since startup because the disk was full."""
    traffic: Traffic = field(default_factory=Traffic)
    key_rows: tuple[KeyRow, ...] = ()
    pool: PoolSharing | None = None
    """The shared pool; None without REDIS_URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState(ReportedState):
    """The state of one worker process, for `status` and the health probe."""

    ok: bool = True
    pid: int = 0
    nonce: str = ""
    """Identifies the process; the supervisor chose it when it started the worker."""
    label: str = ""
    port: int = 0
    state: str = ""
    """`ready` or `draining`; empty if unknown."""
    keys: KeyCounts | None = None
    reason: str | None = None
    """Why the worker cannot serve normally, as text for the user."""
    started: float = 0.0
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionMove:
    """The move of a session from one key to another."""

    session: str = ""
    """The first characters of the client's session id."""
    source: str = ""
    """The key's id and tail, like `target`."""
    target: str = ""
    cause: str = ""
    reason: str = ""
    """The cause in words."""
    cached_tokens_lost: int = 0
    """The estimated number of tokens."""
    at: float = 0.0
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTest:
    """The result of one test request with one key."""

    id: str
    ok: bool = False
    kind: str | None = None
    """The Messages API's error type; None after a success."""
    status: int = 0
    message: str = ""
    seconds: float = 0.0
    is_missing_path: bool = False
    """Whether the provider lacks the endpoint: 404 or 405."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysReply:
    """The keys after an action."""

    ok: bool = True
    keys: tuple[KeyRow, ...] = ()
    strategy: str = ""
    """The strategy in use, as in KEY_STRATEGY."""
    moves: tuple[SessionMove, ...] = ()
    """The latest moves of sessions between keys, newest last."""
    tests: tuple[KeyTest, ...] = ()
    unsaved: str = ""
    """Why a restart will undo the action; empty if it is saved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReply:
    """The switches of a session."""

    ok: bool = True
    proxy: bool = True
    """False if bypass is on."""
    history: bool = False
    goes_to: str = ""
    """The URL to which bypass mode passes requests."""
    unsaved: str = ""
    """Why a change is not saved, so that a restart undoes it; empty if it is saved."""
    recording_s: int = 0
    """Seconds for which exchanges will still be recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReply:
    """The measurements of a model; in a dry run, those that would be made."""

    ok: bool = True
    model: str = ""
    requests: int = 0
    dollars: float | None = None
    """The actual or estimated cost; None if the price is unknown."""
    measured: int = 0
    differs: tuple[str, ...] = ()
    """The quirks that differ from the assumed ones, with the measured values."""
    unmeasured: tuple[str, ...] = ()
    stopped: bool = False
    """Whether the cost limit was reached."""
    limits: tuple[str, ...] = ()
    """Findings about limits and how streams end, one line each."""
    overflow_tokens: int | None = None
    """The size of the too-long request that would be sent; None if none would be."""
    overflow_dollars: float | None = None
    """Its cost if it is accepted; None if the price is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReply:
    """The differences between a recorded exchange and the current conversion."""

    ok: bool = True
    request: tuple[str, ...] = ()
    """The lines of a diff of the requests to the provider; empty if they are equal."""
    answer: tuple[str, ...] = ()
    """The lines of a diff of the answers to the client; empty if they are equal."""
    bytes: int = 0
    """The size of the client's answer, if it was compared."""
    note: str = ""
    """What was not compared, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSessionState:
    """
    One session of Claude Code, as one worker sees it.

    The counts cover the requests that this worker answered itself; those that it passed on are
    counted by the workers of `peers`.
    """

    ok: bool = True
    label: str = ""
    port: int = 0
    model: str = ""
    """The model that answered last, or that will answer if the session's model has changed."""
    window: int | None = None
    """The context window of that model in tokens; None if unknown."""
    answered_by: str = ""
    """The label of the entry that answered last; empty if it is this one."""
    route: str = ""
    """Which entry answered last and why, unless the model's name alone decided."""
    error: str = ""
    """The error that the last request ended with; empty after a success."""
    at: float = 0.0
    """When the last request ended, in seconds since the epoch."""
    waiting_s: float = 0.0
    """How long the oldest running request has waited for its answer; 0 if none is waiting."""
    attempts: int = 0
    """How many times that request was sent to the provider."""
    key: str = ""
    """The last key that it used, `…last4`."""
    refusal: str = ""
    """Why the provider refused the previous attempt; empty if there was none."""
    keys: KeyCounts | None = None
    reason: str = ""
    """Why the worker cannot serve normally."""
    bypass: str = ""
    """The URL to which bypass mode passes requests unchanged; empty if bypass is off."""
    input: int = 0
    """Tokens that were neither read from the provider's cache nor written to it."""
    cached: int = 0
    written: int = 0
    cost: float = 0.0
    """US dollars."""
    unpriced: int = 0
    """Requests without a known price, which `cost` does not include."""
    cost_today: float | None = None
    """US dollars spent by the whole fleet; None if unknown."""
    plan: AccountWindow | None = None
    """The most used allowance of the key that has the most left; None if none is reported."""
    peers: tuple[str, ...] = ()
    """Labels of the entries that answered requests of the session."""
    low_budgets: tuple[BudgetRow, ...] = ()
    """The nearly spent budgets of the entry, and of its client if it has only one."""


Reply = (
    Refusal
    | Done
    | WorkerState
    | KeysReply
    | SessionReply
    | ClientSessionState
    | InspectReply
    | OfferedModels
    | ReplayReply
    | ProbeReply
)


# The readiness pipe.


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """A worker's message on its readiness pipe."""

    ready: bool = False
    pid: int = 0
    nonce: str = ""
    error: str = ""
    """Why the worker exits; empty if it is ready."""
    errno: int | None = None
    """The system's error number, if a system error is the reason."""
    draining: bool = False
    """Sent later, in a second message: the worker has stopped accepting."""


# Encoding.


def encode(message: Request | Reply | Readiness) -> bytes:
    """Return *message* as one line of JSON."""
    return json.dumps(asdict(message)).encode() + b"\n"


def decode_request(line: bytes) -> Request:
    """Return the request in *line*, of the type that `op` selects, or raise MessageError."""
    fields = parse_object(line)
    op = fields.get("op")
    kind = REQUESTS.get(op) if isinstance(op, str) else None
    if kind is None:
        raise MessageError(f"op: must be one of {', '.join(REQUESTS)}")
    return from_fields(kind, fields)
