"""Text of the real pages beside datatrove's: the same reader library, the same extractor, the same settings."""

from __future__ import annotations

from pathlib import Path

from datatrove.pipeline.extractors import Trafilatura
from warcio.archiveiterator import ArchiveIterator

from olmo_core.documents.reader import read_documents, scan
from olmo_core.documents.warc import WarcSource
from tests.documents.warc_files import PROSE, page, response, write


def datatrove_texts(folder: Path, *, deduplicate: bool) -> dict[str, str]:
    """Return what datatrove takes out of every response, by record id, its reader's rules included (UTF-8 first)."""
    extractor = Trafilatura(favour_precision=True, deduplicate=deduplicate)
    texts: dict[str, str] = {}
    for path in sorted(folder.glob("*.warc.gz")):
        with path.open("rb") as handle:
            for record in ArchiveIterator(handle):
                if record.rec_type == "response":
                    html = record.content_stream().read().decode()
                    texts[record.rec_headers["WARC-Record-ID"]] = extractor.extract(html) or ""
    return texts


def test_texts_are_those_of_datatrove(shared_data: Path) -> None:
    source = WarcSource(name="cc", paths=(f"{shared_data}/web/*.warc.gz",))
    rows = [row for b in read_documents(source, scan(source)) for row in b.documents.to_pylist()]
    ours = {row["id"]: row["text"] for row in rows}
    assert len(ours) == 37
    assert ours == datatrove_texts(shared_data / "web", deduplicate=False)
    assert ours == datatrove_texts(shared_data / "web", deduplicate=True)


def test_a_text_does_not_depend_on_the_pages_before_it(tmp_path: Path) -> None:
    """The same page five times: datatrove's default (`deduplicate`) remembers it, and gives nothing in the end."""
    write(tmp_path / "x.warc", [response(page(), n) for n in range(5)])
    (batch,) = read_documents(source := WarcSource(name="cc", paths=(f"{tmp_path}/x.warc",)), scan(source))
    assert batch.documents["text"].to_pylist() == [(PROSE * 3).strip()] * 5
    remembering = Trafilatura(deduplicate=True)
    assert [remembering.extract(page()) for _ in range(5)][-1] is None
