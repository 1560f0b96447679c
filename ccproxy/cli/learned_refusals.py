"""Shows and deletes the learned refusals of a provider, for `ccproxy check`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ccproxy.cli.render.table import Column, table
from ccproxy.cli.render.terminal import columns, show
from ccproxy.config.fleet import Fleet
from ccproxy.text import counted, format_duration, printable

_COLUMNS = (Column(head="MODEL"), Column(head="API"), Column(head="NOT SENT"))
_NOT_READABLE = (AttributeError, KeyError, TypeError, ValueError)


def show_learned(home: Path, label: str) -> None:
    """Print the features that the provider of *label* has refused."""
    value = _load(home, label)
    rows = list(_rows(value.get("learnt", {})))
    if not rows:
        show(f"{label}: the provider has not refused any request feature")
        return
    age = format_duration(max(0.0, time.time() - float(value.get("at", 0.0))))
    show(f"{label}: last changed {age} ago; every feature is tried again after a week")
    for line in table(_COLUMNS, rows, width=columns(), indent="  "):
        show(line)
    show(f"To delete this list: ccproxy check --forget {label}")


def forget_learned(fleet: Fleet, label: str) -> None:
    """Delete the learned refusals of *label*, including those that its running worker holds."""
    from ccproxy.store.key_database import REFUSALS, KeyStore, keys_path
    from ccproxy.supervisor.control.worker_requests import forget_refusals

    is_running = forget_refusals(fleet, label)
    path = keys_path(fleet.home, label)
    if not is_running and path.exists():
        store = KeyStore(path)
        store.save_value(REFUSALS, {"at": 0.0})
        store.close()
    show(f"{label}: deleted; every request feature will be tried again")


def _load(home: Path, label: str) -> Mapping[str, Any]:
    from ccproxy.store.key_database import REFUSALS, KeyStore, keys_path

    path = keys_path(home, label)
    if not path.exists():
        return {}
    store = KeyStore(path)
    value = store.load_value(REFUSALS)
    store.close()
    return value if isinstance(value, Mapping) else {}


def _rows(learned: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    try:
        for api, models in sorted(learned["features"].items()):
            for model, names in sorted(models.items()):
                yield printable(model), printable(api), printable(", ".join(sorted(names)))
        for model, api in sorted(learned["apis"].items()):
            yield printable(model), printable(api), "(only this API works)"
        if learned["opaque"]:
            number = len(learned["opaque"])
            yield (
                "any",
                "",
                counted(number, "block") + " of encrypted reasoning from other providers",
            )
    except _NOT_READABLE:
        return
