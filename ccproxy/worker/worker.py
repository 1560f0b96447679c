"""The worker: the objects that live as long as the process, and their construction."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from structlog.typing import FilteringBoundLogger

from ccproxy.config.catalogue.measured_profiles import (
    measured_outputs,
    measured_quirks,
    profiles_path,
    read_profiles,
)
from ccproxy.config.fleet import FILE_NAME
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.convert.common.refused_features import LearnedRefusals
from ccproxy.convert.common.thinking import Signer
from ccproxy.convert.common.token_estimate import Calibration
from ccproxy.convert.context import ConversionContext
from ccproxy.convert.direct.learning import Lessons
from ccproxy.keys.pool import KeyPool
from ccproxy.providers.quirks import Api
from ccproxy.redaction import Redactor
from ccproxy.store.key_database import keys_path
from ccproxy.worker.accounting.account_watch import AccountWatch
from ccproxy.worker.accounting.payers import Payers
from ccproxy.worker.activity.cache_loss_detector import CacheLossDetector
from ccproxy.worker.activity.recorder import Activity
from ccproxy.worker.admin.session import Session, make_session
from ccproxy.worker.key_pool import make_pool
from ccproxy.worker.key_store import KeyStateKeeper, PersistentState, open_keeper
from ccproxy.worker.log.lines import RequestLog
from ccproxy.worker.peers.choice import Chooser
from ccproxy.worker.peers.fleet_token import FleetToken
from ccproxy.worker.peers.held_fallbacks import HeldFallbacks
from ccproxy.worker.peers.peer_client import PeerClient
from ccproxy.worker.server.authentication import Authenticator
from ccproxy.worker.signing_key import KEY_BYTES, load_signing_key
from ccproxy.worker.upstream.provider_client import ProviderClient

if TYPE_CHECKING:
    from ccproxy.worker.added_features.description_store import DescriptionStore
    from ccproxy.worker.added_features.pdf_texts import PdfTexts
    from ccproxy.worker.added_features.search_client import SearchClient
    from ccproxy.worker.gateway.gateway import Gateway
    from ccproxy.worker.redis.shared_pool import SharedPool

_NUMBERS = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """The logs of a worker."""

    events: FilteringBoundLogger
    requests: RequestLog | FilteringBoundLogger
    """Receives one line per request."""
    redact: Redactor


@dataclass(slots=True)
class RunningRequests:
    """The requests that are being answered, and whether the worker accepts more."""

    tasks: set[asyncio.Task[object] | None] = field(default_factory=set)
    leaving: bool = False
    """A drain will begin soon; load balancers are told to send no more requests."""
    draining: bool = False
    """No new connection is accepted; running requests may finish."""
    ending: bool = False
    """Running requests were cancelled."""

    def cancel(self) -> None:
        """Cancel every running request; each ends with an error that names the reason."""
        self.ending = True
        for task in tuple(self.tasks):
            if task is not None:
                task.cancel()


@dataclass(slots=True, kw_only=True)
class TokenCounting:
    """The state of token counting."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a request's tokens are estimated: Claude Code sends 25 such requests at once."""
    provider_counts: bool = True
    """In direct mode, False once the provider is known not to count tokens."""


class BackgroundProbe(Protocol):
    """Measures models while requests are answered; see `probing/auto_probe.py`."""

    def note_answer(self, model: str, api: Api) -> None:
        """Record an answer from *model*."""

    def note_refusal(self, model: str, api: Api) -> None:
        """Record that *model* refused a feature."""

    async def close(self) -> None:
        """Cancel running measurements."""


