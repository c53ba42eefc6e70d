"""The options of ``lst prepare``, and what of them and of the files that they name decides what is prepared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from lst.data.alignment import align_files
from lst.data.config import AUTO_LAYOUT, NO_VOICE, SIMULATED, DataConfig, parse_part
from lst.data.corpora.text_files import TextFiles, list_texts
from lst.data.shards import MadeFrom
from lst.data.shards.formats import DataSettings
from lst.parallel import ExecutorOptions
from lst.storage import FileList, expanded, files_fingerprint, fingerprint, is_url, list_files
from lst.tokenizers.config import TokenizerConfig
from lst.tokenizers.text import text_model_file

# Options of data that only later stages read.
LATER = (
    "interleave",
    "mix",
    "pack_buffer",
    "num_streams",
    "num_loader_workers",
    "shuffle_shards",
    "verify",
    "max_unaligned_share",
)

# Options that change no byte of the data.
# Of stories that are made here: recordings do not depend on them.
OF_STORIES = ("num_spoken_stories", "num_text_stories", "stories", "num_questions", "voice", "num_speakers")
NO_BYTE_OF_TOKENIZER, NO_BYTE_OF_ALIGN = ("trust", "device"), ("batch", "device")
# Keys of fingerprints of files: None once a file is gone.
FILES_KEYS = ("corpus_files", "text_file", "align_files", "codebook_file", "text_model_file")


@dataclass
class PrepareOptions:
    """What is prepared, and how: ``num_workers``, ``executor``, ``address`` and ``part`` change no byte."""

    corpus: str | None
    text: str | None
    seed: int
    on_error: str
    max_skipped_share: float
    num_workers: int
    data: DataConfig
    tokenizer: TokenizerConfig
    executor: str = "local"
    address: str | None = None
    part: str | None = None
    layout: str = AUTO_LAYOUT

    def __post_init__(self) -> None:
        self.corpus = None if self.corpus is None else expanded(self.corpus)
        self.text = None if self.text is None else expanded(self.text)

    @property
    def is_text_alone(self) -> bool:
        """Whether there is no speech: the files of ``text`` are all there is."""
        return self.data.voice == NO_VOICE

    def parsed_part(self) -> tuple[int, int] | None:
        """Which part (i, n) of the shards is made; None for all of them, or for ``plan``."""
        return None if self.part in (None, "plan") else parse_part(str(self.part))

    def executor_options(self) -> ExecutorOptions:
        """Where tasks run."""
        return ExecutorOptions(self.executor, self.num_workers, self.address)


@dataclass(frozen=True)
class Origin:
    """All that prepared data depends on, and the listing of the corpus that it was found by; made once a run.

    Attributes:
        made_from: settings and fingerprints of files; a folder that was made from other things is refused.
        fitted_with: fingerprint of what codebook and text tokenizer depend on beside the lists.
        corpus_files: of the corpus; None without one.
        text_files: of text alone; None for all else.
    """

    made_from: MadeFrom
    fitted_with: str
    corpus_files: FileList | None
    text_files: TextFiles | None = None


def find_origin(options: PrepareOptions) -> Origin:
    """Lists the corpus, and names the content of it and of the other files that the options name."""
    data = {key: value for key, value in options.data.recorded().items() if key not in LATER}
    if options.data.voice != SIMULATED:
        del data["simulated"]
    text_files = list_texts(str(options.text)) if options.is_text_alone else None
    if text_files is None:
        del data["text"]
    corpus, text = _resolved(options.corpus), _resolved(options.text)
    corpus_files = None if corpus is None else list_files(corpus)
    text_model = options.tokenizer.text_model
    named = {
        "codebook_file": options.tokenizer.codebook,
        "text_model_file": None if text_model is None else str(text_model_file(text_model)),
    }
    tokenizer_files = {key: files_fingerprint(expanded(path)) for key, path in named.items() if path is not None}
    made_from = {
        "corpus": corpus,
        "text": text,
        "corpus_files": corpus_files and corpus_files.fingerprint,
        "text_file": files_fingerprint(text) if text_files is None else text_files.fingerprint,
        "align_files": align_files(options.data.align),
        **tokenizer_files,
        **({} if options.layout == AUTO_LAYOUT else {"layout": options.layout}),
        "seed": options.seed,
        "on_error": options.on_error,
        "data": data,
        "tokenizer": asdict(options.tokenizer),
    }
    fitted_with = fingerprint([asdict(options.tokenizer), tokenizer_files, options.seed])
    return Origin(deciding(cast(MadeFrom, made_from)), fitted_with, corpus_files, text_files)


def deciding(made_from: MadeFrom) -> MadeFrom:
    """A record of settings without those that change no byte, which an earlier version may have recorded."""
    data, tokenizer = made_from["data"], made_from["tokenizer"]
    if made_from["corpus"] is not None or data.get("voice") == NO_VOICE:
        data = cast(DataSettings, {key: value for key, value in data.items() if key not in OF_STORIES})
    align = {key: value for key, value in data["align"].items() if key not in NO_BYTE_OF_ALIGN}
    tokenizer = {key: value for key, value in tokenizer.items() if key not in NO_BYTE_OF_TOKENIZER}
    return {**made_from, "data": {**data, "align": align}, "tokenizer": tokenizer}


def _resolved(place: str | None) -> str | None:
    return place if place is None or is_url(place) else str(Path(place).resolve())
