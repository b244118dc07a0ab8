"""URLs of documents: one spelling for those that name the same page, and where metadata keeps them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

_KEYS = {"url", "uri", "warctargeturi", "targeturi", "sourceurl", "originalurl", "canonicalurl", "pageurl"}
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([0-9]*))?")
_WEB_PORTS = ("80", "443")
_NO_LETTER = re.compile(r"[^a-z]")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ASCII = "".join(map(chr, range(0x21, 0x7F)))


def normal_url(url: str) -> str | None:
    """Return the normal spelling of a URL with a scheme and a host, None for anything else.

    - `http` and `https` are one, and so are their ports 80 and 443; other schemes are lower-cased;
    - user and password are dropped; the host is lower-cased, its international letters become punycode, a dot at its
      end goes;
    - in path and query, escapes of letters, digits and `-._~` are decoded, others upper-cased, and what is not ASCII is
      escaped as UTF-8 (RFC 3986, 6.2.2); the path keeps its case and loses the slashes at its end;
    - an empty query and the fragment are dropped. Order and names of query parameters stay, and so does `www.`.

    The normal spelling of a normal spelling is itself.
    """
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return None
    found = _AUTHORITY.fullmatch(parts.netloc.rpartition("@")[2])
    if not parts.scheme or found is None or not (host := _host(found.group(1))):
        return None
    scheme, port = ("http", _WEB_PORTS) if parts.scheme in ("http", "https") else (parts.scheme, ())
    if found.group(2) and found.group(2) not in port:
        host = f"{host}:{found.group(2)}"
    query = f"?{_escapes(parts.query)}" if parts.query else ""
    return f"{scheme}://{host}{_escapes(parts.path).rstrip('/')}{query}"


def _host(host: str) -> str:
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            host = quote(host, safe=_ASCII, errors="replace")
    return host.lower().rstrip(".")


def _escapes(text: str) -> str:
    while (decoded := _ESCAPE.sub(_unescaped, text)) != text:
        text = decoded
    return quote(text, safe=_ASCII, errors="replace")


def _unescaped(found: re.Match[str]) -> str:
    code = int(found.group(1), 16)
    return chr(code) if code in _UNRESERVED else f"%{code:02X}"


def urls_in(metadata: Any) -> Iterator[str]:
    """Yield the strings that a document's metadata has under a key that names a URL, or in a list there, at any depth.

    Keys: url, uri, warc_target_uri, target_uri, source_url, original_url, canonical_url, page_url, whatever their case
    and what stands between the words (`WARC-Target-URI`).
    """
    left = [(metadata, False)]
    while left:  # no recursion: a page's own JSON may be nested deeper than Python's stack
        value, named = left.pop()
        if isinstance(value, dict):
            left += [(inner, _NO_LETTER.sub("", key.lower()) in _KEYS) for key, inner in reversed(value.items())]
        elif isinstance(value, list):
            left += [(inner, named) for inner in reversed(value)]
        elif named and isinstance(value, str):
            yield value
