"""The corpus card: a prepared corpus in numbers, as JSON and as one HTML page; what ``lst card`` writes.

::

    RUN/data/card.html    for people; needs no other file
    RUN/data/card.json    the same numbers, and more digits

``card.json`` (version 2); keys carry their units, a rate or mean of nothing is null::

    version, fingerprint        of this layout; of data and options
    corpus_fingerprint          of the data alone: lst prepare does not make a card of the same data again
    title, licence              as the user gave them; the licence is null where it is not stated
    description, is_synthesised, speech   what the corpus is, and how its speech is called
    provenance                  made_from (all settings of preparing), aligner, units_sha256, text_sha256, vocabulary,
                                data (fingerprint of shards), num_units, num_text_pieces, frame_rate_hz,
                                unit_rate_hz (frames × units a frame), num_shards,
                                shard_bytes
    splits.train|valid|text     num_utterances, hours, num_words, num_word_types (case folded, punctuation at the ends
                                left out), num_units, units_per_second, words_per_second, silence_share (of units),
                                mean_word_units, mean_silence_units, mean_word_s, mean_silence_s
      de-duplication            num_units_deduplicated, units_per_second_deduplicated, mean_run_units
      *_counts                  place i counts what is i units long: run_length_, word_length_, silence_length_
      units                     unit_counts (by unit), num_distinct_units, num_unused_units, unit_entropy_bits,
                                unit_perplexity
      durations                 duration_s_quantiles (by share), duration_histogram (bin_s, counts)
      speakers                  num_speakers, hours_of_unknown_speakers, hours_most, hours_median, hours_least,
                                share_of_most (of the split's hours), and hours_by_rank, the speakers at these ranks
      alignment                 num_scored_words, word_score_quantiles (by share; within 0.5 % of the score),
                                utterance_score_quantiles (of the mean of an utterance's words, which
                                data.align.min_score limits), utterance_words_per_second_quantiles,
                                character_aligned_share (of words), pronounced_by_rule_share (of words: those that
                                pocketsphinx' dictionary lacks)
      text                      num_characters, num_text_pieces, pieces_per_word, characters_per_word (spaces and
                                all), characters_per_piece, bytes_per_piece
    num_speakers_in_train_and_valid
    left_out                    num, share (of all utterances and texts), num_unaligned, unaligned_share (of spoken
                                utterances), reasons: [{reason, count, examples}], most frequent first
    sample                      num_utterances, of, is_whole, seed, num_texts, of_texts, texts_are_transcripts,
                                num_without_words (left out): what documents, mixture and patches are of; the
                                utterances are of the training split
    patching                    static_size and max_patch, units; deduplicate: whether units of documents, mixture and
                                patches are those that are left where a run of one unit counts once
    documents.KIND              num_documents, num_tokens, num_speech_tokens, num_text_tokens, num_special_tokens,
                                mean_tokens, speech_share (of tokens); KIND is interleaved, text or speech
    mixture                     kinds.KIND: weight, token_share; speech_share (of the tokens that a training sees)
    patches.STRATEGY.KIND       num_speech_patches, mean_units, mean_s, speech_patches_per_second, positions_per_token
                                (backbone positions a token, text's among them), length_counts; STRATEGY is static,
                                aligned_sil_separate, aligned_sil_merged, bpe_aligned, or mixed (means alone)

The same data and options give the same bytes: there is no time in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np

from lst.configs.schema import Config
from lst.data.prepared import LEFT_OUT_FILE, PreparedData, check_has_speech, speech_name
from lst.data.shards import INDEX_FILE, SPEECH_SPLIT, Index, LeftOut, add_to_index, entries_of
from lst.errors import LstError
from lst.progress import Progress, say
from lst.recipes.corpus_card.counts import CardCounts
from lst.recipes.corpus_card.documents import DocumentCounts, sampled_places
from lst.recipes.corpus_card.page import card_page
from lst.recipes.report.statistics import ratio
from lst.runs import RunFolder, open_data
from lst.runs.fitted_patching import unit_vocabulary
from lst.runs.folder import CARD_JSON, CARD_PAGE, page_config
from lst.storage import Folder, clear_partial_files, exists, fingerprint, read_json, read_jsonl, write_json, write_text
from lst.storage.locks import folder_lock

VERSION = 2
MAX_REASONS, NUM_EXAMPLES = 30, 3


class CardMark(TypedDict):
    """What is read back of ``card.json``: which data it is of."""

    version: Literal[2]
    corpus_fingerprint: str


def card_of_run(config: Config, overrides: Sequence[str]) -> Folder:
    """Writes the card of a run's data, with ``overrides`` over the options of pages that the run was prepared with.

    Args:
        config: of ``overrides`` alone.
        overrides: ``key=value`` words.

    Returns:
        The page's path.

    Raises:
        UserError: the data is not prepared or damaged, or an option is wrong.
    """
    config = page_config(config, overrides)
    data = open_data(config)
    check_has_speech(data, "card")
    return write_card(config, data)


def card_plan(config: Config, overrides: Sequence[str]) -> list[str]:
    """Plan of ``lst card``, as lines of text; raises ``UserError`` for what the command itself would refuse."""
    folder = RunFolder.of(config).data
    if not exists(folder / INDEX_FILE):
        return [f"card: it waits for prepared data in {folder}: run lst prepare"]
    config = page_config(config, overrides)
    data = open_data(config)
    check_has_speech(data, "card")
    unit_vocabulary(config.patching, data.vocabulary)
    return [f"card: would read {data.folder} and write {data.folder / CARD_PAGE} and {data.folder / CARD_JSON}"]


def card_after_prepare(config: Config) -> Folder:
    """Writes the card of prepared data unless there is a card of the same data already.

    A card that was made with other options is kept; ``lst card`` replaces it.
    """
    data = PreparedData(RunFolder.of(config).data, verify_hash=False)
    page = data.folder / CARD_PAGE
    is_recorded = CARD_JSON in data.index.get("files", {CARD_JSON: ""})
    if exists(page) and is_recorded and _corpus_of_card(data.folder) == _corpus_fingerprint(data):
        return page
    write_card(config, data)
    say(f"corpus card: {page}")
    return page


def write_card(config: Config, data: PreparedData) -> Folder:
    """Writes ``card.html`` and ``card.json`` beside the data; returns the page's path."""
    numbers = card_numbers(config, data)
    page = card_page(numbers)
    with folder_lock(data.folder):
        if isinstance(data.folder, Path):
            clear_partial_files(data.folder)
        write_text(data.folder / CARD_PAGE, page)
        # Its fingerprint marks both files as complete.
        write_json(data.folder / CARD_JSON, numbers)
        add_to_index(data.folder, (CARD_PAGE, CARD_JSON))
    return data.folder / CARD_PAGE


