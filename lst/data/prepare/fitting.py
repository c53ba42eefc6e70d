"""Fits speech units to the training split of a corpus: what ``lst prepare`` and ``lst tokenizer fit-units`` share."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from lst import storage
from lst.data.alignment.causes import sound_fault
from lst.data.audio import read_row_audio
from lst.data.corpora import ManifestRow
from lst.data.prepare.gathered import Gathered
from lst.data.prepare.options import Origin, PrepareOptions
from lst.data.prepare.text_alone import training_lines
from lst.data.prepared import TEXT_FILE, UNITS_FILE, VOCABULARY_FILE, artefact_path, load_units
from lst.data.synthesis.simulated import FRAME_RATE_HZ
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


def make_artefacts(
    folder: Folder, gathered: Gathered, origin: Origin, options: PrepareOptions
) -> tuple[SpeechTokenizer, TextTokenizer, Vocabulary]:
    """Reads or fits codebook, text tokenizer and vocabulary, and writes those that are not there."""
    units = _units(folder, gathered, options)
    tokenizer = _text_tokenizer(folder, gathered, origin, options)
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


def _units(folder: Folder, gathered: Gathered, options: PrepareOptions) -> SpeechTokenizer:
    if storage.exists(folder / UNITS_FILE):
        try:
            return load_units(artefact_path(folder, UNITS_FILE), unit_places(options.tokenizer))
        except UserError as error:
            say(f"{error}\nit is made again")
    if "num_units" in gathered.record:
        facts = gathered.record.get("simulated")
        units: SpeechTokenizer = ImportedUnits(
            gathered.record["num_units"],
            options.tokenizer.frame_rate_hz if facts is None else FRAME_RATE_HZ,
            simulated=fingerprint(facts) if facts else "",
        )
    else:
        rows = [row for row in gathered.rows if isinstance(row, ManifestRow)]
        units = fit_units(rows, options.tokenizer, options.seed, options.num_workers)
    storage.save_with(folder / UNITS_FILE, units.save)
    return units


def _text_tokenizer(folder: Folder, gathered: Gathered, origin: Origin, options: PrepareOptions) -> TextTokenizer:
    if storage.exists(folder / TEXT_FILE):
        try:
            return TextTokenizer.load(artefact_path(folder, TEXT_FILE))
        except UserError as error:
            say(f"{error}\nit is made again")
    lines: Iterable[str]
    if options.is_text_alone:
        lines = training_lines(origin, options, gathered.record["texts"])
    else:
        lines = [row.text for row in gathered.rows if row.split == "train"] + [text.text for text in gathered.texts]
        if not lines:
            say("no utterance is for training: codebook and text pieces that are not given are fitted to all held out")
            lines = [row.text for row in gathered.rows]
    tokenizer = build_text_tokenizer(options.tokenizer, lines, options.seed)
    if options.tokenizer.text_model is None and tokenizer.vocab_size < options.tokenizer.text_vocab_size:
        say(f"the text supports {tokenizer.vocab_size} pieces, not the {options.tokenizer.text_vocab_size} asked for")
    storage.save_with(folder / TEXT_FILE, tokenizer.save)
    return tokenizer


def fit_units(rows: Sequence[ManifestRow], config: TokenizerConfig, seed: int, num_workers: int = 1) -> SpeechTokenizer:
    """The tokenizer that the options name; k-means tokenizers are fitted to training utterances.

    Utterances are taken in an order drawn from the seed until they hold ``fit_max_frames`` frames; the result does not
    depend on ``num_workers``. Audio that cannot be read, or is silent, mis-scaled or clipped, is left out and counted.

    Args:
        rows: of all splits; those of ``train`` with a duration are used.
        config: which units.
        seed: of the order, the sample and k-means.
        num_workers: processes that compute frames.

    Raises:
        UserError: weights are missing or unfit, or there is too little speech.
    """
    if (given := given_tokenizer(config)) is not None:
        return given
    options = encoder_options(config)
    # Built here too, so that missing weights are reported before any work.
    encoder = build_encoder(options)
    chosen = training_rows(rows, config, seed)
    with one_thread():
        return fit_on_frames(config, encoder, options, _frames(chosen, options, num_workers), seed)


def training_rows(rows: Sequence[ManifestRow], config: TokenizerConfig, seed: int) -> list[ManifestRow]:
    """Training utterances in an order drawn from the seed, as many as hold ``fit_max_frames`` frames.

    A corpus of held-out utterances alone gives these.
    """
    # Without training utterances (data.valid_share=1), those held out are all there is to fit to.
    training = [row for row in rows if row.split == "train"] or list(rows)
    chosen, num_frames = [], 0.0
    for index in np.random.default_rng(seed).permutation(len(training)):
        if num_frames >= config.fit_max_frames:
            break
        chosen.append(training[index])
        num_frames += (training[index].duration_s or 0.0) * config.frame_rate_hz
    return chosen


def _frames(rows: Sequence[ManifestRow], options: EncoderOptions, num_workers: int) -> Iterator[np.ndarray]:
    unread = 0
    with Progress(len(rows), "speech features", unit="utterance") as progress:
        for frames in ordered_map(functools.partial(_frames_of_row, options), rows, num_workers):
            progress.advance()
            if frames is None:
                unread += 1
            else:
                yield frames
    if unread:
        say(
            f"{unread} of {len(rows)} utterances could not be read, or hold no sound speech, and are no part of the fit"
        )


@functools.lru_cache(maxsize=1)
def _worker_encoder(options: EncoderOptions) -> FrameEncoder:
    """One a process, for all its utterances."""
    return build_encoder(options)


def _frames_of_row(options: EncoderOptions, row: ManifestRow) -> np.ndarray | None:
    encoder = _worker_encoder(options)
    try:
        waveform = read_row_audio(row)
    except UserError:
        return None
    return None if sound_fault(waveform) else encoder.frames(waveform)
