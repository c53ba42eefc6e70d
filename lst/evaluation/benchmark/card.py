"""The card of a benchmark: what it was made of, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from lst.configs.schema import Config
from lst.data.recordings.recognisers import load_recogniser
from lst.data.shards import LeftOut
from lst.evaluation.benchmark.formats import BenchmarkCard, Clip, VoiceErrors
from lst.evaluation.benchmark.plan import BuildPlan, licences_of
from lst.evaluation.benchmark.text_items import TextItem


@dataclass(frozen=True)
class MadeOf:
    """What a build has made.

    Attributes:
        items: that are asked.
        clips: all of them, faulty ones too.
        left_out: items that are not asked.
        files: SHA-256 by name.
    """

    items: Sequence[TextItem]
    clips: Sequence[Clip]
    left_out: Sequence[LeftOut]
    files: dict[str, str]


def needs_contexts(items: Sequence[TextItem]) -> bool:
    """Whether the other context of some item is another item's."""
    return any(item.context and not item.other for item in items)


def other_contexts(items: Sequence[TextItem], seed: int) -> str:
    """What ``swap`` swaps the context with, in words."""
    if not items[0].context:
        return ""
    if not needs_contexts(items):
        return "the same words in the changed voice"
    return f"the context of another item, drawn by seed={seed}"


def make_card(config: Config, plan: BuildPlan, made: MadeOf, frame_rate_hz: int) -> BenchmarkCard:
    """The card of a spoken or recorded benchmark."""
    items, clips = made.items, made.clips
    strata = sorted({item.stratum for item in items} - {""})
    card: BenchmarkCard = {
        "version": 1,
        "name": plan.name,
        "made_from": plan.made_from,
        "items_file": plan.listed.source,
        "items_sha256": plan.listed.sha256,
        "num_items": len(items),
        "num_left_out": len(made.left_out),
        "num_endings": sorted({len(item.endings) for item in items}),
        "chance": sum(1 / len(item.endings) for item in items) / len(items),
        "has_context": bool(items[0].context),
        "other_contexts": other_contexts(items, config.seed),
        "strata": {stratum: sum(item.stratum == stratum for item in items) for stratum in strata},
        "speech": plan.speech,
        "speakers": [asdict(speaker) for speaker in dict.fromkeys(said.speaker for said in plan.said)],
        "normaliser": plan.read_aloud,
        "seed": config.seed,
        "unit_rate_hz": frame_rate_hz,
        "units_sha256": plan.units_sha256,
        "num_clips": len(clips),
        "num_faulty_clips": sum(bool(clip["fault"]) for clip in clips),
        "num_files": len({clip["path"] for clip in clips}),
        "speech_s": round(sum(clip["duration_s"] for clip in clips), 3),
        "files": made.files,
        "headlines": plan.headlines,
        "num_voices": plan.num_voices,
        "licences": licences_of(plan.said),
    }
    if plan.recogniser is not None:
        card["recogniser"] = load_recogniser(plan.recogniser).name
        card["max_wer"] = config.benchmark.max_wer
        card["voices"] = voice_errors(clips, config.benchmark.max_wer)
    return card


def wer_of(num_errors: int, num_words: int) -> float:
    """Word errors a word; of no words, whatever was heard is an error each."""
    return num_errors / max(num_words, 1)


def misheard(clips: Sequence[Clip], max_wer: float) -> list[LeftOut]:
    """Clips with more word errors than allowed, each with what was heard."""
    return [
        {
            "id": clip["id"],
            "reason": f"word errors {wer:.0%}, above {max_wer:.0%}: said {clip['spoken']!r}, heard {clip['heard']!r}",
        }
        for clip in clips
        if (wer := wer_of(clip["num_word_errors"], clip["num_words"])) > max_wer
    ]


def voice_errors(clips: Sequence[Clip], max_wer: float) -> dict[str, VoiceErrors]:
    """Errors of each speaker."""
    found: dict[str, VoiceErrors] = {}
    for name in dict.fromkeys(clip["speaker"] for clip in clips):
        own = [clip for clip in clips if clip["speaker"] == name]
        found[name] = {
            "num_clips": len(own),
            "num_misheard": len(misheard(own, max_wer)),
            "num_words": sum(clip["num_words"] for clip in own),
            "num_word_errors": sum(clip["num_word_errors"] for clip in own),
        }
    return found