def _corpus_of_card(folder: Folder) -> str | None:
    """Data fingerprint of the existing card; None if there is no card, or it is damaged or of another version."""
    try:
        return read_json(folder / CARD_JSON, CardMark, "the corpus card", "Write it with lst card.")[
            "corpus_fingerprint"
        ]
    except LstError:
        return None


def card_fingerprint(config: Config, data: PreparedData) -> str:
    """Fingerprint of all that a card depends on."""
    options = [part.recorded() for part in (config.card, config.patching, config.data.interleave, config.data.mix)]
    return fingerprint([VERSION, config.seed, options, _corpus_fingerprint(data)])


def _corpus_fingerprint(data: PreparedData) -> str:
    """Fingerprint of the data and of what was left out of it; independent of the card's options."""
    index = {key: value for key, value in data.index.items() if key not in ("splits", "files", "check")}
    return fingerprint([VERSION, index, read_jsonl(data.folder / LEFT_OUT_FILE, LeftOut), data.fingerprint])


def card_numbers(config: Config, data: PreparedData) -> dict[str, Any]:
    """All numbers of a card, as the module's head lists them; every shard is read once.

    Args:
        config: how documents are drawn, mixed and cut, and the card's own options.
        data: the prepared corpus.
    """
    counts, documents, sample = _count(config, data)
    splits = {split: found.numbers(data.vocabulary) for split, found in counts.items()}
    speakers = [set(counts[split].basic.speaker_s) for split in ("train", "valid")]
    num_used = {split: numbers["num_utterances"] for split, numbers in splits.items()}
    return {
        "version": VERSION,
        "fingerprint": card_fingerprint(config, data),
        "corpus_fingerprint": _corpus_fingerprint(data),
        "title": config.card.title or data.index["description"],
        "licence": config.card.licence or None,
        "description": data.index["description"],
        "is_synthesised": bool(data.index["is_synthesised"]),
        "speech": speech_name(data.index),
        "provenance": _provenance(data),
        "splits": splits,
        "num_speakers_in_train_and_valid": len(speakers[0] & speakers[1]),
        "left_out": left_out_numbers(read_jsonl(data.folder / LEFT_OUT_FILE, LeftOut), data.index, num_used),
        "sample": {**sample, "seed": config.seed, "num_without_words": documents.num_without_words},
        "patching": {
            "static_size": config.patching.static_patch_size,
            "max_patch": config.patching.max_patch,
            "deduplicate": config.patching.deduplicate,
        },
        **documents.numbers(),
    }


