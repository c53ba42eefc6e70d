"""Which options each command reads, and the problems of words that have no effect.

::

    READS["eval"]            keys and whole sections that lst eval reads; its help lists the same
    Limits.needs             other options without which an option has no effect, beside its bounds
    Reads.problems(words)    a line for each word that the command, with these options, does not read

>>> READS["eval"].has("eval.max_items"), READS["eval"].has("name")
(True, False)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from lst.options import Option, holds, needed_keys, needs_text

_RUN = "run_dir data_dir data.verify storage"
_GATHER = (
    "corpus layout on_error max_skipped_share seed num_workers data.valid_share data.min_duration_s "
    "data.max_duration_s data.cut_above_s data.cut_to_s data.vad data.transcribe data.transcribe_weights "
    "data.min_confidence data.language data.align storage"
)
_UNIT_FILES = "tokenizer.weights tokenizer.device tokenizer.trust"
_UNITS = (
    f"{_UNIT_FILES} tokenizer.kind tokenizer.num_units tokenizer.frame_rate_hz tokenizer.fit_max_frames "
    "tokenizer.layer tokenizer.codebook tokenizer.num_codebooks tokenizer.codebook_pattern"
)
_TEXT = (
    "tokenizer.text_model tokenizer.text_model_type tokenizer.text_vocab_size tokenizer.character_coverage "
    "tokenizer.normalization tokenizer.lowercase tokenizer.strip_punctuation tokenizer.split_digits "
    "tokenizer.text_max_lines"
)
_CARD = "card seed patching.static_size patching.max_patch patching.deduplicate data.interleave data.mix"
_STORIES = (
    "text data.num_spoken_stories data.num_text_stories data.stories data.num_questions data.voice data.num_speakers "
    "data.simulated data.text"
)
_PREPARE = (
    f"{_RUN} {_GATHER} {_STORIES} {_UNITS} {_TEXT} {_CARD} executor address data.max_unaligned_share "
    "data.on_the_fly_units data.shard_utterances"
)
_TRAIN = (
    f"{_RUN} seed data.interleave data.mix data.sources data.pack_buffer data.num_streams data.num_loader_workers "
    "data.shuffle_shards patching model loss train"
)
_EVAL = f"{_RUN} seed eval train.row_patches verify_models"
_BENCHMARK = (
    f"{_RUN} items out benchmark seed num_workers on_error max_skipped_share data.voice data.num_speakers data.align "
    f"data.shard_utterances {_UNIT_FILES}"
)
_REPORT = f"{_RUN} report"
_GRID = "out data_dir scale"
_REPRODUCTION = "out jobs threads hours page_only"
_OF_GRID = {"seed": "write scale.seeds=[0,1]", "points": "it makes them"}


@dataclass(frozen=True)
class Reads:
    """What one command reads.

    Attributes:
        command: its name.
        places: keys, and sections of which it reads every key.
        instead: for keys that it does not read, what it does in their place.
    """

    command: str
    places: frozenset[str]
    instead: Mapping[str, str]

    def has(self, key: str) -> bool:
        """Whether it reads an option."""
        parts = key.split(".")
        return any(".".join(parts[:end]) in self.places for end in range(1, len(parts) + 1))

    @property
    def sections(self) -> list[str]:
        """Sections of which it reads an option or more, in order of their names."""
        return sorted({place.partition(".")[0] for place in self.places if "." in place or place in _SECTIONS})

    def and_also(self, keys: Iterable[str]) -> Reads:
        """The same command where it reads some more."""
        return Reads(self.command, self.places | set(keys), self.instead)

    def unread(self, word: str, options: Mapping[str, Option]) -> str:
        """What is wrong with a word that this command never reads; empty for all others.

        Args:
            word: ``key=value``; the key may be that of a group of files.
            options: every option of the command's configuration.
        """
        key = word.partition("=")[0]
        is_known = bool({key, key.rpartition(".")[0]} & options.keys()) or key in _SECTIONS or key.startswith("arms.")
        if not is_known or self.has(key) or key in self.sections:
            return ""
        # Options of lst synthetic and lst scale are others, even where they have the same name.
        others = [
            name
            for name, reads in zip(READS, map(reads_of, READS), strict=True)
            if (reads.has(key) or key in reads.sections) and not _OWN_OPTIONS & {name, self.command}
        ]
        instead = self.instead.get(key) or self.instead.get(key.partition(".")[0], "")
        told = f"; {instead}" if instead else ""
        return f"{word}: lst {self.command} does not read {key}{told}{_who_does(others)}"

    def without_effect(self, word: str, options: Mapping[str, Option], configs: Sequence[Any]) -> str:
        """What is wrong with a word that none of these configurations lets have an effect; else empty."""
        key = word.partition("=")[0]
        needs = options[key].limits.needs if key in options else ""
        if not needs or not all(self.has(needed) for needed in needed_keys(needs)):
            return ""
        if any(holds(needs, config) for config in configs):
            return ""
        now = ", ".join(f"{needed}={_shown(attrgetter(needed)(configs[0]))}" for needed in needed_keys(needs))
        return f"{word}: has no effect with {now}; it is read {needs_text(needs)}"


def _who_does(commands: Sequence[str]) -> str:
    """Which commands read an option, as the end of a sentence."""
    if not commands:
        return ""
    named = [f"lst {name}" for name in commands[:3]]
    return f"; {', '.join(named)}{' and others' if len(commands) > 3 else ''} read{'s' * (len(commands) == 1)} it"


def _shown(value: Any) -> str:
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


_SECTIONS = (
    *("tokenizer", "data", "patching", "model", "loss", "train", "eval", "benchmark", "generate", "report", "card"),
    *("plan", "export", "check", "storage", "task", "fit", "scale", "law", "lst", "h3", "h3_text", "many"),
)
# Commands whose configuration is not the one that the others share.
_OWN_OPTIONS = {
    *("synthetic", "scale plan", "scale run", "scale fit", "scale plot", "runs list", "runs diff", "compare"),
    *("reproduce law", "reproduce lst", "reproduce h3", "reproduce h3_text"),
    *("voice quickstart", "voice train", "voice convert", "voice speak", "voice eval"),
}
_TRAINED = "a trained model keeps what it was trained with (train another one: lst train name=NAME …)"
_EVERY_MODEL = {"name": "it takes every trained model of run_dir="}
_OF_TRAINED = {"patching": _TRAINED, "model": _TRAINED, "loss": _TRAINED, "train": _TRAINED, "data": _TRAINED}

_OF_VOICE = dict.fromkeys(
    ("model", "loss", "spectrum", "train", "part"), "a trained voice keeps what it was trained with"
)


def _reads(command: str, places: str, instead: Mapping[str, str] | None = None) -> Reads:
    return Reads(command, frozenset(places.split()), instead or {})


READS = {
    reads.command: reads
    for reads in (
        _reads(
            "check",
            f"{_RUN} corpus layout items benchmark check num_workers data.voice seed data.min_duration_s "
            "data.max_duration_s data.cut_above_s data.cut_to_s data.vad data.transcribe data.language data.align "
            "data.on_the_fly_units "
            "tokenizer.frame_rate_hz",
        ),
        _reads("prepare", f"{_PREPARE} part data.refit data.augment"),
        _reads("card", f"{_RUN} {_CARD}"),
        _reads("train", f"{_TRAIN} name plan", {"tokenizer": "prepared data has its tokenizers"}),
        _reads("eval", _EVAL, _EVERY_MODEL | _OF_TRAINED),
        _reads("report", _REPORT, _EVERY_MODEL | _OF_TRAINED | {"eval": "it shows what lst eval has found"}),
        _reads(
            "quickstart",
            f"{_PREPARE} {_TRAIN} {_EVAL} {_REPORT} arms control voice",
            {"name": "it trains each of arms.NAME=[…]", "part": "make the parts with lst prepare"},
        ),
        _reads(
            "generate",
            f"{_RUN} name seed generate out verify_models {_UNIT_FILES}",
            _OF_TRAINED,
        ),
        _reads("export", f"{_RUN} name hub export verify_models {_UNIT_FILES}", {"out": "write export.folder=FOLDER"}),
        _reads(
            "benchmark build",
            _BENCHMARK,
            {"tokenizer": "prepared data has its tokenizers", "eval": "lst eval eval.benchmark=FOLDER scores it"},
        ),
        _reads("runs list", "runs json out"),
        _reads("runs diff", "runs json out"),
        _reads("compare", "runs out base num_items bootstrap_samples seed"),
        _reads("synthetic", "run_dir name seeds convolution task model train"),
        _reads("scale plan", _GRID, _OF_GRID),
        _reads("scale run", f"{_GRID} jobs threads hours executor address slurm cells", _OF_GRID),
        _reads("scale fit", "points out seed fit"),
        _reads(
            "scale plot",
            "out fit.loss_unit",
            {"points": "it draws what lst scale fit has found", "fit": "fit again"},
        ),
        _reads("reproduce law", f"{_REPRODUCTION} seed law"),
        _reads("reproduce lst", f"{_REPRODUCTION} seed lst"),
        _reads("reproduce h3", f"{_REPRODUCTION} h3", {"seed": "the plan names the seeds"}),
        _reads("reproduce h3_text", f"{_REPRODUCTION} seed text h3_text"),
        _reads("tokenizer fit-units", f"{_GATHER} {_UNITS} out"),
        _reads("tokenizer score-units", f"{_GATHER} {_UNIT_FILES} tokenizer.codebook out"),
        _reads(
            "tokenizer convert-units",
            f"{_UNIT_FILES} tokenizer.kind tokenizer.frame_rate_hz tokenizer.layer tokenizer.codebook out",
            {"tokenizer.num_units": "the codebook has its size"},
        ),
        _reads("tokenizer fit-text", f"{_GATHER} {_TEXT} text out"),
        _reads("voice quickstart", "run_dir name seed num_workers many model loss train eval"),
        _reads("voice train", "run_dir data_dir name part seed num_workers texts_are_right model loss spectrum train"),
        _reads("voice convert", "source reference out voice vocoder vocoder_weights run_dir name", _OF_VOICE),
        _reads("voice eval", "run_dir data_dir name voice eval seed num_workers", _OF_VOICE),
        _reads(
            "voice speak",
            "units text lm reference out voice vocoder vocoder_weights run_dir data_dir name seed",
            _OF_VOICE,
        ),
        _reads("tokenizer show", "tokenizer.codebook tokenizer.text_model"),
    )
}


def reads_of(command: str, is_dry_run: bool = False) -> Reads:
    """What a command reads, which is what its help lists but for a training.

    Its plan alone reads ``plan.*``, and without prepared data the sizes of a vocabulary.
    """
    reads = READS[command]
    if command != "train":
        return reads
    if is_dry_run:
        return reads.and_also(["tokenizer.num_units", "tokenizer.text_vocab_size"])
    return Reads(command, reads.places - {"plan"}, {**reads.instead, "plan": "lst train --dry-run does"})


def words_read_by(command: str, words: Sequence[str], options: Mapping[str, Option]) -> list[str]:
    """Those of the words of a longer command, such as quickstart, that this one takes."""
    return [word for word in words if not READS[command].unread(word, options)]