@dataclass(slots=True, kw_only=True)
class Worker:
    """One proxy process."""

    config: WorkerConfig
    logs: Logs
    authenticator: Authenticator
    pool: KeyPool
    shared_pool: SharedPool | None = None
    """The same object as `pool` if its state is in Redis, else None."""
    keeper: KeyStateKeeper | None
    """Keeps the pool on disk; None if the file cannot be used."""
    upstream: ProviderClient
    rules: ConversionContext
    lessons: Lessons
    chooser: Chooser
    peer_client: PeerClient
    held_fallbacks: HeldFallbacks
    session: Session
    search: SearchClient | None = None
    """Opened by the first search."""
    descriptions: DescriptionStore | None = None
    """Descriptions of images; None if no model is configured to describe them."""
    auto_probe: BackgroundProbe | None = None
    """Measures models in the background; None if disabled."""
    pdf_texts: PdfTexts | None = None
    """Opened by the first PDF."""
    hinted: set[tuple[str, str]] = field(default_factory=set)
    """Events and models for which a hint has been logged."""
    activity: Activity
    accounts: AccountWatch
    payers: Payers
    gateway: Gateway | None = None
    """The gateway of a team; None if no users are set."""
    counting: TokenCounting = field(default_factory=TokenCounting)
    requests: RunningRequests = field(default_factory=RunningRequests)
    removed_reasoning: int = 0
    """Number of reasoning items that providers removed from requests (Responses API)."""
    started: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    id_prefix: str = field(default_factory=lambda: secrets.token_hex(8))
    """Random for each process; a counter follows it: ids must be unique, but may be predictable."""

    def new_id(self, kind: str) -> str:
        """Return a new identifier such as `req_…` or `msg_…`."""
        return f"{kind}_{self.id_prefix}{next(_NUMBERS):08x}"

    def has_valid_key(self) -> bool:
        """Return True if at least one key is neither rejected nor disabled."""
        if not self.config.api_keys:
            return self.config.pass_client_key
        return any(key.state not in ("rejected", "disabled") for key in self.pool.snapshot())

    async def open(self) -> None:
        """Prepare to connect to the provider; with Redis, wait for the state of the keys."""
        await self.upstream.open()
        if self.shared_pool is not None:
            self.shared_pool.backend.start()
            await self.shared_pool.backend.wait_for_contact()

    async def close(self) -> None:
        """Close connections and files; save pending changes."""
        if self.shared_pool is not None:
            await self.shared_pool.backend.close()
        if self.auto_probe is not None:
            await self.auto_probe.close()
        await self.accounts.close()
        await self.upstream.close()
        if self.search is not None:
            await self.search.close()
        if self.descriptions is not None:
            self.descriptions.close()
        await self.session.close()
        self.payers.close()
        if self.gateway is not None:
            self.gateway.sign_ins.close()
        if self.keeper is not None:
            await self.keeper.close()


def make_worker(
    config: WorkerConfig,
    *,
    home: Path,
    log: FilteringBoundLogger,
    redact: Redactor,
    request_log: RequestLog | None = None,
    table: Path | None = None,
    processes: int = 1,
) -> Worker:
    """
    Build the worker for *config*; its connections are not open yet.

    *table* is the table file of its fleet. Must be called inside the event loop.
    """
    state = home / "state"
    config = _with_profiles(config, state)
    in_fleet = table is not None
    pool, shared = _pools(config, state, log, processes, in_fleet=in_fleet)
    calibration, learned = Calibration(), LearnedRefusals()
    signing_key = _signing_key(state, in_fleet=in_fleet, log=log)
    rules = ConversionContext(
        pick_model=config.models.pick,
        target=config.target,
        signer=Signer(config.services.signing_key or signing_key),
        calibration=calibration,
        learned=learned,
        most_tokens=config.max_tokens_limit,
        least_tokens=config.min_tokens_limit,
        tool_filter=config.tool_filter,
        may_change_api=config.api_by_model,
    )
    gateway = _gateway(config, state, signing_key, log, shared)
    authenticator = _authenticator(config, gateway)
    chooser = Chooser(config, table=table or home / FILE_NAME, state=state, log=log)
    persistent = PersistentState(
        pool, calibration, learned, server=config.base_url, keeps_refusals=in_fleet
    )
    session = make_session(config, home=home, authenticator=authenticator, log=log, redact=redact)
    losses = CacheLossDetector(session.usage.cost)
    return Worker(
        config=config,
        logs=Logs(events=log, requests=request_log or log, redact=redact),
        authenticator=authenticator,
        pool=pool,
        keeper=open_keeper(keys_path(home, config.label), persistent, log=log),
        shared_pool=shared,
        upstream=ProviderClient(config, pool=pool, queue=shared.queue if shared else None, log=log),
        rules=rules,
        lessons=Lessons(learned),
        chooser=chooser,
        descriptions=_descriptions(config, state, log),
        peer_client=PeerClient(chooser, FleetToken(signing_key)),
        held_fallbacks=HeldFallbacks(config.fallback_hold, clock=time.monotonic),
        session=session,
        accounts=AccountWatch(config, pool=pool, log=log),
        payers=_payers(config, state, signing_key, chooser, log, shared),
        gateway=gateway,
        activity=Activity(config.label, redact=redact, loss_detector=losses),
    )


