r"""The three PII patterns of the dolma toolkit's production tagger, matched in linear time over UTF-8 bytes.

The patterns (`pii_regex_with_counts_fast_v2` of dolma 1.2.1, applied to each line with its line feed):

    EMAIL   [.\s@,?!;:)(]*([^\s@]+@[^\s@,?!;:)(]+?)[.\s@,?!;:)(]?[\s\n\r]
    PHONE   \s+\(?(\d{3})\)?[-\. ]*(\d{3})[-. ]?(\d{4})
    IP      (?:(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)\.){3}(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)

Python's `re` needs quadratic time for the first two (a long run without white space before an @, a long run of spaces);
here every pattern starts from the character it cannot do without (@, a digit, a digit before a dot) and looks left.
The functions below say why that finds the same leftmost match.
"""

from __future__ import annotations

from olmo_core.kernels.pii_characters import (
    DIGIT,
    MARK,
    SPACE,
    character_before,
    class_at,
    compiled,
    octet_at,
    skip_digits,
)
from olmo_core.kernels.words import sequence_length

EMAIL, PHONE, IP = 0, 1, 2
"""Numbers of the kinds of span."""

MOST_QUESTION_MARKS = 10_000
"""The toolkit finds nothing in a document with more of them (its guard against its own e-mail pattern)."""


@compiled
def is_delimiter(byte):
    """Tell the delimiters of the e-mail pattern's domain from other characters: `@ , ? ! ; : ) (`, without the dot."""
    return (
        byte == ord("@")
        or byte == ord(",")
        or byte == ord("?")
        or byte == ord("!")
        or byte == ord(";")
        or byte == ord(":")
        or byte == ord(")")
        or byte == ord("(")
    )


@compiled
def is_lead(text, i, classes):
    r"""Tell whether the character at byte `i` is of the class `[.\s@,?!;:)(]` with which an e-mail match may begin."""
    byte = text[i]
    return byte == ord(".") or is_delimiter(byte) or class_at(text, i, classes) & SPACE != 0


@compiled
def email_end(text, at, end, classes):
    """Return `(end of the match or 0, domain has a dot)` for the part of the e-mail pattern behind the @ at byte `at`.

    The domain takes the whole run of its characters, except for a last dot that white space follows (there the lazy
    quantifier stops earlier). Behind it stands one delimiter or none, then one white space, all within the line.
    """
    i = at + 1
    dots = 0
    while i < end and not is_delimiter(text[i]) and not class_at(text, i, classes) & SPACE:
        dots += text[i] == ord(".")
        i += sequence_length(text[i])
    if i == at + 1 or i >= end:
        return 0, False
    behind = i + sequence_length(text[i])
    if is_delimiter(text[i]):
        if behind < end and class_at(text, behind, classes) & SPACE:
            return behind + sequence_length(text[behind]), dots > 0
        return 0, False
    if text[i - 1] == ord(".") and i - 1 > at + 1:
        return behind, dots > 1
    if text[i] != ord("\n") and behind < end and class_at(text, behind, classes) & SPACE:
        return behind + sequence_length(text[behind]), dots > 0
    return behind, dots > 0


@compiled
def addressee_before(text, at, low, classes):
    r"""Return the start of the run of `[^\s@]` before the @ at byte `at`, not before `low`; `at` when it is empty."""
    i = at
    while i > low:
        before = character_before(text, i)
        if text[before] == ord("@") or class_at(text, before, classes) & SPACE:
            break
        i = before
    return i


@compiled
def match_email(text, at, low, end, classes):
    """Return `(start, end, accepted)` of the e-mail match whose first possible @ is at byte `at`; end 0 for none.

    `low` is the end of the match before. A match begins as far left as leading characters reach from the addressee's
    run; of several @ that the same start reaches, the leading class being greedy, the last one that fits is taken.
    """
    start = addressee_before(text, at, low, classes)
    if start == at:
        return 0, 0, False
    stop, dotted = email_end(text, at, end, classes)
    if stop == 0:
        return 0, 0, False
    while start > low and text[start - 1] != ord("\n"):
        before = character_before(text, start)
        if not is_lead(text, before, classes):
            break
        start = before
    chosen = at
    lead = start
    while lead < end and text[lead] != ord("\n") and is_lead(text, lead, classes):
        if lead > at and text[lead] == ord("@") and addressee_before(text, lead, lead - 1, classes) < lead:
            later, later_dotted = email_end(text, lead, end, classes)
            if later:
                chosen, stop, dotted = lead, later, later_dotted
        lead += sequence_length(text[lead])
    i = lead
    while i < end and text[i] != ord("@") and not class_at(text, i, classes) & SPACE:
        i += sequence_length(text[i])
    if i < end and i > max(lead, at) and text[i] == ord("@"):
        later, later_dotted = email_end(text, i, end, classes)
        if later:
            chosen, stop, dotted = i, later, later_dotted
    only_parenthesis = text[chosen - 1] == ord("(") and lead >= chosen
    return start, stop, dotted and not only_parenthesis


