"""Hides keys and passwords in addresses, which must never be shown or written."""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "***"
"""The replacement of a secret."""

# A secret may have unescaped slashes (AWS's do), so everything from a colon to the last @ counts; a port, and an @
# later in a path, are not secrets.
_USER = re.compile(
    r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)(?:[^/\s@:[]+:(?!\d{1,5}(?:[/\s]|$))[^\s'\"]*|[^/\s@'\"]*)@"
)
_PARAMETER = re.compile(
    r"(?P<name>[?&;][^=&;\s'\"]*(?:key|secret|token|passw|pwd|signature|credential|\bsig)[^=&;\s'\"]*=)[^&;#\s'\"]+",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """The text with `***` for the user and password, and for the keys among the parameters, of each address in it.

    >>> redacted("s3://KEY:SE/CRET@bucket/p?region=eu&secret_key=SECRET cannot be read")
    's3://***@bucket/p?region=eu&secret_key=*** cannot be read'
    """
    if "://" not in text:
        return text
    return _PARAMETER.sub(rf"\g<name>{HIDDEN}", _USER.sub(rf"\g<scheme>{HIDDEN}@", text))


def secrets_of(address: str) -> list[str]:
    """The parts of an address that `redacted` hides, also decoded, longest first, for searching in texts."""
    found = [user for match in _USER.finditer(address) if (user := match[0].partition("://")[2].removesuffix("@"))]
    found += [part for user in found for part in user.split(":", 1)]
    found += [match[0].partition("=")[2] for match in _PARAMETER.finditer(address)]
    both = {form for part in found for form in (part, unquote(part)) if len(form) > 3}
    return sorted(both, key=len, reverse=True)


def public(address: str) -> str:
    """An address without its user, password and keys: what may be written to a file, and names the same place.

    >>> public("s3://KEY:SECRET@bucket/prefix?region=eu&secret_key=SECRET")
    's3://bucket/prefix?region=eu'
    """
    place, mark, query = redacted(address).replace(f"://{HIDDEN}@", "://").partition("?")
    kept = [part for part in query.split("&") if not part.endswith(f"={HIDDEN}")]
    return place + mark + "&".join(kept) if kept and mark else place


def host_of(address: str) -> str:
    """Scheme and host of an address, for those whose path is the secret (webhooks): `https://hooks.slack.com/...`."""
    found = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s]*", public(address))
    if found is None:
        return address
    return found[0] if address.rstrip("/") == found[0].rstrip("/") else f"{found[0]}/..."
