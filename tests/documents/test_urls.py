"""Spellings of one page are one, spellings of different pages are not; metadata is searched at any depth."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from olmo_core.documents.urls import normal_url, urls_in

LABEL = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
HOST = st.lists(LABEL, min_size=1, max_size=3).map(lambda labels: ".".join([*labels, "org"]))
SEGMENT = st.text(string.ascii_letters + string.digits + "-._~", min_size=1, max_size=6)
PATH = st.lists(SEGMENT, max_size=3).map(lambda parts: "".join(f"/{p}" for p in parts))
QUERY = st.lists(st.tuples(LABEL, LABEL), max_size=2).map(lambda pairs: "&".join(f"{k}={v}" for k, v in pairs))


@given(HOST, PATH, QUERY, st.data())
def test_every_spelling_of_a_page_is_one(host: str, path: str, query: str, data: st.DataObject) -> None:
    plain = f"http://{host}{path}{'?' + query if query else ''}"

    def choose(*options: str) -> str:
        return data.draw(st.sampled_from(options))

    scheme = choose("http", "https", "HTTP", "hTTps")
    port = choose("", ":80", ":443", ":")
    user = choose("", "jane@", "jane:secret@")
    where = "".join(c.upper() if data.draw(st.booleans()) else c for c in host) + choose("", ".")
    spelled = "".join(f"%{ord(c):02x}" if c != "/" and data.draw(st.booleans()) else c for c in path)
    end = choose("", "/", "//")
    asked = f"?{query}" if query else choose("", "?")
    fragment = choose("", "#", "#part/of?it")
    assert normal_url(f" {scheme}://{user}{where}{port}{spelled}{end}{asked}{fragment}\n") == plain


@given(HOST, PATH, HOST, PATH)
def test_different_pages_stay_different(host: str, path: str, other: str, elsewhere: str) -> None:
    same = (host, path) == (other, elsewhere)
    assert (normal_url(f"http://{host}{path}") == normal_url(f"https://{other}{elsewhere}")) == same


@given(st.one_of(st.text(max_size=30), st.text("htps:/.%41~aÄ@[]?#", max_size=30).map("http://".__add__)))
@example("http://h/%%34%31")
@example("https://h:80/")
@example("http://[::1]:8080/")
@example("http://a\u3002/")
def test_a_normal_spelling_is_final_and_nothing_raises(text: str) -> None:
    normal = normal_url(text)
    assert normal is None or normal_url(normal) == normal


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://bücher.example/Straße?q=ä b", "http://xn--bcher-kva.example/Stra%C3%9Fe?q=%C3%A4%20b"),
        ("http://EXAMPLE.org:8080/A/", "http://example.org:8080/A"),
        ("http://[2001:DB8::1]:80/x", "http://[2001:db8::1]/x"),
        ("ftp://example.org:21/a", "ftp://example.org:21/a"),
        ("http://example.org/a%2fb", "http://example.org/a%2Fb"),
        ("http://www.example.org", "http://www.example.org"),
        ("example.org/page", None),
        ("//example.org/page", None),
        ("mailto:jane@example.org", None),
        ("http://", None),
        ("http://[bad/", None),
        ("http://h:port/", None),
    ],
)
def test_examples(url: str, normal: str | None) -> None:
    assert normal_url(url) == normal


def test_urls_are_found_under_the_names_that_crawls_use() -> None:
    metadata = {
        "url": "http://a",
        "title": "http://not",
        "warc": {"WARC-Target-URI": "http://b", "offset": 7},
        "versions": [{"Source_URL": "http://c"}, "http://not", None],
        "uri": 5,
        "original_url": ["http://d", ["http://e", {"title": "http://not"}], 7],
    }
    assert list(urls_in(metadata)) == [f"http://{name}" for name in "abcde"]
    deep: dict[str, object] = {"url": "http://deep"}
    for _ in range(5000):
        deep = {"in": [deep]}
    assert list(urls_in(deep)) == ["http://deep"]
