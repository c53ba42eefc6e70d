"""``lst tokenizer``: fits, scores, converts and shows speech units, and trains text pieces."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lst.configs.schema import Config
from lst.data.alignment import AlignmentError
from lst.data.alignment.hmm import PhoneAligner, phones_of_units
from lst.data.audio import read_row_audio
from lst.data.corpora import ManifestRow
from lst.data.corpora.records import decoded_lines
from lst.data.corpora.row_table import RowTable
from lst.data.prepare.fitting import fit_units as fit_units_to
from lst.data.prepare.fitting import training_rows, training_texts
from lst.data.prepare.gather import gather_source
from lst.errors import UserError, raise_problems
from lst.evaluation import ScoredUtterance, score_units
from lst.evaluation.unit_scores import UnitScoreReport
from lst.parallel import ordered_map
from lst.progress import Progress, say
from lst.runs.preparing import prepare_options
from lst.storage import sha256, write_json
from lst.tokenizers.codebooks import read_codebook
from lst.tokenizers.config import TokenizerConfig
from lst.tokenizers.encoders import build_encoder
from lst.tokenizers.kmeans import KmeansTokenizer, kmeans_of
from lst.tokenizers.speech import SpeechTokenizer, encoder_options, load_speech_tokenizer
from lst.tokenizers.text import TextTokenizer, build_text_tokenizer, text_model_file
from lst.tokenizers.units import SAMPLE_RATE_HZ
from lst.tokenizers.weights import missing_weights

SHOWN_SCORES = (
    ("phone_normalised_mi", "phone-normalised MI, speech frames"),
    ("phone_normalised_mi_corrected", "  the same, less its bias in small samples"),
    ("phone_normalised_mi_with_silence", "  the same, silence as one more phone"),
    ("phone_purity", "phone purity"),
    ("unit_purity", "unit purity"),
    ("speaker_nmi", "speaker information I(speaker; unit)/H(speaker)"),
    ("units_a_second", "units a second"),
    ("bits_a_second", "bits a second"),
    ("units_a_second_deduplicated", "units a second, deduplicated"),
    ("bits_a_second_deduplicated", "bits a second, deduplicated"),
    ("units_used", "units used"),
)


def fit_units(config: Config) -> str:
    """Fits units to the training split of ``corpus`` and writes ``out``.

    Raises:
        UserError: there is no place to write, the corpus is faulty, or the weights are missing.
    """
    check_action("fit-units", config)
    out = Path(str(config.out))
    tokenizer = fit_units_to(_rows(config), config.tokenizer, config.seed, config.num_workers)
    tokenizer.save(out)
    return f"{out}\n{describe_units(tokenizer)}"


def convert_units(config: Config) -> str:
    """Converts a published codebook, with the weights of its encoder, to a units file.

    Raises:
        UserError: a path is missing, the file is an untrusted pickle, or codebook and weights do not fit.
    """
    check_action("convert-units", config)
    out = Path(str(config.out))
    quantiser = read_codebook(Path(str(config.tokenizer.codebook)), config.tokenizer.trust)
    options = encoder_options(config.tokenizer)
    tokenizer = kmeans_of(build_encoder(options), quantiser, options)
    tokenizer.save(out)
    return f"{out}\n{describe_units(tokenizer)}"


def show(config: Config) -> str:
    """Describes the units file ``tokenizer.codebook`` or the text tokenizer ``tokenizer.text_model``, or both.

    Raises:
        UserError: neither is given, or one cannot be read.
    """
    check_action("show", config)
    options, parts = config.tokenizer, []
    if options.codebook is not None:
        parts.append(describe_units(load_speech_tokenizer(Path(options.codebook))))
    if options.text_model is not None:
        file = text_model_file(options.text_model)
        parts.append(describe_text(TextTokenizer.load(file, "Give a SentencePiece model or a tokenizer.json.")))
    return "\n".join(parts)


def fit_text(config: Config) -> str:
    """Trains text pieces on the lines of ``text``, or on the transcripts of ``corpus``, and writes ``out``.

    Raises:
        UserError: there is no place to write or no text.
    """
    check_action("fit-text", config)
    out = Path(str(config.out))
    lines: Iterable[str]
    if config.text is None:
        lines = (row.text for row in training_texts(_rows(config), config.tokenizer.text_max_lines, config.seed))
    else:
        lines = text_lines(Path(config.text))
    tokenizer = build_text_tokenizer(config.tokenizer, lines, config.seed)
    tokenizer.save(out)
    return f"{out}\n{describe_text(tokenizer)}"


def score(config: Config) -> str:
    """Scores the units file ``tokenizer.codebook`` on the held-out split of ``corpus``; ``out`` gets the JSON.

    Raises:
        UserError: the units file or the corpus is missing, or nothing could be aligned.
    """
    check_action("score-units", config)
    options = config.tokenizer
    tokenizer = load_speech_tokenizer(Path(str(options.codebook)), options.weights, options.device, options.trust)
    held_out = [row for row in _rows(config) if row.split == "valid"]
    utterances = list(_scored(held_out, options, config.num_workers))
    aligned = sum(item.phones is not None for item in utterances)
    if aligned == 0:
        raise UserError(f"none of {len(held_out)} held-out utterances could be aligned: check transcripts and language")
    if aligned < len(utterances):
        num_lost = len(utterances) - aligned
        say(f"{num_lost} of {len(utterances)} utterances could not be aligned: their phones do not count")
    scores = score_units(utterances, tokenizer.num_units, tokenizer.frame_rate_hz, tokenizer.units_a_frame)
    result: UnitScoreReport = {
        "version": 1,
        "units": tokenizer.name,
        "units_sha256": tokenizer.sha256,
        "corpus": config.corpus,
        "aligner": PhoneAligner.name,
        "num_utterances": len(utterances),
        "num_aligned": aligned,
        **scores,
    }
    if config.out is not None:
        write_json(Path(config.out), result)
    return scores_as_text(result)


def scores_as_text(result: UnitScoreReport) -> str:
    """A line for each measure."""
    scores: Mapping[str, Any] = result
    lines = [
        f"{result['units']} on {result['num_aligned']} utterances of {result['num_speakers']} speakers, "
        f"{result['num_phone_frames']:,} frames of speech"
    ]
    for key, label in SHOWN_SCORES:
        if key in scores:
            value = scores[key]
            of_all = f" of {result['num_units']}" if key == "units_used" else ""
            shown = f"{value:.1f}" if "_a_second" in key else f"{value:.3f}" if isinstance(value, float) else str(value)
            shown = "– (there is one speaker)" if value is None else shown
            lines.append(f"  {label:<50} {shown}{of_all}")
    return "\n".join(lines)


def describe_units(tokenizer: SpeechTokenizer) -> str:
    """A units file, described as JSON."""
    values = {
        "name": tokenizer.name,
        "kind": tokenizer.kind,
        "num_units": tokenizer.num_units,
        "frame_rate_hz": tokenizer.frame_rate_hz,
        "units_a_frame": tokenizer.units_a_frame,
        "sha256": tokenizer.sha256,
        "encoder": getattr(tokenizer, "spec", {}),
        "weights": _weights_of(tokenizer),
    }
    return json.dumps(values, indent=2, ensure_ascii=False)


def _weights_of(tokenizer: SpeechTokenizer) -> str | None:
    return tokenizer.options.weights if isinstance(tokenizer, KmeansTokenizer) else getattr(tokenizer, "weights", None)


def describe_text(tokenizer: TextTokenizer) -> str:
    """A text tokenizer, described as JSON."""
    control = tokenizer.control_ids
    values = {
        "vocab_size": tokenizer.vocab_size,
        "byte_fallback": tokenizer.has_bytes,
        "sha256": tokenizer.sha256,
        "control": dict(zip(tokenizer.pieces(control), control, strict=True)),
    }
    return json.dumps(values, indent=2, ensure_ascii=False)


def text_lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 text file (plain, .gz or .xz), one at a time; raises ``UserError`` if it cannot be read."""
    for number, content, fault in decoded_lines(path):
        if fault:
            raise UserError(f"text={path} cannot be read: line {number} {fault}")
        yield content.strip()


