"""The two definitions of `olmo_core.curation.pii` read slowly, with Python's regular expressions.

`toolkit_spans` holds the toolkit's own patterns. `number_spans` (phones and IP addresses) and `email_spans` follow the
fixed definition for texts whose letters and digits are ASCII; each knows nothing of the other's spans.
"""

from __future__ import annotations

import re

Span = tuple[int, int, str]

EMAIL = re.compile(r"[.\s@,?!;:)(]*([^\s@]+@[^\s@,?!;:)(]+?)[.\s@,?!;:)(]?[\s\n\r]")
PHONE = re.compile(r"\s+\(?(\d{3})\)?[-\. ]*(\d{3})[-. ]?(\d{4})")
IP = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)\.){3}(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)")


def toolkit_spans(text: str) -> list[Span]:
    """Return what `pii_regex_with_counts_fast_v2` of dolma 1.2.1 finds, in bytes, sorted."""
    spans = []
    for line in re.finditer(r"([^\n]*\n|[^\n]+$)", text if text.count("?") <= 10_000 else ""):
        for kind, pattern in (("email", EMAIL), ("phone", PHONE), ("ip", IP)):
            for match in pattern.finditer(line.group()):
                if kind == "email":
                    addressee, domain = match.group(1).split("@", 1)
                    if addressee.strip() == "(" or "." not in domain:
                        continue
                spans.append((line.start() + match.start(), line.start() + match.end(), kind))
    return sorted((len(text[:start].encode()), len(text[:end].encode()), kind) for start, end, kind in spans)


TAIL = r"[-. ]{0,3}\d{3}[-. ]?\d{4}"
BEGINS = r"(?<![A-Za-z0-9_.\-+/=#$%&@,\\])"
ENDS = r"(?![0-9_]|[.-][0-9]|(?!x[0-9]|ext)[A-Za-z])"
BARE = r"(?!\d{3}\.\d{7})(?![01]\d{9})\d{3}" + TAIL
NATIONAL = re.compile(BEGINS + rf"(?:1[-. ]?\(\d{{3}}\){TAIL}|1[-. ]{BARE}|\(\d{{3}}\){TAIL}|{BARE})" + ENDS)
AMERICAN = re.compile(BEGINS + rf"\+1[-. ]?(?:\(\d{{3}}\){TAIL}|{BARE})" + ENDS)
COUNTRY = re.compile(BEGINS + r"\+[2-9]\d*")
GROUP = re.compile(r"[-. ]?\d+")
BRACKETS = re.compile(r" ?\(\d+\)[-. ]?(?=\d)")
QUAD = re.compile(
    r"(?<![A-Za-z0-9_.^~])(?<![A-Za-z][-/])(?<![=<>~!]=)(?<![=<>~!]= )"
    r"(?!(?:0+|127|255)\.)(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?![A-Za-z0-9_]|\.[A-Za-z0-9]|-[A-Za-z])"
)
VERSION = re.compile(r"(?i)(?<![a-z])(versions?|ver|release|rev|revision|sections?)[_.]*[ :='\"(]{0,4}\Z")


def international_end(text: str, start: int) -> int:
    """Return the end of the number with a country code other than 1 that begins at `start`, or 0."""
    first = COUNTRY.match(text, start)
    if not first or len(first.group()) > 16:
        return 0
    digits, end = len(first.group()) - 1, first.end()
    brackets = BRACKETS.match(text, end)
    position, decimal = end, text[end : end + 1] == "."
    if brackets:
        digits_before = digits + len(re.sub(r"\D", "", brackets.group()))
        group = re.compile(r"\d+").match(text, brackets.end())
        assert group
        if digits_before + len(group.group()) <= 15:
            digits, end = digits_before + len(group.group()), group.end()
            position = end
        else:
            position = -1
    groups = 3 if brackets else 1
    while position >= 0:
        group = GROUP.match(text, position)
        count = len(re.sub(r"\D", "", group.group())) if group else 16
        if not group or digits + count > 15:
            break
        digits, end, groups = digits + count, group.end(), groups + 1
        position = end
    if digits < 9 or (decimal and groups == 2) or not re.compile(ENDS).match(text, end):
        return 0
    return end


def number_spans(text: str) -> list[Span]:
    """Return phones and IP addresses of the fixed definition, leftmost first, an address before a phone."""
    spans, i = [], 0
    while i < len(text):
        found = ("phone", international_end(text, i))
        quad = QUAD.match(text, i)
        phone = NATIONAL.match(text, i) or AMERICAN.match(text, i)
        if quad and all(int(part) < 256 for part in quad.groups()) and not VERSION.search(text[:i]):
            found = ("ip", quad.end())
        elif phone:
            found = ("phone", phone.end())
        if found[1]:
            spans.append((i, found[1], found[0]))
        i = found[1] or i + 1
    return spans


LOCAL = re.compile(r"[.%+-]*(\w[\w.%+-]*)?\Z", re.ASCII)
DOMAIN = re.compile(r"(?!-)[A-Za-z0-9-]+(?:\.[A-Za-z0-9][A-Za-z0-9-]*)+")
LOGIN = re.compile(r"//(?:[\w.%+-]*:)?\Z", re.ASCII)


def email_spans(text: str) -> list[Span]:
    """Return the e-mail addresses of the fixed definition; local parts and domains are short here."""
    spans: list[Span] = []
    low = 0
    for at in (match.start() for match in re.finditer("@", text)):
        if at < low:
            continue
        local = LOCAL.search(text[low:at])
        domain = DOMAIN.match(text, at + 1)
        if not domain or not local or not local.group(1):
            continue
        label = domain.group().rsplit(".", 1)[1]
        letters = re.match(r"[A-Za-z]{2,}(?=-|$)", label)
        if label.startswith("xn--") and len(label) > 4:
            end = domain.end() - (len(label) - len(label.rstrip("-")))
        elif letters:
            end = domain.end() - len(label) + letters.end()
        else:
            continue
        start = low + local.start(1)
        if not re.compile(r"[@_]|:[A-Za-z0-9/~]|\(\S").match(text, end) and not LOGIN.search(text[low:start]):
            spans.append((start, end, "email"))
            low = end
    return spans
