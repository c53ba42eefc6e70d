"""What ``lst prepare`` is told, and the part of it that decides what is prepared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lst.data.alignment import align_files
from lst.data.config import AUTO_LAYOUT, DataConfig, parse_part
from lst.parallel import ExecutorOptions
from lst.storage import expanded, files_fingerprint, is_url
from lst.tokenizers.config import TokenizerConfig

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

# Options that change no byte, by what their docs say.
NO_BYTE_OF_TOKENIZER, NO_BYTE_OF_ALIGN = ("trust", "device"), ("batch", "device")
# What names the content of files: None once they are gone.
FILES_KEYS = ("corpus_files", "text_file", "align_files", "codebook_file", "text_model_file")


@dataclass
class PrepareOptions:
    """All that decides what is prepared, and where the work is done: ``executor`` and what follows change no byte."""

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

    def made_from(self) -> dict[str, Any]:
        """What the prepared data depends on; a folder made from other things is refused."""
        data = asdict(self.data)
        for later in LATER:
            data.pop(later)
        corpus, text = _resolved(self.corpus), _resolved(self.text)
        layout = {} if self.layout == AUTO_LAYOUT else {"layout": self.layout}
        files = {
            "corpus_files": files_fingerprint(corpus),
            "text_file": files_fingerprint(text),
            "align_files": align_files(self.data.align),
            **self.tokenizer_files(),
        }
        made_from = {
            "corpus": corpus,
            "text": text,
            **files,
            **layout,
            "seed": self.seed,
            "on_error": self.on_error,
            "data": data,
            "tokenizer": asdict(self.tokenizer),
        }
        return deciding(made_from)

    def tokenizer_files(self) -> dict[str, str | None]:
        """Names the content of each file that a tokenizer is taken from; only of those that the options name."""
        named = {"codebook_file": self.tokenizer.codebook, "text_model_file": self.tokenizer.text_model}
        return {key: files_fingerprint(expanded(path)) for key, path in named.items() if path is not None}

    def parsed_part(self) -> tuple[int, int] | None:
        """Which part (i, n) of the shards is made; None for all of them, or for ``plan``."""
        return None if self.part in (None, "plan") else parse_part(str(self.part))

    def executor_options(self) -> ExecutorOptions:
        return ExecutorOptions(self.executor, self.num_workers, self.address)


def deciding(made_from: dict[str, Any]) -> dict[str, Any]:
    """A record of settings, perhaps of a version that recorded more, without those that change no byte."""
    data, tokenizer = made_from["data"], made_from["tokenizer"]
    align = {key: value for key, value in data["align"].items() if key not in NO_BYTE_OF_ALIGN}
    tokenizer = {key: value for key, value in tokenizer.items() if key not in NO_BYTE_OF_TOKENIZER}
    return {**made_from, "data": {**data, "align": align}, "tokenizer": tokenizer}


def _resolved(place: str | None) -> str | None:
    return place if place is None or is_url(place) else str(Path(place).resolve())
