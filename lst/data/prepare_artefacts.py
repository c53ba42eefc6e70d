"""The second stage of preparing: the codebook of speech units, the text tokenizer and the joint vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import torch

from lst import storage
from lst.data.artefacts import TEXT_FILE, UNITS_FILE, VOCABULARY_FILE, artefact_path, load_units
from lst.data.audio import read_row_audio
from lst.data.manifest import ManifestRow
from lst.data.prepare_gather import Gathered
from lst.data.prepare_options import PrepareOptions
from lst.errors import UserError
from lst.progress import Progress, say
from lst.storage import Folder, StorageError
from lst.tokenizers.imported_units import ImportedUnits
from lst.tokenizers.text import TextTokenizer, fit_text_tokenizer
from lst.tokenizers.units import UnitCodec, fit_unit_codec, mfcc_features
from lst.tokenizers.vocabulary import Vocabulary

SpeechUnits: TypeAlias = UnitCodec | ImportedUnits


def make_artefacts(
    folder: Folder, gathered: Gathered, options: PrepareOptions
) -> tuple[SpeechUnits, TextTokenizer, Vocabulary]:
    """Reads or fits all three, and writes what is not there."""
    units = _units(folder, gathered, options)
    tokenizer = _text_tokenizer(folder, gathered, options)
    vocabulary = Vocabulary(
        tokenizer.vocab_size, units.num_units, tokenizer.sha256, units.sha256, options.tokenizer.frame_rate_hz
    )
    storage.save_with(folder / VOCABULARY_FILE, vocabulary.save)
    return units, tokenizer, vocabulary


def _units(folder: Folder, gathered: Gathered, options: PrepareOptions) -> SpeechUnits:
    if storage.exists(folder / UNITS_FILE):
        try:
            return load_units(artefact_path(folder, UNITS_FILE))
        except UserError as error:
            say(f"{error}\nit is made again")
    if "num_units" in gathered.record:
        units: SpeechUnits = ImportedUnits(gathered.record["num_units"], options.tokenizer.frame_rate_hz)
    else:
        rows = [row for row in gathered.rows if isinstance(row, ManifestRow) and row.split == "train"]
        units = _fit_units(rows, options)
    storage.save_with(folder / UNITS_FILE, units.save)
    return units


def _fit_units(training: Sequence[ManifestRow], options: PrepareOptions) -> UnitCodec:
    tokenizer = options.tokenizer
    order = np.random.default_rng(options.seed).permutation(len(training))
    chosen, num_frames = [], 0.0
    for index in order:
        if num_frames >= tokenizer.fit_max_frames:
            break
        chosen.append(training[index])
        num_frames += (training[index].duration_s or 0.0) * tokenizer.frame_rate_hz

    def waveforms() -> Iterator[np.ndarray]:
        with Progress(len(chosen), "speech features", unit="utterance") as progress:
            for row in chosen:
                progress.advance()
                try:
                    yield read_row_audio(row)
                except StorageError:
                    # Of the network: without it the codebook would be another one.
                    raise
                except UserError:
                    # It is found, listed and counted again where its shard is made.
                    continue

    # An utterance is too little work for two threads: they would wait for each other, long on a busy machine.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        features = (mfcc_features(waveform, tokenizer.frame_rate_hz) for waveform in waveforms())
        return fit_unit_codec(
            features, tokenizer.num_units, options.seed, tokenizer.frame_rate_hz, tokenizer.fit_max_frames
        )
    finally:
        torch.set_num_threads(num_threads)


def _text_tokenizer(folder: Folder, gathered: Gathered, options: PrepareOptions) -> TextTokenizer:
    if storage.exists(folder / TEXT_FILE):
        try:
            return TextTokenizer.load(artefact_path(folder, TEXT_FILE))
        except UserError as error:
            say(f"{error}\nit is made again")
    lines = [row.text for row in gathered.rows if row.split == "train"] + [text.text for text in gathered.texts]
    tokenizer = fit_text_tokenizer(lines, options.tokenizer.text_vocab_size, options.tokenizer.lowercase)
    if tokenizer.vocab_size < options.tokenizer.text_vocab_size:
        say(f"the text supports {tokenizer.vocab_size} pieces, not the {options.tokenizer.text_vocab_size} asked for")
    storage.save_with(folder / TEXT_FILE, tokenizer.save)
    return tokenizer
