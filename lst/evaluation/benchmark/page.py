"""The data card of a benchmark for people, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from lst.data.shards import LeftOut
from lst.errors import one_line
from lst.evaluation.benchmark.clips import LEAST_S_A_LETTER, LOWEST_DB, MOST_CLIPPED_SHARE, MOST_S_A_LETTER
from lst.evaluation.benchmark.formats import BenchmarkCard, Clip

_MOST_SHOWN = 20


def card_page(card: BenchmarkCard, clips: Sequence[Clip], left_out: Sequence[LeftOut]) -> str:
    """What a benchmark holds, how it was made, what was checked and what is left out."""
    rows = {
        "items": f"{card['num_items']:,}, {card['num_left_out']} left out",
        "endings an item": " or ".join(map(str, card["num_endings"])),
        "chance": f"{card['chance']:.1%}",
        "made from": f"{card['items_file']} (SHA-256 {card['items_sha256'][:12]}…)",
        "kinds of items": ", ".join(f"{name} {count:,}" for name, count in card["strata"].items()) or "none named",
        "context": f"yes; `swap` takes {card['other_contexts']}" if card["has_context"] else "none",
        "speech": card["speech"],
        "text": f"read aloud as `spoken` in clips.jsonl (normaliser: {card['normaliser']})",
        "clips": f"{card['num_clips']:,} in {card['num_files']:,} FLAC files, {card['speech_s'] / 60:.1f} min",
        "units": f"{card['unit_rate_hz']} Hz, tokenizer {card['units_sha256'][:12]}…",
    }
    levels = [clip["level_db"] for clip in clips]
    lines = [
        f"# Spoken {card['name']}",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {_cell(value)} |" for key, value in rows.items()),
        "",
        "Contexts and endings were synthesised separately, all of an item by one voice with equal settings.",
        "",
        f"Checks of every clip: {LEAST_S_A_LETTER} to {MOST_S_A_LETTER} s a letter, a level of {LOWEST_DB:.0f} dB or "
        f"more, at most {MOST_CLIPPED_SHARE:.2%} of samples clipped. {card['num_faulty_clips']} of "
        f"{card['num_clips']:,} clips failed. Levels lie between {min(levels):.1f} and {max(levels):.1f} dB.",
        "",
        "SHA-256 of every file: audio in `clips.jsonl`, shards in `index.json`, all others in `benchmark.json`.",
    ]
    if left_out:
        lines += ["", "## Items that are left out", ""]
        lines += [f"- {_cell(one['id'])}: {_cell(one['reason'])}" for one in left_out[:_MOST_SHOWN]]
        if len(left_out) > _MOST_SHOWN:
            lines.append(f"- … and {len(left_out) - _MOST_SHOWN} more, all in `left_out.jsonl`")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """A text without what Markdown and HTML read as marks."""
    return one_line(text).replace("|", "\\|").replace("<", "&lt;")
