"""What is wrong with a page, as a list: tags that do not match, scripts, anything that a browser would load from outside."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br", "wbr"}
TAGS = VOID | {
    *("html", "head", "title", "style", "body", "div", "header", "nav", "ol", "ul", "li", "main", "section", "footer"),
    *("h1", "h2", "h3", "p", "a", "b", "i", "small", "code", "pre", "span", "bdi", "mark", "del", "ins"),
    *("table", "thead", "tbody", "tr", "th", "td", "details", "summary", "figure", "figcaption", "article", "label"),
    *("svg", "path", "rect", "text", "circle", "polygon"),
}
"""Every tag that the page's own code writes."""
LINKS = {"href", "src", "srcset", "data", "action", "formaction", "xlink:href", "poster", "background", "ping"}


class Page(HTMLParser):
    """Reads a page and notes its faults and its text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.faults += [f"<{tag}> is never closed" for tag in self._open]
        self.faults += [f"id {one!r} twice" for one in {i for i in self.ids if self.ids.count(i) > 1}]
        self.faults += [f"#{one} leads nowhere" for one in self.targets if one not in self.ids]

    @property
    def inside(self) -> str:
        return self._open[-1] if self._open else ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self.faults.append(f"<{tag}> is not a tag of the page")
        if tag not in VOID:
            self._open.append(tag)
        names = [name for name, _ in attrs]
        if len(set(names)) < len(names):
            self.faults.append(f"<{tag}> has an attribute twice")
        for name, value in attrs:
            if name.startswith("on"):
                self.faults.append(f"<{tag} {name}> runs a script")
            if name == "id":
                self.ids.append(value or "")
            if name in LINKS:
                if name == "href" and (value or "").startswith("#"):
                    self.targets.append((value or "")[1:])
                elif (tag, name, value) != ("link", "href", "data:,"):
                    self.faults.append(f"<{tag} {name}={value!r}> leads outside")
            if name == "for":
                self.targets.append(value or "")
            if name == "style" and re.search(r"url|expression|@import|javascript", value or ""):
                self.faults.append(f"style {value!r}")

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> closes something else")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_comment(self, data: str) -> None:
        self.faults.append(f"comment {data[:40]!r}")

    def handle_data(self, data: str) -> None:
        if self.inside == "style":
            if re.search(r"url\(|@import|expression", data):
                self.faults.append("the style sheet loads something")
        else:
            self.text.append(data)


def text_of(html: str) -> str:
    """Return the text of a piece of HTML, as a browser would copy it."""
    return "".join(Page(html).text)