def plan(action: str, config: Config) -> list[str]:
    """What ``--dry-run`` prints.

    Raises:
        UserError: files, weights or the corpus are missing; all of them are named.
    """
    options = config.tokenizer
    check_action(action, config)
    where = f"would write {config.out}" if config.out else "out= is not given"
    if action == "fit-text":
        return [f"fit-text: {options.text_model_type} of {options.text_vocab_size} pieces; {where}"]
    if action not in ("fit-units", "score-units"):
        return [f"{action}: reads {options.codebook or options.text_model}; {where}"]
    rows: Sequence[ManifestRow] = _rows(config)
    if action == "fit-units":
        rows = training_rows(rows, options, config.seed)
        label = f"{options.num_units} {options.kind} units at {options.frame_rate_hz} Hz"
    else:
        rows = [row for row in rows if row.split == "valid"]
        label = f"{options.codebook} on held-out speech"
    seconds = sum(row.duration_s or 0.0 for row in rows)
    return [f"{action}: {label}, from {len(rows):,} utterances, {seconds / 3600:.2f} h; {where}"]


# What each action needs beside its corpus: the option, and what it names.
_NEEDS = {
    "fit-units": {"out": "say where to write: out=units.safetensors"},
    "fit-text": {"out": "say where to write: out=text.model"},
    "convert-units": {
        "out": "say where to write: out=units.safetensors",
        "codebook": "lst tokenizer convert-units needs tokenizer.codebook= the published file (.npy, .km, .pt, …)",
    },
    "score-units": {"codebook": "lst tokenizer score-units needs tokenizer.codebook= a units file"},
    "show": {},
}


