"""Compares shards with their receipts: whole files, or single samples."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from lst import storage
from lst.data.shards.files import REMEDY, SHARD_FOLDER, load_index, read_samples_table
from lst.data.shards.formats import IndexEntry
from lst.data.shards.samples import SampleError
from lst.errors import UserError, raise_problems
from lst.storage import Folder, Location, locate


def verify_shards(data_folder: Location, entries: Iterable[IndexEntry], full: bool) -> None:
    """Raises one error naming every shard that is missing, cut short or altered.

    Args:
        data_folder: the folder that holds ``index.json``; a path or a URL.
        entries: the shards, as the index lists them.
        full: compare hashes too, not only sizes, and name the samples that were altered.
    """
    folder = locate(data_folder) / SHARD_FOLDER
    sizes = storage.list_sizes(folder)
    problems = []
    for entry in entries:
        name = f"{entry['name']}.tar"
        if f"{entry['name']}.json" not in sizes:
            problems.append(f"{entry['name']}.json is missing, the receipt of {name}")
        if name not in sizes:
            problems.append(f"{name} is missing")
        elif sizes[name] != entry["num_bytes"]:
            problems.append(f"{name} has {sizes[name]:,} bytes, {entry['num_bytes']:,} were written")
        elif full:
            problems += _altered(folder, entry)
    raise_problems(f"shards in {folder}", problems, REMEDY)


def _altered(folder: Folder, entry: IndexEntry) -> list[str]:
    name = f"{entry['name']}.tar"
    found = []
    try:
        read_samples_table(folder, entry)
    except UserError:
        found.append(f"{entry['name']}.json was altered, the receipt of {name}")
    if storage.sha256(folder / name) == entry["sha256"]:
        return found
    damaged = [item.key for item in _damaged_samples(folder, entry, None) if item.key] if not found else []
    where = f" (sample {', '.join(map(repr, damaged))})" if damaged else " (outside of its samples)"
    return [*found, f"{name} was altered{where}: its SHA-256 is not the recorded {entry['sha256'][:12]}…"]


@dataclass(frozen=True)
class Damage:
    """A problem of a sample, or of a whole shard where ``key`` is empty."""

    shard: str
    key: str
    reason: str

    def __str__(self) -> str:
        return f"shard {self.shard}.tar: " + (f"sample {self.key!r} {self.reason}" if self.key else self.reason)


def verify_samples(
    data_folder: Location,
    split: str,
    shards: Collection[str] | None = None,
    keys: Collection[str] | None = None,
) -> list[Damage]:
    """Reads samples of a split, compares their hashes, and returns everything that is damaged.

    Args:
        data_folder: the folder that holds ``index.json``; a path or a URL.
        split: ``train``, ``valid`` or ``text``.
        shards: names of shards without suffix; None for all.
        keys: ids of utterances; None for all of these shards.

    Raises:
        UserError: the index is missing, or the split has no shard or utterance of such a name.
    """
    folder = locate(data_folder) / SHARD_FOLDER
    entries = load_index(data_folder)["splits"].get(split, [])
    if unknown := sorted(set(shards or ()) - {entry["name"] for entry in entries}):
        raise UserError(f"{folder}: split {split!r} has no shard {', '.join(unknown)}; it has {len(entries)} shards")
    damaged: list[Damage] = []
    missing = set(keys or ())
    is_unread = False
    for entry in entries:
        if shards is not None and entry["name"] not in shards:
            continue
        found = _damaged_samples(folder, entry, keys, missing)
        is_unread |= any(not item.key for item in found)
        damaged += found
    if missing and not is_unread:
        raise UserError(f"{folder}: there is no utterance {', '.join(sorted(missing))} in split {split!r}")
    return damaged


def _damaged_samples(
    folder: Folder, entry: IndexEntry, keys: Collection[str] | None, missing: set[str] | None = None
) -> list[Damage]:
    """Damage of the samples named by ``keys``, or of all; keys that were found are taken out of ``missing``."""
    name, path = entry["name"], folder / f"{entry['name']}.tar"
    try:
        table = read_samples_table(folder, entry)
    except UserError as error:
        return [Damage(name, "", str(error))]
    if not storage.exists(path):
        return [Damage(name, "", "is missing")]
    damaged = []
    num_bytes = storage.size(path)
    if num_bytes != entry["num_bytes"]:
        damaged.append(Damage(name, "", f"has {num_bytes:,} bytes, {entry['num_bytes']:,} were written"))
    for number, key in enumerate(table.keys):
        if keys is not None and key not in keys:
            continue
        (missing or set()).discard(key)
        offset, wanted = table.range_of(number)
        try:
            # Some storages raise an error for a range beyond the end.
            content = storage.read_range(path, offset, wanted) if offset < num_bytes else b""
            table.decode(number, content, check_hash=True)
        except SampleError as error:
            damaged.append(Damage(name, key, str(error)))
    return damaged
