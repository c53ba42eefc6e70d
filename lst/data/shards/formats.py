"""The formats of the JSON files of prepared data; a class a file or a row, checked when the file is read.

::

    index.json               Index ── splits ──▶ IndexEntry a shard
    shards/NAME.json         WholeReceipt: Receipt, SampleColumns, check
    shards/NAME.tar          SampleRecord (``lst.data.utterance``) a member KEY.json
    left_out.jsonl           LeftOut a line
    source.json              SourceRecord
    made_from.json           MadeFrom
    seen.json                Seen
    plan.jsonl               PlannedShard (``lst.data.prepare.shard_plan``) a line
    unit_rows.jsonl, texts.jsonl    UnitRow and WrittenText a line; manifest.jsonl is a manifest like a user's
    simulated_rows.jsonl     SimulatedRow a line
    questions.jsonl          Question (``lst.data.questions``) a line

``source.json`` and ``made_from.json`` are of version 2. In version 1, whose files may not say so, shards were cut from
a listing, and files were known by their times; such data is read, but not brought up to a corpus that has changed.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from lst.data.utterance import HeldOut
from lst.storage import Count, Seconds

# Of index and receipts.
VERSION: Literal[2] = 2
# Speech without a transcript, for training, where a corpus has utterances with one, too.
SPEECH_SPLIT = "speech"


class LeftOut(TypedDict):
    """An utterance or a text that is not used: its id, or its place where it has no id, and why."""

    id: str
    reason: str


class PieceCount(TypedDict, total=False):
    """Text pieces of a shard whose texts were tokenised when it was prepared; absent for all others."""

    num_pieces: Count


class Stated(TypedDict):
    """Utterances of a shard with one licence and one consent, empty where it is not stated, and their hours."""

    licence: str
    consent: str
    num_utterances: Count
    duration_s: Seconds


class StatedCounts(PieceCount, total=False):
    """What a shard's utterances state of their provenance; absent where they state nothing.

    Attributes:
        source: of all of them: the name of their corpus, of several, or what their rows call it.
        provenance: by licence and consent, the longest first.
    """

    source: str
    provenance: list[Stated]


class ShardCounts(StatedCounts):
    """The part of a receipt that the index repeats.

    Attributes:
        version: of the format.
        name: of the shard, without suffix.
        made_from: fingerprint of settings, lists and codebook; a shard with another one is made again.
        units_sha256: hash of the codebook.
        num_utterances, num_units, num_words: that the shard holds.
        duration_s: of all its audio.
        num_bytes, sha256: of the tar.
    """

    version: Literal[2]
    name: str
    made_from: str
    units_sha256: str
    num_utterances: Count
    num_units: Count
    num_words: Count
    duration_s: Seconds
    num_bytes: Count
    sha256: str


class IndexEntry(ShardCounts):
    """A shard in the index: its receipt's counts, the hash of the receipt's file, and how much was left out."""

    receipt_sha256: str
    num_skipped: Count


class StoredReceipt(ShardCounts):
    """A receipt without its table of samples; ``skipped`` lists what was left out of the shard."""

    skipped: list[LeftOut]


class Receipt(StoredReceipt):
    """The same, with the hash of the receipt's file."""

    receipt_sha256: str


class NamedRow(TypedDict):
    """A row of any of the lists, of which only the id matters."""

    id: str


class SampleColumns(TypedDict):
    """Where the samples of a shard lie, a list a column; ``sha256`` are hashes of a sample's JSON and units."""

    key: list[str]
    json_offset: list[Count]
    json_bytes: list[Count]
    units_offset: list[Count]
    units_bytes: list[Count]
    sha256: list[str]


class WithSamples(TypedDict):
    """The part of a receipt that readers of samples need."""

    samples: SampleColumns


class WholeReceipt(StoredReceipt, WithSamples):
    """``shards/NAME.json``: ``check`` is the fingerprint of all else in it."""

    check: str


