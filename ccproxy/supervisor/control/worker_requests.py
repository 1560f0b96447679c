"""
Requests about keys and sessions, which the command line sends to the workers of an entry.

Each function raises NotRunning if no process of the entry is running, and another CcproxyError if
none answers or one refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Literal, TypeVar

from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, NotRunning
from ccproxy.ipc.control_messages import (
    Done,
    ForgetRequest,
    InspectReply,
    InspectRequest,
    KeyAction,
    KeysReply,
    KeysRequest,
    ModelsRequest,
    OfferedModels,
    ProbeReply,
    ProbeRequest,
    ReplayReply,
    ReplayRequest,
    Request,
    SessionReply,
    SessionRequest,
)
from ccproxy.supervisor.control.client import running_records
from ccproxy.supervisor.sockets.unix_socket import (
    AnswerTimeout,
    NoAnswer,
    WorkerRefused,
    ask_worker,
)
from ccproxy.supervisor.state.records import RecordFolder, WorkerRecord

T = TypeVar("T")

LIMIT = 5.0
"""Seconds that a worker may take to answer."""
LIST_LIMIT = 30.0
"""Seconds that a worker may take to return the provider's list of models."""
TEST_LIMIT = 900.0
"""Seconds for a test of keys: the provider may be slow, and the worker has its own limit."""


def ask_about_keys(
    fleet: Fleet, label: str, action: KeyAction, *, key_id: str | None = None
) -> KeysReply:
    """
    Apply *action* to the keys of an entry and return the resulting keys.

    Every process of the entry performs it, but only the first one performs `list` and `test`.
    """
    request = KeysRequest(action=action, id=key_id)
    limit = TEST_LIMIT if action == "test" else LIMIT
    fix = f"\n  fix: ccproxy keys {label}"
    answers = _answers(fleet, label, lambda: request, KeysReply, timeout=limit, fix=fix)
    replies = [next(answers)] if action in ("list", "test") else [*answers]
    unsaved = next((reply.unsaved for reply in replies if reply.unsaved), "")
    return replace(replies[0], unsaved=unsaved)


def offered_models(fleet: Fleet, label: str) -> tuple[str, ...]:
    """Return the models that the provider of an entry lists, requested through its worker."""
    return next(_answers(fleet, label, ModelsRequest, OfferedModels, timeout=LIST_LIMIT)).names


def inspected_request(fleet: Fleet, label: str, request_id: str) -> InspectReply:
    """Return the bodies of a request that an entry has answered with INSPECT on."""
    refusal: WorkerRefused | None = None
    late: AnswerTimeout | None = None
    for record in running_processes(fleet, label):
        request = InspectRequest(id=request_id)
        try:
            return ask_worker(record.control, request, InspectReply, timeout=LIMIT)
        except WorkerRefused as error:
            refusal = error
        except AnswerTimeout as error:
            late = error
        except NoAnswer:
            continue
    if refusal is None:
        raise _no_answer(label, late)
    fix = f"set INSPECT=on in the env file of {label}, then: ccproxy reload"
    raise CcproxyError(f"{label}: {refusal}\n  fix: {fix}") from refusal


def replay_recording(fleet: Fleet, label: str, recording_id: str) -> ReplayReply:
    """Have a process of the entry replay a recorded exchange."""
    request = ReplayRequest(id=recording_id)
    return next(_answers(fleet, label, lambda: request, ReplayReply, timeout=LIST_LIMIT))


def probe_model(
    fleet: Fleet, label: str, model: str, *, most: float | None = None, overflow: bool = False
) -> ProbeReply:
    """
    Have a process of the entry measure *model*; without *most*, only estimate the cost.

    With *overflow*, also send a request that is too long.
    """
    request = ProbeRequest(model=model, most=most, overflow=overflow)
    return next(_answers(fleet, label, lambda: request, ProbeReply, timeout=TEST_LIMIT))


def forget_refusals(fleet: Fleet, label: str) -> bool:
    """Delete the learned refusals in each process of an entry; return False if none is running."""
    is_running = False
    for record in running_processes(fleet, label):
        try:
            ask_worker(record.control, ForgetRequest(), Done, timeout=LIMIT)
        except WorkerRefused as error:
            raise CcproxyError(f"{label}: {error}") from error
        except AnswerTimeout as error:
            raise _no_answer(label, error) from error
        except NoAnswer:  # it has exited since its record was read
            continue
        is_running = True
    return is_running


def switch_session(
    fleet: Fleet,
    label: str,
    *,
    proxy: Literal["on", "off", "toggle"] | None = None,
    history: Literal["on", "off"] | None = None,
    recording: Literal["on", "off"] | None = None,
) -> SessionReply:
    """Set the switches that are not None in every process of the entry; return all switches."""

    def request() -> SessionRequest:
        return SessionRequest(proxy=proxy, history=history, recording=recording)

    answers = _answers(fleet, label, request, SessionReply, timeout=LIMIT)
    result = next(answers)
    # All processes get the result of a toggle, regardless of their own state.
    proxy = None if proxy is None else "on" if result.proxy else "off"
    for reply in answers:
        result = reply if reply.unsaved else result
    return result


def running_processes(fleet: Fleet, label: str) -> list[WorkerRecord]:
    """
    Return the running processes of an entry in order, without replaced ones.

    If a full disk has prevented writing their records, the supervisor provides them.
    """
    records = RecordFolder(fleet.pids).running(with_replaced=False)
    return _of_label(records, label) or _of_label(running_records(fleet), label)


def _answers(
    fleet: Fleet,
    label: str,
    request: Callable[[], Request],
    kind: type[T],
    *,
    timeout: float,
    fix: str = "",
) -> Iterator[T]:
    """Yield the answer of each process; raise an error if one refuses or none answers."""
    late: AnswerTimeout | None = None
    has_answer = False
    for record in running_processes(fleet, label):
        try:
            answer = ask_worker(record.control, request(), kind, timeout=timeout)
        except WorkerRefused as error:
            raise CcproxyError(f"{label}: {error}{fix}") from error
        except AnswerTimeout as error:
            late = error
        except NoAnswer:  # it has exited since its record was read
            continue
        else:
            has_answer = True
            yield answer
    if not has_answer:
        raise _no_answer(label, late)


def _of_label(records: Iterable[WorkerRecord], label: str) -> list[WorkerRecord]:
    running = (record for record in records if record.spec.label.lower() == label.lower())
    return sorted(running, key=lambda record: record.index)


def _no_answer(label: str, late: AnswerTimeout | None) -> CcproxyError:
    if late is None:
        return NotRunning(f"{label} is not running\n  fix: ccproxy start {label}")
    return CcproxyError(
        f"{label} runs but does not answer ({late})\n"
        f"  fix: see what it waits for: ccproxy logs {label}; if it hangs: ccproxy restart {label}"
    )
