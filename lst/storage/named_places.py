"""Several places in one text, each with a name: ``[read=/data/read,s3://bucket/talks]``.

A place without a name is called as its last part, without a suffix; a file called manifest, as its folder.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from itertools import combinations

from lst.storage.places import expanded, is_url

_NAMED = re.compile(r"\s*(?:([^=/:]*)=)?(.*?)\s*", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_OTHERS = re.compile(r"[^A-Za-z0-9_-]+")
MOST_PLACES = 32
# Names of lists that say nothing of what they list.
_PLAIN_LISTS = ("manifest", "metadata", "data")


def is_several(text: str) -> bool:
    """Whether a text is a list of places, and not one place."""
    return text.startswith("[") and text.endswith("]")


def listed_places(text: str) -> list[str]:
    """The places of a text without names, as written; one that is no list is the only one.

    >>> listed_places("[runs/a, 'runs/b']"), listed_places("runs/a,b")
    (['runs/a', 'runs/b'], ['runs/a,b'])
    """
    items = (item.strip().strip("'\"") for item in text[1:-1].split(",")) if is_several(text) else [text]
    return [item for item in items if item]


def named_places(text: str) -> dict[str, str]:
    """The places of a text by name; one that is no list has an empty name.

    >>> named_places("[read=/data/a,/data/talks.tsv]"), named_places("/data/a")
    ({'read': '/data/a', 'talks': '/data/talks.tsv'}, {'': '/data/a'})
    """
    return dict(_pairs(text)) if is_several(text) else {"": text}


def joined_places(places: dict[str, str]) -> str:
    """Inverse of ``named_places``."""
    return places[""] if "" in places else f"[{','.join(f'{name}={place}' for name, place in places.items())}]"


def place_list_problems(key: str, text: str, alone: tuple[str, ...] = ()) -> list[str]:
    """What is wrong with a list of places: names, places that are given twice or lie in each other.

    Args:
        key: of the option.
        text: its value.
        alone: values of the option that name no place, and cannot stand in a list.
    """
    if not is_several(text):
        return []
    pairs = _pairs(text)
    if not pairs or not all(place for _, place in pairs):
        return [f"{key}={text}: a list of places is needed, such as {key}=[read=FOLDER,talks=FOLDER]"]
    if unnamed := [place for name, place in pairs if not _NAME.fullmatch(name)]:
        return [
            f"{key}: {', '.join(unnamed)}: give each a name of letters a–z, digits, _ and -, as in {key}=[NAME=PLACE,…]"
        ]
    found = [
        f"{key}={text}: {place} is no place, and stands alone: {key}={place}" for _, place in pairs if place in alone
    ]
    if len(pairs) > MOST_PLACES:
        found.append(f"{key} lists {len(pairs)} places: at most {MOST_PLACES} are allowed")
    for name, number in Counter(name for name, _ in pairs).items():
        if number > 1:
            found.append(f"{key}: {number} places are called {name}: give each its name, {key}=[NAME=PLACE,…]")
    real = [(name, place if is_url(place) else os.path.realpath(expanded(place))) for name, place in pairs]
    for (first, outer), (second, inner) in combinations(sorted(real, key=lambda pair: pair[1]), 2):
        if inner.rstrip("/") == outer.rstrip("/"):
            found.append(f"{key}: {first} and {second} are the same place, {inner}: name it once")
        elif inner.startswith(f"{outer.rstrip('/')}/"):
            found.append(f"{key}: {second} lies in {first} ({inner}), which would be read twice: name one of them")
    return found


def _pairs(text: str) -> list[tuple[str, str]]:
    matches = (_NAMED.fullmatch(item) for item in listed_places(text))
    return [(_name_of(match[2]) if match[1] is None else match[1], match[2]) for match in matches if match]


def _name_of(place: str) -> str:
    *folders, last = ["", *(part for part in place.split("/") if part)]
    stem = last.partition(".")[0] or last
    if any(folders) and stem.lower() in _PLAIN_LISTS and stem != last:
        stem = folders[-1]
    return _OTHERS.sub("_", stem).strip("_")
