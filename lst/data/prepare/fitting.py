"""Fits speech units to the training split of a corpus: what ``lst prepare`` and ``lst tokenizer fit-units`` share."""

from __future__ import annotations

import functools
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TypeVar, cast

import numpy as np

from lst import storage
from lst.data.alignment.causes import sound_fault
from lst.data.audio import read_row_audio
from lst.data.corpora import ManifestRow
from lst.data.corpora.row_table import Picked, blocks_of, picked, rows_of
from lst.data.prepare.gathered import Gathered
from lst.data.prepare.options import Origin, PrepareOptions
from lst.data.prepare.text_alone import training_lines
from lst.data.prepared import TEXT_FILE, UNITS_FILE, VOCABULARY_FILE, SpokenRow, artefact_path, load_units
from lst.data.shards import SPEECH_SPLIT
from lst.data.synthesis import generate_stories
from lst.data.synthesis.simulated import FRAME_RATE_HZ
from lst.data.text.english import is_foreign, letter_words
from lst.data.text.pronounce import pronouncing_dictionary
from lst.errors import UserError
from lst.parallel import one_thread, ordered_map
from lst.progress import Progress, say
from lst.storage import Folder, fingerprint
from lst.tokenizers.config import TokenizerConfig
from lst.tokenizers.encoders import build_encoder
from lst.tokenizers.frames import EncoderOptions, FrameEncoder
from lst.tokenizers.imported_units import ImportedUnits
from lst.tokenizers.speech import SpeechTokenizer, encoder_options, fit_on_frames, given_tokenizer, unit_places
from lst.tokenizers.text import TextTokenizer, build_text_tokenizer
from lst.tokenizers.vocabulary import Vocabulary

RowT = TypeVar("RowT", bound=SpokenRow)
# Added to the seed, so that these draws do not correlate with other uses of it.
_LINES_STREAM = 0x71E5
# Rows whose texts a process looks at together.
PASSED_TOGETHER = 512
# To which text pieces are fitted where a corpus has no text.
NUM_STORIES = 1000


def make_artefacts(
    folder: Folder, gathered: Gathered, origin: Origin, options: PrepareOptions
) -> tuple[SpeechTokenizer, TextTokenizer, Vocabulary]:
    """Reads or fits codebook, text tokenizer and vocabulary, and writes those that are not there.

    Both are fitted to what passes the checks of content: sound speech, in English where the aligner knows nothing else.
    """
    kept, unsound, passing = _kept_units(folder, options), None, _Passing(gathered, options)
    units = kept
    if units is None:
        units, unsound = _new_units(passing)
    tokenizer = _text_tokenizer(folder, passing, origin, unsound)
    if kept is None:
        storage.save_with(folder / UNITS_FILE, units.save)
    vocabulary = Vocabulary(
        tokenizer.vocab_size,
        units.num_units,
        tokenizer.sha256,
        units.sha256,
        units.frame_rate_hz,
        units.kind,
        units.name,
        units.units_a_frame,
    )
    storage.save_with(folder / VOCABULARY_FILE, vocabulary.save)
    return units, tokenizer, vocabulary


def _kept_units(folder: Folder, options: PrepareOptions) -> SpeechTokenizer | None:
    """The codebook of an earlier run; None where there is none, or it is damaged."""
    if storage.exists(folder / UNITS_FILE):
        try:
            return load_units(artefact_path(folder, UNITS_FILE), unit_places(options.tokenizer))
        except UserError as error:
            say(f"{error}\nit is made again")
    return None


def _new_units(passing: _Passing) -> tuple[SpeechTokenizer, set[str] | None]:
    """Units, and the ids of utterances that hold no sound speech; None where these were not looked for."""
    gathered, options = passing.gathered, passing.options
    if "num_units" in gathered.record:
        facts = gathered.record.get("simulated")
        rate_hz = options.tokenizer.frame_rate_hz if facts is None else FRAME_RATE_HZ
        simulated = fingerprint(facts) if facts else ""
        return ImportedUnits(gathered.record["num_units"], rate_hz, simulated=simulated), None
    if (given := given_tokenizer(options.tokenizer)) is not None:
        return given, None
    unsound: set[str] = set()
    return fit_units(passing.rows, options.tokenizer, options.seed, options.num_workers, unsound), unsound


@dataclass(frozen=True)
class _Passing:
    """Recordings that units and text pieces are fitted to."""

    gathered: Gathered
    options: PrepareOptions

    @cached_property
    def rows(self) -> Sequence[ManifestRow]:
        """Recordings, without those whose texts are hardly English where the aligner knows English alone.

        Where these are most, all stay: aligning tells what is wrong.
        """
        recordings = cast("Sequence[ManifestRow]", self.gathered.rows)
        if self.options.corpus is None or not self.options.data.align.is_english:
            return recordings
        try:
            pronouncing_dictionary()
        except UserError:
            return recordings  # without a dictionary nothing can be told
        blocks = blocks_of(recordings, PASSED_TOGETHER)
        are_english = b"".join(ordered_map(_are_english, blocks, self.options.num_workers))
        passing = Picked(recordings, np.flatnonzero(np.frombuffer(are_english, bool)).astype(np.uint32))
        return passing if 2 * len(passing) >= len(recordings) else recordings


