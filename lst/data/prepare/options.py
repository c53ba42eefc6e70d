"""The options of ``lst prepare``, and what of them and of the files that they name decides what is prepared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from lst import storage
from lst.data.alignment import align_files, align_places
from lst.data.config import AUTO_LAYOUT, NO_VOICE, SIMULATED, DataConfig, parse_part
from lst.data.corpora.text_files import TextFiles, list_texts
from lst.data.languages import ENGLISH
from lst.data.prepare.seen import read_seen
from lst.data.prepared import MADE_FROM_FILE
from lst.data.shards import MadeFrom
from lst.data.shards.formats import DataSettings, Seen
from lst.errors import UserError
from lst.parallel import ExecutorOptions
from lst.storage import (
    FileList,
    Folder,
    expanded,
    files_fingerprint,
    fingerprint,
    is_url,
    joined_places,
    list_files,
    locate,
    named_places,
)
from lst.tokenizers.config import TokenizerConfig
from lst.tokenizers.text import text_model_file

# Options of data that only later stages read.
LATER = (
    "interleave",
    "mix",
    "sources",
    "pack_buffer",
    "num_streams",
    "num_loader_workers",
    "shuffle_shards",
    "verify",
    "max_unaligned_share",
    "refit",
    # The converted recordings are rows of the corpus by then.
    "augment",
)

# Options that change no byte of the data.
# Of stories that are made here: recordings do not depend on them.
OF_STORIES = ("num_spoken_stories", "num_text_stories", "stories", "num_questions", "voice", "num_speakers")
NO_BYTE_OF_TOKENIZER, NO_BYTE_OF_ALIGN = ("trust", "device"), ("batch", "device")
# Keys of fingerprints of files: None once a file is gone. Those of the corpus, its texts and given word times are in
# version 1 alone: now, shards are known by the content of their rows.
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
        if self.corpus is not None:
            self.corpus = joined_places({name: expanded(place) for name, place in self.corpora.items()})
        self.text = None if self.text is None else expanded(self.text)

    @property
    def corpora(self) -> dict[str, str]:
        """The places of the corpora by name; one alone has an empty name."""
        return {} if self.corpus is None else named_places(self.corpus)

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
        made_from: settings, and fingerprints of the content of models that the options name; a folder that was made
            from other ones is refused.
        files: the state of all files that the options name, as ``seen.json`` keeps it.
        dated: gives fingerprints of files by name, size and time, by the keys that version 1 of a record has.
        corpus_files: of each corpus by its name, an empty one where there is one corpus; none where they were not
            listed.
        text_files: of text alone; None for all else.
    """

    made_from: MadeFrom
    files: dict[str, str | None]
    dated: Callable[[], dict[str, str | None]]
    corpus_files: dict[str, FileList]
    text_files: TextFiles | None = None


def find_origin(options: PrepareOptions, folder: Folder | None = None, lists_corpus: bool = True) -> Origin:
    """Lists the corpus, and names the content of the models that the options name.

    Args:
        options: what is prepared.
        folder: of the prepared data, which is no part of the corpus; what it records of files that were not touched is
            taken over.
        lists_corpus: whether the corpus is listed; a part of the shards is made from the lists of ``part=plan``.
    """
    data = {key: value for key, value in options.data.recorded().items() if key not in LATER}
    if data.get("language") == ENGLISH:
        del data["language"]  # as without it
    if options.data.voice != SIMULATED:
        del data["simulated"]
    text_files = list_texts(str(options.text)) if options.is_text_alone else None
    if text_files is None:
        del data["text"]
    corpora = {name: str(_resolved(place)) for name, place in options.corpora.items()}
    corpus, text = joined_places(corpora) if corpora else None, _resolved(options.text)
    corpus_files = {name: list_files(place, folder) for name, place in corpora.items() if lists_corpus}
    named = {key: path for key, path in _named_files(options).items() if path}
    listed = {key: [list_files(expanded(path)) for path in paths] for key, paths in named.items()}
    texts = None if text is None or text_files is not None else list_files(text)
    states = {key: _state_of(files) for key, files in listed.items()}
    of_corpus = _listed_by_key(corpus_files, texts).items()
    files = {**{key: found.state if found else None for key, found in of_corpus}, **states}

    def dated() -> dict[str, str | None]:
        return {
            **{key: found.fingerprint if found else None for key, found in _listed_by_key(corpus_files, texts).items()},
            "align_files": align_files(options.data.align),
            **{key: files_fingerprint(expanded(paths[0])) for key, paths in named.items() if key != "align_files"},
        }

    known = _known_content(folder, states)
    content = {
        key: known[key] if key in known else _content_of(found)
        for key, found in listed.items()
        if key != "align_files" or options.data.align.method == "ctc"
    }
    made_from = {
        "corpus": corpus,
        "text": text,
        **content,
        **({} if text_files is None else {"text_file": text_files.fingerprint}),
        **({} if options.layout == AUTO_LAYOUT else {"layout": options.layout}),
        "seed": options.seed,
        "on_error": options.on_error,
        "data": data,
        "tokenizer": asdict(options.tokenizer),
    }
    return Origin(deciding(cast(MadeFrom, made_from)), files, dated, corpus_files, text_files)


def _listed_by_key(corpora: Mapping[str, FileList], texts: FileList | None) -> dict[str, FileList | None]:
    """The listings of corpora and of their texts by the keys of records."""
    of_corpora = {f"corpus_files.{name}": found for name, found in corpora.items() if name}
    return {"corpus_files": corpora.get(""), "text_file": texts, **of_corpora}


def _named_files(options: PrepareOptions) -> dict[str, list[str]]:
    """Files and folders beside corpus and text that the options name, by the keys of records."""
    codebook, text_model = options.tokenizer.codebook, options.tokenizer.text_model
    return {
        "align_files": align_places(options.data.align),
        "codebook_file": [] if codebook is None else [codebook],
        "text_model_file": [] if text_model is None else [str(text_model_file(text_model))],
    }


def _state_of(listed: list[FileList]) -> str | None:
    """The state of files, at whatever place they lie; None where none is there."""
    states = [files.state for files in listed]
    return fingerprint(states) if any(states) else None


def _known_content(folder: Folder | None, states: dict[str, str | None]) -> dict[str, str | None]:
    """What a record says of the content of named files that were not touched since, or that are gone."""
    if folder is None or not storage.exists(folder / MADE_FROM_FILE):
        return {}
    try:
        record = dict(storage.read_json(folder / MADE_FROM_FILE, MadeFrom, "the record", ""))
    except UserError:
        return {}  # the check of settings tells
    seen: Seen | None = read_seen(folder)
    if seen is None:
        return {}
    return {
        key: cast("str | None", record[key])
        for key, state in states.items()
        if key in record and state in (None, seen["files"].get(key))
    }


def _content_of(listed: list[FileList]) -> str | None:
    """Fingerprint of the content of files, at whatever place they lie; None where none is there."""
    found = []
    for files in listed:
        place = locate(files.place)
        for name, *_ in files.marks or ():
            file = place if name == "." or is_url(place) else place / name
            # Behind a URL the entity tag stands for the content.
            found.append([Path(name).name, files.state if is_url(place) else storage.sha256(file)])
    return fingerprint(found) if found else None


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
