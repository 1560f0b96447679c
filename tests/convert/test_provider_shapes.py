"""
Tests of answers in each provider's format, streamed and whole.

Each transcript contains the peculiarities of its provider, with their sources.
"""

from __future__ import annotations

from typing import Any

import pytest

from ccproxy.convert.chat.answer import to_message
from ccproxy.convert.chat.relay import ChatRelay
from tests.chat_answers import SIGNER, context
from tests.grammar import assemble

READ = {"type": "tool_use", "name": "Read"}


def text(words):
    return {"type": "text", "text": words}


def relayed(raw: bytes, size: int, **settings: Any) -> dict[str, Any]:
    relay = ChatRelay(context(**settings))
    out = [relay.feed(raw[at : at + size]) for at in range(0, len(raw), size)]
    return assemble(b"".join([*out, relay.close()]))


def stream(*lines: str) -> bytes:
    """Return the stream of *lines*; lines that begin with a brace are data."""
    framed = [f"data: {line}" if line.startswith("{") else line for line in lines]
    return "".join(f"{line}\n\n" for line in framed).encode()


OPENAI = stream(  # usage in a chunk without choices; obfuscation
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null}}],"usage":null'
    ',"obfuscation":"a"}',
    '{"choices":[{"index":0,"delta":{"content":"Let me look."}}],"usage":null,"obfuscation":"bc"}',
    '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function",'
    '"function":{"name":"Read","arguments":""}}]}}],"usage":null,"obfuscation":"def"}',
    '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"pa"}}]}}'
    '],"usage":null,"obfuscation":""}',
    '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"th\\":1}"}}]'
    '}}],"usage":null,"obfuscation":"g"}',
    '{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"usage":null}',
    '{"choices":[],"usage":{"prompt_tokens":40,"completion_tokens":9,"total_tokens":49,'
    '"prompt_tokens_details":{"cached_tokens":30},"completion_tokens_details":{"reasoning_tokens":'
    "0}}}",
    "data: [DONE]",
)

AZURE = stream(  # openai-python#1677: filter results without choices, choices without delta
    '{"choices":[],"prompt_filter_results":[{"prompt_index":0,"content_filter_results":{}}]}',
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}',
    '{"choices":[{"index":0,"content_filter_offsets":{"check_offset":1},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":null,"finish_reason":"stop"}]}',
    '{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}',
    "data: [DONE]",
)

DEEPSEEK = stream(  # keep-alive comments; reasoning_content next to null content; cache hits
    ": keep-alive",
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":""}}]}',
    '{"choices":[{"index":0,"delta":{"content":null,"reasoning_content":"Need "}}]}',
    '{"choices":[{"index":0,"delta":{"content":null,"reasoning_content":"it."}}]}',
    ": keep-alive",
    '{"choices":[{"index":0,"delta":{"content":"Done","reasoning_content":null}}]}',
    '{"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}],"usage":{'
    '"prompt_tokens":339,"completion_tokens":8,"prompt_cache_hit_tokens":320,'
    '"prompt_cache_miss_tokens":19}}',
    "data: [DONE]",
)

KIMI = stream(  # ids name:index, which repeat in each turn; usage inside the choice
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":{"reasoning_content":"hm"},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"functions.Read:0","type":'
    '"function","function":{"name":"Read","arguments":""}}]},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}',
    '{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls","usage":{"prompt_tokens":19,'
    '"completion_tokens":2,"total_tokens":21,"cached_tokens":10}}]}',
    "data: [DONE]",
)

GLM = stream(  # blank text before calls; the arguments as one late chunk
    '{"choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"plan"}}]}',
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":"\\n"}}]}',
    '{"choices":[{"index":0,"delta":{"role":"assistant","tool_calls":[{"id":"call_9","index":0,'
    '"type":"function","function":{"name":"Read","arguments":"{\\"path\\":1}"}}]}}]}',
    '{"choices":[{"index":0,"finish_reason":"tool_calls","delta":{"role":"assistant","content":""}}'
    '],"usage":{"prompt_tokens":5,"completion_tokens":6,"prompt_tokens_details":{"cached_tokens":2}'
    "}}",
    "data: [DONE]",
)