def _count(config: Config, data: PreparedData) -> tuple[dict[str, CardCounts], DocumentCounts, dict[str, Any]]:
    """Reads every split once; builds documents of the sampled utterances on the way."""
    readers = {"train": data.train, "valid": data.valid, "text": data.text}
    if len(data.speech):
        readers[SPEECH_SPLIT] = data.speech
    counts = {split: CardCounts(data.tokenizer) for split in readers}
    vocabulary = unit_vocabulary(config.patching, data.vocabulary)
    documents = DocumentCounts(data.tokenizer, vocabulary, config.data, config.patching, config.seed)
    # Where there are no written texts, a training takes its text documents from the transcripts.
    texts = "text" if len(data.text) else "train"
    places = {
        split: sampled_places(len(readers[split]), config.card.max_utterances, config.seed)
        for split in ("train", texts)
    }
    with Progress(sum(map(len, readers.values())), "corpus card", unit="utterance") as progress:
        for split, reader in readers.items():
            is_sampled = np.zeros(len(reader), bool)
            is_sampled[places.get(split, [])] = True
            for place, utterance in enumerate(reader):
                counts[split].add(utterance)
                if is_sampled[place] and split == "train":
                    documents.add_spoken(utterance)
                if is_sampled[place] and split == texts:
                    documents.add_text(utterance)
                progress.advance()
    sample = {
        "num_utterances": len(places["train"]),
        "of": len(data.train),
        "is_whole": all(len(places[split]) == len(readers[split]) for split in places),
        "num_texts": len(places[texts]),
        "of_texts": len(readers[texts]),
        "texts_are_transcripts": texts == "train",
    }
    return counts, documents, sample


def _provenance(data: PreparedData) -> dict[str, Any]:
    index, vocabulary = data.index, data.vocabulary
    return {
        "made_from": index["made_from"],
        "aligner": index["aligner"],
        "units_sha256": index["units_sha256"],
        "text_sha256": index["text_sha256"],
        "vocabulary": vocabulary.fingerprint,
        "data": data.fingerprint,
        "num_units": vocabulary.num_units,
        "num_text_pieces": vocabulary.num_text,
        "frame_rate_hz": vocabulary.frame_rate_hz,
        "unit_rate_hz": vocabulary.unit_rate_hz,
        "num_shards": len(entries_of(index)),
        "shard_bytes": sum(entry["num_bytes"] for entry in entries_of(index)),
    }


def left_out_numbers(left_out: Sequence[LeftOut], index: Index, num_used: dict[str, int]) -> dict[str, Any]:
    """Counts the utterances that are not used, by kind of reason.

    Args:
        left_out: rows of ``left_out.jsonl``.
        index: of the data.
        num_used: utterances and texts of each split.
    """
    groups: dict[str, list[str]] = {}
    for row in left_out:
        groups.setdefault(reason_kind(row["reason"], row["id"]), []).append(row["id"])
    ranked = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    reasons: list[dict[str, Any]] = [
        {"reason": reason, "count": len(ids), "examples": ids[:NUM_EXAMPLES]} for reason, ids in ranked[:MAX_REASONS]
    ]
    if rest := [name for _, ids in ranked[MAX_REASONS:] for name in ids]:
        other = f"{len(ranked) - MAX_REASONS} other kinds of reasons"
        reasons.append({"reason": other, "count": len(rest), "examples": rest[:NUM_EXAMPLES]})
    num_spoken = num_used["train"] + num_used["valid"] + num_used.get(SPEECH_SPLIT, 0)
    return {
        "num": len(left_out),
        "share": ratio(len(left_out), sum(num_used.values()) + len(left_out)),
        "num_unaligned": index["num_unaligned"],
        "unaligned_share": ratio(index["num_unaligned"], num_spoken + index["num_unaligned"]),
        "reasons": reasons,
    }


def reason_kind(reason: str, utterance_id: str) -> str:
    """A reason with the details of one utterance replaced by ``…``: line, id, quoted texts, paths and numbers."""
    kind = re.sub(r"^.*? \(id [^)]*\): ", "", reason)
    if utterance_id:
        kind = re.sub(rf"(?<![\w-]){re.escape(utterance_id)}(?![\w-])", "…", kind)
    kind = re.sub(r"(?<!\w)'[^']*'(?!\w)|\"[^\"]*\"", "…", kind)
    kind = re.sub(r"\S*/\S*[^\s:,;.]", "…", kind)
    return re.sub(r"\d+(?:[.,]\d+)*", "…", kind)
