"""Options of corpora, interleaving and packing. Imports nothing heavy, so that ``--help`` is quick."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from importlib.metadata import entry_points

from lst.data.added_config import AugmentConfig, SourcesConfig
from lst.data.languages import ENGLISH, language_of
from lst.options import Options, option

VADS = ("auto", "silero", "energy")
EXECUTORS = ("local", "ray")
MIX_BY = ("tokens", "documents")
# Documents of a training; ``lst.data.documents.interleave`` makes them.
ADAPTATION_KINDS = ("asr", "tts")
DOCUMENT_KINDS = ("interleaved", "text", "speech", "paired", *ADAPTATION_KINDS)
# Speech that is simulated as units, in place of a voice or of a corpus.
SIMULATED = "simulated"
ENGINES = ("auto", "flite", "espeak-ng", "pico", "piper", "kokoro", SIMULATED)
# Entry points of packages that bring further engines.
VOICE_GROUP = "lst.voices"
# Recordings without a transcript: kept as speech alone, or heard by a recogniser.
NO_TRANSCRIPT, RECOGNISERS = "none", ("pocketsphinx", "faster-whisper")
# Entry points of packages that bring further recognisers.
RECOGNISER_GROUP = "lst.recognisers"
_IF_HEARD = "data.transcribe!=null"
_IF_SIMULATED = f"data.voice={SIMULATED}"
# In place of a voice: there is no speech, and the files of text= are all there is.
NO_VOICE = "none"
_IF_TEXT_ALONE = f"data.voice={NO_VOICE}"
_OF_STORIES = f"corpus=null and data.voice!={NO_VOICE}"
# What one document is in a plain text file.
TEXT_DOCUMENTS = ("line", "blank_line", "heading", "file")
STORY_SIZES = ("mini", "standard", "wide")
ALIGN_METHODS = ("pocketsphinx", "ctc", "import", "manifest", "stamps", "auto")
ALIGN_FORMATS = ("auto", "textgrid", "ctm", "mfa_json", "mfa_csv", "whisper_json")
ALIGN_LEVELS = ("word", "character")
# The CTC model that places words of other languages than English where none is named.
MULTILINGUAL_BUNDLE = "MMS_FA"
# How recordings lie on disk; `lst.data.corpora.layouts` has a module for each.
AUTO_LAYOUT = "auto"
LAYOUT_NAMES = (
    AUTO_LAYOUT,
    "manifest",
    "librispeech",
    "ljspeech",
    "vctk",
    "common_voice",
    "mls",
    "peoples_speech",
    "lhotse",
    "nemo",
    "webdataset",
    "audiofolder",
    "parquet",
    "kaldi",
    "gigaspeech",
    "text_beside",
    "audio",
)


def parse_part(text: str) -> tuple[int, int]:
    """``i/n`` as numbers with 0 ≤ i < n; raises ``ValueError``."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise ValueError(f"{text!r} is not i/n with 0 ≤ i < n")
    return int(match[1]), int(match[2])


@dataclass
class InterleaveConfig(Options, prefix="data.interleave."):
    """How documents switch between text and speech."""

    text_min_words: int = option(5, "shortest text span, in words", low=1, unit="words")
    text_max_words: int = option(30, "longest text span, in words", low=1, unit="words")
    text_max_share: float = option(0.6, "longest text span, as a share of the utterance", above=0, high=1)
    speech_ratio: float = option(0.5, "words of a speech span for each of the text before it", above=0)
    speech_min_words: int = option(2, "shortest speech span, in words", low=1, unit="words")
    leading_speech_max_words: int = option(15, "longest speech span that opens a document", low=1, unit="words")
    leading_speech_max_share: float | None = option(
        None,
        "longest speech span that opens a document, as a share of the utterance (published: 1); null draws its length "
        "whatever the utterance's, and cuts it where that ends",
        above=0,
        high=1,
        is_later=True,
    )
    merge_last_below_words: int = option(
        0,
        "a last span of fewer words joins the one before it (published: 3); 0 leaves it",
        low=0,
        unit="words",
        is_later=True,
    )

    def rules(self) -> list[str]:
        """The longest spans are not shorter than the shortest ones."""
        return [
            f"data.interleave.{least}={getattr(self, least)}, {most}={getattr(self, most)}: must satisfy min ≤ max"
            for least, most in (
                ("text_min_words", "text_max_words"),
                ("speech_min_words", "leading_speech_max_words"),
            )
            if getattr(self, least) > getattr(self, most)
        ]


