"""The status line reads a worker's reply without msgspec; both must agree on its fields."""

from __future__ import annotations

import dataclasses

import pytest

from ccproxy.ipc.control_messages import (
    AccountWindow,
    BudgetRow,
    ClientSessionRequest,
    ClientSessionState,
    KeyCounts,
    decode_request,
    encode,
)
from ccproxy.statusline.entry_state import (
    EntryState,
    LowBudget,
    PlanUse,
    ReadyKeys,
    read_entry,
    request_line,
)

FULL = ClientSessionState(
    label="Kimi",
    port=8081,
    window=200_000,
    cost_today=0.5,
    keys=KeyCounts(ready=1, total=2),
    plan=AccountWindow(name="5h", used=0.25, resets_at=1.0),
    peers=("GLM",),
    low_budgets=(BudgetRow(unit="USD", period="day", limit=5.0, spent=4.5, is_low=True),),
)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (EntryState, ClientSessionState),
        (ReadyKeys, KeyCounts),
        (PlanUse, AccountWindow),
        (LowBudget, BudgetRow),
    ],
)
def test_names_and_defaults_match_the_message(ours, theirs):
    defaults = {field.name: field.default for field in dataclasses.fields(theirs)}
    assert ours._field_defaults.items() <= defaults.items()


def test_the_request_is_the_one_that_the_worker_expects():
    expected = ClientSessionRequest(id="s1", model="Kimi:big")
    assert decode_request(request_line("s1", "Kimi:big")) == expected


def test_every_field_is_read():
    state = read_entry(encode(FULL))
    assert state is not None
    assert (state.label, state.port, state.window, state.cost_today) == ("Kimi", 8081, 200_000, 0.5)
    assert (state.keys, state.plan) == (ReadyKeys(1, 2), PlanUse("5h", 0.25))
    assert (list(state.peers), state.low_budgets) == (["GLM"], (LowBudget("USD", "day", 5, 4.5),))


def test_fields_of_another_release_are_ignored_and_missing_ones_have_defaults():
    assert read_entry(b'{"label": "Kimi", "later": 1}\n') == EntryState(label="Kimi")
