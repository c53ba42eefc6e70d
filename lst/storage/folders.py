"""Local folders that are whole or absent: made beside their place, renamed into it, removed with all they hold."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from lst.storage.files import STAGING_SUFFIX, fsync_folder, full_disk_named


@contextlib.contextmanager
def staged_folder(folder: Path) -> Iterator[Path]:
    """Context manager: an empty folder that takes the place of ``folder`` on success; else nothing changes.

    One process at a time stages a folder: what an earlier one left of it is removed.

    Raises:
        UserError: the disk is full.
    """
    staging = folder.with_name(f".{folder.name}{STAGING_SUFFIX}")
    remove_folder(staging)
    try:
        with full_disk_named(folder):
            staging.mkdir(parents=True)
            yield staging
            remove_folder(folder)
            os.replace(staging, folder)
            fsync_folder(folder.parent)
    finally:
        remove_folder(staging)


def remove_folder(folder: Path) -> None:
    """Removes a folder with all that it holds. An absent one is no error."""
    shutil.rmtree(folder, ignore_errors=True)


def copy_folder(source: Path, target: Path) -> None:
    """Copies a folder, whole or not at all; one that is there already is replaced."""
    with staged_folder(target) as staging:
        shutil.copytree(source, staging, dirs_exist_ok=True)
