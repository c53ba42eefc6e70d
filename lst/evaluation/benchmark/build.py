"""Builds a benchmark's folder: speaks, checks, encodes and aligns every clip. Stopped and run again, it goes on."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lst import storage
from lst.configs.schema import Config
from lst.data.alignment.stamps import spoken_files
from lst.data.audio import read_audio
from lst.data.corpora import ManifestRow
from lst.data.corpora.manifest import row_record
from lst.data.prepare.shard_tasks import ShardTask, ShardWork, make_shards
from lst.data.prepared import LEFT_OUT_FILE, MANIFEST_FILE, QUESTIONS_FILE, UNITS_FILE, load_units
from lst.data.questions import Question
from lst.data.shards import INDEX_FILE, SHARD_FOLDER, Index, LeftOut, index_entry, shard_name, write_index
from lst.data.shards import VERSION as SHARD_VERSION
from lst.data.text import NORMALISER
from lst.errors import ProblemsError
from lst.evaluation.benchmark.clips import Measures, measure_clip
from lst.evaluation.benchmark.formats import AUDIO_FOLDER, CARD_FILE, CLIPS_FILE, PAGE_FILE, BenchmarkCard, Clip
from lst.evaluation.benchmark.opened import is_whole
from lst.evaluation.benchmark.page import card_page
from lst.evaluation.benchmark.plan import BuildPlan
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
    paths = spoken_files(plan.jobs, config.data.align, config.num_workers)
    clips = _clips(plan, _take_audio(paths, folder), folder)
    storage.write_jsonl(folder / CLIPS_FILE, [{**clip} for clip in clips])
    faults = {clip["id"]: clip["fault"] for clip in clips if clip["fault"]}
    sound = [item for item in plan.items if not faults.keys() & item.parts.keys()]
    spoken = {name for item in sound for name in item.parts}
    rows = [
        ManifestRow(
            clip["id"], folder / clip["path"], clip["spoken"], clip["speaker"], SPLIT, duration_s=clip["duration_s"]
        )
        for clip in clips
        if clip["id"] in spoken
    ]
    relative = [{**row_record(row), "path": str(Path(row.path).relative_to(folder))} for row in rows]
    storage.write_jsonl(folder / MANIFEST_FILE, relative)
    storage.write_bytes(folder / UNITS_FILE, plan.units_file.read_bytes())
    work = _make_shards(config, plan, folder, rows, frame_rate_hz)
    unaligned = {one["id"]: one["reason"] for receipt in work.receipts.values() for one in receipt["skipped"]}
    faults |= unaligned
    items = [item for item in sound if not unaligned.keys() & item.parts.keys()]
    left_out: list[LeftOut] = [{"id": one.id or one.place, "reason": str(one)} for one in plan.problems]
    for item in plan.items:
        if own := [f"{name}: {faults[name]}" for name in item.parts if name in faults]:
            left_out.append({"id": item.id, "reason": "; ".join(own)})
    storage.write_jsonl(folder / LEFT_OUT_FILE, left_out)
    if len({item.context for item in items}) < (2 if plan.items[0].context else 1):
        raise ProblemsError(
            f"{folder}: {len(items)} of {len(plan.items)} items are left, too few to ask",
            [f"{one['id']}: {one['reason']}" for one in left_out],
        )
    storage.write_jsonl(folder / QUESTIONS_FILE, [asdict(one) for one in questions_of(items, config.seed)])
    _finish(config, plan, folder, items, clips, left_out, work, frame_rate_hz)


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
    size, host = config.data.shard_utterances, socket.gethostname()
    tasks = [
        ShardTask(
            folder,
            shard_name(SPLIT, number),
            storage.fingerprint([plan.made_from, [(row.id, row.duration_s) for row in rows[start : start + size]]]),
            rows[start : start + size],
            plan.units_sha256,
            frame_rate_hz,
            config.data,
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


def questions_of(items: Sequence[TextItem], seed: int) -> list[Question]:
    """The items by ids of utterances; each one's other context is that of another item, drawn by the seed.

    Items are shuffled into a circle, and each takes the next context that differs from its own.
    """
    circle = np.random.default_rng([_SWAPS, seed]).permutation(len(items))
    others: Mapping[str, str] = {
        items[here].id: next(
            (
                f"{other.id}-context"
                for step in range(1, len(items))
                if (other := items[circle[(place + step) % len(items)]]).context != items[here].context
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
            others[item.id],
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
    names = (MANIFEST_FILE, QUESTIONS_FILE, LEFT_OUT_FILE, UNITS_FILE)
    hashes = {name: storage.sha256(folder / name) for name in names}
    speakers = list(dict.fromkeys(said.speaker for said in plan.said))
    plural = "s" * (len(speakers) != 1)
    has_context = bool(items[0].context)
    items_path = Path(storage.expanded(str(config.items)))
    strata = sorted({item.stratum for item in items} - {""})
    card: BenchmarkCard = {
        "version": 1,
        "name": plan.name,
        "made_from": plan.made_from,
        "items_file": items_path.name,
        "items_sha256": storage.sha256(items_path),
        "num_items": len(items),
        "num_left_out": len(left_out),
        "num_endings": sorted({len(item.endings) for item in items}),
        "chance": sum(1 / len(item.endings) for item in items) / len(items),
        "has_context": has_context,
        "other_contexts": f"the context of another item, drawn by seed={config.seed}" if has_context else "",
        "strata": {stratum: sum(item.stratum == stratum for item in items) for stratum in strata},
        "speech": f"synthesised speech ({plan.engine}, {len(speakers)} pseudo-speaker{plural})",
        "speakers": [asdict(speaker) for speaker in speakers],
        "normaliser": NORMALISER,
        "seed": config.seed,
        "unit_rate_hz": frame_rate_hz,
        "units_sha256": plan.units_sha256,
        "num_clips": len(clips),
        "num_faulty_clips": sum(bool(clip["fault"]) for clip in clips),
        "num_files": len({clip["path"] for clip in clips}),
        "speech_s": round(sum(clip["duration_s"] for clip in clips), 3),
        "files": {**hashes, CLIPS_FILE: storage.sha256(folder / CLIPS_FILE)},
    }
    storage.write_json(folder / CARD_FILE, card)
    storage.write_text(folder / PAGE_FILE, card_page(card, clips, left_out))
    index: Index = {
        "version": SHARD_VERSION,
        "description": f"{plan.name} ({len(items):,} items), {card['speech']}",
        "is_synthesised": True,
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
