"""A page as tests look at it: its tags, texts and tables, and whether it needs anything but itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "hr", "img", "input", "path", "use", "rect"}


class Page(HTMLParser):
    """Tags, attributes, texts and table rows of a page; remembers every tag that closes another."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.faults: list[str] = []
        self.texts: dict[str, str] = {}
        self.rows: dict[str, list[list[str]]] = {}
        self.blocks: list[str] = []
        self.section = "top"
        self.raw = text
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self.section = dict(attrs)["id"] or ""
        if tag == "tr":
            self.rows.setdefault(self.section, []).append([])
        if tag in ("td", "th"):
            self.rows[self.section][-1].append("")
        if tag == "pre":
            self.blocks.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        if "pre" not in self.open:
            # As a browser shows it: where a template breaks its lines is no matter.
            data = re.sub(r"\s+", " ", data)
        self.texts[self.section] = self.texts.get(self.section, "") + data
        if "pre" in self.open:
            self.blocks[-1] += data
        if "td" in self.open or "th" in self.open:
            self.rows[self.section][-1][-1] += " " + data

    def attributes(self, name: str) -> list[str]:
        return [found[name] or "" for _, found in self.tags if name in found]

    def row(self, section: str, *beginning: str) -> list[str]:
        """The first row whose first cells begin so."""
        rows = [[cell.strip() for cell in row] for row in self.rows[section]]
        return next(row for row in rows if all(c.startswith(b) for c, b in zip(row, beginning, strict=False)))


def check_self_contained(page: Page) -> None:
    """Nothing is fetched: all that the page shows is inside it."""
    assert not re.search(r"https?:", page.raw)
    assert all(value.startswith("data:audio/") for value in page.attributes("src"))
    assert all(value.startswith("#") for value in page.attributes("href"))
    assert not page.attributes("xlink:href")
    assert set(re.findall(r"url\((.)", page.raw)) <= {"#"}
    assert "@import" not in page.raw
    assert {tag for tag, _ in page.tags}.isdisjoint({"link", "script", "iframe", "object", "embed", "base"})


def check_well_formed(page: Page, sections: tuple[str, ...]) -> None:
    """Every tag is closed, ids are unique, and exactly these sections are there, linked and filled."""
    assert page.faults == []
    assert page.open == []
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert [value[1:] for tag, found in page.tags if tag == "a" and (value := found["href"])] == list(sections)
    for section in sections:
        assert len(page.texts[section]) > 200, section
    for target in re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', page.raw):
        assert (target[0] or target[1]) in ids
