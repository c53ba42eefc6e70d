"""Files of text alone that tests prepare, and the words that prepare them."""

from __future__ import annotations

import json
from pathlib import Path

from lst.data.synthesis.stories import generate_stories


def write_stories(folder: Path, count: int = 60) -> Path:
    """Stories in two files, plain text and JSON lines; one story is in both."""
    stories = [story.text for story in generate_stories(count, 0)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.txt").write_text("".join(f"{story}\n" for story in stories[: count // 2]))
    more = [*stories[count // 2 :], stories[0]]
    (folder / "b.jsonl").write_text("".join(json.dumps({"text": story}) + "\n" for story in more))
    return folder


def prepare_words(run: Path, text: Path | str, *more: str) -> list[str]:
    """The words of ``lst prepare`` for shards of a few stories."""
    return [
        *("prepare", "corpus=none", f"text={text}", f"run_dir={run}", "num_workers=1"),
        *("tokenizer.text_vocab_size=320", "data.text.shard_bytes=1024", "data.text.valid_share=0.2", *more),
    ]
