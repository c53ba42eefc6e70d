"""A benchmark of text alone: its items, checked and as they are read aloud, without speech, units or a tokenizer."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from lst import storage
from lst.configs.schema import Config
from lst.data.prepared import LEFT_OUT_FILE, QUESTIONS_FILE
from lst.data.shards import INDEX_FILE, LeftOut
from lst.data.text import normaliser
from lst.errors import UserError
from lst.evaluation.accuracy import HEADLINE, HEADLINE_ALONE
from lst.evaluation.benchmark.build import questions_of
from lst.evaluation.benchmark.card import other_contexts
from lst.evaluation.benchmark.formats import CARD_FILE, PAGE_FILE, TEXTS_FILE, VERSION, BenchmarkCard, Text
from lst.evaluation.benchmark.listed import ItemList, list_items
from lst.evaluation.benchmark.opened import is_whole
from lst.evaluation.benchmark.page import card_page
from lst.progress import say
from lst.storage.locks import folder_lock


def plan_written(config: Config) -> ItemList:
    """Reads and checks the items.

    Raises:
        UserError: as ``list_items``, or the benchmark is one of sound.
    """
    if config.benchmark.name in ("pairs", "consistency"):
        raise UserError(f"benchmark.speech=false: {config.benchmark.name} is of sound, its texts are equal or unknown")
    listed = list_items(config, normaliser(config.benchmark.normaliser).apply)
    contexts = {item.context for item in listed.items}
    if len(contexts) == 1 and not contexts & {""}:
        raise UserError(f"{listed.source} has one context alone: swapping contexts needs two that differ")
    return listed


def build_written(config: Config, listed: ItemList) -> Path:
    """Writes the folder of a benchmark of text alone, or returns at once where it is there.

    Raises:
        UserError: the folder holds another benchmark.
    """
    folder, reading = Path(str(config.out)), normaliser(config.benchmark.normaliser)
    texts: list[Text] = [
        {"id": name, "text": text, "spoken": reading.apply(text)}
        for item in listed.items
        for name, text in item.parts.items()
    ]
    made_from = storage.fingerprint([VERSION, config.benchmark.name, listed.sha256, texts, reading.name, config.seed])
    with folder_lock(folder, work="built", remedy="or build into another out=FOLDER"):
        if storage.exists(folder / CARD_FILE) or storage.exists(folder / INDEX_FILE):
            if is_whole(folder, made_from):
                say(f"the benchmark is whole in {folder}: nothing to do")
                return folder
            storage.remove(folder / CARD_FILE)
        storage.clear_partial_files(folder)
        left_out: list[LeftOut] = [{"id": one.id or one.place, "reason": str(one)} for one in listed.problems]
        storage.write_jsonl(folder / TEXTS_FILE, [{**text} for text in texts])
        storage.write_jsonl(folder / LEFT_OUT_FILE, [{**one} for one in left_out])
        storage.write_jsonl(folder / QUESTIONS_FILE, [asdict(one) for one in questions_of(listed.items, config.seed)])
        card = _card(config, listed, len(left_out), made_from, reading.name)
        card["files"] = {name: storage.sha256(folder / name) for name in (TEXTS_FILE, QUESTIONS_FILE, LEFT_OUT_FILE)}
        storage.write_text(folder / PAGE_FILE, card_page(card, [], left_out))
        storage.write_json(folder / CARD_FILE, card)
    say(f"built {folder}: {len(listed.items):,} items of text alone; {len(left_out)} problems (see {LEFT_OUT_FILE})")
    return folder


def _card(config: Config, listed: ItemList, num_left_out: int, made_from: str, read_aloud: str) -> BenchmarkCard:
    items = listed.items
    has_context = bool(items[0].context)
    strata = sorted({item.stratum for item in items} - {""})
    return {
        "version": 1,
        "name": config.benchmark.name,
        "made_from": made_from,
        "items_file": listed.source,
        "items_sha256": listed.sha256,
        "num_items": len(items),
        "num_left_out": num_left_out,
        "num_endings": sorted({len(item.endings) for item in items}),
        "chance": sum(1 / len(item.endings) for item in items) / len(items),
        "has_context": has_context,
        "other_contexts": other_contexts(items, config.seed),
        "strata": {stratum: sum(item.stratum == stratum for item in items) for stratum in strata},
        "speech": "text alone",
        "speakers": [],
        "normaliser": read_aloud,
        "seed": config.seed,
        "unit_rate_hz": 0,
        "units_sha256": "",
        "num_clips": 0,
        "num_faulty_clips": 0,
        "num_files": 0,
        "speech_s": 0.0,
        "files": {},
        "headlines": {"T→T": (HEADLINE if has_context else HEADLINE_ALONE)["T→T"]},
    }
