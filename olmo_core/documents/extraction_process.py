"""The process that takes the text out of pages: `python -m olmo_core.documents.extraction_process IN OUT SETTINGS`.

Started by olmo_core/documents/extraction.py, which owns it. A page that hangs or crashes the extractor ends this process
and nothing else. The time limit is CPU time (ITIMER_PROF), so that a busy machine does not change what comes out, and the
signal's default action ends the process also where a loop in a C library lets no Python code run.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from olmo_core.documents.charset import decode
from olmo_core.documents.extraction import OUT_OF_MEMORY

ToText = Callable[[str], str | None]
_PR_SET_PDEATHSIG = 1


class ExtractionError(Exception):
    """The extractor could not deal with a page, and says why."""


def main(arguments: list[str]) -> None:
    """Answer one batch of pages after another until the owner closes its end."""
    incoming = Connection(int(arguments[0]), writable=False)
    outgoing = Connection(int(arguments[1]), readable=False)
    settings = json.loads(arguments[2])
    _die_with(settings["owner"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    logging.disable(logging.CRITICAL)
    module, _, name = settings["function"].partition(":")
    to_text: ToText = getattr(import_module(module), name)(settings["options"])
    _limit_memory(settings["memory_bytes"])
    outgoing.send_bytes(b"ready")
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            count = int(incoming.recv_bytes())
            # All of them first: the owner writes while nobody reads its answers.
            pages = [incoming.recv_bytes() for _ in range(count)]
            for n, page in enumerate(pages):
                pages[n] = b""
                signal.setitimer(signal.ITIMER_PROF, settings["page_seconds"])
                answer, text = _answer(page, to_text)
                signal.setitimer(signal.ITIMER_PROF, 0)
                outgoing.send_bytes(json.dumps(answer).encode() + b"\n" + text)


def _answer(page: bytes, to_text: ToText) -> tuple[dict[str, Any], bytes]:
    head, _, body = page.partition(b"\n")
    told = json.loads(head)
    try:
        decoded = decode(body, told["charset"], html=told["html"])
        if decoded is None:
            return {"outcome": "undecodable"}, b""
        text = to_text(decoded.text) if told["html"] else decoded.text
        # With surrogates there is no UTF-8, so no document.
        made = text.encode() if text and not text.isspace() else b""
    except MemoryError:
        # Perhaps for what earlier pages left behind: the owner tries this one again in a new process.
        os._exit(OUT_OF_MEMORY)
    except Exception as error:
        return {"outcome": "failed", "detail": f"{type(error).__name__}: {error}"[:300]}, b""
    answer = {
        "outcome": "text" if made else "no_text",
        "charset": decoded.charset,
        "found_by": decoded.found_by,
        "declared": decoded.declared,
        "errors": decoded.errors,
    }
    return answer, made


def markup(_: dict[str, Any]) -> ToText:
    """Return the extractor `none`: the page's source as it is."""
    return lambda text: text


def trafilatura(options: dict[str, Any]) -> ToText:
    """Return trafilatura with datatrove's settings, without its memory of earlier pages (`deduplicate`).

    Two differences: an error within is an ExtractionError, not a page without text; and a page nested deeper than 256
    elements, where libxml2 stops reading without a word, is read to its end.
    """
    from lxml.etree import XMLSyntaxError
    from lxml.html import HTMLParser, fromstring
    from trafilatura.core import bare_extraction, determine_returnstring
    from trafilatura.settings import DEFAULT_CONFIG, Extractor
    from trafilatura.utils import HTML_PARSER, load_html

    deep = HTMLParser(
        collect_ids=False,
        default_doctype=False,
        encoding="utf-8",
        remove_comments=True,
        remove_pis=True,
        huge_tree=True,
    )
    # Not touched by extraction, and reading the configuration takes as long as a small page.
    chosen = Extractor(
        config=DEFAULT_CONFIG,
        output_format="txt",
        precision=options["favour_precision"],
        comments=False,
        dedup=False,
    )

    def to_text(html: str) -> str | None:
        tree = load_html(html)
        fatal = HTML_PARSER.error_log.last_error
        if fatal is not None and fatal.type_name == "ERR_RESOURCE_LIMIT":
            with contextlib.suppress(XMLSyntaxError):
                tree = fromstring(html.encode(), parser=deep)
        if tree is None:
            return None
        try:
            document = bare_extraction(tree, options=chosen, as_dict=False)
        except RecursionError:
            raise ExtractionError("nested too deeply for the extractor") from None
        return None if document is None else determine_returnstring(document, chosen)

    return to_text


def _limit_memory(size: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = size if hard == resource.RLIM_INFINITY else min(size, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS knows the limit but not how to set it
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    with contextlib.suppress(OSError):
        # Of all processes the one with a hostile page goes first when the machine itself runs out.
        with open("/proc/self/oom_score_adj", "w") as handle:
            handle.write("1000")


def _die_with(owner: int) -> None:
    """End this process when its owner is gone, even by SIGKILL and in the middle of a page (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != owner:
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
