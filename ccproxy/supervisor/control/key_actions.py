"""Asks the workers of an entry about their keys, over their control sockets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, NotRunning
from ccproxy.supervisor.control.client import known_records
from ccproxy.supervisor.control.protocol import NoAnswer, ask
from ccproxy.supervisor.state.records import Record, Records

LIMIT = 5.0
TEST_LIMIT = 900.0
"""Seconds; a provider may be slow, and its time limit is the worker's business."""


def ask_about_keys(
    fleet: Fleet, label: str, deed: str, *, key_id: str | None = None
) -> dict[str, Any]:
    """
    Have *deed* (`list`, `test`, `enable`, `disable`, `reset`) done; return what a worker said.

    Every process of the entry is told; a test is made by the first one only.

    Raises:
        NotRunning: If no process of the entry answers.
        CcproxyError: If there is no such key.

    """
    asked = {"op": "keys", "do": deed, "id": key_id}
    answers = []
    for record in living_processes(fleet, label):
        try:
            answer = ask(record.control, asked, timeout=TEST_LIMIT if deed == "test" else LIMIT)
        except NoAnswer:
            continue
        answers.append(answer)
        if deed in ("list", "test"):
            break
    if not answers:
        raise NotRunning(f"{label} is not running\n  fix: ccproxy start {label}")
    refused = next((answer for answer in answers if not answer.get("ok")), None)
    if refused is not None:
        raise CcproxyError(f"{label}: {refused.get('error')}\n  fix: ccproxy keys {label}")
    unsaved = [answer["unsaved"] for answer in answers if "unsaved" in answer]
    return answers[0] | ({"unsaved": unsaved[0]} if unsaved else {})


def living_processes(fleet: Fleet, label: str) -> list[Record]:
    """
    Return the living processes of an entry, the first one first; replaced ones are left out.

    The supervisor knows also those whose records a full disk did not take.
    """
    records = [
        record
        for path, record in Records(fleet.pids).read()
        if record is not None and "~" not in path.name
    ]
    ours = _living(records, label)
    return ours or _living(known_records(fleet), label)


def _living(records: Iterable[Record], label: str) -> list[Record]:
    ours = [record for record in records if record.spec.label.lower() == label.lower()]
    return sorted(
        (record for record in ours if record.identity.is_alive()), key=lambda one: one.index
    )
