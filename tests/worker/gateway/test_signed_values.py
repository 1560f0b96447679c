"""Values that a browser stores for the gateway, and cannot change or reuse."""

from __future__ import annotations

import pytest

from ccproxy.worker.gateway.signed_values import SignedValues

FIELDS = {"user_code": "BCDFGHJK", "state": "é"}


def signed(*, key=b"key", now=1000.0):
    return SignedValues(key, clock=lambda: now)


def test_a_value_opens_for_its_purpose_until_it_expires():
    sealed = signed().seal("sign-in", FIELDS, seconds=60)
    assert signed(now=1059.9).open("sign-in", sealed) == FIELDS
    assert signed(now=1060.0).open("sign-in", sealed) == {}
    assert signed().open("approval", sealed) == {}
    assert signed(key=b"other").open("sign-in", sealed) == {}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: "", id="empty"),
        pytest.param(lambda text: ".", id="a dot"),
        pytest.param(lambda text: text.partition(".")[0] + ".", id="no signature"),
        pytest.param(lambda text: "x" + text, id="another content"),
        pytest.param(lambda text: text + "0", id="another signature"),
        pytest.param(lambda text: text.upper(), id="another case"),
        pytest.param(lambda text: "\udcff." + text, id="not a text"),
        pytest.param(lambda text: text * 1000, id="very long"),
    ],
)
def test_a_changed_value_does_not_open(change):
    sealed = signed().seal("sign-in", FIELDS, seconds=60)
    assert signed().open("sign-in", change(sealed)) == {}
