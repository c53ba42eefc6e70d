"""The project's own manifest (see ``lst.data.corpora.manifest``): a file, or a folder with one at its top."""

from __future__ import annotations

from pathlib import Path

from lst.data.corpora.layouts.listing import PLAIN, Found, Layout, Listing, audio_without_transcript
from lst.data.corpora.layouts.ljspeech import is_ljspeech
from lst.data.corpora.manifest import MANIFEST_SUFFIXES, parse_manifest
from lst.errors import UserError


def tables(listing: Listing) -> list[Path]:
    """Tables and JSON lines at the top that could be manifests."""
    found = [file for file in listing.top if file.suffix.lower() in MANIFEST_SUFFIXES and not is_ljspeech(file)]
    return [file for file in found if file.suffix.lower() != ".jsonl" or listing.json_kind(file) == PLAIN]


def has_named_manifest(listing: Listing) -> bool:
    """Whether a folder has a file called manifest, which comes before any layout."""
    return listing.file is None and any(file.stem.lower() == "manifest" for file in tables(listing))


def matches(listing: Listing) -> bool:
    return listing.file is not None or bool(tables(listing))


def load(listing: Listing) -> Found:
    if listing.file is not None:
        return parse_manifest(listing.file)
    found = tables(listing)
    manifest = _only([file for file in found if file.stem.lower() == "manifest"] or found, listing.root)
    rows, problems = parse_manifest(manifest)
    used = [row.path for row in rows] + [problem.path for problem in problems if problem.path is not None]
    remedy = f"{manifest.name} has no row for it; to use that file's rows alone, name {manifest} as the corpus"
    return rows, problems + audio_without_transcript(listing.root, listing.files, used, remedy)


def _only(found: list[Path], folder: Path) -> Path:
    """The only table; ``UserError`` when there are several or none."""
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(f"corpus {folder} has no manifest at its top (*{', *'.join(MANIFEST_SUFFIXES)}).")
    names = ", ".join(table.name for table in found)
    raise UserError(f"corpus {folder} holds several tables: {names}. Name one of them as the corpus: {found[0]}")


LAYOUT = Layout(PLAIN, f"a table at its top (*{', *'.join(MANIFEST_SUFFIXES)})", matches, load)
