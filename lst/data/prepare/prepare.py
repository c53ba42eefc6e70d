"""From a source to aligned, checksummed shards: what ``lst prepare`` runs.

::

    DATA/manifest.jsonl      every utterance that is used, with its audio and its split (unit_rows.jsonl where the
                             source is units)
    DATA/texts.jsonl         every written text
    DATA/plan.jsonl          which of these rows each shard holds
    DATA/left_out.jsonl      every utterance that is not used, and why
    DATA/units.safetensors   the codebook of speech units, fitted on the training split
    DATA/text.model          SentencePiece BPE, trained on the training texts
    DATA/vocabulary.json     the joint vocabulary
    DATA/shards/             webdataset tars with their receipts
    DATA/index.json          written last: its presence says that all the above is whole
    DATA/seen.json           what was seen of the corpus's files, and the hashes of its audio (audio_hashes.npy)

``gather`` (lists) → ``artefacts`` (codebook, tokenizer, vocabulary) → ``shards`` (a task each, on any executor) →
index. DATA is a folder or a URL. Stopped at any moment and run again, it makes only what is missing; the bytes depend
neither on the executor nor on the number of workers nor on where it was stopped. Run again after the corpus has
changed, it makes the shards anew whose rows did.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lst import storage
from lst.data.alignment.causes import cause_of_reason
from lst.data.alignment.ctc.model import load_ctc_model
from lst.data.prepare.corpus_list import earlier_record, with_earlier_list
from lst.data.prepare.failures import remedies
from lst.data.prepare.fitting import make_artefacts
from lst.data.prepare.gathered import Gathered, gather, has_changed
from lst.data.prepare.options import FILES_KEYS, Origin, PrepareOptions, deciding, find_origin
from lst.data.prepare.read_corpora import unit_files
from lst.data.prepare.shard_tasks import ShardWork, make_shards, origin_of_words, plan_shards
from lst.data.prepare.text_alone import gather_texts, make_text_shards
from lst.data.prepared import (
    ARTEFACT_FILES,
    LEFT_OUT_FILE,
    MADE_FROM_FILE,
    PLAN_FILE,
    RECORD_FILES,
    SOURCE_FILE,
    TEXT_FILE,
    UNITS_FILE,
    VOCABULARY_FILE,
    check_artefacts,
    list_hashes,
    read_source,
    whole_index,
)
from lst.data.shards import (
    INDEX_FILE,
    SHARD_FOLDER,
    VERSION,
    Index,
    LeftOut,
    entries_of,
    index_entry,
    load_index,
    verify_shards,
    write_index,
)
from lst.errors import ProblemsError, UserError, raise_problems
from lst.parallel import warm_up_workers
from lst.progress import say
from lst.storage import Folder, Location, check_free_space, clear_partial_files, differing_settings
from lst.storage.locks import HeldByReadersError, folder_lock
from lst.tokenizers.encoders import build_encoder
from lst.tokenizers.speech import SpeechTokenizer, encoder_options, given_tokenizer, unit_places
from lst.tokenizers.text import TextTokenizer, build_text_tokenizer
from lst.tokenizers.vocabulary import Vocabulary

# Measured: units, words and tar headers of an utterance; synthesised speech of a story as 16 kHz FLAC.
BYTES_A_SHARD_UTTERANCE, BYTES_A_SPOKEN_STORY = 6_000, 330_000
_ADD_CORPORA = "Corpora may be added to data, and taken out of it, that was begun with names: corpus=[NAME=PLACE]."


def prepare(folder: Location, options: PrepareOptions) -> Index | None:
    """Prepares a corpus in ``folder`` (a path or a URL), or returns at once when it is there.

    With ``options.part`` only that is made: ``plan`` is all but the shards, ``i/n`` one part of the shards, which many
    processes may make at once; a run without ``part`` then writes the index.

    Returns:
        The index, as in ``index.json``; None with a ``part``.

    Raises:
        UserError: the input is faulty, the disk is full, the folder holds data made from other things, or another
            process is preparing there, or reads what would have to be made again.
    """
    place = storage.absolute(folder)
    started_s = time.monotonic()
    part = options.parsed_part()
    try:
        with folder_lock(place, part):
            return _prepare(place, options, part, started_s)
    except HeldByReadersError:
        if part is not None or not _is_whole(place, options):
            raise
        say(f"prepared data is whole in {place}: nothing to do")
        return load_index(place)


def _is_whole(folder: Folder, options: PrepareOptions) -> bool:
    """Whether the folder holds whole data of these options; nothing in it is changed."""
    try:
        origin = find_origin(options, folder)
        _check_made_from(folder, origin, may_begin_anew=False)
        if options.data.refit or has_changed(folder, origin):
            return False
        index = load_index(folder)
        check_artefacts(folder, index)
        verify_shards(folder, entries_of(index), options.data.verify == "hash")
    except UserError:
        return False
    return True


def _prepare(place: Folder, options: PrepareOptions, part: tuple[int, int] | None, started_s: float) -> Index | None:
    """``prepare`` in a folder that is locked."""
    origin = check_preparing(place, options)
    _clear_what_is_begun_anew(place, origin)
    if part is None and isinstance(place, Path):
        clear_partial_files(place, place / SHARD_FOLDER)
    index = whole_index(place, full=options.data.verify == "hash") if part is None else None
    if index is not None and not options.data.refit and not has_changed(place, origin):
        say(f"prepared data is whole in {place}: nothing to do")
        return index
    if options.executor == "ray" and options.part != "plan":
        from lst.parallel.cluster import check_ray

        check_ray(options.executor_options())  # before hours of reading and fitting
    gathered = _gather(place, origin, options) if part is None else _gathered_before(place, options)
    if index is not None and storage.exists(place / INDEX_FILE):
        say(f"files of the corpus were touched, no row differs: prepared data is whole in {place}, nothing to do")
        return index
    if options.executor == "local" and options.num_workers > 1 and "num_units" not in gathered.record:
        warm_up_workers("lst.data.prepare.worker_imports")
    units, tokenizer, vocabulary = make_artefacts(place, gathered, origin, options)
    if options.part == "plan":
        say(f"planned in {place}: now make the parts with part=i/n, then run the command without part=")
        return None
    work: ShardWork
    if options.is_text_alone:
        work = make_text_shards(place, gathered, origin, options, tokenizer, units.sha256)
    else:
        tasks = plan_shards(place, gathered, units, origin.made_from, options.data, unit_places(options.tokenizer))
        work = make_shards(tasks, part, options.executor_options())
    say(work.summary(time.monotonic() - started_s))
    if work.failures.cannot_keep():
        storage.write_jsonl(place / LEFT_OUT_FILE, [*gathered.record["left_out"], *work.failures.skipped])
        if part is None:
            _begin_anew_next_time(place, gathered)
        raise work.failures.error(str(place / LEFT_OUT_FILE))
    if part is not None:
        return None
    return _finish(place, gathered, work, (units, tokenizer, vocabulary), origin, options)


def check_preparing(folder: Folder, options: PrepareOptions) -> Origin:
    """All that is refused before the corpus is read: what ``prepare`` and its plan share. Writes nothing.

    Raises:
        UserError: the folder holds data made from other things, or the options name a file that cannot be used; all
            such files are named.
    """
    _check_memory(folder, options)
    origin = find_origin(options, folder, lists_corpus=options.parsed_part() is None)
    _check_made_from(folder, origin, may_begin_anew=options.parsed_part() is None)
    if options.parsed_part() is not None:
        _check_planned(folder, options)
    if not storage.exists(folder / INDEX_FILE):
        is_of_units = options.is_text_alone or bool(unit_files(options, origin.corpus_files))
        _check_named_files(folder, options, is_of_units)
    return origin


def _check_named_files(folder: Folder, options: PrepareOptions, is_of_units: bool) -> None:
    """Opens the models that the options name, which otherwise fail after the corpus was read or speech synthesised."""
    tokenizer, align = options.tokenizer, options.data.align
    checks: list[Callable[[], object]] = []
    if tokenizer.text_model is not None and not storage.exists(folder / TEXT_FILE):
        checks.append(lambda: build_text_tokenizer(tokenizer, ()))
    if not is_of_units:
        if not storage.exists(folder / UNITS_FILE):
            checks.append(lambda: given_tokenizer(tokenizer) or build_encoder(encoder_options(tokenizer)))
        if align.method == "ctc":
            checks.append(lambda: load_ctc_model(align.checkpoint, align.weights, align.device))
    problems = []
    for check in checks:
        try:
            check()
        except UserError as error:
            problems.append(str(error))
    if len(problems) == 1:
        raise UserError(problems[0])
    raise_problems("files that options name", problems)


def _check_memory(folder: Folder, options: PrepareOptions) -> None:
    """Refuses ``memory://``, which belongs to one process, where several work."""
    places = [("data_dir", str(folder)), *(("corpus", place) for place in options.corpora.values())]
    named = [f"{key}={place}" for key, place in places if place.startswith("memory://")]
    if named and (options.executor == "ray" or options.num_workers > 1):
        raise UserError(
            f"{', '.join(named)}: memory:// belongs to one process, and executor={options.executor} "
            f"num_workers={options.num_workers} has several work. Set executor=local num_workers=1, or choose another "
            "place"
        )


