"""Encrypted reasoning of clients, and who can decrypt it."""

from __future__ import annotations

from ccproxy.convert.common.thinking import Signer
from ccproxy.convert.openai_clients.sealed_reasoning import ReasoningSeal
from ccproxy.providers.quirks import Target


def seal(model="m", endpoint="e", key=b"key", api="messages"):
    return ReasoningSeal(Signer(key), Target(provider="p", model=model, endpoint=endpoint, api=api))


OTHERS = [seal(model="x"), seal(endpoint="x"), seal(key=b"x")]


def test_a_providers_thinking_is_returned_only_to_it():
    sealed = seal().seal_thinking("sig")
    block = {"type": "thinking", "thinking": "A", "signature": "sig"}
    assert seal().thinking_block("A", sealed) == block
    assert [other.thinking_block("A", sealed) for other in OTHERS] == [None] * 3


def test_redacted_thinking_is_returned_too():
    block = {"type": "redacted_thinking", "data": "d"}
    assert seal().thinking_block("", seal().seal_redacted("d")) == block


def test_an_items_ciphertext_is_returned_only_to_its_model():
    sealed = seal(api="responses").seal_item("gAAAA", [3])
    assert seal(api="responses").open_item(sealed) == "gAAAA"
    assert [other.open_item(sealed) for other in OTHERS] == [None] * 3
    assert seal().open_item("gAAAA") is None
    assert seal().open_item(sealed[:-2]) is None


def test_signatures_of_the_conversion_are_kept():
    chat = seal(api="chat")
    assert chat.seal_thinking("ccproxy1.abc") == "ccproxy1.abc"
    assert seal().seal_thinking("") == ""
    assert chat.thinking_block("A", "ccproxy1.abc")["signature"] == "ccproxy1.abc"
    assert chat.thinking_block("A", "gAAAA")["signature"] == ""
    assert chat.thinking_block("", "gAAAA") is None
