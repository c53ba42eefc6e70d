"""``lst prepare``: prepares the data of a run and writes its corpus card."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lst import storage
from lst.configs.schema import Config
from lst.data.alignment import check_imported
from lst.data.config import NO_VOICE, SIMULATED
from lst.data.corpora import ManifestRow
from lst.data.corpora.text_files import packing_fault
from lst.data.prepare import PrepareOptions, check_preparing, prepare
from lst.data.prepare.gather import gather_source, gather_units, lines_to_read
from lst.data.prepare.gathered import planned_changes
from lst.data.prepare.options import Origin
from lst.data.prepare.prepare import BYTES_A_SHARD_UTTERANCE, BYTES_A_SPOKEN_STORY
from lst.data.prepare.read_corpora import unit_files
from lst.data.prepare.text_alone import DISK_A_TEXT_BYTE, named_texts
from lst.data.shards import INDEX_FILE
from lst.data.synthesis import choose_engine
from lst.data.synthesis.stories import STRATA
from lst.errors import raise_problems
from lst.progress import duration_text, size_text
from lst.runs import RunFolder
from lst.runs.preparing import prepare_options
from lst.storage import Folder

# Seconds of one core for a second of speech, measured on two AVX2 cores: synthesis, features twice, alignment.
SYNTHESIS_RTF, FEATURES_RTF, ALIGNMENT_RTF, SIMULATION_RTF = 0.011, 0.004, 0.02, 0.0003
# A story read aloud; simulated ones differ little.
STORY_S = {"mini": 6.5, "standard": 11.5, "wide": 14.5}


def prepare_plan(config: Config) -> list[str]:
    """Plan of ``lst prepare``, as lines of text: input, output, disk and time.

    Raises:
        UserError: what ``prepare`` would refuse before it reads audio or synthesises speech.
    """
    folder, options, first = RunFolder.of(config).data, prepare_options(config), list[str]()
    if num_voices := config.data.augment.voices:
        from lst.recipes.voice.augment import augmented_options

        augmented = augmented_options(RunFolder.of(config), options)
        if storage.exists(str(augmented.corpus)) or storage.exists(folder / INDEX_FILE):
            options = augmented
        else:
            first = [f"convert each training recording into {num_voices} other voices; they are prepared on top, too"]
    origin = check_preparing(folder, options)
    if storage.exists(folder / INDEX_FILE) and not options.data.refit:
        changes = [] if options.is_text_alone else planned_changes(folder, options, origin)
        return changes or [f"prepare: {folder} is prepared, nothing to do"]
    if options.is_text_alone:
        return _text_plan(folder, config, origin)
    cost = _cost(config, options, origin)
    if isinstance(folder, Path) and options.corpus is None:
        storage.check_free_space(folder, round(cost.disk), "preparing")
    units_a_frame = config.tokenizer.num_codebooks if config.tokenizer.kind == "encodec" else 1
    return [
        *first,
        f"prepare: {cost.what}, {cost.speech_s / 3600:.2f} h of speech, "
        f"about {cost.speech_s * config.tokenizer.frame_rate_hz * units_a_frame:,.0f} units",
        f"  into {folder}; disk about {size_text(cost.disk)} (audio cache included); "
        f"time about {duration_text(cost.speech_s * cost.rtf / config.num_workers)} "
        f"with {config.num_workers} processes",
    ]


def _text_plan(folder: Folder, config: Config, origin: Origin) -> list[str]:
    files = named_texts(origin, prepare_options(config)).files
    # Behind a URL, each would cost a request.
    faults = {file.name: packing_fault(file) for file in files if isinstance(file.place, Path)}
    if config.on_error == "raise":
        raise_problems(f"text {config.text}", [f"{name}: {fault}" for name, fault in faults.items() if fault])
    num_bytes = sum(storage.size(file.place) for file in files)
    return [
        f"prepare: {len(files):,} files of text, {size_text(num_bytes)}, a document a {config.data.text.document}",
        f"  into {folder}, tokenised by {config.num_workers} processes; "
        f"disk {size_text(num_bytes * DISK_A_TEXT_BYTE)} or more, and 2.6 kB a document",
    ]


class _Cost(NamedTuple):
    """What is prepared: ``rtf`` are seconds of one core for a second of speech, ``disk`` is in bytes."""

    what: str
    speech_s: float
    disk: float
    rtf: float


def _cost(config: Config, options: PrepareOptions, origin: Origin) -> _Cost:
    """Lists what would be prepared, with the checks of preparing."""
    if files := unit_files(options, origin.corpus_files):
        rows, _, _ = gather_units(files, options)
        disk = float(sum(map(storage.size, files)))
        return _Cost(f"{len(rows):,} utterances in {len(files)} .on_the_fly files of {size_text(disk)}", 0.0, disk, 0.0)
    rtf = FEATURES_RTF + ALIGNMENT_RTF
    if options.corpus is not None:
        source = gather_source(options, origin.corpus_files, is_plan=True)
        recordings = [row for row in source.rows if isinstance(row, ManifestRow)]
        check_imported(options.data, recordings)
        speech_s = sum(row.duration_s or 0.0 for row in recordings)
        layout = source.description.rpartition("(")[2].rstrip(")")
        what = f"{len(recordings):,} recordings ({layout} layout)"
        if len(options.corpora) > 1:
            what = f"{len(recordings):,} {source.description}"
        return _Cost(what, speech_s, len(recordings) * BYTES_A_SHARD_UTTERANCE, rtf)
    count, source_name, num_parts = config.data.num_spoken_stories, "stories", 0
    if options.text is not None:
        found = lines_to_read(Path(options.text), count, options.on_error, options.max_skipped_share)
        count, source_name = len(found.spoken), f"lines of {config.text}"
    else:
        # Contexts and endings of both stories of a question.
        num_parts = 4 * len(STRATA) * config.data.num_questions
    asked = f" and {num_parts:,} parts of questions" if num_parts else ""
    speech_s = (count + num_parts / 2) * STORY_S[config.data.stories]
    disk = (count + num_parts) * BYTES_A_SHARD_UTTERANCE
    if config.data.voice == SIMULATED:
        return _Cost(f"{count:,} {source_name}{asked} as simulated speech", speech_s, disk, SIMULATION_RTF)
    what = f"{count:,} {source_name}{asked} read aloud by {choose_engine(config.data.voice)}"
    return _Cost(what, speech_s, disk + (count + num_parts / 2) * BYTES_A_SPOKEN_STORY, SYNTHESIS_RTF + rtf)


def prepare_run(config: Config) -> None:
    """Prepares the data of a run and writes its card; with ``part=``, only a part of the shards."""
    options = prepare_options(config)
    if config.data.augment.voices:
        from lst.recipes.voice.augment import prepare_augmented

        prepare_augmented(RunFolder.of(config), options)
    else:
        prepare(RunFolder.of(config).data, options)
    if config.card.after_prepare and config.part is None and config.data.voice != NO_VOICE:
        from lst.recipes.corpus_card.card import card_after_prepare

        card_after_prepare(config)
