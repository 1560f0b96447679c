"""
A fake worker: it implements the interface to the supervisor, and answers HTTP with its pid. It uses
only the standard library, so that it starts quickly.

Its env file defines its faults:

    FAIL=text             report the text as an error, and exit with 78
    CRASH=code            exit at once
    NEVER_READY=n         run, but never report that it is ready, from the n-th process on
    HANG_AFTER=n          stop answering after n requests to the control socket
    STUBBORN=1            ignore SIGTERM and the drain
    CHILD=1               start a child in the same process group
"""

from __future__ import annotations

import argparse
import array
import contextlib
import faulthandler
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

HELD_PATH = "/held"
"""An answer that begins immediately and ends when a file appears next to the env file."""


def read_settings(path: str) -> dict[str, str]:
    lines = Path(path).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


class FakeWorker:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.settings = read_settings(options.env_file)
        self.listener = socket.socket(fileno=options.listen_fd)
        self.listener.setblocking(False)
        self.woken, self.wake = os.pipe()
        self.lock = threading.Lock()
        self.draining = False
        self.in_flight = 0
        self.asked = 0
        self.started = time.time()
        self.control = socket.socket(socket.AF_UNIX)

    def run(self) -> None:
        if reason := self.settings.get("FAIL"):
            self.report({"ready": False, "error": reason})
            sys.exit(78)
        if code := self.settings.get("CRASH"):
            sys.stderr.write("Traceback:\nValueError: the fake worker was configured to crash\n")
            sys.exit(int(code))
        signal.signal(signal.SIGTERM, self.on_term)
        if self.settings.get("CHILD"):
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        if self.options.index < int(self.settings.get("NEVER_READY", "1000")):
            self.serve()
        else:
            sys.stderr.write("still warming up\n")
            sys.stderr.flush()
        while True:  # not signal.pause, which would miss a signal that arrives just before it
            time.sleep(0.05)

    def serve(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            Path(self.options.control).unlink()
        self.control.bind(self.options.control)
        self.control.listen(16)
        threading.Thread(target=self.answer_control, daemon=True).start()
        threading.Thread(target=self.accept, daemon=True).start()
        self.report({"ready": True, "pid": os.getpid(), "nonce": self.options.nonce})

    def report(self, message: dict[str, object]) -> None:
        with contextlib.suppress(OSError):
            os.write(self.options.ready_fd, json.dumps(message).encode() + b"\n")

    def on_term(self, *_: object) -> None:
        if not self.settings.get("STUBBORN"):
            self.drain(30.0)

    # HTTP.

    def accept(self) -> None:
        while not self.draining:
            select.select([self.listener, self.woken], [], [])
            with contextlib.suppress(OSError), self.lock:
                if self.draining:
                    return
                connection, _ = self.listener.accept()  # unless another process has taken it
                connection.setblocking(True)
                self.in_flight += 1
                threading.Thread(target=self.answer_http, args=(connection,), daemon=True).start()

    def answer_http(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            request = connection.recv(65536).decode()
            if HELD_PATH in request:
                connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n.")
                released = Path(f"{self.options.env_file}.released")
                while not released.exists():
                    time.sleep(0.02)
            body = json.dumps({"pid": os.getpid(), "label": self.options.label, **self.settings})
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            connection.sendall((head + body).encode() if HELD_PATH not in request else b"end")
        with self.lock:
            self.in_flight -= 1

    # The control socket.

    def answer_control(self) -> None:
        while True:
            connection, _ = self.control.accept()
            with contextlib.suppress(OSError, ValueError), connection:
                self.asked += 1
                limit = int(self.settings.get("HANG_AFTER", "0"))
                if limit and self.asked > limit:
                    time.sleep(600)
                line = b""
                while not line.endswith(b"\n"):
                    data = connection.recv(4096)
                    if not data:  # the client was killed
                        raise ConnectionResetError
                    line += data
                self.answer(json.loads(line), connection)

    def answer(self, request: dict[str, object], connection: socket.socket) -> None:
        if request["op"] == "listener":
            fds = array.array("i", [self.listener.fileno()])
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, fds.tobytes())
            connection.sendmsg([b'{"ok": true}\n'], [rights])
            return
        if request["op"] == "drain" and not self.settings.get("STUBBORN"):
            threading.Thread(target=self.drain, args=(request["seconds"],), daemon=True).start()
        connection.sendall(json.dumps(self.state()).encode() + b"\n")

    def state(self) -> dict[str, object]:
        return {
            "pid": os.getpid(),
            "nonce": self.options.nonce,
            "label": self.options.label,
            "port": self.options.port,
            "state": "draining" if self.draining else "ready",
            "in_flight": self.in_flight,
            "keys": {"ready": int(self.settings.get("KEYS_READY", "2")), "total": 2},
            "reason": None,
            "models": {"big": "b", "middle": "m", "small": "s"},
            "base_url": "http://127.0.0.1:1/v1",
            "started": self.started,
        }

    def drain(self, seconds: float) -> None:
        with self.lock:
            self.draining = True
        self.report({"draining": True})
        os.write(self.wake, b".")
        with contextlib.suppress(OSError):
            self.listener.close()
        until = time.monotonic() + seconds
        while self.in_flight and time.monotonic() < until:
            time.sleep(0.01)
        with contextlib.suppress(OSError):
            Path(self.options.control).unlink()
        os._exit(0)


def main() -> None:
    faulthandler.enable()
    parser = argparse.ArgumentParser()
    for name in ("home", "label", "env-file", "control", "nonce", "table"):
        parser.add_argument(f"--{name}")
    for name in ("port", "listen-fd", "ready-fd", "index", "workers"):
        parser.add_argument(f"--{name}", type=int)
    FakeWorker(parser.parse_args()).run()


if __name__ == "__main__":
    main()
