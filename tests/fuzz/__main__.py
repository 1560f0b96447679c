"""
Coverage-guided fuzzing, on demand; CI runs tests/security/test_fuzz.py.

    pip install atheris
    python -m tests.fuzz sse -max_total_time=3600        # or table, env, problem, request

Arguments after the target's name go to libFuzzer. The input of a crash is saved in the current
folder.
"""

from __future__ import annotations

import sys

from tests.fuzz.targets import TARGETS


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz {'|'.join(TARGETS)} [libFuzzer's options]")
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed\n  fix: pip install atheris")
    target = TARGETS[sys.argv.pop(1)]
    atheris.instrument_all()
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
