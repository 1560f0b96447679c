"""
Seal reasoning in the `encrypted_content` of Responses clients.

A client returns `encrypted_content` verbatim, so it can carry the same authenticated signatures as
the thinking blocks of the Messages API. Such a signature wraps the data that the provider encrypted
or signed, together with its origin. The data is returned only to the same provider, model and
endpoint, so a session survives a change of provider. Foreign and modified data is never passed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ccproxy.convert.common.thinking import PREFIX, Origin, Signer
from ccproxy.convert.responses.reasoning_items import REASONING_ITEM, pack
from ccproxy.providers.quirks import Target

_THINKING: Final = "thinking_signature"
"""Key in a signature: the provider's own signature of a thinking block."""
_REDACTED: Final = "redacted_thinking"
"""Key in a signature: the data of a redacted_thinking block."""


class ReasoningSeal:
    """Seals the reasoning of *target* for the client, and unseals it in later requests."""

    def __init__(self, signer: Signer, target: Target) -> None:
        self._signer = signer
        self._target = target

    @property
    def _is_converted(self) -> bool:
        return self._target.api != "messages"

    # Blocks of the Messages API

    def seal_thinking(self, signature: str) -> str:
        """Return the `encrypted_content` for a thinking block with *signature*."""
        if not signature or self._is_converted:
            return signature  # already authenticated by the conversion
        return self._mint({_THINKING: signature, "endpoint": self._target.endpoint})

    def seal_redacted(self, data: str) -> str:
        """Return the `encrypted_content` for a redacted_thinking block with *data*."""
        return self._mint({_REDACTED: data, "endpoint": self._target.endpoint})

    def thinking_block(self, thinking: str, encrypted: str) -> dict[str, Any] | None:
        """
        Return the block for the client's reasoning, or None if the target cannot read it.

        A converted request accepts the conversion's own signatures, and text without a signature.
        """
        if self._is_converted:
            signature = encrypted if encrypted.startswith(PREFIX) else ""
            if not thinking and not signature:
                return None
            return {"type": "thinking", "thinking": thinking, "signature": signature}
        carried = self._open(encrypted)
        if _REDACTED in carried:
            return {"type": "redacted_thinking", "data": carried[_REDACTED]}
        if _THINKING in carried:
            return {"type": "thinking", "thinking": thinking, "signature": carried[_THINKING]}
        return None

    # Items of the Responses API

    def seal_item(self, encrypted: str, summary_lengths: Sequence[int]) -> str:
        """Return the encrypted content of an item in sealed form."""
        return self._mint({REASONING_ITEM: pack(encrypted, summary_lengths, self._target)})

    def open_item(self, encrypted: str) -> str | None:
        """Return an item's original encrypted content, or None if it is from another target."""
        packed = self._open(encrypted).get(REASONING_ITEM)
        if packed is None or packed["endpoint"] != self._target.endpoint:
            return None
        content: str = packed["encrypted_content"]
        return content

    def _mint(self, carried: dict[str, Any]) -> str:
        target = self._target
        return self._signer.mint(
            Origin(provider=target.provider, model=target.model, carried=carried)
        )

    def _open(self, encrypted: str) -> dict[str, Any]:
        """Return the content of *encrypted*, empty if it is from another target."""
        origin, target = self._signer.open(encrypted), self._target
        if origin is None or (origin.provider, origin.model) != (target.provider, target.model):
            return {}
        carried = dict(origin.carried)
        if carried.get("endpoint", target.endpoint) != target.endpoint:
            return {}
        return carried
