"""State shared by all conversions of one worker: limits, caches, refusals and calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ccproxy.convert.chat.request import to_chat
from ccproxy.convert.common.conversion import ConvertedRequest
from ccproxy.convert.common.refused_features import (
    CONVERTED_FEATURES,
    LearnedRefusals,
    adapted,
    refused_features,
)
from ccproxy.convert.common.request_cache import RequestCache
from ccproxy.convert.common.thinking import Signer
from ccproxy.convert.common.token_estimate import Calibration, estimate
from ccproxy.convert.common.tool_filter import without_tools
from ccproxy.convert.responses.learning import Refusals, other_api
from ccproxy.convert.responses.request import to_responses
from ccproxy.errors import Problem
from ccproxy.protocol.claude_code import COMPACTION_PROMPT
from ccproxy.protocol.messages import MessagesRequest, ScannedBody, read_request
from ccproxy.providers.quirks import Api, Target

CALIBRATED_MARGIN = 1.25
"""A request whose calibrated estimate exceeds this multiple of the window is refused."""
UNCALIBRATED_MARGIN = 1.5
"""The same multiple for an estimate that no answer has confirmed."""

CONFIRMED_REFUSALS = 5
"""Of the requests that seem too long, one in this many is sent to the provider."""

_INPUT_FIELDS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class TargetOf(Protocol):
    """Returns the properties of a model, in its own dialect or another."""

    def __call__(self, model: str, api: Api | None = None, /) -> Target:
        """Return the properties of *model*; *api* overrides its dialect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionContext:
    """The state and limits that the exchanges of one worker share."""

    pick_model: Callable[[str], str]
    """Returns the model that serves a requested model name."""
    target: TargetOf
    """Returns the properties of a model that conversion needs."""
    may_change_api: bool = False
    """True: if a model refuses its dialect, the other one is tried."""
    learned: LearnedRefusals = field(default_factory=LearnedRefusals)
    signer: Signer
    calibration: Calibration
    cache: RequestCache = field(default_factory=RequestCache)
    most_tokens: int | None = None
    """The user's upper bound for max_tokens."""
    least_tokens: int | None = None
    refused: dict[str, int] = field(default_factory=dict)
    """Number of requests that were too long, by model."""
    tool_filter: tuple[str, ...] = ()
    """Patterns of tools that are removed from every request."""

    def target_of(self, model: str) -> Target:
        """Return the properties of *model* in its current dialect, adapted to its refusals."""
        api = self.learned.api(model)
        target = self.target(model) if api is None else self.target(model, api)
        return adapted(target, self.learned)

    @property
    def refusals(self) -> Refusals:
        """The refusals of the Responses API."""
        return Refusals(self.learned)

    def without_tools(self, body: bytes) -> tuple[bytes, tuple[str, ...]]:
        """Return *body* without the filtered tools, and the paths of the removed ones."""
        return without_tools(body, self.tool_filter)

    def clamp(self, max_tokens: int | None) -> int | None:
        """Return *max_tokens* within the user's bounds; None and 0 (a warm-up) are unchanged."""
        if not max_tokens:
            return max_tokens
        if self.least_tokens is not None:
            max_tokens = max(max_tokens, self.least_tokens)
        return max_tokens if self.most_tokens is None else min(max_tokens, self.most_tokens)

    def count(self, body: bytes, *, model: str | None = None) -> int:
        """
        Count the tokens of a count_tokens *body*, for *model* if it differs from the body's.

        Raises:
            Problem: If the body is not a request.
        """
        scanned = self.cache.scans.scan(self.without_tools(body)[0])
        request = read_request(scanned, counting=True)
        model = model or self.pick_model(request.model)
        target = self.target_of(model)
        try:
            converted = self.convert(request, target)
        except Problem:  # a request that is only counted is not refused
            return self.calibration.apply(model, estimate(request, scanned))
        estimated = self.estimate(request, scanned, target, converted)
        return self.calibration.apply(model, estimated)

    def convert(self, request: MessagesRequest, target: Target) -> ConvertedRequest:
        """
        Convert *request* to the dialect of *target*.

        Raises:
            Problem: invalid_request_error if the Messages API would also refuse the request.
        """
        cache = self.cache.conversations
        if target.api == "responses":
            return to_responses(
                request, target, signer=self.signer, cache=cache, refusals=self.refusals
            )
        return to_chat(request, target, signer=self.signer, cache=cache)

    def estimate(
        self,
        request: MessagesRequest,
        scanned: ScannedBody,
        target: Target,
        converted: ConvertedRequest,
    ) -> int:
        """Return an uncalibrated estimate of the *converted* request's input tokens."""
        return estimate(
            request,
            scanned,
            tools=converted.tools,
            unsent=converted.unsent,
            sees_images=target.quirks.images,
            vocabulary=target.quirks.vocabulary,
        )

    def check_window(self, request: MessagesRequest, model: str, *, estimated: int) -> None:
        """
        Refuse a request that is clearly too long for *model*.

        The error message makes Claude Code compact the conversation.

        Raises:
            Problem: "prompt is too long: N tokens > M maximum".
        """
        window = self.target(model).window
        # A calibrated figure is at most 2.5 times the estimate, so most requests return here.
        if window is None or estimated * 2.5 < window:
            return
        # The factor was learned from all sessions of the model and might not fit this one, so the
        # estimate itself must be over the limit as well.
        tokens = min(self.calibration.apply(model, estimated), estimated)
        margin = CALIBRATED_MARGIN if self.calibration.knows(model) else UNCALIBRATED_MARGIN
        if tokens <= window * margin or _is_compaction(request):
            return
        # Refusals cannot confirm the estimate, so some of these requests are sent.
        self.refused[model] = refused = self.refused.get(model, 0) + 1
        if refused % CONFIRMED_REFUSALS:
            text = f"prompt is too long: {tokens} tokens > {window} maximum"
            raise Problem("invalid_request_error", text)

    def learn_from(self, problem: Problem, body: bytes, model: str) -> bool:
        """Store the features of *body* that *problem* refuses; return False if none is new."""
        target = self.target_of(model)
        if self.may_change_api and (other := other_api(problem, target.api)):
            return self.learned.set_api(model, other)
        features = refused_features(problem.status, problem.refusal, body, target.quirks)
        if target.api == "responses":
            # The Responses API has its own field paths; other features are the same for all.
            is_new = self.refusals.learn(problem, body, model) or self.learned.add(
                target.api, model, features & CONVERTED_FEATURES
            )
            self.cache.conversations.clear()
            return is_new
        return self.learned.add(target.api, model, features)

    def learn(self, model: str, estimated: int, usage: Mapping[str, Any]) -> None:
        """Calibrate the estimate with the input tokens that the provider reports."""
        reported = sum(usage.get(name) or 0 for name in _INPUT_FIELDS)
        self.calibration.learn(model, estimated=estimated, reported=reported)


def _is_compaction(request: MessagesRequest) -> bool:
    """
    Return True if the last user message asks for compaction; a system message may follow it.

    Such a request is never refused.
    """
    users = (message for message in reversed(request.messages) if message.role == "user")
    last = next(users, None)
    return last is not None and COMPACTION_PROMPT in bytes(last.content)
