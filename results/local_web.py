"""Who may ask a web server that is meant for the people of this machine.

A server on 127.0.0.1 is reached by every page that the user's browser has open: another site's name can be made to
point to 127.0.0.1 (DNS rebinding), and its pages then read what is served as their own. Its requests still carry the
name, in `Host` and `Origin`; a browser does not let a page change these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

_HOST = re.compile(r"(127(\.\d{1,3}){3}|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)  # any port: it may be forwarded
REFUSAL = "this page is for this machine; open it as http://127.0.0.1:PORT/ or http://localhost:PORT/\n"


def is_local(host: str | None, origin: str | None = None) -> bool:
    """Whether a request with these headers comes from this machine's own pages, or from no page at all."""
    if host is None or not _HOST.fullmatch(host.strip()):
        return False
    if origin is None:
        return True
    scheme, _, name = origin.strip().partition("://")
    return scheme.lower() in ("http", "https") and bool(_HOST.fullmatch(name))


def local_only(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """A WSGI application that answers 403 to what is not local, and else as `application` does."""

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if is_local(environ.get("HTTP_HOST"), environ.get("HTTP_ORIGIN")):
            return application(environ, start_response)
        body = REFUSAL.encode()
        start_response("403 Forbidden", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return guarded
