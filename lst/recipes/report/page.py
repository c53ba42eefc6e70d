"""HTML by small functions: text is escaped unless it is ``Html`` already, and a page needs nothing but itself."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

# Nothing may be fetched: even a link that slipped in would not load.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; media-src data:; img-src data:"
NUM_SERIES_COLOURS = 6

STYLE = """
:root {
  color-scheme: light dark;
  --sans: ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  --paper: #fdfcfa; --panel: #f5f3ee; --ink: #1d2129; --muted: #5f6672; --line: #dedad1; --grid: #e6e2da;
  --accent: #1f5fbf; --best: #e4efdf; --best-ink: #1f5223; --silence: #e9e3d6; --note: #fbf3dc; --note-line: #d9b64b;
  --s1: #2b62c4; --s2: #c2570c; --s3: #14804a; --s4: #8a3fc0; --s5: #b8243a; --s6: #6d5c32;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171c; --panel: #1d2027; --ink: #e6e4df; --muted: #a0a5af; --line: #353a44; --grid: #2a2e37;
    --accent: #83b1ff; --best: #203526; --best-ink: #a6dbab; --silence: #3d382e; --note: #2b2718; --note-line: #a98a2e;
    --s1: #7aa8ff; --s2: #f59a56; --s3: #58c78c; --s4: #c795f2; --s5: #ff7f8e; --s6: #c9b57c;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.6 var(--sans); overflow-wrap: break-word; }
main { max-width: 64rem; margin: 0 auto; padding: 3rem 1.5rem 5rem; }
h1 { font-size: 2.1rem; line-height: 1.2; letter-spacing: -.02em; margin: .2rem 0 1rem; }
h2 { font-size: 1.4rem; line-height: 1.3; letter-spacing: -.01em; margin: 0 0 .8rem; }
h3 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
section { margin-top: 2.6rem; padding-top: 2.2rem; border-top: 1px solid var(--line); }
p, ul { margin: .6rem 0; max-width: 48rem; }
p.eyebrow { margin: 0; color: var(--muted); font-size: .8rem; letter-spacing: .08em; text-transform: uppercase; }
p.lead { font-size: 1.1rem; line-height: 1.6; }
p.note { background: var(--note); border-left: 3px solid var(--note-line); padding: .6rem .9rem; }
a { color: var(--accent); text-underline-offset: .15em; }
nav ol { margin: 1.5rem 0 0; padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: .4rem 1.4rem; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
.scroll { overflow-x: auto; margin: 1rem 0 .5rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { text-align: right; padding: .45rem .55rem; border-bottom: 1px solid var(--line); vertical-align: top;
  white-space: nowrap; }
th:first-child, td:first-child, .left { text-align: left; }
thead th { color: var(--muted); font-weight: 600; border-bottom: 1px solid var(--muted); vertical-align: bottom; }
tr.joined > :not([rowspan]) { border-bottom-color: transparent; padding-bottom: .1rem; }
tr.joined + tr > td { padding-top: .1rem; }
tbody th { min-width: 9.5rem; white-space: normal; }
td.wrap, th.wrap { white-space: normal; min-width: 14rem; text-align: left; }
td.best { background: var(--best); color: var(--best-ink); font-weight: 650; }
.small { display: block; color: var(--muted); font-size: .8rem; font-weight: 400; }
td.best .small { color: inherit; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .5em; }
.yes { color: var(--s3); } .no { color: var(--s5); }
.badge { display: inline-block; margin-left: .6rem; padding: .12rem .55rem; border: 1px solid var(--note-line);
  border-radius: 1rem; background: var(--note); font-size: .72rem; font-weight: 500; letter-spacing: 0;
  vertical-align: .18em; white-space: nowrap; }
figure { margin: 1.6rem 0; }
figcaption, .caption { color: var(--muted); font-size: .9rem; line-height: 1.5; max-width: 52rem; margin: .4rem 0 0; }
figcaption b, .caption b { color: var(--ink); font-weight: 600; }
.plot { overflow-x: auto; }
.plot svg { display: block; width: 100%; min-width: 46rem; height: auto; }
.plot svg * { stroke-linejoin: round; stroke-linecap: butt; }
.clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
.clip, .item { background: var(--panel); border: 1px solid var(--line); border-radius: .6rem; padding: .9rem 1.1rem; }
.clip audio { width: 100%; height: 2.4rem; margin: .5rem 0 .3rem; }
.clip p, .item p { margin: .2rem 0; }
.item { margin: 1rem 0; }
.item table { margin-top: .3rem; }
.quote { max-width: none; }
.tagged { color: var(--muted); font-size: .85rem; }
dl.endings { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .9rem; margin: .2rem 0 .4rem; }
dl.endings dt { color: var(--muted); font-size: .85rem; }
dl.endings dd { margin: 0; }
code, pre { font-family: var(--mono); font-size: .85em; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem;
  overflow-x: auto; line-height: 1.55; }
details { margin: 1rem 0; }
summary { cursor: pointer; color: var(--accent); }
footer { margin-top: 3rem; color: var(--muted); font-size: .85rem; }
@media (max-width: 40rem) {
  main { padding: 1.6rem 1rem 3rem; }
  h1 { font-size: 1.6rem; }
  th, td { padding: .4rem .4rem; }
  tbody th { min-width: 7rem; }
  dl.endings { grid-template-columns: 1fr; }
  dl.endings dd { margin-bottom: .4rem; }
}
@media print {
  .plot svg { min-width: 0; }
  section, figure { break-inside: avoid; }
}
"""


class Html(str):
    """Text that is HTML already; every other ``str`` is escaped on its way into an element."""

    __slots__ = ()


def escaped(text: str) -> Html:
    """``text`` as HTML, whatever signs it holds."""
    return text if isinstance(text, Html) else Html(html.escape(text, quote=True))


def joined(*parts: str) -> Html:
    """Parts one after the other, each escaped unless it is HTML."""
    return Html("".join(escaped(part) for part in parts))


def element(name: str, *children: str, **attributes: str) -> Html:
    """``<name attribute="…">children</name>``; ``class_`` stands for the attribute ``class``."""
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{written}>{joined(*children)}</{name}>")


def paragraph(*children: str, class_: str = "") -> Html:
    return element("p", *children, **({"class_": class_} if class_ else {}))


def code(text: str) -> Html:
    return element("code", text)


def bold(text: str) -> Html:
    return element("b", text)


def cell(*children: str, small: str = "", class_: str = "", name: str = "td", **attributes: str) -> Html:
    """A cell of a table, with a second, smaller line where ``small`` is given."""
    if class_:
        attributes["class_"] = class_
    second = (element("span", small, class_="small"),) if small else ()
    return element(name, *children, *second, **attributes)


def head(*children: str, small: str = "", class_: str = "", **attributes: str) -> Html:
    """A heading cell."""
    return cell(*children, small=small, class_=class_, name="th", **attributes)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], row_classes: Sequence[str] = ()) -> Html:
    """A table that scrolls in itself where the page is narrow. Cells are ``cell``s or plain text."""

    def as_cells(row: Sequence[str], name: str) -> list[Html]:
        return [
            part if isinstance(part, Html) and part.startswith(("<td", "<th")) else element(name, part) for part in row
        ]

    classes = row_classes or [""] * len(rows)
    body = [
        element("tr", *as_cells(row, "td"), **({"class_": class_} if class_ else {}))
        for row, class_ in zip(rows, classes, strict=True)
    ]
    top = element("thead", element("tr", *as_cells(header, "th")))
    return element("div", element("table", top, element("tbody", *body)), class_="scroll", tabindex="0")


def figure(plot: Html, *caption: str) -> Html:
    """A plot with what it shows and how to read it."""
    return element("figure", element("div", plot, class_="plot", tabindex="0"), element("figcaption", *caption))


def caption(*children: str) -> Html:
    """A caption below something that is not a figure."""
    return paragraph(*children, class_="caption")


def colour_dot(index: int) -> Html:
    """The dot that names a model's colour in the plots."""
    return Html(f'<span class="dot" style="background:var(--s{index % NUM_SERIES_COLOURS + 1})"></span>')


@dataclass(frozen=True)
class Section:
    """A part of the page: the name in its address, its title, and its content; ``badge`` stands beside the title."""

    name: str
    title: str
    content: Html
    badge: str = ""

    def html(self) -> Html:
        badge = element("span", self.badge, class_="badge") if self.badge else Html("")
        return element("section", element("h2", self.title, badge), self.content, id=self.name)


def page(title: str, top: Html, sections: Sequence[Section], bottom: Html) -> str:
    """The whole file."""
    links = [element("li", element("a", section.title, href=f"#{section.name}")) for section in sections]
    contents = element("nav", element("ol", *links), aria_label="Contents")
    body = joined(top, contents, *(section.html() for section in sections), element("footer", bottom))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escaped(POLICY)}">\n'
        f"<title>{escaped(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>{body}</main>\n</body>\n</html>\n"
    )
