"""What all pages have in common: head, way back, contents, and links from one page to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.report.browse.catalog import Catalog
from olmo_core.report.evaluation import curves
from olmo_core.report.lineage import STYLE as LINEAGE
from olmo_core.report.page.document import POLICY
from olmo_core.report.page.elements import attribute, name, text
from olmo_core.report.page.style import CSS

PLACES = (
    ("index.html", "Overview"),
    ("corpora.html", "Corpora"),
    ("runs.html", "Runs"),
    ("evaluations.html", "Evaluations"),
    ("artifacts.html", "Artifacts"),
)
"""The pages that every page leads to."""

STYLE = """
.skip{position:absolute;left:-999px}.skip:focus{left:12px;top:8px;background:var(--card);padding:4px 10px;border:1px solid var(--line);z-index:2}
nav [aria-current]{font-weight:600;color:var(--ink)}nav .own{margin-top:10px;padding-top:8px;border-top:1px solid var(--line)}
.crumbs{font-size:.9em;color:var(--dim);overflow-wrap:anywhere;max-width:none}
.tags span{display:inline-block;border:1px solid var(--line);border-radius:9px;padding:0 8px;margin:0 4px 2px 0;font-size:.84em;background:var(--faint);overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr));gap:14px;margin:12px 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px;min-width:0;overflow-wrap:anywhere}
.card b{font-size:1.06em}.card p{margin:4px 0}.card svg{padding:4px 0 0}
.scroll{overflow:auto;max-width:100%;max-height:86vh;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:8px}
.scroll:focus-visible,a:focus-visible,summary:focus-visible{outline:2px solid var(--link);outline-offset:2px}
.wide td,.wide th{white-space:nowrap}.wide td:first-child{white-space:normal;overflow-wrap:anywhere;min-width:150px}.wide td:first-child a{overflow-wrap:anywhere}
table.told td:last-child{white-space:normal;min-width:190px;overflow-wrap:anywhere}figure.loss{max-width:760px}
svg .pale{fill:none;stroke:var(--soft);stroke-width:1}svg .held{fill:none;stroke:var(--lost);stroke-width:1.4}svg .helddot{fill:var(--lost)}svg .over{fill:var(--kept)}
svg .rate{fill:none;stroke:var(--dim);stroke-width:1.2}svg .event{stroke:var(--gain);stroke-width:1.2;stroke-dasharray:4 3}
table.ledger{width:100%;table-layout:fixed}table.ledger td:nth-child(1){width:30%;overflow-wrap:anywhere}table.ledger td:nth-child(3){width:92px}table.ledger td:nth-child(4){width:92px}table.ledger td:nth-child(5){width:66px}
@media (max-width:640px){table.ledger td:nth-child(1){width:44%}table.ledger :is(td,th):nth-child(n+4){display:none}nav .own{display:none}
.wide td:first-child{min-width:118px}}
"""


@dataclass(kw_only=True)
class Page:
    """One page while it is put together. Bodies are HTML; titles are text."""

    catalog: Catalog
    path: str
    """From the site's root."""
    title: str
    place: str = ""
    """Of `PLACES`, which it belongs to."""
    small: str = ""
    """What kind of page it is, above its title."""
    lead: str = ""
    """HTML below the title."""
    crumbs: Sequence[tuple[str, str]] = ()
    """Title and path of the pages above it."""
    sections: list[tuple[str, str, str]] = field(default_factory=list)
    """Anchor, title, body."""

    def add(self, anchor: str, title: str, body: str) -> None:
        """Add a section; one with an empty body is left out."""
        if body:
            self.sections.append((anchor, title, body))

    def link(self, path: str, anchor: str = "") -> str:
        """Return the address of another page as a browser wants it, from this one."""
        return "../" * self.path.count("/") + quote(path) + (f"#{anchor}" if anchor else "")

    def a(self, path: str, shown: str, anchor: str = "") -> str:
        """Return a link; `shown` is HTML. Without a path only what is shown."""
        return f'<a href="{attribute(self.link(path, anchor))}">{shown}</a>' if path else shown

    def artifact(self, ref: ArtifactRef, shown: str | None = None) -> str:
        """Return the name of an artifact, linked to its page where it has one; `shown` is text."""
        return self.a(self.catalog.page(ref), name(shown if shown is not None else ref.address))

    def html(self) -> str:
        """Return the whole page."""
        places = "".join(
            f'<li><a href="{self.link(path)}"{" aria-current=page" if path in (self.path, self.place) else ""}>{title}</a></li>'
            for path, title in PLACES
        )
        own = "".join(f'<li><a href="#{anchor}">{text(title)}</a></li>' for anchor, title, _ in self.sections)
        crumbs = " › ".join(self.a(path, text(title)) for title, path in self.crumbs)
        parts = [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n',
            f"<title>{text(self.title)} – OLMo Flows</title>\n<style>{CSS}{curves.STYLE}{LINEAGE}{STYLE}</style>\n</head>\n<body>\n",
            '<a class="skip" href="#main">To the content</a>\n<div class="frame">\n<header>',
            f'<p class="crumbs">{crumbs}</p>\n' if crumbs else "",
            f"<small>{text(self.small)}</small><h1>{name(self.title)}</h1>\n{self.lead}</header>\n",
            f'<nav aria-label="Pages"><ol>{places}</ol>{f"<ol class=own>{own}</ol>" if len(self.sections) > 1 else ""}</nav>\n<main id="main">\n',
            *(
                f'<section id="{anchor}">\n<h2>{text(title)}</h2>\n{body}</section>\n'
                for anchor, title, body in self.sections
            ),
            f"</main>\n<footer>{text(self.catalog.store.uri)}, as it was when <code>olmo browse</code> read it.</footer>\n</div>\n</body>\n</html>\n",
        ]
        return "".join(parts)


def tags(some: Sequence[str], most: int = 6) -> str:
    """Return tags as HTML."""
    more = f" <small>and {len(some) - most} more</small>" if len(some) > most else ""
    return (
        f'<span class="tags">{"".join(f"<span>{text(one)}</span>" for one in some[:most])}</span>{more}' if some else ""
    )


def tiles(some: Sequence[tuple[str, str]]) -> str:
    """Return numbers with what they are, as boxes."""
    boxes = "".join(f'<div class="tile"><b>{text(number)}</b><span>{text(what)}</span></div>' for number, what in some)
    return f'<div class="tiles">{boxes}</div>\n'


def when(moment: str) -> str:
    """Return a time as people read it: date and minute, UTC."""
    return text(moment[:16].replace("T", " "))
