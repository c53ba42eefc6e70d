"""The second stage of preparing: the codebook of speech units, the text tokenizer and the joint vocabulary."""

from __future__ import annotations

from lst import storage
from lst.data.artefacts import TEXT_FILE, UNITS_FILE, VOCABULARY_FILE, artefact_path, load_units
from lst.data.manifest import ManifestRow
from lst.data.prepare_gather import Gathered
from lst.data.prepare_options import PrepareOptions
from lst.data.unit_fitting import fit_units
from lst.errors import UserError
from lst.progress import say
from lst.storage import Folder
from lst.tokenizers.imported_units import ImportedUnits
from lst.tokenizers.speech import SpeechTokenizer, unit_places
from lst.tokenizers.text import TextTokenizer, build_text_tokenizer
from lst.tokenizers.vocabulary import Vocabulary


def make_artefacts(
    folder: Folder, gathered: Gathered, options: PrepareOptions
) -> tuple[SpeechTokenizer, TextTokenizer, Vocabulary]:
    """Reads or fits all three, and writes what is not there."""
    units = _units(folder, gathered, options)
    tokenizer = _text_tokenizer(folder, gathered, options)
    vocabulary = Vocabulary(
        tokenizer.vocab_size, units.num_units, tokenizer.sha256, units.sha256, units.frame_rate_hz, units.kind,
        units.name, units.units_a_frame,
    )  # fmt: skip
    storage.save_with(folder / VOCABULARY_FILE, vocabulary.save)
    return units, tokenizer, vocabulary


def _units(folder: Folder, gathered: Gathered, options: PrepareOptions) -> SpeechTokenizer:
    if storage.exists(folder / UNITS_FILE):
        try:
            return load_units(artefact_path(folder, UNITS_FILE), unit_places(options.tokenizer))
        except UserError as error:
            say(f"{error}\nit is made again")
    if "num_units" in gathered.record:
        units: SpeechTokenizer = ImportedUnits(gathered.record["num_units"], options.tokenizer.frame_rate_hz)
    else:
        rows = [row for row in gathered.rows if isinstance(row, ManifestRow)]
        units = fit_units(rows, options.tokenizer, options.seed, options.num_workers)
    storage.save_with(folder / UNITS_FILE, units.save)
    return units


def _text_tokenizer(folder: Folder, gathered: Gathered, options: PrepareOptions) -> TextTokenizer:
    if storage.exists(folder / TEXT_FILE):
        try:
            return TextTokenizer.load(artefact_path(folder, TEXT_FILE))
        except UserError as error:
            say(f"{error}\nit is made again")
    lines = [row.text for row in gathered.rows if row.split == "train"] + [text.text for text in gathered.texts]
    tokenizer = build_text_tokenizer(options.tokenizer, lines, options.seed)
    if options.tokenizer.text_model is None and tokenizer.vocab_size < options.tokenizer.text_vocab_size:
        say(f"the text supports {tokenizer.vocab_size} pieces, not the {options.tokenizer.text_vocab_size} asked for")
    storage.save_with(folder / TEXT_FILE, tokenizer.save)
    return tokenizer
