"""The real Claude Code with three keys; the provider caches prompts per key, like vendors."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import count

import pytest

from tests.claude.conftest import on_proxy
from tests.provider import completion, failure, tool_call

pytestmark = pytest.mark.claude

KEYS = tuple(f"sk-upstream-number-{number:04}" for number in (1, 2, 3))
TURNS = 40
CACHE_BLOCK = 512
"""The unit in which a prompt is cached, in characters."""


def common_blocks(one, other):
    """Return the number of whole blocks in the common prefix of both texts."""
    for number in count():
        start = number * CACHE_BLOCK
        block = one[start : start + CACHE_BLOCK]
        if len(block) < CACHE_BLOCK or block != other[start : start + CACHE_BLOCK]:
            return number
    raise AssertionError


class CachingModel:
    """Runs a command per turn, and keeps the last prompts of each key."""

    def __init__(self):
        self.prompts = defaultdict(list)
        self.tokens = self.cached = self.turns = 0
        self.used = []
        self.refuses_at = 0
        """The first turn in which the session's key is refused."""
        self.refused = ""

    def __call__(self, call):
        if self.turns == self.refuses_at and not self.refused:
            self.refused = call.key if self.refuses_at else ""
        if call.key == self.refused:
            return failure(429, "Rate limit reached for this key", retry_after=3000)
        self.used.append(call.key)
        usage = self.usage_of(call)
        if self.turns == TURNS:
            return completion("Done.", usage=usage)
        self.turns += 1
        command = {"command": f"echo turn {self.turns}"}
        calls = [tool_call("Bash", command, call_id=f"call_{self.turns}")]
        return completion(tool_calls=calls, usage=usage)

    def usage_of(self, call):
        prompt = json.dumps([call.json["tools"], call.json["messages"]])
        before = self.prompts[call.key]
        length = max((common_blocks(prompt, one) for one in before[-3:]), default=0)
        before.append(prompt)
        tokens, cached = len(prompt) // 4, length * CACHE_BLOCK // 4
        self.tokens += tokens
        self.cached += cached
        details = {"cached_tokens": cached}
        return {"prompt_tokens": tokens, "completion_tokens": 9, "prompt_tokens_details": details}

    @property
    def hit_rate(self):
        return self.cached / self.tokens


@pytest.fixture
def play(claude_binary, home, provider, tmp_path):
    """Play one session of Claude Code and return the model that it used."""

    async def play(model, **settings):
        keys = {"PROVIDER_BASE_URL": provider.url, "PROVIDER_API_KEY": ",".join(KEYS)}
        home.write(kimi={**keys, "BIG_MODEL": "big", "SMALL_MODEL": "small", **settings})
        claude = await on_proxy("kimi", home, claude_binary, tmp_path)
        provider.script(model)
        session = await claude.run("Run the commands", CLAUDE_CODE_GATEWAY_HINT_HEADERS="1")
        session.expect("Done.")
        done = await home.ccproxy("keys", "kimi", "--json")
        (proxy,) = json.loads(done.out)["proxies"]
        return proxy

    return play


@pytest.mark.parametrize(
    ("affinity", "keys"),
    [
        pytest.param("session", 1, id="a session stays with its key"),
        pytest.param("off", 3, id="every request rotates"),
    ],
)
async def test_the_prompt_stays_cached(play, affinity, keys):
    model = CachingModel()
    proxy = await play(model, KEY_AFFINITY=affinity)
    assert len(set(model.used)) == keys
    assert (model.hit_rate >= 0.95) is (affinity == "session")
    assert proxy["moves"] == []


async def test_a_key_that_is_rejected_in_a_session_causes_one_move(play):
    model = CachingModel()
    model.refuses_at = TURNS // 2
    proxy = await play(model)
    assert len(set(model.used)) == 2
    (move,) = proxy["moves"]
    assert move["cause"] == "rate_limit"
    assert move["cached_tokens_lost"] > 10_000
    assert sum(key["sessions"] for key in proxy["keys"]) == 1