def check_action(action: str, config: Config) -> None:
    """All that an action and its plan refuse before any work; every problem is named.

    Raises:
        UserError: an option that is needed is not given, or a file is missing.
    """
    options = config.tokenizer
    given = {"out": config.out, "codebook": options.codebook}
    problems = [told for key, told in _NEEDS[action].items() if given[key] is None]
    if config.out is not None and Path(config.out).is_dir():
        problems.append(f"out={config.out} is a folder: name a file in it")
    if action == "show" and options.codebook is None and options.text_model is None:
        problems.append("lst tokenizer show needs tokenizer.codebook=FILE (units) or tokenizer.text_model=FILE (text)")
    has_text = action == "fit-text" and config.text is not None
    if action in ("fit-units", "score-units", "fit-text") and config.corpus is None and not has_text:
        needed = "corpus= (or text= a file of lines)" if action == "fit-text" else "corpus= a folder or a manifest"
        problems.append(f"lst tokenizer {action} needs {needed}; of prepared data it is run_dir's data/manifest.jsonl")
    problems += _missing(action, config)
    raise_problems("options and files", problems)


def _missing(action: str, config: Config) -> list[str]:
    """A line for each missing file that the action reads."""
    options = config.tokenizer
    found = [
        f"{key}={path}: {'is a folder, not a file' if Path(path).is_dir() else 'there is no such file'}"
        for key, path in (
            ("tokenizer.codebook", options.codebook),
            ("tokenizer.text_model", options.text_model and text_model_file(options.text_model)),
            ("text", config.text),
        )
        if path is not None and not Path(path).is_file()
    ]
    weights = options.weights
    if action in ("fit-units", "score-units") and options.codebook is not None and not found:
        weights = _weights_of(load_speech_tokenizer(Path(options.codebook), weights))
    return [*found, *([] if action in ("show", "fit-text") else missing_weights(weights))]


def _rows(config: Config) -> RowTable:
    source = gather_source(replace(prepare_options(config), text=None))
    if source.problems:
        say(f"{len(source.problems)} faulty utterances are left out; the first: {source.problems[0]}")
    rows = source.rows
    return rows if isinstance(rows, RowTable) else RowTable(row for row in rows if isinstance(row, ManifestRow))


@functools.lru_cache(maxsize=1)
def _tools(
    codebook: str, sha256: str, weights: str | None, device: str, trust: bool
) -> tuple[SpeechTokenizer, PhoneAligner]:
    """Loaded once a process."""
    return load_speech_tokenizer(Path(codebook), weights, device, trust), PhoneAligner()


def _scored(rows: Sequence[ManifestRow], options: TokenizerConfig, num_workers: int) -> Iterator[ScoredUtterance]:
    assert options.codebook is not None
    key = (options.codebook, sha256(Path(options.codebook)), options.weights, options.device, options.trust)
    with Progress(len(rows), "units and phones", unit="utterance") as progress:
        for result in ordered_map(functools.partial(_score_row, key), rows, num_workers):
            progress.advance()
            yield result


def _score_row(key: tuple[str, str, str | None, str, bool], row: ManifestRow) -> ScoredUtterance:
    tokenizer, aligner = _tools(*key)
    waveform = read_row_audio(row)
    units = tokenizer.encode([waveform], SAMPLE_RATE_HZ)[0]
    try:
        found = aligner.phones(waveform, row.text, row.language)
        phones = phones_of_units(found, len(units) // tokenizer.units_a_frame, tokenizer.frame_rate_hz)
    except AlignmentError:
        return ScoredUtterance(units, None, row.speaker)
    return ScoredUtterance(units, phones, row.speaker)


fit_units_plan = functools.partial(plan, "fit-units")
fit_text_plan = functools.partial(plan, "fit-text")
convert_units_plan = functools.partial(plan, "convert-units")
score_plan = functools.partial(plan, "score-units")
show_plan = functools.partial(plan, "show")