@dataclass
class MixConfig(Options, prefix="data.mix."):
    """Weights of the kinds of documents."""

    interleaved: float = option(1.0, "weight of documents that switch between speech and text", low=0)
    text: float = option(0.5, "weight of documents of text alone", low=0)
    speech: float = option(1.0, "weight of documents of speech alone (the paper uses none)", low=0)
    paired: float = option(
        0.0,
        "weight of documents that hold an utterance twice, spoken and written (the paper uses none)",
        low=0,
        is_later=True,
    )
    asr: float = option(
        0.0,
        "weight of documents that hold an utterance spoken, then written: adaptation to recognition (experiment=asr)",
        low=0,
        is_later=True,
    )
    tts: float = option(
        0.0,
        "weight of documents that hold an utterance written, then spoken: adaptation to reading aloud (experiment=tts)",
        low=0,
        is_later=True,
    )
    by: str = option(
        "tokens", "what the weights are of: tokens (exact), or documents (drawn, whatever their length)", choices=MIX_BY
    )
    fresh_speech: bool = option(
        False,
        "simulated speech is said anew for every document, so that training never hears an utterance twice",
        is_later=True,
    )
    fresh_stories: bool = option(
        False,
        "simulated speech: every document tells a story drawn anew from the grammar, so that training never runs out "
        "of them; held-out stories are as likely as all others",
        is_later=True,
        needs="data.mix.fresh_speech=true",
    )

    def rules(self) -> list[str]:
        """One kind of documents has a weight, and new stories are said anew."""
        if self.fresh_stories and not self.fresh_speech:
            return ["data.mix.fresh_stories=true: a new story is said anew: set data.mix.fresh_speech=true, too"]
        weights = {kind: getattr(self, kind) for kind in DOCUMENT_KINDS}
        if max(weights.values()) > 0:
            return []
        return [f"data.mix.{', '.join(f'{kind}={weight}' for kind, weight in weights.items())}: one must be above 0"]


