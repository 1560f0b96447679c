"""The state and the result of one request's conversion."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from operator import attrgetter

import msgspec

from ccproxy.convert.common.thinking import Signer
from ccproxy.convert.common.tool_names import tool_name
from ccproxy.protocol.literals import ABSENT, is_present
from ccproxy.protocol.messages import (
    ANTHROPIC_ONLY,
    NO_CHARACTERS,
    CharacterCounts,
    MessagesRequest,
)
from ccproxy.providers.quirks import Quirks, Target

_SESSION = re.compile(r'"session_id"\s*:\s*"([^"]+)"|_session_([\w-]+)')
_anthropic_only = attrgetter(*ANTHROPIC_ONLY)
_ALL_ABSENT = (ABSENT,) * len(ANTHROPIC_ONLY)


class Conversion(msgspec.Struct, kw_only=True):
    """The target of one conversion, and the data that its steps record."""

    target: Target
    signer: Signer
    thinks: bool = True
    """False: the client disabled thinking."""
    tool_names: dict[str, str] = {}
    """The sent name -> the client's name, for renamed tools."""
    dropped: dict[str, None] = {}
    """Paths of the parts that are left out; the dict serves as an ordered set."""

    @property
    def quirks(self) -> Quirks:
        """The quirks of the target."""
        return self.target.quirks

    def drop(self, path: str) -> None:
        """Record that *path* is not sent to the provider."""
        self.dropped[path] = None

    def sent_name(self, name: str) -> str:
        """Return the name under which the tool *name* is sent."""
        new_name = tool_name(name, self.target.quirks.tool_name_length)
        if new_name != name:
            self.tool_names[new_name] = name
        return new_name


class ConvertedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for the provider, and the data that the conversion of its answer needs."""

    body: bytes
    """The whole JSON body."""
    headers: Mapping[str, str] = {}
    """Headers that depend on the content of the request."""
    dropped: tuple[str, ...] = ()
    """Paths of the parts that are left out, for the log."""
    tool_names: Mapping[str, str] = {}
    """The sent name -> the client's name, for renamed tools."""
    stop_sequences: tuple[str, ...] = ()
    """All stop sequences of the client; the answer must end before any of them."""
    stream: bool = False
    """True: the provider streams, even if the client did not request a stream."""
    hide_thinking: bool = False
    """True: reasoning in the answer is not sent to the client."""
    known_ids: frozenset[str] = frozenset()
    """Tool call IDs in the conversation; a new call must not repeat one."""
    tools: int = 0
    """Number of tools sent."""
    unsent: CharacterCounts = NO_CHARACTERS
    """Counts of the characters that are not sent: signatures, and thinking that is left out."""
    searches: bool = False
    """True: the client's tools include the API's web search."""
    finds_tools: bool = False
    """True: the client's tools include the API's tool search."""
    own_search: bool = False
    """True: the provider runs the web search itself."""


def session_key(user_id: str) -> str:
    """
    Return a key for the prompt cache of the session in *user_id*: 32 characters, no personal data.

    Claude Code sends JSON with a `session_id`; older versions send `user_…_session_…`.
    """
    session = _SESSION.search(user_id)
    name = (session[1] or session[2]) if session else user_id
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def record_unsupported(request: MessagesRequest, conversion: Conversion) -> None:
    """Record the fields of *request* that have no equivalent in other APIs."""
    values = _anthropic_only(request)
    if values != _ALL_ABSENT:
        for name, value in zip(ANTHROPIC_ONLY, values, strict=True):
            if is_present(value):
                conversion.drop(name)
    if (request.thinking or request.output_config) and conversion.quirks.reasoning == "none":
        conversion.drop("thinking")
