"""Asks the workers of an entry about their keys, over their control sockets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace

from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, NotRunning
from ccproxy.ipc.control_messages import KeyAction, KeysReply, KeysRequest, from_fields
from ccproxy.supervisor.control.client import known_records
from ccproxy.supervisor.sockets.unix_socket import NoAnswer, ask
from ccproxy.supervisor.state.records import RecordFolder, WorkerRecord

LIMIT = 5.0
TEST_LIMIT = 900.0
"""Seconds; a provider may be slow, and its time limit is the worker's business."""


def ask_about_keys(
    fleet: Fleet, label: str, action: KeyAction, *, key_id: str | None = None
) -> KeysReply:
    """
    Apply *action* to the keys of an entry and return the keys after it.

    Every process of the entry carries it out; `list` and `test` are for the first one only.

    Raises:
        NotRunning: If no process of the entry answers.
        CcproxyError: If there is no such key.

    """
    request = asdict(KeysRequest(action=action, id=key_id))
    answers = []
    for record in living_processes(fleet, label):
        try:
            answer = ask(record.control, request, timeout=TEST_LIMIT if action == "test" else LIMIT)
        except NoAnswer:
            continue
        answers.append(answer)
        if action in ("list", "test"):
            break
    if not answers:
        raise NotRunning(f"{label} is not running\n  fix: ccproxy start {label}")
    refused = next((answer for answer in answers if not answer.get("ok")), None)
    if refused is not None:
        raise CcproxyError(f"{label}: {refused.get('error')}\n  fix: ccproxy keys {label}")
    replies = [from_fields(KeysReply, answer) for answer in answers]
    unsaved = next((reply.unsaved for reply in replies if reply.unsaved), "")
    return replace(replies[0], unsaved=unsaved)


def living_processes(fleet: Fleet, label: str) -> list[WorkerRecord]:
    """
    Return the living processes of an entry, the first one first; replaced ones are left out.

    The supervisor knows also those whose records a full disk did not take.
    """
    records = [
        record
        for path, record in RecordFolder(fleet.pids).read()
        if record is not None and "~" not in path.name
    ]
    ours = _living(records, label)
    return ours or _living(known_records(fleet), label)


def _living(records: Iterable[WorkerRecord], label: str) -> list[WorkerRecord]:
    ours = [record for record in records if record.spec.label.lower() == label.lower()]
    return sorted(
        (record for record in ours if record.identity.is_alive()), key=lambda one: one.index
    )
