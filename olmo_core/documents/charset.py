"""From the bytes of a page to its text: which character encoding they are in, and how that was found.

The order is that of the HTML standard (byte order mark, HTTP header, <meta>), with two differences, because a wrong label
gives mojibake without any error. Bytes that are valid UTF-8 are UTF-8, whatever the label says: other encodings hit its
structure by accident with a probability of about 1 in 10 for each two bytes. And a label of one byte per character, which
no bytes can contradict, is believed only when another encoding does not give a text that looks far more like a language
(charset_normalizer's measures).
"""

from __future__ import annotations

import codecs
import re
from typing import Literal, NamedTuple

from charset_normalizer import from_bytes

FoundBy = Literal["bom", "header", "meta", "valid_utf8", "detected"]

_META_WITHIN = 4096
_META = re.compile(rb"<meta\s[^>]*?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{2,40})", re.IGNORECASE)
_XML = re.compile(rb"\s*<\?xml\s[^>]{0,100}?encoding\s*=\s*[\"']([A-Za-z0-9_:.-]{2,40})[\"']", re.IGNORECASE)
_SAMPLE = 1 << 13
_MOST_ERRORS = 0.1
"""Malformed sequences for each well-formed one up to which a page is still taken to be in its multi-byte encoding: a
few broken characters are a fault of the page, and browsers replace them too."""
_HOPELESS = 200
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x9f]")
"""Control characters: hardly any in text, many in text decoded by a wrong one-byte encoding."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip

_CODECS = {
    "ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874",
    "gb2312": "gb18030", "gbk": "gb18030", "hz": "hz", "big5": "big5hkscs", "shift_jis": "cp932", "euc_kr": "cp949",
    "utf-16": "utf-16-le", "utf-7": "", "idna": "", "punycode": "", "mbcs": "", "undefined": "", "unicode_escape": "",
    "raw_unicode_escape": "",
}  # fmt: skip
"""What browsers understand by a label (WHATWG Encoding Standard), by the name Python gives it; none for what is none."""
_LABELS = {
    "x-sjis": "cp932", "x-gbk": "gb18030", "windows-31j": "cp932", "ks_c_5601-1987": "cp949", "windows-949": "cp949",
    "unicode-1-1-utf-8": "utf-8", "x-unicode20utf8": "utf-8", "windows-874": "cp874", "dos-874": "cp874", "x-cp1251": "cp1251",
    "x-cp1252": "cp1252", "x-cp1250": "cp1250", "iso-8859-8-i": "iso8859-8", "iso-8859-8-e": "iso8859-8", "x-euc-jp": "euc_jp",
    "x-x-big5": "big5hkscs", "x-mac-roman": "mac-roman", "x-mac-cyrillic": "mac-cyrillic", "unicode": "utf-16-le",
    "ucs-2": "utf-16-le", "iso-10646-ucs-2": "utf-16-le",
}  # fmt: skip
_WIDE = (
    "utf-8",
    "utf-16-le",
    "utf-16-be",
    "utf-32-le",
    "utf-32-be",
    "gb18030",
    "big5hkscs",
    "cp932",
    "cp949",
    "euc_jp",
)
"""Encodings whose structure contradicts other bytes."""
_SHIFTING = ("iso2022_jp", "hz")
"""Encodings that use ASCII bytes only, so that they look like valid UTF-8."""
_LIKELY = (
    "cp1252", "cp1251", "cp932", "gb18030", "cp949", "euc_jp", "big5hkscs", "cp1250", "iso8859-2", "cp1256", "cp1254", "cp1253",
    "cp1255", "cp1257", "cp1258", "cp874", "koi8-r", "iso8859-5", "cp866",
)  # fmt: skip
"""Encodings that are looked for, the more frequent on the web first."""
_LEAD = 0.1
"""By so much another encoding's coherence (0 to 1) must be higher for a label not to be believed; found by trial with eleven
languages, each under its own and four other labels (tests/documents/test_charset.py)."""


class Decoded(NamedTuple):
    """The text of a page."""

    text: str
    charset: str
    found_by: FoundBy
    declared: str | None
    """The label that says otherwise, None when there is none or it is right."""
    errors: int
    """Malformed sequences that became U+FFFD."""


def codec_of(label: str) -> str | None:
    """Return Python's name of the encoding that a browser uses for a label, None when there is none."""
    known = label.strip().lower()
    if known in _LABELS:
        return _LABELS[known]
    try:
        found = codecs.lookup(known)
    except (LookupError, ValueError):
        return None
    if not found._is_text_encoding:
        return None
    return _CODECS.get(found.name, found.name) or None