def _gather(folder: Folder, origin: Origin, options: PrepareOptions) -> Gathered:
    if options.corpus is None and not options.is_text_alone and isinstance(folder, Path):
        needed_bytes = options.data.num_spoken_stories * (BYTES_A_SPOKEN_STORY + BYTES_A_SHARD_UTTERANCE)
        check_free_space(folder, needed_bytes, "preparing")
    gathered = gather_texts(folder, options, origin) if options.is_text_alone else gather(folder, options, origin)
    record = {"version": 2, **origin.made_from}
    if earlier_record(folder) != record:
        storage.write_json(folder / MADE_FROM_FILE, record)
    return gathered


def _gathered_before(folder: Folder, options: PrepareOptions) -> Gathered:
    """What ``part=plan`` has gathered."""
    return Gathered(folder, read_source(folder), ()) if options.is_text_alone else Gathered.of(folder)


def _check_planned(folder: Folder, options: PrepareOptions) -> None:
    """Raises ``UserError`` unless the lists and tokenizers of ``part=plan`` are there."""
    names = (MADE_FROM_FILE, SOURCE_FILE, UNITS_FILE, TEXT_FILE, VOCABULARY_FILE)
    lists = () if options.is_text_alone else (PLAN_FILE,)
    missing = [name for name in (*names, *lists) if not storage.exists(folder / name)]
    if missing:
        raise UserError(
            f"{folder} lacks {', '.join(missing)}: a part of the shards can be made once lst prepare part=plan with "
            "the same options has gathered the corpus and fitted the tokenizers"
        )
    if read_source(folder)["files"] != list_hashes(folder):
        raise UserError(f"the lists in {folder} are not those that were gathered: run lst prepare part=plan again")


