"""What tests read from Markdown pages."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from repository import ROOT

FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def commands_of(page: Path) -> list[list[str]]:
    """The words of every command in a page's ``bash`` blocks, comments left out, continued lines joined."""
    return [
        shlex.split(line, comments=True)
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]


def changed_by(page: Path) -> dict[str, str]:
    """Sources by path: new ones, below a heading that names them, and those that a page's ``diff`` blocks change.

    A line that begins with ``@@`` stands for any number of lines. What is between two of them must be in the file once.
    """
    text = page.read_text(encoding="utf-8")
    found = dict(
        re.findall(r'^## \d\. [^\n]*`(lst/\S+\.py)`\n\n```python\n(""".*?)```', text, re.DOTALL | re.MULTILINE)
    )
    for place, block in re.findall(r'```diff title="(\S+)"\n(.*?)```', text, re.DOTALL):
        source = found.get(place) or (ROOT / place).read_text(encoding="utf-8")
        for change in filter(None, re.split(r"^@@.*\n", block, flags=re.MULTILINE)):
            lines = [line if line.strip() else " \n" for line in change.splitlines(keepends=True)]
            before, after = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
            assert source.count(before) == 1, f"{page.name}: {place} has this {source.count(before)} times:\n{before}"
            source = source.replace(before, after)
        found[place] = source
    return found


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
