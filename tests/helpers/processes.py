"""Which processes there are below one, and which of them are Ray's workers at a task, as /proc tells."""

from __future__ import annotations

from pathlib import Path


def descendants(process_id: int) -> set[int]:
    """All processes below one."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found: set[int] = set()
    grown = {process_id}
    while grown:
        grown = {child for child, parent in parents.items() if parent in grown} - found
        found |= grown
    return found


def command_of(process_id: int) -> bytes:
    """A process's command line, or the name that it gave itself; empty where it has ended."""
    try:
        return Path(f"/proc/{process_id}/cmdline").read_bytes()
    except OSError:
        return b""


def busy_ray_workers(process_id: int) -> list[int]:
    """Ray's workers below a process that do a task of ours just now."""
    return [child for child in descendants(process_id) if command_of(child).startswith(b"ray::work")]