@compiled
def match_phone(text, first, low, end, classes):
    """Return `(start, end)` of the phone match whose first digit is at byte `first`, where a run begins; end 0: none.

    Every quantifier is followed by something outside its class, so there is one way to match.
    """
    start = first - 1 if first > low and text[first - 1] == ord("(") else first
    blank = start
    while start > low and text[start - 1] != ord("\n"):
        before = character_before(text, start)
        if not class_at(text, before, classes) & SPACE:
            break
        start = before
    if start == blank:
        return 0, 0
    i, digits = skip_digits(text, first, end, 3, classes)
    if digits < 3:
        return 0, 0
    if i < end and text[i] == ord(")"):
        i += 1
    while i < end and (text[i] == ord("-") or text[i] == ord(".") or text[i] == ord(" ")):
        i += 1
    i, digits = skip_digits(text, i, end, 3, classes)
    if digits < 3:
        return 0, 0
    if i < end and (text[i] == ord("-") or text[i] == ord(".") or text[i] == ord(" ")):
        i += 1
    i, digits = skip_digits(text, i, end, 4, classes)
    return (start, i) if digits == 4 else (0, 0)


@compiled
def match_ip(text, dot, low, end):
    """Return `(start, end)` of the IP match whose first dot is at byte `dot`, leftmost start first; end 0 for none.

    A number before a dot must end there; the last one takes three digits up to 255, else two.
    """
    for start in range(max(low, dot - 3), dot):
        i = start
        found = 0
        while found < 3:
            value, i = octet_at(text, i, end)
            if value > 255 or i >= end or text[i] != ord(".") or (found == 0 and i != dot):
                break
            i += 1
            found += 1
        if found == 3:
            value, behind = octet_at(text, i, end)
            if value <= 255:
                return start, behind
            if value < 1000:
                return start, behind - 1
    return 0, 0


@compiled
def find_compatible(text, offsets, classes, rows, starts, ends, kinds):
    """Write the toolkit's spans of every row and return how many there are, which may be more than the arrays hold.

    `rows` (int64), `starts` and `ends` (int64, bytes in the row) and `kinds` (uint8) are of equal length; spans beyond
    it are only counted. Within a row, spans of one kind are in order and apart; kinds are mixed and may overlap.
    """
    total = 0
    for row in range(len(offsets) - 1):
        first, end = offsets[row], offsets[row + 1]
        total_before = total
        email_low = phone_low = ip_low = first
        i = first
        while i < end:
            if not classes[text[i]] & MARK:
                i += 1
                continue
            start, stop, kind, behind = 0, 0, EMAIL, i + 1
            if text[i] == ord("@"):
                if i >= email_low:
                    start, stop, accepted = match_email(text, i, email_low, end, classes)
                    if stop:
                        email_low = stop
                        stop = stop if accepted else 0
            elif class_at(text, i, classes) & DIGIT:
                behind, _ = skip_digits(text, i, end, end - i, classes)
                if behind < end and text[behind] == ord("."):
                    start, stop = match_ip(text, behind, max(i, ip_low), end)
                    if stop:
                        kind = IP
                        ip_low = stop
                        if total < len(rows):
                            rows[total], starts[total], ends[total], kinds[total] = (
                                row,
                                start - first,
                                stop - first,
                                kind,
                            )
                        total += 1
                start, stop = match_phone(text, i, phone_low, end, classes)
                if stop:
                    kind = PHONE
                    phone_low = stop
            if stop:
                if total < len(rows):
                    rows[total], starts[total], ends[total], kinds[total] = row, start - first, stop - first, kind
                total += 1
            i = behind
        if total > total_before and end - first > MOST_QUESTION_MARKS:
            marks = 0
            for j in range(first, end):
                marks += text[j] == ord("?")
            if marks > MOST_QUESTION_MARKS:
                total = total_before
    return total
