"""HTML pages from Jinja2 templates. Names and texts are always escaped; a page needs no other file and no network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib import resources

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

NUM_SERIES_COLOURS = 6


@dataclass(frozen=True)
class Section:
    """A part of a page, laid out by a template, which sees it as ``section``.

    Attributes:
        name: of the link to it.
        title: above it.
        badge: beside the title; empty for none.
        plots: SVG drawings by name.
        template: file name of the template; empty for ``NAME.html``.
    """

    name: str
    title: str
    badge: str = ""
    plots: Mapping[str, Markup] = field(default_factory=dict, kw_only=True)
    template: str = field(default="", kw_only=True)


def page(room: str, template: str, sections: Sequence[Section], **values: object) -> str:
    """The text of a whole HTML file.

    Args:
        room: package whose folder ``templates`` is searched first; the shared templates are searched after it.
        template: file name of a template that extends ``page.html``.
        sections: in the order of the page.
        values: further variables of the templates.
    """
    return environment(room).get_template(template).render(sections=sections, **values)


@cache
def environment(room: str) -> Environment:
    """Templates of a room and the shared ones. Values are escaped unless they are ``Markup``; unknown names raise."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(room), PackageLoader("lst.recipes.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number_text, "scientific": scientific, "utc": utc_text}
    environment.globals["NUM_SERIES_COLOURS"] = NUM_SERIES_COLOURS
    return environment


def style_sheet() -> str:
    """The CSS of all pages."""
    return (resources.files("lst.recipes.report") / "templates" / "style.css").read_text(encoding="utf-8")


def number_text(value: float | None, style: str) -> str:
    """A number with a true minus sign; a dash for None.

    Args:
        value: the number.
        style: a format specification such as ``,.2f``, or ``hours`` for a duration in hours.
    """
    if value is None:
        return "–"
    return (hours_text(value) if style == "hours" else format(value, style)).replace("-", "−")


def hours_text(hours: float) -> str:
    """A duration in hours; in minutes or seconds where it is short."""
    if hours >= 1:
        return f"{hours:,.2f} h"
    return f"{60 * hours:.1f} min" if 60 * hours >= 1 else f"{3600 * hours:.1f} s"


def scientific(number: float) -> str:
    """``6.29 × 10⁸``."""
    if number <= 0:
        return "0"
    exponent = math.floor(math.log10(number))
    digits = f"{number / 10**exponent:.2f}"
    if digits == "10.00":
        digits, exponent = "1.00", exponent + 1
    return f"{digits} × 10{superscript(exponent)}"


def superscript(number: int) -> str:
    """A whole number as an exponent: ``-12`` → ``⁻¹²``."""
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def utc_text(moment: datetime) -> str:
    """Date and minute of a time in UTC."""
    return moment.strftime("%Y-%m-%d %H:%M UTC")
