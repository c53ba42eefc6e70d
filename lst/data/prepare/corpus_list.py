"""The list of corpora that prepared data is of: corpora may come, go, or get another name; all else is other data.

::

    made_from.json: [read=A,talks=B]  ──list_change──▶  added: shows; removed: talks      corpus=[read=A,shows=C]
"""

from __future__ import annotations

from typing import NamedTuple

from lst import storage
from lst.data.prepared import MADE_FROM_FILE
from lst.data.shards import MadeFrom
from lst.storage import Folder, named_places


class ListChange(NamedTuple):
    """How a list of corpora differs from an earlier one.

    Attributes:
        added, removed: names.
        renamed: from the earlier name to the one of now, at the same place.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()

    @property
    def lines(self) -> list[str]:
        """For people, and what it costs."""
        found = []
        if self.added:
            found.append(f"corpora that are added: {', '.join(self.added)}")
        if self.removed:
            found.append(f"corpora that are taken out: {', '.join(self.removed)}")
        return found + [
            f"corpus {old} is called {new} now: its shards are made again, as they name it; what it holds out stays"
            for old, new in self.renamed
        ]


def list_change(then: str | None, now: str | None) -> ListChange | None:
    """How corpora have changed; None where it is other data: none of a list stays, or a name has another place.

    >>> list_change("[a=/x,b=/y]", "[a=/x,c=/y,d=/z]")
    ListChange(added=('d',), removed=(), renamed=(('b', 'c'),))
    >>> list_change("[a=/x]", "[a=/elsewhere,b=/x]"), list_change("/x", "[a=/x]")
    (None, None)
    """
    if then is None or now is None:
        return None
    before, after = named_places(then), named_places(now)
    is_moved = any(before[name] != after[name] for name in before.keys() & after.keys())
    if "" in (*before, *after) or is_moved or not set(before.values()) & set(after.values()):
        return None
    name_of = {place: name for name, place in after.items()}
    renamed = {name: name_of[place] for name, place in before.items() if place in name_of and name not in after}
    return ListChange(
        tuple(name for name in after if name not in before and name not in renamed.values()),
        tuple(name for name in before if name not in after and name not in renamed),
        tuple(renamed.items()),
    )


def earlier_record(folder: Folder) -> MadeFrom | None:
    """What the data in a folder was made from; None where nothing was recorded."""
    path = folder / MADE_FROM_FILE
    if not storage.exists(path):
        return None
    what = "the record of what the data was made from"
    return storage.read_json(path, MadeFrom, what, f"Delete {folder} and prepare again.")


def change_since(folder: Folder, made_from: MadeFrom) -> ListChange:
    """How the corpora of some options differ from those of a folder; nothing where that is other data."""
    record = earlier_record(folder)
    return (record and list_change(record["corpus"], made_from["corpus"])) or ListChange()


def with_earlier_list(record: MadeFrom | None, made_from: MadeFrom) -> MadeFrom:
    """Settings with the corpora of an earlier record, where those of now may follow them."""
    if record is None or list_change(record["corpus"], made_from["corpus"]) is None:
        return made_from
    return {**made_from, "corpus": record["corpus"]}
