"""
The guarded workloads: convert one Claude Code request, relay one chunk, choose one key.

    python -m tests.guard.work NAME TIMES

runs the workload NAME that many times after a warm-up, so that callgrind can count instructions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from bench import payloads
from ccproxy.convert.common.thinking import Signer
from ccproxy.convert.common.token_estimate import Calibration
from ccproxy.convert.context import ConversionContext
from ccproxy.convert.exchange import Exchange
from ccproxy.keys.pool import KeyPool
from ccproxy.keys.session_identity import find_session
from ccproxy.keys.verdict import WORKS
from ccproxy.providers.quirks import Target
from ccproxy.routing.tiers import ModelMap

_CHUNK = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"gpt-4o","choices":[{"index":0,"delta":%b,"finish_reason":null}]}\n\n'
)
_WHOLE = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"gpt-4o",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"Hello there."},'
    b'"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":31,"completion_tokens":7,"total_tokens":38}}'
)
_CALL = b'{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":%b}]}'

Work = Callable[[], object]


def make() -> dict[str, Work]:
    """Return the workloads by name, each after a warm-up."""
    target = Target(provider="bench", model="gpt-4o")
    rules = ConversionContext(
        pick_model=ModelMap(big="gpt-4o", middle="gpt-4o", small="gpt-4o").pick,
        target=lambda *_: target,
        signer=Signer(b"a key for tests"),
        calibration=Calibration(),
    )

    def begin(name: str, *, stream: bool) -> Exchange:
        body = payloads.request(name, stream=stream)
        return Exchange(body, rules=rules, message_id="msg_1")

    def relaying(first: bytes, delta: bytes) -> Work:
        exchange = begin("small", stream=True)
        exchange.feed(_CHUNK % first)
        chunk = _CHUNK % delta
        return lambda: exchange.feed(chunk)

    pool = KeyPool(
        [f"sk-bench-{number:04}" for number in range(1, 6)],
        provider="bench",
        clock=lambda: 0.0,
        wall=lambda: 0.0,
        jitter=lambda: 0.0,
    )

    def use_key(headers: Mapping[str, str]) -> None:
        session = find_session(headers, lambda: None, affinity="session", size=148_000)
        lease = pool.take("gpt-4o", session=session)
        pool.settle(lease, WORKS)
        pool.release(lease)

    call = _CALL % b'{"name":"Read","arguments":"{\\"path\\": \\""}'
    piece = b'{"tool_calls":[{"index":0,"function":{"arguments":"src/"}}]}'
    works: dict[str, Work] = {
        "small request": lambda: begin("small", stream=False).whole(_WHOLE),
        "turn": lambda: begin("turn", stream=True),
        "text chunk": relaying(b'{"role":"assistant","content":""}', b'{"content":" word"}'),
        "argument chunk": relaying(call, piece),
        "key": lambda: use_key({}),
        "key of a session": lambda: use_key({"x-claude-code-session-id": "3f2a91bc-8a55"}),
        "reasoning chunk": relaying(b'{"content":""}', b'{"reasoning_content":"Hm, "}'),
    }
    for work in works.values():
        for _ in range(5):
            work()
    return works


if __name__ == "__main__":
    wanted = make()[sys.argv[1]]
    for _ in range(int(sys.argv[2])):
        wanted()
