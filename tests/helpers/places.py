"""What lies at a place, hidden files and unfinished ones too."""

from __future__ import annotations

from pathlib import Path

import fsspec

from lst.storage import Folder


def names_below(place: Folder) -> list[str]:
    """Names of all files below a folder or a URL, from there on, in order; none where nothing is there."""
    if isinstance(place, Path):
        return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())
    system, root = fsspec.core.url_to_fs(str(place))
    system.invalidate_cache()
    return sorted(name.removeprefix(root.rstrip("/")).lstrip("/") for name in system.find(root))
