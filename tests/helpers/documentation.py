"""What tests read from Markdown pages."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def commands_of(page: Path) -> list[list[str]]:
    """The words of every command in a page's ``bash`` blocks, comments left out, continued lines joined."""
    return [
        shlex.split(line, comments=True)
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]


def prose_of(text: str) -> str:
    """A page's text without its code blocks, whose brackets are no links."""
    return FENCED.sub("", text)


def anchors_of(text: str) -> set[str]:
    """The anchors of a page's headings, as MkDocs makes them."""
    found = set()
    for line in re.findall(r"^#+ (.*)$", prose_of(text), re.MULTILINE):
        named = re.search(r"\{ #([\w-]+) \}", line)
        plain = re.sub(r"[^\w\s-]", "", line).strip().lower()
        found.add(named[1] if named else re.sub(r"[-\s]+", "-", plain))
    return found