def _finish(
    folder: Folder,
    gathered: Gathered,
    work: ShardWork,
    artefacts: tuple[SpeechTokenizer, TextTokenizer, Vocabulary],
    origin: Origin,
    options: PrepareOptions,
) -> Index:
    """Lists what was left out and, unless that is too much, writes the index."""
    units, tokenizer, vocabulary = artefacts
    receipts = work.by_split()
    unaligned = [item for group in receipts.values() for receipt in group for item in receipt["skipped"]]
    left_out = [*gathered.record["left_out"], *unaligned]
    storage.write_jsonl(folder / LEFT_OUT_FILE, left_out)
    _check_unaligned(folder, unaligned, gathered, options)
    _remove_others(folder, work)
    if not gathered.record.get("was_whole"):
        storage.write_json(folder / SOURCE_FILE, {**gathered.record, "was_whole": True})
    index: Index = {
        "version": VERSION,
        "description": gathered.record["description"],
        "is_synthesised": gathered.record["is_synthesised"],
        "made_from": origin.made_from,
        "units_sha256": units.sha256,
        "text_sha256": tokenizer.sha256,
        "vocabulary": vocabulary.fingerprint,
        "aligner": origin_of_words(gathered, options.data),
        "num_left_out": len(left_out),
        "num_unaligned": len(unaligned),
        "files": _hashes(folder, gathered),
        "splits": {split: [index_entry(receipt) for receipt in group] for split, group in receipts.items()},
    }
    write_index(folder, index)
    totals = ", ".join(
        f"{split} {sum(receipt['num_utterances'] for receipt in group):,}" for split, group in receipts.items()
    )
    say(f"prepared {folder}: {totals} utterances; {len(left_out)} left out (see {folder / LEFT_OUT_FILE})")
    return index