MINIMAX = stream(  # think tags; base_resp in every chunk; the whole message at the end
    '{"choices":[{"index":0,"delta":{"content":"<think>\\npl","role":"assistant"}}],"base_resp":'
    '{"status_code":0,"status_msg":""}}',
    '{"choices":[{"index":0,"delta":{"content":"an\\n</think>\\n\\nAns"}}],"base_resp":null}',
    '{"choices":[{"index":0,"delta":{"content":"wer"}}]}',
    '{"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":'
    '"<think>\\nplan\\n</think>\\n\\nAnswer"}}],"usage":{"total_tokens":9,"prompt_tokens":4,'
    '"completion_tokens":5},"base_resp":{"status_code":0,"status_msg":""}}',
    "data: [DONE]",
)

GEMINI = stream(  # open-webui/computer#224: whole calls, no index, finish stop; thought signatures
    '{"choices":[{"delta":{"role":"assistant","tool_calls":[{"extra_content":{"google":'
    '{"thought_signature":"U0lH"}},"function":{"arguments":"{\\"path\\":1}","name":"Read"},"id":'
    '"function-call-1","type":"function"}]},"index":0}]}',
    '{"choices":[{"delta":{"role":"assistant","tool_calls":[{"function":{"arguments":"{\\"path\\":2}'
    '","name":"Read"},"id":"","type":"function"}]},"index":0}]}',
    '{"choices":[{"delta":{"role":"assistant"},"finish_reason":"stop","index":0}],"usage":'
    '{"completion_tokens":3,"prompt_tokens":7,"total_tokens":10}}',
    "data: [DONE]",
)

QWEN = stream(  # id "" on continuations, a closing delta with empty arguments
    '{"choices":[{"delta":{"content":null,"role":"assistant","reasoning_content":"r"},"index":0}]}',
    '{"choices":[{"delta":{"content":null,"tool_calls":[{"index":0,"id":"call_a1","type":"function"'
    ',"function":{"name":"Read","arguments":""}}]},"index":0,"finish_reason":null}]}',
    '{"choices":[{"delta":{"content":null,"tool_calls":[{"index":0,"id":"","type":"function",'
    '"function":{"arguments":"{\\"path\\":"}}]},"index":0,"finish_reason":null}]}',
    '{"choices":[{"delta":{"content":null,"tool_calls":[{"index":0,"id":"","type":"function",'
    '"function":{"arguments":"1}"}}]},"index":0,"finish_reason":null}]}',
    '{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":""},"index":0,"id":"","type":'
    '"function"}]},"finish_reason":"tool_calls","index":0}]}',
    '{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}',
    "data: [DONE]",
)

OPENROUTER = stream(  # comments; reasoning twice; encrypted details next to the call
    ": OPENROUTER PROCESSING",
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"aa",'
    '"reasoning_details":[{"type":"reasoning.text","text":"aa","index":0,"format":"unknown"}]}}]}',
    '{"choices":[{"index":0,"delta":{"content":"","reasoning":"bb","reasoning_details":[{"type":'
    '"reasoning.text","text":"bb","index":0,"format":"unknown"}]}}]}',
    '{"choices":[{"index":0,"delta":{"content":"","reasoning":null,"reasoning_details":[{"type":'
    '"reasoning.encrypted","data":"gAAA","id":"call_1","index":1}],"tool_calls":[{"index":0,"id":'
    '"call_1","type":"function","function":{"name":"Read","arguments":"{\\"path\\":1}"}}]}}]}',
    '{"choices":[{"index":0,"delta":{"content":""},"finish_reason":"tool_calls",'
    '"native_finish_reason":"STOP"}]}',
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],'
    '"usage":{"prompt_tokens":6,"completion_tokens":3,"cost":0.1}}',
    "data: [DONE]",
)

GROQ = stream(  # field `reasoning`; usage in x_groq
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],'
    '"x_groq":{"id":"req_1"}}',
    '{"choices":[{"index":0,"delta":{"reasoning":"hm","channel":"analysis"}}]}',
    '{"choices":[{"index":0,"delta":{"content":"Yes"}}]}',
    '{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"x_groq":{"id":"req_1","usage":'
    '{"prompt_tokens":8,"completion_tokens":4,"total_tokens":12}}}',
    "data: [DONE]",
)

