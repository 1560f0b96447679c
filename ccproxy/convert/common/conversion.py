"""What holds for one request while it is converted, and what is told about it afterwards."""

from __future__ import annotations

import msgspec

from ccproxy.convert.common.names import tool_name
from ccproxy.convert.common.thinking import Signer
from ccproxy.providers.quirks import Quirks, Target


class Conversion(msgspec.Struct, kw_only=True):
    """Who will answer, and the notes that the parts of a conversion leave."""

    target: Target
    signer: Signer
    thinks: bool = True
    """False: the client switched thinking off."""
    tool_names: dict[str, str] = {}
    """Sent name -> the client's, of the tools whose names had to change."""
    dropped: dict[str, None] = {}
    """What was left out, by kind and in order (a dict because it is an ordered set)."""

    @property
    def quirks(self) -> Quirks:
        """What is special about who will answer."""
        return self.target.quirks

    def drop(self, what: str) -> None:
        """Note that *what* does not reach the provider."""
        self.dropped[what] = None

    def sent_name(self, name: str) -> str:
        """Return the name under which the provider knows the tool."""
        sent = tool_name(name, self.target.quirks.tool_name_length)
        if sent != name:
            self.tool_names[sent] = name
        return sent