def _remove_others(folder: Folder, work: ShardWork) -> None:
    """Removes shards that no row belongs to any more."""
    for name in storage.list_sizes(folder / SHARD_FOLDER):
        if name.endswith((".tar", ".json")) and name.rpartition(".")[0] not in work.receipts:
            storage.remove(folder / SHARD_FOLDER / name)


def _hashes(folder: Folder, gathered: Gathered) -> dict[str, str]:
    """Hashes of the files beside the index; those of the lists are known."""
    names = [name for name in (*RECORD_FILES, *ARTEFACT_FILES) if storage.exists(folder / name)]
    return {**gathered.record["files"], **{name: storage.sha256(folder / name) for name in names}}


def _differences(folder: Folder, origin: Origin) -> list[str]:
    """A line for each setting that differs from those that the folder was begun with."""
    record = earlier_record(folder)
    if record is None:
        return []
    then, now = dict[str, Any](deciding(record)), dict[str, Any](with_earlier_list(record, origin.made_from))
    if then.pop("version", 1) == 1:
        now = {**{key: value for key, value in now.items() if key not in FILES_KEYS}, **origin.dated()}
    # What was deleted is no other thing: data made of it stays good.
    gone = {key: then.get(key) for key in FILES_KEYS if key in now and now[key] is None}
    return [] if then == {**now, **gone} else differing_settings(then, now)


def _check_made_from(folder: Folder, origin: Origin, may_begin_anew: bool) -> None:
    """Refuses a folder of other settings; one without shards and without a plan of other processes may begin anew."""
    differing = _differences(folder, origin)
    has_shards = bool(storage.list_sizes(folder / SHARD_FOLDER, ".json"))
    if may_begin_anew and not storage.exists(folder / INDEX_FILE) and not has_shards:
        return
    raise_problems(
        f"{folder} was prepared with other settings",
        differing,
        f"Use the same settings, choose another place with run_dir=FOLDER, or delete {folder}. {_ADD_CORPORA}",
    )


def _clear_what_is_begun_anew(folder: Folder, origin: Origin) -> None:
    """Removes what was fitted with other settings, which ``check_preparing`` has found to be all that there is."""
    if _differences(folder, origin):
        say(f"{folder} was begun with other settings and holds no shard yet: it is begun anew")
        for name in (SOURCE_FILE, UNITS_FILE, TEXT_FILE):
            storage.remove(folder / name)


def _begin_anew_next_time(folder: Folder, gathered: Gathered) -> None:
    """The next run begins anew, with what is fitted too, as transcripts or settings may have been corrected.

    What was fitted when an earlier state of the corpus was whole stays.
    """
    if gathered.record.get("was_whole"):
        return
    storage.write_json(folder / SOURCE_FILE, {**gathered.record, "made_from": ""})
    storage.remove(folder / MADE_FROM_FILE)


def _check_unaligned(folder: Folder, unaligned: Sequence[LeftOut], gathered: Gathered, options: PrepareOptions) -> None:
    num_spoken = gathered.num_spoken
    share = len(unaligned) / max(num_spoken, 1)
    is_all = bool(unaligned) and len(unaligned) == num_spoken
    if share > options.data.max_unaligned_share or is_all:
        _begin_anew_next_time(folder, gathered)
        raise ProblemsError(
            f"{len(unaligned)} of {num_spoken} utterances ({share:.1%}) could not be aligned, "
            f"{options.data.max_unaligned_share:.1%} are allowed",
            [f"{item['id']}: {item['reason']}" for item in unaligned],
            f"All are listed in {folder / LEFT_OUT_FILE}. "
            + " ".join(remedies(dict.fromkeys(cause_of_reason(item["reason"]) for item in unaligned)))
            + " Check that transcripts match the audio, their language (data.language), and data.align's limits"
            + ("." if is_all else f", or allow more with data.max_unaligned_share={min(1.0, share + 0.005):.2f}."),
        )