def _with_profiles(config: WorkerConfig, state: Path) -> WorkerConfig:
    """Return *config* with the measured properties of its models."""
    profiles = read_profiles(profiles_path(state, config.base_url))
    return replace(
        config, measured=measured_quirks(profiles), measured_outputs=measured_outputs(profiles)
    )


def _pools(
    config: WorkerConfig,
    state: Path,
    log: FilteringBoundLogger,
    processes: int,
    *,
    in_fleet: bool,
) -> tuple[KeyPool, SharedPool | None]:
    """Return the pool of *config*'s keys, and with REDIS_URL the pool that replicas share."""
    if config.services.redis is None:
        pool = make_pool(config, state=state, log=log, processes=processes, in_fleet=in_fleet)
        return pool, None
    # hiredis is an optional extra; only workers that need it spend time and memory on it.
    from ccproxy.worker.redis.shared_pool import open_shared_pool

    shared = open_shared_pool(config, config.services.redis, log=log, in_fleet=in_fleet)
    return shared.pool, shared


def _payers(
    config: WorkerConfig,
    state: Path,
    signing_key: bytes,
    chooser: Chooser,
    log: FilteringBoundLogger,
    shared: SharedPool | None,
) -> Payers:
    """Return the payers of requests; with REDIS_URL, all replicas share their ledgers."""
    return Payers(
        config,
        state=state,
        secret=shared.secret if shared else signing_key,
        settings=chooser.sibling,
        log=log,
        open_ledger=shared.ledger if shared else None,
        wall=shared.backend.clock if shared else time.time,
    )


def _authenticator(config: WorkerConfig, gateway: Gateway | None) -> Authenticator:
    return Authenticator(
        config.client_keys,
        host=config.host,
        allowed_hosts=_allowed_hosts(config),
        has_users=gateway is not None,
    )


def _gateway(
    config: WorkerConfig,
    state: Path,
    signing_key: bytes,
    log: FilteringBoundLogger,
    shared: SharedPool | None,
) -> Gateway | None:
    file = config.gateway.users_file
    if file is None:
        return None
    from ccproxy.worker.gateway.gateway import make_gateway  # few entries have users

    return make_gateway(config, file, state=state, secret=signing_key, shared=shared, log=log)


def _allowed_hosts(config: WorkerConfig) -> tuple[str, ...]:
    """Return the hosts that requests may address, including PUBLIC_URL's; empty for the default."""
    public = urlsplit(config.gateway.public_url).hostname
    is_limited = config.is_on_loopback or config.allowed_hosts
    return (*config.allowed_hosts, public) if public and is_limited else config.allowed_hosts


def _signing_key(state: Path, *, in_fleet: bool, log: FilteringBoundLogger) -> bytes:
    """Return the fleet's key, or a new one for a single proxy that cannot write to its folder."""
    try:
        return load_signing_key(state)
    except OSError as error:
        if in_fleet:
            raise
        # Thinking signed before a restart can no longer be sent back to the provider.
        log.warning("signing_key.not_saved", folder=str(state), reason=error.strerror)
        return secrets.token_bytes(KEY_BYTES)


def _descriptions(
    config: WorkerConfig, state: Path, log: FilteringBoundLogger
) -> DescriptionStore | None:
    if not (describer := config.added_features.describer):
        return None
    # Imported here, so that only workers that describe images load it.
    from ccproxy.worker.added_features.description_store import DescriptionStore

    return DescriptionStore(describer, state / "descriptions", log=log)
