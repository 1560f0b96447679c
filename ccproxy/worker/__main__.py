"""
The worker process: arguments -> configuration -> logs -> serve.

    python -m ccproxy.worker --home DIR [--table FILE] --label LABEL --env-file FILE|- --port N
        [--index K --workers N]
        [--listen-fd N] [--ready-fd N] [--control PATH --nonce HEX]
        [--echo text|color|json [--greeting TEXT]]

`--env-file -` takes the settings from the process environment. Without --listen-fd the worker
binds its address itself; without --ready-fd it tells nobody when it is ready; without --control
it has no control socket. So it can be run by hand, too. With --echo it runs in somebody's
foreground: it shows its log on stderr, and TEXT when it is ready.

`python -m ccproxy.worker --fork-server …` is none yet, but forks some: see `forkserver`.

The readiness message is one JSON line: {"ready": true, "pid": …, "nonce": …}, or
{"ready": false, "error": …} before an exit with 78 (configuration) or 1.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

if __name__ == "__main__":
    # Until the event loop listens, Ctrl-C ends it without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # structlog loads rich where it finds it: 60 modules, 3 MiB and 30 ms, for consoles.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]

from ccproxy.config.fleet import Entry
from ccproxy.config.secrets import secrets_of
from ccproxy.config.settings import is_setting
from ccproxy.config.worker import WorkerConfig, load_worker
from ccproxy.errors import ConfigError
from ccproxy.logs import LogFile, crash_file, log_path
from ccproxy.redaction import Redactor
from ccproxy.worker.assembly import make_worker
from ccproxy.worker.control_socket import ControlSocket
from ccproxy.worker.demo.provider import DemoProvider
from ccproxy.worker.fork_server import OPTION, serve
from ccproxy.worker.lifecycle import Service, bind, inherit
from ccproxy.worker.log.console import STYLES, ConsoleLog, EchoingLogFile
from ccproxy.worker.log.lines import RequestLog, set_up
from ccproxy.worker.log.outfile import keep_outfile
from ccproxy.worker.state import Worker

EXIT_CONFIG = 78
EXIT_FAILED = 1
OPEN_FILES = 65536


def main(arguments: Sequence[str]) -> int:
    """Run one worker; the result is the exit code."""
    faulthandler.enable()
    options = _options(arguments)
    try:
        config = _config(options)
        _forget_settings()
        return uvloop.run(_run(options, config))
    except ConfigError as error:
        _tell(options, {"ready": False, "error": str(error)})
        return EXIT_CONFIG
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        said = f"{options.label}: {where}{error.strerror or error}"
        _tell(options, {"ready": False, "error": said, "errno": error.errno})
        return EXIT_FAILED


async def _run(options: argparse.Namespace, config: WorkerConfig) -> int:
    _set_limits()
    home = Path(options.home)
    redact = Redactor(secrets_of(config))
    path = log_path(home / "logs", options.label, options.index)
    echo = ConsoleLog(options.echo) if options.echo else None
    file = LogFile(path) if echo is None else EchoingLogFile(path, echo)
    request_log = RequestLog(file, level=config.log_level, redact=redact)
    log = set_up(file, level=config.log_level, redact=redact, request_log=request_log)
    listener = _listener(options, config)
    demo = DemoProvider()
    if config.serves_demo:
        await demo.start()
        config = config.at(demo.url)
    worker = make_worker(
        config,
        home=home,
        log=log,
        redact=redact,
        request_log=request_log,
        table=options.table,
        processes=options.workers,
    )
    await worker.upstream.open()
    service = Service(worker, listener)
    service.listen_to_signals(foreground=echo is not None)
    control = _control(options, worker, service, file)
    keeping = asyncio.create_task(keep_outfile(crash_file(path)))
    await service.start()
    _settle_memory()
    log.info("worker.started", label=config.label, port=config.port, provider=config.provider_name)
    _tell(options, {"ready": True, "pid": os.getpid(), "nonce": options.nonce})
    if echo is not None and options.greeting:
        echo.write_text(options.greeting)
    await service.run()
    keeping.cancel()
    if control is not None:
        control.close()
    await _close(worker)
    if config.serves_demo:
        await demo.stop()
    log.info("worker.stopped", label=config.label)
    if echo is not None:
        echo.close()
    return 0


def _control(
    options: argparse.Namespace, worker: Worker, service: Service, file: LogFile
) -> ControlSocket | None:
    """Open the control socket, if one was asked for."""
    if not options.control:
        return None
    path = Path(options.control)
    control = ControlSocket(path, worker, service, nonce=options.nonce, log_file=file)
    control.open()
    return control


def _listener(options: argparse.Namespace, config: WorkerConfig) -> socket.socket:
    if options.listen_fd is None:
        return bind(config.host, config.port)
    return inherit(options.listen_fd)


async def _close(worker: Worker) -> None:
    """Let go of what the worker holds; the last words to the databases are written."""
    await worker.upstream.close()
    await worker.session.close()
    if worker.keeper is not None:
        await worker.keeper.close()


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ccproxy.worker")
    parser.add_argument("--home", required=True)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--label", required=True)
    parser.add_argument("--env-file", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--index", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--listen-fd", type=int)
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--control")
    parser.add_argument("--nonce", default="")
    parser.add_argument("--echo", choices=STYLES)
    parser.add_argument("--greeting", default="")
    return parser.parse_args(arguments)


def _config(options: argparse.Namespace) -> WorkerConfig:
    from_environment = options.env_file == "-"
    file = Path() if from_environment else Path(options.home, options.env_file)
    entry = Entry(port=options.port, env_file=file, label=options.label)
    if from_environment:
        return load_worker(None, entry=entry, environ=os.environ)
    return load_worker(file, entry=entry)


def _forget_settings() -> None:
    """Keep no key where a library or a crash report would find it."""
    for name in filter(is_setting, [*os.environ]):
        del os.environ[name]


def _tell(options: argparse.Namespace, message: dict[str, object]) -> None:
    """Write the readiness message; by hand there is only stderr, and only a failure is news."""
    if options.ready_fd is None:
        if "error" in message:
            sys.stderr.write(f"{message['error']}\n")
        return
    os.write(options.ready_fd, json.dumps(message).encode() + b"\n")
    os.close(options.ready_fd)
    options.ready_fd = None


def _set_limits() -> None:
    """As many sockets as the system allows, and no core file: it would hold the keys."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _settle_memory() -> None:
    """Take what was imported out of the garbage collector's rounds, and make them rarer."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _arguments(given: Sequence[str]) -> Sequence[str] | None:
    """Return the arguments of the worker to be; None at the end of a process that only forked."""
    return serve(int(given[1])) if given[:1] == [OPTION] else given


if __name__ == "__main__":
    asked = _arguments(sys.argv[1:])
    sys.exit(0 if asked is None else main(asked))