MISTRAL = stream(  # thinking as content parts; whole calls without index in the finish chunk
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}',
    '{"choices":[{"index":0,"delta":{"content":[{"type":"thinking","thinking":[{"type":"text",'
    '"text":"2+2"}]}]}}]}',
    '{"choices":[{"index":0,"delta":{"content":"4"}}]}',
    '{"choices":[{"index":0,"delta":{"content":"","tool_calls":[{"id":"gSIMJiOkT","function":'
    '{"name":"Read","arguments":"{\\"path\\":1}"}}]},"finish_reason":"tool_calls"}],"usage":'
    '{"prompt_tokens":9,"completion_tokens":5}}',
    "data: [DONE]",
)

XAI = stream(  # completion_tokens without the reasoning
    '{"choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"r"}}]}',
    '{"choices":[{"index":0,"delta":{"content":"x"}}]}',
    '{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":291,'
    '"completion_tokens":26,"total_tokens":513,"completion_tokens_details":{"reasoning_tokens":196}'
    "}}",
    "data: [DONE]",
)

OLLAMA = stream(  # field `reasoning`; whole calls, here without ids
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"so"}}]}',
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":"","tool_calls":[{"index":0,'
    '"type":"function","function":{"name":"Read","arguments":"{\\"path\\":1}"}}]}}]}',
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop"}]}',
    "data: [DONE]",
)

SGLANG = stream(  # #35542: explicit nulls and content "" in tool deltas; matched_stop
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":{"role":null,"content":"","reasoning_content":null,"tool_calls"'
    ':[{"index":0,"id":"call_x","type":"function","function":{"name":"Read","arguments":""}}]}}]}',
    '{"choices":[{"index":0,"delta":{"role":null,"content":"","reasoning_content":null,"tool_calls"'
    ':[{"index":0,"id":null,"type":null,"function":{"name":null,"arguments":"{\\"path\\":"}}]}}]}',
    '{"choices":[{"index":0,"delta":{"role":null,"content":"","reasoning_content":null,"tool_calls"'
    ':[{"index":0,"id":null,"type":null,"function":{"name":null,"arguments":"1}"}}]}}]}',
    '{"choices":[{"index":0,"delta":{"content":""},"finish_reason":"tool_calls","matched_stop":null'
    '}],"usage":null}',
    '{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}',
    "data: [DONE]",
)

COPILOT = stream(  # ericc-ch/copilot-api: text and call in two choices
    '{"choices":[{"index":0,"delta":{"content":"I will look.","role":"assistant"}},{"index":1,'
    '"delta":{"content":null,"tool_calls":[{"index":0,"id":"toolu_vrtx_1","type":"function",'
    '"function":{"name":"Read","arguments":"{\\"path\\":1}"}}]}}]}',
    '{"choices":[{"index":0,"finish_reason":"tool_calls","delta":{"content":null}}]}',
    '{"choices":[{"index":1,"finish_reason":"tool_calls","delta":{"content":null}}],"usage":'
    '{"prompt_tokens":4,"completion_tokens":2}}',
    "data: [DONE]",
)

VLLM = stream(  # continuous_usage_stats: cumulative numbers in every chunk; `reasoning` since 0.16
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,'
    '"finish_reason":null,"token_ids":null}],"usage":{"prompt_tokens":12,"completion_tokens":0}}',
    '{"choices":[{"index":0,"delta":{"reasoning":"so","reasoning_content":"so"},"finish_reason":'
    'null}],"usage":{"prompt_tokens":12,"completion_tokens":1}}',
    '{"choices":[{"index":0,"delta":{"content":"Yes"},"finish_reason":null}],"usage":'
    '{"prompt_tokens":12,"completion_tokens":2}}',
    '{"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop","stop_reason":151643}],'
    '"usage":{"prompt_tokens":12,"completion_tokens":3}}',
    '{"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3,"prompt_tokens_details":null}'
    "}",
    "data: [DONE]",
)

LITELLM = stream(  # two finish chunks; provider_specific_fields; no [DONE]
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":"Yes","provider_specific_fields":'
    'null,"function_call":null,"tool_calls":null,"audio":null},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":{"content":null},"finish_reason":"stop"}]}',
    '{"choices":[{"index":0,"delta":{"content":null},"finish_reason":"stop"}],"usage":'
    '{"prompt_tokens":21,"completion_tokens":2,"cache_creation_input_tokens":0,'
    '"cache_read_input_tokens":0,"prompt_tokens_details":{"cached_tokens":20}}}',
)

