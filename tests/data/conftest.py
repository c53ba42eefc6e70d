"""A small corpus of synthesised speech, what is prepared from it, and how prepared folders are compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lst.data.alignment.aligner import Aligner, AlignItem, AlignmentError
from lst.data.config import DataConfig
from lst.data.prepare.prepare import PrepareOptions, prepare
from lst.data.synthesis.voices import choose_engine, pseudo_speakers, synthesize
from lst.data.utterance import Word
from lst.errors import UserError
from lst.storage import sha256
from lst.tokenizers.config import TokenizerConfig

# This helper compares rows: a failure there shows both sides, as one in a test does.
pytest.register_assert_rewrite("layout_files")

SENTENCES = (
    "Anna ate the warm bread.",
    "Ben found a small key.",
    "The old dog slept all day.",
    "Rain fell on the green hill.",
    "She put the red hat away.",
    "He ran home before dark.",
    "Tom gave the boat a push.",
    "We sang until the sun rose.",
)

MakeCorpus = Callable[..., Path]


def align(
    aligner: Aligner, waveform: np.ndarray, text: str, num_frames: int, frame_rate_hz: int, utterance_id: str = ""
) -> tuple[Word, ...]:
    """Words of one utterance; its ``AlignmentError`` is raised."""
    (found,) = aligner.align_many([AlignItem(waveform, text, num_frames, utterance_id)], frame_rate_hz)
    if isinstance(found, AlignmentError):
        raise found
    return found


@pytest.fixture(scope="session")
def sounds() -> list[np.ndarray]:
    """The sentences spoken by two speakers in turn, 16 kHz."""
    try:
        speakers = pseudo_speakers(choose_engine("auto"), 2, seed=0)
    except UserError as error:
        pytest.skip(f"no speech engine: {error}")
    return [synthesize(text, speakers[index % 2]) for index, text in enumerate(SENTENCES)]


@pytest.fixture(scope="session")
def make_corpus(sounds: list[np.ndarray]) -> MakeCorpus:
    """Writes a corpus into a folder; texts and sounds of single utterances can be put in place of the right ones."""

    def write(folder: Path, texts: dict[int, str] | None = None, audio: dict[int, np.ndarray] | None = None) -> Path:
        folder.mkdir(parents=True)
        rows = []
        for index, (text, sound) in enumerate(zip(SENTENCES, sounds, strict=True)):
            soundfile.write(folder / f"utt_{index}.wav", (audio or {}).get(index, sound), 16_000)
            rows.append(
                {
                    "id": f"utt_{index}",
                    "path": f"utt_{index}.wav",
                    "speaker": f"speaker_{index % 2}",
                    "text": (texts or {}).get(index, text),
                }
            )
        (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    return write


@pytest.fixture(scope="session")
def corpus(make_corpus: MakeCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpora") / "corpus")


@pytest.fixture(scope="session")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus prepared without interruption; tests copy it and must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "reference" / "data"
    prepare(folder, options(corpus))
    return folder


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the prepared folder with the times of its files kept."""
    return shutil.copytree(prepared, tmp_path / "data")


def options(corpus: Path | None, text: Path | None = None, **changes: Any) -> PrepareOptions:
    """Options of a small corpus; keys of ``DataConfig`` and ``TokenizerConfig`` are told apart by their names."""
    data = {"valid_share": 0.25, "shard_utterances": 2}
    tokenizer: dict[str, Any] = {"num_units": 16, "text_vocab_size": 300}
    others: dict[str, Any] = {
        "seed": 0,
        "on_error": "raise",
        "max_skipped_share": 0.05,
        "num_workers": 1,
        "executor": "local",
        "address": None,
        "part": None,
    }
    for key, value in changes.items():
        if key in others:
            others[key] = value
        else:
            (tokenizer if key in TokenizerConfig.__dataclass_fields__ else data)[key] = value
    return PrepareOptions(
        corpus=str(corpus) if corpus else None,
        text=str(text) if text else None,
        data=DataConfig(**data),
        tokenizer=TokenizerConfig(**tokenizer),
        **others,
    )


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def hashes(folder: Path) -> dict[str, str]:
    return {name: sha256(folder / name) for name in files_in(folder)}


def times(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_mtime_ns for name in files_in(folder)}


def left_out(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "left_out.jsonl").read_text().splitlines()]


def is_alive(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