def _are_english(block: bytes) -> bytes:
    """Whether the text of each row has words of English, or is not said to be English."""
    dictionary = pronouncing_dictionary()
    return bytes(bool(row.language) or not is_foreign(letter_words(row.text), dictionary) for row in rows_of(block))


def _text_tokenizer(folder: Folder, passing: _Passing, origin: Origin, unsound: set[str] | None) -> TextTokenizer:
    gathered, options = passing.gathered, passing.options
    if storage.exists(folder / TEXT_FILE):
        try:
            return TextTokenizer.load(artefact_path(folder, TEXT_FILE))
        except UserError as error:
            say(f"{error}\nit is made again")
    lines: Iterable[str]
    if options.is_text_alone:
        lines = training_lines(origin, options, gathered.record["texts"])
    elif options.tokenizer.text_model is not None:
        lines = ()
    else:
        lines = _passing_lines(passing, unsound)
    tokenizer = build_text_tokenizer(options.tokenizer, lines, options.seed)
    if options.tokenizer.text_model is None and tokenizer.vocab_size < options.tokenizer.text_vocab_size:
        say(f"the text supports {tokenizer.vocab_size} pieces, not the {options.tokenizer.text_vocab_size} asked for")
    storage.save_with(folder / TEXT_FILE, tokenizer.save)
    return tokenizer


def _passing_lines(passing: _Passing, unsound: set[str] | None) -> Iterable[str]:
    """Training texts, without those of utterances that did not pass the checks of content."""
    gathered, options = passing.gathered, passing.options
    rows: Sequence[SpokenRow] = gathered.rows
    if options.corpus is not None and gathered.has_recordings:
        recordings = passing.rows
        if unsound is None:
            # The codebook was fitted before, or given: the same sample is listened to.
            unsound = set[str]()
            chosen = training_rows(recordings, options.tokenizer, options.seed)
            for row, fault in zip(chosen, ordered_map(_fault_of_row, chosen, options.num_workers), strict=True):
                unsound |= {row.id} if fault else set()
        rows = picked(recordings, lambda row: row.id not in unsound) if unsound else recordings
        rows = rows or recordings
    training = training_texts(rows, options.tokenizer.text_max_lines, options.seed)
    if training or gathered.texts:
        return chain((row.text for row in training), (text.text for text in gathered.texts))
    if any(row.text for row in rows):
        say("no utterance is for training: codebook and text pieces that are not given are fitted to all held out")
        return (row.text for row in rows if row.text)
    say("the corpus has no text: text pieces are fitted to stories made here (tokenizer.text_model gives others)")
    return [story.text for story in generate_stories(NUM_STORIES, options.seed, options.data.stories)]


def training_texts(rows: Sequence[SpokenRow], max_lines: int, seed: int) -> Sequence[SpokenRow]:
    """The training utterances that have a text; of several corpora as many of each, at most ``max_lines`` in all."""
    corpora = set[str]()

    def is_wanted(row: SpokenRow) -> bool:
        if row.split == "train" and row.text:
            corpora.add(_corpus_of(row))
            return True
        return False

    training: Sequence[SpokenRow] = picked(rows, is_wanted)
    if len(corpora) > 1:
        training = _even_lines(training, max_lines, seed)
        _say_shares("text pieces are fitted to", training, lambda row: 1.0, "lines")
    return training


def fit_units(
    rows: Sequence[ManifestRow],
    config: TokenizerConfig,
    seed: int,
    num_workers: int = 1,
    unsound: set[str] | None = None,
) -> SpeechTokenizer:
    """The tokenizer that the options name; k-means tokenizers are fitted to training utterances.

    Utterances are taken in an order drawn from the seed until they hold ``fit_max_frames`` frames; the result does not
    depend on ``num_workers``. Audio that cannot be read, or is silent, mis-scaled or clipped, is left out and counted.

    Args:
        rows: of all splits; those of ``train`` with a duration are used.
        config: which units.
        seed: of the order, the sample and k-means.
        num_workers: processes that compute frames.
        unsound: the ids of utterances that are left out are added to it.

    Raises:
        UserError: weights are missing or unfit, or there is too little speech.
    """
    if (given := given_tokenizer(config)) is not None:
        return given
    options = encoder_options(config)
    # Built here too, so that missing weights are reported before any work.
    encoder = build_encoder(options)
    chosen = training_rows(rows, config, seed)
    if len({_corpus_of(row) for row in chosen}) > 1:
        _say_shares("units are fitted to", chosen, lambda row: row.duration_s or 0.0, "s")
    with one_thread():
        return fit_on_frames(config, encoder, options, _frames(chosen, options, num_workers, unsound), seed)


