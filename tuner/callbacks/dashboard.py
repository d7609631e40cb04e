"""optuna-dashboard for a study: a copy in memory that follows the log, served on this machine."""

from __future__ import annotations

import importlib.util
import socketserver
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna

from results.local_web import local_only
from results.store.paths import StudyPaths
from search_spaces import InputError
from tuner.callbacks.mirror import OptunaMirror
from tuner.callbacks.watch import Tail

REFRESH_SECONDS = 2.0
"""Between two looks at the log."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """No request log: a page sends a request every few seconds."""


def serve(folder: Path, port: int, announce: Callable[[str], None]) -> None:
    """Serve the study in `folder` on 127.0.0.1 until interrupted; `announce` gets the address.

    Nothing is written. Changes in the pages (notes, deletions) are lost at the end. Raises InputError if
    optuna-dashboard is not installed or the port is taken.
    """
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise InputError(
            "the dashboard needs optuna-dashboard; pip install '.[dashboard]' in the checkout of b2t-tuner"
        )
    from optuna_dashboard import wsgi

    tail = Tail(StudyPaths(folder).log)
    storage = optuna.storages.InMemoryStorage()
    mirror = OptunaMirror(storage, tail.new())
    try:
        server = make_server("127.0.0.1", port, local_only(wsgi(storage)), _Server, _Quiet)
    except (OSError, OverflowError) as error:
        raise InputError(f"--port {port}: {error}; choose another") from error
    done = threading.Event()
    follower = threading.Thread(target=_follow, args=(mirror, tail, done), daemon=True)
    follower.start()
    with server:
        announce(f"http://127.0.0.1:{server.server_address[1]}/dashboard/")
        try:
            server.serve_forever()
        finally:
            done.set()


def _follow(mirror: OptunaMirror, tail: Tail, done: threading.Event) -> None:
    while not done.wait(REFRESH_SECONDS):
        try:
            for event in tail.new():
                if tail.restarts:
                    raise InputError(f"{tail.path}: now belongs to another study; start the dashboard again")
                mirror.take(event)
        except InputError as error:
            print(f"note: {error}; the pages are not updated", file=sys.stderr)
            return