class SourceFiles(TypedDict, total=False):
    """Corpus and files that prepared data depends on, with their fingerprints.

    A fingerprint is null where the options name no file, or where it is gone. ``align_files``, ``codebook_file``,
    ``text_model_file`` and ``layout`` are there only where they are set. In version 1, fingerprints are of names, sizes
    and times, and there are those of ``corpus_files`` and ``text_file``; from version 2 on they are of content.
    """

    version: Literal[1, 2]
    corpus: str | None
    text: str | None
    corpus_files: str | None
    text_file: str | None
    align_files: str | None
    codebook_file: str | None
    text_model_file: str | None
    layout: str
    seed: int
    on_error: str


class DataSettings(TypedDict):
    """Options of ``data`` by name, of which only those of alignment are looked into."""

    align: dict[str, Any]


class MadeFrom(SourceFiles):
    """What prepared data depends on: files, options of ``data`` and of ``tokenizer``; see ``find_origin``."""

    data: DataSettings
    tokenizer: dict[str, Any]


class IndexHashes(TypedDict, total=False):
    """Hashes in the index; absent in one of an earlier version.

    Attributes:
        files: SHA-256 of the files beside the index by name: lists, records, codebook, tokenizer, vocabulary, card.
        check: fingerprint of all else in the index.
    """

    files: dict[str, str]
    check: str


class Index(IndexHashes):
    """``index.json``, written last: its presence says that the data is whole.

    Attributes:
        version: of the format.
        description: of the corpus, one line for people.
        is_synthesised: whether the speech is a synthesiser's.
        made_from: as in ``made_from.json``.
        units_sha256, text_sha256: hashes of codebook and text tokenizer.
        vocabulary: fingerprint of the joint vocabulary.
        aligner: what placed the words.
        num_left_out: rows of ``left_out.jsonl``.
        num_unaligned: those of them that could not be encoded or aligned.
        splits: shards of ``train``, ``valid`` and ``text``, in order.
    """

    version: Literal[2]
    description: str
    is_synthesised: bool
    made_from: MadeFrom
    units_sha256: str
    text_sha256: str
    vocabulary: str
    aligner: str
    num_left_out: Count
    num_unaligned: Count
    splits: dict[str, list[IndexEntry]]


class SourceFacts(TypedDict):
    """What is known of a corpus once it is gathered: a description, whether speech is synthesised, what is left out."""

    description: str
    is_synthesised: bool
    left_out: list[LeftOut]


class SimulatedFacts(TypedDict):
    """What simulated speech was drawn from: the seed, the mean phones of a word, and options of ``data.simulated``."""

    seed: Count
    phones_a_word: float
    options: dict[str, Any]


class TextFacts(TypedDict):
    """What one pass over files of text alone has found.

    Attributes:
        num_documents, num_held_out, num_bytes: that can be read.
        held_out_below: a document is held out if the number drawn for it is less; 0 where the names of files say it.
    """

    num_documents: Count
    num_held_out: Count
    num_bytes: Count
    held_out_below: Count


class UnitFacts(SourceFacts, total=False):
    """The same, the size of the codebook where the corpus is of units, and what simulated units were drawn from.

    ``held_out`` is there where utterances were held out that the corpus does not name: it stays as the corpus grows.
    Of several corpora, ``held_out_by`` says so for each.
    ``was_whole`` says that an earlier state of the corpus was prepared to the end: what was fitted to it stays.
    ``texts`` is there for text alone, whose codebook is empty.
    """

    version: Literal[1, 2]
    num_units: Count
    simulated: SimulatedFacts
    texts: TextFacts
    held_out: HeldOut
    held_out_by: dict[str, HeldOut]
    was_whole: bool


class SourceRecord(UnitFacts):
    """``source.json``: what was gathered, and from what.

    Attributes:
        made_from: fingerprint of settings and files.
        fitted_with: only in version 1.
        files: hashes of the lists by name.
    """

    made_from: str
    files: dict[str, str]


class Seen(TypedDict):
    """``seen.json``: the state of the files that the lists were made from, by names, sizes, times and inodes.

    Attributes:
        files: a fingerprint by the name of what the options name; null where there is nothing.
        outside: fingerprint of the audio that does not lie in the corpus's folder; empty where all does.
    """

    version: Literal[1]
    files: dict[str, str | None]
    outside: str
