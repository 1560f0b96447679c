"""One line of `status`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One proxy, as `status --json` shows it."""

    label: str
    port: int
    host: str
    state: str
    pids: tuple[int, ...] = ()
    uptime_s: float | None = None
    keys: Mapping[str, int] | None = None
    in_flight: int = 0
    models: Mapping[str, str | None] = field(default_factory=dict)
    switched: str = ""
    """What the models were switched to; empty if they are the env file's."""
    passes_to: str = ""
    """Where requests go, unchanged, while the proxy is switched off; empty if it is on."""
    keeps_history: bool = False
    """Whether it keeps what is said."""
    inspects: bool = False
    """Whether bodies can be looked at just now."""
    inspects_s: float = 0.0
    """For how many seconds longer they can."""
    base_url: str = ""
    log: str = ""
    reason: str | None = None
    faulty_key: str = ""
    """Id of a key that was rejected or is out of credit, which the user can test."""
    late: bool = False
    """It did not become ready in time."""
    version: str = ""
    """Of ccproxy, as the worker was started; empty if it does not tell."""
    build: str = ""
    """Which code that was; empty if the worker does not tell."""
    log_dropped_total: int = 0
    """Log lines that a full disk has cost since the workers' start."""

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Row:
        """Read a row that came over the socket; what is not known here is left out."""
        known = {name: fields[name] for name in cls.__slots__ if name in fields}
        return cls(**{**known, "pids": tuple(known.get("pids", ()))})

    def as_json(self) -> dict[str, Any]:
        """Return the row for `status --json`."""
        return asdict(self) | {"pids": list(self.pids)}