INTERLEAVED = stream(  # gateways: alternating pieces of parallel calls, distinguished by the index
    '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function",'
    '"function":{"name":"Read","arguments":""}},{"index":1,"id":"call_2","type":"function",'
    '"function":{"name":"Read","arguments":""}}]}}]}',
    '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{\\"pa"}},'
    '{"index":0,"function":{"arguments":"{\\"path"}}]}}]}',
    '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\\":1}"}}]}}'
    "]}",
    '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"th\\":2}"}}]'
    "}}]}",
    '{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":5,'
    '"completion_tokens":4}}',
    "data: [DONE]",
)

LLAMA_CPP = stream(  # arguments letter by letter; timings; usage next to an empty list of choices
    '{"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}]}',
    '{"choices":[{"finish_reason":null,"index":0,"delta":{"tool_calls":[{"index":0,"id":"x9",'
    '"type":"function","function":{"name":"Read","arguments":"{"}}]}}]}',
    '{"choices":[{"finish_reason":null,"index":0,"delta":{"tool_calls":[{"index":0,"function":'
    '{"arguments":"\\"path\\":"}}]}}]}',
    '{"choices":[{"finish_reason":null,"index":0,"delta":{"tool_calls":[{"index":0,"function":'
    '{"arguments":"1}"}}]}}]}',
    '{"choices":[{"finish_reason":"tool_calls","index":0,"delta":{}}]}',
    '{"choices":[],"usage":{"completion_tokens":8,"prompt_tokens":30,"total_tokens":38},"timings":'
    '{"prompt_n":30,"predicted_ms":9.5}}',
    "data: [DONE]",
)

NIM = stream(  # a reasoning model without a parser: the tag opens in one chunk, closes in another
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":{"content":"<th"},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":{"content":"ink>2 < 3"},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":{"content":"</think"},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":{"content":">\\n\\nLess"},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop","stop_reason":null}]}',
    '{"choices":[],"usage":{"prompt_tokens":6,"total_tokens":15,"completion_tokens":9}}',
    "data: [DONE]",
)

DOUBAO = stream(  # reasoning_content next to "" content; service_tier; cached and reasoning details
    '{"choices":[{"delta":{"content":"","reasoning_content":"想","role":"assistant"},"index":0}],'
    '"service_tier":"default"}',
    '{"choices":[{"delta":{"content":"好","role":"assistant"},"index":0}],"service_tier":"default"}',
    '{"choices":[{"delta":{"content":"","role":"assistant"},"finish_reason":"stop","index":0}]}',
    '{"choices":[],"usage":{"completion_tokens":7,"prompt_tokens":90,"total_tokens":97,'
    '"prompt_tokens_details":{"cached_tokens":64},"completion_tokens_details":{"reasoning_tokens":5'
    "}}}",
    "data: [DONE]",
)

LM_STUDIO = stream(  # names and ids again in every piece; the model's prefill as blank text
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":"\\n\\n"},"logprobs":null}]}',
    '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"365174485","type":"function",'
    '"function":{"name":"Read","arguments":""}}]}}]}',
    '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"365174485","type":"function",'
    '"function":{"name":"Read","arguments":"{\\"path\\":1}"}}]}}]}',
    '{"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls"}],"usage":'
    '{"prompt_tokens":14,"completion_tokens":6}}',
    "data: [DONE]",
)