@dataclass
class AlignConfig(Options, prefix="data.align."):
    """How words are aligned with audio."""

    method: str = option(
        "pocketsphinx",
        "who places words: pocketsphinx, ctc, import (files of another aligner), manifest (times that the "
        "corpus gives) or stamps (of the voice); auto: stamps of speech made here, ctc where data.language is another "
        "than English, else pocketsphinx",
        choices=ALIGN_METHODS,
    )
    level: str = option(
        "word", "word, or character (ctc, import): pieces of words get their own frames", choices=ALIGN_LEVELS
    )
    checkpoint: str = option(
        "",
        "ctc: a folder (Hugging Face, or ctc.json), or a torchaudio bundle such as MMS_FA, which auto takes",
        needs="data.align.method=ctc",
    )
    weights: str = option(
        "",
        "ctc: safetensors with the bundle's weights; empty takes torch's hub cache or downloads",
        path="file or folder",
        needs="data.align.method=ctc",
    )
    device: str = option(
        "cpu",
        "ctc: where the model runs: cpu, cuda, cuda:1, …",
        pattern=r"cpu|cuda(:\d+)?",
        note="cpu, cuda, or one device, as in cuda:1",
        needs="data.align.method=ctc",
    )
    window_s: float = option(
        30.0, "ctc: longer audio passes the model in such windows", above=0, unit="s", needs="data.align.method=ctc"
    )
    overlap_s: float = option(
        2.0, "ctc: what a window hears besides its own part, each side", low=0, unit="s", needs="data.align.method=ctc"
    )
    batch: int = option(
        8, "ctc: windows that pass the model together; results don't depend on it", low=1, needs="data.align.method=ctc"
    )
    source: str = option(
        "",
        "import: a file, or a folder of files named after utterances; stamps: their folder",
        path="file or folder",
        needs="data.align.method=import|stamps",
    )
    format: str = option(
        "auto",
        "import: textgrid, ctm, mfa_json, mfa_csv, whisper_json; auto goes by file and content",
        choices=ALIGN_FORMATS,
        needs="data.align.method=import",
    )
    tier: str = option(
        "",
        "import: the tier of a TextGrid or of MFA's JSON that holds the words; empty takes words, word or ORT-MAU",
        is_later=True,
        needs="data.align.method=import",
    )
    min_score: float | None = option(
        None,
        "utterances whose words score less on average are left out; null leaves out those that score unlike right "
        "texts of this aligner, and unlike the others of their shard",
    )
    min_words_per_second: float = option(0.0, "utterances spoken slower are left out", low=0)
    max_words_per_second: float | None = option(
        None, "utterances spoken faster are left out; null sets no limit", low=0
    )

    unsaid: str = option(
        "<> [] () {}",
        "pairs of brackets around labels, which are unsaid unless the audio has them; empty for none",
        pattern=r"(\S\S( \S\S)*)?",
        note="pairs of brackets with spaces between them",
        is_later=True,
        needs="data.align.method=pocketsphinx|ctc|auto|stamps",
    )

    @property
    def is_english(self) -> bool:
        """Whether the aligner knows English alone."""
        return self.method in ("pocketsphinx", "auto", "stamps")

    def brackets(self) -> tuple[str, ...]:
        """The pairs of ``unsaid``."""
        return tuple(self.unsaid.split())

    def rules(self) -> list[str]:
        """The aligner has what it needs, and lower limits lie below upper ones."""
        found = []
        if self.level == "character" and self.method in ("pocketsphinx", "manifest", "stamps"):
            found.append(
                f"data.align.level=character: {self.method} places words only; use data.align.method=ctc or import, "
                "or data.align.level=word"
            )
        if self.method == "ctc" and not self.checkpoint:
            found.append("data.align.method=ctc: say which model with data.align.checkpoint=FOLDER or BUNDLE")
        if self.method == "import" and not self.source:
            found.append("data.align.method=import: say where the files are with data.align.source=PATH")
        if 2 * self.overlap_s >= self.window_s:
            found.append(
                f"data.align.window_s={self.window_s}, overlap_s={self.overlap_s}: must satisfy 2 overlap < window"
            )
        if self.max_words_per_second is not None and self.min_words_per_second >= self.max_words_per_second:
            found.append(
                f"data.align.min_words_per_second={self.min_words_per_second}, "
                f"max_words_per_second={self.max_words_per_second}: must satisfy min < max"
            )
        return found


@dataclass
class SimulatedConfig(Options, prefix="data.simulated."):
    """Speech that is simulated as units."""

    num_units: int = option(100, "size of the codebook", low=41, high=65_536, needs=_IF_SIMULATED)
    word_units: float = option(5.8, "mean length of a word", low=1, unit="units", needs=_IF_SIMULATED)
    silence_units: float = option(3.7, "mean length of a silence", low=1, unit="units", needs=_IF_SIMULATED)
    silence_share: float = option(
        0.2, "share of words within a sentence that a silence follows", low=0, high=1, needs=_IF_SIMULATED
    )
    noise: float = option(0.1, "share of units that are replaced by random ones", low=0, below=1, needs=_IF_SIMULATED)
    coarticulation: float = option(
        0.3,
        "share of the pairs of phones where the first changes the second's onset",
        low=0,
        high=1,
        needs=_IF_SIMULATED,
    )
    num_speakers: int = option(1, "speakers", low=1, high=1000, needs=_IF_SIMULATED)
    speaker_share: float = option(
        0.3, "share of the phones that a further speaker says differently", low=0, high=1, needs=_IF_SIMULATED
    )