def training_rows(rows: Sequence[ManifestRow], config: TokenizerConfig, seed: int) -> list[ManifestRow]:
    """Training utterances in an order drawn from the seed, as many as hold ``fit_max_frames`` frames.

    Of several corpora each gives as many frames; what a small one lacks, the others give. A corpus of held-out
    utterances alone gives these.
    """
    # Without training utterances (data.valid_share=1), those held out are all there is to fit to.
    splits = ("train", SPEECH_SPLIT) if any(row.split in ("train", SPEECH_SPLIT) for row in rows) else None
    training, sizes = array("Q"), defaultdict[str, float](float)
    for number, row in enumerate(rows):
        if splits is None or row.split in splits:
            training.append(number)
            sizes[_corpus_of(row)] += _num_frames(row, config)
    wanted = {name: float(config.fit_max_frames) for name in sizes}
    if len(sizes) > 1:
        wanted = even_shares(sizes, config.fit_max_frames)
    chosen, num_frames = [], dict.fromkeys(sizes, 0.0)
    for index in np.random.default_rng(seed).permutation(len(training)):
        if all(num_frames[name] >= wanted[name] for name in sizes):
            break
        row = rows[training[index]]
        if num_frames[corpus := _corpus_of(row)] < wanted[corpus]:
            chosen.append(row)
            num_frames[corpus] += _num_frames(row, config)
    return chosen


def _num_frames(row: ManifestRow, config: TokenizerConfig) -> float:
    return (row.duration_s or 0.0) * config.frame_rate_hz


def even_shares(sizes: Mapping[str, float], total: float) -> dict[str, float]:
    """Divides a total evenly; what one is too small for goes to the others.

    >>> even_shares({"a": 10, "b": 100, "c": 50}, 90)
    {'a': 10, 'c': 40.0, 'b': 40.0}
    """
    shares: dict[str, float] = {}
    for place, (name, size) in enumerate(sorted(sizes.items(), key=lambda item: (item[1], item[0]))):
        shares[name] = min(size, (total - sum(shares.values())) / (len(sizes) - place))
    return shares


def _corpus_of(row: SpokenRow) -> str:
    """The name of a row's corpus, of several."""
    return row.provenance.corpus if isinstance(row, ManifestRow) else ""


def _even_lines(rows: Sequence[RowT], max_lines: int, seed: int) -> Picked[RowT]:
    """Rows of several corpora, as many of each, at most ``max_lines`` in all; drawn from the seed."""
    shares = even_shares(Counter(map(_corpus_of, rows)), max_lines)
    taken: Counter[str] = Counter()
    chosen = array("L")
    for index in np.random.default_rng([seed, _LINES_STREAM]).permutation(len(rows)):
        if taken[corpus := _corpus_of(rows[index])] + 1 <= shares[corpus]:
            taken[corpus] += 1
            chosen.append(int(index))
    return Picked(rows, np.sort(np.array(chosen, np.uint32)))


def _say_shares(what: str, rows: Sequence[RowT], size: Callable[[RowT], float], unit: str) -> None:
    """Says how much each of several corpora gives to a fit."""
    totals: dict[str, float] = defaultdict(float)
    for row in rows:
        totals[_corpus_of(row)] += size(row)
    say(f"{what} {', '.join(f'{total:,.0f} {unit} of {name}' for name, total in sorted(totals.items()))}")


def _frames(
    rows: Sequence[ManifestRow], options: EncoderOptions, num_workers: int, unsound: set[str] | None
) -> Iterator[np.ndarray]:
    unread = set[str]() if unsound is None else unsound
    with Progress(len(rows), "speech features", unit="utterance") as progress:
        all_frames = ordered_map(functools.partial(_frames_of_row, options), rows, num_workers)
        for row, frames in zip(rows, all_frames, strict=True):
            progress.advance()
            if frames is None:
                unread.add(row.id)
            else:
                yield frames
    if unread:
        say(
            f"{len(unread)} of {len(rows)} utterances could not be read, or hold no sound speech, and are no part of "
            "the fit"
        )


@functools.lru_cache(maxsize=1)
def _worker_encoder(options: EncoderOptions) -> FrameEncoder:
    """One a process, for all its utterances."""
    return build_encoder(options)


def _frames_of_row(options: EncoderOptions, row: ManifestRow) -> np.ndarray | None:
    encoder = _worker_encoder(options)
    waveform = _sound_speech(row)
    return None if waveform is None else encoder.frames(waveform)


def _fault_of_row(row: ManifestRow) -> bool:
    return _sound_speech(row) is None


def _sound_speech(row: ManifestRow) -> np.ndarray | None:
    """The audio of an utterance; None where it cannot be read, or holds no sound speech."""
    try:
        waveform = read_row_audio(row)
    except UserError:
        return None
    return None if sound_fault(waveform) else waveform