ONE = {"path": 1}
SHAPES = [
    pytest.param(
        OPENAI,
        [text("Let me look."), READ | {"id": "call_1", "input": ONE}],
        (10, 30, 9),
        id="openai",
    ),
    pytest.param(AZURE, [text("Hi")], (3, 0, 1), id="azure"),
    pytest.param(DEEPSEEK, ["Need it.", text("Done")], (19, 320, 8), id="deepseek"),
    pytest.param(KIMI, ["hm", READ | {"id": None, "input": {}}], (9, 10, 2), id="kimi"),
    pytest.param(GLM, ["plan", READ | {"id": "call_9", "input": ONE}], (3, 2, 6), id="glm"),
    pytest.param(MINIMAX, ["\nplan\n", text("Answer")], (4, 0, 5), id="minimax"),
    pytest.param(
        GEMINI,
        [
            "",
            READ | {"id": "function-call-1", "input": ONE},
            READ | {"id": None, "input": {"path": 2}},
        ],
        (7, 0, 3),
        id="gemini",
    ),
    pytest.param(QWEN, ["r", READ | {"id": "call_a1", "input": ONE}], (5, 0, 2), id="qwen"),
    pytest.param(
        OPENROUTER, ["aabb", READ | {"id": "call_1", "input": ONE}], (6, 0, 3), id="openrouter"
    ),
    pytest.param(GROQ, ["hm", text("Yes")], (8, 0, 4), id="groq"),
    pytest.param(
        MISTRAL,
        ["2+2", text("4"), READ | {"id": "gSIMJiOkT", "input": ONE}],
        (9, 0, 5),
        id="mistral",
    ),
    pytest.param(XAI, ["r", text("x")], (291, 0, 222), id="xai"),
    pytest.param(OLLAMA, ["so", READ | {"id": None, "input": ONE}], (11, 0, 3), id="ollama"),
    pytest.param(SGLANG, [READ | {"id": "call_x", "input": ONE}], (5, 0, 2), id="sglang"),
    pytest.param(
        COPILOT,
        [text("I will look."), READ | {"id": "toolu_vrtx_1", "input": ONE}],
        (4, 0, 2),
        id="copilot",
    ),
    pytest.param(VLLM, ["so", text("Yes")], (12, 0, 3), id="vllm"),
    pytest.param(LITELLM, [text("Yes")], (1, 20, 2), id="litellm"),
    pytest.param(
        INTERLEAVED,
        [READ | {"id": "call_1", "input": ONE}, READ | {"id": "call_2", "input": {"path": 2}}],
        (5, 0, 4),
        id="interleaved calls",
    ),
    pytest.param(LLAMA_CPP, [READ | {"id": "x9", "input": ONE}], (30, 0, 8), id="llama.cpp"),
    pytest.param(NIM, ["2 < 3", text("Less")], (6, 0, 9), id="nim"),
    pytest.param(DOUBAO, ["想", text("好")], (26, 64, 7), id="doubao"),
    pytest.param(LM_STUDIO, [READ | {"id": "365174485", "input": ONE}], (14, 0, 6), id="lmstudio"),
]  # fmt: skip


def simplified(message):
    """Return *message* with only the text of thinking, and None for generated ids."""
    blocks = []
    for block in message["content"]:
        if block["type"] == "thinking":
            assert SIGNER.open(block["signature"]) is not None
            blocks.append(block["thinking"])
        elif (
            block["type"] == "tool_use"
            and block["id"].startswith("toolu_")
            and (len(block["id"]) == len("toolu_") + 24)
        ):
            blocks.append(block | {"id": None})
        else:
            blocks.append(block)
    return blocks


@pytest.mark.parametrize("size", [1, 100, 100_000])
@pytest.mark.parametrize(("raw", "content", "usage"), SHAPES)
def test_shape(raw, content, usage, size):
    message = relayed(raw, size, quirks={"usage_without_reasoning": raw is XAI})
    assert simplified(message) == content
    result = message["usage"]
    assert usage == (
        result["input_tokens"],
        result["cache_read_input_tokens"],
        result["output_tokens"],
    )
    has_calls = any(block["type"] == "tool_use" for block in message["content"])
    assert message["stop_reason"] == ("tool_use" if has_calls else "end_turn")


@pytest.mark.parametrize(("raw", "content", "usage"), SHAPES)
def test_a_client_that_does_not_stream_gets_the_same(raw, content, usage):
    assert simplified(to_message(raw, context())) == content


def test_gemini_and_openrouter_get_their_own_data_back():
    gemini = relayed(GEMINI, 1000)["content"][0]
    openrouter = relayed(OPENROUTER, 1000)["content"][0]
    assert SIGNER.open(gemini["signature"]).carried == {
        "thought_signatures": {"function-call-1": "U0lH"}
    }
    assert SIGNER.open(openrouter["signature"]).carried == {
        "reasoning_details": [
            {"type": "reasoning.text", "text": 4, "index": 0, "format": "unknown"},
            {"type": "reasoning.encrypted", "data": "gAAA", "id": "call_1", "index": 1},
        ]
    }
