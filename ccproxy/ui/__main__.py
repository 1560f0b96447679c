"""
The process of `ccproxy ui`: listens on loopback, prints a link, and runs until it is interrupted.

The link contains a one-time code. The browser opens a private file that redirects to it, because
other users can read the arguments of processes.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import os
import signal
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from aiohttp import web

from ccproxy.cli.exit_codes import exit_code_of
from ccproxy.cli.render.error_text import error_text
from ccproxy.cli.render.terminal import print_error, show
from ccproxy.cli.single_proxy import running_single_proxies
from ccproxy.cli.top.fleet_view import FleetView
from ccproxy.config.fleet import Fleet, read_fleet
from ccproxy.errors import CcproxyError, NotRunning, PortInUse
from ccproxy.files import write_atomically
from ccproxy.ui.fleet_feed import FleetFeed
from ccproxy.ui.sign_in import CODE_SECONDS, SignIn
from ccproxy.ui.web_app import WebApp

HOST = "127.0.0.1"


def main() -> None:
    """Serve the page of one fleet."""
    parser = argparse.ArgumentParser(prog="ccproxy ui")
    parser.add_argument(
        "--config", type=Path, help="if omitted, serve the proxies that run without a table"
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--open", action="store_true")
    options = parser.parse_args()
    os.umask(0o077)
    try:
        asyncio.run(_serve(partial(_read, options.config), port=options.port, opens=options.open))
    except CcproxyError as error:
        print_error(error_text(error))
        sys.exit(exit_code_of(error))


def _read(table: Path | None) -> Fleet:
    """Read the *table*, which the user may have changed, or the proxies that run without one."""
    if table is not None:
        return read_fleet(table)[0]
    fleet = running_single_proxies(os.environ)
    if fleet is None:
        raise NotRunning("no proxy is running\n  fix: ccproxy up --port 8081")
    return fleet


async def _serve(read: Callable[[], Fleet], *, port: int, opens: bool) -> None:
    fleet = read()
    view = FleetView(fleet)
    sign_in = SignIn()
    with closing(view):
        await asyncio.to_thread(view.start)
        feed = FleetFeed(view)
        app = WebApp(read, feed, sign_in, port=lambda: port)
        runner = web.AppRunner(app.application(), access_log=None, shutdown_timeout=2.0)
        await runner.setup()
        try:
            await _listen(runner, port)
            port = runner.addresses[0][1]
            feeding = asyncio.create_task(feed.run())
            link = _Link(fleet, sign_in, lambda: f"http://{HOST}:{port}/")
            app.on_sign_in = link.remove_file
            link.show(opens=opens)
            await _interrupted(link)
            feeding.cancel()
        finally:
            feed.close()
            await runner.cleanup()


async def _listen(runner: web.AppRunner, port: int) -> None:
    try:
        await web.TCPSite(runner, HOST, port).start()
    except OSError as error:
        text = f"cannot listen on {HOST}:{port}: {error.strerror}"
        raise PortInUse(
            f"{text}\n  fix: choose another port, or omit --port to use a free one: ccproxy ui"
        ) from error


class _Link:
    """Prints links; each can be used once."""

    def __init__(self, fleet: Fleet, sign_in: SignIn, url: Callable[[], str]) -> None:
        self._file = fleet.state / f"ui-{os.getpid()}.html"
        self._sign_in = sign_in
        self._url = url

    def show(self, *, opens: bool = False) -> None:
        """Print a new link, and open it in the user's browser if requested."""
        link = f"{self._url()}#{self._sign_in.new_code()}"
        minutes = int(CODE_SECONDS // 60)
        show(f"{link}\n  works once, within {minutes} minutes")
        if sys.stdin.isatty():
            show("  press Enter for a new link, Ctrl-C to stop")
        if opens:
            self._open(link)

    def _open(self, link: str) -> None:
        page = f'<meta http-equiv="refresh" content="0;url={html.escape(link)}">'
        try:
            write_atomically(self._file, page)
        except OSError as error:
            print_error(f"warning: the browser was not opened: {error.strerror}")
            return
        # A browser in the terminal runs until it is closed; meanwhile the page must be served.
        arguments = (self._file.as_uri(),)
        threading.Thread(target=webbrowser.open, args=arguments, daemon=True).start()

    def remove_file(self) -> None:
        """Remove the file with the used link."""
        with suppress(OSError):
            self._file.unlink(missing_ok=True)


async def _interrupted(link: _Link) -> None:
    """Wait for a signal, and print another link each time Enter is pressed."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)

    def read_enter() -> None:
        if sys.stdin.readline():
            link.show()
        else:
            loop.remove_reader(sys.stdin)

    if sys.stdin.isatty():
        loop.add_reader(sys.stdin, read_enter)
    await ended.wait()
    link.remove_file()


if __name__ == "__main__":
    main()
