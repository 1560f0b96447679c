"""
The worker process: parses its arguments, loads the configuration, opens the logs and serves.

    python -m ccproxy.worker --home DIR [--table FILE] --label LABEL --env-file FILE|- --port N
        [--index K --workers N]
        [--listen-fd N] [--ready-fd N] [--control PATH --nonce HEX]
        [--echo text|color|json [--greeting TEXT]]

`--env-file -` takes the settings from the process environment. A worker can be run by hand: without
--listen-fd it binds its address itself, without --ready-fd it reports errors on stderr, and without
--control it has no control socket. With --echo it runs in the foreground: its log is also written
to stderr, and TEXT is shown once it is ready.

`python -m ccproxy.worker --fork-server …` forks workers: see `fork_server`.

On the readiness pipe it writes a `Readiness` (`ccproxy/ipc/control_messages.py`) when it is ready
or cannot start, and another one when it starts draining. It exits with 78 if the configuration is
wrong, and with 1 if it cannot start for another reason.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

if __name__ == "__main__":
    # Until the event loop handles signals, Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # If rich is installed, structlog imports it for console output: 60 modules, 3 MiB and 30 ms.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]

from ccproxy.config.catalogue.catalogue_file import release_catalogue
from ccproxy.config.fleet import Entry
from ccproxy.config.secrets import secrets_of
from ccproxy.config.settings import is_setting
from ccproxy.config.worker_config import WorkerConfig, load_worker
from ccproxy.errors import ConfigError
from ccproxy.ipc.control_messages import Readiness, encode
from ccproxy.log_rotation import LogFile, crash_file, log_path
from ccproxy.redaction import Redactor
from ccproxy.worker.control_socket import ControlSocket
from ccproxy.worker.fork_server import OPTION, serve
from ccproxy.worker.lifecycle import Lifecycle, bind, inherit
from ccproxy.worker.log.console import STYLES, ConsoleLog, EchoingLogFile
from ccproxy.worker.log.lines import RequestLog, set_up
from ccproxy.worker.log.output_file import keep_output_file
from ccproxy.worker.worker import Worker, make_worker

if TYPE_CHECKING:
    from ccproxy.worker.demo.provider import DemoProvider
    from ccproxy.worker.metrics.metrics_server import MetricsServer
    from ccproxy.worker.traces.request_tracer import RequestTracer

EXIT_CONFIG = 78
EXIT_FAILED = 1
MAX_OPEN_FILES = 65536


def main(arguments: Sequence[str]) -> int:
    """Run one worker and return the exit code."""
    faulthandler.enable()
    options = _options(arguments)
    try:
        config = _config(options)
        _clear_settings()
        return uvloop.run(_run(options, config))
    except ConfigError as error:
        _report(options, Readiness(error=str(error)))
        return EXIT_CONFIG
    except OSError as error:
        file = f"{error.filename}: " if error.filename else ""
        text = f"{options.label}: {file}{error.strerror or error}"
        _report(options, Readiness(error=text, errno=error.errno))
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
    demo = await _start_demo() if config.serves_demo else None
    if demo is not None:
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
    await worker.open()
    metrics = await _metrics(worker, config)
    tracer = _tracer(worker, config)
    lifecycle = Lifecycle(worker, listener, on_drain=lambda: _report_drain(options))
    lifecycle.handle_signals(foreground=echo is not None)
    crash_output = asyncio.create_task(keep_output_file(crash_file(path)))
    await lifecycle.start()
    control = _control(options, worker, lifecycle, file)
    _settle_memory()
    log.info("worker.started", label=config.label, port=config.port, provider=config.provider_name)
    _report(options, Readiness(ready=True, pid=os.getpid(), nonce=options.nonce))
    if echo is not None and options.greeting:
        echo.write_text(options.greeting)
    await lifecycle.run()
    crash_output.cancel()
    if control is not None:
        control.close()
    if metrics is not None:
        await metrics.close()
    if tracer is not None:
        await tracer.close()
    await worker.close()
    if demo is not None:
        await demo.stop()
    log.info("worker.stopped", label=config.label)
    if echo is not None:
        echo.close()
    return 0


def _tracer(worker: Worker, config: WorkerConfig) -> RequestTracer | None:
    """Send traces if configured; the SDK starts threads, so this must run after the fork."""
    if config.services.traces is None:
        return None
    from ccproxy.worker.traces.request_tracer import RequestTracer

    tracer = RequestTracer(config, config.services.traces, log=worker.logs.events)
    worker.activity.on_finish.append(tracer.note)
    return tracer


async def _start_demo() -> DemoProvider:
    from ccproxy.worker.demo.provider import DemoProvider  # rarely needed

    demo = DemoProvider()
    await demo.start()
    return demo


async def _metrics(worker: Worker, config: WorkerConfig) -> MetricsServer | None:
    """Serve /metrics if configured; an unavailable address does not stop the worker."""
    if config.services.metrics is None:
        return None
    from ccproxy.worker.metrics.metrics_server import MetricsServer

    server = MetricsServer(worker, config.services.metrics)
    try:
        await server.start()
    except OSError as error:
        worker.logs.events.warning("metrics.unavailable", reason=str(error))
        await server.close()
        return None
    return server


def _control(
    options: argparse.Namespace, worker: Worker, lifecycle: Lifecycle, file: LogFile
) -> ControlSocket | None:
    """Open the control socket if the options name one."""
    if not options.control:
        return None
    path = Path(options.control)
    control = ControlSocket(path, worker, lifecycle, nonce=options.nonce, log_file=file)
    control.open()
    return control


def _listener(options: argparse.Namespace, config: WorkerConfig) -> socket.socket:
    if options.listen_fd is None:
        return bind(config.host, config.port)
    return inherit(options.listen_fd)


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


def _clear_settings() -> None:
    """Remove keys from the environment, which libraries and crash reports can read."""
    for name in filter(is_setting, [*os.environ]):
        del os.environ[name]


def _report(options: argparse.Namespace, readiness: Readiness) -> None:
    """Write *readiness* to the readiness pipe; without a pipe, write its error to stderr."""
    if options.ready_fd is None:
        if readiness.error:
            sys.stderr.write(f"{readiness.error}\n")
        return
    os.write(options.ready_fd, encode(readiness))
    if readiness.ready:
        return  # `_report_drain` uses the pipe again
    os.close(options.ready_fd)
    options.ready_fd = None


def _report_drain(options: argparse.Namespace) -> None:
    """Report that this worker accepts no more connections, so that a successor is started."""
    if options.ready_fd is None:
        return
    with suppress(OSError):  # the supervisor that started this worker may have ended
        os.write(options.ready_fd, encode(Readiness(draining=True)))
    os.close(options.ready_fd)
    options.ready_fd = None


def _set_limits() -> None:
    """Raise the limit on open files, and disable core files, which would contain the keys."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _settle_memory() -> None:
    """Free startup data, freeze imported objects, and collect garbage less often."""
    release_catalogue()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


if __name__ == "__main__":
    worker_arguments: Sequence[str] | None = sys.argv[1:]
    if sys.argv[1:2] == [OPTION]:
        worker_arguments = serve(int(sys.argv[2]))  # None when the fork server ends
    sys.exit(0 if worker_arguments is None else main(worker_arguments))
