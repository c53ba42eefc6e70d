"""The data card of a benchmark for people, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from lst.data.shards import LeftOut
from lst.errors import one_line
from lst.evaluation.benchmark.card import misheard
from lst.evaluation.benchmark.clips import LEAST_S_A_LETTER, LOWEST_DB, MOST_CLIPPED_SHARE, MOST_S_A_LETTER
from lst.evaluation.benchmark.formats import CLIPS_FILE, TEXTS_FILE, BenchmarkCard, Clip
from lst.evaluation.benchmark.opened import headlines_of

_MOST_SHOWN = 20


def card_facts(card: BenchmarkCard) -> dict[str, str]:
    """What a benchmark holds and how it was made: a line each, by its head."""
    is_spoken = bool(card["num_clips"])
    rows = {
        "items": f"{card['num_items']:,}, {card['num_left_out']} left out",
        "endings an item": " or ".join(map(str, card["num_endings"])),
        "chance": f"{card['chance']:.1%}",
        "made from": f"{card['items_file']} (SHA-256 {card['items_sha256'][:12]}…)",
        "kinds of items": ", ".join(f"{name} {count:,}" for name, count in card["strata"].items()) or "none named",
        "context": f"yes; `swap` takes {card['other_contexts']}" if card["has_context"] else "none",
        "speech": card["speech"],
        "voices an item": str(card.get("num_voices", 1)),
        "licence of the engine": ", ".join(f"{name}: {text}" for name, text in card.get("licences", {}).items()),
        "scored by": ", ".join(f"{direction} {score}" for direction, score in headlines_of(card).items()),
        "text": f"as `spoken` in {CLIPS_FILE if is_spoken else TEXTS_FILE} (normaliser: {card['normaliser']})",
    }
    if is_spoken:
        rows["clips"] = f"{card['num_clips']:,} in {card['num_files']:,} FLAC files, {card['speech_s'] / 60:.1f} min"
        rows["units"] = f"{card['unit_rate_hz']} Hz, tokenizer {card['units_sha256'][:12]}…"
    return {key: value for key, value in rows.items() if value}


def card_page(card: BenchmarkCard, clips: Sequence[Clip], left_out: Sequence[LeftOut]) -> str:
    """What a benchmark holds, how it was made, what was checked and what is left out."""
    title = "Spoken" if card["num_clips"] else "Written"
    lines = [
        f"# {title} {card['name']}",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {_cell(value)} |" for key, value in card_facts(card).items()),
        *(_spoken(card, clips) if clips else []),
        *_heard(card, clips),
    ]
    if left_out:
        lines += ["", "## Items that are left out", ""]
        lines += [f"- {_cell(one['id'])}: {_cell(one['reason'])}" for one in left_out[:_MOST_SHOWN]]
        if len(left_out) > _MOST_SHOWN:
            lines.append(f"- … and {len(left_out) - _MOST_SHOWN} more, all in `left_out.jsonl`")
    return "\n".join(lines) + "\n"


def checks(card: BenchmarkCard) -> str:
    """What every clip was checked for, and how many failed."""
    return (
        f"Checks of every clip: {LEAST_S_A_LETTER} to {MOST_S_A_LETTER} s a letter, a level of {LOWEST_DB:.0f} dB or "
        f"more, at most {MOST_CLIPPED_SHARE:.2%} of samples clipped. {card['num_faulty_clips']} of "
        f"{card['num_clips']:,} clips failed."
    )


def _spoken(card: BenchmarkCard, clips: Sequence[Clip]) -> list[str]:
    """How clips were made and checked."""
    levels = [clip["level_db"] for clip in clips]
    return [
        "",
        how_spoken(card),
        "",
        f"{checks(card)} Levels lie between {min(levels):.1f} and {max(levels):.1f} dB.",
        "",
        "SHA-256 of every file: audio in `clips.jsonl`, shards in `index.json`, all others in `benchmark.json`.",
    ]


def how_spoken(card: BenchmarkCard) -> str:
    """How the clips came about."""
    if card["name"] == "consistency":
        return "Both halves of a sentence were synthesised by themselves; one ending's voice or gain is another's."
    if card["name"] == "pairs":
        return "Recordings of a folder, matched by their names or metadata; each is scored as a whole."
    return "Contexts and endings were synthesised separately, all of an item by one voice with equal settings."


def _heard(card: BenchmarkCard, clips: Sequence[Clip]) -> list[str]:
    """Word errors of each voice, and the clips that were understood worst; nothing where nobody heard them."""
    if "recogniser" not in card:
        return []
    lines = [
        "",
        f"## What {card['recogniser']} heard",
        "",
        f"| voice | clips | words | word errors | clips above {card['max_wer']:.0%} |",
        "|---|---|---|---|---|",
    ]
    for name, one in card["voices"].items():
        wer = one["num_word_errors"] / max(one["num_words"], 1)
        lines.append(f"| {name} | {one['num_clips']:,} | {one['num_words']:,} | {wer:.1%} | {one['num_misheard']:,} |")
    listed = misheard(clips, card["max_wer"])
    lines += ["", "Its errors leave no item out; all clips above the limit are in `misheard.jsonl`.", ""]
    return [*lines, *(f"- {_cell(one['id'])}: {_cell(one['reason'])}" for one in listed[:_MOST_SHOWN])]


def _cell(text: str) -> str:
    """A text without what Markdown and HTML read as marks."""
    return one_line(text).replace("|", "\\|").replace("<", "&lt;")
