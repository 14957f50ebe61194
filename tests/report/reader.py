"""Reads a page as strictly as a browser can, and checks that it is whole."""

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Reader(HTMLParser):
    """Reads a page as a browser's strict reader would: every tag closed, in order."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_startendtag(self, tag, attrs):
        self._note(tag, attrs)

    def handle_starttag(self, tag, attrs):
        self._note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "title", "desc"):
            self.words += data

    def _note(self, tag, attrs):
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name == "id":
                self.ids.append(value)
            if name == "href":
                self.links.append(value)


def check_page(html: str) -> Reader:
    """Well-formed, self-contained, with ids that are unique and references that lead somewhere."""
    page = Reader(html)
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert set(re.findall(r"url\(#?([^)]*)\)", html)) <= set(page.ids)
    named = [value for _, name, value in page.attributes if name == "aria-labelledby"]
    assert {one for value in named for one in value.split()} <= set(page.ids)
    assert not re.search(r"https?:|//\w+\.|@import|<script|<link|<img|<iframe|javascript:", html, re.IGNORECASE)
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name == "src"]
    assert len(html) < 1_500_000
    return page
