"""From a configuration to a worker: what it is made of, put together."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from ccproxy.config.fleet import FILE_NAME
from ccproxy.config.worker import WorkerConfig
from ccproxy.convert.common.thinking import Signer
from ccproxy.convert.common.token_estimate import Calibration
from ccproxy.convert.context import ConversionContext
from ccproxy.convert.direct.learning import Lessons
from ccproxy.redaction import Redactor
from ccproxy.worker.admin.session import make_session
from ccproxy.worker.key_pool import make_pool
from ccproxy.worker.key_store import Kept, keys_path, open_keeper
from ccproxy.worker.log.lines import RequestLog
from ccproxy.worker.peers.choice import Chooser
from ccproxy.worker.peers.fleet_token import FleetToken
from ccproxy.worker.peers.siblings import Siblings
from ccproxy.worker.server.authentication import Admission
from ccproxy.worker.signing_key import load_signing_key
from ccproxy.worker.state import Worker
from ccproxy.worker.upstream.client import Upstream

MODELS_KEPT = 256
"""Models of which everything is put together once; clients can name as many as they like."""


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
    """Make the worker of *config*; its upstream is not open yet. *table* names its siblings."""
    pool = make_pool(
        config,
        state=home / "state",
        log=log,
        processes=processes,
        in_fleet=table is not None,
    )
    calibration, lessons = Calibration(), Lessons()
    kept = Kept(pool, calibration, lessons)
    signing_key = load_signing_key(home / "state")
    rules = ConversionContext(
        pick_model=config.models.pick,
        target=lru_cache(maxsize=MODELS_KEPT)(config.target),
        may_change_api=config.api_by_model,
        signer=Signer(signing_key),
        calibration=calibration,
        most_tokens=config.max_tokens_limit,
        least_tokens=config.min_tokens_limit,
        tool_filter=config.tool_filter,
    )
    admission = Admission(config.client_keys, host=config.host, allowed_hosts=config.allowed_hosts)
    chooser = Chooser(config, table=table or home / FILE_NAME, state=home / "state", log=log)
    return Worker(
        config=config,
        pool=pool,
        lessons=lessons,
        keeper=open_keeper(keys_path(home, config.label), kept, log=log),
        upstream=Upstream(config, pool=pool, log=log),
        rules=rules,
        admission=admission,
        chooser=chooser,
        siblings=Siblings(chooser, FleetToken(signing_key)),
        session=make_session(config, home=home, admission=admission, log=log, redact=redact),
        log=log,
        request_log=request_log or log,
        redact=redact,
    )