def decode(body: bytes, header: str | None, *, html: bool) -> Decoded | None:
    """Return the text of a page given the label in its HTTP header; with `html` also those it carries itself.

    None when no encoding fits.
    """
    for mark, wide in _BOMS:
        if body.startswith(mark):
            marked = _tolerant(body[len(mark) :], wide)
            if marked is not None:
                return Decoded(marked[0], wide, "bom", None, marked[1])
    labels: list[tuple[FoundBy, str, str]] = []
    if header and (codec := codec_of(header)):
        labels.append(("header", header, codec))
    if html and (own := _own_label(body)) and (codec := codec_of(own)):
        # A page whose <meta> can be read as ASCII is not in UTF-16 (HTML standard).
        labels.append(("meta", own, "utf-8" if codec.startswith("utf-16") else codec))
    if b"\x1b$" in body and not any(codec in _SHIFTING for _, _, codec in labels):
        labels.append(("detected", "iso-2022-jp", "iso2022_jp"))
    for found_by, _, named in labels:
        hidden = named in _SHIFTING or (named.startswith(("utf-16", "utf-32")) and b"\0" in body)
        exact = _strict(body, named) if hidden else None
        if exact is not None:
            return Decoded(exact, named, found_by, _other(labels, named), 0)
    plain = _strict(body, "utf-8")
    if plain is not None:
        if body.isascii():  # every label is right
            return Decoded(plain, "utf-8", labels[0][0] if labels else "valid_utf8", None, 0)
        by = [found_by for found_by, _, codec in labels if codec == "utf-8"]
        return Decoded(plain, "utf-8", by[0] if by else "valid_utf8", _other(labels, "utf-8"), 0)
    return _labelled(body, labels) or _detected(body, labels)


def _labelled(body: bytes, labels: list[tuple[FoundBy, str, str]]) -> Decoded | None:
    """Decode by the first label that holds."""
    for found_by, _, codec in labels:
        if codec in _WIDE:
            decoded = _tolerant(body, codec)
        else:
            text = _strict(body, codec)
            decoded = (text, 0) if text is not None and _plausible(body, text, codec) else None
        if decoded is not None:
            return Decoded(decoded[0], codec, found_by, _other(labels, codec), decoded[1])
    return None


def _plausible(body: bytes, text: str, codec: str) -> bool:
    if _CONTROLS.search(text.replace("\0", "")):
        return False
    ranked = _ranked(_sample(body), {codec, *_LIKELY})
    own = next((one for one in ranked if one[0] == codec), None)
    return own is not None and all(chaos > own[1] or coherence < own[2] + _LEAD for _, chaos, coherence in ranked)


def _detected(body: bytes, labels: list[tuple[FoundBy, str, str]]) -> Decoded | None:
    for codec in ("utf-8", *(codec for codec, _, _ in _ranked(_sample(body), set(_LIKELY)))):
        text = _strict(body, codec)
        decoded = _tolerant(body, codec) if codec in _WIDE else (text, 0) if text is not None else None
        if decoded is not None and not _CONTROLS.search(decoded[0].replace("\0", "")):
            return Decoded(decoded[0], codec, "detected", _other(labels, codec), decoded[1])
    return None


def _ranked(sample: bytes, codecs_: set[str]) -> list[tuple[str, float, float]]:
    """Return codecs in which a sample looks like text, with chaos and coherence, the most likely first."""
    found: dict[str, tuple[float, float]] = {}
    for match in from_bytes(sample, cp_isolation=sorted(codecs_), enable_fallback=False):
        for name in match.could_be_from_charset:
            codec = codecs.lookup(name).name
            if codec in codecs_:
                found.setdefault(codec, (match.chaos, match.coherence))
    order = {codec: place for place, codec in enumerate(_LIKELY)}

    def key(codec: str) -> tuple[float, float, int]:
        chaos, coherence = found[codec]
        return round(chaos, 2), -round(20 * coherence), order.get(codec, -1)

    return [(codec, *found[codec]) for codec in sorted(found, key=key)]


def _other(labels: list[tuple[FoundBy, str, str]], codec: str) -> str | None:
    return next((label for _, label, named in labels if named != codec), None)


def _own_label(body: bytes) -> str | None:
    head = body[:_META_WITHIN]
    found = _XML.match(head) or _META.search(head)
    return found[1].decode("ascii") if found else None


def _strict(body: bytes, codec: str) -> str | None:
    try:
        return body.decode(codec)
    except (UnicodeError, LookupError):
        return None


def _tolerant(body: bytes, codec: str) -> tuple[str, int] | None:
    """Decode, replacing malformed sequences where they are few against the well-formed ones; None where they are not."""
    exact = _strict(body, codec)
    if exact is not None:
        return exact, 0
    # Replacing is slow; where it fails at once it is not tried on the whole of a large page.
    head, wrong = _replaced(body[:_SAMPLE], codec)
    if wrong > _HOPELESS and wrong > len(head) // 4:
        return None
    text, errors = _replaced(body, codec)
    there = len(text) - len(text.encode("ascii", "ignore"))
    return (text, errors) if errors <= _MOST_ERRORS * (there - errors) else None


def _replaced(body: bytes, codec: str) -> tuple[str, int]:
    text = body.decode(codec, "replace")
    return text, text.count("\ufffd") - (body.count("\ufffd".encode()) if codec == "utf-8" else 0)


def _sample(body: bytes) -> bytes:
    """Return the runs of text between tags that hold other bytes than ASCII: markup says nothing of a language."""
    kept: list[bytes] = []
    size = 0
    for run in re.split(rb"[<>]", body):
        if not run.isascii():
            kept.append(run.strip())
            size += len(run)
            if size > _SAMPLE:
                break
    return b"\n".join(kept)[:_SAMPLE]
