"""The project's own manifest (see ``lst.data.corpora.manifest``): a file, or a folder with one at its top."""

from __future__ import annotations

from pathlib import Path

from lst.data.corpora.layouts.listing import PLAIN, Found, Layout, Listing
from lst.data.corpora.layouts.ljspeech import is_ljspeech
from lst.data.corpora.manifest import ALIASES, JSON_SUFFIXES, MANIFEST_SUFFIXES, REQUIRED, parse_manifest
from lst.data.corpora.records import first_json_object
from lst.errors import UserError


def tables(listing: Listing) -> list[Path]:
    """Tables and JSON lines at the top of a folder that could be manifests, or the named file."""
    if listing.file is not None:
        return [listing.file]
    return [file for file in listing.top if _is_table(listing, file)]


def _is_table(listing: Listing, file: Path) -> bool:
    name = file.name.lower()
    if name.endswith(".jsonl"):
        return listing.json_kind(file) == PLAIN
    if name.endswith(JSON_SUFFIXES):  # other JSON files are seldom lists
        columns = set(first_json_object(file))
        return listing.json_kind(file) == PLAIN and all(
            columns & set(ALIASES[column]) for column in REQUIRED if listing.needs_text or column != "text"
        )
    return file.suffix.lower() in MANIFEST_SUFFIXES and not is_ljspeech(file)


def has_named_manifest(listing: Listing) -> bool:
    """Whether a folder has a file called manifest; it is then read in preference to any layout."""
    return listing.file is None and any(map(_is_named, tables(listing)))


def _is_named(file: Path) -> bool:
    return file.name.lower().partition(".")[0] == "manifest"


def _read(listing: Listing, candidates: list[Path], found: Found) -> None:
    chosen = [file for file in candidates if _is_named(file)] or candidates
    if len(chosen) > 1:
        names = ", ".join(table.name for table in chosen)
        raise UserError(
            f"corpus {listing.root} holds several tables: {names}. Name one of them as the corpus: {chosen[0]}"
        )
    manifest = chosen[0]
    found.rows, found.problems = parse_manifest(
        manifest, needs_text=listing.needs_text, num_workers=listing.num_workers
    )
    if listing.file is None:
        remedy = f"{manifest.name} has no row for it; to use that file's rows alone, name {manifest} as the corpus"
        found.add_unused(listing.root, listing.each_file, remedy, num_workers=listing.num_workers)


_SUFFIXES = f"*{', *'.join(MANIFEST_SUFFIXES)}"
LAYOUT = Layout(
    PLAIN,
    looked_for=f"a table at its top ({_SUFFIXES})",
    absent=f"no manifest at its top ({_SUFFIXES}).",
    find=tables,
    read=_read,
)
