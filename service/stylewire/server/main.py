"""``stylewire serve``: signals, exit codes, and the line that announces a server."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial

from stylewire.errors import StylewireError
from stylewire.manifest import ManifestError
from stylewire.server.app import App
from stylewire.server.config.settings import SettingError, Settings
from stylewire.server.supervisor import Ports, Workers
from stylewire.server.telemetry import logs

log = logging.getLogger(__name__)


async def serve(settings: Settings, ready: Callable[[Ports], None], *, shared: bool = False) -> None:
    """Run a server until SIGTERM or SIGINT; a second signal ends the process at once.

    Args:
        settings: of the server.
        ready: called with the ports when all models answer.
        shared: whether other processes serve on the same port.
    """
    stopping = asyncio.get_running_loop().create_future()

    def on_signal(number: signal.Signals) -> None:
        if stopping.done():
            logging.shutdown()
            os._exit(128 + number)
        stopping.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    app = App(settings, shared=shared)
    stopping.add_done_callback(lambda _: app.interrupt())
    await app.start()
    gc.collect()
    gc.freeze()  # what is there now stays: looking through it again and again for garbage would hold up calls
    ready((app.port, app.metrics_port))
    number = await stopping
    # Nobody balances load to a terminal: Ctrl-C does not wait.
    await app.stop(settings.drain_seconds if number == signal.SIGTERM else 0.0)


def run(settings: Settings, ready: Callable[[Ports], None], *, shared: bool = False) -> int:
    """Run a server in this process; returns the exit code."""
    logs.configure(settings.log_level, settings.log_format)
    try:
        asyncio.run(serve(settings, ready, shared=shared))
    except (SettingError, ManifestError, StylewireError) as err:
        return _complain(err)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run ``stylewire serve``; returns the exit code."""
    try:
        settings = Settings.load(sys.argv[1:] if arguments is None else arguments)
        logs.configure(settings.log_level, settings.log_format)
        log.info("settings: %s", settings)
        ready = partial(_announce, settings.host)
        if settings.workers > 1:
            return Workers(settings, partial(run, shared=True)).run(ready)
    except SettingError as err:
        return _complain(err)
    return run(settings, ready)


def _announce(host: str, ports: Ports) -> None:
    """Print the line that whatever starts a server waits for."""
    port, metrics_port = ports
    text = f"stylewire: serving on {host}:{port}, metrics on http://{host}:{metrics_port}/metrics"
    try:
        print(text, flush=True)  # noqa: T201
    except OSError as err:  # nobody reads it, or its disk is full
        log.warning("%s (which could not be printed: %s)", text, err.strerror)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else what is left of the line spoils the exit code


def _complain(err: Exception) -> int:
    print(f"stylewire serve: {err}", file=sys.stderr)  # noqa: T201 - a person reads it
    return 1


if __name__ == "__main__":
    sys.exit(main())
