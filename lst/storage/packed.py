"""Lists of many files in few bytes: names as bytes behind the number of their folder, sizes and times as numbers.

A listing of millions of files would else be larger than all that is done with it: a name as a string takes about 100
bytes, a tuple with its numbers 150 more.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, TypeAlias

# A file's name, its bytes, and its time of change in nanoseconds or, behind a URL, the entity tag.
Mark: TypeAlias = tuple[str, int, int | str]


class PackedNames(Sequence[str]):
    """Names of files, folder by folder; names can be added."""

    def __init__(self) -> None:
        self._folders: list[str] = []
        self._numbers, self._ends, self._content = array("I"), array("Q", [0]), bytearray()

    def add(self, folder: str, name: str) -> int:
        """Adds the file ``folder + name``; returns its number."""
        if not self._folders or self._folders[-1] != folder:
            self._folders.append(folder)
        self._numbers.append(len(self._folders) - 1)
        self._content += name.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._content))
        return len(self._numbers) - 1

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        name = self._content[self._ends[number] : self._ends[number + 1]]
        return self._folders[self._numbers[number]] + name.decode("utf-8", "surrogatepass")


class PickedNames(Sequence[str]):
    """Some of the names, in an order of their own."""

    def __init__(self, names: PackedNames, numbers: array[int]) -> None:
        self._names, self._picked = names, numbers

    def __len__(self) -> int:
        return len(self._picked)

    def __getitem__(self, number: Any) -> Any:
        picked = self._picked[number]
        return [self._names[one] for one in picked] if isinstance(number, slice) else self._names[picked]


class PackedMarks(Sequence[Mark]):
    """Marks of local files; marks can be added.

    Args:
        names: of all files.

    Attributes:
        inodes: of each file.
    """

    def __init__(self, names: PackedNames) -> None:
        self._names, self._picked = names, array("I")
        self._sizes, self._times_ns, self.inodes = array("Q"), array("q"), array("Q")

    def add(self, number: int, size_bytes: int, time_ns: int, inode: int) -> None:
        """Adds the file with this number among the names."""
        self._picked.append(number)
        self._sizes.append(size_bytes)
        self._times_ns.append(time_ns)
        self.inodes.append(inode)

    def __len__(self) -> int:
        return len(self._picked)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        return self._names[self._picked[number]], self._sizes[number], self._times_ns[number]