@dataclass
class TextConfig(Options, prefix="data.text."):
    """How files of text alone (``corpus=none``) become documents, training and held-out ones."""

    field: str = option("text", "JSON lines and Parquet: the field or column with the text", needs=_IF_TEXT_ALONE)
    document: str = option(
        "line",
        "plain text files: a document is a line; the lines between blank_line; those under a heading (= Title =); or "
        "the file",
        choices=TEXT_DOCUMENTS,
        needs=_IF_TEXT_ALONE,
    )
    max_document_bytes: int = option(
        65_536,
        "longer documents are cut, at line ends or spaces",
        low=64,
        high=16 << 20,
        unit="bytes",
        needs=_IF_TEXT_ALONE,
    )
    valid_share: float = option(
        0.01,
        "share of the documents held out, where no file is named valid, dev or test",
        above=0,
        below=1,
        needs=_IF_TEXT_ALONE,
    )
    shard_bytes: int = option(4 << 20, "bytes of text a shard", low=1024, unit="bytes", needs=_IF_TEXT_ALONE)


@dataclass
class DataConfig(Options, prefix="data."):
    """Options of preparing and loading data."""

    num_spoken_stories: int = option(600, "stories that are spoken, without corpus=", low=1, needs=_OF_STORIES)
    num_text_stories: int = option(
        4000, "stories that stay text, without corpus=", low=1, needs="corpus=null and text=null"
    )
    stories: str = option(
        "standard",
        "size of the story grammar: about 150, 350 or 1,900 word types",
        choices=STORY_SIZES,
        is_later=True,
        needs="corpus=null and text=null",
    )
    num_questions: int = option(
        0,
        "questions about stories in each stratum (topic, name, thing, story), whose parts are spoken separately",
        low=0,
        is_later=True,
        needs="corpus=null and text=null",
    )
    voice: str = option(
        "auto",
        "flite, espeak-ng or pico; auto takes the first of these installed; piper, kokoro or a plug-in's engine; or "
        "simulated: units without a voice",
        needs="corpus=null",
    )
    num_speakers: int = option(4, "pseudo-speakers that the voice is varied into", low=1, needs=_OF_STORIES)
    language: str | None = option(
        None,
        "language of the transcripts, a code or an English name (de, zho, French): how numbers are read, how words are "
        "divided, and the aligner; null goes by the corpus' column language or locale, else English",
        is_later=True,
        needs="corpus!=null",
    )
    valid_share: float = option(
        0.25,
        "share of utterances held out when the corpus has no split; 0 holds out none, 1 all",
        low=0,
        high=1,
    )
    min_duration_s: float = option(0.2, "shorter audio is refused", above=0, unit="s")
    max_duration_s: float = option(60.0, "longer audio is refused, where it is not cut", above=0, unit="s")
    cut_above_s: float | None = option(
        None,
        "longer recordings are cut at pauses into utterances, each with its part of the transcript; null: those that "
        "are longer than data.max_duration_s",
        above=0,
        unit="s",
        is_later=True,
    )
    cut_to_s: float = option(
        20.0,
        "longest piece of a recording that is cut; no longer than data.max_duration_s",
        low=1,
        unit="s",
        is_later=True,
    )
    vad: str = option(
        "auto",
        "how pauses of long recordings are found: silero (extra vad) or energy; auto: silero where it is installed",
        choices=VADS,
        is_later=True,
    )
    transcribe: str | None = option(
        None,
        "recordings without a transcript: null refuses them; none keeps them as speech alone, for training; "
        "pocketsphinx, faster-whisper or a plug-in's recogniser hears what they say",
        is_later=True,
    )
    transcribe_weights: str = option(
        "",
        "folder of the recogniser's model, for faster-whisper",
        path="folder",
        is_later=True,
        needs=_IF_HEARD,
    )
    min_confidence: float | None = option(
        None,
        "recordings whose recognised text is less sure, from 0 to 1, are left out; null keeps all",
        low=0,
        high=1,
        is_later=True,
        needs=_IF_HEARD,
    )
    max_unaligned_share: float = option(
        0.1, "share of utterances that may fail to align; all of them are listed", low=0, high=1
    )
    on_the_fly_units: int = option(
        0, "codebook size of .on_the_fly files; 0 takes the largest unit there and one", low=0, high=65_536
    )
    shard_utterances: int = option(64, "utterances a shard", low=1)
    refit: bool = option(
        False,
        "codebook, text pieces, held-out utterances and ranges of shards are chosen anew; else those of earlier runs "
        "stay while the corpus changes",
        is_later=True,
    )
    pack_buffer: int = option(128, "documents from which rows are packed, of each stream", low=1)
    num_streams: int = option(
        4, "streams that give batches in turn; as many as there are loader workers, or more", low=1
    )
    num_loader_workers: int = option(
        0, "processes that make training batches ahead; 0 makes them in the training itself", low=0
    )
    shuffle_shards: int = option(
        0, "shards that are read and shuffled at a time, for storage far away; 0 for all", low=0
    )
    verify: str = option("hash", "check of every sample read: hash, or size alone", choices=("hash", "size"))
    align: AlignConfig = field(default_factory=AlignConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    interleave: InterleaveConfig = field(default_factory=InterleaveConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    sources: SourcesConfig = field(default_factory=SourcesConfig)
    simulated: SimulatedConfig = field(default_factory=SimulatedConfig)
    text: TextConfig = field(default_factory=TextConfig)

    @property
    def is_heard(self) -> bool:
        """Whether a recogniser hears recordings without a transcript."""
        return self.transcribe not in (None, NO_TRANSCRIPT)

    @property
    def longest_whole_s(self) -> float:
        """Longer recordings are cut."""
        return self.max_duration_s if self.cut_above_s is None else self.cut_above_s

    @property
    def longest_piece_s(self) -> float:
        """Of recordings that are cut."""
        return min(self.cut_to_s, self.max_duration_s)

    def settle(self, given: Collection[str]) -> None:
        """Writes the language as its code; one that is not English has an aligner of its own."""
        if self.language is not None:
            with contextlib.suppress(ValueError):  # the rules tell
                # YAML reads Norwegian's code as false.
                self.language = language_of("no" if self.language == "False" else self.language) or None
        if self.align.method == "auto" and self.language not in (None, ENGLISH):
            self.align.method = "ctc"
            self.align.checkpoint = self.align.checkpoint or MULTILINGUAL_BUNDLE

    def rules(self) -> list[str]:
        """There is the voice, every loader worker has a stream, and the shortest audio is shorter than the longest."""
        found = []
        try:
            language_of(self.language or "")
        except ValueError as error:
            found.append(f"data.language={self.language}: {error}")
        known = (*ENGINES, NO_VOICE)
        if self.voice not in known and self.voice not in {point.name for point in entry_points(group=VOICE_GROUP)}:
            found.append(f"data.voice={self.voice}: allowed are {', '.join(known)}, and engines of plug-ins")
        if self.transcribe not in (None, NO_TRANSCRIPT, *RECOGNISERS):
            # Looking for plug-ins takes longer than all other rules.
            others = {point.name for point in entry_points(group=RECOGNISER_GROUP)} | {NO_TRANSCRIPT, *RECOGNISERS}
            if self.transcribe not in others:
                found.append(f"data.transcribe={self.transcribe}: allowed are null, {', '.join(sorted(others))}")
        if self.transcribe == "pocketsphinx" and self.language not in (None, ENGLISH):
            found.append(f"data.transcribe=pocketsphinx hears English alone, not data.language={self.language}")
        if self.transcribe == "faster-whisper" and not self.transcribe_weights:
            found.append("data.transcribe=faster-whisper: say where its model lies with data.transcribe_weights=FOLDER")
        if self.num_loader_workers > self.num_streams >= 1:
            found.append(
                f"data.num_loader_workers={self.num_loader_workers}: a worker makes the batches of one stream or more, "
                f"so at most data.num_streams={self.num_streams} have work; lower the one or raise the other"
            )
        if self.min_duration_s >= self.max_duration_s:
            bounds = f"data.min_duration_s={self.min_duration_s}, max_duration_s={self.max_duration_s}"
            found.append(f"{bounds}: must satisfy min < max")
        return found
