"""Builds a benchmark's folder: speaks, checks, encodes and aligns every clip. Stopped and run again, it goes on."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from lst import storage
from lst.configs.schema import Config
from lst.data.alignment.stamps import spoken_files
from lst.data.audio import read_audio
from lst.data.config import AlignConfig
from lst.data.corpora import ManifestRow
from lst.data.corpora.manifest import row_record
from lst.data.prepare.shard_tasks import ShardTask, ShardWork, make_shards
from lst.data.prepared import LEFT_OUT_FILE, MANIFEST_FILE, QUESTIONS_FILE, UNITS_FILE, load_units
from lst.data.questions import Question
from lst.data.shards import INDEX_FILE, SHARD_FOLDER, Index, LeftOut, index_entry, shard_name, write_index
from lst.data.shards import VERSION as SHARD_VERSION
from lst.data.synthesis import default_cache_dir
from lst.data.synthesis.voices import write_cached
from lst.data.utterance import TimedWord
from lst.errors import ProblemsError
from lst.evaluation.benchmark.card import MadeOf, make_card, misheard, needs_contexts
from lst.evaluation.benchmark.clips import Measures, measure_clip
from lst.evaluation.benchmark.formats import AUDIO_FOLDER, CARD_FILE, CLIPS_FILE, MISHEARD_FILE, PAGE_FILE, Clip
from lst.evaluation.benchmark.opened import is_whole
from lst.evaluation.benchmark.page import card_page
from lst.evaluation.benchmark.plan import BuildPlan
from lst.evaluation.benchmark.recognise import hear, spoken_keys, word_errors
from lst.evaluation.benchmark.text_items import TextItem
from lst.parallel import ExecutorOptions, warm_up_workers
from lst.progress import Progress, say
from lst.storage.locks import folder_lock
from lst.tokenizers.speech import unit_places

SPLIT = "questions"
# Of the index's own settings: a benchmark's are in its card.
_NO_SETTINGS: dict[str, Any] = {"data": {"align": {}}, "tokenizer": {}}
# The draw of other contexts is none of the other draws of the seed.
_SWAPS = 0x5A4B


def build_benchmark(config: Config, plan: BuildPlan) -> Path:
    """Builds a benchmark, or returns at once where it is there; the same command goes on where it was stopped.

    Args:
        config: of the command; ``out`` is the folder.
        plan: what is built.

    Raises:
        UserError: the folder holds another benchmark, or no item is left.
    """
    folder = Path(str(config.out))
    with folder_lock(folder, work="built", remedy="or build into another out=FOLDER"):
        if storage.exists(folder / INDEX_FILE):
            if is_whole(folder, plan.made_from):
                say(f"the benchmark is whole in {folder}: nothing to do")
                return folder
            say(f"the benchmark in {folder} is damaged: what is damaged is made again")
            storage.remove(folder / INDEX_FILE)
        storage.clear_partial_files(folder, folder / SHARD_FOLDER, folder / AUDIO_FOLDER)
        _build(config, plan, folder, load_units(plan.units_file, unit_places(config.tokenizer)).frame_rate_hz)
    return folder


def _build(config: Config, plan: BuildPlan, folder: Path, frame_rate_hz: int) -> None:
    for line in plan.cost(config.num_workers):
        say(line)
    paths = (
        _recorded_files(plan) if plan.is_recorded else spoken_files(plan.jobs, config.data.align, config.num_workers)
    )
    clips = _clips(plan, _take_audio(paths, folder), folder)
    _hear(config, plan, folder, clips)
    storage.write_jsonl(folder / CLIPS_FILE, [{**clip} for clip in clips])
    faults = {clip["id"]: clip["fault"] for clip in clips if clip["fault"]}
    sound = [item for item in plan.items if not faults.keys() & item.parts.keys()]
    spoken = {name for item in sound for name in item.parts}
    rows = [_row(clip, folder, plan.is_recorded) for clip in clips if clip["id"] in spoken]
    relative = [{**row_record(row), "path": str(Path(row.path).relative_to(folder))} for row in rows]
    storage.write_jsonl(folder / MANIFEST_FILE, relative)
    storage.write_bytes(folder / UNITS_FILE, plan.units_file.read_bytes())
    work = _make_shards(config, plan, folder, rows, frame_rate_hz)
    unaligned = {one["id"]: one["reason"] for receipt in work.receipts.values() for one in receipt["skipped"]}
    faults |= unaligned
    items = [item for item in sound if not unaligned.keys() & item.parts.keys()]
    left_out: list[LeftOut] = [{"id": one.id or one.place, "reason": str(one)} for one in plan.listed.problems]
    for item in plan.items:
        if own := [f"{name}: {faults[name]}" for name in item.parts if name in faults]:
            left_out.append({"id": item.id, "reason": "; ".join(own)})
    storage.write_jsonl(folder / LEFT_OUT_FILE, left_out)
    contexts = {voice_of(item, plan.num_voices): set[str]() for item in plan.items}
    for item in items:
        contexts[voice_of(item, plan.num_voices)].add(item.context)
    if min(map(len, contexts.values())) < (2 if needs_contexts(plan.items) else 1):
        raise ProblemsError(
            f"{folder}: {len(items)} of {len(plan.items)} items are left, too few to ask",
            [f"{one['id']}: {one['reason']}" for one in left_out],
        )
    storage.write_jsonl(
        folder / QUESTIONS_FILE, [asdict(one) for one in questions_of(items, config.seed, plan.num_voices)]
    )
    _finish(config, plan, folder, items, clips, left_out, work, frame_rate_hz)


def _row(clip: Clip, folder: Path, is_recorded: bool) -> ManifestRow:
    """The row of a clip. Recordings are scored as whole: they are one word, of which nothing is known."""
    row = ManifestRow(
        clip["id"], folder / clip["path"], clip["spoken"], clip["speaker"], SPLIT, duration_s=clip["duration_s"]
    )
    if not is_recorded:
        return row
    return replace(row, text="unknown", words=(TimedWord("<unk>", 0.0, clip["duration_s"]),))


def _recorded_files(plan: BuildPlan) -> list[Path]:
    """The recordings as FLAC of 16 kHz in the cache of voices, in the order of the utterances."""
    found = []
    with Progress(len(plan.said), "read recordings", unit="recording") as progress:
        for said in plan.said:
            source = plan.listed.recordings[said.id]
            path = default_cache_dir() / f"{storage.sha256(source)}.flac"
            if not path.exists():
                write_cached(path, read_audio(source))
            found.append(path)
            progress.advance()
    return found


def _hear(config: Config, plan: BuildPlan, folder: Path, clips: Sequence[Clip]) -> None:
    """Adds to each clip what the recogniser hears, and lists those that it understands too badly."""
    if plan.recogniser is None:
        return
    heard = hear({clip["sha256"]: folder / clip["path"] for clip in clips}, plan.recogniser, config.num_workers)
    for clip in clips:
        words, text = spoken_keys(clip["spoken"]), heard[clip["sha256"]]
        clip["heard"], clip["num_words"] = text, len(words)
        clip["num_word_errors"] = word_errors(words, spoken_keys(text))
    storage.write_jsonl(folder / MISHEARD_FILE, [{**one} for one in misheard(clips, config.benchmark.max_wer)])


def _take_audio(paths: Sequence[Path], folder: Path) -> list[Path]:
    """The files of the cache, copied into the folder; others there are of an earlier build, and are removed."""
    place = folder / AUDIO_FOLDER
    for name in storage.list_sizes(place).keys() - {path.name for path in paths}:
        storage.remove(place / name)
    for path in dict.fromkeys(paths):
        target, content = place / path.name, path.read_bytes()
        if not (target.exists() and target.read_bytes() == content):
            storage.write_bytes(target, content)
    return [place / path.name for path in paths]


def _clips(plan: BuildPlan, paths: Sequence[Path], folder: Path) -> list[Clip]:
    """Measures every file once, and judges every utterance."""
    known: dict[Path, tuple[Measures, str]] = {}
    clips: list[Clip] = []
    with Progress(len(paths), "check clips", unit="clip") as progress:
        for said, path in zip(plan.said, paths, strict=True):
            if path not in known:
                known[path] = measure_clip(read_audio(path), said.spoken), storage.sha256(path)
            found, digest = known[path]
            clips.append(
                {
                    "id": said.id,
                    "text": said.text,
                    "spoken": said.spoken,
                    "speaker": said.speaker.name,
                    "path": str(path.relative_to(folder)),
                    "sha256": digest,
                    **found._asdict(),  # type: ignore[typeddict-item]
                }
            )
            progress.advance()
    return clips


def _make_shards(
    config: Config, plan: BuildPlan, folder: Path, rows: Sequence[ManifestRow], frame_rate_hz: int
) -> ShardWork:
    """Units and aligned words of the rows, as shards; those that are there of this build are kept."""
    size, host, data = config.data.shard_utterances, socket.gethostname(), config.data
    if plan.is_recorded:
        data = replace(data, align=AlignConfig(method="manifest"))
    tasks = [
        ShardTask(
            folder,
            shard_name(SPLIT, number),
            storage.fingerprint([plan.made_from, [(row.id, row.duration_s) for row in rows[start : start + size]]]),
            rows[start : start + size],
            plan.units_sha256,
            frame_rate_hz,
            data,
            unit_places(config.tokenizer),
            host,
        )
        for number, start in enumerate(range(0, len(rows), size))
    ]
    names = {f"{task.name}{suffix}" for task in tasks for suffix in (".tar", ".json")}
    for name in storage.list_sizes(folder / SHARD_FOLDER).keys() - names:
        storage.remove(folder / SHARD_FOLDER / name)
    if config.num_workers > 1 and len(tasks) > 1:
        warm_up_workers("lst.data.prepare.worker_imports")
    return make_shards(tasks, None, ExecutorOptions("local", config.num_workers))


def voice_of(item: TextItem, num_voices: int) -> str:
    """The voice that says an item, as its id ends; empty where one voice alone says each."""
    return item.id.rpartition("--")[2] if num_voices > 1 else ""


def questions_of(items: Sequence[TextItem], seed: int, num_voices: int = 1) -> list[Question]:
    """The items by ids of utterances; each one's other context is its own, or that of another item, drawn by the seed.

    Items are shuffled into a circle, and each takes the next context that differs from its own. Where several voices
    say each item, it is one of the same voice.
    """
    circle = np.random.default_rng([_SWAPS, seed]).permutation(len(items))
    others: Mapping[str, str] = {
        items[here].id: next(
            (
                f"{other.id}-context"
                for step in range(1, len(items))
                if (other := items[circle[(place + step) % len(items)]]).context != items[here].context
                and voice_of(other, num_voices) == voice_of(items[here], num_voices)
            ),
            "",
        )
        for place, here in enumerate(circle)
    }
    return [
        Question(
            item.id,
            item.stratum,
            f"{item.id}-context" if item.context else "",
            f"{item.id}-other" if item.other else others[item.id],
            [f"{item.id}-{number}" for number in range(len(item.endings))],
            item.label,
        )
        for item in items
    ]


def _finish(
    config: Config,
    plan: BuildPlan,
    folder: Path,
    items: Sequence[TextItem],
    clips: Sequence[Clip],
    left_out: Sequence[LeftOut],
    work: ShardWork,
    frame_rate_hz: int,
) -> None:
    """Writes the card, the page and, last, the index."""
    names = [MANIFEST_FILE, QUESTIONS_FILE, LEFT_OUT_FILE, UNITS_FILE]
    hashes = {name: storage.sha256(folder / name) for name in names}
    own = [CLIPS_FILE] if plan.recogniser is None else [CLIPS_FILE, MISHEARD_FILE]
    made = MadeOf(items, clips, left_out, {**hashes, **{name: storage.sha256(folder / name) for name in own}})
    card = make_card(config, plan, made, frame_rate_hz)
    storage.write_json(folder / CARD_FILE, card)
    storage.write_text(folder / PAGE_FILE, card_page(card, clips, left_out))
    index: Index = {
        "version": SHARD_VERSION,
        "description": f"{plan.name} ({len(items):,} items), {card['speech']}",
        "is_synthesised": not plan.is_recorded,
        "made_from": _NO_SETTINGS,  # type: ignore[typeddict-item]
        "units_sha256": plan.units_sha256,
        "text_sha256": "",
        "vocabulary": "",
        "aligner": config.data.align.method,
        "num_left_out": len(left_out),
        "num_unaligned": sum(len(receipt["skipped"]) for receipt in work.receipts.values()),
        "files": hashes,
        "splits": {SPLIT: [index_entry(work.receipts[name]) for name in sorted(work.receipts)]},
    }
    write_index(folder, index)
    say(
        f"built {folder}: {len(items):,} items of {len(clips):,} clips, {card['speech_s'] / 60:.1f} min of speech; "
        f"{len(left_out)} items left out (see {folder / LEFT_OUT_FILE})"
    )
